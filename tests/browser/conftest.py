"""One world, one browser and everybody's session, shared by all browser tests: starting them takes longest."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import Browser

from tests.browser.browser import chromium
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
