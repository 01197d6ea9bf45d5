"""Allowances of addresses, and which address a request comes from."""

from __future__ import annotations

import pytest

from fortress.errors import Throttled
from fortress.web.limits import Allowance, client_address, network_of


def test_what_is_used_up_comes_back_with_time() -> None:
    """Three at once, then one each half second; the refusal says how long to wait."""
    allowance = Allowance(per_s=2, burst=3)
    for _ in range(3):
        allowance.take("10.0.0.1", 100.0)
    with pytest.raises(Throttled) as refused:
        allowance.take("10.0.0.1", 100.0)
    assert refused.value.facts["wait_ms"] == 501
    allowance.take("10.0.0.1", 100.5)
    with pytest.raises(Throttled):
        allowance.check("10.0.0.1", 100.5)
    assert allowance.left("10.0.0.1", 1000.0) == 3


def test_each_address_has_its_own() -> None:
    """One who asks without end takes nothing from others; but a whole IPv6 network counts as one."""
    allowance = Allowance(per_s=1, burst=1)
    allowance.take("2001:db8::1", 0.0)
    allowance.take("10.0.0.2", 0.0)
    allowance.take("2001:db8:0:1::1", 0.0)
    with pytest.raises(Throttled):
        allowance.take("2001:db8::ffff", 0.0)


def test_spending_goes_down_to_nothing_and_no_further() -> None:
    """What is only counted afterwards cannot run up a debt."""
    allowance = Allowance(per_s=1, burst=1)
    for _ in range(5):
        allowance.spend("10.0.0.1", 0.0)
    allowance.check("10.0.0.1", 1.0)


def test_the_number_of_addresses_is_bounded() -> None:
    """The one not seen for longest is forgotten, however many come."""
    allowance = Allowance(per_s=0.001, burst=1, buckets_max=2)
    for number in range(1, 4):
        allowance.take(f"10.0.0.{number}", 0.0)
    allowance.check("10.0.0.1", 0.0)
    with pytest.raises(Throttled):
        allowance.check("10.0.0.3", 0.0)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unknown", ""),
    ],
)
def test_what_counts_as_one_address(address: str, network: str) -> None:
    """An IPv4 address, however written, or an IPv6 network."""
    assert network_of(address) == network


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("10.0.0.1", "", "10.0.0.1"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "192.0.2.66, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "garbage", "10.0.0.1"),
        ("10.0.0.1", ",".join(["10.0.0.2"] * 10_000), "10.0.0.2"),
    ],
)
def test_only_load_balancers_that_are_named_are_believed(peer: str, forwarded: str, address: str) -> None:
    """The last address that is none of theirs; what stands before it, anybody can write."""
    assert client_address(peer, forwarded, {"10.0.0.1", "10.0.0.2"}) == address
