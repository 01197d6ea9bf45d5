"""The audit at rest: a whole ledger passes, and every single thing that does not fit is found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fortress.cli.verification import Books, Counters, Verified, verify_ledger
from fortress.errors import BooksBroken, IntegrityFailed
from fortress.ledger.commands import (
    Command,
    CreateCustomer,
    KeyData,
    MoveMoney,
    OpenAccount,
    OpenLedger,
    PlaceHold,
    PostHold,
    ReleaseHold,
)
from fortress.ledger.engine import Engine
from fortress.ledger.entries import AccountOpened, HoldPlaced, HoldReleased, Posted
from fortress.ledger.keyring import Keyring
from fortress.ledger.model import BANK, BANK_ACTOR, AccountKind, HoldState, TransferKind

NOW_US = 1_700_000_000_000_000
ID, OTHER_ID = bytes(16), b"\x01" * 16


def uid(number: int) -> bytes:
    return (NOW_US // 1000).to_bytes(6, "big") + b"\x70\x00\x80" + number.to_bytes(7, "big")


@contextmanager
def ledger(folder: Path, keys: Keyring) -> Iterator[Engine]:
    engine = Engine.open(
        folder, bank="a", data_key=keys.data_key, store_key=keys.store_key, segment_bytes=1024 * 1024
    )
    try:
        yield engine
    finally:
        engine.close()


def commit(engine: Engine, *commands: Command) -> list[Any]:
    """Judge commands and put them into journal and tables as one record."""
    verdicts = []
    for command in commands:
        while (wanted := engine.state.missing(command)) is not None:
            engine.state.fill(wanted, engine.store.load(wanted))
        verdicts.append(engine.judge(command, NOW_US))
        assert verdicts[-1].status == 0, command
    closed = engine.close_record(NOW_US, 0)
    assert closed is not None
    record, delta = closed
    engine.journal.append(record)
    engine.store.apply([delta])
    return verdicts


def fill(engine: Engine) -> None:
    """Make a bank with cash, a customer with two accounts, money between them, and holds of every ending."""
    commit(engine, OpenLedger(BANK_ACTOR, "a", ("EUR",)))
    key = KeyData(bytes(16), 65_536, 3, 4, bytes(60), bytes(32))
    _, made = commit(
        engine,
        OpenAccount(BANK_ACTOR, uid(1), BANK, int(AccountKind.cash), "EUR", None),
        CreateCustomer(BANK_ACTOR, uid(2), bytes(32), ("customer",), key, bytes(40)),
    )
    owner, kind = made.entry.customer, int(AccountKind.customer)
    opened = commit(engine, *(OpenAccount(BANK_ACTOR, uid(3 + n), owner, kind, "EUR") for n in range(2)))
    first, second = (verdict.entry.number for verdict in opened)
    cash = engine.state.currencies["EUR"]
    deposit = int(TransferKind.deposit)
    commit(engine, *(MoveMoney(BANK_ACTOR, deposit, uid(10 + n), cash, first, 100, "EUR") for n in range(5)))
    expires_us = NOW_US + 3_600_000_000
    commit(engine, *(PlaceHold(BANK_ACTOR, uid(20 + n), first, second, 50, "EUR", expires_us) for n in range(3)))
    commit(engine, PostHold(BANK_ACTOR, uid(20), 30), ReleaseHold(BANK_ACTOR, uid(21), int(HoldState.voided)))


@pytest.fixture
def keys() -> Keyring:
    return Keyring()


@pytest.fixture
def engine(tmp_path: Path, keys: Keyring) -> Iterator[Engine]:
    with ledger(tmp_path, keys) as opened:
        fill(opened)
        yield opened


def test_a_whole_ledger_passes(engine: Engine) -> None:
    """All is counted, and the root is that of the last record."""
    told: list[tuple[int, int]] = []
    found = verify_ledger(engine, lambda done, total: told.append((done, total)))
    assert engine.last is not None
    assert found == Verified(
        records=6,
        entries=15,
        accounts=3,
        transfers=6,
        currencies=("EUR",),
        root=engine.last.tree_root,
        chain=engine.last.hash,
    )


def test_an_empty_ledger_passes(tmp_path: Path, keys: Keyring) -> None:
    """Nothing is whole too."""
    with ledger(tmp_path, keys) as engine:
        assert verify_ledger(engine).entries == 0


def test_an_entry_changed_in_the_tables_is_found(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its position."""
    read = engine.store.entries
    monkeypatch.setattr(engine.store, "entries", lambda wanted: {**read(wanted), 6: b"\x90"})
    with pytest.raises(IntegrityFailed, match="entry 6 is another"):
        verify_ledger(engine)


@pytest.mark.parametrize(
    ("table", "change", "words"),
    [
        ("balances", "credits_posted = credits_posted + 1", "is another in the tables"),
        ("balances", "debits_pending = 1", "is another in the tables"),
        ("accounts", "currency = 'USD'", "is another in the tables"),
    ],
)
def test_an_account_changed_in_the_tables_is_found(engine: Engine, table: str, change: str, words: str) -> None:
    """Each counter is compared with what the journal adds up to."""
    engine.store.reader().execute("PRAGMA query_only = 0")
    engine.store.reader().execute(f"UPDATE {table} SET {change}")
    with pytest.raises(IntegrityFailed, match=words):
        verify_ledger(engine)


def test_a_missing_account_is_found(engine: Engine) -> None:
    """Rows are counted as well."""
    engine.store.reader().execute("PRAGMA query_only = 0")
    engine.store.reader().execute("DELETE FROM balances WHERE number = (SELECT max(number) FROM balances)")
    with pytest.raises(IntegrityFailed, match="the tables have 2 accounts, the journal 3"):
        verify_ledger(engine)


def test_a_changed_tile_is_found(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proofs that a bank gives come from the tiles."""
    read = engine.store.tile
    monkeypatch.setattr(engine.store, "tile", lambda level, index: bytes(len(read(level, index))))
    with pytest.raises(IntegrityFailed, match="the tables' tree"):
        verify_ledger(engine)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tree_root": bytes(32)}, "the tree after record 3"),
        ({"tree_size": 99}, "the tree after record 3"),
        ({"first_position": 99}, "begins at 99"),
    ],
    ids=["root", "size", "position"],
)
def test_a_record_that_does_not_fit_is_found(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], words: str
) -> None:
    """Though its own hash may be right."""
    records = list(engine.journal.records(1))
    records[2] = replace(records[2], **change)
    monkeypatch.setattr(engine.journal, "records", lambda first: iter(records))
    with pytest.raises(IntegrityFailed, match=words):
        verify_ledger(engine)


def test_a_journal_without_its_beginning_is_told(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not there cannot be checked."""
    monkeypatch.setattr(type(engine.journal), "first_lsn", 2)
    with pytest.raises(IntegrityFailed, match="begins with record 2"):
        verify_ledger(engine)


OPENED = [
    AccountOpened(NOW_US, bytes([n]) * 16, n, 0, 1, currency, 0, 0)
    for n, currency in ((1, "EUR"), (2, "EUR"), (3, "USD"))
]
MOVED = Posted(NOW_US, ID, 1, 2, 100, "EUR", 1, "", -100, 100, 0)
PLACED = HoldPlaced(NOW_US, ID, 1, 2, 100, "EUR", NOW_US + 1, "", 100, 100, 0)
TAKEN = Posted(NOW_US, ID, 1, 2, 60, "EUR", 1, "", -60, 60, 0, held=100)
FREED = HoldReleased(NOW_US, ID, 3, 1, 2, 100, 0, 0, 0)


@pytest.mark.parametrize(
    "entries",
    [[MOVED], [PLACED, TAKEN], [PLACED, FREED], [PLACED, FREED, PLACED]],
    ids=["moved", "held and taken", "held and freed", "held again"],
)
def test_entries_that_continue_each_other_pass(entries: list[Any]) -> None:
    """And their sums are zero."""
    books = Books()
    for position, entry in enumerate([*OPENED, *entries], 1):
        books.take(entry, position)
    assert books.sums() == {"EUR": (0, 0), "USD": (0, 0)}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([OPENED[0]], "opened before"),
        ([replace(MOVED, debit_balance=-99)], "balances named"),
        ([replace(MOVED, credit_balance=99)], "balances named"),
        ([replace(MOVED, credit=9)], "never opened"),
        ([replace(MOVED, credit=1)], "one account"),
        ([replace(MOVED, credit=3)], "currency or amount"),
        ([replace(MOVED, amount=0, debit_balance=0, credit_balance=0)], "currency or amount"),
        ([TAKEN], "no such open hold"),
        ([PLACED, TAKEN, replace(TAKEN, debit_balance=-120, credit_balance=120)], "no such open hold"),
        ([PLACED, replace(TAKEN, amount=101)], "no such open hold"),
        ([PLACED, replace(TAKEN, held=99)], "no such open hold"),
        ([PLACED, PLACED], "is open already"),
        ([replace(PLACED, debit_pending=1)], "on hold named"),
        ([replace(PLACED, currency="USD")], "currency or amount"),
        ([FREED], "no such hold"),
        ([PLACED, replace(FREED, id=OTHER_ID)], "no such hold"),
        ([PLACED, replace(FREED, credit_pending=1)], "on hold named"),
    ],
)
def test_an_entry_that_does_not_continue_the_ones_before_is_found(entries: list[Any], words: str) -> None:
    """Each kind of untruth, at its position."""
    books = Books()
    for position, entry in enumerate([*OPENED, *entries[:-1]], 1):
        books.take(entry, position)
    with pytest.raises(BooksBroken, match=words):
        books.take(entries[-1], 9)


def test_books_that_do_not_add_up_are_found(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A last sum over everything."""
    monkeypatch.setattr(Books, "sums", lambda self: {"EUR": (1, 0)})
    with pytest.raises(BooksBroken, match="do not add up"):
        verify_ledger(engine)


def test_a_balance_is_credits_less_debits() -> None:
    """As the customer sees it."""
    assert Counters("EUR", 30, 100, 5, 7).balance == 70
