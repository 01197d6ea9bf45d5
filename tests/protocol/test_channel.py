"""The sealed channel against the published vectors of Noise, and against whoever sits in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fortress.errors import HandshakeFailed, LocalProtocolError, SealBroken
from fortress.protocol import channel
from fortress.protocol.channel import Channel, ClientHandshake, Opener, Sealer, ServerHandshake, prologue

VECTORS = Path(__file__).resolve().parent.parent / "vectors" / "noise_25519_aesgcm_sha256.json"
KEY = bytes(range(32))
STATIC, CLIENT_ENTROPY, SERVER_ENTROPY = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32


def nx_vector() -> dict[str, Any]:
    vectors = json.loads(VECTORS.read_text("utf-8"))["vectors"]
    [vector] = [each for each in vectors if each["protocol_name"] == channel.PROTOCOL_NAME.decode()]
    return {
        name: bytes.fromhex(value) if name.startswith(("init", "resp", "hand")) else value
        for name, value in vector.items()
    }


def shake_hands(bank: str = "a", asked: str = "a") -> tuple[Channel, Channel]:
    """Give the client's and the bank's end."""
    client = ClientHandshake(prologue(asked), CLIENT_ENTROPY)
    server = ServerHandshake(prologue(bank), STATIC, SERVER_ENTROPY)
    server.read_hello(client.write_hello())
    answer, server_end = server.write_answer(b"identity")
    return client.read_answer(answer)[2], server_end


def test_the_handshake_matches_the_published_vector() -> None:
    """Every byte of both messages, the handshake hash and the four transport messages are as published."""
    vector = nx_vector()
    messages = [(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in vector["messages"]]
    client = ClientHandshake(vector["init_prologue"], vector["init_ephemeral"])
    server = ServerHandshake(vector["resp_prologue"], vector["resp_static"], vector["resp_ephemeral"])
    (hello_payload, hello), (answer_payload, answer), *transport = messages

    assert client.write_hello(hello_payload) == hello
    assert server.read_hello(hello) == hello_payload
    written, server_end = server.write_answer(answer_payload)
    assert written == answer
    payload, static_public, client_end = client.read_answer(answer)
    assert payload == answer_payload
    assert static_public == channel.static_public_key(vector["resp_static"])
    assert client_end.handshake_hash == server_end.handshake_hash == vector["handshake_hash"]

    for number, (plaintext, sealed) in enumerate(transport):
        sender, receiver = (client_end, server_end) if number % 2 == 0 else (server_end, client_end)
        assert sender.sealer.seal(plaintext) == sealed
        assert receiver.opener.open(sealed) == plaintext


def test_the_prologue_names_version_and_bank() -> None:
    """The bytes both sides must agree on are the label, a zero byte and the bank id."""
    assert prologue("zürich") == b"fortress/1\x00z\xc3\xbcrich"


def test_a_client_that_asks_for_another_bank_fails() -> None:
    """Another bank id is another prologue, so the answer does not open."""
    with pytest.raises(HandshakeFailed, match="another bank, version or key"):
        shake_hands(bank="a", asked="b")


def test_two_handshakes_never_share_a_hash() -> None:
    """Fresh entropy on either side makes another channel."""
    client_end, _ = shake_hands()
    other = ClientHandshake(prologue("a"), bytes([9]) * 32)
    server = ServerHandshake(prologue("a"), STATIC, SERVER_ENTROPY)
    server.read_hello(other.write_hello())
    assert server.write_answer(b"")[1].handshake_hash != client_end.handshake_hash


def test_every_byte_of_the_answer_counts() -> None:
    """Whichever byte of message 2 is changed, the handshake fails."""
    client_hello = ClientHandshake(prologue("a"), CLIENT_ENTROPY).write_hello()
    server = ServerHandshake(prologue("a"), STATIC, SERVER_ENTROPY)
    server.read_hello(client_hello)
    answer, _ = server.write_answer(b"identity")
    for at in range(len(answer)):
        client = ClientHandshake(prologue("a"), CLIENT_ENTROPY)
        client.write_hello()
        with pytest.raises(HandshakeFailed):
            client.read_answer(answer[:at] + bytes([answer[at] ^ 1]) + answer[at + 1 :])


def test_a_changed_hello_is_found_by_the_client() -> None:
    """Message 1 is not sealed, but it is part of what the answer is sealed over."""
    client = ClientHandshake(prologue("a"), CLIENT_ENTROPY)
    hello = client.write_hello(b"payload")
    server = ServerHandshake(prologue("a"), STATIC, SERVER_ENTROPY)
    server.read_hello(hello[:-1] + b"!")
    answer, _ = server.write_answer(b"identity")
    with pytest.raises(HandshakeFailed):
        client.read_answer(answer)


@pytest.mark.parametrize("size", [0, 1, 31])
def test_a_cut_hello_is_refused(size: int) -> None:
    """Less than a public key is no message 1."""
    with pytest.raises(HandshakeFailed, match="cut"):
        ServerHandshake(prologue("a"), STATIC, SERVER_ENTROPY).read_hello(bytes(size))


def test_every_cut_of_the_answer_is_refused() -> None:
    """Message 2 is whole or it is nothing."""
    server = ServerHandshake(prologue("a"), STATIC, SERVER_ENTROPY)
    server.read_hello(ClientHandshake(prologue("a"), CLIENT_ENTROPY).write_hello())
    answer, _ = server.write_answer(b"identity")
    for size in range(len(answer)):
        client = ClientHandshake(prologue("a"), CLIENT_ENTROPY)
        client.write_hello()
        with pytest.raises(HandshakeFailed):
            client.read_answer(answer[:size])


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31)])
def test_public_keys_that_give_no_secret_are_refused(point: bytes) -> None:
    """A point of small order would make the shared secret zero; neither side goes on."""
    server = ServerHandshake(prologue("a"), STATIC, SERVER_ENTROPY)
    server.read_hello(point)
    with pytest.raises(HandshakeFailed, match="not usable"):
        server.write_answer(b"identity")
    client = ClientHandshake(prologue("a"), CLIENT_ENTROPY)
    client.write_hello()
    with pytest.raises(HandshakeFailed, match="not usable"):
        client.read_answer(point + bytes(64))


def test_private_keys_have_their_size() -> None:
    """Entropy of another size is a mistake of the caller."""
    with pytest.raises(LocalProtocolError):
        ClientHandshake(prologue("a"), bytes(31))


def test_every_byte_of_a_sealed_frame_counts() -> None:
    """Flip any bit group of any byte, and it does not open; untouched it still does."""
    sealed = Sealer(KEY).seal(b"pay 12.50 EUR to the baker")
    opener = Opener(KEY)
    for at in range(len(sealed)):
        for mask in (0x01, 0x80, 0xFF):
            with pytest.raises(SealBroken):
                opener.open(sealed[:at] + bytes([sealed[at] ^ mask]) + sealed[at + 1 :])
    assert opener.open(sealed) == b"pay 12.50 EUR to the baker"


def test_every_cut_of_a_sealed_frame_is_refused() -> None:
    """Shorter, also shorter than the tag alone, or longer: it does not open."""
    sealed = Sealer(KEY).seal(b"pay")
    opener = Opener(KEY)
    for size in range(len(sealed)):
        with pytest.raises(SealBroken):
            opener.open(sealed[:size])
    with pytest.raises(SealBroken):
        opener.open(sealed + b"\0")


def test_a_frame_opens_once_and_in_its_order() -> None:
    """Replayed, swapped or dropped frames do not open."""
    sealer = Sealer(KEY)
    first, second, third = (sealer.seal(text) for text in (b"first", b"second", b"third"))
    opener = Opener(KEY)
    with pytest.raises(SealBroken):
        opener.open(second)
    assert opener.open(first) == b"first"
    with pytest.raises(SealBroken):
        opener.open(first)
    with pytest.raises(SealBroken):
        opener.open(third)
    assert opener.open(memoryview(second)) == b"second"


def test_the_directions_have_different_keys() -> None:
    """What a side sends does not open when it is sent back to it."""
    client_end, server_end = shake_hands()
    sealed = client_end.sealer.seal(b"mine")
    with pytest.raises(SealBroken):
        client_end.opener.open(sealed)
    assert server_end.opener.open(sealed) == b"mine"


def test_a_new_key_takes_over_and_the_counter_goes_on() -> None:
    """After both sides rekey they understand each other, and the old key opens nothing new."""
    sealer, opener, left_behind = Sealer(KEY), Opener(KEY), Opener(KEY)
    for each in (opener, left_behind):
        assert each.open(Sealer(KEY).seal(b"before")) == b"before"
    sealer.seal(b"before")
    sealer.rekey()
    opener.rekey()
    sealed = sealer.seal(b"after")
    assert sealer.nonce == 2
    with pytest.raises(SealBroken):
        left_behind.open(sealed)
    assert opener.open(sealed) == b"after"


def test_a_new_key_is_what_noise_says() -> None:
    """REKEY is the first 32 bytes of 32 zero bytes sealed under nonce 2^64-1."""
    sealer = Sealer(KEY, channel.NONCE_MAX - 1)
    last = sealer.seal(b"")
    assert Opener(KEY, channel.NONCE_MAX - 1).open(last) == b""
    rekeyed = Sealer(KEY)
    rekeyed.rekey()
    stream = channel.AESGCM(KEY).encrypt(bytes(4) + b"\xff" * 8, bytes(32), None)
    assert rekeyed.seal(b"x") == Sealer(stream[:32]).seal(b"x")


def test_used_up_nonces_are_refused() -> None:
    """The reserved nonce is never used for a frame, in either direction."""
    with pytest.raises(LocalProtocolError, match="used up"):
        Sealer(KEY, channel.NONCE_MAX).seal(b"one too many")
    with pytest.raises(SealBroken, match="used up"):
        Opener(KEY, channel.NONCE_MAX).open(bytes(16))
