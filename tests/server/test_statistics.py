"""Counters add up and name results by words, never by what a peer sent."""

from __future__ import annotations

import pytest

from fortress.errors import OK, Busy, LoginFailed, Status, refusal_code
from fortress.server.statistics import Statistics, count_in, result_name


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (OK, "ok"),
        (refusal_code(Status.exceeds_available), "exceeds_available"),
        (Busy.code, "busy"),
        (LoginFailed.code, "login_failed"),
        (9999, "code_9999"),
        (1999, "status_999"),
    ],
)
def test_results_have_names(code: int, name: str) -> None:
    """Done, refused by a rule, failed with an error, unknown."""
    assert result_name(code) == name


def test_tasks_are_what_was_done_for_customers() -> None:
    """Neither refused requests nor those of the session itself count; all of them are requests."""
    statistics = Statistics()
    transfer = statistics.counter("transfer", is_task=True)
    transfer.record(OK, 10_000)
    transfer.record(refusal_code(Status.exceeds_available), 10_000)
    statistics.counter("hello").record(OK, 5_000)
    statistics.counter("history", is_task=True)
    snapshot = statistics.snapshot()
    assert snapshot["tasks_processed"] == 1
    assert snapshot["requests"] == {("transfer", "ok"): 1, ("transfer", "exceeds_available"): 1, ("hello", "ok"): 1}
    seconds = snapshot["request_seconds"]
    assert isinstance(seconds, dict)
    assert {operation: seconds[operation][2] for operation in seconds} == {"transfer": 2, "hello": 1}


def test_a_counter_is_the_same_each_time() -> None:
    """Whoever asks for an operation's counter shares it."""
    statistics = Statistics()
    assert statistics.counter("hello") is statistics.counter("hello")


def test_a_snapshot_stays_as_it_was() -> None:
    """What is counted afterwards does not change it."""
    statistics = Statistics()
    count_in(statistics.auth_failures, "wrong_proof")
    snapshot = statistics.snapshot()
    count_in(statistics.auth_failures, "wrong_proof")
    statistics.counter("hello").count(OK)
    assert snapshot["auth_failures"] == {"wrong_proof": 1}
    assert snapshot["requests"] == {}
