"""The login: a Schnorr proof of knowledge in three moves on edwards25519, bound to the channel; and what seeds it.

Notation: B the base point, l the order of its group, x the secret, P = x*B the public key.

    client -> bank   R = r*B         r fresh, from 64 random bytes: one r used twice reveals x
    bank -> client   nonce           32 fresh random bytes, used once
    client -> bank   s = r + c*x     c = H(label, handshake hash, bank, user, P, R, nonce)

The bank accepts when s*B - c*P = R. R is fixed before the nonce is known, so a recording proves nothing; the handshake
hash is inside c, so a proof made for one channel is worth nothing on another; and c comes out of a hash on both sides,
so a hostile bank cannot choose it. RFC 8235 describes the scheme. Both sides compute c by `challenge`, and only there.

Points and scalars are 32 bytes, little-endian, by libsodium (PyNaCl), constant in time where secrets are touched.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from functools import lru_cache
from itertools import product
from typing import Final

import msgspec
from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.bindings import (
    crypto_core_ed25519_is_valid_point,
    crypto_core_ed25519_scalar_add,
    crypto_core_ed25519_scalar_mul,
    crypto_core_ed25519_scalar_reduce,
    crypto_core_ed25519_sub,
    crypto_scalarmult_ed25519_base_noclamp,
    crypto_scalarmult_ed25519_noclamp,
)
from nacl.exceptions import CryptoError

from fortress.errors import KeyDerivationRefused, LocalProtocolError, PasswordTooWeak

SIZE_BYTES: Final = 32
"""Size of a point, a scalar, a seed, a nonce and a handshake hash."""
ENTROPY_SIZE_BYTES: Final = 64
GROUP_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
IDENTITY: Final = b"\x01" + bytes(31)

SECRET_LABEL: Final = b"fortress schnorr secret v1"
ORDER_SIGNING_LABEL: Final = b"fortress order signing v1"
LOGIN_LABEL: Final = b"fortress login v1"
REGISTER_LABEL: Final = b"fortress register v1"
"""The label in place of `LOGIN_LABEL` when a proof shows that a new public key is its sender's own."""
KEY_PROOF_LABEL: Final = b"fortress key proof v1"

SALT_SIZE_BYTES: Final = 16
PASSWORD_LENGTH_MIN: Final = 10
_ARGON2_VERSION: Final = 0x13


class KdfParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the bank asks of Argon2id; the default, from RFC 9106 section 4, is nearly the least a client agrees to.

    Attributes:
        memory_kib: memory, in KiB.
        iterations: passes over the memory.
        lanes: parallel lanes.
    """

    memory_kib: int = 65_536
    iterations: int = 3
    lanes: int = 4


KDF_PARAMETERS_MIN: Final = KdfParameters(memory_kib=65_536, iterations=3, lanes=1)
KDF_PARAMETERS_MAX: Final = KdfParameters(memory_kib=1_048_576, iterations=16, lanes=16)


def secret_from_seed(seed: bytes) -> bytes:
    """Derive the secret scalar x from a 32-byte seed (a password's, or a key file's)."""
    _require_size("seed", seed, SIZE_BYTES)
    return crypto_core_ed25519_scalar_reduce(hashlib.sha512(SECRET_LABEL + seed).digest())


def public_key(secret: bytes) -> bytes:
    """Give P = x*B."""
    return crypto_scalarmult_ed25519_base_noclamp(secret)


def is_valid_public_key(public: bytes) -> bool:
    """Whether these bytes are a point of the prime-order group: canonical, on the curve, no small or mixed order."""
    return len(public) == SIZE_BYTES and crypto_core_ed25519_is_valid_point(public)


def commit(entropy: bytes) -> tuple[bytes, bytes]:
    """Make the first move (r, R) from 64 fresh random bytes; r stays here and serves one proof only.

    Raises:
        LocalProtocolError: the entropy has another size, or is all zero or otherwise no entropy.
    """
    _require_size("entropy", entropy, ENTROPY_SIZE_BYTES)
    r = crypto_core_ed25519_scalar_reduce(entropy)
    if r == bytes(SIZE_BYTES):
        raise LocalProtocolError("the entropy for a commitment is not random")
    return r, crypto_scalarmult_ed25519_base_noclamp(r)


def challenge(
    handshake_hash: bytes,
    bank_id: str,
    username: str,
    public: bytes,
    commitment: bytes,
    nonce: bytes,
    *,
    label: bytes = LOGIN_LABEL,
) -> bytes:
    """Compute c, the same on both sides: reduce(SHA-512(label, h, bank id, username, P, R, nonce)).

    Bank id and username are UTF-8, each after its length in 2 bytes, big-endian; everything else has 32 bytes, so two
    different logins never hash the same bytes.

    Raises:
        LocalProtocolError: a part has not its size.
    """
    parts = [label, handshake_hash]
    for text in (bank_id.encode(), username.encode()):
        if len(text) > 0xFFFF:
            raise LocalProtocolError("a name in a challenge is too long")
        parts += (len(text).to_bytes(2, "big"), text)
    parts += (public, commitment, nonce)
    for name, part in (("hash", handshake_hash), ("key", public), ("commitment", commitment), ("nonce", nonce)):
        _require_size(name, part, SIZE_BYTES)
    return crypto_core_ed25519_scalar_reduce(hashlib.sha512(b"".join(parts)).digest())


def key_proof_nonce(handshake_hash: bytes) -> bytes:
    """Give the nonce with which a new key is proven on a channel, where no third move is worth its round trip.

    The handshake hash, fresh on each channel, stands in for the bank's nonce: the proof is worth nothing elsewhere.
    """
    _require_size("hash", handshake_hash, SIZE_BYTES)
    return hashlib.sha256(KEY_PROOF_LABEL + handshake_hash).digest()


def key_proof_challenge(handshake_hash: bytes, bank_id: str, username: str, public: bytes, commitment: bytes) -> bytes:
    """Compute c for the proof that comes with a new public key, the same on both sides."""
    nonce = key_proof_nonce(handshake_hash)
    return challenge(handshake_hash, bank_id, username, public, commitment, nonce, label=REGISTER_LABEL)


def prove(secret: bytes, r: bytes, c: bytes) -> bytes:
    """Make the last move, s = r + c*x mod l."""
    return crypto_core_ed25519_scalar_add(r, crypto_core_ed25519_scalar_mul(c, secret))


def verify(public: bytes, commitment: bytes, c: bytes, s: bytes) -> bool:
    """Whether s answers the challenge c for the public key and the commitment R.

    Any bytes may be passed: what is no scalar or no point of the prime-order group is simply not accepted. s has one
    form only (0 < s < l), which libsodium by itself does not insist on. P is checked by the multiplication itself,
    which refuses points of small or mixed order and foreign encodings; R needs no check of its own, since it is
    compared, byte by byte and in constant time, with a point that is valid by construction.
    """
    if not len(public) == len(commitment) == len(c) == len(s) == SIZE_BYTES or commitment == IDENTITY:
        return False
    if not 0 < int.from_bytes(s, "little") < GROUP_ORDER:
        return False
    try:
        expected = crypto_core_ed25519_sub(
            crypto_scalarmult_ed25519_base_noclamp(s), crypto_scalarmult_ed25519_noclamp(c, public)
        )
    except CryptoError:
        return False
    return hmac.compare_digest(expected, commitment)


def order_signing_seed(seed: bytes) -> bytes:
    """Derive the seed of the ordinary Ed25519 key that signs payment orders, so that no key serves two protocols."""
    _require_size("seed", seed, SIZE_BYTES)
    return HKDF(algorithm=SHA256(), length=SIZE_BYTES, salt=None, info=ORDER_SIGNING_LABEL).derive(seed)


def seed_from_password(password: str, salt: bytes, parameters: KdfParameters) -> bytes:
    """Derive a person's 32-byte seed by Argon2id from the password in Unicode form NFC, as UTF-8.

    Takes about 0.1 s and `memory_kib` of memory with the default parameters, and releases the interpreter lock.

    Args:
        password: as it was typed.
        salt: the person's own 16 bytes, from the bank.
        parameters: from the bank.

    Raises:
        KeyDerivationRefused: the bank asks for less than is safe or for more than is reasonable; do not sign in.
    """
    _check_kdf(salt, parameters)
    return hash_secret_raw(
        unicodedata.normalize("NFC", password).encode(),
        salt,
        time_cost=parameters.iterations,
        memory_cost=parameters.memory_kib,
        parallelism=parameters.lanes,
        hash_len=SIZE_BYTES,
        type=Type.ID,
        version=_ARGON2_VERSION,
    )


def check_password(password: str) -> None:
    """Refuse a new password that a guesser would try early; called by whoever chooses one, on their own machine.

    Raises:
        PasswordTooWeak: it is short, a known one (also under the usual disguises), a sequence, or a repetition.
    """
    text = unicodedata.normalize("NFC", password)
    if len(text) < PASSWORD_LENGTH_MIN:
        raise PasswordTooWeak(
            f"a password has at least {PASSWORD_LENGTH_MIN} characters", {"length_min": PASSWORD_LENGTH_MIN}
        )
    text = text.casefold()
    if _repeated_unit_length(text) < PASSWORD_LENGTH_MIN:
        raise PasswordTooWeak("the password repeats a few characters")
    if _is_sequence(text):
        raise PasswordTooWeak("the password is a sequence of neighbouring characters")
    if not _plain_forms(text).isdisjoint(_common_passwords()):
        raise PasswordTooWeak("the password is one of those that everybody tries first")


def _require_size(name: str, value: bytes, size: int) -> None:
    if len(value) != size:
        raise LocalProtocolError(f"the {name} has {size} bytes, not {len(value)}")


def _check_kdf(salt: bytes, parameters: KdfParameters) -> None:
    if len(salt) != SALT_SIZE_BYTES:
        raise KeyDerivationRefused(f"the salt has {SALT_SIZE_BYTES} bytes, not {len(salt)}")
    for name in KdfParameters.__struct_fields__:
        least, value, most = (getattr(each, name) for each in (KDF_PARAMETERS_MIN, parameters, KDF_PARAMETERS_MAX))
        if not least <= value <= most:
            raise KeyDerivationRefused(
                f"{name} is {value}, outside {least} to {most}", {"parameter": name, "min": least, "max": most}
            )


_ROWS: Final = (
    "0123456789",
    "1234567890",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbn",
    "qazwsxedcrfvtgbyhnujmikolp",
    "1q2w3e4r5t6y7u8i9o0p",
    "!@#$%^&*()",
)
_DISGUISES: Final = (
    str.maketrans("013457@$!", "oieastasi"),
    str.maketrans("013457@$!", "oleastasl"),
)
_DISGUISED_LENGTH_MAX: Final = 64


def _repeated_unit_length(text: str) -> int:
    """Length of the shortest unit that the text is made of by repetition (its own length if none)."""
    return (text + text).find(text, 1)


def _is_sequence(text: str) -> bool:
    for row in _ROWS:
        endless = row * (len(text) // len(row) + 2)
        if text in endless or text[::-1] in endless:
            return True
    return False


def _plain_forms(text: str) -> set[str]:
    """The text, and what is left when digits and signs around it are taken away, each also with look-alikes undone."""
    letters = [at for at, char in enumerate(text) if char.isalpha()]
    forms = {text}
    if letters and len(text) <= _DISGUISED_LENGTH_MAX:
        # Every cut, not just the shortest core: a digit at the edge may be decoration or a letter in disguise.
        cuts = product(range(letters[0] + 1), range(letters[-1] + 1, len(text) + 1))
        forms |= {text[start:stop] for start, stop in cuts}
    return forms | {form.translate(table) for form in forms for table in _DISGUISES}


@lru_cache(maxsize=1)
def _common_passwords() -> frozenset[str]:
    from importlib.resources import files  # only a person who chooses a password pays for this import

    text = files(__package__).joinpath("common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))
