"""The tables on disk: an encrypted SQLite file that follows the journal by whole batches.

One connection writes and checkpoints, from one thread; readers have their own, one a thread. A batch of records is
one transaction of a few statements, each fed with one JSON text, so that SQLite works with Python's lock released;
the texts of the tables that every transfer changes come with the deltas, ready to be joined.
The file holds only what is committed, with ``(applied_lsn, applied_hash)`` in the same transaction, so it never
needs undo and can be rebuilt from the journal. Blocking: call it from pool threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec

from fortress.errors import BooksBroken, KeyUnusable, StoreCorrupt
from fortress.ledger import entries as codec
from fortress.ledger.database import connect, transaction, translated
from fortress.ledger.delta import Delta
from fortress.ledger.entries import AnyEntry
from fortress.ledger.memory import NUMBER_FIRST, TIME_ORDERED, Loaded, Memory, Wanted
from fortress.ledger.merkle import TILE_SIZE_BYTES, TILE_WIDTH, leaf_hash, tile_root
from fortress.ledger.model import Account, AccountKind, Approval, Customer, Hold, Invitation, MemberBank, WindowEnd
from fortress.ledger.schema import (
    INSERT_ENTRIES,
    INSERT_IDS,
    INSERT_MARKS,
    INSERT_RECORDS,
    INSERT_TILES,
    INSERT_TRAIL,
    REPLACE_COUNTERS,
    SCHEMA,
    SCHEMA_VERSION,
    UPSERTED,
    upsert,
)

_json = msgspec.json.Encoder()
ID_SEARCH_ROWS_MAX = 1_000
ACCOUNT_COLUMNS = """a.number, owner, kind, currency, state, floor, limit_payment, limit_day, limit_month,
    signed_orders_only, opened_us, version, debits_posted, credits_posted, debits_pending, credits_pending,
    day, day_spent, month, month_spent, last_position, entry_count"""
CUSTOMER_COLUMNS = """customer, handle, roles, salt, memory_kib, iterations, lanes, sealed_public, signing, profile,
    created_us, state, locked_until_us, default_account, account_count, open_account_count, position"""


def account_of(row: Sequence[Any]) -> Account:
    """Make an account of a row of ``ACCOUNT_COLUMNS``."""
    return Account(*(*row[:9], bool(row[9]), *row[10:]))


def customer_of(row: Sequence[Any]) -> Customer:
    """Make a customer of a row of ``CUSTOMER_COLUMNS``."""
    return Customer(row[0], row[1], tuple(row[2].split()), *row[3:])


class Store:
    """The tables of one node.

    Args:
        path: the database file; made when it is missing.
        key: 32 bytes; the file is encrypted with AEGIS-256, page by page, and authenticated.
        cache_mb: page cache of the writing connection.
        checkpoint_pages: in the write-ahead log, after which it is folded in.
    """

    def __init__(self, path: Path, key: bytes, *, cache_mb: int = 64, checkpoint_pages: int = 32_000) -> None:
        self.path = path
        self._key = key
        self._checkpoint_pages = checkpoint_pages
        self._upserts = {table: upsert(table) for table in UPSERTED}
        self._readers = threading.local()
        self._open_readers: list[apsw.Connection] = []
        self._writer = self._connect(cache_mb)
        self._create()
        self.applied_lsn, self.applied_hash, self.applied_position = self._applied()

    # --- Connections -----------------------------------------------------------------------------------------------
    def _connect(self, cache_mb: int) -> apsw.Connection:
        # the log is synced at each commit, which the tables do not need: synced all at once when it is folded in, it
        # stalls the journal's writes for long
        pragmas = f"PRAGMA synchronous = full; PRAGMA cache_size = {-1024 * cache_mb}; PRAGMA temp_store = memory; "
        pragmas += f"PRAGMA wal_autocheckpoint = {self._checkpoint_pages}"
        try:
            return connect(self.path, self._key, pragmas=pragmas)
        except KeyUnusable as error:
            # the key comes out of a keyring that was authentic, so it is the file that is not as it was written
            raise StoreCorrupt(f"{self.path.name} does not open: it is damaged, or another folder's") from error

    def _create(self) -> None:
        with self._translated():
            if not self._writer.execute("SELECT count(*) FROM sqlite_schema").fetchall()[0][0]:
                with transaction(self._writer):
                    self._writer.execute(SCHEMA)
                    self._writer.execute(
                        "INSERT INTO meta VALUES"
                        " ('schema', ?), ('applied_lsn', 0), ('applied_hash', ?), ('position', 0)",
                        (SCHEMA_VERSION, bytes(32)),
                    )
            version = self._meta("schema")
        if version != SCHEMA_VERSION:
            raise StoreCorrupt(f"the tables are of version {version}; this program knows {SCHEMA_VERSION}")

    def _meta(self, key: str) -> Any:
        return self._writer.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchall()[0][0]

    def _applied(self) -> tuple[int, bytes, int]:
        with self._translated():
            return self._meta("applied_lsn"), self._meta("applied_hash"), self._meta("position")

    def _translated(self) -> translated:
        return translated(self.path.name)

    def reader(self) -> apsw.Connection:
        """Give the calling thread's own connection for reading."""
        db = getattr(self._readers, "db", None)
        if db is None:
            db = self._readers.db = self.new_reader()
            self._open_readers.append(db)
        return db

    def new_reader(self) -> apsw.Connection:
        """Open one more connection for reading; the caller closes it."""
        db = self._connect(16)
        db.execute("PRAGMA query_only = on")
        return db

    def read(self, sql: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one reading statement on the calling thread's connection.

        Raises:
            StoreCorrupt: a page is broken.
        """
        with self._translated():
            return self.reader().execute(sql, tuple(bindings)).fetchall()

    def close(self) -> None:
        """Close all connections; the file is checkpointed."""
        for db in self._open_readers:
            db.close()
        self._open_readers = []
        self._writer.close()

    # --- Writing ---------------------------------------------------------------------------------------------------
    def apply(self, deltas: Sequence[Delta]) -> None:
        """Put whole records into the tables, all in one transaction.

        Raises:
            DiskFull: nothing was applied; the same deltas may be applied again later.
            StoreCorrupt: a page is broken; the node must stop.
        """
        statements = self._statements(deltas)
        last = deltas[-1]
        position = last.first_position + last.count - 1
        db = self._writer
        with self._translated(), transaction(db):
            for sql, bindings in statements:
                db.execute(sql, bindings)
            db.execute("UPDATE meta SET value = ? WHERE key = 'applied_lsn'", (last.lsn,))
            db.execute("UPDATE meta SET value = ? WHERE key = 'applied_hash'", (last.hash,))
            db.execute("UPDATE meta SET value = ? WHERE key = 'position'", (position,))
        self.applied_lsn, self.applied_hash, self.applied_position = last.lsn, last.hash, position

    def _statements(self, deltas: Sequence[Delta]) -> list[tuple[str, tuple[Any, ...]]]:
        statements: list[tuple[str, tuple[Any, ...]]] = [_entry_statement(deltas)]
        ids = b"".join([delta.id_bytes for delta in deltas])
        if ids:
            statements.append((INSERT_IDS, (_joined("[", [d.id_rows for d in deltas], "]"), ids)))
        counters = [delta.counter_rows for delta in deltas]  # an account's last row is the one that stays
        statements.append((REPLACE_COUNTERS, (_joined("{", counters, "}"),)))
        records = [(d.lsn, d.first_position, d.count, d.time_us, d.hash.hex()) for d in deltas]
        for sql, rows in (
            (INSERT_RECORDS, records),
            (INSERT_MARKS, [mark for delta in deltas for mark in delta.marks]),
            (INSERT_TRAIL, [position for delta in deltas for position in delta.trail]),
        ):
            if rows:
                statements.append((sql, (_json.encode(rows).decode(),)))
        for table, sql in self._upserts.items():
            merged: dict[Any, Any] = {}
            for delta in deltas:
                merged.update(delta.rows.get(table, ()))
            if merged:
                statements.append((sql, (_json.encode(list(merged.values())).decode(),)))
        tiles = [tile for delta in deltas for tile in delta.tiles]
        if tiles:
            keys = _json.encode([(tile.level, tile.index) for tile in tiles]).decode()
            statements.append((INSERT_TILES, (keys, b"".join([tile.blob for tile in tiles]), TILE_SIZE_BYTES)))
        return statements

    # --- Reading for the working state -----------------------------------------------------------------------------
    def load(self, wanted: Wanted) -> Loaded:
        """Read what a command needs, one statement a kind."""
        loaded = Loaded()
        if wanted.accounts:
            for account in self.accounts(wanted.accounts):
                loaded.accounts[account.number] = account
        if wanted.ids:
            rows = self.read(
                "SELECT id, position, entry FROM ids JOIN entries USING (position)"
                " WHERE id IN (SELECT unhex(value) FROM json_each(?))",
                (_hexes(wanted.ids),),
            )
            loaded.ids = {row[0]: (row[1], codec.decode(row[2])) for row in rows}
        if wanted.holds:
            self._load_holds(wanted, loaded)
        if wanted.reversals:
            rows = self.read(
                "SELECT original, amount, position FROM reversals"
                " WHERE original IN (SELECT unhex(value) FROM json_each(?))",
                (_hexes(wanted.reversals),),
            )
            loaded.reversals = {row[0]: (row[1], row[2]) for row in rows}
        for column, keys in (
            ("customer IN (SELECT value FROM", _json.encode(list(wanted.customers)).decode()),
            ("handle IN (SELECT unhex(value) FROM", _hexes(wanted.handles)),
        ):
            if keys != "[]":
                rows = self.read(f"SELECT {CUSTOMER_COLUMNS} FROM customers WHERE {column} json_each(?))", (keys,))
                loaded.customers.update({row[0]: customer_of(row) for row in rows})
        return loaded

    def _load_holds(self, wanted: Wanted, loaded: Loaded) -> None:
        rows = self.read(
            "SELECT * FROM holds WHERE id IN (SELECT unhex(value) FROM json_each(?))", (_hexes(wanted.holds),)
        )
        loaded.holds = {row[0]: Hold(*row) for row in rows}
        numbers = {n for hold in loaded.holds.values() for n in (hold.debit, hold.credit)}
        if numbers:
            loaded.accounts.update({account.number: account for account in self.accounts(numbers)})

    def accounts(self, numbers: Iterable[int]) -> list[Account]:
        """Read accounts by number."""
        sql = (
            f"SELECT {ACCOUNT_COLUMNS} FROM accounts a JOIN balances b USING (number)"
            " WHERE a.number IN (SELECT value FROM json_each(?))"
        )
        return [account_of(row) for row in self.read(sql, (_json.encode(list(numbers)).decode(),))]

    def entries(self, positions: Iterable[int]) -> dict[int, bytes]:
        """Read entries by position."""
        sql = "SELECT position, entry FROM entries WHERE position IN (SELECT value FROM json_each(?))"
        return dict(self.read(sql, (_json.encode(list(positions)).decode(),)))

    def newest_time_ordered_id(self, bound: bytes) -> bytes:
        """Find the newest UUIDv7 up to ``bound``; the bound itself where too many other ids are in the way."""
        rows = self.read("SELECT id FROM ids WHERE id <= ? ORDER BY id DESC LIMIT ?", (bound, ID_SEARCH_ROWS_MAX))
        for (id,) in rows:
            if id[6] & 0xF0 == TIME_ORDERED:
                found: bytes = id
                return found
        return bound if len(rows) == ID_SEARCH_ROWS_MAX else bytes(16)

    def load_state(self, state: Memory) -> None:
        """Fill the small parts of the working state that are always in memory."""
        state.position = self.applied_position
        state.next_customer = self.read("SELECT coalesce(max(customer), 0) + 1 FROM customers")[0][0]
        newest: int | None = self.read("SELECT max(number) FROM accounts")[0][0]
        state.next_account = NUMBER_FIRST if newest is None else newest // 100 + 1
        for (first,) in self.read("SELECT entry FROM entries WHERE position = 1"):
            opened: AnyEntry = codec.decode(first)
            for currency in getattr(opened, "currencies", ()):
                state.currencies.setdefault(currency, 0)
        sql = "SELECT currency, number FROM accounts WHERE owner = 0 AND kind = 2 ORDER BY number"
        state.currencies.update((currency, number) for currency, number in self.read(sql))
        self._load_banks(state)
        sql = "SELECT customer FROM customers WHERE instr(roles, 'administrator') > 0 AND state <> 3"
        state.administrators |= {row[0] for row in self.read(f"{sql} AND (state = 1 OR locked_until_us > 0)")}
        for row in self.read("SELECT * FROM approvals WHERE state = 1"):
            state.approvals[row[0]] = Approval(*row)
        for row in self.read("SELECT * FROM invitations WHERE used = 0"):
            state.invitations[row[0]] = Invitation(row[0], row[1], row[2], bool(row[3]), row[4])

    def _load_banks(self, state: Memory) -> None:
        """Fill what payments between banks go through."""
        # the plus sign keeps the database to the index over owners, which leads to the few that no customer owns
        sql = "SELECT kind, owner, currency, number FROM accounts WHERE owner <= 0 AND kind IN (?, ?) ORDER BY +number"
        for kind, owner, currency, number in self.read(sql, (int(AccountKind.settlement), int(AccountKind.position))):
            if kind == AccountKind.settlement:
                state.settlements[currency] = number
            else:
                state.positions[-owner, currency] = number
        for row in self.read("SELECT * FROM banks ORDER BY number"):
            state.banks[row[1]] = MemberBank(*row)
        for row in self.read("SELECT number, to_position FROM windows ORDER BY number DESC LIMIT 1"):
            state.windows = WindowEnd(*row)

    def tile(self, level: int, index: int) -> bytes:
        """Read the hashes of one tile of the Merkle tree; a tile that is not full is made of what lies below it."""
        rows = self.read("SELECT hashes FROM tiles WHERE level = ? AND number = ?", (level, index))
        if rows:
            hashes: bytes = rows[0][0]
            return hashes
        first = index * TILE_WIDTH
        if level == 0:
            sql = "SELECT entry FROM entries WHERE position > ? AND position <= ? ORDER BY position"
            return b"".join([leaf_hash(row[0]) for row in self.read(sql, (first, first + TILE_WIDTH))])
        sql = "SELECT hashes FROM tiles WHERE level = ? AND number >= ? AND number < ? ORDER BY number"
        return b"".join([tile_root(row[0]) for row in self.read(sql, (level - 1, first, first + TILE_WIDTH))])


def _entry_statement(deltas: Sequence[Delta]) -> tuple[str, tuple[Any, ...]]:
    """Make the statement for the entries, whose positions and bytes follow each other without gaps.

    Raises:
        BooksBroken: the records do not follow each other.
    """
    first = deltas[0]
    position, offset = first.first_position, first.entry_offset
    for delta in deltas:
        if (delta.first_position, delta.entry_offset) != (position, offset):
            raise BooksBroken(f"record {delta.lsn} does not follow the one before it into the tables")
        position += delta.count
        offset += len(delta.entry_bytes)
    rows = _joined("[", [delta.entry_rows for delta in deltas], "]")
    blobs = b"".join([delta.entry_bytes for delta in deltas])
    return INSERT_ENTRIES, (rows, blobs, first.first_position, first.entry_offset)


def _joined(opening: str, texts: Sequence[str], closing: str) -> str:
    """Join items of JSON that were written apart."""
    return opening + ",".join(filter(None, texts)) + closing


def _hexes(keys: Iterable[bytes]) -> str:
    return _json.encode([key.hex() for key in keys]).decode()
