"""``demo``: two banks and the gateway between them, all on this machine, with sample people, light load, things to try.

It uses what everybody uses: the folders that ``init`` makes, a process for each of two nodes of a bank or gateway, one
witness for all, pages for each, client contexts, the client library. The nodes of a pair reach each other through
cables that can be cut. Everything lies in one folder, which goes when the demo ends, however it ends but by kill -9;
then the processes still end by themselves, since their standard input is closed.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fortress.cli.cables import Cables
from fortress.cli.children import Child
from fortress.cli.command import Call, command, current_call
from fortress.cli.contexts import HOME_VARIABLE, Contexts
from fortress.cli.failures import Exit
from fortress.cli.opening import connect_banks, open_bank, settled
from fortress.cli.output import Json, LiveLine, Table, say, show
from fortress.cli.pages import Pages
from fortress.cli.pairs import (
    HOST,
    PORTS_OF_BANK,
    PORTS_OF_CABLES,
    PORTS_OF_GATEWAY,
    Pair,
    free_port,
    free_ports,
)
from fortress.cli.population import Person, make_people
from fortress.cli.traffic import Branch, Totals, keep_busy, keep_paying
from fortress.cli.views import money_text

if TYPE_CHECKING:
    from fortress.client.me import Me

__all__ = ["Demo", "demo_command", "free_port", "program_name"]

BANKS: Final = ("a", "b")
GATEWAY: Final = "gateway"
CURRENCY: Final = "EUR"
WITNESS: Final = "witness"
LINE_S: Final = 0.25
END_S_MAX: Final = 20.0


@command("demo", "fortress demo", "fortress demo --small", "fortress demo --seconds 10 --json")
@click.option("--seconds", type=click.FloatRange(0, 86400), help="End by itself after this time; at Ctrl-C otherwise.")
@click.option("--no-load", is_flag=True, help="No simulated customers.")
@click.option("--small", is_flag=True, help="One bank only, and no gateway.")
def demo_command(seconds: float | None, no_load: bool, small: bool) -> int:
    """Run two banks and a gateway on this machine, two nodes each, with their pages, and print three things to try.

    With sample people and light load, within the banks and between them. Everything is in a temporary folder, which is
    deleted at the end.
    """
    call = current_call()
    folder = Path(tempfile.mkdtemp(prefix="fortress-demo-"))
    try:
        return asyncio.run(Demo(call, folder, small=small).run(seconds, with_load=not no_load))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        say(call, f"{folder} is deleted")


class Demo:
    """One demo, in one folder."""

    def __init__(self, call: Call, folder: Path, *, small: bool = False) -> None:
        self._call = call
        self._folder = folder
        banks = BANKS[:1] if small else BANKS
        self._banks = [Pair(bank, folder, is_gateway=False, say=self._say) for bank in banks]
        self._gateway = None if small else Pair(GATEWAY, folder, is_gateway=True, say=self._say)
        self._pairs = [*self._banks, *([self._gateway] if self._gateway else [])]
        self._people = [person for person in make_people() if person.bank in {pair.bank for pair in self._pairs}]
        self._witness = Child(WITNESS, WITNESS, folder / WITNESS, folder / f"{WITNESS}.log", self._say)
        self._pages = Pages(self._pairs, folder, self._say)
        self._ports_of_pages: list[int] = []
        self._cables = Cables(())
        self._contexts = Contexts(folder / "contexts", folder / "contexts" / "state")
        self._totals = Totals()
        self._ended = asyncio.Event()

    def _say(self, text: str) -> None:
        say(self._call, text)

    async def run(self, seconds: float | None, *, with_load: bool) -> int:
        """Make banks and gateway, fill them, tell about them, and keep them busy until the end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._ended.set)
        self._say(f"making {self._what()} in {self._folder}")
        await asyncio.to_thread(self._make_folders)
        async with AsyncExitStack() as stack:
            await self._start_all(stack)
            self._say("opening accounts for the sample people, and the pages")
            branches, _ = await asyncio.gather(self._fill(), self._pages.start(self._ports_of_pages))
            self._introduce()
            payers: list[asyncio.Task[None]] = []
            if with_load:
                payers = self._begin_load(stack, branches)
            if seconds is not None:
                loop.call_later(seconds, self._ended.set)
            await self._show_life(stack)
            if payers:
                await asyncio.wait(payers, timeout=END_S_MAX)
            return await self._close_books()

    def _what(self) -> str:
        if self._gateway is None:
            return "a bank of two nodes and their witness"
        return "two banks and a gateway of two nodes each, and their witness"

    def _begin_load(self, stack: AsyncExitStack, branches: Sequence[Branch]) -> list[asyncio.Task[None]]:
        """Begin what customers do; gives the tasks that pay between banks, which end by themselves."""
        for branch in branches:
            stack.callback(asyncio.create_task(keep_busy(branch, self._totals)).cancel)
        payers = [
            asyncio.create_task(keep_paying(payer, payee, CURRENCY, self._totals, self._ended))
            for payer in branches
            for payee in branches
            if payer is not payee
        ]
        for task in payers:
            stack.callback(task.cancel)
        return payers

    # --- banks and gateway --------------------------------------------------------------------------------------

    def _make_folders(self) -> None:
        from fortress.cli.bootstrap import make_administrator
        from fortress.cli.gateways import connect_bank, gateway_of
        from fortress.cli.joining import Place, make_witness
        from fortress.protocol.schnorr import KdfParameters

        counts = [PORTS_OF_GATEWAY if pair.is_gateway else PORTS_OF_BANK for pair in self._pairs]
        ports = free_ports(sum(counts) + len(self._pairs) * (PORTS_OF_CABLES + 1) + 1)
        for pair, count in zip(self._pairs, counts, strict=True):
            administrators = [
                make_administrator(person.username, person.password, KdfParameters(), name=person.name)
                for person in self._people
                if (person.bank, person.role) == (pair.bank, "administrator")
            ]
            pair.make(administrators, CURRENCY, [ports.pop() for _ in range(count)])
        if self._gateway is not None:
            for bank in self._banks:
                connect_bank(bank.folders, gateway_of(self._gateway.folders))
        members = [folder for pair in self._pairs for folder in pair.folders]
        make_witness(self._folder / WITNESS, members, place=Place(host=HOST, port=ports.pop()))
        cables = [each for pair in self._pairs for each in pair.lay_cables([ports.pop(), ports.pop()])]
        self._cables = Cables(cables)
        self._ports_of_pages = ports

    async def _start_all(self, stack: AsyncExitStack) -> None:
        """Start the witness, then all nodes at once, and wait until there are two copies of everything."""
        children = [self._witness, *(child for pair in self._pairs for child in pair.children)]
        self._say(f"starting {len(children)} processes")
        started = time.monotonic()
        self._cables.start()
        stack.callback(self._cables.stop)
        stack.push_async_callback(_stop, [*children, *self._pages.children])
        await self._witness.start()

        async def start(pair: Pair) -> None:
            await pair.start()
            self._say(f"{pair.bank} is up, with two copies, after {time.monotonic() - started:.0f} s")

        await asyncio.gather(*(start(pair) for pair in self._pairs))

    # --- its people ---------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _session(self, pair: Pair, person: Person) -> AsyncIterator[Me]:
        from fortress.client.client import connect

        async with connect(pair.url, ca=pair.ca, agent="fortress demo") as bank:
            yield await bank.login(person.username, person.password)

    def _staff(self, pair: Pair) -> list[Person]:
        return [each for each in self._people if (each.bank, each.role) == (pair.bank, "administrator")]

    async def _fill(self) -> list[Branch]:
        """Make people, accounts and contexts, and let the banks into the gateway; give the load its customers."""
        branches = list(await asyncio.gather(*(self._fill_bank(pair) for pair in self._banks)))
        if self._gateway is not None:
            self._say("letting both banks into the gateway")
            first, second = self._staff(self._gateway)
            async with self._session(self._gateway, first) as me, self._session(self._gateway, second) as other:
                await connect_banks(me, other, self._banks, CURRENCY)
                self._keep_context(self._gateway, first, me)
                self._keep_context(self._gateway, second, other)
        self._contexts.use(self._people[0].username)
        return branches

    async def _fill_bank(self, pair: Pair) -> Branch:
        people = [person for person in self._people if person.bank == pair.bank]
        first, *others = self._staff(pair)
        async with AsyncExitStack() as stack:
            me = await stack.enter_async_context(self._session(pair, first))
            second = await stack.enter_async_context(self._session(pair, others[0])) if others else None
            branch = await open_bank(pair, me, second, people, CURRENCY)
            self._keep_context(pair, first, me)
            if second is not None:
                self._keep_context(pair, others[0], second)
        await asyncio.gather(*(self._sign_in(pair, person) for person in people if person.role != "administrator"))
        return branch

    async def _sign_in(self, pair: Pair, person: Person) -> None:
        async with self._session(pair, person) as me:
            self._keep_context(pair, person, me)

    def _keep_context(self, pair: Pair, person: Person, me: Me) -> None:
        from fortress.cli.desk import keep_session

        pem = pair.ca.read_text("ascii")
        context = self._contexts.make(person.username, address=pair.address, username=person.username, ca_pem=pem)
        keep_session(self._contexts, context, me)

    # --- what is told -------------------------------------------------------------------------------------------

    def _tries(self) -> list[tuple[str, str]]:
        """Three commands to copy, and what they show."""
        program, bank = program_name(), self._banks[0]
        nodes = " ".join(str(folder) for folder in bank.folders)
        watch = f"to watch, in a third terminal: {program} status {nodes} --watch"
        if self._gateway is None:
            return [
                (f"{program} pay bob '12.50 {CURRENCY}' --reference Lunch", "alice pays bob"),
                (
                    f"{program} --context carol pay alice '5000 {CURRENCY}'",
                    "carol has not that much: a refusal",
                ),
                (f"{program} chaos kill {bank.folders[0]}", f"the primary dies; {watch}"),
            ]
        kill = f"{program} chaos kill {self._gateway.folders[0]}"
        return [
            (
                f"{program} pay b/ines '12.50 {CURRENCY}' --reference Lunch",
                "alice of bank a pays ines of bank b, whose name is told before anything is sent",
            ),
            (
                f"{program} --context carol pay b/ines '5000 {CURRENCY}'",
                "carol has not that much: a refusal",
            ),
            (
                f"{kill} && {program} pay b/hugo '3 {CURRENCY}'",
                f"the gateway's primary dies in the middle of payments, and alice pays all the same, once; "
                f"then the bank's own: {program} chaos kill {bank.folders[0]}; {watch}",
            ),
        ]

    def _document(self, tries: Sequence[tuple[str, str]]) -> Json:
        first = self._banks[0]
        return {
            **first.document(),
            "status": f"{first.children[0].told['status']}/status",
            "banks": [pair.document() for pair in self._banks],
            "gateway": self._gateway.document() if self._gateway else None,
            "witness": {"folder": str(self._witness.folder), "address": self._witness.told["address"]},
            "pages": self._pages.document(self._people),
            "context_home": str(self._folder / "contexts"),
            "people": [
                {"username": each.username, "bank": each.bank, "role": each.role, "password": each.password}
                for each in self._people
            ],
            "try": [line for line, _ in tries],
        }

    def _introduce(self) -> None:
        """Print addresses, people and three things to try."""
        home, program, tries = self._folder / "contexts", program_name(), self._tries()
        rows = [
            (
                each.username,
                each.bank,
                each.role,
                each.password,
                ", ".join(money_text(minor, CURRENCY) for minor in each.openings_minor),
            )
            for each in self._people
        ]
        places = "\n".join(
            f"{'Gateway' if pair.is_gateway else 'Bank'} {pair.bank} listens on {pair.address}" for pair in self._pairs
        )
        steps = "\n".join(f"  {number}. {line}\n     # {why}" for number, (line, why) in enumerate(tries, 1))
        nodes = " ".join(str(folder) for folder in self._pairs[-1].folders)
        after = [f"{program} events {nodes}", f"{program} --context ada audit balance"]
        if self._gateway is not None:
            after += [f"{program} payment list", f"{program} --context gus positions"]
        lines = "".join(f"    {line}\n" for line in after)
        show(
            self._call,
            self._document(tries),
            "\nOpen these pages in a browser; administrators find a laboratory there, which kills nodes:\n",
            self._pages.table(self._people),
            f"\n{places}\nEach payment is on two disks before it is answered.\n",
            Table(columns=("Username", "At", "Role", "Password", "Accounts"), rows=rows),
            f"\nThree things to try, in another terminal after\n\n  export {HOME_VARIABLE}={home}\n\n{steps}\n",
            f"  Then see what happened, and that nothing is lost:\n\n{lines}",
        )
        sys.stdout.flush()
        self._say("Ctrl-C ends the demo and deletes everything")

    async def _show_life(self, stack: AsyncExitStack) -> None:
        """Show on a terminal what goes on, until the end."""
        line = LiveLine(self._call)
        stack.callback(line.close)
        for pair in self._pairs:
            stack.callback(asyncio.create_task(pair.watch()).cancel)
        started = time.monotonic()
        while not self._ended.is_set():
            totals = self._totals
            elapsed_s = time.monotonic() - started
            rate = (totals.tasks + totals.payments) / elapsed_s if elapsed_s else 0.0
            line.update(
                f"{int(elapsed_s)} s  {' | '.join(pair.roles for pair in self._pairs)}  {totals.tasks} tasks, "
                f"{totals.payments} payments between banks, {rate:.0f} a second, {totals.errors} errors  Ctrl-C to end"
            )
            try:
                await asyncio.wait_for(self._ended.wait(), LINE_S)
            except TimeoutError:
                continue
        line.close()

    async def _close_books(self) -> int:
        """Add the books up a last time, and compare the banks' with the gateway's; exit 7 if they are off."""
        off: list[str] = []
        async with AsyncExitStack() as stack:
            sessions = [
                await stack.enter_async_context(self._session(pair, self._staff(pair)[0])) for pair in self._pairs
            ]
            for pair, me in zip(self._pairs, sessions, strict=True):
                rows = (await me.administration.trial_balance()).rows
                off += [f"{row.currency} of {pair.bank}" for row in rows if not row.adds_up]
            if self._gateway is not None:
                banks = dict(zip((pair.bank for pair in self._banks), sessions, strict=False))
                off += await settled(sessions[-1], banks, time.monotonic() + END_S_MAX)
        totals = self._totals
        document: Json = {
            "tasks": totals.tasks,
            "payments": totals.payments,
            "errors": totals.errors,
            "books_balance": not off,
        }
        between = f" and {totals.payments} payments between banks" if self._gateway else ""
        verdict = "the books balance" if not off else f"THE BOOKS ARE OFF: {', '.join(off)}"
        done = f"{totals.tasks} tasks{between} by simulated customers, {totals.errors} errors"
        show(self._call, document, f"{done}; {verdict}.")
        if off:
            return Exit.integrity
        return Exit.degraded if totals.errors else Exit.ok


async def _stop(children: Sequence[Child]) -> None:
    """End all processes at once; the witness is among them, since nothing needs to fail over any more."""
    await asyncio.gather(*(child.stop() for child in children))


def program_name() -> str:
    """Say how this program can be called from another terminal."""
    if shutil.which("fortress") == os.path.abspath(sys.argv[0]):
        return "fortress"
    called = Path(sys.argv[0])
    if called.name == "fortress" and called.exists():
        return shlex.quote(str(called.absolute()))
    return f"{shlex.quote(sys.executable)} -m fortress"
