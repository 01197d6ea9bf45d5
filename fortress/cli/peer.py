"""The other node of a pair, asked from here: at its address for clients, for what it tells anybody."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fortress.errors import Unreachable

if TYPE_CHECKING:
    from fortress.config import Settings

PEER_S_MAX: Final = 2.0
AGENT: Final = "fortress command line"


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """What the other node says of itself.

    Attributes:
        document: role, term, position and so on, by the names that ``/status`` uses.
        clock_off_s: how far its clock is from this machine's, at least.
    """

    document: dict[str, Any]
    clock_off_s: float


def ask_peer(settings: Settings, timeout_s: float = PEER_S_MAX) -> PeerAnswer:
    """Ask the other node of a node's pair; blocks, a bounded time.

    Raises:
        Unreachable: it does not answer, or there is none.
        ServerNotTrusted: who answers there has no certificate of the bank's authority.
        FortressError: it refuses.
    """
    if not settings.pair.peer_clients:
        raise Unreachable(f"{settings.node.name} does not know where the other node is (pair.peer_clients)")
    return asyncio.run(_ask(settings, timeout_s))


async def _ask(settings: Settings, timeout_s: float) -> PeerAnswer:
    from fortress.client.address import parse_endpoint
    from fortress.client.link import open_link
    from fortress.client.trust import Trust
    from fortress.protocol.administration import StatusRequest

    trust = Trust(settings.path(settings.tls.ca), "")
    endpoint = parse_endpoint(settings.pair.peer_clients)
    before_us = time.time_ns() // 1000
    # one node is meant, so no client is made, which would look for the primary
    link = await open_link(endpoint, settings.node.bank, trust, agent=AGENT, timeout_s=timeout_s)
    try:
        after_us = time.time_ns() // 1000
        answer = await link.request("status", StatusRequest(), timeout_s)
        told_us = link.hello.time_us if link.hello is not None else before_us
    finally:
        await link.close()
    off_us = max(told_us - after_us, before_us - told_us, 0)
    return PeerAnswer({name: getattr(answer, name) for name in answer.__struct_fields__}, off_us / 1e6)
