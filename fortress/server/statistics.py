"""What a node counts about its connections and requests, and the snapshot others read."""

from __future__ import annotations

import re
from functools import cache

from fortress.errors import ERRORS_BY_CODE, OK, REFUSED_CODE_BASE, status_name
from fortress.server.histogram import Histogram

OTHER_OPERATION = "unknown"
"""What requests for operations that nobody knows are counted under; a peer's text never becomes a label."""


@cache
def result_name(code: int) -> str:
    """Name an answer's code for people and metrics: ``ok``, a refusal's status, or an error's class."""
    if code == OK:
        return "ok"
    if REFUSED_CODE_BASE < code < 2 * REFUSED_CODE_BASE:
        return status_name(code - REFUSED_CODE_BASE)
    error = ERRORS_BY_CODE.get(code)
    return re.sub(r"(?<!^)(?=[A-Z])", "_", error.__name__).lower() if error is not None else f"code_{code}"


class OperationCounter:
    """Count the requests of one operation.

    Args:
        name: of the operation.
        is_task: whether done ones count as work for a customer, which saying hello and signing in are not.
    """

    __slots__ = ("codes", "histogram", "is_task", "name")

    def __init__(self, name: str, *, is_task: bool) -> None:
        self.name = name
        self.is_task = is_task
        self.codes: dict[int, int] = {OK: 0}
        self.histogram = Histogram()

    def record(self, code: int, duration_ns: int) -> None:
        """Count one answer, and how long it took from the request."""
        codes = self.codes
        codes[code] = codes[code] + 1 if code in codes else 1
        self.histogram.record(duration_ns)

    def count(self, code: int) -> None:
        """Count one answer that was given without looking at the request."""
        codes = self.codes
        codes[code] = codes.get(code, 0) + 1


class Statistics:
    """All counters of a node's server; the event loop's thread alone writes them.

    Attributes:
        connections: open now, from accepted to closed.
        connections_total: accepted since the start.
        connections_refused: closed at once, by reason.
        sessions_ended: connections ended by this side, by reason.
        auth_failures: failed logins and tokens, by reason.
        bytes_received: inside TLS.
        bytes_sent: inside TLS.
    """

    __slots__ = (
        "auth_failures",
        "bytes_received",
        "bytes_sent",
        "connections",
        "connections_refused",
        "connections_total",
        "counters",
        "sessions_ended",
    )

    def __init__(self) -> None:
        self.connections = 0
        self.connections_total = 0
        self.connections_refused: dict[str, int] = {}
        self.sessions_ended: dict[str, int] = {}
        self.auth_failures: dict[str, int] = {}
        self.bytes_received = 0
        self.bytes_sent = 0
        self.counters: dict[str, OperationCounter] = {}

    def counter(self, operation: str, *, is_task: bool = False) -> OperationCounter:
        """Give the counter of an operation, the same one each time."""
        if operation not in self.counters:
            self.counters[operation] = OperationCounter(operation, is_task=is_task)
        return self.counters[operation]

    def snapshot(self) -> dict[str, object]:
        """Give all numbers as they are now, under the names that the monitoring pages use."""
        counters = self.counters.values()
        return {
            "connections": self.connections,
            "connections_total": self.connections_total,
            "connections_refused": dict(self.connections_refused),
            "sessions_ended": dict(self.sessions_ended),
            "tasks_processed": sum(counter.codes[OK] for counter in counters if counter.is_task),
            "requests": {
                (counter.name, result_name(code)): count
                for counter in counters
                for code, count in counter.codes.items()
                if count
            },
            "request_seconds": {c.name: c.histogram.statistics() for c in counters if any(c.codes.values())},
            "auth_failures": dict(self.auth_failures),
            "bytes_received": self.bytes_received,
            "bytes_sent": self.bytes_sent,
        }


def count_in(table: dict[str, int], reason: str) -> None:
    """Count one more of a reason; reasons are few and come from the code, never from a peer."""
    table[reason] = table.get(reason, 0) + 1
