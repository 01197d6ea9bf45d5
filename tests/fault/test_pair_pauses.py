"""Processes that are paused and clocks that jump: who slept may not speak for a time that is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault import shims
from tests.fault.network import Network
from tests.fault.pair import Layout, Member
from tests.fault.shims import JumpingClock
from tests.fault.trial import Report, Trial

Accept = Callable[[Report], None]
LONG_S = 30.0
SHORT_S = 5.0
DAY_S = 86_400
REJOIN_S_MAX = 100.0
JUMPS_S = (3600, -3600, 7 * DAY_S, 0, -7 * DAY_S, 1, -1, 0)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seconds", [SHORT_S, pytest.param(LONG_S, marks=pytest.mark.fault)])
async def test_a_woken_primary_answers_nothing_stale(
    network: Network, place: Path, seed: int, accept: Accept, seconds: float
) -> None:
    """Clients that know only the old primary ask on while it sleeps; what it says when it wakes is no, or right."""
    async with Trial(place, network, seed=seed) as trial:
        old = await trial.paired()
        payers = [trial.pinned(old.at) for _ in range(4)]
        for _ in range(4):
            trial.watch(trial.counter.look_at(old.at))
        await trial.until(lambda: all(payer.acknowledged for payer in payers), "answers of the old primary")
        trial.fault(f"primary paused for {seconds:.0f} s", old)
        trial.pair.pause(old)
        await trial.primary(other_than=old)
        await trial.progress()
        acknowledged = sum(payer.acknowledged for payer in payers)
        await trial.load(seconds - 4)
        refused = [payer.refused for payer in payers]
        trial.pair.wake(old)
        trial.heal(f"primary paused for {seconds:.0f} s")
        await trial.until(
            lambda: all(payer.refused > before for payer, before in zip(payers, refused, strict=True)),
            "refusals of the old primary",
        )
        assert sum(payer.acknowledged for payer in payers) == acknowledged
        assert await trial.paired() is not old
        accept(await trial.finish())


@pytest.mark.fault
@pytest.mark.timeout(240)
@pytest.mark.parametrize("seconds", [0.15, 0.5, 1.2, 2.5, 3.2])
async def test_pauses_near_the_pairs_own_times_lose_nothing(
    network: Network, place: Path, seed: int, accept: Accept, seconds: float
) -> None:
    """A pause may end just before the other node acts, while it does, or just after; primary and standby in turn.

    A standby that is missed again and again is waited for ever longer before it counts again, so there are few turns.
    """
    async with Trial(place, network, seed=seed) as trial:
        for turn in range(6):
            primary = await trial.paired(REJOIN_S_MAX)
            node = primary if turn % 2 else trial.pair.other(primary)
            trial.fault(f"pauses of {seconds} s", node)
            trial.pair.pause(node)
            await asyncio.sleep(seconds + trial.chance.uniform(-0.1, 0.1))  # the length of the fault, not a wait
            trial.pair.wake(node)
            await trial.progress()
        accept(await trial.finish())


@pytest.mark.fault
@pytest.mark.timeout(240)
async def test_a_paused_standby_is_missed_and_comes_back(
    network: Network, place: Path, seed: int, accept: Accept
) -> None:
    """The primary goes on alone and stays primary; the standby gets all of it when it wakes."""
    async with Trial(place, network, seed=seed) as trial:
        primary = await trial.paired()
        standby = trial.pair.other(primary)
        trial.fault("standby paused for 10 s", standby)
        trial.pair.pause(standby)
        await trial.load(10)
        await trial.progress()
        trial.pair.wake(standby)
        trial.heal("standby paused for 10 s")
        assert await trial.paired() is primary
        accept(await trial.finish())


@pytest.mark.fault
@pytest.mark.timeout(240)
async def test_a_paused_witness_holds_nobody_up(network: Network, place: Path, seed: int, accept: Accept) -> None:
    """While the pair is whole it is not asked; a takeover waits for it, and happens when it wakes."""
    async with Trial(place, network, seed=seed) as trial:
        primary = await trial.paired()
        trial.fault("witness paused", "witness")
        trial.pair.witness.pause()
        await trial.load(4)
        await trial.progress()
        assert trial.failed == []
        trial.fault("kill of the primary, witness paused", primary)
        primary.kill()
        await trial.load(4)
        trial.pair.witness.wake()
        await trial.primary(other_than=primary)
        await trial.progress()
        await trial.restart(primary.at)
        accept(await trial.finish())


async def jumps(trial: Trial, clocks: dict[str, JumpingClock], node: Member) -> None:
    """Let a node's clock jump about while the bank works."""
    for seconds in JUMPS_S:
        trial.fault("clock jumps", node)
        clocks[node.at].jump(seconds)
        await trial.load(0.5)
        await trial.progress()


@pytest.mark.fault
@pytest.mark.timeout(240)
@pytest.mark.skipif(bool(shims.why_not()), reason=shims.why_not())
async def test_clocks_that_jump_change_nobodys_role(network: Network, place: Path, seed: int, accept: Accept) -> None:
    """The pair's own times are of clocks that nobody sets; a takeover between clocks a week apart loses nothing."""
    clocks = {}
    for host in ("a", "b"):
        (place / f"clock-{host}").mkdir()
        clocks[host] = JumpingClock(place / f"clock-{host}")
    layout = Layout(variables={host: clock.variables for host, clock in clocks.items()})
    async with Trial(place, network, seed=seed, layout=layout) as trial:
        primary = await trial.paired()
        for node in (primary, trial.pair.other(primary)):
            await jumps(trial, clocks, node)
        assert await trial.paired() is primary
        clocks[primary.at].jump(7 * DAY_S)
        await trial.progress()
        trial.fault("kill of a primary whose clock was ahead", primary)
        primary.kill()
        await trial.primary(other_than=primary)
        await trial.progress()
        clocks[primary.at].jump(0)
        await trial.restart(primary.at)
        accept(await trial.finish())
