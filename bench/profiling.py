"""Where a node's time goes while a bench loads it: py-spy samples its stacks, and a text sums them up.

with profiled(bank, "logins", options):    does nothing unless --profile was given
    ...load it...
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench import machine, report
from bench.bank import Bank
from fortress.errors import UsageError

RATE: Final = 200
"""Samples a second."""
LINES: Final = 50
END_S_MAX: Final = 60.0


def add_option(parser: argparse.ArgumentParser, name: str) -> None:
    """Add ``--profile`` to a bench's options."""
    help = f"sample the node with py-spy into {file_of(name).name}"
    parser.add_argument("--profile", action="store_true", help=help)


def file_of(name: str) -> Path:
    """Say where the profile of a bench is kept."""
    return report.RESULTS / f"{name}-profile.txt"


@contextmanager
def profiled(bank: Bank, name: str, options: argparse.Namespace) -> Iterator[None]:
    """Sample the node's stacks while the block runs, if it was asked for, and write down where the time went.

    Stacks of Python only: to unwind those in C as well stops the node for longer than it runs. What is done in C shows
    as time of the function of Python that called it; the handshakes of TLS, as that of the one that runs the loop. A
    thread that waits is not sampled.

    Args:
        name: of the bench.
        options: with ``profile`` and ``warm_up`` and ``seconds``, which is how long it samples.

    Raises:
        UsageError: there is no py-spy.
    """
    if not options.profile:
        yield
        return
    assert bank.process is not None
    stacks = Path(bank.folder).parent / "stacks.txt"
    command = [_profiler(), "record", "--nonblocking", "--threads", "-r", str(RATE), "-f", "raw", "-o", str(stacks)]
    command += ["-d", str(max(int(options.warm_up + options.seconds), 1)), "-p", str(bank.process.pid)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sampler:
        try:
            yield
            sampler.wait(END_S_MAX)
        finally:
            sampler.kill()
    heading = f"{name}, commit {report.commit()}, {time.strftime('%Y-%m-%d')}, {machine.describe()}"
    report.RESULTS.mkdir(parents=True, exist_ok=True)
    file_of(name).write_text(f"{heading}\n{summary_of(stacks.read_text(encoding='utf-8'))}", encoding="utf-8")


def _profiler() -> str:
    """Find py-spy: in the path, or beside this Python."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), sysconfig.get_path("scripts")])
    found = shutil.which("py-spy", path=path)
    if found is None:
        raise UsageError("py-spy is not installed: 'pip install py-spy', or leave --profile out")
    return found


def summary_of(stacks: str) -> str:
    """Make a readable summary of py-spy's raw stacks: shares of all samples, by thread and by function.

    Args:
        stacks: a line for each stack: the thread, its frames from the outermost, parted by semicolons, a blank, how
            often seen.
    """
    threads: Counter[str] = Counter()
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in stacks.splitlines():
        frames_text, _, times_text = line.rpartition(" ")
        thread, *frames = [frame.rpartition(":")[0] or frame for frame in frames_text.split(";")]
        times = int(times_text)
        threads[thread] += times
        own[frames[-1] if frames else thread] += times
        for frame in set(frames):
            whole[frame] += times
    total = sum(threads.values())
    parts = []
    for title, counts in (("by thread", threads), ("in the function itself", own), ("with what it calls", whole)):
        rows = [f"{100 * times / total:6.1f} %  {name}" for name, times in counts.most_common(LINES)]
        parts.append("\n".join([f"\n{title}, of {total} samples", *rows, ""]))
    return "".join(parts)
