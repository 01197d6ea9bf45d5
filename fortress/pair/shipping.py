"""The primary's side of the replication socket: find where the standby is, bring it up, and ship what is new.

A connection goes through four steps: both say hello; the newest record that both have is found; people's keys that
differ are sent; then records from the journal until none is missing. From there each new record is sent the moment it
is made, beside its way to this node's own disk. The last records made are kept in memory, so that the step from the
journal to the moment has no gap, whatever is being written meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import islice
from ssl import SSLContext
from typing import Final

from msgspec.structs import replace

from fortress.errors import FortressError, JournalCorrupt, PeerRejected
from fortress.ledger.records import Record
from fortress.ledger.records import encode as encode_record
from fortress.pair.events import Event, PeerConnected, PeerLost, PeerSaid
from fortress.pair.host import History, People
from fortress.pair.link import Link
from fortress.pair.messages import Ack, Append, Hello, Keys, Locate, Located, Mark, Message, Nack, Shipped, TableDigest

DIAL_S: Final = 2.0
HELLO_S: Final = 5.0
DIAL_WAIT_S_MIN: Final = 0.05
DIAL_WAIT_S_MAX: Final = 2.0
COPY_WAIT_S_MAX: Final = 60.0
"""A standby that was given everything and needs everything again has a fault of its own, such as a full disk."""
CHUNK_RECORDS: Final = 256
CHUNK_BYTES: Final = 4 * 1024 * 1024
UNACKED_BYTES_MAX: Final = 16 * 1024 * 1024
RECENT_RECORDS: Final = 64
RECENT_BYTES_MAX: Final = 32 * 1024 * 1024
BEHIND_RECORDS_MAX: Final = 200_000
"""A standby further behind gets a copy of the tables, which is quicker than every record."""
BUCKETS: Final = 256
BUCKET_DIGEST_BYTES: Final = 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Dialing:
    """How to reach the other node.

    Attributes:
        host: of its replication socket.
        port: of its replication socket.
        context: TLS with this node's certificate.
        bank: id that its certificate must name.
    """

    host: str
    port: int
    context: SSLContext
    bank: str


class Shipper:
    """Keep one standby in step while this node is primary.

    Args:
        dialing: where the standby is.
        history: this node's journal.
        people: this node's people's keys.
        greet: makes the hello of this moment.
        check: raises PeerRejected when a hello is not that of this pair's other node.
        on_event: told what the role machine must know.
        on_digest: takes what the standby's tables amount to.
        send_snapshot: brings a standby up that the journal cannot.
        clock_us: what stands in each message, to be given back with its acknowledgement.
        on_fault: told a bug that has ended the shipping.
    """

    def __init__(
        self,
        dialing: Dialing,
        history: History,
        people: People,
        *,
        greet: Callable[[], Hello],
        check: Callable[[Hello], None],
        on_event: Callable[[Event], None],
        on_digest: Callable[[TableDigest], None],
        send_snapshot: Callable[[Link, int], Awaitable[None]],
        clock_us: Callable[[], int],
        on_fault: Callable[[BaseException], None],
    ) -> None:
        self._dialing = dialing
        self._history = history
        self._people = people
        self._greet = greet
        self._check = check
        self._on_event = on_event
        self._on_digest = on_digest
        self._send_snapshot = send_snapshot
        self._clock_us = clock_us
        self._on_fault = on_fault
        self._task: asyncio.Task[None] | None = None
        self._greeted: Link | None = None  # whose hello was right
        self._link: Link | None = None  # and whose place in the history is known
        self._slow = asyncio.Event()
        self._is_live = False
        self._has_been_up = False
        self._copies = 0  # sent one after the other, and the standby never was up in between
        self._epoch = 0
        self._shipped = 0
        self._recent: deque[tuple[Mark, Shipped]] = deque()
        self._recent_bytes = 0
        self._acked = 0
        self._unacked: deque[tuple[int, int]] = deque()
        self._unacked_bytes = 0
        self._heard_us = 0  # the standby's clock in its newest acknowledgement on this connection
        self._changed: list[tuple[bytes, bytes | None]] | None = None  # keys, since a bucket is being read
        self._progress = asyncio.Event()
        self._replies: asyncio.Queue[Message] = asyncio.Queue()
        self._lost = asyncio.Event()

    @property
    def is_live(self) -> bool:
        """True while each record is shipped the moment it is made."""
        return self._is_live

    # --- What the pair tells it ----
    def start(self, epoch: int) -> None:
        """Keep a standby from now on, in this epoch; one that is there stays, since the journal is the same."""
        self._epoch = epoch
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep())
            self._task.add_done_callback(self._on_end)

    async def stop(self) -> None:
        """Let the standby alone; returns when nothing of it runs any more."""
        task, self._task = self._task, None
        self._is_live = False
        link, self._greeted, self._link = self._greeted, None, None
        if link is not None:
            link.finish()
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))
        self._recent.clear()
        self._recent_bytes = 0

    def ship(self, record: Record, data: bytes, committed: int) -> None:
        """Send a record that was just made, and keep it for whoever connects meanwhile."""
        previous = Mark(record.lsn - 1, record.previous_hash)
        shipped = Shipped(Mark(record.lsn, record.hash), data)
        self._recent.append((previous, shipped))
        self._recent_bytes += len(data)
        while len(self._recent) > RECENT_RECORDS or (self._recent_bytes > RECENT_BYTES_MAX and len(self._recent) > 1):
            self._recent_bytes -= len(self._recent.popleft()[1].data)
        if self._is_live and self._unacked_bytes > UNACKED_BYTES_MAX:
            self._is_live = False  # it does not keep up: from here on the journal sends, at its pace
            self._slow.set()
        if self._is_live:
            self._append(previous, (shipped,), committed, heard_us=self._heard_us)

    def send(self, message: Message) -> None:
        """Send a message of the role machine, when somebody is there who knows where they stand."""
        if self._link is not None:
            self._link.send(replace(message, heard_us=self._heard_us) if isinstance(message, Append) else message)

    def ship_keys(self, keys: tuple[tuple[bytes, bytes | None], ...]) -> None:
        """Send people's keys that were made or destroyed; what is shipped later is acknowledged after them."""
        if self._changed is not None:
            self._changed += keys
        if self._greeted is not None:
            self._greeted.send(Keys(self._epoch, keys))

    def acknowledged(self, lsn: int) -> None:
        """Note how far the standby is, for the flow of what it lacks."""
        self._acked = max(self._acked, lsn)
        while self._unacked and self._unacked[0][0] <= self._acked:
            self._unacked_bytes -= self._unacked.popleft()[1]
        self._progress.set()

    # --- One connection after another ----
    async def _keep(self) -> None:
        wait_s = DIAL_WAIT_S_MIN
        while True:
            self._has_been_up = False
            try:
                await self._serve_one()
            except (OSError, TimeoutError, FortressError) as error:
                is_refused = isinstance(error, ConnectionRefusedError)
                logger.debug("replication ended", extra={"fields": {"reason": str(error) or type(error).__name__}})
                self._on_event(PeerLost(is_refused))
            if self._has_been_up:
                wait_s, self._copies = DIAL_WAIT_S_MIN, 0
            await asyncio.sleep(max(wait_s, self._copy_wait_s()) * random.uniform(0.5, 1.0))
            wait_s = min(2 * wait_s, DIAL_WAIT_S_MAX)

    def _copy_wait_s(self) -> float:
        """Give the wait before what may become one more copy of everything; the first two cost none."""
        return min(2.0**self._copies, COPY_WAIT_S_MAX) if self._copies > 1 else 0.0

    def _on_end(self, task: asyncio.Task[None]) -> None:
        """Tell a bug; a primary that ships no more and says nothing would look like one without a standby."""
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._on_fault(fault)

    async def _serve_one(self) -> None:
        """Dial, bring up, ship; returns or raises when the connection is over."""
        dialing = self._dialing
        self._lost = asyncio.Event()
        self._slow = asyncio.Event()
        self._replies = asyncio.Queue()
        reasons: list[Exception] = []

        def lost(_: Link, reason: Exception | None) -> None:
            if reason is not None:
                reasons.append(reason)
            self._is_live = False
            self._greeted = self._link = None
            self._lost.set()
            self._slow.set()
            self._progress.set()

        def opened(link: Link) -> None:
            link.send(self._greet())

        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DIAL_S):
            _, link = await loop.create_connection(
                lambda: Link(dialing.bank, on_open=opened, on_message=self._received, on_lost=lost),
                dialing.host,
                dialing.port,
                ssl=dialing.context,
                server_hostname=dialing.host,
            )
        try:
            committed = await self._bring_up(link)
            while not self._lost.is_set():
                await self._send_missing(link, committed)
                await self._slow.wait()
                self._slow.clear()
        finally:
            self._is_live = False
            self._greeted = self._link = self._changed = None
            link.end()
        raise reasons[0] if reasons else ConnectionResetError("the connection ended")

    async def _bring_up(self, link: Link) -> int:
        """Find out where the standby is, and send the keys it lacks; give up to where it knows to be committed."""
        hello = await self._reply()
        if not isinstance(hello, Hello):
            raise PeerRejected(f"the other node says {type(hello).__name__} instead of hello")
        self._check(hello)
        self._greeted = link
        self._on_event(PeerSaid(hello))
        self._unacked.clear()
        self._unacked_bytes = self._acked = self._heard_us = 0
        await self._send_keys(link, hello.keys_digest)
        common = await self._common(link, hello)
        self._link = link
        self._shipped = common.lsn
        self._on_event(PeerConnected(hello.member, common))
        return hello.committed

    async def _common(self, link: Link, hello: Hello) -> Mark:
        """Find the newest record that both journals have."""
        ours = await asyncio.to_thread(self._history.mark_at, hello.end.lsn)
        common: Mark | None = hello.end if ours == hello.end else None
        if common is None:
            marks = await asyncio.to_thread(self._marks, hello)
            link.send(Locate(self._epoch, marks))
            located = await self._reply()
            if not isinstance(located, Located):
                raise PeerRejected(f"the other node says {type(located).__name__} where it was asked for a mark")
            common = located.mark
        end = self._history.end().lsn
        if common is None or common.lsn + 1 < self._history.first_lsn() or end - common.lsn > BEHIND_RECORDS_MAX:
            await self._bring_whole(link)
        return common or Mark()

    def _marks(self, hello: Hello) -> tuple[Mark, ...]:
        """Choose what to locate: ever older marks, and where the standby's tables are, which it cannot go behind."""
        exact = (self._history.mark_at(lsn) for lsn in (hello.end.lsn, hello.committed, hello.applied))
        marks = {mark.lsn: mark for mark in (*self._history.marks_back(), *exact) if mark is not None}
        return tuple(marks[lsn] for lsn in sorted(marks, reverse=True))

    async def _bring_whole(self, link: Link) -> None:
        """Send a copy of everything, with which the standby starts anew."""
        self._copies += 1
        await self._send_snapshot(link, self._epoch)
        # It starts anew with what it was given, and ends the connection itself: an end that overtakes the copy's last
        # parts, which it takes one by one, would be the end of the copy.
        await self._lost.wait()
        raise ConnectionResetError("the standby starts anew from a snapshot")

    async def _send_keys(self, link: Link, theirs: bytes) -> None:
        ours = await asyncio.to_thread(self._people.digests)
        size = BUCKET_DIGEST_BYTES
        for number in range(BUCKETS):
            place = slice(number * size, number * size + size)
            if ours[place] != theirs[place]:
                # A key that changes while the bucket is read was sent before it, and is not in it perhaps.
                self._changed = []
                keys = await asyncio.to_thread(self._people.bucket, number)
                changed, self._changed = tuple(self._changed), None
                link.send(Keys(self._epoch, keys, number))
                if changed:
                    link.send(Keys(self._epoch, changed))
                await link.wait_room()

    async def _send_missing(self, link: Link, committed: int) -> None:
        """Send from the journal until what is missing is in memory; from then on every record goes out at once."""
        while not self._go_live(committed):
            records = await asyncio.to_thread(self._read, self._shipped + 1)
            if self._lost.is_set():
                return
            if records:
                previous = Mark(records[0].lsn - 1, records[0].previous_hash)
                shipped = tuple(Shipped(Mark(r.lsn, r.hash), encode_record(r)) for r in records)
                self._append(previous, shipped, max(committed, records[-1].commit_lsn))
            else:
                await asyncio.sleep(0.001)  # made and not durable, and already out of memory: the disk is behind
            await self._wait_window()

    def _go_live(self, committed: int) -> bool:
        """Send the rest from memory and be live, if memory reaches back far enough; no await between the two."""
        missing = [item for item in self._recent if item[1].mark.lsn > self._shipped]
        if missing and missing[0][1].mark.lsn != self._shipped + 1:
            return False
        if not missing and self._history.end().lsn > self._shipped:
            return False
        for previous, shipped in missing:
            self._append(previous, (shipped,), committed)
        self._is_live = self._has_been_up = True
        return True

    def _read(self, from_lsn: int) -> list[Record]:
        records: list[Record] = []
        size = 0
        for record in islice(self._history.records(from_lsn), CHUNK_RECORDS):
            records.append(record)
            size += len(record.payload)
            if size >= CHUNK_BYTES:
                break
        return records

    def _append(self, previous: Mark, records: tuple[Shipped, ...], committed: int, *, heard_us: int = 0) -> None:
        """Send records; with ``heard_us`` only when ``committed`` is that of now, as it is not for what was missed."""
        link = self._link
        if link is None:
            return
        link.send(Append(self._epoch, previous, records, committed, self._clock_us(), heard_us))
        size = sum(len(shipped.data) for shipped in records)
        self._shipped = records[-1].mark.lsn
        self._unacked.append((self._shipped, size))
        self._unacked_bytes += size

    async def _wait_window(self) -> None:
        while self._unacked_bytes > UNACKED_BYTES_MAX and not self._lost.is_set():
            self._progress.clear()
            await self._progress.wait()

    async def _reply(self) -> Message:
        """Wait for the next reply."""
        waiting = asyncio.ensure_future(self._replies.get())
        lost = asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait((waiting, lost), timeout=HELLO_S, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise PeerRejected("the other node does not answer on the replication socket")
            return waiting.result()
        finally:
            waiting.cancel()
            lost.cancel()

    def _received(self, link: Link, message: Message) -> None:
        if isinstance(message, Hello | Located):
            if self._replies.qsize() > 1:
                raise PeerRejected("the other node says more than it was asked")
            self._replies.put_nowait(message)
            return
        if isinstance(message, TableDigest):
            self._on_digest(message)
            return
        if isinstance(message, Ack):
            self.acknowledged(message.durable.lsn)
            self._heard_us = message.clock_us
        elif isinstance(message, Nack) and message.reason in ("mismatch", "need_snapshot"):
            link.end(JournalCorrupt("the standby's journal does not join"))
        self._on_event(PeerSaid(message))
