"""``bootstrap.json``: the first administrators of a new bank, which its first start writes into the ledger.

The file holds public material only: salt, parameters, the public point of the login key and the public order signing
key. The password is turned into these on this machine and is kept nowhere.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from fortress.cli.misuse import Misuse
from fortress.protocol.schnorr import KdfParameters

FILE_NAME: Final = "bootstrap.json"
USERNAME_PATTERN: Final = r"[a-z0-9][a-z0-9._-]{0,63}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Administrator:
    """A first administrator as the bank will know them.

    Attributes:
        username: to sign in with.
        name: as people call them.
        salt: of the password, hexadecimal.
        memory_kib: Argon2id memory.
        iterations: Argon2id passes.
        lanes: Argon2id lanes.
        public: point of the login key, hexadecimal.
        signing: public key of payment orders, hexadecimal.
    """

    username: str
    name: str
    salt: str
    memory_kib: int
    iterations: int
    lanes: int
    public: str
    signing: str


def check_username(username: str) -> str:
    """Give back a username that is one.

    Raises:
        Misuse: it is none.
    """
    if not re.fullmatch(USERNAME_PATTERN, username):
        raise Misuse(f"{username!r} is not a username", "use small letters, digits, dot, dash and underscore")
    return username


def make_administrator(username: str, password: str, parameters: KdfParameters, *, name: str = "") -> Administrator:
    """Derive a first administrator's public material; takes about a tenth of a second.

    Raises:
        PasswordTooWeak: the password is short or well known.
        KeyDerivationRefused: the parameters are outside of what clients accept.
    """
    from fortress.client.credentials import LoginKey, new_salt
    from fortress.protocol.schnorr import check_password, seed_from_password

    check_username(username)
    check_password(password)
    salt = new_salt()
    key = LoginKey(seed_from_password(password, salt, parameters))
    return Administrator(
        username=username,
        name=name or username,
        salt=salt.hex(),
        memory_kib=parameters.memory_kib,
        iterations=parameters.iterations,
        lanes=parameters.lanes,
        public=key.public.hex(),
        signing=key.signing_public().hex(),
    )


def write_bootstrap(folder: Path, administrators: Sequence[Administrator], currencies: Sequence[str]) -> Path:
    """Write the file, of mode 0600, for the first start to read."""
    document = {"administrators": [asdict(each) for each in administrators], "currencies": list(currencies)}
    path = folder / FILE_NAME
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return path
