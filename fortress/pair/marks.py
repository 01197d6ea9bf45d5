"""The newest marks of a journal: enough to compare what the other node says without reading a file.

A value that grows: adding a mark gives another window and copies at most one short chunk, so a step of the role machine
stays cheap while its state can be kept, compared and hashed.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from fortress.errors import LocalProtocolError
from fortress.pair.messages import GENESIS, Mark

CHUNK_MARKS: Final = 64
CHUNKS_MAX: Final = 17
"""With one chunk being filled, the window never holds fewer than the last 1,024 marks."""


class Marks(Struct, frozen=True):
    """The hashes of consecutive records, up to the end of a journal.

    Attributes:
        end: mark of the newest record.
        first: number of the record whose hash stands first.
        chunks: full chunks of hashes, oldest first.
        tail: the hashes after them.
    """

    end: Mark = Mark()
    first: int = 1
    chunks: tuple[tuple[bytes, ...], ...] = ()
    tail: tuple[bytes, ...] = ()

    def add(self, mark: Mark) -> Marks:
        """Give the window with the next mark in it; the oldest ones go when it is full.

        Raises:
            LocalProtocolError: the mark is not that of the next record.
        """
        if mark.lsn != self.end.lsn + 1:
            raise LocalProtocolError(f"record {mark.lsn} does not follow record {self.end.lsn}")
        if len(self.tail) < CHUNK_MARKS:
            return Marks(mark, self.first, self.chunks, (*self.tail, mark.hash))
        chunks = (*self.chunks, self.tail)
        if len(chunks) <= CHUNKS_MAX:
            return Marks(mark, self.first, chunks, (mark.hash,))
        return Marks(mark, self.first + CHUNK_MARKS, chunks[1:], (mark.hash,))

    def hash_at(self, lsn: int) -> bytes | None:
        """Give the hash of a record, or of the place before the first; None when it is not in the window."""
        place = lsn - self.first
        if place < 0 or lsn > self.end.lsn:
            return GENESIS if lsn == 0 else None
        chunk, within = divmod(place, CHUNK_MARKS)
        return self.chunks[chunk][within] if chunk < len(self.chunks) else self.tail[place - chunk * CHUNK_MARKS]

    def has(self, mark: Mark) -> bool:
        """Tell whether this very record is known to be in the journal."""
        return self.hash_at(mark.lsn) == mark.hash


def window(end: Mark, marks: tuple[Mark, ...] = ()) -> Marks:
    """Make the window of a journal from its newest marks in order, the last of which is ``end``.

    Raises:
        LocalProtocolError: the marks have gaps, or end elsewhere.
    """
    newest = marks or ((end,) if end.lsn else ())
    if not newest:
        return Marks()
    made = Marks(newest[0], newest[0].lsn, (), (newest[0].hash,))
    for mark in newest[1:]:
        made = made.add(mark)
    if made.end != end:
        raise LocalProtocolError(f"the newest mark is that of record {made.end.lsn}, the journal ends at {end.lsn}")
    return made
