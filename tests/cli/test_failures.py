"""Failures: every error has an exit code, three lines and one line of JSON."""

from __future__ import annotations

import json

import pytest

from fortress import errors
from fortress.cli.failures import EXIT_SENTENCES, EXITS, Exit, exit_of, facts_text, failure_of
from fortress.cli.misuse import Misuse
from fortress.errors import ERRORS_BY_CODE, FortressError, Refused, Status


@pytest.mark.parametrize("cls", ERRORS_BY_CODE.values(), ids=lambda cls: str(cls.__name__))
def test_every_error_has_an_exit_code_that_is_not_ok(cls: type[FortressError]) -> None:
    """No failure ends as if nothing had happened."""
    assert exit_of(cls) in EXIT_SENTENCES
    assert exit_of(cls) not in (Exit.ok, Exit.threshold, Exit.interrupted)


@pytest.mark.parametrize(
    ("cls", "ending"),
    [
        (errors.Refused, 1),
        (errors.AmountInvalid, 2),
        (errors.MessageInvalid, 2),
        (errors.NotSignedIn, 3),
        (errors.NotAllowed, 3),
        (errors.LoginFailed, 3),
        (errors.Unreachable, 4),
        (errors.NotPrimary, 4),
        (errors.OutcomeUnknown, 5),
        (errors.DeadlinePassed, 5),
        (errors.IntegrityFailed, 7),
        (errors.JournalCorrupt, 7),
        (errors.ServerNotTrusted, 7),
    ],
)
def test_exit_codes_are_those_documented(cls: type[FortressError], ending: int) -> None:
    """Scripts rely on these numbers."""
    assert exit_of(cls) == ending


def test_the_table_names_no_class_twice_and_none_in_vain() -> None:
    """A row that says what the class above says already is not needed."""
    for cls, ending in EXITS.items():
        if cls is not FortressError:
            assert ending != exit_of(cls.__mro__[1]), cls


@pytest.mark.parametrize("status", [status for status in Status if status])
def test_every_refusal_is_told_in_three_lines(status: Status) -> None:
    """What failed, why, what to do, each in one line, with the code that explain takes."""
    what, why, do = failure_of(Refused(status), "fortress pay").lines()
    assert what == f"'fortress pay' failed: refused by the bank (FT-{1000 + status})"
    assert errors.STATUS_SENTENCES[status] in why
    assert f"fortress explain FT-{1000 + status}" in do
    assert "\n" not in what + why + do


def test_facts_are_written_for_people() -> None:
    """Amounts with their currency, spans with their unit, and nothing that the message says already."""
    facts: errors.Facts = {"available_minor": 1250, "currency": "EUR", "wait_s": 7, "field": "amount", "empty": ""}
    assert facts_text(facts, "the field amount is wrong") == "available 12.50 EUR, wait 7 s"
    assert facts_text({"locked_until_us": 1_700_000_000_000_000}).startswith("locked until 2023-11-1")
    assert facts_text({"limit_minor": 5, "final": True}) == "limit 5, final True"


def test_an_unknown_outcome_says_which_id_to_repeat_with() -> None:
    """Repeating with the id is safe; with a new one it might pay twice."""
    failure = failure_of(errors.OutcomeUnknown(facts={"id": "0190-1"}), "fortress pay")
    assert failure.exit == 5
    assert "--id 0190-1" in failure.do


def test_a_misuse_brings_its_own_advice() -> None:
    """Where it is known what to do instead, that is said."""
    failure = failure_of(Misuse("no", "do this"), "fortress login")
    assert (failure.name, failure.label, failure.do) == ("UsageError", "FT-6001", "do this")


def test_the_document_has_all_that_the_lines_have() -> None:
    """One line of JSON."""
    failure = failure_of(Refused(Status.exceeds_available, {"available_minor": 5}), "fortress pay")
    error = json.loads(failure.document())["error"]
    assert error == {
        "code": "FT-1016",
        "name": "exceeds_available",
        "what": failure.what,
        "why": failure.why,
        "do": failure.do,
        "retry": "new_id",
        "exit": 1,
        "facts": {"available_minor": 5},
    }
