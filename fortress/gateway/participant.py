"""One payment at a bank, as machines without clock, disk or network: its leg on either side, and who waits for it.

A :class:`Leg` is one attempt's hold in this bank's ledger, until the gateway's outcome for it is durable here. It never
ends by this bank's own judgement; as long as it does not know the outcome it asks. Nothing of it need be remembered:
after a restart or takeover every open hold of a payment becomes a leg again (:meth:`Leg.recover`).

=========  =============================  =============================================================================
leg        what is durable here           what happens, and the phase after it
=========  =============================  =============================================================================
placing    nothing yet (payee's side)     placed: vote yes -> held; refused: vote no, forgotten; error: forgotten, the
                                          gateway sends Prepare again; outcome -> ending
held       the hold                       pause over or gateway connected: Submit (payer's side) or Inquire (payee's);
                                          Prepare again: vote again; outcome: commit or abort -> ending
ending     the hold, its end on its way   ended: acknowledge, tell the orders, forgotten; error -> held;
                                          contradicted by the ledger: reported, not acknowledged, forgotten
=========  =============================  =============================================================================

An :class:`Order` is one request of a customer for payment P. The first attempt has P's id, attempt k one derived from P
and k (:func:`attempt_id`). Which attempt is the current one is told by the ledger, not remembered: the order places
attempt 0, and where the ledger has it as given up for want of infrastructure, the next one, until one is new, under
way, paid or refused. So a repeat finds its way by itself, at any time and on any node, and a hundred at once meet at
the same attempt.

=========  ==============================================  ============================================================
order      what it waits for                               what happens, and the phase after it
=========  ==============================================  ============================================================
new        nothing                                         begin: connected: place -> placing; else look -> looking
looking    whether the ledger knows the attempt            known: place -> placing (a repeat); unknown: answered with
                                                           GatewayUnreachable, nothing was begun
placing    the ledger's answer                             placed: follow the leg -> following; given up before: next
                                                           attempt at once; paid or refused: answered
following  the end of the leg                              paid or refused: answered; given up: -> pausing
pausing    the next attempt                                pause over: next attempt
answered   nothing                                         a late placing still gets its leg
=========  ==============================================  ============================================================

When its time is over an order is answered OutcomeUnknown, except in ``pausing``, where no attempt is open: there it is
told why the last one was given up. State changes come first and calls of ``ports`` last, so a port may call back at
once.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from enum import IntEnum
from typing import Final, Protocol

from fortress.errors import FortressError, GatewayUnreachable, OutcomeUnknown, Status
from fortress.gateway.messages import Acknowledge, Inquire, Message, Prepare, Submit, Vote
from fortress.gateway.payment import REASON_ERROR_FIRST, reason_of
from fortress.ledger.entries import FactPairs, Posted
from fortress.ledger.model import Hold, HoldState
from fortress.ledger.rules import Verdict

PAUSE_FIRST_US: Final = 1_000_000
PAUSE_MAX_US: Final = 30_000_000
ATTEMPT_PAUSE_FIRST_US: Final = 250_000
NEVER_US: Final = 2**63 - 1
_LABEL: Final = b"fortress payment attempt v1\0"


def attempt_id(payment: bytes, attempt: int) -> bytes:
    """Give the id of a payment's attempt: the payment's own for the first, 0, then such as tell no time (UUIDv8)."""
    if not attempt:
        return payment
    raw = bytearray(hashlib.sha256(_LABEL + payment + attempt.to_bytes(4, "big")).digest()[:16])
    raw[6] = 0x80 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    return bytes(raw)


class LegPhase(IntEnum):
    """Where a leg stands."""

    placing = 0
    held = 1
    ending = 2
    ended = 3


class OrderPhase(IntEnum):
    """Where a customer's request stands."""

    new = 0
    looking = 1
    placing = 2
    following = 3
    pausing = 4
    answered = 5


_LEG_PLACING, _HELD, _ENDING, _ENDED = LegPhase
_NEW, _LOOKING, _PLACING, _FOLLOWING, _PAUSING, _ANSWERED = OrderPhase
_OPEN, _POSTED = int(HoldState.open), int(HoldState.posted)
_OK = Status.ok


class BankPorts(Protocol):
    """What the machines ask of the node they run on."""

    @property
    def is_connected(self) -> bool:
        """True while this bank is registered at the gateway."""

    def send(self, message: Message) -> None:
        """Send to the gateway, if it is connected; what is lost is sent again."""

    # --- legs --------------------------------------------------------------------------------------------------------
    def place_incoming(self, leg: Incoming) -> None:
        """Submit the placing of ``leg.prepare`` as the switch, and call ``leg.placed`` with what comes of it."""

    def commit(self, leg: Leg) -> None:
        """Submit a CommitPayment of ``leg.sequence``, and call ``leg.ended`` with what comes of it."""

    def abort(self, leg: Leg) -> None:
        """Submit an AbortPayment for ``leg.reason``, and call ``leg.ended`` with what comes of it."""

    def dispute(self, leg: Leg, status: int) -> None:
        """Report that the outcome told contradicts this ledger: an operator has to look."""

    def forget(self, leg: Leg) -> None:
        """Drop the leg."""

    # --- orders ------------------------------------------------------------------------------------------------------
    def look(self, order: Order) -> None:
        """Find out whether the ledger knows ``order.id``, and call ``order.looked``."""

    def place(self, order: Order) -> None:
        """Submit the order's command under ``order.id``, and call ``order.placed`` with what comes of it."""

    def leg_of(self, order: Order) -> Outgoing | None:
        """Give the outgoing leg of ``order.id``."""

    def open_leg(self, order: Order) -> Outgoing:
        """Make and keep the leg of ``order.id``, which is held."""

    def answer_paid(self, order: Order, position: int, posted: Posted | None) -> None:
        """Tell the customer that it is done; ``posted`` is the entry at ``position`` when it was just written."""

    def answer_refused(self, order: Order, status: int, facts: FactPairs) -> None:
        """Tell the customer that it is refused for good."""

    def answer_error(self, order: Order, error: FortressError | int) -> None:
        """Tell the customer to try again with the same id: an error, or the code of one."""


# --- Legs ------------------------------------------------------------------------------------------------------------
class Leg(ABC):
    """One attempt in this bank's books, on either side.

    Attributes:
        id: of the attempt, the same in all three ledgers.
        phase: see the module's table.
        is_commit, sequence, reason: the outcome that is being carried out.
        since_us: when it came here.
        due_us: when :meth:`ticked` is wanted next.
    """

    __slots__ = ("due_us", "id", "is_commit", "pause_us", "phase", "ports", "reason", "sequence", "since_us")

    def __init__(self, ports: BankPorts, id: bytes, now_us: int) -> None:
        self.ports = ports
        self.id = id
        self.phase = _HELD
        self.is_commit = False
        self.sequence = 0
        self.reason = 0
        self.since_us = now_us
        self.due_us = NEVER_US
        self.pause_us = PAUSE_FIRST_US

    @abstractmethod
    def question(self) -> Message:
        """Make the message that asks for the outcome."""

    @abstractmethod
    def prepared(self, prepare: Prepare) -> None:
        """Take a Prepare of this id."""

    def recover(self, now_us: int) -> None:
        """Begin with a hold that was found open, asking what became of it."""
        self._ask(now_us)

    def connected(self, now_us: int) -> None:
        """Ask at once, now that the gateway can be asked."""
        self.pause_us = PAUSE_FIRST_US
        if self.phase is _HELD:
            self._ask(now_us)

    def ticked(self, now_us: int) -> None:
        """Ask again when it is time."""
        if self.phase is _HELD and now_us >= self.due_us:
            self._ask(now_us)

    def outcome(self, sequence: int, reason: int) -> None:
        """Carry out what the gateway decided; ``sequence`` 0: aborted for ``reason``."""
        self.end(is_commit=sequence > 0, sequence=sequence, reason=reason)

    def end(self, *, is_commit: bool, sequence: int = 0, reason: int = 0) -> None:
        """Commit or abort: the gateway's outcome, or two operators' who know what it was."""
        if self.phase is _ENDING or self.phase is _ENDED:
            return
        self.phase = _ENDING
        self.due_us = NEVER_US
        self.is_commit, self.sequence, self.reason = is_commit, sequence, reason
        if is_commit:
            self.ports.commit(self)
        else:
            self.ports.abort(self)

    def ended(self, outcome: Verdict | FortressError, hold: Hold | None, now_us: int) -> None:
        """Acknowledge once the end is durable, or go back to asking when it could not be written.

        Args:
            outcome: of the commit or abort.
            hold: what the ledger has under this id.
        """
        if isinstance(outcome, FortressError) or outcome.status is Status.id_too_far_ahead:
            self.phase = _HELD
            self._pause(now_us)
            return
        self.phase = _ENDED
        status = outcome.status
        # an id that is something else here is no payment, and can never become one
        if status is _OK or (status is Status.payment_unknown and not self.is_commit):
            self.ports.send(Acknowledge(self.id))
        else:
            self.ports.dispute(self, int(status))
        self.ports.forget(self)
        self._tell(outcome, hold, now_us)

    @abstractmethod
    def _tell(self, verdict: Verdict, hold: Hold | None, now_us: int) -> None:
        """Tell whoever waits here what the ledger has."""

    def _ask(self, now_us: int) -> None:
        self._pause(now_us)
        self.ports.send(self.question())

    def _pause(self, now_us: int) -> None:
        self.due_us = now_us + self.pause_us
        self.pause_us = min(2 * self.pause_us, PAUSE_MAX_US)


class Outgoing(Leg):
    """The payer's side: held when it is made; ``submit`` is repeated until the outcome is told."""

    __slots__ = ("orders", "submit")

    def __init__(self, ports: BankPorts, submit: Submit, now_us: int) -> None:
        super().__init__(ports, submit.id, now_us)
        self.submit = submit
        self.orders: list[Order] = []

    def question(self) -> Message:
        """Make the message that asks for the outcome: the submission itself."""
        return self.submit

    def prepared(self, prepare: Prepare) -> None:
        """Vote no: another payment has this id here."""
        self.ports.send(Vote(self.id, int(Status.id_reused)))

    def _tell(self, verdict: Verdict, hold: Hold | None, now_us: int) -> None:
        if hold is None:
            return  # memory has forgotten it: the orders find out by themselves that it is not known
        orders, self.orders = self.orders, []
        posted = verdict.entry if type(verdict.entry) is Posted else None
        for order in orders:
            order.ended(hold, posted, now_us)


class Incoming(Leg):
    """The payee's side: made by a Prepare, or recovered (``prepare`` is None then, until it comes again)."""

    __slots__ = ("is_placed", "prepare")

    def __init__(self, ports: BankPorts, id: bytes, now_us: int) -> None:
        super().__init__(ports, id, now_us)
        self.prepare: Prepare | None = None
        self.is_placed = True

    @classmethod
    def begin(cls, ports: BankPorts, prepare: Prepare, now_us: int) -> Incoming:
        """Make the leg of a Prepare; the caller keeps it, then calls :meth:`place`."""
        leg = cls(ports, prepare.id, now_us)
        leg.is_placed = False
        leg.prepare = prepare
        leg.phase = _LEG_PLACING
        return leg

    def place(self) -> None:
        """Have the hold written."""
        self.ports.place_incoming(self)

    def question(self) -> Message:
        """Make the message that asks for the outcome."""
        return Inquire((self.id,))

    def prepared(self, prepare: Prepare) -> None:
        """Take a Prepare that came again: vote again; after a restart ask the ledger whether it is the same."""
        if self.phase is not _HELD:
            return
        if self.prepare is None:
            self.prepare = prepare
            self.phase = _LEG_PLACING
            self.due_us = NEVER_US
            self.ports.place_incoming(self)
        elif self.prepare == prepare:
            self.ports.send(Vote(self.id))

    def placed(self, outcome: Verdict | FortressError, hold: Hold | None, now_us: int) -> None:
        """Vote, once it is durable that this bank holds the money or refuses.

        Args:
            outcome: of the placing.
            hold: what the ledger has under this id.
        """
        if self.phase is not _LEG_PLACING:
            return  # the outcome was quicker
        status = None if isinstance(outcome, FortressError) else outcome.status
        if status is _OK and hold is not None:
            if hold.state == _OPEN:
                self._keep(now_us)
                self.ports.send(Vote(self.id))
            else:
                self._drop()
        elif self.is_placed:  # the hold stands, whatever this Prepare was
            self.prepare = None
            self._keep(now_us)
        else:
            self._drop()
            if isinstance(outcome, Verdict) and status not in (_OK, Status.id_too_far_ahead):
                self.ports.send(Vote(self.id, reason_of(outcome)))

    def _keep(self, now_us: int) -> None:
        self.phase, self.is_placed = _HELD, True
        self._pause(now_us)

    def _drop(self) -> None:
        self.phase = _ENDED
        self.ports.forget(self)

    def _tell(self, verdict: Verdict, hold: Hold | None, now_us: int) -> None:
        """Nobody waits on this side."""


# --- Orders ----------------------------------------------------------------------------------------------------------
class Order:
    """One request of a customer for a payment, until it is answered.

    Attributes:
        payment: the payment's id, the customer's own.
        attempt, id: which attempt this order is at, and its id.
        phase: see the module's table.
        until_us: when the customer is answered at the latest.
        due_us: when :meth:`ticked` is wanted next.
    """

    __slots__ = ("attempt", "due_us", "id", "payment", "pause_us", "phase", "ports", "reason", "until_us")

    def __init__(self, ports: BankPorts, payment: bytes, until_us: int) -> None:
        self.ports = ports
        self.payment = payment
        self.attempt = 0
        self.id = payment
        self.phase = _NEW
        self.reason = 0
        self.until_us = until_us
        self.due_us = until_us
        self.pause_us = ATTEMPT_PAUSE_FIRST_US

    def begin(self) -> None:
        """Place this attempt, or without a gateway find out whether it was placed before."""
        if self.ports.is_connected:
            self.phase = _PLACING
            self.ports.place(self)
        else:
            self.phase = _LOOKING
            self.ports.look(self)

    def looked(self, *, is_known: bool) -> None:
        """Go on with what the ledger knows; begin nothing new without a gateway."""
        if self.phase is not _LOOKING:
            return
        if is_known:
            self.phase = _PLACING
            self.ports.place(self)
        else:
            self._answer_error(GatewayUnreachable.code)

    def placed(self, outcome: Verdict | FortressError, hold: Hold | None, now_us: int) -> None:
        """Follow the attempt, or go on from what the ledger knows of it.

        Args:
            outcome: of the placing.
            hold: what the ledger has under ``id``.
        """
        if isinstance(outcome, FortressError):
            self._answer_error(outcome)
        elif outcome.status is _OK:
            if hold is not None:  # else memory has forgotten it, and the customer asks again in the end
                self._follow(hold, now_us)
        elif outcome.status is Status.payment_given_up:
            self._given_up(reason_of(outcome), now_us)
        else:
            self._answer_refused(int(outcome.status), outcome.facts)

    def ended(self, hold: Hold, posted: Posted | None, now_us: int) -> None:
        """Answer, or go on to the next attempt, now that this one is over.

        Args:
            hold: as it is durable, open no more.
            posted: the entry, when it was just written.
        """
        if hold.state == _POSTED:
            if self._answer_once():
                self.ports.answer_paid(self, hold.position, posted)
        else:
            self._given_up(hold.reason, now_us)

    def ticked(self, now_us: int) -> None:
        """Begin the next attempt when its pause is over; answer when the customer's time is."""
        if self.phase is _ANSWERED or now_us < self.due_us:
            return
        if self.phase is _PAUSING:
            self.due_us = self.until_us
            self.begin()
        else:
            self._answer_error(OutcomeUnknown.code)

    def _follow(self, hold: Hold, now_us: int) -> None:
        leg = self.ports.leg_of(self)
        if leg is None and hold.state != _OPEN:
            self.ended(hold, None, now_us)
            return
        if self.phase is _PLACING:
            self.phase = _FOLLOWING
        if leg is not None:
            leg.orders.append(self)
            return
        leg = self.ports.open_leg(self)
        leg.orders.append(self)
        leg.recover(now_us)

    def _given_up(self, reason: int, now_us: int) -> None:
        """Repeat a refusal; after an error go on, at once through history, after a pause from what was just tried."""
        if self.phase is _ANSWERED:
            return
        if reason < REASON_ERROR_FIRST:
            self._answer_refused(reason, ())
            return
        is_history = self.phase is _PLACING
        self.attempt += 1
        self.id = attempt_id(self.payment, self.attempt)
        if is_history:
            self.begin()
        elif now_us + self.pause_us >= self.until_us:
            self._answer_error(reason)
        else:
            self.phase = _PAUSING
            self.reason = reason
            self.due_us = now_us + self.pause_us
            self.pause_us *= 2

    def _answer_once(self) -> bool:
        was, self.phase, self.due_us = self.phase, _ANSWERED, NEVER_US
        return was is not _ANSWERED

    def _answer_refused(self, status: int, facts: FactPairs) -> None:
        if self._answer_once():
            self.ports.answer_refused(self, status, facts)

    def _answer_error(self, error: FortressError | int) -> None:
        if self._answer_once():
            self.ports.answer_error(self, error)
