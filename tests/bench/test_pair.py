"""A prepared bank with its standby: a pair while it is measured, and nothing left of it afterwards."""

from __future__ import annotations

from pathlib import Path

from bench.bank import Plan
from bench.measurement import run_load
from bench.pair import PairedBank


def test_a_paired_bank_is_measured_with_two_copies(tmp_path: Path) -> None:
    """The standby has everything that the load was told is done."""
    with PairedBank(Plan(accounts=64), parent=tmp_path) as bank:
        assert bank.is_paired()
        loaded = run_load(bank, workload="transfers", seconds=1, clients=2, warm_up=0)
        status = bank.status()
        assert loaded.per_s > 0 and bank.is_paired() and status["behind"] <= 1
    assert not any(tmp_path.iterdir())
