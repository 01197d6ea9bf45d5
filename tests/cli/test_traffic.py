"""The load of a demo: a payment between banks is repeated with its id until it is known what became of it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from fortress.cli import traffic
from fortress.cli.traffic import Branch, Totals, keep_busy, keep_paying, pay
from fortress.client import client, simulator
from fortress.client.me import Me
from fortress.client.money import Money
from fortress.client.scenario import Customer
from fortress.errors import (
    FortressError,
    GatewayUnreachable,
    LoginFailed,
    OutcomeUnknown,
    Refused,
    Status,
    Unreachable,
)

FEW = Money(100, "EUR")


class Payer:
    """A session whose payments end as told, then are done."""

    def __init__(self, *ends: FortressError) -> None:
        self.ends = list(ends)
        self.paid: list[tuple[str, bytes, int]] = []

    async def pay(self, to: str, money: Money, *, reference: str, id: bytes, from_: int) -> None:
        self.paid.append((to, id, from_))
        if self.ends:
            raise self.ends.pop(0)


def branch(bank: str) -> Branch:
    return Branch(bank, f"fortress://127.0.0.1:1/{bank}", Path("ca.crt"), [], Customer("trader", seed=bytes(32)), 5)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "AGAIN_S", 0)
    monkeypatch.setattr(traffic, "PAUSE_S", 0.001)


async def test_a_payment_is_repeated_with_its_id() -> None:
    """Whatever an outage says; it is one payment."""
    payer = Payer(OutcomeUnknown(), GatewayUnreachable(), Unreachable())
    await pay(cast(Me, payer), "b/7", FEW, 5)
    assert len(payer.paid) == 4 and len(set(payer.paid)) == 1


@pytest.mark.parametrize("end", [Refused(Status.exceeds_available), LoginFailed()])
async def test_a_definite_answer_is_not_asked_again(end: FortressError) -> None:
    """Repeating would give the same."""
    payer = Payer(end)
    with pytest.raises(type(end)):
        await pay(cast(Me, payer), "b/7", FEW, 5)
    assert len(payer.paid) == 1


async def test_payments_go_on_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is counted, what failed for good as an error; the one under way is finished."""
    payer, totals, ended = Payer(Refused(Status.exceeds_available), Unreachable()), Totals(), asyncio.Event()

    class Bank:
        async def login_with_seed(self, username: str, seed: bytes) -> Any:
            assert (username, len(seed)) == ("trader", 32)
            return payer

    @asynccontextmanager
    async def connect(url: str, **more: Any) -> Any:
        yield Bank()

    monkeypatch.setattr(client, "connect", connect)
    task = asyncio.create_task(keep_paying(branch("a"), branch("b"), "EUR", totals, ended))
    async with asyncio.timeout(10):
        while totals.payments < 3:
            await asyncio.sleep(0.001)
        ended.set()
        await task
    assert totals.errors == 1 and {to for to, _, _ in payer.paid} == {"b/5"}


async def test_customers_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they did is counted; a round that could not begin is an error and not the end."""
    totals, turns = Totals(), []

    class Row:
        ok, refused, errors = 3, 1, 0

    class Rounds:
        steps = (Row, Row)

        def __init__(self, *arguments: Any, **more: Any) -> None:
            pass

        async def run(self) -> Rounds:
            turns.append(1)
            if len(turns) == 1:
                raise Unreachable
            return self

    monkeypatch.setattr(simulator, "Simulator", Rounds)
    task = asyncio.create_task(keep_busy(branch("a"), totals))
    async with asyncio.timeout(10):
        while totals.tasks < 16:
            await asyncio.sleep(0.001)
    task.cancel()
    assert (totals.errors, totals.tasks % 8) == (1, 0)
