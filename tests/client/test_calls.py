"""Tests of requests that survive: what is repeated, what is not, and what the caller hears when time is up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from fortress.client import calls
from fortress.client.client import Client, connect
from fortress.client.ids import format_id, new_id
from fortress.client.me import Me
from fortress.client.money import Money
from fortress.errors import (
    Busy,
    DeadlinePassed,
    LocalProtocolError,
    NotPrimary,
    OutcomeUnknown,
    Refused,
    Status,
    TokenRejected,
    Unreachable,
)
from fortress.protocol.accounts import Profile
from fortress.protocol.messages import OPERATIONS
from tests.client.conftest import ALICE_SEED
from tests.client.fake_bank import Books, Credentials, FakeNode


@pytest_asyncio.fixture
async def other(credentials: Credentials, books: Books) -> AsyncIterator[FakeNode]:
    """The other node of the pair, on the same books."""
    node = await FakeNode(credentials, books).start()
    yield node
    await node.stop()


@pytest_asyncio.fixture
async def paired(node: FakeNode, other: FakeNode) -> AsyncIterator[Me]:
    """Alice, signed in at the first node of two."""
    address = f"fortress://{node.endpoint},{other.endpoint}/a"
    async with connect(address, ca=node.credentials.ca, timeout_s=0.5, deadline_s=5.0) as client:
        yield await client.login_with_seed("alice", ALICE_SEED)


@pytest.mark.parametrize("fault", ["cut_before", "cut_after", "silent", "busy", "not_primary"])
async def test_a_transfer_is_done_once_whatever_happens(alice: Me, node: FakeNode, books: Books, fault: str) -> None:
    """Lost before, lost after, no answer, busy, elsewhere: the same id again, and the money moves once."""
    node.faults["transfer"] = [fault]
    payment = await alice.transfer(100, 101, "5 EUR")
    assert node.asked.count("transfer") == 2
    assert payment.replayed == (fault == "cut_after")
    assert books.balances == {100: 99_500, 101: 500}


async def test_a_session_goes_on_at_the_other_node(paired: Me, node: FakeNode, other: FakeNode) -> None:
    """The first node dies; the session is resumed by its token, nobody asks for the password."""
    await node.stop()
    assert (await paired.balance()).available == Money(100_000, "EUR")
    assert other.asked[:2] == ["hello", "resume"]
    assert "login_begin" not in other.asked


async def test_many_requests_survive_a_failover(paired: Me, node: FakeNode, books: Books) -> None:
    """Everything outstanding when a node dies is repeated at the other and done once."""
    node.faults["transfer"] = ["cut_after"]
    payments = await asyncio.gather(*(paired.transfer(100, 101, "1 EUR") for _ in range(50)))
    assert len({payment.id for payment in payments}) == 50
    assert books.balances[101] == 5_000


async def test_a_standby_shows_the_way(paired: Me, node: FakeNode, other: FakeNode, books: Books) -> None:
    """After a switch-over the answer of the old primary names the new one."""
    node.primary = other.endpoint
    await paired.transfer(100, 101, "1 EUR")
    assert "transfer" in other.asked
    assert books.balances[101] == 100


async def test_a_write_without_answer_ends_as_unknown_with_its_id(client: Client, node: FakeNode) -> None:
    """When time is up and it may have been done, the id to repeat it with is in the facts."""
    alice = await client.login_with_seed("alice", ALICE_SEED)
    client._calls.deadline_s = 0.3
    node.faults["transfer"] = ["cut_before"] * 50
    id = new_id()
    with pytest.raises(OutcomeUnknown) as caught:
        await alice.transfer(100, 101, "5 EUR", id=id)
    assert caught.value.facts == {"operation": "transfer", "id": format_id(id)}


async def test_a_write_that_was_surely_not_done_is_not_called_unknown(client: Client, node: FakeNode) -> None:
    """Told busy to the end, the caller hears busy."""
    alice = await client.login_with_seed("alice", ALICE_SEED)
    client._calls.deadline_s = 0.3
    for fault, error in (("busy", Busy), ("not_primary", NotPrimary)):
        node.faults["transfer"] = [fault] * 50
        with pytest.raises(error):
            await alice.transfer(100, 101, "5 EUR")


async def test_a_read_without_answer_is_not_called_unknown(client: Client, node: FakeNode) -> None:
    """Nothing can have happened."""
    alice = await client.login_with_seed("alice", ALICE_SEED)
    client._calls.deadline_s = 0.3
    client._calls.timeout_s = 0.1
    node.faults["get_account"] = ["silent"] * 50
    with pytest.raises(DeadlinePassed):
        await alice.balance()


async def test_an_answer_that_is_no_verdict_leaves_the_outcome_unknown(alice: Me, node: FakeNode, books: Books) -> None:
    """The session ended between the try that was lost and its repeat: nobody said what became of the transfer."""
    node.faults["transfer"] = ["cut_after"]
    books.tokens.clear()
    with pytest.raises(OutcomeUnknown) as caught:
        await alice.transfer(100, 101, "5 EUR")
    assert "id" in caught.value.facts
    assert books.balances[101] == 500
    with pytest.raises(TokenRejected):
        await alice.balance()


async def test_a_refusal_after_a_lost_try_is_the_verdict(alice: Me, node: FakeNode) -> None:
    """The bank's rules answer for the id, so a refusal means that it was not done."""
    node.faults["transfer"] = ["cut_before"]
    with pytest.raises(Refused):
        await alice.transfer(100, 101, "5000 EUR")


async def test_setting_a_state_may_be_repeated(alice: Me, node: FakeNode, books: Books) -> None:
    """Setting contact data twice sets it once."""
    node.faults["set_profile"] = ["cut_after"]
    await alice.set_profile(Profile(name="Alice"))
    assert books.users["alice"].profile.name == "Alice"


async def test_a_repeat_that_finds_the_state_set_is_content(alice: Me, node: FakeNode) -> None:
    """Frozen by the lost try or not: it is frozen. Without a lost try the conflict is told."""
    node.faults["freeze"] = ["cut_after"]
    assert (await alice.administration.freeze(100)).replayed
    with pytest.raises(Refused) as caught:
        await alice.administration.freeze(100)
    assert caught.value.status is Status.account_state_conflict


@pytest.mark.asyncio(loop_factories=["uvloop"])  # deriving keys is slow and the same on both loops
async def test_what_must_not_be_repeated_is_not(client: Client, node: FakeNode, books: Books) -> None:
    """A registration whose answer is lost is unknown at once; told busy it is tried again."""
    node.faults["register"] = ["busy", "cut_after"]
    with pytest.raises(OutcomeUnknown):
        await client.register("invitation", "carol", "a long enough phrase", "Carol")
    assert node.asked.count("register") == 2
    assert (await client.login("carol", "a long enough phrase")).username == "carol"


async def test_a_session_that_cannot_be_resumed_in_time_is_unreachable(alice: Me, node: FakeNode) -> None:
    """What is in doubt is the resuming, not the request."""
    alice._calls.deadline_s = 0.3
    alice._calls.timeout_s = 0.1
    node.faults["resume"] = ["silent"] * 50
    link = alice._calls.route.current
    assert link is not None
    link.abort()
    with pytest.raises(Unreachable, match="resumed"):
        await alice.transfer(100, 101, "1 EUR")


async def test_a_deadline_may_be_given_for_one_call(alice: Me, node: FakeNode) -> None:
    """A batch, for instance, may take longer or shorter than the rest."""
    node.faults["transfers"] = ["busy"] * 50
    with pytest.raises(Busy):
        await alice.transfers([], "EUR", deadline_s=0.1)


async def test_the_token_is_renewed_in_the_background(
    client: Client, node: FakeNode, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Well before it expires, by the bank's clock."""
    monkeypatch.setattr(calls, "RENEW_S_MIN", 0.01)
    books.token_s = 0.1
    me = await client.login_with_seed("alice", ALICE_SEED)
    first = me.signed_in.token
    async with asyncio.timeout(10):
        while node.asked.count("renew") < 3:
            await asyncio.sleep(0.01)
    assert me.signed_in.token != first


async def test_renewing_ends_with_the_session(
    client: Client, node: FakeNode, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bank that refuses is not asked for ever; trouble on the way is no refusal."""
    monkeypatch.setattr(calls, "RENEW_S_MIN", 0.01)
    books.token_s = 0.1
    node.faults["renew"] = ["busy"]
    await client.login_with_seed("alice", ALICE_SEED)
    renewal = client._calls._renewal
    assert renewal is not None
    async with asyncio.timeout(10):
        while node.asked.count("renew") < 2:
            await asyncio.sleep(0.01)
    books.tokens.clear()
    node.cut()
    await asyncio.wait_for(renewal, 10)


async def test_a_closed_client_makes_no_requests(client: Client) -> None:
    """That is a bug of the caller, and told as one."""
    await client.close()
    await client.close()
    with pytest.raises(LocalProtocolError, match="closed"):
        await client.status()


def test_the_lists_of_operations_name_known_ones() -> None:
    """A renamed operation must not silently become repeatable."""
    assert set(OPERATIONS) >= calls.NOT_REPEATABLE | calls.SETTLED_BY_REPEAT
