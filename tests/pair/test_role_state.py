"""The phases move as the table says, and what is common to both roles holds."""

from __future__ import annotations

import itertools

import pytest
from msgspec.structs import replace

from fortress.config import PairSettings
from fortress.errors import LocalProtocolError
from fortress.pair import role_state
from fortress.pair.events import Action, Commit, ReadRegister, SwapRegister, Tell
from fortress.pair.messages import Configuration
from fortress.pair.role_state import TRANSITIONS, Phase, Times, move
from tests.pair.role_fixture import A, B, Node, held


@pytest.mark.parametrize(("old", "new"), [*itertools.product(Phase, Phase)])
def test_only_the_table_leads_from_phase_to_phase(old: Phase, new: Phase) -> None:
    """Staying is no move; what the table does not hold is refused."""
    state = replace(Node().state, phase=old)
    if new is old:
        assert move(state, new) is state
    elif new in TRANSITIONS[old]:
        assert move(state, new) == replace(state, phase=new)
    else:
        with pytest.raises(LocalProtocolError):
            move(state, new)


def test_nothing_leads_out_of_the_ends() -> None:
    """A fenced node is only started anew, a quarantined one rebuilt."""
    assert TRANSITIONS[Phase.fenced] == {Phase.quarantined}
    assert TRANSITIONS[Phase.quarantined] == frozenset()
    assert set(TRANSITIONS) == set(Phase)


def test_times_come_from_the_settings() -> None:
    """The defaults of the settings are the defaults of the machine."""
    assert role_state.times_of(PairSettings()) == Times()
    assert role_state.times_of(PairSettings(durability="two-copies")) == Times(two_copies=True)


def test_what_is_committed_stays_so() -> None:
    """A smaller number than before changes nothing and says nothing."""
    out: list[Action] = []
    state = role_state.commit(Node(end=5).state, 3, out)
    state = role_state.commit(state, 2, out)
    assert state.committed == 3
    assert out == [Commit(3)]


def test_a_change_follows_what_the_register_held() -> None:
    """The epoch grows by one, members are in order of their names, the witness stays."""
    out: list[Action] = []
    state = replace(Node().state, configuration=Configuration(4, B, (B,), b"witness"))
    assert role_state.swap(state, "join", B, (B, A), out).is_asking
    assert out == [SwapRegister(4, Configuration(5, B, (A, B), b"witness"), "join")]


def test_the_first_configuration_replaces_nothing() -> None:
    """An empty register is told so."""
    out: list[Action] = []
    role_state.swap(Node().state, "first", A, (A,), out)
    assert out == [SwapRegister(None, Configuration(1, A, (A,)), "first")]


def test_one_question_at_a_time_is_remembered() -> None:
    """Until it is answered."""
    out: list[Action] = []
    assert role_state.ask(Node().state, out).is_asking
    assert out == [ReadRegister()]


def test_the_other_member_is_the_one_that_is_not_this_node() -> None:
    """Alone in sync, there is none."""
    state = Node(A).state
    assert role_state.other_in_sync(state, held(1, A, A, B)) == B
    assert role_state.other_in_sync(state, held(1, A)) is None


def test_the_newest_epoch_is_promised_or_read() -> None:
    """Whichever is higher."""
    state = Node(A, promised=3).state
    assert role_state.latest_epoch(state) == 3
    assert role_state.latest_epoch(replace(state, configuration=held(4, B))) == 4


def test_facts_are_told_in_order() -> None:
    """One name, and facts by name; a fact may itself be called name."""
    out: list[Action] = []
    role_state.tell(out, "peer_left", name="node-2", epoch=3)
    assert out == [Tell("peer_left", (("name", "node-2"), ("epoch", 3)))]
