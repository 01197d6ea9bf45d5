"""Tests of money: sums as people write them, exactly, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fortress.client.money import MINOR_MAX, Money, as_money, decimals_of, parse
from fortress.errors import AmountInvalid


@pytest.mark.parametrize(
    ("text", "minor", "currency"),
    [
        ("12.50 EUR", 1250, "EUR"),
        ("EUR 12.5", 1250, "EUR"),
        ("12 eur", 1200, "EUR"),
        ("0.01 EUR", 1, "EUR"),
        ("100 JPY", 100, "JPY"),
        ("1.234 KWD", 1234, "KWD"),
        ("92233720368547758.07 EUR", MINOR_MAX, "EUR"),
    ],
)
def test_a_sum_is_read_with_its_currencys_decimals(text: str, minor: int, currency: str) -> None:
    """Two for most, none for some, three for others."""
    assert parse(text) == Money(minor, currency)


@pytest.mark.parametrize(
    "text",
    [
        *("", "EUR", "12.50", "12,50 EUR", "1,234 EUR", "1 234 EUR", "1_000 EUR", "1e3 EUR", "NaN EUR", "inf EUR"),
        *("-1 EUR", "+1 EUR", "0 EUR", "0.00 EUR", "1. EUR", ".5 EUR", "1.234 EUR", "1.5 JPY", "١٢ EUR", "12 €"),
        *("12 EURO", "12 XQX", "12 EUR USD", "92233720368547758.08 EUR", "9" * 19 + " EUR", "9" * 5000 + " EUR"),
    ],
)
def test_what_is_no_sum_is_refused(text: str) -> None:
    """Separators that mean different things, signs, zero, other digits, unknown currencies, too much."""
    with pytest.raises(AmountInvalid):
        parse(text)


def test_a_currency_can_be_understood() -> None:
    """Where only one currency can be meant, the number is enough; a currency that is named wins."""
    assert parse("5", "EUR") == Money(500, "EUR")
    assert parse("5 USD", "EUR") == Money(500, "USD")


@pytest.mark.parametrize(
    ("money", "text"),
    [
        (Money(1250, "EUR"), "12.50 EUR"),
        (Money(-5, "EUR"), "-0.05 EUR"),
        (Money(0, "EUR"), "0.00 EUR"),
        (Money(100, "JPY"), "100 JPY"),
        (Money(-1, "KWD"), "-0.001 KWD"),
    ],
)
def test_a_sum_is_written(money: Money, text: str) -> None:
    """Always with all decimals of its currency."""
    assert str(money) == text


@given(st.integers(1, MINOR_MAX), st.sampled_from(["EUR", "JPY", "KWD"]))
def test_what_is_written_is_read_again(minor: int, currency: str) -> None:
    """No unit is lost in either direction."""
    assert parse(str(Money(minor, currency))) == Money(minor, currency)


def test_json_has_no_numbers() -> None:
    """Readers of JSON lose digits of large numbers, so sums are text."""
    assert Money(1250, "EUR").to_json() == {"amount": "12.50", "currency": "EUR", "minor": "1250"}


@pytest.mark.parametrize("money", [Money(0, "EUR"), Money(-1, "EUR"), Money(MINOR_MAX + 1, "EUR"), Money(1, "eur")])
def test_a_sum_that_cannot_be_moved_is_refused(money: Money) -> None:
    """Also when it does not come from text."""
    with pytest.raises(AmountInvalid):
        as_money(money)


def test_a_sum_to_be_moved_is_taken_in_both_forms() -> None:
    """Text or object."""
    assert as_money("1 EUR") == as_money(Money(100, "EUR"))


def test_an_unknown_currency_has_no_decimals() -> None:
    """It is refused and not guessed at."""
    with pytest.raises(AmountInvalid, match="is not a currency"):
        decimals_of("XQX")
