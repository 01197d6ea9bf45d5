"""The border to the database: wrong keys, broken pages and full disks become the ledger's own errors."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from fortress.errors import DiskFull, KeyUnusable, StoreCorrupt
from fortress.ledger.database import connect, transaction, translated

KEY = b"k" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.db"
    db = connect(path, KEY, pragmas="PRAGMA synchronous = normal")
    db.execute("CREATE TABLE words (word TEXT)")
    db.executemany("INSERT INTO words VALUES (?)", [("sesame" * 100,)] * 500)
    db.close()
    return path


def test_a_file_is_encrypted(path: Path) -> None:
    """Neither its text nor the format's own header can be read on the disk."""
    content = path.read_bytes()
    assert b"sesame" not in content and b"SQLite format 3" not in content
    assert connect(path, KEY, pragmas="").execute("SELECT count(*) FROM words").fetchall() == [(500,)]


def test_another_key_does_not_open_it(path: Path) -> None:
    """And says which file."""
    with pytest.raises(KeyUnusable, match=r"x\.db does not open"):
        connect(path, b"o" * 32, pragmas="")


@pytest.mark.parametrize("page", [1, 3, 9])
def test_a_flipped_bit_is_found(path: Path, page: int) -> None:
    """Pages are authenticated; the reader learns that the tables are broken."""
    content = bytearray(path.read_bytes())
    content[page * 4096 + 100] ^= 1
    path.write_bytes(content)
    db = connect(path, KEY, pragmas="")
    with pytest.raises(StoreCorrupt, match=r"x\.db"), translated("x.db"):
        db.execute("SELECT sum(length(word)) FROM words").fetchall()
    db.close()


def test_two_pages_exchanged_are_found(path: Path) -> None:
    """A page is sealed together with its place."""
    content = bytearray(path.read_bytes())
    third, fourth = content[3 * 4096 : 4 * 4096], content[4 * 4096 : 5 * 4096]
    content[3 * 4096 : 5 * 4096] = fourth + third
    path.write_bytes(content)
    db = connect(path, KEY, pragmas="")
    with pytest.raises(StoreCorrupt), translated("x.db"):
        db.execute("SELECT sum(length(word)) FROM words").fetchall()
    db.close()


def test_a_file_that_cannot_be_opened_is_broken(tmp_path: Path) -> None:
    """A folder in its place, say."""
    (tmp_path / "x.db").mkdir()
    with pytest.raises(StoreCorrupt, match=r"x\.db"):
        connect(tmp_path / "x.db", KEY, pragmas="")


def test_a_bad_setting_closes_the_file(path: Path) -> None:
    """Nothing stays open behind an error."""
    with pytest.raises(StoreCorrupt):
        connect(path, KEY, pragmas="PRAGMA is no pragma")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (apsw.FullError("database or disk is full"), DiskFull),
        (apsw.IOError("disk full"), DiskFull),
        (apsw.IOError("disk I/O error"), StoreCorrupt),
        (apsw.CorruptError("malformed"), StoreCorrupt),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text"), StoreCorrupt),
        (KeyError("x"), KeyError),
    ],
    ids=["full", "no space for a file", "input", "malformed", "no text", "foreign"],
)
def test_errors_become_the_ledger_s(error: Exception, expected: type[Exception]) -> None:
    """A full disk can be retried, the rest stops the node; what is not the database's passes as it is."""
    with pytest.raises(expected) as caught, translated("x.db"):
        raise error
    assert caught.value is error or caught.value.__cause__ is error


def test_a_full_file_is_a_full_disk(path: Path) -> None:
    """As the database itself tells it; what was under way is undone."""
    db = connect(path, KEY, pragmas="")
    pages = db.execute("PRAGMA page_count").fetchall()[0][0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DiskFull, match=r"no space left to write x\.db"), translated("x.db"), transaction(db):
        db.executemany("INSERT INTO words VALUES (?)", [("sesame" * 100,)] * 500)
    assert db.execute("SELECT count(*) FROM words").fetchall() == [(500,)]
    db.close()


def test_what_fails_is_undone_and_what_succeeds_is_kept(path: Path) -> None:
    """The error itself comes through; the next transaction finds the database free."""
    db = connect(path, KEY, pragmas="")
    with pytest.raises(KeyError), transaction(db):
        db.execute("DELETE FROM words")
        raise KeyError
    with transaction(db):
        db.execute("DELETE FROM words WHERE rowid > 3")
    assert db.execute("SELECT count(*) FROM words").fetchall() == [(3,)]
    db.close()
