"""kill -9 of banks and gateway at named points of a payment: all money is right, and nobody was told an untruth."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fortress.errors import PaymentUnfinished
from fortress.gateway.messages import Prepare, Vote
from fortress.gateway.participant import attempt_id
from fortress.ledger import entries as codec
from fortress.ledger.model import NEVER_US, TransferKind
from fortress.protocol.payments import PaymentAnswer
from tests.fault import payment_kill, points
from tests.fault.clearing import GATEWAY, PARTIES
from tests.fault.payers import Payment
from tests.fault.payment_kill import Books, Report

RUNS = 100
PAIR_RUNS = 15
PLACES_IN_CI = [
    ("a", "hold durable"),
    (GATEWAY, "intent durable"),
    ("b", "prepared durable"),
    (GATEWAY, "decision durable"),
    ("a", "commit durable"),
    (GATEWAY, "outcome sent"),
]


def accept(report: Report, runs: int) -> None:
    """Every promise was kept, and there was something to keep."""
    assert report.faults == []
    assert (report.lost, report.doubled) == (0, 0)
    assert report.runs == report.comparisons == runs
    assert report.kills >= runs and report.audits >= len(PARTIES)
    assert report.told["done"] > 40 * runs and report.told["refused"] > runs
    assert not report.told[""]
    assert report.entries_read > 6 * report.told["done"]


@pytest.mark.timeout(300)
def test_payments_survive_a_kill_of_each_party_at_the_points_that_matter() -> None:
    """Between hold and submission, intent and preparation, preparation and vote, decision, outcome and commit."""
    accept(payment_kill.run(len(PLACES_IN_CI), seed=4, places=PLACES_IN_CI), len(PLACES_IN_CI))


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[Report], None]:
    """Write a report's line into the file that FAULT_RESULTS names."""

    def write(report: Report) -> None:
        if file := os.environ.get("FAULT_RESULTS"):
            with open(file, "a", encoding="utf-8") as results:
                results.write(json.dumps({"test": request.node.name, **report.row()}) + "\n")

    return write


@pytest.mark.fault
@pytest.mark.timeout(7200)
def test_payments_survive_kills_at_every_point(seed: int, note: Callable[[Report], None]) -> None:
    """A hundred runs: each party at each point, some with two or three of them at once."""
    report = payment_kill.run(RUNS, seed=seed)
    accept(report, RUNS)
    assert set(report.places) >= {f"bank killed: {point}" for point in points.BANK_POINTS}
    assert set(report.places) >= {f"gateway killed: {point}" for point in points.GATEWAY_POINTS}
    note(report)


@pytest.mark.fault
@pytest.mark.timeout(7200)
def test_payments_survive_kills_of_primaries(seed: int, note: Callable[[Report], None]) -> None:
    """Each of the three a pair: whoever is killed, the standby goes on before the killed one is back."""
    report = payment_kill.run(PAIR_RUNS, seed=seed, is_paired=True)
    accept(report, PAIR_RUNS)
    note(report)


# --- the check can fail -----------------------------------------------------------------------------------------------

ID = bytes(range(16))
SECOND = attempt_id(ID, 1)


def told(outcome: str) -> Payment:
    answer = PaymentAnswer(40, 1, 0, 7) if outcome == "done" else None
    return Payment(ID, "a", 11, "b/22", 500, outcome, answer)


def books(**changes: dict[bytes, tuple[int, int, int, int, int]]) -> dict[str, Books]:
    """The journals after a payment that was done with its second attempt; what is given stands instead."""
    found = {
        "a": {SECOND: (7, 40, 11, 1, 500)},
        "b": {SECOND: (7, 50, 1, 22, 500)},
        GATEWAY: {SECOND: (7, 7, 3, 4, 500)},
    }
    made = {}
    for name in PARTIES:
        posted = changes.get(name, found[name])
        each = Books(placed={ID, SECOND}, posted=posted)
        each.ended.update([ID, SECOND])
        made[name] = each
    return made


def findings(payment: Payment, found: dict[str, Books]) -> str:
    return "; ".join(payment_kill.check([payment], found, Report(0)))


def test_what_was_told_and_stands_so_is_right() -> None:
    """A payment that was done with its second attempt, and one of which nothing stands anywhere."""
    assert findings(told("done"), books()) == ""
    assert findings(told("unfinished"), books(a={}, b={}, gateway={})) == ""


@pytest.mark.parametrize(
    ("payment", "found", "finding"),
    [
        (told("done"), books(b={}), "was told as done and stands"),
        (told("done"), books(a={}, b={}, gateway={}), "was told as done and stands"),
        (told("refused"), books(), "was refused and paid at"),
        (told("unfinished"), books(), "was unfinished and paid at"),
        (told(""), books(), "never definite"),
        (told("done"), books(b={SECOND: (8, 50, 1, 22, 500)}), "has the sequences"),
        (told("done"), books(a={SECOND: (7, 40, 11, 1, 501)}), "moved other amounts"),
        (told("done"), books(a={SECOND: (7, 41, 11, 1, 500)}), "and not as told"),
        (told("done"), books(b={SECOND: (7, 50, 1, 23, 500)}), "and not as told"),
        (told("done"), books(a={ID: (5, 39, 11, 1, 500), SECOND: (7, 40, 11, 1, 500)}), "paid different payments"),
    ],
)
def test_every_kind_of_untruth_is_found(payment: Payment, found: dict[str, Books], finding: str) -> None:
    """Lost, doubled, invented, another sequence, amount or account: each is a finding."""
    assert finding in findings(payment, found)


def test_open_doubled_and_invented_payments_are_found() -> None:
    """A hold without an end, one with two, and a payment nobody asked for."""
    found = books()
    found["a"].ended[SECOND] += 1
    found["b"].placed.add(b"left open       ")
    for each in found.values():
        each.posted[b"by nobody       "] = (9, 9, 1, 1, 1)
    assert all(what in findings(told("done"), found) for what in ("are open", "more than once", "nobody ordered"))


# --- the look-out -----------------------------------------------------------------------------------------------------


def test_a_trap_waits_until_its_point_was_reached_so_often(tmp_path: Path) -> None:
    """Nothing happens before it is armed, at other points, or too early."""
    ended: list[str] = []
    file = tmp_path / "trap"
    trap = points.Trap(str(file), lambda: ended.append("end"))
    trap.reach("submit sent")
    file.write_text("submit sent\n2")
    for point in ("submit sent", "vote sent"):
        trap.reach(point)
    assert ended == []
    trap.reach("submit sent")
    assert ended == ["end"]


def test_every_message_and_entry_of_a_payment_has_a_point() -> None:
    """What the look-out names is in the tables from which points are drawn."""
    names = {*points.BANK_POINTS, *points.GATEWAY_POINTS}
    assert set(points._SENT.values()) | set(points._RECEIVED.values()) <= names
    assert points._SENT[Prepare] in points.GATEWAY_POINTS and points._SENT[Vote] in points.BANK_POINTS


@pytest.mark.parametrize(
    ("entry", "step"),
    [
        (codec.HoldPlaced(1, ID, 11, 1, 5, "EUR", NEVER_US, "", 5, 5, 3, b"", "b/22"), "hold"),
        (codec.HoldPlaced(1, ID, 1, 22, 5, "EUR", NEVER_US, "", 5, 5, 0, b"", "a/11"), "prepared"),
        (codec.HoldPlaced(1, ID, 3, 4, 5, "EUR", NEVER_US, "", 5, 5, 0, b"", "a/11>b/22"), "intent"),
        (codec.Posted(1, ID, 3, 4, 5, "EUR", int(TransferKind.clearing), "", 0, 0, 0), "decision"),
        (codec.Posted(1, ID, 11, 1, 5, "EUR", int(TransferKind.payment_out), "", 0, 0, 0), "commit"),
        (codec.HoldReleased(1, ID, 3, 11, 1, 5, 0, 0, 0, PaymentUnfinished.code), "abort"),
        (codec.HoldPlaced(1, ID, 11, 12, 5, "EUR", 10**15, "", 5, 5, 3), ""),
        (codec.Posted(1, ID, 11, 12, 5, "EUR", int(TransferKind.transfer), "", 0, 0, 0), ""),
    ],
)
def test_a_record_tells_what_it_does_to_payments(
    entry: codec.Entry, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each leg's placing and end is told apart, and what is no payment is nothing."""
    monkeypatch.setattr(points, "blobs_of", lambda record: [codec.encode(entry)])
    assert list(points.steps_of(None)) == ([step] if step else [])
