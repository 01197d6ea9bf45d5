"""Entries: canonical bytes, the same from an independent msgpack, and nothing else is read."""

from __future__ import annotations

from typing import Any, get_args

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fortress.errors import JournalCorrupt
from fortress.ledger import entries
from fortress.ledger.entries import KINDS, VERSION, AnyEntry, Entry, HoldPlaced, Posted, decode, encode

MAX = 2**63 - 1
ID = bytes(range(16))
MANY = {
    int: (0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, MAX),
    str: ("", "a", "x" * 31, "x" * 32, "x" * 255, "x" * 256, "é" * 140, "Zürich 🏦"),
    bytes: (b"", ID, bytes(255), bytes(256), bytes(65_536)),
    bool: (False, True),
}
ROLES = ((), ("customer",), ("teller", "auditor"), tuple("abcdefghijklmnopq"))
FACTS = ((), (("available_minor", -5), ("limit", "none")))


def values_of(annotation: str) -> tuple[Any, ...]:
    """Values for a field, from the smallest to the largest form of its type."""
    if annotation == "FactPairs":
        return FACTS
    if annotation.startswith("tuple"):
        return ROLES
    base: tuple[Any, ...] = MANY[{"int": int, "str": str, "bytes": bytes, "bool": bool}[annotation.split(" ")[0]]]
    return (None, -1, -MAX, *base) if annotation == "int | None" else base


def fields_of(kind: type[Entry]) -> list[str]:
    found: dict[str, str] = {}
    for cls in reversed(kind.__mro__):
        found.update(getattr(cls, "__annotations__", {}))
    return [found[name] for name in kind.__struct_fields__]


def samples(kind: type[Entry]) -> list[Entry]:
    """Entries of a kind in which every field takes every one of its values at least once."""
    columns = [values_of(annotation) for annotation in fields_of(kind)]
    return [kind(*(column[(i + j) % len(column)] for j, column in enumerate(columns))) for i in range(24)]


def plain(entry: Entry) -> list[Any]:
    return [entry.__struct_config__.tag, *(getattr(entry, name) for name in entry.__struct_fields__)]


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: str(kind.__name__))
def test_another_msgpack_writes_the_same_bytes(kind: type[Entry]) -> None:
    """Every kind, every field in every size: re-written by the independent reference byte by byte."""
    for entry in samples(kind):
        blob = encode(entry)
        assert msgpack.packb(plain(entry), use_bin_type=True) == blob
        assert msgpack.packb(msgpack.unpackb(blob, strict_map_key=True), use_bin_type=True) == blob


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: str(kind.__name__))
def test_what_was_written_is_read_back(kind: type[Entry]) -> None:
    """The same kind with the same fields."""
    for entry in samples(kind):
        again = decode(encode(entry))
        assert again == entry and type(again) is kind


def test_every_kind_has_its_own_number() -> None:
    """Version 1, numbered from 1; all are known to the reader."""
    assert sorted(KINDS) == [VERSION + number for number in range(1, 19)]
    assert set(KINDS.values()) == set(get_args(AnyEntry)) == set(Entry.__subclasses__())


def test_kinds_without_a_number_are_no_entries() -> None:
    """The table takes only what is tagged with a number."""
    assert all(isinstance(kind.__struct_config__.tag, int) for kind in KINDS.values())
    assert entries.MONEY_KINDS == (Posted, HoldPlaced, entries.HoldReleased)


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\xc0",
        b"\x80",
        msgpack.packb([]),
        msgpack.packb([VERSION + 99, 1]),
        msgpack.packb([2 * VERSION + 1, 1, "bank", ["EUR"]]),
        msgpack.packb([VERSION + 1, 1, "bank", ["EUR"], "one more"]),
        msgpack.packb([VERSION + 1, 1, "bank"]),
        msgpack.packb([VERSION + 1, 1.5, "bank", ["EUR"]]),
        msgpack.packb([VERSION + 1, 1, b"bank", ["EUR"]]),
        msgpack.packb([VERSION + 1, 1, "bank", ["EUR"]]) + b"\0",
        msgpack.packb([VERSION + 1, 1, "bank", ["EUR"]])[:-1],
        b"\x94\xcd\x01\x01\x01\xa1\xff\x90",
        b"\x91" * 100_000,
    ],
    ids=range(14),
)
def test_what_is_no_entry_is_damage(blob: bytes) -> None:
    """Neither shorter nor longer, no other types, no unknown kind, no bad text, no deep nesting."""
    with pytest.raises(JournalCorrupt, match="an entry cannot be read"):
        decode(blob)


@given(st.binary(max_size=200))
def test_noise_is_never_read_as_an_entry_of_other_bytes(noise: bytes) -> None:
    """Either damage, or an entry; nothing else comes out."""
    try:
        entry = decode(noise)
    except JournalCorrupt:
        return
    assert isinstance(entry, Entry)
