"""Logins: how many people can sign in a second.

A session that is signed in cannot sign in again, so a login needs a connection of its own. Three numbers part what that
costs, each with as many clients under way at once, everybody with another username, no password hashed by the client:

``logins_per_s``
    everything a person causes: TCP, TLS 1.3 and the sealed channel's handshake in full (nothing resumed), hello, the
    proof in three moves with its check and the session's token, the close.
``connections_per_s``
    the same without the proof and the token.
``proofs_per_s``
    the proof and the token alone, on channels that were opened before.

The load client shares the processors with the node and does as much arithmetic: ``client_cpu_us`` says how much.
``--profile`` writes down where the node's time goes while logins come in.
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
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench import machine, report
from bench.arrivals import MODES
from bench.bank import Bank, Plan
from bench.measurement import LOAD_S_MAX, add_options, answer_of, at_least, check_books, run, started
from fortress.errors import UsageError

PROFILE = report.RESULTS / "logins-profile.txt"
PROFILE_RATE = 200
PROFILE_LINES = 50


def measure(options: argparse.Namespace) -> report.Result:
    """Let people come and go in each mode and give the result."""
    result: dict[str, report.Value] = {}
    with Bank(Plan(options.accounts, people=options.people), parent=options.folder) as bank:
        for mode in MODES:
            with _profiled(bank, options.seconds) if options.profile and mode == "logins" else ExitStack():
                result |= _measure_mode(bank, options, mode)
        check_books(bank)
    names = ("clients", "processes", "seconds", "people")
    return {**result, **{name: getattr(options, name) for name in names}}


def _measure_mode(bank: Bank, options: argparse.Namespace, mode: str) -> dict[str, report.Value]:
    report.progress(f"{mode}: {options.clients} clients, {options.processes} processes")
    cpu_s = bank.cpu_s()
    found = _arrivals(bank, options, mode)
    cpu_s = bank.cpu_s() - cpu_s
    per_s = sum(each["done"] / each["seconds"] for each in found)
    latencies_us: Counter[int] = Counter()
    for each in found:
        latencies_us.update(dict(each["latencies_us"]))
    shares = report.percentiles(latencies_us)
    prefix = "" if mode == "logins" else f"{mode}_"
    result: dict[str, report.Value] = {
        f"{mode}_per_s": round(per_s, 1),
        f"{prefix}p50_ms": shares["p50_ms"],
        f"{prefix}p99_ms": shares["p99_ms"],
    }
    if mode != "proofs":  # there the opening of channels would be counted in
        # Both processes work in the warm-up as well, about as much as while it is counted.
        turns = max(per_s * (options.seconds + options.warm_up), 1)
        result[f"{prefix}node_cpu_us"] = round(cpu_s / turns * 1e6)
        result[f"{prefix}client_cpu_us"] = round(sum(each["client_cpu_s"] for each in found) / turns * 1e6)
    return result


def _arrivals(bank: Bank, options: argparse.Namespace, mode: str) -> list[dict[str, Any]]:
    """Run the load processes side by side and give what each counted."""
    with ExitStack() as stack:
        processes = []
        for index in range(options.processes):
            arguments = {
                "port": bank.port,
                "ca": bank.ca,
                "mode": mode,
                "people": options.people,
                "first": index * options.people // options.processes,
                "clients": max(options.clients // options.processes, 1),
                "seconds": options.seconds,
                "warm-up": options.warm_up,
            }
            words = (f"--{name}={value}" for name, value in arguments.items())
            processes.append(stack.enter_context(started("bench.arrivals", *words)))
        return [answer_of(process, LOAD_S_MAX + options.warm_up + options.seconds) for process in processes]


@contextmanager
def _profiled(bank: Bank, seconds: float) -> Iterator[None]:
    """Sample the node's stacks and write down where the time went.

    Stacks of Python only: to unwind those in C as well stops the node for longer than it runs. What the loop does in C,
    the handshakes of TLS above all, shows as time of the function that runs the loop.
    """
    assert bank.process is not None
    stacks = Path(bank.folder).parent / "stacks.txt"
    command = [_profiler(), "record", "--nonblocking", "-r", str(PROFILE_RATE), "-f", "raw", "-o", str(stacks)]
    command += ["-d", str(max(int(seconds), 1)), "-p", str(bank.process.pid)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sampler:
        try:
            yield
            sampler.wait(LOAD_S_MAX)
        finally:
            sampler.kill()
    PROFILE.parent.mkdir(parents=True, exist_ok=True)
    heading = f"logins, commit {report.commit()}, {time.strftime('%Y-%m-%d')}, {machine.describe()}"
    PROFILE.write_text(f"{heading}\n{summary_of(stacks.read_text(encoding='utf-8'))}", encoding="utf-8")


def _profiler() -> str:
    """Find py-spy: in the path, or beside this Python."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), sysconfig.get_path("scripts")])
    found = shutil.which("py-spy", path=path)
    if found is None:
        raise UsageError("py-spy is not installed: 'pip install py-spy', or leave --profile out")
    return found


def summary_of(stacks: str) -> str:
    """Make a readable summary of py-spy's raw stacks: shares of all samples, for functions themselves and with callees.

    Args:
        stacks: a line for each stack: its frames from the outermost, parted by semicolons, a blank, how often seen.
    """
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    total = 0
    for line in stacks.splitlines():
        frames_text, _, times_text = line.rpartition(" ")
        frames, times = [frame.rpartition(":")[0] or frame for frame in frames_text.split(";")], int(times_text)
        total += times
        own[frames[-1]] += times
        for frame in set(frames):
            whole[frame] += times
    parts = []
    for title, counts in (("in the function itself", own), ("with what it calls", whole)):
        rows = [f"{100 * times / total:6.1f} %  {frame}" for frame, times in counts.most_common(PROFILE_LINES)]
        parts.append("\n".join([f"\n{title}, of {total} samples", *rows, ""]))
    return "".join(parts)


def options_parser() -> argparse.ArgumentParser:
    """Make the parser of this bench's options."""
    parser = argparse.ArgumentParser(prog="python -m bench.logins", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_options(parser, clients=32, seconds=10, accounts=100)
    parser.add_argument("--people", type=at_least(64), default=5_000, metavar="N", help="who can sign in (5000)")
    parser.add_argument("--processes", type=at_least(1), default=1, metavar="N", help="load processes (1)")
    parser.add_argument("--profile", action="store_true", help=f"sample the node with py-spy into {PROFILE.name}")
    return parser


if __name__ == "__main__":
    run("logins", measure, options_parser())
