"""What the tables amount to after a record, in 32 bytes, so that two nodes can tell whether theirs are the same.

Two nodes with one history have the same rows, however these were batched. The tables of accounts, holds and people are
digested whole, for any of their rows may be wrong. Those that only grow (entries, records, ids, the trail, the tree's
tiles) would cost more every day, so of them the newest rows count, and as many more from a place that the record's hash
chooses: other ones each time, and the same ones on both nodes. What is read is also authentic: a page that was changed
does not open.

All work on rows is done inside SQLite with Python's lock released. Measured on a busy machine: 7 us for an account with
its counters, 1 us for an entry, 0.4 us for an id; what only grows takes half a second at most, whatever its size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from typing import Any, Final

from fortress.ledger import entries as codec
from fortress.ledger.database import translated
from fortress.ledger.merkle import TILE_WIDTH
from fortress.ledger.store import Store

WINDOW_ROWS: Final = 65_536
_CHUNK_ROWS: Final = 2_048
_GROWING: Final = {"entries": "position", "trail": "position", "records": "lsn", "tiles": "number"}
"""Tables of which a part counts, and the number by which it is chosen; ``ids`` has no such number."""


_Part = tuple[tuple[Any, ...], str, tuple[Any, ...]]
"""Rows of a table: those behind a key (empty: from the first on), as long as a condition holds, and what it binds."""

_ALL: Final[_Part] = ((), "true", ())


class TableView:
    """The tables as they are when this is made, while they are written to; for one thread at a time.

    Making it is quick: at a certain record, make it before more is applied, and let another thread digest it.

    Attributes:
        lsn, hash, position: of the last record in the tables.
    """

    def __init__(self, store: Store, *, window_rows: int = WINDOW_ROWS) -> None:
        self._window_rows = window_rows
        self._name = store.path.name
        self._db = store.new_reader()
        with ExitStack() as on_fault:
            on_fault.callback(self._db.close)
            self._read("BEGIN")
            meta = dict(self._read("SELECT key, value FROM meta"))
            self.lsn: int = meta["applied_lsn"]
            self.hash: bytes = meta["applied_hash"]
            self.position: int = meta["position"]
            on_fault.pop_all()

    def close(self) -> None:
        """Let the moment go; may be called twice."""
        self._db.close()

    def digest(self) -> bytes:
        """Work the digest out; blocking.

        Raises:
            StoreCorrupt: a page is broken.
        """
        found = sha256(self.lsn.to_bytes(8, "big") + self.hash)
        names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'meta' ORDER BY name"
        for (table,) in self._read(names):
            rows = sha256()
            for piece in self._pieces(table):
                rows.update(piece)
            found.update(table.encode() + b"\x00" + rows.digest())
        return found.digest()

    def _pieces(self, table: str) -> Iterator[bytes]:
        """Give the bytes of all rows that count, in the order of their keys."""
        columns = self._read("SELECT name, type, pk FROM pragma_table_info(?)", table)
        key = ", ".join(name for name, _, place in sorted(columns, key=lambda column: column[2]) if place)
        fields = " || ',' || ".join(_as_text(name, kind) for name, kind, _ in columns)
        for part in self._parts(table):
            yield b"|"
            yield from self._rows(table, key, fields, part)

    def _rows(self, table: str, key: str, fields: str, part: _Part) -> Iterator[bytes]:
        """Walk one part by its key; the key walked to takes the lower bound's place, so that each step is short."""
        behind, until, bounds = part
        places = ", ".join("?" for _ in key.split(","))
        while True:
            where = f"WHERE {until}" + (f" AND ({key}) > ({places})" if behind else "")
            chosen = f"FROM {table} {where} ORDER BY {key} LIMIT"
            # the limit keeps the order of the rows, and they are joined in that order
            joined = (
                f"SELECT CAST(coalesce(group_concat(row, ';'), '') AS BLOB) FROM (SELECT {fields} AS row {chosen} ?)"
            )
            yield self._read(joined, *bounds, *behind, _CHUNK_ROWS)[0][0]
            found = self._read(f"SELECT {key} {chosen} 1 OFFSET ?", *bounds, *behind, _CHUNK_ROWS - 1)
            if not found:
                return
            behind = found[0]

    def _parts(self, table: str) -> list[_Part]:
        """Tell which rows of a table count."""
        if table == "ids":
            return self._parts_of_ids()
        column = _GROWING.get(table)
        if column is None:
            return [_ALL]
        if table == "tiles":
            windows = self._windows(self.position // TILE_WIDTH, max(1, self._window_rows // TILE_WIDTH))
            level_0: list[_Part] = [((0, begin - 1), "level = 0 AND number < ?", (end,)) for begin, end in windows]
            return [*level_0, ((1, -1), "true", ())]
        top = self.lsn if table == "records" else self.position
        return [((begin,), f"{column} <= ?", (end,)) for begin, end in self._windows(top, self._window_rows)]

    def _windows(self, top: int, size: int) -> list[tuple[int, int]]:
        """Choose the newest of ``top`` numbers, and as many more; all when there are not more than that."""
        if top <= 2 * size:
            return [(0, top)]
        chosen = int.from_bytes(self.hash[:8], "big") % (top - 2 * size + 1)
        return [(chosen, chosen + size), (top - size, top)]

    def _parts_of_ids(self) -> list[_Part]:
        """Choose the ids that come last in their order, and those behind a chosen entry's id."""
        nth = f"LIMIT 1 OFFSET {self._window_rows}"
        newest = self._read(f"SELECT id FROM ids ORDER BY id DESC {nth}")
        if not newest:
            return [_ALL]
        chosen = self._id_near(self._windows(self.position, self._window_rows)[0][0])
        end = self._read(f"SELECT id FROM ids WHERE id > ? ORDER BY id {nth}", chosen)
        return [((chosen,), "id < ?", row) for row in end] + [(newest[0], "true", ())]

    def _id_near(self, position: int) -> bytes:
        """Find the id of the first entry behind a position that has one."""
        for (blob,) in self._read(f"SELECT entry FROM entries WHERE position > ? LIMIT {_CHUNK_ROWS}", position):
            id: bytes = getattr(codec.decode(blob), "id", b"")
            if id:
                return id
        return b""

    def _read(self, sql: str, *bindings: Any) -> list[Any]:
        with translated(self._name):
            return self._db.execute(sql, bindings).fetchall()


def table_digest(store: Store) -> tuple[int, bytes]:
    """Digest the tables as they are now; give the number of the record they are after, and the digest. Blocking.

    Raises:
        StoreCorrupt: a page is broken.
    """
    view = TableView(store)
    try:
        return view.lsn, view.digest()
    finally:
        view.close()


def _as_text(name: str, kind: str) -> str:
    """Write a column so that no two values look alike: a number as it is, others by their type, length and bytes."""
    if kind == "INTEGER":
        return f"quote({name})"
    return f"concat(typeof({name}), ifnull(octet_length({name}), -1), ':', {name})"
