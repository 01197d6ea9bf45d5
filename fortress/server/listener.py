"""Listening sockets: hand each accepted connection on, survive a shortage of files.

Accepting is done here and not by the event loop's own server, which would begin TLS before anybody could say no.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any, Final

from fortress.errors import AddressInUse, Facts, SettingInvalid
from fortress.server.logs import log_event

BACKLOG: Final = 1024
ACCEPTS_PER_TURN_MAX: Final = 64
"""Connections accepted before the sessions get their turn again."""
ACCEPT_RETRY_S: Final = 0.5
"""Pause after the process or the machine ran out of files."""

_OUT_OF_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

OnAccept = Callable[[socket.socket, str], None]

logger = logging.getLogger(__name__)


class Listener:
    """Accept connections; made by `listen`.

    Args:
        sockets: bound, listening, not blocking.
        on_accept: takes each connection and the peer's address.

    Attributes:
        port: the port that is listened on, also when any free one was asked for.
    """

    def __init__(self, sockets: list[socket.socket], on_accept: OnAccept) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets
        self._on_accept = on_accept
        self._retry: asyncio.TimerHandle | None = None
        self.port: int = sockets[0].getsockname()[1]
        self._resume()

    def close(self) -> None:
        """Accept nothing more; who waits in the queue is turned away. May be repeated."""
        if self._retry is not None:
            self._retry.cancel()
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            self._loop.remove_reader(each)
            each.close()

    def _resume(self) -> None:
        for each in self._sockets:
            self._loop.add_reader(each, self._accept, each)

    def _pause(self, error: OSError) -> None:
        # without files a ready listener stays ready: the loop would spin
        log_event(logger, logging.WARNING, "accepting paused", reason=error.strerror)
        for each in self._sockets:
            self._loop.remove_reader(each)
        self._retry = self._loop.call_later(ACCEPT_RETRY_S, self._resume)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN_MAX):
            try:
                connection, peer = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _OUT_OF_FILES:
                    self._pause(error)
                    return
                continue  # the peer was gone before it was accepted
            self._on_accept(connection, str(peer[0]))


async def listen(host: str, port: int, on_accept: OnAccept) -> Listener:
    """Listen on every address of a host name.

    Args:
        host: name or address; ``0.0.0.0`` or ``::`` for all.
        port: 0 for any free one.
        on_accept: takes each connection and the peer's address.

    Raises:
        AddressInUse: something else listens there.
        SettingInvalid: this machine has no such address, or may not listen on this port.
    """
    sockets: list[socket.socket] = []
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            sockets.append(_bind(family, address))
    except OSError as exc:
        for each in sockets:
            each.close()
        facts: Facts = {"host": host, "port": port}
        if exc.errno == errno.EADDRINUSE:
            raise AddressInUse(f"the address {host}:{port} is taken", facts) from exc
        raise SettingInvalid(f"cannot listen on {host}:{port}: {exc.strerror}", facts) from exc
    return Listener(sockets, on_accept)


def _bind(family: int, address: Any) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening
