"""A visit: the session of the context goes on, its token is kept fresh, and failures learn what the command knows."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fortress.cli.command import Call
from fortress.cli.contexts import Contexts
from fortress.cli.desk import open_contexts, reach, telling, visit
from fortress.errors import NotSignedIn, Refused, Status, Unreachable
from tests.cli.conftest import FakeBank


async def nothing(me: object) -> str:
    return "done"


def test_a_visit_goes_on_with_the_kept_token(bank: FakeBank) -> None:
    """No password is asked for again."""
    assert visit(Call(), nothing) == "done"
    assert bank.calls == [("resume", "token-1")]


def test_a_new_token_is_kept(bank: FakeBank, contexts: Contexts) -> None:
    """One that the bank gave, and one that was renewed because little time was left."""
    bank.token = "token-2"
    visit(Call(), nothing)
    kept = contexts.token(contexts.get())
    assert kept is not None and kept.token == "token-2"
    bank.expires_us = 1
    visit(Call(), nothing)
    kept = contexts.token(contexts.get())
    assert kept is not None and kept.token == "renewed-1"


def test_without_a_token_nothing_is_sent(bank: FakeBank, contexts: Contexts) -> None:
    """Who is not signed in is told so at once."""
    contexts.forget_token(contexts.get())
    with pytest.raises(NotSignedIn, match="alice@a"):
        visit(Call(), nothing)
    assert bank.calls == []


def test_contexts_are_those_of_the_environment(contexts: Contexts, bank: FakeBank) -> None:
    """One variable says where."""
    assert open_contexts().names() == contexts.names()


def test_a_failure_learns_what_the_command_knows() -> None:
    """The currency of its amounts, and how to repeat it."""
    with pytest.raises(Refused) as failed, telling(currency="EUR", id="x"):
        raise Refused(Status.exceeds_available, {"available_minor": 5})
    assert failed.value.facts == {"available_minor": 5, "currency": "EUR", "id": "x"}


def test_a_bank_that_is_not_there_is_told_in_time(ca_file: Path) -> None:
    """The client library tries until the time is up, not longer."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"fortress://127.0.0.1:{taken.getsockname()[1]}/a"
        with pytest.raises(Unreachable):
            reach(Call(timeout_s=0.3, verbose=True), url, ca_file, nothing)
