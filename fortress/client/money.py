"""Money as people write it and as the bank counts it: ``12.50 EUR`` and 1250 minor units.

How many decimals a currency has comes from CLDR, by babel. No float anywhere; no separators of thousands and no
decimal comma, since ``1,234`` means different sums to different people.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from fortress.errors import AmountInvalid, Facts

MINOR_MAX = 2**63 - 1
_AMOUNT = re.compile(r"([0-9]{1,19})(?:\.([0-9]{1,4}))?")
_CURRENCY = re.compile(r"[A-Z]{3}")


@cache
def decimals_of(currency: str) -> int:
    """Tell how many decimals a currency has.

    Raises:
        AmountInvalid: there is no such currency.
    """
    from babel.core import get_global  # opened when the first sum is read or shown, not when a command starts

    if not _CURRENCY.fullmatch(currency) or currency not in get_global("all_currencies"):
        raise AmountInvalid(f"{currency!r} is not a currency", {"currency": currency[:8]})
    fractions = get_global("currency_fractions")
    return int(fractions.get(currency, fractions["DEFAULT"])[0])


@dataclass(frozen=True, slots=True)
class Money:
    """A sum in one currency, which may be negative (a balance below zero).

    Attributes:
        minor: minor units, such as cents.
        currency: ISO 4217 code.
    """

    minor: int
    currency: str

    @property
    def amount(self) -> str:
        """The sum without its currency, as in ``12.50``."""
        decimals = decimals_of(self.currency)
        digits = str(abs(self.minor)).rjust(decimals + 1, "0")
        sign = "-" if self.minor < 0 else ""
        return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}" if decimals else sign + digits

    def __str__(self) -> str:
        return f"{self.amount} {self.currency}"

    def to_json(self) -> dict[str, str]:
        """Give the form for programs; all text, since JSON's numbers lose digits in many readers."""
        return {"amount": self.amount, "currency": self.currency, "minor": str(self.minor)}


def parse(text: str, currency: str = "") -> Money:
    """Read a sum to be moved, such as ``12.50 EUR`` or ``EUR 12.50``.

    Args:
        currency: what is meant when the text names none.

    Raises:
        AmountInvalid: not a sum, zero or negative, more decimals than the currency has, or too large.
    """
    words = text.split()
    named = [word for word in words if word.isalpha()]
    amounts = [word for word in words if not word.isalpha()]
    if len(amounts) != 1 or len(named) > 1 or not (named or currency):
        raise AmountInvalid(f"{_shown(text)} is not an amount of money", {"amount": text[:40]})
    match = _AMOUNT.fullmatch(amounts[0])
    if match is None:
        raise AmountInvalid(f"{_shown(text)} is not an amount: digits, a point, decimals", {"amount": text[:40]})
    return _sum(match[1], match[2] or "", named[0].upper() if named else currency, text)


def as_money(amount: Money | str, currency: str = "") -> Money:
    """Give a sum to be moved, from text or already as :class:`Money`.

    Raises:
        AmountInvalid: as :func:`parse`; a sum of zero or less too.
    """
    if isinstance(amount, str):
        return parse(amount, currency)
    decimals_of(amount.currency)
    return _movable(amount, f"{amount.minor} {amount.currency}")


def _sum(whole: str, part: str, currency: str, text: str) -> Money:
    decimals = decimals_of(currency)
    if len(part) > decimals:
        facts: Facts = {"amount": text[:40], "decimals_max": decimals}
        raise AmountInvalid(f"{_shown(text)} has more decimals than {currency} has", facts)
    return _movable(Money(int(whole + part.ljust(decimals, "0")), currency), text)


def _movable(money: Money, text: str) -> Money:
    if not 0 < money.minor <= MINOR_MAX:
        size = "too large" if money.minor > 0 else "not more than zero"
        raise AmountInvalid(f"{_shown(text)} is {size}", {"amount": text[:40]})
    return money


def _shown(text: str) -> str:
    return repr(text[:40])
