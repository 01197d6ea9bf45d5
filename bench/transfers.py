"""Lone transfers, the canonical bench: how many a second, and how long one takes.

Closed loop: each of the clients has a fixed number of transfers outstanding. ``--half`` looks at the latency of a bank
that is half busy: the top rate is measured first, then transfers are sent at half of it whether or not answers come
(open loop), each latency counted from the moment its transfer was due.
"""

from __future__ import annotations

import argparse

from bench import report
from bench.bank import Bank, Plan
from bench.measurement import Loaded, add_options, check_books, run, run_load
from bench.profiling import add_option, profiled

WORKLOADS = ("transfers", "hot")
HALF = 0.5
PLOTTED_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)


def measure(options: argparse.Namespace) -> report.Result:
    """Load a bank as the options say and give the result."""
    with Bank(Plan(options.accounts), parent=options.folder) as bank:
        with profiled(bank, "transfers", options):
            top = _load(bank, options)
        result = _half(bank, options, top) if options.half else {"transfers_per_s": top.per_s, **top.facts()}
        check_books(bank)
    names = ("clients", "outstanding", "seconds", "workload", "accounts", "half")
    return {**result, **{name: getattr(options, name) for name in names}}


def _load(bank: Bank, options: argparse.Namespace, rate: float = 0.0) -> Loaded:
    return run_load(
        bank,
        workload=options.workload,
        seconds=options.seconds,
        clients=options.clients,
        outstanding=options.outstanding,
        warm_up=options.warm_up,
        rate=rate,
    )


def _half(bank: Bank, options: argparse.Namespace, top: Loaded) -> dict[str, float]:
    """Measure latencies at half of the top rate, and for a curve at other shares of it."""
    shares = PLOTTED_SHARES if options.plot else (HALF,)
    measured = {share: _load(bank, options, share * top.per_s) for share in shares}
    if options.plot:
        percentiles = {share: report.percentiles(found.latencies_us) for share, found in measured.items()}
        curves = {
            name: [(share * top.per_s, found[f"{name}_ms"]) for share, found in percentiles.items()]
            for name in ("p50", "p99", "p999")
        }
        report.plot(
            "transfers-latency",
            curves,
            title=f"Latency over rate (top: {top.per_s:.0f}/s)",
            x_label="transfers a second, sent whether or not answers come",
            y_label="ms from when it was due",
        )
    half = measured[HALF]
    return {
        "top_per_s": top.per_s,
        "rate_per_s": round(HALF * top.per_s, 1),
        "answered_per_s": half.per_s,
        **half.facts(),
    }


def options_parser() -> argparse.ArgumentParser:
    """Make the parser of this bench's options."""
    parser = argparse.ArgumentParser(prog="python -m bench.transfers", description=__doc__)
    add_options(parser, clients=32, outstanding=1, seconds=10)
    add_option(parser, "transfers")
    parser.add_argument("--workload", choices=WORKLOADS, default="transfers", help="hot: all credit one account")
    parser.add_argument("--half", action="store_true", help="latencies at half of the top rate, in an open loop")
    parser.add_argument("--plot", action="store_true", help="with --half: also at other rates, drawn as a curve")
    return parser


if __name__ == "__main__":
    run("transfers", measure, options_parser())
