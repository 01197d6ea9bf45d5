"""The secrets of a node in one file, sealed by AES-256-GCM under the key-encryption key.

The key-encryption key itself lies elsewhere: in a file of mode 0600, a systemd credential, or behind a command (a key
management service). Whoever has only the data folder reads nothing; losing the key-encryption key loses the data.

Layout of the file: magic, 12 bytes nonce, the sealed msgpack map from name to 32 bytes; the magic is authenticated.
The file is only ever replaced whole: written beside, synced, renamed, folder synced.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fortress.errors import KeyUnusable

KEY_SIZE_BYTES: Final = 32
FILE_MODE: Final = 0o600
CREDENTIAL_NAME: Final = "fortress.key"
"""Name of the systemd credential that holds the key-encryption key (LoadCredentialEncrypted=fortress.key:...)."""
COMMAND_DEADLINE_S: Final = 30

OWN_TO_NODE: Final = ("data_key", "store_key")
"""What each node of a bank has for itself; all other secrets are the bank's, and equal on both."""

_MAGIC: Final = b"fortress keyring 1\n"
_NONCE_SIZE_BYTES: Final = 12
_FILE_SIZE_BYTES_MAX: Final = 4096
_decode_secrets = msgspec.msgpack.Decoder(dict[str, bytes]).decode


def _secret() -> bytes:
    return field(default_factory=lambda: secrets.token_bytes(KEY_SIZE_BYTES), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """The secrets of one node, 32 bytes each; made at random, kept for the life of the folder.

    Attributes:
        data_key: seals the journal's segments; the node's own.
        store_key: encrypts the tables; the node's own.
        vault_key: wraps customers' own keys and login keys.
        noise_private: X25519 static key of the sealed channel.
        token_seed: Ed25519 seed that signs session tokens.
        head_seed: Ed25519 seed that signs heads of the journal.
        handle_key: HMAC key that turns usernames into handles and makes the salts of unknown ones.
    """

    data_key: bytes = _secret()
    store_key: bytes = _secret()
    vault_key: bytes = _secret()
    noise_private: bytes = _secret()
    token_seed: bytes = _secret()
    head_seed: bytes = _secret()
    handle_key: bytes = _secret()

    @classmethod
    def create(cls, path: Path, kek: bytes) -> Keyring:
        """Make fresh secrets and write them to a file that must not exist yet; returns once it is durable.

        Raises:
            KeyUnusable: the file exists, cannot be written, or the key-encryption key has not 32 bytes.
        """
        return cls()._created(path, kek)

    @classmethod
    def create_from(cls, path: Path, kek: bytes, other: Keyring) -> Keyring:
        """Write the secrets of another node of the same bank: those of :meth:`for_peer`, as :meth:`create` does.

        Raises:
            KeyUnusable: as :meth:`create`.
        """
        return cls.for_peer(other)._created(path, kek)

    @classmethod
    def for_peer(cls, other: Keyring) -> Keyring:
        """Make the secrets of another node of the same bank: the bank's own as they are, the node's own anew."""
        return replace(other, **{name: secrets.token_bytes(KEY_SIZE_BYTES) for name in OWN_TO_NODE})

    @classmethod
    def open(cls, path: Path, kek: bytes) -> Keyring:
        """Read the secrets.

        Raises:
            KeyUnusable: the file is missing, open to others, damaged, or sealed under another key-encryption key.
        """
        return cls.unsealed(_read_private_file(path, "the keyring"), kek, path)

    @classmethod
    def unsealed(cls, data: bytes, kek: bytes, path: Path) -> Keyring:
        """Open what a keyring's file holds; ``path`` is where it came from.

        Raises:
            KeyUnusable: it is damaged, or sealed under another key-encryption key.
        """
        nonce_end = len(_MAGIC) + _NONCE_SIZE_BYTES
        if not data.startswith(_MAGIC):
            raise KeyUnusable(f"{str(path)!r} is not a keyring of this version", {"file": str(path)})
        try:
            plain = AESGCM(_checked(kek)).decrypt(data[len(_MAGIC) : nonce_end], data[nonce_end:], _MAGIC)
            return cls(**{name: _checked(value) for name, value in _decode_secrets(plain).items()})
        except (InvalidTag, ValueError, TypeError) as exc:
            message = f"{str(path)!r} does not open: the key-encryption key is another one, or the file is damaged"
            raise KeyUnusable(message, {"file": str(path)}) from exc

    def _created(self, path: Path, kek: bytes) -> Keyring:
        _create_file(path, _seal(self, kek))
        return self


def rekey(path: Path, old: bytes, new: bytes) -> None:
    """Seal the same secrets under another key-encryption key; a crash leaves the old file or the new one, whole.

    Raises:
        KeyUnusable: the old key does not open the file, the new one has not 32 bytes, or writing failed.
    """
    _replace_file(path, _seal(Keyring.open(path, old), new))


def create_kek(path: Path) -> bytes:
    """Make a key-encryption key and write it, in hexadecimal, to a file that must not exist yet.

    Raises:
        KeyUnusable: the file exists or cannot be written.
    """
    kek = secrets.token_bytes(KEY_SIZE_BYTES)
    write_kek(path, kek)
    return kek


def write_kek(path: Path, kek: bytes) -> None:
    """Write a key-encryption key, in hexadecimal, to a file that must not exist yet.

    Raises:
        KeyUnusable: the file exists or cannot be written.
    """
    _create_file(path, _checked(kek).hex().encode() + b"\n")


def read_kek(*, key_file: Path, key_command: str, environment: Mapping[str, str]) -> bytes:
    """Fetch the key-encryption key: from the command if there is one, else a systemd credential, else the file.

    Args:
        key_file: file of mode 0600.
        key_command: run by the shell, must print the key within 30 s; empty for none.
        environment: the process's variables; systemd names the folder of credentials in one.

    Raises:
        KeyUnusable: the source is missing, open to others, fails, or gives neither 32 bytes nor 64 hexadecimal digits.
    """
    if key_command:
        return _parsed(_output_of(key_command), "what the key command prints")
    credential = Path(environment.get("CREDENTIALS_DIRECTORY") or os.devnull) / CREDENTIAL_NAME
    if credential.is_file():
        # systemd guards these by an access list, which shows as group bits in the mode
        return _parsed(credential.read_bytes(), "the systemd credential")
    return _parsed(_read_private_file(key_file, "the key-encryption key"), f"{str(key_file)!r}")


def _checked(key: bytes) -> bytes:
    if len(key) != KEY_SIZE_BYTES:
        raise KeyUnusable(f"a key has {KEY_SIZE_BYTES} bytes, not {len(key)}")
    return key


def _seal(keyring: Keyring, kek: bytes) -> bytes:
    plain = msgspec.msgpack.encode({item.name: getattr(keyring, item.name) for item in fields(keyring)})
    nonce = secrets.token_bytes(_NONCE_SIZE_BYTES)
    return _MAGIC + nonce + AESGCM(_checked(kek)).encrypt(nonce, plain, _MAGIC)


def _parsed(data: bytes, source: str) -> bytes:
    if len(data) == KEY_SIZE_BYTES:
        return data
    try:
        return _checked(bytes.fromhex(data.decode("ascii")))
    except (ValueError, KeyUnusable) as exc:
        raise KeyUnusable(f"{source} is neither 32 bytes nor 64 hexadecimal digits") from exc


def _output_of(command: str) -> bytes:
    try:
        run = subprocess.run(command, shell=True, stdout=subprocess.PIPE, timeout=COMMAND_DEADLINE_S, check=True)
    except subprocess.TimeoutExpired as exc:
        raise KeyUnusable(f"the key command did not finish within {COMMAND_DEADLINE_S} s") from exc
    except subprocess.CalledProcessError as exc:
        raise KeyUnusable(f"the key command failed with exit status {exc.returncode}") from exc
    return run.stdout


def _read_private_file(path: Path, what: str) -> bytes:
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_FILE_SIZE_BYTES_MAX)
    except OSError as exc:
        raise KeyUnusable(f"{what} cannot be read from {str(path)!r}: {exc.strerror}", {"file": str(path)}) from exc
    if mode & 0o077:
        raise KeyUnusable(f"{str(path)!r} can be read by others; set its mode to 0600", {"file": str(path)})
    return data


def _create_file(path: Path, data: bytes) -> None:
    if path.exists():
        raise KeyUnusable(f"{str(path)!r} exists and is never overwritten", {"file": str(path)})
    _replace_file(path, data)


def _replace_file(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        # the mode is right from the first byte
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        _sync_folder(path.parent)
    except OSError as exc:
        beside.unlink(missing_ok=True)
        raise KeyUnusable(f"{str(path)!r} cannot be written: {exc.strerror}", {"file": str(path)}) from exc


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
