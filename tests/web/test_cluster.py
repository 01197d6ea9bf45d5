"""One poller a process asks all nodes, while somebody looks and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fortress.client.client import Client, connect
from fortress.config import WebSettings
from fortress.web import administration as admin
from fortress.web import cluster as clusters
from fortress.web.call import Call, Context
from fortress.web.cluster import HANDLERS, Poller, merged
from fortress.web.operations import ADMINISTRATION
from tests.client.fake_bank import Books, Credentials, FakeNode

DEADLINE_S = 10.0
OPERATIONS = {operation.name: operation for operation in ADMINISTRATION}


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Credentials.make(Path(tmp_path_factory.mktemp("certificates")))


@pytest.fixture
async def nodes(credentials: Credentials) -> AsyncIterator[tuple[FakeNode, FakeNode]]:
    """A primary and its standby."""
    books = Books()
    one, two = await FakeNode(credentials, books).start(), await FakeNode(credentials, books).start()
    two.follow(one)
    yield one, two
    await one.stop()
    await two.stop()


@pytest.fixture
async def context(nodes: tuple[FakeNode, FakeNode], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Context]:
    """A process that serves both, whose seconds are short."""
    monkeypatch.setattr(clusters, "EVERY_S", 0.02)
    one, two = nodes

    def connected() -> Client:
        return connect(f"fortress://{one.endpoint},{two.endpoint}/{one.bank}", ca=one.credentials.ca)

    context = Context(bank=one.bank, kind="bank", settings=WebSettings(), connect=connected)
    yield context
    await context.close()


def call(context: Context, name: str) -> Call:
    return Call(operation=OPERATIONS[name], context=context)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


async def test_the_first_look_waits_until_all_nodes_were_asked(
    context: Context, nodes: tuple[FakeNode, FakeNode]
) -> None:
    """So no page begins with an alarm that is none."""
    cluster = await HANDLERS["cluster"](call(context, "cluster"))
    assert [node.role for node in cluster.nodes] == ["primary", "standby"]
    assert [node.address for node in cluster.nodes] == [node.endpoint for node in nodes]


async def test_a_silent_node_is_shown_and_told(context: Context, nodes: tuple[FakeNode, FakeNode]) -> None:
    """With when it was seen last; and again when it is back."""
    poller = context.shared(Poller)
    await poller.cluster()
    await nodes[1].stop()
    await until(lambda: bool(poller.watch.events))
    silent = (await poller.cluster()).nodes[1]
    assert (silent.state, silent.seen is not None) == ("silent", True)
    await nodes[1].start()
    await until(lambda: len(poller.watch.events) == 2)
    found = await HANDLERS["events"](call(context, "events"))
    assert [event.event for event in found.events] == ["back", "lost"]


async def test_streams_share_one_poller(context: Context, nodes: tuple[FakeNode, FakeNode]) -> None:
    """However many look, each node has one connection more; the stream goes on second by second."""
    streams = [await HANDLERS["cluster_stream"](call(context, "cluster_stream")) for _ in range(3)]
    for stream in streams:
        first, second = await anext(stream), await anext(stream)
        assert first.name == "cluster" and second.data.time >= first.data.time
    assert [len(node.sessions) for node in nodes] == [1, 1]
    for stream in streams:
        await stream.aclose()


async def test_nobody_is_asked_when_nobody_looks(
    context: Context, nodes: tuple[FakeNode, FakeNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some time after the last look the connections are closed; the next look makes them anew."""
    monkeypatch.setattr(clusters, "LOOKED_S", 0.05)
    poller = context.shared(Poller)
    await poller.cluster()
    await until(lambda: not poller.is_asking)
    await until(lambda: not nodes[0].sessions and not nodes[1].sessions)
    assert (await poller.cluster()).nodes[0].state == "ok"


async def test_samples_are_those_of_the_seconds_seen(context: Context) -> None:
    """With the time that this process's own request took."""
    poller = context.shared(Poller)
    await poller.cluster()
    await until(lambda: len(poller.watch.samples) > 2)
    found = await HANDLERS["samples"](call(context, "samples"))
    assert found.samples[0].latency_ms is not None and len(found.samples) > 2


async def test_what_the_nodes_remember_is_told_as_well(context: Context) -> None:
    """Of what happened before anybody looked."""
    old = admin.Event("2026-01-01T00:00:00.000000Z", "node-1", "first", "is the first primary of this pair", None)
    context.chronicle = lambda: [old]
    found = await HANDLERS["events"](call(context, "events"))
    assert found.events == [old]


def test_an_event_told_and_seen_is_one() -> None:
    """In the node's words, with the outage as seen; what only one side knows stays."""
    told = [
        admin.Event("2026-01-01T00:00:03.000000Z", "node-2", "takeover", "took over", None),
        admin.Event("2026-01-01T09:00:00.000000Z", "node-2", "takeover", "took over again", None),
    ]
    seen = [
        admin.Event("2026-01-01T00:00:00.000000Z", "node-1", "lost", "does not answer", None),
        admin.Event("2026-01-01T00:00:04.000000Z", "node-2", "takeover", "node-2 took over", 4.1),
    ]
    found = merged(told, seen)
    assert [(event.words, event.outage_s) for event in found] == [
        ("took over again", None),
        ("took over", 4.1),
        ("does not answer", None),
    ]
