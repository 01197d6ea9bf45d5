"""Payments that may go to another bank, over the wire: what stays here, what is handed on, what nobody can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fortress.client.me import Me
from fortress.errors import (
    BankUnreachable,
    FortressError,
    GatewayUnreachable,
    MessageInvalid,
    NotAllowed,
    OutcomeUnknown,
    Refused,
    Status,
)
from fortress.ledger.commands import PlacePayment
from fortress.ledger.entries import ApprovalAsked
from fortress.ledger.model import Actor
from fortress.protocol.accounts import Resolve, ResolveAnswer
from fortress.protocol.fields import Done
from fortress.protocol.orders import PaymentOrder, sign_order
from fortress.protocol.payments import (
    GetPayment,
    ListPayments,
    Pay,
    PaymentAnswer,
    PaymentsAnswer,
    PaymentView,
    ResolvePayment,
)
from fortress.protocol.schnorr import order_signing_seed
from fortress.protocol.switching import BanksAnswer, BankView, ListBanks
from fortress.server.bank import new_id, now_us
from fortress.server.ports import Paid
from tests.server.banks import BANK, World, banking, seed_of

AWAY = "bank-b/1000101"
HOUR_US = 3_600_000_000
VIEW = PaymentView(bytes(16), "done", f"{BANK}/1", AWAY, 5, "EUR")


class Elsewhere:
    """What stands for the way to other banks: takes note of everything and answers as the test says.

    Attributes:
        orders: what was to be paid.
        outcome: told to each payer; raised instead when it is ``refused_at_once``.
        asked: all other questions, with who asked.
    """

    def __init__(self) -> None:
        self.orders: list[PlacePayment] = []
        self.outcome: PaymentAnswer | FortressError = PaymentAnswer(7, 8, 9, 10)
        self.refused_at_once: FortressError | None = None
        self.asked: list[Any] = []

    def pay(self, command: PlacePayment, answered: Paid) -> None:
        if self.refused_at_once is not None:
            raise self.refused_at_once
        self.orders.append(command)
        answered(self.outcome)

    async def resolve(self, bank: str, payee: str, currency: str) -> ResolveAnswer:
        self.asked.append((bank, payee, currency))
        return ResolveAnswer(4711, "Ines", currency)

    async def banks(self) -> BanksAnswer:
        return BanksAnswer([BankView("bank-b", "active", True)])

    async def payment(self, actor: Actor, request: GetPayment) -> PaymentView:
        self.asked.append((actor.customer, request))
        return VIEW

    async def payments(self, actor: Actor, request: ListPayments) -> PaymentsAnswer:
        self.asked.append((actor.customer, request))
        return PaymentsAnswer([VIEW])

    async def resolve_payment(self, actor: Actor, request: ResolvePayment) -> Done:
        self.asked.append((actor.customer, request))
        return Done(position=3)


class Town:
    """Alice and Bob at a bank that reaches others through a stand-in."""

    def __init__(self, world: World) -> None:
        self.world, self.elsewhere = world, Elsewhere()
        world.node.ports.payments = self.elsewhere

    async def settle(self) -> Town:
        self.alice: Me = await self.world.sign_in("alice")
        self.a, self.b = await self.world.account_of("alice"), await self.world.account_of("bob")
        return self

    def pay(self, payee: str = AWAY, amount: int = 500, **more: Any) -> Any:
        fields = {"debit": self.a, **more}
        return self.alice.ask("pay", Pay(fields.pop("id", None) or new_id(), payee, amount, "EUR", **fields))

    async def balance(self) -> int:
        return (await self.alice.balance()).balance.minor


async def refused(status: Status, work: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        await work
    assert caught.value.status is status
    return caught.value


# --- Within the bank -------------------------------------------------------------------------------------------------
async def test_a_payee_of_this_bank_is_paid_without_leaving_it(tmp_path: Path) -> None:
    """It is an ordinary transfer, done once, with or without a gateway; nothing is handed on."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        payee, id = f"{BANK}/{t.b}", new_id()
        first = await t.pay(payee, id=id)
        assert (first.balance_minor, first.gateway_sequence, first.replayed) == (9_500, 0, False)
        world.node.ports.payments = None
        again = await t.pay(payee, id=id)
        assert (again.position, again.replayed) == (first.position, True)
        await refused(Status.id_reused, t.pay(payee, 501, id=id))
        await refused(Status.exceeds_available, t.pay(payee, 1_000_000))
        assert t.elsewhere.orders == []
        assert await t.balance() == 9_500


async def test_the_default_account_pays_when_none_is_named(tmp_path: Path) -> None:
    """Here and elsewhere alike; whoever has none is told."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        assert (await t.pay(f"{BANK}/{t.b}", debit=0)).balance_minor == 9_500
        await t.pay(debit=0)
        assert t.elsewhere.orders[0].debit == t.a
        tess = await world.sign_in("tess")
        await refused(Status.account_unknown, tess.ask("pay", Pay(new_id(), AWAY, 5, "EUR")))


async def test_an_order_within_the_bank_can_come_too_late(tmp_path: Path) -> None:
    """What was done in time is answered again after that; what was not leaves no trace."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        payee, id = f"{BANK}/{t.b}", new_id()
        await refused(Status.order_expired, t.pay(payee, id=id, not_after_us=now_us() - 1))
        done = await t.pay(payee, id=id, not_after_us=now_us() + HOUR_US)
        again = await t.pay(payee, id=id, not_after_us=now_us() - 1)
        assert (again.position, again.replayed) == (done.position, True)


# --- To another bank -------------------------------------------------------------------------------------------------
async def test_a_payee_of_another_bank_is_handed_on(tmp_path: Path) -> None:
    """With whom it is taken from, to whom it goes and until when; the outcome is the answer."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        id, until_us = new_id(), now_us() + HOUR_US
        answer = await t.pay(id=id, reference="Lunch", not_after_us=until_us)
        assert answer == PaymentAnswer(7, 8, 9, 10)
        (order,) = t.elsewhere.orders
        assert (order.id, order.debit, order.amount, order.currency) == (id, t.a, 500, "EUR")
        assert (order.counterparty, order.reference, order.not_after_us) == (AWAY, "Lunch", until_us)
        assert order.credit == world.bank.state.settlements.get("EUR", 0)
        assert order.actor.customer == (await world.bank.customer_named("alice")).customer


@pytest.mark.parametrize("kind", [BankUnreachable, OutcomeUnknown])
async def test_what_goes_wrong_elsewhere_is_told(tmp_path: Path, kind: type[FortressError]) -> None:
    """Whether it was known at once or later, and whether a task waited for it."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        t.elsewhere.outcome = kind()
        for debit in (t.a, 0):
            with pytest.raises(kind):
                await _once(t, debit)
        t.elsewhere.refused_at_once = kind()
        for debit in (t.a, 0):
            with pytest.raises(kind):
                await _once(t, debit)


async def _once(t: Town, debit: int) -> None:
    """Ask for no longer than one try takes: the client would repeat what may be repeated."""
    await t.alice._calls.call("pay", Pay(new_id(), AWAY, 5, "EUR", debit), deadline_s=0.2)


async def test_a_bank_without_a_gateway_pays_only_within_itself(tmp_path: Path) -> None:
    """It says so, of names as of money."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        world.node.ports.payments = None
        for operation, fields in (
            ("banks", ListBanks()),
            ("payment", GetPayment(new_id())),
            ("payments", ListPayments()),
        ):
            with pytest.raises(GatewayUnreachable):
                await t.alice.ask(operation, fields)
        ada = await world.sign_in("ada")
        with pytest.raises(GatewayUnreachable):
            await ada.ask("resolve_payment", ResolvePayment(new_id(), new_id(), "abort"))
        await refused(Status.credit_account_unknown, t.alice.ask("resolve", Resolve("bank-b/ines", "EUR")))


async def test_only_the_payer_can_sign_an_order(tmp_path: Path) -> None:
    """The signature is over exactly this order, for this bank; without a right one nothing is handed on."""

    def signed(t: Town, id: bytes, signer: str = "alice", **other: Any) -> bytes:
        fields = {"bank": BANK, "debit": t.a, "payee": AWAY, "amount_minor": 500, "currency": "EUR", **other}
        return sign_order(PaymentOrder(id=id, **fields), order_signing_seed(seed_of(signer)))

    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        id = new_id()
        wrong = (signed(t, id, "bob"), signed(t, new_id()), signed(t, id, payee="bank-c/1000101"), b"x")
        for signature in (*wrong, signed(t, id, bank="bank-b"), signed(t, id, amount_minor=501)):
            await refused(Status.order_signature_invalid, t.pay(id=id, order_signature=signature))
        assert t.elsewhere.orders == []
        right = signed(t, id)
        await t.pay(id=id, order_signature=right)
        assert t.elsewhere.orders[0].order_signature == right


@pytest.mark.parametrize(
    "payee",
    [
        "bank-b/ines",
        "bank-b/",
        "1000101",
        "/1000101",
        "bank-b/0101",
        "bank-b/-1",
        "Bank/1000101",
        "a/1/2",
        "a/" + "9" * 20,
    ],
)
async def test_only_account_numbers_can_be_paid(tmp_path: Path, payee: str) -> None:
    """A name belongs to a person and must not get into a journal; anything else is no payee."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        with pytest.raises(MessageInvalid):
            await t.pay(payee)
        assert t.elsewhere.orders == []


@pytest.mark.parametrize("amount", [0, -500, 2**63])
async def test_only_amounts_that_are_some_can_be_paid(tmp_path: Path, amount: int) -> None:
    """Nothing, less than nothing and more than the ledger can keep are refused before anybody looks at them."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        with pytest.raises(MessageInvalid):
            await t.pay(amount=amount)
        assert t.elsewhere.orders == []


# --- Questions -------------------------------------------------------------------------------------------------------
async def test_names_at_other_banks_are_asked_there(tmp_path: Path) -> None:
    """The bank is named before the slash; a name of this bank is answered here."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        assert (await t.alice.ask("resolve", Resolve("bank-b/ines", "EUR"))).name == "Ines"
        assert (await t.alice.ask("resolve", Resolve("bob", "EUR"))).name == "Bob"
        assert t.elsewhere.asked == [("bank-b", "ines", "EUR")]


async def test_where_payments_stand_is_asked_of_the_same_side(tmp_path: Path) -> None:
    """With who asks; and the banks that can be paid."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        alice = (await world.bank.customer_named("alice")).customer
        one, many = GetPayment(new_id(), everywhere=True), ListPayments(limit=7)
        assert await t.alice.ask("payment", one) == VIEW
        assert (await t.alice.ask("payments", many)).payments == [VIEW]
        assert t.elsewhere.asked == [(alice, one), (alice, many)]
        assert [row.bank for row in (await t.alice.ask("banks", ListBanks())).banks] == ["bank-b"]


async def test_ending_a_payment_by_hand_needs_two(tmp_path: Path) -> None:
    """Alone an administrator does it; of two, one asks and the other approves; customers cannot ask."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        payment = new_id()
        with pytest.raises(NotAllowed):
            await t.alice.ask("resolve_payment", ResolvePayment(new_id(), payment, "abort"))
        ada = await world.sign_in("ada")
        assert (await ada.ask("resolve_payment", ResolvePayment(new_id(), payment, "abort"))).position == 3
        assert [request.payment for _, request in t.elsewhere.asked] == [payment]
        await ada.administration.set_roles("bob", ["administrator"])
        asked = await ada.ask("resolve_payment", ResolvePayment(id := new_id(), payment, "commit"))
        assert asked.approval == id and len(t.elsewhere.asked) == 1
        known = await world.bank.known(id)
        assert known is not None and isinstance(known[1], ApprovalAsked)
        bob = await world.sign_in("bob")
        await bob.administration.approve(id)
        assert [(request.payment, request.act) for _, request in t.elsewhere.asked[1:]] == [(payment, "commit")]
