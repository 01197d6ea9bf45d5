"""What replication needs of the node it runs in; the server is the one that offers it.

Journal reads block and are called on threads; everything else is called on the event loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from fortress.ledger.records import Record
from fortress.pair.messages import Mark


class History(Protocol):
    """This node's journal, for reading; blocking."""

    def mark_at(self, lsn: int) -> Mark | None:
        """Give the mark of a record that the journal still knows; None for others. Number 0 is before the first."""

    def end(self) -> Mark:
        """Give the mark of the newest durable record; does not block."""

    def tail(self) -> tuple[Mark, ...]:
        """Give the newest marks in order, up to the end; does not block."""

    def marks_back(self) -> tuple[Mark, ...]:
        """Give the newest mark and ever older ones, at twice the distance each."""

    def first_lsn(self) -> int:
        """Number of the oldest record that can still be read."""

    def records(self, from_lsn: int) -> Iterator[Record]:
        """Read on from a record, up to the newest durable one."""


class People(Protocol):
    """People's own keys; blocking."""

    def digests(self) -> bytes:
        """Give 8 bytes for each of 256 buckets, which tell whether two nodes hold the same."""

    def bucket(self, number: int) -> tuple[tuple[bytes, bytes], ...]:
        """Give handles and keys of a bucket."""

    def replace_bucket(self, number: int, keys: Iterable[tuple[bytes, bytes]]) -> None:
        """Hold exactly these in a bucket; durable afterwards."""

    def take(self, handle: bytes, key: bytes | None) -> None:
        """Hold a key, or for None destroy it; durable afterwards."""


class Host(Protocol):
    """The node itself."""

    def serve(self, epoch: int) -> None:
        """Act as primary of this epoch: take commands; or go on taking them after :meth:`hold`."""

    def hold(self) -> None:
        """Keep new commands waiting, and finish those that were begun."""

    async def quiet(self) -> None:
        """Wait, after :meth:`hold`, until everything begun is in records."""

    def set_blocked(self, *, is_blocked: bool) -> None:
        """As primary: nothing can be committed until the other node or the register is there; or that is over."""

    def stand_by(self, *, is_clean: bool, primary: str) -> None:
        """Take no commands; ``primary`` tells clients where to go, empty when nobody knows."""

    def follow(self, primary: str) -> None:
        """As standby: where clients find the primary; empty when it is not heard."""

    def heard(self, committed: int) -> None:
        """As standby: the primary has just said that everything up to this record is committed."""

    def store(self, records: list[Record]) -> None:
        """Append records of the primary to the journal and follow them; tell replication of those that are durable."""

    def commit(self, lsn: int) -> None:
        """Take it that everything up to this record is committed."""

    def allow_reads(self, until_us: int) -> None:
        """Answer reads from memory up to this time of the monotonic clock."""

    def restart(self, reason: str, *, truncate_after: Mark | None = None) -> None:
        """Close everything, mend the files, and start anew."""

    def quarantine(self, reason: str) -> None:
        """Stop for good: this node's data cannot be trusted."""

    def crash(self, error: BaseException) -> None:
        """Stop at once: what follows from the last event is not known; the next start begins from the disk."""

    def tell(self, name: str, facts: dict[str, str | int]) -> None:
        """Write an event down."""
