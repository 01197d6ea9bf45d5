"""Feed a session's both sides with noise under coverage guidance; any error but the protocol's own is a find.

Run by ``make fuzz``, or ``python -m tests.fuzz.fuzz_connection -max_total_time=20``; the options are libFuzzer's. It
needs atheris, which nothing else here does.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

atheris: Any = import_module("atheris")  # has no type information

with atheris.instrument_imports(include=["fortress"]):
    from fortress.errors import FrameInvalid, MessageTooLarge, ProtocolError, ServerNotTrusted
    from fortress.protocol import identity
    from fortress.protocol.channel import Channel, Opener, Sealer
    from fortress.protocol.connection import ClientConnection, Connection, ServerConnection, State
    from fortress.protocol.frames import PLAINTEXT_SIZE_BYTES_MAX, encode_frame

STATIC = b"\x01" * 32
TO_BANK, TO_CLIENT, HASH = b"\x02" * 32, b"\x03" * 32, b"\x04" * 32
BROKEN_OFF = (State.draining, State.closed)


def make_pair() -> tuple[ClientConnection, ServerConnection]:
    client = ClientConnection(bank_id="a", entropy=b"c" * 32, verify=lambda payload, key: None, now=0.0)
    return client, ServerConnection(STATIC, b"identity", bank_id="a", entropy=b"s" * 32, now=0.0)


def make_signed_in_pair() -> tuple[ClientConnection, ServerConnection]:
    """Give both sides of an open session, without the half millisecond of a handshake."""
    client, server = make_pair()
    client._unsealed = b""
    client._open_channel(Channel(Sealer(TO_BANK), Opener(TO_CLIENT), HASH))
    server._open_channel(Channel(Sealer(TO_CLIENT), Opener(TO_BANK), HASH))
    client.login_done()
    server.login_done()
    return client, server


def feed(connection: Connection, source: Any, stream: bytes) -> None:
    """Give the stream in reads of any size through memory that is overwritten afterwards."""
    while stream:
        size = source.ConsumeIntInRange(1, len(stream))
        read, stream = bytearray(stream[:size]), stream[size:]
        try:
            connection.receive_data(memoryview(read))
        except (FrameInvalid, MessageTooLarge):
            assert connection.state in BROKEN_OFF
        except ProtocolError:
            assert connection.state is State.failed
            assert connection.data_to_send() == b""
        read[:] = bytes(len(read))


def fuzz_network(source: Any) -> None:
    """Noise from the network, before or after the handshake, gives no message."""
    client, server = make_signed_in_pair() if source.ConsumeBool() else make_pair()
    connection: Connection = client if source.ConsumeBool() else server
    feed(connection, source, source.ConsumeBytes(4096))
    assert connection.messages_received() == []


def fuzz_peer(source: Any) -> None:
    """A true peer that seals nonsense gets messages or a clear error, and never more bytes than it sent."""
    client, server = make_signed_in_pair()
    assert client._sealer is not None
    stream = b""
    sent = 0
    while source.remaining_bytes() and sent < 3 * PLAINTEXT_SIZE_BYTES_MAX:
        plaintext = source.ConsumeBytes(source.ConsumeIntInRange(0, 2048))
        sent += len(plaintext)
        stream += encode_frame(client._sealer.seal(plaintext))
    feed(server, source, stream)
    assert sum(map(len, server.messages_received())) <= sent


def fuzz_talk(source: Any) -> None:
    """Messages sent in any grouping arrive whole and in order."""
    client, server = make_signed_in_pair()
    sent, stream = [], b""
    while source.remaining_bytes() > 1:
        message = source.ConsumeBytes(source.ConsumeIntInRange(0, 512)) * source.ConsumeIntInRange(1, 300)
        client.send_message(message)
        sent.append(message)
        stream += client.data_to_send() if source.ConsumeBool() else b""
    client.close()
    feed(server, source, stream + client.data_to_send())
    assert server.messages_received() == sent
    assert server.peer_closed


def fuzz_identity(source: Any) -> None:
    """Whatever is shown as an identity is parsed or refused."""
    try:
        identity._decode_payload(source.ConsumeBytes(4096))
    except ServerNotTrusted:
        pass


def fuzz_one(data: bytes) -> None:
    """Let the first byte choose what the rest is fed to."""
    source = atheris.FuzzedDataProvider(data)
    targets = (fuzz_network, fuzz_peer, fuzz_talk, fuzz_identity)
    targets[source.ConsumeIntInRange(0, len(targets) - 1)](source)


if __name__ == "__main__":
    atheris.Setup(sys.argv, fuzz_one)
    atheris.Fuzz()
