"""The states of one session, on both sides: bytes in, messages out, and back, without a socket or a clock.

A shell owns a `ServerConnection` or a `ClientConnection` and does, in this order, for every read: `receive_data`, then
`messages_received`, then `send_message` for each answer, then writes what `data_to_send` gives. It arms a timer for
`next_deadline` and calls `on_deadline` when it rings, and calls `receive_eof` when the stream ends.

What may come, and what it leads to, is the table `TRANSITIONS`; every pair it does not hold is a bug of the caller.

    handshake   the two messages of the Noise handshake are under way; nothing is sealed yet
    login       sealed; messages up to 64 KiB; the deadline of the handshake still runs
    open        signed in; messages up to 2 MiB
    closing     this side sent, or will send, its closing piece; the other side may still talk
    draining    nothing more is taken from the other side, since it closed or broke the rules; this side may still talk
    closed      both directions have ended in order, or the handshake was given up
    failed      a frame did not open, the handshake failed, time ran out or the stream was cut; nothing more is sent

A peer that breaks the rules inside a sealed frame (`FrameInvalid`, `MessageTooLarge`) is who it says it is, so it can
be told why: the state is draining. After a frame that does not open nothing can be trusted: the state is failed.
What arrives when nothing is taken any more is ignored, as in TLS (RFC 8446, 6.1).

The client's first frame says which bank it wants (:mod:`fortress.protocol.routes`); of another one the server fails.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final

from fortress.errors import FortressError, FrameInvalid, HandshakeFailed, LocalProtocolError, MessageTooLarge, StreamCut
from fortress.protocol.channel import Channel, ClientHandshake, Opener, Sealer, ServerHandshake, prologue
from fortress.protocol.frames import (
    CONTROL_CLOSE,
    CONTROL_REKEY,
    FRAME_HEAD_SIZE_BYTES,
    MESSAGE_SIZE_BYTES_MAX,
    PIECE_HEAD_SIZE_BYTES,
    PIECE_LAST,
    PLAINTEXT_SIZE_BYTES_MAX,
    REKEY_PIECE,
    Buffer,
    FrameReader,
    MessageReader,
    encode_frame,
    pack_frame_head,
    pack_messages,
    pack_piece_head,
)
from fortress.protocol.routes import Route, decode_route, is_notice, is_route, take_notice

LOGIN_DEADLINE_S: Final = 10.0
"""How long handshake and login may take together."""
REKEY_AFTER_FRAMES: Final = 2**20
"""After how many frames a direction gets a new key."""

_ONE_PIECE_SIZE_BYTES_MAX: Final = PLAINTEXT_SIZE_BYTES_MAX - PIECE_HEAD_SIZE_BYTES
_NOT_SENDING: Final = -1

logger = logging.getLogger(__name__)


class State(Enum):
    """Where a session stands; see the top of this module."""

    handshake = "handshake"
    login = "login"
    open = "open"
    closing = "closing"
    draining = "draining"
    closed = "closed"
    failed = "failed"


class Event(Enum):
    """What moves a session from one state to another."""

    sealed = "sealed"
    signed_in = "signed_in"
    closed_here = "closed_here"
    closed_there = "closed_there"
    broken_there = "broken_there"
    failed = "failed"


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.handshake, Event.sealed): State.login,
    (State.handshake, Event.closed_here): State.closed,
    (State.handshake, Event.failed): State.failed,
    (State.login, Event.signed_in): State.open,
    (State.login, Event.closed_here): State.closing,
    (State.login, Event.closed_there): State.draining,
    (State.login, Event.broken_there): State.draining,
    (State.login, Event.failed): State.failed,
    (State.open, Event.closed_here): State.closing,
    (State.open, Event.closed_there): State.draining,
    (State.open, Event.broken_there): State.draining,
    (State.open, Event.failed): State.failed,
    (State.closing, Event.closed_there): State.closed,
    (State.closing, Event.broken_there): State.closed,
    (State.closing, Event.failed): State.failed,
    (State.draining, Event.closed_here): State.closed,
    (State.draining, Event.failed): State.failed,
    # A login that a worker was busy with may finish after the end has begun, and closing again is no mistake.
    (State.closing, Event.signed_in): State.closing,
    (State.draining, Event.signed_in): State.draining,
    (State.closed, Event.signed_in): State.closed,
    (State.failed, Event.signed_in): State.failed,
    (State.closing, Event.closed_here): State.closing,
    (State.closed, Event.closed_here): State.closed,
    (State.failed, Event.closed_here): State.failed,
}


class Connection(ABC):
    """What both sides of a session share; use `ServerConnection` or `ClientConnection`.

    Args:
        now: the time, in seconds of the caller's monotonic clock; the login deadline counts from here.
        rekey_after_frames: after how many sent frames this side changes its key.

    Attributes:
        peer_closed: whether the other side ended its direction in order.
    """

    __slots__ = (
        "_deadline",
        "_handshake_hash",
        "_has_close_to_send",
        "_message_reader",
        "_messages",
        "_opener",
        "_outgoing",
        "_reader",
        "_rekey_after_frames",
        "_rekey_at_nonce",
        "_sealer",
        "_send_size_bytes_max",
        "_state",
        "_unsealed",
        "peer_closed",
    )

    def __init__(self, *, now: float, rekey_after_frames: int = REKEY_AFTER_FRAMES) -> None:
        self._state = State.handshake
        self._deadline: float | None = now + LOGIN_DEADLINE_S
        self._reader = FrameReader()
        self._message_reader = MessageReader()
        self._messages: list[bytes] = []
        self._outgoing: list[bytes] = []
        self._unsealed = b""
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None
        self._handshake_hash = b""
        self._has_close_to_send = False
        self.peer_closed = False
        self._rekey_after_frames = rekey_after_frames
        self._rekey_at_nonce = rekey_after_frames
        # One comparison on the way of every message says both "too large" and "not sending any more".
        self._send_size_bytes_max = self._message_reader.size_bytes_max

    @property
    def state(self) -> State:
        """Where the session stands."""
        return self._state

    @property
    def handshake_hash(self) -> bytes:
        """The 32 bytes that name this channel, the same on both sides; the login proof is bound to them.

        Raises:
            LocalProtocolError: the handshake has not finished.
        """
        if not self._handshake_hash:
            raise LocalProtocolError("there is no handshake hash before the handshake has finished")
        return self._handshake_hash

    def receive_data(self, data: Buffer) -> None:
        """Take bytes as they came from the stream, cut anyhow; nothing of `data` is kept by reference.

        Messages that came whole before a fault are still given by `messages_received`.

        Raises:
            HandshakeFailed: the handshake cannot be finished; the connection has failed.
            ServerNotTrusted: the server is not the bank asked for (client side); the connection has failed.
            NoPrimary, NotPrimary, Busy: there is no way to the bank now (client side); the connection has failed.
            SealBroken: a frame was changed, repeated or reordered; the connection has failed.
            FrameInvalid: the other side breaks the layout of pieces; say so if you like, then close.
            MessageTooLarge: a message is over what is allowed at this point; say so if you like, then close.
        """
        opener = self._opener
        if opener is None and self._state is not State.handshake:
            return
        try:
            size = len(data)
            if opener is not None and size > FRAME_HEAD_SIZE_BYTES and not self._reader.partial:
                if (data[0] << 8 | data[1]) + FRAME_HEAD_SIZE_BYTES == size:
                    self._receive_frame(data[FRAME_HEAD_SIZE_BYTES:], opener)  # one whole frame, the common read
                    return
            frames = iter(self._reader.receive_data(data))
            for frame in frames:
                opener = self._opener
                if opener is not None:
                    self._receive_frame(frame, opener)
                elif self._state is State.handshake:
                    self._receive_handshake(bytes(frame), frames)
                else:
                    return
        except (FrameInvalid, MessageTooLarge):
            self._opener = None
            self._move(Event.broken_there)
            raise
        except FortressError:
            self._fail()
            raise

    def _receive_frame(self, frame: Buffer, opener: Opener) -> None:
        plaintext = opener.open(frame)
        reader = self._message_reader
        size = len(plaintext) - PIECE_HEAD_SIZE_BYTES
        if (
            reader.partial is None
            and 0 <= size <= reader.size_bytes_max
            and plaintext.startswith(pack_piece_head(PIECE_LAST, size))
        ):
            self._messages.append(plaintext[PIECE_HEAD_SIZE_BYTES:])  # one message, whole: the common frame
            return
        control = reader.receive_plaintext(plaintext, self._messages)
        if control:
            self._receive_control(control, opener)

    def messages_received(self) -> list[bytes]:
        """Give the messages that have come whole since the last call, in order, and forget them."""
        messages = self._messages
        self._messages = []
        return messages

    def send_message(self, data: bytes) -> None:
        """Queue one message; `data_to_send` seals it. Before the handshake has finished it just waits.

        Raises:
            MessageTooLarge: the other side would refuse it: over 64 KiB before login, over 2 MiB after.
            LocalProtocolError: this side has closed, or the connection has failed.
        """
        if len(data) > self._send_size_bytes_max:
            raise self._cannot_send(len(data))
        self._outgoing.append(data)

    def send_messages(self, messages: list[bytes]) -> bytes:
        """Queue messages and give what is to be written, as `send_message` for each and `data_to_send` do.

        Raises:
            MessageTooLarge: the other side would refuse one of them.
            LocalProtocolError: this side has closed, or the connection has failed.
        """
        sealer = self._sealer
        if (
            len(messages) == 1
            and sealer is not None
            and len(messages[0]) <= _ONE_PIECE_SIZE_BYTES_MAX
            and len(messages[0]) <= self._send_size_bytes_max
            and sealer.nonce < self._rekey_at_nonce
            and not (self._outgoing or self._unsealed)
        ):
            return self._sealed_alone(messages[0], sealer)
        for message in messages:
            self.send_message(message)
        return self.data_to_send()

    def data_to_send(self) -> bytes:
        """Seal all that is queued into as few frames as possible and give the bytes to write, once."""
        outgoing = self._outgoing
        sealer = self._sealer
        if (
            len(outgoing) == 1
            and sealer is not None
            and len(outgoing[0]) <= _ONE_PIECE_SIZE_BYTES_MAX
            and sealer.nonce < self._rekey_at_nonce
            and not (self._has_close_to_send or self._unsealed)
        ):
            return self._sealed_alone(outgoing.pop(), sealer)
        written = [self._unsealed]
        self._unsealed = b""
        if sealer is not None and (outgoing or self._has_close_to_send):
            self._outgoing = []
            for plaintext in pack_messages(outgoing, is_closing=self._has_close_to_send):
                self._seal_into(written, sealer, plaintext)
            self._has_close_to_send = False
        return b"".join(written)

    def _sealed_alone(self, message: bytes, sealer: Sealer) -> bytes:
        # The common case, one small answer: the general way costs three times as much Python.
        sealed = sealer.seal(pack_piece_head(PIECE_LAST, len(message)) + message)
        return pack_frame_head(len(sealed)) + sealed

    def login_done(self) -> None:
        """Say that the other side has signed in: larger messages are allowed and the deadline is lifted.

        Raises:
            LocalProtocolError: the handshake has not finished, or the login was done before.
        """
        self._move(Event.signed_in)
        self._deadline = None
        self._message_reader.size_bytes_max = MESSAGE_SIZE_BYTES_MAX
        if self._send_size_bytes_max != _NOT_SENDING:
            self._send_size_bytes_max = MESSAGE_SIZE_BYTES_MAX

    def close(self) -> None:
        """End this side's direction: what is queued and the closing piece are sent, nothing after; may be repeated."""
        is_sealed = self._sealer is not None
        is_first = self._send_size_bytes_max != _NOT_SENDING
        self._move(Event.closed_here)
        self._send_size_bytes_max = _NOT_SENDING
        self._has_close_to_send |= is_sealed and is_first
        if self._state is State.closed:
            self._deadline = None

    def receive_eof(self) -> None:
        """Take the end of the stream.

        Raises:
            StreamCut: the other side had not closed; the last messages may be missing. The connection has failed.
        """
        if self.peer_closed or self._state in (State.closed, State.failed):
            return
        self._fail()
        raise StreamCut

    def next_deadline(self) -> float | None:
        """When to call `on_deadline`, on the clock of `now`; None for never."""
        return self._deadline

    def on_deadline(self, now: float) -> None:
        """Take that time has passed; too early does nothing.

        Raises:
            HandshakeFailed: handshake and login took too long; the connection has failed.
        """
        if self._deadline is None or now < self._deadline:
            return
        self._fail()
        raise HandshakeFailed(f"handshake and login did not finish within {LOGIN_DEADLINE_S:g} s")

    @abstractmethod
    def _receive_handshake(self, message: bytes, later: Iterator[Buffer]) -> None:
        """Take a frame that came before the channel stood, and all that has come ``later``."""

    def _open_channel(self, channel: Channel) -> None:
        self._sealer = channel.sealer
        self._opener = channel.opener
        self._handshake_hash = channel.handshake_hash
        self._move(Event.sealed)

    def _receive_control(self, control: int, opener: Opener) -> None:
        if control & CONTROL_REKEY:
            opener.rekey()
        if control & CONTROL_CLOSE:
            self.peer_closed = True
            self._opener = None
            self._move(Event.closed_there)
            if self._state is State.closed:
                self._deadline = None

    def _seal_into(self, written: list[bytes], sealer: Sealer, plaintext: bytes) -> None:
        if sealer.nonce >= self._rekey_at_nonce:
            # A frame of its own, once in a million: the others stay full and simple.
            written.append(encode_frame(sealer.seal(REKEY_PIECE)))
            sealer.rekey()
            self._rekey_at_nonce = sealer.nonce + self._rekey_after_frames
        sealed = sealer.seal(plaintext)
        written += (pack_frame_head(len(sealed)), sealed)

    def _cannot_send(self, size: int) -> FortressError:
        if self._send_size_bytes_max == _NOT_SENDING:
            return LocalProtocolError(f"nothing can be sent when the connection is {self._state.name}")
        most = self._send_size_bytes_max
        return MessageTooLarge(f"the other side takes at most {most} bytes here", {"size_bytes_max": most})

    def _fail(self) -> None:
        self._move(Event.failed)
        self._deadline = None
        self._send_size_bytes_max = _NOT_SENDING
        self._sealer = self._opener = None
        self._has_close_to_send = False
        self._outgoing = []
        self._unsealed = b""

    def _move(self, event: Event) -> None:
        state = TRANSITIONS.get((self._state, event))
        if state is None:
            raise LocalProtocolError(f"{event.name} is not possible when the connection is {self._state.name}")
        logger.debug("%s: %s -> %s", event.name, self._state.name, state.name)
        self._state = state


class ServerConnection(Connection):
    """The bank's side of one session.

    Args:
        static_private: the bank's static key, 32 bytes.
        identity_payload: what `identity.sign_identity` made for the public half of that key.
        bank_id: the one bank that is served here; a client that asks for another cannot finish the handshake.
        entropy: 32 random bytes for this connection alone.
        now: see `Connection`.
        rekey_after_frames: see `Connection`.

    Attributes:
        elsewhere: where the client wants to go if it is not here; the connection has failed then.
        unread: all that came from that client; nothing of it was taken here.
    """

    __slots__ = ("_bank_id", "_handshake", "_identity_payload", "_is_routed", "elsewhere", "unread")

    def __init__(
        self,
        static_private: bytes,
        identity_payload: bytes,
        *,
        bank_id: str,
        entropy: bytes,
        now: float,
        rekey_after_frames: int = REKEY_AFTER_FRAMES,
    ) -> None:
        super().__init__(now=now, rekey_after_frames=rekey_after_frames)
        self._bank_id = bank_id
        self._handshake = ServerHandshake(prologue(bank_id), static_private, entropy)
        self._identity_payload = identity_payload
        self._is_routed = False
        self.elsewhere: Route | None = None
        self.unread = b""

    def _receive_handshake(self, message: bytes, later: Iterator[Buffer]) -> None:
        if is_route(message):
            self._receive_route(message, later)
            return
        if self._handshake.read_hello(message):
            raise HandshakeFailed("the first message of the handshake carries a payload")
        answer, channel = self._handshake.write_answer(self._identity_payload)
        self._unsealed = encode_frame(answer)
        self._open_channel(channel)

    def _receive_route(self, message: bytes, later: Iterator[Buffer]) -> None:
        if self._is_routed:
            raise HandshakeFailed("a second route frame")
        route = decode_route(message)
        self._is_routed = True
        if route.bank == self._bank_id:
            return
        self.elsewhere = route
        frames = [message, *(bytes(frame) for frame in later)]
        self.unread = b"".join(map(encode_frame, frames)) + self._reader.partial
        raise HandshakeFailed(f"this is not bank {route.bank!r}", {"bank": route.bank})


class ClientConnection(Connection):
    """The client's side of one session.

    Args:
        bank_id: the bank asked for.
        entropy: 32 random bytes for this connection alone.
        verify: called once with the bank's identity payload and static public key; raises if it is not to be trusted.
        now: see `Connection`.
        rekey_after_frames: see `Connection`.
        flags: what to say beside the bank's id to whoever is on the way there; see `routes.Route`.

    Attributes:
        is_waiting: whether somebody on the way has said that the bank is waited for, and nothing else yet.
    """

    __slots__ = ("_bank_id", "_handshake", "_verify", "is_waiting")

    def __init__(
        self,
        *,
        bank_id: str,
        entropy: bytes,
        verify: Callable[[bytes, bytes], object],
        now: float,
        rekey_after_frames: int = REKEY_AFTER_FRAMES,
        flags: str = "",
    ) -> None:
        super().__init__(now=now, rekey_after_frames=rekey_after_frames)
        self._bank_id = bank_id
        self._handshake = ClientHandshake(prologue(bank_id), entropy)
        self._verify = verify
        self._unsealed = encode_frame(Route(bank_id, flags).encode()) + encode_frame(self._handshake.write_hello())
        self.is_waiting = False

    def _receive_handshake(self, message: bytes, later: Iterator[Buffer]) -> None:
        self.is_waiting = False
        if is_notice(message):
            take_notice(message, self._bank_id)
            self.is_waiting = True
            return
        payload, static_public, channel = self._handshake.read_answer(message)
        self._verify(payload, static_public)
        self._open_channel(channel)
