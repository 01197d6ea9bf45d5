"""Read payments between banks from the tables: what is open, what became of one, a customer's, those of a window.

Blocking, as :mod:`fortress.ledger.queries`, whose rules hold here too: what is asked for is in the tables already, and
every answer is bounded. A payment is known by its hold, which has no end; what is posted is found by the gateway's
sequence, which at the gateway itself is the position of the posting.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import merge
from typing import Any, NamedTuple

import msgspec

from fortress.ledger import entries as codec
from fortress.ledger.entries import HoldPlaced, Posted
from fortress.ledger.model import NEVER_US, Hold
from fortress.ledger.queries import SCAN_ROWS_MAX, Found, Queries

_json = msgspec.json.Encoder()
_HALVES = "sum({0} >> 32), sum({0} & 0xffffffff)"  # together they may be over the database's largest integer


class PaymentFound(NamedTuple):
    """A payment of this ledger: where it was placed, the entry of that, and its hold as the tables have it."""

    position: int
    entry: HoldPlaced
    hold: Hold


class WindowPayment(NamedTuple):
    """A payment that was decided within a window, and where it stands here; at the gateway both numbers are one."""

    sequence: int
    position: int
    entry: Posted


class WindowSum(NamedTuple):
    """What was paid from and to one account by payments decided within a window, in minor units."""

    account: int
    payments: int
    out_minor: int
    in_minor: int


class WindowRow(NamedTuple):
    """A settlement window that was closed: payments decided after one position and up to another."""

    number: int
    after: int
    to: int
    closed_us: int
    position: int


class PaymentQueries(Queries):
    """Questions to the tables of one store, those about payments between banks among them."""

    # --- Single payments -------------------------------------------------------------------------------------------
    def open_payments(self, limit: int, after: bytes = b"") -> list[PaymentFound]:
        """Page through the payments that are neither committed nor aborted here, by id."""
        sql = (
            "SELECT h.*, e.entry FROM holds h JOIN entries e USING (position)"
            " WHERE state = 1 AND expires_us = ? AND id > ? ORDER BY id LIMIT ?"
        )
        found = []
        for *row, blob in self._read(sql, (NEVER_US, after, limit)):
            hold, entry = Hold(*row), codec.decode(blob)
            assert type(entry) is HoldPlaced
            found.append(PaymentFound(hold.position, entry, hold))
        return found

    def payment_entries(self, id: bytes) -> list[Found]:
        """List what was written under a payment's id: its placing and how it ended, or its refusal; else nothing."""
        first = self.entry_of(id)
        if first is None:
            return []
        end = self.end_of_hold(id)
        return [first] if end is None else [first, end]

    # --- A customer's ----------------------------------------------------------------------------------------------
    def payments_of(self, accounts: Iterable[int], *, limit: int, cursor: int = 0) -> tuple[list[PaymentFound], int]:
        """Page through the payments from and to these accounts that were placed, newest first.

        Args:
            cursor: where the page before said to go on; 0 starts at the newest.

        Returns:
            The payments found and the cursor to go on from, 0 at the end.
        """
        bound = cursor - 1 if cursor else 0
        chains = (self._walk(account, self._start(account, bound)) for account in accounts)
        placed: list[tuple[int, HoldPlaced]] = []
        reached = 0
        for scanned, (position, entry, _) in enumerate(merge(*chains, key=lambda row: -row[0]), 1):
            if len(placed) == limit or scanned > SCAN_ROWS_MAX:
                break
            # one between two of these accounts comes in the chains of both
            if type(entry) is HoldPlaced and entry.expires_us == NEVER_US and position != reached:
                placed.append((position, entry))
            reached = position
        else:
            reached = 0
        holds = self._holds([entry.id for _, entry in placed])
        return [PaymentFound(position, entry, holds[entry.id]) for position, entry in placed], reached

    def _holds(self, ids: Sequence[bytes]) -> dict[bytes, Hold]:
        sql = "SELECT * FROM holds WHERE id IN (SELECT unhex(value) FROM json_each(?))"
        rows = self._read(sql, (_json.encode([id.hex() for id in ids]).decode(),))
        return {row[0]: Hold(*row) for row in rows}

    # --- Windows ---------------------------------------------------------------------------------------------------
    def window_payments(self, after: int, to: int, *, limit: int, account: int = 0) -> list[WindowPayment]:
        """List the payments whose gateway's sequence lies after one number and up to another, in that order.

        Args:
            account: only those from and to this one, as a bank's position at the gateway; 0 for all.
        """
        sql = (
            "SELECT h.sequence, h.position, e.entry FROM holds h JOIN entries e USING (position)"
            " WHERE sequence > 0 AND sequence > ?1 AND sequence <= ?2 AND (?3 = 0 OR debit = ?3 OR credit = ?3)"
            " ORDER BY sequence LIMIT ?4"
        )
        found = []
        for sequence, position, blob in self._read(sql, (after, to, account, limit)):
            entry = codec.decode(blob)
            assert type(entry) is Posted
            found.append(WindowPayment(sequence, position, entry))
        return found

    def window_sums(self, after: int, to: int) -> list[WindowSum]:
        """Sum the payments of a window by account, in the order of the accounts' numbers."""
        side = (
            "SELECT {0} AS account, {1} AS paid, {2} AS taken FROM holds"
            " WHERE sequence > 0 AND sequence > ?1 AND sequence <= ?2"
        )
        sql = (
            f"SELECT account, count(*), {_HALVES.format('paid')}, {_HALVES.format('taken')}"
            f" FROM ({side.format('debit', 'posted', '0')} UNION ALL {side.format('credit', '0', 'posted')})"
            " GROUP BY account ORDER BY account"
        )
        return [
            WindowSum(account, count, (o1 << 32) + o0, (i1 << 32) + i0)
            for account, count, o1, o0, i1, i0 in self._read(sql, (after, to))
        ]

    def windows(self, limit: int) -> list[WindowRow]:
        """List the settlement windows that were closed, newest first."""
        rows: list[Any] = self._read("SELECT * FROM windows ORDER BY number DESC LIMIT ?", (limit,))
        return [WindowRow(*row) for row in rows]

    def window(self, number: int) -> WindowRow | None:
        """Find a settlement window that was closed by its number."""
        rows = self._read("SELECT * FROM windows WHERE number = ?", (number,))
        return WindowRow(*rows[0]) if rows else None
