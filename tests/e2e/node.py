"""A node as a process of its own, started as anybody starts it, and what tests do to it: ask, signal, kill, restart."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.request import urlopen

from bench.bank import BANK_ID, numbers_of, seed_of
from fortress.client.client import connect
from fortress.client.link import Link, open_link
from fortress.client.me import Me
from fortress.client.trust import Trust
from fortress.protocol import schnorr
from fortress.protocol.sessions import LoginBegin, LoginFinish

ROOT = Path(__file__).resolve().parent.parent.parent
START_S_MAX = 60.0
STOP_S_MAX = 30.0
COMMAND_S_MAX = 60.0
CURRENCY = "EUR"

__all__ = ["BANK_ID", "CURRENCY", "Node", "environment", "numbers_of", "run_cli", "seed_of"]


def environment(**more: str) -> dict[str, str]:
    """Give the variables of a process of ours: this checkout's code, and none of Fortress's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FORTRESS_")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **more}


def run_cli(*arguments: str | Path, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    return subprocess.run(
        [sys.executable, "-m", "fortress", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        env=environment(**variables),
        timeout=COMMAND_S_MAX,
    )


class Node:
    """``fortress serve`` on one folder; ``with Node(folder) as node`` starts it and ends it whatever happens.

    Args:
        folder: the node's folder.
        arguments: further ones of ``serve``.

    Attributes:
        process: the node, while it runs.
        code: what it ended with last.
        host, port, bank: where it listens, as it said itself.
    """

    def __init__(self, folder: Path, arguments: Sequence[str] = (), variables: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.ca = folder / "certs" / "ca.crt"
        self.log_file = folder.with_name(f"{folder.name}.log")
        self.process: subprocess.Popen[bytes] | None = None
        self.code: int | None = None
        self.host, self.port, self.bank, self.status_url = "", 0, "", ""
        self._arguments = arguments
        self._variables = variables or {}

    # --- its life ---------------------------------------------------------------------------------------------------

    def spawn(self) -> int:
        """Start the process without waiting until it listens; give its id."""
        assert self.process is None
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fortress", "--json", "serve", str(self.folder), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(**self._variables),
            )
        return self.process.pid

    def start(self) -> Self:
        """Start it and wait until it says that it listens."""
        self.spawn()
        return self.wait_listening()

    def wait_listening(self) -> Self:
        """Wait until it says where it listens."""
        assert self.process is not None and self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], START_S_MAX)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            self.kill()
            raise RuntimeError(f"the node did not start, it ended with {self.code}:\n{self.log()}")
        told = json.loads(line)
        endpoint, _, self.bank = told["address"].partition("/")
        self.host, _, port = endpoint.rpartition(":")
        self.port, self.status_url = int(port), told["status"]
        return self

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, timeout_s: float = STOP_S_MAX) -> int:
        """Wait for its end and give what it ended with."""
        assert self.process is not None
        self.code = self.process.wait(timeout_s)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None
        return self.code

    def kill(self) -> None:
        """End it as a crash does; nothing happens if it has ended."""
        if self.process is not None:
            self.process.kill()
            self.wait()

    def stop(self) -> int:
        """End it in order and give what it ended with."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is None:
            return
        try:
            if kind is None:
                assert self.stop() == 0, self.log()
        finally:
            self.kill()

    # --- what it tells ----------------------------------------------------------------------------------------------

    def log(self) -> str:
        """Give what it wrote on standard error, over all its lives."""
        return self.log_file.read_text("utf-8", "replace") if self.log_file.exists() else ""

    def page(self, path: str) -> str:
        """Ask its monitoring site."""
        with urlopen(f"{self.status_url}{path}", timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    def status(self) -> dict[str, Any]:
        """Ask for /status."""
        document: dict[str, Any] = json.loads(self.page("/status"))
        return document

    # --- talking to it ----------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Its address as the client library takes it."""
        return f"fortress://{self.host}:{self.port}/{self.bank}"

    @asynccontextmanager
    async def session(self, username: str, password: str = "", **options: Any) -> AsyncIterator[Me]:
        """Sign in through the client library: with a password, or with the seed of a prepared bank."""
        async with connect(self.address, ca=self.ca, **{"deadline_s": 10.0, **options}) as bank:
            if password:
                yield await bank.login(username, password)
            else:
                yield await bank.login_with_seed(username, seed_of(username))

    async def link(self, username: str = "", *, timeout_s: float = 10.0) -> Link:
        """Open one bare connection, signed in if somebody is named; the caller closes it."""
        link = await open_link((self.host, self.port), self.bank, Trust(self.ca), timeout_s=timeout_s)
        if username:
            await sign_in(link, self.bank, username)
        return link


async def sign_in(link: Link, bank: str, username: str) -> None:
    """Log a connection in with the seed of a prepared bank."""
    secret = schnorr.secret_from_seed(seed_of(username))
    public = schnorr.public_key(secret)
    r, commitment = schnorr.commit(os.urandom(64))
    asked = await link.request("login_begin", LoginBegin(username, commitment), 20)
    c = schnorr.challenge(link.handshake_hash, bank, username, public, commitment, asked.nonce)
    await link.request("login_finish", LoginFinish(schnorr.prove(secret, r, c)), 20)
    link.login_done()


def wait_until(condition: Any, *, deadline_s: float = 20.0, step_s: float = 0.02) -> Any:
    """Ask again and again until the answer is true, and give it; what is asked lives in another process.

    Raises:
        TimeoutError: it never was.
    """
    deadline = time.monotonic() + deadline_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not come")
        time.sleep(step_s)
    return found
