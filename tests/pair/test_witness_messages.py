"""Questions and answers survive the way; anything else, and anything too long, is told from them."""

from __future__ import annotations

import msgspec
import pytest

from fortress.errors import FrameInvalid, MessageTooLarge
from fortress.pair import witness_messages as m
from fortress.pair.messages import Configuration, Member

MEMBER = Member("node-1", bytes(16))
HELD = Configuration(7, MEMBER, (MEMBER,), b"w")


@pytest.mark.parametrize("question", [m.Get(b"pair", 7), m.Swap(b"pair", 7, None, HELD), m.Swap(b"pair", 7, 6, HELD)])
def test_a_question_survives_the_way(question: m.Question) -> None:
    """Length first, then the message."""
    data = m.frame(question)
    assert m.body_size(data[:4]) == len(data) - 4
    assert m.decode_question(data[4:]) == question


@pytest.mark.parametrize("answer", [m.Held(None), m.Held(HELD), m.Swapped(HELD), m.Differs(HELD), m.Refusal(1, "no")])
def test_an_answer_survives_the_way(answer: m.Answer) -> None:
    """The same for answers."""
    assert m.decode_answer(m.frame(answer)[4:]) == answer


def test_a_field_of_a_later_version_is_skipped() -> None:
    """A newer node's question is understood."""
    assert m.decode_question(msgspec.msgpack.encode(["get", b"pair", 7, "later"])) == m.Get(b"pair", 7)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x00", m.frame(m.Get(b"p", 1))[4:-1], b"\x92\xa3get\xa1\xff"])
def test_what_is_no_message_is_told(data: bytes) -> None:
    """Cut, foreign, or a text that is none."""
    for decode in (m.decode_question, m.decode_answer):
        with pytest.raises(FrameInvalid):
            decode(data)


def test_nesting_without_end_is_told() -> None:
    """A bomb of arrays is no message."""
    for decode in (m.decode_question, m.decode_answer):
        with pytest.raises(FrameInvalid):
            decode(b"\x93\xa3get" + b"\x91" * 4000)


def test_a_message_has_a_limit() -> None:
    """Both ways; nothing over it is read or sent."""
    assert m.body_size(m.MESSAGE_SIZE_BYTES_MAX.to_bytes(4, "big")) == m.MESSAGE_SIZE_BYTES_MAX
    with pytest.raises(MessageTooLarge):
        m.body_size((m.MESSAGE_SIZE_BYTES_MAX + 1).to_bytes(4, "big"))
    with pytest.raises(MessageTooLarge):
        m.frame(m.Get(bytes(m.MESSAGE_SIZE_BYTES_MAX), 1))


@pytest.mark.parametrize(
    ("address", "parts"), [("a:1", ("a", 1)), ("[::1]:7614", ("::1", 7614)), ("0.0.0.0:0", ("0.0.0.0", 0))]
)
def test_an_address_is_taken_apart(address: str, parts: tuple[str, int]) -> None:
    """Names, and addresses of both kinds."""
    assert m.split_address(address) == parts
