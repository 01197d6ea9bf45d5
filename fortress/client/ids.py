"""Ids of transfers and other acts: UUIDv7 (RFC 9562 5.7), rising within a process.

The id is the key under which the bank does a thing once, so the client makes it before it sends anything. Its first
48 bits are the time in milliseconds, which keeps the bank's index at its right edge; 12 bits count within one
millisecond (RFC 9562 6.2, method 1) and 62 bits are random.
"""

from __future__ import annotations

import os
import threading
import time
import uuid

from fortress.errors import UsageError

ID_SIZE_BYTES = 16
_COUNTER_MAX = 0xFFF
_RANDOM_MASK = (1 << 62) - 1


class Ids:
    """Makes ids, each greater than the one before, also when the clock goes back; for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._time_ms = 0
        self._counter = 0

    def make(self, now_ms: int | None = None) -> bytes:
        """Make an id of 16 bytes.

        Args:
            now_ms: milliseconds since 1970; the clock's if not given.
        """
        entropy = int.from_bytes(os.urandom(10), "big")
        now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        with self._lock:
            if now_ms > self._time_ms:
                # starts low, so that a busy millisecond has room to count
                self._time_ms, self._counter = now_ms, entropy >> 72
            elif self._counter < _COUNTER_MAX:
                self._counter += 1
            else:
                self._time_ms, self._counter = self._time_ms + 1, 0
            head = self._time_ms << 16 | 0x7000 | self._counter
        return (head << 64 | 0b10 << 62 | entropy & _RANDOM_MASK).to_bytes(ID_SIZE_BYTES, "big")


_ids = Ids()
new_id = _ids.make


def format_id(id: bytes) -> str:
    """Write an id as people see it, in the form of RFC 9562."""
    return str(uuid.UUID(bytes=id))


def parse_id(text: str) -> bytes:
    """Read an id in the form of RFC 9562, with or without hyphens.

    Raises:
        UsageError: it is none.
    """
    try:
        return uuid.UUID(text).bytes
    except ValueError as exc:
        raise UsageError(f"{text!r} is not an id", {"id": text[:64]}) from exc
