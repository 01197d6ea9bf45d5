"""Tests of the way to a bank: nodes in turn, one connection shared, learning who is primary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from fortress.client import route as routes
from fortress.client.address import Address
from fortress.client.link import Link
from fortress.client.route import ENDPOINTS_MAX, Route
from fortress.client.trust import Trust
from fortress.errors import DeadlinePassed, NoPrimary, NotPrimary, TokenRejected, Unreachable
from fortress.protocol.administration import StatusRequest
from fortress.protocol.routes import Notice
from fortress.protocol.routes import Route as RouteFrame
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


async def test_a_stopped_node_holds_nobody_for_long(
    node: FakeNode, other: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It accepts and says nothing; while there is another node that costs little, and is not paid again at once."""
    monkeypatch.setattr(routes, "OPEN_S_MAX", 0.1)
    await node.stall()
    route = route_to(node.credentials, node.port, other.port)
    with pytest.raises(Unreachable):
        await route.link()
    link = await route.link()
    assert link.endpoint[1] == other.port
    # the standby does not know yet that the node it names is gone
    route.leave(link, NotPrimary(facts={"primary": node.endpoint}))
    assert (await route.link()).endpoint[1] == other.port
    await route.close()


async def test_a_node_that_is_passed_over_gets_its_turn_again(
    node: FakeNode, other: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, or at once when all others were silent too."""
    monkeypatch.setattr(routes, "OPEN_S_MAX", 0.1)
    route = route_to(node.credentials, node.port, other.port)
    for each in (node, other):
        await each.stall()
        with pytest.raises(Unreachable):
            await route.link()
    assert route.next_endpoint()[1] == node.port
    monkeypatch.setattr(route, "_silent_until", {("127.0.0.1", other.port): 0.0})
    route.put_last(("127.0.0.1", node.port))
    assert route.next_endpoint()[1] == other.port
    await route.close()


async def test_a_link_that_fell_silent_has_its_node_passed_over(
    node: FakeNode, other: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the next try is not held up by the same one."""
    route = route_to(node.credentials, node.port, other.port)
    link = await route.link()
    link.is_silent = True
    link.abort()
    async with asyncio.timeout(5):
        while not link.is_over:
            await asyncio.sleep(0.005)
    assert route.next_endpoint()[1] == other.port
    await route.close()


async def test_a_session_that_is_not_resumed_in_time_is_a_silent_node(node: FakeNode, other: FakeNode) -> None:
    """The node said hello and then nothing."""

    async def wait_in_vain(link: Link) -> None:
        raise DeadlinePassed

    endpoints = (("127.0.0.1", node.port), ("127.0.0.1", other.port))
    route = Route(Address(endpoints, BANK), Trust(node.credentials.ca), on_open=wait_in_vain, timeout_s=1.0)
    with pytest.raises(DeadlinePassed):
        await route.link()
    assert route.next_endpoint() == endpoints[1]
    route.put_last(endpoints[1])
    assert route.next_endpoint() == endpoints[1]
    await route.close()


async def test_a_gateway_that_waits_for_the_bank_is_not_a_silent_node(node: FakeNode, other: FakeNode) -> None:
    """It has said so; so it is not passed over, and asked again in its turn."""
    endpoints = (("127.0.0.1", node.port), ("127.0.0.1", other.port))
    route = Route(Address(endpoints, "b"), Trust(node.credentials.ca), on_open=nothing, timeout_s=0.3, flags="any")
    for each in (node, other):
        each.notices = [Notice.waiting]
        with pytest.raises(NoPrimary):
            await route.link()
        assert each.routes == [RouteFrame("b", "any")]
    assert route.next_endpoint() == endpoints[0]
    await route.close()


async def test_who_comes_by_a_path_goes_to_the_addresses_given_alone(node: FakeNode, other: FakeNode) -> None:
    """A bank behind a gateway names its primary by an address that leads nowhere from here."""
    trust = Trust(node.credentials.ca, path_ca=node.credentials.ca)
    endpoints = (("127.0.0.1", node.port), ("127.0.0.1", other.port))
    route = Route(Address(endpoints, BANK), trust, on_open=nothing, timeout_s=1.0)
    assert route.has_path
    route.leave(await route.link(), NotPrimary(facts={"primary": "192.0.2.1:7611"}))
    assert (await route.link()).endpoint == endpoints[1]
    assert route._endpoints == [endpoints[1], endpoints[0]]
    await route.close()


async def test_a_caller_waits_no_longer_than_its_deadline(node: FakeNode) -> None:
    """The try goes on for the others."""
    await node.stall()
    route = route_to(node.credentials, node.port)
    with pytest.raises(Unreachable, match="in time"):
        await route.link(asyncio.get_running_loop().time() + 0.05)
    await route.close()


async def test_what_is_outstanding_on_a_connection_that_was_left_is_answered(node: FakeNode, other: FakeNode) -> None:
    """It ends when the last answer is there, and at the latest with the route."""
    route = route_to(node.credentials, node.port, other.port)
    old = await route.link()
    answer = asyncio.create_task(old.request("status", StatusRequest(), 1.0))
    await asyncio.sleep(0)
    route.leave(old, NotPrimary())
    assert (await answer).bank == BANK
    node.faults["status"] = ["silent"]
    again = await route.link()
    route.put_last(again.endpoint)
    third = await route.link()
    assert third is again
    waiting = asyncio.create_task(third.request("status", StatusRequest(), 5.0))
    await asyncio.sleep(0)
    route.drop(third)
    assert not third.is_usable
    await route.close()
    assert third.is_over
    await asyncio.gather(waiting, return_exceptions=True)


async def test_dropping_a_connection_keeps_to_the_node(node: FakeNode, other: FakeNode) -> None:
    """A new session takes a new connection, not another node."""
    route = route_to(node.credentials, node.port, other.port)
    first = await route.link()
    route.drop(first)
    assert (await route.link()).endpoint == first.endpoint
    await route.close()
