"""Tests of being told: no entry twice, none left out, whatever happens to the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio
from msgspec.structs import replace

from fortress.client import link as links
from fortress.client import route as routes
from fortress.client import subscription
from fortress.client.ids import new_id
from fortress.client.me import Me
from fortress.client.subscription import Subscription
from fortress.errors import LocalProtocolError, MessageInvalid
from fortress.protocol.reading import EntryPush
from tests.client.fake_bank import Books, Credentials, FakeNode


@pytest_asyncio.fixture
async def other(credentials: Credentials, books: Books, alice: Me) -> AsyncIterator[FakeNode]:
    """The other node of the pair, which alice's client knows."""
    other = await FakeNode(credentials, books).start()
    alice._calls.route._endpoints.append(("127.0.0.1", other.port))
    yield other
    await other.stop()


async def take(subscription: Subscription, count: int) -> list[int]:
    async with asyncio.timeout(10):
        return [(await anext(subscription)).row.position for _ in range(count)]


def push(told: Subscription, topic: str, raw: msgspec.Raw) -> None:
    """Push as the bank does on the connection that is subscribed."""
    assert told._link is not None and told._link.on_push is not None
    told._link.on_push(topic, raw)


async def test_entries_are_told_as_they_come(alice: Me) -> None:
    """From now on, each once, in order; afterwards it is quiet."""
    await alice.transfer(100, 101, "1 EUR")
    async with alice.subscribe() as told:
        for _ in range(3):
            await alice.transfer(100, 101, "1 EUR")
        assert await take(told, 3) == [3, 4, 5]
        assert told.position == 5
    await alice.transfer(100, 101, "1 EUR")


async def test_an_earlier_position_goes_on_from_there(alice: Me) -> None:
    """A program that was away hears what it missed."""
    for _ in range(4):
        await alice.transfer(100, 101, "1 EUR")
    told = alice.subscribe(from_position=3)
    assert await take(told, 2) == [4, 5]
    await told.aclose()


async def test_nothing_is_lost_over_a_reconnect(alice: Me, node: FakeNode) -> None:
    """What came while the connection was gone is told afterwards, and nothing twice."""
    told = alice.subscribe()
    waiting = asyncio.create_task(take(told, 1))
    async with asyncio.timeout(10):
        while "subscribe" not in node.asked:
            await asyncio.sleep(0.01)
    await alice.transfer(100, 101, "1 EUR")
    assert await waiting == [2]
    node.cut()
    for _ in range(3):
        await alice.transfer(100, 101, "1 EUR")
    assert await take(told, 3) == [3, 4, 5]
    await told.aclose()


async def test_a_cut_wakes_who_waits(alice: Me, node: FakeNode, books: Books) -> None:
    """The subscription is made again without anybody asking for anything."""
    async with alice.subscribe() as told:
        waiting = asyncio.create_task(take(told, 1))
        await asyncio.sleep(0)
        node.cut()
        async with asyncio.timeout(10):
            while node.asked.count("subscribe") < 2:
                await asyncio.sleep(0.01)
        books.move(bytes(16), 100, 101, 5, None)
        assert await waiting == [2]


async def test_a_subscription_goes_on_at_the_other_node(
    alice: Me, node: FakeNode, other: FakeNode, books: Books
) -> None:
    """The node dies, the other takes over: every entry is told once, in order, those in between included."""
    async with alice.subscribe() as told:
        await alice.transfer(100, 101, "1 EUR")
        assert await take(told, 1) == [2]
        books.move(new_id(), 100, 101, 5, None)  # pushed and perhaps never read
        await node.stop()
        for _ in range(3):
            books.move(new_id(), 100, 101, 5, None)
        waiting = asyncio.create_task(take(told, 5))
        async with asyncio.timeout(10):
            while not books.on_entry:
                await asyncio.sleep(0.01)
        books.move(new_id(), 100, 101, 5, None)
        assert await waiting == [3, 4, 5, 6, 7]
        assert told.position == 7
        assert other.asked[:3] == ["hello", "resume", "subscribe"]


async def test_a_node_that_is_primary_no_more_is_left(
    alice: Me, node: FakeNode, other: FakeNode, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on living as standby and says nothing by itself; the quiet reader asks."""
    monkeypatch.setattr(subscription, "QUIET_S", 0.02)
    async with alice.subscribe() as told:
        waiting = asyncio.create_task(take(told, 1))
        books.on_entry.clear()
        node.follow(other)
        async with asyncio.timeout(10):
            while "subscribe" not in other.asked:
                await asyncio.sleep(0.01)
        books.move(new_id(), 100, 101, 5, None)
        assert await waiting == [2]


async def test_a_stopped_node_is_noticed_by_a_reader_who_waits(
    alice: Me, node: FakeNode, other: FakeNode, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection breaks, nothing is outstanding: the sign of life that was asked for does not come."""
    monkeypatch.setattr(subscription, "QUIET_S", 0.02)
    monkeypatch.setattr(links, "SILENCE_S", 0.15)
    monkeypatch.setattr(routes, "OPEN_S_MAX", 0.1)
    async with alice.subscribe() as told:
        waiting = asyncio.create_task(take(told, 1))
        await asyncio.sleep(0)
        await node.stall()
        books.on_entry.clear()
        async with asyncio.timeout(10):
            while not books.on_entry:
                await asyncio.sleep(0.01)
        books.move(new_id(), 100, 101, 5, None)
        assert await waiting == [2]


async def test_what_is_on_its_way_after_a_drop_is_not_taken(alice: Me, node: FakeNode, books: Books) -> None:
    """Entries pushed before the bank hears of the new subscription lie behind the gap, and would hide it."""
    told = Subscription(alice._calls, (), None, queue_max=2)
    async with told:
        for _ in range(4):
            await alice.transfer(100, 101, "1 EUR")
        assert await take(told, 2) == [2, 3]
        late = EntryPush(100, replace(books.rows[-1], position=9))
        asking = asyncio.create_task(take(told, 2))
        await asyncio.sleep(0)  # the subscription is being asked for again
        push(told, "entry", msgspec.Raw(msgspec.msgpack.encode(late)))
        assert await asking == [4, 5]


async def test_a_connection_that_was_left_pushes_to_nobody(alice: Me, node: FakeNode, other: FakeNode) -> None:
    """Its entries would come before those that the new one has to tell first."""
    async with alice.subscribe() as told:
        await alice.transfer(100, 101, "1 EUR")
        first = await anext(told)
        old = told._link
        assert old is not None and old.on_push is not None
        node.follow(other)
        await alice.transfer(100, 101, "1 EUR")
        assert await take(told, 1) == [3]
        late = EntryPush(100, replace(first.row, position=9))
        old.on_push("entry", msgspec.Raw(msgspec.msgpack.encode(late)))
        await alice.transfer(100, 101, "1 EUR")
        assert await take(told, 1) == [4]


async def test_a_slow_reader_fills_no_memory(alice: Me) -> None:
    """What does not fit is dropped and asked for again: the journal is the real queue."""
    told = Subscription(alice._calls, (), None, queue_max=3)
    async with told:
        for _ in range(10):
            await alice.transfer(100, 101, "1 EUR")
        assert len(told._queue) == 3
        assert await take(told, 5) == [2, 3, 4, 5, 6]


async def test_two_entries_of_one_transfer_are_both_told(alice: Me, node: FakeNode) -> None:
    """A transfer between two of one's own accounts is two entries at one position, also over a reconnect."""
    told = alice.subscribe()
    async with told:
        payment = await alice.transfer(100, 101, "1 EUR")
        first = await anext(told)
        push(told, "entry", msgspec.Raw(msgspec.msgpack.encode(EntryPush(101, first.row))))
        assert (await anext(told)).account == 101
        push(told, "entry", msgspec.Raw(msgspec.msgpack.encode(first)))
        await alice.transfer(100, 101, "1 EUR")
        assert await take(told, 1) == [payment.position + 1]


async def test_a_quiet_subscription_is_asked_for_again(
    alice: Me, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bank that stopped pushing is found out by asking."""
    monkeypatch.setattr(subscription, "ASK_AGAIN_S", 0.02)
    async with alice.subscribe() as told:
        waiting = asyncio.create_task(take(told, 1))
        async with asyncio.timeout(10):
            while node.asked.count("subscribe") < 3:
                await asyncio.sleep(0.01)
        await alice.transfer(100, 101, "1 EUR")
        assert await waiting == [2]


async def test_a_push_that_cannot_be_read_is_told(alice: Me) -> None:
    """Other topics are left out; a broken entry is an error, since one entry is missing from then on."""
    async with alice.subscribe() as told:
        push(told, "weather", msgspec.Raw(b"\xc0"))
        push(told, "entry", msgspec.Raw(b"\xc0"))
        with pytest.raises(MessageInvalid):
            await anext(told)


async def test_one_subscription_at_a_time(alice: Me) -> None:
    """A second one would take the first one's pushes."""
    async with alice.subscribe():
        with pytest.raises(LocalProtocolError, match="already"):
            await anext(alice.subscribe())
