"""A primary commits by the rule, drops and takes back the other node, and hands over to it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from fortress.pair.events import (
    Action,
    Commit,
    EpochPromised,
    Hold,
    MayLeave,
    PeerConnected,
    PeerLost,
    PromiseEpoch,
    Quarantine,
    ReadRegister,
    RecordsDurable,
    RegisterRefused,
    RegisterSilent,
    RegisterSwapped,
    Send,
    Serve,
    StepDown,
    SwapRegister,
    Tell,
    Wish,
    Wished,
)
from fortress.pair.messages import NO_LEASE, Ack, Handover, HandoverReady, Leave, Mark, Member
from fortress.pair.primary_role import JOIN_WAIT_US_MAX, JOIN_WAIT_US_MIN, NEARLY_RECORDS, STEADY_US
from fortress.pair.role import NEVER_US, Phase, may_read, next_deadline, read_until, reconfigured
from tests.pair.role_fixture import B_REBUILT, TIMES, A, B, Node, append, held, leading, mark, paired

TWO_COPIES = replace(TIMES, two_copies=True)


def swaps(actions: tuple[Action, ...]) -> list[SwapRegister]:
    return [action for action in actions if isinstance(action, SwapRegister)]


def names(actions: tuple[Action, ...]) -> list[str]:
    return [action.name for action in actions if isinstance(action, Tell)]


def adopt(node: Node, *in_sync: Member) -> tuple[Action, ...]:
    """Let the register take the next epoch with node 1 as primary, and the promise be written."""
    epoch = node.state.promised + 1
    actions = node.give(RegisterSwapped(held(epoch, A, A, *in_sync)))
    assert actions[0] == PromiseEpoch(epoch)
    return node.give(EpochPromised(epoch))


def silenced(**more: object) -> Node:
    """Give a primary of two whose other node has not answered for long enough to do without it."""
    node = paired(**more)
    node.tick(TIMES.solo)
    return node


# --- Committing -------------------------------------------------------------------------------------------------------
def test_a_primary_of_two_waits_for_both_disks() -> None:
    """Its own disk is not enough, nor the other's alone."""
    node = paired()
    assert node.make(1) == ()
    assert node.hear_ack(1) == (Commit(1),)
    assert node.make(2, is_durable=False) == ()
    assert node.hear_ack(2) == ()


def test_a_primary_alone_waits_for_its_own_disk() -> None:
    """Nobody else is needed."""
    node = leading()
    assert node.make(1, is_durable=False) == ()
    assert node.make(2) == (Commit(2),)


def test_two_copies_are_waited_for_where_they_are_wanted() -> None:
    """A primary that took over alone commits nothing until the other node has come back."""
    node = leading(times=TWO_COPIES)
    assert node.state.phase is Phase.primary_joining
    assert node.make(1) == ()
    node.give(PeerConnected(B, mark(0)))
    assert node.hear_ack(1)[0] == Commit(1)


@pytest.mark.parametrize(
    "ack",
    [
        Ack(1, B, mark(1), 0, 0),
        Ack(2, B_REBUILT, mark(1), 0, 0),
        Ack(2, A, mark(1), 0, 0),
    ],
)
def test_an_acknowledgement_of_another_epoch_or_disk_does_not_count(ack: Ack) -> None:
    """Only this epoch and the very member that the register counts."""
    node = paired()
    node.make(1)
    assert node.hear(ack) == ()


@pytest.mark.parametrize("durable", [mark(1, "other"), mark(2)])
def test_an_acknowledgement_of_something_else_is_told(durable: Mark) -> None:
    """Another record under the number, or one that does not exist: the other node breaks the rules."""
    node = paired()
    node.make(1)
    assert names(node.hear(Ack(2, B, durable, 0, 0))) == ["peer_broke_rules"]
    assert node.state.committed == 0


def test_an_acknowledgement_from_below_the_window_proves_nothing() -> None:
    """It cannot be compared; but somebody is there."""
    node = paired(end=2000)
    node.now_us += TIMES.solo - 1
    assert node.hear_ack(500) == ()
    assert node.state.lead is not None and node.state.lead.acked == -1
    assert swaps(node.tick(1)) == []


def test_acknowledgements_in_disorder_take_nothing_back() -> None:
    """An older one after a newer one changes nothing."""
    node = paired()
    node.make(1)
    node.make(2)
    assert node.hear_ack(2) == (Commit(2),)
    assert node.hear_ack(1) == ()
    assert node.state.committed == 2


def test_the_tail_of_an_earlier_epoch_commits_in_the_new_one() -> None:
    """Alone at once; with another node when that one has acknowledged it in the new epoch."""
    assert leading(end=5).state.committed == 5
    node = paired(end=5)
    assert node.state.committed == 0
    assert node.hear_ack(5) == (Commit(5),)


# --- Being there ------------------------------------------------------------------------------------------------------
def test_an_idle_primary_says_that_it_is_there() -> None:
    """Every heartbeat, with its end and what is committed; not while records go out anyway."""
    node = paired()
    assert node.tick(TIMES.heartbeat - 1) == ()
    assert node.tick(1) == (Send(append(2, mark(0), sent_us=node.now_us)),)
    node.make(1)
    assert node.tick(TIMES.heartbeat - 1) == ()


def test_nobody_is_told_anything_without_a_connection() -> None:
    """And the next deadline is that of doing without."""
    node = paired()
    node.give(PeerLost(False))
    assert node.tick(TIMES.heartbeat) == ()
    assert next_deadline(node.state) == node.now_us - TIMES.heartbeat + TIMES.solo


def test_a_new_connection_is_greeted() -> None:
    """So that the standby knows the epoch at once."""
    node = leading(B)
    assert node.give(PeerConnected(B, mark(0))) == (Send(append(2, mark(0), sent_us=node.now_us)),)


@pytest.mark.parametrize("stranger", [A, Member("node-2", A.instance)])
def test_a_node_is_not_its_own_standby(stranger: Member) -> None:
    """A cloned folder that connects is not taken for the other node."""
    node = leading()
    assert names(node.give(PeerConnected(stranger, mark(0)))) == ["peer_broke_rules"]
    assert node.state.phase is Phase.primary_solo


# --- Doing without the other node -------------------------------------------------------------------------------------
def test_silence_makes_the_primary_ask_to_go_on_alone() -> None:
    """It goes on requiring the other node until the register has said yes."""
    node = paired()
    node.make(1)
    assert swaps(node.tick(TIMES.solo)) == [SwapRegister(2, held(3, A), "solo")]
    assert node.state.committed == 0
    assert adopt(node)[:2] == (Serve(3), Commit(1))
    assert node.state.phase is Phase.primary_solo


def test_the_wait_for_silence_is_told_to_the_shell() -> None:
    """The deadline is heartbeats first, then the end of the patience; while the register is asked only heartbeats."""
    node = paired()
    assert next_deadline(node.state) == node.now_us + TIMES.heartbeat
    node.give(PeerLost(False))
    assert next_deadline(node.state) == node.now_us + TIMES.solo
    node.tick(TIMES.solo)
    assert next_deadline(node.state) == NEVER_US


def test_a_standby_that_leaves_is_not_waited_for() -> None:
    """Its goodbye is enough, and it is taken back without delay."""
    node = paired()
    actions = node.hear(Leave(2))
    assert swaps(actions) == [SwapRegister(2, held(3, A), "solo")]
    adopt(node)
    node.give(PeerConnected(B, mark(0)))
    assert node.state.phase is Phase.primary_joining


def test_a_goodbye_is_due_at_once() -> None:
    """Also when the register is not asked for another reason: the deadline has passed already."""
    node = paired()
    node.tick(TIMES.solo)
    node.hear(Leave(2))
    node.give(RegisterSilent())
    assert next_deadline(node.state) <= node.now_us + TIMES.heartbeat


def test_another_disk_of_the_same_node_is_no_member() -> None:
    """The old one is dropped at once, and the new one is taken in from the beginning."""
    node = paired()
    assert next_deadline(node.state) > node.now_us
    actions = node.give(PeerConnected(B_REBUILT, mark(0)))
    assert swaps(actions) == [SwapRegister(2, held(3, A), "solo")]
    adopt(node)
    assert node.hear_ack(0, of=B) == ()
    assert names(node.hear_ack(0, of=B_REBUILT)) == ["joining"]


def test_an_unreachable_register_blocks_a_primary_that_is_left_alone() -> None:
    """Nothing is committed; it asks again and again; the other node's return ends it."""
    node = silenced()
    actions = node.give(RegisterSilent())
    assert names(actions) == ["blocked"]
    assert node.state.phase is Phase.blocked
    assert next_deadline(node.state) == node.now_us + TIMES.heartbeat
    assert swaps(node.wait()) == [SwapRegister(2, held(3, A), "solo")]
    assert node.make(1) == ()
    assert node.hear_ack(1) == (Commit(1),)
    assert node.state.phase is Phase.primary_paired


def test_who_answers_and_gets_no_further_is_left_behind() -> None:
    """A slow or full disk over there does not hold this node up, however often its process says that it is there."""
    node = paired()
    node.hear_ack(0)
    node.make(1)
    begun_us = node.now_us
    actions: tuple[Action, ...] = ()
    while not swaps(actions) and node.now_us < begun_us + 2 * TIMES.solo:
        node.now_us += TIMES.heartbeat
        actions = (*node.hear_ack(0), *node.tick())
    assert swaps(actions) == [SwapRegister(2, held(3, A), "solo")]
    assert node.now_us == begun_us + TIMES.solo


def test_who_gets_further_is_waited_for() -> None:
    """As long as each acknowledgement is of more than the one before."""
    node = paired()
    for lsn in range(1, 31):
        node.make(lsn)
    for lsn in range(1, 31):
        assert swaps((*node.hear_ack(lsn), *node.tick(TIMES.heartbeat))) == []


def test_a_blocked_primary_stays_so_while_the_other_gets_no_further() -> None:
    """It is there, and what waits still cannot be committed."""
    node = silenced()
    node.give(RegisterSilent())
    node.make(1)
    node.hear_ack(0)
    node.tick(TIMES.solo)
    node.give(RegisterSilent())
    node.hear_ack(0)
    assert node.state.phase is Phase.blocked
    assert Commit(1) in node.hear_ack(1)
    assert node.state.phase is Phase.primary_paired


def test_a_blocked_primary_goes_on_alone_when_the_register_is_back() -> None:
    """The same question, answered at last."""
    node = silenced()
    node.give(RegisterSilent())
    node.wait()
    adopt(node)
    assert node.state.phase is Phase.primary_solo


def test_a_new_connection_ends_being_blocked() -> None:
    """The other node is given its time again."""
    node = silenced()
    node.give(RegisterSilent())
    node.give(PeerLost(False))
    node.give(PeerConnected(B, mark(0)))
    assert node.state.phase is Phase.primary_paired


def test_a_register_that_is_silent_without_need_is_asked_what_it_holds() -> None:
    """What was tried last may have come about."""
    node = silenced()
    node.hear_ack(0)
    node.give(RegisterSilent())
    assert node.state.phase is Phase.primary_paired
    assert ReadRegister() in node.wait()
    assert node.read(held(2, A, A, B)) == ()
    assert not node.state.is_register_silent


def test_two_copies_are_never_given_up_by_silence() -> None:
    """The primary says that it waits, and waits; the register is left alone."""
    node = paired(times=TWO_COPIES)
    actions = node.tick(TIMES.solo)
    assert names(actions) == ["blocked"]
    assert swaps(actions) == []
    node.give(PeerLost(False))
    assert next_deadline(node.state) == NEVER_US
    node.give(PeerConnected(B, mark(0)))
    assert node.state.phase is Phase.primary_paired


def test_two_copies_may_be_given_up_by_the_operator() -> None:
    """With other settings a blocked primary asks to go on alone, though it never knew another node."""
    node = leading(times=TWO_COPIES)
    node.tick(TIMES.solo)
    assert node.state.phase is Phase.blocked
    node.state = reconfigured(node.state, TIMES)
    assert swaps(node.tick()) == [SwapRegister(2, held(3, A), "solo")]


# --- Taking it back ---------------------------------------------------------------------------------------------------
def test_a_standby_is_taken_back_in_order() -> None:
    """Its acknowledgement is required first; it must have what was there then; then the register is asked."""
    node = leading(end=3)
    assert names(node.give(PeerConnected(B, mark(1)))) == ["joining"]
    assert node.make(4) == ()
    assert node.hear_ack(2) == ()
    assert swaps(node.hear_ack(3)) == [SwapRegister(2, held(3, A, A, B), "join")]
    assert node.hear_ack(4) == (Commit(4),)
    assert adopt(node, B)[0] == Serve(3)
    assert node.state.phase is Phase.primary_paired
    assert node.make(5) == ()


def test_a_standby_far_behind_is_not_waited_for() -> None:
    """It is taken back once its acknowledgements come near the end."""
    node = leading(end=500)
    node.give(PeerConnected(B, mark(0)))
    assert node.state.phase is Phase.primary_solo
    for lsn in range(501, 1000):
        node.make(lsn)
    assert node.hear_ack(999 - NEARLY_RECORDS - 1) == ()
    assert names(node.hear_ack(999 - NEARLY_RECORDS)) == ["joining"]


def test_an_acknowledgement_without_a_connection_takes_nobody_back() -> None:
    """A late message of somebody who is gone."""
    node = leading()
    node.give(PeerConnected(B, mark(0)))
    node.hear_ack(0)
    node.give(PeerLost(False))
    adopt(node)
    assert node.hear_ack(0, of=B) == ()
    assert node.state.phase is Phase.primary_solo


def test_a_joining_that_fails_ends_by_the_register() -> None:
    """Nothing is committed without the other node until the register has said so; then it must wait."""
    node = leading()
    node.give(PeerConnected(B, mark(0)))
    node.make(1)
    assert swaps(node.tick(TIMES.solo)) == [SwapRegister(2, held(3, A), "solo")]
    assert node.state.committed == 0
    assert Commit(1) in adopt(node)
    assert names(node.hear_ack(1)) == []
    node.now_us += JOIN_WAIT_US_MIN
    assert names(node.hear_ack(1)) == ["joining"]


def failed(node: Node) -> int:
    """Let the joining or the pair end in silence; give how long until the next."""
    node.tick(TIMES.solo)
    adopt(node)
    assert node.state.lead is not None
    wait_us = node.state.lead.join_after_us - node.now_us
    node.now_us += wait_us
    node.give(PeerConnected(B, mark(0)))
    return wait_us


def test_failures_in_a_row_wait_longer_and_longer() -> None:
    """Two seconds, doubling, up to five minutes."""
    node = paired()
    waits = [failed(node) for _ in range(12)]
    assert waits[:3] == [JOIN_WAIT_US_MIN, 2 * JOIN_WAIT_US_MIN, 4 * JOIN_WAIT_US_MIN]
    assert waits[-1] == JOIN_WAIT_US_MAX


def test_a_pair_that_held_has_not_failed_in_a_row() -> None:
    """After a minute in step the counting begins anew; in a new epoch of the same pair it goes on."""
    node = paired()
    assert failed(node) == JOIN_WAIT_US_MIN
    node.hear_ack(0)
    adopt(node, B)
    assert node.state.lead is not None and node.state.lead.failures == 1
    node.now_us += STEADY_US
    assert failed(node) == JOIN_WAIT_US_MIN


def test_a_lost_answer_to_a_joining_is_tried_again() -> None:
    """The other node stays required meanwhile; the refusal then says that it had come about."""
    node = leading()
    node.give(PeerConnected(B, mark(0)))
    node.hear_ack(0)
    node.give(RegisterSilent())
    node.make(1)
    assert node.state.committed == 0
    assert swaps(node.wait()) == [SwapRegister(2, held(3, A, A, B), "join")]
    assert node.give(RegisterRefused(held(3, A, A, B))) == (PromiseEpoch(3),)


# --- Reading ----------------------------------------------------------------------------------------------------------
def test_an_acknowledgement_lets_the_primary_answer_reads_for_a_while() -> None:
    """From when the message was sent that it answers."""
    node = paired()
    assert not may_read(node.state, node.now_us)
    sent_us = node.now_us
    node.now_us += 50_000
    node.hear_ack(0, sent_us=sent_us)
    assert read_until(node.state) == sent_us + TIMES.lease
    assert may_read(node.state, sent_us + TIMES.lease - 1)
    assert not may_read(node.state, sent_us + TIMES.lease)


def test_a_time_that_has_not_come_is_not_believed() -> None:
    """An acknowledgement cannot let anybody read longer than from now."""
    node = paired()
    node.hear_ack(0, sent_us=node.now_us + 10**9)
    assert read_until(node.state) == node.now_us + TIMES.lease


def test_a_primary_alone_answers_reads() -> None:
    """Nobody else can become primary; while it takes another node back, that one may."""
    node = leading()
    assert read_until(node.state) == NEVER_US
    node.give(PeerConnected(B, mark(0)))
    assert read_until(node.state) == 0


def test_the_right_to_read_outlives_the_epoch() -> None:
    """The other node has promised it for a time, in whatever epoch."""
    node = leading()
    node.give(PeerConnected(B, mark(0)))
    node.hear_ack(0)
    adopt(node, B)
    assert may_read(node.state, node.now_us)


def test_an_old_takeover_that_may_come_about_is_made_impossible() -> None:
    """A standby that tried one gives no right to read; a new epoch ends that."""
    node = paired()
    actions = node.hear_ack(0, sent_us=NO_LEASE)
    assert swaps(actions) == [SwapRegister(2, held(3, A, A, B), "bump")]
    assert read_until(node.state) == 0
    node.give(RegisterSilent())
    assert next_deadline(node.state) == node.now_us + TIMES.heartbeat
    assert swaps(node.wait()) == [SwapRegister(2, held(3, A, A, B), "bump")]
    adopt(node, B)
    node.hear_ack(0)
    assert may_read(node.state, node.now_us)


# --- Being primary no longer ------------------------------------------------------------------------------------------
def test_a_primary_with_nothing_uncommitted_follows_at_once() -> None:
    """Nothing need be forgotten."""
    node = paired()
    node.tick(TIMES.solo)
    assert node.give(RegisterRefused(held(3, B))) == (StepDown(True, B),)
    assert node.state.phase is Phase.standby_catching_up


def test_a_primary_with_something_uncommitted_is_fenced() -> None:
    """What it judged may not be history; only a new start tells."""
    node = paired()
    node.make(1)
    node.tick(TIMES.solo)
    assert node.give(RegisterRefused(held(3, B))) == (StepDown(False, B),)
    assert node.state.phase is Phase.fenced
    assert next_deadline(node.state) == NEVER_US


# --- Handing over -----------------------------------------------------------------------------------------------------
def ready(node: Node, lsn: int = 0) -> tuple[Action, ...]:
    return node.hear(HandoverReady(node.state.promised, mark(lsn)))


def test_a_planned_switch_loses_nothing_and_refuses_nothing() -> None:
    """Hold, let the other node get everything, ask whether it is ready, change the register, step down clean."""
    node = paired()
    node.make(1)
    assert node.give(Wished(Wish.switch_over)) == (Hold(),)
    assert node.hear_ack(1) == (Commit(1), Send(Handover(2, mark(1))))
    assert ready(node, 1) == (SwapRegister(2, held(3, B, A, B), "switch"),)
    assert node.give(RegisterSwapped(held(3, B, A, B))) == (StepDown(True, B), Send(Handover(3, mark(1))))
    assert node.state.phase is Phase.standby_in_sync


def test_a_switch_waits_for_this_nodes_own_disk() -> None:
    """What is held is asked for again when the last record is durable."""
    node = paired()
    node.make(1, is_durable=False)
    node.give(Wished(Wish.switch_over))
    assert node.hear_ack(1) == ()
    assert node.give(RecordsDurable(1)) == (Commit(1), Send(Handover(2, mark(1))))


def test_a_record_that_came_in_between_is_handed_over_too() -> None:
    """The other node is asked again, for the new end."""
    node = paired()
    node.hear_ack(0)
    assert Send(Handover(2, mark(0))) in node.give(Wished(Wish.switch_over))
    node.make(1)
    assert swaps(ready(node, 0)) == []
    assert node.hear_ack(1) == (Commit(1), Send(Handover(2, mark(1))))
    assert swaps(ready(node, 1)) == [SwapRegister(2, held(3, B, A, B), "switch")]


@pytest.mark.parametrize("said", [HandoverReady(1, mark(0)), HandoverReady(2, mark(1)), HandoverReady(2, Mark(0, b""))])
def test_an_answer_to_another_question_changes_nothing(said: HandoverReady) -> None:
    """Of another epoch, or of a place that is not there."""
    node = paired()
    node.give(Wished(Wish.switch_over))
    assert node.hear(said) == ()


def test_an_answer_that_nobody_waits_for_changes_nothing() -> None:
    """No switch is under way."""
    node = paired()
    assert ready(node) == ()


def test_a_switch_that_takes_too_long_is_given_up() -> None:
    """What was held is served here."""
    node = paired()
    node.give(Wished(Wish.switch_over))
    deadline_us = node.now_us + TIMES.takeover
    node.give(PeerLost(False))
    assert next_deadline(node.state) == deadline_us
    node.now_us = deadline_us
    actions = node.tick()
    assert names(actions) == ["switch_over_failed"]
    assert Serve(2) in actions


def test_a_switch_without_a_connection_waits_for_one() -> None:
    """Nothing is said to nobody."""
    node = paired()
    node.hear_ack(0)
    node.give(PeerLost(False))
    assert node.give(Wished(Wish.switch_over)) == (Hold(),)
    assert Send(Handover(2, mark(0))) in node.give(PeerConnected(B, mark(0)))


def test_a_switch_waits_for_an_acknowledgement_of_this_epoch() -> None:
    """Before that the other node has not promised the epoch, and would take the handover for a later one."""
    node = paired()
    assert node.give(Wished(Wish.switch_over)) == (Hold(),)
    assert node.hear_ack(0) == (Send(Handover(2, mark(0))),)


def test_while_the_switch_may_come_about_nobody_reads_here() -> None:
    """The other node may be primary already."""
    node = paired()
    node.hear_ack(0)
    node.give(Wished(Wish.switch_over))
    assert may_read(node.state, node.now_us)
    ready(node)
    assert not may_read(node.state, node.now_us)


def test_a_switch_whose_answer_is_lost_is_tried_again_and_then_made_impossible() -> None:
    """Only a new epoch says for sure that the old change will not come about; then this node serves on."""
    node = paired()
    node.give(Wished(Wish.switch_over))
    ready(node)
    node.give(RegisterSilent())
    assert next_deadline(node.state) == node.now_us + TIMES.heartbeat
    assert swaps(node.wait()) == [SwapRegister(2, held(3, B, A, B), "switch")]
    node.give(RegisterSilent())
    node.now_us += TIMES.takeover
    assert swaps(node.tick()) == [SwapRegister(2, held(3, A, A, B), "bump")]
    actions = adopt(node, B)
    assert actions[0] == Serve(3)
    assert names(actions) == ["switch_over_failed"]


def test_a_silent_register_delays_a_switch() -> None:
    """The deadline is then that of the next try."""
    node = silenced()
    node.hear_ack(0)
    node.give(RegisterSilent())
    node.give(Wished(Wish.switch_over))
    assert next_deadline(node.state) == node.now_us + TIMES.heartbeat


@pytest.mark.parametrize("wish", [Wish.switch_over, Wish.disk_low])
def test_without_another_node_in_step_there_is_no_switch(wish: Wish) -> None:
    """It is told, and nothing changes."""
    node = leading()
    assert names(node.give(Wished(wish))) == ["wish_refused"]
    assert node.state.phase is Phase.primary_solo


def test_a_full_disk_hands_over_unless_paused() -> None:
    """By itself a paused node changes no roles."""
    assert paired().give(Wished(Wish.disk_low))[0] == Hold()
    node = paired()
    node.give(Wished(Wish.pause))
    assert names(node.give(Wished(Wish.disk_low))) == ["wish_refused"]


def test_a_second_wish_for_the_same_changes_nothing() -> None:
    """One switch at a time."""
    node = paired()
    node.give(Wished(Wish.switch_over))
    assert node.give(Wished(Wish.disk_low)) == ()


# --- Going down -------------------------------------------------------------------------------------------------------
def test_a_primary_that_leaves_hands_over_first() -> None:
    """And says goodbye as what it is then."""
    node = paired()
    node.give(Wished(Wish.leave))
    ready(node)
    actions = node.give(RegisterSwapped(held(3, B, A, B)))
    assert actions == (StepDown(True, B), Send(Handover(3, mark(0))), Send(Leave(3)), MayLeave())
    assert node.state.phase is Phase.fenced


def test_a_switch_under_way_becomes_a_leaving() -> None:
    """The last wish says what happens afterwards."""
    node = paired()
    node.give(Wished(Wish.switch_over))
    node.give(Wished(Wish.leave))
    ready(node)
    assert MayLeave() in node.give(RegisterSwapped(held(3, B, A, B)))


def test_a_primary_alone_just_leaves() -> None:
    """There is nobody to hand over to."""
    node = leading()
    assert node.give(Wished(Wish.leave)) == (StepDown(True, None), Send(Leave(2)), MayLeave())


def test_leaving_does_not_take_for_ever() -> None:
    """Handed over or not, it ends in time."""
    node = paired()
    node.make(1)
    node.give(Wished(Wish.leave))
    node.now_us += TIMES.takeover
    actions = node.tick()
    assert StepDown(False, None) in actions
    assert actions[-2:] == (Send(Leave(2)), MayLeave())


def test_a_leaving_that_the_register_overtakes_ends_as_well() -> None:
    """The pair ended meanwhile, so there is nobody to hand over to any more."""
    node = paired()
    node.tick(TIMES.solo)
    node.give(Wished(Wish.leave))
    assert MayLeave() in adopt(node)


def test_a_failed_disk_makes_the_other_node_primary() -> None:
    """By proxy and at once; this node never acts again, whatever the answer."""
    node = paired()
    actions = node.give(Wished(Wish.storage_failed))
    assert actions[0] == StepDown(True, None)
    assert swaps(actions) == [SwapRegister(2, held(3, B), "takeover")]
    assert isinstance(actions[-1], Quarantine)
    assert node.give(RegisterSwapped(held(3, B))) == ()
    assert node.state.phase is Phase.quarantined


def test_a_failed_disk_of_a_primary_alone_stops_everything() -> None:
    """Nobody else has what was acknowledged."""
    actions = leading().give(Wished(Wish.storage_failed))
    assert swaps(actions) == []
    assert isinstance(actions[-1], Quarantine)
