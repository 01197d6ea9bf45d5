"""Nodes that are only doors: something that answers at a folder's socket, a folder's pair, a witness that runs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fortress.cli.demo import free_port
from fortress.cli.folders import make_folder
from fortress.cli.joining import Place, make_peer, make_witness
from fortress.server.operations import Operations

START_S = 10


@contextmanager
def answering(folder: Path, **commands: Callable[..., dict[str, Any]]) -> Iterator[None]:
    """Answer these commands at the socket in a data folder, on a thread."""
    started, ended = threading.Event(), threading.Event()

    def made(function: Callable[..., dict[str, Any]]) -> Any:
        async def command() -> dict[str, Any]:
            return function()

        return command

    async def serve() -> None:
        operations = Operations(folder, {name: made(function) for name, function in commands.items()})
        await operations.start()
        started.set()
        while not ended.is_set():
            await asyncio.sleep(0.005)
        await operations.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(START_S)
    try:
        yield
    finally:
        ended.set()
        thread.join()


def make_pair(folder: Path, **settings: Any) -> tuple[Path, Path]:
    """Make the folders of both nodes of a bank, a1 and a2, on ports that are free; sites are off."""
    first, second = folder / "a1", folder / "a2"
    given: dict[str, Any] = {"server.port": free_port(), "monitor.port": 0, "pair.listen": f"127.0.0.1:{free_port()}"}
    make_folder(first, bank="a", node="node-1", administrators=[], settings={**given, **settings})
    make_peer(second, first, place=Place(port=free_port(), status_port=0, pair_port=free_port()))
    return first, second


@contextmanager
def witnessing(folder: Path, *members: Path) -> Iterator[Path]:
    """Make the witness of these nodes and run it."""
    make_witness(folder, members, place=Place(port=free_port()))
    arguments = [sys.executable, "-m", "fortress", "witness", str(folder), "--json", "--stop-at-eof"]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            assert json.loads(process.stdout.readline())["pid"] == process.pid
            yield folder
        finally:
            process.stdin.close()
            try:
                process.wait(START_S)
            finally:
                process.kill()
