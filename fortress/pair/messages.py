"""What the two nodes of a bank say to each other, and the configuration that the register holds.

Every message is a msgpack array that begins with its kind; on the socket four bytes of length stand before it. Fields
may be added at the end with a default: an older node leaves them out and skips those it does not know, so nodes of two
neighbouring versions work together. Positions in the journal are marks: a record's number and its hash.
"""

from __future__ import annotations

from typing import Final

import msgspec

GENESIS: Final = bytes(32)
INSTANCE_SIZE_BYTES: Final = 16
NO_LEASE: Final = -1


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """A place in a journal: the number of a record and its hash; number 0 stands before the first."""

    lsn: int = 0
    hash: bytes = GENESIS


class Member(msgspec.Struct, frozen=True, array_like=True):
    """A node with the disk it has now: an empty, restored or cloned folder is another instance."""

    name: str
    instance: bytes


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """What the register holds: who is primary in which epoch, and whose disks hold everything acknowledged.

    Attributes:
        epoch: grows by one with every change.
        primary: is always one of ``in_sync``.
        in_sync: one member, or both, ordered by name.
        witness: id of the register's own storage, so that an exchanged one is noticed.
    """

    epoch: int
    primary: Member
    in_sync: tuple[Member, ...]
    witness: bytes = b""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """First from both sides of a connection.

    Attributes:
        cluster: id of the pair.
        bank: id of the bank.
        member: who speaks.
        version: of this protocol; the lower of both is spoken.
        record_version: newest form of records that the speaker understands.
        promised: highest epoch the speaker has promised.
        end: end of the speaker's durable journal.
        committed: up to where the speaker knows that it is committed.
        applied: up to where its tables are.
        first: oldest record it still has.
        keys_digest: of people's keys, see `fortress.ledger.vault`.
    """

    cluster: bytes
    bank: str
    member: Member
    version: int
    record_version: int
    promised: int
    end: Mark
    committed: int
    applied: int
    first: int = 1
    keys_digest: bytes = b""


class Shipped(msgspec.Struct, frozen=True, array_like=True):
    """A record on its way: where it ends up, and its bytes in clear (the connection and both journals seal them)."""

    mark: Mark
    data: bytes


class Append(msgspec.Struct, frozen=True, array_like=True, tag="append"):
    """From the primary: what follows ``previous``; without records it is the heartbeat.

    Attributes:
        epoch: in which the sender is primary.
        previous: mark that the first record follows; the sender's end when there are no records.
        records: in order.
        committed: everything up to this record is committed.
        sent_us: the sender's own clock, given back with the acknowledgement.
        heard_us: the receiver's clock in the newest acknowledgement that the sender had when it sent this; so this was
            sent after that, however long it was on its way. 0: it had none.
    """

    epoch: int
    previous: Mark
    records: tuple[Shipped, ...]
    committed: int
    sent_us: int = 0
    heard_us: int = 0


class Ack(msgspec.Struct, frozen=True, array_like=True, tag="ack"):
    """From the standby: its journal equals the primary's up to ``durable``, on its disk.

    By sending it the standby promises not to try to take over before its time for that has passed again. It promises
    nothing when ``sent_us`` is ``NO_LEASE``: a takeover that it tried before may still come about. ``clock_us`` is the
    standby's own clock, given back with what the primary sends next.
    """

    epoch: int
    member: Member
    durable: Mark
    applied: int
    sent_us: int = 0
    clock_us: int = 0


class Nack(msgspec.Struct, frozen=True, array_like=True, tag="nack"):
    """From the standby: an append was not taken.

    Attributes:
        epoch: promised by the sender of this.
        reason: ``stale``, ``mismatch``, ``need_snapshot`` or ``disk_full``.
        end: end of its journal.
    """

    epoch: int
    reason: str
    end: Mark


class Locate(msgspec.Struct, frozen=True, array_like=True, tag="locate"):
    """From the primary: marks of its journal, newest first, each further back than the one before."""

    epoch: int
    marks: tuple[Mark, ...]


class Located(msgspec.Struct, frozen=True, array_like=True, tag="located"):
    """The newest of the marks asked for that the standby's journal has too; None when it has none of them."""

    epoch: int
    mark: Mark | None


class Keys(msgspec.Struct, frozen=True, array_like=True, tag="keys"):
    """People's own keys (None: erased), which are never in the journal; durable before what follows is acknowledged.

    Attributes:
        bucket: -1 for single changes; else everything the standby has in this bucket is replaced.
    """

    epoch: int
    keys: tuple[tuple[bytes, bytes | None], ...]
    bucket: int = -1


class SnapshotBegin(msgspec.Struct, frozen=True, array_like=True, tag="snapshot_begin"):
    """Files of a whole bank follow, as of the mark; ``sizes`` by name, in bytes."""

    epoch: int
    mark: Mark
    sizes: dict[str, int]


class SnapshotChunk(msgspec.Struct, frozen=True, array_like=True, tag="snapshot_chunk"):
    """The next bytes of a file of a snapshot."""

    epoch: int
    name: str
    data: bytes


class SnapshotEnd(msgspec.Struct, frozen=True, array_like=True, tag="snapshot_end"):
    """All files are sent; SHA-256 of each by name."""

    epoch: int
    digests: dict[str, bytes]


class Leave(msgspec.Struct, frozen=True, array_like=True, tag="leave"):
    """The sender goes down in order; whoever remains need not wait for a time to pass."""

    epoch: int


class Handover(msgspec.Struct, frozen=True, array_like=True, tag="handover"):
    """From the primary, which takes nothing new: everything ends at ``mark``; be ready to become primary.

    Once more with the new epoch when the register names the other node: look there.
    """

    epoch: int
    mark: Mark


class HandoverReady(msgspec.Struct, frozen=True, array_like=True, tag="handover_ready"):
    """From the standby: all of it is on its disk and in its books."""

    epoch: int
    mark: Mark


class TableDigest(msgspec.Struct, frozen=True, array_like=True, tag="table_digest"):
    """From the primary: what its tables amount to as of a record; the standby compares when it is there."""

    epoch: int
    lsn: int
    digest: bytes


Message = (
    Hello
    | Append
    | Ack
    | Nack
    | Locate
    | Located
    | Keys
    | SnapshotBegin
    | SnapshotChunk
    | SnapshotEnd
    | Leave
    | Handover
    | HandoverReady
    | TableDigest
)

VERSION: Final = 1
MESSAGE_SIZE_BYTES_MAX: Final = 64 * 1024 * 1024

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Message).decode
