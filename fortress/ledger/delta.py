"""What one record changes in the tables, gathered while its entries are applied to the working state.

The working state runs ahead of what is committed, and the tables may hold only what is: so a delta takes its rows
when its record is closed (:meth:`Delta.freeze`), not when they are written. The tables that every transfer changes get
theirs as finished text then, which the tables' thread only joins: what it does with the interpreter lock held would
stop the event loop for as long.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from operator import add
from typing import TYPE_CHECKING, Any

import msgspec

from fortress.errors import BooksBroken
from fortress.ledger.memory import ID_SIZE_BYTES

if TYPE_CHECKING:
    from fortress.ledger.merkle import Tile
    from fortress.ledger.model import Account, Approval, Customer, Hold, Invitation, MemberBank

MARK_EVERY = 256  # an account's every 256th entry is marked, so that old entries are found without an index of all
Row = tuple[Any, ...]

_encode = msgspec.json.Encoder().encode


class Delta:
    """The changes of one record.

    Attributes:
        entries: canonical bytes of its entries, in order.
        size_bytes: of all entries together.
        chain: for each entry its account, that account's entry before, the other account, its entry before; or zeros.
        ids: that come to be known, each with the position of its entry at the same place in ``id_positions``.
        touched: accounts whose counters changed.

    Made by :meth:`freeze`: JSON items without their brackets, to be joined with those of other records.

    Attributes:
        entry_rows: for each entry its ``chain`` row and where its bytes lie, counted from the engine's first.
        entry_bytes: all entries end to end; ``entry_offset`` is where they begin.
        id_rows: positions of ``id_bytes``, the ids end to end.
        counter_rows: "account": [its counters].
        rows: what the other tables get, by table and key.
    """

    __slots__ = (
        "accounts",
        "approvals",
        "banks",
        "chain",
        "count",
        "counter_rows",
        "customers",
        "entries",
        "entry_bytes",
        "entry_offset",
        "entry_rows",
        "first_position",
        "hash",
        "holds",
        "id_bytes",
        "id_positions",
        "id_rows",
        "ids",
        "invitations",
        "lsn",
        "marks",
        "reversals",
        "rows",
        "sessions",
        "size_bytes",
        "tiles",
        "time_us",
        "touched",
        "trail",
        "windows",
    )

    def __init__(self) -> None:
        self.lsn = 0
        self.first_position = 0
        self.count = 0
        self.time_us = 0
        self.hash = b""
        self.entries: list[bytes] = []
        self.size_bytes = 0
        self.chain: list[tuple[int, int, int, int]] = []
        self.ids: list[bytes] = []
        self.id_positions: list[int] = []
        self.marks: list[tuple[int, int]] = []
        self.trail: list[int] = []
        self.sessions: list[tuple[bytes, int, int]] = []
        self.tiles: list[Tile] = []
        self.reversals: dict[bytes, tuple[int, int]] = {}  # original -> sum reversed, position of the last
        self.touched: dict[int, Account] = {}
        self.accounts: dict[int, Account] = {}
        self.holds: dict[bytes, Hold] = {}
        self.customers: dict[int, Customer] = {}
        self.approvals: dict[bytes, Approval] = {}
        self.invitations: dict[bytes, Invitation] = {}
        self.banks: dict[int, MemberBank] = {}
        self.windows: list[tuple[int, int, int, int, int]] = []
        self.rows: dict[str, dict[Any, Row]] = {}
        self.entry_rows = self.id_rows = self.counter_rows = ""
        self.entry_bytes = self.id_bytes = b""
        self.entry_offset = 0

    def add(self, entry: bytes) -> None:
        """Add an entry's canonical bytes."""
        self.entries.append(entry)
        self.size_bytes += len(entry)

    def link(self, account: Account, position: int) -> int:
        """Link an entry to the account's one before it; return that one's position."""
        before = account.last_position
        account.last_position = position
        account.entry_count = count = account.entry_count + 1
        if count % MARK_EVERY == 0:
            self.marks.append((account.number, position))
        self.touched[account.number] = account
        return before

    def note(self, position: int, account: Account | None = None) -> None:
        """Put an entry that moves no money into the trail, and into its account's chain if it has one."""
        number, before = (0, 0) if account is None else (account.number, self.link(account, position))
        self.chain.append((number, before, 0, 0))
        self.trail.append(position)

    def freeze(self, *, lsn: int, first_position: int, time_us: int, hash: bytes, entry_offset: int) -> None:
        """Take the rows as they are after this record; later entries no longer show in them.

        Args:
            entry_offset: how many bytes of entries came before in all.

        Raises:
            BooksBroken: what was noted does not fit the entries.
        """
        self.lsn, self.first_position, self.count = lsn, first_position, len(self.entries)
        self.time_us, self.hash = time_us, hash
        self._freeze_entries(entry_offset)
        self._freeze_rest()

    def _freeze_entries(self, entry_offset: int) -> None:
        """Write the rows of the tables that every transfer changes, with as few steps a row as can be."""
        sizes = list(map(len, self.entries))
        self.id_bytes = b"".join(self.ids)
        if len(self.chain) != len(sizes):
            raise BooksBroken(f"record {self.lsn} links {len(self.chain)} of {len(sizes)} entries")
        if len(self.id_bytes) != ID_SIZE_BYTES * len(self.id_positions):
            raise BooksBroken("an id is not of 16 bytes")  # the statement cuts them apart by their length
        places = zip(accumulate(sizes, initial=entry_offset), sizes, strict=False)
        self.entry_rows = _items(list(map(add, self.chain, places)))
        self.entry_bytes = b"".join(self.entries)
        self.entry_offset = entry_offset
        self.id_rows = _items(self.id_positions)
        self.counter_rows = _items(_counters(self.touched.values()))
        self.touched = {}

    def _freeze_rest(self) -> None:
        rows = self.rows
        if self.accounts:
            rows["accounts"] = {a.number: _account_row(a) for a in self.accounts.values()}
        if self.holds:
            rows["holds"] = {h.id: _hold_row(h) for h in self.holds.values()}
        if self.customers:
            rows["customers"] = {c.customer: _customer_row(c) for c in self.customers.values()}
        if self.approvals:
            rows["approvals"] = {a.id: _approval_row(a) for a in self.approvals.values()}
        if self.invitations:
            rows["invitations"] = {i.digest: _invitation_row(i) for i in self.invitations.values()}
        if self.reversals:
            rows["reversals"] = {
                original: (original.hex(), total, position) for original, (total, position) in self.reversals.items()
            }
        if self.sessions:
            rows["sessions_ended"] = {s: (s.hex(), customer, until) for s, customer, until in self.sessions}
        if self.banks:
            rows["banks"] = {
                b.number: (b.number, b.bank, b.state, b.authority.hex(), b.added_us, b.position)
                for b in self.banks.values()
            }
        if self.windows:
            rows["windows"] = {window[0]: window for window in self.windows}
        self.accounts = {}
        self.holds = {}
        self.customers = {}
        self.approvals = {}
        self.invitations = {}
        self.reversals = {}
        self.banks = {}


def _items(rows: object) -> str:
    """Write a list or dict as JSON without its brackets."""
    return _encode(rows)[1:-1].decode()


def _counters(accounts: Iterable[Account]) -> dict[int, Row]:
    """Make the rows of the counters table, with their columns as the view ``balances`` names them."""
    return {
        a.number: (
            a.debits_posted,
            a.credits_posted,
            a.debits_pending,
            a.credits_pending,
            a.day,
            a.day_spent,
            a.month,
            a.month_spent,
            a.last_position,
            a.entry_count,
        )
        for a in accounts
    }


def _account_row(a: Account) -> Row:
    return (
        a.number,
        a.owner,
        a.kind,
        a.currency,
        a.state,
        a.floor,
        a.limit_payment,
        a.limit_day,
        a.limit_month,
        int(a.signed_orders_only),
        a.opened_us,
        a.version,
    )


def _hold_row(h: Hold) -> Row:
    return (
        h.id.hex(),
        h.debit,
        h.credit,
        h.amount,
        h.currency,
        h.placed_us,
        h.expires_us,
        h.reference,
        h.state,
        h.posted,
        h.position,
        h.sequence,
        h.reason,
    )


def _customer_row(c: Customer) -> Row:
    return (
        c.customer,
        c.handle.hex(),
        " ".join(c.roles),
        c.salt.hex(),
        c.memory_kib,
        c.iterations,
        c.lanes,
        c.sealed_public.hex(),
        c.signing.hex(),
        c.profile.hex(),
        c.created_us,
        c.state,
        c.locked_until_us,
        c.default_account,
        c.account_count,
        c.open_account_count,
        c.position,
    )


def _approval_row(a: Approval) -> Row:
    return (a.id.hex(), a.operation, a.command.hex(), a.summary, a.asked_by, a.asked_us, a.state, a.position)


def _invitation_row(i: Invitation) -> Row:
    return (i.digest.hex(), i.role, i.expires_us, int(i.used), i.position)
