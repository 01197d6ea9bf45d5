"""Reading of one bank: what memory has and what only the tables have, people's data opened, and never what may be lost.

Memory runs ahead of the disk by what is judged and not yet written, so whoever tells what it shows waits first until
the newest entry in it is committed. Methods are coroutines that run blocking reads on the committer's reader threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace as replaced
from functools import partial
from typing import Any, TypeVar

import msgspec

from fortress.errors import FortressError, Refused, Status
from fortress.ledger.engine import Engine
from fortress.ledger.entries import AnyEntry
from fortress.ledger.model import BANK, Account, Customer, CustomerState, Hold, HoldState
from fortress.ledger.payment_queries import PaymentFound, PaymentQueries
from fortress.ledger.queries import Found
from fortress.ledger.state import Wanted
from fortress.ledger.vault import Vault
from fortress.protocol.accounts import Profile
from fortress.server.committer import Committer
from fortress.server.login import LoginDesk

Result = TypeVar("Result")


class Person(msgspec.Struct, frozen=True):
    """What is sealed under a customer's own key."""

    username: str
    profile: Profile

    def encoded(self) -> bytes:
        """Make the bytes that are sealed."""
        return _encode(self)


NOBODY = Person("", Profile())
_encode = msgspec.msgpack.Encoder().encode
_decode_person = msgspec.msgpack.Decoder(Person).decode


class Reader:
    """What can be read of one bank.

    Args:
        engine: its ledger.
        committer: knows what is committed, and has the reader threads.
        vault: its people's keys.
        desk: what turns usernames into handles.
    """

    def __init__(self, engine: Engine, committer: Committer, vault: Vault, desk: LoginDesk) -> None:
        self.engine = engine
        self.state = engine.state
        self.committer = committer
        self.vault = vault
        self.desk = desk
        self.queries = PaymentQueries(engine.store)

    # --- Reading ---------------------------------------------------------------------------------------------------
    async def read(self, function: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
        """Run a blocking read on a reader thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.committer.readers, lambda: function(*arguments, **named))

    async def committed(self, position: int) -> None:
        """Wait until a position that was judged is committed: before that, nothing that shows it may be told.

        Raises:
            FortressError: that cannot be waited for now.
        """
        if position > self.committer.committed_position:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.committer.when_committed(position, partial(_settle, future))
            await future

    async def fill(self, wanted: Wanted | None) -> None:
        """Read what memory lacks; reading alone must not make it grow, so what is long unused is forgotten."""
        if wanted is not None:
            self.state.fill(wanted, await self.read(self.engine.store.load, wanted))
            self.state.trim(self.engine.store.applied_position)

    async def known(self, id: bytes) -> tuple[int, AnyEntry] | None:
        """Give position and content of the first entry written under an id, once it is committed."""
        known = self.state.known(id)
        if known is None:
            return await self.read(self.queries.entry_of, id)
        await self.committed(known[0])
        return known

    async def account(self, number: int) -> Account | None:
        """Give an account as it is judged now, reading it if memory does not have it."""
        await self.fill(self.state.want_account(number))
        return self.state.account(number)

    async def customer(self, number: int) -> Customer | None:
        """Give a customer by number."""
        await self.fill(self.state.want_customer(customer=number))
        return self.state.customer(number)

    async def customer_named(self, username: str) -> Customer:
        """Give a customer by username.

        Raises:
            Refused: nobody has this username.
        """
        handle = self.desk.handle_of(username)
        await self.fill(self.state.want_customer(handle=handle))
        customer = self.state.customer_by_handle(handle)
        if customer is None or customer.state == CustomerState.erased:
            await self.committed(customer.position if customer is not None else 0)
            raise Refused(Status.customer_unknown)
        return customer

    async def customer_number(self, username: str) -> int:
        """Give the number of whoever has or had this username, for a command that the rules refuse; 0 for nobody."""
        handle = self.desk.handle_of(username)
        await self.fill(self.state.want_customer(handle=handle))
        customer = self.state.customer_by_handle(handle)
        return customer.customer if customer is not None else 0

    async def tables_hold(self, position: int) -> None:
        """Wait until the tables hold everything up to a position that memory has seen."""
        await self.committer.wait_applied(min(position, self.engine.state.position))

    # --- Payments between banks ------------------------------------------------------------------------------------
    async def open_payments(self, limit: int, after: bytes = b"") -> tuple[list[PaymentFound], bytes]:
        """Page through the payments that are neither committed nor aborted here, by id.

        All that were placed when this was called, without those that have ended since. The second of the answer is what
        to go on after, empty at the end.
        """
        await self.committer.wait_applied(self.state.position)
        page = await self.read(self.queries.open_payments, limit, after)
        known = self.state.hold
        still = [found for found in page if (now := known(found.hold.id)) is None or now.state == HoldState.open]
        return still, page[-1].hold.id if len(page) == limit else b""

    async def payment_entries(self, id: bytes) -> list[Found]:
        """List what was written under a payment's id: its placing and how it ended, or its refusal; else nothing."""
        known, hold = self.state.known(id), self.state.hold(id)
        await self.tables_hold(max(known[0] if known is not None else 0, hold.position if hold is not None else 0))
        return await self.read(self.queries.payment_entries, id)

    async def hold(self, id: bytes) -> Hold | None:
        """Give a hold as it is now, once that is committed; None when there is none."""
        hold = self.state.hold(id)
        if hold is None:
            return await self.read(self.queries.hold_of, id)
        seen = replaced(hold)
        await self.committed(seen.position)
        return seen

    async def payments_of(self, customer: int, *, limit: int, cursor: int = 0) -> tuple[list[PaymentFound], int]:
        """Page through a customer's payments from and to other banks, newest first; with the cursor, 0 at the end."""
        await self.committer.wait_applied(self.state.position)
        numbers = await self.read(self.queries.accounts_of, customer)
        return await self.read(self.queries.payments_of, numbers, limit=limit, cursor=cursor)

    async def person(self, customer: Customer) -> Person:
        """Open a customer's personal data as it is now, once that is committed; an erased one's is empty."""
        handle, sealed = customer.handle, customer.profile
        await self.committed(customer.position)
        plain = await self.read(self.vault.open_person, handle, sealed) if sealed else None
        return NOBODY if plain is None else _decode_person(plain)

    async def username(self, number: int) -> str:
        """Name a customer for people; the bank itself is ``bank``, another bank goes by its name."""
        if number <= BANK:
            return next((name for name, bank in self.state.banks.items() if bank.number == -number), "bank")
        customer = await self.customer(number)
        if customer is None:
            return str(number)
        return (await self.person(customer)).username or f"erased-{number}"


def _settle(future: asyncio.Future[None], outcome: FortressError | None) -> None:
    if future.done():
        return
    if outcome is None:
        future.set_result(None)
    else:
        future.set_exception(type(outcome)(outcome.message, outcome.facts))
