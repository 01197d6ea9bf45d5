"""Tests of the messages that read: bounds of pages, filters and subscriptions."""

from __future__ import annotations

import msgspec
import pytest

from fortress.protocol.reading import Consistency, EntryPush, GetTransfer, History, HistoryRow, Statement, Subscribe


@pytest.mark.parametrize(
    ("type_", "sample", "field", "bad"),
    [
        (History, {"account": 1}, "limit", 1001),
        (History, {"account": 1}, "limit", 0),
        (History, {"account": 1}, "cursor", -1),
        (History, {"account": 1}, "kinds", ["x"] * 65),
        (History, {"account": 1}, "text", "a\x00"),
        (History, {"account": 1}, "account", 0),
        (Statement, {"account": 1, "from_us": 0, "to_us": 1}, "to_us", -1),
        (Statement, {"account": 1, "from_us": 0, "to_us": 1}, "limit", 1001),
        (GetTransfer, {"id": bytes(16)}, "id", bytes(15)),
        (Consistency, {"old_size": 0}, "old_size", -1),
        (Subscribe, {}, "accounts", [1] * 1025),
        (Subscribe, {}, "accounts", [0]),
    ],
)
def test_a_field_out_of_range_is_refused(
    type_: type[msgspec.Struct], sample: dict[str, object], field: str, bad: object
) -> None:
    """The sample is taken; with one field out of range it is refused and the field is named."""
    decoder = msgspec.msgpack.Decoder(type_)
    assert decoder.decode(msgspec.msgpack.encode(sample))
    with pytest.raises(msgspec.ValidationError, match=rf"\$\.{field}"):
        decoder.decode(msgspec.msgpack.encode({**sample, field: bad}))


def test_a_push_carries_a_row_of_history() -> None:
    """A push reads back as it was written, a balance that is not known included."""
    push = EntryPush(104, HistoryRow(5, 6, bytes(16), "transfer", -7, None, 201, "x"))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(push), type=EntryPush) == push
