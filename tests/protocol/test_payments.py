"""Tests of the messages of payments between banks: payees, amounts, until when, defaults."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fortress.errors import MessageInvalid
from fortress.protocol import messages
from fortress.protocol.payments import (
    GetPayment,
    ListPayments,
    Pay,
    PaymentAnswer,
    PaymentsAnswer,
    PaymentStep,
    PaymentView,
)

ID = bytes(range(16))
PAY: dict[str, Any] = {"id": ID, "payee": "bank-b/1000101", "amount_minor": 5, "currency": "EUR"}
VIEW = PaymentView(ID, "pending", "a/1", "b/2", 5, "EUR", missing=["b"], steps=[PaymentStep("a", "held", 7, 3)])


def decode(operation: str, fields: object) -> object:
    data = msgspec.msgpack.encode([1, operation, fields])
    return messages.decode_request(messages.decode_envelope(data))


def test_a_payment_needs_no_more_than_who_and_how_much() -> None:
    """The payer's default account pays, and the order is good for ever."""
    assert decode("pay", PAY) == Pay(ID, "bank-b/1000101", 5, "EUR", 0, "", 0, b"")


@pytest.mark.parametrize("field", PAY)
def test_a_payment_needs_each_of_these(field: str) -> None:
    """Nothing about money has a default."""
    with pytest.raises(MessageInvalid, match=f"missing required field `{field}`"):
        decode("pay", {name: value for name, value in PAY.items() if name != field})


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("id", bytes(15)),
        ("payee", "1000101"),
        ("payee", "bank-b/ines"),
        ("payee", "bank-b/0"),
        ("payee", "bank-b/1000101\n"),
        ("payee", "Bank/1000101"),
        ("payee", "a" * 33 + "/1000101"),
        ("amount_minor", 0),
        ("amount_minor", -5),
        ("amount_minor", 2**63),
        ("currency", "EURO"),
        ("debit", -1),
        ("reference", "a\nb"),
        ("reference", "x" * 141),
        ("not_after_us", -1),
        ("order_signature", bytes(65)),
    ],
)
def test_a_payment_with_a_field_out_of_range_is_refused(field: str, bad: object) -> None:
    """The field is named."""
    with pytest.raises(MessageInvalid) as caught:
        decode("pay", {**PAY, field: bad})
    assert caught.value.facts["field"] == field


def test_questions_about_payments_are_modest_by_default() -> None:
    """One's own, here, a page at a time."""
    assert decode("payment", {"id": ID}) == GetPayment(ID, everywhere=False)
    assert decode("payments", {}) == ListPayments(in_doubt=False, cursor=0, limit=100)


@pytest.mark.parametrize("act", ["commit", "abort"])
def test_a_payment_is_ended_by_hand_one_way_or_the_other(act: str) -> None:
    """There is no third."""
    assert decode("resolve_payment", {"id": ID, "payment": ID, "act": act})
    for other in ("", "void", f"{act}\n"):
        with pytest.raises(MessageInvalid):
            decode("resolve_payment", {"id": ID, "payment": ID, "act": other})


@pytest.mark.parametrize("answer", [PaymentAnswer(1, 2, -3, 4, replayed=True), PaymentsAnswer([VIEW], 9), VIEW])
def test_an_answer_arrives_as_it_was_given(answer: Any) -> None:
    """With all that stands in it, and what a later version may add passed over."""
    data = msgspec.to_builtins(answer, builtin_types=(bytes,))
    later = msgspec.msgpack.encode({**data, "of_later": 1})
    assert msgspec.msgpack.decode(later, type=type(answer)) == answer
