"""The group committer: what is judged together is durable together, and nothing is told before."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, NoReturn

import pytest

from fortress.errors import (
    BooksBroken,
    Busy,
    DiskFull,
    JournalWriteFailed,
    LedgerError,
    OutcomeUnknown,
    ShuttingDown,
    Status,
    StoreCorrupt,
)
from fortress.ledger.engine import Engine
from fortress.ledger.model import account_number
from fortress.server import applier, committer
from fortress.server.bank import new_id
from tests.server.banks import NOBODYS, committing, hold_journal, hold_loading, hold_tables, open_engine, until


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits half a second for a full disk."""
    monkeypatch.setattr(committer, "DISK_RETRY_S", 0.01)
    monkeypatch.setattr(committer, "DISK_CHECK_S", 0.01)
    monkeypatch.setattr(applier, "DISK_RETRY_S", 0.01)


async def warm(world: Any) -> None:
    """Bring both accounts into memory."""
    await world.committer.commit(world.move())
    world.commits.clear()


# --- Groups and their order ------------------------------------------------------------------------------------------
async def test_what_is_submitted_in_one_turn_becomes_one_record(tmp_path: Path) -> None:
    """Commands of one read pass share one write, and are answered in their order with one flush."""
    async with committing(tmp_path) as world:
        await warm(world)
        flushes, first = world.flushes, world.committer.committed_lsn
        for name in "abc":
            world.submit(name, world.move())
        assert world.told == []
        await until(lambda: len(world.told) == 3)
        assert world.answers() == [("a", "ok"), ("b", "ok"), ("c", "ok")]
        assert [delta.count for delta in world.commits] == [3]
        assert (world.committer.committed_lsn, world.flushes) == (first + 1, flushes + 1)


async def test_what_comes_while_the_disk_works_becomes_the_next_record(tmp_path: Path) -> None:
    """The loop judges on top of what is not durable yet; each answer waits for its own record."""
    async with committing(tmp_path) as world:
        await warm(world)
        journal = hold_journal(world.engine)
        world.submit("first", world.move(100))
        await until(lambda: journal.begun)
        world.submit("second", world.move(200))
        world.submit("third", world.move(300))
        assert world.balance(world.alice) == 10_000 - 601
        journal.release()
        await until(lambda: len(world.told) == 3)
        assert [delta.count for delta in world.commits] == [1, 2]
        assert [name for name, _ in world.told] == ["first", "second", "third"]


async def test_more_than_a_record_takes_waits_for_the_next(tmp_path: Path) -> None:
    """A record has at most so many entries; what is over is judged while that record is written, in order."""
    async with committing(tmp_path, batch_entries_max=4) as world:
        await warm(world)
        journal = hold_journal(world.engine)
        for name in "abcdefghij":
            world.submit(name, world.move())
        await until(lambda: journal.begun)
        assert world.committer.statistics()["waiting"] == 2
        journal.release()
        await until(lambda: len(world.told) == 10)
        assert [delta.count for delta in world.commits] == [4, 4, 2]
        assert "".join(name for name, _ in world.told) == "abcdefghij"


async def test_a_record_full_of_bytes_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long references fill a record before its number of entries does."""
    monkeypatch.setattr(committer, "RECORD_BYTES_FULL", 150)
    async with committing(tmp_path) as world:
        await warm(world)
        for name in "abcde":
            world.submit(name, world.move())
        await until(lambda: len(world.told) == 5)
        assert len(world.commits) >= 2
        assert "".join(name for name, _ in world.told) == "abcde"


async def test_a_batch_larger_than_the_rest_of_the_record_is_kept_whole(tmp_path: Path) -> None:
    """A batch is judged in one go, whatever stands in the open record already."""
    async with committing(tmp_path, batch_entries_max=4) as world:
        await warm(world)
        for name in "abc":
            world.submit(name, world.move())
        world.submit("batch", world.batch(*(world.row() for _ in range(9)), atomic=True))
        world.submit("d", world.move())
        await until(lambda: len(world.told) == 5)
        assert [delta.count for delta in world.commits] == [12, 1]
        assert [name for name, _ in world.told] == ["a", "b", "c", "batch", "d"]


async def test_an_atomic_batch_with_a_row_twice_does_it_once(tmp_path: Path) -> None:
    """The second of two equal rows is the first one again; a row with its id and other content fails the batch."""
    async with committing(tmp_path) as world:
        same, other = new_id(), new_id()
        verdicts = await world.committer.commit_batch(
            world.batch(world.row(100, id=same), world.row(100, id=same), atomic=True)
        )
        assert [verdict.replayed for verdict in verdicts] == [False, True]
        assert world.balance(world.alice) == 9_900
        verdicts = await world.committer.commit_batch(
            world.batch(world.row(100, id=other), world.row(200, id=other), atomic=True)
        )
        assert [verdict.status for verdict in verdicts] == [Status.batch_failed, Status.id_reused]
        assert world.balance(world.alice) == 9_900


async def test_order_is_kept_when_a_command_has_to_wait_for_reading(tmp_path: Path) -> None:
    """One that lacks nothing does not overtake one that waits for the tables."""
    async with committing(tmp_path) as world:
        loading = hold_loading(world.engine)
        world.submit("all of it", world.move(10_000))
        world.submit("too much", world.move(1))
        await until(lambda: loading.begun)
        world.submit("hold unknown", world.move(1, debit=NOBODYS))
        assert world.told == []
        loading.release()
        await until(lambda: len(world.told) == 3)
        assert world.answers() == [
            ("all of it", "ok"),
            ("too much", "exceeds_available"),
            ("hold unknown", "debit_account_unknown"),
        ]


async def test_what_waits_is_read_together(tmp_path: Path) -> None:
    """While one reading is under way others queue, and are read for in one go."""
    async with committing(tmp_path) as world:
        loading = hold_loading(world.engine)
        for number in range(20):
            world.submit(str(number), world.move(credit=account_number(70_000 + number)))
        await until(lambda: loading.begun)
        loading.release()
        await until(lambda: len(world.told) == 20)
        assert len(loading.begun) <= 2


# --- Nobody sees what could still be lost ----------------------------------------------------------------------------
@pytest.mark.parametrize("is_under_way", [False, True], ids=["open record", "record under way"])
async def test_a_repeat_waits_for_the_record_of_the_first(tmp_path: Path, *, is_under_way: bool) -> None:
    """The same id again is told its first answer only once that is durable."""
    async with committing(tmp_path) as world:
        await warm(world)
        journal = hold_journal(world.engine)
        order = world.move(100)
        if not is_under_way:
            world.submit("before", world.move())
            await until(lambda: journal.begun)
        world.submit("first", order)
        if is_under_way:
            await until(lambda: journal.begun)
        world.submit("again", order)
        world.submit("changed", world.move(200, id=order.id))
        await asyncio.sleep(0)
        assert world.told == []
        journal.release()
        await until(lambda: len(world.told) >= 3)
        assert world.answers()[-3:] == [("first", "ok"), ("again", "ok again"), ("changed", "id_reused")]


async def test_a_refusal_that_shows_what_is_under_way_waits_for_it(tmp_path: Path) -> None:
    """That money is not there any more may be told only once it is gone for good."""
    async with committing(tmp_path) as world:
        await warm(world)
        journal = hold_journal(world.engine)
        world.submit("all", world.move(9_999))
        await until(lambda: journal.begun)
        world.submit("more", world.move(1))
        journal.errors.append(JournalWriteFailed("the disk says no"))
        journal.release()
        await until(lambda: len(world.told) == 2)
        assert sorted(world.answers()) == [("all", "OutcomeUnknown"), ("more", "OutcomeUnknown")]


async def test_what_waits_for_positions_is_told_in_the_order_of_the_records(tmp_path: Path) -> None:
    """Positions may be waited for in any order: none waits longer than its own record needs."""
    async with committing(tmp_path) as world:
        await warm(world)
        journal = hold_journal(world.engine)
        world.submit("first", world.move())
        await until(lambda: journal.begun)
        under_way = world.engine.state.position
        world.submit("second", world.move())
        told = []
        world.committer.when_committed(under_way + 1, told.append, "late")
        world.committer.when_committed(under_way, told.append, "early")
        world.committer.when_committed(under_way - 1, told.append, "now")
        assert told == ["now"]
        journal.release()
        await until(lambda: len(told) == 3)
        assert told == ["now", "early", "late"]


# --- Limits ----------------------------------------------------------------------------------------------------------
async def test_too_many_waiting_commands_are_busy(tmp_path: Path) -> None:
    """What is over the queue is refused at once; a batch counts by its rows; what waits is done."""
    async with committing(tmp_path, queue_max=3) as world:
        loading = hold_loading(world.engine)
        world.submit("a", world.move())
        world.submit("batch", world.batch(*(world.row() for _ in range(8))))
        with pytest.raises(Busy) as refused:
            world.submit("b", world.move())
        assert refused.value.facts == {"queue_max": 3}
        loading.release()
        await until(lambda: len(world.told) == 2)
        world.submit("b", world.move())
        await until(lambda: len(world.told) == 3)
        assert world.answers()[2] == ("b", "ok")


async def test_too_much_that_is_not_applied_makes_commands_wait(tmp_path: Path) -> None:
    """Tables that do not keep up slow the commands down; nobody is refused and nothing is lost."""
    async with committing(tmp_path, unapplied_entries_max=2) as world:
        tables = hold_tables(world.engine)
        tables.release()
        await warm(world)
        await world.committer.wait_applied(world.committer.committed_position)
        tables.hold()
        for name in "ab":
            world.submit(name, world.move())
        await until(lambda: len(world.told) == 2)
        world.submit("c", world.move())
        await until(lambda: tables.begun[-1])
        assert (len(world.told), world.committer.statistics()["waiting"]) == (2, 1)
        tables.release()
        await until(lambda: len(world.told) == 3)
        assert world.answers() == [("a", "ok"), ("b", "ok"), ("c", "ok")]


# --- A full disk -----------------------------------------------------------------------------------------------------
async def test_a_full_disk_refuses_everybody_and_loses_nothing(tmp_path: Path) -> None:
    """Who waits is told, repeats find everything done once there is space, and it happened once."""
    async with committing(tmp_path) as world:
        await warm(world)
        journal = hold_journal(world.engine)
        first, second = world.move(100), world.move(200)
        world.submit("first", first)
        await until(lambda: journal.begun)
        world.submit("second", second)
        loading = hold_loading(world.engine)
        world.submit("third", world.move(300, credit=NOBODYS))
        told: list[Any] = []
        world.committer.when_committed(world.engine.state.position, told.append)
        journal.errors = [DiskFull("no space")] * 3
        journal.release()
        await until(lambda: len(world.told) == 3)
        assert world.answers() == [("first", "DiskFull"), ("second", "DiskFull"), ("third", "DiskFull")]
        assert isinstance(told[0], DiskFull)
        assert world.committer.statistics()["disk_full"]
        with pytest.raises(DiskFull):
            world.submit("fourth", first)
        world.committer.when_committed(world.engine.state.position, told.append)
        assert isinstance(told[1], DiskFull)
        with pytest.raises(DiskFull):
            await world.committer.wait_applied(world.engine.state.position)
        loading.release()
        await until(lambda: not world.committer.statistics()["disk_full"])
        assert [(await world.committer.commit(order)).replayed for order in (first, second)] == [True, True]
        assert world.balance(world.alice) == 10_000 - 301
        assert world.fatal == []
    assert balances(tmp_path) == [9_699, 10_301]


def balances(tmp_path: Path) -> list[int]:
    """What a node that starts again finds: balances of all customers."""
    engine: Engine = open_engine(tmp_path / "bank")
    rows = engine.store.read(
        "SELECT credits_posted - debits_posted FROM balances JOIN accounts USING (number) WHERE owner > 0 ORDER BY 1"
    )
    engine.close()
    return [row[0] for row in rows]


async def test_refusals_of_a_full_disk_gather_no_tracebacks(tmp_path: Path) -> None:
    """Each refusal is an error of its own; one raised again and again would grow without end."""
    async with committing(tmp_path) as world:
        world.engine.journal.__dict__.update(low_space=lambda: True)
        await until(lambda: world.committer.statistics()["disk_full"])
        refusals = []
        for _ in range(2):
            with pytest.raises(DiskFull) as refused:
                world.submit("a", world.move())
            refusals.append(refused.value)
        assert refusals[0] is not refusals[1]


async def test_little_space_stops_new_entries_before_the_disk_is_full(tmp_path: Path) -> None:
    """What is under way is finished, new commands are refused, and taken again once there is space."""
    async with committing(tmp_path) as world:
        await warm(world)
        journal = hold_journal(world.engine)
        world.submit("before", world.move())
        await until(lambda: journal.begun)
        is_low = [True]
        world.engine.journal.__dict__.update(low_space=lambda: is_low[0])
        await until(lambda: world.committer.statistics()["disk_full"])
        journal.release()
        await until(lambda: world.told)
        assert world.answers() == [("before", "ok")]
        with pytest.raises(DiskFull):
            world.submit("refused", world.move())
        is_low[0] = False
        await until(lambda: not world.committer.statistics()["disk_full"])
        assert (await world.committer.commit(world.move())).status is Status.ok


async def test_full_tables_refuse_and_go_on(tmp_path: Path) -> None:
    """A disk too full for the tables refuses commands and readers, and both go on once there is space."""
    async with committing(tmp_path, unapplied_entries_max=1) as world:
        await warm(world)
        await world.committer.wait_applied(world.committer.committed_position)
        tables = hold_tables(world.engine)
        tables.errors = [DiskFull("no space")] * 3
        world.submit("a", world.move())
        await until(lambda: tables.begun)
        world.submit("waits for the tables", world.move())
        reader = asyncio.ensure_future(world.committer.wait_applied(world.committer.committed_position))
        await asyncio.sleep(0)
        tables.release()
        with pytest.raises(DiskFull):
            await reader
        await until(lambda: len(world.told) == 2)
        assert world.answers() == [("a", "ok"), ("waits for the tables", "DiskFull")]
        await until(lambda: not world.committer.statistics()["disk_full"])
        await world.committer.wait_applied(world.committer.committed_position)
        assert (await world.committer.commit(world.move())).status is Status.ok


# --- Worse -----------------------------------------------------------------------------------------------------------
async def test_a_write_of_unknown_outcome_stops_the_committer(tmp_path: Path) -> None:
    """Nothing is answered ok, who waits is told that the outcome is not known, and the node hears of it once."""
    async with committing(tmp_path) as world:
        await warm(world)
        journal = hold_journal(world.engine)
        order = world.move(100)
        world.submit("first", order)
        await until(lambda: journal.begun)
        world.submit("second", world.move(200))
        loading = hold_loading(world.engine)
        world.submit("third", world.move(300, credit=NOBODYS))
        told: list[Any] = []
        world.committer.when_committed(world.engine.state.position, told.append)
        applied = asyncio.ensure_future(world.committer.wait_applied(world.engine.state.position))
        await asyncio.sleep(0)
        journal.errors = [JournalWriteFailed("the disk says no")]
        journal.release()
        await until(lambda: len(world.told) == 3)
        assert sorted(world.answers()) == [(name, "OutcomeUnknown") for name in ("first", "second", "third")]
        assert isinstance(told[0], OutcomeUnknown)
        with pytest.raises(OutcomeUnknown):
            await applied
        with pytest.raises(OutcomeUnknown):
            world.submit("again", order)
        with pytest.raises(OutcomeUnknown):
            await world.committer.wait_applied(world.engine.state.position)
        world.committer.when_committed(world.engine.state.position, told.append)
        assert isinstance(told[1], OutcomeUnknown)
        loading.release()
        assert [type(error) for error in world.fatal] == [JournalWriteFailed]
        assert world.committer.statistics()["failed"]
        assert len(journal.begun) == 1
    assert sum(balances(tmp_path)) == 20_000


async def test_tables_that_break_stop_the_committer(tmp_path: Path) -> None:
    """What was durable stays answered, what was open has an unknown outcome."""
    async with committing(tmp_path) as world:
        await warm(world)
        tables = hold_tables(world.engine)
        tables.errors = [StoreCorrupt("a page is broken")]
        reader = asyncio.ensure_future(world.committer.wait_applied(world.committer.committed_position))
        await until(lambda: tables.begun)
        journal = hold_journal(world.engine)
        world.submit("under way", world.move())
        await until(lambda: journal.begun)
        world.submit("open", world.move())
        tables.release()
        with pytest.raises(OutcomeUnknown):
            await reader
        await until(lambda: world.told)
        assert world.answers() == [("open", "OutcomeUnknown")]
        journal.release()
        await until(lambda: len(world.told) == 2)
        assert world.answers()[1] == ("under way", "ok")
        assert [type(error) for error in world.fatal] == [StoreCorrupt]
        assert len(journal.begun) == 1


@pytest.mark.parametrize("error", [StoreCorrupt("a page is broken"), ValueError("a bug")], ids=["known", "unknown"])
async def test_reading_that_fails_stops_the_committer(tmp_path: Path, error: Exception) -> None:
    """What cannot be read cannot be judged."""
    async with committing(tmp_path) as world:
        loading = hold_loading(world.engine)
        loading.errors = [error]
        loading.release()
        world.submit("a", world.move())
        await until(lambda: world.told)
        assert world.answers() == [("a", "OutcomeUnknown")]
        assert isinstance(world.fatal[0], LedgerError)


@pytest.mark.parametrize("way", ["post", "judge"])
@pytest.mark.parametrize("waits", [False, True], ids=["judged at once", "judged after reading"])
async def test_a_fault_in_judging_hurts_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, waits: bool, way: str
) -> None:
    """One command on which a rule fails is answered with an error of the server; the others are done."""
    async with committing(tmp_path) as world:
        if not waits:
            await warm(world)
        whole = getattr(world.engine, way)

        def judge(command: Any, now_us: int) -> Any:
            if command.amount == 666:
                raise KeyError("planted secret")
            return whole(command, now_us)

        monkeypatch.setattr(world.engine, "post", lambda command, now_us: None)
        monkeypatch.setattr(world.engine, way, judge)
        for name, amount in (("a", 1), ("b", 666), ("c", 2)):
            world.submit(name, world.move(amount))
        await until(lambda: len(world.told) == 3)
        assert world.answers() == [("a", "ok"), ("b", "LedgerError"), ("c", "ok")]
        assert "secret" not in str(world.told[1][1])
        assert world.fatal == []


@pytest.mark.parametrize("way", ["post", "judge"])
@pytest.mark.parametrize("fault", [KeyError("a bug"), BooksBroken("no")], ids=["unknown", "known"])
async def test_a_fault_that_leaves_half_a_command_in_the_books_stops_the_committer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, way: str
) -> None:
    """A broken invariant is no answer: nothing that was judged on top may be written."""
    async with committing(tmp_path) as world:
        await warm(world)

        def judge(command: object, now_us: int) -> NoReturn:
            world.engine.state.position += 1
            raise fault

        monkeypatch.setattr(world.engine, "post", lambda command, now_us: None)
        monkeypatch.setattr(world.engine, way, judge)
        world.submit("a", world.move())
        await until(lambda: world.told)
        assert world.answers() == [("a", "OutcomeUnknown")]
        assert len(world.fatal) == 1
        assert world.commits == []


async def test_a_fault_in_an_answer_hurts_nobody_else(tmp_path: Path) -> None:
    """Whoever cannot take the answer, the others get theirs."""
    async with committing(tmp_path) as world:
        await warm(world)

        def broken(outcome: Any) -> None:
            raise ValueError("gone")

        world.committer.submit(world.move(), broken)
        world.submit("b", world.move())
        await until(lambda: world.told)
        assert world.answers() == [("b", "ok")]


async def test_a_record_that_cannot_be_closed_stops_the_committer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Books that are found broken when a record is made are not written."""
    async with committing(tmp_path) as world:
        await warm(world)

        def close_record(now_us: int, commit_lsn: int) -> None:
            raise OutcomeUnknown("not a ledger error")

        monkeypatch.setattr(world.engine, "close_record", close_record)
        world.submit("a", world.move())
        await until(lambda: world.told)
        assert world.answers() == [("a", "OutcomeUnknown")]
        assert [type(error) for error in world.fatal] == [LedgerError]


# --- Waiting and the end ---------------------------------------------------------------------------------------------
async def test_giving_up_the_wait_does_not_take_the_command_back(tmp_path: Path) -> None:
    """A cancelled commit is still done, and its late answer disturbs nobody."""
    async with committing(tmp_path) as world:
        await warm(world)
        journal = hold_journal(world.engine)
        order = world.move(100)
        task = asyncio.ensure_future(world.committer.commit(order))
        await until(lambda: journal.begun)
        task.cancel()
        journal.release()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await world.committer.commit(order)).replayed


async def test_commit_raises_what_was_told(tmp_path: Path) -> None:
    """Errors come out of the wait as errors."""
    async with committing(tmp_path) as world:
        await warm(world)
        journal = hold_journal(world.engine)
        journal.errors = [JournalWriteFailed("the disk says no")]
        journal.release()
        with pytest.raises(OutcomeUnknown):
            await world.committer.commit(world.move())


async def test_closing_finishes_what_was_taken(tmp_path: Path) -> None:
    """What is under way, open and waiting is done and in the tables; what comes later is refused."""
    async with committing(tmp_path) as world:
        await warm(world)
        journal, loading = hold_journal(world.engine), hold_loading(world.engine)
        world.submit("under way", world.move(100))
        await until(lambda: journal.begun)
        world.submit("open", world.move(200))
        world.submit("waiting", world.move(300, credit=NOBODYS))
        closing = asyncio.ensure_future(world.committer.close())
        await asyncio.sleep(0)
        with pytest.raises(ShuttingDown):
            world.submit("late", world.move())
        journal.release()
        loading.release()
        await closing
        assert world.answers() == [("under way", "ok"), ("open", "ok"), ("waiting", "credit_account_unknown")]
        assert world.engine.store.applied_position == world.committer.committed_position
    assert balances(tmp_path) == [9_699, 10_301]


async def test_closing_on_a_full_disk_ends(tmp_path: Path) -> None:
    """Nothing was promised, so nothing holds the end up."""
    async with committing(tmp_path) as world:
        await warm(world)
        journal = hold_journal(world.engine)
        journal.errors = [DiskFull("no space")] * 1_000
        journal.release()
        world.submit("a", world.move(100))
        await until(lambda: world.told)
        async with asyncio.timeout(5):
            await world.committer.close()
        assert world.answers() == [("a", "DiskFull")]
    assert balances(tmp_path) == [9_999, 10_001]


async def test_closing_with_full_tables_ends(tmp_path: Path) -> None:
    """The journal has it all; the next start brings the tables up."""
    async with committing(tmp_path) as world:
        await warm(world)
        tables = hold_tables(world.engine)
        tables.errors = [DiskFull("no space")] * 1_000
        tables.release()
        world.submit("a", world.move(100))
        await until(lambda: world.told)
        async with asyncio.timeout(5):
            await world.committer.close()
    assert balances(tmp_path) == [9_899, 10_101]
