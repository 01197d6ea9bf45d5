"""A real bank node with its side of the payments plugged in, linked to a gateway that does what the test says."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from fortress.errors import FortressError
from fortress.gateway.member import Member
from fortress.gateway.messages import Acknowledge, Outcome, Prepare, Submit, Vote
from fortress.ledger.commands import PlacePayment
from fortress.ledger.model import Account, Actor
from fortress.protocol.payments import PaymentAnswer
from fortress.server.bank import new_id
from fortress.server.folder import open_folder
from fortress.server.process import Process
from tests.gateway.gateways import FakeGateway, gateway
from tests.server.banks import DEADLINE_S, World, filled_folder

AWAY = "bank-b/1000101"
SHORT_MS = 100
LONG_MS = 60_000
LONGER_US = 10 * LONG_MS * 1_000
OPENING_MINOR = 10_000
Answer = PaymentAnswer | FortressError


class MemberBank(World):
    """A bank with Alice and Bob, 100.00 EUR each, and its gateway.

    Attributes:
        member: its side of the payments.
        gateway: the gateway that the test speaks for.
        a, b: the accounts of Alice and Bob.
    """

    def __init__(self, folder: Path, process: Process, opened: AsyncExitStack, found: FakeGateway) -> None:
        super().__init__(folder, process, opened)
        self.gateway = found
        payments = self.node.ports.payments
        assert isinstance(payments, Member)
        self.member = payments

    async def settle(self, *, is_linked: bool = True) -> MemberBank:
        self.a, self.b = await self.account_of("alice"), await self.account_of("bob")
        self._alice = (await self.bank.customer_named("alice")).customer
        if is_linked:
            link = await self.gateway.wait_link()
            await link.ask("steps", (bytes(16),), list[Any])  # so it has read the directory that went before
        await self.bank.fill(
            self.bank.state.want_accounts([self.a, self.b])
        )  # or memory gets them at some later moment
        return self

    # --- the payer's side --------------------------------------------------------------------------------------------
    def command(self, amount: int = 500, payee: str = AWAY, *, id: bytes = b"", **more: Any) -> PlacePayment:
        """What Alice orders."""
        actor = Actor(self._alice, frozenset(("customer",)))
        fields = (id or new_id(), self.a, self.bank.state.settlements["EUR"], amount, "EUR", payee)
        return PlacePayment(actor, *fields, **more)

    def pay(self, command: PlacePayment) -> asyncio.Future[Answer]:
        """Order a payment; the answer comes to the future, once."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.member.pay(command, lambda answer: None if future.cancelled() else future.set_result(answer))
        return future

    def set_patience(self, wait_ms: int) -> None:
        """Set how long customers wait from now on: short where the test is about that, and long where it is not."""
        self.member._ports._wait_us = wait_ms * 1_000

    async def submitted(self) -> Submit:
        """Wait until one payment reached the gateway."""
        (submit,) = await self.gateway.wait(Submit)
        found: Submit = submit
        return found

    async def paid(self, command: PlacePayment, sequence: int = 7) -> PaymentAnswer:
        """Pay, and let the gateway decide for it."""
        answer = self.pay(command)
        submit = await self.submitted()
        await self.decide(submit.id, sequence)
        return done(await within(answer))

    # --- the gateway's word ------------------------------------------------------------------------------------------
    async def decide(self, id: bytes, sequence: int = 0, reason: int = 0) -> None:
        """Tell an outcome and wait until it is acknowledged."""
        self.gateway.send(Outcome(id, sequence, reason))
        assert await self.gateway.wait(Acknowledge) == [Acknowledge(id)]

    def prepare(self, amount: int = 500, payee: int = 0, currency: str = "EUR", *, id: bytes = b"") -> Prepare:
        return Prepare(id or new_id(), "bank-b", 1000101, payee or self.b, amount, currency, "Rent")

    async def vote(self, prepare: Prepare) -> int:
        """Have something prepared and give the reason in the vote."""
        self.gateway.send(prepare)
        (vote,) = await self.gateway.wait(Vote)
        assert vote.id == prepare.id
        reason: int = vote.reason
        return reason

    # --- the books ---------------------------------------------------------------------------------------------------
    def books(self, number: int) -> Account:
        account = self.bank.state.account(number)
        assert account is not None
        return account

    def stand(self, number: int) -> tuple[int, int, int]:
        """Balance, money held and money promised, in minor units."""
        account = self.books(number)
        return account.balance, account.debits_pending, account.credits_pending

    @property
    def position(self) -> int:
        return self.bank.state.position


async def within(answer: asyncio.Future[Answer]) -> Answer:
    """Wait for an answer, a bounded time."""
    async with asyncio.timeout(DEADLINE_S):
        return await answer


def done(answer: Answer) -> PaymentAnswer:
    assert isinstance(answer, PaymentAnswer), repr(answer)
    return answer


@asynccontextmanager
async def serving_member(
    tmp_path: Path, found: FakeGateway, *, is_linked: bool = True, **flags: str
) -> AsyncIterator[MemberBank]:
    """Serve a copy of the filled folder as a bank of this gateway; in the same test a second time, the same copy."""
    folder = tmp_path / "bank"
    if not folder.exists():
        shutil.copytree(filled_folder(), folder)
    settings = {name.replace("__", "."): value for name, value in {**found.settings, **flags}.items()}
    process = await Process.start(open_folder(folder, settings, {}), make_parts=lambda node: [Member(node)])
    async with AsyncExitStack() as opened:
        opened.push_async_callback(process.stop, deadline_s=2)
        yield await MemberBank(folder, process, opened, found).settle(is_linked=is_linked)


@asynccontextmanager
async def member(tmp_path: Path, **flags: str) -> AsyncIterator[MemberBank]:
    """A bank and its gateway, linked."""
    async with gateway() as found, serving_member(tmp_path, found, **flags) as bank:
        yield bank
