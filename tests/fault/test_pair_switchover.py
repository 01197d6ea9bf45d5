"""Planned switchover under load: held, forwarded, answered; no request fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault.network import Network
from tests.fault.trial import Report, Trial

Accept = Callable[[Report], None]
EVERY_S = 5.0
CALLERS = 32


@pytest.mark.timeout(240)
@pytest.mark.parametrize("times", [2, pytest.param(12, marks=pytest.mark.fault)])
async def test_a_switchover_fails_no_request(
    network: Network, place: Path, seed: int, accept: Accept, times: int
) -> None:
    """Primary and standby change places again and again; every request is answered, by whoever is primary then."""
    async with Trial(place, network, seed=seed, callers=CALLERS) as trial:
        for _ in range(times):
            old = await trial.paired()
            trial.fault("switchover", old)
            new = await asyncio.to_thread(trial.pair.switch_over)
            assert new is not old
            await trial.progress()
            await trial.load(EVERY_S if times > 2 else 0.5)
        assert trial.failed == []
        report = await trial.finish()
        assert report.epochs > times
        accept(report)


@pytest.mark.fault
@pytest.mark.timeout(240)
async def test_a_primary_that_goes_down_in_order_hands_over(
    network: Network, place: Path, seed: int, accept: Accept
) -> None:
    """SIGTERM is a switchover before it is an end; each node in turn is stopped and started, and no request fails."""
    async with Trial(place, network, seed=seed, callers=CALLERS) as trial:
        for _ in range(6):
            old = await trial.paired()
            trial.fault("stop of the primary in order", old)
            assert await asyncio.to_thread(old.stop) == 0
            await trial.primary(other_than=old)
            await trial.progress()
            await trial.restart(old.at)
        assert trial.failed == []
        accept(await trial.finish())


@pytest.mark.fault
@pytest.mark.timeout(240)
async def test_a_node_killed_in_the_middle_of_a_switchover_loses_nothing(
    network: Network, place: Path, seed: int, accept: Accept
) -> None:
    """Either node, at any moment of it: the other one serves afterwards."""
    async with Trial(place, network, seed=seed) as trial:
        for turn in range(10):
            old = await trial.paired()
            victim = old if turn % 2 else trial.pair.other(old)
            trial.fault("kill in a switchover", victim)
            switching = asyncio.create_task(asyncio.to_thread(trial.pair.ask_switchover, old))
            await asyncio.sleep(trial.chance.uniform(0.0, 0.08))  # the moment, not a wait
            victim.kill()
            await asyncio.gather(switching, return_exceptions=True)
            await trial.primary(other_than=victim)
            await trial.progress()
            await trial.restart(victim.at)
        accept(await trial.finish())
