"""Committed records go to the tables here: behind the answers, on a thread of its own, many at a time.

Late is cheap: a hundred records in one transaction cost little more than one. But a long transaction shares the
interpreter lock with the event loop for long: at half load, following once a second gave a p99 of 49 ms, ten times a
second 13 ms. So the tables follow ten times a second, at once when much has gathered, and at once when a reader waits;
readers of one moment share one transaction.

The journal is the truth and the tables follow it, so nothing waits for them but reads that need them, and commands
when too much is not applied yet. A full disk stops the following and nothing else: it is tried again, and who waits is
told. Anything else that fails there ends the node.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from fortress.errors import DiskFull, FortressError, LedgerError
from fortress.ledger.delta import Delta
from fortress.ledger.engine import Engine
from fortress.ledger.table_digest import TableView
from fortress.server.histogram import Histogram
from fortress.server.logs import log_event
from fortress.server.workers import Worker

APPLY_ENTRIES_MIN: Final = 16_384
APPLY_EVERY_S: Final = 0.1
DISK_RETRY_S: Final = 0.5

ViewTaken = Callable[[TableView], None]

logger = logging.getLogger(__name__)


class Applier:
    """Bring the tables of one engine after its journal.

    Args:
        engine: the bank's ledger; only this object writes its tables.
        entries_max: how many entries may wait for the tables before commands wait for them.
        on_applied: called after each transaction.
        on_space: called when the disk was found full, or has space again; `disk_full` tells which.
        on_fatal: told the error after which this node must stop.

    Attributes:
        entries: how many committed entries the tables do not have yet.
        seconds: how long each transaction took.
        disk_full: why nothing is applied at the moment; None as a rule.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        entries_max: int,
        on_applied: Callable[[], None],
        on_space: Callable[[], None],
        on_fatal: Callable[[LedgerError], None],
    ) -> None:
        self.entries = 0
        self.seconds = Histogram()
        self.disk_full: DiskFull | None = None
        self._engine = engine
        self._entries_soon = min(APPLY_ENTRIES_MIN, entries_max)
        self._on_applied = on_applied
        self._on_space = on_space
        self._on_fatal = on_fatal
        self._loop = asyncio.get_running_loop()
        self._worker = Worker("tables", self._loop)
        self._deltas: list[Delta] = []
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._is_applying = False
        self._failure: FortressError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._view: tuple[int, ViewTaken] | None = None

    def take(self, delta: Delta) -> None:
        """Take the changes of a record that is durable; they reach the tables soon."""
        self._deltas.append(delta)
        self.entries += delta.count
        self._apply_soon()

    def view_at(self, lsn: int, taken: ViewTaken) -> bool:
        """Take a view of the tables as they are after exactly this record, and give it to ``taken``, on the loop.

        One at a time; False when the tables are past the record, or another view is asked for.
        """
        if self._view is not None or self._engine.store.applied_lsn > lsn or self._failure is not None:
            return False
        self._view = (lsn, taken)
        if self._engine.store.applied_lsn == lsn and not self._is_applying:
            self._take_view()
        else:
            self._apply_soon()
        return True

    def _take_view(self) -> None:
        """Make the view on the thread that writes the tables, so that nothing is written meanwhile."""
        assert self._view is not None
        (lsn, taken), self._view = self._view, None
        self._is_applying = True

        def viewed(view: Any, error: BaseException | None) -> None:
            self._is_applying = False
            if error is None and view.lsn == lsn:
                taken(view)
            elif error is None:
                view.close()
            else:
                self._on_fatal(error if isinstance(error, LedgerError) else LedgerError(f"no view: {error}"))
            self._apply_soon()

        self._worker.submit(TableView, self._engine.store, done=viewed)

    async def wait(self, position: int) -> None:
        """Wait until the tables hold everything up to ``position``, which is or will be committed; hurries them on.

        Raises:
            DiskFull: there is no space for that now.
            FortressError: the node has stopped.
        """
        if position <= self._engine.store.applied_position:
            return
        refusal = self._failure or self.disk_full
        if refusal is not None:
            raise type(refusal)(refusal.message, refusal.facts)
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append((position, future))
        self._apply()
        await future

    def refuse_waiters(self, error: FortressError) -> None:
        """Tell all who wait for the tables that what they wait for does not come now."""
        waiters, self._waiters = self._waiters, []
        for _, future in waiters:
            if not future.done():
                future.set_exception(type(error)(error.message, error.facts))

    def fail(self, error: FortressError) -> None:
        """Apply nothing any more, and tell all who wait."""
        self._failure = error
        self.refuse_waiters(error)
        self._stop_timer()

    def close(self) -> None:
        """End the thread; what is not applied is replayed from the journal at the next start."""
        self._stop_timer()
        self._worker.close()

    def _apply_soon(self) -> None:
        if self.entries >= self._entries_soon or self._waiters:
            self._apply()
        elif self._timer is None and self._deltas and self._failure is None:
            self._timer = self._loop.call_later(APPLY_EVERY_S, self._apply)

    def _apply(self) -> None:
        self._stop_timer()  # also when nothing is begun: a timer that has gone off must not count as set
        if self._is_applying or not self._deltas or self._failure is not None:
            return
        deltas, self._deltas = self._deltas, []
        if self._view is not None:  # the tables stop once at exactly this record
            count = sum(delta.lsn <= self._view[0] for delta in deltas)
            if 0 < count < len(deltas):
                deltas, self._deltas = deltas[:count], deltas[count:]
        self._is_applying = True
        started = time.perf_counter_ns()

        def applied(_: object, error: BaseException | None) -> None:
            self._is_applying = False
            if error is None:
                self.seconds.record(time.perf_counter_ns() - started)
                self._applied(sum(delta.count for delta in deltas))
            elif isinstance(error, DiskFull):
                self._deltas = deltas + self._deltas
                self._wait_for_space(error)
            else:
                self._on_fatal(error if isinstance(error, LedgerError) else LedgerError(f"the tables failed: {error}"))

        self._worker.submit(self._engine.store.apply, deltas, done=applied)

    def _applied(self, count: int) -> None:
        self.entries -= count
        if self.disk_full is not None:
            self.disk_full = None
            log_event(logger, logging.INFO, "tables go on")
            self._on_space()
        position = self._engine.store.applied_position
        self._engine.state.trim(position)
        waiters, self._waiters = self._waiters, []
        for wanted, future in waiters:
            if wanted > position:
                self._waiters.append((wanted, future))
            elif not future.done():
                future.set_result(None)
        self._on_applied()
        if self._view is not None and self._engine.store.applied_lsn >= self._view[0]:
            self._take_view()
        else:
            self._apply_soon()

    def _wait_for_space(self, error: DiskFull) -> None:
        if self.disk_full is None:
            log_event(logger, logging.WARNING, "tables wait", reason=error.message)
        self.disk_full = error
        self.refuse_waiters(error)
        self._stop_timer()
        self._timer = self._loop.call_later(DISK_RETRY_S, self._apply)
        self._on_space()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
