"""Seats: kept while they are used, shared by who comes at once, never trusted longer than the bank does."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from fortress.errors import Busy, NotSignedIn, TokenRejected
from fortress.protocol.sessions import Logout
from fortress.web import sessions as module
from fortress.web.sessions import Sessions, claims_of
from tests.server.banks import World
from tests.web.pages import Browser, banking, browsing, context_of, paging, until


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with banking(tmp_path / "bank") as world:
        yield world


@pytest_asyncio.fixture
async def sessions(world: World) -> AsyncIterator[Sessions]:
    sessions = Sessions(context_of(world, sessions_max=2))
    yield sessions
    await sessions.close()


async def token_of(world: World, username: str) -> str:
    return (await world.sign_in(username)).signed_in.token


async def test_who_comes_at_once_with_one_token_shares_one_connection(world: World, sessions: Sessions) -> None:
    """A page asks for many things when it opens; the bank sees one client."""
    token = await token_of(world, "alice")
    before = len(world.server_sessions())

    async def ask() -> str:
        async with sessions.lease(token, "test") as lease:
            return (await lease.seat.me.whoami()).username

    assert set(await asyncio.gather(*(ask() for _ in range(20)))) == {"alice"}
    await ask()
    assert len(world.server_sessions()) == before + 1 and len(sessions) == 1


async def test_a_session_that_nobody_uses_is_left(world: World, sessions: Sessions) -> None:
    """Its connection is closed, its token stays good; one in use is kept."""
    token = await token_of(world, "alice")
    before = len(world.server_sessions())
    async with sessions.lease(token, "test"):
        sessions.sweep(time.monotonic() + 1000)
        assert len(sessions) == 1
    sessions.sweep(time.monotonic() + 1000)
    assert len(sessions) == 0
    await until(lambda: len(world.server_sessions()) == before, "the connection is closed")
    async with sessions.lease(token, "test") as lease:
        assert lease.seat.me.username == "alice"


async def test_their_number_is_bounded(world: World, sessions: Sessions) -> None:
    """The one used longest ago makes room."""
    tokens = [await token_of(world, name) for name in ("alice", "bob", "tess")]
    for token in tokens:
        async with sessions.lease(token, "test"):
            pass
    assert len(sessions) == 2
    async with sessions.lease(tokens[0], "test") as lease:
        assert lease.seat.me.username == "alice"


def forged(token: str, **claims: object) -> str:
    """Change what a token says; the signature is then wrong."""
    head, body, signature = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(body + "=="))
    changed = base64.urlsafe_b64encode(json.dumps({**said, **claims}).encode()).rstrip(b"=").decode()
    return f"{head}.{changed}.{signature}"


async def test_forged_tokens_are_refused(world: World, sessions: Sessions) -> None:
    """Another person, a longer life, another algorithm, a cut or foreign signature: all the same words."""
    token = await token_of(world, "alice")
    head, body, signature = token.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    other = (await token_of(world, "bob")).split(".")[2]
    for wrong in (
        *("", "x", "a.b.c", "....", token[:-5], f"{head}.{body}.", f"{none}.{body}.", f"{none}.{body}.{signature}"),
        *(f"{head}.{body}.{other}", forged(token, sub="2"), forged(token, exp=2_000_000_000), forged(token, sid="0")),
        *(forged(token, exp="x"), forged(token, exp=None), "a." + "b" * 3000 + ".c"),
    ):
        with pytest.raises(TokenRejected):
            async with sessions.lease(wrong, "test"):
                raise AssertionError(wrong)
    async with sessions.lease(token, "test"):
        pass


async def test_an_expired_token_is_refused_though_its_session_goes_on(
    world: World, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection here renews its own token; a cookie that was copied does not live longer by that."""
    token = await token_of(world, "alice")
    async with sessions.lease(token, "test"):
        pass
    monkeypatch.setattr(module.time, "time", lambda: claims_of(token).exp + 61)
    with pytest.raises(TokenRejected):
        async with sessions.lease(token, "test"):
            raise AssertionError
    sessions.sweep(time.monotonic())
    assert len(sessions) == 0


async def test_a_token_that_has_come_of_age_is_replaced(
    world: World, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one that lives longer; not before its time, and not for a stream, which nobody need be looking at."""
    token = await token_of(world, "alice")
    async with sessions.lease(token, "test") as lease:
        assert lease.token == ""
    claims = claims_of(token)
    later = claims.iat + 0.5 * (claims.exp - claims.iat)
    monkeypatch.setattr(module.time, "time", lambda: later)
    async with sessions.lease(token, "test", renews=False) as lease:
        assert lease.token == ""
    async with sessions.lease(token, "test") as lease:
        fresh = lease.token
    assert fresh and fresh != token
    async with sessions.lease(fresh, "test") as lease:
        assert lease.seat.me.username == "alice"
    assert len(sessions) == 1


async def test_a_session_ended_elsewhere_is_over_at_the_next_request(world: World, sessions: Sessions) -> None:
    """The bank ends its connections, so this process finds out without being told; streams hear of it too."""
    me = await world.sign_in("alice")
    token = me.signed_in.token
    async with sessions.lease(token, "test") as lease:
        await me.logout()
        await until(lambda: not lease.seat.me.is_connected, "the bank ends the connection")
    with pytest.raises(TokenRejected):
        async with sessions.lease(token, "test"):
            raise AssertionError
    assert lease.seat.ended.done() and len(sessions) == 0


async def test_more_than_can_be_looked_at_are_told_to_come_again(
    world: World, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of tokens does not make a flood of connections."""
    monkeypatch.setattr(module, "OPENING_MAX", 0)
    with pytest.raises(Busy):
        async with sessions.lease(await token_of(world, "alice"), "test"):
            raise AssertionError


async def test_two_processes_answer_one_session_in_turns(world: World) -> None:
    """Behind a load balancer every request may go to another one, sign-in, change and sign-out too."""
    async with paging(world) as one, paging(world) as two, browsing(one) as browser:
        ticket = await browser.prove("alice")
        at_two = browser.twin(two)
        await at_two.exchange(ticket)
        browser.cookie, browser.anti_forgery = at_two.cookie, at_two.anti_forgery
        for turn in range(6):
            asked: Browser = (browser, at_two)[turn % 2]
            status, done = await asked.ask("PUT", "/api/profile", {"name": f"Alice {turn}"})
            assert status == 200, done
            assert (await (at_two, browser)[turn % 2].get("/api/profile"))["name"] == f"Alice {turn}"
        status, _ = await browser.ask("POST", "/api/session/renew")
        at_two.cookie = browser.cookie
        assert (await at_two.get("/api/session"))["username"] == "alice"
        assert (await at_two.ask("DELETE", "/api/session"))[0] == 200
        assert (await browser.ask("GET", "/api/session"))[0] == 401


async def test_what_needs_no_bank_is_shown_without_it(
    world: World, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the bank does not answer, for one; but to nobody whose session the bank has ended."""
    monkeypatch.setattr(module, "ALIVE_S_MAX", 10.0)
    ada, bob = await token_of(world, "ada"), await token_of(world, "bob")
    for token in (ada, bob):
        async with sessions.lease(token, "test") as lease:
            me = lease.seat.me
    await me.administration._calls.call("logout", Logout())
    await until(lambda: not me.is_connected, "the bank ends the connection")
    with pytest.raises((TokenRejected, NotSignedIn)):
        async with sessions.lease(bob, "test", needs_bank=False):
            raise AssertionError("this session is over")
    monkeypatch.setattr(module, "ALIVE_S_MAX", 0.05)
    await world.process.stop(deadline_s=2)
    async with sessions.lease(ada, "test", needs_bank=False, renews=False) as lease:
        await until(lambda: not lease.seat.me.is_connected, "the bank is gone")
    async with sessions.lease(ada, "test", needs_bank=False, renews=False) as lease:
        assert lease.seat.me.username == "ada"
