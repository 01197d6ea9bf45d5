"""Two nodes, a register, clients and everything that can go wrong, from one seed; the same seed is the same run."""

from __future__ import annotations

import gc
import hashlib
import logging
import random
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fortress.config import PairSettings
from fortress.errors import FortressError
from fortress.ledger import audit, engine, orphans, snapshot, spare
from fortress.ledger.delta import Delta
from fortress.ledger.journal import Journal
from fortress.ledger.records import Record
from fortress.pair import receiving, replication, shipping
from fortress.pair.control import CONTROL_NAME, Control, read_control
from fortress.pair.messages import Configuration
from fortress.pair.role_state import Phase
from fortress.server import applier, bank, committer, gate, handlers, journal_writer, membership, pairing
from tests.pair.nodes import certificates
from tests.simulation import loop as loops
from tests.simulation.checker import Checker, Violation
from tests.simulation.clients import Client
from tests.simulation.disk import Disk
from tests.simulation.loop import Clocks, Process, Time, Worker
from tests.simulation.network import MS, Network, NodeProcess, Sockets
from tests.simulation.node import BANK, Home, Running
from tests.simulation.register import HOST, Asking, Shelf

WALL_NS = 1_700_000_000_000_000_000
SECOND = 1_000 * MS
STORM_S = 8.0
CALM_S = 120.0
TRACE_LINES = 60
NAMES = ("node-1", "node-2")
DEFAULT = PairSettings()
QUICK = PairSettings(heartbeat_ms=20, solo_ms=200, takeover_ms=600, refused_ms=90, lease_ms=60)


@cache
def certificate() -> bytes:
    """A node's certificate, DER."""
    data = (certificates(BANK) / "node.crt").read_bytes()
    return x509.load_pem_x509_certificate(data).public_bytes(Encoding.DER)


class Site:
    """A node's home, and the process that runs there, if one does."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.process: NodeProcess | None = None
        self.running: Running | None = None
        self.is_excused = False
        """A fault was done to its disk, after which it may rightly give up."""

    @property
    def name(self) -> str:
        return self.home.name


class World:
    """One run; see `run`."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.time = Time(random.Random(seed + 1))
        self.network = Network(self.time, random.Random(seed + 2), certificate())
        self.checker = Checker()
        self.shelf = Shelf(self._on_register)
        self.lines: list[str] = []
        self.events = 0
        self._digest = hashlib.sha256()
        self.violation: AssertionError | None = None
        self._kept: list[Any] = []  # killed processes: what they had begun ends with the run
        self._entropy = random.Random(seed + 3)
        settings = self._settings()
        self.sites: dict[str, Site] = {}
        for number, name in enumerate(NAMES):
            other = NAMES[1 - number]
            own = settings | {"listen": f"{name}:7613", "peer": f"{other}:7613", "peer_clients": f"{other}:7610"}
            disk = Disk(folder / name, random.Random(seed + 4 + number))
            self.sites[name] = Site(Home(name, PairSettings(**own), disk, is_founder=number == 0))
        self.clients: list[Client] = []

    def _settings(self) -> dict[str, Any]:
        chance = self.chance
        base = DEFAULT if chance.random() < 0.4 else QUICK
        names = ("heartbeat_ms", "solo_ms", "takeover_ms", "refused_ms", "lease_ms")
        return {name: getattr(base, name) for name in names} | {
            "cluster": "00" * 8,
            "durability": "two-copies" if chance.random() < 0.15 else "available",
            "digest_s": chance.choice((0, 1, 3)),
            "hold_s": chance.choice((1, 10)),
        }

    def tell(self, line: str) -> None:
        """Write down what happens; the digest of all of it tells whether two runs are the same."""
        self.events += 1
        line = f"{self.time.now_ns / 1e9:10.6f} {line}"
        self._digest.update(line.encode())
        self.lines.append(line)
        if len(self.lines) > 4 * TRACE_LINES:
            del self.lines[: -2 * TRACE_LINES]

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()[:16]

    def entropy(self, size: int) -> bytes:
        return self._entropy.randbytes(size)

    def fails(self, what: str) -> None:
        """Take note of what must never be; the run ends. Nothing is raised: the node's code would catch it."""
        if self.violation is None:
            self.violation = Violation(what)
            self.tell(f"VIOLATION {what}")

    # --- Nodes come and go ----
    def boot(self, site: Site) -> None:
        """Start a process on a host that has none."""
        if site.process is not None:
            return
        chance = self.chance
        self.network.host_up(site.name)
        site.process = process = NodeProcess(
            self.time,
            self.network,
            site.name,
            rate=chance.uniform(0.96, 1.04),
            offset_ns=int(chance.random() * 1e14),
            wall_ns=WALL_NS + int(chance.gauss(0, 0.5) * SECOND),
        )
        self.tell(f"{site.name} starts")
        process.call_soon(lambda: process.create_task(self._live(site, process)))

    async def _live(self, site: Site, process: NodeProcess) -> None:
        failure: FortressError | None = None
        while True:
            site.running = running = Running(self, site.home, process)
            try:
                await running.start()
                await running.stopped.wait()
                await running.stop()
            except FortressError as error:
                failure = error
                break
            failure = running.failure
            if running.restart is None or failure is not None:
                break
            self.tell(f"{site.name} begins anew: {running.restart.reason}")
            restart = running.restart
            if restart.truncate_after is not None:
                self._check_cut(site, restart.truncate_after.lsn)
            await process.run_in_executor(None, membership.mend, running.folder, restart)
        self._left(site, process, failure)

    def _check_cut(self, site: Site, lsn: int) -> None:
        marks, committed = site.home.disk.marks, self.checker.committed
        if any(number > lsn and committed.get(number) == hash for number, hash in marks.items()):
            self.fails(f"{site.name} cuts committed records off behind {lsn}")

    def _left(self, site: Site, process: NodeProcess, failure: FortressError | None) -> None:
        self.tell(f"{site.name} ends: {type(failure).__name__ if failure else 'in order'} {failure or ''}"[:160])
        if failure is not None and not site.is_excused:
            self.fails(f"{site.name} gave up: {failure!r} {failure}")
        site.process = site.running = None
        self.network.process_ended(process)
        self.time.end(process)
        self._kept.append(process)

    def kill(self, site: Site, *, is_power_cut: bool = False) -> None:
        """End a node's process without a word; with the power, the host is gone too."""
        process, running = site.process, site.running
        if is_power_cut:
            self.network.host_down(site.name)
        if process is None:
            return
        self.tell(f"{site.name} {'loses power' if is_power_cut else 'is killed'}")
        self.time.end(process)
        if not is_power_cut:
            self.network.process_ended(process)
        self._kept.append((process, running))
        close: Callable[[], None] = running.drop if running is not None else lambda: None
        site.home.disk.died(process, close, is_power_cut=is_power_cut)
        site.process = site.running = None

    def wipe(self, site: Site) -> bool:
        """Exchange a node's disk for an empty one, if another one still has everything; False: it may not be."""
        if not self.may_lose(site):
            return False
        self.kill(site)
        self.tell(f"{site.name} gets an empty disk")
        site.home.disk.wipe()
        site.is_excused = False
        self._instances.pop(site.name, None)
        return True

    def may_lose(self, site: Site) -> bool:
        """Tell whether all is kept without a node's disk, whatever the register takes of what is on its way to it."""
        possible = self.shelf.possible()
        return bool(possible) and all(self._is_kept(held, site) for held in possible)

    def _is_kept(self, held: Configuration, lost: Site) -> bool:
        others = [(self.sites[member.name], member.instance) for member in held.in_sync if member.name != lost.name]
        return any(not site.is_excused and self.instance_of(site) == instance for site, instance in others)

    def instance_of(self, site: Site) -> bytes:
        """Tell which disk a node has."""
        return self._instances.get(site.name, b"")

    # --- What nodes tell ----
    _instances: dict[str, bytes]

    def on_opened(self, node: Running) -> None:
        """A node has opened its ledger."""
        disk = node.home.disk
        before = disk.marks
        disk.opened(node.engine.journal)
        self._instances[node.home.name] = node.control.instance
        lost = [n for n, hash in before.items() if n <= disk.end and disk.marks.get(n, hash) != hash]
        if lost:
            self.fails(f"{node.home.name} finds another record {lost[0]} than it wrote")
        store, committed = node.engine.store, self.checker.committed
        if store.applied_lsn and committed.get(store.applied_lsn) != store.applied_hash:
            self.fails(f"{node.home.name} has record {store.applied_lsn} in its tables, which is not committed")
        disk.save_tables()
        self._check_durable(f"{node.home.name} has opened")

    def on_paired(self, node: Running) -> None:
        """A node has put its part of the pair together."""
        found, name = node.pairing, node.home.name
        serve = found.serve

        def serving(epoch: int) -> None:
            self.tell(f"{name} serves epoch {epoch}")
            self._holds(self.checker.serves, epoch, node)
            serve(epoch)

        fail = found.fail

        def failing(error: Any) -> None:
            self.tell(f"{name} fails: {error!r} {error}"[:200])
            fail(error)

        found.serve, found.fail = serving, failing

    def on_commit(self, node: Running, delta: Delta) -> None:
        """A node takes a record as committed."""
        assert delta.hash is not None
        newest = self.checker.newest
        self._holds(self.checker.commits, node.home.name, delta.lsn, delta.hash)
        if delta.lsn > newest:
            self.tell(f"{node.home.name} commits {delta.lsn}")
            self._check_durable(f"{node.home.name} has committed {delta.lsn}")

    def _holds(self, check: Callable[..., None], *facts: Any) -> None:
        try:
            check(*facts)
        except Violation as violation:
            self.fails(str(violation))

    def on_event(self, name: str, event: str, facts: dict[str, Any]) -> None:
        """A node writes an event down."""
        self.tell(f"{name}: {event} {sorted(facts.items())}"[:200])
        if event in ("quarantined", "tables_differ") and not self.sites[name].is_excused:
            self.fails(f"{name} {event}: {facts}")

    def _on_register(self, held: Configuration) -> None:
        members = "+".join(member.name for member in held.in_sync)
        self.tell(f"register: epoch {held.epoch}, {held.primary.name} of {members}")
        self._check_durable(f"the register has taken epoch {held.epoch}")

    def _check_durable(self, when: str) -> None:
        """Hold every disk that the register counts against what is committed."""
        held, newest = self.shelf.held, self.checker.newest
        if held is None or not newest:
            return
        for member in held.in_sync:
            site = self.sites[member.name]
            if self.instance_of(site) != member.instance or site.is_excused:
                continue
            if site.home.disk.marks.get(newest) != self.checker.committed[newest] and site.home.disk.end <= newest:
                self.fails(f"{when}, and {member.name}, which counts, has not record {newest} on its disk")

    # --- The run ----
    def run(self) -> None:
        """Live through a storm, then let everything come to rest and look at what is left; see ``violation``."""
        self._instances = {}
        with self._patched():
            try:
                self._begin()
                storm_ns = int(STORM_S * SECOND)
                self._plan(storm_ns)
                self.time.run(storm_ns, self._is_over)
                self._calm()
                self.time.run(storm_ns + int(CALM_S * SECOND), lambda: self._is_over() or self._is_at_rest())
                self._look()
                if self.violation is None:
                    self._finish()
            except AssertionError as violation:
                self.fails(str(violation))
            finally:
                self._clear()

    def _is_over(self) -> bool:
        for process in self.time.processes:
            if process.faults:
                self.fails(f"{process.name}: {process.faults[0]}")
        return self.violation is not None

    def _begin(self) -> None:
        (self.sites["node-1"].home.disk.folder / membership.BOOTSTRAP_FILE).write_text("{}")
        for site in self.sites.values():
            self.boot(site)
        process = Process(self.time, "clients", wall_ns=WALL_NS)
        for number in range(self.chance.choice((2, 3, 4))):
            client = Client(self, process, number, random.Random(self.seed + 10 + number))
            self.clients.append(client)
            process.create_task(client.run())

    def _plan(self, storm_ns: int) -> None:
        from tests.simulation.faults import Faults

        Faults(self, random.Random(self.seed + 7)).plan(storm_ns)

    def _calm(self) -> None:
        """End every fault, and have every node run."""
        self.tell("calm")
        network = self.network
        for sender in (*NAMES, HOST, "clients"):
            for receiver in (*NAMES, HOST, "clients"):
                if network.is_cut(sender, receiver):
                    network.heal(sender, receiver)
        network.host_up(HOST)
        network.delay_us = 150.0
        for site in self.sites.values():
            site.home.disk.is_broken = False
            site.home.disk.slowness = 1.0
            self.wake(site)
            if site.process is None:
                self.recover(site)
        for client in self.clients:
            client.finish()

    def wake(self, site: Site) -> None:
        """Let a paused process go on."""
        if site.process is not None and site.process.is_paused:
            self.tell(f"{site.name} goes on")
            site.process.is_paused = False

    def recover(self, site: Site) -> None:
        """Start a node again; one that gave up its disk gets an empty one if that may be."""
        if site.is_excused and not self.wipe(site):
            path = site.home.disk.folder / CONTROL_NAME
            if path.exists() and read_control(path).quarantined:
                return  # nobody else has what this disk has; later perhaps
            site.is_excused = site.home.disk.is_broken = False
        self.boot(site)

    def _is_at_rest(self) -> bool:
        """Tell whether all is as it should be after the storm: two in step, nobody waits, nothing is open."""
        if not all(client.is_done for client in self.clients):
            return False
        nodes = [site.running for site in self.sites.values()]
        if any(node is None or not hasattr(node, "pairing") for node in nodes):
            for site in self.sites.values():
                if site.process is None:
                    self.recover(site)
            return False
        found = [node.pairing.replication.state for node in nodes if node is not None]
        if {state.phase for state in found} != {Phase.primary_paired, Phase.standby_in_sync}:
            return False
        ends = {node.engine.journal.end for node in nodes if node is not None}
        if len(ends) > 1:  # a standby may have a record more, that its primary has lost: the next one shows it
            self.clients[0].settle()
        applied = {(node.engine.store.applied_lsn, node.engine.store.applied_hash) for node in nodes if node}
        return len(ends | applied) == 1 and self.checker.newest == next(iter(ends))[0]

    def _look(self) -> None:
        if self.violation is None and not self._is_at_rest():
            phases = {
                site.name: site.running.pairing.replication.state.phase.value if site.running else "down"
                for site in self.sites.values()
            }
            waiting = sum(not client.is_done for client in self.clients)
            places = {
                site.name: (node.engine.journal.end[0], node.committer.committed_lsn, node.engine.store.applied_lsn)
                for site in self.sites.values()
                if (node := site.running) is not None
            }
            raise Violation(f"no rest comes after the storm: {phases}, {waiting} clients wait, {places}")

    def _finish(self) -> None:
        """Hold both nodes' journals, tables and keys against one another and against what was said."""
        histories: list[list[Record]] = []
        for site in self.sites.values():
            node = site.running
            assert node is not None
            report = audit.audit_live(node.engine.journal, node.engine.store)
            if report.error_count:
                raise Violation(f"the tables of {site.name} are not what its journal says: {report.findings[0]}")
            histories.append(list(node.engine.journal.records(node.engine.journal.first_lsn)))
        first, second = sorted(histories, key=len)
        if [record.hash for record in first] != [record.hash for record in second][-len(first) :]:
            raise Violation("the journals differ")
        if second[0].lsn == 1:
            handles = self.checker.finish(second)
            self._check_keys(handles)
        self.tell(f"{len(second)} records, {len(self.checker.orders)} transfers, {len(self.checker.looks)} reads")

    def _check_keys(self, handles: list[bytes]) -> None:
        for site in self.sites.values():
            assert site.running is not None
            held = {handle for number in range(256) for handle, _ in site.running.vault.bucket(number)}
            if not held >= set(handles):
                raise Violation(f"{site.name} lacks the key of a customer that it has")

    def _clear(self) -> None:
        for site in self.sites.values():
            if site.process is not None:
                self.kill(site)
        for process in list(self.time.processes):
            self.time.end(process)
            self._kept.append(process)

    # --- The seams ----
    @contextmanager
    def _patched(self) -> Iterator[None]:
        """Put the simulated world in the place of the real one, in the names that the node's code looks up."""
        clocks: Any = Clocks(self.time)
        journals = SimpleNamespace(open=self._open_journal)
        with ExitStack() as stack:
            for module in (committer, gate, pairing, replication, applier, bank):
                stack.enter_context(patch.object(module, "time", clocks))
            for module in (engine, orphans, snapshot):
                stack.enter_context(patch.object(module, "Journal", journals))
            for place, name, instead in (
                (handlers, "perf_counter_ns", clocks.monotonic_ns),
                (shipping, "random", random.Random(self.seed + 5)),
                (shipping, "BEHIND_RECORDS_MAX", self.chance.choice((10, 200_000))),
                (shipping, "RECENT_RECORDS", self.chance.choice((2, 64))),
                (shipping, "CHUNK_RECORDS", self.chance.choice((3, 256))),
                (journal_writer, "Worker", Worker),
                (applier, "Worker", Worker),
                (journal_writer, "KernelWriter", SimpleNamespace(open=lambda: None)),
                (spare.Spare, "prepare", lambda _: None),
                (receiving, "socket", Sockets(self.network)),
                (membership, "listening_context", lambda *files: object()),
                (membership, "dialing_context", lambda *files: object()),
                (membership, "open_register", self._open_register),
                (membership, "Chronicle", self._open_chronicle),
                (membership, "Control", SimpleNamespace(open=self._open_control, create=self._create_control)),
                (loops, "NEW_WORKER", [self._new_worker]),
            ):
                stack.enter_context(patch.object(place, name, instead))
            stack.enter_context(listening_to_log(self))
            yield

    def _open_journal(self, folder: Path, data_key: bytes, **more: Any) -> Journal:
        disk = self._disk_of(folder)
        more["entropy"] = self.entropy
        return Journal.open(folder, data_key, write=disk.write, **more)

    def _disk_of(self, folder: Path) -> Disk:
        return next(s.home.disk for s in self.sites.values() if s.home.disk.folder in folder.parents)

    def _open_register(self, *_: Any, **__: Any) -> Asking:
        process = self.time.running
        assert isinstance(process, NodeProcess)
        return Asking(self.shelf, self.network, process)

    def _open_chronicle(self, folder: Path, node: str) -> Any:
        def write(name: str, *, epoch: int = 0, facts: dict[str, Any] | None = None) -> None:
            self.on_event(node, name, facts or {})

        return SimpleNamespace(write=write)

    def _open_control(self, path: Path) -> Control:
        return Control.open(path, entropy=self.entropy)

    def _create_control(self, path: Path, cluster: bytes) -> Control:
        return Control.create(path, cluster, entropy=self.entropy)

    def _new_worker(self, worker: Worker, process: Process) -> None:
        self.sites[process.name].home.disk.watch(worker)


class _Log(logging.Handler):
    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._world.fails(f"{record.getMessage()}: {record.exc_info[1]!r}")


@contextmanager
def listening_to_log(world: World) -> Iterator[None]:
    """Take what the node logs as a fault of its own for one."""
    logger = logging.getLogger("fortress")
    handler, level, is_passing = _Log(world), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = is_passing


@dataclass(frozen=True)
class Outcome:
    """What is left of a run: its digest is that of everything that happened, and equal for equal seeds."""

    seed: int
    digest: str
    virtual_s: float
    records: int
    orders: int
    reads: int
    lines: tuple[str, ...]
    violation: str


def simulate(seed: int) -> Outcome:
    """Run one seed to its end, whatever that is."""
    parent = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    folder = Path(mkdtemp(prefix="fortress-simulation-", dir=parent))
    was_unraisable, sys.unraisablehook = sys.unraisablehook, lambda _: None
    is_collecting = gc.isenabled()
    gc.disable()  # what killed processes have begun must not end while others run
    try:
        return _outcome(seed, folder)
    finally:
        with _silence():
            gc.collect()
        if is_collecting:
            gc.enable()
        sys.unraisablehook = was_unraisable
        shutil.rmtree(folder, ignore_errors=True)


def _outcome(seed: int, folder: Path) -> Outcome:
    world = World(seed, folder)
    world.run()
    checker = world.checker
    violation = "" if world.violation is None else str(world.violation)
    return Outcome(
        seed,
        world.digest,
        world.time.now_ns / 1e9,
        checker.newest,
        len(checker.orders),
        len(checker.looks),
        tuple(world.lines[-TRACE_LINES:]),
        violation,
    )


def check(seed: int) -> Outcome:
    """Run one seed.

    Raises:
        AssertionError: a rule was broken; the message names the seed, which replays it, and shows the end of the run.
    """
    outcome = simulate(seed)
    if outcome.violation:
        trace = "\n".join(outcome.lines)
        raise AssertionError(f"seed {seed}: {outcome.violation}\n{trace}\nreplay: python -m tests.simulation {seed}")
    return outcome


@contextmanager
def _silence() -> Iterator[None]:
    """Let nobody see how coroutines of killed processes end."""
    logger = logging.getLogger("fortress")
    was_disabled, level = logging.root.manager.disable, logger.level
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(was_disabled)
            logger.setLevel(level)
