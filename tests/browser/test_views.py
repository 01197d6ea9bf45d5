"""Every page in every state, looked at by axe-core in both themes, and on the narrowest of phones."""

from __future__ import annotations

import pytest

from tests.browser.browser import DESKTOP, SMALLEST, Visitor, barriers, too_wide
from tests.browser.crowd import Visit
from tests.browser.views import VIEWS
from tests.browser.world import World

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


async def looked_at(visitor: Visitor) -> list[str]:
    """Find what keeps people out of the page that is shown."""
    page = visitor.page
    found = await barriers(page)
    await page.emulate_media(color_scheme="dark")
    found += await barriers(page, only_colours=True)
    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size({"width": SMALLEST[0], "height": SMALLEST[1]})
    found += await too_wide(page)
    await page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
    return found


@pytest.mark.parametrize("who", dict.fromkeys(view.who for view in VIEWS), ids=lambda who: who or "nobody")
async def test_no_page_keeps_anybody_out(world: World, visit: Visit, who: str) -> None:
    """Nothing for axe-core to find by WCAG 2.2 AA, light or dark, and nothing to scroll sideways at 320 pixels."""
    visitor = await visit(who)
    found = []
    for view in [each for each in VIEWS if each.who == who]:
        await view.show(visitor, world)
        found += [f"{view.name}: {each}" for each in await looked_at(visitor)]
    assert not found, "\n".join(found)


async def test_what_is_looked_for_would_be_found(visit: Visit) -> None:
    """A picture without words, grey on grey, something too wide, a style in a page, somebody else's script."""
    visitor = await visit()
    page = await visitor.go("/")
    await page.evaluate(
        """() => {
          const main = document.querySelector("main");
          main.append(document.createElement("img"));
          main.append(Object.assign(document.createElement("p"), { textContent: "hard to read" }));
          main.lastChild.style.color = "#777";
          main.lastChild.style.background = "#666";
          main.append(document.createElement("div"));
          main.lastChild.style.width = "2000px";
          main.lastChild.style.height = "1px";
        }"""
    )
    found = "\n".join(await looked_at(visitor))
    assert "image-alt" in found and "color-contrast" in found and "2000" in found
    await page.evaluate(
        "() => document.head.append(Object.assign(document.createElement('style'), { textContent: 'p{}' }))"
    )
    await page.evaluate(
        """() => new Promise((resolve) => {
          const foreign = { src: "https://other.example/", onerror: resolve };
          document.head.append(Object.assign(document.createElement("script"), foreign));
        })"""
    )
    complaints = "\n".join(visitor.complaints)
    assert "style-src" in complaints and "script-src" in complaints
    visitor.complaints.clear()
