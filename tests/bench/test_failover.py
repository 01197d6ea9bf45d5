"""The failover bench kills a real primary, measures the pause, and has checked everything by then."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import failover, report
from tests.fault import pair_kill
from tests.fault.trial import Report


@pytest.mark.timeout(180)
def test_one_kill_is_measured() -> None:
    """The command ends with one line: nothing lost, nothing doubled, and how long nobody had an answer."""
    command = [sys.executable, "-m", "bench.failover", "--kills", "1"]
    done = subprocess.run(command, cwd=report.ROOT, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    result = json.loads(done.stdout)
    assert (result["kills"], result["lost"], result["doubled"]) == (1, 0, 0)
    assert 0 < result["outage_p50_s"] == result["outage_max_s"]


def test_a_broken_promise_fails_the_bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A number measured while something was lost is no result."""

    async def run(*arguments: Any, **options: Any) -> Report:
        return Report(1, lost=1, findings=["a transfer was acknowledged and is not in the journal"])

    monkeypatch.setattr(pair_kill, "run", run)
    options = failover.options_parser().parse_args(["--kills", "2"])
    options.folder = tmp_path
    with pytest.raises(RuntimeError, match="is not in the journal"):
        failover.measure(options)


def test_outages_of_all_kinds_are_taken_together() -> None:
    """The median and the longest are those of all faults of a run."""
    found = Report(1, outages_s={"kill": [0.3, 0.5, 4.0], "cut": [1.0]})
    assert (found.median_outage_s(), found.outage(1.0), found.outage(0.0)) == (0.75, 4.0, 0.3)
