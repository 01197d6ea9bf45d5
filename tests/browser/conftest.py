"""One world, one browser and everybody's session, shared by all browser tests: starting them takes longest."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest_asyncio
from playwright.async_api import Browser

from tests.browser.browser import Visitor, chromium
from tests.browser.crowd import Crowd, Visit
from tests.browser.world import World


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    """Two banks, a gateway, people and pages."""
    with tempfile.TemporaryDirectory(prefix="fortress-browser-", dir="/var/tmp") as folder:
        async with World(Path(folder)) as running:
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Chromium."""
    async with chromium() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def crowd(browser: Browser, world: World) -> Crowd:
    """Everybody's session."""
    return Crowd(browser, world)


@pytest_asyncio.fixture(loop_scope="module")
async def visit(crowd: Crowd) -> AsyncIterator[Visit]:
    """Let people come; they leave at the end of the test, which fails if a page complained of anything."""
    async with AsyncExitStack() as opened:

        async def come(username: str = "", **options: Any) -> Visitor:
            return await opened.enter_async_context(crowd.visitor(username, **options))

        yield come
