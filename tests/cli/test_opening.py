"""What a demo begins with: people and accounts, banks let in by two administrators, books compared at the end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import pytest

from fortress.cli import opening
from fortress.cli.opening import connect_banks, open_bank, settled
from fortress.cli.pairs import Pair
from fortress.cli.population import make_people
from fortress.client.me import Me
from fortress.client.money import Money
from fortress.errors import Unreachable
from fortress.protocol.accounts import AccountsAnswer
from fortress.protocol.fields import Done
from fortress.protocol.switching import BankView, PositionsAnswer, PositionView
from tests.cli.conftest import ID, NUMBER, FakeBank, account_view, user_answer


class Office(FakeBank):
    """A bank, or the gateway, whose staff does as told."""

    def __init__(self) -> None:
        super().__init__()
        self.administration = cast(Any, self)
        self.switching = cast(Any, self)
        self.connected: list[str] = []
        self.position_minor = 0
        self.settlement_minor = 0

    async def create_user(self, username: str, password: str, **more: Any) -> Any:
        roles = more.get("roles", ("customer",))
        self.note("create_user", username, roles)
        return user_answer(username, approval=ID if roles == ("teller",) else b"")

    async def approve(self, approval: bytes) -> None:
        self.note("approve", approval)

    async def add_bank(self, bank: str, cap: Money, *, authority: Any) -> Done:
        self.note("add_bank", bank, authority)
        return Done(1, approval=ID)

    async def banks(self) -> list[BankView]:
        seen = [BankView(bank, "active", True) for bank in self.connected]
        self.connected = ["a", "b"]
        return [*seen, BankView("c", "active", False)]

    async def positions(self) -> PositionsAnswer:
        self.position_minor += 100
        return PositionsAnswer([PositionView("a", "EUR", NUMBER, self.position_minor, 0, 9)], 1)

    async def accounts(self, *, all: bool, limit: int, after: int = 0) -> AccountsAnswer:
        rows = [account_view(kind="cash", balance_minor=-7)]
        settlement = account_view(kind="settlement", balance_minor=self.settlement_minor)
        return AccountsAnswer([settlement]) if after else AccountsAnswer(rows, 1)


def pair(bank: str, folder: Path) -> Pair:
    made = Pair(bank, folder, is_gateway=False, say=lambda text: None)
    for child in made.children:
        child.told = {"address": f"127.0.0.1:7611/{bank}", "status": "http://127.0.0.1:7612"}
    return made


async def test_a_bank_is_filled(tmp_path: Path) -> None:
    """Its own people only; staff needs the second administrator; the trader is no shopper."""
    office, second = Office(), Office()
    people = [person for person in make_people() if person.bank == "a"]
    branch = await open_bank(pair("a", tmp_path), cast(Me, office), cast(Me, second), people, "EUR")
    made = [call[1] for call in office.calls if call[0] == "create_user"]
    assert made[:4] == ["alice", "bob", "carol", "tom"] and "ada" not in made
    assert second.calls == [("approve", ID)]
    assert len(branch.shoppers) == 4 and branch.trader not in branch.shoppers and branch.account == NUMBER
    assert [call[2] for call in office.calls if call[0] == "deposit"][:3] == ["1000.00 EUR", "250.00 EUR", "500.00 EUR"]


async def test_banks_are_let_in_by_two_and_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until both are connected; one that does not come is told by name."""
    monkeypatch.setattr(opening, "LOOK_EVERY_S", 0)
    first, second = Office(), Office()
    pairs = [pair("a", tmp_path), pair("b", tmp_path)]
    await connect_banks(cast(Me, first), cast(Me, second), pairs, "EUR")
    assert [call[1:] for call in first.calls] == [("a", pairs[0].ca), ("b", pairs[1].ca)]
    assert second.calls == [("approve", ID)] * 2
    monkeypatch.setattr(opening, "START_S_MAX", 0)
    with pytest.raises(Unreachable, match="bank c "):
        await connect_banks(cast(Me, first), cast(Me, second), [pair("c", tmp_path)], "EUR")


async def test_books_are_compared_until_they_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Payments under way may take a moment; what still differs then is told."""
    monkeypatch.setattr(opening, "LOOK_EVERY_S", 0)
    gateway, bank = Office(), Office()
    bank.settlement_minor = -300
    assert await settled(cast(Me, gateway), {"a": cast(Me, bank)}, time.monotonic() + 10) == []
    assert gateway.position_minor == 300
    (words,) = await settled(cast(Me, gateway), {"a": cast(Me, bank)}, 0)
    assert words.startswith("EUR of a")
