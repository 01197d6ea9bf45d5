"""What fault tests share: a bank with a history and copies of it to damage; network, folder and seed for a pair."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.bank import TELLER, Plan, make_folder
from fortress.client.ids import new_id
from fortress.protocol.money import TransferRow, Transfers
from tests.e2e.node import CURRENCY, Node, numbers_of
from tests.fault import network as networks
from tests.fault.network import Network
from tests.fault.trial import Report

ACCOUNTS = 2 * 64
OPENING_MINOR = 1_000_000
SEGMENT_BYTES = 1024 * 1024
BATCHES, ROWS = 24, 1500


@dataclass(frozen=True, slots=True)
class History:
    """A stopped bank: its folder, and the last transfer that was acknowledged."""

    folder: Path
    last: TransferRow
    position: int


async def make_history(node: Node) -> tuple[TransferRow, int]:
    """Do transfers until the journal has several segments."""
    payer, payee = numbers_of(2)
    link = await node.link(TELLER)
    for _ in range(BATCHES):
        rows = [TransferRow(new_id(), payer, payee, 1, "history") for _ in range(ROWS)]
        answer = await link.request("transfers", Transfers(CURRENCY, rows), 20)
        assert not any(answer.statuses)
    await link.close()
    return rows[-1], answer.position


@pytest.fixture(scope="session")
def history() -> Iterator[History]:
    """Made once; nothing may touch its folder."""
    with tempfile.TemporaryDirectory(prefix="fortress-fault-", dir="/var/tmp") as parent:
        folder = Path(parent) / "bank"
        settings: dict[str, str | int] = {"ledger.segment_bytes": SEGMENT_BYTES}
        make_folder(folder, Plan(accounts=ACCOUNTS, settings=settings, opening_minor=OPENING_MINOR))
        with Node(folder) as node:
            last, position = asyncio.run(make_history(node))
        yield History(folder, last, position)


@pytest.fixture
def folder(history: History) -> Iterator[Path]:
    """A copy of that folder, for this test alone."""
    with tempfile.TemporaryDirectory(prefix="fortress-fault-", dir="/var/tmp") as parent:
        yield Path(shutil.copytree(history.folder, Path(parent) / "bank"))


# --- a pair ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def network() -> Iterator[Network]:
    """A network of its own for one test, which is on its host ``clients``."""
    if networks.why_not():
        pytest.skip(networks.why_not())
    with Network() as made, made.entered("clients"):
        yield made


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder on a disk."""
    with tempfile.TemporaryDirectory(prefix="fortress-pair-", dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def seed() -> int:
    """Another one in each run, told when a trial fails; FAULT_SEED repeats one."""
    return int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(10**6))


@pytest.fixture
def accept(request: pytest.FixtureRequest) -> Callable[[Report], None]:
    """A check that every promise was kept, and that there was something to keep; FAULT_RESULTS names a file for all."""

    def check(report: Report) -> None:
        assert report.findings == [], f"seed {report.seed}"
        assert (report.lost, report.doubled) == (0, 0)
        assert report.acknowledged > 100
        assert report.reads > 0
        assert report.looks > 0
        if file := os.environ.get("FAULT_RESULTS"):
            with open(file, "a", encoding="utf-8") as results:
                results.write(json.dumps({"test": request.node.name, **report.document()}) + "\n")

    return check
