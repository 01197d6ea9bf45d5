"""Counting again: what the entries make, row by row, and every entry that cannot be."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from fortress.ledger import entries as e
from fortress.ledger.model import NEVER_US, account_number, month_of
from fortress.ledger.recount import Recount, shortened
from tests.ledger.books_fixture import DAY_US, NOW_US, uid

A, B, D = account_number(1), account_number(2), account_number(3)
HOLD, HANDLE = uid(), b"h" * 16
DAY = NOW_US // DAY_US


class Counted:
    """A recount of the entries given, with two accounts of 100 and of nothing, and one of another currency."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, int]] = []
        self.recount = Recount(lambda what, position: self.problems.append((what, position)))
        self.position = 0
        self.take(e.LedgerOpened(NOW_US, "alpha", ("EUR", "USD")))
        self.take(e.CustomerCreated(NOW_US, uid(), 1, HANDLE, ("a", "b"), b"s", 1, 2, 3, b"p", b"q", b"x" * 40, b"", 0))
        for number, currency in ((A, "EUR"), (B, "EUR"), (D, "USD")):
            self.take(e.AccountOpened(NOW_US, uid(), number, 1, 1, currency, 0, 1))
        cash = account_number(9)
        self.take(e.AccountOpened(NOW_US, uid(), cash, 0, 2, "EUR", None, 0))
        self.take(e.Posted(NOW_US, uid(), cash, A, 100, "EUR", 1, "", -100, 100, 0))
        assert self.problems == []

    def take(self, entry: Any) -> int:
        self.position += 1
        self.recount.take(entry, self.position, e.encode(entry))
        return self.position

    def says(self, entry: Any, *parts: str) -> None:
        """Take an entry and expect just one problem, at its position."""
        self.problems.clear()
        position = self.take(entry)
        assert [place for _, place in self.problems] == [position] * len(parts), self.problems
        for (what, _), part in zip(self.problems, parts, strict=True):
            assert part in what


@pytest.fixture
def counted() -> Counted:
    return Counted()


def posted(amount: int, after: tuple[int, int], debit: int = A, credit: int = B, **more: Any) -> e.Posted:
    fields = {"time_us": NOW_US, "id": uid(), "currency": "EUR", "kind": 3, **more}
    time_us, id, currency, kind = (fields.pop(name) for name in ("time_us", "id", "currency", "kind"))
    return e.Posted(time_us, id, debit, credit, amount, currency, kind, "", *after, 1, **fields)


def placed(amount: int = 40, after: tuple[int, int] = (40, 40), **more: Any) -> e.HoldPlaced:
    debit, credit = more.get("debit", A), more.get("credit", B)
    return e.HoldPlaced(NOW_US, HOLD, debit, credit, amount, "EUR", NOW_US + 9, "r", *after, 1)


def released(amount: int = 40, after: tuple[int, int] = (0, 0), debit: int = A, credit: int = B) -> e.HoldReleased:
    return e.HoldReleased(NOW_US, HOLD, 3, debit, credit, amount, *after, 1)


def test_money_that_moved_is_counted(counted: Counted) -> None:
    """Counters, limits, chain, id."""
    entry = posted(30, (70, 30))
    position = counted.take(entry)
    assert counted.problems == []
    assert counted.recount.balance_row(A) == (A, 30, 100, 0, 0, DAY, 30, month_of(DAY), 30, position, 3)
    assert counted.recount.counter_row(A) == (A, f"[30,100,0,0,{DAY},30,{month_of(DAY)},30,{position},3]")
    chunk = counted.recount.chunk()
    assert chunk.entries[-1] == (position, A, position - 1, B, 4, e.encode(entry))
    assert chunk.ids[entry.id] == (entry.id, position)
    assert chunk.trail == [(n,) for n in range(1, 7)]
    assert counted.recount.sums() == {"EUR": [3, 130, 130, 0, 0], "USD": [1, 0, 0, 0, 0]}


def test_holds_are_counted_to_their_end(counted: Counted) -> None:
    """Open until then, final afterwards; what was not taken is given back."""
    at = counted.take(placed())
    assert counted.recount.open_holds() == {HOLD: (HOLD, A, B, 40, "EUR", NOW_US, NOW_US + 9, "r", 1, 0, at, 0, 0)}
    assert counted.recount.balance_row(A)[3:7] == (40, 0, DAY, 40)
    end = counted.take(posted(25, (75, 25), id=HOLD, held=40))
    assert counted.problems == [] and counted.recount.open_holds() == {}
    chunk = counted.recount.chunk()
    assert chunk.holds[HOLD][-5:] == (2, 25, end, 0, 0) and chunk.ids[HOLD] == (HOLD, at)
    assert counted.recount.balance_row(A)[3:7] == (0, 0, DAY, 25)
    assert counted.recount.counts["holds"] == 1


def test_a_released_hold_leaves_nothing(counted: Counted) -> None:
    """But its row."""
    counted.take(placed())
    end = counted.take(released())
    assert counted.problems == []
    assert counted.recount.chunk().holds[HOLD][-5:] == (3, 0, end, 0, 0)
    assert counted.recount.balance_row(A)[3:7] == (0, 0, DAY, 0)


def test_what_is_given_back_belongs_to_its_own_day(counted: Counted) -> None:
    """Once spent on another day, that day stays as it is."""
    counted.take(placed())
    counted.take(posted(1, (99, 1), time_us=NOW_US + DAY_US))
    counted.take(e.HoldReleased(NOW_US + DAY_US, HOLD, 3, A, B, 40, 0, 0, 1))
    assert counted.recount.balance_row(A)[5:9] == (DAY + 1, 1, month_of(DAY), 1)
    counted.take(posted(1, (98, 2), time_us=NOW_US + 40 * DAY_US))
    assert counted.recount.balance_row(A)[5:9] == (DAY + 40, 1, month_of(DAY + 40), 1)
    assert counted.problems == []


def test_reversals_are_summed(counted: Counted) -> None:
    """By original, with the last position; nothing is spent by them."""
    original = uid()
    counted.take(posted(3, (97, 3), kind=7, original=original))
    last = counted.take(posted(4, (93, 7), kind=7, original=original))
    assert counted.recount.reversals == {original: (original, 7, last)}
    assert counted.recount.balance_row(A)[6] == 0


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        (lambda: posted(30, (71, 30)), ["states balances"]),
        (lambda: posted(101, (-1, 101)), ["below its floor"]),
        (lambda: posted(0, (100, 0)), ["moves 0"]),
        (lambda: posted(-5, (105, -5)), ["moves -5"]),
        (lambda: posted(5, (95, 5), credit=D), ["moves EUR between EUR and USD"]),
        (lambda: posted(5, (95, 5), currency="USD"), ["moves USD between EUR and EUR"]),
        (lambda: posted(5, (95, 5), credit=7), ["does not exist"]),
        (lambda: posted(5, (95, 5), debit=7), ["does not exist"]),
        (lambda: posted(5, (95, 105), credit=A), ["or one twice"]),
        (lambda: posted(5, (95, 5), time_us=NOW_US - 1), ["lies before"]),
        (lambda: posted(5, (95, 5), id=uid(), held=5), ["not open"]),
        (lambda: placed(101, (101, 101)), ["more than account"]),
        (lambda: placed(40, (41, 40)), ["held sums"]),
        (lambda: placed(40, (40, 41)), ["held sums"]),
        (lambda: placed(credit=7), ["does not exist"]),
        (lambda: released(40, (0, 0)), ["not open"]),
        (lambda: released(40, (0, 0), debit=7), ["does not exist"]),
        (lambda: e.LedgerOpened(NOW_US, "alpha", ()), ["opens the ledger again"]),
        (lambda: e.AccountOpened(NOW_US, uid(), A, 1, 1, "EUR", 0, 1), ["opens account"]),
        (lambda: e.AccountOpened(NOW_US, uid(), account_number(50), 9, 1, "EUR", 0, 1), ["customer 9"]),
        (lambda: e.AccountChanged(NOW_US, uid(), 7, "x", 1, 0, 1, 2, 3, True, 2, 1), ["account 7"]),
        (lambda: e.ProfileChanged(NOW_US, 9, b"", 1), ["customer 9"]),
        (lambda: e.ApprovalDecided(NOW_US, uid(), True, 1), ["does not wait"]),
        (
            lambda: e.CustomerCreated(NOW_US, uid(), 1, HANDLE, (), b"", 1, 2, 3, b"", b"", b"", b"", 0),
            ["customer 1 again"],
        ),
    ],
    ids=range(24),
)
def test_an_entry_that_cannot_be_is_told(counted: Counted, entry: Any, parts: list[str]) -> None:
    """Once, at its position; the counting goes on."""
    counted.says(entry(), *parts)
    counted.take(e.Refused(NOW_US, uid(), 5, b"", "x", A, (), 1))


@pytest.mark.parametrize(
    "end",
    [
        lambda: released(39, (1, 1)),
        lambda: posted(40, (60, 40), id=HOLD, held=41),
        lambda: released(40, (0, 0), debit=B, credit=A),
    ],
)
def test_a_hold_that_ends_as_another_is_told(counted: Counted, end: Any) -> None:
    """It must be the one that was placed."""
    counted.take(placed())
    counted.problems.clear()
    counted.take(end())
    assert any("not open, or another" in what for what, _ in counted.problems)


def test_an_id_used_twice_is_told(counted: Counted) -> None:
    """Within what is compared at once; beyond that the table of ids tells."""
    id = uid()
    counted.take(posted(1, (99, 1), id=id))
    counted.says(posted(1, (98, 2), id=id), "again")


def test_marks_are_made(counted: Counted) -> None:
    """At each account's every 256th entry."""
    for number in range(1, 300):
        counted.take(posted(1, (99, 1)) if number % 2 else posted(1, (0, 100), debit=B, credit=A))
    marks = counted.recount.chunk().marks
    assert {number for number, _ in marks} == {A, B} and len(marks) == counted.recount.counts["marks"] == 2


# --- People ----------------------------------------------------------------------------------------------------------
def test_a_customer_s_row_follows_their_entries(counted: Counted) -> None:
    """Key, profile, roles, state, accounts; long blobs as hashes."""
    long = hashlib.sha256(b"x" * 40).digest()
    row = (1, HANDLE, "a b", b"s", 1, 2, 3, b"p", b"q", long, NOW_US, 1, 0, A, 3, 3, 5)
    assert counted.recount.customer_row(1) == row
    counted.take(e.KeyChanged(NOW_US, 1, b"t", 4, 5, 6, b"u", b"v", 1))
    counted.take(e.ProfileChanged(NOW_US, 1, b"other", 1))
    at = counted.take(e.CustomerChanged(NOW_US, uid(), 1, "lock", ("c",), 2, 99, 1))
    expected = (1, HANDLE, "c", b"t", 4, 5, 6, b"u", b"v", b"other", NOW_US, 2, 99, A, 3, 3, at)
    assert counted.recount.customer_row(1) == expected
    at = counted.take(e.CustomerChanged(NOW_US, uid(), 1, "erase", ("c",), 3, 0, 1))
    assert counted.recount.customer_row(1) == (*expected[:7], b"", b"v", b"", NOW_US, 3, 0, A, 3, 3, at)
    assert counted.recount.customer_row(2) == () and [*counted.recount.customers] == [1]


def test_closing_and_reopening_are_counted(counted: Counted) -> None:
    """With the owner; other changes are the account's alone."""
    limits = (0, 5, None, 7, True)
    opens = []
    for version, state in enumerate((3, 4, 4, 1), 2):
        counted.take(e.AccountChanged(NOW_US, uid(), A, "x", state, *limits, version, 1))
        opens.append(counted.recount.customer_row(1)[15])
    assert opens == [3, 2, 2, 3]
    assert counted.recount.account_row(A) == (A, 1, 1, "EUR", 1, 0, 5, None, 7, 1, NOW_US, 5)
    cash = account_number(9)
    counted.take(e.AccountChanged(NOW_US, uid(), cash, "close", 4, *limits, 2, 0))
    assert counted.problems == [] and counted.recount.account_row(cash)[4] == 4
    assert counted.recount.account_row(7) == counted.recount.balance_row(7) == counted.recount.counter_row(7) == ()
    assert len(counted.recount.accounts) == 4


def test_invitations_approvals_and_sessions_are_counted(counted: Counted) -> None:
    """Used, decided, ended."""
    digest, other = b"d" * 32, b"e" * 32
    counted.take(e.Invited(NOW_US, uid(), digest, "teller", 9, 1))
    waits = counted.take(e.Invited(NOW_US, uid(), other, "teller", 9, 1))
    used = counted.take(e.CustomerCreated(NOW_US, uid(), 2, b"i" * 16, (), b"", 1, 2, 3, b"", b"", b"", digest, 0))
    assert counted.recount.invitations == {
        digest: (digest, "teller", 9, 1, used),
        other: (other, "teller", 9, 0, waits),
    }
    ask, declined = uid(), uid()
    at = counted.take(e.ApprovalAsked(NOW_US, ask, "erase", b"c" * 99, "s", 1))
    counted.take(e.ApprovalAsked(NOW_US, declined, "erase", b"c", "s", 1))
    row = (ask, "erase", hashlib.sha256(b"c" * 99).digest(), "s", 1, NOW_US)
    assert counted.recount.open_approvals()[ask] == (*row, 1, at)
    at = counted.take(e.ApprovalDecided(NOW_US, ask, True, 2))
    counted.take(e.ApprovalDecided(NOW_US, declined, False, 2))
    chunk = counted.recount.chunk()
    assert chunk.approvals[ask] == (*row, 2, at) and chunk.approvals[declined][6] == 3
    assert counted.recount.open_approvals() == {} and counted.recount.counts["approvals"] == 2
    counted.take(e.SessionEnded(NOW_US, 1, b"s", 77))
    assert counted.recount.sessions == {b"s": (b"s", 1, 77)}
    assert counted.problems == []


def test_only_long_blobs_are_shortened() -> None:
    """What a hash would not make smaller stays."""
    assert shortened(b"x" * 32) == b"x" * 32 and shortened("x" * 99) == "x" * 99
    assert shortened(b"x" * 33) == hashlib.sha256(b"x" * 33).digest()


# --- Between banks ---------------------------------------------------------------------------------------------------
def test_a_payment_is_counted_to_its_end(counted: Counted) -> None:
    """With the gateway's sequence or the reason; where it is the gateway itself, the sequence is the position."""
    ours, north, south = (account_number(n) for n in (11, 12, 13))
    counted.take(e.AccountOpened(NOW_US, uid(), ours, 0, 5, "EUR", None, 0))
    for owner, number in ((-1, north), (-2, south)):
        counted.take(e.AccountOpened(NOW_US, uid(), number, owner, 3, "EUR", -100, 0))
    ids = [uid() for _ in range(3)]
    for id, debit, credit in ((ids[0], A, ours), (ids[1], A, ours), (ids[2], north, south)):
        pending = (80, 80) if id == ids[1] else (40, 40)
        counted.take(e.HoldPlaced(NOW_US, id, debit, credit, 40, "EUR", NEVER_US, "", *pending, 1))
    done = counted.take(posted(40, (60, 40), A, ours, id=ids[0], kind=4, held=40, gateway_sequence=77))
    given_up = counted.take(e.HoldReleased(NOW_US, ids[1], 3, A, ours, 40, 0, 0, 0, 1004))
    decided = counted.take(posted(40, (-40, 40), north, south, id=ids[2], kind=8, held=40))
    assert counted.problems == []
    rows = counted.recount.chunk().holds
    assert [rows[id][-5:] for id in ids] == [
        (2, 40, done, 77, 0),
        (3, 0, given_up, 0, 1004),
        (2, 40, decided, decided, 0),
    ]


def test_a_position_may_be_held_down_to_its_cap(counted: Counted) -> None:
    """A customer's account never below zero, though its floor allows to draw on it."""
    north, south = account_number(12), account_number(13)
    for owner, number in ((-1, north), (-2, south)):
        counted.take(e.AccountOpened(NOW_US, uid(), number, owner, 3, "EUR", -100, 0))
    counted.take(e.HoldPlaced(NOW_US, uid(), north, south, 100, "EUR", NEVER_US, "", 100, 100, 0))
    assert counted.problems == []
    counted.says(e.HoldPlaced(NOW_US, uid(), north, south, 1, "EUR", NEVER_US, "", 101, 101, 0), "holds more")


def test_banks_and_windows_are_counted(counted: Counted) -> None:
    """Each row as its last entry left it."""
    first = counted.take(e.BankChanged(NOW_US, uid(), 1, "north", "add", 1, b"a", 9))
    second = counted.take(e.BankChanged(NOW_US, uid(), 2, "south", "add", 1, b"x" * 99, 9))
    last = counted.take(e.BankChanged(NOW_US + 1, uid(), 1, "north", "suspend", 2, b"a", 9))
    closed = [counted.take(e.WindowClosed(NOW_US + 1, uid(), n, n - 1, n, 9)) for n in (1, 2)]
    assert counted.problems == [] and first < second
    assert counted.recount.banks == {
        1: (1, "north", 2, b"a", NOW_US, last),
        2: (2, "south", 1, shortened(b"x" * 99), NOW_US, second),
    }
    assert counted.recount.windows == {n: (n, n - 1, n, NOW_US + 1, closed[n - 1]) for n in (1, 2)}


def test_banks_and_windows_that_cannot_be_are_told(counted: Counted) -> None:
    """Numbers go on by one and stay with their bank; windows follow each other and are not empty."""
    counted.says(e.BankChanged(NOW_US, uid(), 2, "north", "add", 1, b"a", 9), "bank north")
    counted.take(e.BankChanged(NOW_US, uid(), 2, "north", "suspend", 2, b"a", 9))
    counted.says(e.BankChanged(NOW_US, uid(), 2, "south", "add", 1, b"a", 9), "bank south")
    counted.says(e.WindowClosed(NOW_US, uid(), 2, 0, 5, 9), "window 2")
    counted.recount.windows.clear()
    counted.says(e.WindowClosed(NOW_US, uid(), 1, 1, 5, 9), "window 1")
    counted.says(e.WindowClosed(NOW_US, uid(), 2, 5, 5, 9), "window 2")
