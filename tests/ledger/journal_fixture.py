"""What the tests of the journal share: records to append, and ways to open and damage a journal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fortress.ledger.journal import Journal
from fortress.ledger.records import Record, make_record

KEY = bytes(range(32))
SEGMENT = 16 * 4096
ROOT = b"r" * 32


def opened(folder: Path, **options: Any) -> Journal:
    """The journal of bank alpha in this folder, with small segments."""
    return Journal.open(folder, options.pop("key", KEY), **{"bank": "alpha", "segment_bytes": SEGMENT, **options})


def following(previous: Record | None, *, size: int = 100, bank: str = "alpha") -> Record:
    """The next record, with one entry of this size."""
    lsn = previous.lsn + 1 if previous else 1
    return make_record(
        [lsn.to_bytes(8, "big") * (size // 8)],
        previous=previous,
        bank=bank,
        epoch=1,
        time_us=lsn,
        commit_lsn=lsn - 1,
        tree_root=ROOT,
    )


def chain(last: Record | None, count: int, *, size: int = 100) -> list[Record]:
    """The next so many records, not appended yet."""
    made: list[Record] = []
    for _ in range(count):
        made.append(following(made[-1] if made else last, size=size))
    return made


def fill(journal: Journal, count: int, *, size: int = 100) -> list[Record]:
    """Append so many records, and give them."""
    made = []
    for _ in range(count):
        record = following(journal.last, size=size)
        journal.append(record)
        made.append(record)
    return made


def written(folder: Path, count: int, *, size: int = 100) -> list[Record]:
    """A closed journal of so many records in this folder."""
    journal = opened(folder)
    made = fill(journal, count, size=size)
    journal.close()
    return made


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Change bytes of a file in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
