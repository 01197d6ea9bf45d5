"""Records reach the journal by the kernel or by a thread, with the same outcome."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fortress.errors import ChainBroken, JournalWriteFailed
from fortress.ledger.journal import Journal
from fortress.ledger.kernel_writer import KernelWriter
from fortress.ledger.merkle import EMPTY_ROOT
from fortress.ledger.records import Record, make_record
from fortress.server.journal_writer import JournalWriter

KEY = b"k" * 32
SEGMENT = 1024 * 1024


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal.open(tmp_path / "journal", KEY, bank="a", segment_bytes=SEGMENT)
    yield opened
    opened.close()


def record_after(previous: Record | None, size: int = 100) -> Record:
    time_us = 1 if previous is None else previous.time_us + 1
    entry = os.urandom(size)
    return make_record(
        [entry], previous=previous, bank="a", epoch=1, time_us=time_us, commit_lsn=0, tree_root=EMPTY_ROOT
    )


async def write(writer: JournalWriter, record: Record) -> None:
    """Write one record and raise what came of it."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(_: object, error: BaseException | None) -> None:
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    writer.write(record, done=done)
    async with asyncio.timeout(20):
        await future


@pytest.mark.parametrize("is_by_kernel", [True, False], ids=["kernel", "thread"])
async def test_records_are_durable_when_done_is_called(journal: Journal, tmp_path: Path, *, is_by_kernel: bool) -> None:
    """Small ones, large ones and those that begin a segment, in order; another reader finds them all."""
    writer = JournalWriter(journal, asyncio.get_running_loop(), is_by_kernel=is_by_kernel)
    records: list[Record] = []
    for size in (100, 5_000, 400_000, 100, 300_000, 400_000, 100, 200):
        records.append(record_after(records[-1] if records else None, size))
        await write(writer, records[-1])
        assert journal.last == records[-1]
    writer.close()
    assert list(journal.records(1)) == records
    assert len(list((tmp_path / "journal").glob("*.seg"))) > 1
    journal.close()
    again = Journal.open(tmp_path / "journal", KEY, bank="a", segment_bytes=SEGMENT, applied_lsn=0)
    assert list(again.records(1)) == records
    again.close()


async def test_a_record_that_does_not_follow_is_an_error_and_writes_nothing(journal: Journal) -> None:
    """The caller hears of it as of any failure, after `write` has returned."""
    writer = JournalWriter(journal, asyncio.get_running_loop())
    first = record_after(None)
    with pytest.raises(ChainBroken):
        await write(writer, record_after(first))
    await write(writer, first)
    writer.close()


async def test_a_failed_write_ends_the_journal(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it was written is unknown, so nothing is written after it."""

    def broken(self: KernelWriter) -> None:
        os.eventfd_read(self.fd)
        raise OSError(errno.EIO, "broken")

    writer = JournalWriter(journal, asyncio.get_running_loop())
    first = record_after(None)
    monkeypatch.setattr(KernelWriter, "result", broken)
    with pytest.raises(JournalWriteFailed):
        await write(writer, first)
    monkeypatch.undo()
    with pytest.raises(JournalWriteFailed):
        await write(writer, first)
    writer.close()


async def test_what_the_kernel_refuses_goes_through_the_thread(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was begun, so the thread may do it."""

    def refuse(self: KernelWriter, fd: int, buffer: memoryview, offset: int) -> None:
        raise OSError(errno.EAGAIN, "busy")

    monkeypatch.setattr(KernelWriter, "submit", refuse)
    writer = JournalWriter(journal, asyncio.get_running_loop())
    first = record_after(None)
    await write(writer, first)
    assert journal.last == first
    writer.close()
