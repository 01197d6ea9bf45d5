"""What clients asked and were told, and when faults came: written down before anything else is done with it.

A history is a file of JSON lines, each in the file before the next thing happens. Times (``at``) are microseconds of
this machine's monotonic clock, which all clients of a run share.

| do | written | holds |
| --- | --- | --- |
| ``begin`` | once | ``accounts`` and their ``sum_minor`` |
| ``ask`` | before a request is sent | ``n`` (its number), ``who``, ``operation``, ``ids``, ``moves`` |
| ``tell`` | when it has ended | ``n``, ``code``, ``node``; ``position``, ``time_us``, ``replayed``, ``statuses`` |
| ``read`` | when all balances were read | ``who``, ``accounts``, ``sum_minor``, ``node`` |
| ``count`` | when the counter was read | ``who``, ``low``, ``seen``, ``high``, ``node`` |
| ``fault``, ``heal`` | at that moment | ``kind``, ``of`` |
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from fortress.errors import OK, OutcomeUnknown

UNKNOWN: Final = OutcomeUnknown.code
Event = dict[str, Any]
Move = tuple[int, int, int]
"""Account debited, account credited, amount in minor units."""


def now_us() -> int:
    """Give the time of this machine's monotonic clock."""
    return time.monotonic_ns() // 1000


class History:
    """Writes a history.

    Args:
        path: of a file that does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._asked = 0

    def write(self, do: str, **facts: Any) -> None:
        """Add a line."""
        line = json.dumps({"at": now_us(), "do": do, **facts}, separators=(",", ":"))
        os.write(self._file, line.encode() + b"\n")

    def ask(self, who: str, operation: str, ids: Sequence[bytes], moves: Sequence[Move] = ()) -> int:
        """Note a request before it is sent, and give its number.

        Args:
            who: asks.
            operation: of the protocol.
            ids: of what it does; of a post or void, that of the hold.
            moves: what each of the ids moves or reserves; none where the bank decides that.
        """
        self._asked += 1
        named = [id.hex() for id in ids]
        self.write("ask", n=self._asked, who=who, operation=operation, ids=named, moves=moves)
        return self._asked

    def tell(self, number: int, code: int, **facts: Any) -> None:
        """Note how a request has ended."""
        self.write("tell", n=number, code=code, **facts)

    def close(self) -> None:
        """Close the file; may be repeated."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def read(path: Path) -> Iterator[Event]:
    """Read a history; a last line that was not written whole is left out."""
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def outages(events: Iterable[Event]) -> list[tuple[str, float]]:
    """Give for each fault its kind and for how many seconds nothing was acknowledged because of it.

    That is the longest pause between two acknowledgements from the last one before the fault on, until the next fault
    or the end of the history: some answers that were under way still arrive just after a process was killed.
    """
    found: list[tuple[str, float]] = []
    last = previous = None
    kind = ""
    longest = 0
    for event in events:
        if event["do"] == "fault":
            if kind:
                found.append((kind, longest / 1e6))
            kind, longest, previous = event["kind"], 0, last
        elif event["do"] == "tell" and event["code"] == OK:
            last = event["at"]
            if kind and previous is not None:
                longest = max(longest, last - previous)
            previous = last
    return [*found, (kind, longest / 1e6)] if kind else found
