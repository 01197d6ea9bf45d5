"""What the fault tests send, what came back, and what the books must therefore be: a model of the bank in a dictionary.

An order is known (acknowledged or refused by the bank) or unknown (its answer never came). Once every order is known,
the balance of every account is known too, without asking the bank.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from fortress.client.ids import new_id
from fortress.errors import OK, REFUSED_CODE_BASE, Status
from fortress.protocol.fields import Request
from fortress.protocol.money import Hold, Post, Transfer, TransferRow, Transfers, Void
from tests.e2e.node import CURRENCY

BATCH_ROWS = 20
TOO_MUCH_MINOR = 10**15
NOBODYS_ACCOUNT = 1
HOLD_US = 30 * 86_400 * 1_000_000
UNKNOWN = -1


@dataclass(slots=True, eq=False)
class Order:
    """One request and its fate.

    Attributes:
        operation: of the protocol.
        fields: of the request; a repeat sends the very same.
        code: the answer's code; UNKNOWN as long as none came.
        answer: the fields of an answer that is no error.
        tries: how often it was sent.
        hold: the order that placed the hold which this one posts or voids.
    """

    operation: str
    fields: Request
    code: int = UNKNOWN
    answer: Any = None
    tries: int = 0
    hold: Order | None = None

    @property
    def ids(self) -> list[bytes]:
        """The ids of what it does: one, or one for each row."""
        fields: Any = self.fields
        return [row.id for row in fields.rows] if self.operation == "transfers" else [fields.id]

    @property
    def is_done(self) -> bool:
        """Whether the bank acknowledged it."""
        return self.code == OK

    @property
    def is_refused(self) -> bool:
        """Whether the bank's rules refused it, for good."""
        return REFUSED_CODE_BASE < self.code < 2 * REFUSED_CODE_BASE


class Customer:
    """Makes orders of one client at random: mostly transfers, some batches, holds, and what must be refused.

    Args:
        own: accounts it may take from.
        all: accounts it may pay to.
        chance: decides.
    """

    def __init__(self, own: list[int], all: list[int], chance: random.Random) -> None:
        self._own, self._all, self._chance = own, all, chance
        self._held: list[Order] = []

    def next_order(self) -> Order:
        """Make the next order."""
        dice = self._chance.random()
        if dice < 0.70:
            return self._transfer()
        if dice < 0.78:
            return self._refused()
        if dice < 0.82:
            return self._batch()
        if dice < 0.91 or not self._held:
            return self._hold()
        return self._end_hold()

    def note(self, order: Order) -> None:
        """Learn of an order that was acknowledged: a hold can be posted or voided from now on."""
        if order.operation == "hold" and order.is_done:
            self._held.append(order)

    def _parties(self) -> tuple[int, int]:
        debit = self._chance.choice(self._own)
        while (credit := self._chance.choice(self._all)) == debit:
            continue
        return debit, credit

    def _amount(self) -> int:
        return self._chance.randint(1, 100)

    def _transfer(self) -> Order:
        return Order("transfer", Transfer(new_id(), *self._parties(), self._amount(), CURRENCY, "load"))

    def _refused(self) -> Order:
        debit, credit = self._parties()
        kind = self._chance.randrange(3)
        if kind == 0:
            return Order("transfer", Transfer(new_id(), debit, credit, TOO_MUCH_MINOR, CURRENCY))
        if kind == 1:
            return Order("transfer", Transfer(new_id(), debit, NOBODYS_ACCOUNT, self._amount(), CURRENCY))
        return Order("hold", Hold(new_id(), debit, debit, self._amount(), CURRENCY, _hold_end_us()))

    def _batch(self) -> Order:
        rows = [TransferRow(new_id(), *self._parties(), self._amount()) for _ in range(BATCH_ROWS)]
        if self._chance.random() < 0.5:
            rows[self._chance.randrange(BATCH_ROWS)] = TransferRow(new_id(), *self._parties(), TOO_MUCH_MINOR)
        return Order("transfers", Transfers(CURRENCY, rows, self._chance.random() < 0.5))

    def _hold(self) -> Order:
        debit, credit = self._chance.sample(self._own, 2)
        return Order("hold", Hold(new_id(), debit, credit, self._amount(), CURRENCY, _hold_end_us()))

    def _end_hold(self) -> Order:
        hold = self._held.pop(self._chance.randrange(len(self._held)))
        placed: Any = hold.fields
        if self._chance.random() < 0.5:
            return Order("void", Void(placed.id), hold=hold)
        part = self._chance.choice((0, placed.amount_minor, max(1, placed.amount_minor // 2)))
        return Order("post", Post(placed.id, part), hold=hold)


def _hold_end_us() -> int:
    return time.time_ns() // 1000 + HOLD_US


@dataclass(slots=True)
class Expected:
    """What one account must show: its balance, what is held on it and what is on its way to it, in minor units."""

    balance: int
    held: int = 0
    incoming: int = 0


@dataclass(slots=True)
class Model:
    """The books as they follow from the orders that are known.

    Attributes:
        opening_minor: what every account began with.
        accounts: number -> what it must show.
        done: id -> (position, time) as acknowledged, of transfers and holds; a row of a batch has only its order's.
        refused: ids that must never be executed.
        counts: of everything, for the report.
    """

    opening_minor: int
    accounts: dict[int, Expected] = field(default_factory=dict)
    done: dict[bytes, tuple[int, int] | None] = field(default_factory=dict)
    posts: dict[bytes, int] = field(default_factory=dict)
    voids: dict[bytes, int] = field(default_factory=dict)
    refused: set[bytes] = field(default_factory=set)
    counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def account(self, number: int) -> Expected:
        """Give what an account must show."""
        return self.accounts.setdefault(number, Expected(self.opening_minor))

    def note(self, order: Order) -> None:
        """Take over an order that has just become known."""
        fields: Any = order.fields
        if order.is_refused:
            self.counts["refused"] += 1
            if order.operation in ("transfer", "hold"):
                self.refused.add(fields.id)
        elif order.operation == "transfers":
            self._note_batch(order)
        else:
            self.counts["acknowledged"] += 1
            self.counts[f"{order.operation} done"] += 1
            getattr(self, f"_note_{order.operation}")(order)

    def _move(self, debit: int, credit: int, amount: int) -> None:
        self.account(debit).balance -= amount
        self.account(credit).balance += amount

    def _reserve(self, debit: int, credit: int, amount: int) -> None:
        self.account(debit).held += amount
        self.account(credit).incoming += amount

    def _note_transfer(self, order: Order) -> None:
        fields: Any = order.fields
        self.done[fields.id] = (order.answer.position, order.answer.time_us)
        self._move(fields.debit, fields.credit, fields.amount_minor)

    def _note_batch(self, order: Order) -> None:
        fields: Any = order.fields
        for row, status in zip(fields.rows, order.answer.statuses, strict=True):
            if status == Status.ok:
                self.counts["acknowledged"] += 1
                self.done[row.id] = None
                self._move(row.debit, row.credit, row.amount_minor)
            else:
                self.counts["refused"] += 1
                self.refused.add(row.id)

    def _note_hold(self, order: Order) -> None:
        fields: Any = order.fields
        self.done[fields.id] = (order.answer.position, order.answer.time_us)
        self._reserve(fields.debit, fields.credit, fields.amount_minor)

    def _note_post(self, order: Order) -> None:
        assert order.hold is not None
        fields: Any = order.fields
        placed: Any = order.hold.fields
        self.posts[placed.id] = order.answer.position
        self._reserve(placed.debit, placed.credit, -placed.amount_minor)
        self._move(placed.debit, placed.credit, fields.amount_minor or placed.amount_minor)

    def _note_void(self, order: Order) -> None:
        assert order.hold is not None
        placed: Any = order.hold.fields
        self.voids[placed.id] = order.answer.position
        self._reserve(placed.debit, placed.credit, -placed.amount_minor)
