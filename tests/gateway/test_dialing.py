"""A bank's link to its gateway: kept up whatever happens, to the right gateway only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fortress.config import Settings, load
from fortress.errors import BankRejected, NotPrimary
from fortress.gateway import dialing
from fortress.gateway.dialing import Dialer
from fortress.gateway.links import Link
from fortress.gateway.messages import Directory, Message, Register, Registered, Rejected, Vote
from tests.gateway.gateways import GATEWAY, FakeGateway, gateway, gateway_certificates
from tests.server.banks import BANK, empty_folder, until

ME = Register(BANK, "node-1", 3, "127.0.0.1:7611")
VOTE = Vote(bytes(16))


class Side:
    """A bank's end and what it was told."""

    def __init__(self, settings: Settings) -> None:
        self.told: list[str] = []
        self.messages: list[Message] = []
        self.faults: list[BaseException] = []
        self.dialer = Dialer(
            settings,
            introduce=lambda: ME,
            on_registered=lambda link: self.told.append("registered"),
            on_message=lambda link, message: self.messages.append(message),
            on_lost=lambda: self.told.append("lost"),
            answer=self._answer,
            on_fault=self.faults.append,
        )

    async def _answer(self, link: Link, about: str, fields: msgspec.Raw) -> object:
        return about.upper()


def settings(*addresses: str, certs: Path | None = None) -> Settings:
    flags = {
        "gateway.addresses": ", ".join(addresses),
        "gateway.authority": str((certs or gateway_certificates()) / "ca.crt"),
    }
    return load(empty_folder(), flags, {})


@asynccontextmanager
async def dialing_to(*addresses: str, **more: Any) -> AsyncIterator[Side]:
    side = Side(settings(*addresses, **more))
    side.dialer.start()
    try:
        yield side
    finally:
        await side.dialer.stop()
        assert side.dialer.link is None and side.faults == []


async def nowhere() -> str:
    """An address at which nobody listens."""
    async with gateway() as found:
        return found.address


async def test_a_bank_registers_and_hears_what_follows_at_once() -> None:
    """What comes in the same read as the answer is not lost; both sides can ask."""
    async with gateway() as found, dialing_to(found.address) as side:
        await until(lambda: side.messages, "the directory")
        assert found.registered == [ME]
        assert side.told == ["registered"]
        assert side.messages == [found.directory]
        assert side.dialer.registered == Registered(GATEWAY, 1, ("EUR",))
        assert side.dialer.link is not None and side.dialer.since_s is not None and side.dialer.since_s >= 0
        side.dialer.link.send(VOTE)
        assert await found.wait(Vote) == [VOTE]
        assert await found.links[0].ask("steps", None, str) == "STEPS"
    assert side.told == ["registered", "lost"] and side.dialer.since_s is None


async def test_a_link_that_ends_is_dialed_again() -> None:
    """The bank registers anew each time, and says so each time."""
    async with gateway() as found, dialing_to(found.address) as side:
        for count in (1, 2, 3):
            await until(lambda count=count: side.told.count("registered") == count, "registered again")
            assert side.told == ["registered", "lost"] * (count - 1) + ["registered"]
            found.hang_up()
        await until(lambda: len(found.registered) >= 4, "registered again")


async def test_each_address_is_tried() -> None:
    """One where nobody is does not keep a bank from the other."""
    async with gateway() as found, dialing_to(await nowhere(), found.address) as side:
        await until(lambda: side.dialer.link, "a link")


async def test_a_gateway_that_comes_late_is_found(caplog: pytest.LogCaptureFixture) -> None:
    """However often nobody answered before; the same trouble is logged once."""
    found = FakeGateway()
    found.port = int((await nowhere()).rpartition(":")[2])
    with caplog.at_level(logging.INFO, "fortress.gateway.dialing"):
        async with dialing_to(found.address) as side:
            await until(lambda: caplog.messages, "a try")
            await asyncio.sleep(0)
            await found.start()
            try:
                await until(lambda: side.dialer.link, "a link")
            finally:
                await found.stop()
            assert caplog.messages[:2] == ["gateway not linked", "gateway linked"]


async def test_a_standby_shows_the_way_to_the_primary() -> None:
    """Its word is taken for where to dial, and the link stands there."""
    async with gateway() as standby, gateway() as primary:
        standby.say = lambda register: [Rejected(NotPrimary.code, "this node is standby", primary.address)]
        async with dialing_to(standby.address) as side:
            await until(lambda: side.dialer.link, "a link")
            assert primary.registered == [ME]
            assert side.told == ["registered"]


async def test_a_bank_that_is_refused_tries_again(caplog: pytest.LogCaptureFixture) -> None:
    """It may be let in later; until then nothing is registered, and the log says why, once."""
    async with gateway() as found:
        taken = found.say
        found.say = lambda register: [Rejected(BankRejected.code, "bank-a is not welcome")]
        with caplog.at_level(logging.INFO, "fortress.gateway.dialing"):
            async with dialing_to(found.address) as side:
                await until(lambda: len(found.registered) > 1, "a second try")
                assert side.told == []
                assert [record.levelname for record in caplog.records] == ["ERROR"]
                found.say = taken
                await until(lambda: side.dialer.link, "a link")


@pytest.mark.parametrize(("name", "title"), [("bank-c", "gateway"), ("gateway", "somebody")])
async def test_only_the_gateway_is_told_anything(name: str, title: str, caplog: pytest.LogCaptureFixture) -> None:
    """A certificate for another name, or by an authority that is not the gateway's: not even a registration leaves."""
    certs = gateway_certificates(name, title)
    trusted = certs if title == "gateway" else gateway_certificates()
    async with gateway(certs) as found, dialing_to(found.address, certs=trusted) as side:
        await until(lambda: caplog.messages, "a refusal")
        assert "not linked" in caplog.messages[0]
        assert found.registered == [] and found.links == [] and side.told == []


async def test_a_gateway_that_never_answers_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its silence does not keep a bank from another address."""
    monkeypatch.setattr(dialing, "REGISTER_S", 0.05)
    async with gateway() as silent, gateway() as found:
        silent.say = lambda register: []
        async with dialing_to(silent.address, found.address) as side:
            await until(lambda: side.dialer.link, "a link")
            assert len(silent.registered) >= 1


async def test_what_comes_before_the_answer_is_passed_over() -> None:
    """Only a registration that was taken makes a link of it."""
    async with gateway() as found:
        taken = found.say
        found.say = lambda register: [Directory(()), *taken(register)]
        async with dialing_to(found.address) as side:
            await until(lambda: side.messages, "the directory")
            assert side.messages == [found.directory]


async def test_a_link_that_ends_before_the_answer_is_none() -> None:
    """It is tried again, and nobody is told of a loss."""
    async with gateway() as found:
        taken = found.say

        def hang_up(register: Register) -> list[Message]:
            found.say = taken
            found.hang_up()
            return []

        found.say = hang_up
        async with dialing_to(found.address) as side:
            await until(lambda: side.dialer.link, "a link")
            assert side.told == ["registered"] and len(found.registered) == 2


async def test_starting_and_stopping_twice_is_once() -> None:
    """As when a node becomes primary, leaves and becomes primary again."""
    async with gateway() as found, dialing_to(found.address) as side:
        side.dialer.start()
        await until(lambda: side.dialer.link, "a link")
        await side.dialer.stop()
        await side.dialer.stop()
        assert side.told == ["registered", "lost"]
        side.dialer.start()
        await until(lambda: side.dialer.link, "a link")
        assert len(found.registered) == 2


async def test_a_fault_in_dialing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bank that silently dialed no more would leave its payments open for ever."""

    async def broken(*arguments: Any) -> Link:
        raise RuntimeError("a fault")

    monkeypatch.setattr(dialing, "dial", broken)
    side = Side(settings("127.0.0.1:1"))
    side.dialer.start()
    await until(lambda: side.faults, "a fault")
    assert isinstance(side.faults[0], RuntimeError)
    await side.dialer.stop()
