"""Two nodes of a pair in one process: real replication, TLS and role machine over loopback; journals are lists.

A node's journal holds records made with the real chain, on a "disk" that takes them at the next turn of the loop
unless it is held; the register is a variable with compare-and-set.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import cast

from fortress.authority import Kind, issue, make_authority
from fortress.config import PairSettings
from fortress.errors import RegisterUnreachable
from fortress.ledger.records import Record, encode, make_record
from fortress.pair.change import Conflict
from fortress.pair.control import Control
from fortress.pair.link import Link, dialing_context, listening_context
from fortress.pair.messages import GENESIS, Configuration, Mark, Message, TableDigest
from fortress.pair.replication import Parts, Replication

BANK = "alpha"
CLUSTER = bytes(16)
DEADLINE_S = 30.0
ROOT = hashlib.sha256(b"root").digest()
QUICK = PairSettings(cluster=CLUSTER.hex(), heartbeat_ms=20, solo_ms=200, takeover_ms=400, refused_ms=60, lease_ms=40)


@cache
def certificates(bank: str = BANK, authority: str = "one") -> Path:
    """A folder with an authority and a node's certificate of a bank."""
    folder = Path(mkdtemp(prefix="fortress-pair-"))
    make_authority(folder, authority)
    issue(folder, Kind.node, bank=bank)
    return folder


def files(folder: Path) -> tuple[Path, Path, Path]:
    """Certificate, key and authority of a folder."""
    return folder / "node.crt", folder / "node.key", folder / "ca.crt"


def free_port() -> int:
    """A port that nobody listens on, below those that the kernel gives to outgoing connections: none takes it since."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


async def until(is_so: Callable[[], object], what: str = "") -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not is_so():
            await asyncio.sleep(0.002)


class Shelf:
    """A register in memory; ``is_silent`` answers nobody."""

    def __init__(self) -> None:
        self.held: Configuration | None = None
        self.is_silent = False
        self.history: list[Configuration] = []

    async def get(self) -> Configuration | None:
        await asyncio.sleep(0)
        if self.is_silent:
            raise RegisterUnreachable()
        return self.held

    async def compare_and_set(self, expected_epoch: int | None, fresh: Configuration) -> Configuration:
        await asyncio.sleep(0)
        if self.is_silent:
            raise RegisterUnreachable()
        if (self.held.epoch if self.held else None) != expected_epoch:
            assert self.held is not None
            raise Conflict(self.held)
        self.held = fresh
        self.history.append(fresh)
        return fresh

    async def close(self) -> None:
        pass


class Promises:
    """A control file in memory."""

    def __init__(self, instance: bytes) -> None:
        self.instance = instance
        self.promised = 0
        self.witness = b""

    def remember_witness(self, witness: bytes) -> None:
        self.witness = witness

    def promise(self, epoch: int) -> None:
        self.promised = epoch


class Keys:
    """People's keys in memory; a bucket's digest is made of what is in it."""

    def __init__(self) -> None:
        self.keys: dict[bytes, bytes] = {}

    def digests(self) -> bytes:
        return b"".join(hashlib.sha256(repr(self.bucket(n)).encode()).digest()[:8] for n in range(256))

    def bucket(self, number: int) -> tuple[tuple[bytes, bytes], ...]:
        return tuple(sorted((handle, key) for handle, key in self.keys.items() if handle[0] == number))

    def replace_bucket(self, number: int, keys: Iterable[tuple[bytes, bytes]]) -> None:
        self.keys = {handle: key for handle, key in self.keys.items() if handle[0] != number} | dict(keys)

    def take(self, handle: bytes, key: bytes | None) -> None:
        if key is None:
            self.keys.pop(handle, None)
        else:
            self.keys[handle] = key


class List:
    """A journal in memory."""

    def __init__(self) -> None:
        self.found: list[Record] = []

    def end(self) -> Mark:
        return self.mark_at(len(self.found)) or Mark()

    def mark_at(self, lsn: int) -> Mark | None:
        if lsn == 0:
            return Mark(0, GENESIS)
        return Mark(lsn, self.found[lsn - 1].hash) if 0 < lsn <= len(self.found) else None

    def tail(self) -> tuple[Mark, ...]:
        return tuple(Mark(record.lsn, record.hash) for record in self.found)

    def marks_back(self) -> tuple[Mark, ...]:
        return (*reversed(self.tail()), Mark())

    def first_lsn(self) -> int:
        return 1

    def records(self, from_lsn: int) -> Iterator[Record]:
        return iter(self.found[from_lsn - 1 :])


@dataclass(eq=False)
class Node:
    """One node; ``commands`` are what it was asked by the pair, newest last."""

    name: str
    shelf: Shelf
    settings: PairSettings
    journal: List = field(default_factory=List)
    keys: Keys = field(default_factory=Keys)
    promises: Promises | None = None
    certificates: Path | None = None
    commands: list[tuple[str, object]] = field(default_factory=list)
    committed: int = 0
    is_serving: bool = False
    epoch: int = 0
    readable_until_us: int = 0
    disk_held: list[Callable[[], None]] | None = None
    made: list[Record] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.promises is None:
            self.promises = Promises(self.name.encode().ljust(16, b"\0"))

    async def start(self, *, is_founder: bool = False) -> None:
        """Take part in the pair from now on."""
        found = files(self.certificates or certificates())
        parts = Parts(
            bank=BANK,
            name=self.name,
            control=cast(Control, self.promises),
            register=self.shelf,
            listening=listening_context(*found),
            dialing=dialing_context(*found),
            history=self.journal,
            people=self.keys,
            host=self,
            send_snapshot=self.send_snapshot,
            take_snapshot=self.take_snapshot,
            on_digest=self.on_digest,
        )
        self.replication = Replication(parts, self.settings, committed=self.committed, is_founder=is_founder)
        await self.replication.start()

    async def stop(self) -> None:
        """Be gone, as a process that was killed."""
        await self.replication.stop()
        self.is_serving = False

    # --- As primary ----
    def make(self, *facts: bytes) -> Record:
        """Make a record, ship it, and write it."""
        previous = self.made[-1] if self.made else (self.journal.found[-1] if self.journal.found else None)
        record = make_record(
            list(facts),
            previous=previous,
            bank=BANK,
            epoch=self.epoch,
            time_us=1,
            commit_lsn=0,
            tree_root=ROOT,
        )
        self.made.append(record)
        self.replication.made(record, encode(record))
        self._to_disk([record])
        return record

    def _to_disk(self, records: list[Record]) -> None:
        def written() -> None:
            self.journal.found.extend(records)
            self.made = [record for record in self.made if record.lsn > records[-1].lsn]
            self.replication.durable(records[-1].lsn)

        if self.disk_held is not None:
            self.disk_held.append(written)
        else:
            asyncio.get_running_loop().call_soon(written)

    # --- What the pair asks ----
    def serve(self, epoch: int) -> None:
        self.is_serving, self.epoch = True, epoch
        self.commands.append(("serve", epoch))

    def hold(self) -> None:
        self.commands.append(("hold", None))

    async def quiet(self) -> None:
        while self.made or self.committed < len(self.journal.found):
            await asyncio.sleep(0.001)

    def stand_by(self, *, is_clean: bool, primary: str) -> None:
        self.is_serving = False
        self.commands.append(("stand_by", (is_clean, primary)))

    def follow(self, primary: str) -> None:
        self.commands.append(("follow", primary))

    def heard(self, committed: int) -> None:
        self.commands.append(("heard", committed))

    def store(self, records: list[Record]) -> None:
        self._to_disk(records)

    def commit(self, lsn: int) -> None:
        assert lsn <= len(self.journal.found) + len(self.made)
        self.committed = lsn

    def allow_reads(self, until_us: int) -> None:
        self.readable_until_us = until_us

    def set_blocked(self, *, is_blocked: bool) -> None:
        self.commands.append(("blocked", is_blocked))

    def restart(self, reason: str, *, truncate_after: Mark | None = None) -> None:
        self.commands.append(("restart", truncate_after))

    def quarantine(self, reason: str) -> None:
        self.commands.append(("quarantine", reason))

    def crash(self, error: Exception) -> None:
        raise AssertionError("the pair's part failed") from error

    def tell(self, name: str, facts: dict[str, str | int]) -> None:
        self.commands.append((name, facts))

    async def send_snapshot(self, link: Link, epoch: int) -> None:
        self.copies.append("sent")

    async def take_snapshot(self, message: Message) -> None:
        self.copies.append(type(message).__name__)

    def on_digest(self, message: TableDigest) -> None:
        self.commands.append(("digest", message.lsn))

    def told(self, name: str) -> list[object]:
        """What was said under a name."""
        return [facts for found, facts in self.commands if found == name]

    @property
    def hashes(self) -> list[bytes]:
        """The journal, as hashes."""
        return [record.hash for record in self.journal.found]


def pair_of_nodes(settings: PairSettings = QUICK) -> tuple[Node, Node, Shelf]:
    """Two nodes that know each other's addresses, and their register."""
    shelf = Shelf()
    ports = free_port(), free_port()
    addresses = [f"127.0.0.1:{port}" for port in ports]
    nodes = [
        Node(
            f"node-{number + 1}",
            shelf,
            replace(
                settings, listen=addresses[number], peer=addresses[1 - number], peer_clients=f"clients-{2 - number}:1"
            ),
        )
        for number in (0, 1)
    ]
    return nodes[0], nodes[1], shelf


async def paired(first: Node, second: Node) -> None:
    """Start both and wait until the first is primary of two in step."""
    await first.start(is_founder=True)
    await second.start()
    await until(lambda: is_paired(first), "paired")


def is_paired(node: Node) -> bool:
    """Whether this node is primary of two in step."""
    return node.is_serving and node.replication.state.phase.value == "primary.paired"
