"""The machine of one node as its shell sees it: events in, actions out."""

from __future__ import annotations

from typing import get_args

import pytest
from msgspec.structs import replace

from fortress.errors import LocalProtocolError
from fortress.pair import role
from fortress.pair.events import (
    Action,
    Commit,
    EpochPromised,
    Event,
    MayLeave,
    PeerConnected,
    PeerLost,
    PeerSaid,
    PromiseEpoch,
    Quarantine,
    ReadRegister,
    RecordMade,
    RecordsDurable,
    RegisterRead,
    RegisterSilent,
    RegisterSwapped,
    Send,
    Serve,
    StepDown,
    Store,
    SwapRegister,
    Tell,
    Tick,
    Wish,
    Wished,
)
from fortress.pair.messages import (
    Ack,
    Append,
    Configuration,
    Handover,
    HandoverReady,
    Hello,
    Leave,
    Located,
    Mark,
    Member,
    Nack,
    TableDigest,
)
from fortress.pair.role import NEVER_US, Phase, is_primary, may_read, next_deadline, reconfigured
from tests.pair.role_fixture import TIMES, A, B, Node, append, following, held, leading, mark, paired, shipped


def names(actions: tuple[Action, ...]) -> list[str]:
    return [action.name for action in actions if isinstance(action, Tell)]


def hello(promised: int) -> Hello:
    return Hello(b"", "bank", B, 1, 1, promised, mark(0), 0, 0)


def fenced() -> Node:
    """Give a node that was primary with something uncommitted, and learnt of a newer epoch."""
    node = paired()
    node.make(1)
    node.hear(append(3, mark(0)))
    assert node.state.phase is Phase.fenced
    return node


# --- Beginning --------------------------------------------------------------------------------------------------------
def test_a_node_that_the_register_names_serves_once_it_has_promised_the_epoch() -> None:
    """It reads the register first, then promises, then acts (R2, R3)."""
    node = Node(A, promised=1)
    assert next_deadline(node.state) == 0
    assert node.tick() == (ReadRegister(),)
    assert next_deadline(node.state) == NEVER_US
    assert node.read(held(2, A)) == (PromiseEpoch(2),)
    assert not is_primary(node.state)
    assert next_deadline(node.state) == NEVER_US
    assert node.give(EpochPromised(2)) == (Serve(2),)
    assert node.state.phase is Phase.primary_solo
    assert is_primary(node.state)


def test_a_primary_that_starts_again_begins_a_new_epoch() -> None:
    """What it said in the old one it has forgotten."""
    node = Node(A, promised=2, end=3)
    node.tick()
    assert node.read(held(2, A, A, B)) == (SwapRegister(2, held(3, A, A, B), "bump"),)
    assert node.give(RegisterSwapped(held(3, A, A, B))) == (PromiseEpoch(3),)
    assert node.give(EpochPromised(3)) == (Serve(3),)
    assert node.state.phase is Phase.primary_paired


def test_an_answer_lost_at_the_start_is_asked_for_again() -> None:
    """Until the register says who is who."""
    node = Node(A, promised=2)
    node.tick()
    assert node.give(RegisterSilent()) == ()
    assert next_deadline(node.state) == node.now_us + TIMES.heartbeat
    assert node.wait() == (ReadRegister(),)
    node.read(held(2, A))
    node.give(RegisterSilent())
    assert node.wait() == (ReadRegister(),)


def test_the_founder_fills_an_empty_register() -> None:
    """And is primary of the first epoch, alone."""
    node = Node(A, is_founder=True)
    node.tick()
    assert node.read(None) == (SwapRegister(None, Configuration(1, A, (A,)), "first"),)
    assert node.give(RegisterSwapped(held(1, A))) == (PromiseEpoch(1),)


@pytest.mark.parametrize(("is_founder", "promised"), [(False, 0), (True, 1)])
def test_an_empty_register_is_filled_by_nobody_else(is_founder: bool, promised: int) -> None:
    """Nor by a founder that has promised something: the register has lost what it held."""
    node = Node(A, is_founder=is_founder, promised=promised)
    node.tick()
    assert names(node.read(None)) == ["register_empty"]
    assert node.wait() == (ReadRegister(),)


def test_a_register_that_was_seen_full_is_not_filled_again() -> None:
    """What was seen in this life counts as well."""
    node = Node(B, is_founder=True)
    node.tick()
    node.read(held(1, A))
    node.tick(TIMES.takeover)
    assert names(node.read(None)) == ["register_empty"]


def test_an_answer_that_is_older_than_what_is_promised_is_passed_over() -> None:
    """It was on its way for long; the register is asked again."""
    node = Node(B, promised=3)
    node.tick()
    assert node.read(held(2, B)) == ()
    assert node.wait() == (ReadRegister(),)


def test_a_journal_shorter_than_what_is_committed_is_refused() -> None:
    """That is corruption, and not for the machine to mend (R7)."""
    with pytest.raises(LocalProtocolError):
        Node(A, end=3, committed=4)


# --- What cannot have happened ----------------------------------------------------------------------------------------
def test_what_is_known_to_be_durable_changes_nothing() -> None:
    """It may be told twice."""
    node = leading(end=3)
    before = node.state
    assert node.give(RecordsDurable(3)) == ()
    assert node.state == before


def test_only_a_primary_makes_records() -> None:
    """Anything else is a bug of the shell."""
    with pytest.raises(LocalProtocolError):
        following().give(RecordMade(mark(1)))


def test_nothing_beyond_the_end_is_durable() -> None:
    """Anything else is a bug of the shell."""
    with pytest.raises(LocalProtocolError):
        leading().give(RecordsDurable(1))


def test_every_event_has_a_handler() -> None:
    """None is forgotten, whatever the node is."""
    assert set(role._HANDLERS) == set(get_args(Event))


# --- Learning of a newer epoch ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("said", [append(3, mark(0)), Nack(3, "stale", mark(0)), hello(3)])
def test_a_primary_that_hears_of_a_newer_epoch_stops_at_once(said: Append | Nack | Hello) -> None:
    """Whoever has promised it has read it in the register."""
    node = paired()
    actions = node.hear(said)
    assert names(actions) == ["superseded"]
    assert StepDown(True, None) in actions
    assert node.state.phase is Phase.standby_catching_up


def test_a_primary_that_was_overtaken_follows_the_next_one() -> None:
    """With nothing uncommitted, without a new start."""
    node = paired()
    assert node.hear(append(3, mark(0), shipped(1)))[-1] == PromiseEpoch(3)
    assert node.give(EpochPromised(3))[0].records == (shipped(1),)


def test_a_new_epoch_of_its_own_is_not_taken_up_any_more() -> None:
    """It was about to be promised when a newer one of the other node was heard of."""
    node = paired()
    node.tick(TIMES.solo)
    assert node.give(RegisterSwapped(held(3, A))) == (PromiseEpoch(3),)
    node.hear(Nack(4, "stale", mark(0)))
    assert node.give(EpochPromised(3)) == ()
    assert not is_primary(node.state)


def test_an_unclean_end_waits_for_a_new_start() -> None:
    """Whatever comes, a fenced node does nothing; it may only leave, or be given up."""
    node = fenced()
    assert node.tick(TIMES.takeover) == ()
    assert node.read(held(3, B)) == ()
    assert node.give(RecordMade(mark(2))) == ()
    assert node.give(Wished(Wish.leave)) == (MayLeave(),)
    (action,) = node.give(Wished(Wish.storage_failed))
    assert isinstance(action, Quarantine)
    assert node.give(Wished(Wish.storage_failed)) == ()


def test_news_without_a_message_to_follow_end_the_same_way() -> None:
    """A primary with something uncommitted is fenced by a mere refusal too."""
    node = paired()
    node.make(1)
    node.hear(Nack(3, "stale", mark(0)))
    assert node.state.phase is Phase.fenced
    assert next_deadline(node.state) == NEVER_US


def test_the_primary_of_an_older_epoch_is_refused() -> None:
    """It learns which one is promised."""
    assert leading(epoch=3).hear(append(2, mark(0))) == (Send(Nack(3, "stale", mark(0))),)


def test_a_second_primary_of_the_same_epoch_breaks_the_rules() -> None:
    """It is told, and nothing else."""
    assert names(leading().hear(append(2, mark(0)))) == ["peer_broke_rules"]


@pytest.mark.parametrize("said", [Nack(2, "mismatch", mark(0)), Located(2, None), Handover(2, mark(0)), hello(2)])
def test_what_is_between_the_shells_changes_nothing(said: Nack | Located | Handover | Hello) -> None:
    """Nor does what only a standby is told."""
    node = paired()
    before = node.state
    assert node.hear(said) == ()
    assert replace(node.state, follow=before.follow) == before


@pytest.mark.parametrize(
    "said", [Ack(1, A, mark(0), 0), HandoverReady(1, mark(0)), TableDigest(1, 0, b""), Nack(9, "stale", mark(0))]
)
def test_a_standby_is_not_told_what_a_primary_is(said: Ack | HandoverReady | TableDigest | Nack) -> None:
    """Late answers to what it was before."""
    node = following()
    before = node.state
    assert node.hear(said) == ()
    assert node.state == before


# --- Being standby ----------------------------------------------------------------------------------------------------
def test_the_register_says_who_is_in_sync() -> None:
    """With every reading anew."""
    node = following(in_sync=False)
    assert node.state.phase is Phase.standby_catching_up
    node.read(held(2, A, A, B))
    assert node.state.phase is Phase.standby_in_sync
    node.read(held(3, A))
    assert node.state.phase is Phase.standby_catching_up


def test_a_standby_that_the_other_node_makes_primary_serves() -> None:
    """By a planned switch or by proxy: the register names it."""
    node = following()
    assert node.read(held(2, B)) == (PromiseEpoch(2),)
    assert node.read(held(2, B)) == ()
    assert node.give(EpochPromised(2)) == (Serve(2),)


def test_a_standby_answers_no_reads_on_its_own() -> None:
    """What it has is from a moment ago; the shell says how long."""
    node = following()
    assert not may_read(node.state, node.now_us)


def test_a_connection_is_the_shells_affair() -> None:
    """A standby hears the primary's messages; that is enough. But whoever left is back."""
    node = following()
    node.hear(Leave(1))
    node.give(PeerConnected(A, mark(0)))
    assert not node.state.is_peer_left


def test_a_hello_ends_looking_for_the_primary() -> None:
    """Its process runs."""
    node = following()
    node.give(PeerLost(True))
    node.hear(hello(1))
    assert not node.state.follow.is_refused
    assert node.wait() == (ReadRegister(),)


# --- Both together ----------------------------------------------------------------------------------------------------
class Pair:
    """Two nodes of a pair, a register and disks that answer at once, and a network that loses nothing."""

    def __init__(self) -> None:
        self.register = held(1, A, A, B)
        self.nodes = {A: Node(A), B: Node(B)}
        self.told: list[str] = []
        for member in (A, B):
            self.give(member, Tick())
        self.give(A, PeerConnected(B, mark(0)))

    def give(self, member: Member, event: Event) -> None:
        """Tell a node something, and let everything follow from it."""
        for action in self.nodes[member].give(event):
            self.told.append(f"{member.name} {type(action).__name__}")
            for whom, what in self.answers(member, action):
                self.give(whom, what)

    def answers(self, member: Member, action: Action) -> list[tuple[Member, Event]]:
        """Give what comes of an action."""
        if isinstance(action, ReadRegister):
            return [(member, RegisterRead(self.register))]
        if isinstance(action, SwapRegister):
            self.register = action.fresh
            return [(member, RegisterSwapped(action.fresh))]
        if isinstance(action, PromiseEpoch):
            return [(member, EpochPromised(action.epoch))]
        if isinstance(action, Send):
            return [(B if member == A else A, PeerSaid(action.message))]
        return [(member, RecordsDurable(action.records[-1].mark.lsn))] if isinstance(action, Store) else []

    def make(self, member: Member, lsn: int) -> None:
        """Let a primary make a record, ship it and write it."""
        node = self.nodes[member]
        message = append(node.state.promised, node.state.marks.end, shipped(lsn), committed=node.state.committed)
        self.give(member, RecordMade(mark(lsn)))
        self.give(B if member == A else A, PeerSaid(message))
        self.give(member, RecordsDurable(lsn))

    def phases(self) -> tuple[Phase, Phase]:
        return self.nodes[A].state.phase, self.nodes[B].state.phase


def test_a_pair_begins_and_commits_on_both_disks() -> None:
    """What one makes both have."""
    pair = Pair()
    assert pair.phases() == (Phase.primary_paired, Phase.standby_in_sync)
    pair.make(A, 1)
    assert pair.nodes[A].state.committed == 1
    pair.make(A, 2)
    assert [node.state.durable for node in pair.nodes.values()] == [2, 2]


def test_a_pair_changes_roles_and_back() -> None:
    """A planned switch in one go, both ways; the history goes on."""
    pair = Pair()
    pair.make(A, 1)
    for old, new in ((A, B), (B, A)):
        pair.nodes[new].now_us = pair.nodes[old].now_us = pair.nodes[old].now_us + TIMES.heartbeat
        pair.give(old, Wished(Wish.switch_over))
        pair.give(new, PeerConnected(old, pair.nodes[old].state.marks.end))
        assert is_primary(pair.nodes[new].state) and not is_primary(pair.nodes[old].state)
        assert pair.register == held(pair.register.epoch, new, A, B)
        pair.make(new, pair.nodes[new].state.marks.end.lsn + 1)
    assert pair.nodes[A].state.committed == 3
    assert "node-1 Hold" in pair.told and "node-2 Hold" in pair.told


def test_a_wished_takeover_leaves_one_primary() -> None:
    """The old one learns of it by the first message of the new one."""
    pair = Pair()
    pair.make(A, 1)
    pair.give(B, Wished(Wish.take_over))
    pair.nodes[B].now_us += TIMES.refused
    pair.give(B, Tick())
    assert pair.phases() == (Phase.primary_paired, Phase.primary_solo)
    pair.give(B, PeerConnected(A, mark(1)))
    assert pair.phases()[0] is Phase.standby_in_sync
    assert pair.phases()[1] is Phase.primary_paired


def test_a_failed_disk_leaves_the_other_node_in_charge() -> None:
    """It reads the register at once, since the first one said goodbye."""
    pair = Pair()
    pair.nodes[B].now_us += TIMES.heartbeat
    pair.give(A, Wished(Wish.storage_failed))
    assert pair.phases() == (Phase.quarantined, Phase.primary_solo)


# --- Wishes -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("wish", [Wish.switch_over, Wish.disk_low])
def test_a_standby_cannot_hand_over(wish: Wish) -> None:
    """It is told."""
    assert names(following().give(Wished(wish))) == ["wish_refused"]


def test_a_primary_cannot_take_over() -> None:
    """Nor can a node that does not know yet what it is."""
    assert names(leading().give(Wished(Wish.take_over))) == ["wish_refused"]
    assert names(Node(B).give(Wished(Wish.take_over))) == ["wish_refused"]


def test_pausing_is_remembered_until_resumed() -> None:
    """By any node."""
    node = following()
    node.give(Wished(Wish.pause))
    assert node.state.is_paused
    node.give(Wished(Wish.resume))
    assert not node.state.is_paused


def test_a_standby_that_leaves_says_so() -> None:
    """Then it takes part in nothing."""
    node = following()
    assert node.give(Wished(Wish.leave)) == (Send(Leave(1)), MayLeave())
    assert node.hear(append(1, mark(0))) == ()


def test_a_standby_with_a_failed_disk_is_not_waited_for() -> None:
    """It says goodbye and is quarantined."""
    actions = following().give(Wished(Wish.storage_failed))
    assert actions[0] == Send(Leave(1))
    assert isinstance(actions[1], Quarantine)


# --- Settings ---------------------------------------------------------------------------------------------------------
def test_two_copies_can_be_asked_for_while_serving() -> None:
    """A primary alone commits nothing more, from that moment."""
    node = leading()
    node.make(1)
    node.state = reconfigured(node.state, replace(TIMES, two_copies=True))
    assert node.state.phase is Phase.primary_joining
    node.make(2)
    assert node.state.committed == 1


def test_other_settings_change_only_times() -> None:
    """For a pair, a standby, and whoever is content with one copy."""
    for node in (paired(), following()):
        for times in (replace(TIMES, solo=5), replace(TIMES, two_copies=True)):
            assert reconfigured(node.state, times) == replace(node.state, times=times)


# --- Values -----------------------------------------------------------------------------------------------------------
def test_a_step_changes_no_state() -> None:
    """The machine is a function; its states are values that can be kept, compared and hashed."""
    node = paired()
    before, now_us = node.state, node.now_us
    events = (Tick(), RecordMade(mark(1)), RegisterRead(held(3, B)), PeerLost(False), PeerSaid(append(3, Mark())))
    outcomes = [role.step(before, event, now_us) for event in events]
    assert outcomes == [role.step(before, event, now_us) for event in events]
    assert len({hash(state) for state, _ in outcomes}) == len(events)
    assert before == paired().state


def test_the_machine_takes_over_what_it_committed_before() -> None:
    """Nothing is committed twice after a new start."""
    node = leading(end=5, committed=5)
    assert node.make(6) == (Commit(6),)
