"""Tests of receipts and heads checked without a server."""

from __future__ import annotations

import msgspec
import pytest

from fortress.client.receipts import (
    RECEIPT_SIZE_BYTES_MAX,
    HeadMemory,
    decode_receipt,
    encode_receipt,
    entry_fields,
    verify_consistency,
    verify_head,
    verify_receipt,
)
from fortress.errors import IntegrityFailed, UsageError
from fortress.protocol.reading import HeadAnswer, ReceiptAnswer
from tests.client.fake_bank import Books

BANK = "a"
IDS = [number.to_bytes(16, "big") for number in range(1, 8)]
change = msgspec.structs.replace


def no_tile(level: int, index: int) -> bytes:
    return b""


@pytest.fixture
def books() -> Books:
    """Seven transfers."""
    books = Books()
    books.add_user("alice", b"a" * 32, 1000)
    books.add_user("bob", b"b" * 32)
    for id in IDS:
        books.move(id, 100, 101, 5, None)
    return books


@pytest.fixture
def receipt(books: Books) -> ReceiptAnswer:
    """The receipt for the third of them."""
    return ReceiptAnswer(4, books.entries[3], books.tree.inclusion_proof(3, no_tile), books.head(BANK))


def test_a_receipt_proves_its_entry(receipt: ReceiptAnswer) -> None:
    """For the right bank, key and id, without asking anybody."""
    verify_receipt(receipt, bank=BANK, keys=[receipt.head.key], id=IDS[2])
    verify_receipt(receipt)
    assert entry_fields(receipt)[5] == 5


def test_a_receipt_for_something_else_is_refused(receipt: ReceiptAnswer, books: Books) -> None:
    """Another entry, place, path, id, bank or key, or a head that was changed."""
    other = Books().head(BANK)
    for bad in (
        change(receipt, entry=books.entries[4]),
        change(receipt, position=3),
        change(receipt, path=receipt.path[:-1]),
        change(receipt, head=change(receipt.head, root=bytes(32))),
        change(receipt, head=change(receipt.head, signature=bytes(64))),
        change(receipt, head=other),
    ):
        with pytest.raises(IntegrityFailed):
            verify_receipt(bad)
    with pytest.raises(IntegrityFailed, match="another id"):
        verify_receipt(receipt, id=IDS[0])
    with pytest.raises(IntegrityFailed, match="of the bank 'a', not of 'b'"):
        verify_receipt(receipt, bank="b")
    with pytest.raises(IntegrityFailed, match="not known"):
        verify_receipt(receipt, keys=[other.key])


def test_a_receipt_is_kept_in_a_file(receipt: ReceiptAnswer) -> None:
    """Written and read again it proves the same."""
    data = encode_receipt(receipt)
    assert decode_receipt(data) == receipt
    assert data.startswith(b"{") and data.endswith(b"}\n")


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b"[" * 100_000, b"x" * (RECEIPT_SIZE_BYTES_MAX + 1)])
def test_a_file_that_is_no_receipt_is_refused(data: bytes) -> None:
    """As wrong use, whatever is in it."""
    with pytest.raises(UsageError):
        decode_receipt(data)


@pytest.mark.parametrize("entry", [b"", b"\xc1", b"\x80", b"\x91" * 100_000])
def test_an_entry_that_cannot_be_read_is_refused(receipt: ReceiptAnswer, entry: bytes) -> None:
    """It proves nothing."""
    with pytest.raises(IntegrityFailed, match="cannot be read"):
        entry_fields(change(receipt, entry=entry))


def test_a_journal_that_goes_on_is_proven(books: Books) -> None:
    """A later head with its proof is good; the same with another past, or of another bank, is not."""
    old = books.head(BANK)
    books.move(bytes(16), 100, 101, 5, None)
    new, path = books.head(BANK), books.tree.consistency_proof(old.tree_size, no_tile)
    verify_consistency(old, new, path)
    with pytest.raises(IntegrityFailed, match="does not continue"):
        verify_consistency(change(old, root=bytes(32)), new, path)
    with pytest.raises(IntegrityFailed, match="two banks"):
        verify_consistency(change(old, bank="b"), new, path)


def sign(books: Books, **changes: object) -> HeadAnswer:
    """Sign a head with some fields changed, as a bank that cheats would."""
    from fortress.protocol.proofs import head_statement

    head = change(books.head(BANK), **changes)
    statement = head_statement(
        bank=head.bank, epoch=head.epoch, tree_size=head.tree_size, root=head.root, time_us=head.time_us
    )
    return change(head, signature=books.key.sign(statement))


def test_two_histories_of_one_length_are_noticed(books: Books) -> None:
    """The memory of the last head catches a bank that shows another root for the same size."""
    memory = HeadMemory(BANK)
    memory.see(books.head(BANK))
    with pytest.raises(IntegrityFailed, match="two histories"):
        memory.see(sign(books, root=bytes(32)))


def test_a_journal_that_became_shorter_is_noticed(books: Books) -> None:
    """A later epoch with fewer entries is a restore that lost some; an older head is just older."""
    memory = HeadMemory(BANK)
    memory.see(books.head(BANK))
    seen = memory.last
    memory.see(sign(books, tree_size=3))
    assert memory.last is seen
    with pytest.raises(IntegrityFailed, match="shorter"):
        memory.see(sign(books, tree_size=3, epoch=2))


def test_the_memory_takes_a_proven_next_head(books: Books) -> None:
    """And refuses one that is not proven."""
    memory = HeadMemory(BANK)
    old = books.head(BANK)
    memory.see(old)
    books.move(bytes(16), 100, 101, 5, None)
    new = books.head(BANK)
    with pytest.raises(IntegrityFailed):
        memory.see_next(new, [], old)
    memory.see_next(new, books.tree.consistency_proof(old.tree_size, no_tile), old)
    assert memory.last is new


def test_a_head_can_be_checked_alone(books: Books) -> None:
    """With the key that must have signed it."""
    head = books.head(BANK)
    verify_head(head, bank=BANK, keys={head.key})
