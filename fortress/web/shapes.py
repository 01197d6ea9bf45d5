"""What the pages and their backend say to each other in JSON; the OpenAPI document is made from these types.

Money is in minor units, as text, since a JSON number loses digits in browsers. Times are ISO 8601 in UTC. Ids and
hashes are lower-case hexadecimal. A payee is ``bank/number``.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

Minor = Annotated[str, Meta(pattern=r"^-?(0|[1-9][0-9]{0,18})$", max_length=20, description="minor units, as text")]
Amount = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,18}$", max_length=19, description="minor units, at least 1")]
Cap = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,18})$", max_length=19, description="minor units, 0 or more")]
Id = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$", max_length=32, description="16 bytes, UUIDv7, in hexadecimal")]
Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$", max_length=64, description="32 bytes in hexadecimal")]
Hex = Annotated[str, Meta(pattern=r"^([0-9a-f]{2})*$", max_length=16_384, description="bytes in hexadecimal")]
Number = Annotated[int, Meta(ge=1, le=2**53 - 1, description="account number with check digits")]
Position = Annotated[int, Meta(ge=0, le=2**53 - 1, description="position in the bank's journal")]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}$", max_length=3, description="ISO 4217 code")]
Time = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z$",
        max_length=27,
        description="ISO 8601, UTC",
    ),
]
Day = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", max_length=10, description="a day")]
CurrencyOrNone = Annotated[str, Meta(pattern=r"^([A-Z]{3})?$", max_length=3, description="ISO 4217 code, or empty")]
DayOrNone = Annotated[
    str, Meta(pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?$", max_length=10, description="a day, or empty")
]
Username = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64, description="a username")]
UsernameOrNone = Annotated[
    str, Meta(pattern=r"^([a-z0-9][a-z0-9._-]*)?$", max_length=64, description="a username, or empty")
]
Bank = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,31}$", max_length=32, description="a bank's id")]
Payee = Annotated[
    str, Meta(pattern=r"^[a-z][a-z0-9-]{0,31}/[1-9][0-9]{2,18}$", max_length=52, description="bank/account number")
]
Text = Annotated[str, Meta(max_length=140, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$", description="text without controls")]
Role = Literal["customer", "teller", "administrator", "auditor"]
PageSize = Annotated[int, Meta(ge=1, le=500, description="rows asked for")]


class In(Struct, frozen=True, forbid_unknown_fields=True):
    """What a page sends: path, query or body."""


class Out(Struct, frozen=True):
    """What a page is answered; it ignores keys that it does not know."""


class Problem(Out, frozen=True):
    """An error, as RFC 9457 says, with the facts that a program needs.

    ``code`` is ``FT-2001`` and the like; ``status_name`` names a refusal of the bank's rules, else empty; ``retry`` is
    never, same_id, new_id or elsewhere; ``hint`` says what to do.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    retry: str
    hint: str
    status_name: str = ""
    facts: dict[str, int | str | bool | None] = msgspec.field(default_factory=dict)


class Done(Out, frozen=True):
    """Something was done; with an ``approval``, it was not yet: a second administrator must approve that id."""

    position: Position = 0
    approval: str = ""


# -- who is there --------------------------------------------------------------------------------------------------


class Site(Out, frozen=True):
    """What a page may know before anybody signs in. ``demo``: whether the laboratory is open here."""

    bank: Bank
    kind: Literal["bank", "gateway"]
    version: str
    demo: bool


class Session(Out, frozen=True):
    """Who is signed in. ``anti_forgery`` belongs into the header ``X-Fortress-Anti-Forgery`` of each change."""

    username: str
    name: str
    roles: list[Role]
    anti_forgery: str
    expires: Time
    bank: Bank
    kind: Literal["bank", "gateway"]
    demo: bool


class Ticket(In, frozen=True):
    """What a ceremony ended with, to be exchanged for the cookie."""

    token: Annotated[str, Meta(min_length=1, max_length=2048)]


class SessionRow(Out, frozen=True):
    id: Id
    since: Time
    address: str
    agent: str
    current: bool


class SessionList(Out, frozen=True):
    sessions: list[SessionRow]


# -- a customer's accounts -----------------------------------------------------------------------------------------


class AccountPath(In, frozen=True):
    number: Number


class Account(Out, frozen=True):
    """One account. ``floor`` and the limits are None where there is none; ``stale_ms``: how old at most."""

    number: Number
    owner: str
    kind: str
    currency: Currency
    state: str
    balance: Minor
    available: Minor
    held: Minor
    incoming: Minor
    floor: Minor | None
    limit_payment: Minor | None
    limit_day: Minor | None
    limit_month: Minor | None
    left_day: Minor | None
    left_month: Minor | None
    signed_orders_only: bool
    opened: Time
    position: Position
    stale_ms: int = 0


class AccountList(Out, frozen=True):
    accounts: list[Account]
    next_after: int = 0


class AccountOpening(In, frozen=True):
    id: Id
    currency: Currency


class BalanceQuery(In, frozen=True):
    """How many days back, today included."""

    days: Annotated[int, Meta(ge=2, le=366)] = 30


class BalancePoint(Out, frozen=True):
    """The balance at the end of a day (UTC); of today: now."""

    day: Day
    balance: Minor


class BalanceCurve(Out, frozen=True):
    currency: Currency
    points: list[BalancePoint]


class HistoryQuery(In, frozen=True):
    """Which entries; ``cursor`` 0 begins with the newest. ``kinds`` is a list with commas."""

    cursor: Position = 0
    limit: PageSize = 50
    kinds: Annotated[str, Meta(max_length=200, pattern=r"^[a-z_,]*$")] = ""
    begin: DayOrNone = ""
    end: DayOrNone = ""
    amount_min: Cap = "0"
    amount_max: Cap = "0"
    text: Text = ""


class Entry(Out, frozen=True):
    """One entry seen from the account: ``amount`` is signed, ``balance`` the account's after it.

    ``counterparty`` is ``bank/number``; ``id`` that of the payment.
    """

    position: Position
    time: Time
    id: Id
    kind: str
    amount: Minor
    balance: Minor | None
    counterparty: str
    reference: str


class EntryPage(Out, frozen=True):
    """``cursor`` 0: that was all. ``stale_ms``: how old at most."""

    entries: list[Entry]
    cursor: Position
    currency: Currency
    position: Position
    stale_ms: int = 0


class StatementQuery(In, frozen=True):
    """From the beginning of one day to the end of another (UTC)."""

    begin: Day
    end: Day
    cursor: Position = 0


class Head(Out, frozen=True):
    """The signed head of the bank's journal."""

    bank: str
    epoch: int
    tree_size: int
    root: Hash
    time: Time
    signature: Hex
    key: Hex


class Statement(Out, frozen=True):
    """Oldest entry first; ``cursor`` 0: that was all."""

    currency: Currency
    opening: Minor
    closing: Minor
    debits: Minor
    credits: Minor
    entries: list[Entry]
    cursor: Position
    head: Head


class ExportQuery(In, frozen=True):
    begin: Day
    end: Day
    format: Literal["csv", "ndjson"] = "csv"


# -- payments ------------------------------------------------------------------------------------------------------


class PayeeQuery(In, frozen=True):
    """An account number or username of this bank, or ``bank/`` and either."""

    payee: Annotated[str, Meta(min_length=1, max_length=97, pattern=r"^[a-z0-9._/-]+$")]
    currency: CurrencyOrNone = ""


class PayeeAnswer(Out, frozen=True):
    """Who that is, as their bank says."""

    payee: Payee
    name: str
    currency: Currency


class PaymentOrder(In, frozen=True):
    """Pay somebody; the page makes the ``id`` before it sends and repeats it until there is a definite answer.

    ``not_after``: microseconds since 1970 (UTC) as text, "0" for never, as it is part of what is signed.
    """

    id: Id
    debit: Number
    payee: Payee
    amount: Amount
    currency: Currency
    reference: Text = ""
    not_after: Cap = "0"
    signature: Annotated[str, Meta(pattern=r"^([0-9a-f]{128})?$", max_length=128)] = ""


class PaymentPath(In, frozen=True):
    id: Id


class PaymentStep(Out, frozen=True):
    """One step: where, what (held, intended, prepared, decided, posted, voided), when, why."""

    bank: str
    step: str
    time: Time
    position: Position
    reason: str


class Payment(Out, frozen=True):
    """Where a payment stands. ``state``: pending, done, refused (by a rule), given_up (nothing was paid, try again).

    ``reason``: the refusal in words, and ``reason_name`` its name; ``missing``: who must still act; ``act``: what an
    operator may safely do, commit or abort or nothing; ``balance``: of the payer's account after it, when just paid.
    Of a refused one the bank keeps little: ``payee`` and ``currency`` may be empty then.
    """

    id: Id
    state: Literal["pending", "done", "refused", "given_up"]
    payer: str
    payee: str
    amount: Minor
    currency: CurrencyOrNone
    reference: str
    time: Time
    reason: str = ""
    reason_name: str = ""
    attempt: int = 0
    gateway_sequence: int = 0
    position: Position = 0
    balance: Minor | None = None
    missing: list[str] = msgspec.field(default_factory=list)
    act: str = ""
    steps: list[PaymentStep] = msgspec.field(default_factory=list)


class PaymentQuery(In, frozen=True):
    cursor: Position = 0
    limit: PageSize = 50


class PaymentList(Out, frozen=True):
    payments: list[Payment]
    cursor: Position


class Receipt(Out, frozen=True):
    """Proof that an entry is in the journal under a signed head: RFC 9162 2.1.3; ``entry`` are its canonical bytes.

    ``holds``: whether this backend found proof and signature right; anybody can check again without it.
    """

    position: Position
    entry: Hex
    path: list[Hash]
    head: Head
    holds: bool


class Hold(Out, frozen=True):
    id: Id
    debit: Number
    credit: Number
    amount: Minor
    currency: Currency
    reference: str
    state: str
    expires: Time | None


class HoldList(Out, frozen=True):
    holds: list[Hold]


class BankRow(Out, frozen=True):
    """A bank that can be paid, or at a gateway a member: ``state`` active or suspended."""

    bank: Bank
    state: str
    is_connected: bool
    node: str
    epoch: int
    addresses: list[str]
    since: Time | None


class BankList(Out, frozen=True):
    banks: list[BankRow]


class Profile(In, frozen=True):
    """Contact data; at the bank only as ciphertext."""

    name: Text = ""
    email: Annotated[str, Meta(max_length=254, pattern=r"^[^\x00-\x20\x7f]*$")] = ""
    phone: Annotated[str, Meta(max_length=32, pattern=r"^[0-9+(). /-]*$")] = ""
    address: Annotated[str, Meta(max_length=500, pattern=r"^[^\x00-\x09\x0b-\x1f\x7f]*$")] = ""


# -- what happens while a page is open: GET /api/stream, text/event-stream ------------------------------------------


class EntryEvent(Out, frozen=True):
    """Event ``entry``; its SSE id is the position, so a browser that reconnects goes on there. ``account``: whose."""

    account: Number
    entry: Entry


class ConnectionEvent(Out, frozen=True):
    """Event ``connection``: whether the bank's primary answers this backend, and since when it is so."""

    state: Literal["ok", "switching"]
    since: Time
