"""Where people's own keys lie, beside the journal and not in it.

Personal data is journaled only as ciphertext under a key of that customer's own, and that key is only here; so
erasing the key erases the person, while every entry, hash and proof stays as it is. Login keys are sealed too, under
the bank's vault key. A small encrypted SQLite file, synced fully; it must be kept as safely as the journal.
Blocking: call it from pool threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fortress.errors import StoreCorrupt
from fortress.ledger.database import connect, translated

NONCE_SIZE_BYTES = 12
_LOGIN_KEY = b"fortress login key v1"
_PERSON = b"fortress person v1"


class Vault:
    """The keys of a bank's people.

    Args:
        path: the file; made when it is missing.
        key: 32 bytes, the bank's vault key.
    """

    def __init__(self, path: Path, key: bytes, *, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._bank_key = AESGCM(key)
        self._entropy = entropy
        self._name = path.name
        self._lock = threading.Lock()  # several threads come here, and a connection serves one at a time
        self._db = connect(path, key, pragmas="PRAGMA synchronous = full; PRAGMA secure_delete = on")
        self._execute("CREATE TABLE IF NOT EXISTS people (handle BLOB PRIMARY KEY, key BLOB NOT NULL)")

    def close(self) -> None:
        """Close the file."""
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
        rows = self._execute("SELECT key FROM people WHERE handle = ?", handle)
        return self._opened(AESGCM(rows[0][0]), handle, sealed, _PERSON) if rows else None

    def erase_person(self, handle: bytes) -> None:
        """Destroy a customer's own key; what is sealed under it can be read by nobody from now on."""
        self._execute("DELETE FROM people WHERE handle = ?", handle)
        # the write-ahead file still holds the page with the key
        self._execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _person_key(self, handle: bytes) -> bytes:
        self._execute("INSERT OR IGNORE INTO people VALUES (?, ?)", handle, self._entropy(32))
        key: bytes = self._execute("SELECT key FROM people WHERE handle = ?", handle)[0][0]
        return key

    def _execute(self, sql: str, *bindings: bytes) -> list[Any]:
        with self._lock, translated(self._name):
            rows: list[Any] = self._db.execute(sql, bindings).fetchall()
        return rows

    def _opened(self, key: AESGCM, handle: bytes, sealed: bytes, label: bytes) -> bytes:
        try:
            return key.decrypt(sealed[:NONCE_SIZE_BYTES], sealed[NONCE_SIZE_BYTES:], label + handle)
        except (InvalidTag, ValueError) as error:
            raise StoreCorrupt("a customer's sealed data does not open") from error
