"""The worked example of the protocol page, computed with published libraries alone: no line of Fortress runs here.

It follows docs/reference/protocol.md as a stranger would. Everything that is random in earnest is fixed here, so a test
lets Fortress's own two sides of a connection play the same session and compares every byte.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import msgpack
from argon2.low_level import Type, hash_secret_raw
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from nacl import bindings as sodium

BANK = "a"
USERNAME = "alice"
PASSWORD = "correct horse battery staple"
HEX_WIDTH = 64

CA_SEED = bytes([1]) * 32
BANK_SEED = bytes([2]) * 32
STATIC = bytes([3]) * 32
CLIENT_EPHEMERAL = bytes([4]) * 32
BANK_EPHEMERAL = bytes([5]) * 32
SALT = bytes([6]) * 16
LOGIN_ENTROPY = bytes([7]) * 64
NONCE = bytes([8]) * 32
KEY_PROOF_ENTROPY = bytes([9]) * 64
PAYMENT_ID = bytes.fromhex("019b77d9c4007000800000000000002a")
KDF = {"memory_kib": 65_536, "iterations": 3, "lanes": 4}
HELLO = {"versions": [1], "agent": "example"}
HELLO_ANSWER = {
    "version": 1,
    "features": [],
    "bank": BANK,
    "agent": "fortress/0.1.0",
    "time_us": 1_767_225_600_000_000,
}


class Handshake:
    """Noise_NX_25519_AESGCM_SHA256: the running hash, the chaining key, the key of the moment."""

    def __init__(self, prologue: bytes) -> None:
        self.h = self.ck = b"Noise_NX_25519_AESGCM_SHA256".ljust(32, b"\0")
        self.k = b""
        self.mix_hash(prologue)

    def mix_hash(self, data: bytes) -> None:
        self.h = hashlib.sha256(self.h + data).digest()

    def mix_key(self, private: bytes, public: bytes) -> None:
        shared = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
        self.ck, self.k = self.derive(shared)

    def derive(self, material: bytes) -> tuple[bytes, bytes]:
        secret = hmac.digest(self.ck, material, "sha256")
        first = hmac.digest(secret, b"\x01", "sha256")
        return first, hmac.digest(secret, first + b"\x02", "sha256")

    def seal_and_hash(self, plaintext: bytes) -> bytes:
        # each key of this handshake seals one thing, so the nonce is always 0
        sealed = AESGCM(self.k).encrypt(bytes(12), plaintext, self.h)
        self.mix_hash(sealed)
        return sealed


class Direction:
    """One direction's transport key and its counter."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.counter = 0

    def frame(self, message: Any) -> bytes:
        """Pack, put into one last piece, seal, frame."""
        data = msgpack.packb(message)
        plaintext = b"\x00" + len(data).to_bytes(4, "big") + data
        sealed = AESGCM(self.key).encrypt(bytes(4) + self.counter.to_bytes(8, "big"), plaintext, None)
        self.counter += 1
        return frame(sealed)


def frame(content: bytes) -> bytes:
    """Put the length before a frame."""
    return len(content).to_bytes(2, "big") + content


def public_of(private: bytes) -> bytes:
    """Give the X25519 public key."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def certificates() -> tuple[x509.Certificate, x509.Certificate]:
    """Make the authority's certificate and the bank's; Ed25519 signatures make them the same each time."""
    ca_key, bank_key = (Ed25519PrivateKey.from_private_bytes(seed) for seed in (CA_SEED, BANK_SEED))
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("example authority", "bank a")]

    def built(index: int, key: Ed25519PrivateKey, *extensions: tuple[x509.ExtensionType, bool]) -> x509.Certificate:
        builder = x509.CertificateBuilder(names[0], names[index], key.public_key(), index + 1)
        builder = builder.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        builder = builder.not_valid_after(datetime(2126, 1, 1, tzinfo=UTC))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(ca_key, None)

    authority = built(0, ca_key, (x509.BasicConstraints(True, 0), True), (key_usage(signs_certificates=True), True))
    bank = built(
        1,
        bank_key,
        (x509.BasicConstraints(False, None), True),
        (key_usage(signs_certificates=False), True),
        (x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")]), False),
        (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"urn:fortress:bank:{BANK}")]), False),
    )
    return authority, bank


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Say what a certificate's key is for."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def challenge_input(label: bytes, h: bytes, public: bytes, commitment: bytes, nonce: bytes) -> bytes:
    """Lay out what is hashed into c."""
    bank, username = BANK.encode(), USERNAME.encode()
    sized = [len(text).to_bytes(2, "big") + text for text in (bank, username)]
    return label + h + b"".join(sized) + public + commitment + nonce


def prove(found: dict[str, bytes], prefix: str, label: bytes, entropy: bytes, nonce: bytes) -> None:
    """Fill in one proof: r, R, what is hashed, c, s."""
    r = sodium.crypto_core_ed25519_scalar_reduce(entropy)
    commitment = sodium.crypto_scalarmult_ed25519_base_noclamp(r)
    hashed = challenge_input(label, found["handshake hash h"], found["public key P"], commitment, nonce)
    c = sodium.crypto_core_ed25519_scalar_reduce(hashlib.sha512(hashed).digest())
    product = sodium.crypto_core_ed25519_scalar_mul(c, found["secret x"])
    found[f"{prefix}: 64 bytes of entropy"] = entropy
    found[f"{prefix}: r"] = r
    found[f"{prefix}: commitment R"] = commitment
    found[f"{prefix}: nonce"] = nonce
    found[f"{prefix}: hashed"] = hashed
    found[f"{prefix}: c"] = c
    found[f"{prefix}: s"] = sodium.crypto_core_ed25519_scalar_add(r, product)


def values() -> dict[str, bytes]:
    """Give every value of the example by its name, in the order in which a client meets them."""
    found: dict[str, bytes] = {}
    to_bank, to_client = handshake(found)
    found["frame 3, hello"] = to_bank.frame([1, "hello", HELLO])
    found["frame 4, its answer"] = to_client.frame([1, 0, HELLO_ANSWER])
    keys(found)
    prove(found, "login", b"fortress login v1", LOGIN_ENTROPY, NONCE)
    begin = {"username": USERNAME, "commitment": found["login: commitment R"]}
    found["frame 5, login_begin"] = to_bank.frame([2, "login_begin", begin])
    found["frame 6, its answer"] = to_client.frame([2, 0, {"salt": SALT, **KDF, "nonce": NONCE}])
    found["frame 7, login_finish"] = to_bank.frame([3, "login_finish", {"proof": found["login: s"]}])
    key_proof_nonce = hashlib.sha256(b"fortress key proof v1" + found["handshake hash h"]).digest()
    prove(found, "key proof", b"fortress register v1", KEY_PROOF_ENTROPY, key_proof_nonce)
    order(found)
    return found


def handshake(found: dict[str, bytes]) -> tuple[Direction, Direction]:
    """Fill in the Noise handshake; give the two directions."""
    authority, bank = certificates()
    prologue = b"fortress/1\0" + BANK.encode()
    client, server, static = (public_of(key) for key in (CLIENT_EPHEMERAL, BANK_EPHEMERAL, STATIC))
    statement = b"fortress noise static key v1\0" + BANK.encode() + b"\0" + static
    signature = Ed25519PrivateKey.from_private_bytes(BANK_SEED).sign(statement)
    payload = msgpack.packb([bank.public_bytes(Encoding.DER), signature])
    state = Handshake(prologue)
    state.mix_hash(client)
    state.mix_hash(b"")  # the empty payload of message 1
    state.mix_hash(server)
    state.mix_key(BANK_EPHEMERAL, client)
    sealed_static = state.seal_and_hash(static)
    state.mix_key(STATIC, client)
    sealed_payload = state.seal_and_hash(payload)
    to_bank, to_client = state.derive(b"")
    found |= {
        "prologue": prologue,
        "route frame": frame(b"fortress route v1\0" + BANK.encode() + b"\0"),
        "client's ephemeral private key": CLIENT_EPHEMERAL,
        "frame 1": frame(client),
        "bank's static private key": STATIC,
        "bank's static public key": static,
        "bank's ephemeral private key": BANK_EPHEMERAL,
        "authority's certificate": authority.public_bytes(Encoding.DER),
        "bank's certificate": bank.public_bytes(Encoding.DER),
        "statement": statement,
        "signature": signature,
        "frame 2": frame(server + sealed_static + sealed_payload),
        "handshake hash h": state.h,
        "key from client to bank": to_bank,
        "key from bank to client": to_client,
    }
    return Direction(to_bank), Direction(to_client)


def keys(found: dict[str, bytes]) -> None:
    """Fill in what comes of the password."""
    seed = hash_secret_raw(
        PASSWORD.encode(),
        SALT,
        time_cost=KDF["iterations"],
        memory_cost=KDF["memory_kib"],
        parallelism=KDF["lanes"],
        hash_len=32,
        type=Type.ID,
    )
    digest = hashlib.sha512(b"fortress schnorr secret v1" + seed).digest()
    x = sodium.crypto_core_ed25519_scalar_reduce(digest)
    found |= {"salt": SALT, "seed": seed, "secret x": x}
    found["public key P"] = sodium.crypto_scalarmult_ed25519_base_noclamp(x)


def order(found: dict[str, bytes]) -> None:
    """Fill in a signed payment order."""
    seed = HKDF(SHA256(), 32, salt=None, info=b"fortress order signing v1").derive(found["seed"])
    key = Ed25519PrivateKey.from_private_bytes(seed)
    fields = [b"fortress order v1", BANK, PAYMENT_ID, 1000362, 1000265, 1250, "EUR", "Lunch", ""]
    found["order: signing seed"] = seed
    found["order: public signing key"] = key.public_key().public_bytes_raw()
    found["order: statement"] = msgpack.packb(fields)
    found["order: signature"] = key.sign(found["order: statement"])


def block() -> str:
    """Write the example as the page shows it: a name, then its bytes in hexadecimal, indented."""
    lines = []
    for name, value in values().items():
        digits = value.hex()
        lines.append(f"{name} ({len(value)} bytes)")
        lines += [f"    {digits[i : i + HEX_WIDTH]}" for i in range(0, len(digits), HEX_WIDTH)]
    return "\n".join(lines)


def read_block(text: str) -> dict[str, bytes]:
    """Read what :func:`block` wrote."""
    found: dict[str, bytes] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("    "):
            found[name] += bytes.fromhex(line)
        elif line:
            name = line.rpartition(" (")[0]
            found[name] = b""
    return found
