"""Requests that make no sense: each is refused with its own code, and the session and everybody else's live on."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import msgpack
import pytest

from bench.bank import ACCOUNTS_PER_CUSTOMER, TELLER
from fortress.client.ids import new_id
from fortress.client.link import Link
from fortress.errors import MessageInvalid, MessageTooLarge, NotAllowed, Status, UnknownOperation, refusal_code
from fortress.protocol.accounts import GetAccount
from fortress.protocol.frames import MESSAGE_SIZE_BYTES_MAX
from tests.e2e.node import Node, numbers_of

OWN, SECOND = numbers_of(2)
SOMEBODY_ELSES = numbers_of(ACCOUNTS_PER_CUSTOMER + 1)[-1]
HUGE = 2**63 - 1
ANSWER_S_MAX = 10.0


class Raw:
    """A connection on which any bytes can be sent as a message."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._last_id = 10_000

    async def send(self, message: bytes, request_id: int) -> tuple[int, dict[str, Any]]:
        """Send a message as it is, sealed in order, and give code and fields of the answer to that request."""
        future: asyncio.Future[tuple[int, dict[str, Any]]] = asyncio.get_running_loop().create_future()
        waiting = self.link._waiting
        waiting[request_id] = (lambda code, raw: future.set_result((code, msgpack.unpackb(bytes(raw)))), 1e12)
        self.link._send_message(message)
        self.link._flush()
        return await asyncio.wait_for(future, ANSWER_S_MAX)

    async def ask(self, operation: str, fields: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Send a request packed by hand."""
        self._last_id += 1
        return await self.send(msgpack.packb([self._last_id, operation, fields]), self._last_id)

    async def transfer(self, **changed: Any) -> tuple[int, dict[str, Any]]:
        """Ask for a transfer that is right but for what is changed."""
        fields = {"id": new_id(), "debit": OWN, "credit": SECOND, "amount_minor": 5, "currency": "EUR", **changed}
        return await self.ask("transfer", fields)


@pytest.fixture
async def raw(node: Node) -> AsyncIterator[Raw]:
    """Customer 0, signed in; afterwards the session must still be good, and so must another one's."""
    link, other = await node.link("customer0"), await node.link("customer1")
    try:
        yield Raw(link)
        for session in (link, other):
            account = await session.request("get_account", GetAccount(), ANSWER_S_MAX)
            assert account.balance_minor > 0
    finally:
        await link.close()
        await other.close()


NAN, INFINITY = b"\xcb" + struct.pack(">d", float("nan")), b"\xcb" + struct.pack(">d", float("inf"))


@pytest.mark.parametrize(
    "amount",
    [-1, -(2**63), 0, 1.5, 5.0, "5", b"5", True, None, [5], 2**63, 2**64 - 1],
    ids=repr,
)
async def test_what_is_no_amount_is_refused_by_its_field(raw: Raw, amount: object) -> None:
    """Negative, zero, beyond the largest, and what is no whole number at all."""
    code, answer = await raw.transfer(amount_minor=amount)
    assert code == MessageInvalid.code
    assert answer["facts"] == {"field": "amount_minor"}
    assert answer.get("retry", "never") == "never"


@pytest.mark.parametrize("number", [NAN, INFINITY], ids=["nan", "infinity"])
async def test_a_number_that_is_none_is_refused(raw: Raw, number: bytes) -> None:
    """NaN and infinity are well-formed msgpack, and no amounts."""
    fields = {"id": new_id(), "debit": OWN, "credit": SECOND, "currency": "EUR"}
    packed = b"\x93\x2a" + msgpack.packb("transfer") + b"\x85"
    packed += b"".join(msgpack.packb(key) + msgpack.packb(value) for key, value in fields.items())
    code, answer = await raw.send(packed + msgpack.packb("amount_minor") + number, 42)
    assert (code, answer["facts"]) == (MessageInvalid.code, {"field": "amount_minor"})


@pytest.mark.parametrize(
    ("changed", "status", "fact"),
    [
        ({"amount_minor": HUGE}, Status.exceeds_available, "available_minor"),
        ({"credit": OWN}, Status.accounts_must_differ, ""),
        ({"currency": "USD"}, Status.currency_unknown, ""),
        ({"currency": "eur"}, Status.currency_unknown, ""),
        ({"credit": 7}, Status.credit_account_unknown, ""),
        ({"debit": 7}, Status.debit_account_unknown, ""),
        ({"debit": SOMEBODY_ELSES}, Status.debit_account_unknown, ""),
    ],
    ids=["huge", "self", "currency", "currency-case", "payee", "payer", "somebody-elses"],
)
async def test_what_the_rules_refuse(raw: Raw, changed: dict[str, Any], status: Status, fact: str) -> None:
    """Well-formed and not possible: a refusal with its status, the same at each repeat."""
    changed = {"id": new_id(), **changed}
    code, answer = await raw.transfer(**changed)
    assert code == refusal_code(status)
    assert answer["message"]
    assert fact in answer.get("facts", {"": 0})
    assert await raw.transfer(**changed) == (code, answer)


async def test_a_huge_balance_is_refused(node: Node, raw: Raw) -> None:
    """No account can hold more than the largest number, and no counter wraps around."""
    teller = Raw(await node.link(TELLER))
    code, answer = await teller.ask(
        "deposit", {"id": new_id(), "account": OWN, "amount_minor": HUGE, "currency": "EUR"}
    )
    assert code == refusal_code(Status.balance_too_large)
    await teller.link.close()


async def test_somebody_elses_account_shows_nothing(raw: Raw) -> None:
    """An account of another customer answers as one that does not exist."""
    hidden = await raw.ask("get_account", {"number": SOMEBODY_ELSES})
    missing = await raw.ask("get_account", {"number": 7})
    assert hidden == missing
    assert hidden[0] == refusal_code(Status.account_unknown)
    for operation, fields in (("history", {"account": SOMEBODY_ELSES}), ("list_holds", {"account": SOMEBODY_ELSES})):
        code, _ = await raw.ask(operation, fields)
        assert code == refusal_code(Status.account_unknown)


async def test_an_id_used_again_for_something_else(raw: Raw) -> None:
    """The same id with other content is refused, with the same content it is the first answer again."""
    id = new_id()
    code, first = await raw.transfer(id=id)
    assert code == 0
    code, again = await raw.transfer(id=id)
    assert (code, again) == (0, {**first, "replayed": True})
    code, _ = await raw.transfer(id=id, amount_minor=6)
    assert code == refusal_code(Status.id_reused)
    code, _ = await raw.ask("hold", {"id": id, "debit": OWN, "credit": SECOND, "amount_minor": 5, "currency": "EUR",
                                     "expires_us": 4_000_000_000_000_000})  # fmt: skip
    assert code == refusal_code(Status.id_reused)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"id": b"short"}, "id"),
        ({"id": "0123456789abcdef"}, "id"),
        ({"debit": -1}, "debit"),
        ({"currency": "EURO"}, "currency"),
        ({"reference": "x" * 141}, "reference"),
        ({"reference": "a\x00b"}, "reference"),
        ({"surprise": 1}, ""),
        ({"value_date": "tomorrow"}, "value_date"),
    ],
    ids=lambda value: str(value)[:24],
)
async def test_fields_that_do_not_fit_are_named(raw: Raw, changed: dict[str, Any], field: str) -> None:
    """Length, type, shape and unknown keys."""
    code, answer = await raw.transfer(**changed)
    assert code == MessageInvalid.code
    assert answer["facts"]["field"] == field


async def test_operations_that_do_not_exist_or_are_not_for_customers(raw: Raw) -> None:
    """Each has its own code."""
    assert (await raw.ask("make_me_rich", {}))[0] == UnknownOperation.code
    assert (await raw.ask("trial_balance", {}))[0] == NotAllowed.code
    assert (await raw.ask("hello", {"versions": [1]}))[0] == MessageInvalid.code


async def test_too_many_rows_are_refused(raw: Raw) -> None:
    """A batch over the limit is refused whole."""
    rows = [[new_id(), OWN, SECOND, 1, ""] for _ in range(8191)]
    code, answer = await raw.ask("transfers", {"currency": "EUR", "rows": rows})
    assert (code, answer["facts"]["field"]) == (MessageInvalid.code, "rows")


async def test_nesting_is_refused(raw: Raw) -> None:
    """Arrays in each other are no amount."""
    nested: list[Any] = []
    for _ in range(20):
        nested = [nested]
    code, answer = await raw.transfer(amount_minor=nested)
    assert (code, answer["facts"]) == (MessageInvalid.code, {"field": "amount_minor"})


DEEP = b"\x93\x2b" + msgpack.packb("transfer") + b"\x91" * 60_000 + b"\xc0"


@pytest.mark.parametrize(
    "message",
    [b"", b"\xc1", b"\x90", b"not msgpack", msgpack.packb({"a": 1}), msgpack.packb([0, "whoami", {}]), DEEP],
    ids=["empty", "reserved", "no-fields", "text", "map", "id-0", "too-deep"],
)
async def test_what_is_no_request_ends_that_connection_with_a_reason(node: Node, message: bytes) -> None:
    """There is no request id to answer to: the last message says why, under id 0; others are not touched."""
    link, other = await node.link("customer0"), await node.link("customer1")
    code, answer = await Raw(link).send(message, 0)
    assert code == MessageInvalid.code
    assert answer["message"]
    await link.close()
    await other.request("get_account", GetAccount(), ANSWER_S_MAX)
    await other.close()


async def test_a_message_over_the_limit_ends_that_connection_with_a_reason(node: Node) -> None:
    """Two mebibytes and a byte are refused as soon as that is known."""
    link, other = await node.link("customer0"), await node.link("customer1")
    link._connection._send_size_bytes_max = 2 * MESSAGE_SIZE_BYTES_MAX
    code, _ = await Raw(link).send(bytes(MESSAGE_SIZE_BYTES_MAX + 1), 0)
    assert code == MessageTooLarge.code
    await link.close()
    await other.request("get_account", GetAccount(), ANSWER_S_MAX)
    await other.close()
