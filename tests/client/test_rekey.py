"""Tests of changing the password."""

from __future__ import annotations

import pytest

from fortress.client.client import Client
from fortress.errors import LoginFailed, OutcomeUnknown, PasswordTooWeak
from tests.client.fake_bank import Books, FakeNode

OLD, NEW = "the old phrase of words", "the new phrase of words"


@pytest.mark.asyncio(loop_factories=["uvloop"])  # deriving keys is slow and the same on both loops
async def test_the_new_password_takes_the_place_of_the_old(client: Client, node: FakeNode) -> None:
    """The old one is proven first; afterwards only the new one signs in."""
    me = await client.register("invitation", "carol", OLD)
    with pytest.raises(LoginFailed):
        await me.change_password("not the old phrase", NEW)
    await me.change_password(OLD, NEW)
    with pytest.raises(LoginFailed):
        await client.login("carol", OLD)
    assert (await client.login("carol", NEW)).username == "carol"


@pytest.mark.asyncio(loop_factories=["uvloop"])  # deriving keys is slow and the same on both loops
@pytest.mark.parametrize("fault", ["", "cut_before"])
async def test_the_session_goes_on_after_the_change(client: Client, node: FakeNode, books: Books, fault: str) -> None:
    """With a new token, since the bank refuses the old ones; if that cannot be asked for, by signing in anew."""
    me = await client.register("invitation", "carol", OLD)
    before = me.signed_in.token
    node.faults["renew"] = [fault] if fault else []
    await me.change_password(OLD, NEW)
    assert before not in books.tokens
    node.cut()
    assert (await me.whoami()).username == "carol"
    assert node.asked.count("login_begin") == bool(fault)


async def test_a_weak_new_password_is_refused_here(client: Client, node: FakeNode) -> None:
    """The bank hears nothing of it."""
    me = await client.login_with_seed("alice", b"a" * 32)
    with pytest.raises(PasswordTooWeak):
        await me.change_password(OLD, "short")
    assert "change_key_begin" not in node.asked


@pytest.mark.asyncio(loop_factories=["uvloop"])  # deriving keys is slow and the same on both loops
async def test_a_change_without_answer_is_unknown(client: Client, node: FakeNode) -> None:
    """It is not repeated: the old password may be gone."""
    me = await client.register("invitation", "carol", OLD)
    node.faults["change_key"] = ["cut_after"]
    with pytest.raises(OutcomeUnknown):
        await me.change_password(OLD, NEW)
    assert (await client.login("carol", NEW)).username == "carol"
