"""The coordinator of one payment, event by event: what it asks for, what it says, and what it never says too early."""

from __future__ import annotations

import pytest

from fortress.errors import BankUnreachable, Busy, PaymentUnfinished, Status
from fortress.gateway.messages import Outcome, Prepare
from fortress.gateway.payment import (
    NEVER_US,
    PAUSE_FIRST_US,
    PAUSE_MAX_US,
    Payment,
    Phase,
    outcome_of,
    reason_of,
)
from fortress.ledger.model import Hold
from fortress.ledger.rules import Verdict
from tests.gateway.machines import (
    ID,
    NOW_US,
    PREPARE,
    SECOND,
    SUBMIT,
    TOO_FAR_AHEAD,
    Recorder,
    given_up,
    hold,
    ok,
    posted,
    posting,
    refusal,
    voided,
)

UNFINISHED = PaymentUnfinished.code
COMMITTED = Outcome(ID, 77, 0)
REPLAYED = Verdict(Status.ok, replayed=True, position=77)


def new(ports: Recorder) -> Payment:
    return Payment(ports, ID, "a", "b", NOW_US, submit=SUBMIT)


def preparing(ports: Recorder) -> Payment:
    """A payment whose payee's bank was just asked."""
    payment = new(ports)
    payment.begin()
    payment.placed(ok(), hold(), NOW_US)
    assert ports.taken() == [("place", ID), ("send", "b", PREPARE)]
    assert payment.phase is Phase.preparing
    return payment


def committed(ports: Recorder) -> Payment:
    """A payment that is decided, and of which no bank has acknowledged."""
    payment = preparing(ports)
    payment.voted("b", 0)
    payment.ended(posting(), posted(), NOW_US)
    assert ports.taken() == [("commit", ID), ("send", "a", COMMITTED), ("send", "b", COMMITTED)]
    return payment


# --- Beginning -------------------------------------------------------------------------------------------------------
def test_a_payment_is_decided_once_all_is_durable() -> None:
    """Intent, then Prepare; vote, then the decision; decision, then the outcome to both; acknowledged, forgotten."""
    ports = Recorder()
    payment = new(ports)
    payment.begin()
    assert ports.taken() == [("place", ID)]
    assert payment.missing == ()
    payment.placed(ok(), hold(), NOW_US)
    assert ports.taken() == [("send", "b", Prepare(ID, "a", 1000188, 1000285, 500, "EUR", "rent"))]
    assert payment.missing == ("b",)
    payment.voted("b", 0)
    assert ports.taken() == [("commit", ID)]
    assert payment.missing == ()
    payment.ended(posting(), posted(), NOW_US)
    assert ports.taken() == [("send", "a", COMMITTED), ("send", "b", COMMITTED)]
    assert payment.missing == ("a", "b")
    payment.acknowledged("a")
    assert (ports.taken(), payment.missing) == ([], ("b",))
    payment.acknowledged("b")
    assert ports.taken() == [("forget",)]


@pytest.mark.parametrize("reason", [Status.bank_suspended, Status.payee_bank_unknown, BankUnreachable.code])
def test_what_cannot_be_begun_is_given_up_for_good(reason: int) -> None:
    """The refusal is durable before the payer's bank hears of it; the other bank hears nothing."""
    ports = Recorder()
    ports.reason = int(reason)
    payment = new(ports)
    payment.begin()
    assert ports.taken() == [("abort", ID, reason)]
    payment.ended(given_up(int(reason)), None, NOW_US)
    assert ports.taken() == [("send", "a", Outcome(ID, 0, int(reason)))]
    payment.acknowledged("a")
    assert ports.taken() == [("forget",)]


def test_a_payment_that_was_done_is_told_so_whatever_stands_against_new_ones() -> None:
    """A submission that comes again after both banks were through, while the payee's bank is away, is answered."""
    ports = Recorder()
    ports.reason = BankUnreachable.code
    payment = new(ports)
    payment.begin()
    payment.ended(Verdict(Status.payment_already_decided), posted(), NOW_US)
    assert ports.taken() == [("abort", ID, BankUnreachable.code), ("send", "a", COMMITTED)]


@pytest.mark.parametrize(
    ("verdict", "found", "outcome"),
    [
        (ok(replayed=True), posted(), COMMITTED),
        (ok(replayed=True), voided(UNFINISHED), Outcome(ID, 0, UNFINISHED)),
        (given_up(BankUnreachable.code), None, Outcome(ID, 0, BankUnreachable.code)),
        (refusal(Status.exceeds_debit_cap), None, Outcome(ID, 0, Status.exceeds_debit_cap)),
    ],
)
def test_what_the_ledger_knows_is_told_to_who_submits_it(
    verdict: Verdict, found: Hold | None, outcome: Outcome
) -> None:
    """Decided before, given up before, refused: only the payer's bank asked, only it is told."""
    ports = Recorder()
    payment = new(ports)
    payment.begin()
    payment.placed(verdict, found, NOW_US)
    assert ports.taken() == [("place", ID), ("send", "a", outcome)]
    assert payment.phase is Phase.decided


def test_what_is_refused_for_the_id_does_not_stay_in_place_of_the_ids_payment() -> None:
    """The bank is told and forgotten; until the ledger has spoken, nobody else is told anything."""
    ports = Recorder()
    payment = new(ports)
    payment.begin()
    payment.submitted("c", SUBMIT)
    assert ports.taken() == [("place", ID)]
    payment.placed(Verdict(Status.id_reused), posted(), NOW_US)
    assert ports.taken() == [("send", "a", Outcome(ID, 0, Status.id_reused)), ("forget",)]


@pytest.mark.parametrize("trouble", [Busy(), TOO_FAR_AHEAD, ok(replayed=True)])
def test_an_intent_that_could_not_be_written_is_forgotten(trouble: Busy | Verdict) -> None:
    """Nothing was said to anybody; the payer's bank submits again."""
    ports = Recorder()
    payment = new(ports)
    payment.begin()
    payment.placed(trouble, None, NOW_US)
    assert ports.taken() == [("place", ID), ("forget",)]


# --- Deciding --------------------------------------------------------------------------------------------------------
def test_a_refusal_of_the_payees_bank_is_told_to_the_payers() -> None:
    """Whoever refused knows it."""
    ports = Recorder()
    payment = preparing(ports)
    payment.voted("b", Status.credit_account_closed)
    payment.ended(Verdict(Status.ok), voided(Status.credit_account_closed), NOW_US)
    told = ("send", "a", Outcome(ID, 0, Status.credit_account_closed))
    assert ports.taken() == [("abort", ID, Status.credit_account_closed), told]


def test_only_the_payees_bank_votes() -> None:
    """What another says is no vote."""
    ports = Recorder()
    payment = preparing(ports)
    payment.voted("a", 0)
    payment.voted("c", 0)
    assert (ports.taken(), payment.phase) == ([], Phase.preparing)


def test_a_vote_counts_once() -> None:
    """While the decision is on its way to the disk nothing else is decided."""
    ports = Recorder()
    payment = preparing(ports)
    payment.voted("b", 0)
    payment.voted("b", 0)
    payment.voted("b", 9)
    payment.ticked(NOW_US + 3600 * SECOND)
    payment.acknowledged("b")
    assert ports.taken() == [("commit", ID)]


def test_who_votes_late_is_told_the_outcome() -> None:
    """A vote that comes again shows that the outcome did not arrive; after the acknowledgement it is an old one."""
    ports = Recorder()
    payment = committed(ports)
    payment.voted("b", 0)
    assert ports.taken() == [("send", "b", COMMITTED)]
    payment.acknowledged("b")
    payment.voted("b", 0)
    assert ports.taken() == []


@pytest.mark.parametrize("trouble", [Busy(), TOO_FAR_AHEAD])
@pytest.mark.parametrize("vote", [0, 9])
def test_a_decision_that_could_not_be_written_is_tried_again(trouble: Busy | Verdict, vote: int) -> None:
    """Nothing is told before it is durable, and the decision is not turned round."""
    ports = Recorder()
    payment = preparing(ports)
    payment.voted("b", vote)
    [tried] = ports.taken()
    payment.ended(trouble, hold(), NOW_US)
    payment.ticked(payment.due_us - 1)
    assert ports.taken() == []
    payment.ticked(payment.due_us)
    assert ports.taken() == [tried]
    assert payment.due_us == NEVER_US


@pytest.mark.parametrize("forgotten", [REPLAYED, Verdict(Status.payment_already_decided)])
def test_nothing_is_told_of_a_hold_that_memory_has_forgotten(forgotten: Verdict) -> None:
    """It is asked for once more: without the hold nobody knows which way it was decided."""
    ports = Recorder()
    payment = Payment(ports, ID, "", "b", NOW_US)
    payment.inquire()
    payment.ended(forgotten, None, NOW_US)
    payment.ticked(payment.due_us)
    assert ports.taken() == [("abort", ID, UNFINISHED)] * 2
    payment.ended(forgotten, posted(), NOW_US)
    assert ports.taken() == [("send", "b", COMMITTED)]


def test_the_ledger_has_the_last_word() -> None:
    """Operators gave it up in the ledger while the vote was on its way: both are told so, for both hold money."""
    ports = Recorder()
    payment = preparing(ports)
    payment.voted("b", 0)
    payment.ended(Verdict(Status.payment_already_decided), voided(UNFINISHED), NOW_US)
    told = Outcome(ID, 0, UNFINISHED)
    assert ports.taken()[1:] == [("send", "a", told), ("send", "b", told)]


# --- Time ------------------------------------------------------------------------------------------------------------
def test_prepare_is_repeated_with_growing_pauses_until_the_deadline() -> None:
    """0.5, 1, 2, 4, 8 seconds; then both banks are told that it is given up."""
    ports = Recorder()
    payment = preparing(ports)
    payment.ticked(NOW_US + PAUSE_FIRST_US - 1)
    assert ports.taken() == []
    times = []
    while payment.phase is Phase.preparing:
        now_us = payment.due_us
        times.append(now_us - NOW_US)
        payment.ticked(now_us)
    assert times == [500_000, 1_500_000, 3_500_000, 7_500_000, 15_500_000, 20_000_000]
    assert ports.taken() == [("send", "b", PREPARE)] * 5 + [("abort", ID, UNFINISHED)]
    payment.ended(Verdict(Status.ok), voided(UNFINISHED), NOW_US)
    told = Outcome(ID, 0, UNFINISHED)
    assert ports.taken() == [("send", "a", told), ("send", "b", told)]


def test_the_outcome_is_repeated_to_who_has_not_acknowledged() -> None:
    """With pauses that grow to half a minute."""
    ports = Recorder()
    payment = committed(ports)
    payment.acknowledged("a")
    for _ in range(10):
        payment.ticked(payment.due_us)
    assert ports.taken() == [("send", "b", COMMITTED)] * 10
    assert payment.pause_us == PAUSE_MAX_US


def test_a_bank_that_connects_gets_at_once_what_it_may_have_missed() -> None:
    """Prepare for the payee's bank while it is asked, the outcome for whoever waits for it."""
    ports = Recorder()
    payment = preparing(ports)
    payment.connected("a", NOW_US)
    assert ports.taken() == []
    payment.connected("b", NOW_US)
    assert ports.taken() == [("send", "b", PREPARE)]
    payment.voted("b", 0)
    payment.connected("b", NOW_US)
    assert ports.taken() == [("commit", ID)]
    payment.ended(posting(), posted(), NOW_US)
    ports.taken()
    payment.connected("a", NOW_US)
    assert ports.taken() == [("send", "a", COMMITTED)]
    payment.connected("b", NOW_US)
    assert ports.taken() == [("send", "b", COMMITTED)]
    payment.connected("c", NOW_US)
    assert ports.taken() == []


# --- Asked again -----------------------------------------------------------------------------------------------------
def test_a_submission_that_comes_again_is_answered_once_it_is_decided() -> None:
    """Before, it is on its way already."""
    ports = Recorder()
    payment = preparing(ports)
    payment.submitted("a", SUBMIT)
    assert ports.taken() == []
    payment.voted("b", 0)
    payment.ended(posting(), posted(), NOW_US)
    payment.acknowledged("a")
    ports.taken()
    payment.submitted("a", SUBMIT)
    assert (ports.taken(), payment.missing) == ([("send", "a", COMMITTED)], ("a", "b"))


def test_another_payment_under_the_same_id_is_refused() -> None:
    """Another bank's is told so; of another content of the same bank nothing true can be said."""
    ports = Recorder()
    payment = committed(ports)
    payment.submitted("c", SUBMIT)
    assert ports.taken() == [("send", "c", Outcome(ID, 0, Status.id_reused))]
    payment.submitted("a", type(SUBMIT)(ID, 1000188, "b", 1000285, 501, "EUR", "rent"))
    assert ports.taken() == []


def test_who_takes_part_may_inquire() -> None:
    """Nothing while it is not decided, nothing to others, then the outcome."""
    ports = Recorder()
    payment = preparing(ports)
    payment.inquired("b")
    assert ports.taken() == []
    payment.voted("b", 0)
    payment.ended(posting(), posted(), NOW_US)
    ports.taken()
    payment.inquired("c")
    assert ports.taken() == []
    payment.inquired("b")
    assert ports.taken() == [("send", "b", COMMITTED)]
    payment.acknowledged("c")
    assert payment.missing == ("a", "b")


# --- After a crash ---------------------------------------------------------------------------------------------------
def test_what_is_found_open_is_given_up_first() -> None:
    """Both banks may hold something for it."""
    ports = Recorder()
    payment = Payment(ports, ID, "a", "b", NOW_US)
    payment.recover()
    payment.voted("b", 0)
    payment.submitted("a", SUBMIT)
    assert ports.taken() == [("abort", ID, UNFINISHED)]
    payment.ended(Verdict(Status.ok), voided(UNFINISHED), NOW_US)
    told = Outcome(ID, 0, UNFINISHED)
    assert ports.taken() == [("send", "a", told), ("send", "b", told)]
    payment.submitted("a", SUBMIT)
    assert ports.taken() == [("send", "a", told)]


@pytest.mark.parametrize(
    ("verdict", "found", "outcome"),
    [
        (given_up(UNFINISHED), None, Outcome(ID, 0, UNFINISHED)),
        (Verdict(Status.payment_already_decided), posted(), COMMITTED),
        (REPLAYED, voided(9), Outcome(ID, 0, 9)),
        (Verdict(Status.payment_unknown), None, Outcome(ID, 0, Status.payment_unknown)),
    ],
)
def test_an_inquiry_is_answered_from_the_ledger(verdict: Verdict, found: Hold | None, outcome: Outcome) -> None:
    """What was never heard of is given up for good before it is said."""
    ports = Recorder()
    payment = Payment(ports, ID, "", "b", NOW_US)
    payment.inquire()
    assert ports.taken() == [("abort", ID, UNFINISHED)]
    payment.ended(verdict, found, NOW_US)
    assert ports.taken() == [("send", "b", outcome)]
    payment.acknowledged("b")
    assert ports.taken() == [("forget",)]


def test_an_inquiry_about_the_payment_of_others_tells_nothing_of_it() -> None:
    """Whose it is says the ledger: strangers hear that the id is taken, a bank on the other side its outcome."""
    ports = Recorder()
    stranger = Payment(ports, ID, "", "c", NOW_US)
    stranger.inquire()
    stranger.belongs("a", "b")
    stranger.ended(Verdict(Status.payment_already_decided), posted(), NOW_US)
    assert ports.taken()[1:] == [("send", "c", Outcome(ID, 0, Status.id_reused)), ("forget",)]
    payer = Payment(ports, ID, "", "a", NOW_US)
    payer.inquire()
    payer.belongs("a", "b")
    payer.ended(Verdict(Status.payment_already_decided), posted(), NOW_US)
    assert ports.taken()[1:] == [("send", "a", COMMITTED)]
    both = Payment(ports, ID, "", "b", NOW_US)
    both.inquire()
    both.submitted("c", SUBMIT)
    both.belongs("a", "b")
    both.ended(Verdict(Status.payment_already_decided), posted(), NOW_US)
    told = [("send", "c", Outcome(ID, 0, Status.id_reused)), ("send", "b", COMMITTED)]
    assert (ports.taken()[1:], both.missing) == (told, ("b",))


def test_a_submission_during_an_inquiry_gets_its_outcome() -> None:
    """The payer's bank comes while its payment is being given up because of the payee's."""
    ports = Recorder()
    payment = Payment(ports, ID, "", "b", NOW_US)
    payment.inquire()
    payment.submitted("a", SUBMIT)
    payment.ended(given_up(UNFINISHED), None, NOW_US)
    told = Outcome(ID, 0, UNFINISHED)
    assert ports.taken()[1:] == [("send", "a", told), ("send", "b", told)]


def test_operators_can_give_up_what_is_not_decided() -> None:
    """And nothing else."""
    ports = Recorder()
    payment = preparing(ports)
    assert payment.give_up(Status.payment_given_up)
    assert not payment.give_up(Status.payment_given_up)
    payment.ended(Verdict(Status.ok), voided(Status.payment_given_up), NOW_US)
    assert not payment.give_up(Status.payment_given_up)
    told = Outcome(ID, 0, Status.payment_given_up)
    assert ports.taken() == [("abort", ID, Status.payment_given_up), ("send", "a", told), ("send", "b", told)]


# --- Reading the ledger's answer -------------------------------------------------------------------------------------
def test_an_outcome_is_read_off_the_hold() -> None:
    """What the hold says goes before what the command says, unless the id belongs to something else."""
    assert outcome_of(REPLAYED, posted(5)) == (5, 0)
    assert outcome_of(REPLAYED, voided(9)) == (0, 9)
    assert outcome_of(Verdict(Status.id_reused), posted(5)) == (0, Status.id_reused)
    customers = hold()
    customers.expires_us = NOW_US
    assert outcome_of(Verdict(Status.payment_unknown), customers) == (0, Status.payment_unknown)


def test_a_reason_is_read_off_a_refusal() -> None:
    """A rule's status, the reason of a giving up, or what the command was answered."""
    assert reason_of(refusal(Status.currency_unknown)) == Status.currency_unknown
    assert reason_of(given_up(UNFINISHED)) == UNFINISHED
    assert reason_of(Verdict(Status.payment_unknown)) == Status.payment_unknown
