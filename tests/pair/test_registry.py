"""What a witness keeps: rows of many pairs, each of one bank, never older than anybody knows, and on the disk first."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest

from fortress.errors import (
    Busy,
    DiskFull,
    FolderInUse,
    LocalProtocolError,
    PeerRejected,
    RegisterStale,
    StateFileDamaged,
    StateFileUnusable,
    UsageError,
)
from fortress.pair.change import EPOCH_MAX
from fortress.pair.messages import Configuration, Member
from fortress.pair.registry import PAIRS_MAX, SLOT_SIZE_BYTES, Registry
from fortress.pair.slots import Slots, write_durably
from fortress.pair.witness_messages import Answer, Differs, Get, Held, Refusal, Swap, Swapped
from tests.fault.disk import fill, make_space, small_disk
from tests.pair.registers import CLUSTER, FIRST, SECOND, configuration

OWNER, STRANGER = "a (a authority)", "b (b authority)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "register"


def get(registry: Registry, promised: int = 0, *, owner: str = OWNER, cluster: bytes = CLUSTER) -> Answer:
    return registry.answer(Get(cluster, promised), owner)


def swap(registry: Registry, epoch: int, promised: int = 0, *, owner: str = OWNER, cluster: bytes = CLUSTER) -> Answer:
    expected = epoch - 1 if epoch > 1 else None
    return registry.answer(Swap(cluster, promised, expected, configuration(epoch)), owner)


def held_epoch(answer: Answer) -> int:
    assert isinstance(answer, Held | Swapped | Differs), answer
    return answer.configuration.epoch if answer.configuration else 0


def refused(answer: Answer) -> int:
    assert isinstance(answer, Refusal), answer
    return answer.code


def reopened(registry: Registry, path: Path) -> Registry:
    registry.close()
    return Registry.open(path)


def test_a_change_survives_a_restart_with_the_id_of_the_storage(path: Path) -> None:
    """The id is random, made once, and stands in every configuration."""
    registry = Registry.open(path)
    assert registry.is_new and len(registry.witness) == 16 and get(registry) == Held(None)
    answer = swap(registry, 1)
    assert isinstance(answer, Swapped) and answer.configuration.witness == registry.witness
    again = reopened(registry, path)
    assert not again.is_new and again.witness == registry.witness and again.pairs == 1
    assert get(again) == Held(answer.configuration)
    again.close()
    other = Registry.open(path.with_name("other"))
    assert other.witness != registry.witness
    other.close()


def test_only_the_present_epoch_is_replaced(path: Path) -> None:
    """Who expects another one is told the present configuration."""
    registry = Registry.open(path)
    for epoch in (1, 2, 3):
        assert held_epoch(swap(registry, epoch)) == epoch
    for epoch in (1, 2, 3):
        answer = swap(registry, epoch)
        assert isinstance(answer, Differs) and held_epoch(answer) == 3
    assert refused(swap(registry, 5)) == RegisterStale.code  # epoch 4 can only have been read from a later register
    assert held_epoch(get(registry)) == 3
    registry.close()


@pytest.mark.parametrize(
    "question",
    [
        Swap(CLUSTER, 0, 1, configuration(3)),
        Swap(CLUSTER, 0, 1, Configuration(2, FIRST, (SECOND,))),
        Swap(CLUSTER, EPOCH_MAX + 1, 1, configuration(2)),
        Swap(b"", 0, None, configuration(1)),
        Get(bytes(65), 0),
        Get(CLUSTER, EPOCH_MAX + 1),
    ],
)
def test_what_makes_no_sense_is_refused(path: Path, question: Get | Swap) -> None:
    """A wrong question changes nothing and marks nothing."""
    registry = Registry.open(path)
    swap(registry, 1)
    assert refused(registry.answer(question, OWNER)) == LocalProtocolError.code
    assert held_epoch(get(registry)) == 1
    registry.close()


def test_once_proved_stale_it_serves_nobody_any_more(path: Path) -> None:
    """Not even nodes that know less, over a restart, and also where nothing is held; no row is made by mere asking."""
    registry = Registry.open(path)
    swap(registry, 1)
    assert get(registry, cluster=b"unknown") == Held(None) and registry.pairs == 1
    assert refused(get(registry, 3)) == RegisterStale.code
    assert refused(get(registry, 2, cluster=b"lost")) == RegisterStale.code
    for _ in range(2):
        assert refused(get(registry)) == RegisterStale.code
        assert refused(swap(registry, 2)) == RegisterStale.code
        assert refused(swap(registry, 1, cluster=b"lost")) == RegisterStale.code
        registry = reopened(registry, path)
    assert held_epoch(swap(registry, 1, cluster=b"other")) == 1
    registry.close()


def test_a_pair_belongs_to_the_bank_that_wrote_it(path: Path) -> None:
    """Another bank neither reads, nor changes, nor marks it stale."""
    registry = Registry.open(path)
    swap(registry, 1)
    assert refused(get(registry, owner=STRANGER)) == PeerRejected.code
    assert refused(get(registry, 9, owner=STRANGER)) == PeerRejected.code
    assert refused(swap(registry, 2, owner=STRANGER)) == PeerRejected.code
    assert held_epoch(swap(registry, 2)) == 2
    registry.close()


def test_a_reset_says_who_is_primary_and_ends_the_mark(path: Path) -> None:
    """In an epoch over all that were promised; the first bank to write the row owns it from then on."""
    registry = Registry.open(path)
    swap(registry, 1)
    get(registry, 7)
    with pytest.raises(UsageError, match="knows of 7"):
        registry.reset(CLUSTER, 6, SECOND)
    with pytest.raises(LocalProtocolError):
        registry.reset(CLUSTER, 7, Member("node-2", b"short"))
    fresh = registry.reset(CLUSTER, 7, SECOND)
    assert fresh == Configuration(8, SECOND, (SECOND,), registry.witness)
    registry = reopened(registry, path)
    assert get(registry, 7) == Held(fresh)
    assert held_epoch(swap(registry, 9, 8)) == 9
    assert refused(get(registry, owner=STRANGER)) == PeerRejected.code
    registry.reset(b"never seen", 0, FIRST)
    assert held_epoch(get(registry, cluster=b"never seen")) == 1
    registry.close()


def test_pairs_have_a_limit_and_the_largest_fit(path: Path) -> None:
    """Full is an answer; those who are there go on."""
    registry = Registry.open(path)
    large = [Member("é" * 64, bytes([number]) * 16) for number in (1, 2)]
    owner = "é" * 128
    rows = [os.urandom(64) for _ in range(PAIRS_MAX)]
    registry._rows = {
        each: msgspec.structs.replace(
            registry._row(each, owner), configuration=Configuration(EPOCH_MAX - 1, large[0], (large[0], large[1]))
        )
        for each in rows
    }
    last = Configuration(EPOCH_MAX, large[1], (large[0], large[1]))
    assert held_epoch(registry.answer(Swap(rows[0], 0, EPOCH_MAX - 1, last), owner)) == EPOCH_MAX
    assert refused(swap(registry, 1, cluster=b"one more")) == Busy.code
    assert refused(get(registry, 1, cluster=b"one more")) == Busy.code
    assert reopened(registry, path).pairs == PAIRS_MAX


def test_the_answer_comes_after_the_disk(path: Path) -> None:
    """A failed disk gives no answer at all, and nothing more is served; the next start tells what was written."""
    is_broken = False

    def write(fd: int, data: bytes, offset: int) -> None:
        if is_broken:
            raise OSError(errno.EIO, "gone")
        write_durably(fd, data, offset)

    registry = Registry.open(path, write=write)
    swap(registry, 1)
    is_broken = True
    for _ in range(2):
        with pytest.raises(StateFileUnusable):
            swap(registry, 2)
    again = reopened(registry, path)
    assert held_epoch(get(again)) == 1
    again.close()


def test_a_disk_that_is_full_for_changes_stays_readable(path: Path) -> None:
    """A refused change has not happened; a proof of staleness is remembered even so."""
    is_full = False

    def write(fd: int, data: bytes, offset: int) -> None:
        if is_full:
            raise OSError(errno.ENOSPC, "full")
        write_durably(fd, data, offset)

    registry = Registry.open(path, write=write)
    swap(registry, 1)
    swap(registry, 1, cluster=b"other")
    is_full = True
    assert refused(swap(registry, 2)) == DiskFull.code
    assert held_epoch(get(registry)) == 1
    assert refused(get(registry, 5, cluster=b"other")) == RegisterStale.code
    assert refused(get(registry, cluster=b"other")) == RegisterStale.code
    is_full = False
    assert held_epoch(swap(registry, 2)) == 2
    again = reopened(registry, path)
    assert refused(get(again, cluster=b"other")) == RegisterStale.code
    again.close()


def test_a_really_full_disk_takes_changes_in_the_space_kept_for_them() -> None:
    """The file was written whole when it was made; without that space, changes are refused and reading goes on."""
    try:
        with small_disk(4) as disk:
            registry = Registry.open(disk / "register")
            swap(registry, 1)
            fill(disk, leave_bytes=0)
            assert held_epoch(swap(registry, 2)) == 2
            os.truncate(disk / "register", 0)  # as on a file system that copies on write: there is no space of its own
            os.truncate(disk / "register", 2 * SLOT_SIZE_BYTES)
            fill(disk, leave_bytes=0)
            assert refused(swap(registry, 3)) == DiskFull.code
            assert held_epoch(get(registry)) == 2
            make_space(disk)
            assert held_epoch(swap(registry, 3)) == 3
            registry.close()
            again = Registry.open(disk / "register")
            assert held_epoch(get(again)) == 3
            again.close()
    except PermissionError:
        pytest.skip("this machine does not let us mount a small disk")


def test_a_file_that_cannot_be_used_is_told(path: Path) -> None:
    """Damaged, of a later version, or open elsewhere: no new one is made in its place."""
    registry = Registry.open(path)
    with pytest.raises(FolderInUse):
        Registry.open(path)
    registry.close()
    path.write_bytes(bytes(2 * SLOT_SIZE_BYTES))
    with pytest.raises(StateFileDamaged):
        Registry.open(path)
    path.unlink()
    Slots.create(path, msgspec.msgpack.encode([2]), slot_size_bytes=SLOT_SIZE_BYTES).close()
    with pytest.raises(StateFileDamaged, match="this version"):
        Registry.open(path)
