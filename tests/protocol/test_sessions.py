"""Tests of the messages of a session: lengths of what the login is made of."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fortress.protocol.sessions import Hello, KeyMaterial, LoginBegin, Register, Resume

POINT = bytes(32)
KEY: dict[str, Any] = {
    "salt": bytes(16),
    "memory_kib": 65536,
    "iterations": 3,
    "lanes": 4,
    "public": POINT,
    "signing": POINT,
    "commitment": POINT,
    "proof": POINT,
}
LOGIN = {"username": "alice", "commitment": POINT}
REGISTER = {"code": "12345678", "username": "alice", "key": KEY}


@pytest.mark.parametrize(
    ("type_", "sample", "field", "bad"),
    [
        (Hello, {"versions": [1]}, "versions", []),
        (Hello, {"versions": [1]}, "versions", [0]),
        (Hello, {"versions": [1]}, "versions", [1] * 17),
        (Hello, {"versions": [1]}, "agent", "a\x1b"),
        (LoginBegin, LOGIN, "username", "Alice"),
        (LoginBegin, LOGIN, "username", "a" * 65),
        (LoginBegin, LOGIN, "commitment", bytes(31)),
        (Resume, {"token": "x"}, "token", "x" * 2049),
        (Register, REGISTER, "code", "short"),
        (Register, REGISTER, "code", "x" * 65),
        (Register, REGISTER, "name", "a\nb"),
        (Register, REGISTER, "key", {**KEY, "more": 1}),
        (KeyMaterial, KEY, "salt", bytes(15)),
        (KeyMaterial, KEY, "memory_kib", 4_194_305),
        (KeyMaterial, KEY, "iterations", 65),
        (KeyMaterial, KEY, "lanes", -1),
        (KeyMaterial, KEY, "proof", bytes(33)),
    ],
)
def test_a_field_out_of_range_is_refused(type_: type[msgspec.Struct], sample: Any, field: str, bad: object) -> None:
    """The sample is taken; with one field out of range it is refused and the field is named."""
    decoder = msgspec.msgpack.Decoder(type_)
    assert decoder.decode(msgspec.msgpack.encode(sample))
    with pytest.raises(msgspec.MsgspecError, match=rf"\$\.{field}"):
        decoder.decode(msgspec.msgpack.encode({**sample, field: bad}))
