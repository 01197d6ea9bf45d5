"""A disk that fails, a clock that jumps and a power cut, on one node: it stops or goes on, and loses nothing."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bench.bank import Plan, make_folder
from fortress.client.ids import new_id
from fortress.client.link import Link
from fortress.errors import FortressError, JournalWriteFailed
from fortress.protocol.fields import Request
from fortress.protocol.money import Transfer, TransferRow, Transfers
from tests.e2e.node import CURRENCY, Node, numbers_of
from tests.fault import shims
from tests.fault.disk import LoopDisk
from tests.fault.kill import KillRun
from tests.fault.shims import BrokenDisk, JumpingClock

SEGMENT_BYTES = 1024 * 1024
DISK_MB = 128

needs_gcc = pytest.mark.skipif(bool(shims.why_not()), reason=shims.why_not())
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system of its own takes root")


@pytest.fixture
def parent() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fortress-shim-", dir="/var/tmp") as folder:
        yield Path(folder)


def make_bank(parent: Path) -> Path:
    settings: dict[str, str | int] = {"ledger.segment_bytes": SEGMENT_BYTES}
    make_folder(parent / "bank", Plan(accounts=64, settings=settings))
    return parent / "bank"


def order() -> Transfer:
    payer, payee = numbers_of(2)
    return Transfer(new_id(), payer, payee, 1, CURRENCY)


async def pay(link: Link, operation: str, wanted: Request) -> bool:
    """Pay, and say whether it was acknowledged."""
    with suppress(FortressError):
        await link.request(operation, wanted, 10)
        return True
    return False


def batch() -> Transfers:
    """Make a request so large that a thread writes its record, where the kernel's queue takes small ones."""
    payer, payee = numbers_of(2)
    return Transfers(CURRENCY, [TransferRow(new_id(), payer, payee, 1, "x" * 64) for _ in range(4000)])


@needs_gcc
@pytest.mark.parametrize(("operation", "make"), [("transfer", order), ("transfers", batch)], ids=["kernel", "thread"])
async def test_a_failed_write_stops_the_node(parent: Path, operation: str, make: Callable[[], Request]) -> None:
    """The write is not tried again: the node says FT-5005 and ends; the next start finds what was acknowledged."""
    folder = make_bank(parent)
    disk = BrokenDisk(parent)
    node = Node(folder, variables=disk.variables)
    with node:
        link = await node.link("customer0")
        done = [wanted for wanted in (order() for _ in range(50)) if await pay(link, "transfer", wanted)]
        assert len(done) == 50
        disk.break_now()
        unknown = make()
        assert not await pay(link, operation, unknown)
        assert await asyncio.to_thread(node.wait) != 0
        link.abort()
    assert f'"code": {JournalWriteFailed.code}' in node.log() or f"FT-{JournalWriteFailed.code}" in node.log()
    disk.mend()
    with Node(folder) as node:
        link = await node.link("customer0")
        for wanted in done:
            assert (await link.request("transfer", wanted, 5)).replayed
        assert await pay(link, operation, unknown)  # once, whether what was told as failed is there or not
        await link.close()


@needs_gcc
@pytest.mark.parametrize("seconds", [7 * 86_400, -7 * 86_400], ids=["ahead", "back"])
async def test_a_clock_that_jumps_harms_nothing(parent: Path, seconds: int) -> None:
    """Transfers go on, and the times of entries never run back."""
    folder = make_bank(parent)
    clock = JumpingClock(parent)
    with Node(folder, variables=clock.variables) as node:
        link = await node.link("customer0")
        before = await link.request("transfer", order(), 5)
        clock.jump(seconds)
        answers = [await link.request("transfer", order(), 5) for _ in range(20)]
        clock.jump(0)
        answers.append(await link.request("transfer", order(), 5))
        times = [before.time_us, *(answer.time_us for answer in answers)]
        assert times == sorted(times)
        assert (times[1] - times[0] > 86_400 * 1_000_000) is (seconds > 0)
        await link.close()


@needs_root
def test_a_power_cut_forgets_what_was_not_synced() -> None:
    """The cut is a real one: a file that was synced is there afterwards, one that was only written is not."""
    with LoopDisk(16) as disk:
        with open(disk.folder / "synced", "wb") as file:
            file.write(b"kept")
            file.flush()
            os.fsync(file.fileno())
        (disk.folder / "written").write_bytes(b"forgotten")
        disk.cut_power()
        with pytest.raises(OSError, match="Input/output error"):
            (disk.folder / "written").read_bytes()
        disk.power_up()
        assert (disk.folder / "synced").read_bytes() == b"kept"
        written = disk.folder / "written"
        assert not written.exists() or written.read_bytes() != b"forgotten"


@needs_root
async def test_a_power_cut_loses_nothing_acknowledged() -> None:
    """Under load the disk forgets all that was not durable; every promise is kept over the restart."""
    with LoopDisk(DISK_MB) as disk:
        run = KillRun(disk.folder, 8)
        try:
            await run.start()
            await run.check()
            run.begin()
            async with asyncio.timeout(20):
                while run.model.counts["acknowledged"] < 3000:
                    await asyncio.gather(*(client.answered() for client in run.clients))
            disk.cut_power()
            await run.kill()
            disk.power_up()
            await run.finish()
            assert run.report.faults == []
        finally:
            run.leave()
            run.node.kill()
