"""The rules for every request: who may, from where, how much, in which form; and what is said when it goes wrong."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from fortress.errors import AddressInUse, JournalWriteFailed, SettingInvalid
from fortress.web import session_handlers, sessions
from fortress.web import site as module
from fortress.web.answers import POLICY
from fortress.web.assets import Assets
from fortress.web.cookies import HEADER
from fortress.web.operations import OPERATIONS, Operation, openapi
from fortress.web.site import MODULES, Site, handlers_of, own_origins
from tests.server.banks import World
from tests.web.pages import NAME, Browser, banking, browsing, context_of, paging

PLANTED = "planted secret"


@pytest.fixture
def static(tmp_path: Path) -> Path:
    folder = tmp_path / "static"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html>" + " " * 100)
    return folder


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with banking(tmp_path / "bank") as world:
        yield world


@pytest_asyncio.fixture
async def site(world: World, static: Path) -> AsyncIterator[Site]:
    async with paging(world, static) as site:
        yield site


@pytest_asyncio.fixture
async def browser(site: Site) -> AsyncIterator[Browser]:
    async with browsing(site) as browser:
        yield browser


def test_every_operation_has_exactly_one_handler() -> None:
    """None is missing, none is there twice, none belongs to no operation."""
    assert handlers_of().keys() == {each.name for each in OPERATIONS}
    with pytest.raises(ValueError, match="two handlers"):
        handlers_of((*MODULES, {"site": session_handlers.handle_site}))
    with pytest.raises(ValueError, match="handlers of none"):
        handlers_of((*MODULES, {"nothing": session_handlers.handle_site}))
    with pytest.raises(ValueError, match="without a handler"):
        handlers_of(MODULES[1:])


def url_of(operation: Operation) -> str:
    values = {"number": "1", "id": "0" * 32, "username": "bob", "bank": "b", "name": "a-1"}
    return operation.url.format(**values)


async def test_nobody_asks_for_anything_without_a_cookie(browser: Browser) -> None:
    """Whatever needs a role says 401, or 404 where it is not at this kind of site, and never more."""
    for operation in OPERATIONS:
        if operation.roles:
            status, problem = await browser.ask(operation.method, url_of(operation), {})
            wanted = 401 if operation.where in ("both", "bank") else 404
            assert (status, problem["status"]) == (wanted, wanted), operation.name


async def test_no_change_is_made_without_the_anti_forgery_token(site: Site, browser: Browser) -> None:
    """Missing, wrong, of another session, or from another origin: each change is refused, and each of them."""
    await browser.sign_in("ada")
    other = Browser(site, browser.http)
    await other.sign_in("alice")
    changes = [each for each in OPERATIONS if each.method != "GET" and each.where in ("both", "bank")]
    refusals: list[dict[str, str | None]] = [
        {HEADER: None},
        {HEADER: "x"},
        {HEADER: other.anti_forgery},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ]
    for operation in changes:
        if operation.roles:
            for headers in refusals:
                status, problem = await browser.ask(operation.method, url_of(operation), {}, headers=headers)
                assert (status, problem["code"]) == (403, "FT-2004"), (operation.name, headers)
    status, _ = await browser.ask("POST", "/api/session", {"token": "a.b.c"}, headers={HEADER: None})
    assert status == 403
    assert (await browser.get("/api/session"))["username"] == "ada"


async def test_the_table_says_who_may(browser: Browser) -> None:
    """A customer is refused what staff may do; the bank is not even asked."""
    await browser.sign_in("alice")
    for operation in OPERATIONS:
        if operation.roles and "customer" not in operation.roles and operation.where in ("both", "bank"):
            status, problem = await browser.ask(operation.method, url_of(operation), {})
            assert (status, problem["code"]) == (403, "FT-2004"), operation.name


async def test_another_customers_things_sound_like_what_is_not_there(world: World, browser: Browser) -> None:
    """An account of Bob's and one that nobody has: the same status and the same words."""
    await browser.sign_in("alice")
    bobs = await world.account_of("bob")
    for path in ("", "/history", "/balances", "/statement?begin=2026-01-01&end=2026-01-31"):
        told = [await browser.ask("GET", f"/api/accounts/{number}{path}") for number in (bobs, 999_999_999)]
        assert told[0] == told[1] and told[0][0] == 404


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{" * 100, {}, 422),
        (b"\xff\xfe", {}, 422),
        (b"", {"Content-Type": "application/json"}, 422),
        (b'{"name": "x"}', {"Content-Type": "text/plain"}, 422),
        (b'{"name": "x", "role": "administrator"}', {}, 422),
        (b'{"name": "' + b"x" * 70_000 + b'"}', {}, 413),
        (b'{"name": "x"}', {}, 200),
    ],
    ids=["garbage", "no text", "empty", "other type", "unknown field", "too large", "right"],
)
async def test_bodies_are_json_of_the_right_form_and_size(
    browser: Browser, body: bytes, headers: dict[str, str], status: int
) -> None:
    """Anything else is refused as a problem."""
    await browser.sign_in("alice")
    assert (await browser.ask("PUT", "/api/profile", body, headers=headers))[0] == status


async def test_a_body_that_never_ends_is_not_waited_for(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends it drop by drop is cut short."""
    monkeypatch.setattr(module, "BODY_S_MAX", 0.1)
    await browser.sign_in("alice")
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    headers = {**browser.headers(), "Host": "localhost", "Content-Type": "application/json", "Content-Length": "100"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"PUT /api/profile HTTP/1.1\r\n{lines}\r\n".encode() + b"{")
    assert b" 408 " in await reader.readline()
    writer.close()


async def test_who_has_not_spoken_is_not_waited_for(
    world: World, static: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection without a whole request is closed; so is one more than there may be."""
    monkeypatch.setattr(module, "FIRST_REQUEST_S", 0.2)
    async with paging(world, static, connections_max=1) as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        second, second_writer = await asyncio.open_connection("127.0.0.1", site.port)
        assert await second.read() == b""
        writer.write(b"GET / HTTP/1.1\r\n")
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        second_writer.close()


async def test_an_address_may_ask_so_much(world: World, static: Path) -> None:
    """Then it is told how long to wait; others go on."""
    async with paging(world, static, requests_per_s=1, proxies="127.0.0.1") as site, browsing(site) as browser:
        told = [(await browser.ask("GET", "/api/site"))[0] for _ in range(module.BURST_S + 2)]
        assert told[-1] == 429 and told[0] == 200 and int(browser.response.headers["Retry-After"]) >= 1
        others = {"X-Forwarded-For": "203.0.113.7"}
        assert (await browser.ask("GET", "/api/site", headers=others))[0] == 200


async def test_tokens_that_are_none_use_up_an_allowance(browser: Browser) -> None:
    """Guessing costs the bank a handshake each, so it may not go on for ever; who is signed in goes on."""
    claims = base64.urlsafe_b64encode(b'{"iat": 1, "exp": 4000000000}').rstrip(b"=").decode()
    guess = {"Cookie": f"{NAME}=a.{claims}.c.{'0' * 32}"}
    await browser.sign_in("alice")
    cookie, told = browser.cookie, []
    for _ in range(sessions.REFUSED_PER_MINUTE + 1):
        told.append((await browser.ask("GET", "/api/session", headers=guess))[0])
    assert (told[0], told[-1]) == (401, 429)
    browser.cookie = cookie
    assert (await browser.ask("GET", "/api/accounts"))[0] == 200


async def test_every_answer_is_fenced_in(browser: Browser) -> None:
    """Pages, answers, problems and faults have the same headers; nothing under /api is kept anywhere."""
    await browser.sign_in("alice")
    for path in ("/", "/send", "/api/site", "/api/accounts", "/api/nothing", "/nothing.js", "/api/openapi.json"):
        await browser.ask("GET", path)
        headers = browser.response.headers
        assert headers["Content-Security-Policy"] == POLICY and headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer" and headers["X-Request-Id"]
        assert {headers[f"Cross-Origin-{name}-Policy"] for name in ("Opener", "Resource")} == {"same-origin"}
        assert headers["Cache-Control"] == ("no-store" if "/api" in path or "." in path else "no-cache")
        assert "Strict-Transport-Security" not in headers and "Server" not in headers


async def test_behind_https_browsers_are_told_to_stay_there(world: World) -> None:
    """Where the origin is https, it is so for a year; and the origin that is set is the only one."""
    async with paging(world, origin="https://bank.example") as site, browsing(site) as browser:
        await browser.ask("GET", "/api/site")
        assert "max-age" in browser.response.headers["Strict-Transport-Security"]
        assert (await browser.ask("POST", "/api/session", {"token": "a.b.c"}))[0] == 403
        ours = {"Origin": "https://bank.example"}
        assert (await browser.ask("POST", "/api/session", {"token": "a.b.c"}, headers=ours))[0] == 401


async def test_pages_are_found_by_any_path_and_kept_by_their_tag(browser: Browser) -> None:
    """A path without a dot is a page of the script; what the browser has already is not sent again."""
    status, page = await browser.ask("GET", "/accounts/1000556")
    assert status == 200 and page.startswith(b"<!doctype html>")
    tag = browser.response.headers["ETag"]
    status, nothing = await browser.ask("GET", "/", headers={"If-None-Match": tag})
    assert (status, nothing) == (304, b"")
    assert (await browser.ask("POST", "/send", {}))[0] == 405
    assert browser.response.headers["Allow"] == "GET, HEAD"
    assert (await browser.ask("GET", "/missing.js"))[0] == 404


async def test_the_api_is_described_as_it_is(browser: Browser) -> None:
    """The document is the one made from the table."""
    described = await browser.get("/api/openapi.json")
    assert described == openapi(described["info"]["version"])


async def test_a_fault_is_answered_and_tells_nothing(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The page gets the request's number, under which the log has the rest; and the site goes on."""

    async def fail(call: Any) -> None:
        raise KeyError(PLANTED)

    monkeypatch.setitem(site._handlers, "site", fail)
    status, problem = await browser.ask("GET", "/api/site")
    assert status == 500 and PLANTED not in str(problem)
    assert browser.response.headers["X-Request-Id"] in problem["hint"]
    assert any(record.exc_info for record in caplog.records)
    assert (await browser.ask("GET", "/api/session"))[0] == 401


async def test_a_bank_that_fails_over_a_change_may_have_made_it(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own words are for its operator; the page repeats the id until there is a definite answer."""

    async def fail(call: Any) -> None:
        raise JournalWriteFailed(PLANTED)

    await browser.sign_in("alice")
    for name in ("open_account", "accounts"):
        monkeypatch.setitem(site._handlers, name, fail)
    id = "01" * 16
    status, problem = await browser.ask("POST", "/api/accounts", {"currency": "EUR", "id": id})
    assert (status, problem["code"], problem["facts"]) == (504, "FT-3007", {"id": id})
    status, problem = await browser.ask("GET", "/api/accounts")
    assert (status, problem["code"]) == (502, "FT-5005")
    assert PLANTED not in str(problem)


async def test_the_log_holds_no_secrets(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    """A line for each request with operation, status and time; no token, no cookie, nothing of the query."""
    caplog.set_level(logging.DEBUG, "fortress.web")
    await browser.sign_in("alice")
    await browser.ask("GET", f"/api/payees?payee={PLANTED.replace(' ', '')}&currency=EUR")
    lines = [f"{record.getMessage()} {getattr(record, 'fields', {})}" for record in caplog.records]
    assert any("'operation': 'payee'" in line and "'status'" in line for line in lines)
    token, _, random = browser.cookie.rpartition(".")
    for secret in (token, random, browser.anti_forgery, PLANTED.replace(" ", "")):
        assert secret not in "".join(lines)


async def test_what_belongs_to_gateways_is_not_at_a_bank(world: World, browser: Browser) -> None:
    """Nor the laboratory, where there is none; at a gateway it is the other way round."""
    await browser.sign_in("ada")
    for path in ("/api/admin/positions", "/api/admin/windows", "/api/lab"):
        assert (await browser.ask("GET", path))[0] == 404
    gateway = Site(replace(context_of(world), kind="gateway"), Assets(Path("/nowhere")))
    await gateway.start()
    try:
        at_gateway = browser.twin(gateway)
        assert (await at_gateway.ask("GET", "/api/accounts"))[0] == 404
        assert (await at_gateway.ask("GET", "/api/admin/positions"))[0] != 404
    finally:
        await gateway.stop()


async def test_an_address_that_is_taken_or_not_ours_is_said(world: World, site: Site) -> None:
    """At the start, in words."""
    for settings, error in (({"port": site.port}, AddressInUse), ({"host": "192.0.2.1"}, SettingInvalid)):
        other = Site(context_of(world, **settings), Assets(Path("/nowhere")))
        with pytest.raises(error):
            await other.start()
        await other.context.close()


@pytest.mark.parametrize(
    ("host", "port", "is_secure", "origins"),
    [
        ("127.0.0.1", 7680, False, {"http://localhost:7680", "http://127.0.0.1:7680", "http://[::1]:7680"}),
        ("10.0.0.1", 443, True, {"https://10.0.0.1"}),
        ("2001:db8::1", 7680, True, {"https://[2001:db8::1]:7680"}),
    ],
)
def test_without_a_setting_the_origin_is_where_it_listens(
    host: str, port: int, *, is_secure: bool, origins: set[str]
) -> None:
    """This machine has several names; others have one."""
    assert own_origins(host, port, is_secure=is_secure) == origins
