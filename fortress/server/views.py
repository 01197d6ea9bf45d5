"""How accounts, holds and entries look to those who ask: from the ledger's nouns to the protocol's rows."""

from __future__ import annotations

from typing import Any

from fortress.errors import STATUS_SENTENCES, Status, status_name
from fortress.ledger.entries import (
    AccountChanged,
    AccountOpened,
    AnyEntry,
    HoldPlaced,
    HoldReleased,
    Posted,
    Refused,
)
from fortress.ledger.model import Account, AccountKind, AccountState, Hold, HoldState, TransferKind
from fortress.ledger.queries import counterparty_of
from fortress.ledger.rules import spent
from fortress.protocol.accounts import AccountView
from fortress.protocol.money import HoldView
from fortress.protocol.reading import HistoryRow, TransferView

_KINDS = {int(kind): kind.name for kind in AccountKind}
_STATES = {int(state): state.name for state in AccountState}
_TRANSFERS = {int(kind): kind.name for kind in TransferKind}
_HOLD_STATES = {int(state): state.name for state in HoldState}


def account_view(account: Account, owner: str, now_us: int) -> AccountView:
    """Show an account as it is judged now."""
    a = account
    balance = a.credits_posted - a.debits_posted
    left_day = left_month = None
    if a.limit_day is not None or a.limit_month is not None:
        day_spent, month_spent = spent(a, now_us)
        left_day = None if a.limit_day is None else max(0, a.limit_day - day_spent)
        left_month = None if a.limit_month is None else max(0, a.limit_month - month_spent)
    return AccountView(
        a.number,
        owner,
        _KINDS[a.kind],
        a.currency,
        _STATES[a.state],
        balance,
        balance - a.debits_pending,
        a.debits_pending,
        a.credits_pending,
        a.debits_posted,
        a.credits_posted,
        a.floor,
        a.limit_payment,
        a.limit_day,
        a.limit_month,
        left_day,
        left_month,
        a.signed_orders_only,
        a.opened_us,
        a.version,
        a.last_position,
    )


def hold_view(hold: Hold, now_us: int) -> HoldView:
    """Show a hold; one whose time is over shows as expired even before the bank has written that down.

    The hold of a payment between banks has no end, which is told as 0.
    """
    is_over = hold.state == HoldState.open and now_us >= hold.expires_us
    state = HoldState.expired.name if is_over else _HOLD_STATES[hold.state]
    return HoldView(
        hold.id,
        hold.debit,
        hold.credit,
        hold.amount,
        hold.posted,
        hold.currency,
        state,
        0 if hold.is_payment else hold.expires_us,
        hold.reference,
    )


def kind_of(entry: AnyEntry) -> str:
    """Name what an entry is, for people and filters."""
    if isinstance(entry, Posted):
        return _TRANSFERS[entry.kind]
    if isinstance(entry, HoldPlaced):
        return "hold"
    if isinstance(entry, HoldReleased):
        return f"hold_{_HOLD_STATES[entry.state]}"
    if isinstance(entry, AccountOpened):
        return "opened"
    if isinstance(entry, AccountChanged):
        return entry.act
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in type(entry).__name__).lstrip("_")


def history_row(position: int, entry: Any, account: int) -> HistoryRow:
    """Show an entry from an account's side: money going out is negative."""
    kind = type(entry)
    amount, balance = 0, None
    if kind is Posted:
        is_debit = entry.debit == account
        amount = -entry.amount if is_debit else entry.amount
        balance = entry.debit_balance if is_debit else entry.credit_balance
    elif kind in (HoldPlaced, HoldReleased):
        amount = -entry.amount if (entry.debit == account) == (kind is HoldPlaced) else entry.amount
    return HistoryRow(
        position,
        entry.time_us,
        entry.id,
        kind_of(entry),
        amount,
        balance,
        counterparty_of(entry, account),
        getattr(entry, "reference", ""),
        getattr(entry, "value_date", ""),
        getattr(entry, "counterparty", ""),
    )


def transfer_view(position: int, entry: Any, hold: Hold | None) -> TransferView:
    """Show what became of an id: a transfer done, a hold and its state, or a refusal and its reason."""
    kind = type(entry)
    if kind is Refused:
        sentence = STATUS_SENTENCES[Status(entry.status)]
        return TransferView(
            entry.id,
            entry.status,
            "refused",
            entry.account,
            0,
            0,
            "",
            status_name(entry.status),
            sentence,
            position,
            entry.time_us,
        )
    state = "done" if kind is Posted else _HOLD_STATES[hold.state] if hold is not None else "open"
    return TransferView(
        entry.id,
        0,
        state,
        entry.debit,
        entry.credit,
        entry.amount,
        entry.currency,
        kind_of(entry),
        entry.reference,
        position,
        entry.time_us,
    )
