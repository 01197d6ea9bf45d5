"""Messages of a gateway's operators: its banks, their positions, the windows in which they settle."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fortress.protocol.fields import Answer, Count, Currency, Id, Minor, PageSize, Request

BankName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,31}\Z", description="a bank's id")]


class ListBanks(Request, frozen=True):
    """List the banks that can be paid: at a bank as its gateway last told, at a gateway as they are."""


class BankView(Answer, frozen=True):
    """A bank: ``state`` active or suspended; ``is_connected`` and what follows as its primary last said."""

    bank: str
    state: str
    is_connected: bool
    node: str = ""
    epoch: int = 0
    addresses: list[str] = []
    since_us: int = 0


class BanksAnswer(Answer, frozen=True):
    banks: list[BankView]


class AddBank(Request, frozen=True):
    """Let a bank register (administrator, second administrator); ``cap_minor`` is its net debit cap.

    Asked again with another currency it adds that position. ``authority`` is the PEM certificate of the bank's own
    authority, needed the first time.
    """

    id: Id
    bank: BankName
    currency: Currency
    cap_minor: Count
    authority: Annotated[str, Meta(max_length=16_384)] = ""


class SuspendBank(Request, frozen=True):
    """Refuse a bank's payments from now on, or take them again with ``resume`` (administrator)."""

    id: Id
    bank: BankName
    resume: bool = False


class ListPositions(Request, frozen=True):
    """List where the banks stand with each other, at a gateway."""


class PositionView(Answer, frozen=True):
    """One bank's position in one currency: below zero it owes; down to ``-cap_minor`` it may pay."""

    bank: str
    currency: str
    account: int
    position_minor: Minor
    reserved_minor: int
    cap_minor: int


class PositionsAnswer(Answer, frozen=True):
    positions: list[PositionView]
    position: int


class ListWindows(Request, frozen=True):
    """List settlement windows, newest first; number 0 is the one that is open."""

    limit: PageSize = 20


class WindowRow(Answer, frozen=True):
    """What one bank paid and was paid within a window; ``root`` is the Merkle root over those payments.

    ``agrees``: yes, no, or unknown while the bank cannot be asked; ``differs`` names the payment that differs.
    """

    bank: str
    currency: str
    payments: int
    out_minor: int
    in_minor: int
    net_minor: Minor
    root: bytes = b""
    agrees: str = "unknown"
    differs: str = ""


class WindowView(Answer, frozen=True):
    """A window: payments decided after one position of the gateway's ledger and up to another."""

    number: int
    after: int
    to: int
    closed_us: int = 0
    rows: list[WindowRow] = []


class WindowsAnswer(Answer, frozen=True):
    windows: list[WindowView]


class GetWindow(Request, frozen=True):
    """Report one window (0: the open one) and compare it with the banks' own books."""

    number: Count = 0


class CloseWindow(Request, frozen=True):
    """Close the open window (administrator); refused while a bank has not carried out all of its payments."""

    id: Id
