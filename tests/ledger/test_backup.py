"""The file of a backup: what went in comes out, and nothing else opens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from fortress.errors import BackupDamaged, ChainBroken, FortressError
from fortress.ledger.backup import (
    SUFFIX,
    End,
    File,
    Header,
    Item,
    PeopleKeys,
    Reader,
    Records,
    TablesPart,
    Writer,
    name_of,
)
from fortress.ledger.records import Record, encode, make_record

KEY = b"k" * 32
ROOT = bytes(32)


def chain(count: int, bank: str = "a") -> list[Record]:
    """Records that follow each other."""
    found: list[Record] = []
    for _ in range(count):
        previous = found[-1] if found else None
        found.append(
            make_record([b"entry"], previous=previous, bank=bank, epoch=1, time_us=1, commit_lsn=0, tree_root=ROOT)
        )
    return found


def header_of(records: list[Record], *, salt: bytes = b"s" * 32) -> Header:
    """What a backup of these says of itself."""
    last = records[-1]
    return Header(
        bank=last.bank,
        node="one",
        made_us=7,
        first_lsn=records[0].lsn,
        lsn=last.lsn,
        hash=last.hash,
        position=last.tree_size,
        time_us=last.time_us,
        salt=salt,
        keyring=b"sealed",
    )


def write(path: Path, records: list[Record], header: Header | None = None, *, key: bytes = KEY) -> Path:
    """Write a backup of some records, with a little of everything else."""
    with Writer(path, header or header_of(records), key) as writer:
        writer.add(File("settings.json", b"{}"))
        writer.add(PeopleKeys([(b"handle", b"key")]))
        writer.add(TablesPart(b"tables"))
        for record in records:
            writer.add(Records([encode(record)]))
    return path


def read(path: Path, key: bytes = KEY) -> tuple[list[Record], list[Item]]:
    """Read a backup whole."""
    others: list[Item] = []
    with Reader(path) as reader:
        return list(reader.records(key, on_other=others.append)), others


def pieces_of(data: bytes) -> list[bytes]:
    """Take a file apart: magic, header, chunks; each with its length."""
    found, begin = [data[: data.index(b"\n") + 1]], data.index(b"\n") + 1
    while begin < len(data):
        end = begin + 4 + int.from_bytes(data[begin : begin + 4], "big")
        found.append(data[begin:end])
        begin = end
    return found


def test_what_went_in_comes_out(tmp_path: Path) -> None:
    """Records in order, and all the rest; nobody else may read the file, and nothing lies beside it."""
    records = chain(3)
    path = write(tmp_path / "x.backup", records)
    found, others = read(path)
    assert found == records
    assert others == [File("settings.json", b"{}"), PeopleKeys([(b"handle", b"key")]), TablesPart(b"tables"), End(3)]
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    with Reader(path) as reader:
        assert reader.header == header_of(records) and reader.size_bytes == path.stat().st_size


def test_it_tells_how_far_it_is(tmp_path: Path) -> None:
    """In bytes of the file, up to all of them."""
    path = write(tmp_path / "x.backup", chain(2))
    told: list[tuple[int, int]] = []
    with Reader(path) as reader:
        list(reader.records(KEY, on_progress=lambda done, total: told.append((done, total))))
    assert told[-1] == (path.stat().st_size,) * 2 and sorted(told) == told


def test_no_byte_can_be_changed(tmp_path: Path) -> None:
    """Whichever it is, of the header as well."""
    path = write(tmp_path / "x.backup", chain(2))
    data = path.read_bytes()
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(BackupDamaged):
            read(path)


def test_nothing_can_be_cut_off_or_put_on(tmp_path: Path) -> None:
    """However long the rest is."""
    path = write(tmp_path / "x.backup", chain(2))
    data = path.read_bytes()
    for end in range(len(data)):
        path.write_bytes(data[:end])
        with pytest.raises(BackupDamaged):
            read(path)
    for more in (b"\0", data):
        path.write_bytes(data + more)
        with pytest.raises(BackupDamaged):
            read(path)


def test_chunks_cannot_be_moved_left_out_or_taken_from_elsewhere(tmp_path: Path) -> None:
    """Each opens at its own place in its own file only."""
    records = chain(3)
    path = write(tmp_path / "x.backup", records)
    magic, header, *chunks = pieces_of(path.read_bytes())
    other = write(tmp_path / "y.backup", records, header_of(records, salt=b"t" * 32))
    others = pieces_of(other.read_bytes())[2:]
    for number in range(len(chunks) - 1):
        without = chunks[:number] + chunks[number + 1 :]
        swapped = [*chunks[:number], chunks[number + 1], chunks[number], *chunks[number + 2 :]]
        foreign = [*chunks[:number], others[number], *chunks[number + 1 :]]
        doubled = [*chunks[: number + 1], *chunks[number:]]
        for attempt in (without, swapped, foreign, doubled):
            path.write_bytes(magic + header + b"".join(attempt))
            with pytest.raises(BackupDamaged):
                read(path)


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    """Nor does it say that it was the key."""
    path = write(tmp_path / "x.backup", chain(1))
    with pytest.raises(BackupDamaged, match="keyring"):
        read(path, b"x" * 32)


@pytest.mark.parametrize("data", [b"", b"FORTRESS BACKUP 2\n", b"FORTRESS BACKUP 1\n", b"\0" * 1000])
def test_what_is_no_backup_is_told(tmp_path: Path, data: bytes) -> None:
    """Empty, of a later version, cut off, or something else."""
    path = tmp_path / "x.backup"
    path.write_bytes(data)
    with pytest.raises(BackupDamaged):
        Reader(path)


def test_a_header_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """And one of absurd size."""
    path = tmp_path / "x.backup"
    for header in (b"\xc1", msgspec.msgpack.encode([1, "a"])):
        path.write_bytes(b"FORTRESS BACKUP 1\n" + len(header).to_bytes(4, "big") + header)
        with pytest.raises(BackupDamaged):
            Reader(path)
    path.write_bytes(b"FORTRESS BACKUP 1\n" + (2**31).to_bytes(4, "big"))
    with pytest.raises(BackupDamaged):
        Reader(path)


def late(records: list[Record]) -> Header:
    return msgspec.structs.replace(header_of(records), first_lsn=2)


def longer(records: list[Record]) -> Header:
    return msgspec.structs.replace(header_of(records), lsn=records[-1].lsn + 1)


def foreign(records: list[Record]) -> Header:
    return msgspec.structs.replace(header_of(records), bank="b")


@pytest.mark.parametrize("claim", [late, longer, foreign])
def test_records_are_those_that_the_header_names(tmp_path: Path, claim: Callable[[list[Record]], Header]) -> None:
    """The first, the last, and the bank; a header is believed by nobody before."""
    records = chain(2)
    path = write(tmp_path / "x.backup", records, claim(records))
    with pytest.raises(BackupDamaged):
        read(path)


def test_records_follow_each_other(tmp_path: Path) -> None:
    """Even when whoever has the key wrote the file."""
    records = chain(3)
    path = write(tmp_path / "x.backup", [records[0], records[2]], header_of(records))
    with pytest.raises(ChainBroken):
        read(path)
    with Writer(tmp_path / "y.backup", header_of(records), KEY) as writer:
        writer.add(Records([b"\xc1"]))
    with pytest.raises(FortressError):
        read(tmp_path / "y.backup")


def test_one_without_records_is_not_whole(tmp_path: Path) -> None:
    """There is a bank in every backup."""
    with Writer(tmp_path / "x.backup", header_of(chain(1)), KEY):
        pass
    with pytest.raises(BackupDamaged):
        read(tmp_path / "x.backup")


class Full(Exception):
    """Stands for whatever ends the writing."""


def test_writing_that_ends_early_leaves_nothing(tmp_path: Path) -> None:
    """And does not touch the one that is there."""
    path = write(tmp_path / "x.backup", chain(1))
    before = path.read_bytes()
    with pytest.raises(Full), Writer(path, header_of(chain(2)), KEY) as writer:
        writer.add(Records([encode(chain(1)[0])]))
        raise Full
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == before


def test_a_disk_that_fails_at_the_end_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was not synced has no name."""

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("fortress.ledger.backup.os.fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        write(tmp_path / "x.backup", chain(1))
    assert not list(tmp_path.iterdir())


def test_its_name_says_whose_it_is_and_when() -> None:
    """So that they sort."""
    assert name_of(header_of(chain(2)), "20260331T020000Z") == f"a-one-20260331T020000Z-2{SUFFIX}"
