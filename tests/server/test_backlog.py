"""Commands that wait to be judged: in order, bounded, read for together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fortress.errors import Busy, LedgerError, StoreCorrupt
from fortress.ledger.model import account_number
from fortress.server.backlog import Backlog
from tests.server.banks import Committing, committing, hold_loading, until


class Waiting:
    """A backlog of its own beside a ledger, and what it told."""

    def __init__(self, world: Committing, *, places_max: int = 10, together_max: int = 100) -> None:
        self.world = world
        self.loaded = 0
        self.fatal: list[LedgerError] = []
        self.threads = ThreadPoolExecutor(1)
        self.backlog = Backlog(
            world.engine,
            self.threads,
            places_max=places_max,
            together_max=together_max,
            on_loaded=self._on_loaded,
            on_fatal=self.fatal.append,
        )

    def _on_loaded(self) -> None:
        self.loaded += 1


def nobody(outcome: Any) -> None:
    """Takes an answer."""


async def test_the_first_command_comes_out_once_it_lacks_nothing(tmp_path: Path) -> None:
    """Taking the first begins its reading; after that it comes, and then the next."""
    async with committing(tmp_path) as world:
        waiting = Waiting(world)
        first, second = world.move(), world.move(credit=1)
        assert waiting.backlog.next() is None
        waiting.backlog.add(first, nobody)
        waiting.backlog.add(second, nobody)
        assert waiting.backlog.next() is None
        assert waiting.backlog.next() is None
        await until(lambda: waiting.loaded)
        assert waiting.backlog.next() == (first, nobody)
        assert waiting.backlog.next() == (second, nobody)
        assert waiting.backlog.next() is None
        assert waiting.loaded == 1
        waiting.threads.shutdown()


async def test_no_more_is_read_for_than_a_record_takes(tmp_path: Path) -> None:
    """One reading looks ahead as far as one record goes."""
    async with committing(tmp_path) as world:
        loading = hold_loading(world.engine)
        loading.release()
        waiting = Waiting(world, together_max=2)
        numbers = [account_number(70_000 + n) for n in range(5)]
        for number in numbers:
            waiting.backlog.add(world.move(debit=number, credit=number), nobody)
        waiting.backlog.next()
        await until(lambda: waiting.loaded)
        assert loading.begun[0].accounts == set(numbers[:2])
        waiting.threads.shutdown()


@pytest.mark.parametrize("error", [StoreCorrupt("a page is broken"), ValueError("a bug")], ids=["known", "unknown"])
async def test_tables_that_cannot_be_read_are_fatal(tmp_path: Path, error: Exception) -> None:
    """Whatever the reason, it comes as an error of the ledger."""
    async with committing(tmp_path) as world:
        loading = hold_loading(world.engine)
        loading.errors = [error]
        loading.release()
        waiting = Waiting(world)
        waiting.backlog.add(world.move(), nobody)
        waiting.backlog.next()
        await until(lambda: waiting.fatal)
        assert isinstance(waiting.fatal[0], LedgerError)
        assert waiting.loaded == 0
        waiting.threads.shutdown()


async def test_places_are_given_back(tmp_path: Path) -> None:
    """What was taken out or forgotten leaves room; a batch takes one place more for every four rows."""
    async with committing(tmp_path) as world:
        waiting = Waiting(world, places_max=3)
        lacking_nothing = world.move(debit=1, credit=1)
        told: list[str] = []
        waiting.backlog.add(world.batch(*(world.row() for _ in range(8))), told.append)
        with pytest.raises(Busy):
            waiting.backlog.add(lacking_nothing, nobody)
        for answered in waiting.backlog.clear():
            answered("forgotten")
        assert told == ["forgotten"]
        for _ in range(3):
            waiting.backlog.add(lacking_nothing, nobody)
        assert waiting.backlog.next() is not None
        waiting.backlog.add(lacking_nothing, nobody)
        with pytest.raises(Busy):
            waiting.backlog.add(lacking_nothing, nobody)
        waiting.threads.shutdown()
