"""What the role machine asks for and what takes time: each is done beside, and comes back as an event.

A lost answer of the register is told as such and never guessed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from fortress.errors import FortressError
from fortress.pair import events as e
from fortress.pair.control import Control
from fortress.pair.messages import Configuration
from fortress.pair.register import Conflict, Register

PROBE_S: Final = 0.3


class Errands:
    """The register, promises on the disk, and a look whether the other node's process runs.

    Args:
        register: who is primary.
        control: this node's promises.
        peer: host and port of the other node's replication socket.
        on_event: told what came of each.
        on_swapped: told what the register took.
        on_unwritten: told why a promise could not be written.
        tell: writes an event down for people.

    Attributes:
        is_register_reachable: False after it did not answer.
    """

    def __init__(
        self,
        register: Register,
        control: Control,
        peer: tuple[str, int],
        *,
        on_event: Callable[[e.Event], None],
        on_swapped: Callable[[e.SwapRegister], None],
        on_unwritten: Callable[[str], None],
        tell: Callable[[str, dict[str, str | int]], None],
    ) -> None:
        self.is_register_reachable = True
        self._register = register
        self._control = control
        self._peer = peer
        self._on_event = on_event
        self._on_swapped = on_swapped
        self._on_unwritten = on_unwritten
        self._tell = tell
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside, until :meth:`stop`."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self, wait_s: float) -> None:
        """Wait until what is under way is done, but no longer."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=wait_s)

    async def stop(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._register.close()

    def read_register(self, _: e.ReadRegister) -> None:
        """Read the register."""
        self.start(self._ask_register(None))

    def swap_register(self, swap: e.SwapRegister) -> None:
        """Change the register."""
        self.start(self._ask_register(swap))

    async def _ask_register(self, swap: e.SwapRegister | None) -> None:
        event: e.Event = e.RegisterSilent()
        try:
            if swap is None:
                event = e.RegisterRead(await self._remembered(await self._register.get()))
            else:
                fresh = await self._register.compare_and_set(swap.expected, swap.fresh)
                event = e.RegisterSwapped(fresh)
                await self._remembered(fresh)
                self._on_swapped(swap)
            self.is_register_reachable = True
        except Conflict as conflict:
            self.is_register_reachable = True
            event = e.RegisterRefused(conflict.configuration)
        except FortressError as error:  # whatever it is, it says nothing about what the register holds
            if self.is_register_reachable:
                self._tell("register_unreachable", {"reason": error.message})
            self.is_register_reachable = False
        finally:  # the machine waits for one answer, whatever happens here
            self._on_event(event)

    async def _remembered(self, held: Configuration | None) -> Configuration | None:
        """Remember the register's own storage, and tell when it is another one than before."""
        if held is None or held.witness == self._control.witness:
            return held
        if self._control.witness:
            self._tell("register_exchanged", {"before": self._control.witness.hex(), "now": held.witness.hex()})
        await asyncio.to_thread(self._control.remember_witness, held.witness)
        return held

    def promise(self, action: e.PromiseEpoch) -> None:
        """Write a promise down."""
        self.start(self._write_promise(action.epoch))

    async def _write_promise(self, epoch: int) -> None:
        try:
            await asyncio.to_thread(self._control.promise, epoch)
        except FortressError as error:
            self._on_unwritten(error.message)
            return
        self._on_event(e.EpochPromised(epoch))

    def probe(self, _: e.ProbePeer) -> None:
        """See whether the other node's process takes connections; no answer at all says nothing."""
        self.start(self._probe())

    async def _probe(self) -> None:
        try:
            async with asyncio.timeout(PROBE_S):
                _, writer = await asyncio.open_connection(*self._peer)
        except ConnectionRefusedError:
            self._on_event(e.PeerLost(is_refused=True))
        except (OSError, TimeoutError):
            return
        else:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
