"""Durations land in the right bucket and quantiles are never below the truth."""

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
    snapshot = Histogram().statistics()
    assert (snapshot.count, snapshot.sum_s, snapshot.quantile_s(0.99)) == (0, 0.0, 0.0)


def test_bounds_belong_to_their_bucket() -> None:
    """A duration equal to a bound counts as not over it."""
    snapshot = filled(BOUNDS_NS[3], BOUNDS_NS[3] + 1).statistics()
    assert (snapshot.counts[3], snapshot.counts[4]) == (1, 1)


@pytest.mark.parametrize("duration_ns", [1, 1000, 15_000, 1_000_000, 123_456_789, 5_000_000_000])
def test_a_quantile_is_close_above(duration_ns: int) -> None:
    """The bound told is not below the duration, and above it by less than a fifth."""
    bound_ns = filled(duration_ns).statistics().quantile_s(0.5) * 1e9
    assert bound_ns >= duration_ns * 0.999
    assert bound_ns <= max(duration_ns * 1.20, 1000)


def test_quantiles_order() -> None:
    """Of ninety fast and ten slow ones, the median is fast and the 99th is slow."""
    snapshot = filled(*[10_000] * 90, *[1_000_000] * 10).statistics()
    assert snapshot.quantile_s(0.5) < 0.00002
    assert snapshot.quantile_s(0.99) >= 0.001
    assert snapshot.sum_s == pytest.approx(0.0109)


def test_what_is_longer_than_all_bounds_is_counted() -> None:
    """The last bucket has no end; its quantile is the last bound."""
    snapshot = filled(BOUNDS_NS[-1] * 10).statistics()
    assert snapshot.counts[-1] == 1
    assert snapshot.quantile_s(0.5) == BOUNDS_NS[-1] / 1e9


def test_cumulative_rows_grow() -> None:
    """Each row counts all below its bound; the rest is the difference to the count."""
    snapshot = filled(500, 3_000, 3_000_000, BOUNDS_NS[-1] * 2).statistics()
    rows = snapshot.cumulative()
    assert [count for _, count in rows] == sorted(count for _, count in rows)
    assert rows[0] == (1e-06, 1)
    assert rows[-1][1] == 3
