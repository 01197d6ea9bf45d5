"""What a node's folder remembers of its last backup: when it was made, how far it reaches, what it is called.

The backup itself lies elsewhere. Whoever makes one leaves this note behind, and the node reads it to say how old its
last backup is.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Final

import msgspec

from fortress.server.folder import replace_file

NOTE_NAME: Final = "backup.json"
READ_EVERY_S: Final = 5.0
_NOTE_SIZE_BYTES_MAX: Final = 4096

Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Microseconds = Annotated[int, msgspec.Meta(ge=0, lt=253_402_300_800_000_000)]
"""Up to the end of the year 9999, after which no calendar goes on."""


class BackupNote(msgspec.Struct, frozen=True):
    """The last backup of a node.

    Attributes:
        made_us: when it was made, microseconds since 1970 UTC.
        lsn: the last record in it.
        position: the last entry in it.
        size_bytes: how large the file is.
        name: of the file.
    """

    made_us: Microseconds
    lsn: Number
    position: Number
    size_bytes: Number
    name: str


class LastBackup:
    """What a running node knows of its last backup, though another process makes it.

    Attributes:
        note: of the newest one; None: none is known.
    """

    def __init__(self) -> None:
        self.note: BackupNote | None = None

    @property
    def made_us(self) -> int:
        """When it was made; 0: there is none."""
        return self.note.made_us if self.note is not None else 0

    @property
    def position(self) -> int:
        """The last entry in it; 0: there is none."""
        return self.note.position if self.note is not None else 0

    async def look(self, data_folder: Path) -> None:
        """Read the note; of it and what was read before, the backup that reaches further stays."""
        found = await asyncio.to_thread(read_note, data_folder)
        if found is not None and (self.note is None or (found.lsn, found.made_us) > (self.note.lsn, self.note.made_us)):
            self.note = found

    async def watch(self, data_folder: Path) -> None:
        """Read the note again and again, until cancelled."""
        while True:
            await self.look(data_folder)
            await asyncio.sleep(READ_EVERY_S)


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
