"""``bench``: put a running bank under load from one machine and tell throughput, latencies and errors.

Closed loop: each client keeps so many requests outstanding, so the bank sets the pace. Open loop (``--rate``): requests
are made when they are due, however slow the bank is, and a latency counts from the time the request was due; a bank
that stalls is not flattered by requests that were never made.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import combinations, count
from math import ceil
from typing import TYPE_CHECKING, Final

import click

from fortress.cli.command import Call, command, current_call
from fortress.cli.contexts import Context
from fortress.cli.desk import open_contexts
from fortress.cli.failures import Exit, code_of
from fortress.cli.misuse import Misuse
from fortress.cli.output import Fields, Json, LiveLine, Table, say, show
from fortress.errors import FortressError, NotSignedIn

if TYPE_CHECKING:
    from fortress.client.me import Me

OUTSTANDING_MAX: Final = 1024
LIVE_S: Final = 0.25
QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
LEAST: Final = {"rate"}
"""Figures that must be at least what a threshold says; all others at most."""

Work = Callable[["Me", int], Awaitable[object]]


@dataclass(slots=True)
class Tally:
    """What was measured so far: a latency in seconds for each request that was done, and errors by code."""

    latencies_s: array[float] = field(default_factory=lambda: array("d"))
    errors: Counter[str] = field(default_factory=Counter)
    elapsed_s: float = 0.0

    @property
    def rate(self) -> float:
        """Requests done a second."""
        return len(self.latencies_s) / self.elapsed_s if self.elapsed_s else 0.0

    def figures(self) -> dict[str, float]:
        """Give what thresholds can be set on: rate, quantiles in milliseconds, errors."""
        times = sorted(self.latencies_s)
        found = {name: 1000 * quantile(times, share) for name, share in QUANTILES.items()}
        return {"rate": self.rate, **found, "errors": float(self.errors.total())}


def quantile(times: list[float], share: float) -> float:
    """Give the least of the sorted values that this share of them does not exceed; 0 if there are none."""
    return times[max(ceil(share * len(times)) - 1, 0)] if times else 0.0


def parse_thresholds(texts: tuple[str, ...]) -> dict[str, float]:
    """Read thresholds like ``p99=10`` (milliseconds at most) and ``rate=1000`` (a second at least).

    Raises:
        Misuse: a figure is unknown or its value is no number.
    """
    known = ("rate", *QUANTILES, "errors")
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            name = ""
        if name not in known:
            do = f"write it like p99=10 or rate=1000; known: {', '.join(known)}"
            raise Misuse(f"{text!r} is not a threshold", do)
    return found


def missed_thresholds(figures: dict[str, float], thresholds: dict[str, float]) -> list[str]:
    """Say which thresholds were missed, and by what."""
    return [
        f"{name} is {figures[name]:.2f}, not {'at least' if name in LEAST else 'at most'} {bound:g}"
        for name, bound in thresholds.items()
        if (figures[name] < bound if name in LEAST else figures[name] > bound)
    ]


@command(
    "bench",
    "fortress bench --clients 8 --seconds 5",
    "fortress bench --rate 500 --seconds 10 --threshold p99=10",
    "fortress bench --work balance --clients 32 --json",
)
@click.option("--work", type=click.Choice(["transfer", "balance"]), default="transfer", show_default=True, help="What.")
@click.option("--clients", type=click.IntRange(1, 1000), default=8, show_default=True, help="Connections.")
@click.option(
    "--outstanding", type=click.IntRange(1, OUTSTANDING_MAX), default=1, show_default=True, help="Requests of each."
)
@click.option("--rate", type=click.FloatRange(1, 1_000_000), help="Open loop: requests a second, whatever comes back.")
@click.option("--seconds", type=click.FloatRange(0.1, 86400), default=10, show_default=True, help="How long.")
@click.option("--to", "payee", type=int, metavar="ACCOUNT", help="To this account; between one's own otherwise.")
@click.option("--threshold", "thresholds", multiple=True, metavar="NAME=VALUE", help="Like p99=10 or rate=1000.")
def bench_command(
    work: str,
    clients: int,
    outstanding: int,
    rate: float | None,
    seconds: float,
    payee: int | None,
    thresholds: tuple[str, ...],
) -> int:
    """Measure a running bank as the person of the context, over several connections of one session.

    Transfers are of one minor unit. Exit 10 if a threshold was missed, 7 if money was lost or made.
    """
    import uvloop

    call = current_call()
    bounds = parse_thresholds(thresholds)
    context = open_contexts().get(call.context)
    bench = Bench(call, context, clients=clients, outstanding=outstanding, rate=rate, seconds=seconds)
    tally, is_whole = uvloop.run(bench.run(work, payee))
    figures = tally.figures()
    missed = missed_thresholds(figures, bounds)
    _show(call, tally, figures, missed, is_whole=is_whole)
    if not is_whole:
        return Exit.integrity
    return Exit.threshold if missed else Exit.ok


class Bench:
    """One measurement."""

    def __init__(
        self, call: Call, context: Context, *, clients: int, outstanding: int, rate: float | None, seconds: float
    ) -> None:
        self._call = call
        self._context = context
        self._clients = clients
        self._outstanding = outstanding
        self._rate = rate
        self._seconds = seconds
        self.tally = Tally()

    async def run(self, work: str, payee: int | None) -> tuple[Tally, bool]:
        """Connect, measure, and compare what is on the accounts before and after.

        Returns:
            What was measured, and whether as much money is there as before.
        """
        async with AsyncExitStack() as stack:
            sessions = [await self._connect(stack) for _ in range(self._clients)]
            say(self._call, f"{len(sessions)} connections to {self._context.address}")
            if work == "balance":
                await self._measure(sessions, read_balance)
                return self.tally, True
            lane = await pick_lane(sessions[0], payee)
            before = await lane.total_minor(sessions[0])
            await self._measure(sessions, lane.work())
            return self.tally, before == await lane.total_minor(sessions[0])

    async def _connect(self, stack: AsyncExitStack) -> Me:
        from fortress.client.client import connect

        contexts = open_contexts()
        token = contexts.token(self._context)
        if token is None:
            raise NotSignedIn(f"nobody is signed in at context {self._context.name!r}")
        client = connect(
            self._context.url,
            ca=contexts.ca_file(self._context),
            path_ca=contexts.path_ca_file(self._context),
            deadline_s=self._call.timeout_s,
            agent="fortress bench",
        )
        await stack.enter_async_context(client)
        return await client.resume(token.token)

    async def _measure(self, sessions: list[Me], work: Work) -> None:
        started = time.perf_counter()
        live = asyncio.create_task(self._show_life(started))
        try:
            if self._rate is None:
                await self._closed_loop(sessions, work, started + self._seconds)
            else:
                await self._open_loop(sessions, work, started, self._rate)
        finally:
            self.tally.elapsed_s = time.perf_counter() - started
            live.cancel()

    async def _closed_loop(self, sessions: list[Me], work: Work, until: float) -> None:
        numbers = count()

        async def keep_asking(me: Me) -> None:
            while (now := time.perf_counter()) < until:
                await self._ask(me, work, next(numbers), now)

        await asyncio.gather(*(keep_asking(me) for me in sessions for _ in range(self._outstanding)))

    async def _open_loop(self, sessions: list[Me], work: Work, started: float, rate: float) -> None:
        tasks: set[asyncio.Task[None]] = set()
        for number in range(int(rate * self._seconds)):
            due = started + number / rate
            wait_s = due - time.perf_counter()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            if len(tasks) >= OUTSTANDING_MAX * len(sessions):
                self.tally.errors["not sent"] += 1
                continue
            task = asyncio.create_task(self._ask(sessions[number % len(sessions)], work, number, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            if number % 64 == 0:
                await asyncio.sleep(0)
        if tasks:
            await asyncio.wait(tasks)

    async def _ask(self, me: Me, work: Work, number: int, due: float) -> None:
        try:
            await work(me, number)
        except FortressError as error:
            self.tally.errors[f"FT-{code_of(error)}"] += 1
        else:
            self.tally.latencies_s.append(time.perf_counter() - due)

    async def _show_life(self, started: float) -> None:
        line = LiveLine(self._call)
        try:
            for seen in self._windows():
                await asyncio.sleep(LIVE_S)
                recent = sorted(self.tally.latencies_s[seen:])
                line.update(
                    f"{time.perf_counter() - started:.0f} s  {len(recent) / LIVE_S:.0f} a second  "
                    f"p50 {1000 * quantile(recent, 0.5):.2f} ms  p99 {1000 * quantile(recent, 0.99):.2f} ms  "
                    f"{self.tally.errors.total()} errors"
                )
        finally:
            line.close()

    def _windows(self) -> Iterator[int]:
        while True:
            yield len(self.tally.latencies_s)


async def read_balance(me: Me, number: int) -> None:
    """Read the default account."""
    await me.balance()


@dataclass(frozen=True, slots=True)
class Lane:
    """The accounts that transfers go between: to and fro where both are one's own, else only to."""

    debit: int
    credit: int
    currency: str
    is_own: bool

    def work(self) -> Work:
        """Give what sends one minor unit; every second one back."""
        from fortress.client.money import Money

        money = Money(1, self.currency)

        async def transfer(me: Me, number: int) -> None:
            ends = (self.credit, self.debit) if self.is_own and number % 2 else (self.debit, self.credit)
            await me.transfer(*ends, money)

        return transfer

    async def total_minor(self, me: Me) -> int:
        """Add up what is on the two accounts; 0 if one is somebody else's, since that cannot be seen."""
        if not self.is_own:
            return 0
        own = {view.number: view.balance_minor for view in await me.accounts()}
        return own[self.debit] + own[self.credit]


async def pick_lane(me: Me, payee: int | None) -> Lane:
    """Choose the accounts to pay between.

    Raises:
        Misuse: there are not two open ones in one currency, and no payee was named.
    """
    views = [view for view in await me.accounts() if view.state == "open"]
    if payee is not None and views:
        return Lane(views[0].number, payee, views[0].currency, False)
    for first, second in combinations(views, 2):
        if first.currency == second.currency:
            return Lane(first.number, second.number, first.currency, True)
    raise Misuse("one needs two open accounts of one currency to pay between", "open one, or name a payee with --to")


def _show(call: Call, tally: Tally, figures: dict[str, float], missed: list[str], *, is_whole: bool) -> None:
    document: Json = {
        "done": len(tally.latencies_s),
        "elapsed_s": round(tally.elapsed_s, 3),
        "per_s": round(figures["rate"], 1),
        **{f"{name}_ms": round(figures[name], 3) for name in QUANTILES},
        "errors": dict(tally.errors),
        "money_is_whole": is_whole,
        "missed": list(missed),
    }
    pairs = [
        ("Done", f"{len(tally.latencies_s)} in {tally.elapsed_s:.2f} s"),
        ("Rate", f"{figures['rate']:.0f} a second"),
        *((name, f"{figures[name]:.2f} ms") for name in QUANTILES),
        ("Money", "as much as before" if is_whole else "NOT as much as before"),
        *(("Missed", each) for each in missed),
    ]
    errors = [(str(times), code) for code, times in tally.errors.most_common()]
    show(
        call,
        document,
        Fields(pairs=pairs),
        *([Table(columns=(">Times", "Error"), rows=errors)] if errors else []),
    )
