"""Payments between banks: their steps in the order of time, doubts with what to do, the same id again, ends by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fortress.cli import payments
from fortress.cli.command import Call
from fortress.cli.payment import age_text, precise_text
from fortress.client.money import Money
from fortress.errors import OutcomeUnknown, PaymentUnfinished, Refused, Status
from tests.cli.conftest import ID, ID_TEXT, NUMBER, OTHER, FakeBank, order_of, payment_view

Tell = Callable[..., Any]


def test_a_payment_is_shown_with_its_steps_in_the_order_of_time(bank: FakeBank, tell: Tell) -> None:
    """At both banks and the gateway; what is not known is said as that."""
    code, out, _ = tell("payment", "show", ID_TEXT)
    assert code == 0 and ("payment", ID, True) in bank.calls
    lines = out.splitlines()
    assert f"a/{NUMBER}" in out and f"b/{OTHER}" in out and "12.50 EUR" in out and "Lunch" in out
    assert any("State" in line and "not known yet" in line for line in lines)
    assert any("Waits for" in line and "b" in line for line in lines)
    steps = [line.split()[2:4] for line in lines[-3:]]
    assert steps == [["a", "held"], ["gateway", "intended"], ["b", "prepared"]]
    assert ".012" in lines[-1] and "late" in lines[-2]


def test_a_payment_is_json_for_programs(bank: FakeBank, tell: Tell) -> None:
    """With everything that the bank said."""
    _, out, _ = tell("payment", "show", ID_TEXT, "--json")
    assert (out["state"], out["missing"], out["act"], out["gateway_sequence"]) == ("pending", ["b"], "wait", None)
    assert [step["step"] for step in out["steps"]] == ["held", "intended", "prepared"]
    assert out["steps"][0] == {
        "bank": "a",
        "step": "held",
        "time": "2023-11-14T22:13:20.000000Z",
        "position": 9,
        "reason": None,
    }


def test_payments_are_listed(bank: FakeBank, tell: Tell) -> None:
    """One's own, newest first."""
    code, out, _ = tell("payment", "list", "--limit", "7")
    assert code == 0 and bank.calls[-1] == ("payments", False, 7)
    assert "done" in out and ID_TEXT in out and "State" in out
    assert tell("payment", "list", "--json")[1][0]["id"] == ID_TEXT


def test_doubts_are_listed_with_age_and_what_to_do(bank: FakeBank, tell: Tell) -> None:
    """Who is missing, and the act that is safe."""
    code, out, _ = tell("payment", "list", "--in-doubt")
    assert code == 0 and bank.calls[-1] == ("payments", True, 50)
    heading, row = out.splitlines()
    assert "Age" in heading and "Safe to do" in heading
    assert "wait" in row and "12.50 EUR" in row and row.split()[0].endswith("d")


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0s"), (0, "0s"), (59, "59s"), (60, "1m"), (7199, "1h"), (86_400, "1d"), (200_000, "2d")]
)
def test_ages_are_short(seconds: int, text: str) -> None:
    """In the largest unit that fits."""
    assert age_text(seconds * 1_000_000) == text


def test_times_of_steps_have_milliseconds() -> None:
    """Steps follow each other within one second."""
    assert precise_text(1_700_000_000_123_456).endswith(".123")
    assert precise_text(0) == ""


def test_a_payment_is_tried_again_under_its_id(bank: FakeBank, tell: Tell) -> None:
    """With what the bank knows of it, and nothing typed anew."""
    code, out, err = tell("payment", "retry", ID_TEXT)
    assert code == 0
    assert bank.calls[-2:] == [("payment", ID, False), ("pay_order", order_of(reference="Lunch"), b"")]
    assert f"Sent 12.50 EUR to b/{OTHER}." in out and f"b/{OTHER}" in err


def test_a_doubt_that_stays_says_how_to_go_on(bank: FakeBank, tell: Tell) -> None:
    """Exit code 5; nothing paid for certain is exit code 4."""
    bank.refuse("pay_order", OutcomeUnknown())
    code, _, err = tell("payment", "retry", ID_TEXT)
    assert code == 5 and "the same id" in err
    bank.refuse("pay_order", PaymentUnfinished())
    assert tell("payment", "retry", ID_TEXT)[0] == 4
    bank.refuse("payment", Refused(Status.payment_unknown))
    assert tell("payment", "retry", ID_TEXT)[0] == 1


def test_anothers_payment_is_not_tried_again(bank: FakeBank, tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes from another bank is that bank's customer's."""

    async def from_elsewhere(id: bytes, *, everywhere: bool) -> Any:
        return payment_view(payer="b/4711", payee=f"a/{NUMBER}")

    monkeypatch.setattr(bank, "payment", from_elsewhere)
    code, _, err = tell("payment", "retry", ID_TEXT)
    assert code == 2 and "comes from b/4711" in err


def test_a_payment_is_ended_by_hand_by_two_people(bank: FakeBank, tell: Tell) -> None:
    """The bank's name is typed, and a second administrator told of."""
    bank.approval = ID
    code, out, _ = tell("payment", "resolve", ID_TEXT, "--abort", "--confirm", "a")
    assert code == 0 and bank.calls[-1] == ("resolve_payment", ID, "abort")
    assert "second administrator" in out and f"fortress approve {ID_TEXT}" in out
    bank.approval = b""
    out = tell("payment", "resolve", ID_TEXT, "--commit", "--confirm", "a")[1]
    assert bank.calls[-1] == ("resolve_payment", ID, "commit") and "is ended: commit" in out


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ((), "how it shall end"),
        (("--commit",), "needs to be confirmed"),
        (("--abort", "--confirm", "b"), "'b' was typed"),
    ],
)
def test_nothing_is_ended_by_mistake(bank: FakeBank, tell: Tell, options: tuple[str, ...], why: str) -> None:
    """Neither without a word for it nor without the right name."""
    code, _, err = tell("payment", "resolve", ID_TEXT, *options)
    assert code == 2 and why in err
    assert "resolve_payment" not in [call[0] for call in bank.calls]


# --- pay, to other banks ----------------------------------------------------------------------------------------------


def test_an_order_may_have_an_end(bank: FakeBank, tell: Tell) -> None:
    """As a time or as a span from now."""
    assert tell("pay", "b/ines", "1 EUR", "--not-after", "2031-01-01T00:00:00Z")[0] == 0
    assert bank.calls[-1][-1] == datetime(2031, 1, 1, tzinfo=UTC)
    assert tell("pay", "b/ines", "1 EUR", "--not-after", "2h")[0] == 0
    left = bank.calls[-1][-1] - datetime.now(UTC)
    assert timedelta(hours=1) < left <= timedelta(hours=2)
    for wrong in ("soon", "2y"):
        assert tell("pay", "b/ines", "1 EUR", "--not-after", wrong)[0] == 2


def test_who_is_paid_elsewhere_is_asked_for_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the name that the other bank answered; not within the bank, not with --yes, and not off a terminal."""
    asked: list[str] = []
    monkeypatch.setattr(payments.click, "confirm", lambda question, **_: asked.append(question))
    money = Money(1250, "EUR")
    for call, payee, yes in ((Call(), "4711", False), (Call(), "b/4711", True), (Call(ask=False), "b/4711", False)):
        payments.check_payee(call, payee, "Ines", money, yes=yes)
    assert asked == []
    payments.check_payee(Call(), "b/4711", "Ines", money, yes=False)
    payments.check_payee(Call(), "b/4711", "", money, yes=False)
    assert asked == ["Send 12.50 EUR to Ines, b/4711?", "Send 12.50 EUR to an unnamed person, b/4711?"]


def test_an_account_that_wants_signed_orders_is_told_how(bank: FakeBank, tell: Tell) -> None:
    """The hint names the option."""
    bank.refuse("pay", Refused(Status.order_signature_required))
    code, _, err = tell("pay", "bob", "1 EUR")
    assert code == 1 and "--sign" in err
