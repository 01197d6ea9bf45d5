"""How accounts, holds and entries look to those who ask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as changed

from fortress.errors import Status
from fortress.ledger.entries import (
    AccountChanged,
    AccountOpened,
    BankChanged,
    HoldPlaced,
    HoldReleased,
    LedgerOpened,
    LedgerRestored,
    Posted,
    Refused,
    SessionEnded,
    WindowClosed,
)
from fortress.ledger.model import DAY_US, NEVER_US, Account, Hold, HoldState, TransferKind
from fortress.server.views import account_view, history_row, hold_view, kind_of, transfer_view

NOW_US = 1_700_000_000_000_000  # 2023-11-14
ID = bytes(range(16))
PAID = Posted(NOW_US, ID, 1, 2, 300, "EUR", int(TransferKind.transfer), "rent", 700, 1300, 5, value_date="2023-11-14")
PLACED = HoldPlaced(NOW_US, ID, 1, 2, 300, "EUR", NOW_US + DAY_US, "deposit", 300, 300, 5)
VOIDED = HoldReleased(NOW_US, ID, int(HoldState.voided), 1, 2, 300, 0, 0, 6)


def hold(state: HoldState = HoldState.open, posted: int = 0) -> Hold:
    return Hold(ID, 1, 2, 300, "EUR", NOW_US, NOW_US + DAY_US, "deposit", int(state), posted, 9)


def test_an_account_shows_its_sums() -> None:
    """Balance is credits less debits, available the balance less what is held."""
    account = Account(
        1, 7, 1, "EUR", debits_posted=300, credits_posted=1000, debits_pending=50, credits_pending=20, last_position=8
    )
    view = account_view(account, "alice", NOW_US)
    assert (view.number, view.owner, view.kind, view.state, view.position) == (1, "alice", "customer", "open", 8)
    assert (view.balance_minor, view.available_minor, view.held_minor, view.incoming_minor) == (700, 650, 50, 20)
    assert (view.left_day_minor, view.left_month_minor) == (None, None)


@pytest.mark.parametrize(
    ("day_limit", "month_limit", "later_us", "left"),
    [
        (100, 500, 0, (40, 200)),
        (50, None, 0, (0, None)),
        (None, 200, 0, (None, 0)),
        (100, 500, DAY_US, (100, 200)),
        (100, 500, 31 * DAY_US, (100, 500)),
    ],
    ids=["both", "day used up", "month used up", "next day", "next month"],
)
def test_an_account_shows_what_is_left_of_its_limits(
    day_limit: int | None, month_limit: int | None, later_us: int, left: tuple[int | None, int | None]
) -> None:
    """What was spent counts for its day and month only, and nothing is left below zero."""
    account = Account(1, 7, 1, "EUR", limit_day=day_limit, limit_month=month_limit)
    account.day, account.day_spent = NOW_US // DAY_US, 60
    account.month, account.month_spent = 2023 * 12 + 10, 300
    view = account_view(account, "alice", NOW_US + later_us)
    assert (view.left_day_minor, view.left_month_minor) == left


def test_a_hold_whose_time_is_over_shows_as_expired() -> None:
    """Nobody is told that money is held when it cannot be taken any more; final states stay what they are."""
    assert hold_view(hold(), NOW_US).state == "open"
    assert hold_view(hold(), NOW_US + DAY_US).state == "expired"
    view = hold_view(hold(HoldState.posted, 120), NOW_US + DAY_US)
    assert (view.state, view.posted_minor, view.amount_minor) == ("posted", 120, 300)


def test_the_hold_of_a_payment_shows_no_end() -> None:
    """It has none, however late it is."""
    view = hold_view(replace(hold(), expires_us=NEVER_US), NOW_US + 1_000 * DAY_US)
    assert (view.state, view.expires_us) == ("open", 0)


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (PAID, "transfer"),
        (PLACED, "hold"),
        (VOIDED, "hold_voided"),
        (AccountOpened(NOW_US, ID, 1, 7, 1, "EUR", 0, 7), "opened"),
        (AccountChanged(NOW_US, ID, 1, "freeze", 3, 0, None, None, None, False, 2, 9), "freeze"),
        (LedgerOpened(NOW_US, "bank-a", ("EUR",)), "ledger_opened"),
        (LedgerRestored(NOW_US, 7), "ledger_restored"),
        (SessionEnded(NOW_US, 7, ID, NOW_US), "session_ended"),
        (changed(PAID, kind=int(TransferKind.payment_out)), "payment_out"),
        (changed(PAID, kind=int(TransferKind.clearing)), "clearing"),
        (BankChanged(NOW_US, ID, 1, "north", "add", 1, b"", 9), "bank_changed"),
        (WindowClosed(NOW_US, ID, 1, 0, 9, 9), "window_closed"),
    ],
)
def test_every_entry_has_a_name(entry: Any, kind: str) -> None:
    """The same names serve rows, filters and the trail."""
    assert kind_of(entry) == kind


@pytest.mark.parametrize(
    ("entry", "account", "amount", "balance", "counterparty"),
    [
        (PAID, 1, -300, 700, 2),
        (PAID, 2, 300, 1300, 1),
        (PLACED, 1, -300, None, 2),
        (PLACED, 2, 300, None, 1),
        (VOIDED, 1, 300, None, 2),
        (VOIDED, 2, -300, None, 1),
        (AccountOpened(NOW_US, ID, 1, 7, 1, "EUR", 0, 7), 1, 0, None, 0),
    ],
    ids=["payer", "payee", "held from", "held for", "freed for", "freed from", "opened"],
)
def test_a_row_is_seen_from_its_account(
    entry: Any, account: int, amount: int, balance: int | None, counterparty: int
) -> None:
    """Money going out is negative; only money that moved has a balance after it."""
    row = history_row(5, entry, account)
    assert (row.position, row.id, row.amount_minor, row.balance_minor) == (5, ID, amount, balance)
    assert row.counterparty == counterparty


def test_a_row_carries_reference_and_value_date() -> None:
    """What was written on the payment is read on both sides."""
    row = history_row(5, PAID, 2)
    assert (row.reference, row.value_date, row.kind) == ("rent", "2023-11-14", "transfer")


def test_a_transfer_that_was_done_shows_as_done() -> None:
    """The id leads to what was moved."""
    view = transfer_view(5, PAID, None)
    assert (view.state, view.status, view.amount_minor, view.kind, view.position) == ("done", 0, 300, "transfer", 5)


@pytest.mark.parametrize("state", list(HoldState), ids=lambda state: str(state.name))
def test_a_hold_shows_its_present_state(state: HoldState) -> None:
    """The id of a hold tells what became of it."""
    assert transfer_view(5, PLACED, hold(state)).state == state.name


def test_a_hold_nobody_knows_more_of_is_open() -> None:
    """The entry alone says that money was reserved."""
    assert transfer_view(5, PLACED, None).state == "open"


def test_a_refusal_shows_its_reason() -> None:
    """A remembered refusal is told by number, name and sentence."""
    refused = Refused(NOW_US, ID, int(Status.exceeds_available), b"d" * 16, "transfer", 1, (), 5)
    view = transfer_view(5, refused, None)
    assert (view.state, view.status, view.kind) == ("refused", int(Status.exceeds_available), "exceeds_available")
    assert view.reference == "the amount is over what is available"
    assert (view.amount_minor, view.debit) == (0, 1)
