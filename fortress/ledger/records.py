"""Records: what one group commit made, chained by hashes into one history.

A record is a header and a payload. The header says where the record stands (bank, epoch, record number, positions,
time, Merkle tree after it); the payload is the msgpack array of its entries' canonical bytes. Its hash is
``SHA-256(previous hash || header bytes || payload)``, so one hash speaks for everything before it.

Header bytes are the msgpack array [version, bank, epoch, lsn, first_position, count, time_us, commit_lsn, tree_size,
tree_root] in shortest forms. All of it is fixed when the record is made and never written again, also ``commit_lsn``:
it is what the maker knew to be committed *then*, so both nodes of a pair hold the same bytes and the same hash.
A newer ``commit_lsn`` travels in newer records or beside them, never inside an old one.

A record travels and is stored as one msgpack array: the header's fields, then previous hash, hash and payload.
Exactly one byte string decodes to a given record: whatever is not in shortest form is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from fortress.errors import ChainBroken, JournalCorrupt, MessageTooLarge

GENESIS_HASH = bytes(32)
"""Stands for the previous hash of the first record of a bank."""

RECORD_SIZE_BYTES_MAX = 16 * 1024 * 1024
FIRST_LSN = 1
FIRST_POSITION = 0

Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
BankId = Annotated[str, Meta(min_length=1, max_length=255)]


class Record(msgspec.Struct, frozen=True, array_like=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One group commit; made by :func:`make_record` or :func:`decode`, never changed."""

    version: Literal[1] = 1
    bank: BankId
    """Which bank's history this is."""
    epoch: Number
    """The term in which the record was made; grows with each failover or restore."""
    lsn: Number
    """Record number, from 1 without gaps."""
    first_position: Number
    """Position of the first entry: its leaf number in the Merkle tree, from 0."""
    count: Number
    """Number of entries."""
    time_us: Number
    """When it was made, microseconds since 1970 UTC; never before the record before it."""
    commit_lsn: Number
    """The last record its maker knew to be committed then."""
    tree_size: Number
    """Leaves of the Merkle tree with this record's entries."""
    tree_root: Hash
    """Root of that tree."""
    previous_hash: Hash
    """Hash of the record before."""
    hash: Hash
    """SHA-256(previous hash || header bytes || payload)."""
    payload: bytes
    """The entries: a msgpack array of byte strings."""


_encode = msgspec.msgpack.Encoder().encode
_decode_record = msgspec.msgpack.Decoder(Record).decode
_decode_entries = msgspec.msgpack.Decoder(list[bytes]).decode


def make_record(
    entries: Sequence[bytes],
    *,
    previous: Record | None,
    bank: str,
    epoch: int,
    time_us: int,
    commit_lsn: int,
    tree_root: bytes,
) -> Record:
    """Make the record that follows ``previous`` (None: the bank's first) and holds these entries.

    Args:
        entries: canonical bytes of each entry, in order.
        tree_root: root of the Merkle tree with these entries in it.

    Raises:
        MessageTooLarge: the record would be over ``RECORD_SIZE_BYTES_MAX``; commit fewer entries at once.
    """
    first_position = FIRST_POSITION if previous is None else previous.first_position + previous.count
    payload = _encode(list(entries))
    if len(payload) > RECORD_SIZE_BYTES_MAX - 1024:
        raise MessageTooLarge(f"a record of {len(payload)} bytes is over {RECORD_SIZE_BYTES_MAX}")
    unhashed = Record(
        bank=bank,
        epoch=epoch,
        lsn=FIRST_LSN if previous is None else previous.lsn + 1,
        first_position=first_position,
        count=len(entries),
        time_us=time_us,
        commit_lsn=commit_lsn,
        tree_size=first_position + len(entries),
        tree_root=tree_root,
        previous_hash=GENESIS_HASH if previous is None else previous.hash,
        hash=GENESIS_HASH,
        payload=payload,
    )
    return msgspec.structs.replace(unhashed, hash=hash_of(unhashed))


def header_bytes(record: Record) -> bytes:
    """Encode the header as it is hashed."""
    return _encode(
        (
            record.version,
            record.bank,
            record.epoch,
            record.lsn,
            record.first_position,
            record.count,
            record.time_us,
            record.commit_lsn,
            record.tree_size,
            record.tree_root,
        )
    )


def hash_of(record: Record) -> bytes:
    """Compute the hash that the record ought to carry."""
    digest = hashlib.sha256(record.previous_hash + header_bytes(record))
    digest.update(record.payload)
    return digest.digest()


def encode(record: Record) -> bytes:
    """Encode a record for the journal or for the peer."""
    return _encode(record)


def decode(data: bytes) -> Record:
    """Decode a record and check its hash; whether it follows another is :func:`check_follows`'s to say.

    Raises:
        JournalCorrupt: not a record, too large, or not in canonical form.
        ChainBroken: its hash is not that of its content.
    """
    if len(data) > RECORD_SIZE_BYTES_MAX:
        raise JournalCorrupt(f"a record of {len(data)} bytes is over {RECORD_SIZE_BYTES_MAX}")
    try:
        record = _decode_record(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise JournalCorrupt(f"not a record: {exc}") from exc
    if _encode(record) != data:
        raise JournalCorrupt(f"record {record.lsn} is not in canonical form")
    if record.tree_size != record.first_position + record.count - FIRST_POSITION:
        raise JournalCorrupt(f"record {record.lsn} gives a tree of {record.tree_size} leaves for other positions")
    if hash_of(record) != record.hash:
        raise ChainBroken(f"record {record.lsn} does not have the hash of its content")
    return record


def entries(record: Record) -> list[bytes]:
    """Take the entries' canonical bytes out of a record.

    Raises:
        JournalCorrupt: the payload is no array of ``record.count`` byte strings.
    """
    try:
        found = _decode_entries(record.payload)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise JournalCorrupt(f"payload of record {record.lsn}: {exc}") from exc
    if len(found) != record.count or _encode(found) != record.payload:
        raise JournalCorrupt(f"payload of record {record.lsn} does not hold its {record.count} entries")
    return found


def check_follows(previous: Record | None, record: Record) -> None:
    """Check that a record continues another; ``None`` stands before the bank's first record.

    Raises:
        ChainBroken: another bank, a gap in the numbers or positions, another previous hash, or time, epoch or what is
            committed going back. The message says which.
    """
    lsn = FIRST_LSN if previous is None else previous.lsn + 1
    if record.lsn != lsn:
        raise ChainBroken(f"record {record.lsn} comes where record {lsn} must follow")
    if record.previous_hash != (GENESIS_HASH if previous is None else previous.hash):
        raise ChainBroken(f"record {lsn} carries another previous hash than record {lsn - 1} has")
    position = FIRST_POSITION if previous is None else previous.first_position + previous.count
    if record.first_position != position:
        raise ChainBroken(f"record {lsn} starts at position {record.first_position}, not at {position}")
    if record.commit_lsn >= record.lsn:
        raise ChainBroken(f"record {record.lsn} claims that {record.commit_lsn} is committed")
    if previous is None:
        return
    if record.bank != previous.bank:
        raise ChainBroken(f"record {record.lsn} is of bank {record.bank!r}, the history of {previous.bank!r}")
    for name, before, now in (
        ("epoch", previous.epoch, record.epoch),
        ("time", previous.time_us, record.time_us),
        ("commit_lsn", previous.commit_lsn, record.commit_lsn),
    ):
        if now < before:
            raise ChainBroken(f"record {record.lsn} goes back in {name} from {before} to {now}")
