"""What the journal says: each entry a fact, as canonical bytes.

An entry is a msgpack array in fixed order and shortest forms; its first element is ``version * 256 + kind``, so a
new field means a new version and old bytes stay readable for ever. msgspec writes them (0.2 µs); the tests re-read
and re-write every kind with the ``msgpack`` package, the independent reference of the format. Sums are minor units,
times microseconds since 1970 UTC, ids 16 bytes; the leaf of the Merkle tree is the entry's bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from fortress.errors import JournalCorrupt

VERSION = 1 << 8
FactPairs = tuple[tuple[str, int | str], ...]


class Entry(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What all entries share: ``time_us``, the time of the commit that wrote it."""

    time_us: int


class LedgerOpened(Entry, frozen=True, tag=VERSION + 1):
    """The first entry of a bank: its id and its currencies."""

    bank: str
    currencies: tuple[str, ...]


class Posted(Entry, frozen=True, tag=VERSION + 2):
    """Money moved. ``held`` is the hold's amount when a hold was posted (its rest is freed), else 0.

    ``value_date`` is empty for the day of ``time_us``; ``original`` is the id that a reversal undoes, else empty;
    ``gateway_sequence`` is 0 within one bank, else the position of the decision in the gateway's ledger;
    ``order_signature`` is the customer's over the order, or empty; ``counterparty`` is ``bank/number`` of the account
    on the other side of a payment between banks (at a gateway: ``payer's>payee's``), or empty.
    """

    id: bytes
    debit: int
    credit: int
    amount: int
    currency: str
    kind: int
    reference: str
    debit_balance: int
    credit_balance: int
    actor: int
    held: int = 0
    value_date: str = ""
    original: bytes = b""
    gateway_sequence: int = 0
    order_signature: bytes = b""
    counterparty: str = ""


class HoldPlaced(Entry, frozen=True, tag=VERSION + 3):
    """Money reserved; ``debit_pending`` and ``credit_pending`` are the accounts' counters after it.

    ``counterparty`` as in :class:`Posted`.
    """

    id: bytes
    debit: int
    credit: int
    amount: int
    currency: str
    expires_us: int
    reference: str
    debit_pending: int
    credit_pending: int
    actor: int
    order_signature: bytes = b""
    counterparty: str = ""


class HoldReleased(Entry, frozen=True, tag=VERSION + 4):
    """A hold was voided or expired (``state``); the counters are those after it.

    ``reason`` is why a payment between banks was given up: a status, or the code of an error (1000 and more); else 0.
    """

    id: bytes
    state: int
    debit: int
    credit: int
    amount: int
    debit_pending: int
    credit_pending: int
    actor: int
    reason: int = 0


class Refused(Entry, frozen=True, tag=VERSION + 5):
    """A command was refused; the same id repeats it. ``digest`` tells whether a repeat has the same content."""

    id: bytes
    status: int
    digest: bytes
    operation: str
    account: int
    facts: FactPairs
    actor: int


class AccountOpened(Entry, frozen=True, tag=VERSION + 6):
    """An account came to be."""

    id: bytes
    number: int
    owner: int
    kind: int
    currency: str
    floor: int | None
    actor: int


class AccountChanged(Entry, frozen=True, tag=VERSION + 7):
    """State, floor or limits of an account were set; all are given as they are after it."""

    id: bytes
    number: int
    act: str
    state: int
    floor: int | None
    limit_payment: int | None
    limit_day: int | None
    limit_month: int | None
    signed_orders_only: bool
    version: int
    actor: int


class CustomerCreated(Entry, frozen=True, tag=VERSION + 8):
    """A customer came to be; ``invitation`` is the digest of the code used, or empty."""

    id: bytes
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
    invitation: bytes
    actor: int


class KeyChanged(Entry, frozen=True, tag=VERSION + 9):
    """A customer's login key was replaced."""

    customer: int
    salt: bytes
    memory_kib: int
    iterations: int
    lanes: int
    sealed_public: bytes
    signing: bytes
    actor: int


class ProfileChanged(Entry, frozen=True, tag=VERSION + 10):
    """A customer's personal data was replaced (ciphertext under the customer's own key)."""

    customer: int
    profile: bytes
    actor: int


class CustomerChanged(Entry, frozen=True, tag=VERSION + 11):
    """Roles or state of a customer were set; all are given as they are after it."""

    id: bytes
    customer: int
    act: str
    roles: tuple[str, ...]
    state: int
    locked_until_us: int
    actor: int


class Invited(Entry, frozen=True, tag=VERSION + 12):
    """A one-use invitation was made."""

    id: bytes
    digest: bytes
    role: str
    expires_us: int
    actor: int


class ApprovalAsked(Entry, frozen=True, tag=VERSION + 13):
    """An administrator asked for an act that needs a second one."""

    id: bytes
    operation: str
    command: bytes
    summary: str
    actor: int


class ApprovalDecided(Entry, frozen=True, tag=VERSION + 14):
    """A second administrator approved or declined."""

    id: bytes
    approved: bool
    actor: int


class SessionEnded(Entry, frozen=True, tag=VERSION + 15):
    """A session was ended by its owner; its tokens are refused until they have all expired."""

    customer: int
    session: bytes
    until_us: int


class BankChanged(Entry, frozen=True, tag=VERSION + 16):
    """A bank was added to this gateway, suspended or resumed (``act``); all is given as it is after it.

    ``number`` counts the gateway's banks from 1; their position accounts are owned by ``-number``. ``authority`` is the
    DER certificate of the bank's own authority: whoever shows a certificate of it for this name is that bank.
    """

    id: bytes
    number: int
    bank: str
    act: str
    state: int
    authority: bytes
    actor: int


class WindowClosed(Entry, frozen=True, tag=VERSION + 17):
    """A settlement window ended: the payments decided at the positions after ``after`` and up to ``to``."""

    id: bytes
    number: int
    after: int
    to: int
    actor: int


class LedgerRestored(Entry, frozen=True, tag=VERSION + 18):
    """The bank went on from a backup made at ``copied_us``; what another history may hold from here on does not count.

    It is the only entry of its record, which is the first of a new epoch.
    """

    copied_us: int


AnyEntry = (
    LedgerOpened
    | Posted
    | HoldPlaced
    | HoldReleased
    | Refused
    | AccountOpened
    | AccountChanged
    | CustomerCreated
    | KeyChanged
    | ProfileChanged
    | CustomerChanged
    | Invited
    | ApprovalAsked
    | ApprovalDecided
    | SessionEnded
    | BankChanged
    | WindowClosed
    | LedgerRestored
)
KINDS: dict[int, type[Entry]] = {
    cls.__struct_config__.tag: cls  # type checked below: every kind has an int tag
    for cls in Entry.__subclasses__()
    if isinstance(cls.__struct_config__.tag, int)
}
MONEY_KINDS = (Posted, HoldPlaced, HoldReleased)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(AnyEntry)

encode = _encoder.encode


def decode(data: bytes) -> AnyEntry:
    """Read an entry from its canonical bytes.

    Raises:
        JournalCorrupt: the bytes are no entry of a version known here.
    """
    try:
        entry: AnyEntry = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise JournalCorrupt(f"an entry cannot be read: {error}") from error
    return entry
