"""A gateway's banks and windows as tables: added, suspended, resumed; closed one after the other."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from fortress.errors import BooksBroken, Status
from fortress.ledger.commands import ChangeAccount, ChangeBank, CloseWindow, Command, OpenAccount
from fortress.ledger.entries import BankChanged, Refused, WindowClosed
from fortress.ledger.model import BANK_ACTOR, INTEGER_MAX, AccountKind, BankState, MemberBank, WindowEnd
from tests.ledger.books_fixture import ACTORS, ADMINISTRATOR, BOB, NOW_US, Books, number, rows, status, uid

# what is done first, what then, and what comes of it
ACTS = """
first         then           answer              replayed state     authority
-             add-a          ok                  -        active    a
-             add-           bank_unknown        -        -         -
-             suspend        bank_unknown        -        -         -
-             resume         bank_unknown        -        -         -
add-a         add-a          ok                  yes      active    a
add-a         add-           ok                  yes      active    a
add-a         add-b          ok                  -        active    b
add-a         suspend        ok                  -        suspended a
add-a         resume         bank_state_conflict -        active    a
add-a,suspend suspend        bank_state_conflict -        suspended a
add-a,suspend resume         ok                  -        active    a
add-a,suspend add-a          ok                  yes      suspended a
add-a,suspend add-b          ok                  -        suspended b
"""

OPENINGS = """
who           owner kind       currency floor answer
administrator 0     settlement EUR      -     ok
bank          0     settlement EUR      -     ok
bank          0     settlement EUR      0     floor_invalid
bank          0     settlement USD      -     account_limit_reached
bank          0     settlement XXX      -     currency_unknown
teller        0     settlement EUR      -     account_kind_not_allowed
switch        0     settlement EUR      -     account_kind_not_allowed
bank          1     settlement EUR      -     account_kind_not_allowed
administrator -1    position   EUR      -500  ok
bank          -1    position   EUR      0     ok
administrator -1    position   USD      -500  account_limit_reached
administrator -2    position   USD      -500  ok
administrator -3    position   EUR      -500  bank_unknown
administrator 0     position   EUR      -500  bank_unknown
administrator 1     position   EUR      -500  bank_unknown
administrator -1    position   EUR      1     floor_invalid
administrator -1    position   EUR      -     floor_invalid
teller        -1    position   EUR      -500  account_kind_not_allowed
administrator -1    customer   EUR      0     customer_unknown
"""

CAPS = """
account act            floor answer
theirs  limits         -900  ok
theirs  limits         0     ok
theirs  limits         1     floor_invalid
theirs  close          -     account_kind_not_allowed
theirs  freeze         -     ok
ours    limits         -900  account_kind_not_allowed
ours    close          -     account_kind_not_allowed
"""


@pytest.fixture
def books() -> Books:
    made = Books("""
        name   owner kind       currency floor balance
        ours   0     settlement USD      -     -
        theirs -1    position   USD      -500  -100
    """)
    for index, name in enumerate(("north", "south"), 1):
        made.banks[name] = MemberBank(index, name, int(BankState.active), b"x", NOW_US)
    return made


def change(act: str, bank: str = "harbour") -> ChangeBank:
    act, _, authority = act.partition("-")
    return ChangeBank(ADMINISTRATOR, uid(), bank, act, authority.encode())


@pytest.mark.parametrize("row", rows(ACTS), ids=lambda row: " ".join(row.values()))
def test_banks_change_as_the_table_says(row: dict[str, str]) -> None:
    """Added once, with another authority changed; suspended and resumed in turn; refusals are remembered."""
    books = Books()
    for act in filter(None, row["first"].split(",")):
        assert books.do(change(act)).status is Status.ok
    known = books.banks.get("harbour")
    position = known.position if known is not None else 0
    verdict = books.do(change(row["then"]), NOW_US + 1)
    assert (verdict.status, verdict.replayed) == (status(row["answer"]), bool(row["replayed"]))
    if verdict.replayed:
        assert (verdict.entry, verdict.position) == (None, position)
    elif verdict.status is not Status.ok:
        assert type(verdict.entry) is Refused and verdict.entry.operation.endswith("_bank")
    bank = books.banks.get("harbour")
    if bank is None:
        assert not row["state"]
    else:
        assert (BankState(bank.state).name, bank.authority.decode()) == (row["state"], row["authority"])
        assert (bank.number, bank.added_us) == (1, NOW_US if row["first"] else NOW_US + 1)


def test_banks_are_numbered_from_one() -> None:
    """Each takes the next number, which is its own for ever."""
    books = Books()
    for name in ("north", "south", "east"):
        books.do(change("add-a", name))
    books.do(change("add-b", "north"))
    assert {name: bank.number for name, bank in books.banks.items()} == {"north": 1, "south": 2, "east": 3}


@pytest.mark.parametrize("act", ["add-a", "add-b", "suspend", "resume"])
def test_a_change_is_repeatable_by_its_id(act: str) -> None:
    """The same content is the first answer; another bank, act, authority or actor is another use of the id."""
    books = Books()
    for before in {"add-b": ["add-a"], "suspend": ["add-a"], "resume": ["add-a", "suspend"]}.get(act, []):
        books.do(change(before))
    command = change(act)
    first = books.do(command)
    again = books.do(command)
    assert (again.status, again.entry, again.position) == (Status.ok, first.entry, first.position) and again.replayed
    others: list[Command] = [
        replace(command, bank="north"),
        replace(command, act="suspend" if act != "suspend" else "resume"),
        replace(command, actor=BOB),
        CloseWindow(ADMINISTRATOR, command.id, 9),
    ]
    if act.startswith("add"):
        others.append(replace(command, authority=b"z"))
    assert {books.do(other).status for other in others} == {Status.id_reused}


def test_an_id_too_far_ahead_leaves_no_trace() -> None:
    """As everywhere."""
    books = Books()
    command = replace(change("add-a"), id=uid(NOW_US + 61_000_000))
    assert (books.do(command).status, books.position) == (Status.id_too_far_ahead, 0)


def test_a_bank_with_another_s_number_breaks_the_books() -> None:
    """A follower that would read such an entry stops."""
    books = Books()
    entry = books.do(change("add-a")).entry
    for wrong in (replace(entry, number=2), replace(entry, bank="north"), replace(entry, bank="north", number=3)):
        with pytest.raises(BooksBroken, match="number"):
            books.apply(wrong, books.delta)
    assert type(entry) is BankChanged


# --- Accounts --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("row", rows(OPENINGS), ids=lambda row: " ".join(row.values()))
def test_accounts_between_banks_open_as_the_table_says(books: Books, row: dict[str, str]) -> None:
    """One settlement account without floor, one position with a cap for each bank, in each currency."""
    kind, currency = AccountKind[row["kind"]], row["currency"]
    owner = int(row["owner"])
    command = OpenAccount(ACTORS[row["who"]], uid(), owner, int(kind), currency, number(row["floor"]))
    verdict = books.do(command)
    assert verdict.status is status(row["answer"])
    if verdict.status is Status.ok:
        opened = books.settlements.get(currency) if owner == 0 else books.positions.get((-owner, currency))
        assert opened == verdict.entry.number
        again = books.do(command)
        assert again.replayed and again.entry == verdict.entry


@pytest.mark.parametrize("row", rows(CAPS), ids=lambda row: " ".join(row.values()))
def test_a_cap_changes_as_the_table_says(books: Books, row: dict[str, str]) -> None:
    """A position's floor is the bank's net debit cap; nobody closes what payments go through."""
    command = ChangeAccount(ADMINISTRATOR, uid(), books.numbers[row["account"]], row["act"], number(row["floor"]))
    verdict = books.do(command)
    assert verdict.status is status(row["answer"])
    if row["act"] == "limits" and verdict.status is Status.ok:
        assert books.named("theirs").floor == int(row["floor"])


# --- Windows ---------------------------------------------------------------------------------------------------------
def test_windows_follow_each_other() -> None:
    """Numbered from 1, each begins where the one before ended; none is empty."""
    books = Books()
    ends: list[tuple[int, str]] = [(0, "window_not_settled"), (40, "ok"), (40, "window_not_settled"), (41, "ok")]
    found: list[Any] = []
    for to, answer in ends:
        verdict = books.do(CloseWindow(ADMINISTRATOR, uid(), to))
        assert verdict.status is status(answer)
        if verdict.status is Status.ok:
            found.append(verdict.entry)
        else:
            assert dict(verdict.facts) == {"after": books.windows.to}
    assert [(each.number, each.after, each.to) for each in found] == [(1, 0, 40), (2, 40, 41)]
    assert books.windows == WindowEnd(2, 41)


def test_a_close_is_repeatable_by_its_id() -> None:
    """The same end is the first answer, also after the next window; another end is another use of the id."""
    books = Books()
    command = CloseWindow(BANK_ACTOR, uid(), INTEGER_MAX - 1)
    first = books.do(command)
    books.do(CloseWindow(BANK_ACTOR, uid(), INTEGER_MAX))
    again = books.do(command)
    assert (again.replayed, again.entry, again.position) == (True, first.entry, 1)
    assert books.do(replace(command, to=5)).status is Status.id_reused
    assert books.do(replace(change("add-a"), id=command.id, actor=BANK_ACTOR)).status is Status.id_reused


def test_a_window_that_does_not_follow_breaks_the_books() -> None:
    """A follower that would read such an entry stops."""
    books = Books()
    for wrong in (WindowClosed(NOW_US, uid(), 2, 0, 5, 9), WindowClosed(NOW_US, uid(), 1, 1, 5, 9)):
        with pytest.raises(BooksBroken, match="does not follow"):
            books.apply(wrong, books.delta)
