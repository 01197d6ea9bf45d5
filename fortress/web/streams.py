"""What happens while a page is open: entries on the customer's accounts, and whether the bank answers.

One subscription at the bank serves all streams of a session in this process. A browser that comes back says the
position of the last entry it saw; what it missed is asked for from there, and each stream leaves out what it has given.

Whether the bank answers is one question a second for the whole process, asked in the name of any session that listens:
only the primary answers it. An answer that takes over a second is as good as none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final, Literal

from fortress.client.me import Me
from fortress.errors import AuthenticationError, FortressError, MessageInvalid, Throttled
from fortress.protocol.reading import EntryPush
from fortress.web import shapes
from fortress.web.call import Call, Context, Event
from fortress.web.conversions import entry_of, time_of

ASK_EVERY_S: Final = 1.0
ANSWER_S_MAX: Final = 1.0
AGAIN_S: Final = 1.0
READER_EVENTS_MAX: Final = 256
READER_S_MAX: Final = 10.0
"""A reader whose queue stays full for so long is dropped."""
POSITION_DIGITS_MAX: Final = 16


class Reader:
    """One stream: what waits for it, a bounded number.

    Args:
        position: of the last entry it has seen; 0: it wants what happens from now on.
    """

    def __init__(self, position: int) -> None:
        self.position = position
        self.events: asyncio.Queue[Event | None] = asyncio.Queue(READER_EVENTS_MAX)
        self.is_over = False
        self._given: set[int] = set()

    def wants(self, push: EntryPush) -> bool:
        """Whether this entry is new to it; a transfer between own accounts comes once for each."""
        position = push.row.position
        if position > self.position:
            self.position, self._given = position, {push.account}
            return True
        if position == self.position and self._given and push.account not in self._given:
            self._given.add(push.account)
            return True
        return False

    def end(self) -> None:
        """Let the stream end with what waits already."""
        self.is_over = True
        if self.events.full():
            self.events.get_nowait()
        self.events.put_nowait(None)


class Hub:
    """All streams of one session.

    Args:
        me: the session.
        has_entries: whether there are accounts to be told about.
    """

    def __init__(self, me: Me, *, has_entries: bool) -> None:
        self.me = me
        self.readers: list[Reader] = []
        self._has_entries = has_entries
        self._position = 0
        self._task: asyncio.Task[None] | None = None

    def join(self, position: int) -> Reader:
        """Begin a stream; what its reader has missed is asked for again, for all."""
        reader = Reader(position or self._position)
        self.readers.append(reader)
        is_idle = self._task is None or self._task.done()
        has_missed = 0 < position and (not self._position or position < self._position)
        if self._has_entries and (is_idle or has_missed):
            before, self._position = self._task, position
            self._task = asyncio.create_task(self._tell(before))
        return reader

    def leave(self, reader: Reader) -> None:
        """End a stream."""
        if reader in self.readers:
            self.readers.remove(reader)

    async def close(self) -> None:
        """End all streams and the subscription."""
        for reader in self.readers:
            reader.end()
        task, self._task = self._task, None
        await _ended(task)

    async def _tell(self, before: asyncio.Task[None] | None) -> None:
        await _ended(before)  # there is one subscription at a time
        while True:
            subscription = self.me.subscribe(from_position=self._position or None)
            try:
                async with subscription:
                    self._position = self._position or subscription.position or 0
                    async for push in subscription:
                        await self._give(push)
            except AuthenticationError:
                break  # the session is over
            except MessageInvalid:
                self._position = 0  # too much was missed; the page reads its lists anew when a stream begins
            except FortressError:
                await asyncio.sleep(AGAIN_S)
        for reader in self.readers:
            reader.end()

    async def _give(self, push: EntryPush) -> None:
        self._position = max(self._position, push.row.position)
        row = shapes.EntryEvent(push.account, entry_of(push.row, self.me.bank))
        event = Event("entry", row, str(push.row.position))
        for reader in [each for each in self.readers if each.wants(push)]:
            try:
                async with asyncio.timeout(READER_S_MAX):
                    await reader.events.put(event)
            except TimeoutError:
                reader.end()
                self.leave(reader)
        await asyncio.sleep(0)  # a long past must not fill a reader's queue in one turn of the loop


async def _ended(task: asyncio.Task[Any] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait([task])


class Streams:
    """All streams of a process; `Context.shared` gives it.

    Args:
        context: of the process.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._hubs: dict[Me, Hub] = {}
        self._state: Literal["ok", "switching"] = "ok"
        self._since_us = _now_us()
        self._pulse: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return sum(len(hub.readers) for hub in self._hubs.values())

    def listen(self, call: Call) -> AsyncIterator[Event]:
        """Give the events of one stream; first of all whether the bank answers.

        Raises:
            Throttled: the session has too many streams.
        """
        hub = self._hubs.get(call.me)
        if hub is not None and len(hub.readers) >= self._context.settings.streams_per_session_max:
            raise Throttled("this session has too many streams open")
        return self._events(call.me, _position_of(call.last_event_id))

    async def _events(self, me: Me, position: int) -> AsyncIterator[Event]:
        hub = self._hubs.get(me)
        if hub is None:
            hub = self._hubs[me] = Hub(me, has_entries=self._context.kind == "bank")
        reader = hub.join(position)
        try:
            if self._pulse is None or self._pulse.done():
                self._pulse = asyncio.create_task(self._ask())
            yield self._connection()
            while (event := await reader.events.get()) is not None:
                yield event
        finally:
            hub.leave(reader)
            if not hub.readers and self._hubs.get(me) is hub:
                del self._hubs[me]
                await hub.close()

    async def close(self) -> None:
        """End all streams."""
        pulse, self._pulse = self._pulse, None
        await _ended(pulse)
        while self._hubs:
            _, hub = self._hubs.popitem()
            await hub.close()

    # --- whether the bank answers -----------------------------------------------------------------------------------

    def _connection(self) -> Event:
        return Event("connection", shapes.ConnectionEvent(self._state, time_of(self._since_us)))

    async def _ask(self) -> None:
        while self._hubs:
            me = next(iter(self._hubs))
            asked = asyncio.create_task(_answers(me))
            try:
                await asyncio.wait([asked], timeout=ANSWER_S_MAX)
                if not asked.done():
                    self._became("switching")
                await asyncio.wait([asked])
            finally:
                await _ended(asked)
            self._became("ok" if asked.result() else "switching")
            await asyncio.sleep(ASK_EVERY_S)

    def _became(self, state: Literal["ok", "switching"]) -> None:
        if state == self._state:
            return
        self._state, self._since_us = state, _now_us()
        event = self._connection()
        for reader in [reader for hub in self._hubs.values() for reader in hub.readers]:
            with suppress(asyncio.QueueFull):  # who does not read does not hear either
                reader.events.put_nowait(event)


async def _answers(me: Me) -> bool:
    """Whether the bank answers; that the session is over is an answer too."""
    try:
        await me.whoami()
    except AuthenticationError:
        return True
    except FortressError:
        return False
    return True


def _position_of(last_event_id: str) -> int:
    is_number = last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= POSITION_DIGITS_MAX
    return int(last_event_id) if is_number else 0


def _now_us() -> int:
    return time.time_ns() // 1000
