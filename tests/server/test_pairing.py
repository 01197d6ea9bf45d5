"""What a change of role does to a node: who is answered, with what, when; and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from fortress.config import PairSettings
from fortress.errors import (
    BooksBroken,
    Busy,
    DiskFull,
    FortressError,
    JournalWriteFailed,
    LedgerError,
    MessageTooLarge,
    NoPrimary,
    NotPrimary,
    Quarantined,
)
from fortress.pair import chronicle
from fortress.pair.chronicle import Chronicle
from fortress.pair.control import Control, read_control
from fortress.pair.events import Wish
from fortress.pair.messages import Mark, Member
from fortress.pair.replication import Replication
from fortress.pair.role_state import Phase
from fortress.pair.sight import Sight
from fortress.protocol.accounts import GetAccount
from fortress.protocol.messages import encode_request
from fortress.server import pairing as module
from fortress.server.gate import Gate
from fortress.server.handlers import Dispatcher
from fortress.server.pairing import Pairing, Restart
from tests.server import members
from tests.server.banks import hold_journal, until
from tests.server.members import stored
from tests.server.test_gate import Caller

EPOCH = 7
READ = GetAccount()
FAR_US = 1 << 60


@dataclass
class Office:
    """Replication as the node sees it: what it was asked is noted, what it says is the test's to set."""

    phase: Phase = Phase.standby_in_sync
    is_required: bool = False
    promised: int = EPOCH
    readable_until_us: int = 0
    fresh_us: int = 0
    behind: int = 0
    is_register_reachable: bool = True
    is_halted: bool = False
    sight: Sight = field(default_factory=Sight)
    wishes: list[Wish] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    refusals: list[FortressError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.errands = SimpleNamespace(settle=self._settle)

    @property
    def state(self) -> SimpleNamespace:
        is_primary = self.phase in {Phase.primary_solo, Phase.primary_paired}
        lead = SimpleNamespace(is_paired=self.is_required) if is_primary else None
        return SimpleNamespace(phase=self.phase, promised=self.promised, lead=lead)

    def wish(self, wish: Wish) -> None:
        self.wishes.append(wish)

    async def switch_over(self, wish: Wish = Wish.switch_over) -> None:
        self.asked.append(f"switch over: {wish.name}")
        if self.refusals:
            raise self.refusals.pop(0)

    async def take_over(self) -> None:
        self.asked.append("take over")

    async def stop(self) -> None:
        self.asked.append("stop")

    async def _settle(self, seconds: float) -> None:
        self.asked.append("settle")


class World:
    """A member's ledger with its pairing.

    Attributes:
        finishing: awaited when the node becomes primary; ``finished`` counts how often that was done.
        restarts, stops: what the process was told.
    """

    def __init__(self, member: members.Member, folder: Path, settings: PairSettings) -> None:
        self.member = member
        self.office = Office()
        self.restarts: list[Restart] = []
        self.stops: list[FortressError] = []
        self.may_finish = asyncio.Event()
        self.may_finish.set()
        self.faults: list[FortressError] = []
        self.begun = self.finished = 0
        self.dispatched: list[bytes] = []
        self.gate = Gate(lambda session, message: self.dispatched.append(message))
        self.folder = folder
        self.control = Control.create(folder / "control", b"c" * 16)
        self.control.promise(EPOCH)
        self.pairing = Pairing(
            settings,
            engine=member.engine,
            replica=member.replica,
            committer=member.member,
            dispatcher=cast(Dispatcher, SimpleNamespace(gate=self.gate)),
            control=self.control,
            chronicle=Chronicle(folder, "one"),
            make_whole=self._finish,
            on_restart=self.restarts.append,
            on_stop=self.stops.append,
        )
        self.pairing.replication = cast(Replication, self.office)

    async def _finish(self) -> None:
        self.begun += 1
        await self.may_finish.wait()
        if self.faults:
            raise self.faults.pop(0)
        self.finished += 1

    def be_primary(self, phase: Phase = Phase.primary_solo) -> None:
        """Become primary, with leave to read for long."""
        self.office.phase = phase
        self.office.readable_until_us = FAR_US
        self.pairing.serve(EPOCH)

    async def ready(self) -> None:
        """Wait until requests are answered."""
        await until(lambda: not self.gate.is_standby, "ready")

    def refusal(self) -> str:
        """The name of the error that a command is answered; empty when it is taken."""
        try:
            self.member.submit("probe", self.member.move(1))
        except FortressError as error:
            return type(error).__name__
        return ""

    def told(self) -> list[str]:
        """Names of the events that were written down."""
        return [happening.name for happening in chronicle.read(self.folder)]

    def ask(self, caller: Caller | None = None) -> bool:
        """Ask to read, as the dispatcher does when the time is up."""
        message = encode_request(1, "get_account", READ)
        return self.gate.passes(caller or Caller(), "get_account", READ, message)


@asynccontextmanager
async def world(tmp_path: Path, *, hold_s: int = 10) -> AsyncIterator[World]:
    """A node of a pair that has just started."""
    async with members.member(tmp_path) as member:
        folder = tmp_path / "pair"
        folder.mkdir()
        found = World(member, folder, replace(PairSettings(), hold_s=hold_s, peer_clients="there:1"))
        try:
            yield found
        finally:
            await found.pairing.stop()


# --- Becoming primary -------------------------------------------------------------------------------------------------
async def test_a_node_that_starts_takes_nothing(tmp_path: Path) -> None:
    """Who is primary is not known yet."""
    async with world(tmp_path) as node:
        assert node.refusal() == "NoPrimary"
        with pytest.raises(NoPrimary):
            node.ask()


async def test_a_new_primary_answers_once_nothing_is_half_done(tmp_path: Path) -> None:
    """Commands are taken at once, for finishing needs them; everybody else waits, also when leave to read comes."""
    async with world(tmp_path) as node:
        node.may_finish.clear()
        node.be_primary()
        assert node.refusal() == ""
        node.pairing.allow_reads(FAR_US)
        await until(lambda: node.begun)
        assert node.gate.is_standby
        node.may_finish.set()
        await node.ready()
        assert node.gate.open_until_ns == FAR_US * 1000
        assert node.pairing.is_primary
        assert node.member.engine.epoch == EPOCH


async def test_a_primary_that_goes_on_finishes_nothing_again(tmp_path: Path) -> None:
    """After a switchover that did not come about it takes commands again, in the epoch that it is told."""
    async with world(tmp_path) as node:
        node.be_primary()
        await node.ready()
        node.pairing.hold()
        node.pairing.serve(EPOCH + 1)
        assert node.finished == 1
        assert node.member.engine.epoch == EPOCH + 1
        node.member.is_alone = True
        await node.member.committer.commit(node.member.move(1))


async def test_what_cannot_be_finished_yet_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk may be full, the other node away: that passes."""
    monkeypatch.setattr(module, "READY_RETRY_S", 0.01)
    async with world(tmp_path) as node:
        node.faults = [Busy("wait"), DiskFull("no space")]
        node.be_primary()
        await node.ready()
        assert (node.begun, node.finished, node.stops) == (3, 1, [])


@pytest.mark.parametrize(
    ("fault", "expected"), [(BooksBroken("no"), BooksBroken), (MessageTooLarge("no"), LedgerError)]
)
async def test_what_can_never_be_finished_stops_the_node(
    tmp_path: Path, fault: FortressError, expected: type[LedgerError]
) -> None:
    """Nobody is answered by it meanwhile."""
    async with world(tmp_path) as node:
        node.faults = [fault]
        node.be_primary()
        await until(lambda: node.stops)
        assert [type(error) for error in node.stops] == [expected]
        assert node.gate.is_standby


async def test_what_is_on_its_way_to_the_disk_comes_first(tmp_path: Path) -> None:
    """A standby that took over makes nothing before the records it took are durable and followed."""
    async with members.member(tmp_path, "primary") as other:
        records = await other.make(1, 2)
    async with world(tmp_path) as node:
        journal = hold_journal(node.member.engine)
        node.pairing.store(records)
        node.be_primary()
        assert node.refusal() == "NoPrimary"
        journal.release()
        await node.ready()
        assert node.member.last_lsn == records[-1].lsn
        assert node.refusal() == ""


async def test_a_new_primary_judges_on_top_of_all_that_it_has(tmp_path: Path) -> None:
    """What is on its disk and was not followed yet is followed before the first command."""
    async with members.member(tmp_path, "primary") as other:
        records = await other.make(*[1] * 20)
    async with world(tmp_path) as node:
        seen: list[int] = []

        def durable(lsn: int) -> None:
            node.be_primary()
            seen.append(node.member.last_lsn)

        node.member.on_durable = durable
        node.pairing.store(records)
        await until(lambda: seen)
        assert seen == [records[-1].lsn]


async def test_who_lost_its_office_while_its_disk_worked_does_not_serve(tmp_path: Path) -> None:
    """In the meantime the other node became primary, or another epoch began."""
    async with members.member(tmp_path, "primary") as other:
        records = await other.make(1)
    async with world(tmp_path) as node:
        journal = hold_journal(node.member.engine)
        node.pairing.store(records)
        node.be_primary()
        node.office.phase = Phase.standby_in_sync
        journal.release()
        await until(lambda: not node.member.replica.is_storing)
        await asyncio.sleep(0.02)  # ten times as long as it looks again
        assert not node.pairing.is_primary
        assert node.refusal() == "NoPrimary"


# --- Stepping down ----------------------------------------------------------------------------------------------------
async def test_a_clean_primary_becomes_standby_in_place(tmp_path: Path) -> None:
    """Everything is committed, so nothing has to be forgotten; who asks is shown the way."""
    async with world(tmp_path) as node:
        node.be_primary()
        await node.ready()
        node.member.is_alone = True
        await node.member.committer.commit(node.member.move(1))
        node.pairing.stand_by(is_clean=True, primary="there:1")
        assert node.restarts == []
        assert not node.pairing.is_primary
        assert node.refusal() == "NotPrimary"
        with pytest.raises(NotPrimary) as refused:
            node.ask()
        assert refused.value.facts == {"primary": "there:1"}
        node.pairing.allow_reads(FAR_US)  # said before, heard after
        assert node.gate.is_standby


async def test_whoever_attends_is_told_of_each_turn(tmp_path: Path) -> None:
    """Primary once what was left undone is finished; left at once, unless it never came to that."""
    async with world(tmp_path) as node:
        told: list[str] = []
        node.pairing.on_primary.append(lambda: told.append("primary"))
        node.pairing.on_leave.append(lambda: told.append("left"))
        node.may_finish.clear()
        node.be_primary()
        await until(lambda: node.begun)
        node.pairing.stand_by(is_clean=True, primary="")
        assert told == []
        node.may_finish.set()
        for _ in range(2):
            node.be_primary()
            await node.ready()
            node.be_primary()  # of another epoch
            node.pairing.stand_by(is_clean=True, primary="")
            node.pairing.stand_by(is_clean=True, primary="there:1")
        assert told == ["primary", "left"] * 2


@pytest.mark.parametrize("is_clean", [False, True], ids=["the role machine says so", "the ledger says so"])
async def test_a_primary_with_something_to_forget_starts_anew(tmp_path: Path, *, is_clean: bool) -> None:
    """Who waits is told that the outcome is not known here; it starts anew once."""
    async with world(tmp_path) as node:
        node.be_primary()
        await node.ready()
        if is_clean:
            node.member.submit("a", node.member.move(1))
            await until(lambda: node.member.durable)
        node.pairing.stand_by(is_clean=is_clean, primary="")
        node.pairing.stand_by(is_clean=is_clean, primary="")
        assert [restart.truncate_after for restart in node.restarts] == [None]
        assert node.office.is_halted
        assert node.told() == ["restarting"]
        assert node.member.answers() == ([("a", "OutcomeUnknown")] if is_clean else [])


async def test_finishing_stops_with_the_office(tmp_path: Path) -> None:
    """And begins anew should the node be primary again."""
    async with world(tmp_path) as node:
        node.may_finish.clear()
        node.be_primary()
        await until(lambda: node.begun)
        node.pairing.stand_by(is_clean=True, primary="there:1")
        node.may_finish.set()
        await asyncio.sleep(0)
        assert (node.finished, node.gate.is_standby) == (0, True)
        node.be_primary()
        await node.ready()
        assert (node.begun, node.finished) == (2, 1)


async def test_a_standby_learns_where_the_primary_is(tmp_path: Path) -> None:
    """And forgets it with the connection; a primary does not listen to that."""
    async with world(tmp_path) as node:
        for primary, expected in (("there:1", "NotPrimary"), ("", "NoPrimary")):
            node.pairing.follow(primary)
            assert node.refusal() == expected
        node.be_primary()
        await node.ready()
        node.pairing.follow("there:1")
        assert node.refusal() == ""


async def test_handing_over_waits_until_all_that_was_begun_is_committed(tmp_path: Path) -> None:
    """New commands wait meanwhile, and are not refused."""
    async with world(tmp_path) as node:
        node.be_primary()
        await node.ready()
        await node.member.make(1)
        node.member.submit("begun", node.member.move(1))
        node.pairing.hold()
        quiet = asyncio.create_task(node.pairing.quiet())
        node.member.submit("waits", node.member.move(1))
        await until(lambda: len(node.member.durable) == 2)
        assert not quiet.done()
        node.pairing.commit(node.member.last_lsn)
        await quiet
        assert node.member.answers() == [("begun", "ok")]


# --- Blocked ----------------------------------------------------------------------------------------------------------
async def test_nobody_waits_for_ever_while_nothing_can_be_committed(tmp_path: Path) -> None:
    """After the time that the settings name all are told busy, and taken again when it is over."""
    async with world(tmp_path, hold_s=0) as node:
        node.be_primary()
        await node.ready()
        node.pairing.allow_reads(time.perf_counter_ns() // 1000)
        caller = Caller()
        assert not node.ask(caller)
        node.member.submit("a", node.member.move(1))
        await until(lambda: node.member.durable)
        node.pairing.set_blocked(is_blocked=True)
        await until(lambda: node.member.told)
        assert node.member.answers() == [("a", "OutcomeUnknown")]
        assert [type(error) for _, error in caller.refused] == [Busy]
        assert node.refusal() == "Busy"
        node.pairing.set_blocked(is_blocked=False)
        assert node.refusal() == ""


async def test_a_short_block_is_not_noticed(tmp_path: Path) -> None:
    """What waits goes on when the other node or the register is there again."""
    async with world(tmp_path, hold_s=0) as node:
        node.be_primary()
        await node.ready()
        node.pairing.set_blocked(is_blocked=True)
        node.pairing.set_blocked(is_blocked=False)
        await asyncio.sleep(0.01)
        assert node.refusal() == ""


# --- As standby -------------------------------------------------------------------------------------------------------
async def test_a_standby_is_fresh_when_it_has_all_that_is_committed(tmp_path: Path) -> None:
    """Only then does the primary's word make its answers young; and it shows only what it has committed itself."""
    async with members.member(tmp_path, "primary") as other:
        records = await other.make(1)
    async with world(tmp_path) as node:
        node.office.fresh_us = 1_000
        before = node.gate.fresh_ns
        node.pairing.heard(records[0].lsn)
        assert node.gate.fresh_ns == before
        await stored(node.member, records)
        node.pairing.commit(records[0].lsn)
        node.pairing.heard(records[0].lsn)
        assert node.gate.fresh_ns == 1_000_000
        assert node.gate.committed_position == node.member.committer.committed_position
        node.office.fresh_us = 500  # an older word takes nothing back
        node.pairing.heard(records[0].lsn)
        assert node.gate.fresh_ns == 1_000_000


# --- Ends -------------------------------------------------------------------------------------------------------------
async def test_a_node_starts_anew_once(tmp_path: Path) -> None:
    """Cut where it was told first; what comes after is part of the end."""
    async with world(tmp_path) as node:
        mark = Mark(5, bytes(32))
        node.pairing.restart("its journal is longer", truncate_after=mark)
        node.pairing.restart("again")
        node.pairing.quarantine("no")
        node.pairing.crash(ValueError("no"))
        node.pairing.fail(LedgerError("no"))
        assert node.restarts == [Restart("its journal is longer", mark)]
        assert node.stops == []


async def test_a_node_that_goes_down_does_not_start_anew(tmp_path: Path) -> None:
    """Whoever stops it wants it stopped; its next start does what is to be done."""
    async with world(tmp_path) as node:
        node.pairing.is_going_down = True
        node.pairing.restart("its journal is longer")
        assert node.restarts == []


async def test_a_quarantine_is_written_before_the_node_stops(tmp_path: Path) -> None:
    """The register hears first who is primary now."""
    async with world(tmp_path) as node:
        node.pairing.quarantine("its tables are wrong")
        node.pairing.quarantine("again")
        assert read_control(node.folder / "control").quarantined == "its tables are wrong"
        await until(lambda: node.stops)
        assert [type(error) for error in node.stops] == [Quarantined]
        assert "settle" in node.office.asked
        assert node.told() == ["quarantined"]


async def test_a_quarantine_that_cannot_be_written_stops_the_node_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk is gone: there is nothing else to do."""
    async with world(tmp_path) as node:

        def quarantine(reason: str) -> None:
            raise JournalWriteFailed("the disk failed")

        monkeypatch.setattr(node.control, "quarantine", quarantine)
        node.pairing.quarantine("its tables are wrong")
        await until(lambda: node.stops)
        assert [type(error) for error in node.stops] == [Quarantined]


async def test_a_fault_of_the_pair_s_part_stops_the_node(tmp_path: Path) -> None:
    """At once, and nobody is answered any more."""
    async with world(tmp_path) as node:
        node.be_primary()
        await node.ready()
        node.pairing.crash(ValueError("a bug"))
        assert [type(error) for error in node.stops] == [LedgerError]
        assert node.gate.is_standby


@pytest.mark.parametrize("is_required", [False, True], ids=["alone", "of two"])
async def test_a_primary_whose_disk_failed_hands_over_if_it_can(tmp_path: Path, *, is_required: bool) -> None:
    """The other node has everything if it counts; then this one is not used again. Alone it stops as any node does."""
    async with world(tmp_path) as node:
        node.office.is_required = is_required
        node.be_primary(Phase.primary_paired if is_required else Phase.primary_solo)
        await node.ready()
        error = JournalWriteFailed("the disk failed")
        node.pairing.fail(error)
        node.pairing.fail(LedgerError("again"))
        assert node.gate.is_standby
        await until(lambda: node.stops)
        assert node.stops == [error]
        assert node.office.wishes == ([Wish.storage_failed] if is_required else [])


async def test_a_standby_whose_disk_failed_leaves(tmp_path: Path) -> None:
    """The role machine says what that means; the node stops in any case."""
    async with world(tmp_path) as node:
        node.pairing.fail(JournalWriteFailed("the disk failed"))
        await until(lambda: node.stops)
        assert node.office.wishes == [Wish.storage_failed]


async def test_stopping_ends_all_that_runs_beside(tmp_path: Path) -> None:
    """And nobody waits for what cannot be committed any more; the control file is free."""
    async with world(tmp_path) as node:
        node.be_primary()
        await node.ready()
        node.member.submit("a", node.member.move(1))
        await until(lambda: node.member.durable)
        chore = node.pairing.start_chore(asyncio.sleep(3600))
        await node.pairing.stop()
        assert chore.cancelled()
        assert node.office.asked == ["stop"]
        assert node.member.answers() == [("a", "OutcomeUnknown")]
        Control.open(node.folder / "control").close()


async def test_a_fault_in_a_chore_stops_the_node(tmp_path: Path) -> None:
    """What nobody awaits must not fail unnoticed."""
    async with world(tmp_path) as node:

        async def fail() -> None:
            raise KeyError("a bug")

        node.pairing.start_chore(fail())
        await until(lambda: node.stops)
        assert [type(error) for error in node.stops] == [LedgerError]


# --- For operators ----------------------------------------------------------------------------------------------------
async def test_events_are_written_down_with_their_epoch(tmp_path: Path) -> None:
    """Changes of phase are only logged: what led to them is an event of its own."""
    async with world(tmp_path) as node:
        node.pairing.tell("phase", {"before": "recovering", "now": "primary.solo"})
        node.pairing.tell("takeover", {"silent_ms": 1_500})
        (happening,) = chronicle.read(node.folder)
        assert (happening.name, happening.epoch, happening.facts) == ("takeover", EPOCH, {"silent_ms": 1_500})
        assert (node.pairing.failovers, node.pairing.unavailable_s) == (1, 1.5)


async def test_a_primary_whose_disk_fills_up_hands_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the other node may have room; when that refuses, later again. A standby does nothing."""
    monkeypatch.setattr(module, "DISK_WATCH_S", 0.001)
    monkeypatch.setattr(module, "DISK_WAIT_S", 0.001)
    async with world(tmp_path) as node:
        looks: list[bool] = []

        def is_low() -> bool:
            looks.append(node.pairing.is_primary)
            return True

        node.office.refusals = [NoPrimary("alone"), Busy("too slow")]
        node.pairing.start_chore(node.pairing.watch_disk(is_low))
        await until(lambda: len(looks) > 2)
        assert node.office.asked == []
        node.be_primary()
        await until(lambda: len(node.office.asked) == 3)
        assert set(node.office.asked) == {"switch over: disk_low"}


async def test_operators_ask_by_name(tmp_path: Path) -> None:
    """Each is answered with how the node stands afterwards."""
    async with world(tmp_path) as node:
        commands = node.pairing.commands()
        for name in ("switchover", "failover", "pause", "resume"):
            assert (await commands[name]())["role"] == "standby"
        assert node.office.asked == ["switch over: switch_over", "take over"]
        assert node.office.wishes == [Wish.pause, Wish.resume]
        node.office.refusals = [NoPrimary("this node is not primary")]
        with pytest.raises(NoPrimary):
            await commands["switchover"]()


@pytest.mark.parametrize(
    ("phase", "role", "copies"),
    [
        (Phase.standby_in_sync, "standby", 1),
        (Phase.primary_solo, "primary", 1),
        (Phase.primary_paired, "primary", 2),
    ],
)
async def test_the_monitor_is_told_how_the_pair_stands(tmp_path: Path, phase: Phase, role: str, copies: int) -> None:
    """Also of the other node, once it was heard."""
    async with world(tmp_path) as node:
        node.office.phase = phase
        found = node.pairing.statistics()
        assert (found["role"], found["state"], found["term"], found["copies"]) == (role, phase.value, EPOCH, copies)
        assert (found["peer"]["name"], found["peer"]["seen_s"]) == ("", None)
        node.office.sight.member = Member("node-2", bytes(16))
        node.office.sight.seen_us = time.monotonic_ns() // 1000
        peer = node.pairing.statistics()["peer"]
        assert (peer["name"], peer["address"]) == ("node-2", "there:1")
        assert peer["seen_s"] >= 0
        assert found["register"] == {"kind": "witness", "reachable": True}
