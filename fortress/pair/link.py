"""One connection between two nodes: whole messages both ways, over TLS with both certificates checked.

Four bytes of length, then a message. A length over the limit, bytes that are no message, or a certificate that will
not do end the connection with the error that the :class:`Dialect` names; nothing of what came after is looked at.
:class:`Wire` speaks any dialect, :class:`Link` that of the two nodes of a bank (:mod:`.messages`).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar, cast

import msgspec
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fortress.errors import CertificateUnusable, FortressError, PeerRejected
from fortress.pair.messages import MESSAGE_SIZE_BYTES_MAX, Message, decode, encode

BANK_URI_PREFIX: Final = "urn:fortress:bank:"
BUFFER_SIZE_BYTES: Final = 256 * 1024
SEND_BUFFER_BYTES_HIGH: Final = 4 * 1024 * 1024
SEND_BUFFER_BYTES_MAX: Final = 128 * 1024 * 1024
"""Whoever sends respects windows far below; but heartbeats to a process that stands still add up for days."""
UNTAKEN_MS_MAX: Final = 15_000
"""A machine that takes nothing for so long is given up; left to itself TCP tries for a quarter of an hour, ever less
often, and would notice late that a cut is over."""
SILENT_S: Final = 5
"""Whoever says nothing for so long is asked whether the machine is there; then the limit above counts."""
_LENGTH = struct.Struct(">I")


Said = TypeVar("Said")


@dataclass(frozen=True, slots=True)
class Dialect(Generic[Said]):
    """What is spoken on a connection.

    Attributes:
        encode: makes the bytes of a message.
        decode: reads them; raises msgspec's errors.
        size_bytes_max: of one message.
        error: what the connection ends with when the other side breaks the rules.
    """

    encode: Callable[[Said], bytes]
    decode: Callable[[memoryview], Said]
    size_bytes_max: int
    error: type[FortressError]


PAIR: Final[Dialect[Message]] = Dialect(encode, decode, MESSAGE_SIZE_BYTES_MAX, PeerRejected)


class Wire(asyncio.BufferedProtocol, Generic[Said]):
    """A connection to another node.

    Args:
        dialect: what is spoken.
        check: looks at the other side's certificate, whose chain TLS has checked; raises the dialect's error.
        on_open: called once the certificate was checked.
        on_message: called with each message, in order; the dialect's error, raised by it, ends the connection.
        on_lost: called once, when the connection has ended, with the reason if there is one.
    """

    def __init__(
        self,
        dialect: Dialect[Said],
        *,
        check: Callable[[ssl.SSLObject], None],
        on_open: Callable[[], None],
        on_message: Callable[[Said], None],
        on_lost: Callable[[Exception | None], None],
    ) -> None:
        self._dialect = dialect
        self._check = check
        self._on_open = on_open
        self._on_message = on_message
        self._on_lost = on_lost
        self._buffer = bytearray(BUFFER_SIZE_BYTES)
        self._start = 0
        self._end = 0
        self._transport: asyncio.Transport | None = None
        self._failure: Exception | None = None
        self._room = asyncio.Event()
        self._room.set()

    @property
    def is_open(self) -> bool:
        """True while messages can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    # --- What asyncio calls ----
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Check who is there."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES_HIGH)
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNTAKEN_MS_MAX)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENT_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENT_S)
        try:
            self._check(transport.get_extra_info("ssl_object"))
        except self._dialect.error as error:
            self.end(error)
            return
        self._on_open()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Give room for what arrives next."""
        if self._end == len(self._buffer):
            self._make_room()
        return memoryview(self._buffer)[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take out every message that is whole."""
        self._end += nbytes
        try:
            while self.is_open and (message := self._next()) is not None:
                self._on_message(message)
        except self._dialect.error as error:
            self.end(error)
        if self._start == self._end:
            self._start = self._end = 0

    def eof_received(self) -> bool:
        """The other side has ended; so does this one."""
        return False

    def pause_writing(self) -> None:
        """The other side is slow."""
        self._room.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner."""
        self._transport = None
        self._room.set()
        self._on_lost(self._failure or exc)

    # --- What the owner calls ----
    def send(self, message: Said) -> None:
        """Send a message; when the connection is gone, do nothing: its end is told by ``on_lost``."""
        self.send_framed(framed(self._dialect.encode(message)))

    def send_framed(self, data: bytes) -> None:
        """Send messages that stand one behind the other, each behind its length."""
        if self._transport is not None:
            self._transport.write(data)
            if not self._room.is_set() and self._transport.get_write_buffer_size() > SEND_BUFFER_BYTES_MAX:
                self.end(self._dialect.error("the other node does not take what is sent to it"))

    async def wait_room(self) -> None:
        """Wait while too much is on its way already, or until the connection ends."""
        await self._room.wait()

    def pause_reading(self) -> None:
        """Read no more for now; what has arrived still comes, at most a buffer full."""
        if self.is_open:
            cast(asyncio.Transport, self._transport).pause_reading()

    def resume_reading(self) -> None:
        """Read again; does nothing to one that reads."""
        if self.is_open:
            cast(asyncio.Transport, self._transport).resume_reading()

    def end(self, reason: Exception | None = None) -> None:
        """End the connection at once."""
        if self._failure is None:
            self._failure = reason
        if self._transport is not None:
            self._transport.abort()

    def finish(self) -> None:
        """End the connection once everything is sent."""
        if self._transport is not None:
            self._transport.close()

    def _next(self) -> Said | None:
        if self._end - self._start < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(self._buffer, self._start)
        if size > self._dialect.size_bytes_max:
            raise self._dialect.error(f"a message of {size} bytes is over the limit of {self._dialect.size_bytes_max}")
        start = self._start + _LENGTH.size
        if self._end - start < size:
            if size > len(self._buffer) - _LENGTH.size:
                self._grow(size + _LENGTH.size)
            return None
        self._start = start + size
        try:
            message = self._dialect.decode(memoryview(self._buffer)[start : start + size])
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
            raise self._dialect.error(f"what came is no message of this protocol: {exc}") from exc
        return message

    def _make_room(self) -> None:
        if self._start:
            self._grow(len(self._buffer))
        else:
            self._grow(min(2 * len(self._buffer), self._dialect.size_bytes_max + _LENGTH.size))

    def _grow(self, size: int) -> None:
        """Go over to another buffer; one from which a view was given cannot change its size."""
        kept = self._buffer[self._start : self._end]
        self._buffer = bytearray(max(size, BUFFER_SIZE_BYTES))
        self._buffer[: len(kept)] = kept
        self._start, self._end = 0, len(kept)


class Link(Wire[Message]):
    """A connection to the other node of a bank; callbacks as those of :class:`Wire`, each told which link.

    Args:
        bank: whose certificate the other side must show.
    """

    def __init__(
        self,
        bank: str,
        *,
        on_open: Callable[[Link], None],
        on_message: Callable[[Link, Message], None],
        on_lost: Callable[[Link, Exception | None], None],
    ) -> None:
        super().__init__(
            PAIR,
            check=lambda connection: check_certificate(connection, bank),
            on_open=lambda: on_open(self),
            on_message=lambda message: on_message(self, message),
            on_lost=lambda reason: on_lost(self, reason),
        )


def framed(message: bytes) -> bytes:
    """Put the length of a message before it."""
    return _LENGTH.pack(len(message)) + message


def close_with(task: asyncio.Task[None], connection: socket.socket) -> None:
    """Close an accepted connection if its task is cancelled, also before its first step, when nothing in it runs."""
    task.add_done_callback(lambda done: connection.close() if done.cancelled() else None)


# --- TLS ----
def listening_context(certificate: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """Make the context of the side that listens; the other side must show a certificate of the same authority.

    Raises:
        CertificateUnusable: a file is missing or not what it should be.
    """
    return _context(ssl.PROTOCOL_TLS_SERVER, certificate, key, ca)


def dialing_context(certificate: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """Make the context of the side that connects.

    Raises:
        CertificateUnusable: a file is missing or not what it should be.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, certificate, key, ca)


def _context(protocol: int, certificate: Path, key: Path, ca: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # who it is says the bank's id in the certificate; nodes may move to other hosts
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as exc:
        raise CertificateUnusable(f"{str(certificate)!r}, its key or {str(ca)!r} cannot be used: {exc}") from exc
    return context


def check_certificate(connection: ssl.SSLObject, bank: str, error: type[FortressError] = PeerRejected) -> None:
    """Check that the other side's certificate, whose chain TLS has checked, is that of a node of this bank.

    Raises:
        PeerRejected: it is of another bank, or not a node's; or the error given instead.
    """
    banks = banks_of(certificate_of(connection, error), error)
    if bank not in banks:
        raise error(f"the other side's certificate is of {', '.join(banks) or 'no bank'}, not of bank {bank!r}")


def certificate_of(connection: ssl.SSLObject, error: type[FortressError] = PeerRejected) -> x509.Certificate:
    """Give the certificate that the other side showed.

    Raises:
        PeerRejected: it showed none that can be read; or the error given instead.
    """
    data = connection.getpeercert(binary_form=True)
    if data is None:
        raise error("the other side shows no certificate")
    try:
        return x509.load_der_x509_certificate(data)
    except ValueError as exc:
        raise error(f"the other side's certificate cannot be read: {exc}") from exc


def banks_of(certificate: x509.Certificate, error: type[FortressError] = PeerRejected) -> tuple[str, ...]:
    """Name the banks for which a node's certificate speaks.

    Raises:
        PeerRejected: it names none, or is not a node's; or the error given instead.
    """
    try:
        extensions = certificate.extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError) as exc:
        raise error("the other side's certificate names no bank") from exc
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage or ExtendedKeyUsageOID.SERVER_AUTH not in usage:
        raise error("the other side's certificate is not that of a node")
    found = names.get_values_for_type(x509.UniformResourceIdentifier)
    return tuple(name.removeprefix(BANK_URI_PREFIX) for name in found if name.startswith(BANK_URI_PREFIX))
