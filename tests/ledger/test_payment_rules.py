"""Payments between banks as tables: who may place which leg, in which order it is refused, and how it ends, once."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from msgspec.structs import replace

from fortress.errors import Status
from fortress.ledger.commands import (
    AbortPayment,
    ChangeAccount,
    CommitPayment,
    MoveMoney,
    PlaceHold,
    PlacePayment,
    PostHold,
    ReleaseHold,
)
from fortress.ledger.entries import HoldPlaced, HoldReleased, Posted, Refused
from fortress.ledger.model import INTEGER_MAX, NEVER_US, SWITCH_ACTOR, AccountState, HoldState, TransferKind
from fortress.ledger.payment_rules import LEGS, PRECEDENCE
from tests.ledger.books_fixture import (
    ACTORS,
    ADMINISTRATOR,
    ALICE,
    BOB,
    DAY_US,
    NOW_US,
    TELLER,
    Books,
    rows,
    status,
    uid,
)

ACCOUNTS = """
name     owner kind       currency state        floor balance held payment day month signed
cash     0     cash       EUR      open         -     -9000   -    -       -   -     -
ours     0     settlement EUR      open         -     -20     -    -       -   -     -
dollars  0     settlement USD      open         -     -       -    -       -   -     -
alice    1     customer   EUR      open         -     1000    300  -       -   -     -
bob      2     customer   EUR      open         -     400     -    -       -   -     -
savings  1     customer   USD      open         -     500     -    -       -   -     -
strict   1     customer   EUR      open         -     500     -    -       -   -     yes
limited  1     customer   EUR      open         -     5000    -    100     150 160   -
indebted 1     customer   EUR      open         -50   20      -    -       -   -     -
closed   1     customer   EUR      closed       -     0       -    -       -   -     -
frozen   1     customer   EUR      frozen       -     400     -    -       -   -     -
kept     1     customer   EUR      debit_frozen -     400     -    -       -   -     -
p1       -1    position   EUR      open         -500  -100    50   -       -   -     -
p2       -2    position   EUR      open         -500  100     -    -       -   -     -
p3       -3    position   EUR      frozen       -500  -       -    -       -   -     -
d2       -2    position   USD      open         -500  -       -    -       -   -     -
"""

PLACED = """
who           debit    credit  amount currency answer
alice         alice    ours    700    EUR      ok
alice         alice    ours    701    EUR      exceeds_available
teller        alice    ours    700    EUR      ok
administrator alice    ours    700    EUR      ok
bob           alice    ours    10     EUR      debit_account_unknown
switch        alice    ours    10     EUR      debit_account_unknown
switch        alice    bob     10     EUR      debit_account_unknown
alice         nobody   ours    10     EUR      debit_account_unknown
alice         alice    nobody  10     EUR      credit_account_unknown
alice         alice    bob     10     EUR      account_kind_not_allowed
alice         alice    cash    10     EUR      account_kind_not_allowed
alice         alice    p1      10     EUR      account_kind_not_allowed
alice         ours     alice   10     EUR      debit_account_unknown
alice         p1       p2      10     EUR      debit_account_unknown
teller        ours     bob     10     EUR      account_kind_not_allowed
bank          ours     bob     10     EUR      account_kind_not_allowed
teller        p1       p2      10     EUR      account_kind_not_allowed
switch        ours     bob     10     EUR      ok
switch        ours     bob     999999 EUR      ok
switch        ours     kept    10     EUR      ok
switch        ours     frozen  10     EUR      credit_account_frozen
switch        ours     closed  10     EUR      credit_account_closed
switch        ours     nobody  10     EUR      credit_account_unknown
switch        ours     savings 10     EUR      currency_mismatch
switch        dollars  savings 10     USD      ok
switch        dollars  savings 10     EUR      currency_mismatch
switch        ours     cash    10     EUR      account_kind_not_allowed
switch        cash     bob     10     EUR      account_kind_not_allowed
switch        ours     p1      10     EUR      account_kind_not_allowed
switch        ours     dollars 10     EUR      account_kind_not_allowed
switch        p1       p2      350    EUR      ok
switch        p1       p2      351    EUR      exceeds_debit_cap
switch        p2       p1      600    EUR      ok
switch        p2       p1      601    EUR      exceeds_debit_cap
switch        p1       p1      10     EUR      accounts_must_differ
switch        p3       p1      10     EUR      debit_account_frozen
switch        p1       p3      10     EUR      credit_account_frozen
switch        p1       d2      10     EUR      currency_mismatch
switch        p1       bob     10     EUR      account_kind_not_allowed
alice         alice    -       10     EUR      settlement_account_missing
switch        -        bob     10     EUR      settlement_account_missing
alice         alice    ours    10     XXX      currency_unknown
alice         alice    -       10     XXX      currency_unknown
alice         strict   ours    10     EUR      order_signature_required
teller        strict   ours    10     EUR      order_signature_required
alice         limited  ours    100    EUR      ok
alice         limited  ours    101    EUR      exceeds_limit_per_payment
alice         indebted ours    20     EUR      ok
alice         indebted ours    21     EUR      exceeds_available
alice         closed   ours    10     EUR      debit_account_closed
alice         frozen   ours    10     EUR      debit_account_frozen
alice         kept     ours    10     EUR      debit_account_frozen
alice         savings  ours    10     EUR      currency_mismatch
"""

# a leg of 100; how it ended, what is asked then, and what comes of it
ENDS = """
who    leg first  then   answer                  replayed
switch out -      commit ok                      -
switch in  -      commit ok                      -
switch at  -      commit ok                      -
switch out -      abort  ok                      -
switch in  -      abort  ok                      -
switch at  -      abort  ok                      -
switch out commit commit ok                      yes
switch at  commit commit ok                      yes
switch out commit hand   ok                      yes
switch out hand   commit ok                      yes
switch out commit other  payment_already_decided -
switch out commit abort  payment_already_decided -
switch at  commit abort  payment_already_decided -
switch out abort  abort  ok                      yes
switch out abort  commit payment_already_decided -
switch at  abort  commit payment_already_decided -
switch out freeze commit ok                      -
switch out freeze abort  ok                      -
switch in  freeze commit ok                      -
switch at  freeze commit ok                      -
alice  out -      commit payment_unknown         -
alice  out -      abort  payment_unknown         -
teller out -      commit payment_unknown         -
teller out -      abort  payment_unknown         -
bank   in  -      commit payment_unknown         -
bank   in  -      abort  payment_unknown         -
alice  out abort  abort  payment_unknown         -
"""
SEQUENCE = 77
REASON = 1004
LEG_ACCOUNTS = {"out": ("alice", "ours"), "in": ("ours", "bob"), "at": ("p1", "p2")}


@pytest.fixture
def books() -> Books:
    return Books(ACCOUNTS)


def place(books: Books, leg: str = "out", amount: int = 100, **changes: Any) -> PlacePayment:
    """A leg: out of a customer's account, in to one, or at the gateway."""
    debit, credit = (books.numbers[name] for name in LEG_ACCOUNTS[leg])
    actor = ALICE if leg == "out" else SWITCH_ACTOR
    made = PlacePayment(actor, uid(), debit, credit, amount, "EUR", "harbour/1000195", "rent", b"s" * 64)
    return replace(made, **changes)


def end(act: str, leg: str, id: bytes, who: str = "switch") -> CommitPayment | AbortPayment:
    sequences = {"commit": 0 if leg == "at" else SEQUENCE, "hand": 0, "other": SEQUENCE + 1}
    return AbortPayment(ACTORS[who], id, REASON) if act == "abort" else CommitPayment(ACTORS[who], id, sequences[act])


def freeze(books: Books, leg: str) -> None:
    for name in LEG_ACCOUNTS[leg]:
        books.named(name).state = int(AccountState.frozen)


# --- Placing ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("row", rows(PLACED), ids=lambda row: " ".join(row.values()))
def test_legs_are_placed_as_the_table_says(books: Books, row: dict[str, str]) -> None:
    """Between the right kinds of accounts, by whom it concerns, never from an overdraft; a bank down to its cap."""
    debit, credit = (books.numbers[row[side]] if row[side] else 0 for side in ("debit", "credit"))
    command = PlacePayment(ACTORS[row["who"]], uid(), debit, credit, int(row["amount"]), row["currency"], "b/1000195")
    verdict = books.do(command)
    assert verdict.status is status(row["answer"])
    entry = verdict.entry
    if verdict.status is Status.ok:
        assert type(entry) is HoldPlaced and (entry.expires_us, entry.counterparty) == (NEVER_US, "b/1000195")
        pending = (books.named(row["debit"]).debits_pending, books.named(row["credit"]).credits_pending)
        assert (entry.debit_pending, entry.credit_pending) == pending
        hold = books.hold(command.id)
        assert hold is not None and hold.is_payment and hold.state == HoldState.open
    else:
        assert type(entry) is Refused and (entry.operation, entry.account) == ("payment", command.debit)
        assert books.known(command.id) == (1, entry)


def test_the_table_of_legs_is_whole() -> None:
    """Each leg is posted as one kind of transfer."""
    assert {TransferKind(kind).name for kind in LEGS.values()} == {"payment_out", "payment_in", "clearing"}


def test_the_signature_is_kept(books: Books) -> None:
    """What the payer signed stands in the journal, and lets a signed account pay."""
    command = place(books, debit=books.numbers["strict"])
    assert books.do(command).entry.order_signature == b"s" * 64
    assert books.do(replace(command, id=uid(), order_signature=b"")).status is Status.order_signature_required


@pytest.mark.parametrize(("not_after_us", "answer"), [(0, "ok"), (NOW_US, "ok"), (NOW_US - 1, "order_expired")])
def test_an_order_that_comes_too_late_is_refused(books: Books, not_after_us: int, answer: str) -> None:
    """Up to its last moment it is good; afterwards that is remembered, whenever it is repeated."""
    command = place(books, not_after_us=not_after_us)
    verdict = books.do(command)
    assert verdict.status is status(answer)
    again = books.do(replace(command, not_after_us=0), NOW_US + DAY_US)
    assert (again.status, again.replayed) == (verdict.status, True)


@pytest.mark.parametrize("refused", [False, True], ids=["held", "refused"])
@pytest.mark.parametrize(
    "change", ["debit", "credit", "amount", "currency", "counterparty", "reference", "actor", "order"]
)
def test_a_leg_is_repeatable_by_its_id(books: Books, change: str, refused: bool) -> None:
    """The same content is the first answer again; other content is told apart; how it was signed does not count."""
    command = place(books, amount=5_000 if refused else 100)
    first = books.do(command)
    assert first.status is (Status.exceeds_available if refused else Status.ok)
    others: dict[str, dict[str, Any]] = {
        "debit": {"debit": books.numbers["strict"]},
        "credit": {"credit": books.numbers["bob"]},
        "amount": {"amount": 99},
        "currency": {"currency": "USD"},
        "counterparty": {"counterparty": "harbour/1000292"},
        "reference": {"reference": "x"},
        "actor": {"actor": TELLER},
        "order": {"order_signature": b"t" * 64, "not_after_us": 1},
    }
    again = books.do(replace(command, **others[change]), NOW_US + DAY_US)
    if change == "order":
        assert (again.status, again.entry, again.position) == (first.status, first.entry, 1) and again.replayed
    else:
        assert (again.status, again.entry) == (Status.id_reused, None)


@pytest.mark.parametrize("kind", ["transfer", "hold"])
def test_the_id_of_something_else_is_no_payment_s(books: Books, kind: str) -> None:
    """A transfer or an ordinary hold keeps its id; a payment keeps its own."""
    debit, credit = books.numbers["alice"], books.numbers["bob"]
    other: Any = MoveMoney(ALICE, 3, uid(), debit, credit, 10, "EUR")
    if kind == "hold":
        other = PlaceHold(ALICE, uid(), debit, credit, 10, "EUR", NOW_US + 1)
    assert books.do(other).status is Status.ok
    assert books.do(place(books, id=other.id)).status is Status.id_reused
    assert books.do(CommitPayment(SWITCH_ACTOR, other.id, 1)).status is Status.payment_unknown
    assert books.do(AbortPayment(SWITCH_ACTOR, other.id, 1)).status is Status.payment_unknown
    payment = place(books)
    books.do(payment)
    assert books.do(replace(other, id=payment.id)).status is Status.id_reused


def test_an_ordinary_hold_of_the_same_content_is_no_payment(books: Books) -> None:
    """What tells them apart is the end, which a payment's hold does not have."""
    command = place(books, "in", reference="", counterparty="", order_signature=b"")
    entry = books.do(command).entry
    books.ids.put(command.id, (1, replace(entry, expires_us=NOW_US + 1)))
    assert books.do(command).status is Status.id_reused


# --- Precedence ------------------------------------------------------------------------------------------------------
# reason -> what makes it hold: changes of the payer's account, of the settlement account, of the command
REASONS: dict[Status, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    Status.currency_unknown: ({}, {}, {"currency": "XXX"}),
    Status.settlement_account_missing: ({}, {}, {"credit": 0}),
    Status.accounts_must_differ: ({}, {}, {"credit": "alice"}),
    Status.debit_account_unknown: ({"owner": 2}, {}, {}),
    Status.credit_account_unknown: ({}, {}, {"credit": "nobody"}),
    Status.account_kind_not_allowed: ({}, {"kind": 1}, {}),
    Status.debit_account_closed: ({"state": 4}, {}, {}),
    Status.credit_account_closed: ({}, {"state": 4}, {}),
    Status.debit_account_frozen: ({"state": 3}, {}, {}),
    Status.credit_account_frozen: ({}, {"state": 3}, {}),
    Status.currency_mismatch: ({"currency": "USD"}, {}, {}),
    Status.order_expired: ({}, {}, {"not_after_us": 1}),
    Status.order_signature_required: ({"signed_orders_only": True}, {}, {}),
    Status.exceeds_limit_per_payment: ({"limit_payment": 1}, {}, {}),
    Status.exceeds_limit_per_day: ({"limit_day": 1}, {}, {}),
    Status.exceeds_limit_per_month: ({"limit_month": 1}, {}, {}),
    Status.exceeds_available: ({}, {}, {"amount": 5_000}),
    Status.balance_too_large: ({}, {"credits_posted": INTEGER_MAX}, {}),
}
FIRST = (Status.id_reused, Status.id_too_far_ahead, Status.payment_given_up)  # by the id alone, before all others


def answer(*reasons: Status) -> Status | None:
    """Place a leg for which all these reasons hold; None when they cannot hold together."""
    books = Books(ACCOUNTS)
    parts: list[dict[str, Any]] = [{}, {}, {"order_signature": b""}]
    for reason in reasons:
        for part, change in zip(parts, REASONS[reason], strict=True):
            if part.keys() & change.keys() and any(part[key] != value for key, value in change.items() if key in part):
                return None
            part.update(change)
    for name, changes in zip(("alice", "ours"), parts[:2], strict=True):
        for field, value in changes.items():
            setattr(books.named(name), field, value)
    named = {key: books.numbers[value] if key == "credit" and value else value for key, value in parts[2].items()}
    return books.do(place(books, **named)).status


def test_the_table_of_reasons_is_whole() -> None:
    """Every reason of the documented order is tried, in that order; the debit cap is of positions alone."""
    assert tuple(s for s in PRECEDENCE if s is not Status.exceeds_debit_cap) == (*FIRST, *REASONS)
    assert answer() is Status.ok


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: str(reason.name))
def test_each_reason_is_told_when_it_holds_alone(reason: Status) -> None:
    """The change that makes the reason hold brings just this reason."""
    assert answer(reason) is reason


@pytest.mark.parametrize("earlier", list(REASONS)[:-1], ids=lambda reason: str(reason.name))
def test_of_two_reasons_the_earlier_is_told(earlier: Status) -> None:
    """For every pair that can hold together, the order of the table is the order of the checks."""
    tried = [answer(first, later) for first, later in combinations(REASONS, 2) if first is earlier]
    found = [each for each in tried if each is not None]
    assert found and set(found) == {earlier}


def test_the_id_comes_before_everything_else(books: Books) -> None:
    """Known before: that answer; too far ahead: no trace, so that the same id may come again."""
    wrong = place(books, currency="XXX", credit=0)
    ahead = books.do(replace(wrong, id=uid(NOW_US + 61_000_000)))
    assert (ahead.status, ahead.entry) == (Status.id_too_far_ahead, None)
    gone = books.do(AbortPayment(SWITCH_ACTOR, uid(NOW_US + 61_000_000), REASON))
    assert (gone.status, gone.entry) == (Status.id_too_far_ahead, None)
    known = place(books)
    books.do(known)
    assert books.do(replace(wrong, id=known.id)).status is Status.id_reused


def test_the_debit_cap_comes_before_the_size(books: Books) -> None:
    """As with what is available; facts tell how much was left and asked for."""
    books.named("p2").credits_posted = INTEGER_MAX
    verdict = books.do(place(books, "at", amount=500))
    assert verdict.status is Status.exceeds_debit_cap
    assert dict(verdict.facts) == {"available_minor": 350, "needed_minor": 500}
    assert books.do(place(books, "at", amount=5)).status is Status.balance_too_large


# --- Ending ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("row", rows(ENDS), ids=lambda row: " ".join(row.values()))
def test_legs_end_as_the_table_says(books: Books, row: dict[str, str]) -> None:
    """Committed or aborted, once, by the switch alone; repeated as often as it likes; freezing changes nothing."""
    leg = row["leg"]
    before = books.sums()
    payment = place(books, leg)
    books.do(payment)
    if row["first"] == "freeze":
        freeze(books, leg)
    elif row["first"]:
        assert books.do(end(row["first"], leg, payment.id)).status is Status.ok
    position = books.position
    verdict = books.do(end(row["then"], leg, payment.id, row["who"]), NOW_US + 1)
    assert (verdict.status, verdict.replayed) == (status(row["answer"]), bool(row["replayed"]))
    if verdict.status is not Status.ok or verdict.replayed:
        assert books.position == position and verdict.entry is None  # no trace
    if verdict.replayed:
        assert verdict.position == 2
    assert books.sums() == before  # the fixture's own sums are not zero; no payment changes them


@pytest.mark.parametrize("leg", LEG_ACCOUNTS)
def test_a_commit_takes_all_and_names_the_other_side(books: Books, leg: str) -> None:
    """The whole hold, as its own kind; at the gateway the sequence is the position of the entry itself."""
    debit, credit = (books.named(name) for name in LEG_ACCOUNTS[leg])
    held = (debit.debits_pending, credit.credits_pending)
    before = (debit.balance, credit.balance)
    payment = place(books, leg)
    books.do(payment)
    verdict = books.do(end("commit", leg, payment.id), NOW_US + 400 * DAY_US)
    entry = verdict.entry
    kinds = {"out": "payment_out", "in": "payment_in", "at": "clearing"}
    assert type(entry) is Posted and TransferKind(entry.kind).name == kinds[leg]
    assert (entry.amount, entry.held, entry.counterparty) == (100, 100, "harbour/1000195")
    assert (debit.balance, credit.balance) == (before[0] - 100, before[1] + 100)
    assert (debit.debits_pending, credit.credits_pending) == held
    hold = books.hold(payment.id)
    assert hold is not None and (hold.state, hold.posted) == (HoldState.posted, 100)
    assert entry.gateway_sequence == (0 if leg == "at" else SEQUENCE)
    assert hold.sequence == (verdict.position if leg == "at" else SEQUENCE)


def test_an_abort_frees_the_money_and_says_why(books: Books) -> None:
    """The money is there again, for the limits as well; the reason stands in the entry and with the hold."""
    account = books.named("limited")
    payment = place(books, debit=account.number)
    books.do(payment)
    assert (account.available, account.day_spent) == (4_900, 100)
    entry = books.do(end("abort", "out", payment.id)).entry
    assert type(entry) is HoldReleased and (entry.state, entry.reason) == (HoldState.voided, REASON)
    assert (account.available, account.day_spent, account.month_spent) == (5_000, 0, 0)
    hold = books.hold(payment.id)
    assert hold is not None and (hold.state, hold.reason, hold.sequence) == (HoldState.voided, REASON, 0)


def test_what_was_decided_is_told_with_how(books: Books) -> None:
    """The other decision is refused with the first one's number or reason."""
    done, given_up = place(books), place(books)
    for payment, act, other, fact in (
        (done, "commit", "abort", ("gateway_sequence", SEQUENCE)),
        (done, "commit", "other", ("gateway_sequence", SEQUENCE)),
        (given_up, "abort", "commit", ("reason", REASON)),
    ):
        books.do(payment)
        books.do(end(act, "out", payment.id))
        assert books.do(end(other, "out", payment.id)).facts == (fact,)


@pytest.mark.parametrize("act", ["commit", "abort"])
def test_a_repeat_tells_what_became_of_it(books: Books, act: str) -> None:
    """The first answer comes again; the hold says how it ended."""
    payment = place(books)
    first = books.do(payment)
    books.do(end(act, "out", payment.id))
    again = books.do(payment, NOW_US + DAY_US)
    assert (again.status, again.replayed, again.entry) == (Status.ok, True, first.entry)
    hold = books.hold(payment.id)
    assert hold is not None and HoldState(hold.state).name == {"commit": "posted", "abort": "voided"}[act]


# --- What was never placed -------------------------------------------------------------------------------------------
def test_an_abort_comes_before_a_late_placing(books: Books) -> None:
    """An unknown id is remembered as given up: whatever is placed under it later is refused, by whomever."""
    id = uid()
    entry = books.do(AbortPayment(SWITCH_ACTOR, id, REASON)).entry
    assert type(entry) is Refused and entry.operation == "payment"
    assert (entry.status, entry.facts) == (Status.payment_given_up, (("reason", REASON),))
    for late in (place(books, id=id), place(books, "in", id=id), place(books, "at", 7, id=id, currency="XXX")):
        verdict = books.do(late)
        assert (verdict.status, verdict.replayed, verdict.position) == (Status.payment_given_up, True, 1)
        assert verdict.facts == entry.facts
    again = books.do(AbortPayment(SWITCH_ACTOR, id, 7))
    assert (again.status, again.replayed, again.entry, again.position) == (Status.ok, True, entry, 1)
    assert books.do(CommitPayment(SWITCH_ACTOR, id, SEQUENCE)).status is Status.payment_already_decided


def test_an_abort_of_what_was_refused_is_done(books: Books) -> None:
    """Nothing was held and nothing will be; the refusal stays what it was."""
    payment = place(books, amount=5_000)
    refusal = books.do(payment)
    verdict = books.do(AbortPayment(SWITCH_ACTOR, payment.id, REASON))
    assert (verdict.status, verdict.replayed, verdict.entry) == (Status.ok, True, refusal.entry)
    assert books.do(payment).status is Status.exceeds_available
    assert books.do(CommitPayment(SWITCH_ACTOR, payment.id, 1)).status is Status.payment_already_decided


def test_a_commit_of_the_unknown_is_refused(books: Books) -> None:
    """Without a trace: a bank or gateway gone wild cannot make money."""
    verdict = books.do(CommitPayment(SWITCH_ACTOR, uid(), SEQUENCE))
    assert (verdict.status, verdict.entry, books.position) == (Status.payment_unknown, None, 0)
    assert books.do(AbortPayment(ALICE, uid(), 1)).status is Status.payment_unknown


# --- Nobody else -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("who", ["alice", "bob", "teller", "administrator", "bank", "switch"])
@pytest.mark.parametrize("leg", LEG_ACCOUNTS)
def test_only_the_payment_ends_its_hold(books: Books, leg: str, who: str) -> None:
    """Post, void and expire are refused, open or ended; a stranger does not even learn that it is there."""
    payment = place(books, leg)
    books.do(payment)
    actor = ACTORS[who]
    parties = {"out": ALICE, "in": BOB}
    is_known = actor.is_cashier or actor is parties.get(leg) or (who == "switch" and leg != "at")
    for then in ("", "commit"):
        if then:
            books.do(end(then, leg, payment.id))
        posted = books.do(PostHold(actor, payment.id), NOW_US + DAY_US).status
        assert posted is (Status.hold_of_payment if is_known else Status.hold_unknown)
        for state in (HoldState.voided, HoldState.expired):
            freed = books.do(ReleaseHold(actor, payment.id, int(state)), NOW_US + DAY_US).status
            assert freed in (Status.hold_of_payment, Status.hold_unknown)
            assert freed is Status.hold_of_payment or not actor.is_cashier


def test_an_account_with_a_payment_under_way_is_not_closed(books: Books) -> None:
    """Neither the payer's nor the payee's, though both balances are zero."""
    for name, leg, amount in (("alice", "out", 700), ("bob", "in", 100)):
        account = books.named(name)
        account.debits_pending = 0
        account.credits_posted, account.debits_posted = (amount, 0) if leg == "out" else (0, 0)
        books.do(place(books, leg, amount))
        account.credits_posted = 0
        verdict = books.do(ChangeAccount(ADMINISTRATOR, uid(), account.number, "close"))
        assert verdict.status is Status.account_not_empty
