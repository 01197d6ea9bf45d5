"""``events``: what happened to both nodes, in order, in sentences; read from files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fortress.pair.chronicle import Chronicle
from tests.cli.doors import make_pair

Tell = Callable[..., Any]
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def test_events_of_both_nodes_are_told_in_order(tell: Tell, tmp_path: Path) -> None:
    """Each with time, node, term and a sentence."""
    first, second = make_pair(tmp_path)
    for at, folder in enumerate((first, second, first)):
        writer = Chronicle(folder, f"node-{folder.name[1]}", now=lambda at=at: NOON + timedelta(seconds=at))
        writer.write("takeover", epoch=at + 1, facts={"silent_ms": 300 + at})
    code, out, _ = tell("events", str(first), str(second))
    assert code == 0
    lines = out.splitlines()[1:]
    assert [line.split()[2] for line in lines] == ["node-1", "node-2", "node-1"]
    assert "took over as primary" in lines[1] and "301 ms" in lines[1]
    rows = tell("events", str(first), str(second), "--limit", "2", "--json")[1]
    assert [(row["node"], row["epoch"], row["facts"]) for row in rows] == [
        ("node-2", 2, {"silent_ms": 301}),
        ("node-1", 3, {"silent_ms": 302}),
    ]
    assert tell("--config", str(second), "events", "--json")[1] == rows[:1]


def test_nothing_yet_is_told(tell: Tell, tmp_path: Path) -> None:
    """A folder that is none is an error."""
    first, _ = make_pair(tmp_path)
    assert tell("events", str(first))[::2] == (0, "nothing yet\n")
    assert tell("events", str(tmp_path / "none"))[0] == 2
