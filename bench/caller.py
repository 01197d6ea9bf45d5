"""A caller: one connection of the load client, with as little Python for each request as the protocol allows.

The load client shares two processors with the node it loads, so what it spends on itself the node lacks. The whole
protocol is spoken: TLS 1.3 by OpenSSL, the sealed channel and its frames by the client's own protocol core, and the
client's trust. What is left out is what a person needs and a load does not: deadlines, retries, pushes, futures.

Requests made in one turn of the loop, or by the callbacks of one read, leave in one frame and one system call.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

from fortress.client.trust import Trust
from fortress.errors import OK, Busy, FortressError, OutcomeUnknown, StreamCut, Unreachable, error_from_wire
from fortress.protocol.connection import ClientConnection, State
from fortress.protocol.fields import PROTOCOL_VERSION, Refusal, Request
from fortress.protocol.messages import OPERATIONS, decode_answer_envelope, decode_fields, encode_request
from fortress.protocol.sessions import Hello

OUTSTANDING_MAX: Final = 1024
BUFFER_BYTES: Final = 256 * 1024
CLOSE_S_MAX: Final = 2.0
OnAnswer = Callable[[int, msgspec.Raw], object]

_LOST: Final = msgspec.Raw(msgspec.msgpack.encode(Refusal("the connection was lost")))
# shared by all callers: what is read is used up before the next read
_received: Final = memoryview(bytearray(BUFFER_BYTES))
_plain: Final = memoryview(bytearray(BUFFER_BYTES))


class Caller(asyncio.BufferedProtocol):
    """One connection; made by `call`."""

    _transport: asyncio.Transport

    def __init__(self, bank: str, trust: Trust) -> None:
        self._loop = asyncio.get_running_loop()
        self._core = ClientConnection(
            bank_id=bank,
            entropy=os.urandom(32),
            verify=lambda payload, static: trust.verify(bank, payload, static),
            now=self._loop.time(),
        )
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = trust.tls.wrap_bio(self._incoming, self._outgoing)
        self._queued: list[bytes] = []
        self._waiting: dict[int, OnAnswer] = {}
        self._last_id = 0
        self._is_flush_due = True  # until there is a connection
        self._is_tls_open = False
        self._is_open = False  # with the sealed channel inside
        self._fault: BaseException | None = None
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self._lost: asyncio.Future[None] = self._loop.create_future()

    @property
    def handshake_hash(self) -> bytes:
        """The 32 bytes that name this channel."""
        return self._core.handshake_hash

    def submit(self, operation: str, fields: Request, on_answer: OnAnswer) -> None:
        """Send a request and call back with the code and the undecoded fields.

        Raises:
            Busy: as many are outstanding as a node allows.
            Unreachable: the connection has ended.
        """
        waiting = self._waiting
        if self._fault is not None:
            raise Unreachable("the connection has ended")
        if len(waiting) >= OUTSTANDING_MAX:
            raise Busy
        request_id = self._last_id = self._last_id + 1
        self._queued.append(encode_request(request_id, operation, fields))
        waiting[request_id] = on_answer
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    async def request(self, operation: str, fields: Request, timeout_s: float) -> Any:
        """Send a request and give its answer, decoded.

        Raises:
            FortressError: what the bank answered, or the connection was lost.
        """
        future: asyncio.Future[tuple[int, msgspec.Raw]] = self._loop.create_future()
        self.submit(operation, fields, lambda code, raw: future.set_result((code, raw)))
        code, raw = await asyncio.wait_for(asyncio.shield(future), timeout_s)
        if code != OK:
            refusal = decode_fields(Refusal, raw)
            raise error_from_wire(code, refusal.message, refusal.facts)
        return decode_fields(OPERATIONS[operation].answer, raw)

    def login_done(self) -> None:
        """Say that the bank has accepted a login here."""
        self._core.login_done()

    async def close(self) -> None:
        """End in order, and wait for it a bounded time."""
        if self._fault is None:
            self._core.close()
            self._send(self._core.data_to_send())
            self._fault = Unreachable("the connection was closed")
            self._transport.close()
        await asyncio.wait([self._lost], timeout=CLOSE_S_MAX)

    # --- asyncio.BufferedProtocol -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._shake_hands()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _received

    def buffer_updated(self, nbytes: int) -> None:
        self._incoming.write(_received[:nbytes])
        if not self._is_tls_open:
            self._shake_hands()
        self._is_flush_due = True  # what the callbacks send leaves at the end
        try:
            while self._incoming.pending:
                opened = cast(int, self._tls.read(BUFFER_BYTES, _plain))
                if not opened:
                    break
                self._core.receive_data(_plain[:opened])
                waiting = self._waiting
                for message in self._core.messages_received():
                    envelope = decode_answer_envelope(message)
                    waiting.pop(envelope.request_id)(cast(int, envelope.code), envelope.fields)
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, FortressError, KeyError) as error:
            self._fault = self._fault or error
            self._transport.abort()
        if not self._is_open and self._core.state is State.login:
            self._is_open = True
            self.opened.set_result(None)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fault = self._fault or exc or StreamCut()
        waiting, self._waiting = self._waiting, {}
        for on_answer in waiting.values():
            on_answer(OutcomeUnknown.code, _LOST)
        if not self.opened.done():
            self.opened.set_exception(self._fault)
        if not self._lost.done():
            self._lost.set_result(None)

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._transport.write(self._outgoing.read())
            return
        except ssl.SSLError as error:
            self._fault = error
            self._transport.abort()
            return
        self._is_tls_open = True
        self._send(self._core.data_to_send())

    def _flush(self) -> None:
        self._is_flush_due = False
        queued = self._queued
        if queued and self._fault is None and self._is_open:
            self._queued = []
            self._send(self._core.send_messages(queued))

    def _send(self, data: bytes) -> None:
        self._tls.write(data)
        self._transport.write(self._outgoing.read())


async def call(endpoint: tuple[str, int], bank: str, trust: Trust, *, timeout_s: float) -> Caller:
    """Connect to a node and say hello.

    Raises:
        OSError: nobody listens there, or TLS fails.
        FortressError: it is not the bank.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        transport, caller = await loop.create_connection(lambda: Caller(bank, trust), *endpoint)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await caller.opened
        await caller.request("hello", Hello(versions=[PROTOCOL_VERSION], agent="bench"), timeout_s)
    return caller
