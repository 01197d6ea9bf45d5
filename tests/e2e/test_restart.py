"""What must outlive a node that is killed and started again: ended sessions, holds and their end, subscriptions."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from bench.bank import TELLER, Plan, make_folder
from fortress.client.client import connect
from fortress.client.subscription import Subscription
from fortress.errors import Refused, Status, TokenRejected
from fortress.protocol.reading import EntryPush
from tests.e2e.node import Node, numbers_of

OWN, SECOND = numbers_of(2)
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A node that tests kill and start again."""
    with tempfile.TemporaryDirectory(prefix="fortress-e2e-", dir="/var/tmp") as parent:
        folder = Path(parent) / "bank"
        make_folder(folder, Plan(accounts=128, settings={"ledger.segment_bytes": 1024 * 1024}, opening_minor=100_000))
        with Node(folder) as serving:
            yield serving


def restart(node: Node) -> None:
    node.kill()
    node.start()


async def test_a_session_that_was_ended_stays_ended(node: Node) -> None:
    """Its token is refused before and after the restart; the token of one that was not ended is good."""
    async with node.session("customer0") as me:
        ended = me.signed_in.token
        await me.logout()
    async with node.session("customer0") as me:
        going_on, session = me.signed_in.token, me.signed_in.session
    for is_restarted in (False, True):
        if is_restarted:
            restart(node)
        async with connect(node.address, ca=node.ca) as bank:
            with pytest.raises(TokenRejected):
                await bank.resume(ended)
            me = await bank.resume(going_on)
            assert me.signed_in.session == session
            assert (await me.balance()).number == OWN


async def test_sessions_ended_by_a_lock_stay_ended(node: Node) -> None:
    """A locked customer's token is refused after a restart as well, and so is signing in."""
    async with node.session("customer1") as me:
        token = me.signed_in.token
    async with node.session("admin") as admin:
        await admin.administration.lock("customer1")
    restart(node)
    async with connect(node.address, ca=node.ca) as bank:
        with pytest.raises(TokenRejected):
            await bank.resume(token)
    async with node.session("admin") as admin:
        await admin.administration.unlock("customer1")
    async with node.session("customer1") as me:
        assert (await me.balance()).balance.minor > 0


async def test_a_hold_expires_after_a_restart(node: Node) -> None:
    """Its money is reserved until then and free afterwards; it cannot be posted any more, and says why."""
    async with node.session("customer0") as me:
        before = await me.balance()
        placed = await me.hold(OWN, SECOND, "3 EUR", valid=timedelta(seconds=3))
    restart(node)
    async with node.session("customer0") as me:
        held = await me.balance()
        if held.held.minor == before.held.minor:  # a slow machine: it expired while the node started
            assert (await me.hold_by_id(placed.id)).state == "expired"
        else:
            assert held.available.minor == before.available.minor - 300
        async with asyncio.timeout(PATIENCE_S):
            while (await me.balance()).held.minor != before.held.minor:
                await asyncio.sleep(0)
        after = await me.balance()
        assert (after.balance, after.available) == (before.balance, before.available)
        assert (await me.hold_by_id(placed.id)).state == "expired"
        with pytest.raises(Refused) as caught:
            await me.post(placed.id)
        assert caught.value.status is Status.hold_expired


async def test_a_subscription_goes_on_by_position(node: Node) -> None:
    """A listener that outlives two restarts is told everything once and in order; so is one that comes back later."""
    async with node.session(TELLER) as teller, node.session("customer1", deadline_s=30.0) as listener:
        positions: list[int] = []
        payee = (await listener.balance()).number

        async def pay() -> None:
            positions.extend([(await teller.transfer(OWN, payee, "0.01 EUR")).position for _ in range(3)])

        async def take(subscription: Subscription, count: int) -> list[EntryPush]:
            async with asyncio.timeout(PATIENCE_S):
                return [await anext(subscription) for _ in range(count)]

        async with listener.subscribe() as subscription:
            await pay()
            heard = await take(subscription, 3)
            for _ in range(2):
                restart(node)
                await pay()
                heard += await take(subscription, 3)
        assert [push.row.position for push in heard] == positions
        assert {push.account for push in heard} == {payee}
        async with listener.subscribe(from_position=positions[2]) as subscription:
            again = await take(subscription, 6)
        assert [push.row.position for push in again] == positions[3:]
