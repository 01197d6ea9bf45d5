"""Debian's Chromium as tests use it: who visits, what goes over the wire, what the browser complains of.

async with chromium() as browser, Visitor(browser, site) as visitor:
    await visitor.go("/")
...                                  # ends with an error if a page complained of anything
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    StorageState,
    WebSocket,
    async_playwright,
    expect,
)

EXECUTABLE: Final = Path("/usr/bin/chromium")
ARGUMENTS: Final = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --force-prefers-reduced-motion"
).split()
AXE: Final = Path(__file__).resolve().parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
RULES: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
COLOUR_RULES: Final = ("color-contrast", "link-in-text-block")
WAIT_MS_MAX: Final = 30_000
DESKTOP: Final = (1280, 800)
PHONE: Final = (390, 844)
SMALLEST: Final = (320, 640)
EXPECTED: Final = (
    "Failed to load resource: the server responded with a status of",
    "Failed to load resource: net::ERR_",
)
"""What Chromium says of each answer that is an error; such answers are looked at by the tests themselves."""

TELL_OF_VIOLATIONS: Final = """
addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy violated: ${event.effectiveDirective} by ${event.blockedURI} at ${event.sourceFile}`);
});
"""
STORAGE: Final = """
async () => {
  const databases = (await indexedDB.databases()).map((each) => each.name);
  const caches_ = await caches.keys();
  return JSON.stringify([{ ...localStorage }, { ...sessionStorage }, databases, caches_, document.cookie, name]);
}
"""
TOO_WIDE: Final = """
() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const all = [...document.querySelectorAll("body *")];
  const wide = all.filter((each) => each.getBoundingClientRect().right > width + 1);
  const shown = wide.slice(0, 8).map((each) => each.outerHTML.slice(0, 120));
  return [`${document.documentElement.scrollWidth} px`, ...shown];
}
"""

SETTLED: Final = """
async () => {
  const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
  await frame();
  const ending = document.getAnimations().filter((each) => each.effect.getTiming().iterations < 9);
  await Promise.allSettled(ending.map((each) => each.finished));
  await frame();
}
"""
"""Waits for what fades from one colour to another; what turns for ever is not waited for."""

Theme = Literal["light", "dark"]
expect.set_options(timeout=WAIT_MS_MAX)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run the browser."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=EXECUTABLE, args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Traffic:
    """All that pages and their workers sent and were sent.

    Attributes:
        sent: addresses, headers and bodies of requests, and frames of sockets, as text.
        received: headers and bodies of answers, and frames.
        moves: frames of sockets, in order: direction (``>`` sent, ``<`` received) and what was said.
        paid: bodies of orders to pay, in order.
    """

    sent: list[str] = field(default_factory=list)
    received: list[str] = field(default_factory=list)
    moves: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    paid: list[dict[str, Any]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Everything."""
        return "\n".join([*self.sent, *self.received])

    def hear(self, direction: str, frame: str | bytes) -> None:
        """Keep a frame of a socket."""
        text = frame if isinstance(frame, str) else frame.decode("latin-1")
        (self.sent if direction == ">" else self.received).append(text)
        self.moves.append((direction, json.loads(text)))


class Visitor:
    """Somebody with a browser of their own: cookies, tabs, and what was recorded.

    Args:
        browser: shared.
        site: address of the pages.
        theme: that the system prefers.
        size: of the window.
        state: cookies and storage to begin with.

    Attributes:
        page: the first tab.
        traffic: what went over the wire, in all tabs.
        complaints: violations of the policy, errors on the console or thrown, requests to others.
    """

    def __init__(
        self,
        browser: Browser,
        site: str,
        *,
        theme: Theme = "light",
        size: tuple[int, int] = DESKTOP,
        state: StorageState | None = None,
    ) -> None:
        self._browser = browser
        self._options: dict[str, Any] = {
            "base_url": site,
            "color_scheme": theme,
            "viewport": dict(zip(("width", "height"), size, strict=True)),
            "locale": "en-GB",
            "timezone_id": "UTC",
            "reduced_motion": "reduce",
            "storage_state": state,
        }
        self.site = site
        self.traffic = Traffic()
        self.complaints: list[str] = []
        self.context: BrowserContext
        self.page: Page

    async def __aenter__(self) -> Self:
        self.context = await self._browser.new_context(**self._options)
        self.context.set_default_timeout(WAIT_MS_MAX)
        await self.context.add_init_script(TELL_OF_VIOLATIONS)
        self.context.on("console", self._on_console)
        self.context.on("weberror", lambda error: self.complaints.append(f"thrown: {error.error}"))
        self.context.on("request", self._on_request)
        self.context.on("requestfinished", self._on_finished)
        self.context.on("page", lambda page: page.on("websocket", self._on_socket))
        self.page = await self.context.new_page()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for page in self.context.pages:
            await page.unroute_all(behavior="ignoreErrors")
        await self.context.close()
        if kind is None:
            assert self.complaints == []

    async def go(self, path: str) -> Page:
        """Open a path of the site in the first tab."""
        await self.page.goto(path)
        return self.page

    async def new_tab(self) -> None:
        """Go on in a new tab; the first one is closed, with all that was only in it."""
        old, self.page = self.page, await self.context.new_page()
        await old.unroute_all(behavior="ignoreErrors")
        await old.close()

    async def storage(self) -> str:
        """Give all that the page keeps, as text."""
        text: str = await self.page.evaluate(STORAGE)
        return text

    # --- recording ---------------------------------------------------------------------------------------------------

    def _on_console(self, message: ConsoleMessage) -> None:
        self.traffic.received.append(message.text)
        if message.type in ("error", "warning") and not message.text.startswith(EXPECTED):
            self.complaints.append(f"{message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        body = request.post_data or ""
        self.traffic.sent.append(f"{request.method} {request.url} {request.headers} {body}")
        if request.method == "POST" and urlsplit(request.url).path == "/api/payments":
            self.traffic.paid.append(json.loads(body))
        if not request.url.startswith((self.site, "data:")):
            self.complaints.append(f"asked somebody else: {request.url}")

    async def _on_finished(self, request: Request) -> None:
        answer = request.existing_response
        if answer is not None:
            self.traffic.received.append(f"{answer.status} {answer.url} {answer.headers}")

    def _on_socket(self, socket: WebSocket) -> None:
        self.traffic.sent.append(socket.url)
        socket.on("framesent", lambda frame: self.traffic.hear(">", frame))
        socket.on("framereceived", lambda frame: self.traffic.hear("<", frame))


async def barriers(page: Page, *, only_colours: bool = False) -> list[str]:
    """Let axe-core look for what keeps people out; what is found, each with where it is."""
    if not AXE.exists():
        raise RuntimeError(f"{AXE} is missing; run: npm --prefix web ci")
    await page.evaluate(SETTLED)
    await page.evaluate(AXE.read_text("utf-8"))
    options = {"runOnly": list(COLOUR_RULES if only_colours else RULES), "resultTypes": ["violations"]}
    found = await page.evaluate("(options) => axe.run(document, options)", options)
    return [
        f"{page.url}: {rule['id']} ({rule['help']}): {node['html'][:200]} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


async def too_wide(page: Page) -> Sequence[str]:
    """Tell what makes the page scroll sideways, if anything does."""
    found: list[str] = await page.evaluate(TOO_WIDE)
    return [f"{page.url}: {each}" for each in found]
