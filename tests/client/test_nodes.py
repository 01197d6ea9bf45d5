"""A probe asks one node, whatever its role, and finds it again after it was away."""

from __future__ import annotations

import pytest

from fortress.client.client import connect
from fortress.client.nodes import NodeProbe
from fortress.errors import FortressError
from tests.client.fake_bank import FakeNode


def probe_of(node: FakeNode) -> NodeProbe:
    (probe,) = connect(node.address, ca=node.credentials.ca).probes()
    return probe


async def test_a_node_is_asked_on_one_connection(node: FakeNode) -> None:
    """Without a login, and a standby as well as a primary."""
    probe = probe_of(node)
    assert probe.address == node.endpoint
    pulse = await probe.ask()
    assert (pulse.status.role, pulse.status.bank) == ("primary", node.bank) and pulse.latency_s > 0
    node.follow(None)
    assert (await probe.ask()).status.role == "standby"
    assert len(node.sessions) == 1
    await probe.close()
    await probe.close()


async def test_a_node_that_was_away_is_asked_again(node: FakeNode) -> None:
    """While it is away each try says so."""
    probe = probe_of(node)
    await probe.ask()
    await node.stop()
    for _ in range(2):
        with pytest.raises(FortressError):
            await probe.ask()
    await node.start()
    assert (await probe.ask()).status.node == "fake"
    await probe.close()


async def test_a_node_that_stands_still_holds_nobody(node: FakeNode) -> None:
    """Nor is its old connection asked again."""
    probe = probe_of(node)
    await probe.ask()
    node.is_stalled = True
    with pytest.raises(FortressError):
        await probe.ask(0.05)
    node.is_stalled = False
    assert (await probe.ask()).status.role == "primary"
    await probe.close()
