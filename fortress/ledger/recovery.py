"""What a journal's folder holds after a crash: whole, torn at its end, or damaged.

What is made of a place where no good record is:

=====================================================  =========================================================
what follows it                                        verdict
=====================================================  =========================================================
nothing that opens, in the last segment                torn tail: the write under way at the crash; overwritten
records of the same write that open                    torn tail as well: the disk had some of that write
a later record or footer that opens                    ``JournalCorrupt``: writes are in order, so this is damage
another segment with records                           ``JournalCorrupt``: a segment before the last ends early
a segment whose first number or hash does not fit      ``JournalCorrupt``: a hole
a footer, and no next segment                          ``JournalCorrupt``: the newest segment is missing
=====================================================  =========================================================

Changing segments happens in this order: new file, its header, its name, folder sync, footer of the old one, first
record. So a segment without footer before the last one is right in one case, a crash between these steps: the last
one is empty and continues it exactly.

A page whose write failed may be marked clean by the kernel, so it can be read though it is not on the disk, and a
sync after the restart would report success. Recovery therefore writes the last record once more, the same bytes,
and those of the same write, before counting them durable; earlier ones were synced before the next was begun.

A journal that was to be cut off behind a record when the process died is cut off first (:mod:`.cut`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from fortress.errors import ChainBroken, JournalCorrupt
from fortress.ledger.cut import finish_cut
from fortress.ledger.records import FIRST_LSN, Record, check_follows, decode
from fortress.ledger.segment import (
    BLOCK_SIZE_BYTES,
    NONCE_SIZE_BYTES,
    RECORD,
    Block,
    Entropy,
    Footer,
    SegmentHeader,
    SegmentReader,
    SegmentWriter,
    Write,
    segment_name,
    segment_paths,
    sync_folder,
)


@dataclass(frozen=True, slots=True)
class Part:
    """One segment of the journal: its file, its header, and its footer once it has one."""

    path: Path
    header: SegmentHeader
    footer: Footer | None


@dataclass(frozen=True, slots=True)
class Recovered:
    """A journal fit to go on: its segments, a writer at the end of the last, its newest record."""

    parts: tuple[Part, ...]
    writer: SegmentWriter
    last: Record | None


@dataclass(frozen=True, slots=True)
class _Walk:
    """What a walk through a segment found: where its records are, where they end, and the last one."""

    offsets: list[int]
    end_offset: int
    last: Record | None
    last_write_offset: int


def read_record(reader: SegmentReader, offset: int, lsn: int, previous: Record | None) -> tuple[Record, int] | None:
    """Read record ``lsn`` at this place and check that it follows; give it and where the next one starts.

    Args:
        previous: the record before; None if it is not at hand (a segment's first is then held against the header).

    Returns:
        None when nothing opens there as a record.

    Raises:
        JournalCorrupt: something opens that is not the record that must be there.
    """
    found = _read_block(reader, offset, lsn, previous)
    return None if found is None else (found[0], found[1].end_offset)


def _read_block(reader: SegmentReader, offset: int, lsn: int, previous: Record | None) -> tuple[Record, Block] | None:
    block = reader.block(offset) if offset < reader.limit else None
    if block is None or block.kind != RECORD:
        return None
    try:
        record = decode(block.content)
        _check_continues(reader.header, previous, record, lsn)
    except (ChainBroken, JournalCorrupt) as exc:
        raise reader.damage(offset, lsn, exc.message) from exc
    return record, block


def recover(folder: Path, data_key: bytes, *, bank: str, entropy: Entropy, write: Write) -> Recovered | None:
    """Find what the folder holds, overwrite a torn tail and make sure that the rest is durable; None if it is empty.

    Raises:
        JournalCorrupt: damage; nothing was changed.
        KeyUnusable: the journal was written with another data key.
        OSError: what has to be written cannot be.
    """
    finish_cut(folder, data_key)
    parts = _read_parts(folder, data_key, bank)
    if not parts:
        return None
    with SegmentReader(parts[-1].path, data_key) as reader:
        if parts[-1].footer is not None:
            missing = parts[-1].footer.last_lsn + 1
            raise reader.damage(
                reader.limit, missing, f"the segment after this one, {segment_name(missing)}, is missing"
            )
        found = _walk(reader)
        _check_joins(parts, is_last_empty=found.last is None)
        is_clean = reader.is_clean(found.end_offset)
        if not is_clean:
            _check_torn(reader, found)
        last = found.last
        if last is None and parts[-1].header.first_lsn != FIRST_LSN:
            parts, last = _last_of_closed(parts, data_key, entropy=entropy, write=write)
        writer = SegmentWriter(
            reader.path, reader.header, reader.seal, offset=found.end_offset, offsets=found.offsets, write=write
        )
        if not is_clean:
            writer.clear_rest()
        if found.offsets:
            start = found.last_write_offset
            writer.write_again(reader.read(start, found.end_offset - start), start)
    sync_folder(folder)
    return Recovered(parts, writer, last)


def _check_continues(header: SegmentHeader, previous: Record | None, record: Record, lsn: int) -> None:
    if record.lsn != lsn:
        raise ChainBroken(f"record {record.lsn} is in its place")
    if record.bank != header.bank:
        raise ChainBroken(f"record {record.lsn} is of bank {record.bank!r}, the segment of {header.bank!r}")
    if previous is not None or lsn == FIRST_LSN:
        check_follows(previous, record)
    elif lsn == header.first_lsn and record.previous_hash != header.previous_hash:
        raise ChainBroken("it does not continue what its segment's header says")


def _read_parts(folder: Path, data_key: bytes, bank: str) -> tuple[Part, ...]:
    """Read header and footer of every segment, in the order of their records."""
    parts = []
    for path in segment_paths(folder):
        with SegmentReader(path, data_key) as reader:
            if reader.header.first_lsn != int(path.stem):
                raise reader.damage(0, reader.header.first_lsn, "the file has another segment's name")
            if reader.header.bank != bank:
                raise reader.damage(0, reader.header.first_lsn, f"the journal is of bank {reader.header.bank!r}")
            parts.append(Part(path, reader.header, reader.footer()))
    return tuple(parts)


def _check_joins(parts: tuple[Part, ...], *, is_last_empty: bool) -> None:
    """Check that each segment ends where the next one begins, by footers and headers alone."""
    for part, following in pairwise(parts):
        if part.footer is None:
            if is_last_empty and following is parts[-1]:
                return
            raise _damaged(part, part.header.first_lsn, "the segment ends early: its footer is missing or damaged")
        if part.footer.last_lsn + 1 != following.header.first_lsn:
            missing = segment_name(part.footer.last_lsn + 1)
            raise _damaged(following, part.footer.last_lsn + 1, f"a hole before this segment: {missing} is missing")
        if part.footer.last_hash != following.header.previous_hash:
            raise _damaged(following, following.header.first_lsn, "the segment continues another history")


def _damaged(part: Part, lsn: int, what: str) -> JournalCorrupt:
    return JournalCorrupt(
        f"{part.path}, offset 0, record {lsn}: {what}", {"file": str(part.path), "offset": 0, "lsn": lsn}
    )


def _walk(reader: SegmentReader) -> _Walk:
    """Open and check record after record from the segment's start, as long as they open."""
    offsets: list[int] = []
    last: Record | None = None
    end = write = BLOCK_SIZE_BYTES
    while (found := _read_block(reader, end, reader.header.first_lsn + len(offsets), last)) is not None:
        last, block = found
        write = end if block.written_from == block.lsn else write
        offsets.append(end)
        end = block.end_offset
    return _Walk(offsets, end, last, write)


def _check_torn(reader: SegmentReader, found: _Walk) -> None:
    """Tell a torn tail from damage: after the write under way at a crash nothing was ever written."""
    lsn = reader.header.first_lsn + len(found.offsets)
    later = reader.find_later(found.end_offset, lsn)
    if later is not None:
        place, block = later
        what = f"does not open, but what was written later does (record {block.lsn} at offset {place})"
        raise reader.damage(found.end_offset, lsn, f"{what}: this is damage, not a torn write")


def _last_of_closed(
    parts: tuple[Part, ...], data_key: bytes, *, entropy: Entropy, write: Write
) -> tuple[tuple[Part, ...], Record]:
    """Find the newest record when the last segment has none; write the footer that a crash kept from being written."""
    if len(parts) < 2:
        raise _damaged(parts[0], parts[0].header.first_lsn, "is missing, and nothing is left before it")
    part, following = parts[-2], parts[-1]
    with SegmentReader(part.path, data_key) as reader:
        if part.footer is not None:
            found = read_record(reader, part.footer.last_offset, part.footer.last_lsn, None)
            if found is None or found[0].hash != part.footer.last_hash:
                raise reader.damage(part.footer.last_offset, part.footer.last_lsn, "the last record is damaged")
            return parts, found[0]
        walk = _walk(reader)
        _check_torn(reader, walk)
        if walk.last is None or walk.last.hash != following.header.previous_hash:
            lsn = following.header.first_lsn - 1
            raise reader.damage(walk.end_offset, lsn, "the segment ends early, the next one continues it")
        writer = SegmentWriter(
            part.path, reader.header, reader.seal, offset=walk.end_offset, offsets=walk.offsets, write=write
        )
        try:
            writer.write_footer(walk.last.lsn, walk.last.hash, entropy(NONCE_SIZE_BYTES))
        finally:
            writer.close()
        return (*parts[:-2], replace(part, footer=reader.footer()), following), walk.last
