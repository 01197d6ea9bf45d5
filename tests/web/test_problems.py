"""Errors as pages get them: the HTTP status, the words, and nothing of the inside."""

from __future__ import annotations

import time

import pytest

from fortress import errors
from fortress.errors import ERRORS_BY_CODE, FortressError, Refused, Status
from fortress.web.call import NotFound, OriginRefused, WrongMethod
from fortress.web.problems import is_session_over, problem_of, retry_after_s, status_of


@pytest.mark.parametrize("cls", ERRORS_BY_CODE.values(), ids=lambda cls: str(cls.__name__))
def test_every_error_is_a_problem(cls: type[FortressError]) -> None:
    """Each has a status that is no 500, its code, and a hint that speaks of no command line."""
    error = Refused(Status.exceeds_available) if cls is Refused else cls("words")
    problem = problem_of(error)
    assert 400 <= problem.status < 600 and problem.status != 500
    assert problem.code.startswith("FT-") and problem.title and problem.hint
    assert "'fortress " not in problem.hint


@pytest.mark.parametrize("status", Status)
def test_every_refusal_is_a_conflict_or_a_thing_that_is_not_there(status: Status) -> None:
    """Its name and its own code are told."""
    problem = problem_of(Refused(status, {"account": 5}))
    assert "'fortress " not in problem.hint
    assert problem.status == (404 if status.name.endswith("_unknown") and problem.status == 404 else 409)
    assert (problem.status_name, problem.code, problem.facts) == (status.name, f"FT-{1000 + status}", {"account": 5})


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Refused(Status.exceeds_available), 409),
        (Refused(Status.credit_account_unknown), 409),
        (Refused(Status.account_unknown), 404),
        (NotFound(), 404),
        (WrongMethod(), 405),
        (OriginRefused(), 403),
        (errors.NotAllowed(), 403),
        (errors.NotSignedIn(), 401),
        (errors.TokenRejected(), 401),
        (errors.LoginFailed(), 401),
        (errors.LockedOut(), 429),
        (errors.Throttled(), 429),
        (errors.MessageInvalid(), 422),
        (errors.UsageError(), 422),
        (errors.MessageTooLarge(), 413),
        (errors.Busy(), 503),
        (errors.NoPrimary(), 503),
        (errors.Unreachable(), 503),
        (errors.OutcomeUnknown(), 504),
        (errors.DeadlinePassed(), 504),
        (errors.ServerNotTrusted(), 502),
        (errors.IntegrityFailed(), 502),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, FortressError) else str(each),
)
def test_each_kind_has_its_status(error: FortressError, status: int) -> None:
    """A page can act by the status alone."""
    assert status_of(error) == status


def test_the_inside_of_the_bank_is_not_told() -> None:
    """Where its nodes are matters to operators; customers hear that it does not answer."""
    error = errors.Unreachable("10.1.2.3:7611 does not answer", {"endpoint": "10.1.2.3:7611", "id": "x"})
    problem = problem_of(error)
    assert "10.1.2.3" not in str(problem) and problem.facts == {"id": "x"}


def test_who_must_wait_is_told_how_long() -> None:
    """In seconds, never less than one; and nothing where waiting does not help."""
    assert retry_after_s(errors.Throttled(facts={"wait_ms": 2100})) == 3
    assert retry_after_s(errors.Throttled()) == 1
    until_us = int((time.time() + 60) * 1e6)
    assert 55 <= retry_after_s(errors.LockedOut(facts={"until_us": until_us})) <= 61
    assert retry_after_s(errors.LockedOut(facts={"until_us": 0})) == 0
    assert retry_after_s(errors.Busy()) == 1
    assert retry_after_s(Refused(Status.exceeds_available)) == 0


def test_only_the_end_of_a_session_takes_its_cookie_away() -> None:
    """A wrong old password, for one, does not sign anybody out."""
    assert is_session_over(errors.TokenRejected()) and is_session_over(errors.NotSignedIn())
    assert not is_session_over(errors.LoginFailed()) and not is_session_over(OriginRefused())


def test_a_fault_of_the_bank_is_told_to_customers_as_one() -> None:
    """What an operator should do about it is not theirs to read; the code is, to be told to the bank."""
    problem = problem_of(errors.JournalWriteFailed("fsync failed on /dev/disk7"))
    assert (problem.status, problem.code, problem.title) == (502, "FT-5005", "something is wrong at the bank")
    assert "disk" not in problem.detail + problem.hint
    assert problem_of(errors.ServerNotTrusted()).hint == problem.hint
