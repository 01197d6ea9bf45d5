"""One session's states on both sides: the good road, each way off it, and whoever tampers in between."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fortress.errors import (
    FortressError,
    FrameInvalid,
    HandshakeFailed,
    LocalProtocolError,
    MessageTooLarge,
    NoPrimary,
    ProtocolError,
    SealBroken,
    ServerNotTrusted,
    StreamCut,
)
from fortress.protocol import frames
from fortress.protocol.channel import static_public_key
from fortress.protocol.connection import (
    LOGIN_DEADLINE_S,
    TRANSITIONS,
    ClientConnection,
    Connection,
    Event,
    ServerConnection,
    State,
)
from fortress.protocol.frames import encode_frame, pack_piece_head
from fortress.protocol.routes import Notice, Route

STATIC = bytes([1]) * 32
IDENTITY = b"who the bank is"
START = 100.0
ENDS = (State.draining, State.closing, State.closed, State.failed)


def trust_all(payload: bytes, static_public: bytes) -> None:
    assert (payload, static_public) == (IDENTITY, static_public_key(STATIC))


def make_server(*, bank_id: str = "a", rekey_after_frames: int = 2**20) -> ServerConnection:
    return ServerConnection(
        STATIC, IDENTITY, bank_id=bank_id, entropy=b"s" * 32, now=START, rekey_after_frames=rekey_after_frames
    )


def make_client(*, bank_id: str = "a", flags: str = "", rekey_after_frames: int = 2**20) -> ClientConnection:
    return ClientConnection(
        bank_id=bank_id,
        entropy=b"c" * 32,
        verify=trust_all,
        now=START,
        rekey_after_frames=rekey_after_frames,
        flags=flags,
    )


def shake_hands(*, rekey_after_frames: int = 2**20) -> tuple[ClientConnection, ServerConnection]:
    client, server = make_client(), make_server(rekey_after_frames=rekey_after_frames)
    server.receive_data(client.data_to_send())
    client.receive_data(server.data_to_send())
    return client, server


def sign_in(*, rekey_after_frames: int = 2**20) -> tuple[ClientConnection, ServerConnection]:
    client, server = shake_hands(rekey_after_frames=rekey_after_frames)
    client.login_done()
    server.login_done()
    return client, server


def seal_raw(connection: Connection, plaintext: bytes) -> bytes:
    """Seal what `connection` itself would never send."""
    assert connection._sealer is not None
    return encode_frame(connection._sealer.seal(plaintext))


def frames_in(stream: bytes) -> list[bytes]:
    return [bytes(frame) for frame in frames.FrameReader().receive_data(stream)]


def test_two_sides_meet_sign_in_talk_and_part() -> None:
    """The whole life of a session: handshake, login, messages both ways, closing in order."""
    client, server = make_client(), make_server()
    assert client.state is server.state is State.handshake
    server.receive_data(client.data_to_send())
    assert server.state is State.login
    client.receive_data(server.data_to_send())
    assert client.state is State.login
    assert client.handshake_hash == server.handshake_hash

    client.send_message(b"login")
    server.receive_data(client.data_to_send())
    assert server.messages_received() == [b"login"]
    server.login_done()
    server.send_message(b"welcome")
    client.receive_data(server.data_to_send())
    assert client.messages_received() == [b"welcome"]
    client.login_done()
    assert client.state is server.state is State.open

    client.send_message(b"bye")
    client.close()
    assert client.state is State.closing
    server.receive_data(client.data_to_send())
    assert server.messages_received() == [b"bye"]
    assert (server.state, server.peer_closed) == (State.draining, True)
    server.send_message(b"last answer")
    server.close()
    assert server.state is State.closed
    client.receive_data(server.data_to_send())
    assert client.messages_received() == [b"last answer"]
    assert (client.state, client.peer_closed) == (State.closed, True)
    client.receive_eof()
    server.receive_eof()
    assert client.state is server.state is State.closed


def test_messages_are_given_once() -> None:
    """Asking again gives nothing again, neither messages nor bytes."""
    client, server = sign_in()
    client.send_message(b"once")
    server.receive_data(client.data_to_send())
    assert client.data_to_send() == b""
    assert server.messages_received() == [b"once"]
    assert server.messages_received() == []


def test_a_client_may_speak_before_the_bank_has_answered() -> None:
    """What is queued during the handshake waits, and leaves sealed with the first frame after it."""
    client, server = make_client(), make_server()
    client.send_message(b"hello")
    server.receive_data(client.data_to_send())
    server.send_message(b"hello from the bank")
    answer = server.data_to_send()
    assert len(frames_in(answer)) == 2
    client.receive_data(answer)
    assert client.messages_received() == [b"hello from the bank"]
    server.receive_data(client.data_to_send())
    assert server.messages_received() == [b"hello"]


@pytest.mark.parametrize("size", [0, 1, 150, 65_514, 65_515, 65_536, 300_000, 2 * 1024 * 1024])
def test_messages_of_every_size_arrive(size: int) -> None:
    """Empty, small, exactly one frame, one byte more, and as large as allowed."""
    client, server = sign_in()
    client.send_message(bytes(size))
    server.receive_data(client.data_to_send())
    assert server.messages_received() == [bytes(size)]


def test_answers_that_are_ready_together_share_a_frame() -> None:
    """A hundred small messages make one sealed frame."""
    client, server = sign_in()
    for number in range(100):
        server.send_message(b"answer %d" % number)
    stream = server.data_to_send()
    assert len(frames_in(stream)) == 1
    client.receive_data(stream)
    assert client.messages_received() == [b"answer %d" % number for number in range(100)]


@settings(deadline=None, max_examples=60)
@given(messages=st.lists(st.binary(max_size=500), max_size=10), sizes=st.lists(st.integers(0, 600), max_size=12))
def test_messages_arrive_however_the_stream_is_cut(messages: list[bytes], sizes: list[int]) -> None:
    """Reads of any size, also through one buffer that is used again, give the same messages in the same order."""
    client, server = sign_in()
    stream = b""
    for number, message in enumerate(messages):
        client.send_message(message)
        stream += client.data_to_send() if number % 3 else b""
    stream += client.data_to_send()
    received = []
    for size in [*sizes, len(stream)]:
        buffer = bytearray(stream[:size])
        stream = stream[size:]
        server.receive_data(memoryview(buffer))
        buffer[:] = bytes(len(buffer))
        received += server.messages_received()
    assert received == messages


def test_messages_may_be_queued_and_sealed_in_one_go() -> None:
    """One small message, many, a large one, and what was queued before: the same as one after the other."""
    client, server = sign_in()
    for messages in ([b"one"], [b"two", b"three"], [b"x" * 70_000], [b""], []):
        client.receive_data(server.send_messages(messages))
        assert client.messages_received() == messages
    server.send_message(b"earlier")
    client.receive_data(server.send_messages([b"later"]))
    assert client.messages_received() == [b"earlier", b"later"]


def test_the_answer_of_the_handshake_goes_before_all_messages() -> None:
    """Also when the first message is sealed before anything was written."""
    client, server = make_client(), make_server()
    server.receive_data(client.data_to_send())
    client.receive_data(server.send_messages([b"hello"]))
    assert client.messages_received() == [b"hello"]


def test_no_message_is_sealed_in_one_go_that_could_not_be_sent() -> None:
    """Too large before the login, or after the end."""
    _, server = shake_hands()
    with pytest.raises(MessageTooLarge):
        server.send_messages([b"x" * 70_000])
    server.close()
    with pytest.raises(LocalProtocolError):
        server.send_messages([b"late"])


def test_the_handshake_may_be_cut_anywhere() -> None:
    """One byte at a time, both messages of the handshake and a frame right behind are understood."""
    client, server = make_client(), make_server()
    for byte in client.data_to_send():
        server.receive_data(bytes([byte]))
    server.send_message(b"hello")
    for byte in server.data_to_send():
        client.receive_data(bytes([byte]))
    assert client.messages_received() == [b"hello"]


def test_the_key_changes_after_a_number_of_frames_in_each_direction() -> None:
    """Frames before and after the change are understood; the change itself is a frame and no message."""
    client, server = sign_in(rekey_after_frames=3)
    sizes = []
    for number in range(20):
        server.send_message(b"tick %d" % number)
        stream = server.data_to_send()
        sizes.append(len(frames_in(stream)))
        client.receive_data(stream)
    assert client.messages_received() == [b"tick %d" % number for number in range(20)]
    assert sizes[:8] == [1, 1, 1, 2, 1, 1, 2, 1]
    server.send_message(bytes(600_000))
    client.receive_data(server.data_to_send())
    assert client.messages_received() == [bytes(600_000)]


def test_the_old_key_seals_nothing_after_the_change() -> None:
    """A frame under the old key, sent after the piece that announces the change, does not open."""
    client, server = sign_in()
    server.receive_data(seal_raw(client, frames.REKEY_PIECE))
    with pytest.raises(SealBroken):
        server.receive_data(seal_raw(client, pack_piece_head(0, 0)))


def test_a_key_change_and_the_end_may_share_a_frame() -> None:
    """Closing wins, and nothing is left to open."""
    client, server = sign_in()
    server.receive_data(seal_raw(client, frames.REKEY_PIECE + frames.CLOSE_PIECE))
    assert server.state is State.draining


def test_every_byte_on_the_wire_counts() -> None:
    """Flip any byte of a frame's content: the connection fails, gives no message and sends nothing more."""
    client, _ = sign_in()
    client.send_message(b"pay 12.50 EUR")
    stream = client.data_to_send()
    for at in range(frames.FRAME_HEAD_SIZE_BYTES, len(stream)):
        _, server = sign_in()
        server.send_message(b"never sent")
        with pytest.raises(SealBroken):
            server.receive_data(stream[:at] + bytes([stream[at] ^ 1]) + stream[at + 1 :])
        assert server.state is State.failed
        assert (server.messages_received(), server.data_to_send()) == ([], b"")


def test_a_changed_length_never_gives_a_message() -> None:
    """The length in front of a frame is not sealed; a wrong one cuts the frame wrongly, which does not open."""
    client, _ = sign_in()
    client.send_message(b"pay 12.50 EUR")
    stream = client.data_to_send()
    for at, mask in product(range(frames.FRAME_HEAD_SIZE_BYTES), range(1, 256)):
        _, server = sign_in()
        try:
            server.receive_data(stream[:at] + bytes([stream[at] ^ mask]) + stream[at + 1 :])
            with pytest.raises(StreamCut):
                server.receive_eof()
        except SealBroken:
            pass
        assert (server.state, server.messages_received()) == (State.failed, [])


def test_a_replayed_frame_ends_the_connection() -> None:
    """The same bytes twice are taken once; what came before the replay is still given."""
    client, server = sign_in()
    client.send_message(b"pay")
    stream = client.data_to_send()
    with pytest.raises(SealBroken):
        server.receive_data(stream + stream)
    assert server.messages_received() == [b"pay"]
    assert server.state is State.failed


def test_reordered_and_dropped_frames_end_the_connection() -> None:
    """The second frame does not open before the first."""
    client, server = sign_in()
    client.send_message(b"first")
    first = client.data_to_send()
    client.send_message(b"second")
    with pytest.raises(SealBroken):
        server.receive_data(client.data_to_send() + first)
    assert server.messages_received() == []


def test_a_recorded_session_is_worth_nothing_to_another() -> None:
    """Frames of one session do not open in the next, though client and bank are the same."""
    client, _ = sign_in()
    client.send_message(b"pay")
    recorded = client.data_to_send()
    other_client = ClientConnection(bank_id="a", entropy=b"C" * 32, verify=trust_all, now=START)
    server = make_server()
    server.receive_data(other_client.data_to_send())
    with pytest.raises(SealBroken):
        server.receive_data(recorded)


@pytest.mark.parametrize("kept", [0, 1, 2, 20, -1])
def test_a_stream_that_ends_without_the_closing_piece_was_cut(kept: int) -> None:
    """Whether a frame is cut or whole ones are missing, the end is reported as a cut."""
    client, server = sign_in()
    client.send_message(b"pay")
    server.receive_data(client.data_to_send())
    client.send_message(b"and close")
    client.close()
    server.receive_data(client.data_to_send()[:kept])
    with pytest.raises(StreamCut):
        server.receive_eof()
    assert server.state is State.failed
    assert server.messages_received() == [b"pay"]


def test_a_stream_that_ends_in_the_handshake_was_cut() -> None:
    """Neither side takes a half handshake for an end in order."""
    for connection in (make_client(), make_server()):
        with pytest.raises(StreamCut):
            connection.receive_eof()
        connection.receive_eof()
        assert connection.state is State.failed


def test_a_closing_side_still_wants_to_see_the_other_close() -> None:
    """Having closed oneself does not make a cut of the other direction an end in order."""
    client, _ = sign_in()
    client.close()
    client.receive_data(b"")
    with pytest.raises(StreamCut):
        client.receive_eof()


def test_what_comes_after_the_closing_piece_is_ignored() -> None:
    """Nothing follows a close: later frames, good or bad, change nothing."""
    client, server = sign_in()
    client.close()
    end = client.data_to_send()
    server.receive_data(end + b"\x00\x20" + bytes(32))
    server.receive_data(b"anything")
    assert server.state is State.draining
    assert server.messages_received() == []


def test_a_peer_that_breaks_the_layout_can_be_told_so() -> None:
    """After a malformed piece nothing more is taken from the peer, yet one last message and the close go out."""
    client, server = sign_in()
    with pytest.raises(FrameInvalid):
        server.receive_data(seal_raw(client, pack_piece_head(0, 2) + b"ok" + b"\x09"))
    assert (server.state, server.peer_closed) == (State.draining, False)
    assert server.messages_received() == [b"ok"]
    client.send_message(b"ignored")
    server.receive_data(client.data_to_send())
    server.send_message(b"that was malformed")
    server.close()
    assert (server.state, server.messages_received()) == (State.closed, [])
    client.receive_data(server.data_to_send())
    assert client.messages_received() == [b"that was malformed"]
    assert client.peer_closed


def test_a_closing_side_that_sees_a_broken_layout_is_done() -> None:
    """With nothing more to say and nothing more to hear the connection is closed."""
    client, server = sign_in()
    server.close()
    with pytest.raises(FrameInvalid):
        server.receive_data(seal_raw(client, b"\x09"))
    assert server.state is State.closed


def test_messages_are_small_before_login_and_large_after() -> None:
    """64 KiB before, 2 MiB after: the receiver insists, and the sender does not even try."""
    client, server = shake_hands()
    with pytest.raises(MessageTooLarge) as caught:
        client.send_message(bytes(65_537))
    assert caught.value.facts == {"size_bytes_max": 65_536}
    client.login_done()
    client.send_message(bytes(65_537))
    with pytest.raises(MessageTooLarge):
        server.receive_data(client.data_to_send())
    assert server.state is State.draining
    with pytest.raises(MessageTooLarge):
        client.send_message(bytes(2 * 1024 * 1024 + 1))


def test_login_must_be_done_in_time() -> None:
    """Ten seconds after the start the connection fails, in the handshake and in the login alike."""
    for connection in (make_server(), shake_hands()[1], shake_hands()[0]):
        assert connection.next_deadline() == START + LOGIN_DEADLINE_S
        connection.on_deadline(START + LOGIN_DEADLINE_S - 0.001)
        with pytest.raises(HandshakeFailed, match="within 10 s"):
            connection.on_deadline(START + LOGIN_DEADLINE_S)
        assert (connection.state, connection.next_deadline()) == (State.failed, None)
        connection.on_deadline(START + 1000)


def test_a_login_in_time_lifts_the_deadline() -> None:
    """Once signed in a session may last."""
    _, server = sign_in()
    assert server.next_deadline() is None
    server.on_deadline(START + 1000)
    assert server.state is State.open


def test_the_deadline_goes_when_the_session_ends_in_order() -> None:
    """A session that both sides closed before login has nothing left to wait for."""
    client, server = shake_hands()
    client.close()
    server.receive_data(client.data_to_send())
    assert server.next_deadline() is not None
    server.close()
    client.receive_data(server.data_to_send())
    assert client.next_deadline() is server.next_deadline() is None


def test_a_handshake_can_be_given_up() -> None:
    """Closing before anything is sealed sends no closing piece, there being no seal to send it under."""
    client = make_client()
    client.data_to_send()
    client.close()
    assert (client.state, client.data_to_send()) == (State.closed, b"")
    client.receive_data(b"\x00\x01x")
    client.receive_eof()


def test_closing_twice_is_closing_once() -> None:
    """The closing piece goes out once, behind what was queued before it."""
    client, server = sign_in()
    client.send_message(b"last")
    client.close()
    client.close()
    stream = client.data_to_send()
    client.close()
    assert client.data_to_send() == b""
    server.receive_data(stream)
    assert server.messages_received() == [b"last"]
    assert server.peer_closed


def test_nothing_can_be_sent_after_the_end() -> None:
    """Closed or failed, a message is refused instead of being lost silently."""
    client, server = sign_in()
    client.close()
    with pytest.raises(LocalProtocolError, match="closing"):
        client.send_message(b"")
    with pytest.raises(SealBroken):
        server.receive_data(b"\x00\x10" + bytes(16))
    with pytest.raises(LocalProtocolError, match="failed"):
        server.send_message(b"")


def test_a_login_that_ends_after_the_connection_changes_nothing() -> None:
    """A worker may finish a login when the peer has gone; sending stays impossible."""
    client, server = shake_hands()
    server.close()
    server.login_done()
    assert server.state is State.closing
    with pytest.raises(LocalProtocolError):
        server.send_message(b"welcome")
    client.receive_data(server.data_to_send())
    client.login_done()
    client.send_message(bytes(100_000))
    assert client.state is State.draining


def test_there_is_no_hash_before_the_handshake() -> None:
    """A proof can not be bound to a channel that is not there."""
    for connection in (make_client(), make_server()):
        with pytest.raises(LocalProtocolError):
            _ = connection.handshake_hash


def test_a_bank_that_is_not_trusted_is_left_at_once() -> None:
    """When the check of the identity says no, nothing that was queued is ever sealed."""

    def distrust(payload: bytes, static_public: bytes) -> None:
        raise ServerNotTrusted

    client = ClientConnection(bank_id="a", entropy=b"c" * 32, verify=distrust, now=START)
    client.send_message(b"secret")
    server = make_server()
    server.receive_data(client.data_to_send())
    with pytest.raises(ServerNotTrusted):
        client.receive_data(server.data_to_send())
    assert (client.state, client.data_to_send()) == (State.failed, b"")


def without_route(client: ClientConnection) -> bytes:
    """Give what a client sends first, without the frame that says which bank it wants."""
    _, hello = frames_in(client.data_to_send())
    return encode_frame(hello)


def test_a_client_of_another_bank_cannot_finish() -> None:
    """The bank asked for is part of the handshake, whatever was said in clear before it."""
    client, server = make_client(bank_id="b"), make_server(bank_id="a")
    server.receive_data(encode_frame(Route("a").encode()) + without_route(client))
    with pytest.raises(HandshakeFailed):
        client.receive_data(server.data_to_send())
    assert client.state is State.failed


def test_a_client_may_leave_the_route_out() -> None:
    """Then the bank that serves the address is meant."""
    client, server = make_client(), make_server()
    server.receive_data(without_route(client))
    client.receive_data(server.data_to_send())
    assert client.handshake_hash == server.handshake_hash


@pytest.mark.parametrize("cut", [1, 5, 22, 23, 30, 1000])
def test_a_server_keeps_all_that_is_for_another_bank(cut: int) -> None:
    """However the stream was cut: what a relay needs is there, byte for byte, and nothing of it was taken."""
    client = make_client(bank_id="b", flags="any")
    stream = client.data_to_send() + b"\x00\x05more" + b"\x00"
    server, told = make_server(bank_id="a"), b""
    for start in range(0, len(stream), cut):
        try:
            server.receive_data(stream[start : start + cut])
        except HandshakeFailed as error:
            assert error.facts == {"bank": "b"}
            told = server.unread + stream[start + cut :]
            break
    assert told == stream
    assert server.elsewhere == Route("b", "any")
    assert server.elsewhere.takes_standby
    assert (server.state, server.data_to_send(), server.messages_received()) == (State.failed, b"", [])


@pytest.mark.parametrize("second", [Route("a"), Route("b")])
def test_a_route_comes_once(second: Route) -> None:
    """A second one is no way to ask for another bank."""
    server = make_server()
    server.receive_data(encode_frame(Route("a").encode()))
    assert server.state is State.handshake
    with pytest.raises(HandshakeFailed):
        server.receive_data(encode_frame(second.encode()))
    assert (server.state, server.elsewhere) == (State.failed, None)


def test_a_malformed_route_ends_the_handshake() -> None:
    """It names nobody to hand the connection to."""
    server = make_server()
    with pytest.raises(HandshakeFailed):
        server.receive_data(encode_frame(Route("a").encode() + b"!"))
    assert (server.state, server.elsewhere) == (State.failed, None)


def test_a_route_after_the_handshake_is_a_broken_frame() -> None:
    """It is in clear, so it does not open."""
    _, server = shake_hands()
    with pytest.raises(SealBroken):
        server.receive_data(encode_frame(Route("b").encode()))


def test_a_client_hears_that_somebody_waits_and_goes_on() -> None:
    """As often as it is said; the handshake comes about all the same."""
    client, server = make_client(), make_server()
    server.receive_data(client.data_to_send())
    for _ in range(3):
        client.receive_data(encode_frame(Notice.waiting.encode()))
        assert (client.is_waiting, client.state) == (True, State.handshake)
    client.receive_data(server.data_to_send())
    assert (client.is_waiting, client.state) == (False, State.login)


def test_a_client_hears_why_there_is_no_way() -> None:
    """In time to try again, or not to."""
    for notice, error in ((Notice.bank_unknown, HandshakeFailed), (Notice.bank_down, NoPrimary)):
        client = make_client()
        with pytest.raises(error):
            client.receive_data(encode_frame(notice.encode()))
        assert (client.is_waiting, client.state) == (False, State.failed)


def test_a_notice_after_the_handshake_is_a_broken_frame() -> None:
    """Nobody on the way can end a session with words."""
    client, _ = shake_hands()
    with pytest.raises(SealBroken):
        client.receive_data(encode_frame(Notice.bank_unknown.encode()))


@pytest.mark.parametrize("first", [b"", bytes(31), bytes(32), bytes([9]) * 33], ids=["empty", "short", "zero", "long"])
def test_a_first_message_that_is_none_fails(first: bytes) -> None:
    """Anything but a usable public key, and nothing behind it, ends the handshake."""
    server = make_server()
    with pytest.raises(HandshakeFailed):
        server.receive_data(encode_frame(first))
    assert (server.state, server.data_to_send()) == (State.failed, b"")
    server.receive_data(encode_frame(bytes([9]) * 32))
    assert server.state is State.failed


def connection_in(state: State) -> Connection:
    """Bring a connection into a state by the ways a session has."""
    if state is State.handshake:
        return make_server()
    client, server = shake_hands()
    if state is State.login:
        return server
    server.login_done()
    if state in (State.closing, State.closed):
        server.close()
    if state in (State.draining, State.closed):
        client.close()
        server.receive_data(client.data_to_send())
    if state is State.failed:
        with pytest.raises(StreamCut):
            server.receive_eof()
    return server


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)), ids=lambda each: each.name)
def test_every_pair_of_state_and_event(state: State, event: Event) -> None:
    """What the table holds happens; what it does not hold is an error that leaves the state as it was."""
    connection = connection_in(state)
    assert connection.state is state
    wanted = TRANSITIONS.get((state, event))
    if wanted is None:
        with pytest.raises(LocalProtocolError, match=state.name):
            connection._move(event)
    else:
        connection._move(event)
    assert connection.state is (wanted or state)


def test_the_end_is_the_end() -> None:
    """No event leads from an ended state back to one that takes messages."""
    for (state, _), target in TRANSITIONS.items():
        if state in ENDS:
            assert target in ENDS


@settings(deadline=None, max_examples=150)
@given(reads=st.lists(st.binary(max_size=80), max_size=6), is_sealed=st.booleans(), is_server=st.booleans())
def test_arbitrary_bytes_from_the_network_do_no_harm(reads: list[bytes], is_sealed: bool, is_server: bool) -> None:
    """Noise in any cut gives no message and no error but those of the protocol."""
    client, server = sign_in() if is_sealed else (make_client(), make_server())
    connection: Connection = server if is_server else client
    for read in reads:
        try:
            connection.receive_data(read)
        except ProtocolError:
            assert connection.state is State.failed
    assert connection.messages_received() == []


@settings(deadline=None, max_examples=150)
@given(plaintexts=st.lists(st.binary(max_size=60), max_size=4), at=st.integers(1, 100))
def test_arbitrary_plaintext_from_a_true_peer_does_no_harm(plaintexts: list[bytes], at: int) -> None:
    """A peer with the right keys that seals nonsense gets messages or a clear error, never a crash."""
    client, server = sign_in()
    stream = b"".join(seal_raw(client, plaintext) for plaintext in plaintexts)
    for read in (stream[:at], stream[at:]):
        try:
            server.receive_data(read)
        except FortressError as exc:
            assert isinstance(exc, FrameInvalid | MessageTooLarge | SealBroken)
    assert server.state in (State.open, State.draining, State.failed)
