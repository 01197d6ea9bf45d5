"""Tests of the messages that move money: references, dates, defaults."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fortress.errors import MessageInvalid
from fortress.protocol import messages
from fortress.protocol.money import Post, Reverse, TransferRow, Transfers

ID = bytes(16)
MOVE: dict[str, Any] = {"id": ID, "amount_minor": 1, "currency": "EUR"}
BETWEEN = {**MOVE, "debit": 1, "credit": 2}
ORDERS: dict[str, dict[str, Any]] = {
    "deposit": {**MOVE, "account": 1},
    "withdraw": {**MOVE, "account": 1},
    "transfer": BETWEEN,
    "hold": {**BETWEEN, "expires_us": 5},
    "reverse": {"id": ID, "original": ID},
}


def decode(operation: str, fields: object) -> object:
    data = msgspec.msgpack.encode([1, operation, fields])
    return messages.decode_request(messages.decode_envelope(data))


@pytest.mark.parametrize("operation", ORDERS)
@pytest.mark.parametrize("reference", ["a\nb", "\x1b[31m", "x" * 141, "\u202e"])
def test_a_reference_without_controls_is_wanted(operation: str, reference: str) -> None:
    """Whatever carries a reference refuses controls and overlong text, and names the field."""
    assert decode(operation, {**ORDERS[operation], "reference": "x" * 140})
    with pytest.raises(MessageInvalid) as caught:
        decode(operation, {**ORDERS[operation], "reference": reference})
    assert caught.value.facts["field"] == "reference"


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("id", bytes(17)),
        ("debit", 0),
        ("credit", -5),
        ("amount_minor", 0),
        ("amount_minor", 2**63),
        ("currency", "EU"),
        ("value_date", "tomorrow"),
        ("order_signature", bytes(65)),
    ],
)
def test_a_transfer_with_a_field_out_of_range_is_refused(field: str, bad: object) -> None:
    """The field is named."""
    with pytest.raises(MessageInvalid) as caught:
        decode("transfer", {**BETWEEN, field: bad})
    assert caught.value.facts["field"] == field


@pytest.mark.parametrize("field", ["id", "debit", "credit", "amount_minor", "currency"])
def test_a_transfer_needs_each_of_its_fields(field: str) -> None:
    """Nothing about money has a default."""
    with pytest.raises(MessageInvalid, match=f"missing required field `{field}`"):
        decode("transfer", {name: value for name, value in BETWEEN.items() if name != field})


def test_whole_is_the_default_of_posting_and_reversing() -> None:
    """An amount of 0 stands for all of it."""
    assert decode("post", {"id": ID}) == Post(ID, 0)
    assert decode("reverse", {"id": ID, "original": ID}) == Reverse(ID, ID, 0)


def test_rows_of_a_batch_are_arrays() -> None:
    """A row is an array, which may leave out its reference."""
    request = decode("transfers", {"currency": "EUR", "rows": [[ID, 1, 2, 3]]})
    assert request == Transfers("EUR", [TransferRow(ID, 1, 2, 3)])
