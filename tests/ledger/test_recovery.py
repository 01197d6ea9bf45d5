"""After a crash: torn tails are forgotten, damage is told, and nothing acknowledged is lost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fortress.errors import JournalCorrupt, JournalWriteFailed, KeyUnusable
from fortress.ledger.records import Record, encode
from fortress.ledger.scan import scan
from fortress.ledger.segment import Seal, SegmentHeader, SegmentWriter, pack_header, unpack_header, write_durably

from .journal_fixture import KEY, SEGMENT, chain, fill, following, names, opened, overwrite, written

FIRST = "0000000001.seg"
BLOCK = 4096


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def copied(folder: Path, number: int) -> Path:
    return Path(shutil.copytree(folder, folder.parent / f"copy{number}"))


@pytest.mark.parametrize("damage", ["truncate", "zero", "garble"])
def test_a_torn_last_record_is_forgotten_wherever_it_tore(folder: Path, damage: str) -> None:
    """At each 512 byte border of the write under way: the record before is the last, and writing goes on."""
    made = written(folder, 3, size=5000)
    start, end = 5 * BLOCK, 7 * BLOCK
    for number, border in enumerate(range(start, end, 512)):
        torn = copied(folder, number)
        path = torn / FIRST
        if damage == "truncate":
            os.truncate(path, border)
        else:
            overwrite(path, border, bytes(end - border) if damage == "zero" else os.urandom(end - border))
        journal = opened(torn)
        assert journal.last == made[1]
        journal.append(made[2])
        journal.append(following(made[2]))
        assert [record.lsn for record in journal.records(1)] == [1, 2, 3, 4]
        journal.close()
        assert path.stat().st_size == SEGMENT
        again = opened(torn)
        assert again.last is not None and again.last.lsn == 4
        again.close()


def together(folder: Path, *counts: int) -> list[Record]:
    """A closed journal written by so many writes, of so many records each."""
    journal = opened(folder)
    made: list[Record] = []
    for count in counts:
        group = chain(journal.last, count)
        journal.append_many(group)
        made += group
    journal.close()
    return made


@pytest.mark.parametrize("lost", [{4}, {3}, {5}, {3, 4}, {3, 5}, {4, 5}, {3, 4, 5}], ids=str)
def test_of_one_write_any_part_may_be_missing_after_a_crash(folder: Path, lost: set[int]) -> None:
    """The disk writes sectors as it likes, so records behind a torn one may be whole: the first whole ones count."""
    made = together(folder, 2, 3)
    for lsn in lost:
        overwrite(folder / FIRST, lsn * BLOCK, bytes(BLOCK) if lsn % 2 else os.urandom(BLOCK))
    assert list(scan(folder, KEY, bank="alpha")) == made[: min(lost) - 1]
    journal = opened(folder)
    assert journal.last == made[min(lost) - 2]
    again = chain(journal.last, 4, size=200)
    journal.append_many(again)
    journal.close()
    whole = opened(folder, applied_lsn=0)
    assert list(whole.records(1)) == [*made[: min(lost) - 1], *again]
    whole.close()


@pytest.mark.parametrize("later", [1, 3])
def test_a_bad_record_before_a_later_write_is_damage(folder: Path, later: int) -> None:
    """In the middle of a write of several, too: what was written afterwards says that it was whole once."""
    together(folder, 2, 3, later)
    for lsn in (1, 2, 3, 4, 5):
        whole = (folder / FIRST).read_bytes()
        overwrite(folder / FIRST, lsn * BLOCK + 40, b"\xff\xff")
        with pytest.raises(JournalCorrupt, match="damage, not a torn write") as caught:
            opened(folder)
        assert caught.value.facts["lsn"] == lsn
        with pytest.raises(JournalCorrupt):
            list(scan(folder, KEY, bank="alpha"))
        (folder / FIRST).write_bytes(whole)


def test_a_bad_record_before_a_footer_is_damage(folder: Path) -> None:
    """A segment that was closed ended whole."""
    together(folder, 2, 14)
    (folder / names(folder)[-1]).unlink()
    overwrite(folder / FIRST, 10 * BLOCK + 40, b"\xff\xff")
    with pytest.raises(JournalCorrupt):
        list(scan(folder, KEY, bank="alpha"))


def test_recovery_writes_all_of_the_last_write_again(folder: Path) -> None:
    """None of what was written together with the last record was counted durable before."""
    together(folder, 2, 3)
    again: list[tuple[int, int]] = []

    def watch(fd: int, data: memoryview, offset: int) -> int:
        again.append((offset // BLOCK, len(data) // BLOCK))
        return write_durably(fd, data, offset)

    opened(folder, write=watch).close()
    overwrite(folder / FIRST, 5 * BLOCK, bytes(BLOCK))
    opened(folder, write=watch).close()
    overwrite(folder / FIRST, 3 * BLOCK, bytes(2 * BLOCK))
    opened(folder, write=watch).close()
    assert again == [(3, 3), (3, 2), (1, 2)]


def test_single_sectors_missing_from_the_last_record_are_a_torn_write(folder: Path) -> None:
    """Sectors may reach the disk in any order: each one alone missing makes the record torn."""
    made = written(folder, 2, size=5000)
    for number, sector in enumerate(range(3 * BLOCK, 3 * BLOCK + 5100, 512)):
        torn = copied(folder, number)
        overwrite(torn / FIRST, sector, bytes(512))
        journal = opened(torn)
        assert journal.last == made[0]
        journal.close()


def test_a_torn_first_record_leaves_an_empty_journal(folder: Path) -> None:
    """With nothing before it there is no last record."""
    written(folder, 1)
    overwrite(folder / FIRST, BLOCK + 100, bytes(500))
    journal = opened(folder)
    assert journal.last is None
    fill(journal, 1)
    journal.close()


def test_any_damaged_byte_in_a_middle_record_is_told(folder: Path) -> None:
    """A bad record before good ones is no torn write: the error says file, offset and record."""
    written(folder, 3)
    path = folder / FIRST
    whole = path.read_bytes()
    for at in [*range(2 * BLOCK, 2 * BLOCK + 60), *range(2 * BLOCK, 3 * BLOCK, 37)]:
        overwrite(path, at, bytes([whole[at] ^ 0x10]))
        with pytest.raises(JournalCorrupt, match="damage, not a torn write") as caught:
            opened(folder)
        assert caught.value.facts == {"file": str(path), "offset": 2 * BLOCK, "lsn": 2}
        assert "restore" in caught.value.hint
        overwrite(path, at, whole[at : at + 1])
    opened(folder).close()


@pytest.mark.parametrize("data", [bytes(BLOCK), b"\xff" * BLOCK])
def test_a_lost_or_garbled_middle_record_is_told(folder: Path, data: bytes) -> None:
    """Zeros where a record was, and good ones behind, are damage too."""
    written(folder, 3)
    overwrite(folder / FIRST, 2 * BLOCK, data)
    with pytest.raises(JournalCorrupt):
        opened(folder)


def test_records_in_another_order_are_told(folder: Path) -> None:
    """A whole record copied over another one opens nowhere else; the same record twice does not follow itself."""
    written(folder, 3)
    path = folder / FIRST
    third = path.read_bytes()[3 * BLOCK : 4 * BLOCK]
    overwrite(path, 2 * BLOCK, third)
    with pytest.raises(JournalCorrupt, match="record 3 is in its place"):
        opened(folder)


def test_a_damaged_header_is_told(folder: Path) -> None:
    """Without its header a segment says nothing."""
    written(folder, 3)
    overwrite(folder / FIRST, 10, b"\xff")
    with pytest.raises(JournalCorrupt, match="header"):
        opened(folder)


def test_a_wrong_key_is_told_apart_from_damage(folder: Path) -> None:
    """The answer to another data key is to bring the right one."""
    written(folder, 3)
    with pytest.raises(KeyUnusable, match="another data key"):
        opened(folder, key=bytes(32))
    with pytest.raises(KeyUnusable, match="32 bytes"):
        opened(folder, key=b"short")
    opened(folder).close()


def test_another_bank_s_journal_is_refused(folder: Path) -> None:
    """A folder copied to the wrong place is not written to."""
    written(folder, 1)
    with pytest.raises(JournalCorrupt, match="bank 'alpha'"):
        opened(folder, bank="beta")


def test_a_segment_missing_in_the_middle_is_a_hole(folder: Path) -> None:
    """The error names the file that is not there."""
    written(folder, 40)
    segments = names(folder)
    assert len(segments) == 3
    (folder / segments[1]).unlink()
    with pytest.raises(JournalCorrupt, match=f"{segments[1]} is missing"):
        opened(folder)


def test_a_missing_newest_segment_is_told(folder: Path) -> None:
    """A footer says that there was a next segment."""
    written(folder, 40)
    newest = names(folder)[-1]
    (folder / newest).unlink()
    with pytest.raises(JournalCorrupt, match=f"{newest}, is missing"):
        opened(folder)


def test_a_segment_under_another_name_is_told(folder: Path) -> None:
    """Name and header must agree."""
    written(folder, 1)
    (folder / FIRST).rename(folder / "0000000005.seg")
    with pytest.raises(JournalCorrupt, match="another segment's name"):
        opened(folder)


def test_a_segment_of_another_history_is_told(folder: Path, tmp_path: Path) -> None:
    """The same numbers after other records are not the same journal."""
    written(folder, 20)
    other = tmp_path / "other"
    written(other, 20, size=200)
    newest = names(folder)[-1]
    shutil.copy(other / newest, folder / newest)
    with pytest.raises(JournalCorrupt, match="another history"):
        opened(folder)


def test_a_segment_that_ends_early_before_others_is_told(folder: Path) -> None:
    """Damage at the end of a segment that is not the last one is never a torn tail."""
    written(folder, 20)
    overwrite(folder / FIRST, SEGMENT - BLOCK, bytes(BLOCK))
    with pytest.raises(JournalCorrupt, match="ends early"):
        opened(folder)


def empty_last(folder: Path) -> str:
    """Bring a journal of two segments to the moment before the second one's first record; give its name."""
    newest = names(folder)[-1]
    overwrite(folder / newest, BLOCK, bytes(SEGMENT - BLOCK))
    return newest


def test_a_crash_before_the_first_record_of_a_segment_is_recovered(folder: Path) -> None:
    """With the old segment closed, its last record is the journal's."""
    made = written(folder, 15)
    assert empty_last(folder) == "0000000015.seg"
    journal = opened(folder)
    assert journal.last == made[13]
    journal.append(made[14])
    assert list(journal.records(1)) == made
    journal.close()


@pytest.mark.parametrize("footer", [bytes(BLOCK), bytes(512) + b"\x07" * (BLOCK - 512)])
def test_a_crash_before_the_footer_is_recovered(folder: Path, footer: bytes) -> None:
    """With the new segment named and the old one not closed yet, recovery closes it."""
    made = written(folder, 15)
    empty_last(folder)
    overwrite(folder / FIRST, SEGMENT - BLOCK, footer)
    journal = opened(folder)
    assert journal.last == made[13]
    journal.append(made[14])
    journal.close()
    again = opened(folder)
    assert list(again.records(1)) == made
    again.close()


def test_a_segment_without_footer_must_end_as_the_next_begins(folder: Path) -> None:
    """When its last record is gone too, that is damage."""
    written(folder, 15)
    empty_last(folder)
    overwrite(folder / FIRST, 14 * BLOCK, bytes(2 * BLOCK))
    with pytest.raises(JournalCorrupt, match="ends early, the next one continues it"):
        opened(folder)


def test_a_damaged_last_record_of_a_closed_segment_is_told(folder: Path) -> None:
    """The footer knows its hash."""
    written(folder, 15)
    empty_last(folder)
    overwrite(folder / FIRST, 14 * BLOCK + 99, b"\xff\xff\xff")
    with pytest.raises(JournalCorrupt, match="the last record is damaged"):
        opened(folder)


def test_a_journal_of_which_nothing_is_left_is_told(folder: Path) -> None:
    """An empty segment that is not the first needs the one before."""
    written(folder, 15)
    empty_last(folder)
    (folder / FIRST).unlink()
    with pytest.raises(JournalCorrupt, match="nothing is left"):
        opened(folder)


def test_a_first_record_that_does_not_fit_its_header_is_told(folder: Path, tmp_path: Path) -> None:
    """A segment whose older ones were dropped still starts where its header says."""
    written(folder, 15)
    newest = folder / "0000000015.seg"
    data = newest.read_bytes()
    header, _ = unpack_header(data[:BLOCK], KEY)
    forged = SegmentHeader(
        bank="alpha", first_lsn=15, previous_hash=b"z" * 32, salt=header.salt, size_bytes=header.size_bytes
    )
    overwrite(newest, 0, pack_header(forged, Seal(KEY, forged)))
    (folder / FIRST).unlink()
    with pytest.raises(JournalCorrupt, match="its segment's header"):
        opened(folder)


def test_a_record_of_another_bank_in_a_segment_is_told(folder: Path) -> None:
    """Only who has the data key could seal it, and it is still refused."""
    opened(folder).close()
    path = folder / FIRST
    header, seal = unpack_header(path.read_bytes()[:BLOCK], KEY)
    writer = SegmentWriter(path, header, seal, offset=BLOCK, offsets=[], write=write_durably)
    writer.write_records(1, [encode(following(None, bank="beta"))], os.urandom)
    writer.close()
    with pytest.raises(JournalCorrupt, match="of bank 'beta', the segment of 'alpha'"):
        opened(folder)


def test_a_journal_shorter_than_the_tables_is_told(folder: Path) -> None:
    """Who knows how far it must reach finds a lost end."""
    written(folder, 3)
    opened(folder, applied_lsn=3).close()
    with pytest.raises(JournalCorrupt, match="ends at record 3, the tables hold record 4"):
        opened(folder, applied_lsn=4)
    with pytest.raises(JournalCorrupt, match="ends at record 0"):
        opened(folder.parent / "empty", applied_lsn=1)


def test_everything_after_the_tables_is_checked_at_the_start(folder: Path) -> None:
    """Damage in an older segment is found if it lies behind what was applied, and left to audits otherwise."""
    written(folder, 40)
    overwrite(folder / FIRST, 5 * BLOCK + 1000, b"\xff\xff")
    with pytest.raises(JournalCorrupt, match="record 5: the record is damaged"):
        opened(folder, applied_lsn=2)
    opened(folder, applied_lsn=20).close()
    opened(folder).close()


def test_recovery_writes_the_last_record_again_before_counting_on_it(folder: Path) -> None:
    """What was read may not be on the disk, so a failing write stops the start."""
    written(folder, 2)
    before = (folder / FIRST).read_bytes()
    again: list[int] = []

    def watch(fd: int, data: memoryview, offset: int) -> int:
        again.append(offset)
        return write_durably(fd, data, offset)

    opened(folder, write=watch).close()
    assert again == [2 * BLOCK]
    assert (folder / FIRST).read_bytes() == before

    def fail(fd: int, data: memoryview, offset: int) -> int:
        raise OSError(5, "broken disk")

    with pytest.raises(JournalWriteFailed, match="broken disk"):
        opened(folder, write=fail)
