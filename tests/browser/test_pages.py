"""The pages of customers and administrators in a real browser, against real banks, by role and name only.

Whatever a test does, it fails when a page broke its content security policy, threw an error, complained on the console
or asked anybody but its own site.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from playwright.async_api import Route, expect

from fortress.cli.pairs import NODES
from fortress.client.money import Money
from fortress.server.backup_note import BackupNote, write_note
from tests.browser import crowd as acts
from tests.browser.browser import Visitor
from tests.browser.crowd import Crowd, Visit
from tests.browser.secrecy import found_in, public_of, secrets_of, work_of
from tests.browser.world import CURRENCY, LOCKOUT_FAILURES, World, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

WRONG = "walnut-violet-harbor-nobody"
PAY = "**/api/payments"


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def sleeper(crowd: Crowd) -> AsyncIterator[Visitor]:
    """Somebody who signs in where sessions are short, before all tests, and does nothing until the last one."""
    async with crowd.visitor("ines") as visitor:
        await visitor.go("/")
        await acts.home_shown(visitor.page)
        yield visitor


async def received(world: World, username: str, reference: str) -> list[int]:
    """Ask the bank itself: the amounts that were booked for somebody under a reference."""
    async with world.session(username) as me:
        page = await me.history_page(world.accounts[username][0].number)
        rows = [row for row in page.rows if row.reference == reference and row.balance_minor is not None]
        return [row.amount_minor for row in rows]


def ids(visitor: Visitor) -> set[str]:
    """Give the ids of all orders that were sent; the same id always with the same order."""
    orders = {json.dumps(order, sort_keys=True) for order in visitor.traffic.paid}
    found = {order["id"] for order in visitor.traffic.paid}
    assert len(orders) == len(found)
    return found


# --- Signing in ------------------------------------------------------------------------------------------------------
async def test_signing_in_leads_to_ones_accounts(world: World, visit: Visit) -> None:
    """Password, proof, cookie, home: the balances are there, and the cookie is out of reach of scripts."""
    visitor = await visit()
    await acts.sign_in(visitor, world.people["alice"])
    for number in world.accounts["alice"]:
        await expect(acts.card(visitor.page, number.number)).to_be_visible()
    (cookie,) = await visitor.context.cookies()
    told = {name: cookie[name] for name in ("name", "path", "httpOnly", "secure", "sameSite")}
    assert told == {"name": "__Host-fortress-a", "path": "/", "httpOnly": True, "secure": True, "sameSite": "Strict"}


async def test_a_wrong_password_and_an_unknown_name_look_and_cost_the_same(visit: Visit) -> None:
    """Both take the same steps of the same size, derive a key at the same cost, and end with the same words."""
    told, work = [], []
    for username in ("alice", "nobody-here"):
        visitor = await visit()
        page = await visitor.go("/")
        await acts.try_to_sign_in(page, username, WRONG)
        told.append(await page.get_by_role("alert").inner_text())
        work.append(work_of(visitor.traffic.moves))
    assert told[0] == told[1] != ""
    assert work[0] == work[1]
    assert [kind for _, kind, *_ in work[0][:3]] == ["login_begin", "challenge", "login_finish"]


async def test_who_fails_too_often_is_locked_out(world: World, visit: Visit) -> None:
    """After so many wrong passwords even the right one is refused, and the page says so."""
    lena = world.people["lena"]
    visitor = await visit()
    page = await visitor.go("/")
    for count in range(1, LOCKOUT_FAILURES + 1):
        await acts.try_to_sign_in(page, lena.username, WRONG)
        await until(lambda count=count: acts.ceremonies_over(visitor, count))
    await acts.try_to_sign_in(page, lena.username, lena.password)
    await expect(page.get_by_role("alert").filter(has_text=re.compile("locked", re.IGNORECASE))).to_be_visible()


async def test_any_process_of_the_pages_serves_any_session(world: World, visit: Visit) -> None:
    """Signed in at one process, one goes on at the other, pays there, and signs out for both."""
    here = await visit()
    await acts.sign_in(here, world.people["emil"])
    there = await visit(at="a-2", state=await here.context.storage_state())
    await acts.send(there.page, "dora", "1.50", "by the other process")
    await acts.outcome(there.page, "Done")
    await there.page.get_by_role("button", name="Sign out").click()
    await expect(there.page.get_by_role("button", name="Sign in")).to_be_visible()
    await here.page.reload()
    await expect(here.page.get_by_role("button", name="Sign in")).to_be_visible()


# --- Paying ----------------------------------------------------------------------------------------------------------
async def test_money_sent_arrives(world: World, visit: Visit) -> None:
    """The bank tells whose account it is; three steps later the payment is done, and can be proved."""
    page = (await visit("alice")).page
    await acts.send(page, "bob", "12.50", "Lunch", name="Bob Example")
    await acts.outcome(page, "Done")
    assert await received(world, "bob", "Lunch") == [12_50]


async def test_a_refusal_says_why(world: World, visit: Visit) -> None:
    """The page tells the rule that the bank applied, and nothing was paid."""
    page = (await visit("carol")).page
    await acts.send(page, "alice", "5000", "too much")
    await acts.outcome(page, "Refused")
    await expect(page.get_by_role("main")).to_contain_text("over what is available")
    assert await received(world, "alice", "too much") == []


async def test_money_goes_to_another_bank(world: World, visit: Visit) -> None:
    """The other bank tells the name; the page shows each step at both banks and the gateway."""
    page = (await visit("alice")).page
    await acts.send(page, "b/hugo", "20", "across", name="Hugo Example")
    await acts.outcome(page, "Done")
    await until(lambda: received(world, "hugo", "across"))
    assert await received(world, "hugo", "across") == [20_00]


@pytest.mark.parametrize("is_done", [False, True], ids=["before the bank has it", "after the bank did it"])
async def test_a_primary_killed_between_click_and_answer_pays_once(world: World, visit: Visit, is_done: bool) -> None:
    """The page says that the bank is switching, asks again with the same order, and the bank does it once."""
    reference = f"killed {is_done}"
    alice = await visit("alice")
    button = await acts.prepare_payment(alice.page, "dora", "3", reference)
    await world.wait_paired()
    async with AsyncExitStack() as stack:

        async def kill(route: Route) -> None:
            if is_done:
                await route.fetch()
            await stack.enter_async_context(world.without_primary())
            await (route.abort("connectionreset") if is_done else route.continue_())

        await alice.page.route(PAY, kill, times=1)
        await button.click()
        await expect(acts.banner(alice.page)).to_be_visible()
    await expect(acts.banner(alice.page)).to_be_hidden()
    await acts.outcome(alice.page, "Done")
    assert len(ids(alice)) == 1
    assert await received(world, "dora", reference) == [3_00]


async def test_a_reload_while_sending_keeps_the_id(world: World, visit: Visit) -> None:
    """The order is kept before it is sent, so the page goes on with it."""
    alice = await visit("alice")
    button = await acts.prepare_payment(alice.page, "bob", "4", "reloaded")
    under_way = asyncio.Event()

    async def never(_route: Route) -> None:
        under_way.set()

    await alice.page.route(PAY, never, times=1)
    await button.click()
    await under_way.wait()
    await alice.page.reload()
    await acts.outcome(alice.page, "Done")
    assert len(alice.traffic.paid) >= 2 and len(ids(alice)) == 1
    assert await received(world, "bob", "reloaded") == [4_00]


async def test_a_double_click_pays_once(world: World, visit: Visit) -> None:
    """However fast the clicks come."""
    alice = await visit("alice")
    button = await acts.prepare_payment(alice.page, "bob", "5", "doubled")
    await button.dblclick()
    await acts.outcome(alice.page, "Done")
    assert len(ids(alice)) == 1
    assert await received(world, "bob", "doubled") == [5_00]


async def test_two_tabs_do_not_disturb_each_other(world: World, visit: Visit) -> None:
    """Two payments made ready side by side are two payments; each tab tells of its own."""
    alice = await visit("alice")
    tabs = [alice.page, await alice.context.new_page()]
    buttons = [await acts.prepare_payment(tab, "bob", str(6 + n), f"tab {n}") for n, tab in enumerate(tabs)]
    for button in buttons:
        await button.click()
    for n, tab in enumerate(tabs):
        await acts.outcome(tab, "Done")
        await expect(tab.get_by_role("main")).to_contain_text(f"€{6 + n}.00")
    assert len(ids(alice)) == 2
    assert [await received(world, "bob", f"tab {n}") for n in (0, 1)] == [[6_00], [7_00]]


async def test_a_payment_needs_no_mouse(world: World, visit: Visit) -> None:
    """Keys alone lead from the home page to a payment that is done, and the focus is seen at each step."""
    page = (await visit("alice")).page
    await page.goto("/")
    await acts.home_shown(page)
    await acts.press(page, page.get_by_role("link", name="Send money").last)
    await acts.tab_to(page, page.get_by_label("To", exact=True))
    await page.keyboard.type("bob")
    await page.keyboard.press("Enter")
    await acts.press(page, page.get_by_role("button", name="Continue"))
    await acts.tab_to(page, page.get_by_label("Amount"))
    await page.keyboard.type("8")
    await acts.tab_to(page, page.get_by_label("Reference"))
    await page.keyboard.type("by keys")
    await acts.press(page, page.get_by_role("button", name="Continue"))
    await acts.press(page, page.get_by_role("button", name=re.compile(r"^Send \D")))
    await acts.outcome(page, "Done")
    assert await received(world, "bob", "by keys") == [8_00]


async def test_news_come_without_a_reload(world: World, visit: Visit) -> None:
    """Money that arrives is on an open page a moment later."""
    page = (await visit("dora")).page
    await page.goto("/")
    await acts.home_shown(page)
    await page.evaluate("() => { window.opened = true }")
    async with world.session("bob") as bob:
        await bob.transfer(world.accounts["bob"][0].number, world.accounts["dora"][0].number, Money(77, CURRENCY))
    await expect(page.get_by_role("main").get_by_text("+€0.77")).to_be_visible()
    assert await page.evaluate("() => window.opened")


# --- Administrators --------------------------------------------------------------------------------------------------
async def test_a_customer_and_an_account_are_made_and_frozen(world: World, visit: Visit) -> None:
    """By hand, with a first password that the page makes; the new customer signs in and sees the account frozen."""
    page = (await visit("ada")).page
    await page.goto("/admin/customers")
    dialog = await acts.in_dialog(
        page, "Create by hand", "Create customer", {"Username": "nina", "Name": "Nina Example"}
    )
    password = await dialog.get_by_role("code").first.inner_text()
    await acts.close_dialog(page)
    await page.get_by_role("link", name="Nina Example").click()
    dialog = await acts.in_dialog(page, "Open an account", "Open the account")
    number = int(re.search(r"Account (\d+) is open", await dialog.inner_text()).group(1))
    await acts.close_dialog(page)
    await page.goto(f"/admin/accounts/{number}")
    await acts.in_dialog(page, "Freeze", "Freeze the account")
    await acts.close_dialog(page)
    async with world.session("ada") as ada:
        assert (await ada.account(number)).state == "frozen"
    nina = await visit()
    await acts.try_to_sign_in(await nina.go("/"), "nina", password)
    await acts.home_shown(nina.page)
    await expect(acts.card(nina.page, number)).to_contain_text("Frozen")


async def test_limits_change_when_a_second_administrator_approves(world: World, visit: Visit) -> None:
    """One asks, nothing happens; who asked cannot approve; another approves, and it is done."""
    number = world.accounts["dora"][0].number
    ada, grace = await visit("ada"), await visit("grace")
    await ada.go(f"/admin/accounts/{number}")
    await acts.in_dialog(ada.page, "Change limits", "Ask for these limits", {"For a day (EUR)": "321.50"})
    await expect(ada.page.get_by_role("dialog")).to_contain_text("Nothing is changed yet")
    await ada.go("/admin/approvals")
    mine = ada.page.get_by_role("article").filter(has_text=str(number))
    await expect(mine).to_contain_text("You asked for this")
    await expect(mine.get_by_role("button", name="Approve")).to_have_count(0)
    await grace.go("/admin/approvals")
    asked = grace.page.get_by_role("article").filter(has_text=str(number))
    await asked.get_by_role("button", name="Approve").click()
    await grace.page.get_by_role("dialog").get_by_role("button", name="Approve").click()
    await expect(grace.page.get_by_role("dialog")).to_contain_text("approved and done")
    async with world.session("ada") as me:
        assert (await me.account(number)).limit_day_minor == 321_50
    await ada.go(f"/admin/accounts/{number}")
    await expect(ada.page.get_by_role("main")).to_contain_text("€321.50")


async def test_a_backup_made_on_a_nodes_machine_is_shown(world: World, visit: Visit) -> None:
    """Without one the page says how to make it; a moment after its note lies in the node's folder it is there."""
    page = (await visit("ada")).page
    await page.goto("/admin/backups")
    block = page.get_by_role("region", name="Last backup of each node")
    await expect(block).to_contain_text("fortress backup create FOLDER --to BACKUPS")
    note = BackupNote(time.time_ns() // 1000, lsn=1, position=1, size_bytes=1, name="a.backup")
    await asyncio.to_thread(write_note, world.a.folders[0], note)
    row = block.get_by_role("row").filter(has_text=NODES[0])
    await expect(row).to_contain_text("Backed up")
    await expect(row.get_by_role("cell")).to_contain_text(["just now", "1", "entries", "Backed up"])
    await expect(block.get_by_role("row").filter(has_text=NODES[1])).to_contain_text("No backup yet")


# --- Secrets ---------------------------------------------------------------------------------------------------------
async def test_no_password_or_key_leaves_the_page(world: World, visit: Visit) -> None:
    """Signing in, paying and a new password: in no request, frame, answer, address, storage or console.

    The public key is in what was recorded, in the move that tells a new key: the record would show the others too.
    """
    emil, new = world.people["emil"], "anchor-basil-copper-thunder"
    visitor = await visit()
    await acts.sign_in(visitor, emil)
    await acts.send(visitor.page, "dora", "1", "secretly")
    await acts.outcome(visitor.page, "Done")
    await visitor.go("/settings")
    await acts.change_password(visitor.page, emil.password, new)
    moves = visitor.traffic.moves
    fresh = next(said["key"] for direction, said in moves if said["type"] == "change_key")
    asked = next(said for direction, said in moves if said["type"] == "challenge")
    old_secrets, new_secrets = secrets_of(emil.password, asked), secrets_of(new, fresh)
    kept = await visitor.storage()
    addresses = await visitor.page.evaluate("() => JSON.stringify(performance.getEntries())")
    for text in (visitor.traffic.text, kept, addresses, visitor.page.url):
        assert found_in(text, old_secrets) == found_in(text, new_secrets) == []
    assert public_of(new_secrets) in visitor.traffic.text


# --- The end of a session --------------------------------------------------------------------------------------------
async def test_a_session_ends_by_itself(sleeper: Visitor) -> None:
    """Who does nothing is signed out in time; the page says why, and shows nothing of theirs any more."""
    page = sleeper.page
    await expect(page.get_by_role("button", name="Sign in")).to_be_visible(timeout=45_000)
    await expect(page.get_by_role("main")).to_contain_text("session has ended")
    await expect(page.get_by_role("main")).not_to_contain_text("€")
