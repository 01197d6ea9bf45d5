"""Count the books again from their entries alone, and say what every table ought to hold.

For :mod:`fortress.ledger.audit`. It shares no code with what keeps the books (:mod:`fortress.ledger.posting`,
:mod:`fortress.ledger.administration`), so that a mistake there does not excuse itself here; even months are counted
otherwise. Rows that never change again go out chunk by chunk (:class:`Chunk`); in memory stay one object for each
account, customer, open hold, waiting approval, bank and window, and the sums of reversals, invitations and ended
sessions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from datetime import date
from functools import lru_cache
from typing import Any

from fortress.ledger import entries as e
from fortress.ledger.entries import AnyEntry

Row = tuple[Any, ...]
Problem = Callable[[str, int], None]
"""Told what is wrong, and at which position."""

_DAY_US = 86_400_000_000
_EPOCH = date(1970, 1, 1).toordinal()
_MARKED = 256
_SPENDING = (2, 3, 4)  # withdrawal, transfer, payment out
_CLOSED, _ERASED = 4, 3
_POSITION = 3  # kind of the accounts in which a gateway keeps what banks owe
_CLEARING = 8  # kind of what is posted between them
_DEFAULT = 13  # column of customers: default account, then accounts ever, accounts open, position
BLOB_SIZE_BYTES_KEPT = 32


def shortened(value: Any) -> Any:
    """Put the hash of a long blob in its place, to compare without keeping it."""
    is_long = isinstance(value, bytes) and len(value) > BLOB_SIZE_BYTES_KEPT
    return hashlib.sha256(value).digest() if is_long else value


class Chunk:
    """Rows of some records that will never change again, by table."""

    __slots__ = ("approvals", "entries", "holds", "ids", "marks", "trail")

    def __init__(self) -> None:
        self.entries: list[Row] = []
        self.trail: list[Row] = []
        self.marks: list[Row] = []
        self.ids: dict[bytes, Row] = {}
        self.holds: dict[bytes, Row] = {}
        self.approvals: dict[bytes, Row] = {}


class _Account:
    __slots__ = ("counters", "count", "currency", "floor", "last", "months", "opened", "owner", "state", "terms")

    def __init__(self, entry: e.AccountOpened) -> None:
        self.opened = (entry.number, entry.owner, entry.kind, entry.currency)
        self.owner, self.currency, self.floor = entry.owner, entry.currency, entry.floor
        self.state = 1
        self.terms: Row = (1, entry.floor, None, None, None, 0, entry.time_us, 1)
        self.counters = [0, 0, 0, 0]  # debits and credits posted, debits and credits pending
        self.months = [0, 0, 0, 0]  # day, spent on it, month, spent in it
        self.last = self.count = 0

    def change(self, entry: e.AccountChanged) -> None:
        limits = (entry.limit_payment, entry.limit_day, entry.limit_month, int(entry.signed_orders_only))
        self.state, self.floor = entry.state, entry.floor
        self.terms = (entry.state, entry.floor, *limits, self.terms[6], entry.version)

    def spend(self, amount: int, time_us: int) -> None:
        months, day = self.months, time_us // _DAY_US
        if months[0] != day:
            month = _month(day)
            self.months = months = [day, 0, month, months[3] if months[2] == month else 0]
        months[1] += amount
        months[3] += amount

    def give_back(self, amount: int, time_us: int) -> None:
        months, day = self.months, time_us // _DAY_US
        months[1] -= amount if months[0] == day else 0
        months[3] -= amount if months[2] == _month(day) else 0

    def link(self, position: int, marks: list[Row]) -> int:
        """Link an entry to the account's one before it; give that one's position."""
        before, self.last = self.last, position
        self.count = count = self.count + 1
        if not count % _MARKED:
            marks.append((self.opened[0], position))
        return before


@lru_cache(maxsize=64)
def _month(day: int) -> int:
    """Give a day's month as the balances table counts them, by the standard library's calendar."""
    moment = date.fromordinal(_EPOCH + day)
    return moment.year * 12 + moment.month - 1


class _Money:
    """Accounts and holds, and what ended of them."""

    def __init__(self, problem: Problem, chunk: Chunk) -> None:
        self._problem = problem
        self.chunk = chunk
        self.accounts: dict[int, _Account] = {}
        self.holds: dict[bytes, tuple[int, e.HoldPlaced]] = {}
        self.reversals: dict[bytes, Row] = {}

    def link_pair(self, entry: Any, position: int) -> Row:
        """Link an entry into the chains of both its accounts; give both with their entries before."""
        debit, credit, marks = self.accounts.get(entry.debit), self.accounts.get(entry.credit), self.chunk.marks
        before_debit = 0 if debit is None else debit.link(position, marks)
        before_credit = 0 if credit is None else credit.link(position, marks)
        return (entry.debit, before_debit, entry.credit, before_credit)

    def take_posted(self, entry: e.Posted, position: int) -> None:
        pair = self._pair(entry, entry.currency, position)
        if pair is None:
            return
        debit, credit = pair
        counters, other = debit.counters, credit.counters
        counters[0] += entry.amount
        other[1] += entry.amount
        balance, other_balance = counters[1] - counters[0], other[1] - other[0]
        if balance != entry.debit_balance or other_balance != entry.credit_balance:
            stated = f"{entry.debit_balance} and {entry.credit_balance}"
            self._problem(f"states balances {stated}, which are {balance} and {other_balance}", position)
        if entry.held:
            sequence = position if entry.kind == _CLEARING else entry.gateway_sequence
            self._end_hold(entry, 2, entry.held, (entry.amount, position, sequence, 0))
        else:
            if entry.kind in _SPENDING:
                debit.spend(entry.amount, entry.time_us)
            if debit.floor is not None and balance - counters[2] < debit.floor:
                self._problem(f"takes account {entry.debit} below its floor", position)
        if entry.original:
            before = self.reversals.get(entry.original, (b"", 0, 0))[1]
            self.reversals[entry.original] = (entry.original, before + entry.amount, position)

    def take_placed(self, entry: e.HoldPlaced, position: int) -> None:
        pair = self._pair(entry, entry.currency, position)
        if pair is None:
            return
        debit, credit = pair
        debit.counters[2] += entry.amount
        credit.counters[3] += entry.amount
        self._check_pending(entry, debit, credit, position)
        debit.spend(entry.amount, entry.time_us)
        available = debit.counters[1] - debit.counters[0] - debit.counters[2]
        lowest = -(2**63) if debit.opened[2] == _POSITION else 0  # what a customer has held is never an overdraft
        if debit.floor is not None and available < max(debit.floor, lowest):
            self._problem(f"holds more than account {entry.debit} has", position)
        self.holds[entry.id] = (position, entry)

    def take_released(self, entry: e.HoldReleased, position: int) -> None:
        pair = self._pair(entry, "", position)
        if pair is not None:
            self._end_hold(entry, entry.state, entry.amount, (0, position, 0, entry.reason))
            self._check_pending(entry, *pair, position)

    def _pair(self, entry: Any, currency: str, position: int) -> tuple[_Account, _Account] | None:
        debit, credit = self.accounts.get(entry.debit), self.accounts.get(entry.credit)
        if debit is None or credit is None or debit is credit:
            self._problem("names an account that does not exist, or one twice", position)
            return None
        if entry.amount <= 0:
            self._problem(f"moves {entry.amount}", position)
        if debit.currency != credit.currency or currency not in ("", debit.currency):
            self._problem(f"moves {currency} between {debit.currency} and {credit.currency}", position)
        return debit, credit

    def _check_pending(self, entry: Any, debit: _Account, credit: _Account, position: int) -> None:
        if (debit.counters[2], credit.counters[3]) != (entry.debit_pending, entry.credit_pending):
            self._problem("states held sums that are others", position)

    def _end_hold(self, entry: Any, state: int, held: int, end: tuple[int, int, int, int]) -> None:
        """End an open hold; ``end``: what was posted of it, where, the gateway's sequence, the reason."""
        posted, position = end[:2]
        found = self.holds.pop(entry.id, None)
        if found is None or (found[1].debit, found[1].credit, found[1].amount) != (entry.debit, entry.credit, held):
            self._problem(f"ends hold {entry.id.hex()}, which is not open, or another", position)
            return
        hold = found[1]
        debit = self.accounts[hold.debit]
        debit.counters[2] -= held
        self.accounts[hold.credit].counters[3] -= held
        debit.give_back(held - posted, hold.time_us)
        self.chunk.holds[hold.id] = _hold_row(hold, state, *end)


class _People:
    """Customers, what they were invited by, what waits for approval, which sessions ended."""

    def __init__(self, problem: Problem, chunk: Chunk) -> None:
        self._problem = problem
        self.chunk = chunk
        self.customers: dict[int, list[Any]] = {}
        self.approvals: dict[bytes, tuple[int, e.ApprovalAsked]] = {}
        self.invitations: dict[bytes, Row] = {}
        self.sessions: dict[bytes, Row] = {}

    def count_account(self, owner: int, number: int, opened: int, position: int, *, is_new: bool) -> None:
        """Count an account that was opened (1) or closed (-1) with its owner; banks count none."""
        customer = self.customers.get(owner)
        if owner <= 0 or (customer is None and self._unknown(owner, position)):
            return
        assert customer is not None
        customer[_DEFAULT] = customer[_DEFAULT] or number
        customer[_DEFAULT + 1] += is_new
        customer[_DEFAULT + 2] += opened
        customer[_DEFAULT + 3] = position

    def take_created(self, entry: e.CustomerCreated, position: int) -> None:
        key = (entry.salt, entry.memory_kib, entry.iterations, entry.lanes, entry.sealed_public, entry.signing)
        if entry.customer in self.customers:
            self._problem(f"makes customer {entry.customer} again", position)
        row = (entry.customer, entry.handle, " ".join(entry.roles), *key, entry.profile, entry.time_us)
        self.customers[entry.customer] = [*map(shortened, row), 1, 0, 0, 0, 0, position]
        invitation = self.invitations.get(entry.invitation)
        if invitation is not None:
            self.invitations[entry.invitation] = (*invitation[:3], 1, position)

    def take_key(self, entry: e.KeyChanged, position: int) -> None:
        key = (entry.salt, entry.memory_kib, entry.iterations, entry.lanes, entry.sealed_public, entry.signing)
        self._set(entry.customer, position, dict(zip(range(3, 9), key, strict=True)))

    def take_profile(self, entry: e.ProfileChanged, position: int) -> None:
        self._set(entry.customer, position, {9: entry.profile})

    def take_person(self, entry: e.CustomerChanged, position: int) -> None:
        gone = {7: b"", 9: b""} if entry.state == _ERASED else {}
        roles = " ".join(entry.roles)
        self._set(entry.customer, position, {2: roles, 11: entry.state, 12: entry.locked_until_us, **gone})

    def _set(self, number: int, position: int, values: dict[int, Any]) -> None:
        customer = self.customers.get(number)
        if customer is None:
            self._unknown(number, position)
            return
        for index, value in values.items():
            customer[index] = shortened(value)
        customer[-1] = position

    def _unknown(self, number: int, position: int) -> bool:
        self._problem(f"names customer {number}, who does not exist", position)
        return True

    def take_invited(self, entry: e.Invited, position: int) -> None:
        self.invitations[entry.digest] = (entry.digest, entry.role, entry.expires_us, 0, position)

    def take_asked(self, entry: e.ApprovalAsked, position: int) -> None:
        self.approvals[entry.id] = (position, entry)

    def take_decided(self, entry: e.ApprovalDecided, position: int) -> None:
        found = self.approvals.pop(entry.id, None)
        if found is None:
            self._problem(f"decides approval {entry.id.hex()}, which does not wait", position)
            return
        self.chunk.approvals[entry.id] = _approval_row(found[1], 2 if entry.approved else 3, position)

    def take_ended(self, entry: e.SessionEnded, position: int) -> None:
        self.sessions[entry.session] = (entry.session, entry.customer, entry.until_us)


class _Banks:
    """A gateway's banks and the windows in which they settle."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.banks: dict[int, Row] = {}
        self.windows: dict[int, Row] = {}

    def take_bank(self, entry: e.BankChanged, position: int) -> None:
        number, known = entry.number, self.banks.get(entry.number)
        if (known is None and number != len(self.banks) + 1) or (known is not None and known[1] != entry.bank):
            self._problem(f"gives bank {entry.bank} the number {number}, which is not its own", position)
        added_us = entry.time_us if known is None else known[4]
        self.banks[number] = (number, entry.bank, entry.state, shortened(entry.authority), added_us, position)

    def take_window(self, entry: e.WindowClosed, position: int) -> None:
        number, last = entry.number, self.windows.get(entry.number - 1, (0,) * 5)
        if number != len(self.windows) + 1 or entry.after != last[2] or entry.to <= entry.after:
            self._problem(f"closes window {number}, which does not follow the one before it", position)
        self.windows[number] = (number, entry.after, entry.to, entry.time_us, position)


class Recount:
    """The books as the entries taken so far make them.

    Args:
        problem: told what an entry says that cannot be; the counting goes on.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._chunk = Chunk()
        self._money = money = _Money(problem, self._chunk)
        self._people = people = _People(problem, self._chunk)
        self._banks = banks = _Banks(problem)
        self._time_us = 0
        self.counts = dict.fromkeys(("ids", "marks", "trail", "holds", "approvals"), 0)
        self._takers: dict[type, Callable[[Any, int], None]] = {
            e.Posted: money.take_posted,
            e.HoldPlaced: money.take_placed,
            e.HoldReleased: money.take_released,
            e.AccountOpened: self._take_opened,
            e.AccountChanged: self._take_changed,
            e.CustomerCreated: people.take_created,
            e.KeyChanged: people.take_key,
            e.ProfileChanged: people.take_profile,
            e.CustomerChanged: people.take_person,
            e.Invited: people.take_invited,
            e.ApprovalAsked: people.take_asked,
            e.ApprovalDecided: people.take_decided,
            e.SessionEnded: people.take_ended,
            e.BankChanged: banks.take_bank,
            e.WindowClosed: banks.take_window,
            e.LedgerOpened: self._take_ledger,
            e.LedgerRestored: lambda entry, position: None,
            e.Refused: lambda entry, position: None,
        }

    # --- Taking ----------------------------------------------------------------------------------------------------
    def take(self, entry: AnyEntry, position: int, blob: bytes) -> None:
        """Count the next entry; ``blob`` is its canonical bytes."""
        if entry.time_us < self._time_us:
            self._problem("lies before the entry before it in time", position)
        self._time_us = entry.time_us
        kind, chunk = type(entry), self._chunk
        self._takers[kind](entry, position)
        if kind in e.MONEY_KINDS:
            a, a_before, b, b_before = self._money.link_pair(entry, position)
        else:
            chunk.trail.append((position,))
            a, a_before, b, b_before = self._link_act(entry, position)
        chunk.entries.append((position, a, a_before, b, b_before, blob))
        # what ends a hold or decides an approval goes under the id that began it
        is_later = getattr(entry, "held", 0) if kind is e.Posted else kind in (e.HoldReleased, e.ApprovalDecided)
        id: bytes = b"" if is_later else getattr(entry, "id", b"")
        if id:
            if id in chunk.ids:
                self._problem(f"uses id {id.hex()} again", position)
            chunk.ids[id] = (id, position)

    def _link_act(self, entry: Any, position: int) -> Row:
        is_account_s = type(entry) in (e.AccountOpened, e.AccountChanged)
        account = self._money.accounts.get(entry.number) if is_account_s else None
        if account is None:
            return (0, 0, 0, 0)
        return (entry.number, account.link(position, self._chunk.marks), 0, 0)

    def _take_opened(self, entry: e.AccountOpened, position: int) -> None:
        if entry.number in self._money.accounts:
            self._problem(f"opens account {entry.number} again", position)
        self._money.accounts[entry.number] = _Account(entry)
        self._people.count_account(entry.owner, entry.number, 1, position, is_new=True)

    def _take_changed(self, entry: e.AccountChanged, position: int) -> None:
        account = self._money.accounts.get(entry.number)
        if account is None:
            self._problem(f"changes account {entry.number}, which does not exist", position)
            return
        opened = (account.state == _CLOSED) - (entry.state == _CLOSED)
        account.change(entry)
        if opened:
            self._people.count_account(account.owner, entry.number, opened, position, is_new=False)

    def _take_ledger(self, entry: e.LedgerOpened, position: int) -> None:
        if position != 1:
            self._problem("opens the ledger again", position)

    # --- What the tables ought to hold -----------------------------------------------------------------------------
    def chunk(self) -> Chunk:
        """Take the rows that became final since the last call."""
        done = self._chunk
        for name in self.counts:
            self.counts[name] += len(getattr(done, name))
        self._chunk = self._money.chunk = self._people.chunk = Chunk()
        return done

    @property
    def reversals(self) -> dict[bytes, Row]:
        """All rows of ``reversals``."""
        return self._money.reversals

    @property
    def invitations(self) -> dict[bytes, Row]:
        """All rows of ``invitations``."""
        return self._people.invitations

    @property
    def sessions(self) -> dict[bytes, Row]:
        """All rows of ``sessions_ended``."""
        return self._people.sessions

    @property
    def accounts(self) -> Collection[int]:
        """The numbers of all accounts."""
        return self._money.accounts.keys()

    @property
    def customers(self) -> Collection[int]:
        """The numbers of all customers."""
        return self._people.customers.keys()

    def account_row(self, number: int) -> Row:
        """The row of ``accounts``; empty when there is no such account."""
        account = self._money.accounts.get(number)
        return () if account is None else (*account.opened, *account.terms)

    def balance_row(self, number: int) -> Row:
        """The row of the view ``balances``; empty when there is no such account."""
        a = self._money.accounts.get(number)
        return () if a is None else (number, *a.counters, *a.months, a.last, a.count)

    def counter_row(self, number: int) -> Row:
        """The row of ``counters``; empty when there is no such account."""
        row = self.balance_row(number)
        return row and (number, f"[{','.join(map(str, row[1:]))}]")

    def customer_row(self, number: int) -> Row:
        """The row of ``customers``, long blobs hashed; empty when there is no such customer."""
        return tuple(self._people.customers.get(number, ()))

    @property
    def banks(self) -> dict[int, Row]:
        """All rows of ``banks``, long blobs hashed."""
        return self._banks.banks

    @property
    def windows(self) -> dict[int, Row]:
        """All rows of ``windows``."""
        return self._banks.windows

    def open_holds(self) -> dict[bytes, Row]:
        """The rows of ``holds`` that are still open."""
        return {id: _hold_row(hold, 1, 0, position) for id, (position, hold) in self._money.holds.items()}

    def open_approvals(self) -> dict[bytes, Row]:
        """The rows of ``approvals`` that still wait."""
        return {id: _approval_row(asked, 1, position) for id, (position, asked) in self._people.approvals.items()}

    def sums(self) -> dict[str, list[int]]:
        """By currency: accounts, debits, credits, held, promised (minor units)."""
        found: dict[str, list[int]] = {}
        for account in self._money.accounts.values():
            sums = found.setdefault(account.currency, [0, 0, 0, 0, 0])
            sums[0] += 1
            for index, counter in enumerate(account.counters, 1):
                sums[index] += counter
        return found


def _hold_row(hold: e.HoldPlaced, state: int, posted: int, position: int, sequence: int = 0, reason: int = 0) -> Row:
    h = hold
    terms = (h.id, h.debit, h.credit, h.amount, h.currency, h.time_us, h.expires_us, h.reference)
    return (*terms, state, posted, position, sequence, reason)


def _approval_row(asked: e.ApprovalAsked, state: int, position: int) -> Row:
    a = asked
    return (a.id, a.operation, shortened(a.command), a.summary, a.actor, a.time_us, state, position)
