"""What can be asked of the ledger: one frozen struct per command, with who asks and the ids made by the caller.

Commands are checked for form before they come here (types, lengths, ranges); the rules judge their meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from fortress.ledger.model import Actor


class Command(Struct, frozen=True, gc=False):
    """What all commands share: who asks."""

    actor: Actor


class MoveMoney(Command, frozen=True):
    """Move money between two accounts; ``kind`` is a :class:`~fortress.ledger.model.TransferKind`."""

    kind: int
    id: bytes
    debit: int
    credit: int
    amount: int
    currency: str
    reference: str = ""
    value_date: str = ""
    order_signature: bytes = b""


class BatchRow(Protocol):
    """One transfer of a batch, as it came off the wire."""

    @property
    def id(self) -> bytes: ...
    @property
    def debit(self) -> int: ...
    @property
    def credit(self) -> int: ...
    @property
    def amount_minor(self) -> int: ...
    @property
    def reference(self) -> str: ...


class MoveBatch(Command, frozen=True):
    """Move money many times: all or none when ``atomic``, else each on its own."""

    currency: str
    rows: Sequence[BatchRow]
    atomic: bool


class PlaceHold(Command, frozen=True):
    """Reserve money until ``expires_us``."""

    id: bytes
    debit: int
    credit: int
    amount: int
    currency: str
    expires_us: int
    reference: str = ""


class PostHold(Command, frozen=True):
    """Take what the hold of this id reserved, or a part (0: all)."""

    id: bytes
    amount: int = 0


class ReleaseHold(Command, frozen=True):
    """Free what the hold of this id reserved: voided by a party, or expired by the bank's clock."""

    id: bytes
    state: int


class PlacePayment(Command, frozen=True):
    """Reserve money for one leg of a payment between banks; only committing or aborting it ends the hold.

    At the payer's bank it goes from the payer to the settlement account and the payer asks; at the payee's bank from
    the settlement account to the payee, at a gateway between two banks' positions, and the switch asks.
    ``not_after_us``: refuse what is placed later (0: no bound); it is no part of what tells a repeat from another use.
    """

    id: bytes
    debit: int
    credit: int
    amount: int
    currency: str
    counterparty: str
    reference: str = ""
    order_signature: bytes = b""
    not_after_us: int = 0


class CommitPayment(Command, frozen=True):
    """Post the whole hold of a payment; ``gateway_sequence`` is the gateway's decision (0 at the gateway itself)."""

    id: bytes
    gateway_sequence: int = 0


class AbortPayment(Command, frozen=True):
    """Void the hold of a payment; an unknown id is remembered as refused, so that its placing cannot come later."""

    id: bytes
    reason: int


class ChangeBank(Command, frozen=True):
    """Add a bank to this gateway, suspend or resume it (``act``: add, suspend, resume)."""

    id: bytes
    bank: str
    act: str
    authority: bytes = b""


class CloseWindow(Command, frozen=True):
    """End the settlement window at the position ``to``; the next one begins behind it."""

    id: bytes
    to: int


class ReverseMoney(Command, frozen=True):
    """Undo the transfer ``original``, whole (0) or in part."""

    id: bytes
    original: bytes
    amount: int = 0
    reference: str = ""


class OpenAccount(Command, frozen=True):
    """Open an account for ``owner``."""

    id: bytes
    owner: int
    kind: int
    currency: str
    floor: int | None = 0


class ChangeAccount(Command, frozen=True):
    """Set state or limits; ``act`` is freeze, freeze_debits, unfreeze, close, reopen or limits."""

    id: bytes
    number: int
    act: str
    floor: int | None = 0
    limit_payment: int | None = None
    limit_day: int | None = None
    limit_month: int | None = None
    signed_orders_only: bool = False


class KeyData(Struct, frozen=True, gc=False):
    """A login key as the bank keeps it: salt and parameters open, the public point sealed."""

    salt: bytes
    memory_kib: int
    iterations: int
    lanes: int
    sealed_public: bytes
    signing: bytes


class CreateCustomer(Command, frozen=True):
    """Create a customer; ``handle`` is the keyed hash of the username, ``profile`` ciphertext.

    ``invitation`` is the digest of the code used, or empty for an administrator's hand.
    """

    id: bytes
    handle: bytes
    roles: tuple[str, ...]
    key: KeyData
    profile: bytes
    invitation: bytes = b""


class ChangeKey(Command, frozen=True):
    """Replace a customer's login key."""

    customer: int
    key: KeyData


class ChangeProfile(Command, frozen=True):
    """Replace a customer's personal data (ciphertext)."""

    customer: int
    profile: bytes


class ChangeCustomer(Command, frozen=True):
    """Set roles or state; ``act`` is roles, lock, unlock or erase."""

    id: bytes
    customer: int
    act: str
    roles: tuple[str, ...] = ()
    locked_until_us: int = 0


class Invite(Command, frozen=True):
    """Make a one-use invitation."""

    id: bytes
    digest: bytes
    role: str
    expires_us: int


class AskApproval(Command, frozen=True):
    """Ask a second administrator for an act; ``command`` is the request as it came, to be done on approval."""

    id: bytes
    operation: str
    command: bytes
    summary: str


class DecideApproval(Command, frozen=True):
    """Approve or decline what another administrator asked for."""

    id: bytes
    approved: bool


class EndSession(Command, frozen=True):
    """End a session for good."""

    customer: int
    session: bytes
    until_us: int


class OpenLedger(Command, frozen=True):
    """Write the first entries of a bank: its id, its currencies, a cash account for each."""

    bank: str
    currencies: tuple[str, ...]
