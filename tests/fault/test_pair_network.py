"""Every shape of a network that breaks: one node at most acknowledges, the bank goes on where it can, and heals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault.network import Network
from tests.fault.pair import Member
from tests.fault.trial import Report, Trial

Accept = Callable[[Report], None]
Shape = Callable[[Network, str, str], None]
BROKEN_S = 6.0

GOES_ON_BY_ITSELF: dict[str, Shape] = {
    "link of the pair cut": lambda net, primary, standby: net.cut(primary, standby),
    "standby alone": lambda net, primary, standby: net.cut(standby, primary, "witness", "clients"),
    "primary cut from standby and witness": lambda net, primary, standby: net.cut(primary, standby, "witness"),
    "primary alone": lambda net, primary, standby: net.cut(primary, standby, "witness", "clients"),
    "only from primary to standby cut": lambda net, primary, standby: net.cut_one_way(primary, standby),
    "only from standby to primary cut": lambda net, primary, standby: net.cut_one_way(standby, primary),
    "link of the pair reset": lambda net, primary, standby: net.reset(primary, standby),
    "witness alone": lambda net, primary, standby: net.cut("witness", primary, standby, "clients"),
    "witness cut from the primary": lambda net, primary, standby: net.cut("witness", primary),
    "witness cut from the standby": lambda net, primary, standby: net.cut("witness", standby),
    "30 % of the pair's packets lost": lambda net, primary, standby: net.lose(primary, standby, 30),
    "30 % of the clients' packets lost": lambda net, primary, standby: net.lose(primary, "clients", 30),
}
"""What breaks -> how; in each of them some node can still acknowledge and be reached."""

IN_CI = ("primary cut from standby and witness",)
"""The one that proves most: clients still reach the old primary, which must not answer them."""

SHAPES = [pytest.param(name, marks=() if name in IN_CI else pytest.mark.fault) for name in GOES_ON_BY_ITSELF]


async def broken(trial: Trial, network: Network, name: str, primary: Member) -> None:
    """Break the network, see the bank go on, watch it for a while, and heal."""
    trial.fault(name, primary)
    GOES_ON_BY_ITSELF[name](network, primary.at, trial.pair.other(primary).at)
    await trial.load(BROKEN_S)
    await trial.progress(20)
    network.heal()
    trial.heal(name)
    await trial.progress()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", SHAPES)
async def test_the_bank_goes_on_and_heals(network: Network, place: Path, seed: int, accept: Accept, name: str) -> None:
    """The network breaks twice, for whoever is primary then; clients pinned to each node ask on all the time."""
    async with Trial(place, network, seed=seed) as trial:
        for host in trial.pair.nodes:
            trial.pinned(host)
        for _ in range(1 if name in IN_CI else 2):
            await broken(trial, network, name, await trial.paired())
        accept(await trial.finish())


@pytest.mark.fault
@pytest.mark.timeout(180)
async def test_a_flapping_link_loses_nothing(network: Network, place: Path, seed: int, accept: Accept) -> None:
    """Up and down at times near those of the pair's own clocks; it settles when the link does."""
    async with Trial(place, network, seed=seed) as trial:
        await trial.paired()
        trial.fault("flapping link of the pair", "both")
        for _ in range(12):
            down_s, up_s = trial.chance.uniform(0.05, 3.5), trial.chance.uniform(0.05, 2.0)
            await network.flap("a", "b", times=1, down_s=down_s, up_s=up_s)
        trial.heal("flapping link of the pair")
        await trial.progress()
        accept(await trial.finish())


@pytest.mark.fault
@pytest.mark.timeout(180)
async def test_links_that_come_and_go_at_random_lose_nothing(
    network: Network, place: Path, seed: int, accept: Accept
) -> None:
    """Any link of the three machines, both ways or one, for a random time; the clients reach both nodes throughout."""
    links = [("a", "b"), ("a", "witness"), ("b", "witness")]
    async with Trial(place, network, seed=seed) as trial:
        await trial.paired()
        trial.fault("links come and go", "all")
        for _ in range(25):
            one, other = trial.chance.choice(links)
            kind = trial.chance.choice((network.cut, network.cut_one_way, network.reset, network.mend, network.mend))
            kind(*trial.chance.sample((one, other), 2))
            await trial.load(trial.chance.uniform(0.1, 2.5))
        network.heal()
        trial.heal("links come and go")
        await trial.progress()
        accept(await trial.finish())


@pytest.mark.fault
@pytest.mark.timeout(180)
async def test_a_thin_line_to_the_standby_is_survived(network: Network, place: Path, seed: int, accept: Accept) -> None:
    """The primary waits for it or goes on alone; the standby catches up when the line is good again."""
    async with Trial(place, network, seed=seed) as trial:
        primary = await trial.paired()
        trial.fault("thin line from the standby", trial.pair.other(primary))
        network.slow(trial.pair.other(primary).at, 64)
        await trial.load(8)
        network.heal()
        trial.heal("thin line from the standby")
        await trial.progress()
        accept(await trial.finish())


@pytest.mark.fault
@pytest.mark.timeout(180)
async def test_clients_cut_from_a_healthy_primary_wait(
    network: Network, place: Path, seed: int, accept: Accept
) -> None:
    """No change of roles: the pair is well. What was asked meanwhile is done when the clients are back."""
    async with Trial(place, network, seed=seed) as trial:
        primary = await trial.paired()
        trial.fault("clients cut from the primary", primary)
        network.cut("clients", primary.at)
        await trial.load(5)
        assert await trial.primary() is primary
        network.heal()
        trial.heal("clients cut from the primary")
        await trial.progress()
        accept(await trial.finish())


@pytest.mark.fault
@pytest.mark.timeout(180)
async def test_a_primary_cut_off_with_its_clients_acknowledges_nothing(
    network: Network, place: Path, seed: int, accept: Accept
) -> None:
    """Once the other node has taken over, a client that knows only the old one gets no answer but a refusal."""
    async with Trial(place, network, seed=seed) as trial:
        old = await trial.paired()
        pinned = trial.pinned(old.at)
        await trial.until(lambda: pinned.acknowledged > 20, "answers of the old primary")
        trial.fault("primary cut from standby and witness", old)
        network.cut(old.at, trial.pair.other(old).at, "witness")
        await trial.primary(other_than=old)
        before, refused = pinned.acknowledged, pinned.refused
        await trial.load(5)
        assert pinned.acknowledged == before
        network.heal()
        trial.heal("primary cut from standby and witness")
        await trial.paired()
        await trial.until(lambda: pinned.refused > refused, "a refusal of the old primary")
        assert pinned.acknowledged == before
        accept(await trial.finish())
