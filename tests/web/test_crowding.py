"""Many at a time: sessions take turns and stay their own, and wrong tokens do no harm to those who have right ones."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path

from fortress.web.sessions import Sessions
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


def forged(exp: float) -> str:
    """A token that only the bank can tell from a right one."""
    claims = base64.urlsafe_b64encode(json.dumps({"iat": exp - 900, "exp": exp}).encode()).decode().rstrip("=")
    return f"e30.{claims}.{'A' * 86}"


async def test_wrong_tokens_are_asked_about_a_few_times_only(tmp_path: Path) -> None:
    """In a cookie or as a ticket; who is signed in from the same address does not notice, and the bank is spared."""
    async with banking(tmp_path / "bank") as world, paging(world) as site, browsing(site) as alice:
        await alice.sign_in("alice")
        site.context.shared(Sessions)._refused.burst = 3
        thief, late = alice.twin(site), time.time() + 900
        for number in range(3):
            assert (await thief.ask("POST", "/api/session", {"token": forged(time.time() - 900)}))[0] == 401
            assert (await thief.ask("POST", "/api/session", {"token": forged(late + number)}))[0] == 401
        asked = world.node.statistics.connections_total
        thief.cookie = f"{forged(late + 10)}.{'0' * 32}"
        assert (await thief.ask("GET", "/api/session"))[0] == 429
        assert (await thief.ask("POST", "/api/session", {"token": forged(late + 11)}))[0] == 429
        assert thief.response.headers["Retry-After"]
        assert await alice.get("/api/accounts")
        assert world.node.statistics.connections_total == asked
