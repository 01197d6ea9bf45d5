"""The window of marks knows the newest records, forgets old ones by chunks, and refuses gaps."""

from __future__ import annotations

import pytest

from fortress.errors import LocalProtocolError
from fortress.pair.marks import CHUNK_MARKS, CHUNKS_MAX, Marks, window
from fortress.pair.messages import GENESIS, Mark
from tests.pair.role_fixture import mark


def test_an_empty_journal_has_the_place_before_the_first_record() -> None:
    """Number 0 is known to every journal, number 1 to none yet."""
    marks = window(Mark())
    assert marks == Marks()
    assert marks.has(Mark()) and marks.hash_at(0) == GENESIS
    assert marks.hash_at(1) is None


@pytest.mark.parametrize("first", [1, 900])
def test_what_was_added_is_found(first: int) -> None:
    """Each mark in the window is found at its number, and no other."""
    marks = window(mark(first))
    for lsn in range(first + 1, first + 3 * CHUNK_MARKS):
        marks = marks.add(mark(lsn))
    assert all(marks.has(mark(lsn)) for lsn in range(first, first + 3 * CHUNK_MARKS))
    assert not marks.has(mark(first + 1, "other"))
    assert marks.hash_at(first + 3 * CHUNK_MARKS) is None
    assert marks.hash_at(0) == GENESIS


def test_the_oldest_go_when_the_window_is_full() -> None:
    """At least the last 1,024 marks are known; a journal of any length keeps no more than a few more."""
    marks = Marks()
    for lsn in range(1, 3001):
        marks = marks.add(mark(lsn))
    assert all(marks.has(mark(lsn)) for lsn in range(3000 - 1023, 3001))
    assert marks.first > 3000 - (CHUNKS_MAX + 2) * CHUNK_MARKS
    assert marks.hash_at(marks.first - 1) is None
    assert marks.has(mark(marks.first))


def test_a_window_is_made_of_the_newest_marks() -> None:
    """Given marks in order, the window is the same as if they had been added."""
    marks = window(mark(70), tuple(mark(lsn) for lsn in range(1, 71)))
    assert marks.first == 1
    assert all(marks.has(mark(lsn)) for lsn in range(71))
    assert hash(marks) == hash(window(mark(70), tuple(mark(lsn) for lsn in range(1, 71))))


@pytest.mark.parametrize("lsn", [0, 1, 3, 9])
def test_a_mark_that_does_not_follow_is_refused(lsn: int) -> None:
    """The next mark has the next number."""
    with pytest.raises(LocalProtocolError):
        window(mark(1)).add(mark(lsn))


@pytest.mark.parametrize("marks", [(mark(1), mark(3)), (mark(1), mark(2))])
def test_marks_that_do_not_lead_to_the_end_are_refused(marks: tuple[Mark, ...]) -> None:
    """Gaps, or an end elsewhere, are a mistake of whoever read the journal."""
    with pytest.raises(LocalProtocolError):
        window(mark(3), marks)
