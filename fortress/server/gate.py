"""What may pass at this moment: everything on a primary that knows it is one, old reads on a standby.

A primary of two knows that it still is one only as long as the other node promised not to take over; that runs out
when a machine is paused or cut off. Requests that come then wait until the other node was heard again, or until it is
known that it took over. So nothing old is told as if it were new, whatever the clocks of other machines say.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from fortress.errors import Busy, FortressError
from fortress.protocol.fields import Request
from fortress.protocol.messages import OF_EVERY_NODE, decode_envelope, is_for_standby

ALWAYS_NS: Final = 1 << 62
NEVER_NS: Final = -(1 << 62)
PARKED_MAX: Final = 16_384
PARKED_BYTES_MAX: Final = 64 * 1024 * 1024


class Asking(Protocol):
    """The session of whoever asks."""

    @property
    def is_open(self) -> bool:
        """False when nobody is there any more."""

    def flush(self) -> None:
        """Send what was answered."""

    def refuse_uncounted(self, request_id: int, error: FortressError) -> None:
        """Refuse a request that was never taken."""


Dispatch = Callable[[Any, bytes], None]


class Gate:
    """Stands before the handlers.

    Args:
        dispatch: takes a request again that had to wait here.

    Attributes:
        open_until_ns: up to this time (`time.perf_counter_ns`) everything passes unasked.
        committed_position: of the newest entry that a standby may show.
        fresh_ns: when this node was last known to have everything.
        is_standby: commands are refused here; read on the way of every answer.
    """

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self.open_until_ns = ALWAYS_NS
        self.committed_position = 0
        self.fresh_ns = NEVER_NS  # not 0: that is when the machine was started, maybe a moment ago
        self.is_standby = False
        self._refusal: FortressError | None = None
        self._parked: deque[tuple[Asking, bytes]] = deque()
        self._parked_bytes = 0
        self._busy: FortressError | None = None

    @property
    def stale_ms(self) -> int:
        """How old an answer of this node may be, in whole milliseconds, at least 1 on a standby."""
        if self._refusal is None:
            return 0
        return (time.perf_counter_ns() - self.fresh_ns) // 1_000_000 + 1

    def close(self, refusal: FortressError) -> None:
        """Be a standby's: refuse all but old reads, with this; who waits is told too."""
        self._refusal = refusal
        self.is_standby = True
        self.open_until_ns = 0
        self._busy = None
        self._release()

    def open_until(self, until_ns: int) -> None:
        """Be a primary's, up to this time."""
        self._refusal = None
        self.is_standby = False
        self.open_until_ns = until_ns
        if (self._parked or self._busy is not None) and until_ns > time.perf_counter_ns():
            self._busy = None
            self._release()

    def passes(self, session: Asking, operation: str, request: Request, message: bytes) -> bool:
        """Tell whether a request may go on now; False when it waits, to be dispatched again.

        Raises:
            FortressError: it may not.
        """
        if operation in OF_EVERY_NODE:
            return True
        if self._refusal is None:
            self._park(session, message)
            return False
        is_seen = getattr(request, "min_position", 0) <= self.committed_position
        if is_seen and is_for_standby(operation, request, self.stale_ms):
            return True
        raise type(self._refusal)(self._refusal.message, self._refusal.facts)

    def _park(self, session: Asking, message: bytes) -> None:
        if self._busy is not None:
            raise type(self._busy)(self._busy.message, self._busy.facts)
        if len(self._parked) >= PARKED_MAX or self._parked_bytes + len(message) > PARKED_BYTES_MAX:
            raise Busy("too much waits until this node knows whether it is still primary")
        self._parked.append((session, bytes(message)))
        self._parked_bytes += len(message)

    def refuse_parked(self, error: FortressError) -> None:
        """Tell all who wait here that it takes too long, and so whoever comes, until it is known who is primary."""
        self._busy = error
        for session, message in self._take_parked():
            if session.is_open:
                session.refuse_uncounted(decode_envelope(message).request_id, type(error)(error.message, error.facts))
                session.flush()

    def _take_parked(self) -> deque[tuple[Asking, bytes]]:
        parked, self._parked, self._parked_bytes = self._parked, deque(), 0
        return parked

    def _release(self) -> None:
        for session, message in self._take_parked():
            if session.is_open:
                self._dispatch(session, message)
                session.flush()
