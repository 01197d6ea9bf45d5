"""Payments between banks: how many a second, how long one takes, and what share of lone transfers that is.

Two banks and the gateway between them, each a pair with its witness, all on this machine; every payment goes from a
customer of one bank to a customer of the other, half of them each way. Before and after that, in the same run, lone
transfers within one of the banks are measured, and the ratio is to their mean. What a payment costs is told as well:
the processor time of all processes together, load client included.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import report
from bench.bank import CURRENCY, Plan, free_port
from bench.measurement import (
    CAUGHT_UP_S_MAX,
    LOAD_S_MAX,
    Loaded,
    add_options,
    administrating,
    books_problems,
    loaded_by,
    run,
    run_load,
    trial_balance,
)
from bench.pair import PairedBank
from fortress.cli.gateways import connect_bank, gateway_of
from fortress.client.ids import new_id
from fortress.protocol.accounts import AccountsAnswer, ListAccounts
from fortress.protocol.switching import AddBank, BanksAnswer, ListBanks, ListPositions, PositionsAnswer

CAP_MINOR: Final = 10**12
SETTLED_S_MAX: Final = 60.0
POLL_S: Final = 0.1
PAGE_ROWS: Final = 500


@dataclass(frozen=True, slots=True)
class System:
    """Two banks and the gateway between them, running."""

    a: PairedBank
    b: PairedBank
    gateway: PairedBank

    @property
    def all(self) -> tuple[PairedBank, PairedBank, PairedBank]:
        """The three pairs."""
        return self.a, self.b, self.gateway

    def cpu_s(self) -> dict[str, float]:
        """Tell the processor time of each process so far, in seconds, by bank and role."""
        return {f"{each.plan.bank}_{role}": s for each in self.all for role, s in each.all_cpu_s().items()}


@contextmanager
def running(accounts: int, folder: Path | None) -> Iterator[System]:
    """Make two banks and a gateway, run them, and delete them afterwards."""
    switch = {"switch.listen": f"127.0.0.1:{free_port()}"}
    plans = [Plan(accounts, bank="a"), Plan(accounts, bank="b"), Plan(0, bank="gateway", settings=switch)]
    with ExitStack() as made:
        pairs = []
        for plan in plans:
            report.progress(f"making {plan.bank}")
            pair = PairedBank(plan, parent=folder)
            made.callback(pair.delete)
            pairs.append(pair)
        system = System(*pairs)
        gateway = gateway_of([system.gateway.folder, system.gateway.second])
        for bank in (system.a, system.b):
            connect_bank([bank.folder, bank.second], gateway)
        with ExitStack() as started:
            for pair in pairs:
                report.progress(f"starting {pair.plan.bank}")
                started.enter_context(pair)
            report.progress("connecting both banks to the gateway")
            asyncio.run(_introduce(system))
            yield system


async def _introduce(system: System) -> None:
    """Let both banks into the gateway, and wait until they are connected."""
    async with administrating(system.gateway) as link:
        for bank in (system.a, system.b):
            pem = bank.ca.read_text("ascii")
            request = AddBank(new_id(), bank.plan.bank, CURRENCY, CAP_MINOR, pem)
            await link.request("add_bank", request, LOAD_S_MAX)
        deadline = time.monotonic() + SETTLED_S_MAX
        while True:
            answer: BanksAnswer = await link.request("banks", ListBanks(), LOAD_S_MAX)
            if sum(view.is_connected for view in answer.banks) == 2:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"the banks did not connect to the gateway:\n{system.a.log()}")
            await asyncio.sleep(POLL_S)


def measure(options: argparse.Namespace) -> report.Result:
    """Pay across both banks as the options say and give the result."""
    with running(options.accounts, options.folder) as system:
        before = _transfers(system.a, options)
        cpu_before_s = system.cpu_s()
        paid = _payments(system, options)
        cpu_s = {name: cpu_s - cpu_before_s[name] for name, cpu_s in system.cpu_s().items()}
        after = _transfers(system.a, options)
        check_system(system)
    lone_per_s = (before.per_s + after.per_s) / 2
    costs_us = {name: s / max(paid.done_ever, 1) * 1e6 for name, s in cpu_s.items() if "witness" not in name}
    nodes_us = sum(cpu_s.values()) / max(paid.done_ever, 1) * 1e6
    names = ("clients", "outstanding", "seconds", "accounts")
    return {
        "payments_per_s": paid.per_s,
        "ratio_to_lone": round(paid.per_s / lone_per_s, 3) if lone_per_s else 0.0,
        **paid.facts(),
        "lone_per_s": round(lone_per_s, 1),
        "cpu_us": round(nodes_us + paid.client_cpu_us, 1),
        **{f"{name}_cpu_us": round(us, 1) for name, us in costs_us.items()},
        **{name: getattr(options, name) for name in names},
    }


def _transfers(bank: PairedBank, options: argparse.Namespace) -> Loaded:
    return run_load(
        bank,
        workload="transfers",
        seconds=options.seconds / 2,
        clients=options.clients,
        outstanding=options.outstanding,
        warm_up=options.warm_up,
    )


def _payments(system: System, options: argparse.Namespace) -> Loaded:
    shape = f"{options.clients} clients with {options.outstanding} outstanding each"
    report.progress(f"payments: {shape}, {options.warm_up + options.seconds:g} s")
    sides = {bank.plan.bank: f"{bank.plan.bank}:{bank.port}:{bank.ca}" for bank in (system.a, system.b)}
    arguments = {
        **sides,
        "accounts": options.accounts,
        "clients": options.clients,
        "outstanding": options.outstanding,
        "seconds": options.seconds,
        "warm-up": options.warm_up,
    }
    return loaded_by("bench.crossing", arguments, LOAD_S_MAX + options.warm_up + options.seconds)


def check_system(system: System) -> None:
    """Add up all books, and compare both banks with the gateway, once nothing is under way any more.

    Raises:
        RuntimeError: money was made or lost, is still on hold, or a bank and the gateway disagree.
    """
    deadline = time.monotonic() + CAUGHT_UP_S_MAX
    while problems := asyncio.run(_problems(system)):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the books are not as they should be after the run: {problems}")
        time.sleep(POLL_S)


async def _problems(system: System) -> list[str]:
    found: list[str] = []
    for pair in system.all:
        # what it keeps for itself: cash and settlement, at the gateway the positions of both banks too
        own = 4 if pair.plan.is_gateway else 2
        problems = books_problems(await trial_balance(pair), pair.plan.accounts + own)
        found += [f"{pair.plan.bank}: {problem}" for problem in problems]
    async with administrating(system.gateway) as link:
        answer: PositionsAnswer = await link.request("positions", ListPositions(), LOAD_S_MAX)
    positions = {view.bank: view.position_minor for view in answer.positions}
    for bank in (system.a, system.b):
        settlement = await _settlement(bank)
        if settlement + positions[bank.plan.bank]:
            found.append(f"{bank.plan.bank} has {settlement}, and the gateway {positions[bank.plan.bank]}")
    return found


async def _settlement(bank: PairedBank) -> int:
    """Read what a bank's settlement account holds, in minor units."""
    async with administrating(bank) as link:
        after = 0
        while True:
            page: AccountsAnswer = await link.request("list_accounts", ListAccounts("", True, after, PAGE_ROWS), 30)
            for view in page.accounts:
                if view.kind == "settlement":
                    return view.balance_minor
            after = page.next_after
            if not after:
                raise RuntimeError("the bank has no settlement account")


def options_parser() -> argparse.ArgumentParser:
    """Make the parser of this bench's options."""
    parser = argparse.ArgumentParser(prog="python -m bench.payments", description=__doc__)
    add_options(parser, clients=32, outstanding=1, seconds=10)
    return parser


if __name__ == "__main__":
    run("payments", measure, options_parser())
