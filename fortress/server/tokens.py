"""Session tokens: JWT (RFC 7519) signed by Ed25519 (RFC 8037), short-lived and revocable.

Verifying is PyJWT's. Making one is three lines here, by the same rules (RFC 7515, compact form), since every login pays
for it: libsodium signs in two thirds of the time, and PyJWT's own encoding comes on top.

Revocations are kept as long as a token can live. Their number is bounded: when it is passed, the oldest is forgotten
and every token issued up to then is refused instead, so forgetting never lets a revoked one in.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_seed_keypair

from fortress.errors import TokenRejected

ALGORITHM: Final = "EdDSA"
REVOKED_MAX: Final = 100_000
SECOND_US: Final = 1_000_000
SKEW_US_MAX: Final = 5 * SECOND_US
"""So far another node's clock, which issued a token, may be ahead of this one's."""

_encode_json = msgspec.json.Encoder().encode


def _base64url(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


_HEADER: Final = _base64url(_encode_json({"alg": ALGORITHM, "typ": "JWT"}))


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says, once it is verified.

    Attributes:
        customer: whose session it is.
        roles: at the time of issue; what counts are the present ones.
        session: its id.
        issued_us: microseconds since 1970.
        expires_us: likewise.
    """

    customer: int
    roles: tuple[str, ...]
    session: bytes
    issued_us: int
    expires_us: int


class Tokens:
    """Issue, verify and revoke the session tokens of one bank.

    Args:
        seed: 32 bytes, the bank's token key.
        bank: the audience.
        valid_s: how long a token lives.
    """

    def __init__(self, seed: bytes, bank: str, valid_s: int) -> None:
        public, self._secret = crypto_sign_seed_keypair(seed)
        self._public = Ed25519PublicKey.from_public_bytes(public)
        self._bank = bank
        self._valid_s = self._valid_s_max = valid_s
        # session id, or customer for all of theirs -> when it was revoked; oldest first
        self._revoked: OrderedDict[bytes | int, int] = OrderedDict()
        self._issued_after_us = -1

    def set_valid(self, valid_s: int) -> None:
        """Change how long new tokens live."""
        self._valid_s = valid_s
        # older tokens live on as they are, and so must their revocations
        self._valid_s_max = max(self._valid_s_max, valid_s)

    def issue(self, customer: int, roles: frozenset[str], session: bytes, now_us: int) -> tuple[str, int]:
        """Give a new token and when it expires (µs); it is valid from now."""
        expires_s = now_us // SECOND_US + self._valid_s
        claims = {
            "aud": self._bank,
            "sub": str(customer),
            "roles": sorted(roles),
            "sid": session.hex(),
            "iat": now_us / SECOND_US,
            "exp": expires_s,
        }
        signed = _HEADER + b"." + _base64url(_encode_json(claims))
        signature = crypto_sign(signed, self._secret)[:crypto_sign_BYTES]
        return (signed + b"." + _base64url(signature)).decode(), expires_s * SECOND_US

    def verify(self, token: str, now_us: int) -> Claims:
        """Check signature, audience, time and revocation, and give the claims.

        Raises:
            TokenRejected: any of it does not hold; which is not told.
        """
        claims = self._claims(token)
        if not claims.issued_us - SKEW_US_MAX <= now_us < claims.expires_us or self._is_revoked(claims):
            raise TokenRejected
        return claims

    def revoke(self, session: bytes, now_us: int) -> int:
        """Refuse the tokens of a session from now on; give until when (µs) another process would have to, too."""
        self._revoke(session, now_us)
        return now_us + self._valid_s_max * SECOND_US

    def revoke_customer(self, customer: int, now_us: int) -> None:
        """Refuse all tokens that a customer has so far; later ones are valid."""
        self._revoke(customer, now_us)

    def _claims(self, token: str) -> Claims:
        try:
            # time is checked by `verify`, against the time it is given
            options: jwt.types.Options = {
                "require": ["aud", "sub", "sid", "roles", "iat", "exp"],
                "verify_exp": False,
                "verify_iat": False,
            }
            found = jwt.decode(token, self._public, algorithms=[ALGORITHM], audience=self._bank, options=options)
            return Claims(
                customer=int(found["sub"]),
                roles=tuple(found["roles"]),
                session=bytes.fromhex(found["sid"]),
                issued_us=round(found["iat"] * SECOND_US),
                expires_us=found["exp"] * SECOND_US,
            )
        except (jwt.InvalidTokenError, ValueError, TypeError, RecursionError) as exc:
            raise TokenRejected from exc

    def _is_revoked(self, claims: Claims) -> bool:
        return (
            claims.session in self._revoked
            or claims.issued_us <= self._issued_after_us
            or claims.issued_us <= self._revoked.get(claims.customer, -1)
        )

    def _revoke(self, what: bytes | int, now_us: int) -> None:
        revoked = self._revoked
        revoked[what] = now_us
        revoked.move_to_end(what)
        while revoked:
            oldest, at_us = next(iter(revoked.items()))
            is_over = at_us + self._valid_s_max * SECOND_US < now_us
            if not is_over and len(revoked) <= REVOKED_MAX:
                return
            del revoked[oldest]
            if not is_over:
                self._issued_after_us = max(self._issued_after_us, at_us)
