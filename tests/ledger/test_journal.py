"""The journal: what append returned for is there, whatever happens next."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fortress.errors import ChainBroken, DiskFull, JournalCorrupt, JournalWriteFailed
from fortress.ledger import journal as journal_module
from fortress.ledger.records import FIRST_POSITION, GENESIS_HASH, hash_of
from fortress.ledger.segment import write_durably

from .journal_fixture import SEGMENT, chain, fill, following, names, opened, overwrite, written

BLOCK = 4096


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for little more than three small segments."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={3 * SEGMENT + 8 * BLOCK}", "tmpfs", str(disk)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_empty_journal_has_no_last_record(folder: Path) -> None:
    """It starts at record 1 and has nothing to read."""
    journal = opened(folder)
    assert (journal.last, journal.first_lsn, list(journal.records(1))) == (None, 1, [])
    assert names(folder) == ["0000000001.seg"]
    assert folder.stat().st_mode & 0o777 == 0o700
    journal.close()
    again = opened(folder)
    assert again.last is None
    again.close()


def test_records_come_back_over_many_segments_and_restarts(folder: Path) -> None:
    """What was appended is read from any number on, before and after a restart."""
    journal = opened(folder)
    made = fill(journal, 50)
    for start in (1, 2, 14, 15, 16, 29, 50):
        assert list(journal.records(start)) == made[start - 1 :]
    assert list(journal.records(51)) == []
    journal.close()
    assert names(folder) == ["0000000001.seg", "0000000015.seg", "0000000029.seg", "0000000043.seg"]
    again = opened(folder)
    assert again.last == made[-1]
    made += fill(again, 10)
    assert list(again.records(1)) == made
    again.close()


def test_a_record_larger_than_a_segment_gets_a_larger_one(folder: Path) -> None:
    """Size of segments is a habit, not a limit of records."""
    journal = opened(folder)
    made = fill(journal, 2) + fill(journal, 1, size=5 * SEGMENT) + fill(journal, 20)
    assert list(journal.records(1)) == made
    assert (folder / "0000000003.seg").stat().st_size > 5 * SEGMENT
    journal.close()
    again = opened(folder, applied_lsn=0)
    assert again.last == made[-1]
    again.close()


@pytest.mark.parametrize("before", [0, 14])
def test_an_empty_segment_too_small_for_its_first_record_is_replaced(folder: Path, before: int) -> None:
    """The larger one takes over its name, also when the empty one was left by a crash."""
    made = written(folder, before + 1)[:before]
    newest = names(folder)[-1]
    overwrite(folder / newest, BLOCK, bytes(SEGMENT - BLOCK))
    journal = opened(folder)
    made += fill(journal, 1, size=2 * SEGMENT) + fill(journal, 3)
    assert list(journal.records(1)) == made
    journal.close()
    again = opened(folder)
    assert list(again.records(1)) == made
    again.close()


def test_segments_are_whole_before_they_are_written_to(folder: Path) -> None:
    """No append changes a file's size or the blocks it has."""
    journal = opened(folder)
    before = (folder / "0000000001.seg").stat()
    fill(journal, 5)
    after = (folder / "0000000001.seg").stat()
    assert (before.st_size, before.st_blocks) == (after.st_size, after.st_blocks) == (SEGMENT, SEGMENT // 512)
    journal.close()


def test_nothing_readable_is_in_the_files(folder: Path) -> None:
    """Entries lie only sealed on the disk, and the same entry twice looks different."""
    journal = opened(folder)
    made = fill(journal, 2)
    journal.close()
    data = (folder / "0000000001.seg").read_bytes()
    assert made[0].payload[2:] not in data
    assert made[0].hash not in data
    blocks = {data[i * BLOCK + 32 : i * BLOCK + 96] for i in (1, 2)}
    assert len(blocks) == 2


def test_a_record_that_does_not_follow_is_refused_and_nothing_written(folder: Path) -> None:
    """Gaps, repetitions, another bank, time and hash: each is refused and the journal goes on."""
    journal = opened(folder)
    first, second = fill(journal, 2)
    good = following(second)
    changes: list[dict[str, Any]] = [
        {"lsn": 4},
        {"lsn": 2},
        {"time_us": 1},
        {"previous_hash": first.hash},
        {"epoch": 0},
        {"bank": "beta"},
    ]
    before = (folder / "0000000001.seg").read_bytes()
    for change in changes:
        bad = msgspec.structs.replace(good, **change)
        with pytest.raises(ChainBroken):
            journal.append(msgspec.structs.replace(bad, hash=hash_of(bad)))
    assert (folder / "0000000001.seg").read_bytes() == before
    journal.append(good)
    journal.close()


def test_the_first_record_must_be_of_the_journal_s_bank(folder: Path) -> None:
    """There is no record before it that would say so."""
    journal = opened(folder)
    with pytest.raises(ChainBroken, match="bank 'beta'"):
        journal.append(following(None, bank="beta"))
    assert following(None).first_position == FIRST_POSITION
    journal.close()


def test_a_failed_sync_kills_the_journal_for_good(folder: Path) -> None:
    """The error is told once and again, nothing is retried, and a restart finds what was written."""
    failing = False

    def write(fd: int, data: memoryview, offset: int) -> int:
        written_bytes = write_durably(fd, data, offset)
        if failing:
            raise OSError(errno.EIO, "sync failed")
        return written_bytes

    journal = opened(folder, write=write)
    made = fill(journal, 2)
    failing = True
    third = following(made[-1])
    with pytest.raises(JournalWriteFailed, match="sync failed"):
        journal.append(third)
    failing = False
    with pytest.raises(JournalWriteFailed, match="restart"):
        journal.append(third)
    assert journal.last == made[-1]
    assert list(journal.records(1)) == made
    journal.close()
    again = opened(folder)
    assert list(again.records(1)) == [*made, third]
    again.close()


@pytest.mark.parametrize("failing_call", [1, 2, 3], ids=["header", "footer", "record"])
def test_a_failure_while_changing_segments_kills_the_journal(folder: Path, failing_call: int) -> None:
    """Whichever write fails, a restart finds all that was acknowledged and goes on."""
    calls = -14 - 1

    def write(fd: int, data: memoryview, offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls == failing_call:
            raise OSError(errno.EIO, "broken disk")
        return write_durably(fd, data, offset)

    journal = opened(folder, write=write)
    made = fill(journal, 14)
    with pytest.raises(JournalWriteFailed, match="broken disk"):
        journal.append(following(made[-1]))
    journal.close()
    again = opened(folder)
    assert list(again.records(1)) == made
    made += fill(again, 20)
    again.close()
    last = opened(folder)
    assert list(last.records(1)) == made
    last.close()


def test_a_folder_that_cannot_be_synced_kills_the_journal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new segment counts only once its name is durable."""
    journal = opened(folder)
    made = fill(journal, 14)

    def fail(folder: Path) -> None:
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr("fortress.ledger.journal.sync_folder", fail)
    with pytest.raises(JournalWriteFailed, match="broken disk"):
        journal.append(following(made[-1]))
    journal.close()
    monkeypatch.undo()
    again = opened(folder)
    assert again.last == made[-1]
    again.close()


def test_a_name_without_space_is_a_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was written of the record, so it may be tried again."""
    journal = opened(folder)
    made = fill(journal, 14)
    fifteenth = following(made[-1])

    def fail(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as full:
        full.setattr(Path, "rename", fail)
        with pytest.raises(DiskFull):
            journal.append(fifteenth)
    journal.append(fifteenth)
    assert list(journal.records(1)) == [*made, fifteenth]
    journal.close()


def test_a_folder_that_cannot_be_used_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken or full disk at the start is an error of the ledger, not of the system."""
    folder.parent.joinpath("file").touch()
    with pytest.raises(JournalWriteFailed, match="cannot be opened"):
        opened(folder.parent / "file")

    def fail(self: Path, mode: int, *, parents: bool) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(DiskFull):
        opened(folder)


def test_a_full_disk_refuses_before_writing_and_recovers(small_disk: Path) -> None:
    """On a real full file system: reading goes on, the same record succeeds when there is space, nothing is lost."""
    journal = opened(small_disk / "journal")
    made = fill(journal, 3)
    assert not journal.low_space()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2 * SEGMENT))
    assert journal.low_space()
    made += fill(journal, 11)
    fifteenth = following(made[-1])
    for _ in range(2):
        with pytest.raises(DiskFull):
            journal.append(fifteenth)
        assert journal.last == made[-1]
        assert list(journal.records(1)) == made
        assert names(small_disk / "journal") == ["0000000001.seg"]
    ballast.unlink()
    journal.append(fifteenth)
    made.append(fifteenth)
    made += fill(journal, 5)
    journal.close()
    again = opened(small_disk / "journal")
    assert list(again.records(1)) == made
    again.close()


def test_no_space_for_the_first_segment_is_told(small_disk: Path) -> None:
    """A bank cannot start on a full disk."""
    with pytest.raises(DiskFull):
        opened(small_disk / "journal", segment_bytes=8 * SEGMENT)


def test_reading_goes_on_beside_appending(folder: Path) -> None:
    """A reader in another thread sees each record once, whole and in order, and only durable ones."""
    journal = opened(folder)
    wanted = 200
    seen: list[int] = []

    def read() -> None:
        lsn = 1
        while lsn <= wanted:
            for record in journal.records(lsn):
                last = journal.last
                assert last is not None and record.lsn == lsn <= last.lsn
                seen.append(lsn)
                lsn += 1

    reader = threading.Thread(target=read)
    reader.start()
    fill(journal, wanted)
    reader.join(timeout=30)
    assert seen == list(range(1, wanted + 1))
    journal.close()


def test_reading_in_parts_finds_every_record_whatever_was_read_before(folder: Path) -> None:
    """A reader that comes back goes on where reading ended; one that begins elsewhere is not led astray."""
    made = written(folder, 50, size=5000)
    journal = opened(folder)
    for step in (1, 3, 7):
        lsn, found = 1, []
        while lsn <= 50:
            part = list(islice(journal.records(lsn), step))
            found += part
            lsn = part[-1].lsn + 1
        assert found == made
    for lsn in (20, 3, 45, 14, 1, 22, 21, 29, 28, 50):
        assert next(journal.records(lsn)) == made[lsn - 1]
    journal.close()


def test_damage_met_while_reading_is_told(folder: Path) -> None:
    """Each record is opened and checked on the way, with file, place and number in the error."""
    written(folder, 20)
    path = folder / "0000000001.seg"
    overwrite(path, 7 * BLOCK + 50, b"\xff\xff")
    journal = opened(folder)
    found = []
    with pytest.raises(JournalCorrupt, match="record 7: the record is damaged") as caught:
        found += [record.lsn for record in journal.records(5)]
    assert caught.value.facts == {"file": str(path), "offset": 7 * BLOCK, "lsn": 7}
    assert [record.lsn for record in journal.records(9)] == list(range(9, 21))
    overwrite(path, 4 * BLOCK, b"\xff\xff")
    with pytest.raises(JournalCorrupt, match="record 4: is not where it was"):
        list(journal.records(9))
    journal.close()


def test_dropping_deletes_whole_segments_only(folder: Path) -> None:
    """What is asked to be kept stays, and the journal then starts later."""
    journal = opened(folder)
    made = fill(journal, 50)
    journal.drop_before(15)
    assert journal.first_lsn == 15
    journal.drop_before(42)
    assert journal.first_lsn == 29
    assert [name for name in names(folder) if name.endswith(".seg")] == ["0000000029.seg", "0000000043.seg"]
    assert list(journal.records(29)) == made[28:]
    with pytest.raises(JournalCorrupt, match="starts at record 29, 28 is not in it"):
        list(journal.records(28))
    journal.close()
    again = opened(folder, applied_lsn=30)
    assert (again.first_lsn, again.last) == (29, made[-1])
    again.close()
    with pytest.raises(JournalCorrupt, match="starts at record 29"):
        opened(folder, applied_lsn=10)


def test_the_newest_record_is_never_dropped(folder: Path) -> None:
    """Whatever number is given, the last record stays, since the next one continues it."""
    journal = opened(folder)
    journal.drop_before(100)
    made = fill(journal, 28)
    journal.drop_before(10**9)
    assert journal.first_lsn == 15
    journal.close()
    again = opened(folder)
    assert again.last == made[-1]
    again.append(following(made[-1]))
    again.drop_before(10**9)
    assert again.first_lsn == 29
    again.close()


def test_a_closed_journal_takes_nothing(folder: Path) -> None:
    """Closing twice is fine; appending afterwards is not."""
    journal = opened(folder)
    made = fill(journal, 10)
    journal.close()
    journal.close()
    with pytest.raises(JournalWriteFailed, match="closed"):
        journal.append(following(made[-1]))
    assert names(folder) == ["0000000001.seg"]


# --- Several at once -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [100, 5000])
@pytest.mark.parametrize("counts", [[1, 2, 3, 50, 200], [13, 1, 1], [14, 14, 15], [128, 129]], ids=str)
def test_records_appended_together_are_as_those_appended_one_by_one(folder: Path, size: int, counts: list[int]) -> None:
    """Over borders of segments, and more than go into one write."""
    journal = opened(folder)
    made = []
    for count in counts:
        group = chain(journal.last, count, size=size)
        journal.append_many(group)
        made += group
        assert journal.last == made[-1]
    journal.append_many([])
    assert list(journal.records(1)) == made
    journal.close()
    again = opened(folder, applied_lsn=0)
    assert list(again.records(1)) == made and again.last == made[-1]
    again.close()


def test_records_appended_together_are_one_write(folder: Path) -> None:
    """As many as fit into the segment, and no more than the limit in bytes."""
    writes: list[int] = []

    def write(fd: int, data: memoryview, offset: int) -> int:
        writes.append(len(data) // BLOCK)
        return write_durably(fd, data, offset)

    journal = opened(folder, segment_bytes=64 * 1024 * 1024, write=write)
    journal.append_many(chain(None, 300))
    journal.append_many(chain(journal.last, 3, size=2 * 1024 * 1024))
    assert writes == [1, 128, 128, 44, 513, 513, 513]
    journal.close()
    writes.clear()
    journal = opened(folder.parent / "small", write=write)
    journal.append_many(chain(None, 20))
    assert writes == [1, 14, 1, 1, 6]  # header, records, header, footer, records
    journal.close()


def test_one_that_does_not_follow_keeps_all_from_being_written(folder: Path) -> None:
    """The group is refused whole, and the journal goes on."""
    journal = opened(folder)
    made = fill(journal, 2)
    group = chain(made[-1], 3)
    for bad in ([group[0], group[2]], [made[-1], *group], [*group, following(None)]):
        with pytest.raises(ChainBroken):
            journal.append_many(bad)
    assert journal.last == made[-1]
    journal.append_many(group)
    journal.close()


def test_a_full_disk_in_the_middle_leaves_the_first_ones(small_disk: Path) -> None:
    """``last`` tells how many, and the others may be tried again."""
    journal = opened(small_disk / "journal")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2 * SEGMENT))
    group = chain(None, 20)
    with pytest.raises(DiskFull):
        journal.append_many(group)
    assert journal.last == group[13]
    ballast.unlink()
    journal.append_many(group[14:])
    assert list(journal.records(1)) == group
    journal.close()


def test_a_failed_write_of_several_kills_the_journal(folder: Path) -> None:
    """A restart finds the first of them, however many reached the disk."""
    sizes = iter([BLOCK, 2 * BLOCK, 3 * BLOCK])

    def write(fd: int, data: memoryview, offset: int) -> int:
        size = next(sizes)
        written_bytes = write_durably(fd, data[:size], offset)
        if size < len(data):
            raise OSError(errno.EIO, "broken disk")
        return written_bytes

    journal = opened(folder, write=write)
    made = chain(None, 2)
    journal.append_many(made)
    group = chain(made[-1], 5)
    with pytest.raises(JournalWriteFailed, match="broken disk"):
        journal.append_many(group)
    with pytest.raises(JournalWriteFailed, match="restart"):
        journal.append_many(group)
    assert journal.last == made[-1]
    journal.close()
    again = opened(folder)
    assert list(again.records(1)) == [*made, *group[:3]]
    again.close()


@pytest.mark.parametrize("count", [1, 3])
def test_prepared_records_are_written_by_the_caller(folder: Path, count: int) -> None:
    """One write for all; they count once it is told."""
    journal = opened(folder)
    fill(journal, 2)
    group = chain(journal.last, count)
    prepared = journal.prepare(*group)
    assert prepared is not None
    fd, buffer, offset = prepared
    assert write_durably(fd, buffer, offset) == count * BLOCK
    assert journal.last is not None and journal.last.lsn == 2
    size = len(buffer)
    buffer.release()
    journal.written(group[-1], size)
    assert journal.last == group[-1] and journal.mark_at(3) == (3, group[0].hash)
    fill(journal, 1)
    journal.close()
    again = opened(folder)
    assert [record.lsn for record in again.records(1)] == list(range(1, count + 4))
    again.close()


def test_what_is_not_one_write_is_not_prepared(folder: Path) -> None:
    """Large ones, more than one segment takes, and more than a group."""
    journal = opened(folder, segment_bytes=1024 * 1024)
    assert journal.prepare(*chain(None, 200)) is None
    assert journal.prepare(*chain(None, 3, size=100_000)) is None
    fill(journal, 250)
    assert journal.prepare(*chain(journal.last, 10)) is None
    with pytest.raises(ChainBroken):
        journal.prepare(following(None))
    journal.close()
    with pytest.raises(JournalWriteFailed):
        journal.prepare(following(None))


# --- Marks -----------------------------------------------------------------------------------------------------------
def test_every_kept_record_has_its_mark(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after a restart, at borders of segments, and for the record before the first kept one."""
    monkeypatch.setattr(journal_module, "TAIL_HASHES_MAX", 10)
    journal = opened(folder)
    assert (journal.mark_at(0), journal.mark_at(1), journal.end) == ((0, GENESIS_HASH), None, (0, GENESIS_HASH))
    made = fill(journal, 50)
    marks = [(0, GENESIS_HASH), *((record.lsn, record.hash) for record in made)]
    for _ in range(2):
        assert [journal.mark_at(lsn) for lsn in range(51)] == marks
        assert (journal.end, journal.mark_at(51), journal.mark_at(-1)) == (marks[50], None, None)
        assert len(journal.tail_hashes) <= 10
        journal.close()
        journal = opened(folder)
    journal.drop_before(30)
    assert journal.first_lsn == 29
    assert [journal.mark_at(lsn) for lsn in range(51)] == [None] * 28 + marks[28:]
    journal.close()


def test_marks_go_back_in_doubling_steps_to_the_oldest(folder: Path) -> None:
    """The newest first; the last is the one before the first record kept."""
    journal = opened(folder)
    assert journal.marks_back() == ((0, GENESIS_HASH),)
    fill(journal, 1)
    assert [lsn for lsn, _ in journal.marks_back()] == [1, 0]
    fill(journal, 49)
    assert [lsn for lsn, _ in journal.marks_back()] == [50, 49, 48, 46, 42, 34, 18, 0]
    assert all(journal.mark_at(lsn) == (lsn, hash) for lsn, hash in journal.marks_back())
    assert [lsn for lsn, _ in journal.marks_back(3)] == [50, 49, 48]
    journal.drop_before(30)
    assert [lsn for lsn, _ in journal.marks_back()] == [50, 49, 48, 46, 42, 34, 28]
    journal.close()


def test_a_damaged_record_has_no_mark(folder: Path) -> None:
    """It is told, not passed over."""
    written(folder, 20)
    overwrite(folder / "0000000001.seg", 7 * BLOCK + 50, b"\xff\xff")
    journal = opened(folder)
    with pytest.raises(JournalCorrupt, match="record 7"):
        journal.mark_at(7)
    assert journal.mark_at(6) is not None
    journal.close()


def test_a_record_dropped_meanwhile_has_no_mark(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading marks goes on beside dropping."""
    written(folder, 40)
    journal = opened(folder)
    records = journal.records

    def drop_first(lsn: int) -> Any:
        journal.drop_before(30)
        return records(lsn)

    monkeypatch.setattr(journal, "records", drop_first)
    assert journal.mark_at(7) is None
    journal.close()


# --- Beginning later, and dropping -----------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [104, 3 * SEGMENT])
def test_a_journal_may_begin_with_a_later_record(folder: Path, size: int) -> None:
    """When others have what lies before, as after a snapshot; a large first record gets a segment of its size."""
    before = chain(None, 30)
    (first,) = chain(before[-1], 1, size=size)
    journal = opened(folder, first=first)
    assert (journal.first_lsn, journal.last, journal.end) == (31, first, (31, first.hash))
    assert (journal.mark_at(30), journal.mark_at(29)) == ((30, before[-1].hash), None)
    later = fill(journal, 30)
    journal.close()
    again = opened(folder, applied_lsn=31)
    assert list(again.records(31)) == [first, *later]
    again.close()
    with pytest.raises(JournalCorrupt, match="starts at record 31"):
        opened(folder, applied_lsn=29)


def test_a_journal_that_exists_does_not_begin_anew(folder: Path) -> None:
    """The record to begin with is for an empty folder only."""
    made = written(folder, 3)
    journal = opened(folder, first=chain(made[-1], 5)[-1])
    assert journal.last == made[-1] and journal.first_lsn == 1
    journal.close()


def test_what_somebody_still_needs_is_not_dropped(folder: Path) -> None:
    """Neither what the tables lack nor what the other node has not passed; the tables' own record stays."""
    journal = opened(folder)
    fill(journal, 50)
    journal.drop_applied(50, [20, 40])
    assert journal.first_lsn == 15
    journal.drop_applied(15, [40])
    assert journal.first_lsn == 15
    journal.drop_applied(43)
    assert journal.first_lsn == 43
    journal.close()


APPEND_FOR_EVER = """
import sys
from pathlib import Path
from tests.ledger.journal_fixture import following, opened

journal = opened(Path(sys.argv[1]))
while True:
    record = following(journal.last, size=3000)
    journal.append(record)
    print(record.lsn, record.hash.hex(), flush=True)
"""


def test_a_killed_process_has_what_it_said_was_durable(folder: Path) -> None:
    """SIGKILL in the middle of appending, three times over: every record told is there, and at most one more."""
    told: dict[int, str] = {}
    for _ in range(3):
        command = [sys.executable, "-c", APPEND_FOR_EVER, str(folder)]
        root = Path(__file__).parents[2]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
            assert process.stdout is not None
            for _ in range(60):
                line = process.stdout.readline().split()
                told[int(line[0])] = line[1]
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read()  # with what readline took ahead, which communicate would leave out
        for line in (text.split() for text in rest.splitlines(keepends=True) if text.endswith("\n")):
            told[int(line[0])] = line[1]
        journal = opened(folder, applied_lsn=0)
        found = {record.lsn: record.hash.hex() for record in journal.records(1)}
        journal.close()
        assert told.items() <= found.items()
        assert len(found) <= len(told) + 1
        told = found
