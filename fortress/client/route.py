"""The way to a bank: its nodes in turn, one live connection at a time, and waits between tries.

The first try of an outage comes almost at once and the later ones ever more slowly, each with a random share, so that
the customers of a bank that comes back do not all arrive in the same moment.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Final

from fortress.client.address import Address, Endpoint, parse_endpoint
from fortress.client.link import Link, open_link
from fortress.client.trust import Trust
from fortress.errors import FortressError, NotPrimary, Unreachable, UsageError

WAIT_S_MIN: Final = 0.05
WAIT_S_MAX: Final = 2.0
ENDPOINTS_MAX: Final = 32


def waits() -> Iterator[float]:
    """Give the seconds to wait before each further try: 50 ms doubling to 2 s, each between half and whole."""
    wait = WAIT_S_MIN
    while True:
        yield wait * random.uniform(0.5, 1.0)
        wait = min(2 * wait, WAIT_S_MAX)


class Route:
    """Holds the connection to the bank's primary, and makes another when it is gone.

    Args:
        address: the bank and its nodes.
        trust: whom to believe.
        on_open: called with each new connection before anybody uses it, such as to resume the session; what it raises
            closes the connection and reaches whoever asked for it.
        agent: what this client calls itself.
        timeout_s: how long one try to connect may take.
    """

    def __init__(
        self,
        address: Address,
        trust: Trust,
        *,
        on_open: Callable[[Link], Awaitable[None]],
        agent: str = "",
        timeout_s: float,
    ) -> None:
        self.address = address
        self.on_lost: Callable[[], object] | None = None
        self._trust = trust
        self._on_open = on_open
        self._agent = agent
        self._timeout_s = timeout_s
        self._endpoints = list(address.endpoints)
        self._link: Link | None = None
        self._opening: asyncio.Task[Link] | None = None

    @property
    def current(self) -> Link | None:
        """The connection in use, if there is one."""
        link = self._link
        return link if link is not None and link.is_usable else None

    async def link(self) -> Link:
        """Give the live connection, or try once to make one; all who ask meanwhile share the try.

        Raises:
            Unreachable: the node tried does not answer; the next call tries the next one.
            FortressError: the node is not to be trusted, or ``on_open`` failed.
        """
        link = self.current
        if link is not None:
            return link
        opening = self._opening
        if opening is None or opening.done():
            opening = self._opening = asyncio.get_running_loop().create_task(self._open())
            opening.add_done_callback(_take_note)
        # whoever gives up waiting does not take the connection away from the others
        await asyncio.wait([opening])
        if opening.cancelled():
            raise Unreachable("the client was closed")
        return opening.result()

    def leave(self, link: Link, error: FortressError) -> None:
        """Turn away from a connection, to the node that is said to be primary or else to the next."""
        if link is not self._link:
            return
        self._link = None
        self._turn(link.endpoint, error)
        if isinstance(error, NotPrimary):
            link.retire()
        else:
            link.abort()

    async def close(self) -> None:
        """End the connection in order."""
        opening, self._opening = self._opening, None
        if opening is not None and not opening.done():
            opening.cancel()
            await asyncio.wait([opening])
        link, self._link = self._link, None
        if link is not None:
            link.on_lost = None
            await link.close()

    async def _open(self) -> Link:
        endpoint = self._endpoints[0]
        try:
            link = await open_link(
                endpoint, self.address.bank, self._trust, agent=self._agent, timeout_s=self._timeout_s
            )
        except FortressError as error:
            self._turn(endpoint, error)
            raise
        is_ready = False
        try:
            await self._on_open(link)
            is_ready = True
        except FortressError as error:
            self._turn(endpoint, error)
            raise
        finally:
            if not is_ready:
                link.abort()
        link.on_lost = lambda: self._on_link_lost(link)
        self._link = link
        return link

    def _on_link_lost(self, link: Link) -> None:
        if link is self._link:
            self._link = None
        if self.on_lost is not None:
            self.on_lost()

    def _turn(self, endpoint: Endpoint, error: FortressError) -> None:
        if self._endpoints[0] == endpoint:
            self._endpoints.append(self._endpoints.pop(0))
        primary = error.facts.get("primary") if isinstance(error, NotPrimary) else None
        if isinstance(primary, str) and primary:
            with suppress(UsageError):
                self._prefer(parse_endpoint(primary))

    def _prefer(self, endpoint: Endpoint) -> None:
        """Put a node first; one that the address does not name is learned, as long as the list is short."""
        if endpoint in self._endpoints:
            self._endpoints.remove(endpoint)
        elif len(self._endpoints) >= ENDPOINTS_MAX:
            return
        self._endpoints.insert(0, endpoint)


def _take_note(opening: asyncio.Task[Link]) -> None:
    """Fetch the error also when everybody who waited for it has gone, or asyncio complains about it."""
    if not opening.cancelled():
        opening.exception()
