"""One pair for all tests of what is deployed in front of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.bank import Plan
from tests.deploy.balancers import ACCOUNTS
from tests.fault.pair import Layout, Pair


@pytest.fixture(scope="package")
def standing() -> Iterator[Pair]:
    """Each test leaves it running, in whatever roles."""
    with tempfile.TemporaryDirectory(prefix="fortress-deploy-", dir="/var/tmp") as parent:
        plan = Plan(accounts=ACCOUNTS, opening_minor=1_000_000)
        with Pair(Path(parent), layout=Layout(plan=plan, settings={"ledger.segment_bytes": 1024 * 1024})) as pair:
            yield pair


@pytest.fixture
def pair(standing: Pair) -> Pair:
    """Both nodes run, with two copies of everything."""
    for node in standing.nodes.values():
        if not node.is_running:
            node.kill()
            node.start()
    standing.wait_paired()
    return standing
