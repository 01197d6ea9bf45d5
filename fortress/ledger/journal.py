"""The journal: the durable truth, one sealed record after another in segment files; knows no asyncio.

``append`` returns when the record is on the disk, and ``open`` finds after a crash exactly what was: every record that
``append`` returned for, and at most one more; of several appended together, at most those, the first ones first. What
the bytes are and how they are written says :mod:`.segment`, what is made of damage says :mod:`.recovery`.

After any failed write or sync the journal is dead: the kernel may forget a failed page, so a second sync would prove
nothing. A full disk is no such failure: it shows when the next segment's file is made, before anything of a record is
written, and the same record may be tried again.

A damaged *last* record cannot be told from a torn one by the journal alone; who knows how far it must reach (the
tables' ``applied_lsn``) says so to ``open``.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fortress.errors import ChainBroken, DiskFull, JournalCorrupt, JournalWriteFailed, KeyUnusable
from fortress.ledger.records import FIRST_LSN, GENESIS_HASH, Record, check_follows, encode
from fortress.ledger.recovery import Part, Recovered, read_record, recover
from fortress.ledger.segment import (
    BLOCK_SIZE_BYTES,
    DATA_KEY_SIZE_BYTES,
    NONCE_SIZE_BYTES,
    SALT_SIZE_BYTES,
    TOGETHER_MAX,
    Entropy,
    Seal,
    SegmentHeader,
    SegmentReader,
    SegmentWriter,
    Write,
    segment_name,
    segment_size_for,
    size_on_disk,
    sync_folder,
    write_durably,
)
from fortress.ledger.spare import Spare, free_space, is_disk_full

SEGMENT_SIZE_BYTES = 64 * 1024 * 1024
LOW_SPACE_SEGMENTS = 2
"""Free space under this many segments is low."""

PREPARED_SIZE_BYTES_MAX = 256 * 1024
"""Larger records are sealed and written in a thread: sealing them would hold the event loop up."""

TOGETHER_SIZE_BYTES_MAX = 4 * 1024 * 1024
"""More than this is not written at once, unless it is a single record."""

TAIL_HASHES_MAX = 8_192

_CLOSED = "the journal is closed"


class Journal:
    """The journal of one bank on one node: append, read back, drop what is no longer needed.

    ``append`` is for one thread at a time and blocks for the disk; reading goes on beside it in other threads.
    The folder must belong to this process alone; the node's lock sees to that. Made by :meth:`open`.

    Attributes:
        tail_hashes: hash by number of the newest durable records appended here; only for reading.
    """

    def __init__(
        self,
        folder: Path,
        data_key: bytes,
        *,
        bank: str,
        segment_bytes: int,
        entropy: Entropy,
        write: Write,
        first: Record | None = None,
    ) -> None:
        self.tail_hashes: dict[int, bytes] = {}
        self._read_at = (0, 0, 0)  # segment, record and place of what was read last
        self._folder = folder
        self._data_key = data_key
        self._bank = bank
        self._segment_bytes = segment_bytes
        self._entropy = entropy
        self._write = write
        self._lock = threading.Lock()
        self._unusable = ""
        self._prepared: tuple[Record, ...] = ()
        self._spare = Spare(folder, segment_bytes)
        found = recover(folder, data_key, bank=bank, entropy=entropy, write=write) or self._first_segment(first)
        self._parts = found.parts
        self._writer = found.writer
        self._last = found.last

    @classmethod
    def open(
        cls,
        folder: Path,
        data_key: bytes,
        *,
        bank: str,
        segment_bytes: int = SEGMENT_SIZE_BYTES,
        applied_lsn: int | None = None,
        first: Record | None = None,
        entropy: Entropy = os.urandom,
        write: Write = write_durably,
    ) -> Journal:
        """Open the journal in ``folder``, recovering from a crash, or start an empty one.

        Checks how all segments join, opens and checks every record of the last one and every record after
        ``applied_lsn``, overwrites a torn tail, and makes sure that what it found is durable.

        Args:
            data_key: 32 bytes; each segment's keys are derived from it.
            segment_bytes: size of new segments, a multiple of 4 KiB.
            applied_lsn: how far the tables are; None if that is not known.
            first: record that a journal made now begins with, because others have what lies before; None: record 1.

        Raises:
            JournalCorrupt: damage; the message says file, offset and record, the hint what to do.
            KeyUnusable: the data key is not the one the journal was written with.
            DiskFull: there is no space for the first segment.
            JournalWriteFailed: the disk does not take what has to be written.
        """
        if len(data_key) != DATA_KEY_SIZE_BYTES:
            raise KeyUnusable(f"a data key has {DATA_KEY_SIZE_BYTES} bytes, this one has {len(data_key)}")
        try:
            if not folder.exists():
                folder.mkdir(mode=0o700, parents=True)
                sync_folder(folder.parent)
            journal = cls(
                folder, data_key, bank=bank, segment_bytes=segment_bytes, entropy=entropy, write=write, first=first
            )
        except OSError as exc:
            if is_disk_full(exc):
                raise DiskFull(f"the journal in {folder} cannot be opened: {exc}") from exc
            raise JournalWriteFailed(f"the journal in {folder} cannot be opened: {exc}") from exc
        try:
            if applied_lsn is not None:
                journal._check_from(applied_lsn)
        except JournalCorrupt:
            journal.close()
            raise
        return journal

    @property
    def last(self) -> Record | None:
        """The newest durable record; None in an empty journal."""
        return self._last

    @property
    def end(self) -> tuple[int, bytes]:
        """Number and hash of the newest durable record, or of the one before the first to come."""
        if self._last is not None:
            return self._last.lsn, self._last.hash
        return self.first_lsn - 1, self._parts[0].header.previous_hash

    @property
    def first_lsn(self) -> int:
        """Number of the oldest record still kept; of the one to come, in an empty journal."""
        return self._parts[0].header.first_lsn

    def append(self, record: Record) -> None:
        """Make the next record durable.

        Raises:
            ChainBroken: it does not follow the last one; nothing was written.
            DiskFull: there is no space for the next segment; nothing was written, the same record may be tried again.
            JournalWriteFailed: whether it was written is unknown, and this journal takes nothing any more.
        """
        self.append_many((record,))

    def append_many(self, records: Sequence[Record]) -> None:
        """Make the next records durable, with one write for as many as a segment has room for.

        A crash leaves the first of them, however many. After an error :attr:`last` tells which are durable for sure.

        Raises:
            ChainBroken: they do not follow the last one; nothing was written.
            DiskFull: there is no space for the next segment; those after :attr:`last` may be tried again.
            JournalWriteFailed: which were written is unknown, and this journal takes nothing any more.
        """
        with self._lock:
            contents = self._encoded(records)
            begun = 0
            while begun < len(records):
                record, count = records[begun], _count_together(self._writer, contents, begun)
                try:
                    if not count:
                        self._start_segment(record, len(contents[begun]))
                        count = _count_together(self._writer, contents, begun)
                    self._writer.write_records(record.lsn, contents[begun : begun + count], self._entropy)
                except OSError as exc:
                    raise self.failed(record, exc) from exc
                self._note_written(records[begun : begun + count])
                begun += count

    def prepare(self, *records: Record) -> tuple[int, memoryview, int] | None:
        """Seal the next records where only one write remains: file descriptor, bytes, offset to write durably.

        For a caller that writes by the kernel instead of waiting in a thread. After the write :meth:`written` must
        follow, or :meth:`failed`, before anything else is asked of this journal. None when they are large or many, or
        need a new segment: then use :meth:`append_many` in a thread.

        Raises:
            ChainBroken: they do not follow the last one; nothing was written.
            JournalWriteFailed: this journal takes nothing any more.
        """
        contents = self._encoded(records)
        if sum(map(len, contents)) > PREPARED_SIZE_BYTES_MAX or _count_together(self._writer, contents, 0) < len(
            contents
        ):
            return None
        self._prepared = records
        return self._writer.prepare_records(records[0].lsn, contents, self._entropy)

    def written(self, record: Record, size: int) -> None:
        """Take it that what was prepared is durable: up to ``record``, ``size`` bytes in all."""
        records, self._prepared = self._prepared, ()
        self._writer.records_written()
        self._note_written(records)

    def failed(self, record: Record, error: OSError) -> JournalWriteFailed:
        """Take it that whether the prepared record was written is unknown; from now on nothing is taken."""
        self._unusable = f"record {record.lsn} could not be written, restart to find out what was: {error}"
        return JournalWriteFailed(self._unusable)

    # --- Reading ---------------------------------------------------------------------------------------------------
    def mark_at(self, lsn: int) -> tuple[int, bytes] | None:
        """Give number and hash of a record that this journal knows, or None.

        It knows those that it keeps and the one before those; number 0 stands before the first record of all. At once
        for the newest, else one record is read.

        Raises:
            JournalCorrupt: the record is damaged.
        """
        hash = self.tail_hashes.get(lsn)
        if hash is None and lsn <= self.end[0]:
            hash = self._hash_at(lsn)
        return None if hash is None else (lsn, hash)

    def marks_back(self, count: int = 64) -> tuple[tuple[int, bytes], ...]:
        """Give the newest mark and older ones, 1, 2, 4, 8 ... records further back, at last the oldest known.

        64 reach the oldest in any journal; ``count`` may be less.

        Raises:
            JournalCorrupt: a record is damaged.
        """
        end, first = self.end[0], self.first_lsn - 1
        numbers = [end, *(end - (1 << power) for power in range(63) if end - (1 << power) > first)]
        if end > first:
            numbers.append(first)
        marks = [self.mark_at(lsn) for lsn in numbers[:count]]
        return tuple(mark for mark in marks if mark is not None)

    def records(self, from_lsn: int) -> Iterator[Record]:
        """Read the records from this number on, up to the newest durable one, also while others are appended.

        Every record's seal, hash and place in the chain is checked on the way.

        Raises:
            JournalCorrupt: a record is damaged, or ``from_lsn`` was dropped.
        """
        lsn = from_lsn
        previous: Record | None = None
        while lsn <= self.end[0]:
            with SegmentReader(_part_of(self._parts, lsn).path, self._data_key) as reader:
                for record in self._records_in(reader, lsn, previous):
                    yield record
                    previous = record
                    lsn = record.lsn + 1

    def drop_before(self, lsn: int) -> None:
        """Delete the segments that hold only records before ``lsn``, oldest first; the newest record always stays."""
        with self._lock:
            keep_from = min(lsn, self._last.lsn) if self._last else FIRST_LSN
            while len(self._parts) > 1 and self._parts[1].header.first_lsn <= keep_from:
                oldest = self._parts[0]
                self._parts = self._parts[1:]
                oldest.path.unlink(missing_ok=True)
                sync_folder(self._folder)

    def drop_applied(self, applied_lsn: int, passed: Iterable[int] = ()) -> None:
        """Delete the segments that nobody needs any more.

        Args:
            applied_lsn: how far the tables are, checkpointed; that record stays, for a snapshot begins with it.
            passed: how far others are that still read: what the other node has acknowledged, the mark of a snapshot on
                its way to it, the archive. Without a connection to the other node nothing may be dropped that it may
                lack, unless a snapshot is to bring it up.
        """
        self.drop_before(min([applied_lsn, *passed]))

    def low_space(self) -> bool:
        """Tell whether the disk is nearly too full to go on: time to hand over or to make room."""
        return free_space(self._folder) < LOW_SPACE_SEGMENTS * self._segment_bytes

    def close(self) -> None:
        """Close the files; what was appended is durable already. May be called twice."""
        with self._lock:
            if self._unusable != _CLOSED:
                self._unusable = _CLOSED
                self._spare.close()
                self._writer.close()

    def _first_segment(self, first: Record | None) -> Recovered:
        if first is None:
            part, writer = self._make_segment(FIRST_LSN, GENESIS_HASH, self._segment_bytes)
            return Recovered((part,), writer, None)
        content = encode(first)
        size = max(self._segment_bytes, segment_size_for(len(content)))
        part, writer = self._make_segment(first.lsn, first.previous_hash, size)
        writer.write_records(first.lsn, [content], self._entropy)
        return Recovered((part,), writer, first)

    def _start_segment(self, record: Record, content_size_bytes: int) -> None:
        """Go over to a new segment that starts with this record, and close the old one with its footer."""
        size = max(self._segment_bytes, segment_size_for(content_size_bytes))
        part, writer = self._make_segment(record.lsn, record.previous_hash, size)
        old, self._writer = self._writer, writer
        # An empty segment, too small for this record, has the same name: the larger one took its place.
        kept = self._parts if old.offsets else self._parts[:-1]
        self._parts = (*kept, part)
        try:
            if old.offsets:
                old.write_footer(record.lsn - 1, record.previous_hash, self._entropy(NONCE_SIZE_BYTES))
        finally:
            old.close()

    def _make_segment(self, first_lsn: int, previous_hash: bytes, size_bytes: int) -> tuple[Part, SegmentWriter]:
        """Turn the spare file into a segment: header first, then its name, then the folder's sync."""
        spare = self._spare.take(size_bytes)
        header = SegmentHeader(
            bank=self._bank,
            first_lsn=first_lsn,
            previous_hash=previous_hash,
            salt=self._entropy(SALT_SIZE_BYTES),
            size_bytes=spare.stat().st_size,
        )
        seal = Seal(self._data_key, header)
        writer = SegmentWriter(spare, header, seal, offset=BLOCK_SIZE_BYTES, offsets=[], write=self._write)
        path = self._folder / segment_name(first_lsn)
        try:
            writer.write_header()
            spare.rename(path)
        except OSError as exc:
            writer.close()
            if is_disk_full(exc):
                raise DiskFull(f"no space for the name {path.name}: {exc}") from exc
            raise
        try:
            sync_folder(self._folder)
        except OSError:
            writer.close()
            raise
        return Part(path, header, None), writer

    def _encoded(self, records: Sequence[Record]) -> list[bytes]:
        """Check that records follow the last one, and encode them."""
        if self._unusable:
            raise JournalWriteFailed(self._unusable)
        previous = self._last
        contents = []
        for record in records:
            if record.bank != self._bank:
                raise ChainBroken(f"record {record.lsn} is of bank {record.bank!r}, the journal of {self._bank!r}")
            check_follows(previous, record)
            contents.append(encode(record))
            previous = record
        return contents

    def _note_written(self, records: Sequence[Record]) -> None:
        for record in records:
            self.tail_hashes[record.lsn] = record.hash
            self.tail_hashes.pop(record.lsn - TAIL_HASHES_MAX, None)
        self._last = records[-1]
        if self._writer.is_half_full:
            self._spare.prepare()

    def _hash_at(self, lsn: int) -> bytes | None:
        """Find a hash in the header of the segment after it, else in the record; None if it was dropped meanwhile."""
        parts = self._parts
        number = bisect_right(parts, lsn, key=lambda part: part.header.first_lsn)
        if number < len(parts) and parts[number].header.first_lsn == lsn + 1:
            return parts[number].header.previous_hash
        try:
            return next(self.records(lsn)).hash
        except JournalCorrupt:
            if lsn < self.first_lsn:
                return None
            raise

    def _records_in(self, reader: SegmentReader, from_lsn: int, previous: Record | None) -> Iterator[Record]:
        """Read on in one segment; without the record before, that one is read first for its hash."""
        first_lsn = reader.header.first_lsn
        lsn = from_lsn if previous is not None else max(first_lsn, from_lsn - 1)
        writer = self._writer
        is_newest = writer.header.first_lsn == first_lsn
        offset = writer.offsets[lsn - first_lsn] if is_newest else _offset_in(reader, lsn, self._read_at)
        before = previous
        while lsn <= self.end[0] and _part_of(self._parts, lsn).header.first_lsn == first_lsn:
            self._read_at = (first_lsn, lsn, offset)
            found = read_record(reader, offset, lsn, before)
            if found is None:
                raise reader.damage(offset, lsn, "the record is damaged")
            before, offset = found
            if lsn >= from_lsn:
                yield before
            lsn += 1

    def _check_from(self, applied_lsn: int) -> None:
        """Check that the journal reaches as far as the tables, and every record after those."""
        last_lsn = self._last.lsn if self._last else self.first_lsn - 1
        if last_lsn < applied_lsn:
            raise JournalCorrupt(
                f"the journal in {self._folder} ends at record {last_lsn}, the tables hold record {applied_lsn}",
                {"file": str(self._parts[-1].path), "lsn": last_lsn + 1},
            )
        # The last segment was walked already.
        walked_from = self._parts[-1].header.first_lsn
        for record in self.records(applied_lsn + 1) if applied_lsn + 1 < walked_from else ():
            if record.lsn >= walked_from:
                break


def _count_together(writer: SegmentWriter, contents: Sequence[bytes], begun: int) -> int:
    """Count how many from ``begun`` on fit into the segment, and go into one write."""
    count = size = 0
    for content in contents[begun : begun + TOGETHER_MAX]:
        size += size_on_disk(len(content))
        if not writer.has_room(size) or (count and size > TOGETHER_SIZE_BYTES_MAX):
            break
        count += 1
    return count


def _part_of(parts: tuple[Part, ...], lsn: int) -> Part:
    number = bisect_right(parts, lsn, key=lambda part: part.header.first_lsn)
    if not number:
        first_lsn = parts[0].header.first_lsn
        raise JournalCorrupt(f"the journal starts at record {first_lsn}, {lsn} is not in it", {"lsn": lsn})
    return parts[number - 1]


def _offset_in(reader: SegmentReader, lsn: int, read_at: tuple[int, int, int]) -> int:
    """Find a record in a closed segment, from where the last reading ended if that was here and before it.

    Hopping over all of a segment takes a tenth of a second, and a reader comes back for the next part again and
    again. Two readers at once only cost each other this.
    """
    first_lsn, known_lsn, offset = read_at
    is_of_use = first_lsn == reader.header.first_lsn and known_lsn <= lsn
    return reader.offset_of(lsn, (known_lsn, offset) if is_of_use else None)
