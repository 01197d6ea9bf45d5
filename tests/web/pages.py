"""The pages of a real bank in this process, and a browser that speaks to them by hand."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from fortress.client import credentials
from fortress.client.client import Client, connect
from fortress.client.credentials import LoginKey
from fortress.config import WebSettings
from fortress.protocol import schnorr
from fortress.protocol.schnorr import KdfParameters
from fortress.web.assets import Assets
from fortress.web.call import Context
from fortress.web.cookies import HEADER, name_of
from fortress.web.site import Site
from tests.server.banks import BANK, World, filled_folder, seed_of, serving

DEADLINE_S = 20.0
INDEX = "<!doctype html><title>Fortress</title>"

NAME = name_of(BANK)


def context_of(world: World, **settings: Any) -> Context:
    """The context of one process before that bank."""
    address = f"fortress://127.0.0.1:{world.process.server.port}/{BANK}"
    ca = (world.folder / "certs" / "ca.crt").read_bytes()

    def to_bank(agent: str = "") -> Client:
        return connect(address, ca=ca, agent=agent, timeout_s=2.0, deadline_s=5.0)

    return Context(bank=BANK, kind="bank", settings=WebSettings(**{"port": 0, **settings}), connect=to_bank)


@asynccontextmanager
async def banking(folder: Path, **flags: str) -> AsyncIterator[World]:
    """A bank with people, on a copy of its folder."""
    if not folder.exists():
        shutil.copytree(filled_folder(), folder)
    async with serving(folder, **flags) as world:
        yield world


@asynccontextmanager
async def paging(world: World, static: Path | None = None, **settings: Any) -> AsyncIterator[Site]:
    """Serve the pages of a bank."""
    site = Site(context_of(world, **settings), Assets(static or Path("/nowhere")))
    await site.start()
    try:
        yield site
    finally:
        await site.stop()


class Browser:
    """One browser: its cookie, and what it sends with each request.

    Attributes:
        cookie: the value of the session's cookie; empty if there is none.
        anti_forgery: as the last session told.
    """

    def __init__(self, site: Site, http: aiohttp.ClientSession) -> None:
        self.site = site
        self.http = http
        self.cookie = ""
        self.anti_forgery = "none"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.site.port}"

    def headers(self, more: Mapping[str, str | None] | None = None) -> dict[str, str]:
        own = {"Origin": self.url, HEADER: self.anti_forgery, "User-Agent": "Browser/1"}
        if self.cookie:
            own["Cookie"] = f"{NAME}={self.cookie}"
        return {name: value for name, value in {**own, **(more or {})}.items() if value is not None}

    async def ask(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str | None] | None = None
    ) -> tuple[int, Any]:
        """Send a request; give the status and what was said."""
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        sent = self.headers(headers)
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self.http.request(method, self.url + path, data=data, headers=sent) as response:
            self.response = response
            for cookie in response.headers.getall("Set-Cookie", []):
                name, _, value = cookie.partition(";")[0].partition("=")
                assert name == NAME and "Secure" in cookie and "HttpOnly" in cookie and "SameSite=Strict" in cookie
                self.cookie = value
            text = await response.read()
            return response.status, json.loads(text) if "json" in response.content_type else text

    async def get(self, path: str, **more: Any) -> Any:
        """Ask for something that is there."""
        status, said = await self.ask("GET", path, **more)
        assert status == 200, said
        return said

    @asynccontextmanager
    async def ceremony(self, **headers: str) -> AsyncIterator[Ceremony]:
        async with self.http.ws_connect(f"{self.url}/api/ceremony", headers=self.headers(headers)) as socket:
            yield Ceremony(socket)

    async def prove(self, username: str, seed: bytes = b"") -> dict[str, Any]:
        """Make all moves of a login; give the ticket or the problem."""
        key = LoginKey(seed or seed_of(username))
        async with self.ceremony() as ceremony:
            channel = await ceremony.hear()
            if channel["type"] != "channel":
                return channel
            r, commitment = credentials.commit()
            challenge = await ceremony.ask(type="login_begin", username=username, commitment=commitment.hex())
            if challenge["type"] != "challenge":
                return challenge
            return await ceremony.ask(
                type="login_finish", proof=ceremony.proof(key, username, r, commitment, challenge["nonce"])
            )

    async def sign_in(self, username: str, seed: bytes = b"") -> dict[str, Any]:
        """Sign in; give the session."""
        ticket = await self.prove(username, seed)
        assert ticket["type"] == "ticket", ticket
        return await self.exchange(ticket)

    async def exchange(self, ticket: Mapping[str, Any]) -> dict[str, Any]:
        """Get the cookie for a ticket."""
        status, session = await self.ask("POST", "/api/session", {"token": ticket["token"]})
        assert status == 200, session
        self.anti_forgery = session["anti_forgery"]
        return dict(session)

    def twin(self, site: Site) -> Browser:
        """The same browser, led to another process by the load balancer; cookies are taken over both ways by hand."""
        other = Browser(site, self.http)
        other.cookie, other.anti_forgery = self.cookie, self.anti_forgery
        return other


class Ceremony:
    """One ceremony, as a page holds it.

    Attributes:
        channel: the handshake hash, once it was told.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.channel = b""

    async def hear(self) -> dict[str, Any]:
        """Wait for the next message; ``{"type": "end"}`` if there is none."""
        async with asyncio.timeout(DEADLINE_S):
            message = await self.socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            return {"type": "end"}
        said: dict[str, Any] = json.loads(message.data)
        if said["type"] == "channel":
            self.channel = bytes.fromhex(said["channel"])
        return said

    async def ask(self, **move: Any) -> dict[str, Any]:
        """Make a move and give the answer."""
        await self.socket.send_str(json.dumps(move))
        return await self.hear()

    def proof(self, key: LoginKey, username: str, r: bytes, commitment: bytes, nonce: str) -> str:
        """Answer a challenge on this channel."""
        c = schnorr.challenge(self.channel, BANK, username, key.public, commitment, bytes.fromhex(nonce))
        return key.prove(r, c).hex()

    def material(self, seed: bytes, username: str) -> dict[str, Any]:
        """Describe a new key, proven on this channel."""
        kdf = KdfParameters(0, 0, 0)
        made = credentials.key_material(
            LoginKey(seed), bytes(16), kdf, channel=self.channel, bank=BANK, username=username
        )
        return {
            name: value.hex() if isinstance(value, bytes) else value
            for name in made.__struct_fields__
            for value in [getattr(made, name)]
        }


@asynccontextmanager
async def browsing(site: Site) -> AsyncIterator[Browser]:
    """A browser before these pages."""
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield Browser(site, http)


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for a condition, turn by turn of the loop, a bounded time."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"did not happen: {what}"
        await asyncio.sleep(0.005)
