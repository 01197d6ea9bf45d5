"""What waits for a second administrator: listed, approved, declined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import ID, ID_TEXT, FakeBank

Tell = Callable[..., Any]


@pytest.mark.parametrize("arguments", [[], ["list"]], ids=str)
def test_what_waits_is_listed(bank: FakeBank, tell: Tell, arguments: list[str]) -> None:
    """Without an id nothing is decided."""
    rows = tell("approve", *arguments, "--json")[1]
    assert [(row["approval"], row["asked_by"]) for row in rows] == [(ID_TEXT, "ada")]
    assert "erase bob" in tell("approve", *arguments)[1]


@pytest.mark.parametrize("decline", [False, True])
def test_a_request_is_decided(bank: FakeBank, tell: Tell, decline: bool) -> None:
    """Yes by default, no on demand."""
    code, out, _ = tell("approve", ID_TEXT, *(["--decline"] if decline else []), "--json")
    assert code == 0 and out["approved"] is not decline
    assert bank.calls[-1] == ("approve", ID, ("decline", decline))


def test_what_is_no_id_is_wrong_usage(bank: FakeBank, tell: Tell) -> None:
    """Nothing is sent."""
    assert tell("approve", "bob")[0] == 2
