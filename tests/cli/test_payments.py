"""Money that moves: shown with its id, safe to repeat, refused with what is available."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fortress.errors import OutcomeUnknown, Refused, Status
from tests.cli.conftest import ID_TEXT, OTHER, FakeBank

Tell = Callable[..., Any]


def test_a_payment_is_sent_and_shown(bank: FakeBank, tell: Tell) -> None:
    """The payee's name is answered back, the id stands beside what is left."""
    code, out, err = tell("pay", "bob", "12.50", "EUR", "--reference", "Lunch", "--id", ID_TEXT)
    assert code == 0
    assert bank.calls[-1] == ("pay", str(OTHER), "12.50 EUR", "Lunch", None)
    assert "Sent 12.50 EUR to Bob." in out and ID_TEXT in out and "87.50 EUR" in out
    assert "Bob" in err


def test_a_payee_of_another_bank_is_paid_there(bank: FakeBank, tell: Tell) -> None:
    """By the number that was answered back, at that bank and no other: the own bank may have the same number."""
    code, out, err = tell("pay", "b/ines", "12.50 EUR")
    assert code == 0 and f"account b/{OTHER}" in err
    assert ("resolve", "b/ines", "EUR") in bank.calls
    assert bank.calls[-1][:2] == ("pay", f"b/{OTHER}")
    assert tell("pay", "b/ines", "1 EUR", "--json")[1]["account"] == f"b/{OTHER}"


def test_a_payment_is_json_for_programs(bank: FakeBank, tell: Tell) -> None:
    """Amounts with their minor units as text, the time in UTC."""
    _, out, _ = tell("pay", "bob", "12.50 EUR", "--id", ID_TEXT, "--json")
    assert out == {
        "id": ID_TEXT,
        "status": "done",
        "account": str(OTHER),
        "amount": {"amount": "12.50", "currency": "EUR", "minor": "1250"},
        "balance_after": {"amount": "87.50", "currency": "EUR", "minor": "8750"},
        "time": "2026-03-31T00:00:00.000000Z",
        "position": 8,
        "replayed": False,
        "gateway_sequence": None,
    }


def test_a_repeat_says_that_it_is_one(bank: FakeBank, tell: Tell) -> None:
    """Nobody thinks that it was paid twice."""
    bank.replayed = True
    assert "first answer" in tell("pay", "bob", "12.50", "--id", ID_TEXT)[1]


def test_without_a_currency_the_accounts_is_meant(bank: FakeBank, tell: Tell) -> None:
    """A bare number is in what one has."""
    tell("pay", "bob", "3", "--from", "17")
    assert bank.calls[-1] == ("pay", str(OTHER), "3.00 EUR", "", 17)


def test_a_dry_run_sends_nothing(bank: FakeBank, tell: Tell) -> None:
    """It tells whether there is enough."""
    code, out, _ = tell("pay", "bob", "95 EUR", "--dry-run", "--json")
    assert code == 0 and out["dry_run"] is True and out["covered"] is False
    assert "pay" not in [call[0] for call in bank.calls]
    assert "Covered    yes" in tell("pay", "bob", "90 EUR", "--dry-run", "--from", "17")[1]


def test_a_refusal_says_what_is_available(bank: FakeBank, tell: Tell) -> None:
    """With its currency, exit code 1."""
    bank.refuse("pay", Refused(Status.exceeds_available, {"available_minor": 9000, "needed_minor": 100000}))
    code, out, err = tell("pay", "bob", "1000 EUR")
    assert (code, out) == (1, "")
    assert "available 90.00 EUR, needed 1000.00 EUR" in err and "FT-1016" in err


def test_an_unknown_outcome_prints_the_id_to_repeat_with(bank: FakeBank, tell: Tell) -> None:
    """Exit code 5, and the very words to add."""
    bank.refuse("deposit", OutcomeUnknown())
    code, _, err = tell("deposit", "alice", "5 EUR", "--id", ID_TEXT)
    assert code == 5
    assert f"--id {ID_TEXT}" in err.splitlines()[-1]


@pytest.mark.parametrize("amount", ["0 EUR", "-5 EUR", "1.234 EUR", "five", "1 2 EUR", "NaN EUR", "1e3 EUR"])
def test_what_is_no_amount_is_refused_before_anything_is_sent(bank: FakeBank, tell: Tell, amount: str) -> None:
    """Wrong usage, exit code 2."""
    code, _, err = tell("pay", "bob", "--", amount)
    assert code == 2, err
    assert "pay" not in [call[0] for call in bank.calls]


@pytest.mark.parametrize(("command", "word"), [("deposit", "Paid in"), ("withdraw", "Paid out")])
def test_cash_is_paid_in_and_out(bank: FakeBank, tell: Tell, command: str, word: str) -> None:
    """To and from an account or a person's account."""
    code, out, _ = tell(command, "alice", "100", "EUR", "--reference", "Counter")
    assert code == 0 and word in out
    assert bank.calls[-1] == (command, OTHER, "100.00 EUR", "Counter")


def test_a_wrong_id_is_wrong_usage(bank: FakeBank, tell: Tell) -> None:
    """It would be a new payment, not a repeat."""
    assert tell("pay", "bob", "1 EUR", "--id", "again")[0] == 2
