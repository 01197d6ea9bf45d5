"""A full disk: writes are refused with their own error, reads go on, and once there is space all goes on by itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bench.bank import Plan, make_folder
from fortress.client.ids import new_id
from fortress.client.link import Link
from fortress.errors import DiskFull
from fortress.protocol.accounts import GetAccount, Profile, SetProfile
from fortress.protocol.money import Transfer
from fortress.protocol.reading import History
from tests.e2e.node import CURRENCY, Node, numbers_of, wait_until
from tests.fault.disk import fill, free_bytes, make_space, small_disk
from tests.fault.kill import KillRun

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system of its own takes root")

SEGMENT_BYTES = 1024 * 1024
DISK_MB = 48
OPENING_MINOR = 1_000_000
WAIT_S_MAX = 20.0


@pytest.fixture
def disk() -> Iterator[Path]:
    with small_disk(DISK_MB) as mounted:
        yield mounted


def order() -> Transfer:
    payer, payee = numbers_of(2)
    return Transfer(new_id(), payer, payee, 1, CURRENCY)


async def until_refused(link: Link) -> tuple[list[Transfer], Transfer]:
    """Pay until the disk is full; give what was done, and what was refused."""
    done = []
    async with asyncio.timeout(WAIT_S_MAX):
        while True:
            wanted = order()
            try:
                await link.request("transfer", wanted, 5)
            except DiskFull as error:
                assert (error.code, error.retry) == (3005, "same_id")
                return done, wanted
            done.append(wanted)


async def until_done(link: Link, wanted: Transfer) -> None:
    """Repeat a transfer until the bank takes it, or says that it was done when there was space."""
    async with asyncio.timeout(WAIT_S_MAX):
        while True:
            with suppress(DiskFull):
                await link.request("transfer", wanted, 5)
                return


async def balance(link: Link, number: int) -> int:
    found: int = (await link.request("get_account", GetAccount(number), 5)).balance_minor
    return found


async def check_reading(link: Link, paid_minor: int) -> None:
    """Everything can be read but what would show an entry whose fate is open; that is refused, never guessed."""
    payer, payee, untouched = numbers_of(3)
    assert await balance(link, untouched) == OPENING_MINOR
    history = await link.request("history", History(untouched), 5)
    assert history.rows[0].amount_minor == OPENING_MINOR
    for number, moved in ((payer, -paid_minor), (payee, paid_minor)):
        with suppress(DiskFull):
            assert await balance(link, number) == OPENING_MINOR + moved


@pytest.mark.parametrize(
    "leave_bytes",
    [pytest.param(2 * SEGMENT_BYTES - 65536, id="nearly-full", marks=pytest.mark.fault), pytest.param(0, id="full")],
)
async def test_a_full_disk_refuses_writes_and_recovers(disk: Path, leave_bytes: int) -> None:
    """Nothing acknowledged is lost, nothing refused is done unasked, and the node never ends."""
    folder = disk / "bank"
    settings: dict[str, str | int] = {"ledger.segment_bytes": SEGMENT_BYTES}
    make_folder(folder, Plan(accounts=64, settings=settings, opening_minor=OPENING_MINOR))
    with Node(folder) as node:
        link = await node.link("customer0")
        fill(disk, leave_bytes=leave_bytes)
        done, wanted = await until_refused(link)
        await check_reading(link, len(done))
        with pytest.raises(DiskFull):
            await link.request("set_profile", SetProfile(Profile(name="Anybody")), 5)
        status = node.status()
        assert status["checks"]["disk"]["ok"] is False
        assert not status["checks"]["disk"]["reason"].startswith("there is space")
        newcomer = await node.link("customer0")  # signing in writes nothing
        await check_reading(newcomer, len(done))
        await newcomer.close()
        make_space(disk)
        await until_done(link, wanted)
        payer, payee = numbers_of(2)
        assert await balance(link, payer) == OPENING_MINOR - len(done) - 1
        assert await balance(link, payee) == OPENING_MINOR + len(done) + 1
        wait_until(lambda: node.status()["checks"]["disk"]["ok"])
        await link.request("set_profile", SetProfile(Profile(name="Anybody")), 5)
        await link.close()
    with Node(folder) as node:
        link = await node.link("customer0")
        assert await balance(link, payer) == OPENING_MINOR - len(done) - 1
        for repeated in (*done, wanted):
            assert (await link.request("transfer", repeated, 5)).replayed
        await link.close()


@pytest.mark.parametrize("end", ["stop", pytest.param("kill", marks=pytest.mark.fault)])
async def test_a_node_that_ends_with_a_full_disk_starts_again_when_there_is_space(disk: Path, end: str) -> None:
    """In order or not, in the middle of load: every promise is kept over the restart."""
    run = KillRun(disk, 3)
    await run.start()
    await run.check()
    fill(disk, leave_bytes=SEGMENT_BYTES)
    run.begin()
    wait_until(lambda: not run.node.status()["checks"]["disk"]["ok"])
    fill(disk, leave_bytes=0)
    assert free_bytes(disk) < 65536
    if end == "stop":
        assert await asyncio.to_thread(run.node.stop) == 0
    await run.kill()
    make_space(disk)
    await run.finish()
    assert run.report.faults == []
    assert run.model.counts["acknowledged"] > 0
