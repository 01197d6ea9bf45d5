"""The cables between the two nodes of each pair of a demo, which can be cut: forwarders of TCP on this machine.

Each node of a pair dials the other one through a cable. It is cut while a folder of the pair says so; then nothing gets
through, either way, and nobody is told: connections stay open and silent, as in a network that has come apart. Healed,
what was held goes on. Who dials while it is cut is let go at the end, and dials again.

A node that is gone must look gone: a cable takes connections only while the node at its end does, so a dialler is
refused exactly when the node itself would refuse. Which ports are listened on, the kernel says without being asked
again and again on the wire.

All run in one thread with a loop of its own, so that nothing else in the demo's process holds them up.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
LOOK_EVERY_S: Final = 0.05
CHUNK_BYTES: Final = 64 * 1024
CONNECTIONS_MAX: Final = 32
CUT_NAME: Final = "demo.cut"
CABLE_NAME: Final = "demo.cable"
SOCKETS: Final = Path("/proc/net/tcp")
LISTENING: Final = "0A"
STOP_S_MAX: Final = 5.0


def lay(folder: Path) -> None:
    """Note that the node of a folder dials the other one through a cable."""
    (folder / CABLE_NAME).touch()


def has_cable(folder: Path) -> bool:
    """Tell whether there is something to cut."""
    return (folder / CABLE_NAME).exists()


def cut(folder: Path) -> None:
    """Cut the cable of the pair that a folder of a demo belongs to; done twice is done once."""
    (folder / CUT_NAME).touch()


def heal(folder: Path) -> None:
    """Let it go on."""
    (folder / CUT_NAME).unlink(missing_ok=True)


def is_cut(folder: Path) -> bool:
    """Tell whether this folder's side was cut off."""
    return (folder / CUT_NAME).exists()


@dataclass(frozen=True, slots=True)
class Cable:
    """One way between the nodes of a pair: who dials ``port`` reaches ``target``, unless a folder says it is cut."""

    port: int
    target: int
    folders: Sequence[Path]


class Cables:
    """All cables of a demo, from :meth:`start` to :meth:`stop`.

    Args:
        cables: what they connect.
    """

    def __init__(self, cables: Sequence[Cable]) -> None:
        self._lines = [_Line(cable) for cable in cables]
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="cables", daemon=True)

    def start(self) -> None:
        """Begin; a cable listens as soon as the node at its end does."""
        self._thread.start()

    def stop(self) -> None:
        """End all connections; blocks for a moment."""
        self._is_ending.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_S_MAX)

    async def _run(self) -> None:
        while not self._is_ending.is_set():
            listening = listening_ports()
            for line in self._lines:
                await line.look(listening)
            await asyncio.sleep(LOOK_EVERY_S)
        for line in self._lines:
            await line.end()


class _Line:
    """One cable at work."""

    def __init__(self, cable: Cable) -> None:
        self._cable = cable
        self._server: asyncio.Server | None = None
        self._whole = asyncio.Event()
        self._whole.set()
        self._connections: set[asyncio.Task[None]] = set()

    async def look(self, listening: set[int]) -> None:
        """See whether it is cut, and whether there is somebody at its end."""
        if any(is_cut(folder) for folder in self._cable.folders):
            self._whole.clear()
        else:
            self._whole.set()
        if self._cable.target in listening:
            await self._open()
        elif self._whole.is_set():
            self._close()

    async def _open(self) -> None:
        if self._server is None:
            with suppress(OSError):  # somebody else has the port for a moment; the next look tries again
                self._server = await asyncio.start_server(self._accepted, HOST, self._cable.port)

    def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def end(self) -> None:
        """End everything."""
        self._close()
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)
        await asyncio.sleep(0)  # a transport that was aborted is closed in the next turn

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._connections.add(task)
        try:
            if self._whole.is_set():
                await self._carry(reader, writer)
            else:
                await self._whole.wait()
        except asyncio.CancelledError:
            pass  # the demo ends
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self._cable.target)
        except OSError:
            await self.look(listening_ports())
            return
        try:
            pumps = [
                asyncio.create_task(self._pump(reader, far_writer)),
                asyncio.create_task(self._pump(far_reader, writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                await self._whole.wait()  # an end is no more heard through a cut than anything else
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.wait(pumps)
        finally:
            far_writer.transport.abort()
        # who sees the connection end dials again at once, and must not be taken in for a node that is gone
        await self.look(listening_ports())

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._whole.wait()
                writer.write(data)
                await writer.drain()


def listening_ports() -> set[int]:
    """Give the ports of this machine on which somebody listens, over IPv4."""
    ports = set()
    for line in SOCKETS.read_text("ascii").splitlines()[1:]:
        _, local, _, state, *_ = line.split(None, 4)
        if state == LISTENING:
            ports.add(int(local.rpartition(":")[2], 16))
    return ports
