"""People for demos and simulations: made by an administrator, given an account and some money to begin with."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fortress.client.money import Money
from fortress.client.scenario import Customer
from fortress.protocol.accounts import Profile

if TYPE_CHECKING:
    from fortress.client.me import Me

SEED_BYTES: Final = 32
AT_ONCE: Final = 8
OPENING_REFERENCE: Final = "Opening deposit"

WORDS: Final = (
    "amber anchor autumn basil birch blanket bridge candle canyon cedar cherry clover copper coral cotton "
    "ember falcon fern garden ginger harbor hazel island ivory juniper lantern maple marble meadow mint "
    "nickel ocean olive orchard pebble pepper pine plum quartz raven river saffron shadow silver spruce "
    "stone summer thistle thunder timber tulip valley velvet violet walnut willow winter"
).split()


def make_password() -> str:
    """Make a password that can be typed: four words."""
    return "-".join(secrets.choice(WORDS) for _ in range(4))


@dataclass(frozen=True, slots=True)
class Person:
    """One of a demo's people.

    Attributes:
        bank: where they are known.
        username: to sign in with; no other person of the demo has it.
        name: as people call them.
        role: what they are there.
        openings_minor: an account for each, with this much to begin with.
        password: made anew for each demo.
    """

    bank: str
    username: str
    name: str
    role: str
    openings_minor: tuple[int, ...] = ()
    password: str = field(default_factory=make_password, repr=False)


def make_people() -> list[Person]:
    """Give the people of banks a and b and of the gateway between them, with new passwords."""
    return [
        Person("a", "alice", "Alice Example", "customer", (1_000_00, 250_00)),
        Person("a", "bob", "Bob Example", "customer", (500_00,)),
        Person("a", "carol", "Carol Example", "customer", (20_00,)),
        Person("a", "tom", "Tom Example", "teller"),
        Person("a", "ada", "Ada Example", "administrator"),
        Person("a", "grace", "Grace Example", "administrator"),
        Person("b", "ines", "Ines Example", "customer", (300_00,)),
        Person("b", "hugo", "Hugo Example", "customer", (750_00,)),
        Person("b", "bea", "Bea Example", "administrator"),
        Person("gateway", "gus", "Gus Example", "administrator"),
        Person("gateway", "gina", "Gina Example", "administrator"),
    ]


def make_customers(count: int, prefix: str) -> list[Customer]:
    """Invent customers that sign in with random seeds, which live in this process only."""
    return [Customer(f"{prefix}-{number}", seed=secrets.token_bytes(SEED_BYTES)) for number in range(1, count + 1)]


async def settle(
    me: Me, customers: Sequence[Customer], opening: Money, *, names: dict[str, str] | None = None
) -> list[int]:
    """Make customers of the bank, open an account for each and pay some money in (administrator).

    Args:
        me: session of an administrator.
        customers: who shall be one.
        opening: what each begins with.
        names: username -> as people call them.

    Returns:
        their account numbers, in order.
    """
    turn = asyncio.Semaphore(AT_ONCE)

    async def settle_one(customer: Customer) -> int:
        async with turn:
            name = (names or {}).get(customer.username, customer.username)
            await me.administration.create_user(
                customer.username, customer.password, seed=customer.seed, profile=Profile(name=name)
            )
            return await open_with(me, customer.username, opening)

    return await asyncio.gather(*(settle_one(customer) for customer in customers))


async def open_with(me: Me, username: str, opening: Money) -> int:
    """Open an account for somebody and pay money in; gives its number."""
    view = await me.open_account(opening.currency, username=username)
    if opening.minor:
        await me.deposit(view.number, opening, reference=OPENING_REFERENCE)
    return view.number
