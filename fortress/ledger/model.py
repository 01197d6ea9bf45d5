"""The nouns of the ledger: accounts, holds, customers, and who acts.

Money is an ``int`` of minor units with an ISO 4217 code beside it. An account has four counters; everything else
about its money follows from them. These objects are the working state: only applying an entry
(:mod:`fortress.ledger.posting`, :mod:`fortress.ledger.administration`) changes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

INTEGER_MAX = 2**63 - 1
DAY_US = 86_400_000_000
NEVER_US = INTEGER_MAX  # when the hold of a payment between banks expires
BANK = 0  # the bank itself, as owner of accounts and as actor
ROLES = ("customer", "teller", "administrator", "auditor")
CHECK_DIGITS_MODULUS = 97


class AccountKind(IntEnum):
    """What an account is for; numbered for ever."""

    customer = 1
    cash = 2
    position = 3
    fees = 4
    settlement = 5


class AccountState(IntEnum):
    """What an account allows; numbered for ever. A closed account can be reopened; a row is never deleted."""

    open = 1
    debit_frozen = 2
    frozen = 3
    closed = 4


class TransferKind(IntEnum):
    """Why money moved; numbered for ever."""

    deposit = 1
    withdrawal = 2
    transfer = 3
    payment_out = 4
    payment_in = 5
    fee = 6
    reversal = 7
    clearing = 8


class HoldState(IntEnum):
    """Where a hold stands; numbered for ever. Everything but ``open`` is final."""

    open = 1
    posted = 2
    voided = 3
    expired = 4


class BankState(IntEnum):
    """Whether a gateway serves a bank; numbered for ever."""

    active = 1
    suspended = 2


class CustomerState(IntEnum):
    """Whether a customer may sign in; numbered for ever."""

    active = 1
    locked = 2
    erased = 3


@dataclass(slots=True, eq=False)
class Account:
    """One account: who and what it is, its limits, and its four counters (minor units).

    ``balance = credits_posted - debits_posted``, ``held = debits_pending``, ``incoming = credits_pending``,
    ``available = balance - held``. ``floor`` is what available may not fall below; None means no floor.
    ``last_position`` and ``entry_count`` chain the account's entries from the newest to the oldest.
    """

    number: int
    owner: int
    kind: int
    currency: str
    state: int = 1
    floor: int | None = 0
    limit_payment: int | None = None
    limit_day: int | None = None
    limit_month: int | None = None
    signed_orders_only: bool = False
    opened_us: int = 0
    version: int = 1
    debits_posted: int = 0
    credits_posted: int = 0
    debits_pending: int = 0
    credits_pending: int = 0
    day: int = 0
    day_spent: int = 0
    month: int = 0
    month_spent: int = 0
    last_position: int = 0
    entry_count: int = 0

    @property
    def balance(self) -> int:
        """Credits less debits, in minor units."""
        return self.credits_posted - self.debits_posted

    @property
    def available(self) -> int:
        """The balance less what is held, in minor units."""
        return self.credits_posted - self.debits_posted - self.debits_pending

    @property
    def has_limits(self) -> bool:
        """True when any of the three limits is set."""
        return self.limit_payment is not None or self.limit_day is not None or self.limit_month is not None


@dataclass(slots=True, eq=False)
class Hold:
    """Money reserved: taken from ``debit``'s available, promised to ``credit``, until posted, voided or expired.

    Of a payment between banks: ``sequence`` is the position of the decision in the gateway's ledger once it is posted
    (0 where an operator posted it by hand), ``reason`` why it was voided: a status, or the code of an error.
    """

    id: bytes
    debit: int
    credit: int
    amount: int
    currency: str
    placed_us: int
    expires_us: int
    reference: str
    state: int = 1
    posted: int = 0
    position: int = 0
    sequence: int = 0
    reason: int = 0

    @property
    def is_payment(self) -> bool:
        """True for one leg of a payment between banks: no other hold is without an end."""
        return self.expires_us == NEVER_US


@dataclass(slots=True, eq=False)
class Customer:
    """A person or program that signs in; personal data only as ciphertext, the login key only sealed.

    ``account_count`` counts all accounts ever opened, ``open_account_count`` those that are not closed.
    """

    customer: int
    handle: bytes
    roles: tuple[str, ...]
    salt: bytes
    memory_kib: int
    iterations: int
    lanes: int
    sealed_public: bytes
    signing: bytes
    profile: bytes
    created_us: int
    state: int = 1
    locked_until_us: int = 0
    default_account: int = 0
    account_count: int = 0
    open_account_count: int = 0
    position: int = 0


@dataclass(slots=True, eq=False)
class Approval:
    """An administrative act that waits for a second administrator."""

    id: bytes
    operation: str
    command: bytes
    summary: str
    asked_by: int
    asked_us: int
    state: int = 1  # 1 open, 2 approved, 3 declined
    position: int = 0


@dataclass(slots=True, eq=False)
class MemberBank:
    """A bank as its gateway knows it; ``authority`` is the DER certificate of the bank's own authority."""

    number: int
    bank: str
    state: int
    authority: bytes
    added_us: int
    position: int = 0


class WindowEnd(NamedTuple):
    """The settlement window that was closed last: its number, and the position up to which it went."""

    number: int = 0
    to: int = 0


@dataclass(slots=True, eq=False)
class Invitation:
    """A one-use code with which a person registers; only the code's hash is kept."""

    digest: bytes
    role: str
    expires_us: int
    used: bool = False
    position: int = 0


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks: a customer number and what their roles allow."""

    customer: int
    roles: frozenset[str]

    @property
    def is_switch(self) -> bool:
        """True for the node's own part in payments between banks."""
        return "switch" in self.roles

    @property
    def is_cashier(self) -> bool:
        """True for staff that may move money between anybody's accounts."""
        return "teller" in self.roles or "administrator" in self.roles


BANK_ACTOR = Actor(BANK, frozenset(("administrator",)))
SWITCH_ACTOR = Actor(BANK, frozenset(("switch",)))  # no person can be given this role


def account_number(sequence: int) -> int:
    """Make an account number: the sequence and two check digits (ISO 7064 MOD 97-10)."""
    return sequence * 100 + (98 - sequence * 100 % CHECK_DIGITS_MODULUS)


def is_account_number(number: int) -> bool:
    """Check the two check digits of an account number (ISO 7064 MOD 97-10)."""
    return number > 100 and number % CHECK_DIGITS_MODULUS == 1 and 2 <= number % 100 <= 98


def day_of(time_us: int) -> int:
    """Count the days since 1970 (UTC) of a time in microseconds."""
    return time_us // DAY_US


def month_of(day: int) -> int:
    """Name the month of a day as ``year * 12 + month - 1`` (proleptic Gregorian, UTC)."""
    shifted = day + 719_468  # days from 0000-03-01, so that leap days end a year
    era = shifted // 146_097
    day_of_era = shifted - era * 146_097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    month = month_from_march + 3 if month_from_march < 10 else month_from_march - 9
    return (year_of_era + era * 400 + (1 if month <= 2 else 0)) * 12 + month - 1
