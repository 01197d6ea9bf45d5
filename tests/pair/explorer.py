"""Drive two role machines, a register and a hostile network through every order of events within bounds.

The machines are the real ones. Around them stands the smallest shell that could be: journals are tuples of (epoch,
request), disks remember what was synced, the register compares and sets. Whoever attacks may

- deliver any message ever sent, at any time, any number of times, in any order, or never;
- let any timer ring at any moment: times are taken out of what is remembered, and a tick says which are due;
- crash a node, which loses what it knew and any part of what was not synced; and restart it;
- destroy a disk, as long as another member's disk holds everything: the node comes back as another instance;
- keep a change under way to the register for ever, let it come about late, and lose any answer.

Checked after every step: the register's primary is in sync, and each epoch was asked for once; no two nodes serve in
one epoch; what was acknowledged to a client stands on the disk of every member in sync; one acknowledged entry for each
number, without gaps; what a node applied is acknowledged; nothing applied is ever cut off; and no request stands twice
in a history.

Nodes and messages are numbered as they turn up, and what comes of telling a node something is remembered, so most steps
of the search are a look-up.
"""

from __future__ import annotations

import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import chain
from typing import Any, Final, NamedTuple

from msgspec.structs import replace as with_fields

from fortress.pair import events as e
from fortress.pair import role
from fortress.pair.messages import Ack, Append, Configuration, Mark, Member, Message, Nack, Shipped
from fortress.pair.role_state import Lead, Phase, State, Times

TIMES: Final = Times(heartbeat=1, solo=100, takeover=1_000, refused=10, lease=5)
NOW, BEAT, SILENCE, LONG_SILENCE = 0, 1, 100, 5_000
REQUESTS: Final = "xyzuvwabcdefghijklmnopqrst"
NAMES: Final = ("A", "B")

Entry = tuple[int, str]
Log = tuple[Entry, ...]
Swap = tuple[int | None, Configuration]
Actions = tuple[e.Action, ...]
Outcome = tuple[State, Actions]
Before = Callable[[State, e.Event], tuple[State, e.Event]]
After = Callable[[State, e.Event, State, Actions], Outcome]
Deed = tuple[Any, ...]
"""What happens to a node or to the register: its name, and with what."""


class Violation(Exception):
    """A promise of the pair does not hold."""


class Node(NamedTuple):
    """One node: its machine, its disk, and what its shell is busy with.

    ``synced`` is how much of the journal is on the disk, ``promised`` what the control file says, ``writing`` the epoch
    of a promise under way, ``asking`` what the register was asked, ``serving`` the epoch given to records it makes.
    """

    i: int
    instance: int = 0
    state: State | None = None
    log: Log = ()
    synced: int = 0
    applied: int = 0
    promised: int = 0
    writing: int = 0
    asking: Swap | str | None = None
    serving: int = 0
    is_dead: bool = False

    @property
    def member(self) -> Member:
        return Member(NAMES[self.i], f"{NAMES[self.i]}{self.instance}".encode())


class World(NamedTuple):
    """Everything at one moment: nodes and messages by their numbers."""

    nodes: tuple[int, int]
    register: tuple[Configuration, ...]
    changes: frozenset[Swap]
    acknowledged: Log
    messages: frozenset[int]
    crashes: int = 0
    wipes: int = 0
    silences: int = 0
    wishes: int = 0


class Effects(NamedTuple):
    """What came of telling a node something: the node, and what left it."""

    node: int
    sent: frozenset[int]
    changes: frozenset[Swap]
    acknowledged: tuple[Log, ...]
    reads: bool
    """It only wants to know who is in sync."""


@dataclass(frozen=True)
class Bounds:
    """How far the search goes, and what it may do."""

    requests: int = 2
    epochs: int = 4
    crashes: int = 1
    wipes: int = 0
    silences: int = 1
    wishes: tuple[e.Wish, ...] = ()
    wishes_max: int = 1
    is_pausing: bool = False
    """Promises take time; otherwise they are on the disk at once."""
    is_detailed: bool = False
    """What makes many more worlds and hardly other outcomes: connections end, heartbeats are messages, records are also
    shipped one by one, and a standby that only wants to know who is in sync waits for its answer."""
    times: Times = TIMES


@dataclass(frozen=True)
class Bug:
    """A mistake put in on purpose: what the machine is told or does instead, or how its surroundings err."""

    name: str = ""
    before: Before = lambda state, event: (state, event)
    after: After = lambda state, event, then, actions: (then, actions)
    register_compares: bool = True
    primary_syncs: bool = True
    standby_syncs: bool = True
    finds_ids_in_tail: bool = True
    renews_instance: bool = True
    fences: bool = True


NO_BUG: Final = Bug()


@dataclass
class Result:
    """What a search saw."""

    states: int = 0
    transitions: int = 0
    depth: int = 0
    seconds: float = 0.0
    acknowledged: int = 0
    is_complete: bool = True
    violation: str = ""
    path: tuple[str, ...] = ()
    phases: set[Phase] = field(default_factory=set)
    world: World | None = None

    def __str__(self) -> str:
        end = self.violation or ("complete" if self.is_complete else "stopped at its bound")
        return (
            f"{self.states} states, {self.transitions} transitions, depth {self.depth}, "
            f"{self.acknowledged} acknowledged, {self.seconds:.1f} s: {end}"
        )


class Shell:
    """One node while it is told something: the smallest shell around the real machine."""

    def __init__(self, explorer: Explorer, node: Node) -> None:
        self.explorer = explorer
        self.bounds, self.bug = explorer.bounds, explorer.bug
        self.node = node
        self.sent: set[int] = set()
        self.changes: set[Swap] = set()
        self.acknowledged: list[Log] = []

    def effects(self) -> Effects:
        state = self.node.state
        reads = (
            self.node.asking == "read"
            and state is not None
            and state.lead is None
            and not state.follow.is_taking
            and state.phase is not Phase.recovering
        )
        sent, changes = frozenset(self.sent), frozenset(self.changes)
        return Effects(self.explorer.number(self.node), sent, changes, tuple(self.acknowledged), reads)

    def set(self, **changes: Any) -> None:
        self.node = self.node._replace(**changes)

    # --- What happens to a node ---------------------------------------------------------------------------------------
    def tell(self, event: e.Event, now_us: int = NOW) -> None:
        """Tell the machine something, with the seeded mistake, and do what it asks for."""
        assert self.node.state is not None
        before, told = self.bug.before(self.node.state, event)
        after, actions = role.step(before, told, self.explorer.clock(now_us))
        after, actions = self.bug.after(before, told, after, actions)
        self.explorer.phases.add(after.phase)
        self.set(state=self.explorer.remembered(after))
        for action in actions:
            doing = self.DEEDS.get(type(action))
            if doing is not None:
                doing(self, action)
        if self.node.state is not None and self.node.state.phase is Phase.fenced:
            self.restart()

    def restart(self) -> None:
        """Start a node from its disk; all that is found there is synced first."""
        node, mark = self.node, self.explorer.mark
        state = role.initial(
            node.member,
            NAMES[1 - node.i],
            promised=node.promised,
            end=mark(node.log),
            committed=node.applied,
            times=self.bounds.times,
            marks=tuple(mark(node.log[:k]) for k in range(1, len(node.log) + 1)),
        )
        synced = len(node.log)
        state = self.explorer.remembered(state)
        self.node = Node(node.i, node.instance, state, node.log, synced, node.applied, node.promised)
        self.tell(e.Tick())

    def crash(self, kept: int, promised: int) -> None:
        node = self.node
        self.node = Node(node.i, node.instance, None, node.log[:kept], node.synced, node.applied, promised)

    def wipe(self) -> None:
        self.node = Node(self.node.i, self.node.instance + (1 if self.bug.renews_instance else 0))

    def sync(self) -> None:
        self.set(synced=len(self.node.log))
        self.tell(e.RecordsDurable(self.node.synced))

    def write_promise(self) -> None:
        if self.node.writing:
            self.set(promised=max(self.node.promised, self.node.writing), writing=0)
            self.tell(e.EpochPromised(self.node.promised))

    def make(self, request: str) -> None:
        """As primary, make a record of a request and ship it while it goes to the disk."""
        self.set(log=(*self.node.log, (self.node.serving, request)))
        self.tell(e.RecordMade(self.explorer.mark(self.node.log)))
        if not self.bug.primary_syncs:
            self.tell(e.RecordsDurable(len(self.node.log)))
        self.ship()

    def answer(self, event: e.Event, now_us: int = NOW) -> None:
        self.set(asking=None)
        self.tell(event, now_us)

    def hear(self, number: int) -> None:
        self.tell(e.PeerSaid(self.explorer.messages[number]))

    def meet(self, member: Member) -> None:
        """A new connection: the other node gets what it lacks."""
        self.tell(e.PeerConnected(member, Mark()))
        if self.node.serving:
            self.ship()

    def wait_no_longer(self) -> None:
        """A planned switch takes too long, though the other node is there."""
        state = self.node.state
        assert state is not None and state.lead is not None
        self.set(state=with_fields(state, lead=with_fields(state.lead, heard_us=LONG_SILENCE)))
        self.tell(e.Tick(), LONG_SILENCE)

    # --- What the machine asks for ------------------------------------------------------------------------------------
    def ship(self) -> None:
        """Send what a primary's shell does: its journal as it is now, in the epoch it serves in."""
        node, mark = self.node, self.explorer.mark
        sent_us = self.explorer.clock(NOW)
        self._put(Append(node.serving, Mark(), self.explorer.shipped(node.log), node.applied, sent_us))
        if self.bounds.is_detailed and node.log:
            last = len(node.log) - 1
            record = self.explorer.shipped(node.log, last)
            self._put(Append(node.serving, mark(node.log[:last]), record, node.applied, sent_us))

    def _put(self, message: Message) -> None:
        self.sent.add(self.explorer.message_number(self.node.i, message))

    def _read(self, action: e.ReadRegister) -> None:
        self.set(asking="read")

    def _swap(self, action: e.SwapRegister) -> None:
        change = (action.expected, action.fresh)
        self.changes.add(change)
        self.set(asking=change)

    def _promise(self, action: e.PromiseEpoch) -> None:
        self.set(writing=action.epoch)
        if not self.bounds.is_pausing:
            self.write_promise()

    def _send(self, action: e.Send) -> None:
        message = action.message
        is_beat = isinstance(message, Append) and not self.bounds.is_detailed
        if isinstance(message, Nack) or is_beat:
            return  # that an epoch is over can be told at any time; the rest is between the shells
        self._put(message)

    def _store(self, action: e.Store) -> None:
        self.set(log=self.node.log + logged(action.records))
        if not self.bug.standby_syncs:
            self.tell(e.RecordsDurable(len(self.node.log)))

    def _truncate(self, action: e.Truncate) -> None:
        node = self.node
        if action.after.lsn < node.applied:
            raise Violation(f"{NAMES[node.i]} cuts off what it has applied")
        kept = node.log[: action.after.lsn]
        self.set(log=kept, synced=min(node.synced, len(kept)))

    def _commit(self, action: e.Commit) -> None:
        self.set(applied=action.lsn)
        if self.node.serving:
            self.acknowledged.append(self.node.log[: action.lsn])
            self.ship()

    def _serve(self, action: e.Serve) -> None:
        self.set(serving=action.epoch)
        self.ship()

    def _step_down(self, action: e.StepDown) -> None:
        self.set(serving=0)

    def _quarantine(self, action: e.Quarantine) -> None:
        if action.reason != role.STORAGE_FAILED:
            raise Violation(f"{NAMES[self.node.i]} finds two histories: {action.reason}")
        self.set(is_dead=True, state=None, asking=None, writing=0)

    def _leave(self, action: e.MayLeave) -> None:
        node = self.node
        self.node = Node(node.i, node.instance, None, node.log, len(node.log), node.applied, node.promised)

    DEEDS: Final[dict[type, Callable[[Shell, Any], None]]] = {
        e.ReadRegister: _read,
        e.SwapRegister: _swap,
        e.PromiseEpoch: _promise,
        e.Send: _send,
        e.Store: _store,
        e.Truncate: _truncate,
        e.Commit: _commit,
        e.Serve: _serve,
        e.StepDown: _step_down,
        e.Quarantine: _quarantine,
        e.MayLeave: _leave,
    }


class Explorer:
    """The search, with what it has numbered and remembered."""

    def __init__(self, bounds: Bounds, bug: Bug = NO_BUG) -> None:
        self.bounds = bounds
        self.bug = bug
        self.nodes: list[Node] = []
        self.messages: list[Message] = []
        self.sources: list[int] = []
        self.phases: set[Phase] = set()
        self._node_numbers: dict[Node, int] = {}
        self._message_numbers: dict[tuple[int, Message], int] = {}
        self._marks: dict[Log, Mark] = {(): Mark()}
        self._known: dict[tuple[int, Deed], Effects] = {}
        self._own: dict[int, tuple[Deed, ...]] = {}
        self._matter: dict[tuple[int, int], bool] = {}
        self._checked: set[tuple[tuple[int, int], Configuration, Log]] = set()

    # --- Time ---------------------------------------------------------------------------------------------------------
    def clock(self, now_us: int) -> int:
        """Give the time at which something happens: what the deed says, since times are not remembered."""
        return now_us

    def remembered(self, state: State) -> State:
        """Give what is kept of a state."""
        return timeless(state)

    def sent(self, message: Append | Ack) -> Message:
        """Give what is kept of a message: not when it was sent, only whether it promises anything."""
        return with_fields(message, sent_us=min(message.sent_us, 0))

    # --- Numbers for values -------------------------------------------------------------------------------------------
    def number(self, node: Node) -> int:
        number = self._node_numbers.setdefault(node, len(self.nodes))
        if number == len(self.nodes):
            self.nodes.append(node)
        return number

    def message_number(self, source: int, message: Message) -> int:
        if isinstance(message, Append | Ack):
            message = self.sent(message)
        number = self._message_numbers.setdefault((source, message), len(self.messages))
        if number == len(self.messages):
            self.messages.append(message)
            self.sources.append(source)
        return number

    def mark(self, log: Log) -> Mark:
        """Give the mark of a journal's end."""
        made = self._marks.get(log)
        if made is None:
            made = self._marks[log] = Mark(len(log), sha256(repr(log).encode()).digest()[:8])
        return made

    def shipped(self, log: Log, start: int = 0) -> tuple[Shipped, ...]:
        return tuple(Shipped(self.mark(log[:k]), repr(log[k - 1]).encode()) for k in range(start + 1, len(log) + 1))

    # --- The world moves ----------------------------------------------------------------------------------------------
    def start(self) -> World:
        """Begin with node A primary of a pair in sync, and nothing written."""
        down = (Node(0), Node(1))
        members = (down[0].member, down[1].member)
        register = (Configuration(1, members[0], members),)
        world = World((self.number(down[0]), self.number(down[1])), register, frozenset(), (), frozenset())
        for i in (0, 1):
            world = self.do(world, i, ("restarts",))
            world = self.do(world, i, ("reads", register[0]))
            world = self.do(world, i, ("has promised",))
        for number in sorted(world.messages):
            world = self.do(world, 1 - self.sources[number], ("hears", number))
        return self.collected(self.do(world, 1, ("has promised",)))

    def do(self, world: World, i: int, deed: Deed) -> World:
        """Let something happen to a node, and what comes of it to the world."""
        here = world.nodes[i]
        effects = self._known.get((here, deed))
        if effects is None:
            effects = self._known[(here, deed)] = self.outcome(here, deed)
        number, sent, changes, acknowledged, reads = effects
        if number == here and sent <= world.messages and changes <= world.changes:
            return world
        nodes = (number, world.nodes[1]) if i == 0 else (world.nodes[0], number)
        world = world._replace(nodes=nodes, messages=world.messages | sent, changes=world.changes | changes)
        for log in acknowledged:
            world = world._replace(acknowledged=self._acknowledge(world.acknowledged, log, i))
        if reads and not self.bounds.is_detailed:
            return self.do(world, i, ("reads", world.register[-1]))
        return world

    def outcome(self, here: int, deed: Deed) -> Effects:
        """Let the machine of a node, and the shell around it, do what comes of a deed."""
        shell = Shell(self, self.nodes[here])
        NODE_DEEDS[deed[0]](shell, *deed[1:])
        return shell.effects()

    def _acknowledge(self, known: Log, log: Log, i: int) -> Log:
        if known[: len(log)] != log[: len(known)]:
            raise Violation(f"{NAMES[i]} acknowledges {log} where {known} was acknowledged")
        return max(known, log, key=len)

    # --- What can happen next -----------------------------------------------------------------------------------------
    def moves(self, world: World) -> Iterator[tuple[int, Deed]]:
        """Give everything that can happen now."""
        for i in (0, 1):
            number = world.nodes[i]
            own = self._own.get(number)
            if own is None:
                own = self._own[number] = tuple(self._own_moves(self.nodes[number]))
            for deed in own:
                yield i, deed
            node = self.nodes[number]
            if world.wipes < self.bounds.wipes and self.may_wipe(world, i):
                yield i, ("loses its disk",)
            if node.state is not None:
                yield from self._moves(world, i, node, node.state)
        # in an order that does not change from run to run, so that a seed says all
        for change in sorted(world.changes, key=repr) if len(world.changes) > 1 else world.changes:
            if self.is_open(world, change):
                yield 2, ("holds", change)
        for message in world.messages:
            i = 1 - self.sources[message]
            if self.nodes[world.nodes[i]].state is not None:
                yield i, ("hears", message)

    def _own_moves(self, node: Node) -> Iterator[Deed]:
        """Give what depends on nothing but the node."""
        if node.state is None:
            if not node.is_dead:
                yield ("restarts",)
            return
        if node.synced < len(node.log):
            yield ("syncs",)
        if node.writing:
            yield ("has promised",)
        lead = node.state.lead
        rings = (LONG_SILENCE,) if lead is None or lead.handing is not None else (SILENCE,)
        for now_us in (BEAT, SILENCE, LONG_SILENCE) if self.bounds.is_detailed else rings:
            yield ("ticks at", now_us)
        if lead is not None and lead.handing is not None:
            yield ("waits no longer",)
        if self.bounds.is_detailed:
            yield ("loses the other", True)
            yield ("loses the other", False)

    def _moves(self, world: World, i: int, node: Node, state: State) -> Iterator[tuple[int, Deed]]:
        """Give what depends on the world as well."""
        if world.crashes < self.bounds.crashes:
            for kept in range(node.synced, len(node.log) + 1):
                for promised in {node.promised, max(node.promised, node.writing)}:
                    yield i, ("crashes", kept, promised)
        if world.wishes < self.bounds.wishes_max:
            for wish in self.bounds.wishes:
                if wish is not e.Wish.storage_failed or self.may_wipe(world, i):
                    yield i, ("is wished", wish)
        yield from self._answers(world, i, node.asking)
        other = self.nodes[world.nodes[1 - i]]
        if state.lead is not None:
            if state.lead.handing is None:
                yield from self._requests(world, i, node)
            if other.state is not None and state.lead.connected != other.member:
                yield i, ("meets", other.member)
            if other.promised > state.promised:
                yield i, ("is told of epoch", other.promised)

    def _answers(self, world: World, i: int, asking: Swap | str | None) -> Iterator[tuple[int, Deed]]:
        if asking is None:
            return
        held = world.register[-1]
        if isinstance(asking, str):
            yield i, ("reads", held)
        elif asking[1] in world.register:
            yield i, ("is answered", asking[1])
        elif asking[1].epoch <= self.bounds.epochs and not self.is_open(world, asking):
            yield i, ("is refused", held)
        if world.silences < self.bounds.silences:
            # by then the other node may have been silent for too long; else the same is asked again
            for now_us in (NOW, SILENCE):
                yield i, ("gets no answer", now_us)

    def _requests(self, world: World, i: int, node: Node) -> Iterator[tuple[int, Deed]]:
        """A client asks for something: for the first time anywhere, or again."""
        looked_up = node.log if self.bug.finds_ids_in_tail else node.log[: node.applied]
        if len(node.log) >= self.bounds.requests + (0 if self.bug.finds_ids_in_tail else 1):
            return
        found = {request for _, request in looked_up}
        asked = found | {request for number in world.nodes for _, request in self.nodes[number].log}
        asked |= {request for _, request in world.acknowledged}
        for number in world.messages:
            message = self.messages[number]
            if isinstance(message, Append):
                asked |= {request for _, request in logged(message.records)}
        for place, request in enumerate(REQUESTS[: self.bounds.requests]):
            # which of the requests not made yet comes first makes no difference
            if request not in found and all(earlier in asked for earlier in REQUESTS[:place]):
                yield i, ("makes", request)

    def may_wipe(self, world: World, i: int) -> bool:
        """Tell whether everything survives the loss of this disk; the only copy is never destroyed."""
        this, other = (self.nodes[world.nodes[j]] for j in (i, 1 - i))
        held = [world.register[-1], *(change[1] for change in world.changes if self.is_open(world, change))]
        return all(
            this.member not in configuration.in_sync or (other.member in configuration.in_sync and not other.is_dead)
            for configuration in held
        )

    def is_open(self, world: World, change: Swap) -> bool:
        """Tell whether a change may still come about."""
        if change[1].epoch > self.bounds.epochs:
            return False
        return change[0] == world.register[-1].epoch or not self.bug.register_compares

    def move(self, world: World, i: int, deed: Deed) -> World:
        """Do what can happen next."""
        if i == 2:
            change = deed[1]
            register = (*world.register, change[1])
            return self.collected(world._replace(register=register, changes=world.changes - {change}))
        if deed[0] == "crashes":
            world = world._replace(crashes=world.crashes + 1)
        elif deed[0] == "loses its disk":
            world = world._replace(wipes=world.wipes + 1)
        elif deed[0] == "gets no answer":
            world = world._replace(silences=world.silences + 1)
        elif deed[0] == "is wished":
            world = world._replace(wishes=world.wishes + 1)
        after = self.do(world, i, deed)
        return after if after is world else self.collected(after)

    def collected(self, world: World) -> World:
        """Take away what changes nothing any more, so that worlds that differ in nothing else are one."""
        nodes, sources = world.nodes, self.sources
        kept = frozenset(number for number in world.messages if self._matters(nodes[1 - sources[number]], number))
        changes = frozenset(change for change in world.changes if self.is_open(world, change))
        if len(kept) == len(world.messages) and len(changes) == len(world.changes):
            return world
        return world._replace(messages=kept, changes=changes)

    def _matters(self, node_number: int, number: int) -> bool:
        known = self._matter.get((node_number, number))
        if known is None:
            known = self._matter[(node_number, number)] = self._can_matter(self.nodes[node_number], number)
        return known

    def _can_matter(self, node: Node, number: int) -> bool:
        message = self.messages[number]
        if not self.bug.fences:
            return True
        if isinstance(message, Ack) and node.state is not None:
            lead = node.state.lead
            if lead is None or node.state.promised != message.epoch:
                return message.epoch > node.promised
            is_news = message.durable.lsn > lead.acked or message.sent_us < 0 or node.state.phase is Phase.blocked
            return message.member != lead.other or is_news
        return getattr(message, "epoch", 0) >= node.promised

    # --- What must hold -----------------------------------------------------------------------------------------------
    def check(self, world: World) -> None:
        """Hold the promises of the pair against this moment."""
        held = world.register[-1]
        key = (world.nodes, held, world.acknowledged)
        if key in self._checked:
            return
        self._checked.add(key)
        if held.primary not in held.in_sync:
            raise Violation("the register's primary is not in sync")
        if self.bug.register_compares and [c.epoch for c in world.register] != [*range(1, len(world.register) + 1)]:
            raise Violation("an epoch was given twice, or left out")
        for number in world.nodes:
            self._check_node(self.nodes[number], held, world.acknowledged)
        serving = [
            node.state.promised for node in map(self.nodes.__getitem__, world.nodes) if node.serving and node.state
        ]
        if len(serving) != len(set(serving)):
            raise Violation(f"two nodes serve in epoch {serving[0]}")

    def _check_node(self, node: Node, held: Configuration, acknowledged: Log) -> None:
        name, log = NAMES[node.i], node.log
        is_whole = node.synced >= len(acknowledged) and log[: len(acknowledged)] == acknowledged
        if node.member in held.in_sync and not is_whole:
            raise Violation(f"{name} is in sync and lacks an acknowledged entry: {log} instead of {acknowledged}")
        if node.applied > len(acknowledged) or log[: node.applied] != acknowledged[: node.applied]:
            raise Violation(f"{name} has applied what is not committed")
        if len({request for _, request in log}) != len(log):
            raise Violation(f"a request stands twice in the history of {name}: {log}")
        state = node.state
        if state is None:
            return
        if state.marks.end != self.mark(log):
            raise Violation(f"{name} thinks its journal ends at record {state.marks.end.lsn}")
        if (state.lead is not None) != bool(node.serving) or node.serving not in (0, state.promised):
            raise Violation(f"{name} serves in epoch {node.serving} and thinks it is {state.phase.value}")
        if state.promised > node.promised:
            raise Violation(f"{name} acts in an epoch that it has not promised")

    # --- Searching ----------------------------------------------------------------------------------------------------
    def search(self, states_max: int) -> Result:
        """Look at every world there is, nearest first, until one breaks a promise or so many were seen."""
        world = self.start()
        result = Result(phases=self.phases)
        began = time.perf_counter()
        here, i, deed = hash(world), 0, ()
        origins: dict[int, tuple[int, int, Deed]] = {here: (0, 0, ())}
        queue = deque([(world, 0, here)])
        try:
            while queue and len(origins) < states_max:
                world, depth, here = queue.popleft()
                result.depth = depth
                for i, deed in self.moves(world):
                    result.transitions += 1
                    after = self.move(world, i, deed)
                    key = hash(after)
                    if key not in origins:
                        origins[key] = (here, i, deed)
                        self.check(after)
                        result.acknowledged = max(result.acknowledged, len(after.acknowledged))
                        queue.append((after, depth + 1, key))
        except Violation as violation:
            result.violation = str(violation)
            result.path = (*self._path(origins, here), self.said(i, deed))
        result.is_complete = not queue
        result.states = len(origins)
        result.seconds = time.perf_counter() - began
        return result

    def walk(self, seed: int, steps: int) -> Result:
        """Let chance choose what happens, once; the seed gives the same walk again."""
        chance = random.Random(seed)
        world = self.start()
        result = Result(phases=self.phases)
        path = []
        began = time.perf_counter()
        try:
            paused, until = -1, 0
            for place in range(steps):
                if chance.random() < 0.02:
                    paused, until = chance.choice((0, 1)), place + chance.choice((5, 20, 40))
                # first what, then with what: else the many messages leave no time for anything else
                choices: dict[tuple[int, str], list[tuple[int, Deed]]] = {}
                for move in self.moves(world):
                    if move[0] == paused and place < until:
                        continue
                    choices.setdefault((move[0], move[1][0]), []).append(move)
                if not choices:
                    if place >= until:
                        break
                    continue
                i, deed = chance.choice(chance.choice(list(choices.values())))
                self.pass_time(chance)
                path.append((i, deed))
                world = self.move(world, i, deed)
                self.check(world)
        except Violation as violation:
            result.violation = str(violation)
            result.path = tuple(self.said(i, deed) for i, deed in path)
        result.transitions = len(path)
        result.world = world
        result.acknowledged = len(world.acknowledged)
        result.seconds = time.perf_counter() - began
        return result

    def calm(self, world: World, rounds: int = 30) -> World:
        """Let everything go well for a while: new connections, nodes run, the register answers, time passes."""
        world = world._replace(messages=frozenset())
        for i in (0, 1):
            if self.nodes[world.nodes[i]].state is not None:
                world = self.move(world, i, ("loses the other", False))
                world = self.move(world, i, ("is wished", e.Wish.resume))
        for _ in range(rounds):
            for name in GOING_WELL:
                for i, deed in list(self.moves(world)):
                    if deed[0] == name and (i, deed) in self.moves(world):
                        world = self.move(world, i, deed)
            has_primary = any(self.nodes[number].serving for number in world.nodes)
            for i, number in enumerate(world.nodes):
                if self.nodes[number].state is not None:
                    world = self.move(world, i, ("ticks at", BEAT if has_primary else LONG_SILENCE))
            self.check(world)
        return world

    def comes_to_rest(self, world: World | None) -> bool:
        """Tell whether, when all goes well for a while, one node serves with all committed and the other in step."""
        assert world is not None
        world = self.calm(world)
        nodes = [self.nodes[number] for number in world.nodes]
        serving = [node.state for node in nodes if node.serving and node.state is not None]
        if self.bounds.times.two_copies and any(node.is_dead for node in nodes):
            return True  # it waits for a second copy, for ever if it must
        if len(serving) != 1 or serving[0].committed != serving[0].marks.end.lsn:
            return False
        return serving[0].phase is (Phase.primary_solo if any(node.is_dead for node in nodes) else Phase.primary_paired)

    def pass_time(self, chance: random.Random) -> None:
        """Let some time pass between two deeds of a walk; without a clock there is none."""

    def _path(self, origins: dict[int, tuple[int, int, Deed]], key: int) -> tuple[str, ...]:
        path = []
        while origins[key][2]:
            key, i, deed = origins[key]
            path.append(self.said(i, deed))
        return tuple(reversed(path))

    def said(self, i: int, deed: Deed) -> str:
        """Give what happened in words."""
        who = (*NAMES, "the register")[i]
        if deed[0] == "hears":
            return f"{who} hears {described(self.messages[deed[1]])}"
        return " ".join([who, *map(str, deed)])


GOING_WELL: Final = (
    "restarts",
    "has promised",
    "syncs",
    "holds",
    "is answered",
    "is refused",
    "reads",
    "is told of epoch",
    "meets",
    "hears",
    "syncs",
    "hears",
)


class TimedExplorer(Explorer):
    """Walks with a clock, that both nodes share, to see what rests on clocks: who may answer reads by itself.

    A node reads right when everything that anybody has acknowledged is committed as far as it knows. Nothing is
    remembered between deeds, and every message stays: those that only carry a time matter here.
    """

    now_us = 1_000_000

    def clock(self, now_us: int) -> int:
        return self.now_us

    def remembered(self, state: State) -> State:
        return state

    def sent(self, message: Append | Ack) -> Message:
        return message

    def pass_time(self, chance: random.Random) -> None:
        small = chance.choice((0, 0, 0, 1, 1, 2, 4))
        self.now_us += small if chance.random() < 0.985 else chance.choice((TIMES.refused, TIMES.solo, TIMES.takeover))

    def do(self, world: World, i: int, deed: Deed) -> World:
        self._known.clear()
        return super().do(world, i, deed)

    def collected(self, world: World) -> World:
        return world

    def comes_to_rest(self, world: World | None) -> bool:
        """Nothing is asked of the end: joining waits for minutes, beside which the other times here are nothing."""
        return True

    def check(self, world: World) -> None:
        super().check(world)
        for number in world.nodes:
            node = self.nodes[number]
            if node.state is not None and role.may_read(node.state, self.now_us):
                self.reads += 1
                if node.state.committed < len(world.acknowledged):
                    raise Violation(f"{NAMES[node.i]} answers reads without what was acknowledged elsewhere")

    reads = 0


NODE_DEEDS: Final[dict[str, Callable[..., None]]] = {
    "restarts": Shell.restart,
    "crashes": Shell.crash,
    "loses its disk": Shell.wipe,
    "syncs": Shell.sync,
    "has promised": Shell.write_promise,
    "makes": Shell.make,
    "hears": Shell.hear,
    "waits no longer": Shell.wait_no_longer,
    "ticks at": lambda shell, now_us: shell.tell(e.Tick(), now_us),
    "reads": lambda shell, held: shell.answer(e.RegisterRead(held)),
    "is answered": lambda shell, held: shell.answer(e.RegisterSwapped(held)),
    "is refused": lambda shell, held: shell.answer(e.RegisterRefused(held)),
    "gets no answer": lambda shell, now_us: shell.answer(e.RegisterSilent(), now_us),
    "meets": Shell.meet,
    "loses the other": lambda shell, is_refused: shell.tell(e.PeerLost(is_refused)),
    "is told of epoch": lambda shell, epoch: shell.tell(e.PeerSaid(Nack(epoch, "stale", Mark()))),
    "is wished": lambda shell, wish: shell.tell(e.Wished(wish)),
}


def logged(records: tuple[Shipped, ...]) -> Log:
    """Give the entries that records carry."""
    found = []
    for shipped in records:
        epoch, request = shipped.data.decode().strip("()").split(", ")
        found.append((int(epoch), request.strip("'")))
    return tuple(found)


def described(message: Message) -> str:
    if isinstance(message, Append):
        return f"append e{message.epoch} {message.previous.lsn}+{len(message.records)} committed {message.committed}"
    if isinstance(message, Ack):
        return f"ack e{message.epoch} {message.durable.lsn} of {message.member.instance.decode()}"
    return f"{type(message).__name__} e{message.epoch}"


def timeless(state: State) -> State:
    """Take the times out of a state: nothing is due at `NOW`, everything at `LONG_SILENCE`."""
    lead: Lead | None = state.lead
    if lead is not None:
        handing = lead.handing
        lead = with_fields(
            lead,
            **dict.fromkeys(("heard_us", "sent_us", "adopted_us", "lease_us", "join_after_us", "failures"), 0),
            handing=None if handing is None else with_fields(handing, until_us=TIMES.takeover),
        )
    follow = with_fields(
        state.follow,
        **dict.fromkeys(("heard_us", "acked_us", "probe_us", "sent_us"), 0),
        ready_until_us=min(state.follow.ready_until_us, 1),
        is_nacked=False,
    )
    return with_fields(state, lead=lead, follow=follow, retry_us=0)


# --- The mistakes that must be found ----------------------------------------------------------------------------------
def _with_lead(state: State, **changes: Any) -> State:
    return state if state.lead is None else with_fields(state, lead=with_fields(state.lead, **changes))


def _forgets_the_other(before: State, event: e.Event, after: State, actions: Actions) -> Outcome:
    return _with_lead(after, is_required=False), actions


def _joins_unrequired(before: State, event: e.Event, after: State, actions: Actions) -> Outcome:
    return (_with_lead(after, is_required=False) if after.phase is Phase.primary_joining else after), actions


def _joins_too_early(before: State, event: e.Event, after: State, actions: Actions) -> Outcome:
    return _with_lead(after, join_from=-1), actions


def _goes_solo_at_once(before: State, event: e.Event, after: State, actions: Actions) -> Outcome:
    asks = any(isinstance(action, e.SwapRegister) and action.name == "solo" for action in actions)
    return (_with_lead(after, is_required=False) if asks else after), actions


def _gives_up_joining(before: State, event: e.Event, after: State, actions: Actions) -> Outcome:
    asks = any(isinstance(action, e.SwapRegister) and action.name == "solo" for action in actions)
    is_joining = after.lead is not None and not after.lead.is_paired
    return (_with_lead(after, is_required=False) if asks and is_joining else after), actions


def _serves_without_bump(state: State, event: e.Event) -> tuple[State, e.Event]:
    if isinstance(event, e.RegisterRead) and state.phase is Phase.recovering and event.configuration is not None:
        if event.configuration.epoch == state.promised and event.configuration.primary == state.member:
            return with_fields(state, promised=state.promised - 1), event
    return state, event


def _takes_over_uncounted(state: State, event: e.Event) -> tuple[State, e.Event]:
    if isinstance(event, e.RegisterRead) and state.follow.is_taking and event.configuration is not None:
        members = {*event.configuration.in_sync, state.member}
        return state, e.RegisterRead(with_fields(event.configuration, in_sync=tuple(members)))
    return state, event


def _follows_anybody(state: State, event: e.Event) -> tuple[State, e.Event]:
    if isinstance(event, e.PeerSaid) and isinstance(event.message, Append) and state.lead is None:
        if event.message.epoch < state.promised:
            return state, e.PeerSaid(with_fields(event.message, epoch=state.promised))
    return state, event


def _applies_uncommitted(state: State, event: e.Event) -> tuple[State, e.Event]:
    if isinstance(event, e.PeerSaid) and isinstance(event.message, Append):
        return state, e.PeerSaid(with_fields(event.message, committed=1_000))
    return state, event


BUGS: Final[dict[str, Bug]] = {
    bug.name: bug
    for bug in (
        Bug("acknowledges before its own disk", primary_syncs=False),
        Bug("acknowledges without the peer", after=_forgets_the_other),
        Bug("joins before requiring acknowledgements", after=_joins_unrequired),
        Bug("joins a node that lacks something", after=_joins_too_early),
        Bug("is solo before it knows so", after=_goes_solo_at_once),
        Bug("gives a joining up by itself", after=_gives_up_joining),
        Bug("serves after a restart in the same epoch", before=_serves_without_bump),
        Bug("takes over while not in sync", before=_takes_over_uncounted),
        Bug("the register does not compare", register_compares=False),
        Bug("the standby follows older epochs", before=_follows_anybody, fences=False),
        Bug("the standby applies what is not committed", before=_applies_uncommitted),
        Bug("the standby acknowledges before its disk", standby_syncs=False),
        Bug("ids are looked up among what is applied", finds_ids_in_tail=False),
        Bug("an instance is used again after its disk is lost", renews_instance=False),
    )
}


# --- The long run -----------------------------------------------------------------------------------------------------
SWITCHES: Final = (e.Wish.switch_over, e.Wish.take_over)
LONG_RUN: Final[dict[str, Bounds]] = {
    "one request": Bounds(requests=1, epochs=3, crashes=1, silences=1),
    "a lost disk": Bounds(requests=1, epochs=4, crashes=0, wipes=1, silences=0),
    "two requests": Bounds(requests=2, epochs=4, crashes=1, silences=0),
    "slow promises": Bounds(requests=1, epochs=3, crashes=1, silences=0, is_pausing=True),
    "a planned switch": Bounds(requests=1, epochs=3, crashes=0, silences=1, wishes=SWITCHES),
    "every wish": Bounds(requests=2, epochs=5, crashes=1, wipes=1, silences=1, wishes=tuple(e.Wish), wishes_max=2),
    "two copies": Bounds(requests=2, epochs=4, crashes=1, silences=0, times=with_fields(TIMES, two_copies=True)),
}
WALKS: Final = Bounds(
    requests=4,
    epochs=1_000,
    crashes=5,
    wipes=2,
    silences=6,
    wishes=tuple(e.Wish),
    wishes_max=6,
    is_pausing=True,
    is_detailed=True,
)
TIMED_WALKS: Final = Bounds(
    requests=len(REQUESTS),
    epochs=1_000,
    crashes=3,
    silences=6,
    wishes=SWITCHES,
    wishes_max=4,
    is_pausing=True,
    is_detailed=True,
    times=with_fields(TIMES, lease=TIMES.refused - 1),
)


def walked(explorer: Explorer, seeds: range, steps: int) -> Result:
    """Walk once with each seed and let it come to rest, until a promise breaks; say with which seed that was."""
    total = Result(phases=explorer.phases, depth=steps)
    for seed in seeds:
        result = explorer.walk(seed, steps)
        total.states = len(explorer.nodes)
        total.transitions += result.transitions
        total.seconds += result.seconds
        total.acknowledged += result.acknowledged
        if not result.violation and not explorer.comes_to_rest(result.world):
            result.violation = "it does not come to rest with one node serving and the other in step"
        if result.violation:
            total.violation, total.path = f"seed {seed}: {result.violation}", result.path
            break
    return total


def main() -> int:
    """Search each of the long run's bounds up to so many worlds (the first argument), and walk; 1 if one breaks."""
    states_max = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000
    walks = range(states_max // 100)
    results: Iterator[tuple[str, Result]] = chain(
        ((name, Explorer(bounds).search(states_max)) for name, bounds in LONG_RUN.items()),
        (
            (f"walks, {copies or 'one'} copies", walked(Explorer(replace(WALKS, times=times)), walks, 400))
            for copies, times in (("", TIMES), ("two", with_fields(TIMES, two_copies=True)))
        ),
        (("walks with a clock", walked(TimedExplorer(bounds), walks[::4], 400)) for bounds in (TIMED_WALKS,)),
    )
    is_sound = True
    for name, result in results:
        print(f"{name}: {result}", *result.path, sep="\n  ", flush=True)
        is_sound = is_sound and not result.violation
    return 0 if is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
