"""Where payments between banks stand, as people see them: one's own, those in doubt, and ending one by hand.

Everything shown is read off the ledger's entries, so it is the same after any crash. A bank shows its own leg and, when
asked to, the steps that the gateway and the other bank took. At a bank a payment has the id that its payer gave it, and
its attempts; everywhere else each attempt is a payment by itself, and by its id staff list and end it.

A customer learns of their own payments only; whatever else they ask for does not exist.

Ending one by hand. At a gateway what is not decided can be aborted, which is always safe: nothing was paid, and both
banks are told. At a bank an open leg waits for the gateway's word, and whoever ends it without that word guesses: it is
for a gateway that is gone for good. Should the real outcome come after all and contradict, that is an error in the log,
and the payment is listed until this node ends; the comparison of the settlement window finds it as well. A leg aborted
by hand is refused for good, so that no second attempt can pay what the first one did pay elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Any, Final, Protocol, TypeVar

from msgspec.structs import replace

from fortress.errors import Busy, FortressError, MessageInvalid, PaymentUnfinished, Refused, Status
from fortress.gateway.participant import attempt_id
from fortress.gateway.payment import REASON_ERROR_FIRST, Payment
from fortress.gateway.questions import STEPS, StepsOf
from fortress.gateway.settlement import AskBank
from fortress.gateway.trace import (
    DONE,
    PENDING,
    Trace,
    is_staff,
    reason_name,
    trace_of,
)
from fortress.ledger import entries as codec
from fortress.ledger.commands import AbortPayment, CommitPayment
from fortress.ledger.entries import HoldPlaced, Posted
from fortress.ledger.model import Actor, HoldState, TransferKind
from fortress.ledger.payment_queries import PaymentFound
from fortress.protocol.fields import Done
from fortress.protocol.payments import (
    GetPayment,
    ListPayments,
    PaymentsAnswer,
    PaymentStep,
    PaymentView,
    ResolvePayment,
)
from fortress.server.bank import Bank, accepted
from fortress.server.logs import log_event

ATTEMPTS_SHOWN: Final = 4
PLACED_MAX: Final = 1_000
"""Attempts looked at to make one page of a customer's list; those of one payment are one row."""
GONE_S: Final = 5.0
"""So long a gateway must have been away before anything can be ended without its word; a restart is over sooner."""
OPEN_MAX: Final = 1_000
"""Payments in doubt that are looked at for one list."""

COMMIT: Final = "commit"
Fields = TypeVar("Fields")

logger = logging.getLogger(__name__)


class AskGateway(Protocol):
    """Asks the gateway over the link to it."""

    def __call__(self, about: str, fields: object, type: type[Fields]) -> Awaitable[Fields]:
        """Ask, and give the answer read as that type.

        Raises:
            FortressError: there is none (GatewayUnreachable, DeadlinePassed), or it is a refusal.
        """


# --- A bank ----------------------------------------------------------------------------------------------------------
class BankDoubts:
    """Payments between banks as seen from one bank.

    Args:
        bank: its books.
        gateway: the gateway's name.
        ask: asks the gateway.
        away_s: tells for how long the gateway was not connected; 0 while it is, and while nobody can know.
        drop: takes a leg that was ended by hand off those that are repeated to the gateway until it answers: nobody
            may hear from here that its money is held.
    """

    def __init__(
        self,
        bank: Bank,
        *,
        gateway: str,
        ask: AskGateway,
        away_s: Callable[[], float],
        drop: Callable[[bytes], object],
    ) -> None:
        self._bank = bank
        self._gateway = gateway
        self._ask = ask
        self._away_s = away_s
        self._drop = drop
        self._contradicted: dict[bytes, str] = {}

    # --- One payment -----------------------------------------------------------------------------------------------
    async def payment(self, actor: Actor, request: GetPayment) -> PaymentView:
        """Tell where a payment stands, to its payer, its payee and staff.

        Raises:
            Refused: ``payment_unknown``: there is none such, or it is somebody else's: the same answer for both.
        """
        trace = await trace_of(self._bank, request.id)
        if trace is None:
            return await self._own_transfer(actor, request.id)
        if not await self._may_see(actor, trace):
            raise Refused(Status.payment_unknown)
        attempt = await self._last_attempt(request.id)
        traces = [trace]
        for number in range(max(1, attempt - ATTEMPTS_SHOWN + 2), attempt + 1):
            found = await trace_of(self._bank, attempt_id(request.id, number))
            traces += [found] if found is not None else []
        view = self._view(request.id, traces[-1], attempt)
        steps = [step for each in traces for step in self._steps(each)]
        view = replace(view, steps=steps, since_us=trace.placed.time_us)
        return await self._everywhere(view, attempt_id(request.id, attempt)) if request.everywhere else view

    async def _own_transfer(self, actor: Actor, id: bytes) -> PaymentView:
        """Show a payment that never left the bank."""
        position, e = await self._bank.known(id) or (0, None)
        if not isinstance(e, Posted) or e.kind != TransferKind.transfer:
            raise Refused(Status.payment_unknown)
        if not (is_staff(actor) or actor.customer in [await self._owner(e.debit), await self._owner(e.credit)]):
            raise Refused(Status.payment_unknown)
        name = self._bank.engine.bank
        return PaymentView(
            *(id, DONE, f"{name}/{e.debit}", f"{name}/{e.credit}", e.amount, e.currency, e.reference),
            since_us=e.time_us,
            steps=[PaymentStep(name, "posted", e.time_us, position)],
        )

    async def _may_see(self, actor: Actor, trace: Trace) -> bool:
        if is_staff(actor):
            return True
        if isinstance(trace.placed, codec.Refused):
            return 0 < trace.placed.actor == actor.customer
        account = trace.placed.credit if self._is_incoming(trace.placed) else trace.placed.debit
        return await self._owner(account) == actor.customer

    async def _owner(self, number: int) -> int:
        account = await self._bank.account(number)
        return account.owner if account is not None else 0

    async def _last_attempt(self, id: bytes) -> int:
        """Find the number of the last attempt: they have no gaps, so doubling and halving finds it."""
        low, high = 0, 1
        while await self._bank.known(attempt_id(id, high)) is not None:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            if await self._bank.known(attempt_id(id, middle)) is not None:
                low = middle
            else:
                high = middle
        return low

    async def _everywhere(self, view: PaymentView, id: bytes) -> PaymentView:
        """Add the steps of the gateway and of the other bank, as far as they can be asked; oldest first."""
        try:
            found = await self._ask(STEPS, StepsOf(id, everywhere=True), list[PaymentStep])
        except FortressError as error:
            log_event(logger, logging.WARNING, "payment not shown everywhere", id=id.hex(), reason=str(error))
            return replace(view, missing=list(dict.fromkeys([*view.missing, self._gateway])))
        own = self._bank.engine.bank
        steps = [*view.steps, *(step for step in found if step.bank != own)]
        return replace(view, steps=sorted(steps, key=lambda step: step.time_us))

    async def steps(self, asked: StepsOf) -> list[PaymentStep]:
        """Answer the gateway's question "steps"."""
        trace = await trace_of(self._bank, asked.id)
        return self._steps(trace) if trace is not None else []

    def _is_incoming(self, entry: HoldPlaced) -> bool:
        return entry.debit in self._bank.state.settlements.values()

    def _steps(self, trace: Trace) -> list[PaymentStep]:
        is_incoming = isinstance(trace.placed, HoldPlaced) and self._is_incoming(trace.placed)
        return trace.steps(self._bank.engine.bank, ("prepared" if is_incoming else "held", "posted", "voided"))

    def _view(self, id: bytes, trace: Trace, attempt: int = 0) -> PaymentView:
        e, name = trace.placed, self._bank.engine.bank
        if isinstance(e, codec.Refused):
            payer = f"{name}/{e.account}" if e.account else ""
            reason = reason_name(trace.reason)
            return PaymentView(id, trace.state, payer, "", 0, "", reason=reason, attempt=attempt, since_us=e.time_us)
        payer, payee = f"{name}/{e.debit}", e.counterparty
        if self._is_incoming(e):
            payer, payee = e.counterparty, f"{name}/{e.credit}"
        view = PaymentView(
            *(id, trace.state, payer, payee, e.amount, e.currency, e.reference),
            gateway_sequence=trace.sequence,
            reason=reason_name(trace.reason),
            attempt=attempt,
            since_us=e.time_us,
        )
        if trace.state != PENDING:
            return view
        return replace(view, missing=[self._gateway], act=self._safe_act())

    def _safe_act(self) -> str:
        if self._away_s() < GONE_S:
            return "none: the gateway tells the outcome by itself"
        return "wait for the gateway; by hand only if it is gone for good, and as its ledger or the other bank says"

    # --- Lists -----------------------------------------------------------------------------------------------------
    async def payments(self, actor: Actor, request: ListPayments) -> PaymentsAnswer:
        """List one's own payments, newest first; or, for staff, those in doubt here, the oldest first.

        Raises:
            Refused: ``payment_unknown``: those in doubt are for staff.
        """
        if request.in_doubt:
            if not is_staff(actor):
                raise Refused(Status.payment_unknown)
            return PaymentsAnswer((await self._in_doubt())[: request.limit])
        return await self._own(actor, request)

    async def _in_doubt(self) -> list[PaymentView]:
        found, _ = await self._bank.open_payments(OPEN_MAX)
        views = [self._view(each.hold.id, Trace(each.position, each.entry)) for each in found]
        for id, what in self._contradicted.items():
            trace = await trace_of(self._bank, id)
            if trace is not None:
                views.append(replace(self._view(id, trace), act=what))
        return sorted(views, key=lambda view: view.since_us)

    async def _own(self, actor: Actor, request: ListPayments) -> PaymentsAnswer:
        """Page through somebody's payments; further attempts of a payment are part of it.

        What others began to pay them is shown once it is theirs, or while it is under way.
        """
        found, cursor = await self._bank.payments_of(actor.customer, limit=PLACED_MAX, cursor=request.cursor)
        hidden = await self._further_attempts(found)
        views: list[PaymentView] = []
        for position, entry, hold in found:
            is_given_up = hold.state not in (HoldState.open, HoldState.posted)
            if entry.id in hidden or (is_given_up and self._is_incoming(entry)):
                continue
            views.append(await self.payment(actor, GetPayment(entry.id)))
            if len(views) == request.limit and position != found[-1].position:
                return PaymentsAnswer(views, position)
        return PaymentsAnswer(views, cursor)

    async def _further_attempts(self, found: list[PaymentFound]) -> set[bytes]:
        """Give the ids of all attempts after the first of these payments; only what was given up has any."""
        ids: set[bytes] = set()
        for _, entry, hold in found:
            if hold.reason >= REASON_ERROR_FIRST and entry.id not in ids:
                last = await self._last_attempt(entry.id)
                ids.update(attempt_id(entry.id, number) for number in range(1, last + 1))
        return ids

    # --- By hand ---------------------------------------------------------------------------------------------------
    async def resolve_payment(self, actor: Actor, request: ResolvePayment) -> Done:
        """End an open leg here by hand, without the gateway's word; ``payment`` is the id of the attempt.

        Raises:
            Refused: ``payment_unknown``; ``payment_already_decided``: it has ended the other way.
            Busy: the gateway is connected or was so a moment ago, and nobody need guess.
        """
        bank, id = self._bank, request.payment
        trace = await trace_of(bank, id)
        if trace is None:
            raise Refused(Status.payment_unknown)
        if trace.state == PENDING and self._away_s() < GONE_S:
            raise Busy("the gateway tells the outcome by itself; by hand only once it is away for good")
        by_hand = Actor(actor.customer, frozenset(("switch",)))
        if request.act == COMMIT:
            verdict = accepted(await bank.commit(CommitPayment(by_hand, id)))
        else:
            verdict = accepted(await bank.commit(AbortPayment(by_hand, id, int(Status.payment_given_up))))
        self._drop(id)
        _log_by_hand(actor, request, replayed=verdict.replayed)
        return Done(position=verdict.position, replayed=verdict.replayed)

    def contradicted(self, id: bytes, *, sequence: int, reason: int) -> None:
        """Note that the gateway's outcome came after all, and is not what was done here by hand."""
        real = f"paid, sequence {sequence}" if sequence else f"not paid, {reason_name(reason)}"
        what = f"correct the books: here it ended otherwise, by hand or in an old copy, and the gateway decided: {real}"
        if id not in self._contradicted and len(self._contradicted) < OPEN_MAX:
            self._contradicted[id] = what
        log_event(logger, logging.ERROR, "payment ended here against its outcome", id=id.hex(), outcome=real)


# --- A gateway -------------------------------------------------------------------------------------------------------
class SwitchDoubts:
    """Payments as seen from the gateway, where each attempt is one.

    Args:
        bank: its books.
        ask: asks a bank.
        machines: the payments under way, by id.
    """

    def __init__(self, bank: Bank, *, ask: AskBank, machines: Mapping[bytes, Payment]) -> None:
        self._bank = bank
        self._ask = ask
        self._machines = machines

    async def payment(self, actor: Actor, request: GetPayment) -> PaymentView:
        """Tell staff where a payment stands.

        Raises:
            Refused: ``payment_unknown``.
        """
        trace = await trace_of(self._bank, request.id) if is_staff(actor) else None
        if trace is None:
            raise Refused(Status.payment_unknown)
        steps = self._steps(trace)
        if request.everywhere:
            for bank in self._banks_of(trace):
                steps += await self._steps_at(bank, request.id)
        return replace(self._view(request.id, trace), steps=sorted(steps, key=lambda step: step.time_us))

    async def payments(self, actor: Actor, request: ListPayments) -> PaymentsAnswer:
        """List for staff the payments that are not decided, or not carried out by both banks; the oldest first.

        Raises:
            Refused: ``payment_unknown``: a gateway has no customers.
        """
        if not is_staff(actor):
            raise Refused(Status.payment_unknown)
        views = []
        found, _ = await self._bank.open_payments(OPEN_MAX)
        for id in dict.fromkeys([*(each.hold.id for each in found), *islice(self._machines, OPEN_MAX)]):
            trace = await trace_of(self._bank, id)
            if trace is not None:
                views.append(self._view(id, trace))
        waiting = [view for view in views if view.missing or view.state == PENDING]
        return PaymentsAnswer(sorted(waiting, key=lambda view: view.since_us)[: request.limit])

    async def steps(self, asking: str, asked: StepsOf) -> list[PaymentStep]:
        """Answer a bank's question "steps"; of what it has no part in it learns nothing.

        A refusal names no banks, so whoever knows its id is told why.
        """
        trace = await trace_of(self._bank, asked.id)
        if trace is None:
            return []
        banks = self._banks_of(trace)
        if isinstance(trace.placed, HoldPlaced) and asking not in banks:
            return []
        steps = self._steps(trace)
        if asked.everywhere:
            for bank in banks:
                steps += await self._steps_at(bank, asked.id) if bank != asking else []
        return steps

    async def resolve_payment(self, actor: Actor, request: ResolvePayment) -> Done:
        """Abort by hand what is not decided; both banks are told.

        Raises:
            Refused: ``payment_unknown``; ``payment_already_decided``: to commit, or aborting comes too late.
        """
        trace = await trace_of(self._bank, request.payment)
        if trace is None:
            raise Refused(Status.payment_unknown)
        if request.act == COMMIT and trace.state == PENDING:
            raise MessageInvalid("a gateway commits by the banks' votes only; by hand it can abort", {"field": "act"})
        if request.act == COMMIT:
            raise Refused(Status.payment_already_decided)
        by_hand = Actor(actor.customer, frozenset(("switch",)))
        command = AbortPayment(by_hand, request.payment, PaymentUnfinished.code)
        verdict = accepted(await self._bank.commit(command))
        machine = self._machines.get(request.payment)
        if machine is not None:
            machine.give_up(PaymentUnfinished.code)  # it finds the decision in the ledger and tells the banks
        _log_by_hand(actor, request, replayed=verdict.replayed)
        return Done(position=verdict.position, replayed=verdict.replayed)

    # --- Inside ----------------------------------------------------------------------------------------------------
    def _steps(self, trace: Trace) -> list[PaymentStep]:
        return trace.steps(self._bank.engine.bank, ("intended", "decided", "aborted"))

    async def _steps_at(self, bank: str, id: bytes) -> list[PaymentStep]:
        try:
            return await self._ask(bank, STEPS, StepsOf(id), list[PaymentStep])
        except FortressError as error:
            log_event(logger, logging.WARNING, "steps not told", bank=bank, id=id.hex(), reason=str(error))
            return []

    def _banks_of(self, trace: Trace) -> list[str]:
        if isinstance(trace.placed, codec.Refused):
            return []
        payer, _, payee = trace.placed.counterparty.partition(">")
        return [payer.partition("/")[0], payee.partition("/")[0]]

    def _view(self, id: bytes, trace: Trace) -> PaymentView:
        e = trace.placed
        if isinstance(e, codec.Refused):
            return PaymentView(id, trace.state, "", "", 0, "", reason=reason_name(trace.reason), since_us=e.time_us)
        payer, _, payee = e.counterparty.partition(">")
        machine = self._machines.get(id)
        missing = list(machine.missing) if machine is not None else []
        view = PaymentView(
            *(id, trace.state, payer, payee, e.amount, e.currency, e.reference),
            gateway_sequence=trace.sequence,
            reason=reason_name(trace.reason),
            since_us=e.time_us,
            missing=missing,
        )
        if trace.state == PENDING:
            return replace(view, act="abort: nothing was paid, and both banks will be told")
        return replace(view, act="none: it is decided; the bank is told until it answers") if missing else view


def _log_by_hand(actor: Actor, request: ResolvePayment, *, replayed: bool) -> None:
    if not replayed:
        fields: dict[str, Any] = {"id": request.payment.hex(), "act": request.act, "customer": actor.customer}
        log_event(logger, logging.WARNING, "payment ended by hand", **fields)
