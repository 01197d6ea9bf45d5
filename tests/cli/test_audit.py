"""``audit``: the books added up, the trail read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fortress.cli.folders import make_folder
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
from fortress.ledger.keyring import Keyring, read_kek
from fortress.ledger.model import BANK, BANK_ACTOR, AccountKind, HoldState, TransferKind
from tests.cli.conftest import FakeBank

Tell = Callable[..., Any]
NOW_US = 1_700_000_000_000_000


def uid(number: int) -> bytes:
    return (NOW_US // 1000).to_bytes(6, "big") + b"\x70\x00\x80" + number.to_bytes(7, "big")


@contextmanager
def ledger(folder: Path, keys: Keyring) -> Iterator[Engine]:
    engine = Engine.open(folder, bank="a", data_key=keys.data_key, store_key=keys.store_key, segment_bytes=1024 * 1024)
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


def test_books_that_add_up_are_told(bank: FakeBank, tell: Tell) -> None:
    """Exit code 0."""
    code, out, err = tell("audit", "balance")
    assert code == 0 and "5.00 EUR" in out and "every sum is zero" in err


def test_books_that_do_not_add_up_fail(bank: FakeBank, tell: Tell) -> None:
    """Exit code 7."""
    bank.imbalance = 1
    code, out, _ = tell("audit", "balance", "--json")
    assert code == 7 and out[0]["sum"]["minor"] == "1"


def test_the_trail_is_read_page_by_page(bank: FakeBank, tell: Tell) -> None:
    """As far as wanted."""
    assert [row["position"] for row in tell("audit", "trail", "--json")[1]] == [9, 5]
    assert [row["position"] for row in tell("audit", "trail", "--limit", "1", "--json")[1]] == [9]
    assert "until unlocked" in tell("audit", "trail")[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a bank that has run."""
    path = tmp_path / "bank-a"
    make_folder(path, bank="a", node="node-1", administrators=[])
    kek = read_kek(key_file=path / "keys" / "node.key", key_command="", environment={})
    with ledger(path, Keyring.open(path / "keyring", kek)) as engine:
        fill(engine)
    return path


def test_a_folder_is_verified_offline(tell: Tell, folder: Path) -> None:
    """Without a node, a context or a network."""
    code, out, _ = tell("audit", "verify", str(folder), "--json")
    assert code == 0 and out["whole"] and out["entries"] == 15
    assert "The ledger of a is whole." in tell("audit", "verify", "--config", str(folder))[1]


def test_a_damaged_journal_fails_the_check(tell: Tell, folder: Path) -> None:
    """One byte in the middle is enough; exit code 7, and nothing was mended."""
    (segment,) = (folder / "journal").glob("*.seg")
    content = bytearray(segment.read_bytes())
    content[3 * 4096 + 100] ^= 1
    segment.write_bytes(content)
    code, out, _ = tell("audit", "verify", str(folder))
    assert code == 7 and "is damaged" in out and "record 3: does not open" in out
    assert segment.read_bytes() == content


def test_a_folder_without_a_bank_is_wrong_usage(tell: Tell, tmp_path: Path) -> None:
    """There is nothing to verify."""
    assert tell("audit", "verify", str(tmp_path))[0] == 2
