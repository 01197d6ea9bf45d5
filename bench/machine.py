"""The machine a number is measured on: what it is, whether a folder lies on a real disk, processes started on it."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
MEMORY_FILESYSTEMS = frozenset({"tmpfs", "ramfs"})
REFERENCE_NS = 45.0  # an iteration of the calibration loop on the machine of the first results, at its usual speed
CALIBRATION_ITERATIONS = 100_000
CALIBRATION_LOOPS = 9
QUIET_SHARE = 0.9
QUIET_WINDOW_S = 0.25
DISK_FOLDER = Path("/var/tmp")  # FHS 3.0, 5.15: kept over a reboot, hence on a disk where /tmp often is memory


def describe() -> dict[str, str | int | float]:
    """Describe this machine, and how fast it is just now, in the fields that belong to every measured number."""
    return {
        "cpu": _first_value(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "speed": speed(),
    }


def speed() -> float:
    """Measure how fast Python runs now, as a multiple of 45 ns for an iteration of a fixed loop; takes 50 ms.

    A virtual machine's processor may be several times slower an hour later; numbers measured at different speeds
    cannot be compared, and this one shows it.
    """
    loop = compile(f"x = 0\nfor i in range({CALIBRATION_ITERATIONS}): x += i", "calibration", "exec")
    times_ns = []
    for _ in range(CALIBRATION_LOOPS):
        started = time.perf_counter_ns()
        exec(loop, {})
        times_ns.append(time.perf_counter_ns() - started)
    return round(REFERENCE_NS * CALIBRATION_ITERATIONS / statistics.median(times_ns), 3)


def wait_quiet(at_most_s: float = 10.0) -> bool:
    """Wait until the processors are nearly idle, a bounded time, and say whether they are."""
    deadline = time.monotonic() + at_most_s
    while time.monotonic() < deadline:
        idle, total = _processor_times()
        time.sleep(QUIET_WINDOW_S)
        idle_after, total_after = _processor_times()
        if idle_after - idle >= QUIET_SHARE * (total_after - total):
            return True
    return False


def cpu_s(pid: int) -> float:
    """Tell how much processor time a process has used so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ends_with_parent() -> list[str]:
    """Give the words before a command by which the kernel ends it when this process ends, however that happens."""
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "KILL"] if found else []


@contextmanager
def signals_held() -> Iterator[None]:
    """Let signals to stop wait until a process that is started here is known to who ends it."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def start_process(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process that the kernel ends when this one ends, however that happens, with the options of Popen.

    It has a session of its own: an interrupt at the terminal is for the bench, which ends what it has started.
    """
    words = [*ends_with_parent(), *command]
    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_release_signals, **options
    )


def _release_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


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


def _processor_times() -> tuple[int, int]:
    """Give idle (waiting for the disk included) and all ticks of all processors since the machine's start."""
    ticks = [int(value) for value in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def _first_value(path: Path, name: str) -> str:
    if not path.exists():
        return ""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
