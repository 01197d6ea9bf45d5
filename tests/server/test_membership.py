"""A node's way into its pair: its control file, files mended between two starts, two whole nodes in one process."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fortress.authority import LOCAL_HOSTS, Kind, adopt, issue
from fortress.config import load
from fortress.errors import ChainBroken, IntegrityFailed, NotPrimary, Quarantined, SettingInvalid
from fortress.ledger.commands import ReleaseHold
from fortress.ledger.keyring import Keyring, read_kek
from fortress.ledger.model import BANK_ACTOR, HoldState
from fortress.ledger.orphans import read_orphans
from fortress.ledger.vault import Vault
from fortress.pair import shipping
from fortress.pair.control import CONTROL_NAME
from fortress.pair.messages import Mark
from fortress.protocol.accounts import Profile
from fortress.server import membership
from fortress.server.backups import create_backup
from fortress.server.bank import new_id
from fortress.server.digests import Digests
from fortress.server.folder import KEYRING_NAME, Folder, create, open_folder
from fortress.server.membership import ORPHANS_NAME, People, mend, open_control
from fortress.server.pairing import Restart
from tests.pair.nodes import Shelf, free_port
from tests.server.banks import BANK, World, filled_folder, open_engine, seed_of, serving, until
from tests.server.members import standby_with_records, stored

CLUSTER = "0c" * 16
OTHER_CLUSTER = "0d" * 16


# --- The control file -------------------------------------------------------------------------------------------------
def member_folder(tmp_path: Path, opened: ExitStack, **more: str) -> Folder:
    """Open a node's folder, with settings of a member of a pair."""
    path = tmp_path / "bank"
    if not path.exists():
        shutil.copytree(filled_folder(), path)
    settings = {"pair.peer": "127.0.0.1:1", "pair.cluster": CLUSTER} | {f"pair.{key}": more[key] for key in more}
    folder = open_folder(path, settings, {})
    opened.callback(folder.close)
    return folder


def test_a_node_is_one_instance_for_as_long_as_its_folder_lasts(tmp_path: Path) -> None:
    """Made at the first start as a member, found again at the next."""
    with ExitStack() as opened:
        folder = member_folder(tmp_path, opened)
        control = open_control(folder)
        instance = control.instance
        assert control.cluster == bytes.fromhex(CLUSTER)
        control.promise(4)
        control.close()
        again = open_control(folder)
        opened.callback(again.close)
        assert (again.instance, again.promised) == (instance, 4)


@pytest.mark.parametrize(
    "wrong",
    [{"cluster": ""}, {"cluster": "no hex"}, {"peer": "a-host-without-port"}],
    ids=["no cluster", "not hexadecimal", "no port"],
)
def test_settings_of_half_a_member_are_refused(tmp_path: Path, wrong: dict[str, str]) -> None:
    """Before anything is made."""
    with ExitStack() as opened:
        folder = member_folder(tmp_path, opened, **wrong)
        with pytest.raises(SettingInvalid) as refused:
            open_control(folder)
        assert refused.value.facts == {"key": "pair.cluster"}
        assert not (folder.settings.folder / CONTROL_NAME).exists()


def test_a_folder_of_another_pair_is_refused(tmp_path: Path) -> None:
    """Two banks' folders changed places, or a setting was copied; the file is free afterwards."""
    with ExitStack() as opened:
        open_control(member_folder(tmp_path, opened)).close()
    with ExitStack() as opened, pytest.raises(SettingInvalid):
        open_control(member_folder(tmp_path, opened, cluster=OTHER_CLUSTER))
    with ExitStack() as opened:
        open_control(member_folder(tmp_path, opened)).close()


def test_a_quarantined_node_is_not_started(tmp_path: Path) -> None:
    """It says why, each time, until it is rebuilt."""
    with ExitStack() as opened:
        folder = member_folder(tmp_path, opened)
        control = open_control(folder)
        control.quarantine("its tables are wrong")
        control.close()
        for _ in range(2):
            with pytest.raises(Quarantined, match="its tables are wrong"):
                open_control(folder)


def test_people_s_keys_are_the_vault_s(tmp_path: Path) -> None:
    """What one node tells of them, another takes over bucket by bucket."""
    with ExitStack() as opened:
        vaults = [Vault(tmp_path / f"{name}.db", b"k" * 32) for name in "ab"]
        for vault in vaults:
            opened.callback(vault.close)
        ours, theirs = map(People, vaults)
        handle = bytes([3]) + bytes(31)
        ours.take(handle, b"x" * 32)
        assert ours.digests() != theirs.digests()
        assert [place for place in range(256) if ours.bucket(place)] == [3]
        theirs.replace_bucket(3, ours.bucket(3))
        assert ours.digests() == theirs.digests()
        theirs.take(handle, None)
        assert theirs.bucket(3) == ()


# --- Files mended between two starts ----------------------------------------------------------------------------------
async def test_records_that_are_no_history_are_cut_off_and_kept(tmp_path: Path) -> None:
    """The journal ends where the common history does; what was behind lies beside it. Again it does nothing."""
    async with standby_with_records(tmp_path, 1, 2, 3) as (node, records):
        node.replica.commit(records[0].lsn)
        await stored(node, records)
    path = tmp_path / "standby"
    restart = Restart("its journal is longer", Mark(records[0].lsn, records[0].hash))
    for _ in range(2):
        with ExitStack() as opened:
            folder = open_folder(path, {}, {})
            opened.callback(folder.close)
            mend(folder, restart)
            (copy,) = (path / ORPHANS_NAME).iterdir()
            assert [record.hash for record in read_orphans(copy, folder.keyring.data_key)] == [
                record.hash for record in records[1:]
            ]
            with pytest.raises(ChainBroken):  # the other node's record of that number is another one
                mend(folder, Restart("wrong", Mark(records[0].lsn, b"x" * 32)))
    engine = open_engine(path, is_in_pair=True)
    assert engine.journal.end == (records[0].lsn, records[0].hash)
    engine.close()


async def test_nothing_that_is_in_the_tables_is_cut_off(tmp_path: Path) -> None:
    """It was committed: then there are two histories, and no program may choose."""
    async with standby_with_records(tmp_path, 1, 2) as (node, records):
        node.replica.commit(records[1].lsn)
        await stored(node, records)
        await until(lambda: node.engine.store.applied_lsn == records[1].lsn)
    with ExitStack() as opened:
        folder = open_folder(tmp_path / "standby", {}, {})
        opened.callback(folder.close)
        with pytest.raises(IntegrityFailed):
            mend(folder, Restart("wrong", Mark(records[0].lsn, records[0].hash)))
        assert not (tmp_path / "standby" / ORPHANS_NAME).exists()


def test_a_plain_new_start_mends_nothing(tmp_path: Path) -> None:
    """Files are as they were."""
    with ExitStack() as opened:
        folder = member_folder(tmp_path, opened)
        mend(folder, Restart("a copy came"))
        assert not (folder.settings.folder / ORPHANS_NAME).exists()


# --- Two whole nodes --------------------------------------------------------------------------------------------------
def second_folder(first: Path, folder: Path) -> Path:
    """Make an empty node of the same bank: its own keys for its disk, all others shared."""

    def certificates(certs: Path) -> None:
        adopt(certs, first / "certs", "ca", with_key=False)
        adopt(certs, first / "certs", "bank", with_key=True)
        issue(certs, Kind.node, bank=BANK, hosts=LOCAL_HOSTS, authority_folder=first / "certs")

    kek = read_kek(key_file=first / "keys" / "node.key", key_command="", environment={})
    ring = Keyring.open(first / KEYRING_NAME, kek)
    create(
        folder,
        bank=BANK,
        node="two",
        make_certificates=certificates,
        make_keyring=lambda path, fresh: Keyring.create_from(path, fresh, ring),
        settings={"server.port": 0, "monitor.port": 0, "ledger.segment_bytes": 1024 * 1024},
    )
    return folder


class Two:
    """Two nodes' folders, where they find each other, and their register."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shelf = Shelf()
        monkeypatch.setattr(membership, "open_register", lambda *_, **__: shelf)
        self.folders = tmp_path / "one", tmp_path / "two"
        shutil.copytree(filled_folder(), self.folders[0])
        second_folder(*self.folders)
        ports = free_port(), free_port()
        addresses = [f"127.0.0.1:{port}" for port in ports]
        self._flags = [
            {
                "pair__listen": addresses[place],
                "pair__peer": addresses[1 - place],
                "pair__peer_clients": f"there:{2 - place}",
                "pair__cluster": CLUSTER,
            }
            for place in (0, 1)
        ]

    @asynccontextmanager
    async def serving(self, place: int, **more: str) -> AsyncIterator[World]:
        """Serve one of them."""
        async with serving(self.folders[place], **self._flags[place], **more) as world:
            yield world


def phase_of(world: World) -> str:
    pairing = world.process.pairing
    assert pairing is not None
    return pairing.replication.state.phase.value


async def paired(first: World, second: World) -> None:
    """Wait until the first is primary of two in step, and the second knows."""
    await until(lambda: phase_of(first) == "primary.paired", "paired")
    await until(lambda: phase_of(second) == "standby.in_sync", "in step")


async def test_an_empty_node_becomes_a_second_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records and people's own keys; then both have it before anybody is answered, and clients are shown the way."""
    two = Two(tmp_path, monkeypatch)
    async with two.serving(0) as first, two.serving(1) as second:
        await paired(first, second)
        alice = await first.sign_in("alice")
        ada = await first.sign_in("ada")
        await ada.administration.create_user("carol", seed=seed_of("carol"), profile=Profile(name="Carol"))
        payment = await alice.pay("bob", "1.00 EUR")
        assert second.bank.engine.journal.end[0] == first.committer.committed_lsn
        await until(lambda: second.committer.committed_position == payment.position)
        vaults = first.bank.vault, second.bank.vault
        assert vaults[0].digests() == vaults[1].digests()
        with pytest.raises(NotPrimary) as refused:
            await second.bank.commit(ReleaseHold(BANK_ACTOR, new_id(), int(HoldState.voided)))
        assert refused.value.facts == {"primary": "there:1"}


async def test_a_backup_is_made_of_the_standby(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what its clients were told is done; the primary need not do it."""
    two = Two(tmp_path, monkeypatch)
    async with two.serving(0) as first, two.serving(1) as second:
        await paired(first, second)
        alice = await first.sign_in("alice")
        payment = await alice.pay("bob", "1.00 EUR")
        made = await asyncio.to_thread(create_backup, load(two.folders[1], {}, {}), {}, tmp_path / "kept")
        assert (made.header.node, made.header.position, made.left_out) == ("two", payment.position, 0)


async def test_a_standby_far_behind_gets_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts anew with the primary's tables, reads on in the journal, and is a second copy like any other."""
    monkeypatch.setattr(shipping, "BEHIND_RECORDS_MAX", 2)
    two = Two(tmp_path, monkeypatch)
    async with two.serving(0) as first:
        async with two.serving(1) as second:
            process = second.process
            await until(process.stopped.is_set, "installed")
            assert process.failure is None
            assert process.restart is not None and process.restart.truncate_after is None
        alice = await first.sign_in("alice")
        payment = await alice.pay("bob", "1.00 EUR")
        async with two.serving(1) as second:
            assert second.bank.engine.journal.first_lsn > 1
            await paired(first, second)
            await until(lambda: second.committer.committed_position == payment.position)
            assert second.bank.engine.tree.root() == first.bank.engine.tree.root()


async def test_the_standby_goes_on_where_the_primary_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A primary that is stopped hands over; the other one answers everybody, also by name, and knows what was done."""
    two = Two(tmp_path, monkeypatch)
    async with AsyncExitStack() as opened:
        async with two.serving(0) as first:
            second = await opened.enter_async_context(two.serving(1))
            await paired(first, second)
            alice = await first.sign_in("alice")
            id = (await alice.pay("bob", "1.00 EUR")).id
        assert phase_of(second).startswith("primary.")
        await until(lambda: not second.process.dispatcher.gate.is_standby, "ready")
        alice = await second.sign_in("alice")
        assert (await alice.transfer_by_id(id)).amount_minor == 100
        assert (await alice.get_profile()).name == "Alice"


async def test_both_nodes_find_their_tables_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of the same record; the primary asks for it now and then."""
    made: list[Digests] = []

    class Kept(Digests):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(membership, "Digests", Kept)
    two = Two(tmp_path, monkeypatch)
    async with two.serving(0, pair__digest_s="1") as first, two.serving(1) as second:
        await paired(first, second)
        await until(lambda: [each.compared_lsn for each in made] == [first.committer.committed_lsn] * 2, "compared")
