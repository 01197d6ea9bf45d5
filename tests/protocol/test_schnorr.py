"""The login proof: honest ones are accepted, and every known way around it is tried. Then passwords and seeds."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings

from fortress.errors import KeyDerivationRefused, LocalProtocolError, PasswordTooWeak
from fortress.protocol import schnorr
from fortress.protocol.schnorr import GROUP_ORDER, IDENTITY, KdfParameters

VECTORS = Path(__file__).resolve().parent.parent / "vectors" / "wycheproof_ed25519.json"
HASH, NONCE = b"h" * 32, b"n" * 32
SECRET = schnorr.secret_from_seed(bytes(range(32)))
PUBLIC = schnorr.public_key(SECRET)
R_SECRET, COMMITMENT = schnorr.commit(bytes(range(64)))

# RFC 7748/8032 curve: the eight points whose order divides the cofactor, in every encoding libraries have accepted.
SMALL_ORDER = [
    bytes.fromhex(text)
    for text in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    )
]


def number(scalar: bytes) -> int:
    return int.from_bytes(scalar, "little")


def scalar(value: int) -> bytes:
    return value.to_bytes(32, "little")


def login_challenge(*, handshake_hash: bytes = HASH, public: bytes = PUBLIC, commitment: bytes = COMMITMENT) -> bytes:
    return schnorr.challenge(handshake_hash, "a", "ada", public, commitment, NONCE)


C = login_challenge()
S = schnorr.prove(SECRET, R_SECRET, C)


def wycheproof_cases() -> list[Any]:
    groups = json.loads(VECTORS.read_text("utf-8"))["testGroups"]
    return [
        pytest.param(bytes.fromhex(group["publicKey"]["pk"]), case, id=f"tc{case['tcId']}")
        for group in groups
        for case in group["tests"]
    ]


@pytest.mark.parametrize(("public", "case"), wycheproof_cases())
def test_the_equation_agrees_with_wycheproof(public: bytes, case: dict[str, str]) -> None:
    """An Ed25519 signature is a Schnorr proof with c = SHA-512(R, A, M): valid ones pass and invalid ones do not."""
    signature = bytes.fromhex(case["sig"])
    commitment, s = signature[:32], signature[32:]
    c = bindings.crypto_core_ed25519_scalar_reduce(
        hashlib.sha512(commitment + public + bytes.fromhex(case["msg"])).digest()
    )
    assert schnorr.is_valid_public_key(public)
    assert schnorr.verify(public, commitment, c, s) == (case["result"] == "valid")


@settings(deadline=None)
@given(seed=st.binary(min_size=32, max_size=32), entropy=st.binary(min_size=64, max_size=64).filter(any))
def test_whoever_knows_the_secret_is_accepted(seed: bytes, entropy: bytes) -> None:
    """Any seed, any commitment: the honest proof passes, and the key is a valid one."""
    secret = schnorr.secret_from_seed(seed)
    public = schnorr.public_key(secret)
    r, commitment = schnorr.commit(entropy)
    c = login_challenge(public=public, commitment=commitment)
    assert schnorr.is_valid_public_key(public)
    assert schnorr.verify(public, commitment, c, schnorr.prove(secret, r, c))


def test_the_secret_is_derived_as_written_down() -> None:
    """x is SHA-512 over label and seed, reduced; the labels keep the uses of one seed apart."""
    digest = hashlib.sha512(b"fortress schnorr secret v1" + bytes(range(32))).digest()
    assert number(SECRET) == int.from_bytes(digest, "little") % GROUP_ORDER
    assert schnorr.order_signing_seed(bytes(32)) != schnorr.order_signing_seed(bytes([1]) * 32)
    assert schnorr.order_signing_seed(bytes(range(32))) not in (SECRET, bytes(range(32)))


def test_the_challenge_is_hashed_as_written_down() -> None:
    """Label, hash, names after their two-byte lengths, key, commitment, nonce: in this order and nothing else."""
    hashed = b"fortress login v1" + HASH + b"\x00\x01a" + b"\x00\x03ada" + PUBLIC + COMMITMENT + NONCE
    assert number(C) == int.from_bytes(hashlib.sha512(hashed).digest(), "little") % GROUP_ORDER


def test_every_part_of_the_challenge_counts() -> None:
    """Another channel, bank, name, key, commitment, nonce or purpose is another challenge."""
    parts = (HASH, "a", "ada", PUBLIC, COMMITMENT, NONCE)
    seen = {C, schnorr.challenge(*parts, label=schnorr.REGISTER_LABEL)}
    for other in (
        (b"H" * 32, "a", "ada", PUBLIC, COMMITMENT, NONCE),
        (HASH, "b", "ada", PUBLIC, COMMITMENT, NONCE),
        (HASH, "a", "adb", PUBLIC, COMMITMENT, NONCE),
        (HASH, "aa", "da", PUBLIC, COMMITMENT, NONCE),
        (HASH, "a", "ada", COMMITMENT, COMMITMENT, NONCE),
        (HASH, "a", "ada", PUBLIC, PUBLIC, NONCE),
        (HASH, "a", "ada", PUBLIC, COMMITMENT, b"N" * 32),
    ):
        seen.add(schnorr.challenge(*other))
    assert len(seen) == 9


def test_a_new_key_is_proven_on_its_own_channel_only() -> None:
    """The proof that comes with a new key is bound to the channel, and is never a login's."""
    c = schnorr.key_proof_challenge(HASH, "a", "ada", PUBLIC, COMMITMENT)
    nonce = schnorr.key_proof_nonce(HASH)
    assert nonce == hashlib.sha256(b"fortress key proof v1" + HASH).digest()
    assert c == schnorr.challenge(HASH, "a", "ada", PUBLIC, COMMITMENT, nonce, label=b"fortress register v1")
    assert c != schnorr.challenge(HASH, "a", "ada", PUBLIC, COMMITMENT, nonce)
    assert schnorr.verify(PUBLIC, COMMITMENT, c, schnorr.prove(SECRET, R_SECRET, c))
    assert c != schnorr.key_proof_challenge(b"H" * 32, "a", "ada", PUBLIC, COMMITMENT)
    with pytest.raises(LocalProtocolError, match="hash"):
        schnorr.key_proof_nonce(b"short")


def test_a_forger_with_the_public_key_alone_fails() -> None:
    """Choosing s first and solving for R works against a verifier that takes c from the prover; here c follows R."""
    s = scalar(12345)
    chosen_c = scalar(67890)
    commitment = bindings.crypto_core_ed25519_sub(
        bindings.crypto_scalarmult_ed25519_base_noclamp(s),
        bindings.crypto_scalarmult_ed25519_noclamp(chosen_c, PUBLIC),
    )
    assert schnorr.verify(PUBLIC, commitment, chosen_c, s), "the forgery is right for the challenge it chose"
    assert not schnorr.verify(PUBLIC, commitment, login_challenge(commitment=commitment), s)


def test_a_recorded_proof_is_worth_nothing_for_another_nonce() -> None:
    """Replay: the bank's nonce is new each time, so the old s does not fit."""
    fresh = schnorr.challenge(HASH, "a", "ada", PUBLIC, COMMITMENT, b"m" * 32)
    assert schnorr.verify(PUBLIC, COMMITMENT, C, S)
    assert not schnorr.verify(PUBLIC, COMMITMENT, fresh, S)


def test_a_proof_relayed_to_another_channel_fails() -> None:
    """A man in the middle has two channels with two hashes; a proof made for one does not fit the other."""
    assert not schnorr.verify(PUBLIC, COMMITMENT, login_challenge(handshake_hash=b"other" + bytes(27)), S)


def test_one_commitment_used_twice_reveals_the_secret() -> None:
    """Why r must be fresh: two answers under one R give x by division."""
    other_c = schnorr.challenge(HASH, "a", "ada", PUBLIC, COMMITMENT, b"m" * 32)
    other_s = schnorr.prove(SECRET, R_SECRET, other_c)
    difference = pow(number(C) - number(other_c), -1, GROUP_ORDER)
    assert (number(S) - number(other_s)) * difference % GROUP_ORDER == number(SECRET)


def test_another_persons_proof_fails() -> None:
    """The right steps with the wrong secret do not convince."""
    wrong = schnorr.secret_from_seed(bytes(32))
    assert not schnorr.verify(PUBLIC, COMMITMENT, C, schnorr.prove(wrong, R_SECRET, C))


@pytest.mark.parametrize("point", SMALL_ORDER, ids=lambda point: point.hex()[:6] + point.hex()[-2:])
def test_points_of_small_order_are_no_keys_and_no_commitments(point: bytes) -> None:
    """Identity, small order and foreign encodings are refused in both places, with any s."""
    assert not schnorr.is_valid_public_key(point)
    for s in (S, scalar(1), C):
        assert not schnorr.verify(point, COMMITMENT, C, s)
        assert not schnorr.verify(point, point, C, s)
        assert not schnorr.verify(PUBLIC, point, C, s)


def test_points_of_mixed_order_are_no_keys() -> None:
    """A good point plus one of order 8 is on the curve, yet outside the group."""
    mixed = bindings.crypto_core_ed25519_add(PUBLIC, SMALL_ORDER[2])
    assert not schnorr.is_valid_public_key(mixed)
    assert not schnorr.verify(mixed, COMMITMENT, login_challenge(public=mixed), S)


def test_the_identity_as_commitment_is_refused_even_when_the_equation_holds() -> None:
    """r = 0 would show s = c*x, which is the secret itself to whoever divides; nobody honest sends it."""
    s = scalar(number(C) * number(SECRET) % GROUP_ORDER)
    assert not schnorr.verify(PUBLIC, IDENTITY, C, s)


def test_s_has_one_form_only() -> None:
    """s + l solves the same equation and libsodium takes it; here it is refused, and so are 0 and l."""
    doubled = scalar(number(S) + GROUP_ORDER)
    accepted = bindings.crypto_scalarmult_ed25519_base_noclamp(doubled)
    assert accepted == bindings.crypto_scalarmult_ed25519_base_noclamp(S)
    for s in (doubled, scalar(0), scalar(GROUP_ORDER), b"\xff" * 32):
        assert not schnorr.verify(PUBLIC, COMMITMENT, C, s)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_parts_of_another_size_are_not_accepted(place: int, size: int) -> None:
    """Too short or too long is a plain no, not a crash."""
    parts = [PUBLIC, COMMITMENT, C, S]
    parts[place] = parts[place].ljust(size, b"\0")[:size]
    assert not schnorr.verify(*parts)
    assert not schnorr.is_valid_public_key(PUBLIC.ljust(size, b"\0")[:size])


def test_every_byte_of_a_proof_counts() -> None:
    """Change any byte of any part, and the answer is no."""
    for place in range(4):
        for at in range(32):
            parts = [bytearray(PUBLIC), bytearray(COMMITMENT), bytearray(C), bytearray(S)]
            parts[place][at] ^= 1
            assert not schnorr.verify(*map(bytes, parts))


@settings(deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_arbitrary_bytes_prove_nothing(public: bytes, commitment: bytes, c: bytes, s: bytes) -> None:
    """Any bytes at all give a plain no."""
    assert not schnorr.verify(public, commitment, c, s)


def test_the_callers_mistakes_are_named() -> None:
    """Seeds, entropy and parts of a challenge have their sizes."""
    with pytest.raises(LocalProtocolError, match="seed"):
        schnorr.secret_from_seed(bytes(31))
    with pytest.raises(LocalProtocolError, match="seed"):
        schnorr.order_signing_seed(bytes(33))
    with pytest.raises(LocalProtocolError, match="entropy"):
        schnorr.commit(bytes(32))
    for broken in (bytes(64), GROUP_ORDER.to_bytes(64, "little")):
        with pytest.raises(LocalProtocolError, match="not random"):
            schnorr.commit(broken)
    with pytest.raises(LocalProtocolError, match="nonce"):
        schnorr.challenge(HASH, "a", "ada", PUBLIC, COMMITMENT, b"short")
    with pytest.raises(LocalProtocolError, match="too long"):
        schnorr.challenge(HASH, "a", "a" * 65_536, PUBLIC, COMMITMENT, NONCE)


def test_a_password_gives_the_same_seed_however_it_was_typed() -> None:
    """Composed and decomposed letters are one password; another salt or password is another seed."""
    password = "Zürich tröpfelt"
    decomposed = unicodedata.normalize("NFD", password)
    assert password != decomposed
    seed = schnorr.seed_from_password(password, bytes(16), KdfParameters())
    assert len(seed) == 32
    assert schnorr.seed_from_password(decomposed, bytes(16), KdfParameters()) == seed
    assert schnorr.seed_from_password(password, b"\1" * 16, KdfParameters()) != seed


@pytest.mark.parametrize(
    ("salt", "parameters", "why"),
    [
        (bytes(15), KdfParameters(), "salt"),
        (bytes(17), KdfParameters(), "salt"),
        (bytes(16), KdfParameters(memory_kib=65_535), "memory_kib is 65535"),
        (bytes(16), KdfParameters(memory_kib=1_048_577), "memory_kib"),
        (bytes(16), KdfParameters(iterations=2), "iterations"),
        (bytes(16), KdfParameters(iterations=17), "iterations"),
        (bytes(16), KdfParameters(lanes=0), "lanes"),
        (bytes(16), KdfParameters(lanes=17), "lanes"),
    ],
)
def test_a_bank_that_asks_for_a_weak_or_endless_derivation_is_refused(
    salt: bytes, parameters: KdfParameters, why: str
) -> None:
    """A hostile bank gets neither a cheap hash to guess against nor the client's memory."""
    with pytest.raises(KeyDerivationRefused, match=why):
        schnorr.seed_from_password("correct horse battery", salt, parameters)


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("", "at least 10"),
        ("shortone1", "at least 10"),
        ("aaaaaaaaaaaa", "repeats"),
        ("abcabcabcabc", "repeats"),
        ("Xy7!Xy7!Xy7!", "repeats"),
        ("12345678901234", "sequence"),
        ("01234567890123", "sequence"),
        ("9876543210", "sequence"),
        ("abcdefghijkl", "sequence"),
        ("ZYXWVUTSRQPO", "sequence"),
        ("qwertyuiopas", "sequence"),
        ("poiuytrewq", "sequence"),
        ("iloveyouforever", "tries first"),
        ("Password123!", "tries first"),
        ("P@ssw0rd2024", "tries first"),
        ("!!!Welcome2025!!!", "tries first"),
        ("3l1z@b3th99", "tries first"),
        ("footba11-2024", "tries first"),
        ("correcthorsebatterystaple", "tries first"),
    ],
)
def test_a_weak_password_is_refused_with_the_reason(password: str, why: str) -> None:
    """Length, repetition, sequences, and the passwords everybody tries, also disguised."""
    with pytest.raises(PasswordTooWeak, match=why):
        schnorr.check_password(password)


@pytest.mark.parametrize(
    "password",
    [
        "lamp frost zebra 91",
        "Tr0mmel!wirbel",
        "8214-7730-55-1",
        "стол окно лампа",
        "12" * 40 + "password",
        "correct horse battery staple",
    ],
)
def test_other_passwords_are_accepted(password: str) -> None:
    """Phrases, other scripts, and digits that are no sequence."""
    schnorr.check_password(password)


def test_the_nonce_of_a_key_proof_comes_from_the_channel() -> None:
    """The same on both sides of a channel, another on every other channel, and none of a hash of another size."""
    assert schnorr.key_proof_nonce(bytes(32)) == hashlib.sha256(b"fortress key proof v1" + bytes(32)).digest()
    assert schnorr.key_proof_nonce(bytes(32)) != schnorr.key_proof_nonce(b"\x01" * 32)
    with pytest.raises(LocalProtocolError):
        schnorr.key_proof_nonce(bytes(31))
