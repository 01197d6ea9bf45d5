"""``status``: a sentence, a table, an exit code; from the site, the folder or the bank itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from fortress.cli import status
from fortress.cli.demo import free_port
from fortress.cli.folders import make_folder
from fortress.errors import Unreachable, UsageError
from tests.cli.conftest import FakeBank

Tell = Callable[..., Any]
GOOD: dict[str, Any] = {
    "bank": "a",
    "node": "node-1",
    "role": "primary",
    "term": 1,
    "position": 12,
    "connections": 3,
    "tasks_processed": 9,
    "uptime_s": 3700.5,
    "copies": 1,
    "checks": {"ledger": {"ok": True, "reason": "whole"}},
}


class Site:
    """A monitoring site that shows what it is told to."""

    def __init__(self) -> None:
        site = self
        self.body: bytes = json.dumps(GOOD).encode()
        self.code = 200

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(site.code)
                self.end_headers()
                self.wfile.write(site.body)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_a_bank_that_is_well_is_told_in_a_sentence(tell: Tell, site: Site) -> None:
    """And a table; exit code 0."""
    code, out, _ = tell("status", "--url", site.url)
    assert code == 0
    assert out.splitlines()[0] == "Bank a is up: node-1 is primary; entries are on one machine."
    assert "1 h 1 m" in out and "ready" in out
    assert tell("status", "--url", site.url, "--json")[1] == GOOD


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"checks": {"disk": {"ok": False, "reason": "the disk is full"}}}, "needs care: disk: the disk is full"),
        ({"role": "standby"}, "is standby and takes no payments"),
    ],
    ids=["disk", "role"],
)
def test_what_needs_care_is_told(tell: Tell, site: Site, change: dict[str, Any], words: str) -> None:
    """With what to do next; exit code 6."""
    site.body = json.dumps({**GOOD, **change}).encode()
    code, out, _ = tell("status", "--url", site.url)
    assert code == 6 and words in out and "Next: fortress" in out


def test_two_copies_are_told() -> None:
    """How many machines have each entry."""
    assert "on 2 machines" in status.headline({**GOOD, "copies": 2})[0]


def test_a_bank_that_does_not_answer_is_exit_code_4(tell: Tell) -> None:
    """Nobody there."""
    code, _, err = tell("status", "--url", f"http://127.0.0.1:{free_port()}")
    assert code == 4 and "FT-3006" in err


@pytest.mark.parametrize(("code", "body"), [(404, b"{}"), (200, b"[]"), (200, b"<html>")])
def test_something_else_that_answers_is_no_node(site: Site, code: int, body: bytes) -> None:
    """A wrong port is not taken for a bank."""
    site.code, site.body = code, body
    with pytest.raises(Unreachable):
        status.read_site(site.url, 5)


@pytest.mark.parametrize("url", ["", "localhost:7612", "ftp://x", "http://"])
def test_a_wrong_url_is_wrong_usage(url: str) -> None:
    """Before anything is asked."""
    with pytest.raises(UsageError):
        status.read_site(url, 1)


def test_the_folder_says_where_its_site_is(tell: Tell, site: Site, tmp_path: Path) -> None:
    """Unless the site is off."""
    port = site.server.server_port
    make_folder(tmp_path / "a", bank="a", node="node-1", administrators=[], settings={"monitor.port": port})
    assert tell("status", str(tmp_path / "a"))[0] == 0
    assert tell("--config", str(tmp_path / "a"), "status")[0] == 0
    make_folder(tmp_path / "b", bank="a", node="node-1", administrators=[], settings={"monitor.port": 0})
    code, _, err = tell("status", str(tmp_path / "b"))
    assert code == 2 and "monitor.port" in err


def test_a_customer_asks_the_bank_itself(bank: FakeBank, tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder, no site, only a context."""
    monkeypatch.chdir(Path(__file__).parent)
    code, out, _ = tell("status", "--json")
    assert code == 0 and (out["tasks_processed"], out["connections"]) == (5, 4)


def test_watching_goes_on_through_an_outage(tell: Tell, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again, until Ctrl-C."""
    turns: list[float] = []

    def sleep(seconds: float) -> None:
        turns.append(seconds)
        site.code = 500
        if len(turns) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", sleep)
    code, out, _ = tell("status", "--url", site.url, "--watch")
    assert code == 130
    assert "is up" in out and "Not reachable" in out


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (61, "1 m 1 s"), (90_061, "1 d 1 h"), (86_400, "1 d")])
def test_spans_are_told_in_two_units(seconds: float, text: str) -> None:
    """Short enough for a table."""
    assert status.span_text(seconds) == text
