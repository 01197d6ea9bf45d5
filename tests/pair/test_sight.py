"""What a node notes about the other one."""

from __future__ import annotations

from fortress.pair.messages import Ack, Append, Hello, Leave, Mark, Member
from fortress.pair.sight import Sight

THERE = Member("node-2", bytes(16))


def test_each_message_leaves_its_note() -> None:
    """Who, when, how far on the disk and in the tables, and what is committed by the primary's word."""
    sight = Sight()
    sight.note(Hello(b"c", "alpha", THERE, 1, 1, 0, Mark(), 0, 0), 1)
    sight.note(Ack(1, THERE, Mark(7, bytes(32)), 5), 2)
    assert (sight.member, sight.seen_us, sight.durable, sight.applied) == (THERE, 2, 7, 5)
    assert sight.primary_us == 0
    sight.note(Append(1, Mark(), (), 9), 3)
    sight.note(Leave(1), 4)
    assert (sight.primary_us, sight.committed, sight.seen_us) == (3, 9, 4)
