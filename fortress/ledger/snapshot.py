"""A whole bank's tables for a node that is too far behind for the journal: copied here, checked and put in place there.

The sender copies the tables as of one record while writing goes on, encrypted under a key made for this copy alone.
That key and the record itself are the *terms*, which exist only in memory on both sides and travel inside the pair's
TLS; so a copy left behind by a crash can be read by nobody. The receiver encrypts the copy anew under its own key,
holds it against the record (its hash, and the root of the tree), and begins a journal with that record.

Everything is made ready in ``incoming``; then a file there named ``ready`` decides. From that moment on the next start
(:func:`settle`) moves the old tables and journal to ``replaced/<time>`` and the new ones to their places, and does so
again if it is interrupted; before that moment a start throws ``incoming`` away.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import apsw
import msgspec

from fortress.errors import DiskFull, FortressError, IntegrityFailed, JournalWriteFailed
from fortress.ledger.database import translated
from fortress.ledger.journal import SEGMENT_SIZE_BYTES, Journal
from fortress.ledger.merkle import Tree
from fortress.ledger.records import RECORD_SIZE_BYTES_MAX, Record, decode, encode
from fortress.ledger.segment import sync_folder
from fortress.ledger.spare import free_space, is_disk_full
from fortress.ledger.store import Store

DATABASE: Final = "ledger.db"
TERMS: Final = "terms"
JOURNAL: Final = "journal"
INCOMING: Final = "incoming"
OUTGOING: Final = "outgoing"
REPLACED: Final = "replaced"
READY: Final = "ready"
KEY_SIZE_BYTES: Final = 32
CHUNK_SIZE_BYTES: Final = 1024 * 1024
TERMS_SIZE_BYTES_MAX: Final = RECORD_SIZE_BYTES_MAX + 1024
_STEP_PAGES: Final = 1024


class Terms(msgspec.Struct, frozen=True, array_like=True):
    """What opens a copy and what it must agree with."""

    version: Literal[1]
    key: Annotated[bytes, msgspec.Meta(min_length=KEY_SIZE_BYTES, max_length=KEY_SIZE_BYTES)]
    record: bytes
    """The record after which the tables were copied, as :func:`fortress.ledger.records.encode` gives it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy ready to be sent; made by :func:`take`.

    Attributes:
        lsn, hash: the record up to which the tables are.
        sizes: bytes of each file, by name.
        digests: SHA-256 of each file, by name.
    """

    lsn: int
    hash: bytes
    sizes: dict[str, int]
    digests: dict[str, bytes]
    _path: Path = field(repr=False)
    _terms: bytes = field(repr=False)

    def chunks(self, size_bytes: int = CHUNK_SIZE_BYTES) -> Iterator[tuple[str, bytes]]:
        """Give name and next bytes until all files are through; blocking."""
        for begin in range(0, len(self._terms), size_bytes):
            yield TERMS, self._terms[begin : begin + size_bytes]
        with self._path.open("rb") as file:
            while data := file.read(size_bytes):
                yield DATABASE, data

    def close(self) -> None:
        """Delete the copy; may be called twice."""
        self._path.unlink(missing_ok=True)


def take(
    store: Store,
    journal: Journal,
    data_folder: Path,
    *,
    entropy: Callable[[int], bytes] = os.urandom,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Snapshot:
    """Copy the tables as they are now, while they are written to; blocking, for a thread of its own.

    One at a time. Until the receiver has passed the copy's record, the journal must keep what follows it.

    Args:
        data_folder: the copy lies in its ``outgoing``.
        on_progress: told pages done and in all; what it raises ends the copying.

    Raises:
        IntegrityFailed: the tables are empty, or do not belong to this journal.
        DiskFull: no space for the copy.
        StoreCorrupt, JournalCorrupt: as reading them.
    """
    key, path = entropy(KEY_SIZE_BYTES), _cleared(data_folder / OUTGOING) / DATABASE
    with closing(store.new_reader()) as source, ExitStack() as on_fault:
        on_fault.callback(path.unlink, missing_ok=True)
        with translated(DATABASE):
            source.execute("BEGIN")  # the copy is of this moment, whatever is written meanwhile
            lsn, hash = _mark_of(source)
        record = next(journal.records(lsn)) if lsn else None
        if record is None or record.hash != hash:
            raise IntegrityFailed(f"the tables hold no record that the journal has: {lsn}")
        copy_tables(source, path, key, on_progress)
        on_fault.pop_all()
    terms = msgspec.msgpack.encode(Terms(1, key, encode(record)))
    with path.open("rb") as file:
        digests = {TERMS: sha256(terms).digest(), DATABASE: file_digest(file, "sha256").digest()}
    return Snapshot(lsn, hash, {TERMS: len(terms), DATABASE: path.stat().st_size}, digests, path, terms)


class Arrival:
    """A snapshot that is being received.

    Args:
        data_folder: where ledger and journal are; the files arrive in its ``incoming``.
        lsn, hash, sizes: as the sender names them.

    Raises:
        IntegrityFailed: the sizes are not those of a snapshot's files.
        DiskFull: there is not the space for it.
    """

    def __init__(self, data_folder: Path, *, lsn: int, hash: bytes, sizes: dict[str, int]) -> None:
        if set(sizes) != {DATABASE, TERMS} or sizes[TERMS] > TERMS_SIZE_BYTES_MAX:
            raise IntegrityFailed("what is offered is no snapshot")
        if free_space(data_folder) < sizes[DATABASE]:
            raise DiskFull(f"no space for a snapshot of {sizes[DATABASE]} bytes")
        self._mark = (lsn, hash)
        self._sizes = dict(sizes)
        self._data_folder = data_folder
        self._folder = _cleared(data_folder / INCOMING)
        self._path = self._folder / DATABASE
        self._terms = b""
        self._digests = {TERMS: sha256(), DATABASE: sha256()}
        self._received = dict.fromkeys(sizes, 0)
        self._file = open(self._path, "xb")

    def take(self, name: str, data: bytes) -> None:
        """Take the next bytes of a file; blocking.

        Raises:
            IntegrityFailed: there is no such file, or it is longer than it was to be.
            DiskFull: the disk is full.
        """
        if name not in self._sizes or self._received[name] + len(data) > self._sizes[name]:
            raise IntegrityFailed(f"more of {name!r} came than was offered")
        self._received[name] += len(data)
        self._digests[name].update(data)
        if name == TERMS:
            self._terms += data
            return
        with _told("a snapshot cannot be written"):
            self._file.write(data)

    def install(
        self,
        digests: dict[str, bytes],
        *,
        bank: str,
        data_key: bytes,
        store_key: bytes,
        now_us: int,
        segment_bytes: int = SEGMENT_SIZE_BYTES,
    ) -> None:
        """Check everything and decide that it takes the place of what is there, at the next start; blocking.

        Until then the ledger that is there may still be open.

        Args:
            digests: as the sender names them.
            bank, data_key, store_key, segment_bytes: this node's.
            now_us: names the folder that takes what was there.

        Raises:
            IntegrityFailed: it is not what was sent, or does not agree with its record; nothing was decided.
            LedgerError: it could not be read or written; nothing was decided.
        """
        found = {name: digest.digest() for name, digest in self._digests.items()}
        with _told("a snapshot cannot be installed"):
            self._file.close()
            if self._received != self._sizes or found != digests:
                raise IntegrityFailed("the snapshot is not what was sent")
            key, record = self._opened_terms(bank)
            _rekey(self._path, key, store_key)
            self._check_tables(record, store_key)
            with self._path.open("rb") as file:
                os.fsync(file.fileno())
            folder = self._folder / JOURNAL
            Journal.open(folder, data_key, bank=bank, first=record, segment_bytes=segment_bytes).close()
            sync_folder(self._data_folder)
            _decide(self._folder, str(now_us))

    def close(self) -> None:
        """Give up what was not installed; may be called twice."""
        with suppress(OSError):  # what is not written yet may find no space
            self._file.close()
        if not (self._folder / READY).exists():
            shutil.rmtree(self._folder, ignore_errors=True)

    def _opened_terms(self, bank: str) -> tuple[bytes, Record]:
        try:
            terms = msgspec.msgpack.decode(self._terms, type=Terms)
            record = decode(terms.record)
        except (msgspec.MsgspecError, FortressError) as exc:
            raise IntegrityFailed(f"the terms of the snapshot cannot be read: {exc}") from exc
        if (record.lsn, record.hash) != self._mark or record.bank != bank:
            raise IntegrityFailed(f"the snapshot is of another record than {self._mark[0]}, or of another bank")
        return terms.key, record

    def _check_tables(self, record: Record, store_key: bytes) -> None:
        store = Store(self._path, store_key)
        try:
            tree = Tree.restore(store.applied_position, store.tile)
            found = (store.applied_lsn, store.applied_hash, tree.size, tree.root())
        finally:
            store.close()
        if found != (record.lsn, record.hash, record.tree_size, record.tree_root):
            raise IntegrityFailed(f"the tables of the snapshot are not those after record {record.lsn}")


def settle(data_folder: Path) -> None:
    """Put a snapshot that was decided on in its place, and clear away what was not; called at every start.

    Raises:
        JournalWriteFailed: files cannot be moved; nothing is lost, the next start tries again.
        DiskFull: there is no space for their names.
    """
    incoming = data_folder / INCOMING
    with _told("a snapshot cannot be put in its place"):
        shutil.rmtree(data_folder / OUTGOING, ignore_errors=True)
        if not incoming.exists():
            return
        if (incoming / READY).exists():
            _swap(data_folder, incoming)
        shutil.rmtree(incoming)
        sync_folder(data_folder)


def _swap(data_folder: Path, incoming: Path) -> None:
    """Move the old files out and the new ones in; what is no longer in ``incoming`` is in its place already."""
    kept = data_folder / REPLACED / (incoming / READY).read_text("ascii")
    for folder in (kept.parent, kept):
        folder.mkdir(mode=0o700, exist_ok=True)
    for name, companions in ((DATABASE, ("-wal", "-shm", "")), (JOURNAL, ("",))):
        if not (incoming / name).exists():
            continue
        for companion in companions:
            old = data_folder / f"{name}{companion}"
            if old.exists():
                old.rename(kept / old.name)
        (incoming / name).rename(data_folder / name)
    for folder in (kept, kept.parent, data_folder, incoming):
        sync_folder(folder)
    (incoming / READY).unlink()
    sync_folder(incoming)


def _decide(folder: Path, stamp: str) -> None:
    beside = folder / f"{READY}.tmp"
    with open(beside, "wb", buffering=0) as file:
        file.write(stamp.encode("ascii"))
        os.fsync(file.fileno())
    sync_folder(folder)
    os.replace(beside, folder / READY)
    sync_folder(folder)


def _mark_of(db: apsw.Connection) -> tuple[int, bytes]:
    rows: list[Any] = db.execute("SELECT value FROM meta WHERE key LIKE 'applied_%' ORDER BY key DESC").fetchall()
    (lsn,), (hash,) = rows
    return lsn, hash


def copy_tables(
    source: apsw.Connection, path: Path, key: bytes, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Copy a database page by page under a key; each page opens under the old one, so it was not changed.

    Args:
        source: in a transaction, so that the copy is of one moment.
        path: of a file that is not there yet.
        on_progress: told pages done and in all; what it raises ends the copying.
    """
    with translated(path.name):
        target = _open_plainly(path, key)
        try:
            target.execute("PRAGMA synchronous = off")
            with target.backup("main", source, "main") as backup:
                while not backup.done:
                    backup.step(_STEP_PAGES)
                    on_progress(backup.page_count - backup.remaining, backup.page_count)
        finally:
            target.close()


def _rekey(path: Path, old: bytes, new: bytes) -> None:
    """Encrypt a database anew in place; when it is interrupted, the file is of no use."""
    with translated(path.name):
        db = _open_plainly(path, old)
        try:
            db.execute("PRAGMA journal_mode = off")
            db.execute(f'PRAGMA rekey = "raw:{new.hex()}"')
        finally:
            db.close()


def _open_plainly(path: Path, key: bytes) -> apsw.Connection:
    db = apsw.Connection(str(path))
    db.execute("PRAGMA cipher = 'aegis'")
    db.execute(f'PRAGMA key = "raw:{key.hex()}"')
    return db


def _cleared(folder: Path) -> Path:
    with _told("no room can be made for a snapshot"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
    return folder


class _told:
    """Turn the system's errors within a ``with`` block into the ledger's."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            failure = DiskFull if is_disk_full(error) else JournalWriteFailed
            raise failure(f"{self._what}: {error}") from error
