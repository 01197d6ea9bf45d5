"""The wire of a session: bytes in, messages out of them, queued answers written, time watched, the end made.

A thin shell over `ServerConnection`. All sessions of a loop share one read buffer: `buffer_updated` consumes it before
it returns, so nothing of it is needed between two calls, and an idle session holds no buffer of its own.

Answers are queued and leave together: those of one read pass at its end, those that come later when `Server.flush`
is called or, at the latest, in the next turn of the loop. Each such group is one frame and one write.

There is no timer per session; the server's sweep calls `on_time` about once a second.

A client that asks for another bank is handed to the relay, if there is one. Its session stays, so that the connection
goes on being counted and watched; what passes is no business of it any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, cast

from fortress.errors import FortressError, HandshakeFailed, StreamCut
from fortress.protocol.connection import ServerConnection, State
from fortress.protocol.frames import encode_frame
from fortress.protocol.messages import encode_error
from fortress.protocol.routes import Notice, Route
from fortress.server.gate import Gate
from fortress.server.login import LoginDesk
from fortress.server.logs import RequestLog, log_event
from fortress.server.ports import Ports, Relayed
from fortress.server.statistics import OperationCounter, Statistics, count_in
from fortress.server.tls import Tls

SLOW_READER_S: Final = 30.0
"""How long a peer may leave what it asked for unread."""
LINGER_S: Final = 2.0
"""How long an ended session waits for the peer to end its side, so that the last answer is not lost to a reset."""
WRITE_BUFFER_BYTES_MAX: Final = 64 * 1024
"""Bytes waiting to be written above which nothing more is read from the peer."""
CONNECTION_ERROR_ID: Final = 0
"""Request id of an error that concerns the connection and is its last message."""

logger = logging.getLogger(__name__)


class Row:
    """What one operation leads to: its counter and the function that takes (session, request id, request)."""

    __slots__ = ("counter", "handle")

    def __init__(self, counter: OperationCounter, handle: Callable[[Any, int, Any], None]) -> None:
        self.counter = counter
        self.handle = handle


Rows = Mapping[str, Row]


class Dispatching(Protocol):
    """What sessions need of `fortress.server.handlers.Dispatcher`."""

    rows_before_hello: Rows
    rows_before_login: Rows
    gate: Gate
    ports: Ports

    def rows_for(self, roles: frozenset[str]) -> Rows:
        """Give what a signed-in session with these roles may ask."""

    def dispatch(self, session: Any, message: bytes) -> None:
        """Hand one message to its handler."""

    def start(self, function: Callable[..., Any], session: Any, request_id: int, request: Any) -> None:
        """Go on with a request in a task."""


class Host(Protocol):
    """What sessions need of `fortress.server.server.Server`."""

    buffer: memoryview
    dispatcher: Dispatching
    statistics: Statistics
    request_log: RequestLog
    desk: LoginDesk
    idle_s: float
    handshake_s: float
    outstanding_max: int
    send_buffer_bytes_max: int
    push_rows_max: int

    def now(self) -> float:
        """Give the loop's time in seconds."""

    def open_core(self) -> ServerConnection:
        """Make the protocol core of a new connection."""

    def mark(self, session: Any) -> None:
        """Flush this session soon."""

    def signed_in(self, session: Any) -> None:
        """List this session under its customer."""

    def welcome(self, session: Any) -> None:
        """TLS stands."""

    def forget(self, session: Any) -> None:
        """The connection is gone."""


class Wire(asyncio.BufferedProtocol):
    """One connection's bytes; `fortress.server.session.Session` adds who is there and what they ask.

    Args:
        host: the server.
        address: the peer's, without port.
        network: what limits count it under.

    Attributes:
        version: of the protocol, 0 before hello.
        session_id: 16 random bytes, empty before the login; stays the same over `resume`.
        rows: what may be asked now.
        waiting: requests that wait for their answers, by id, with the time of their arrival.
        is_draining: whether this session takes nothing new and ends once what waits is answered.
    """

    __slots__ = (
        *("address", "is_draining", "network", "rows", "session_id", "version", "waiting"),
        *("_begun_s", "_blocked_s", "_buffer", "_connection", "_ending_s", "_gate", "_heard_s", "_host"),
        *("_is_heard", "_is_marked", "_is_read_paused", "_out", "_pushes_blocked", "_relayed", "_statistics"),
        "_transport",
    )

    # made once TLS stands: a peer that never gets there costs no key pair
    _connection: ServerConnection

    def __init__(self, host: Host, *, address: str, network: str) -> None:
        self._host = host
        self._statistics = host.statistics
        self._buffer = host.buffer
        self._gate = host.dispatcher.gate
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._is_marked = False
        self._is_heard = False  # since the last look at the clock, which `on_time` takes
        self._is_read_paused = False
        self._begun_s = self._heard_s = host.now()
        self._blocked_s = 0.0
        self._ending_s = 0.0
        self._pushes_blocked = 0
        self._relayed: Relayed | None = None
        self.address = address
        self.network = network
        self.version = 0
        self.session_id = b""
        self.rows = host.dispatcher.rows_before_hello
        self.waiting: dict[int, tuple[Row, int]] = {}
        self.is_draining = False

    @property
    def handshake_hash(self) -> bytes:
        """What a login proof is bound to."""
        return self._connection.handshake_hash

    @property
    def is_open(self) -> bool:
        """Whether answers and pushes can still reach the peer."""
        return self._transport is not None and not self._ending_s

    def flush(self) -> None:
        """Write what is queued, in one frame if it fits."""
        self._is_marked = False
        out = self._out
        if not out or self._transport is None:
            return
        self._out = []
        if not self._ending_s:
            try:
                data = self._connection.send_messages(out)
            except FortressError as error:  # too large, or the core has closed: the peer cannot be told
                self._abort("unsendable", error)
                return
            self._write(data)
            if self.is_draining or self._connection.peer_closed:
                self._close_when_answered()

    def end(self, error: FortressError, reason: str) -> None:
        """End the session in order: what is queued, then why, then the closing piece."""
        if self._transport is None or self._ending_s:
            return
        self._log_end(reason, error)
        try:
            for data in (*self._out, encode_error(CONNECTION_ERROR_ID, error)):
                self._connection.send_message(data)
        except FortressError:
            self._transport.abort()
            return
        self._close()

    def finish(self) -> None:
        """End the session in order without an error, once what waits is answered."""
        if self._relayed is not None:
            self._relayed.finish()
            return
        self.is_draining = True
        self.rows = {}
        self.flush()
        self._close_when_answered()

    def kill(self) -> None:
        """End at once, whatever waits."""
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.BufferedProtocol -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio's class and not its name
        self._transport = stream = cast(asyncio.Transport, transport)
        self._connection = self._host.open_core()
        self._host.welcome(self)
        stream.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        connection = self._connection
        self._statistics.bytes_received += nbytes
        self._is_heard = True
        self._is_marked = True  # all that is answered in this pass leaves at its end
        fault: FortressError | None = None
        try:
            connection.receive_data(self._buffer[:nbytes])
        except FortressError as error:
            fault = error
        if not self._ending_s:
            dispatch = self._host.dispatcher.dispatch
            for message in connection.messages_received():
                dispatch(self, message)
        if fault is not None:
            self._end_by(fault)
        if not self.version:
            self._write(connection.data_to_send())  # the answer of the handshake is in no queue
        self.flush()
        if connection.peer_closed:
            self._on_peer_closed()

    def eof_received(self) -> None:
        try:
            self._connection.receive_eof()
        except StreamCut as error:
            self._log_end("stream_cut", error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._out = []
        self._host.forget(self)

    def pause_writing(self) -> None:
        self._blocked_s = self._host.now()
        if self._transport is not None and not self._is_read_paused:
            self._is_read_paused = True
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._blocked_s = 0.0
        self._pushes_blocked = 0
        if self._is_read_paused:
            self._is_read_paused = False
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    # --- time -------------------------------------------------------------------------------------------------------

    def on_time(self, now: float) -> None:
        """End the session if something has lasted too long; called about once a second."""
        if self._relayed is not None:
            self._relayed.on_time(now)
        elif self._ending_s:
            if now - self._ending_s > LINGER_S:
                self.kill()
        elif self._connection.state in (State.handshake, State.login):
            if now - self._begun_s > self._host.handshake_s:
                self.end(HandshakeFailed("handshake and login took too long"), "login_deadline")
        elif self._blocked_s:
            if now - self._blocked_s > SLOW_READER_S:
                self._abort("slow_reader")
        elif self._is_heard:
            self._is_heard, self._heard_s = False, now
        elif now - self._heard_s > self._host.idle_s and not self.waiting:
            self._log_end("idle")
            self.finish()

    # --- the end ----------------------------------------------------------------------------------------------------

    def _end_by(self, fault: FortressError) -> None:
        if self._connection.elsewhere is not None:
            self._send_elsewhere(self._connection.elsewhere)
        elif self._connection.state is State.failed:
            self._abort(type(fault).__name__, fault)
        else:
            self.end(fault, type(fault).__name__)

    def _send_elsewhere(self, route: Route) -> None:
        """Hand the connection to the relay, or tell the client why not and end it."""
        transport = self._transport
        if transport is None or self._ending_s:
            return
        relay, taken = self._host.dispatcher.ports.relay, None
        data, self._connection.unread = self._connection.unread, b""
        if relay is not None:
            taken = relay.take(self, cast(Tls, transport), route, data)
        if taken is None or isinstance(taken, Notice):
            notice = taken or Notice.bank_unknown
            self._ending_s = self._host.now()
            self._log_end(notice.value)
            self._write(encode_frame(notice.encode()))
            transport.close()
        else:
            self._relayed = taken

    def _on_peer_closed(self) -> None:
        if self._ending_s:
            if self._transport is not None:
                self._transport.close()
        else:
            self.finish()

    def _close_when_answered(self) -> None:
        if not self.waiting and not self._ending_s:
            self._close()

    def _close(self) -> None:
        self._ending_s = self._host.now()
        self._out = []
        self._connection.close()
        self._write(self._connection.data_to_send())
        if self._connection.state is State.closed and self._transport is not None:
            self._transport.close()

    def _abort(self, reason: str, error: FortressError | None = None) -> None:
        self._log_end(reason, error)
        self.kill()

    def _log_end(self, reason: str, error: FortressError | None = None) -> None:
        count_in(self._host.statistics.sessions_ended, reason)
        log_event(
            *(logger, logging.INFO, "connection ended"),
            reason=reason,
            address=self.address,
            session=self.session_id[:4].hex(),
            detail=error.message if error is not None else None,
        )

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if not data or transport is None:
            return
        self._statistics.bytes_sent += len(data)
        transport.write(data)
        if self._blocked_s and transport.get_write_buffer_size() > self._host.send_buffer_bytes_max:
            self._abort("send_buffer_full")
