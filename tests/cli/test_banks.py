"""``bank``: the banks of a gateway, listed for everybody, added and suspended by its administrators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fortress.errors import NotAllowed, UnknownOperation
from tests.cli.conftest import ID, ID_TEXT, FakeBank

Tell = Callable[..., Any]


def test_banks_are_listed(bank: FakeBank, tell: Tell) -> None:
    """With their state and whether their primary is connected."""
    code, rows, _ = tell("bank", "list", "--json")
    assert code == 0
    assert [(row["bank"], row["state"], row["connected"], row["node"]) for row in rows] == [
        ("a", "active", True, "node-1"),
        ("b", "suspended", False, None),
    ]
    lines = tell("bank", "list")[1].splitlines()
    assert lines[0].split() == ["Bank", "State", "Link", "Node", "Term", "Since"]
    assert "not connected" in lines[2]


def test_one_bank_is_shown_with_its_positions(bank: FakeBank, tell: Tell) -> None:
    """Where the gateway tells them; a name that is none is refused."""
    code, out, _ = tell("bank", "show", "a", "--json")
    assert code == 0 and out["addresses"] == ["127.0.0.1:7611"]
    assert [each["position"]["minor"] for each in out["positions"]] == ["-500"]
    assert "-5.00 EUR" in tell("bank", "show", "a")[1]
    code, _, err = tell("bank", "show", "c")
    assert code == 1 and "FT-1055" in err


@pytest.mark.parametrize("error", [UnknownOperation, NotAllowed])
def test_a_bank_is_shown_without_positions_where_none_are_told(
    bank: FakeBank, tell: Tell, error: type[UnknownOperation | NotAllowed]
) -> None:
    """At a bank, and to customers."""
    bank.refuse("positions", error())
    assert tell("bank", "show", "a", "--json")[1]["positions"] == []


def test_a_bank_is_added_with_its_authority_and_cap(bank: FakeBank, tell: Tell, ca_file: Path) -> None:
    """The cap in units of the currency; a further currency needs no authority."""
    code, out, _ = tell("bank", "add", "c", "--authority", str(ca_file), "--currency", "eur", "--cap", "10000")
    assert code == 0 and "it may owe 10000.00 EUR" in out
    name, bank_name, cap, pem = bank.calls[-1]
    assert (name, bank_name, cap) == ("add_bank", "c", "10000.00 EUR") and pem.startswith(b"-----BEGIN CERT")
    assert tell("bank", "add", "c", "--currency", "USD", "--cap", "5")[0] == 0
    assert bank.calls[-1][2:] == ("5.00 USD", b"")


def test_adding_may_wait_for_a_second_administrator(bank: FakeBank, tell: Tell) -> None:
    """Nothing is done yet."""
    bank.approval = ID
    assert tell("bank", "add", "c", "--currency", "EUR", "--cap", "5", "--json")[1] == {
        "done": False,
        "approval": ID_TEXT,
    }


@pytest.mark.parametrize("cap", ["5 USD", "much", "-1"])
def test_a_wrong_cap_is_wrong_usage(bank: FakeBank, tell: Tell, cap: str) -> None:
    """Nothing is sent."""
    assert tell("bank", "add", "c", "--currency", "EUR", "--cap", cap)[0] == 2
    assert "add_bank" not in [call[0] for call in bank.calls]


def test_a_bank_is_suspended_and_resumed(bank: FakeBank, tell: Tell) -> None:
    """Suspending asks first."""
    assert tell("bank", "suspend", "b", "--no-input")[0] == 2
    assert tell("bank", "suspend", "b", "--yes")[0] == 0
    assert bank.calls[-1] == ("suspend_bank", "b", False)
    assert tell("bank", "resume", "b")[0] == 0
    assert bank.calls[-1] == ("suspend_bank", "b", True)
