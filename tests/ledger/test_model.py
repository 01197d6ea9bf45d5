"""The nouns: check digits, days and months, what follows from four counters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fortress.ledger.model import (
    BANK_ACTOR,
    DAY_US,
    NEVER_US,
    SWITCH_ACTOR,
    Account,
    AccountKind,
    AccountState,
    Actor,
    BankState,
    CustomerState,
    Hold,
    HoldState,
    TransferKind,
    account_number,
    day_of,
    is_account_number,
    month_of,
)


@pytest.mark.parametrize(
    ("sequence", "number"),
    [(1, 195), (2, 292), (10_001, 1_000_168), (97, 9_798), (98, 9_895), (794, 79_444)],
)
def test_an_account_number_ends_with_its_check_digits(sequence: int, number: int) -> None:
    """ISO 7064 MOD 97-10: the whole number leaves 1; 79444 is the standard's own example."""
    assert account_number(sequence) == number
    assert number % 97 == 1
    assert is_account_number(number)


@given(st.integers(1, 10**15), st.integers(0, 16), st.integers(1, 9))
def test_one_wrong_digit_is_found(sequence: int, place: int, change: int) -> None:
    """Any single digit mistyped makes a number that is none."""
    number = account_number(sequence)
    place %= len(str(number))
    digit = number // 10**place % 10
    wrong = number + ((digit + change) % 10 - digit) * 10**place
    assert not is_account_number(wrong)


@given(st.integers(1, 10**15), st.integers(0, 14))
def test_two_digits_exchanged_are_found(sequence: int, place: int) -> None:
    """Neighbours typed in the wrong order make a number that is none."""
    digits = list(str(account_number(sequence)))
    place %= len(digits) - 1
    digits[place], digits[place + 1] = digits[place + 1], digits[place]
    exchanged = int("".join(digits))
    assert exchanged == account_number(sequence) or not is_account_number(exchanged)


@pytest.mark.parametrize("number", [-96, 0, 1, 98, 100, 99, 10_000, 9_799, 9_801])
def test_what_is_no_account_number(number: int) -> None:
    """Nothing without a sequence, and check digits from 02 to 98 only."""
    assert not is_account_number(number)


@given(st.integers(0, 4_000_000_000_000_000))
def test_days_and_months_are_those_of_the_calendar(time_us: int) -> None:
    """Counted as the standard library counts them, in UTC."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    assert day_of(time_us) == moment.date().toordinal() - datetime(1970, 1, 1).toordinal()
    assert month_of(day_of(time_us)) == moment.year * 12 + moment.month - 1


def test_every_day_of_four_centuries_has_its_month() -> None:
    """A whole period of the calendar, each day; the ends of months and leap days included."""
    start = datetime(1970, 1, 1)
    for day in range(146_097):
        moment = start + timedelta(days=day)
        assert month_of(day) == moment.year * 12 + moment.month - 1


def test_a_day_ends_with_its_last_microsecond() -> None:
    """Midnight belongs to the new day."""
    assert (day_of(DAY_US - 1), day_of(DAY_US)) == (0, 1)


def test_balance_and_available_follow_from_the_counters() -> None:
    """Credits less debits; less what is held."""
    account = Account(195, 1, 1, "EUR", debits_posted=30, credits_posted=100, debits_pending=20, credits_pending=7)
    assert (account.balance, account.available) == (70, 50)


@pytest.mark.parametrize("name", ["limit_payment", "limit_day", "limit_month"])
def test_any_limit_is_a_limit(name: str) -> None:
    """A limit of zero is one as well."""
    assert Account(195, 1, 1, "EUR", **{name: 0}).has_limits
    assert not Account(195, 1, 1, "EUR").has_limits


@pytest.mark.parametrize(
    ("role", "is_cashier"), [("customer", False), ("teller", True), ("administrator", True), ("auditor", False)]
)
def test_who_may_move_anybodys_money(role: str, is_cashier: bool) -> None:
    """Tellers and administrators, and the bank itself."""
    assert Actor(1, frozenset({role})).is_cashier is is_cashier
    assert BANK_ACTOR.is_cashier and BANK_ACTOR.customer == 0
    assert not SWITCH_ACTOR.is_cashier and SWITCH_ACTOR.is_switch and not BANK_ACTOR.is_switch


def test_the_hold_of_a_payment_has_no_end() -> None:
    """That tells it from all others."""
    ends = [NEVER_US, NEVER_US - 1, 5]
    assert [Hold(b"", 1, 2, 3, "EUR", 4, end, "").is_payment for end in ends] == [True, False, False]


def test_numbers_in_the_journal_never_change() -> None:
    """What was written once keeps its meaning."""
    assert [*map(int, AccountKind)] == [1, 2, 3, 4, 5]
    assert [*map(int, AccountState)] == [1, 2, 3, 4]
    assert [*map(int, TransferKind)] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [*map(int, HoldState)] == [1, 2, 3, 4]
    assert [*map(int, CustomerState)] == [1, 2, 3]
    assert [*map(int, BankState)] == [1, 2]
