"""How the nodes of the bank are, for administrators' pages: one poller a process, asking while somebody looks.

Every node that the bank's address names is asked once a second over a connection of its own, without a login. Half a
minute after the last look the asking ends and the connections are closed; so a process that serves customers only costs
the nodes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Final, Literal

from msgspec.structs import replace

from fortress.client.nodes import NodeProbe
from fortress.errors import FortressError
from fortress.web import administration as admin
from fortress.web.call import Call, Context, Event, Handler
from fortress.web.watch import Watch

EVERY_S: Final = 1.0
ASK_S_MAX: Final = 1.5
FIRST_S_MAX: Final = 2.5
LOOKED_S: Final = 30.0
SAME_S: Final = 15.0
"""What a node and this process saw within this time, of the same node and by the same name, is one event."""
EVENTS_SHOWN_MAX: Final = 200


class Observer:
    """Ask the nodes of one bank while somebody looks.

    Args:
        bank: its id.
        kind: bank or gateway.
        probes: of its nodes; closed with this.

    Attributes:
        watch: what is known of them.
    """

    def __init__(self, bank: str, kind: Literal["bank", "gateway"], probes: Sequence[NodeProbe]) -> None:
        self.watch = Watch(bank, kind, [probe.address for probe in probes])
        self._probes = probes
        self._wanted_until = 0.0
        self._streams = 0
        self._asked: set[str] = set()
        self._first = asyncio.Event()
        self._turn = asyncio.Event()
        self._run: asyncio.Task[None] | None = None

    @property
    def size(self) -> int:
        """How many nodes are asked."""
        return len(self._probes)

    @property
    def is_asking(self) -> bool:
        """Whether the nodes are being asked."""
        return self._run is not None and not self._run.done()

    async def cluster(self) -> admin.Cluster:
        """Tell how the bank is now; the first look waits, a bounded time, until each node was asked."""
        self.look()
        try:
            await asyncio.wait_for(self._first.wait(), FIRST_S_MAX)
        except TimeoutError:
            pass  # a node that neither answers nor refuses shows as not yet asked
        return self.watch.cluster(_now_us())

    async def stream(self) -> AsyncIterator[admin.Cluster]:
        """Tell how the bank is, at once and then every second, until the caller ends it."""
        self._streams += 1
        try:
            yield await self.cluster()
            while True:
                self.look()
                try:
                    await asyncio.wait_for(self._turn.wait(), 2 * EVERY_S)
                except TimeoutError:
                    continue
                yield self.watch.cluster(_now_us())
        finally:
            self._streams -= 1

    def look(self) -> None:
        """Take note that somebody looks."""
        loop = asyncio.get_running_loop()
        self._wanted_until = loop.time() + LOOKED_S
        if not self.is_asking:
            self._run = loop.create_task(self._ask_all())

    async def close(self) -> None:
        """Ask no more, and end the connections."""
        run, self._run = self._run, None
        if run is not None:
            run.cancel()
            await asyncio.wait([run])

    async def _ask_all(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                askers = [group.create_task(self._ask(probe)) for probe in self._probes]
                await self._tick()
                for asker in askers:
                    asker.cancel()
        finally:
            self.watch.pause()
            self._asked.clear()
            self._first.clear()
            await asyncio.gather(*(probe.close() for probe in self._probes))

    async def _ask(self, probe: NodeProbe) -> None:
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                pulse = await probe.ask(ASK_S_MAX)
            except FortressError:
                self.watch.missed(probe.address, _now_us())
            else:
                self.watch.heard(probe.address, pulse.status, pulse.latency_s * 1000, _now_us())
            self._asked.add(probe.address)
            if len(self._asked) == len(self._probes):
                self._first.set()
            await asyncio.sleep(max(begun + EVERY_S - loop.time(), 0.0))

    async def _tick(self) -> None:
        """Go on second by second until nobody looks any more."""
        loop = asyncio.get_running_loop()
        at = loop.time()
        while self._streams or loop.time() < self._wanted_until:
            at = max(at + EVERY_S, loop.time())
            await asyncio.sleep(at - loop.time())
            self.watch.tick(_now_us())
            turn, self._turn = self._turn, asyncio.Event()
            turn.set()


class Poller(Observer):
    """The observer of the bank that this process serves; `call.context.shared(Poller)`."""

    def __init__(self, context: Context) -> None:
        super().__init__(context.bank, context.kind, context.connect().probes())


def merged(told: Sequence[admin.Event], seen: Sequence[admin.Event]) -> list[admin.Event]:
    """Put what a node's own log tells and what was seen from here into one list, newest first.

    Of one event in both, the node's words and the outage as seen are kept.
    """
    left = list(seen)
    found: list[admin.Event] = []
    for event in told:
        twin = next((each for each in left if _is_same(each, event)), None)
        if twin is not None:
            left.remove(twin)
            event = replace(event, outage_s=twin.outage_s if event.outage_s is None else event.outage_s)
        found.append(event)
    return sorted([*found, *left], key=lambda event: event.time, reverse=True)[:EVENTS_SHOWN_MAX]


def _is_same(one: admin.Event, other: admin.Event) -> bool:
    if (one.node, one.event) != (other.node, other.event):
        return False
    return abs((_moment(one) - _moment(other)).total_seconds()) <= SAME_S


def _moment(event: admin.Event) -> datetime:
    return datetime.fromisoformat(event.time)


def _now_us() -> int:
    return time.time_ns() // 1000


# --- handlers -------------------------------------------------------------------------------------------------------


async def handle_cluster(call: Call) -> admin.Cluster:
    """Tell how the nodes are."""
    return await call.context.shared(Poller).cluster()


async def handle_cluster_stream(call: Call) -> AsyncIterator[Event]:
    """Tell how the nodes are, once a second."""
    return _events(call.context.shared(Poller))


async def _events(poller: Poller) -> AsyncIterator[Event]:
    async for cluster in poller.stream():
        yield Event("cluster", cluster)


async def handle_samples(call: Call) -> admin.Samples:
    """Give rate and latency of the last ten minutes."""
    poller = call.context.shared(Poller)
    poller.look()
    return admin.Samples(list(poller.watch.samples))


async def handle_events(call: Call) -> admin.EventList:
    """List what happened to the nodes, newest first."""
    poller = call.context.shared(Poller)
    poller.look()
    told = await asyncio.to_thread(call.context.chronicle)
    return admin.EventList(merged(told, poller.watch.events))


HANDLERS: Final[dict[str, Handler]] = {
    "cluster": handle_cluster,
    "cluster_stream": handle_cluster_stream,
    "samples": handle_samples,
    "events": handle_events,
}
