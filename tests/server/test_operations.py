"""The operator's door: only for the owner of the folder, bounded, and honest about what is not known."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fortress.errors import (
    MessageInvalid,
    MessageTooLarge,
    NoPrimary,
    OutcomeUnknown,
    UnknownOperation,
    Unreachable,
    UsageError,
)
from fortress.server import operations
from fortress.server.operations import REQUEST_BYTES_MAX, SOCKET_NAME, Operations, ask


class Node:
    """A node whose commands note that they were called.

    Attributes:
        done: what was asked, in order.
        gate: opens what ``wait`` waits for.
    """

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.gate = asyncio.Event()

    async def status(self) -> dict[str, Any]:
        return {"role": "primary", "lag": (1, None), "requests": {("pay", "ok"): 3}}

    async def move(self, *, to: str, lose: bool = False) -> dict[str, Any]:
        self.done.append((to, lose))
        return {"moved": to}

    async def refuse(self) -> dict[str, Any]:
        raise NoPrimary("nobody is", {"epoch": 7})

    async def wait(self) -> dict[str, Any]:
        self.done.append("waiting")
        await self.gate.wait()
        return {}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node()
    commands = {"status": made.status, "move": made.move, "refuse": made.refuse, "wait": made.wait}
    door = Operations(tmp_path, commands)
    await door.start()
    yield made
    await door.stop()
    await door.stop()
    assert not (tmp_path / SOCKET_NAME).exists()


async def asked(folder: Path, command: str, **more: Any) -> dict[str, Any]:
    return await asyncio.to_thread(lambda: ask(folder, command, **more))


async def raw(folder: Path, data: bytes) -> bytes:
    """Send bytes as they are; give all that comes back."""
    reader, writer = await asyncio.open_unix_connection(str(folder / SOCKET_NAME))
    writer.write(data)
    writer.write_eof()
    found = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    return found


async def test_a_command_is_answered(node: Node, tmp_path: Path) -> None:
    """With what JSON can hold; arguments go by name."""
    assert await asked(tmp_path, "status") == {"role": "primary", "lag": [1, None], "requests": {"pay:ok": 3}}
    assert await asked(tmp_path, "move", to="node-2", lose=True) == {"moved": "node-2"}
    assert node.done == [("node-2", True)]


async def test_only_the_owner_can_open_it(node: Node, tmp_path: Path) -> None:
    """By the socket's mode."""
    found = (tmp_path / SOCKET_NAME).stat()
    assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o600


async def test_a_refusal_arrives_as_it_was_raised(node: Node, tmp_path: Path) -> None:
    """Class, words and facts."""
    with pytest.raises(NoPrimary, match="nobody is") as caught:
        await asked(tmp_path, "refuse")
    assert caught.value.facts == {"epoch": 7}


async def test_what_is_not_understood_is_told_and_not_done(node: Node, tmp_path: Path) -> None:
    """Unknown commands, other arguments."""
    with pytest.raises(UnknownOperation, match="move, refuse, status, wait"):
        await asked(tmp_path, "dance")
    with pytest.raises(MessageInvalid, match="takes other arguments"):
        await asked(tmp_path, "move", where="node-2")
    assert node.done == []


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"noise\n", MessageInvalid),
        (b"[1]\n", MessageInvalid),
        (b'{"command": ["x"], "arguments": 3}\n', MessageInvalid),
        (b'{"command": "status"}', MessageTooLarge),
        (b"x" * (REQUEST_BYTES_MAX + 10) + b"\n", MessageTooLarge),
    ],
    ids=["noise", "list", "types", "cut", "long"],
)
async def test_noise_is_refused(node: Node, tmp_path: Path, line: bytes, error: Any) -> None:
    """And the node goes on."""
    answer = json.loads((await raw(tmp_path, line)).split(b"\n")[0])
    assert answer["error"]["code"] == error.code
    assert (await asked(tmp_path, "status"))["role"] == "primary"


async def test_several_requests_may_use_one_connection(node: Node, tmp_path: Path) -> None:
    """One after the other."""
    answers = (await raw(tmp_path, b'{"command": "status"}\n' * 3)).splitlines()
    assert len(answers) == 3


async def test_without_a_node_it_is_told(tmp_path: Path) -> None:
    """No socket, a socket that a killed process left, no folder."""
    with pytest.raises(Unreachable):
        ask(tmp_path, "status")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / SOCKET_NAME))
    with pytest.raises(Unreachable):
        ask(tmp_path, "status")
    with pytest.raises(Unreachable):
        ask(tmp_path / "none", "status")
    with pytest.raises(UsageError, match="no socket"):
        await Operations(tmp_path / "none", {}).start()


async def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    """As after kill -9; nothing else stays in the folder."""
    for _ in range(2):
        door = Operations(tmp_path, {"status": Node().status})
        await door.start()
        assert (await asked(tmp_path, "status"))["role"] == "primary"
        assert door._server is not None
        door._server.close()
    assert os.listdir(tmp_path) == [SOCKET_NAME]


async def test_a_long_path_is_no_hindrance(tmp_path: Path) -> None:
    """An address of a socket is shorter than many a path."""
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    door = Operations(deep, {"status": Node().status})
    await door.start()
    assert (await asked(deep, "status"))["role"] == "primary"
    await door.stop()


async def test_no_answer_is_an_unknown_outcome(node: Node, tmp_path: Path) -> None:
    """In time, or at all: it may have been done."""
    with pytest.raises(OutcomeUnknown, match="within"):
        await asked(tmp_path, "wait", timeout_s=0.05)
    assert node.done == ["waiting"]
    node.gate.set()


async def test_a_node_that_ends_cuts_off_who_waits(tmp_path: Path) -> None:
    """They are not left waiting."""
    node = Node()
    door = Operations(tmp_path, {"wait": node.wait})
    await door.start()
    waiting = asyncio.create_task(asked(tmp_path, "wait"))
    async with asyncio.timeout(10):
        while not node.done:
            await asyncio.sleep(0.001)
    await door.stop()
    with pytest.raises(OutcomeUnknown):
        await waiting
    node.gate.set()


async def test_there_is_room_for_some(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One over the limit is closed at once; one that says nothing is closed after a while."""
    monkeypatch.setattr(operations, "CONNECTIONS_MAX", 1)
    monkeypatch.setattr(operations, "REQUEST_S_MAX", 0.05)
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / SOCKET_NAME))
    assert await raw(tmp_path, b"") == b""
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()
    await writer.wait_closed()
