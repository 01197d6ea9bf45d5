"""``doctor``: looks at a node's folder, its machine, and the way to the other node and to the register.

Each check is a function of a :class:`Patient` that yields findings; the table `CHECKS` lists them. Nothing is changed
but a small file that is written and removed to time the disk, and nothing is said to the other node that would disturb
it: its replication socket is only knocked at.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fortress import __version__
from fortress.cli.command import Call, command, current_call
from fortress.cli.configuration import load_settings
from fortress.cli.failures import Exit
from fortress.cli.output import Json, Table, show
from fortress.cli.peer import ask_peer
from fortress.errors import FortressError

if TYPE_CHECKING:
    from fortress.cli.health import Document
    from fortress.config import Settings
    from fortress.pair.control import ControlState
    from fortress.pair.messages import Configuration

EXPIRY_DAYS_WARN: Final = 30
CLOCK_S_WARN: Final = 1.0
CLOCK_S_FAIL: Final = 30.0
SYNC_MS_WARN: Final = 10.0
SYNC_ROUNDS: Final = 20
SYNC_BYTES: Final = 4096
REGISTER_MS_WARN: Final = 300.0
SEGMENTS_FREE_FAIL: Final = 2
SEGMENTS_FREE_WARN: Final = 20
BACKUP_DAYS_WARN: Final = 2
CONNECT_S_MAX: Final = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ok, warn or fail.
        what: was looked at.
        found: what was found.
        fix: what to do; empty if nothing.
    """

    level: str
    what: str
    found: str
    fix: str = ""


class Patient:
    """A folder, and what it takes to look at it."""

    def __init__(self, call: Call, settings: Settings, others: tuple[Settings, ...] = ()) -> None:
        self.call = call
        self.settings = settings
        self.others = others

    @property
    def folder(self) -> Path:
        """Where the settings lie."""
        return self.settings.folder

    @cached_property
    def data(self) -> Path:
        """Where the data lies."""
        from fortress.server.folder import data_folder

        return data_folder(self.settings)

    @cached_property
    def pid(self) -> str:
        """The process that serves it; empty for none."""
        from fortress.server.folder import served_by

        return served_by(self.settings)

    @cached_property
    def control(self) -> ControlState | None:
        """What it has promised as a member of a pair; None if it never was one."""
        from fortress.pair.control import CONTROL_NAME, read_control

        try:
            return read_control(self.data / CONTROL_NAME)
        except FileNotFoundError:
            return None

    @cached_property
    def document(self) -> Document:
        """What the node says of itself; empty if it does not run."""
        from fortress.cli.status import read_node

        try:
            return read_node(self.settings, self.call.timeout_s)
        except FortressError:
            return {}


@command("doctor", "fortress doctor ./bank-a", "fortress doctor ./bank-a ./bank-a-2 --json")
@click.argument("folders", type=click.Path(path_type=Path), nargs=-1, metavar="DIR")
def doctor_command(folders: tuple[Path, ...]) -> int:
    """Check a node's folder, its machine, and the way to the other node and the register; name each fix.

    Run it on each node's machine. Exit 0 if nothing failed, else 6.
    """
    call = current_call()
    nodes = tuple(load_settings(call, folder) for folder in folders or (call.config,))
    found: list[tuple[str, Finding]] = []
    for settings in nodes:
        patient = Patient(call, settings, tuple(each for each in nodes if each is not settings))
        found += [(settings.node.name, finding) for finding in examine(patient)]
    document: list[Json] = [
        {"node": node, "level": each.level, "what": each.what, "found": each.found, "fix": each.fix}
        for node, each in found
    ]
    rows = [(each.level, node, each.what, each.found) for node, each in found]
    failed = sum(each.level == "fail" for _, each in found)
    warned = sum(each.level == "warn" for _, each in found)
    fixes = [f"{each.level}: {node}, {each.what}: {each.fix}" for node, each in found if each.fix]
    sentence = f"{len(found)} checks: {failed} failed, {warned} to look at" if failed or warned else "all is well"
    show(call, document, Table(columns=("", "Node", "What", "Found"), rows=rows), *fixes, f"{sentence}.")
    return Exit.degraded if failed else Exit.ok


def examine(patient: Patient) -> Iterator[Finding]:
    """Run all checks; one that breaks off is a finding too."""
    for name, check in CHECKS.items():
        try:
            yield from check(patient)
        except FortressError as error:
            yield Finding("fail", name, error.message, error.hint)
        except OSError as error:
            yield Finding("fail", name, f"{error.filename or ''} {error.strerror}".strip(), "see to that file")


def _ok(what: str, found: str) -> Finding:
    return Finding("ok", what, found)


# --- the folder ------------------------------------------------------------------------------------------------------
def check_modes(patient: Patient) -> Iterator[Finding]:
    """Only the owner may read secrets."""
    certs = patient.settings.path(patient.settings.tls.ca).parent
    keys = patient.settings.path(patient.settings.keys.key_file)
    found = [*certs.glob("*.key"), *([keys] if keys.exists() else []), patient.data / "keyring"]
    is_open = [path for path in found if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077]
    for path in is_open:
        yield Finding("fail", "secrets", f"{path} can be read by others", f"chmod 600 {path}")
    if stat.S_IMODE(patient.data.stat().st_mode) & 0o077:
        yield Finding("warn", "folder", f"{patient.data} is open to others", f"chmod 700 {patient.data}")
    if not is_open:
        yield _ok("secrets", f"{len(found)} files that only their owner reads")


def check_keys(patient: Patient) -> Iterator[Finding]:
    """The key-encryption key opens the keyring."""
    from fortress.ledger.keyring import Keyring, read_kek
    from fortress.server.folder import KEYRING_NAME

    keys = patient.settings.keys
    key_file = patient.settings.path(keys.key_file)
    kek = read_kek(key_file=key_file, key_command=keys.key_command, environment=os.environ)
    Keyring.open(patient.data / KEYRING_NAME, kek)
    yield _ok("keys", "the key-encryption key opens the keyring")


def check_certificates(patient: Patient) -> Iterator[Finding]:
    """They fit their keys, hold the right names, and do not end soon."""
    from fortress import authority

    tls = patient.settings.tls
    for facts in authority.show(patient.settings.path(tls.certificate).parent):
        days = (facts.valid_to - datetime.now(UTC)).days
        fix = f"fortress cert renew {facts.name} --config {patient.folder} (with the authority's key in its folder)"
        said = f"valid for {days} days" if days >= 0 else f"expired on {facts.valid_to:%Y-%m-%d}"
        level = "fail" if days < 0 else "warn" if days < EXPIRY_DAYS_WARN else "ok"
        if not facts.key_fits and facts.kind is not authority.Kind.authority:
            yield Finding("fail", f"certificate {facts.name}", "its key is missing or another one's", fix)
        elif facts.bank not in ("", patient.settings.node.bank):
            yield Finding("fail", f"certificate {facts.name}", f"it is of bank {facts.bank}", "issue one for this bank")
        else:
            yield Finding(level, f"certificate {facts.name}", said, "" if level == "ok" else fix)


def check_disk(patient: Patient) -> Iterator[Finding]:
    """There is space for the journal to grow."""
    free = shutil.disk_usage(patient.data).free
    segments = free // patient.settings.ledger.segment_bytes
    level = "fail" if segments < SEGMENTS_FREE_FAIL else "warn" if segments < SEGMENTS_FREE_WARN else "ok"
    fix = (
        "" if level == "ok" else f"free space on the disk of {patient.data}; the node refuses entries before it is full"
    )
    yield Finding(level, "disk space", f"{free // 2**20} MiB free, {segments} segments of the journal", fix)


def check_sync(patient: Patient) -> Iterator[Finding]:
    """The disk makes writes durable quickly: each commit waits for it once."""
    path = patient.data / f".doctor.{os.getpid()}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    times_ms = []
    try:
        os.write(descriptor, bytes(SYNC_BYTES))
        os.fsync(descriptor)
        for _ in range(SYNC_ROUNDS):
            started = time.perf_counter()
            os.pwrite(descriptor, os.urandom(SYNC_BYTES), 0)
            os.fdatasync(descriptor)
            times_ms.append((time.perf_counter() - started) * 1000)
    finally:
        os.close(descriptor)
        path.unlink()
    median_ms, worst_ms = statistics.median(times_ms), max(times_ms)
    slow = median_ms > SYNC_MS_WARN
    fix = "use a disk with a cache that survives power loss, or one that is less busy" if slow else ""
    found = f"{median_ms:.2f} ms, at most {worst_ms:.2f} ms"
    yield Finding("warn" if slow else "ok", "durable write of 4 KiB", found, fix)


def check_backup(patient: Patient) -> Iterator[Finding]:
    """There is a backup, not older than two days."""
    from fortress.server.backup_note import read_note

    note = read_note(patient.data)
    fix = f"fortress backup create {patient.folder} --to BACKUPS"
    if note is None:
        yield Finding("warn", "backup", "none was made of this node yet", fix)
        return
    made = datetime.fromtimestamp(note.made_us / 1e6, UTC)
    found = f"{note.name}, up to position {note.position}, made {made:%Y-%m-%d %H:%M} UTC"
    is_old = datetime.now(UTC) - made > timedelta(days=BACKUP_DAYS_WARN)
    yield Finding("warn", "backup", found, fix) if is_old else _ok("backup", found)


# --- the node --------------------------------------------------------------------------------------------------------
def check_listeners(patient: Patient) -> Iterator[Finding]:
    """A node that runs listens; for one that does not, its ports are free."""
    settings = patient.settings
    places = {"port for clients": (settings.server.host, settings.server.port)}
    if settings.monitor.port:
        places["port of the site"] = (settings.monitor.host, settings.monitor.port)
    if settings.pair.peer:
        places["port for records"] = split(settings.pair.listen)
    if settings.switch.listen:
        places["port for banks"] = split(settings.switch.listen)
    for what, (host, port) in places.items():
        named = f"{host}:{port}"
        if patient.pid:
            is_right = answers(host, port)
            found = (
                f"{named} takes connections" if is_right else f"{named} takes none, though process {patient.pid} runs"
            )
            fix = "look into the node's log; restart it if the settings were changed"
        else:
            is_right = not port or is_free(host, port)
            found = f"{named} is free" if is_right else f"{named} is taken, though the node does not run"
            fix = "stop what listens there, or set another port in fortress.toml"
        yield _ok(what, found) if is_right else Finding("fail", what, found, fix)


def check_node(patient: Patient) -> Iterator[Finding]:
    """It runs, is well, and is not in quarantine."""
    from fortress.cli.health import failed_checks

    control = patient.control
    if control is not None and control.quarantined:
        fix = f"fortress rejoin {patient.folder}"
        yield Finding("fail", "quarantine", f"its data cannot be trusted: {control.quarantined}", fix)
    if not patient.pid:
        yield Finding("warn", "process", "it does not run", f"fortress serve {patient.folder}")
        return
    document = patient.document
    for reason in failed_checks(document):
        yield Finding("fail", "health", reason, "fortress events says what happened")
    state = document.get("state") or document.get("role") or "silent"
    yield _ok("process", f"process {patient.pid}, {state}, version {document.get('version', '?')}")


# --- the pair --------------------------------------------------------------------------------------------------------
def check_cluster(patient: Patient) -> Iterator[Finding]:
    """Folder and settings name one pair; so does the other node's folder, if it is here."""
    pair, control = patient.settings.pair, patient.control
    if not pair.peer:
        yield _ok("pair", "a node alone; 'fortress init DIR --join' makes a second one")
        return
    if control is not None and control.cluster.hex() != pair.cluster:
        yield Finding(
            "fail", "cluster", "the folder belongs to another pair than its settings say", "restore pair.cluster"
        )
    for other in patient.others:
        if other.node.bank != patient.settings.node.bank:
            continue
        if other.pair.cluster != pair.cluster:
            what = f"{other.node.name} has another cluster id"
            yield Finding("fail", "cluster", what, "set the same pair.cluster in both fortress.toml files")
        if (other.pair.register, other.pair.register_addresses) != (pair.register, pair.register_addresses):
            what = f"{other.node.name} has another register"
            yield Finding("fail", "register", what, "set the same pair.register_addresses in both fortress.toml files")
    yield _ok("cluster", pair.cluster)


def check_peer(patient: Patient) -> Iterator[Finding]:
    """The other node can be reached, is of this version, and its clock agrees."""
    pair = patient.settings.pair
    if not pair.peer:
        return
    fix = "start it; else see that no firewall stands between, and that pair.peer is its pair.listen"
    started = time.perf_counter()
    if answers(*split(pair.peer)):
        took_ms = (time.perf_counter() - started) * 1000
        yield _ok("other node's records", f"{pair.peer} takes connections, {took_ms:.1f} ms")
    else:
        yield Finding("fail", "other node's records", f"{pair.peer} takes no connection", fix)
    peer = patient.document.get("peer") or {}
    if patient.pid and peer.get("seen_s") is None:
        what = "they have not said hello to each other; 'fortress events' says if one was turned away"
        yield Finding("warn", "other node", what, "compare cluster, bank and authority of both")
    try:
        answer = ask_peer(patient.settings)
    except FortressError as error:
        yield Finding("fail", "other node's clients", error.message, "see that pair.peer_clients is where it listens")
        return
    yield _ok("other node's clients", f"{pair.peer_clients} answers as {answer.document.get('role')}")
    off_s = answer.clock_off_s
    level = "fail" if off_s > CLOCK_S_FAIL else "warn" if off_s > CLOCK_S_WARN else "ok"
    step = "" if level == "ok" else "let both machines take the time from the same source (chrony, systemd-timesyncd)"
    yield Finding(level, "clocks", f"{off_s:.3f} s apart", step)
    version = answer.document.get("version", "?")
    if version == __version__:
        yield _ok("versions", version)
    else:
        yield Finding("warn", "versions", f"{version} there, {__version__} here", "upgrade the older one")


def check_register(patient: Patient) -> Iterator[Finding]:
    """It answers, quickly, and knows this disk."""
    pair, control = patient.settings.pair, patient.control
    if not pair.peer:
        return
    what = f"register ({pair.register})"
    if not pair.register_addresses:
        fix = f"fortress init ./witness --witness --join {patient.folder}"
        yield Finding("fail", what, "none is named, so no node can take over", fix)
        return
    if control is None:
        yield Finding(
            "warn", what, "not asked: this node was never started as a member", f"fortress serve {patient.folder}"
        )
        return
    held, took_ms = asyncio.run(ask_register(patient.settings, control))
    slow = took_ms > REGISTER_MS_WARN
    fix = "put it nearer, or see to its disk" if slow else ""
    yield Finding("warn" if slow else "ok", what, f"{pair.register_addresses} answers in {took_ms:.1f} ms", fix)
    if held is None:
        yield Finding("warn", "membership", "the register holds nothing of this pair yet", "start the first node")
        return
    counted = any(member.instance == control.instance for member in held.in_sync)
    known = f"epoch {held.epoch}, {held.primary.name} is primary"
    if counted:
        yield _ok("membership", f"{known}; this disk counts")
    else:
        yield Finding(
            "warn", "membership", f"{known}; this disk does not count yet", "let it catch up: fortress status"
        )


# --- other banks -----------------------------------------------------------------------------------------------------
def check_gateway(patient: Patient) -> Iterator[Finding]:
    """A bank that names a gateway has its authority, reaches it, and is connected when it is primary."""
    gateway = patient.settings.gateway
    if not gateway.addresses:
        return
    from fortress.cli.gateways import read_authority

    file = patient.settings.path(gateway.authority)
    read_authority(file)
    yield _ok("gateway's authority", str(file))
    reached = [each for each in gateway.addresses.split(",") if answers(*split(each.strip()))]
    if reached:
        yield _ok("gateway", f"{', '.join(reached)} takes connections")
    else:
        fix = "start it; else see that no firewall stands between, and that gateway.addresses is its switch.listen"
        yield Finding("fail", "gateway", f"{gateway.addresses} takes no connection", fix)
    told = patient.document.get("gateway")
    if isinstance(told, dict) and patient.document.get("role") == "primary":
        if told.get("connected"):
            yield _ok("gateway link", f"registered at {gateway.bank}")
        else:
            fix = f"'fortress bank list' at the gateway says whether it knows {patient.settings.node.bank}; see the log"
            yield Finding("fail", "gateway link", "the gateway does not take this bank's registration", fix)


def check_banks(patient: Patient) -> Iterator[Finding]:
    """The banks of a gateway are connected to its primary."""
    told = patient.document.get("switch")
    if not isinstance(told, dict) or patient.document.get("role") != "primary":
        return
    found = f"{told.get('banks_connected', 0)} of {told.get('banks', 0)} connected"
    if told.get("banks_connected", 0) < told.get("banks", 0):
        fix = "'fortress bank list' says which are not; 'fortress doctor' on their machines says why"
        yield Finding("warn", "banks", found, fix)
    else:
        yield _ok("banks", found)


# --- asking ----------------------------------------------------------------------------------------------------------
async def ask_register(settings: Settings, control: ControlState) -> tuple[Configuration | None, float]:
    """Read the register; give what it holds, and how long a second reading took, in milliseconds."""
    from fortress.cli.switching import open_register_of

    register = open_register_of(settings, control)
    try:
        await register.get()  # connects
        started = time.perf_counter()
        held = await register.get()
        return held, (time.perf_counter() - started) * 1000
    finally:
        await register.close()


def split(address: str) -> tuple[str, int]:
    """Take host:port apart; an IPv6 address may stand in brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port) if port.isdecimal() else 0


def answers(host: str, port: int) -> bool:
    """Tell whether something takes connections there."""
    asked = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        socket.create_connection((asked, port), CONNECT_S_MAX).close()
    except OSError:
        return False
    return True


def is_free(host: str, port: int) -> bool:
    """Tell whether this machine could listen there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


CHECKS: Final[dict[str, Callable[[Patient], Iterator[Finding]]]] = {
    "secrets": check_modes,
    "keys": check_keys,
    "certificates": check_certificates,
    "disk space": check_disk,
    "disk": check_sync,
    "backup": check_backup,
    "ports": check_listeners,
    "node": check_node,
    "cluster": check_cluster,
    "other node": check_peer,
    "register": check_register,
    "gateway": check_gateway,
    "banks": check_banks,
}
