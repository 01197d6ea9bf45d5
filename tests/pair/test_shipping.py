"""The primary's side of the replication socket: where the standby is, what it lacks, and what is new."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from fortress.errors import PeerRejected
from fortress.ledger.records import Record, encode, make_record
from fortress.pair import shipping
from fortress.pair.events import Event, PeerConnected, PeerLost, PeerSaid
from fortress.pair.link import Link, dialing_context, listening_context
from fortress.pair.messages import (
    Ack,
    Append,
    Hello,
    Keys,
    Locate,
    Located,
    Mark,
    Member,
    Message,
    Nack,
    SnapshotEnd,
    TableDigest,
)
from fortress.pair.shipping import Dialing, Shipper
from tests.pair.nodes import BANK, CLUSTER, ROOT, List, certificates, files, until
from tests.pair.nodes import Keys as People

THERE = Member("node-2", b"2" * 16)
NOWHERE = Mark()


def hello(end: Mark = NOWHERE, *, committed: int = 0, applied: int = 0, keys: bytes = bytes(2048)) -> Hello:
    """The standby's hello."""
    return Hello(CLUSTER, BANK, THERE, 1, 1, 0, end, committed, applied, 1, keys)


class Standby:
    """The listening end: says hello, and whatever a test lets it answer."""

    def __init__(self) -> None:
        self.hello: Message = hello()
        self.heard: list[Message] = []
        self.link: Link | None = None
        self.connections = 0
        self.answer: Callable[[Link, Message], None] = lambda link, message: None

    def make(self) -> Link:
        return Link(BANK, on_open=self._opened, on_message=self._said, on_lost=lambda *_: None)

    def _opened(self, link: Link) -> None:
        self.link = link
        self.connections += 1
        link.send(self.hello)

    def _said(self, link: Link, message: Message) -> None:
        self.heard.append(message)
        self.answer(link, message)

    def records(self) -> list[int]:
        """Numbers of the records that came, in the order they came."""
        return [item.mark.lsn for message in self.heard if isinstance(message, Append) for item in message.records]


class Primary:
    """A shipper with a journal in memory."""

    def __init__(self, port: int) -> None:
        self.journal = List()
        self.people = People()
        self.events: list[Event] = []
        self.digests: list[TableDigest] = []
        self.copies = 0
        self.faults: list[BaseException] = []
        dialing = Dialing("127.0.0.1", port, dialing_context(*files(certificates())), BANK)
        self.shipper = Shipper(
            dialing,
            self.journal,
            self.people,
            greet=lambda: Hello(CLUSTER, BANK, Member("node-1", b"1" * 16), 1, 1, 1, Mark(), 0, 0),
            check=self._check,
            on_event=self.events.append,
            on_digest=self.digests.append,
            send_snapshot=self._send_copy,
            clock_us=lambda: 7,
            on_fault=self.faults.append,
        )

    def _check(self, said: Hello) -> None:
        if said.cluster != CLUSTER:
            raise PeerRejected("another cluster")

    async def _send_copy(self, link: Link, epoch: int) -> None:
        self.copies += 1
        link.send(SnapshotEnd(epoch, {}))

    def make(self, *, is_durable: bool = True) -> Record:
        """Make the next record, ship it, and as a rule write it."""
        last = self.journal.found[-1] if self.journal.found else None
        record = make_record([b"fact"], previous=last, bank=BANK, epoch=1, time_us=1, commit_lsn=0, tree_root=ROOT)
        self.shipper.ship(record, encode(record), 0)
        if is_durable:
            self.journal.found.append(record)
        return record

    def fill(self, count: int) -> None:
        """Write records that nobody was shipped."""
        for _ in range(count):
            last = self.journal.found[-1] if self.journal.found else None
            self.journal.found.append(
                make_record([b"old"], previous=last, bank=BANK, epoch=1, time_us=1, commit_lsn=0, tree_root=ROOT)
            )


@asynccontextmanager
async def both() -> AsyncIterator[tuple[Primary, Standby]]:
    """A primary that does not ship yet, and a standby that listens."""
    there = Standby()
    context = listening_context(*files(certificates()))
    server = await asyncio.get_running_loop().create_server(there.make, "127.0.0.1", 0, ssl=context)
    here = Primary(server.sockets[0].getsockname()[1])
    there.hello = hello(keys=here.people.digests())
    yield here, there
    await here.shipper.stop()
    server.close()
    if there.link is not None:
        there.link.end()
        await until(lambda: there.link is not None and not there.link.is_open)


async def test_the_journal_comes_first_and_then_what_is_new() -> None:
    """Without a gap and without a double, though records are made all the while."""
    async with both() as (here, there):
        here.fill(600)
        here.shipper.start(1)
        for _ in range(100):
            here.make()
            await asyncio.sleep(0)
        await until(lambda: here.shipper.is_live and len(there.records()) == 700)
        assert there.records() == [*range(1, 701)]
        assert PeerConnected(THERE, Mark()) in here.events
        here.make(is_durable=False)
        await until(lambda: there.records()[-1] == 701)


async def test_a_standby_that_has_the_end_gets_only_what_is_new() -> None:
    """Its own end is a mark of this journal, so nothing has to be searched."""
    async with both() as (here, there):
        here.fill(3)
        there.hello = hello(here.journal.end(), keys=here.people.digests())
        here.shipper.start(1)
        await until(lambda: here.shipper.is_live)
        here.make()
        await until(lambda: there.records() == [4])
        assert not [message for message in there.heard if isinstance(message, Locate)]


async def test_where_histories_part_is_searched_down_to_the_standby_s_tables() -> None:
    """Marks twice as far apart each time, and those that must not be passed over; the newest common one counts."""
    async with both() as (here, there):
        here.fill(100)
        common = here.journal.mark_at(77) or Mark()
        there.hello = hello(Mark(80, b"x" * 32), committed=77, applied=70, keys=here.people.digests())
        back = [here.journal.mark_at(lsn) for lsn in (100, 99, 98, 96, 92, 84, 68, 36, 0)]
        here.journal.marks_back = lambda: tuple(back)

        def locate(link: Link, message: Message) -> None:
            if isinstance(message, Locate):
                assert [mark.lsn for mark in message.marks] == [100, 99, 98, 96, 92, 84, 80, 77, 70, 68, 36, 0]
                link.send(Located(1, common))

        there.answer = locate
        here.shipper.start(1)
        await until(lambda: there.records() == [*range(78, 101)])
        assert PeerConnected(THERE, common) in here.events


async def test_a_standby_that_the_journal_cannot_bring_up_gets_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Since it is too far behind, or nothing is common; it ends the connection when it has it, and is called anew."""
    monkeypatch.setattr(shipping, "BEHIND_RECORDS_MAX", 10)
    async with both() as (here, there):
        here.fill(12)
        here.shipper.start(1)
        await until(lambda: there.heard)
        assert there.link is not None and there.connections == 1
        for _ in range(20):  # it takes its time with what it was given
            await asyncio.sleep(0.001)
            assert there.link.is_open
        there.link.finish()
        await until(lambda: there.connections > 1)
        assert there.records() == []


async def test_a_standby_that_needs_copy_after_copy_is_left_alone_for_ever_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Since a full disk there does not empty by copies; a standby that was up in between begins anew."""
    monkeypatch.setattr(shipping, "BEHIND_RECORDS_MAX", 10)
    async with both() as (here, there):
        here.fill(12)
        there.answer = lambda link, message: link.end() if isinstance(message, SnapshotEnd) else None
        waits: list[float] = []
        done = asyncio.get_running_loop().create_future()

        async def noted(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 9:
                done.set_result(None)
                await asyncio.Event().wait()

        monkeypatch.setattr(shipping.asyncio, "sleep", noted)
        monkeypatch.setattr(shipping.random, "uniform", lambda least, most: most)
        here.shipper.start(1)
        await asyncio.wait_for(done, 20)
        assert waits[1:] == [4, 8, 16, 32, 60, 60, 60, 60] and waits[0] < 1


async def test_a_bug_in_shipping_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not taken for a standby that is gone."""
    async with both() as (here, _):
        bug = RuntimeError("a bug")

        def broken(lsn: int) -> Mark:
            raise bug

        monkeypatch.setattr(here.journal, "mark_at", broken)
        here.shipper.start(1)
        await until(lambda: here.faults)
        assert here.faults == [bug]


async def test_keys_that_differ_are_there_before_any_record() -> None:
    """And one that is made while the standby is being brought up follows them."""
    async with both() as (here, there):
        here.fill(1)
        here.people.keys = {b"ann": b"1", b"bob": b"2"}
        here.shipper.start(1)
        await until(lambda: here.shipper.is_live)
        here.shipper.ship_keys(((b"cid", b"3"),))
        await until(lambda: len([m for m in there.heard if isinstance(m, Keys)]) == 3)
        kinds = [type(message) for message in there.heard]
        assert kinds.index(Keys) < kinds.index(Append)
        assert Keys(1, ((b"cid", b"3"),)) in there.heard


async def test_a_standby_that_does_not_keep_up_is_sent_from_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for it stays bounded; when it acknowledges again it gets the rest, and is live once more."""
    monkeypatch.setattr(shipping, "UNACKED_BYTES_MAX", 2_000)
    monkeypatch.setattr(shipping, "CHUNK_RECORDS", 16)
    async with both() as (here, there):
        here.shipper.start(1)
        await until(lambda: here.shipper.is_live)
        while here.shipper.is_live:
            here.make()
        for _ in range(500):
            here.make()
        await until(lambda: there.records())
        assert here.shipper._unacked_bytes < 10_000 and len(there.records()) < 200

        def acknowledge(link: Link, message: Message) -> None:
            if isinstance(message, Append) and message.records:
                link.send(Ack(1, THERE, message.records[-1].mark, 0))

        there.answer = acknowledge
        assert there.link is not None
        last = there.records()[-1]
        there.link.send(Ack(1, THERE, here.journal.mark_at(last) or Mark(), 0))
        total = len(here.journal.found)
        await until(lambda: here.shipper.is_live and there.records() == [*range(1, total + 1)])


@pytest.mark.parametrize("reason", ["mismatch", "need_snapshot"])
async def test_a_standby_whose_journal_does_not_join_is_met_anew(reason: str) -> None:
    """The connection ends, and the search begins again."""
    async with both() as (here, there):
        here.shipper.start(1)
        await until(lambda: here.shipper.is_live)
        assert there.link is not None
        there.link.send(Nack(1, reason, Mark()))
        await until(lambda: there.connections == 2 and here.shipper.is_live)
        assert any(isinstance(event, PeerSaid) and isinstance(event.message, Nack) for event in here.events)


async def test_messages_go_where_they_belong() -> None:
    """Acknowledgements to the machine, digests to whoever compares them; what was not asked for ends the connection."""
    async with both() as (here, there):
        here.shipper.start(1)
        await until(lambda: here.shipper.is_live)
        assert there.link is not None
        there.link.send(TableDigest(1, 3, b"d"))
        there.link.send(Ack(1, THERE, Mark(), 0))
        await until(lambda: here.digests and PeerSaid(Ack(1, THERE, Mark(), 0)) in here.events)
        for _ in range(3):
            there.link.send(Located(1, None))
        await until(lambda: there.connections == 2)


async def test_whoever_is_not_the_other_node_is_sent_nothing() -> None:
    """Another cluster, no hello first, nobody there at all: each is tried again, and told as lost."""
    async with both() as (here, there):
        there.hello = Hello(b"x" * 16, BANK, THERE, 1, 1, 0, Mark(), 0, 0)
        here.fill(2)
        here.shipper.start(1)
        await until(lambda: there.connections > 1)
        there.hello = Located(1, None)
        await until(lambda: there.connections > 3)
        assert there.records() == [] and PeerLost(is_refused=False) in here.events
    nobody = Primary(1)
    nobody.shipper.start(1)
    await until(lambda: PeerLost(is_refused=True) in nobody.events)
    await nobody.shipper.stop()


async def test_a_key_that_changes_while_its_bucket_is_read_is_sent_after_it() -> None:
    """The bucket, read before the change, would undo it at the standby."""
    async with both() as (here, there):
        here.people.keys = {b"ann": b"key"}
        read = here.people.bucket
        loop = asyncio.get_running_loop()

        def bucket(number: int) -> tuple[tuple[bytes, bytes], ...]:
            found = read(number)
            asyncio.run_coroutine_threadsafe(changed(), loop).result()
            return found

        async def changed() -> None:
            here.shipper.ship_keys(((b"amy", b"new"), (b"ann", None)))

        here.people.__dict__["bucket"] = bucket
        here.people.__dict__["digests"] = lambda: b"x" * 8 * 97 + b"y" * 8 + b"x" * 8 * 158
        there.hello = hello(keys=b"x" * 8 * 256)
        here.shipper.start(1)
        await until(lambda: here.shipper.is_live)
        here.make()
        await until(lambda: there.records())
        keys = [message for message in there.heard if isinstance(message, Keys)]
        assert keys[-2:] == [Keys(1, ((b"ann", b"key"),), 97), Keys(1, ((b"amy", b"new"), (b"ann", None)))]


async def test_what_is_sent_tells_which_acknowledgement_was_there_before() -> None:
    """So a standby knows how old a message is at most, by its own clock; on a new connection nothing is known."""
    async with both() as (here, there):
        here.shipper.start(1)
        await until(lambda: here.shipper.is_live)
        here.make()
        await until(lambda: there.records() == [1])
        assert there.link is not None
        there.link.send(Ack(1, THERE, here.journal.end(), 0, 7, 55))
        await until(
            lambda: any(isinstance(event, PeerSaid) and isinstance(event.message, Ack) for event in here.events)
        )
        here.make()
        here.shipper.send(Append(1, here.journal.end(), (), 0, 7))
        await until(lambda: len([message for message in there.heard if isinstance(message, Append)]) == 3)
        assert [message.heard_us for message in there.heard if isinstance(message, Append)] == [0, 55, 55]
        there.link.end()
        there.hello = hello(here.journal.end(), keys=here.people.digests())
        await until(lambda: there.connections == 2 and here.shipper.is_live)
        here.make()
        await until(lambda: there.records()[-1] == 3)
        assert [message.heard_us for message in there.heard if isinstance(message, Append)][-1] == 0


async def test_what_was_missed_does_not_count_as_news() -> None:
    """It says how far the standby was; only what is made now says how far all is committed now."""
    async with both() as (here, there):

        def answer(link: Link, message: Message) -> None:
            if isinstance(message, Append) and message.records:
                link.send(Ack(1, THERE, message.records[-1].mark, 0, clock_us=5))

        there.answer = answer
        here.fill(2 * shipping.CHUNK_RECORDS)
        here.shipper.start(1)
        await until(lambda: here.shipper._heard_us == 5)
        await until(lambda: here.shipper.is_live)
        here.make()
        await until(lambda: len(there.records()) == 2 * shipping.CHUNK_RECORDS + 1)
        heard = [message.heard_us for message in there.heard if isinstance(message, Append)]
        assert set(heard[:-1]) == {0}
        assert heard[-1] == 5
