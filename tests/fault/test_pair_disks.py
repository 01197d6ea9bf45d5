"""Disks that lose power, fail, fill up, are wiped, or come out of an old backup: the other node has everything."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.bank import Plan
from fortress.errors import JournalWriteFailed, Quarantined
from tests.fault import shims
from tests.fault.disk import LoopDisk, fill, make_space
from tests.fault.network import Network
from tests.fault.pair import Layout, Member, run
from tests.fault.shims import BrokenDisk
from tests.fault.trial import Report, Trial

Accept = Callable[[Report], None]
DISK_MB = 192
SEGMENT_BYTES = 1024 * 1024
SETTINGS: dict[str, str | int] = {"ledger.segment_bytes": SEGMENT_BYTES}
ENDS_S_MAX = 15.0

pytestmark = pytest.mark.timeout(240)
BOTH_ROLES = pytest.mark.parametrize("role", ["primary", "standby"])


@pytest.fixture
def disk() -> Iterator[LoopDisk]:
    """A disk of its own for node a."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system of its own takes root")
    with LoopDisk(DISK_MB) as made:
        yield made


async def node_a_as(trial: Trial, role: str) -> Member:
    """Let node a have a role, by a switchover if need be, and give it."""
    primary = await trial.paired()
    if (primary.at == "a") != (role == "primary"):
        await asyncio.to_thread(trial.pair.switch_over)
        await trial.paired()
    return trial.pair.nodes["a"]


async def has_ended(node: Member) -> int:
    """Wait for a node that ends by itself, and give what it ended with."""
    return await asyncio.to_thread(node.wait, ENDS_S_MAX)


async def come_back(trial: Trial, node: Member) -> None:
    """Start a node whose disk works again; if it says that its data must be fetched anew, do as it says."""
    node.kill()
    node.spawn()
    try:
        await asyncio.to_thread(node.wait_listening)
    except RuntimeError:
        assert f"FT-{Quarantined.code}" in node.log()
        await asyncio.to_thread(run, "rejoin", node.folder, "--confirm", NAMES[node.at])
        await trial.restart(node.at)


NAMES = {"a": "node-1", "b": "node-2"}


@pytest.mark.fault
@BOTH_ROLES
async def test_a_power_cut_loses_nothing(
    network: Network, place: Path, disk: LoopDisk, seed: int, accept: Accept, role: str
) -> None:
    """The disk forgets what was not durable; the node comes back and has everything again."""
    layout = Layout(disks={"a": disk.folder}, settings=SETTINGS)
    async with Trial(place, network, seed=seed, layout=layout) as trial:
        for _ in range(3):
            node = await node_a_as(trial, role)
            await trial.load(trial.chance.uniform(0.1, 1.0))
            trial.fault(f"power cut of the {role}", node)
            disk.cut_power()
            node.kill()
            await trial.progress()
            disk.power_up()
            await trial.restart("a")
            await trial.progress()
        accept(await trial.finish())


@pytest.mark.fault
async def test_a_power_cut_of_both_nodes_loses_nothing(
    network: Network, place: Path, disk: LoopDisk, seed: int, accept: Accept
) -> None:
    """Both are on one disk here, and lose what was not durable in the same moment."""
    layout = Layout(disks={"a": disk.folder, "b": disk.folder}, settings=SETTINGS)
    async with Trial(place, network, seed=seed, layout=layout) as trial:
        for _ in range(3):
            await trial.paired()
            await trial.load(trial.chance.uniform(0.1, 1.0))
            trial.fault("power cut of both nodes", "both")
            disk.cut_power()
            for node in trial.pair.nodes.values():
                node.kill()
            disk.power_up()
            for host in ("a", "b"):
                await trial.restart(host)
            await trial.progress()
        accept(await trial.finish())


@pytest.mark.fault
@BOTH_ROLES
@pytest.mark.skipif(bool(shims.why_not()), reason=shims.why_not())
async def test_a_failing_disk_ends_its_node_and_not_the_bank(
    network: Network, place: Path, seed: int, accept: Accept, role: str
) -> None:
    """The write is not tried again: the node makes the other one primary and stops with FT-5005."""
    broken = BrokenDisk(place, "/a/journal/")
    layout = Layout(variables={"a": broken.variables})
    async with Trial(place, network, seed=seed, layout=layout) as trial:
        node = await node_a_as(trial, role)
        await trial.load(0.5)
        trial.fault(f"writes of the {role} fail", node)
        broken.break_now()
        assert await has_ended(node) != 0
        log = node.log()
        assert f'"code": {JournalWriteFailed.code}' in log or f"FT-{JournalWriteFailed.code}" in log
        assert (await trial.primary()).at == "b"
        await trial.progress()
        broken.mend()
        await come_back(trial, node)
        await trial.progress()
        accept(await trial.finish())


@pytest.mark.fault
@BOTH_ROLES
async def test_a_full_disk_does_not_stop_the_bank(
    network: Network, place: Path, disk: LoopDisk, seed: int, accept: Accept, role: str
) -> None:
    """A primary without space hands over, a standby without space is left behind; with space it catches up."""
    layout = Layout(disks={"a": disk.folder}, settings=SETTINGS, plan=Plan(accounts=256))
    async with Trial(place, network, seed=seed, layout=layout) as trial:
        node = await node_a_as(trial, role)
        trial.fault(f"disk of the {role} full", node)
        fill(disk.folder, leave_bytes=0)
        await trial.load(6)
        await trial.progress(500)
        assert (await trial.primary()).at == "b"
        make_space(disk.folder)
        trial.heal(f"disk of the {role} full")
        if not node.is_running:
            await come_back(trial, node)
        await trial.paired()
        await trial.progress()
        accept(await trial.finish())


@pytest.mark.fault
async def test_two_full_disks_refuse_and_go_on_with_space(
    network: Network, place: Path, disk: LoopDisk, seed: int, accept: Accept
) -> None:
    """Nobody can take entries: clients are told so, nothing is half done, and it goes on by itself."""
    layout = Layout(disks={"a": disk.folder, "b": disk.folder}, settings=SETTINGS)
    async with Trial(place, network, seed=seed, layout=layout) as trial:
        await trial.paired()
        trial.fault("disks of both nodes full", "both")
        fill(disk.folder, leave_bytes=0)
        await trial.load(12)
        make_space(disk.folder)
        trial.heal("disks of both nodes full")
        assert all(node.is_running for node in trial.pair.nodes.values())
        await trial.progress()
        await trial.paired()
        accept(await trial.finish())


# --- lost and old data ----------------------------------------------------------------------------------------------


@pytest.mark.fault
@pytest.mark.parametrize("kept", ["settings and keys", "nothing"])
async def test_a_wiped_standby_gets_everything_again(
    network: Network, place: Path, seed: int, accept: Accept, kept: str
) -> None:
    """An empty disk is no member; it is filled from the primary, and then it can take over."""
    async with Trial(place, network, seed=seed) as trial:
        primary = await trial.paired()
        if primary.at != "a":
            primary = await asyncio.to_thread(trial.pair.switch_over)
        node = trial.pair.other(primary)
        trial.fault("standby wiped", node)
        node.kill()
        if kept == "nothing":
            shutil.rmtree(node.folder)
            await asyncio.to_thread(trial.pair.make_second, primary.folder, node.folder, "--replace")
        else:
            wipe(node.folder)
        await trial.restart(node.at)
        await trial.paired()
        await takes_over(trial, primary)
        accept(await trial.finish())


def wipe(folder: Path) -> None:
    """Delete a node's data, and leave its settings, keys and certificates."""
    shutil.rmtree(folder / "journal")
    for pattern in ("ledger.db*", "people.db*", "control*"):
        for file in folder.glob(pattern):
            file.unlink()


async def takes_over(trial: Trial, primary: Member) -> None:
    """Kill the primary, see the other node take over, and start it again."""
    trial.fault("kill of the primary", primary)
    primary.kill()
    await trial.primary(other_than=primary)
    await trial.progress()
    await trial.restart(primary.at)
    await trial.paired()


async def backed_up(trial: Trial, place: Path) -> tuple[Member, Path]:
    """Copy the standby's folder while it is stopped, start it again, and let the bank go on; give both."""
    primary = await trial.paired()
    node = trial.pair.other(primary)
    node.kill()
    backup = place / "backup"
    shutil.copytree(node.folder, backup, ignore=shutil.ignore_patterns("*.sock"))
    await trial.restart(node.at)
    await trial.paired()
    await trial.progress(200)
    return node, backup


def restore(node: Member, backup: Path) -> None:
    """Put the old copy in the place of a node's folder."""
    shutil.rmtree(node.folder)
    shutil.copytree(backup, node.folder)


@pytest.mark.fault
async def test_an_old_backup_as_the_standby_catches_up(
    network: Network, place: Path, seed: int, accept: Accept
) -> None:
    """It is another instance than the one that was lost; what it lacks comes from the primary."""
    async with Trial(place, network, seed=seed) as trial:
        node, backup = await backed_up(trial, place)
        primary = trial.pair.other(node)
        trial.fault("old backup as the standby", node)
        node.kill()
        restore(node, backup)
        await trial.restart(node.at)
        await trial.paired()
        await takes_over(trial, primary)
        accept(await trial.finish())


@pytest.mark.fault
async def test_an_old_backup_never_becomes_primary_by_itself(
    network: Network, place: Path, seed: int, accept: Accept
) -> None:
    """Both nodes are gone, and the standby's disk is put back from before: it waits for the other, which has all."""
    async with Trial(place, network, seed=seed) as trial:
        node, backup = await backed_up(trial, place)
        primary = await trial.paired()
        trial.fault("kill of both, standby restored", "both")
        primary.kill()
        node.kill()
        restore(node, backup)
        await trial.restart(node.at)
        await trial.load(6)
        assert node.told()["role"] == "standby"
        await trial.restart(primary.at)
        await trial.progress()
        accept(await trial.finish())


@pytest.mark.fault
async def test_a_journal_damaged_at_the_standby_is_replaced(
    network: Network, place: Path, seed: int, accept: Accept
) -> None:
    """A flipped byte among good records is damage: the node refuses to start, and is built anew from the other."""
    async with Trial(place, network, seed=seed) as trial:
        primary = await trial.paired()
        node = trial.pair.other(primary)
        trial.fault("journal of the standby damaged", node)
        node.kill()
        segment = min((node.folder / "journal").glob("*.seg"))
        data = bytearray(segment.read_bytes())
        data[4 * 4096 + 100] ^= 1
        segment.write_bytes(data)
        node.spawn()
        with pytest.raises(RuntimeError, match="did not start"):
            await asyncio.to_thread(node.wait_listening)
        await asyncio.to_thread(run, "rejoin", node.folder, "--confirm", NAMES[node.at])
        await trial.restart(node.at)
        await trial.paired()
        await takes_over(trial, primary)
        accept(await trial.finish())
