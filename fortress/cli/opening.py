"""What a demo's banks and gateway are given before anybody comes: people, accounts, and each other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from fortress.cli.pairs import LOOK_EVERY_S, START_S_MAX, Pair
from fortress.cli.population import Person, make_customers, open_with, settle
from fortress.cli.traffic import Branch
from fortress.client.money import Money
from fortress.errors import Unreachable

if TYPE_CHECKING:
    from fortress.client.me import Me

SHOPPERS: Final = 4
OPENING_MINOR: Final = 1_000_00
CAP_MINOR: Final = 100_000_00
PAGE_ROWS: Final = 500


async def open_bank(pair: Pair, me: Me, second: Me | None, people: Sequence[Person], currency: str) -> Branch:
    """Make a bank's sample people, their accounts, and the customers of the load.

    Args:
        pair: the bank.
        me: session of its first administrator.
        second: of the second one, who approves staff.
        people: who shall be known there; administrators are already.
        currency: of all accounts.
    """
    from fortress.protocol.accounts import Profile

    for person in people:
        if person.role != "administrator":
            profile = Profile(name=person.name, email=f"{person.username}@example.org")
            made = await me.administration.create_user(
                person.username, person.password, roles=(person.role,), profile=profile
            )
            if made.approval and second is not None:  # staff is made by two administrators
                await second.administration.approve(made.approval)
        for opening in person.openings_minor:
            await open_with(me, person.username, Money(opening, currency))
    *shoppers, trader = make_customers(SHOPPERS + 1, "shopper")
    *_, account = await settle(me, [*shoppers, trader], Money(OPENING_MINOR, currency))
    return Branch(pair.bank, pair.url, pair.ca, shoppers, trader, account)


async def connect_banks(me: Me, second: Me, banks: Sequence[Pair], currency: str) -> None:
    """Let banks into a gateway, and wait until all are connected.

    Args:
        me: session of an administrator of the gateway.
        second: of another one, who approves.
        banks: with nodes that know the gateway already.
        currency: in which they may pay.

    Raises:
        Unreachable: one did not come in time.
    """
    for pair in banks:
        done = await me.switching.add_bank(pair.bank, Money(CAP_MINOR, currency), authority=pair.ca)
        if done.approval:
            await second.administration.approve(done.approval)
    wanted = {pair.bank for pair in banks}
    deadline = time.monotonic() + START_S_MAX
    while missing := wanted - {view.bank for view in await me.switching.banks() if view.is_connected}:
        if time.monotonic() > deadline:
            raise Unreachable(f"bank {', '.join(sorted(missing))} did not connect to the gateway")
        await asyncio.sleep(LOOK_EVERY_S)


async def settled(gateway: Me, banks: Mapping[str, Me], deadline_s: float) -> list[str]:
    """Compare each bank's settlement account with its position at the gateway, once nothing is under way.

    Args:
        gateway: session of its staff.
        banks: bank -> session of its staff.
        deadline_s: until when to wait for payments under way, on the monotonic clock.

    Returns:
        what differs, in words; empty when all agree.
    """
    while True:
        differing = await _differing(gateway, banks)
        if not differing or time.monotonic() > deadline_s:
            return differing
        await asyncio.sleep(LOOK_EVERY_S)


async def _differing(gateway: Me, banks: Mapping[str, Me]) -> list[str]:
    found: list[str] = []
    held = {bank: await _settlement(me) for bank, me in banks.items()}
    for view in (await gateway.switching.positions()).positions:
        # what a bank's customers paid out lies in its settlement account, and the bank owes it to the others
        if view.position_minor + held.get(view.bank, {}).get(view.currency, 0):
            found.append(f"{view.currency} of {view.bank} and its position at the gateway")
    return found


async def _settlement(me: Me) -> dict[str, int]:
    """Sum a bank's settlement accounts by currency."""
    sums: dict[str, int] = {}
    page = await me.administration.accounts(all=True, limit=PAGE_ROWS)
    views = list(page.accounts)
    while page.next_after:
        page = await me.administration.accounts(all=True, after=page.next_after, limit=PAGE_ROWS)
        views += page.accounts
    for view in views:
        if view.kind == "settlement":
            sums[view.currency] = sums.get(view.currency, 0) + view.balance_minor
    return sums
