"""Processes that die between any two steps: every call that changes the disk is counted, and one of them is the last.

What the process would still do while it dies (closing files, undoing) does not reach the disk either.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHANGING = ("fsync", "pwrite", "pwritev", "write", "replace", "rename", "unlink", "rmdir", "mkdir", "posix_fallocate")


class Crash(BaseException):
    """The process is dead."""


@contextmanager
def dying_at(step: int) -> Iterator[Callable[[], int]]:
    """Let the given call that changes the disk, counted from 1, and all later ones fail; gives the count so far."""
    count = 0

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count >= step:
                raise Crash
            return real(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGING:
            patch.setattr(os, name, dying(getattr(os, name)))
        yield lambda: count


def die_everywhere(begin: Callable[[int], None], act: Callable[[], object], check: Callable[[int], None]) -> int:
    """For each step of ``act``: make everything anew, die there, and check what is left; give the number of steps."""
    step = 0
    while True:
        step += 1
        begin(step)
        with dying_at(step) as counted:
            try:
                act()
            except Crash:
                pass
            else:
                assert counted() < step
                return step - 1
        check(step)
