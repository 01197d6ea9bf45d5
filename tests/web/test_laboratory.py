"""The laboratory's page: what the demo's processes do, and the newest payment between banks, found in the books."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fortress.client.calls import Calls
from fortress.client.me import Me
from fortress.errors import FortressError, Refused, Status, Unreachable
from fortress.protocol.accounts import AccountsAnswer, AccountView
from fortress.protocol.fields import Request
from fortress.protocol.payments import GetPayment, PaymentStep, PaymentView
from fortress.protocol.reading import HistoryAnswer, HistoryRow
from fortress.web import administration as admin
from fortress.web import laboratory as laboratories
from fortress.web.call import NotFound
from fortress.web.laboratory import HANDLERS
from tests.web.staff import ask, context_of

OLD, NEW, ATTEMPT = bytes(16), bytes(range(16)), bytes([7] * 16)
STEP = PaymentStep("a", "held", 1_700_000_000_000_000, 4)
NODES = [admin.LabNode("a-1", "a", "running", None)]


def account(number: int, kind: str) -> AccountView:
    sums = (0, 0, 0, 0, 0, 0)
    limits = (None,) * 6
    return AccountView(number, "", kind, "EUR", "open", *sums, *limits, False, 0, 1, 1)


def row(position: int, id: bytes) -> HistoryRow:
    return HistoryRow(position, 1, id, "hold", 100, None, 1, "")


def view(id: bytes, *steps: PaymentStep) -> PaymentView:
    return PaymentView(id, "pending", "a/1", "b/2", 100, "EUR", steps=list(steps))


class Books(Calls):
    """A bank's books with two payments; the newest one took a second attempt."""

    def __init__(self) -> None:
        self.bank = "a"
        self.position = 0
        self.is_gone = False
        self.asked: list[str] = []
        self.error: FortressError | None = None
        self.hangs = ""

    async def read(self, operation: str, fields: Request) -> Any:
        return await self.call(operation, fields)

    async def call(self, operation: str, fields: Request, *, deadline_s: float | None = None) -> Any:
        self.asked.append(operation)
        if self.error is not None:
            raise self.error
        if operation == "list_accounts":
            return AccountsAnswer([account(1, "customer"), account(2, "settlement")])
        if operation == "history":
            return HistoryAnswer([row(9, ATTEMPT), row(8, NEW), row(7, NEW), row(2, OLD)], 0, 9)
        assert isinstance(fields, GetPayment)
        if fields.id == ATTEMPT:
            raise Refused(Status.payment_unknown)
        if fields.everywhere and self.hangs:
            await asyncio.Event().wait()
        return view(fields.id, STEP, *([PaymentStep("gateway", "decided", 1, 5)] if fields.everywhere else []))


class Someone(Me):
    """A session at those books."""

    def __init__(self, books: Books) -> None:
        super().__init__(books)
        self.books = books

    @property
    def is_connected(self) -> bool:
        return not self.books.is_gone


class Shown:
    """A laboratory with one process."""

    def __init__(self) -> None:
        self.acts: list[tuple[str, str]] = []
        self.is_closed = False

    async def view(self) -> admin.LabView:
        return admin.LabView(NODES, None, ["something happened"])

    async def act(self, name: str, act: str) -> None:
        self.acts.append((name, act))

    async def close(self) -> None:
        self.is_closed = True


async def look(books: Books, context: Any) -> admin.LabView:
    found: admin.LabView = await ask(HANDLERS["lab"], "lab", Someone(books), context)
    return found


async def test_the_newest_payment_is_shown_with_its_steps_everywhere() -> None:
    """Of the rows of the settlement accounts, that of the newest id which is a payment's."""
    context = context_of("a", laboratory=Shown())
    found = await look(Books(), context)
    assert [node.name for node in found.nodes] == ["a-1"] and found.log == ["something happened"]
    assert found.payment is not None and found.payment.id == NEW.hex()
    assert {step.bank for step in found.payment.steps} == {"a", "gateway"}


async def test_the_accounts_are_looked_for_once() -> None:
    """Then each look is the history and the payment."""
    context, books = context_of("a", laboratory=Shown()), Books()
    await look(books, context)
    await look(books, context)
    assert books.asked.count("list_accounts") == 1


async def test_a_side_that_hangs_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this bank knows is shown; a bank that does not answer shows what was found last."""
    monkeypatch.setattr(laboratories, "LOOK_S_MAX", 0.05)
    context, books = context_of("a", laboratory=Shown()), Books()
    books.hangs = "gateway"
    found = await look(books, context)
    assert found.payment is not None and [step.bank for step in found.payment.steps] == ["a"]
    books.error = Unreachable()
    assert (await look(books, context)).payment == found.payment
    books.is_gone, asked = True, len(books.asked)
    assert (await look(books, context)).payment == found.payment and len(books.asked) == asked


async def test_a_bank_without_payments_shows_none() -> None:
    """Nor one that has not answered yet."""
    books = Books()
    books.error = Unreachable()
    assert (await look(books, context_of("a", laboratory=Shown()))).payment is None


async def test_a_process_is_hit_as_the_port_says() -> None:
    """Where there is one; elsewhere there is nothing to hit."""
    shown = Shown()
    given: dict[str, Any] = {"path": {"name": "a-1"}, "body": {"act": "kill"}}
    context = context_of("a", laboratory=shown)
    await ask(HANDLERS["lab_act"], "lab_act", Someone(Books()), context, **given)
    assert shown.acts == [("a-1", "kill")]
    with pytest.raises(NotFound):
        await ask(HANDLERS["lab_act"], "lab_act", Someone(Books()), context_of("a"), **given)
    await context.close()
    assert shown.is_closed
