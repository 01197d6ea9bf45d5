"""The statuses are numbered for ever and each is said in words."""

from __future__ import annotations

from fortress.statuses import STATUS_HINTS, STATUS_SENTENCES, Status


def test_every_status_has_its_sentence() -> None:
    """The numbers run without gaps, and each is said in words."""
    assert [int(status) for status in Status] == list(range(len(Status)))
    assert set(STATUS_SENTENCES) == set(Status)
    assert set(STATUS_HINTS) <= set(Status)


def test_statuses_keep_their_numbers() -> None:
    """Numbers are stored in journals for ever: these must never change."""
    kept = {
        "ok": 0,
        "id_reused": 1,
        "exceeds_available": 16,
        "hold_unknown": 18,
        "batch_failed": 26,
        "username_taken": 31,
    }
    assert {name: int(Status[name]) for name in kept} == kept
