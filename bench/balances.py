"""Balance reads: how many a second, and how long one takes.

Customers read the balances of their own accounts: first with one read outstanding each, as people do, then with many,
as a program does that reads ahead.
"""

from __future__ import annotations

import argparse

from bench import report
from bench.bank import Bank, Plan
from bench.measurement import Loaded, add_options, check_books, run, run_load
from bench.profiling import add_option, profiled


def measure(options: argparse.Namespace) -> report.Result:
    """Load a bank with reads in both ways and give the result."""
    with Bank(Plan(options.accounts), parent=options.folder) as bank:

        def load(outstanding: int) -> Loaded:
            return run_load(
                bank,
                workload="balances",
                seconds=options.seconds,
                clients=options.clients,
                outstanding=outstanding,
                warm_up=options.warm_up,
            )

        with profiled(bank, "balances", options):
            lone = load(1)
        ahead = load(options.outstanding)
        check_books(bank)
    return {
        "reads_per_s": lone.per_s,
        **lone.facts(),
        "ahead_reads_per_s": ahead.per_s,
        **{f"ahead_{name}": value for name, value in ahead.facts().items()},
        **{name: getattr(options, name) for name in ("clients", "outstanding", "seconds", "accounts")},
    }


def options_parser() -> argparse.ArgumentParser:
    """Make the parser of this bench's options."""
    parser = argparse.ArgumentParser(prog="python -m bench.balances", description=__doc__)
    add_options(parser, clients=32, outstanding=32, seconds=10)
    add_option(parser, "balances")
    return parser


if __name__ == "__main__":
    run("balances", measure, options_parser())
