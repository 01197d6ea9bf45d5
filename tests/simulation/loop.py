"""Time that is given, and processes that live in it: each is an event loop of its own, run a turn at a time.

Nothing waits: when no process has anything to do, time jumps to the next moment at which one has. A process that is
killed is never run again, whatever it had under way; one that is paused is not run until it goes on, and then finds
that time has passed. Clocks of processes differ from true time, and from each other, by an offset and a rate.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from asyncio import events
from collections.abc import Callable
from itertools import count
from typing import Any

STEP_NS = 1_000
"""True time that a turn of a process takes."""
TURNS_AT_ONCE_MAX = 200_000
"""So many turns without a jump of time are a process that goes round in circles."""


class Circling(AssertionError):
    """A process does something again and again without time passing."""


class Time:
    """True time, what happens at which moment, and the processes."""

    def __init__(self, chance: random.Random) -> None:
        self.now_ns = 0
        self.chance = chance
        self.processes: list[Process] = []
        self.running: Process | None = None
        self._due: list[tuple[int, int, Callable[[], object]]] = []
        self._number = count()
        self._turns = 0

    def at(self, delay_ns: int, act: Callable[[], object]) -> None:
        """Have something done outside all processes, after so much true time."""
        heapq.heappush(self._due, (self.now_ns + max(0, delay_ns), next(self._number), act))

    def run(self, until_ns: int, is_over: Callable[[], bool] = lambda: False) -> None:
        """Let time pass up to a moment, or until something is so."""
        while self.now_ns < until_ns and not is_over():
            self._run_due()
            ready = [process for process in self.processes if process.is_ready()]
            if ready:
                self._turns += 1
                if self._turns > TURNS_AT_ONCE_MAX:
                    raise Circling(f"{ready[0].name} goes round in circles")
                (ready[0] if len(ready) == 1 else self.chance.choice(ready)).run_turn()
                self.now_ns += STEP_NS
            else:
                self._turns = 0
                moments = [process.next_due_ns() for process in self.processes]
                if self._due:
                    moments.append(self._due[0][0])
                self.now_ns = max(self.now_ns, min([until_ns, *moments]))

    def _run_due(self) -> None:
        while self._due and self._due[0][0] <= self.now_ns:
            heapq.heappop(self._due)[2]()

    def end(self, process: Process) -> None:
        """Never run this process again."""
        process.is_dead = True
        if process in self.processes:
            self.processes.remove(process)

    def clock(self) -> Process:
        """Give the process that is running, whose clock counts."""
        assert self.running is not None, "a clock was read outside of all processes"
        return self.running


class Process(asyncio.BaseEventLoop):
    """One process; it begins with what is put into it and ends when `Time` is told so.

    Args:
        time: that it lives in.
        name: of it.
        rate: how fast its clock runs.
        offset_ns: what its clock shows at the beginning of time.
        wall_ns: what its calendar shows then, since 1970.
    """

    def __init__(self, time: Time, name: str, *, rate: float = 1.0, offset_ns: int = 0, wall_ns: int = 0) -> None:
        super().__init__()
        self.name = name
        self.is_dead = False
        self.is_paused = False
        self.faults: list[str] = []
        self.workers: list[Worker] = []
        self.wall_ns = wall_ns
        self._time = time
        self._rate = rate
        self._offset_ns = offset_ns
        time.processes.append(self)

    def __del__(self) -> None:
        pass  # what a killed process has not closed stays so

    # --- Its clocks ----
    def local_ns(self) -> int:
        """Tell what its clock shows."""
        return self._offset_ns + int(self._time.now_ns * self._rate)

    def time(self) -> float:
        """Tell that in seconds."""
        return self.local_ns() / 1e9

    def calendar_ns(self) -> int:
        """Tell what its calendar shows, since 1970."""
        return self.wall_ns + self._time.now_ns

    # --- Its turns ----
    def is_ready(self) -> bool:
        """Tell whether it has something to do now."""
        if self.is_paused:
            return False
        now = self.time() + 1e-6
        scheduled = self._scheduled
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= now):
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                self._ready.append(handle)
        return bool(self._ready)

    def next_due_ns(self) -> int:
        """Tell at what true time it has something to do next."""
        if self.is_paused or not self._scheduled:
            return 1 << 62
        return int((self._scheduled[0]._when * 1e9 - self._offset_ns) / self._rate) + 1

    def run_turn(self) -> None:
        """Do what is ready now; what that makes ready comes with the next turn."""
        self._time.running = self
        events._set_running_loop(self)
        try:
            for _ in range(len(self._ready)):
                handle = self._ready.popleft()
                if not handle._cancelled:
                    handle._run()
                if self.is_dead or self.is_paused:
                    break
        finally:
            events._set_running_loop(None)
            self._time.running = None

    # --- What asyncio asks of a loop ----
    def _write_to_self(self) -> None:
        pass

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody caught; it makes the run fail."""
        if not self.is_dead:
            self.faults.append(f"{context.get('message')}: {context.get('exception')!r}")

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Do what a thread would do at one moment: at once, or when it is told; the answer comes later."""
        future = self.create_future()
        chance = self._time.chance

        def outcome() -> tuple[Any, BaseException | None]:
            try:
                return func(*args), None
            except Exception as error:
                return None, error

        def settle(found: tuple[Any, BaseException | None] | None) -> None:
            result, error = found or outcome()
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        is_now = chance.random() < 0.5
        self.call_later(chance.expovariate(1 / 200e-6), settle, outcome() if is_now else None)
        return future


class Worker:
    """In place of `fortress.server.workers.Worker`: its thread does each job at one moment, after some time.

    Attributes:
        delay_s: tells how long the next job takes.
        on_done: told each job that was done, with its error.
    """

    def __init__(self, name: str, loop: Process) -> None:
        self.name = name
        self._loop = loop
        self._jobs: list[tuple[Callable[..., Any], tuple[Any, ...], Any]] = []
        self.delay_s: Callable[[], float] = lambda: loop._time.chance.expovariate(1 / 300e-6)
        self.before: Callable[[], None] = lambda: None
        self.on_done: Callable[[tuple[Any, ...], BaseException | None], None] = lambda arguments, error: None
        loop.workers.append(self)
        NEW_WORKER[0](self, loop)

    @property
    def under_way(self) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
        """What the thread is at."""
        return self._jobs[0][:2] if self._jobs else None

    def submit(self, function: Callable[..., Any], *arguments: Any, done: Any) -> None:
        self._jobs.append((function, arguments, done))
        if len(self._jobs) == 1:
            self._loop.call_later(self.delay_s(), self._do)

    def close(self) -> None:
        while self._jobs:
            self._do()

    def _do(self) -> None:
        if not self._jobs:
            return
        function, arguments, done = self._jobs[0]
        error: BaseException | None = None
        result = None
        try:
            self.before()
            result = function(*arguments)
        except Exception as raised:
            error = raised
        self._jobs.pop(0)
        self.on_done(arguments, error)
        self._loop.call_soon(done, result, error)
        if self._jobs:
            self._loop.call_later(self.delay_s(), self._do)


NEW_WORKER: list[Callable[[Worker, Process], None]] = [lambda worker, loop: None]
"""Who is told of each worker; the world of the run."""


class Clocks:
    """In place of the module ``time`` in the node's code: the clocks of the process that runs."""

    def __init__(self, time: Time) -> None:
        self._time = time

    def time_ns(self) -> int:
        return self._time.clock().calendar_ns()

    def time(self) -> float:
        return self.time_ns() / 1e9

    def monotonic_ns(self) -> int:
        return self._time.clock().local_ns()

    perf_counter_ns = monotonic_ns

    def monotonic(self) -> float:
        return self.monotonic_ns() / 1e9

    perf_counter = monotonic
