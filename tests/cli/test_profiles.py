"""Contact data: read, and changed in part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fortress.protocol.accounts import Profile
from tests.cli.conftest import FakeBank

Tell = Callable[..., Any]


def test_contact_data_is_shown(bank: FakeBank, tell: Tell) -> None:
    """One's own, or a named customer's."""
    assert "alice@example.org" in tell("profile", "show")[1]
    assert tell("profile", "show", "bob", "--json")[1]["name"] == "bob"


def test_what_is_not_named_stays(bank: FakeBank, tell: Tell) -> None:
    """Only the telephone number changes."""
    assert tell("profile", "set", "--phone", "+49 30 1")[0] == 0
    assert bank.calls[-1] == ("set_profile", Profile("Alice", "alice@example.org", "+49 30 1"))


def test_nothing_to_change_is_wrong_usage(bank: FakeBank, tell: Tell) -> None:
    """It says what can be named."""
    assert tell("profile", "set")[0] == 2
