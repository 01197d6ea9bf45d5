"""The tables follow the journal: late as a rule, at once when somebody waits, again when there is space."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fortress.errors import DiskFull, OutcomeUnknown
from fortress.server import applier
from tests.server.banks import committing, hold_tables, until


async def test_records_gather_before_they_are_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several commits cost one transaction."""
    monkeypatch.setattr(applier, "APPLY_EVERY_S", 0.05)
    async with committing(tmp_path) as world:
        tables = hold_tables(world.engine)
        tables.release()
        before = world.engine.store.applied_position
        for _ in range(3):
            await world.committer.commit(world.move())
        assert world.engine.store.applied_position == before
        await until(lambda: world.committer.statistics()["unapplied"] == 0)
        assert [len(deltas) for deltas in tables.begun] == [3]
        assert world.engine.store.applied_position == before + 3


async def test_a_slow_transaction_does_not_end_the_following(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is committed during a transaction that takes longer than the tables' usual pause is applied after it."""
    monkeypatch.setattr(applier, "APPLY_EVERY_S", 0.01)
    async with committing(tmp_path) as world:
        tables = hold_tables(world.engine)
        await world.committer.commit(world.move())
        await until(lambda: tables.begun)
        await world.committer.commit(world.move())
        timer = world.committer._applier._timer
        assert timer is not None
        await until(lambda: world.committer._applier._timer is not timer)
        tables.release()
        await until(lambda: world.committer.statistics()["unapplied"] == 0)


async def test_who_waits_for_the_tables_hurries_them_on(tmp_path: Path) -> None:
    """A reader does not wait for the second to pass; readers of one moment share a transaction."""
    async with committing(tmp_path) as world:
        tables = hold_tables(world.engine)
        tables.release()
        await world.committer.commit(world.move())
        position = world.committer.committed_position
        async with asyncio.timeout(0.9):
            await asyncio.gather(*(world.committer.wait_applied(position) for _ in range(3)))
        assert len(tables.begun) == 1
        await world.committer.wait_applied(position)
        assert len(tables.begun) == 1


async def test_who_waits_for_what_is_not_committed_yet_is_told_then(tmp_path: Path) -> None:
    """A position that was judged can be waited for; a reader that gives up disturbs nobody."""
    async with committing(tmp_path) as world:
        await world.committer.commit(world.move())
        world.submit("next", world.move())
        position = world.engine.state.position
        hurried = asyncio.ensure_future(world.committer.wait_applied(position))
        given_up = asyncio.ensure_future(world.committer.wait_applied(position))
        await asyncio.sleep(0)
        given_up.cancel()
        await hurried
        assert world.engine.store.applied_position == position


async def test_a_full_disk_is_tried_again_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost: the same records are applied once there is space."""
    monkeypatch.setattr(applier, "DISK_RETRY_S", 0.01)
    async with committing(tmp_path) as world:
        tables = hold_tables(world.engine)
        await world.committer.commit(world.move())
        position = world.committer.committed_position
        tables.errors = [DiskFull("no space")] * 1_000
        reader = asyncio.ensure_future(world.committer.wait_applied(position))
        given_up = asyncio.ensure_future(world.committer.wait_applied(position))
        await until(lambda: tables.begun)
        given_up.cancel()
        tables.release()
        with pytest.raises(DiskFull):
            await reader
        with pytest.raises(DiskFull):
            await world.committer.wait_applied(position)
        tables.errors = []
        await until(lambda: world.committer.statistics()["unapplied"] == 0)
        assert world.engine.store.applied_position == position


async def test_a_fault_of_the_tables_ends_the_following(tmp_path: Path) -> None:
    """An error that is none of the ledger's is one when it comes from there."""
    async with committing(tmp_path) as world:
        tables = hold_tables(world.engine)
        tables.errors = [ValueError("a bug")]
        tables.release()
        await world.committer.commit(world.move())
        with pytest.raises(OutcomeUnknown):
            await world.committer.wait_applied(world.committer.committed_position)
        assert "a bug" in str(world.fatal[0])
        assert len(tables.begun) == 1
