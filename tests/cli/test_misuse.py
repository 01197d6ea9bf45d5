"""Wrong usage that brings its own advice."""

from __future__ import annotations

from fortress.cli.misuse import Misuse
from fortress.errors import UsageError


def test_a_misuse_is_a_usage_error_with_advice() -> None:
    """It has no code of its own: programs treat it as what it is."""
    error = Misuse("the file is empty", "put something into it")
    assert isinstance(error, UsageError) and error.code == UsageError.code
    assert (error.message, error.do) == ("the file is empty", "put something into it")
