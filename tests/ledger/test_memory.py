"""Memory: what the rules are told, what is taken of what was read, and what is forgotten."""

from __future__ import annotations

import pytest

from fortress.ledger.entries import Invited
from fortress.ledger.memory import Loaded, Memory, Wanted
from fortress.ledger.model import Account, Customer, Hold, account_number
from tests.ledger.books_fixture import odd_id, uid

A, B = account_number(1), account_number(2)
HANDLE = b"alice".ljust(16)


def customer(position: int = 0, handle: bytes = HANDLE) -> Customer:
    return Customer(1, handle, ("customer",), b"", 1, 1, 1, b"", b"", b"", 0, position=position)


def wanted(memory: Memory, **keys: object) -> Wanted:
    made = Wanted(memory.turns())
    for name, value in keys.items():
        getattr(made, name).update(value)
    return made


def test_wanting_nothing_is_nothing() -> None:
    """Truth tells whether there is something to read."""
    memory = Memory()
    assert not wanted(memory)
    for name in Wanted.KINDS:
        assert wanted(memory, **{name: [1]})


def test_what_two_commands_want_is_read_at_once() -> None:
    """As of the older of the two."""
    memory = Memory()
    first = wanted(memory, accounts=[A], ids=[b"x"])
    memory.accounts.turns += 1
    second = wanted(memory, accounts=[B], handles=[HANDLE])
    merged = second.merged(first)
    assert merged is second and merged.accounts == {A, B} and merged.ids == {b"x"} and merged.handles == {HANDLE}
    assert merged.turns == first.turns


def test_what_was_read_is_taken_and_what_was_not_found_is_noted() -> None:
    """Afterwards nothing of it is missing."""
    memory = Memory()
    asked = wanted(memory, accounts=[A, B], holds=[b"h"], ids=[b"i"], reversals=[b"r"], customers=[1, 2])
    asked.handles |= {HANDLE, b"nobody"}
    loaded = Loaded()
    loaded.accounts[A] = Account(A, 1, 1, "EUR")
    loaded.holds[b"h"] = Hold(b"h", A, B, 5, "EUR", 1, 2, "")
    loaded.ids[b"i"] = (7, Invited(1, b"", b"", "", 1, 1))
    loaded.reversals[b"r"] = (5, 7)
    loaded.customers[1] = customer()
    memory.fill(asked, loaded)
    assert memory.account(A) is loaded.accounts[A] and B in memory.accounts and memory.account(B) is None
    assert memory.hold(b"h") is loaded.holds[b"h"] and memory.known(b"i") == loaded.ids[b"i"]
    assert memory.reversed_minor(b"r") == 5 and memory.reversed_minor(b"q") == 0
    assert memory.customer(1) is memory.customer_by_handle(HANDLE) is loaded.customers[1]
    assert memory.has_handle(HANDLE) and not memory.has_handle(b"nobody") and b"nobody" in memory.handles
    assert memory.customer_by_handle(b"nobody") is None and memory.customer_by_handle(b"other") is None
    assert memory.approval(b"a") is None and memory.invitation(b"i") is None


def test_a_customer_is_one_object_however_they_are_found() -> None:
    """Read by number, then by handle, or the other way round: changes made through one are seen through the other."""
    for first in ("customers", "handles"):
        memory = Memory()
        keys = {"customers": [1], "handles": [HANDLE]}
        for name in (first, *(set(keys) - {first})):
            loaded = Loaded()
            loaded.customers[1] = customer()
            memory.fill(wanted(memory, **{name: keys[name]}), loaded)
            found = memory.customer(1)
            assert found is not None
            found.position += 1
        assert memory.customer_by_handle(HANDLE) is memory.customer(1)
        assert found.position == 2


def test_a_handle_outlives_its_customer_and_the_other_way_round() -> None:
    """Whichever is forgotten first, the username stays taken and the customer is never two objects."""
    memory = Memory()
    memory.customers._half = memory.handles._half = 1
    changed = customer(position=9)
    memory.customers.put(1, changed)
    memory.handles.put(HANDLE, (1, 0))
    for number in range(3):
        memory.handles.put(bytes([number]), None)
        memory.trim(5)
    assert HANDLE not in memory.handles and memory.customer(1) is changed
    loaded = Loaded()
    loaded.customers[1] = customer()
    memory.fill(wanted(memory, handles=[HANDLE]), loaded)
    assert memory.customer_by_handle(HANDLE) is changed
    for number in range(2, 5):
        memory.has_handle(HANDLE)
        memory.customers.put(number, None)
        memory.trim(9)
    assert memory.customer(1) is None and memory.has_handle(HANDLE)
    assert memory.customer_by_handle(HANDLE) is None


@pytest.mark.parametrize("kind", ["accounts", "customers"])
def test_what_was_read_besides_may_be_older_than_what_was_forgotten(kind: str) -> None:
    """An account changed in memory, applied and forgotten while it was being read with a hold: not taken."""
    memory = Memory()
    asked = wanted(memory, holds=[b"h"], handles=[HANDLE])
    loaded = Loaded()
    loaded.accounts[A], loaded.customers[1] = Account(A, 1, 1, "EUR"), customer()
    getattr(memory, kind).turns += 1
    memory.fill(asked, loaded)
    assert (A in memory.accounts) == (kind != "accounts")
    assert (1 in memory.customers) == (kind != "customers")


def test_what_was_read_too_long_ago_is_not_taken() -> None:
    """Two turns later it may have come and gone; one turn later it cannot have."""
    for turns, is_taken in ((1, True), (2, False)):
        memory = Memory()
        asked = wanted(memory, accounts=[A], ids=[b"i"], handles=[HANDLE])
        for working_set in (memory.accounts, memory.ids, memory.handles):
            working_set.turns += turns
        memory.fill(asked, Loaded())
        assert (A in memory.accounts) is (b"i" in memory.ids) is (HANDLE in memory.handles) is is_taken


def test_the_hot_path_s_look() -> None:
    """Both accounts in either generation, and an id that is new by its own time or in memory."""
    memory = Memory(account_cache_max=2)
    memory.id_seen = uid()
    new, odd = uid(), odd_id()
    assert memory.lacks_move(new, A, B)
    memory.accounts.put(A, Account(A, 1, 1, "EUR"))
    assert memory.lacks_move(new, A, B)
    memory.accounts.trim(9)
    memory.accounts.put(B, None)
    assert not memory.lacks_move(new, A, B)
    assert memory.lacks_move(odd, A, B) and memory.lacks_move(memory.id_seen, A, B)
    memory.ids.put(odd, None)
    assert not memory.lacks_move(odd, A, B)


def test_forgotten_ids_move_the_line_of_what_is_new() -> None:
    """Only time-ordered ones that the tables hold."""
    memory = Memory(id_cache_max=2)
    entry = Invited(1, b"", b"", "", 1, 1)
    early, late, odd, absent = uid(), uid(), odd_id(), uid(10**17)
    for id in (late, early, odd):
        memory.ids.put(id, (3, entry))
    memory.ids.put(absent, None)
    memory.trim(3)
    memory.ids.put(uid(), (4, entry))
    memory.trim(3)
    assert memory.id_seen == late
    assert absent not in memory.ids and odd not in memory.ids


def test_many_ids_are_looked_at_together() -> None:
    """Whether their time says enough; whether they are new, each there once, and not too far ahead."""
    memory = Memory()
    first, second, odd = uid(), uid(), odd_id()
    assert memory.are_ids_told_by_time([first, second])
    assert not memory.are_ids_told_by_time([first, odd])
    memory.id_seen = first
    assert memory.are_ids_told_by_time([second]) and not memory.are_ids_told_by_time([second, first])
    assert memory.are_ids_new([first, second]) and not memory.are_ids_new([first, second, first])
    memory.id_ahead = second
    assert memory.are_ids_new([first]) and not memory.are_ids_new([first, second])
    for generation in (memory.ids.newer, memory.ids.older):
        generation[first] = None
        assert not memory.are_ids_new([first])
        generation.clear()


def test_many_accounts_are_looked_for_together() -> None:
    """In both generations; known to be absent counts as here."""
    memory = Memory()
    memory.accounts.newer[A] = None
    assert memory.has_accounts({A}) and not memory.has_accounts({A, B})
    memory.accounts.older[B] = None
    assert memory.has_accounts({A, B}) and memory.has_accounts(set())
