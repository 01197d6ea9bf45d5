"""One payment at a bank, event by event: the leg on either side, and the customer's order through its attempts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fortress.errors import (
    BankUnreachable,
    Busy,
    GatewayUnreachable,
    OutcomeUnknown,
    PaymentUnfinished,
    Status,
)
from fortress.gateway.messages import Acknowledge, Inquire, Vote
from fortress.gateway.participant import (
    ATTEMPT_PAUSE_FIRST_US,
    NEVER_US,
    PAUSE_FIRST_US,
    PAUSE_MAX_US,
    Incoming,
    Leg,
    LegPhase,
    Order,
    OrderPhase,
    Outgoing,
    attempt_id,
)
from fortress.ledger.model import Hold
from fortress.ledger.rules import Verdict
from fortress.server.bank import derived_id
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
DONE = Verdict(Status.ok)
UNTIL_US = NOW_US + 10 * SECOND
SUBMITTED, INQUIRED, YES = ("send", SUBMIT), ("send", Inquire((ID,))), ("send", Vote(ID))
ACKNOWLEDGED = ("send", Acknowledge(ID))
FIRST, SECOND_ATTEMPT = ID, attempt_id(ID, 1)


def outgoing(ports: Recorder) -> Outgoing:
    """A leg of the payer's side that has just submitted."""
    leg = Outgoing(ports, SUBMIT, NOW_US)
    leg.recover(NOW_US)
    assert ports.taken() == [SUBMITTED]
    return leg


def incoming(ports: Recorder) -> Incoming:
    """A leg of the payee's side that has just voted yes."""
    leg = Incoming.begin(ports, PREPARE, NOW_US)
    leg.place()
    leg.placed(ok(), hold(), NOW_US)
    assert ports.taken() == [("place_incoming", ID), YES]
    return leg


def recovered(ports: Recorder) -> Incoming:
    """A leg of the payee's side that was found open."""
    leg = Incoming(ports, ID, NOW_US)
    leg.recover(NOW_US)
    assert ports.taken() == [INQUIRED]
    return leg


def order(ports: Recorder) -> Order:
    """A customer's order that was just taken."""
    made = Order(ports, ID, UNTIL_US)
    made.begin()
    return made


def following(ports: Recorder) -> Order:
    """An order whose attempt is submitted."""
    made = order(ports)
    made.placed(ok(), hold(), NOW_US)
    assert ports.taken() == [("place", ID), ("open_leg", made), SUBMITTED]
    return made


# --- Ids of attempts -------------------------------------------------------------------------------------------------
def test_the_first_attempt_has_the_id_of_the_payment() -> None:
    """Later ones have ids that always belong to them and carry no time."""
    assert attempt_id(ID, 0) == ID
    later = [attempt_id(ID, attempt) for attempt in range(1, 50)]
    assert len({ID, *later}) == 50
    assert later[0] == derived_id(b"fortress payment attempt v1", ID + (1).to_bytes(4, "big"))
    assert all(id[6] >> 4 == 8 for id in later)


# --- Both sides ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("made", [outgoing, incoming, recovered])
def test_an_outcome_is_acknowledged_once_it_is_durable(made: Callable[[Recorder], Any]) -> None:
    """Commit or abort, then the acknowledgement; the outcome coming twice changes nothing."""
    for sequence, reason, asked in ((77, 0, ("commit", ID)), (0, 9, ("abort", ID, 9))):
        ports = Recorder()
        leg: Leg = made(ports)
        leg.outcome(sequence, reason)
        leg.outcome(sequence, reason)
        leg.connected(NOW_US)
        leg.ticked(NOW_US + 3600 * SECOND)
        assert (ports.taken(), leg.due_us) == ([asked], NEVER_US)
        leg.ended(posting() if sequence else DONE, posted() if sequence else voided(9), NOW_US)
        assert ports.taken() == [ACKNOWLEDGED, ("forget",)]
        leg.outcome(sequence, reason)
        assert ports.taken() == []


@pytest.mark.parametrize("made", [outgoing, incoming])
def test_a_leg_asks_until_it_is_told(made: Callable[[Recorder], Any]) -> None:
    """With pauses that grow to half a minute, and at once when the gateway is connected."""
    ports = Recorder()
    leg: Leg = made(ports)
    question = ("send", leg.question())
    leg.ticked(NOW_US + PAUSE_FIRST_US - 1)
    assert ports.taken() == []
    for _ in range(8):
        leg.ticked(leg.due_us)
    assert ports.taken() == [question] * 8
    assert leg.pause_us == PAUSE_MAX_US
    leg.connected(NOW_US)
    assert ports.taken() == [question]
    assert leg.due_us == NOW_US + PAUSE_FIRST_US


@pytest.mark.parametrize("trouble", [Busy(), TOO_FAR_AHEAD])
def test_an_end_that_could_not_be_written_is_not_acknowledged(trouble: Busy | Verdict) -> None:
    """The leg asks again, and carries out what it is told then."""
    ports = Recorder()
    leg = outgoing(ports)
    leg.outcome(77, 0)
    leg.ended(trouble, hold(), NOW_US)
    assert ports.taken() == [("commit", ID)]
    leg.ticked(leg.due_us)
    assert ports.taken() == [SUBMITTED]
    leg.outcome(77, 0)
    assert ports.taken() == [("commit", ID)]


@pytest.mark.parametrize(
    ("sequence", "verdict", "found"),
    [
        (77, Verdict(Status.payment_unknown), None),
        (77, Verdict(Status.payment_already_decided), voided(UNFINISHED)),
        (0, Verdict(Status.payment_already_decided), posted()),
    ],
)
def test_an_outcome_that_contradicts_the_books_is_reported(sequence: int, verdict: Verdict, found: Hold | None) -> None:
    """It is not acknowledged, so the gateway lists it as well."""
    ports = Recorder()
    leg = Incoming(ports, ID, NOW_US)
    leg.outcome(sequence, 9)
    ports.taken()
    leg.ended(verdict, found, NOW_US)
    assert ports.taken() == [("dispute", verdict.status), ("forget",)]


def test_an_abort_of_what_is_no_payment_here_is_acknowledged() -> None:
    """The id belongs to something else here, so it never can become this payment."""
    ports = Recorder()
    leg = Incoming(ports, ID, NOW_US)
    leg.outcome(0, 9)
    leg.ended(Verdict(Status.payment_unknown), None, NOW_US)
    assert ports.taken() == [("abort", ID, 9), ACKNOWLEDGED, ("forget",)]


# --- The payee's side ------------------------------------------------------------------------------------------------
def test_a_refusal_is_a_vote_and_the_end() -> None:
    """It is durable, so it may be forgotten: Prepare coming again gets it again."""
    ports = Recorder()
    leg = Incoming.begin(ports, PREPARE, NOW_US)
    leg.placed(refusal(Status.credit_account_closed), None, NOW_US)
    assert ports.taken() == [("forget",), ("send", Vote(ID, Status.credit_account_closed))]
    assert leg.phase is LegPhase.ended


def test_what_was_given_up_before_it_was_prepared_is_not_held() -> None:
    """A Prepare that comes after its abort is refused, for that abort's reason."""
    ports = Recorder()
    leg = Incoming.begin(ports, PREPARE, NOW_US)
    leg.placed(given_up(UNFINISHED), None, NOW_US)
    assert ports.taken() == [("forget",), ("send", Vote(ID, UNFINISHED))]


@pytest.mark.parametrize("found", [posted(), voided(UNFINISHED)])
def test_a_prepare_that_comes_after_the_end_is_not_answered(found: Hold) -> None:
    """The gateway has decided long ago."""
    ports = Recorder()
    leg = Incoming.begin(ports, PREPARE, NOW_US)
    leg.placed(ok(replayed=True), found, NOW_US)
    assert ports.taken() == [("forget",)]


@pytest.mark.parametrize("trouble", [Busy(), TOO_FAR_AHEAD, ok(replayed=True)])
def test_what_could_not_be_placed_is_no_vote(trouble: Busy | Verdict) -> None:
    """The gateway asks again."""
    ports = Recorder()
    leg = Incoming.begin(ports, PREPARE, NOW_US)
    leg.placed(trouble, None, NOW_US)
    assert ports.taken() == [("forget",)]


def test_an_outcome_overtakes_the_placing() -> None:
    """Given up before the hold was written: no vote follows."""
    ports = Recorder()
    leg = Incoming.begin(ports, PREPARE, NOW_US)
    leg.prepared(PREPARE)
    leg.outcome(0, UNFINISHED)
    leg.placed(ok(), hold(), NOW_US)
    assert ports.taken() == [("abort", ID, UNFINISHED)]


def test_a_prepare_that_comes_again_is_voted_again() -> None:
    """Another one under the same id is not."""
    ports = Recorder()
    leg = incoming(ports)
    leg.prepared(PREPARE)
    assert ports.taken() == [YES]
    leg.prepared(type(PREPARE)(ID, "a", 1000188, 1000285, 501, "EUR", "rent"))
    assert ports.taken() == []


def test_a_prepare_after_a_restart_is_held_against_the_ledger() -> None:
    """The same: voted again. Another, or one that the ledger cannot answer: the hold stands, and no vote."""
    ports = Recorder()
    leg = recovered(ports)
    leg.prepared(PREPARE)
    leg.placed(ok(replayed=True), hold(), NOW_US)
    assert ports.taken() == [("place_incoming", ID), YES]
    for answer in (Verdict(Status.id_reused), Busy()):
        leg = recovered(ports)
        leg.prepared(PREPARE)
        assert leg.due_us == NEVER_US
        leg.placed(answer, hold(), NOW_US)
        assert ports.taken() == [("place_incoming", ID)]
        leg.ticked(leg.due_us)
        assert ports.taken() == [INQUIRED]
        leg.prepared(PREPARE)
        assert ports.taken() == [("place_incoming", ID)]


def test_a_prepare_under_the_id_of_an_own_payment_is_refused() -> None:
    """One id is one payment."""
    ports = Recorder()
    outgoing(ports).prepared(PREPARE)
    assert ports.taken() == [("send", Vote(ID, Status.id_reused))]


# --- The customer's order --------------------------------------------------------------------------------------------
def test_an_order_is_answered_when_its_leg_is_posted() -> None:
    """Placed, submitted, committed, acknowledged, answered with the entry."""
    ports = Recorder()
    made = following(ports)
    assert ports.leg is not None
    ports.leg.outcome(77, 0)
    done = posting()
    ports.leg.ended(done, posted(), NOW_US)
    assert ports.taken() == [("commit", ID), ACKNOWLEDGED, ("forget",), ("paid", 9, done.entry)]
    made.ticked(UNTIL_US)
    assert ports.taken() == []


def test_an_order_whose_end_cannot_be_told_is_answered_in_time() -> None:
    """The commit was a repeat and memory has forgotten the hold: acknowledged, and the customer asks again."""
    ports = Recorder()
    made = following(ports)
    assert ports.leg is not None
    ports.leg.outcome(77, 0)
    ports.leg.ended(Verdict(Status.ok, replayed=True, position=9), None, NOW_US)
    assert ports.taken() == [("commit", ID), ACKNOWLEDGED, ("forget",)]
    made.ticked(UNTIL_US)
    assert ports.taken() == [("error", OutcomeUnknown.code)]


def test_orders_that_come_at_once_meet_at_one_leg() -> None:
    """The second one's placing is a repeat; both are answered."""
    ports = Recorder()
    following(ports)
    order(ports).placed(ok(replayed=True), hold(), NOW_US)
    assert ports.taken() == [("place", ID)]
    assert ports.leg is not None
    ports.leg.outcome(0, 9)
    ports.leg.ended(DONE, voided(9), NOW_US)
    refused = ("refused", Status.credit_account_closed, ())
    assert ports.taken() == [("abort", ID, 9), ACKNOWLEDGED, ("forget",), refused, refused]


def test_a_leg_that_is_ending_is_followed_to_its_durable_end() -> None:
    """What the hold says already may still be lost."""
    ports = Recorder()
    following(ports)
    order(ports).placed(ok(replayed=True), posted(), NOW_US)
    assert ports.taken() == [("place", ID)]


def test_a_refusal_of_this_bank_comes_with_its_facts() -> None:
    """What was available, which limit."""
    ports = Recorder()
    order(ports).placed(refusal(Status.exceeds_available, ("available_minor", 5)), None, NOW_US)
    assert ports.taken()[1:] == [("refused", Status.exceeds_available, (("available_minor", 5),))]


@pytest.mark.parametrize(
    ("found", "answer"), [(posted(), ("paid", 9, None)), (voided(9), ("refused", Status.credit_account_closed, ()))]
)
def test_a_repeat_gets_the_answer_that_the_ledger_keeps(found: Hold, answer: tuple[object, ...]) -> None:
    """After the leg was forgotten."""
    ports = Recorder()
    order(ports).placed(ok(replayed=True), found, NOW_US)
    assert ports.taken() == [("place", ID), answer]


def test_a_placing_whose_hold_is_forgotten_is_not_known() -> None:
    """Nobody can tell what it became; the customer asks again."""
    ports = Recorder()
    made = order(ports)
    made.placed(ok(replayed=True), None, NOW_US)
    made.ticked(UNTIL_US)
    assert ports.taken() == [("place", ID), ("error", OutcomeUnknown.code)]


def test_an_error_of_this_bank_is_told() -> None:
    """Nothing was begun, or the same id finds out."""
    ports = Recorder()
    trouble = Busy()
    made = order(ports)
    made.placed(trouble, None, NOW_US)
    made.ticked(UNTIL_US)
    assert ports.taken() == [("place", ID), ("error", trouble)]


# --- Attempts --------------------------------------------------------------------------------------------------------
def test_a_payment_that_was_given_up_is_tried_again_after_a_pause() -> None:
    """The next attempt begins once the last one is durably void, under an id of its own."""
    ports = Recorder()
    made = following(ports)
    assert ports.leg is not None
    ports.leg.outcome(0, UNFINISHED)
    assert ports.taken() == [("abort", ID, UNFINISHED)]
    ports.leg.ended(DONE, voided(UNFINISHED), NOW_US)
    assert ports.taken() == [ACKNOWLEDGED, ("forget",)]
    made.ticked(NOW_US + ATTEMPT_PAUSE_FIRST_US - 1)
    assert (ports.taken(), made.phase) == ([], OrderPhase.pausing)
    made.ticked(NOW_US + ATTEMPT_PAUSE_FIRST_US)
    assert ports.taken() == [("place", SECOND_ATTEMPT)]
    assert (made.attempt, made.id, made.due_us) == (1, SECOND_ATTEMPT, UNTIL_US)


def test_attempts_end_before_the_customers_time_does() -> None:
    """Pauses double; when the next would be too long the customer is told why nothing was paid."""
    ports = Recorder()
    made = order(ports)
    now_us, asked = NOW_US, 0
    while made.phase is not OrderPhase.answered:
        ports.leg = None
        made.placed(ok(), hold(), now_us)
        assert ports.leg is not None
        made.ended(voided(BankUnreachable.code), None, now_us)
        asked += 1
        now_us = made.due_us
        made.ticked(now_us)
    assert asked == 6
    assert ports.taken()[-1] == ("error", BankUnreachable.code)


def test_attempts_of_before_are_passed_at_once() -> None:
    """A repeat walks through what was given up, as a void hold or before it was held, to the first new attempt."""
    ports = Recorder()
    made = order(ports)
    made.placed(ok(replayed=True), voided(UNFINISHED), NOW_US)
    made.placed(given_up(BankUnreachable.code), None, NOW_US)
    made.placed(ok(), hold(), NOW_US)
    ids = [attempt_id(ID, attempt) for attempt in range(3)]
    assert ports.taken() == [*(("place", id) for id in ids), ("open_leg", made), SUBMITTED]


def test_a_refusal_of_a_later_attempt_is_the_payments() -> None:
    """And is found again by each repeat."""
    ports = Recorder()
    made = order(ports)
    made.placed(ok(replayed=True), voided(UNFINISHED), NOW_US)
    made.placed(refusal(Status.order_expired), None, NOW_US)
    assert ports.taken()[2:] == [("refused", Status.order_expired, ())]


# --- Without a gateway, and time -------------------------------------------------------------------------------------
def test_nothing_new_is_begun_without_a_gateway() -> None:
    """Nothing was paid and nothing is held."""
    ports = Recorder()
    ports.is_connected = False
    order(ports).looked(is_known=False)
    assert ports.taken() == [("look", ID), ("error", GatewayUnreachable.code)]


def test_a_repeat_is_answered_without_a_gateway() -> None:
    """What the ledger knows is placed again, which is no more than reading it."""
    ports = Recorder()
    ports.is_connected = False
    made = order(ports)
    made.looked(is_known=True)
    made.placed(ok(replayed=True), voided(UNFINISHED), NOW_US)
    made.looked(is_known=True)
    made.placed(ok(replayed=True), posted(), NOW_US)
    asked = [("look", ID), ("place", ID), ("look", SECOND_ATTEMPT), ("place", SECOND_ATTEMPT)]
    assert ports.taken() == [*asked, ("paid", 9, None)]


@pytest.mark.parametrize("made", [order, following])
def test_an_outcome_that_is_not_known_in_time_is_not_guessed(made: Callable[[Recorder], Any]) -> None:
    """Once, and what comes later is not told any more."""
    ports = Recorder()
    waiting: Order = made(ports)
    ports.taken()
    waiting.ticked(UNTIL_US - 1)
    waiting.ticked(UNTIL_US)
    waiting.ticked(UNTIL_US + SECOND)
    assert ports.taken() == [("error", OutcomeUnknown.code)]
    for found in (posted(), voided(9), voided(UNFINISHED)):
        waiting.ended(found, None, UNTIL_US)
    assert ports.taken() == []


def test_a_placing_that_comes_late_gets_its_leg() -> None:
    """The customer was told that it is not known; the money is held, so it has to be submitted."""
    ports = Recorder()
    made = order(ports)
    made.ticked(UNTIL_US)
    made.placed(ok(), hold(), UNTIL_US)
    asked = [("place", ID), ("error", OutcomeUnknown.code), ("open_leg", made), SUBMITTED]
    assert (ports.taken(), made.phase) == (asked, OrderPhase.answered)


@pytest.mark.parametrize("late", [Busy(), refusal(Status.exceeds_available)])
def test_an_order_is_answered_once(late: Busy | Verdict) -> None:
    """What the ledger says after the customer's time is for the repeat."""
    ports = Recorder()
    made = order(ports)
    made.ticked(UNTIL_US)
    made.placed(late, None, UNTIL_US)
    assert ports.taken() == [("place", ID), ("error", OutcomeUnknown.code)]


def test_what_is_looked_up_too_late_begins_nothing() -> None:
    """The customer has the answer already."""
    ports = Recorder()
    ports.is_connected = False
    made = order(ports)
    made.ticked(UNTIL_US)
    made.looked(is_known=True)
    assert ports.taken() == [("look", ID), ("error", OutcomeUnknown.code)]
