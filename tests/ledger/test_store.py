"""The tables: whole records or nothing, read back as they were, and refused when they are not right."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fortress.errors import BooksBroken, DiskFull, StoreCorrupt
from fortress.ledger.commands import (
    AskApproval,
    ChangeCustomer,
    DecideApproval,
    EndSession,
    Invite,
    OpenLedger,
    PostHold,
    ReverseMoney,
)
from fortress.ledger.memory import ID_NONE, Wanted
from fortress.ledger.merkle import EMPTY_ROOT, Tree, leaf_hash
from fortress.ledger.model import BANK_ACTOR, account_number
from fortress.ledger.schema import SCHEMA_VERSION
from fortress.ledger.state import State
from fortress.ledger.store import ID_SEARCH_ROWS_MAX, Store
from tests.ledger.books_fixture import ADMINISTRATOR, ALICE, TELLER, odd_id, uid
from tests.ledger.ledger_fixture import STORE_KEY, Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path)
    made.found()
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "alone.db", STORE_KEY, cache_mb=1)
    yield made
    made.close()


def wanted(**keys: Any) -> Wanted:
    made = Wanted((0,) * len(Wanted.KINDS))
    for name, value in keys.items():
        getattr(made, name).update(value)
    return made


# --- Files -----------------------------------------------------------------------------------------------------------
def test_new_tables_hold_nothing(store: Store) -> None:
    """Neither records nor a state."""
    assert (store.applied_lsn, store.applied_hash, store.applied_position) == (0, bytes(32), 0)
    state = State()
    store.load_state(state)
    assert (state.position, state.next_customer, state.next_account, state.currencies) == (0, 1, 10_001, {})
    assert Tree.restore(0, store.tile).root() == EMPTY_ROOT
    assert store.newest_time_ordered_id(b"\xff" * 16) == ID_NONE


def test_another_key_does_not_open_the_tables(store: Store) -> None:
    """And nothing is changed by trying."""
    with pytest.raises(StoreCorrupt, match="does not open"):
        Store(store.path, b"o" * 32)
    assert store.read("SELECT value FROM meta WHERE key = 'schema'") == [(SCHEMA_VERSION,)]


def test_tables_of_another_version_are_refused(store: Store) -> None:
    """They are rebuilt from the journal, not guessed at."""
    store._writer.execute("UPDATE meta SET value = 99 WHERE key = 'schema'")
    with pytest.raises(StoreCorrupt, match="version 99"):
        Store(store.path, STORE_KEY)


def test_readers_cannot_write_and_each_thread_has_its_own(store: Store) -> None:
    """So that a reader never waits for another."""
    found: list[Any] = [store.reader(), store.reader()]
    thread = threading.Thread(target=lambda: found.append(store.reader()))
    thread.start()
    thread.join()
    assert found[0] is found[1] is not found[2]
    with pytest.raises(StoreCorrupt):
        store.read("DELETE FROM meta")


# --- Writing ---------------------------------------------------------------------------------------------------------
def test_records_are_applied_whole_and_in_one_go(ledger: Ledger) -> None:
    """Several at once give the same tables as one by one."""
    a, b = ledger.account(100), ledger.account()
    for amount in (1, 2, 3):
        ledger.pay(a, b, amount)
        ledger.commit(apply=False)
    assert ledger.engine.store.applied_lsn == 0
    ledger.apply()
    store = ledger.engine.store
    last = ledger.engine.last
    assert last is not None
    assert (store.applied_lsn, store.applied_hash) == (last.lsn, last.hash)
    assert store.applied_position == ledger.state.position
    assert store.read("SELECT sum(count) FROM records") == [(ledger.state.position,)]


def test_a_full_disk_applies_nothing_and_can_be_tried_again(ledger: Ledger) -> None:
    """The same deltas, once there is space."""
    ledger.commit()
    a = ledger.account(100)
    store = ledger.engine.store
    before = ledger.tables()
    pages = store._writer.execute("PRAGMA page_count").fetchall()[0][0]
    store._writer.execute(f"PRAGMA max_page_count = {pages}")
    for _ in range(400):
        ledger.deposit(a, 1)
    ledger.commit(apply=False)
    with pytest.raises(DiskFull):
        store.apply(ledger.unapplied)
    assert ledger.tables() == before and store.applied_lsn == 1
    store._writer.execute("PRAGMA max_page_count = 1000000")
    ledger.apply()
    assert store.applied_position == ledger.state.position


def test_records_out_of_order_are_not_applied(ledger: Ledger) -> None:
    """Positions and bytes follow from the first record's."""
    a = ledger.account(100)
    ledger.commit()
    for _ in range(3):
        ledger.deposit(a, 1)
        ledger.commit(apply=False)
    before = ledger.tables()
    with pytest.raises(BooksBroken, match="does not follow"):
        ledger.engine.store.apply([ledger.unapplied[0], ledger.unapplied[2]])
    assert ledger.tables() == before
    ledger.apply()


def test_an_id_of_another_length_stops_the_node(ledger: Ledger) -> None:
    """All ids of a batch travel as one blob, cut by their length."""
    ledger.commit()
    ledger.deposit(ledger.account(), 5)
    ledger.engine.delta.ids.append(b"short")
    with pytest.raises(BooksBroken, match="16 bytes"):
        ledger.commit()


def test_an_id_is_written_once(ledger: Ledger) -> None:
    """A second entry under it is refused by the tables themselves."""
    ledger.commit()
    a = ledger.account(5)
    id = ledger.engine.delta.ids[-1]
    ledger.commit()
    ledger.deposit(a, 5)
    ledger.engine.delta.ids[-1] = id
    with pytest.raises(StoreCorrupt, match="UNIQUE"):
        ledger.commit()


# --- Reading for the working state -----------------------------------------------------------------------------------
def test_what_was_written_is_read_back(ledger: Ledger) -> None:
    """Accounts, ids, holds with their accounts, reversals, customers by number and by handle."""
    a, b = ledger.account(1_000), ledger.account()
    paid = ledger.pay(a, b, 100)
    held = ledger.hold(a, b, 40)
    ledger.do(ReverseMoney(TELLER, ledger.uid(), paid.entry.id, 30))
    ledger.commit()
    state, load = ledger.state, ledger.engine.store.load
    loaded = load(wanted(accounts=[a, b, account_number(7)]))
    assert {n: repr(x) for n, x in loaded.accounts.items()} == {n: repr(state.account(n)) for n in (a, b)}
    assert load(wanted(ids=[paid.entry.id, odd_id()])).ids == {paid.entry.id: (paid.position, paid.entry)}
    loaded = load(wanted(holds=[held.entry.id, odd_id()]))
    assert repr(loaded.holds[held.entry.id]) == repr(state.hold(held.entry.id))
    assert set(loaded.accounts) == {a, b} and len(loaded.holds) == 1
    assert load(wanted(reversals=[paid.entry.id, odd_id()])).reversals == {paid.entry.id: (30, state.position)}
    alice = state.customer(1)
    for keys in ({"customers": [1, 5]}, {"handles": [alice.handle, b"x"]}, {"customers": [1], "handles": [b"x"]}):
        assert {n: repr(x) for n, x in load(wanted(**keys)).customers.items()} == {1: repr(alice)}
    assert not load(wanted(holds=[odd_id()])).accounts


def test_odd_text_survives(ledger: Ledger) -> None:
    """What a reference may hold comes back from the tables as it was."""
    a, b = ledger.account(1_000), ledger.account()
    held = ledger.hold(a, b, 40)
    hold = ledger.state.hold(held.entry.id)
    for text in ('"\\/é\u2028🏦', "\u0000x", " " * 140):
        hold.reference = text
        ledger.engine.delta.holds[hold.id] = hold
        ledger.deposit(a, 1)
        ledger.commit()
        assert ledger.engine.store.load(wanted(holds=[hold.id])).holds[hold.id].reference == text


def test_the_state_that_is_always_in_memory_is_loaded(ledger: Ledger) -> None:
    """Who administers, what waits, what can be used, which numbers are next."""
    for name, roles in ((b"root", ("administrator", "teller")), (b"late", ("administrator",)), (b"out", ("auditor",))):
        ledger.customer(name, *roles)
    ledger.do(ChangeCustomer(BANK_ACTOR, ledger.uid(), 3, "lock"))
    asked = [AskApproval(ADMINISTRATOR, ledger.uid(), "erase", b"c", "s") for _ in range(2)]
    for command in asked:
        ledger.do(command)
    ledger.do(DecideApproval(BANK_ACTOR, asked[0].id, True))
    ledger.do(Invite(BANK_ACTOR, ledger.uid(), b"d" * 32, "teller", ledger.now_us + 10**9))
    ledger.do(EndSession(ALICE, 1, b"s" * 16, 77))
    ledger.account()
    ledger.commit()
    state = State()
    ledger.engine.store.load_state(state)
    live = ledger.state
    assert state.administrators == live.administrators == {2}
    assert set(state.approvals) == set(live.approvals) == {asked[1].id}
    assert repr(state.invitations) == repr(live.invitations) and len(state.invitations) == 1
    assert (state.next_account, state.next_customer) == (live.next_account, live.next_customer)
    assert state.currencies == live.currencies and state.position == live.position
    assert ledger.engine.store.read("SELECT * FROM sessions_ended") == [(b"s" * 16, 1, 77)]


def test_a_currency_without_a_cash_account_is_known(tmp_path: Path) -> None:
    """The first entry names it; the cash account may come later."""
    ledger = Ledger(tmp_path)
    ledger.do(OpenLedger(BANK_ACTOR, "alpha", ("EUR",)))
    ledger.commit()
    ledger.reopen()
    assert ledger.state.currencies == {"EUR": 0}
    ledger.close()


def test_entries_are_read_by_position(ledger: Ledger) -> None:
    """Those that are there."""
    ledger.commit()
    found = ledger.engine.store.entries([1, 2, 999])
    assert sorted(found) == [1, 2]


def test_the_newest_time_ordered_id_is_found(ledger: Ledger) -> None:
    """Below a bound, past ids of other kinds; past very many of them the bound itself is the answer."""
    ledger.commit()
    a, b = ledger.account(100), ledger.account()
    newest = ledger.uid()
    ledger.pay(a, b, 1, id=newest)
    ledger.commit()
    store = ledger.engine.store
    assert store.newest_time_ordered_id(uid(ledger.now_us + 10**9)) == newest
    writer = store._writer
    for number in range(ID_SEARCH_ROWS_MAX):
        odd = (int.from_bytes(newest, "big") + 1 + number).to_bytes(16, "big")[:6] + b"\x80" + number.to_bytes(9, "big")
        writer.execute("INSERT INTO ids VALUES (?, 1)", (odd,))
        if number == 5:
            assert store.newest_time_ordered_id(uid(ledger.now_us + 10**9)) == newest
    bound = uid(ledger.now_us + 10**9)
    assert store.newest_time_ordered_id(bound) == bound


@pytest.mark.parametrize("size", [1, 255, 256, 257, 600])
def test_the_tree_is_made_of_the_tables_again(ledger: Ledger, size: int) -> None:
    """Full tiles are stored, the others follow from what lies below them."""
    a = ledger.account()
    while ledger.state.position < size:
        ledger.deposit(a, 1)
    ledger.commit()
    store = ledger.engine.store
    tree = Tree.restore(store.applied_position, store.tile)
    assert (tree.root(), tree.size) == (ledger.engine.tree.root(), ledger.engine.tree.size)
    assert store.tile(0, 0)[:32] == leaf_hash(store.entries([1])[1])


def test_a_hold_is_found_again_after_a_restart(ledger: Ledger) -> None:
    """And can be posted, with its accounts read in the same go."""
    a, b = ledger.account(100), ledger.account()
    held = ledger.hold(a, b, 40)
    ledger.commit()
    ledger.reopen()
    command = PostHold(ALICE, held.entry.id)
    keys = ledger.missing(command)
    ledger.state.fill(keys, ledger.engine.store.load(keys))
    assert ledger.missing(command) is None
    assert ledger.do(command).entry.amount == 40
