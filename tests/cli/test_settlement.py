"""``positions`` and ``windows``: what a gateway's operators settle by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fortress.cli.settlement import window_fields
from fortress.protocol.switching import WindowView
from tests.cli.conftest import FakeBank

Tell = Callable[..., Any]


def test_positions_are_shown(bank: FakeBank, tell: Tell) -> None:
    """Position, what is reserved for payments under way, and the cap."""
    code, out, _ = tell("positions", "--json")
    assert code == 0 and out["position"] == 9
    assert [(each["bank"], each["position"]["minor"], each["cap"]["minor"]) for each in out["positions"]] == [
        ("a", "-500", "1000000"),
        ("b", "500", "1000000"),
    ]
    lines = tell("positions")[1].splitlines()
    assert lines[1].split() == ["a", "-5.00", "EUR", "0.00", "EUR", "10000.00", "EUR"]


def test_windows_are_listed(bank: FakeBank, tell: Tell) -> None:
    """The open one first."""
    rows = tell("windows", "list", "--limit", "2", "--json")[1]
    assert [(row["number"], row["closed"] is None) for row in rows] == [(0, True), (1, False)]
    assert bank.calls[-1] == ("windows", 2)
    assert tell("windows", "list")[1].splitlines()[1].split() == ["open", "8", "20"]


def test_a_window_is_shown_with_whether_the_books_agree(bank: FakeBank, tell: Tell) -> None:
    """Exit code 7 if one bank's books differ, with the payment that does."""
    code, out, _ = tell("windows", "show", "--json")
    assert code == 0 and [row["agrees"] for row in out["banks"]] == ["yes", "unknown"]
    code, out, _ = tell("windows", "show", "3")
    assert code == 7 and "no: 0102" in out and "9 to 20" in out


def test_a_window_without_positions_is_empty() -> None:
    """It begins where the last one ended."""
    assert dict(window_fields(WindowView(0, 8, 8)).pairs)["Positions"] == "none yet"


def test_a_window_is_closed(bank: FakeBank, tell: Tell) -> None:
    """After a yes."""
    assert tell("windows", "close", "--no-input")[0] == 2
    code, out, _ = tell("windows", "close", "--yes")
    assert code == 0 and "closed" in out and bank.calls[-1] == ("close_window",)
