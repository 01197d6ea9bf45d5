"""The group committer: whatever was judged while the last record was being written becomes the next record.

Commands are judged at once, in the order they come, on top of everything judged before; their answers wait until the
record that holds them is durable. One record is on its way to the disk at a time while the loop judges the next; so the
size of a commit adapts to the load by itself. Committed records go to the tables behind the answers (`.applier`).

An answer that shows what is not durable yet waits for it too, whatever it is: a repeat of a command under way, a
refusal because of one, a balance. So there are two lists of answers, of the record being written and of the open one,
and each answer is in the list of the newest entry it shows; nobody ever sees an entry that could still be lost.

A command that names what memory does not hold waits for one read of the tables, and those behind it wait too: order
is kept. Everything has a limit: what waits to be judged (``busy``), what is judged and not in the tables (commands
wait), a full disk (``disk_full``, nothing half done). After a write of unknown outcome the committer stops for good.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol

from fortress.errors import DiskFull, FortressError, LedgerError, OutcomeUnknown, ShuttingDown, Status
from fortress.ledger.commands import Command, MoveBatch
from fortress.ledger.delta import Delta
from fortress.ledger.engine import RECORD_BYTES_FULL, Engine
from fortress.ledger.records import Record
from fortress.ledger.rules import Verdict
from fortress.server.applier import Applier
from fortress.server.backlog import Answered, Backlog
from fortress.server.histogram import Histogram
from fortress.server.journal_writer import JournalWriter
from fortress.server.logs import log_event
from fortress.server.workers import Done

DISK_CHECK_S: Final = 1.0
DISK_RETRY_S: Final = 0.5

logger = logging.getLogger(__name__)


class Writer(Protocol):
    """Makes records durable, one at a time."""

    def write(self, record: Record, *, done: Done) -> None:
        """Make a record durable wherever it has to be, then call ``done(None, error or None)``."""

    def close(self) -> None:
        """End; nothing is under way."""


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
        writer: makes records durable; by default in this node's journal alone.
        on_commit: told each delta once it is durable (notifications).
        after_answers: called after the answers of one commit were given (sessions flush here).
        on_fatal: told the error after which this node must stop.

    Attributes:
        readers: threads for reading the tables.
        committed_position: of the newest durable entry.
        committed_record: that holds it; None in an empty bank.
        committed_lsn: number of that record.
    """

    def __init__(
        self,
        engine: Engine,
        settings: CommitterSettings,
        *,
        writer: Writer | None = None,
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
        self._writer: Writer = writer or JournalWriter(engine.journal, self._loop)
        self.readers = ThreadPoolExecutor(2, thread_name_prefix="reader")
        self._applier = Applier(
            engine,
            entries_max=settings.unapplied_entries_max,
            on_applied=self._judge_waiting,
            on_space=self._note_state,
            on_fatal=self._fail,
        )
        self.apply_seconds = self._applier.seconds
        self._backlog = Backlog(
            engine,
            self.readers,
            places_max=settings.queue_max,
            together_max=settings.batch_entries_max,
            on_loaded=self._judge_waiting,
            on_fatal=self._fail,
        )
        self._waiting = self._backlog.commands
        self._open: list[tuple[Answered, Any]] = []
        self._written: list[tuple[Answered, Any]] = []  # answers of the record being written
        self._closed_before = 0  # newest position before the record being written
        self._is_scheduled = False
        self._is_writing = False  # a record is closed and not durable
        self._is_under_way = False  # and the disk has it now
        self._is_closing = False
        self._is_holding = False  # this and the next one are a pair's member's to set
        self._role_refusal: FortressError | None = None
        self._refusal: FortressError | None = None  # what new commands are answered; follows from the five around
        self._failure: OutcomeUnknown | None = None
        self._journal_full: DiskFull | None = None
        self._low_space: DiskFull | None = None
        self._turn: asyncio.Future[None] | None = None
        last = engine.committed
        self.committed_record = last
        self.committed_lsn = last.lsn if last else 0
        self.committed_position = last.first_position + last.count if last else 0
        self.batch_sizes = Histogram()
        self.write_seconds = Histogram()
        self._retry_timer: asyncio.TimerHandle | None = None
        self._disk_timer = self._loop.call_later(DISK_CHECK_S, self._check_disk)

    # --- Taking commands -------------------------------------------------------------------------------------------
    def submit(self, command: Command, answered: Answered) -> None:
        """Take a command; ``answered`` is called on the loop once its outcome is durable (or known to be none).

        Raises:
            Busy: too much waits already.
            DiskFull: no entries are taken until there is space.
            ShuttingDown, OutcomeUnknown: this committer takes nothing any more.
        """
        if self._refusal is not None:
            raise _fresh(self._refusal)
        if self._waiting or self._is_full():
            self._backlog.add(command, answered)
            return
        if not self._judge(command, answered, is_short=True):
            if self._backlog.lacks(command) is not None:
                self._backlog.add(command, answered)
                self._judge_waiting()
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
                future.set_exception(_fresh(outcome))
            else:
                future.set_result(outcome)

        self.submit(command, answered)
        return await future

    def when_committed(self, position: int, answered: Answered, outcome: Any = None) -> None:
        """Call ``answered(outcome)`` once the position, which was judged, is committed: at once when it is.

        ``answered`` is told a FortressError instead when that cannot be waited for.
        """
        if position <= self.committed_position:
            answered(outcome)
        elif self._failure is not None or self._journal_full is not None:
            answered(self._failure or self._journal_full)
        elif self._is_writing and closed_position(self.engine) >= position > self._closed_before:
            self._written.append((answered, outcome))
        else:
            self._open.append((answered, outcome))
            self._schedule()

    def _is_full(self) -> bool:
        pending, settings = self.engine.delta, self._settings
        return (
            self._is_holding
            or len(pending.entries) >= settings.batch_entries_max
            or pending.size_bytes >= RECORD_BYTES_FULL
            or self._applier.entries >= settings.unapplied_entries_max
        )

    def _judge(self, command: Command, answered: Answered, *, is_short: bool = False) -> bool:
        """Judge a command, the short way or any; False when the short way does not do for it."""
        engine = self.engine
        now_us = engine.clock(time.time_ns() // 1000)
        before = engine.state.position
        outcome: Any
        try:
            if is_short:
                outcome = engine.post(command, now_us)
            elif type(command) is MoveBatch:
                outcome = engine.judge_batch(command, now_us)
            else:
                outcome = engine.judge(command, now_us)
        except Exception as error:
            self._on_fault(error, command, answered, is_begun=engine.state.position != before)
            return True
        if outcome is None:
            return False
        self._open.append((answered, outcome))
        return True

    def _on_fault(self, error: Exception, command: Command, answered: Answered, *, is_begun: bool) -> None:
        """Answer a command on which judging failed; if a part of it is in the books already, the node must stop."""
        logger.error("judging failed", exc_info=error, extra={"fields": {"command": type(command).__name__}})
        self._open.append((answered, LedgerError("the server failed on this request; its log says why")))
        if isinstance(error, LedgerError):
            self._fail(error)
        elif is_begun:
            self._fail(LedgerError(f"judging failed half-way: {error!r}"))

    def _judge_waiting(self) -> None:
        if self._waiting:
            self._judge_some()
        self._schedule()

    def _judge_some(self) -> None:
        """Judge what waits, in order, until something must be read first or the open record is full."""
        while not self._is_full() and (waiting := self._backlog.next()) is not None:
            if not self._judge(*waiting, is_short=True):
                self._judge(*waiting)

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
        try:
            closed = self.engine.close_record(time.time_ns() // 1000, self.committed_lsn)
        except FortressError as error:
            self._fail(error if isinstance(error, LedgerError) else LedgerError(f"a record failed: {error}"))
            return
        answers, self._open = self._open, []
        if closed is None:
            self._answer(answers)
            return
        record, delta = closed
        self._is_writing = True
        self._written = answers
        self._closed_before = record.first_position
        self._write(record, delta)
        if self._waiting:
            self._judge_some()

    def _write(self, record: Record, delta: Delta) -> None:
        started = time.perf_counter_ns()
        self._is_under_way = True

        def written(_: object, error: BaseException | None) -> None:
            self._is_under_way = False
            if error is None:
                self.write_seconds.record(time.perf_counter_ns() - started)
                self._durable(record, delta)
            elif isinstance(error, DiskFull):
                self._wait_for_space(record, delta, error)
            else:
                self._fail(error if isinstance(error, LedgerError) else LedgerError(f"writing failed: {error}"))
                self._refuse_written(OutcomeUnknown(_STOPPED))

        self._writer.write(record, done=written)

    def _durable(self, record: Record, delta: Delta) -> None:
        self._is_writing = False
        self.committed_record = record
        self.committed_lsn = record.lsn
        self.committed_position = record.first_position + record.count
        self.batch_sizes.record(record.count * 1000)
        answers, self._written = self._written, []
        if self._journal_full is not None:
            self._journal_full = None
            self._note_state()
            log_event(logger, logging.INFO, "journal goes on")
        self._applier.take(delta)
        if self._waiting:
            self._judge_some()
        if self.engine.pending:
            self._cut()  # the disk works on the next record while this one's answers go out
        self._on_commit(delta)
        self._answer(answers)

    def _answer(self, answers: list[tuple[Answered, Any]]) -> None:
        for answered, outcome in answers:
            try:
                answered(outcome)
            except Exception:
                logger.exception("an answer failed")  # the others get theirs
        self._after_answers()
        self._schedule()
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    # --- When the disk is full, or worse ---------------------------------------------------------------------------
    def _note_state(self) -> None:
        """Work out what new commands are answered, or that they are taken; none waits while the tables are full."""
        is_closing = ShuttingDown("the bank is going down") if self._is_closing else None
        is_full = self._journal_full or self._applier.disk_full or self._low_space
        self._refusal = self._failure or is_closing or self._role_refusal or is_full
        if self._applier.disk_full is not None:
            self._answer(_refused(self._backlog.clear(), self._applier.disk_full))

    def _check_disk(self) -> None:
        """Stop taking entries while there is still room for those already judged."""
        self._disk_timer = self._loop.call_later(DISK_CHECK_S, self._check_disk)
        was_low = self._low_space is not None
        self._low_space = DiskFull("the bank's disk is nearly full") if self.engine.journal.low_space() else None
        is_low = self._low_space is not None
        if is_low is not was_low:
            level = logging.WARNING if is_low else logging.INFO
            log_event(logger, level, "disk nearly full" if is_low else "disk has space again")
            self._note_state()

    def _wait_for_space(self, record: Record, delta: Delta, error: DiskFull) -> None:
        """Tell everybody, keep what was judged, and write it once there is space: repeats find it done."""
        if self._journal_full is None:
            log_event(logger, logging.WARNING, "journal waits", reason=error.message)
        self._journal_full = error
        self._note_state()
        self._applier.refuse_waiters(error)
        self._refuse_written(error)
        self._refuse_open(error)
        self._retry_timer = self._loop.call_later(DISK_RETRY_S, self._write, record, delta)

    def _fail(self, error: LedgerError) -> None:
        """Stop for good: what is under way has an unknown outcome; only what the disk still confirms is answered."""
        if self._failure is not None:
            return
        self._failure = OutcomeUnknown(_STOPPED)
        self._note_state()
        self._applier.fail(self._failure)
        self._refuse_open(self._failure)
        self._on_fatal(error)

    def _refuse_written(self, error: FortressError) -> None:
        """Tell all whose answers wait for the record being written."""
        answers, self._written = self._written, []
        self._answer(_refused([answered for answered, _ in answers], error))

    def _refuse_open(self, error: FortressError) -> None:
        """Tell all whose answers wait for the open record, and all who wait to be judged."""
        answers, self._open = self._open, []
        self._answer(_refused([*(answered for answered, _ in answers), *self._backlog.clear()], error))

    async def wait_applied(self, position: int) -> None:
        """Wait until the tables hold everything up to ``position``, which was judged; hurries the tables on.

        Raises:
            DiskFull: there is no space for that now.
            FortressError: the committer has stopped.
        """
        if self._journal_full is not None and position > self.committed_position:
            raise _fresh(self._journal_full)
        await self._applier.wait(position)

    async def close(self) -> None:
        """Write and apply everything taken, then end the threads; new commands are refused from now on.

        Out of office, nobody may ever commit what this node began: that is left to the journal and the next start.
        """
        self._is_closing = True
        self._note_state()
        while self._role_refusal is None and (
            self._is_under_way
            or ((self._waiting or self._open or self.engine.pending) and not (self._failure or self._journal_full))
        ):
            self._turn = self._loop.create_future()
            await self._turn
        try:
            await self.wait_applied(self.committed_position)
        except FortressError as error:
            log_event(logger, logging.WARNING, "tables not brought up to the journal", reason=error.message)
        self._disk_timer.cancel()
        if self._retry_timer is not None:
            self._retry_timer.cancel()
        self._writer.close()
        await asyncio.to_thread(self._applier.close)
        await asyncio.to_thread(self.readers.shutdown)

    def statistics(self) -> dict[str, Any]:
        """Take a snapshot for the monitor."""
        return {
            "lsn": self.committed_lsn,
            "position": self.committed_position,
            "applied_position": self.engine.store.applied_position,
            "waiting": len(self._waiting),
            "unapplied": self._applier.entries,
            "disk_full": bool(self._journal_full or self._applier.disk_full or self._low_space),
            "failed": self._failure is not None,
        }


_STOPPED = "the node has stopped; whether this was done is not known"


def closed_position(engine: Engine) -> int:
    """Give the position of the newest entry that is in a record, committed or not."""
    last = engine.last
    return last.first_position + last.count if last else 0


def _refused(all_answered: list[Answered], error: FortressError) -> list[tuple[Answered, Any]]:
    return [(answered, error) for answered in all_answered]


def _fresh(error: FortressError) -> FortressError:
    """Make an error that nobody has raised yet: one raised again and again would gather a traceback without end."""
    return type(error)(error.message, error.facts)


__all__ = ["Answered", "Committer", "CommitterSettings", "Status", "closed_position"]
