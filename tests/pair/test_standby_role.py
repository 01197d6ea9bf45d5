"""A standby compares, stores, acknowledges and applies; and takes over when the register counts it."""

from __future__ import annotations

import pytest

from fortress.pair.events import (
    Action,
    Commit,
    EpochPromised,
    PeerLost,
    ProbePeer,
    PromiseEpoch,
    Quarantine,
    ReadRegister,
    RecordsDurable,
    RegisterRefused,
    RegisterSilent,
    RegisterSwapped,
    Send,
    Serve,
    Store,
    SwapRegister,
    Tell,
    Truncate,
    Wish,
    Wished,
)
from fortress.pair.messages import NO_LEASE, Ack, Handover, HandoverReady, Leave, Mark, Member, Nack, Shipped
from fortress.pair.role import NEVER_US, Phase, next_deadline
from fortress.pair.standby_role import KEPT_MAX
from tests.pair.role_fixture import TIMES, A, B, Node, append, following, held, mark, shipped


def ack(lsn: int, *, epoch: int = 1, applied: int = 0, sent_us: int = 0) -> Send:
    return Send(Ack(epoch, B, mark(lsn), applied, sent_us))


def nack(end: int, reason: str = "mismatch", *, epoch: int = 1) -> Send:
    return Send(Nack(epoch, reason, mark(end)))


def names(actions: tuple[Action, ...]) -> list[str]:
    return [action.name for action in actions if isinstance(action, Tell)]


# --- Following --------------------------------------------------------------------------------------------------------
def test_records_are_acknowledged_when_they_are_on_the_disk() -> None:
    """Not when they come."""
    node = following()
    assert node.hear(append(1, mark(0), shipped(1), shipped(2), sent_us=7)) == (Store((shipped(1), shipped(2))),)
    assert node.give(RecordsDurable(1)) == (ack(1, sent_us=7),)
    assert node.give(RecordsDurable(2)) == (ack(2, sent_us=7),)
    assert node.give(RecordsDurable(2)) == ()


def test_a_heartbeat_is_answered_with_what_there_is() -> None:
    """What is compared and durable, and the newest time the primary said."""
    node = following(end=3)
    assert node.hear(append(1, mark(3), sent_us=7)) == (ack(3, sent_us=7),)
    assert node.hear(append(1, mark(3), sent_us=5)) == (ack(3, sent_us=7),)


def test_only_what_is_compared_durable_and_committed_is_applied() -> None:
    """Each of the three holds it back."""
    node = following(end=2)
    assert node.hear(append(1, mark(2), shipped(3), committed=3)) == (Store((shipped(3),)), Commit(2))
    assert node.give(RecordsDurable(3)) == (Commit(3), ack(3, applied=3))
    node = following(end=2)
    assert node.hear(append(1, mark(1), committed=2)) == (Commit(1), ack(1, applied=1))
    assert node.hear(append(1, mark(2), committed=1)) == (Commit(2), ack(2, applied=2))


def test_what_is_there_already_is_not_stored_again() -> None:
    """A message that overlaps is compared, and only what is new is stored."""
    node = following(end=3)
    assert node.hear(append(1, mark(1), shipped(2), shipped(3), shipped(4))) == (Store((shipped(4),)),)
    assert node.hear(append(1, mark(0), shipped(1), shipped(2))) == (ack(3),)


def test_a_tail_of_another_history_is_cut_off() -> None:
    """At the first difference; then the node starts anew."""
    node = following(end=4, committed=2)
    assert node.hear(append(1, mark(2), shipped(3), shipped(4, "other"))) == (Truncate(mark(3)),)
    assert node.state.phase is Phase.fenced
    assert node.hear(append(1, mark(3))) == ()


def test_nothing_committed_is_ever_cut_off() -> None:
    """Two histories cannot be mended by a machine: the node takes part in nothing any more."""
    node = following(end=4, committed=4)
    (action,) = node.hear(append(1, mark(2), shipped(3), shipped(4, "other")))
    assert isinstance(action, Quarantine)
    assert "after record 3" in action.reason
    assert node.state.phase is Phase.quarantined
    assert next_deadline(node.state) == NEVER_US


@pytest.mark.parametrize("previous", [mark(5), mark(3, "other"), mark(2, "other")])
def test_records_that_do_not_fit_are_refused_once(previous: Mark) -> None:
    """With a gap or after another record; the primary then looks for what is common, and what fits is taken."""
    node = following(end=3)
    message = append(1, previous, shipped(previous.lsn + 1))
    assert node.hear(message) == (nack(3),)
    assert node.hear(message) == ()
    assert node.hear(append(1, mark(3), shipped(4))) == (Store((shipped(4),)),)
    assert node.hear(append(1, mark(6), shipped(7))) == (nack(4),)


def test_a_heartbeat_that_runs_ahead_is_no_gap() -> None:
    """The records before it are still on their way."""
    node = following(end=3)
    assert node.hear(append(1, mark(9), committed=9)) == (ack(0),)
    assert node.hear(append(1, mark(3, "other"))) == (nack(3),)


def test_what_the_window_does_not_hold_cannot_be_compared() -> None:
    """The primary is told, not the journal cut: what is older than the window may well be equal."""
    node = following(end=2000)
    assert node.hear(append(1, mark(0), *(shipped(lsn) for lsn in range(1, 5)))) == (nack(2000),)


def test_an_acknowledgement_from_below_the_window_is_left_out() -> None:
    """There is no hash to name."""
    node = following(end=1)
    records = tuple(shipped(lsn) for lsn in range(2, 2000))
    assert node.hear(append(1, mark(1), *records)) == (Store(records),)
    assert node.give(RecordsDurable(5)) == ()
    assert node.give(RecordsDurable(1999)) == (ack(1999),)


def test_records_out_of_order_break_the_rules() -> None:
    """Nothing of the message is taken."""
    node = following()
    assert names(node.hear(append(1, mark(0), shipped(1), Shipped(mark(3), b"record")))) == ["peer_broke_rules"]
    assert node.state.marks.end == mark(0)


# --- Epochs -----------------------------------------------------------------------------------------------------------
def test_an_older_epoch_is_refused() -> None:
    """The sender learns which one is promised."""
    node = following(epoch=3)
    assert node.hear(append(2, mark(0), shipped(1))) == (nack(0, "stale", epoch=3),)


def test_a_newer_epoch_is_promised_first() -> None:
    """What comes meanwhile is kept, in order; then the register is asked who is in sync."""
    node = following()
    assert node.hear(append(2, mark(0), shipped(1)), after_us=TIMES.heartbeat) == (PromiseEpoch(2),)
    assert node.hear(append(2, mark(1), shipped(2))) == ()
    actions = node.give(EpochPromised(2))
    assert actions == (Store((shipped(1),)), Store((shipped(2),)), ReadRegister())
    assert node.give(RecordsDurable(2)) == (ack(2, epoch=2),)


def test_what_was_compared_in_an_older_epoch_does_not_count() -> None:
    """The new primary's history may differ."""
    node = following(end=3)
    node.hear(append(1, mark(3)))
    node.hear(append(2, mark(1)))
    assert ack(1, epoch=2) in node.give(EpochPromised(2))


def test_an_even_newer_epoch_takes_the_place() -> None:
    """Only what was kept of the newest is used; answers to older promises are ignored."""
    node = following()
    node.hear(append(2, mark(0), shipped(1)))
    assert node.hear(append(3, mark(0), shipped(1, "new"))) == (PromiseEpoch(3),)
    assert node.hear(append(2, mark(1), shipped(2))) == ()
    assert node.give(EpochPromised(2)) == ()
    assert node.give(EpochPromised(3))[0] == Store((shipped(1, "new"),))


def test_the_primary_learns_that_records_of_an_older_epoch_were_thrown_away() -> None:
    """One that begins its next epoch while it brings a standby up takes its records for sent."""
    node = following()
    node.hear(append(2, mark(0), shipped(1)))
    assert node.hear(append(3, mark(1))) == (PromiseEpoch(3), nack(0, epoch=3))


def test_only_so_much_is_kept() -> None:
    """The primary is told that something was not, and looks for what is common."""
    node = following()
    for lsn in range(KEPT_MAX):
        node.hear(append(2, mark(lsn), shipped(lsn + 1)))
    assert node.hear(append(2, mark(KEPT_MAX), shipped(KEPT_MAX + 1))) == (nack(0, epoch=2),)


def test_a_message_of_the_epoch_that_this_node_is_to_lead_is_ignored() -> None:
    """Nobody else can lead it."""
    node = following()
    node.read(held(2, B))
    assert node.state.promising == 2
    assert node.hear(append(2, mark(0), shipped(1))) == ()
    assert node.hear(append(3, mark(0), shipped(1))) == (PromiseEpoch(3),)
    assert node.give(EpochPromised(2)) == ()
    assert node.give(EpochPromised(3))[0] == Store((shipped(1),))


def test_kept_messages_end_with_the_first_that_cuts() -> None:
    """A node that must start anew takes nothing more."""
    node = following(end=2)
    node.hear(append(2, mark(1), shipped(2, "other")))
    node.hear(append(2, mark(2, "other"), shipped(3)))
    assert node.give(EpochPromised(2)) == (Truncate(mark(1)),)


def test_a_node_that_recovers_may_follow_before_the_register_answers() -> None:
    """The primary is there; that is enough to catch up."""
    node = Node(B, promised=1)
    node.tick()
    assert node.hear(append(1, mark(0), shipped(1))) == (Store((shipped(1),)),)
    assert node.state.phase is Phase.standby_catching_up
    node.read(held(1, A, A, B))
    assert node.state.phase is Phase.standby_in_sync


# --- Taking over ------------------------------------------------------------------------------------------------------
def test_silence_makes_a_standby_in_sync_take_over() -> None:
    """It reads the register anew, asks for the next epoch, promises it, and serves; its tail is history."""
    node = following(end=2)
    heard_us = node.now_us
    assert next_deadline(node.state) == heard_us + TIMES.takeover
    assert node.tick(TIMES.takeover) == (ReadRegister(),)
    assert node.read(held(1, A, A, B)) == (SwapRegister(1, held(2, B), "takeover"),)
    assert node.give(RegisterSwapped(held(2, B))) == (PromiseEpoch(2),)
    assert node.give(EpochPromised(2)) == (Serve(2), Commit(2))


def test_a_standby_that_the_register_does_not_count_never_takes_over() -> None:
    """It says so, and asks again much later."""
    node = following()
    node.tick(TIMES.takeover)
    assert names(node.read(held(2, A))) == ["takeover_refused"]
    assert node.state.phase is Phase.standby_catching_up
    assert next_deadline(node.state) == node.now_us + TIMES.takeover


def test_another_disk_of_the_same_node_is_not_counted() -> None:
    """Membership is by instance."""
    node = following(in_sync=False)
    node.tick(TIMES.takeover)
    old = held(2, A, A, Member(B.name, b"older instance.."))
    assert names(node.read(old)) == ["takeover_refused"]


def test_a_primary_that_speaks_is_not_taken_over() -> None:
    """Not even while the register is being read for it."""
    node = following()
    node.tick(TIMES.takeover)
    node.hear(append(1, mark(0)))
    assert node.read(held(1, A, A, B)) == ()
    assert next_deadline(node.state) == node.now_us + TIMES.takeover


def test_a_process_that_is_gone_is_taken_over_soon() -> None:
    """Counted from the last acknowledgement, since the primary may answer reads on its strength."""
    node = following()
    node.hear(append(1, mark(0)), after_us=TIMES.takeover // 2)
    acked_us = node.now_us
    assert node.give(PeerLost(True), after_us=1000) == ()
    assert next_deadline(node.state) == acked_us + TIMES.refused
    assert node.wait() == (ReadRegister(),)


def test_a_lost_connection_is_looked_into() -> None:
    """Again and again, until something is heard or the process is found gone."""
    node = following()
    assert node.give(PeerLost(False)) == (ProbePeer(),)
    assert next_deadline(node.state) == node.now_us + TIMES.heartbeat
    assert node.wait() == (ProbePeer(),)
    node.hear(append(1, mark(0)))
    assert node.tick(TIMES.heartbeat) == ()
    node.give(PeerLost(False))
    node.give(PeerLost(True))
    assert ProbePeer() not in node.tick(TIMES.heartbeat)


def test_the_register_is_asked_no_second_time_meanwhile() -> None:
    """While it is, only looking for the primary goes on."""
    node = following()
    node.tick(TIMES.takeover)
    assert next_deadline(node.state) == NEVER_US
    assert node.give(PeerLost(False)) == (ProbePeer(),)
    assert next_deadline(node.state) == node.now_us + TIMES.heartbeat


def test_a_takeover_without_an_answer_is_tried_again() -> None:
    """It reads first; if the old change came about, this node is primary by the register."""
    node = following()
    node.tick(TIMES.takeover)
    node.read(held(1, A, A, B))
    node.give(RegisterSilent())
    assert next_deadline(node.state) == node.now_us + TIMES.heartbeat
    assert node.wait() == (ReadRegister(),)
    assert node.read(held(2, B)) == (PromiseEpoch(2),)


def test_a_takeover_that_may_still_come_about_gives_no_right_to_read() -> None:
    """The acknowledgement says so, until the epoch is over."""
    node = following()
    node.tick(TIMES.takeover)
    node.read(held(1, A, A, B))
    node.give(RegisterSilent())
    assert node.hear(append(1, mark(0), sent_us=7)) == (ack(0, sent_us=NO_LEASE),)
    node.hear(append(2, mark(0), sent_us=9))
    assert ack(0, epoch=2, sent_us=9) in node.give(EpochPromised(2))


def test_a_takeover_that_was_refused_is_thought_over() -> None:
    """The register changed meanwhile, so somebody is there."""
    node = following()
    node.tick(TIMES.takeover)
    node.read(held(1, A, A, B))
    assert node.give(RegisterRefused(held(2, A))) == ()
    assert node.state.phase is Phase.standby_catching_up


def test_a_paused_standby_takes_over_nothing_by_itself() -> None:
    """Until resumed; then at once, if it is due."""
    node = following()
    node.give(Wished(Wish.pause))
    assert next_deadline(node.state) == NEVER_US
    assert node.tick(TIMES.takeover) == ()
    assert node.give(Wished(Wish.resume)) == (ReadRegister(),)


def test_a_wished_takeover_waits_for_what_was_promised_for_reads() -> None:
    """Nothing is acknowledged meanwhile; records are taken."""
    node = following()
    node.hear(append(1, mark(0)))
    acked_us = node.now_us
    node.give(Wished(Wish.pause))
    assert node.give(Wished(Wish.take_over)) == ()
    assert node.hear(append(1, mark(0), shipped(1)), after_us=1000) == (Store((shipped(1),)),)
    assert node.give(RecordsDurable(1)) == ()
    assert next_deadline(node.state) == acked_us + TIMES.refused
    assert node.wait() == (ReadRegister(),)
    assert node.hear(append(1, mark(1))) == ()
    assert node.read(held(1, A, A, B)) == (SwapRegister(1, held(2, B), "takeover"),)


def test_a_wish_is_not_done_at_some_later_time() -> None:
    """When the register does not answer, the takeover is off, and acknowledging goes on."""
    node = following()
    node.give(Wished(Wish.take_over))
    assert node.wait() == (ReadRegister(),)
    node.give(RegisterSilent())
    assert node.hear(append(1, mark(0))) == (ack(0),)


def test_a_primary_that_says_goodbye_is_taken_over_at_once() -> None:
    """It answers no reads any more."""
    node = following()
    node.hear(append(1, mark(0)), after_us=TIMES.heartbeat)
    assert ReadRegister() in node.hear(Leave(1))
    assert node.read(held(1, A, A, B)) == (SwapRegister(1, held(2, B), "takeover"),)


# --- A planned switch -------------------------------------------------------------------------------------------------
def test_a_standby_with_everything_says_that_it_is_ready() -> None:
    """What the primary hands over is committed; then the register is asked often."""
    node = following(end=2)
    node.hear(append(1, mark(2)), after_us=TIMES.heartbeat)
    actions = node.hear(Handover(1, mark(2)))
    assert actions == (Commit(2), ack(2, applied=2), Send(HandoverReady(1, mark(2))), ReadRegister())
    assert node.read(held(1, A, A, B)) == ()
    assert next_deadline(node.state) == node.now_us + TIMES.heartbeat
    assert node.wait() == (ReadRegister(),)
    assert node.read(held(2, B, A, B)) == (PromiseEpoch(2),)
    node.give(EpochPromised(2))
    assert node.state.phase is Phase.primary_paired


def test_a_standby_is_ready_when_its_disk_is() -> None:
    """Not before."""
    node = following()
    node.hear(append(1, mark(0), shipped(1)))
    assert node.hear(Handover(1, mark(1))) == (ack(0),)
    assert node.give(RecordsDurable(1)) == (Commit(1), ack(1, applied=1), Send(HandoverReady(1, mark(1))))


def test_a_handover_of_something_else_is_not_confirmed() -> None:
    """The record is another, or the epoch is over."""
    node = following(end=2)
    node.hear(append(1, mark(2)))
    assert not any(type(action) is HandoverReady for action in node.hear(Handover(1, mark(2, "other"))))
    assert following(epoch=2).hear(Handover(1, mark(0))) == ()


def test_a_primary_that_goes_on_ends_the_waiting() -> None:
    """Records say that the switch is off."""
    node = following()
    node.hear(append(1, mark(0)))
    node.hear(Handover(1, mark(0)))
    node.read(held(1, A, A, B))
    node.hear(append(1, mark(0), shipped(1)))
    assert next_deadline(node.state) == node.now_us + TIMES.takeover


def test_a_handover_of_a_newer_epoch_says_where_to_look() -> None:
    """The register names this node now."""
    node = following()
    assert node.hear(Handover(2, mark(0))) == (ReadRegister(),)
    assert node.read(held(2, B, A, B)) == (PromiseEpoch(2),)
