"""The peer is a fair one: its function keeps books as Fortress does, durably and over TLS, and leaves no trace.

One small cluster serves all tests of this file; each test that looks at balances opens accounts of its own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import machine, postgresql
from bench.postgresql import BALANCES, HOT, OPENING_MINOR, TRANSFERS, Cluster, Measured
from fortress.errors import UsageError

ACCOUNTS = 100
WAIT_S_MAX = 20
README = Path(postgresql.__file__).parent / "README.md"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A running cluster with a hundred accounts."""
    with Cluster(ACCOUNTS) as running:
        yield running


def call(debit: int, credit: int, amount: int, id: str | None = None) -> str:
    return f"SELECT * FROM transfer('{id or uuid.uuid4()}', {debit}, {credit}, {amount})"


def transfer(cluster: Cluster, debit: int, credit: int, amount: int, id: str | None = None) -> tuple[str, ...]:
    return tuple(cluster.query(call(debit, credit, amount, id))[0])


def open_accounts(cluster: Cluster, count: int) -> list[int]:
    """Open accounts that no load touches, each with the opening balance, and give their numbers in ascending order."""
    highest = int(cluster.query("SELECT max(id) FROM accounts")[0][0])
    numbers = list(range(highest + 1, highest + 1 + count))
    calls = (f"{call(0, number, OPENING_MINOR)};" for number in numbers)
    cluster.query(f"INSERT INTO accounts (id) SELECT unnest(ARRAY{numbers});" + "".join(calls))
    return numbers


def balance(cluster: Cluster, account: int) -> int:
    return int(cluster.query(f"SELECT balance FROM accounts WHERE id = {account}")[0][0])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"


@contextmanager
def session(cluster: Cluster) -> Iterator[subprocess.Popen[str]]:
    """Give a psql that takes statements on stdin, each answered on stdout, until the end of the block."""
    command = [str(postgresql.BINARIES / "psql"), "-X", "-q", "-A", "-t", "-F", "\t"]
    owner = postgresql._owner()
    psql = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=cluster.environment, cwd=cluster.folder,
        user=owner and owner.pw_uid, group=owner and owner.pw_gid, extra_groups=[] if owner else None,
    )  # fmt: skip
    with psql:
        try:
            yield psql
        finally:
            # Its statement may wait for a lock of another session, which ends only after this one.
            psql.kill()


def send(psql: subprocess.Popen[str], statement: str) -> None:
    assert psql.stdin is not None
    psql.stdin.write(f"{statement};\n")
    psql.stdin.flush()


def answer(psql: subprocess.Popen[str]) -> list[str]:
    assert psql.stdout is not None
    return psql.stdout.readline().rstrip("\n").split("\t")


def is_gone(pid: int) -> bool:
    """Say whether a process has ended, even if nobody has collected it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


def waiting(cluster: Cluster) -> int:
    return int(cluster.query("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")[0][0])


def test_a_transfer_writes_two_postings_with_the_balances_after(cluster: Cluster) -> None:
    """Money moves from one account to the other, and both postings tell what was left."""
    low, high = open_accounts(cluster, 2)
    id = str(uuid.uuid4())
    after = (OPENING_MINOR - 30, OPENING_MINOR + 30)
    assert transfer(cluster, high, low, 30, id) == ("ok", str(after[0]), str(after[1]))
    rows = cluster.query(f"SELECT account, amount, balance_after FROM postings WHERE transfer = '{id}' ORDER BY amount")
    assert rows == [[str(high), "-30", str(after[0])], [str(low), "30", str(after[1])]]
    assert (balance(cluster, high), balance(cluster, low)) == after


@pytest.mark.parametrize(
    ("debit", "credit", "amount", "status"),
    [
        (0, 1, OPENING_MINOR + 1, "exceeds_available"),
        (0, 1, 0, "amount_invalid"),
        (0, 1, -5, "amount_invalid"),
        (0, 0, 5, "accounts_must_differ"),
        (2, 1, 5, "debit_account_unknown"),
        (0, 2, 5, "credit_account_unknown"),
    ],
)
def test_a_refusal_moves_nothing(cluster: Cluster, debit: int, credit: int, amount: int, status: str) -> None:
    """A transfer against the rules is refused by name, and no balance changes."""
    numbers = [*open_accounts(cluster, 2), 999_999_999]
    assert transfer(cluster, numbers[debit], numbers[credit], amount) == (status, "", "")
    assert [balance(cluster, number) for number in numbers[:2]] == [OPENING_MINOR, OPENING_MINOR]


def test_an_account_can_be_emptied_but_not_overdrawn(cluster: Cluster) -> None:
    """The last unit can be spent and the one after it cannot."""
    payer, payee = open_accounts(cluster, 2)
    assert transfer(cluster, payer, payee, OPENING_MINOR)[:2] == ("ok", "0")
    assert transfer(cluster, payer, payee, 1)[0] == "exceeds_available"
    assert balance(cluster, payer) == 0


def test_the_banks_cash_has_no_floor(cluster: Cluster) -> None:
    """Paying in takes from account 0, which is below zero by all that customers hold."""
    assert balance(cluster, 0) < 0
    (payee,) = open_accounts(cluster, 1)
    assert transfer(cluster, 0, payee, 5)[0] == "ok"


def test_the_same_id_again_is_done_once(cluster: Cluster) -> None:
    """A repeated transfer gets the first answer, although the balances have moved on since."""
    payer, payee = open_accounts(cluster, 2)
    id = str(uuid.uuid4())
    first = transfer(cluster, payer, payee, 10, id)
    transfer(cluster, payer, payee, 7)
    assert transfer(cluster, payer, payee, 10, id) == first
    assert balance(cluster, payee) == OPENING_MINOR + 17


def test_a_refusal_repeats_though_there_is_money_now(cluster: Cluster) -> None:
    """A late retry of a refused transfer does not succeed by surprise."""
    payer, payee, giver = open_accounts(cluster, 3)
    id = str(uuid.uuid4())
    assert transfer(cluster, payer, payee, OPENING_MINOR + 1, id)[0] == "exceeds_available"
    transfer(cluster, giver, payer, 100)
    assert transfer(cluster, payer, payee, OPENING_MINOR + 1, id) == ("exceeds_available", "", "")


@pytest.mark.parametrize(("debit", "credit", "amount"), [(1, 0, 10), (0, 2, 10), (0, 1, 11)])
def test_an_id_used_for_something_else_is_refused(cluster: Cluster, debit: int, credit: int, amount: int) -> None:
    """An id stands for one transfer; with another account or amount it is not taken for the first."""
    numbers = open_accounts(cluster, 3)
    id = str(uuid.uuid4())
    transfer(cluster, numbers[0], numbers[1], 10, id)
    assert transfer(cluster, numbers[debit], numbers[credit], amount, id) == ("id_reused", "", "")


def test_the_same_id_from_two_sessions_at_once_is_done_once(cluster: Cluster) -> None:
    """The second session waits for the first and gets its answer."""
    payer, payee = open_accounts(cluster, 2)
    id = str(uuid.uuid4())
    with session(cluster) as one, session(cluster) as other:
        send(one, "BEGIN")
        send(one, call(payer, payee, 10, id))
        first = answer(one)
        send(other, call(payer, payee, 10, id))
        wait_until(lambda: waiting(cluster) == 1)
        send(one, "COMMIT")
        assert answer(other) == first == ["ok", str(OPENING_MINOR - 10), str(OPENING_MINOR + 10)]
    assert balance(cluster, payee) == OPENING_MINOR + 10


@pytest.mark.parametrize("payer", [0, 1], ids=["lower pays", "higher pays"])
def test_accounts_are_locked_in_order_of_their_ids(cluster: Cluster, payer: int) -> None:
    """A transfer that waits for the lower account has not locked the higher one, whichever of them pays."""
    low, high = numbers = open_accounts(cluster, 2)
    with session(cluster) as holder, session(cluster) as waiter:
        send(holder, "BEGIN")
        send(holder, f"SELECT id FROM accounts WHERE id = {low} FOR UPDATE")
        assert answer(holder) == [str(low)]
        send(waiter, call(numbers[payer], numbers[1 - payer], 1))
        wait_until(lambda: waiting(cluster) == 1)
        assert cluster.query(f"SELECT id FROM accounts WHERE id = {high} FOR UPDATE NOWAIT") == [[str(high)]]
        send(holder, "COMMIT")
        assert answer(waiter)[0] == "ok"


def test_opposing_transfers_do_not_deadlock(cluster: Cluster, tmp_path: Path) -> None:
    """Eight sessions that send money both ways between two accounts all get on, and the books stay whole."""
    low, high = open_accounts(cluster, 2)
    script = tmp_path / "opposing.sql"
    script.write_text(
        "\\set turn :turn + 1\n\\set id :turn * 1000 + :client_id\n"
        f"\\set debit random({low}, {high})\n"
        f"SELECT * FROM transfer(lpad(:id, 32, '0')::uuid, :debit, {low + high} - :debit, 1);\n"
    )
    before = cluster.query("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    measured = cluster.run_pgbench(8, 1, script, jobs=2, warm_up_s=0)
    assert measured.transactions > 0
    assert balance(cluster, low) + balance(cluster, high) == 2 * OPENING_MINOR
    assert cluster.query("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == before
    assert cluster.books().are_whole()


@pytest.mark.parametrize("script", [TRANSFERS, HOT, BALANCES], ids=lambda path: str(path.stem))
def test_each_load_runs_and_leaves_whole_books(cluster: Cluster, script: Path) -> None:
    """Every load is measured, none of its transfers is refused, and all sums are zero afterwards."""
    count = "SELECT count(*), count(*) FILTER (WHERE credit = 1) FROM transfers"
    done_before, hot_before = (int(value) for value in cluster.query(count)[0])
    refused_before = cluster.books().refused
    measured = cluster.run_pgbench(2, 1, script, jobs=1, warm_up_s=0)
    done, hot = (int(value) for value in cluster.query(count)[0])
    assert measured.per_s > 0
    assert 0 < measured.p50_ms <= measured.p99_ms
    assert (done - done_before >= measured.transactions) == (script != BALANCES)
    assert (hot - hot_before == done - done_before) == (script != TRANSFERS)
    books = cluster.books()
    assert books.are_whole()
    assert books.refused == refused_before


def test_books_that_do_not_add_up_are_seen(cluster: Cluster) -> None:
    """A balance changed behind the postings' back, and a posting taken away, show in the sums."""
    cluster.query("UPDATE accounts SET balance = balance + 1 WHERE id = 99")
    books = cluster.books()
    assert (books.balances_sum, books.accounts_wrong, books.are_whole()) == (1, 1, False)
    cluster.query("UPDATE accounts SET balance = balance - 1 WHERE id = 99")
    assert cluster.books().are_whole()


def test_every_byte_goes_over_tls_and_every_commit_to_the_disk(cluster: Cluster) -> None:
    """The peer keeps the same promises as Fortress while it is measured."""
    own = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert cluster.query(own) == [["TLSv1.3"]]
    for name, (value, _) in postgresql.SETTINGS.items():
        assert cluster.query(f"SELECT current_setting('{name}')") == [[value]]
    plain = {**cluster.environment, "PGSSLMODE": "disable"}
    with pytest.raises(RuntimeError, match="no encryption"):
        postgresql._run("psql", "-X", "-c", "SELECT 1", cwd=cluster.folder, environment=plain)


def test_a_wrong_password_is_refused(cluster: Cluster) -> None:
    """Nobody gets in by being on the same machine."""
    stranger = {**cluster.environment, "PGPASSFILE": "/dev/null", "PGPASSWORD": "wrong"}
    with pytest.raises(RuntimeError, match="password authentication failed"):
        postgresql._run("psql", "-X", "-c", "SELECT 1", cwd=cluster.folder, environment=stranger)


def test_secrets_are_files_that_only_their_owner_reads(cluster: Cluster) -> None:
    """Key and passwords are of mode 0600 in a folder of mode 0700."""
    assert cluster.folder.stat().st_mode & 0o777 == 0o700
    for name in ("server.key", "pgpass", "password"):
        assert (cluster.folder / name).stat().st_mode & 0o777 == 0o600


def test_a_standby_holds_back_commits_until_it_has_them(cluster: Cluster) -> None:
    """While the standby is there it has all that was committed; afterwards commits go on without it."""
    payer, payee = open_accounts(cluster, 2)
    with cluster.with_standby() as standby:
        transfer(cluster, payer, payee, 25)
        state = "SELECT application_name, sync_state FROM pg_stat_replication"
        assert cluster.query(state) == [["standby", "sync"]]
        there = {**cluster.environment, "PGPORT": str(standby.port)}
        ask = ("-X", "-A", "-t", "-c", f"SELECT balance FROM accounts WHERE id = {payee}")

        # It is on the standby's disk when the commit returns, and in its tables a moment later.
        def shown() -> str:
            return postgresql._run("psql", *ask, cwd=cluster.folder, environment=there).strip()

        wait_until(lambda: shown() == str(OPENING_MINOR + 25))
        pid = standby.pid
    assert not Path(f"/proc/{pid}").exists()
    assert transfer(cluster, payer, payee, 1)[0] == "ok"


def test_a_failing_statement_tells_what_the_program_said(cluster: Cluster) -> None:
    """An error of PostgreSQL is passed on in its own words."""
    with pytest.raises(RuntimeError, match='psql ended with 3: .*relation "nowhere" does not exist'):
        cluster.query("SELECT * FROM nowhere")


def test_the_better_number_of_threads_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL gets the better of two runs; one client needs only one thread."""
    ran = []

    def run(self: Cluster, clients: int, seconds: int, script: Path, *, jobs: int, warm_up_s: int) -> Measured:
        ran.append(jobs)
        return Measured(100.0 * jobs, 1.0, 2.0, 1, clients, jobs, seconds)

    monkeypatch.setattr(Cluster, "_pgbench", run)
    assert Cluster().run_pgbench(8, 1).jobs == 2
    assert Cluster().run_pgbench(1, 1).jobs == 1
    assert Cluster().run_pgbench(8, 1, jobs=1).jobs == 1
    assert ran == [1, 2, 1, 1]


def test_more_clients_than_the_scripts_can_number_are_refused(cluster: Cluster) -> None:
    """The number of clients has named limits."""
    for clients in (0, postgresql.CLIENTS_MAX + 1):
        with pytest.raises(UsageError, match="clients must be 1 to 200"):
            cluster.run_pgbench(clients, 1)


@pytest.fixture
def parent() -> Iterator[Path]:
    """A folder on a disk for what one test starts; it must be empty at the end."""
    folder = Path(tempfile.mkdtemp(dir=machine.DISK_FOLDER))
    folder.chmod(0o755)  # the server runs as a user of its own
    yield folder
    folder.rmdir()


def test_the_command_gives_the_keys_it_promises_and_leaves_no_trace(parent: Path) -> None:
    """A whole run ends with its result; its server and its folder are gone."""
    options = argparse.Namespace(
        clients=1, seconds=1, warm_up=0, workload="transfers", accounts=10, jobs=None, pair=False, folder=parent
    )
    result = postgresql.measure(options)
    assert {"postgresql_per_s", "p50_ms", "p99_ms", "clients", "jobs", "version"} <= result.keys()
    assert str(result["version"]).startswith("15.")
    assert list(parent.iterdir()) == []


def test_a_start_that_fails_leaves_no_trace(monkeypatch: pytest.MonkeyPatch, parent: Path) -> None:
    """When the cluster cannot start, the reason is told and the folder is removed."""
    monkeypatch.setitem(postgresql.SETTINGS, "shared_buffers", ("no size", "to fail"))
    with pytest.raises(RuntimeError, match="postgres ended with 1: .*shared_buffers"), Cluster(1, parent):
        pass
    assert list(parent.iterdir()) == []


def test_the_server_ends_with_a_bench_that_is_killed() -> None:
    """After a kill -9 of the process that started it, no server is left running."""
    program = "import time\nfrom bench.postgresql import Cluster\nwith Cluster(1) as c:\n" + (
        "    print(c.node.pid, c.folder, flush=True)\n    time.sleep(100)\n"
    )
    root = str(README.parent.parent)
    bench = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=root)
    with bench:
        assert bench.stdout is not None
        pid, folder = bench.stdout.readline().split()
        assert Path(f"/proc/{pid}").exists()
        bench.kill()
    wait_until(lambda: is_gone(int(pid)))
    shutil.rmtree(folder)


def test_memory_is_refused_as_a_place_for_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of a database whose syncs cost nothing would mislead."""
    monkeypatch.setattr(machine, "filesystem", lambda path: "tmpfs")
    with pytest.raises(UsageError, match="is memory"), Cluster(1):
        pass


def test_a_missing_postgresql_is_installed_without_a_cluster_of_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root gets the package from apt; while it is set up, a setting keeps it from starting a server."""
    ran = []
    setting = tmp_path / "createcluster.d" / "bench.conf"

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append((command, setting.read_text(encoding="ascii")))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(postgresql, "BINARIES", tmp_path)
    monkeypatch.setattr(postgresql, "NO_MAIN_CLUSTER", setting)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    monkeypatch.setattr(subprocess, "run", run)
    postgresql.install()
    assert [command[2:] for command, _ in ran] == [["update"], ["install", "-y", "postgresql-15"]]
    assert {text for _, text in ran} == {"create_main_cluster = false\n"}
    assert not setting.exists()


def test_without_root_a_missing_postgresql_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not install packages is told what root has to run."""
    monkeypatch.setattr(postgresql, "BINARIES", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="have root run 'apt-get install -y postgresql-15'"):
        postgresql.install()


def test_what_is_measured_lies_between_the_warm_up_and_the_end() -> None:
    """Answers of the warm-up and of the time after the end do not count, and the rate is over the time between."""
    answers = [(second * 1_000_000, second) for second in range(10, 20)]
    assert postgresql._within(answers, 2, 4) == ([13, 14, 15, 16], 4.0)
    assert postgresql._within(answers, 2, 100) == ([13, 14, 15, 16, 17, 18, 19], 7.0)


@pytest.mark.parametrize("answers", [[], [(1_000_000, 5)]])
def test_nothing_measured_is_an_error(answers: list[tuple[int, int]]) -> None:
    """A run whose time went into connecting has no rate."""
    with pytest.raises(RuntimeError, match="did nothing"):
        postgresql._within(answers, 1, 1)


def test_the_page_names_every_setting_with_its_reason() -> None:
    """What differs from PostgreSQL's defaults is told to the reader."""
    page = README.read_text(encoding="utf-8")
    for name, (value, why) in postgresql.SETTINGS.items():
        shown = f"`{value}`" if value else "empty"
        assert f"| `{name}` | {shown} | {why} |" in page
