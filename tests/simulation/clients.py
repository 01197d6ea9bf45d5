"""Clients: each wants one thing after another done, asks whoever answers, and asks again under the same id."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fortress.errors import FortressError, Refused, RetryableError
from fortress.protocol.accounts import AccountView, GetAccount
from fortress.protocol.messages import encode_request
from fortress.protocol.money import Transfer, TransferAnswer
from tests.simulation.checker import Look, Order, Violation
from tests.simulation.loop import Process
from tests.simulation.node import ACCOUNTS, CURRENCY

if TYPE_CHECKING:
    from tests.simulation.world import World

HOST = "clients"
RATE_TOLERANCE = 1.1
SLACK_NS = 2_000_000


class Client:
    """One client.

    Attributes:
        is_done: nothing it began is open, and it begins nothing more.
    """

    def __init__(self, world: World, process: Process, number: int, chance: random.Random) -> None:
        self.world, self.process, self.number, self.chance = world, process, number, chance
        self.is_done = False
        self._is_finishing = False
        self._count = 0
        self._node = chance.choice(sorted(world.sites))
        is_watching = number == 0  # reads at both nodes, whoever is primary
        self._writing = 0.05 if is_watching else chance.choice((0.5, 0.7))
        self._turning = 0.5 if is_watching else 0.1
        self._pause_s = chance.choice((0.005, 0.02, 0.1))
        self._wait_s = chance.choice((0.3, 1.5))

    def finish(self) -> None:
        """Begin nothing more."""
        self._is_finishing = True

    def settle(self) -> None:
        """Have one more transfer done, and nothing after it."""
        self.is_done = False
        self.process.call_soon(lambda: self.process.create_task(self._settle()))

    async def _settle(self) -> None:
        await self._transfer()
        self.is_done = True

    async def run(self) -> None:
        try:
            await self._work()
        except Violation as violation:
            self.world.fails(str(violation))
        self.is_done = True

    async def _work(self) -> None:
        while not self._is_finishing:
            if self.chance.random() < self._turning:
                self._turn()
            kind = self.chance.random()
            if kind < self._writing:
                await self._transfer()
            elif kind < 0.82:
                await self._read(0)
            elif kind < 0.95:
                await self._read(self.chance.choice((50, 500, 5_000)))
            else:
                await self._newcomer()
            await asyncio.sleep(self.chance.expovariate(1 / self._pause_s))

    def _id(self) -> bytes:
        self._count += 1
        time_ms = (self.process.calendar_ns() // 1_000_000).to_bytes(6, "big")
        tail = self.number.to_bytes(2, "big") + self._count.to_bytes(8, "big")
        raw = bytearray(time_ms + tail)
        raw[6] = (0x70 if self.chance.random() < 0.9 else 0x40) | raw[6] & 0x0F
        raw[8] = 0x80 | raw[8] & 0x3F
        return bytes(raw)

    # --- What it wants ----
    async def _transfer(self) -> None:
        debit, credit = self.chance.sample(ACCOUNTS, 2)
        order = Order(self._id(), debit, credit, self.chance.randrange(1, 400))
        self.world.checker.orders[order.id] = order
        transfer = Transfer(order.id, debit, credit, order.amount, CURRENCY)
        message = encode_request(1, "transfer", transfer)
        patience = self.chance.choice((2, 1_000_000))
        outcome = await self._insist(message, patience)
        self._note(order, outcome)
        if outcome is not None and self.chance.random() < 0.1:  # and once more, though it has its answer
            self._note(order, await self._insist(message, 1))

    def _note(self, order: Order, outcome: Any) -> None:
        if isinstance(outcome, TransferAnswer):
            now_ns = self.world.time.now_ns
            self.world.checker.answered(order, outcome.position, outcome.balance_minor, now_ns)
        elif isinstance(outcome, Refused):
            self.world.checker.refused(order)

    async def _read(self, stale_ms_max: int) -> None:
        account = self.chance.choice(ACCOUNTS)
        world = self.world
        if stale_ms_max and self.chance.random() < 0.5:
            self._turn()
        begun_ns = world.time.now_ns
        message = encode_request(1, "get_account", GetAccount(account, stale_ms_max=stale_ms_max))
        answer, stale_ms, at_ns = await self._ask(message)
        if not isinstance(answer, AccountView):
            return
        if stale_ms and not stale_ms_max:
            raise Violation(f"an answer {stale_ms} ms old came unasked")
        look = Look(account, answer.position, answer.balance_minor)
        if stale_ms:
            begun_ns = min(begun_ns, at_ns - int(stale_ms * 1e6 * RATE_TOLERANCE) - SLACK_NS)
        world.checker.read(look, world.checker.newest_told(account, begun_ns), "stale" if stale_ms else "fresh")

    async def _newcomer(self) -> None:
        self._count += 1
        await self._insist(f"user-{self.number}-{self._count}", 20)

    # --- How it asks ----
    async def _insist(self, message: bytes | str, patience: int) -> Any:
        """Ask until there is a definite answer; None: none came as long as it was patient."""
        for turn in range(patience):
            answer, _, _ = await self._ask(message)
            if isinstance(answer, Refused) or not isinstance(answer, FortressError | TimeoutError):
                return answer
            if not isinstance(answer, RetryableError | TimeoutError):
                raise Violation(f"a client was told {answer!r} {answer}")
            if self.chance.random() < 0.8:
                self._turn()
            await asyncio.sleep(min(2.0, 0.05 * 2 ** min(turn, 6)) * self.chance.random())
        return None

    def _turn(self) -> None:
        """Go to the other node."""
        self._node = next(name for name in sorted(self.world.sites) if name != self._node)

    async def _ask(self, message: bytes | str) -> tuple[Any, int, int]:
        """Ask a node once: its answer, how old it says that is, and when it gave it."""
        world, process = self.world, self.process
        future: asyncio.Future[Any] = process.create_future()
        name = self._node

        def settle(found: Any) -> None:
            if not future.done():
                future.set_result(found)

        def tell(found: Any) -> None:
            at_ns = world.time.now_ns
            world.network.send(name, HOST, lambda: process.call_soon(settle, (*found, at_ns)))

        world.network.send(HOST, name, lambda: self._arrived(name, message, tell))
        try:
            async with asyncio.timeout(self._wait_s):
                return await future
        except TimeoutError as error:
            return error, 0, 0

    def _arrived(self, name: str, message: bytes | str, tell: Callable[[Any], None]) -> None:
        site = self.world.sites[name]
        node, process = site.running, site.process
        if process is None or node is None or not hasattr(node, "pairing"):
            tell((TimeoutError("refused"), 0))
        elif isinstance(message, bytes):
            process.call_soon(node.take, message, tell)
        else:
            process.call_soon(lambda: process.create_task(self._welcome(node, message, tell)))

    async def _welcome(self, node: Any, username: str, tell: Callable[[Any], None]) -> None:
        try:
            tell((await node.welcome(username), 0))
        except FortressError as error:
            tell((error, 0))
