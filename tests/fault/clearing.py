"""Two banks and a gateway as processes of their own on loopback, each of which can be made to end at a named point.

    with Clearing(parent) as clearing:
        clearing.arm("gateway", "decision durable", 20)
        clearing.wait_ended("gateway")
        clearing.restart("gateway")

The folders are made as an operator makes them, the banks with customers and money already; the gateway's administrator
lets the banks in.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from bench import machine
from bench.bank import ACCOUNTS_PER_CUSTOMER, ADMINISTRATOR, CURRENCY, Plan, free_port, make_folder, numbers_of
from fortress.cli.gateways import connect_bank, gateway_of
from fortress.client.ids import new_id
from fortress.client.link import Link
from fortress.protocol.switching import AddBank, ListBanks
from tests.e2e.node import Node, environment

BANKS: Final = ("a", "b")
GATEWAY: Final = "gateway"
PARTIES: Final = (*BANKS, GATEWAY)
OPENING_MINOR: Final = 10_000_000
CAP_MINOR: Final = 5_000_000
WAIT_MS: Final = 2_000
DEADLINE_MS: Final = 5_000
SEGMENT_BYTES: Final = 4 * 1024 * 1024
CONNECTED_S_MAX: Final = 30.0
ENDED_S_MAX: Final = 30.0
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


class Clearing:
    """All three; ``with`` starts them and ends them whatever happens.

    Args:
        parent: an empty folder, on a real disk.
        accounts: of each bank, all of one customer.

    Attributes:
        parties: by name.
        numbers: the account numbers, the same at both banks.
    """

    def __init__(
        self, parent: Path, *, accounts: int = ACCOUNTS_PER_CUSTOMER, settings: Mapping[str, Any] = {}
    ) -> None:
        self.numbers = numbers_of(accounts)
        common: dict[str, str | int] = {"ledger.segment_bytes": SEGMENT_BYTES, "monitor.port": 0, **settings}
        listen = f"127.0.0.1:{free_port()}"
        switch = {"switch.listen": listen, "switch.deadline_ms": DEADLINE_MS}
        make_folder(parent / GATEWAY, Plan(accounts=0, bank=GATEWAY, settings={**common, **switch}))
        for bank in BANKS:
            own = {**common, "gateway.wait_ms": WAIT_MS}
            make_folder(parent / bank, Plan(accounts=accounts, bank=bank, opening_minor=OPENING_MINOR, settings=own))
            connect_bank([parent / bank], gateway_of([parent / GATEWAY]))
        self.parties = {name: Party(parent / name) for name in PARTIES}

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

    # --- their lives ------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Start all that do not run, and wait until each listens."""
        spawned = [party for party in self.parties.values() if party.has_ended]
        for party in spawned:
            party.kill()
            party.spawn()
        for party in spawned:
            party.wait_listening()

    def kill(self) -> None:
        """End all of them as crashes do."""
        for party in self.parties.values():
            party.kill()

    def stop(self) -> dict[str, int]:
        """Stop all in order, the banks first; give what each ended with."""
        return {name: self.parties[name].stop() for name in PARTIES}

    def wait_ended(self, name: str) -> int:
        """Wait until an armed party has ended; give the signal that ended it.

        Raises:
            TimeoutError: it goes on.
        """
        try:
            code = self.parties[name].wait(ENDED_S_MAX)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{name} did not come to its point within {ENDED_S_MAX:g} s") from error
        return signal.SIGKILL if code == -signal.SIGKILL else code

    def story(self) -> str:
        """Give the end of what each wrote."""
        ends = (f"--- {name}\n" + "\n".join(party.log().splitlines()[-15:]) for name, party in self.parties.items())
        return "\n".join(ends)

    # --- what an operator does --------------------------------------------------------------------------------------
    async def link(self, name: str, username: str = ADMINISTRATOR) -> Link:
        """Sign in at a party; the caller closes the link."""
        return await self.parties[name].link(username)

    async def admit(self) -> None:
        """Let both banks in at the gateway, and wait until they are there."""
        link = await self.link(GATEWAY)
        try:
            for bank in BANKS:
                authority = self.parties[bank].ca.read_text("ascii")
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
