"""Customers of two banks who pay each other both ways, and never lose track of what they asked and were told."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.bank import CURRENCY, username_of
from fortress.client.ids import new_id
from fortress.client.link import Link
from fortress.errors import (
    BankUnreachable,
    FortressError,
    GatewayUnreachable,
    NotPrimary,
    PaymentUnfinished,
    Refused,
    RetryableError,
)
from fortress.ledger.model import account_number
from fortress.protocol.payments import Pay, PaymentAnswer
from tests.fault.clearing import BANKS, CAP_MINOR, OPENING_MINOR, Clearing

NOTHING_PAID: Final = (GatewayUnreachable, BankUnreachable, PaymentUnfinished)
NOBODY: Final = account_number(77_777)
AGAIN_S: Final = 0.05
TRY_S: Final = 8.0
LEAVE_SHARE: Final = 0.3
TWICE_SHARE: Final = 0.1
# share of payments -> amount and payee that are refused: beyond the payer's money, the bank's cap, to nobody
TOO_MUCH_SHARE, OVER_CAP_SHARE, NOBODY_SHARE = 0.02, 0.02, 0.04


@dataclass(slots=True, eq=False)
class Payment:
    """One payment, from its first sending to its definite answer.

    Attributes:
        outcome: ``done``, ``refused`` (for good), ``unfinished`` (told that nothing was paid, and left at that); empty
            before.
        answer: the first that said done.
        tries: how often it was sent.
        told: every answer, in short.
    """

    id: bytes
    bank: str
    debit: int
    payee: str
    amount: int
    outcome: str = ""
    answer: PaymentAnswer | None = None
    tries: int = 0
    told: list[str] = field(default_factory=list)

    def request(self) -> Pay:
        """Make the request, the same each time."""
        return Pay(self.id, self.payee, self.amount, CURRENCY, self.debit)


class Payer:
    """One customer at one bank, with one payment under way.

    Args:
        index: even ones are at the first bank.

    Attributes:
        payments: all that were ever made, in order.
        done_s: monotonic times of those told as done.
        wrong: answers that should not come.
    """

    def __init__(self, index: int, clearing: Clearing, chance: random.Random) -> None:
        self.bank, self.other = BANKS if index % 2 == 0 else BANKS[::-1]
        self.payments: list[Payment] = []
        self.done_s: list[float] = []
        self.wrong: list[str] = []
        self._clearing = clearing
        self._chance = chance
        self._debit = clearing.numbers[index // 2]
        self._link: Link | None = None
        self._at = 0
        self._is_loading = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._work())

    # --- its life ---------------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """Make payments from now on, one after the other."""
        self._is_idle.clear()
        self._is_loading.set()

    async def finish(self) -> None:
        """Make no more, and wait until the last one has its definite answer."""
        self._is_loading.clear()
        await self._is_idle.wait()

    async def leave(self) -> None:
        """End at once."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._hang_up()

    def raise_fault(self) -> None:
        """Raise what this payer has died of."""
        if self._task.done():
            self._task.result()

    async def _work(self) -> None:
        while True:
            if not self._is_loading.is_set():
                self._is_idle.set()
                await self._is_loading.wait()
            payment = self._next()
            self.payments.append(payment)
            while not payment.outcome:
                await self._try(payment)

    # --- payments ---------------------------------------------------------------------------------------------------
    def _next(self) -> Payment:
        drawn, amount, payee = self._chance.random(), self._chance.randint(1, 100), self._pick()
        if drawn < TOO_MUCH_SHARE:
            amount = 2 * OPENING_MINOR
        elif (drawn := drawn - TOO_MUCH_SHARE) < OVER_CAP_SHARE:
            amount = CAP_MINOR + OPENING_MINOR // 10
        elif drawn - OVER_CAP_SHARE < NOBODY_SHARE:
            payee = NOBODY
        return Payment(new_id(), self.bank, self._debit, f"{self.other}/{payee}", amount)

    def _pick(self) -> int:
        number: int = self._chance.choice(self._clearing.numbers)
        return number

    async def _try(self, payment: Payment) -> None:
        """Send it once, or twice at the same time; whatever is not definite is to be tried again."""
        link = await self._connected()
        if link is None:
            await asyncio.sleep(AGAIN_S)
            return
        times = 2 if self._chance.random() < TWICE_SHARE else 1
        payment.tries += times
        found = await asyncio.gather(*(self._ask(link, payment) for _ in range(times)), return_exceptions=True)
        for outcome in found:
            self._take(payment, outcome)
        if not payment.outcome:
            if not link.is_usable:
                self._hang_up()
            await asyncio.sleep(AGAIN_S)

    async def _ask(self, link: Link, payment: Payment) -> PaymentAnswer:
        answer: PaymentAnswer = await link.request("pay", payment.request(), TRY_S)
        return answer

    def _take(self, payment: Payment, outcome: Any) -> None:
        payment.told.append(str(outcome.code if isinstance(outcome, FortressError) else outcome))
        if isinstance(outcome, PaymentAnswer):
            self._done(payment, outcome)
        elif isinstance(outcome, Refused):
            if payment.outcome not in ("", "refused"):
                self._note_wrong(payment, outcome)
            payment.outcome = "refused"
        elif isinstance(outcome, NOTHING_PAID):
            # nobody else has sent it before, so nobody is left who could try again
            if payment.tries == 1 and self._chance.random() < LEAVE_SHARE:
                payment.outcome = "unfinished"
        elif isinstance(outcome, NotPrimary):
            self._hang_up()
            self._at += 1
        elif not isinstance(outcome, RetryableError):
            raise outcome

    def _done(self, payment: Payment, answer: PaymentAnswer) -> None:
        first = payment.answer
        if payment.outcome not in ("", "done"):
            self._note_wrong(payment, answer)
        elif first is not None and (answer.position, answer.gateway_sequence) != (
            first.position,
            first.gateway_sequence,
        ):
            self._note_wrong(payment, answer)
        payment.outcome, payment.answer = "done", first or answer
        self.done_s.append(time.monotonic())

    def _note_wrong(self, payment: Payment, what: object) -> None:
        self.wrong.append(f"{payment.id.hex()} was told {payment.told}, then {what}")

    # --- the connection ---------------------------------------------------------------------------------------------
    async def _connected(self) -> Link | None:
        if self._link is None or not self._link.is_usable:
            self._hang_up()
            nodes = self._clearing.nodes[self.bank]
            try:
                self._link = await nodes[self._at % len(nodes)].link(username_of(0), timeout_s=TRY_S)
            except (FortressError, OSError):
                self._at += 1
                return None
        return self._link

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link.abort()
            self._link = None


def outage_s(payers: Sequence[Payer], at_s: float) -> float:
    """Tell for how long nobody was told that a payment is done, around a moment."""
    before = max((t for payer in payers for t in payer.done_s if t <= at_s), default=at_s)
    after = min((t for payer in payers for t in payer.done_s if t > at_s), default=before)
    return after - before
