"""What must be in memory before a command can be judged or an entry applied, and is not.

Some keys are known only once others are there (a hold names its accounts), so the caller asks again after each
filling until nothing is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fortress.ledger.commands import (
    AbortPayment,
    ChangeAccount,
    ChangeCustomer,
    ChangeKey,
    ChangeProfile,
    CommitPayment,
    CreateCustomer,
    MoveMoney,
    OpenAccount,
    PlaceHold,
    PlacePayment,
    PostHold,
    ReleaseHold,
    ReverseMoney,
)
from fortress.ledger.entries import (
    AccountChanged,
    AccountOpened,
    AnyEntry,
    CustomerChanged,
    HoldPlaced,
    HoldReleased,
    KeyChanged,
    Posted,
    ProfileChanged,
)
from fortress.ledger.memory import TIME_ORDERED, Memory, Wanted
from fortress.ledger.model import BANK, is_account_number


def missing(memory: Memory, command: Any) -> Wanted | None:
    """Tell what must be read before ``command`` can be judged; None when nothing is missing."""
    is_there = _IS_THERE.get(type(command))
    if is_there is not None and is_there(memory, command):
        return None
    wanted = Wanted(memory.turns())
    want = _FOR_COMMAND.get(type(command))
    if want is not None:
        want(memory, wanted, command)
    if hasattr(command, "id") and want is not _for_hold:
        want_id(memory, wanted, command.id)
    return wanted or None


def missing_for_batch(memory: Memory, rows: Sequence[Any]) -> Wanted | None:
    """Tell what must be read before the rows of a batch can be judged."""
    ids = [row.id for row in rows]
    if ids and memory.are_ids_told_by_time(ids):
        if memory.has_accounts({row.debit for row in rows} | {row.credit for row in rows}):
            return None
    wanted = Wanted(memory.turns())
    for row in rows:
        if memory.lacks_move(row.id, row.debit, row.credit):
            _for_move(memory, wanted, row)
            want_id(memory, wanted, row.id)
    return wanted or None


def missing_for_entry(memory: Memory, entry: AnyEntry) -> Wanted | None:
    """Tell what must be read before an entry from elsewhere (the peer, the journal) can be applied."""
    is_there = _IS_THERE.get(type(entry))
    if is_there is not None and is_there(memory, entry):
        return None
    want = _FOR_ENTRY.get(type(entry))
    if want is None:
        return None
    wanted = Wanted(memory.turns())
    want(memory, wanted, entry)
    return wanted or None


# --- Single keys -----------------------------------------------------------------------------------------------------
def want_account(memory: Memory, wanted: Wanted, number: int) -> None:
    """Want an account unless memory has it or the number's check digits say that there is none."""
    if number not in memory.accounts and is_account_number(number):
        wanted.accounts.add(number)


def want_customer(memory: Memory, wanted: Wanted, customer: int) -> None:
    """Want a customer by number; the bank itself (0) and other banks (below) are none."""
    if customer > BANK and customer not in memory.customers:
        wanted.customers.add(customer)


def want_handle(memory: Memory, wanted: Wanted, handle: bytes) -> None:
    """Want a handle, and the customer it leads to."""
    if handle not in memory.handles:
        wanted.handles.add(handle)
        return
    pair = memory.handles.get(handle)
    if pair is not None:
        want_customer(memory, wanted, pair[0])


def want_id(memory: Memory, wanted: Wanted, id: bytes) -> None:
    """Want an id unless its own time says that it is in memory or new."""
    is_new = id > memory.id_seen and id[6] & 0xF0 == TIME_ORDERED
    if id and not is_new and id not in memory.ids:
        wanted.ids.add(id)


def want_hold(memory: Memory, wanted: Wanted, id: bytes) -> None:
    """Want a hold and its accounts."""
    if id not in memory.holds:
        wanted.holds.add(id)
        return
    hold = memory.holds.get(id)
    if hold is not None:
        want_account(memory, wanted, hold.debit)
        want_account(memory, wanted, hold.credit)


# --- The legs of payments, which as a rule lack nothing: asked first, for less than the whole look -------------------
def _is_placing_there(memory: Memory, command: PlacePayment) -> bool:
    """Both accounts are in memory, and the id is new by its own time."""
    id = command.id
    is_new = id > memory.id_seen and id[6] & 0xF0 == TIME_ORDERED and id not in memory.ids
    return is_new and command.debit in memory.accounts and command.credit in memory.accounts


def _is_decision_there(memory: Memory, command: CommitPayment | AbortPayment) -> bool:
    """The hold, its accounts and the entry that placed it are in memory."""
    hold = memory.holds.get(command.id)
    if hold is None or command.id not in memory.ids:
        return False
    return hold.debit in memory.accounts and hold.credit in memory.accounts


def _is_placed_there(memory: Memory, entry: HoldPlaced) -> bool:
    return entry.debit in memory.accounts and entry.credit in memory.accounts


def _is_posted_there(memory: Memory, entry: Posted) -> bool:
    """True for one that posts a hold which is in memory; its accounts are the hold's."""
    is_held = entry.held and not entry.original and memory.holds.get(entry.id) is not None
    return bool(is_held) and entry.debit in memory.accounts and entry.credit in memory.accounts


# --- By command and by entry -----------------------------------------------------------------------------------------
def _for_move(memory: Memory, wanted: Wanted, order: Any) -> None:
    want_account(memory, wanted, order.debit)
    want_account(memory, wanted, order.credit)


def _for_hold(memory: Memory, wanted: Wanted, command: Any) -> None:
    want_hold(memory, wanted, command.id)


def _for_decision(memory: Memory, wanted: Wanted, command: Any) -> None:
    """Of a payment that was refused there is an id and no hold."""
    known = memory.ids.get(command.id)
    if known is None or type(known[1]) is HoldPlaced:
        want_hold(memory, wanted, command.id)


def _for_payment(memory: Memory, wanted: Wanted, command: PlacePayment) -> None:
    """A repeat is told what became of the hold as well; what is new has none to be read."""
    _for_move(memory, wanted, command)
    if memory.ids.get(command.id) is not None:
        want_hold(memory, wanted, command.id)


def _for_reversal(memory: Memory, wanted: Wanted, command: ReverseMoney) -> None:
    want_id(memory, wanted, command.original)
    if command.original not in memory.reversals:
        wanted.reversals.add(command.original)
    known = memory.ids.get(command.original)
    if known is None:
        return
    if type(known[1]) is Posted:
        _for_move(memory, wanted, known[1])
    elif type(known[1]) is HoldPlaced:
        want_hold(memory, wanted, command.original)


def _for_account(memory: Memory, wanted: Wanted, change: Any) -> None:
    """Closing and reopening count in the owner's open accounts."""
    want_account(memory, wanted, change.number)
    account = memory.accounts.get(change.number)
    if account is not None and change.act in ("close", "reopen"):
        want_customer(memory, wanted, account.owner)


def _for_owner(memory: Memory, wanted: Wanted, opening: Any) -> None:
    want_customer(memory, wanted, opening.owner)


def _for_handle(memory: Memory, wanted: Wanted, command: CreateCustomer) -> None:
    if command.handle not in memory.handles:
        wanted.handles.add(command.handle)


def _for_customer(memory: Memory, wanted: Wanted, change: Any) -> None:
    want_customer(memory, wanted, change.customer)


def _for_posted(memory: Memory, wanted: Wanted, entry: Posted) -> None:
    _for_move(memory, wanted, entry)
    if entry.held:
        want_hold(memory, wanted, entry.id)
    if entry.original and entry.original not in memory.reversals:
        wanted.reversals.add(entry.original)


def _for_released(memory: Memory, wanted: Wanted, entry: HoldReleased) -> None:
    _for_move(memory, wanted, entry)
    want_hold(memory, wanted, entry.id)


_IS_THERE: dict[type, Callable[[Memory, Any], bool]] = {
    PlacePayment: _is_placing_there,
    CommitPayment: _is_decision_there,
    AbortPayment: _is_decision_there,
    HoldPlaced: _is_placed_there,
    Posted: _is_posted_there,
}
Want = Callable[[Memory, Wanted, Any], None]
_FOR_COMMAND: dict[type, Want] = {
    MoveMoney: _for_move,
    PlaceHold: _for_move,
    PostHold: _for_hold,
    ReleaseHold: _for_hold,
    PlacePayment: _for_payment,
    CommitPayment: _for_decision,
    AbortPayment: _for_decision,
    ReverseMoney: _for_reversal,
    OpenAccount: _for_owner,
    ChangeAccount: _for_account,
    CreateCustomer: _for_handle,
    ChangeKey: _for_customer,
    ChangeProfile: _for_customer,
    ChangeCustomer: _for_customer,
}
_FOR_ENTRY: dict[type, Want] = {
    Posted: _for_posted,
    HoldPlaced: _for_move,
    HoldReleased: _for_released,
    AccountOpened: _for_owner,
    AccountChanged: _for_account,
    KeyChanged: _for_customer,
    ProfileChanged: _for_customer,
    CustomerChanged: _for_customer,
}
