"""A connection between nodes: whole messages both ways, and nobody without the bank's own certificate."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fortress.authority import Kind, issue, make_authority
from fortress.errors import CertificateUnusable, PeerRejected
from fortress.pair import link
from fortress.pair.link import BUFFER_SIZE_BYTES, Link, close_with, dialing_context, listening_context
from fortress.pair.messages import MESSAGE_SIZE_BYTES_MAX, Leave, Mark, Message, Nack, SnapshotChunk
from tests.pair.nodes import BANK, certificates, files, until


class End:
    """One end of a connection: what it was told."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self.messages: list[Message] = []
        self.reasons: list[Exception | None] = []

    def make(self) -> Link:
        return Link(BANK, on_open=self._opened, on_message=self._said, on_lost=self._lost)

    def _opened(self, link: Link) -> None:
        self.link = link

    def _said(self, link: Link, message: Message) -> None:
        self.messages.append(message)

    def _lost(self, link: Link, reason: Exception | None) -> None:
        self.reasons.append(reason)


@asynccontextmanager
async def listening(end: End, folder: Path | None = None) -> AsyncIterator[int]:
    """Listen with a folder's certificate; give the port."""
    context = listening_context(*files(folder or certificates()))
    server = await asyncio.get_running_loop().create_server(end.make, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if end.link is not None:
            end.link.end()
            await until(lambda: end.reasons)


async def dial(end: End, port: int, folder: Path | None = None) -> None:
    """Connect with a folder's certificate."""
    context = dialing_context(*files(folder or certificates()))
    loop = asyncio.get_running_loop()
    await loop.create_connection(end.make, "127.0.0.1", port, ssl=context, server_hostname="127.0.0.1")


async def test_messages_arrive_whole_and_in_order() -> None:
    """Small ones together, and one that is larger than the buffer."""
    here, there = End(), End()
    async with listening(there) as port:
        await dial(here, port)
        assert here.link is not None
        sent: list[Message] = [Nack(1, "stale", Mark()), SnapshotChunk(1, "x", bytes(3 * BUFFER_SIZE_BYTES)), Leave(2)]
        for message in [*sent, *sent]:
            here.link.send(message)
        await until(lambda: len(there.messages) == 2 * len(sent))
        assert there.messages == [*sent, *sent]
        assert there.link is not None and there.link.is_open
        there.link.finish()
        await until(lambda: here.reasons)
        assert not here.link.is_open
        here.link.send(Leave(3))  # nobody is there, and nothing happens


async def test_a_slow_reader_is_waited_for() -> None:
    """Whoever asks waits while too much is on its way, and goes on when it has gone."""
    here, there = End(), End()
    async with listening(there) as port:
        await dial(here, port)
        assert here.link is not None
        for _ in range(16):
            here.link.send(SnapshotChunk(1, "x", bytes(1024 * 1024)))
        waiting = asyncio.create_task(here.link.wait_room())
        await until(lambda: len(there.messages) == 16)
        await waiting
        here.link.end()
        await until(lambda: here.reasons)


async def test_whoever_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for it has a limit, however small the messages are; the kernel has one in time."""
    monkeypatch.setattr(link, "SEND_BUFFER_BYTES_MAX", 1024 * 1024)
    here, there = End(), End()
    async with listening(there) as port:
        await dial(here, port)
        assert here.link is not None and here.link._transport is not None
        connection = here.link._transport.get_extra_info("socket")
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == link.UNTAKEN_MS_MAX
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == link.SILENT_S
        await until(lambda: there.link)
        assert there.link is not None and there.link._transport is not None
        there.link._transport.pause_reading()
        for _ in range(64):
            here.link.send(SnapshotChunk(1, "x", bytes(1024 * 1024)))
        await until(lambda: here.reasons)
        assert isinstance(here.reasons[0], PeerRejected) and not here.link.is_open


@pytest.mark.parametrize(
    "data",
    [b"\x00\x00\x00\x02\xc0\xc0", (MESSAGE_SIZE_BYTES_MAX + 1).to_bytes(4, "big"), b"GET / HTTP/1.1\r\n\r\n"],
    ids=["no message", "too large", "another protocol"],
)
async def test_garbage_ends_the_connection(data: bytes) -> None:
    """With the reason, and nothing of it is handed on."""
    there = End()
    async with listening(there) as port:
        context = dialing_context(*files(certificates()))
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(data)
        await until(lambda: there.reasons)
        assert isinstance(there.reasons[0], PeerRejected) and not there.messages
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_a_certificate_of_another_authority_is_refused_by_tls() -> None:
    """Not one message gets through."""
    here, there = End(), End()
    async with listening(there) as port:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await dial(here, port, certificates(authority="two"))
        assert there.link is None and not there.messages


async def test_a_certificate_of_another_bank_is_refused(tmp_path: Path) -> None:
    """Though the authority is the same."""
    make_authority(tmp_path / "ca", "shared")
    folders = []
    for bank in (BANK, "beta"):
        issue(tmp_path / bank, Kind.node, bank=bank, authority_folder=tmp_path / "ca")
        (tmp_path / bank / "ca.crt").write_bytes((tmp_path / "ca" / "ca.crt").read_bytes())
        folders.append(tmp_path / bank)
    here, there = End(), End()
    async with listening(there, folders[0]) as port:
        await dial(here, port, folders[1])
        await until(lambda: there.reasons)
        assert "beta" in str(there.reasons[0]) and there.link is None
        await until(lambda: here.reasons)


def test_a_missing_certificate_is_told(tmp_path: Path) -> None:
    """Before anything listens."""
    with pytest.raises(CertificateUnusable):
        listening_context(*files(tmp_path))


async def test_a_connection_whose_task_never_ran_is_closed() -> None:
    """A node that stops in the very turn in which somebody was accepted leaves no socket behind."""
    here, there = socket.socketpair()

    async def serve() -> None:
        raise AssertionError("it was cancelled before")

    task = asyncio.create_task(serve())
    close_with(task, here)
    task.cancel()
    await asyncio.wait([task])
    there.settimeout(5)
    assert there.recv(1) == b"" and here.fileno() == -1
    there.close()
