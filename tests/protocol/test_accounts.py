"""Tests of the messages about people and accounts: what contact data may hold."""

from __future__ import annotations

import msgspec
import pytest

from fortress.protocol.accounts import ListAccounts, OpenAccount, Profile, Resolve, SetProfile


def decode(type_: type[msgspec.Struct], fields: object) -> object:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=type_)


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"name": "Zoë O'Neil", "email": "zoe@example.org", "phone": "+49 (0)30 / 123-4.5", "address": "Way 1\nTown"},
        {"name": "x" * 140, "email": "x" * 254, "phone": "1" * 32, "address": "x" * 500},
    ],
)
def test_contact_data_as_people_have_it_is_taken(profile: dict[str, str]) -> None:
    """Names of all languages, addresses of several lines, and each field at its longest."""
    assert decode(SetProfile, {"profile": profile}) == SetProfile(Profile(**profile))


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("name", "x" * 141),
        ("name", "a\nb"),
        ("email", "a b@example.org"),
        ("email", "a\r\nBcc: b"),
        ("email", "x" * 255),
        ("phone", "call me"),
        ("phone", "1" * 33),
        ("address", "a\tb"),
        ("address", "a\x1b[0m"),
        ("address", "x" * 501),
        ("birthday", "1.1.2000"),
    ],
)
def test_contact_data_that_could_do_harm_is_refused(field: str, bad: str) -> None:
    """Controls, injected lines, overlong text and unknown fields."""
    with pytest.raises(msgspec.ValidationError, match=field if field == "birthday" else rf"\$\.profile\.{field}"):
        decode(SetProfile, {"profile": {field: bad}})


@pytest.mark.parametrize(
    ("type_", "fields"),
    [
        (OpenAccount, {"id": bytes(16), "currency": "EURO"}),
        (OpenAccount, {"id": bytes(16), "currency": "EUR", "kind": "x" * 17}),
        (Resolve, {"payee": ""}),
        (Resolve, {"payee": "x" * 98}),
        (ListAccounts, {"limit": 1001}),
        (ListAccounts, {"all": 1}),
    ],
)
def test_a_field_out_of_range_is_refused(type_: type[msgspec.Struct], fields: dict[str, object]) -> None:
    """Lengths and ranges hold."""
    with pytest.raises(msgspec.ValidationError):
        decode(type_, fields)
