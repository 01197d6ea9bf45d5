"""Durations land in the right bucket."""

from __future__ import annotations

import pytest

from fortress.server.histogram import BOUNDS_NS, Histogram


def filled(*durations_ns: int) -> Histogram:
    histogram = Histogram()
    for duration in durations_ns:
        histogram.record(duration)
    return histogram


def test_an_empty_histogram_says_zero() -> None:
    """Nothing recorded, nothing told."""
    buckets, total_s, count = Histogram().statistics()
    assert (sum(alone for _, alone in buckets), total_s, count) == (0, 0.0, 0)


def test_bounds_belong_to_their_bucket() -> None:
    """A duration equal to a bound counts as not over it."""
    buckets, _, _ = filled(BOUNDS_NS[3], BOUNDS_NS[3] + 1).statistics()
    assert [alone for _, alone in buckets[3:6]] == [1, 1, 0]


@pytest.mark.parametrize("duration_ns", [10_000, 1_000_000, 123_456_789, 5_000_000_000])
def test_a_bucket_is_narrow(duration_ns: int) -> None:
    """Its bound is not below the duration, and above it by less than half."""
    buckets, _, _ = filled(duration_ns).statistics()
    bound_ns = next(bound for bound, alone in buckets if alone) * 1e9
    assert duration_ns * 0.999 <= bound_ns <= duration_ns * 1.42


def test_bounds_rise_and_sums_add_up() -> None:
    """As metrics want them."""
    buckets, total_s, count = filled(*[10_000] * 90, *[1_000_000] * 10).statistics()
    assert [bound for bound, _ in buckets] == sorted({bound for bound, _ in buckets})
    assert total_s == pytest.approx(0.0109)
    assert count == 100


def test_what_is_longer_than_all_bounds_is_counted() -> None:
    """It is in the count and in no bucket."""
    buckets, _, count = filled(BOUNDS_NS[-1] * 10).statistics()
    assert sum(alone for _, alone in buckets) == 0
    assert count == 1
