"""Durations counted in buckets that grow by half a doubling: cheap to record, exact to 42 %."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

_STEPS_PER_DOUBLING: Final = 2
_BUCKETS: Final = 43
_FIRST_BOUND_NS: Final = 8_000
BOUNDS_NS: Final = [round(_FIRST_BOUND_NS * 2 ** (step / _STEPS_PER_DOUBLING)) for step in range(_BUCKETS)]
"""Upper bounds of the buckets, 8 µs to 16.8 s; one more bucket takes what is longer."""

Snapshot = tuple[tuple[tuple[float, int], ...], float, int]
"""Buckets as (upper bound in seconds, durations in this bucket alone), rising; the sum in seconds; the count of all."""


class Histogram:
    """Count durations."""

    __slots__ = ("_counts", "_sum_ns")

    def __init__(self) -> None:
        self._counts = [0] * (_BUCKETS + 1)
        self._sum_ns = 0

    def record(self, duration_ns: int) -> None:
        """Count one duration."""
        self._counts[bisect_left(BOUNDS_NS, duration_ns)] += 1
        self._sum_ns += duration_ns

    def statistics(self) -> Snapshot:
        """Give what was counted so far; what is over the last bound is in the count alone."""
        buckets = tuple((bound / 1e9, count) for bound, count in zip(BOUNDS_NS, self._counts, strict=False))
        return buckets, self._sum_ns / 1e9, sum(self._counts)
