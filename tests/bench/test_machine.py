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


def test_speed_is_relative_to_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that takes twice the reference's time is half its speed; one slow turn of nine changes nothing."""
    ticks = iter(step for turn in range(9) for step in (turn * 10**9, turn * 10**9 + (9_000_000 if turn else 10**8)))
    monkeypatch.setattr(machine.time, "perf_counter_ns", lambda: next(ticks))
    assert machine.speed() == 0.5


def test_quiet_is_waited_for_until_it_comes_or_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors that were idle nine tenths of a moment are quiet; busy ones end the wait by its bound."""
    clock = iter(range(1000))
    monkeypatch.setattr(machine.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(machine.time, "sleep", lambda seconds: None)
    times = iter([(0, 0), (50, 100), (50, 100), (145, 200)])
    monkeypatch.setattr(machine, "_processor_times", lambda: next(times))
    assert machine.wait_quiet(10)
    monkeypatch.setattr(machine, "_processor_times", lambda: (0, next(clock)))
    assert not machine.wait_quiet(10)


def test_this_machine_counts_its_idle_time() -> None:
    """Idle is a part of all time."""
    idle, total = machine._processor_times()
    assert 0 <= idle <= total


def test_a_command_ends_with_its_parent_where_the_machine_can_do_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the program that asks the kernel for it, the command stands alone."""
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/usr/bin/setpriv")
    assert machine.ends_with_parent() == ["/usr/bin/setpriv", "--pdeathsig", "KILL"]
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    assert machine.ends_with_parent() == []
