"""Wrong usage that brings its own advice."""

from __future__ import annotations

from fortress.errors import UsageError


class Misuse(UsageError):
    """The program was called in a way that cannot work, and it is known what to do instead.

    Attributes:
        do: what to do, as one would say it.
    """

    def __init__(self, message: str, do: str) -> None:
        super().__init__(message)
        self.do = do
