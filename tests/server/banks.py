"""A real node on a folder of its own, made once and copied for each test, and people who sign in to it."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from threading import Event
from typing import Any

import fortress
from fortress import authority
from fortress.authority import Kind
from fortress.client.credentials import NO_KDF, LoginKey
from fortress.client.me import Me
from fortress.errors import LedgerError
from fortress.ledger.commands import Command, MoveBatch, MoveMoney
from fortress.ledger.delta import Delta
from fortress.ledger.engine import Engine
from fortress.ledger.model import Actor, TransferKind, account_number
from fortress.ledger.rules import Verdict
from fortress.protocol.accounts import Profile
from fortress.protocol.money import TransferRow
from fortress.server.bank import new_id
from fortress.server.committer import Committer, CommitterSettings, Writer
from fortress.server.folder import create, open_folder
from fortress.server.process import BOOTSTRAP_FILE, Process
from fortress.server.session import Session

BANK = "bank-a"
DEADLINE_S = 30.0
OPENING = "100.00 EUR"
NOBODYS = account_number(77_777)  # an account number that nobody has
PEOPLE = {"alice": ("customer",), "bob": ("customer",), "tess": ("teller",), "audrey": ("auditor",)}


def seed_of(username: str) -> bytes:
    return username.encode().ljust(32, b".")


def first_administrator(username: str) -> dict[str, Any]:
    key = LoginKey(seed_of(username))
    return {
        "username": username,
        "name": username.title(),
        "salt": bytes(16).hex(),
        "memory_kib": NO_KDF.memory_kib,
        "iterations": NO_KDF.iterations,
        "lanes": NO_KDF.lanes,
        "public": key.public.hex(),
        "signing": key.signing_public().hex(),
    }


def write_plan(folder: Path, *administrators: str, currencies: tuple[str, ...] = ("EUR", "USD")) -> None:
    plan = {"administrators": [first_administrator(name) for name in administrators], "currencies": currencies}
    (folder / BOOTSTRAP_FILE).write_text(json.dumps(plan))


@cache
def empty_folder() -> Path:
    """A node's folder without a ledger."""
    folder = Path(mkdtemp(prefix="fortress-test-")) / "empty"

    def certificates(certs: Path) -> None:
        authority.make_authority(certs, BANK)
        authority.issue(certs, Kind.node, bank=BANK)
        authority.issue(certs, Kind.bank, bank=BANK)

    settings: dict[str, str | int] = {"server.port": 0, "monitor.port": 0, "ledger.segment_bytes": 1024 * 1024}
    create(folder, bank=BANK, node="one", make_certificates=certificates, settings=settings)
    return folder


async def _fill(folder: Path) -> None:
    async with serving(folder) as world:
        ada = await world.sign_in("ada")
        tess: Me | None = None
        for name, roles in PEOPLE.items():
            profile = Profile(name=name.title(), email=f"{name}@example.org")
            await ada.administration.create_user(name, seed=seed_of(name), roles=roles, profile=profile)
        tess = await world.sign_in("tess")
        for name in ("alice", "bob"):
            account = await tess.open_account("EUR", username=name)
            await tess.deposit(account.number, OPENING)


@cache
def filled_folder() -> Path:
    """A bank with people, and accounts of Alice and Bob with 100.00 EUR each."""
    folder = empty_folder().with_name("filled")
    shutil.copytree(empty_folder(), folder)
    write_plan(folder, "ada")
    with ThreadPoolExecutor(1) as aside:  # a test's loop runs here already
        aside.submit(asyncio.run, _fill(folder)).result()
    return folder


class Held:
    """A function of a worker thread that waits until the test lets it go, or fails as the test says.

    Attributes:
        begun: first arguments of the calls that have begun, in order.
        errors: raised by the next calls instead of doing anything.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._gate = Event()
        self.begun: list[Any] = []
        self.errors: list[Exception] = []

    def hold(self) -> None:
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()

    def __call__(self, *arguments: Any) -> Any:
        self.begun.append(arguments[0])
        assert self._gate.wait(DEADLINE_S)
        if self.errors:
            raise self.errors.pop(0)
        return self._function(*arguments)


def hold_journal(engine: Engine) -> Held:
    """From now on, writing the journal waits for the test."""
    held = Held(engine.journal.append_many)
    engine.journal.__dict__.update(append_many=held, prepare=lambda *records: None)  # None: not by the kernel
    return held


def hold_tables(engine: Engine) -> Held:
    """From now on, writing the tables waits for the test."""
    held = Held(engine.store.apply)
    engine.store.__dict__.update(apply=held)
    return held


def hold_loading(engine: Engine) -> Held:
    """From now on, reading what memory lacks waits for the test."""
    held = Held(engine.store.load)
    engine.store.__dict__.update(load=held)
    return held


class World:
    """A node that serves a folder, and the people who have signed in."""

    def __init__(self, folder: Path, process: Process, opened: AsyncExitStack) -> None:
        self.folder = folder
        self.process = process
        self.node = process.node
        self.bank = process.node.bank
        self.committer = process.committer
        self._opened = opened

    async def connect(self) -> fortress.Client:
        address = f"fortress://127.0.0.1:{self.process.server.port}/{BANK}"
        client = fortress.connect(address, ca=str(self.folder / "certs" / "ca.crt"), deadline_s=DEADLINE_S)
        return await self._opened.enter_async_context(client)

    async def sign_in(self, username: str) -> Me:
        return await (await self.connect()).login_with_seed(username, seed_of(username))

    def hold_journal(self) -> Held:
        """From now on, writing the journal waits for the test; at its end it goes on."""
        held = hold_journal(self.bank.engine)
        self._opened.callback(held.release)
        return held

    def server_sessions(self) -> tuple[Session, ...]:
        """Give all connections of the node."""
        return tuple(self.process.server._sessions)

    async def account_of(self, username: str) -> int:
        """Give the number of somebody's default account."""
        return (await self.bank.customer_named(username)).default_account


@asynccontextmanager
async def serving(folder: Path, **flags: str) -> AsyncIterator[World]:
    """Serve a folder, and stop at the end."""
    process = await Process.start(open_folder(folder, {name.replace("__", "."): flags[name] for name in flags}, {}))
    async with AsyncExitStack() as opened:
        opened.push_async_callback(process.stop, deadline_s=2)
        yield World(folder, process, opened)


@asynccontextmanager
async def banking(tmp_path: Path, **flags: str) -> AsyncIterator[World]:
    """Serve a copy of the filled folder; in the same test a second time, the same copy again."""
    folder = tmp_path / "bank"
    if not folder.exists():
        shutil.copytree(filled_folder(), folder)
    async with serving(folder, **flags) as world:
        yield world


class Committing:
    """A committer on a ledger of its own with two accounts of 100.00 EUR each, and what it told.

    Attributes:
        alice: an account number, as ``bob``.
        told: names of commands in the order in which they were answered, with what.
        fatal: errors after which the node would have to stop.
        commits: records that became durable.
    """

    def __init__(
        self,
        engine: Engine,
        limits: CommitterSettings,
        *,
        make: type[Committer] = Committer,
        writer: Writer | None = None,
    ) -> None:
        self.engine = engine
        self.told: list[tuple[str, Any]] = []
        self.fatal: list[LedgerError] = []
        self.commits: list[Delta] = []
        self.flushes = 0
        self.committer = make(
            engine,
            limits,
            writer=writer,
            on_commit=self.commits.append,
            after_answers=self._flushed,
            on_fatal=self.fatal.append,
        )
        owners = dict(engine.store.read("SELECT owner, number FROM accounts WHERE owner > 0"))
        (self._alice, self.alice), (self._bob, self.bob) = sorted(owners.items())

    def _flushed(self) -> None:
        self.flushes += 1

    def move(self, amount: int = 1, *, id: bytes = b"", debit: int = 0, credit: int = 0) -> MoveMoney:
        """A transfer by Alice, to Bob if nobody else is named."""
        actor = Actor(self._alice, frozenset(("customer",)))
        kind = int(TransferKind.transfer)
        return MoveMoney(actor, kind, id or new_id(), debit or self.alice, credit or self.bob, amount, "EUR")

    def batch(self, *rows: TransferRow, atomic: bool = False) -> MoveBatch:
        return MoveBatch(Actor(self._alice, frozenset(("customer",))), "EUR", rows, atomic)

    def row(self, amount: int = 1, *, id: bytes = b"", credit: int = 0) -> TransferRow:
        return TransferRow(id or new_id(), self.alice, credit or self.bob, amount)

    def submit(self, name: str, command: Command) -> None:
        self.committer.submit(command, lambda outcome: self.told.append((name, outcome)))

    def answers(self) -> list[tuple[str, str]]:
        """What was told, with the status or the error's name."""
        return [(name, said(outcome)) for name, outcome in self.told]

    def balance(self, number: int) -> int:
        account = self.engine.state.account(number)
        assert account is not None
        return account.balance


def said(outcome: Any) -> str:
    if isinstance(outcome, Verdict):
        return outcome.status.name + (" again" if outcome.replayed else "")
    if isinstance(outcome, list):
        return " ".join(map(said, outcome))
    return type(outcome).__name__


def open_engine(path: Path, *, is_in_pair: bool = False) -> Engine:
    """Open the ledger of a copied folder without serving it."""
    with closing(open_folder(path, {}, {})) as folder:
        keys = folder.keyring
        return Engine.open(
            path,
            bank=BANK,
            data_key=keys.data_key,
            store_key=keys.store_key,
            segment_bytes=1024 * 1024,
            is_in_pair=is_in_pair,
        )


@asynccontextmanager
async def committing(tmp_path: Path, **limits: int) -> AsyncIterator[Committing]:
    """A committer on a copy of the filled folder, closed at the end."""
    path = tmp_path / "bank"
    if not path.exists():
        shutil.copytree(filled_folder(), path)
    engine = open_engine(path)
    try:
        world = Committing(engine, CommitterSettings(**limits))
        async with AsyncExitStack() as opened:
            opened.push_async_callback(world.committer.close)
            for name in ("append_many", "apply", "load"):  # let go whatever the test still holds
                opened.callback(lambda name=name: release_held(engine, name))
            yield world
    finally:
        engine.close()


def release_held(engine: Engine, name: str) -> None:
    for owner in (engine.journal, engine.store):
        held = owner.__dict__.get(name)
        if isinstance(held, Held):
            held.release()


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for a condition, turn by turn of the loop, a bounded time."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"did not happen: {what}"
        await asyncio.sleep(0.002)
