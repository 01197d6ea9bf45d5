"""A profile is summed up so that one sees where the time goes."""

from __future__ import annotations

import pytest

from bench import logins
from bench.bank import Plan
from bench.memory import touched
from fortress.errors import UsageError

STACKS = """\
run (a.py:1);handle (b.py:7);verify (c.py:3) 30
run (a.py:2);handle (b.py:9) 10
run (a.py:2) 60
"""


def test_a_profile_tells_each_functions_own_share_and_that_with_its_callees() -> None:
    """Lines of one function count together; a function that only calls has a share of the second kind only."""
    own, whole = logins.summary_of(STACKS).split("with what it calls")
    assert "60.0 %  run (a.py" in own and "30.0 %  verify (c.py" in own and "10.0 %  handle (b.py" in own
    assert "100.0 %  run (a.py" in whole and "40.0 %  handle (b.py" in whole


def test_recursion_counts_once() -> None:
    """A function that calls itself has no more than all of the time."""
    assert "100.0 %  f (a.py" in logins.summary_of("f (a.py:1);f (a.py:1) 5\n").split("with what it calls")[1]


def test_without_the_profiler_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler is no part of the project; asking for a profile without it says so."""
    monkeypatch.setattr(logins.shutil, "which", lambda name, path: None)
    with pytest.raises(UsageError, match="py-spy"):
        logins._profiler()


def test_everybody_has_a_login_of_their_own() -> None:
    """The defaults sign in thousands of different people, so that no throttle and no cache decides the number."""
    options = logins.options_parser().parse_args([])
    assert options.people >= 1_000 and Plan().people == 0


def test_accounts_touched_are_those_that_draws_find() -> None:
    """As many draws as accounts find about 63 % of them, and very many find all."""
    assert touched(1_000, 1_000) == 632
    assert touched(1_000, 100_000) == 1_000
