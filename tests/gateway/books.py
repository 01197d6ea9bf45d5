"""Real books of a bank and of a gateway, into which a test writes payments, and questions from one to the other."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from fortress.errors import BankUnreachable, FortressError
from fortress.gateway import settlement
from fortress.ledger.commands import (
    AbortPayment,
    ChangeBank,
    Command,
    CommitPayment,
    OpenAccount,
    PlacePayment,
)
from fortress.ledger.engine import Engine
from fortress.ledger.model import BANK_ACTOR, SWITCH_ACTOR, AccountKind, Actor
from fortress.ledger.rules import Verdict
from fortress.ledger.vault import Vault
from fortress.server.bank import Bank, accepted, new_id
from fortress.server.committer import Committer, CommitterSettings
from fortress.server.folder import open_folder
from fortress.server.login import LoginDesk
from fortress.server.process import PEOPLE_FILE
from tests.server.banks import BANK, filled_folder

OTHER = "bank-b"
STAFF = Actor(10**6, frozenset(("administrator",)))
Fields = TypeVar("Fields")


class Side:
    """Books into which the test writes what a node's own part in payments would."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self.settlement = 0
        self.alice = self.bob = 0  # their accounts
        self.positions: dict[str, int] = {}

    async def do(self, command: Command) -> Verdict:
        return accepted(await self.bank.commit(command))

    async def actor(self, username: str) -> Actor:
        return Actor((await self.bank.customer_named(username)).customer, frozenset(("customer",)))

    async def account_of(self, username: str) -> int:
        return (await self.bank.customer_named(username)).default_account

    # --- a bank ----
    async def become_bank(self) -> None:
        await self.bank.open_settlements()
        self.settlement = self.bank.state.settlements["EUR"]
        self.alice = await self.account_of("alice")
        self.bob = await self.account_of("bob")

    async def hold_out(self, id: bytes, amount: int = 100, *, payer: str = "alice") -> None:
        """Place a payment of Alice to the other bank."""
        actor, account = await self.actor(payer), await self.account_of(payer)
        await self.do(PlacePayment(actor, id, account, self.settlement, amount, "EUR", f"{OTHER}/555", "Lunch"))

    async def hold_in(self, id: bytes, amount: int = 100) -> None:
        """Place a payment from the other bank to Bob."""
        await self.do(PlacePayment(SWITCH_ACTOR, id, self.settlement, self.bob, amount, "EUR", f"{OTHER}/555", "Lunch"))

    async def commit(self, id: bytes, sequence: int = 0) -> int:
        return (await self.do(CommitPayment(SWITCH_ACTOR, id, sequence))).position

    async def abort(self, id: bytes, reason: int) -> None:
        await self.do(AbortPayment(SWITCH_ACTOR, id, reason))

    # --- a gateway ----
    async def become_gateway(self, *, suspended: str = "") -> None:
        for number, name in enumerate((BANK, OTHER), 1):
            await self.do(ChangeBank(STAFF, new_id(), name, "add", b"certificate of " + name.encode()))
            account = OpenAccount(BANK_ACTOR, new_id(), -number, int(AccountKind.position), "EUR", -1_000_000)
            self.positions[name] = (await self.do(account)).entry.number
        if suspended:
            await self.do(ChangeBank(STAFF, new_id(), suspended, "suspend"))

    async def intend(self, id: bytes, amount: int = 100, *, payer: str = BANK) -> None:
        payee = OTHER if payer == BANK else BANK
        accounts = self.positions[payer], self.positions[payee]
        await self.do(PlacePayment(SWITCH_ACTOR, id, *accounts, amount, "EUR", f"{payer}/111>{payee}/555", "Lunch"))

    async def clear(self, amount: int = 100, *, payer: str = BANK, id: bytes = b"") -> tuple[bytes, int]:
        """Decide a payment; give its id and sequence."""
        id = id or new_id()
        await self.intend(id, amount, payer=payer)
        return id, await self.commit(id)


@asynccontextmanager
async def one_side(folder: Path) -> AsyncIterator[Side]:
    """Open the books of a bank with people; nobody is served."""
    shutil.copytree(filled_folder(), folder)
    with closing(open_folder(folder, {}, {})) as opened:
        keys = opened.keyring
        engine = Engine.open(
            folder, bank=BANK, data_key=keys.data_key, store_key=keys.store_key, segment_bytes=1024 * 1024
        )
        fatal: list[FortressError] = []
        committer = Committer(
            *(engine, CommitterSettings()),
            on_commit=lambda delta: None,
            after_answers=lambda: None,
            on_fatal=fatal.append,
        )
        vault = Vault(folder / PEOPLE_FILE, keys.vault_key)
        desk = LoginDesk(BANK, keys.handle_key, opened.settings.login)
        try:
            yield Side(Bank(engine, committer, vault, desk, head_seed=keys.head_seed))
        finally:
            await committer.close()
            vault.close()
            engine.close()
            assert fatal == []


@asynccontextmanager
async def bank_side(tmp_path: Path) -> AsyncIterator[Side]:
    """A bank with settlement accounts."""
    async with one_side(tmp_path / "bank") as bank:
        await bank.become_bank()
        yield bank


@asynccontextmanager
async def two_sides(tmp_path: Path) -> AsyncIterator[tuple[Side, Side]]:
    """A gateway and a bank, each with books of its own."""
    async with one_side(tmp_path / "gateway") as gateway, bank_side(tmp_path) as bank:
        yield gateway, bank


class Asked:
    """Asks banks: those that are here answer from their books, others do not.

    Attributes:
        questions: (bank, about) of each.
        failing: raised instead of asking a bank.
    """

    def __init__(self, **banks: Bank) -> None:
        self._answers: dict[str, dict[str, Callable[[msgspec.Raw], Awaitable[Any]]]] = {}
        self.questions: list[tuple[str, str]] = []
        self.failing: dict[str, FortressError] = {}
        for name, bank in banks.items():
            self.add(name.replace("_", "-"), bank)

    def add(self, name: str, bank: Bank) -> None:
        self._answers[name] = {
            "root": lambda fields: settlement.answer_root(bank, fields),
            "leaves": lambda fields: settlement.answer_leaves(bank, fields),
        }

    def answer(self, name: str, about: str, answer: Callable[[msgspec.Raw], Awaitable[Any]]) -> None:
        """From now on a bank answers so about something."""
        self._answers.setdefault(name, {})[about] = answer

    async def __call__(self, bank: str, about: str, fields: object, type: type[Fields]) -> Fields:
        self.questions.append((bank, about))
        await asyncio.sleep(0)
        if bank in self.failing:
            raise self.failing[bank]
        if bank not in self._answers:
            raise BankUnreachable
        found = await self._answers[bank][about](msgspec.Raw(msgspec.msgpack.encode(fields)))
        return msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=type)
