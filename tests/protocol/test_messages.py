"""Tests of the messages: every operation goes there and back, and nothing but what it takes comes through."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fortress.errors import Busy, MessageInvalid, Refused, Status, UnknownOperation, error_from_wire, refusal_code
from fortress.protocol import messages
from fortress.protocol.accounts import GetAccount
from fortress.protocol.administration import StatusRequest
from fortress.protocol.fields import Done, Refusal, Request
from fortress.protocol.messages import OPERATIONS
from fortress.protocol.money import GetHold, TransferAnswer
from fortress.protocol.sessions import Resume

ID = bytes(range(16))
POINT, SALT = bytes(32), bytes(16)
KEY = {
    "salt": SALT,
    "memory_kib": 65536,
    "iterations": 3,
    "lanes": 4,
    "public": POINT,
    "signing": POINT,
    "commitment": POINT,
    "proof": POINT,
}
AGE = {"min_position": 8, "stale_ms_max": 500}
MOVE = {"id": ID, "amount_minor": 500, "currency": "EUR", "reference": "Lunch at noon: 2 × soup"}

# operation -> fields, each with everything that it takes
SAMPLES: dict[str, dict[str, Any]] = {
    "hello": {"versions": [1], "features": ["x"], "agent": "test"},
    "login_begin": {"username": "alice", "commitment": POINT},
    "login_finish": {"proof": POINT},
    "resume": {"token": "abc", "stale_ms_max": 500},
    "register": {"code": "12345678", "username": "alice", "key": KEY, "name": "Alice"},
    "status": {},
    "renew": {},
    "logout": {},
    "whoami": {},
    "sessions": {},
    "end_session": {"session": ID},
    "change_key_begin": {},
    "change_key": {"key": KEY, "commitment": POINT, "proof": POINT},
    "set_profile": {"profile": {"name": "Alice", "email": "a@example.org", "phone": "+49 (0) 1", "address": "x\ny"}},
    "get_profile": {"username": "bob"},
    "open_account": {"id": ID, "currency": "EUR", "username": "bob", "kind": "cash"},
    "get_account": {"number": 104, "min_position": 9, "as_of_us": 7, "stale_ms_max": 500},
    "list_accounts": {"username": "bob", "all": True, "after": 3, "limit": 1000, **AGE},
    "resolve": {"payee": "bob", "currency": "EUR"},
    "deposit": {**MOVE, "account": 104},
    "withdraw": {**MOVE, "account": 104},
    "transfer": {**MOVE, "debit": 104, "credit": 201, "value_date": "2030-01-31", "order_signature": bytes(64)},
    "transfers": {"currency": "EUR", "rows": [[ID, 104, 201, 5, "a"], [ID, 104, 201, 5]], "atomic": True},
    "hold": {**MOVE, "debit": 104, "credit": 201, "expires_us": 12},
    "post": {"id": ID, "amount_minor": 3},
    "void": {"id": ID},
    "get_hold": {"id": ID},
    "list_holds": {"account": 104, **AGE},
    "reverse": {"id": ID, "original": ID, "amount_minor": 3, "reference": "wrong"},
    "history": {
        "account": 104,
        "cursor": 5,
        "limit": 10,
        "kinds": ["transfer"],
        "from_us": 1,
        "to_us": 2,
        "amount_min_minor": 1,
        "amount_max_minor": 2,
        "counterparty": 201,
        "text": "x",
        "as_of_us": 3,
        "min_position": 4,
        "stale_ms_max": 500,
    },
    "statement": {"account": 104, "from_us": 1, "to_us": 2, "cursor": 3, "limit": 4, **AGE},
    "get_transfer": {"id": ID},
    "receipt": {"id": ID, "position": 3},
    "head": {},
    "consistency": {"old_size": 3},
    "subscribe": {"accounts": [104], "from_position": 2},
    "unsubscribe": {},
    "invite": {"id": ID, "role": "teller", "valid_s": 60},
    "create_user": {"id": ID, "username": "bob", "key": KEY, "roles": ["customer"], "profile": {"name": "Bob"}},
    "get_user": {"username": "bob"},
    "list_users": {"after": 1, "limit": 2},
    "set_role": {"id": ID, "username": "bob", "roles": ["teller"]},
    "lock": {"username": "bob", "until_us": 3},
    "unlock": {"username": "bob"},
    "erase": {"id": ID, "username": "bob"},
    "set_limits": {
        "id": ID,
        "account": 104,
        "floor_minor": -5,
        "payment_minor": 1,
        "day_minor": 2,
        "month_minor": 3,
        "signed_orders_only": True,
    },
    "freeze": {"account": 104, "debits_only": True},
    "unfreeze": {"account": 104},
    "close_account": {"account": 104},
    "reopen": {"account": 104},
    "approve": {"approval": ID, "decline": True},
    "list_approvals": {},
    "trail": {"cursor": 1, "limit": 2},
    "trial_balance": {},
    "pay": {
        **MOVE,
        "payee": "harbour/1000195",
        "debit": 104,
        "not_after_us": 9,
        "order_signature": bytes(64),
    },
    "payment": {"id": ID, "everywhere": True},
    "payments": {"in_doubt": True, "cursor": 5, "limit": 10},
    "resolve_payment": {"id": ID, "payment": ID, "act": "abort"},
    "banks": {},
    "add_bank": {"id": ID, "bank": "harbour", "currency": "EUR", "cap_minor": 5, "authority": "PEM"},
    "suspend_bank": {"id": ID, "bank": "harbour", "resume": True},
    "positions": {},
    "windows": {"limit": 5},
    "window": {"number": 3},
    "close_window": {"id": ID},
}


def wire(operation: str, fields: Any, request_id: Any = 1) -> bytes:
    """Make a request with the independent msgpack library, whatever is in it."""
    return msgpack.packb([request_id, operation, fields])


def decode(data: bytes) -> Request:
    return messages.decode_request(messages.decode_envelope(data))


def test_every_operation_has_a_sample() -> None:
    """The table of operations and the samples here do not drift apart."""
    assert set(SAMPLES) == set(OPERATIONS)


@pytest.mark.parametrize("operation", SAMPLES)
def test_a_request_goes_there_and_back(operation: str) -> None:
    """What another msgpack library writes is read, and written again it says the same."""
    request = decode(wire(operation, SAMPLES[operation]))
    assert type(request) is OPERATIONS[operation].request
    encoded = messages.encode_request(1, operation, request)
    assert decode(encoded) == request
    assert msgpack.unpackb(encoded)[:2] == [1, operation]


@pytest.mark.parametrize("operation", SAMPLES)
def test_all_fields_of_a_sample_are_kept(operation: str) -> None:
    """No field of the request is missing in its sample, and none is lost on the way."""
    assert set(OPERATIONS[operation].request.__struct_fields__) == set(SAMPLES[operation])
    request = decode(wire(operation, SAMPLES[operation]))
    for name, value in SAMPLES[operation].items():
        if not isinstance(value, dict | list):
            assert getattr(request, name) == value


@pytest.mark.parametrize("operation", SAMPLES)
def test_an_unknown_key_is_refused(operation: str) -> None:
    """A key that the operation does not have may be a mistake about money; it is never ignored."""
    with pytest.raises(MessageInvalid, match="unknown field `amuont_minor`"):
        decode(wire(operation, {**SAMPLES[operation], "amuont_minor": 1}))


@pytest.mark.parametrize("operation", [name for name in SAMPLES if SAMPLES[name]])
def test_a_field_of_another_type_is_refused(operation: str) -> None:
    """Each field refuses a value of a type that it never has."""
    for name in SAMPLES[operation]:
        with pytest.raises(MessageInvalid) as caught:
            decode(wire(operation, {**SAMPLES[operation], name: 1.5}))
        assert caught.value.facts["field"] == name


@pytest.mark.parametrize("value", [1.0, 500.0, math.nan, math.inf, -math.inf, "500", True, None, [500], b"5"])
def test_a_sum_is_a_whole_number(value: object) -> None:
    """Floats are refused even when they are whole, and so is text that looks like a number."""
    with pytest.raises(MessageInvalid) as caught:
        decode(wire("transfer", {**SAMPLES["transfer"], "amount_minor": value}))
    assert caught.value.facts["field"] == "amount_minor"


@pytest.mark.parametrize("value", [0, -1, -(2**63), 2**63, 2**64 - 1])
def test_a_sum_is_in_range(value: int) -> None:
    """Nothing below one minor unit and nothing above what the ledger can keep."""
    with pytest.raises(MessageInvalid) as caught:
        decode(wire("transfer", {**SAMPLES["transfer"], "amount_minor": value}))
    assert caught.value.facts["field"] == "amount_minor"


@given(st.integers(1, 2**63 - 1))
def test_every_sum_in_range_is_kept_exactly(value: int) -> None:
    """No digit is lost."""
    request = decode(wire("transfer", {**SAMPLES["transfer"], "amount_minor": value}))
    assert getattr(request, "amount_minor") == value  # noqa: B009


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ([ID, 104, 201, 0], "rows[1][3]"),
        ([ID, 104, 201, 1.5], "rows[1][3]"),
        ([ID[:15], 104, 201, 5], "rows[1][0]"),
        ([ID, 104, 201, 5, "a\nb"], "rows[1]"),
        ([ID, 104, 201, 5, "a", "more"], ""),
        ([ID, 104], ""),
    ],
)
def test_a_bad_row_of_a_batch_is_refused(row: list[object], place: str) -> None:
    """A batch with one bad row is no batch; the place is named."""
    with pytest.raises(MessageInvalid) as caught:
        decode(wire("transfers", {"currency": "EUR", "rows": [SAMPLES["transfers"]["rows"][0], row]}))
    assert place in str(caught.value.facts["field"])


@pytest.mark.parametrize("count", [0, 8191])
def test_a_batch_has_one_to_8190_rows(count: int) -> None:
    """An empty batch and one too large are refused; the largest is taken."""
    rows = SAMPLES["transfers"]["rows"][:1]
    assert decode(wire("transfers", {"currency": "EUR", "rows": rows * 8190}))
    with pytest.raises(MessageInvalid) as caught:
        decode(wire("transfers", {"currency": "EUR", "rows": rows * count}))
    assert caught.value.facts["field"] == "rows"


@pytest.mark.parametrize("operation", ["", "x" * 33])
def test_an_operation_has_a_name(operation: str) -> None:
    """No name, or one too long for any operation, is no request."""
    with pytest.raises(MessageInvalid):
        messages.decode_envelope(wire(operation, {}))


def test_an_unknown_operation_is_told_apart() -> None:
    """The connection can go on: the request has an id to answer to."""
    envelope = messages.decode_envelope(wire("make_me_rich", {}, 7))
    assert envelope.request_id == 7
    with pytest.raises(UnknownOperation, match="make_me_rich"):
        messages.decode_request(envelope)


@pytest.mark.parametrize("request_id", [0, -1, 2**63, 1.0, "1", None])
def test_a_request_id_is_a_positive_number(request_id: object) -> None:
    """Number 0 is the bank's own, for pushes."""
    with pytest.raises(MessageInvalid):
        messages.decode_envelope(wire("head", {}, request_id))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        wire("head", {}) + b"\x00",
        wire("head", {})[:-1],
        msgpack.packb([1, "head"]),
        msgpack.packb([1, "head", {}, 4]),
        msgpack.packb({"request_id": 1}),
        msgpack.packb([1, b"\xff", {}]),
        b"\x93\x01\xa2\xff\xfe\x80",
    ],
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    """Nothing, trailing bytes, a cut message, another shape, text that is no UTF-8."""
    with pytest.raises(MessageInvalid):
        messages.decode_envelope(data)


@pytest.mark.parametrize("fields", [[], None, 5, [ID], msgpack.ExtType(1, b"x"), {"x": msgpack.ExtType(1, b"x")}])
def test_fields_are_a_map(fields: object) -> None:
    """An array, nothing, or an extension type in place of the map is refused."""
    with pytest.raises(MessageInvalid):
        decode(wire("void", fields))


@pytest.mark.parametrize("depth", [9, 2000, 50_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    """Nesting is refused with an error and never with a crash, wherever it stands."""
    deep = b"\x91" * depth + b"\xc0"
    for data in (deep, b"\x93\x01\xa4head" + deep, b"\x93\x01\xa4head\x81\xa1x" + deep):
        with pytest.raises(MessageInvalid):
            decode(data)


def test_duplicate_keys_cannot_say_two_things() -> None:
    """The last one counts for everything, since only one value ever leaves the decoder."""
    data = b"\x93\x01\xa4void\x82\xa2id\xc4\x10" + ID + b"\xa2id\xc4\x10" + bytes(16)
    assert decode(data) == decode(wire("void", {"id": bytes(16)}))


@given(st.binary(max_size=200))
def test_noise_is_refused_or_read_but_never_breaks(data: bytes) -> None:
    """Whatever comes, the decoder gives a request or one of its own errors."""
    try:
        decode(data)
    except (MessageInvalid, UnknownOperation):
        return


VALUES = st.recursive(st.none() | st.integers(-5, 5) | st.text(), st.lists, max_leaves=5)


@given(st.sampled_from(sorted(SAMPLES)), VALUES)
def test_any_value_in_any_operation_never_breaks(operation: str, value: object) -> None:
    """A valid request with one field replaced by anything is read or refused."""
    for name in SAMPLES[operation]:
        try:
            decode(wire(operation, {**SAMPLES[operation], name: value}))
        except MessageInvalid as error:
            assert operation in error.message


def test_an_answer_goes_there_and_back() -> None:
    """An answer carries its request's id and the code 0, and reads as its type."""
    answer = TransferAnswer(position=5, time_us=6, balance_minor=-7, replayed=True)
    envelope = messages.decode_answer_envelope(messages.encode_answer(9, answer))
    assert (envelope.request_id, envelope.code) == (9, 0)
    assert messages.decode_fields(TransferAnswer, envelope.fields) == answer


def test_an_answer_may_grow() -> None:
    """An older client leaves out keys that it does not know."""
    raw = msgspec.Raw(msgpack.packb({"position": 4, "colour": "red"}))
    assert messages.decode_fields(Done, raw) == Done(position=4)


def test_a_refusal_keeps_status_and_facts() -> None:
    """A refusal goes over the wire and is the same error on the other side."""
    refusal = Refused(Status.exceeds_available, {"available_minor": 5})
    data = messages.encode_error(3, refusal, refusal_code(refusal.status))
    envelope = messages.decode_answer_envelope(data)
    fields = messages.decode_fields(Refusal, envelope.fields)
    assert isinstance(envelope.code, int)
    again = error_from_wire(envelope.code, fields.message, fields.facts)
    assert isinstance(again, Refused)
    assert (again.status, again.facts, fields.retry) == (refusal.status, refusal.facts, "new_id")


def test_an_error_carries_its_own_code() -> None:
    """Without a code of its own an error has that of its class."""
    assert messages.decode_answer_envelope(messages.encode_error(3, Busy())).code == Busy.code


def test_a_push_has_a_topic_in_place_of_the_code() -> None:
    """A push answers no request, so its id is 0."""
    envelope = messages.decode_answer_envelope(messages.encode_push("entry", Done()))
    assert (envelope.request_id, envelope.code) == (0, "entry")


@pytest.mark.parametrize("data", [b"", b"\x90", msgpack.packb([1, 1.5, {}]), b"\x91" * 5000])
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    """A client does not trust a bank's bytes either."""
    with pytest.raises(MessageInvalid, match="not an answer"):
        messages.decode_answer_envelope(data)


def test_fields_of_another_answer_are_refused() -> None:
    """The error names the type and the field."""
    with pytest.raises(MessageInvalid, match="TransferAnswer") as caught:
        messages.decode_fields(TransferAnswer, msgspec.Raw(msgpack.packb({"position": "5"})))
    assert caught.value.facts["field"] == "position"


@pytest.mark.parametrize(
    ("operation", "fields", "answers"),
    [
        ("status", StatusRequest(), True),
        ("get_account", GetAccount(stale_ms_max=100), True),
        ("get_account", GetAccount(stale_ms_max=99), False),
        ("get_account", GetAccount(), False),
        ("resume", Resume("x", 100), True),
        ("resume", Resume("x"), False),
        ("get_hold", GetHold(ID), False),
    ],
)
def test_a_standby_answers_those_who_ask_for_old_answers(operation: str, fields: Request, answers: bool) -> None:
    """A standby 100 ms old: whoever takes answers of that age gets one, everybody else is sent to the primary."""
    assert messages.is_for_standby(operation, fields, 100) is answers


def test_what_a_standby_may_read_says_how_old_it_is() -> None:
    """Each read that takes an age also takes a position, and its answer tells its age."""
    rows = [row for row in OPERATIONS.values() if "stale_ms_max" in row.request.__struct_fields__]
    reads = {row for row in rows if row.name != "resume"}
    assert {row.name for row in reads} == {"get_account", "list_accounts", "history", "statement", "list_holds"}
    for row in reads:
        assert not row.writes
        assert "min_position" in row.request.__struct_fields__
        assert "stale_ms" in row.answer.__struct_fields__
