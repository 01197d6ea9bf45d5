"""What goes wrong during a storm, drawn from the seed: which faults there are, when each comes, how long it stays."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from fortress.errors import FortressError
from tests.simulation.network import MS
from tests.simulation.register import HOST

if TYPE_CHECKING:
    from tests.simulation.world import Site, World

CLIENTS = "clients"


class Faults:
    """Plans a storm.

    Args:
        world: it goes over.
        chance: it is drawn from.
    """

    def __init__(self, world: World, chance: random.Random) -> None:
        self._world, self._chance = world, chance
        self._known: tuple[Callable[[], None], ...] = (
            self._kill,
            self._kill,
            self._power,
            self._pause,
            self._cut_pair,
            self._cut_register,
            self._cut_clients,
            self._isolate,
            self._strand,
            self._strand,
            self._reset,
            self._register_off,
            self._slow_network,
            self._slow_disk,
            self._switch,
            self._leave,
            self._take_over,
            self._wipe,
            self._break_disk,
            self._both,
        )

    def plan(self, until_ns: int) -> None:
        """Let faults come one after the other until a moment."""
        chance = self._chance
        known = chance.sample(self._known, chance.choice((1, 2, 3, 6, len(self._known))))
        every_ns = chance.choice((200, 600, 2_000)) * MS

        def next_one() -> None:
            if self._world.time.now_ns < until_ns:
                chance.choice(known)()
                self._world.time.at(int(chance.expovariate(1 / every_ns)), next_one)

        self._world.time.at(chance.choice((0, 300, 1_500)) * MS, next_one)

    def _site(self) -> Site:
        return self._world.sites[self._chance.choice(sorted(self._world.sites))]

    def _a_while(self) -> int:
        """Draw how long something stays: mostly short, sometimes longer than every time of the pair."""
        return int(self._chance.choice((20, 100, 300, 1_500, 5_000)) * MS * self._chance.uniform(0.5, 1.5))

    def _later(self, act: Callable[[], object]) -> None:
        self._world.time.at(self._a_while(), act)

    # --- Processes and machines ----
    def _kill(self) -> None:
        site = self._site()
        self._world.kill(site)
        self._later(lambda: self._world.recover(site))

    def _power(self) -> None:
        site = self._site()
        self._world.kill(site, is_power_cut=True)
        self._later(lambda: self._world.recover(site))

    def _both(self) -> None:
        is_power_cut = self._chance.random() < 0.5
        for site in self._world.sites.values():
            self._world.kill(site, is_power_cut=is_power_cut)
            self._later(lambda site=site: self._world.recover(site))

    def _pause(self) -> None:
        site = self._site()
        if site.process is not None:
            self._world.tell(f"{site.name} is paused")
            site.process.is_paused = True
            self._later(lambda: self._world.wake(site))

    def _wipe(self) -> None:
        site = self._site()
        if self._world.wipe(site):
            self._later(lambda: self._world.recover(site))

    def _break_disk(self) -> None:
        """Let a write fail with an unknown outcome, where another disk has everything."""
        site = self._site()
        if self._world.may_lose(site):
            self._world.tell(f"{site.name} has a broken disk")
            site.home.disk.is_broken = site.is_excused = True
            self._later(lambda: self._world.recover(site))

    def _slow_disk(self) -> None:
        disk = self._site().home.disk
        disk.slowness = self._chance.choice((10, 100, 1_000))
        self._later(lambda: setattr(disk, "slowness", 1.0))

    # --- The network ----
    def _cut(self, *ways: tuple[str, str]) -> None:
        network = self._world.network
        self._world.tell(f"cut: {', '.join('>'.join(way) for way in ways)}")
        for way in ways:
            network.cut(*way)

        def heal() -> None:
            self._world.tell(f"healed: {', '.join('>'.join(way) for way in ways)}")
            for way in ways:
                network.heal(*way)

        self._later(heal)

    def _ways(self, one: str, other: str) -> tuple[tuple[str, str], ...]:
        both = ((one, other), (other, one))
        return self._chance.choice((both, both[:1], both[1:]))

    def _cut_pair(self) -> None:
        self._cut(*self._ways(*sorted(self._world.sites)))

    def _cut_register(self) -> None:
        self._cut(*self._ways(self._site().name, HOST))

    def _cut_clients(self) -> None:
        self._cut(*self._ways(self._site().name, CLIENTS))

    def _isolate(self) -> None:
        name = self._site().name
        others = [HOST, CLIENTS, *(other for other in self._world.sites if other != name)]
        self._cut(*((name, other) for other in others), *((other, name) for other in others))

    def _strand(self) -> None:
        """Leave a node nothing but its clients."""
        name = self._site().name
        others = [HOST, *(other for other in self._world.sites if other != name)]
        self._cut(*((name, other) for other in others), *((other, name) for other in others))

    def _reset(self) -> None:
        self._world.tell("connections are reset")
        self._world.network.reset_all()

    def _slow_network(self) -> None:
        network = self._world.network
        network.delay_us = self._chance.choice((2_000, 20_000, 100_000))
        self._later(lambda: setattr(network, "delay_us", 150.0))

    def _register_off(self) -> None:
        network = self._world.network
        self._world.tell("the register is off")
        network.host_down(HOST)
        self._later(lambda: network.host_up(HOST))

    # --- Operators ----
    def _switch(self) -> None:
        self._order("switch_over")

    def _take_over(self) -> None:
        self._order("take_over")

    def _order(self, name: str) -> None:
        site = self._site()
        node, process = site.running, site.process
        if process is None or node is None or not hasattr(node, "pairing"):
            return
        self._world.tell(f"{site.name} is told to {name}")
        pairing = node.pairing

        async def order() -> None:
            try:
                await getattr(pairing.replication, name)()
            except FortressError as error:
                self._world.tell(f"{site.name} could not {name}: {error}"[:120])

        process.call_soon(lambda: process.create_task(order()))

    def _leave(self) -> None:
        """Stop a node in order, as for an upgrade."""
        site = self._site()
        node, process = site.running, site.process
        if process is None or node is None or not hasattr(node, "pairing"):
            return
        self._world.tell(f"{site.name} is asked to stop")
        process.call_soon(node.stopped.set)
        self._later(lambda: self._world.recover(site))
