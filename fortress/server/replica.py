"""One member's ledger as the pair sees it: records made here go out, records made elsewhere come in.

As primary it is what the committer writes with: a record goes to this node's disk and to the other node at once, and
is done when the pair says so. As standby it writes what comes to the journal, follows it into the working state, and
gives it to the tables when it is committed. In both roles the working state runs ahead of what is committed by the
records that are not: these wait in ``_tail``, in order.

The order of work on a standby: a record's bytes go to the disk first, and while the disk works nothing else is done
with it; following comes after the acknowledgement is on its way, so that the primary waits for the disk alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, Protocol

from fortress.errors import DiskFull, FortressError, LedgerError, NoPrimary, NotPrimary
from fortress.ledger.delta import Delta
from fortress.ledger.engine import Engine
from fortress.ledger.records import Record, encode
from fortress.pair.messages import Mark
from fortress.server.journal_writer import JournalWriter
from fortress.server.logs import log_event
from fortress.server.member_committer import MemberCommitter
from fortress.server.workers import Done

DISK_RETRY_S: Final = 0.5
STORE_RECORDS_MAX: Final = 64
FOLLOW_ENTRIES_MAX: Final = 16_384
"""A takeover follows what is left first, so it must not be much: this takes some tenths of a second."""
TABLES_WAIT_S: Final = 0.02
TAIL_MARKS: Final = 64

logger = logging.getLogger(__name__)


class Pair(Protocol):
    """What the replica tells the pair."""

    def made(self, record: Record, data: bytes) -> None:
        """A record was made here."""

    def durable(self, lsn: int) -> None:
        """The journal is durable up to here."""


class Replica:
    """The ledger of one member of a pair.

    Args:
        engine: the ledger, opened.
        on_fatal: told the error after which this node must stop.

    Attributes:
        pair: told what is made and what is durable; set before anything is written.
        committer: set before anything is followed.
    """

    def __init__(self, engine: Engine, *, on_fatal: Callable[[LedgerError], None]) -> None:
        self.pair: Pair
        self.committer: MemberCommitter
        self._engine = engine
        self._on_fatal = on_fatal
        self._loop = asyncio.get_running_loop()
        self._writer = JournalWriter(engine.journal, self._loop)
        self._made: tuple[int, Done] | None = None  # the record of this primary that is not committed
        self._shipped = 0
        self._to_write: deque[Record] = deque()
        self._to_follow: deque[Record] = deque()
        self._tail: deque[tuple[Record, Delta]] = deque(engine.unapplied)
        self._committed = engine.committed.lsn if engine.committed else 0
        self._follow_entries = 0
        self._is_storing = False
        self._is_following = False
        self._quiet: asyncio.Event = asyncio.Event()
        self._is_closed = False

    # --- As primary: what the committer writes with ----
    def write(self, record: Record, *, done: Done) -> None:
        """Make a record durable in the pair: ship it, write it, and be done once it is committed."""
        if record.lsn > self._shipped:  # one that waited for space is on its way already
            self._shipped = record.lsn
            self.pair.made(record, encode(record))
        self._made = (record.lsn, done)

        def written(_: object, error: BaseException | None) -> None:
            if error is None:
                self.pair.durable(record.lsn)
            else:
                self._made = None
                done(None, error)

        self._writer.write(record, done=written)

    def close(self) -> None:
        """End the writer; nothing is under way."""
        self._is_closed = True
        self._writer.close()

    # --- As standby: what the pair brings ----
    def store(self, records: list[Record]) -> None:
        """Write records of the primary, in order; those that come while the disk works go together."""
        self._to_write.extend(records)
        if not self._is_storing:
            self._store_next()

    def _store_next(self) -> None:
        if not self._to_write or self._is_closed:
            self._is_storing = False
            return
        if self._is_behind():
            self._is_storing = False
            self._follow_soon(TABLES_WAIT_S if not self._to_follow else 0)  # which goes on with it
            return
        self._is_storing = True
        records = tuple(islice(self._to_write, STORE_RECORDS_MAX))

        def written(_: object, error: BaseException | None) -> None:
            if error is None:
                self._stored(records[-1].lsn)
            elif isinstance(error, DiskFull):
                log_event(logger, logging.WARNING, "journal waits", reason=error.message)
                self._stored(self._engine.journal.end[0], is_full=True)
            else:
                self._on_fatal(error if isinstance(error, LedgerError) else LedgerError(f"writing failed: {error}"))

        self._writer.write_many(records, done=written)

    def _is_behind(self) -> bool:
        """Tell whether the working state or the tables have too much before them to take more."""
        return self._follow_entries >= FOLLOW_ENTRIES_MAX or self.committer.is_behind

    def _stored(self, lsn: int, *, is_full: bool = False) -> None:
        """Go on after a write: everything up to this record is durable."""
        before = len(self._to_write)
        while self._to_write and self._to_write[0].lsn <= lsn:
            record = self._to_write.popleft()
            self._to_follow.append(record)
            self._follow_entries += record.count
        if len(self._to_write) < before:
            self.pair.durable(lsn)
        if is_full:
            self._loop.call_later(DISK_RETRY_S, self._store_next)
        else:
            self._store_next()
        self._follow_soon()

    def _follow(self) -> None:
        """Bring the working state after the journal, a record at a turn of the loop."""
        self._is_following = False
        if self._is_closed:
            return
        if self._to_follow:
            self._follow_next()
        self._commit_tail()
        if self._to_write and not self._is_storing:
            self._store_next()
        if self._to_follow:
            self._follow_soon()

    def _follow_soon(self, wait_s: float = 0) -> None:
        if not self._is_following:
            self._is_following = True
            self._loop.call_later(wait_s, self._follow)

    def _follow_next(self) -> None:
        record = self._to_follow.popleft()
        self._follow_entries -= record.count
        try:
            self._tail.append((record, self._engine.follow(record)))
        except FortressError as error:
            self._on_fatal(error if isinstance(error, LedgerError) else LedgerError(error.message))

    @property
    def is_storing(self) -> bool:
        """True while records that count as this node's journal are not on its disk yet."""
        return bool(self._to_write)

    def follow_all(self) -> None:
        """Bring the working state up to the end of the journal, before this node becomes primary."""
        while self._to_follow and not self._is_closed:
            self._follow_next()
        self._commit_tail()

    # --- In both roles ----
    def commit(self, lsn: int) -> None:
        """Take it that everything up to this record is committed."""
        self._committed = max(self._committed, lsn)
        self._commit_tail()
        made = self._made
        if made is not None and made[0] <= lsn:
            self._made = None
            made[1](None, None)

    def _commit_tail(self) -> None:
        while self._tail and self._tail[0][0].lsn <= self._committed:
            self.committer.take_committed(*self._tail.popleft())

    @property
    def is_clean(self) -> bool:
        """True when nothing is judged, made or stored that is not committed: nothing would have to be forgotten."""
        return self.committer.is_quiet and not (self._tail or self._to_follow or self._to_write)

    def refusal(self, primary: str) -> FortressError:
        """Make what commands are answered while this node is not primary."""
        if primary:
            return NotPrimary(f"this node is a standby; the primary is {primary}", {"primary": primary})
        return NoPrimary()


class JournalHistory:
    """The journal as replication reads it."""

    def __init__(self, engine: Engine) -> None:
        self._journal = engine.journal

    def mark_at(self, lsn: int) -> Mark | None:
        """Give the mark of a record, None when the journal does not know it."""
        found = self._journal.mark_at(lsn)
        return None if found is None else Mark(*found)

    def end(self) -> Mark:
        """Give the mark of the newest durable record."""
        return Mark(*self._journal.end)

    def tail(self) -> tuple[Mark, ...]:
        """Give the newest marks in order; some are read back after a start, when the end may be this node's alone."""
        known = self._journal.tail_hashes
        end = self._journal.end[0]
        first = min(known, default=end + 1)
        before = map(self.mark_at, range(max(self._journal.first_lsn, end - TAIL_MARKS), first))
        return (*(mark for mark in before if mark is not None), *(Mark(*item) for item in known.items()))

    def marks_back(self) -> tuple[Mark, ...]:
        """Give the newest mark and ever older ones."""
        return tuple(Mark(lsn, hash) for lsn, hash in self._journal.marks_back())

    def first_lsn(self) -> int:
        """Number of the oldest record kept."""
        return self._journal.first_lsn

    def records(self, from_lsn: int) -> Iterator[Record]:
        """Read on from a record."""
        return self._journal.records(from_lsn)
