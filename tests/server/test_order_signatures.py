"""Signed orders at a real bank: from an account that insists on them nobody but its owner can have anything paid.

The payer's own client signs; what others could try with the order, the signature, their own key or the bank's own
rights is refused, moves nothing, and leaves the money free.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from fortress.client.me import Me
from fortress.client.money import Money
from fortress.client.receipts import entry_fields
from fortress.errors import Refused, Status
from fortress.ledger.commands import MoveMoney, PlacePayment
from fortress.ledger.model import SWITCH_ACTOR, Actor, TransferKind
from fortress.protocol.money import Hold, Transfer, TransferRow
from fortress.protocol.orders import Order, PaymentOrder, sign_order, verify_order
from fortress.protocol.payments import Pay
from fortress.protocol.schnorr import order_signing_seed
from fortress.server.bank import new_id, now_us
from tests.server.banks import BANK, World, banking, seed_of

HOUR_US = 3_600_000_000


class Town:
    """Alice's account takes signed orders only; Tess is a teller there."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def settle(self) -> Town:
        self.alice: Me = await self.world.sign_in("alice")
        self.tess = await self.world.sign_in("tess")
        self.a, self.b = await self.world.account_of("alice"), await self.world.account_of("bob")
        ada = await self.world.sign_in("ada")
        await ada.administration.set_limits(self.a, signed_orders_only=True)
        return self

    def order(self, **changes: Any) -> PaymentOrder:
        fields = {"bank": BANK, "id": new_id(), "debit": self.a, "payee": f"{BANK}/{self.b}", "amount_minor": 500}
        return PaymentOrder(**{**fields, "currency": "EUR", "reference": "Rent", "not_after_us": 0, **changes})

    async def balances(self) -> tuple[int, int]:
        view = await self.alice.account(self.a)
        return view.available_minor, view.held_minor


def asked(order: PaymentOrder, signature: bytes) -> Pay:
    values = (order.id, order.payee, order.amount_minor, order.currency, order.debit, order.reference)
    return Pay(*values, order.not_after_us, signature)


def signed(order: Order | PaymentOrder, signer: str = "alice") -> bytes:
    return sign_order(order, order_signing_seed(seed_of(signer)))


async def refused(status: Status, work: Any) -> None:
    with pytest.raises(Refused) as caught:
        await work
    assert caught.value.status is status


FORGED: dict[str, dict[str, Any]] = {
    "another amount": {"amount_minor": 501},
    "another payee": {"payee": f"{BANK}/1000101"},
    "another bank's payee": {"payee": "bank-b/1000101"},
    "another id": {"id": bytes(6) + b"\x70" + bytes(9)},
    "another reference": {"reference": "Gift"},
    "a later end": {"not_after_us": 2**62},
    "another account": {"debit": 1_000_101},
    "another bank": {"bank": "bank-b"},
}


@pytest.mark.parametrize("change", FORGED)
async def test_a_signature_is_good_for_its_own_order_alone(tmp_path: Path, change: str) -> None:
    """Taken from one order and put under another, it is refused and nothing moves."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        order = t.order()
        other = t.order(**{"id": order.id, **FORGED[change]})
        await refused(Status.order_signature_invalid, t.alice.ask("pay", asked(order, signed(other))))
        assert await t.balances() == (10_000, 0)


async def test_a_signature_is_not_used_twice(tmp_path: Path) -> None:
    """Under its own id it gives the first answer again; under a new one it is wrong."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        order = t.order()
        signature = signed(order)
        first = await t.alice.ask("pay", asked(order, signature))
        again = await t.alice.ask("pay", asked(order, signature))
        assert (again.replayed, again.position) == (True, first.position)
        new = t.order(id=new_id())
        await refused(Status.order_signature_invalid, t.alice.ask("pay", asked(new, signature)))
        assert await t.balances() == (9_500, 0)


async def test_no_other_key_signs_for_the_owner(tmp_path: Path) -> None:
    """Not another customer's, not one made up, and not that of a teller who may otherwise move customers' money."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        for payee in (f"{BANK}/{t.b}", "bank-b/1000101"):
            order = t.order(payee=payee)
            for signature in (signed(order, "bob"), signed(order, "mallory"), b"x", bytes(64)):
                await refused(Status.order_signature_invalid, t.alice.ask("pay", asked(order, signature)))
            await refused(Status.order_signature_invalid, t.tess.ask("pay", asked(order, signed(order, "tess"))))
            await refused(Status.order_signature_invalid, t.tess.pay(payee, "1 EUR", from_=t.a))
        assert await t.balances() == (10_000, 0)


async def test_without_a_signature_nobody_pays_from_it(tmp_path: Path) -> None:
    """Neither the owner nor a teller, by payment, transfer, batch or hold."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        for me in (t.alice, t.tess):
            order = t.order()
            await refused(Status.order_signature_required, me.ask("pay", asked(order, b"")))
            unsigned = Transfer(new_id(), t.a, t.b, 500, "EUR")
            await refused(Status.order_signature_required, me.ask("transfer", unsigned))
            batch = await me.transfers([TransferRow(new_id(), t.a, t.b, 500)], "EUR")
            assert batch.statuses == (Status.order_signature_required,)
            hold = Hold(new_id(), t.a, t.b, 500, "EUR", now_us() + HOUR_US)
            await refused(Status.order_signature_required, me.ask("hold", hold))
        assert await t.balances() == (10_000, 0)


async def test_the_ledger_itself_takes_no_debit_without_one(tmp_path: Path) -> None:
    """A bank's own command past all handlers: the rules refuse it, and nothing is reserved."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        settlement = world.bank.state.settlements["EUR"]
        for username, role in (("tess", "teller"), ("alice", "customer")):
            who = Actor((await world.bank.customer_named(username)).customer, frozenset({role}))
            place = PlacePayment(who, new_id(), t.a, settlement, 500, "EUR", "bank-b/1000101")
            move = MoveMoney(who, int(TransferKind.transfer), new_id(), t.a, t.b, 500, "EUR")
            for command in (place, move):
                assert (await world.bank.commit(command)).status is Status.order_signature_required
        assert await t.balances() == (10_000, 0)


async def test_a_gateway_takes_from_no_customer_at_all(tmp_path: Path) -> None:
    """With a signature or without, whatever the account takes: its legs debit the settlement account alone."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        settlement = world.bank.state.settlements["EUR"]
        for debit, signature in product((t.a, t.b), (b"", b"s" * 64)):
            place = PlacePayment(SWITCH_ACTOR, new_id(), debit, settlement, 500, "EUR", "bank-b/1", "", signature)
            assert (await world.bank.commit(place)).status is Status.debit_account_unknown
            move = MoveMoney(
                SWITCH_ACTOR, int(TransferKind.transfer), new_id(), debit, settlement, 500, "EUR", "", "", signature
            )
            assert (await world.bank.commit(move)).status is not Status.ok
        assert await t.balances() == (10_000, 0)


async def test_what_was_signed_stands_in_the_journal(tmp_path: Path) -> None:
    """The receipt holds it: anybody with the payer's public key can tell that they ordered this debit."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        order = t.order()
        signature = signed(order)
        await t.alice.ask("pay", asked(order, signature))
        transfer = await t.alice.transfer(t.a, t.b, Money(700, "EUR"))
        kept = [field for field in entry_fields(await t.alice.receipt(order.id)) if field == signature]
        assert kept == [signature]
        own = Order(bank=BANK, id=transfer.id, debit=t.a, credit=t.b, amount_minor=700, currency="EUR")
        assert signed(own) in entry_fields(await t.alice.receipt(transfer.id))
        key = (await world.bank.customer_named("alice")).signing
        assert verify_order(order, signature=signature, signing_key=key)
        assert verify_order(own, signature=signed(own), signing_key=key)


async def test_a_tellers_own_signature_does_where_none_is_needed(tmp_path: Path) -> None:
    """From an account that takes any order, whoever orders signs, and a wrong signature is still refused."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        assert (await t.tess.transfer(t.b, t.a, "1 EUR")).status == "done"
        order = t.order(debit=t.b, payee=f"{BANK}/{t.a}")
        await refused(Status.order_signature_invalid, t.tess.ask("pay", asked(order, signed(order, "bob"))))


async def test_a_changed_password_signs_from_then_on(tmp_path: Path) -> None:
    """The old key's signatures are wrong, the session that changed it goes on signing."""
    async with banking(tmp_path) as world:
        t = await Town(world).settle()
        ada = await world.sign_in("ada")
        await ada.administration.create_user("carl", "seven quiet rivers")
        carl = await (await world.connect()).login("carl", "seven quiet rivers")
        mine = (await t.tess.open_account("EUR", username="carl")).number
        await t.tess.deposit(mine, "5 EUR")
        old = carl._calls.signing_seed
        await ada.administration.set_limits(mine, signed_orders_only=True)
        await carl.pay("bob", "1 EUR")
        await carl.change_password("seven quiet rivers", "nine loud mountains")
        await carl.pay("bob", "1 EUR")
        order = t.order(debit=mine)
        await refused(Status.order_signature_invalid, carl.ask("pay", asked(order, sign_order(order, old))))
