"""Tests of the acts of a gateway's operators: each asks for its operation with what it was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fortress.client.calls import Calls
from fortress.client.me import Me
from fortress.client.money import Money
from fortress.client.switching import Switching
from fortress.errors import UnknownOperation, UsageError
from fortress.protocol.fields import Done, Request
from fortress.protocol.payments import ResolvePayment
from fortress.protocol.switching import (
    AddBank,
    CloseWindow,
    GetWindow,
    ListPositions,
    ListWindows,
    PositionsAnswer,
    SuspendBank,
    WindowsAnswer,
    WindowView,
)
from tests.client.fake_bank import FakeNode

ID = bytes(16)


@pytest.mark.parametrize(
    ("name", "arguments", "operation"),
    [
        ("add_bank", {"bank": "b", "cap": Money(0, "EUR")}, "add_bank"),
        ("suspend_bank", {"bank": "b"}, "suspend_bank"),
        ("positions", {}, "positions"),
        ("windows", {"limit": 5}, "windows"),
        ("window", {"number": 3}, "window"),
        ("close_window", {}, "close_window"),
        ("resolve_payment", {"payment": ID, "act": "abort"}, "resolve_payment"),
    ],
)
async def test_each_act_is_asked_for(
    alice: Me, node: FakeNode, name: str, arguments: dict[str, Any], operation: str
) -> None:
    """The request is valid: the small bank of the tests decodes it before it says that it cannot do it."""
    with pytest.raises(UnknownOperation, match=operation):
        await getattr(alice.switching, name)(**arguments)
    assert node.asked[-1] == operation
    assert [bank.bank for bank in await alice.switching.banks()] == ["b"]


class Noted(Calls):
    """Answers at once, and keeps what was asked."""

    def __init__(self, answer: object) -> None:
        self.asked: list[Request] = []
        self.answer = answer

    async def call(self, operation: str, fields: Request, *, deadline_s: float | None = None) -> Any:
        self.asked.append(fields)
        return self.answer


async def test_acts_carry_what_was_given() -> None:
    """A new id unless one is brought, the certificate's text, the payment and what shall become of it."""
    calls = Noted(Done(7, approval=ID))
    switching = Switching(calls)
    done = await switching.add_bank("b", Money(500, "EUR"), authority=b"PEM", id=ID)
    assert (done.position, done.approval) == (7, ID)
    await switching.suspend_bank("b", resume=True, id=ID)
    await switching.close_window(id=ID)
    await switching.resolve_payment(ID, "commit", id=ID)
    resolve = ResolvePayment(ID, ID, "commit")
    assert calls.asked == [AddBank(ID, "b", "EUR", 500, "PEM"), SuspendBank(ID, "b", True), CloseWindow(ID), resolve]
    await switching.close_window()
    assert calls.asked[-1] != CloseWindow(ID)


async def test_the_authority_of_a_bank_is_read_from_its_file(tmp_path: Path) -> None:
    """A file that is not there is told before anything is sent."""
    calls = Noted(Done())
    file = tmp_path / "ca.crt"
    file.write_text("a certificate")
    await Switching(calls).add_bank("b", Money(0, "EUR"), authority=file, id=ID)
    assert calls.asked == [AddBank(ID, "b", "EUR", 0, "a certificate")]
    with pytest.raises(UsageError, match="cannot be read"):
        await Switching(calls).add_bank("b", Money(0, "EUR"), authority=str(tmp_path / "no.crt"))
    assert len(calls.asked) == 1


@pytest.mark.parametrize(
    ("name", "answer", "request_", "found"),
    [
        ("positions", PositionsAnswer([], 4), ListPositions(), PositionsAnswer([], 4)),
        ("windows", WindowsAnswer([WindowView(0, 4, 9)]), ListWindows(20), [WindowView(0, 4, 9)]),
        ("window", WindowView(0, 4, 9), GetWindow(0), WindowView(0, 4, 9)),
    ],
)
async def test_what_is_read_is_given_as_it_came(name: str, answer: object, request_: Request, found: object) -> None:
    """Positions, and windows by number."""
    calls = Noted(answer)
    assert await getattr(Switching(calls), name)() == found
    assert calls.asked == [request_]
