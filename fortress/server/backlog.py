"""Commands that are taken and not judged yet: what they name must be read first, or too much is under way already.

Order is kept: a command that must wait makes all behind it wait. What they lack is read from the tables together, for
about as many commands as one record holds, and once more for what only that reading shows to be lacking.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final

from fortress.errors import Busy, LedgerError
from fortress.ledger.commands import Command, MoveBatch, MoveMoney
from fortress.ledger.engine import Engine
from fortress.ledger.state import Wanted

ROWS_PER_PLACE: Final = 4
"""Rows of a waiting batch that take up as much memory as one waiting command."""

Answered = Callable[[Any], None]
"""Told a Verdict (a batch: a list of them) or a FortressError."""


class Backlog:
    """The commands that wait, in their order.

    Args:
        engine: knows what memory lacks, and has the tables.
        readers: threads for reading them.
        places_max: how much may wait; a command takes one place, a batch one more for every four rows.
        together_max: places that are read for in one go.
        on_loaded: called when what was lacking has been read; judging goes on then.
        on_fatal: told why the tables cannot be read.

    Attributes:
        commands: with who is to be told; look, and change them only through the methods.
    """

    def __init__(
        self,
        engine: Engine,
        readers: Executor,
        *,
        places_max: int,
        together_max: int,
        on_loaded: Callable[[], None],
        on_fatal: Callable[[LedgerError], None],
    ) -> None:
        self.commands: deque[tuple[Command, Answered]] = deque()
        self._engine = engine
        self._readers = readers
        self._places_max = places_max
        self._together_max = together_max
        self._on_loaded = on_loaded
        self._on_fatal = on_fatal
        self._loop = asyncio.get_running_loop()
        self._places = 0
        self._is_loading = False

    def add(self, command: Command, answered: Answered) -> None:
        """Put a command at the end.

        Raises:
            Busy: too much waits already.
        """
        if self._places >= self._places_max:
            raise Busy(f"{len(self.commands)} commands wait already", {"queue_max": self._places_max})
        self.commands.append((command, answered))
        self._places += _places_of(command)

    def lacks(self, command: Command) -> Wanted | None:
        """Tell what must be read before a command can be judged; None when nothing is lacking."""
        state = self._engine.state
        if type(command) is MoveMoney and not state.lacks_move(command.id, command.debit, command.credit):
            return None
        return state.missing_for_batch(command.rows) if type(command) is MoveBatch else state.missing(command)

    def next(self) -> tuple[Command, Answered] | None:
        """Take the first command off; None when none waits or something must be read for it, which is begun then."""
        if not self.commands:
            return None
        command, answered = self.commands[0]
        if self.lacks(command) is not None:
            self._load()
            return None
        self.commands.popleft()
        self._places -= _places_of(command)
        return command, answered

    def clear(self) -> list[Answered]:
        """Forget all that waits; give who must be told."""
        answered = [answered for _, answered in self.commands]
        self.commands.clear()
        self._places = 0
        return answered

    def _load(self) -> None:
        if self._is_loading:
            return
        wanted = Wanted(self._engine.state.turns())
        places = 0
        for command, _ in self.commands:
            more = self.lacks(command)
            if more is not None:
                wanted.merged(more)
            places += _places_of(command)
            if places >= self._together_max:
                break
        self._is_loading = True
        task = self._loop.run_in_executor(self._readers, self._engine.store.load, wanted)

        def loaded(done: asyncio.Future[Any]) -> None:
            self._is_loading = False
            error = done.exception()
            if error is None:
                self._engine.state.fill(wanted, done.result())
                self._on_loaded()
            else:
                reason = f"reading the tables failed: {error}"
                self._on_fatal(error if isinstance(error, LedgerError) else LedgerError(reason))

        task.add_done_callback(loaded)


def _places_of(command: Command) -> int:
    return 1 + len(command.rows) // ROWS_PER_PLACE if type(command) is MoveBatch else 1
