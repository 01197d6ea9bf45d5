"""One thread that does one thing after another for an event loop.

Cheaper than a thread pool for a steady stream of single jobs (no future objects, no pool lock): the job's result
goes back to the loop with one ``call_soon_threadsafe``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

Done = Callable[[Any, BaseException | None], None]
Job = tuple[Callable[..., Any], tuple[Any, ...], Done]


class Worker:
    """A named thread with a queue; ``done(result, error)`` of each job is called on the loop, in order."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, function: Callable[..., Any], *arguments: Any, done: Done) -> None:
        """Have ``function(*arguments)`` called on the thread."""
        self._jobs.put((function, arguments, done))

    def close(self) -> None:
        """Finish what is queued, then end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, arguments, done = job
            try:
                result, error = function(*arguments), None
            except BaseException as raised:  # handed to the loop, which decides
                result, error = None, raised
            try:
                self._loop.call_soon_threadsafe(done, result, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            del job, function, arguments, done, result, error  # not held while nothing is to do
