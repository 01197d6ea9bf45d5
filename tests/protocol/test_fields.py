"""Tests of the types of fields: what each takes at its edges, and what it refuses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fortress.protocol import fields
from fortress.protocol.fields import Answer, Done, Refusal, Request, check_reference

TEXT_141 = "x" * 141


@pytest.mark.parametrize(
    ("type_", "good", "bad"),
    [
        (fields.Id, [bytes(16)], [b"", bytes(15), bytes(17)]),
        (fields.Number, [1, 2**63 - 1], [0, -1, 2**63]),
        (fields.Amount, [1, 2**63 - 1], [0, -1, 2**63]),
        (fields.Position, [0, 2**63 - 1], [-1, 2**63]),
        (fields.TimeUs, [0, 2**63 - 1], [-1, 2**63]),
        (fields.Minor, [-(2**63 - 1), 0, 2**63 - 1], [-(2**63), 2**63]),
        (fields.Currency, ["EUR"], ["", "EU", "EURO"]),
        (fields.Text140, ["", "x" * 140, "zwölf × 12"], [TEXT_141, "a\nb", "a\x00", "a\x1bb", "a\x7f", "a\x85b"]),
        (fields.Reference, ["", "x" * 140], [TEXT_141]),
        (fields.Username, ["a", "a.b-c_1", "0" * 64], ["", "A", "-a", "a b", "ä", "a" * 65]),
        (fields.Role, ["customer"], ["", "x" * 17]),
        (fields.Date, ["", "2030-01-31"], ["2030-1-31", "31.01.2030", "2030-01-31T", "2030-01-31\n"]),
        (fields.Hash, [bytes(32)], [bytes(31), bytes(33)]),
        (fields.Point, [bytes(32)], [bytes(31), bytes(33)]),
        (fields.Scalar, [bytes(32)], [bytes(31), bytes(33)]),
        (fields.Salt, [bytes(16)], [bytes(15), bytes(17)]),
        (fields.Blob, [b"", bytes(4096)], [bytes(4097)]),
        (fields.Token, ["", "x" * 2048], ["x" * 2049]),
        (fields.PageSize, [1, 1000], [0, 1001]),
        (fields.Names, [[], ["x" * 64] * 64], [["x" * 65], ["x"] * 65]),
        (fields.Numbers, [[], [1] * 1024], [[0], [1] * 1025]),
    ],
)
def test_a_type_takes_its_range_and_no_more(type_: Any, good: list[object], bad: list[object]) -> None:
    """Both edges are taken and the first value beyond each is refused."""
    decoder = msgspec.msgpack.Decoder(type_)
    for value in good:
        assert decoder.decode(msgspec.msgpack.encode(value)) == value
    for value in bad:
        with pytest.raises(msgspec.MsgspecError):
            decoder.decode(msgspec.msgpack.encode(value))


@pytest.mark.parametrize("text", ["a\nb", "\t", "\x00", "\x1b[2J", "a\u2028b", "\u202e", "\ue000"])
def test_a_reference_has_no_control_characters(text: str) -> None:
    """Line breaks, terminal escapes and marks that turn text around are refused."""
    with pytest.raises(ValueError, match=r"`\$\.reference`"):
        check_reference(text)


@pytest.mark.parametrize("text", ["", "Lunch", "naïve café × 2 — ok", "日本", "emoji 🙂"])
def test_a_reference_is_any_printable_text(text: str) -> None:
    """People write in all languages."""
    check_reference(text)


def test_requests_are_strict_and_answers_may_grow() -> None:
    """An unknown key is refused in a request and left out of an answer."""
    assert Request.__struct_config__.forbid_unknown_fields
    assert not Answer.__struct_config__.forbid_unknown_fields


def test_defaults_cost_no_bytes() -> None:
    """What has its default is not written."""
    assert msgspec.msgpack.encode(Done()) == b"\x80"
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(Refusal("no"))) == {"message": "no"}
