"""Customers who reach only the gateway, carried to their bank: bytes in, the same bytes out, sealed as they are.

TLS ends here twice, once towards the customer and once towards the bank; what is inside is sealed between those two
by keys that never come here. So this module reads one thing, the route frame (:mod:`fortress.protocol.routes`), and the
rest is of no interest to it. What it could do to a customer is what a cut cable can.

A passage is one customer's way:

    waiting     no primary of the bank is known or answers; what the customer sends meanwhile is kept, a little
    open        bytes go both ways; an end that does not take them stops the other one from being read
    over        either end has ended, or nothing came for too long

The customer's end is the connection that the server has accepted: it stays counted among those of its address.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol, cast

from fortress.client.address import parse_endpoint
from fortress.config import SwitchSettings
from fortress.errors import BankRejected, BankUnreachable, FortressError, UsageError
from fortress.gateway.messages import BankState
from fortress.ledger.model import BankState as Standing
from fortress.pair.link import check_certificate
from fortress.protocol.frames import encode_frame
from fortress.protocol.routes import Notice, Route
from fortress.server.logs import log_event
from fortress.server.tls import Tls

BUFFER_BYTES: Final = 64 * 1024
"""Bytes waiting for one end above which nothing more is read from the other; as much again may be in hand."""
EARLY_BYTES_MAX: Final = 64 * 1024
"""What a customer may say before the bank is reached; as a rule that is 60 bytes."""
DIAL_S_MAX: Final = 3.0
RETRY_S: Final = 0.25
TELL_AFTER_S: Final = 0.5
"""A bank that is not reached by then is waited for, and the customer hears so."""
CLOSE_S_MAX: Final = 2.0

_received: Final = memoryview(bytearray(BUFFER_BYTES))
# Shared by all passages: what is read is written on, as a copy, before the next read.

logger = logging.getLogger(__name__)


class Directory(Protocol):
    """What a relay asks of :mod:`fortress.gateway.directory`."""

    def find(self, bank: str) -> BankState | None:
        """Give a bank as it stands, with its primary's address first; None if there is none of this name."""

    async def wait_change(self) -> None:
        """Wait until any bank stands otherwise than now."""


class Relay:
    """Takes connections over from the server and carries them; plugged in as ``node.ports.relay``.

    Args:
        directory: of the banks.
        authority: gives the DER certificate of a bank's own authority.
        settings: how many at a time, and how long a bank is waited for.
        idle_s: gives after how much silence a connection is ended.
        is_standby: tells whether this node is the standby of its pair, to which no bank is linked.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        authority: Callable[[str], bytes],
        settings: SwitchSettings,
        idle_s: Callable[[], float],
        is_standby: Callable[[], bool],
    ) -> None:
        self.directory = directory
        self.settings = settings
        self.idle_s = idle_s
        self._authority = authority
        self._is_standby = is_standby
        self._contexts: dict[str, tuple[bytes, ssl.SSLContext]] = {}
        self._passages: set[Passage] = set()
        self._counts: Counter[str] = Counter()
        self.carried_bytes = 0

    def take(self, session: asyncio.BufferedProtocol, transport: Tls, route: Route, data: bytes) -> Passage | Notice:
        """Take over a connection, with what has arrived already; or say why not.

        Args:
            session: told by ``connection_lost`` when the connection is gone.
            transport: towards the customer; what comes from it goes to the relay from now on.
            route: where it wants to go.
            data: all that came, the route frame included.
        """
        notice = self._refusal(route.bank)
        if notice is not None:
            self.count(notice)
            return notice
        passage = Passage(self, session, transport, route, data)
        self._passages.add(passage)
        self._counts["taken"] += 1
        return passage

    def _refusal(self, bank: str) -> Notice | None:
        if self._is_standby():
            return Notice.standby
        if not self.is_known(bank):
            return Notice.bank_unknown
        return Notice.full if len(self._passages) >= self.settings.relays_max else None

    def is_known(self, bank: str) -> bool:
        """Whether there is a way to this bank as a rule."""
        found = self.directory.find(bank)
        return found is not None and found.state == Standing.active.name

    def forget(self, passage: Passage) -> None:
        """A passage is over."""
        self._passages.discard(passage)

    def count(self, notice: Notice) -> None:
        """Count a customer who was not carried on."""
        self._counts[notice.value] += 1

    def context(self, bank: str) -> ssl.SSLContext:
        """Give what TLS towards a bank goes by: the authority that was given when the bank was added, and no other.

        Raises:
            BankRejected: that authority cannot be used.
        """
        authority = self._authority(bank)
        known = self._contexts.get(bank)
        if known is not None and known[0] == authority:
            return known[1]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # which bank it is says its certificate; nodes move
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(cadata=authority)
        except (ssl.SSLError, ValueError) as exc:
            raise BankRejected(f"the authority of bank {bank!r} cannot be used") from exc
        self._contexts[bank] = authority, context
        return context

    async def close(self) -> None:
        """End all passages and wait for it, a bounded time."""
        passages = tuple(self._passages)
        for passage in passages:
            passage.finish()
        if passages:
            await asyncio.wait([passage.over for passage in passages], timeout=2 * CLOSE_S_MAX)

    def statistics(self) -> dict[str, Any]:
        """Take a snapshot: passages now, since the start, customers not carried on by reason, bytes carried."""
        counts = self._counts
        return {
            "relays": len(self._passages),
            "relays_total": counts["taken"],
            "relays_refused": {notice.value: counts[notice.value] for notice in Notice if counts[notice.value]},
            "relay_bytes": self.carried_bytes,
        }


class Passage:
    """One customer's way to a bank.

    Attributes:
        route: where it leads.
        over: done when nothing of it is left.
    """

    def __init__(
        self, relay: Relay, session: asyncio.BufferedProtocol, transport: Tls, route: Route, data: bytes
    ) -> None:
        loop = asyncio.get_running_loop()
        self.route = route
        self.over: asyncio.Future[None] = loop.create_future()
        self._relay = relay
        self._session = session
        self._early = bytearray(data)
        self._is_ending = False
        self._is_told = False
        self._is_heard = True
        self._heard_s = loop.time()
        self._bank = End(self)
        self._customer = End(self)
        self._customer.attach(transport)
        transport.hand_over(self._customer)
        self._reaching = loop.create_task(self._reach())
        self._reaching.add_done_callback(self._on_reached)
        self._telling = loop.call_later(TELL_AFTER_S, self._tell_waiting)

    # --- what the server asks ---------------------------------------------------------------------------------------

    def on_time(self, now: float) -> None:
        """End it if nothing has come from either end for too long; called about once a second."""
        if self._is_heard:
            self._is_heard, self._heard_s = False, now
        elif now - self._heard_s > self._relay.idle_s():
            self._note("idle")
            self.finish()

    def finish(self) -> None:
        """End both connections; what is on its way still arrives if the ends take it in time."""
        self._is_ending = True
        self._stop_reaching()
        for end in (self._customer, self._bank):
            if end.transport is not None:
                end.transport.close()

    # --- reaching the bank ------------------------------------------------------------------------------------------

    async def _reach(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._relay.settings.relay_wait_ms / 1000
        while not await self._try_addresses():
            if loop.time() >= deadline:
                self._refuse(Notice.bank_down)
                return
            await self._wait_change()

    async def _try_addresses(self) -> bool:
        """Dial the bank where it is now; True when it was reached."""
        for address in self._addresses():
            bank = End(self)
            try:
                self._open(bank, await self._dial(address, bank))
            except (FortressError, OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
                if not self._is_told:  # once for each customer, however often it is tried
                    log_event(
                        *(logger, logging.INFO, "bank not reached"),
                        bank=self.route.bank,
                        address=address,
                        reason=str(error) or type(error).__name__,
                    )
                continue
            return True
        self._tell_waiting()
        return False

    def _addresses(self) -> tuple[str, ...]:
        found = self._relay.directory.find(self.route.bank)
        if found is None or not found.is_connected:
            return ()
        primary, others = found.addresses[:1], found.addresses[1:]
        return (*others, *primary) if self.route.takes_standby else primary

    def _open(self, bank: End, transport: asyncio.Transport) -> None:
        self._telling.cancel()
        self._bank = bank
        self._customer.other, bank.other = bank, self._customer
        transport.write(bytes(self._early))
        self._early = bytearray()

    async def _dial(self, address: str, bank: End) -> asyncio.Transport:
        try:
            host, port = parse_endpoint(address)
        except UsageError as exc:
            raise BankRejected(exc.message) from exc
        loop = asyncio.get_running_loop()
        is_reached = False
        try:
            async with asyncio.timeout(DIAL_S_MAX):
                transport, _ = await loop.create_connection(
                    lambda: bank, host, port, ssl=self._relay.context(self.route.bank), ssl_shutdown_timeout=CLOSE_S_MAX
                )
            # nothing is passed on either way before it is known who is there
            check_certificate(transport.get_extra_info("ssl_object"), self.route.bank, BankRejected)
            if bank.transport is None:
                raise BankUnreachable("the connection was lost at once")
            is_reached = True
            return transport
        finally:
            if not is_reached and bank.transport is not None:
                bank.transport.abort()

    async def _wait_change(self) -> None:
        # also a bank that stands as it did may answer next time
        with suppress(TimeoutError):
            async with asyncio.timeout(RETRY_S):
                await self._relay.directory.wait_change()

    def _tell_waiting(self) -> None:
        if not self._is_told and self._customer.other is None and self._customer.transport is not None:
            self._is_told = True
            self._customer.transport.write(encode_frame(Notice.waiting.encode()))

    def _refuse(self, notice: Notice) -> None:
        self._relay.count(notice)
        self._note(notice.value)
        if self._customer.transport is not None:
            self._customer.transport.write(encode_frame(notice.encode()))
        self.finish()

    def _on_reached(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (fault := task.exception()) is not None:
            logger.error("relay failed", exc_info=fault)
            self.finish()

    def _stop_reaching(self) -> None:
        self._telling.cancel()
        if self._reaching is not asyncio.current_task():
            self._reaching.cancel()

    # --- what the ends say ------------------------------------------------------------------------------------------

    def carry(self, end: End, data: bytes) -> None:
        """Pass on what came at one end."""
        self._is_heard = True
        self._relay.carried_bytes += len(data)
        other = end.other
        if other is not None:
            if other.transport is not None:
                other.transport.write(data)
        elif end is self._customer and len(self._early) + len(data) <= EARLY_BYTES_MAX:
            self._early += data
        elif end.transport is not None:  # it talks out of turn
            end.transport.abort()

    def lost(self, end: End, exc: Exception | None) -> None:
        """The connection of one end is gone; the other one ends in order."""
        if end is self._customer:
            self._session.connection_lost(exc)
        if end is self._customer or end is self._bank:
            self.finish()
        if self._is_ending and self._customer.transport is None and self._bank.transport is None:
            self._relay.forget(self)
            if not self.over.done():
                self.over.set_result(None)

    def _note(self, reason: str) -> None:
        log_event(logger, logging.INFO, "relay ended", bank=self.route.bank, reason=reason)


class End(asyncio.BufferedProtocol):
    """One of the two connections of a passage; what arrives at it leaves at the other one.

    Attributes:
        transport: while there is a connection.
        other: where what comes goes; None until the bank is reached.
    """

    __slots__ = ("_passage", "other", "transport")

    def __init__(self, passage: Passage) -> None:
        self._passage = passage
        self.transport: Tls | asyncio.Transport | None = None  # Tls towards the customer
        self.other: End | None = None

    def attach(self, transport: Tls | asyncio.Transport) -> None:
        """Take a connection that is there already."""
        self.transport = transport
        transport.set_write_buffer_limits(high=BUFFER_BYTES)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio's class and not its name
        self.attach(cast(asyncio.Transport, transport))

    def get_buffer(self, sizehint: int) -> memoryview:
        return _received

    def buffer_updated(self, nbytes: int) -> None:
        self._passage.carry(self, bytes(_received[:nbytes]))

    def eof_received(self) -> None:
        """The transport closes itself after this, and `connection_lost` comes."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._passage.lost(self, exc)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()
