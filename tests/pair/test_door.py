"""Whoever calls is let in once, nothing is lost when the door closes, and a failure is told and tried again."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator

import pytest

from fortress.pair import door
from fortress.pair.door import Door
from tests.pair.nodes import until

HOST = "127.0.0.1"


@pytest.fixture
def callers() -> Iterator[Callable[[int], socket.socket]]:
    """Makes connections to a port; all are closed at the end."""
    made: list[socket.socket] = []

    def call(port: int) -> socket.socket:
        made.append(socket.create_connection((HOST, port), timeout=5))
        return made[-1]

    yield call
    for each in made:
        each.close()


async def test_callers_are_let_in_one_by_one_with_their_address(callers: Callable[[int], socket.socket]) -> None:
    """More of them than are let in at once come in all the same."""
    count = door.AT_ONCE_MAX + 3
    came: list[tuple[socket.socket, str]] = []
    opened = Door(
        socket.create_server((HOST, 0), backlog=count), lambda *caller: came.append(caller), lambda reason: None
    )
    for _ in range(count):
        callers(opened.port)
    await until(lambda: len(came) == count)
    assert {address for _, address in came} == {HOST}
    assert not any(connection.getblocking() for connection, _ in came)
    port = opened.port
    opened.close()
    opened.close()
    for connection, _ in came:
        connection.close()
    with pytest.raises(ConnectionRefusedError):
        callers(port)


async def test_want_of_descriptors_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, callers: Callable[[int], socket.socket]
) -> None:
    """Who called meanwhile waits, and is let in later; a caller that was gone already is nobody's failure."""
    monkeypatch.setattr(door, "RETRY_S", 0.01)
    accept = socket.socket.accept
    errors = [OSError(errno.EMFILE, "Too many open files"), ConnectionAbortedError()]

    def failing(listening: socket.socket) -> tuple[socket.socket, object]:
        if errors:
            raise errors.pop(0)
        return accept(listening)

    monkeypatch.setattr(socket.socket, "accept", failing)
    came: list[socket.socket] = []
    reasons: list[str] = []
    opened = Door(socket.create_server((HOST, 0)), lambda connection, _: came.append(connection), reasons.append)
    callers(opened.port)
    await until(lambda: came)
    assert reasons == ["Too many open files"]
    opened.close()
    came[0].close()


async def test_a_door_closed_while_it_waits_stays_closed(
    monkeypatch: pytest.MonkeyPatch, callers: Callable[[int], socket.socket]
) -> None:
    """The next try does not come any more."""

    def failing(listening: socket.socket) -> tuple[socket.socket, object]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket.socket, "accept", failing)
    reasons: list[str] = []
    opened = Door(socket.create_server((HOST, 0)), lambda connection, _: connection.close(), reasons.append)
    callers(opened.port)
    await until(lambda: reasons)
    opened.close()
    assert opened._retry is not None and opened._retry.cancelled()
    await asyncio.sleep(0)
