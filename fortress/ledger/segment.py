"""One segment of the journal: a file of sealed 4 KiB blocks, its bytes, its reader and its writer.

::

    block 0         header: who, first record number, hash before it, salt; authenticated, not secret
    blocks 1 ...    records, each from a block's start, sealed together with the zeros that fill its last block
    then            zeros
    last block      footer: what the segment ended with; written when the next segment exists, zeros until then

A sealed block starts with magic (4 bytes), content length (4), record number (8), nonce (12) and a CRC-32 of these,
all big-endian; AES-256-GCM ciphertext and tag fill the rest up to a multiple of 4 KiB. The associated data is the
segment's first record number and the 32 bytes before the ciphertext, so no block opens at another number or in
another segment. The length takes 25 bits; the 7 above it count the records before this one in the same write, since a
standby writes many at once: of one write the disk may have any part, so what follows a record that is torn is damage
only if it was written later. The key is the segment's own (HKDF of the data key with the salt in its header); the
nonce is random, because a torn record is written again under the same number and a nonce made from that would repeat.

The footer is what tells a segment that was left (footer) from one that is still written to (zeros), and gives its end
without reading it. Its fixed place makes checking a chain of a thousand segments two reads each.

Writing: the file is filled with zeros beforehand, so a commit changes no metadata (merely allocated extents are
converted at the first write, one journal commit of the file system each), and goes around the page cache where the file
system allows it (O_DIRECT). Measured on ext4, 4 KiB: 50 us direct over zeros, 66 us cached over zeros, 96 us over
fallocate, 100 to 160 us growing the file; RWF_DSYNC costs what pwrite and fdatasync cost, but gives up the interpreter
lock once and not twice.
"""

from __future__ import annotations

import errno
import hmac
import mmap
import os
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal, Self

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fortress.errors import Facts, JournalCorrupt, KeyUnusable
from fortress.ledger.records import RECORD_SIZE_BYTES_MAX, BankId, Hash, Number

BLOCK_SIZE_BYTES = 4096
DATA_KEY_SIZE_BYTES = 32
SALT_SIZE_BYTES = 32
NONCE_SIZE_BYTES = 12
RECORD = b"FREC"
FOOTER = b"FEND"

_NAME = re.compile(r"[0-9]{10,19}\.seg")
_HEADER_MAGIC = b"FORTSEG1"
_KEY_PURPOSE = b"fortress journal segment v1"
TOGETHER_MAX = 128
"""Records in one write."""

_LENGTH_BITS = 25
_OUTER = struct.Struct(">4sIQ12s")
_CRC = struct.Struct(">I")
_OUTER_SIZE_BYTES = _OUTER.size + _CRC.size
_TAG_SIZE_BYTES = 16
_FOOTER_CONTENT = struct.Struct(">QQ32s")
_SCAN_SIZE_BYTES = 1024 * 1024
FILL_SIZE_BYTES = 256 * 1024
_ZEROS = bytes(_SCAN_SIZE_BYTES)

Entropy = Callable[[int], bytes]
Write = Callable[[int, memoryview, int], int]
"""Writes (file descriptor, bytes, offset) and returns how many bytes are then durable."""


def write_durably(fd: int, data: memoryview, offset: int) -> int:
    """Write and sync in one system call; the data is on the disk when it returns."""
    return os.pwritev(fd, [data], offset, os.RWF_DSYNC)


def size_on_disk(content_size_bytes: int) -> int:
    """Tell how many bytes a sealed content takes: outer header, ciphertext, tag, filled up to whole blocks."""
    return -(-(content_size_bytes + _OUTER_SIZE_BYTES + _TAG_SIZE_BYTES) // BLOCK_SIZE_BYTES) * BLOCK_SIZE_BYTES


def segment_size_for(content_size_bytes: int) -> int:
    """Tell the least size of a segment that holds one such record between header and footer."""
    return size_on_disk(content_size_bytes) + 2 * BLOCK_SIZE_BYTES


class SegmentHeader(msgspec.Struct, frozen=True, array_like=True, kw_only=True, forbid_unknown_fields=True):
    """What block 0 says."""

    version: Literal[1] = 1
    bank: BankId
    first_lsn: Number
    """Number of the first record, and the file's name."""
    previous_hash: Hash
    """Hash of the record before that."""
    salt: Annotated[bytes, msgspec.Meta(min_length=SALT_SIZE_BYTES, max_length=SALT_SIZE_BYTES)]
    """Makes the segment's keys."""
    size_bytes: Number
    """Size of the whole file."""


@dataclass(frozen=True, slots=True)
class Footer:
    """What the last block says: number, place and hash of the segment's last record, and where it ends."""

    last_lsn: int
    last_offset: int
    end_offset: int
    last_hash: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """A sealed block that opened: ``kind`` (RECORD or FOOTER), number, content, and where the next one starts.

    ``written_from`` is the number of the first record of the same write.
    """

    kind: bytes
    lsn: int
    content: bytes
    end_offset: int
    written_from: int


class Seal:
    """The keys of one segment: seals and opens its blocks, signs its header."""

    __slots__ = ("_bound_to", "_cipher", "_header_key")

    def __init__(self, data_key: bytes, header: SegmentHeader) -> None:
        keys = HKDF(SHA256(), 64, header.salt, _KEY_PURPOSE).derive(data_key)
        self._cipher = AESGCM(keys[:32])
        self._header_key = keys[32:]
        self._bound_to = header.first_lsn.to_bytes(8, "big")

    def sign(self, body: bytes) -> bytes:
        """Authenticate the header's bytes."""
        return hmac.digest(self._header_key, body, "sha256")

    def seal_into(
        self, buffer: memoryview, kind: bytes, lsn: int, content: bytes, nonce: bytes, *, behind: int = 0
    ) -> None:
        """Fill ``buffer`` (of :func:`size_on_disk` bytes) with the sealed block; ``behind`` so many in one write."""
        head = _OUTER.pack(kind, behind << _LENGTH_BITS | len(content), lsn, nonce)
        head += _CRC.pack(zlib.crc32(head))
        buffer[:_OUTER_SIZE_BYTES] = head
        padded = content + bytes(len(buffer) - _OUTER_SIZE_BYTES - _TAG_SIZE_BYTES - len(content))
        self._cipher.encrypt_into(nonce, padded, self._bound_to + head, buffer[_OUTER_SIZE_BYTES:])

    def open(self, data: bytes) -> bytes | None:
        """Give the content of a whole sealed block, filling included; None when the seal is broken."""
        head = data[:_OUTER_SIZE_BYTES]
        try:
            return self._cipher.decrypt(head[16:28], data[_OUTER_SIZE_BYTES:], self._bound_to + head)
        except InvalidTag:
            return None


def segment_name(first_lsn: int) -> str:
    """Name a segment's file by its first record, so that names sort as records do."""
    return f"{first_lsn:010d}.seg"


def segment_paths(folder: Path) -> list[Path]:
    """List the segments of a folder, in the order of their records; the stem of each is its first record's number."""
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), key=lambda path: int(path.stem))


def sync_folder(folder: Path) -> None:
    """Make names made or removed in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def pack_header(header: SegmentHeader, seal: Seal) -> bytes:
    """Encode block 0: magic, length, fields, authentication, zeros, CRC-32 of all before."""
    body = msgspec.msgpack.encode(header)
    start = _HEADER_MAGIC + _CRC.pack(len(body)) + body + seal.sign(body)
    block = start.ljust(BLOCK_SIZE_BYTES - _CRC.size, b"\x00")
    return block + _CRC.pack(zlib.crc32(block))


def unpack_header(block: bytes, data_key: bytes) -> tuple[SegmentHeader, Seal]:
    """Decode block 0, and tell damage from a wrong key.

    Raises:
        JournalCorrupt: the block is damaged or of no known version.
        KeyUnusable: the block is whole and was not written with this data key.
    """
    whole = len(block) == BLOCK_SIZE_BYTES and zlib.crc32(block[: -_CRC.size]) == _CRC.unpack(block[-_CRC.size :])[0]
    if not whole or not block.startswith(_HEADER_MAGIC):
        raise JournalCorrupt("the header of the segment is damaged")
    start = len(_HEADER_MAGIC) + _CRC.size
    (length,) = _CRC.unpack(block[len(_HEADER_MAGIC) : start])
    body = block[start : start + length]
    try:
        header = msgspec.msgpack.decode(body, type=SegmentHeader)
    except msgspec.MsgspecError as exc:
        raise JournalCorrupt(f"the header of the segment cannot be read: {exc}") from exc
    seal = Seal(data_key, header)
    if not hmac.compare_digest(seal.sign(body), block[start + length : start + length + 32]):
        raise KeyUnusable("the journal was written with another data key")
    return header, seal


class SegmentReader:
    """Reads one segment through a descriptor of its own; a context manager.

    Raises:
        JournalCorrupt, KeyUnusable: as :func:`unpack_header`, with the file's name.
    """

    def __init__(self, path: Path, data_key: bytes) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY)
        except OSError as exc:
            raise self.damage(0, 0, f"cannot be opened: {exc}") from exc
        try:
            self.header, self.seal = unpack_header(self.read(0, BLOCK_SIZE_BYTES), data_key)
        except (JournalCorrupt, KeyUnusable) as exc:
            os.close(self._fd)
            raise type(exc)(f"{path}: {exc.message}", {"file": str(path), "offset": 0}) from exc
        self.limit = self.header.size_bytes - BLOCK_SIZE_BYTES
        """Where the footer is: no record reaches past it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def damage(self, offset: int, lsn: int, what: str) -> JournalCorrupt:
        """Make the error that names this file, the place and the record."""
        facts: Facts = {"file": str(self.path), "offset": offset, "lsn": lsn}
        return JournalCorrupt(f"{self.path}, offset {offset}, record {lsn}: {what}", facts)

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Read raw bytes; fewer at the end of a file that was cut."""
        try:
            return os.pread(self._fd, size_bytes, offset)
        except OSError as exc:
            raise self.damage(offset, 0, f"cannot be read: {exc}") from exc

    def outer(self, offset: int) -> tuple[bytes, int, int] | None:
        """Read (kind, record number, size on disk) at this place without opening it; None if there is none."""
        return self._plausible(self.read(offset, _OUTER_SIZE_BYTES), offset)

    def block(self, offset: int) -> Block | None:
        """Read and open what is sealed at this place; None when nothing there opens."""
        data = self.read(offset, BLOCK_SIZE_BYTES)
        outer = self._plausible(data, offset)
        if outer is None:
            return None
        kind, lsn, size = outer
        if size > BLOCK_SIZE_BYTES:
            data += self.read(offset + BLOCK_SIZE_BYTES, size - BLOCK_SIZE_BYTES)
        content = self.seal.open(data) if len(data) == size else None
        if content is None:
            return None
        behind, length = _split_length(_OUTER.unpack_from(data)[1])
        return Block(kind, lsn, content[:length], offset + size, lsn - behind)

    def footer(self) -> Footer | None:
        """Read the footer; None when the segment has none (zeros) or it does not open."""
        block = self.block(self.limit)
        if block is None or block.kind != FOOTER or len(block.content) != _FOOTER_CONTENT.size:
            return None
        last_offset, end_offset, last_hash = _FOOTER_CONTENT.unpack(block.content)
        return Footer(block.lsn, last_offset, end_offset, last_hash)

    def offset_of(self, lsn: int, known: tuple[int, int] | None = None) -> int:
        """Find where a record starts, hopping from block header to block header without opening any.

        Args:
            known: number and place of a record not behind it, to start from; None: the segment's first.
        """
        first, offset = known or (self.header.first_lsn, BLOCK_SIZE_BYTES)
        for number in range(first, lsn):
            outer = self.outer(offset)
            if outer is None or outer[:2] != (RECORD, number):
                raise self.damage(offset, number, "is not where it was")
            offset += outer[2]
        return offset

    def find_later(self, offset: int, lsn: int) -> tuple[int, Block] | None:
        """Find from ``offset`` on, where record ``lsn`` does not open, what was written after that record's write.

        Writes are in order, so what is found says that the record was whole once.
        """
        while (found := self.find_block(offset)) is not None:
            block = found[1]
            if block.kind == FOOTER or block.written_from > lsn:
                return found
            offset = block.end_offset
        return None

    def find_block(self, offset: int) -> tuple[int, Block] | None:
        """Find the first place from ``offset`` on where something sealed opens; reads to the end of the file."""
        while chunk := self.read(offset, _SCAN_SIZE_BYTES):
            if chunk != _ZEROS[: len(chunk)]:
                for at in range(0, len(chunk), BLOCK_SIZE_BYTES):
                    # Magic and CRC first: opening is for the few that pass.
                    block = self.block(offset + at) if chunk[at : at + 4] in (RECORD, FOOTER) else None
                    if block is not None:
                        return offset + at, block
            offset += len(chunk)
        return None

    def is_clean(self, offset: int) -> bool:
        """Tell whether there are only zeros from ``offset`` to the end of a whole file."""
        while chunk := self.read(offset, _SCAN_SIZE_BYTES):
            if chunk != _ZEROS[: len(chunk)]:
                return False
            offset += len(chunk)
        return offset >= self.header.size_bytes

    def _plausible(self, data: bytes, offset: int) -> tuple[bytes, int, int] | None:
        if len(data) < _OUTER_SIZE_BYTES:
            return None
        kind, field, lsn, _ = _OUTER.unpack_from(data)
        if _CRC.unpack_from(data, _OUTER.size)[0] != zlib.crc32(data[: _OUTER.size]):
            return None
        behind, length = _split_length(field)
        size = size_on_disk(length)
        end = self.header.size_bytes if kind == FOOTER else self.limit
        is_known = kind == RECORD or (kind == FOOTER and not behind)
        if not is_known or length > RECORD_SIZE_BYTES_MAX or offset + size > end:
            return None
        return kind, lsn, size


class SegmentWriter:
    """Writes records into one segment, each durable when the call returns; for one thread at a time.

    Args:
        offset: where the next record goes.
        offsets: where each record so far starts, in order.
        write: :func:`write_durably`, or a test's.

    Any ``OSError`` from a write means that its outcome is unknown: nothing may be written here again.
    """

    def __init__(
        self, path: Path, header: SegmentHeader, seal: Seal, *, offset: int, offsets: list[int], write: Write
    ) -> None:
        self.header = header
        self.offset = offset
        self.offsets = offsets
        self._seal = seal
        self._limit = header.size_bytes - BLOCK_SIZE_BYTES
        self._write = write
        self._prepared: list[int] = []
        self._fd = open_direct(path)
        # Anonymous memory starts at a page's start, as O_DIRECT demands.
        self._buffer = mmap.mmap(-1, 64 * BLOCK_SIZE_BYTES)

    @property
    def is_half_full(self) -> bool:
        """Whether it is time to prepare the next segment."""
        return self.offset * 2 >= self._limit

    def has_room(self, size_bytes: int) -> bool:
        """Tell whether so much fits before the footer, in bytes on the disk."""
        return self.offset + size_bytes <= self._limit

    def write_header(self) -> None:
        """Write block 0."""
        self.write_again(pack_header(self.header, self._seal), 0)

    def write_records(self, first_lsn: int, contents: Sequence[bytes], entropy: Entropy) -> None:
        """Seal and write the next records, at most ``TOGETHER_MAX``, in one durable step."""
        _, buffer, offset = self.prepare_records(first_lsn, contents, entropy)
        with buffer:
            self._write_all(buffer, offset)
        self.records_written()

    def prepare_records(
        self, first_lsn: int, contents: Sequence[bytes], entropy: Entropy
    ) -> tuple[int, memoryview, int]:
        """Seal the next records into the buffer and say where they go: file descriptor, bytes, offset.

        The caller writes them durably and then calls :meth:`records_written`; nothing else may happen here between.
        """
        sizes = self._prepared = [size_on_disk(len(content)) for content in contents]
        buffer = self._room(sum(sizes))
        at = 0
        for behind, (content, size) in enumerate(zip(contents, sizes, strict=True)):
            with buffer[at : at + size] as place:
                nonce = entropy(NONCE_SIZE_BYTES)
                self._seal.seal_into(place, RECORD, first_lsn + behind, content, nonce, behind=behind)
            at += size
        return self._fd, buffer, self.offset

    def records_written(self) -> None:
        """Note that the prepared records are durable."""
        for size in self._prepared:
            self.offsets.append(self.offset)
            self.offset += size
        self._prepared = []

    def write_footer(self, lsn: int, last_hash: bytes, nonce: bytes) -> None:
        """Close the segment for good, naming its last record."""
        content = _FOOTER_CONTENT.pack(self.offsets[-1], self.offset, last_hash)
        with self._room(BLOCK_SIZE_BYTES) as buffer:
            self._seal.seal_into(buffer, FOOTER, lsn, content, nonce)
            self._write_all(buffer, self._limit)

    def write_again(self, data: bytes, offset: int) -> None:
        """Write whole blocks as they are."""
        with self._room(len(data)) as buffer:
            buffer[:] = data
            self._write_all(buffer, offset)

    def clear_rest(self) -> None:
        """Make everything after the last record zeros again, and the file as long as it was."""
        os.posix_fallocate(self._fd, 0, self.header.size_bytes)
        fill_with_zeros(self._fd, self.offset, self.header.size_bytes)
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file and free the buffer."""
        os.close(self._fd)
        self._buffer.close()

    def _room(self, size: int) -> memoryview:
        if size > len(self._buffer):
            self._buffer.close()
            self._buffer = mmap.mmap(-1, size)
        return memoryview(self._buffer)[:size]

    def _write_all(self, buffer: memoryview, offset: int) -> None:
        written = self._write(self._fd, buffer, offset)
        if written != len(buffer):
            raise OSError(errno.EIO, f"{written} of {len(buffer)} bytes were written")


def _split_length(field: int) -> tuple[int, int]:
    """Split a length field into records before in the same write, and length."""
    return field >> _LENGTH_BITS, field & (1 << _LENGTH_BITS) - 1


def open_direct(path: Path) -> int:
    """Open a file for reading and writing around the page cache, or through it where that cannot be."""
    try:
        return os.open(path, os.O_RDWR | os.O_DIRECT)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        return os.open(path, os.O_RDWR)


def fill_with_zeros(
    fd: int,
    start: int,
    end: int,
    *,
    is_cancelled: Callable[[], bool] = lambda: False,
    between: Callable[[], object] = lambda: None,
) -> None:
    """Write zeros from ``start`` to ``end``, both at block borders; stops early when cancelled.

    Args:
        between: called between one piece and the next; where commits share the disk it gives them their turn.
    """
    with mmap.mmap(-1, FILL_SIZE_BYTES) as zeros, memoryview(zeros) as view:
        while start < end and not is_cancelled():
            with view[: min(FILL_SIZE_BYTES, end - start)] as chunk:
                start += os.pwrite(fd, chunk, start)
            between()
