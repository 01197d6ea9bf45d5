"""A link between a bank and its gateway: batches, questions with answers and deadlines, and an end to silence."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from fortress.errors import (
    BankRejected,
    Busy,
    Refused,
    Status,
)
from fortress.gateway.links import Link, dial
from fortress.gateway.messages import MESSAGE_SIZE_BYTES_MAX, Message, Vote
from fortress.pair.link import check_certificate, dialing_context, listening_context
from tests.pair.nodes import BANK, certificates, files, until


class End:
    """One side of a link, and what it was told."""

    def __init__(self, *, is_dialer: bool, bank: str = BANK) -> None:
        self.is_dialer = is_dialer
        self.bank = bank
        self.link: Link | None = None
        self.messages: list[Message] = []
        self.reasons: list[Exception | None] = []
        self.asked: list[str] = []
        self.gone = asyncio.Event()

    def make(self) -> Link:
        return Link(
            is_dialer=self.is_dialer,
            check=self._check,
            on_open=self._opened,
            on_message=lambda link, message: self.messages.append(message),
            on_lost=lambda link, reason: self.reasons.append(reason),
            answer=self._answer,
        )

    def _check(self, link: Link, connection: ssl.SSLObject) -> None:
        check_certificate(connection, self.bank, BankRejected)

    def _opened(self, link: Link) -> None:
        self.link = link

    async def _answer(self, link: Link, about: str, fields: msgspec.Raw) -> object:
        self.asked.append(about)
        if about == "double":
            return 2 * msgspec.msgpack.decode(fields, type=int)
        if about == "never":
            await self.gone.wait()
        if about == "much":
            return bytes(MESSAGE_SIZE_BYTES_MAX)
        if about == "fault":
            raise RuntimeError("a fault in the answerer")
        if about == "rule":
            raise Refused(Status.account_unknown, {"account": 7})
        raise Busy("not now", {"left": 0, "long": "x" * 5_000})

    @property
    def up(self) -> Link:
        assert self.link is not None
        return self.link


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[End, End]]:
    """A bank's side and a gateway's side over TLS."""
    bank, gateway = End(is_dialer=True), End(is_dialer=False)
    context = listening_context(*files(certificates()))
    server = await asyncio.get_running_loop().create_server(gateway.make, "127.0.0.1", 0, ssl=context)
    try:
        port = server.sockets[0].getsockname()[1]
        await dial(f"127.0.0.1:{port}", dialing_context(*files(certificates())), bank.make)
        await until(lambda: gateway.link)
        yield bank, gateway
    finally:
        server.close()
        for end in (bank, gateway):
            if end.link is not None:
                end.link.end()
        await until(lambda: bank.reasons and gateway.reasons)


async def test_messages_of_one_turn_leave_in_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """They arrive in the order in which they were sent, and the transport was called once."""
    async with linked() as (bank, gateway):
        written: list[bytes] = []
        write = bank.up.send_framed
        monkeypatch.setattr(bank.up, "send_framed", lambda data: (written.append(data), write(data)))
        sent: list[Message] = [Vote(bytes([number]) * 16) for number in range(100)]
        for message in sent:
            bank.up.send(message)
        await until(lambda: len(gateway.messages) == 100)
        assert gateway.messages == sent and len(written) == 1
