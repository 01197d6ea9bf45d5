"""Digests of the tables: the same for one history however it was batched, another one for any row that differs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fortress.errors import StoreCorrupt
from fortress.ledger import table_digest as module
from fortress.ledger.store import Store
from fortress.ledger.table_digest import TableView, table_digest
from tests.ledger.ledger_fixture import STORE_KEY, Ledger
from tests.ledger.test_engine import Chaos


def lively(folder: Path, seed: int, records: int) -> Ledger:
    """A bank in which much has happened."""
    folder.mkdir()
    ledger = Ledger(folder)
    chaos = Chaos(ledger, seed)
    for _ in range(records):
        for _ in range(12):
            chaos.step()
        ledger.commit()
    return ledger


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    made = lively(tmp_path_factory.mktemp("digest") / "first", 1, 15)
    yield made
    made.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are read a few at a time."""
    monkeypatch.setattr(module, "_CHUNK_ROWS", 7)


def digest_of(store: Store, window_rows: int = 65_536) -> bytes:
    view = TableView(store, window_rows=window_rows)
    try:
        return view.digest()
    finally:
        view.close()


@pytest.mark.parametrize("together", [1, 3, 1000])
@pytest.mark.parametrize("window_rows", [8, 65_536])
def test_one_history_has_one_digest_however_it_was_batched(
    written: Ledger, tmp_path: Path, together: int, window_rows: int
) -> None:
    """Another node applies the same records, one or many to a transaction."""
    (tmp_path / "second").mkdir()
    second = Ledger(tmp_path / "second")
    for record in written.engine.journal.records(1):
        second.engine.journal.append(record)
        second.unapplied.append(second.engine.follow(record))
        if len(second.unapplied) >= together:
            second.apply()
    second.apply()
    ours, theirs = (digest_of(each.engine.store, window_rows) for each in (written, second))
    assert ours == theirs
    assert table_digest(second.engine.store) == table_digest(written.engine.store)
    assert table_digest(second.engine.store)[0] == written.engine.store.applied_lsn
    second.close()


@pytest.mark.usefixtures("small")
def test_every_record_makes_another_digest(tmp_path: Path) -> None:
    """And rows read a few at a time make the same one."""
    ledger = lively(tmp_path / "first", 2, 3)
    seen = set()
    for _ in range(5):
        ledger.account(5)
        ledger.commit()
        seen.add(table_digest(ledger.engine.store)[1])
    assert len(seen) == 5
    ledger.close()


def tables_of(store: Store) -> list[str]:
    names = store.read("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'meta' ORDER BY name")
    return [name for (name,) in names]


def changes_of(store: Store, table: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Statements that change the last row of a table, and its first where that is no matter of the key."""
    columns = store.read("SELECT name, pk FROM pragma_table_info(?)", (table,))
    key = ", ".join(name for name, place in columns if place)
    rows = store.read(f"SELECT {key} FROM {table} ORDER BY {key}")
    where = f"WHERE ({key}) = ({', '.join('?' for name, place in columns if place)})"
    for row in {rows[0], rows[-1]}:
        yield f"DELETE FROM {table} {where}", row
        for name, place in columns:
            if not place or row == rows[-1]:
                blob, text = f"CAST({name} || x'00' AS BLOB)", f"{name} || char(0)"
                more = f"WHEN 'blob' THEN {blob} WHEN 'text' THEN {text} ELSE ifnull({name}, 6) + 1"
                yield f"UPDATE {table} SET {name} = CASE typeof({name}) {more} END {where}", row
            if not place:
                yield f"UPDATE {table} SET {name} = CAST(coalesce({name}, 'NULL') AS BLOB) {where}", row


@pytest.mark.usefixtures("small")
def test_every_value_of_every_table_counts(written: Ledger) -> None:
    """A little more, of another type with the same look, or the row gone."""
    store = written.engine.store
    before = digest_of(store)
    tried = 0
    for table in tables_of(store):
        rows = store.read(f"SELECT * FROM {table}")
        if not rows:
            continue
        places = ", ".join("?" for _ in rows[0])
        for change, row in changes_of(store, table):
            store._writer.execute(change, row)
            if sorted(rows, key=repr) != sorted(store.read(f"SELECT * FROM {table}"), key=repr):
                tried += 1
                assert digest_of(store) != before, (change, row)
            with store._writer:
                store._writer.execute(f"DELETE FROM {table}")
                store._writer.executemany(f"INSERT INTO {table} VALUES ({places})", rows)
    assert tried > 200
    assert digest_of(store) == before


def test_of_tables_that_only_grow_the_newest_and_some_others_count(written: Ledger) -> None:
    """Which others follows from the record's hash, so it is the same on both nodes, and another at the next record."""
    store = written.engine.store
    view = TableView(store, window_rows=8)
    assert view.position > 100 and view._windows(16, 8) == [(0, 16)]
    (chosen, end), newest = view._windows(view.position, 8)
    assert newest == (view.position - 8, view.position) and end - chosen == 8 <= view.position - 8
    view.close()
    before = digest_of(store, 8)
    seen = set()
    for position in range(1, view.position + 1):
        store._writer.execute("UPDATE entries SET a = a + 1 WHERE position = ?", (position,))
        if digest_of(store, 8) != before:
            seen.add(position)
        store._writer.execute("UPDATE entries SET a = a - 1 WHERE position = ?", (position,))
    assert seen == {*range(chosen + 1, end + 1), *range(newest[0] + 1, newest[1] + 1)}
    assert digest_of(store, 8) == before


def test_places_are_chosen_all_over_the_tables(written: Ledger) -> None:
    """Many records leave no entry unread."""
    view = TableView(written.engine.store, window_rows=8)
    seen = set()
    for number in range(1_000):
        view.hash = number.to_bytes(2, "big") * 16
        for begin, end in view._windows(100, 8):
            assert 0 <= begin < end <= 100
            seen.update(range(begin, end))
    view.close()
    assert seen == set(range(100))


def test_a_view_is_of_the_moment_it_was_made(tmp_path: Path) -> None:
    """What is applied afterwards does not show in it, however late it is digested."""
    ledger = lively(tmp_path / "first", 3, 3)
    store = ledger.engine.store
    expected = table_digest(store)
    view = TableView(store)
    ledger.account(5)
    ledger.commit()
    assert (view.lsn, view.digest()) == expected
    assert (view.lsn, view.hash, view.position) != (store.applied_lsn, store.applied_hash, store.applied_position)
    assert table_digest(store) != expected
    view.close()
    view.close()
    ledger.close()


def test_empty_tables_have_a_digest(tmp_path: Path) -> None:
    """Equal on two nodes that know nothing yet."""
    found = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        ledger = Ledger(tmp_path / name)
        found.append(table_digest(ledger.engine.store))
        ledger.close()
    assert found[0] == found[1] and found[0][0] == 0


def test_a_page_that_was_changed_is_told(tmp_path: Path) -> None:
    """Reading it is part of the digest."""
    ledger = lively(tmp_path / "first", 4, 5)
    (root,) = ledger.engine.store.read("SELECT rootpage FROM sqlite_schema WHERE name = 'tiles'")[0]
    ledger.close()
    path = tmp_path / "first" / "ledger.db"
    with open(path, "r+b") as file:
        file.seek((root - 1) * 4096 + 50)
        file.write(b"\xff\x00\xff")
    store = Store(path, STORE_KEY)
    with pytest.raises(StoreCorrupt):
        table_digest(store)
    store.close()
