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
"""

from __future__ import annotations

import argparse
from collections import Counter
from contextlib import ExitStack, nullcontext
from typing import Any

from bench import report
from bench.arrivals import MODES
from bench.bank import Bank, Plan
from bench.measurement import LOAD_S_MAX, add_options, answer_of, at_least, check_books, run, started
from bench.profiling import add_option, profiled


def measure(options: argparse.Namespace) -> report.Result:
    """Let people come and go in each mode and give the result."""
    result: dict[str, report.Value] = {}
    with Bank(Plan(options.accounts, people=options.people), parent=options.folder) as bank:
        for mode in MODES:
            with profiled(bank, "logins", options) if mode == "logins" else nullcontext():
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


def options_parser() -> argparse.ArgumentParser:
    """Make the parser of this bench's options."""
    parser = argparse.ArgumentParser(prog="python -m bench.logins", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_options(parser, clients=32, seconds=10, accounts=100)
    parser.add_argument("--people", type=at_least(64), default=5_000, metavar="N", help="who can sign in (5000)")
    parser.add_argument("--processes", type=at_least(1), default=1, metavar="N", help="load processes (1)")
    add_option(parser, "logins")
    return parser


if __name__ == "__main__":
    run("logins", measure, options_parser())
