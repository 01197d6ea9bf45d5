"""The clients of a fault trial: payers, watchers of the books, a counter and who looks at it. All write the history.

Payers use the client library with the addresses of both nodes, as anybody would: its retries, its way to the new
primary, its resumed sessions are tested with the rest. Whoever is pinned to one node uses a bare connection to it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from bench.bank import ACCOUNTS_PER_CUSTOMER, BANK_ID, TELLER, seed_of, username_of
from fortress.client.address import Endpoint
from fortress.client.client import Client, connect
from fortress.client.ids import new_id
from fortress.client.link import Link, open_link
from fortress.client.me import Me
from fortress.client.trust import Trust
from fortress.errors import OK, FortressError, NoPrimary, NotPrimary, Refused, RetryableError, refusal_code
from fortress.protocol.accounts import GetAccount, ListAccounts
from fortress.protocol.money import Transfer
from tests.e2e.node import CURRENCY, sign_in
from tests.fault.history import History, Move
from tests.fault.orders import Customer, Order

TRY_S: Final = 1.5
DEADLINE_S: Final = 15.0
SETTLE_S: Final = 60.0
PAUSE_S: Final = 0.02
LOOK_EVERY_S: Final = 0.02
READ_EVERY_S: Final = 0.2
PAGE: Final = 1000
ABANDONED: Final = 0.1
"""Share of the orders without an answer that are never repeated, so that some stay unknown."""
STALE_MS_MAX: Final = 600_000


class Bank:
    """The bank as clients see it.

    Args:
        address: with both nodes.
        ca: file of the authority.
        endpoints: of each node by its host.
        numbers: of all accounts; the last two belong to the counter.
        opening_minor: what each account began with.
    """

    def __init__(
        self, address: str, ca: Path, endpoints: dict[str, Endpoint], numbers: Sequence[int], opening_minor: int
    ) -> None:
        self.address = address
        self.ca = ca
        self.endpoints = endpoints
        self.numbers = list(numbers)
        self.opening_minor = opening_minor
        self._hosts = {endpoint: host for host, endpoint in endpoints.items()}

    @property
    def counter(self) -> tuple[int, int]:
        """The accounts that only the counter uses."""
        return self.numbers[-2], self.numbers[-1]

    @property
    def owner_of_counter(self) -> str:
        """Whose they are."""
        return username_of(len(self.numbers) - 1)

    def host_of(self, me: Me) -> str:
        """Name the node that a session is connected to."""
        link = me._calls.route.current
        return self._hosts.get(link.endpoint, "") if link is not None else ""

    async def sign_in(self, username: str, deadline_s: float = DEADLINE_S) -> tuple[Client, Me]:
        """Sign in through the client library."""
        client = connect(self.address, ca=self.ca, timeout_s=TRY_S, deadline_s=deadline_s)
        await client
        return client, await client.login_with_seed(username, seed_of(username))

    async def link(self, host: str, username: str) -> Link:
        """Sign in at one node alone."""
        link = await open_link(self.endpoints[host], BANK_ID, Trust(self.ca), timeout_s=TRY_S)
        try:
            await sign_in(link, BANK_ID, username)
        except BaseException:
            link.abort()
            raise
        return link


def moves_of(order: Order) -> list[Move]:
    """Give what an order asks to be moved, one for each of its ids; nothing where the bank decides."""
    fields: Any = order.fields
    if order.operation == "transfers":
        return [(row.debit, row.credit, row.amount_minor) for row in fields.rows]
    if order.operation in ("transfer", "hold"):
        return [(fields.debit, fields.credit, fields.amount_minor)]
    return []


def facts_of(answer: Any) -> dict[str, Any]:
    """Give what the history keeps of an answer."""
    names = ("position", "time_us", "replayed", "statuses")
    return {name: getattr(answer, name) for name in names if hasattr(answer, name)}


def code_of(error: FortressError) -> int:
    """Give the wire code of what a call raised."""
    return refusal_code(error.status) if isinstance(error, Refused) else error.code


class Caller:
    """One payer: one order after the other, each noted before it is sent and when it has ended.

    Attributes:
        acknowledged: orders so far.
        failed: tries without a definite answer.
    """

    def __init__(self, index: int, bank: Bank, history: History, chance: random.Random) -> None:
        payers = bank.numbers[:-2]
        owner = index * ACCOUNTS_PER_CUSTOMER % len(payers)
        is_teller = index % 2 == 0
        own = payers if is_teller else payers[owner : owner + ACCOUNTS_PER_CUSTOMER]
        self.name = f"payer {index}"
        self.acknowledged = 0
        self.failed: list[str] = []
        self._username = TELLER if is_teller else username_of(owner)
        self._bank = bank
        self._history = history
        self._chance = chance
        self._customer = Customer(own, payers, chance)
        self._open: list[Order] = []
        self._is_working = True
        self._client: Client | None = None
        self._me: Me

    async def start(self) -> None:
        """Connect and sign in."""
        self._client, self._me = await self._bank.sign_in(self._username)

    async def work(self) -> None:
        """Give orders until told to end."""
        while self._is_working:
            if self._open and self._chance.random() < 0.3:
                await self._do(self._open.pop(0))
            else:
                await self._do(self._customer.next_order())
            await asyncio.sleep(self._chance.uniform(0, 2 * PAUSE_S))  # the load's own rhythm

    def end(self) -> None:
        """Give no new orders."""
        self._is_working = False

    async def settle(self) -> None:
        """Repeat what has no answer until it has one."""
        async with asyncio.timeout(SETTLE_S):
            while self._open:
                await self._do(self._open.pop(0), is_last=True)

    async def leave(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await self._client.close()

    async def _do(self, order: Order, *, is_last: bool = False) -> None:
        number = self._history.ask(self.name, order.operation, order.ids, moves_of(order))
        try:
            order.answer = await self._me.ask(order.operation, order.fields)
        except RetryableError as error:
            self._history.tell(number, error.code, why=error.message)
            self.failed.append(f"{order.operation}: {error.code} {error.message}")
            if is_last or self._chance.random() > ABANDONED:
                self._open.append(order)
            return
        except FortressError as error:
            order.code = code_of(error)
            self._history.tell(number, order.code, why=error.message)
        else:
            order.code = OK
            self.acknowledged += 1
            self._history.tell(number, OK, node=self._bank.host_of(self._me), **facts_of(order.answer))
        self._customer.note(order)


class Reader:
    """Adds up all balances again and again: the sum never changes, whoever answers.

    Args:
        host: asks that node alone, as a standby too; empty: asks the bank.
    """

    def __init__(self, bank: Bank, history: History, host: str = "") -> None:
        self._bank = bank
        self._history = history
        self._host = host

    async def work(self) -> None:
        """Read until cancelled."""
        if self._host:
            await repeat_at(self._bank, self._host, TELLER, self._read_at, READ_EVERY_S)
        client, me = await self._bank.sign_in(TELLER)
        try:
            while True:
                with suppress(RetryableError):
                    self._note(
                        await me.ask("list_accounts", ListAccounts(all=True, limit=PAGE)), self._bank.host_of(me)
                    )
                await asyncio.sleep(READ_EVERY_S)
        finally:
            await client.close()

    async def _read_at(self, link: Link) -> None:
        fields = ListAccounts(all=True, limit=PAGE, stale_ms_max=STALE_MS_MAX)
        self._note(await link.request("list_accounts", fields, TRY_S), self._host)

    def _note(self, answer: Any, node: str) -> None:
        wanted = set(self._bank.numbers)
        shown = [account.balance_minor for account in answer.accounts if account.number in wanted]
        self._history.write("read", who="reader", accounts=len(shown), sum_minor=sum(shown), node=node)


class Counter:
    """A number in the bank: one writer adds one at a time, anybody may look, and nobody may see what is over.

    Attributes:
        asked: additions that were asked for so far.
        told: additions that were acknowledged so far.
    """

    def __init__(self, bank: Bank, history: History) -> None:
        self.asked = 0
        self.told = 0
        self._bank = bank
        self._history = history
        self._start = 0

    async def prepare(self) -> None:
        """Find out what the account that counts holds now; before anybody counts or looks."""
        client, me = await self._bank.sign_in(self._bank.owner_of_counter)
        answer = await me.ask("get_account", GetAccount(self._bank.counter[1]))
        self._start = answer.balance_minor
        await client.close()

    async def count(self) -> None:
        """Add one at a time until cancelled; the same one again until it is done."""
        client, me = await self._bank.sign_in(TELLER)
        debit, credit = self._bank.counter
        try:
            while True:
                order = Order("transfer", Transfer(new_id(), debit, credit, 1, CURRENCY))
                self.asked += 1
                while order.code != OK:
                    number = self._history.ask("counter", "transfer", order.ids, moves_of(order))
                    try:
                        answer = await me.ask("transfer", order.fields)
                    except RetryableError as error:
                        self._history.tell(number, error.code, why=error.message)
                        continue
                    order.code = OK
                    self._history.tell(number, OK, node=self._bank.host_of(me), **facts_of(answer))
                self.told += 1
        finally:
            await client.close()

    async def look(self) -> None:
        """Look at the number through the client library until cancelled."""
        client, me = await self._bank.sign_in(self._bank.owner_of_counter)
        try:
            while True:
                low = self.told
                with suppress(RetryableError):
                    answer = await me.ask("get_account", GetAccount(self._bank.counter[1]))
                    self._note("looker", low, answer, self._bank.host_of(me))
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            await client.close()

    async def look_at(self, host: str) -> None:
        """Look at the number at one node alone until cancelled; a refusal is as good as an answer."""

        async def look(link: Link) -> None:
            low = self.told
            answer = await link.request("get_account", GetAccount(self._bank.counter[1]), TRY_S)
            self._note(f"looker at {host}", low, answer, host)

        await repeat_at(self._bank, host, self._bank.owner_of_counter, look, LOOK_EVERY_S)

    def _note(self, who: str, low: int, answer: Any, node: str) -> None:
        seen = answer.balance_minor - self._start
        self._history.write("count", who=who, low=low, seen=seen, high=self.asked, node=node)


class Pinned:
    """A payer who knows one node only and asks it for one transfer after the other.

    Attributes:
        acknowledged: transfers so far.
        refused: how often the node said that it is not primary.
    """

    def __init__(self, bank: Bank, history: History, host: str) -> None:
        self.acknowledged = 0
        self.refused = 0
        self._bank = bank
        self._history = history
        self._host = host

    async def work(self) -> None:
        """Pay until cancelled."""
        await repeat_at(self._bank, self._host, TELLER, self._pay, LOOK_EVERY_S, self._on_error)

    def _on_error(self, error: FortressError) -> None:
        self.refused += isinstance(error, NotPrimary | NoPrimary)

    async def _pay(self, link: Link) -> None:
        debit, credit = self._bank.numbers[0], self._bank.numbers[1]
        order = Order("transfer", Transfer(new_id(), debit, credit, 1, CURRENCY))
        number = self._history.ask(f"pinned to {self._host}", "transfer", order.ids, moves_of(order))
        try:
            answer = await link.request("transfer", order.fields, TRY_S)
        except FortressError as error:
            self._history.tell(number, code_of(error), why=error.message, node=self._host)
            raise
        self._history.tell(number, OK, node=self._host, **facts_of(answer))
        self.acknowledged += 1


async def repeat_at(
    bank: Bank,
    host: str,
    username: str,
    act: Callable[[Link], Awaitable[None]],
    every_s: float,
    on_error: Callable[[FortressError], None] = lambda error: None,
) -> None:
    """Do something at one node again and again until cancelled; on a new connection when the old one is of no use."""
    link: Link | None = None
    try:
        while True:
            try:
                if link is None or not link.is_usable:
                    link = await bank.link(host, username)
                await act(link)
            except FortressError as error:
                on_error(error)
                if link is not None and not isinstance(error, RetryableError):
                    link.abort()
            await asyncio.sleep(every_s)
    finally:
        if link is not None:
            link.abort()
