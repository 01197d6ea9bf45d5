"""Reading a journal without touching it: all of it, a torn tail as the end, and damage as damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from fortress.errors import FolderMissing, FortressError, JournalCorrupt, KeyUnusable
from fortress.ledger.records import Record
from fortress.ledger.scan import scan
from tests.ledger.journal_fixture import KEY, fill, opened, overwrite, written


def scanned(folder: Path, *, key: bytes = KEY, bank: str = "alpha") -> list[Record]:
    return list(scan(folder, key, bank=bank))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("count", [0, 1, 5, 40])
def test_every_record_is_read_and_nothing_is_changed(tmp_path: Path, count: int) -> None:
    """Over one segment or several."""
    made = written(tmp_path, count)
    before = bytes_of(tmp_path)
    assert scanned(tmp_path) == made
    assert bytes_of(tmp_path) == before


def test_a_journal_in_use_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """Beside the one who writes it."""
    journal = opened(tmp_path)
    made = fill(journal, 5)
    assert scanned(tmp_path) == made
    journal.close()


def test_a_journal_whose_beginning_was_dropped_is_read_from_there(tmp_path: Path) -> None:
    """Its first record is held against the header of its segment."""
    journal = opened(tmp_path)
    made = fill(journal, 40)
    journal.drop_before(30)
    first = journal.first_lsn
    journal.close()
    assert first > 1 and scanned(tmp_path) == made[first - 1 :]


@pytest.mark.parametrize("place", ["seal", "length", "beyond"])
def test_a_torn_tail_is_the_end(tmp_path: Path, place: str) -> None:
    """As a crash leaves it: nothing that opens follows. A start would overwrite it, a scan leaves it."""
    made = written(tmp_path, 3)
    (path,) = tmp_path.glob("*.seg")
    offset = {"seal": 3 * 4096 + 200, "length": 3 * 4096 + 6, "beyond": 4 * 4096 + 200}[place]
    overwrite(path, offset, b"torn")
    before = bytes_of(tmp_path)
    assert scanned(tmp_path) == made[: 3 if place == "beyond" else 2]
    assert bytes_of(tmp_path) == before


def test_damage_before_good_records_is_told(tmp_path: Path) -> None:
    """After what came before it was given."""
    made = written(tmp_path, 4)
    (path,) = tmp_path.glob("*.seg")
    overwrite(path, 2 * 4096 + 200, b"harm")
    found: list[Record] = []
    with pytest.raises(JournalCorrupt, match="record 2"):
        found.extend(scan(tmp_path, KEY, bank="alpha"))
    reader = scan(tmp_path, KEY, bank="alpha")
    assert next(reader) == made[0]


def test_damage_at_the_end_of_a_closed_segment_is_told(tmp_path: Path) -> None:
    """Its footer names the record that does not open."""
    written(tmp_path, 40)
    path = min(tmp_path.glob("*.seg"))
    for block in range(1, 14):
        overwrite(path, block * 4096 + 200, b"harm")
    with pytest.raises(JournalCorrupt, match="footer names a later one"):
        scanned(tmp_path)


def test_a_segment_that_is_missing_is_told(tmp_path: Path) -> None:
    """Be it in the middle or the newest."""
    written(tmp_path, 60)
    paths = sorted(tmp_path.glob("*.seg"))
    assert len(paths) > 3
    middle = paths[1].read_bytes()
    paths[1].unlink()
    with pytest.raises(JournalCorrupt, match="does not continue"):
        scanned(tmp_path)
    paths[1].write_bytes(middle)
    paths[-1].unlink()
    with pytest.raises(JournalCorrupt, match="no other follows"):
        scanned(tmp_path)


def test_a_journal_of_another_bank_key_or_place_is_refused(tmp_path: Path) -> None:
    """Nothing is read from it."""
    written(tmp_path / "journal", 1)
    for error, options in (
        (JournalCorrupt, {"bank": "beta"}),
        (KeyUnusable, {"key": b"x" * 32}),
    ):
        with pytest.raises(FortressError) as caught:
            scanned(tmp_path / "journal", **options)
        assert type(caught.value) is error
    with pytest.raises(FolderMissing):
        scanned(tmp_path)
