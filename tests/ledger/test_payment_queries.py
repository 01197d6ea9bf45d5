"""Reading payments between banks from the tables: open ones, one's course, a customer's, those of a window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fortress.ledger import payment_queries as module
from fortress.ledger.commands import CloseWindow
from fortress.ledger.model import BANK_ACTOR, INTEGER_MAX, HoldState, account_number
from fortress.ledger.payment_queries import PaymentQueries, WindowRow, WindowSum
from tests.ledger.books_fixture import odd_id, uid
from tests.ledger.ledger_fixture import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path)
    made.found()
    yield made
    made.close()


@pytest.fixture
def queries(ledger: Ledger) -> PaymentQueries:
    return PaymentQueries(ledger.engine.store)


def test_open_payments_are_found_by_page(ledger: Ledger, queries: PaymentQueries) -> None:
    """Those placed and not ended, by id, with their entries; ordinary holds are none."""
    a, b, ours = ledger.account(1_000), ledger.account(), ledger.settlement()
    ledger.hold(a, b, 5)
    placed = [ledger.place(a, ours, 10, reference=str(n)) for n in range(7)]
    placed.append(ledger.place(ours, b, 10, id=odd_id()))
    ledger.end(placed[0].entry.id, 5)
    ledger.end(placed[1].entry.id, reason=7)
    ledger.commit()
    still = sorted(placed[2:], key=lambda verdict: bytes(verdict.entry.id))
    found = queries.open_payments(100)
    assert [(each.position, each.entry) for each in found] == [(each.position, each.entry) for each in still]
    assert {(each.hold.is_payment, each.hold.state) for each in found} == {(True, HoldState.open)}
    pages = []
    after = b""
    while page := queries.open_payments(4, after):
        pages += page
        after = page[-1].hold.id
    assert [each.position for each in pages] == [each.position for each in found]


def test_the_course_of_a_payment(ledger: Ledger, queries: PaymentQueries) -> None:
    """Held, then posted or voided; or refused; or nothing at all."""
    a, ours = ledger.account(100), ledger.settlement()
    verdicts = [ledger.place(a, ours, 10) for _ in range(3)]
    done, given_up, still = (verdict.entry.id for verdict in verdicts)
    ends = [ledger.end(done, 9), ledger.end(given_up, reason=1003)]
    refused = ledger.place(a, ours, 500)
    unknown = uid()
    tombstone = ledger.end(unknown, reason=1004)
    ledger.commit()
    entries = {
        done: [verdicts[0], ends[0]],
        given_up: [verdicts[1], ends[1]],
        still: [verdicts[2]],
        refused.entry.id: [refused],
        unknown: [tombstone],
        uid(): [],
    }
    for id, wanted in entries.items():
        assert queries.payment_entries(id) == [(verdict.position, verdict.entry) for verdict in wanted]
    assert queries.end_of_hold(done) == (ends[0].position, ends[0].entry)
    assert queries.end_of_hold(given_up) == (ends[1].position, ends[1].entry)
    assert queries.end_of_hold(still) is queries.end_of_hold(unknown) is None


@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize("scan_rows_max", [2, 10_000])
def test_a_customer_s_payments_come_newest_first(
    ledger: Ledger, queries: PaymentQueries, limit: int, scan_rows_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over all accounts together, page by page, with how each ended; what is no payment is left out."""
    monkeypatch.setattr(module, "SCAN_ROWS_MAX", scan_rows_max)
    a, b, ours = ledger.account(1_000), ledger.account(1_000), ledger.settlement()
    other = ledger.account(owner=ledger.customer(b"bob"))
    wanted = []
    for n in range(6):
        ledger.pay(a, b, 1)
        ledger.hold(a, b, 1)
        payment = ledger.place(*((b, ours), (ours, a))[n % 2], 10)
        ledger.place(ours, other, 10)
        if n % 3:
            ledger.end(payment.entry.id, n, reason=(n % 3 == 2) * 7)
        wanted.append((payment.position, (HoldState.open, HoldState.posted, HoldState.voided)[n % 3]))
    ledger.commit()
    found: list[tuple[int, int]] = []
    cursor = 0
    while True:
        page, cursor = queries.payments_of([a, b], limit=limit, cursor=cursor)
        assert len(page) <= limit
        found += [(each.position, each.hold.state) for each in page]
        if not cursor:
            break
    assert found == wanted[::-1]
    assert queries.payments_of([], limit=5) == queries.payments_of([account_number(5)], limit=5) == ([], 0)
    if scan_rows_max > 2:  # one between two of them counts once
        assert len(queries.payments_of([b, ours], limit=100)[0]) == 12


def test_the_payments_of_a_window_at_a_bank(ledger: Ledger, queries: PaymentQueries) -> None:
    """In the order of the gateway, whatever their own; those aborted or still open are in none."""
    a, ours = ledger.account(1_000), ledger.settlement()
    ids = {sequence: ledger.place(a, ours, sequence).entry.id for sequence in (9, 5, 7, 30, 40)}
    ids |= {6: ledger.place(ours, a, 6).entry.id}
    ends = {sequence: ledger.end(ids[sequence], sequence).position for sequence in (9, 5, 7, 6, 30)}
    ledger.end(ids[40], reason=7)
    ledger.place(a, ours, 1)
    ledger.commit()
    found = queries.window_payments(5, 30, limit=100)
    assert [(each.sequence, each.position) for each in found] == [(n, ends[n]) for n in (6, 7, 9, 30)]
    assert [each.entry.amount for each in found] == [6, 7, 9, 30]
    assert [each.sequence for each in queries.window_payments(0, INTEGER_MAX, limit=2)] == [5, 6]
    assert queries.window_sums(5, 9) == [WindowSum(a, 3, 16, 6), WindowSum(ours, 3, 6, 16)]


def test_the_payments_of_a_window_at_the_gateway(ledger: Ledger, queries: PaymentQueries) -> None:
    """The sequence is the position of the decision; a bank's are those from and to its position."""
    north, south, east = (ledger.member(name, INTEGER_MAX) for name in ("north", "south", "east"))
    ends = []
    for debit, credit, amount in ((north, south, 2**62), (south, north, 5), (south, east, 2**62), (east, north, 7)):
        ends.append(ledger.end(ledger.place(debit, credit, amount).entry.id).position)
    ledger.commit()
    found = queries.window_payments(0, ends[-1], limit=100)
    assert [(each.sequence, each.position) for each in found] == [(position, position) for position in ends]
    some = queries.window_payments(ends[0], ends[-1], limit=100, account=north)
    assert [each.sequence for each in some] == [ends[1], ends[3]]
    assert queries.window_sums(0, ends[2]) == [
        WindowSum(north, 2, 2**62, 5),
        WindowSum(south, 3, 2**62 + 5, 2**62),
        WindowSum(east, 1, 0, 2**62),
    ]


def test_windows_that_were_closed(ledger: Ledger, queries: PaymentQueries) -> None:
    """Newest first, each where the one before ended."""
    ends = [ledger.do(CloseWindow(BANK_ACTOR, uid(), to)) for to in (4, 6, 7)]
    ledger.commit()
    rows = [
        WindowRow(e.number, e.after, e.to, e.time_us, verdict.position) for verdict in ends for e in (verdict.entry,)
    ]
    assert queries.windows(2) == [rows[2], rows[1]]
    assert (queries.window(1), queries.window(4)) == (rows[0], None)
    ledger.reopen()
    assert ledger.state.windows == (3, 7)


@pytest.mark.parametrize("sql", ["open", "window"])
def test_what_is_asked_often_goes_by_an_index(queries: PaymentQueries, ledger: Ledger, sql: str) -> None:
    """Neither walks all holds there ever were."""
    asked = {
        "open": "SELECT id FROM holds WHERE state = 1 AND expires_us = ?1 AND id > ?2 ORDER BY id LIMIT 9",
        "window": "SELECT id FROM holds WHERE sequence > 0 AND sequence > ?1 AND sequence <= ?2 ORDER BY sequence",
    }[sql]
    plan = " ".join(row[3] for row in ledger.engine.store.read(f"EXPLAIN QUERY PLAN {asked}", (1, b"")))
    assert "holds_open_by_expiry" in plan if sql == "open" else "holds_by_sequence" in plan
    assert "SEARCH" in plan and "TEMP" not in plan
