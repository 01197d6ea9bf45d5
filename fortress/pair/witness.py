"""The witness: a small server that keeps the register of many pairs, for a third machine.

It decides nothing by itself and does nothing unasked; the pairs need it only to change who is primary. Everything a
peer can make grow has a limit: connections, those among them still in their handshake (where the oldest makes room, so
that strangers cannot keep nodes out), sizes and times of messages, and lines in the log.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from typing import Final

from cryptography import x509

from fortress.config import WitnessSettings
from fortress.errors import AddressInUse, Facts, FortressError, LedgerError, PeerRejected, SettingInvalid
from fortress.pair.door import Door
from fortress.pair.link import BANK_URI_PREFIX, close_with
from fortress.pair.registry import OWNER_LENGTH_MAX, Registry
from fortress.pair.witness_messages import LENGTH_SIZE_BYTES, body_size, decode_question, frame, split_address

BACKLOG: Final = 128
PORT_MAX: Final = 65535
HANDSHAKES_MAX: Final = 64
"""Connections at a time whose other side has not shown its certificate yet."""
MESSAGE_S: Final = 5.0
"""For the rest of a message once it has begun, and for taking an answer."""
IDLE_S: Final = 120.0
LINES_PER_S_MAX: Final = 20
"""Lines in the log about peers that were turned away; those over it are counted."""

logger = logging.getLogger(__name__)


class Witness:
    """The listening witness; made by :meth:`start`.

    Attributes:
        stopped: set when it must end, as when its disk has failed; then ``failure`` says why.
        port: that it listens on.
    """

    def __init__(
        self, settings: WitnessSettings, registry: Registry, tls: ssl.SSLContext, listening: socket.socket
    ) -> None:
        self.stopped = asyncio.Event()
        self.failure: LedgerError | None = None
        self.port: int = listening.getsockname()[1]
        self._settings = settings
        self._registry = registry
        self._tls = tls
        self._listening = listening
        self._serving: set[asyncio.Task[None]] = set()
        self._handshaking: dict[asyncio.Task[None], None] = {}
        self._turned_away = TurnedAway()
        self._door = Door(listening, self._let_in, lambda reason: self._turned_away.note("", reason))

    @classmethod
    async def start(cls, settings: WitnessSettings, registry: Registry, tls: ssl.SSLContext) -> Witness:
        """Listen and serve.

        Args:
            settings: address and limits.
            registry: what is kept; it stays the caller's, who closes it after :meth:`stop`.
            tls: for listening, and set to ask for the other side's certificate.

        Raises:
            AddressInUse, SettingInvalid: it cannot listen there.
        """
        witness = cls(settings, registry, tls, _listen(settings.listen))
        fields = {"port": witness.port, "witness": registry.witness.hex(), "pairs": registry.pairs}
        logger.info("witness is listening", extra={"fields": fields})
        return witness

    async def stop(self) -> None:
        """Take no more connections and end those there are; what was answered is on the disk already."""
        self._door.close()
        tasks = tuple(self._serving)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._turned_away.finish()
        logger.info("witness has stopped", extra={"fields": {}})

    # --- connections -------------------------------------------------------------------------------------------------
    def _let_in(self, connection: socket.socket, address: str) -> None:
        if len(self._serving) >= self._settings.connections_max:
            connection.close()
            self._turned_away.note(address, "too many connections")
            return
        if len(self._handshaking) >= HANDSHAKES_MAX:
            next(iter(self._handshaking)).cancel()
        task = asyncio.get_running_loop().create_task(self._serve(connection, address))
        self._serving.add(task)
        self._handshaking[task] = None
        task.add_done_callback(self._forget)
        close_with(task, connection)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        self._handshaking.pop(task, None)

    async def _serve(self, connection: socket.socket, address: str) -> None:
        """Serve one connection to its end; whatever goes wrong in it ends it alone, but for a failed disk."""
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await self._shake_hands(connection)
            owner = owner_of(writer.get_extra_info("ssl_object"))
            task = asyncio.current_task()
            if task is not None:
                self._handshaking.pop(task, None)
            while (data := await self._question(reader)) is not None:
                writer.write(frame(self._registry.answer(decode_question(data), owner)))
                async with asyncio.timeout(MESSAGE_S):
                    await writer.drain()
        except LedgerError as error:
            self.failure = error
            self.stopped.set()
            logger.critical("register has failed", extra={"fields": {"reason": error.message}})
        except FortressError as error:
            self._turned_away.note(address, error.message)
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError) as error:
            self._turned_away.note(address, str(error) or type(error).__name__)
        finally:
            if writer is not None:
                writer.transport.abort()
            connection.close()

    async def _shake_hands(self, connection: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, connection, ssl=self._tls, ssl_handshake_timeout=self._settings.handshake_s
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _question(self, reader: asyncio.StreamReader) -> bytes | None:
        """Read the next question; None when the other side has ended, or has been silent for long."""
        try:
            async with asyncio.timeout(IDLE_S):
                first = await reader.read(1)
        except TimeoutError:
            return None
        if not first:
            return None
        async with asyncio.timeout(MESSAGE_S):
            length = first + await reader.readexactly(LENGTH_SIZE_BYTES - 1)
            return await reader.readexactly(body_size(length))


class TurnedAway:
    """Tells the log of peers that were turned away, so many a second; those over it are counted and told together."""

    def __init__(self) -> None:
        self._second = 0
        self._lines = 0
        self._unsaid = 0

    def note(self, address: str, reason: str) -> None:
        """Log one."""
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self.finish()
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines > LINES_PER_S_MAX:
            self._unsaid += 1
        else:
            logger.warning("peer turned away", extra={"fields": {"address": address, "reason": reason}})

    def finish(self) -> None:
        """Log how many were not."""
        if self._unsaid:
            logger.warning("peers turned away", extra={"fields": {"count": self._unsaid}})
        self._unsaid = 0


def owner_of(connection: ssl.SSLObject) -> str:
    """Say to which bank, of which authority, the other side's certificate belongs; TLS has checked its chain.

    Raises:
        PeerRejected: it names no bank.
    """
    data = connection.getpeercert(binary_form=True)
    if data is None:
        raise PeerRejected("the other side shows no certificate")
    certificate = x509.load_der_x509_certificate(data)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    banks = [uri.removeprefix(BANK_URI_PREFIX) for uri in uris if uri.startswith(BANK_URI_PREFIX)]
    issuers = [str(each.value) for each in certificate.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    if len(banks) != 1 or len(issuers) != 1:
        raise PeerRejected("the other side's certificate names no bank")
    return f"{banks[0]} ({issuers[0]})"[:OWNER_LENGTH_MAX]


def _listen(address: str) -> socket.socket:
    host, port = split_address(address)
    facts: Facts = {"host": host, "port": port}
    is_all = host == "::"
    if port > PORT_MAX:
        raise SettingInvalid(f"cannot listen on {address}: ports go up to {PORT_MAX}", facts)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=is_all)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise AddressInUse(f"the address {address} is taken", facts) from exc
        raise SettingInvalid(f"cannot listen on {address}: {exc.strerror}", facts) from exc
    listening.setblocking(False)
    return listening
