"""Where a number was measured: processor, memory, kernel, and whether a folder lies on a real disk."""

from __future__ import annotations

import os
import platform
from pathlib import Path

MEMORY_FILESYSTEMS = frozenset({"tmpfs", "ramfs"})
DISK_FOLDER = Path("/var/tmp")  # FHS 3.0, 5.15: kept over a reboot, hence on a disk where /tmp often is memory


def describe() -> dict[str, str | int]:
    """Describe this machine in the fields that belong to every measured number."""
    return {
        "cpu": _first_value(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def filesystem(path: Path, mounts: str | None = None) -> str:
    """Name the type of file system a path lies on: where it is `tmpfs`, an fsync costs nothing and proves nothing.

    Args:
        mounts: the text of /proc/mounts, which is read when it is not given.
    """
    lines = (mounts if mounts is not None else Path("/proc/mounts").read_text(encoding="utf-8")).splitlines()
    found = ("", "unknown")
    for _, mount_point, kind, *_ in (line.split(" ") for line in lines):
        # Later lines are mounted over earlier ones, so the last of equal length counts.
        if path.resolve().is_relative_to(mount_point) and len(mount_point) >= len(found[0]):
            found = (mount_point, kind)
    return found[1]


def _first_value(path: Path, name: str) -> str:
    if not path.exists():
        return ""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
