"""Every page and every state of it, by name: who sees it, where, and what to do before it is as it should be looked at.

Looked at by axe-core in both themes, on the narrowest of phones, and by people: `make screenshots`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec.structs import replace
from playwright.async_api import Page, Route, expect

from fortress.web import administration as admin
from tests.browser import crowd as acts
from tests.browser.browser import Visitor
from tests.browser.world import World

Prepare = Callable[[Visitor, World], Awaitable[None]]


async def _as_it_is(visitor: Visitor, world: World) -> None:
    """The page when it has loaded."""


@dataclass(frozen=True)
class View:
    """One page in one state.

    Attributes:
        name: of its pictures.
        who: is signed in; empty: nobody.
        path: where it begins; names in braces are account numbers.
        prepare: what happens then.
        is_loading: whether it shall be seen before all has come.
    """

    name: str
    who: str
    path: str
    prepare: Prepare = _as_it_is
    is_loading: bool = False

    async def show(self, visitor: Visitor, world: World) -> Page:
        """Make the page look like that."""
        await visitor.new_tab()
        if self.prepare in BEFORE:
            await self.prepare(visitor, world)
        numbers = {name: accounts[0].number for name, accounts in world.accounts.items()}
        await visitor.go(self.path.format(**numbers))
        await expect(visitor.page.get_by_role("heading", level=1)).to_be_visible()
        if self.prepare is _slow:
            await expect(visitor.page.locator(".skeleton").first).to_have_css("opacity", "1")
        elif self.prepare is _switching:
            await expect(acts.banner(visitor.page)).to_be_visible()
        elif self.prepare not in BEFORE:
            await self.prepare(visitor, world)
        if not self.is_loading:
            await expect(visitor.page.locator("[aria-busy=true]")).to_have_count(0)
        return visitor.page


# --- what happens before a page is loaded ----------------------------------------------------------------------------
async def _never(_route: Route) -> None:
    """Let a request wait for ever."""


async def _slow(visitor: Visitor, _world: World) -> None:
    await visitor.page.route(re.compile(r"/api/(accounts|admin)"), _never)


async def _broken(visitor: Visitor, _world: World) -> None:
    problem = {"type": "about:blank", "title": "server failed", "status": 500, "detail": "something is broken"}
    more = {"code": "FT-6000", "retry": "same_id", "hint": "try again", "status_name": "", "facts": {}}

    async def fail(route: Route) -> None:
        await route.fulfill(status=500, json={**problem, **more}, content_type="application/problem+json")

    await visitor.page.route(re.compile(r"/api/(accounts|admin/users)"), fail)


async def _switching(visitor: Visitor, _world: World) -> None:
    problem = {"type": "about:blank", "title": "no primary", "status": 503, "detail": "no node is primary now"}
    more = {"code": "FT-3009", "retry": "same_id", "hint": "try again", "status_name": "", "facts": {}}

    async def fail(route: Route) -> None:
        await route.fulfill(status=503, json={**problem, **more}, content_type="application/problem+json")

    await visitor.page.route(re.compile(r"/api/(accounts|stream|payments)"), fail)


async def _month(visitor: Visitor, _world: World) -> None:
    """Balances of thirty days; the world is only some seconds old."""
    points = [{"day": f"2026-06-{day:02}", "balance": str(1_000_00 - day * 17_31 % 400_00)} for day in range(1, 31)]

    async def answer(route: Route) -> None:
        await route.fulfill(json={"currency": "EUR", "points": points})

    await visitor.page.route("**/api/accounts/*/balances**", answer)


NOON = datetime(2026, 6, 30, 12, tzinfo=UTC)


UNHEARD = admin.Node("192.0.2.14:7611", "", "", "silent", 0, 0, 0, 0, 0, 0, 0, 0.0, "", None, None, 0)


def _node(name: str, days: float | None) -> admin.Node:
    """A node whose last backup is so many days old; None: there is none."""
    heard = replace(UNHEARD, node=name, address=name, state="ok", version="1", position=71_204, seen=NOON.isoformat())
    if days is None:
        return heard
    return replace(heard, backup=(NOON - timedelta(days=days)).isoformat(), backup_position=71_204 - int(days * 1000))


def _backups(*nodes: admin.Node) -> Prepare:
    """Nodes that say this of their backups."""
    cluster = msgspec.json.encode(admin.Cluster("", "ok", "", list(nodes), NOON.isoformat()))

    async def answer(route: Route) -> None:
        await route.fulfill(body=b"event: cluster\ndata: %b\n\n" % cluster, content_type="text/event-stream")

    async def prepare(visitor: Visitor, _world: World) -> None:
        await visitor.page.route("**/api/admin/stream", answer)

    return prepare


_backups_told = _backups(_node("node-1", 0.13), _node("node-2", 9.4), _node("node-3", None), UNHEARD)
_backups_old = _backups(_node("node-1", 2.1), _node("node-2", None))
BEFORE = (_slow, _broken, _switching, _month, _backups_told, _backups_old)


# --- what happens on it ----------------------------------------------------------------------------------------------
async def _wrong_password(visitor: Visitor, _world: World) -> None:
    await acts.try_to_sign_in(visitor.page, "nobody-here", "walnut-violet-harbor")
    await expect(visitor.page.get_by_role("alert")).to_be_visible()


async def _incomplete(visitor: Visitor, _world: World) -> None:
    await visitor.page.get_by_role("main").get_by_role("button", name="Become a customer").click()
    await expect(visitor.page.get_by_text("Type the invitation code.")).to_be_visible()


async def _unknown_payee(visitor: Visitor, _world: World) -> None:
    await visitor.page.get_by_label("To", exact=True).fill("nobody-here")
    await visitor.page.get_by_role("button", name="Find payee").click()
    await expect(visitor.page.get_by_text('knows nobody called "nobody-here"')).to_be_visible()


async def _payee_found(visitor: Visitor, _world: World) -> None:
    await visitor.page.get_by_label("To", exact=True).fill("b/hugo")
    await visitor.page.get_by_role("button", name="Find payee").click()
    await expect(visitor.page.get_by_text("Hugo Example")).to_be_visible()


async def _how_much(visitor: Visitor, world: World) -> None:
    await _payee_found(visitor, world)
    await visitor.page.get_by_role("button", name="Continue").click()
    await visitor.page.get_by_label("Amount").fill("0,001")
    await visitor.page.get_by_role("button", name="Continue").click()


async def _to_check(visitor: Visitor, _world: World) -> None:
    await acts.prepare_payment(visitor.page, "b/hugo", "12.50", "Concert tickets")


async def _paid(visitor: Visitor, _world: World) -> None:
    await acts.send(visitor.page, "b/hugo", "0.50", "Postage")
    await acts.outcome(visitor.page, "Done")
    await expect(visitor.page.get_by_text("The proof holds")).to_be_visible()


async def _refused(visitor: Visitor, _world: World) -> None:
    await acts.send(visitor.page, "alice", "5000", "Too much")
    await acts.outcome(visitor.page, "Refused")


async def _unanswered(visitor: Visitor, _world: World) -> None:
    button = await acts.prepare_payment(visitor.page, "bob", "0.10", "Nobody answers")
    await visitor.page.route("**/api/payments**", lambda route: route.abort("connectionreset"))
    await button.click()
    await acts.outcome(visitor.page, "We do not know yet")


async def _in_progress(visitor: Visitor, world: World) -> None:
    await _unanswered(visitor, world)
    await visitor.go("/")
    await acts.home_shown(visitor.page)
    await expect(visitor.page.get_by_role("region", name="In progress")).to_be_visible()


async def _password_form(visitor: Visitor, _world: World) -> None:
    await visitor.page.get_by_role("button", name="Change password").click()
    await expect(visitor.page.get_by_label("Present password")).to_be_visible()


async def _banner(visitor: Visitor, _world: World) -> None:
    await expect(acts.banner(visitor.page)).to_be_visible()


async def _banner_over_home(visitor: Visitor, world: World) -> None:
    await acts.home_shown(visitor.page)
    await _switching(visitor, world)
    await visitor.page.get_by_role("link", name="Statements").click()
    await _banner(visitor, world)


async def _month_as_table(visitor: Visitor, world: World) -> None:
    await _month(visitor, world)
    await visitor.page.reload()
    await visitor.page.get_by_role("button", name="Show as table").click()
    await expect(visitor.page.get_by_role("table").first).to_be_visible()


def _clicked(*buttons: str) -> Prepare:
    async def click(visitor: Visitor, _world: World) -> None:
        for name in buttons:
            await visitor.page.get_by_role("main").get_by_role("button", name=name, exact=True).first.click()
        await expect(visitor.page.get_by_role("dialog")).to_be_visible()

    return click


async def _asked(visitor: Visitor, world: World) -> None:
    number = world.accounts["bob"][0].number
    if await visitor.page.get_by_role("article").filter(has_text=str(number)).count():
        return
    await visitor.go(f"/admin/accounts/{number}")
    await acts.in_dialog(visitor.page, "Change limits", "Ask for these limits", {"For a day (EUR)": "5000"})
    await visitor.go("/admin/approvals")
    await expect(visitor.page.get_by_role("article").filter(has_text=str(number))).to_be_visible()


VIEWS = (
    View("sign-in", "", "/"),
    View("sign-in-wrong", "", "/", _wrong_password),
    View("register", "", "/register"),
    View("register-incomplete", "", "/register", _incomplete),
    View("home", "alice", "/"),
    View("home-curve", "alice", "/", _month),
    View("home-curve-as-table", "alice", "/", _month_as_table),
    View("home-loading", "alice", "/", _slow, is_loading=True),
    View("home-broken", "alice", "/", _broken),
    View("home-switching", "alice", "/", _switching, is_loading=True),
    View("home-without-account", "lena", "/"),
    View("banner", "alice", "/", _banner_over_home, is_loading=True),
    View("send-who", "alice", "/send"),
    View("send-unknown-payee", "alice", "/send", _unknown_payee),
    View("send-payee", "alice", "/send", _payee_found),
    View("send-how-much", "alice", "/send", _how_much),
    View("send-check", "alice", "/send", _to_check),
    View("payment-done", "alice", "/send", _paid),
    View("payment-refused", "carol", "/send", _refused),
    View("payment-unknown", "emil", "/send", _unanswered, is_loading=True),
    View("in-progress", "dora", "/send", _in_progress, is_loading=True),
    View("activity", "alice", "/activity"),
    View("activity-empty", "nora", "/activity"),
    View("activity-filter", "alice", "/activity", _clicked("Filter")),
    View("account", "alice", "/accounts/{alice}"),
    View("account-of-others", "alice", "/accounts/{bob}"),
    View("account-new", "alice", "/accounts/new"),
    View("statements", "alice", "/statements"),
    View("notifications", "alice", "/notifications"),
    View("settings", "alice", "/settings"),
    View("settings-password", "alice", "/settings", _password_form),
    View("not-found", "alice", "/no/such/page"),
    View("not-for-customers", "alice", "/admin"),
    View("admin-overview", "ada", "/admin"),
    View("admin-customers", "ada", "/admin/customers"),
    View("admin-customers-broken", "ada", "/admin/customers", _broken),
    View("admin-create", "ada", "/admin/customers", _clicked("Create by hand")),
    View("admin-invite", "ada", "/admin/customers", _clicked("Invite somebody")),
    View("admin-customer", "ada", "/admin/customers/alice"),
    View("admin-erase", "ada", "/admin/customers/alice", _clicked("Erase")),
    View("admin-accounts", "ada", "/admin/accounts"),
    View("admin-account", "ada", "/admin/accounts/{alice}"),
    View("admin-limits", "ada", "/admin/accounts/{alice}", _clicked("Change limits")),
    View("admin-freeze", "ada", "/admin/accounts/{alice}", _clicked("Freeze")),
    View("admin-approvals", "ada", "/admin/approvals", _asked),
    View("admin-approvals-other", "grace", "/admin/approvals"),
    View("admin-doubts", "ada", "/admin/doubts"),
    View("admin-books", "ada", "/admin/books"),
    View("admin-trail", "ada", "/admin/trail"),
    View("admin-backups", "ada", "/admin/backups", _backups_told),
    View("admin-backups-old", "ada", "/admin/backups", _backups_old),
    View("admin-backups-none", "ada", "/admin/backups"),
    View("admin-backups-loading", "ada", "/admin/backups", _slow, is_loading=True),
    View("admin-events", "ada", "/admin/events"),
    View("laboratory", "ada", "/admin/lab"),
    View("teller-cash", "tom", "/admin/cash"),
    View("auditor-overview", "odo", "/admin"),
    View("gateway-overview", "gus", "/admin"),
    View("gateway-banks", "gus", "/admin/banks"),
    View("gateway-windows", "gus", "/admin/windows"),
    View("gateway-window", "gus", "/admin/windows/0"),
)
