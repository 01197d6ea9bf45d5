"""Streams: what open pages weigh.

So many customers are signed in at one process of ``fortress web``, each with a page open that waits for events. Weighed
is the whole process, resident, after a heartbeat has gone to all; ``empty_mb`` is the same process before anybody came.
At the end everybody is paid once, and each stream must tell of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from bench import report
from bench.bank import ACCOUNTS_PER_CUSTOMER, BANK_ID, CURRENCY, Bank, Plan, numbers_of, username_of
from bench.load import sign_in
from bench.measurement import at_least, check_books, run
from fortress.client.link import open_link
from fortress.client.trust import Trust
from fortress.protocol.money import Transfer
from fortress.server.bank import new_id

HEARTBEAT_S = 16.0
EVENT_S_MAX = 60.0


def measure(options: argparse.Namespace) -> report.Result:
    """Weigh the process and give the result."""
    streams: int = options.streams
    with Bank(Plan(streams * ACCOUNTS_PER_CUSTOMER), parent=options.folder) as bank:
        with _pages(bank.folder) as told:
            empty_mb = _resident_mb(told["pid"])
            report.progress(f"{streams} streams")
            resident_mb = uvloop.run(_weigh(bank, told, streams))
        check_books(bank)
    return {
        "resident_mb": round(resident_mb, 1),
        "empty_mb": round(empty_mb, 1),
        "per_stream_kb": round((resident_mb - empty_mb) * 1000 / streams, 1),
        "streams": streams,
    }


@contextmanager
def _pages(folder: Path) -> Iterator[dict[str, Any]]:
    """Run the pages of a node's folder in a process of their own."""
    command = [sys.executable, "-m", "fortress", "web", str(folder), "--json", "--stop-at-eof", "--set", "web.port=0"]
    pipe, environment = subprocess.PIPE, {**os.environ, "FORTRESS_LOG__LEVEL": "error"}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        assert process.stdout is not None and process.stdin is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()


def _resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("the pages have ended")


async def _weigh(bank: Bank, told: dict[str, Any], streams: int) -> float:
    url = f"http://{told['address']}"
    trust = Trust(bank.ca)
    async with AsyncExitStack() as opened:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        http = aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        await opened.enter_async_context(http)
        pages = []
        for index in range(streams):
            link = await open_link(("127.0.0.1", bank.port), BANK_ID, trust, timeout_s=30)
            token = (await sign_in(link, username_of(index * ACCOUNTS_PER_CUSTOMER))).token
            await link.close()
            pages.append(await opened.enter_async_context(await _open_page(http, url, token)))
        await asyncio.sleep(HEARTBEAT_S)
        resident_mb = _resident_mb(told["pid"])
        payer = await open_link(("127.0.0.1", bank.port), BANK_ID, trust, timeout_s=30)
        opened.push_async_callback(payer.close)
        await sign_in(payer, username_of(0))
        numbers = numbers_of(streams * ACCOUNTS_PER_CUSTOMER)
        for index in range(streams):
            credit = numbers[index * ACCOUNTS_PER_CUSTOMER]
            await payer.request("transfer", Transfer(new_id(), numbers[1], credit, 1, CURRENCY), 30.0)
        await asyncio.gather(*(_wait_entry(page) for page in pages))
        return max(resident_mb, _resident_mb(told["pid"]))


async def _open_page(http: aiohttp.ClientSession, url: str, token: str) -> aiohttp.ClientResponse:
    """Sign in as a page does, and open its stream."""
    headers = {"X-Fortress-Anti-Forgery": "none"}
    async with http.post(f"{url}/api/session", json={"token": token}, headers=headers) as answer:
        answer.raise_for_status()
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
    stream = await http.get(f"{url}/api/stream", headers={"Cookie": cookie})
    stream.raise_for_status()
    return stream


async def _wait_entry(page: aiohttp.ClientResponse) -> None:
    async with asyncio.timeout(EVENT_S_MAX):
        while b"event: entry" not in (line := await page.content.readline()):
            if not line:
                raise RuntimeError("a stream ended before it told of its entry")


def options_parser() -> argparse.ArgumentParser:
    """Make the parser of this bench's options."""
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description=__doc__)
    parser.add_argument("--streams", type=at_least(1), default=200, metavar="N", help="open pages (200)")
    return parser


if __name__ == "__main__":
    run("streams", measure, options_parser())
