"""What a primary does: commit by rule R1, keep the other node in step, drop it, take it back, hand over to it.

The rule that everything rests on: a record is committed when this node's disk has it and, if the other node is
required, that one has acknowledged it in this epoch. The other node is required while the register counts it, and from
the moment it is being taken back; it ceases to be required only with the epoch, that is when the register has said so
(R8). So a change of the register whose outcome is unknown needs no care of its own: it is tried again, or another is,
and whichever answer comes next says what holds.

Records themselves are not sent from here: the shell ships each one while it goes to this node's own disk, and tells
``RecordMade``. This module sends heartbeats when nothing was made for a while, and learns from acknowledgements.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from fortress.pair.events import (
    Action,
    Hold,
    MayLeave,
    PeerConnected,
    RecordMade,
    Send,
    Serve,
    StepDown,
    Wish,
)
from fortress.pair.messages import Ack, Append, Configuration, Handover, HandoverReady, Leave, Member
from fortress.pair.role_state import (
    NEVER_US,
    Follow,
    Handing,
    Lead,
    Phase,
    State,
    ask,
    commit,
    latest_epoch,
    move,
    other_in_sync,
    swap,
    tell,
)

NEARLY_RECORDS: Final = 128
"""So many records behind, a standby is taken back: commits wait for it from then on."""
JOIN_WAIT_US_MIN: Final = 2_000_000
JOIN_WAIT_US_MAX: Final = 300_000_000
STEADY_US: Final = 60_000_000
"""A pair that held so long has not failed in a row."""


# --- Becoming primary, and ceasing to be ----------------------------------------------------------------------------
def begin(state: State, configuration: Configuration, now_us: int, out: list[Action]) -> State:
    """Act as primary of an epoch whose promise is on the disk (R3); this node's own journal is the history (R4)."""
    last = state.lead
    counted = other_in_sync(state, configuration)
    connected = last.connected if last is not None else None
    lead = Lead(
        other=counted if counted is not None else connected,
        connected=connected,
        is_paired=counted is not None,
        is_required=counted is not None or state.times.two_copies,
        join_from=state.marks.end.lsn,
        heard_us=now_us,
        sent_us=now_us,
        adopted_us=now_us,
    )
    if last is not None:
        lead = _carry_over(state, last, lead, now_us)
    out.append(Serve(configuration.epoch))
    state = move(replace(state, lead=lead, follow=Follow(), retry_us=now_us), _phase_of(lead))
    state = _greet(advance(state, out), lead, now_us, out)
    if last is not None and last.handing is not None:
        tell(out, "switch_over_failed")
        if last.handing.wish is Wish.leave:
            return leave(state, out)
    return state


def _phase_of(lead: Lead) -> Phase:
    if lead.is_paired:
        return Phase.primary_paired
    return Phase.primary_joining if lead.is_required else Phase.primary_solo


def _carry_over(state: State, last: Lead, lead: Lead, now_us: int) -> Lead:
    """Keep what holds from one epoch of this primary to the next: a read lease, and how often joining has failed."""
    if lead.other == last.other:
        # whoever gave it promised not to try to take over, in whatever epoch
        lead = replace(lead, lease_us=last.lease_us)
    if lead.is_paired or not last.is_required:
        return replace(lead, failures=last.failures, join_after_us=last.join_after_us)
    if state.is_peer_left or last.connected not in (None, last.other):
        return lead
    was_steady = last.is_paired and now_us - last.adopted_us >= STEADY_US
    failures = 1 if was_steady else last.failures + 1
    wait_us = min(JOIN_WAIT_US_MIN << min(failures - 1, 16), JOIN_WAIT_US_MAX)
    return replace(lead, failures=failures, join_after_us=now_us + wait_us)


def step_down(state: State, primary: Member | None, now_us: int, out: list[Action]) -> State:
    """Be primary no longer, since another epoch has begun elsewhere.

    With everything committed this node follows from here. Otherwise what it judged and did not commit may not be
    history: it is fenced, and does nothing more until it is started anew from its journal.
    """
    is_clean = state.committed == state.marks.end.lsn
    out.append(StepDown(is_clean, primary))
    state = replace(state, lead=None, follow=Follow(now_us, now_us, told=state.committed))
    return move(state, Phase.standby_catching_up if is_clean else Phase.fenced)


def leave(state: State, out: list[Action]) -> State:
    """Go down in order, handed over or not; whoever remains is told not to wait."""
    if state.lead is not None:
        out.append(StepDown(state.committed == state.marks.end.lsn, None))
    out.append(Send(Leave(latest_epoch(state))))
    out.append(MayLeave())
    return move(replace(state, lead=None), Phase.fenced)


# --- Committing -----------------------------------------------------------------------------------------------------
def advance(state: State, out: list[Action]) -> State:
    """Commit what may be (R1)."""
    lead = state.lead
    assert lead is not None
    return commit(state, min(state.durable, lead.acked) if lead.is_required else state.durable, out)


def on_record_made(state: State, lead: Lead, event: RecordMade, now_us: int) -> State:
    """Note the next record; the shell ships it meanwhile, so the other node hears of this one without a heartbeat."""
    return replace(state, marks=state.marks.add(event.mark), lead=replace(lead, sent_us=now_us))


def on_ack(state: State, lead: Lead, ack: Ack, now_us: int, out: list[Action]) -> State:
    """Take what the other node says to have, if it is the one that counts and has the same."""
    if ack.epoch != state.promised or ack.member != lead.other:
        return state
    durable = ack.durable
    known = state.marks.hash_at(durable.lsn)
    if known != durable.hash and (known is not None or durable.lsn > state.marks.end.lsn):
        tell(out, "peer_broke_rules", said="ack", lsn=durable.lsn)
        return state
    lease_us = min(ack.sent_us, now_us) + state.times.lease if ack.sent_us >= 0 else 0
    # whoever answers and gets no further, since its disk is slow or full, must not hold this node up for ever
    is_moving = durable.lsn > lead.claimed or durable.lsn == state.marks.end.lsn
    lead = replace(
        lead,
        # an acknowledgement from below the window proves nothing that could be checked, but that somebody is there
        acked=durable.lsn if known is not None and durable.lsn > lead.acked else lead.acked,
        claimed=max(durable.lsn, lead.claimed),
        heard_us=now_us if is_moving else lead.heard_us,
        lease_us=max(lead.lease_us, lease_us),
        must_bump=ack.sent_us < 0 and lead.is_paired,
    )
    state = replace(state, lead=lead, is_peer_left=False)
    if lead.is_required:
        state = commit(state, min(state.durable, lead.acked), out)
    if state.phase is Phase.primary_paired and lead.handing is None and not lead.must_bump:
        return state
    if state.phase is Phase.blocked and is_moving:
        state = move(state, _phase_of(lead))
    return drive(_start_joining(state, durable.lsn, now_us, out), now_us, out)


# --- The other node comes and goes ----------------------------------------------------------------------------------
def on_peer_connected(state: State, lead: Lead, event: PeerConnected, now_us: int, out: list[Action]) -> State:
    """Know who is there; somebody with another disk than the one that counts is not counted (see `_wants_solo`)."""
    member = event.member
    if member.name == state.member.name or member.instance == state.member.instance:
        tell(out, "peer_broke_rules", said="hello", name=member.name)
        return state
    lead = replace(lead, connected=member)
    if lead.other is None or state.phase is Phase.primary_solo:
        is_known = lead.other == member
        acked, claimed = (lead.acked, lead.claimed) if is_known else (-1, -1)
        lead = replace(lead, other=member, acked=acked, claimed=claimed)
    if lead.other == member:
        lead = replace(lead, heard_us=now_us)
    state = replace(state, lead=lead)
    if state.phase is Phase.blocked and lead.other == member:
        state = move(state, _phase_of(lead))
    state = _greet(state, lead, now_us, out)
    return _start_joining(state, event.common.lsn, now_us, out)


def _start_joining(state: State, lsn: int, now_us: int, out: list[Action]) -> State:
    """Take a standby back that is nearly there: nothing is committed without it any more, and only then it may join."""
    lead = state.lead
    assert lead is not None
    is_here = lead.connected is not None and lead.connected == lead.other
    is_near = state.marks.end.lsn - lsn <= NEARLY_RECORDS
    if state.phase is not Phase.primary_solo or not is_here or not is_near or now_us < lead.join_after_us:
        return state
    tell(out, "joining", lsn=lsn, end=state.marks.end.lsn)
    lead = replace(lead, is_required=True, join_from=state.marks.end.lsn, heard_us=now_us)
    return move(replace(state, lead=lead), Phase.primary_joining)


# --- What is due ----------------------------------------------------------------------------------------------------
def drive(state: State, now_us: int, out: list[Action]) -> State:
    """Do what is due: a heartbeat, and at most one question to the register."""
    state = _heartbeat(_block(state, now_us, out), now_us, out)
    lead = state.lead
    assert lead is not None
    if state.is_asking or state.promising or now_us < state.retry_us:
        return state
    if lead.handing is not None:
        return _drive_handing(state, lead, lead.handing, now_us, out)
    if _wants_solo(state, lead, now_us):
        return swap(state, "solo", state.member, (state.member,), out)
    # Everything from before joining began is there, and nothing was committed since that it has not acknowledged.
    if state.phase is Phase.primary_joining and lead.connected == lead.other and lead.acked >= lead.join_from:
        assert lead.other is not None
        return swap(state, "join", state.member, (state.member, lead.other), out)
    if lead.must_bump:
        return _bump(state, lead, out)
    return ask(state, out) if state.is_register_silent else state


def _bump(state: State, lead: Lead, out: list[Action]) -> State:
    """Begin a new epoch with all else as it is, so that what was asked of the register before cannot come about."""
    assert lead.other is not None and lead.is_paired
    return swap(state, "bump", state.member, (state.member, lead.other), out)


def is_silent(state: State, lead: Lead, now_us: int) -> bool:
    """Tell whether the node whose acknowledgement is needed has not been heard of for too long."""
    return lead.is_required and (state.is_peer_left or now_us >= lead.heard_us + state.times.solo)


def _wants_solo(state: State, lead: Lead, now_us: int) -> bool:
    if lead.is_required and lead.connected is not None and lead.connected != lead.other:
        return True  # the one that counts is gone for good: its node came back with another disk
    return is_silent(state, lead, now_us) and not state.times.two_copies


def _block(state: State, now_us: int, out: list[Action]) -> State:
    lead = state.lead
    assert lead is not None
    may_not = state.times.two_copies or state.is_register_silent
    if state.phase is Phase.blocked or not may_not or not is_silent(state, lead, now_us):
        return state
    tell(out, "blocked", reason="two_copies" if state.times.two_copies else "register_silent")
    return move(state, Phase.blocked)


def _heartbeat(state: State, now_us: int, out: list[Action]) -> State:
    lead = state.lead
    assert lead is not None
    return state if now_us < lead.sent_us + state.times.heartbeat else _greet(state, lead, now_us, out)


def _greet(state: State, lead: Lead, now_us: int, out: list[Action]) -> State:
    """Say that this node is there, in which epoch, and up to where it has committed.

    While the shell still sends what the other node lacks, this runs ahead of it, which a standby does not mind.
    """
    if lead.connected is None:
        return state
    out.append(Send(Append(state.promised, state.marks.end, (), state.committed, now_us)))
    return replace(state, lead=replace(lead, sent_us=now_us))


def next_deadline(state: State, lead: Lead) -> int:
    """Tell when `drive` has something to do at the latest."""
    times = state.times
    due_us = lead.sent_us + times.heartbeat if lead.connected is not None else NEVER_US
    if state.phase is not Phase.blocked and lead.is_required and (times.two_copies or state.is_register_silent):
        due_us = min(due_us, 0 if state.is_peer_left else lead.heard_us + times.solo)
    if state.is_asking or state.promising:
        return due_us
    if lead.handing is not None:
        is_waiting = not lead.handing.is_swapped and not state.is_register_silent
        return min(due_us, lead.handing.until_us if is_waiting else state.retry_us)
    if state.is_register_silent or lead.must_bump or _wants_solo(state, lead, lead.heard_us):
        return min(due_us, state.retry_us)
    if _wants_solo(state, lead, NEVER_US):
        due_us = min(due_us, max(state.retry_us, lead.heard_us + times.solo))
    return due_us


def read_until(state: State, lead: Lead) -> int:
    """Tell until when what this node has committed is the newest there is, so that reads need ask nobody."""
    if lead.handing is not None and lead.handing.is_swapped:
        return 0
    return NEVER_US if state.phase is Phase.primary_solo else lead.lease_us


# --- Handing over ---------------------------------------------------------------------------------------------------
def hand_over(state: State, lead: Lead, wish: Wish, now_us: int, out: list[Action]) -> State:
    """Begin to make the other node primary: take nothing new, let it get everything, ask whether it is ready."""
    if lead.handing is not None:
        handing = replace(lead.handing, wish=Wish.leave if wish is Wish.leave else lead.handing.wish)
        return replace(state, lead=replace(lead, handing=handing))
    if state.phase is not Phase.primary_paired:
        if wish is Wish.leave:
            return leave(state, out)
        tell(out, "wish_refused", wish=wish.value, phase=state.phase.value)
        return state
    out.append(Hold())
    return replace(state, lead=replace(lead, handing=Handing(wish, now_us + state.times.takeover)))


def on_handover_ready(state: State, lead: Lead, said: HandoverReady) -> State:
    """Note what the other node has; whether that is everything is seen when the register is asked."""
    if lead.handing is None or said.epoch != state.promised or not state.marks.has(said.mark):
        return state
    return replace(state, lead=replace(lead, handing=replace(lead.handing, ready_lsn=said.mark.lsn)))


def _drive_handing(state: State, lead: Lead, handing: Handing, now_us: int, out: list[Action]) -> State:
    end = state.marks.end
    is_over = now_us >= handing.until_us
    if is_over and handing.wish is Wish.leave:
        return leave(state, out)
    if is_over and not handing.is_swapped:
        tell(out, "switch_over_failed")
        out.append(Serve(state.promised))
        return replace(state, lead=replace(lead, handing=None))
    if is_over:
        # the switch may still come about, until another change has taken its place
        return _bump(state, lead, out)
    if state.committed != end.lsn:
        return state
    if handing.ready_lsn == end.lsn:
        assert lead.other is not None
        state = replace(state, lead=replace(lead, handing=replace(handing, is_swapped=True)))
        return swap(state, "switch", lead.other, (state.member, lead.other), out)
    # only who has acknowledged in this epoch takes the handover for one of this epoch
    if handing.told_lsn != end.lsn and lead.connected == lead.other and lead.acked == end.lsn:
        out.append(Send(Handover(state.promised, end)))
        return replace(state, lead=replace(lead, handing=replace(handing, told_lsn=end.lsn)))
    return state


def on_handed_over(state: State, wish: Wish, epoch: int, out: list[Action]) -> State:
    """Let the other node, which is primary by the register now, look there at once."""
    out.append(Send(Handover(epoch, state.marks.end)))
    return leave(state, out) if wish is Wish.leave else state


def give_up(state: State, lead: Lead, out: list[Action]) -> State:
    """Make the other node primary in this one's place, if it has everything; nobody waits for the answer."""
    out.append(StepDown(state.committed == state.marks.end.lsn, None))
    if lead.is_paired and lead.other is not None:
        state = swap(state, "takeover", lead.other, (lead.other,), out)
    return replace(state, lead=None)
