"""A bank of two nodes and their witness, as processes of their own: on three hosts of a network, or all on loopback.

    with Network() as network, network.entered("clients"), Pair(parent, network) as pair:
        pair.wait_paired()
        pair.primary.kill()
        pair.wait_primary(other_than=...)

The folders are made as an operator makes them (``fortress init``, ``--join``, ``--witness``), the first one with a bank
that has accounts and money already.
"""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from bench import machine
from bench.bank import BANK_ID, Plan, free_port, make_folder
from fortress.client.address import Endpoint
from fortress.errors import FortressError
from fortress.server.operations import ask
from tests.e2e.node import START_S_MAX, Node, environment, run_cli, wait_until
from tests.fault.network import ADDRESSES, Network

PORTS: Final = (7611, 7612, 7613)
WITNESS_PORT: Final = 7614
PAIRED_S_MAX: Final = 60.0
NAMES: Final = {"a": "node-1", "b": "node-2"}
NOT_ANSWERING: Final[Mapping[str, Any]] = {"role": "", "state": "", "term": -1, "copies": 0}


class Member(Node):
    """One node of the pair; ends when this process ends, however that happens.

    Attributes:
        at: ``a`` or ``b``.
    """

    def __init__(
        self, host: str, folder: Path, prefix: Sequence[str], *, arguments: Sequence[str], variables: dict[str, str]
    ) -> None:
        super().__init__(folder, arguments, variables)
        self.at = host
        self._prefix = prefix

    def spawn(self) -> int:
        """Start the process on its host without waiting until it listens; give its id."""
        assert self.process is None
        self.process = spawn(self._prefix, "serve", self.folder, self._arguments, self._variables, self.log_file)
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended yet."""
        return self.process is not None and self.process.poll() is None

    def told(self) -> Mapping[str, Any]:
        """Ask the node about itself through the operator's socket; a node that does not answer has no role."""
        try:
            return ask(self.folder, "status", timeout_s=2)
        except (FortressError, OSError):
            return NOT_ANSWERING


def spawn(
    prefix: Sequence[str],
    command: str,
    folder: Path,
    arguments: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    log_file: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``fortress`` on a host, so that it ends with this process."""
    with open(log_file or folder.with_name(f"{folder.name}.log"), "ab") as log:
        return subprocess.Popen(
            [
                *machine.ends_with_parent(),
                *prefix,
                *(sys.executable, "-m", "fortress", "--json", command, str(folder), *arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment(**(variables or {})),
        )


class Witness:
    """The process of the witness."""

    def __init__(self, folder: Path, prefix: Sequence[str]) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self._prefix = prefix

    def start(self) -> Self:
        """Start it and wait until it says that it listens."""
        self.process = spawn(self._prefix, "witness", self.folder)
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], START_S_MAX)
        if not ready or not self.process.stdout.readline():
            self.kill()
            raise RuntimeError(
                f"the witness did not start:\n{self.folder.with_name(f'{self.folder.name}.log').read_text()}"
            )
        return self

    def pause(self) -> None:
        """Stop it in the middle of whatever it does (SIGSTOP)."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash does; nothing happens if it does not run."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(20)
            if self.process.stdout is not None:
                self.process.stdout.close()
            self.process = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a pair is like besides its place.

    Attributes:
        plan: of the bank.
        settings: of both nodes, by dotted key.
        disks: where the folder of ``a`` or ``b`` lies, if not beside the others.
        variables: of the process of ``a`` or ``b``.
    """

    plan: Plan = field(default_factory=lambda: Plan(accounts=256))
    settings: Mapping[str, str | int] = field(default_factory=dict)
    disks: Mapping[str, Path] = field(default_factory=dict)
    variables: Mapping[str, dict[str, str]] = field(default_factory=dict)


class Pair:
    """Two nodes and a witness; ``with`` starts them and ends them whatever happens.

    Args:
        parent: an existing folder for everything.
        network: with hosts a, b and witness; None: all on loopback.

    Attributes:
        nodes: by host, ``a`` and ``b``.
        witness: the third one.
    """

    def __init__(self, parent: Path, network: Network | None = None, layout: Layout | None = None) -> None:
        self.parent = parent
        self.network = network
        self.layout = layout = layout or Layout()
        self._ports = {host: PORTS if network else (free_port(), free_port(), free_port()) for host in NAMES}
        self._witness_port = WITNESS_PORT if network else free_port()
        folders = {host: layout.disks.get(host, parent) / host for host in NAMES}
        self.ca = folders["a"] / "certs" / "ca.crt"
        self._make_first(folders["a"])
        self.make_second(folders["a"], folders["b"])
        self.witness = Witness(parent / "witness", self._prefix("witness"))
        run(
            *("init", self.witness.folder, "--witness", "--join", folders["a"], "--join", folders["b"]),
            *("--host", self._address("witness"), "--port", self._witness_port),
        )
        self.nodes = {host: self.member(host, folders[host]) for host in NAMES}

    # --- making it --------------------------------------------------------------------------------------------------

    def _make_first(self, folder: Path) -> None:
        clients, status, records = self._ports["a"]
        settings: dict[str, str | int] = {
            "server.host": self._address("a"),
            "server.port": clients,
            "monitor.port": status,
            "pair.listen": f"{self._address('a')}:{records}",
            "log.requests": "none",
            **self.layout.settings,
        }
        make_folder(folder, replace(self.layout.plan, settings=settings))

    def make_second(self, first: Path, second: Path, *arguments: str) -> None:
        """Make the folder of the second node beside the first."""
        clients, status, records = self._ports["b"]
        run(
            *("init", second, "--join", first, "--name", NAMES["b"], "--host", self._address("b")),
            *("--port", clients, "--status-port", status, "--pair-port", records, *arguments),
        )

    def member(self, host: str, folder: Path) -> Member:
        """Give the node of a host, to be started by whoever asked."""
        variables = dict(self.layout.variables.get(host, {}))
        arguments = ("--set", f"monitor.host={self._address(host)}")
        made = Member(host, folder, self._prefix(host), arguments=arguments, variables=variables)
        made.log_file = self.parent / f"{host}.log"  # the node's disk may be taken away
        return made

    def _prefix(self, host: str) -> list[str]:
        return self.network.command(host) if self.network else []

    def _address(self, host: str) -> str:
        return ADDRESSES[host] if self.network else "127.0.0.1"

    # --- its life ---------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start all three, and wait until each node has both copies."""
        self.witness.start()
        for node in self.nodes.values():
            node.spawn()
        for node in self.nodes.values():
            node.wait_listening()
        self.wait_paired()
        return self

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.kill()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End all three as crashes do; a stopped process ends too."""
        for node in self.nodes.values():
            node.kill()
        self.witness.kill()

    def stop(self) -> dict[str, int]:
        """Stop both nodes in order, the standby first, then the witness; give what the nodes ended with."""
        primary = self.find("primary")
        order = sorted(self.nodes.values(), key=lambda node: node is primary)
        codes = {node.at: node.stop() for node in order if node.is_running}
        self.witness.kill()
        return codes

    # --- what it is like --------------------------------------------------------------------------------------------

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        """Where clients reach each node."""
        return {host: (self._address(host), ports[0]) for host, ports in self._ports.items()}

    @property
    def address(self) -> str:
        """The bank's address with both nodes, as the client library takes it."""
        return f"fortress://{','.join(f'{host}:{port}' for host, port in self.endpoints.values())}/{BANK_ID}"

    def records_endpoint(self, host: str) -> Endpoint:
        """Where a node takes the other one's records."""
        return self._address(host), self._ports[host][2]

    def find(self, role: str) -> Member | None:
        """Find the node that says it has this role; None when none or both do."""
        found = [node for node in self.nodes.values() if node.is_running and node.told()["role"] == role]
        return found[0] if len(found) == 1 else None

    @property
    def primary(self) -> Member:
        """The node that is primary, waited for."""
        return self.wait_primary()

    def other(self, node: Member) -> Member:
        """The other node."""
        return self.nodes["b" if node.at == "a" else "a"]

    def wait_primary(self, *, other_than: Member | None = None, deadline_s: float = PAIRED_S_MAX) -> Member:
        """Wait until one node, and not the one named, is primary and takes entries."""

        def found() -> Member | None:
            for node in self.nodes.values():
                if node is not other_than and node.is_running and node.told()["role"] == "primary":
                    return node
            return None

        node: Member = self._waited(found, deadline_s)
        return node

    def wait_paired(self, deadline_s: float = PAIRED_S_MAX) -> Member:
        """Wait until a primary says that there are two copies of everything, and give it."""

        def found() -> Member | None:
            node = self.find("primary")
            return node if node is not None and node.told()["copies"] == 2 else None

        node: Member = self._waited(found, deadline_s)
        return node

    def wait_equal(self, deadline_s: float = PAIRED_S_MAX) -> None:
        """Wait until both nodes, of which nothing is asked any more, have the same records and committed them."""
        primary = self.wait_paired(deadline_s)
        self._waited(lambda: primary.told()["lsn"] == self.other(primary).told()["lsn"], deadline_s)

    def _waited(self, condition: Any, deadline_s: float) -> Any:
        try:
            return wait_until(condition, deadline_s=deadline_s)
        except TimeoutError:
            raise TimeoutError(f"the pair did not come to it within {deadline_s:g} s\n{self.story()}") from None

    def story(self) -> str:
        """Tell what both nodes say, and the end of what they wrote, for whoever has to find out what went wrong."""
        parts = []
        for host, node in self.nodes.items():
            told = {
                name: node.told().get(name) for name in ("role", "state", "term", "copies", "lsn", "behind", "peer")
            }
            end = node.log().splitlines()[-12:]
            running = "runs" if node.is_running else f"ended with {node.code}"
            parts.append(f"--- {host} {running}: {json.dumps(told)}\n" + "\n".join(end))
        with suppress(OSError):
            log = self.witness.folder.with_name(f"{self.witness.folder.name}.log")
            parts.append("--- witness\n" + "\n".join(log.read_text().splitlines()[-5:]))
        return "\n".join(parts)

    # --- faults of processes ----------------------------------------------------------------------------------------

    def pause(self, node: Member) -> None:
        """Stop a process in the middle of whatever it does (SIGSTOP)."""
        node.signal(signal.SIGSTOP)

    def wake(self, node: Member) -> None:
        """Let it go on."""
        node.signal(signal.SIGCONT)

    def switch_over(self) -> Member:
        """Make the other node primary in order, as an operator does; give it."""
        primary = self.wait_paired()
        self.ask_switchover(primary)
        return self.wait_primary(other_than=primary)

    def ask_switchover(self, primary: Member) -> None:
        """Ask a primary to hand over, and wait for its answer.

        Raises:
            FortressError: it did not, or ended before it answered.
        """
        ask(primary.folder, "switchover", timeout_s=20)


def run(*arguments: str | int | Path) -> str:
    """Run the program to its end, which must be a good one; give what it printed."""
    done = run_cli(*(each if isinstance(each, Path) else str(each) for each in arguments))
    if done.returncode:
        raise RuntimeError(f"fortress {' '.join(map(str, arguments))} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout
