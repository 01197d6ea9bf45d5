"""Peers: how Fortress compares with PostgreSQL doing the same.

Both run on this machine at the same time and are loaded in turns, several rounds in one run, because a machine's speed
changes over minutes; the one whose turn it is not stands idle. Each number is the median of its rounds; PostgreSQL's in
each round is the better of pgbench with one thread and with two. Both: lone transfers of so many clients with one
outstanding each, over TLS 1.3, answered when they are on the disk. Fortress seals its frames, proves logins and keeps
the hash chain besides. With ``--pair`` each has a standby on this machine too, and nothing is answered before both have
it: PostgreSQL's synchronous replication, and Fortress's pair with its witness.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from statistics import median

from bench import machine, postgresql, report
from bench.bank import Bank, Plan
from bench.measurement import add_options, at_least, check_books, run, run_load
from bench.pair import PairedBank
from bench.postgresql import Cluster


def measure(options: argparse.Namespace) -> report.Result:
    """Load both in turns and give the result."""
    workload = "hot" if options.hot else "transfers"
    ours, theirs = [], []
    speeds = [machine.speed()]
    report.progress("starting PostgreSQL and Fortress")
    accounts, folder = options.accounts, options.folder
    kind = PairedBank if options.pair else Bank
    with ExitStack() as running:
        cluster = running.enter_context(Cluster(accounts, folder))
        if options.pair:
            running.enter_context(cluster.with_standby())
        bank = running.enter_context(kind(Plan(accounts), parent=folder))
        for _ in range(options.rounds):
            machine.wait_quiet()
            loaded = run_load(
                bank, workload=workload, seconds=options.seconds, clients=options.clients, warm_up=options.warm_up
            )
            ours.append(loaded)
            machine.wait_quiet()
            script = postgresql.WORKLOADS[workload]
            warm_up_s = int(options.warm_up)
            theirs.append(cluster.run_pgbench(options.clients, int(options.seconds), script, warm_up_s=warm_up_s))
            speeds.append(machine.speed())
        books = cluster.books()
        if not books.are_whole() or books.refused:
            raise RuntimeError(f"PostgreSQL's books are not as they should be after the run: {books}")
        check_books(bank)
        if isinstance(bank, PairedBank) and not bank.is_paired():
            raise RuntimeError("the pair did not hold: what was measured were not two copies")
        version = cluster.query("SHOW server_version")[0][0]
    fortress_per_s = median(run.per_s for run in ours)
    postgresql_per_s = median(run.per_s for run in theirs)
    percentiles = [report.percentiles(run.latencies_us) for run in ours]
    return {
        "fortress_per_s": round(fortress_per_s, 1),
        "postgresql_per_s": round(postgresql_per_s, 1),
        "ratio": round(fortress_per_s / postgresql_per_s, 2),
        "ratio_worst": round(min(a.per_s / b.per_s for a, b in zip(ours, theirs, strict=True)), 2),
        "ratio_best": round(max(a.per_s / b.per_s for a, b in zip(ours, theirs, strict=True)), 2),
        **{f"fortress_{name}": median(found[name] for found in percentiles) for name in ("p50_ms", "p99_ms")},
        **{f"postgresql_{name}": median(getattr(run, name) for run in theirs) for name in ("p50_ms", "p99_ms")},
        "speed_least": min(speeds),
        "speed_most": max(speeds),
        "workload": workload,
        "pair": options.pair,
        "version": version,
        **{name: getattr(options, name) for name in ("clients", "rounds", "seconds", "accounts")},
    }


def options_parser() -> argparse.ArgumentParser:
    """Make the parser of this bench's options."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    add_options(parser, clients=32, seconds=8)
    parser.add_argument("--rounds", type=at_least(1), default=3, metavar="N", help="turns of each (3)")
    parser.add_argument("--pair", action="store_true", help="each with a standby that has to confirm every commit")
    parser.add_argument("--hot", action="store_true", help="every transfer credits one account")
    return parser


if __name__ == "__main__":
    run("peers", measure, options_parser())
