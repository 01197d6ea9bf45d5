"""The description of the machine says what numbers depend on."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import machine

MOUNTS = """\
/dev/vda / ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
/dev/vdb /tmp/disk xfs rw 0 0
tmpfs /tmp/disk/over ramfs rw 0 0
/dev/vdc /tmp/disk/over ext4 rw 0 0
"""


def test_a_machine_is_described_by_what_numbers_depend_on() -> None:
    """Processor, cores, memory, kernel, Python and present speed are all there and not empty."""
    described = machine.describe()
    assert list(described) == ["cpu", "cores", "memory_mb", "kernel", "python", "speed"]
    assert all(described.values())


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/elsewhere/data", "ext4"),
        ("/tmp/data", "tmpfs"),
        ("/tmpfile", "ext4"),
        ("/tmp/disk/data", "xfs"),
        ("/tmp/disk/over", "ext4"),
    ],
)
def test_a_path_lies_on_what_is_mounted_nearest_above_it(path: str, kind: str) -> None:
    """The longest mount point above a path names its file system, and of two on one point the later."""
    assert machine.filesystem(Path(path), MOUNTS) == kind


def test_without_a_mount_above_the_file_system_is_unknown() -> None:
    """A path under no known mount is not taken for a disk or for memory."""
    assert machine.filesystem(Path("/data"), "") == "unknown"


def test_this_machine_tells_its_mounts() -> None:
    """The mounts are read from the kernel when they are not given."""
    assert machine.filesystem(Path("/proc")) == "proc"


def test_a_missing_file_of_facts_is_an_empty_value(tmp_path: Path) -> None:
    """A kernel that does not tell its processor leaves the name to the platform."""
    assert machine._first_value(tmp_path / "cpuinfo", "model name") == ""
