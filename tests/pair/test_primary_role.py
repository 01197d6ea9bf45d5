"""A primary commits by the rule, drops and takes back the other node, and hands over to it."""

from __future__ import annotations

from fortress.pair.events import Commit
from tests.pair.role_fixture import paired


def test_a_primary_of_two_waits_for_both_disks() -> None:
    """Its own disk is not enough, nor the other's alone."""
    node = paired()
    assert node.make(1) == ()
    assert node.hear_ack(1) == (Commit(1),)
    assert node.make(2, is_durable=False) == ()
    assert node.hear_ack(2) == ()
