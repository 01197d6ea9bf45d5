"""The load client: many connections of one process, each with a fixed number of requests outstanding.

Run as a process of its own (``python -m bench.load``), so that it takes nothing from the node's interpreter. It speaks
the whole protocol through the client library's :class:`~fortress.client.link.Link`; requests are made in the callback
of the answer before, so a slow node is asked more slowly (closed loop). A warm-up is not counted. One JSON line ends
it: counts, rate, latencies in microseconds as ``[latency, count]`` pairs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from array import array
from collections import Counter
from collections.abc import Callable
from typing import Any

import uvloop

from bench.bank import BANK_ID, CURRENCY, TELLER, numbers_of, seed_of, username_of
from fortress.client.ids import new_id
from fortress.client.link import Link, open_link
from fortress.client.trust import Trust
from fortress.protocol import money, schnorr
from fortress.protocol.accounts import GetAccount
from fortress.protocol.fields import Request
from fortress.protocol.sessions import LoginBegin, LoginFinish

WORKLOADS = ("transfers", "hot", "balances")
MakeRequest = Callable[[], tuple[str, Request]]


async def sign_in(link: Link, username: str) -> None:
    """Log a link in with a bench customer's seed."""
    import os

    secret = schnorr.secret_from_seed(seed_of(username))
    public = schnorr.public_key(secret)
    r, commitment = schnorr.commit(os.urandom(64))
    asked = await link.request("login_begin", LoginBegin(username, commitment), 30)
    c = schnorr.challenge(link.handshake_hash, BANK_ID, username, public, commitment, asked.nonce)
    await link.request("login_finish", LoginFinish(schnorr.prove(secret, r, c)), 30)
    link.login_done()


class Load:
    """What one connection does.

    Args:
        link: signed in.
        make: makes the next request.
        latencies: shared; filled with microseconds while ``clock.is_counting``.
    """

    def __init__(self, link: Link, make: MakeRequest, clock: Clock) -> None:
        self._link = link
        self._make = make
        self._clock = clock

    def begin(self, outstanding: int) -> None:
        """Send the first requests; every answer sends the next."""
        for _ in range(outstanding):
            self._send()

    def _send(self) -> None:
        operation, fields = self._make()
        clock = self._clock
        started = time.perf_counter_ns()

        def answered(code: int, raw: Any) -> None:
            if clock.is_counting:
                if code:
                    clock.errors[code] += 1
                else:
                    clock.latencies.append((time.perf_counter_ns() - started) // 1000)
            if clock.is_running:
                self._send()
            else:
                clock.left()

        clock.outstanding += 1
        try:
            self._link.submit(operation, fields, self._counted(answered))
        except BaseException:
            clock.outstanding -= 1
            raise

    def _counted(self, answered: Callable[[int, Any], None]) -> Callable[[int, Any], None]:
        clock = self._clock

        def counted(code: int, raw: Any) -> None:
            clock.outstanding -= 1
            answered(code, raw)

        return counted


class Clock:
    """When to count and when to stop, shared by all connections."""

    def __init__(self) -> None:
        self.is_running = True
        self.is_counting = False
        self.outstanding = 0
        self.latencies = array("q")
        self.errors: Counter[int] = Counter()
        self.done = asyncio.Event()

    def left(self) -> None:
        """Note that one request will have no successor."""
        if self.outstanding <= 0:
            self.done.set()


def workload(name: str, accounts: int, own: list[int], chance: random.Random) -> MakeRequest:
    """Give the function that makes one request after another."""
    numbers = numbers_of(accounts)
    pick = chance.random
    count = len(numbers)

    def transfer() -> tuple[str, Request]:
        a = int(pick() * count)
        b = int(pick() * (count - 1))
        return "transfer", money.Transfer(
            new_id(), numbers[a], numbers[b + (b >= a)], 1 + int(pick() * 100), CURRENCY
        )

    def hot() -> tuple[str, Request]:
        a = 1 + int(pick() * (count - 1))
        return "transfer", money.Transfer(new_id(), numbers[a], numbers[0], 1 + int(pick() * 100), CURRENCY)

    def balance() -> tuple[str, Request]:
        return "get_account", GetAccount(own[int(pick() * len(own))])

    return {"transfers": transfer, "hot": hot, "balances": balance}[name]


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Connect, sign in, load, count."""
    trust = Trust(options.ca)
    clock = Clock()
    links = []
    loads = []
    for index in range(options.clients):
        link = await open_link(("127.0.0.1", options.port), BANK_ID, trust, timeout_s=30)
        first = index * 64 % options.accounts
        await sign_in(link, username_of(first) if options.workload == "balances" else TELLER)
        links.append(link)
        own = numbers_of(options.accounts)[first : first + 64]
        loads.append(Load(link, workload(options.workload, options.accounts, own, random.Random(index)), clock))
    for load in loads:
        load.begin(options.outstanding)
    await asyncio.sleep(options.warm_up)
    clock.is_counting = True
    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.sleep(options.seconds)
    clock.is_counting = False
    elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
    clock.is_running = False
    await asyncio.wait_for(clock.done.wait(), 60)
    for link in links:
        await link.close()
    done = len(clock.latencies)
    return {
        "done": done,
        "per_s": done / elapsed,
        "seconds": elapsed,
        "client_cpu_us": cpu / max(done, 1) * 1e6,
        "errors": dict(clock.errors),
        "latencies_us": sorted(Counter(clock.latencies).items()),
    }


def main() -> None:
    """Run a load from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--outstanding", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--warm-up", type=float, default=2)
    parser.add_argument("--workload", choices=WORKLOADS, default="transfers")
    options = parser.parse_args()
    print(json.dumps(uvloop.run(run(options))), flush=True)


if __name__ == "__main__":
    main()
