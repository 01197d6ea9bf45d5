"""What replication needs of a node is what the tests' node offers, and the server's too."""

from __future__ import annotations

import inspect

import pytest

from fortress.pair import host
from fortress.server.membership import People
from fortress.server.pairing import Pairing
from fortress.server.replica import JournalHistory
from tests.pair import nodes


@pytest.mark.parametrize(
    ("wanted", "offered"),
    [
        (host.Host, Pairing),
        (host.Host, nodes.Node),
        (host.History, JournalHistory),
        (host.History, nodes.List),
        (host.People, People),
        (host.People, nodes.Keys),
    ],
)
def test_everything_that_is_wanted_is_offered(wanted: type, offered: type) -> None:
    """By name and by parameters."""
    for name, function in vars(wanted).items():
        if inspect.isfunction(function) and not name.startswith("_"):
            assert [*inspect.signature(getattr(offered, name)).parameters] == [*inspect.signature(function).parameters]
