"""Messages that move money: transfers, batches, holds, reversals."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from fortress.protocol.fields import (
    BATCH_ROWS_MAX,
    Amount,
    Answer,
    Count,
    Currency,
    Date,
    Id,
    Number,
    Position,
    Reference,
    Request,
    StaleMsMax,
    TimeUs,
    check_reference,
)


class Deposit(Request, frozen=True):
    """Pay cash in (teller)."""

    id: Id
    account: Number
    amount_minor: Amount
    currency: Currency
    reference: Reference = ""

    def __post_init__(self) -> None:
        check_reference(self.reference)


class Withdraw(Request, frozen=True):
    """Pay cash out (teller)."""

    id: Id
    account: Number
    amount_minor: Amount
    currency: Currency
    reference: Reference = ""

    def __post_init__(self) -> None:
        check_reference(self.reference)


class Transfer(Request, frozen=True):
    """Move money between two accounts of this bank."""

    id: Id
    debit: Number
    credit: Number
    amount_minor: Amount
    currency: Currency
    reference: Reference = ""
    value_date: Date = ""
    order_signature: Annotated[bytes, Meta(max_length=64)] = b""

    def __post_init__(self) -> None:
        check_reference(self.reference)


class TransferAnswer(Answer, frozen=True):
    """Where the transfer stands; ``balance_minor`` is the debited account's after it (a deposit's: the credited's)."""

    position: int
    time_us: int
    balance_minor: int
    replayed: bool = False


class TransferRow(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One transfer of a batch, as an array."""

    id: Id
    debit: Number
    credit: Number
    amount_minor: Amount
    reference: Reference = ""

    def __post_init__(self) -> None:
        check_reference(self.reference)


class Transfers(Request, frozen=True):
    """Do up to 8,190 transfers in one request: all or none when ``atomic``, else each on its own."""

    currency: Currency
    rows: Annotated[list[TransferRow], Meta(min_length=1, max_length=BATCH_ROWS_MAX)]
    atomic: bool = False


class TransfersAnswer(Answer, frozen=True):
    """A status number for each row, in order; ``position`` of the newest entry among the rows' (0: none)."""

    statuses: list[int]
    position: int
    time_us: int


class Hold(Request, frozen=True):
    """Reserve money until it is posted, voided or expires."""

    id: Id
    debit: Number
    credit: Number
    amount_minor: Amount
    currency: Currency
    expires_us: TimeUs
    reference: Reference = ""

    def __post_init__(self) -> None:
        check_reference(self.reference)


class Post(Request, frozen=True):
    """Take what a hold reserved, or a part (0: all); the rest is freed."""

    id: Id
    amount_minor: Count = 0


class Void(Request, frozen=True):
    """Free what a hold reserved."""

    id: Id


class GetHold(Request, frozen=True):
    """Read one hold."""

    id: Id


class HoldView(Answer, frozen=True):
    id: bytes
    debit: int
    credit: int
    amount_minor: int
    posted_minor: int
    currency: str
    state: str
    expires_us: int
    reference: str


class ListHolds(Request, frozen=True):
    """List the open holds on an account."""

    account: Number
    min_position: Position = 0
    stale_ms_max: StaleMsMax = 0


class HoldsAnswer(Answer, frozen=True):
    """``stale_ms``: how old at most; 0: of the primary."""

    holds: list[HoldView]
    stale_ms: int = 0


class Reverse(Request, frozen=True):
    """Undo a transfer, whole (0) or in part; never more than the original (teller, administrator)."""

    id: Id
    original: Id
    amount_minor: Count = 0
    reference: Reference = ""

    def __post_init__(self) -> None:
        check_reference(self.reference)
