"""Holds and reversals as tables: what may become of money that was promised, or moved."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from fortress.errors import Status
from fortress.ledger.commands import (
    CommitPayment,
    MoveMoney,
    PlaceHold,
    PlacePayment,
    PostHold,
    ReleaseHold,
    ReverseMoney,
)
from fortress.ledger.entries import HoldPlaced, HoldReleased, Posted, Refused
from fortress.ledger.hold_rules import HOLD_SPAN_US_MAX
from fortress.ledger.model import BANK_ACTOR, SWITCH_ACTOR, AccountState, HoldState
from tests.ledger.books_fixture import ACTORS, ALICE, BOB, DAY_US, NOW_US, TELLER, Books, rows, status, uid

ACCOUNTS = """
name     owner kind     currency state  floor balance held payment day month signed
cash     0     cash     EUR      open   -     -9000   -    -       -   -     -
alice    1     customer EUR      open   -     1000    300  -       -   -     -
bob      2     customer EUR      open   -     400     -    -       -   -     -
carol    3     customer EUR      open   -     0       -    -       -   -     -
strict   1     customer EUR      open   -     500     -    -       -   -     yes
limited  1     customer EUR      open   -     5000    -    100     150 -     -
indebted 1     customer EUR      open   -50   20      -    -       -   -     -
owing    1     customer EUR      open   -50   -20     -    -       -   -     -
frozen   1     customer EUR      frozen -     400     -    -       -   -     -
"""
LATER_US = NOW_US + 1_000_000

HOLDS = """
who    debit    credit amount currency expires answer
alice  alice    bob    700    EUR      1       ok
alice  alice    bob    701    EUR      1       exceeds_available
alice  indebted bob    20     EUR      1       ok
alice  indebted bob    21     EUR      1       exceeds_available
alice  owing    bob    1      EUR      1       exceeds_available
alice  alice    bob    10     EUR      0       expiry_in_the_past
alice  alice    bob    10     EUR      366     ok
alice  alice    bob    10     EUR      367     expiry_in_the_past
alice  strict   bob    10     EUR      1       order_signature_required
teller strict   bob    10     EUR      1       order_signature_required
alice  limited  bob    101    EUR      1       exceeds_limit_per_payment
alice  frozen   bob    10     EUR      1       debit_account_frozen
alice  bob      alice  10     EUR      1       debit_account_unknown
alice  alice    cash   10     EUR      1       account_kind_not_allowed
"""

# a hold of 100 from alice to bob that ends in a day; what is done with it, when, in whole days after the placing
ENDS = """
who    first     then  amount day answer
bob    -         post  0      0   ok
bob    -         post  100    0   ok
bob    -         post  40     0   ok
bob    -         post  101    0   exceeds_hold
bob    -         post  0      1   hold_expired
alice  -         post  0      0   ok
teller -         post  0      0   ok
carol  -         post  0      0   hold_unknown
bob    -         void  -      0   ok
bob    -         void  -      2   ok
teller -         void  -      0   ok
alice  -         void  -      0   hold_unknown
carol  -         void  -      0   hold_unknown
bank   -         lapse -      1   ok
bank   -         lapse -      0   hold_unknown
bob    post      post  0      0   ok
bob    post      post  100    0   ok
bob    post      post  40     0   hold_already_posted
bob    post      void  -      0   hold_already_posted
bank   post      lapse -      1   hold_already_posted
bob    part      post  40     0   ok
bob    part      post  0      0   hold_already_posted
bob    void      post  0      0   hold_already_voided
bob    void      void  -      0   ok
bank   void      lapse -      1   hold_already_voided
bob    lapse     post  0      0   hold_expired
bob    lapse     void  -      0   hold_expired
bank   lapse     lapse -      0   ok
bob    freeze    post  0      0   ok
bob    freeze    void  -      0   ok
bank   freeze    lapse -      1   ok
"""


@pytest.fixture
def books() -> Books:
    return Books(ACCOUNTS)


def hold(books: Books, amount: int = 100, **changes: Any) -> PlaceHold:
    made = PlaceHold(ALICE, uid(), books.numbers["alice"], books.numbers["bob"], amount, "EUR", NOW_US + 86_400_000_000)
    return replace(made, **changes)


def actor(name: str) -> Any:
    return {**ACTORS, "carol": replaced(BOB)}[name]


def replaced(of: Any) -> Any:
    return type(of)(3, of.roles)


def end(who: str, act: str, id: bytes, amount: int = 0) -> PostHold | ReleaseHold:
    if act in ("post", "part"):
        return PostHold(actor(who), id, 40 if act == "part" else amount)
    return ReleaseHold(actor(who), id, int(HoldState.voided if act == "void" else HoldState.expired))


# --- Placing ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("row", rows(HOLDS), ids=lambda row: " ".join(row.values()))
def test_holds_are_placed_as_the_table_says(books: Books, row: dict[str, str]) -> None:
    """Never from an overdraft, always to an end, and otherwise as a transfer; limits count what is promised."""
    expires_us = NOW_US + int(row["expires"]) * 86_400_000_000
    debit, credit = books.numbers[row["debit"]], books.numbers[row["credit"]]
    command = PlaceHold(actor(row["who"]), uid(), debit, credit, int(row["amount"]), row["currency"], expires_us)
    verdict = books.do(command)
    assert verdict.status is status(row["answer"])
    if verdict.status is Status.ok:
        assert type(verdict.entry) is HoldPlaced
        assert (books.named(row["debit"]).debits_pending, books.named(row["credit"]).credits_pending) == (
            verdict.entry.debit_pending,
            verdict.entry.credit_pending,
        )
        assert books.named(row["debit"]).day_spent == command.amount
    else:
        assert type(verdict.entry) is Refused and verdict.entry.operation == "hold"


def test_the_latest_end_is_told(books: Books) -> None:
    """Who asks for too long learns how long is possible."""
    verdict = books.do(hold(books, expires_us=NOW_US + HOLD_SPAN_US_MAX + 1))
    assert dict(verdict.facts) == {"latest_us": NOW_US + HOLD_SPAN_US_MAX}


@pytest.mark.parametrize("change", ["debit", "credit", "amount", "expires_us", "reference", "actor", "currency"])
@pytest.mark.parametrize("amount", [100, 5_000], ids=["done", "refused"])
def test_a_hold_is_repeatable_by_its_id(books: Books, change: str, amount: int) -> None:
    """Same content: the first answer; any other content: id_reused."""
    command = hold(books, amount)
    first = books.do(command)
    again = books.do(command)
    assert again.replayed and (again.status, again.entry, again.position) == (first.status, first.entry, 1)
    others: dict[str, Any] = {
        "debit": books.numbers["strict"],
        "credit": books.numbers["carol"],
        "amount": 99,
        "expires_us": NOW_US + 5,
        "reference": "x",
        "actor": BOB,
        "currency": "USD",
    }
    other = books.do(replace(command, **{change: others[change]}))
    assert other.status is Status.id_reused and other.entry is None and books.position == 1


def test_a_transfer_s_id_cannot_be_a_hold_s(books: Books) -> None:
    """Ids are one space."""
    move = MoveMoney(ALICE, 3, uid(), books.numbers["alice"], books.numbers["bob"], 5, "EUR")
    books.do(move)
    assert books.do(hold(books, id=move.id)).status is Status.id_reused


def test_an_id_too_far_ahead_leaves_no_trace(books: Books) -> None:
    """As with transfers."""
    for command in (
        hold(books, id=uid(NOW_US + 3_600_000_000)),
        ReverseMoney(TELLER, uid(NOW_US + 3_600_000_000), uid()),
    ):
        verdict = books.do(command)
        assert verdict.status is Status.id_too_far_ahead and verdict.entry is None


# --- Ending ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("row", rows(ENDS), ids=lambda row: " ".join(row.values()))
def test_a_hold_ends_once(books: Books, row: dict[str, str]) -> None:
    """Posted by a party or a cashier, voided by the payee or a cashier, lapsed by the clock: one of them, for ever.

    Freezing an account does not touch what was promised before.
    """
    command = hold(books)
    placed = books.do(command)
    if row["first"] == "freeze":
        for name in ("alice", "bob"):
            books.named(name).state = int(AccountState.frozen)
    elif row["first"]:
        day = 1 if row["first"] == "lapse" else 0
        assert books.do(end("bank", row["first"], command.id), NOW_US + day * 86_400_000_000).status is Status.ok
    position = books.position
    verdict = books.do(
        end(row["who"], row["then"], command.id, int(row["amount"] or 0)), NOW_US + int(row["day"]) * 86_400_000_000
    )
    assert verdict.status is status(row["answer"])
    is_replay = row["answer"] == "ok" and row["first"] not in ("", "freeze")
    assert verdict.replayed is is_replay
    assert books.position == position + (row["answer"] == "ok" and not is_replay)
    assert placed.position == 1 and books.sums()["EUR"][1] == -300, "what was pending before stays so"
    alice, bob = books.named("alice"), books.named("bob")
    moved = alice.debits_posted
    assert bob.credits_posted == 400 + moved
    assert alice.debits_pending == 300 + (100 if moved == 0 and not is_ended(books, command.id) else 0)
    assert alice.day_spent == (moved or alice.debits_pending - 300)


def is_ended(books: Books, id: bytes) -> bool:
    found = books.hold(id)
    return found is not None and found.state != HoldState.open


def test_a_hold_that_is_not_there_is_unknown(books: Books) -> None:
    """Nothing is written about it: any number of such questions leaves no trace."""
    assert books.do(PostHold(BOB, uid())).status is Status.hold_unknown
    assert books.do(ReleaseHold(BOB, uid(), 3)).status is Status.hold_unknown
    assert books.position == 0


def test_posting_a_part_frees_the_rest(books: Books) -> None:
    """40 of 100 move, 60 are free again, also for today's limit."""
    command = hold(books)
    books.do(command)
    verdict = books.do(PostHold(BOB, command.id, 40))
    assert type(verdict.entry) is Posted and (verdict.entry.amount, verdict.entry.held) == (40, 100)
    alice = books.named("alice")
    assert (alice.balance, alice.debits_pending, alice.day_spent, alice.month_spent) == (960, 300, 40, 40)
    assert books.named("bob").credits_pending == 0


def test_what_a_refusal_tells_about_a_hold(books: Books) -> None:
    """How much was held; when it ended."""
    command = hold(books)
    books.do(command)
    assert dict(books.do(PostHold(BOB, command.id, 101)).facts) == {"held_minor": 100}
    assert dict(books.do(PostHold(BOB, command.id), command.expires_us).facts) == {"expired_us": command.expires_us}
    released = books.do(ReleaseHold(BOB, command.id, 3))
    assert type(released.entry) is HoldReleased and released.entry.debit_pending == 300


@pytest.mark.parametrize("is_done", [False, True], ids=["open", "posted"])
def test_the_hold_of_a_payment_is_left_to_it(books: Books, is_done: bool) -> None:
    """Nobody posts, voids or expires it, and what it moved is not undone here: the other bank's books have it too."""
    books.add({"name": "ours", "owner": "0", "kind": "settlement", "currency": "EUR"})
    payment = PlacePayment(ALICE, uid(), books.numbers["alice"], books.numbers["ours"], 100, "EUR", "north/195")
    books.do(payment)
    if is_done:
        books.do(CommitPayment(SWITCH_ACTOR, payment.id, 7))
    position = books.position
    for command in (
        PostHold(TELLER, payment.id),
        PostHold(ALICE, payment.id),
        ReleaseHold(TELLER, payment.id, int(HoldState.voided)),
        ReleaseHold(BANK_ACTOR, payment.id, int(HoldState.expired)),
    ):
        assert books.do(command, NOW_US + 1_000 * DAY_US).status is Status.hold_of_payment
    assert books.position == position
    assert books.do(ReverseMoney(TELLER, uid(), payment.id)).status is Status.original_not_reversible


# --- Reversals -------------------------------------------------------------------------------------------------------
# 100 from alice to bob, who then has 500; `before` was reversed already, `bob` is left on bob's account
REVERSALS = """
who    original before bob amount answer
teller transfer 0      500 0      ok
teller transfer 0      500 100    ok
teller transfer 0      500 40     ok
teller transfer 0      500 101    exceeds_original
teller transfer 40     460 60     ok
teller transfer 40     460 0      ok
teller transfer 40     460 61     exceeds_original
teller transfer 100    400 0      exceeds_original
teller transfer 100    400 1      exceeds_original
teller transfer 0      99  100    exceeds_available
teller transfer 0      99  99     ok
alice  transfer 0      500 0      original_unknown
bob    transfer 0      500 0      original_unknown
teller nothing  0      500 0      original_unknown
teller refusal  0      500 0      original_unknown
teller reversal 0      500 0      original_not_reversible
teller hold     0      500 0      original_not_reversible
teller voided   0      500 0      original_not_reversible
teller posted   0      500 0      ok
teller posted   0      500 40     ok
teller posted   0      500 41     exceeds_original
"""


def original(books: Books, kind: str) -> bytes:
    """Make what is to be reversed; give its id."""
    id = uid()
    numbers = books.numbers
    move = MoveMoney(ALICE, 3, id, numbers["alice"], numbers["bob"], 100, "EUR")
    if kind in ("hold", "voided", "posted"):
        command = hold(books)
        books.do(command)
        if kind != "hold":
            books.do(end("bob", "void" if kind == "voided" else "part", command.id))
        return command.id
    if kind == "refusal":
        books.do(replace(move, amount=9_999))
    elif kind != "nothing":
        books.do(move)
    if kind != "reversal":
        return id
    reversal = ReverseMoney(TELLER, uid(), id, 10)
    assert books.do(reversal).status is Status.ok
    return reversal.id


@pytest.mark.parametrize("row", rows(REVERSALS), ids=lambda row: " ".join(row.values()))
def test_reversals_are_done_as_the_table_says(books: Books, row: dict[str, str]) -> None:
    """By a cashier, never more than was moved in all, never a reversal; a posted hold counts as what it moved."""
    id = original(books, row["original"])
    if int(row["before"]):
        assert books.do(ReverseMoney(TELLER, uid(), id, int(row["before"]))).status is Status.ok
    bob = books.named("bob")
    bob.debits_posted += bob.balance - int(row["bob"])
    verdict = books.do(ReverseMoney(actor(row["who"]), uid(), id, int(row["amount"]), "sorry"))
    assert verdict.status is status(row["answer"])
    if verdict.status is Status.ok:
        moved = 40 if row["original"] == "posted" else 100
        amount = int(row["amount"]) or moved - int(row["before"])
        assert (verdict.entry.amount, verdict.entry.original, verdict.entry.kind) == (amount, id, 7)
        assert (verdict.entry.debit, verdict.entry.credit) == (books.numbers["bob"], books.numbers["alice"])
        assert books.reversed_minor(id) == amount + int(row["before"])
    else:
        assert type(verdict.entry) is Refused and verdict.entry.operation == "reverse"


def test_a_reversal_is_not_a_payment_of_the_payee(books: Books) -> None:
    """It counts against no limit of the account that it takes from, and gives nothing back to the payer's day."""
    id = original(books, "transfer")
    books.named("bob").limit_payment = books.named("bob").limit_day = 1
    assert books.do(ReverseMoney(TELLER, uid(), id)).status is Status.ok
    assert books.named("bob").day_spent == 0 and books.named("alice").day_spent == 100


@pytest.mark.parametrize(
    ("name", "state", "answer"),
    [
        ("bob", "closed", "debit_account_closed"),
        ("alice", "closed", "credit_account_closed"),
        ("bob", "frozen", "debit_account_frozen"),
        ("bob", "debit_frozen", "debit_account_frozen"),
        ("alice", "frozen", "credit_account_frozen"),
        ("alice", "debit_frozen", "ok"),
    ],
)
def test_a_reversal_needs_accounts_that_may_move(books: Books, name: str, state: str, answer: str) -> None:
    """Freezes and closings hold for reversals as well, in the same order."""
    id = original(books, "transfer")
    books.named(name).state = int(AccountState[state])
    assert books.do(ReverseMoney(TELLER, uid(), id)).status is status(answer)


def test_several_reversals_in_a_row_never_exceed_the_original(books: Books) -> None:
    """Each sees those judged before it, committed or not."""
    id = original(books, "transfer")
    answers = [books.do(ReverseMoney(TELLER, uid(), id, 30)).status for _ in range(5)]
    assert answers == [Status.ok] * 3 + [Status.exceeds_original] * 2
    verdict = books.do(ReverseMoney(TELLER, uid(), id, 30))
    assert dict(verdict.facts) == {"left_minor": 10}
    assert books.named("alice").balance == 990


@pytest.mark.parametrize("first", [0, 30], ids=["the rest", "a part"])
def test_a_reversal_is_repeatable_by_its_id(books: Books, first: int) -> None:
    """Also one of "all that is left", after which nothing is left; other content is id_reused."""
    id = original(books, "transfer")
    books.do(ReverseMoney(TELLER, uid(), id, 25))
    command = ReverseMoney(TELLER, uid(), id, first)
    done = books.do(command)
    again = books.do(command)
    assert again.replayed and (again.status, again.entry, again.position) == (Status.ok, done.entry, done.position)
    for change in ({"amount": 31}, {"original": uid()}, {"reference": "x"}, {"actor": ACTORS["administrator"]}):
        assert books.do(replace(command, **change)).status is Status.id_reused


def test_a_refused_reversal_repeats(books: Books) -> None:
    """As any refusal does."""
    command = ReverseMoney(TELLER, uid(), uid())
    books.do(command)
    again = books.do(command)
    assert again.replayed and again.status is Status.original_unknown
    assert books.do(replace(command, amount=5)).status is Status.id_reused


def test_a_reversal_cannot_take_the_id_of_something_else(books: Books) -> None:
    """Ids are one space."""
    command = hold(books)
    books.do(command)
    assert books.do(ReverseMoney(TELLER, command.id, uid())).status is Status.id_reused
