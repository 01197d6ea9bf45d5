"""Cutting a journal off: the old end until it is decided, the new one from then on, wherever the process dies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fortress.errors import JournalCorrupt, KeyUnusable
from fortress.ledger.cut import CUT_NAME, Cut, finish_cut, plan_cut, planned_cut
from fortress.ledger.records import GENESIS_HASH
from fortress.ledger.scan import scan
from tests.ledger.crash_fixture import die_everywhere
from tests.ledger.journal_fixture import KEY, fill, names, opened, overwrite, written


def cut_behind(folder: Path, lsn: int, hash: bytes) -> None:
    plan_cut(folder, KEY, Cut(lsn, hash), bank="alpha")
    finish_cut(folder, KEY)


@pytest.mark.parametrize("lsn", [0, 1, 13, 14, 15, 27, 28, 29, 39, 40])
def test_a_journal_ends_where_it_was_cut(tmp_path: Path, lsn: int) -> None:
    """In any segment, at its first and last record, before all; reading, appending and opening again go on."""
    made = written(tmp_path, 40)
    assert names(tmp_path) == ["0000000001.seg", "0000000015.seg", "0000000029.seg"]
    cut_behind(tmp_path, lsn, made[lsn - 1].hash if lsn else GENESIS_HASH)
    assert planned_cut(tmp_path, KEY) is None and CUT_NAME not in names(tmp_path)
    assert list(scan(tmp_path, KEY, bank="alpha")) == made[:lsn]
    journal = opened(tmp_path)
    assert journal.end == (lsn, made[lsn - 1].hash if lsn else GENESIS_HASH)
    later = fill(journal, 20, size=200)
    journal.close()
    again = opened(tmp_path, applied_lsn=0)
    assert list(again.records(1)) == [*made[:lsn], *later]
    again.close()


@pytest.mark.parametrize("lsn", [0, 5, 14, 20, 28, 40])
def test_a_process_that_dies_leaves_the_old_end_or_the_new_one(tmp_path: Path, lsn: int) -> None:
    """Between any two steps; once decided, the next start finishes it, and a scan before that sees it done."""
    made = written(tmp_path / "whole", 40)
    folder = tmp_path / "journal"
    hash = made[lsn - 1].hash if lsn else GENESIS_HASH
    ends: list[int] = []

    def begin(step: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", folder)

    def check(step: int) -> None:
        is_decided = planned_cut(folder, KEY) is not None
        scanned = list(scan(folder, KEY, bank="alpha"))
        journal = opened(folder)
        assert list(journal.records(1)) == scanned == made[: len(scanned)]
        assert len(scanned) in (40, lsn) and (len(scanned) == lsn or not is_decided)
        fill(journal, 1)
        journal.close()
        opened(folder).close()
        ends.append(len(scanned))

    steps = die_everywhere(begin, lambda: cut_behind(folder, lsn, hash), check)
    assert steps >= 6 and ends == sorted(ends, reverse=True) and set(ends) == {40, lsn}


def test_a_start_that_dies_while_finishing_is_finished_by_the_next(tmp_path: Path) -> None:
    """However often."""
    made = written(tmp_path / "whole", 40)
    plan_cut(tmp_path / "whole", KEY, Cut(5, made[4].hash), bank="alpha")
    folder = tmp_path / "journal"

    def begin(step: int) -> None:
        if step == 1:
            shutil.copytree(tmp_path / "whole", folder)

    die_everywhere(begin, lambda: finish_cut(folder, KEY), lambda step: None)
    journal = opened(folder)
    assert journal.last == made[4]
    journal.close()


def test_a_plan_that_was_damaged_or_is_another_s_is_refused(tmp_path: Path) -> None:
    """Nothing is cut by a file that does not say so for sure."""
    made = written(tmp_path, 10)
    plan_cut(tmp_path, KEY, Cut(5, made[4].hash), bank="alpha")
    with pytest.raises(KeyUnusable):
        planned_cut(tmp_path, bytes(32))
    overwrite(tmp_path / CUT_NAME, 20, b"\xff\xff")
    with pytest.raises(JournalCorrupt, match="cut"):
        opened(tmp_path)
    (tmp_path / CUT_NAME).unlink()
    journal = opened(tmp_path)
    assert journal.last == made[-1]
    journal.close()


def test_a_record_that_is_not_there_cannot_be_the_end(tmp_path: Path) -> None:
    """Neither one behind the end nor one that was dropped."""
    made = written(tmp_path, 40)
    plan_cut(tmp_path, KEY, Cut(41, made[-1].hash), bank="alpha")
    with pytest.raises(JournalCorrupt, match="record 41"):
        opened(tmp_path)
    (tmp_path / CUT_NAME).unlink()
    journal = opened(tmp_path)
    journal.drop_before(30)
    journal.close()
    plan_cut(tmp_path, KEY, Cut(5, made[4].hash), bank="alpha")
    with pytest.raises(JournalCorrupt, match="record 5, which is not in it"):
        opened(tmp_path)
    assert len(names(tmp_path)) == 2
