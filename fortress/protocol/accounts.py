"""Messages about people's data and their accounts."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from fortress.protocol.fields import (
    Answer,
    Count,
    Currency,
    Id,
    PageSize,
    Position,
    Request,
    StaleMsMax,
    Text140,
    TimeUs,
)


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    """A customer's personal data; at the bank only as ciphertext."""

    name: Text140 = ""
    email: Annotated[str, Meta(max_length=254, pattern=r"^[^\x00-\x20\x7f]*\Z")] = ""
    phone: Annotated[str, Meta(max_length=32, pattern=r"^[0-9+(). /-]*\Z")] = ""
    address: Annotated[str, Meta(max_length=500, pattern=r"^[^\x00-\x09\x0b-\x1f\x7f]*\Z")] = ""


class SetProfile(Request, frozen=True):
    """Replace one's contact data."""

    profile: Profile


class GetProfile(Request, frozen=True):
    """Read contact data; staff may name another customer."""

    username: str = ""


class ProfileAnswer(Answer, frozen=True):
    username: str
    profile: Profile
    position: int = 0


class OpenAccount(Request, frozen=True):
    """Open an account; a customer for themselves, staff for anybody."""

    id: Id
    currency: Currency
    username: str = ""
    kind: Annotated[str, Meta(max_length=16)] = "customer"


class AccountView(Answer, frozen=True):
    """One account as its owner sees it; all sums in minor units. ``stale_ms``: how old at most; 0: of the primary."""

    number: int
    owner: str
    kind: str
    currency: str
    state: str
    balance_minor: int
    available_minor: int
    held_minor: int
    incoming_minor: int
    debits_posted_minor: int
    credits_posted_minor: int
    floor_minor: int | None
    limit_payment_minor: int | None
    limit_day_minor: int | None
    limit_month_minor: int | None
    left_day_minor: int | None
    left_month_minor: int | None
    signed_orders_only: bool
    opened_us: int
    version: int
    position: int
    stale_ms: int = 0


class GetAccount(Request, frozen=True):
    """Read one account (0: the default account), at the newest position or as of a past one."""

    number: Count = 0
    min_position: Position = 0
    as_of_us: TimeUs = 0
    stale_ms_max: StaleMsMax = 0


class ListAccounts(Request, frozen=True):
    """List one's accounts; staff may name a customer or, with all, page through every account."""

    username: str = ""
    all: bool = False
    after: Count = 0
    limit: PageSize = 100
    min_position: Position = 0
    stale_ms_max: StaleMsMax = 0


class AccountsAnswer(Answer, frozen=True):
    """``stale_ms``: how old at most; 0: of the primary."""

    accounts: list[AccountView]
    next_after: int = 0
    stale_ms: int = 0


class Resolve(Request, frozen=True):
    """Answer the payee's name and account for a username or account number, before sending."""

    payee: Annotated[str, Meta(min_length=1, max_length=97)]  # bank, slash, username
    currency: Annotated[str, Meta(max_length=3)] = ""


class ResolveAnswer(Answer, frozen=True):
    number: int
    name: str
    currency: str
