"""What the two nodes say to each other survives the way, and forms of neighbouring versions are understood."""

from __future__ import annotations

import msgspec
import pytest

from fortress.pair import messages
from fortress.pair.messages import Ack, Append, Mark, Member, Nack, Shipped, decode, encode

MEMBER = Member("node-1", bytes(16))


@pytest.mark.parametrize(
    "message",
    [
        Append(3, Mark(1, bytes(32)), (Shipped(Mark(2, bytes(32)), b"record"),), 1, 55),
        Ack(3, MEMBER, Mark(2, bytes(32)), 1, 55),
        Nack(3, "mismatch", Mark()),
        messages.Located(1, None),
        messages.Keys(1, ((b"handle", None), (b"other", b"key")), 7),
        messages.SnapshotBegin(1, Mark(), {"ledger.db": 4096}),
    ],
)
def test_a_message_survives_the_way(message: messages.Message) -> None:
    """Encoding and decoding give the same message."""
    assert decode(encode(message)) == message


def test_a_field_of_a_later_version_is_skipped() -> None:
    """A message with one field more than this version knows is taken without it."""
    later = [*msgspec.msgpack.decode(encode(Nack(3, "stale", Mark()))), "news"]
    assert decode(msgspec.msgpack.encode(later)) == Nack(3, "stale", Mark())


def test_a_field_that_an_earlier_version_lacks_has_its_default() -> None:
    """A heartbeat without the time it was sent is one sent at no known time."""
    earlier = msgspec.msgpack.decode(encode(Append(3, Mark(), (), 0, 55, 66)))[:-2]
    assert decode(msgspec.msgpack.encode(earlier)) == Append(3, Mark(), (), 0, 0)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x91\xa5other", encode(Nack(1, "stale", Mark()))[:-3]])
def test_what_is_no_message_is_an_error(data: bytes) -> None:
    """Garbage is refused by the decoder."""
    with pytest.raises(msgspec.DecodeError):
        decode(data)
