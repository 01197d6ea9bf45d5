"""Where other banks are plugged in: nothing is, at a bank that knows no other."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from fortress.server import ports
from fortress.server.ports import Ports
from tests.server.banks import banking


async def test_a_bank_alone_has_nothing_plugged_in(tmp_path: Path) -> None:
    """Neither a way to other banks, nor a switch, nor a relay."""
    async with banking(tmp_path) as world:
        assert world.node.ports == world.node.ports
        assert (world.node.ports.payments, world.node.ports.switch, world.node.ports.relay) == (None, None, None)


def test_the_ports_of_two_nodes_are_two() -> None:
    """What is plugged into one node of a process is not in another."""
    first, second = Ports(), Ports()
    assert first != second
    first.payments = object.__new__(_payments())
    assert second.payments is None


def _payments() -> Any:
    from fortress.gateway.member import Member

    return Member


@pytest.mark.parametrize("name", sorted(name for name in vars(ports.Payments) if not name.startswith("_")))
def test_a_member_of_a_gateway_is_what_handlers_ask(name: str) -> None:
    """Each of its questions takes what the port says, by the same names, and waits exactly where the port waits."""
    asked, answered = getattr(ports.Payments, name), getattr(_payments(), name)
    assert list(inspect.signature(asked).parameters) == list(inspect.signature(answered).parameters)
    assert inspect.iscoroutinefunction(asked) == inspect.iscoroutinefunction(answered)
