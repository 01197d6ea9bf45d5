"""The spare: the journal's next segment file, filled with zeros ahead of time so that no append waits for it.

Filling 64 MiB at once takes a tenth of a second and more, in which every commit waits for the disk; so a thread does it
in small pieces with pauses, while the current segment is half full, and hurries once somebody waits for it. The space
is allocated before the first zero is written, so a full disk is found here, long before a record needs the space, and
never in the middle of a commit.
"""

from __future__ import annotations

import errno
import os
import threading
from functools import partial
from pathlib import Path

from fortress.errors import DiskFull
from fortress.ledger.segment import fill_with_zeros, open_direct

SPARE_NAME = "spare.tmp"
PAUSE_S = 0.004
"""Between two pieces, of which 64 MiB have 256: it takes a little over a second then."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_disk_full(error: OSError) -> bool:
    """Tell a full disk or quota from a broken disk."""
    return error.errno in _FULL


def free_space(folder: Path) -> int:
    """Tell how many bytes of the folder's disk can still be used."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


class Spare:
    """Makes the next file of a folder; for one thread at a time, besides its own.

    Args:
        folder: where the segments are.
        size_bytes: size of the file made ahead.
    """

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self._path = folder / SPARE_NAME
        self._size_bytes = size_bytes
        self._ready_size_bytes = 0
        self._thread: threading.Thread | None = None
        self._cancelled = threading.Event()
        self._is_awaited = threading.Event()
        self._path.unlink(missing_ok=True)

    def prepare(self) -> None:
        """Start making the file in the background, unless it is there or under way."""
        if self._thread is None and not self._ready_size_bytes:
            self._is_awaited.clear()
            self._thread = threading.Thread(target=self._make_ahead, name="journal-spare", daemon=True)
            self._thread.start()

    def take(self, size_bytes: int) -> Path:
        """Give a durable file of zeros of at least this size; the caller writes its header and renames it.

        Waits if it is just being made, and makes it if it is not there.

        Raises:
            DiskFull: there is no space; nothing is left behind, and a later try may succeed.
            OSError: the disk is broken.
        """
        self._is_awaited.set()
        self._wait()
        if self._ready_size_bytes < size_bytes:
            self._make(max(size_bytes, self._size_bytes))
        self._ready_size_bytes = 0
        return self._path

    def close(self) -> None:
        """Stop the background work and remove the file."""
        self._cancelled.set()
        self._is_awaited.set()
        self._wait()
        self._path.unlink(missing_ok=True)
        self._ready_size_bytes = 0

    def _wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _make_ahead(self) -> None:
        try:
            self._make(self._size_bytes)
        except (DiskFull, OSError):
            # take() tries again and lets its caller know; here nobody listens.
            return

    def _make(self, size_bytes: int) -> None:
        self._path.unlink(missing_ok=True)
        self._ready_size_bytes = 0
        try:
            self._fill(size_bytes)
        except OSError as exc:
            self._path.unlink(missing_ok=True)
            if is_disk_full(exc):
                raise DiskFull(f"no space for {size_bytes} more bytes of journal") from exc
            raise
        self._ready_size_bytes = 0 if self._cancelled.is_set() else size_bytes

    def _fill(self, size_bytes: int) -> None:
        # Asking first: an allocation that fails would take all that is left for a moment, also from the tables.
        if free_space(self._path.parent) < size_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        fd = open_direct(self._path)
        try:
            os.posix_fallocate(fd, 0, size_bytes)
            pause = partial(self._is_awaited.wait, PAUSE_S)
            fill_with_zeros(fd, 0, size_bytes, is_cancelled=self._cancelled.is_set, between=pause)
            os.fsync(fd)
        finally:
            os.close(fd)
