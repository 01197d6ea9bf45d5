"""The border to the database: files that are encrypted, errors that are the ledger's own.

Pages are sealed with AEGIS-256 under a key of 32 bytes, so a page that was changed or moved does not open. A page
rolled back to an older version of itself does: :mod:`fortress.ledger.audit` finds that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from fortress.errors import DiskFull, KeyUnusable, StoreCorrupt

BUSY_MS_MAX = 10_000


class translated:
    """Turn the database's errors into the ledger's within a ``with`` block.

    Raises:
        DiskFull: there is no space; the transaction under way was undone.
        StoreCorrupt: anything else the database says.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UnicodeDecodeError):
            raise StoreCorrupt(f"{self._name} holds text that is none") from error
        if not isinstance(error, apsw.Error):
            return
        if isinstance(error, apsw.FullError) or (isinstance(error, apsw.IOError) and "full" in str(error).lower()):
            raise DiskFull(f"no space left to write {self._name}") from error
        raise StoreCorrupt(f"{self._name}: {error}") from error


@contextmanager
def transaction(db: apsw.Connection) -> Iterator[None]:
    """Do all of a ``with`` block or nothing.

    After some errors, a full disk among them, the database has undone everything by itself; apsw's own ``with`` then
    fails to undo it again and hides the first error.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def connect(path: Path, key: bytes, *, pragmas: str, is_read_only: bool = False) -> apsw.Connection:
    """Open an encrypted file, made when it is missing, in write-ahead mode.

    Args:
        is_read_only: nothing is made or changed, not even what the write-ahead file holds moved to its place.

    Raises:
        KeyUnusable: it does not open with this key.
        DiskFull, StoreCorrupt: it cannot be opened.
    """
    with translated(path.name):
        new = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY if is_read_only else new)
        try:
            db.execute("PRAGMA cipher = 'aegis'")
            db.execute(f'PRAGMA key = "raw:{key.hex()}"')
            if not is_read_only:
                db.execute("PRAGMA journal_mode = wal")
            db.execute(pragmas)
            db.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        except apsw.NotADBError as error:
            db.close()
            raise KeyUnusable(f"{path.name} does not open with this folder's key") from error
        except apsw.Error:
            db.close()
            raise
    db.set_busy_timeout(BUSY_MS_MAX)
    return db
