"""Turn the results of a run of all fault tests into the page that shows them.

``FAULT_RESULTS=results.jsonl pytest tests/fault -m fault`` writes one line for each test that passed;
``python -m tests.fault.table results.jsonl docs/reference/faults.md`` makes the page. `make fault` does both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import machine
from bench.report import commit

HEAD = """# Faults

What the pair was put through, and what came of it. Real processes on hosts of their own (network namespaces), clients
that pay through the client library all the time, one fault after the other; afterwards everything that any client was
told is held against both journals, which must be the same, and the tables against a count of their own.

- *acknowledged*: entries that clients were told are done, and that were looked up one by one at the end.
- *lost*: acknowledged and not there as acknowledged. *doubled*: done more than once.
- *payments*: two banks and their gateway, each one node or a pair, killed at each named point of a payment's way, while
  customers pay both ways; then their three books are held against each other and against what customers were told.
- *outage*: from the last acknowledgement that any client had before the fault to the first one after, in seconds.
  Faults that take the bank away on purpose (both nodes, or witness and primary) count for as long as they last.

This page is written by `make fault`; nothing in it is edited by hand.
"""


@dataclass(slots=True)
class Row:
    """All faults of one kind."""

    count: int = 0
    outages_s: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Results:
    """All tests of a run."""

    tests: int = 0
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    lost: int = 0
    doubled: int = 0
    reads: int = 0
    looks: int = 0
    kinds: dict[str, Row] = field(default_factory=dict)

    def add(self, document: dict[str, Any]) -> None:
        """Add what one test reported."""
        self.tests += 1
        for name in ("acknowledged", "refused", "unknown", "lost", "doubled", "reads", "looks"):
            setattr(self, name, getattr(self, name) + document[name])
        for kind, count in document["faults"].items():
            row = self.kinds.setdefault(kind, Row())
            row.count += count
            row.outages_s += document["outages_s"].get(kind, [])


def gather(lines: Iterable[str]) -> Results:
    """Read the lines of a file of results."""
    results = Results()
    for line in lines:
        results.add(json.loads(line))
    return results


def page(results: Results, where: str) -> str:
    """Write the page."""
    rows = "\n".join(_row(kind, results.kinds[kind]) for kind in sorted(results.kinds))
    count = sum(row.count for row in results.kinds.values())
    return f"""{HEAD}
{where}

| | |
| --- | --- |
| tests | {results.tests} |
| faults | {count:,} |
| acknowledged | {results.acknowledged:,} |
| refused by the bank's rules, none done | {results.refused:,} |
| outcome never learned, each done once or not at all | {results.unknown:,} |
| **lost** | **{results.lost}** |
| **doubled** | **{results.doubled}** |
| times that all balances were added up meanwhile | {results.reads:,} |
| times that a counter was read, never a stale number | {results.looks:,} |

| fault | times | outage p50 | p99 | longest |
| --- | ---: | ---: | ---: | ---: |
{rows}
"""


def _row(kind: str, row: Row) -> str:
    found = sorted(row.outages_s)
    if not found:
        return f"| {kind} | {row.count} | | | |"
    late = found[min(int(0.99 * len(found)), len(found) - 1)]
    return f"| {kind} | {row.count} | {statistics.median(found):.2f} | {late:.2f} | {found[-1]:.2f} |"


def main() -> int:
    """Write the page from a file of results."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.table", description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("page", type=Path)
    options = parser.parse_args()
    here = machine.describe()
    today = datetime.now(UTC).date().isoformat()
    where = f"Commit {commit()}, {today}, {here['cores']} cores ({here['cpu']}), Linux {here['kernel']}."
    with open(options.results, encoding="utf-8") as lines:
        options.page.write_text(page(gather(lines), where), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
