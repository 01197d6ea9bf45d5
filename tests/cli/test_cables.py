"""The cables of a demo: they carry, hold while they are cut, and listen only while the node at their end does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from fortress.cli.cables import Cable, Cables, _Line, cut, heal, is_cut, listening_ports
from fortress.cli.pairs import free_ports

DEADLINE_S = 10.0
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Far:
    """Who listens at the end of a cable, and answers with what came."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.accepted = 0
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._echo, "127.0.0.1", self.port)

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.append(writer)
        try:
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def die(self) -> None:
        """End as a killed process does."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)


@pytest.fixture
async def far() -> AsyncIterator[Far]:
    far = Far(free_ports(1)[0])
    await far.start()
    yield far
    await far.die()


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
async def line(far: Far, port: int, tmp_path: Path) -> AsyncIterator[_Line]:
    """The cable to ``far`` from ``port``; it looks when the test says so."""
    line = _Line(Cable(port, far.port, [tmp_path]))
    await line.look(listening_ports())
    yield line
    await line.end()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


async def close(stream: Stream) -> None:
    stream[1].close()
    with suppress(OSError):
        await stream[1].wait_closed()


async def said(stream: Stream, text: bytes) -> bytes:
    stream[1].write(text)
    return await asyncio.wait_for(stream[0].readexactly(len(text)), DEADLINE_S)


async def ended(stream: Stream) -> bool:
    """Tell whether the other side ends the connection without a word."""
    with suppress(ConnectionError):
        return await asyncio.wait_for(stream[0].read(1), DEADLINE_S) == b""
    return True


async def test_what_is_said_is_carried_both_ways(far: Far, port: int, tmp_path: Path) -> None:
    """Large things whole; from a thread of its own, which ends when it is told to."""
    cables = Cables([Cable(port, far.port, [tmp_path])])
    cables.start()
    await until(lambda: port in listening_ports())
    stream = await asyncio.open_connection("127.0.0.1", port)
    assert await said(stream, b"hello") == b"hello"
    assert await said(stream, bytes(300_000)) == bytes(300_000)
    await asyncio.to_thread(cables.stop)
    assert await ended(stream)
    await close(stream)
    assert port not in listening_ports()


async def test_a_cut_cable_is_silent_and_goes_on_when_healed(line: _Line, port: int, far: Far, tmp_path: Path) -> None:
    """Connections stay; who dials meanwhile hears nothing and is let go at the end."""
    stream = await asyncio.open_connection("127.0.0.1", port)
    assert await said(stream, b"before") == b"before"
    for _ in range(2):
        cut(tmp_path)
    assert is_cut(tmp_path)
    await line.look(listening_ports())
    stream[1].write(b"during")
    late = await asyncio.open_connection("127.0.0.1", port)
    late[1].write(b"late")
    for silent in (stream, late):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(silent[0].read(1), 0.05)
    for _ in range(2):
        heal(tmp_path)
    await line.look(listening_ports())
    assert await asyncio.wait_for(stream[0].readexactly(6), DEADLINE_S) == b"during"
    assert await ended(late) and far.accepted == 1
    await close(stream)
    await close(late)


async def test_a_node_that_is_gone_looks_gone(line: _Line, port: int, far: Far) -> None:
    """Its connections end, diallers are refused at once, and reach it again when it is back."""
    stream = await asyncio.open_connection("127.0.0.1", port)
    assert await said(stream, b"hello") == b"hello"
    await far.die()
    assert await ended(stream)
    await until(lambda: port not in listening_ports())
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await close(stream)
    await far.start()
    await line.look(listening_ports())
    again = await asyncio.open_connection("127.0.0.1", port)
    assert await said(again, b"again") == b"again"
    await close(again)


async def test_a_node_that_dies_behind_a_cut_is_not_heard_dying(
    line: _Line, port: int, far: Far, tmp_path: Path
) -> None:
    """Nothing comes through: neither its end nor a refusal."""
    stream = await asyncio.open_connection("127.0.0.1", port)
    assert await said(stream, b"hello") == b"hello"
    cut(tmp_path)
    await line.look(listening_ports())
    await far.die()
    await line.look(listening_ports())
    late = await asyncio.open_connection("127.0.0.1", port)
    for silent in (stream, late):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(silent[0].read(1), 0.05)
    heal(tmp_path)
    await line.look(listening_ports())
    assert await ended(stream) and await ended(late)
    assert port not in listening_ports()
    await close(stream)
    await close(late)
