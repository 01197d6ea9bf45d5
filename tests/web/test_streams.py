"""Streams of events at the pages of a real bank: live, resumed, shared, ended; and who does not read is dropped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import pytest_asyncio

from fortress.client.me import Me
from fortress.protocol.reading import EntryPush, HistoryRow
from fortress.web import streams as module
from fortress.web.site import Site
from fortress.web.streams import Hub, Reader, Streams
from tests.server.banks import BANK, World
from tests.web.pages import DEADLINE_S, Browser, banking, browsing, paging, until


class Stream:
    """An open stream, as a browser's EventSource reads it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> dict[str, Any]:
        """Give the next event with its fields; ``{}`` at the end."""
        event: dict[str, Any] = {}
        async with asyncio.timeout(DEADLINE_S):
            while line := (await self.response.content.readline()).decode():
                if line == "\n" and event:
                    return event
                name, _, value = line.rstrip("\n").partition(": ")
                if name:
                    event[name] = json.loads(value) if name == "data" else value
        return {}


@asynccontextmanager
async def streaming(browser: Browser, last: str | None = None) -> AsyncIterator[Stream]:
    headers = browser.headers({"Last-Event-ID": last})
    async with browser.http.get(f"{browser.url}/api/stream", headers=headers) as response:
        assert response.status == 200 and response.content_type == "text/event-stream", await response.text()
        stream = Stream(response)
        first = await stream.next()
        assert (first["event"], first["data"]["state"]) == ("connection", "ok")
        yield stream


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with banking(tmp_path / "bank") as world:
        yield world


@pytest_asyncio.fixture
async def site(world: World) -> AsyncIterator[Site]:
    async with paging(world, streams_per_session_max=2) as site:
        yield site


@pytest_asyncio.fixture
async def browser(site: Site) -> AsyncIterator[Browser]:
    async with browsing(site) as browser:
        await browser.sign_in("alice")
        yield browser


async def pay(world: World, cents: int) -> int:
    """Bob pays Alice; give the entry's position."""
    bob = await world.sign_in("bob")
    return (await bob.pay("alice", f"0.{cents:02} EUR")).position


async def subscribed(world: World, sessions: int = 1) -> None:
    notifications = world.node.notifications
    await until(lambda: len(notifications._accounts) == sessions, "the subscription stands")


async def test_an_entry_is_told_when_it_is_committed(world: World, browser: Browser) -> None:
    """With the account, the position as its id, and what the history would say."""
    async with streaming(browser) as stream:
        await subscribed(world)
        position = await pay(world, 7)
        event = await stream.next()
    assert (event["event"], event["id"]) == ("entry", str(position))
    assert event["data"]["account"] == await world.account_of("alice")
    entry = event["data"]["entry"]
    assert (entry["amount"], entry["balance"], entry["position"]) == ("7", "10007", position)


async def test_what_was_missed_is_told_when_the_browser_is_back(world: World, browser: Browser) -> None:
    """All of it, in order, once; and then what comes."""
    async with streaming(browser) as stream:
        await subscribed(world)
        last = await pay(world, 1)
        assert (await stream.next())["id"] == str(last)
    missed = [await pay(world, cents) for cents in (2, 3)]
    async with streaming(browser, str(last)) as stream:
        told = [(await stream.next())["id"] for _ in missed]
        assert told == [str(position) for position in missed]
        comes = await pay(world, 4)
        assert (await stream.next())["id"] == str(comes)


async def test_streams_of_one_session_share_a_subscription(world: World, browser: Browser) -> None:
    """A tab that was away is told what it missed, the other one nothing twice; a third is refused."""
    async with streaming(browser) as one:
        await subscribed(world)
        first, second = await pay(world, 1), await pay(world, 2)
        assert [(await one.next())["id"] for _ in range(2)] == [str(first), str(second)]
        async with streaming(browser, str(first)) as two:
            assert (await two.next())["id"] == str(second)
            assert len(world.node.notifications._accounts) == 1
            assert (await browser.ask("GET", "/api/stream"))[0] == 429
            third = await pay(world, 3)
            assert (await one.next())["id"] == (await two.next())["id"] == str(third)
    await subscribed(world, 0)


@pytest.mark.parametrize("last", ["garbage", "-1", "9" * 100, "0", "²"])
async def test_a_position_that_is_none_begins_now(world: World, browser: Browser, last: str) -> None:
    """Whatever the header holds."""
    async with streaming(browser, last) as stream:
        await subscribed(world)
        position = await pay(world, 1)
        assert (await stream.next())["id"] == str(position)


async def test_a_position_of_the_future_waits_for_it(world: World, browser: Browser) -> None:
    """A number far ahead is not an error; there is nothing to tell yet."""
    async with streaming(browser, "9007199254740991") as stream:
        await pay(world, 1)
        assert stream.response.status == 200


async def test_streams_end_with_their_session(world: World, site: Site, browser: Browser) -> None:
    """Signing out in one tab ends the streams of all."""
    async with streaming(browser) as stream:
        await subscribed(world)
        other = browser.twin(site)
        assert (await other.ask("DELETE", "/api/session"))[0] == 200
        assert await stream.next() == {}
    await until(lambda: len(site.context.shared(Streams)) == 0, "nothing is left of it")


async def test_streams_end_when_the_process_stops(world: World) -> None:
    """In order, and at once; the browser comes back to another process."""
    async with browsing_paging(world) as (site, browser), streaming(browser) as stream:
        stopping = asyncio.create_task(site.stop())
        assert await stream.next() == {}
        await stopping


@asynccontextmanager
async def browsing_paging(world: World) -> AsyncIterator[tuple[Site, Browser]]:
    async with paging(world) as site, browsing(site) as browser:
        await browser.sign_in("alice")
        yield site, browser


async def test_a_page_hears_that_the_bank_is_away_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the time since when; entries go on where they were."""
    monkeypatch.setattr(module, "ASK_EVERY_S", 0.05)
    monkeypatch.setattr(module, "ANSWER_S_MAX", 0.3)
    async with banking(tmp_path / "bank") as world:
        port = str(world.process.server.port)
        pages = paging(world)
        site = await pages.__aenter__()
        opened = browsing(site)
        browser = await opened.__aenter__()
        await browser.sign_in("alice")
        streamed = streaming(browser)
        stream = await streamed.__aenter__()
        await subscribed(world)
    try:
        away = await stream.next()
        async with banking(tmp_path / "bank", server__port=port) as world:
            back = await stream.next()
            await subscribed(world)
            position = await pay(world, 9)
            entry = await stream.next()
    finally:
        await streamed.__aexit__(None, None, None)
        await opened.__aexit__(None, None, None)
        await pages.__aexit__(None, None, None)
    assert [each["data"]["state"] for each in (away, back)] == ["switching", "ok"]
    assert away["data"]["since"] < back["data"]["since"] and entry["id"] == str(position)


def push(position: int, account: int = 1) -> EntryPush:
    return EntryPush(account, HistoryRow(position, 1, bytes(16), "transfer", 1, 1, 2, ""))


def test_a_stream_gives_each_entry_once() -> None:
    """Also both halves of a transfer between own accounts, which have one position."""
    reader = Reader(5)
    seen = [(5, 1), (4, 1), (6, 1), (6, 2), (6, 1), (7, 2), (6, 2)]
    assert [reader.wants(push(*each)) for each in seen] == [False, False, True, True, False, True, False]


class Pushing:
    """A session whose bank pushes a hundred entries and then nothing."""

    bank = BANK

    def subscribe(self, *, from_position: int | None = None) -> Pushing:
        self.position = 0
        return self

    async def __aenter__(self) -> Pushing:
        return self

    async def __aexit__(self, *error: object) -> None:
        return None

    def __aiter__(self) -> Pushing:
        return self

    async def __anext__(self) -> EntryPush:
        self.position += 1
        if self.position > 100:
            await asyncio.Event().wait()
        return push(self.position)


async def test_who_does_not_read_is_dropped_and_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue is bounded, and full for too long is the end; the stream beside it gets everything."""
    monkeypatch.setattr(module, "READER_EVENTS_MAX", 10)
    monkeypatch.setattr(module, "READER_S_MAX", 0.05)
    hub = Hub(cast(Me, Pushing()), has_entries=True)
    slow, quick = hub.join(0), hub.join(0)
    told = []
    async with asyncio.timeout(DEADLINE_S):
        while len(told) < 100:
            event = await quick.events.get()
            assert event is not None
            told.append(int(event.id))
    assert told == list(range(1, 101)) and slow.is_over and not quick.is_over
    assert slow.events.qsize() <= 10
    await hub.close()
