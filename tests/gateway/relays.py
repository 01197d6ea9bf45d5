"""A gateway that only relays: a real server with a real relay, and a directory that says what the test wants."""

from __future__ import annotations

import asyncio
import atexit
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from fortress import authority
from fortress.authority import Kind
from fortress.client.client import Client, connect
from fortress.config import NodeSettings, ServerSettings, SwitchSettings
from fortress.gateway.messages import BankState
from fortress.gateway.relay import Relay
from fortress.server.folder import create, open_folder
from tests.server.world import BANK, World, made_folder

GATEWAY = "gateway"


@cache
def gateway_folder() -> Path:
    """One folder for all tests of a run, with an authority of the gateway's own."""
    parent = mkdtemp(prefix="fortress-test-")
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    folder = Path(parent) / "gateway"

    def certificates(certs: Path) -> None:
        authority.make_authority(certs, GATEWAY)
        authority.issue(certs, Kind.node, bank=GATEWAY)
        authority.issue(certs, Kind.bank, bank=GATEWAY)

    create(folder, bank=GATEWAY, node="one", make_certificates=certificates, settings={"server.port": 0})
    return folder


@cache
def copy_of(folder: Path) -> Path:
    """The folder of the other node of a pair, as far as clients can see: the same keys and certificates."""
    copy = folder.with_name(f"{folder.name}-2")
    shutil.copytree(folder, copy)
    return copy


@asynccontextmanager
async def running_standby() -> AsyncIterator[World]:
    """A second node of the bank; here it differs from the first by its port alone."""
    folder = open_folder(copy_of(made_folder()), {}, {})
    try:
        settings = replace(folder.settings, node=NodeSettings(bank=BANK, name="two"), server=ServerSettings(port=0))
        world = World(folder, settings)
        await world.server.start(world.dispatcher)
        try:
            yield world
        finally:
            await world.server.drain(2)
    finally:
        folder.close()


class FakeDirectory:
    """What a gateway knows of banks, as the test says it."""

    def __init__(self) -> None:
        self._banks: dict[str, BankState] = {}
        self._waiting: list[asyncio.Future[None]] = []

    def tell(self, bank: str, *addresses: str, state: str = "active") -> None:
        """A bank stands otherwise; without addresses it is not connected."""
        self._banks[bank] = BankState(bank, state, is_connected=bool(addresses), addresses=addresses)
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def find(self, bank: str) -> BankState | None:
        return self._banks.get(bank)

    async def wait_change(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    @property
    def waits(self) -> bool:
        """Whether somebody waits for a change now."""
        return any(not future.done() for future in self._waiting)


class Gateway(World):
    """Attributes: directory; relay; authorities: of the banks, DER."""

    directory: FakeDirectory
    relay: Relay
    authorities: dict[str, bytes]
    is_standby = False

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def client(self, bank: str = BANK, **options: Any) -> Client:
        """A client that knows this gateway's address and both authorities."""
        given = {
            "ca": made_folder() / "certs" / "ca.crt",
            "path_ca": gateway_folder() / "certs" / "ca.crt",
            "timeout_s": 2.0,
            "deadline_s": 6.0,
            **options,
        }
        return connect(f"fortress://{self.endpoint}/{bank}", **given)


def der_of(path: Path) -> bytes:
    """Give a certificate as a gateway's ledger keeps it."""
    return authority.load_certificate(path).public_bytes(Encoding.DER)


@asynccontextmanager
async def relaying(
    *banks: World, switch: dict[str, int] | None = None, is_second: bool = False, **server: Any
) -> AsyncIterator[Gateway]:
    """Start a gateway that knows a bank with these nodes, the primary first."""
    folder = open_folder(copy_of(gateway_folder()) if is_second else gateway_folder(), {}, {})
    try:
        settings = replace(
            folder.settings,
            node=NodeSettings(bank=GATEWAY, name="one"),
            server=ServerSettings(**{"port": 0, **server}),
        )
        gateway = Gateway(folder, settings)
        gateway.directory = FakeDirectory()
        gateway.directory.tell(BANK, *(f"127.0.0.1:{bank.server.port}" for bank in banks))
        gateway.authorities = {BANK: der_of(made_folder() / "certs" / "ca.crt")}
        gateway.relay = gateway.node.ports.relay = Relay(
            gateway.directory,
            authority=lambda bank: gateway.authorities[bank],
            settings=SwitchSettings(**{"relay_wait_ms": 5_000, **(switch or {})}),
            idle_s=lambda: gateway.server.idle_s,
            is_standby=lambda: gateway.is_standby,
        )
        await gateway.server.start(gateway.dispatcher)
        try:
            yield gateway
        finally:
            gateway.dispatcher.cancel_all()
            await gateway.server.drain(2)
            await gateway.relay.close()
    finally:
        folder.close()
