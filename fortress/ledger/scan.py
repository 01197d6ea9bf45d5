"""Read a journal's folder without touching it: every record, or what is wrong.

A start repairs what a crash left (:mod:`fortress.ledger.recovery`); an inspection must leave everything as it is. So
this walks the segments by itself, opening each seal and checking each hash, and takes a torn tail as the end; so it
does the place where the next start would cut the journal off.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fortress.errors import FolderMissing
from fortress.ledger.cut import planned_cut
from fortress.ledger.records import Record
from fortress.ledger.recovery import read_record
from fortress.ledger.segment import BLOCK_SIZE_BYTES, SegmentReader, segment_paths

LSN_MAX = 2**63 - 1


def scan(folder: Path, data_key: bytes, *, bank: str) -> Iterator[Record]:
    """Read all records, oldest first, checking seals, hashes, and that each follows the one before.

    Raises:
        FolderMissing: there is no journal.
        JournalCorrupt: damage, told when it is reached; the message says file, offset and record.
        KeyUnusable: the journal was written with another data key.
    """
    paths = segment_paths(folder) if folder.is_dir() else []
    if not paths:
        raise FolderMissing(f"there is no journal in {folder}")
    cut = planned_cut(folder, data_key)
    end = cut.lsn if cut is not None else LSN_MAX
    previous: Record | None = None
    for path in paths:
        with SegmentReader(path, data_key) as reader:
            _check_header(reader, previous, bank)
            lsn, offset = reader.header.first_lsn, BLOCK_SIZE_BYTES
            while lsn <= end and (found := read_record(reader, offset, lsn, previous)) is not None:
                previous, offset = found
                yield previous
                lsn += 1
            if lsn > end:
                return
            _check_end(reader, offset, lsn, path == paths[-1], previous)


def _check_header(reader: SegmentReader, previous: Record | None, bank: str) -> None:
    header = reader.header
    if header.bank != bank:
        raise reader.damage(0, header.first_lsn, f"the journal is of bank {header.bank!r}")
    if previous is not None and (header.first_lsn, header.previous_hash) != (previous.lsn + 1, previous.hash):
        raise reader.damage(0, header.first_lsn, f"the segment does not continue record {previous.lsn}")


def _check_end(reader: SegmentReader, offset: int, lsn: int, is_last: bool, previous: Record | None) -> None:
    """Tell the end of a segment from damage: nothing that opens may follow, but the footer of one that is closed."""
    footer = reader.footer()
    if footer is None:
        later = reader.find_later(offset, lsn)
        if later is not None:
            raise reader.damage(offset, lsn, f"does not open, but what was written later does (record {later[1].lsn})")
        return
    if previous is None or (footer.last_lsn, footer.last_hash) != (previous.lsn, previous.hash):
        raise reader.damage(offset, lsn, "does not open, and the segment's footer names a later one")
    if is_last:
        raise reader.damage(reader.limit, lsn, "is missing: the segment is closed and no other follows")
