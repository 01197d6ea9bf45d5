"""The page of results adds the tests of a run up and leaves nothing out."""

from __future__ import annotations

import json

from tests.fault.table import gather, page
from tests.fault.trial import Report


def test_tests_are_added_up_by_kind_of_fault() -> None:
    """Two tests with the same fault are one row; a fault without an outage has an empty one."""
    one = Report(1, faults={"kill": 2}, acknowledged=10, refused=1, outages_s={"kill": [0.5, 1.5]}, reads=3)
    other = Report(2, faults={"kill": 1, "pause": 1}, acknowledged=5, unknown=2, outages_s={"kill": [4.0]}, looks=7)
    results = gather(json.dumps({"test": "any", **report.document()}) for report in (one, other))
    assert (results.tests, results.acknowledged, results.refused, results.unknown) == (2, 15, 1, 2)
    text = page(results, "Here.")
    assert "| kill | 3 | 1.50 | 4.00 | 4.00 |" in text
    assert "| pause | 1 | | | |" in text
    assert "| faults | 4 |" in text
    assert "| **lost** | **0** |" in text
