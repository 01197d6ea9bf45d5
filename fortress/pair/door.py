"""Taking connections from a listening socket, one callback each.

A server of asyncio would keep quiet about callers whose certificate is of another authority, and ``loop.sock_accept``
loses a connection when its task is cancelled in the turn in which one came: the socket is dropped unclosed. A callback
has no such moment.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

AT_ONCE_MAX: Final = 64
"""How many callers are let in before the loop does something else."""
RETRY_S: Final = 0.5


class Door:
    """Lets in who calls at a listening socket, which it owns from now on, until it is closed.

    Args:
        listening: bound and listening.
        on_caller: given each connection, which is the callback's to close, and its address.
        on_failure: told in words why nobody can be let in for half a second, such as for want of file descriptors.
    """

    def __init__(
        self,
        listening: socket.socket,
        on_caller: Callable[[socket.socket, str], None],
        on_failure: Callable[[str], None],
    ) -> None:
        listening.setblocking(False)
        self._listening = listening
        self._on_caller = on_caller
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._retry: asyncio.TimerHandle | None = None
        self._open()

    @property
    def port(self) -> int:
        """The port it listens on."""
        found: int = self._listening.getsockname()[1]
        return found

    def close(self) -> None:
        """Let nobody in any more; a second time changes nothing."""
        if self._retry is not None:
            self._retry.cancel()
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
            self._listening.close()

    def _open(self) -> None:
        self._retry = None
        self._loop.add_reader(self._listening, self._let_in)

    def _let_in(self) -> None:
        for _ in range(AT_ONCE_MAX):
            try:
                connection, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):  # nobody, or gone again already
                return
            except OSError as error:
                self._loop.remove_reader(self._listening)
                self._retry = self._loop.call_later(RETRY_S, self._open)
                self._on_failure(str(error.strerror))
                return
            connection.setblocking(False)
            self._on_caller(connection, str(address[0]))
