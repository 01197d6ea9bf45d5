"""What a simulated customer does: a list of steps, each with what should come of it.

The default is an everyday visit: look at the balance, send money, bring the contact data up to date, and ask for
something that does not exist, which the bank must refuse clearly while the session goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from fortress.client.ids import new_id
from fortress.client.me import Me
from fortress.client.money import Money
from fortress.client.payments import Payment
from fortress.client.reading import Balance
from fortress.errors import FortressError, IntegrityFailed, Refused, UnknownOperation
from fortress.protocol.accounts import Profile
from fortress.protocol.administration import StatusRequest


@dataclass(frozen=True, slots=True)
class Customer:
    """One who takes part.

    Attributes:
        username: to sign in with.
        password: or empty when there is a seed.
        seed: 32 bytes, or empty when there is a password.
    """

    username: str
    password: str = field(default="", repr=False)
    seed: bytes = field(default=b"", repr=False)


@dataclass(slots=True)
class Visitor:
    """A customer in the middle of the simulation; what steps learn for later steps stands here.

    Attributes:
        index: number of the client, from 0.
        customer: who.
        me: the session.
        amount_minor: how much each transfer sends.
        number: future of the customer's account number, known once a balance was read.
        payee: future of the account number that money goes to.
        balance: the last one read.
        payments: those done.
        payment_id: of a payment whose outcome is not known yet, so that it is repeated and not made twice.
        round: which round it is, from 0.
    """

    index: int
    customer: Customer
    me: Me
    amount_minor: int
    number: asyncio.Future[int]
    payee: asyncio.Future[int]
    balance: Balance | None = None
    payments: list[Payment] = field(default_factory=list)
    payment_id: bytes = b""
    round: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a visitor does.

    Attributes:
        name: for the result table.
        run: does it; raises what the bank raises, or `IntegrityFailed` when an answer cannot be right.
        refusal: the error that must come; None when it must succeed.
    """

    name: str
    run: Callable[[Visitor], Awaitable[object]]
    refusal: type[FortressError] | None = None


async def check_balance(visitor: Visitor) -> None:
    """Read the balance, whose parts must fit each other."""
    balance = visitor.balance = await visitor.me.balance()
    if balance.available.minor != balance.balance.minor - balance.held.minor:
        raise IntegrityFailed("available is not balance less held", {"account": balance.number})
    if not visitor.number.done():
        visitor.number.set_result(balance.number)


async def transfer(visitor: Visitor) -> None:
    """Send a little money to the next one; the answer must be a new place in the journal.

    Taken again after an unknown outcome, it repeats the same payment.
    """
    balance = visitor.balance
    if balance is None:
        raise IntegrityFailed("the balance step did not succeed, so the account to pay from is not known")
    payee = await visitor.payee
    money = Money(visitor.amount_minor, balance.available.currency)
    id = visitor.payment_id = visitor.payment_id or new_id()
    reference = f"simulation {visitor.index}"
    try:
        payment = await visitor.me.transfer(balance.number, payee, money, reference=reference, id=id)
    except Refused:
        visitor.payment_id = b""
        raise
    visitor.payment_id = b""
    if any(payment.position == earlier.position for earlier in visitor.payments):
        raise IntegrityFailed("two payments have the same place in the journal", {"position": payment.position})
    visitor.payments.append(payment)


async def update_contact(visitor: Visitor) -> None:
    """Replace the contact data."""
    name, phone = visitor.customer.username, f"+000 {visitor.index:06d} {visitor.round}"
    await visitor.me.set_profile(Profile(name=name, phone=phone))


async def ask_nonsense(visitor: Visitor) -> None:
    """Ask for an operation that no bank has."""
    await visitor.me.ask("make_me_rich", StatusRequest())


DEFAULT: tuple[Step, ...] = (
    Step("check balance", check_balance),
    Step("transfer", transfer),
    Step("update contact information", update_contact),
    Step("invalid request", ask_nonsense, UnknownOperation),
)
