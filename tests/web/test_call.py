"""What handlers are given: who is signed in, and what the process has once."""

from __future__ import annotations

import pytest

from fortress.client.client import connect
from fortress.config import WebSettings
from fortress.errors import NotSignedIn
from fortress.web.call import Call, Context
from fortress.web.operations import OPERATIONS


class Poller:
    """Something that a process has once."""

    def __init__(self, context: Context) -> None:
        self.bank = context.bank
        self.is_closed = False

    async def close(self) -> None:
        self.is_closed = True


def context() -> Context:
    return Context(
        bank="a",
        kind="bank",
        settings=WebSettings(),
        connect=lambda: connect("fortress://127.0.0.1:1/a", ca=b""),
    )


async def test_what_is_shared_is_made_once_and_closed_at_the_end() -> None:
    """All requests get the same object, which is closed with the process."""
    here = context()
    poller = here.shared(Poller)
    assert here.shared(Poller) is poller and poller.bank == "a"
    await here.close()
    assert poller.is_closed
    assert here.shared(Poller) is not poller


def test_nobody_acts_without_a_session() -> None:
    """A handler that needs a session where there is none is refused, and does not act for somebody else."""
    call = Call(operation=OPERATIONS[0], context=context())
    with pytest.raises(NotSignedIn):
        _ = call.me
