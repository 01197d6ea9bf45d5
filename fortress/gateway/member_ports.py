"""What the machines of a bank's payments ask of their node: the orders of its customers, beside the legs.

No task per payment: only what must be read from the tables first (a repeat from long ago, the first answer of what is
done) takes one. An order is answered once, whatever happens, at the latest when this node is primary no longer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from fortress.errors import (
    OK,
    REFUSED_CODE_BASE,
    Busy,
    FortressError,
    LedgerError,
    NotPrimary,
    OutcomeUnknown,
    Refused,
    Status,
    error_from_wire,
)
from fortress.gateway import member_legs
from fortress.gateway.links import Link
from fortress.gateway.member_legs import MemberLegs, attempt_of, clock_us
from fortress.gateway.messages import Submit
from fortress.gateway.participant import Leg, Order, OrderPhase, Outgoing
from fortress.ledger import entries as codec
from fortress.ledger.commands import PlacePayment
from fortress.ledger.entries import FactPairs, Posted
from fortress.ledger.rules import Verdict
from fortress.protocol.payments import PaymentAnswer
from fortress.server.bank import Bank
from fortress.server.logs import RequestLog, log_event
from fortress.server.ports import Paid

ORDERS_MAX: Final = 65_536
"""Customers waiting for the outcome of a payment; more are answered `Busy`."""
ATTEMPTS_MAX: Final = 1_000
"""Attempts of one payment; one that was given up so often is refused, since finding its end takes ever longer."""

logger = logging.getLogger(__name__)


class CustomerOrder(Order):
    """An order, with what is to be placed and who is told.

    Attributes:
        command: as the customer gave it, under the payment's own id.
        answered: called once with the answer.
        is_repeat: whether the present attempt was placed by another request before.
    """

    __slots__ = ("answered", "command", "is_repeat")

    def __init__(self, ports: MemberPorts, command: PlacePayment, answered: Paid, until_us: int) -> None:
        super().__init__(ports, command.id, until_us)
        self.command = command
        self.answered = answered
        self.is_repeat = False

    @property
    def attempt_command(self) -> PlacePayment:
        """The command of the present attempt."""
        return self.command if not self.attempt else replace(self.command, id=self.id)

    def leave(self) -> None:
        """Answer because this node is primary no longer; whom the committer still owes an answer gets that."""
        if self.phase is OrderPhase.following:
            self._answer_error(OutcomeUnknown("this node is primary no longer; what became of it is not known here"))
        elif self.phase is not OrderPhase.placing:
            self._answer_error(NotPrimary())


class MemberPorts(MemberLegs):
    """The orders and legs of a bank, and what they ask for (`fortress.gateway.participant.BankPorts`).

    Args:
        bank: its books.
        link: gives the registered link; None while there is none.
        objection: tells why a payment cannot be begun now, as far as this bank knows.
        is_passing: tells whether that ought to be over any moment.
        on_dispute: told the legs whose outcome contradicts the books, and the status that said so.
        log: gives the log of requests, in which payments have lines as well.
        flush: sends answers that were given outside of a read pass.
        wait_us: how long a customer waits for an outcome.

    Attributes:
        orders: that are not answered.
    """

    def __init__(
        self,
        bank: Bank,
        *,
        link: Callable[[], Link | None],
        objection: Callable[[PlacePayment], FortressError | None],
        is_passing: Callable[[PlacePayment], bool],
        on_dispute: Callable[[Leg, Status], None],
        log: Callable[[], RequestLog],
        flush: Callable[[], None],
        wait_us: int,
    ) -> None:
        super().__init__(bank, link=link, on_dispute=on_dispute, log=log)
        self.orders: dict[CustomerOrder, None] = {}
        self._objection = objection
        self._is_passing = is_passing
        self._flush = flush
        self._wait_us = wait_us
        self._tasks: dict[asyncio.Task[None], CustomerOrder] = {}
        self._awaiting: dict[CustomerOrder, None] = {}  # whose payee's bank ought to be back any moment

    # --- What the member calls ---------------------------------------------------------------------------------------
    def pay(self, command: PlacePayment, answered: Paid) -> None:
        """Carry out a customer's payment; ``answered`` is called once.

        Raises:
            Busy: too many wait already.
        """
        if len(self.orders) >= ORDERS_MAX or len(self.legs) >= member_legs.LEGS_MAX:
            raise Busy("too many payments wait for their outcome")
        order = CustomerOrder(self, command, answered, clock_us() + self._wait_us)
        self.orders[order] = None
        order.begin()

    def tick(self) -> None:
        """Do what is due: ask again, try again, tell customers who waited long enough."""
        now = clock_us()
        self.look_again()
        for leg in [leg for leg in self.legs.values() if leg.due_us <= now]:
            leg.ticked(now)
        due = [order for order in self.orders if order.due_us <= now]
        for order in due:
            order.ticked(now)
        if due:
            self._flush()

    def look_again(self) -> None:
        """Place the orders whose payee's bank is back, and refuse those for which the wait is over."""
        awaiting, self._awaiting = self._awaiting, {}
        for order in awaiting:
            self.place(order)
        if awaiting:
            self._flush()

    def leave(self) -> None:
        """Forget everything: this node is primary no longer, and another one goes on from the tables."""
        awaiting, self._awaiting = self._awaiting, {}
        for order in awaiting:
            self._fail(order, NotPrimary())
        for order in tuple(self.orders):
            order.leave()
        self.legs.clear()
        self._flush()

    async def close(self) -> None:
        """Answer everybody and end what still runs."""
        self.leave()
        looked_up = dict(self._tasks)
        for task in looked_up:
            task.cancel()
        await asyncio.gather(*looked_up, return_exceptions=True)
        for order in looked_up.values():
            if order in self.orders:
                self._fail(order, NotPrimary())
        self._flush()

    # --- Orders ------------------------------------------------------------------------------------------------------
    def look(self, order: Order) -> None:
        """Find out whether the ledger knows the present attempt."""
        self._look(_customers(order), lambda is_known: order.looked(is_known=is_known))

    def place(self, order: Order) -> None:
        """Hold the payer's money; nothing new is begun that is known to be refused or not to arrive."""
        asked = _customers(order)
        is_worn = order.attempt >= ATTEMPTS_MAX
        objection = Refused(Status.payment_given_up) if is_worn else self._objection(asked.command)
        if objection is None:
            self._place(asked)
            return

        def looked(is_known: bool) -> None:
            if is_known:
                self._place(asked)
            elif not is_worn and self._is_passing(asked.command):
                self._awaiting[asked] = None
            else:
                order.placed(objection, None, clock_us())

        self._look(asked, looked)

    def leg_of(self, order: Order) -> Outgoing | None:
        """Give the outgoing leg of the order's present attempt."""
        leg = self.legs.get(order.id)
        return leg if isinstance(leg, Outgoing) else None

    def open_leg(self, order: Order) -> Outgoing:
        """Make and keep the leg of the order's present attempt."""
        c = _customers(order).command
        bank, _, number = c.counterparty.partition("/")
        submit = Submit(order.id, c.debit, bank, int(number), c.amount, c.currency, c.reference)
        leg = self.legs[order.id] = Outgoing(self, submit, clock_us())
        self._log().note_payment("submit", order.id, OK, payee_bank=bank, **attempt_of([order]))
        return leg

    def answer_paid(self, order: Order, position: int, posted: Posted | None) -> None:
        """Answer with the entry that was written, now or long ago."""
        asked = _customers(order)
        if posted is None:
            self._start(asked, self._answer_again(asked, position))
        else:
            self._answer(asked, _paid(position, posted, replayed=asked.is_repeat))

    async def _answer_again(self, order: CustomerOrder, position: int) -> None:
        bank = self._bank
        await bank.tables_hold(position)
        posted = codec.decode(await bank.read(bank.queries.entry_at, position))
        assert isinstance(posted, Posted)
        self._answer(order, _paid(position, posted, replayed=True))

    def answer_refused(self, order: Order, status: int, facts: FactPairs) -> None:
        """Answer that it is refused for good."""
        self._answer(_customers(order), error_from_wire(REFUSED_CODE_BASE + status, "", dict(facts)))

    def answer_error(self, order: Order, error: FortressError | int) -> None:
        """Answer that it may be tried again with the same id."""
        self._answer(_customers(order), error_from_wire(error, "", {}) if isinstance(error, int) else error)

    def _answer(self, order: CustomerOrder, answer: PaymentAnswer | FortressError) -> None:
        self.orders.pop(order, None)
        order.answered(answer)

    def _place(self, order: CustomerOrder) -> None:
        self._submit(order.attempt_command, partial(self._placed, order))

    def _placed(self, order: CustomerOrder, outcome: Verdict | FortressError) -> None:
        if isinstance(outcome, Verdict):
            order.is_repeat = outcome.replayed
        self._when_durable(order.id, outcome, order.placed)

    def _look(self, order: CustomerOrder, looked: Callable[[bool], None]) -> None:
        command = order.attempt_command
        if self._state.missing(command) is None:
            looked(self._state.known(command.id) is not None)
        else:
            self._start(order, self._look_up(command, looked))

    async def _look_up(self, command: PlacePayment, looked: Callable[[bool], None]) -> None:
        while (wanted := self._state.missing(command)) is not None:
            await self._bank.fill(wanted)
        looked(self._state.known(command.id) is not None)

    def _start(self, order: CustomerOrder, work: Coroutine[Any, Any, None]) -> None:
        """Go on with an order in a task; an error is the order's answer."""
        task = asyncio.get_running_loop().create_task(self._run(order, work))
        self._tasks[task] = order
        task.add_done_callback(self._looked_up)

    def _looked_up(self, task: asyncio.Task[None]) -> None:
        order = self._tasks.pop(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            logger.error("looking a payment up failed", exc_info=fault, extra={"fields": {"id": order.id.hex()}})
            self._fail(order, LedgerError("the server failed on this payment; its log says why"))
            self._flush()

    async def _run(self, order: CustomerOrder, work: Awaitable[None]) -> None:
        try:
            await work
        except FortressError as error:
            log_event(logger, logging.WARNING, "payment not looked up", id=order.id.hex(), reason=error.message)
            self._fail(order, error)
        self._flush()

    def _fail(self, order: CustomerOrder, error: FortressError) -> None:
        """Answer an order that cannot be looked up; or it is done, and only the first answer cannot be read."""
        if order.phase is OrderPhase.answered:
            self._answer(order, error)
        else:
            order.placed(error, None, clock_us())


def _customers(order: Order) -> CustomerOrder:
    assert isinstance(order, CustomerOrder)  # no other is made here
    return order


def _paid(position: int, e: Posted, *, replayed: bool) -> PaymentAnswer:
    return PaymentAnswer(position, e.time_us, e.debit_balance, e.gateway_sequence, replayed)
