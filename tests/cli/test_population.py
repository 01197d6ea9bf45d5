"""Sample people: made by an administrator, each with an account and some money."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from fortress.cli.population import make_customers, make_password, make_people, open_with, settle
from fortress.client.me import Me
from fortress.client.money import Money
from tests.cli.conftest import NUMBER, FakeBank


class Office(FakeBank):
    """A bank that also takes seeds."""

    def __init__(self) -> None:
        super().__init__()
        self.administration = cast(Any, self)

    async def create_user(self, username: str, password: str, *, seed: bytes, profile: Any) -> None:
        self.note("create_user", username, password, len(seed), profile.name)


def test_everybody_is_settled() -> None:
    """A customer, an account, an opening deposit."""
    office = Office()
    people = make_customers(2, "sim")
    assert people[0].seed != people[1].seed
    numbers = asyncio.run(settle(cast(Me, office), people, Money(500, "EUR"), names={"sim-1": "Sim One"}))
    assert numbers == [NUMBER, NUMBER]
    assert ("create_user", "sim-1", "", 32, "Sim One") in office.calls
    assert ("create_user", "sim-2", "", 32, "sim-2") in office.calls
    assert office.calls.count(("deposit", NUMBER, "5.00 EUR", "Opening deposit")) == 2


def test_nothing_is_paid_in_where_nothing_is_wanted() -> None:
    """An account may begin empty."""
    office = Office()
    assert asyncio.run(open_with(cast(Me, office), "bob", Money(0, "EUR"))) == NUMBER
    assert [call[0] for call in office.calls] == ["open_account"]


def test_passwords_are_good_and_new() -> None:
    """Four words, never the same."""
    from fortress.protocol.schnorr import check_password

    made = {make_password() for _ in range(50)}
    assert len(made) == 50
    for password in made:
        check_password(password)


def test_each_bank_has_its_people() -> None:
    """Usernames are contexts too, so nobody shares one; every bank and the gateway have an administrator."""
    people = make_people()
    assert len({person.username for person in people}) == len(people)
    assert {person.bank for person in people if person.role == "administrator"} == {"a", "b", "gateway"}
    assert people[0].password not in repr(people)
