"""The replication socket's listening side: who gets in, in which order things are done, what is checked first."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from threading import Event
from typing import Protocol

import pytest

from fortress.errors import AddressInUse, DiskFull, PeerRejected
from fortress.ledger.records import Record, encode, make_record
from fortress.pair import receiving
from fortress.pair.events import Event as PairEvent
from fortress.pair.events import PeerLost, PeerSaid
from fortress.pair.link import Link, dialing_context, listening_context
from fortress.pair.messages import (
    GENESIS,
    Append,
    Hello,
    Keys,
    Locate,
    Located,
    Mark,
    Member,
    Message,
    Nack,
    Shipped,
    SnapshotBegin,
    SnapshotChunk,
    TableDigest,
)
from fortress.pair.receiving import Receiver, checked_records
from tests.pair.nodes import BANK, CLUSTER, DEADLINE_S, ROOT, List, certificates, files, until
from tests.pair.nodes import Keys as People

THERE = Member("node-2", b"2" * 16)
HELLO = Hello(CLUSTER, BANK, THERE, 1, 1, 0, Mark(), 0, 0)


def record_after(previous: Record | None) -> Record:
    """The next record."""
    return make_record([b"fact"], previous=previous, bank=BANK, epoch=1, time_us=1, commit_lsn=0, tree_root=ROOT)


def append(*records: Record, previous: Mark | None = None) -> Append:
    """An append of these records."""
    first = previous or Mark(records[0].lsn - 1, records[0].previous_hash)
    return Append(1, first, tuple(Shipped(Mark(r.lsn, r.hash), encode(r)) for r in records), 0)


class SlowPeople(People):
    """Keys on a disk that can be held, or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.held: Event | None = None
        self.is_waiting = False
        self.fault: Exception | None = None

    def _wait(self) -> None:
        self.is_waiting = True
        if self.held is not None:
            assert self.held.wait(DEADLINE_S)
        if self.fault is not None:
            raise self.fault

    def take(self, handle: bytes, key: bytes | None) -> None:
        self._wait()
        super().take(handle, key)

    def replace_bucket(self, number: int, keys: Iterable[tuple[bytes, bytes]]) -> None:
        self._wait()
        super().replace_bucket(number, keys)


class Standby:
    """A receiver and what it told; ``promised`` is the epoch it takes."""

    def __init__(self) -> None:
        self.events: list[PairEvent] = []
        self.records: list[Record] = []
        self.rejected: list[str] = []
        self.order: list[str] = []
        self.digests: list[TableDigest] = []
        self.copies: list[Message] = []
        self.disk = asyncio.Event()
        self.disk.set()
        self.journal = List()
        self.people = SlowPeople()
        self.promised = 1
        self.receiver = Receiver(
            listening_context(*files(certificates())),
            BANK,
            self.journal,
            self.people,
            greet=lambda: HELLO,
            check=self._check,
            on_event=self._on_event,
            on_records=self.records.extend,
            on_snapshot=self._on_snapshot,
            on_digest=self.digests.append,
            is_stale=lambda epoch: epoch < self.promised,
            on_rejected=self.rejected.append,
        )

    def _check(self, hello: Hello) -> None:
        if hello.cluster != CLUSTER:
            raise PeerRejected("another cluster")

    def _on_event(self, event: PairEvent) -> None:
        self.events.append(event)
        if isinstance(event, PeerSaid):
            self.order.append(type(event.message).__name__)

    async def _on_snapshot(self, message: Message) -> None:
        await self.disk.wait()
        self.copies.append(message)

    def said(self, kind: type) -> list[Message]:
        """What the machine was told of the other node's messages of a kind."""
        return [
            event.message for event in self.events if isinstance(event, PeerSaid) and isinstance(event.message, kind)
        ]


class Primary:
    """The other end."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.is_lost = False
        self.link = Link(
            BANK,
            on_open=lambda _: None,
            on_message=lambda _, message: self.heard.append(message),
            on_lost=lambda _, __: self._lost(),
        )

    def _lost(self) -> None:
        self.is_lost = True


class Connect(Protocol):
    """Connects to a standby as a primary, and says hello first if there is one."""

    async def __call__(self, hello: Message | None = HELLO) -> Primary: ...


@asynccontextmanager
async def standby() -> AsyncIterator[tuple[Standby, Connect]]:
    """A receiver that listens, and a way to connect to it."""
    node = Standby()
    port = await node.receiver.start("127.0.0.1", 0)
    primaries: list[Primary] = []

    async def connect(hello: Message | None = HELLO) -> Primary:
        primary = Primary()
        loop = asyncio.get_running_loop()
        context = dialing_context(*files(certificates()))
        await loop.create_connection(lambda: primary.link, "127.0.0.1", port, ssl=context)
        primaries.append(primary)
        if hello is not None:
            primary.link.send(hello)
        return primary

    yield node, connect
    await node.receiver.stop()
    for primary in primaries:
        primary.link.end()
        await until(lambda primary=primary: primary.is_lost)


async def test_both_say_hello_first() -> None:
    """Whoever comes is greeted, and counts once its own hello is right."""
    async with standby() as (node, connect):
        primary = await connect()
        await until(lambda: node.receiver.is_connected and primary.heard == [HELLO])
        assert node.said(Hello) == [HELLO]
        primary.link.end()
        await until(lambda: PeerLost(False) in node.events)
        assert not node.receiver.is_connected


@pytest.mark.parametrize("first", [append(record_after(None)), Nack(1, "stale", Mark())])
async def test_nothing_is_taken_before_a_hello(first: Message) -> None:
    """The connection ends and the reason is told."""
    async with standby() as (node, connect):
        primary = await connect(first)
        await until(lambda: primary.is_lost)
        assert node.rejected and not node.events


async def test_a_hello_of_another_cluster_is_turned_away() -> None:
    """And whoever is connected stays so."""
    async with standby() as (node, connect):
        right = await connect()
        await until(lambda: node.receiver.is_connected)
        wrong = await connect(Hello(b"x" * 16, BANK, THERE, 1, 1, 0, Mark(), 0, 0))
        await until(lambda: wrong.is_lost)
        assert node.receiver.is_connected and not right.is_lost and node.rejected == ["another cluster"]


async def test_the_newest_connection_counts() -> None:
    """A primary whose old connection hangs is heard by its new one."""
    async with standby() as (node, connect):
        old = await connect()
        await until(lambda: node.receiver.is_connected)
        new = await connect()
        await until(lambda: old.is_lost)
        new.link.send(Append(1, Mark(), (), 7))
        await until(lambda: node.said(Append))
        node.receiver.send(Nack(1, "stale", Mark()))
        await until(lambda: Nack(1, "stale", Mark()) in new.heard)


async def test_somebody_who_says_nothing_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a time, and when there are too many of them at once."""
    monkeypatch.setattr(receiving, "HELLO_S", 0.05)
    async with standby() as (node, connect):
        silent = await connect(None)
        await until(lambda: silent.is_lost)
        monkeypatch.setattr(receiving, "CONNECTIONS_MAX", 0)
        refused = await connect(None)
        await until(lambda: refused.is_lost)
        assert len(node.rejected) == 2


async def test_records_are_checked_before_the_machine_is_told() -> None:
    """What is right is handed on decoded; of a message with one wrong record nothing is used."""
    first = record_after(None)
    second = record_after(first)
    async with standby() as (node, connect):
        primary = await connect()
        primary.link.send(append(first, second))
        await until(lambda: node.said(Append))
        assert node.records == [first, second]
        primary.link.send(append(second, previous=Mark(1, b"x" * 32)))
        await until(lambda: primary.is_lost)
        assert len(node.said(Append)) == 1 and node.records == [first, second]


async def test_records_of_an_epoch_that_is_over_are_not_even_decoded() -> None:
    """The machine hears of them, and answers."""
    async with standby() as (node, connect):
        node.promised = 2
        primary = await connect()
        primary.link.send(append(record_after(None)))
        await until(lambda: node.said(Append))
        assert node.records == []


async def test_what_comes_after_keys_waits_for_them() -> None:
    """Keys are durable before the records that need them are looked at."""
    first = record_after(None)
    async with standby() as (node, connect):
        primary = await connect()
        primary.link.send(Keys(1, ((b"ann", b"key"),)))
        primary.link.send(append(first))
        primary.link.send(Keys(1, ((b"ann", None), (b"bob", b"new"))))
        primary.link.send(Keys(1, ((b"carl", b"key"), (b"cora", None)), bucket=b"c"[0]))
        primary.link.send(Append(1, Mark(1, first.hash), (), 1))
        await until(lambda: len(node.said(Append)) == 2)
        assert node.people.keys == {b"bob": b"new", b"carl": b"key"}


async def test_what_a_new_connection_says_is_not_lost_with_an_old_one() -> None:
    """Keys that came while those of the connection before were being written are taken too, in their order."""
    first = record_after(None)
    async with standby() as (node, connect):
        old = await connect()
        await until(lambda: node.receiver.is_connected)
        node.people.held = Event()
        old.link.send(Keys(1, ((b"ann", b"old"),)))
        await until(lambda: node.people.is_waiting)
        new = await connect()
        await until(lambda: old.is_lost)
        new.link.send(Keys(1, ((b"ann", b"new"), (b"bob", b"key"))))
        new.link.send(append(first))
        await until(lambda: len(node.receiver._inbox) == 2)
        node.people.held.set()
        await until(lambda: node.said(Append))
        assert node.people.keys == {b"ann": b"new", b"bob": b"key"}


@pytest.mark.parametrize("fault", [DiskFull("no space"), RuntimeError("a bug")])
async def test_nothing_counts_that_came_after_keys_which_could_not_be_written(
    fault: Exception,
) -> None:
    """The connection ends, and the record behind them is neither looked at nor acknowledged."""
    async with standby() as (node, connect):
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # a bug is told there
        primary = await connect()
        await until(lambda: node.receiver.is_connected)
        node.people.fault, node.people.held = fault, Event()
        primary.link.send(Keys(1, ((b"ann", b"key"),)))
        primary.link.send(append(record_after(None)))
        await until(lambda: node.people.is_waiting and node.receiver._inbox)
        node.people.held.set()
        await until(lambda: primary.is_lost)
        assert not node.said(Append) and not node.records and not node.receiver.is_connected
        assert node.events.count(PeerLost(False)) == 1


async def test_keys_in_the_wrong_place_end_the_connection() -> None:
    """And those that were there stay."""
    async with standby() as (node, connect):
        node.people.keys = {b"ann": b"key"}
        node.people.fault = ValueError("a handle is not of bucket 7")
        primary = await connect()
        primary.link.send(Keys(1, ((b"bob", b"key"),), bucket=7))
        await until(lambda: primary.is_lost)
        assert node.people.keys == {b"ann": b"key"} and node.rejected


async def test_the_newest_common_mark_is_located() -> None:
    """Of the marks asked for, the first that this journal has; none if it has none of them."""
    first = record_after(None)
    async with standby() as (node, connect):
        node.journal.found = [first]
        primary = await connect()
        primary.link.send(Locate(1, (Mark(2, b"x" * 32), Mark(1, first.hash), Mark(0, GENESIS))))
        await until(lambda: Located(1, Mark(1, first.hash)) in primary.heard)
        primary.link.send(Locate(1, (Mark(2, b"x" * 32), Mark(1, b"y" * 32))))
        await until(lambda: Located(1, None) in primary.heard)
        primary.link.send(Locate(1, (Mark(1, b"x" * 32), Mark(2, b"y" * 32))))
        await until(lambda: primary.is_lost)


async def test_an_old_primary_changes_no_keys_and_sends_no_copy() -> None:
    """It is told that its epoch is over."""
    async with standby() as (node, connect):
        node.promised = 2
        primary = await connect()
        primary.link.send(Keys(1, ((b"ann", b"key"),)))
        primary.link.send(SnapshotBegin(1, Mark(), {}))
        await until(lambda: len([m for m in primary.heard if isinstance(m, Nack)]) == 2)
        assert node.people.keys == {} and node.copies == []


async def test_copies_and_digests_go_where_they_belong() -> None:
    """And a message at the wrong time ends the connection."""
    async with standby() as (node, connect):
        primary = await connect()
        primary.link.send(SnapshotBegin(1, Mark(), {"x": 1}))
        primary.link.send(TableDigest(1, 5, b"d"))
        await until(lambda: node.copies and node.digests)
        primary.link.send(HELLO)
        await until(lambda: primary.is_lost)


async def test_a_copy_comes_no_faster_than_the_disk_takes_it() -> None:
    """What waits stays small however large the copy is; whatever else is said meanwhile keeps its place."""
    parts = [SnapshotChunk(1, "x", bytes([number]) * 256 * 1024) for number in range(200)]
    async with standby() as (node, connect):
        node.disk.clear()
        primary = await connect()
        for part in parts:
            primary.link.send(part)
        primary.link.send(TableDigest(1, 5, b"d"))
        await until(lambda: len(node.receiver._inbox) >= receiving.INBOX_MAX)
        assert node.receiver._link is not None and node.receiver._link._transport is not None
        assert not node.receiver._link._transport.is_reading()
        waiting = len(node.receiver._inbox)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert len(node.receiver._inbox) <= waiting + 4
        assert not node.digests
        node.disk.set()
        await until(lambda: node.digests)
        assert node.copies == parts


async def test_a_certificate_of_another_authority_is_told() -> None:
    """With the address it came from; who only looks whether somebody listens is not."""
    async with standby() as (node, _):
        assert node.receiver._door is not None
        port = node.receiver._door.port
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()
        stranger = dialing_context(*files(certificates(authority="two")))
        stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=stranger)
            await reader.read()
            writer.close()
            await writer.wait_closed()
        await until(lambda: node.rejected)
        assert len(node.rejected) == 1 and "127.0.0.1" in node.rejected[0] and not node.events


async def test_a_taken_address_is_told() -> None:
    """Before anything else is tried."""
    async with standby() as (node, _):
        assert node.receiver._door is not None
        port = node.receiver._door.port
        with pytest.raises(AddressInUse):
            await Standby().receiver.start("127.0.0.1", port)


def test_a_record_that_is_not_what_its_mark_says_is_refused() -> None:
    """Neither another number nor another hash."""
    first = record_after(None)
    wrong = Append(1, Mark(), (Shipped(Mark(1, b"x" * 32), encode(first)),), 0)
    with pytest.raises(PeerRejected):
        checked_records(wrong)
    with pytest.raises(PeerRejected):
        checked_records(Append(1, Mark(), (Shipped(Mark(1, first.hash), b"garbage"),), 0))
