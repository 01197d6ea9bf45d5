"""What a node has seen of the other one: when, and how far that said it was."""

from __future__ import annotations

from fortress.pair.messages import Ack, Append, Hello, Member, Message


class Sight:
    """Notes of one node about the other.

    Attributes:
        member: who it is; None before its first hello.
        seen_us: when something last came from it.
        durable: newest record on its disk, as it last acknowledged.
        applied: newest record in its tables, as it last acknowledged.
        primary_us: when it last spoke as primary; 0: never.
        committed: up to where it then said that all is committed.
    """

    def __init__(self) -> None:
        self.member: Member | None = None
        self.seen_us = 0
        self.durable = 0
        self.applied = 0
        self.primary_us = 0
        self.committed = 0

    def note(self, message: Message, now_us: int) -> None:
        """Take note of a message."""
        self.seen_us = now_us
        if type(message) is Ack:
            self.durable, self.applied = message.durable.lsn, message.applied
        elif type(message) is Append:
            self.primary_us, self.committed = now_us, message.committed
        elif type(message) is Hello:
            self.member = message.member
