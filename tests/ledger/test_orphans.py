"""Giving up records that were never committed: a copy that can be read, and then a journal that ends before them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from fortress.errors import ChainBroken, DiskFull, IntegrityFailed, JournalCorrupt, JournalWriteFailed, KeyUnusable
from fortress.ledger.orphans import read_orphans, truncate_after
from fortress.ledger.records import GENESIS_HASH, Record
from tests.ledger.crash_fixture import die_everywhere
from tests.ledger.journal_fixture import KEY, SEGMENT, fill, names, opened, overwrite, written

BLOCK = 4096


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def truncated(folder: Path, lsn: int, made: list[Record], **options: Any) -> Path | None:
    hash = options.pop("hash", None) or (made[lsn - 1].hash if lsn else GENESIS_HASH)
    return truncate_after(
        folder,
        KEY,
        bank="alpha",
        lsn=lsn,
        hash=hash,
        orphans=folder.parent / "orphaned",
        segment_bytes=SEGMENT,
        **options,
    )


@pytest.mark.parametrize("lsn", [0, 1, 14, 20, 28, 39])
def test_what_is_cut_off_is_kept_aside(folder: Path, lsn: int) -> None:
    """The copy holds every record behind the new end, over several segments, and is readable with the data key."""
    made = written(folder, 40)
    copy = truncated(folder, lsn, made)
    assert copy is not None and copy.stat().st_mode & 0o077 == 0
    assert copy.name == f"{lsn + 1:010d}-0000000040-{made[-1].hash.hex()[:8]}.rec"
    assert list(read_orphans(copy, KEY)) == made[lsn:]
    assert made[-1].payload[2:] not in copy.read_bytes()
    journal = opened(folder)
    assert list(journal.records(1)) == made[:lsn]
    other = fill(journal, 3, size=200)
    journal.close()
    assert other[0].hash != made[lsn].hash
    again = truncated(folder, lsn, made)
    assert again is not None and list(read_orphans(again, KEY)) == other
    assert len(names(folder.parent / "orphaned")) == 2


def test_large_records_are_kept_aside_too(folder: Path) -> None:
    """One over a segment's size among them."""
    journal = opened(folder)
    made = fill(journal, 2) + fill(journal, 1, size=3 * SEGMENT) + fill(journal, 2)
    journal.close()
    copy = truncated(folder, 1, made)
    assert copy is not None and list(read_orphans(copy, KEY)) == made[1:]


def test_nothing_behind_the_end_is_nothing_to_do(folder: Path) -> None:
    """Also in an empty journal; no copy is made."""
    made = written(folder, 20)
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    assert truncated(folder, 20, made, applied_lsn=20) is None
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before
    assert truncated(folder.parent / "empty", 0, made) is None
    assert not (folder.parent / "orphaned").exists()


def test_a_process_that_dies_loses_no_record(folder: Path) -> None:
    """Between any two steps: the journal opens with the old end or the new one, in which case the copy is whole."""
    made = written(folder.parent / "whole", 40)
    orphans = folder.parent / "orphaned"
    ends: list[int] = []

    def begin(step: int) -> None:
        for path in (folder, orphans):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(folder.parent / "whole", folder)

    def check(step: int) -> None:
        journal = opened(folder)
        found = list(journal.records(1))
        journal.close()
        assert found == made[: len(found)] and len(found) in (40, 17)
        copies = list(orphans.glob("*.rec"))
        if len(found) == 17:
            assert list(read_orphans(copies[0], KEY)) == made[17:]
        ends.append(len(found))
        truncated(folder, 17, made)
        copies = list(orphans.glob("*.rec"))
        assert [list(read_orphans(copy, KEY)) for copy in copies] == [made[17:]]
        journal = opened(folder)
        assert journal.last == made[16]
        journal.close()

    steps = die_everywhere(begin, lambda: truncated(folder, 17, made), check)
    assert steps > 30 and set(ends) == {40, 17}


def test_what_the_tables_hold_is_never_cut_off(folder: Path) -> None:
    """They hold only what is committed, so somebody has lost history."""
    made = written(folder, 20)
    with pytest.raises(IntegrityFailed, match="record 11 is in the tables"):
        truncated(folder, 10, made, applied_lsn=11)
    assert truncated(folder, 10, made, applied_lsn=10) is not None


def test_nothing_is_cut_behind_another_record_or_none(folder: Path) -> None:
    """The hash must be that of the record to end with, and the record must be there."""
    made = written(folder, 40)
    with pytest.raises(ChainBroken, match="another hash"):
        truncated(folder, 10, made, hash=made[10].hash)
    with pytest.raises(ChainBroken, match="another hash"):
        truncated(folder, 0, made, hash=b"x" * 32)
    with pytest.raises(JournalCorrupt, match="record 41 is not in the journal"):
        truncated(folder, 41, made, hash=bytes(32))
    journal = opened(folder)
    journal.drop_before(20)
    journal.close()
    for lsn in (0, 5, 14):
        with pytest.raises(JournalCorrupt, match="cannot end with it"):
            truncated(folder, lsn, made)
    journal = opened(folder)
    assert list(journal.records(15)) == made[14:]
    journal.close()
    assert truncated(folder, 15, made) is not None


def test_a_copy_that_is_damaged_is_told(folder: Path) -> None:
    """Any record, and the end; another key does not open it."""
    made = written(folder, 20)
    copy = truncated(folder, 15, made)
    assert copy is not None
    whole = copy.read_bytes()
    for offset, what in ((2 * BLOCK + 50, "record 17: the record is damaged"), (len(whole) - BLOCK, "not whole")):
        overwrite(copy, offset, b"\xff\xff")
        with pytest.raises(JournalCorrupt, match=what):
            list(read_orphans(copy, KEY))
        copy.write_bytes(whole)
    with pytest.raises(KeyUnusable):
        list(read_orphans(copy, bytes(32)))


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, DiskFull), (errno.EIO, JournalWriteFailed)])
def test_a_copy_that_cannot_be_written_stops_the_cut(
    folder: Path, number: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal is then as it was."""
    made = written(folder, 20)

    def fail(*_: object) -> None:
        raise OSError(number, "no")

    with monkeypatch.context() as broken:
        broken.setattr(os, "posix_fallocate", fail)
        with pytest.raises(error):
            truncated(folder, 15, made)
    journal = opened(folder)
    assert journal.last == made[-1]
    journal.close()
