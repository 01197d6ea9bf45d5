"""Batches: how many transfers a second, 8,190 to a request.

``transfers_per_s`` counts those that were answered, hence durable. ``sustained_per_s`` counts everything from the first
request until the tables have caught up with the journal: what the bank could keep up for ever.
"""

from __future__ import annotations

import argparse

from bench import report
from bench.bank import Bank, Plan
from bench.load import BATCH_ROWS
from bench.measurement import add_options, check_books, run, run_load, wait_caught_up
from bench.profiling import add_option, profiled


def measure(options: argparse.Namespace) -> report.Result:
    """Load a bank with batches and give the result."""
    with Bank(Plan(options.accounts), parent=options.folder) as bank:
        with profiled(bank, "batches", options):
            loaded = run_load(
                bank,
                workload="batches",
                seconds=options.seconds,
                clients=options.clients,
                outstanding=options.outstanding,
                warm_up=options.warm_up,
            )
        sustained_s = wait_caught_up(bank) - loaded.began_s
        check_books(bank)
    return {
        "transfers_per_s": loaded.per_s,
        "sustained_per_s": round(loaded.done_ever / sustained_s, 1),
        "batch_rows": BATCH_ROWS,
        **loaded.facts(),
        **{name: getattr(options, name) for name in ("clients", "outstanding", "seconds", "accounts")},
    }


def options_parser() -> argparse.ArgumentParser:
    """Make the parser of this bench's options."""
    parser = argparse.ArgumentParser(prog="python -m bench.batches", description=__doc__)
    add_options(parser, clients=4, outstanding=1, seconds=10)
    add_option(parser, "batches")
    return parser


if __name__ == "__main__":
    run("batches", measure, options_parser())
