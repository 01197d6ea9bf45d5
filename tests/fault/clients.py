"""Many clients under load, which never lose track of what they asked: the other side of every fault test."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from bench.bank import ACCOUNTS_PER_CUSTOMER, TELLER, username_of
from fortress.client.link import Link
from fortress.errors import OK, DeadlinePassed, FortressError, OutcomeUnknown, RetryableError
from fortress.protocol.fields import Refusal
from fortress.protocol.messages import OPERATIONS, decode_fields
from tests.e2e.node import Node
from tests.fault.orders import Customer, Model, Order

OUTSTANDING = 4
QUIET_S_MAX = 20.0
UNDECIDED = (OutcomeUnknown.code, DeadlinePassed.code)
NOT_DONE = {cls.code for cls in RetryableError.__subclasses__()} - set(UNDECIDED)


class Client:
    """One connection of one customer or teller; its orders outlive the connection.

    Args:
        index: even ones act as a teller on all accounts, odd ones as a customer on their own.
        numbers: of all accounts.
        model: learns what becomes known.

    Attributes:
        unknown: orders without an answer, in the order they were sent.
        known: some that were answered, to be repeated later.
        on_order: told each order that has become known.
    """

    def __init__(self, index: int, numbers: list[int], model: Model, chance: random.Random) -> None:
        self.unknown: dict[Order, None] = {}
        self.known: list[Order] = []
        self.surprises: list[str] = []
        self._model = model
        self._chance = chance
        owner = index * ACCOUNTS_PER_CUSTOMER % len(numbers)
        self.username = username_of(owner) if index % 2 else TELLER
        own = numbers[owner : owner + ACCOUNTS_PER_CUSTOMER] if index % 2 else numbers
        self._customer = Customer(own, numbers, chance)
        self._link: Link | None = None
        self._is_loading = False
        self._in_flight = 0
        self._quiet = asyncio.Event()
        self._answered = asyncio.Event()

    async def connect(self, node: Node) -> None:
        """Connect and sign in."""
        self._link = await node.link(self.username)

    def leave(self) -> None:
        """Let go of the connection, however it is."""
        if self._link is not None:
            self._link.abort()
            self._link = None

    # --- load -------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Keep some orders under way from now on; each answer sends the next, unless it was not to be done now."""
        self._is_loading = True
        for _ in range(OUTSTANDING):
            self._go_on()

    async def end(self) -> None:
        """Make no new orders, and wait until each has been answered or lost."""
        self._is_loading = False
        await asyncio.wait_for(self._settled(), QUIET_S_MAX)

    async def answered(self) -> None:
        """Wait for the next answer."""
        self._answered.clear()
        await asyncio.wait_for(self._answered.wait(), QUIET_S_MAX)

    def _go_on(self) -> None:
        if self._is_loading:
            order = self._customer.next_order()
            self.unknown[order] = None
            self._send(order, self._go_on)

    def _send(self, order: Order, then: Callable[[], None]) -> None:
        """Send an order, once more if need be; an order that cannot be sent stays unknown."""
        assert self._link is not None
        order.tries += 1
        self._in_flight += 1
        self._quiet.clear()

        def answered(code: int, raw: Any) -> None:
            self._in_flight -= 1
            self._answered.set()
            self._take(order, code, raw)
            if code not in UNDECIDED and code not in NOT_DONE:
                then()
            if not self._in_flight:
                self._quiet.set()

        try:
            self._link.submit(order.operation, order.fields, answered)
        except FortressError:
            self._in_flight -= 1
            if not self._in_flight:
                self._quiet.set()

    def _take(self, order: Order, code: int, raw: Any) -> None:
        if code in UNDECIDED:
            return
        if code in NOT_DONE:
            self._model.counts["not_done"] += 1
            return
        order.code = code
        if code == OK:
            order.answer = decode_fields(OPERATIONS[order.operation].answer, raw)
        elif not order.is_refused:
            self.surprises.append(f"{order.operation}: {code} {decode_fields(Refusal, raw).message}")
        if order.tries > 1:
            self._model.counts["was_done_before" if getattr(order.answer, "replayed", False) else "decided_now"] += 1
        self.unknown.pop(order, None)
        self._model.note(order)
        self._customer.note(order)
        if len(self.known) < 64:
            self.known.append(order)
        else:
            self.known[self._chance.randrange(64)] = order

    async def _settled(self) -> None:
        while self._in_flight:
            await self._quiet.wait()

    # --- repeats ----------------------------------------------------------------------------------------------------

    async def repeat_unknown(self) -> None:
        """Send every unknown order again, the same with the same id; orders that are not decided stay unknown."""
        before = len(self.unknown)
        for order in tuple(self.unknown):
            if order.tries:
                self._model.counts["repeated"] += 1
            self._send(order, lambda: None)
        await asyncio.wait_for(self._settled(), QUIET_S_MAX)
        self._model.counts["settled"] += before - len(self.unknown)

    async def repeat_known(self) -> list[str]:
        """Send orders again whose answers are known, and give what was answered differently."""
        wrong: list[str] = []
        link = self._link
        assert link is not None

        async def repeat(order: Order) -> None:
            future: asyncio.Future[tuple[int, Any]] = asyncio.get_running_loop().create_future()
            link.submit(order.operation, order.fields, lambda code, raw: future.set_result((code, raw)))
            code, raw = await future
            if code in UNDECIDED:
                return
            answer = decode_fields(OPERATIONS[order.operation].answer, raw) if code == OK else None
            if (code, _essence(answer)) != (order.code, _essence(order.answer)):
                wrong.append(
                    f"{order.operation} {order.ids[0].hex()}: {order.code} {order.answer}, then {code} {answer}"
                )

        # a hold that was posted or voided since is still known by its own answer
        await asyncio.wait_for(asyncio.gather(*(repeat(order) for order in self.known)), QUIET_S_MAX)
        self._model.counts["compared"] += len(self.known)
        return wrong


def _essence(answer: Any) -> Any:
    """Give what must be the same in each answer to the same order."""
    if answer is None:
        return None
    if hasattr(answer, "statuses"):
        return answer.statuses
    return answer.position
