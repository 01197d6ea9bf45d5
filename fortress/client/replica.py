"""Reads at a node that need not be the primary, for clients that take an old answer rather than load the primary.

No read is late for it: whatever does not come from the standby at once, because there is no connection, it is too far
behind, or it refuses, is asked of the primary, whose word counts. The connection is made beside the reads, and after a
failure not at once again.

Through a gateway both nodes have one address, and the gateway chooses: then the address does not tell the two apart,
and if it was the primary after all that answers, nothing is lost by it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from msgspec import structs

from fortress.client.address import Endpoint
from fortress.client.link import Link
from fortress.client.route import Route
from fortress.errors import Busy, FortressError, NoPrimary, NotPrimary, Refused
from fortress.protocol.fields import Request

READ_S_MAX: Final = 1.0
REST_S: Final = 1.0


class Replica:
    """Asks the other node.

    Args:
        route: for these reads alone.
        primary: the way of everything else, to whose node this one does not go.
        stale_ms_max: how old an answer may be.
    """

    def __init__(self, route: Route, primary: Route, *, stale_ms_max: int) -> None:
        self._route = route
        self._primary = primary
        self._stale_ms_max = stale_ms_max
        self._opening: asyncio.Task[None] | None = None
        self._rest_until = 0.0

    @property
    def is_connected(self) -> bool:
        """Whether the next read can go there."""
        return self._route.current is not None

    async def read(self, operation: str, fields: Request) -> Any:
        """Give the answer to a read, or None if the primary must be asked."""
        link = self._link_now()
        if link is None:
            return None
        try:
            return await link.request(operation, structs.replace(fields, stale_ms_max=self._stale_ms_max), READ_S_MAX)
        except Refused:
            return None
        except FortressError as error:
            self._rest()
            if not isinstance(error, Busy | NotPrimary | NoPrimary):  # those pass by themselves
                self._route.drop(link)
            return None

    def forget(self) -> None:
        """End the session there."""
        link = self._route.current
        if link is not None:
            self._route.drop(link)

    async def close(self) -> None:
        """End the connection."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        await self._route.close()

    def _link_now(self) -> Link | None:
        link, primary = self._route.current, self._primary.current
        if link is not None and primary is not None and self._is_same(link.endpoint, primary.endpoint):
            self._route.drop(link)  # it has become primary, and the other one is the standby now
            link = None
        now = asyncio.get_running_loop().time()
        if link is None and now >= self._rest_until and (self._opening is None or self._opening.done()):
            self._opening = asyncio.get_running_loop().create_task(self._open())
        return link if now >= self._rest_until else None

    async def _open(self) -> None:
        primary = self._primary.current
        if primary is not None:
            self._route.put_last(primary.endpoint)
            if self._is_same(self._route.next_endpoint(), primary.endpoint):
                self._rest()
                return
        with suppress(FortressError):
            await self._route.link()
            return
        self._rest()

    def _is_same(self, one: Endpoint, other: Endpoint) -> bool:
        return one == other and not self._route.has_path

    def _rest(self) -> None:
        self._rest_until = asyncio.get_running_loop().time() + REST_S
