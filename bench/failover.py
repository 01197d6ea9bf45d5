"""Failover: for how long does nobody get an answer when the primary is killed, and is anything lost or done twice?

A pair and its witness run on loopback, 32 clients pay through the client library, and again and again the primary's
process is killed in the middle of it. An outage counts from the last acknowledgement that any client had before to the
first one after. The killed node comes back as the standby and may be the next one's refuge. Everything that clients
were told is held against both journals at the end; a single promise that was not kept fails the bench.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import uvloop

from bench import report
from bench.measurement import at_least, run

# the same kills and checks as in the fault tests, so that the number is that of a run in which nothing was lost
from tests.fault import pair_kill


def measure(options: argparse.Namespace) -> report.Result:
    """Kill the primary so many times and give the result.

    Raises:
        RuntimeError: something acknowledged was lost, done twice, or otherwise not as it was told.
    """
    kills = int(options.kills)
    report.progress("starting a pair and its witness")

    def tell(done: int) -> None:
        report.progress(f"{done} of {kills} kills")

    with tempfile.TemporaryDirectory(prefix="fortress-bench-failover-", dir=options.folder) as parent:
        found = uvloop.run(pair_kill.run(Path(parent), None, kills=kills, seed=options.seed, on_progress=tell))
    if found.findings:
        raise RuntimeError("promises were not kept:\n" + "\n".join(found.findings))
    return {
        "kills": sum(found.faults.values()),
        "lost": found.lost,
        "doubled": found.doubled,
        "outage_p50_s": round(found.median_outage_s(), 3),
        "outage_p99_s": round(found.outage(0.99), 3),
        "outage_max_s": round(found.outage(1.0), 3),
        "acknowledged": found.acknowledged,
        "clients": pair_kill.CALLERS,
        "seed": options.seed,
    }


def options_parser() -> argparse.ArgumentParser:
    """Make the parser of this bench's options."""
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=__doc__)
    parser.add_argument("--kills", type=at_least(1), default=20, metavar="N", help="how often (20)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="decides moments and payments (1)")
    return parser


if __name__ == "__main__":
    run("failover", measure, options_parser())
