"""Kill a node in the middle of load, again and again, and prove after each restart that nothing was lost or doubled.

``python -m tests.fault.kill --kills 50 --seed 7`` runs it; progress goes to standard error, one JSON line ends it.

One node, 32 clients, each with a few orders outstanding: transfers, batches, holds, and orders that must be refused.
At a moment chosen at random the node is killed (SIGKILL): under load, while it starts, while its tables catch up with
the journal (they are thrown away for that), or while clients sign in and repeat. After each restart

- every order whose answer never came is sent again with the same id, until the bank has decided it;
- orders whose answer is known are sent again and must be answered as before, at the same position;
- every account must show what follows from the known orders alone, and the trial balance must be zero.

Every few kills, and at the end, the node is stopped, ``fortress audit verify`` must pass, and the journal itself is
read: every acknowledged id stands in it exactly once, where it was acknowledged, and no refused one was executed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from bench.bank import ACCOUNTS_PER_CUSTOMER, TELLER, Plan, make_folder, numbers_of
from fortress.client.link import Link
from fortress.config import load
from fortress.errors import FortressError
from fortress.ledger import entries as codec
from fortress.ledger.journal import Journal
from fortress.ledger.keyring import Keyring, read_kek
from fortress.ledger.model import HoldState
from fortress.ledger.records import FIRST_LSN, entries
from fortress.protocol.accounts import ListAccounts
from fortress.protocol.administration import TrialBalance
from fortress.server.folder import KEYRING_NAME
from tests.e2e.node import Node, run_cli
from tests.fault.clients import Client
from tests.fault.orders import Model

CLIENTS = 32
CUSTOMERS = 8
OPENING_MINOR = 1_000_000_000
SEGMENT_BYTES = 4 * 1024 * 1024
LOAD_S_MAX = 1.2
EARLY_S_MAX = 0.6
AUDIT_EVERY = 5
PAGE = 1000
MOMENTS = {"load": 60, "start": 15, "rebuild": 10, "early": 15}
"""When to kill: how often each in a hundred."""


class Broken(AssertionError):
    """A promise was not kept."""


@dataclass(slots=True)
class Report:
    """What came of it; ``faults`` is empty if every promise was kept."""

    seed: int
    kills: int = 0
    moments: dict[str, int] = field(default_factory=dict)
    audits: int = 0
    entries_read: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Give the report as one JSON object."""
        whole = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**whole, "seconds": round(self.seconds, 1), "passed": not self.faults}


class KillRun:
    """One bank, its clients, and what is known of it.

    Args:
        parent: an empty folder, on a real disk.
        seed: decides moments and orders; the node's own timing is not repeatable.
    """

    def __init__(self, parent: Path, seed: int) -> None:
        self.report = Report(seed)
        self.folder = parent / "bank"
        settings: dict[str, str | int] = {"ledger.segment_bytes": SEGMENT_BYTES, "ledger.id_cache_max": 4096}
        accounts = CUSTOMERS * ACCOUNTS_PER_CUSTOMER
        make_folder(self.folder, Plan(accounts=accounts, settings=settings, opening_minor=OPENING_MINOR))
        self.node = Node(self.folder)
        self.numbers = numbers_of(accounts)
        self.model = Model(OPENING_MINOR)
        self._chance = random.Random(seed)
        self.clients = [Client(i, self.numbers, self.model, random.Random(f"{seed} {i}")) for i in range(CLIENTS)]
        self._read_from = FIRST_LSN
        self.stands: dict[bytes, list[tuple[str, int, int]]] = {}
        self._start_s = 1.0

    async def run(
        self, kills: int, on_progress: Any = lambda report: None, moments: Sequence[str] = ("load",)
    ) -> Report:
        """Kill the node so many times, then look at everything a last time.

        Args:
            kills: how often.
            on_progress: told the report after each.
            moments: of the first kills; those of the others are drawn.

        Raises:
            Broken: a promise was not kept; the report says which.
        """
        began = time.monotonic()
        try:
            while self.report.kills < kills:
                drawn = self._chance.choices(list(MOMENTS), list(MOMENTS.values()))[0]
                moment = moments[self.report.kills] if self.report.kills < len(moments) else drawn
                await self._kill_at(moment)
                self.report.kills += 1
                self.report.moments[moment] = self.report.moments.get(moment, 0) + 1
                on_progress(self.report)
                if self.report.kills % AUDIT_EVERY == 0:
                    self.audit()
            await self.finish()
        finally:
            self.leave()
            self.node.kill()
            self.report.seconds = time.monotonic() - began
        return self.report

    async def finish(self) -> None:
        """Start the node once more, compare everything, stop it in order and audit what it left."""
        try:
            await self.start()
            await self.check()
            self.leave()
            self._require(await asyncio.to_thread(self.node.stop) == 0, "the node did not end in order")
            self.audit()
            self._require(not sum(len(client.unknown) for client in self.clients), "orders are still unknown")
        finally:
            self.leave()
            self.node.kill()
            self.report.counts = dict(self.model.counts)

    def _require(self, holds: bool, what: str) -> None:
        if not holds:
            self.report.faults.append(what)
            raise Broken(f"{what} (kill {self.report.kills}, seed {self.report.seed})\n{self.node.log()[-2000:]}")

    # --- the kills --------------------------------------------------------------------------------------------------

    async def _kill_at(self, moment: str) -> None:
        if moment in ("start", "rebuild"):
            self._kill_while_starting(throw_tables_away=moment == "rebuild")
            return
        await self.start()
        if moment == "early":
            await self._kill_early()
            return
        await self.check()
        self.begin()
        await asyncio.sleep(self._chance.uniform(0.02, LOAD_S_MAX))  # the moment, not a wait
        await self.kill()

    def _kill_while_starting(self, *, throw_tables_away: bool) -> None:
        """Kill it before, while or just after it brings its tables up to the journal."""
        span_s = 1.2 * self._start_s
        if throw_tables_away:
            for file in self.folder.glob("ledger.db*"):
                file.unlink()
            span_s += len(self.stands) / 40_000
        self.node.spawn()
        time.sleep(self._chance.uniform(0.0, span_s))
        self.node.kill()

    async def _kill_early(self) -> None:
        """Kill it while clients connect, sign in and repeat what is unknown."""
        loop = asyncio.get_running_loop()
        assert self.node.process is not None
        kill = loop.call_later(self._chance.uniform(0.0, EARLY_S_MAX), self.node.process.kill)
        try:
            await self._connect()
            await self._repeat()
            self.begin()
        except FortressError:
            self.model.counts["cut_short"] += 1
        await asyncio.to_thread(self.node.process.wait, 30)
        kill.cancel()
        await self.kill()

    async def kill(self) -> None:
        """Kill it, and wait until each client knows that what it asked is lost."""
        await asyncio.to_thread(self.node.kill)
        await asyncio.gather(*(client.end() for client in self.clients))
        self.model.counts["left_unknown"] += sum(len(client.unknown) for client in self.clients)
        self.leave()

    def begin(self) -> None:
        """Put the node under load."""
        for client in self.clients:
            client.begin()

    def leave(self) -> None:
        """Let go of all connections."""
        for client in self.clients:
            client.leave()

    async def start(self) -> None:
        """Start the node and wait until it listens."""
        began = time.monotonic()
        await asyncio.to_thread(self.node.start)
        self._start_s = min(self._start_s, time.monotonic() - began)

    # --- after a restart --------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """Connect everybody, have every unknown order decided, and compare the bank with what is known."""
        await self._connect()
        await self._repeat()
        wrong = [line for lines in await asyncio.gather(*(c.repeat_known() for c in self.clients)) for line in lines]
        self._require(not wrong, f"answers changed: {wrong[:3]}")
        surprises = [line for client in self.clients for line in client.surprises]
        self._require(not surprises, f"answers that should not come: {surprises[:3]}")
        staff, admin = await self.node.link(TELLER), await self.node.link("admin")
        try:
            await self._compare_accounts(staff)
            sums = await admin.request("trial_balance", TrialBalance(), 20)
            self._require(all(row.sum_minor == 0 for row in sums.rows), f"balances do not sum to zero: {sums.rows}")
        finally:
            await asyncio.gather(staff.close(), admin.close())

    async def _connect(self) -> None:
        await asyncio.gather(*(client.connect(self.node) for client in self.clients))

    async def _repeat(self) -> None:
        for _ in range(3):
            await asyncio.gather(*(client.repeat_unknown() for client in self.clients))

    async def _compare_accounts(self, staff: Link) -> None:
        """Hold every account against what follows from the known orders."""
        after = 0
        found: dict[int, tuple[int, int, int]] = {}
        while True:
            page = await staff.request("list_accounts", ListAccounts(all=True, after=after, limit=PAGE), 20)
            found.update({a.number: (a.balance_minor, a.held_minor, a.incoming_minor) for a in page.accounts})
            if not (after := page.next_after):
                break
        for number in self.numbers:
            expected = self.model.account(number)
            wanted = (expected.balance, expected.held, expected.incoming)
            self._require(found[number] == wanted, f"account {number} shows {found[number]} instead of {wanted}")
        self.model.counts["accounts_compared"] += len(self.numbers)

    # --- while it is stopped ----------------------------------------------------------------------------------------

    def audit(self) -> None:
        """Have the folder verified, then read the journal ourselves and look every id up."""
        done = run_cli("--json", "audit", "verify", self.folder)
        self._require(done.returncode == 0, f"audit verify ended with {done.returncode}: {done.stderr}")
        self.report.audits += 1
        self._read_journal()
        for id, place in self.model.done.items():
            stands = [row for row in self.stands.get(id, ()) if row[0] in ("posted", "held")]
            self._require(len(stands) == 1, f"acknowledged {id.hex()} stands {len(stands)} times in the journal")
            if place is not None:
                self._require(stands[0][1:] == place, f"{id.hex()} was acknowledged at {place}, stands at {stands}")
        for name, ends in (("hold posted", self.model.posts), ("hold voided", self.model.voids)):
            for id, position in ends.items():
                stands = [row for row in self.stands.get(id, ()) if row[0].startswith("hold ")]
                self._require(
                    [row[:2] for row in stands] == [(name, position)], f"{name} {id.hex()} at {position}: {stands}"
                )
        executed = [
            id.hex() for id in self.model.refused if any(row[0] != "refused" for row in self.stands.get(id, ()))
        ]
        self._require(not executed, f"refused and executed: {executed[:3]}")
        doubled = [id.hex() for id, rows in self.stands.items() if len(rows) != len({row[0] for row in rows})]
        self._require(not doubled, f"more than once in the journal: {doubled[:3]}")

    def _read_journal(self) -> None:
        """Note where each id stands, in the records that were not read yet."""
        for position, entry in journal_entries(self.folder, self._read_from):
            self.report.entries_read += 1
            id = getattr(entry, "id", b"")
            if id:
                self.stands.setdefault(id, []).append((_kind(entry), position, entry.time_us))
        with open_journal(self.folder) as journal:
            self._read_from = journal.last.lsn + 1 if journal.last else FIRST_LSN


def _kind(entry: Any) -> str:
    if isinstance(entry, codec.Posted):
        return "hold posted" if entry.held else "posted"
    if isinstance(entry, codec.HoldPlaced):
        return "held"
    if isinstance(entry, codec.HoldReleased):
        return "hold voided" if entry.state == HoldState.voided else "hold expired"
    return "refused" if isinstance(entry, codec.Refused) else type(entry).__name__


class open_journal:
    """The journal of a folder that nobody serves, for ``with``."""

    def __init__(self, folder: Path) -> None:
        settings = load(folder, {}, {})
        kek = read_kek(key_file=settings.path(settings.keys.key_file), key_command="", environment={})
        keyring = Keyring.open(folder / KEYRING_NAME, kek)
        self._journal = Journal.open(
            folder / "journal",
            keyring.data_key,
            bank=settings.node.bank,
            segment_bytes=settings.ledger.segment_bytes,
        )

    def __enter__(self) -> Journal:
        return self._journal

    def __exit__(self, *error: object) -> None:
        self._journal.close()


def journal_entries(folder: Path, from_lsn: int = FIRST_LSN) -> Iterator[tuple[int, Any]]:
    """Read a stopped node's journal: each entry with its position."""
    with open_journal(folder) as journal:
        for record in journal.records(from_lsn):
            for index, blob in enumerate(entries(record), 1):
                yield record.first_position + index, codec.decode(blob)


def run(kills: int, seed: int, on_progress: Any = lambda report: None, moments: Sequence[str] = ("load",)) -> Report:
    """Run it in a folder of its own, which goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="fortress-kill-", dir="/var/tmp") as parent:
        made = KillRun(Path(parent), seed)

        async def go() -> Report:
            return await made.run(kills, on_progress, moments)

        try:
            return uvloop.run(go())
        except Broken as broken:
            print(broken, file=sys.stderr)
            return made.report


def main() -> int:
    """Run it from the command line; exit 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    def tell(report: Report) -> None:
        moments = ", ".join(f"{name} {count}" for name, count in report.moments.items())
        print(f"{report.kills} of {options.kills} kills: {moments}", file=sys.stderr, flush=True)

    report = run(options.kills, options.seed, tell)
    print(json.dumps(report.document()), flush=True)
    return bool(report.faults)


if __name__ == "__main__":
    sys.exit(main())
