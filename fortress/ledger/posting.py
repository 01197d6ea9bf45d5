"""Apply entries that move or hold money to the books in memory.

One of the two halves of :mod:`fortress.ledger.state`. The same functions serve the node that judges and the node that
follows or recovers, so they check as they go: balances and held sums continue, holds are open and theirs, or the
books are broken and the node stops.

Limits count a payment on the day it was promised: a transfer when it is posted, a hold when it is placed. What a hold
gives back (voided, expired, or posted in part) is given back to that day and month if they still run, and to no other.
"""

from __future__ import annotations

from typing import Any

from fortress.errors import BooksBroken
from fortress.ledger.delta import Delta
from fortress.ledger.entries import HoldPlaced, HoldReleased, Posted
from fortress.ledger.memory import Memory
from fortress.ledger.model import Account, Hold, HoldState, TransferKind, day_of, month_of

_SPENDING = frozenset((int(TransferKind.transfer), int(TransferKind.withdrawal), int(TransferKind.payment_out)))
_CLEARING = int(TransferKind.clearing)  # a gateway's decision, whose own position is its sequence
_OPEN = int(HoldState.open)
_POSTED = int(HoldState.posted)


class Posting:
    """Appliers of money's entries over one memory."""

    __slots__ = ("_accounts", "_holds", "_ids", "_reversals")

    def __init__(self, memory: Memory) -> None:
        self._accounts = memory.accounts
        self._ids = memory.ids
        self._holds = memory.holds
        self._reversals = memory.reversals

    def apply_posted(self, entry: Posted, position: int, delta: Delta) -> None:
        """Move money."""
        debit = self._accounts.get(entry.debit)
        credit = self._accounts.get(entry.credit)
        if debit is None or credit is None:
            raise _unknown_account(entry)
        amount = entry.amount
        debit.debits_posted += amount
        credit.credits_posted += amount
        if (
            debit.credits_posted - debit.debits_posted != entry.debit_balance
            or credit.credits_posted - credit.debits_posted != entry.credit_balance
        ):
            raise BooksBroken(f"the balances after position {position} do not continue the ones before")
        if entry.held:
            self._settle_hold(entry, debit, credit, position, delta)
        else:
            if entry.kind in _SPENDING:
                spend(debit, amount, entry.time_us)
            id = entry.id
            self._ids.newer[id] = (position, entry)
            delta.ids.append(id)
            delta.id_positions.append(position)
        if entry.original:
            before = self._reversals.get(entry.original)
            reversed_now = (amount if before is None else before[0] + amount, position)
            self._reversals.put(entry.original, reversed_now)
            delta.reversals[entry.original] = reversed_now
        link = delta.link
        delta.chain.append((entry.debit, link(debit, position), entry.credit, link(credit, position)))

    def _settle_hold(self, entry: Posted, debit: Account, credit: Account, position: int, delta: Delta) -> None:
        hold = self._open_hold(entry, entry.held, position)
        debit.debits_pending -= entry.held
        credit.credits_pending -= entry.held
        if debit.debits_pending < 0 or credit.credits_pending < 0 or entry.amount > entry.held:
            raise BooksBroken(f"position {position} takes more than was held")
        if entry.held != entry.amount:
            unspend(debit, entry.held - entry.amount, hold.placed_us)
        hold.state, hold.posted, hold.position = _POSTED, entry.amount, position
        hold.sequence = position if entry.kind == _CLEARING else entry.gateway_sequence
        delta.holds[hold.id] = hold

    def apply_hold_placed(self, entry: HoldPlaced, position: int, delta: Delta) -> None:
        """Reserve money."""
        debit, credit = self._pair(entry)
        debit.debits_pending += entry.amount
        credit.credits_pending += entry.amount
        _check_pending(entry, debit, credit, position)
        spend(debit, entry.amount, entry.time_us)
        e = entry
        hold = Hold(e.id, e.debit, e.credit, e.amount, e.currency, e.time_us, e.expires_us, e.reference, 1, 0, position)
        self._holds.put(e.id, hold)
        delta.holds[e.id] = hold
        self._ids.put(e.id, (position, entry))
        delta.ids.append(e.id)
        delta.id_positions.append(position)
        self._link_pair(entry, debit, credit, position, delta)

    def apply_hold_released(self, entry: HoldReleased, position: int, delta: Delta) -> None:
        """Free what was reserved."""
        debit, credit = self._pair(entry)
        hold = self._open_hold(entry, entry.amount, position)
        debit.debits_pending -= entry.amount
        credit.credits_pending -= entry.amount
        _check_pending(entry, debit, credit, position)
        unspend(debit, entry.amount, hold.placed_us)
        hold.state, hold.position, hold.reason = entry.state, position, entry.reason
        delta.holds[entry.id] = hold
        self._link_pair(entry, debit, credit, position, delta)

    def _pair(self, entry: Any) -> tuple[Account, Account]:
        debit, credit = self._accounts.get(entry.debit), self._accounts.get(entry.credit)
        if debit is None or credit is None:
            raise _unknown_account(entry)
        return debit, credit

    def _open_hold(self, entry: Any, amount: int, position: int) -> Hold:
        """Give the hold that an entry ends, which must be open and the very one that the entry describes."""
        hold = self._holds.get(entry.id)
        if hold is None or hold.state != _OPEN:
            raise BooksBroken(f"position {position} ends hold {entry.id.hex()}, which is not open")
        if (hold.debit, hold.credit, hold.amount) != (entry.debit, entry.credit, amount):
            raise BooksBroken(f"position {position} ends hold {entry.id.hex()} as another than it was placed")
        return hold

    def _link_pair(self, entry: Any, debit: Account, credit: Account, position: int, delta: Delta) -> None:
        link = delta.link
        delta.chain.append((entry.debit, link(debit, position), entry.credit, link(credit, position)))


def _unknown_account(entry: Any) -> BooksBroken:
    return BooksBroken(f"an entry names account {entry.debit} or {entry.credit}, which does not exist")


def _check_pending(entry: Any, debit: Account, credit: Account, position: int) -> None:
    if debit.debits_pending != entry.debit_pending or credit.credits_pending != entry.credit_pending:
        raise BooksBroken(f"the held sums after position {position} do not continue the ones before")


def spend(account: Account, amount: int, time_us: int) -> None:
    """Count a payment against the account's limits on its day (UTC)."""
    day = day_of(time_us)
    if account.day != day:
        month = month_of(day)
        if account.month != month:
            account.month, account.month_spent = month, 0
        account.day, account.day_spent = day, 0
    account.day_spent += amount
    account.month_spent += amount


def unspend(account: Account, amount: int, spent_us: int) -> None:
    """Give back what a hold had counted against the limits, when its day or month still runs."""
    day = day_of(spent_us)
    if account.day == day:
        account.day_spent -= amount
    if account.month == month_of(day):
        account.month_spent -= amount
