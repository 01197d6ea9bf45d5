"""The load client: many connections of one process, loading a bank in a closed or in an open loop.

Run as a process of its own (``python -m bench.load``), so that it takes nothing from the node's interpreter. It speaks
the whole protocol; see :class:`~bench.caller.Caller`. A warm-up is not counted. One JSON line ends it: counts, rate,
latencies in microseconds as ``[latency, count]`` pairs.

*Closed loop*: every connection has so many requests outstanding; each answer sends the next request, so a slow bank is
asked more slowly. *Open loop* (``--rate``): requests are made when they are due, however slow the bank is, and a
latency counts from the time the request was due, so a bank that stalls is not flattered by requests that were never
made. The loop's timer ticks every millisecond; what became due since the last tick waited for it, and that is counted.

With several nodes (``--nodes``) it lives through a failover: each request is repeated until the bank says what became
of it. Told besides: how many outcomes were unknown at first and settled later, how many to the end, and the longest
time between two acknowledgements, which is the outage as this client saw it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import msgspec
import uvloop

from bench.bank import ACCOUNTS_PER_CUSTOMER, BANK_ID, CURRENCY, TELLER, numbers_of, seed_of, username_of
from bench.caller import Caller, call
from bench.line import Line
from fortress.client.address import Address, Endpoint, parse_endpoint
from fortress.client.ids import new_id
from fortress.client.link import Link
from fortress.client.trust import Trust
from fortress.errors import Busy, FortressError
from fortress.protocol import money, schnorr
from fortress.protocol.accounts import GetAccount
from fortress.protocol.fields import Request
from fortress.protocol.messages import decode_fields
from fortress.protocol.sessions import LoginBegin, LoginFinish, SignedIn

WORKLOADS = ("transfers", "hot", "balances", "batches")
BATCH_ROWS = 8_190
ANSWER_S_MAX = 60.0
TICK_S = 0.001
GAP_NS = 100_000_000
"""A time without acknowledgements that is worth telling; a busy bank makes shorter ones."""
NEVER_NS = 2**63
MakeRequest = Callable[[], tuple[str, Request]]


@cache
def login_key(username: str) -> tuple[bytes, bytes]:
    """Give a bench customer's secret and public key."""
    secret = schnorr.secret_from_seed(seed_of(username))
    return secret, schnorr.public_key(secret)


async def sign_in(link: Link | Caller, username: str, timeout_s: float = 30.0, bank: str = "") -> SignedIn:
    """Log a link in with a bench customer's seed, by a whole proof; no password is hashed."""
    secret, public = login_key(username)
    r, commitment = schnorr.commit(os.urandom(schnorr.ENTROPY_SIZE_BYTES))
    asked = await link.request("login_begin", LoginBegin(username, commitment), timeout_s)
    c = schnorr.challenge(link.handshake_hash, bank or BANK_ID, username, public, commitment, asked.nonce)
    signed_in: SignedIn = await link.request("login_finish", LoginFinish(schnorr.prove(secret, r, c)), timeout_s)
    link.login_done()
    return signed_in


@dataclass(slots=True)
class Workload:
    """What is asked, and what one answer counts for.

    Attributes:
        make: makes the next request.
        rows: how many transfers or reads one answer stands for.
        check: looks into an answer and gives how many of its rows were refused; None where the code says it all.
    """

    make: MakeRequest
    rows: int = 1
    check: Callable[[msgspec.Raw], int] | None = None


class Tally:
    """What was counted, and when to count and to stop; shared by all connections of this process.

    Attributes:
        is_running: answers are followed by further requests.
        is_counting: the warm-up is over and the time is not up.
        is_behind: in an open loop, more is to be sent; in a closed one, what is outstanding says so.
        from_ns: when counting began, on the performance counter; until_ns: when it ended.
        done: rows counted; done_ever: those before and after too.
        errors: answers by code; -1 stands for a refused row of a batch.
        settled: requests whose outcome was unknown at first.
        gaps_ns: from when to when no acknowledgement came, where that was longer than ``GAP_NS``.
    """

    def __init__(self) -> None:
        self.is_running = True
        self.is_counting = False
        self.from_ns = NEVER_NS
        self.until_ns = NEVER_NS
        self.is_behind = False
        self.outstanding = 0
        self.done = 0
        self.done_ever = 0
        self.latencies = array("q")
        self.errors: Counter[int] = Counter()
        self.settled = 0
        self.gaps_ns: list[tuple[int, int]] = []
        self._longest_ns = 0
        self._acknowledged_ns = 0
        self.all_answered = asyncio.Event()

    def count(self) -> None:
        """Count from now on."""
        self.from_ns, self.is_counting = time.perf_counter_ns(), True

    def stop(self) -> float:
        """Count no more and send no more; give the seconds that were counted."""
        self.until_ns = time.perf_counter_ns()
        self.is_counting = self.is_running = False
        self.stop_if_idle()
        return (self.until_ns - self.from_ns) / 1e9

    def settle(self) -> None:
        """Count a request whose outcome was unknown and has just been told."""
        self.settled += 1

    @property
    def outage_s(self) -> float:
        """The longest time between two acknowledgements while requests were being made."""
        return self._longest_ns / 1e9

    def take(self, work: Workload, code: int, raw: msgspec.Raw, begun_ns: int, *, is_counted: bool) -> None:
        """Count one answer to what was sent or due at ``begun_ns``."""
        self.outstanding -= 1
        if code:
            self.errors[code] += 1
            return
        now_ns = time.perf_counter_ns()
        if self.is_running:
            self._acknowledge(now_ns)
        if work.check is not None and (refused := work.check(raw)):
            self.errors[-1] += refused
        self.done_ever += work.rows
        if is_counted:
            self.done += work.rows
            self.latencies.append((now_ns - begun_ns) // 1000)

    def _acknowledge(self, now_ns: int) -> None:
        last_ns, self._acknowledged_ns = self._acknowledged_ns, now_ns
        gap_ns = now_ns - last_ns
        if last_ns and gap_ns > self._longest_ns:
            self._longest_ns = gap_ns
        if last_ns and gap_ns > GAP_NS:
            self.gaps_ns.append((last_ns, now_ns))

    def stop_if_idle(self) -> None:
        """Say that everything is answered, if that is so and nothing will follow."""
        if not self.is_running and self.outstanding <= 0 and not self.is_behind:
            self.all_answered.set()


class ClosedLoop:
    """One connection with a fixed number of requests outstanding."""

    def __init__(self, link: Caller | Line, work: Workload, tally: Tally) -> None:
        self._link = link
        self._work = work
        self._tally = tally

    def begin(self, outstanding: int) -> None:
        """Send the first requests; every answer sends the next."""
        for _ in range(outstanding):
            self._send()

    def _send(self) -> None:
        tally, work = self._tally, self._work
        operation, fields = work.make()
        started = time.perf_counter_ns()

        def answered(code: int, raw: msgspec.Raw) -> None:
            tally.take(work, code, raw, started, is_counted=tally.is_counting)
            if tally.is_running:
                self._send()
            else:
                tally.stop_if_idle()

        try:
            self._link.submit(operation, fields, answered)
        except FortressError as error:  # the connection is gone; its other requests were called back as lost
            tally.errors[error.code] += 1
            tally.stop_if_idle()
        else:
            tally.outstanding += 1


class OpenLoop:
    """All connections in turn, at a fixed rate of requests a second.

    Args:
        works: one for each link.
        rate: requests a second, evenly spaced.
    """

    def __init__(self, links: Sequence[Caller | Line], works: list[Workload], tally: Tally, rate: float) -> None:
        self._turns = list(zip(links, works, strict=True))
        self._tally = tally
        self._spacing_ns = 1e9 / rate
        self._started_ns = 0
        self._sent = 0
        self._loop = asyncio.get_running_loop()

    def begin(self) -> None:
        """Send what is due from now on."""
        self._started_ns = time.perf_counter_ns()
        self._tick()

    def _tick(self) -> None:
        until_ns = min(time.perf_counter_ns(), self._tally.until_ns)
        due = 1 + int((until_ns - self._started_ns) / self._spacing_ns)
        while self._sent < due and self._send():
            self._sent += 1
        self._tally.is_behind = self._tally.is_running or self._sent < due
        self._tally.stop_if_idle()  # the last answers may come between two ticks, and be taken here as well
        if not self._tally.all_answered.is_set():
            self._loop.call_later(TICK_S, self._tick)

    def _send(self) -> bool:
        """Send the next request; False if its connection takes none now, so that it stays due."""
        tally = self._tally
        link, work = self._turns[self._sent % len(self._turns)]
        operation, fields = work.make()
        due_ns = self._started_ns + int(self._sent * self._spacing_ns)

        def answered(code: int, raw: msgspec.Raw) -> None:
            is_counted = tally.from_ns <= due_ns < tally.until_ns
            tally.take(work, code, raw, due_ns, is_counted=is_counted)

        try:
            link.submit(operation, fields, answered)
        except Busy:
            return False
        except FortressError as error:
            tally.errors[error.code] += 1
        else:
            tally.outstanding += 1
        return True


def refused_rows(raw: msgspec.Raw) -> int:
    """Count the rows of a batch that were not done."""
    answer = decode_fields(money.TransfersAnswer, raw)
    return sum(1 for status in answer.statuses if status)


def workload(name: str, numbers: list[int], own: list[int], chance: random.Random) -> Workload:
    """Give what makes one request after another.

    Args:
        numbers: of all accounts; money goes between any two of them.
        own: accounts whose balances may be read.
    """
    pick = chance.random
    count = len(numbers)

    def row() -> money.TransferRow:
        a = int(pick() * count)
        b = int(pick() * (count - 1))
        return money.TransferRow(new_id(), numbers[a], numbers[b + (b >= a)], 1 + int(pick() * 100))

    def transfer() -> tuple[str, Request]:
        a = int(pick() * count)
        b = int(pick() * (count - 1))
        return "transfer", money.Transfer(new_id(), numbers[a], numbers[b + (b >= a)], 1 + int(pick() * 100), CURRENCY)

    def hot() -> tuple[str, Request]:
        a = 1 + int(pick() * (count - 1))
        return "transfer", money.Transfer(new_id(), numbers[a], numbers[0], 1 + int(pick() * 100), CURRENCY)

    def balance() -> tuple[str, Request]:
        return "get_account", GetAccount(own[int(pick() * len(own))])

    def batch() -> tuple[str, Request]:
        return "transfers", money.Transfers(CURRENCY, [row() for _ in range(BATCH_ROWS)])

    if name == "batches":
        return Workload(batch, BATCH_ROWS, refused_rows)
    return Workload({"transfers": transfer, "hot": hot, "balances": balance}[name])


def endpoints_of(options: argparse.Namespace) -> list[Endpoint]:
    """Give the nodes that were named, or the one on loopback by its port."""
    if not options.nodes:
        return [("127.0.0.1", int(options.port))]
    return [parse_endpoint(node) for node in options.nodes.split(",")]


def works_of(options: argparse.Namespace) -> list[tuple[str, Workload]]:
    """Give who each client signs in as, and what it shall ask."""
    numbers = numbers_of(options.accounts)
    works = []
    for index in range(options.clients):
        first = index * ACCOUNTS_PER_CUSTOMER % options.accounts // ACCOUNTS_PER_CUSTOMER * ACCOUNTS_PER_CUSTOMER
        own = numbers[first : first + ACCOUNTS_PER_CUSTOMER]
        work = workload(options.workload, numbers, own, random.Random(index))
        works.append((username_of(first) if options.workload == "balances" else TELLER, work))
    return works


async def connect(options: argparse.Namespace, usernames: list[str]) -> list[Caller]:
    """Open and sign in all connections to one node."""
    trust = Trust(options.ca)
    links = []
    for username in usernames:
        link = await call(endpoints_of(options)[0], options.bank, trust, timeout_s=30)
        await sign_in(link, username, bank=options.bank)
        links.append(link)
    return links


async def connect_lines(options: argparse.Namespace, usernames: list[str], tally: Tally) -> list[Line]:
    """Open and sign in all connections to a bank of several nodes."""
    trust = Trust(options.ca)
    address = Address(tuple(endpoints_of(options)), options.bank)
    lines = []
    for username in usernames:
        line = Line(address, trust, partial(sign_in, username=username, bank=options.bank), tally.settle)
        await line.open()
        lines.append(line)
    return lines


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Connect, sign in, load, count; see `bench.measurement.Loaded` for what is given."""
    tally = Tally()
    clients = works_of(options)
    usernames, works = [username for username, _ in clients], [work for _, work in clients]
    links: Sequence[Caller | Line]
    if options.nodes:
        links = await connect_lines(options, usernames, tally)
    else:
        links = await connect(options, usernames)
    began_s = time.monotonic()
    if options.rate:
        OpenLoop(links, works, tally, options.rate).begin()
    else:
        pairs: list[tuple[Caller | Line, Workload]] = list(zip(links, works, strict=True))
        for pair in pairs:
            ClosedLoop(*pair, tally).begin(options.outstanding)
    await asyncio.sleep(options.warm_up)
    tally.count()
    cpu_s = time.process_time()
    await asyncio.sleep(options.seconds)
    cpu_s = time.process_time() - cpu_s
    elapsed_s = tally.stop()
    with suppress(TimeoutError):
        await asyncio.wait_for(tally.all_answered.wait(), ANSWER_S_MAX)
    unknown = tally.outstanding
    for link in links:
        await link.close()
    return {
        "done": tally.done,
        "done_ever": tally.done_ever,
        "began_s": began_s,
        "seconds": elapsed_s,
        "client_cpu_us": cpu_s / max(tally.done, 1) * 1e6,
        "errors": dict(tally.errors),
        "acknowledged": tally.done_ever,
        "refused": tally.errors.total(),
        "settled": tally.settled,
        "unknown": unknown,
        "outage_s": round(tally.outage_s, 4),
        "gaps_s": [(round(a / 1e9, 4), round(b / 1e9, 4)) for a, b in tally.gaps_ns],
        "latencies_us": sorted(Counter(tally.latencies).items()),
    }


def main() -> None:
    """Run a load from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=main.__doc__)
    parser.add_argument("--port", type=int, help="of the node, on loopback")
    parser.add_argument("--nodes", default="", metavar="HOST:PORT,...", help="of a bank with several, instead")
    parser.add_argument("--bank", default=BANK_ID, help="its id")
    parser.add_argument("--ca", required=True, help="file with the authority's certificate")
    parser.add_argument("--accounts", type=int, default=10_000, help="how many the bank has")
    parser.add_argument("--clients", type=int, default=32, help="connections")
    parser.add_argument("--outstanding", type=int, default=1, help="requests of each (closed loop)")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second of all together (open loop)")
    parser.add_argument("--seconds", type=float, default=10, help="counted")
    parser.add_argument("--warm-up", type=float, default=2, help="seconds before that")
    parser.add_argument("--workload", choices=WORKLOADS, default="transfers")
    options = parser.parse_args()
    if (options.port is None) == (not options.nodes):
        parser.error("name either the port of one node or all nodes")
    print(json.dumps(uvloop.run(run(options))), flush=True)


if __name__ == "__main__":
    main()
