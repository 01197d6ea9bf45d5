"""The legs of a bank's payments on their node: kept, written to the ledger by callbacks, found again in its tables.

A placing, commit or abort is submitted to the committer, which calls back once it is durable. Memory runs ahead of the
disk, so what a machine is told of a hold waits until that is durable too.

All of it may be lost at any moment: the open holds in the tables are read again by whoever is primary next, and now and
then anyway, for a full disk may have told a customer an error about a hold that became durable later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from fortress.errors import REFUSED_CODE_BASE, FortressError, OutcomeUnknown, Status, refusal_code
from fortress.gateway.links import Link
from fortress.gateway.messages import Message, Outcome, Prepare, Submit
from fortress.gateway.participant import BankPorts, Incoming, Leg, Order, Outgoing
from fortress.ledger.commands import AbortPayment, Command, CommitPayment, PlacePayment
from fortress.ledger.entries import HoldPlaced
from fortress.ledger.model import SWITCH_ACTOR, HoldState
from fortress.ledger.payment_queries import PaymentFound
from fortress.ledger.rules import Verdict
from fortress.server.bank import Bank
from fortress.server.logs import Field, RequestLog

LEGS_MAX: Final = 131_072
"""Payments open here; beyond, nothing new is begun, and the gateway is left to ask again."""
PAGE: Final = 1_000

_OPEN = int(HoldState.open)
_OK = Status.ok


def clock_us() -> int:
    """Tell the time of the machines, in microseconds: how long is waited must not depend on who sets the clock."""
    return time.monotonic_ns() // 1000


class MemberLegs(BankPorts):
    """The legs of a bank, and what they ask for.

    Args:
        bank: its books.
        link: gives the registered link; None while there is none.
        on_dispute: told the legs whose outcome contradicts the books, and the status that said so.
        log: gives the log of requests, in which payments have lines as well.

    Attributes:
        legs: that are open, by id.
    """

    def __init__(
        self,
        bank: Bank,
        *,
        link: Callable[[], Link | None],
        on_dispute: Callable[[Leg, Status], None],
        log: Callable[[], RequestLog],
    ) -> None:
        self.legs: dict[bytes, Leg] = {}
        self._bank = bank
        self._state = bank.state
        self._committer = bank.committer
        self._link = link
        self._on_dispute = on_dispute
        self._log = log

    # --- What the member calls ---------------------------------------------------------------------------------------
    def prepare(self, prepare: Prepare) -> None:
        """Hold what another bank's customer pays to one of this bank."""
        leg = self.legs.get(prepare.id)
        if leg is not None:
            leg.prepared(prepare)
        elif len(self.legs) < LEGS_MAX:
            incoming = Incoming.begin(self, prepare, clock_us())
            self.legs[prepare.id] = incoming
            incoming.place()

    def outcome(self, outcome: Outcome) -> None:
        """Carry out what the gateway decided; what is not open here is found in the ledger."""
        leg = self.legs.get(outcome.id)
        if leg is None:
            leg = self.legs[outcome.id] = Incoming(self, outcome.id, clock_us())
        leg.outcome(outcome.sequence, outcome.reason)

    def connected(self) -> None:
        """Ask for every outcome that is not known, now that the gateway can be asked."""
        now = clock_us()
        for leg in tuple(self.legs.values()):
            leg.connected(now)

    async def load(self) -> None:
        """Make a leg of every open payment in the tables that is none yet.

        Raises:
            FortressError: the tables cannot be read now.
        """
        after, is_last = b"", False
        while not is_last:
            found, after = await self._bank.open_payments(PAGE, after)
            is_last, now = not after, clock_us()
            for payment in found:
                if payment.hold.id not in self.legs:
                    leg = self.legs[payment.hold.id] = self._found_leg(payment, now)
                    leg.recover(now)

    # --- The gateway -------------------------------------------------------------------------------------------------
    @property
    def is_connected(self) -> bool:
        """True while this bank is registered at the gateway."""
        return self._link() is not None

    def send(self, message: Message) -> None:
        """Send to the gateway, if it is connected."""
        link = self._link()
        if link is not None:
            link.send(message)

    # --- Legs --------------------------------------------------------------------------------------------------------
    def place_incoming(self, leg: Incoming) -> None:
        """Hold for the payee what a Prepare says."""
        p = leg.prepare
        assert p is not None  # the machine places what it was told to prepare
        # no bank lets unprintable text pass; should one do so, the money goes and the text does not
        reference = p.reference if p.reference.isprintable() else ""
        settlement = self._state.settlements.get(p.currency, 0)
        order = (p.id, settlement, p.payee, p.amount, p.currency, f"{p.payer_bank}/{p.payer}", reference)
        self._submit(PlacePayment(SWITCH_ACTOR, *order), partial(self._placed_incoming, leg))

    def _placed_incoming(self, leg: Incoming, outcome: Verdict | FortressError) -> None:
        self._when_durable(leg.id, outcome, leg.placed)
        self._note("prepare", leg, outcome)

    def commit(self, leg: Leg) -> None:
        """Post the hold."""
        self._submit(CommitPayment(SWITCH_ACTOR, leg.id, leg.sequence), partial(self._ended, leg))

    def abort(self, leg: Leg) -> None:
        """Void the hold, or remember that it must not come."""
        self._submit(AbortPayment(SWITCH_ACTOR, leg.id, leg.reason), partial(self._ended, leg))

    def _ended(self, leg: Leg, outcome: Verdict | FortressError) -> None:
        whose = attempt_of(leg.orders if isinstance(leg, Outgoing) else ())  # an order may go on to the next attempt
        leg.ended(outcome, self._state.hold(leg.id), clock_us())
        self._note("outcome", leg, outcome, **whose)

    def _note(self, step: str, leg: Leg, outcome: Verdict | FortressError, **fields: Field) -> None:
        """Log what was done for a payment; what it was refused for elsewhere is its result, too."""
        if isinstance(outcome, FortressError):
            code = outcome.code
        elif outcome.status is not _OK:
            code = refusal_code(outcome.status)
        else:
            code = leg.reason if leg.reason >= REFUSED_CODE_BASE else leg.reason and REFUSED_CODE_BASE + leg.reason
        self._log().note_payment(step, leg.id, code, us=clock_us() - leg.since_us, **fields)

    def dispute(self, leg: Leg, status: int) -> None:
        """Report that the outcome told contradicts this ledger."""
        self._on_dispute(leg, Status(status))

    def forget(self, leg: Leg) -> None:
        """Drop the leg."""
        if self.legs.get(leg.id) is leg:
            del self.legs[leg.id]

    def _found_leg(self, payment: PaymentFound, now: int) -> Leg:
        """Make the leg of an open payment, on the side on which the settlement account is not."""
        if payment.hold.debit in self._state.settlements.values():
            return Incoming(self, payment.hold.id, now)
        return Outgoing(self, _submit_of(payment.entry), now)

    # --- The ledger --------------------------------------------------------------------------------------------------
    def _submit(self, command: Command, answered: Callable[[Any], None]) -> None:
        try:
            self._bank.submit(command, answered)
        except FortressError as error:
            answered(error)

    def _when_durable(self, id: bytes, outcome: Verdict | FortressError, told: Callable[..., None]) -> None:
        """Tell a machine what came of a placing, once all that its hold shows is durable."""
        hold = self._state.hold(id) if isinstance(outcome, Verdict) and outcome.status is _OK else None
        if hold is None and isinstance(outcome, Verdict) and outcome.status is _OK:
            # what was read for the judging is forgotten already; the hold may stand, so nothing was refused
            outcome = OutcomeUnknown("memory is short; try again with the same id")
        if hold is None or hold.state == _OPEN or hold.position <= self._committer.committed_position:
            told(outcome, hold, clock_us())
            return

        def committed(found: Verdict | FortressError) -> None:
            told(found, None if isinstance(found, FortressError) else hold, clock_us())

        self._committer.when_committed(hold.position, committed, outcome)


def attempt_of(orders: Sequence[Order]) -> dict[str, Field]:
    """Tell for the log which payment an attempt under another id is of."""
    order = next((order for order in orders if order.attempt), None)
    return {"attempt": order.attempt, "of": order.payment.hex()} if order is not None else {}


def _submit_of(e: HoldPlaced) -> Submit:
    bank, _, number = e.counterparty.partition("/")
    return Submit(e.id, e.debit, bank, int(number), e.amount, e.currency, e.reference)
