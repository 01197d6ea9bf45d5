"""A whole node of a pair whose other node is away: it ends when told to, and does not when it need not."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace

from fortress.errors import DiskFull, FortressError, JournalWriteFailed, OutcomeUnknown, PeerRejected, Quarantined
from fortress.ledger.commands import MoveMoney
from fortress.ledger.model import Actor, TransferKind
from fortress.pair import replication
from fortress.pair.link import Link
from fortress.pair.messages import Mark, Member, Message, SnapshotBegin, SnapshotEnd
from fortress.pair.role_state import Phase
from fortress.server import membership, pairing
from fortress.server.bank import new_id
from fortress.server.copies import Copies
from fortress.server.membership import open_control
from fortress.server.pairing import Pairing
from tests.pair.nodes import Shelf, free_port
from tests.server.banks import World, filled_folder, serving, until


def flags(**more: str) -> dict[str, str]:
    """Settings of a member of a pair."""
    found = {"listen": f"127.0.0.1:{free_port()}", "peer": f"127.0.0.1:{free_port()}", "cluster": "00" * 16, **more}
    return {f"pair__{name}": value for name, value in found.items()}


@asynccontextmanager
async def member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **more: str
) -> AsyncIterator[tuple[World, Pairing, Shelf]]:
    """Serve a member without the other one, as the founder of its pair, once it is primary."""
    shelf = Shelf()
    monkeypatch.setattr(membership, "open_register", lambda *_, **__: shelf)
    folder = tmp_path / "bank"
    shutil.copytree(filled_folder(), folder)
    async with serving(folder, **flags(**more)) as world:
        assert world.process.pairing is not None
        await until(lambda: not world.process.dispatcher.gate.is_standby, "ready")
        yield world, world.process.pairing, shelf


async def transfer(world: World, amount: int = 1) -> MoveMoney:
    """A transfer by Alice to Bob."""
    alice, bob = await world.account_of("alice"), await world.account_of("bob")
    owner = (await world.bank.customer_named("alice")).customer
    kind = int(TransferKind.transfer)
    return MoveMoney(Actor(owner, frozenset(("customer",))), kind, new_id(), alice, bob, amount, "EUR")


async def test_a_primary_alone_that_is_stopped_answers_what_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ends: it does not start anew, though it was busy."""
    async with member(tmp_path, monkeypatch) as (world, *_):
        command = await transfer(world)
        journal = world.hold_journal()
        answer = asyncio.create_task(world.bank.commit(command))
        await until(lambda: journal.begun)
        stopping = asyncio.create_task(world.process.stop())
        await asyncio.sleep(0)
        journal.release()
        await stopping
        assert (await answer).position
        assert world.process.restart is None and world.process.failure is None


async def test_a_primary_that_can_commit_nothing_ends_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits is told that the outcome is not known; the next start finds out."""
    monkeypatch.setattr(replication, "SWITCH_S", 0.1)
    async with member(tmp_path, monkeypatch, durability="two-copies") as (world, *_):
        answer = asyncio.create_task(world.bank.commit(await transfer(world)))
        await until(lambda: world.bank.engine.last is not None and not world.committer.engine.pending)
        await until(lambda: world.committer.engine.last.lsn > world.committer.committed_lsn)
        await world.process.stop()
        with pytest.raises(OutcomeUnknown):
            await answer
        assert world.process.restart is None and world.process.failure is None


async def test_a_node_told_to_end_does_not_start_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the pair asks for it between the signal and the end."""
    async with member(tmp_path, monkeypatch) as (world, found, _):
        world.process.end()
        found.restart("the journal parts ways with the primary's", truncate_after=Mark())
        assert world.process.restart is None and world.process.stopped.is_set()


async def test_whoever_attends_hears_of_roles_until_the_node_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once if the node is primary; once it goes down nobody is called to office any more."""
    told: list[str] = []
    async with member(tmp_path, monkeypatch) as (world, found, _):
        world.process.attend(lambda: told.append("primary"), lambda: told.append("left"))
        assert told == ["primary"] and world.process.is_primary
        assert len(found.on_primary) == 1
    assert (found.on_primary, found.on_leave) == ([], [])
    assert told.count("primary") == 1


async def test_what_waits_for_a_new_start_hears_of_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From then on nothing is stored or acknowledged with what is in memory."""
    async with member(tmp_path, monkeypatch) as (world, found, _):
        found.restart("a copy of the primary's tables came")
        assert found.replication.is_halted and world.process.restart is not None


async def test_the_only_disk_that_counts_is_not_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed write the node stops, and its next start finds out what was written, as that of a node alone."""
    async with member(tmp_path, monkeypatch) as (world, *_):
        command = await transfer(world)
        journal = world.hold_journal()
        journal.errors.append(JournalWriteFailed("the disk failed"))
        journal.release()
        with pytest.raises(OutcomeUnknown):
            await world.bank.commit(command)
        await until(world.process.stopped.is_set)
        assert type(world.process.failure) is JournalWriteFailed and world.process.restart is None
        await world.process.stop()
        folder = world.process.folder
        control = open_control(folder)
        assert not control.quarantined
        control.close()


async def test_a_failed_disk_of_two_is_never_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The register hears first that the other node is primary; then the node ends, and takes no part until rebuilt."""
    async with member(tmp_path, monkeypatch) as (world, found, shelf):
        other = Member("node-2", b"2" * 16)
        state = found.replication.state
        lead = replace(state.lead, other=other, is_paired=True, is_required=True)
        found.replication.state = replace(state, lead=lead, phase=Phase.primary_paired)
        command = await transfer(world)
        journal = world.hold_journal()
        journal.errors.append(JournalWriteFailed("the disk failed"))
        journal.release()
        with pytest.raises(OutcomeUnknown):
            await world.bank.commit(command)
        await until(world.process.stopped.is_set)
        assert shelf.history[-1].primary == other
        assert type(world.process.failure) is Quarantined and world.process.restart is None
        await world.process.stop()
        with pytest.raises(Quarantined):
            open_control(world.process.folder)


async def test_a_new_primary_ends_the_sessions_of_its_time_as_standby(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they may do, and whether they were signed out, was decided elsewhere meanwhile."""
    async with member(tmp_path, monkeypatch) as (world, found, _):
        await world.sign_in("tess")
        assert [session.username for session in world.server_sessions()] == ["tess"]
        epoch = found.replication.state.promised
        found.stand_by(is_clean=True, primary="")
        found.serve(epoch)
        await until(lambda: not world.process.dispatcher.gate.is_standby)
        assert all(session.is_draining for session in world.server_sessions())


async def test_what_cannot_be_finished_yet_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is no reason for a new primary to give itself up; nobody is let in before all is finished."""
    monkeypatch.setattr(pairing, "READY_RETRY_S", 0.01)
    async with member(tmp_path, monkeypatch) as (world, found, _):
        faults: list[FortressError] = [DiskFull("no space"), DiskFull("no space")]

        async def make_whole() -> None:
            assert world.process.dispatcher.gate.is_standby
            if faults:
                raise faults.pop()

        monkeypatch.setattr(found, "_make_whole", make_whole)
        found.stand_by(is_clean=True, primary="")
        found.serve(found.replication.state.promised)
        await until(lambda: not world.process.dispatcher.gate.is_standby)
        assert not faults and not world.process.stopped.is_set()


async def test_finishing_begins_anew_when_the_node_is_primary_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found before may have changed on the other node."""
    async with member(tmp_path, monkeypatch) as (world, found, _):
        begun: list[asyncio.Event] = []

        async def make_whole() -> None:
            begun.append(asyncio.Event())
            await begun[-1].wait()

        monkeypatch.setattr(found, "_make_whole", make_whole)
        epoch = found.replication.state.promised
        for count in (1, 2):
            found.stand_by(is_clean=True, primary="")
            found.serve(epoch)
            await until(lambda count=count: len(begun) == count)
        begun[0].set()
        await asyncio.sleep(0.01)
        assert world.process.dispatcher.gate.is_standby
        begun[1].set()
        await until(lambda: not world.process.dispatcher.gate.is_standby)


async def test_a_fault_in_a_chore_ends_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be primary for the other node and answer nobody."""
    async with member(tmp_path, monkeypatch) as (world, found, _):

        async def broken() -> None:
            raise ValueError("a bug")

        found.start_chore(broken())
        await until(world.process.stopped.is_set)
        assert "a bug" in str(world.process.failure)


async def test_a_standby_is_as_fresh_as_the_message_was_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as the moment in which it was read, which may be long after; and never less fresh than it was."""
    async with member(tmp_path, monkeypatch) as (world, found, _):
        gate = world.process.dispatcher.gate
        found.stand_by(is_clean=True, primary="")
        now_us = found.replication.clock_us()
        for fresh_us, age_ms in ((0, 86_400_000), (now_us - 30_000_000, 30_000), (now_us - 60_000_000, 30_000)):
            found.replication.fresh_us = fresh_us
            found.heard(0)
            assert age_ms <= gate.stale_ms
        assert gate.stale_ms < 60_000


# --- Copies ----------------------------------------------------------------------------------------------------------
class Way:
    """A connection that keeps what is sent."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.is_open = is_open
        self.sent: list[Message] = []

    def send(self, message: Message) -> None:
        self.sent.append(message)

    async def wait_room(self) -> None:
        pass


async def test_a_copy_that_came_is_not_thrown_away_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The primary may begin again while this node is about to start anew with what it has."""
    async with member(tmp_path, monkeypatch) as (world, *_):
        folder, engine = world.process.folder, world.bank.engine
        way = Way()
        await Copies(folder, engine, on_installed=lambda: None).send(cast(Link, way), 1)
        assert type(way.sent[0]) is SnapshotBegin and type(way.sent[-1]) is SnapshotEnd
        installed: list[str] = []
        there = tmp_path / "there"
        there.mkdir()
        taking = Copies(folder, engine, on_installed=lambda: installed.append("now"))
        taking._data = there
        for message in way.sent:
            await taking.take(message)
        assert installed == ["now"]
        with pytest.raises(PeerRejected):
            await taking.take(way.sent[0])
        assert (there / "incoming" / "ready").exists() and (there / "incoming" / "ledger.db").exists()


async def test_nobody_copies_for_a_connection_that_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copying a large bank takes minutes, in which this node could not even end."""
    async with member(tmp_path, monkeypatch) as (world, *_):
        way = Way(is_open=False)
        with pytest.raises(ConnectionResetError):
            await Copies(world.process.folder, world.bank.engine, on_installed=lambda: None).send(cast(Link, way), 1)
        assert way.sent == [] and not [*(world.folder / "outgoing").iterdir()]
