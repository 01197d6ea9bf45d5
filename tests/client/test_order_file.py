"""Tests of the outbox's file: what is stored is there again, nobody else can read it, and no state is skipped."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import apsw
import msgspec
import pytest

from fortress.client import order_file
from fortress.client.ids import new_id
from fortress.client.order_file import (
    NOTHING_HEARD,
    TRANSITIONS,
    OrderFile,
    OrderState,
    OutboxItem,
    Outcome,
)
from fortress.errors import KeyUnusable, LocalProtocolError, OutboxInUse, OutboxUnusable, UsageError
from fortress.protocol.orders import PaymentOrder
from fortress.protocol.reading import HeadAnswer, ReceiptAnswer

RECEIPT = ReceiptAnswer(3, b"entry", [bytes(32)], HeadAnswer("a", 1, 3, bytes(32), 5, bytes(64), bytes(32)))
SECRET_REFERENCE = "rent of the hut"


def order_of(debit: int = 100, *, id: bytes = b"", amount: int = 500, not_after_us: int = 0) -> PaymentOrder:
    return PaymentOrder(
        bank="a",
        id=id or new_id(),
        debit=debit,
        payee="b/4711",
        amount_minor=amount,
        currency="EUR",
        reference=SECRET_REFERENCE,
        not_after_us=not_after_us,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "outbox.db"


@pytest.fixture
def file(path: Path) -> Iterator[OrderFile]:
    file = OrderFile.open(path)
    yield file
    file.close()


def moved(file: OrderFile, item: OutboxItem, *states: OrderState, outcome: Outcome | None = None) -> OutboxItem:
    for state in states:
        found = file.move(item, state, outcome)
        assert found is not None
        item = found
    return item


def test_what_was_stored_is_there_again(path: Path) -> None:
    """Orders in their places, signatures, answers and receipts, after the file was closed."""
    file = OrderFile.open(path)
    first, second = file.add(order_of(), b"s" * 64), file.add(order_of(200), b"")
    outcome = Outcome(0, "", {}, 7, 8, 9, 10)
    first = moved(file, first, OrderState.sent, OrderState.done, outcome=outcome)
    file.keep_receipt(first.id, RECEIPT)
    file.close()
    file = OrderFile.open(path)
    found = file.items()
    assert [item.number for item in found] == [first.number, second.number] == [1, 2]
    assert found[1] == second and (second.state, second.tries, second.outcome) == ("queued", 0, NOTHING_HEARD)
    assert found[0].order == first.order and found[0].signature == b"s" * 64
    assert (found[0].state, found[0].tries, found[0].outcome, found[0].receipt) == ("done", 1, outcome, RECEIPT)
    assert found[0].added_us <= found[0].changed_us
    file.close()


def test_the_same_order_is_stored_once(file: OrderFile) -> None:
    """Another one under the same id is refused."""
    order = order_of()
    first = file.add(order, b"s")
    assert file.add(order, b"s") == first
    with pytest.raises(UsageError, match="another order"):
        file.add(order_of(id=order.id, amount=501), b"s")
    assert len(file.items()) == 1
    assert file.get(new_id()) is None


@pytest.mark.parametrize(("before", "after"), list(product(OrderState, OrderState)))
def test_only_the_ways_of_the_table_are_gone(file: OrderFile, before: OrderState, after: OrderState) -> None:
    """An illegal way is an error and leaves the state as it was; sending again is a try more."""
    item = file.add(order_of(), b"")
    if before is not OrderState.queued:
        item = moved(file, item, OrderState.sent, *([before] if before is not OrderState.sent else []))
    assert item.is_terminal is (before in {"done", "refused", "expired"}) is before.is_terminal
    if after in TRANSITIONS[before] or (before is after is OrderState.sent):
        found = moved(file, item, after)
        assert (found.state, found.tries) == (after, item.tries + (after is OrderState.sent))
    else:
        with pytest.raises(LocalProtocolError):
            file.move(item, after)
        assert file.get(item.id) == item


def test_what_somebody_took_out_is_not_moved(file: OrderFile) -> None:
    """Whoever sends learns it before sending."""
    item = file.add(order_of(), b"")
    assert file.remove(item.id)
    assert file.move(item, OrderState.sent) is None
    assert not file.remove(item.id)


def test_what_may_be_under_way_is_not_taken_out(file: OrderFile) -> None:
    """Only an order of which one knows what became of it."""
    item = moved(file, file.add(order_of(), b""), OrderState.sent)
    assert not file.remove(item.id)
    file.note(item, Outcome(3007, "no answer"))
    found = file.get(item.id)
    assert found is not None and (found.state, found.outcome.code) == ("sent", 3007)
    assert file.remove(moved(file, found, OrderState.refused).id)


def test_the_next_order_is_the_oldest_open_one_of_its_account(file: OrderFile) -> None:
    """An account has something to do while an order is open or a receipt is missing."""
    first, second, other = (file.add(order_of(debit), b"") for debit in (100, 100, 200))
    assert file.accounts_at_work() == [100, 200]
    assert file.next_open(100) == first and file.next_open(200) == other
    first = moved(file, first, OrderState.sent)
    assert file.next_open(100) == first
    moved(file, first, OrderState.done)
    assert file.next_open(100) == second
    moved(file, second, OrderState.sent, OrderState.refused)
    assert file.next_open(100) is None
    unproven = file.next_unproven(100)
    assert unproven is not None and unproven.id == first.id
    file.keep_receipt(first.id, None)
    assert file.next_unproven(100) is None
    assert file.accounts_at_work() == [200]


def test_orders_that_are_too_late_are_found(file: OrderFile) -> None:
    """Those that were certainly not done; what was sent is the bank's to judge."""
    late, _, sent = (file.add(order_of(not_after_us=until), b"") for until in (1_000, 1_001, 1_000))
    file.add(order_of(), b"")
    moved(file, sent, OrderState.sent)
    assert list(file.items_to_expire(1_001)) == [late]
    assert not file.items_to_expire(1_000)


def test_a_file_belongs_to_one_person_at_one_bank(file: OrderFile, path: Path) -> None:
    """An order sent in another's session would be refused for ever."""
    assert file.owner() is None
    file.belong("a", "alice")
    file.belong("a", "alice")
    assert file.owner() == ("a", "alice")
    for bank, username in (("b", "alice"), ("a", "bob")):
        with pytest.raises(OutboxUnusable, match="of alice at a"):
            file.belong(bank, username)


def test_one_process_sends_at_a_time(file: OrderFile, path: Path) -> None:
    """The other one is told which process does; adding and reading go on meanwhile."""
    other = OrderFile.open(path)
    with file.sending():
        with pytest.raises(OutboxInUse, match=str(os.getpid())), other.sending():
            pass
        item = other.add(order_of(), b"")
        assert file.get(item.id) == item
    with other.sending():
        pass
    other.close()


def test_nothing_can_be_read_without_the_key(file: OrderFile, path: Path) -> None:
    """Not the reference, not the payee, not the id; the files are nobody else's."""
    item = file.add(order_of(), b"")
    found = b"".join(each.read_bytes() for each in path.parent.iterdir())
    assert SECRET_REFERENCE.encode() not in found and item.id not in found and b"4711" not in found
    assert {each.stat().st_mode & 0o077 for each in path.parent.iterdir()} == {0}
    assert path.with_name("outbox.db.key").stat().st_mode & 0o777 == 0o600


def spoil(path: Path, how: str) -> None:
    key = path.with_name("outbox.db.key")
    if how == "missing":
        key.unlink()
    elif how == "open":
        key.chmod(0o640)
    else:
        key.write_text(how)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("missing", "is not there"),
        ("open", "others can read"),
        ("no key", "holds no key"),
        ("ab" * 31, "holds no key"),
        ("ab" * 32, "does not open"),
    ],
)
def test_a_key_that_is_not_right_is_told(file: OrderFile, path: Path, how: str, why: str) -> None:
    """No new key is made for orders that it could not open."""
    file.add(order_of(), b"")
    file.close()
    spoil(path, how)
    with pytest.raises(KeyUnusable, match=why):
        OrderFile.open(path)


def test_a_key_without_a_file_is_taken(path: Path) -> None:
    """The process died between the two, or the key was put there on purpose."""
    path.parent.mkdir()
    key = path.with_name("outbox.db.key")
    key.write_text("cd" * 32)
    key.chmod(0o600)
    path.touch()
    OrderFile.open(path).close()
    assert key.read_text() == "cd" * 32
    OrderFile.open(path).close()


def test_two_processes_make_one_key(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second takes the first one's."""
    path.parent.mkdir()
    key = path.with_name("outbox.db.key")
    sync = os.fsync

    def overtaken(descriptor: int) -> None:
        sync(descriptor)
        if not key.exists():
            key.write_text("cd" * 32)
            key.chmod(0o600)

    monkeypatch.setattr(os, "fsync", overtaken)
    OrderFile.open(path).close()
    assert key.read_text() == "cd" * 32
    assert not list(path.parent.glob("*.key.*"))


def secret(path: Path, text: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(text)
    path.chmod(mode)
    return path


def test_a_passphrase_takes_the_place_of_the_key(path: Path, tmp_path: Path) -> None:
    """No key lies beside the file then, and another passphrase does not open it."""
    good = secret(tmp_path / "good", b"it's a phrase with a quote\n")
    file = OrderFile.open(path, passphrase_file=good)
    item = file.add(order_of(), b"")
    file.close()
    assert not path.with_name("outbox.db.key").exists()
    with pytest.raises(KeyUnusable, match="does not open"):
        OrderFile.open(path, passphrase_file=secret(tmp_path / "bad", b"another phrase\n"))
    with pytest.raises(KeyUnusable, match="is not there"):
        OrderFile.open(path)
    file = OrderFile.open(path, passphrase_file=good)
    assert file.items() == [item]
    file.close()


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        (b"phrase\n", 0o604, "others can read"),
        (b"\n", 0o600, "no passphrase"),
        (b"raw:00\n", 0o600, "no passphrase"),
        (b"a\0b\n", 0o600, "no passphrase"),
        (b"\xff\n", 0o600, "not UTF-8"),
    ],
)
def test_a_passphrase_that_is_none_is_told(path: Path, tmp_path: Path, text: bytes, mode: int, why: str) -> None:
    """Before a file is made."""
    with pytest.raises(KeyUnusable, match=why):
        OrderFile.open(path, passphrase_file=secret(tmp_path / "phrase", text, mode))
    assert not path.exists()


def folder_in_the_way(path: Path) -> None:
    path.mkdir(parents=True)


def file_in_the_way(path: Path) -> None:
    path.parent.touch()


def noise_in_the_file(path: Path) -> None:
    OrderFile.open(path).close()
    path.write_bytes(os.urandom(8192))


@pytest.mark.parametrize("trouble", [folder_in_the_way, file_in_the_way, noise_in_the_file])
def test_a_file_that_cannot_be_opened_is_told(path: Path, trouble: Callable[[Path], None]) -> None:
    """As a file or a key that cannot be used, never as an error of the database."""
    trouble(path)
    with pytest.raises((OutboxUnusable, KeyUnusable), match=re.escape(str(path))):
        OrderFile.open(path)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("statement", b"\xc1"),
        ("statement", msgspec.msgpack.encode((b"fortress payment v1", "a"))),
        ("statement", msgspec.msgpack.encode((b"another", "a", bytes(16), 1, "b/123", 1, "EUR", "", 0))),
        ("state", "lost"),
        ("answer", b"\xc1"),
    ],
)
def test_an_order_that_cannot_be_read_is_told(file: OrderFile, column: str, value: object) -> None:
    """It is never taken for another one."""
    file.add(order_of(), b"")
    file._db.execute(f"UPDATE orders SET {column} = ?", (value,))
    with pytest.raises(OutboxUnusable, match="order 1"):
        file.items()


def test_a_database_that_is_kept_locked_is_told(file: OrderFile, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a bounded wait."""
    monkeypatch.setattr(order_file, "BUSY_MS_MAX", 1)
    other = OrderFile.open(path)
    file._db.execute("BEGIN IMMEDIATE")
    with pytest.raises(OutboxInUse, match="locked"):
        other.add(order_of(), b"")
    file._db.execute("ROLLBACK")
    other.close()


def test_an_error_of_the_database_is_the_outboxs(file: OrderFile) -> None:
    """Nothing of the database's own errors is seen outside."""
    file._db.execute("DROP TABLE orders")
    with pytest.raises(OutboxUnusable, match="no such table") as told:
        file.items()
    assert isinstance(told.value.__cause__, apsw.Error)


def test_each_commit_is_synced(file: OrderFile) -> None:
    """An order survives the loss of power right after it was taken."""
    assert file._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert file._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
