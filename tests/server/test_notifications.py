"""Being told what happens on accounts: from where one left off, without gap, never before it is durable."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fortress.errors import Busy, JournalWriteFailed, MessageInvalid
from fortress.protocol.fields import Answer
from fortress.server import notifications
from tests.server.banks import World, banking, until


class Ear:
    """A session as far as pushes go."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, int]] = []
        self.is_open = True
        self.room = 10_000
        self.flushes = 0

    def push(self, topic: str, fields: Any) -> bool:
        assert topic == "entry"
        if len(self.heard) >= self.room:
            return False
        self.heard.append((fields.account, fields.row.amount_minor))
        return True

    def flush(self) -> None:
        self.flushes += 1


async def pay(world: World, *amounts: int) -> None:
    """Alice pays Bob, each in a record of its own."""
    tess = await world.sign_in("tess")
    alice, bob = await world.account_of("alice"), await world.account_of("bob")
    for amount in amounts:
        await tess.transfer(alice, bob, f"0.{amount:02} EUR")


async def test_both_sides_hear_of_a_payment(tmp_path: Path) -> None:
    """Each subscriber gets the entry as seen from the account subscribed to, and one of both gets it twice."""
    async with banking(tmp_path) as world:
        alice, bob = await world.account_of("alice"), await world.account_of("bob")
        ears = [Ear(), Ear(), Ear(), Ear()]
        for ear, numbers in zip(ears, ([alice], [bob], [alice, bob], [12345]), strict=True):
            await world.node.notifications.subscribe(ear, numbers, 0)
        await pay(world, 5)
        assert [ear.heard for ear in ears] == [
            [(alice, -5)],
            [(bob, 5)],
            [(alice, -5), (bob, 5)],
            [],
        ]
        world.node.notifications.unsubscribe(ears[0])
        world.node.notifications.unsubscribe(ears[0])
        await pay(world, 6)
        assert [len(ear.heard) for ear in ears] == [1, 2, 4, 0]


async def test_a_subscriber_goes_on_where_it_left_off(tmp_path: Path) -> None:
    """What was missed comes first, oldest first, then what happens; the answer is the present position."""
    async with banking(tmp_path) as world:
        alice, bob = await world.account_of("alice"), await world.account_of("bob")
        start = world.committer.committed_position
        await pay(world, 1, 2, 3)
        ear = Ear()
        position = await world.node.notifications.subscribe(ear, [alice, bob], start)
        assert position == world.committer.committed_position
        assert ear.heard == [(alice, -1), (bob, 1), (alice, -2), (bob, 2), (alice, -3), (bob, 3)]
        await pay(world, 4)
        assert ear.heard[6:] == [(alice, -4), (bob, 4)]


async def test_nothing_falls_between_the_past_and_what_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits while the past is read are heard once."""
    async with banking(tmp_path) as world:
        alice = await world.account_of("alice")
        start = world.committer.committed_position
        await pay(world, 1)
        ear = Ear()
        read = world.bank.read
        told = asyncio.Event()

        async def slow(function: Any, *arguments: Any) -> Any:
            found = await read(function, *arguments)
            if not told.is_set():
                told.set()
                await pay(world, 2)
            return found

        monkeypatch.setattr(world.bank, "read", slow)
        position = await world.node.notifications.subscribe(ear, [alice], start)
        await pay(world, 3)
        assert ear.heard == [(alice, -1), (alice, -2), (alice, -3)]
        assert position == world.committer.committed_position - 1


async def test_nobody_hears_of_what_could_still_be_lost(tmp_path: Path) -> None:
    """A push goes out with the commit, and never when that fails."""
    async with banking(tmp_path) as world:
        alice = await world.account_of("alice")
        ear = Ear()
        await world.node.notifications.subscribe(ear, [alice], 0)
        journal = world.hold_journal()
        paying = asyncio.ensure_future(pay(world, 5))
        await until(lambda: journal.begun)
        assert ear.heard == []
        journal.errors = [JournalWriteFailed("the disk says no")]
        journal.release()
        await until(lambda: world.process.failure)
        assert ear.heard == []
        paying.cancel()
        await asyncio.gather(paying, return_exceptions=True)


async def test_a_session_that_does_not_take_its_pushes_loses_its_subscription(tmp_path: Path) -> None:
    """The others go on hearing."""
    async with banking(tmp_path) as world:
        alice, bob = await world.account_of("alice"), await world.account_of("bob")
        slow, quick = Ear(), Ear()
        slow.room = 1
        for ear in (slow, quick):
            await world.node.notifications.subscribe(ear, [alice, bob], 0)
        await pay(world, 1)
        slow.room = 100
        await pay(world, 2)
        assert len(slow.heard) == 1
        assert len(quick.heard) == 4


async def test_a_past_that_is_not_taken_is_no_subscription(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gap would be worse than beginning again from the last position seen."""
    monkeypatch.setattr(notifications, "PUSHES_AT_ONCE", 2)
    async with banking(tmp_path) as world:
        alice = await world.account_of("alice")
        start = world.committer.committed_position
        await pay(world, 1, 2, 3, 4)
        ear = Ear()
        ear.room = 3
        with pytest.raises(Busy):
            await world.node.notifications.subscribe(ear, [alice], start)
        ear.room = 100
        await pay(world, 5)
        assert len(ear.heard) == 3
        assert ear.flushes == 1


async def test_too_long_a_past_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was away too long pages through the history."""
    monkeypatch.setattr(notifications, "PAST_ROWS_MAX", 2)
    async with banking(tmp_path) as world:
        alice = await world.account_of("alice")
        start = world.committer.committed_position
        await pay(world, 1, 2, 3)
        with pytest.raises(MessageInvalid) as refused:
            await world.node.notifications.subscribe(Ear(), [alice], start)
        assert refused.value.facts == {"field": "from_position"}


async def test_there_are_only_so_many_subscriptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs of session and account are counted, and given back."""
    monkeypatch.setattr(notifications, "SUBSCRIPTIONS_MAX", 3)
    async with banking(tmp_path) as world:
        subscribe = world.node.notifications.subscribe
        first, second = Ear(), Ear()
        await subscribe(first, [1, 2], 0)
        with pytest.raises(Busy):
            await subscribe(second, [1, 2], 0)
        await subscribe(first, [1, 2, 3], 0)
        await subscribe(first, [1], 0)
        await subscribe(second, [1, 2], 0)


async def test_a_session_that_went_away_meanwhile_is_not_kept(tmp_path: Path) -> None:
    """Nobody would ever take its subscription away again; of two at once the last one stands."""
    async with banking(tmp_path) as world:
        alice, bob = await world.account_of("alice"), await world.account_of("bob")
        start = world.committer.committed_position
        await pay(world, 1)
        gone, twice = Ear(), Ear()
        gone.is_open = False
        subscribe = world.node.notifications.subscribe
        await subscribe(gone, [alice], start)
        await asyncio.gather(subscribe(twice, [alice], start), subscribe(twice, [bob], start))
        twice.heard.clear()
        await pay(world, 2)
        assert len(twice.heard) == 1
        assert gone.heard == [(alice, -1)]


async def test_a_client_that_disconnects_is_forgotten(tmp_path: Path) -> None:
    """The end of a connection ends its subscriptions."""
    async with banking(tmp_path) as world:
        client = await world.connect()
        alice = await client.login_with_seed("alice", b"alice".ljust(32, b"."))
        async with alice.subscribe():
            assert world.node.notifications._accounts
            await client.close()
            await until(lambda: not world.node.notifications._accounts)
        assert not world.node.notifications._sessions


async def test_a_real_subscriber_hears_over_the_wire(tmp_path: Path) -> None:
    """From subscription to push over TLS and the sealed channel."""
    async with banking(tmp_path) as world:
        bob = await world.sign_in("bob")
        async with bob.subscribe() as pushes:
            await pay(world, 7)
            push = await anext(pushes)
        assert (push.row.amount_minor, push.row.kind) == (7, "transfer")
        assert isinstance(push, Answer)
