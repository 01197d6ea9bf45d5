"""Where people's own keys lie, beside the journal and not in it.

Personal data is journaled only as ciphertext under a key of that customer's own, and that key is only here; so
erasing the key erases the person, while every entry, hash and proof stays as it is. Login keys are sealed too, under
the bank's vault key. A small encrypted SQLite file, synced fully; it must be kept as safely as the journal.
Blocking: call it from pool threads.

Two nodes of a bank keep the same keys, beside the journal's records: the one that makes or erases a key is told of it
by ``on_change`` once it is durable there, and passes it on before anything that needs it is committed; the other one
takes it by :meth:`Vault.take`. To find what they missed while apart, both split all keys into 256 buckets by the
handle's first byte and compare a digest of each.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fortress.errors import StoreCorrupt
from fortress.ledger.database import connect, transaction, translated

NONCE_SIZE_BYTES = 12
BUCKETS: Final = 256
BUCKET_DIGEST_SIZE_BYTES: Final = 8
"""Digests find what was missed, they do not guard against forging: whoever sends keys may send any."""

Change = Callable[[bytes, bytes | None], None]
"""Told a handle and its new key; None: erased."""
_LOGIN_KEY = b"fortress login key v1"
_PERSON = b"fortress person v1"


class Vault:
    """The keys of a bank's people.

    Args:
        path: the file; made when it is missing.
        key: 32 bytes, the bank's vault key.

    Attributes:
        on_change: told of each key made or erased here, once that is durable, on the thread that did it and in the
            order it was done; not of what was taken from the other node. It must be quick and not change keys itself.
    """

    def __init__(self, path: Path, key: bytes, *, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._bank_key = AESGCM(key)
        self._entropy = entropy
        self._name = path.name
        self.on_change: Change | None = None
        self._digests: dict[int, bytes] = {}  # of buckets that did not change since
        self._changing = threading.Lock()  # held while a key changes and others are told of it
        self._lock = threading.Lock()  # several threads come here, and a connection serves one at a time
        self._db = connect(path, key, pragmas="PRAGMA synchronous = full; PRAGMA secure_delete = on")
        self._execute("CREATE TABLE IF NOT EXISTS people (handle BLOB PRIMARY KEY, key BLOB NOT NULL)")

    def close(self) -> None:
        """Close the file, once nobody on another thread uses it."""
        with self._lock:
            self._db.close()

    def seal_login_key(self, handle: bytes, public: bytes) -> bytes:
        """Seal a customer's public login key under the bank's vault key."""
        nonce = self._entropy(NONCE_SIZE_BYTES)
        return nonce + self._bank_key.encrypt(nonce, public, _LOGIN_KEY + handle)

    def open_login_key(self, handle: bytes, sealed: bytes) -> bytes:
        """Open a sealed login key.

        Raises:
            StoreCorrupt: it was changed or belongs to somebody else.
        """
        return self._opened(self._bank_key, handle, sealed, _LOGIN_KEY)

    def seal_person(self, handle: bytes, plain: bytes) -> bytes:
        """Seal personal data under the customer's own key, which is made and made durable first if it is new."""
        nonce = self._entropy(NONCE_SIZE_BYTES)
        return nonce + AESGCM(self._person_key(handle)).encrypt(nonce, plain, _PERSON + handle)

    def open_person(self, handle: bytes, sealed: bytes) -> bytes | None:
        """Open personal data; None when the person was erased."""
        key = self._key_of(handle)
        return None if key is None else self._opened(AESGCM(key), handle, sealed, _PERSON)

    def erase_person(self, handle: bytes) -> None:
        """Destroy a customer's own key; what is sealed under it can be read by nobody from now on."""
        with self._changing:
            self._change([(handle, None)])
            if self.on_change is not None:
                self.on_change(handle, None)

    # --- The other node --------------------------------------------------------------------------------------------
    def take(self, handle: bytes, key: bytes | None) -> None:
        """Hold a key of the other node in place of any there was, or for None destroy it; durable afterwards."""
        self.take_all([(handle, key)])

    def take_all(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take several changes of the other node, in order, in one durable step."""
        with self._changing:
            self._change(changes)

    def digests(self) -> bytes:
        """Give ``BUCKET_DIGEST_SIZE_BYTES`` for each of the 256 buckets, one after the other."""
        return b"".join(self._digest(number) for number in range(BUCKETS))

    def bucket(self, number: int) -> tuple[tuple[bytes, bytes], ...]:
        """Give handle and key of everybody whose handle begins with this byte, by handle."""
        bounds = [bytes([byte]) for byte in (number, number + 1) if byte < BUCKETS]
        until = "AND handle < ?" if len(bounds) > 1 else ""
        return tuple(
            self._execute(f"SELECT handle, key FROM people WHERE handle >= ? {until} ORDER BY handle", *bounds)
        )

    def replace_bucket(self, number: int, keys: Iterable[tuple[bytes, bytes]]) -> None:
        """Hold exactly these keys in a bucket, in one durable step.

        Raises:
            ValueError: a handle is not of this bucket; nothing was changed.
        """
        fresh = dict(keys)
        if not all(handle[:1] == bytes([number]) for handle in fresh):
            raise ValueError(f"a handle is not of bucket {number}")
        with self._changing:
            gone = [(handle, None) for handle, _ in self.bucket(number) if handle not in fresh]
            self._change([*gone, *fresh.items()])

    # --- The file --------------------------------------------------------------------------------------------------
    def _person_key(self, handle: bytes) -> bytes:
        key = self._key_of(handle)
        if key is not None:
            return key
        with self._changing:
            key = self._key_of(handle)  # another thread may have made it meanwhile
            if key is None:
                key = self._entropy(32)
                self._change([(handle, key)])
                if self.on_change is not None:
                    self.on_change(handle, key)
        return key

    def _key_of(self, handle: bytes) -> bytes | None:
        rows = self._execute("SELECT key FROM people WHERE handle = ?", handle)
        return rows[0][0] if rows else None

    def _change(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Write changes durably; what is destroyed must not stay in the write-ahead file either."""
        is_any_gone = False
        with self._lock, translated(self._name), transaction(self._db):
            for handle, key in changes:
                self._digests.pop(handle[0], None)
                if key is None:
                    is_any_gone = True
                    self._db.execute("DELETE FROM people WHERE handle = ?", (handle,))
                else:
                    self._db.execute("INSERT OR REPLACE INTO people VALUES (?, ?)", (handle, key))
        if is_any_gone:
            self._execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _digest(self, number: int) -> bytes:
        found = self._digests.get(number)
        if found is not None:
            return found
        with self._changing:  # a digest of keys that are just changing must not be kept
            digest = sha256()
            for handle, key in self.bucket(number):
                digest.update(sha256(handle).digest() + sha256(key).digest())
            self._digests[number] = found = digest.digest()[:BUCKET_DIGEST_SIZE_BYTES]
        return found

    def _execute(self, sql: str, *bindings: bytes) -> list[Any]:
        with self._lock, translated(self._name):
            rows: list[Any] = self._db.execute(sql, bindings).fetchall()
        return rows

    def _opened(self, key: AESGCM, handle: bytes, sealed: bytes, label: bytes) -> bytes:
        try:
            return key.decrypt(sealed[:NONCE_SIZE_BYTES], sealed[NONCE_SIZE_BYTES:], label + handle)
        except (InvalidTag, ValueError) as error:
            raise StoreCorrupt("a customer's sealed data does not open") from error
