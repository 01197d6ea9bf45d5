"""Tests of a session: who it is, contact data, its end."""

from __future__ import annotations

import pytest

from fortress.client.me import Me
from fortress.errors import NotSignedIn, UnknownOperation
from fortress.protocol.accounts import Profile
from fortress.protocol.administration import StatusAnswer, StatusRequest
from tests.client.fake_bank import FakeNode


async def test_a_session_knows_who_it_is(alice: Me) -> None:
    """From its login, and from the bank when asked."""
    assert alice.username == alice.signed_in.username == (await alice.whoami()).username == "alice"
    assert alice.is_connected


async def test_contact_data_is_set_and_read(alice: Me) -> None:
    """As it was written."""
    profile = Profile(name="Alice", phone="+49 30 1")
    await alice.set_profile(profile)
    assert await alice.get_profile() == profile


async def test_a_token_can_be_renewed(alice: Me) -> None:
    """The new one takes the place of the old."""
    old = alice.signed_in.token
    assert (await alice.renew()).token == alice.signed_in.token != old


@pytest.mark.parametrize("fault", ["", "cut_after"])
async def test_a_session_ends(alice: Me, node: FakeNode, fault: str) -> None:
    """For good, also when the first answer was lost; afterwards nothing can be asked."""
    node.faults["logout"] = [fault]
    await alice.logout()
    with pytest.raises(NotSignedIn):
        _ = alice.username
    with pytest.raises(NotSignedIn):
        await alice.whoami()


async def test_any_operation_can_be_asked(alice: Me) -> None:
    """Those of the table decoded; those that nobody knows refused, with the session living on."""
    assert isinstance(await alice.ask("status", StatusRequest()), StatusAnswer)
    with pytest.raises(UnknownOperation):
        await alice.ask("make_me_rich", StatusRequest())
    assert (await alice.whoami()).username == "alice"


@pytest.mark.parametrize("name", ["sessions", "open_account", "end_session", "close_account"])
async def test_every_method_asks_for_its_operation(alice: Me, node: FakeNode, name: str) -> None:
    """What the small bank of the tests does not know still arrives there."""
    arguments = {"open_account": ("EUR",), "end_session": (bytes(16),), "close_account": (104,)}.get(name, ())
    with pytest.raises(UnknownOperation):
        await getattr(alice, name)(*arguments)
    assert node.asked[-1] == name
