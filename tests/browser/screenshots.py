"""Pictures of every page and state: light and dark on a desk, light on a phone; `make screenshots`.

Text comes from the machine's fonts, so pictures of two machines differ.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Final

from tests.browser.browser import DESKTOP, PHONE, Theme, chromium, too_wide
from tests.browser.crowd import Crowd
from tests.browser.views import VIEWS, View
from tests.browser.world import World

LOOKS: Final[dict[str, tuple[Theme, tuple[int, int]]]] = {
    "light": ("light", DESKTOP),
    "dark": ("dark", DESKTOP),
    "phone": ("light", PHONE),
}


async def take(crowd: Crowd, view: View, folder: Path) -> list[str]:
    """Take the pictures of one page; gives what went wrong."""
    try:
        async with crowd.visitor(view.who) as visitor:
            page = await view.show(visitor, crowd.world)
            for look, (theme, (width, height)) in LOOKS.items():
                await page.emulate_media(color_scheme=theme)
                await page.set_viewport_size({"width": width, "height": height})
                path = folder / f"{view.name}-{look}.png"
                # what stands on top of a page covers the window, not the whole page
                is_whole = not await page.get_by_role("dialog").count()
                await page.screenshot(path=path, full_page=is_whole, animations="disabled")
            found = [*await too_wide(page), *visitor.complaints]
            visitor.complaints.clear()
    except Exception as error:
        found = [str(error).split("\n\n")[0]]
    return [f"{view.name}: {each}" for each in found]


async def main(folder: Path, names: list[str]) -> int:
    """Take all pictures, or those named; gives how many pages failed."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [view for view in VIEWS if not names or view.name in names]
    failures = []
    with tempfile.TemporaryDirectory(prefix="fortress-screenshots-", dir="/var/tmp") as parent:
        async with World(Path(parent)) as world, chromium() as browser:
            crowd = Crowd(browser, world)
            for _, views in groupby(wanted, key=lambda view: view.who):
                for view in views:
                    print(view.name, file=sys.stderr, flush=True)
                    failures += await take(crowd, view, folder)
    print("\n".join(failures) or f"{len(wanted)} pages are in {folder}")
    return len(failures)


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(main(Path(sys.argv[1]), sys.argv[2:])) else 0)
