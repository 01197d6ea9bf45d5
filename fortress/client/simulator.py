"""Many customers at once, doing what customers do: live progress, a result table, and checks of what came back.

Each client has a connection and a session of its own and goes through the scenario as fast as it is answered, round
after round. A step that ends as its scenario says is `ok` or `refused`, anything else is an error; errors never stop
the other clients.

It goes on over a failover. A step whose outcome is unknown when its time is up is taken again, which repeats what it
asked for and does not ask twice, until the bank says what became of it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fortress.client.client import Client, connect
from fortress.client.me import Me
from fortress.client.scenario import DEFAULT, Customer, Step, Visitor
from fortress.errors import FortressError, OutcomeUnknown, Refused, Unreachable, UsageError

SIGN_INS_AT_ONCE: Final = 4
"""Each may be deriving a key with 64 MiB; a connection that waits for its turn would run out of time."""
SIGN_IN: Final = "sign in"
SETTLE_TRIES: Final = 3
"""So often a step of unknown outcome is taken again."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One thing that has just happened.

    Attributes:
        client: number of the client, from 0.
        username: of its customer.
        step: its name.
        outcome: ``ok``, ``refused`` (as wanted) or ``error``.
        message: of the refusal or error; empty for ``ok``.
        duration_s: how long it took.
        done: steps over so far, of all clients.
        total: steps to be done.
    """

    client: int
    username: str
    step: str
    outcome: str
    message: str
    duration_s: float
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class StepResult:
    """One row of the result table: counts, and how long the step took, in milliseconds."""

    step: str
    count: int
    ok: int
    refused: int
    errors: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must be true of what came back."""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """What came of a simulation.

    Attributes:
        clients: how many took part.
        rounds: how often each went through the scenario.
        elapsed_s: from the first step to the last answer, without signing in.
        steps: a row for signing in and for each step, in order.
        checks: of what came back.
        errors: message -> how often, the most frequent first.
        acknowledged: steps that the bank said it did, without signing in.
        refused: steps that it said it would not do.
        settled: steps whose outcome was unknown at first and then told.
        unknown: steps of which it is unknown to the end whether they were done.
        outage_s: the longest time without an acknowledgement while steps were being taken.
    """

    clients: int
    rounds: int
    elapsed_s: float
    steps: tuple[StepResult, ...]
    checks: tuple[Check, ...]
    errors: dict[str, int]
    acknowledged: int = 0
    refused: int = 0
    settled: int = 0
    unknown: int = 0
    outage_s: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether everything went as the scenario says."""
        return all(check.passed for check in self.checks)

    @property
    def tasks_per_s(self) -> float:
        """Steps answered as wanted, a second."""
        tasks = sum(row.ok + row.refused for row in self.steps if row.step != SIGN_IN)
        return tasks / self.elapsed_s if self.elapsed_s else 0.0


@dataclass(slots=True)
class _Tally:
    """Counts and durations of one step."""

    durations_s: list[float] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=lambda: {"ok": 0, "refused": 0, "error": 0})

    def row(self, name: str) -> StepResult:
        """Make the row of the table."""
        times = sorted(self.durations_s)
        p50, p99, most = (1000 * quantile(times, q) for q in (0.5, 0.99, 1.0))
        counts = self.outcomes
        return StepResult(name, len(times), counts["ok"], counts["refused"], counts["error"], p50, p99, most)


def quantile(times: Sequence[float], q: float) -> float:
    """Give the smallest of the sorted values that at least this share does not exceed; 0 if there are none."""
    return times[max(math.ceil(q * len(times)) - 1, 0)] if times else 0.0


class Simulator:
    """Runs a scenario with many customers at once; used once.

    Args:
        address: of the bank.
        ca: its authority's certificates, as :func:`fortress.connect` takes them.
        path_ca: likewise those of the authority of who answers at the address, if that is not the bank itself.
        customers: who takes part; more clients than customers means several sessions of one customer.
        scenario: what each does.
        clients: how many at once; as many as there are customers if not given.
        rounds: how often each goes through the scenario.
        payee: account number that all transfers go to; each pays the next one if not given.
        amount_minor: what each transfer sends.
        deadline_s: how long one step may take, failovers included.

    Raises:
        UsageError: no customers, or one alone with nobody to pay.
    """

    def __init__(
        self,
        address: str,
        ca: bytes | str | Path,
        customers: Sequence[Customer],
        *,
        path_ca: bytes | str | Path | None = None,
        scenario: Sequence[Step] = DEFAULT,
        clients: int = 0,
        rounds: int = 1,
        payee: int = 0,
        amount_minor: int = 1,
        deadline_s: float = 30.0,
    ) -> None:
        self._clients = clients or len(customers)
        if not customers or rounds < 1 or self._clients < 1:
            raise UsageError("a simulation needs at least one customer, one client and one round")
        if not payee and len(customers[: self._clients]) < 2:
            raise UsageError("a customer alone has nobody to pay; name an account to pay to")
        self._address, self._ca, self._path_ca = address, ca, path_ca
        self._customers = customers
        self._scenario = tuple(scenario)
        self._rounds = rounds
        self._payee = payee
        self._amount_minor = amount_minor
        self._deadline_s = deadline_s
        self._tallies: dict[str, _Tally] = defaultdict(_Tally)
        self._errors: dict[str, int] = defaultdict(int)
        self._sessions_kept = 0
        self._acknowledged = self._refused = self._settled = self._unknown = 0
        self._outage_s = 0.0
        self._heard_at = 0.0
        self._done = 0
        self._on_progress: Callable[[Progress], object] | None = None

    @property
    def total(self) -> int:
        """How many steps there are, signing in included."""
        return self._clients * (1 + self._rounds * len(self._scenario))

    async def run(self, on_progress: Callable[[Progress], object] | None = None) -> SimulationResult:
        """Sign everybody in, then let everybody loose; give the result when all are done.

        Args:
            on_progress: called after each step; it must be quick.
        """
        self._on_progress = on_progress
        async with AsyncExitStack() as stack:
            turn = asyncio.Semaphore(SIGN_INS_AT_ONCE)
            arrivals = [self._arrive(stack, turn, index) for index in range(self._clients)]
            visitors = self._introduce(await asyncio.gather(*arrivals))
            started = self._heard_at = time.perf_counter()
            await asyncio.gather(*(self._visit(visitor) for visitor in visitors))
            elapsed_s = time.perf_counter() - started
        return self._result(elapsed_s, len(visitors))

    async def _arrive(
        self, stack: AsyncExitStack, turn: asyncio.Semaphore, index: int
    ) -> tuple[int, Customer, Me] | None:
        customer = self._customers[index % len(self._customers)]
        client: Client = connect(
            self._address,
            ca=self._ca,
            path_ca=self._path_ca,
            deadline_s=self._deadline_s,
            agent="fortress simulate",
        )
        stack.push_async_callback(client.close)
        async with turn:
            started = time.perf_counter()
            try:
                if customer.seed:
                    me = await client.login_with_seed(customer.username, customer.seed)
                else:
                    me = await client.login(customer.username, customer.password)
            except FortressError as error:
                self._note(index, customer, SIGN_IN, "error", error.message, time.perf_counter() - started)
                return None
        self._note(index, customer, SIGN_IN, "ok", "", time.perf_counter() - started)
        return index, customer, me

    def _introduce(self, arrived: Sequence[tuple[int, Customer, Me] | None]) -> list[Visitor]:
        """Tell each one whom to pay: the next one who is somebody else, or the account named."""
        loop = asyncio.get_running_loop()
        present = [arrival for arrival in arrived if arrival is not None]
        numbers: dict[str, asyncio.Future[int]] = {who.username: loop.create_future() for _, who, _ in present}
        usernames = list(numbers)
        named: asyncio.Future[int] = loop.create_future()
        if self._payee:
            named.set_result(self._payee)
        visitors = []
        for index, customer, me in present:
            following = usernames[(usernames.index(customer.username) + 1) % len(usernames)]
            payee = named if named.done() else numbers[following]
            visitors.append(Visitor(index, customer, me, self._amount_minor, numbers[customer.username], payee))
        return visitors

    async def _visit(self, visitor: Visitor) -> None:
        for visitor.round in range(self._rounds):
            for step in self._scenario:
                await self._take(visitor, step)
        # whoever waits for an account number that will not come must not wait for ever
        if not visitor.number.done():
            visitor.number.set_exception(Unreachable(f"the account of {visitor.customer.username!r} is not known"))
            visitor.number.exception()
        self._sessions_kept += visitor.me.is_connected

    async def _take(self, visitor: Visitor, step: Step) -> None:
        started = time.perf_counter()
        outcome, message = "ok", ""
        try:
            await asyncio.wait_for(self._settle(visitor, step), 2 * self._deadline_s * SETTLE_TRIES)
            self._acknowledge()
            if step.refusal is not None:
                outcome, message = "error", f"{step.name}: was done and should have been refused"
        except FortressError as error:
            is_wanted = step.refusal is not None and isinstance(error, step.refusal)
            outcome, message = ("refused" if is_wanted else "error"), error.message
            self._refused += is_wanted or isinstance(error, Refused)
            self._unknown += isinstance(error, OutcomeUnknown)
        except TimeoutError:
            outcome, message = "error", f"{step.name}: no end in time"
        self._note(visitor.index, visitor.customer, step.name, outcome, message, time.perf_counter() - started)

    async def _settle(self, visitor: Visitor, step: Step) -> None:
        """Take a step, again while its outcome is unknown."""
        for tries_left in range(SETTLE_TRIES - 1, -1, -1):
            try:
                await step.run(visitor)
            except OutcomeUnknown:
                if not tries_left:
                    raise
                continue
            except Refused:
                self._settled += tries_left < SETTLE_TRIES - 1
                raise
            self._settled += tries_left < SETTLE_TRIES - 1
            return

    def _acknowledge(self) -> None:
        now = time.perf_counter()
        self._acknowledged += 1
        self._outage_s = max(self._outage_s, now - self._heard_at)
        self._heard_at = now

    def _note(self, index: int, customer: Customer, step: str, outcome: str, message: str, duration_s: float) -> None:
        tally = self._tallies[step]
        tally.durations_s.append(duration_s)
        tally.outcomes[outcome] += 1
        self._done += 1
        if outcome == "error":
            self._errors[message] += 1
        if self._on_progress is not None:
            self._on_progress(
                Progress(index, customer.username, step, outcome, message, duration_s, self._done, self.total)
            )

    def _result(self, elapsed_s: float, present: int) -> SimulationResult:
        names = dict.fromkeys([SIGN_IN, *(step.name for step in self._scenario)])
        rows = tuple(self._tallies[name].row(name) for name in names)
        errors = dict(sorted(self._errors.items(), key=lambda item: -item[1]))
        return SimulationResult(
            self._clients,
            self._rounds,
            elapsed_s,
            rows,
            self._checks(rows, present),
            errors,
            self._acknowledged,
            self._refused,
            self._settled,
            self._unknown,
            self._outage_s,
        )

    def _checks(self, rows: Sequence[StepResult], present: int) -> tuple[Check, ...]:
        errors, kept = sum(row.errors for row in rows), self._sessions_kept
        wanted = {step.name for step in self._scenario if step.refusal is not None}
        refused = sum(row.refused for row in rows)
        to_refuse = sum(row.count for row in rows if row.step in wanted)
        return (
            Check("everybody signed in", present == self._clients, f"{present} of {self._clients}"),
            Check("every step was answered", self._done >= self.total, f"{self._done} of {self.total}"),
            Check("every answer was the right one", errors == 0, f"{errors} errors"),
            Check("every invalid request was refused clearly", refused == to_refuse, f"{refused} of {to_refuse}"),
            Check("every session lived on", kept == self._clients, f"{kept} of {self._clients}"),
        )
