"""A disk so small that it can be filled: a tmpfs, mounted for one test and always unmounted."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BALLAST = "ballast"


@contextmanager
def small_disk(size_mb: int) -> Iterator[Path]:
    """Mount a file system of this size; what still uses it must have ended by the end.

    Raises:
        PermissionError: this machine does not let us mount.
    """
    with tempfile.TemporaryDirectory(prefix="fortress-disk-", dir="/var/tmp") as parent:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=700", "fortress-test", parent],
            capture_output=True,
            text=True,
            timeout=20,
        )
        if mounted.returncode:
            raise PermissionError(mounted.stderr.strip())
        try:
            yield Path(parent)
        finally:
            subprocess.run(["umount", "--lazy", parent], check=True, timeout=20)


def free_bytes(disk: Path) -> int:
    """Tell how much space is left."""
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def fill(disk: Path, *, leave_bytes: int) -> None:
    """Write a file that leaves so much free."""
    with open(disk / BALLAST, "ab") as file:
        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, max(free_bytes(disk) - leave_bytes, 4096))


def make_space(disk: Path) -> None:
    """Delete that file."""
    (disk / BALLAST).unlink()
