"""Where banks come in at a gateway: TLS, whose certificate it is, a registration in time; the rest is the switch's.

TLS lets in certificates of the authorities of all banks that were ever added, and of nobody else; an expired one ends
there. Then the certificate must name a bank whose own authority has signed it, so the authority of one bank cannot
speak for another. A suspended bank gets that far, to hear why it is refused.

Everything that strangers could make grow has a limit: connections that have not shown a certificate yet (the oldest
makes room), links that have not registered, their time, and lines in the log.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from fortress.config import Settings
from fortress.errors import AddressInUse, BankRejected, CertificateUnusable, FortressError
from fortress.gateway.links import Answerer, Link
from fortress.gateway.messages import VERSION, Message, Register, Registered, Rejected
from fortress.ledger.model import MemberBank
from fortress.pair.door import Door
from fortress.pair.link import banks_of, certificate_of, close_with
from fortress.pair.witness import TurnedAway
from fortress.pair.witness_messages import split_address

BACKLOG: Final = 128
HANDSHAKES_MAX: Final = 64
GUESTS_MAX: Final = 64
"""Links that TLS let in and that have not registered yet."""
REGISTER_S: Final = 5.0
SHUTDOWN_S: Final = 1.0

logger = logging.getLogger(__name__)


class Reception:
    """Listen for banks, and hand over the links of those that register.

    Args:
        settings: address and certificates; the files are read again when they change.
        banks: all that the gateway knows, by name.
        register: takes a bank's registration, or raises the FortressError that it is refused with.
        on_message: told what a registered bank says later; may raise BankRejected.
        on_lost: told that a registered bank's link has ended.
        answer: answers the questions of registered banks.
    """

    def __init__(
        self,
        settings: Settings,
        banks: Callable[[], Mapping[str, MemberBank]],
        *,
        register: Callable[[Link, Register], Registered],
        on_message: Callable[[Link, str, Message], None],
        on_lost: Callable[[Link, str, Exception | None], None],
        answer: Callable[[str], Answerer],
    ) -> None:
        self._settings = settings
        self._banks = banks
        self._register = register
        self._on_message = on_message
        self._on_lost = on_lost
        self._answer = answer
        self._door: Door | None = None
        self._handshakes: dict[asyncio.Task[None], None] = {}
        self._guests: dict[Guest, None] = {}
        self._turned_away = TurnedAway()
        self._context: ssl.SSLContext | None = None
        self._context_key: object = None

    # --- Listening ----
    def start(self) -> int:
        """Listen; give the port.

        Raises:
            AddressInUse: that is not possible there.
            CertificateUnusable: this node's certificate is not usable.
        """
        self._tls()
        host, port = split_address(self._settings.switch.listen)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as exc:
            raise AddressInUse(f"the gateway cannot listen for banks on {host}:{port}: {exc.strerror}") from exc
        self._door = Door(listening, self._let_in, lambda reason: self._turned_away.note("", reason))
        return self._door.port

    async def stop(self) -> None:
        """Take nobody any more; registered links are the switch's to end."""
        if self._door is not None:
            self._door.close()
        tasks = tuple(self._handshakes)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for guest in tuple(self._guests):
            guest.link.end()
        self._turned_away.finish()

    def _let_in(self, connection: socket.socket, address: str) -> None:
        if len(self._handshakes) >= HANDSHAKES_MAX:
            next(iter(self._handshakes)).cancel()
        task = asyncio.get_running_loop().create_task(self._shake_hands(connection, address))
        self._handshakes[task] = None
        task.add_done_callback(lambda task: self._handshakes.pop(task, None))
        close_with(task, connection)

    async def _shake_hands(self, connection: socket.socket, address: str) -> None:
        guest = Guest(self, address)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: guest.link,
                connection,
                ssl=self._tls(),
                ssl_handshake_timeout=self._settings.switch.handshake_s,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        except (OSError, ssl.SSLError, CertificateUnusable) as error:
            self.turn_away(address, str(error) or type(error).__name__)
            connection.close()

    def _tls(self) -> ssl.SSLContext:
        """Give the context of new connections, made anew when banks or certificate files have changed."""
        tls, path = self._settings.tls, self._settings.path
        files = path(tls.certificate), path(tls.key)
        authorities = tuple(dict.fromkeys(bank.authority for bank in self._banks().values()))
        try:
            key = (authorities, *(os.stat(file).st_mtime_ns for file in files))
            if self._context is None or self._context_key != key:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.minimum_version = ssl.TLSVersion.TLSv1_3
                context.verify_mode = ssl.CERT_REQUIRED
                context.num_tickets = 0  # a link lasts, and whoever dials anew shall show the certificate anew
                context.load_cert_chain(*files, password=lambda: "")
                if authorities:
                    context.load_verify_locations(cadata=b"".join(authorities))
                self._context, self._context_key = context, key
        except (OSError, ssl.SSLError) as exc:
            raise CertificateUnusable(f"{str(files[0])!r} or its key cannot be used: {exc}") from exc
        return self._context

    # --- Guests ----
    def bank_of(self, certificate: x509.Certificate) -> str:
        """Tell which bank a certificate speaks for, whose chain TLS has checked.

        Raises:
            BankRejected: for none, or its bank's own authority did not sign it.
        """
        names = banks_of(certificate, BankRejected)
        if len(names) != 1:
            raise BankRejected(f"a bank's certificate names one bank, not {', '.join(names) or 'none'}")
        member = self._banks().get(names[0])
        if member is None:
            raise BankRejected(f"bank {names[0]!r} is not known here")
        try:
            certificate.verify_directly_issued_by(x509.load_der_x509_certificate(member.authority))
        except (ValueError, TypeError, InvalidSignature) as exc:
            raise BankRejected(f"this certificate of bank {names[0]!r} is not signed by that bank's authority") from exc
        return names[0]

    def welcome(self, guest: Guest) -> None:
        """Give a guest its time to register; the oldest makes room."""
        if len(self._guests) >= GUESTS_MAX:
            next(iter(self._guests)).link.end(BankRejected("too many links have not registered"))
        self._guests[guest] = None

    def take(self, guest: Guest, message: Message) -> None:
        """Take the first message of a guest: its registration.

        Raises:
            BankRejected: it is something else.
            FortressError: the registration is refused.
        """
        if not isinstance(message, Register):
            raise BankRejected("the first message of a bank is no registration")
        if message.bank != guest.bank:
            raise BankRejected(f"bank {guest.bank!r} registers as {message.bank!r}")
        if message.version != VERSION:
            raise BankRejected(f"version {message.version} of the protocol is not known here")
        registered = self._register(guest.link, message)
        self._guests.pop(guest, None)
        guest.is_registered = True
        guest.link.send(registered)

    def hear(self, guest: Guest, message: Message) -> None:
        """Hand on what a registered bank says."""
        self._on_message(guest.link, guest.bank, message)

    def lose(self, guest: Guest, reason: Exception | None) -> None:
        """Forget a guest whose link has ended."""
        self._guests.pop(guest, None)
        if guest.is_registered:
            self._on_lost(guest.link, guest.bank, reason)
        elif isinstance(reason, BankRejected):
            self.turn_away(guest.address, reason.message)

    def turn_away(self, address: str, reason: str) -> None:
        """Log that somebody was refused."""
        self._turned_away.note(address, reason)

    def answer_of(self, bank: str) -> Answerer:
        """Give what answers the questions of a bank."""
        return self._answer(bank)


class Guest:
    """One connection that TLS let in, until and after it is registered.

    Attributes:
        address: where it comes from.
        link: its link.
        bank: whose certificate it showed.
        is_registered: whether it was taken.
    """

    def __init__(self, reception: Reception, address: str) -> None:
        self.address = address
        self.bank = ""
        self.is_registered = False
        self._reception = reception
        self._refusal: BankRejected | None = None
        self._is_refused = False
        self._timer: asyncio.TimerHandle | None = None
        self.link = Link(
            is_dialer=False,
            check=self._check,
            on_open=self._opened,
            on_message=self._said,
            on_lost=self._lost,
            answer=self._answer,
        )

    def _check(self, link: Link, connection: ssl.SSLObject) -> None:
        try:
            self.bank = self._reception.bank_of(certificate_of(connection, BankRejected))
        except BankRejected as error:
            self._refusal = error  # told in answer to the registration: what is told sooner may get lost with the link

    def _opened(self, link: Link) -> None:
        self._reception.welcome(self)
        expired = BankRejected("no registration came")
        self._timer = asyncio.get_running_loop().call_later(REGISTER_S, link.end, expired)

    def _said(self, link: Link, message: Message) -> None:
        if self.is_registered:
            self._reception.hear(self, message)
        elif not self._is_refused:
            try:
                if self._refusal is not None:
                    raise self._refusal
                self._reception.take(self, message)
            except FortressError as error:
                self._refuse(error)
            else:
                self._stop_timer()

    def _refuse(self, error: FortressError) -> None:
        """Tell why, and end; nothing that is still said counts."""
        self._is_refused = True
        self._reception.turn_away(self.address, error.message)
        self.link.send(Rejected(error.code, error.message))
        self.link.finish()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _lost(self, link: Link, reason: Exception | None) -> None:
        self._stop_timer()
        self._reception.lose(self, reason)

    async def _answer(self, link: Link, about: str, fields: msgspec.Raw) -> object:
        if not self.is_registered:
            raise BankRejected("only a registered bank asks")
        return await self._reception.answer_of(self.bank)(link, about, fields)
