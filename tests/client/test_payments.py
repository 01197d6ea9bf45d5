"""Tests of moving money: what is asked of the bank, and what the caller gets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fortress.client import payments
from fortress.client.client import Client
from fortress.client.credentials import LoginKey
from fortress.client.ids import new_id
from fortress.client.me import Me
from fortress.client.money import Money
from fortress.client.payments import moment
from fortress.errors import AmountInvalid, Refused, Status, UsageError
from fortress.protocol.money import TransferRow
from fortress.protocol.orders import PaymentOrder, sign_order
from tests.client.conftest import ALICE_SEED
from tests.client.fake_bank import Books, FakeNode


async def test_a_payment_to_a_username_moves_money(alice: Me, books: Books) -> None:
    """The payee is resolved, the money taken from the default account, the balance told."""
    payment = await alice.pay("bob", "12.50 EUR", reference="Lunch")
    assert payment.status == "done"
    assert not payment.replayed
    assert payment.balance_after == Money(98_750, "EUR")
    assert books.balances == {100: 98_750, 101: 1_250}
    assert books.rows[payment.position - 1].id == payment.id
    assert abs((payment.time - datetime.now(UTC)).total_seconds()) < 60


@pytest.mark.parametrize("payee", ["101", "a/101", "a/bob"])
async def test_a_payee_may_be_named_in_several_ways(alice: Me, books: Books, payee: str) -> None:
    """An account number, with the bank's id before it or not, and a username."""
    await alice.pay(payee, Money(100, "EUR"))
    assert books.balances[101] == 100


@pytest.mark.parametrize(("payee", "number"), [("b/4711", "4711"), ("b/ines", "4711"), ("b/123456", "123456")])
async def test_a_payee_may_be_at_another_bank(alice: Me, books: Books, node: FakeNode, payee: str, number: str) -> None:
    """A person is resolved first; what is sent as payee is the bank and an account number, signed."""
    payment = await alice.pay(payee, "12.50 EUR", reference="Lunch")
    assert payment.gateway_sequence == payment.position
    assert payment.balance_after == Money(98_750, "EUR")
    view = await alice.payment(payment.id)
    assert (view.payer, view.payee, view.state) == ("a/100", f"b/{number}", "done")
    assert [step.step for step in view.steps] == ["held"]
    assert not (await alice.payment(payment.id, everywhere=False)).steps
    assert ("resolve" in node.asked) is not payee[2:].isdigit()
    assert len(books.signatures[payment.id]) == 64
    assert (await alice.resolve(payee)).number == 4711


async def test_payments_between_banks_are_listed(alice: Me, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newest first, page by page, as many as are wanted."""
    monkeypatch.setattr(payments, "PAGE_ROWS", 2)
    ids = [(await alice.pay("b/4711", Money(amount, "EUR"))).id for amount in range(1, 6)]
    assert [view.id for view in await alice.payments(limit=4)] == ids[:0:-1]
    assert [view.id for view in await alice.payments(limit=100)] == ids[::-1]
    assert await alice.payments(in_doubt=True) == []
    assert [bank.bank for bank in await alice.banks()] == ["b"]


async def test_an_order_has_an_end(alice: Me, books: Books) -> None:
    """A bank that gets it later refuses it; a payee at the same bank makes no difference."""
    soon = datetime.now(UTC) + timedelta(minutes=1)
    done = await alice.pay("bob", "1 EUR", not_after=soon)
    assert (done.gateway_sequence, books.balances[101]) == (0, 100)
    for payee in ("bob", "b/4711"):
        with pytest.raises(Refused) as caught:
            await alice.pay(payee, "1 EUR", not_after=datetime(2020, 1, 1, tzinfo=UTC))
        assert caught.value.status is Status.order_expired


async def test_a_session_that_has_seen_the_login_signs(alice: Me, client: Client, books: Books) -> None:
    """Also after another login; one that goes on by its token has no key, and an account may insist on one."""
    books.users["alice"].signed_orders_only = True
    paid = [(await alice.pay(payee, "1 EUR")).id for payee in ("bob", "b/4711")]
    assert all(len(books.signatures[id]) == 64 for id in paid)
    token = alice.signed_in.token
    resumed = await client.resume(token)
    for payee in ("bob", "b/4711"):
        with pytest.raises(Refused) as caught:
            await resumed.pay(payee, "1 EUR")
        assert caught.value.status is Status.order_signature_required
    order = resumed.payment_order("b/4711", Money(100, "EUR"), from_=100, id=new_id())
    assert not resumed.sign(order)
    signature = sign_order(order, LoginKey(ALICE_SEED).signing_seed)
    assert (await resumed.pay_order(order, order_signature=signature)).status == "done"
    await (await client.login_with_seed("alice", ALICE_SEED)).pay("bob", "1 EUR")


async def test_an_order_for_another_bank_is_not_sent(alice: Me, node: FakeNode) -> None:
    """The signature would be over the other bank's name."""
    asked = len(node.asked)
    order = PaymentOrder(bank="b", id=new_id(), debit=100, payee="b/101", amount_minor=1, currency="EUR")
    with pytest.raises(UsageError):
        await alice.pay_order(order)
    assert len(node.asked) == asked


@pytest.mark.parametrize("payee", ["B/ines", "", "a/", "/", "b/12", "b/0123", "b b/ines", "b/c/ines"])
async def test_a_payee_who_cannot_be_is_told_before_sending(alice: Me, node: FakeNode, payee: str) -> None:
    """Nothing is sent for a payee whom no bank can have."""
    asked = len(node.asked)
    with pytest.raises(UsageError):
        await alice.pay(payee, "1 EUR")
    assert len(node.asked) == asked


@pytest.mark.parametrize("amount", ["0 EUR", "-1 EUR", "1.234 EUR", "NaN EUR", "1e3 EUR", Money(0, "EUR")])
async def test_a_sum_that_is_none_is_told_before_sending(alice: Me, node: FakeNode, amount: Money | str) -> None:
    """Nothing is sent for a sum that cannot be paid."""
    asked = len(node.asked)
    with pytest.raises(AmountInvalid):
        await alice.pay("bob", amount)
    assert len(node.asked) == asked


async def test_a_refusal_says_what_was_available(alice: Me) -> None:
    """A refusal of the bank is an error with its status and facts, and the session lives on."""
    with pytest.raises(Refused) as caught:
        await alice.pay("bob", "2000 EUR")
    assert caught.value.status is Status.exceeds_available
    assert caught.value.facts["available_minor"] == 100_000
    assert (await alice.balance()).available == Money(100_000, "EUR")


async def test_the_same_id_pays_once(alice: Me, books: Books) -> None:
    """A repeat gives the first answer; other content under the same id is refused."""
    id = new_id()
    first = await alice.pay("bob", "5 EUR", id=id)
    again = await alice.pay("bob", "5 EUR", id=id)
    assert (again.replayed, again.position) == (True, first.position)
    with pytest.raises(Refused) as caught:
        await alice.pay("bob", "6 EUR", id=id)
    assert caught.value.status is Status.id_reused
    assert books.balances[101] == 500


async def test_an_account_in_the_currency_is_looked_for(alice: Me, node: FakeNode) -> None:
    """Without an account in the currency the bank hears of the default one, and decides."""
    await alice.pay("101", Money(100, "USD"))
    assert "list_accounts" in node.asked
    await alice.pay("101", Money(100, "EUR"), from_=100)


async def test_a_batch_tells_of_each_row(alice: Me, books: Books) -> None:
    """Each row of a batch has its own status, in order."""
    rows = [TransferRow(new_id(), 100, 101, amount) for amount in (100, 500_000, 200)]
    result = await alice.transfers(rows, "EUR")
    assert result.statuses == (Status.ok, Status.exceeds_available, Status.ok)
    assert result.done == 2
    assert books.balances[101] == 300


async def test_holds_are_placed_taken_and_freed(alice: Me) -> None:
    """A hold has an end; posting takes all or a part, voiding nothing."""
    until = datetime(2031, 1, 1, tzinfo=UTC)
    held = await alice.hold(100, 101, "5 EUR", expires=until)
    assert held.time == until
    assert (await alice.hold(100, 101, "5 EUR")).time > datetime.now(UTC)
    assert (await alice.post(held.id)).balance_after == Money(0, "EUR")
    assert (await alice.post(held.id, Money(20, "EUR"))).balance_after == Money(20, "EUR")
    assert (await alice.void(held.id)).id == held.id


async def test_the_counter_takes_and_gives_cash(alice: Me) -> None:
    """Deposits, withdrawals and reversals have ids like all that moves money."""
    original = (await alice.deposit(101, "5 EUR")).id
    assert (await alice.withdraw(101, "5 EUR")).id != original
    assert (await alice.reverse(original, "EUR")).balance_after.currency == "EUR"
    assert (await alice.reverse(original, "EUR", Money(1, "EUR"))).status == "done"


def test_times_keep_their_microseconds() -> None:
    """No float comes near a time."""
    assert moment(1_700_000_000_123_457).microsecond == 123_457
