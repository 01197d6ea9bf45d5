"""TLS of one connection: OpenSSL works in memory, between the loop's plain TCP transport and a session.

The loop's own TLS asks OpenSSL for more after every record and pays an exception for "there is none", and goes through
layers made for any protocol. Here one read of the socket is one pass: as long as ciphertext is left, records are opened
into the session's buffer, and each write is sealed and handed to TCP at once. That saves a node 2.5 of the 15 µs of
CPU that an echo costs.

    shaking hands   until OpenSSL says the handshake is done; a time limit ends it
    open            bytes go both ways
    closing         this side has said goodbye (close_notify) and waits a bounded time for the other's
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast

RECORD_BYTES_MAX: Final = 16 * 1024
"""Plaintext of one TLS record (RFC 8446, 5.1)."""
RECEIVED_BYTES_MAX: Final = 64 * 1024
CLOSE_S_MAX: Final = 2.0
"""How long a closing connection waits for the other side's goodbye."""

_received: Final = memoryview(bytearray(RECEIVED_BYTES_MAX))
# Shared by all connections: `buffer_updated` consumes it before it returns, so an idle connection holds no buffer.


class Tls(asyncio.BufferedProtocol):
    """The server's side of TLS on one connection; to its session it is the transport.

    The session's `get_buffer` is asked once and must have room for a record; `buffer_updated`, `eof_received`,
    `pause_writing`, `resume_writing` and `connection_lost` reach it as from asyncio, once `connection_made` has.

    Args:
        context: server side, TLS 1.3.
        session: hears of the connection once the handshake is done.
        handshake_s: how long that may take.
        on_settled: called once, with this and why the handshake failed; empty when it is done, just before the session
            hears of the connection.
    """

    __slots__ = (
        *("_alarm", "_feed", "_incoming", "_is_closing", "_is_open", "_object", "_on_settled", "_outgoing"),
        *("_plain", "_seal", "_session", "_take", "_transport", "_write"),
    )

    _transport: asyncio.Transport
    _plain: memoryview

    def __init__(
        self,
        context: ssl.SSLContext,
        session: asyncio.BufferedProtocol,
        *,
        handshake_s: float,
        on_settled: Callable[[Tls, str], object],
    ) -> None:
        self._session = session
        self._on_settled: Callable[[Tls, str], object] | None = on_settled
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._feed = self._incoming.write
        self._seal = self._object.write
        self._take = self._outgoing.read
        self._is_open = False
        self._is_closing = False
        loop = asyncio.get_running_loop()
        self._alarm: asyncio.TimerHandle | None = loop.call_later(handshake_s, self._give_up, "timeout")

    # --- what TCP says ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio's class and not its name
        self._transport = cast(asyncio.Transport, transport)
        self._write = self._transport.write
        if self._on_settled is None:  # given up before it began
            self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _received

    def buffer_updated(self, nbytes: int) -> None:
        self._feed(_received[:nbytes])
        if self._is_closing:
            self._say_goodbye()
        elif self._is_open or self._shake_hands():
            self._read()

    def eof_received(self) -> None:
        if self._is_open:
            self._session.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._settle("lost")
        if self._is_open:
            self._is_open = False
            self._session.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._is_open:
            self._session.pause_writing()

    def resume_writing(self) -> None:
        if self._is_open:
            self._session.resume_writing()

    # --- what the session says --------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Seal and send; after `close` nothing is sent any more."""
        if not self._is_closing:
            self._seal(data)  # whole: memory has always room
            self._write(self._take())

    def close(self) -> None:
        """Say goodbye, wait for the other side's a bounded time, and end the connection; what was written is sent."""
        if not self._is_closing:
            self._is_closing = True
            self._alarm = asyncio.get_running_loop().call_later(CLOSE_S_MAX, self._transport.abort)
            self._say_goodbye()

    def abort(self) -> None:
        """End the connection at once; what was not sent is lost."""
        self._is_closing = True
        self._settle("aborted")
        if hasattr(self, "_transport"):
            self._transport.abort()

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called, or TCP has ended."""
        return self._is_closing or self._transport.is_closing()

    def pause_reading(self) -> None:
        """Take nothing more from the socket; what was taken already is still given."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take up reading again."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def hand_over(self, session: asyncio.BufferedProtocol) -> None:
        """Give what comes from now on, and the news of the end, to somebody else; the buffer as from the first one."""
        self._session = session
        self._plain = memoryview(session.get_buffer(-1))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set how many sealed bytes may wait before the session is told to pause."""
        self._transport.set_write_buffer_limits(high=high, low=low)

    def get_write_buffer_size(self) -> int:
        """Give how many sealed bytes wait."""
        return self._transport.get_write_buffer_size()

    # --- TLS --------------------------------------------------------------------------------------------------------

    def _shake_hands(self) -> bool:
        """Take the next step of the handshake; True when that was the last."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            self._send_waiting()
            return False
        except ssl.SSLError as error:
            self._send_waiting()  # the alert that says why
            self._give_up(error.reason or "ssl")
            return False
        self._send_waiting()
        self._is_open = True
        self._settle("")
        self._plain = memoryview(self._session.get_buffer(-1))
        self._session.connection_made(cast(asyncio.BaseTransport, self))
        return True

    def _read(self) -> None:
        incoming, plain = self._incoming, self._plain
        is_ended = False
        count = 0
        try:
            # One look more than needed costs an exception, 1.5 µs: ciphertext that is left, and not OpenSSL, says
            # whether there is more. What is left of a record that has not come whole lies with OpenSSL already.
            while incoming.pending:
                room = len(plain) - count
                if room < RECORD_BYTES_MAX:
                    self._session.buffer_updated(count)
                    if self._is_closing:
                        return
                    plain = self._plain  # that of another one, if the connection was handed over
                    count, room = 0, len(plain)
                # with a buffer it gives a count, which its annotation does not say
                opened = cast(int, self._object.read(room, plain[count:] if count else plain))
                if not opened:
                    is_ended = True
                    break
                count += opened
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:  # a record was changed, or breaks the protocol; what came before it was whole
            is_ended = True
        if count:
            self._session.buffer_updated(count)
        if is_ended and not self._is_closing:
            self._session.eof_received()
            self.close()

    def _say_goodbye(self) -> None:
        try:
            self._object.unwrap()
        except ssl.SSLWantReadError:
            self._send_waiting()
            return
        except ssl.SSLError:  # it goes on talking, or what it says is broken: there is nothing to wait for
            pass
        self._send_waiting()
        self._transport.close()

    def _send_waiting(self) -> None:
        if self._outgoing.pending:
            self._write(self._take())

    def _give_up(self, reason: str) -> None:
        self._settle(reason)
        if hasattr(self, "_transport"):
            self._transport.close()

    def _settle(self, reason: str) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        on_settled, self._on_settled = self._on_settled, None
        if on_settled is not None:
            on_settled(self, reason)
