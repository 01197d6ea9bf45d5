"""Tests of what a simulated customer does, step by step."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest

from fortress.client.me import Me
from fortress.client.scenario import DEFAULT, Customer, Visitor, check_balance, transfer, update_contact
from fortress.errors import FortressError, IntegrityFailed, UnknownOperation
from tests.client.conftest import ALICE_SEED
from tests.client.fake_bank import Books, FakeNode


def visitor_of(me: Me) -> Visitor:
    loop = asyncio.get_running_loop()
    payee = loop.create_future()
    payee.set_result(101)
    return Visitor(3, Customer("alice", seed=ALICE_SEED), me, 5, loop.create_future(), payee)


async def test_a_visit_is_three_tasks_and_one_refusal(alice: Me, node: FakeNode, books: Books) -> None:
    """Each step is one request; the last one is refused and the session lives on."""
    visitor = visitor_of(alice)
    for step in DEFAULT[:3]:
        await step.run(visitor)
    with pytest.raises(UnknownOperation):
        await DEFAULT[3].run(visitor)
    assert node.asked[-4:] == ["get_account", "transfer", "set_profile", "make_me_rich"]
    assert alice.is_connected
    assert visitor.number.result() == 100
    assert books.balances[101] == 5
    assert books.users["alice"].profile.phone == "+000 000003 0"


async def test_a_balance_that_does_not_add_up_is_noticed(alice: Me, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of what came back must fit each other."""
    view = Books.view
    monkeypatch.setattr(Books, "view", lambda self, n: msgspec.structs.replace(view(self, n), held_minor=7))
    with pytest.raises(IntegrityFailed):
        await check_balance(visitor_of(alice))


async def test_a_transfer_needs_a_balance_and_a_new_place(alice: Me) -> None:
    """Without an account to pay from there is no transfer; two at one place cannot be."""
    visitor = visitor_of(alice)
    with pytest.raises(IntegrityFailed, match="not known"):
        await transfer(visitor)
    await check_balance(visitor)
    await transfer(visitor)
    following = replace(visitor.payments[0], position=visitor.payments[0].position + 1)
    visitor.payments = [following]
    with pytest.raises(IntegrityFailed, match="same place"):
        await transfer(visitor)


async def test_contact_data_differs_from_round_to_round(alice: Me, books: Books) -> None:
    """So that each round changes something."""
    visitor = visitor_of(alice)
    visitor.round = 2
    await update_contact(visitor)
    assert books.users["alice"].profile.phone.endswith(" 2")


def test_a_customer_shows_no_secret() -> None:
    """Not even in a traceback."""
    assert "secret" not in repr(Customer("alice", "secret phrase", b"secret" * 5))


def test_the_default_names_what_must_be_refused() -> None:
    """One step of four."""
    wanted = [step.refusal for step in DEFAULT if step.refusal]
    assert len(wanted) == 1
    assert issubclass(wanted[0], FortressError)
