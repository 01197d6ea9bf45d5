"""Tests of the messages of a gateway's operators: names of banks, caps, windows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fortress.errors import MessageInvalid
from fortress.protocol import messages
from fortress.protocol.switching import (
    AddBank,
    BanksAnswer,
    BankView,
    CloseWindow,
    GetWindow,
    ListWindows,
    PositionsAnswer,
    PositionView,
    SuspendBank,
    WindowRow,
    WindowsAnswer,
    WindowView,
)

ID = bytes(range(16))
ADD: dict[str, Any] = {"id": ID, "bank": "bank-b", "currency": "EUR", "cap_minor": 0}
ROW = WindowRow("bank-b", "EUR", 2, 5, 7, 2, bytes(32), "no", "00ff")


def decode(operation: str, fields: object) -> object:
    data = msgspec.msgpack.encode([1, operation, fields])
    return messages.decode_request(messages.decode_envelope(data))


def test_a_bank_is_added_with_a_cap_and_its_authority() -> None:
    """The cap may be nothing: such a bank can only be paid; the authority is known the second time."""
    assert decode("add_bank", ADD) == AddBank(ID, "bank-b", "EUR", 0, "")
    assert decode("add_bank", {**ADD, "authority": "x" * 16_384})


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("bank", ""),
        ("bank", "Bank"),
        ("bank", "1bank"),
        ("bank", "b/c"),
        ("bank", "bank-b\n"),
        ("bank", "b" * 33),
        ("cap_minor", -1),
        ("cap_minor", 2**63),
        ("currency", "E"),
        ("authority", "x" * 16_385),
    ],
)
def test_a_bank_with_a_field_out_of_range_is_not_added(field: str, bad: object) -> None:
    """The field is named."""
    with pytest.raises(MessageInvalid) as caught:
        decode("add_bank", {**ADD, field: bad})
    assert caught.value.facts["field"] == field


@pytest.mark.parametrize("field", ADD)
def test_adding_a_bank_needs_each_of_these(field: str) -> None:
    """A cap above all has no default."""
    with pytest.raises(MessageInvalid, match=f"missing required field `{field}`"):
        decode("add_bank", {name: value for name, value in ADD.items() if name != field})


def test_operators_ask_for_what_is_open_and_newest_by_default() -> None:
    """The open window, a screenful of closed ones, a bank to be stopped."""
    assert decode("window", {}) == GetWindow(0)
    assert decode("windows", {}) == ListWindows(20)
    assert decode("close_window", {"id": ID}) == CloseWindow(ID)
    assert decode("suspend_bank", {"id": ID, "bank": "b"}) == SuspendBank(ID, "b", resume=False)
    for operation in ("banks", "positions"):
        assert decode(operation, {}) is not None


@pytest.mark.parametrize(
    "answer",
    [
        BanksAnswer(
            [BankView("bank-b", "active", True, "node-1", 3, ["h:1", "h:2"], 7), BankView("c", "suspended", False)]
        ),
        PositionsAnswer([PositionView("bank-b", "EUR", 4711, -5, 2, 1_000)], 9),
        WindowsAnswer([WindowView(0, 5, 9), WindowView(1, 0, 5, 77, [ROW])]),
    ],
)
def test_an_answer_arrives_as_it_was_given(answer: Any) -> None:
    """With all that stands in it, and what a later version may add passed over."""
    data = msgspec.to_builtins(answer, builtin_types=(bytes,))
    later = msgspec.msgpack.encode({**data, "of_later": 1})
    assert msgspec.msgpack.decode(later, type=type(answer)) == answer
