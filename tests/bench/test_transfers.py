"""The canonical bench runs: a real node, a load client, whole books, one line of JSON."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench import report, transfers
from bench.measurement import Loaded


def bench(*options: str) -> dict[str, object]:
    """Run the command and give its result."""
    command = [sys.executable, "-m", "bench.transfers", "--accounts", "128", "--clients", "2", *options]
    done = subprocess.run(command, cwd=report.ROOT, capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.count("\n") == 1 and not done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result


@pytest.mark.timeout(120)
def test_two_clients_move_money_for_a_second() -> None:
    """The command ends with its rate and its latencies, and has checked the books by then."""
    result = bench("--seconds", "1", "--warm-up", "0.1")
    assert {"transfers_per_s", "p50_ms", "p99_ms", "clients", "seconds"} <= result.keys()
    assert result["clients"] == 2


def test_half_of_the_top_rate_is_measured_in_an_open_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The top rate is found first, then as many requests a second as its half are made."""
    rates = []

    def load(bank: object, options: object, rate: float) -> Loaded:
        rates.append(rate)
        return loaded(rate)

    monkeypatch.setattr(transfers, "_load", load)
    options = transfers.options_parser().parse_args(["--half"])
    result = transfers._half(bank=None, options=options, top=loaded(10_000.0))
    assert rates == [5_000.0]
    assert (result["top_per_s"], result["rate_per_s"], result["p99_ms"]) == (10_000.0, 5_000.0, 2.0)


def test_the_curve_shows_other_rates_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --plot latencies are drawn over rates from a tenth to nine tenths of the top, and half is the result."""
    drawn = {}
    monkeypatch.setattr(transfers, "_load", lambda bank, options, rate: loaded(rate))
    monkeypatch.setattr(report, "plot", lambda name, series, **labels: drawn.update(series))
    options = transfers.options_parser().parse_args(["--half", "--plot"])
    result = transfers._half(bank=None, options=options, top=loaded(100.0))
    assert [rate for rate, _ in drawn["p99"]] == [10.0, 25.0, 50.0, 75.0, 90.0]
    assert result["answered_per_s"] == 50.0


def loaded(per_s: float) -> Loaded:
    """Make what a load came to."""
    return Loaded(100, 100, 0.0, per_s, 1.0, 10.0, {2_000: 100})
