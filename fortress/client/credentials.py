"""Secrets of a person or a service, and the proofs made with them; none of them is ever sent.

A person's secret comes from the password by Argon2id, which takes a tenth of a second and 64 MiB, so it runs in a
thread, two at a time however many customers sign in. A service's secret is a random seed in a file of mode 0600.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Final

from fortress.errors import KeyUnusable
from fortress.protocol import schnorr
from fortress.protocol.schnorr import KdfParameters
from fortress.protocol.sessions import KeyMaterial

SEED_SIZE_BYTES: Final = 32
NO_KDF: Final = KdfParameters(0, 0, 0)
"""The parameters of a key that comes from a random seed and from no password."""
_KDF_THREADS: Final = 2


class LoginKey:
    """A login key in memory, made from its 32-byte seed.

    Attributes:
        public: what the bank knows.
        signing_seed: of the key that signs payment orders.
    """

    __slots__ = ("_secret", "public", "signing_seed")

    def __init__(self, seed: bytes) -> None:
        self._secret = schnorr.secret_from_seed(seed)
        self.signing_seed = schnorr.order_signing_seed(seed)
        self.public = schnorr.public_key(self._secret)

    def prove(self, r: bytes, c: bytes) -> bytes:
        """Answer a challenge; ``r`` is of this one proof."""
        return schnorr.prove(self._secret, r, c)

    def signing_public(self) -> bytes:
        """Give the public half of the key that signs payment orders."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self.signing_seed).public_key().public_bytes_raw()


def commit() -> tuple[bytes, bytes]:
    """Make the first move of a proof, (r, R); for one proof only."""
    return schnorr.commit(os.urandom(schnorr.ENTROPY_SIZE_BYTES))


def key_material(
    key: LoginKey, salt: bytes, parameters: KdfParameters, *, channel: bytes, bank: str, username: str
) -> KeyMaterial:
    """Describe a new login key for the bank, with the proof that its sender holds it; good on this channel only."""
    r, commitment = commit()
    c = schnorr.key_proof_challenge(channel, bank, username, key.public, commitment)
    return KeyMaterial(
        salt=salt,
        memory_kib=parameters.memory_kib,
        iterations=parameters.iterations,
        lanes=parameters.lanes,
        public=key.public,
        signing=key.signing_public(),
        commitment=commitment,
        proof=key.prove(r, c),
    )


async def seed_of(password: str, salt: bytes, parameters: KdfParameters) -> bytes:
    """Derive a person's seed from the password, in a thread.

    Raises:
        KeyDerivationRefused: the parameters are outside what is safe.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_kdf_threads(), schnorr.seed_from_password, password, salt, parameters)


@cache
def _kdf_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_KDF_THREADS, thread_name_prefix="fortress-kdf")


def new_salt() -> bytes:
    """Make the salt of a new password."""
    return os.urandom(schnorr.SALT_SIZE_BYTES)


def write_key_file(path: Path) -> bytes:
    """Make a new random seed in a file of mode 0600, and give it; an existing file is never overwritten.

    Raises:
        KeyUnusable: the file exists or cannot be written.
    """
    seed = os.urandom(SEED_SIZE_BYTES)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(seed.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise KeyUnusable(f"the key file {str(path)!r} cannot be written: {exc.strerror}", {"file": str(path)}) from exc
    return seed


def read_key_file(path: Path) -> bytes:
    """Read a seed from its file: 64 hexadecimal digits.

    Raises:
        KeyUnusable: the file is missing, readable by others, or holds no seed.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise KeyUnusable(f"others can read the key file {str(path)!r}; set its mode to 0600")
            text = file.read(4096)
    except OSError as exc:
        raise KeyUnusable(f"the key file {str(path)!r} cannot be read: {exc.strerror}", {"file": str(path)}) from exc
    try:
        seed = bytes.fromhex(text.decode("ascii"))
    except ValueError as exc:
        raise KeyUnusable(f"the key file {str(path)!r} holds no key") from exc
    if len(seed) != SEED_SIZE_BYTES:
        raise KeyUnusable(f"the key file {str(path)!r} holds no key")
    return seed
