"""A standby compares, stores, acknowledges and applies; and takes over when the register counts it."""

from __future__ import annotations

from fortress.pair.events import RecordsDurable, Send, Store
from fortress.pair.messages import Ack
from tests.pair.role_fixture import B, append, following, mark, shipped


def test_records_are_acknowledged_when_they_are_on_the_disk() -> None:
    """Not when they come."""
    node = following()
    assert node.hear(append(1, mark(0), shipped(1), sent_us=7)) == (Store((shipped(1),)),)
    assert node.give(RecordsDurable(1)) == (Send(Ack(1, B, mark(1), 0, 7)),)
