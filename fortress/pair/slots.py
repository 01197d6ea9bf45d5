"""A small content that is replaced whole and survives any crash: two slots of a file, written in turn.

Each slot holds a sequence number and a checksum, and number ``n`` lies in slot ``n % 2``, so a write never touches the
content that is valid now: one torn by a power cut fails its checksum, and the other slot still says what was. All
of the file is written at creation, so a full disk takes no replacement away (but for file systems that copy on write).

Opening writes the content that it found once more, before anybody may rely on it: after a failed sync or a kill the
kernel may show bytes that never reached the disk, and a sync without a write would not notice (Rebello et al., "Can
Applications Recover from fsync Failures?", USENIX ATC 2020).
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

from fortress.errors import DiskFull, Facts, FolderExists, FolderInUse, StateFileDamaged, StateFileUnusable
from fortress.ledger.segment import sync_folder
from fortress.ledger.spare import is_disk_full

BLOCK_SIZE_BYTES: Final = 4096
"""No write of a slot shares a block of the disk with anything else."""
FILE_MODE: Final = 0o600

_HEADER: Final = struct.Struct(">8sQI")
_MAGIC: Final = b"FTSLOTS1"
_DIGEST_SIZE_BYTES: Final = sha256().digest_size
_OVERHEAD_SIZE_BYTES: Final = _HEADER.size + _DIGEST_SIZE_BYTES

Write = Callable[[int, bytes, int], None]
"""Writes (file descriptor, bytes, offset) durably."""


def write_durably(fd: int, data: bytes, offset: int) -> None:
    """Write and sync; all of the data is on the disk when it returns."""
    rest = memoryview(data)
    while rest:
        # a disk that fills up takes a part first, and says why only when asked to take the rest
        written = os.pwritev(fd, [rest], offset, os.RWF_DSYNC)
        rest, offset = rest[written:], offset + written


class Slots:
    """The file of one content; made by :meth:`create` or :meth:`open`, and locked against other processes until closed.

    For one thread at a time; ``write`` blocks for the disk.
    """

    def __init__(self, path: Path, fd: int, slot_size_bytes: int, write: Write) -> None:
        self._path = path
        self._fd = fd
        self._slot_size_bytes = slot_size_bytes
        self._write = write
        self._unusable = ""
        self._sequence = 0
        self.content = b""
        """The newest content that is surely on the disk."""

    @classmethod
    def create(
        cls, path: Path, content: bytes, *, slot_size_bytes: int = BLOCK_SIZE_BYTES, write: Write = write_durably
    ) -> Slots:
        """Make the file; a crash leaves the whole file under its name, or none.

        Args:
            path: in a folder that exists; what stands beside it as ``.new`` is of an interrupted making and replaced.
            content: at most :func:`content_size_bytes_max` bytes, as every later one.
            slot_size_bytes: a multiple of 4 KiB.
            write: for tests.

        Raises:
            FolderExists: there is such a file; it is never replaced.
            FolderInUse: another process is making it.
            DiskFull, StateFileUnusable: it could not be written.
        """
        beside = path.with_name(path.name + ".new")
        with _translated(path), ExitStack() as on_fault:
            if path.exists():
                raise FolderExists(f"there is a file {str(path)!r} already", {"file": str(path)})
            fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            slots = cls(path, fd, slot_size_bytes, write)
            on_fault.callback(slots.close)
            slots._lock()
            os.ftruncate(fd, 0)
            os.pwrite(fd, bytes(2 * slot_size_bytes), 0)
            os.fsync(fd)
            slots.write(content)
            os.rename(beside, path)
            sync_folder(path.parent)
            on_fault.pop_all()
        return slots

    @classmethod
    def open(cls, path: Path, *, slot_size_bytes: int = BLOCK_SIZE_BYTES, write: Write = write_durably) -> Slots:
        """Open the file and make sure that what it holds is on the disk.

        Raises:
            FileNotFoundError: there is none.
            StateFileDamaged: neither slot is whole, or the file has another size.
            FolderInUse: another process has it open.
            DiskFull, StateFileUnusable: it cannot be opened, read or written.
        """
        with _translated(path), ExitStack() as on_fault:
            slots = cls(path, os.open(path, os.O_RDWR | os.O_CLOEXEC), slot_size_bytes, write)
            on_fault.callback(slots.close)
            slots._lock()
            slots._sequence, content = _newest(path, os.pread(slots._fd, 2 * slot_size_bytes + 1, 0), slot_size_bytes)
            slots.write(content)
            on_fault.pop_all()
        return slots

    def fileno(self) -> int:
        """Give the file descriptor, for questions about the file itself."""
        return self._fd

    def write(self, content: bytes) -> None:
        """Replace the content; it is on the disk when this returns.

        Raises:
            DiskFull: there is no space, which only a file system that copies on write says; the old content holds
                until the next write or start (which may find the new one), and another write may be tried.
            StateFileUnusable: whether the content was written is not known, and nothing is taken any more: open it
                again to find out.
        """
        if self._unusable:
            raise StateFileUnusable(self._unusable, {"file": str(self._path)})
        sequence = self._sequence + 1
        data = _slot(sequence, content, self._slot_size_bytes)
        try:
            self._write(self._fd, data, (sequence % 2) * self._slot_size_bytes)
        except OSError as exc:
            if is_disk_full(exc):
                # should the slot be whole after all, the next write, of the same number and place, replaces it
                raise DiskFull(f"{str(self._path)!r} cannot be written: the disk is full") from exc
            self._unusable = f"{str(self._path)!r} could not be written; what it holds now is not known: {exc}"
            raise StateFileUnusable(self._unusable, {"file": str(self._path)}) from exc
        self._sequence = sequence
        self.content = content

    def close(self) -> None:
        """Let another process open the file; may be repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._unusable = f"{str(self._path)!r} is closed"

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise FolderInUse(f"another process has {str(self._path)!r} open", {"file": str(self._path)}) from exc


def content_size_bytes_max(slot_size_bytes: int = BLOCK_SIZE_BYTES) -> int:
    """Tell how many bytes of content such a slot takes."""
    return slot_size_bytes - _OVERHEAD_SIZE_BYTES


def read_slots(path: Path, *, slot_size_bytes: int = BLOCK_SIZE_BYTES) -> bytes:
    """Look at the content without opening the file for writing; also while another process has it open.

    Raises:
        FileNotFoundError: there is none.
        StateFileDamaged: neither slot is whole, or the file has another size.
        StateFileUnusable: it cannot be read.
    """
    with _translated(path), open(path, "rb") as file:
        return _newest(path, file.read(2 * slot_size_bytes + 1), slot_size_bytes)[1]


# --- one slot ---------------------------------------------------------------------------------------------------------


def _slot(sequence: int, content: bytes, slot_size_bytes: int) -> bytes:
    """Lay out a slot: header, content, checksum of both, filled up to whole blocks."""
    if len(content) > content_size_bytes_max(slot_size_bytes):
        raise ValueError(f"a content of {len(content)} bytes does not fit a slot of {slot_size_bytes}")
    head = _HEADER.pack(_MAGIC, sequence, len(content)) + content
    data = head + sha256(head).digest()
    return data.ljust(-(-len(data) // BLOCK_SIZE_BYTES) * BLOCK_SIZE_BYTES, b"\0")


def _newest(path: Path, data: bytes, slot_size_bytes: int) -> tuple[int, bytes]:
    """Give sequence number and content of the newest slot that is whole."""
    facts: Facts = {"file": str(path)}
    if len(data) != 2 * slot_size_bytes:
        raise StateFileDamaged(f"{str(path)!r} has not the size of its two copies", facts)
    halves = (data[:slot_size_bytes], data[slot_size_bytes:])
    whole = [found for at, half in enumerate(halves) if (found := _read(half)) is not None and found[0] % 2 == at]
    if not whole:
        raise StateFileDamaged(f"both copies in {str(path)!r} are damaged", facts)
    return max(whole)


def _read(slot: bytes) -> tuple[int, bytes] | None:
    magic, sequence, size = _HEADER.unpack_from(slot)
    end = _HEADER.size + size
    if magic != _MAGIC or sha256(slot[:end]).digest() != slot[end : end + _DIGEST_SIZE_BYTES]:
        return None
    return sequence, slot[_HEADER.size : end]


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as exc:
        if is_disk_full(exc):
            raise DiskFull(f"{str(path)!r} cannot be written: the disk is full") from exc
        raise StateFileUnusable(f"{str(path)!r} cannot be used: {exc.strerror}", {"file": str(path)}) from exc
