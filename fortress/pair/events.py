"""The vocabulary of the role machine: what it is told, and what it asks for.

Times are microseconds of a clock that never goes back. What arrives from the other node is told as the message itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fortress.pair.messages import Configuration, Mark, Member, Message, Shipped


# --- What the machine is told ----------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; given at least at every deadline the machine names."""


@dataclass(frozen=True, slots=True)
class RegisterRead:
    """The register was read; None: it holds nothing yet."""

    configuration: Configuration | None


@dataclass(frozen=True, slots=True)
class RegisterSilent:
    """The register could not be read, or whether it took a change is not known."""


@dataclass(frozen=True, slots=True)
class RegisterSwapped:
    """The register took the change, which is now what it holds."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class RegisterRefused:
    """The register holds something else than what the change was to replace."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class EpochPromised:
    """The promise of this epoch is on this node's disk."""

    epoch: int


@dataclass(frozen=True, slots=True)
class RecordMade:
    """As primary this node has made its next record, and is writing it."""

    mark: Mark


@dataclass(frozen=True, slots=True)
class RecordsDurable:
    """This node's journal is on the disk up to here."""

    lsn: int


@dataclass(frozen=True, slots=True)
class PeerSaid:
    """A message of the other node."""

    message: Message


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """There is a connection to this member now, whose place in this history is known: it has all up to ``common``."""

    member: Member
    common: Mark


@dataclass(frozen=True, slots=True)
class PeerLost:
    """The connection to the other node ended; ``is_refused``: and its process takes none, so it does not run."""

    is_refused: bool


class Wish(Enum):
    """What an operator, or the node itself, asks of the machine."""

    switch_over = "switch_over"
    """As primary of a pair: make the other node primary."""
    take_over = "take_over"
    """As standby: become primary now, without waiting for a time to pass; only if in sync."""
    leave = "leave"
    """This node goes down in order: hand over if primary, say goodbye."""
    pause = "pause"
    """No takeover and no change of roles by itself until resumed."""
    resume = "resume"
    disk_low = "disk_low"
    """This node's disk is nearly full: hand over if possible."""
    storage_failed = "storage_failed"
    """A write of unknown outcome: make the other node primary if it is in sync, and never act again."""


@dataclass(frozen=True, slots=True)
class Wished:
    """A wish."""

    wish: Wish


Event = (
    Tick
    | RegisterRead
    | RegisterSilent
    | RegisterSwapped
    | RegisterRefused
    | EpochPromised
    | RecordMade
    | RecordsDurable
    | PeerSaid
    | PeerConnected
    | PeerLost
    | Wished
)


# --- What the machine asks for ---------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ReadRegister:
    """Read the register; tell RegisterRead or RegisterSilent."""


@dataclass(frozen=True, slots=True)
class SwapRegister:
    """Replace ``expected`` by ``fresh``; tell RegisterSwapped, RegisterRefused, or RegisterSilent when not known.

    ``expected`` None: write the very first configuration.
    """

    expected: int | None
    fresh: Configuration
    name: str
    """solo, join, takeover, switch, bump or first: for the events log."""


@dataclass(frozen=True, slots=True)
class PromiseEpoch:
    """Write down that no message of an older epoch is taken any more; tell EpochPromised once that is durable."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to the other node, if there is a connection."""

    message: Message


@dataclass(frozen=True, slots=True)
class Store:
    """As standby: append these records, which follow the end of the journal; tell RecordsDurable."""

    records: tuple[Shipped, ...]


@dataclass(frozen=True, slots=True)
class Truncate:
    """As standby: cut the journal off after this mark, keeping a copy of what is cut; then it is as after a restart."""

    after: Mark


@dataclass(frozen=True, slots=True)
class Commit:
    """Everything up to this record is committed: a primary answers, a standby applies."""

    lsn: int


@dataclass(frozen=True, slots=True)
class Serve:
    """Act as primary of this epoch; the journal of this node is the history."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Hold:
    """As primary: take no new commands for a moment, keep them; ``Serve`` or ``StepDown`` follows."""


@dataclass(frozen=True, slots=True)
class StepDown:
    """Be primary no longer; ``is_clean``: everything in the journal is committed, nothing need be forgotten."""

    is_clean: bool
    primary: Member | None
    """Who is, if that is known."""


@dataclass(frozen=True, slots=True)
class ProbePeer:
    """Find out whether the other node's process takes connections; tell PeerLost when it refuses one."""


@dataclass(frozen=True, slots=True)
class Quarantine:
    """This node's data cannot be trusted: stop, and take no part until it is rebuilt."""

    reason: str


@dataclass(frozen=True, slots=True)
class MayLeave:
    """What ``Wish.leave`` asked for is done: this node may go down, and takes no part any more."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Something for the log of events: one name, and facts in words and numbers."""

    name: str
    facts: tuple[tuple[str, str | int], ...] = ()


Action = (
    ReadRegister
    | SwapRegister
    | PromiseEpoch
    | Send
    | Store
    | Truncate
    | Commit
    | Serve
    | Hold
    | StepDown
    | ProbePeer
    | Quarantine
    | MayLeave
    | Tell
)
