"""Bring committed records into the tables behind the answers, many at a time.

Late is cheap: a hundred records in one transaction cost little more than one, so the tables follow about once a second,
at once when much has gathered, and at once when a reader waits for them. Readers of one moment share one transaction.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from fortress.errors import DiskFull, FortressError, LedgerError
from fortress.ledger.delta import Delta
from fortress.ledger.engine import Engine
from fortress.server.histogram import Histogram
from fortress.server.workers import Worker

APPLY_ENTRIES_MIN = 16_384
APPLY_EVERY_S = 1.0
DISK_RETRY_S = 0.5


class Applier:
    """The one writer of the tables.

    Args:
        engine: whose tables follow.
        on_applied: called after each transaction.
        on_full: told that the disk is full; the same records are tried again by themselves.
        on_failed: told the error after which the tables cannot go on.

    Attributes:
        entries: committed and not in the tables yet.
        seconds: how long transactions took.
    """

    def __init__(
        self,
        engine: Engine,
        loop: asyncio.AbstractEventLoop,
        *,
        on_applied: Callable[[], None],
        on_full: Callable[[DiskFull], None],
        on_failed: Callable[[LedgerError], None],
    ) -> None:
        self._engine = engine
        self._loop = loop
        self._on_applied = on_applied
        self._on_full = on_full
        self._on_failed = on_failed
        self._worker = Worker("tables", loop)
        self._deltas: list[Delta] = []
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._is_applying = False
        self._failure: FortressError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.entries = 0
        self.seconds = Histogram()

    def add(self, delta: Delta) -> None:
        """Take a committed record's changes."""
        self._deltas.append(delta)
        self.entries += delta.count

    def apply_soon(self) -> None:
        """Begin a transaction if it is time for one."""
        if self._is_applying or not self._deltas:
            return
        if self.entries >= APPLY_ENTRIES_MIN or self._waiters:
            self._apply()
        elif self._timer is None:
            self._timer = self._loop.call_later(APPLY_EVERY_S, self._apply)

    async def wait(self, position: int) -> None:
        """Wait until the tables hold everything up to ``position``, and hurry them on.

        Raises:
            FortressError: they never will on this node.
        """
        if position <= self._engine.store.applied_position:
            return
        if self._failure is not None:
            raise self._failure
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append((position, future))
        self.apply_soon()
        await future

    def fail(self, failure: FortressError) -> None:
        """Tell those who wait that they wait in vain."""
        self._failure = failure
        waiters, self._waiters = self._waiters, []
        for _, future in waiters:
            if not future.done():
                future.set_exception(failure)

    def close(self) -> None:
        """End the thread; what is not applied is replayed from the journal at the next start."""
        self._cancel_timer()
        self._worker.close()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _apply(self) -> None:
        self._cancel_timer()
        if self._is_applying or not self._deltas or self._failure is not None:
            return
        deltas, self._deltas = self._deltas, []
        self._is_applying = True
        started = time.perf_counter_ns()

        def applied(_: object, error: BaseException | None) -> None:
            self._is_applying = False
            if isinstance(error, DiskFull):
                self._deltas = deltas + self._deltas
                self._timer = self._loop.call_later(DISK_RETRY_S, self._apply)
                self._on_full(error)
            elif error is not None:
                self._on_failed(error if isinstance(error, LedgerError) else LedgerError(f"the tables failed: {error}"))
            else:
                self.seconds.record(time.perf_counter_ns() - started)
                self._applied(sum(delta.count for delta in deltas))

        self._worker.submit(self._engine.store.apply, deltas, done=applied)

    def _applied(self, count: int) -> None:
        self.entries -= count
        position = self._engine.store.applied_position
        self._engine.state.trim(position)
        waiters, self._waiters = self._waiters, []
        for wanted, future in waiters:
            if wanted > position:
                self._waiters.append((wanted, future))
            elif not future.done():
                future.set_result(None)
        self._on_applied()
        self.apply_soon()
