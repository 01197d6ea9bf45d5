"""Tests of reading: balances, history in pages, receipts checked on arrival."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fortress.client.me import Me
from fortress.client.money import Money
from fortress.client.reading import Filter, to_us
from fortress.errors import IntegrityFailed, Refused, UnknownOperation
from fortress.ledger import merkle
from fortress.protocol import messages
from fortress.protocol.reading import History
from tests.client.fake_bank import Books, FakeNode, FakeSession


async def test_a_balance_has_its_parts(alice: Me) -> None:
    """In the account's own currency; 0 is the default account."""
    balance = await alice.balance()
    assert balance.available == balance.balance == Money(100_000, "EUR")
    assert balance.held == balance.incoming == Money(0, "EUR")
    assert balance.number == 100
    assert (await alice.balance(101)).number == 101


async def test_reads_are_no_older_than_what_one_wrote(alice: Me, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every read names the highest position that the bank has confirmed; a past time names none."""
    asked = []
    real = FakeSession.handle_get_account

    def spy(self: FakeSession, fields: Any) -> object:
        asked.append((fields.min_position, fields.as_of_us))
        return real(self, fields)

    monkeypatch.setattr(FakeSession, "handle_get_account", spy)
    payment = await alice.transfer(100, 101, "1 EUR")
    await alice.balance()
    await alice.balance(as_of=datetime(2030, 1, 1, tzinfo=UTC))
    assert asked == [(payment.position, 0), (0, 1_893_456_000_000_000)]


async def test_history_goes_through_all_pages(alice: Me, node: FakeNode) -> None:
    """Newest first, each entry once, fetched page by page."""
    for _ in range(7):
        await alice.transfer(100, 101, "1 EUR")
    rows = [row async for row in alice.history(page_size=3)]
    assert [row.position for row in rows] == [8, 7, 6, 5, 4, 3, 2]
    assert node.asked.count("history") == 3
    page = await alice.history_page(limit=2)
    assert [row.position for row in page.rows] == [8, 7]
    assert [row.position for row in (await alice.history_page(cursor=page.cursor)).rows] == [6, 5, 4, 3, 2]


async def test_a_filter_reaches_the_bank(alice: Me, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its fields."""
    asked: list[History] = []
    monkeypatch.setattr(FakeSession, "handle_history", lambda self, fields: asked.append(fields) or empty)
    since, until = datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 2, tzinfo=UTC)
    empty = messages.HistoryAnswer([], 0, 0)
    sums = {"least_minor": 5, "most_minor": 9}
    only = Filter(kinds=("deposit",), since=since, until=until, counterparty=101, text="x", as_of=until, **sums)
    assert (await alice.history_page(100, only=only)).rows == []
    day = 86_400_000_000
    start = 1_893_456_000_000_000
    expected = History(100, 0, 50, ["deposit"], start, start + day, 5, 9, 101, "x", start + day, 0)
    assert asked == [expected]


async def test_accounts_are_listed(alice: Me) -> None:
    """All of one's own."""
    assert [view.number for view in await alice.accounts()] == [100]


async def test_a_receipt_is_checked_on_arrival(alice: Me, books: Books) -> None:
    """A good one comes through, a changed one never."""
    payment = await alice.transfer(100, 101, "1 EUR")
    await alice.transfer(100, 101, "2 EUR")
    receipt = await alice.receipt(payment.id)
    assert receipt.position == payment.position
    books.entries[payment.position - 1] = b"\x91\x01"
    with pytest.raises(IntegrityFailed):
        await alice.receipt(payment.id)
    with pytest.raises(Refused):
        await alice.receipt(bytes(16))


async def test_a_receipt_may_be_asked_for_by_position(alice: Me, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is for that entry and no other."""
    first, second = [await alice.transfer(100, 101, "1 EUR") for _ in range(2)]
    assert (await alice.receipt(first.id, position=second.position)).position == second.position
    other = await alice.receipt(first.id)

    async def always(*_: object) -> object:
        return other

    monkeypatch.setattr(alice._calls, "call", always)
    with pytest.raises(IntegrityFailed, match=f"not for {second.position}"):
        await alice.receipt(second.id, position=second.position)


async def test_a_journal_that_goes_on_is_proven(alice: Me) -> None:
    """The head seen first is remembered; the next is proven to continue it."""
    first = await alice.head()
    await alice.transfer(100, 101, "1 EUR")
    second = await alice.consistency()
    assert second.tree_size == first.tree_size + 1
    assert (await alice.consistency(first)).tree_size == second.tree_size


async def test_rewritten_history_is_noticed(alice: Me, books: Books) -> None:
    """A bank whose past has changed cannot prove that it has not."""
    await alice.transfer(100, 101, "1 EUR")
    await alice.head()
    books.tree = merkle.Tree()
    books.tree.append([merkle.leaf_hash(entry) for entry in (b"opened", b"forged", b"more")])
    with pytest.raises(IntegrityFailed):
        await alice.consistency()


async def test_what_a_bank_does_not_know_is_told(alice: Me) -> None:
    """A newer client at an older bank."""
    now = datetime.now(UTC)
    with pytest.raises(UnknownOperation):
        await alice.statement(now - timedelta(days=1), now)
    with pytest.raises(UnknownOperation):
        await alice.transfer_by_id(bytes(16))


def test_times_are_whole_microseconds() -> None:
    """None is no time; no float comes near one."""
    assert to_us(None) == 0
    assert to_us(datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC)) == 1_000_005
