"""A real gateway node on a folder of its own, and banks that say what the test wants over real links to it."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec
import pytest

from fortress import authority
from fortress.authority import Kind
from fortress.errors import BankRejected
from fortress.gateway.links import Link, dial
from fortress.gateway.messages import (
    Acknowledge,
    Directory,
    Message,
    Outcome,
    Prepare,
    Register,
    Registered,
    Rejected,
    Submit,
    Vote,
)
from fortress.gateway.switch import Switch
from fortress.ledger.model import BANK_ACTOR
from fortress.pair.link import check_certificate, dialing_context
from fortress.protocol.switching import AddBank, SuspendBank
from fortress.server import membership
from fortress.server.bank import new_id
from fortress.server.folder import create, open_folder
from fortress.server.process import Process
from tests.pair.nodes import Shelf, free_port
from tests.server.banks import World, until, write_plan

GATEWAY = "gateway"
CAP_MINOR = 100_000
PAYER, PAYEE = 1_000_101, 2_000_101
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@cache
def gateway_folder() -> Path:
    """A gateway without a ledger."""
    folder = Path(mkdtemp(prefix="fortress-test-")) / "gateway"

    def certificates(certs: Path) -> None:
        authority.make_authority(certs, GATEWAY)
        authority.issue(certs, Kind.node, bank=GATEWAY)
        authority.issue(certs, Kind.bank, bank=GATEWAY)

    settings: dict[str, str | int] = {
        "server.port": 0,
        "monitor.port": 0,
        "ledger.segment_bytes": 1024 * 1024,
        "switch.listen": "127.0.0.1:0",
        "switch.deadline_ms": 60_000,
        "log.requests": "all",
    }
    create(folder, bank=GATEWAY, node="one", make_certificates=certificates, settings=settings)
    return folder


@cache
def certs_of(bank: str, title: str = "", *, kind: Kind = Kind.node, is_expired: bool = False) -> Path:
    """Certificates of a bank's node; ``title`` names the bank whose authority signs, if that is another one."""
    folder = Path(mkdtemp(prefix="fortress-test-")) / bank
    signer = certs_of(title) if title not in ("", bank) else folder
    if signer is folder:
        authority.make_authority(folder, bank)
    else:
        folder.mkdir()
        shutil.copyfile(signer / "ca.crt", folder / "ca.crt")
    now = datetime.now(UTC) - timedelta(days=2 * authority.LEAF_VALID_DAYS) if is_expired else None
    authority.issue(folder, kind, bank=bank, name="node", authority_folder=signer, now=now)
    return folder


def pem_of(bank: str) -> str:
    """The authority of a bank."""
    return (certs_of(bank) / "ca.crt").read_text()


class Teller:
    """One bank's side of a link, whose words are the test's.

    Attributes:
        link: to the gateway; it may have ended.
        heard: everything the gateway said, in order.
        reasons: why the link ended, once it has.
        answers: to the gateway's questions, by what they are about.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.link: Link
        self.heard: list[Any] = []
        self.reasons: list[Exception | None] = []
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, Any]] = []

    def make(self) -> Link:
        return Link(
            is_dialer=True,
            check=self._check,
            on_open=self._opened,
            on_message=lambda link, message: self.heard.append(message),
            on_lost=lambda link, reason: self.reasons.append(reason),
            answer=self._answer,
        )

    def _check(self, link: Link, connection: ssl.SSLObject) -> None:
        check_certificate(connection, GATEWAY, BankRejected)

    def _opened(self, link: Link) -> None:
        self.link = link

    async def _answer(self, link: Link, about: str, fields: msgspec.Raw) -> object:
        self.asked.append((about, msgspec.msgpack.decode(fields)))
        found = self.answers[about]
        if isinstance(found, Exception):
            raise found
        return found

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.link.send(message)

    def told(self, kind: type) -> list[Any]:
        """What was heard of a kind."""
        return [message for message in self.heard if type(message) is kind]

    async def wait(self, kind: type, count: int = 1) -> Any:
        """Wait for so many of a kind, forget them, and give the last."""
        await until(lambda: len(self.told(kind)) >= count or self.reasons, f"{count} {kind.__name__} at {self.name}")
        found = self.told(kind)
        assert len(found) >= count, (self.heard, self.reasons)
        self.heard = [message for message in self.heard if type(message) is not kind]
        return found[-1]

    async def refused(self) -> Rejected:
        """Wait until the gateway has refused the registration and ended the link."""
        await until(lambda: self.reasons, f"the end of the link of {self.name}")
        (found,) = self.told(Rejected)
        rejected: Rejected = found
        return rejected

    async def outcome(self) -> Outcome:
        """Wait for an outcome and acknowledge it."""
        found: Outcome = await self.wait(Outcome)
        self.say(Acknowledge(found.id))
        return found

    async def close(self) -> None:
        if hasattr(self, "link"):
            self.link.end()
            await until(lambda: self.reasons, f"the end of {self.name}")


class Hub(World):
    """A gateway, and the banks that dialed it."""

    def __init__(self, folder: Path, process: Process, opened: AsyncExitStack) -> None:
        super().__init__(folder, process, opened)
        switch = process.node.ports.switch
        assert isinstance(switch, Switch)
        self.switch = switch

    # --- banks -------------------------------------------------------------------------------------------------------
    async def add(self, name: str, currency: str = "EUR", cap_minor: int = CAP_MINOR, pem: str | None = None) -> None:
        found = pem_of(name) if pem is None else pem
        await self.switch.add_bank(BANK_ACTOR, AddBank(new_id(), name, currency, cap_minor, found))

    async def suspend(self, name: str, *, resume: bool = False) -> None:
        await self.switch.suspend_bank(BANK_ACTOR, SuspendBank(new_id(), name, resume))

    async def dial(self, name: str, certs: Path | None = None) -> Teller:
        """Connect as a bank, and say nothing."""
        teller = Teller(name)
        folder = certs or certs_of(name)
        context = dialing_context(folder / "node.crt", folder / "node.key", self.folder / "certs" / "ca.crt")
        await dial(f"127.0.0.1:{self.switch.port}", context, teller.make)
        self._opened.push_async_callback(teller.close)
        return teller

    async def knock(self, name: str, certs: Path | None = None, *, epoch: int = 1, says: str = "") -> Teller:
        """Connect, and ask to be registered."""
        teller = await self.dial(name, certs)
        teller.say(Register(says or name, "one", epoch, f"{name}.example:1", f"{name}.example:2"))
        return teller

    async def enter(self, name: str, *, epoch: int = 1) -> Teller:
        """Connect and be registered."""
        teller = await self.knock(name, epoch=epoch)
        await teller.wait(Registered)
        await teller.wait(Directory)
        return teller

    async def enter_both(self) -> tuple[Teller, Teller]:
        """Have bank-a and bank-b added, unless they are, and registered; each knows that the other is here."""
        for name in ("bank-a", "bank-b"):
            if name not in self.bank.state.banks:
                await self.add(name)
        a, b = await self.enter("bank-a"), await self.enter("bank-b")
        await until(lambda: self.switch.directory.connected == 2)
        return a, b

    # --- payments ----------------------------------------------------------------------------------------------------
    async def position_of(self, name: str, currency: str = "EUR") -> tuple[int, int]:
        """A bank's position and what is reserved of it, in minor units, as it is committed."""
        (row,) = [
            row for row in (await self.switch.positions()).positions if (row.bank, row.currency) == (name, currency)
        ]
        return row.position_minor, row.reserved_minor


def submission(amount: int = 500, payee_bank: str = "bank-b", *, id: bytes = b"", currency: str = "EUR") -> Submit:
    return Submit(id or new_id(), PAYER, payee_bank, PAYEE, amount, currency, "Rent")


async def prepared(a: Teller, b: Teller, amount: int = 500) -> Prepare:
    """Bring a payment as far as the payee's bank's vote."""
    a.say(submission(amount, b.name))
    found: Prepare = await b.wait(Prepare)
    return found


async def paid(a: Teller, b: Teller, amount: int = 500) -> Outcome:
    """Carry out a payment, and give its outcome."""
    prepare = await prepared(a, b, amount)
    b.say(Vote(prepare.id))
    outcomes = await asyncio.gather(a.outcome(), b.outcome())
    assert outcomes[0] == outcomes[1]
    return outcomes[0]


@asynccontextmanager
async def switching(tmp_path: Path, **flags: str) -> AsyncIterator[Hub]:
    """Serve a copy of the gateway's folder; in the same test a second time, the same copy."""
    folder = tmp_path / "gateway"
    if not folder.exists():
        shutil.copytree(gateway_folder(), folder)
        write_plan(folder, "ada")
    settings = {name.replace("__", "."): value for name, value in flags.items()}
    process = await Process.start(open_folder(folder, settings, {}), make_parts=lambda node: [Switch(node)])
    async with AsyncExitStack() as opened:
        opened.push_async_callback(process.stop, deadline_s=2)
        yield Hub(folder, process, opened)


@asynccontextmanager
async def switching_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Hub, Hub]]:
    """Serve a gateway of two nodes in step; the first is primary."""
    shelf = Shelf()
    monkeypatch.setattr(membership, "open_register", lambda *_, **__: shelf)
    ports = free_port(), free_port()
    async with AsyncExitStack() as opened:
        hubs: list[Hub] = []
        for number, name in enumerate(("one", "two")):
            folder = tmp_path / name
            shutil.copytree(gateway_folder(), folder)
            if number == 0:
                write_plan(folder, "ada")
            settings = {
                "node.name": name,
                "pair.cluster": "00" * 16,
                "pair.listen": f"127.0.0.1:{ports[number]}",
                "pair.peer": f"127.0.0.1:{ports[1 - number]}",
            }
            process = await Process.start(open_folder(folder, settings, {}), make_parts=lambda node: [Switch(node)])
            opened.push_async_callback(process.stop, deadline_s=2)
            hubs.append(Hub(folder, process, opened))
            if number == 0:
                await until(lambda: hubs[0].switch._is_open, "the founder is open")
        await until(lambda: hubs[0].process.statistics()["state"] == "primary.paired", "in step")
        yield hubs[0], hubs[1]
