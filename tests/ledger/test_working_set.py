"""The two generations: what is used stays, what the tables lack stays, the rest goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fortress.ledger.working_set import WorkingSet


def made(capacity: int = 4) -> WorkingSet[str, int]:
    """Values are the positions that changed them."""
    return WorkingSet(capacity, lambda value: value)


def test_what_is_put_is_there() -> None:
    """Also that something is known to be absent."""
    kept = made()
    kept.put("a", 1)
    kept.put("b", None)
    assert kept.get("a") == 1 and "a" in kept
    assert kept.get("b") is None and "b" in kept
    assert kept.get("c") is None and "c" not in kept
    assert len(kept) == 2


def test_what_was_read_never_replaces_what_is_here() -> None:
    """Memory is never older than the tables; in neither generation."""
    kept = made(2)
    kept.put("a", 5)
    kept.put_if_missing("a", 1)
    kept.trim(9)
    kept.put_if_missing("a", 1)
    assert kept.get("a") == 5
    kept.put_if_missing("b", 1)
    assert kept.get("b") == 1


def test_a_value_not_read_for_two_turns_is_dropped() -> None:
    """One turn makes it old, the next forgets it."""
    kept = made(2)
    kept.put("a", 1)
    assert kept.trim(1) == [] and "a" in kept and kept.turns == 1
    kept.put("b", 1)
    assert kept.trim(1) == ["a"] and "a" not in kept and kept.turns == 2


def test_a_value_that_is_read_stays() -> None:
    """Reading moves it to the newer generation."""
    kept = made(2)
    kept.put("a", 1)
    for _ in range(5):
        kept.trim(1)
        assert kept.get("a") == 1


def test_nothing_is_dropped_before_the_newer_generation_is_full() -> None:
    """Half of the capacity."""
    kept = made(4)
    kept.put("a", 1)
    assert kept.trim(1) == [] and kept.turns == 0
    kept.put("b", 1)
    assert kept.trim(1) == [] and kept.turns == 1


def test_what_the_tables_lack_is_never_dropped() -> None:
    """However many turns, until it is applied."""
    kept = made(2)
    kept.put("dirty", 7)
    for turn in range(4):
        kept.put(f"other {turn}", 1)
        assert "dirty" not in kept.trim(6)
    assert kept.get("dirty") == 7
    kept.trim(7)
    kept.put("more", 1)
    assert "dirty" in kept.trim(7)


def test_a_note_of_absence_goes_unannounced() -> None:
    """It is dropped as values are, and not told among what the tables hold."""
    kept = made(2)
    kept.put("absent", None)
    kept.trim(9)
    kept.put("a", 1)
    assert kept.trim(9) == [] and "absent" not in kept


def test_a_value_written_straight_into_the_newer_generation_wins() -> None:
    """The hot path does so; an older note of absence is not seen again."""
    kept = made(2)
    kept.put("a", None)
    kept.trim(9)
    kept.newer["a"] = 8
    assert kept.get("a") == 8
    kept.trim(7)
    kept.put("b", 1)
    kept.trim(7)
    assert kept.get("a") == 8


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "get", "trim", "fill"]), st.integers(0, 9), st.integers(0, 99)), max_size=60
    )
)
def test_memory_over_tables_is_never_wrong(steps: list[tuple[str, int, int]]) -> None:
    """Against a plain dictionary: whatever is read through memory is the last value written."""
    kept: WorkingSet[int, int] = WorkingSet(4, lambda value: value)
    truth: dict[int, int] = {}
    tables: dict[int, int] = {}
    position = applied = 0
    for act, key, _ in steps:
        if act == "put":
            position += 1
            truth[key] = position
            kept.put(key, position)
        elif act == "trim":
            applied = position if key % 2 else applied
            tables = {k: v for k, v in truth.items() if v <= applied} | {
                k: v for k, v in tables.items() if truth[k] > applied
            }
            kept.trim(applied)
        elif act == "fill" and key not in kept:
            kept.put_if_missing(key, tables.get(key))
        if key in kept:
            assert kept.get(key) == truth.get(key)
