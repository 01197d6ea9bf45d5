"""Failed logins, counted in memory per login and per address: first they must wait, then they are locked out.

What is counted is the attempt, whether or not anybody has the username, so that the answers tell nobody which usernames
exist. An address gets more tries than a login, since many people may share one; an IPv6 customer has 2^64 addresses, so
there the network counts, and of those who come through a gateway or a load balancer the login alone. Both tables are
bounded; the one that failed longest ago is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final, TypeVar

from fortress.config import LoginSettings
from fortress.errors import LockedOut, Throttled

COUNTERS_MAX: Final = 65_536
ADDRESS_FACTOR: Final = 10
"""How many times more failures an address may have than a login."""
NO_NETWORK: Final = ""
"""Stands for an address that is not counted."""
_IPV6_NETWORK_BITS: Final = 64

K = TypeVar("K")


def network_of(address: str) -> str:
    """Give what counts as one address: an IPv4 address as it is, of an IPv6 address the /64 network."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) >> _IPV6_NETWORK_BITS << _IPV6_NETWORK_BITS)}/{_IPV6_NETWORK_BITS}"


@dataclass(slots=True)
class _Counter:
    failures: int = 0
    last_s: float = 0.0
    wait_until_s: float = 0.0
    is_locked: bool = False


class Throttle:
    """Decide whether a login may be tried now.

    Call `check` before looking at an attempt, then `failed` or `succeeded`. Times are seconds since 1970.

    Args:
        settings: thresholds; replace `settings` when they change.
        counters_max: entries per table.
    """

    __slots__ = ("_addresses", "_counters_max", "_logins", "settings")

    def __init__(self, settings: LoginSettings, counters_max: int = COUNTERS_MAX) -> None:
        self.settings = settings
        self._counters_max = counters_max
        self._logins: OrderedDict[bytes, _Counter] = OrderedDict()
        self._addresses: OrderedDict[str, _Counter] = OrderedDict()

    def check(self, handle: bytes, network: str, now_s: float) -> None:
        """Let an attempt pass, or refuse it before it is looked at.

        Args:
            handle: stands for the username.
            network: of the peer, from `network_of`, or `NO_NETWORK`.

        Raises:
            LockedOut: this login is locked for some time; ``facts["until_us"]``.
            Throttled: wait; ``facts["wait_ms"]``.
        """
        login = self._logins.get(handle)
        if login is not None and now_s < login.wait_until_s:
            if login.is_locked:
                raise LockedOut(facts={"until_us": int(login.wait_until_s * 1e6)})
            raise _throttled(login, now_s)
        address = self._addresses.get(network)
        if address is not None and now_s < address.wait_until_s:
            raise _throttled(address, now_s)

    def failed(self, handle: bytes, network: str, now_s: float) -> float:
        """Count a failed attempt; give the end of the lockout if this one brought it about, else 0."""
        login = self._count(self._logins, handle, now_s, 1)
        if network:
            self._count(self._addresses, network, now_s, ADDRESS_FACTOR)
        return login.wait_until_s if login.is_locked else 0.0

    def succeeded(self, handle: bytes) -> None:
        """Forget a login's failures; also when an administrator unlocks it. Those of an address stay."""
        self._logins.pop(handle, None)

    def _count(self, table: OrderedDict[K, _Counter], key: K, now_s: float, factor: int) -> _Counter:
        settings = self.settings
        counter = table.pop(key, None)
        if counter is None or counter.is_locked or now_s - counter.last_s > settings.lockout_s:
            counter = _Counter()
        table[key] = counter
        if len(table) > self._counters_max:
            table.popitem(last=False)
        counter.failures += 1
        counter.last_s = now_s
        if counter.failures >= settings.failures_before_lockout * factor:
            counter.is_locked = True
            counter.wait_until_s = now_s + settings.lockout_s
        elif counter.failures >= settings.failures_before_delay * factor:
            doublings = min(counter.failures // factor - settings.failures_before_delay, 20)
            counter.wait_until_s = now_s + min(2**doublings, settings.delay_s_max)
        return counter


def _throttled(counter: _Counter, now_s: float) -> Throttled:
    return Throttled(facts={"wait_ms": int((counter.wait_until_s - now_s) * 1000) + 1})
