"""Tests of the acts of staff: each asks for its operation with what it was given."""

from __future__ import annotations

from typing import Any

import pytest

from fortress.client.me import Me
from fortress.errors import OutcomeUnknown, PasswordTooWeak, Refused, Status, UnknownOperation, UsageError
from fortress.protocol.accounts import Profile
from fortress.protocol.administration import Approve, Invite, InviteAnswer
from fortress.protocol.fields import Done
from tests.client.fake_bank import Books, FakeNode, FakeSession

ID = bytes(16)


@pytest.mark.parametrize(
    ("name", "arguments", "operation"),
    [
        ("invite", {"role": "teller"}, "invite"),
        ("user", {"username": "bob"}, "get_user"),
        ("users", {"after": 3}, "list_users"),
        ("set_roles", {"username": "bob", "roles": ["teller"]}, "set_role"),
        ("lock", {"username": "bob", "until_us": 5}, "lock"),
        ("unlock", {"username": "bob"}, "unlock"),
        ("erase", {"username": "bob"}, "erase"),
        ("set_limits", {"account": 104, "floor_minor": None, "day_minor": 5}, "set_limits"),
        ("unfreeze", {"account": 104}, "unfreeze"),
        ("reopen", {"account": 104}, "reopen"),
        ("approve", {"approval": ID, "decline": True}, "approve"),
        ("approvals", {}, "list_approvals"),
        ("trail", {"limit": 5}, "trail"),
        ("trial_balance", {}, "trial_balance"),
    ],
)
async def test_each_act_is_asked_for(
    alice: Me, node: FakeNode, name: str, arguments: dict[str, Any], operation: str
) -> None:
    """The request is valid: the small bank of the tests decodes it before it says that it cannot do it."""
    with pytest.raises(UnknownOperation, match=operation):
        await getattr(alice.administration, name)(**arguments)
    assert node.asked[-1] == operation


async def test_accounts_are_read_and_frozen(alice: Me, books: Books) -> None:
    """A page of accounts; the position of what was done is remembered."""
    assert (await alice.administration.accounts("alice")).accounts[0].number == 100
    assert (await alice.administration.freeze(100)).position == 5
    assert books.states == {100: "frozen"}


@pytest.mark.asyncio(loop_factories=["uvloop"])  # deriving keys is slow and the same on both loops
async def test_a_customer_is_made_with_a_key_made_here(alice: Me, node: FakeNode, books: Books) -> None:
    """With a seed or with a first password; a lost answer makes no second customer."""
    user = await alice.administration.create_user("dan", seed=b"d" * 32, profile=Profile(name="Dan"))
    assert (user.username, user.name) == ("dan", "Dan")
    assert books.users["dan"].parameters.memory_kib == 0
    await alice.administration.create_user("eve", "a phrase of several words")
    assert books.users["eve"].parameters.memory_kib == 65536
    assert "a phrase of several words" not in str(books)


async def test_a_customer_has_one_first_secret_that_is_not_weak(alice: Me, node: FakeNode) -> None:
    """Told before anything is sent."""
    for secrets in ({}, {"password": "x" * 12, "seed": bytes(32)}):
        with pytest.raises(UsageError):
            await alice.administration.create_user("dan", **secrets)
    with pytest.raises(PasswordTooWeak):
        await alice.administration.create_user("dan", "short")
    assert "create_user" not in node.asked


async def test_an_invitation_whose_answer_is_lost_is_made_again(
    alice: Me, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code is known to nobody; with an id of the caller's that cannot be, and is told as unknown."""
    made: list[bytes] = []

    def invite(session: FakeSession, fields: Invite) -> InviteAnswer:
        if fields.id in made:
            raise Refused(Status.id_reused)
        made.append(fields.id)
        return InviteAnswer("code", 5)

    monkeypatch.setattr(FakeSession, "handle_invite", invite, raising=False)
    node.faults["invite"] = ["cut_after", "", "cut_after"]
    assert (await alice.administration.invite()).code == "code"
    assert len(made) == 2
    with pytest.raises(OutcomeUnknown):
        await alice.administration.invite(id=bytes(16))
    with pytest.raises(Refused):
        await alice.administration.invite(id=bytes(16))


async def test_an_approval_found_decided_after_a_lost_try_is_unknown(
    alice: Me, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been approved by that try, or declined by somebody else."""
    decided: set[bytes] = set()

    def approve(session: FakeSession, fields: Approve) -> Done:
        if fields.approval in decided:
            raise Refused(Status.approval_already_decided)
        decided.add(fields.approval)
        return Done()

    monkeypatch.setattr(FakeSession, "handle_approve", approve, raising=False)
    node.faults["approve"] = ["cut_after"]
    with pytest.raises(OutcomeUnknown):
        await alice.administration.approve(bytes(16))
    with pytest.raises(Refused):
        await alice.administration.approve(bytes(16))
