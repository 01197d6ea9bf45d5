"""One file that holds a whole bank: records, people's keys, settings and certificates, sealed; what a backup is.

::

    magic           "FORTRESS BACKUP 1\\n"
    header          4 bytes of length, then msgpack: who, when, how far, a salt, the keyring; readable, authenticated
    chunks          4 bytes of length, then one sealed item of a few MiB at most
    last chunk      an item that says how many records there were; nothing follows it

A chunk is sealed by AES-256-GCM. The key is the file's own: HKDF of the node's data key with the salt in the header, so
that a nonce never comes twice under one key; the nonce is the chunk's number and whether it is the last, the associated
data is the header's hash. So no chunk can be changed, left out, put elsewhere or taken from another file, and a file
that was cut off does not read to its end. (The construction is STREAM: Hoang, Reyhanitabar, Rogaway, Vizár, 2015.)

The keyring in the header is as it lies in the node's folder: sealed under the key-encryption key, which is no part of a
backup. Whoever has the file alone reads who and when, and nothing else.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Annotated, BinaryIO, Final, Literal, Self

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fortress.errors import BackupDamaged
from fortress.ledger.records import (
    FIRST_LSN,
    RECORD_SIZE_BYTES_MAX,
    BankId,
    Hash,
    Number,
    Record,
    check_follows,
    decode,
)
from fortress.ledger.segment import sync_folder

SUFFIX: Final = ".backup"
PARTIAL: Final = ".partial"
SALT_SIZE_BYTES: Final = 32
CHUNK_SIZE_BYTES: Final = 1024 * 1024
"""Records are put together up to about so much."""
_CHUNK_SIZE_BYTES_MAX: Final = RECORD_SIZE_BYTES_MAX + CHUNK_SIZE_BYTES + 4096
_HEADER_SIZE_BYTES_MAX: Final = 64 * 1024
_MAGIC: Final = b"FORTRESS BACKUP 1\n"
_PURPOSE: Final = b"fortress backup v1"
_LENGTH: Final = struct.Struct(">I")
_FILE_MODE: Final = 0o600


class Header(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What a backup says of itself to everybody; authenticated by every chunk.

    Attributes:
        bank, node: whose it is.
        made_us: when it was made, microseconds since 1970 UTC.
        first_lsn: the first record in it; more than 1: the tables as of the record before the first are in it too.
        lsn, hash: the last record in it.
        position: the last entry in it, as histories and receipts count.
        time_us: when that record was made.
        keyring: the node's secrets, sealed under its key-encryption key.
    """

    version: Literal[1] = 1
    bank: BankId
    node: Annotated[str, msgspec.Meta(max_length=255)]
    made_us: Number
    first_lsn: Number
    lsn: Number
    hash: Hash
    position: Number
    time_us: Number
    salt: Annotated[bytes, msgspec.Meta(min_length=SALT_SIZE_BYTES, max_length=SALT_SIZE_BYTES)]
    keyring: Annotated[bytes, msgspec.Meta(max_length=4096)]


class File(msgspec.Struct, frozen=True, array_like=True, tag="file"):
    """A small file of the node's folder, whole; ``name`` is relative to it."""

    name: str
    data: bytes


class PeopleKeys(msgspec.Struct, frozen=True, array_like=True, tag="people"):
    """Handle and key of some people."""

    keys: list[tuple[bytes, bytes]]


class TablesPart(msgspec.Struct, frozen=True, array_like=True, tag="tables"):
    """The next bytes of the tables, encrypted under the node's key for them."""

    data: bytes


class Records(msgspec.Struct, frozen=True, array_like=True, tag="records"):
    """The next records, as :func:`fortress.ledger.records.encode` gives them."""

    records: list[bytes]


class End(msgspec.Struct, frozen=True, array_like=True, tag="end"):
    """The last item."""

    records: int


Item = File | PeopleKeys | TablesPart | Records | End

_encode = msgspec.msgpack.Encoder().encode
_decode_item = msgspec.msgpack.Decoder(Item).decode
_decode_header = msgspec.msgpack.Decoder(Header).decode


class _Seal:
    """The key of one backup, and the numbers of its chunks."""

    def __init__(self, data_key: bytes, header: Header, header_data: bytes) -> None:
        self._cipher = AESGCM(HKDF(SHA256(), 32, header.salt, _PURPOSE).derive(data_key))
        self._bound_to = sha256(_MAGIC + header_data).digest()
        self._number = 0

    def seal(self, plain: bytes, *, is_last: bool) -> bytes:
        return self._cipher.encrypt(self._nonce(is_last), plain, self._bound_to)

    def open(self, data: bytes, *, is_last: bool) -> bytes:
        return self._cipher.decrypt(self._nonce(is_last), data, self._bound_to)

    def _nonce(self, is_last: bool) -> bytes:
        number, self._number = self._number, self._number + 1
        return number.to_bytes(11, "big") + bytes([is_last])


class Writer:
    """Write a backup beside its name, and give it that name when it is whole and durable; else nothing is left.

    Args:
        path: of the file to be; one that is there is replaced.
        header: with a salt that was never used before.
        data_key: of the node whose backup it is.
        check: told where the whole, synced file lies before it gets its name; what it raises means that it gets none.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(
        self, path: Path, header: Header, data_key: bytes, *, check: Callable[[Path], None] = lambda written: None
    ) -> None:
        self._path = path
        self._check = check
        self._beside = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
        self._records = 0
        header_data = _encode(header)
        self._seal = _Seal(data_key, header, header_data)
        descriptor = os.open(self._beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _FILE_MODE)
        self._file: BinaryIO = open(descriptor, "wb")
        with ExitStack() as on_fault:
            on_fault.callback(self._drop)
            self._write(_MAGIC + _LENGTH.pack(len(header_data)) + header_data)
            on_fault.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None:
            with ExitStack() as on_fault:
                on_fault.callback(self._drop)
                self._finish()
                on_fault.pop_all()
        else:
            self._drop()

    def add(self, item: File | PeopleKeys | TablesPart | Records) -> None:
        """Add the next item.

        Raises:
            OSError: it cannot be written.
        """
        if isinstance(item, Records):
            self._records += len(item.records)
        self._add(item, is_last=False)

    def _add(self, item: Item, *, is_last: bool) -> None:
        sealed = self._seal.seal(_encode(item), is_last=is_last)
        self._write(_LENGTH.pack(len(sealed)) + sealed)

    def _write(self, data: bytes) -> None:
        self._file.write(data)

    def _finish(self) -> None:
        self._add(End(self._records), is_last=True)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._check(self._beside)
        os.replace(self._beside, self._path)
        sync_folder(self._path.parent)

    def _drop(self) -> None:
        with suppress(OSError):  # what was not written yet may find no space, and is thrown away
            self._file.close()
        self._beside.unlink(missing_ok=True)


class Reader:
    """Read a backup.

    Attributes:
        path: of the file.
        header: what it says of itself; not to be trusted before an item was read.
        size_bytes: of the file.

    Raises:
        BackupDamaged: it is no backup, or of another version.
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "rb")
        with ExitStack() as on_fault:
            on_fault.callback(self._file.close)
            self.size_bytes = os.fstat(self._file.fileno()).st_size
            if self._file.read(len(_MAGIC)) != _MAGIC:
                raise self._fault("is no backup of this version")
            self._header_data = self._sized(_HEADER_SIZE_BYTES_MAX)
            try:
                self.header = _decode_header(self._header_data)
            except msgspec.MsgspecError as exc:
                raise self._fault(f"has a header that cannot be read: {exc}") from exc
            self._begin = self._file.tell()
            on_fault.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; may be repeated."""
        self._file.close()

    def items(
        self, data_key: bytes, *, on_progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Iterator[Item]:
        """Give all items in order, each checked; the last one is the :class:`End`.

        Args:
            on_progress: told bytes read and the size of the file.

        Raises:
            BackupDamaged: it was changed or cut off, or it was sealed with another key.
        """
        seal = _Seal(data_key, self.header, self._header_data)
        self._file.seek(self._begin)
        records = 0
        while True:
            sealed = self._sized(_CHUNK_SIZE_BYTES_MAX)
            is_last = self._file.tell() >= self.size_bytes
            try:
                item = _decode_item(seal.open(sealed, is_last=is_last))
            except InvalidTag as exc:
                raise self._fault("was changed or cut off, or its keyring is another one") from exc
            except msgspec.MsgspecError as exc:
                raise self._fault(f"holds what this version cannot read: {exc}") from exc
            records += len(item.records) if isinstance(item, Records) else 0
            if isinstance(item, End) != is_last or (isinstance(item, End) and item.records != records):
                raise self._fault("is not whole")
            yield item
            on_progress(self._file.tell(), self.size_bytes)
            if is_last:
                return

    def records(
        self,
        data_key: bytes,
        *,
        on_other: Callable[[Item], None] = lambda item: None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[Record]:
        """Give the records, each checked to follow the one before, the last to be the one that the header names.

        Args:
            on_other: told every other item.
            on_progress: told bytes read and the size of the file.

        Raises:
            BackupDamaged, ChainBroken, JournalCorrupt: it is not whole.
        """
        header = self.header
        previous: Record | None = None
        for item in self.items(data_key, on_progress=on_progress):
            if not isinstance(item, Records):
                on_other(item)
                continue
            for data in item.records:
                record = decode(data)
                if record.bank != header.bank or (previous is None and record.lsn != header.first_lsn):
                    raise self._fault(f"holds record {record.lsn} of {record.bank!r}, which its header does not name")
                if previous is not None or record.lsn == FIRST_LSN:
                    check_follows(previous, record)
                yield record
                previous = record
        if previous is None or (previous.lsn, previous.hash) != (header.lsn, header.hash):
            raise self._fault(f"does not end with record {header.lsn}, as its header says")

    def _sized(self, size_bytes_max: int) -> bytes:
        length = self._file.read(_LENGTH.size)
        size = _LENGTH.unpack(length)[0] if len(length) == _LENGTH.size else 0
        if not 0 < size <= size_bytes_max:
            raise self._fault("is cut off, or no backup")
        data = self._file.read(size)
        if len(data) != size:
            raise self._fault("is cut off")
        return data

    def _fault(self, what: str) -> BackupDamaged:
        return BackupDamaged(f"{str(self.path)!r} {what}", {"file": str(self.path)})


def name_of(header: Header, stamp: str) -> str:
    """Name the file of a backup; ``stamp`` is its time as ``20260101T000000Z``."""
    return f"{header.bank}-{header.node}-{stamp}-{header.lsn}{SUFFIX}"
