"""One payment at the gateway: the coordinator of its two-phase commit, as a machine without clock, disk or network.

The intent is a hold between the two banks' positions in the gateway's own ledger; posting it is the decision to commit,
voiding it the decision to abort. Each is one durable entry, so whatever this machine believes, the ledger knows: after
every command it reads the outcome off the hold, and it says nothing to a bank that is not durable.

What can be lost is only this object. Its ledger then holds an open intent, which whoever becomes primary aborts first
(presumed abort), or a decision, which is told to whoever asks. A bank that waits asks until it is told (the payer's by
``Submit``, the payee's by ``Inquire``), so nobody's acknowledgement has to be durable.

==========  ==============================================  ==========================================================
phase       what is durable here, what it waits for         what happens, and the phase after it
==========  ==============================================  ==========================================================
new         nothing, or what an earlier primary left        submitted, no objection: place -> intending;
                                                            objection: abort -> deciding (leaves a tombstone);
                                                            inquired, or recovered from an open hold: abort -> deciding
intending   the intent is being written                     placed: send Prepare -> preparing;
                                                            decided before, or refused: tell -> decided;
                                                            the id is another payment's: tell, forgotten;
                                                            error: forgotten, the payer's bank submits again
preparing   the intent; the payee's vote                    vote yes: commit -> deciding; vote no: abort -> deciding;
                                                            deadline: abort -> deciding; pause over or payee's bank
                                                            connected: send Prepare again
deciding    the intent; the decision is being written       done: tell -> decided, as the ledger says;
                                                            error: tried again after a pause
decided     the decision; acknowledgements                  pause over, bank connected or asking: tell again;
                                                            last acknowledgement: forgotten
==========  ==============================================  ==========================================================

A vote counts only in ``preparing``. The payee's bank is told an abort unless it refused by itself or never was asked to
prepare; a commit goes to both.

State changes come first and calls of ``ports`` last, so a port may call back at once.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Protocol

from fortress.errors import FortressError, PaymentUnfinished, Status
from fortress.gateway.messages import Message, Outcome, Prepare, Submit
from fortress.ledger.entries import Refused
from fortress.ledger.model import Hold, HoldState
from fortress.ledger.rules import Verdict

PAUSE_FIRST_US: Final = 500_000
PAUSE_MAX_US: Final = 30_000_000
NEVER_US: Final = 2**63 - 1
REASON_ERROR_FIRST: Final = 1_000
"""Reasons from here on are codes of errors: nothing was paid, and another attempt may be. Below are statuses: final."""

PAYER: Final = 1
PAYEE: Final = 2


class Phase(IntEnum):
    """Where a payment stands at the gateway."""

    new = 0
    intending = 1
    preparing = 2
    deciding = 3
    decided = 4


_NEW, _INTENDING, _PREPARING, _DECIDING, _DECIDED = Phase
_OPEN, _POSTED = int(HoldState.open), int(HoldState.posted)
_OK = Status.ok


class CoordinatorPorts(Protocol):
    """What the machine asks of the node it runs on."""

    def objection(self, payment: Payment) -> int:
        """Tell why this payment cannot be begun now: a reason, or 0.

        A bank that is unknown or suspended or has no position in the currency: its status. A payee's bank that is not
        connected: the code of BankUnreachable.
        """

    def place(self, payment: Payment) -> None:
        """Submit the intent to the ledger, and call ``payment.placed`` with what comes of it."""

    def commit(self, payment: Payment) -> None:
        """Submit a CommitPayment, and call ``payment.ended`` with what comes of it."""

    def abort(self, payment: Payment) -> None:
        """Submit an AbortPayment for ``payment.reason``, and call ``payment.ended`` with what comes of it."""

    def send(self, bank: str, message: Message) -> None:
        """Send to a bank, if it is connected; what is lost is asked or sent again."""

    def forget(self, payment: Payment) -> None:
        """Drop the machine: nothing is left to do, or the ledger knows all there is."""


class Payment:
    """One payment at the gateway; see the module's table.

    Attributes:
        id: of this attempt, the same in all three ledgers.
        payer, payee: the two banks' names; ``payer`` may be empty until it is known.
        submit: what the payer's bank asked for; None when recovered or only inquired about.
        phase: see the table.
        sequence, reason: the outcome once decided; before, ``reason`` is why it is to be aborted (0: to be committed).
        waiting: who has to be told and has not acknowledged, of ``PAYER | PAYEE``.
        since_us: when it came here.
        due_us: when :meth:`ticked` is wanted next.
    """

    __slots__ = (
        *("deadline_us", "due_us", "id", "payee", "payer", "pause_us", "phase", "ports", "reason", "sequence"),
        *("since_us", "submit", "waiting"),
    )

    def __init__(
        self,
        ports: CoordinatorPorts,
        id: bytes,
        payer: str,
        payee: str,
        now_us: int,
        *,
        submit: Submit | None = None,
        deadline_us: int = 20_000_000,
    ) -> None:
        self.ports = ports
        self.id = id
        self.payer = payer
        self.payee = payee
        self.submit = submit
        self.phase = _NEW
        self.sequence = 0
        self.reason = 0
        self.waiting = 0
        self.since_us = now_us
        self.deadline_us = now_us + deadline_us
        self.due_us = NEVER_US
        self.pause_us = PAUSE_FIRST_US

    # --- What begins it ----------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """Begin what the payer's bank submitted, or find out what became of it before."""
        self.waiting = PAYER
        self.reason = self.ports.objection(self)
        if self.reason:
            self.phase = _DECIDING
            self.ports.abort(self)
        else:
            self.phase = _INTENDING
            self.ports.place(self)

    def recover(self) -> None:
        """Give up an intent that was found open after a restart or takeover, and tell both banks."""
        self._give_up(PaymentUnfinished.code, PAYER | PAYEE)

    def inquire(self) -> None:
        """Answer the payee's bank from the ledger; what was never heard of is given up first, for good."""
        self._give_up(PaymentUnfinished.code, PAYEE)

    # --- What the banks say ------------------------------------------------------------------------------------------
    def submitted(self, bank: str, submit: Submit) -> None:
        """Take the submission of a payment that is here already.

        Another bank's under the same id is refused, once the ledger has told whose the id is. Another content of the
        same bank is not answered: it cannot be what that bank holds, and no outcome of this payment is true of it.
        """
        if not self.payer:
            self.payer = bank
        if bank != self.payer:
            if self.phase is _PREPARING or self.phase is _DECIDED:
                self.ports.send(bank, Outcome(self.id, 0, int(Status.id_reused)))
            return
        if self.submit is not None and submit != self.submit:
            return
        self.waiting |= PAYER
        if self.phase is _DECIDED:
            self.ports.send(bank, Outcome(self.id, self.sequence, self.reason))

    def voted(self, bank: str, reason: int) -> None:
        """Take the vote of the payee's bank, 0: yes; too late it gets the outcome again."""
        if bank != self.payee:
            return
        if self.phase is _PREPARING:
            if reason:
                self._give_up(reason, PAYER)
            else:
                self.phase = _DECIDING
                self.due_us = NEVER_US
                self.ports.commit(self)
        elif self.phase is _DECIDED and self.waiting & PAYEE:
            self.ports.send(bank, Outcome(self.id, self.sequence, self.reason))

    def inquired(self, bank: str) -> None:
        """Answer a bank that takes part; nothing while it is not decided."""
        if self.phase is _DECIDED and bank in (self.payer, self.payee):
            self.ports.send(bank, Outcome(self.id, self.sequence, self.reason))

    def acknowledged(self, bank: str) -> None:
        """Note that a bank has the outcome in its books; the last one ends this machine."""
        if self.phase is not _DECIDED:
            return
        if bank == self.payer:
            self.waiting &= ~PAYER
        elif bank == self.payee:
            self.waiting &= ~PAYEE
        if not self.waiting:
            self.due_us = NEVER_US
            self.ports.forget(self)

    def connected(self, bank: str, now_us: int) -> None:
        """Send a bank that registered what it may have missed."""
        self.pause_us = PAUSE_FIRST_US
        if self.phase is _PREPARING:
            if bank == self.payee:
                self._prepare(now_us)
        elif self.phase is _DECIDED:
            self._tell(now_us, only=bank)

    # --- What the ledger says ----------------------------------------------------------------------------------------
    def placed(self, outcome: Verdict | FortressError, hold: Hold | None, now_us: int) -> None:
        """Go on when the intent is durable, or was decided or refused.

        Args:
            outcome: of the placing.
            hold: what the ledger has under this id.
        """
        if isinstance(outcome, FortressError) or not _is_told(outcome, hold):
            self.ports.forget(self)
        elif outcome.status is _OK and hold is not None and hold.state == _OPEN:
            self.phase = _PREPARING
            self._prepare(now_us)
        else:
            self._decided(outcome, hold, now_us)

    def ended(self, outcome: Verdict | FortressError, hold: Hold | None, now_us: int) -> None:
        """Tell the banks when the decision is durable; try again later when it could not be written.

        Args:
            outcome: of the commit or abort.
            hold: what the ledger has under this id.
        """
        if isinstance(outcome, FortressError) or not _is_told(outcome, hold):
            self._pause(now_us)
        else:
            self._decided(outcome, hold, now_us)

    def belongs(self, payer: str, payee: str) -> None:
        """Take from the ledger whose payment has this id; who else came with it has none under it, and is told so."""
        sides = ((self.payer, PAYER), (self.payee, PAYEE))
        asked = tuple(bank for bank, bit in sides if bank and self.waiting & bit)
        self.payer, self.payee, self.submit = payer, payee, None
        self.waiting = (PAYER if payer in asked else 0) | (PAYEE if payee in asked else 0)
        for bank in asked:
            if bank not in (payer, payee):
                self.ports.send(bank, Outcome(self.id, 0, int(Status.id_reused)))

    # --- What the clock says -----------------------------------------------------------------------------------------
    def ticked(self, now_us: int) -> None:
        """Send again what was not answered, or give up what was not decided in time."""
        if now_us < self.due_us:
            return
        if self.phase is _PREPARING:
            if now_us >= self.deadline_us:
                self._give_up(PaymentUnfinished.code, PAYER | PAYEE)
            else:
                self._prepare(now_us)
        elif self.phase is _DECIDED:
            self._tell(now_us)
        else:  # the decision could not be written: nothing else waits for the clock
            self._decide()

    def give_up(self, reason: int) -> bool:
        """Abort by hand; False when it is decided or being decided already."""
        if self.phase is not _PREPARING:
            return False
        self._give_up(reason, PAYER | PAYEE)
        return True

    @property
    def missing(self) -> tuple[str, ...]:
        """The banks that must still act."""
        if self.phase is _PREPARING:
            return (self.payee,)
        if self.phase is not _DECIDED:
            return ()
        return tuple(bank for bank, bit in ((self.payer, PAYER), (self.payee, PAYEE)) if self.waiting & bit)

    # --- Inside ------------------------------------------------------------------------------------------------------
    def _give_up(self, reason: int, waiting: int) -> None:
        self.phase = _DECIDING
        self.reason = reason
        self.waiting |= waiting
        self.due_us = NEVER_US
        self.ports.abort(self)

    def _decide(self) -> None:
        self.due_us = NEVER_US
        if self.reason:
            self.ports.abort(self)
        else:
            self.ports.commit(self)

    def _decided(self, verdict: Verdict, hold: Hold | None, now_us: int) -> None:
        if self.phase is _DECIDING and not self.reason:
            self.waiting |= PAYEE  # it voted yes, and is told whatever came of that
        self.phase = _DECIDED
        self.sequence, self.reason = outcome_of(verdict, hold)
        self.pause_us = PAUSE_FIRST_US
        self._tell(now_us)
        if verdict.status is Status.id_reused or not self.waiting:
            # what the id stands for is another payment, whose banks must not find this one in its place
            self.due_us = NEVER_US
            self.ports.forget(self)

    def _prepare(self, now_us: int) -> None:
        assert self.submit is not None  # only what was submitted gets here; what is recovered is given up
        s = self.submit
        self._pause(now_us)
        self.due_us = min(self.due_us, self.deadline_us)
        self.ports.send(self.payee, Prepare(self.id, self.payer, s.payer, s.payee, s.amount, s.currency, s.reference))

    def _tell(self, now_us: int, *, only: str = "") -> None:
        self._pause(now_us)
        message = Outcome(self.id, self.sequence, self.reason)
        waiting = self.waiting
        if waiting & PAYER and only in ("", self.payer):
            self.ports.send(self.payer, message)
        if waiting & PAYEE and only in ("", self.payee):
            self.ports.send(self.payee, message)

    def _pause(self, now_us: int) -> None:
        self.due_us = now_us + self.pause_us
        self.pause_us = min(2 * self.pause_us, PAUSE_MAX_US)


def _is_told(verdict: Verdict, hold: Hold | None) -> bool:
    """Tell whether this is an answer: not about an id from the future, nor about a hold that memory has forgotten."""
    if verdict.status is Status.id_too_far_ahead:
        return False
    if hold is not None or type(verdict.entry) is Refused:
        return True
    return verdict.status not in (_OK, Status.payment_already_decided)


def outcome_of(verdict: Verdict, hold: Hold | None) -> tuple[int, int]:
    """Read what became of a payment off the ledger's answer: its sequence, or 0 and the reason why it was not paid.

    Args:
        verdict: of a placing that was refused, or of an ending.
        hold: what the ledger has under its id, open no more.
    """
    if verdict.status is Status.id_reused:
        return 0, int(Status.id_reused)
    if hold is not None and hold.is_payment:
        return (hold.sequence, 0) if hold.state == _POSTED else (0, hold.reason)
    return 0, reason_of(verdict)


def reason_of(verdict: Verdict) -> int:
    """Give the reason in a refusal: its status, or for what was given up before it was placed the reason of that."""
    entry = verdict.entry
    if type(entry) is not Refused:
        return int(verdict.status)
    if entry.status != Status.payment_given_up:
        return entry.status
    return int(dict(entry.facts)["reason"])
