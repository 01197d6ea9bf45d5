"""Judge what a gateway's administrators do: banks added, suspended and resumed, their accounts, windows closed.

The same law as :mod:`fortress.ledger.rules`: look, decide, change nothing.
"""

from __future__ import annotations

from typing import Any

from fortress.errors import Status
from fortress.ledger.commands import ChangeBank, CloseWindow, OpenAccount
from fortress.ledger.entries import BankChanged, WindowClosed
from fortress.ledger.model import BANK, INTEGER_MAX, AccountKind, BankState, MemberBank
from fortress.ledger.rules import Books, Verdict, content_digest, refuse, replay_act

_OK = Status.ok

# act -> state it starts from, state it leads to
BANK_ACTS: dict[str, tuple[int, int]] = {
    "suspend": (BankState.active, BankState.suspended),
    "resume": (BankState.suspended, BankState.active),
}


def judge_change_bank(books: Books, command: ChangeBank, now_us: int) -> Verdict:
    """Judge the adding, suspending or resuming of a bank.

    Adding a bank that is there changes its authority, or nothing when that is the same or left out; its state stays.
    """
    c = command
    digest = content_digest("change_bank", c.bank, c.act, c.authority)

    def is_same(entry: Any) -> bool:
        if type(entry) is not BankChanged or (entry.bank, entry.act) != (c.bank, c.act):
            return False
        return c.act != "add" or entry.authority == c.authority

    replayed = replay_act(books, c, is_same, digest)
    if replayed is not None:
        return replayed
    bank = books.banks.get(c.bank)
    if c.act == "add":
        if bank is not None and c.authority in (b"", bank.authority):
            return Verdict(_OK, None, replayed=True, position=bank.position)
        status = _OK if c.authority else Status.bank_unknown
    else:
        status = _check_state(bank, c.act)
    if status is not _OK:
        return refuse(c, status, digest, now_us, operation=f"{c.act}_bank")
    state = int(BankState.active) if bank is None else bank.state
    if c.act != "add":
        state = int(BANK_ACTS[c.act][1])
    number = len(books.banks) + 1 if bank is None else bank.number
    authority = c.authority or (b"" if bank is None else bank.authority)
    return Verdict(_OK, BankChanged(now_us, c.id, number, c.bank, c.act, state, authority, c.actor.customer))


def _check_state(bank: MemberBank | None, act: str) -> Status:
    if bank is None:
        return Status.bank_unknown
    return _OK if bank.state == BANK_ACTS[act][0] else Status.bank_state_conflict


def check_opening(books: Books, command: OpenAccount) -> Status:
    """Check what payments between banks go through: one settlement account, one position a bank, in each currency."""
    if "administrator" not in command.actor.roles:
        return Status.account_kind_not_allowed
    if command.kind == AccountKind.settlement:
        if command.owner != BANK:
            return Status.account_kind_not_allowed
        if command.floor is not None:
            return Status.floor_invalid
        return Status.account_limit_reached if command.currency in books.settlements else _OK
    if not 0 < -command.owner <= len(books.banks):  # banks are numbered from 1 without gaps
        return Status.bank_unknown
    if not is_floor(command.floor):
        return Status.floor_invalid
    return Status.account_limit_reached if (-command.owner, command.currency) in books.positions else _OK


def is_floor(floor: int | None) -> bool:
    """Tell whether available may be kept from falling below this: zero, an overdraft, a net debit cap."""
    return floor is not None and -INTEGER_MAX <= floor <= 0


def judge_close_window(books: Books, command: CloseWindow, now_us: int) -> Verdict:
    """Judge the end of the open settlement window, which must not be empty; that all is settled the caller knows."""
    c = command
    digest = content_digest("close_window", c.to)

    def is_same(entry: Any) -> bool:
        return type(entry) is WindowClosed and entry.to == c.to

    replayed = replay_act(books, c, is_same, digest)
    if replayed is not None:
        return replayed
    last = books.windows
    if c.to <= last.to:
        facts = (("after", last.to),)
        return refuse(c, Status.window_not_settled, digest, now_us, operation="close_window", facts=facts)
    return Verdict(_OK, WindowClosed(now_us, c.id, last.number + 1, last.to, c.to, c.actor.customer))
