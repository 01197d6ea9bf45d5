"""The pair at work in one node: feeds the role machine and does what it asks for.

Everything that happens becomes an event of :mod:`.role`, one after the other; what the machine answers is done at
once, in order. What takes time (the register, a promise on the disk, probing the other node) runs beside and comes
back as an event. So this shell decides nothing: an ``if`` about who may be primary belongs into the machine.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ssl import SSLContext
from typing import Any, Final

from fortress.config import PairSettings
from fortress.errors import Busy, NoPrimary, PeerRejected
from fortress.ledger.records import Record
from fortress.pair import events as e
from fortress.pair import role
from fortress.pair.control import Control
from fortress.pair.deeds import Deeds
from fortress.pair.errands import Errands
from fortress.pair.host import History, Host, People
from fortress.pair.link import Link
from fortress.pair.messages import (
    VERSION,
    Append,
    Hello,
    Mark,
    Member,
    Message,
    TableDigest,
)
from fortress.pair.receiving import Receiver
from fortress.pair.register import Register
from fortress.pair.role_state import Phase, times_of
from fortress.pair.shipping import Dialing, Shipper
from fortress.pair.sight import Sight

RECORD_VERSION: Final = 1
SWITCH_S: Final = 5.0

logger = logging.getLogger(__name__)


def monotonic_us() -> int:
    """Tell the time of a clock that never goes back, in microseconds."""
    return time.monotonic_ns() // 1000


@dataclass(frozen=True, slots=True)
class Parts:
    """What replication works with.

    Attributes:
        bank: the bank's id.
        name: this node's.
        control: this node's promises, durable.
        register: who is primary.
        listening: TLS of the side that listens.
        dialing: TLS of the side that connects.
        history: this node's journal.
        people: this node's people's keys.
        host: the node.
        send_snapshot: brings a standby up that the journal cannot.
        take_snapshot: takes the messages of that.
        on_digest: takes what the primary's tables amount to.
        clock_us: a clock that never goes back, in microseconds.
    """

    bank: str
    name: str
    control: Control
    register: Register
    listening: SSLContext
    dialing: SSLContext
    history: History
    people: People
    host: Host
    send_snapshot: Callable[[Link, int], Awaitable[None]]
    take_snapshot: Callable[[Message], Coroutine[Any, Any, None]]
    on_digest: Callable[[TableDigest], None]
    clock_us: Callable[[], int] = monotonic_us


class Replication:
    """One node's part in the pair.

    Attributes:
        errands: what is under way beside.
        is_halted: no event is taken any more; set also when what this node has in memory is about to be given up.
        fresh_us: by this node's clock, when the newest message of the primary was sent at the earliest; 0: not known.

    Args:
        parts: what it works with.
        settings: addresses and times.
        committed: up to where this node knows that its journal is committed.
        is_founder: whether this node may write the register's very first configuration.
    """

    def __init__(self, parts: Parts, settings: PairSettings, *, committed: int, is_founder: bool) -> None:
        self._parts = parts
        self.settings = settings
        self._host = parts.host
        self.clock_us = parts.clock_us
        self.member = Member(parts.name, parts.control.instance)
        self._cluster = bytes.fromhex(settings.cluster)
        self.state = role.initial(
            self.member,
            "",
            promised=parts.control.promised,
            end=parts.history.end(),
            committed=committed,
            times=times_of(settings),
            marks=parts.history.tail(),
            is_founder=is_founder,
        )
        self._events: deque[e.Event] = deque()
        self._is_stepping = False
        self.is_halted = False
        self._timer: asyncio.TimerHandle | None = None
        self.sight = Sight()
        self.readable_until_us = 0
        self.fresh_us = 0
        self._is_following = False
        self._may_leave = asyncio.Event()
        host, _, port = settings.peer.rpartition(":")
        self._peer_address = (host.strip("[]"), int(port))
        self._receiver = self._make_receiver()
        self._shipper = self._make_shipper()
        self.errands = Errands(
            parts.register,
            parts.control,
            self._peer_address,
            on_event=self.feed,
            on_swapped=self._tell_swap,
            on_unwritten=lambda reason: self._host.quarantine(f"a promise could not be written: {reason}"),
            tell=self._host.tell,
        )
        deeds = Deeds(parts.host, self._shipper, self._receiver, self.errands, self)
        self._records = deeds.records
        may_leave: dict[type[Any], Callable[[Any], object]] = {e.MayLeave: lambda _: self._may_leave.set()}
        self._deeds = deeds.table() | may_leave

    def _make_receiver(self) -> Receiver:
        parts = self._parts
        return Receiver(
            parts.listening,
            parts.bank,
            parts.history,
            parts.people,
            greet=self._greet,
            check=self._check,
            on_event=self.feed,
            on_records=lambda records: self._records.keep(records),
            on_snapshot=parts.take_snapshot,
            on_digest=parts.on_digest,
            is_stale=lambda epoch: epoch < self.state.promised,
            on_rejected=lambda reason: self._host.tell("peer_rejected", {"reason": reason}),
        )

    def _make_shipper(self) -> Shipper:
        parts = self._parts
        return Shipper(
            Dialing(*self._peer_address, parts.dialing, parts.bank),
            parts.history,
            parts.people,
            greet=self._greet,
            check=self._check,
            on_event=self.feed,
            on_digest=parts.on_digest,
            send_snapshot=parts.send_snapshot,
            clock_us=parts.clock_us,
            on_fault=partial(_crash, self, self._host),
        )

    async def start(self) -> None:
        """Listen, and find out what this node is.

        Raises:
            AddressInUse: something else listens on the replication socket.
        """
        host, _, port = self.settings.listen.rpartition(":")
        await self._receiver.start(host.strip("[]"), int(port))
        self.feed(e.Tick())

    async def stop(self) -> None:
        """End everything; nothing is fed any more."""
        self.is_halted = True
        if self._timer is not None:
            self._timer.cancel()
        await self._shipper.stop()
        await self._receiver.stop()
        await self.errands.stop()

    # --- The machine ----
    def feed(self, event: e.Event) -> None:
        """Tell the machine what happened, and do what it asks for; what happens meanwhile comes after."""
        self._events.append(event)
        if self._is_stepping:
            return
        self._is_stepping = True
        try:
            while self._events and not self.is_halted:
                self._step(self._events.popleft())
        except Exception as error:
            _crash(self, self._host, error)
        finally:
            self._is_stepping = False

    def _step(self, event: e.Event) -> None:
        now_us = self.clock_us()
        if type(event) is e.PeerSaid:
            self.sight.note(event.message, now_us)
            self._note_primary(event.message)
        elif type(event) is e.PeerLost and self._is_following:
            self._is_following = False
            self._host.follow("")
        phase = self.state.phase
        self.state, actions = role.step(self.state, event, now_us)
        for action in actions:
            self._deeds[type(action)](action)
        if self.state.phase is not phase:
            self._host.tell("phase", {"before": phase.value, "now": self.state.phase.value})
            self._host.set_blocked(is_blocked=self.state.phase is Phase.blocked)
        if type(event) is e.PeerSaid and type(event.message) is Append:
            self.fresh_us = event.message.heard_us
            self._host.heard(event.message.committed)
        if type(event) is not e.RecordMade and type(event) is not e.RecordsDurable:
            self._allow_reads()
            self._set_timer(now_us)

    def _set_timer(self, now_us: int) -> None:
        """Wake up for the machine's next deadline; a timer that comes too early only asks again."""
        wait_s = max(role.next_deadline(self.state) - now_us, 1000) / 1e6
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if not self._timer.cancelled() and self._timer.when() <= loop.time() + wait_s:
                return
            self._timer.cancel()
        self._timer = loop.call_later(wait_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.feed(e.Tick())

    def _allow_reads(self) -> None:
        """Tell the node until when it may answer reads by itself."""
        until_us = role.read_until(self.state)
        if until_us != self.readable_until_us:
            self.readable_until_us = until_us
            self._host.allow_reads(until_us)

    def _note_primary(self, message: Message) -> None:
        """Let clients know where the primary is, once it is heard."""
        if type(message) is Append and not self._is_following and message.epoch >= self.state.promised:
            self._is_following = True
            self._host.follow(self.settings.peer_clients)

    # --- What the node tells ----
    def made(self, record: Record, data: bytes) -> None:
        """As primary: a record was made; it is on its way to this node's disk, and here goes to the other."""
        self._shipper.ship(record, data, self.state.committed)
        self.feed(e.RecordMade(Mark(record.lsn, record.hash)))

    def durable(self, lsn: int) -> None:
        """This node's journal is durable up to here."""
        self.feed(e.RecordsDurable(lsn))

    def keys_changed(self, handle: bytes, key: bytes | None) -> None:
        """A person's own key was made or destroyed here, durably."""
        self._shipper.ship_keys(((handle, key),))

    @property
    def is_register_reachable(self) -> bool:
        """False while the register does not answer."""
        return self.errands.is_register_reachable

    @property
    def behind(self) -> int:
        """How many records the standby lacks: this node, or the other one when this is primary."""
        if role.is_primary(self.state):
            return max(0, self._parts.history.end().lsn - self.sight.durable)
        return max(0, self.sight.committed - self._parts.history.end().lsn)

    async def switch_over(self, wish: e.Wish = e.Wish.switch_over) -> None:
        """Make the other node primary, in order; requests that come meanwhile wait.

        Raises:
            NoPrimary: this node is not primary of two.
            Busy: the other node did not take over in time; this one goes on.
        """
        if self.state.phase is not Phase.primary_paired:
            raise NoPrimary("this node is not the primary of a pair in step; 'fortress status' shows what it is")
        self._host.hold()
        try:
            async with asyncio.timeout(SWITCH_S):
                await self._host.quiet()
            self.feed(e.Wished(wish))
            await _until(lambda: not role.is_primary(self.state))
        except TimeoutError:
            if role.is_primary(self.state):
                self._host.serve(self.state.promised)
            raise Busy("the other node did not take over in time; this one goes on") from None

    async def leave(self) -> None:
        """Go down in order: hand over if this node is primary of two in step, and say goodbye; bounded in time."""
        if role.is_primary(self.state) and self.state.phase is not Phase.blocked:
            self._host.hold()  # what was begun is answered first, also by a primary alone
            with suppress(TimeoutError):
                async with asyncio.timeout(SWITCH_S):
                    await self._host.quiet()
        self.feed(e.Wished(e.Wish.leave))
        with suppress(TimeoutError):
            async with asyncio.timeout(SWITCH_S):
                await self._may_leave.wait()

    async def take_over(self) -> None:
        """As standby in step: become primary now.

        Raises:
            NoPrimary: it did not come to that; the events say why.
        """
        self.feed(e.Wished(e.Wish.take_over))
        try:
            await _until(lambda: role.is_primary(self.state))
        except TimeoutError:
            raise NoPrimary("this node could not become primary; 'fortress events' says why") from None

    def send_digest(self, lsn: int, digest: bytes) -> None:
        """Tell the other node what this one's tables amount to; without a digest: that it will be told."""
        message = TableDigest(self.state.promised, lsn, digest)
        self._shipper.send(message)
        self._receiver.send(message)

    def apply(self, settings: PairSettings) -> None:
        """Take over settings that may change while the node runs."""
        self.settings = settings
        self.state = role.reconfigured(self.state, times_of(settings))
        self.feed(e.Tick())

    def wish(self, wish: e.Wish) -> None:
        """Tell the machine a wish that is done at once."""
        self.feed(e.Wished(wish))

    # --- What the machine asks for ----
    def _tell_swap(self, swap: e.SwapRegister) -> None:
        """Write down what the register took, and for a takeover how long the primary had been silent."""
        facts: dict[str, str | int] = {"epoch": swap.fresh.epoch, "primary": swap.fresh.primary.name}
        if swap.name == "takeover" and self.sight.primary_us:
            facts["silent_ms"] = (self.clock_us() - self.sight.primary_us) // 1000
        self._host.tell(swap.name, facts)

    # --- Who is there ----
    def _greet(self) -> Hello:
        history = self._parts.history
        return Hello(
            self._cluster,
            self._parts.bank,
            self.member,
            VERSION,
            RECORD_VERSION,
            self.state.promised,
            history.end(),
            self.state.committed,
            self.state.committed,
            history.first_lsn(),
            self._parts.people.digests(),
        )

    def _check(self, hello: Hello) -> None:
        if hello.cluster != self._cluster:
            raise PeerRejected("the other side belongs to another pair: its cluster id is not ours")
        if hello.bank != self._parts.bank:
            raise PeerRejected(f"the other side is of bank {hello.bank!r}")
        if hello.member.name == self.member.name:
            raise PeerRejected(f"the other side has this node's own name, {hello.member.name!r}")
        if min(hello.version, hello.record_version) < 1:  # of a later one, the lower of both is spoken and written
            raise PeerRejected("the other side speaks a version that this node does not know")


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(SWITCH_S):
        while not is_so():
            await asyncio.sleep(0.005)


def _crash(replication: Replication, host: Host, error: BaseException) -> None:
    """Take part in nothing any more; the node stops."""
    logger.error("the pair's part failed", exc_info=error)
    replication.is_halted = True
    host.crash(error)
