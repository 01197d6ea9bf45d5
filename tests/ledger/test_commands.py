"""Commands: one frozen struct each, all with who asks, each with its judge."""

from __future__ import annotations

import pytest

from fortress.ledger import commands
from fortress.ledger.acts import JUDGES
from fortress.ledger.commands import Command, MoveBatch, MoveMoney, PostHold
from tests.ledger.books_fixture import ALICE, uid


def kinds() -> list[type[Command]]:
    return [kind for kind in vars(commands).values() if isinstance(kind, type) and Command in kind.__mro__[1:]]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: str(kind.__name__))
def test_every_command_is_judged(kind: type[Command]) -> None:
    """Each kind has its row in the table of judges; a batch is judged row by row."""
    assert (kind in JUDGES) != (kind is MoveBatch)
    assert kind.__struct_fields__[0] == "actor"
    assert kind.__struct_config__.frozen


def test_a_command_cannot_be_changed() -> None:
    """What was judged is what was asked."""
    command = MoveMoney(ALICE, 3, uid(), 195, 292, 5, "EUR")
    with pytest.raises(AttributeError):
        setattr(command, "amount", 6)  # noqa: B010  the checker would refuse it in plain


def test_what_is_not_said_is_nothing() -> None:
    """A transfer without reference, value date and signature; a hold posted whole."""
    command = MoveMoney(ALICE, 3, uid(), 195, 292, 5, "EUR")
    assert (command.reference, command.value_date, command.order_signature) == ("", "", b"")
    assert PostHold(ALICE, uid()).amount == 0
