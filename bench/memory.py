"""Memory: what a thousand idle sessions and a million accounts weigh.

``idle_sessions_mb``: the whole node process, resident, with so many clients signed in on connections of their own that
say nothing. ``million_accounts_mb``: the whole node process of a bank with so many accounts, after transfers between
accounts drawn from all of them for some time. Both include the program itself, about ``empty_mb``.
"""

from __future__ import annotations

import argparse
import asyncio

import uvloop

from bench import report
from bench.bank import ACCOUNTS_PER_CUSTOMER, BANK_ID, Bank, Plan, username_of
from bench.load import sign_in
from bench.measurement import WARM_UP_S, add_options, at_least, check_books, run, run_load, wait_caught_up
from fortress.client.link import Link, open_link
from fortress.client.trust import Trust

SETTLE_S = 1.0
SETTLE_ROUNDS = 3
SMALL_ACCOUNTS = 10_000
CLIENTS, OUTSTANDING = 32, 16


def measure(options: argparse.Namespace) -> report.Result:
    """Weigh both nodes and give the result."""
    with Bank(Plan(SMALL_ACCOUNTS), parent=options.folder) as bank:
        empty_mb = bank.resident_mb()
        report.progress(f"{options.sessions} sessions")
        idle_mb = uvloop.run(_weigh_sessions(bank, options.sessions))
        check_books(bank)
    report.progress(f"opening {options.accounts} accounts")
    with Bank(Plan(options.accounts), parent=options.folder) as bank:
        loaded = run_load(
            bank,
            workload="transfers",
            seconds=options.seconds,
            clients=CLIENTS,
            outstanding=OUTSTANDING,
            warm_up=options.warm_up,
        )
        wait_caught_up(bank)
        accounts_mb, peak_mb = bank.resident_mb(), bank.peak_mb()
        check_books(bank)
    return {
        "idle_sessions_mb": round(idle_mb, 1),
        "million_accounts_mb": round(accounts_mb, 1),
        "million_accounts_peak_mb": round(peak_mb, 1),
        "empty_mb": round(empty_mb, 1),
        "per_session_kb": round((idle_mb - empty_mb) * 1000 / options.sessions, 1),
        "sessions": options.sessions,
        "accounts": options.accounts,
        "accounts_touched": touched(options.accounts, 2 * loaded.done_ever),
        "transfers": loaded.done_ever,
    }


def touched(accounts: int, draws: int) -> int:
    """Tell how many different accounts so many draws find, on average."""
    return round(accounts * (1 - (1 - 1 / accounts) ** draws))


async def _weigh_sessions(bank: Bank, sessions: int) -> float:
    trust = Trust(bank.ca)
    links: list[Link] = []
    try:
        for index in range(sessions):
            link = await open_link(("127.0.0.1", bank.port), BANK_ID, trust, timeout_s=30)
            links.append(link)
            await sign_in(link, username_of(index * ACCOUNTS_PER_CUSTOMER % SMALL_ACCOUNTS))
        # What they weigh when they came is not what they weigh a moment later; the larger counts.
        weights_mb = []
        for _ in range(SETTLE_ROUNDS):
            weights_mb.append(bank.resident_mb())
            await asyncio.sleep(SETTLE_S)
        if not all(link.is_usable for link in links):
            raise RuntimeError("the node ended idle sessions while they were weighed")
    finally:
        for link in links:
            await link.close()
    return max(weights_mb)


def options_parser() -> argparse.ArgumentParser:
    """Make the parser of this bench's options."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--sessions", type=at_least(1), default=1_000, metavar="N", help="idle ones (1000)")
    add_options(parser, accounts=1_000_000, seconds=20, warm_up=WARM_UP_S)
    return parser


if __name__ == "__main__":
    run("memory", measure, options_parser())
