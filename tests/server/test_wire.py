"""One connection, well and badly treated by its peer: frames, time, buffers, pushes, the end."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest

from fortress.errors import Busy, HandshakeFailed, MessageTooLarge
from fortress.protocol.frames import encode_frame
from fortress.protocol.money import Transfer
from fortress.protocol.routes import ROUTE_LABEL, Notice, Route
from fortress.protocol.sessions import Whoami
from fortress.server import wire as module
from fortress.server.session import Session
from fortress.server.tls import Tls
from tests.server.world import BANK, Client, World, ask_much, client_tls, connected, running, slow_client, until

ID = bytes(range(16))
TRANSFER = Transfer(ID, 1, 2, 100, "EUR")


def only_session(world: World) -> Session:
    [session] = world.server._sessions
    return session


async def test_another_bank_is_not_spoken_to() -> None:
    """No way leads there from a bank: it says so, and the same of every name."""
    async with running() as world:
        for bank in ("bank-b", "nobody"):
            client = await Client(world, bank).open()
            with pytest.raises(HandshakeFailed, match=f"no way to a bank '{bank}'"):
                await client.receive()
            client.writer.close()
            await until(lambda: world.statistics.connections == 0)
        assert world.statistics.sessions_ended == {"bank-unknown": 2}


class Taking:
    """A relay, and what it takes; `finish` and `on_time` are the server's calls."""

    def __init__(self, notice: Notice | None = None) -> None:
        self.notice = notice
        self.taken: list[tuple[asyncio.BufferedProtocol, Tls, Route, bytes]] = []
        self.calls: list[str] = []

    def take(self, session: asyncio.BufferedProtocol, transport: Tls, route: Route, data: bytes) -> Taking | Notice:
        self.taken.append((session, transport, route, data))
        return self.notice or self

    def on_time(self, now: float) -> None:
        self.calls.append("on_time")

    def finish(self) -> None:
        self.calls.append("finish")
        self.taken[0][1].abort()


async def test_who_wants_another_bank_is_handed_to_the_relay() -> None:
    """With all that came; the connection stays counted, is watched and ended by who has taken it."""
    async with running(sweep_s=3600) as world:
        relay = world.node.ports.relay = Taking()
        client = Client(world, "bank-b")
        first = client.core.data_to_send()
        client.core._unsealed = first
        await client.open()
        await until(lambda: relay.taken)
        [(session, _, route, data)] = relay.taken
        assert (route, data) == (Route("bank-b"), first)
        assert session is only_session(world)
        assert world.statistics.connections == 1
        only_session(world).on_time(world.server.now() + 10_000)
        assert relay.calls == ["on_time"]
        only_session(world).finish()
        await until(lambda: world.statistics.connections == 0)
        assert relay.calls == ["on_time", "finish"]
        client.writer.close()


async def test_what_a_relay_does_not_take_is_told_why() -> None:
    """And the connection ends, also if the client leaves it open."""
    async with running() as world:
        world.node.ports.relay = Taking(Notice.full)
        client = await Client(world, "bank-b").open()
        with pytest.raises(Busy):
            await client.receive()
        await until(lambda: world.statistics.connections == 0)
        client.writer.close()
        assert world.statistics.sessions_ended == {"full": 1}


async def test_a_malformed_route_is_not_answered() -> None:
    """It ends the connection as any broken handshake does."""
    async with running() as world:
        client = Client(world, BANK)
        client.core._unsealed = encode_frame(ROUTE_LABEL + b"!")
        await client.open()
        await client.wait_end()
        client.writer.close()
        await until(lambda: world.statistics.sessions_ended == {"HandshakeFailed": 1})


@pytest.mark.parametrize("noise", [b"\x00\x05hello", b"\xff\xff" + b"x" * 70_000, b"GET / HTTP/1.1\r\n\r\n" * 2000])
async def test_noise_inside_tls_ends_its_connection_alone(noise: bytes) -> None:
    """Whatever comes instead of a handshake."""
    async with running() as world, connected(world, "alice") as other:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", world.server.port, ssl=client_tls(), server_hostname="localhost"
        )
        writer.write(noise)
        async with asyncio.timeout(10):
            try:
                assert await reader.read() == b""
            except ConnectionError:
                pass
        writer.close()
        await other.request("whoami", Whoami())
        await until(lambda: world.statistics.connections == 1)


async def test_a_changed_frame_ends_its_connection_alone() -> None:
    """It is not answered: nothing on this channel can be trusted."""
    async with running() as world, connected(world, "alice") as other:
        client = await Client(world, BANK).open()
        await client.hello()
        client.core.send_message(b"x")
        data = bytearray(client.core.data_to_send())
        data[-1] ^= 1
        client.writer.write(data)
        await client.wait_end()
        assert not client.core.peer_closed
        client.writer.close()
        await other.request("whoami", Whoami())
        assert world.statistics.sessions_ended == {"SealBroken": 1}


async def test_a_message_over_the_size_is_told_and_ends_its_connection() -> None:
    """64 KiB before the login."""
    async with running() as world:
        client = await Client(world, BANK).open()
        await client.hello()
        client.core._send_size_bytes_max = 2**30
        client.send_raw(b"x" * 70_000)
        envelope = await client.receive()
        assert (envelope.request_id, envelope.code) == (0, MessageTooLarge.code)
        await client.wait_end()
        client.writer.close()
        await until(lambda: world.statistics.sessions_ended == {"MessageTooLarge": 1})


async def test_who_stops_in_the_middle_of_the_handshake_is_ended() -> None:
    """TLS stands, and then nothing comes."""
    async with running(handshake_s=30) as world:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", world.server.port, ssl=client_tls(), server_hostname="localhost"
        )
        writer.write(b"\x00\x20half")
        await until(lambda: world.server._sessions)
        only_session(world).on_time(world.server.now() + 31)
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()
        await until(lambda: world.statistics.connections == 0)
        assert world.statistics.sessions_ended == {"login_deadline": 1}


async def test_who_never_signs_in_is_ended_with_the_reason() -> None:
    """The channel stands, so it can be told."""
    async with running(handshake_s=30) as world:
        client = await Client(world, BANK).open()
        await client.hello()
        only_session(world).on_time(world.server.now() + 31)
        envelope = await client.receive()
        assert (envelope.request_id, envelope.code) == (0, HandshakeFailed.code)
        await client.wait_end()
        client.writer.close()


async def test_who_signed_in_may_stay() -> None:
    """The deadline of the login is lifted by it."""
    async with running(handshake_s=30) as world, connected(world, "alice") as client:
        session = only_session(world)
        session.on_time(world.server.now() + 100)
        await client.request("whoami", Whoami())


async def test_an_idle_connection_is_ended_in_order() -> None:
    """With the closing piece, so the client knows nothing was cut; one that waits for an answer is not idle."""
    async with running(idle_s=30) as world, connected(world, "alice") as client:
        client.send("transfer", TRANSFER)
        await until(lambda: world.held)
        session = only_session(world)
        session.on_time(world.server.now())  # the first look after something was heard begins the wait
        session.on_time(world.server.now() + 31)
        world.release()
        await client.receive()
        session.on_time(world.server.now() + 29)
        assert session.is_open
        session.on_time(world.server.now() + 31)
        await client.wait_end()
        assert client.core.peer_closed
        assert world.statistics.sessions_ended == {"idle": 1}


async def test_a_client_that_says_goodbye_gets_its_answers_first() -> None:
    """Then the server closes its side too."""
    async with running() as world, connected(world, "alice") as client:
        client.send("transfer", TRANSFER)
        client.core.close()
        client.flush()
        await until(lambda: world.held)
        world.release()
        assert (await client.receive()).code == 0
        await client.wait_end()
        assert client.core.peer_closed
        assert world.statistics.sessions_ended == {}


async def test_a_client_that_vanishes_is_noticed() -> None:
    """Its stream was cut; answers that come later go nowhere."""
    async with running() as world:
        client = await Client(world, BANK).open()
        await client.hello()
        await client.login("alice")
        client.send("transfer", TRANSFER)
        await until(lambda: world.held)
        client.writer.transport.abort()
        await until(lambda: world.statistics.connections == 0)
        world.release()
        assert world.server.sessions_of(1) == ()


async def test_a_slow_reader_is_not_read_from_and_ended_in_the_end() -> None:
    """What it asked for stays unread; after half a minute it is cut off."""
    async with running(send_buffer_bytes_max=10**9) as world, connected(world, "bob") as other:
        client = await slow_client(world)
        [session] = world.server.sessions_of(1)
        for _ in range(40):
            ask_much(client, 1)
            await asyncio.sleep(0)
        await until(lambda: session._blocked_s, "the buffer is over its mark")
        session.on_time(session._blocked_s + module.SLOW_READER_S - 1)
        assert world.statistics.sessions_ended == {}
        session.on_time(session._blocked_s + module.SLOW_READER_S + 1)
        await until(lambda: world.statistics.connections == 1)
        assert world.statistics.sessions_ended == {"slow_reader": 1}
        await other.request("whoami", Whoami())
        client.writer.transport.abort()


async def test_a_slow_reader_that_reads_on_is_served_on() -> None:
    """Reading from it is taken up again where it stopped."""
    async with running(send_buffer_bytes_max=10**9) as world:
        client = await slow_client(world)
        [session] = world.server.sessions_of(1)
        ask_much(client, 30)
        await until(lambda: session._blocked_s)
        ask_much(client, 1)
        client.writer.transport.resume_reading()
        for _ in range(31):
            assert (await client.receive()).code == 0
        await until(lambda: not session._blocked_s)
        await client.request("whoami", Whoami())
        await client.close()


async def test_a_send_buffer_over_its_limit_ends_the_connection() -> None:
    """Memory is worth more than one reader."""
    async with running(send_buffer_bytes_max=2_000_000) as world:
        client = await slow_client(world)
        ask_much(client, 40)
        await until(lambda: world.statistics.sessions_ended == {"send_buffer_full": 1})
        await until(lambda: world.statistics.connections == 0)
        client.writer.transport.abort()


async def test_an_ended_session_that_lingers_is_killed() -> None:
    """A peer that does not answer the goodbye cannot keep the connection."""
    async with running() as world:
        client = await slow_client(world)
        [session] = world.server.sessions_of(1)
        session.finish()
        session.on_time(world.server.now() + module.LINGER_S + 1)
        await until(lambda: world.statistics.connections == 0)
        client.writer.transport.abort()


async def test_ending_twice_says_one_goodbye() -> None:
    """The second has no effect."""
    async with running() as world, connected(world, "alice") as client:
        session = only_session(world)
        session.end(HandshakeFailed("x"), "test")
        session.end(HandshakeFailed("x"), "test")
        session.finish()
        await client.wait_end()
        assert world.statistics.sessions_ended == {"test": 1}


async def test_plain_text_over_tcp_is_no_session() -> None:
    """Who speaks no TLS is answered with TLS's own alert at most."""
    async with running() as world:
        with socket.create_connection(("127.0.0.1", world.server.port)) as raw:
            raw.sendall(b"hello\n" * 100)
            await until(lambda: world.statistics.connections_refused == {"tls": 1})
        assert world.statistics.connections == 0


async def test_only_tls_1_3_is_spoken() -> None:
    """An older client is refused in the handshake."""
    async with running() as world:
        context = client_tls()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await Client(world, BANK).open(tls=context)
        await until(lambda: world.statistics.connections_refused == {"tls": 1})
