"""Makes ``login.json``: what the bank's side computes for the login, to which the browser's side is held.

Run ``python -m tests.vectors.login`` after the protocol was changed on purpose; `tests.protocol.test_login_vectors`
compares the file with what is computed now.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from fortress.client.credentials import LoginKey
from fortress.errors import KeyDerivationRefused, PasswordTooWeak
from fortress.protocol import schnorr
from fortress.protocol.orders import PaymentOrder, sign_order
from fortress.protocol.schnorr import KdfParameters

FILE: Final = Path(__file__).with_suffix(".json")
DEFAULT: Final = KdfParameters()
PEOPLE: Final = (
    # password as typed, bank, username, parameters
    ("correct horse battery staple", "bank-a", "ada", DEFAULT),
    ("Gr\u00fc\u00dfe aus K\u00f6ln 1987", "bank-a", "j.doe-2", DEFAULT),
    ("Gru\u0308\u00dfe aus Ko\u0308ln 1987", "bank-a", "j.doe-2", DEFAULT),  # the same, typed with combining marks
    ("\u1112\u1161\u11ab\u1100\u1173\u11af \ube44\ubc00\ubc88\ud638 42", "b", "a", KdfParameters(65_536, 4, 1)),
    ("\U0001f600\u212b\ufb01 \u0041\u030a \U0001d11e tail", "a" * 32, "z" * 64, KdfParameters(66_001, 3, 3)),
    (" spaces count \t too ", "gateway", "0._-", KdfParameters(131_072, 3, 16)),
)
ORDERS: Final = (
    # payee, amount, reference, not after
    ("bank-b/1000265", 1, "", 0),
    ("bank-b/1000265", 127, "rent", 127),
    ("bank-a/1000168", 128, "r" * 31, 128),
    ("bank-a/1000168", 65_535, "r" * 32, 65_536),
    ("b/199", 4_294_967_296, "Miete f\u00fcr Mai \u20ac \U0001f3e0", 1_767_225_600_000_000),
    ("bank-b/9007199254740991", 2**63 - 1, "\u00e9" * 140, 2**63 - 1),
)
DEBITS: Final = (1, 255, 1_000_168, 4_294_967_295, 4_294_967_296, 2**53 - 1)
CHECKED_PASSWORDS: Final = (
    "",
    "short",
    "ninechars",
    "\u00e4" * 9,
    "a\u0308" * 10,
    "aaaaaaaaaa",
    "ababababababab",
    "abcdefghiabcdefghi",
    "abcdefghijabcdefghij",
    "\u03a3" * 10,
    "\u03c3\u03c2\u03a3" * 5,
    "1234567890",
    "0987654321",
    "9876543210",
    "34567890123",
    "qwertzuiop",
    "poiuytrewq",
    "mnbvcxzlkjhg",
    "1q2w3e4r5t6y",
    "!@#$%^&*()",
    "password123",
    "PASSWORD123",
    "P@ssw0rd!!",
    "pa55w0rd2024",
    "Pa\u00dfword12345",
    "pa\u017fsword12345",
    "passw\u0131rd123456",
    "...iloveyou...",
    "0102030405",
    "letmein12345",
    "adm1n1strat0r",
    "correct horse battery staple",
    "\U0001d4ac\U0001d4c8 tree river 77",
    "\U0001f600\U0001f600\U0001f600\U0001f600\U0001f600\U0001f600\U0001f600\U0001f600\U0001f600\U0001f600",
    "x9$" + "m4!kQ" * 13,
)
CHECKED_PARAMETERS: Final = (
    (16, DEFAULT),
    (16, schnorr.KDF_PARAMETERS_MIN),
    (15, DEFAULT),
    (17, DEFAULT),
    (16, KdfParameters(65_535, 3, 4)),
    (16, KdfParameters(1_048_577, 3, 4)),
    (16, KdfParameters(65_536, 2, 4)),
    (16, KdfParameters(65_536, 17, 4)),
    (16, KdfParameters(65_536, 3, 0)),
    (16, KdfParameters(65_536, 3, 17)),
    (16, schnorr.KDF_PARAMETERS_MAX),
)


def computed() -> dict[str, Any]:
    """Compute all rows anew."""
    return {
        "logins": [_login(at) for at in range(len(PEOPLE))],
        "passwords": [{"password": each, "reason": _weakness(each)} for each in CHECKED_PASSWORDS],
        "derivations": [
            {"salt_size": size, **_fields(parameters), "reason": _refusal(size, parameters)}
            for size, parameters in CHECKED_PARAMETERS
        ],
    }


def _login(at: int) -> dict[str, Any]:
    password, bank, username, parameters = PEOPLE[at]
    # from the username, so that a password in two Unicode forms (rows 1 and 2) must come to the same key and proof
    channel, nonce = _bytes("channel", username, 32), _bytes("nonce", username, 32)
    salt, entropy = _bytes("salt", username, schnorr.SALT_SIZE_BYTES), _bytes("entropy", username, 64)
    seed = schnorr.seed_from_password(password, salt, parameters)
    key, secret = LoginKey(seed), schnorr.secret_from_seed(seed)
    r, commitment = schnorr.commit(entropy)
    c = schnorr.challenge(channel, bank, username, key.public, commitment, nonce)
    key_c = schnorr.key_proof_challenge(channel, bank, username, key.public, commitment)
    order = _order(at, bank)
    return {
        "password": password,
        "salt": salt.hex(),
        **_fields(parameters),
        "entropy": entropy.hex(),
        "channel": channel.hex(),
        "bank": bank,
        "username": username,
        "nonce": nonce.hex(),
        "seed": seed.hex(),
        "public": key.public.hex(),
        "commitment": commitment.hex(),
        "challenge": c.hex(),
        "proof": schnorr.prove(secret, r, c).hex(),
        "key_challenge": key_c.hex(),
        "key_proof": schnorr.prove(secret, r, key_c).hex(),
        "signing": key.signing_public().hex(),
        "order": {
            "bank": order.bank,
            "id": order.id.hex(),
            "debit": order.debit,
            "payee": order.payee,
            "amount": str(order.amount_minor),
            "currency": order.currency,
            "reference": order.reference,
            "not_after": str(order.not_after_us),
        },
        "statement": order.statement().hex(),
        "signature": sign_order(order, key.signing_seed).hex(),
    }


def _order(at: int, bank: str) -> PaymentOrder:
    payee, amount, reference, not_after = ORDERS[at]
    return PaymentOrder(
        bank=bank,
        id=_bytes("id", str(at), 16),
        debit=DEBITS[at],
        payee=payee,
        amount_minor=amount,
        currency="EUR",
        reference=reference,
        not_after_us=not_after,
    )


def _bytes(what: str, of: str, size: int) -> bytes:
    return hashlib.shake_256(f"{what} {of}".encode()).digest(size)


def _fields(parameters: KdfParameters) -> dict[str, int]:
    return {name: getattr(parameters, name) for name in KdfParameters.__struct_fields__}


def _weakness(password: str) -> str:
    try:
        schnorr.check_password(password)
    except PasswordTooWeak as exc:
        return exc.message
    return ""


def _refusal(salt_size: int, parameters: KdfParameters) -> str:
    """Words of the refusal; what is accepted is not derived, since the most takes a gibibyte."""
    least, most = schnorr.KDF_PARAMETERS_MIN, schnorr.KDF_PARAMETERS_MAX
    names = KdfParameters.__struct_fields__
    if salt_size == schnorr.SALT_SIZE_BYTES and all(
        getattr(least, name) <= getattr(parameters, name) <= getattr(most, name) for name in names
    ):
        return ""
    try:
        schnorr.seed_from_password("x", bytes(salt_size), parameters)
    except KeyDerivationRefused as exc:
        return exc.message
    raise AssertionError("parameters out of bounds were accepted")


if __name__ == "__main__":
    FILE.write_text(json.dumps(computed(), indent=1, ensure_ascii=True) + "\n", "utf-8")
