"""More sessions than places: they take turns, nobody is signed out for it, and nobody gets another one's answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.web.pages import Browser, banking, browsing, paging

PEOPLE = ("alice", "bob", "tess")


async def test_sessions_that_take_turns_stay_their_own(tmp_path: Path) -> None:
    """With one place for three sessions every request is answered, each with its own person."""
    async with (
        banking(tmp_path / "bank") as world,
        paging(world, sessions_max=1) as site,
        browsing(site) as first,
    ):
        browsers = {}
        for name in PEOPLE:
            browsers[name] = first.twin(site)
            await browsers[name].sign_in(name)

        async def asked(name: str, browser: Browser) -> None:
            status, said = await browser.twin(site).ask("GET", "/api/session")
            assert (status, said.get("username", said)) == (200, name)

        for _ in range(3):
            await asyncio.gather(*(asked(name, browser) for name, browser in browsers.items() for _ in range(3)))
