"""What browsers get: files that are whole or cut, streams that beat, problems that fit, and no waiting for the slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from fortress.errors import Busy, Refused, Status
from fortress.web import answers
from fortress.web.answers import asset_answer, event_bytes, fault_answer, problem_answer
from fortress.web.assets import Asset
from fortress.web.call import Call, Download, Event
from fortress.web.shapes import ConnectionEvent, Problem
from fortress.web.site import Site
from tests.web.pages import DEADLINE_S, Browser, banking, browsing, paging

ASSET = Asset("text/javascript", b"1;" * 100, b"small", "tag")


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with banking(tmp_path / "bank") as world, paging(world) as site:
        yield site


@pytest_asyncio.fixture
async def browser(site: Site) -> AsyncIterator[Browser]:
    async with browsing(site) as browser:
        await browser.sign_in("alice")
        yield browser


def answering(site: Site, monkeypatch: pytest.MonkeyPatch, name: str, pieces: Callable[[], AsyncIterator[Any]]) -> None:
    """Let an operation answer with what a generator gives."""

    def whole(call: Call) -> Any:
        return Download(name="a.csv", media_type="text/csv", pieces=pieces()) if name == "export" else pieces()

    async def handle(call: Call) -> Any:
        return whole(call)

    handler: Callable[[Call], Awaitable[Any]] = handle
    monkeypatch.setitem(site._handlers, name, handler)


def test_an_event_is_written_as_streams_have_it() -> None:
    """Name, data in one line, and the id if it has one."""
    event = Event("connection", ConnectionEvent("ok", "2026-01-01T00:00:00Z"))
    data = b'data: {"state":"ok","since":"2026-01-01T00:00:00Z"}\n\n'
    assert event_bytes(event) == b"event: connection\n" + data
    assert event_bytes(Event("entry", {"text": "a\nb"}, "7")) == b'id: 7\nevent: entry\ndata: {"text":"a\\nb"}\n\n'


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        ({}, 200, ASSET.body),
        ({"Accept-Encoding": "br, gzip"}, 200, ASSET.small),
        ({"If-None-Match": '"tag"'}, 304, None),
        ({"If-None-Match": 'W/"x", W/"tag-gz"', "Accept-Encoding": "gzip"}, 304, None),
        ({"If-None-Match": '"tag"', "Accept-Encoding": "gzip"}, 200, ASSET.small),
    ],
)
def test_a_file_is_sent_in_the_form_that_the_browser_takes(headers: dict[str, str], status: int, body: Any) -> None:
    """Compressed or not, each with a tag of its own; or not at all if the browser has it."""
    answer = asset_answer(ASSET, headers)
    assert (answer.status, answer.body) == (status, body) and answer.headers["Cache-Control"] == "no-cache"


def test_problems_are_documents_of_their_own_type() -> None:
    """With the facts, and how long to wait where that helps."""
    answer = problem_answer(Refused(Status.exceeds_available, {"available_minor": 5}))
    assert isinstance(answer.body, bytes) and answer.content_type == "application/problem+json"
    problem = msgspec.json.decode(answer.body, type=Problem)
    assert (problem.status, problem.retry, problem.facts) == (409, "new_id", {"available_minor": 5})
    assert problem_answer(Busy()).headers["Retry-After"] == "1"
    assert fault_answer("77aa").status == 500


async def test_a_file_is_sent_as_it_is_made(site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under its name; an empty one is a file too."""
    for pieces in ((b"a,b\n", b"1,2\n"), ()):

        async def made(pieces: tuple[bytes, ...] = pieces) -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        answering(site, monkeypatch, "export", made)
        status, data = await browser.ask("GET", "/api/accounts/1/export?begin=2026-01-01&end=2026-01-02")
        assert (status, data) == (200, b"".join(pieces))
        assert browser.response.headers["Content-Disposition"] == 'attachment; filename="a.csv"'


async def test_half_a_file_is_never_taken_for_the_whole(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error before the first piece is a problem; after it, the connection is cut."""
    for before in (0, 1):

        async def made(before: int = before) -> AsyncIterator[bytes]:
            if before:
                yield b"a,b\n"
            raise Busy

        answering(site, monkeypatch, "export", made)
        asked = browser.ask("GET", "/api/accounts/1/export?begin=2026-01-01&end=2026-01-02")
        if before:
            with pytest.raises(aiohttp.ClientError):
                await asked
        else:
            assert (await asked)[0] == 503


async def test_a_quiet_stream_beats(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody on the way takes it for dead."""
    monkeypatch.setattr(answers, "HEARTBEAT_S", 0.02)
    async with browser.http.get(f"{browser.url}/api/stream", headers=browser.headers()) as response:
        async with asyncio.timeout(DEADLINE_S):
            while await response.content.readline() != b":\n":
                pass


async def test_a_browser_that_takes_nothing_is_dropped(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for it is bounded, and so is the patience; the handler's iterator is closed."""
    monkeypatch.setattr(answers, "WRITE_S_MAX", 0.1)
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[Event]:
        try:
            while True:
                yield Event("entry", "x" * 100_000)
        finally:
            closed.set()

    answering(site, monkeypatch, "stream", endless)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=1024)
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**browser.headers(), "Host": "localhost"}.items())
    writer.write(f"GET /api/stream HTTP/1.1\r\n{lines}\r\n".encode())
    assert b" 200 " in await reader.readline()
    async with asyncio.timeout(DEADLINE_S):
        await closed.wait()
    writer.close()


async def test_a_stream_ends_when_its_browser_goes(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and not at the next heartbeat: a page that is loaded again and again must not run out of streams."""
    closed = asyncio.Event()

    async def quiet() -> AsyncIterator[Event]:
        try:
            yield Event("entry", 1)
            await asyncio.Event().wait()
        finally:
            closed.set()

    answering(site, monkeypatch, "stream", quiet)
    async with browser.http.get(f"{browser.url}/api/stream", headers=browser.headers()) as response:
        await response.content.readline()
        response.close()
    async with asyncio.timeout(DEADLINE_S):
        await closed.wait()
