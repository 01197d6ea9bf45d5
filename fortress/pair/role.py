"""Who is primary: the machine of one node of the pair. Events in, actions out; no socket, no clock, no disk.

PacificA (MSR-TR-2008-25) for two data nodes and one register. The rules, by the numbers the code refers to:

    R1  a primary commits what is on its disk and, if the other node is required, acknowledged by it in this epoch
    R2  a message of an older epoch than the promised one is refused; a promise is on the disk before it is acted on
    R3  a primary of an epoch has read the register with itself as primary in it, and the epoch was new to it
    R4  the journal of the node that becomes primary is the history, with what stands uncommitted in it
    R5  a standby compares hashes, cuts off what differs but nothing committed, appends, acknowledges what is durable
    R6  a standby applies what is committed, compared in this epoch and durable
    R7  what a restarted node found in its journal is synced before it counts; see `fortress.ledger.journal`
    R8  the other node stays required until the register is known to say otherwise; and nobody serves on a guess
    R9  a command done before is found again in the tables and in the tail not yet applied; see the committer
    R10 what leaves the bank leaves after the commit

The shell gives every event to `step` with the time and carries out the actions in order. It answers each `ReadRegister`
and `SwapRegister` with exactly one event, gives `Tick` at `next_deadline` at the latest, and after `Truncate` or an
unclean `StepDown` begins again with `initial` on the mended journal. No clock is needed for the safety of writes: times
only say when something is tried, and the register says whether it comes about. Reads by lease do rest on clocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace

from fortress.errors import LocalProtocolError
from fortress.pair import primary_role, standby_role
from fortress.pair.events import (
    Action,
    EpochPromised,
    Event,
    MayLeave,
    PeerConnected,
    PeerLost,
    PeerSaid,
    PromiseEpoch,
    RecordMade,
    RecordsDurable,
    RegisterRead,
    RegisterRefused,
    RegisterSilent,
    RegisterSwapped,
    Send,
    Tick,
    Wish,
    Wished,
)
from fortress.pair.marks import window
from fortress.pair.messages import (
    Ack,
    Append,
    Configuration,
    Handover,
    HandoverReady,
    Hello,
    Leave,
    Mark,
    Member,
    Nack,
)
from fortress.pair.role_state import (
    NEVER_US,
    TRANSITIONS,
    PairTimes,
    Phase,
    State,
    Times,
    latest_epoch,
    move,
    swap,
    tell,
    times_of,
)

__all__ = [
    "NEVER_US",
    "TRANSITIONS",
    "PairTimes",
    "Phase",
    "State",
    "Times",
    "initial",
    "is_primary",
    "may_read",
    "next_deadline",
    "read_until",
    "reconfigured",
    "step",
    "times_of",
]


STORAGE_FAILED: Final = "a write to this node's disk failed"


def initial(
    member: Member,
    peer_name: str,
    *,
    promised: int,
    end: Mark,
    committed: int,
    times: Times,
    marks: tuple[Mark, ...] = (),
    is_founder: bool = False,
) -> State:
    """Begin for a node that has just recovered.

    Args:
        member: this node with the disk it has now.
        peer_name: the other node's name; empty when it is not known, then whoever the certificates let in is it.
        promised: the highest epoch whose promise is on the disk; 0 when there is none.
        end: end of the journal, all of which is synced (R7).
        committed: up to where the journal is known to be committed.
        times: how long to wait for what.
        marks: the newest marks of the journal in order, up to ``end``; what is older cannot be compared.
        is_founder: this node founded the pair, so it may fill an empty register.

    Raises:
        LocalProtocolError: the marks do not fit, or more is committed than there is.
    """
    if committed > end.lsn:
        raise LocalProtocolError(f"{committed} records are committed, but the journal ends at {end.lsn}")
    found = window(end, marks)
    return State(member, peer_name, times, is_founder, Phase.recovering, promised, found, end.lsn, committed)


def step(state: State, event: Event, now_us: int) -> tuple[State, tuple[Action, ...]]:
    """Take one event; give the next state and what is to be done, in order.

    Raises:
        LocalProtocolError: the shell told something that cannot have happened.
    """
    if state.phase is Phase.fenced or state.phase is Phase.quarantined:
        return _after_the_end(state, event)
    out: list[Action] = []
    state = _HANDLERS[type(event)](state, event, now_us, out)
    return state, tuple(out)


def _after_the_end(state: State, event: Event) -> tuple[State, tuple[Action, ...]]:
    """Answer what somebody waits for; nothing else matters until the node is started anew, or rebuilt."""
    if event == Wished(Wish.leave):
        return state, (MayLeave(),)
    if event == Wished(Wish.storage_failed) and state.phase is Phase.fenced:
        out: list[Action] = []
        return standby_role.quarantine(state, STORAGE_FAILED, out), tuple(out)
    return state, ()


def is_primary(state: State) -> bool:
    """Tell whether this node acts as primary, if only for itself as far as it knows."""
    return state.lead is not None


def next_deadline(state: State) -> int:
    """Tell when the next `Tick` is due at the latest, in µs; `NEVER_US` when nothing is waited for."""
    if state.phase is Phase.fenced or state.phase is Phase.quarantined:
        return NEVER_US
    lead = state.lead
    return standby_role.next_deadline(state) if lead is None else primary_role.next_deadline(state, lead)


def read_until(state: State) -> int:
    """Tell until when, in µs, this node may answer reads of what is committed by itself; 0: it may not."""
    return 0 if state.lead is None else primary_role.read_until(state, state.lead)


def may_read(state: State, now_us: int) -> bool:
    """Tell whether this node may answer reads of what is committed without asking the other one."""
    return now_us < read_until(state)


def reconfigured(state: State, times: Times) -> State:
    """Give the state with other times; two copies hold from the next epoch on at the latest."""
    lead = state.lead
    if lead is not None and times.two_copies and state.phase is Phase.primary_solo:
        lead = replace(lead, is_required=True, join_from=state.marks.end.lsn)
        state = move(replace(state, lead=lead), Phase.primary_joining)
    return replace(state, times=times)


# --- Journal ---------------------------------------------------------------------------------------------------------
def _on_record_made(state: State, event: RecordMade, now_us: int, out: list[Action]) -> State:
    if state.lead is None:
        raise LocalProtocolError(f"record {event.mark.lsn} was made by a node that is {state.phase.value}")
    return primary_role.on_record_made(state, state.lead, event, now_us)


def _on_records_durable(state: State, event: RecordsDurable, now_us: int, out: list[Action]) -> State:
    if event.lsn <= state.durable:
        return state
    if event.lsn > state.marks.end.lsn:
        raise LocalProtocolError(f"record {event.lsn} is durable, but the journal ends at {state.marks.end.lsn}")
    state = replace(state, durable=event.lsn)
    lead = state.lead
    if lead is None:
        return standby_role.acknowledge(state, now_us, out)
    state = primary_role.advance(state, out)
    return state if lead.handing is None else primary_role.drive(state, now_us, out)


def _on_promised(state: State, event: EpochPromised, now_us: int, out: list[Action]) -> State:
    if event.epoch != state.promising:
        return state
    adopting = state.adopting
    state = replace(state, promised=event.epoch, promising=0, adopting=None)
    if adopting is not None:
        return _drive(primary_role.begin(state, adopting, now_us, out), now_us, out)
    return _drive(standby_role.on_promised(state, now_us, out), now_us, out)


# --- Register --------------------------------------------------------------------------------------------------------
def _on_register(
    state: State, event: RegisterRead | RegisterSwapped | RegisterRefused, now_us: int, out: list[Action]
) -> State:
    """Learn what the register holds, however it came to be told."""
    wait_us = 0 if isinstance(event, RegisterSwapped) else state.times.heartbeat
    state = replace(state, is_asking=False, is_register_silent=False, retry_us=now_us + wait_us)
    if event.configuration is None:
        return _found(state, out)
    return _drive(_learn(state, event.configuration, now_us, out), now_us, out)


def _found(state: State, out: list[Action]) -> State:
    """Fill an empty register, if nothing was ever promised: one that lost what it held must not be filled anew."""
    if state.is_founder and state.promised == 0 and state.configuration is None:
        return swap(state, "first", state.member, (state.member,), out)
    tell(out, "register_empty", promised=state.promised)
    return state


def _on_register_silent(state: State, event: RegisterSilent, now_us: int, out: list[Action]) -> State:
    # what somebody wished is not done at some later time
    follow = replace(state.follow, is_taking=False, is_wished=False)
    retry_us = now_us + state.times.heartbeat
    state = replace(state, is_asking=False, is_register_silent=True, retry_us=retry_us, follow=follow)
    return _drive(state, now_us, out)


def _learn(state: State, configuration: Configuration, now_us: int, out: list[Action]) -> State:
    known = state.configuration
    if configuration.epoch < max(state.promised, state.promising, known.epoch if known is not None else 0):
        return state  # an answer from before something else that this node knows
    state = replace(state, configuration=configuration)
    is_mine = configuration.primary == state.member
    if state.lead is not None:
        if not is_mine:
            return _yield(state, configuration, now_us, out)
        return _adopt(state, configuration, out)
    if not is_mine:
        return _stand_by(state, configuration, now_us, out)
    if configuration.epoch > state.promised:
        return _adopt(state, configuration, out)
    # this node was primary before it was started anew, and may have said things in this epoch that it has forgotten
    return swap(state, "bump", state.member, configuration.in_sync, out)


def _adopt(state: State, configuration: Configuration, out: list[Action]) -> State:
    """Promise an epoch in which this node is primary; it acts in it once the promise is written."""
    if configuration.epoch in (state.promised, state.promising):
        return state
    out.append(PromiseEpoch(configuration.epoch))
    return replace(state, promising=configuration.epoch, adopting=configuration)


def _yield(state: State, configuration: Configuration, now_us: int, out: list[Action]) -> State:
    """Be primary no longer, by the register."""
    handing = state.lead.handing if state.lead is not None else None
    state = primary_role.step_down(state, configuration.primary, now_us, out)
    if handing is not None and handing.is_swapped:
        state = primary_role.on_handed_over(state, handing.wish, configuration.epoch, out)
    return state if state.phase is Phase.fenced else _stand_by(state, configuration, now_us, out)


def _stand_by(state: State, configuration: Configuration, now_us: int, out: list[Action]) -> State:
    if state.phase is Phase.recovering:
        state = standby_role.settle(state, now_us)
    is_counted = state.member in configuration.in_sync
    state = move(state, Phase.standby_in_sync if is_counted else Phase.standby_catching_up)
    return standby_role.take_over(state, now_us, out) if state.follow.is_taking else state


# --- The other node --------------------------------------------------------------------------------------------------
def _on_peer_said(state: State, event: PeerSaid, now_us: int, out: list[Action]) -> State:
    message = event.message
    handler = _MESSAGES.get(type(message))
    return state if handler is None else handler(state, message, now_us, out)


def _on_ack(state: State, message: Ack, now_us: int, out: list[Action]) -> State:
    lead = state.lead
    return state if lead is None else primary_role.on_ack(state, lead, message, now_us, out)


def _on_append(state: State, message: Append, now_us: int, out: list[Action]) -> State:
    if state.lead is not None:
        if message.epoch <= state.promised:
            return _refused(state, message, out)
        state = _superseded(state, message.epoch, now_us, out)
        if state.phase is Phase.fenced:
            return state
    return standby_role.on_append(state, message, now_us, out)


def _refused(state: State, message: Append | Handover, out: list[Action]) -> State:
    if message.epoch < state.promised:
        out.append(Send(Nack(state.promised, "stale", state.marks.end)))
    else:
        tell(out, "peer_broke_rules", said="append", epoch=message.epoch)
    return state


def _superseded(state: State, epoch: int, now_us: int, out: list[Action]) -> State:
    """Stop being primary if the other node has promised a newer epoch: the register held it before."""
    if state.lead is None or epoch <= state.promised:
        return state
    tell(out, "superseded", epoch=epoch, promised=state.promised)
    return replace(primary_role.step_down(state, None, now_us, out), promising=0, adopting=None, retry_us=now_us)


def _on_hello(state: State, message: Hello, now_us: int, out: list[Action]) -> State:
    state = _superseded(state, message.promised, now_us, out)
    follow = replace(state.follow, is_lost=False, is_refused=False, is_nacked=False)
    return replace(state, follow=follow, is_peer_left=False)


def _on_nack(state: State, message: Nack, now_us: int, out: list[Action]) -> State:
    return _drive(_superseded(state, message.epoch, now_us, out), now_us, out)


def _on_handover(state: State, message: Handover, now_us: int, out: list[Action]) -> State:
    if state.lead is not None:
        return state
    return _drive(standby_role.on_handover(state, message, now_us, out), now_us, out)


def _on_handover_ready(state: State, message: HandoverReady, now_us: int, out: list[Action]) -> State:
    lead = state.lead
    if lead is None:
        return state
    return _drive(primary_role.on_handover_ready(state, lead, message), now_us, out)


def _on_leave(state: State, message: Leave, now_us: int, out: list[Action]) -> State:
    tell(out, "peer_left", epoch=message.epoch)
    return _drive(replace(state, is_peer_left=True), now_us, out)


def _on_peer_connected(state: State, event: PeerConnected, now_us: int, out: list[Action]) -> State:
    state = replace(state, is_peer_left=False)
    lead = state.lead
    if lead is None:
        return state
    return _drive(primary_role.on_peer_connected(state, lead, event, now_us, out), now_us, out)


def _on_peer_lost(state: State, event: PeerLost, now_us: int, out: list[Action]) -> State:
    if state.lead is not None:
        return replace(state, lead=replace(state.lead, connected=None))
    is_refused = event.is_refused or state.follow.is_refused
    follow = replace(state.follow, is_lost=True, is_refused=is_refused, probe_us=now_us)
    return _drive(replace(state, follow=follow), now_us, out)


# --- Wishes and time -------------------------------------------------------------------------------------------------
def _on_wished(state: State, event: Wished, now_us: int, out: list[Action]) -> State:
    wish, lead = event.wish, state.lead
    if wish is Wish.pause or wish is Wish.resume:
        return _drive(replace(state, is_paused=wish is Wish.pause), now_us, out)
    if wish is Wish.storage_failed:
        return _give_up(state, out)
    if wish is Wish.leave and lead is None:
        return primary_role.leave(state, out)
    if wish is Wish.take_over and lead is None and state.phase is not Phase.recovering:
        return _drive(replace(state, follow=replace(state.follow, is_wished=True)), now_us, out)
    if wish is Wish.take_over or lead is None or (wish is Wish.disk_low and state.is_paused):
        tell(out, "wish_refused", wish=wish.value, phase=state.phase.value)
        return state
    return _drive(primary_role.hand_over(state, lead, wish, now_us, out), now_us, out)


def _give_up(state: State, out: list[Action]) -> State:
    """A write of unknown outcome: nothing of this node is believed again until it is rebuilt."""
    if state.lead is not None:
        state = primary_role.give_up(state, state.lead, out)
    out.append(Send(Leave(latest_epoch(state))))
    return standby_role.quarantine(state, STORAGE_FAILED, out)


def _on_tick(state: State, event: Tick, now_us: int, out: list[Action]) -> State:
    return _drive(state, now_us, out)


def _drive(state: State, now_us: int, out: list[Action]) -> State:
    if state.phase is Phase.fenced or state.phase is Phase.quarantined:
        return state
    return primary_role.drive(state, now_us, out) if state.lead is not None else standby_role.drive(state, now_us, out)


_HANDLERS: Final[dict[type[Any], Callable[[State, Any, int, list[Action]], State]]] = {
    Tick: _on_tick,
    RegisterRead: _on_register,
    RegisterSwapped: _on_register,
    RegisterRefused: _on_register,
    RegisterSilent: _on_register_silent,
    EpochPromised: _on_promised,
    RecordMade: _on_record_made,
    RecordsDurable: _on_records_durable,
    PeerSaid: _on_peer_said,
    PeerConnected: _on_peer_connected,
    PeerLost: _on_peer_lost,
    Wished: _on_wished,
}

_MESSAGES: Final[dict[type[Any], Callable[[State, Any, int, list[Action]], State]]] = {
    Hello: _on_hello,
    Append: _on_append,
    Ack: _on_ack,
    Nack: _on_nack,
    Handover: _on_handover,
    HandoverReady: _on_handover_ready,
    Leave: _on_leave,
}
"""All others are between the shells: they move records, keys and snapshots, and decide nothing."""
