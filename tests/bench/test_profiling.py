"""A profile is summed up so that one sees where the time goes."""

from __future__ import annotations

import pytest

from bench import profiling
from fortress.errors import UsageError

STACKS = """\
MainThread;run (a.py:1);handle (b.py:7);verify (c.py:3) 30
MainThread;run (a.py:2);handle (b.py:9) 10
worker;run (a.py:2) 60
"""


def test_a_profile_tells_each_functions_own_share_and_that_with_its_callees() -> None:
    """Lines of one function count together; a function that only calls has a share of the second kind only."""
    rest, whole = profiling.summary_of(STACKS).split("with what it calls")
    threads, own = rest.split("in the function itself")
    assert "60.0 %  worker" in threads and "40.0 %  MainThread" in threads
    assert "60.0 %  run (a.py" in own and "30.0 %  verify (c.py" in own and "10.0 %  handle (b.py" in own
    assert "100.0 %  run (a.py" in whole and "40.0 %  handle (b.py" in whole


def test_recursion_counts_once() -> None:
    """A function that calls itself has no more than all of the time."""
    assert "100.0 %  f (a.py" in profiling.summary_of("t;f (a.py:1) 5\n").split("with what it calls")[1]


def test_without_the_profiler_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler is no part of the project; asking for a profile without it says so."""
    monkeypatch.setattr(profiling.shutil, "which", lambda name, path: None)
    with pytest.raises(UsageError, match="py-spy"):
        profiling._profiler()
