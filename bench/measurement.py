"""What all benches do alike: options, signals, the load in a process of its own, the check of the books, the last line.

with Bank(...) as bank:                    the node, a process
    loaded = run_load(bank, ...)           the load client, another
    check_books(bank)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from bench import machine, report
from bench.bank import ADMINISTRATOR, Bank
from bench.load import sign_in
from fortress.client.link import Link, open_link
from fortress.client.trust import Trust
from fortress.protocol.administration import TrialBalance, TrialBalanceAnswer

LOAD_S_MAX: Final = 180.0
CAUGHT_UP_S_MAX: Final = 120.0
POLL_S: Final = 0.02
WARM_UP_S: Final = 2.0
Measure = Callable[[argparse.Namespace], report.Result]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one run of the load client came to.

    Attributes:
        done: rows answered while counting.
        done_ever: rows answered in all, warm-up and end included.
        began_s: when the first request was sent, on the machine's monotonic clock.
        per_s: rows a second while counting.
        seconds: how long that was.
        client_cpu_us: processor time of the load client for each row.
        latencies_us: latency -> how often.
    """

    done: int
    done_ever: int
    began_s: float
    per_s: float
    seconds: float
    client_cpu_us: float
    latencies_us: Counter[int]

    def facts(self) -> dict[str, float]:
        """Give the percentiles, and what the client cost."""
        return {**report.percentiles(self.latencies_us), "client_cpu_us": round(self.client_cpu_us, 1)}


def add_options(parser: argparse.ArgumentParser, **defaults: float) -> None:
    """Add the options of a load, with these defaults; a name that is not given is no option of this bench."""
    texts: dict[str, tuple[Callable[[str], float], float, str]] = {
        "clients": (int, 1, "connections, each signed in"),
        "outstanding": (int, 1, "requests that one connection has under way"),
        "seconds": (float, 0.1, "length of a run, after the warm-up"),
        "warm_up": (float, 0.0, "seconds of load before each run"),
        "accounts": (int, 2, "accounts of the bank"),
    }
    for name, default in {"accounts": 10_000, "warm_up": WARM_UP_S, **defaults}.items():
        kind, least, text = texts[name]
        flag, parse = f"--{name.replace('_', '-')}", at_least(least, kind)
        parser.add_argument(flag, type=parse, default=default, metavar="N", help=f"{text} ({default:g})")


def at_least(least: float, kind: Callable[[str], float] = int) -> Callable[[str], float]:
    """Give a parser of numbers of this kind that refuses smaller ones."""

    def parse(text: str) -> float:
        value = kind(text)
        if not value >= least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least:g}")
        return value

    return parse


def run(name: str, measure: Measure, parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> None:
    """Be the main function of a bench: parse, measure, save if asked to, end with the line of JSON.

    A signal to stop leaves by way of the context managers, so that nodes, load clients and folders are gone.
    """
    folder_help = f"where to put the data: a disk ({machine.DISK_FOLDER})"
    parser.add_argument("--folder", type=Path, default=machine.DISK_FOLDER, help=folder_help)
    parser.add_argument("--save", action="store_true", help=f"append to bench/results/{name}.json")
    options = parser.parse_args(arguments)
    if machine.filesystem(options.folder) in machine.MEMORY_FILESYSTEMS:
        parser.error(f"{str(options.folder)!r} is memory, where a sync costs nothing; name a folder on a disk")
    for number in machine.STOPS:
        signal.signal(number, _stop_on_signal)
    result = measure(options)
    if options.save:
        report.save(name, result)
    report.finish(result)


def _stop_on_signal(number: int, _frame: object) -> NoReturn:
    for again in machine.STOPS:
        signal.signal(again, signal.SIG_IGN)  # a second one would interrupt the cleaning up
    sys.exit(128 + number)


@contextmanager
def started(module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a module as a process of its own for as long as the block lasts; its stdout is a pipe."""
    environment = {**os.environ, "PYTHONPATH": str(report.ROOT)}
    command = [sys.executable, "-m", module, *arguments]
    with ExitStack() as stack:
        with machine.signals_held():
            process = machine.start_process(command, stdout=subprocess.PIPE, env=environment)
            stack.enter_context(process)
            stack.callback(process.kill)
        yield process


def answer_of(process: subprocess.Popen[bytes], timeout_s: float) -> dict[str, Any]:
    """Wait for the line of JSON that a load client ends with.

    Raises:
        RuntimeError: it failed; it has said on stderr why.
    """
    output, _ = process.communicate(timeout=timeout_s)
    if process.returncode:
        raise RuntimeError(f"the load client ended with {process.returncode}")
    answer: dict[str, Any] = json.loads(output)
    return answer


def run_load(
    bank: Bank,
    *,
    workload: str,
    seconds: float,
    clients: int,
    outstanding: int = 1,
    warm_up: float = WARM_UP_S,
    rate: float = 0.0,
) -> Loaded:
    """Load a running bank from a process of its own.

    Args:
        rate: requests a second in an open loop; 0 for a closed one.

    Raises:
        RuntimeError: the load client failed, or the bank refused something, which this workload gives no reason for.
    """
    shape = f"at {rate:.0f}/s" if rate else f"with {outstanding} outstanding each"
    report.progress(f"{workload}: {clients} clients {shape}, {warm_up + seconds:g} s")
    arguments = {
        "bank": bank.plan.bank,
        "port": bank.port,
        "ca": bank.ca,
        "accounts": bank.plan.accounts,
        "workload": workload,
        "clients": clients,
        "outstanding": outstanding,
        "seconds": seconds,
        "warm-up": warm_up,
        "rate": rate,
    }
    return loaded_by("bench.load", arguments, LOAD_S_MAX + warm_up + seconds)


def loaded_by(module: str, arguments: Mapping[str, Any], timeout_s: float) -> Loaded:
    """Run a load client to its end and give what it came to.

    Args:
        module: of the load client, which ends with a line of JSON as `bench.load` does.
        arguments: its options, by name without dashes.

    Raises:
        RuntimeError: it failed, or something was refused or never answered.
    """
    with started(module, *(f"--{name}={value}" for name, value in arguments.items())) as process:
        found = answer_of(process, timeout_s)
    if found["errors"]:
        raise RuntimeError(f"requests were refused; how many, by code: {found['errors']}")
    if found["unknown"]:
        raise RuntimeError(f"{found['unknown']} requests were never answered")
    return Loaded(
        done=found["done"],
        done_ever=found["done_ever"],
        began_s=found["began_s"],
        per_s=round(found["done"] / found["seconds"], 1),
        seconds=found["seconds"],
        client_cpu_us=found["client_cpu_us"],
        latencies_us=Counter(dict(found["latencies_us"])),
    )


def wait_caught_up(bank: Bank) -> float:
    """Wait until the tables hold all that is in the journal; give that moment on the machine's monotonic clock."""
    deadline = time.monotonic() + CAUGHT_UP_S_MAX
    while behind := bank.status()["unapplied_entries"]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the tables are still {behind} entries behind the journal:\n{bank.log()}")
        time.sleep(POLL_S)
    return time.monotonic()


def check_books(bank: Bank) -> None:
    """Ask the bank for its trial balance.

    Raises:
        RuntimeError: money was made or lost.
    """
    books = asyncio.run(trial_balance(bank))
    expected = bank.plan.accounts + 2  # the cash account and the one for payments between banks
    problems = books_problems(books, expected)
    if problems:
        raise RuntimeError(f"the books are not as they should be after the run: {problems}")


def books_problems(books: TrialBalanceAnswer, accounts: int) -> list[str]:
    """Say what is wrong with a trial balance; nothing is the right answer."""
    problems = []
    for row in books.rows:
        if not row.adds_up:
            problems.append(f"{row.currency} does not add up: {row}")
        if row.held_minor:
            problems.append(f"{row.held_minor} {row.currency} are on hold")
    found = sum(row.accounts for row in books.rows)
    if found != accounts:
        problems.append(f"{found} accounts, not {accounts}")
    return problems


async def trial_balance(bank: Bank) -> TrialBalanceAnswer:
    """Ask a bank to add its books up."""
    async with administrating(bank) as link:
        books: TrialBalanceAnswer = await link.request("trial_balance", TrialBalance(), LOAD_S_MAX)
    return books


@asynccontextmanager
async def administrating(bank: Bank) -> AsyncIterator[Link]:
    """Open a connection to a bank and sign in as its administrator, for as long as the block lasts."""
    name = bank.plan.bank
    link = await open_link(("127.0.0.1", bank.port), name, Trust(bank.ca), timeout_s=30)
    try:
        await sign_in(link, ADMINISTRATOR, bank=name)
        yield link
    finally:
        await link.close()
