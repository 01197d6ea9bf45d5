"""``explain`` covers every code that Fortress can show."""

from __future__ import annotations

import json

import pytest

from fortress.cli.explanation import FAMILIES, RETRIES, find_meaning, meanings
from fortress.cli.main import run
from fortress.errors import ERRORS_BY_CODE, Status, UsageError, refusal_code


def test_every_code_of_errors_is_explained() -> None:
    """Classes and statuses alike, each with a sentence, a next step and a family."""
    explained = {meaning.code: meaning for meaning in meanings()}
    assert set(explained) == set(ERRORS_BY_CODE) | {refusal_code(status) for status in Status if status}
    for meaning in explained.values():
        assert meaning.sentence and meaning.hint
        assert meaning.code // 1000 in FAMILIES and meaning.retry in RETRIES


@pytest.mark.parametrize("text", ["FT-1016", "ft-1016", "1016", "exceeds_available", " FT-1016 "])
def test_a_code_is_found_by_number_or_name(text: str) -> None:
    """As it was shown, or as it is called."""
    assert find_meaning(text).name == "exceeds_available"


def test_an_unknown_code_is_refused() -> None:
    """There is nothing to explain."""
    with pytest.raises(UsageError, match="no code"):
        find_meaning("FT-1")


def test_one_code_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """For people in lines, for programs as an object."""
    assert run(["explain", "FT-3002"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("FT-3002 Busy") and "same id" in shown
    assert run(["explain", "Busy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["exit"] == 4


def test_all_codes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a code the whole list is shown."""
    assert run(["explain"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(meanings()) + 1
    assert run(["--json", "explain"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(meanings())
