"""A bank with a history, stopped in order, and copies of its folder for tests to damage."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.bank import TELLER, Plan, make_folder
from fortress.client.ids import new_id
from fortress.protocol.money import TransferRow, Transfers
from tests.e2e.node import CURRENCY, Node, numbers_of

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
