"""Tests of the way to a bank: nodes in turn, one connection shared, learning who is primary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import islice

import pytest
import pytest_asyncio

from fortress.client.address import Address
from fortress.client.link import Link
from fortress.client.route import ENDPOINTS_MAX, Route, waits
from fortress.client.trust import Trust
from fortress.errors import NotPrimary, TokenRejected, Unreachable
from tests.client.fake_bank import BANK, Books, Credentials, FakeNode


async def nothing(link: Link) -> None:
    """Open without further ado."""


def route_to(credentials: Credentials, *ports: int) -> Route:
    endpoints = tuple(("127.0.0.1", port) for port in ports)
    return Route(Address(endpoints, BANK), Trust(credentials.ca), on_open=nothing, timeout_s=1.0)


@pytest_asyncio.fixture
async def other(credentials: Credentials, books: Books) -> AsyncIterator[FakeNode]:
    """A second node of the bank."""
    node = await FakeNode(credentials, books).start()
    yield node
    await node.stop()


def test_waits_grow_and_differ() -> None:
    """From 50 ms to 2 s, each with a random share."""
    first, second = list(islice(waits(), 12)), list(islice(waits(), 12))
    assert first != second
    assert all(0.025 <= wait <= 2.0 for wait in first)
    assert first[-1] >= 1.0


async def test_all_who_ask_share_one_connection(node: FakeNode) -> None:
    """A hundred askers cost one handshake."""
    route = route_to(node.credentials, node.port)
    links = await asyncio.gather(*(route.link() for _ in range(100)))
    assert len(set(map(id, links))) == 1
    assert node.asked == ["hello"]
    assert route.current is links[0]
    await route.close()
    assert route.current is None


async def test_a_node_that_is_down_is_passed(node: FakeNode, other: FakeNode) -> None:
    """The first call fails, the next one goes to the next node."""
    await other.stop()
    route = route_to(node.credentials, other.port, node.port)
    with pytest.raises(Unreachable):
        await route.link()
    assert (await route.link()).endpoint[1] == node.port
    await route.close()


async def test_one_asker_who_gives_up_takes_nothing_from_the_others(node: FakeNode) -> None:
    """The try to connect goes on for whoever still waits."""
    route = route_to(node.credentials, node.port)
    impatient, patient = asyncio.create_task(route.link()), asyncio.create_task(route.link())
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).is_usable
    await route.close()


async def test_the_primary_that_is_named_is_next(node: FakeNode, other: FakeNode) -> None:
    """A node that the address does not name is learned from one that it names."""
    route = route_to(node.credentials, node.port)
    link = await route.link()
    route.leave(link, NotPrimary(facts={"primary": other.endpoint}))
    assert (await route.link()).endpoint[1] == other.port
    await route.close()


@pytest.mark.parametrize("primary", ["", "not an address", 5, None])
async def test_nonsense_about_the_primary_is_ignored(
    node: FakeNode, other: FakeNode, primary: str | int | None
) -> None:
    """Then the next node in turn is tried."""
    route = route_to(node.credentials, node.port, other.port)
    route.leave(await route.link(), NotPrimary(facts={"primary": primary}))
    assert (await route.link()).endpoint[1] == other.port
    await route.close()


async def test_the_list_of_nodes_cannot_grow_without_end(node: FakeNode) -> None:
    """A bank that names ever new nodes fills no memory."""
    route = route_to(node.credentials, node.port)
    for port in range(1000, 1000 + 2 * ENDPOINTS_MAX):
        route._prefer(("127.0.0.1", port))
    assert len(route._endpoints) == ENDPOINTS_MAX
    await route.close()


async def test_a_second_one_who_leaves_the_same_link_changes_nothing(node: FakeNode) -> None:
    """Many requests fail together on one connection; only the first turns away from it."""
    route = route_to(node.credentials, node.port)
    old = await route.link()
    route.leave(old, Unreachable())
    new = await route.link()
    route.leave(old, Unreachable())
    assert route.current is new
    await route.close()


async def test_a_lost_connection_is_told_and_made_again(node: FakeNode) -> None:
    """Whoever wants to know learns of it; the next asker gets a new one."""
    route = route_to(node.credentials, node.port)
    lost = asyncio.Event()
    route.on_lost = lost.set
    old = await route.link()
    node.cut()
    await asyncio.wait_for(lost.wait(), 5)
    assert await route.link() is not old
    await route.close()


async def test_what_opening_raises_reaches_the_asker(node: FakeNode) -> None:
    """A session that cannot be resumed leaves no connection behind."""

    async def refuse(link: Link) -> None:
        raise TokenRejected

    address = Address((("127.0.0.1", node.port),), BANK)
    route = Route(address, Trust(node.credentials.ca), on_open=refuse, timeout_s=1.0)
    with pytest.raises(TokenRejected):
        await route.link()
    assert route.current is None
    await route.close()


async def test_closing_ends_a_try_under_way(node: FakeNode) -> None:
    """Whoever waits for it is told."""
    route = route_to(node.credentials, node.port)
    asker = asyncio.create_task(route.link())
    await asyncio.sleep(0)
    await route.close()
    with pytest.raises(Unreachable, match="closed"):
        await asker
