"""Kill banks and their gateway at every named point of a payment's way, under load, and prove that all money is right.

``python -m tests.fault.payment_kill --runs 100 --seed 7`` runs it; progress goes to stderr, one JSON line ends it. With
``--pairs`` each of the three is a pair: the primary is killed, and first the standby has to go on.

Two banks and a gateway, each a process of its own, and 32 customers who pay each other both ways, repeating each
payment with its id until the answer is definite. In each run one party is made to end by SIGKILL at a point
(:mod:`.points`: before and after each message and each record), in some runs two or all three of them. Then they are
started again, and

- every payment becomes definite: done, refused, or given up with "nothing was paid";
- nobody lists a payment in doubt any more, and the trial balances are zero;
- the windows of the gateway agree with both banks' books;
- a bank's settlement account holds what its position at the gateway says, to the cent.

Every few runs, and at the end, all are stopped in order, ``fortress audit verify`` must pass on all three folders, and
the journals are read: what was told as done stands in all three with one sequence, everything else in none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.bank import CURRENCY
from fortress.gateway.participant import attempt_id
from fortress.ledger import entries as codec
from fortress.ledger.model import NEVER_US, AccountKind
from fortress.ledger.records import FIRST_LSN
from fortress.protocol.accounts import ListAccounts
from fortress.protocol.administration import TrialBalance
from fortress.protocol.payments import ListPayments
from fortress.protocol.switching import GetWindow, ListPositions
from tests.e2e.node import run_cli
from tests.fault.clearing import BANKS, GATEWAY, PARTIES, REQUEST_S, Clearing, Party
from tests.fault.journals import read_both
from tests.fault.kill import journal_entries, open_journal
from tests.fault.payers import Payer, Payment, outage_s
from tests.fault.points import BANK_POINTS, GATEWAY_POINTS

PAYERS: Final = 32
AUDIT_EVERY: Final = 20
OTHERS_S_MAX: Final = 1.0
DOWN_S_MAX: Final = 0.5
DEFINITE_S_MAX: Final = 60.0
QUIET_S_MAX: Final = 40.0
MORE_DONE: Final = 40
Place = tuple[str, str]
"""A party, and a point there."""


class Broken(AssertionError):
    """A promise was not kept."""


@dataclass(slots=True)
class Report:
    """What came of it; ``faults`` is empty if every promise was kept."""

    seed: int
    is_paired: bool = False
    runs: int = 0
    kills: int = 0
    places: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    further_attempts: int = 0
    comparisons: int = 0
    audits: int = 0
    entries_read: int = 0
    lost: int = 0
    doubled: int = 0
    outages_s: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Give the report as one JSON object."""
        whole = {name: getattr(self, name) for name in self.__dataclass_fields__}
        whole["outages_s"] = {kind: [round(each, 3) for each in found] for kind, found in self.outages_s.items()}
        return {**whole, "seconds": round(self.seconds, 1), "passed": not self.faults}

    def row(self) -> dict[str, Any]:
        """Give it as a line for :mod:`tests.fault.table`: all points of a party are one kind of fault there."""
        faults: Counter[str] = Counter()
        outages_s: dict[str, list[float]] = {}
        for place, count in self.places.items():
            party = place.partition(" ")[0]
            kind = f"payments: {party} killed at a point" + (", pairs" if self.is_paired else "")
            faults[kind] += count
            outages_s.setdefault(kind, []).extend(self.outages_s[place])
        return {
            "acknowledged": self.told["done"],
            "refused": self.told["refused"],
            "unknown": self.told["unfinished"],
            "lost": self.lost,
            "doubled": self.doubled,
            "reads": self.comparisons,
            "looks": 0,
            "faults": faults,
            "outages_s": outages_s,
        }


# --- what stands in the journals --------------------------------------------------------------------------------------
@dataclass(slots=True)
class Books:
    """What one party's journal says of payments.

    Attributes:
        placed: ids whose hold was placed.
        ended: ids whose hold was posted or voided, with how often.
        posted: id -> (sequence, position, debit, credit, amount).
    """

    placed: set[bytes] = field(default_factory=set)
    ended: Counter[bytes] = field(default_factory=Counter)
    posted: dict[bytes, tuple[int, int, int, int, int]] = field(default_factory=dict)
    read_from: int = FIRST_LSN

    def read(self, folder: Path) -> int:
        """Read what was written since the last time; tell how many entries that was."""
        count = 0
        for position, entry in journal_entries(folder, self.read_from):
            count += 1
            self._note(position, entry)
        with open_journal(folder) as journal:
            self.read_from = journal.last.lsn + 1 if journal.last else FIRST_LSN
        return count

    def _note(self, position: int, entry: Any) -> None:
        if isinstance(entry, codec.HoldPlaced) and entry.expires_us == NEVER_US:
            self.placed.add(entry.id)
        elif isinstance(entry, codec.HoldReleased):
            self.ended[entry.id] += 1
        elif isinstance(entry, codec.Posted) and entry.counterparty:
            self.ended[entry.id] += 1
            sequence = entry.gateway_sequence or position
            self.posted[entry.id] = (sequence, position, entry.debit, entry.credit, entry.amount)


def check(payments: Sequence[Payment], books: dict[str, Books], report: Report) -> list[str]:
    """Hold what customers were told against the journals of all three; give what is wrong, in sentences."""
    wrong: list[str] = []
    known: set[bytes] = set()
    for payment in payments:
        ids = attempts_of(payment.id, books[payment.bank])
        known.update(ids)
        report.further_attempts += max(0, len(ids) - 1)
        wrong += _check_payment(payment, ids, books, report)
    gateway = books[GATEWAY]
    for name, each in books.items():
        open_ids = each.placed - set(each.ended)
        doubled = [id.hex() for id, count in each.ended.items() if count > 1]
        report.doubled += len(doubled)
        wrong += [f"{name}: {len(open_ids)} payments are open: {[id.hex() for id in open_ids][:3]}"] if open_ids else []
        wrong += [f"{name}: ended more than once: {doubled[:3]}"] if doubled else []
        if set(each.posted) != set(gateway.posted):
            wrong.append(f"{name} and the gateway paid different payments: {set(each.posted) ^ set(gateway.posted)}")
        if invented := set(each.posted) - known:
            wrong.append(f"{name} paid what nobody ordered: {[id.hex() for id in invented][:3]}")
    return wrong


def attempts_of(payment: bytes, books: Books) -> list[bytes]:
    """Give the ids of a payment's attempts that were placed."""
    ids: list[bytes] = []
    while (id := attempt_id(payment, len(ids))) in books.placed:
        ids.append(id)
    return ids


def _check_payment(payment: Payment, ids: Sequence[bytes], books: dict[str, Books], report: Report) -> list[str]:
    stands = {name: [id for id in ids if id in each.posted] for name, each in books.items()}
    what = f"{payment.id.hex()} ({payment.bank} to {payment.payee}, told {payment.told})"
    if payment.outcome != "done":
        paid = [name for name, found in stands.items() if found]
        return [f"{what} was {payment.outcome or 'never definite'} and paid at {paid}"] if paid else []
    assert payment.answer is not None
    if any(len(found) != 1 for found in stands.values()):
        report.lost += any(not found for found in stands.values())
        report.doubled += any(len(found) > 1 for found in stands.values())
        return [f"{what} was told as done and stands {stands}"]
    rows = {name: books[name].posted[found[0]] for name, found in stands.items()}
    sequences = {row[0] for row in rows.values()} | {payment.answer.gateway_sequence}
    other, _, credit = payment.payee.partition("/")
    wanted = payment.answer.position, payment.debit
    wrong = [f"{what} has the sequences {sequences}"] if len(sequences) > 1 else []
    wrong += [f"{what} moved other amounts: {rows}"] if {row[4] for row in rows.values()} != {payment.amount} else []
    if rows[payment.bank][1:3] != wanted or rows[other][3] != int(credit):
        wrong.append(f"{what} stands as {rows}, and not as told")
    return wrong


# --- the runs ---------------------------------------------------------------------------------------------------------
class KillRuns:
    """Two banks, a gateway, and their customers.

    Args:
        parent: an empty folder, on a real disk.
        seed: decides points, moments and payments; the processes' own timing is not repeatable.
        places: where to kill in the first runs; those of the others are drawn, all before any comes again.
        is_paired: whether each of the three is a pair.
    """

    def __init__(self, parent: Path, seed: int, places: Sequence[Place] = (), *, is_paired: bool = False) -> None:
        self.report = Report(seed, is_paired)
        self.clearing = Clearing(parent, is_paired=is_paired)
        self._chance = random.Random(seed)
        self._seed = seed
        self._places = list(places)
        self._only = bool(places)
        self._books = {name: Books() for name in PARTIES}
        self._payers: list[Payer] = []

    async def run(self, runs: int, on_progress: Callable[[Report], object] = lambda report: None) -> Report:
        """Kill so many times and look at everything.

        Raises:
            Broken: a promise was not kept; the report says which.
        """
        began_s = time.monotonic()
        try:
            await self._start()
            await self.clearing.admit()
            self._payers = [
                Payer(index, self.clearing, random.Random(f"{self._seed} {index}")) for index in range(PAYERS)
            ]
            for number in range(1, runs + 1):
                await self._one_run()
                self.report.runs = number
                on_progress(self.report)
                if number % AUDIT_EVERY == 0 and number < runs:
                    await self._audit()
                    await self._start()
            await self._audit()
        except (TimeoutError, Broken) as error:
            error.add_note(f"seed {self._seed}, run {self.report.runs + 1}\n{self.clearing.story()}")
            raise
        finally:
            await asyncio.gather(*(payer.leave() for payer in self._payers), return_exceptions=True)
            self.clearing.kill()
            self.report.seconds = time.monotonic() - began_s
            self.report.told = Counter(payment.outcome for payer in self._payers for payment in payer.payments)
        return self.report

    def _require(self, holds: bool, what: str) -> None:
        if not holds:
            self.report.faults.append(what)
            raise Broken(what)

    async def _start(self) -> None:
        await asyncio.gather(*(asyncio.to_thread(node.wait_listening) for node in self.clearing.spawn()))
        await asyncio.to_thread(self.clearing.wait_whole)

    async def _one_run(self) -> None:
        for payer in self._payers:
            payer.begin()
        await self._progress(1)
        places = self._draw()
        victims = {}
        for name, point in places:
            node = await asyncio.to_thread(self.clearing.primary, name)
            assert node is not None  # all are whole when a run begins
            node.arm(point, self._chance.randint(1, (GATEWAY_POINTS if name == GATEWAY else BANK_POINTS)[point]))
            victims[name] = node
        at_s = await self._wait_ended(victims)
        if self.clearing.witness is not None:
            await self._progress(MORE_DONE)
        await asyncio.sleep(self._chance.uniform(0.0, DOWN_S_MAX))  # how long it is away, and no wait for anything
        await self._start()
        await self._progress(MORE_DONE)
        await self._settle()
        for name, point in places:
            kind = f"{'gateway' if name == GATEWAY else 'bank'} killed: {point}"
            self.report.places[kind] += 1
            self.report.outages_s.setdefault(kind, []).append(outage_s(self._payers, at_s))
        await self._compare()

    def _draw(self) -> list[Place]:
        """Draw where to kill: every place once before any comes again, each third time beside another one."""
        if not self._places:
            self._places = [(bank, point) for bank in BANKS for point in BANK_POINTS]
            self._places += [(GATEWAY, point) for point in GATEWAY_POINTS]
            self._chance.shuffle(self._places)
        first = self._places.pop(0)
        others = [name for name in PARTIES if name != first[0]]
        count = 0 if self._only else self._chance.choices((0, 1, 2), (70, 20, 10))[0]
        more = self._chance.sample(others, count)
        points = {name: list(GATEWAY_POINTS if name == GATEWAY else BANK_POINTS) for name in more}
        return [first, *((name, self._chance.choice(found)) for name, found in points.items())]

    async def _wait_ended(self, victims: dict[str, Party]) -> float:
        """Wait until the victims have ended: the first at its point, others there too or, when they do not come to it
        because the first is gone, soon after."""
        try:
            async with asyncio.timeout(DEFINITE_S_MAX):
                while not any(node.has_ended for node in victims.values()):
                    self._raise_dead()
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise TimeoutError(f"nobody came to the point: {list(victims)}") from None
        at_s = time.monotonic()
        while time.monotonic() < at_s + OTHERS_S_MAX and not all(node.has_ended for node in victims.values()):
            await asyncio.sleep(0.005)
        for name, node in victims.items():
            node.kill()
            self._require(node.code == -9, f"{name} ended with {node.code}")
            self.report.kills += 1
        return at_s

    # --- waiting ----------------------------------------------------------------------------------------------------
    def _raise_dead(self) -> None:
        for payer in self._payers:
            payer.raise_fault()
        for node in self.clearing.all:
            code = node.process.poll() if node.process is not None else None
            self._require(code in (None, -9), f"{node.folder.name} ended by itself with {code}")

    @property
    def _done(self) -> int:
        return sum(len(payer.done_s) for payer in self._payers)

    async def _progress(self, more: int) -> None:
        wanted = self._done + more
        try:
            async with asyncio.timeout(DEFINITE_S_MAX):
                while self._done < wanted:
                    self._raise_dead()
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise TimeoutError(f"only {self._done + more - wanted} payments more were done") from None

    async def _settle(self) -> None:
        """Have every payment come to its definite end."""
        try:
            async with asyncio.timeout(DEFINITE_S_MAX):
                await asyncio.gather(*(payer.finish() for payer in self._payers))
        except TimeoutError:
            waiting = [payer.payments[-1] for payer in self._payers if not payer.payments[-1].outcome]
            raise TimeoutError(f"no definite answer for {waiting[:3]}") from None
        wrong = [line for payer in self._payers for line in payer.wrong]
        self._require(not wrong, f"answers that contradict each other: {wrong[:3]}")

    # --- looking ----------------------------------------------------------------------------------------------------
    async def _compare(self) -> None:
        """Wait until nobody has a payment in doubt, and hold the three books against each other."""
        links = {name: await self.clearing.link(name) for name in PARTIES}
        try:
            for name, link in links.items():
                await self._wait_certain(name, link)
            window = await links[GATEWAY].request("window", GetWindow(), REQUEST_S)
            for row in window.rows:
                self._require(row.agrees == "yes", f"the window does not agree with {row.bank}: {row}")
            found = await links[GATEWAY].request("positions", ListPositions(), REQUEST_S)
            positions = {row.bank: row for row in found.positions}
            nets = {row.bank: row.net_minor for row in window.rows}
            for name in BANKS:
                position, held = positions[name].position_minor, positions[name].reserved_minor
                settlement = await self._settlement(links[name])
                told = f"{name}: settlement {settlement}, position {position}, window {nets[name]}, reserved {held}"
                self._require(-settlement == position == nets[name] and not held, told)
            for name, link in links.items():
                sums = await link.request("trial_balance", TrialBalance(), REQUEST_S)
                self._require(all(row.sum_minor == 0 for row in sums.rows), f"{name}: {sums.rows}")
        finally:
            await asyncio.gather(*(link.close() for link in links.values()))
        self.report.comparisons += 1

    async def _wait_certain(self, name: str, link: Any) -> None:
        deadline_s, listed = time.monotonic() + QUIET_S_MAX, None
        while listed is None or listed.payments:
            self._require(time.monotonic() < deadline_s, f"{name} has payments in doubt: {listed}")
            listed = await link.request("payments", ListPayments(in_doubt=True), REQUEST_S)
            await asyncio.sleep(0.05 if listed.payments else 0)

    async def _settlement(self, link: Any) -> int:
        """Give the balance of a bank's settlement account, whose number is among those after all others."""
        after, found = 0, []
        while not found:
            page = await link.request("list_accounts", ListAccounts(all=True, after=after, limit=1000), REQUEST_S)
            kind = AccountKind.settlement.name
            found = [a for a in page.accounts if a.kind == kind and a.currency == CURRENCY]
            after = page.next_after
        balance: int = found[0].balance_minor
        return balance

    async def _audit(self) -> None:
        """Stop all in order, have the folders verified, and hold the journals against what was told."""
        codes = await asyncio.to_thread(self.clearing.stop)
        self._require(not any(codes.values()), f"they did not end in order: {codes}")
        for node in self.clearing.all:
            done = await asyncio.to_thread(run_cli, "--json", "audit", "verify", node.folder)
            told = f"{node.folder.name}: audit verify ended with {done.returncode}: {done.stderr}"
            self._require(done.returncode == 0, told)
            self.report.audits += 1
        for name, nodes in self.clearing.nodes.items():
            self.report.entries_read += self._books[name].read(nodes[0].folder)
            if len(nodes) == 2:
                both = await asyncio.to_thread(read_both, nodes[0].folder, nodes[1].folder)
                self._require(not both.findings, f"{name}: {both.findings}")
        self.report.further_attempts = 0
        payments = [payment for payer in self._payers for payment in payer.payments]
        wrong = check(payments, self._books, self.report)
        self._require(not wrong, "; ".join(wrong[:5]))


def run(
    runs: int,
    seed: int,
    on_progress: Callable[[Report], object] = lambda report: None,
    places: Sequence[Place] = (),
    *,
    is_paired: bool = False,
) -> Report:
    """Run it in a folder of its own, which goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="fortress-payment-kill-", dir="/var/tmp") as parent:
        made = KillRuns(Path(parent), seed, places, is_paired=is_paired)
        try:
            return uvloop.run(made.run(runs, on_progress))
        except (Broken, TimeoutError) as error:
            print(error, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
            if str(error) not in made.report.faults:
                made.report.faults.append(str(error))
            return made.report


def main() -> int:
    """Run it from the command line; exit 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.payment_kill", description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pairs", action="store_true", help="each of the three is a pair with automatic failover")
    options = parser.parse_args()

    def tell(report: Report) -> None:
        print(f"{report.runs} of {options.runs} runs, {report.kills} kills", file=sys.stderr, flush=True)

    report = run(options.runs, options.seed, tell, is_paired=options.pairs)
    print(json.dumps(report.document()), flush=True)
    return bool(report.faults)


if __name__ == "__main__":
    sys.exit(main())
