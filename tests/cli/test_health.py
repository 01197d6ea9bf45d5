"""A bank's health is judged by what its nodes say: the sentence, the next step and the exit code go together."""

from __future__ import annotations

from typing import Any

import pytest

from fortress.cli.failures import Exit
from fortress.cli.health import (
    NodeView,
    failed_checks,
    links_of,
    rows_of,
    seen_text,
    span_text,
    table_of,
    verdict,
    with_peer,
)


def view(name: str = "node-1", **document: Any) -> NodeView:
    document = {"bank": "a", "node": name, "term": 3, **document} if document else {}
    return NodeView(name=name, address="127.0.0.1:7611", document=document)


def peer(seen_s: float | None) -> dict[str, Any]:
    return {"name": "node-2", "address": "127.0.0.1:7621", "seen_s": seen_s}


LONE = view(role="primary", copies=1)
PAIRED = view(role="primary", state="primary.paired", copies=2, peer=peer(0.1))
SOLO = view(role="primary", state="primary.solo", copies=1, behind=7, peer=peer(0.1))
ALONE = view(role="primary", state="primary.solo", copies=1, peer=peer(400.0))
IN_SYNC = view(role="standby", state="standby.in_sync", behind=0, peer=peer(0.1))
UNWATCHED = view(role="primary", copies=2, peer=peer(0.1), register={"kind": "witness", "reachable": False})


@pytest.mark.parametrize(
    ("views", "words", "step", "code"),
    [
        ([LONE], "is up: node-1 is primary; entries are on one machine", "", Exit.ok),
        ([PAIRED], "two copies, node-1 is primary.", "", Exit.ok),
        ([IN_SYNC], "two copies, node-2 is primary.", "", Exit.ok),
        ([UNWATCHED], "the register (witness) does not answer", "fortress witness", Exit.degraded),
        ([SOLO], "has no standby: node-1 is primary", "--watch", Exit.degraded),
        ([SOLO], "node-2 is catching up, 7 records behind", "", Exit.degraded),
        ([ALONE], "has no standby: node-1 is primary, and new entries are on one machine.", "serve", Exit.degraded),
        ([view(role="primary", copies=1), view("node-2")], "has no standby", "start node-2", Exit.degraded),
        ([LONE, view("node-2", role="standby", behind=3)], "node-2 is catching up, 3 records", "", Exit.degraded),
        ([view(role="primary", state="blocked", peer=peer(9.0))], "takes no payments", "witness", Exit.unreachable),
        (
            [view(role="standby", state="standby.in_sync", peer=peer(60.0))],
            "has no primary: node-1 is in sync and hears nobody",
            "fortress failover --to node-1",
            Exit.unreachable,
        ),
        (
            [view(role="standby", state="standby.catching_up", peer=peer(None))],
            "has no primary: node-1 is catching up",
            "start the other node",
            Exit.unreachable,
        ),
        (
            [view(role="standby", state="standby.catching_up", behind=40, peer=peer(0.0))],
            "has no standby yet: node-1 is catching up, 40 records behind",
            "--watch",
            Exit.degraded,
        ),
        ([view(role="standby")], "node-1 is standby and takes no payments", "--watch", Exit.degraded),
        (
            [view(role="primary", checks={"disk": {"ok": False, "reason": "full"}})],
            "needs care: disk: full",
            "doctor",
            Exit.degraded,
        ),
    ],
)
def test_a_bank_is_judged(views: list[NodeView], words: str, step: str, code: Exit) -> None:
    """By what is known of both nodes."""
    everything = [each for one in views for each in with_peer(one)]
    found = verdict(everything)
    assert words in found.sentence and found.exit == code
    assert step in found.next
    assert (found.next == "") == (code == Exit.ok)


def test_of_two_that_call_themselves_primary_the_later_term_counts() -> None:
    """The other one has not heard of its end yet."""
    old, new = view(role="primary", copies=2), view("node-2", role="primary", copies=1)
    new = view("node-2", **{**new.document, "term": 4})
    assert "node-2 is primary" in verdict([old, new]).sentence


def test_the_table_has_a_row_for_each_node() -> None:
    """Also for one that nobody has heard of."""
    views = [*with_peer(SOLO), view("node-3")]
    rows = table_of(views).rows
    assert [row[0] for row in rows] == ["node-1", "node-2", "node-3"]
    assert [row[3] for row in rows] == ["solo", "running", "not reachable"]
    assert [row[6] for row in rows] == ["7", "7", ""]
    assert [row[7] for row in rows] == ["now", "0 s ago", "never"]
    assert [row["seen_s"] for row in rows_of(views) if isinstance(row, dict)] == [0.0, 0.1, None]
    assert seen_text(NodeView(name="x", address="", document={}, seen_s=61.0)) == "1 m 1 s ago"


def test_only_checks_that_fail_are_told() -> None:
    """With their reasons."""
    checks = {"a": {"ok": True, "reason": "fine"}, "b": {"ok": False, "reason": "bad"}}
    assert failed_checks({"checks": checks}) == ["b: bad"]
    assert view(role="primary", checks=checks).state == "needs care"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (61, "1 m 1 s"), (90_061, "1 d 1 h"), (86_400, "1 d")])
def test_spans_are_told_in_two_units(seconds: float, text: str) -> None:
    """Short enough for a table."""
    assert span_text(seconds) == text


# --- other banks -----------------------------------------------------------------------------------------------------

LINKED = {"bank": "gateway", "connected": True, "payments_open": 2, "since_s": 65.0}
CUT = {"bank": "gateway", "connected": False}


@pytest.mark.parametrize(
    ("document", "words", "step", "code"),
    [
        ({"gateway": LINKED}, "Bank a: two copies, node-1 is primary.", "", Exit.ok),
        ({"gateway": CUT}, "primary; the gateway gateway is not connected, so", "start the gateway", Exit.degraded),
        ({"switch": {"banks": 2, "banks_connected": 2}}, "Gateway a: two copies, node-1 is primary.", "", Exit.ok),
        (
            {"switch": {"banks": 2, "banks_connected": 1}},
            "1 bank is not connected.",
            "bank list",
            Exit.degraded,
        ),
        ({"gateway": {**LINKED, "disputes": 1}}, "1 payment contradicts", "payment list --in-doubt", Exit.degraded),
        ({"switch": {"differences": {"b": "x"}}}, "the books of b differ", "windows show", Exit.degraded),
        (
            {"switch": {"banks": 3, "banks_connected": 1}},
            "2 banks are not connected.",
            "bank list",
            Exit.degraded,
        ),
    ],
)
def test_links_between_banks_count(document: dict[str, Any], words: str, step: str, code: Exit) -> None:
    """A bank without its gateway works, but needs care."""
    found = verdict([view(role="primary", state="primary.paired", copies=2, **document)])
    assert words in found.sentence and step in found.next and found.exit is code


def test_what_is_worse_is_told_first() -> None:
    """A bank without its standby is told what to do about that, and of the gateway too."""
    found = verdict([view(role="primary", state="primary.solo", copies=1, peer=peer(400.0), gateway=CUT)])
    assert "has no standby" in found.sentence and "gateway is not connected" in found.sentence
    assert found.next.startswith("start node") or "serve" in found.next


def test_links_are_shown_as_the_primary_sees_them() -> None:
    """A standby speaks with nobody."""
    standby = view("node-2", role="standby", gateway=CUT)
    assert links_of([standby]) == [] and verdict([PAIRED, standby]).exit is Exit.ok
    (line,) = links_of([standby, view(role="primary", gateway=LINKED)])
    assert line == "Gateway gateway: connected for 1 m 5 s; 2 payments under way"
    (line,) = links_of([view(role="primary", switch={"banks": 2, "banks_connected": 1}, payments_in_doubt=3)])
    assert line == "Banks: 1 of 2 connected; 3 payments not decided everywhere"
