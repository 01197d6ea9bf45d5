"""Rows against rows: each kind of difference is told with the table, the row and both values."""

from __future__ import annotations

from typing import Any

import apsw
import pytest

from fortress.errors import StoreCorrupt
from fortress.ledger.comparison import Comparison
from fortress.ledger.entries import HoldPlaced, Posted, encode
from fortress.ledger.merkle import Tile
from fortress.ledger.recount import Chunk, Recount
from fortress.ledger.schema import SCHEMA, SCHEMA_VERSION
from tests.ledger.books_fixture import NOW_US, uid

A, B = uid(), uid()


class Tables:
    """Tables in memory, and what was found when they were compared."""

    def __init__(self) -> None:
        self.db = apsw.Connection(":memory:")
        self.db.execute(SCHEMA)
        self.found: list[tuple[str, str]] = []
        self.comparison = Comparison(self.read, lambda what, where: self.found.append((what, where)))

    def read(self, sql: str, bindings: Any) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self.db.execute(sql, bindings).fetchall()
        return rows

    def put(self, table: str, *values: Any) -> None:
        self.db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)

    def told(self) -> list[tuple[str, str]]:
        found = self.found.copy()
        self.found.clear()
        return found


@pytest.fixture
def tables() -> Tables:
    return Tables()


def chunk(**rows: Any) -> Chunk:
    made = Chunk()
    for name, value in rows.items():
        setattr(made, name, value)
    return made


def test_equal_rows_are_silent(tables: Tables) -> None:
    """Every kind that a chunk holds."""
    tables.put("entries", 1, 5, 0, 0, 0, b"entry")
    tables.put("trail", 1)
    tables.put("ids", A, 1)
    tables.put("marks", 5, 1)
    tables.put("tiles", 0, 0, b"hashes")
    tables.put("holds", A, 1, 2, 3, "EUR", 4, 5, "r", 2, 3, 1, 0, 0)
    made = chunk(
        entries=[(1, 5, 0, 0, 0, b"entry")],
        trail=[(1,)],
        ids={A: (A, 1)},
        marks=[(5, 1)],
        holds={A: (A, 1, 2, 3, "EUR", 4, 5, "r", 2, 3, 1, 0, 0)},
    )
    tables.comparison.compare_chunk(made, [Tile(0, 0, b"hashes")])
    tables.comparison.compare_chunk(Chunk(), [])
    tables.comparison.compare_records([])
    assert tables.told() == []


def test_a_value_that_differs_is_told_with_both(tables: Tables) -> None:
    """Column by column; of blobs only the beginning."""
    tables.put("entries", 1, 5, 0, 0, 7, b"x" * 40)
    tables.comparison.compare_chunk(chunk(entries=[(1, 5, 0, 0, 0, b"y" * 40)]), [])
    assert tables.told() == [
        ("entries.b_before is 7, the journal says 0", "entries 1"),
        (f"entries.entry is {(b'x' * 16).hex()}…, the journal says {(b'y' * 16).hex()}…", "entries 1"),
    ]


def test_a_row_missing_and_a_row_too_many_are_told(tables: Tables) -> None:
    """Within what is compared at once."""
    tables.put("trail", 2)
    tables.put("tiles", 0, 1, b"")
    rows = [(1, 0, 0, 0, 0, b""), (2, 0, 0, 0, 0, b"")]
    for row in rows:
        tables.put("entries", *row)
    made = chunk(entries=rows, trail=[(1,)], ids={A: (A, 1)}, marks=[(5, 1)])
    tables.comparison.compare_chunk(made, [Tile(0, 0, b"")])
    assert tables.told() == [
        ("trail lacks a row", "trail 1"),
        ("trail holds a row that the journal does not make", "trail 2"),
        ("ids lacks a row", f"ids {A.hex()}"),
        ("marks lacks position 1", "marks 5"),
        ("tiles lacks a row", "tiles 0"),
    ]


def test_numbers_written_as_text_are_told(tables: Tables) -> None:
    """A value of another type is another value."""
    tables.put("meta", "applied_lsn", "0")
    tables.put("meta", "applied_hash", bytes(32))
    tables.put("meta", "position", 0)
    tables.put("meta", "schema", SCHEMA_VERSION)
    tables.comparison.compare_end(Recount(lambda what, position: None), lsn=0, hash=bytes(32), position=0)
    assert tables.told() == [("meta.value is '0', the journal says 0", "meta 'applied_lsn'")]


def test_rows_are_counted(tables: Tables) -> None:
    """So that one too many is found wherever it stands."""
    for name, value in (("applied_lsn", 0), ("applied_hash", bytes(32)), ("position", 0), ("schema", SCHEMA_VERSION)):
        tables.put("meta", name, value)
    tables.put("trail", 99)
    tables.put("ids", A, 1)
    tables.put("counters", 5, "[0,0,0,0,0,0,0,0,0,0]")
    tables.comparison.compare_end(Recount(lambda what, position: None), lsn=0, hash=bytes(32), position=0)
    assert tables.told() == [
        ("counters holds a row that the journal does not make", "counters 5"),
        ("ids holds 1 rows, the journal makes 0", "ids"),
        ("trail holds 1 rows, the journal makes 0", "trail"),
    ]


@pytest.mark.parametrize(("reversed_minor", "is_told"), [(5, False), (6, True)])
@pytest.mark.parametrize("is_hold", [False, True], ids=["transfer", "posted hold"])
def test_more_reversed_than_moved_is_told(tables: Tables, reversed_minor: int, is_told: bool, is_hold: bool) -> None:
    """Of a hold what was posted counts, not what was held."""
    moved = encode(Posted(NOW_US, A, 1, 2, 5, "EUR", 3, "", 0, 0, 1))
    held = encode(HoldPlaced(NOW_US, A, 1, 2, 9, "EUR", 5, "", 0, 0, 1))
    tables.put("entries", 1, 0, 0, 0, 0, held if is_hold else moved)
    tables.put("ids", A, 1)
    tables.put("reversals", A, reversed_minor, 2)
    if is_hold:
        tables.put("holds", A, 1, 2, 9, "EUR", 4, 5, "r", 2, 5, 1, 0, 0)
    tables.comparison.check_reversals()
    expected = [(f"{reversed_minor} of 5 moved were reversed", f"reversals {A.hex()}")]
    assert tables.told() == (expected if is_told else [])


def test_a_reversal_of_nothing_is_told(tables: Tables) -> None:
    """Its original must be there, and have moved money."""
    tables.put("reversals", A, 1, 2)
    tables.put("entries", 1, 0, 0, 0, 0, encode(HoldPlaced(NOW_US, B, 1, 2, 9, "EUR", 5, "", 0, 0, 1)))
    tables.put("ids", B, 1)
    tables.put("reversals", B, 1, 2)
    tables.comparison.check_reversals()
    assert sorted(tables.told()) == sorted(("1 of 0 moved were reversed", f"reversals {id.hex()}") for id in (A, B))


def test_a_sound_file_is_silent_and_a_missing_table_is_an_error(tables: Tables) -> None:
    """The comparison cannot go on without it."""
    tables.comparison.check_file()
    assert tables.told() == []
    with pytest.raises(StoreCorrupt, match="no table absent"):
        tables.comparison._names("absent")


@pytest.mark.parametrize(
    ("counters", "is_told"),
    [
        ((2**62, 0, 5, 0), False),
        ((2**62, 1, 5, 0), True),
        ((2**62, 0, 6, 0), True),
    ],
    ids=["right", "posted", "pending"],
)
def test_sums_that_are_not_zero_are_told(tables: Tables, counters: tuple[int, ...], is_told: bool) -> None:
    """By currency, also where they are larger than one of the database's integers."""
    for number, sums in enumerate((counters, (2**62, 0, 0, 0), (0, 2**63 - 1, 0, 5), (0, 1, 0, 0)), 1):
        tables.put("accounts", number, 1, 1, "EUR", 1, 0, None, None, None, 0, 1, 1)
        tables.put("counters", number, f"[{','.join(map(str, sums))},0,0,0,0,0,0]")
    tables.comparison.check_sums()
    found = tables.told()
    assert bool(found) is is_told
    assert all(where == "currency EUR" and "do not add up" in what for what, where in found)
