"""The spare file: there in time, zeros throughout, and nothing left behind when there is no space."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from fortress.errors import DiskFull
from fortress.ledger import spare as module
from fortress.ledger.spare import SPARE_NAME, Spare, free_space

SIZE = 64 * 1024


def failing(number: int) -> Any:
    def fail(*args: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_spare_made_ahead_is_taken_as_it_is(tmp_path: Path) -> None:
    """prepare() makes the file, take() waits for it."""
    spare = Spare(tmp_path, SIZE)
    spare.prepare()
    spare.prepare()
    path = spare.take(SIZE)
    assert path.read_bytes() == bytes(SIZE)
    assert path.stat().st_mode & 0o777 == 0o600
    made = path.stat().st_ino
    path.rename(tmp_path / "used")
    spare.prepare()
    assert spare.take(SIZE).stat().st_ino != made


def test_without_preparation_it_is_made_when_taken(tmp_path: Path) -> None:
    """Nobody has to prepare."""
    assert Spare(tmp_path, SIZE).take(SIZE).stat().st_size == SIZE


def test_a_larger_one_is_made_when_needed(tmp_path: Path) -> None:
    """A record over the usual size gets a segment of its own size."""
    spare = Spare(tmp_path, SIZE)
    spare.prepare()
    assert spare.take(3 * SIZE).stat().st_size == 3 * SIZE


def test_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    """A half made spare of an earlier process is not trusted; closing leaves none."""
    (tmp_path / SPARE_NAME).write_bytes(b"half")
    spare = Spare(tmp_path, SIZE)
    assert not (tmp_path / SPARE_NAME).exists()
    spare.prepare()
    spare.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Disk and quota alike: nothing stays, and it works again when there is space."""
    spare = Spare(tmp_path, SIZE)
    with monkeypatch.context() as broken:
        broken.setattr(os, "posix_fallocate", failing(number))
        spare.prepare()
        with pytest.raises(DiskFull):
            spare.take(SIZE)
        assert list(tmp_path.iterdir()) == []
    assert spare.take(SIZE).stat().st_size == SIZE


def test_more_than_the_disk_has_is_refused_before_allocating(tmp_path: Path) -> None:
    """An allocation that cannot succeed is not begun."""
    with pytest.raises(DiskFull):
        Spare(tmp_path, SIZE).take(free_space(tmp_path) + 2**40)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_disk_is_not_taken_for_a_full_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO reaches the caller of take()."""
    spare = Spare(tmp_path, SIZE)
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    spare.prepare()
    with pytest.raises(OSError, match="error"):
        spare.take(SIZE)


def test_whoever_needs_the_file_waits_for_no_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ahead of time it is filled in pieces with pauses, so that commits get the disk; then it hurries, each time."""
    pauses: list[float] = []
    wait = threading.Event.wait

    def noted(event: threading.Event, timeout: float | None = None) -> bool:
        if timeout == 600.0:
            pauses.append(timeout)
        return wait(event, timeout)

    monkeypatch.setattr(module, "PAUSE_S", 600.0)
    monkeypatch.setattr(threading.Event, "wait", noted)
    spare = Spare(tmp_path, 1024 * 1024)
    for _ in range(2):
        pauses.clear()
        spare.prepare()
        path = spare.take(1024 * 1024)
        assert path.stat().st_size == 1024 * 1024 and len(pauses) == 4
        path.rename(tmp_path / "taken")
    spare.close()


def test_closing_waits_for_no_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves nothing behind."""
    monkeypatch.setattr(module, "PAUSE_S", 600.0)
    spare = Spare(tmp_path, 1024 * 1024)
    spare.prepare()
    spare.close()
    assert not list(tmp_path.iterdir())
