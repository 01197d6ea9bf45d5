"""The load client's connection to a real server: answers, refusals, limits, and the ends it can come to."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import msgspec
import pytest

from bench import caller as module
from bench.caller import Caller, call
from fortress.client.trust import Trust
from fortress.errors import Busy, FortressError, NotSignedIn, OutcomeUnknown, Unreachable
from fortress.protocol.administration import StatusRequest
from fortress.protocol.sessions import Whoami
from tests.server.world import BANK, World, made_folder, running, until


async def called(world: World, *, bank: str = BANK) -> Caller:
    trust = Trust(made_folder() / "certs" / "ca.crt")
    return await call(("127.0.0.1", world.server.port), bank, trust, timeout_s=10)


async def test_requests_are_answered_and_refused() -> None:
    """What the bank says comes back as an answer or as the error it is."""
    async with running() as world:
        caller = await called(world)
        answer = await caller.request("status", StatusRequest(), 10)
        assert answer.bank == BANK
        with pytest.raises(NotSignedIn):
            await caller.request("whoami", Whoami(), 10)
        await caller.close()
        await until(lambda: world.statistics.connections == 0)
        assert world.statistics.sessions_ended == {}
        with pytest.raises(Unreachable):
            caller.submit("whoami", Whoami(), lambda code, raw: None)


async def test_callbacks_may_ask_again() -> None:
    """Each answer sends the next request; all of one turn leave together."""
    async with running() as world:
        caller = await called(world)
        codes: list[int] = []

        def answered(code: int, raw: msgspec.Raw) -> None:
            codes.append(code)
            if len(codes) < 30:
                caller.submit("whoami", Whoami(), answered)

        for _ in range(10):
            caller.submit("whoami", Whoami(), answered)
        await until(lambda: len(codes) == 39)
        assert set(codes) == {NotSignedIn.code}
        await caller.close()


async def test_no_more_is_outstanding_than_a_node_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too much is refused here and not sent."""
    monkeypatch.setattr(module, "OUTSTANDING_MAX", 1)
    async with running() as world:
        caller = await called(world)
        codes: list[int] = []
        caller.submit("whoami", Whoami(), lambda code, raw: codes.append(code))
        with pytest.raises(Busy):
            caller.submit("whoami", Whoami(), lambda code, raw: None)
        await until(lambda: codes)
        await caller.close()


async def test_what_waits_when_the_connection_is_lost_is_told() -> None:
    """With the code of an unknown outcome."""
    async with running() as world:
        caller = await called(world)
        codes: list[int] = []
        [session] = world.server._sessions
        session.kill()
        caller.submit("whoami", Whoami(), lambda code, raw: codes.append(code))
        await until(lambda: codes == [OutcomeUnknown.code])
        await caller.close()


async def test_bytes_that_are_no_answer_end_the_connection() -> None:
    """Nothing on it can be trusted any more."""
    async with running() as world:
        caller = await called(world)
        [session] = world.server._sessions
        transport: Any = session._transport
        transport.write(b"\x00\x20" + bytes(32))
        await until(lambda: caller._lost.done())
        with pytest.raises(Unreachable):
            caller.submit("whoami", Whoami(), lambda code, raw: None)


async def test_a_bank_that_is_not_the_one_asked_for_is_left() -> None:
    """By the sealed handshake, which cannot be finished; or by TLS, where the authority is another."""
    async with running() as world:
        with pytest.raises((FortressError, OSError)):
            await called(world, bank="other")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        trust = Trust(made_folder() / "certs" / "ca.crt")
        trust.tls = context
        with pytest.raises(ssl.SSLError):
            await call(("127.0.0.1", world.server.port), BANK, trust, timeout_s=10)


async def test_nobody_who_listens_is_no_bank() -> None:
    """The error of the socket."""
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(OSError):
        await call(("127.0.0.1", port), BANK, Trust(made_folder() / "certs" / "ca.crt"), timeout_s=10)
