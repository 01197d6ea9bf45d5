"""``status``: a sentence, a table, an exit code; from the site, the folder or the bank itself."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from fortress.cli import peer, status
from fortress.cli.demo import free_port
from fortress.cli.folders import make_folder
from fortress.cli.joining import Place, make_peer
from fortress.errors import Unreachable, UsageError
from fortress.server.operations import Operations
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
    assert "ready" in out and "now" in out
    document = tell("status", "--url", site.url, "--json")[1]
    assert document.items() >= GOOD.items()
    assert document["headline"] == out.splitlines()[0] and document["nodes"][0]["node"] == "node-1"


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


@contextmanager
def door(folder: Path, document: dict[str, Any]) -> Iterator[None]:
    """A node that answers at the socket in its folder only."""
    started, ended = threading.Event(), threading.Event()

    async def answer() -> dict[str, Any]:
        return document

    async def serve() -> None:
        operations = Operations(folder, {"status": answer})
        await operations.start()
        started.set()
        while not ended.is_set():
            await asyncio.sleep(0.005)
        await operations.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(10)
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_the_folder_says_where_its_site_is(tell: Tell, site: Site, tmp_path: Path) -> None:
    """A node without a site is asked at the socket in its folder."""
    port = site.server.server_port
    make_folder(tmp_path / "a", bank="a", node="node-1", administrators=[], settings={"monitor.port": port})
    assert tell("status", str(tmp_path / "a"))[0] == 0
    assert tell("--config", str(tmp_path / "a"), "status")[0] == 0
    make_folder(tmp_path / "b", bank="a", node="node-1", administrators=[], settings={"monitor.port": 0})
    code, _, err = tell("status", str(tmp_path / "b"))
    assert code == 4 and "FT-3006" in err
    with door(tmp_path / "b", {**GOOD, "checks": {"disk": (False, "full")}}):
        code, out, _ = tell("status", str(tmp_path / "b"))
    assert code == 6 and "disk: full" in out


# --- a pair ----------------------------------------------------------------------------------------------------------

PAIRED: dict[str, Any] = {
    **GOOD,
    "state": "primary.paired",
    "copies": 2,
    "behind": 0,
    "peer": {"name": "node-2", "address": "127.0.0.1:7621", "seen_s": 0.1},
    "register": {"kind": "witness", "reachable": True},
}


@pytest.fixture
def pair(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first folder of a pair, whose node's site shows what it is told to; nobody answers for the second."""
    settings: dict[str, Any] = {"monitor.port": site.server.server_port, "server.port": free_port()}
    make_folder(tmp_path / "a1", bank="a", node="node-1", administrators=[], settings=settings)
    place = Place(port=free_port(), status_port=free_port(), pair_port=free_port())
    make_peer(tmp_path / "a2", tmp_path / "a1", place=place)
    site.body = json.dumps(PAIRED).encode()
    monkeypatch.setattr(peer, "PEER_S_MAX", 0.2)
    return tmp_path / "a1"


def test_a_pair_is_shown_by_one_of_its_nodes(tell: Tell, pair: Path) -> None:
    """What it knows of the other one included."""
    code, out, _ = tell("status", str(pair))
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "Bank a: two copies, node-1 is primary."
    assert lines[1].split() == "Node Address Role State Term Seq Behind Seen".split()
    assert lines[2].startswith("node-1") and "paired" in lines[2] and lines[2].endswith("now")
    assert lines[3].startswith("node-2") and "running" in lines[3] and lines[3].endswith("0 s ago")


def test_the_other_node_is_asked_too(tell: Tell, pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its address for clients; then both rows are first hand."""
    told = {"bank": "a", "node": "node-2", "role": "standby", "term": 1, "position": 11, "copies": 1}
    monkeypatch.setattr(status, "read_peer", lambda call, settings: told)
    code, out, _ = tell("status", str(pair), "--json")
    assert code == 0
    assert [(row["node"], row["role"], row["seen_s"]) for row in out["nodes"]] == [
        ("node-1", "primary", 0.0),
        ("node-2", "standby", 0.0),
    ]


def test_the_other_node_tells_when_this_one_is_down(
    tell: Tell, pair: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator is told that there is no standby."""
    site.code = 500
    assert tell("status", str(pair))[0] == 4
    told = {"bank": "a", "node": "node-2", "role": "primary", "term": 2, "position": 11, "copies": 1}
    monkeypatch.setattr(status, "read_peer", lambda call, settings: told)
    code, out, _ = tell("status", str(pair))
    assert code == 6
    assert "Bank a has no standby: node-2 is primary" in out and "start node-1" in out
    assert "not reachable" in out and "never" in out


def test_both_folders_make_one_table(tell: Tell, pair: Path) -> None:
    """Each node has one row, whoever told of it."""
    second = pair.with_name("a2")
    standby = {**GOOD, "node": "node-2", "role": "standby", "state": "standby.in_sync", "checks": {}}
    heard = {"name": "node-1", "address": "", "seen_s": 0.0}
    with door(second, {**standby, "peer": heard}):
        code, out, _ = tell("status", str(second), str(pair), "--json")
    assert code == 0
    assert [(row["node"], row["state"]) for row in out["nodes"]] == [("node-1", "paired"), ("node-2", "in sync")]


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
