"""What a bank and its gateway say survives the way, and what is out of bounds is refused when it is read."""

from __future__ import annotations

import msgspec
import pytest

from fortress.gateway import messages
from fortress.gateway.messages import decode, encode

ID = b"0123456789abcdef"
SUBMIT = messages.Submit(ID, 1000188, "b", 1000285, 500, "EUR", "rent")


@pytest.mark.parametrize(
    "message",
    [
        messages.Register("a", "node-1", 3, "127.0.0.1:7600"),
        messages.Registered("gateway", 4, ("EUR", "USD")),
        messages.Rejected(3001, "not primary", "127.0.0.1:7601"),
        messages.Directory((messages.BankState("a", "active", is_connected=True, addresses=("127.0.0.1:7600",)),)),
        messages.Ping(55),
        SUBMIT,
        messages.Prepare(ID, "a", 1000188, 1000285, 500, "EUR", ""),
        messages.Vote(ID, 9),
        messages.Outcome(ID, 77),
        messages.Acknowledge(ID),
        messages.Inquire((ID, bytes(16))),
        messages.Ask(1, "resolve", msgspec.Raw(msgspec.msgpack.encode(["ines"]))),
        messages.Answer(1, 0, msgspec.Raw(msgspec.msgpack.encode(["Ines"]))),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_survives_the_way(message: messages.Message) -> None:
    """Encoding and decoding give the same message, also what is raw inside."""
    assert encode(decode(encode(message))) == encode(message)
    assert type(decode(encode(message))) is type(message)


def test_every_message_is_tried() -> None:
    """Each kind has a tag of its own."""
    tags = {kind.__struct_config__.tag for kind in messages.Message.__args__}
    assert len(tags) == len(messages.Message.__args__) == 13


def test_a_field_of_a_later_version_is_skipped() -> None:
    """A message with one field more than this version knows is taken without it."""
    later = [*msgspec.msgpack.decode(encode(SUBMIT)), "news"]
    assert decode(msgspec.msgpack.encode(later)) == SUBMIT


def test_a_field_that_an_earlier_version_lacks_has_its_default() -> None:
    """A vote without a reason is yes."""
    assert decode(msgspec.msgpack.encode(["vote", ID])) == messages.Vote(ID, 0)


@pytest.mark.parametrize(
    "fields",
    [
        ["vote", ID[:15], 0],
        ["vote", ID, -1],
        ["vote", ID, 65_536],
        ["outcome", ID, -1, 0],
        ["outcome", ID, 2**63, 0],
        ["submit", ID, 1, "b", 2, 0, "EUR", ""],
        ["submit", ID, 1, "b", 2, -5, "EUR", ""],
        ["submit", ID, 1, "b", 2, 1.5, "EUR", ""],
        ["submit", ID, 1, "b", 2, 5, "EURO", ""],
        ["submit", ID, 1, "b", 2, 5, "EUR", "r" * 141],
        ["submit", ID, 1, "b" * 65, 2, 5, "EUR", ""],
        ["prepare", ID, "a", 1, 2, 2**63, "EUR", ""],
        ["inquire", [ID] * 1001],
        ["inquire", ID],
        ["other", ID],
        [],
    ],
)
def test_what_is_out_of_bounds_is_refused(fields: list[object]) -> None:
    """Ids, amounts, reasons and lengths are checked by the decoder, before anything is done with them."""
    with pytest.raises((msgspec.DecodeError, OverflowError)):
        decode(msgspec.msgpack.encode(fields))


@pytest.mark.parametrize("data", [b"", b"\x00", encode(SUBMIT)[:-1], encode(SUBMIT) + b"\x00"])
def test_what_is_no_message_is_an_error(data: bytes) -> None:
    """Garbage, a message cut short and one too long are refused."""
    with pytest.raises(msgspec.DecodeError):
        decode(data)
