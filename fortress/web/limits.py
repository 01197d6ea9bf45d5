"""How much one address may ask: buckets that fill again with time, bounded in number.

An IPv6 customer has 2^64 addresses, so there the /64 network counts. Behind load balancers that are named, the address
is the last one in ``X-Forwarded-For`` that is none of theirs: what stands before it, anybody can have written.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from ipaddress import IPv6Address, ip_address
from typing import Final

from fortress.errors import Throttled

BUCKETS_MAX: Final = 16_384
FORWARDED_MAX: Final = 32
_NETWORK_BITS: Final = 64


def network_of(address: str) -> str:
    """Give what counts as one address; empty if it is none."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) >> _NETWORK_BITS << _NETWORK_BITS)}/{_NETWORK_BITS}"


def client_address(peer: str, forwarded: str, proxies: Collection[str]) -> str:
    """Tell whence a request comes.

    Args:
        peer: of the connection.
        forwarded: ``X-Forwarded-For``; believed from ``proxies`` only.
        proxies: networks of load balancers, from :func:`network_of`.
    """
    address = peer
    for told in reversed(forwarded.split(",")[-FORWARDED_MAX:]):
        if network_of(address) not in proxies or not network_of(told.strip()):
            break
        address = told.strip()
    return address


class Allowance:
    """So many acts for each address, which come back one by one.

    Args:
        per_s: how many come back in a second.
        burst: how many there are at first, and at most.
        buckets_max: addresses remembered; the one not seen for longest is forgotten first, which gives it all again.
    """

    __slots__ = ("_buckets", "_buckets_max", "burst", "per_s")

    def __init__(self, per_s: float, burst: float, buckets_max: int = BUCKETS_MAX) -> None:
        self.per_s = per_s
        self.burst = burst
        self._buckets_max = buckets_max
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str, now_s: float) -> None:
        """Use one up.

        Raises:
            Throttled: none is left; ``facts["wait_ms"]``.
        """
        self.check(address, now_s)
        self.spend(address, now_s)

    def check(self, address: str, now_s: float) -> None:
        """Refuse if none is left, without using one up.

        Raises:
            Throttled: none is left; ``facts["wait_ms"]``.
        """
        left = self.left(address, now_s)
        if left < 1:
            raise Throttled(facts={"wait_ms": int((1 - left) / self.per_s * 1000) + 1})

    def spend(self, address: str, now_s: float) -> None:
        """Use one up if there is one."""
        self._put(address, max(self.left(address, now_s) - 1, 0.0), now_s)

    def left(self, address: str, now_s: float) -> float:
        """Tell how many are left."""
        left, at_s = self._buckets.get(network_of(address), (self.burst, now_s))
        return min(left + (now_s - at_s) * self.per_s, self.burst)

    def _put(self, address: str, left: float, now_s: float) -> None:
        key = network_of(address)
        self._buckets[key] = (left, now_s)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._buckets_max:
            self._buckets.popitem(last=False)
