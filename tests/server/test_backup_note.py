"""The note of the last backup: read as written, and never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from fortress.server.backup_note import NOTE_NAME, BackupNote, read_note, write_note

NOTE = BackupNote(1_700_000_000_000_000, 12, 34, 5678, "a-one-20260101T000000Z-12.backup")


def test_a_note_is_read_as_it_was_written(tmp_path: Path) -> None:
    """The newest one."""
    assert read_note(tmp_path) is None
    write_note(tmp_path, BackupNote(1, 1, 1, 1, "older"))
    write_note(tmp_path, NOTE)
    assert read_note(tmp_path) == NOTE
    assert [path.name for path in tmp_path.iterdir()] == [NOTE_NAME]


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b'{"made_us": "x"}', b"{" * 10_000])
def test_what_cannot_be_read_is_no_note(tmp_path: Path, data: bytes) -> None:
    """A damaged one stops nothing."""
    (tmp_path / NOTE_NAME).write_bytes(data)
    assert read_note(tmp_path) is None
