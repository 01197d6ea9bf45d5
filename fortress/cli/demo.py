"""``demo``: a whole bank on this machine in a temporary folder, with sample people, light load and things to try.

It uses what everybody uses: the folders that ``init`` makes, a process for each of two nodes and their witness, client
contexts, the client library. Everything lies in one folder, which goes when the demo ends, however it ends but by
kill -9; then the processes still end by themselves, since their standard input is closed.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fortress.cli.children import Child
from fortress.cli.command import Call, command, current_call
from fortress.cli.contexts import HOME_VARIABLE, Contexts
from fortress.cli.failures import Exit
from fortress.cli.output import Json, LiveLine, Table, say, show
from fortress.cli.views import money_text
from fortress.errors import FortressError, Unreachable

if TYPE_CHECKING:
    from fortress.client.me import Me
    from fortress.client.scenario import Customer

BANK: Final = "a"
CURRENCY: Final = "EUR"
HOST: Final = "127.0.0.1"
WITNESS: Final = "witness"
START_S_MAX: Final = 60.0
LOOK_S_MAX: Final = 1.0
SHOPPERS: Final = 4
SHOPPERS_OPENING_MINOR: Final = 1_000_00
PAUSE_S: Final = 0.5
LINE_S: Final = 0.25
WORDS: Final = (
    "amber anchor autumn basil birch blanket bridge candle canyon cedar cherry clover copper coral cotton "
    "ember falcon fern garden ginger harbor hazel island ivory juniper lantern maple marble meadow mint "
    "nickel ocean olive orchard pebble pepper pine plum quartz raven river saffron shadow silver spruce "
    "stone summer thistle thunder timber tulip valley velvet violet walnut willow winter"
).split()


@dataclass(frozen=True, slots=True)
class Person:
    """One of the sample people.

    Attributes:
        username: to sign in with.
        name: as people call them.
        role: what they are at the bank.
        openings_minor: an account for each, with this much to begin with.
        password: made anew for each demo.
    """

    username: str
    name: str
    role: str
    openings_minor: tuple[int, ...] = ()
    password: str = field(default_factory=lambda: make_password(), repr=False)


def make_password() -> str:
    """Make a password that can be typed: four words."""
    return "-".join(secrets.choice(WORDS) for _ in range(4))


def make_people() -> list[Person]:
    """Give the sample people, with new passwords."""
    return [
        Person("alice", "Alice Example", "customer", (1_000_00, 250_00)),
        Person("bob", "Bob Example", "customer", (500_00,)),
        Person("carol", "Carol Example", "customer", (20_00,)),
        Person("tom", "Tom Example", "teller"),
        Person("ada", "Ada Example", "administrator"),
        Person("grace", "Grace Example", "administrator"),
    ]


@command("demo", "fortress demo", "fortress demo --seconds 10 --json")
@click.option("--seconds", type=click.FloatRange(0, 86400), help="End by itself after this time; at Ctrl-C otherwise.")
@click.option("--no-load", is_flag=True, help="No simulated customers.")
def demo_command(seconds: float | None, no_load: bool) -> int:
    """Run a bank of two nodes on this machine with sample people and light load, and print three things to try.

    Everything is in a temporary folder, which is deleted at the end.
    """
    call = current_call()
    folder = Path(tempfile.mkdtemp(prefix="fortress-demo-"))
    try:
        return asyncio.run(Demo(call, folder).run(seconds, with_load=not no_load))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        say(call, f"{folder} is deleted")


@dataclass(slots=True)
class Totals:
    """What the simulated customers did so far."""

    tasks: int = 0
    errors: int = 0
    rounds: int = 0


class Demo:
    """One demo, in one folder."""

    def __init__(self, call: Call, folder: Path) -> None:
        self._call = call
        self._folder = folder
        self._people = make_people()
        self._contexts = Contexts(folder / "contexts", folder / "contexts" / "state")
        self._totals = Totals()
        self._ended = asyncio.Event()
        self._nodes = (folder / "node-1", folder / "node-2")
        self._children: list[Child] = []
        self._roles = ""
        self.address = ""

    @property
    def _ca(self) -> Path:
        return self._nodes[0] / "certs" / "ca.crt"

    async def run(self, seconds: float | None, *, with_load: bool) -> int:
        """Make the bank, fill it, tell about it, and keep it busy until the end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._ended.set)
        say(self._call, f"making a bank of two nodes and their witness in {self._folder}")
        await asyncio.to_thread(self._make_folders)
        async with AsyncExitStack() as stack:
            await self._start_all(stack)
            say(self._call, "opening accounts for the sample people")
            shoppers = await self._fill()
            self._introduce()
            if with_load:
                load = asyncio.create_task(self._keep_busy(shoppers))
                stack.callback(load.cancel)
            if seconds is not None:
                loop.call_later(seconds, self._ended.set)
            await self._show_life(stack)
            return await self._close_books()

    # --- the bank -----------------------------------------------------------------------------------------------

    def _make_folders(self) -> None:
        from fortress.cli.bootstrap import make_administrator
        from fortress.cli.folders import make_folder
        from fortress.cli.joining import Place, endpoint, make_peer, make_witness
        from fortress.protocol.schnorr import KdfParameters

        administrators = [
            make_administrator(person.username, person.password, KdfParameters(), name=person.name)
            for person in self._people
            if person.role == "administrator"
        ]
        ports = free_ports(7)
        settings: dict[str, str | int] = {
            "server.port": ports[0],
            "monitor.port": ports[1],
            "pair.listen": endpoint(HOST, ports[2]),
            "login.token_s": 86_400,
            "log.format": "json",
        }
        first, second = self._nodes
        make_folder(
            first, bank=BANK, node=first.name, administrators=administrators, currencies=[CURRENCY], settings=settings
        )
        place = Place(host=HOST, port=ports[3], status_port=ports[4], pair_port=ports[5])
        make_peer(second, first, node=second.name, place=place)
        make_witness(self._folder / WITNESS, self._nodes, place=Place(host=HOST, port=ports[6]))

    async def _start_all(self, stack: AsyncExitStack) -> None:
        """Start the witness, then both nodes at once, and wait until there are two copies."""
        commands = {self._folder / WITNESS: "witness", **dict.fromkeys(self._nodes, "serve")}
        for folder, name in commands.items():
            log = self._folder / f"{folder.name}.log"
            self._children.append(Child(folder.name, name, folder, log, lambda text: say(self._call, text)))
        witness, *nodes = self._children
        for child in self._children:
            stack.push_async_callback(child.stop)
        await witness.start()
        await asyncio.gather(*(child.start() for child in nodes))
        self.address = f"{','.join(child.told['address'].rpartition('/')[0] for child in nodes)}/{BANK}"
        deadline = time.monotonic() + START_S_MAX
        while (await self._look())[1] < 2:
            if time.monotonic() > deadline:
                raise Unreachable(f"the nodes of the demo did not find each other; see {self._folder}/*.log")
            await asyncio.sleep(LINE_S)

    async def _look(self) -> tuple[str, int]:
        """Ask both nodes: who is primary, and how many copies there are."""
        from fortress.cli.status import read_site

        for child in self._children[1:]:
            try:
                document = await asyncio.to_thread(read_site, child.told["status"], LOOK_S_MAX)
            except Unreachable:
                continue
            if document.get("role") == "primary" and document.get("state") != "blocked":
                return str(document["node"]), int(document.get("copies", 1))
        return "", 0

    # --- its people ---------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _session(self, person: Person) -> AsyncIterator[Me]:
        from fortress.client.client import connect

        async with connect(f"fortress://{self.address}", ca=self._ca, agent="fortress demo") as bank:
            yield await bank.login(person.username, person.password)

    async def _fill(self) -> list[Customer]:
        """Make people, accounts and contexts; give the customers of the load."""
        from fortress.cli.population import make_customers, open_with, settle
        from fortress.client.money import Money
        from fortress.protocol.accounts import Profile

        ada, grace = (person for person in self._people if person.role == "administrator")
        shoppers = make_customers(SHOPPERS, "shopper")
        async with self._session(ada) as me, self._session(grace) as second:
            for person in self._people:
                if person.role != "administrator":
                    profile = Profile(name=person.name, email=f"{person.username}@example.org")
                    made = await me.administration.create_user(
                        person.username, person.password, roles=(person.role,), profile=profile
                    )
                    if made.approval:  # staff is made by two administrators
                        await second.administration.approve(made.approval)
                for opening in person.openings_minor:
                    await open_with(me, person.username, Money(opening, CURRENCY))
            await settle(me, shoppers, Money(SHOPPERS_OPENING_MINOR, CURRENCY))
            self._keep_context(ada, me)
            self._keep_context(grace, second)
        await asyncio.gather(*(self._sign_in(person) for person in self._people if person.role != "administrator"))
        self._contexts.use(self._people[0].username)
        return shoppers

    async def _sign_in(self, person: Person) -> None:
        async with self._session(person) as me:
            self._keep_context(person, me)

    def _keep_context(self, person: Person, me: Me) -> None:
        from fortress.cli.desk import keep_session

        pem = self._ca.read_text("ascii")
        context = self._contexts.make(person.username, address=self.address, username=person.username, ca_pem=pem)
        keep_session(self._contexts, context, me)

    # --- what is told -------------------------------------------------------------------------------------------

    def _introduce(self) -> None:
        """Print addresses, people and three things to try."""
        home = self._folder / "contexts"
        program = program_name()
        first, second = self._nodes
        tries = [
            (f"{program} pay bob '12.50 {CURRENCY}' --reference Lunch", "alice pays bob"),
            (f"{program} --context carol pay alice '5000 {CURRENCY}'", "carol has not that much: a refusal"),
            (
                f"{program} chaos kill {first}",
                f"the primary dies; to watch, in a third terminal: {program} status {first} {second} --watch",
            ),
        ]
        nodes: list[Json] = [
            {"name": child.name, "folder": str(child.folder), "address": told["address"], "status": told["status"]}
            for child in self._children[1:]
            for told in [child.told]
        ]
        document: Json = {
            "address": self.address,
            "status": f"{self._children[1].told['status']}/status",
            "nodes": nodes,
            "witness": {"folder": str(self._folder / WITNESS), "address": self._children[0].told["address"]},
            "ca": str(self._ca),
            "context_home": str(home),
            "people": [
                {"username": each.username, "role": each.role, "password": each.password} for each in self._people
            ],
            "try": [line for line, _ in tries],
        }
        rows = [
            (
                each.username,
                each.role,
                each.password,
                ", ".join(money_text(minor, CURRENCY) for minor in each.openings_minor),
            )
            for each in self._people
        ]
        steps = "\n".join(f"  {number}. {line}\n     # {why}" for number, (line, why) in enumerate(tries, 1))
        show(
            self._call,
            document,
            f"\nBank {BANK} listens on {self.address}; each payment is on two disks before it is answered\n",
            Table(columns=("Username", "Role", "Password", "Accounts"), rows=rows),
            f"\nThree things to try, in another terminal after\n\n  export {HOME_VARIABLE}={home}\n\n{steps}\n",
            f"  Then see what happened, and that nothing is lost:\n\n    {program} events {first} {second}\n"
            f"    {program} --context ada audit balance\n",
        )
        sys.stdout.flush()
        say(self._call, "Ctrl-C ends the demo and deletes everything")

    async def _show_life(self, stack: AsyncExitStack) -> None:
        """Show on a terminal what goes on, until the end."""
        line = LiveLine(self._call)
        stack.callback(line.close)
        looking = asyncio.create_task(self._keep_looking())
        stack.callback(looking.cancel)
        started = time.monotonic()
        while not self._ended.is_set():
            totals = self._totals
            elapsed_s = time.monotonic() - started
            rate = totals.tasks / elapsed_s if elapsed_s else 0.0
            line.update(
                f"{int(elapsed_s)} s  {self._roles}  {totals.tasks} tasks, {rate:.0f} a second, "
                f"{totals.errors} errors  Ctrl-C to end"
            )
            try:
                await asyncio.wait_for(self._ended.wait(), LINE_S)
            except TimeoutError:
                continue
        line.close()

    async def _keep_looking(self) -> None:
        """Tell who is primary, and each time that it is another one."""
        before = ""
        while True:
            primary, copies = await self._look()
            self._roles = f"{primary} is primary, {copies} {'copy' if copies == 1 else 'copies'}"
            if not primary:
                self._roles = "no primary"
            elif before and primary != before:
                say(self._call, f"{primary} is primary now")
            before = primary or before
            await asyncio.sleep(LINE_S)

    # --- the load -----------------------------------------------------------------------------------------------

    async def _keep_busy(self, shoppers: list[Customer]) -> None:
        """Let simulated customers come and go; what one of them is refused ends nothing."""
        from fortress.client.simulator import Simulator

        while True:
            simulator = Simulator(f"fortress://{self.address}", self._ca, shoppers, rounds=2)
            try:
                result = await simulator.run()
            except FortressError:
                self._totals.errors += 1
            else:
                self._totals.tasks += sum(row.ok + row.refused for row in result.steps)
                self._totals.errors += sum(row.errors for row in result.steps)
                self._totals.rounds += 1
            await asyncio.sleep(PAUSE_S)

    async def _close_books(self) -> int:
        """Add the books up a last time; exit 7 if they do not."""
        ada = next(person for person in self._people if person.username == "ada")
        async with self._session(ada) as me:
            rows = (await me.administration.trial_balance()).rows
        off = [row.currency for row in rows if row.sum_minor]
        totals = self._totals
        document: Json = {"tasks": totals.tasks, "errors": totals.errors, "books_balance": not off}
        verdict = "the books balance" if not off else f"THE BOOKS ARE OFF in {', '.join(off)}"
        show(self._call, document, f"{totals.tasks} tasks by simulated customers, {totals.errors} errors; {verdict}.")
        if off:
            return Exit.integrity
        return Exit.degraded if totals.errors else Exit.ok


def free_port() -> int:
    """Find a port of this machine that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def free_ports(count: int) -> list[int]:
    """Find ports that nobody listens on right now, no two the same."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def program_name() -> str:
    """Say how this program can be called from another terminal."""
    if shutil.which("fortress") == os.path.abspath(sys.argv[0]):
        return "fortress"
    called = Path(sys.argv[0])
    if called.name == "fortress" and called.exists():
        return shlex.quote(str(called.absolute()))
    return f"{shlex.quote(sys.executable)} -m fortress"
