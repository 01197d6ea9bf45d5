"""The processes of a demo: each serves one folder, and is started again a while after somebody killed it.

A child ends by itself when its standard input is closed, so none outlives the demo, however that ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from fortress.cli.chaos import mark
from fortress.errors import Unreachable

START_S_MAX: Final = 60.0
STOP_S_MAX: Final = 20.0
RESTART_S: Final = 5.0
"""How long a killed child stays away: long enough to watch the other one take over."""


class Child:
    """One process, kept running from :meth:`start` to :meth:`stop`.

    Args:
        name: for people.
        command: of the program: serve or witness.
        folder: that it serves.
        log: where its standard error goes.
        say: tells people what happens.

    Attributes:
        told: the line of JSON that it printed when it was ready.
    """

    def __init__(self, name: str, command: str, folder: Path, log: Path, say: Callable[[str], None]) -> None:
        self.name = name
        self.folder = folder
        self.told: dict[str, Any] = {}
        self._command = command
        self._log = log
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            Unreachable: it did not become ready; the message ends with what it said.
        """
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """End it in order; it may be gone already."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), STOP_S_MAX)
        except TimeoutError:
            process.kill()  # stopped by a signal, it does not see that its input was closed
            await process.wait()

    async def _spawn(self) -> None:
        with open(self._log, "ab") as log:
            self._process = process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "fortress", "--json", self._command, str(self.folder.absolute())),
                "--stop-at-eof",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends its children in order
            )
        mark(self.folder, process.pid)
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), START_S_MAX)
            self.told = json.loads(line)
        except (TimeoutError, ValueError) as exc:
            log_text = self._log.read_text("utf-8", "replace")
            raise Unreachable(f"{self.name} of the demo did not start: {log_text[-500:].strip()}") from exc

    async def _keep(self) -> None:
        """Start it again when it has gone, after a while."""
        while self._process is not None:
            code = await self._process.wait()
            self._say(f"{self.name} has ended ({code}); it starts again in {RESTART_S:g} s")
            await asyncio.sleep(RESTART_S)
            try:
                await self._spawn()
            except Unreachable as error:
                self._say(error.message)
                if self._process.returncode is None:
                    self._process.kill()
            else:
                self._say(f"{self.name} is back")
