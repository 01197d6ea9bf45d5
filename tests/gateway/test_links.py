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
    BankUnreachable,
    Busy,
    DeadlinePassed,
    FortressError,
    GatewayUnreachable,
    LedgerError,
    MessageInvalid,
    Refused,
    Status,
)
from fortress.gateway import links
from fortress.gateway.links import Link, dial
from fortress.gateway.messages import MESSAGE_SIZE_BYTES_MAX, Acknowledge, Answer, Ask, Message, Ping, Vote
from fortress.pair.link import check_certificate, dialing_context, framed, listening_context
from tests.pair.nodes import BANK, certificates, files, free_port, until


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
    """They arrive in the order in which they were sent; what was sent before the end of a link still goes out."""
    async with linked() as (bank, gateway):
        written: list[bytes] = []
        write = bank.up.send_framed
        monkeypatch.setattr(bank.up, "send_framed", lambda data: (written.append(data), write(data)))
        sent: list[Message] = [Vote(bytes([number]) * 16) for number in range(100)]
        for message in sent[:99]:
            bank.up.send(message)
        await until(lambda: len(gateway.messages) == 99)
        assert len(written) == 1
        bank.up.send(sent[99])
        bank.up.finish()
        await until(lambda: gateway.reasons)
        assert gateway.messages == sent and len(written) == 2
        bank.up.send(sent[0])  # nobody is there, and nothing happens
        bank.up.flush()
        assert len(written) == 2


# --- Questions -------------------------------------------------------------------------------------------------------
async def test_both_sides_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many at a time; each gets its own answer, read as the type it wants."""
    async with linked() as (bank, gateway):
        questions = [end.up.ask("double", number, int) for end in (bank, gateway) for number in range(20)]
        assert await asyncio.gather(*questions) == [2 * number for _ in range(2) for number in range(20)]
        assert (len(bank.asked), len(gateway.asked)) == (20, 20)
        with pytest.raises(BankRejected, match="cannot be read"):
            await bank.up.ask("double", 4, str)
        assert bank.messages == gateway.messages == []


async def test_a_refusal_comes_back_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    """Status or error, with its facts unless they are too long; a fault in the answerer is told without its inside."""
    async with linked() as (bank, _):
        with pytest.raises(Refused) as refused:
            await bank.up.ask("rule", None, object)
        assert (refused.value.status, refused.value.facts) == (Status.account_unknown, {"account": 7})
        with pytest.raises(Busy, match="not now") as busy:
            await bank.up.ask("other", None, object)
        assert busy.value.facts == {}
        with pytest.raises(LedgerError) as fault:
            await bank.up.ask("fault", None, object)
        assert "a fault in the answerer" not in fault.value.message
        assert "a fault in the answerer" in caplog.text
        with pytest.raises(MessageInvalid, match="too large"):
            await bank.up.ask("much", None, object)
        assert bank.up.is_open


async def test_a_question_has_a_deadline() -> None:
    """It ends with the question; an answer that comes later is not missed by anybody."""
    async with linked() as (bank, gateway):
        with pytest.raises(DeadlinePassed) as passed:
            await bank.up.ask("never", None, object, deadline_s=0.01)
        assert passed.value.facts == {"about": "never"}
        gateway.gone.set()
        gateway.up.send(Answer(1, 0, msgspec.Raw(msgspec.msgpack.encode(None))))
        assert await bank.up.ask("double", 2, int) == 4


@pytest.mark.parametrize(("asker", "error"), [(0, GatewayUnreachable), (1, BankUnreachable)])
async def test_questions_end_with_the_link(asker: int, error: type[FortressError]) -> None:
    """Whoever waits is told at once who cannot be asked any more, and so is whoever asks later."""
    async with linked() as ends:
        asking = asyncio.create_task(ends[asker].up.ask("never", None, object))
        await until(lambda: ends[1 - asker].asked)
        ends[1 - asker].up.end()
        with pytest.raises(error):
            await asking
        with pytest.raises(error):
            await ends[asker].up.ask("double", 1, int)


async def test_questions_are_bounded_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many at a time are busy: those that this side asks, and those that the other one is asked."""
    monkeypatch.setattr(links, "ANSWERS_MAX", 2)
    async with linked() as (bank, gateway):
        waiting = [asyncio.create_task(bank.up.ask("never", None, object)) for _ in range(2)]
        await until(lambda: len(gateway.asked) == 2)
        with pytest.raises(Busy):
            await bank.up.ask("double", 1, int)
        monkeypatch.setattr(links, "QUESTIONS_MAX", 2)
        with pytest.raises(Busy):
            await bank.up.ask("double", 1, int)
        assert len(gateway.asked) == 2
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        gateway.gone.set()
        await until(lambda: not gateway.up._answering)
        assert await bank.up.ask("double", 1, int) == 2


async def test_an_answer_of_no_sense_ends_the_link() -> None:
    """An error without its words; an answer to nothing is passed over."""
    async with linked() as (bank, gateway):
        nothing = msgspec.Raw(msgspec.msgpack.encode(7))
        gateway.up.send(Answer(99, 0, nothing))
        asking = asyncio.create_task(bank.up.ask("never", None, object))
        await until(lambda: gateway.asked)
        gateway.up.send(Answer(1, Busy.code, nothing))
        with pytest.raises(GatewayUnreachable):
            await asking
        assert isinstance(bank.reasons[0], BankRejected) and bank.up.failure is bank.reasons[0]


async def test_a_question_is_read_before_the_next_message_overwrites_it() -> None:
    """Its fields lie in the buffer that what comes next is read into."""
    async with linked() as (bank, gateway):
        asking = [asyncio.create_task(bank.up.ask("double", number, int)) for number in range(200)]
        for number in range(2_000):
            bank.up.send(Vote(number.to_bytes(16, "big")))
        assert await asyncio.gather(*asking) == [2 * number for number in range(200)]
        await until(lambda: len(gateway.messages) == 2_000)


# --- Signs of life ---------------------------------------------------------------------------------------------------
async def test_the_side_that_dialed_pings_and_the_other_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else sees it, and no ping is answered twice."""
    monkeypatch.setattr(links, "PING_S", 0.01)
    async with linked() as (bank, gateway):
        heard: list[Message] = []
        said = bank.up._said
        monkeypatch.setattr(bank.up, "_on_message", lambda message: (heard.append(message), said(message)))
        await until(lambda: len(heard) >= 3)
        assert {type(message) for message in heard} == {Ping}
        assert bank.messages == gateway.messages == []
        assert bank.up.is_open and gateway.up.is_open


@pytest.mark.parametrize("silent", [0, 1], ids=["the bank", "the gateway"])
async def test_a_side_that_is_silent_for_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch, silent: int) -> None:
    """Its machine may be gone without a word."""
    async with linked() as ends:
        monkeypatch.setattr(links, "PING_S", 0.01)
        monkeypatch.setattr(links, "SILENCE_S", 0.1)
        monkeypatch.setattr(ends[silent].up, "send_framed", lambda data: None)
        ends[silent].up._heard_s = 1e12  # it does not mind that the other one cannot hear it
        other = ends[1 - silent]
        await until(lambda: other.reasons)
        assert isinstance(other.reasons[0], GatewayUnreachable if silent else BankUnreachable)
        assert "nothing was heard" in str(other.reasons[0])


# --- Dialing ---------------------------------------------------------------------------------------------------------
async def test_whoever_cannot_be_reached_is_named() -> None:
    """Nobody listens there; or something else does."""
    bank = End(is_dialer=True)
    context = dialing_context(*files(certificates()))
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(GatewayUnreachable) as unreachable:
        await dial(address, context, bank.make)
    assert unreachable.value.facts == {"address": address} and bank.link is None


async def test_another_gateway_than_the_one_meant_is_refused() -> None:
    """Nothing is said to it."""
    bank, gateway = End(is_dialer=True, bank="beta"), End(is_dialer=False)
    context = listening_context(*files(certificates()))
    server = await asyncio.get_running_loop().create_server(gateway.make, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(BankRejected, match="not of bank 'beta'"):
        await dial(f"127.0.0.1:{port}", dialing_context(*files(certificates())), bank.make)
    await until(lambda: bank.reasons)
    assert bank.link is None and isinstance(bank.reasons[0], BankRejected)
    server.close()
    await until(lambda: gateway.reasons or gateway.link is None)


@pytest.mark.parametrize(
    "data", [b"\xc0", b"\x92\xa4vote\xc4\x01x", b""], ids=["no message", "a field too short", "nothing"]
)
async def test_garbage_ends_the_link(data: bytes) -> None:
    """And nothing that came after is looked at."""
    async with linked() as (bank, gateway):
        bank.up.send_framed(framed(data) + framed(links.encode(Acknowledge(bytes(16)))))
        await until(lambda: gateway.reasons)
        assert isinstance(gateway.reasons[0], BankRejected) and gateway.messages == []


async def test_fields_that_a_newer_side_adds_are_passed_over() -> None:
    """A message may grow at its end."""
    async with linked() as (bank, gateway):
        bank.up.send_framed(framed(msgspec.msgpack.encode(["vote", bytes(16), 9, "more", 7])))
        await until(lambda: gateway.messages)
        assert gateway.messages == [Vote(bytes(16), 9)]
        bank.up.send(Ask(7, "double", msgspec.Raw(msgspec.msgpack.encode(1))))
        await until(lambda: gateway.asked)
