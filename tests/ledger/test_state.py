"""The working state: every kind of entry has its applier, positions count on, and what to read is asked here."""

from __future__ import annotations

from typing import get_args

import pytest

from fortress.ledger.commands import MoveMoney
from fortress.ledger.delta import Delta
from fortress.ledger.entries import AnyEntry, Invited, LedgerOpened, Posted
from fortress.ledger.model import Account, Customer, account_number
from fortress.ledger.rules import Books
from fortress.ledger.state import State
from tests.ledger.books_fixture import ALICE, NOW_US, odd_id, uid
from tests.ledger.ledger_fixture import Row

A, B = account_number(1), account_number(2)


def test_every_kind_of_entry_is_applied() -> None:
    """The table of appliers has a row for each."""
    assert set(State()._appliers) == set(get_args(AnyEntry))


def test_positions_count_from_one() -> None:
    """Each entry has its own."""
    state, delta = State(), Delta()
    assert state.apply(LedgerOpened(NOW_US, "a", ("EUR",)), delta) == 1
    assert state.apply(Invited(NOW_US, uid(), b"d" * 32, "customer", 9, 1), delta) == 2
    assert state.position == 2


def test_a_state_is_the_books_of_the_rules() -> None:
    """It offers all that they may see."""
    state = State()
    books: Books = state
    for name in [*Books.__annotations__, *(name for name in vars(Books) if not name.startswith("_"))]:
        assert hasattr(books, name), name


def test_what_is_missing_is_asked_here() -> None:
    """Commands, batches, entries, single accounts and customers; None when nothing is."""
    state = State()
    move = MoveMoney(ALICE, 3, odd_id(), A, B, 5, "EUR")
    wanted = state.missing(move)
    assert wanted is not None and wanted.accounts == {A, B} and wanted.ids == {move.id}
    posted = Posted(NOW_US, move.id, A, B, 5, "EUR", 3, "", 0, 5, 1)
    for found in (state.missing_for_batch([Row(move.id, A, B, 5)]), state.missing_for_entry(posted)):
        assert found is not None and found.accounts == {A, B}
    asked = state.want_account(A)
    assert asked is not None and asked.accounts == {A}
    for number in (A, B):
        state.accounts.put(number, Account(number, 1, 1, "EUR"))
    state.ids.put(move.id, None)
    assert state.missing(move) is state.missing_for_batch([Row(move.id, A, B, 5)]) is None
    assert state.missing_for_entry(posted) is state.want_account(A) is None


def test_a_customer_is_wanted_by_number_or_handle() -> None:
    """Or by both, or not at all."""
    state = State()
    handle = b"h" * 16
    wanted = state.want_customer(customer=7, handle=handle)
    assert wanted is not None and (wanted.customers, wanted.handles) == ({7}, {handle})
    assert state.want_customer() is None
    state.handles.put(handle, (7, 0))
    wanted = state.want_customer(handle=handle)
    assert wanted is not None and (wanted.customers, wanted.handles) == ({7}, set())
    state.customers.put(7, Customer(7, handle, (), b"", 1, 1, 1, b"", b"", b"", 0))
    assert state.want_customer(customer=7, handle=handle) is None


@pytest.mark.parametrize("count", [10, 300])
def test_an_entry_of_a_busy_account_is_marked(count: int) -> None:
    """Every 256th, so that its past can be entered in the middle."""
    state, delta = State(), Delta()
    for number in (A, B):
        state.accounts.put(number, Account(number, 1, 1, "EUR"))
    for n in range(1, count + 1):
        state.apply(Posted(NOW_US, uid(), A, B, 1, "EUR", 3, "", -n, n, 1), delta)
    assert delta.marks == ([(A, 256), (B, 256)] if count > 256 else [])


def test_of_many_accounts_only_those_unknown_are_wanted() -> None:
    """Numbers whose check digits are wrong exist nowhere; what memory has need not be read."""
    state = State()
    asked = state.want_accounts([A, 5])
    assert asked is not None and asked.accounts == {A}
    state.accounts.put(A, None)
    assert state.want_accounts([A]) is None
