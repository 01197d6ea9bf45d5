"""What a standby does: follow the primary by rules R5 and R6, and take over when it is gone.

Following is by comparing hashes: records are chained, so two journals with the same hash at one place are equal up to
there. What is acknowledged is the shorter of what is compared in this epoch and what is on the disk; what is applied is
besides no more than the primary has said to be committed.

Taking over needs the register: it is read anew, and only a member whose very disk it counts asks it for the next epoch.
Whoever is asked to trust an acknowledgement for reads relies on this node not asking soon after having sent one.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from fortress.pair.events import (
    Action,
    ProbePeer,
    PromiseEpoch,
    Quarantine,
    Send,
    Store,
    Truncate,
)
from fortress.pair.marks import Marks
from fortress.pair.messages import NO_LEASE, Ack, Append, Handover, HandoverReady, Mark, Nack, Shipped
from fortress.pair.role_state import NEVER_US, Follow, Phase, State, ask, commit, move, swap, tell

KEPT_MAX: Final = 16
"""So many messages of an epoch that is just being promised are kept; the primary is told when one is not."""


# --- Following ------------------------------------------------------------------------------------------------------
def on_append(state: State, message: Append, now_us: int, out: list[Action]) -> State:
    """Take what the primary of this epoch sends; promise a newer epoch first (R2); refuse an older one."""
    if message.epoch < state.promised:
        out.append(Send(Nack(state.promised, "stale", state.marks.end)))
        return state
    if message.epoch > state.promised:
        return _keep(state, message, out)
    if state.phase is Phase.recovering:
        state = settle(state, now_us)
    follow = replace(
        state.follow,
        heard_us=now_us,
        is_lost=False,
        is_refused=False,
        is_taking=state.follow.is_wished and state.follow.is_taking,
        sent_us=max(message.sent_us, state.follow.sent_us),
        told=max(message.committed, state.follow.told),
        ready_until_us=0 if message.records else state.follow.ready_until_us,
    )
    return _follow(replace(state, follow=follow, is_peer_left=False), message, now_us, out)


def _keep(state: State, message: Append, out: list[Action]) -> State:
    """Keep a message of an epoch that is not promised yet, and promise it."""
    if message.epoch < state.promising or (message.epoch == state.promising and state.adopting is not None):
        return state
    if message.epoch > state.promising:
        out.append(PromiseEpoch(message.epoch))
        if any(kept.records for kept in state.follow.kept) and not state.marks.has(message.previous):
            # the same primary in its next epoch, perhaps: it takes for sent what is thrown away here
            out.append(Send(Nack(message.epoch, "mismatch", state.marks.end)))
        follow = replace(state.follow, kept=(message,))
        return replace(state, promising=message.epoch, adopting=None, follow=follow)
    follow = state.follow
    if len(follow.kept) >= KEPT_MAX:
        out.append(Send(Nack(message.epoch, "mismatch", state.marks.end)))
        return state
    return replace(state, follow=replace(follow, kept=(*follow.kept, message)))


def on_promised(state: State, now_us: int, out: list[Action]) -> State:
    """Begin to follow in an epoch whose promise is on the disk: nothing is compared yet in it."""
    last = state.follow
    follow = Follow(last.heard_us, last.acked_us, last.told, last.is_lost, last.is_refused, last.probe_us)
    state = replace(state, follow=follow)
    for message in last.kept:
        if state.phase is not Phase.fenced and state.phase is not Phase.quarantined:
            state = on_append(state, message, now_us, out)
    return state


def settle(state: State, now_us: int) -> State:
    """Be a standby from now on; what this node promised before it was started anew is kept by counting from now."""
    state = replace(state, follow=replace(state.follow, heard_us=now_us, acked_us=now_us))
    return move(state, Phase.standby_catching_up)


def _follow(state: State, message: Append, now_us: int, out: list[Action]) -> State:
    """Compare, and store what is new (R5)."""
    marks = state.marks
    previous = message.previous
    if not marks.has(previous):
        if message.records or previous.lsn <= marks.end.lsn:
            return _refuse(state, out)
        # A heartbeat runs ahead of records that are still on their way.
        return acknowledge(state, now_us, out)
    equal = previous
    fresh: tuple[Shipped, ...] = ()
    for place, shipped in enumerate(message.records):
        if shipped.mark.lsn > marks.end.lsn:
            fresh = message.records[place:]
            break
        known = marks.hash_at(shipped.mark.lsn)
        if known is None:
            return _refuse(state, out)
        if known != shipped.mark.hash:
            return _truncate(state, equal, out)
        equal = shipped.mark
    if not fresh:
        return _verified(state, equal.lsn, now_us, out)
    longer = _added(marks, fresh)
    if longer is None:
        tell(out, "peer_broke_rules", said="append", lsn=fresh[0].mark.lsn)
        return state
    out.append(Store(fresh))
    follow = replace(state.follow, verified=longer.end.lsn, is_nacked=False)
    state = replace(state, marks=longer, follow=follow)
    return commit(state, min(follow.told, follow.verified, state.durable), out)


def _added(marks: Marks, records: tuple[Shipped, ...]) -> Marks | None:
    """Give the window with these records' marks; None when they do not follow one another."""
    lsn = marks.end.lsn
    for shipped in records:
        lsn += 1
        if shipped.mark.lsn != lsn:
            return None
        marks = marks.add(shipped.mark)
    return marks


def _refuse(state: State, out: list[Action]) -> State:
    """Say once that messages do not fit; the primary finds the place where they do."""
    if state.follow.is_nacked:
        return state
    out.append(Send(Nack(state.promised, "mismatch", state.marks.end)))
    return replace(state, follow=replace(state.follow, is_nacked=True))


def _truncate(state: State, equal: Mark, out: list[Action]) -> State:
    """Cut off what is not history; if it was committed there are two histories, and no machine can mend that."""
    if equal.lsn < state.committed:
        reason = f"the primary's journal differs after record {equal.lsn}, but {state.committed} are committed here"
        return quarantine(state, reason, out)
    out.append(Truncate(equal))
    return move(state, Phase.fenced)


def quarantine(state: State, reason: str, out: list[Action]) -> State:
    """Take part in nothing any more."""
    out.append(Quarantine(reason))
    return move(replace(state, lead=None), Phase.quarantined)


def _verified(state: State, lsn: int, now_us: int, out: list[Action]) -> State:
    follow = replace(state.follow, verified=max(lsn, state.follow.verified), is_nacked=False)
    return acknowledge(replace(state, follow=follow), now_us, out)


def acknowledge(state: State, now_us: int, out: list[Action]) -> State:
    """Apply what may be (R6), and say up to where this journal equals the primary's and is on the disk."""
    follow = state.follow
    lsn = min(follow.verified, state.durable)
    state = commit(state, min(follow.told, lsn), out)
    proof = state.marks.hash_at(lsn)
    if proof is None or follow.is_wished:
        return state
    sent_us = NO_LEASE if follow.is_doubtful else follow.sent_us
    out.append(Send(Ack(state.promised, state.member, Mark(lsn, proof), state.committed, sent_us)))
    state = replace(state, follow=replace(follow, acked_us=now_us))
    return state if follow.handover is None else _ready(state, follow.handover, now_us, out)


# --- A planned switch -----------------------------------------------------------------------------------------------
def on_handover(state: State, message: Handover, now_us: int, out: list[Action]) -> State:
    """Be ready to become primary; with a newer epoch: the register names this node now."""
    if message.epoch < state.promised:
        return state
    follow = state.follow
    if message.epoch > state.promised:
        follow = replace(follow, ready_until_us=now_us + state.times.takeover)
        return replace(state, follow=follow, retry_us=now_us)
    follow = replace(follow, told=max(message.mark.lsn, follow.told), handover=message.mark)
    return acknowledge(replace(state, follow=follow), now_us, out)


def _ready(state: State, mark: Mark, now_us: int, out: list[Action]) -> State:
    """Say that this node has everything, once it has."""
    if state.committed < mark.lsn or not state.marks.has(mark):
        return state
    out.append(Send(HandoverReady(state.promised, mark)))
    follow = replace(state.follow, handover=None, ready_until_us=now_us + state.times.takeover)
    return replace(state, follow=follow)


# --- Taking over ----------------------------------------------------------------------------------------------------
def drive(state: State, now_us: int, out: list[Action]) -> State:
    """Do what is due: see whether the primary runs, read the register, or read it in order to take over."""
    follow = state.follow
    if follow.is_lost and not follow.is_refused and now_us >= follow.probe_us:
        out.append(ProbePeer())
        follow = replace(follow, probe_us=now_us + state.times.heartbeat)
        state = replace(state, follow=follow)
    if state.is_asking or state.promising or now_us < state.retry_us:
        return state
    if now_us >= takeover_due(state):
        return ask(replace(state, follow=replace(follow, is_taking=True)), out)
    return ask(state, out) if _must_read(state, now_us) else state


def _must_read(state: State, now_us: int) -> bool:
    known = state.configuration
    is_unsure = known is None or known.epoch < state.promised or known.primary == state.member
    return is_unsure or state.is_register_silent or now_us < state.follow.ready_until_us


def takeover_due(state: State) -> int:
    """Tell when this node may try to take over, if nothing is heard until then."""
    follow = state.follow
    if state.phase is Phase.recovering:
        return NEVER_US
    # not before, since the primary may answer reads on the strength of the last acknowledgement
    earliest_us = follow.acked_us + state.times.refused
    if follow.is_wished:
        return earliest_us
    if state.is_paused:
        return NEVER_US
    if state.is_peer_left:
        return 0
    return earliest_us if follow.is_refused else max(earliest_us, follow.heard_us + state.times.takeover)


def take_over(state: State, now_us: int, out: list[Action]) -> State:
    """Ask the register for the next epoch, if it counts this very disk; it was just read."""
    configuration = state.configuration
    follow = replace(state.follow, is_taking=False, is_wished=False)
    assert configuration is not None
    if state.member not in configuration.in_sync:
        tell(out, "takeover_refused", epoch=configuration.epoch)
        return replace(state, follow=follow, retry_us=now_us + state.times.takeover)
    state = replace(state, follow=replace(follow, is_doubtful=True))
    return swap(state, "takeover", state.member, (state.member,), out)


def next_deadline(state: State) -> int:
    """Tell when `drive` has something to do at the latest."""
    follow = state.follow
    due_us = follow.probe_us if follow.is_lost and not follow.is_refused else NEVER_US
    if state.is_asking or state.promising:
        return due_us
    wanted_us = 0 if _must_read(state, state.retry_us) else takeover_due(state)
    return min(due_us, max(state.retry_us, wanted_us))
