"""What must never leave a page: a password, and the keys that come from it, however they are written down."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from fortress.protocol import schnorr

Moves = Iterable[tuple[str, dict[str, Any]]]


def secrets_of(password: str, key: Mapping[str, Any]) -> dict[str, bytes]:
    """Derive what a page derives from a password; what it is -> bytes.

    Args:
        password: as it is typed.
        key: salt and cost, as they stand in a move.
    """
    parameters = schnorr.KdfParameters(key["memory_kib"], key["iterations"], key["lanes"])
    seed = schnorr.seed_from_password(password, bytes.fromhex(key["salt"]), parameters)
    return {
        "password": password.encode(),
        "seed": seed,
        "login key": schnorr.secret_from_seed(seed),
        "signing seed": schnorr.order_signing_seed(seed),
    }


def found_in(text: str, secrets: dict[str, bytes]) -> list[str]:
    """Name the secrets that stand in a text, in any of the ways in which bytes get into one."""
    low = text.lower()
    return [name for name, secret in secrets.items() if any(form.lower() in low for form in _forms(secret))]


def public_of(secrets: dict[str, bytes]) -> str:
    """Give the public half of the login key, which may be seen by anybody."""
    return schnorr.public_key(secrets["login key"]).hex()


def _forms(secret: bytes) -> Iterator[str]:
    yield secret.hex()
    yield ",".join(map(str, secret))
    yield ", ".join(map(str, secret))
    yield str(int.from_bytes(secret, "big"))
    yield str(int.from_bytes(secret, "little"))
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(secret).rstrip(b"=").decode("ascii")
    for text in (secret.decode("latin-1"), secret[::-1].decode("latin-1")):
        yield text
        yield quote(text)


def work_of(moves: Moves) -> list[tuple[Any, ...]]:
    """Tell which work a ceremony asks of both sides, without what differs from one to the next.

    Of each move: direction, kind, the name and size of each field, and all numbers, which say how hard the derivation
    is. An error is told whole, as a person reads it.
    """
    return [(direction, *_shape(said)) for direction, said in moves if said["type"] != "channel"]


def _shape(said: dict[str, Any]) -> tuple[Any, ...]:
    if said["type"] == "problem":
        return tuple(sorted((name, str(value)) for name, value in said.items()))
    sizes = ((name, value if isinstance(value, int) else len(str(value))) for name, value in said.items())
    return (said["type"], *sorted(pair for pair in sizes if pair[0] not in ("type", "username")))
