"""A bank for the benches: a folder with accounts and money made beforehand, and a real node serving it.

The folder is filled through the ledger's own engine before the node starts (opening ten thousand accounts one by one
over the wire would measure something else); everything measured afterwards goes over TLS and the sealed channel into
a node process of its own, started as anybody starts it: ``fortress serve``.
"""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench import machine
from fortress import authority
from fortress.client.credentials import LoginKey
from fortress.config import load
from fortress.ledger.commands import Command, CreateCustomer, KeyData, MoveMoney, OpenAccount, OpenLedger
from fortress.ledger.engine import Engine
from fortress.ledger.keyring import Keyring, read_kek
from fortress.ledger.model import BANK, BANK_ACTOR, AccountKind, Actor, TransferKind, account_number
from fortress.ledger.vault import Vault
from fortress.protocol import schnorr
from fortress.protocol.accounts import Profile
from fortress.server import folder as folders
from fortress.server.bank import Person, new_id, now_us
from fortress.server.login import LoginDesk
from fortress.server.process import GC_THRESHOLDS

BANK_ID = "bench"
CURRENCY = "EUR"
OPENING_MINOR = 1_000_000
ACCOUNTS_PER_CUSTOMER = 64
TELLER = "teller"
ADMINISTRATOR = "admin"
KDF = schnorr.KdfParameters(65_536, 3, 4)
FIRST_SEQUENCE = 10_002  # the cash account is the first
START_S_MAX = 120.0


def seed_of(username: str) -> bytes:
    """Give the login seed of a bench customer: 32 bytes, the same every time, worth nothing elsewhere."""
    return username.encode().ljust(32, b".")


def numbers_of(accounts: int) -> list[int]:
    """Give the account numbers of a prepared bank."""
    return [account_number(FIRST_SEQUENCE + index) for index in range(accounts)]


def username_of(index: int) -> str:
    """Name the customer who owns the account of this index."""
    return f"customer{index // ACCOUNTS_PER_CUSTOMER}"


def person_of(index: int) -> str:
    """Name one of the plan's people, who have a login and no account."""
    return f"person{index}"


@dataclass(frozen=True, slots=True)
class Plan:
    """How a bank for a bench looks: accounts, settings of the node by dotted key, people who can only sign in, its id.

    A gateway is a bank with no accounts, whose settings say where it listens for banks.
    """

    accounts: int = 10_000
    settings: Mapping[str, str | int] | None = None
    opening_minor: int = OPENING_MINOR
    people: int = 0
    bank: str = BANK_ID

    @property
    def is_gateway(self) -> bool:
        """Whether banks register there."""
        return "switch.listen" in (self.settings or {})


PORTS = (20_000, 32_000)


def free_port() -> int:
    """Find a free port on loopback, below those that the kernel gives to outgoing connections: none takes it since."""
    while True:
        port = random.SystemRandom().randrange(*PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def make_folder(folder: Path, plan: Plan) -> None:
    """Make the folder of a new bank and fill its ledger."""

    def certificates(certs: Path) -> None:
        now = datetime.now(UTC)
        certs.mkdir(parents=True, exist_ok=True)
        authority.make_authority(certs, plan.bank, now=now)
        hosts = ["localhost", "127.0.0.1"]
        authority.issue(certs, authority.Kind.node, bank=plan.bank, name="node", hosts=hosts, now=now)
        authority.issue(certs, authority.Kind.bank, bank=plan.bank, name="bank", hosts=[], now=now)

    settings: dict[str, str | int] = {
        "server.port": free_port(),
        "monitor.port": free_port(),
        "server.connections_per_address_max": 4096,
        **(plan.settings or {}),
    }
    folders.create(folder, bank=plan.bank, node="node-1", make_certificates=certificates, settings=settings)
    _fill(folder, plan)


class _Filler:
    """Writes a new bank's entries through the engine, thousands to a record."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.judged = 0

    def do(self, command: Command) -> Any:
        engine = self.engine
        now = engine.clock(now_us())
        while (wanted := engine.state.missing(command)) is not None:
            engine.state.fill(wanted, engine.store.load(wanted))
        verdict = engine.judge(command, now)
        if verdict.status:
            raise RuntimeError(f"{command} was refused: {verdict.status.name}")
        self.judged += 1
        if self.judged % 8_000 == 0:
            self.close()
        return verdict.entry

    def close(self) -> None:
        closed = self.engine.close_record(now_us(), self.engine.last.lsn if self.engine.last else 0)
        if closed is not None:
            record, delta = closed
            self.engine.journal.append(record)
            self.engine.store.apply([delta])
            self.engine.state.trim(self.engine.store.applied_position)


@contextmanager
def open_engine(folder: Path) -> Iterator[tuple[Engine, Keyring]]:
    """Open the ledger of a folder whose node does not run, for as long as the block lasts.

    The collector of this process runs as seldom as a node's from here on.
    """
    gc.set_threshold(*GC_THRESHOLDS)
    settings = load(folder, {}, {})
    kek = read_kek(key_file=settings.path(settings.keys.key_file), key_command="", environment={})
    keyring = Keyring.open(folder / folders.KEYRING_NAME, kek)
    engine = Engine.open(
        folder,
        bank=settings.node.bank,
        data_key=keyring.data_key,
        store_key=keyring.store_key,
        segment_bytes=settings.ledger.segment_bytes,
    )
    try:
        yield engine, keyring
    finally:
        engine.close()


def _fill(folder: Path, plan: Plan) -> None:
    with open_engine(folder) as (engine, keyring), closing(Vault(folder / "people.db", keyring.vault_key)) as vault:
        _open_accounts(engine, vault, LoginDesk(plan.bank, keyring.handle_key, load(folder, {}, {}).login), plan)


def _open_accounts(engine: Engine, vault: Vault, desk: LoginDesk, plan: Plan) -> None:
    filler = _Filler(engine)
    filler.do(OpenLedger(BANK_ACTOR, plan.bank, (CURRENCY,)))
    cash = filler.do(OpenAccount(BANK_ACTOR, new_id(), BANK, int(AccountKind.cash), CURRENCY, None)).number

    def customer(username: str, roles: tuple[str, ...]) -> int:
        handle = desk.handle_of(username)
        login = LoginKey(seed_of(username))
        sealed = vault.seal_login_key(handle, login.public)
        numbers = (KDF.memory_kib, KDF.iterations, KDF.lanes)
        key = KeyData(b"bench salt......", *numbers, sealed, login.signing_public())
        person = vault.seal_person(handle, Person(username, Profile(name=username)).encoded())
        number: int = filler.do(CreateCustomer(BANK_ACTOR, new_id(), handle, roles, key, person)).customer
        return number

    customer(ADMINISTRATOR, ("administrator",))
    customer(TELLER, ("teller",))
    for index in range(plan.people):
        customer(person_of(index), ("customer",))
    owner = Actor(0, frozenset())
    for index in range(plan.accounts):
        if index % ACCOUNTS_PER_CUSTOMER == 0:
            owner = Actor(customer(username_of(index), ("customer",)), frozenset(("customer",)))
        number = filler.do(OpenAccount(owner, new_id(), owner.customer, int(AccountKind.customer), CURRENCY)).number
        deposit = (new_id(), cash, number, plan.opening_minor, CURRENCY)
        filler.do(MoveMoney(BANK_ACTOR, int(TransferKind.deposit), *deposit))
    filler.close()


class Bank:
    """A prepared bank and its node; ``with Bank(plan) as bank`` starts, stops and deletes it.

    Attributes:
        folder: the node's folder.
        port: where it listens on loopback.
        monitor_port: where its status page is.
        process: the node.
    """

    def __init__(self, plan: Plan | None = None, *, parent: Path | None = machine.DISK_FOLDER) -> None:
        self.plan = plan or Plan()
        self._temporary = tempfile.mkdtemp(prefix="fortress-bench-", dir=parent)
        self.folder = Path(self._temporary) / "bank"
        self.process: subprocess.Popen[bytes] | None = None
        try:
            make_folder(self.folder, self.plan)
        except BaseException:
            self.delete()
            raise
        settings = load(self.folder, {}, {})
        self.port, self.monitor_port = settings.server.port, settings.monitor.port
        self.ca = self.folder / "certs" / "ca.crt"

    def start(self) -> None:
        """Start the node and wait until it answers."""
        log = open(Path(self._temporary) / "node.log", "ab")
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        command = [sys.executable, "-m", "fortress", "serve", str(self.folder)]
        with machine.signals_held():
            self.process = machine.start_process(command, stdout=log, stderr=log, env=environment)
        log.close()
        deadline = time.monotonic() + START_S_MAX
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the node did not start:\n{self.log()}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            for port in filter(None, (self.port, self.monitor_port)):  # the page comes last; no port, no page
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    def log(self) -> str:
        """Give the end of what the node printed."""
        return (Path(self._temporary) / "node.log").read_text(errors="replace")[-4000:]

    def status(self) -> dict[str, Any]:
        """Ask the node's status page."""
        from urllib.request import urlopen

        with urlopen(f"http://127.0.0.1:{self.monitor_port}/status", timeout=10) as answer:
            document: dict[str, Any] = json.load(answer)
            return document

    def resident_mb(self) -> float:
        """Tell the node's resident memory in megabytes."""
        assert self.process is not None
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / 1e6

    def peak_mb(self) -> float:
        """Tell the most resident memory that the node has had, in megabytes."""
        assert self.process is not None
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6

    def cpu_s(self) -> float:
        """Tell how much processor time the node has used, in seconds."""
        assert self.process is not None
        return machine.cpu_s(self.process.pid)

    def stop(self) -> None:
        """Stop the node in order; its end code must be 0."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        code = self.process.returncode if self.process is not None else 0
        self.process = None
        if code:
            raise RuntimeError(f"the node ended with {code}:\n{self.log()}")

    def kill(self) -> None:
        """End the node as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)
        self.process = None

    def delete(self) -> None:
        """Delete everything; the node must have stopped."""
        shutil.rmtree(self._temporary, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.process is not None and self.process.poll() is None:
                if kind is None:
                    self.stop()
                else:
                    self.kill()
        finally:
            self.delete()
