"""The register on a host of its own: answers late, or not at all, and does late what it was asked to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fortress.errors import FortressError, RegisterUnreachable
from fortress.pair.change import check_change, check_held
from fortress.pair.messages import Configuration
from tests.simulation.network import MS, Network, NodeProcess

HOST = "witness"
WAIT_S = 1.0


class Shelf:
    """What the register holds, and what it was asked to take.

    Attributes:
        on_change: told each configuration that it took.
    """

    def __init__(self, on_change: Callable[[Configuration], None]) -> None:
        self.held: Configuration | None = None
        self.on_change = on_change
        self._asked: list[tuple[int | None, Configuration]] = []

    def is_asked(self, expected: int | None, fresh: Configuration) -> None:
        """Take note of a change that is on its way."""
        self._asked.append((expected, fresh))

    def possible(self) -> list[Configuration]:
        """Give what it holds, and what it may hold yet without anybody asking again."""
        held = self.held
        if held is None:
            return []
        self._asked = [item for item in self._asked if item[0] == held.epoch]
        return [held, *(fresh for _, fresh in self._asked)]

    def compare_and_set(self, expected: int | None, fresh: Configuration) -> Configuration:
        check_change(expected, fresh)
        check_held(self.held, expected)
        self.held = Configuration(fresh.epoch, fresh.primary, fresh.in_sync, b"shelf")
        self.on_change(self.held)
        return self.held


class Asking:
    """One process's way to the register."""

    def __init__(self, shelf: Shelf, network: Network, process: NodeProcess) -> None:
        self._shelf = shelf
        self._network = network
        self._process = process

    async def get(self) -> Configuration | None:
        return await self._ask(lambda: self._shelf.held)

    async def compare_and_set(self, expected_epoch: int | None, fresh: Configuration) -> Configuration:
        self._shelf.is_asked(expected_epoch, fresh)
        found = await self._ask(lambda: self._shelf.compare_and_set(expected_epoch, fresh))
        assert found is not None
        return found

    async def close(self) -> None:
        pass

    async def _ask(self, act: Callable[[], Configuration | None]) -> Configuration | None:
        process, network, host = self._process, self._network, self._process.host
        future: asyncio.Future[Configuration | None] = process.create_future()

        def settle(found: Configuration | None, error: Exception | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(found)

        def asked() -> None:
            found, error = None, None
            try:
                found = act()
            except FortressError as refused:
                error = refused
            network.send(
                HOST, host, lambda: None if process.is_dead else process.call_soon(settle, found, error), is_held=False
            )

        is_held = network.chance.random() < 0.5
        wait_ns = int(network.chance.random() * 2_000 * MS) if network.chance.random() < 0.02 else 0
        network.time.at(wait_ns, lambda: network.send(host, HOST, asked, is_held=is_held))
        try:
            async with asyncio.timeout(WAIT_S):
                return await future
        except TimeoutError:
            raise RegisterUnreachable() from None
