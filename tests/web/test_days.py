"""Days are those of the calendar, in UTC, and a span ends after its last day."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from fortress.errors import MessageInvalid
from fortress.web.days import after, midnight, past_days, read_day, read_span


def test_a_span_is_from_the_beginning_of_one_day_to_the_end_of_another() -> None:
    """The last day belongs to it; one day is a span as well."""
    assert read_span("2026-02-27", "2026-02-28") == (
        datetime(2026, 2, 27, tzinfo=UTC),
        datetime(2026, 3, 1, tzinfo=UTC),
    )
    assert read_span("2024-02-29", "2024-02-29")[1] == datetime(2024, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("begin", "end", "field"),
    [
        ("2026-02-29", "2026-03-01", "begin"),
        ("2026-02-01", "2026-02-30", "end"),
        ("0000-01-01", "2026-02-28", "begin"),
        ("2026-02-28\n", "2026-03-01", "begin"),
        ("2026-03-01", "2026-02-28", "end"),
    ],
)
def test_what_is_no_span_names_the_field(begin: str, end: str, field: str) -> None:
    """Days that do not exist, and an end before the beginning."""
    with pytest.raises(MessageInvalid) as caught:
        read_span(begin, end)
    assert caught.value.facts == {"field": field}


def test_the_calendars_ends_are_no_fault() -> None:
    """A span before 1970 is empty and not endless; the last day of all has no day after it."""
    begin, end = read_span("0001-01-01", "1969-12-31")
    assert begin == datetime(1970, 1, 1, tzinfo=UTC) < end
    assert (end - begin).total_seconds() < 1
    assert after(read_day("9999-12-31", "end")) == midnight(date(9999, 12, 31))


def test_past_days_begin_with_the_opening() -> None:
    """Today is the last; a clock that is behind the bank's does not make it none."""
    today = date(2026, 3, 2)
    assert past_days(3, today=today, opened=date(2020, 1, 1)) == [date(2026, 2, 28), date(2026, 3, 1), today]
    assert past_days(30, today=today, opened=date(2026, 3, 1)) == [date(2026, 3, 1), today]
    assert past_days(30, today=today, opened=date(2026, 3, 3)) == [today]
