"""Ids of transfers and other acts: UUIDv7 (RFC 9562 5.7), rising within a process.

The id is the key under which the bank does a thing once, so the client makes it before it sends anything. Its first
48 bits are the time in milliseconds, which keeps the bank's index at its right edge; 12 bits count within one
millisecond (RFC 9562 6.2, method 1) and 62 bits are random.
"""

from __future__ import annotations

import os
import struct
import threading
import time
import uuid
from collections.abc import Iterator

from fortress.errors import UsageError

ID_SIZE_BYTES = 16
_ENTROPY_BYTES = 1024
_COUNTER_MAX = 0xFFF
_COUNTER_START_MAX = 0xFF
_VERSION = 0x7000
_VARIANT = 0b10 << 62
_RANDOM_MASK = (1 << 62) - 1

_pack = struct.Struct(">QQ").pack
_unpack_all = struct.Struct(">Q").iter_unpack


class Ids:
    """Makes ids, each greater than the one before, also when the clock goes back; for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._time_ms = 0
        self._counter = 0
        self._tails: Iterator[tuple[int]] = iter(())

    def make(self, now_ms: int | None = None) -> bytes:
        """Make an id of 16 bytes.

        Args:
            now_ms: milliseconds since 1970; the clock's if not given.
        """
        if now_ms is None:
            now_ms = time.time_ns() // 1_000_000
        with self._lock:
            tail = (next(self._tails, None) or self._fill())[0] & _RANDOM_MASK
            if now_ms > self._time_ms:
                # starts low, so that a busy millisecond has room to count
                self._time_ms, self._counter = now_ms, tail & _COUNTER_START_MAX
            elif self._counter < _COUNTER_MAX:
                self._counter += 1
            else:
                self._time_ms, self._counter = self._time_ms + 1, 0
            head = self._time_ms << 16 | _VERSION | self._counter
        return _pack(head, tail | _VARIANT)

    def forget_entropy(self) -> None:
        """Drop the random bits drawn in advance; a forked process must not make its parent's ids again."""
        self._lock = threading.Lock()
        self._tails = iter(())

    def _fill(self) -> tuple[int]:
        # a system call for each id would cost as much as everything else here
        self._tails = _unpack_all(os.urandom(_ENTROPY_BYTES))
        return next(self._tails)


_ids = Ids()
os.register_at_fork(after_in_child=_ids.forget_entropy)
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
