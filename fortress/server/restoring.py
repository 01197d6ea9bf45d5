"""Check a backup, and make a folder of one.

A restored folder is a node alone, with all that the bank knew at the end of the backup, or at an earlier moment that
was asked for. Its next record is the first of a new epoch and says that the bank was restored: what was acknowledged
after that moment is gone, and a head or receipt from then belongs to a history that no longer is.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from fortress import config
from fortress.config import Settings
from fortress.errors import BackupDamaged, UsageError
from fortress.ledger.audit import AuditReport, audit_records
from fortress.ledger.backup import End, File, Item, PeopleKeys, Reader, TablesPart
from fortress.ledger.engine import Engine
from fortress.ledger.entries import decode as decode_entry
from fortress.ledger.journal import Journal
from fortress.ledger.keyring import Keyring, write_kek
from fortress.ledger.records import Record, entries
from fortress.ledger.segment import TOGETHER_MAX
from fortress.ledger.vault import Vault
from fortress.server.backups import CERTS, SETTINGS, Progress, opened
from fortress.server.bank import now_us
from fortress.server.folder import FOLDER_MODE, KEYRING_NAME, replace_file, require_empty

FILE_BYTES_MAX: Final = 64 * 1024
FILES_MAX: Final = 256
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")


@dataclass(frozen=True, slots=True)
class Moment:
    """How far to restore: up to an entry, up to a time, or all there is.

    Attributes:
        position: of the last entry; 0: any.
        time_us: microseconds since 1970 UTC; 0: any.
    """

    position: int = 0
    time_us: int = 0

    def is_before(self, record: Record) -> bool:
        """Whether a record lies after this moment; a record is restored whole or not at all."""
        if self.position and record.tree_size > self.position:
            return True
        # a record is closed a little after its entries were judged, and people know the entries' times
        return bool(self.time_us) and decode_entry(entries(record)[-1]).time_us > self.time_us


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of a restore.

    Attributes:
        settings: of the folder.
        last: the last record that was restored.
        epoch: in which the bank goes on.
    """

    settings: Settings
    last: Record
    epoch: int


def open_keyring(reader: Reader, kek: bytes) -> Keyring:
    """Open the keyring in a backup.

    Raises:
        KeyUnusable: the key-encryption key is another one, or the header was changed.
    """
    return Keyring.unsealed(reader.header.keyring, kek, reader.path)


def audit_backup(reader: Reader, kek: bytes, *, on_progress: Progress = lambda done, total: None) -> AuditReport:
    """Check a backup as `fortress audit verify` checks a folder: seals, chain, tree, every entry, balances, sums.

    Raises:
        KeyUnusable: the key-encryption key is another one.
        OSError: there is no room for the tables, which are taken out into a temporary folder if it holds some.
    """
    keyring = open_keyring(reader, kek)
    with ExitStack() as stack:
        db: apsw.Connection | None = None
        if reader.header.first_lsn > 1:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fortress-backup"))
            db = stack.enter_context(closing(_tables_of(reader, keyring, Path(folder))))
        return audit_records(reader.records(keyring.data_key, on_progress=on_progress), db)


def _tables_of(reader: Reader, keyring: Keyring, folder: Path) -> apsw.Connection:
    """Take the tables out of a backup into a folder, and open them."""
    path = folder / "ledger.db"
    with path.open("wb") as file:
        for item in reader.items(keyring.data_key):
            if isinstance(item, TablesPart):
                file.write(item.data)
    return opened(path, keyring.store_key)


def restore_backup(
    reader: Reader,
    into: Path,
    kek: bytes,
    *,
    to: Moment | None = None,
    key_command: str = "",
    on_progress: Progress = lambda done, total: None,
) -> Restored:
    """Make the folder of a node alone from a backup; blocking. Whatever goes wrong, nothing is left of it.

    Args:
        into: must not exist or be empty.
        kek: the key-encryption key of the node whose backup it is.
        to: how far; all if not given.
        key_command: prints the key-encryption key at every start; empty: the key is written into the folder.
        on_progress: told bytes read, then records replayed.

    Raises:
        FolderExists: the folder holds something.
        KeyUnusable: the key-encryption key is another one.
        UsageError: nothing in the backup lies before the moment asked for, or its tables are newer than that.
        BackupDamaged, LedgerError: it is not whole, or does not add up.
        OSError: the folder cannot be written.
    """
    require_empty(into)
    keyring = open_keyring(reader, kek)
    was_there = into.exists()
    with ExitStack() as on_fault:
        on_fault.callback(_clear, into, keep_folder=was_there)
        into.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        (into / KEYRING_NAME).write_bytes(reader.header.keyring)
        (into / KEYRING_NAME).chmod(0o600)
        values = _unpack(reader, keyring, into, to or Moment(), on_progress)
        values["keys.key_command"] = key_command
        if not key_command:
            (into / "keys").mkdir(mode=FOLDER_MODE)
            write_kek(into / "keys" / "node.key", kek)
        text = config.settings_file(values)
        last, first = _replay(reader, keyring, into, on_progress)
        os.sync()  # keys and certificates too
        replace_file(into / config.FILE_NAME, text)  # from here on it is a node's folder
        on_fault.pop_all()
    return Restored(config.load(into, {}, {}), last, first.epoch)


def _clear(into: Path, *, keep_folder: bool) -> None:
    for path in into.iterdir() if keep_folder else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not keep_folder:
        shutil.rmtree(into, ignore_errors=True)


def _unpack(reader: Reader, keyring: Keyring, into: Path, to: Moment, on_progress: Progress) -> dict[str, Any]:
    """Write what is in a backup into a folder, the journal up to the moment; give the settings."""
    unpacked = _Unpacked(into, keyring)
    journal: Journal | None = None
    batch: list[Record] = []
    with closing(unpacked), ExitStack() as stack:
        for record in reader.records(keyring.data_key, on_other=unpacked.take, on_progress=on_progress):
            if to.is_before(record):
                continue  # reads on all the same, so that a backup that is not whole is never restored from
            if journal is None:
                first = record if record.lsn > 1 else None
                journal = Journal.open(into / "journal", keyring.data_key, bank=record.bank, first=first)
                stack.callback(journal.close)
                if first is not None:
                    continue
            batch.append(record)
            if len(batch) == TOGETHER_MAX:
                journal.append_many(batch)
                batch = []
        if journal is None:
            raise UsageError("nothing in this backup lies before that moment")
        journal.append_many(batch)
        if reader.header.first_lsn > 1 and journal.end[0] != reader.header.lsn:
            late = f"this backup's journal begins with record {reader.header.first_lsn}"
            raise UsageError(f"{late}, so that it can only be restored to its end")
    return unpacked.values


def _replay(reader: Reader, keyring: Keyring, into: Path, on_progress: Progress) -> tuple[Record, Record]:
    """Make the tables, which checks every record against the books and the tree; then begin a new epoch.

    Returns:
        the last record of the backup, and the one that begins the epoch.
    """
    engine = Engine.open(
        into,
        bank=reader.header.bank,
        data_key=keyring.data_key,
        store_key=keyring.store_key,
        on_progress=on_progress,
    )
    with closing(engine):
        last = engine.last
        assert last is not None
        return last, engine.restored(reader.header.made_us, now_us())


class _Unpacked:
    """What a backup holds besides its records, on its way into a folder."""

    def __init__(self, into: Path, keyring: Keyring) -> None:
        self._into = into
        self._vault = Vault(into / "people.db", keyring.vault_key)
        self._files = 0
        self.values: dict[str, Any] = {}

    def close(self) -> None:
        self._vault.close()

    def take(self, item: Item) -> None:
        if isinstance(item, File):
            self._take_file(item)
        elif isinstance(item, PeopleKeys):
            self._vault.take_all(item.keys)
        elif isinstance(item, TablesPart):
            with open(self._into / "ledger.db", "ab") as file:
                file.write(item.data)
        else:
            assert isinstance(item, End)

    def _take_file(self, item: File) -> None:
        if item.name == SETTINGS:
            try:
                found = msgspec.json.decode(item.data, type=dict[str, config.Value])
            except msgspec.MsgspecError as exc:
                raise BackupDamaged(f"its settings cannot be read: {exc}") from exc
            self.values = {key: value for key, value in found.items() if not key.startswith("pair.")}
            return
        folder, _, name = item.name.partition("/")
        self._files += 1
        path = self._into / CERTS / name
        is_right = folder == CERTS and _NAME.fullmatch(name) and self._files <= FILES_MAX
        if not is_right or len(item.data) > FILE_BYTES_MAX or path.exists():
            raise BackupDamaged(f"it holds a file that no node has: {item.name!r}")
        path.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(item.data)
