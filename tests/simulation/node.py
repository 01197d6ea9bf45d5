"""A node of the simulated pair: the real ledger, committer, replication and handlers, put together as a process does.

What is left out is what stands between a client's socket and the dispatcher (TLS, sealed channel, login): requests come
as the bytes of their messages, and answers go back as objects.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from fortress.config import LedgerSettings, NodeSettings, PairSettings, Settings
from fortress.errors import FortressError, LedgerError, NotPrimary, Refused
from fortress.ledger.commands import CreateCustomer, KeyData, MoveMoney, OpenAccount, OpenLedger
from fortress.ledger.engine import Engine
from fortress.ledger.keyring import Keyring
from fortress.ledger.model import BANK_ACTOR, AccountKind, TransferKind, account_number
from fortress.ledger.vault import Vault
from fortress.pair.control import Control
from fortress.server import membership
from fortress.server.bank import Bank, accepted, derived_id
from fortress.server.committer import CommitterSettings
from fortress.server.handlers import Dispatcher
from fortress.server.member_committer import MemberCommitter
from fortress.server.pairing import Pairing, Restart
from fortress.server.ports import Ports
from fortress.server.process import HANDLERS
from fortress.server.replica import Replica
from fortress.server.statistics import Statistics
from tests.simulation.disk import Disk
from tests.simulation.network import NodeProcess

if TYPE_CHECKING:
    from tests.simulation.world import World

BANK = "alpha"
CURRENCY = "EUR"
CASH = account_number(10_001)
ACCOUNTS = tuple(account_number(number) for number in range(10_002, 10_006))
OPENING = 1_000
CUSTOMER = 1
SEGMENT_BYTES = 128 * 1024
KEY = KeyData(b"s" * 16, 65_536, 3, 4, b"p" * 60, b"q" * 32)


def handle_of(username: str) -> bytes:
    return hashlib.sha256(username.encode()).digest()[:16]


class Visit:
    """One request of a client, in place of its session."""

    customer = CUSTOMER
    username = "alice"
    roles = frozenset({"customer"})
    session_id = bytes(16)
    version = 1
    is_draining = False
    outstanding_max = 16

    def __init__(self, node: Running, tell: Callable[[Any], None]) -> None:
        self.is_open = True
        self.waiting: dict[int, Any] = {}
        self.rows = node.dispatcher.rows_for(self.roles)
        self._gate = node.dispatcher.gate
        self._tell = tell

    def answer(self, request_id: int, fields: Any) -> None:
        gate = self._gate
        self._end(fields, gate.stale_ms if gate.is_standby else 0)

    def refuse(self, request_id: int, error: FortressError, code: int = 0) -> None:
        self._end(error, 0)

    def refuse_uncounted(self, request_id: int, error: FortressError) -> None:
        self._end(error, 0)

    def flush(self) -> None:
        pass

    def _end(self, outcome: Any, stale_ms: int) -> None:
        self.waiting.clear()
        self._tell((outcome, stale_ms))


@dataclass(frozen=True)
class Home:
    """What outlives a node's processes.

    Attributes:
        name: of node and host.
        settings: of it.
        disk: under it.
        is_founder: whether it was set up to begin the bank.
    """

    name: str
    settings: PairSettings
    disk: Disk
    is_founder: bool

    @property
    def keyring(self) -> Keyring:
        """Secrets: the bank's own are equal on both nodes."""
        own = hashlib.sha256(self.name.encode()).digest()
        return Keyring(data_key=own, store_key=own[::-1], vault_key=b"v" * 32)

    def folder(self) -> Any:
        """What the node takes for its folder, opened."""
        settings = Settings(
            folder=self.disk.folder,
            node=NodeSettings(bank=BANK, name=self.name),
            ledger=LedgerSettings(segment_bytes=SEGMENT_BYTES),
            pair=self.settings,
        )
        return SimpleNamespace(settings=settings, keyring=self.keyring)


class Running:
    """One node between two starts; see `fortress.server.process.Process`."""

    def __init__(self, world: World, home: Home, process: NodeProcess) -> None:
        self.world, self.home, self.process = world, home, process
        self.restart: Restart | None = None
        self.failure: FortressError | None = None
        self.stopped = asyncio.Event()
        self.opened = AsyncExitStack()
        self.engine: Engine
        self.vault: Vault
        self.control: Control
        self.pairing: Pairing

    async def start(self) -> None:
        home, world = self.home, self.world
        self.folder = folder = home.folder()
        data = home.disk.folder
        async with AsyncExitStack() as opened:
            self.control = membership.open_control(folder)
            opened.callback(self.control.close)
            self.engine = await asyncio.to_thread(self._open_engine, data)
            opened.push_async_callback(asyncio.to_thread, self.engine.close)
            world.on_opened(self)
            self.vault = Vault(data / "people.db", home.keyring.vault_key)
            opened.callback(self.vault.close)
            self._put_together()
            opened.push_async_callback(self.committer.close)
            self.pairing = membership.enter_pair(
                folder,
                self.replica,
                engine=self.engine,
                vault=self.vault,
                control=self.control,
                committer=self.committer,
                dispatcher=self.dispatcher,
                make_whole=self._make_whole,
                on_restart=self._on_restart,
                on_stop=self._on_stop,
            )
            world.on_paired(self)
            opened.push_async_callback(self.pairing.stop)
            await self.pairing.replication.start()
            self.opened = opened.pop_all()

    def _open_engine(self, data: Path) -> Engine:
        ledger, keyring = self.folder.settings.ledger, self.home.keyring
        return Engine.open(
            data,
            bank=BANK,
            data_key=keyring.data_key,
            store_key=keyring.store_key,
            segment_bytes=ledger.segment_bytes,
            cache_mb=1,
            account_cache_max=16,
            id_cache_max=16,
            is_in_pair=True,
        )

    def _put_together(self) -> None:
        statistics = Statistics()
        self.replica = Replica(self.engine, on_fatal=self._on_fatal)
        self.committer = MemberCommitter(
            self.engine,
            CommitterSettings(),
            writer=self.replica,
            on_commit=lambda delta: self.world.on_commit(self, delta),
            after_answers=lambda: None,
            on_fatal=self._on_fatal,
        )
        self.replica.committer = self.committer
        desk: Any = SimpleNamespace(handle_of=handle_of)
        self.bank = Bank(self.engine, self.committer, self.vault, desk, head_seed=bytes(32))
        settings = self.folder.settings
        node: Any = SimpleNamespace(bank=self.bank, statistics=statistics, settings=settings, ports=Ports())
        self.dispatcher = Dispatcher(node, HANDLERS)
        node.server = SimpleNamespace(dispatcher=self.dispatcher)

    async def _make_whole(self) -> None:
        """Begin the bank: itself, one customer, accounts, money; each step under an id of its own."""
        bank, commit = self.bank, self.bank.commit
        if bank.state.customer(CUSTOMER) is None and not bank.state.position:
            accepted(await commit(OpenLedger(BANK_ACTOR, BANK, (CURRENCY,))))
        await self.newcomer("alice")
        number = int(AccountKind.cash)
        accepted(await commit(OpenAccount(BANK_ACTOR, derived_id(b"open", b"cash"), 0, number, CURRENCY, None)))
        for account in ACCOUNTS:
            name = b"%d" % account
            accepted(await commit(OpenAccount(BANK_ACTOR, derived_id(b"open", name), CUSTOMER, 1, CURRENCY)))
            deposit = int(TransferKind.deposit)
            id = derived_id(b"deposit", name)
            accepted(await commit(MoveMoney(BANK_ACTOR, deposit, id, CASH, account, OPENING, CURRENCY)))

    async def newcomer(self, username: str) -> None:
        """Create a customer: a key of their own, then the entry."""
        bank, handle = self.bank, handle_of(username)
        sealed = await bank.read(bank.vault.seal_person, handle, b"somebody")
        command = CreateCustomer(BANK_ACTOR, derived_id(b"customer", handle), handle, ("customer",), KEY, sealed)
        accepted(await bank.commit(command))

    async def welcome(self, username: str) -> Any:
        """Create a customer at a client's wish, if this node is primary."""
        if self.dispatcher.gate.is_standby:
            raise NotPrimary()
        try:
            await self.newcomer(username)
        except Refused as refused:
            return refused
        return None

    def take(self, message: bytes, tell: Callable[[Any], None]) -> None:
        """Take a request."""
        self.dispatcher.dispatch(Visit(self, tell), message)

    # --- Ends ----
    def _on_fatal(self, error: LedgerError) -> None:
        self.pairing.fail(error)

    def _on_restart(self, restart: Restart) -> None:
        self.restart = restart
        self.stopped.set()

    def _on_stop(self, error: FortressError) -> None:
        if self.failure is None:
            self.failure = error
            self.stopped.set()

    async def stop(self) -> None:
        """Close everything in order; a node that goes down as planned hands over first."""
        if self.failure is None and self.restart is None:
            await self.pairing.replication.leave()
        self.dispatcher.cancel_all()
        await self.opened.aclose()

    def drop(self) -> None:
        """Give the files back, as the kernel does when a process is killed."""
        for part in ("engine", "vault", "control"):
            if hasattr(self, part):
                getattr(self, part).close()
