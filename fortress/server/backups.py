"""Make a backup of a node's folder, also beside the node while it serves; list what there is.

A backup holds what cannot be made again: every record of the journal, the keys of people's data, certificates and
settings, the keyring; the tables only where the journal does not begin with the first record (a standby that was
brought up by a copy). All records in it are committed. The key-encryption key is not in it.
"""

from __future__ import annotations

import json
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import apsw

from fortress import config
from fortress.config import Settings
from fortress.errors import BackupDamaged, FolderMissing, UsageError
from fortress.ledger.backup import (
    CHUNK_SIZE_BYTES,
    PARTIAL,
    SALT_SIZE_BYTES,
    SUFFIX,
    File,
    Header,
    PeopleKeys,
    Reader,
    Records,
    TablesPart,
    Writer,
    name_of,
)
from fortress.ledger.database import connect, translated
from fortress.ledger.keyring import Keyring, read_kek
from fortress.ledger.records import Record, decode, encode
from fortress.ledger.scan import scan
from fortress.ledger.segment import BLOCK_SIZE_BYTES, RECORD, SegmentReader, segment_paths
from fortress.ledger.snapshot import copy_tables
from fortress.server.backup_note import BackupNote, write_note
from fortress.server.bank import now_us
from fortress.server.folder import FOLDER_MODE, KEYRING_NAME, data_folder, served_by

SETTINGS: Final = "settings.json"
CERTS: Final = "certs"
TABLES_PREFIX: Final = ".tables-"
PEOPLE_AT_ONCE: Final = 4096
APPLIED_S_MAX: Final = 10.0
POLL_S: Final = 0.02
NOT_KEPT: Final = ("node.data_folder", "keys.key_file", "tls.certificate", "tls.key", "tls.ca")
"""Settings that say where something lies: in a restored folder it lies at the usual place."""
Progress = Callable[[int, int], None]
"""Told what is done and what is to do, in any unit."""


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was made, or found in a folder.

    Attributes:
        left_out: records at the journal's end that are not in it, since it is not known whether they are committed.
    """

    path: Path
    header: Header
    size_bytes: int
    left_out: int = 0


# --- Making one -------------------------------------------------------------------------------------------------------
def create_backup(
    settings: Settings,
    environment: Mapping[str, str],
    target: Path,
    *,
    on_progress: Progress = lambda done, total: None,
) -> Made:
    """Write a backup of a node into a folder, read it back, and leave a note of it with the node; blocking.

    The node may serve meanwhile. What it had acknowledged before is in the backup.

    Args:
        settings: of the node's folder.
        environment: the process's variables, for the key-encryption key.
        target: folder for backups; made when it is missing.
        on_progress: told records written, then bytes read back.

    Raises:
        UsageError: there is nothing to back up.
        LedgerError: journal or tables are damaged, or the keys are not theirs.
        BackupDamaged: what was written does not read back.
        OSError: the folder cannot be written to; nothing is left there.
    """
    data = data_folder(settings)
    if not (data / "ledger.db").exists():
        raise FolderMissing(f"{str(data)!r} holds no tables; start the node once, then back it up")
    keyring = Keyring.open(data / KEYRING_NAME, _kek_of(settings, environment))
    target.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)

    def check(written: Path) -> None:
        with Reader(written) as reader:
            for _ in reader.records(keyring.data_key, on_progress=on_progress):
                pass

    with ExitStack() as stack:
        tables = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=target, prefix=TABLES_PREFIX))) / "ledger.db"
        header, left_out = _header_of(settings, keyring, tables)
        path = target / name_of(header, f"{datetime.fromtimestamp(header.made_us / 1e6, UTC):%Y%m%dT%H%M%SZ}")
        writer = stack.enter_context(Writer(path, header, keyring.data_key, check=check))
        for item in _items(settings, keyring, header, tables):
            writer.add(item)
            if isinstance(item, Records):
                on_progress(decode(item.records[-1]).lsn, header.lsn)
    made = Made(path, header, path.stat().st_size, left_out)
    write_note(data, BackupNote(header.made_us, header.lsn, header.position, made.size_bytes, path.name))
    return made


def _kek_of(settings: Settings, environment: Mapping[str, str]) -> bytes:
    keys = settings.keys
    return read_kek(key_file=settings.path(keys.key_file), key_command=keys.key_command, environment=environment)


def _header_of(settings: Settings, keyring: Keyring, copy: Path) -> tuple[Header, int]:
    """Find out how far the tables are, which hold only what is committed; copy them as of then if they are needed.

    Returns:
        the header, and how many records the journal has beyond it.
    """
    data = data_folder(settings)
    paths = segment_paths(data / "journal")
    if not paths:
        raise FolderMissing(f"there is no journal in {str(data)!r}")
    first_lsn, journal_lsn = int(paths[0].stem), _last_lsn(paths[-1], keyring.data_key)
    with closing(opened(data / "ledger.db", keyring.store_key)) as db, translated("ledger.db"):
        if served_by(settings):
            _wait_applied(db, journal_lsn)
        db.execute("BEGIN")
        found = _newest(db)
        if found is None:
            raise UsageError("there is nothing to back up: this ledger has no record yet")
        if first_lsn > 1:
            copy_tables(db, copy, keyring.store_key)
    lsn, hash, position, time_us = found
    header = Header(
        bank=settings.node.bank,
        node=settings.node.name,
        made_us=now_us(),
        first_lsn=first_lsn,
        lsn=lsn,
        hash=hash,
        position=position,
        time_us=time_us,
        salt=secrets.token_bytes(SALT_SIZE_BYTES),
        keyring=(data / KEYRING_NAME).read_bytes(),
    )
    return header, max(journal_lsn - lsn, 0)


def _last_lsn(path: Path, data_key: bytes) -> int:
    """Find the newest record of a segment, by the blocks' outsides alone."""
    with SegmentReader(path, data_key) as reader:
        lsn, offset = reader.header.first_lsn, BLOCK_SIZE_BYTES
        while (outer := reader.outer(offset)) is not None and outer[:2] == (RECORD, lsn):
            lsn, offset = lsn + 1, offset + outer[2]
    return lsn - 1


def _newest(db: apsw.Connection) -> tuple[int, bytes, int, int] | None:
    """Read number, hash, last position and time of the newest record that the tables hold."""
    sql = "SELECT lsn, hash, first_position + count - 1, time_us FROM records ORDER BY lsn DESC LIMIT 1"
    rows: list[Any] = db.execute(sql).fetchall()
    return rows[0] if rows else None


def _wait_applied(db: apsw.Connection, lsn: int) -> None:
    """Wait until the serving node has a record in its tables, for what it has acknowledged comes there a little later.

    Not for ever: what waits for the other node of a pair is not committed.
    """
    end = time.monotonic() + APPLIED_S_MAX
    while ((found := _newest(db)) is None or found[0] < lsn) and time.monotonic() < end:
        time.sleep(POLL_S)


def opened(path: Path, key: bytes) -> apsw.Connection:
    """Open an encrypted file for reading only, also while a node writes to it."""
    return connect(path, key, pragmas="PRAGMA temp_store = memory", is_read_only=True)


def _items(settings: Settings, keyring: Keyring, header: Header, tables: Path) -> Iterator[Any]:
    data = data_folder(settings)
    yield from _files(settings)
    yield from _people(data, keyring)  # after the end is fixed: the keys of everybody up to there are durable
    if header.first_lsn > 1:
        with tables.open("rb") as file:
            while part := file.read(CHUNK_SIZE_BYTES):
                yield TablesPart(part)
    batch: list[bytes] = []
    size = 0
    last: Record | None = None
    for record in scan(data / "journal", keyring.data_key, bank=header.bank):
        last = record
        batch.append(encode(record))
        size += len(batch[-1])
        is_end = record.lsn == header.lsn
        if size >= CHUNK_SIZE_BYTES or is_end:
            yield Records(batch)
            batch, size = [], 0
        if is_end:
            break
    if last is None or (last.lsn, last.hash) != (header.lsn, header.hash):
        raise BackupDamaged(f"the journal does not hold record {header.lsn}, with which the tables end")


def _files(settings: Settings) -> Iterator[File]:
    kept = {
        key: settings.value(key)
        for key, source in settings.sources.items()
        if config.FILE_NAME in source and key not in NOT_KEPT
    }
    yield File(SETTINGS, json.dumps(kept).encode())
    folder = settings.path(settings.tls.certificate).parent
    for path in sorted(folder.glob("*.crt")) + sorted(folder.glob("*.key")):
        yield File(f"{CERTS}/{path.name}", path.read_bytes())


def _people(data: Path, keyring: Keyring) -> Iterator[PeopleKeys]:
    with closing(opened(data / "people.db", keyring.vault_key)) as db, translated("people.db"):
        cursor: Iterator[Any] = db.execute("SELECT handle, key FROM people ORDER BY handle")
        while keys := [(bytes(handle), bytes(key)) for handle, key in islice(cursor, PEOPLE_AT_ONCE)]:
            yield PeopleKeys(keys)


# --- Looking at some --------------------------------------------------------------------------------------------------
def list_backups(folder: Path) -> tuple[list[Made], list[Path]]:
    """Give the backups in a folder, oldest first, and the files there that look like some and are none.

    Raises:
        OSError: the folder cannot be read.
    """
    found: list[Made] = []
    others: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.suffix != SUFFIX:
            continue
        try:
            with Reader(path) as reader:
                found.append(Made(path, reader.header, reader.size_bytes))
        except (BackupDamaged, OSError):
            others.append(path)
    return sorted(found, key=lambda made: (made.header.made_us, made.path.name)), others


def leftovers(folder: Path, *, older_than: float) -> list[Path]:
    """Give what interrupted backups left in a folder, if nobody has touched it since a time (Unix seconds)."""
    found = [*folder.glob(f".*{SUFFIX}.*{PARTIAL}"), *folder.glob(f"{TABLES_PREFIX}*")]
    return sorted(path for path in found if path.stat().st_mtime < older_than)


def surplus(found: Iterable[Made], keep: int) -> list[Made]:
    """Choose the backups to delete when the newest ``keep`` of each node shall stay; oldest first."""
    by_node: dict[tuple[str, str], list[Made]] = {}
    for made in sorted(found, key=lambda made: made.header.made_us):
        by_node.setdefault((made.header.bank, made.header.node), []).append(made)
    return [made for group in by_node.values() for made in group[: max(len(group) - keep, 0)]]
