"""Pages: how long from the click on "Sign in" to one's accounts, and how much does a browser load for the first page?

Debian's Chromium signs a customer in again and again, each time with an empty cache and no session, where the bank is
a pair with its witness on the same machine. A sign-in counts from the click until the balance can be read: the key is
derived by Argon2id in the browser, the proof makes its three moves, the home page loads. The first load is what goes
over the wire for the page on which one signs in, without the worker: it is fetched while one types.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from bench import report
from bench.measurement import at_least, run

# the same pages, people and ways to find things as in the tests
from tests.browser.browser import Visitor, chromium
from tests.browser.crowd import fill_in_login, home_shown
from tests.browser.world import World

CUSTOMER = "alice"
LOADED = """
() => performance.getEntries()
  .filter((each) => ["navigation", "resource"].includes(each.entryType) && /\\.(js|css)$|\\/$/.test(each.name))
  .filter((each) => !each.name.includes("/api/") && !each.name.endsWith("/worker.js"))
  .map((each) => [each.name, each.encodedBodySize])
"""


def measure(options: argparse.Namespace) -> report.Result:
    """Sign in so many times and give the result."""
    return asyncio.run(_measure(int(options.times), options.folder))


async def _measure(times: int, parent: Path) -> report.Result:
    report.progress("starting banks and pages")
    took_s: list[float] = []
    with tempfile.TemporaryDirectory(prefix="fortress-bench-pages-", dir=parent) as folder:
        async with World(Path(folder)) as world, chromium() as browser:
            person = world.people[CUSTOMER]
            for done in range(times):
                report.progress(f"{done} of {times} sign-ins")
                async with Visitor(browser, world.sites[person.bank]) as visitor:
                    page = await visitor.go("/")
                    await fill_in_login(page, person.username, person.password)
                    loaded = dict(await page.evaluate(LOADED))
                    began_s = time.monotonic()
                    await page.get_by_role("button", name="Sign in").click()
                    await home_shown(page)
                    took_s.append(time.monotonic() - began_s)
    return {
        "sign_in_to_home_s": round(statistics.median(took_s), 3),
        "sign_in_to_home_max_s": round(max(took_s), 3),
        "first_load_gzip_bytes": sum(loaded.values()),
        "times": times,
    }


def options_parser() -> argparse.ArgumentParser:
    """Make the parser of this bench's options."""
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__)
    parser.add_argument("--times", type=at_least(1), default=10, metavar="N", help="how many sign-ins (10)")
    return parser


if __name__ == "__main__":
    run("pages", measure, options_parser())
