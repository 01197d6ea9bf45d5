"""Cut a journal off behind one of its records, so that a crash at any moment leaves the old end or the new one.

A node whose newest records were never committed gives them up when it follows another primary. Taking segments away
one by one would look like damage in between, so first a file named ``cut`` says where the journal is to end; from the
moment that it has its name, the records behind are gone, and whoever opens the journal next finishes the work. The
file is a segment header of the segment that would begin there: it is authentic under the data key, and names the next
record's number and the hash before it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fortress.errors import JournalCorrupt
from fortress.ledger.segment import (
    BLOCK_SIZE_BYTES,
    SALT_SIZE_BYTES,
    Entropy,
    Seal,
    SegmentHeader,
    SegmentReader,
    fill_with_zeros,
    open_direct,
    pack_header,
    segment_paths,
    sync_folder,
    unpack_header,
)

CUT_NAME = "cut"


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a journal is to end: behind this record, which has this hash; number 0 is before the first."""

    lsn: int
    hash: bytes


def plan_cut(folder: Path, data_key: bytes, cut: Cut, *, bank: str, entropy: Entropy = os.urandom) -> None:
    """Decide the cut, durably: the records behind it are gone from here on. The journal must not be open.

    Raises:
        OSError: it could not be written; whether it is decided shows :func:`planned_cut` after a restart.
    """
    header = SegmentHeader(
        bank=bank,
        first_lsn=cut.lsn + 1,
        previous_hash=cut.hash,
        salt=entropy(SALT_SIZE_BYTES),
        size_bytes=BLOCK_SIZE_BYTES,
    )
    beside = folder / f"{CUT_NAME}.tmp"
    with open(beside, "wb", buffering=0) as file:
        file.write(pack_header(header, Seal(data_key, header)))
        os.fsync(file.fileno())
    os.replace(beside, folder / CUT_NAME)
    sync_folder(folder)


def planned_cut(folder: Path, data_key: bytes) -> Cut | None:
    """Read where the journal is to end; None when nothing is planned, which is the rule.

    Raises:
        JournalCorrupt: the plan is damaged.
        KeyUnusable: it was written with another data key.
    """
    path = folder / CUT_NAME
    try:
        block = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        header, _ = unpack_header(block, data_key)
    except JournalCorrupt as exc:
        raise JournalCorrupt(f"{path}: {exc.message}", {"file": str(path)}) from exc
    return Cut(header.first_lsn - 1, header.previous_hash)


def finish_cut(folder: Path, data_key: bytes) -> None:
    """Do what is planned, if anything is; may be interrupted and repeated at any point.

    Raises:
        JournalCorrupt: the record to end with is not there.
        OSError: the disk does not take it.
    """
    cut = planned_cut(folder, data_key)
    if cut is None:
        return
    paths = segment_paths(folder)
    while len(paths) > 1 and int(paths[-1].stem) > cut.lsn + 1:
        paths.pop().unlink()
        sync_folder(folder)
    if not paths or int(paths[-1].stem) > cut.lsn + 1:
        raise JournalCorrupt(f"the journal in {folder} was to end with record {cut.lsn}, which is not in it")
    _empty_behind(paths[-1], data_key, cut.lsn)
    (folder / CUT_NAME).unlink()
    sync_folder(folder)


def _empty_behind(path: Path, data_key: bytes, lsn: int) -> None:
    """Make zeros of everything behind a record, the footer as well."""
    with SegmentReader(path, data_key) as reader:
        offset, end = reader.offset_of(lsn + 1), reader.header.size_bytes
    fd = open_direct(path)
    try:
        fill_with_zeros(fd, offset, end)
        os.fsync(fd)
    finally:
        os.close(fd)
