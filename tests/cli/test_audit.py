"""``audit``: the books added up, the trail read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.cli.conftest import FakeBank

Tell = Callable[..., Any]


def test_books_that_add_up_are_told(bank: FakeBank, tell: Tell) -> None:
    """Exit code 0."""
    code, out, err = tell("audit", "balance")
    assert code == 0 and "5.00 EUR" in out and "every sum is zero" in err


def test_books_that_do_not_add_up_fail(bank: FakeBank, tell: Tell) -> None:
    """Exit code 7."""
    bank.imbalance = 1
    code, out, _ = tell("audit", "balance", "--json")
    assert code == 7 and out[0]["sum"]["minor"] == "1"


def test_the_trail_is_read_page_by_page(bank: FakeBank, tell: Tell) -> None:
    """As far as wanted."""
    assert [row["position"] for row in tell("audit", "trail", "--json")[1]] == [9, 5]
    assert [row["position"] for row in tell("audit", "trail", "--limit", "1", "--json")[1]] == [9]
    assert "until unlocked" in tell("audit", "trail")[1]
