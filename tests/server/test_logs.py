"""Lines are readable by machines and people, bounded in number, and written off the event loop."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from threading import Event

import pytest

from fortress.config import LogSettings
from fortress.errors import OK, Busy
from fortress.server import logs
from fortress.server.logs import ConsoleFormatter, JsonFormatter, LogWriter, RequestLog, configure, log_event

log = logging.getLogger("fortress.tests")
SESSION = bytes(range(16))


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave logging as it was."""
    root = logging.getLogger("fortress")
    before = (root.handlers[:], root.level, root.propagate)
    yield
    for handler in set(root.handlers) - set(before[0]):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(before[1])
    root.propagate = before[2]


def written(settings: LogSettings, level: int = logging.INFO, **fields: logs.Field) -> str:
    stream = io.StringIO()
    writer = configure(settings, stream)
    log_event(log, level, "connection ended", **fields)
    writer.close()
    return stream.getvalue()


def test_a_line_for_machines_is_one_json_object() -> None:
    """Time, level, event and fields."""
    line = json.loads(written(LogSettings(format="json"), reason="idle", count=3))
    assert (line["level"], line["event"], line["reason"], line["count"]) == ("info", "connection ended", "idle", 3)
    assert line["time"].endswith("+00:00")


def test_a_line_for_people_is_short() -> None:
    """Time, level, event and fields, in one line whatever a peer put in."""
    text = written(LogSettings(format="console"), reason="a\nb")
    assert text.endswith(" info    connection ended reason=a\\nb\n")


def test_what_is_below_the_level_is_not_written() -> None:
    """Debug lines appear when asked for."""
    assert written(LogSettings(), logging.DEBUG) == ""
    assert "connection ended" in written(LogSettings(level="debug"), logging.DEBUG)


def test_auto_is_json_off_a_terminal() -> None:
    """What collects logs gets what it can parse."""
    assert written(LogSettings(format="auto")).startswith("{")


@pytest.mark.parametrize("formatter", [JsonFormatter(), ConsoleFormatter()])
def test_exceptions_are_told(formatter: logging.Formatter) -> None:
    """With their traceback."""
    try:
        raise KeyError("x")
    except KeyError:
        record = log.makeRecord("n", logging.ERROR, "f", 1, "request failed", (), sys.exc_info())
    assert "KeyError" in formatter.format(record)


def test_configuring_again_replaces_the_writer() -> None:
    """Not every line twice."""
    first, second = io.StringIO(), io.StringIO()
    configure(LogSettings(format="json"), first)
    writer = configure(LogSettings(format="json"), second)
    log_event(log, logging.INFO, "x")
    writer.close()
    assert (first.getvalue().count("\n"), second.getvalue().count("\n")) == (0, 1)


class SlowStream(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.is_writing, self.may_go_on = Event(), Event()

    def write(self, text: str) -> int:
        self.is_writing.set()
        self.may_go_on.wait(5)
        return super().write(text)


def test_a_slow_stream_drops_lines_and_holds_nobody_up() -> None:
    """The queue is bounded; what does not fit is counted."""
    stream = SlowStream()
    writer = LogWriter(stream, JsonFormatter(), lines_waiting_max=2)
    record = log.makeRecord("n", logging.INFO, "f", 1, "x", (), None)
    writer.emit(record)
    assert stream.is_writing.wait(5)
    for _ in range(5):
        writer.emit(record)
    assert writer.dropped == 3
    stream.may_go_on.set()
    writer.close()
    assert stream.getvalue().count("\n") == 3


def test_a_closed_stream_is_survived() -> None:
    """The server does not end because its terminal did."""
    stream = io.StringIO()
    writer = LogWriter(stream, JsonFormatter())
    stream.close()
    writer.emit(log.makeRecord("n", logging.INFO, "f", 1, "x", (), None))
    writer.close()
    assert writer.dropped == 1


@pytest.mark.parametrize(("which", "lines"), [("none", []), ("refused", ["busy"]), ("all", ["ok", "busy"])])
def test_the_setting_says_which_requests_get_a_line(
    which: str, lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """None, the refused ones, or all."""
    requests = RequestLog(LogSettings(requests=which))
    with caplog.at_level(logging.INFO, "fortress"):
        requests.note("transfer", SESSION, 1, OK, 5000)
        requests.note("transfer", SESSION, 2, Busy.code, 5000)
    assert [record.__dict__["fields"]["result"] for record in caplog.records] == lines
    caplog.clear()
    with caplog.at_level(logging.INFO, "fortress"):
        requests.note_payment("submit", bytes(15) + b"\x01", bank="bank-a")
        requests.note_payment("outcome", bytes(16), Busy.code)
    assert [record.__dict__["fields"]["result"] for record in caplog.records] == lines
    if which == "all":
        fields = {"payment": "00" * 15 + "01", "step": "submit", "result": "ok", "bank": "bank-a"}
        assert caplog.records[0].__dict__["fields"] == fields


def test_a_second_has_only_so_many_lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A peer cannot fill the disk; how many lines are missing is told."""
    monkeypatch.setattr(logs, "REQUEST_LINES_PER_S_MAX", 2)
    requests = RequestLog(LogSettings(requests="all"))
    with caplog.at_level(logging.INFO, "fortress"):
        for _ in range(5):
            requests.note("transfer", SESSION, 1, OK, 5000)
        requests.on_second()
        requests.note("transfer", SESSION, 1, OK, 5000)
        requests.on_second()
    events = [record.getMessage() for record in caplog.records]
    assert events == ["request", "request", "requests not logged", "request"]
    assert caplog.records[2].__dict__["fields"] == {"count": 3}
