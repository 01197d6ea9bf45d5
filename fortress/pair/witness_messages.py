"""What a node and a witness say to each other: one question, one answer, and so on, over one connection.

Each is four bytes of length and a msgpack array that begins with its kind. Fields may be added at the end with a
default, as between the nodes.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from fortress.errors import FrameInvalid, MessageTooLarge
from fortress.pair.messages import Configuration

MESSAGE_SIZE_BYTES_MAX: Final = 4096
LENGTH_SIZE_BYTES: Final = 4


class Get(msgspec.Struct, frozen=True, array_like=True, tag="get"):
    """What is the configuration?

    Attributes:
        cluster: id of the pair.
        promised: highest epoch that the asking node has promised; a register with less is stale.
    """

    cluster: bytes
    promised: int


class Swap(msgspec.Struct, frozen=True, array_like=True, tag="swap"):
    """Replace the configuration of epoch ``expected`` (None: there is none yet) by ``fresh``."""

    cluster: bytes
    promised: int
    expected: int | None
    fresh: Configuration


class Held(msgspec.Struct, frozen=True, array_like=True, tag="held"):
    """This is the configuration; None: there is none yet."""

    configuration: Configuration | None


class Swapped(msgspec.Struct, frozen=True, array_like=True, tag="swapped"):
    """The change was made, and is on the disk; the witness has put its own id in."""

    configuration: Configuration


class Differs(msgspec.Struct, frozen=True, array_like=True, tag="differs"):
    """The change was not made: this is the configuration."""

    configuration: Configuration


class Refusal(msgspec.Struct, frozen=True, array_like=True, tag="refusal"):
    """Not answered, for this reason; the code is that of :mod:`fortress.errors`."""

    code: int
    message: str


Question = Get | Swap
Answer = Held | Swapped | Differs | Refusal

_encode = msgspec.msgpack.Encoder().encode
_questions: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def frame(message: Question | Answer) -> bytes:
    """Encode a message with its length.

    Raises:
        MessageTooLarge: no witness takes it.
    """
    data = _encode(message)
    return struct.pack(">I", _checked_size(len(data))) + data


def body_size(length: bytes) -> int:
    """Read the length of the message that follows.

    Raises:
        MessageTooLarge: it is over the limit.
    """
    return _checked_size(int.from_bytes(length, "big"))


def decode_question(data: bytes) -> Question:
    """Read a question.

    Raises:
        FrameInvalid: it is none.
    """
    try:
        return _questions.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise FrameInvalid(f"this is no question to a witness: {exc}") from exc


def decode_answer(data: bytes) -> Answer:
    """Read an answer.

    Raises:
        FrameInvalid: it is none.
    """
    try:
        return _answers.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise FrameInvalid(f"this is no answer of a witness: {exc}") from exc


def _checked_size(size: int) -> int:
    if size > MESSAGE_SIZE_BYTES_MAX:
        raise MessageTooLarge(f"a message of {size} bytes is over the limit of {MESSAGE_SIZE_BYTES_MAX}")
    return size


def split_address(address: str) -> tuple[str, int]:
    """Take ``host:port`` apart; an IPv6 address may stand in brackets."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)
