"""The note of the last backup: read as written, and never in the way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from fortress.server import backup_note
from fortress.server.backup_note import NOTE_NAME, BackupNote, LastBackup, read_note, write_note

NOTE = BackupNote(1_700_000_000_000_000, 12, 34, 5678, "a-one-20260101T000000Z-12.backup")


def test_a_note_is_read_as_it_was_written(tmp_path: Path) -> None:
    """The newest one."""
    assert read_note(tmp_path) is None
    write_note(tmp_path, BackupNote(1, 1, 1, 1, "older"))
    write_note(tmp_path, NOTE)
    assert read_note(tmp_path) == NOTE
    assert [path.name for path in tmp_path.iterdir()] == [NOTE_NAME]


NUMBERS = b'{"made_us": %d, "lsn": %d, "position": 1, "size_bytes": 1, "name": ""}'
UNREADABLE = [b"", b"\xff", b"[]", b'{"made_us": "x"}', b"{" * 10_000, NUMBERS % (10**18, 1), NUMBERS % (1, -1)]


@pytest.mark.parametrize("data", UNREADABLE)
def test_what_cannot_be_read_is_no_note(tmp_path: Path, data: bytes) -> None:
    """A damaged one stops nothing."""
    (tmp_path / NOTE_NAME).write_bytes(data)
    assert read_note(tmp_path) is None


async def test_the_backup_that_reaches_further_stays(tmp_path: Path) -> None:
    """Whatever is written into the folder afterwards, and if the note is lost."""
    last = LastBackup()
    await last.look(tmp_path)
    assert (last.note, last.made_us, last.position) == (None, 0, 0)
    write_note(tmp_path, NOTE)
    await last.look(tmp_path)
    assert (last.made_us, last.position) == (NOTE.made_us, NOTE.position)
    write_note(tmp_path, replace(NOTE, lsn=NOTE.lsn - 1, made_us=NOTE.made_us + 1))
    await last.look(tmp_path)
    (tmp_path / NOTE_NAME).unlink()
    await last.look(tmp_path)
    assert last.note == NOTE


async def test_a_backup_made_meanwhile_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By who watches, without being told."""
    monkeypatch.setattr(backup_note, "READ_EVERY_S", 0.001)
    last = LastBackup()
    watching = asyncio.create_task(last.watch(tmp_path))
    try:
        async with asyncio.timeout(30):
            for note in (NOTE, replace(NOTE, lsn=NOTE.lsn + 1)):
                write_note(tmp_path, note)
                while last.note != note:
                    await asyncio.sleep(0)
    finally:
        watching.cancel()
        await asyncio.wait([watching])
