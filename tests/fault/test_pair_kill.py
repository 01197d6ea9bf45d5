"""Kills of a pair's processes under load: the other node goes on, nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault import pair_kill
from tests.fault.network import Network
from tests.fault.trial import Report, Trial

KILLS_IN_CI = 2
KILLS = 200
Accept = Callable[[Report], None]


@pytest.mark.timeout(180)
async def test_the_primary_is_killed_and_the_other_goes_on(
    network: Network, place: Path, seed: int, accept: Accept
) -> None:
    """Each killed node comes back as the standby; both journals are the same at the end."""
    report = await pair_kill.run(place, network, kills=KILLS_IN_CI, seed=seed)
    assert report.faults == {"kill of the primary": KILLS_IN_CI}
    assert report.epochs > KILLS_IN_CI
    accept(report)


@pytest.mark.fault
@pytest.mark.timeout(3600)
async def test_the_primary_is_killed_two_hundred_times(
    network: Network, place: Path, seed: int, accept: Accept
) -> None:
    """The same over a long life, with 32 clients."""
    report = await pair_kill.run(place, network, kills=KILLS, seed=seed)
    assert sum(report.faults.values()) == KILLS
    accept(report)


@pytest.mark.fault
@pytest.mark.timeout(300)
async def test_a_killed_standby_is_missed_for_a_moment(
    network: Network, place: Path, seed: int, accept: Accept
) -> None:
    """The primary goes on alone, the standby comes back and has everything again."""
    async with Trial(place, network, seed=seed) as trial:
        for _ in range(3):
            primary = await trial.paired()
            standby = trial.pair.other(primary)
            trial.fault("kill of the standby", standby)
            standby.kill()
            await trial.progress()
            assert await trial.primary() is primary
            await trial.restart(standby.at)
        accept(await trial.finish())


@pytest.mark.fault
@pytest.mark.timeout(300)
async def test_both_nodes_killed_at_once_come_back(network: Network, place: Path, seed: int, accept: Accept) -> None:
    """The register says whose history it is; both start again, in either order."""
    async with Trial(place, network, seed=seed) as trial:
        for turn in range(4):
            await trial.paired()
            trial.fault("kill of both nodes", "both")
            for node in trial.pair.nodes.values():
                node.kill()
            for host in ("a", "b") if turn % 2 else ("b", "a"):
                await trial.restart(host)
            await trial.progress()
        accept(await trial.finish())


@pytest.mark.fault
@pytest.mark.timeout(300)
async def test_a_killed_witness_is_not_missed_by_a_pair(
    network: Network, place: Path, seed: int, accept: Accept
) -> None:
    """While both nodes run, nothing waits for it; it comes back with what it knew, and a takeover works again."""
    async with Trial(place, network, seed=seed) as trial:
        primary = await trial.paired()
        trial.fault("kill of the witness", "witness")
        trial.pair.witness.kill()
        await trial.load(3)
        await trial.progress()
        assert trial.failed == []
        trial.pair.witness.start()
        trial.fault("kill of the primary", primary)
        primary.kill()
        await trial.primary(other_than=primary)
        await trial.progress()
        await trial.restart(primary.at)
        accept(await trial.finish())


@pytest.mark.fault
@pytest.mark.timeout(300)
async def test_without_witness_and_primary_nothing_is_acknowledged(
    network: Network, place: Path, seed: int, accept: Accept
) -> None:
    """A standby that cannot ask does not take over; once the witness is back it does."""
    async with Trial(place, network, seed=seed) as trial:
        primary = await trial.paired()
        trial.fault("kill of witness and primary", primary)
        trial.pair.witness.kill()
        primary.kill()
        before = trial.acknowledged
        await trial.load(5)
        assert trial.acknowledged - before <= len(trial.callers)  # answers that were on their way
        trial.pair.witness.start()
        await trial.primary(other_than=primary)
        await trial.progress()
        await trial.restart(primary.at)
        accept(await trial.finish())


@pytest.mark.fault
@pytest.mark.timeout(300)
async def test_a_node_killed_while_it_comes_back_comes_back(
    network: Network, place: Path, seed: int, accept: Accept
) -> None:
    """Starting, catching up and joining may be cut short at any moment."""
    async with Trial(place, network, seed=seed) as trial:
        primary = await trial.paired()
        standby = trial.pair.other(primary)
        for _ in range(15):
            trial.fault("kill of a returning node", standby)
            standby.kill()
            await trial.load(trial.chance.uniform(0.0, 0.3))
            standby.spawn()
            await asyncio.sleep(trial.chance.uniform(0.2, 2.0))  # the moment, not a wait
        standby.kill()
        await trial.restart(standby.at)
        await trial.progress()
        accept(await trial.finish())
