"""Tests of the way in: connecting, signing in, registering, resuming."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fortress
from fortress.client.client import Client, connect
from fortress.client.credentials import write_key_file
from fortress.errors import (
    LoginFailed,
    PasswordTooWeak,
    Refused,
    ServerNotTrusted,
    Status,
    TokenRejected,
    Unreachable,
    UsageError,
)
from tests.client.conftest import ALICE_SEED
from tests.client.fake_bank import Books, Credentials, FakeNode

PASSWORD = "a phrase of several words"


async def test_the_door_of_the_package_connects(node: FakeNode) -> None:
    """`fortress.connect` can be awaited as well as used with `async with`."""
    client = await fortress.connect(node.address, ca=node.credentials.ca)
    assert (await client.status()).bank == client.bank == "a"
    await client.close()


async def test_a_wrong_authority_is_told_at_once(node: FakeNode, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Distrust is no reason to try again."""
    other = Credentials.make(tmp_path_factory.mktemp("other"))
    with pytest.raises(ServerNotTrusted):
        async with connect(node.address, ca=other.ca):
            pass
    assert not node.asked


async def test_a_bank_that_is_down_is_unreachable(node: FakeNode) -> None:
    """After the time allowed, not before it."""
    await node.stop()
    with pytest.raises(Unreachable):
        await connect(node.address, ca=node.credentials.ca, deadline_s=0.2)


@pytest.mark.parametrize("address", ["", "fortress://x", "https://x/a"])
async def test_a_wrong_address_is_told_before_connecting(credentials: Credentials, address: str) -> None:
    """As wrong use."""
    with pytest.raises(UsageError):
        connect(address, ca=credentials.ca)


@pytest.mark.asyncio(loop_factories=["uvloop"])  # deriving keys is slow and the same on both loops
async def test_a_password_signs_in_and_a_wrong_one_does_not(client: Client, node: FakeNode) -> None:
    """Registered with a password, one signs in with it; unknown users and wrong passwords look the same."""
    me = await client.register("invitation", "carol", PASSWORD, "Carol")
    assert me.username == "carol"
    for username, password in (("carol", "not the right phrase"), ("nobody", PASSWORD)):
        with pytest.raises(LoginFailed):
            await client.login(username, password)
    again = await client.login("carol", PASSWORD)
    assert (await again.whoami()).username == "carol"


async def test_a_new_session_takes_a_new_connection(client: Client, node: FakeNode) -> None:
    """One client can be one person after another."""
    assert (await client.login_with_seed("alice", ALICE_SEED)).username == "alice"
    assert (await client.login_with_seed("bob", b"b" * 32)).username == "bob"
    assert node.asked.count("hello") == 2


async def test_a_key_file_signs_in(client: Client, books: Books, tmp_path: Path) -> None:
    """A service has no password."""
    books.add_user("service", write_key_file(tmp_path / "service.key"))
    me = await client.login("service", key_file=tmp_path / "service.key")
    assert me.signed_in.username == "service"


async def test_a_login_takes_one_secret(client: Client) -> None:
    """Neither none nor two."""
    for secrets in ({}, {"password": "x", "key_file": "y"}):
        with pytest.raises(UsageError):
            await client.login("alice", **secrets)


async def test_a_weak_password_never_reaches_the_bank(client: Client, node: FakeNode) -> None:
    """It is refused on this machine."""
    with pytest.raises(PasswordTooWeak):
        await client.register("invitation", "carol", "password1234")
    assert "register" not in node.asked


async def test_a_username_that_is_taken_is_refused(client: Client) -> None:
    """With the status that says so."""
    with pytest.raises(Refused) as caught:
        await client.register("invitation", "alice", PASSWORD)
    assert caught.value.status is Status.username_taken


async def test_a_token_goes_on_with_the_session(client: Client, node: FakeNode) -> None:
    """Another program may go on with it; a token that is none is refused."""
    me = await client.login_with_seed("alice", ALICE_SEED)
    async with connect(node.address, ca=node.credentials.ca) as second:
        again = await second.resume(me.signed_in.token)
        assert (await again.whoami()).username == "alice"
        with pytest.raises(TokenRejected):
            await second.resume("nonsense")


async def test_a_login_survives_a_lost_connection(client: Client, node: FakeNode) -> None:
    """It begins again with a fresh commitment, since the challenge died with the connection."""
    node.faults["login_finish"] = ["cut_before"]
    assert (await client.login_with_seed("alice", ALICE_SEED)).username == "alice"
    assert node.asked.count("login_begin") == 2


def test_importing_the_client_is_light() -> None:
    """Commands must show their first byte soon: what only some of them need is loaded when they need it."""
    heavy = ["babel", "argon2", "nacl", "cryptography.x509", "aiohttp", "apsw", "rich", "uvloop", "fortress.ledger"]
    program = "import sys, fortress.client.client; print([m for m in sys.argv[1:] if m in sys.modules])"
    command = [sys.executable, "-c", program, *heavy]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    assert shown.strip() == "[]"
