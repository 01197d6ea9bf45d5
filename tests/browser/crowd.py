"""People in front of the pages: signed in once each, and what they do there, found by role and name as people find it.

async with crowd.visitor("alice") as visitor:
    await send(visitor.page, payee="bob", amount="12.50")
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Protocol

from playwright.async_api import Browser, Locator, Page, StorageState, expect

from fortress.cli.population import Person
from tests.browser.browser import DESKTOP, Theme, Visitor
from tests.browser.world import World

TABS_MAX: Final = 60
UNSEEN_FOCUS: Final = """
() => {
  const element = document.activeElement;
  if (!element || element === document.body) return "";
  const looks = [element, element.parentElement].map((each) => getComputedStyle(each));
  const isSeen = looks.some((look) => look.outlineStyle !== "none" || look.boxShadow !== "none");
  return isSeen ? "" : element.outerHTML.slice(0, 200);
}
"""


class Visit(Protocol):
    """Lets somebody come, as :meth:`Crowd.visitor` does, until the end of the test."""

    async def __call__(
        self,
        username: str = "",
        *,
        at: str = "",
        theme: Theme = "light",
        size: tuple[int, int] = DESKTOP,
        state: StorageState | None = None,
    ) -> Visitor: ...


class Crowd:
    """Everybody who visits; whoever was signed in once is so in each later visit, as long as the session lives.

    Args:
        browser: shared.
        world: where they live.
    """

    def __init__(self, browser: Browser, world: World) -> None:
        self.browser = browser
        self.world = world
        self._states: dict[str, StorageState] = {}

    @asynccontextmanager
    async def visitor(
        self,
        username: str = "",
        *,
        at: str = "",
        theme: Theme = "light",
        size: tuple[int, int] = DESKTOP,
        state: StorageState | None = None,
    ) -> AsyncIterator[Visitor]:
        """Let somebody come, at the pages of their bank.

        Args:
            username: who; nobody is signed in without.
            at: other pages, by the name of the site.
            theme: that the system prefers.
            size: of the window.
            state: cookies and storage to begin with, instead of those of ``username``.
        """
        person = self.world.people.get(username)
        site = self.world.sites[at or (person.bank if person else "a")]
        if person and username not in self._states:
            self._states[username] = await self._signed_in(person)
        state = state or self._states.get(username)
        async with Visitor(self.browser, site, theme=theme, size=size, state=state) as visitor:
            yield visitor

    async def _signed_in(self, person: Person) -> StorageState:
        async with Visitor(self.browser, self.world.sites[person.bank]) as visitor:
            await sign_in(visitor, person)
            return await visitor.context.storage_state()


async def fill_in_login(page: Page, username: str, password: str) -> None:
    """Fill in the form of the first page."""
    await page.get_by_label("Username").fill(username)
    await page.get_by_label("Password", exact=True).fill(password)


async def try_to_sign_in(page: Page, username: str, password: str) -> None:
    """Fill in the form and send it."""
    await fill_in_login(page, username, password)
    await page.get_by_role("button", name="Sign in").click()


async def sign_in(visitor: Visitor, person: Person) -> None:
    """Sign in and wait for the home page, of customers or of staff."""
    page = await visitor.go("/")
    await try_to_sign_in(page, person.username, person.password)
    if person.role == "customer":
        await home_shown(page)
    else:
        await expect(page.get_by_role("navigation", name="Administration")).to_be_visible()


async def home_shown(page: Page) -> None:
    """Wait until one's accounts can be read."""
    await expect(page.get_by_role("heading", name="Your accounts")).to_be_visible()


async def prepare_payment(page: Page, payee: str, amount: str, reference: str = "", *, name: str = "") -> Locator:
    """Go through the steps up to the last one; gives the button that sends.

    Args:
        payee: as one types it.
        amount: likewise.
        name: that the payee's bank must tell.
    """
    await page.goto("/send")
    await page.get_by_label("To", exact=True).fill(payee)
    await page.get_by_role("button", name="Find payee").click()
    found = page.get_by_role("group", name="Payee, as told by their bank")
    await expect(found).to_contain_text(name or "account belongs to")
    await page.get_by_role("button", name="Continue").click()
    await page.get_by_label("Amount").fill(amount)
    await page.get_by_label("Reference").fill(reference)
    await page.get_by_role("button", name="Continue").click()
    button = page.get_by_role("button", name=re.compile(r"^Send \D"))
    await expect(button).to_be_visible()
    return button


async def send(page: Page, payee: str, amount: str, reference: str = "", *, name: str = "") -> None:
    """Send money; what becomes of it is not waited for."""
    await (await prepare_payment(page, payee, amount, reference, name=name)).click()


async def outcome(page: Page, word: str) -> None:
    """Wait until the page of a payment says this of it."""
    await expect(page.get_by_role("region", name="Where it stands")).to_contain_text(word)


def grouped(number: int) -> str:
    """Write an account number as the pages do, whatever kind of space they put between."""
    return f"{number:,}".replace(",", " ")


def card(page: Page, number: int) -> Locator:
    """Find what the home page says of an account."""
    return page.get_by_role("article").filter(has_text=grouped(number))


def banner(page: Page) -> Locator:
    """Find the words that stand above all pages while the bank is switching."""
    return page.get_by_role("paragraph").filter(has_text=re.compile(r"switching to its standby\. Shown: \d"))


async def ceremonies_over(visitor: Visitor, count: int) -> bool:
    """Tell whether so many ceremonies have ended with an error."""
    return sum(said["type"] == "problem" for _, said in visitor.traffic.moves) >= count


async def tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until something has the focus, which must be seen wherever it comes by.

    Raises:
        AssertionError: it never comes there, or somewhere on the way it cannot be seen.
    """
    for _ in range(TABS_MAX):
        if await wanted.evaluate("(element) => element === document.activeElement"):
            return
        await page.keyboard.press("Tab")
        hidden = await page.evaluate(UNSEEN_FOCUS)
        assert not hidden, f"the focus is not seen on {hidden}"
    raise AssertionError(f"no way leads to {wanted}")


async def press(page: Page, wanted: Locator) -> None:
    """Go to a link or button and press it, by keys."""
    await expect(wanted).to_be_visible()
    await tab_to(page, wanted)
    await page.keyboard.press("Enter")


async def change_password(page: Page, old: str, new: str) -> None:
    """Change one's password, under Settings."""
    await page.get_by_role("button", name="Change password").click()
    await page.get_by_label("Present password").fill(old)
    await page.get_by_label("New password", exact=True).fill(new)
    await page.get_by_label("New password again").fill(new)
    await page.get_by_role("button", name="Change password").click()
    await expect(page.get_by_role("list", name="Messages")).to_contain_text("Your password is changed")


async def in_dialog(page: Page, button: str, act: str, fields: Mapping[str, str] | None = None) -> Locator:
    """Open a dialog by its button, fill it in, do what it is for; gives the dialog, which says what became of it."""
    await page.get_by_role("button", name=button, exact=True).click()
    dialog = page.get_by_role("dialog")
    for label, text in (fields or {}).items():
        await dialog.get_by_label(label, exact=True).fill(text)
    await dialog.get_by_role("button", name=act, exact=True).click()
    await expect(dialog.get_by_role("status").first).to_be_visible()
    return dialog


async def close_dialog(page: Page) -> None:
    """Close the dialog that is open."""
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Close").last.click()
    await expect(dialog).to_be_hidden()
