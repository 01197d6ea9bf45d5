"""Frames and pieces: what is sent whole comes out whole, however it was cut; what is malformed is named."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fortress.errors import FrameInvalid, MessageTooLarge
from fortress.protocol import frames
from fortress.protocol.frames import FrameReader, MessageReader, encode_frame, pack_messages, pack_piece_head

LAST, MORE, CLOSE, REKEY = frames.PIECE_LAST, frames.PIECE_MORE, frames.PIECE_CLOSE, frames.PIECE_REKEY


def piece(kind: int, data: bytes = b"") -> bytes:
    return pack_piece_head(kind, len(data)) + data


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    """Cut the stream into reads of these sizes; what is left over is the last read."""
    reads = []
    for size in sizes:
        reads.append(stream[:size])
        stream = stream[size:]
    return [*reads, stream]


def read_messages(plaintexts: list[bytes], reader: MessageReader) -> list[bytes]:
    messages: list[bytes] = []
    for plaintext in plaintexts:
        reader.receive_plaintext(plaintext, messages)
    return messages


def test_a_frame_is_its_length_and_its_content() -> None:
    """Two bytes, big-endian, then the content."""
    assert encode_frame(b"abc") == b"\x00\x03abc"
    assert encode_frame(bytes(65_535))[:2] == b"\xff\xff"


def test_a_frame_over_the_length_field_is_refused() -> None:
    """What two bytes cannot count is not sent."""
    with pytest.raises(FrameInvalid):
        encode_frame(bytes(65_536))


@settings(deadline=None)
@given(contents=st.lists(st.binary(max_size=300), max_size=8), sizes=st.lists(st.integers(0, 400), max_size=12))
def test_frames_come_out_however_the_stream_is_cut(contents: list[bytes], sizes: list[int]) -> None:
    """Reads of any size give the same frames in the same order, and nothing is left over."""
    reader = FrameReader()
    stream = b"".join(encode_frame(content) for content in contents)
    received = [bytes(frame) for read in cut(stream, sizes) for frame in reader.receive_data(read)]
    assert received == contents
    assert not reader.partial


def test_one_byte_at_a_time_is_enough() -> None:
    """A peer that dribbles is understood; an empty frame is a frame."""
    reader = FrameReader()
    stream = encode_frame(b"one") + encode_frame(b"") + encode_frame(b"three")
    received = []
    for at in range(len(stream)):
        received += reader.receive_data(stream[at : at + 1])
        assert reader.receive_data(b"") == []
    assert received == [b"one", b"", b"three"]


def test_a_read_of_many_frames_is_handled_in_one_pass_without_copies() -> None:
    """Whole frames in a memoryview are views of the same memory."""
    buffer = bytearray(encode_frame(b"first") + encode_frame(b"second") + b"\x00")
    reader = FrameReader()
    received = reader.receive_data(memoryview(buffer))
    assert [bytes(frame) for frame in received] == [b"first", b"second"]
    assert all(isinstance(frame, memoryview) for frame in received)
    assert reader.partial


def test_an_unfinished_frame_survives_the_reuse_of_the_callers_buffer() -> None:
    """What is kept between reads is a copy."""
    buffer = bytearray(b"\x00\x04ab")
    reader = FrameReader()
    assert reader.receive_data(memoryview(buffer)) == []
    buffer[:] = b"cd\x00\x00"
    assert reader.receive_data(memoryview(buffer)) == [b"abcd", b""]


def test_the_largest_frame_costs_one_buffer_however_finely_it_is_cut() -> None:
    """Feeding a 64 KiB frame in 1,000 reads never keeps more than that frame."""
    content = bytes(range(256)) * 255
    stream = encode_frame(content)
    reader = FrameReader()
    received = [frame for at in range(0, len(stream), 66) for frame in reader.receive_data(stream[at : at + 66])]
    assert received == [content]


@settings(deadline=None)
@given(
    messages=st.lists(st.binary(max_size=200), max_size=20),
    large=st.integers(0, 200_000),
    is_closing=st.booleans(),
)
def test_packed_messages_come_out_whole(messages: list[bytes], large: int, is_closing: bool) -> None:
    """Small and large messages, one after the other, survive packing and reading."""
    wanted = [*messages, bytes(large), *messages]
    reader = MessageReader(frames.MESSAGE_SIZE_BYTES_MAX)
    plaintexts = pack_messages(wanted, is_closing=is_closing)
    assert all(0 < len(plaintext) <= frames.PLAINTEXT_SIZE_BYTES_MAX for plaintext in plaintexts)
    assert read_messages(plaintexts, reader) == wanted


def test_many_small_messages_share_one_frame() -> None:
    """A hundred answers of 150 bytes are one plaintext."""
    assert len(pack_messages([bytes(150)] * 100)) == 1


def test_a_large_message_fills_its_frames_to_the_brim() -> None:
    """2 MiB take as few frames as the sizes allow, all but the last full."""
    plaintexts = pack_messages([bytes(2 * 1024 * 1024)])
    room = frames.PLAINTEXT_SIZE_BYTES_MAX - frames.PIECE_HEAD_SIZE_BYTES
    assert len(plaintexts) == -(-2 * 1024 * 1024 // room)
    assert {len(plaintext) for plaintext in plaintexts[:-1]} == {frames.PLAINTEXT_SIZE_BYTES_MAX}


@pytest.mark.parametrize("left", range(12))
def test_a_frame_with_hardly_any_room_left_is_closed_off(left: int) -> None:
    """No piece is torn where its head does not fit, for a message and for the closing piece alike."""
    first = bytes(frames.PLAINTEXT_SIZE_BYTES_MAX - frames.PIECE_HEAD_SIZE_BYTES - left)
    plaintexts = pack_messages([first, b"second"], is_closing=True)
    reader = MessageReader(frames.MESSAGE_SIZE_BYTES_MAX)
    assert read_messages(plaintexts, reader) == [first, b"second"]
    assert len(plaintexts) == 2
    closing = pack_messages([first], is_closing=True)
    assert len(closing) == (1 if left >= frames.PIECE_HEAD_SIZE_BYTES else 2)
    assert closing[-1].endswith(frames.CLOSE_PIECE)


def test_nothing_to_send_makes_no_frame() -> None:
    """An empty queue packs into nothing; a lone closing piece is one frame."""
    assert pack_messages([]) == []
    assert pack_messages([], is_closing=True) == [frames.CLOSE_PIECE]


def test_pieces_join_across_frames() -> None:
    """More, more, last make one message, also with another frame's pieces around them and with empty ones between."""
    reader = MessageReader()
    received = read_messages(
        [piece(LAST, b"0") + piece(MORE, b"a"), piece(MORE), piece(MORE, b"b") + piece(LAST, b"c") + piece(LAST, b"1")],
        reader,
    )
    assert received == [b"0", b"abc", b"1"]


def test_an_empty_first_piece_still_begins_a_message() -> None:
    """What follows an empty piece with more to come belongs to the same message."""
    messages: list[bytes] = []
    reader = MessageReader()
    reader.receive_plaintext(piece(MORE), messages)
    with pytest.raises(FrameInvalid, match="middle of a message"):
        reader.receive_plaintext(piece(CLOSE), messages)
    reader.receive_plaintext(piece(LAST, b"x"), messages)
    assert messages == [b"x"]


def test_empty_pieces_for_ever_make_nothing_grow() -> None:
    """A peer that sends pieces without data gains no memory by it."""
    reader = MessageReader()
    for _ in range(100):
        assert read_messages([piece(MORE) * 1000], reader) == []
    assert read_messages([piece(LAST, b"end")], reader) == [b"end"]


def test_control_pieces_are_flags() -> None:
    """Closing and changing the key are told apart, and both may come behind messages."""
    messages: list[bytes] = []
    assert MessageReader().receive_plaintext(piece(LAST, b"a"), messages) == 0
    assert MessageReader().receive_plaintext(b"", messages) == 0
    assert MessageReader().receive_plaintext(piece(REKEY) + piece(LAST, b"b"), messages) == frames.CONTROL_REKEY
    both = piece(REKEY) + piece(CLOSE)
    assert MessageReader().receive_plaintext(both, messages) == frames.CONTROL_REKEY | frames.CONTROL_CLOSE
    assert messages == [b"a", b"b"]


def test_a_key_may_change_in_the_middle_of_a_message() -> None:
    """Rekeying is about frames, not about messages."""
    assert read_messages([piece(MORE, b"a") + piece(REKEY), piece(LAST, b"b")], MessageReader()) == [b"ab"]


@pytest.mark.parametrize(
    ("plaintext", "why"),
    [
        (b"\x00", "head of a piece is cut"),
        (b"\x00\x00\x00\x00", "head of a piece is cut"),
        (b"\x00\x00\x00\x00\x01", "past the end"),
        (b"\x01\xff\xff\xff\xff", "past the end"),
        (piece(LAST, b"abc")[:-1], "past the end"),
        (piece(4), "no piece is of kind 4"),
        (piece(255), "no piece is of kind 255"),
        (piece(CLOSE, b"x"), "kind 2 carries no data"),
        (piece(REKEY, b"x"), "kind 3 carries no data"),
        (piece(CLOSE) + piece(LAST), "nothing may follow"),
        (piece(MORE) + piece(CLOSE), "middle of a message"),
    ],
)
def test_a_malformed_piece_is_named(plaintext: bytes, why: str) -> None:
    """Each way to break the layout has its own sentence, and the messages before it are not lost."""
    messages: list[bytes] = []
    with pytest.raises(FrameInvalid, match=why):
        MessageReader().receive_plaintext(piece(LAST, b"before") + plaintext, messages)
    assert messages == [b"before"]


def test_the_size_of_a_message_has_a_limit_that_can_be_raised() -> None:
    """64 KiB go through before login and not a byte more; after the limit is raised, 2 MiB do."""
    reader = MessageReader()
    most = frames.MESSAGE_SIZE_BYTES_MAX_BEFORE_LOGIN
    assert read_messages(pack_messages([bytes(most)]), reader) == [bytes(most)]
    with pytest.raises(MessageTooLarge) as caught:
        read_messages(pack_messages([bytes(most + 1)]), MessageReader())
    assert caught.value.facts["size_bytes_max"] == most
    reader.size_bytes_max = frames.MESSAGE_SIZE_BYTES_MAX
    assert len(read_messages(pack_messages([bytes(frames.MESSAGE_SIZE_BYTES_MAX)]), reader)[0]) == 2 * 1024 * 1024
    with pytest.raises(MessageTooLarge):
        read_messages(pack_messages([bytes(frames.MESSAGE_SIZE_BYTES_MAX + 1)]), reader)


def test_a_single_piece_over_the_limit_is_refused_too() -> None:
    """The limit holds for a message in one piece as for one in many."""
    with pytest.raises(MessageTooLarge):
        read_messages([piece(LAST, b"abcd")], MessageReader(3))


@settings(deadline=None)
@given(plaintext=st.binary(max_size=60), before=st.booleans())
def test_arbitrary_plaintext_gives_messages_or_a_clear_error(plaintext: bytes, before: bool) -> None:
    """Nothing but the two errors of this layer ever comes out, and no message outgrows its frame."""
    reader = MessageReader(40)
    messages: list[bytes] = []
    try:
        if before:
            reader.receive_plaintext(piece(MORE, b"begun"), messages)
        reader.receive_plaintext(plaintext, messages)
    except (FrameInvalid, MessageTooLarge):
        pass
    assert sum(map(len, messages)) <= len(plaintext) + 5
