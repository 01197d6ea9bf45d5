"""A bounded cache of what the ledger is working on, in two generations.

Reading a value of the older generation moves it to the newer one; when the newer one is full it becomes the older,
and what is left there is dropped, except values the tables do not have yet: those are never forgotten. A value of
None means "known to be absent". Both steps are plain dict operations, so a hit costs no more than a look-up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class WorkingSet(Generic[Key, Value]):
    """Keep at most about ``capacity`` values, and all that are not applied yet.

    Args:
        capacity: half of it is one generation.
        position_of: tells the last position that changed a value.
    """

    __slots__ = ("_half", "_position_of", "newer", "older", "turns")

    def __init__(self, capacity: int, position_of: Callable[[Value], int]) -> None:
        self._half = max(1, capacity // 2)
        self._position_of = position_of
        self.newer: dict[Key, Value | None] = {}
        self.older: dict[Key, Value | None] = {}
        self.turns = 0  # how often the generations turned; what stands in the newer one outlives one turn

    def __len__(self) -> int:
        return len(self.newer) + len(self.older)

    def __contains__(self, key: Key) -> bool:
        return key in self.newer or key in self.older

    def get(self, key: Key) -> Value | None:
        """Give the value, or None when it is absent or not here (``in`` tells which)."""
        value = self.newer.get(key)
        if value is None and key in self.older:
            value = self.newer[key] = self.older.pop(key)
        return value

    def put(self, key: Key, value: Value | None) -> None:
        """Keep a value that was made or changed."""
        self.newer[key] = value
        self.older.pop(key, None)

    def put_if_missing(self, key: Key, value: Value | None) -> None:
        """Keep a value read from the tables unless memory has it, which is never older."""
        if key not in self.newer and key not in self.older:
            self.newer[key] = value

    def trim(self, applied_position: int) -> list[Key]:
        """Turn the generations when the newer is full; return the keys whose values were dropped.

        Values that changed after ``applied_position`` stay. A dropped note that something is absent is not told:
        nothing is forgotten by it that the tables hold.
        """
        if len(self.newer) < self._half:
            return []
        position_of = self._position_of
        present = {key: value for key, value in self.older.items() if value is not None}
        kept: dict[Key, Value | None] = {}
        if max(map(position_of, present.values()), default=0) > applied_position:  # as a rule all were applied long ago
            kept = {key: value for key, value in present.items() if position_of(value) > applied_position}
        dropped = [key for key in present if key not in kept]
        self.older = self.newer
        self.newer = kept
        self.turns += 1
        return dropped
