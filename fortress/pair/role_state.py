"""What the role machine knows of its node and of the other one, and the moves between its phases.

    recovering           just started; the register has not said yet who is who
    standby_catching_up  follows a primary; the register does not count it among those that have everything
    standby_in_sync      follows a primary, and may take over
    primary_solo         decides alone; the register counts no other disk
    primary_joining      commits only with the other node's acknowledgement, though the register does not count it yet
    primary_paired       commits only with the other node's acknowledgement, since the register counts it
    blocked              primary that needs the other node's acknowledgement, gets none, and may not do without
    fenced               what stands uncommitted in its journal may not be history: it waits to be started anew
    quarantined          its data cannot be trusted: it takes part in nothing

The state is one value. Its two large parts are there by turns: `Lead` while this node is primary, `Follow` otherwise.
They are msgspec structs since changing one field of a frozen dataclass costs thirty times as much (4.4 µs).
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from fortress.errors import LocalProtocolError
from fortress.pair.events import Action, Commit, ReadRegister, SwapRegister, Tell, Wish
from fortress.pair.marks import Marks
from fortress.pair.messages import Append, Configuration, Mark, Member

NEVER_US: Final = 1 << 62
"""A time that does not come."""


class Phase(Enum):
    """Where a node stands; see the top of this module."""

    recovering = "recovering"
    standby_catching_up = "standby.catching_up"
    standby_in_sync = "standby.in_sync"
    primary_solo = "primary.solo"
    primary_joining = "primary.joining"
    primary_paired = "primary.paired"
    blocked = "blocked"
    fenced = "fenced"
    quarantined = "quarantined"


_STANDBY: Final = frozenset({Phase.standby_catching_up, Phase.standby_in_sync})
_PRIMARY: Final = frozenset({Phase.primary_solo, Phase.primary_joining, Phase.primary_paired})
_ENDS: Final = frozenset({Phase.fenced, Phase.quarantined})

TRANSITIONS: Final[dict[Phase, frozenset[Phase]]] = {
    Phase.recovering: _STANDBY | _PRIMARY | _ENDS,
    Phase.standby_catching_up: _ENDS | _PRIMARY | {Phase.standby_in_sync},
    Phase.standby_in_sync: _ENDS | _PRIMARY | {Phase.standby_catching_up},
    Phase.primary_solo: _ENDS | {Phase.primary_joining, Phase.standby_catching_up},
    Phase.primary_joining: _ENDS | _PRIMARY | {Phase.blocked, Phase.standby_catching_up},
    Phase.primary_paired: _ENDS | _PRIMARY | {Phase.blocked, Phase.standby_catching_up},
    Phase.blocked: _ENDS | _PRIMARY | {Phase.standby_catching_up},
    Phase.fenced: frozenset({Phase.quarantined}),
    Phase.quarantined: frozenset(),
}


class Times(Struct, frozen=True):
    """How long the machine waits for what, in microseconds; and whether one copy is enough.

    Attributes:
        heartbeat: between messages of an idle primary, and between tries at the register.
        solo: without acknowledgement until the primary goes on alone.
        takeover: of silence until the standby takes over; also how long a planned switch may take.
        refused: the same when the primary's process is known to be gone, from the last acknowledgement sent.
        lease: that an acknowledgement lets the primary answer reads by itself; shorter than ``refused``.
        two_copies: a primary alone commits nothing.
    """

    heartbeat: int = 100_000
    solo: int = 1_000_000
    takeover: int = 3_000_000
    refused: int = 300_000
    lease: int = 200_000
    two_copies: bool = False


class PairTimes(Protocol):
    """The settings that times are made of; those of `fortress.config.PairSettings`."""

    @property
    def heartbeat_ms(self) -> int: ...
    @property
    def solo_ms(self) -> int: ...
    @property
    def takeover_ms(self) -> int: ...
    @property
    def refused_ms(self) -> int: ...
    @property
    def lease_ms(self) -> int: ...
    @property
    def durability(self) -> str: ...


def times_of(settings: PairTimes) -> Times:
    """Make the machine's times of a node's settings."""
    return Times(
        settings.heartbeat_ms * 1000,
        settings.solo_ms * 1000,
        settings.takeover_ms * 1000,
        settings.refused_ms * 1000,
        settings.lease_ms * 1000,
        settings.durability == "two-copies",
    )


class Handing(Struct, frozen=True):
    """A planned switch under way.

    Attributes:
        wish: what asked for it: switch_over, disk_low or leave.
        until_us: when it is given up.
        told_lsn: end of the journal that the other node was last told of; -1: none.
        ready_lsn: end of the journal that the other node last said it has; -1: none.
        is_swapped: the register was asked to make the other node primary, which may come about from then on.
    """

    wish: Wish
    until_us: int
    told_lsn: int = -1
    ready_lsn: int = -1
    is_swapped: bool = False


class Lead(Struct, frozen=True):
    """What a primary knows besides; all of it is about the epoch it acts in.

    Attributes:
        other: whose acknowledgements count; None: nobody's.
        connected: who is there now.
        is_paired: the register counts ``other``.
        is_required: nothing is committed without ``other``. Within an epoch this is only ever turned on (R8).
        acked: up to where ``other`` has acknowledged in this epoch; -1: not at all.
        claimed: up to where it says to have records, whether that could be checked or not.
        join_from: end of the journal when acknowledgements began to be required.
        heard_us: when ``other`` was last heard of, and had got further or had everything.
        sent_us: when something was last sent.
        adopted_us: when the epoch began.
        lease_us: until when reads may be answered without asking ``other``.
        must_bump: ``other`` cannot exclude that an old takeover of its own still comes about.
        join_after_us: before that no joining is begun.
        failures: joinings and pairs in a row that ended in silence.
        handing: a planned switch under way.
    """

    other: Member | None
    connected: Member | None
    is_paired: bool
    is_required: bool
    join_from: int
    heard_us: int
    sent_us: int
    adopted_us: int
    acked: int = -1
    claimed: int = -1
    lease_us: int = 0
    must_bump: bool = False
    join_after_us: int = 0
    failures: int = 0
    handing: Handing | None = None


class Follow(Struct, frozen=True):
    """What a standby knows besides; ``verified`` and what follows it are about the epoch it has promised.

    Attributes:
        heard_us: when the primary was last heard of.
        acked_us: when something was last acknowledged.
        told: up to where primaries have said that their history is committed.
        is_lost: the connection to the primary ended, and none was made since.
        is_refused: and its process takes none.
        probe_us: when to see next whether its process takes connections.
        is_taking: the register is being read in order to take over.
        is_wished: somebody asked for a takeover; nothing is acknowledged until it is decided.
        ready_until_us: until then the register is asked often, since a planned switch is under way.
        kept: messages of the epoch that is just being promised.
        verified: up to where this journal is known to equal the primary's.
        sent_us: the primary's own clock in its newest message.
        is_nacked: the primary was told that its messages do not fit, and none has fitted since.
        is_doubtful: a takeover was tried and may still come about.
        handover: end of the primary's journal that it wants to know this node to have.
    """

    heard_us: int = 0
    acked_us: int = 0
    told: int = 0
    is_lost: bool = False
    is_refused: bool = False
    probe_us: int = 0
    is_taking: bool = False
    is_wished: bool = False
    ready_until_us: int = 0
    kept: tuple[Append, ...] = ()
    verified: int = 0
    sent_us: int = 0
    is_nacked: bool = False
    is_doubtful: bool = False
    handover: Mark | None = None


class State(Struct, frozen=True):
    """All that the machine knows.

    Attributes:
        member: this node.
        peer_name: the other node's name; empty while it is not known.
        times: see `Times`.
        is_founder: this node may write the register's very first configuration.
        phase: see `Phase`.
        promised: the epoch this node acts in; its promise is on the disk.
        marks: the newest marks of this node's journal.
        durable: up to where the journal is on this node's disk.
        committed: up to where it is known to be committed.
        promising: epoch whose promise is being written; 0: none.
        configuration: what the register last said.
        adopting: the configuration in which this node becomes primary once the promise is written.
        is_asking: the register was asked something, and has not answered.
        is_register_silent: its last answer was none; whatever was tried last may still come about.
        retry_us: not before then the register is asked again.
        is_paused: this node takes over nothing by itself.
        is_peer_left: the other node said that it goes down.
        lead: the primary's part.
        follow: the standby's part.
    """

    member: Member
    peer_name: str
    times: Times
    is_founder: bool
    phase: Phase
    promised: int
    marks: Marks
    durable: int
    committed: int
    promising: int = 0
    configuration: Configuration | None = None
    adopting: Configuration | None = None
    is_asking: bool = False
    is_register_silent: bool = False
    retry_us: int = 0
    is_paused: bool = False
    is_peer_left: bool = False
    lead: Lead | None = None
    follow: Follow = Follow()


def move(state: State, phase: Phase) -> State:
    """Give the state in another phase; staying where it is is no move.

    Raises:
        LocalProtocolError: no transition leads there.
    """
    if phase is state.phase:
        return state
    if phase not in TRANSITIONS[state.phase]:
        raise LocalProtocolError(f"a node cannot go from {state.phase.value} to {phase.value}")
    return replace(state, phase=phase)


def tell(out: list[Action], name: str, /, **facts: str | int) -> None:
    """Ask for a line in the log of events."""
    out.append(Tell(name, tuple(facts.items())))


def commit(state: State, lsn: int, out: list[Action]) -> State:
    """Take everything up to a record for committed; what is committed stays so."""
    if lsn <= state.committed:
        return state
    out.append(Commit(lsn))
    return replace(state, committed=lsn)


def ask(state: State, out: list[Action]) -> State:
    """Read the register."""
    out.append(ReadRegister())
    return replace(state, is_asking=True)


def swap(state: State, name: str, primary: Member, in_sync: tuple[Member, ...], out: list[Action]) -> State:
    """Ask the register for the configuration that follows the one last seen, or for the very first one."""
    last = state.configuration
    members = tuple(sorted(in_sync, key=lambda member: member.name))
    if last is None:
        out.append(SwapRegister(None, Configuration(1, primary, members), name))
    else:
        out.append(SwapRegister(last.epoch, Configuration(last.epoch + 1, primary, members, last.witness), name))
    return replace(state, is_asking=True)


def other_in_sync(state: State, configuration: Configuration) -> Member | None:
    """Give the member besides this node that a configuration counts, if there is one."""
    others = [member for member in configuration.in_sync if member != state.member]
    return others[0] if others else None


def latest_epoch(state: State) -> int:
    """Give the newest epoch that this node knows of."""
    return max(state.promised, state.configuration.epoch if state.configuration is not None else 0)
