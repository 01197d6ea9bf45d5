"""What all benches share does what it says: options, refusals, the last line, the check of the books."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from bench import machine, measurement, report
from bench.measurement import Loaded, add_options, at_least, books_problems
from fortress.protocol.administration import TrialBalanceAnswer, TrialBalanceRow

WAIT_S_MAX = 60


def books(**changes: int) -> TrialBalanceAnswer:
    """Make whole books of eleven accounts with some numbers changed."""
    row = {"accounts": 11, "debits_minor": 700, "credits_minor": 700, "sum_minor": 0}
    row |= {"held_minor": 0, "holds_minor": 0, **changes}
    return TrialBalanceAnswer([TrialBalanceRow(currency="EUR", **row)], 40)


def test_whole_books_have_no_problem() -> None:
    """Debits equal credits, nothing is on hold, every account is there."""
    assert books_problems(books(), 11) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"sum_minor": 1}, "add up"),
        ({"debits_minor": 699}, "add up"),
        ({"holds_minor": 5}, "add up"),
        ({"held_minor": 5, "holds_minor": 5}, "hold"),
        ({"accounts": 10}, "accounts"),
    ],
)
def test_each_fault_in_the_books_is_told(changes: dict[str, int], word: str) -> None:
    """Money made or lost, left on hold, or an account that is gone: each is one problem."""
    problems = books_problems(books(**changes), 11)
    assert len(problems) == 1 and word in problems[0]


def test_a_load_has_the_options_that_a_bench_asks_for() -> None:
    """Accounts and warm-up are always there, others where they are given a default."""
    parser = argparse.ArgumentParser()
    add_options(parser, clients=32)
    options = parser.parse_args(["--clients", "4", "--warm-up", "0"])
    assert vars(options) == {"clients": 4, "warm_up": 0.0, "accounts": 10_000}


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5"])
def test_a_number_that_makes_no_sense_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No clients, fewer than none or half of one end the command with the name of the option."""
    parser = argparse.ArgumentParser()
    add_options(parser, clients=32)
    with pytest.raises(SystemExit):
        parser.parse_args(["--clients", text])
    assert "--clients" in capsys.readouterr().err


def test_not_a_number_is_refused_where_seconds_are_wanted() -> None:
    """What compares with nothing is not at least anything."""
    with pytest.raises(argparse.ArgumentTypeError):
        at_least(0.1, float)("nan")


def test_a_bench_ends_with_its_result(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The measuring function gets the options, and its result is the one line on stdout."""
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    measurement.run("x", lambda options: {"folder": str(options.folder)}, argparse.ArgumentParser(), [])
    assert json.loads(capsys.readouterr().out) == {"folder": str(machine.DISK_FOLDER)}


def test_a_bench_saves_only_when_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --save the result is kept under the bench's name; without, nothing is."""
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    saved: list[tuple[str, report.Result]] = []
    monkeypatch.setattr(report, "save", lambda name, result: saved.append((name, result)))
    for arguments in ([], ["--save"]):
        measurement.run("x", lambda options: {"per_s": 1}, argparse.ArgumentParser(), arguments)
    assert saved == [("x", {"per_s": 1})]


def test_memory_is_no_place_to_measure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder in memory is refused before anything starts: a sync would cost nothing there."""
    monkeypatch.setattr(machine, "filesystem", lambda path: "tmpfs")
    with pytest.raises(SystemExit):
        measurement.run("x", lambda options: pytest.fail("it measured"), argparse.ArgumentParser(), [])
    assert "memory" in capsys.readouterr().err


def test_a_loads_facts_are_percentiles_and_what_the_client_cost() -> None:
    """Latencies of a load become percentiles in milliseconds, each counted as often as it occurred."""
    latencies_us = Counter({1_000: 99, 9_000: 1})
    facts = Loaded(100, 120, 0.0, 50.0, 2.0, 12.34, latencies_us).facts()
    assert (facts["p50_ms"], facts["p99_ms"], facts["client_cpu_us"]) == (1.0, 1.0, 12.3)
    assert facts["max_ms"] == pytest.approx(9, rel=1e-3)


def test_a_load_client_that_fails_is_no_result() -> None:
    """The code that a load client ends with is looked at before its words are."""
    with measurement.started("bench.load", "--port=0", "--ca=/nonexistent") as process:
        with pytest.raises(RuntimeError, match="ended with 1"):
            measurement.answer_of(process, WAIT_S_MAX)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    """Told to stop in the middle, a bench ends its node and its load client and deletes its folder."""
    command = [sys.executable, "-m", "bench.transfers", "--accounts", "64", "--seconds", "60", "--clients", "2"]
    folder = Path(machine.DISK_FOLDER) / f"fortress-test-{tmp_path.name}-{number.name}"
    folder.mkdir()
    try:
        with subprocess.Popen([*command, "--folder", str(folder)], cwd=report.ROOT, stderr=subprocess.DEVNULL) as bench:
            children = wait_for_children(bench, 2)
            bench.send_signal(number)
            assert bench.wait(WAIT_S_MAX) == 128 + number
        assert list(folder.iterdir()) == []
        assert not any(is_running(child) for child in children)
    finally:
        folder.rmdir()


def wait_for_children(process: subprocess.Popen[bytes], count: int) -> list[int]:
    """Wait until a process has so many children, and give their ids."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + WAIT_S_MAX
    while len(children := [int(word) for word in path.read_text().split()]) < count:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    return children


def is_running(pid: int) -> bool:
    """Tell whether there is a process of this id that is not merely waiting to be noticed as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
