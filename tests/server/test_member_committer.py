"""The committer of a node of a pair: answers wait for records made anywhere; a step down is told to all who wait."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fortress.errors import Busy, DiskFull, FortressError, NotPrimary
from fortress.ledger.table_digest import TableView
from fortress.server import committer
from tests.server.banks import hold_journal, hold_loading, hold_tables, said, until
from tests.server.members import Member, member, standby_with_records, stored

NOT_HERE = NotPrimary("this node is a standby", {"primary": "there:1"})


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits half a second for a full disk."""
    monkeypatch.setattr(committer, "DISK_RETRY_S", 0.01)


def when(node: Member, name: str, position: int) -> None:
    """Have it told when a position is committed."""
    node.member.when_committed(position, lambda outcome: node.told.append((name, outcome)), name)


def told(node: Member) -> list[tuple[str, str]]:
    """What was told: the name again, or an error's."""
    return [(name, outcome if isinstance(outcome, str) else said(outcome)) for name, outcome in node.told]


# --- Waiting for a position -------------------------------------------------------------------------------------------
async def test_a_position_made_elsewhere_is_waited_for(tmp_path: Path) -> None:
    """A read on a standby shows what is committed; each waits for its own record, and no longer."""
    async with standby_with_records(tmp_path, 10, 20) as (node, records):
        await stored(node, records)
        first = records[0].first_position + 1
        when(node, "second", first + 1)
        when(node, "first", first)
        when(node, "before", first - 1)
        assert told(node) == [("before", "before")]
        node.replica.commit(records[0].lsn)
        assert told(node)[1:] == [("first", "first")]
        node.replica.commit(records[1].lsn)
        assert told(node)[2:] == [("second", "second")]


async def test_a_position_of_before_the_start_is_waited_for(tmp_path: Path) -> None:
    """A node that was primary died with a record that is on its disk: only the pair knows whether it is committed."""
    async with standby_with_records(tmp_path, 10) as (node, records):
        await stored(node, records)
    async with member(tmp_path, "standby") as node:
        when(node, "old", records[0].first_position + 1)
        assert told(node) == []
        node.member.take_commands()
        node.submit("new", node.move(1))
        await until(lambda: node.made)
        assert told(node) == []
        node.replica.commit(records[0].lsn)
        assert told(node) == [("old", "old")]
        await until(lambda: node.durable)
        node.replica.commit(node.last_lsn)
        assert told(node)[1:] == [("new", "ok")]


async def test_positions_of_this_primary_are_told_with_their_records(tmp_path: Path) -> None:
    """The record under way and the open one, as without a pair."""
    async with member(tmp_path) as node:
        await node.make(1)
        journal = hold_journal(node.engine)
        node.submit("a", node.move(1))
        await until(lambda: journal.begun)
        node.submit("b", node.move(1))
        when(node, "under way", node.engine.state.position - 1)
        when(node, "open", node.engine.state.position)
        journal.release()
        await until(lambda: len(node.durable) == 2)
        node.replica.commit(node.durable[1])
        assert told(node) == [("a", "ok"), ("under way", "under way")]
        await until(lambda: len(node.durable) == 3)
        node.replica.commit(node.durable[2])
        assert told(node)[2:] == [("b", "ok"), ("open", "open")]


async def test_who_waits_for_a_record_elsewhere_is_told_that_the_disk_is_full(tmp_path: Path) -> None:
    """A primary that cannot write makes nobody wait for it."""
    async with standby_with_records(tmp_path, 10) as (node, records):
        await stored(node, records)
        position = records[0].first_position + 1
        when(node, "early", position)
        journal = hold_journal(node.engine)
        journal.errors = [DiskFull("no space")]
        node.submit("a", node.move(1))
        journal.release()
        await until(lambda: told(node))
        assert sorted(told(node)) == [("a", "DiskFull"), ("early", "DiskFull")]
        await until(lambda: len(node.durable) == 2)
        node.replica.commit(node.last_lsn)


# --- Changes of role --------------------------------------------------------------------------------------------------
async def test_stepping_down_answers_all_who_wait(tmp_path: Path) -> None:
    """Judged and not in a record, or not judged: nothing happened. In a record: the other node may have it."""
    async with standby_with_records(tmp_path, 10) as (node, records):
        await stored(node, records)
        when(node, "elsewhere", records[0].first_position + 1)
        journal, loading = hold_journal(node.engine), hold_loading(node.engine)
        node.submit("in a record", node.move(1))
        await until(lambda: journal.begun)
        node.submit("judged", node.move(1))
        node.submit("lacks", node.move(1, credit=node.bob + 97 * 5))
        await until(lambda: loading.begun)
        node.submit("behind it", node.move(1))
        node.member.refuse_commands(NOT_HERE)
        assert dict(told(node)) == {
            "elsewhere": "OutcomeUnknown",
            "in a record": "OutcomeUnknown",
            "judged": "NotPrimary",
            "lacks": "NotPrimary",
            "behind it": "NotPrimary",
        }
        assert len(node.told) == 5
        with pytest.raises(NotPrimary) as refused:
            node.submit("later", node.move(1))
        assert refused.value.facts == NOT_HERE.facts
        journal.release()
        loading.release()


async def test_a_node_that_may_act_again_takes_commands(tmp_path: Path) -> None:
    """What was in a record is committed after all, and a repeat finds it done once."""
    async with member(tmp_path) as node:
        order = node.move(100)
        node.submit("a", order)
        await until(lambda: node.durable)
        node.member.refuse_commands(Busy("nobody answers"))
        assert told(node) == [("a", "OutcomeUnknown")]
        with pytest.raises(Busy):
            node.submit("b", node.move(1))
        node.member.take_commands()
        node.replica.commit(node.last_lsn)
        verdict = await node.committer.commit(order)
        assert verdict.replayed
        assert node.balance(node.alice) == 10_000 - 100


async def test_commands_wait_while_the_node_hands_over(tmp_path: Path) -> None:
    """What was begun is finished, and when it is, the node is quiet; nothing that waits is judged meanwhile."""
    async with member(tmp_path) as node:
        await node.make(1)
        node.submit("begun", node.move(1))
        assert not node.member.is_quiet
        node.member.hold()
        node.submit("waits", node.move(1))
        await until(lambda: len(node.durable) == 2)
        assert not node.member.is_quiet
        node.replica.commit(node.last_lsn)
        assert node.member.is_quiet
        assert told(node) == [("begun", "ok")]
        lsn = node.last_lsn
        await asyncio.sleep(0)
        assert node.last_lsn == lsn


@pytest.mark.parametrize("is_handed_over", [False, True], ids=["stays primary", "handed over"])
async def test_what_waited_goes_on_or_is_sent_on(tmp_path: Path, *, is_handed_over: bool) -> None:
    """In the order it came, when this node stays primary; else with the way to the other one, and nothing was done."""
    async with member(tmp_path) as node:
        await node.make(1)
        before = node.balance(node.alice)
        node.member.hold()
        node.submit("a", node.move(1))
        node.submit("b", node.move(1))
        if is_handed_over:
            node.member.refuse_commands(NOT_HERE)
            assert told(node) == [("a", "NotPrimary"), ("b", "NotPrimary")]
            assert node.balance(node.alice) == before
            assert node.replica.is_clean
        else:
            node.is_alone = True
            node.member.take_commands()
            await until(lambda: len(node.told) == 2)
            assert told(node) == [("a", "ok"), ("b", "ok")]


async def test_each_refusal_is_an_error_of_its_own(tmp_path: Path) -> None:
    """One error raised again and again would gather tracebacks without end."""
    async with member(tmp_path) as node:
        node.member.refuse_commands(NOT_HERE)
        found: list[FortressError] = []
        for _ in range(2):
            with pytest.raises(NotPrimary) as refused:
                node.submit("a", node.move(1))
            found.append(refused.value)
        assert found[0] is not found[1] is not NOT_HERE


# --- The tables -------------------------------------------------------------------------------------------------------
async def test_a_view_is_of_exactly_one_record(tmp_path: Path) -> None:
    """Two nodes can compare their tables though these never stand still at the same time."""
    async with standby_with_records(tmp_path, 1, 2, 3) as (node, records):
        tables = hold_tables(node.engine)
        views: list[TableView] = []
        assert node.member.view_at(records[1].lsn, views.append)
        assert not node.member.view_at(records[2].lsn, views.append)  # one at a time
        node.replica.commit(records[2].lsn)
        await stored(node, records)
        tables.release()
        await until(lambda: views)
        assert (views[0].lsn, views[0].hash) == (records[1].lsn, records[1].hash)
        views[0].close()
        await until(lambda: node.engine.store.applied_lsn == records[2].lsn)
        assert not node.member.view_at(records[1].lsn, views.append)  # the tables are past it


async def test_a_node_out_of_office_closes_without_waiting(tmp_path: Path) -> None:
    """What it put into a record may never be committed: that is left to the journal and the next start."""
    async with member(tmp_path) as node:
        node.submit("a", node.move(1))
        await until(lambda: node.durable)
        node.member.refuse_commands(NOT_HERE)
        lsn = node.last_lsn
    async with member(tmp_path) as node:
        assert (node.last_lsn, node.committer.committed_lsn) == (lsn, lsn - 1)
