"""Growth is measured at sizes that lie evenly on a logarithmic scale, on a ledger that is really filled."""

from __future__ import annotations

import time

import pytest

from bench import growth
from bench.bank import Bank, Plan, open_engine
from bench.growth import opened, sizes


def test_sizes_are_two_in_each_decade_with_both_ends() -> None:
    """From ten thousand to a million there are five, evenly spaced by the logarithm."""
    assert sizes(10_000, 1_000_000) == [10_000, 31_623, 100_001, 316_231, 1_000_000]


def test_without_growth_there_is_one_size() -> None:
    """A largest size that is not above the smallest leaves the smallest."""
    assert sizes(10_000, 10_000) == sizes(10_000, 5) == [10_000]


def test_filling_puts_rows_into_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many transfers as asked for are in the tables afterwards, and the cost of some more is a number above zero."""
    monkeypatch.setattr(growth, "CHUNK_ROWS", 50)
    monkeypatch.setattr(growth, "APPLY_ROWS_MIN", 100)
    bank = Bank(Plan(20))
    try:
        with open_engine(bank.folder) as (engine, _):
            before = engine.store.applied_position
        with opened(bank.folder, 20) as ledger:
            assert ledger.fill(430, time.monotonic() + 60) == 430
            assert ledger.fill(430, time.monotonic() - 1) == 0
            assert ledger.cost_us() > 0
        with open_engine(bank.folder) as (engine, _):
            assert engine.store.applied_position == before + 430 + 50
    finally:
        bank.delete()
    assert not bank.folder.exists()
