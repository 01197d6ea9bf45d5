"""The sealed channel: Noise_NX_25519_AESGCM_SHA256 (noiseprotocol.org, revision 34) without a socket.

NX: the client is anonymous here (it signs in later, inside), the bank shows its static key in message 2.

    -> e                 client to bank: a fresh public key, no secrecy yet
    <- e, ee, s, es      bank to client: a fresh public key, the static key and a payload, both sealed

Both sides then hold the same hash of everything said, which the login proof is bound to, and one key per direction.
Entropy is an argument: 32 bytes for each handshake's own key pair, never used twice.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fortress.errors import HandshakeFailed, LocalProtocolError, SealBroken
from fortress.protocol.frames import SEAL_SIZE_BYTES, Buffer

PROTOCOL_NAME: Final = b"Noise_NX_25519_AESGCM_SHA256"
PROLOGUE_LABEL: Final = b"fortress/1"
KEY_SIZE_BYTES: Final = 32
NONCE_MAX: Final = 2**64 - 1
"""Noise reserves this nonce for REKEY; a counter that reaches it is used up."""

_NONCE_SIZE_BYTES: Final = 12
_HELLO_SIZE_BYTES: Final = KEY_SIZE_BYTES
_SEALED_KEY_SIZE_BYTES: Final = KEY_SIZE_BYTES + SEAL_SIZE_BYTES


def prologue(bank_id: str) -> bytes:
    """Say what both sides must agree on beforehand: the protocol's version and the bank asked for."""
    return PROLOGUE_LABEL + b"\0" + bank_id.encode()


class _Cipher:
    """One key and its counter. The counter is the nonce: 32 zero bits, then 64 bits big-endian (Noise 12.3)."""

    __slots__ = ("_decrypt", "_encrypt", "nonce")

    def __init__(self, key: bytes, nonce: int = 0) -> None:
        self._take(key)
        self.nonce = nonce

    def _take(self, key: bytes) -> None:
        aead = AESGCM(key)
        self._encrypt = aead.encrypt
        self._decrypt = aead.decrypt

    def rekey(self) -> None:
        """Replace the key one-way by Noise REKEY; the counter goes on (Noise 4.2 and 11.3)."""
        stream = self._encrypt(NONCE_MAX.to_bytes(_NONCE_SIZE_BYTES, "big"), bytes(KEY_SIZE_BYTES), None)
        self._take(stream[:KEY_SIZE_BYTES])


class Sealer(_Cipher):
    """Seal one direction's frames, each under the next nonce."""

    __slots__ = ()

    def seal(self, plaintext: bytes, associated: bytes | None = None) -> bytes:
        """Seal one plaintext into a Noise message 16 bytes longer.

        Raises:
            LocalProtocolError: the nonces are used up; the connection must end.
        """
        nonce = self.nonce
        if nonce >= NONCE_MAX:
            raise LocalProtocolError("the nonces of this direction are used up")
        self.nonce = nonce + 1
        return self._encrypt(nonce.to_bytes(_NONCE_SIZE_BYTES, "big"), plaintext, associated)


class Opener(_Cipher):
    """Open one direction's frames in the order they were sealed."""

    __slots__ = ()

    def open(self, sealed: Buffer, associated: bytes | None = None) -> bytes:
        """Open one Noise message.

        Raises:
            SealBroken: the message was changed, repeated, reordered, or sealed with another key. The counter stays.
        """
        nonce = self.nonce
        if nonce >= NONCE_MAX:
            raise SealBroken("the nonces of this direction are used up")
        try:
            plaintext = self._decrypt(nonce.to_bytes(_NONCE_SIZE_BYTES, "big"), sealed, associated)
        except InvalidTag as exc:
            raise SealBroken from exc
        self.nonce = nonce + 1
        return plaintext


@dataclass(frozen=True, slots=True)
class Channel:
    """What a finished handshake leaves behind.

    Attributes:
        sealer: for what this side sends.
        opener: for what the other side sends.
        handshake_hash: 32 bytes, the same on both sides and on no other channel.
    """

    sealer: Sealer
    opener: Opener
    handshake_hash: bytes


class _SymmetricState:
    """Noise 5.2: the running hash, the chaining key, and the key under which payloads are sealed."""

    def __init__(self, prologue_bytes: bytes) -> None:
        # 28 bytes, at most HASHLEN, so the name is padded and not hashed (Noise 5.2, InitializeSymmetric).
        self.hash = self._chaining_key = PROTOCOL_NAME.ljust(KEY_SIZE_BYTES, b"\0")
        self._key = b""
        self._nonce = 0
        self.mix_hash(prologue_bytes)

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, private: bytes, public: bytes) -> None:
        from nacl.bindings import crypto_scalarmult  # a command that only shows its help needs none of it
        from nacl.exceptions import CryptoError

        try:
            shared = crypto_scalarmult(private, public)
        except CryptoError as exc:  # the all-zero secret that a point of small order gives
            raise HandshakeFailed("the other side's public key is not usable") from exc
        self._chaining_key, self._key = self._derive(shared)
        self._nonce = 0

    def seal_and_hash(self, plaintext: bytes) -> bytes:
        sealed = plaintext
        if self._key:
            sealed = Sealer(self._key, self._nonce).seal(plaintext, self.hash)
            self._nonce += 1
        self.mix_hash(sealed)
        return sealed

    def open_and_hash(self, sealed: bytes) -> bytes:
        plaintext = sealed
        if self._key:
            plaintext = Opener(self._key, self._nonce).open(sealed, self.hash)
            self._nonce += 1
        self.mix_hash(sealed)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """Give the two transport keys: first the client's to send with, then the bank's."""
        return self._derive(b"")

    def _derive(self, material: bytes) -> tuple[bytes, bytes]:
        """HKDF as in Noise 4.3, two outputs."""
        secret = hmac.digest(self._chaining_key, material, "sha256")
        first = hmac.digest(secret, b"\x01", "sha256")
        return first, hmac.digest(secret, first + b"\x02", "sha256")


@lru_cache(maxsize=8)
def _static_public(private: bytes) -> bytes:
    # A server uses the same few static keys for all handshakes; deriving the public half costs a multiplication.
    return _public(private)


def _public(private: bytes) -> bytes:
    """Give the public half of an X25519 key (RFC 7748).

    libsodium multiplies in two thirds of the time that OpenSSL takes through `cryptography`: a handshake costs each
    side three multiplications.
    """
    if len(private) != KEY_SIZE_BYTES:
        raise LocalProtocolError(f"a private key has {KEY_SIZE_BYTES} bytes, not {len(private)}")
    from nacl.bindings import crypto_scalarmult_base

    return crypto_scalarmult_base(private)


def static_public_key(private: bytes) -> bytes:
    """Give the public half of a bank's static key, 32 bytes."""
    return _static_public(private)


class ClientHandshake:
    """The client's side: `write_hello`, send it, then `read_answer` with what comes back.

    Args:
        prologue_bytes: what both sides must agree on; see `prologue`.
        entropy: 32 random bytes for this handshake alone.
    """

    def __init__(self, prologue_bytes: bytes, entropy: bytes) -> None:
        self._state = _SymmetricState(prologue_bytes)
        self._ephemeral, self._ephemeral_public = entropy, _public(entropy)

    def write_hello(self, payload: bytes = b"") -> bytes:
        """Make message 1 (e). The payload is not secret."""
        self._state.mix_hash(self._ephemeral_public)
        return self._ephemeral_public + self._state.seal_and_hash(payload)

    def read_answer(self, message: bytes) -> tuple[bytes, bytes, Channel]:
        """Take message 2 (e, ee, s, es): the payload, the bank's static public key, and the channel.

        The channel is as good as the static key: the caller must check who it belongs to before using it.

        Raises:
            HandshakeFailed: the message is cut or changed, or the other side means another bank or version.
        """
        if len(message) < KEY_SIZE_BYTES + _SEALED_KEY_SIZE_BYTES + SEAL_SIZE_BYTES:
            raise HandshakeFailed("the answer of the handshake is cut")
        remote, rest = message[:KEY_SIZE_BYTES], message[KEY_SIZE_BYTES:]
        state = self._state
        try:
            state.mix_hash(remote)
            state.mix_key(self._ephemeral, remote)
            static_public = state.open_and_hash(rest[:_SEALED_KEY_SIZE_BYTES])
            state.mix_key(self._ephemeral, static_public)
            payload = state.open_and_hash(rest[_SEALED_KEY_SIZE_BYTES:])
        except SealBroken as exc:
            raise HandshakeFailed("the answer of the handshake does not open: another bank, version or key") from exc
        to_bank, to_client = state.split()
        return payload, static_public, Channel(Sealer(to_bank), Opener(to_client), state.hash)


class ServerHandshake:
    """The bank's side: `read_hello` with what came, then `write_answer` and send it.

    Args:
        prologue_bytes: what both sides must agree on; see `prologue`.
        static_private: the bank's 32-byte static key.
        entropy: 32 random bytes for this handshake alone.
    """

    def __init__(self, prologue_bytes: bytes, static_private: bytes, entropy: bytes) -> None:
        self._state = _SymmetricState(prologue_bytes)
        self._static, self._static_public = static_private, _static_public(static_private)
        self._ephemeral, self._ephemeral_public = entropy, _public(entropy)
        self._remote = b""

    def read_hello(self, message: bytes) -> bytes:
        """Take message 1 (e) and give its payload.

        Raises:
            HandshakeFailed: the message is cut.
        """
        if len(message) < _HELLO_SIZE_BYTES:
            raise HandshakeFailed("the first message of the handshake is cut")
        self._remote = message[:KEY_SIZE_BYTES]
        self._state.mix_hash(self._remote)
        return self._state.open_and_hash(message[KEY_SIZE_BYTES:])

    def write_answer(self, payload: bytes) -> tuple[bytes, Channel]:
        """Make message 2 (e, ee, s, es) with a sealed payload, and the channel it opens.

        Raises:
            HandshakeFailed: the client's public key is of small order.
        """
        state = self._state
        state.mix_hash(self._ephemeral_public)
        state.mix_key(self._ephemeral, self._remote)
        sealed_static = state.seal_and_hash(self._static_public)
        state.mix_key(self._static, self._remote)
        sealed_payload = state.seal_and_hash(payload)
        to_bank, to_client = state.split()
        message = self._ephemeral_public + sealed_static + sealed_payload
        return message, Channel(Sealer(to_client), Opener(to_bank), state.hash)
