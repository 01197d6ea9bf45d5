"""What must be read first: for each command and entry just what it names, round by round."""

from __future__ import annotations

from typing import Any

import pytest

from fortress.ledger import commands as c
from fortress.ledger import entries as e
from fortress.ledger import wanted as wanted_module
from fortress.ledger.acts import JUDGES
from fortress.ledger.memory import ID_NONE, Memory, Wanted
from fortress.ledger.model import BANK, Account, Customer, Hold, account_number
from fortress.ledger.wanted import missing, missing_for_batch, missing_for_entry, want_handle
from tests.ledger.books_fixture import ALICE, KEY, odd_id, uid
from tests.ledger.ledger_fixture import Row

A, B = account_number(1), account_number(2)
ID, ODD, HANDLE, DIGEST = uid(), odd_id(), b"h" * 16, b"d" * 32

# command -> what an empty memory lacks, when the id carries no time
COMMANDS: list[tuple[Any, dict[str, set[Any]]]] = [
    (c.MoveMoney(ALICE, 3, ODD, A, B, 1, "EUR"), {"ids": {ODD}, "accounts": {A, B}}),
    (c.MoveMoney(ALICE, 3, ODD, A, 5, 1, "EUR"), {"ids": {ODD}, "accounts": {A}}),
    (c.PlaceHold(ALICE, ODD, A, B, 1, "EUR", 9), {"ids": {ODD}, "accounts": {A, B}}),
    (c.PostHold(ALICE, ODD), {"holds": {ODD}}),
    (c.ReleaseHold(ALICE, ODD, 3), {"holds": {ODD}}),
    (c.ReverseMoney(ALICE, ODD, ID), {"ids": {ODD, ID}, "reversals": {ID}}),
    (c.PlacePayment(ALICE, ODD, A, B, 1, "EUR", "b/195"), {"ids": {ODD}, "accounts": {A, B}}),
    (c.CommitPayment(ALICE, ODD, 9), {"ids": {ODD}, "holds": {ODD}}),
    (c.AbortPayment(ALICE, ODD, 9), {"ids": {ODD}, "holds": {ODD}}),
    (c.ChangeBank(ALICE, ODD, "north", "add"), {"ids": {ODD}}),
    (c.CloseWindow(ALICE, ODD, 9), {"ids": {ODD}}),
    (c.OpenAccount(ALICE, ODD, -1, 3, "EUR"), {"ids": {ODD}}),
    (c.OpenAccount(ALICE, ODD, 7, 1, "EUR"), {"ids": {ODD}, "customers": {7}}),
    (c.OpenAccount(ALICE, ODD, BANK, 2, "EUR"), {"ids": {ODD}}),
    (c.ChangeAccount(ALICE, ODD, A, "close"), {"ids": {ODD}, "accounts": {A}}),
    (c.CreateCustomer(ALICE, ODD, HANDLE, (), KEY, b""), {"ids": {ODD}, "handles": {HANDLE}}),
    (c.ChangeKey(ALICE, 7, KEY), {"customers": {7}}),
    (c.ChangeProfile(ALICE, 7, b""), {"customers": {7}}),
    (c.ChangeCustomer(ALICE, ODD, 7, "lock"), {"ids": {ODD}, "customers": {7}}),
    (c.ChangeCustomer(ALICE, b"", 7, "lock"), {"customers": {7}}),
    (c.Invite(ALICE, ODD, DIGEST, "customer", 9), {"ids": {ODD}}),
    (c.AskApproval(ALICE, ODD, "x", b"", ""), {"ids": {ODD}}),
    (c.DecideApproval(ALICE, ODD, True), {"ids": {ODD}}),
    (c.EndSession(ALICE, 7, b"s" * 16, 9), {}),
    (c.OpenLedger(ALICE, "a", ()), {}),
]
POSTED = e.Posted(1, ID, A, B, 5, "EUR", 3, "", 0, 0, 1)
CHANGED = (0, None, None, None, False, 1, 1)
ENTRIES: list[tuple[Any, dict[str, set[Any]]]] = [
    (POSTED, {"accounts": {A, B}}),
    (e.Posted(1, ID, A, B, 5, "EUR", 3, "", 0, 0, 1, 5), {"accounts": {A, B}, "holds": {ID}}),
    (e.Posted(1, ID, A, B, 5, "EUR", 7, "", 0, 0, 1, 0, "", ODD), {"accounts": {A, B}, "reversals": {ODD}}),
    (e.HoldPlaced(1, ID, A, B, 5, "EUR", 9, "", 5, 5, 1), {"accounts": {A, B}}),
    (e.HoldReleased(1, ID, 3, A, B, 5, 0, 0, 1), {"accounts": {A, B}, "holds": {ID}}),
    (e.Refused(1, ID, 5, b"", "x", A, (), 1), {}),
    (e.AccountOpened(1, ID, A, 7, 1, "EUR", 0, 1), {"customers": {7}}),
    (e.AccountOpened(1, ID, A, BANK, 2, "EUR", 0, 1), {}),
    (e.AccountOpened(1, ID, A, -1, 3, "EUR", 0, 1), {}),
    (e.BankChanged(1, ID, 1, "north", "add", 1, b"", 1), {}),
    (e.WindowClosed(1, ID, 1, 0, 5, 1), {}),
    (e.AccountChanged(1, ID, A, "close", 4, *CHANGED), {"accounts": {A}}),
    (e.KeyChanged(1, 7, b"", 1, 1, 1, b"", b"", 1), {"customers": {7}}),
    (e.ProfileChanged(1, 7, b"", 1), {"customers": {7}}),
    (e.CustomerChanged(1, ID, 7, "lock", (), 2, 0, 1), {"customers": {7}}),
    (e.SessionEnded(1, 7, b"", 9), {}),
    (e.LedgerOpened(1, "a", ()), {}),
    (e.LedgerRestored(1, 1), {}),
]


def keys(wanted: Wanted | None) -> dict[str, set[Any]]:
    return {} if wanted is None else {name: getattr(wanted, name) for name in Wanted.KINDS if getattr(wanted, name)}


@pytest.mark.parametrize(("command", "lacks"), COMMANDS, ids=lambda value: type(value).__name__)
def test_a_command_wants_what_it_names(command: Any, lacks: dict[str, set[Any]]) -> None:
    """And nothing once memory has it, be it that it is absent."""
    memory = Memory()
    memory.id_seen = b"\xff" * 16
    found = missing(memory, command)
    assert keys(found) == lacks
    for name, wanted in lacks.items():
        for key in wanted:
            getattr(memory, name).put(key, None)
    assert missing(memory, command) is None


def test_every_command_is_thought_of() -> None:
    """The table above has a row for each judge."""
    assert {type(command) for command, _ in COMMANDS} == set(JUDGES)


@pytest.mark.parametrize(("entry", "lacks"), ENTRIES, ids=lambda value: type(value).__name__)
def test_an_entry_wants_what_it_changes(entry: Any, lacks: dict[str, set[Any]]) -> None:
    """Ids are not looked up again: what is written was judged."""
    memory = Memory()
    assert keys(missing_for_entry(memory, entry)) == lacks
    for name, wanted in lacks.items():
        for key in wanted:
            getattr(memory, name).put(key, None)
    assert missing_for_entry(memory, entry) is None


def test_a_new_id_is_not_looked_up() -> None:
    """Its own time says that it is in memory or new; other ids are looked up until memory knows of them."""
    memory = Memory()
    memory.id_seen = ID
    for id, lacks in ((uid(), {}), (ID, {"ids": {ID}}), (ODD, {"ids": {ODD}}), (b"", {})):
        assert keys(missing(memory, c.Invite(ALICE, id, DIGEST, "customer", 9))) == lacks


def test_a_hold_brings_its_accounts() -> None:
    """In a second round, when it is known which; also for what undoes it."""
    memory = Memory()
    memory.holds.put(ID, Hold(ID, A, B, 5, "EUR", 1, 2, ""))
    assert keys(missing(memory, c.PostHold(ALICE, ID))) == {"accounts": {A, B}}
    memory.ids.put(ID, (1, e.HoldPlaced(1, ID, A, B, 5, "EUR", 9, "", 5, 5, 1)))
    memory.reversals.put(ID, None)
    assert keys(missing(memory, c.ReverseMoney(ALICE, uid(), ID))) == {"accounts": {A, B}}


def test_a_repeated_payment_brings_its_hold() -> None:
    """So that it can be told what became of it; one that was refused has none."""
    memory = Memory()
    place = c.PlacePayment(ALICE, ID, A, B, 5, "EUR", "b/195")
    memory.ids.put(ID, (1, e.HoldPlaced(1, ID, A, B, 5, "EUR", 9, "", 5, 5, 1)))
    assert keys(missing(memory, place)) == {"accounts": {A, B}, "holds": {ID}}
    memory.holds.put(ID, Hold(ID, A, B, 5, "EUR", 1, 2, ""))
    for command in (c.CommitPayment(ALICE, ID, 9), c.AbortPayment(ALICE, ID, 9)):
        assert keys(missing(memory, command)) == {"accounts": {A, B}}
    memory.ids.put(ODD, (1, e.Refused(1, ODD, 58, b"", "payment", 0, (), 0)))
    assert missing(memory, c.CommitPayment(ALICE, ODD, 9)) is missing(memory, c.AbortPayment(ALICE, ODD, 9)) is None


def test_a_reversal_brings_the_accounts_of_its_original() -> None:
    """Whether that is a transfer or something that cannot be undone."""
    memory = Memory()
    memory.reversals.put(ID, None)
    memory.ids.put(ID, (1, POSTED))
    assert keys(missing(memory, c.ReverseMoney(ALICE, uid(), ID))) == {"accounts": {A, B}}
    memory.ids.put(ID, (1, e.Invited(1, ID, DIGEST, "", 1, 1)))
    assert missing(memory, c.ReverseMoney(ALICE, uid(), ID)) is None


@pytest.mark.parametrize(
    ("act", "owner", "lacks"),
    [
        ("close", 7, {"customers": {7}}),
        ("reopen", 7, {"customers": {7}}),
        ("freeze", 7, {}),
        ("close", BANK, {}),
    ],
)
def test_closing_an_account_brings_its_owner(act: str, owner: int, lacks: dict[str, set[Any]]) -> None:
    """Whose open accounts are counted."""
    memory = Memory()
    memory.accounts.put(A, Account(A, owner, 1, "EUR"))
    assert keys(missing(memory, c.ChangeAccount(ALICE, uid(), A, act))) == lacks
    assert keys(missing_for_entry(memory, e.AccountChanged(1, ID, A, act, 4, *CHANGED))) == lacks


def test_a_batch_wants_all_at_once() -> None:
    """Every row's accounts and ids in one reading."""
    memory = Memory()
    rows = [Row(uid(), A, B, 1), Row(ODD, B, account_number(3), 1)]
    assert keys(missing_for_batch(memory, rows)) == {"accounts": {A, B, account_number(3)}, "ids": {ODD}}
    for number in (A, B, account_number(3)):
        memory.accounts.put(number, None)
    memory.ids.put(ODD, None)
    assert missing_for_batch(memory, rows) is None
    assert missing_for_batch(memory, rows[:1]) is None
    assert keys(missing_for_batch(memory, [Row(uid(), account_number(4), B, 1)])) == {"accounts": {account_number(4)}}


def test_a_handle_brings_its_customer() -> None:
    """Also when only the customer was forgotten."""
    memory = Memory()
    for lacks in ({"handles": {HANDLE}}, {"customers": {7}}, {}):
        wanted = Wanted(memory.turns())
        want_handle(memory, wanted, HANDLE)
        assert keys(wanted) == lacks
        memory.handles.put(HANDLE, (7, 0))
        if "customers" in lacks:
            memory.customers.put(7, Customer(7, HANDLE, (), b"", 1, 1, 1, b"", b"", b"", 0))
    memory.handles.put(b"x", None)
    wanted = Wanted(memory.turns())
    want_handle(memory, wanted, b"x")
    assert not wanted and memory.id_seen == ID_NONE


LEGS: tuple[Any, ...] = (
    c.PlacePayment(ALICE, ID, A, B, 1, "EUR", "b/195"),
    c.PlacePayment(ALICE, ODD, A, B, 1, "EUR", "b/195"),
    c.CommitPayment(ALICE, ID, 9),
    c.AbortPayment(ALICE, ID, 9),
    e.HoldPlaced(1, ID, A, B, 5, "EUR", 9, "", 5, 5, 1),
    e.Posted(1, ID, A, B, 5, "EUR", 3, "", 0, 0, 1, 5),
    POSTED,
)


@pytest.mark.parametrize("leg", LEGS, ids=lambda leg: type(leg).__name__)
@pytest.mark.parametrize("has", range(32))
def test_the_short_look_says_what_the_whole_one_says(leg: Any, has: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever of accounts, hold and id is in memory, and whatever its time says of the id."""
    memory = Memory()
    memory.id_seen = bytes(16) if has & 16 else b"\xff" * 16
    for bit, number in ((1, A), (2, B)):
        if has & bit:
            memory.accounts.put(number, Account(number, 7, 1, "EUR"))
    if has & 4:
        memory.holds.put(ID, Hold(ID, A, B, 5, "EUR", 1, 9, ""))
    if has & 8:
        memory.ids.put(ID, (1, e.HoldPlaced(1, ID, A, B, 5, "EUR", 9, "", 5, 5, 1)))
    look = missing_for_entry if isinstance(leg, e.HoldPlaced | e.Posted) else missing
    short = keys(look(memory, leg))
    monkeypatch.setattr(wanted_module, "_IS_THERE", {})
    assert short == keys(look(memory, leg))
