"""Days as pages name them, and the times between which the bank counts them; all in UTC, as its books are."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final

from fortress.client.reading import EPOCH
from fortress.errors import MessageInvalid

DAY: Final = timedelta(days=1)
TICK: Final = timedelta(microseconds=1)
END: Final = datetime(9999, 12, 31, tzinfo=UTC)


def midnight(day: date) -> datetime:
    """Give the moment at which a day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def read_day(text: str, field: str) -> date:
    """Read ``YYYY-MM-DD``.

    Raises:
        MessageInvalid: there is no such day; the facts name the field.
    """
    try:
        return date.fromisoformat(text)
    except ValueError as exc:
        raise MessageInvalid(f"{text!r} is not a day, such as 2026-03-31", {"field": field}) from exc


def read_span(begin: str, end: str) -> tuple[datetime, datetime]:
    """Give from when and before when: from the beginning of one day to the end of another.

    Raises:
        MessageInvalid: one of them is no day, or the end comes before the beginning.
    """
    first, last = read_day(begin, "begin"), read_day(end, "end")
    if last < first:
        raise MessageInvalid("the end lies before the beginning", {"field": "end"})
    # before 1970 there is nothing, and 0 microseconds would mean "no bound"
    return max(midnight(first), EPOCH), max(after(last), EPOCH + TICK)


def after(day: date) -> datetime:
    """Give the moment at which a day is over; of the calendar's last day, its beginning."""
    begin = midnight(day)
    return begin if begin == END else begin + DAY


def past_days(count: int, *, today: date, opened: date) -> list[date]:
    """Give the last days, today included, oldest first; none before the one on which the account was opened."""
    first = max(today - (count - 1) * DAY, min(opened, today))
    return [first + number * DAY for number in range((today - first).days + 1)]
