"""Two banks and their gateway as anybody starts them: one node each, customers with money, the banks let in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.bank import ACCOUNTS_PER_CUSTOMER, ADMINISTRATOR, CURRENCY, Plan, free_port, make_folder, numbers_of
from fortress.cli.gateways import connect_bank, gateway_of
from fortress.client.me import Me
from fortress.client.money import Money
from fortress.errors import GatewayUnreachable
from fortress.ledger.model import account_number
from fortress.protocol.switching import PositionView
from tests.e2e.node import Node

BANKS = ("a", "b")
GATEWAY = "gateway"
ACCOUNTS = 2 * ACCOUNTS_PER_CUSTOMER
OPENING_MINOR = 100_000
CAP_MINOR = 1_000_000
PATIENCE_S = 30.0
NUMBERS = numbers_of(ACCOUNTS)
SETTLEMENT = numbers_of(ACCOUNTS + 1)[-1]
"""The account opened at a bank's first start; the same at both."""
NOBODYS = account_number(77_777)


@dataclass(frozen=True)
class Books:
    """What all three say once nothing is under way.

    Attributes:
        balances: of each bank's customers' accounts together, minor units.
        settlements: what stands on each bank's settlement account.
        positions: of each bank at the gateway.
    """

    balances: dict[str, int]
    settlements: dict[str, int]
    positions: dict[str, PositionView]

    def check(self) -> None:
        """No money came or went, and each bank's books say what the gateway's say."""
        assert sum(self.balances.values()) == 2 * ACCOUNTS * OPENING_MINOR
        for bank in BANKS:
            assert self.balances[bank] == ACCOUNTS * OPENING_MINOR - self.settlements[bank]
            assert self.positions[bank].position_minor == -self.settlements[bank]
            assert self.positions[bank].reserved_minor == 0
        assert sum(view.position_minor for view in self.positions.values()) == 0


class Town:
    """The three nodes; ``with Town(parent) as town`` starts them and ends them whatever happens.

    Attributes:
        nodes: by name.
    """

    def __init__(self, parent: Path) -> None:
        common: dict[str, str | int] = {"ledger.segment_bytes": 1024 * 1024, "log.requests": "all"}
        switch = {"switch.listen": f"127.0.0.1:{free_port()}", "switch.deadline_ms": 5_000}
        make_folder(parent / GATEWAY, Plan(accounts=0, bank=GATEWAY, settings={**common, **switch}))
        for bank in BANKS:
            own: dict[str, str | int] = {**common, "gateway.wait_ms": 5_000}
            plan = Plan(accounts=ACCOUNTS, bank=bank, opening_minor=OPENING_MINOR, settings=own)
            make_folder(parent / bank, plan)
            connect_bank([parent / bank], gateway_of([parent / GATEWAY]))
        self.nodes = {name: Node(parent / name) for name in (*BANKS, GATEWAY)}

    def __enter__(self) -> Self:
        try:
            for node in self.nodes.values():
                node.spawn()
            for node in self.nodes.values():
                node.wait_listening()
            asyncio.run(self._admit())
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                assert {name: node.stop() for name, node in self.nodes.items() if node.process} == dict.fromkeys(
                    self.nodes, 0
                ), self.story()
        finally:
            self.kill()

    def kill(self) -> None:
        """End all of them as crashes do."""
        for node in self.nodes.values():
            node.kill()

    def story(self) -> str:
        """Give the end of what each wrote."""
        ends = (f"--- {name}\n" + "\n".join(node.log().splitlines()[-20:]) for name, node in self.nodes.items())
        return "\n".join(ends)

    # --- people ------------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def people(self, *who: tuple[str, str], deadline_s: float = PATIENCE_S) -> AsyncIterator[Sequence[Me]]:
        """Sign several people in, each named with where."""
        async with AsyncExitStack() as opened:
            yield [
                await opened.enter_async_context(self.nodes[where].session(name, deadline_s=deadline_s))
                for where, name in who
            ]

    async def _admit(self) -> None:
        async with self.people((GATEWAY, ADMINISTRATOR)) as (admin,):
            for bank in BANKS:
                done = await admin.switching.add_bank(bank, Money(CAP_MINOR, CURRENCY), authority=self.nodes[bank].ca)
                assert not done.approval
        await self.wait_connected()

    async def wait_connected(self, banks: Sequence[str] = BANKS) -> None:
        """Wait until exactly these banks are linked to the gateway, and each of them knows it of all."""
        for where in (GATEWAY, *banks):
            async with self.people((where, ADMINISTRATOR)) as (admin,), asyncio.timeout(PATIENCE_S):
                while await _connected(admin) != set(banks):
                    await asyncio.sleep(0.02)

    # --- the books ---------------------------------------------------------------------------------------------------
    async def wait_quiet(self) -> None:
        """Wait until nothing is in doubt anywhere."""
        for where in (*BANKS, GATEWAY):
            async with self.people((where, ADMINISTRATOR)) as (admin,):
                end = time.monotonic() + PATIENCE_S
                while found := await admin.payments(in_doubt=True):
                    assert time.monotonic() < end, f"in doubt at {where}: {found}\n{self.story()}"
                    await asyncio.sleep(0.05)

    async def books(self) -> Books:
        """Read all three, once nothing is under way."""
        await self.wait_quiet()
        balances, settlements = {}, {}
        for bank in BANKS:
            async with self.people((bank, ADMINISTRATOR)) as (admin,):
                views = await asyncio.gather(*map(admin.account, NUMBERS))
                assert {view.held_minor for view in views} == {0}
                balances[bank] = sum(view.balance_minor for view in views)
                settlements[bank] = (await admin.account(SETTLEMENT)).balance_minor
        async with self.people((GATEWAY, ADMINISTRATOR)) as (admin,):
            positions = {view.bank: view for view in (await admin.switching.positions()).positions}
            window = await admin.switching.window()
            assert {row.agrees for row in window.rows} == {"yes"}, window
        return Books(balances, settlements, positions)


async def _connected(admin: Me) -> set[str]:
    """Name the banks that are linked, as far as this bank or gateway knows: at first a bank knows nothing."""
    try:
        return {bank.bank for bank in await admin.banks() if bank.is_connected}
    except GatewayUnreachable:
        return set()


async def aside(function: object, *arguments: object) -> object:
    """Do what blocks on a thread, so that clients go on meanwhile."""
    assert callable(function)
    return await asyncio.to_thread(function, *arguments)
