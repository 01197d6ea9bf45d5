"""A gateway that does what the test says: it takes links as a real one does and keeps what it is told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec

from fortress import authority
from fortress.authority import Kind
from fortress.errors import BankRejected
from fortress.gateway.links import Link
from fortress.gateway.messages import BankState, Directory, Message, Register, Registered
from fortress.pair.link import check_certificate, listening_context
from tests.server.banks import BANK, empty_folder, until

GATEWAY = "gateway"


@cache
def gateway_certificates(name: str = GATEWAY, title: str = GATEWAY) -> Path:
    """Certificates of a gateway under an authority of its own."""
    certs = Path(mkdtemp(prefix="fortress-test-")) / "certs"
    authority.make_authority(certs, title)
    authority.issue(certs, Kind.node, bank=name)
    return certs


def bank_state(bank: str, *, state: str = "active", is_connected: bool = True) -> BankState:
    return BankState(bank, state, is_connected)


class FakeGateway:
    """Takes registrations on loopback.

    Attributes:
        links: that stand, the newest last.
        heard: everything banks said but registrations.
        registered: the registrations.
        say: what a registration is answered with, in order.
        answers: to questions, by what they are about.
    """

    def __init__(self, certs: Path | None = None) -> None:
        self.certs = certs or gateway_certificates()
        self.links: list[Link] = []
        self.heard: list[Any] = []
        self.registered: list[Register] = []
        self.directory = Directory((bank_state(BANK), bank_state("bank-b")))
        self.say: Callable[[Register], list[Message]] = lambda register: [
            Registered(GATEWAY, 1, ("EUR",)),
            self.directory,
        ]
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, Any]] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def settings(self) -> dict[str, str]:
        """What makes a node its bank."""
        return {"gateway__addresses": self.address, "gateway__authority": str(self.certs / "ca.crt")}

    async def start(self) -> None:
        context = listening_context(
            self.certs / "node.crt", self.certs / "node.key", empty_folder() / "certs" / "ca.crt"
        )
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._make, "127.0.0.1", self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Hang up and listen no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.hang_up()
        await until(lambda: not self.links, "all links ended")

    def hang_up(self) -> None:
        for link in list(self.links):
            link.end()

    def send(self, *messages: Message) -> None:
        for message in messages:
            self.links[-1].send(message)

    def take(self, kind: type) -> list[Any]:
        """Give what was heard of a kind, and forget it."""
        found = [message for message in self.heard if type(message) is kind]
        self.heard = [message for message in self.heard if type(message) is not kind]
        return found

    async def wait(self, kind: type, count: int = 1) -> list[Any]:
        """Wait until so many of a kind were heard, and take them."""
        await until(lambda: sum(type(message) is kind for message in self.heard) >= count, f"{count} {kind.__name__}")
        return self.take(kind)

    async def wait_link(self) -> Link:
        await until(lambda: self.links and self.links[-1].is_open, "a link")
        return self.links[-1]

    def _make(self) -> Link:
        return Link(
            is_dialer=False,
            check=self._check,
            on_open=lambda link: None,
            on_message=self._said,
            on_lost=self._lost,
            answer=self._answer,
        )

    def _check(self, link: Link, connection: ssl.SSLObject) -> None:
        check_certificate(connection, BANK, BankRejected)

    def _said(self, link: Link, message: Message) -> None:
        if not isinstance(message, Register):
            self.heard.append(message)
            return
        self.registered.append(message)
        self.links.append(link)
        for said in self.say(message):
            link.send(said)

    def _lost(self, link: Link, reason: Exception | None) -> None:
        if link in self.links:
            self.links.remove(link)

    async def _answer(self, link: Link, about: str, fields: msgspec.Raw) -> object:
        self.asked.append((about, msgspec.msgpack.decode(fields)))
        found = self.answers[about]
        if isinstance(found, Exception):
            raise found
        return found


@asynccontextmanager
async def gateway(certs: Path | None = None) -> AsyncIterator[FakeGateway]:
    """A gateway that listens."""
    found = FakeGateway(certs)
    await found.start()
    try:
        yield found
    finally:
        await found.stop()
