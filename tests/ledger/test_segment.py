"""Bytes of a segment: headers that tell damage from a wrong key, blocks of which no byte may change."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fortress.errors import JournalCorrupt, KeyUnusable
from fortress.ledger import segment
from fortress.ledger.segment import (
    BLOCK_SIZE_BYTES,
    FOOTER,
    RECORD,
    Seal,
    SegmentHeader,
    SegmentReader,
    SegmentWriter,
    fill_with_zeros,
    open_direct,
    pack_header,
    segment_name,
    segment_paths,
    segment_size_for,
    size_on_disk,
    unpack_header,
    write_durably,
)

KEY = bytes(range(32))
SIZE = 16 * BLOCK_SIZE_BYTES
HEADER = SegmentHeader(bank="alpha", first_lsn=7, previous_hash=bytes(32), salt=b"s" * 32, size_bytes=SIZE)
NONCE = b"n" * 12


def new_writer(folder: Path, write: segment.Write = write_durably) -> SegmentWriter:
    """A segment file of zeros, and a writer behind its header."""
    path = folder / "0000000007.seg"
    path.write_bytes(bytes(SIZE))
    return SegmentWriter(path, HEADER, Seal(KEY, HEADER), offset=BLOCK_SIZE_BYTES, offsets=[], write=write)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]


def test_a_header_comes_back_as_it_was() -> None:
    """Block 0 is 4 KiB and says who and what."""
    block = pack_header(HEADER, Seal(KEY, HEADER))
    assert len(block) == BLOCK_SIZE_BYTES
    assert unpack_header(block, KEY)[0] == HEADER


def test_any_flipped_byte_of_a_header_is_damage() -> None:
    """Damage is told as damage, never as a wrong key."""
    block = pack_header(HEADER, Seal(KEY, HEADER))
    for at in range(BLOCK_SIZE_BYTES):
        with pytest.raises(JournalCorrupt):
            unpack_header(flipped(block, at), KEY)
    with pytest.raises(JournalCorrupt):
        unpack_header(block[:-1], KEY)


def test_a_whole_header_under_another_key_is_a_wrong_key() -> None:
    """The data key is told to be wrong before any record is looked at."""
    with pytest.raises(KeyUnusable):
        unpack_header(pack_header(HEADER, Seal(KEY, HEADER)), bytes(32))


@pytest.mark.parametrize("change", [{"version": 2}, {"bank": ""}, {"salt": b"short"}], ids=str)
def test_a_header_of_another_version_or_shape_is_refused(change: dict[str, Any]) -> None:
    """A whole block whose fields are not known is not guessed at."""
    with pytest.raises(JournalCorrupt, match="cannot be read"):
        unpack_header(pack_header(msgspec.structs.replace(HEADER, **change), Seal(KEY, HEADER)), KEY)


def test_a_block_of_something_else_is_no_header() -> None:
    """A right checksum alone does not make a segment."""
    block = b"SOMETHING".ljust(BLOCK_SIZE_BYTES - 4, b"\x00")
    with pytest.raises(JournalCorrupt):
        unpack_header(block + zlib.crc32(block).to_bytes(4, "big"), KEY)


@pytest.mark.parametrize(("content", "size"), [(0, 4096), (4048, 4096), (4049, 8192), (8144, 8192), (8145, 12288)])
def test_blocks_are_whole_pages(content: int, size: int) -> None:
    """48 bytes around the content, filled up to 4 KiB."""
    assert size_on_disk(content) == size
    assert segment_size_for(content) == size + 8192


def test_records_are_written_and_read_back(tmp_path: Path) -> None:
    """Small, large and empty contents stand one behind the other."""
    writer = new_writer(tmp_path)
    writer.write_header()
    contents = [b"one", b"x" * 9000, b""]
    for number, content in enumerate(contents):
        assert writer.has_room(size_on_disk(len(content)))
        writer.write_records(7 + number, [content], os.urandom)
    assert writer.offsets == [4096, 8192, 20480]
    writer.close()
    with SegmentReader(tmp_path / "0000000007.seg", KEY) as reader:
        for number, content in enumerate(contents):
            assert reader.offset_of(7 + number) == writer.offsets[number]
            block = reader.block(writer.offsets[number])
            assert block is not None and (block.kind, block.lsn, block.content) == (RECORD, 7 + number, content)
        assert reader.block(writer.offset) is None
        assert reader.is_clean(writer.offset)
        assert not reader.is_clean(4096)
        assert reader.footer() is None
        with pytest.raises(JournalCorrupt, match="record 10"):
            reader.offset_of(11)


def test_records_of_one_write_say_where_it_began(tmp_path: Path) -> None:
    """They stand as single ones do; each knows the first that was written with it."""
    sizes: list[int] = []

    def write(fd: int, data: memoryview, offset: int) -> int:
        sizes.append(len(data))
        return write_durably(fd, data, offset)

    writer = new_writer(tmp_path, write)
    writer.write_header()
    writer.write_records(7, [b"one"], os.urandom)
    writer.write_records(8, [b"two", b"x" * 5000, b"three"], os.urandom)
    writer.close()
    assert sizes == [4096, 4096, 16384] and writer.offsets == [4096, 8192, 12288, 20480]
    with SegmentReader(tmp_path / "0000000007.seg", KEY) as reader:
        blocks = [reader.block(offset) for offset in writer.offsets]
        assert [(block.lsn, block.written_from) for block in blocks if block] == [(7, 7), (8, 8), (9, 8), (10, 8)]
        assert [len(block.content) for block in blocks if block] == [3, 3, 5000, 5]
        assert reader.find_later(8192, 8) is None
        later = reader.find_later(4096, 7)
        assert later is not None and later[0] == 8192


def test_prepared_records_count_once_they_are_written(tmp_path: Path) -> None:
    """Until then the next ones would go to the same place."""
    writer = new_writer(tmp_path)
    writer.write_header()
    fd, buffer, offset = writer.prepare_records(7, [b"one", b"two"], os.urandom)
    assert (len(buffer), offset, writer.offset) == (8192, 4096, 4096)
    assert write_durably(fd, buffer, offset) == 8192
    buffer.release()
    writer.records_written()
    assert (writer.offset, writer.offsets) == (12288, [4096, 8192])
    writer.close()


def test_segments_are_listed_as_records_are(tmp_path: Path) -> None:
    """By number, also beyond ten digits; other files are none."""
    names = ["0000000009.seg", "0000000010.seg", "10000000000.seg"]
    for name in [*reversed(names), "spare.tmp", "cut", "1.seg", "0000000011.seg.tmp"]:
        (tmp_path / name).touch()
    assert [path.name for path in segment_paths(tmp_path)] == names
    assert [segment_name(number) for number in (9, 10, 10**10)] == names


def test_a_footer_names_the_last_record(tmp_path: Path) -> None:
    """The last block says number, place, end and hash; there is no room for records in it."""
    writer = new_writer(tmp_path)
    writer.write_header()
    writer.write_records(7, [b"one"], os.urandom)
    assert not writer.is_half_full
    assert writer.has_room(13 * BLOCK_SIZE_BYTES) and not writer.has_room(14 * BLOCK_SIZE_BYTES)
    writer.write_footer(7, b"h" * 32, os.urandom(12))
    writer.close()
    with SegmentReader(tmp_path / "0000000007.seg", KEY) as reader:
        footer = reader.footer()
        assert footer == segment.Footer(7, 4096, 8192, b"h" * 32)
        found = reader.find_block(8192)
        assert found is not None and (found[0], found[1].kind) == (SIZE - BLOCK_SIZE_BYTES, FOOTER)


def test_any_flipped_byte_of_a_sealed_block_keeps_it_shut(tmp_path: Path) -> None:
    """Outer header, ciphertext, tag and what fills the page are all under the seal."""
    writer = new_writer(tmp_path)
    writer.write_header()
    writer.write_records(7, [b"content"], os.urandom)
    writer.close()
    path = tmp_path / "0000000007.seg"
    whole = path.read_bytes()
    with SegmentReader(path, KEY) as reader, path.open("r+b", buffering=0) as file:
        for at in range(4096, 8192):
            os.pwrite(file.fileno(), bytes([whole[at] ^ 1]), at)
            assert reader.block(4096) is None
            os.pwrite(file.fileno(), whole[at : at + 1], at)
        assert reader.block(4096) is not None


@pytest.mark.parametrize(
    ("kind", "length"), [(RECORD, SIZE), (b"FXXX", 7), (RECORD, 2**25 - 1), (FOOTER, 2**24 + 9), (FOOTER, 2**30)]
)
def test_a_block_that_cannot_be_is_not_even_opened(tmp_path: Path, kind: bytes, length: int) -> None:
    """Lengths past the end and unknown kinds are refused with a right checksum too."""
    writer = new_writer(tmp_path)
    head = struct.pack(">4sIQ12s", kind, length, 7, NONCE)
    writer.write_header()
    writer.write_again((head + zlib.crc32(head).to_bytes(4, "big")).ljust(4096, b"\x00"), 4096)
    writer.close()
    with SegmentReader(tmp_path / "0000000007.seg", KEY) as reader:
        assert reader.outer(4096) is None
        assert reader.block(4096) is None


def test_a_block_does_not_open_in_another_segment() -> None:
    """The same salt and key with another first record give other associated data."""
    buffer = bytearray(4096)
    seal = Seal(KEY, HEADER)
    seal.seal_into(memoryview(buffer), RECORD, 7, b"content", NONCE)
    assert seal.open(bytes(buffer)) is not None
    assert Seal(KEY, msgspec.structs.replace(HEADER, first_lsn=8)).open(bytes(buffer)) is None
    assert Seal(KEY, msgspec.structs.replace(HEADER, salt=b"t" * 32)).open(bytes(buffer)) is None


def test_a_short_write_is_an_error(tmp_path: Path) -> None:
    """Half a record is never taken for a whole one."""
    writer = new_writer(tmp_path, lambda fd, data, offset: len(data) - 512)
    with pytest.raises(OSError, match="of 4096 bytes"):
        writer.write_records(7, [b"one"], os.urandom)
    assert writer.offsets == []
    writer.close()


def test_a_file_system_without_direct_writing_is_used_through_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O_DIRECT is a matter of speed; another error of opening is one."""
    real_open = os.open

    def refuse(path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "not here")
        return real_open(path, flags, mode)

    with pytest.raises(FileNotFoundError):
        open_direct(tmp_path / "missing")
    monkeypatch.setattr(os, "open", refuse)
    writer = new_writer(tmp_path)
    writer.write_header()
    writer.write_records(7, [b"one"], os.urandom)
    writer.close()
    with SegmentReader(tmp_path / "0000000007.seg", KEY) as reader:
        assert reader.block(4096) is not None


def test_clearing_the_rest_makes_zeros_and_the_full_size_again(tmp_path: Path) -> None:
    """A torn tail and a cut file become a clean segment."""
    writer = new_writer(tmp_path)
    writer.write_header()
    path = tmp_path / "0000000007.seg"
    with path.open("r+b") as file:
        file.seek(5000)
        file.write(b"garbage")
        file.truncate(9001)
    writer.clear_rest()
    writer.close()
    with SegmentReader(path, KEY) as reader:
        assert reader.is_clean(4096)
    assert path.stat().st_size == SIZE


def test_filling_stops_when_cancelled(tmp_path: Path) -> None:
    """A journal that closes does not wait for a spare file."""
    path = tmp_path / "file"
    path.touch()
    fd = os.open(path, os.O_RDWR)
    fill_with_zeros(fd, 0, 1 << 20, is_cancelled=lambda: True)
    assert path.stat().st_size == 0
    fill_with_zeros(fd, 4096, 12288)
    assert path.stat().st_size == 12288
    os.close(fd)


def test_a_file_that_cannot_be_read_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file and a failing disk are told with file and place."""
    with pytest.raises(JournalCorrupt, match="cannot be opened"):
        SegmentReader(tmp_path / "0000000007.seg", KEY)
    writer = new_writer(tmp_path)
    writer.write_header()
    writer.close()

    def fail(fd: int, size: int, offset: int) -> bytes:
        raise OSError(errno.EIO, "broken disk")

    with SegmentReader(tmp_path / "0000000007.seg", KEY) as reader:
        monkeypatch.setattr(os, "pread", fail)
        with pytest.raises(JournalCorrupt, match="broken disk") as caught:
            reader.block(4096)
        assert caught.value.facts["offset"] == 4096
