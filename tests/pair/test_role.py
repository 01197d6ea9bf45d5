"""The machine of one node as its shell sees it: events in, actions out."""

from __future__ import annotations

from fortress.pair.events import EpochPromised, PromiseEpoch, ReadRegister, Serve
from fortress.pair.role import Phase
from tests.pair.role_fixture import A, Node, held


def test_a_node_that_the_register_names_serves_once_it_has_promised_the_epoch() -> None:
    """It reads the register first, then promises, then acts."""
    node = Node(A, promised=1)
    assert node.tick() == (ReadRegister(),)
    assert node.read(held(2, A)) == (PromiseEpoch(2),)
    assert node.give(EpochPromised(2)) == (Serve(2),)
    assert node.state.phase is Phase.primary_solo
