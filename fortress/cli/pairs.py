"""The banks and the gateway of a demo: each two nodes in two folders, made as ``init`` makes them, and kept running."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fortress.cli.cables import Cable, lay
from fortress.cli.children import Child
from fortress.cli.output import Json
from fortress.errors import AddressInUse, Unreachable

if TYPE_CHECKING:
    from fortress.cli.bootstrap import Administrator
    from fortress.config import Value

HOST: Final = "127.0.0.1"
PORTS: Final = range(20_000, 32_000)
START_S_MAX: Final = 90.0
LOOK_S_MAX: Final = 1.0
LOOK_EVERY_S: Final = 0.25
NODES: Final = ("node-1", "node-2")
PORTS_OF_BANK: Final = 6
PORTS_OF_GATEWAY: Final = 8
PORTS_OF_CABLES: Final = 2


class Pair:
    """One bank, or the gateway, of a demo.

    Args:
        bank: its id.
        folder: of the demo; the nodes' folders are made in it.
        is_gateway: whether banks register here.
        say: tells people what happens.

    Attributes:
        folders: of both nodes.
        children: their processes.
        roles: who is primary, for people; kept by :meth:`watch`.
    """

    def __init__(self, bank: str, folder: Path, *, is_gateway: bool, say: Callable[[str], None]) -> None:
        self.bank = bank
        self.is_gateway = is_gateway
        self.folders = [folder / f"{bank}-{number}" for number in (1, 2)]
        command = "gateway" if is_gateway else "serve"
        self.children = [
            Child(f"{name} of {bank}", command, each, folder / f"{each.name}.log", say)
            for name, each in zip(NODES, self.folders, strict=True)
        ]
        self.roles = ""
        self._say = say

    @property
    def ca(self) -> Path:
        """The certificate of its authority."""
        return self.folders[0] / "certs" / "ca.crt"

    @property
    def address(self) -> str:
        """Where clients reach it, once it runs: ``host:port,host:port/bank``."""
        return f"{','.join(child.told['address'].rpartition('/')[0] for child in self.children)}/{self.bank}"

    @property
    def url(self) -> str:
        """The same as the client library takes it."""
        return f"fortress://{self.address}"

    def make(self, administrators: Sequence[Administrator], currency: str, ports: Sequence[int]) -> None:
        """Make both folders; blocking.

        Args:
            administrators: the first ones.
            currency: that its accounts are kept in.
            ports: free ones: six for a bank, eight for the gateway.
        """
        from fortress.cli.folders import make_folder
        from fortress.cli.joining import Place, endpoint, make_peer

        settings: dict[str, Value] = {
            "server.port": ports[0],
            "monitor.port": ports[1],
            "pair.listen": endpoint(HOST, ports[2]),
            "login.token_s": 86_400,
            "log.format": "json",
        }
        if self.is_gateway:
            settings["switch.listen"] = endpoint(HOST, ports[6])
        first, second = self.folders
        make_folder(
            first,
            bank=self.bank,
            node=NODES[0],
            administrators=administrators,
            currencies=[currency],
            settings=settings,
        )
        bank_port = ports[7] if self.is_gateway else None
        place = Place(host=HOST, port=ports[3], status_port=ports[4], pair_port=ports[5], bank_port=bank_port)
        make_peer(second, first, node=NODES[1], place=place)

    def lay_cables(self, ports: Sequence[int]) -> list[Cable]:
        """Let the nodes, which were made and do not run yet, reach each other through cables that can be cut.

        Args:
            ports: free ones, one for each node.
        """
        from fortress import config
        from fortress.server.settings_file import change_settings

        listen = [int(config.load(folder, {}, {}).pair.listen.rpartition(":")[2]) for folder in self.folders]
        laid = []
        for folder, port, target in zip(self.folders, ports, reversed(listen), strict=True):
            change_settings(folder, {"pair.peer": f"{HOST}:{port}"})
            lay(folder)
            laid.append(Cable(port, target, self.folders))
        return laid

    async def start(self) -> None:
        """Start both nodes, and wait until there are two copies.

        Raises:
            Unreachable: a node did not start, or they did not find each other in time.
        """
        await asyncio.gather(*(child.start() for child in self.children))
        deadline = time.monotonic() + START_S_MAX
        while (await self.look())[1] < 2:
            if time.monotonic() > deadline:
                raise Unreachable(f"the nodes of {self.bank} did not find each other; see {self.folders[0]}.log")
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> tuple[str, int]:
        """Ask both nodes: who is primary, and how many copies there are."""
        from fortress.cli.status import read_site

        for child in self.children:
            if "status" not in child.told:
                continue
            try:
                document = await asyncio.to_thread(read_site, child.told["status"], LOOK_S_MAX)
            except Unreachable:
                continue
            if document.get("role") == "primary" and document.get("state") != "blocked":
                return str(document["node"]), int(document.get("copies", 1))
        return "", 0

    async def watch(self) -> None:
        """Keep ``roles``, and tell each time that another node is primary; without end."""
        before = ""
        while True:
            primary, copies = await self.look()
            self.roles = f"{self.bank}: {primary}, {copies} {'copy' if copies == 1 else 'copies'}"
            if not primary:
                self.roles = f"{self.bank}: no primary"
            elif before and primary != before:
                self._say(f"{primary} of {self.bank} is primary now")
            before = primary or before
            await asyncio.sleep(LOOK_EVERY_S)

    def document(self) -> dict[str, Json]:
        """Tell programs all there is to know of it."""
        nodes: list[Json] = [
            {"name": name, "folder": str(child.folder), "address": told["address"], "status": told["status"]}
            for name, child in zip(NODES, self.children, strict=True)
            for told in [child.told]
        ]
        return {"bank": self.bank, "address": self.address, "ca": str(self.ca), "nodes": nodes}


def free_port() -> int:
    """Find a port of this machine that nobody listens on right now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Find ports that nobody listens on right now, no two the same.

    They lie below those that the kernel gives to outgoing connections, so none is taken before it is listened on.
    """
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            found.append(port)
        if len(found) == count:
            return found
    raise AddressInUse(f"{count} free ports were not found")
