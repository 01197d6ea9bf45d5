"""A node from start to stop: made whole after every kind of crash, watched while it runs, drained at the end."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fortress import authority
from fortress.errors import (
    AddressInUse,
    BooksBroken,
    CertificateUnusable,
    DiskFull,
    FortressError,
    JournalWriteFailed,
    KeyUnusable,
    LedgerError,
    Refused,
    Status,
    StoreCorrupt,
)
from fortress.ledger.commands import EndSession
from fortress.ledger.entries import decode
from fortress.ledger.model import BANK_ACTOR
from fortress.protocol.administration import StatusRequest
from fortress.server import backup_note, committer, process
from fortress.server.backup_note import BackupNote, write_note
from fortress.server.folder import open_folder
from fortress.server.process import Process
from tests.server.banks import BANK, World, banking, empty_folder, filled_folder, serving, until, write_plan


def new_folder(tmp_path: Path, *administrators: str, currencies: tuple[str, ...] = ("EUR", "USD")) -> Path:
    folder = tmp_path / "new"
    shutil.copytree(empty_folder(), folder)
    write_plan(folder, *administrators, currencies=currencies)
    return folder


def kinds(world: World) -> list[str]:
    """The journal, entry by entry."""
    rows = world.bank.engine.store.read("SELECT entry FROM entries ORDER BY position")
    return [type(decode(row[0])).__name__ for row in rows]


# --- Starting --------------------------------------------------------------------------------------------------------
async def test_a_start_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    """Address taken, vault broken: the folder is free and the next start succeeds."""
    async with banking(tmp_path) as world:
        folder = tmp_path / "other"
        shutil.copytree(filled_folder(), folder)
        port = {"server.port": str(world.process.server.port)}
        with pytest.raises(AddressInUse):
            await Process.start(open_folder(folder, port, {}))
        (folder / "people.db").rename(folder / "people.aside")
        (folder / "people.db").write_bytes(b"no database" * 1_000)
        with pytest.raises(LedgerError):
            await Process.start(open_folder(folder, {}, {}))
        (folder / "people.aside").rename(folder / "people.db")
        async with serving(folder) as other:
            assert (await other.sign_in("alice")).username == "alice"


async def test_lost_keys_of_people_are_missed(tmp_path: Path) -> None:
    """An empty file in their place would hide the loss."""
    folder = tmp_path / "bank"
    shutil.copytree(filled_folder(), folder)
    (folder / "people.db").unlink()
    with pytest.raises(KeyUnusable):
        await Process.start(open_folder(folder, {}, {}))
    open_folder(folder, {}, {}).close()


async def test_a_start_finishes_an_erasure(tmp_path: Path) -> None:
    """The key of somebody erased is destroyed, should the crash have come between entry and key."""
    async with banking(tmp_path) as world:
        bank = world.bank
        tess = await bank.customer_named("tess")
        handle, sealed = tess.handle, tess.profile
        ada = await world.sign_in("ada")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(bank.vault, "erase_person", lambda handle: None)
            await ada.administration.erase("tess")
        assert bank.vault.open_person(handle, sealed) is not None
    async with banking(tmp_path) as world:
        assert world.bank.vault.open_person(handle, sealed) is None


async def test_a_start_tells_how_far_it_has_come(tmp_path: Path) -> None:
    """Tables that were lost are rebuilt from the journal."""
    folder = tmp_path / "bank"
    shutil.copytree(filled_folder(), folder)
    for path in folder.glob("ledger.db*"):
        path.unlink()
    told: list[tuple[int, int]] = []
    started = await Process.start(open_folder(folder, {}, {}), on_progress=lambda *done: told.append(done))
    assert told[-1][0] == told[-1][1] > 0
    await started.stop()


# --- While it runs ---------------------------------------------------------------------------------------------------
async def test_a_broken_ledger_stops_the_node_once(tmp_path: Path) -> None:
    """The first reason stands; whoever runs the node hears of it."""
    async with banking(tmp_path) as world:
        journal = world.hold_journal()
        journal.errors = [JournalWriteFailed("the disk says no")]
        journal.release()
        alice = await world.sign_in("alice")
        paying = asyncio.ensure_future(alice.pay("bob", "1.00 EUR"))
        await asyncio.wait_for(world.process.stopped.wait(), 5)
        world.process.fail(BooksBroken("later"))
        assert isinstance(world.process.failure, JournalWriteFailed)
        found = world.process.statistics()
        assert found["checks"]["ledger"] == (False, "the node has stopped")
        assert found["checks"]["disk"] == (True, "there is space")
        paying.cancel()
        await asyncio.gather(paying, return_exceptions=True)


@pytest.mark.parametrize(
    ("sums", "imbalance"), [(("EUR", 1, 5, 6, 0, 0), 1), (("EUR", 1, 5, 5, 3, 2), 0)], ids=["sums", "holds"]
)
async def test_books_that_do_not_add_up_stop_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sums: tuple[Any, ...], imbalance: int
) -> None:
    """Debits and credits are added up again and again, and what is on hold is held against the holds."""
    monkeypatch.setattr(process, "BOOKS_EVERY_S", 0.01)
    async with banking(tmp_path) as world:
        await until(lambda: world.process.statistics()["imbalance"] == {"EUR": 0, "USD": 0})
        monkeypatch.setattr(world.bank.queries, "trial_balance", lambda: [sums])
        await until(lambda: world.process.failure)
        assert isinstance(world.process.failure, BooksBroken)
        assert world.process.statistics()["imbalance"] == {"EUR": imbalance}


@pytest.mark.parametrize("query", ["trial_balance", "due_holds"])
@pytest.mark.parametrize("error", [StoreCorrupt("a page is broken"), FortressError("other")], ids=["ledger", "other"])
async def test_tables_that_break_under_a_chore_stop_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: str, error: FortressError
) -> None:
    """No chore dies in silence."""
    monkeypatch.setattr(process, "BOOKS_EVERY_S", 0.01)
    monkeypatch.setattr(process, "EXPIRE_EVERY_S", 0.01)
    async with banking(tmp_path) as world:

        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(world.bank.queries, query, fail)
        await until(lambda: world.process.failure)
        assert isinstance(world.process.failure, LedgerError)


async def test_expiry_waits_while_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can wait does, and goes on by itself."""
    monkeypatch.setattr(process, "EXPIRE_EVERY_S", 0.01)
    async with banking(tmp_path) as world:
        asked: list[int] = []

        def due(*_: object) -> list[bytes]:
            asked.append(1)
            raise DiskFull("no space")

        monkeypatch.setattr(world.bank.queries, "due_holds", due)
        await until(lambda: len(asked) > 2)
        assert world.process.failure is None


async def test_certificates_are_read_again(tmp_path: Path) -> None:
    """New connections use the new ones; an unreadable one changes nothing."""
    async with banking(tmp_path) as world:
        before = world.process.statistics()["certificate_expiry"]
        certs = world.folder / "certs"
        authority.renew(certs, "node", now=datetime.now(UTC) - timedelta(hours=1))
        world.process.reload()
        assert world.process.statistics()["certificate_expiry"] != before
        assert (await world.sign_in("alice")).username == "alice"
        (certs / "node.crt").write_text("no certificate")
        with pytest.raises(CertificateUnusable):
            world.process.reload()
        assert (await world.sign_in("bob")).username == "bob"


async def test_the_monitor_sees_what_is_done(tmp_path: Path) -> None:
    """Connections, tasks, position: true while clients run."""
    async with banking(tmp_path) as world:
        alice = await world.sign_in("alice")
        paid = await alice.pay("bob", "1.00 EUR")
        found = world.process.statistics()
        assert (found["bank"], found["node"], found["role"], found["copies"]) == (BANK, "one", "primary", 1)
        assert (found["connections"], found["position"], found["behind"]) == (1, paid.position, 0)
        assert found["tasks_processed"] >= 3
        assert found["memory_rss_bytes"] > 10_000_000
        assert all(is_well for is_well, _ in found["checks"].values())
        status = await alice.ask("status", StatusRequest())
        assert status.tasks_processed >= found["tasks_processed"]


async def test_a_backup_made_beside_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some seconds after its note was written, and at once after a start."""
    monkeypatch.setattr(backup_note, "READ_EVERY_S", 0.01)
    async with banking(tmp_path) as world:
        assert world.process.statistics()["last_backup"] is None
        write_note(world.folder, BackupNote(1_700_000_000_500_000, 12, 34, 5678, "a.backup"))
        await until(lambda: world.process.statistics()["last_backup"] == 1_700_000_000.5)
    monkeypatch.setattr(backup_note.LastBackup, "watch", lambda self, folder: asyncio.sleep(0))
    async with banking(tmp_path) as world:
        assert world.process.statistics()["last_backup_position"] == 34


# --- Stopping --------------------------------------------------------------------------------------------------------
async def test_stopping_answers_what_is_under_way(tmp_path: Path) -> None:
    """Work that was taken is done and told, everything is written, and the folder is free."""
    async with banking(tmp_path) as world:
        alice = await world.sign_in("alice")
        journal = world.hold_journal()
        paying = asyncio.ensure_future(alice.pay("bob", "1.00 EUR"))
        await until(lambda: journal.begun)
        stopping = asyncio.ensure_future(world.process.stop(deadline_s=5))
        await until(lambda: all(session.is_draining for session in world.server_sessions()))
        journal.release()
        paid = await paying
        await stopping
        await world.process.stop()
    async with banking(tmp_path) as world:
        assert world.committer.committed_position == paid.position
        assert (await (await world.sign_in("bob")).balance()).balance.minor == 10_100


async def test_stopping_on_a_full_disk_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that was answered is lost, and nothing holds the end up."""
    monkeypatch.setattr(committer, "DISK_RETRY_S", 0.01)
    async with banking(tmp_path) as world:
        alice = await world.sign_in("alice")
        await alice.pay("bob", "1.00 EUR")
        journal = world.hold_journal()
        journal.errors = [DiskFull("no space")] * 10_000
        journal.release()
        paying = asyncio.ensure_future(alice.pay("bob", "2.00 EUR"))
        await until(lambda: world.process.statistics()["checks"]["disk"] == (False, "the disk is full"))
        async with asyncio.timeout(5):
            await world.process.stop(deadline_s=1)
        paying.cancel()
        await asyncio.gather(paying, return_exceptions=True)
    async with banking(tmp_path) as world:
        assert (await (await world.sign_in("bob")).balance()).balance.minor == 10_100


async def test_a_request_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline of the drain holds."""
    async with banking(tmp_path) as world:
        alice = await world.sign_in("alice")

        async def forever(*_: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(world.bank, "head", forever)
        asking = asyncio.ensure_future(alice.head())
        await until(lambda: any(session.waiting for session in world.server_sessions()))
        async with asyncio.timeout(5):
            await world.process.stop(deadline_s=0.05)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_a_fault_in_a_handler_hurts_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is answered with an error that tells nothing of the inside; session and node live on."""
    async with banking(tmp_path) as world:
        alice = await world.sign_in("alice")
        with pytest.MonkeyPatch.context() as patched:

            def fail(*_: object) -> None:
                raise KeyError("planted secret")

            patched.setattr(world.bank, "commit", fail)
            patched.setattr(world.bank, "head", fail)
            for asked in (alice.pay("bob", "1.00 EUR"), alice.head()):
                with pytest.raises(LedgerError) as told:
                    await asked
                assert "secret" not in str(told.value)
        assert (await alice.pay("bob", "1.00 EUR")).status == "done"


async def test_refused_acts_do_not_stop_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was approved and is refused now is told in the log, and the node serves."""
    monkeypatch.setattr(process.approvals, "undone", listed)
    monkeypatch.setattr(process.approvals, "carry_out", refuse)
    async with banking(tmp_path) as world:
        assert (await world.sign_in("alice")).username == "alice"


async def listed(bank: object) -> list[tuple[bytes, str, bytes, int]]:
    return [(bytes(16), "erase", b"", 1)]


async def refuse(*_: object) -> None:
    raise Refused(Status.customer_unknown)


# --- Parts -----------------------------------------------------------------------------------------------------------
class Chronicler:
    """A part that writes down what it is told, and whether the ledger could be used then."""

    def __init__(self, node: Process) -> None:
        self.process = node
        self.told: list[str] = [f"made at {node.committer.committed_position}"]

    async def start(self) -> None:
        self.told.append(f"started at {self.process.committer.committed_position}")
        self.process.attend(lambda: self.told.append("primary"), lambda: self.told.append("left"))

    async def stop(self) -> None:
        position = self.process.node.bank.state.position
        await self.process.node.bank.commit(EndSession(BANK_ACTOR, 0, bytes(16), 1))
        self.told.append(f"stopped at {self.process.node.bank.state.position - position}")

    def statistics(self) -> dict[str, object]:
        return {"chronicled": len(self.told)}


async def test_a_part_begins_with_the_node_and_ends_before_it(tmp_path: Path) -> None:
    """It is made before what a crash left is finished, started after that, and stopped while commands are taken."""
    made: list[Chronicler] = []

    def make_parts(node: Process) -> list[Chronicler]:
        made.append(Chronicler(node))
        return made

    node = await Process.start(open_folder(new_folder(tmp_path, "ada"), {}, {}), make_parts=make_parts)
    position = node.committer.committed_position
    assert node.is_primary and node.statistics()["chronicled"] == 3
    await node.stop()
    assert made[0].told == ["made at 0", f"started at {position}", "primary", "stopped at 1"]


async def test_a_part_that_cannot_start_stops_the_start(tmp_path: Path) -> None:
    """What was begun is ended, and the folder is free."""
    folder = new_folder(tmp_path, "ada")

    class Broken(Chronicler):
        async def start(self) -> None:
            raise AddressInUse("taken")

    with pytest.raises(AddressInUse):
        await Process.start(open_folder(folder, {}, {}), make_parts=lambda node: [Broken(node)])
    async with serving(folder) as world:
        assert kinds(world)[0] == "LedgerOpened"
