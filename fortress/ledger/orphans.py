"""Records that a node gives up because its pair never committed them: copied aside, then cut off the journal.

The copy is one sealed segment of its own, under the same data key, in ``orphaned/<first>-<last>-<hash>.rec``. It is
durable before anything is cut, so nothing that was ever written down is lost, whoever may ask for it later.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fortress.errors import ChainBroken, DiskFull, IntegrityFailed, JournalCorrupt, JournalWriteFailed
from fortress.ledger.cut import Cut, finish_cut, plan_cut
from fortress.ledger.journal import SEGMENT_SIZE_BYTES, Journal
from fortress.ledger.records import Record, encode
from fortress.ledger.recovery import read_record
from fortress.ledger.segment import (
    BLOCK_SIZE_BYTES,
    NONCE_SIZE_BYTES,
    SALT_SIZE_BYTES,
    Entropy,
    Seal,
    SegmentHeader,
    SegmentReader,
    SegmentWriter,
    size_on_disk,
    sync_folder,
)
from fortress.ledger.spare import is_disk_full


def truncate_after(
    folder: Path,
    data_key: bytes,
    *,
    bank: str,
    lsn: int,
    hash: bytes,
    orphans: Path,
    applied_lsn: int = 0,
    segment_bytes: int = SEGMENT_SIZE_BYTES,
    entropy: Entropy = os.urandom,
) -> Path | None:
    """Make record ``lsn`` the last of a journal that is not open, keeping a copy of those behind it.

    A crash leaves the old end or the new one; doing it again then is right in both cases.

    Args:
        folder: the journal's.
        hash: of record ``lsn``, so that nothing is cut off behind another; number 0 is before the first record.
        orphans: folder for the copy, made if it is missing.
        applied_lsn: how far the tables are: nothing they hold may be cut off.
        segment_bytes: as the journal is opened with.

    Returns:
        The copy; None when there was nothing behind the record.

    Raises:
        IntegrityFailed: the tables hold a record that would go; nothing was changed.
        ChainBroken: record ``lsn`` has another hash; nothing was changed.
        JournalCorrupt: the journal is damaged, or has no such record; nothing was changed.
        DiskFull: no space for the copy; nothing was changed.
        JournalWriteFailed: the disk failed.
    """
    if applied_lsn > lsn:
        raise IntegrityFailed(f"record {applied_lsn} is in the tables and cannot be cut off behind record {lsn}")
    try:
        journal = Journal.open(folder, data_key, bank=bank, segment_bytes=segment_bytes, entropy=entropy)
        try:
            _check_end(journal, lsn, hash)
            if journal.end[0] == lsn:
                return None
            _make_folder(orphans)
            copy = _copy_tail(journal, data_key, Cut(lsn, hash), bank, orphans, entropy)
        finally:
            journal.close()
        plan_cut(folder, data_key, Cut(lsn, hash), bank=bank, entropy=entropy)
        finish_cut(folder, data_key)
    except OSError as exc:
        if is_disk_full(exc):
            raise DiskFull(f"no space to cut the journal in {folder}: {exc}") from exc
        raise JournalWriteFailed(f"the journal in {folder} cannot be cut: {exc}") from exc
    return copy


def read_orphans(path: Path, data_key: bytes) -> Iterator[Record]:
    """Read the records of a copy, in order, checking seals, hashes and that each follows the one before.

    Raises:
        JournalCorrupt: the copy is damaged or not whole.
        KeyUnusable: it was written with another data key.
    """
    with SegmentReader(path, data_key) as reader:
        footer = reader.footer()
        if footer is None:
            raise reader.damage(reader.limit, reader.header.first_lsn, "the copy is not whole: its footer is missing")
        previous: Record | None = None
        offset = BLOCK_SIZE_BYTES
        for lsn in range(reader.header.first_lsn, footer.last_lsn + 1):
            found = read_record(reader, offset, lsn, previous)
            if found is None:
                raise reader.damage(offset, lsn, "the record is damaged")
            previous, offset = found
            yield previous
        if previous is None or previous.hash != footer.last_hash:
            raise reader.damage(reader.limit, footer.last_lsn, "the footer names another record")


def _check_end(journal: Journal, lsn: int, hash: bytes) -> None:
    found = journal.mark_at(lsn)
    if found is None or (lsn < journal.first_lsn and lsn > 0):
        raise JournalCorrupt(f"record {lsn} is not in the journal, which cannot end with it", {"lsn": lsn})
    if found[1] != hash:
        raise ChainBroken(f"record {lsn} has another hash than the one to end with", {"lsn": lsn})


def _make_folder(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(mode=0o700)
        sync_folder(folder.parent)


def _copy_tail(journal: Journal, data_key: bytes, cut: Cut, bank: str, folder: Path, entropy: Entropy) -> Path:
    """Write what lies behind the cut into a file of its own, durably, and only then give it its name."""
    first, (last, last_hash) = cut.lsn + 1, journal.end
    sizes = (size_on_disk(len(encode(record))) for record in journal.records(first))
    header = SegmentHeader(
        bank=bank,
        first_lsn=first,
        previous_hash=cut.hash,
        salt=entropy(SALT_SIZE_BYTES),
        size_bytes=sum(sizes) + 2 * BLOCK_SIZE_BYTES,
    )
    beside = folder / "copy.tmp"
    fd = os.open(beside, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    try:
        os.posix_fallocate(fd, 0, header.size_bytes)
        writer = SegmentWriter(
            beside, header, Seal(data_key, header), offset=BLOCK_SIZE_BYTES, offsets=[], write=_write_unsynced
        )
        try:
            writer.write_header()
            for record in journal.records(first):
                writer.write_records(record.lsn, [encode(record)], entropy)
            writer.write_footer(last, last_hash, entropy(NONCE_SIZE_BYTES))
        finally:
            writer.close()
        os.fsync(fd)
    finally:
        os.close(fd)
    path = folder / f"{first:010d}-{last:010d}-{last_hash.hex()[:8]}.rec"
    os.replace(beside, path)
    sync_folder(folder)
    return path


def _write_unsynced(fd: int, data: memoryview, offset: int) -> int:
    return os.pwrite(fd, data, offset)
