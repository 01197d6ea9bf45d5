"""The world that the browser tests look at: two banks, their gateway, people with money, and the pages of all three.

Real processes, as a demo runs them: bank a is a pair with its witness, bank b and the gateway are one node each. Two
processes serve the pages of bank a, as behind a load balancer. Sessions at bank b are short, so one is seen to end.

    async with World(folder) as world:
        async with world.session("alice") as me: ...
        async with world.without_primary(): ...
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from fortress.cli.bootstrap import Administrator, make_administrator
from fortress.cli.chaos import MARK_NAME
from fortress.cli.children import Child
from fortress.cli.folders import make_folder
from fortress.cli.gateways import connect_bank, gateway_of
from fortress.cli.joining import Place, endpoint, make_witness
from fortress.cli.opening import connect_banks
from fortress.cli.pairs import HOST, NODES, PORTS_OF_BANK, Pair, free_ports
from fortress.cli.population import OPENING_REFERENCE, Person, make_people
from fortress.client.client import connect
from fortress.client.me import Me
from fortress.client.money import Money
from fortress.protocol.accounts import Profile
from fortress.protocol.schnorr import KdfParameters
from fortress.server.settings_file import change_settings

CURRENCY: Final = "EUR"
GATEWAY: Final = "gateway"
LOCKOUT_FAILURES: Final = 3
TOKEN_S_SHORT: Final = 30
PATIENCE_S: Final = 30.0
POLL_S: Final = 0.05
PORTS_SINGLE: Final = 3
FREELY: Final[Mapping[str, int]] = {"web.ceremonies_per_minute": 6000, "web.requests_per_s": 5000}
"""All tests come from one address."""

T = TypeVar("T")
Say = Callable[[str], None]


def people() -> list[Person]:
    """Give a demo's people and those that some tests need for themselves; the passwords are new."""
    return [
        *make_people(),
        Person("a", "dora", "Dora Example", "customer", (80_00,)),
        Person("a", "emil", "Emil Example", "customer", (60_00,)),
        Person("a", "lena", "Lena Example", "customer", ()),
        Person("a", "nora", "Nora Example", "customer", (0,)),
        Person("a", "odo", "Odo Example", "auditor"),
    ]


class Single:
    """A bank, or the gateway, of one node.

    Attributes:
        bank: its id.
        folders: of its node.
        children: its process.
    """

    def __init__(self, bank: str, folder: Path, say: Say) -> None:
        self.bank = bank
        self.folders = [folder / bank]
        command = "gateway" if bank == GATEWAY else "serve"
        self.children = [Child(bank, command, self.folders[0], folder / f"{bank}.log", say)]

    @property
    def ca(self) -> Path:
        """The certificate of its authority."""
        return self.folders[0] / "certs" / "ca.crt"

    @property
    def url(self) -> str:
        """Where clients reach it, once it runs."""
        return f"fortress://{self.children[0].told['address']}"

    def make(self, administrators: list[Administrator], ports: list[int], more: Mapping[str, int]) -> None:
        """Make its folder; blocking."""
        settings: dict[str, int | str] = {"server.port": ports[0], "monitor.port": ports[1], "log.format": "json"}
        if self.bank == GATEWAY:
            settings["switch.listen"] = endpoint(HOST, ports[2])
        make_folder(
            self.folders[0],
            bank=self.bank,
            node="node-1",
            administrators=administrators,
            currencies=[CURRENCY],
            settings={**settings, **more},
        )

    async def start(self) -> None:
        """Start it and wait until it serves."""
        await self.children[0].start()


@dataclass(frozen=True)
class Account:
    """An account that somebody was given: whose, at which bank, its number."""

    owner: str
    bank: str
    number: int

    @property
    def payee(self) -> str:
        """As a payer writes it."""
        return f"{self.bank}/{self.number}"


class World:
    """All processes and people; ``async with`` starts them and ends them whatever happens.

    Args:
        folder: an existing one for everything.

    Attributes:
        people: by username.
        accounts: by username, in the order of opening.
        sites: where the pages are: ``a``, ``a-2`` (the second process of the same bank), ``b``, ``gateway``.
    """

    def __init__(self, folder: Path) -> None:
        self.people = {person.username: person for person in people()}
        self.accounts: dict[str, list[Account]] = {}
        self.sites: dict[str, str] = {}
        self.said: list[str] = []
        self._folder = folder
        self.a = Pair("a", folder, is_gateway=False, say=self.said.append)
        self._b = Single("b", folder, self.said.append)
        self._gateway = Single(GATEWAY, folder, self.said.append)
        self._witness = Child("witness", "witness", folder / "witness", folder / "witness.log", self.said.append)
        self._pages = {
            name: Child(
                f"pages of {name}", "web", folder / f"pages-{name}", folder / f"pages-{name}.log", self.said.append
            )
            for name in ("a", "a-2", "b", GATEWAY)
        }
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self._make_folders)
            self._opened.push_async_callback(self._stop)
            await self._witness.start()
            await asyncio.gather(*(each.start() for each in (self.a, self._b, self._gateway)))
            pages = asyncio.create_task(self._start_pages())
            await self._fill()
            await pages
        except BaseException:
            await self._opened.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    # --- processes ---------------------------------------------------------------------------------------------------

    def _make_folders(self) -> None:
        ports = free_ports(PORTS_OF_BANK + 2 * PORTS_SINGLE + 1 + len(self._pages))
        self.a.make(self._administrators("a"), CURRENCY, [ports.pop() for _ in range(PORTS_OF_BANK)])
        for each, more in ((self._b, {"login.token_s": TOKEN_S_SHORT}), (self._gateway, {})):
            each.make(self._administrators(each.bank), [ports.pop() for _ in range(PORTS_SINGLE)], more)
        for folder in self.a.folders:
            change_settings(folder, {"login.failures_before_lockout": LOCKOUT_FAILURES})
        for bank in (self.a, self._b):
            connect_bank(bank.folders, gateway_of(self._gateway.folders))
        make_witness(self._folder / "witness", self.a.folders, place=Place(host=HOST, port=ports.pop()))
        for child in self._pages.values():
            child.folder.mkdir()
            lines = [f"{key.partition('.')[2]} = {value}" for key, value in {**FREELY, "web.port": ports.pop()}.items()]
            (child.folder / "fortress.toml").write_text("\n".join(["[web]", *lines, ""]), "utf-8")

    def _administrators(self, bank: str) -> list[Administrator]:
        return [
            make_administrator(each.username, each.password, KdfParameters(), name=each.name)
            for each in self.people.values()
            if (each.bank, each.role) == (bank, "administrator")
        ]

    async def _start_pages(self) -> None:
        async def start(name: str, child: Child) -> None:
            house = self._house(name.partition("-")[0])
            kind = "gateway" if house.bank == GATEWAY else "bank"
            with (child.folder / "fortress.toml").open("a", encoding="utf-8") as file:
                file.write(f'bank = "{house.url}"\nca = "{house.ca}"\nkind = "{kind}"\n')
            await child.start()
            self.sites[name] = child.told["url"]

        await asyncio.gather(*(start(name, child) for name, child in self._pages.items()))

    async def _stop(self) -> None:
        children = [*self._pages.values(), self._witness, *self._b.children, *self._gateway.children, *self.a.children]
        await asyncio.gather(*(child.stop() for child in children))

    def _house(self, bank: str) -> Pair | Single:
        return {"a": self.a, "b": self._b, GATEWAY: self._gateway}[bank]

    def story(self) -> str:
        """Give the end of what each process wrote."""
        ends = (f"--- {log.name}\n{log.read_text('utf-8', 'replace')[-2000:]}" for log in self._folder.glob("*.log"))
        return "\n".join([*self.said, *ends])

    @asynccontextmanager
    async def without_primary(self) -> AsyncIterator[None]:
        """Kill the primary of bank a, as a crash does, and let nobody take over before the block ends.

        The killed node comes back by itself some seconds later.
        """
        await self.wait_paired()
        primary, _ = await self.a.look()
        killed, standby = self.a.children if primary == NODES[0] else self.a.children[::-1]
        _signal(standby, signal.SIGSTOP)
        try:
            _signal(killed, signal.SIGKILL)
            yield
        finally:
            _signal(standby, signal.SIGCONT)

    async def wait_paired(self) -> None:
        """Wait until both nodes of bank a are there, with two copies."""

        async def is_paired() -> bool:
            return (await self.a.look())[1] == 2

        await until(is_paired)

    # --- people ------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def session(self, username: str) -> AsyncIterator[Me]:
        """Sign somebody in, not by a page but through the client library."""
        person = self.people[username]
        house = self._house(person.bank)
        async with connect(house.url, ca=house.ca, deadline_s=PATIENCE_S, agent="browser tests") as bank:
            yield await bank.login(person.username, person.password)

    async def _fill(self) -> None:
        await asyncio.gather(self._fill_bank("a"), self._fill_bank("b"))
        async with self.session("gus") as me, self.session("gina") as other:
            await connect_banks(me, other, [self.a, self._b], CURRENCY)

    async def _fill_bank(self, bank: str) -> None:
        staff = [each for each in self.people.values() if (each.bank, each.role) == (bank, "administrator")]
        async with AsyncExitStack() as stack:
            me, *others = [await stack.enter_async_context(self.session(each.username)) for each in staff]
            known = [each for each in self.people.values() if each.bank == bank and each not in staff]
            await asyncio.gather(*(self._settle(me, person) for person in known))
            if others:  # staff is made by two administrators
                waiting = await others[0].administration.approvals()
                await asyncio.gather(*(others[0].administration.approve(row.approval) for row in waiting))

    async def _settle(self, me: Me, person: Person) -> None:
        profile = Profile(name=person.name, email=f"{person.username}@example.org")
        await me.administration.create_user(person.username, person.password, roles=(person.role,), profile=profile)
        for opening in person.openings_minor:
            view = await me.open_account(CURRENCY, username=person.username)
            if opening:
                await me.deposit(view.number, Money(opening, CURRENCY), reference=OPENING_REFERENCE)
            self.accounts.setdefault(person.username, []).append(Account(person.username, person.bank, view.number))


def _signal(child: Child, number: signal.Signals) -> None:
    os.kill(int((child.folder / MARK_NAME).read_text("ascii")), number)


async def until(condition: Callable[[], Awaitable[T]], deadline_s: float = PATIENCE_S) -> T:
    """Ask again and again until the answer is true, and give it.

    Raises:
        TimeoutError: it never was.
    """
    deadline = time.monotonic() + deadline_s
    while not (found := await condition()):
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not come")
        await asyncio.sleep(POLL_S)
    return found
