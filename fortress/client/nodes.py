"""One node of a bank, asked again and again how it is: primary or standby, on a connection of its own.

A client looks for the primary and leaves the others alone; who watches a bank wants to know of each node whether it
answers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from fortress.client.address import Endpoint, format_endpoint
from fortress.client.link import Link, open_link
from fortress.client.trust import Trust
from fortress.errors import FortressError
from fortress.protocol.administration import StatusAnswer, StatusRequest

AGENT: Final = "fortress watch"
ASK_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a node said of itself, and how long the answer took, without connecting."""

    status: StatusAnswer
    latency_s: float


class NodeProbe:
    """Ask one node; ask it one question at a time.

    Args:
        endpoint: where it listens for clients.
        bank: whose it must be.
        trust: whom to believe.

    Attributes:
        address: of the node, ``host:port``.
    """

    def __init__(self, endpoint: Endpoint, bank: str, trust: Trust) -> None:
        self.address = format_endpoint(endpoint)
        self._endpoint = endpoint
        self._bank = bank
        self._trust = trust
        self._link: Link | None = None

    async def ask(self, timeout_s: float = ASK_S) -> Pulse:
        """Ask for its role, position and health, which needs no login; connects if need be.

        Raises:
            Unreachable: it does not answer.
            FortressError: it is not to be trusted, or refuses.
        """
        link = self._link
        if link is None or not link.is_usable:
            link = self._link = await open_link(
                self._endpoint, self._bank, self._trust, agent=AGENT, timeout_s=timeout_s
            )
        begun = time.perf_counter()  # the loop's clock counts whole milliseconds
        try:
            status: StatusAnswer = await link.request("status", StatusRequest(), timeout_s)
        except FortressError:
            self._drop()
            raise
        return Pulse(status, time.perf_counter() - begun)

    async def close(self) -> None:
        """End the connection in order; may be called twice."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.abort()
