"""Re-read everything: seals, chain, tree, books, and every value of every table.

The journal is read from its first record to its last: each seal is opened, each hash, each entry's bytes and each
Merkle root computed again. The books are counted anew from the entries alone (:mod:`fortress.ledger.recount`), and
every row of every table is held against that count (:mod:`fortress.ledger.comparison`). So a value changed, a row
swapped or a page rolled back is found whoever did it: what cannot be found here is a journal rewritten whole, for which
receipts and the heads that others remember are there.

Nothing is changed. It runs on a folder that nobody serves, or beside a serving node on a snapshot of its tables.
Blocking, for as long as reading everything takes; memory holds one small object for each account and customer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from fortress.errors import FolderMissing, FortressError, KeyUnusable, StoreCorrupt
from fortress.ledger import entries as codec
from fortress.ledger.comparison import Comparison
from fortress.ledger.database import connect, translated
from fortress.ledger.entries import LedgerOpened
from fortress.ledger.journal import Journal
from fortress.ledger.merkle import Tile, Tree, leaf_hashes
from fortress.ledger.records import Record, check_follows, entries
from fortress.ledger.recount import Recount, Row
from fortress.ledger.scan import scan
from fortress.ledger.store import Store

FINDINGS_MAX = 1_000
CHUNK_ENTRIES = 4_096
PROGRESS_RECORDS = 64
Progress = Callable[[int, int], None]
"""Told records read and the number of the last, 0 where it is not known."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be: ``severity`` is ``error`` or ``note``."""

    severity: str
    what: str
    where: str


@dataclass(frozen=True, slots=True)
class CurrencySum:
    """The sums over all accounts of a currency, in minor units."""

    accounts: int
    debits_minor: int
    credits_minor: int
    held_minor: int
    promised_minor: int


@dataclass(slots=True)
class AuditReport:
    """What was read, and what was found; at most ``FINDINGS_MAX`` findings are kept, all errors are counted."""

    bank: str = ""
    records: int = 0
    entries: int = 0
    accounts: int = 0
    customers: int = 0
    compared_records: int = 0
    tree_root: bytes = b""
    error_count: int = 0
    currencies: dict[str, CurrencySum] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """True when no error was found."""
        return self.error_count == 0

    def error(self, what: str, where: str) -> None:
        """Keep an error."""
        self.error_count += 1
        self._keep(Finding("error", what, where))

    def note(self, what: str, where: str) -> None:
        """Keep what is worth knowing and no error."""
        self._keep(Finding("note", what, where))

    def _keep(self, finding: Finding) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(finding)


def audit_folder(
    folder: Path, *, bank: str, data_key: bytes, store_key: bytes, on_progress: Progress = lambda done, last: None
) -> AuditReport:
    """Audit the ledger in a folder that nobody serves; nothing in it is changed.

    Args:
        folder: holds ``journal`` and ``ledger.db``.

    Raises:
        FolderMissing: there is no journal.
        KeyUnusable: the keys are not those of the folder.
    """
    if not (folder / "journal").is_dir():
        raise FolderMissing(f"{folder} holds no journal")
    path = folder / "ledger.db"
    records = scan(folder / "journal", data_key, bank=bank)
    if not path.exists():
        report = _audit(records, None, 0, on_progress)
        report.note("there are no tables; the next start makes them from the journal", path.name)
        return report
    try:
        db = connect(path, store_key, pragmas="PRAGMA temp_store = memory", is_read_only=True)
    except StoreCorrupt as error:
        report = _audit(records, None, 0, on_progress)
        report.error(error.message, "the tables were not read")
        return report
    try:
        return _audit(records, _reader(db, path.name), 0, on_progress)
    finally:
        db.close()


def audit_live(journal: Journal, store: Store, *, on_progress: Progress = lambda done, last: None) -> AuditReport:
    """Audit a ledger that is being served, as it stands now; from a thread of its own.

    What is appended meanwhile is left for the next time. While it runs, the tables' write-ahead file grows.
    """
    db = store.new_reader()
    try:
        with translated(store.path.name):
            db.execute("BEGIN")
            db.execute("SELECT 1 FROM meta").fetchall()  # from here on the tables stand still
        last = journal.last
        last_lsn = last.lsn if last is not None else 0
        records = _until(journal.records(journal.first_lsn), last_lsn)
        return _audit(records, _reader(db, store.path.name), last_lsn, on_progress)
    finally:
        db.close()


def audit_records(
    records: Iterable[Record], db: apsw.Connection | None, *, on_progress: Progress = lambda done, last: None
) -> AuditReport:
    """Audit records from elsewhere, against tables if there are some; as :func:`audit_folder` in all else."""
    return _audit(records, None if db is None else _reader(db, "tables"), 0, on_progress)


def _until(records: Iterable[Record], last_lsn: int) -> Iterator[Record]:
    for record in records:
        if record.lsn > last_lsn:
            return
        yield record


def _reader(db: apsw.Connection, name: str) -> Callable[[str, Any], list[Row]]:
    def read(sql: str, bindings: Any) -> list[Row]:
        with translated(name):
            rows: list[Row] = db.execute(sql, bindings).fetchall()
        return rows

    return read


def _audit(
    records: Iterable[Record], read: Callable[[str, Any], list[Row]] | None, last_lsn: int, on_progress: Progress
) -> AuditReport:
    report = AuditReport()
    auditor = _Auditor(report, read)
    try:
        for record in records:
            auditor.take(record)
            if record.lsn % PROGRESS_RECORDS == 0:
                on_progress(record.lsn, last_lsn)
        auditor.finish()
    except KeyUnusable:
        raise
    except FortressError as error:
        report.error(error.message, f"after record {report.records}: not read further")
    on_progress(report.records, last_lsn or report.records)
    return report


class _Auditor:
    """One pass over the journal, with the tables beside it."""

    def __init__(self, report: AuditReport, read: Callable[[str, Any], list[Row]] | None) -> None:
        self._report = report
        self._read = read
        self._tree = Tree()
        self._tiles: list[Tile] = []
        self._recount = Recount(lambda what, position: report.error(f"the entry {what}", f"position {position}"))
        self._previous: Record | None = None
        self._records: list[Record] = []
        self._count = 0
        self._comparison = Comparison(read, report.error) if read else None
        self._applied = self._applied_lsn(read) if read else 0

    def _applied_lsn(self, read: Callable[[str, Any], list[Row]]) -> int:
        rows = read("SELECT value FROM meta WHERE key = 'applied_lsn'", ())
        return rows[0][0] if rows and isinstance(rows[0][0], int) else 0

    # --- The journal -----------------------------------------------------------------------------------------------
    def take(self, record: Record) -> None:
        """Check the next record and count its entries."""
        if self._previous is None and record.lsn > 1:
            self._take_dropped(record)
        else:
            check_follows(self._previous, record)
        self._previous = record
        blobs = entries(record)
        self._take_entries(blobs, record.first_position)
        self._report.records, self._report.bank = record.lsn, record.bank
        if (self._tree.size, self._tree.root()) != (record.tree_size, record.tree_root):
            self._report.error("the tree is not the one that the record names", f"record {record.lsn}")
        self._records.append(record)
        self._count += record.count
        if record.lsn == self._applied:
            self._compare_end(record)
        elif self._count >= CHUNK_ENTRIES:
            self._compare_chunk()

    def _take_entries(self, blobs: list[bytes], first_position: int) -> None:
        take, decode, encode = self._recount.take, codec.decode, codec.encode
        for position, blob in enumerate(blobs, first_position + 1):
            entry = decode(blob)
            if encode(entry) != blob:
                self._report.error("the entry is not in canonical form", f"position {position}")
            if position == 1 and type(entry) is not LedgerOpened:
                self._report.error("the first entry does not open a ledger", "position 1")
            take(entry, position, blob)
        self._tree.append(leaf_hashes(blobs))
        self._tiles += self._tree.tiles_to_store()
        self._report.entries += len(blobs)

    def _take_dropped(self, record: Record) -> None:
        """Read from the tables what the journal no longer holds; its tree is in the first record that is left."""
        where = f"record {record.lsn}"
        self._report.note("records before this one are no longer in the journal; their entries are the tables'", where)
        if self._read is None:
            self._report.error("without tables nothing is left of what came before", where)
            return
        rows = self._read("SELECT lsn, hash FROM records WHERE lsn = ?", (record.lsn - 1,))
        if rows != [(record.lsn - 1, record.previous_hash)]:
            self._report.error("records does not hold the record that this one follows", where)
        sql = "SELECT entry FROM entries WHERE position > ? AND position <= ? ORDER BY position"
        for first in range(0, record.first_position, CHUNK_ENTRIES):
            last = min(first + CHUNK_ENTRIES, record.first_position)
            self._take_entries([row[0] for row in self._read(sql, (first, last))], first)
            self._compare_chunk()

    # --- The tables ------------------------------------------------------------------------------------------------
    def _compare_chunk(self) -> None:
        chunk, tiles, records = self._recount.chunk(), self._tiles, self._records
        self._tiles, self._records, self._count = [], [], 0
        if self._comparison is not None and (not records or records[-1].lsn <= self._applied):
            self._comparison.compare_records(records)
            self._comparison.compare_chunk(chunk, tiles)
            self._report.compared_records = records[-1].lsn if records else 0

    def _compare_end(self, record: Record) -> None:
        """Compare everything: the tables end with this record."""
        self._compare_chunk()
        if self._comparison is not None:
            position = record.first_position + record.count
            self._comparison.compare_end(self._recount, lsn=record.lsn, hash=record.hash, position=position)
            self._comparison.check_reversals()
            self._comparison.check_sums()

    def finish(self) -> None:
        """Sum up, and say what could not be compared."""
        report = self._report
        last = report.records
        report.tree_root = self._tree.root()
        report.accounts, report.customers = len(self._recount.accounts), len(self._recount.customers)
        for currency, sums in sorted(self._recount.sums().items()):
            report.currencies[currency] = CurrencySum(*sums)
        if self._comparison is None:
            return
        if self._applied > last:
            report.error(f"the tables hold record {self._applied}, the journal ends with record {last}", "journal")
        elif self._applied < last:
            report.note(f"{last - self._applied} records are not in the tables yet; the next start adds them", "tables")
        if not self._applied:
            self._comparison.compare_end(Recount(lambda what, position: None), lsn=0, hash=bytes(32), position=0)
        self._comparison.check_file()
