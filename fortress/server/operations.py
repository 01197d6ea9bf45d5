"""The operator's door of a running node: a socket in its data folder that only the folder's owner can open.

Lines of JSON, one request and one answer at a time::

    {"command": "switchover", "arguments": {}}
    {"answer": {...}}    or    {"error": {"code": 3009, "message": "...", "facts": {...}}}

What a node can be asked is a table of names and functions, which whoever starts it hands in. A node is asked by `ask`,
from another process on the same machine. Nothing comes in over a network: whoever can open the socket owns the data.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from fortress.errors import (
    FortressError,
    MessageInvalid,
    MessageTooLarge,
    OutcomeUnknown,
    UnknownOperation,
    Unreachable,
    UsageError,
    error_from_wire,
)

SOCKET_NAME: Final = "operator.sock"
SOCKET_MODE: Final = 0o600
REQUEST_BYTES_MAX: Final = 64 * 1024
ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024
CONNECTIONS_MAX: Final = 16
REQUEST_S_MAX: Final = 30.0
"""Longest silence of an operator before the connection is closed."""
ASK_S_DEFAULT: Final = 15.0

Answer = Mapping[str, Any]
Command = Callable[..., Awaitable[Answer]]


class Operations:
    """The socket of one node.

    Args:
        folder: the node's data folder.
        commands: what can be asked: a name and a function of keyword arguments, which gives what JSON can hold and may
            raise any `FortressError`.
    """

    def __init__(self, folder: Path, commands: Mapping[str, Command]) -> None:
        self._folder = folder
        self._commands = dict(commands)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Take commands; a socket that a killed process left behind is replaced.

        Raises:
            UsageError: no socket can be made in the folder.
        """
        try:
            listener = _listen(self._folder)
        except OSError as exc:
            raise UsageError(f"no socket can be made in {str(self._folder)!r}: {exc.strerror}") from exc
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=REQUEST_BYTES_MAX)

    async def stop(self) -> None:
        """Take no more commands; what is under way is cut off."""
        if self._server is None:
            return
        (self._folder / SOCKET_NAME).unlink(missing_ok=True)
        self._server.close()
        self._server = None
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._open.add(writer)
        try:
            while line := await _line(reader):
                writer.write(json.dumps(await self._answer(line), ensure_ascii=False).encode() + b"\n")
                await writer.drain()
        except (OSError, TimeoutError):
            pass  # the operator has gone, or says nothing
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            command, arguments = self._understood(line)
            return {"answer": plain(await command(**arguments))}
        except FortressError as error:
            return {"error": {"code": error.code, "message": error.message, "facts": error.facts}}

    def _understood(self, line: bytes) -> tuple[Command, dict[str, Any]]:
        if not line.endswith(b"\n"):
            raise MessageTooLarge(f"a request has at most {REQUEST_BYTES_MAX} bytes and ends with a line feed")
        try:
            request = json.loads(line)
            name, arguments = request["command"], dict(request.get("arguments") or {})
            command = self._commands.get(str(name))
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            raise MessageInvalid("a request is a line of JSON with a command and its arguments") from exc
        if command is None:
            known = ", ".join(sorted(self._commands))
            raise UnknownOperation(f"this node knows no command {name!r}, only {known}", {"command": str(name)})
        try:
            inspect.signature(command).bind(**arguments)
        except TypeError as exc:
            raise MessageInvalid(f"{name!r} takes other arguments: {exc}") from exc
        return command, arguments


def ask(folder: Path, command: str, *, timeout_s: float = ASK_S_DEFAULT, **arguments: Any) -> dict[str, Any]:
    """Ask the node that serves a data folder; blocks until it has answered.

    Args:
        folder: the node's data folder.
        command: one of the node's.
        timeout_s: longest wait for the answer.
        arguments: of the command.

    Raises:
        Unreachable: no node serves the folder.
        OutcomeUnknown: it did not answer in time, or ended meanwhile; whether it did what was asked is not known.
        FortressError: whatever the node refuses with.
    """
    request = json.dumps({"command": command, "arguments": arguments}).encode() + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            _in_folder(folder, connection.connect, SOCKET_NAME)
        except OSError as exc:
            raise Unreachable(f"no node serves {str(folder)!r}", {"folder": str(folder)}) from exc
        try:
            connection.sendall(request)
            with connection.makefile("rb") as answers:
                line = answers.readline(ANSWER_BYTES_MAX)
        except OSError as exc:
            raise OutcomeUnknown(f"the node did not answer {command!r} within {timeout_s:g} s") from exc
    if not line.endswith(b"\n"):
        raise OutcomeUnknown(f"the node ended before it answered {command!r}")
    said = json.loads(line)
    if "error" in said:
        error = said["error"]
        raise error_from_wire(int(error["code"]), str(error["message"]), error["facts"])
    answer: dict[str, Any] = said["answer"]
    return answer


def plain(value: Any) -> Any:
    """Turn a snapshot into what JSON can hold: tuples as lists, a key of several parts with colons between them."""
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else ":".join(map(str, key)): plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


async def _line(reader: asyncio.StreamReader) -> bytes:
    """Give the next line; without its line feed if it is too long or the stream ends."""
    try:
        return await asyncio.wait_for(reader.readuntil(b"\n"), REQUEST_S_MAX)
    except asyncio.IncompleteReadError as exc:
        return exc.partial
    except asyncio.LimitOverrunError:
        return await reader.read(REQUEST_BYTES_MAX)


def _listen(folder: Path) -> socket.socket:
    """Make the socket under another name and rename it: nobody sees it open to others, and an old one is replaced."""
    beside = f".{SOCKET_NAME}.{secrets.token_hex(4)}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _in_folder(folder, listener.bind, beside)
        os.chmod(folder / beside, SOCKET_MODE)
        os.rename(folder / beside, folder / SOCKET_NAME)
    except OSError:
        listener.close()
        with suppress(OSError):
            (folder / beside).unlink()
        raise
    return listener


def _in_folder(folder: Path, act: Callable[[str], None], name: str) -> None:
    """Bind or connect by a short path: an address of a socket holds 107 bytes, which many a folder's path exceeds."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        act(f"/proc/self/fd/{descriptor}/{name}")
    finally:
        os.close(descriptor)
