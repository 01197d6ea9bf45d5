"""Tests of reading at a standby: never older than what the client has seen, and never later for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from fortress.client import replica as replicas
from fortress.client.client import connect
from fortress.client.me import Me
from fortress.client.money import Money
from fortress.client.replica import Replica
from tests.client.conftest import ALICE_SEED, BOB_SEED
from tests.client.fake_bank import Books, Credentials, FakeNode

READS = {"get_account", "list_accounts", "history", "list_holds"}


@pytest_asyncio.fixture
async def standby(credentials: Credentials, books: Books, node: FakeNode) -> AsyncIterator[FakeNode]:
    """The other node of the pair, 40 ms old."""
    standby = await FakeNode(credentials, books).start()
    standby.follow(node)
    yield standby
    await standby.stop()


@pytest_asyncio.fixture
async def reader(node: FakeNode, standby: FakeNode, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Me]:
    """Alice, who reads anywhere, connected to both."""
    monkeypatch.setattr(replicas, "REST_S", 0.02)
    address = f"fortress://{node.endpoint},{standby.endpoint}/a"
    async with connect(
        address, ca=node.credentials.ca, timeout_s=0.5, deadline_s=5.0, read_from="any", stale_ms_max=100
    ) as client:
        me = await client.login_with_seed("alice", ALICE_SEED)
        await read_until(me, lambda: replica_of(me).is_connected)
        yield me


def replica_of(me: Me) -> Replica:
    replica = me._calls._replica
    assert replica is not None
    return replica


async def read_until(me: Me, condition: Callable[[], object]) -> None:
    """Read the balance until something is so."""
    async with asyncio.timeout(10):
        while not condition():
            await me.balance()
            await asyncio.sleep(0.005)


async def test_reads_go_to_the_standby_and_say_how_old_they_are(reader: Me, node: FakeNode, standby: FakeNode) -> None:
    """Everything else asks the primary."""
    node.asked.clear()
    assert (await reader.balance()).stale_ms == 40
    assert [view.stale_ms for view in await reader.accounts()] == [40]
    assert (await reader.history_page(100)).stale_ms == 40
    assert not READS & set(node.asked)
    await reader.transfer(100, 101, "1 EUR")
    await reader.head()
    assert node.asked == ["transfer", "head"]


async def test_one_reads_what_one_wrote_anywhere(reader: Me, node: FakeNode, standby: FakeNode) -> None:
    """A standby that does not have it yet says so, and the primary answers."""
    standby.lacks = 1
    await reader.transfer(100, 101, "1 EUR")
    balance = await reader.balance()
    assert (balance.available, balance.stale_ms) == (Money(99_900, "EUR"), 0)
    standby.lacks = 0
    await read_until(reader, lambda: standby.asked[-2:] == ["get_account"] * 2)


async def test_what_is_older_than_wanted_comes_from_the_primary(reader: Me, standby: FakeNode) -> None:
    """A standby that was cut off for a while."""
    standby.stale_ms = 101
    assert (await reader.balance()).stale_ms == 0


async def test_a_refusal_of_the_standby_is_not_the_last_word(reader: Me, node: FakeNode) -> None:
    """Its accounts may be younger than what it knows."""
    node.asked.clear()
    assert (await reader.balance(101)).number == 101
    with pytest.raises(Exception, match="account"):
        await reader.balance(999)
    assert node.asked == ["get_account"]


async def test_a_standby_that_goes_costs_no_read(reader: Me, node: FakeNode, standby: FakeNode) -> None:
    """The primary answers until the standby is back."""
    await standby.stop()
    for _ in range(5):
        assert (await reader.balance()).stale_ms == 0
        await asyncio.sleep(0.01)
    standby._server = None
    await standby.start()
    standby.asked.clear()
    await read_until(reader, lambda: "get_account" in standby.asked)


async def test_a_standby_that_stops_is_given_up_after_a_moment(
    reader: Me, node: FakeNode, standby: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The read that waited for it asks the primary, and the next ones do not wait."""
    monkeypatch.setattr(replicas, "READ_S_MAX", 0.05)
    await standby.stall()
    for _ in range(3):
        assert (await reader.balance()).stale_ms == 0


async def test_after_a_failover_the_other_one_is_the_standby(reader: Me, node: FakeNode, standby: FakeNode) -> None:
    """Reads leave the new primary for the old one, once that follows."""
    node.follow(standby)
    standby.lead()
    await reader.transfer(100, 101, "1 EUR")
    node.asked.clear()
    await read_until(reader, lambda: "get_account" in node.asked)


async def test_nobody_reads_in_somebody_elses_session(reader: Me, node: FakeNode, standby: FakeNode) -> None:
    """Whoever signs in next on the same client is read for on a connection of their own."""
    client = connect(f"fortress://{node.endpoint},{standby.endpoint}/a", ca=node.credentials.ca, read_from="any")
    async with client:
        alice = await client.login_with_seed("alice", ALICE_SEED)
        await read_until(alice, lambda: replica_of(alice).is_connected)
        bob = await client.login_with_seed("bob", BOB_SEED)
        assert (await bob.balance()).number == 101
        await read_until(bob, lambda: replica_of(bob).is_connected)
        assert (await bob.balance()).number == 101
        await bob.logout()
        assert not replica_of(bob).is_connected


async def test_a_standby_alone_in_reach_serves_reads(reader: Me, node: FakeNode, standby: FakeNode) -> None:
    """While the primary is gone and nobody has taken over, old answers are better than none."""
    await node.stop()
    assert (await reader.balance()).stale_ms == 40


async def test_one_address_has_no_standby(node: FakeNode) -> None:
    """There is nobody else to ask."""
    async with connect(node.address, ca=node.credentials.ca, read_from="any") as client:
        me = await client.login_with_seed("alice", ALICE_SEED)
        assert (await me.balance()).stale_ms == 0
        assert me._calls._replica is None


async def test_through_a_gateway_one_address_leads_to_both(node: FakeNode, credentials: Credentials) -> None:
    """It chooses by the flag; which node it was the address does not tell, so the connection is kept."""
    async with connect(
        node.address,
        ca=credentials.ca,
        path_ca=credentials.ca,
        timeout_s=0.5,
        deadline_s=5.0,
        read_from="any",
    ) as client:
        me = await client.login_with_seed("alice", ALICE_SEED)
        await read_until(me, lambda: replica_of(me).is_connected)
        node.asked.clear()
        assert (await me.balance()).available == Money(100_000, "EUR")
        assert node.asked == ["get_account"]
        replica = replica_of(me)
        assert replica._route._flags == "any"
        assert replica.is_connected
