"""People for demos and simulations: made by an administrator, given an account and some money to begin with."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from fortress.client.money import Money
from fortress.client.scenario import Customer
from fortress.protocol.accounts import Profile

if TYPE_CHECKING:
    from fortress.client.me import Me

SEED_BYTES: Final = 32
AT_ONCE: Final = 8
OPENING_REFERENCE: Final = "Opening deposit"


def make_customers(count: int, prefix: str) -> list[Customer]:
    """Invent customers that sign in with random seeds, which live in this process only."""
    return [Customer(f"{prefix}-{number}", seed=secrets.token_bytes(SEED_BYTES)) for number in range(1, count + 1)]


async def settle(me: Me, customers: Sequence[Customer], opening: Money, *, names: dict[str, str] | None = None) -> None:
    """Make customers of the bank, open an account for each and pay some money in (administrator).

    Args:
        me: session of an administrator.
        customers: who shall be one.
        opening: what each begins with.
        names: username -> as people call them.
    """
    turn = asyncio.Semaphore(AT_ONCE)

    async def settle_one(customer: Customer) -> None:
        async with turn:
            name = (names or {}).get(customer.username, customer.username)
            await me.administration.create_user(
                customer.username, customer.password, seed=customer.seed, profile=Profile(name=name)
            )
            await open_with(me, customer.username, opening)

    await asyncio.gather(*(settle_one(customer) for customer in customers))


async def open_with(me: Me, username: str, opening: Money) -> int:
    """Open an account for somebody and pay money in; gives its number."""
    view = await me.open_account(opening.currency, username=username)
    if opening.minor:
        await me.deposit(view.number, opening, reference=OPENING_REFERENCE)
    return view.number
