"""Reading the tables: histories with cursors and filters, balances of the past, statements, lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fortress.errors import MessageInvalid, StoreCorrupt
from fortress.ledger import queries as queries_module
from fortress.ledger.commands import (
    AskApproval,
    ChangeAccount,
    ChangeCustomer,
    ChangeKey,
    DecideApproval,
    EndSession,
    PostHold,
    ReleaseHold,
)
from fortress.ledger.entries import HoldPlaced, Posted, decode
from fortress.ledger.model import BANK_ACTOR, INTEGER_MAX, HoldState, account_number
from fortress.ledger.queries import Filters, Queries, counterparty_of
from tests.ledger.books_fixture import ADMINISTRATOR, ALICE, KEY, NOW_US, TELLER, odd_id, uid
from tests.ledger.ledger_fixture import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path)
    made.found()
    yield made
    made.close()


@pytest.fixture
def queries(ledger: Ledger) -> Queries:
    return Queries(ledger.engine.store)


def name_of(entry: Any) -> str:
    return type(entry).__name__


def history(queries: Queries, account: int, limit: int = 100, **more: Any) -> tuple[list[int], int]:
    found, cursor = queries.history(account, limit=limit, kind_of=name_of, **more)
    return [position for position, _ in found], cursor


# --- Histories -------------------------------------------------------------------------------------------------------
def test_a_history_is_the_account_s_own_newest_first(ledger: Ledger, queries: Queries) -> None:
    """Opening, deposits, payments, holds and their ends; nothing of anybody else."""
    a, b, c = ledger.account(100), ledger.account(), ledger.account(50)
    ledger.pay(a, b, 10)
    ledger.pay(c, b, 10)
    held = ledger.hold(a, b, 5)
    ledger.do(PostHold(ALICE, held.entry.id))
    ledger.commit()
    found, cursor = queries.history(a, limit=100, kind_of=name_of)
    assert [name_of(entry) for _, entry in found] == ["Posted", "HoldPlaced", "Posted", "Posted", "AccountOpened"]
    assert cursor == 0
    assert history(queries, account_number(5)) == ([], 0)


@pytest.mark.parametrize("limit", [1, 2, 7, 300])
def test_pages_follow_each_other(ledger: Ledger, queries: Queries, limit: int) -> None:
    """Each page begins where the one before ended; together they are the whole history."""
    a, b = ledger.account(10_000), ledger.account()
    for _ in range(20):
        ledger.pay(a, b, 1)
    ledger.commit()
    whole = history(queries, a)[0]
    pages: list[int] = []
    cursor = 0
    while True:
        page, cursor = history(queries, a, limit, cursor=cursor)
        pages += page
        if not cursor:
            break
    assert pages == whole and len(whole) == 22


def test_a_cursor_of_somebody_else_is_refused(ledger: Ledger, queries: Queries) -> None:
    """It would lead into the entries of another account."""
    a, b, c = ledger.account(100), ledger.account(100), ledger.account()
    foreign = ledger.pay(b, c, 10).position
    mine = ledger.pay(a, c, 10).position
    ledger.commit()
    assert history(queries, a, cursor=mine)[0][0] == mine
    for cursor in (foreign, 1, 10**6):
        with pytest.raises(MessageInvalid, match="cursor"):
            history(queries, a, cursor=cursor)


FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [30, 20, 10]),
    ({"amount_min": 20}, [30, 20]),
    ({"amount_max": 20}, [20, 10]),
    ({"amount_min": 15, "amount_max": 25}, [20]),
    ({"text": "RENT"}, [20]),
    ({"text": "none"}, []),
    ({"kinds": frozenset({"Posted"})}, [30, 20, 10]),
    ({"kinds": frozenset({"HoldPlaced"})}, []),
    ({"from": 1}, [30, 20]),
    ({"to": 1}, [10]),
    ({"from": 1, "to": 2}, [20]),
    ({"counterparty": 0}, [30, 20, 10]),
    ({"counterparty": 1}, [30, 10]),
    ({"counterparty": 2}, [20]),
]


@pytest.mark.parametrize(("chosen", "amounts"), FILTERS, ids=lambda value: str(value))
def test_filters_choose_entries(ledger: Ledger, queries: Queries, chosen: dict[str, Any], amounts: list[int]) -> None:
    """By kind, time, amount, the other side, and words of the reference."""
    a, b, c = ledger.account(1_000), ledger.account(), ledger.account()
    paid = [
        ledger.pay(a, b, 10, reference="food").entry,
        ledger.pay(a, c, 20, reference="the rent").entry,
        ledger.pay(a, b, 30).entry,
    ]
    ledger.commit()
    times = {name: paid[chosen[name]].time_us for name in ("from", "to") if name in chosen}
    rest = {name: value for name, value in chosen.items() if name not in ("from", "to", "counterparty")}
    other = (0, b, c)[chosen.get("counterparty", 0)]
    filters = Filters(from_us=times.get("from", 0), to_us=times.get("to", 0), counterparty=other, **rest)
    found, _ = queries.history(a, limit=10, kind_of=name_of, filters=filters)
    assert [e.amount for _, e in found if isinstance(e, Posted) and e.kind == 3] == amounts


def test_a_search_ends_where_time_says_so(ledger: Ledger, queries: Queries) -> None:
    """Nothing older is looked at, and there is no next page."""
    a, b = ledger.account(1_000), ledger.account()
    for _ in range(5):
        last = ledger.pay(a, b, 1)
    ledger.commit()
    found, cursor = history(queries, a, filters=Filters(from_us=last.entry.time_us))
    assert (found, cursor) == ([last.position], 0)


def test_a_long_search_comes_back_part_full(ledger: Ledger, queries: Queries, monkeypatch: Any) -> None:
    """With the cursor to go on from."""
    monkeypatch.setattr(queries_module, "SCAN_ROWS_MAX", 5)
    a, b = ledger.account(1_000), ledger.account()
    first = ledger.pay(a, b, 77)
    for _ in range(12):
        ledger.pay(a, b, 1)
    ledger.commit()
    filters = Filters(amount_min=77, amount_max=77)
    found, cursor, pages = [], 0, 0
    while True:
        page, cursor = history(queries, a, cursor=cursor, filters=filters)
        found += page
        pages += 1
        if not cursor:
            break
    assert found == [first.position] and pages == 3


def test_the_other_side_of_what_moves_no_money_is_nobody() -> None:
    """Only transfers and holds have two sides."""
    placed = HoldPlaced(1, b"", 3, 4, 5, "EUR", 9, "", 5, 5, 1)
    assert (counterparty_of(placed, 3), counterparty_of(placed, 4)) == (4, 3)
    assert counterparty_of(object(), 3) == 0


# --- The past --------------------------------------------------------------------------------------------------------
def test_the_past_is_found_in_a_long_history(ledger: Ledger, queries: Queries) -> None:
    """Balances after any position, entered by marks, over more entries than one walk reads."""
    a, b = ledger.account(10_000), ledger.account()
    ledger.commit()
    truth = {}
    for number in range(1, 601):
        truth[ledger.pay(a, b, 1).position] = 10_000 - number
        if number % 100 == 0:
            ledger.commit()
    positions = sorted(truth)
    for position in [*positions[::37], positions[0], positions[-1]]:
        assert queries.balance_at(a, position) == truth[position]
        assert queries.balance_at(b, position) == 10_000 - truth[position]
        assert history(queries, a, 1, as_of=position)[0] == [position]
    assert queries.balance_at(a, positions[-1] + 50) == 9_400
    assert queries.balance_at(a, 0) == queries.balance_at(a, 1) == 0
    assert history(queries, a, as_of=1) == ([], 0)
    assert len(queries.span(a, positions[99], positions[199])) == 100


def test_a_position_is_found_by_time(ledger: Ledger, queries: Queries) -> None:
    """The last that was written up to then, by the time of its record."""
    a = ledger.account()
    ledger.commit()
    times = []
    for _ in range(6):
        ledger.deposit(a, 1)
        ledger.commit()
        last = ledger.engine.last
        assert last is not None
        times.append((last.time_us, ledger.state.position))
    for time_us, position in times:
        assert queries.position_at(time_us) == position
        assert queries.position_at(time_us - 1) == position - 1
    assert queries.position_at(0) == 0
    assert queries.position_at(2**62) == times[-1][1]


def test_what_was_held_in_the_past(ledger: Ledger, queries: Queries) -> None:
    """Placed by then and not ended by then; two entries of one time are told apart by position."""
    a, b = ledger.account(1_000), ledger.account()
    opened = ledger.state.position
    first = ledger.hold(a, b, 10)
    second = ledger.hold(a, b, 5)
    ledger.do(PostHold(ALICE, first.entry.id))
    ended = ledger.state.position
    ledger.do(ReleaseHold(TELLER, second.entry.id, 3))
    ledger.commit()
    now_us = ledger.now_us
    held = [queries.held_at(a, now_us, position) for position in range(opened, ended + 2)]
    assert held == [(0, 0), (10, 0), (15, 0), (5, 0), (0, 0)]
    assert queries.held_at(b, now_us, ended) == (0, 5)
    assert queries.held_at(a, first.entry.time_us - 1, ended) == (0, 0)


def test_a_span_too_long_for_a_statement_is_refused(ledger: Ledger, queries: Queries, monkeypatch: Any) -> None:
    """The reader asks for a shorter one."""
    a, b = ledger.account(1_000), ledger.account()
    for _ in range(10):
        ledger.pay(a, b, 1)
    ledger.commit()
    end = ledger.state.position
    monkeypatch.setattr(queries_module, "STATEMENT_ROWS_MAX", 5)
    assert [position for position, _ in queries.span(a, end - 5, end)] == list(range(end - 4, end + 1))
    assert queries.span(a, 0, 0) == []
    with pytest.raises(MessageInvalid, match="shorter"):
        queries.span(a, 0, end)


def test_a_broken_chain_is_damage(ledger: Ledger, queries: Queries) -> None:
    """Never a history that ends early."""
    a = ledger.account(5)
    ledger.commit()
    for position in (1_000_000, ledger.state.position + 5):
        sql = "UPDATE counters SET counters = json_set(counters, '$[8]', ?) WHERE number = ?"
        ledger.engine.store._writer.execute(sql, (position, a))
        with pytest.raises(StoreCorrupt, match="chain"):
            history(queries, a)


# --- Single things and lists -----------------------------------------------------------------------------------------
def test_things_are_found_by_their_id(ledger: Ledger, queries: Queries) -> None:
    """Entries, holds; None for what is not there."""
    a, b = ledger.account(100), ledger.account()
    paid, held = ledger.pay(a, b, 1), ledger.hold(a, b, 5)
    ledger.commit()
    assert queries.entry_of(paid.entry.id) == (paid.position, paid.entry)
    assert queries.entry_of(odd_id()) is None
    found = queries.hold_of(held.entry.id)
    assert found is not None and found.amount == 5
    assert queries.hold_of(odd_id()) is None
    assert decode(queries.entry_at(paid.position)) == paid.entry
    with pytest.raises(StoreCorrupt, match="position 999"):
        queries.entry_at(999)


def test_open_holds_are_listed_for_both_sides(ledger: Ledger, queries: Queries) -> None:
    """And those that are due, the oldest first."""
    a, b = ledger.account(100), ledger.account()
    late, early = ledger.hold(a, b, 5, lasts_us=9_000), ledger.hold(a, b, 6, lasts_us=5_000)
    ended = ledger.hold(a, b, 7)
    ledger.do(PostHold(ALICE, ended.entry.id))
    ledger.commit()
    for number in (a, b):
        assert {hold.amount for hold in queries.open_holds(number)} == {5, 6}
    ids = [early.entry.id, late.entry.id]
    assert queries.due_holds(ledger.now_us + 10**6, 5) == ids
    assert queries.due_holds(ledger.now_us + 10**6, 1) == ids[:1]
    assert queries.due_holds(early.entry.expires_us - 1, 5) == []


def test_accounts_and_customers_are_paged(ledger: Ledger, queries: Queries) -> None:
    """By number."""
    numbers = [ledger.account() for _ in range(5)]
    for name in (b"bob", b"carol"):
        ledger.customer(name)
    ledger.do(ChangeCustomer(BANK_ACTOR, ledger.uid(), 3, "erase"))
    ledger.commit()
    assert queries.accounts_of(1) == numbers
    assert [a.number for a in queries.all_accounts(numbers[1], 2)] == numbers[2:4]
    assert repr(queries.all_accounts(numbers[1], 1)[0]) == repr(ledger.named(numbers[2]))
    assert [c.customer for c in queries.customers(1, 5)] == [2, 3]
    assert queries.erased_handles() == [b"carol".ljust(16)]


def test_ended_sessions_are_listed_while_they_matter(ledger: Ledger, queries: Queries) -> None:
    """Until their tokens have expired."""
    for session, until in ((b"s" * 16, 50), (b"t" * 16, 60)):
        ledger.do(EndSession(ALICE, 1, session, until))
    ledger.commit()
    assert queries.ended_sessions(50) == [(b"t" * 16, 60)]


def test_who_gave_up_a_key_is_listed_with_the_time(ledger: Ledger, queries: Queries) -> None:
    """Locked or with another key, since a time; other acts on a customer do not count."""
    assert queries.keys_given_up(0) == []
    times = []
    for command in (
        ChangeKey(ALICE, 1, KEY),
        ChangeCustomer(ADMINISTRATOR, ledger.uid(), 1, "lock", (), 9),
        ChangeCustomer(ADMINISTRATOR, uid(NOW_US + 77_000), 1, "unlock", (), 0),
    ):
        assert ledger.do(command).status == 0
        ledger.commit()
        times.append(ledger.engine.last.time_us)
    assert queries.keys_given_up(0) == [(1, times[0]), (1, times[1])]
    assert queries.keys_given_up(times[1]) == [(1, times[1])]
    assert queries.keys_given_up(times[2] + 1) == []


def test_approved_acts_are_listed(ledger: Ledger, queries: Queries) -> None:
    """Those approved, not those that wait or were declined."""
    asks = [AskApproval(ADMINISTRATOR, ledger.uid(), f"act {n}", b"c", "s") for n in range(3)]
    for ask in asks:
        ledger.do(ask)
    for ask, is_approved in zip(asks, (True, False), strict=False):
        ledger.do(DecideApproval(BANK_ACTOR, ask.id, is_approved))
    ledger.commit()
    assert queries.approved_acts() == [(asks[0].id, "act 0", b"c", 9)]


def test_the_trail_is_paged_newest_first(ledger: Ledger, queries: Queries) -> None:
    """Acts and refusals, no money."""
    a, b = ledger.account(10), ledger.account()
    refused = ledger.pay(a, b, 500)
    ledger.do(ChangeAccount(ADMINISTRATOR, ledger.uid(), a, "freeze"))
    ledger.commit()
    page, cursor = queries.trail(0, 2)
    assert [name_of(entry) for _, entry in page] == ["AccountChanged", "Refused"] and page[1][0] == refused.position
    rest, end = queries.trail(cursor, 100)
    assert end == 0 and all(position < refused.position for position, _ in rest)
    assert not any(type(entry) is Posted for _, entry in page + rest)


def test_the_trial_balance_adds_up(ledger: Ledger, queries: Queries) -> None:
    """By currency: accounts, debits, credits, held, and what open holds add up to; those that ended do not count."""
    a, b = ledger.account(100), ledger.account()
    ledger.account(7, currency="USD")
    ledger.hold(a, b, 30)
    ended = ledger.hold(a, b, 5)
    ledger.commit()
    assert queries.trial_balance() == [("EUR", 3, 100, 100, 35, 35), ("USD", 2, 7, 7, 0, 0)]
    ledger.do(ReleaseHold(TELLER, ended.entry.id, int(HoldState.voided)))
    ledger.commit()
    assert queries.trial_balance()[0] == ("EUR", 3, 100, 100, 30, 30)


def test_the_trial_balance_of_very_much_money(ledger: Ledger, queries: Queries) -> None:
    """Accounts together may hold more than the database can count in one integer."""
    a = ledger.account(INTEGER_MAX)
    b = ledger.account()
    for _ in range(3):
        ledger.pay(a, b, 2**61)
    ledger.commit()
    moved = INTEGER_MAX + 3 * 2**61
    assert queries.trial_balance()[0] == ("EUR", 3, moved, moved, 0, 0)


def test_accounts_in_use_lately_come_first(ledger: Ledger, queries: Queries) -> None:
    """A start warms its memory with them."""
    a, b, c = ledger.account(100), ledger.account(), ledger.account()
    ledger.pay(a, b, 10)
    ledger.commit()
    assert set(queries.latest_accounts(2)) == {a, b}
    assert queries.latest_accounts(3)[2] == c
