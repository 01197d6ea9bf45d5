"""A restored bank is the one that was backed up: people sign in, the books add up, and the trail says it happened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from fortress import config
from fortress.client.ids import new_id
from fortress.errors import BackupDamaged, FolderExists, FortressError, KeyUnusable, SettingUnknown, UsageError
from fortress.ledger.audit import audit_folder
from fortress.ledger.backup import End, File, Header, Reader, Writer
from fortress.server import restoring
from fortress.server.backups import SETTINGS, Made
from fortress.server.restoring import Moment, Restored, audit_backup, restore_backup
from tests.server.banks import BANK, banking, serving
from tests.server.test_backups import begin_late, copied, kek_of, keyring_of, make


def restore(made: Made, into: Path, key_of: Path, to: Moment | None = None) -> Restored:
    """Restore a backup."""
    with Reader(made.path) as reader:
        return restore_backup(reader, into, kek_of(key_of), to=to)


def whole(folder: Path) -> bool:
    """Whether a folder passes the audit."""
    keyring = keyring_of(folder)
    report = audit_folder(folder, bank=BANK, data_key=keyring.data_key, store_key=keyring.store_key)
    return report.is_right


async def test_a_restored_bank_goes_on(tmp_path: Path) -> None:
    """With everybody's key and data, all balances and ids; what came after the backup is not there."""
    async with banking(tmp_path) as world:
        alice = await world.sign_in("alice")
        known = new_id()
        paid = await alice.pay("bob", "1.00 EUR", id=known)
        made = await asyncio.to_thread(make, world.folder, tmp_path / "kept")
        await alice.pay("bob", "2.00 EUR")
    restored = restore(made, tmp_path / "new", world.folder)
    assert (restored.last.lsn, restored.last.hash) == (made.header.lsn, made.header.hash)
    assert whole(tmp_path / "new")
    async with serving(tmp_path / "new") as world:
        assert world.bank.engine.epoch == restored.epoch == restored.last.epoch + 1
        alice, ada = await world.sign_in("alice"), await world.sign_in("ada")
        (account,) = await alice.accounts()
        assert account.balance_minor == 9_900
        assert (await alice.get_profile()).email == "alice@example.org"
        again = await alice.pay("bob", "1.00 EUR", id=known)
        assert (again.position, again.replayed) == (paid.position, True)
        newest = (await ada.administration.trail(limit=1)).rows[0]
        assert (newest.kind, newest.position, newest.actor) == ("ledger_restored", made.header.position + 1, "bank")
        assert newest.detail == f"backup {datetime.fromtimestamp(made.header.made_us / 1e6, UTC):%Y-%m-%dT%H:%M:%SZ}"
        await alice.pay("bob", "3.00 EUR")
    assert whole(tmp_path / "new")


async def test_it_is_restored_to_an_earlier_moment(tmp_path: Path) -> None:
    """To a position or a time; a record is there whole or not at all."""
    async with banking(tmp_path) as world:
        alice = await world.sign_in("alice")
        first = await alice.pay("bob", "1.00 EUR")
        await alice.pay("bob", "2.00 EUR")
        made = await asyncio.to_thread(make, world.folder, tmp_path / "kept")
    first_us = round(first.time.timestamp() * 1_000_000)
    for name, to in (("position", Moment(position=first.position)), ("time", Moment(time_us=first_us))):
        restored = restore(made, tmp_path / name, world.folder, to)
        assert restored.last.tree_size == first.position
        assert whole(tmp_path / name)
        async with serving(tmp_path / name) as again:
            alice = await again.sign_in("alice")
            assert [account.balance_minor for account in await alice.accounts()] == [9_900]
    with pytest.raises(UsageError, match="before that moment"):
        restore(made, tmp_path / "never", world.folder, Moment(time_us=1))
    assert not (tmp_path / "never").exists()


async def test_a_late_journal_is_restored_with_its_tables(tmp_path: Path) -> None:
    """To the end of the backup and nowhere else."""
    folder = copied(tmp_path)
    begin_late(folder)
    made = make(folder, tmp_path / "kept")
    with Reader(made.path) as reader:
        assert audit_backup(reader, kek_of(folder)).is_right
    with pytest.raises(UsageError):
        restore(made, tmp_path / "new", folder, Moment(position=1))
    restore(made, tmp_path / "new", folder)
    assert whole(tmp_path / "new")
    async with serving(tmp_path / "new") as world:
        alice = await world.sign_in("alice")
        assert [account.balance_minor for account in await alice.accounts()] == [10_000]
        assert [row.amount_minor for row in (await alice.history_page()).rows if row.amount_minor] == [10_000]


async def test_whoever_was_erased_stays_erased(tmp_path: Path) -> None:
    """In backups made afterwards."""
    async with banking(tmp_path) as world:
        ada = await world.sign_in("ada")
        alice = await world.sign_in("alice")
        (account,) = await alice.accounts()
        await alice.pay("bob", "100.00 EUR")
        await alice.close_account(account.number)
        await ada.administration.erase("alice")
        made = await asyncio.to_thread(make, world.folder, tmp_path / "kept")
    restore(made, tmp_path / "new", world.folder)
    async with serving(tmp_path / "new") as world:
        assert (await (await world.sign_in("ada")).administration.user("bob")).name == "Bob"
        with pytest.raises(FortressError):
            await world.sign_in("alice")


def test_a_member_of_a_pair_is_restored_as_a_node_alone(tmp_path: Path) -> None:
    """The other node and the register know another history; where things lie is as usual again."""
    folder = copied(tmp_path)
    text = (folder / config.FILE_NAME).read_text()
    values = config.load(folder, {}, {})
    kept = {key: values.value(key) for key in values.sources}
    assert text
    extra = {"pair.peer": "127.0.0.1:7", "tls.ca": str(folder / "certs" / "ca.crt"), "server.host": "127.0.0.1"}
    (folder / config.FILE_NAME).write_text(config.settings_file({**kept, **extra}))
    made = make(folder, tmp_path / "kept")
    settings = restore(made, tmp_path / "new", folder).settings
    assert settings.pair.peer == "" and settings.tls.ca == "certs/ca.crt"
    assert (settings.node.name, settings.server.host, settings.ledger.segment_bytes) == ("one", "127.0.0.1", 2**20)
    assert (tmp_path / "new" / "keys" / "node.key").stat().st_mode & 0o777 == 0o600
    with Reader(made.path) as reader:
        command = f"cat {folder / 'keys' / 'node.key'}"
        found = restore_backup(reader, tmp_path / "other", kek_of(folder), key_command=command)
    assert found.settings.keys.key_command == command and not (tmp_path / "other" / "keys").exists()


def test_a_backup_is_audited_as_a_folder_is(tmp_path: Path) -> None:
    """Whole, or what is wrong; with the right key only."""
    folder = copied(tmp_path)
    made = make(folder, tmp_path / "kept")
    with Reader(made.path) as reader:
        report = audit_backup(reader, kek_of(folder))
        assert report.is_right and report.records == made.header.lsn and report.accounts >= 2
        with pytest.raises(KeyUnusable):
            audit_backup(reader, b"x" * 32)
    data = bytearray(made.path.read_bytes())
    data[-1] ^= 1
    made.path.write_bytes(data)
    with Reader(made.path) as reader:
        assert not audit_backup(reader, kek_of(folder)).is_right


def test_nothing_is_left_of_a_restore_that_failed(tmp_path: Path) -> None:
    """Another key, a damaged file: the folder is not there, or empty as it was."""
    folder = copied(tmp_path)
    made = make(folder, tmp_path / "kept")
    with Reader(made.path) as reader, pytest.raises(KeyUnusable):
        restore_backup(reader, tmp_path / "new", b"x" * 32)
    data = bytearray(made.path.read_bytes())
    data[-1] ^= 1
    made.path.write_bytes(data)
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with pytest.raises(BackupDamaged):
            restore(made, tmp_path / name, folder)
    assert not (tmp_path / "new").exists() and not list((tmp_path / "empty").iterdir())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """Neither a bank nor anything else."""
    folder = copied(tmp_path)
    made = make(folder, tmp_path / "kept")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    for into in (folder, tmp_path / "full"):
        with pytest.raises(FolderExists):
            restore(made, into, folder)
    assert whole(folder) and (tmp_path / "full" / "a").exists()


def test_a_crash_leaves_what_no_node_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings come last, and without them it is no node's folder; the next restore says what to do."""
    folder = copied(tmp_path)
    made = make(folder, tmp_path / "kept")
    monkeypatch.setattr(restoring, "_clear", lambda into, keep_folder: None)  # as if nobody were there to clear up

    def die(path: Path, text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(restoring, "replace_file", die)
    with pytest.raises(KeyboardInterrupt):
        restore(made, tmp_path / "new", folder)
    assert not (tmp_path / "new" / config.FILE_NAME).exists()
    with pytest.raises(FolderExists, match="delete it and try again"):
        restore(made, tmp_path / "new", folder)


def forged(made: Made, folder: Path, change: Callable[[Writer], None]) -> Made:
    """A backup by somebody who has the keys, with something more in it."""
    keyring = keyring_of(folder)
    with Reader(made.path) as reader:
        header: Header = msgspec.structs.replace(reader.header, salt=b"another" + bytes(25))
        items = list(reader.items(keyring.data_key))
    path = made.path.with_name("forged.backup")
    with Writer(path, header, keyring.data_key) as writer:
        change(writer)
        for item in items:
            if not isinstance(item, End):
                writer.add(item)
    return Made(path, header, 0)


NAMES = ["../evil", "evil", "certs/../evil", "certs/a/b", "certs/", "certs/..", "certs/.x", "certs/ca.crt", "j/1.seg"]


@pytest.mark.parametrize("name", NAMES)
def test_files_of_a_backup_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    """Whatever they are called."""
    folder = copied(tmp_path)
    made = forged(make(folder, tmp_path / "kept"), folder, lambda writer: writer.add(File(name, b"x")))
    with pytest.raises(BackupDamaged, match="a file that no node has"):
        restore(made, tmp_path / "new", folder)
    assert not list(tmp_path.rglob("evil"))


def test_settings_of_another_version_are_told(tmp_path: Path) -> None:
    """By their names; nothing is left."""
    folder = copied(tmp_path)
    made = make(folder, tmp_path / "kept")

    def add(writer: Writer) -> None:
        writer.add(File("certs/more.crt", b"x"))

    more = forged(made, folder, add)
    assert restore(more, tmp_path / "more", folder).settings.node.bank == BANK
    assert (tmp_path / "more" / "certs" / "more.crt").read_bytes() == b"x"
    keyring = keyring_of(folder)
    with Reader(made.path) as reader:
        header = msgspec.structs.replace(reader.header, salt=b"another" + bytes(25))
        items = list(reader.items(keyring.data_key))
    with Writer(made.path, header, keyring.data_key) as writer:
        for item in items:
            if isinstance(item, File) and item.name == SETTINGS:
                writer.add(File(SETTINGS, b'{"node.color": "red"}'))
            elif not isinstance(item, End):
                writer.add(item)
    with pytest.raises(SettingUnknown, match="color"):
        restore(made, tmp_path / "new", folder)
    assert not (tmp_path / "new").exists()
