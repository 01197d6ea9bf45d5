"""The load client of payments between banks: half of its connections pay from bank to bank one way, half the other way.

A process of its own, as `bench.load` is, whose loops and counting it uses: each connection has so many payments
outstanding, and each answer sends the next. One JSON line ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.bank import CURRENCY, TELLER, numbers_of
from bench.caller import Caller, call
from bench.load import ANSWER_S_MAX, ClosedLoop, Tally, Workload, sign_in
from fortress.client.ids import new_id
from fortress.client.trust import Trust
from fortress.protocol.fields import Request
from fortress.protocol.payments import Pay

AMOUNT_MINOR_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two banks: its id, the port of its primary on loopback, the file of its authority."""

    bank: str
    port: int
    ca: Path


def side(text: str) -> Side:
    """Read ``bank:port:file``.

    Raises:
        ValueError: it is not of that shape.
    """
    bank, port, ca = text.split(":", 2)
    return Side(bank, int(port), Path(ca))


def payments(payee: str, numbers: Sequence[int], random_source: random.Random) -> Workload:
    """Give what one connection asks: payments of drawn accounts to drawn accounts of the other bank."""
    pick, count = random_source.random, len(numbers)

    def make() -> tuple[str, Request]:
        debit, credit = numbers[int(pick() * count)], numbers[int(pick() * count)]
        amount = 1 + int(pick() * AMOUNT_MINOR_MAX)
        return "pay", Pay(new_id(), f"{payee}/{credit}", amount, CURRENCY, debit)

    return Workload(make)


async def connect(options: argparse.Namespace) -> list[tuple[Caller, Workload]]:
    """Open and sign in all connections, by turns to either bank."""
    sides: list[Side] = [options.a, options.b]
    trusts = [Trust(each.ca) for each in sides]
    numbers = numbers_of(options.accounts)
    made = []
    for index in range(options.clients):
        at, other = sides[index % 2], sides[1 - index % 2]
        link = await call(("127.0.0.1", at.port), at.bank, trusts[index % 2], timeout_s=30)
        await sign_in(link, TELLER, bank=at.bank)
        made.append((link, payments(other.bank, numbers, random.Random(index))))
    return made


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Connect, sign in, pay, count; see `bench.measurement.Loaded` for what is given."""
    tally = Tally()
    pairs = await connect(options)
    began_s = time.monotonic()
    for link, work in pairs:
        ClosedLoop(link, work, tally).begin(options.outstanding)
    await asyncio.sleep(options.warm_up)
    tally.count()
    cpu_s = time.process_time()
    await asyncio.sleep(options.seconds)
    cpu_s = time.process_time() - cpu_s
    elapsed_s = tally.stop()
    with suppress(TimeoutError):
        await asyncio.wait_for(tally.all_answered.wait(), ANSWER_S_MAX)
    unknown = tally.outstanding
    for link, _ in pairs:
        await link.close()
    return {
        "done": tally.done,
        "done_ever": tally.done_ever,
        "began_s": began_s,
        "seconds": elapsed_s,
        "client_cpu_us": cpu_s / max(tally.done, 1) * 1e6,
        "errors": dict(tally.errors),
        "unknown": unknown,
        "latencies_us": sorted(Counter(tally.latencies).items()),
    }


def main() -> None:
    """Run a load from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.crossing", description=main.__doc__)
    parser.add_argument("--a", type=side, required=True, metavar="BANK:PORT:CA", help="one bank")
    parser.add_argument("--b", type=side, required=True, metavar="BANK:PORT:CA", help="the other one")
    parser.add_argument("--accounts", type=int, default=10_000, help="how many each has")
    parser.add_argument("--clients", type=int, default=32, help="connections, half to each")
    parser.add_argument("--outstanding", type=int, default=1, help="payments of each")
    parser.add_argument("--seconds", type=float, default=10, help="counted")
    parser.add_argument("--warm-up", type=float, default=2, help="seconds before that")
    print(json.dumps(uvloop.run(run(parser.parse_args()))), flush=True)


if __name__ == "__main__":
    main()
