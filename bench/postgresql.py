"""A PostgreSQL 15 of our own, set up to do the work of the ledger as well as it can, and pgbench to load it.

The cluster lives in a temporary folder on a disk, listens on loopback only, and is gone afterwards. It is as durable
and as guarded as Fortress is when measured: every commit is synced, TLS 1.3 carries every byte, logins are SCRAM.
Beyond that every choice favours PostgreSQL: one round trip and one function call a transfer, prepared statements, no
foreign keys, no page checksums, ids that grow with time, memory that holds all data, no checkpoint during a short run.

    with Cluster(accounts=10_000) as cluster:
        measured = cluster.run_pgbench(clients=32, seconds=10, script=TRANSFERS)
        with cluster.with_standby():
            paired = cluster.run_pgbench(clients=32, seconds=10, script=TRANSFERS)
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench import machine, report
from fortress.errors import UsageError

SQL = Path(__file__).with_suffix("")
TRANSFERS = SQL / "transfers.sql"
HOT = SQL / "hot.sql"
BALANCES = SQL / "balances.sql"
WORKLOADS = {"transfers": TRANSFERS, "hot": HOT, "balances": BALANCES}

BINARIES = Path("/usr/lib/postgresql/15/bin")
NO_MAIN_CLUSTER = Path("/etc/postgresql-common/createcluster.d/fortress-bench.conf")
ADDRESS = "127.0.0.1"
USER = "bench"
DATABASE = "postgres"
ACCOUNTS = 10_000
OPENING_MINOR = 1_000_000
WARM_UP_S = 2
START_S_MAX = 60
STANDBY_STATE = "SELECT sync_state FROM pg_stat_replication"
JOBS = [1, 2]
CONNECT_S_MIN = 1
CONNECTS_PER_S = 32  # on a busy machine; on an idle one 200
CLIENTS_MAX = 200  # the scripts number clients below 1,000, and each takes a server process

# Each setting that differs from PostgreSQL's default, and why.
SETTINGS = {
    "shared_buffers": ("512MB", "all data of a run stays in memory"),
    "max_wal_size": ("8GB", "no checkpoint is forced during a run"),
    "checkpoint_timeout": ("30min", "nor does one fall due by time"),
    "max_connections": ("220", "the clients, and room for the one who looks"),
    "fsync": ("on", "the default, said aloud: a commit is on the disk"),
    "synchronous_commit": ("on", "the default, said aloud: the answer waits for it"),
    "ssl": ("on", "the load comes over TLS, as Fortress's does"),
    "ssl_min_protocol_version": ("TLSv1.3", "the version Fortress speaks"),
    "ssl_cert_file": ("../server.crt", "made for this cluster"),
    "ssl_key_file": ("../server.key", "made for this cluster"),
    "password_encryption": ("scram-sha-256", "the default, said aloud"),
    "listen_addresses": (ADDRESS, "loopback only"),
    "unix_socket_directories": ("", "no way in that is not TLS"),
}
ACCESS = f"hostssl all all {ADDRESS}/32 scram-sha-256\nhostssl replication all {ADDRESS}/32 scram-sha-256\n"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one pgbench run came to; latencies are the client's, from sending to having the answer."""

    per_s: float
    p50_ms: float
    p99_ms: float
    transactions: int
    clients: int
    jobs: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Books:
    """Whether the books add up: the first four are zero in whole books."""

    balances_sum: int
    postings_sum: int
    accounts_wrong: int
    postings_missing: int
    refused: int

    def are_whole(self) -> bool:
        """Say whether money was neither made nor lost."""
        return not (self.balances_sum or self.postings_sum or self.accounts_wrong or self.postings_missing)


class Node:
    """One server process on a data folder; it ends with this process, however that ends."""

    def __init__(self, data: Path, port: int) -> None:
        self.data = data
        self.port = port
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._server is not None
        return self._server.pid

    def start(self) -> None:
        """Start the server and return when it answers.

        Raises:
            RuntimeError: it ended or did not answer in time; its last words are told.
        """
        log = self.data.with_suffix(".log")
        # A kill -9 of a bench runs no clean-up; the kernel then sends the server the signal to stop at once.
        command = ["setpriv", "--pdeathsig", "QUIT", str(BINARIES / "postgres")]
        user = _owner()
        with log.open("wb") as output:
            self._server = subprocess.Popen(
                [*command, "-D", str(self.data), "-p", str(self.port), "-c", f"cluster_name={self.data.name}"],
                cwd=self.data, env=_environment(), umask=0o077, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                user=user and user.pw_uid, group=user and user.pw_gid, extra_groups=[] if user else None,
                start_new_session=True,
            )  # fmt: skip
        try:
            _wait_until(self._is_ready, "server ready")
        except RuntimeError as exc:
            raise RuntimeError(f"{exc}: {log.read_text(encoding='utf-8')[-2000:].strip()}") from exc

    def stop(self) -> None:
        """Stop the server at once and return when it is gone; none running is fine."""
        if self._server is not None:
            # Nothing is kept, so there is nothing to write out first.
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait(START_S_MAX)

    def _is_ready(self) -> bool:
        if self._server is not None and self._server.poll() is not None:
            raise RuntimeError(f"postgres ended with {self._server.returncode}")
        try:
            state = (self.data / "postmaster.pid").read_text(encoding="ascii")
        except FileNotFoundError:
            return False
        # The eighth line is the server's own word on how far it is.
        return state.splitlines()[7:] == ["ready   "]


class Cluster:
    """A running cluster with the bank's tables in it; a context manager, gone with all its data at the end.

    Args:
        accounts: how many accounts exist, numbered from 1, each with `OPENING_MINOR` from the bank's cash, account 0.
        parent: where the temporary folder is made; must be on a disk.

    Raises:
        UsageError: PostgreSQL 15 is missing and cannot be installed, or `parent` is memory.
    """

    def __init__(self, accounts: int = ACCOUNTS, parent: Path = machine.DISK_FOLDER) -> None:
        self.accounts = accounts
        self.parent = parent
        self._password = secrets.token_urlsafe(24)
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        install()
        if machine.filesystem(self.parent) in machine.MEMORY_FILESYSTEMS:
            raise UsageError(f"{str(self.parent)!r} is memory, where a sync costs nothing; name a folder on a disk")
        with ExitStack() as closing:
            self.folder = Path(tempfile.mkdtemp(prefix="fortress-postgresql-", dir=self.parent))
            closing.callback(shutil.rmtree, self.folder)
            self.node = Node(self.folder / "primary", _free_port())
            self._make()
            closing.callback(self.node.stop)
            self.node.start()
            self.query((SQL / "schema.sql").read_text(encoding="utf-8"))
            self.query((SQL / "opening.sql").read_text(encoding="utf-8"), accounts=self.accounts, opening=OPENING_MINOR)
            self._closing = closing.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which PostgreSQL's programs reach this cluster; they name the file with the password."""
        return {
            **_environment(),
            "PGHOST": ADDRESS,
            "PGPORT": str(self.node.port),
            "PGUSER": USER,
            "PGDATABASE": DATABASE,
            "PGPASSFILE": str(self.folder / "pgpass"),
            "PGSSLMODE": "verify-full",  # all that `require` asks for, and who it is
            "PGSSLROOTCERT": str(self.folder / "server.crt"),
            "PGGSSENCMODE": "disable",
        }

    def query(self, sql: str, **variables: int) -> list[list[str]]:
        """Run statements in a session of their own and give the rows as text; a null is empty text."""
        sets = [f"--set={name}={value}" for name, value in variables.items()]
        options = ["-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", *sets]
        answer = _run("psql", *options, cwd=self.folder, environment=self.environment, text=sql)
        return [line.split("\t") for line in answer.splitlines()]

    def books(self) -> Books:
        """Add up the books."""
        return Books(*(int(value) for value in self.query((SQL / "books.sql").read_text(encoding="utf-8"))[0]))

    def run_pgbench(
        self,
        clients: int,
        seconds: int,
        script: Path = TRANSFERS,
        *,
        jobs: int | None = None,
        warm_up_s: int = WARM_UP_S,
    ) -> Measured:
        """Load the cluster with a script from `clients` sessions, one statement outstanding each, and measure.

        Connecting and the first `warm_up_s` of load are not in the numbers. Without `jobs`, pgbench runs once with one
        thread and once with two, each for the whole time, and the faster run counts.

        Raises:
            RuntimeError: a statement failed, or nothing was done in the time given.
        """
        if not 1 <= clients <= CLIENTS_MAX:
            raise UsageError(f"clients must be 1 to {CLIENTS_MAX}, not {clients}")
        counts = [jobs] if jobs else JOBS[:clients]
        runs = [self._pgbench(clients, seconds, script, jobs=count, warm_up_s=warm_up_s) for count in counts]
        return max(runs, key=lambda run: run.per_s)

    @contextmanager
    def with_standby(self) -> Iterator[Node]:
        """Add a standby on this machine; until the end every commit waits until it is on both disks."""
        standby = Node(self.folder / "standby", _free_port())
        _run("pg_basebackup", "-R", "-c", "fast", "-D", standby.data, cwd=self.folder, environment=self.environment)
        with ExitStack() as closing:
            closing.callback(shutil.rmtree, standby.data)
            closing.callback(standby.stop)
            standby.start()
            self._configure(f"ALTER SYSTEM SET synchronous_standby_names = '{standby.data.name}'")
            # Taken back before the standby stops, or the next commit would wait for ever.
            closing.callback(self._configure, "ALTER SYSTEM RESET synchronous_standby_names")
            _wait_until(lambda: self.query(STANDBY_STATE) == [["sync"]], "standby synchronous")
            yield standby

    def _make(self) -> None:
        """Lay out the folder: certificate, password, an empty cluster and its settings."""
        _write_certificate(self.folder)
        (self.folder / "password").write_text(self._password, encoding="ascii")
        (self.folder / "pgpass").write_text(f"{ADDRESS}:*:*:{USER}:{self._password}\n", encoding="ascii")
        for name in ("server.key", "password", "pgpass"):
            (self.folder / name).chmod(0o600)
        _give(self.folder)
        options = ["--username", USER, "--pwfile", "password", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        _run("initdb", "--no-sync", *options, "-D", self.node.data, cwd=self.folder)
        with (self.node.data / "postgresql.conf").open("a", encoding="ascii") as settings:
            settings.writelines(f"{name} = '{value}'  # {why}\n" for name, (value, why) in SETTINGS.items())
        (self.node.data / "pg_hba.conf").write_text(ACCESS, encoding="ascii")

    def _pgbench(self, clients: int, seconds: int, script: Path, *, jobs: int, warm_up_s: int) -> Measured:
        report.progress(f"pgbench {script.stem}: {clients} clients, {jobs} jobs, {seconds} s")
        # The folder of this program may be closed to the user that runs pgbench.
        copy = self.folder / "script.sql"
        copy.write_text(script.read_text(encoding="utf-8"), encoding="utf-8")
        # pgbench counts connecting as part of the time; what it then runs too long is cut off below.
        whole_s = CONNECT_S_MIN + clients // CONNECTS_PER_S + warm_up_s + seconds
        load = ["-n", "-M", "prepared", "-c", str(clients), "-j", str(min(jobs, clients)), "-T", str(whole_s)]
        # Ids of a later run are greater, as they would be by the clock: no client makes 100,000 a second.
        values = ["-D", f"accounts={self.accounts}", "-D", f"turn={time.time_ns() // 10_000}"]
        _run(
            "pgbench", *load, *values, "-l", "--log-prefix=latency", "-f", copy,
            cwd=self.folder, environment=self.environment, deadline_s=whole_s + START_S_MAX,
        )  # fmt: skip
        latencies_us, window_s = _within(_take_log(self.folder), warm_up_s, seconds)
        shares = report.percentiles(latencies_us)
        return Measured(
            per_s=round(len(latencies_us) / window_s, 1),
            p50_ms=shares["p50_ms"],
            p99_ms=shares["p99_ms"],
            transactions=len(latencies_us),
            clients=clients,
            jobs=jobs,
            seconds=seconds,
        )

    def _configure(self, statement: str) -> None:
        self.query(f"{statement};\nSELECT pg_reload_conf();")


def install() -> None:
    """Install PostgreSQL 15 from the system's packages if it is missing; no server is left running by that.

    Raises:
        UsageError: it is missing and this is not root, or there is no apt.
    """
    if (BINARIES / "pgbench").exists():
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise UsageError(f"PostgreSQL 15 is not in {str(BINARIES)!r}: have root run 'apt-get install -y postgresql-15'")
    report.progress("installing postgresql-15")
    # The package would make and start a cluster of the system's, which nobody asked for and which would disturb.
    NO_MAIN_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
    NO_MAIN_CLUSTER.write_text("create_main_cluster = false\n", encoding="ascii")
    try:
        for arguments in (["update"], ["install", "-y", "postgresql-15"]):
            _check("apt-get", subprocess.run(
                ["apt-get", "-q", *arguments], capture_output=True, text=True, timeout=600, check=False,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            ))  # fmt: skip
    finally:
        NO_MAIN_CLUSTER.unlink()


def _run(
    program: str,
    *arguments: str | Path,
    cwd: Path,
    environment: dict[str, str] | None = None,
    text: str = "",
    deadline_s: float = START_S_MAX * 2,
) -> str:
    """Run one of PostgreSQL's programs to its end, never as root, which its server refuses; give what it printed."""
    user = _owner()
    done = subprocess.run(
        [BINARIES / program, *arguments], cwd=cwd, env={**_environment(), **(environment or {})}, input=text,
        capture_output=True, text=True, timeout=deadline_s, check=False, umask=0o077,
        user=user and user.pw_uid, group=user and user.pw_gid, extra_groups=[] if user else None,
    )  # fmt: skip
    return _check(program, done)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_S_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"no {what} within {START_S_MAX} s")
        time.sleep(0.02)


def _check(program: str, done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode:
        raise RuntimeError(f"{program} ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:].strip()}")
    return done.stdout


def _owner() -> pwd.struct_passwd | None:
    """The user whose cluster it is, if that is not ourselves."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None


def _give(folder: Path) -> None:
    if user := _owner():
        for path in (folder, *folder.iterdir()):
            os.chown(path, user.pw_uid, user.pw_gid)


def _free_port() -> int:
    with socket.create_server((ADDRESS, 0)) as listener:
        return int(listener.getsockname()[1])


def _write_certificate(folder: Path) -> None:
    """Write server.crt and server.key: P-256, signed by itself, for the loopback address, good for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ADDRESS)])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ADDRESS))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    certificate = builder.add_extension(addresses, critical=False).sign(key, hashes.SHA256())
    (folder / "server.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "server.key").write_bytes(pem)


def _take_log(folder: Path) -> list[tuple[int, int]]:
    """Read pgbench's logs, one for each of its threads, and remove them; give (time of the answer, latency) in µs."""
    answers = []
    for log in folder.glob("latency.*"):
        # Fields: client, its transaction, latency in µs, script, time in s, rest of the time in µs.
        rows = (line.split(" ") for line in log.read_text(encoding="ascii").splitlines())
        answers += [(int(row[4]) * 1_000_000 + int(row[5]), int(row[2])) for row in rows]
        log.unlink()
    return answers


def _within(answers: list[tuple[int, int]], warm_up_s: int, seconds: int) -> tuple[list[int], float]:
    """Give the latencies of what was answered after the warm-up, and how many seconds that is, at most `seconds`."""
    began_us = min((when for when, _ in answers), default=0) + warm_up_s * 1_000_000
    ended_us = min(max((when for when, _ in answers), default=0), began_us + seconds * 1_000_000)
    if ended_us <= began_us:
        raise RuntimeError(f"pgbench did nothing after a warm-up of {warm_up_s} s: connecting took all its time")
    return [latency for when, latency in answers if began_us < when <= ended_us], (ended_us - began_us) / 1_000_000


def _stop_on_signal(number: int, _frame: object) -> NoReturn:
    """Leave by way of the context managers, so that the cluster is stopped and deleted."""
    sys.exit(128 + number)


def measure(options: argparse.Namespace) -> dict[str, report.Value]:
    """Start a cluster, load it as the options say, check the books, and give the result of the bench."""
    report.progress("starting PostgreSQL")
    with Cluster(options.accounts, options.folder) as cluster, ExitStack() as pair:
        if options.pair:
            pair.enter_context(cluster.with_standby())
        measured = cluster.run_pgbench(
            options.clients, options.seconds, WORKLOADS[options.workload], jobs=options.jobs, warm_up_s=options.warm_up
        )
        books = cluster.books()
        if not books.are_whole() or books.refused:
            raise RuntimeError(f"the books are not as they should be after the run: {books}")
        version = cluster.query("SHOW server_version")[0][0]
    rest = asdict(measured)
    facts = {"workload": options.workload, "accounts": options.accounts, "pair": options.pair, "version": version}
    return {"postgresql_per_s": rest.pop("per_s"), **rest, **facts}


def main() -> None:
    """Measure PostgreSQL alone."""
    parser = argparse.ArgumentParser(prog="python -m bench.postgresql", description=main.__doc__)
    parser.add_argument("--clients", type=int, default=32, help="sessions with one statement outstanding each")
    parser.add_argument("--seconds", type=int, default=10, help="length of a run, after the warm-up")
    parser.add_argument("--warm-up", type=int, default=WARM_UP_S, metavar="SECONDS", help="load before each run")
    parser.add_argument("--workload", choices=WORKLOADS, default="transfers")
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--jobs", type=int, help="threads of pgbench; by default the better of 1 and 2")
    parser.add_argument("--pair", action="store_true", help="with a synchronous standby on this machine")
    parser.add_argument("--folder", type=Path, default=machine.DISK_FOLDER, help="where to put the data: a disk")
    parser.add_argument("--save", action="store_true", help="append to bench/results/postgresql.json")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop_on_signal)
    result = measure(options)
    if options.save:
        report.save("postgresql", result)
    report.finish(result)


if __name__ == "__main__":
    main()
