"""Hold the tables against what the journal makes of them, row by row and value by value.

For :mod:`fortress.ledger.audit`. What is final is compared chunk by chunk as the journal is read; at the end what may
change to the end, and the number of rows of every table, so that a row too many is found as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import msgspec

from fortress.errors import StoreCorrupt
from fortress.ledger import entries as codec
from fortress.ledger.entries import Posted
from fortress.ledger.merkle import Tile
from fortress.ledger.records import Record
from fortress.ledger.recount import Chunk, Recount, Row, shortened
from fortress.ledger.schema import SCHEMA_VERSION

Read = Callable[[str, Sequence[Any]], list[Row]]
Found = Callable[[str, str], None]
"""Told what is wrong and where."""

PAGE_ROWS = 2_048
_json = msgspec.json.Encoder()
_SHOWN_SIZE_BYTES = 16


class Comparison:
    """The tables of one snapshot against one recount.

    Args:
        read: runs one reading statement on the snapshot.
        found: told each difference.
    """

    def __init__(self, read: Read, found: Found) -> None:
        self._read = read
        self._found = found
        self._tile_count = 0
        self._columns: dict[str, list[str]] = {}

    # --- As the journal is read ------------------------------------------------------------------------------------
    def compare_records(self, records: Sequence[Record]) -> None:
        """Compare rows of ``records``, which follow each other."""
        rows = [(r.lsn, r.first_position + 1, r.count, r.time_us, r.hash) for r in records]
        self._compare_range("records", "lsn", rows)

    def compare_chunk(self, chunk: Chunk, tiles: Iterable[Tile]) -> None:
        """Compare what became final in some records."""
        self._compare_range("entries", "position", chunk.entries)
        if chunk.entries:
            bounds = (chunk.entries[0][0], chunk.entries[-1][0])
            sql = "SELECT position FROM trail WHERE position BETWEEN ? AND ? ORDER BY position"
            self._compare("trail", chunk.trail, self._read(sql, bounds))
        for table, rows in (("ids", chunk.ids), ("holds", chunk.holds), ("approvals", chunk.approvals)):
            self._compare_by_id(table, "id", rows)
        self._compare_marks(chunk.marks)
        for tile in tiles:
            self._tile_count += 1
            sql = "SELECT * FROM tiles WHERE level = ? AND number = ?"
            self._compare("tiles", [(tile.level, tile.index, tile.blob)], self._read(sql, (tile.level, tile.index)), 2)

    def _compare_range(self, table: str, key: str, rows: Sequence[Row]) -> None:
        if rows:
            sql = f"SELECT * FROM {table} WHERE {key} BETWEEN ? AND ? ORDER BY {key}"
            self._compare(table, rows, self._read(sql, (rows[0][0], rows[-1][0])))

    def _compare_by_id(self, table: str, key: str, rows: dict[bytes, Row]) -> None:
        if not rows:
            return
        ids = sorted(rows)
        for first in range(0, len(ids), PAGE_ROWS):
            page = ids[first : first + PAGE_ROWS]
            sql = f"SELECT * FROM {table} WHERE {key} IN (SELECT unhex(value) FROM json_each(?)) ORDER BY {key}"
            held = self._read(sql, (_json.encode([id.hex() for id in page]).decode(),))
            if table == "approvals":  # the one that holds long blobs
                held = [tuple(map(shortened, row)) for row in held]
            self._compare(table, [rows[id] for id in page], held)

    def _compare_marks(self, marks: Sequence[Row]) -> None:
        if marks:
            sql = """SELECT value ->> 0, value ->> 1 FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM marks m
                WHERE m.account = value ->> 0 AND m.position = value ->> 1)"""
            for account, position in self._read(sql, (_json.encode(marks).decode(),)):
                self._found(f"marks lacks position {position}", f"marks {account}")

    # --- At the end ------------------------------------------------------------------------------------------------
    def compare_end(self, recount: Recount, *, lsn: int, hash: bytes, position: int) -> None:
        """Compare what may change to the end, and count the rows of every table."""
        self._compare_all("accounts", recount.accounts, recount.account_row)
        self._compare_all("counters", recount.accounts, recount.counter_row)
        self._compare_all("customers", recount.customers, recount.customer_row)
        self._compare_all("banks", recount.banks, lambda number: recount.banks.get(number, ()))
        self._compare_all("windows", recount.windows, lambda number: recount.windows.get(number, ()))
        open_holds, open_approvals = recount.open_holds(), recount.open_approvals()
        self._compare_by_id("holds", "id", open_holds)
        self._compare_by_id("approvals", "id", open_approvals)
        self._compare_by_id("invitations", "digest", recount.invitations)
        self._compare_by_id("reversals", "original", recount.reversals)
        self._compare_by_id("sessions_ended", "session", recount.sessions)
        meta = [("applied_hash", hash), ("applied_lsn", lsn), ("position", position), ("schema", SCHEMA_VERSION)]
        self._compare("meta", meta, self._read("SELECT * FROM meta ORDER BY key", ()))
        counts = recount.counts
        self._count("records", lsn)
        self._count("entries", position)
        self._count("tiles", self._tile_count)
        for table in ("ids", "marks", "trail"):
            self._count(table, counts[table])
        self._count("holds", counts["holds"] + len(open_holds))
        self._count("approvals", counts["approvals"] + len(open_approvals))
        self._count("invitations", len(recount.invitations))
        self._count("reversals", len(recount.reversals))
        self._count("sessions_ended", len(recount.sessions))

    def _compare_all(self, table: str, keys: Collection[int], row_of: Callable[[int], Row]) -> None:
        """Walk a table by its number and find each row right, none too many and none missing."""
        last, count = -(2**63), 0
        key = self._names(table)[0]
        sql = f"SELECT * FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT {PAGE_ROWS}"
        while rows := self._read(sql, (last,)):
            for row in rows:
                expected = row_of(row[0])
                if not expected:
                    self._found(f"{table} holds a row that the journal does not make", f"{table} {row[0]}")
                    continue
                count += 1
                if tuple(map(shortened, row)) != expected:
                    self._differ(table, expected, tuple(map(shortened, row)), 1)
            last = rows[-1][0]
        if count < len(keys):
            for number in keys:
                if not self._read(f"SELECT 1 FROM {table} WHERE {key} = ?", (number,)):
                    self._found(f"{table} lacks a row", f"{table} {number}")

    def _count(self, table: str, expected: int) -> None:
        count = self._read(f"SELECT count(*) FROM {table}", ())[0][0]
        if count != expected:
            self._found(f"{table} holds {count} rows, the journal makes {expected}", table)

    def check_reversals(self) -> None:
        """Check that no more was reversed than was moved."""
        sql = """SELECT r.original, r.amount, h.posted, e.entry FROM reversals r LEFT JOIN ids i ON i.id = r.original
            LEFT JOIN entries e ON e.position = i.position LEFT JOIN holds h ON h.id = r.original"""
        for original, amount, posted, blob in self._read(sql, ()):
            moved = posted
            if moved is None:
                entry = codec.decode(blob) if blob else None
                moved = entry.amount if type(entry) is Posted else 0
            if amount > moved:
                self._found(f"{amount} of {moved} moved were reversed", f"reversals {original.hex()}")

    def check_sums(self) -> None:
        """Check that debits and credits in the tables add up, posted and pending, in each currency."""
        halves = ("sum({0} >> 32)", "sum({0} & 0xffffffff)")  # together they may be over the largest integer
        names = ("debits_posted", "credits_posted", "debits_pending", "credits_pending")
        columns = ", ".join(half.format(name) for name in names for half in halves)
        sql = f"SELECT currency, {columns} FROM balances JOIN accounts USING (number) GROUP BY currency"
        for currency, *found in self._read(sql, ()):
            debits, credits, held, promised = ((found[i] << 32) + found[i + 1] for i in range(0, 8, 2))
            if (debits, held) != (credits, promised):
                what = f"debits and credits do not add up: {debits} and {credits}, pending {held} and {promised}"
                self._found(what, f"currency {currency}")

    def check_file(self) -> None:
        """Have the database check its own pages and indexes."""
        for (line,) in self._read("PRAGMA integrity_check(20)", ()):
            if line != "ok":
                self._found(f"the database finds: {line}", "ledger.db")

    # --- Rows against rows -----------------------------------------------------------------------------------------
    def _compare(self, table: str, expected: Sequence[Row], held: Sequence[Row], key_columns: int = 1) -> None:
        if expected == held:
            return
        wanted = {row[:key_columns]: row for row in expected}
        present = {row[:key_columns]: row for row in held}
        for key, row in wanted.items():
            if key not in present:
                self._found(f"{table} lacks a row", f"{table} {_shown(key[0])}")
            elif present[key] != row:
                self._differ(table, row, present[key], key_columns)
        for key in present.keys() - wanted.keys():
            self._found(f"{table} holds a row that the journal does not make", f"{table} {_shown(key[0])}")

    def _differ(self, table: str, expected: Row, held: Row, key_columns: int) -> None:
        for name, wanted, value in zip(self._names(table), expected, held, strict=True):
            if wanted != value or type(wanted) is not type(value):
                what = f"{table}.{name} is {_shown(value)}, the journal says {_shown(wanted)}"
                self._found(what, " ".join([table, *map(_shown, expected[:key_columns])]))

    def _names(self, table: str) -> list[str]:
        if table not in self._columns:
            self._columns[table] = [row[1] for row in self._read(f"PRAGMA table_info({table})", ())]
            if not self._columns[table]:
                raise StoreCorrupt(f"there is no table {table}")
        return self._columns[table]


def _shown(value: Any) -> str:
    """Write a value for people; of blobs only the beginning."""
    if not isinstance(value, bytes):
        return repr(value)
    dots = "…" if len(value) > _SHOWN_SIZE_BYTES else ""
    return f"{value[:_SHOWN_SIZE_BYTES].hex()}{dots}"
