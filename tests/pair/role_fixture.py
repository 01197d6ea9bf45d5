"""Two members, journals made of numbers, and a node of the pair that is told things one after the other."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from fortress.pair import role
from fortress.pair.events import (
    Action,
    EpochPromised,
    Event,
    PeerConnected,
    PeerSaid,
    RecordMade,
    RecordsDurable,
    RegisterRead,
    Tick,
)
from fortress.pair.messages import Ack, Append, Configuration, Mark, Member, Message, Shipped
from fortress.pair.role_state import Times

A = Member("node-1", b"a" * 16)
B = Member("node-2", b"b" * 16)
B_REBUILT = Member("node-2", b"c" * 16)
TIMES = Times()
START_US = 1_000_000_000


def mark(lsn: int, branch: str = "") -> Mark:
    """Give the mark of a record; records of one branch have other hashes than those of another."""
    return Mark(lsn, sha256(f"{branch}{lsn}".encode()).digest()) if lsn else Mark()


def shipped(lsn: int, branch: str = "") -> Shipped:
    return Shipped(mark(lsn, branch), b"record")


def append(epoch: int, after: Mark, *records: Shipped, committed: int = 0, sent_us: int = 0) -> Append:
    return Append(epoch, after, records, committed, sent_us)


def held(epoch: int, primary: Member, *in_sync: Member) -> Configuration:
    """Give what the register holds; without more, the primary alone is in sync."""
    return Configuration(epoch, primary, tuple(sorted(in_sync or (primary,), key=lambda member: member.name)))


class Node:
    """One node's machine with a clock that the test moves on."""

    def __init__(self, member: Member = A, *, end: int = 0, promised: int = 0, committed: int = 0, **more: Any) -> None:
        marks = tuple(mark(lsn) for lsn in range(max(1, end - 9), end + 1))
        more = {"times": TIMES, **more}
        self.now_us = START_US
        self.state = role.initial(
            member,
            (B if member == A else A).name,
            promised=promised,
            end=mark(end),
            committed=committed,
            marks=marks,
            **more,
        )

    def give(self, event: Event, *, after_us: int = 0) -> tuple[Action, ...]:
        """Tell the machine something, some time later."""
        self.now_us += after_us
        self.state, actions = role.step(self.state, event, self.now_us)
        return actions

    def hear(self, message: Message, *, after_us: int = 0) -> tuple[Action, ...]:
        return self.give(PeerSaid(message), after_us=after_us)

    def tick(self, after_us: int = 0) -> tuple[Action, ...]:
        return self.give(Tick(), after_us=after_us)

    def wait(self) -> tuple[Action, ...]:
        """Let time pass until the next deadline."""
        self.now_us = max(self.now_us, role.next_deadline(self.state))
        return self.tick()

    def read(self, configuration: Configuration | None) -> tuple[Action, ...]:
        return self.give(RegisterRead(configuration))

    def make(self, lsn: int, *, is_durable: bool = True, branch: str = "") -> tuple[Action, ...]:
        """As primary, make a record, and write it to the disk unless told otherwise."""
        actions = self.give(RecordMade(mark(lsn, branch)))
        return (*actions, *self.give(RecordsDurable(lsn))) if is_durable else actions

    def hear_ack(self, lsn: int, *, of: Member = B, sent_us: int | None = None, branch: str = "") -> tuple[Action, ...]:
        sent = self.now_us if sent_us is None else sent_us
        return self.hear(Ack(self.state.promised, of, mark(lsn, branch), 0, sent))


def leading(*in_sync: Member, epoch: int = 2, **more: Any) -> Node:
    """Give node 1 as primary of an epoch, in which these are in sync besides it."""
    node = Node(A, promised=epoch - 1, **more)
    node.tick()
    node.read(held(epoch, A, A, *in_sync))
    node.give(EpochPromised(epoch))
    return node


def paired(**more: Any) -> Node:
    """Give node 1 as primary with node 2 in sync and connected."""
    node = leading(B, **more)
    node.give(PeerConnected(B, node.state.marks.end))
    return node


def following(*, in_sync: bool = True, epoch: int = 1, **more: Any) -> Node:
    """Give node 2 as standby of node 1."""
    node = Node(B, promised=epoch, **more)
    node.tick()
    node.read(held(epoch, A, *((A, B) if in_sync else (A,))))
    return node
