"""The way to a bank: its nodes in turn, one live connection at a time.

While there is another node to try, one that lets nobody in holds a try for two seconds and no longer, and is then
passed over for a while, also when the other one names it as primary: a stopped machine accepts connections and says
nothing, and until the other node has taken over it names the stopped one.

Who comes through a gateway or a load balancer goes to the addresses given and nowhere else: the nodes name each other
by addresses that need not lead anywhere from here, and that the path's authority does not vouch for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from fortress.client.address import Address, Endpoint, parse_endpoint
from fortress.client.link import Link, open_link
from fortress.client.trust import Trust
from fortress.errors import DeadlinePassed, FortressError, NoPrimary, NotPrimary, Unreachable, UsageError

ENDPOINTS_MAX: Final = 32
OPEN_S_MAX: Final = 2.0
"""How long one try to connect may take while there is another node."""
PASS_OVER_S: Final = 5.0
"""How long a node that was silent is passed over."""


class Route:
    """Holds the connection to one of the bank's nodes, the primary as a rule, and makes another when it is gone.

    Args:
        address: the bank and its nodes.
        trust: whom to believe.
        on_open: called with each new connection before anybody uses it, such as to resume the session; what it raises
            closes the connection and reaches whoever asked for it.
        agent: what this client calls itself.
        timeout_s: how long one try to connect may take.
        flags: for whoever hands connections on to the bank; see :class:`fortress.protocol.routes.Route`.
    """

    def __init__(
        self,
        address: Address,
        trust: Trust,
        *,
        on_open: Callable[[Link], Awaitable[None]],
        agent: str = "",
        timeout_s: float,
        flags: str = "",
    ) -> None:
        self.address = address
        self.on_lost: Callable[[], object] | None = None
        self._trust = trust
        self._on_open = on_open
        self._agent = agent
        self._timeout_s = timeout_s
        self._flags = flags
        self._endpoints = list(address.endpoints)
        self._silent_until: dict[Endpoint, float] = {}
        self._link: Link | None = None
        self._retired: list[Link] = []
        self._opening: asyncio.Task[Link] | None = None

    @property
    def current(self) -> Link | None:
        """The connection in use, if there is one."""
        link = self._link
        return link if link is not None and link.is_usable else None

    @property
    def has_choice(self) -> bool:
        """Whether more than one node is known."""
        return len(self._endpoints) > 1

    @property
    def has_path(self) -> bool:
        """Whether somebody else answers at the addresses and leads to the nodes."""
        return self._trust.has_path

    async def link(self, deadline: float | None = None) -> Link:
        """Give the live connection, or try once to make one; all who ask meanwhile share the try.

        Args:
            deadline: on the loop's clock; for this caller only.

        Raises:
            Unreachable: the node tried does not answer; the next call tries the next one.
            FortressError: the node is not to be trusted, or ``on_open`` failed.
        """
        link = self.current
        if link is not None:
            return link
        loop = asyncio.get_running_loop()
        opening = self._opening
        if opening is None or opening.done():
            opening = self._opening = loop.create_task(self._open())
            opening.add_done_callback(_take_note)
        # whoever gives up waiting does not take the connection away from the others
        await asyncio.wait([opening], timeout=None if deadline is None else max(deadline - loop.time(), 0.0))
        if not opening.done():
            raise Unreachable("no connection in time")
        if opening.cancelled():
            raise Unreachable("the client was closed")
        return opening.result()

    def leave(self, link: Link, error: FortressError) -> None:
        """Turn away from a connection, to the node that is said to be primary or else to the next.

        What is outstanding on it may still be answered.
        """
        if link is not self._link:
            return
        self._turn(link.endpoint, error)
        self.drop(link)

    def drop(self, link: Link) -> None:
        """Take no new requests to a connection; the next one is made to the same node, as far as it is there."""
        if link is self._link:
            self._link = None
        link.retire()
        self._retired = [other for other in (*self._retired, link) if not other.is_over]

    def put_last(self, endpoint: Endpoint) -> None:
        """Try a node only after all others."""
        if endpoint in self._endpoints:
            self._endpoints.remove(endpoint)
            self._endpoints.append(endpoint)

    async def close(self) -> None:
        """End the connection in order."""
        opening, self._opening = self._opening, None
        if opening is not None and not opening.done():
            opening.cancel()
            await asyncio.wait([opening])
        link, self._link = self._link, None
        links = [*self._retired, *([] if link is None else [link])]
        for link in links:
            link.on_lost = None
        await asyncio.gather(*(link.close() for link in links))

    async def _open(self) -> Link:
        endpoint = self.next_endpoint()
        timeout_s = min(self._timeout_s, OPEN_S_MAX) if self.has_choice else self._timeout_s
        link: Link | None = None
        is_ready = False
        try:
            link = await open_link(
                *(endpoint, self.address.bank, self._trust),
                agent=self._agent,
                timeout_s=timeout_s,
                flags=self._flags,
            )
            await self._on_open(link)
            is_ready = True
        except FortressError as error:
            is_late = isinstance(error, DeadlinePassed) or isinstance(error.__cause__, TimeoutError | DeadlinePassed)
            is_late &= not isinstance(error, NoPrimary)  # who answered and waits for the bank was not silent
            if is_late or (link is not None and link.is_silent):
                self._pass_over(endpoint)
            self._turn(endpoint, error)
            raise
        finally:
            if not is_ready and link is not None:
                link.abort()
        link.on_lost = lambda: self._on_link_lost(link)
        self._link = link
        return link

    def next_endpoint(self) -> Endpoint:
        """Tell which node would be tried now."""
        now = asyncio.get_running_loop().time()
        fit = (endpoint for endpoint in self._endpoints if self._silent_until.get(endpoint, 0.0) <= now)
        return next(fit, self._endpoints[0])

    def _pass_over(self, endpoint: Endpoint) -> None:
        self._silent_until[endpoint] = asyncio.get_running_loop().time() + PASS_OVER_S

    def _on_link_lost(self, link: Link) -> None:
        if link.is_silent:
            self._pass_over(link.endpoint)
        if link is self._link:
            self._link = None
        if self.on_lost is not None:
            self.on_lost()

    def _turn(self, endpoint: Endpoint, error: FortressError) -> None:
        self.put_last(endpoint)
        primary = error.facts.get("primary") if isinstance(error, NotPrimary) else None
        if isinstance(primary, str) and primary:
            with suppress(UsageError):
                self._prefer(parse_endpoint(primary))

    def _prefer(self, endpoint: Endpoint) -> None:
        """Put a node first; one that the address does not name is learned, as long as the list is short."""
        if endpoint in self._endpoints:
            self._endpoints.remove(endpoint)
        elif self.has_path or len(self._endpoints) >= ENDPOINTS_MAX:
            return
        self._endpoints.insert(0, endpoint)


def _take_note(opening: asyncio.Task[Link]) -> None:
    """Fetch the error also when everybody who waited for it has gone, or asyncio complains about it."""
    if not opening.cancelled():
        opening.exception()
