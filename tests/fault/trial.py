"""A trial: a pair under load, faults that come to it, and the check of everything afterwards.

    async with Trial(parent, network, seed=7) as trial:
        trial.fault("kill", primary)
        primary.kill()
        await trial.progress()
        report = await trial.finish()

While it runs, payers move money, somebody adds all balances up, and a counter is watched through both nodes. `finish`
stops all of it in order, audits both folders, compares both journals record by record, and judges the history.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from bench.bank import OPENING_MINOR, numbers_of
from tests.fault.callers import Bank, Caller, Counter, Pinned, Reader
from tests.fault.history import History, outages, read
from tests.fault.journals import read_both
from tests.fault.network import Network
from tests.fault.pair import PAIRED_S_MAX, Layout, Member, Pair
from tests.fault.verdict import judge

PROGRESS_S_MAX: Final = 40.0
EQUAL_S_MAX: Final = 100.0
"""Longer than a standby is made to wait that was missed several times."""

CALLERS: Final = 8
T = TypeVar("T")


@dataclass(slots=True)
class Report:
    """What came of a trial; right if there are no findings.

    Attributes:
        faults: how many, by kind.
        outages_s: by kind, for each fault how long nothing was acknowledged.
        failed: calls of payers that ended without a definite answer, after all retries of the client library.
        epochs: in which records were made.
    """

    seed: int
    faults: dict[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    nothing: int = 0
    lost: int = 0
    doubled: int = 0
    failed: int = 0
    reads: int = 0
    looks: int = 0
    records: int = 0
    epochs: int = 0
    outages_s: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Take another trial's figures into this one's."""
        for name in ("acknowledged", "refused", "unknown", "nothing", "lost", "doubled", "failed", "reads", "looks"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("records", "epochs"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        for kind, count in other.faults.items():
            self.faults[kind] = self.faults.get(kind, 0) + count
            self.outages_s.setdefault(kind, []).extend(other.outages_s.get(kind, []))
        self.seconds += other.seconds
        self.findings += other.findings

    def document(self) -> dict[str, Any]:
        """Give the report as one JSON object."""
        whole = {name: getattr(self, name) for name in self.__dataclass_fields__}
        whole["outages_s"] = {kind: [round(each, 3) for each in found] for kind, found in self.outages_s.items()}
        return {**whole, "seconds": round(self.seconds, 1), "passed": not self.findings}

    def outage(self, share: float) -> float:
        """Give the outage that so large a share of all faults did not exceed, in seconds; 1.0: the longest."""
        found = sorted(each for kind in self.outages_s.values() for each in kind)
        return found[min(int(share * len(found)), len(found) - 1)] if found else 0.0

    def median_outage_s(self) -> float:
        """Give the median of all outages."""
        found = [each for kind in self.outages_s.values() for each in kind]
        return statistics.median(found) if found else 0.0


class Trial:
    """A pair with its clients and its history.

    Args:
        parent: an existing folder for everything.
        network: with hosts a, b, witness, on whose ``clients`` this thread is; None: all on loopback.
        seed: of what payers do.
        pair: one that there is already, stopped; made if not given.
    """

    def __init__(
        self,
        parent: Path,
        network: Network | None,
        *,
        seed: int,
        callers: int = CALLERS,
        layout: Layout | None = None,
        pair: Pair | None = None,
    ) -> None:
        self.pair = pair or Pair(parent, network, layout)
        self.chance = random.Random(seed)
        self.report = Report(seed)
        self.history = History(parent / f"history-{time.monotonic_ns()}.jsonl")
        plan = self.pair.layout.plan
        self.bank = Bank(
            self.pair.address, self.pair.ca, self.pair.endpoints, numbers_of(plan.accounts), plan.opening_minor
        )
        self.counter = Counter(self.bank, self.history)
        self.callers = [
            Caller(index, self.bank, self.history, random.Random(f"{seed} {index}")) for index in range(callers)
        ]
        self._work: list[asyncio.Task[None]] = []
        self._watchers: list[asyncio.Task[None]] = []
        self._kinds: defaultdict[str, int] = defaultdict(int)
        self._began = time.monotonic()

    # --- its life ---------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            self.pair.witness.start()
            for node in self.pair.nodes.values():
                node.spawn()  # by this thread: a process ends with the thread that began it
            for node in self.pair.nodes.values():
                await asyncio.to_thread(node.wait_listening)
            await self.paired()
            await self._begin()
        except BaseException:
            await self.leave()
            raise
        return self

    async def _begin(self) -> None:
        accounts = len(self.bank.numbers)
        self.history.write("begin", accounts=accounts, sum_minor=accounts * self.bank.opening_minor)
        await asyncio.gather(*(caller.start() for caller in self.callers))
        await self.counter.prepare()
        self._work = [self._started(caller.work()) for caller in self.callers]
        self.watch(self.counter.count())
        self.watch(self.counter.look())
        self.watch(Reader(self.bank, self.history).work())
        for host in self.pair.nodes:
            self.watch(self.counter.look_at(host))
            self.watch(Reader(self.bank, self.history, host).work())
        await self.progress()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"seed {self.report.seed}\n{self.pair.story()}")
        await self.leave()

    async def leave(self) -> None:
        """End all clients and all processes at once; may be repeated."""
        for task in (*self._work, *self._watchers):
            task.cancel()
        await asyncio.gather(*self._work, *self._watchers, return_exceptions=True)
        await asyncio.gather(*(caller.leave() for caller in self.callers), return_exceptions=True)
        self.pair.kill()
        self.history.close()

    def _started(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    def watch(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something run beside, until the trial ends; an error of it is a finding."""
        self._watchers.append(self._started(work))

    def pinned(self, host: str) -> Pinned:
        """Begin to pay at one node alone."""
        made = Pinned(self.bank, self.history, host)
        self.watch(made.work())
        return made

    # --- faults and waits -------------------------------------------------------------------------------------------

    def fault(self, kind: str, of: Member | str) -> None:
        """Note that a fault comes now; call it right before."""
        self._kinds[kind] += 1
        self.history.write("fault", kind=kind, of=of.at if isinstance(of, Member) else of)

    def heal(self, kind: str) -> None:
        """Note that it is over."""
        self.history.write("heal", kind=kind)

    @property
    def acknowledged(self) -> int:
        """Orders of payers that were acknowledged so far."""
        return sum(caller.acknowledged for caller in self.callers)

    @property
    def failed(self) -> list[str]:
        """Calls of payers that ended without a definite answer."""
        return [each for caller in self.callers for each in caller.failed]

    async def progress(self, more: int = 50, deadline_s: float = PROGRESS_S_MAX) -> None:
        """Wait until so many more orders are acknowledged.

        Raises:
            TimeoutError: the bank does not go on.
        """
        wanted = self.acknowledged + more
        await self.until(lambda: self.acknowledged >= wanted, f"{more} more acknowledgements", deadline_s)

    async def until(self, condition: Any, what: str, deadline_s: float = PROGRESS_S_MAX) -> None:
        """Wait for something, looking often."""
        try:
            async with asyncio.timeout(deadline_s):
                while not condition():
                    self._raise_dead()
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise TimeoutError(f"{what} did not come within {deadline_s:g} s") from None

    async def load(self, seconds: float) -> None:
        """Let the load go on for so long: a length of the trial, and no wait for anything."""
        await asyncio.sleep(seconds)
        self._raise_dead()

    def _raise_dead(self) -> None:
        """Do not go on when a client has died of something that should not be."""
        for task in (*self._work, *self._watchers):
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def paired(self, deadline_s: float = PAIRED_S_MAX) -> Member:
        """Wait until there are two copies of everything; give the primary."""
        return await asyncio.to_thread(self.pair.wait_paired, deadline_s)

    async def primary(self, *, other_than: Member | None = None, deadline_s: float = PAIRED_S_MAX) -> Member:
        """Wait for a primary, not the one named."""
        return await asyncio.to_thread(self.pair.wait_primary, other_than=other_than, deadline_s=deadline_s)

    async def restart(self, host: str) -> Member:
        """Start a node that has ended, and wait until it listens."""
        node = self.pair.nodes[host]
        node.kill()
        node.spawn()
        await asyncio.to_thread(node.wait_listening)
        return node

    # --- the end ----------------------------------------------------------------------------------------------------

    async def finish(self) -> Report:
        """End the load, settle what is open, stop the pair in order, check everything and give what came of it."""
        await self._end_load()
        await asyncio.to_thread(self.pair.wait_equal, EQUAL_S_MAX)
        await asyncio.gather(*(caller.leave() for caller in self.callers))
        ended = await asyncio.to_thread(self.pair.stop)
        self.history.close()
        self._judge()
        bad = {host: code for host, code in ended.items() if code}
        if bad:
            self.report.findings.append(f"nodes did not end in order: {bad}")
        return self.report

    async def _end_load(self) -> None:
        self._raise_dead()
        for caller in self.callers:
            caller.end()
        await asyncio.gather(*self._work)
        for task in self._watchers:
            task.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await asyncio.gather(*(caller.settle() for caller in self.callers))

    def _judge(self) -> None:
        report, nodes = self.report, self.pair.nodes
        journals = read_both(nodes["a"].folder, nodes["b"].folder)
        verdict = judge(read(self.history.path), journals.stands)
        for name in ("acknowledged", "refused", "unknown", "nothing", "lost", "doubled", "reads"):
            setattr(report, name, getattr(verdict, name))
        report.looks = verdict.counts
        report.failed = len(self.failed)
        report.records, report.epochs = journals.records, len(journals.epochs)
        report.faults = dict(self._kinds)
        for kind, seconds in outages(read(self.history.path)):
            report.outages_s.setdefault(kind, []).append(seconds)
        report.findings += journals.findings + verdict.findings
        report.seconds = time.monotonic() - self._began


__all__ = ["OPENING_MINOR", "Report", "Trial"]
