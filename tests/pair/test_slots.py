"""Two slots written in turn: whatever a crash leaves of a write, what is read is the old content or the new one."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from fortress.errors import DiskFull, FolderExists, FolderInUse, StateFileDamaged, StateFileUnusable
from fortress.pair.slots import BLOCK_SIZE_BYTES, Slots, Write, content_size_bytes_max, read_slots, write_durably

OLD, NEW = b"old" * 100, b"new" * 300
SECTOR_SIZE_BYTES = 512


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control"


def made(path: Path, *contents: bytes) -> bytes:
    """Write the contents one after the other, and give the bytes of the closed file."""
    slots = Slots.create(path, contents[0])
    for content in contents[1:]:
        slots.write(content)
    slots.close()
    return path.read_bytes()


def write_quickly(fd: int, data: bytes, offset: int) -> None:
    """Write without the disk, for tests that cut the power themselves."""
    os.pwrite(fd, data, offset)


def failing(error: OSError, *, after: int = 0, bytes_written: int = 0) -> Write:
    """Make a disk that writes in order ``after`` times, then fails with some of the bytes written."""
    left = [after]

    def write(fd: int, data: bytes, offset: int) -> None:
        left[0] -= 1
        if left[0] >= 0:
            return write_durably(fd, data, offset)
        os.pwrite(fd, data[:bytes_written], offset)
        raise error

    return write


def test_the_newest_content_is_read(path: Path) -> None:
    """By the one who writes, after opening again, and by a mere look."""
    for count in range(1, 6):
        made(path, *(f"content {number}".encode() for number in range(count)))
        assert read_slots(path) == f"content {count - 1}".encode()
        slots = Slots.open(path)
        assert slots.content == f"content {count - 1}".encode()
        slots.close()
        path.unlink()


def test_the_file_keeps_its_size_and_mode(path: Path) -> None:
    """It is whole from the start, and only for its owner."""
    for contents in ((b"",), (b"", OLD), (b"", OLD, NEW)):
        assert len(made(path, *contents)) == 2 * BLOCK_SIZE_BYTES
        assert path.stat().st_mode & 0o777 == 0o600
        path.unlink()


def test_the_largest_content_fits_and_a_larger_one_changes_nothing(path: Path) -> None:
    """The bound is told beforehand."""
    slots = Slots.create(path, OLD)
    slots.write(b"x" * content_size_bytes_max())
    with pytest.raises(ValueError, match="does not fit"):
        slots.write(b"x" * (content_size_bytes_max() + 1))
    slots.write(NEW)
    slots.close()
    assert read_slots(path) == NEW


def test_a_power_cut_at_every_byte_leaves_old_or_new(path: Path) -> None:
    """The bytes of a write reach the disk in order up to some byte, and only the whole content counts."""
    for contents in ((OLD,), (b"first", OLD)):  # the write goes into either slot
        before = made(path, *contents)
        path.unlink()
        after = made(path, *contents, NEW)
        found = []
        place = 0 if before[BLOCK_SIZE_BYTES:] == after[BLOCK_SIZE_BYTES:] else BLOCK_SIZE_BYTES
        with path.open("r+b", buffering=0) as file:
            file.write(before)
            for at in range(place, place + BLOCK_SIZE_BYTES):
                os.pwrite(file.fileno(), after[at : at + 1], at)
                found.append(read_slots(path))
        assert path.read_bytes() == after
        assert set(found) == {OLD, NEW} and found == sorted(found, key=lambda content: content == NEW)
        path.unlink()


@pytest.mark.parametrize("seed", range(20))
def test_a_power_cut_that_takes_any_sectors_leaves_old_or_new(path: Path, seed: int) -> None:
    """A disk writes sectors in any order; after each cut the file opens, takes a new content and survives again."""
    chance = random.Random(seed)
    large, slot_size = 5 * BLOCK_SIZE_BYTES, 8 * BLOCK_SIZE_BYTES
    slots = Slots.create(path, b"content 0", slot_size_bytes=slot_size)
    slots.close()
    held = b"content 0"
    for number in range(1, 40):
        before = path.read_bytes()
        slots = Slots.open(path, slot_size_bytes=slot_size, write=write_quickly)
        assert slots.content == held
        opened = path.read_bytes()
        fresh = f"content {number}".encode() + chance.randbytes(chance.randrange(large))
        slots.write(fresh)
        slots.close()
        after = path.read_bytes()
        # the cut comes while opening writes once more, or in the write that follows it
        old, new = (before, opened) if chance.random() < 0.3 else (opened, after)
        ats = range(0, len(old), SECTOR_SIZE_BYTES)
        kept = [(new if chance.random() < 0.7 else old)[at : at + SECTOR_SIZE_BYTES] for at in ats]
        path.write_bytes(b"".join(kept))
        found = read_slots(path, slot_size_bytes=slot_size)
        assert found == held or (found == fresh and new == after)
        held = found


def test_a_damaged_slot_gives_way_to_the_other(path: Path) -> None:
    """Any flipped byte of the newest slot brings the one before back, never anything else."""
    data = made(path, OLD, NEW)
    newest = data.index(NEW) // BLOCK_SIZE_BYTES * BLOCK_SIZE_BYTES
    with path.open("r+b", buffering=0) as file:
        for at in range(newest, newest + BLOCK_SIZE_BYTES):
            os.pwrite(file.fileno(), bytes([data[at] ^ 0xFF]), at)
            assert read_slots(path) == (OLD if at < newest + len(NEW) + 52 else NEW)
            os.pwrite(file.fileno(), data[at : at + 1], at)


def test_two_damaged_slots_are_told(path: Path) -> None:
    """Nothing is invented; the file stays as it is."""
    for data in (bytes(2 * BLOCK_SIZE_BYTES), b"", made(path, OLD)[:-1], made(path.with_name("x"), OLD) + b"x"):
        path.write_bytes(data)
        for look in (read_slots, Slots.open):
            with pytest.raises(StateFileDamaged):
                look(path)
        assert path.read_bytes() == data


def test_a_slot_in_the_wrong_place_does_not_count(path: Path) -> None:
    """Numbers and places belong together, so a misdirected write is no content."""
    data = made(path, OLD)
    path.write_bytes(data[BLOCK_SIZE_BYTES:] + data[:BLOCK_SIZE_BYTES])
    with pytest.raises(StateFileDamaged):
        read_slots(path)


def test_opening_writes_what_it_found_once_more(path: Path) -> None:
    """What the kernel shows need not be on the disk: it is before anybody may rely on it, and else nothing opens."""
    made(path, OLD, NEW)
    with pytest.raises(StateFileUnusable):
        Slots.open(path, write=failing(OSError(errno.EIO, "gone")))
    writes: list[tuple[int, bytes]] = []

    def noting(fd: int, data: bytes, offset: int) -> None:
        writes.append((offset, data))
        write_durably(fd, data, offset)

    Slots.open(path, write=noting).close()
    [(offset, data)] = writes
    assert NEW in data and path.read_bytes()[offset : offset + len(data)] == data
    assert path.read_bytes().count(NEW) == 2


@pytest.mark.parametrize("bytes_written", [0, 100, BLOCK_SIZE_BYTES])
def test_after_a_failed_write_nothing_is_taken(path: Path, bytes_written: int) -> None:
    """What the file holds is not known; opening again finds out, and it is old or new."""
    slots = Slots.create(path, OLD, write=failing(OSError(errno.EIO, "gone"), after=1, bytes_written=bytes_written))
    for _ in range(2):
        with pytest.raises(StateFileUnusable, match="gone"):
            slots.write(NEW)
    assert slots.content == OLD
    slots.close()
    slots = Slots.open(path)
    assert slots.content == (NEW if bytes_written == BLOCK_SIZE_BYTES else OLD)
    slots.close()


@pytest.mark.parametrize("bytes_written", [0, 100, BLOCK_SIZE_BYTES])
def test_a_full_disk_may_be_tried_again(path: Path, bytes_written: int) -> None:
    """The old content holds, and what is written next wins even over a write that got through after all."""
    made(path, b"first", OLD)
    fault = failing(OSError(errno.ENOSPC, "full"), after=1, bytes_written=bytes_written)
    slots = Slots.open(path, write=fault)
    for _ in range(3):
        with pytest.raises(DiskFull):
            slots.write(b"never answered")
    assert slots.content == OLD
    slots._write = write_durably
    slots.write(NEW)
    slots.close()
    assert read_slots(path) == NEW


def test_a_file_is_made_whole_or_not_at_all(path: Path) -> None:
    """A fault while making leaves no file of that name, and making it later works; one that is there is kept."""
    for error, told in ((OSError(errno.ENOSPC, "full"), DiskFull), (OSError(errno.EIO, "gone"), StateFileUnusable)):
        with pytest.raises(told):
            Slots.create(path, OLD, write=failing(error))
        assert not path.exists()
    made(path, OLD)
    with pytest.raises(FolderExists):
        Slots.create(path, NEW)
    assert read_slots(path) == OLD


def test_only_one_has_the_file_open(path: Path) -> None:
    """A second one is refused until the first has closed it; a look is always possible."""
    slots = Slots.create(path, OLD)
    with pytest.raises(FolderInUse):
        Slots.open(path)
    assert read_slots(path) == OLD
    slots.close()
    slots.close()
    with pytest.raises(StateFileUnusable, match="closed"):
        slots.write(NEW)
    Slots.open(path).close()


def test_a_missing_or_unreadable_file_is_told(path: Path) -> None:
    """Missing is a case of its own: whoever opens knows whether one may be made."""
    for look in (read_slots, Slots.open):
        with pytest.raises(FileNotFoundError):
            look(path)
    path.mkdir()
    for look in (read_slots, Slots.open):
        with pytest.raises(StateFileUnusable):
            look(path)
