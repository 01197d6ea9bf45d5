"""Messages that read: history, statements, receipts, heads, pushes."""

from __future__ import annotations

import msgspec

from fortress.protocol.fields import (
    Answer,
    Count,
    Id,
    Names,
    Number,
    Numbers,
    PageSize,
    Position,
    Request,
    StaleMsMax,
    Text140,
    TimeUs,
)


class Head(Request, frozen=True):
    """Ask for the signed head of the journal."""


class HeadAnswer(Answer, frozen=True):
    bank: str
    epoch: int
    tree_size: int
    root: bytes
    time_us: int
    signature: bytes
    key: bytes


class History(Request, frozen=True):
    """Page through an account's entries, newest first; ``cursor`` 0 starts, the answer's goes on."""

    account: Number
    cursor: Position = 0
    limit: PageSize = 50
    kinds: Names = msgspec.field(default_factory=list)
    from_us: TimeUs = 0
    to_us: TimeUs = 0
    amount_min_minor: Count = 0
    amount_max_minor: Count = 0
    counterparty: Count = 0
    text: Text140 = ""
    as_of_us: TimeUs = 0
    min_position: Position = 0
    stale_ms_max: StaleMsMax = 0


class HistoryRow(Answer, frozen=True):
    """One entry seen from the account: ``amount_minor`` is signed, ``balance_minor`` the account's after it.

    ``elsewhere`` is ``bank/number`` of the other side of a payment between banks; ``counterparty`` is then this bank's
    settlement account.
    """

    position: int
    time_us: int
    id: bytes
    kind: str
    amount_minor: int
    balance_minor: int | None
    counterparty: int
    reference: str
    value_date: str = ""
    elsewhere: str = ""


class HistoryAnswer(Answer, frozen=True):
    """``cursor`` 0: the end was reached. ``stale_ms``: how old at most; 0: of the primary."""

    rows: list[HistoryRow]
    cursor: int
    position: int
    stale_ms: int = 0


class Statement(Request, frozen=True):
    """Cut a statement: opening and closing balance, sums and rows of a span of time, oldest first."""

    account: Number
    from_us: TimeUs
    to_us: TimeUs
    cursor: Position = 0
    limit: PageSize = 500
    min_position: Position = 0
    stale_ms_max: StaleMsMax = 0


class StatementAnswer(Answer, frozen=True):
    """``stale_ms``: how old at most; 0: of the primary."""

    opening_minor: int
    closing_minor: int
    debits_minor: int
    credits_minor: int
    rows: list[HistoryRow]
    cursor: int
    position: int
    currency: str
    head: HeadAnswer
    stale_ms: int = 0


class GetTransfer(Request, frozen=True):
    """Look a transfer, hold or refusal up by its id."""

    id: Id


class TransferView(Answer, frozen=True):
    id: bytes
    status: int
    state: str
    debit: int
    credit: int
    amount_minor: int
    currency: str
    kind: str
    reference: str
    position: int
    time_us: int


class Receipt(Request, frozen=True):
    """Prove an entry: its bytes, the path to the root, and the signed head.

    Of a hold that was posted, the posting is proven. A ``position`` names the entry itself, such as that of a payment
    between banks that took more than one attempt; it must concern the asker.
    """

    id: Id
    position: Position = 0


class ReceiptAnswer(Answer, frozen=True):
    position: int
    entry: bytes
    path: list[bytes]
    head: HeadAnswer


class Consistency(Request, frozen=True):
    """Prove that the journal of ``old_size`` entries is the beginning of the present one."""

    old_size: Count


class ConsistencyAnswer(Answer, frozen=True):
    path: list[bytes]
    head: HeadAnswer


class Subscribe(Request, frozen=True):
    """Push every entry that touches these accounts (none: all one's own) from a position on."""

    accounts: Numbers = msgspec.field(default_factory=list)
    from_position: Position = 0


class Unsubscribe(Request, frozen=True):
    """Stop the pushes."""


class EntryPush(Answer, frozen=True):
    """The push of topic ``entry``: one committed entry that touches a subscribed account."""

    account: int
    row: HistoryRow
