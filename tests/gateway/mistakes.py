"""Mistakes that such a protocol invites, made on purpose: the exploration has to find each of them.

Each changes the machines, a rule or a shell for as long as a test lasts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from fortress.errors import OutcomeUnknown, PaymentUnfinished
from fortress.gateway import participant
from fortress.gateway.messages import Outcome, Submit, Vote
from fortress.gateway.participant import Incoming, Leg, LegPhase, Order, OrderPhase, Outgoing, attempt_id
from fortress.gateway.payment import Payment, Phase
from fortress.ledger import acts
from fortress.ledger.commands import AbortPayment
from fortress.ledger.model import Hold, HoldState
from fortress.ledger.rules import Verdict
from tests.gateway.world import Bank

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Mistake:
    """What is done wrong, in which scenario it shows, and with how many faults at the latest."""

    make: Callable[[Patch], None]
    depth: int
    scenario: str = "a payment"


def tells_before_it_wrote(patch: Patch) -> None:
    voted = Payment.voted

    def hasty(self: Payment, bank: str, reason: int) -> None:
        was = self.phase
        voted(self, bank, reason)
        if was is Phase.preparing and not reason:
            ports: Any = self.ports
            for told in (self.payer, self.payee):
                ports.send(told, Outcome(self.id, ports.ledger.state.hold(self.id).sequence))

    patch.setattr(Payment, "voted", hasty)


def believes_itself(patch: Patch) -> None:
    decided = Payment._decided

    def sure(self: Payment, verdict: Verdict, hold: Hold | None, now_us: int) -> None:
        if self.phase is Phase.deciding and self.reason and hold is not None:
            hold = replace(hold, state=int(HoldState.voided), reason=self.reason)
        decided(self, verdict, hold, now_us)

    patch.setattr(Payment, "_decided", sure)


def commits_what_it_finds_open(patch: Patch) -> None:
    def recover(self: Payment) -> None:
        self.phase = Phase.deciding
        self.waiting = 3
        self.ports.commit(self)

    patch.setattr(Payment, "recover", recover)


def counts_any_vote(patch: Patch) -> None:
    voted = Payment.voted
    patch.setattr(Payment, "voted", lambda self, bank, reason: voted(self, self.payee, reason))


def leaves_no_tombstone(patch: Patch) -> None:
    judge = acts.JUDGES[AbortPayment]

    def forgetful(books: Any, command: AbortPayment, now_us: int) -> Verdict:
        verdict = judge(books, command, now_us)
        return verdict if books.hold(command.id) else Verdict(verdict.status, verdict.entry, replayed=True)

    patch.setitem(acts.JUDGES, AbortPayment, forgetful)


def votes_before_it_holds(patch: Patch) -> None:
    place = Incoming.place

    def hasty(self: Incoming) -> None:
        place(self)
        self.ports.send(Vote(self.id))

    patch.setattr(Incoming, "place", hasty)


def submits_before_it_holds(patch: Patch) -> None:
    begin = Order.begin

    def hasty(self: Order) -> None:
        begin(self)
        ports: Any = self.ports
        c = ports.orders[self][0]
        bank, _, number = c.payee.partition("/")
        ports.send(Submit(self.id, c.debit, bank, int(number), c.amount, "EUR", "rent"))

    patch.setattr(Order, "begin", hasty)


def _ends_by_itself(patch: Patch, side: type[Leg], *, is_commit: bool) -> None:
    ticked = side.ticked

    def impatient(self: Leg, now_us: int) -> None:
        if self.phase is LegPhase.held and now_us >= self.due_us:
            self.end(is_commit=is_commit, sequence=7, reason=PaymentUnfinished.code)
        else:
            ticked(self, now_us)

    patch.setattr(side, "ticked", impatient)


def does_not_look_for_what_is_open(patch: Patch) -> None:
    patch.setattr(Bank, "restart", lambda self: self.ledger.load())


def nobody_repeats(patch: Patch) -> None:
    patch.setattr(Leg, "ticked", lambda self, now_us: setattr(self, "due_us", 2**63 - 1))
    patch.setattr(Payment, "ticked", lambda self, now_us: setattr(self, "due_us", 2**63 - 1))


def does_not_wait_for_the_end(patch: Patch) -> None:
    def impatient(self: Order, now_us: int) -> None:
        if self.phase is OrderPhase.following:
            self.attempt += 1
            self.id = attempt_id(self.payment, self.attempt)
            self.due_us = now_us + 10_000_000
            self.begin()

    patch.setattr(Order, "ticked", impatient)


def takes_the_same_id_again(patch: Patch) -> None:
    patch.setattr(participant, "attempt_id", lambda payment, attempt: payment)


def takes_no_refusal_for_an_answer(patch: Patch) -> None:
    patch.setattr(participant, "REASON_ERROR_FIRST", 0)


def takes_an_error_for_a_refusal(patch: Patch) -> None:
    patch.setattr(participant, "REASON_ERROR_FIRST", 1_000_000)


def answers_before_it_is_posted(patch: Patch) -> None:
    outcome = Outgoing.outcome

    def hasty(self: Outgoing, sequence: int, reason: int) -> None:
        if sequence:
            for order in self.orders:
                order.phase = OrderPhase.answered
                order.ports.answer_paid(order, 0, None)
        outcome(self, sequence, reason)

    patch.setattr(Outgoing, "outcome", hasty)


def guesses_in_the_end(patch: Patch) -> None:
    patch.setattr(participant.OutcomeUnknown, "code", PaymentUnfinished.code)
    assert OutcomeUnknown.code == PaymentUnfinished.code


MISTAKES: dict[str, Mistake] = {
    "the gateway tells the outcome before it wrote it": Mistake(tells_before_it_wrote, 1),
    "the gateway believes itself more than its ledger": Mistake(believes_itself, 1),
    "the gateway commits what it finds open": Mistake(commits_what_it_finds_open, 1),
    "the gateway counts anybody's vote": Mistake(counts_any_vote, 1, "lies in the middle of it"),
    "what is given up unheard of leaves no trace": Mistake(leaves_no_tombstone, 2),
    "the payee's bank votes before it holds": Mistake(votes_before_it_holds, 1),
    "the payer's bank submits before it holds": Mistake(submits_before_it_holds, 1),
    "the payee's bank commits by itself": Mistake(lambda patch: _ends_by_itself(patch, Incoming, is_commit=True), 1),
    "the payee's bank gives up by itself": Mistake(lambda patch: _ends_by_itself(patch, Incoming, is_commit=False), 1),
    "the payer's bank gives up by itself": Mistake(lambda patch: _ends_by_itself(patch, Outgoing, is_commit=False), 1),
    "a bank does not look for what it left open": Mistake(does_not_look_for_what_is_open, 1, "the gateway goes away"),
    "nobody repeats what is not answered": Mistake(nobody_repeats, 1),
    "the next attempt does not wait for the end of the last": Mistake(does_not_wait_for_the_end, 1),
    "the next attempt takes the same id": Mistake(takes_the_same_id_again, 1),
    "a refusal is tried again": Mistake(takes_no_refusal_for_an_answer, 0, "the payee's account is closed"),
    "an error is taken for a refusal": Mistake(takes_an_error_for_a_refusal, 1),
    "the customer is answered before it is posted": Mistake(answers_before_it_is_posted, 0),
    "the customer is told a guess": Mistake(guesses_in_the_end, 1),
}
