"""Bytes to frames and frames to messages: the two framings of the wire, without any cipher.

Outside, the stream is a row of frames: a 2-byte big-endian length and that many bytes, each of them one Noise message.
Inside an opened frame lies a row of pieces: kind (1 byte), length (4 bytes, big-endian), data. A message is the
concatenation of its pieces, so it may be larger than a frame, and many small messages share one.

Both readers are linear in what they are fed: a byte is copied at most twice however the stream is cut, and what they
keep between calls is one unfinished frame and one unfinished message, both bounded.
"""

from __future__ import annotations

import struct
from typing import Final

from fortress.errors import FrameInvalid, MessageTooLarge

Buffer = bytes | bytearray | memoryview

FRAME_SIZE_BYTES_MAX: Final = 65_535
FRAME_HEAD_SIZE_BYTES: Final = 2
SEAL_SIZE_BYTES: Final = 16
PLAINTEXT_SIZE_BYTES_MAX: Final = FRAME_SIZE_BYTES_MAX - SEAL_SIZE_BYTES
PIECE_HEAD_SIZE_BYTES: Final = 5
MESSAGE_SIZE_BYTES_MAX_BEFORE_LOGIN: Final = 64 * 1024
MESSAGE_SIZE_BYTES_MAX: Final = 2 * 1024 * 1024

PIECE_LAST: Final = 0
PIECE_MORE: Final = 1
PIECE_CLOSE: Final = 2
PIECE_REKEY: Final = 3

CONTROL_CLOSE: Final = 1
CONTROL_REKEY: Final = 2

pack_piece_head = struct.Struct(">BI").pack
_unpack_piece_head = struct.Struct(">BI").unpack_from
pack_frame_head = struct.Struct(">H").pack

CLOSE_PIECE: Final = pack_piece_head(PIECE_CLOSE, 0)
REKEY_PIECE: Final = pack_piece_head(PIECE_REKEY, 0)


def encode_frame(content: bytes) -> bytes:
    """Put the length before one frame's content.

    Raises:
        FrameInvalid: the content is over 65,535 bytes.
    """
    if len(content) > FRAME_SIZE_BYTES_MAX:
        raise FrameInvalid(f"a frame holds at most {FRAME_SIZE_BYTES_MAX} bytes, not {len(content)}")
    return pack_frame_head(len(content)) + content


class FrameReader:
    """Cut a stream into frames, however the network cut it into reads.

    Attributes:
        partial: the frame that has not come whole; empty between two frames.
    """

    __slots__ = ("partial",)

    def __init__(self) -> None:
        self.partial = bytearray()

    def receive_data(self, data: Buffer) -> list[Buffer]:
        """Take one read and give the frames it completes, in order, without their lengths.

        Frames that lie whole inside `data` are slices of it: for a memoryview they are views, valid only until the
        caller reuses its buffer.
        """
        end = len(data)
        frames: list[Buffer] = []
        position = self._complete_partial(data, frames) if self.partial else 0
        while end - position >= FRAME_HEAD_SIZE_BYTES:
            start = position + FRAME_HEAD_SIZE_BYTES
            stop = start + (data[position] << 8 | data[position + 1])
            if stop > end:
                break
            frames.append(data[start:stop])
            position = stop
        if position < end:
            self.partial += data[position:]
        return frames

    def _complete_partial(self, data: Buffer, frames: list[Buffer]) -> int:
        partial = self.partial
        position = max(FRAME_HEAD_SIZE_BYTES - len(partial), 0)
        partial += data[:position]
        if len(partial) < FRAME_HEAD_SIZE_BYTES:
            return len(data)
        missing = FRAME_HEAD_SIZE_BYTES + (partial[0] << 8 | partial[1]) - len(partial)
        partial += data[position : position + missing]
        if position + missing > len(data):
            return len(data)
        frames.append(bytes(memoryview(partial)[FRAME_HEAD_SIZE_BYTES:]))
        self.partial = bytearray()
        return position + missing


class MessageReader:
    """Put messages together from the pieces inside opened frames.

    Attributes:
        partial: the message that has not come whole; None between two messages.
        size_bytes_max: bounds a whole message; the connection raises it after login.
    """

    __slots__ = ("partial", "size_bytes_max")

    def __init__(self, size_bytes_max: int = MESSAGE_SIZE_BYTES_MAX_BEFORE_LOGIN) -> None:
        self.size_bytes_max = size_bytes_max
        # None is "no message under way", which an empty first piece must not be mistaken for. One growing buffer, no
        # list of pieces: a peer that sends empty pieces for ever makes nothing grow.
        self.partial: bytearray | None = None

    def receive_plaintext(self, plaintext: bytes, messages: list[bytes]) -> int:
        """Append the messages that one opened frame completes; give the control flags met (0 for none).

        Messages before a broken piece are appended before the error is raised: they are whole and were sealed.

        Raises:
            FrameInvalid: a piece is cut, of unknown kind, or out of place.
            MessageTooLarge: a message grew past `size_bytes_max`.
        """
        control = 0
        position = 0
        end = len(plaintext)
        while position < end:
            start = position + PIECE_HEAD_SIZE_BYTES
            if start > end:
                raise FrameInvalid("the head of a piece is cut")
            kind, size = _unpack_piece_head(plaintext, position)
            position = start + size
            if position > end:
                raise FrameInvalid("a piece reaches past the end of its frame")
            if kind == PIECE_LAST and self.partial is None:
                if size > self.size_bytes_max:
                    raise self._too_large(size)
                messages.append(plaintext[start:position])
            elif kind <= PIECE_MORE:
                self._receive_part(kind, plaintext[start:position], messages)
            else:
                control |= self._receive_control(kind, size, is_at_end=position == end)
        return control

    def _receive_part(self, kind: int, part: bytes, messages: list[bytes]) -> None:
        partial = bytearray() if self.partial is None else self.partial
        size = len(partial) + len(part)
        if size > self.size_bytes_max:
            raise self._too_large(size)
        partial += part
        if kind == PIECE_MORE:
            self.partial = partial
        else:
            self.partial = None
            messages.append(bytes(partial))

    def _receive_control(self, kind: int, size: int, *, is_at_end: bool) -> int:
        if kind > PIECE_REKEY:
            raise FrameInvalid(f"no piece is of kind {kind}")
        if size:
            raise FrameInvalid(f"a piece of kind {kind} carries no data, this one {size} bytes")
        if kind == PIECE_REKEY:
            return CONTROL_REKEY
        if not is_at_end:
            raise FrameInvalid("nothing may follow the closing piece")
        if self.partial is not None:
            raise FrameInvalid("the closing piece came in the middle of a message")
        return CONTROL_CLOSE

    def _too_large(self, size: int) -> MessageTooLarge:
        most = self.size_bytes_max
        return MessageTooLarge(
            f"a message may have {most} bytes here, this one has at least {size}",
            {"size_bytes": size, "size_bytes_max": most},
        )


def pack_messages(messages: list[bytes], *, is_closing: bool = False) -> list[bytes]:
    """Lay messages out as pieces over as few frame plaintexts as possible, in order.

    Every plaintext but the last is filled to the brim, so the number of frames is the least there can be.
    """
    plaintexts: list[bytes] = []
    parts: list[bytes] = []
    room = PLAINTEXT_SIZE_BYTES_MAX
    for message in messages:
        start = 0
        while len(message) - start > room - PIECE_HEAD_SIZE_BYTES:
            taken = room - PIECE_HEAD_SIZE_BYTES
            if taken > 0:
                parts += (pack_piece_head(PIECE_MORE, taken), message[start : start + taken])
                start += taken
            plaintexts.append(b"".join(parts))
            parts = []
            room = PLAINTEXT_SIZE_BYTES_MAX
        rest = message[start:] if start else message
        parts += (pack_piece_head(PIECE_LAST, len(rest)), rest)
        room -= PIECE_HEAD_SIZE_BYTES + len(rest)
    if is_closing:
        if room < PIECE_HEAD_SIZE_BYTES:
            plaintexts.append(b"".join(parts))
            parts = []
        parts.append(CLOSE_PIECE)
    if parts:
        plaintexts.append(b"".join(parts))
    return plaintexts
