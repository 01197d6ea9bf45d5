"""Money reserved: placed until a time, posted in part or whole, voided, listed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from fortress.errors import OutcomeUnknown
from tests.cli.conftest import ID, ID_TEXT, NUMBER, OTHER, FakeBank

Tell = Callable[..., Any]


def test_money_is_reserved_for_a_while(bank: FakeBank, tell: Tell) -> None:
    """From the default account, to a name."""
    code, out, _ = tell("hold", "place", "bob", "50", "EUR", "--for", "2d", "--reference", "room")
    assert code == 0 and "Reserved 50.00 EUR for Bob." in out
    name, debit, credit, amount, expires, reference = bank.calls[-1]
    assert (name, debit, credit, amount, reference) == ("hold", NUMBER, OTHER, "50.00 EUR", "room")
    assert timedelta(hours=47) < expires - datetime.now(UTC) < timedelta(hours=49)


def test_an_unknown_outcome_says_how_to_repeat_it_exactly(bank: FakeBank, tell: Tell) -> None:
    """The same id needs the same expiry."""
    bank.refuse("hold", OutcomeUnknown())
    arguments = ("hold", "place", "bob", "50 EUR", "--id", ID_TEXT, "--expires", "2030-01-01T00:00:00Z", "--from", "17")
    code, _, err = tell(*arguments)
    assert code == 5
    assert f"--id {ID_TEXT} --expires 2030-01-01T00:00:00Z" in err.splitlines()[-1]


def test_a_hold_is_posted_and_voided(bank: FakeBank, tell: Tell) -> None:
    """In part, whole, or not at all."""
    assert "Posted 20.00 EUR." in tell("hold", "post", ID_TEXT, "20")[1]
    assert bank.calls[-1] == ("post", ID, "20.00 EUR")
    assert "all that was reserved" in tell("hold", "post", ID_TEXT)[1]
    assert bank.calls[-1] == ("post", ID, None)
    assert tell("hold", "void", ID_TEXT)[0] == 0
    assert bank.calls[-1] == ("void", ID)


def test_open_holds_are_listed(bank: FakeBank, tell: Tell) -> None:
    """Of the account named, or of the default one."""
    rows = tell("hold", "list", "17", "--json")[1]
    assert bank.calls[-1] == ("holds", 17)
    assert (rows[0]["id"], rows[0]["amount"]["amount"], rows[0]["state"]) == (ID_TEXT, "50.00", "open")
    assert "50.00 EUR" in tell("hold", "list")[1]
