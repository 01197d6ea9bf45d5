"""Durations counted in buckets that grow by a quarter of a power of two: cheap to record, exact to 19 %."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

_STEPS_PER_DOUBLING: Final = 4
_DOUBLINGS: Final = 25
BOUNDS_NS: Final = [int(1000 * 2 ** (step / _STEPS_PER_DOUBLING)) for step in range(_DOUBLINGS * _STEPS_PER_DOUBLING)]
"""Upper bounds of the buckets, 1 µs to 28 s; one more bucket takes what is longer."""


@dataclass(frozen=True, slots=True)
class HistogramSnapshot:
    """How long things took, so far.

    Attributes:
        counts: durations per bucket; one more than `BOUNDS_NS`.
        count: durations altogether.
        sum_s: their sum, in seconds.
    """

    counts: tuple[int, ...]
    count: int
    sum_s: float

    def quantile_s(self, q: float) -> float:
        """Give a bound in seconds that the share `q` of durations does not pass; 0 when there are none."""
        wanted = q * self.count
        seen = 0
        for bound, count in zip(BOUNDS_NS, self.counts, strict=False):
            seen += count
            if seen >= wanted and seen:
                return bound / 1e9
        return BOUNDS_NS[-1] / 1e9 if self.count else 0.0

    def cumulative(self) -> tuple[tuple[float, int], ...]:
        """Give (upper bound in seconds, durations up to it) for whole powers of two, as metrics are told."""
        seen = 0
        rows: list[tuple[float, int]] = []
        for index, bound in enumerate(BOUNDS_NS):
            seen += self.counts[index]
            if index % _STEPS_PER_DOUBLING == 0:
                rows.append((bound / 1e9, seen))
        return tuple(rows)


class Histogram:
    """Count durations."""

    __slots__ = ("_counts", "_sum_ns")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_NS) + 1)
        self._sum_ns = 0

    def record(self, duration_ns: int) -> None:
        """Count one duration."""
        self._counts[bisect_left(BOUNDS_NS, duration_ns)] += 1
        self._sum_ns += duration_ns

    def statistics(self) -> HistogramSnapshot:
        """Give what was counted so far."""
        return HistogramSnapshot(tuple(self._counts), sum(self._counts), self._sum_ns / 1e9)
