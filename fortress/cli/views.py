"""How money, times, ids and the bank's answers look: short for people, complete for programs.

People see local time and ``12.50 EUR``; programs get ISO 8601 in UTC and amounts with their minor units as text, since
JSON numbers lose digits in many readers.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from fortress.cli.misuse import Misuse
from fortress.cli.output import Json
from fortress.client.money import Money

US: Final = 1_000_000
UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def money_text(minor: int | None, currency: str) -> str:
    """Write an amount for people; None is no bound at all."""
    return "none" if minor is None else str(Money(minor, currency))


def money_json(minor: int | None, currency: str) -> Json:
    """Write an amount for programs."""
    return None if minor is None else dict(Money(minor, currency).to_json())


def time_text(time_us: int) -> str:
    """Write a time for people: local, to the second; empty for none."""
    return _moment(time_us).astimezone().strftime("%Y-%m-%d %H:%M:%S") if time_us else ""


def time_json(time_us: int) -> Json:
    """Write a time for programs: ISO 8601, UTC, to the microsecond; None for none."""
    return _moment(time_us).isoformat(timespec="microseconds").replace("+00:00", "Z") if time_us else None


def parse_time(text: str) -> datetime:
    """Read a time, local unless it names a zone.

    Raises:
        Misuse: it is not ISO 8601.
    """
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as exc:
        raise Misuse(f"{text!r} is not a time", "write it like 2026-03-31 or 2026-03-31T14:05:00Z") from exc


def parse_span(text: str) -> timedelta:
    """Read a span of time like ``30m`` or ``7d``.

    Raises:
        Misuse: it is none.
    """
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    if not match:
        raise Misuse(f"{text!r} is not a span of time", "write it like 90s, 30m, 12h, 7d or 2w")
    return timedelta(seconds=int(match[1]) * UNITS_S[match[2]])


def month_span(text: str) -> tuple[datetime, datetime]:
    """Give the beginning of a month ``YYYY-MM`` and of the next, in UTC as the bank's books count.

    Raises:
        Misuse: it is no month.
    """
    match = re.fullmatch(r"([0-9]{4})-(0[1-9]|1[0-2])", text)
    if not match or not 1 <= int(match[1]) < 9999:
        raise Misuse(f"{text!r} is not a month", "write it like 2026-03")
    start = datetime(int(match[1]), int(match[2]), 1, tzinfo=UTC)
    return start, (start + timedelta(days=31)).replace(day=1)


def _moment(time_us: int) -> datetime:
    return datetime.fromtimestamp(time_us // US, UTC) + timedelta(microseconds=time_us % US)
