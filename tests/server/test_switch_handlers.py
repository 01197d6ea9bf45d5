"""What a gateway's operators ask, over the wire: answered by what is plugged in, unknown at a bank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fortress.errors import MessageInvalid, NotAllowed, UnknownOperation
from fortress.ledger.model import Actor
from fortress.protocol import switching as messages
from fortress.protocol.fields import Done
from fortress.protocol.payments import GetPayment, ListPayments, PaymentsAnswer, PaymentView, ResolvePayment
from fortress.protocol.switching import PositionView, WindowRow
from fortress.server.bank import new_id
from tests.server.banks import World, banking, empty_folder

CERTS = empty_folder() / "certs"
AUTHORITY = (CERTS / "ca.crt").read_text()
QUESTIONS: dict[str, Any] = {
    "add_bank": messages.AddBank(bytes(range(16)), "bank-b", "EUR", 5_000, AUTHORITY),
    "suspend_bank": messages.SuspendBank(bytes(range(1, 17)), "bank-b"),
    "positions": messages.ListPositions(),
    "windows": messages.ListWindows(),
    "window": messages.GetWindow(3),
    "close_window": messages.CloseWindow(bytes(range(2, 18))),
}


class Switching:
    """Stands for a gateway; takes note of who asked what."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Any]] = []

    async def banks(self) -> messages.BanksAnswer:
        return messages.BanksAnswer([messages.BankView("bank-b", "active", False)])

    async def _done(self, actor: Actor, request: Any) -> Done:
        self.asked.append((actor.customer, request))
        return Done(position=5)

    add_bank = suspend_bank = close_window = resolve_payment = _done

    async def positions(self) -> messages.PositionsAnswer:
        return messages.PositionsAnswer([PositionView("bank-b", "EUR", 4711, -5, 2, 5_000)], 9)

    async def windows(self, request: messages.ListWindows) -> messages.WindowsAnswer:
        self.asked.append((0, request))
        return messages.WindowsAnswer([])

    async def window(self, request: messages.GetWindow) -> messages.WindowView:
        self.asked.append((0, request))
        row = WindowRow("bank-b", "EUR", 1, 2, 3, 4, bytes(32))
        return messages.WindowView(3, 1, 9, 0, [row])

    async def payment(self, actor: Actor, request: GetPayment) -> PaymentView:
        return PaymentView(request.id, "pending", "a/1", "b/2", 5, "EUR")

    async def payments(self, actor: Actor, request: ListPayments) -> PaymentsAnswer:
        return PaymentsAnswer([])


def switching(world: World) -> Switching:
    """Make this node a gateway's."""
    found = world.node.ports.switch = Switching()
    return found


@pytest.mark.parametrize("operation", QUESTIONS)
async def test_a_bank_does_not_know_what_only_a_gateway_does(tmp_path: Path, operation: str) -> None:
    """An operator who asks the wrong node is told; a customer may not even ask."""
    async with banking(tmp_path) as world:
        ada, alice = await world.sign_in("ada"), await world.sign_in("alice")
        with pytest.raises(UnknownOperation, match="only a gateway"):
            await ada.ask(operation, QUESTIONS[operation])
        with pytest.raises(NotAllowed):
            await alice.ask(operation, QUESTIONS[operation])


async def test_a_gateway_answers_its_operators(tmp_path: Path) -> None:
    """With what is plugged in, told who asks; banks and payments come from there as well."""
    async with banking(tmp_path) as world:
        switch = switching(world)
        ada = await world.sign_in("ada")
        number = (await world.bank.customer_named("ada")).customer
        answers = {name: await ada.ask(name, request) for name, request in QUESTIONS.items()}
        assert [answers[name].position for name in ("add_bank", "suspend_bank", "close_window")] == [5, 5, 5]
        assert answers["positions"].positions[0].reserved_minor == 2
        assert answers["windows"].windows == []
        assert answers["window"].rows[0].bank == "bank-b"
        assert (number, QUESTIONS["close_window"]) in switch.asked
        assert [row.is_connected for row in (await ada.ask("banks", messages.ListBanks())).banks] == [False]
        assert (await ada.ask("payment", GetPayment(id := new_id()))).id == id
        assert (await ada.ask("payments", ListPayments())).payments == []
        assert (await ada.ask("resolve_payment", ResolvePayment(new_id(), id, "abort"))).position == 5


async def test_a_bank_is_added_by_two_administrators(tmp_path: Path) -> None:
    """Its net debit cap is a limit on what it may owe: one asks, the other approves, and then it is done."""
    async with banking(tmp_path) as world:
        switch = switching(world)
        ada = await world.sign_in("ada")
        await ada.administration.set_roles("bob", ["administrator"])
        bob = await world.sign_in("bob")
        asked = await ada.ask("add_bank", QUESTIONS["add_bank"])
        assert asked.approval and switch.asked == []
        (waiting,) = await bob.administration.approvals()
        assert (waiting.asked_by, waiting.summary) == ("ada", "let bank bank-b owe up to 5000 EUR in minor units")
        await bob.administration.approve(asked.approval)
        ((who, request),) = switch.asked
        assert who == (await world.bank.customer_named("ada")).customer
        assert (request.bank, request.cap_minor, request.authority) == ("bank-b", 5_000, AUTHORITY)


@pytest.mark.parametrize("authority", ["PEM", (CERTS / "node.crt").read_text(), 2 * AUTHORITY])
async def test_a_bank_is_not_added_with_another_authority_than_its_own(tmp_path: Path, authority: str) -> None:
    """What is no authority's certificate, or not one, is refused before anybody is asked to approve it."""
    async with banking(tmp_path) as world:
        switch = switching(world)
        ada = await world.sign_in("ada")
        with pytest.raises(MessageInvalid, match="authority"):
            await ada.ask("add_bank", messages.AddBank(new_id(), "bank-b", "EUR", 5_000, authority))
        assert switch.asked == []


async def test_suspending_needs_no_second_administrator(tmp_path: Path) -> None:
    """What protects must not wait."""
    async with banking(tmp_path) as world:
        switch = switching(world)
        ada = await world.sign_in("ada")
        await ada.administration.set_roles("bob", ["administrator"])
        assert (await ada.ask("suspend_bank", QUESTIONS["suspend_bank"])).position == 5
        assert len(switch.asked) == 1
