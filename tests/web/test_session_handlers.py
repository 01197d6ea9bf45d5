"""One session from its beginning to its end, at the pages of a real bank."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from fortress.web import sessions
from fortress.web.session_handlers import AGENT, AGENT_LENGTH_MAX, agent_of
from fortress.web.sessions import claims_of
from fortress.web.site import Site
from tests.server.banks import BANK, World
from tests.web.pages import Browser, banking, browsing, paging


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with banking(tmp_path / "bank") as world:
        yield world


@pytest_asyncio.fixture
async def site(world: World) -> AsyncIterator[Site]:
    async with paging(world) as site:
        yield site


@pytest_asyncio.fixture
async def browser(site: Site) -> AsyncIterator[Browser]:
    async with browsing(site) as browser:
        yield browser


async def test_before_anybody_signs_in_a_page_knows_which_bank_it_is(browser: Browser) -> None:
    """And nothing else."""
    found = await browser.get("/api/site")
    assert (found["bank"], found["kind"], found["demo"]) == (BANK, "bank", False)
    for path in ("/api/session", "/api/sessions", "/api/profile", "/api/stream", "/api/accounts"):
        assert (await browser.ask("GET", path))[0] == 401


async def test_a_cookie_of_after_the_logout_is_worth_nothing(browser: Browser, site: Site) -> None:
    """Signed out is signed out everywhere, also for whoever has a copy of the cookie."""
    await browser.sign_in("alice")
    thief = browser.twin(site)
    assert (await browser.ask("DELETE", "/api/session"))[0] == 200
    assert browser.cookie == ""
    for path in ("/api/session", "/api/accounts", "/api/stream"):
        status, problem = await browser.twin(site).ask("GET", path, headers={"Cookie": thief.headers()["Cookie"]})
        assert (status, problem["code"]) == (401, "FT-2005")
    await thief.ask("GET", "/api/session")
    assert thief.cookie == ""  # the browser is told to forget it
    status, problem = await thief.ask("POST", "/api/session", {"token": "a.b.c"})
    assert (status, problem["code"]) == (401, "FT-2005")


async def test_a_renewed_session_has_its_full_time_and_the_same_anti_forgery_token(browser: Browser) -> None:
    """The page goes on with what it knows; the old cookie lives until its own end."""
    await browser.sign_in("alice")
    before = browser.cookie
    status, session = await browser.ask("POST", "/api/session/renew")
    assert status == 200 and session["anti_forgery"] == browser.anti_forgery
    token, _, random = browser.cookie.rpartition(".")
    assert before.endswith(random) and token in browser.cookie
    assert (await browser.get("/api/session"))["username"] == "alice"


async def test_reading_keeps_no_session_alive(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open pages read by themselves; only a change shows that somebody is there, and the page is told the true end."""
    await browser.sign_in("alice")
    before, told = browser.cookie, (await browser.get("/api/session"))["expires"]
    claims = claims_of(before.rpartition(".")[0])
    monkeypatch.setattr(sessions.time, "time", lambda: claims.iat + 0.9 * (claims.exp - claims.iat))
    assert (await browser.get("/api/session"))["expires"] == told
    assert browser.cookie == before
    status, _ = await browser.ask("PUT", "/api/profile", {"name": "Alice"})
    assert status == 200 and browser.cookie != before
    assert (await browser.get("/api/session"))["expires"] >= told


async def test_one_sees_ones_own_sessions_and_ends_another(world: World, site: Site, browser: Browser) -> None:
    """By the browser's address and name, not by those of this process; the other one is out at its next request."""
    await browser.sign_in("alice")
    other = Browser(site, browser.http)
    await other.sign_in("alice")
    stranger = Browser(site, browser.http)
    await stranger.sign_in("bob")
    rows = (await browser.get("/api/sessions"))["sessions"]
    assert len(rows) == 2 and [row["current"] for row in rows].count(True) == 1
    assert {(row["address"], row["agent"]) for row in rows} == {("127.0.0.1", "Browser/1")}
    (others,) = (row["id"] for row in rows if not row["current"])
    await stranger.ask("DELETE", f"/api/sessions/{others}")
    assert (await other.get("/api/session"))["username"] == "alice"
    assert (await browser.ask("DELETE", f"/api/sessions/{others}"))[0] == 200
    assert (await other.ask("GET", "/api/session"))[0] == 401
    assert (await browser.get("/api/session"))["username"] == "alice"


async def test_contact_data_are_read_and_replaced(browser: Browser) -> None:
    """As a whole; what does not fit is refused with the field."""
    await browser.sign_in("alice")
    profile = {"name": "Alice A", "email": "alice@example.org", "phone": "+49 30 1", "address": "Here\nThere"}
    status, done = await browser.ask("PUT", "/api/profile", profile)
    assert status == 200 and done["position"] > 0
    assert await browser.get("/api/profile") == profile
    status, problem = await browser.ask("PUT", "/api/profile", {**profile, "phone": "phone"})
    assert (status, problem["facts"]["field"]) == (422, "phone")


@pytest.mark.parametrize(
    ("address", "agent", "told"),
    [
        ("10.0.0.1", "Browser/1 (X)", f"{AGENT}10.0.0.1 Browser/1 (X)"),
        ("10.0.0.1", "", f"{AGENT}10.0.0.1"),
        ("10.0.0.1", "a\tb\udcffä", f"{AGENT}10.0.0.1 a?b??"),
    ],
)
def test_a_browser_is_listed_by_plain_text(address: str, agent: str, told: str) -> None:
    """Whatever it calls itself, the bank gets what it takes."""
    assert agent_of(address, agent) == told
    assert len(agent_of(address, agent * 1000)) <= AGENT_LENGTH_MAX
