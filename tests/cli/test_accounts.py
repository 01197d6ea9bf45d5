"""Accounts: opened, listed, frozen, limited, closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import NUMBER, FakeBank

Tell = Callable[..., Any]
ACCOUNT = str(NUMBER)


def test_an_account_is_opened(bank: FakeBank, tell: Tell) -> None:
    """For oneself, or as staff for somebody."""
    code, out, _ = tell("account", "open", "eur", "--json")
    assert code == 0 and out["currency"] == "EUR"
    assert bank.calls[-1] == ("open_account", "EUR", "", "customer")
    tell("account", "open", "EUR", "--for", "bob", "--kind", "fees")
    assert bank.calls[-1] == ("open_account", "EUR", "bob", "fees")


def test_all_pages_of_accounts_are_listed(bank: FakeBank, tell: Tell) -> None:
    """One's own, somebody's, or all."""
    assert len(tell("account", "list", "--json")[1]) == 2
    tell("account", "list", "--user", "bob")
    assert bank.calls[-1] == ("accounts", "bob", False)
    tell("account", "list", "--all")
    assert bank.calls[-1] == ("accounts", "", True)
    assert "Overdraft" not in tell("account", "show")[1]


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        (["freeze", ACCOUNT, "--yes"], ("freeze", NUMBER, ("debits_only", False))),
        (["freeze", ACCOUNT, "--yes", "--debits-only"], ("freeze", NUMBER, ("debits_only", True))),
        (["unfreeze", ACCOUNT], ("unfreeze", NUMBER)),
        (["close", ACCOUNT, "--yes"], ("close_account", NUMBER)),
        (["reopen", ACCOUNT], ("reopen", NUMBER)),
    ],
    ids=str,
)
def test_an_account_changes_its_state(bank: FakeBank, tell: Tell, arguments: list[str], call: tuple[Any, ...]) -> None:
    """Told when it is done."""
    code, out, _ = tell("account", *arguments)
    assert code == 0 and ACCOUNT in out
    assert bank.calls[-1] == call


def limits_set(bank: FakeBank) -> dict[str, Any]:
    assert bank.calls[-1][:2] == ("set_limits", NUMBER)
    return dict(bank.calls[-1][2:])


def test_limits_that_are_not_named_stay(bank: FakeBank, tell: Tell) -> None:
    """The day's limit of the account is kept while another is set."""
    assert tell("account", "limits", ACCOUNT, "--payment", "100", "--signed-orders-only")[0] == 0
    assert limits_set(bank) == {
        "floor_minor": 0,
        "payment_minor": 10000,
        "day_minor": 50000,
        "month_minor": None,
        "signed_orders_only": True,
    }


@pytest.mark.parametrize(("overdraft", "floor"), [("50 EUR", -5000), ("0", 0), ("0.00 EUR", 0), ("none", None)])
def test_an_overdraft_is_a_floor_below_zero(bank: FakeBank, tell: Tell, overdraft: str, floor: int | None) -> None:
    """None at all is no floor."""
    assert tell("account", "limits", ACCOUNT, "--overdraft", overdraft, "--day", "none")[0] == 0
    assert (limits_set(bank)["floor_minor"], limits_set(bank)["day_minor"]) == (floor, None)


@pytest.mark.parametrize("arguments", [[], ["--day", "5 USD"], ["--day", "-5 EUR"], ["--overdraft", ""]], ids=str)
def test_wrong_limits_are_wrong_usage(bank: FakeBank, tell: Tell, arguments: list[str]) -> None:
    """Nothing named, another currency, no amount."""
    assert tell("account", "limits", ACCOUNT, *arguments)[0] == 2
