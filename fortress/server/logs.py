"""Log lines: one event name each, fields beside it; JSON for machines, short lines for a terminal.

Writing happens on a thread of its own behind a bounded queue, so a slow terminal or disk never stops the event loop;
what does not fit is counted and told. Lines about requests have an allowance per second on top, since a peer decides
how many there are. No line holds balances, names, keys or tokens: callers pass ids, codes and reasons only.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from queue import SimpleQueue
from threading import Thread
from typing import Final, TextIO

from fortress.config import LogSettings
from fortress.errors import OK
from fortress.server.statistics import result_name

LINES_WAITING_MAX: Final = 10_000
REQUEST_LINES_PER_S_MAX: Final = 1_000
ROOT: Final = "fortress"

Field = int | float | str | bool | None

logger = logging.getLogger(__name__)


def log_event(to: logging.Logger, level: int, event: str, **fields: Field) -> None:
    """Log one event with its fields."""
    if to.isEnabledFor(level):
        to.log(level, event, extra={"fields": fields})


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class ConsoleFormatter(logging.Formatter):
    """A short line for people: time, level, event, then fields."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        fields = "".join(f" {name}={value}" for name, value in getattr(record, "fields", {}).items())
        # what comes from a peer must not be able to begin a line of its own
        line = f"{time} {record.levelname.lower():7} {record.getMessage()}{fields}".replace("\n", "\\n")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class LogWriter(logging.Handler):
    """Write formatted lines to a stream on a thread of its own.

    Args:
        stream: where to; usually standard error.
        formatter: makes the lines, on that thread.
        lines_waiting_max: more are dropped and counted.
    """

    def __init__(
        self, stream: TextIO, formatter: logging.Formatter, lines_waiting_max: int = LINES_WAITING_MAX
    ) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.dropped = 0
        self._stream = stream
        self._lines_waiting_max = lines_waiting_max
        self._queue: SimpleQueue[logging.LogRecord | None] = SimpleQueue()
        self._thread = Thread(target=self._write_all, name="fortress-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record to the thread, or drop it when too many wait."""
        if self._queue.qsize() >= self._lines_waiting_max:
            self.dropped += 1
        else:
            self._queue.put(record)

    def close(self) -> None:
        """Write what waits, then stop the thread."""
        self._queue.put(None)
        self._thread.join(timeout=5)
        super().close()

    def _write_all(self) -> None:
        while (record := self._queue.get()) is not None:
            try:
                self._stream.write(self.format(record) + "\n")
                if self._queue.empty():
                    self._stream.flush()
            except (OSError, ValueError):  # the stream is closed or full: there is nowhere to say so
                self.dropped += 1


def configure(settings: LogSettings, stream: TextIO) -> LogWriter:
    """Send everything that Fortress logs to a stream; close what this gives at the end.

    A second call replaces the first, as a change of level on SIGHUP does.
    """
    is_console = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    writer = LogWriter(stream, ConsoleFormatter() if is_console else JsonFormatter())
    root = logging.getLogger(ROOT)
    for handler in [handler for handler in root.handlers if isinstance(handler, LogWriter)]:
        root.removeHandler(handler)
        handler.close()
    root.addHandler(writer)
    root.setLevel(settings.level.upper())
    root.propagate = False
    return writer


class RequestLog:
    """Lines about requests, as many as `log.requests` asks for and the allowance of each second permits.

    Args:
        settings: says which requests get a line.
    """

    __slots__ = ("_left", "_suppressed", "logs_done", "logs_refused")

    def __init__(self, settings: LogSettings) -> None:
        self.logs_done = settings.requests == "all"
        self.logs_refused = settings.requests != "none"
        self._left = REQUEST_LINES_PER_S_MAX
        self._suppressed = 0

    def note(self, operation: str, session_id: bytes, request_id: int, code: int, duration_ns: int) -> None:
        """Log one answered request, if it is of those that get a line."""
        if self._may_log(code):
            log_event(
                logger,
                logging.INFO,
                "request",
                operation=operation,
                result=result_name(code),
                session=session_id[:4].hex(),
                request=request_id,
                us=duration_ns // 1000,
            )

    def note_payment(self, step: str, id: bytes, code: int = OK, **fields: Field) -> None:
        """Log one step of a payment between banks, as if it were a request; ``id`` is the same on all nodes."""
        if self._may_log(code):
            log_event(logger, logging.INFO, "payment", payment=id.hex(), step=step, result=result_name(code), **fields)

    def _may_log(self, code: int) -> bool:
        """Tell whether an outcome gets a line, and take that off the allowance."""
        if not (self.logs_refused if code != OK else self.logs_done):
            return False
        if self._left <= 0:
            self._suppressed += 1
            return False
        self._left -= 1
        return True

    def on_second(self) -> None:
        """Begin a new second's allowance, and tell how many lines the last one was short of."""
        if self._suppressed:
            log_event(logger, logging.INFO, "requests not logged", count=self._suppressed)
        self._left = REQUEST_LINES_PER_S_MAX
        self._suppressed = 0
