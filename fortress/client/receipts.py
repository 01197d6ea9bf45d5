"""Receipts and heads, checked on the customer's own machine: no server is asked and none is believed.

A receipt shows that an entry is in the bank's journal: the entry's bytes, the path from its leaf to the root, and a
head in which the bank signed that root. Whoever keeps heads and asks for consistency proofs between them notices when
history was rewritten.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from fortress.errors import IntegrityFailed, UsageError
from fortress.protocol import proofs
from fortress.protocol.reading import HeadAnswer, ReceiptAnswer

RECEIPT_SIZE_BYTES_MAX = 1024 * 1024


def verify_head(head: HeadAnswer, *, bank: str = "", keys: Collection[bytes] = ()) -> None:
    """Check a signed head.

    Args:
        bank: the bank it must be of; empty for any.
        keys: Ed25519 public keys of which one must have signed it; none given: the key in the head, which then proves
            only that the head is whole.

    Raises:
        IntegrityFailed: it is not what it claims to be.
    """
    if bank and head.bank != bank:
        raise IntegrityFailed(f"the head is of the bank {head.bank!r}, not of {bank!r}")
    if keys and head.key not in keys:
        raise IntegrityFailed("the head is signed with a key that is not known")
    statement = proofs.head_statement(
        bank=head.bank, epoch=head.epoch, tree_size=head.tree_size, root=head.root, time_us=head.time_us
    )
    if not proofs.verify_head(statement, signature=head.signature, key=head.key):
        raise IntegrityFailed("the signature of the head is wrong")


def verify_receipt(receipt: ReceiptAnswer, *, bank: str = "", keys: Collection[bytes] = (), id: bytes = b"") -> None:
    """Check a receipt.

    Args:
        bank: as in :func:`verify_head`.
        keys: as in :func:`verify_head`.
        id: what the entry must be about; empty for anything.

    Raises:
        IntegrityFailed: it does not prove that the entry is in the journal.
    """
    head = receipt.head
    verify_head(head, bank=bank, keys=keys)
    leaf = proofs.leaf_hash(receipt.entry)
    # positions count entries and begin with 1; RFC 9162 numbers leaves from 0
    if not proofs.verify_inclusion(leaf, receipt.position - 1, head.tree_size, receipt.path, head.root):
        raise IntegrityFailed(f"the path does not lead from entry {receipt.position} to the root of the head")
    if id and id not in entry_fields(receipt):
        raise IntegrityFailed("the receipt is for another id than the one asked for")


def verify_consistency(old: HeadAnswer, new: HeadAnswer, path: Sequence[bytes]) -> None:
    """Check that the journal under the new head begins with the journal under the old one; both heads must be good.

    Raises:
        IntegrityFailed: it does not: history was rewritten or cut, or the proof is wrong.
    """
    if old.bank != new.bank:
        raise IntegrityFailed(f"the heads are of two banks, {old.bank!r} and {new.bank!r}")
    if not proofs.verify_consistency(old.tree_size, old.root, new.tree_size, new.root, path):
        facts = {"old_size": old.tree_size, "new_size": new.tree_size, "old_epoch": old.epoch, "new_epoch": new.epoch}
        raise IntegrityFailed("the journal does not continue the one seen before", {**facts})


def entry_fields(receipt: ReceiptAnswer) -> list[Any]:
    """Give the fields of the receipt's entry, in their order; the first is 256 times its version plus its kind.

    Raises:
        IntegrityFailed: the entry is no msgpack array.
    """
    try:
        return msgspec.msgpack.decode(receipt.entry, type=list[Any])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise IntegrityFailed("the entry of the receipt cannot be read") from exc


def encode_receipt(receipt: ReceiptAnswer) -> bytes:
    """Write a receipt as JSON to keep in a file; bytes are in base64."""
    return msgspec.json.format(msgspec.json.encode(receipt), indent=2) + b"\n"


def decode_receipt(data: bytes) -> ReceiptAnswer:
    """Read a receipt from its file.

    Raises:
        UsageError: this is no receipt.
    """
    if len(data) > RECEIPT_SIZE_BYTES_MAX:
        raise UsageError(f"a receipt has at most {RECEIPT_SIZE_BYTES_MAX} bytes, not {len(data)}")
    try:
        return msgspec.json.decode(data, type=ReceiptAnswer)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise UsageError(f"this is not a receipt: {exc}") from exc


class HeadMemory:
    """Remembers the newest head of one bank and refuses what does not fit it.

    Args:
        bank: the bank's id.

    Attributes:
        last: the newest head that was good, or None.
    """

    def __init__(self, bank: str) -> None:
        self._bank = bank
        self.last: HeadAnswer | None = None

    def see(self, head: HeadAnswer) -> None:
        """Take a head that the bank has shown.

        Raises:
            IntegrityFailed: its signature is wrong, or it contradicts the last one: another root for the same size,
                or a smaller journal in a later epoch, which is what a restore from an old backup looks like.
        """
        verify_head(head, bank=self._bank)
        last = self.last
        if last is not None:
            if head.tree_size == last.tree_size and head.root != last.root:
                raise IntegrityFailed("the bank shows two histories of the same length", {"tree_size": head.tree_size})
            if head.epoch > last.epoch and head.tree_size < last.tree_size:
                facts = {"seen_size": last.tree_size, "tree_size": head.tree_size}
                raise IntegrityFailed("the journal has become shorter", {**facts})
            if head.tree_size < last.tree_size:
                return  # an older head of the same epoch, such as a receipt's
        self.last = head

    def see_next(self, head: HeadAnswer, path: Sequence[bytes], old: HeadAnswer) -> None:
        """Take a head together with the proof that it continues an older one.

        Raises:
            IntegrityFailed: it does not.
        """
        verify_head(head, bank=self._bank)
        verify_consistency(old, head, path)
        self.see(head)
