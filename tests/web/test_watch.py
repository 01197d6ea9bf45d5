"""What administrators are told of the nodes, from what those answered: sentences, samples, events."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from fortress.protocol.administration import StatusAnswer
from fortress.web.conversions import time_of
from fortress.web.watch import EVENTS_MAX, SAMPLES_MAX, Watch

ONE, TWO = "127.0.0.1:1", "127.0.0.1:2"
SECOND = 1_000_000
BEGIN = 1_700_000_000 * SECOND
PRIMARY = StatusAnswer("a", "node-1", "primary", 1, 10, 5, 2, 1, 100, 60.0, "1", "primary.paired")
STANDBY = StatusAnswer("a", "node-2", "standby", 1, 10, 5, 1, 0, 0, 60.0, "1", "standby.in_sync")
SOLO = replace(PRIMARY, copies=1, state="primary.solo")
ALONE = replace(PRIMARY, copies=1, state="alone")
BEHIND = replace(STANDBY, lsn=4, state="standby.catching_up")
BLOCKED = replace(PRIMARY, state="blocked", copies=1)
TAKEN_OVER = replace(SOLO, node="node-2", term=2)


def watch(*answers: StatusAnswer | None, kind: Any = "bank") -> Watch:
    """A watch whose nodes answered this; None: that one was silent."""
    found = Watch("a", kind, (ONE, TWO)[: len(answers)])
    for address, answer in zip((ONE, TWO), answers, strict=False):
        tell(found, address, answer, BEGIN)
    return found


def tell(watch: Watch, address: str, answer: StatusAnswer | None, at: int) -> None:
    if answer is None:
        watch.missed(address, at)
    else:
        watch.heard(address, answer, 1.5, at)


VERDICTS = [
    ((PRIMARY, STANDBY), "Bank a is well: two copies.", "ok", ""),
    ((PRIMARY, None), f"Bank a has two copies, but {TWO} does not answer here.", "warning", TWO),
    ((SOLO, None), "Bank a has no standby.", "warning", f"Start {TWO}"),
    ((SOLO,), "Bank a has no standby.", "warning", "Start the other node"),
    ((SOLO, BEHIND), "Bank a has no standby.", "warning", "node-2 is catching up"),
    ((ALONE,), "Bank a is up: one node, so entries are on one machine.", "ok", ""),
    ((None, STANDBY), "Bank a has no primary.", "danger", "takes over within seconds"),
    ((None, BEHIND), "Bank a has no primary.", "danger", "has the newest entries"),
    ((BLOCKED, None), "Bank a has no primary.", "danger", "register"),
    ((None, None), "Bank a does not answer.", "danger", "Start its nodes"),
    ((PRIMARY, TAKEN_OVER), "Bank a has no standby.", "warning", "node-1"),
]


@pytest.mark.parametrize(("answers", "headline", "severity", "advice"), VERDICTS)
def test_a_sentence_says_how_the_bank_is(
    answers: tuple[StatusAnswer | None, ...], headline: str, severity: str, advice: str
) -> None:
    """How bad it is, and what to do, which is nothing while all is well."""
    found = watch(*answers).verdict()
    assert (found.headline, found.severity) == (headline, severity)
    assert advice in found.advice and bool(advice) == bool(found.advice)


def test_a_gateway_is_called_so() -> None:
    """Its pages say the same of it as a bank's."""
    assert watch(PRIMARY, STANDBY, kind="gateway").verdict().headline == "Gateway a is well: two copies."
    found = Watch("gateway", "gateway", [ONE])
    found.missed(ONE, BEGIN)
    assert found.verdict().headline == "The gateway does not answer."


def test_before_any_answer_nothing_is_claimed() -> None:
    """Neither that it is well nor that it is not."""
    found = Watch("a", "bank", [ONE])
    assert "is being asked" in found.verdict().headline
    (node,) = found.cluster(BEGIN).nodes
    assert (node.state, node.seen) == ("silent", None)
    found.tick(BEGIN)
    assert not found.samples


def test_each_node_is_told_as_last_heard() -> None:
    """With its state in words, and how far it is behind the primary."""
    found = watch(SOLO, BEHIND)
    one, two = found.cluster(BEGIN).nodes
    assert (one.node, one.role, one.state, one.behind) == ("node-1", "primary", "solo", 0)
    assert (two.node, two.state, two.behind, two.seen) == ("node-2", "catching up", 6, "2023-11-14T22:13:20.000000Z")
    found.missed(TWO, BEGIN + SECOND)
    assert [node.state for node in found.cluster(BEGIN + SECOND).nodes] == ["solo", "silent"]
    assert [node.state for node in watch(PRIMARY, STANDBY).cluster(BEGIN).nodes] == ["ok", "ok"]


def test_seconds_are_added_up() -> None:
    """Entries and requests since the second before; the first one has nothing to compare with."""
    found = watch(PRIMARY, STANDBY)
    found.tick(BEGIN)
    found.heard(ONE, replace(PRIMARY, position=25, tasks_processed=140, uptime_s=62.0), 2.0, BEGIN + 2 * SECOND)
    found.tick(BEGIN + 2 * SECOND)
    first, second = found.samples
    assert (first.entries_per_s, first.requests_per_s, first.latency_ms) == (0.0, 0.0, 1.5)
    assert (second.entries_per_s, second.requests_per_s, second.latency_ms) == (10.0, 20.0, 2.0)


def test_a_second_without_a_primary_is_a_gap() -> None:
    """And what another node has counted is not taken for work of that second."""
    found = watch(PRIMARY, STANDBY)
    found.tick(BEGIN)
    found.missed(ONE, BEGIN + SECOND)
    found.tick(BEGIN + SECOND)
    found.heard(TWO, replace(TAKEN_OVER, tasks_processed=10**6), 1.0, BEGIN + 2 * SECOND)
    found.tick(BEGIN + 2 * SECOND)
    assert [(each.latency_ms, each.requests_per_s, each.term) for each in found.samples] == [
        (1.5, 0.0, 1),
        (None, 0.0, 1),
        (1.0, 0.0, 2),
    ]


def test_a_node_started_anew_counts_from_nothing() -> None:
    """Its counters went back, which is no work undone."""
    found = watch(PRIMARY)
    found.tick(BEGIN)
    found.heard(ONE, replace(PRIMARY, tasks_processed=3, uptime_s=1.0), 1.0, BEGIN + SECOND)
    found.tick(BEGIN + SECOND)
    assert found.samples[-1].requests_per_s == 0.0
    assert [event.event for event in found.events] == ["restarted"]


def test_a_takeover_is_told_with_its_outage() -> None:
    """From the last answer of the old primary to the first one of the new."""
    found = watch(PRIMARY, STANDBY)
    found.missed(ONE, BEGIN + SECOND)
    found.missed(ONE, BEGIN + 2 * SECOND)
    found.heard(TWO, TAKEN_OVER, 1.0, BEGIN + 4 * SECOND)
    found.heard(ONE, replace(STANDBY, node="node-1", term=2), 1.0, BEGIN + 9 * SECOND)
    found.heard(TWO, replace(TAKEN_OVER, copies=2), 1.0, BEGIN + 10 * SECOND)
    told = [(event.node, event.event, event.outage_s) for event in found.events]
    assert told == [
        ("node-1", "lost", None),
        ("node-2", "takeover", 4.0),
        ("node-2", "solo", None),
        ("node-1", "back", None),
        ("node-2", "join", None),
    ]
    assert found.events[3].words == "node-1 answers again after 8.0 s"
    assert found.events[0].time == time_of(BEGIN + SECOND)


def test_an_old_primary_that_wakes_up_is_not_taken_for_one() -> None:
    """Its term is over, whatever it believes."""
    found = watch(PRIMARY, STANDBY)
    found.heard(TWO, TAKEN_OVER, 1.0, BEGIN + SECOND)
    before = len(found.events)
    found.heard(ONE, PRIMARY, 1.0, BEGIN + 2 * SECOND)
    assert len(found.events) == before
    found.tick(BEGIN + 2 * SECOND)
    assert found.samples[-1].term == 2


def test_what_happens_while_nobody_looks_has_no_length() -> None:
    """Nor is it an outage that nobody asked."""
    found = watch(PRIMARY, STANDBY)
    found.pause()
    found.heard(TWO, TAKEN_OVER, 1.0, BEGIN + 3600 * SECOND)
    assert [(event.event, event.outage_s) for event in found.events] == [("takeover", None), ("solo", None)]


def test_a_primary_that_comes_back_ends_an_outage() -> None:
    """As long as nobody else was primary meanwhile; of a standby's absence nobody noticed anything."""
    found = watch(PRIMARY, STANDBY)
    for address in (ONE, TWO):
        found.missed(address, BEGIN + SECOND)
    found.heard(ONE, replace(PRIMARY, term=2, uptime_s=0.5), 1.0, BEGIN + 6 * SECOND)
    found.heard(TWO, STANDBY, 1.0, BEGIN + 7 * SECOND)
    told = [(event.node, event.event, event.outage_s) for event in found.events][2:]
    assert told == [("node-1", "back", 6.0), ("node-2", "back", None)]


def test_what_is_kept_is_bounded() -> None:
    """Ten minutes of seconds, and the newest events."""
    found = watch(PRIMARY)
    for second in range(SAMPLES_MAX + 5):
        found.missed(ONE, BEGIN + second * SECOND)
        found.heard(ONE, PRIMARY, 1.0, BEGIN + second * SECOND)
        found.tick(BEGIN + second * SECOND)
    assert (len(found.samples), len(found.events)) == (SAMPLES_MAX, EVENTS_MAX)


def test_each_node_tells_of_its_last_backup() -> None:
    """When it was made and up to which position; one without says so."""
    backed_up = replace(PRIMARY, backup_us=BEGIN, backup_position=4)
    one, two = watch(backed_up, STANDBY).cluster(BEGIN + SECOND).nodes
    assert (one.backup, one.backup_position) == (time_of(BEGIN), 4)
    assert (two.backup, two.backup_position) == (None, 0)
