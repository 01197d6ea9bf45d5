"""Every operation has one handler; what is wrong with a request is answered and costs nobody else anything."""

from __future__ import annotations

import logging

import msgspec
import pytest

from fortress.errors import (
    Busy,
    LedgerError,
    LocalProtocolError,
    MessageInvalid,
    NotAllowed,
    Refused,
    Status,
    UnknownOperation,
)
from fortress.protocol.accounts import GetAccount, GetProfile, ListAccounts
from fortress.protocol.messages import OPERATIONS, encode_request
from fortress.protocol.money import Deposit, Transfer
from fortress.protocol.reading import Head
from fortress.protocol.sessions import Whoami
from fortress.server.handlers import SESSION_OPERATIONS, Dispatcher, Handler, hot, plain
from tests.server.world import Client, connected, opened, running

ID = bytes(range(16))
TRANSFER = Transfer(ID, 1, 2, 100, "EUR")
encode = msgspec.msgpack.encode


async def test_every_operation_has_exactly_one_handler() -> None:
    """A missing, doubled, unknown or empty one is noticed at the start."""
    async with running() as world:
        whole = world.handlers()
        for broken in (whole[1:], [*whole, whole[0]], [*whole[1:], plain("dance", world.done)]):
            with pytest.raises(LocalProtocolError):
                Dispatcher(world.node, broken)
        with pytest.raises(LocalProtocolError, match="no function"):
            Dispatcher(world.node, [Handler(whole[0].operation), *whole[1:]])


def test_operations_of_the_session_exist() -> None:
    """The list of what is no task names real operations."""
    assert SESSION_OPERATIONS < OPERATIONS.keys()


async def test_roles_decide_what_may_be_asked() -> None:
    """A customer does not pay cash in; the answer says who does."""
    async with running() as world, connected(world, "alice") as alice, connected(world, "tess") as tess:
        deposit = Deposit(ID, 1, 100, "EUR")
        with pytest.raises(NotAllowed) as caught:
            await alice.request("deposit", deposit)
        assert caught.value.facts == {"roles": "teller, administrator"}
        assert (await tess.request("deposit", deposit)).balance_minor == 3


async def test_answers_of_plain_and_hot_handlers_arrive() -> None:
    """At once, after waiting, and refused."""
    async with running() as world, connected(world, "alice") as client:
        assert (await client.request("list_accounts", ListAccounts())).accounts == []
        with pytest.raises(Refused) as caught:
            await client.request("get_account", GetAccount())
        assert (caught.value.status, caught.value.facts) == (Status.account_unknown, {"account": 5})


@pytest.mark.parametrize(("operation", "request_"), [("get_profile", GetProfile()), ("head", Head())])
async def test_a_fault_in_a_handler_shows_nothing_and_ends_nothing(
    operation: str, request_: GetProfile | Head, caplog: pytest.LogCaptureFixture
) -> None:
    """The peer hears that the log knows; the log has the request's id and where it happened."""
    async with running() as world, connected(world, "alice") as client:
        with caplog.at_level(logging.ERROR, "fortress"), pytest.raises(LedgerError) as caught:
            await client.request(operation, request_)
        assert "planted" not in caught.value.message
        await client.request("whoami", Whoami())
    [line] = [each for each in caplog.records if each.getMessage() == "request failed"]
    assert line.__dict__["fields"]["request"] == 4
    assert line.exc_info is not None


async def test_requests_over_the_limit_are_busy() -> None:
    """Those under way are answered all the same, and then there is room again."""
    async with running(outstanding_max=3) as world, connected(world, "alice") as client:
        ids = [client.send("transfer", TRANSFER) for _ in range(5)]
        refused = [await client.receive(), await client.receive()]
        assert [envelope.request_id for envelope in refused] == ids[3:]
        for envelope in refused:
            with pytest.raises(Busy):
                opened("transfer", envelope)
        world.release()
        answered = [await client.receive() for _ in range(3)]
        assert [envelope.request_id for envelope in answered] == ids[:3]
        await client.request("whoami", Whoami())


async def test_a_request_id_under_way_is_not_taken_twice() -> None:
    """The first keeps its place in the limit and its answer."""
    async with running() as world, connected(world, "alice") as client:
        client.send("transfer", TRANSFER, request_id=77)
        client.send("transfer", TRANSFER, request_id=77)
        with pytest.raises(MessageInvalid, match="under way"):
            opened("transfer", await client.receive())
        world.release()
        assert opened("transfer", await client.receive()).position == 1
        assert len(world.held) == 0


async def test_an_unknown_operation_is_told() -> None:
    """The connection lives on, and what the peer called it is in no counter."""
    async with running() as world, connected(world, "alice") as client:
        client.send_raw(encode((70, "dance", {})))
        with pytest.raises(UnknownOperation):
            opened("hello", await client.receive())
        await client.request("whoami", Whoami())
        requests = world.server.snapshot()["requests"]
        assert isinstance(requests, dict)
        assert requests[("unknown", "unknown_operation")] == 1
        assert not any("dance" in key for key in requests)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"number": -1}, "number"),
        ({"number": 1.5}, "number"),
        ({"number": "1"}, "number"),
        ({"number": float("nan")}, "number"),
        ({"number": 2**63}, "number"),
        ({"numbers": 1}, ""),
        ([], ""),
    ],
)
async def test_wrong_fields_are_named(fields: object, field: str) -> None:
    """Range, type, name: the answer says which field."""
    async with running() as world, connected(world, "alice") as client:
        client.send_raw(encode((5, "get_account", fields)))
        with pytest.raises(MessageInvalid) as caught:
            opened("get_account", await client.receive())
        assert caught.value.facts == {"field": field}
        await client.request("whoami", Whoami())


@pytest.mark.parametrize(
    "message",
    [encode((9, "x" * 40, {})), encode((9, 5, {})), encode((9, None, None)), encode((9, "", {}))],
)
async def test_a_request_with_a_readable_id_is_answered(message: bytes) -> None:
    """However wrong the rest is."""
    async with running() as world, connected(world, "alice") as client:
        client.send_raw(message)
        envelope = await client.receive()
        assert (envelope.request_id, envelope.code) == (9, MessageInvalid.code)
        await client.request("whoami", Whoami())


NO_REQUESTS = [b"", b"\xc1", b"\x00", b"\x91" * 3000, b"\xc7\x01"]
WITHOUT_ID = [encode([]), encode((0, "hello", {})), encode((-1, "hello", {}))]


@pytest.mark.parametrize("message", NO_REQUESTS + WITHOUT_ID)
async def test_what_is_no_request_ends_its_connection_alone(message: bytes) -> None:
    """With an error under id 0 that says why; others are not disturbed."""
    async with running() as world, connected(world, "alice") as other:
        client = await Client(world, "bank-a").open()
        await client.hello()
        client.send_raw(message)
        envelope = await client.receive()
        assert (envelope.request_id, envelope.code) == (0, MessageInvalid.code)
        await client.wait_end()
        assert client.core.peer_closed
        await client.close()
        await other.request("whoami", Whoami())
        assert world.statistics.sessions_ended == {"message_invalid": 1}


async def test_requests_that_come_together_are_answered_together() -> None:
    """A read pass ends with one write for all its answers."""
    async with running() as world, connected(world, "tess") as client:
        for number in range(50):
            client.core.send_message(encode_request(1000 + number, "deposit", Deposit(ID, 1, 100, "EUR")))
        client.flush()
        answers = [await client.receive() for _ in range(50)]
        assert [envelope.request_id for envelope in answers] == list(range(1000, 1050))


async def test_a_hot_handler_may_go_on_in_a_task() -> None:
    """When it finds that it has to wait after all."""
    async with running() as world:

        def handle(node: object, session: object, request_id: int, request: object) -> None:
            dispatcher.start(world.no_accounts, session, request_id, request)

        handlers = [h for h in world.handlers() if h.operation != "list_accounts"]
        dispatcher = Dispatcher(world.node, [*handlers, hot("list_accounts", handle)])
        world.server.dispatcher = dispatcher
        async with connected(world, "alice") as client:
            assert (await client.request("list_accounts", ListAccounts())).accounts == []
            await dispatcher.wait_idle()
