"""Applying money's entries: what they change, and what stops the node."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fortress.errors import BooksBroken
from fortress.ledger.delta import Delta
from fortress.ledger.entries import HoldPlaced, HoldReleased, Posted
from fortress.ledger.memory import Memory
from fortress.ledger.model import DAY_US, Account, account_number
from fortress.ledger.posting import Posting, spend, unspend
from tests.ledger.books_fixture import NOW_US, uid

A, B, C = account_number(1), account_number(2), account_number(3)


class Posts:
    """Appliers over accounts A with 100, B and C with nothing; positions go on."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.delta = Delta()
        for number, balance in ((A, 100), (B, 0), (C, 0)):
            self.memory.accounts.put(number, Account(number, 1, 1, "EUR", credits_posted=balance))
        self.posting = Posting(self.memory)
        self.position = 0
        self.hold_id = uid()

    def named(self, number: int) -> Account:
        account = self.memory.account(number)
        assert account is not None
        return account

    def apply(self, entry: Any) -> None:
        self.position += 1
        appliers = {
            Posted: self.posting.apply_posted,
            HoldPlaced: self.posting.apply_hold_placed,
            HoldReleased: self.posting.apply_hold_released,
        }
        applier: Any = appliers[type(entry)]
        applier(entry, self.position, self.delta)

    def posted(self, amount: int, *, after: tuple[int, int], debit: int = A, credit: int = B, **more: Any) -> Posted:
        id, kind = more.pop("id", None) or uid(), more.pop("kind", 3)
        return Posted(more.pop("time_us", NOW_US), id, debit, credit, amount, "EUR", kind, "", *after, 1, **more)

    def placed(self, amount: int = 40, *, after: tuple[int, int] = (40, 40), time_us: int = NOW_US) -> HoldPlaced:
        return HoldPlaced(time_us, self.hold_id, A, B, amount, "EUR", NOW_US + DAY_US, "r", *after, 1)

    def released(self, amount: int = 40, *, after: tuple[int, int] = (0, 0), debit: int = A) -> HoldReleased:
        return HoldReleased(NOW_US, self.hold_id, 3, debit, B, amount, *after, 1)


@pytest.fixture
def posts() -> Posts:
    return Posts()


def test_money_moves_and_is_linked(posts: Posts) -> None:
    """Counters, chain, id and limits, and what the tables must learn."""
    entry = posts.posted(30, after=(70, 30))
    posts.apply(entry)
    posts.apply(posts.posted(5, debit=B, credit=A, after=(25, 75)))
    a, b = posts.named(A), posts.named(B)
    assert (a.debits_posted, a.credits_posted, b.debits_posted, b.credits_posted) == (30, 105, 5, 30)
    assert posts.delta.chain == [(A, 0, B, 0), (B, 1, A, 1)]
    assert (posts.delta.ids[0], posts.delta.id_positions[0]) == (entry.id, 1)
    assert posts.memory.known(entry.id) == (1, entry)
    assert (a.day_spent, a.month_spent, b.day_spent) == (30, 30, 5)
    assert posts.delta.trail == []


@pytest.mark.parametrize(("kind", "spent"), [(1, 0), (2, 30), (3, 30), (4, 30), (5, 0), (6, 0), (7, 0)])
def test_only_what_a_customer_sends_counts_against_limits(posts: Posts, kind: int, spent: int) -> None:
    """Transfers, withdrawals and payments out."""
    posts.apply(posts.posted(30, after=(70, 30), kind=kind))
    assert posts.named(A).day_spent == spent


@pytest.mark.parametrize("after", [(71, 30), (70, 31), (70, 29)])
def test_balances_that_do_not_continue_stop_the_node(posts: Posts, after: tuple[int, int]) -> None:
    """Both are checked."""
    with pytest.raises(BooksBroken, match="do not continue"):
        posts.apply(posts.posted(30, after=after))


def test_an_account_that_does_not_exist_stops_the_node(posts: Posts) -> None:
    """On either side, for every kind."""
    for entry in (
        posts.posted(1, after=(0, 0), credit=5),
        posts.posted(1, after=(0, 0), debit=5),
        posts.released(debit=5),
        HoldPlaced(NOW_US, uid(), A, 5, 1, "EUR", 9, "", 1, 1, 1),
    ):
        with pytest.raises(BooksBroken, match="does not exist"):
            posts.apply(entry)


def test_reversals_add_up(posts: Posts) -> None:
    """By their original."""
    original = uid()
    for amount, after in ((3, (97, 3)), (4, (93, 7))):
        posts.apply(posts.posted(amount, after=after, original=original))
    assert posts.memory.reversed_minor(original) == 7
    assert posts.delta.reversals == {original: (7, 2)}


def test_a_hold_is_placed_and_posted(posts: Posts) -> None:
    """Pending sums rise and fall, the rest is free again; the hold's id stays that of its placing."""
    posts.apply(posts.placed())
    assert posts.named(A).debits_pending == posts.named(B).credits_pending == 40
    posts.apply(posts.posted(25, after=(75, 25), id=posts.hold_id, held=40))
    hold = posts.memory.hold(posts.hold_id)
    assert hold is not None and (hold.state, hold.posted, hold.position) == (2, 25, 2)
    assert posts.named(A).debits_pending == posts.named(B).credits_pending == 0
    assert (posts.delta.ids, posts.delta.id_positions) == ([posts.hold_id], [1])
    assert posts.delta.holds == {posts.hold_id: hold}
    assert posts.named(A).day_spent == posts.named(A).month_spent == 25


def test_a_hold_is_placed_and_released(posts: Posts) -> None:
    """As if it had never been, but for the chain."""
    posts.apply(posts.placed())
    posts.apply(posts.released())
    a = posts.named(A)
    assert (a.debits_pending, a.day_spent, a.month_spent, a.entry_count, a.last_position) == (0, 0, 0, 2, 2)
    hold = posts.memory.hold(posts.hold_id)
    assert hold is not None and hold.state == 3


@pytest.mark.parametrize(
    "wrong",
    [
        lambda p: p.posted(41, after=(59, 41), id=p.hold_id, held=40),
        lambda p: p.posted(40, after=(60, 40), id=p.hold_id, held=41),
        lambda p: p.posted(40, after=(60, 40), id=uid(), held=40),
        lambda p: p.posted(40, after=(60, 40), id=p.hold_id, held=40, credit=C),
        lambda p: p.released(39, after=(1, 1)),
        lambda p: p.released(40, after=(1, 0)),
        lambda p: p.released(40, after=(0, 1)),
        lambda p: p.released(debit=C),
    ],
    ids=["over", "other sum", "other id", "other account", "a part", "debit's sum", "credit's sum", "other payer"],
)
def test_a_hold_that_is_not_ended_as_placed_stops_the_node(posts: Posts, wrong: Any) -> None:
    """Amount, accounts and pending sums are those of the placing."""
    posts.apply(posts.placed())
    with pytest.raises(BooksBroken):
        posts.apply(wrong(posts))


def test_a_hold_ends_once(posts: Posts) -> None:
    """A second end stops the node, whichever the two are."""
    posts.apply(posts.placed())
    posts.apply(posts.released())
    for again in (posts.released(after=(-40, -40)), posts.posted(40, after=(60, 40), id=posts.hold_id, held=40)):
        with pytest.raises(BooksBroken, match="not open"):
            posts.apply(again)
        posts.named(A).debits_posted = posts.named(B).credits_posted = 0


def test_pending_sums_never_fall_below_nothing(posts: Posts) -> None:
    """A hold taken that was not counted stops the node."""
    posts.apply(posts.placed())
    posts.named(A).debits_pending = 39
    with pytest.raises(BooksBroken, match="more than was held"):
        posts.apply(posts.posted(40, after=(60, 40), id=posts.hold_id, held=40))


def test_wrong_sums_at_the_placing_stop_the_node(posts: Posts) -> None:
    """They continue those before."""
    for after in ((41, 40), (40, 41)):
        with pytest.raises(BooksBroken, match="held sums"):
            Posts().apply(posts.placed(after=after))


# --- Limits over midnight --------------------------------------------------------------------------------------------
EVENING = 1_701_388_799_000_000  # 2023-11-30 23:59:59
MORNING = EVENING + 2_000_000  # the next day, and the next month


@pytest.mark.parametrize(
    ("spends", "now", "day", "month"),
    [
        ([(EVENING, 10)], EVENING, 10, 10),
        ([(EVENING, 10), (EVENING, 5)], EVENING, 15, 15),
        ([(EVENING, 10), (MORNING, 5)], MORNING, 5, 5),
        ([(MORNING - DAY_US, 10), (EVENING, 5)], EVENING, 15, 15),
        ([(EVENING - DAY_US, 10), (EVENING, 5)], EVENING, 5, 15),
        ([(EVENING - 40 * DAY_US, 10), (EVENING, 5)], EVENING, 5, 5),
    ],
)
def test_spending_is_counted_by_day_and_month(spends: list[tuple[int, int]], now: int, day: int, month: int) -> None:
    """A new day begins at nothing, a new month as well."""
    account = Account(A, 1, 1, "EUR")
    for time_us, amount in spends:
        spend(account, amount, time_us)
    assert (account.day, account.day_spent, account.month_spent) == (now // DAY_US, day, month)


@pytest.mark.parametrize(
    ("later", "day", "month"),
    [
        ([], 0, 0),
        ([(EVENING, 5)], 5, 5),
        ([(MORNING, 5)], 5, 5),
    ],
    ids=["at once", "with more spent", "on the next day"],
)
def test_what_a_hold_gives_back_goes_to_its_own_day(later: list[tuple[int, int]], day: int, month: int) -> None:
    """Once the account has spent on a later day, that day's sum stays as it is."""
    account = Account(A, 1, 1, "EUR")
    for time_us, amount in [(EVENING, 10), *later]:
        spend(account, amount, time_us)
    unspend(account, 10, EVENING)
    assert (account.day_spent, account.month_spent) == (day, month)


def test_a_hold_of_an_earlier_day_of_the_month_gives_back_to_the_month() -> None:
    """The day is over, the month is not."""
    account = Account(A, 1, 1, "EUR")
    spend(account, 10, EVENING - DAY_US)
    spend(account, 5, EVENING)
    unspend(account, 10, EVENING - DAY_US)
    assert (account.day_spent, account.month_spent) == (5, 5)


@given(st.lists(st.tuples(st.integers(0, 3 * DAY_US), st.integers(1, 50), st.booleans()), max_size=30))
def test_sums_spent_are_never_negative(steps: list[tuple[int, int, bool]]) -> None:
    """Whatever is spent and given back, in whatever order, over midnights and the end of a month."""
    account = Account(A, 1, 1, "EUR")
    held: list[tuple[int, int]] = []
    now = EVENING - DAY_US
    for wait, amount, is_given_back in steps:
        now += wait
        if is_given_back and held:
            unspend(account, *held.pop())
        else:
            spend(account, amount, now)
            held.append((amount, now))
        assert account.day_spent >= 0 and account.month_spent >= account.day_spent
    for pair in held:
        unspend(account, *pair)
    assert account.day_spent == account.month_spent == 0
