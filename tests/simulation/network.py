"""A network in one thread: connections that deliver late, stall, break, are refused, and hosts that do not answer.

What is sent on a connection arrives in order, in pieces; while a direction is cut it is held, as TCP would send it
again, and arrives some time after the cut has ended. A process that dies leaves its host's kernel behind, which ends
its connections; a host that dies tells nobody. A paused process's kernel goes on to take connections, without a word
from the process itself.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

from tests.simulation.loop import Process, Time

MS = 1_000_000
SYN_AGAIN_NS = 1_000 * MS


class Network:
    """Hosts by name, and what stands between them.

    Attributes:
        delay_us: mean of a message's way.
        certificate: what every node shows, DER.
    """

    def __init__(self, time: Time, chance: random.Random, certificate: bytes) -> None:
        self.time = time
        self.chance = chance
        self.certificate = certificate
        self.delay_us = 150.0
        self.connections: list[Connection] = []
        self._cut: set[tuple[str, str]] = set()
        self._down: set[str] = set()
        self._listening: dict[str, Listener] = {}

    def delay_ns(self) -> int:
        """Draw how long a message takes; a few take very long."""
        scale = self.delay_us * (40 if self.chance.random() < 0.01 else 1)
        return 20_000 + int(self.chance.expovariate(1 / scale) * 1000)

    # --- What fails ----
    def cut(self, sender: str, receiver: str) -> None:
        """Let nothing pass in one direction."""
        self._cut.add((sender, receiver))

    def heal(self, sender: str, receiver: str) -> None:
        """Let what was held pass again, a while later."""
        self._cut.discard((sender, receiver))
        wait_ns = int(self.chance.random() ** 2 * 1_000 * MS)
        for connection in self.connections:
            for path in connection.paths:
                if path.way == (sender, receiver):
                    path.resume(wait_ns)

    def is_cut(self, sender: str, receiver: str) -> bool:
        return (sender, receiver) in self._cut

    def host_down(self, host: str) -> None:
        """A host that is off takes and tells nothing."""
        self._down.add(host)
        for address in [address for address in self._listening if address.rpartition(":")[0] == host]:
            del self._listening[address]

    def host_up(self, host: str) -> None:
        self._down.discard(host)

    def is_up(self, host: str) -> bool:
        return host not in self._down

    def reset_all(self) -> None:
        """Something on the way ends every connection."""
        for connection in list(self.connections):
            for path in connection.paths:
                path.send(path.reader.lost, ConnectionResetError("reset on the way"))

    def process_ended(self, process: Process) -> None:
        """Do what the kernel does for a process that is no more."""
        for address in [address for address, found in self._listening.items() if found.process is process]:
            del self._listening[address]
        is_reset = self.chance.random() < 0.5
        for connection in list(self.connections):
            for end in connection.ends:
                if end is not None and end.process is process and not end.is_over:
                    end.is_over = True
                    reason = ConnectionResetError("the process is gone") if is_reset else None
                    if end.other is not None and self.is_up(end.host):
                        end.path.send(end.other.lost, reason)

    # --- Messages without a connection ----
    def send(self, sender: str, receiver: str, act: Callable[[], object], *, is_held: bool = False) -> None:
        """Have something done at the receiver's, unless it is lost on the way; ``is_held``: a cut only delays it."""
        if self.is_cut(sender, receiver):
            if is_held:
                self.time.at(50 * MS, lambda: self.send(sender, receiver, act, is_held=True))
            return
        self.time.at(self.delay_ns(), lambda: act() if self.is_up(receiver) else None)

    # --- Connections ----
    def listen(self, address: str, process: Process) -> Listener:
        """Take connections from now on."""
        if address in self._listening:
            raise OSError(98, "Address already in use")
        found = self._listening[address] = Listener(self, address, process)
        return found

    def unlisten(self, address: str) -> None:
        self._listening.pop(address, None)

    def dial(self, process: Process, address: str, make: Callable[[], Any], *, is_tls: bool) -> asyncio.Future[Any]:
        """Connect; the future gives transport and protocol."""
        future = process.create_future()
        sender, receiver = process.host, address.rpartition(":")[0]

        def knock() -> None:
            if future.done() or process.is_dead:
                return
            if self.is_cut(sender, receiver) or not self.is_up(receiver):
                self.time.at(SYN_AGAIN_NS, knock)
                return
            self.time.at(self.delay_ns(), arrived)

        def arrived() -> None:
            if self.is_cut(receiver, sender) or not self.is_up(receiver):
                self.time.at(SYN_AGAIN_NS, knock)
            elif address not in self._listening:
                self.time.at(self.delay_ns(), lambda: self._refuse(process, future))
            else:
                Connection(self, process, future, make, receiver, self._listening[address], is_tls=is_tls)

        self.time.at(0, knock)
        return future

    def _refuse(self, process: Process, future: asyncio.Future[Any]) -> None:
        def refuse() -> None:
            if not future.done():
                future.set_exception(ConnectionRefusedError(111, "refused"))

        if not process.is_dead:
            process.call_soon(refuse)


class Listener:
    """A listening socket; the kernel takes connections whether its process runs or not."""

    def __init__(self, network: Network, address: str, process: Process) -> None:
        self.process = process
        self._network = network
        self._address = address
        self._taken: deque[End] = deque()
        self._is_open = True
        self.on_readable: Callable[[], None] | None = None

    def take(self, end: End) -> None:
        self._taken.append(end)
        self.process.call_soon(self.look)

    def look(self) -> None:
        """Call the reader for as long as somebody waits, as a loop does that polls."""
        if self._taken and self.on_readable is not None:
            self.process.call_soon(self.look)
            self.on_readable()

    def accept(self) -> tuple[End, tuple[str, int]]:
        if not self._taken:
            raise BlockingIOError
        return self._taken.popleft(), ("somewhere", 0)

    def fileno(self) -> int:
        return 0 if self._is_open else -1

    def getsockname(self) -> tuple[str, int]:
        host, _, port = self._address.rpartition(":")
        return host, int(port)

    def setblocking(self, is_blocking: bool) -> None:
        pass

    def close(self) -> None:
        self._is_open = False
        self._network.unlisten(self._address)
        for end in self._taken:
            end.close()


class Path:
    """One direction of a connection; keeps the order.

    Attributes:
        way: sender and receiver.
        reader: the end that gets what is sent.
    """

    def __init__(self, network: Network, sender: str, receiver: str) -> None:
        self.way = (sender, receiver)
        self.reader: End
        self._network = network
        self._held: list[tuple[int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = count()
        self._last_ns = 0

    def send(self, act: Callable[..., None], *arguments: Any) -> None:
        """Have the reading side do something, in order, after some time."""
        item = (next(self._number), act, arguments)
        if self._held or self._network.is_cut(*self.way):
            self._held.append(item)
        else:
            self._later(self._network.delay_ns(), item)

    def resume(self, wait_ns: int) -> None:
        held, self._held = self._held, []
        # what was on its way when the cut came was held later than what was sent after it
        for item in sorted(held, key=lambda item: item[0]):
            self._later(wait_ns + self._network.delay_ns(), item)

    def _later(self, delay_ns: int, item: tuple[int, Callable[..., None], tuple[Any, ...]]) -> None:
        time = self._network.time
        self._last_ns = max(self._last_ns + 1, time.now_ns + delay_ns)
        time.at(self._last_ns - time.now_ns, lambda: self._arrive(item))

    def _arrive(self, item: tuple[int, Callable[..., None], tuple[Any, ...]]) -> None:
        if self._network.is_cut(*self.way):
            self._held.append(item)
        elif self._network.is_up(self.way[1]):
            item[1](*item[2])


class Connection:
    """Two ends and two paths; begins where the listening host's kernel has taken it."""

    def __init__(
        self,
        network: Network,
        dialer: Process,
        future: asyncio.Future[Any],
        make: Callable[[], Any],
        receiver: str,
        listener: Listener,
        *,
        is_tls: bool,
    ) -> None:
        there = Path(network, dialer.host, receiver)
        back = Path(network, receiver, dialer.host)
        self.paths = (there, back)
        near = End(network, self, dialer, there, is_tls)
        far = End(network, self, listener.process, back, is_tls)
        near.other, far.other = far, near
        there.reader, back.reader = far, near
        self.ends = (near, far)
        network.connections.append(self)

        def made() -> None:
            if future.done():
                near.abort()
                return
            if is_tls:
                there.send(far.run, far.shaken)
            protocol = make()
            near.open(protocol)
            future.set_result((near, protocol))

        def taken() -> None:
            if is_tls:
                there.send(far.run, lambda: far.greeted(made))
            else:
                near.run(made)

        listener.take(far)
        back.send(taken)


class End(asyncio.Transport):
    """One end of a connection, as asyncio shows it."""

    def __init__(self, network: Network, connection: Connection, process: Process, path: Path, is_tls: bool) -> None:
        super().__init__()
        self.process = process
        self.host = process.host
        self.path = path
        self.other: End | None = None
        self.is_over = False
        self._network = network
        self._connection = connection
        self._is_tls = is_tls
        self._protocol: Any = None
        self._is_closing = False
        self._high = 64 * 1024
        self._is_paused = False
        self._is_reading = True
        self._held: list[bytes] = []
        self._on_way = 0
        self._handshake: asyncio.Future[None] | None = None
        self._make: Callable[[], Any] | None = None
        self._reply: Callable[[], None] | None = None

    # --- TLS, as the side that listens sees it ----
    async def shake_hands(self, make: Callable[[], Any], wait_s: float) -> None:
        """Answer the other side's greeting, and open once it has shown its certificate."""
        if self.is_over:
            raise ConnectionResetError("the other side is gone")
        self._handshake, self._make = self.process.create_future(), make
        if self._reply is not None:
            self.greeted(self._reply)
        try:
            async with asyncio.timeout(wait_s):
                await self._handshake
        except TimeoutError:
            self.abort()
            raise ConnectionAbortedError("the handshake took too long") from None
        finally:
            self._make = None

    def greeted(self, reply: Callable[[], None]) -> None:
        self._reply = reply
        if self._make is not None:
            assert self.other is not None
            self.path.send(self.other.run, reply)

    def shaken(self) -> None:
        if self._make is not None and self._handshake is not None and not self._handshake.done():
            self.open(self._make())
            self._handshake.set_result(None)

    # --- As the network sees it ----
    def run(self, act: Callable[[], None]) -> None:
        """Have the process do something, unless it is gone or has left."""
        if self.is_over or self.process.is_dead:
            if self.other is not None and not self.other.is_over and not self.process.is_dead:
                self.path.send(self.other.lost, ConnectionResetError("nobody is there"))
            elif self.other is not None and not self.other.is_over and self._network.is_up(self.host):
                self.path.send(self.other.lost, ConnectionResetError("the process is no more"))
            return
        self.process.call_soon(act)

    def open(self, protocol: Any) -> None:
        if self.is_over:
            return
        self._protocol = protocol
        protocol.connection_made(self)

    def lost(self, reason: Exception | None) -> None:
        """Let the process know that the connection has ended."""
        if not self.process.is_dead and not self.is_over:
            self.process.call_soon(self._end, reason)

    def arrived(self, data: bytes) -> None:
        other = self.other
        assert other is not None
        if not self._is_reading:
            self._held.append(data)
            return
        if not other.is_over and not other.process.is_dead:
            other.process.call_soon(other._sent, len(data))
        self.run(lambda: self._take(data))

    def _take(self, data: bytes) -> None:
        if self.is_over or self._is_closing or self._protocol is None:
            return
        rest = memoryview(data)
        while rest and not self.is_over:
            buffer = self._protocol.get_buffer(len(rest))
            size = min(len(buffer), len(rest))
            buffer[:size] = rest[:size]
            del buffer
            self._protocol.buffer_updated(size)
            rest = rest[size:]

    def _sent(self, size: int) -> None:
        self._on_way -= size
        if self._is_paused and self._on_way <= self._high // 4 and not self.is_over:
            self._is_paused = False
            self._protocol.resume_writing()

    def _end(self, reason: Exception | None) -> None:
        if self.is_over:
            return
        self.is_over = True
        self._is_closing = True
        if all(end.is_over or end.process.is_dead for end in self._connection.ends):
            if self._connection in self._network.connections:
                self._network.connections.remove(self._connection)
        if self._handshake is not None and not self._handshake.done():
            self._handshake.set_exception(ConnectionResetError("the other side is gone"))
        if self._protocol is not None:
            self._protocol.connection_lost(reason)

    # --- As the process sees it ----
    def write(self, data: Any) -> None:
        if self._is_closing or self.is_over:
            return
        other, data = self.other, bytes(data)
        assert other is not None
        chance = self._network.chance
        place = chance.randrange(len(data)) if chance.random() < 0.05 else 0
        for piece in (data[:place], data[place:]):
            if piece:
                self._on_way += len(piece)
                self.path.send(other.arrived, piece)
        if self._on_way > self._high and not self._is_paused:
            self._is_paused = True
            self._protocol.pause_writing()

    def close(self) -> None:
        if self._is_closing or self.is_over:
            return
        self._is_closing = True
        assert self.other is not None
        self.path.send(self.other.lost, None)
        self.process.call_later(0.001, self._end, None)

    def abort(self) -> None:
        if self.is_over or self.process.is_dead:
            return
        self._is_closing = True
        assert self.other is not None
        self.path.send(self.other.lost, ConnectionResetError("aborted"))
        self.process.call_soon(self._end, None)

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        held, self._held, self._is_reading = self._held, [], True
        for data in held:
            self.arrived(data)

    def is_closing(self) -> bool:
        return self._is_closing

    def setblocking(self, is_blocking: bool) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = high or self._high

    def get_write_buffer_size(self) -> int:
        return self._on_way

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "ssl_object" and self._is_tls else default

    def getpeercert(self, binary_form: bool = False) -> bytes:
        return self._network.certificate


class NodeProcess(Process):
    """A process of a node on a host of the network."""

    def __init__(self, time: Time, network: Network, host: str, **clock: Any) -> None:
        super().__init__(time, host, **clock)
        self.host = host
        self._network = network

    async def create_connection(self, factory: Any, host: Any = None, port: Any = None, **more: Any) -> Any:
        dialing = self._network.dial(self, f"{host}:{port}", factory, is_tls=more.get("ssl") is not None)
        return await dialing

    def add_reader(self, listener: Any, callback: Any, *_: Any) -> None:
        listener.on_readable = callback
        self.call_soon(listener.look)

    def remove_reader(self, listener: Any) -> bool:
        was, listener.on_readable = listener.on_readable, None
        return was is not None

    async def connect_accepted_socket(self, factory: Any, sock: Any, **more: Any) -> Any:
        await sock.shake_hands(factory, more["ssl_handshake_timeout"])


class Sockets:
    """In place of the module ``socket`` in the node's code."""

    AF_INET, AF_INET6 = socket.AF_INET, socket.AF_INET6
    socket = socket.socket

    def __init__(self, network: Network) -> None:
        self._network = network

    def create_server(self, address: tuple[str, int], **_: Any) -> Listener:
        """Listen, as the process that runs."""
        return self._network.listen(f"{address[0]}:{address[1]}", self._network.time.clock())
