"""Tests of requests that survive: what is repeated, what is not, and what the caller hears when time is up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from fortress.client import attempts, calls
from fortress.client import link as links
from fortress.client import route as routes
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
from fortress.protocol.accounts import AccountsAnswer, Profile
from fortress.protocol.administration import StatusAnswer
from fortress.protocol.fields import Done
from fortress.protocol.messages import OPERATIONS
from fortress.protocol.money import TransferAnswer
from fortress.protocol.reading import HistoryRow
from tests.client.conftest import ALICE_SEED
from tests.client.fake_bank import Books, Credentials, FakeNode, FakeSession


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


@pytest.mark.parametrize("fault", ["no_primary", "silent"])
async def test_a_node_that_does_not_serve_is_left_for_the_other(
    paired: Me, node: FakeNode, other: FakeNode, books: Books, fault: str
) -> None:
    """It says that nobody is primary, or takes the request and never answers it."""
    node.faults["transfer"] = [fault]
    await paired.transfer(100, 101, "1 EUR")
    assert "transfer" in other.asked
    assert books.balances[101] == 100


async def test_a_busy_node_is_asked_twice_and_then_the_other(paired: Me, node: FakeNode, other: FakeNode) -> None:
    """Once is load; twice may be a primary that waits for what the other node has."""
    node.faults["transfer"] = ["busy"]
    await paired.transfer(100, 101, "1 EUR")
    assert "transfer" not in other.asked
    node.faults["transfer"] = ["busy", "busy"]
    await paired.transfer(100, 101, "1 EUR")
    assert "transfer" in other.asked


async def test_the_way_shown_is_gone_at_once(
    paired: Me, node: FakeNode, other: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a wait, so a switch-over costs a connection and no more."""
    monkeypatch.setattr(attempts, "WAIT_S_MIN", 60.0)
    node.follow(other)
    await paired.transfer(100, 101, "1 EUR")
    assert other.asked[-1] == "transfer"


async def test_a_stopped_node_is_left_and_what_it_took_is_repeated(
    paired: Me, node: FakeNode, other: FakeNode, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process stands still with everything outstanding; the other node, once it has taken over, does it, once."""
    monkeypatch.setattr(links, "SILENCE_S", 0.15)
    monkeypatch.setattr(routes, "OPEN_S_MAX", 0.1)
    paired._calls.timeout_s = 60.0
    other.follow(node)
    await paired.transfer(100, 101, "1 EUR")
    await node.stall()
    payments = [asyncio.create_task(paired.transfer(100, 101, "1 EUR")) for _ in range(20)]
    async with asyncio.timeout(10):
        while "resume" not in other.asked:
            await asyncio.sleep(0.01)
    other.lead()
    assert len({payment.id for payment in await asyncio.gather(*payments)}) == 20
    assert books.balances[101] == 2_100
    assert other.asked.count("login_begin") == 0


async def test_all_requests_share_one_reconnect(paired: Me, node: FakeNode, other: FakeNode) -> None:
    """A hundred requests of one client are one connection and one resumed session at the other node."""
    await node.stop()
    await asyncio.gather(*(paired.transfer(100, 101, "1 EUR") for _ in range(100)))
    assert (other.asked.count("hello"), other.asked.count("resume")) == (1, 1)


async def test_a_standby_is_not_read_unasked(
    paired: Me, node: FakeNode, other: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that says that it may be old is not taken for the primary's."""
    node.stale_ms = 5
    monkeypatch.setattr(FakeSession, "check_role", lambda self, name, fields: None)  # it serves everybody
    balance = await paired.balance()
    assert balance.stale_ms == 0
    assert "get_account" in node.asked
    assert "get_account" in other.asked


async def test_no_read_is_older_than_what_the_client_has_seen(paired: Me, node: FakeNode, other: FakeNode) -> None:
    """Whatever told the position: a payment, a list, a head, a push."""
    calls_ = paired._calls
    for answer, position in (
        (TransferAnswer(7, 0, 0), 7),
        (AccountsAnswer([]), 7),
        (node.books.head("a"), 7),
        (Done(9), 9),
        (StatusAnswer("a", "x", "primary", 1, 1, 500, 1, 1, 1, 1.0, ""), 9),
        (HistoryRow(12, 0, b"", "transfer", 1, 1, 1, ""), 12),
    ):
        calls_.note_position(answer)
        assert calls_.position == position


async def test_a_deadline_holds_also_while_no_node_lets_one_in(paired: Me, node: FakeNode, other: FakeNode) -> None:
    """Connecting takes no longer than the caller waits, and what may have been done is not called undone."""
    paired._calls.deadline_s = 0.4
    node.faults["transfer"] = ["cut_after"]
    node.faults["hello"] = other.faults["hello"] = ["silent"] * 50
    started = asyncio.get_running_loop().time()
    with pytest.raises(OutcomeUnknown):
        await paired.transfer(100, 101, "1 EUR")
    assert asyncio.get_running_loop().time() - started < 5
    with pytest.raises(Unreachable):
        await paired.transfer(100, 101, "1 EUR")


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
    client._calls.deadline_s = 1.0
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


async def test_a_repeat_that_finds_another_state_stays_unknown(alice: Me, node: FakeNode, books: Books) -> None:
    """The conflict may be older than the lost try, or somebody came in between; so it does if nobody can look."""
    books.states[100] = "frozen"
    node.faults["freeze"] = ["cut_before"]
    with pytest.raises(OutcomeUnknown):
        await alice.administration.freeze(100, debits_only=True)
    node.faults["freeze"] = ["cut_before"]
    with pytest.raises(OutcomeUnknown):
        await alice.administration.freeze(555)


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
    with pytest.raises(Unreachable):
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
    named = {*attempts.NOT_REPEATABLE, *attempts.SETTLED_BY_REPEAT, *(name for name, _ in attempts.INCONCLUSIVE)}
    assert set(OPERATIONS) >= named
