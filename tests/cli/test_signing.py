"""Signing on the command line: a key is asked for, used, and not kept; what is kept is the new session's token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fortress.cli.command import Call
from fortress.cli.contexts import Contexts
from fortress.cli.misuse import Misuse
from fortress.cli.signing import Key, key_of, sessions, visit_with
from fortress.client import client
from fortress.errors import NotSignedIn
from tests.cli.conftest import ID_TEXT, FakeBank

Tell = Callable[..., Any]
CALL = Call(ask=False)


def test_without_a_wish_to_sign_nothing_is_asked_for(bank: FakeBank, contexts: Contexts) -> None:
    """The session goes on by its token."""
    assert key_of(CALL, contexts.get(), sign=False, key_file=None, password_file=None) is None

    async def work(me: Any) -> str:
        return "done"

    assert visit_with(CALL, None, work) == "done"
    assert [call[0] for call in bank.calls] == ["resume"]


def test_the_key_comes_from_a_file_or_a_password(contexts: Contexts, bank: FakeBank, secret_file: Path) -> None:
    """Two of them are one too many, and where nobody can be asked a file is needed."""
    context = contexts.get()
    key = key_of(CALL, context, sign=False, key_file=secret_file, password_file=None)
    assert key == Key(username="alice", file=secret_file)
    for sign in (True, False):
        key = key_of(CALL, context, sign=sign, key_file=None, password_file=secret_file)
        assert key == Key(username="alice", password="seven quiet rivers")
    with pytest.raises(Misuse, match="one key"):
        key_of(CALL, context, sign=True, key_file=secret_file, password_file=secret_file)
    with pytest.raises(Misuse, match="password is needed"):
        key_of(CALL, context, sign=True, key_file=None, password_file=None)


@pytest.mark.parametrize("command", [("pay", "b/ines", "12.50 EUR"), ("payment", "retry", ID_TEXT)])
def test_a_command_that_signs_signs_in_anew(
    bank: FakeBank, tell: Tell, contexts: Contexts, secret_file: Path, command: tuple[str, ...]
) -> None:
    """The new token takes the old one's place; neither password nor key is kept."""
    bank.token = "token-2"
    assert tell(*command, "--sign", "--password-file", str(secret_file))[0] == 0
    assert bank.calls[0] == ("login", "alice", "seven quiet rivers", "")
    token = contexts.token(contexts.get())
    assert token is not None and token.token == "token-2"
    files = [file for file in secret_file.parent.rglob("*") if file.is_file() and file != secret_file]
    assert files and not any(b"quiet" in file.read_bytes() for file in files)
    assert tell(*command, "--key-file", str(secret_file))[0] == 0
    assert ("login", "alice", "", str(secret_file)) in bank.calls


@pytest.fixture
def connected(bank: FakeBank, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Connections lead to the bank in memory; what was asked for is noted."""
    asked: list[tuple[str, dict[str, Any]]] = []

    @asynccontextmanager
    async def connect(url: str, **options: Any) -> AsyncIterator[FakeBank]:
        asked.append((url, options))
        yield bank

    monkeypatch.setattr(client, "connect", connect)
    return asked


def test_a_session_is_opened_by_token_or_key_and_its_token_kept(
    bank: FakeBank, contexts: Contexts, connected: list[tuple[str, dict[str, Any]]]
) -> None:
    """As often as it is needed; who is not signed in and has no key is told."""

    async def open_once(key: Key | None) -> None:
        async with sessions(CALL, contexts, contexts.get(), key)() as me:
            bank.token = f"after-{len(bank.calls)}"
            assert me is bank

    asyncio.run(open_once(None))
    asyncio.run(open_once(Key(username="alice", password="p")))
    assert [call[:2] for call in bank.calls] == [("resume", "token-1"), ("login", "alice")]
    token = contexts.token(contexts.get())
    assert token is not None and token.token == "after-2"
    url, options = connected[0]
    assert url == "fortress://127.0.0.1:7611/a" and options["deadline_s"] == CALL.timeout_s
    contexts.forget_token(contexts.get())
    with pytest.raises(NotSignedIn):
        asyncio.run(open_once(None))
