"""Connections that behave badly: each is ended within its limit, and a session that stands goes on working."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bench.bank import TELLER
from fortress.client.client import connect
from fortress.client.link import Link
from fortress.client.trust import Trust
from fortress.errors import Unreachable
from fortress.protocol.accounts import GetAccount, ListAccounts
from fortress.protocol.connection import ClientConnection
from tests.e2e.node import Node, seed_of, wait_until

HANDSHAKE_S = 1
PER_ADDRESS_MAX = 48
FLOOD = 10_000
WAVE = 400
PATIENCE_S = 15.0


@pytest.fixture(scope="module")
def node(bank_folder: Path) -> Iterator[Node]:
    """A node with narrow limits."""
    limits = {
        "server.handshake_s": HANDSHAKE_S,
        "server.connections_per_address_max": PER_ADDRESS_MAX,
        "server.send_buffer_bytes_max": 65536,
    }
    arguments = [word for key, value in limits.items() for word in ("--set", f"{key}={value}")]
    with Node(bank_folder, arguments) as serving:
        yield serving


@pytest.fixture
async def standing(node: Node) -> AsyncIterator[Link]:
    """Another customer's session, which must outlive whatever the test does."""
    link = await node.link("customer1")
    try:
        yield link
        await ask(link)
    finally:
        await link.close()
    wait_until(lambda: node.status()["connections"] == 0, deadline_s=PATIENCE_S)


async def ask(link: Link) -> None:
    account = await link.request("get_account", GetAccount(), 10)
    assert account.balance_minor > 0


def refused(node: Node, reason: str) -> int:
    count: int = node.status()["connections_refused"].get(reason, 0)
    return count


def ended(node: Node, reason: str) -> int:
    count: int = node.status()["sessions_ended"].get(reason, 0)
    return count


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """Read what comes until the node ends the connection."""
    with suppress(ConnectionError, ssl.SSLError):
        return await asyncio.wait_for(reader.read(), PATIENCE_S)
    return b""


async def plain(node: Node) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(node.host, node.port)


async def inside_tls(node: Node) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(node.host, node.port, ssl=Trust(node.ca).tls)


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError, ssl.SSLError, TimeoutError):
        await asyncio.wait_for(writer.wait_closed(), 5)


@pytest.mark.parametrize(
    "said",
    [b"", b"GET / HTTP/1.1\r\nHost: bank\r\n\r\n", bytes(range(256)) * 64, b"\x16\x03\x01"],
    ids=["nothing", "http", "noise", "half-a-record-header"],
)
async def test_a_connection_that_never_speaks_tls_is_ended(node: Node, standing: Link, said: bytes) -> None:
    """At once if it says something else, after the handshake's time if it says nothing."""
    before = refused(node, "tls")
    reader, writer = await plain(node)
    began = time.monotonic()
    with suppress(ConnectionError):
        writer.write(said)
        await writer.drain()
    answer = await read_to_end(reader)
    assert time.monotonic() - began < HANDSHAKE_S + 3
    assert len(answer) < 64  # at most a TLS alert
    await close(writer)
    wait_until(lambda: refused(node, "tls") == before + 1)
    await ask(standing)


def client_hello(node: Node) -> bytes:
    """Make the first bytes of a TLS handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = Trust(node.ca).tls.wrap_bio(incoming, outgoing)
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("part", [0.5, 1.0], ids=["half-a-hello", "hello-and-silence"])
async def test_a_tls_handshake_that_stops_is_ended(node: Node, standing: Link, part: float) -> None:
    """In the middle of the first message, or after it."""
    hello = client_hello(node)
    reader, writer = await plain(node)
    writer.write(hello[: int(len(hello) * part)])
    began = time.monotonic()
    await read_to_end(reader)
    assert time.monotonic() - began < HANDSHAKE_S + 3
    await close(writer)


def noise(node: Node) -> ClientConnection:
    """Make the client's side of the sealed channel; it trusts anybody."""
    return ClientConnection(bank_id=node.bank, entropy=bytes(range(32)), verify=lambda payload, static: None, now=0.0)


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0], ids=["before", "in-the-middle", "after-and-no-login"])
async def test_a_sealed_handshake_that_stops_is_ended(node: Node, standing: Link, part: float) -> None:
    """TLS stands, the sealed channel does not, or nobody signs in: the same deadline for all of it."""
    before = ended(node, "login_deadline")
    reader, writer = await inside_tls(node)
    first = noise(node).data_to_send()
    writer.write(first[: int(len(first) * part)])
    wait_until(lambda: ended(node, "login_deadline") == before + 1, deadline_s=HANDSHAKE_S + 5)
    await close(writer)
    await ask(standing)


@pytest.mark.parametrize(
    "frame",
    [b"\x00\x00", b"\x00\x05hello", b"\xff\xff" + bytes(65535), bytes(4096)],
    ids=["empty", "short", "longest", "zeros"],
)
async def test_frames_that_are_no_handshake_end_the_connection(node: Node, standing: Link, frame: bytes) -> None:
    """Inside TLS, in place of the first message of the sealed channel."""
    reader, writer = await inside_tls(node)
    writer.write(frame)
    assert len(await read_to_end(reader)) < 4096
    await close(writer)
    await ask(standing)


@pytest.mark.parametrize("kind", ["flipped", "repeated", "made-up", "cut"])
async def test_a_sealed_frame_that_does_not_open_ends_the_session(node: Node, standing: Link, kind: str) -> None:
    """Changed, replayed, forged or cut on the way: nothing of it is obeyed, and only that session ends."""
    before = node.status()["requests"].get("get_account", {}).get("ok", 0)
    link = await node.link("customer0")
    connection, transport = link._connection, link._transport
    assert transport is not None
    connection.send_message(b"\x93\x07\xabget_account\x80")
    frame = connection.data_to_send()
    bad = {
        "flipped": frame[:-1] + bytes([frame[-1] ^ 1]),
        "repeated": frame + frame,
        "made-up": b"\x00\x20" + bytes(32),
        "cut": frame[:-1],
    }[kind]
    transport.write(bad)
    if kind == "cut":
        transport.close()
    await asyncio.wait_for(asyncio.shield(link._lost), PATIENCE_S)
    await ask(standing)
    wait_until(lambda: node.status()["connections"] == 1)
    # the one of `standing`, and the good half of the repeated one
    assert node.status()["requests"]["get_account"]["ok"] - before == (2 if kind == "repeated" else 1)


def open_wave(node: Node, size: int) -> list[socket.socket]:
    """Begin many connections at once."""
    wave = []
    for _ in range(size):
        each = socket.socket()
        each.setblocking(False)
        each.connect_ex((node.host, node.port))
        wave.append(each)
    return wave


def is_ended(connection: socket.socket) -> bool:
    """Tell whether the node has ended a connection on which nobody spoke."""
    try:
        return not connection.recv(1)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


async def test_ten_thousand_connections_from_one_address_are_refused(node: Node, standing: Link) -> None:
    """The limit holds, each one above it is ended at once, and the session that stands goes on."""
    before = refused(node, "connections_per_address_max")
    most = done = 0
    for _ in range(FLOOD // WAVE):
        wave = open_wave(node, WAVE)
        try:
            wait_until(lambda wave=wave: sum(is_ended(each) for each in wave) >= WAVE - PER_ADDRESS_MAX)
            done += len(wave)
            most = max(most, node.status()["connections"])
            await ask(standing)
        finally:
            for each in wave:
                each.close()
    assert done == FLOOD
    assert most <= PER_ADDRESS_MAX
    assert refused(node, "connections_per_address_max") - before >= FLOOD - PER_ADDRESS_MAX * (FLOOD // WAVE)


async def test_another_address_is_served_while_one_has_used_up_its_share(node: Node, standing: Link) -> None:
    """The limit is each address's own."""
    hogs = open_wave(node, PER_ADDRESS_MAX)
    try:
        wait_until(lambda: node.status()["connections"] == PER_ADDRESS_MAX)
        with pytest.raises(Unreachable):
            await node.link("customer0", timeout_s=3)
        tls = Trust(node.ca).tls
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(
            asyncio.Protocol, node.host, node.port, ssl=tls, local_addr=("127.0.0.2", 0)
        )
        transport.close()
    finally:
        for each in hogs:
            each.close()


async def test_a_slow_reader_is_cut_off(node: Node, standing: Link) -> None:
    """Who asks for much and reads nothing holds a bounded buffer, and is cut off when it is full."""
    before = ended(node, "send_buffer_full")
    async with connect(node.address, ca=node.ca) as bank:
        me = await bank.login_with_seed(TELLER, seed_of(TELLER))
        link = me._calls.route.current
        assert link is not None and link._transport is not None
        link._transport.pause_reading()
        for _ in range(500):
            link.submit("list_accounts", ListAccounts(all=True, limit=100), lambda code, raw: None)
        while ended(node, "send_buffer_full") == before:
            await ask(standing)
        assert node.status()["connections"] == 1
        link.abort()
