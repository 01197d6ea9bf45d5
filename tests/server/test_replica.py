"""One member's records: shipped and written at once, done when committed; or stored, acknowledged, followed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from fortress.errors import (
    BooksBroken,
    ChainBroken,
    DiskFull,
    JournalWriteFailed,
    LedgerError,
    MessageTooLarge,
    NoPrimary,
    NotPrimary,
)
from fortress.ledger.records import Record
from fortress.pair.messages import Mark
from fortress.server import committer, replica
from fortress.server.replica import JournalHistory
from tests.server.banks import hold_journal, hold_tables, open_engine, until
from tests.server.members import member, standby_with_records, stored


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits half a second for a full disk."""
    monkeypatch.setattr(committer, "DISK_RETRY_S", 0.01)
    monkeypatch.setattr(replica, "DISK_RETRY_S", 0.01)


# --- As primary ------------------------------------------------------------------------------------------------------
async def test_a_record_is_shipped_while_the_disk_has_it(tmp_path: Path) -> None:
    """The other node's disk works at the same time as this one's."""
    async with member(tmp_path) as node:
        journal = hold_journal(node.engine)
        node.submit("a", node.move(100))
        await until(lambda: journal.begun)
        assert [record.lsn for record in node.made] == [node.last_lsn]
        assert node.durable == []
        journal.release()
        await until(lambda: node.durable == [node.last_lsn])
        node.replica.commit(node.last_lsn)


async def test_nobody_is_answered_before_the_pair_says_committed(tmp_path: Path) -> None:
    """On this node's disk is not enough while the other node counts; nor is an older record's being committed."""
    async with member(tmp_path) as node:
        before = node.committer.committed_lsn
        node.submit("a", node.move(100))
        await until(lambda: node.durable)
        node.replica.commit(before)
        await asyncio.sleep(0)
        assert (node.told, node.committer.committed_lsn) == ([], before)
        assert not node.replica.is_clean
        node.replica.commit(node.last_lsn)
        assert node.answers() == [("a", "ok")]
        assert node.committer.committed_lsn == before + 1
        assert node.replica.is_clean


async def test_a_record_that_waited_for_space_is_shipped_once(tmp_path: Path) -> None:
    """The other node has it from the first try; here it is written again, and done once."""
    async with member(tmp_path) as node:
        journal = hold_journal(node.engine)
        journal.errors = [DiskFull("no space"), DiskFull("no space")]
        order = node.move(100)
        node.submit("a", order)
        journal.release()
        await until(lambda: node.durable)
        assert len(journal.begun) == 3
        assert len(node.made) == 1
        assert node.answers() == [("a", "DiskFull")]
        node.replica.commit(node.last_lsn)
        verdict = await node.committer.commit(order)
        assert verdict.replayed
        assert len(node.commits) == 1


async def test_a_record_whose_write_failed_is_never_done(tmp_path: Path) -> None:
    """Nobody knows what is on the disk: the node must stop, and says that it does not know."""
    async with member(tmp_path) as node:
        journal = hold_journal(node.engine)
        journal.errors = [JournalWriteFailed("the disk failed")]
        node.submit("a", node.move(100))
        journal.release()
        await until(lambda: node.told)
        assert node.answers() == [("a", "OutcomeUnknown")]
        assert [type(error) for error in node.fatal_of_committer] == [JournalWriteFailed]
        node.replica.commit(node.last_lsn)  # the other node has it: that is for the next primary to tell
        assert node.commits == []
        assert node.durable == []


# --- As standby ------------------------------------------------------------------------------------------------------
async def test_records_that_come_while_the_disk_works_are_written_together(tmp_path: Path) -> None:
    """And acknowledged together, up to the last of them."""
    async with standby_with_records(tmp_path, 1, 2, 3) as (node, records):
        journal = hold_journal(node.engine)
        for record in records:
            node.replica.store([record])
        await until(lambda: journal.begun)
        journal.release()
        await until(lambda: len(node.durable) == 2)
        assert journal.begun == [(records[0],), (records[1], records[2])]
        assert node.durable == [records[0].lsn, records[2].lsn]


async def test_a_standby_acknowledges_before_it_follows(tmp_path: Path) -> None:
    """The primary waits for the disk alone; the working state comes after in turns of the loop."""
    async with standby_with_records(tmp_path, 1, 2) as (node, records):
        seen: list[tuple[int, int]] = []
        node.on_durable = lambda lsn: seen.append((lsn, node.last_lsn))
        before = node.last_lsn
        await stored(node, records)
        assert seen == [(records[1].lsn, before)]
        assert not node.replica.is_clean  # nobody said that it is committed


async def test_the_tables_get_what_is_committed_and_nothing_more(tmp_path: Path) -> None:
    """What is durable here alone could still be lost."""
    async with standby_with_records(tmp_path, 10, 20, 30) as (node, records):
        await stored(node, records)
        assert node.commits == []
        node.replica.commit(records[1].lsn)
        assert [delta.lsn for delta in node.commits] == [record.lsn for record in records[:2]]
        assert node.committer.committed_lsn == records[1].lsn
        await until(lambda: node.engine.store.applied_lsn == records[1].lsn)
        assert not node.replica.is_clean
        node.replica.commit(records[2].lsn)
        assert node.replica.is_clean
        assert node.balance(node.alice) == 10_000 - 60


async def test_what_is_told_to_be_committed_may_come_first(tmp_path: Path) -> None:
    """The primary's word runs ahead of this node's disk and of its following; an older word takes nothing back."""
    async with standby_with_records(tmp_path, 1, 2) as (node, records):
        node.replica.commit(records[1].lsn)
        assert node.commits == []
        node.replica.commit(records[0].lsn)
        await stored(node, records)
        await until(lambda: len(node.commits) == 2)
        assert node.replica.is_clean


async def test_a_new_primary_knows_all_that_is_on_its_disk(tmp_path: Path) -> None:
    """Before the first command the working state is where the journal is, however much was left to follow."""
    async with standby_with_records(tmp_path, *[1] * 20) as (node, records):
        seen: list[int] = []

        def durable(lsn: int) -> None:
            node.replica.follow_all()
            seen.append(node.last_lsn)

        node.on_durable = durable
        node.replica.store(records)
        await until(lambda: seen)
        assert seen == [records[-1].lsn]
        node.replica.commit(records[-1].lsn)
        assert node.replica.is_clean


async def test_a_standby_says_that_it_is_still_writing(tmp_path: Path) -> None:
    """What counts as its journal is not all on its disk yet."""
    async with standby_with_records(tmp_path, 1) as (node, records):
        journal = hold_journal(node.engine)
        assert not node.replica.is_storing
        node.replica.store(records)
        assert node.replica.is_storing
        journal.release()
        await until(lambda: node.durable)
        assert not node.replica.is_storing


async def test_a_standby_whose_disk_is_full_goes_on_when_there_is_space(tmp_path: Path) -> None:
    """It acknowledges what the disk took, and nothing twice."""
    async with standby_with_records(tmp_path, 1, 2, 3) as (node, records):
        journal = node.engine.journal
        append = journal.append_many
        tries: list[list[int]] = []

        def append_a_part(given: Sequence[Record]) -> None:
            tries.append([record.lsn for record in given])
            if len(tries) == 1:
                append(given[:1])
            if len(tries) <= 2:
                raise DiskFull("no space")
            append(given)

        journal.__dict__.update(append_many=append_a_part, prepare=lambda *given: None)
        await stored(node, records)
        numbers = [record.lsn for record in records]
        assert tries == [numbers, numbers[1:], numbers[1:]]
        assert node.durable == [numbers[0], numbers[2]]
        assert node.fatal == []


async def test_a_standby_whose_disk_fails_acknowledges_nothing(tmp_path: Path) -> None:
    """Whether the bytes are there is unknown, so this node must stop."""
    async with standby_with_records(tmp_path, 1) as (node, records):
        journal = hold_journal(node.engine)
        journal.errors = [JournalWriteFailed("the disk failed")]
        node.replica.store(records)
        journal.release()
        await until(lambda: node.fatal)
        assert [type(error) for error in node.fatal] == [JournalWriteFailed]
        assert node.durable == []


async def test_a_record_that_does_not_follow_stops_the_standby(tmp_path: Path) -> None:
    """It never reaches the disk."""
    async with standby_with_records(tmp_path, 1, 2) as (node, records):
        end = node.engine.journal.end
        node.replica.store(records[1:])
        await until(lambda: node.fatal)
        assert isinstance(node.fatal[0], ChainBroken)
        assert node.engine.journal.end == end


@pytest.mark.parametrize(
    ("error", "expected"), [(BooksBroken("no"), BooksBroken), (MessageTooLarge("no"), LedgerError)]
)
async def test_books_that_do_not_continue_stop_the_standby(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: type[LedgerError]
) -> None:
    """Nothing of such a record reaches the tables."""
    async with standby_with_records(tmp_path, 1) as (node, records):

        def follow(record: Record) -> None:
            raise error

        monkeypatch.setattr(node.engine, "follow", follow)
        node.replica.commit(records[0].lsn)
        node.replica.store(records)
        await until(lambda: node.fatal)
        assert type(node.fatal[0]) is expected
        assert node.commits == []


async def test_a_standby_whose_tables_are_behind_takes_no_more_records(tmp_path: Path) -> None:
    """Memory has a limit; the primary waits for the acknowledgement, and it comes once the tables have come after."""
    async with standby_with_records(tmp_path, 1, 2, 3, unapplied_entries_max=2) as (node, records):
        tables = hold_tables(node.engine)
        node.replica.commit(records[-1].lsn)
        for record in records[:2]:
            await stored(node, [record])
        await until(lambda: node.member.is_behind)
        node.replica.store(records[2:])
        await asyncio.sleep(5 * replica.TABLES_WAIT_S)
        assert node.durable == [record.lsn for record in records[:2]]
        tables.release()
        await until(lambda: node.durable[-1] == records[2].lsn)


async def test_too_much_to_follow_waits_on_the_other_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A takeover follows what is left, so a standby stores no more before it has followed some."""
    monkeypatch.setattr(replica, "FOLLOW_ENTRIES_MAX", 2)
    monkeypatch.setattr(replica, "STORE_RECORDS_MAX", 2)
    async with standby_with_records(tmp_path, *[1] * 9) as (node, records):
        lags: list[int] = []
        node.on_durable = lambda lsn: lags.append(lsn - node.last_lsn)
        await stored(node, records)
        assert max(lags) <= 3
        assert node.durable[-1] == records[-1].lsn


async def test_a_standby_may_close_while_its_disk_works(tmp_path: Path) -> None:
    """What was under way is on the disk or not; the next start finds a whole journal either way."""
    for name in ("kernel", "thread"):
        async with AsyncExitStack() as opened:
            node, records = await opened.enter_async_context(standby_with_records(tmp_path / name, 1, 2))
            if name == "thread":
                hold_journal(node.engine).release()
            node.member.refuse_commands(NoPrimary())  # as a standby's does
            node.replica.store(records[:1])
            node.replica.store(records[1:])
        engine = open_engine(tmp_path / name / "standby", is_in_pair=True)
        with_one, with_none = records[0].lsn, records[0].lsn - 1
        assert engine.journal.end[0] in {with_none, with_one}
        engine.close()


async def test_after_a_start_what_is_not_committed_waits_for_the_pairs_word(tmp_path: Path) -> None:
    """It counts in the working state and not in the tables."""
    async with standby_with_records(tmp_path, 10, 20) as (node, records):
        node.replica.commit(records[0].lsn)
        await stored(node, records)
        await until(lambda: node.engine.store.applied_lsn == records[0].lsn)
    async with member(tmp_path, "standby") as node:
        assert (node.committer.committed_lsn, node.last_lsn) == (records[0].lsn, records[1].lsn)
        assert not node.replica.is_clean
        assert node.balance(node.alice) == 10_000 - 30
        node.replica.commit(records[1].lsn)
        assert node.replica.is_clean
        await until(lambda: node.engine.store.applied_lsn == records[1].lsn)


async def test_clients_are_told_where_the_primary_is(tmp_path: Path) -> None:
    """Or that nobody knows."""
    async with member(tmp_path) as node:
        known, unknown = node.replica.refusal("there:1"), node.replica.refusal("")
        assert (type(known), known.facts) == (NotPrimary, {"primary": "there:1"})
        assert type(unknown) is NoPrimary


# --- The journal as replication reads it ------------------------------------------------------------------------------
async def test_the_history_tells_marks_and_records(tmp_path: Path) -> None:
    """Every mark is a record's number and hash; before the first record lies the beginning."""
    async with member(tmp_path) as node:
        made = await node.make(1, 2, 3)
        history = JournalHistory(node.engine)
        marks = [Mark(record.lsn, record.hash) for record in made]
        assert history.end() == marks[-1]
        assert history.tail()[-3:] == tuple(marks)
        assert history.mark_at(made[1].lsn) == marks[1]
        assert history.mark_at(made[-1].lsn + 1) is None
        assert history.mark_at(0) == Mark()
        assert history.first_lsn() == 1
        assert [record.hash for record in history.records(made[1].lsn)] == [made[1].hash, made[2].hash]
        back = history.marks_back()
        assert back[0] == marks[-1]
        assert [mark.lsn for mark in back] == sorted({mark.lsn for mark in back}, reverse=True)


async def test_after_a_start_the_newest_marks_are_read_back(tmp_path: Path) -> None:
    """The end may be this node's alone: then a common place is found among those before."""
    async with member(tmp_path) as node:
        made = await node.make(*[1] * 5)
    async with member(tmp_path) as node:
        tail = JournalHistory(node.engine).tail()
        assert [mark.lsn for mark in tail] == list(range(tail[0].lsn, made[-1].lsn + 1))
        assert tail[-5:] == tuple(Mark(record.lsn, record.hash) for record in made)
