"""Disks made for one test: one so small that it can be filled, one whose power can be cut; always unmounted.

The mount points carry the id of the process that made them; what a killed test left is unmounted by the next one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PARENT: Final = Path("/var/tmp")
NAME: Final = "fortress-disk"
BALLAST: Final = "ballast"
BLOCK_BYTES: Final = 4096
COMMAND_S_MAX: Final = 20
EXT4_IOC_SHUTDOWN: Final = 0x8004587D  # _IOR('X', 125, __u32) of linux/ext4.h
WITHOUT_FLUSHING: Final = 2


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S_MAX)
    if done.returncode:
        raise PermissionError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")


@contextmanager
def small_disk(size_mb: int) -> Iterator[Path]:
    """Mount a file system of this size in memory; what still uses it must have ended by the end.

    Raises:
        PermissionError: this machine does not let us mount.
    """
    delete_leftovers()
    with tempfile.TemporaryDirectory(prefix=f"{NAME}-{os.getpid()}-", dir=PARENT) as parent:
        _run("mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=700", "fortress-test", parent)
        try:
            yield Path(parent)
        finally:
            _run("umount", "--lazy", parent)


class LoopDisk:
    """An ext4 file system in a file, mounted at ``folder``; ``with`` makes it and takes it away.

    Raises:
        PermissionError: this machine does not let us mount.
    """

    def __init__(self, size_mb: int) -> None:
        delete_leftovers()
        self._parent = Path(tempfile.mkdtemp(prefix=f"{NAME}-{os.getpid()}-", dir=PARENT))
        self._image = self._parent / "image"
        self.folder = self._parent / "disk"
        self._size_mb = size_mb
        self._is_mounted = False

    def __enter__(self) -> LoopDisk:
        try:
            self.folder.mkdir()
            with open(self._image, "xb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size_mb * 1024 * 1024)
            _run("mkfs.ext4", "-q", "-F", "-m", "0", self._image)
            self.mount()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_mounted:
            _run("umount", "--lazy", self.folder)
        shutil.rmtree(self._parent)

    def mount(self) -> None:
        """Mount it, which replays the file system's own journal after a cut."""
        _run("mount", "-o", "loop", self._image, self.folder)
        self._is_mounted = True

    def cut_power(self) -> None:
        """Lose everything that is not on the disk; from now on every access fails, until :meth:`power_up`."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", WITHOUT_FLUSHING))
        finally:
            os.close(descriptor)

    def power_up(self) -> None:
        """Unmount and mount again; whatever used the disk must have ended, or its files would live on."""
        _run("umount", self.folder)
        self._is_mounted = False
        self.mount()


def free_bytes(disk: Path) -> int:
    """Tell how much space is left."""
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def fill(disk: Path, *, leave_bytes: int) -> None:
    """Write a file that leaves so much free, or, while others write too, as little as there is to be had."""
    with open(disk / BALLAST, "ab") as file:
        size = max(free_bytes(disk) - leave_bytes, BLOCK_BYTES)
        while size >= BLOCK_BYTES and free_bytes(disk) > leave_bytes:
            try:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2  # the file system needs some of it for itself


def make_space(disk: Path) -> None:
    """Delete that file."""
    (disk / BALLAST).unlink()


def delete_leftovers() -> None:
    """Unmount and delete the disks of processes that have ended."""
    for parent in PARENT.glob(f"{NAME}-*-*"):
        pid = parent.name.removeprefix(NAME).split("-")[1]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            for folder in (parent / "disk", parent):
                if folder.is_mount():
                    _run("umount", "--lazy", folder)
            shutil.rmtree(parent)
