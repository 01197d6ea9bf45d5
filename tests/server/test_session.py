"""Answers and pushes of one session: counted, bounded, together."""

from __future__ import annotations

import pytest

from fortress.errors import LedgerError
from fortress.protocol.accounts import AccountsAnswer, Profile, ProfileAnswer
from fortress.protocol.money import Transfer
from tests.server.world import ask_much, connected, opened, running, slow_client, until

ID = bytes(range(16))
TRANSFER = Transfer(ID, 1, 2, 100, "EUR")


async def test_pushes_reach_the_peer_beside_its_answers() -> None:
    """Under request id 0 and their topic."""
    async with running() as world, connected(world, "alice") as client:
        assert world.server.sessions_of(1)[0].push("entry", AccountsAnswer([]))
        envelope = await client.receive()
        assert (envelope.request_id, envelope.code) == (0, "entry")


async def test_pushes_stop_when_the_peer_is_too_far_behind() -> None:
    """The subscriber hears it and comes back by its position."""
    async with running(send_buffer_bytes_max=10**9, push_rows_max=100) as world:
        client = await slow_client(world)
        [session] = world.server.sessions_of(1)
        ask_much(client, 30)
        await until(lambda: session._blocked_s)
        pushed = sum(session.push("entry", AccountsAnswer([])) for _ in range(1000))
        assert pushed == 100
        client.writer.transport.abort()
        await until(lambda: world.statistics.connections == 0)
        assert not session.push("entry", AccountsAnswer([]))


async def test_an_answer_larger_than_a_message_becomes_an_error() -> None:
    """The peer could not take it; the session lives on."""
    async with running() as world, connected(world, "alice") as client:
        client.send("transfer", TRANSFER)
        await until(lambda: world.held)
        [(session, request_id)] = world.held
        session.answer(request_id, ProfileAnswer("x" * 3_000_000, Profile()))
        with pytest.raises(LedgerError, match="larger than a message"):
            opened("transfer", await client.receive())
        assert session.is_open


async def test_what_cannot_be_sent_ends_the_connection() -> None:
    """A handler that queues more than a message may have: the peer is cut off rather than kept waiting."""
    async with running() as world, connected(world, "alice") as client:
        [session] = world.server.sessions_of(1)
        session.queue(b"x" * (3 * 2**20))
        await client.wait_end()
        assert world.statistics.sessions_ended == {"unsendable": 1}
