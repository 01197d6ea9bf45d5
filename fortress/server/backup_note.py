"""What a node's folder remembers of its last backup: when it was made, how far it reaches, what it is called.

The backup itself lies elsewhere. Whoever makes one leaves this note behind, and the node reads it to say how old its
last backup is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from fortress.server.folder import replace_file

NOTE_NAME: Final = "backup.json"
_NOTE_SIZE_BYTES_MAX: Final = 4096


class BackupNote(msgspec.Struct, frozen=True):
    """The last backup of a node.

    Attributes:
        made_us: when it was made, microseconds since 1970 UTC.
        lsn: the last record in it.
        position: the last entry in it.
        size_bytes: how large the file is.
        name: of the file.
    """

    made_us: int
    lsn: int
    position: int
    size_bytes: int
    name: str


def read_note(data_folder: Path) -> BackupNote | None:
    """Read what is known of the last backup; None if there was none, or if what stands there cannot be read."""
    try:
        with open(data_folder / NOTE_NAME, "rb") as file:
            return msgspec.json.decode(file.read(_NOTE_SIZE_BYTES_MAX), type=BackupNote)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None  # it decides nothing: a backup that is there but not known is made again


def write_note(data_folder: Path, note: BackupNote) -> None:
    """Remember the last backup; after a crash it is the old one or the new one.

    Raises:
        OSError: the file cannot be written.
    """
    replace_file(data_folder / NOTE_NAME, msgspec.json.encode(note).decode("utf-8") + "\n")
