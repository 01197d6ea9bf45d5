"""Being told: entries as they are committed, without a gap over reconnects, failovers and a slow reader.

The bank pushes; what is pushed waits in a queue of bounded length. When the queue is full, or the connection is gone,
what follows is dropped, and asked for again from the position of the last entry that the reader took: the journal is
the real queue. Entries that come a second time by this are left out, and so is what an earlier connection, or a
subscription of before the drop, still pushes: after a later entry the ones before it would be taken for repeats.

A reader waits for a bank that may be gone without a word. So it asks for a sign of life while it is quiet, and asks for
its subscription again now and then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Final, Self

import msgspec

from fortress.client.calls import Calls
from fortress.client.link import Link
from fortress.errors import FortressError, LocalProtocolError
from fortress.protocol.administration import StatusAnswer, StatusRequest
from fortress.protocol.messages import decode_fields
from fortress.protocol.reading import EntryPush, Subscribe, Unsubscribe

TOPIC: Final = "entry"
PRIMARY: Final = "primary"
QUEUE_MAX: Final = 1000
QUIET_S: Final = 5.0
ASK_AGAIN_S: Final = 60.0


class Subscription:
    """An endless iterator over pushes; ``async for`` it, and ``aclose`` it when done, or leave the ``async with``.

    Args:
        calls: of the session.
        accounts: numbers; none for all one's own.
        from_position: of the last entry seen before, None to begin now.
        queue_max: how many pushes wait at most.

    Attributes:
        position: of the last entry given, or before which there is nothing to tell; where to go on after a restart of
            the program.
    """

    def __init__(
        self, calls: Calls, accounts: Sequence[int], from_position: int | None, *, queue_max: int = QUEUE_MAX
    ) -> None:
        self.position = from_position
        self._calls = calls
        self._accounts = list(accounts)
        self._queue_max = queue_max
        self._queue: deque[EntryPush] = deque()
        self._wake = asyncio.Event()
        self._link: Link | None = None
        self._source: Link | None = None
        self._is_behind = False
        self._fault: FortressError | None = None
        # which accounts' entries of `position` were given, for a transfer may touch two of one's own; None: all
        self._given: set[int] | None = None

    def __aiter__(self) -> AsyncIterator[EntryPush]:
        return self

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def __anext__(self) -> EntryPush:
        """Wait for the next entry.

        Raises:
            MessageInvalid: too much happened while nobody listened; page through the history instead.
            FortressError: the bank cannot be reached, or the session is over.
        """
        while True:
            if self._queue:
                push = self._queue.popleft()
                if self._is_new(push):
                    return push
            elif self._fault is not None:
                raise self._fault
            elif self._link is None or self._is_behind or not self._link.is_usable:
                await self._begin()
            else:
                await self._wait()

    async def aclose(self) -> None:
        """Stop the pushes."""
        link, self._link = self._link, None
        self._source = None
        self._calls.route.on_lost = None
        if link is not None and link.is_usable:
            link.on_push = None
            await self._calls.call("unsubscribe", Unsubscribe())

    async def _wait(self) -> None:
        """Wait for a push, or until it is known that the node is still there and still pushes."""
        loop = asyncio.get_running_loop()
        ask_again_at = loop.time() + ASK_AGAIN_S
        self._wake.clear()
        while not self._wake.is_set() and self._link is not None and self._link.is_usable:
            try:
                async with asyncio.timeout(min(QUIET_S, ASK_AGAIN_S)):
                    await self._wake.wait()
            except TimeoutError:
                status: StatusAnswer = await self._calls.call("status", StatusRequest())
                # a bank that found this reader too slow has stopped pushing, and so has one that is primary no more
                if loop.time() >= ask_again_at or not status.role.startswith(PRIMARY):
                    await self._begin()
                    return

    async def _begin(self) -> None:
        """Subscribe on the present connection, from where the reader stands; all that was pushed has been taken."""
        after = self.position or 0
        if self._given is not None:
            # the other half of the last transfer may be missing; 0 would mean from now on
            after = after - 1 or after
        request = Subscribe(self._accounts, after)

        async def flow(link: Link, timeout_s: float) -> None:
            if link.on_push is not None and link is not self._source:
                raise LocalProtocolError("this client has a subscription already")
            if self._is_behind and link is self._source:
                # what is on its way lies after what was dropped; nothing of it comes after this answer
                await link.request("unsubscribe", Unsubscribe(), timeout_s)
            self._is_behind = False
            self._source = link
            link.on_push = lambda topic, raw: self._take(link, topic, raw)
            done = await link.request("subscribe", request, timeout_s)
            self._link = link
            if self.position is None:
                self.position = done.position

        await self._calls.converse("subscribe", flow)
        self._calls.route.on_lost = self._wake.set

    def _take(self, link: Link, topic: str, raw: msgspec.Raw) -> None:
        if link is not self._source:
            return
        self._wake.set()
        if topic != TOPIC or self._is_behind:
            return
        if len(self._queue) >= self._queue_max:
            self._is_behind = True
            return
        try:
            push: EntryPush = decode_fields(EntryPush, raw)
        except FortressError as error:
            self._fault = error
            return
        self._calls.note_position(push.row)
        self._queue.append(push)

    def _is_new(self, push: EntryPush) -> bool:
        position = push.row.position
        if self.position is None or position > self.position:
            self.position, self._given = position, {push.account}
            return True
        if position < self.position or self._given is None or push.account in self._given:
            return False
        self._given.add(push.account)
        return True
