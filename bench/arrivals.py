"""Clients that come, sign in and go: the load of `bench.logins`, a process of its own.

So many of them are under way at once, each in a loop. What one turn of the loop is says the mode:

``logins``
    connect (TCP, TLS 1.3, the sealed channel's handshake, hello), sign in by a whole proof, close.
``connections``
    the same without signing in.
``proofs``
    the proof alone. A channel signs in once in its life, so channels are opened ahead, some hundred at a time, and only
    the time in which they are signed in is counted. A node gives a login ten seconds from the first byte; the hundreds
    are few enough for that.

With several nodes (``--nodes``) who finds one that does not serve goes to the next, until one does: how often is told.

One JSON line ends it. No password is hashed here: the clients know their seeds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import uvloop

from bench.bank import BANK_ID, person_of
from bench.load import endpoints_of, login_key, sign_in
from fortress.client.address import Endpoint
from fortress.client.attempts import AGAIN, Attempts
from fortress.client.link import Link, open_link
from fortress.client.trust import Trust
from fortress.errors import FortressError

MODES = ("logins", "connections", "proofs")
AHEAD = 300
TIMEOUT_S = 30.0


class Arrivals:
    """The clients of this process.

    Args:
        first: number of the person who comes first; the next ones follow in turn, so that nobody is asked for twice
            at once.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._endpoints = endpoints_of(options)
        self.turned_away = 0
        self._trust = Trust(options.ca)
        self._people = int(options.people)
        self._clients = int(options.clients)
        self._next = count(int(options.first))
        self.until_s = 0.0
        self.counted_from_s = 0.0
        self.counted_s = 0.0
        self.latencies = array("q")
        for index in range(self._people):
            login_key(person_of(index))

    async def run(self, mode: str, warm_up_s: float, seconds: float) -> None:
        """Come and go for some time."""
        self.counted_from_s = time.perf_counter() + warm_up_s
        self.until_s = self.counted_from_s + seconds
        if mode == "proofs":
            while time.perf_counter() < self.until_s:
                await self._prove_many()
            return
        visit = self._log_in if mode == "logins" else self._connect
        await asyncio.gather(*(self._keep_coming(visit) for _ in range(self._clients)))
        self.counted_s = seconds

    async def _keep_coming(self, visit: Any) -> None:
        while (began := time.perf_counter()) < self.until_s:
            link: Link = await visit()
            ended = time.perf_counter()
            if self.counted_from_s <= ended < self.until_s:
                self.latencies.append(int((ended - began) * 1e6))
            await link.close()

    async def _connect(self) -> Link:
        return await self._somewhere(self._arrive)

    async def _log_in(self) -> Link:
        person = person_of(next(self._next) % self._people)

        async def arrive(endpoint: Endpoint, timeout_s: float) -> Link:
            link = await self._arrive(endpoint, timeout_s)
            try:
                await sign_in(link, person, timeout_s)
            except FortressError:
                await link.close()
                raise
            return link

        return await self._somewhere(arrive)

    async def _arrive(self, endpoint: Endpoint, timeout_s: float) -> Link:
        return await open_link(endpoint, BANK_ID, self._trust, timeout_s=timeout_s)

    async def _somewhere(self, arrive: Callable[[Endpoint, float], Awaitable[Link]]) -> Link:
        """Come to the node that served last, and to the next one when it does not."""
        attempts = Attempts("hello")
        deadline = time.perf_counter() + TIMEOUT_S
        while True:
            endpoint = self._endpoints[0]
            try:
                return await arrive(endpoint, attempts.try_s(TIMEOUT_S, has_choice=len(self._endpoints) > 1))
            except AGAIN as error:
                wait_s = attempts.note(error, was_sent=True)
                if len(self._endpoints) == 1 or time.perf_counter() + wait_s > deadline:
                    raise
                self.turned_away += 1
                if self._endpoints[0] == endpoint:  # else another client has found out already
                    self._endpoints.append(self._endpoints.pop(0))
            await asyncio.sleep(wait_s)

    async def _prove_many(self) -> None:
        """Open channels, then sign them in, so many at once; only the second half is counted."""
        links = [await self._connect() for _ in range(AHEAD)]
        waiting = list(links)
        began = time.perf_counter()

        async def prove() -> None:
            while waiting:
                link, asked = waiting.pop(), time.perf_counter()
                await sign_in(link, person_of(next(self._next) % self._people), TIMEOUT_S)
                latencies.append(int((time.perf_counter() - asked) * 1e6))

        latencies: list[int] = []
        await asyncio.gather(*(prove() for _ in range(self._clients)))
        if began >= self.counted_from_s:
            self.counted_s += time.perf_counter() - began
            self.latencies.extend(latencies)
        await asyncio.gather(*(link.close() for link in links))


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run one mode and give what was counted."""
    arrivals = Arrivals(options)
    cpu_s = time.process_time()
    await arrivals.run(options.mode, options.warm_up, options.seconds)
    return {
        "done": len(arrivals.latencies),
        "seconds": arrivals.counted_s,
        "client_cpu_s": time.process_time() - cpu_s,
        "turned_away": arrivals.turned_away,
        "latencies_us": sorted(Counter(arrivals.latencies).items()),
    }


def main() -> None:
    """Come, sign in and go."""
    parser = argparse.ArgumentParser(prog="python -m bench.arrivals", description=main.__doc__)
    parser.add_argument("--port", type=int, help="of the node, on loopback")
    parser.add_argument("--nodes", default="", metavar="HOST:PORT,...", help="of a bank with several, instead")
    parser.add_argument("--ca", required=True, help="file with the authority's certificate")
    parser.add_argument("--mode", choices=MODES, default="logins")
    parser.add_argument("--people", type=int, required=True, help="how many can sign in")
    parser.add_argument("--first", type=int, default=0, help="who comes first")
    parser.add_argument("--clients", type=int, default=32, help="under way at once")
    parser.add_argument("--seconds", type=float, default=10, help="counted")
    parser.add_argument("--warm-up", type=float, default=2, help="seconds before that")
    options = parser.parse_args()
    if (options.port is None) == (not options.nodes):
        parser.error("name either the port of one node or all nodes")
    print(json.dumps(uvloop.run(run(options))), flush=True)


if __name__ == "__main__":
    main()
