"""Two banks and a gateway as processes of their own on loopback, each of which can be made to end at a named point.

    with Clearing(parent) as clearing:
        await clearing.admit()
        clearing.parties["gateway"].arm("decision durable", 20)

Each is one node, or two of them with one witness for all. The folders are made as an operator makes them, the banks
with customers and money already; the gateway's administrator lets the banks in.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

from bench import machine
from bench.bank import ACCOUNTS_PER_CUSTOMER, ADMINISTRATOR, CURRENCY, Plan, free_port, make_folder, numbers_of
from fortress.cli.gateways import connect_bank, gateway_of
from fortress.client.ids import new_id
from fortress.client.link import Link
from fortress.errors import FortressError
from fortress.protocol.switching import AddBank, ListBanks
from fortress.server.operations import ask
from tests.e2e.node import Node, environment, wait_until
from tests.fault.pair import NOT_ANSWERING, Witness, run

LOOPBACK: Final = "127.0.0.1"
BANKS: Final = ("a", "b")
GATEWAY: Final = "gateway"
PARTIES: Final = (*BANKS, GATEWAY)
OPENING_MINOR: Final = 10_000_000
CAP_MINOR: Final = 5_000_000
WAIT_MS: Final = 2_000
DEADLINE_MS: Final = 5_000
SEGMENT_BYTES: Final = 4 * 1024 * 1024
CONNECTED_S_MAX: Final = 30.0
WHOLE_S_MAX: Final = 90.0
REQUEST_S: Final = 20.0


class Party(Node):
    """One node, with the look-out of :mod:`tests.fault.points`; ends when this process ends."""

    def __init__(self, folder: Path) -> None:
        self.trap = folder.with_name(f"{folder.name}.trap")
        super().__init__(folder, variables={"KILL_FILE": str(self.trap)})

    def spawn(self) -> int:
        """Start the process without waiting until it listens; give its id."""
        assert self.process is None
        self.trap.unlink(missing_ok=True)
        program = (sys.executable, "-m", "tests.fault.points", "--json", "serve", str(self.folder))
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                [*machine.ends_with_parent(), *program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(**self._variables),
            )
        return self.process.pid

    def arm(self, point: str, times: int) -> None:
        """Let it end at a point, once that was reached so often."""
        made = self.trap.with_suffix(".new")
        made.write_text(f"{point}\n{times}", encoding="utf-8")
        os.replace(made, self.trap)

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self.process is None or self.process.poll() is not None

    def told(self) -> Mapping[str, Any]:
        """Ask the node about itself through the operator's socket; a node that does not answer has no role."""
        try:
            return ask(self.folder, "status", timeout_s=2)
        except (FortressError, OSError):
            return NOT_ANSWERING


class Clearing:
    """All of them; ``with`` starts them and ends them whatever happens.

    Args:
        parent: an empty folder, on a real disk.
        accounts: of each bank, all of one customer.
        settings: of all nodes, by dotted key.
        is_paired: whether each of the three is a pair.

    Attributes:
        nodes: of each of the three.
        numbers: the account numbers, the same at both banks.
    """

    def __init__(
        self,
        parent: Path,
        *,
        accounts: int = ACCOUNTS_PER_CUSTOMER,
        settings: Mapping[str, str | int] = MappingProxyType({}),
        is_paired: bool = False,
    ) -> None:
        self.numbers = numbers_of(accounts)
        common: dict[str, str | int] = {"ledger.segment_bytes": SEGMENT_BYTES, "monitor.port": 0, **settings}
        switch = {"switch.listen": f"{LOOPBACK}:{free_port()}", "switch.deadline_ms": DEADLINE_MS}
        plans = {GATEWAY: Plan(accounts=0, bank=GATEWAY, settings={**common, **switch})}
        for bank in BANKS:
            own = {**common, "gateway.wait_ms": WAIT_MS}
            plans[bank] = Plan(accounts=accounts, bank=bank, opening_minor=OPENING_MINOR, settings=own)
        self.nodes: dict[str, list[Party]] = {}
        for name, plan in plans.items():
            folders = _make_party(parent / name, plan, is_paired=is_paired)
            if name in BANKS:
                connect_bank(folders, gateway_of([node.folder for node in self.nodes[GATEWAY]]))
            self.nodes[name] = [Party(folder) for folder in folders]
        self.witness: Witness | None = None
        if is_paired:
            self.witness = Witness(parent / "witness", [])
            joined = [part for node in self.all for part in ("--join", node.folder)]
            run("init", self.witness.folder, "--witness", *joined, "--host", LOOPBACK, "--port", free_port())

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def all(self) -> list[Party]:
        """Every node."""
        return [node for nodes in self.nodes.values() for node in nodes]

    @property
    def parties(self) -> dict[str, Party]:
        """The node of each of the three that is primary, or of those that do not know it the first."""
        return {name: self.primary(name) or nodes[0] for name, nodes in self.nodes.items()}

    def primary(self, name: str) -> Party | None:
        """Find the node that is primary; a node alone is, whatever happens."""
        nodes = self.nodes[name]
        if len(nodes) == 1:
            return nodes[0]
        return next((node for node in nodes if not node.has_ended and node.told()["role"] == "primary"), None)

    # --- their lives ------------------------------------------------------------------------------------------------
    def spawn(self) -> list[Party]:
        """Start all that do not run; by this thread, for a process ends with the thread that began it."""
        if self.witness is not None and self.witness.process is None:
            self.witness.start()
        spawned = [node for node in self.all if node.has_ended]
        for node in spawned:
            node.kill()
            node.spawn()
        return spawned

    def start(self) -> None:
        """Start all that do not run, and wait until each listens and, in pairs, each has its copy."""
        for node in self.spawn():
            node.wait_listening()
        self.wait_whole()

    def wait_whole(self) -> None:
        """Wait until each pair has two copies of everything."""
        if self.witness is not None:
            wait_until(lambda: all(self._is_whole(name) for name in self.nodes), deadline_s=WHOLE_S_MAX)

    def _is_whole(self, name: str) -> bool:
        node = self.primary(name)
        return node is not None and node.told()["copies"] == 2

    def kill(self) -> None:
        """End all of them as crashes do."""
        for node in self.all:
            node.kill()
        if self.witness is not None:
            self.witness.kill()

    def stop(self) -> dict[str, int]:
        """Stop all in order, the banks first and standbys before primaries; give what each ended with."""
        codes = {}
        for name in PARTIES:
            primary = self.primary(name)
            for node in sorted(self.nodes[name], key=lambda node: node is primary):
                codes[node.folder.name] = node.stop()
        if self.witness is not None:
            self.witness.kill()
        return codes

    def story(self) -> str:
        """Give the end of what each wrote."""
        ends = (f"--- {node.folder.name}\n" + "\n".join(node.log().splitlines()[-15:]) for node in self.all)
        return "\n".join(ends)

    # --- what an operator does --------------------------------------------------------------------------------------
    async def link(self, name: str, username: str = ADMINISTRATOR) -> Link:
        """Sign in at the primary of one of the three; the caller closes the link."""
        return await self.parties[name].link(username)

    async def admit(self) -> None:
        """Let both banks in at the gateway, and wait until they are there."""
        link = await self.link(GATEWAY)
        try:
            for bank in BANKS:
                authority = self.nodes[bank][0].ca.read_text("ascii")
                await link.request("add_bank", AddBank(new_id(), bank, CURRENCY, CAP_MINOR, authority), REQUEST_S)
        finally:
            await link.close()
        await self.wait_connected()

    async def wait_connected(self) -> None:
        """Wait until both banks are registered at the gateway.

        Raises:
            TimeoutError: one is not.
        """
        link = await self.link(GATEWAY)
        try:
            async with asyncio.timeout(CONNECTED_S_MAX):
                while True:
                    found = await link.request("banks", ListBanks(), REQUEST_S)
                    if {bank.bank for bank in found.banks if bank.is_connected} == set(BANKS):
                        return
                    await asyncio.sleep(0.05)
        finally:
            await link.close()


def _make_party(folder: Path, plan: Plan, *, is_paired: bool) -> list[Path]:
    """Make the folders of one node, or of two."""
    if not is_paired:
        make_folder(folder, plan)
        return [folder]
    records = {"pair.listen": f"{LOOPBACK}:{free_port()}"}
    make_folder(folder, replace(plan, settings={**(plan.settings or {}), **records}))
    second = folder.with_name(f"{folder.name}-2")
    ports = ["--port", free_port(), "--status-port", free_port(), "--pair-port", free_port()]
    ports += ["--bank-port", free_port()] if plan.is_gateway else []
    run("init", second, "--join", folder, "--name", "node-2", "--host", LOOPBACK, *ports)
    return [folder, second]
