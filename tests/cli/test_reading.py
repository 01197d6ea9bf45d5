"""What is on an account and how it came there, for people and for programs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.cli.conftest import ID_TEXT, NUMBER, FakeBank

Tell = Callable[..., Any]


def test_all_balances_are_a_table(bank: FakeBank, tell: Tell) -> None:
    """Each in its own currency."""
    code, out, _ = tell("balance")
    assert code == 0
    assert out.splitlines()[0].split() == ["Account", "Owner", "Kind", "State", "Balance", "Available", "On", "hold"]
    assert "100.00 EUR" in out and "10000 JPY" in out and "debit frozen" in out


def test_one_balance_is_shown_in_full(bank: FakeBank, tell: Tell) -> None:
    """Limits and what is left of them included."""
    out = tell("balance", str(NUMBER))[1]
    assert "Left today          500.00 EUR" in out and "Limit per month     none" in out


def test_a_balance_is_json_for_programs(bank: FakeBank, tell: Tell) -> None:
    """The shape that scripts rely on."""
    rows = tell("balance", "--json")[1]
    assert rows[0]["account"] == str(NUMBER)
    assert rows[0]["available"] == {"amount": "90.00", "currency": "EUR", "minor": "9000"}
    assert rows[0]["limit_payment"] is None
    assert tell("balance", str(NUMBER), "--json")[1]["opened"] == "2023-11-14T22:13:20.000000Z"


def test_a_past_balance_is_asked_for(bank: FakeBank, tell: Tell) -> None:
    """A time that is none is refused."""
    assert tell("balance", "--as-of", "2026-03-31")[0] == 0
    assert tell("balance", "--as-of", "then")[0] == 2


def test_history_asks_for_what_was_named(bank: FakeBank, tell: Tell) -> None:
    """Filters go to the bank; no more rows are taken than wanted."""
    arguments = ("--since", "2026-03-01T00:00:00Z", "--kind", "deposit", "--with", "5", "--text", "x", "--limit", "2")
    code, out, _ = tell("history", *arguments, "--json")
    assert code == 0
    _, number, only, page_size = bank.calls[-1]
    assert (number, page_size) == (NUMBER, 2)
    assert (only.since, only.kinds, only.counterparty, only.text) == (
        datetime(2026, 3, 1, tzinfo=UTC),
        ("deposit",),
        5,
        "x",
    )
    assert [row["position"] for row in out["entries"]] == [5, 4]
    assert out["entries"][0]["id"] == ID_TEXT


def test_history_is_a_table_for_people(bank: FakeBank, tell: Tell) -> None:
    """Newest first, with reference and balance."""
    out = tell("history")[1]
    assert len(out.splitlines()) == 4 and "first" in out and "100.00 EUR" in out


def test_a_statement_has_all_pages_and_its_head(bank: FakeBank, tell: Tell) -> None:
    """Opening and closing balance, and the head it was cut from."""
    code, out, _ = tell("statement", "--month", "2026-03", "--json")
    assert code == 0
    assert (out["from"], out["to"]) == ("2026-03-01T00:00:00+00:00", "2026-04-01T00:00:00+00:00")
    assert (out["opening"]["minor"], out["closing"]["minor"], len(out["entries"])) == ("0", "10000", 2)
    assert out["head"]["tree_size"] == 9
    shown = tell("statement", "--from", "2026-01-01", "--to", "2026-04-01")[1]
    assert "Closing  100.00 EUR" in shown
    assert tell("statement")[0] == 0


@pytest.mark.parametrize(
    "arguments", [["--from", "2026-01-01"], ["--month", "2026-03", "--from", "x"], ["--month", "x"]], ids=str
)
def test_half_a_span_is_refused(bank: FakeBank, tell: Tell, arguments: list[str]) -> None:
    """Both ends, or a month."""
    assert tell("statement", *arguments)[0] == 2
