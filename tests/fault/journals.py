"""What two stopped nodes have on their disks: read without changing anything, compared record by record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fortress.config import load
from fortress.errors import FortressError
from fortress.ledger import entries as codec
from fortress.ledger.audit import audit_folder
from fortress.ledger.keyring import Keyring, read_kek
from fortress.ledger.model import HoldState
from fortress.ledger.records import Record, entries
from fortress.ledger.scan import scan
from fortress.server.folder import KEYRING_NAME, data_folder
from tests.fault.history import Move
from tests.fault.verdict import Stand


@dataclass(slots=True)
class Journals:
    """What both nodes hold.

    Attributes:
        records: of the one history, as far as either node has it.
        epochs: in which records were made.
        stands: id in hexadecimal -> where it stands.
        findings: what is wrong, in sentences.
    """

    records: int = 0
    entries: int = 0
    epochs: list[int] = field(default_factory=list)
    stands: dict[str, list[Stand]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)


def read_both(first: Path, second: Path) -> Journals:
    """Read two nodes' folders that nobody serves: audit both, compare both journals, and note where each id stands.

    A journal may begin later than the other, such as one that began with a snapshot; both must end at the same record.
    """
    found = Journals()
    for folder in (first, second):
        found.findings += [f"{folder.name}: {line}" for line in audit(folder)]
    try:
        for record in _united(first, second, found.findings):
            _note(record, found)
    except FortressError as error:
        found.findings.append(f"a journal cannot be read: {error}")
    return found


def audit(folder: Path) -> list[str]:
    """Re-read everything of a folder, count the books anew from the journal, compare the tables; give what is wrong."""
    settings, keyring = _opened(folder)
    try:
        report = audit_folder(
            data_folder(settings),
            bank=settings.node.bank,
            data_key=keyring.data_key,
            store_key=keyring.store_key,
        )
    except FortressError as error:
        return [f"the audit failed: {error}"]
    return [f"{each.what} ({each.where})" for each in report.findings if each.severity == "error"][:5]


def records(folder: Path) -> Iterator[Record]:
    """Read a folder's journal, oldest record first."""
    settings, keyring = _opened(folder)
    return scan(data_folder(settings) / "journal", keyring.data_key, bank=settings.node.bank)


def _opened(folder: Path) -> tuple[Any, Keyring]:
    settings = load(folder, {}, {})
    kek = read_kek(key_file=settings.path(settings.keys.key_file), key_command="", environment={})
    return settings, Keyring.open(data_folder(settings) / KEYRING_NAME, kek)


def _united(first: Path, second: Path, findings: list[str]) -> Iterator[Record]:
    """Give the records of the one history, each once, and note where the journals part ways or end differently."""
    ones, others = records(first), records(second)
    one, other = next(ones, None), next(others, None)
    while one is not None and other is not None:
        if one.lsn < other.lsn:
            yield one
            one = next(ones, None)
        elif other.lsn < one.lsn:
            yield other
            other = next(others, None)
        elif one == other:
            yield one
            one, other = next(ones, None), next(others, None)
        else:
            findings.append(f"the journals part ways at record {one.lsn}: {one.hash.hex()} and {other.hash.hex()}")
            return
    longer = one or other
    if longer is not None:
        findings.append(f"the journals do not end alike: only one has record {longer.lsn}")


def _note(record: Record, found: Journals) -> None:
    found.records += 1
    if not found.epochs or record.epoch > found.epochs[-1]:
        found.epochs.append(record.epoch)
    elif record.epoch < found.epochs[-1]:
        found.findings.append(f"record {record.lsn} of epoch {record.epoch} follows one of {found.epochs[-1]}")
    for index, blob in enumerate(entries(record), 1):
        found.entries += 1
        entry = codec.decode(blob)
        id: bytes = getattr(entry, "id", b"")
        if id:
            stand = Stand(_kind(entry), record.first_position + index, entry.time_us, _move(entry))
            found.stands.setdefault(id.hex(), []).append(stand)


def _kind(entry: Any) -> str:
    if isinstance(entry, codec.Posted):
        return "hold posted" if entry.held else "posted"
    if isinstance(entry, codec.HoldPlaced):
        return "held"
    if isinstance(entry, codec.HoldReleased):
        return "hold voided" if entry.state == HoldState.voided else "hold expired"
    return "refused" if isinstance(entry, codec.Refused) else type(entry).__name__


def _move(entry: Any) -> Move | None:
    if isinstance(entry, codec.Posted | codec.HoldPlaced):
        return entry.debit, entry.credit, entry.amount
    return None
