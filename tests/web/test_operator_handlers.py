"""What a gateway's operators do by their pages: each asks for its operation, and shows what was answered."""

from __future__ import annotations

from typing import Any

import pytest

from fortress.client.calls import Calls
from fortress.client.me import Me
from fortress.errors import FortressError, GatewayUnreachable, MessageInvalid
from fortress.protocol.fields import Done, Request
from fortress.protocol.payments import PaymentsAnswer, PaymentStep, PaymentView, ResolvePayment
from fortress.protocol.switching import (
    AddBank,
    CloseWindow,
    GetWindow,
    PositionsAnswer,
    PositionView,
    SuspendBank,
    WindowRow,
    WindowsAnswer,
    WindowView,
)
from fortress.web.operator_handlers import HANDLERS
from tests.web.staff import ask, context_of

ID, OTHER = bytes(range(16)), bytes(16)
TIME_US = 1_700_000_000_000_000
VIEW = PaymentView(ID, "pending", "a/1", "b/2", 1250, "EUR", since_us=TIME_US, missing=["b"], act="commit")
WINDOW = WindowView(3, 10, 20, TIME_US, [WindowRow("a", "EUR", 2, 500, 300, -200, bytes(32), "no", ID.hex())])


class Noted(Calls):
    """Answers at once, and keeps what was asked."""

    def __init__(self, answer: object) -> None:
        self.bank = "gateway"
        self.asked: list[Request] = []
        self.answer = answer

    async def call(self, operation: str, fields: Request, *, deadline_s: float | None = None) -> Any:
        self.asked.append(fields)
        if isinstance(self.answer, FortressError):
            raise self.answer
        return self.answer


async def tell(name: str, answer: object, **given: Any) -> tuple[Any, list[Request]]:
    calls = Noted(answer)
    return await ask(HANDLERS[name], name, Me(calls), context_of("gateway"), **given), calls.asked


async def test_payments_in_doubt_are_listed() -> None:
    """With who must still act, and what an operator may do."""
    view = PaymentView(**{**_fields(VIEW), "steps": [PaymentStep("a", "held", TIME_US, 7)]})
    found, _ = await tell("doubts", PaymentsAnswer([view]))
    (payment,) = found.payments
    assert (payment.id, payment.amount, payment.missing, payment.act) == (ID.hex(), "1250", ["b"], "commit")
    assert (payment.steps[0].step, payment.steps[0].position) == ("held", 7)


def _fields(view: PaymentView) -> dict[str, Any]:
    return {name: getattr(view, name) for name in view.__struct_fields__}


async def test_a_bank_without_gateway_has_no_doubts() -> None:
    """Since it pays only within itself."""
    found, _ = await tell("doubts", GatewayUnreachable("this bank has no gateway", {"has_gateway": False}))
    assert found.payments == []
    with pytest.raises(GatewayUnreachable):
        await tell("doubts", GatewayUnreachable("the gateway does not answer"))


ACTS = [
    ("resolve_payment", {"path": {"id": ID.hex()}, "body": {"act": "abort"}}, ResolvePayment(OTHER, ID, "abort")),
    ("suspend_bank", {"path": {"bank": "b"}, "body": {"resume": True}}, SuspendBank(OTHER, "b", True)),
    ("add_bank", {"body": {"bank": "b", "currency": "EUR", "cap": "0"}}, AddBank(OTHER, "b", "EUR", 0)),
    (
        "add_bank",
        {"body": {"bank": "b", "currency": "EUR", "cap": "5", "authority": "PEM é"}},
        AddBank(OTHER, "b", "EUR", 5, "PEM \ufffd\ufffd"),
    ),
    ("close_window", {"body": {}}, CloseWindow(OTHER)),
]


@pytest.mark.parametrize(("name", "given", "request_"), ACTS)
async def test_each_act_is_asked_for_with_its_id(name: str, given: dict[str, Any], request_: Request) -> None:
    """So that the same click twice is done once; what waits for another administrator says so."""
    given = {**given, "body": {**given["body"], "id": OTHER.hex()}}
    done, asked = await tell(name, Done(0, approval=ID), **given)
    assert asked == [request_] and done.approval == ID.hex()


async def test_a_cap_that_is_too_large_is_refused_here() -> None:
    """By the name of its field."""
    body = {"id": OTHER.hex(), "bank": "b", "currency": "EUR", "cap": "9999999999999999999"}
    with pytest.raises(MessageInvalid) as refused:
        await tell("add_bank", Done(), body=body)
    assert refused.value.facts == {"field": "cap"}


async def test_positions_are_shown() -> None:
    """Below zero the bank owes."""
    found, _ = await tell("positions", PositionsAnswer([PositionView("a", "EUR", 1018, -500, 20, 10_000)], 9))
    (row,) = found.positions
    assert (row.bank, row.position, row.reserved, row.cap, found.position) == ("a", "-500", "20", "10000", 9)


async def test_windows_are_listed_and_reported() -> None:
    """With what each bank paid and was paid, and whether its books agree."""
    found, _ = await tell("windows", WindowsAnswer([WindowView(0, 20, 25), WINDOW]))
    assert [(window.number, window.closed is None) for window in found.windows] == [(0, True), (3, False)]
    window, asked = await tell("window", WINDOW, path={"number": "3"})
    assert asked == [GetWindow(3)]
    (row,) = window.rows
    assert (row.paid, row.received, row.net, row.agrees, row.differs) == ("500", "300", "-200", "no", ID.hex())
