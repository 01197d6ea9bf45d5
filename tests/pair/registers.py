"""Registers as real processes for tests: the witness and etcd, started, killed, restored, cut off from their nodes."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from fortress import authority
from fortress.cli.demo import free_port
from fortress.config import settings_file
from fortress.pair.change import FIRST_EPOCH
from fortress.pair.etcd_register import EtcdRegister
from fortress.pair.link import dialing_context
from fortress.pair.messages import Configuration, Member
from fortress.pair.register import Register
from fortress.pair.witness_register import WitnessRegister

BANK: Final = "a"
CLUSTER: Final = b"pair of bank a"
FIRST: Final = Member("node-1", b"1" * 16)
SECOND: Final = Member("node-2", b"2" * 16)
PATIENT_S: Final = 20.0
"""Deadline of a question where the test is not about deadlines: this machine may be busy."""

Promised = Callable[[], int]


def configuration(epoch: int = FIRST_EPOCH, primary: Member = FIRST, *, is_paired: bool = False) -> Configuration:
    """Make one that registers take."""
    return Configuration(epoch, primary, (FIRST, SECOND) if is_paired else (primary,))


def make_certificates(folder: Path, bank: str = BANK) -> Path:
    """Make an authority, and a node's and a bank's certificate of it."""
    authority.make_authority(folder, bank)
    authority.issue(folder, authority.Kind.node, bank=bank)
    authority.issue(folder, authority.Kind.bank, bank=bank)
    return folder


def dialing(certificates: Path, name: str = "node") -> ssl.SSLContext:
    """Make what a node dials with."""
    return dialing_context(certificates / f"{name}.crt", certificates / f"{name}.key", certificates / "ca.crt")


def promised_nothing() -> int:
    """Tell what a new node has promised."""
    return 0


class Backend(ABC):
    """A register's process with its storage.

    Attributes:
        storage: file or folder with all that it keeps.
        exchanges: questions that one change asks.
        cluster: pair that its clients ask for.
    """

    storage: Path
    exchanges: int
    cluster: bytes = CLUSTER
    _process: subprocess.Popen[str] | None = None

    @property
    @abstractmethod
    def port(self) -> int:
        """The port that it listens on."""

    @abstractmethod
    def start(self) -> None:
        """Start it, and wait until it answers."""

    @abstractmethod
    def register(self, *, promised: Promised = promised_nothing, port: int = 0, deadline_s: float = PATIENT_S) -> Any:
        """Make a client; by another port, for a proxy."""

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it in order, and give its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            process.communicate(timeout=20)
        finally:
            process.kill()
        return process.returncode

    def copy_storage(self, to: Path) -> None:
        """Keep a copy, as a backup would; while it is stopped."""
        (shutil.copytree if self.storage.is_dir() else shutil.copy2)(self.storage, to)

    def restore_storage(self, source: Path) -> None:
        """Put a copy back, as one never should; while it is stopped."""
        self.lose_storage()
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, self.storage)

    def lose_storage(self) -> None:
        """Delete everything; while it is stopped."""
        if self.storage.is_dir():
            shutil.rmtree(self.storage)
        else:
            self.storage.unlink()


class WitnessBackend(Backend):
    """``fortress witness`` on a folder."""

    exchanges = 1

    def __init__(self, folder: Path, certificates: Path) -> None:
        self.folder = folder
        self._certificates = certificates
        self._port = free_port()
        folder.mkdir(exist_ok=True)
        shutil.copytree(certificates, folder / "certs")
        (folder / "fortress.toml").write_text(settings_file({"witness.listen": f"127.0.0.1:{self._port}"}))
        self.storage = folder / "register"

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._port

    def start(self) -> None:
        """Start it; it tells when it listens."""
        arguments = [sys.executable, "-m", "fortress", "witness", str(self.folder), "--json"]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._process.stdout is not None and self._process.stderr is not None
        line = self._process.stdout.readline()
        assert line, self._process.stderr.read()
        assert json.loads(line)["pid"] == self.pid

    def register(self, *, promised: Promised = promised_nothing, port: int = 0, deadline_s: float = PATIENT_S) -> Any:
        """Make a client."""
        address = f"127.0.0.1:{port or self.port}"
        return WitnessRegister(
            address, dialing(self._certificates), self.cluster, promised=promised, deadline_s=deadline_s
        )


class EtcdBackend(Backend):
    """Debian's etcd, one member on loopback.

    Args:
        folder: for its data.
        more: further flags.
        certificates: for TLS on the clients' side; without them it speaks plain HTTP.
    """

    exchanges = 2

    def __init__(self, folder: Path, *more: str, certificates: Path | None = None) -> None:
        self.storage = folder / "etcd"
        self._more = more
        self._certificates = certificates
        self._port, self._peer_port = free_port(), free_port()
        folder.mkdir(exist_ok=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._port

    def url(self, port: int = 0) -> str:
        """Give the address for clients."""
        return f"{'https' if self._certificates else 'http'}://127.0.0.1:{port or self.port}"

    def start(self) -> None:
        """Start it, and wait until it has elected itself."""
        peer = f"http://127.0.0.1:{self._peer_port}"
        flags = {
            "--name": "one",
            "--data-dir": self.storage,
            "--listen-client-urls": self.url(),
            "--advertise-client-urls": self.url(),
            "--listen-peer-urls": peer,
            "--initial-advertise-peer-urls": peer,
            "--initial-cluster": f"one={peer}",
            "--log-level": "error",
            "--heartbeat-interval": "10",
            "--election-timeout": "100",
        }
        if self._certificates:
            names = {"--trusted-ca-file": "ca.crt", "--cert-file": "node.crt", "--key-file": "node.key"}
            flags |= {flag: self._certificates / name for flag, name in names.items()}
            flags["--client-cert-auth"] = "true"
        arguments = [f"{flag}={value}" for flag, value in flags.items()]
        # its own words go nowhere: a pipe that nobody reads would stop it
        self._process = subprocess.Popen(
            ["etcd", *arguments, *self._more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
        )
        wait_until(self._is_answering)

    def _is_answering(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "etcd has ended"
        tls = dialing(self._certificates) if self._certificates else None
        ask = urllib.request.Request(f"{self.url()}/v3/kv/range", data=b'{"key": "eA=="}', method="POST")
        try:
            with urllib.request.urlopen(ask, timeout=2, context=tls) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def register(self, *, promised: Promised = promised_nothing, port: int = 0, deadline_s: float = PATIENT_S) -> Any:
        """Make a client."""
        tls = dialing(self._certificates) if self._certificates else None
        return EtcdRegister([self.url(port)], tls, self.cluster, promised=promised, deadline_s=deadline_s)


def wait_until(condition: Callable[[], bool], deadline_s: float = 20.0) -> None:
    """Wait for something outside of this process."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


class Proxy:
    """Stands between a client and a register, and can do something at the n-th message that passes.

    Args:
        port: of the register.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._at_question: Callable[[], None] | None = None
        self._at_answer: Callable[[], None] | None = None
        self._left = 0
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    def on_question(self, count: int, act: Callable[[], None]) -> None:
        """At the ``count``-th question from now: act, and do not pass it on."""
        self._left, self._at_question, self._at_answer = count, act, None

    def on_answer(self, count: int, act: Callable[[], None]) -> None:
        """At the ``count``-th answer from now: act, and do not pass it on."""
        self._left, self._at_answer, self._at_question = count, act, None

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.append(back)
        ways = (
            asyncio.ensure_future(self._pump(reader, back, lambda: self._at_question)),
            asyncio.ensure_future(self._pump(there, writer, lambda: self._at_answer)),
        )
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            back.transport.abort()
            writer.transport.abort()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, act: Callable[[], Callable[[], None] | None]
    ) -> None:
        while data := await source.read(65536):
            if (doing := act()) is not None:
                self._left -= 1
                if self._left == 0:
                    self._at_question = self._at_answer = None
                    doing()
                    return
            sink.write(data)
            with suppress(OSError):
                await sink.drain()


async def close_all(registers: Iterable[Register]) -> None:
    """Close several clients."""
    for register in registers:
        await register.close()
