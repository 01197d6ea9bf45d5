"""Read the tables: histories, balances of the past, statements, trails, trial balances, proofs.

Blocking: call it from pool threads. Everything asked for here is already in the tables (the caller waits for that),
and every walk is bounded: a page that would take too long comes back part full, with the cursor to go on from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fortress.errors import MessageInvalid, StoreCorrupt
from fortress.ledger import entries as codec
from fortress.ledger.entries import AnyEntry, HoldPlaced, HoldReleased, Posted, Refused
from fortress.ledger.model import Account, Customer, Hold, HoldState
from fortress.ledger.store import ACCOUNT_COLUMNS, CUSTOMER_COLUMNS, Store, account_of, customer_of

SCAN_ROWS_MAX = 10_000  # entries looked at for one page, matching or not
STATEMENT_ROWS_MAX = 200_000
CHUNK_ROWS = 256
_WALK = """
WITH RECURSIVE chain (position, n) AS (
    SELECT ?2, 0
    UNION ALL
    SELECT CASE WHEN e.a = ?1 THEN e.a_before ELSE e.b_before END, n + 1
    FROM chain c JOIN entries e ON e.position = c.position WHERE n < ?3)
SELECT e.position, e.entry, CASE WHEN e.a = ?1 THEN e.a_before ELSE e.b_before END
FROM chain c JOIN entries e ON e.position = c.position WHERE n < ?3 ORDER BY n
"""
_SUMMED = ("debits_posted", "credits_posted", "debits_pending")
Found = tuple[int, AnyEntry]


@dataclass(frozen=True, slots=True)
class Filters:
    """Which entries of an account are wanted; times in microseconds, sums in minor units, 0 = no bound."""

    kinds: frozenset[str] = frozenset()
    from_us: int = 0
    to_us: int = 0
    amount_min: int = 0
    amount_max: int = 0
    counterparty: int = 0
    text: str = ""

    def match(self, entry: Any, kind: str, account: int) -> bool:
        """Tell whether an entry of the account is wanted; ``kind`` is its name for people."""
        if self.kinds and kind not in self.kinds:
            return False
        if (self.from_us and entry.time_us < self.from_us) or (self.to_us and entry.time_us >= self.to_us):
            return False
        amount = getattr(entry, "amount", 0)
        if (self.amount_min and amount < self.amount_min) or (self.amount_max and amount > self.amount_max):
            return False
        if self.counterparty and self.counterparty != counterparty_of(entry, account):
            return False
        return not self.text or self.text.lower() in getattr(entry, "reference", "").lower()


def counterparty_of(entry: Any, account: int) -> int:
    """Name the other account of an entry that moves or holds money; 0 for others."""
    if type(entry) not in codec.MONEY_KINDS:
        return 0
    number: int = entry.credit if entry.debit == account else entry.debit
    return number


class Queries:
    """Questions to the tables of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read = store.read

    # --- Histories -------------------------------------------------------------------------------------------------
    def history(
        self,
        account: int,
        *,
        limit: int,
        kind_of: Callable[[AnyEntry], str],
        cursor: int = 0,
        filters: Filters | None = None,
        as_of: int = 0,
    ) -> tuple[list[Found], int]:
        """Read an account's entries, newest first.

        Args:
            cursor: where the page before said to go on; 0 starts at the newest entry.
            as_of: only entries up to this position; 0 for all.

        Returns:
            The entries found and the cursor to go on from, 0 at the end.

        Raises:
            MessageInvalid: the cursor is none of this account's: it would lead into somebody else's entries.
        """
        if cursor:
            sql = "SELECT 1 FROM entries WHERE position = ?1 AND (a = ?2 OR b = ?2)"
            if not self._read(sql, (cursor, account)):
                raise MessageInvalid(f"{cursor} is no cursor of this account's history", {"field": "cursor"})
        start = cursor or self._start(account, as_of)
        found: list[Found] = []
        for scanned, (position, entry, before) in enumerate(self._walk(account, start), 1):
            if filters is None or filters.match(entry, kind_of(entry), account):
                found.append((position, entry))
            if filters is not None and entry.time_us < filters.from_us:
                return found, 0
            if len(found) == limit or scanned == SCAN_ROWS_MAX:
                return found, before
        return found, 0

    def _walk(self, account: int, start: int) -> Iterator[tuple[int, AnyEntry, int]]:
        """Follow the chain down from ``start``: position, entry, position of the one before."""
        while start:
            rows = self._read(_WALK, (account, start, CHUNK_ROWS))
            if not rows:
                raise StoreCorrupt(f"the chain of account {account} leads to position {start}, which is not there")
            for position, blob, before in rows:
                yield position, codec.decode(blob), before
            start = rows[-1][2]

    def _start(self, account: int, as_of: int = 0) -> int:
        """Find the account's newest entry, or its newest up to the position ``as_of``."""
        rows = self._read("SELECT last_position FROM balances WHERE number = ?", (account,))
        newest: int = rows[0][0] if rows else 0
        if not as_of or newest <= as_of:
            return newest
        sql = "SELECT position FROM marks WHERE account = ? AND position > ? ORDER BY position LIMIT 1"
        marks = self._read(sql, (account, as_of))
        for position, _, _ in self._walk(account, marks[0][0] if marks else newest):
            if position <= as_of:
                return position
        return 0

    def position_at(self, time_us: int) -> int:
        """Tell the last position that was written up to a time; 0 before the first."""
        low, high = 0, self._store.applied_lsn
        while low < high:
            middle = (low + high + 1) // 2
            rows = self._read("SELECT time_us FROM records WHERE lsn = ?", (middle,))
            if rows and rows[0][0] <= time_us:
                low = middle
            else:
                high = middle - 1
        if not low:
            return 0
        position: int = self._read("SELECT first_position + count - 1 FROM records WHERE lsn = ?", (low,))[0][0]
        return position

    def balance_at(self, account: int, position: int) -> int:
        """Tell an account's balance after a position, in minor units."""
        start = self._start(account, position) if position else 0
        for _, entry, _ in self._walk(account, start):
            if type(entry) is Posted:
                return entry.debit_balance if entry.debit == account else entry.credit_balance
        return 0

    def held_at(self, account: int, time_us: int, position: int) -> tuple[int, int]:
        """Tell what was held from and promised to an account after a position, in minor units."""
        sums = []
        for side in ("debit", "credit"):
            sql = (
                # an id's own position is that of its first entry, the placing; a hold's is that of its last
                f"SELECT coalesce(sum(amount), 0) FROM holds h JOIN ids i USING (id) WHERE {side} = ?1"
                " AND placed_us <= ?2 AND i.position <= ?3 AND (state = 1 OR h.position > ?3)"
            )
            sums.append(self._read(sql, (account, time_us, position))[0][0])
        return sums[0], sums[1]

    def span(self, account: int, after: int, to: int) -> list[Found]:
        """Read an account's entries after one position up to another, oldest first.

        Raises:
            MessageInvalid: the span holds too many for one statement.
        """
        rows: list[Found] = []
        start = self._start(account, to) if to else 0
        for position, entry, _ in self._walk(account, start):
            if position <= after:
                break
            rows.append((position, entry))
            if len(rows) > STATEMENT_ROWS_MAX:
                raise MessageInvalid(
                    f"more than {STATEMENT_ROWS_MAX} entries in this span; ask for a shorter one", {"field": "from_us"}
                )
        rows.reverse()
        return rows

    # --- Single things ---------------------------------------------------------------------------------------------
    def entry_of(self, id: bytes) -> Found | None:
        """Find the first entry written under an id."""
        rows = self._read("SELECT position, entry FROM ids JOIN entries USING (position) WHERE id = ?", (id,))
        return (rows[0][0], codec.decode(rows[0][1])) if rows else None

    def entry_at(self, position: int) -> bytes:
        """Read the canonical bytes of the entry at a position."""
        rows = self._read("SELECT entry FROM entries WHERE position = ?", (position,))
        if not rows:
            raise StoreCorrupt(f"there is no entry at position {position}")
        blob: bytes = rows[0][0]
        return blob

    def hold_of(self, id: bytes) -> Hold | None:
        """Find a hold by its id."""
        rows = self._read("SELECT * FROM holds WHERE id = ?", (id,))
        return Hold(*rows[0]) if rows else None

    def open_holds(self, account: int) -> list[Hold]:
        """List the open holds from or to an account, at most 1,000."""
        open_on = "SELECT * FROM holds WHERE {} = ?1 AND state = 1"
        sql = f"{open_on.format('debit')} UNION {open_on.format('credit')} LIMIT 1000"
        return [Hold(*row) for row in self._read(sql, (account,))]

    def end_of_hold(self, id: bytes) -> Found | None:
        """Find the entry that ended a hold; None while it is open, or there is none."""
        hold = self.hold_of(id)
        if hold is None or hold.state == HoldState.open:
            return None
        return hold.position, codec.decode(self.entry_at(hold.position))

    def due_holds(self, now_us: int, limit: int) -> list[bytes]:
        """List open holds whose time is over, the oldest first."""
        sql = "SELECT id FROM holds WHERE state = 1 AND expires_us <= ? ORDER BY expires_us LIMIT ?"
        return [row[0] for row in self._read(sql, (now_us, limit))]

    # --- Lists -----------------------------------------------------------------------------------------------------
    def accounts_of(self, owner: int) -> list[int]:
        """List the numbers of a customer's accounts."""
        return [row[0] for row in self._read("SELECT number FROM accounts WHERE owner = ? ORDER BY number", (owner,))]

    def all_accounts(self, after: int, limit: int) -> list[Account]:
        """Page through all accounts by number."""
        sql = f"SELECT {ACCOUNT_COLUMNS} FROM accounts a JOIN balances b USING (number) WHERE a.number > ? ORDER BY 1"
        return [account_of(row) for row in self._read(f"{sql} LIMIT ?", (after, limit))]

    def latest_accounts(self, limit: int) -> list[int]:
        """List the accounts in use lately, the latest first."""
        sql = "SELECT number FROM balances ORDER BY last_position DESC LIMIT ?"
        return [row[0] for row in self._read(sql, (limit,))]

    def customers(self, after: int, limit: int) -> list[Customer]:
        """Page through the customers by number."""
        sql = f"SELECT {CUSTOMER_COLUMNS} FROM customers WHERE customer > ? ORDER BY customer LIMIT ?"
        return [customer_of(row) for row in self._read(sql, (after, limit))]

    def erased_handles(self) -> list[bytes]:
        """List the handles of erased customers, whose keys must be gone."""
        return [row[0] for row in self._read("SELECT handle FROM customers WHERE state = 3")]

    def ended_sessions(self, now_us: int) -> list[tuple[bytes, int]]:
        """List sessions whose tokens are refused and not expired yet: session, time until which."""
        sql = "SELECT session, until_us FROM sessions_ended WHERE until_us > ?"
        return [(row[0], row[1]) for row in self._read(sql, (now_us,))]

    def keys_given_up(self, since_us: int) -> list[tuple[int, int]]:
        """List who was locked or replaced their key since a time: customer, time of it; oldest first."""
        since = self._first_record("time_us", since_us)
        if since is None:
            return []
        # the kind of an entry stands right behind the first byte, as an integer of three bytes
        sql = (
            "SELECT position, entry FROM trail JOIN entries USING (position) WHERE position >= ?"
            " AND substr(entry, 2, 3) IN (x'cd0109', x'cd010b') ORDER BY position"
        )
        found = []
        for position, blob in self._read(sql, (since[1],)):
            entry = codec.decode(blob)
            if isinstance(entry, codec.KeyChanged) or (
                isinstance(entry, codec.CustomerChanged) and entry.act == "lock"
            ):
                after = self._first_record("first_position", position + 1)
                sql = "SELECT time_us FROM records WHERE lsn < ? ORDER BY lsn DESC LIMIT 1"
                found.append((entry.customer, self._read(sql, (after[0] if after else 2**62,))[0][0]))
        return found

    def _first_record(self, column: str, least: int) -> tuple[int, int] | None:
        """Find the first record with so much in a column that never falls: number, first position; None: no record."""
        ends = self._read("SELECT min(lsn), max(lsn) FROM records")[0]
        if ends[0] is None:
            return None
        low, high = ends[0], ends[1] + 1
        sql = f"SELECT {column} FROM records WHERE lsn = ?"
        while low < high:
            middle = (low + high) // 2
            if self._read(sql, (middle,))[0][0] < least:
                low = middle + 1
            else:
                high = middle
        row = self._read("SELECT lsn, first_position FROM records WHERE lsn = ?", (low,))
        return (row[0][0], row[0][1]) if row else None

    def approved_acts(self) -> list[tuple[bytes, str, bytes, int]]:
        """List what was approved: approval, operation, the request as it came, who asked."""
        sql = "SELECT id, operation, command, asked_by FROM approvals WHERE state = 2"
        return [(row[0], row[1], row[2], row[3]) for row in self._read(sql)]

    def trail(self, cursor: int, limit: int) -> tuple[list[Found], int]:
        """Page through administrative acts and refusals, newest first."""
        sql = (
            "SELECT position, entry FROM trail JOIN entries USING (position) WHERE position <= ?"
            " ORDER BY position DESC LIMIT ?"
        )
        rows = self._read(sql, (cursor or 2**62, limit + 1))
        found = [(row[0], codec.decode(row[1])) for row in rows[:limit]]
        return found, rows[limit][0] if len(rows) > limit else 0

    def trial_balance(self) -> list[tuple[str, int, int, int, int, int]]:
        """Sum all accounts and open holds by currency: currency, accounts, debits, credits, held, holds (minor units).

        What accounts have on hold is what the open holds add up to.
        """
        sql = (
            "SELECT currency, count(*)"
            + "".join(f", sum({name} >> 32), sum({name} & 0xffffffff)" for name in _SUMMED)
            + ", coalesce(max(high), 0), coalesce(max(low), 0) FROM balances JOIN accounts USING (number)"
            " LEFT JOIN (SELECT currency, sum(amount >> 32) AS high, sum(amount & 0xffffffff) AS low"
            f" FROM holds WHERE state = {int(HoldState.open)} GROUP BY currency) USING (currency)"
            " GROUP BY currency ORDER BY currency"
        )
        # summed in halves: many accounts together may hold more than one of the database's integers can
        return [
            (currency, count, (d1 << 32) + d0, (c1 << 32) + c0, (h1 << 32) + h0, (o1 << 32) + o0)
            for currency, count, d1, d0, c1, c0, h1, h0, o1, o0 in self._read(sql)
        ]


__all__ = ["Filters", "Found", "HoldPlaced", "HoldReleased", "Queries", "Refused", "counterparty_of"]
