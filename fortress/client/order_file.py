"""The file of an outbox: payment orders, encrypted, each change on the disk before anything else happens.

An order has five states. Only `sent` is a doubt: whatever was on its way when the process died stands there.

    queued   not done, for certain: never sent, or told that nothing was done
    sent     it may be done; only an answer of the bank to the same id ends the doubt
    done, refused, expired   terminal

SQLite in write-ahead mode with `synchronous = FULL` syncs each commit. Pages are sealed with AEGIS-256, under 32 random
bytes in a file of mode 0600 beside the database, or under a passphrase, from which the database derives its key by
Argon2id.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

import apsw
import msgspec

from fortress.errors import Facts, KeyUnusable, LocalProtocolError, OutboxInUse, OutboxUnusable, UsageError
from fortress.protocol.orders import PAYMENT_LABEL, PaymentOrder
from fortress.protocol.reading import ReceiptAnswer

KEY_SIZE_BYTES: Final = 32
PASSPHRASE_BYTES_MAX: Final = 4096
BUSY_MS_MAX: Final = 10_000
SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS owner (only INTEGER PRIMARY KEY CHECK (only = 1),
    bank TEXT NOT NULL, username TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE,
    debit INTEGER NOT NULL, not_after_us INTEGER NOT NULL, statement BLOB NOT NULL, signature BLOB NOT NULL,
    state TEXT NOT NULL, tries INTEGER NOT NULL, added_us INTEGER NOT NULL, changed_us INTEGER NOT NULL,
    answer BLOB NOT NULL, receipt BLOB);
CREATE INDEX IF NOT EXISTS open_orders ON orders (debit, number) WHERE state IN ('queued', 'sent');
"""
_COLUMNS: Final = "number, statement, signature, state, tries, added_us, changed_us, answer, receipt"
_OPEN: Final = "state IN ('queued', 'sent')"
_UNPROVEN: Final = "state = 'done' AND receipt IS NULL"


class OrderState(StrEnum):
    """Where an order of an outbox stands."""

    queued = "queued"
    sent = "sent"
    done = "done"
    refused = "refused"
    expired = "expired"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing will change any more."""
        return not TRANSITIONS[self]


TRANSITIONS: Final[dict[OrderState, frozenset[OrderState]]] = {
    # never sent, or nothing was done: it may be sent (again), or be too late
    OrderState.queued: frozenset({OrderState.sent, OrderState.expired}),
    # told that nothing was done by the only try: no doubt any more
    OrderState.sent: frozenset(OrderState) - {OrderState.sent},
    OrderState.done: frozenset(),
    OrderState.refused: frozenset(),
    OrderState.expired: frozenset(),
}


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """What was last heard about an order.

    Attributes:
        code: 0, that of a refusal (1000 and its status), or of the error with which the last try ended.
        message: in words.
        facts: of the refusal or error.
        position: where the payment stands in the bank's journal; 0: it was not done, as far as is known.
        time_us: when it was done.
        balance_minor: of the account after it.
        gateway_sequence: the gateway's number of it; 0 within one bank.
    """

    code: int = 0
    message: str = ""
    facts: Facts = {}
    position: int = 0
    time_us: int = 0
    balance_minor: int = 0
    gateway_sequence: int = 0


NOTHING_HEARD: Final = Outcome()


class OutboxItem(msgspec.Struct, frozen=True):
    """One order of an outbox.

    Attributes:
        number: its place; orders on one account are sent in this order.
        order: as it was written down.
        signature: over its statement; empty if it was not signed.
        tries: how often it was sent, or was about to be.
        outcome: what was last heard.
        receipt: the bank's proof, checked; None if there is none (yet).
    """

    number: int
    order: PaymentOrder
    signature: bytes
    state: OrderState
    tries: int
    added_us: int
    changed_us: int
    outcome: Outcome
    receipt: ReceiptAnswer | None

    @property
    def id(self) -> bytes:
        """The payment's id."""
        return self.order.id

    @property
    def is_terminal(self) -> bool:
        """Whether nothing will change any more."""
        return self.state.is_terminal


def now_us() -> int:
    """Read this machine's clock, in microseconds since 1970."""
    return time.time_ns() // 1000


class OrderFile:
    """The open file; made by :meth:`open`. Any number of processes may read and add, one at a time may send."""

    def __init__(self, path: Path, db: apsw.Connection) -> None:
        self.path = path
        self._db = db

    @classmethod
    def open(cls, path: Path, *, passphrase_file: Path | None = None) -> Self:
        """Open a file, made when it is missing.

        Raises:
            KeyUnusable: the key or passphrase is missing, open to others, or another one.
            OutboxUnusable: the file cannot be opened.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            is_new = not path.exists() or path.stat().st_size == 0
            secret = _passphrase(passphrase_file) if passphrase_file else f"raw:{_key(path, may_make=is_new).hex()}"
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as exc:
            raise OutboxUnusable(f"the outbox {str(path)!r} cannot be opened: {exc.strerror}") from exc
        with _translated(path):
            db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                _prepare(db, secret)
            except apsw.Error:
                db.close()
                raise
        _sync_folder(path.parent)
        return cls(path, db)

    def close(self) -> None:
        """Close it; what was stored is on the disk already."""
        self._db.close()

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Be the only process that sends, for a ``with`` block.

        Raises:
            OutboxInUse: another one is.
        """
        path = self.path.with_name(f"{self.path.name}.lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        try:
            # the lock goes with the process, however it ends; a file left over means nothing
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            raise OutboxInUse(f"process {pid or 'unknown'} sends from {str(self.path)!r}", {"pid": pid}) from exc
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    # --- whose it is --------------------------------------------------------------------------------------------

    def owner(self) -> tuple[str, str] | None:
        """Give bank and username, once there are any."""
        rows = self._rows("SELECT bank, username FROM owner", ())
        return (rows[0][0], rows[0][1]) if rows else None

    def belong(self, bank: str, username: str) -> None:
        """Make it somebody's, at one bank, or check that it is theirs.

        Raises:
            OutboxUnusable: it is another's.
        """
        self._change("INSERT OR IGNORE INTO owner VALUES (1, ?, ?)", (bank, username))
        if (owner := self.owner()) != (bank, username):
            whose = " at ".join(reversed(owner or ("", "")))
            raise OutboxUnusable(f"the outbox {str(self.path)!r} is of {whose}, not of {username} at {bank}")

    # --- orders -------------------------------------------------------------------------------------------------

    def add(self, order: PaymentOrder, signature: bytes) -> OutboxItem:
        """Store an order; on the disk when this returns. The same order again is the one that is there.

        Raises:
            UsageError: another order has its id.
        """
        statement, at = order.statement(), now_us()
        identity = (order.id, order.debit, order.not_after_us)
        values = (*identity, statement, signature, "queued", 0, at, at, _encode(NOTHING_HEARD))
        names = "id, debit, not_after_us, statement, signature, state, tries, added_us, changed_us, answer"
        self._change(f"INSERT OR IGNORE INTO orders ({names}) VALUES ({', '.join('?' * len(values))})", values)
        item = self.get(order.id)
        if item is None or item.order != order:
            raise UsageError("another order with this id is in the outbox already", {"id": order.id.hex()})
        return item

    def get(self, id: bytes) -> OutboxItem | None:
        """Give an order; None if it is not there."""
        return next(iter(self._items("id = ?", (id,))), None)

    def items(self) -> list[OutboxItem]:
        """Give all orders, oldest first."""
        return self._items("1", ())

    def accounts_at_work(self) -> Sequence[int]:
        """Give the accounts that have orders to be sent, or done ones whose receipt is not here."""
        rows = self._rows(f"SELECT DISTINCT debit FROM orders WHERE ({_OPEN}) OR ({_UNPROVEN}) ORDER BY debit", ())
        return [debit for (debit,) in rows]

    def next_open(self, debit: int) -> OutboxItem | None:
        """Give the order on an account that is to be sent next: the oldest without a terminal answer."""
        return next(iter(self._items(f"debit = ? AND {_OPEN}", (debit,), limit=1)), None)

    def next_unproven(self, debit: int) -> OutboxItem | None:
        """Give the oldest payment from an account that was done and has no receipt."""
        return next(iter(self._items(f"debit = ? AND {_UNPROVEN}", (debit,), limit=1)), None)

    def items_to_expire(self, now: int) -> Sequence[OutboxItem]:
        """Give the orders that were certainly not done and may not be sent any more."""
        return self._items("state = 'queued' AND not_after_us BETWEEN 1 AND ?", (now - 1,))

    def move(
        self, item: OutboxItem, state: OrderState, outcome: Outcome | None = None, *, signature: bytes = b""
    ) -> OutboxItem | None:
        """Bring an order into another state; on the disk when this returns. None: it is not there any more.

        Sending counts as a try, also of one that is `sent` already.

        Raises:
            LocalProtocolError: there is no such way.
        """
        is_again = item.state is state is OrderState.sent
        if state not in TRANSITIONS[item.state] and not is_again:
            raise LocalProtocolError(f"an order cannot go from {item.state} to {state}")
        tries = item.tries + (state is OrderState.sent)
        answer = _encode(item.outcome if outcome is None else outcome)
        values = (state, tries, now_us(), answer, signature or item.signature, item.id, item.state)
        sets = "state = ?, tries = ?, changed_us = ?, answer = ?, signature = ?"
        is_there = self._change(f"UPDATE orders SET {sets} WHERE id = ? AND state = ?", values)
        return self.get(item.id) if is_there else None

    def note(self, item: OutboxItem, outcome: Outcome) -> None:
        """Keep how a try ended that ended no doubt."""
        self._change("UPDATE orders SET answer = ?, changed_us = ? WHERE id = ?", (_encode(outcome), now_us(), item.id))

    def keep_receipt(self, id: bytes, receipt: ReceiptAnswer | None) -> None:
        """Keep a receipt; None: the bank gives none."""
        self._change("UPDATE orders SET receipt = ? WHERE id = ?", (_encode(receipt) if receipt else b"", id))

    def remove(self, id: bytes) -> bool:
        """Take an order out unless it may be under way; tells whether it was taken out."""
        return self._change("DELETE FROM orders WHERE id = ? AND state <> 'sent'", (id,)) == 1

    # --- inside -------------------------------------------------------------------------------------------------

    def _items(self, where: str, values: Sequence[Any], *, limit: int = -1) -> list[OutboxItem]:
        found = self._rows(f"SELECT {_COLUMNS} FROM orders WHERE {where} ORDER BY number LIMIT {limit}", values)
        return [_item(self.path, row) for row in found]

    def _rows(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with _translated(self.path):
            return self._db.execute(statement, values).fetchall()

    def _change(self, statement: str, values: Sequence[Any]) -> int:
        """Make one change, synced when this returns; gives how many rows it changed."""
        with _translated(self.path):
            self._db.execute(statement, values)
            return self._db.changes()


_encode = msgspec.msgpack.Encoder().encode


def _item(path: Path, row: tuple[Any, ...]) -> OutboxItem:
    number, statement, signature, state, tries, added_us, changed_us, answer, receipt = row
    try:
        label, *content = msgspec.msgpack.decode(statement, type=list[Any])
        order = msgspec.convert(dict(zip(PaymentOrder.__struct_fields__, content, strict=True)), PaymentOrder)
        if label != PAYMENT_LABEL:
            raise ValueError("another label")
        outcome = msgspec.msgpack.decode(answer, type=Outcome)
        proof = msgspec.msgpack.decode(receipt, type=ReceiptAnswer) if receipt else None
        return OutboxItem(number, order, signature, OrderState(state), tries, added_us, changed_us, outcome, proof)
    except (msgspec.MsgspecError, ValueError) as exc:
        raise OutboxUnusable(f"order {number} in {str(path)!r} cannot be read") from exc


def _prepare(db: apsw.Connection, secret: str) -> None:
    """Unlock the database, set how it writes, and make its tables if it is new."""
    db.set_busy_timeout(BUSY_MS_MAX)
    db.execute("PRAGMA cipher = 'aegis'")
    db.execute(f"PRAGMA key = '{secret.replace(chr(39), chr(39) * 2)}'")
    db.execute("PRAGMA journal_mode = wal")
    db.execute("PRAGMA synchronous = FULL; PRAGMA secure_delete = ON")
    (version,) = db.execute("PRAGMA user_version").fetchone() or (0,)
    if version != SCHEMA_VERSION:
        db.execute(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT")


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except apsw.NotADBError as exc:
        raise KeyUnusable(f"the outbox {str(path)!r} does not open with this key") from exc
    except apsw.BusyError as exc:
        raise OutboxInUse(f"another process keeps {str(path)!r} locked") from exc
    except apsw.Error as exc:
        raise OutboxUnusable(f"the outbox {str(path)!r}: {exc}") from exc


def _key(path: Path, *, may_make: bool) -> bytes:
    """Read the key beside the file, made when there is nothing yet that it could open."""
    file = path.with_name(f"{path.name}.key")
    if may_make and not file.exists():
        _make_key(file)
    try:
        with open(file, "rb") as stream:
            if os.fstat(stream.fileno()).st_mode & 0o077:
                raise KeyUnusable(f"others can read the key file {str(file)!r}; set its mode to 0600")
            key = bytes.fromhex(stream.read(4096).decode("ascii"))
    except FileNotFoundError as exc:
        raise KeyUnusable(f"the key file {str(file)!r} of the outbox is not there", {"file": str(file)}) from exc
    except ValueError as exc:
        raise KeyUnusable(f"the key file {str(file)!r} holds no key") from exc
    if len(key) != KEY_SIZE_BYTES:
        raise KeyUnusable(f"the key file {str(file)!r} holds no key")
    return key


def _make_key(file: Path) -> None:
    """Make a key whole and on the disk, or not at all; of two processes that do so, one wins."""
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="ascii") as stream:
        stream.write(os.urandom(KEY_SIZE_BYTES).hex() + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    with suppress(FileExistsError):
        os.link(fresh, file)
    fresh.unlink()
    _sync_folder(file.parent)


def _passphrase(file: Path) -> str:
    with open(file, "rb") as stream:
        if os.fstat(stream.fileno()).st_mode & 0o077:
            raise KeyUnusable(f"others can read the passphrase file {str(file)!r}; set its mode to 0600")
        line = stream.readline(PASSPHRASE_BYTES_MAX).rstrip(b"\r\n")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise KeyUnusable(f"the passphrase in {str(file)!r} is not UTF-8") from exc
    # what begins with raw: would be taken for a key itself
    if not text or "\0" in text or text.startswith("raw:"):
        raise KeyUnusable(f"the first line of {str(file)!r} is no passphrase")
    return text


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
