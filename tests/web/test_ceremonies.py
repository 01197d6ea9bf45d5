"""Ceremonies over one WebSocket and one connection to a real bank: what is right, wrong, late, garbage or too much."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from fortress.client import credentials
from fortress.client.credentials import LoginKey
from fortress.client.ids import new_id
from fortress.web import ceremonies
from fortress.web.ceremonies import Ceremonies
from fortress.web.site import Site
from tests.server.banks import BANK, World, seed_of
from tests.web.pages import Browser, banking, browsing, paging

WRONG = b"w" * 32
NEW = b"n" * 32


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with banking(tmp_path / "bank") as world:
        yield world


@pytest_asyncio.fixture
async def site(world: World) -> AsyncIterator[Site]:
    async with paging(world, ceremonies_per_minute=100) as site:
        yield site


@pytest_asyncio.fixture
async def browser(site: Site) -> AsyncIterator[Browser]:
    async with browsing(site) as browser:
        yield browser


async def test_a_login_ends_with_a_ticket_for_one_session(browser: Browser) -> None:
    """Three moves, a ticket, a cookie; the bank's word on who that is."""
    session = await browser.sign_in("alice")
    assert session["username"] == "alice" and session["roles"] == ["customer"] and session["bank"] == BANK
    assert (await browser.get("/api/session"))["anti_forgery"] == session["anti_forgery"]


async def test_a_wrong_password_and_an_unknown_name_sound_the_same(browser: Browser) -> None:
    """Neither challenge nor refusal tells who is a customer, and no cookie is given or taken."""
    wrong, unknown = await browser.prove("alice", WRONG), await browser.prove("nobody", WRONG)
    assert wrong == unknown and (wrong["type"], wrong["status"], wrong["code"]) == ("problem", 401, "FT-2001")
    assert browser.cookie == ""


async def test_a_proof_of_one_channel_is_worth_nothing_on_another(browser: Browser) -> None:
    """What somebody recorded cannot be played again."""
    key = LoginKey(seed_of("alice"))
    async with browser.ceremony() as one, browser.ceremony() as other:
        first, _ = await one.hear(), await other.hear()
        r, commitment = credentials.commit()
        move = {"type": "login_begin", "username": "alice", "commitment": commitment.hex()}
        nonce = (await other.ask(**move))["nonce"]
        proof = one.proof(key, "alice", r, commitment, nonce)
        assert (await other.ask(type="login_finish", proof=proof))["code"] == "FT-2001"
    assert first["channel"] != other.channel.hex()


async def test_an_invitation_makes_a_customer(world: World, browser: Browser) -> None:
    """The page brings a key and its proof; a wrong code is refused in words."""
    code = (await (await world.sign_in("ada")).administration.invite()).code
    for told, kind in (("wrong-code", "problem"), (code, "ticket")):
        async with browser.ceremony() as ceremony:
            await ceremony.hear()
            key = ceremony.material(NEW, "carol")
            said = await ceremony.ask(type="register", code=told, username="carol", name="Carol C", key=key)
        assert said["type"] == kind
        if kind == "problem":
            assert said["status_name"] == "invitation_invalid"
    session = await browser.exchange(said)
    assert (session["username"], session["name"]) == ("carol", "Carol C")


async def change(browser: Browser, old: bytes) -> list[dict[str, Any]]:
    """Change Alice's key; give all that was said."""
    async with browser.ceremony() as ceremony:
        await ceremony.hear()
        said = [await ceremony.ask(type="change_key_begin")]
        if said[0]["type"] == "challenge":
            r, commitment = credentials.commit()
            proof = ceremony.proof(LoginKey(old), "alice", r, commitment, said[0]["nonce"])
            move = {"key": ceremony.material(NEW, "alice"), "commitment": commitment.hex(), "proof": proof}
            said.append(await ceremony.ask(type="change_key", **move))
            said.append(await ceremony.hear())
    return said


async def test_a_new_password_ends_all_tokens_of_before_but_its_own(world: World, site: Site, browser: Browser) -> None:
    """Who changes it goes on by the ticket; a cookie stolen before is good for nothing."""
    await browser.sign_in("alice")
    thief = browser.twin(site)
    said = await change(browser, seed_of("alice"))
    assert [each["type"] for each in said] == ["challenge", "done", "ticket"]
    await browser.exchange(said[-1])
    assert (await browser.get("/api/session"))["username"] == "alice"
    assert (await browser.prove("alice", NEW))["type"] == "ticket"
    async with paging(world) as other:
        status, problem = await thief.twin(other).ask("GET", "/api/session")
    assert (status, problem["code"]) == (401, "FT-2005")


async def test_the_old_password_must_be_right_and_somebody_signed_in(browser: Browser) -> None:
    """A cookie alone changes no password; without a cookie there is nobody whose it could be."""
    assert (await change(browser, WRONG))[0]["code"] == "FT-2003"
    await browser.sign_in("alice")
    said = await change(browser, WRONG)
    assert said[1]["code"] == "FT-2001" and said[2]["type"] == "end"
    assert (await browser.get("/api/session"))["username"] == "alice"
    assert (await browser.prove("alice"))["type"] == "ticket"


async def test_an_administrator_makes_a_customer(browser: Browser) -> None:
    """The bank decides who may; the same id again is the same act."""
    for username, kind in (("alice", "problem"), ("ada", "done")):
        await browser.sign_in(username)
        id = new_id().hex()
        for _ in range(2):
            async with browser.ceremony() as ceremony:
                await ceremony.hear()
                move = {"id": id, "username": "dora", "roles": ["customer"], "name": "Dora D"}
                said = await ceremony.ask(type="create_user", **move, key=ceremony.material(NEW, "dora"))
            assert said["type"] == kind, said
    assert (await browser.prove("dora", NEW))["type"] == "ticket"


@pytest.mark.parametrize(
    "move",
    [
        "",
        "[",
        "null",
        "[]",
        '{"type": "nothing"}',
        '{"type": "login_finish", "proof": "' + "0" * 64 + '"}',
        '{"type": "login_begin", "username": "alice"}',
        '{"type": "login_begin", "username": "ALICE", "commitment": "' + "0" * 64 + '"}',
        '{"type": "login_begin", "username": "alice", "commitment": "zz"}',
        '{"type": "login_begin", "username": "alice", "commitment": "' + "0" * 64 + '", "more": 1}',
        '{"type": "register", "code": "12345678", "username": "x", "key": {}}',
        '{"type": "login_begin", "username": "\\ud800", "commitment": ""}',
        b"bytes",
    ],
)
async def test_garbage_ends_the_ceremony_in_words(browser: Browser, move: str | bytes) -> None:
    """Whatever a page sends that is no first move: a problem, and the end."""
    async with browser.ceremony() as ceremony:
        await ceremony.hear()
        await (ceremony.socket.send_bytes(move) if isinstance(move, bytes) else ceremony.socket.send_str(move))
        said = await ceremony.hear()
        assert (said["type"], said["status"], said["code"]) == ("problem", 422, "FT-4005")
        assert (await ceremony.hear())["type"] == "end"


async def test_a_move_that_is_too_large_ends_the_ceremony(browser: Browser) -> None:
    """It is not even read to its end."""
    async with browser.ceremony() as ceremony:
        await ceremony.hear()
        await ceremony.socket.send_str(json.dumps({"type": "x" * ceremonies.MESSAGE_BYTES_MAX}))
        assert (await ceremony.hear())["type"] == "end"


async def test_numbers_out_of_range_are_refused_by_the_bank_in_words(browser: Browser) -> None:
    """A commitment that is no point makes a login that fails, as any wrong proof does."""
    async with browser.ceremony() as ceremony:
        await ceremony.hear()
        challenge = await ceremony.ask(type="login_begin", username="alice", commitment="f" * 64)
        assert challenge["type"] == "challenge"
        assert (await ceremony.ask(type="login_finish", proof="f" * 64))["code"] == "FT-2001"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", None])
async def test_another_origin_holds_no_ceremony(browser: Browser, origin: str | None) -> None:
    """A WebSocket is not bound by CORS, so this side looks itself."""
    headers = browser.headers({"Origin": origin})
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await browser.http.ws_connect(f"{browser.url}/api/ceremony", headers=headers)
    assert refused.value.status == 403


async def test_a_page_that_says_nothing_is_not_waited_for(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ceremony has its time, whatever the page does."""
    monkeypatch.setattr(ceremonies, "CEREMONY_S_MAX", 0.2)
    async with browser.ceremony() as ceremony:
        await ceremony.hear()
        assert (await ceremony.hear())["code"] == "FT-3003"


async def test_an_address_begins_so_many_in_a_minute(world: World) -> None:
    """Further ones are told to wait, before the bank is asked anything."""
    async with paging(world, ceremonies_per_minute=2) as site, browsing(site) as browser:
        said = [await browser.prove("alice") for _ in range(3)]
        assert [each["type"] for each in said] == ["ticket", "ticket", "problem"]
        assert said[-1]["status"] == 429 and said[-1]["facts"]["wait_ms"] > 0


async def test_who_fails_too_often_waits_and_others_do_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures count by the address of the browser, which a load balancer that is named tells."""
    monkeypatch.setattr(ceremonies, "FAILURES_BURST", 2)
    async with paging(world, proxies="127.0.0.1") as site, browsing(site) as browser:
        attacker = {"X-Forwarded-For": "192.0.2.66, 203.0.113.5"}
        told = []
        for _ in range(3):
            async with browser.ceremony(**attacker) as ceremony:
                if (said := await ceremony.hear())["type"] == "channel":
                    await ceremony.ask(type="login_begin", username="nobody", commitment="1" * 64)
                    said = await ceremony.ask(type="login_finish", proof="1" * 64)
            told.append(said["status"])
        assert told == [401, 401, 429]
        assert (await browser.prove("alice"))["type"] == "ticket"


async def test_nobody_is_kept_out_by_the_failures_of_others(tmp_path: Path) -> None:
    """All come to the bank from the address of the pages; where that is named as a path, each login counts alone."""
    flags = {"server__paths": "127.0.0.1", "login__failures_before_delay": "1"}
    async with (
        banking(tmp_path / "bank", **flags) as world,
        paging(world, ceremonies_per_minute=100) as site,
        browsing(site) as browser,
    ):
        for number in range(12):  # ten times as many as one login may have
            assert (await browser.prove(f"nobody{number}", WRONG))["code"] == "FT-2001"
        assert (await browser.prove("bob", WRONG))["code"] == "FT-2001"
        throttled = await browser.prove("bob")
        assert (throttled["status"], throttled["code"]) == (429, "FT-2006")
        assert (await browser.prove("alice"))["type"] == "ticket"


async def test_only_so_many_are_held_at_a_time(site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many hears that much is going on."""
    monkeypatch.setattr(ceremonies, "CEREMONIES_MAX", 1)
    async with browser.ceremony() as first:
        await first.hear()
        async with browser.ceremony() as second:
            assert (await second.hear())["code"] == "FT-3002"
    assert isinstance(site.context.shared(Ceremonies), Ceremonies)


async def test_without_the_bank_there_is_no_ceremony(tmp_path: Path) -> None:
    """The page hears that the bank does not answer, and that trying again is safe."""
    async with banking(tmp_path / "bank") as world:
        site_of = paging(world)
        site = await site_of.__aenter__()
    async with browsing(site) as browser:
        said = await browser.prove("alice")
        assert (said["status"], said["retry"]) == (503, "same_id") and "127.0.0.1" not in str(said)
    await site_of.__aexit__(None, None, None)
