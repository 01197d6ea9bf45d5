"""The cookie that is the session, and what keeps other sites from using it.

Its name ends with the bank's id: browsers keep one jar for all ports of a host, where pages of several banks may run.
Its value is the bank's token, a dot, and 16 random bytes in hexadecimal. The anti-forgery token is a hash of
these random bytes; a page gets it from ``GET /api/session``, which no other origin can read, and sends it back in a
header with every change. A new token keeps the random bytes, so that pages that are open need not ask anew.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from fortress.web.call import OriginRefused

PREFIX: Final = "__Host-fortress"
HEADER: Final = "X-Fortress-Anti-Forgery"
LABEL: Final = b"fortress web anti-forgery v1"
RANDOM_SIZE_BYTES: Final = 16
VALUE_LENGTH_MAX: Final = 2048 + 1 + 2 * RANDOM_SIZE_BYTES

_ATTRIBUTES: Final = "Path=/; Secure; HttpOnly; SameSite=Strict"
_VALUE: Final = re.compile(r"([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)\.([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class Credential:
    """What a cookie holds.

    Attributes:
        token: the bank's; whether it is good only the bank can tell.
        random: behind the anti-forgery token.
    """

    token: str = field(repr=False)
    random: bytes = field(repr=False)

    @property
    def anti_forgery(self) -> str:
        """What changes must bring in their header."""
        return hashlib.sha256(LABEL + self.random).hexdigest()

    def cookie(self, name: str) -> str:
        """Give the value of ``Set-Cookie``; the browser forgets it when it is closed."""
        return f"{name}={self.token}.{self.random.hex()}; {_ATTRIBUTES}"


def name_of(bank: str) -> str:
    """Give the name of a bank's cookie."""
    return f"{PREFIX}-{bank}"


def no_cookie(name: str) -> str:
    """Give the value of ``Set-Cookie`` that takes the cookie away."""
    return f"{name}=; {_ATTRIBUTES}; Max-Age=0"


def new_random() -> bytes:
    """Draw the random part of a new session's cookie."""
    return secrets.token_bytes(RANDOM_SIZE_BYTES)


def credential_of(cookies: Mapping[str, str], name: str) -> Credential | None:
    """Read a request's cookie; None if there is none of the right form."""
    value = cookies.get(name, "")
    found = _VALUE.fullmatch(value) if len(value) <= VALUE_LENGTH_MAX else None
    return Credential(found[1], bytes.fromhex(found[2])) if found is not None else None


def check_origin(headers: Mapping[str, str], origins: Collection[str], *, is_told: bool = False) -> None:
    """Refuse what a page of another origin has sent.

    Browsers send ``Origin`` with every change and every WebSocket; programs that are no browsers need not.

    Args:
        origins: our own.
        is_told: refuse also what does not say where it comes from.

    Raises:
        OriginRefused: it is not one of our own pages.
    """
    origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site", "same-origin")
    if (origin is None and is_told) or (origin is not None and origin not in origins):
        raise OriginRefused
    if site not in ("same-origin", "none"):
        raise OriginRefused


def check_anti_forgery(headers: Mapping[str, str], credential: Credential | None) -> None:
    """Refuse a change without the right anti-forgery token; before anybody is signed in any value will do.

    A header of our own name can be set by our own pages only (CORS asks first, and is not answered), which is all that
    signing in needs.

    Raises:
        OriginRefused: it is missing or wrong.
    """
    told = headers.get(HEADER)
    if told is None:
        raise OriginRefused("the anti-forgery header is missing")
    if credential is not None and not _same(told, credential.anti_forgery):
        raise OriginRefused("the anti-forgery token is not that of this session")


def _same(told: str, right: str) -> bool:
    # bytes that are no UTF-8 arrive as surrogates
    return hmac.compare_digest(told.encode("utf-8", "surrogateescape"), right.encode())
