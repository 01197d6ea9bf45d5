"""How money and times look to people and to programs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fortress.cli import views
from fortress.errors import UsageError


def test_money_is_told_with_its_decimals() -> None:
    """The currency says how many; no bound is none."""
    assert views.money_text(1250, "EUR") == "12.50 EUR"
    assert views.money_text(None, "EUR") == "none"
    assert views.money_json(1250, "EUR") == {"amount": "12.50", "currency": "EUR", "minor": "1250"}
    assert views.money_json(None, "EUR") is None


def test_times_are_utc_for_programs() -> None:
    """To the microsecond, and none is none."""
    assert views.time_json(1_700_000_000_000_001) == "2023-11-14T22:13:20.000001Z"
    assert views.time_json(0) is None
    assert views.time_text(0) == ""
    assert len(views.time_text(1_700_000_000_000_000)) == 19


def test_times_are_read() -> None:
    """With a zone, or in local time."""
    assert views.parse_time("2023-11-14T22:13:20.000001Z") == datetime(2023, 11, 14, 22, 13, 20, 1, UTC)
    assert views.parse_time("2026-03-31") == datetime(2026, 3, 31).astimezone()
    with pytest.raises(UsageError):
        views.parse_time("yesterday")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("12h", 43200), ("7d", 604800), ("2w", 1209600)]
)
def test_spans_are_read(text: str, seconds: int) -> None:
    """A number and a unit."""
    assert views.parse_span(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1.5h"])
def test_other_spans_are_refused(text: str) -> None:
    """Never guessed."""
    with pytest.raises(UsageError):
        views.parse_span(text)


def test_a_month_ends_where_the_next_begins() -> None:
    """In UTC, also in leap years and at the end of the year."""
    assert views.month_span("2024-02") == (datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC))
    assert views.month_span("2025-12")[1] == datetime(2026, 1, 1, tzinfo=UTC)
    for wrong in ("2024-13", "24-02", "0000-01", "2024"):
        with pytest.raises(UsageError):
            views.month_span(wrong)
