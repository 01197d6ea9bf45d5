"""Backups are made beside a serving node, hold what is committed, and leave nothing half done."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from pathlib import Path

import pytest

from fortress import config
from fortress.config import Settings
from fortress.errors import BackupDamaged, FolderMissing, KeyUnusable, UsageError
from fortress.ledger import backup
from fortress.ledger.backup import File, Item, PeopleKeys, Reader, TablesPart
from fortress.ledger.engine import Engine
from fortress.ledger.journal import Journal
from fortress.ledger.keyring import Keyring, read_kek
from fortress.server import backups
from fortress.server.backup_note import read_note
from fortress.server.backups import Made, create_backup, leftovers, list_backups, surplus
from tests.server.banks import BANK, banking, empty_folder, filled_folder, hold_tables


def settings_of(folder: Path) -> Settings:
    """The settings of a folder, by its file alone."""
    return config.load(folder, {}, {})


def copied(tmp_path: Path) -> Path:
    """A folder of a bank that nobody serves."""
    return Path(shutil.copytree(filled_folder(), tmp_path / "bank"))


def make(folder: Path, target: Path) -> Made:
    """Make a backup."""
    return create_backup(settings_of(folder), {}, target)


def kek_of(folder: Path) -> bytes:
    """The key-encryption key of a folder."""
    return read_kek(key_file=folder / "keys" / "node.key", key_command="", environment={})


def keyring_of(folder: Path) -> Keyring:
    """The secrets of a folder."""
    return Keyring.open(folder / "keyring", kek_of(folder))


def begin_late(folder: Path) -> None:
    """Let a journal begin with its last record, as that of a standby does that was brought up by a copy."""
    keyring = keyring_of(folder)
    engine = Engine.open(folder, bank=BANK, data_key=keyring.data_key, store_key=keyring.store_key)
    last = engine.last
    engine.close()
    assert last is not None and last.lsn > 1
    shutil.rmtree(folder / "journal")
    Journal.open(folder / "journal", keyring.data_key, bank=BANK, first=last).close()


def others_in(made: Made, folder: Path) -> list[Item]:
    """What a backup holds besides records."""
    others: list[Item] = []
    with Reader(made.path) as reader:
        list(reader.records(keyring_of(folder).data_key, on_other=others.append))
    return others


async def test_a_backup_is_made_beside_the_serving_node(tmp_path: Path) -> None:
    """While payments go on; it ends with a record that the tables have, and the node's folder remembers it."""
    async with banking(tmp_path) as world:
        alice = await world.sign_in("alice")

        async def pay() -> None:
            while True:
                await alice.pay("bob", "0.01 EUR")

        paying = asyncio.ensure_future(pay())
        made = [await asyncio.to_thread(make, world.folder, tmp_path / "kept") for _ in range(3)]
        paying.cancel()
        await asyncio.gather(paying, return_exceptions=True)
        assert all(earlier.header.lsn <= later.header.lsn for earlier, later in zip(made, made[1:], strict=False))
        note = read_note(world.folder)
        header = made[-1].header
        assert note is not None and (note.lsn, note.position) == (header.lsn, header.position)
        assert (note.made_us, note.name, note.size_bytes) == (header.made_us, made[-1].path.name, made[-1].size_bytes)
        journal = world.bank.engine.journal
        assert journal.mark_at(header.lsn) == (header.lsn, header.hash)
        assert (await asyncio.to_thread(next, journal.records(header.lsn))).tree_size == header.position


def test_it_holds_everything_but_the_key(tmp_path: Path) -> None:
    """Settings, certificates with their keys, people's keys; the key-encryption key is nowhere in it."""
    folder = copied(tmp_path)
    made = make(folder, tmp_path / "kept")
    others = others_in(made, folder)
    files = {item.name: item.data for item in others if isinstance(item, File)}
    assert {f"certs/{path.name}" for path in (folder / "certs").iterdir()} == files.keys() - {"settings.json"}
    assert files["certs/node.key"] == (folder / "certs" / "node.key").read_bytes()
    assert sum(len(item.keys) for item in others if isinstance(item, PeopleKeys)) == 5
    assert not [item for item in others if isinstance(item, TablesPart)]
    data = made.path.read_bytes()
    for secret in (kek_of(folder), kek_of(folder).hex().encode(), b"PRIVATE KEY", keyring_of(folder).data_key):
        assert secret not in data
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [made.path.name]


def test_the_tables_are_in_it_where_the_journal_begins_late(tmp_path: Path) -> None:
    """Since nothing else says what came before."""
    folder = copied(tmp_path)
    begin_late(folder)
    made = make(folder, tmp_path / "kept")
    assert made.header.first_lsn == made.header.lsn > 1
    assert [item for item in others_in(made, folder) if isinstance(item, TablesPart)]


def test_progress_is_told(tmp_path: Path) -> None:
    """First of records, then of bytes read back, both to their end."""
    told: list[tuple[int, int]] = []
    folder = copied(tmp_path)
    made = create_backup(
        settings_of(folder), {}, tmp_path / "kept", on_progress=lambda done, total: told.append((done, total))
    )
    assert (made.header.lsn,) * 2 in told and told[-1] == (made.size_bytes,) * 2


def test_there_must_be_something_to_back_up(tmp_path: Path) -> None:
    """An empty ledger, and a folder that never was one."""
    folder = Path(shutil.copytree(empty_folder(), tmp_path / "bank"))
    with pytest.raises(FolderMissing):
        make(folder, tmp_path / "kept")
    keyring = keyring_of(folder)
    Engine.open(folder, bank=BANK, data_key=keyring.data_key, store_key=keyring.store_key).close()
    with pytest.raises(UsageError, match="nothing to back up"):
        make(folder, tmp_path / "kept")
    assert not list((tmp_path / "kept").iterdir())


def test_a_wrong_key_is_told(tmp_path: Path) -> None:
    """Before anything is written."""
    folder = copied(tmp_path)
    (folder / "keys" / "node.key").write_text("00" * 32)
    with pytest.raises(KeyUnusable):
        make(folder, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_journal_that_lacks_what_the_tables_have_is_told(tmp_path: Path) -> None:
    """It would be a backup of less than the node has."""
    folder = copied(tmp_path)
    other = copied(tmp_path / "other")
    shutil.rmtree(folder / "journal")
    keyring = keyring_of(other)
    found = Journal.open(other / "journal", keyring.data_key, bank=BANK)
    first = next(found.records(1))
    found.close()
    shorter = Journal.open(folder / "journal", keyring.data_key, bank=BANK)
    shorter.append(first)
    shorter.close()
    with pytest.raises(BackupDamaged, match="does not hold record"):
        make(folder, tmp_path / "kept")
    assert not list((tmp_path / "kept").iterdir())


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a file nor a note."""
    folder = copied(tmp_path)

    class Full(backup.Writer):
        def _write(self, data: bytes) -> None:
            if len(data) > 2000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super()._write(data)

    monkeypatch.setattr(backups, "Writer", Full)
    with pytest.raises(OSError, match="No space"):
        make(folder, tmp_path / "kept")
    assert not list((tmp_path / "kept").iterdir()) and read_note(folder) is None


def test_what_does_not_read_back_gets_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that gives back other bytes than it took leaves no backup, and does not touch the one before."""
    folder = copied(tmp_path)
    before = make(folder, tmp_path / "kept")
    note = read_note(folder)
    seal = backup._Seal.seal

    def wrong(self: backup._Seal, plain: bytes, *, is_last: bool) -> bytes:
        sealed = seal(self, plain, is_last=is_last)
        return sealed[:-1] + bytes([sealed[-1] ^ is_last])

    monkeypatch.setattr(backup._Seal, "seal", wrong)
    with pytest.raises(BackupDamaged):
        make(folder, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == [before.path] and read_note(folder) == note
    assert others_in(before, folder)


def test_what_lies_in_a_folder_is_listed(tmp_path: Path) -> None:
    """Oldest first, by what they say of themselves; and what only has the name."""
    folder, kept = copied(tmp_path), tmp_path / "kept"
    made = make(folder, kept)
    (kept / "0.backup").write_bytes(b"nothing")
    (kept / "readme.txt").write_bytes(b"nothing")
    again = kept / "a-renamed.backup"
    shutil.copy(made.path, again)
    found, others = list_backups(kept)
    assert [each.path for each in found] == [again, made.path]
    assert [each.header for each in found] == [made.header] * 2
    assert others == [kept / "0.backup"]


def test_the_newest_of_each_node_stay(tmp_path: Path) -> None:
    """However many others have."""
    header = make(copied(tmp_path), tmp_path / "kept").header

    def at(node: str, made_us: int) -> Made:
        return Made(Path(f"{node}{made_us}"), backup.msgspec.structs.replace(header, node=node, made_us=made_us), 1)

    found = [at("one", 3), at("two", 1), at("one", 1), at("one", 2)]
    assert [made.path.name for made in surplus(found, 2)] == ["one1"]
    assert {made.path.name for made in surplus(found, 1)} == {"one1", "one2"}
    assert surplus(found, 9) == []


def test_what_was_left_over_is_found_once_it_is_old(tmp_path: Path) -> None:
    """What a backup is being written to is not."""
    for name in (".x.backup.77.partial", "x.backup", "other"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".tables-abc").mkdir()
    newest = max(path.stat().st_mtime for path in tmp_path.iterdir())
    assert leftovers(tmp_path, older_than=newest - 60) == []
    assert [path.name for path in leftovers(tmp_path, older_than=newest + 60)] == [
        ".tables-abc",
        ".x.backup.77.partial",
    ]


async def test_what_was_acknowledged_before_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the tables get it a little later; what never comes there is told after a bounded wait."""
    async with banking(tmp_path) as world:
        alice = await world.sign_in("alice")
        for _ in range(3):
            paid = await alice.pay("bob", "0.01 EUR")
            made = await asyncio.to_thread(make, world.folder, tmp_path / "kept")
            assert made.header.position >= paid.position and made.left_out == 0
        held = hold_tables(world.bank.engine)
        monkeypatch.setattr(backups, "APPLIED_S_MAX", 0.05)
        await alice.pay("bob", "0.01 EUR")
        made = await asyncio.to_thread(make, world.folder, tmp_path / "kept")
        assert made.header.position == paid.position and made.left_out == 1
        held.release()
