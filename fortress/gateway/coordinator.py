"""The payments under way at a gateway: their machines (:mod:`.payment`), with ledger, links and clock to work with.

No task per payment: intents and decisions are submitted to the committer, which calls back once they are durable; what
is said to a bank in one turn of the loop leaves in one write. A machine is memory only: what a gateway that stops or is
primary no longer has begun and not decided is found as open holds by whoever is primary next, and given up first.

Every number that a bank could drive up is bounded: what it has under way, and what is kept of decided payments until it
acknowledges. A submission or question over a bound is not answered, for banks ask again until they are answered.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any, Final

from fortress.errors import OK, REFUSED_CODE_BASE, BankUnreachable, Busy, FortressError, Status
from fortress.gateway.links import Link
from fortress.gateway.messages import Acknowledge, Inquire, Message, Submit, Vote
from fortress.gateway.payment import Payment, Phase
from fortress.ledger.commands import AbortPayment, Command, CommitPayment, PlacePayment
from fortress.ledger.entries import Refused
from fortress.ledger.model import SWITCH_ACTOR, BankState, Hold
from fortress.ledger.rules import Verdict
from fortress.ledger.state import State
from fortress.server.bank import Bank
from fortress.server.logs import RequestLog, log_event

TICK_S: Final = 0.1
UNDECIDED_MAX: Final = 8_192
"""Payments of one bank that are not decided."""
MACHINES_MAX: Final = 131_072
"""All payments in memory; beyond, decided ones are left to the ledger and to the banks' questions."""
ROOM: Final = 4_096
UNKNOWN_PER_S: Final = 500
UNKNOWN_AT_ONCE: Final = 10_000
"""Questions of one bank about payments that are not under way: each may write an entry, and an honest bank asks only
about what it holds."""
LINES_PER_S_MAX: Final = 20
"""Lines in the log about what is ignored."""
PAGE: Final = 1_000

_DECIDED = Phase.decided
_OK = Status.ok

logger = logging.getLogger(__name__)


def clock_us() -> int:
    """Tell the time of a clock that never goes back, in microseconds: deadlines must not move with the date."""
    return time.monotonic_ns() // 1000


class Coordinator:
    """The payments under way (`fortress.gateway.payment.CoordinatorPorts`).

    Args:
        bank: the gateway's own books.
        link_of: gives a bank's link, None while it is not here.
        expects: tells whether a bank that is not here ought to be back any moment.
        log: gives the log of requests, in which payments have lines as well.
        deadline_us: after which what is not decided is given up.

    Attributes:
        machines: the payments under way, by id.
    """

    def __init__(
        self,
        bank: Bank,
        *,
        link_of: Callable[[str], Link | None],
        expects: Callable[[str], bool],
        log: Callable[[], RequestLog],
        deadline_us: int,
    ) -> None:
        self.machines: dict[bytes, Payment] = {}
        self._bank = bank
        self._state = bank.state
        self._link_of = link_of
        self._expects = expects
        self._log = log
        self._deadline_us = deadline_us
        self._undecided: dict[bytes, str] = {}
        self._undecided_of: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._unknown = Allowances(UNKNOWN_PER_S, UNKNOWN_AT_ONCE)
        self._ignored = Ignored()
        self._heard: dict[type[Message], Callable[[str, Any], None]] = {
            Submit: self._submitted,
            Vote: self._voted,
            Acknowledge: self._acknowledged,
            Inquire: self._inquired,
        }

    # --- When this node begins and ceases to be the gateway ----------------------------------------------------------
    async def recover(self) -> None:
        """Give up every payment whose intent is open in the ledger; no bank may be heard before.

        Raises:
            FortressError: the tables cannot be read now; it may be called again.
        """
        after, is_last = b"", False
        while not is_last:
            found, after = await self._bank.open_payments(PAGE, after)
            is_last = not after
            for each in found:
                payer, _, payee = each.entry.counterparty.partition(">")
                if each.hold.id not in self.machines:
                    banks = payer.partition("/")[0], payee.partition("/")[0]
                    self._make(each.hold.id, *banks, counted=banks[0]).recover()
        if self.machines:
            log_event(logger, logging.WARNING, "undecided payments given up", count=len(self.machines))

    def leave(self) -> None:
        """Forget all: another node goes on from the ledger."""
        self.machines.clear()
        self._undecided.clear()
        self._undecided_of.clear()

    # --- What banks say ----------------------------------------------------------------------------------------------
    def hear(self, bank: str, message: Message) -> bool:
        """Take what a bank says of payments; False when it is about something else."""
        handle = self._heard.get(type(message))
        if handle is None:
            return False
        handle(bank, message)
        return True

    def connected(self, bank: str) -> None:
        """Send a bank that has just registered what it may have missed."""
        now = clock_us()
        for payment in [p for p in self.machines.values() if bank in (p.payer, p.payee)]:
            payment.connected(bank, now)

    def _submitted(self, bank: str, submit: Submit) -> None:
        payment = self.machines.get(submit.id)
        if payment is not None:
            payment.submitted(bank, submit)
        elif self._expects(submit.payee_bank):
            return  # the payer's bank says it again, and by then the payee's may be back
        elif self._has_room(bank):
            self._log().note_payment("submit", submit.id, bank=bank, payee_bank=submit.payee_bank)
            self._make(submit.id, bank, submit.payee_bank, counted=bank, submit=submit).begin()

    def _inquired(self, bank: str, inquire: Inquire) -> None:
        for id in inquire.ids:
            payment = self.machines.get(id)
            if payment is not None:
                payment.inquired(bank)
            elif self._unknown.take(bank) and self._has_room(bank):
                self._make(id, "", bank, counted=bank).inquire()

    def _voted(self, bank: str, vote: Vote) -> None:
        payment = self.machines.get(vote.id)
        if payment is None or payment.payee != bank:
            self._ignored.note("vote for an unknown payment", bank, vote.id)
        else:
            payment.voted(bank, vote.reason)

    def _acknowledged(self, bank: str, acknowledge: Acknowledge) -> None:
        payment = self.machines.get(acknowledge.id)
        if payment is None or bank not in (payment.payer, payment.payee):
            self._ignored.note("acknowledgement of an unknown payment", bank, acknowledge.id)
        else:
            payment.acknowledged(bank)

    # --- Machines ----------------------------------------------------------------------------------------------------
    def _make(self, id: bytes, payer: str, payee: str, *, counted: str, submit: Submit | None = None) -> Payment:
        payment = Payment(self, id, payer, payee, clock_us(), submit=submit, deadline_us=self._deadline_us)
        self.machines[id] = payment
        self._undecided[id] = counted
        self._undecided_of[counted] += 1
        return payment

    def _has_room(self, bank: str) -> bool:
        """Tell whether one more payment may begin for a bank; for it, old decided ones are left to the ledger."""
        if self._undecided_of[bank] >= UNDECIDED_MAX:
            self._counts["over_limit"] += 1
            return False
        if len(self.machines) >= MACHINES_MAX:
            decided = (id for id, payment in self.machines.items() if payment.phase is _DECIDED)
            for id in tuple(islice(decided, ROOM)):
                del self.machines[id]
        return len(self.machines) < MACHINES_MAX

    def _settle(self, payment: Payment) -> None:
        """Take a payment off those that are not decided."""
        if self.machines.get(payment.id) is not payment:
            return  # this node was primary no longer in between, and has begun anew
        counted = self._undecided.pop(payment.id, None)
        if counted is not None:
            self._undecided_of[counted] -= 1
            if not self._undecided_of[counted]:
                del self._undecided_of[counted]

    def tick(self) -> None:
        """Do what is due: say again what was not answered, give up what was not decided in time."""
        now = clock_us()
        for payment in [p for p in self.machines.values() if p.due_us <= now]:
            payment.ticked(now)

    # --- What the machines ask ---------------------------------------------------------------------------------------
    def objection(self, payment: Payment) -> int:
        """Tell why a payment cannot be begun now: a status, the code of BankUnreachable, or 0."""
        submit, banks = payment.submit, self._state.banks
        assert submit is not None  # only what was submitted begins
        payer, payee = banks.get(payment.payer), banks.get(payment.payee)
        if payer is None or payee is None:
            return int(Status.payee_bank_unknown)
        if payer.state != BankState.active or payee.state != BankState.active:
            return int(Status.bank_suspended)
        positions, currency = self._state.positions, submit.currency
        if (payer.number, currency) not in positions or (payee.number, currency) not in positions:
            return int(Status.settlement_account_missing)
        return 0 if self._link_of(payment.payee) is not None else BankUnreachable.code

    def place(self, payment: Payment) -> None:
        """Submit the intent."""
        s = payment.submit
        assert s is not None  # as above
        banks, positions = self._state.banks, self._state.positions
        command = PlacePayment(
            SWITCH_ACTOR,
            s.id,
            positions[banks[payment.payer].number, s.currency],
            positions[banks[payment.payee].number, s.currency],
            s.amount,
            s.currency,
            f"{payment.payer}/{s.payer}>{payment.payee}/{s.payee}",
            # no bank lets unprintable text pass; should one do so, the money goes and the text does not
            s.reference if s.reference.isprintable() else "",
        )
        self._submit(command, partial(self._placed, payment))

    def commit(self, payment: Payment) -> None:
        """Submit the decision to pay."""
        self._submit(CommitPayment(SWITCH_ACTOR, payment.id), partial(self._ended, payment))

    def abort(self, payment: Payment) -> None:
        """Submit the decision not to pay."""
        self._submit(AbortPayment(SWITCH_ACTOR, payment.id, payment.reason), partial(self._ended, payment))

    def send(self, bank: str, message: Message) -> None:
        """Send to a bank, if it is here."""
        link = self._link_of(bank)
        if link is not None:
            link.send(message)

    def forget(self, payment: Payment) -> None:
        """Drop a machine."""
        if self.machines.get(payment.id) is payment:
            self._settle(payment)
            del self.machines[payment.id]

    # --- The ledger --------------------------------------------------------------------------------------------------
    def _submit(self, command: Command, answered: Callable[[Any], None]) -> None:
        try:
            self._bank.submit(command, answered)
        except FortressError as error:
            answered(error)

    def _placed(self, payment: Payment, outcome: Verdict | FortressError) -> None:
        """Go on once all is durable that the hold shows: a repeat may find one whose end is being written."""
        hold = self._state.hold(payment.id) if not isinstance(outcome, FortressError) else None
        if hold is None and isinstance(outcome, Verdict) and outcome.status is _OK:
            outcome = _FORGOTTEN
        if hold is None or hold.position <= self._bank.committer.committed_position:
            self._take_placed(payment, hold, outcome)
        else:
            when_committed = self._bank.committer.when_committed
            when_committed(hold.position, partial(self._take_placed, payment, hold), outcome)

    def _take_placed(self, payment: Payment, hold: Hold | None, outcome: Verdict | FortressError) -> None:
        payment.placed(outcome, hold, clock_us())
        self._note(payment, outcome)

    def _ended(self, payment: Payment, outcome: Verdict | FortressError) -> None:
        hold = self._state.hold(payment.id) if not isinstance(outcome, FortressError) else None
        if hold is None and isinstance(outcome, Verdict) and type(outcome.entry) is not Refused:
            # without its hold nobody can tell how it ended, unless this very answer does
            outcome = _FORGOTTEN if outcome.status is not Status.id_too_far_ahead else outcome
        if payment.reason and hold is not None and hold.is_payment:
            # given up or asked about without an intent of its own: the id may be a payment of other banks
            parties = _parties_of(self._state, hold)
            if (payment.payer, payment.payee) != parties:
                payment.belongs(*parties)
        payment.ended(outcome, hold, clock_us())
        self._note(payment, outcome)

    def _note(self, payment: Payment, outcome: Verdict | FortressError) -> None:
        """Count and log a decision that was just made."""
        if payment.phase is not _DECIDED:
            return
        self._settle(payment)
        if isinstance(outcome, Verdict) and outcome.replayed:
            return
        code, reason = OK, payment.reason
        if not payment.sequence:
            code = reason if reason >= REFUSED_CODE_BASE else REFUSED_CODE_BASE + reason
        self._counts["done" if code == OK else "refused" if reason < REFUSED_CODE_BASE else "given_up"] += 1
        us = clock_us() - payment.since_us
        self._log().note_payment("outcome", payment.id, code, bank=payment.payer, payee_bank=payment.payee, us=us)

    # --- For the monitor ---------------------------------------------------------------------------------------------
    def statistics(self) -> dict[str, object]:
        """Tell how payments ended since the start, and how many are under way."""
        counts = self._counts
        return {
            "payments": {name: counts[name] for name in ("done", "refused", "given_up")},
            "payments_in_doubt": len(self._undecided),
            "payments_unacknowledged": len(self.machines) - len(self._undecided),
            "messages_ignored": self._ignored.count + counts["over_limit"] + self._unknown.refused,
        }


def _parties_of(state: State, hold: Hold) -> tuple[str, str]:
    """Name the banks of the payer and of the payee of a payment."""
    positions = state.positions
    names = {positions.get((member.number, hold.currency)): name for name, member in state.banks.items()}
    return names[hold.debit], names[hold.credit]


class Ignored:
    """What banks say about payments that are not under way, or not theirs: a bank that repeats itself because an answer
    was lost, or one that makes things up. So many lines a second are logged.

    Attributes:
        count: of all since the start.
    """

    def __init__(self) -> None:
        self.count = 0
        self._lines = 0
        self._second = 0

    def note(self, what: str, bank: str, id: bytes) -> None:
        """Count one, and log it if this second has a line left."""
        self.count += 1
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= LINES_PER_S_MAX:
            log_event(logger, logging.WARNING, what, bank=bank, payment=id.hex())


class Allowance:
    """How often one bank may do something: so many times at once, refilled at a steady rate."""

    __slots__ = ("_at_once", "_filled_s", "_left", "_per_s")

    def __init__(self, now_s: float, per_s: int, at_once: int) -> None:
        self._per_s = per_s
        self._at_once = at_once
        self._left = float(at_once)
        self._filled_s = now_s

    def take(self, now_s: float) -> bool:
        """Take one; False when there is none left."""
        self._left = min(self._at_once, self._left + (now_s - self._filled_s) * self._per_s)
        self._filled_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Allowances:
    """An allowance for each bank.

    Attributes:
        refused: how often there was none left.
    """

    def __init__(self, per_s: int, at_once: int) -> None:
        self.refused = 0
        self._per_s = per_s
        self._at_once = at_once
        self._of: dict[str, Allowance] = {}

    def take(self, bank: str) -> bool:
        """Take one of a bank's; False when there is none left."""
        now_s = asyncio.get_running_loop().time()
        is_allowed = self._of.setdefault(bank, Allowance(now_s, self._per_s, self._at_once)).take(now_s)
        self.refused += not is_allowed
        return is_allowed


_FORGOTTEN: Final = Busy("memory is short: what was read for the judging is forgotten already; it is tried again")
