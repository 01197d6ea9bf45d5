"""The group committer: whatever was judged while the last record was being written becomes the next record.

Commands are judged at once, in the order they come, on top of everything judged before; their answers wait until the
record that holds them is durable. One record is on its way to the disk at a time, on the journal's own thread, while
the loop judges the next; so the size of a commit adapts to the load by itself. Committed records go to the tables
behind the answers, on a third thread, many at a time.

A command that names what memory does not hold waits for one read of the tables, and those behind it wait too: order
is kept. Everything has a limit: what waits to be judged (``busy``), what is judged and not in the tables (commands
wait), a full disk (``disk_full``, nothing half done). After a write of unknown outcome the committer stops for good.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from fortress.errors import Busy, DiskFull, FortressError, LedgerError, OutcomeUnknown, ShuttingDown, Status
from fortress.ledger.commands import Command, MoveBatch, MoveMoney
from fortress.ledger.delta import Delta
from fortress.ledger.engine import Engine
from fortress.ledger.records import Record
from fortress.ledger.rules import Verdict
from fortress.server.histogram import Histogram
from fortress.server.journal_writer import JournalWriter
from fortress.server.workers import Worker

Answered = Callable[[Any], None]  # told a Verdict (a batch: a list of them) or a FortressError

APPLY_ENTRIES_MIN = 16_384
APPLY_EVERY_S = 1.0
DISK_CHECK_S = 1.0
DISK_RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class CommitterSettings:
    """Limits of the committer: commands waiting, entries in a record, entries not in the tables yet."""

    queue_max: int = 65_536
    batch_entries_max: int = 16_380
    unapplied_entries_max: int = 262_144


class Committer:
    """Turn commands into durable entries; see the module's sentence.

    Args:
        engine: the bank's ledger; from here on only this object judges and writes.
        on_commit: told each delta once it is durable (notifications).
        after_answers: called after the answers of one commit were given (sessions flush here).
        on_fatal: told the error after which this node must stop.
    """

    def __init__(
        self,
        engine: Engine,
        settings: CommitterSettings,
        *,
        on_commit: Callable[[Delta], None],
        after_answers: Callable[[], None],
        on_fatal: Callable[[LedgerError], None],
    ) -> None:
        self.engine = engine
        self._settings = settings
        self._on_commit = on_commit
        self._after_answers = after_answers
        self._on_fatal = on_fatal
        self._loop = asyncio.get_running_loop()
        self._journal_writer = JournalWriter(engine.journal, self._loop)
        self._tables_worker = Worker("tables", self._loop)
        self.readers = ThreadPoolExecutor(2, thread_name_prefix="reader")
        self._waiting: deque[tuple[Command, Answered]] = deque()
        self._open: list[tuple[Answered, Any]] = []
        self._position_waiters: deque[tuple[int, Callable[[], None]]] = deque()
        self._applied_waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._unapplied: list[Delta] = []
        self._unapplied_entries = 0
        self._is_loading = False
        self._is_scheduled = False
        self._is_writing = False
        self._is_applying = False
        self._is_closing = False
        self._disk_full: DiskFull | None = None
        self._failure: FortressError | None = None
        self._apply_timer: asyncio.TimerHandle | None = None
        self.committed_record = engine.last
        self.committed_lsn = engine.last.lsn if engine.last else 0
        self.committed_position = engine.state.position
        self.batch_sizes = Histogram()
        self.write_seconds = Histogram()
        self.apply_seconds = Histogram()
        self._disk_timer = self._loop.call_later(DISK_CHECK_S, self._check_disk)

    # --- Taking commands -------------------------------------------------------------------------------------------
    def submit(self, command: Command, answered: Answered) -> None:
        """Take a command; ``answered`` is called on the loop once its outcome is durable (or known to be none).

        Raises:
            Busy: too much waits already.
            DiskFull: no entries are taken until there is space.
            ShuttingDown, OutcomeUnknown: this committer takes nothing any more.
        """
        if self._failure is not None or self._disk_full is not None or self._is_closing:
            raise self._refusal()
        if self._waiting or self._is_full():
            if len(self._waiting) >= self._settings.queue_max:
                raise Busy(f"{len(self._waiting)} commands wait already", {"queue_max": self._settings.queue_max})
            self._waiting.append((command, answered))
            return
        if type(command) is MoveMoney:
            if self.engine.state.lacks_move(command.id, command.debit, command.credit):
                self._wait_for_load(command, answered)
                return
        elif self._wanted(command) is not None:
            self._wait_for_load(command, answered)
            return
        self._judge(command, answered)
        if not self._is_scheduled and not self._is_writing:
            self._is_scheduled = True
            self._loop.call_soon(self._cut)

    async def commit(self, command: Command) -> Verdict:
        """Submit a single command and wait for its verdict.

        Cancelling the wait does not take the command back: it may still be done.
        """
        verdict: Verdict = await self._outcome(command)
        return verdict

    async def commit_batch(self, command: MoveBatch) -> list[Verdict]:
        """Submit a batch and wait for the verdicts of its rows."""
        verdicts: list[Verdict] = await self._outcome(command)
        return verdicts

    async def _outcome(self, command: Command) -> Any:
        future: asyncio.Future[Any] = self._loop.create_future()

        def answered(outcome: Any) -> None:
            if future.done():
                return
            if isinstance(outcome, FortressError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        self.submit(command, answered)
        return await future

    def _refusal(self) -> FortressError:
        return self._failure or self._disk_full or ShuttingDown("the bank is going down")

    def _is_full(self) -> bool:
        return (
            len(self.engine.pending) >= self._settings.batch_entries_max
            or self._unapplied_entries >= self._settings.unapplied_entries_max
        )

    def _wanted(self, command: Command) -> Any:
        state = self.engine.state
        return state.missing_for_batch(command.rows) if type(command) is MoveBatch else state.missing(command)

    def _wait_for_load(self, command: Command, answered: Answered) -> None:
        self._waiting.append((command, answered))
        self._load()

    def _judge(self, command: Command, answered: Answered) -> None:
        engine = self.engine
        now_us = engine.clock(time.time_ns() // 1000)
        try:
            outcome: Any
            if type(command) is MoveBatch:
                outcome = engine.judge_batch(command, now_us)
            else:
                outcome = engine.judge(command, now_us)
        except LedgerError as error:
            self._fail(error)
            answered(self._refusal())
            return
        self._open.append((answered, outcome))

    # --- Reading what memory lacks ---------------------------------------------------------------------------------
    def _load(self) -> None:
        """Read what the waiting commands lack, all in one go, then judge them in order."""
        if self._is_loading or not self._waiting:
            return
        wanted = None
        for command, _ in self._waiting:
            more = self._wanted(command)
            if more is not None:
                wanted = more if wanted is None else wanted.merged(more)
        if wanted is None:
            self._judge_waiting()
            return
        self._is_loading = True
        chosen = wanted
        task = self._loop.run_in_executor(self.readers, self.engine.store.load, chosen)

        def loaded(done: asyncio.Future[Any]) -> None:
            self._is_loading = False
            error = done.exception()
            if isinstance(error, LedgerError):
                self._fail(error)
            elif error is not None:
                self._fail(LedgerError(f"reading the tables failed: {error}"))
            else:
                self.engine.state.fill(chosen, done.result())
                self._judge_waiting()

        task.add_done_callback(loaded)

    def _judge_waiting(self) -> None:
        while self._waiting and not self._is_full():
            command, answered = self._waiting[0]
            if self._wanted(command) is not None:
                self._load()
                break
            self._waiting.popleft()
            self._judge(command, answered)
        self._schedule()

    # --- Writing ---------------------------------------------------------------------------------------------------
    def _schedule(self) -> None:
        if not self._is_scheduled and not self._is_writing and (self._open or self.engine.pending):
            self._is_scheduled = True
            self._loop.call_soon(self._cut)

    def _cut(self) -> None:
        """Close the record that is open and send it to the disk; without entries, answer at once."""
        self._is_scheduled = False
        if self._is_writing or self._failure is not None:
            return
        answers, self._open = self._open, []
        try:
            closed = self.engine.close_record(time.time_ns() // 1000, self.committed_lsn)
        except LedgerError as error:
            self._open = answers
            self._fail(error)
            return
        if closed is None:
            self._answer(answers)
            return
        self._is_writing = True
        self._write(*closed, answers)

    def _write(self, record: Record, delta: Delta, answers: list[tuple[Answered, Any]]) -> None:
        started = time.perf_counter_ns()

        def written(_: object, error: BaseException | None) -> None:
            if error is None:
                self.write_seconds.record(time.perf_counter_ns() - started)
                self._durable(record, delta, answers)
            elif isinstance(error, DiskFull):
                self._wait_for_space(record, delta, answers, error)
            else:
                self._open = answers + self._open
                failure = error if isinstance(error, LedgerError) else LedgerError(f"writing failed: {error}")
                self._fail(failure)

        self._journal_writer.write(record, done=written)

    def _durable(self, record: Record, delta: Delta, answers: list[tuple[Answered, Any]]) -> None:
        self._is_writing = False
        self._disk_full = None
        self.committed_record = record
        self.committed_lsn = record.lsn
        self.committed_position = record.first_position + record.count
        self.batch_sizes.record(record.count * 1000)
        self._unapplied.append(delta)
        self._unapplied_entries += record.count
        if self._waiting:
            self._judge_waiting()
        if self.engine.pending:
            self._cut()  # the disk works on the next record while this one's answers go out
        self._on_commit(delta)
        self._answer(answers)
        self._apply_soon()

    def _answer(self, answers: list[tuple[Answered, Any]]) -> None:
        for answered, outcome in answers:
            answered(outcome)
        waiters, position = self._position_waiters, self.committed_position
        while waiters and waiters[0][0] <= position:
            waiters.popleft()[1]()
        self._after_answers()
        self._schedule()

    def when_committed(self, position: int, ready: Callable[[], None]) -> None:
        """Call ``ready`` once the position is committed: at once when it is."""
        if position <= self.committed_position:
            ready()
        else:
            self._position_waiters.append((position, ready))

    # --- The tables ------------------------------------------------------------------------------------------------
    def _apply_soon(self) -> None:
        if self._is_applying or not self._unapplied:
            return
        if self._unapplied_entries >= APPLY_ENTRIES_MIN or self._applied_waiters:
            self._apply()
        elif self._apply_timer is None:
            self._apply_timer = self._loop.call_later(APPLY_EVERY_S, self._apply)

    def _apply(self) -> None:
        if self._apply_timer is not None:
            self._apply_timer.cancel()
            self._apply_timer = None
        if self._is_applying or not self._unapplied:
            return
        deltas, self._unapplied = self._unapplied, []
        self._is_applying = True
        started = time.perf_counter_ns()

        def applied(_: object, error: BaseException | None) -> None:
            self._is_applying = False
            if isinstance(error, DiskFull):
                self._unapplied = deltas + self._unapplied
                self._disk_full = error
                self._apply_timer = self._loop.call_later(DISK_RETRY_S, self._apply)
            elif error is not None:
                self._fail(error if isinstance(error, LedgerError) else LedgerError(f"the tables failed: {error}"))
            else:
                self.apply_seconds.record(time.perf_counter_ns() - started)
                self._applied(sum(delta.count for delta in deltas))

        self._tables_worker.submit(self.engine.store.apply, deltas, done=applied)

    def _applied(self, count: int) -> None:
        self._unapplied_entries -= count
        position = self.engine.store.applied_position
        self.engine.state.trim(position)
        still = []
        for wanted, future in self._applied_waiters:
            if wanted > position:
                still.append((wanted, future))
            elif not future.done():
                future.set_result(None)
        self._applied_waiters = still
        if self._waiting:
            self._judge_waiting()
        self._apply_soon()

    async def wait_applied(self, position: int) -> None:
        """Wait until the tables hold everything up to ``position``; hurries the tables on.

        Raises:
            FortressError: the committer has stopped.
        """
        if position <= self.engine.store.applied_position:
            return
        if self._failure is not None:
            raise self._failure
        future: asyncio.Future[None] = self._loop.create_future()
        self._applied_waiters.append((position, future))
        self._apply_soon()
        await future

    # --- When the disk is full, or worse ---------------------------------------------------------------------------
    def _check_disk(self) -> None:
        """Stop taking entries while there is still room for those already judged."""
        if self._failure is None and not self._is_closing:
            self._disk_timer = self._loop.call_later(DISK_CHECK_S, self._check_disk)
            if self.engine.journal.low_space():
                self._disk_full = DiskFull("the bank's disk is nearly full")
            elif not self._is_writing:
                self._disk_full = None

    def _wait_for_space(
        self, record: Record, delta: Delta, answers: list[tuple[Answered, Any]], error: DiskFull
    ) -> None:
        """Tell everybody, keep the record, and write it once there is space: repeats find it done."""
        self._disk_full = error
        for answered, _ in answers + self._open:
            answered(error)
        while self._waiting:
            self._waiting.popleft()[1](error)
        self._open = []
        self._after_answers()
        self._loop.call_later(DISK_RETRY_S, self._write, record, delta, [])

    def _fail(self, error: LedgerError) -> None:
        """Stop for good: what is under way has an unknown outcome."""
        if self._failure is not None:
            return
        self._failure = OutcomeUnknown("the node has stopped; whether this was done is not known")
        for answered, _ in self._open:
            answered(self._failure)
        while self._waiting:
            self._waiting.popleft()[1](self._failure)
        for _, future in self._applied_waiters:
            if not future.done():
                future.set_exception(self._failure)
        self._open = []
        self._after_answers()
        self._on_fatal(error)

    async def close(self) -> None:
        """Write and apply everything taken, then end the threads; new commands are refused from now on."""
        self._is_closing = True
        while self._failure is None and self._disk_full is None and (self._waiting or self._open or self._is_writing):
            await asyncio.sleep(0.001)
        if self._failure is None and self._disk_full is None:
            await self.wait_applied(self.committed_position)
        self._disk_timer.cancel()
        if self._apply_timer is not None:
            self._apply_timer.cancel()
        self._journal_writer.close()
        self._tables_worker.close()
        self.readers.shutdown()

    def statistics(self) -> dict[str, Any]:
        """Take a snapshot for the monitor."""
        return {
            "lsn": self.committed_lsn,
            "position": self.committed_position,
            "applied_position": self.engine.store.applied_position,
            "waiting": len(self._waiting),
            "unapplied": self._unapplied_entries,
            "disk_full": self._disk_full is not None,
            "failed": self._failure is not None,
        }


__all__ = ["Answered", "Committer", "CommitterSettings", "Status"]
