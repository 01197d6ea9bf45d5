"""The light load of a demo: simulated customers within each bank, and payments between the banks, both ways.

A payment between banks is repeated with its id until the bank says what became of it, as every client has to.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fortress.client.money import Money
from fortress.errors import FortressError, Refused, RetryableError

if TYPE_CHECKING:
    from fortress.client.me import Me
    from fortress.client.scenario import Customer

PAUSE_S: Final = 0.5
AGAIN_S: Final = 0.2
ROUNDS: Final = 2
AMOUNT_MINOR_MAX: Final = 500


@dataclass(slots=True)
class Totals:
    """What was done so far: requests within banks, payments between them, and what failed for good."""

    tasks: int = 0
    payments: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Branch:
    """What the load has to know of one bank.

    Attributes:
        bank: its id.
        url: where it is.
        ca: its authority.
        shoppers: who makes the load within it.
        trader: who pays other banks.
        account: the trader's account number.
    """

    bank: str
    url: str
    ca: Path
    shoppers: Sequence[Customer]
    trader: Customer
    account: int


async def keep_busy(branch: Branch, totals: Totals) -> None:
    """Let simulated customers of one bank come and go, without end; what one of them is refused ends nothing."""
    from fortress.client.simulator import Simulator

    while True:
        simulator = Simulator(branch.url, branch.ca, branch.shoppers, rounds=ROUNDS)
        try:
            result = await simulator.run()
        except FortressError:
            totals.errors += 1
        else:
            totals.tasks += sum(row.ok + row.refused for row in result.steps)
            totals.errors += sum(row.errors for row in result.steps)
        await asyncio.sleep(PAUSE_S)


async def keep_paying(payer: Branch, payee: Branch, currency: str, totals: Totals, ended: asyncio.Event) -> None:
    """Pay from one bank to the other until ``ended``; one payment that was begun is brought to its end."""
    from fortress.client.client import connect

    async with connect(payer.url, ca=payer.ca, agent="fortress demo") as bank:
        me = await bank.login_with_seed(payer.trader.username, payer.trader.seed)
        while not ended.is_set():
            money = Money(random.randint(1, AMOUNT_MINOR_MAX), currency)
            try:
                await pay(me, f"{payee.bank}/{payee.account}", money, payer.account)
                totals.payments += 1
            except FortressError:
                totals.errors += 1
            try:
                await asyncio.wait_for(ended.wait(), PAUSE_S)
            except TimeoutError:
                continue


async def pay(me: Me, to: str, money: Money, from_account: int) -> None:
    """Pay once, with one id, until the bank says that it is done or refused.

    Raises:
        Refused: it is; the money is where it was.
        FortressError: anything that trying again does not mend.
    """
    from fortress.client.ids import new_id

    id = new_id()
    while True:
        try:
            await me.pay(to, money, reference="Between banks", id=id, from_=from_account)
            return
        except Refused:
            raise
        except RetryableError:
            await asyncio.sleep(AGAIN_S)
