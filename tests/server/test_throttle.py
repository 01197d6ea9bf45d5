"""Guessing gets slower, then stops, for known and unknown usernames alike, and memory stays bounded."""

from __future__ import annotations

import pytest

from fortress.config import LoginSettings
from fortress.errors import LockedOut, Throttled
from fortress.server.throttle import ADDRESS_FACTOR, NO_NETWORK, Throttle, network_of

ALICE, BOB = b"a" * 32, b"b" * 32
HERE = "192.0.2.1"
NOW = 1_700_000_000.0
SETTINGS = LoginSettings(failures_before_delay=3, delay_s_max=8, failures_before_lockout=10, lockout_s=900)


@pytest.fixture
def throttle() -> Throttle:
    return Throttle(SETTINGS)


def test_the_first_failures_cost_nothing(throttle: Throttle) -> None:
    """A mistyped password or two is human."""
    for _ in range(2):
        assert throttle.failed(ALICE, HERE, NOW) == 0
        throttle.check(ALICE, HERE, NOW)


def test_then_each_try_waits_longer(throttle: Throttle) -> None:
    """1, 2, 4, 8 seconds, and not longer than the setting."""
    throttle.failed(ALICE, HERE, NOW)
    throttle.failed(ALICE, HERE, NOW)
    for wait in (1, 2, 4, 8, 8):
        throttle.failed(ALICE, HERE, NOW)
        with pytest.raises(Throttled) as caught:
            throttle.check(ALICE, HERE, NOW + wait - 0.5)
        assert caught.value.facts == {"wait_ms": 501}
        throttle.check(ALICE, HERE, NOW + wait)


def test_the_tenth_failure_locks_and_tells_the_end(throttle: Throttle) -> None:
    """Only the failure that locks gives the end; until then nobody gets in, after it somebody may."""
    ends = [throttle.failed(ALICE, HERE, NOW) for _ in range(10)]
    assert ends == [0.0] * 9 + [NOW + 900]
    with pytest.raises(LockedOut) as caught:
        throttle.check(ALICE, HERE, NOW + 899)
    assert caught.value.facts == {"until_us": int((NOW + 900) * 1e6)}
    throttle.check(ALICE, HERE, NOW + 900)
    assert throttle.failed(ALICE, HERE, NOW + 900) == 0


def test_others_are_not_affected(throttle: Throttle) -> None:
    """One login's lockout is nobody else's."""
    for _ in range(10):
        throttle.failed(ALICE, HERE, NOW)
    throttle.check(BOB, HERE, NOW)


def test_success_forgets_the_failures(throttle: Throttle) -> None:
    """Who got in starts afresh."""
    for _ in range(5):
        throttle.failed(ALICE, HERE, NOW)
    throttle.succeeded(ALICE)
    throttle.succeeded(BOB)
    throttle.check(ALICE, HERE, NOW)


def test_failures_of_long_ago_do_not_count(throttle: Throttle) -> None:
    """After the span of a lockout without a failure the count starts anew."""
    for _ in range(9):
        throttle.failed(ALICE, HERE, NOW)
    assert throttle.failed(ALICE, HERE, NOW + 901) == 0
    throttle.check(ALICE, HERE, NOW + 901)


def test_an_address_that_tries_many_logins_is_slowed_then_stopped(throttle: Throttle) -> None:
    """One password against many usernames is guessing too; a login's owner elsewhere is not affected."""
    for n in range(3 * ADDRESS_FACTOR):
        throttle.check(b"%d" % n, HERE, NOW)
        throttle.failed(b"%d" % n, HERE, NOW)
    with pytest.raises(Throttled):
        throttle.check(BOB, HERE, NOW + 0.5)
    throttle.check(BOB, "192.0.2.2", NOW)
    for n in range(7 * ADDRESS_FACTOR):
        throttle.failed(b"%d" % n, HERE, NOW)
    with pytest.raises(Throttled) as caught:
        throttle.check(BOB, HERE, NOW + 800)
    assert caught.value.facts == {"wait_ms": 100_001}


def test_memory_is_bounded() -> None:
    """The table keeps the latest failures only."""
    throttle = Throttle(SETTINGS, counters_max=2)
    for _ in range(10):
        throttle.failed(ALICE, HERE, NOW)
    throttle.failed(BOB, HERE, NOW)
    throttle.failed(b"c", HERE, NOW)
    throttle.check(ALICE, "192.0.2.9", NOW)
    assert len(throttle._logins) == 2


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", ""),
    ],
)
def test_an_ipv6_network_counts_as_one(address: str, network: str) -> None:
    """Who has a whole network has one address for this purpose."""
    assert network_of(address) == network


def test_who_comes_through_a_gateway_is_counted_by_login_alone(throttle: Throttle) -> None:
    """Otherwise one person's guesses would lock out everybody who comes the same way."""
    for number in range(200):
        for _ in range(10):
            throttle.failed(number.to_bytes(32, "big"), NO_NETWORK, NOW)
    throttle.check(ALICE, NO_NETWORK, NOW)
    with pytest.raises(LockedOut):
        throttle.check(bytes(32), NO_NETWORK, NOW)
