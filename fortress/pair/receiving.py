"""The standby's side of the replication socket: who may speak, in which order things are done, what is checked first.

It listens in every role: a primary learns here too that another has taken over. One connection counts, the newest
whose hello is right. Messages are handled in the order they come; one that has to wait for the disk (people's keys, a
snapshot, a search in the journal) holds back those behind it, so that nothing is acknowledged before what came
earlier is durable.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import deque
from collections.abc import Callable, Coroutine
from ssl import SSLContext
from typing import Any, Final

from fortress.errors import AddressInUse, FortressError, LedgerError, PeerRejected
from fortress.ledger.records import Record
from fortress.ledger.records import decode as decode_record
from fortress.pair.door import Door
from fortress.pair.events import Event, PeerLost, PeerSaid
from fortress.pair.host import History, People
from fortress.pair.link import Link, close_with
from fortress.pair.messages import (
    Append,
    Hello,
    Keys,
    Locate,
    Located,
    Message,
    Nack,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
    TableDigest,
)

HELLO_S: Final = 5.0
CONNECTIONS_MAX: Final = 8
INBOX_MAX: Final = 16
"""Messages that wait, from which on no more are read; a copy's parts come faster than a slow disk takes them."""
HANDSHAKE_S: Final = 5.0
HANDSHAKES_MAX: Final = 32

logger = logging.getLogger(__name__)


class Receiver:
    """Take what the other node sends.

    Args:
        context: TLS with this node's certificate.
        bank: id that the other side's certificate must name.
        history: this node's journal.
        people: this node's people's keys.
        greet: makes the hello of this moment.
        check: raises PeerRejected when a hello is not that of this pair's other node.
        on_event: told what the role machine must know.
        on_records: told the records of an append, checked and decoded, before the machine is told of it.
        on_snapshot: takes the messages of a snapshot.
        on_digest: takes the digest of the primary's tables.
        is_stale: tells whether an epoch is over.
        on_rejected: told why somebody was turned away.
    """

    def __init__(
        self,
        context: SSLContext,
        bank: str,
        history: History,
        people: People,
        *,
        greet: Callable[[], Hello],
        check: Callable[[Hello], None],
        on_event: Callable[[Event], None],
        on_records: Callable[[list[Record]], None],
        on_snapshot: Callable[[Message], Coroutine[Any, Any, None]],
        on_digest: Callable[[TableDigest], None],
        is_stale: Callable[[int], bool],
        on_rejected: Callable[[str], None],
    ) -> None:
        self._context = context
        self._bank = bank
        self._history = history
        self._people = people
        self._greet = greet
        self._check = check
        self._on_event = on_event
        self._on_records = on_records
        self._on_snapshot = on_snapshot
        self._on_digest = on_digest
        self._is_stale = is_stale
        self._on_rejected = on_rejected
        self._door: Door | None = None
        self._handshakes: set[asyncio.Task[None]] = set()
        self._is_stopped = False
        self._strangers: dict[Link, asyncio.TimerHandle] = {}
        self._link: Link | None = None
        self._inbox: deque[Message] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """True while the other node is here and has said hello."""
        return self._link is not None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port.

        Raises:
            AddressInUse: something else listens there.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listening = socket.create_server((host, port), family=family, backlog=CONNECTIONS_MAX)
        except OSError as exc:
            raise AddressInUse(f"the replication socket cannot listen on {host}:{port}: {exc.strerror}") from exc
        self._door = Door(listening, self._let_in, self._cannot_accept)
        return self._door.port

    def _let_in(self, connection: socket.socket, address: str) -> None:
        if len(self._handshakes) >= HANDSHAKES_MAX:
            connection.close()
            return
        task = asyncio.get_running_loop().create_task(self._shake_hands(connection, address))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)
        close_with(task, connection)

    def _cannot_accept(self, reason: str) -> None:
        logger.warning("replication cannot accept", extra={"fields": {"reason": reason}})

    async def _shake_hands(self, connection: socket.socket, address: str) -> None:
        def make() -> Link:
            return Link(self._bank, on_open=self._opened, on_message=self._received, on_lost=self._lost)

        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                make, connection, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_S, ssl_shutdown_timeout=HANDSHAKE_S
            )
        except ssl.SSLError as error:
            if "certificate" in str(error).lower() or "unknown ca" in str(error).lower():
                self._on_rejected(f"whoever called from {address} shows no certificate of this bank's authority")
        except OSError:
            pass  # it went away, as who only looks whether this process runs does
        finally:
            if self._is_stopped:
                connection.close()

    async def stop(self) -> None:
        """Take nothing any more."""
        self._is_stopped = True
        if self._door is not None:
            self._door.close()
        tasks = tuple(self._handshakes)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for link in [*self._strangers, *([self._link] if self._link is not None else [])]:
            link.finish()
        self._link = None
        self._inbox.clear()
        if self._task is not None:
            await asyncio.wait([self._task])

    def send(self, message: Message) -> None:
        """Send a message to the other node, if it is here."""
        if self._link is not None:
            self._link.send(message)

    def drop(self) -> None:
        """End the connection; whoever is primary connects again."""
        if self._link is not None:
            self._link.end()

    # --- Who is there ----
    def _opened(self, link: Link) -> None:
        if len(self._strangers) >= CONNECTIONS_MAX:
            link.end(PeerRejected("too many connections on the replication socket have said nothing"))
            return
        loop = asyncio.get_running_loop()
        self._strangers[link] = loop.call_later(HELLO_S, link.end, PeerRejected("no hello came"))
        link.send(self._greet())

    def _lost(self, link: Link, reason: Exception | None) -> None:
        timer = self._strangers.pop(link, None)
        if timer is not None:
            timer.cancel()
        if isinstance(reason, PeerRejected):
            self._on_rejected(reason.message)
        if link is self._link:
            self._link = None
            self._inbox.clear()
            self._on_event(PeerLost(is_refused=False))

    def _received(self, link: Link, message: Message) -> None:
        if link in self._strangers:
            if not isinstance(message, Hello):
                raise PeerRejected("the first message on the replication socket is no hello")
            self._check(message)
            self._strangers.pop(link).cancel()
            old, self._link = self._link, link
            self._inbox.clear()
            if old is not None:
                old.end()
            self._on_event(PeerSaid(message))
        elif link is self._link:
            if self._task is not None:
                self._inbox.append(message)
                if len(self._inbox) >= INBOX_MAX:
                    link.pause_reading()
            else:
                self._handle(message)

    # --- What they say ----
    def _handle(self, message: Message) -> None:
        """Handle a message; one that has to wait becomes a task, and those behind it wait in the inbox."""
        if isinstance(message, Append):
            self._take_append(message)
        elif isinstance(message, Locate | Keys | SnapshotBegin | SnapshotChunk | SnapshotEnd):
            if self._is_stale(message.epoch):
                self.send(Nack(message.epoch, "stale", self._history.end()))
            elif self._link is not None:
                self._task = asyncio.get_running_loop().create_task(self._wait_for(self._link, message))
        elif isinstance(message, TableDigest):
            self._on_digest(message)
        elif isinstance(message, Hello | Located):
            raise PeerRejected(f"the other node says {type(message).__name__} at the wrong time")
        else:
            self._on_event(PeerSaid(message))

    def _take_append(self, message: Append) -> None:
        if message.records and not self._is_stale(message.epoch):
            self._on_records(checked_records(message))
        self._on_event(PeerSaid(message))

    async def _wait_for(self, link: Link, message: Message) -> None:
        failure: FortressError | None = LedgerError("a fault in this node")
        try:
            await self._slow(link, message)
            failure = None
        except FortressError as error:
            logger.warning("replication failed", extra={"fields": {"reason": error.message}})
            failure = error
        finally:
            self._task = None
            if failure is not None:
                self._give_up(link, failure)
            self._go_on()

    def _give_up(self, link: Link, failure: FortressError) -> None:
        """End a connection of which a message could not be taken: what came after that must not count without it."""
        link.end(failure)
        if link is self._link:
            self._link = None
            self._inbox.clear()
            self._on_event(PeerLost(is_refused=False))

    def _go_on(self) -> None:
        """Handle what waits; it is of the present connection, since the inbox is emptied whenever that changes."""
        while self._inbox and self._task is None:
            try:
                self._handle(self._inbox.popleft())
            except PeerRejected as error:
                if self._link is not None:
                    self._link.end(error)
                return
        if not self._inbox and self._link is not None:
            self._link.resume_reading()

    async def _slow(self, link: Link, message: Message) -> None:
        if isinstance(message, Locate):
            marks = message.marks
            if any(later.lsn >= earlier.lsn for earlier, later in zip(marks, marks[1:], strict=False)):
                raise PeerRejected("the marks to locate are out of order")
            for mark in marks:
                if await asyncio.to_thread(self._history.mark_at, mark.lsn) == mark:
                    link.send(Located(message.epoch, mark))
                    return
            link.send(Located(message.epoch, None))
        elif isinstance(message, Keys):
            await asyncio.to_thread(self._take_keys, message)
        else:
            await self._on_snapshot(message)

    def _take_keys(self, message: Keys) -> None:
        if message.bucket < 0:
            for handle, key in message.keys:
                self._people.take(handle, key)
        else:
            kept = [(handle, key) for handle, key in message.keys if key is not None]
            try:
                self._people.replace_bucket(message.bucket, kept)
            except ValueError as exc:
                raise PeerRejected(f"keys of the other node cannot be taken: {exc}") from exc


def checked_records(message: Append) -> list[Record]:
    """Decode the records of an append; each is what its mark says, and follows the one before.

    Raises:
        PeerRejected: one is not; nothing of this message may be used.
    """
    records: list[Record] = []
    previous = message.previous
    for shipped in message.records:
        try:
            record = decode_record(shipped.data)
        except LedgerError as exc:
            raise PeerRejected(f"a record of the other node cannot be read: {exc.message}") from exc
        if (record.lsn, record.hash) != (shipped.mark.lsn, shipped.mark.hash):
            raise PeerRejected(f"record {record.lsn} of the other node is not the one it names")
        if (record.lsn, record.previous_hash) != (previous.lsn + 1, previous.hash):
            raise PeerRejected(f"record {record.lsn} of the other node does not follow the one before")
        records.append(record)
        previous = shipped.mark
    return records
