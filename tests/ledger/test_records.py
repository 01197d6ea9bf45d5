"""Records: bytes that are one and only, hashes that chain, and everything that must not follow."""

from __future__ import annotations

import hashlib
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fortress.errors import ChainBroken, JournalCorrupt, MessageTooLarge
from fortress.ledger import records
from fortress.ledger.records import (
    FIRST_POSITION,
    GENESIS_HASH,
    RECORD_SIZE_BYTES_MAX,
    Record,
    check_follows,
    decode,
    encode,
    entries,
    hash_of,
    header_bytes,
    make_record,
)

ROOT = hashlib.sha256(b"root").digest()


def made(
    *facts: bytes,
    previous: Record | None = None,
    bank: str = "alpha",
    epoch: int = 1,
    time_us: int = 1_000,
    commit_lsn: int = 0,
) -> Record:
    return make_record(
        list(facts), previous=previous, bank=bank, epoch=epoch, time_us=time_us, commit_lsn=commit_lsn, tree_root=ROOT
    )


def rehashed(record: Record, **changes: Any) -> Record:
    """The record with other fields, and the hash that fits them."""
    changed = msgspec.structs.replace(record, **changes)
    return msgspec.structs.replace(changed, hash=hash_of(changed))


def test_the_first_record_starts_the_chain() -> None:
    """Number 1, first position, and 32 zero bytes before it."""
    record = made(b"one", b"two")
    assert (record.lsn, record.first_position, record.count, record.tree_size) == (1, FIRST_POSITION, 2, 2)
    assert record.previous_hash == GENESIS_HASH == bytes(32)
    check_follows(None, record)


def test_the_next_record_continues_numbers_positions_and_hash() -> None:
    """The second record takes over where the first ended."""
    first = made(b"one", b"two")
    second = made(b"three", previous=first, commit_lsn=1)
    assert (second.lsn, second.first_position, second.tree_size) == (2, first.first_position + 2, 3)
    assert second.previous_hash == first.hash
    check_follows(first, second)


def test_the_hash_is_that_of_previous_hash_header_and_payload() -> None:
    """Anybody can compute it with msgpack and SHA-256 alone."""
    first = made(b"one")
    record = made(b"two", b"", previous=first, epoch=3, time_us=2_000, commit_lsn=1)
    header = msgpack.packb([1, "alpha", 3, 2, FIRST_POSITION + 1, 2, 2_000, 1, 3, ROOT])
    payload = msgpack.packb([b"two", b""])
    assert header_bytes(record) == header
    assert record.payload == payload
    assert record.hash == hashlib.sha256(first.hash + header + payload).digest()


def test_the_encoding_is_plain_msgpack() -> None:
    """Header fields, previous hash, hash, payload: one array that any msgpack reader takes apart."""
    record = made(b"one")
    fields = [1, "alpha", 1, 1, FIRST_POSITION, 1, 1_000, 0, 1, ROOT, GENESIS_HASH, record.hash, record.payload]
    assert msgpack.unpackb(encode(record)) == fields
    assert encode(record) == msgpack.packb(fields)


@given(st.lists(st.binary(max_size=300), max_size=40), st.integers(0, 2**63 - 1), st.text(min_size=1, max_size=20))
@settings(max_examples=80, deadline=None)
def test_every_record_comes_back_as_it_was(facts: list[bytes], time_us: int, bank: str) -> None:
    """Decode undoes encode, and the entries come out in order."""
    try:
        bank.encode()
    except UnicodeEncodeError:
        return
    record = made(*facts, bank=bank, time_us=time_us)
    again = decode(encode(record))
    assert again == record
    assert entries(again) == facts


def test_any_flipped_byte_is_refused() -> None:
    """No byte of an encoded record may change without an error."""
    data = encode(made(b"some entry", b"another"))
    for i in range(len(data)):
        for mask in (0x01, 0x80):
            with pytest.raises((JournalCorrupt, ChainBroken)):
                decode(data[:i] + bytes([data[i] ^ mask]) + data[i + 1 :])


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_random_bytes_are_refused(data: bytes) -> None:
    """Decoding answers garbage with an error of the ledger."""
    with pytest.raises(JournalCorrupt):
        decode(data)


def test_another_spelling_of_the_same_record_is_refused() -> None:
    """A longer form of a number, or bytes behind the record, is not canonical."""
    data = encode(made(b"one"))
    longer = data.replace(b"\x01\xa5alpha", b"\xcc\x01\xa5alpha", 1)
    assert msgpack.unpackb(longer) == msgpack.unpackb(data)
    with pytest.raises(JournalCorrupt, match="canonical"):
        decode(longer)
    with pytest.raises(JournalCorrupt, match="not a record"):
        decode(data + b"\x00")


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"bank": ""}, {"lsn": -1}, {"time_us": 2**63}, {"tree_root": bytes(31)}, {"hash": b""}],
    ids=str,
)
def test_values_out_of_range_are_refused(change: dict[str, Any]) -> None:
    """Numbers, names and hashes outside their bounds never become a record."""
    record = msgspec.structs.replace(made(b"one"), **change)
    with pytest.raises(JournalCorrupt, match="not a record"):
        decode(encode(record))


def test_a_tree_size_that_does_not_fit_is_refused() -> None:
    """The tree has as many leaves as there are entries up to here."""
    with pytest.raises(JournalCorrupt, match="leaves"):
        decode(encode(rehashed(made(b"one"), tree_size=9)))


def test_a_record_over_the_limit_is_neither_made_nor_decoded() -> None:
    """16 MiB is the most a record may have."""
    with pytest.raises(MessageTooLarge):
        made(bytes(RECORD_SIZE_BYTES_MAX))
    with pytest.raises(JournalCorrupt, match="over"):
        decode(bytes(RECORD_SIZE_BYTES_MAX + 1))
    largest = made(bytes(RECORD_SIZE_BYTES_MAX - 1024 - 6))
    assert decode(encode(largest)) == largest


@pytest.mark.parametrize(
    "payload", [b"", b"\x90", b"\x92\xc4\x00\xc4\x00", b"\x91\xa1a", b"\x91\xc5\x00\x01a", b"\x91" * 2000]
)
def test_a_payload_that_is_no_array_of_its_entries_is_refused(payload: bytes) -> None:
    """Too few, too many, text, longer forms and deep nesting are all told."""
    record = rehashed(made(b"a"), payload=payload)
    with pytest.raises(JournalCorrupt, match="payload of record 1"):
        entries(record)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"lsn": 3}, "record 2 must follow"),
        ({"lsn": 1}, "record 2 must follow"),
        ({"previous_hash": bytes(32)}, "previous hash"),
        ({"first_position": 7}, "position"),
        ({"bank": "beta"}, "bank"),
        ({"epoch": 4}, "epoch"),
        ({"time_us": 999}, "time"),
        ({"commit_lsn": 2}, "claims that 2 is committed"),
    ],
    ids=str,
)
def test_a_record_that_does_not_continue_is_refused(change: dict[str, Any], reason: str) -> None:
    """Gaps, repetitions, other histories and going back are each told by name."""
    first = made(b"one", epoch=5)
    with pytest.raises(ChainBroken, match=reason):
        check_follows(first, rehashed(made(b"two", previous=first, epoch=5, commit_lsn=1), **change))


@pytest.mark.parametrize(
    "change", [{"lsn": 2}, {"previous_hash": ROOT}, {"first_position": 1}, {"commit_lsn": 1}], ids=str
)
def test_a_record_that_is_not_the_first_does_not_follow_nothing(change: dict[str, Any]) -> None:
    """Before the first record there is nothing else."""
    with pytest.raises(ChainBroken):
        check_follows(None, rehashed(made(b"one"), **change))


def test_what_is_committed_does_not_go_back() -> None:
    """A later record knows at least what an earlier one knew."""
    first = made(b"one")
    second = made(b"two", previous=first, commit_lsn=1)
    with pytest.raises(ChainBroken, match="commit_lsn from 1 to 0"):
        check_follows(second, made(b"three", previous=second, commit_lsn=0))


def test_a_record_may_be_empty() -> None:
    """A record without entries moves the chain and not the positions."""
    first = made(b"one")
    empty = made(previous=first)
    assert entries(empty) == []
    assert made(b"two", previous=empty).first_position == first.first_position + 1


def test_a_record_cannot_be_changed() -> None:
    """Fields are read-only."""
    with pytest.raises(AttributeError):
        setattr(made(b"one"), "lsn", 2)  # noqa: B010
    assert records.FIRST_LSN == 1
