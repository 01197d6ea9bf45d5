"""A prepared bank served by a real node, shared by the tests of one file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.bank import Plan, make_folder
from tests.e2e.node import Node

ACCOUNTS = 4 * 64
"""Four customers; each owns 64 accounts."""


@pytest.fixture(scope="module")
def bank_folder() -> Iterator[Path]:
    """A folder of a bank with accounts and money; nothing serves it."""
    with tempfile.TemporaryDirectory(prefix="fortress-e2e-", dir="/var/tmp") as parent:
        folder = Path(parent) / "bank"
        settings: dict[str, str | int] = {"ledger.segment_bytes": 1024 * 1024, "log.requests": "all"}
        make_folder(folder, Plan(accounts=ACCOUNTS, opening_minor=100_000, settings=settings))
        yield folder


@pytest.fixture(scope="module")
def node(bank_folder: Path) -> Iterator[Node]:
    """A node that serves it."""
    with Node(bank_folder) as serving:
        yield serving
