"""Write records to the journal and hear when they are durable: by the kernel where it can, by a thread where not.

Small records, the rule, are sealed on the loop and handed to the kernel, which signals an eventfd; large ones, those
that begin a new segment, and all of them on machines without native AIO go through a thread of their own.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Sequence

from fortress.errors import FortressError
from fortress.ledger.journal import Journal
from fortress.ledger.kernel_writer import KernelWriter
from fortress.ledger.records import Record
from fortress.server.workers import Done, Worker


class JournalWriter:
    """The one writer of a journal; one record at a time.

    Args:
        journal: belongs to this object for writing from now on.
        loop: where ``done`` is called.
        is_by_kernel: False always takes the thread.
    """

    def __init__(self, journal: Journal, loop: asyncio.AbstractEventLoop, *, is_by_kernel: bool = True) -> None:
        self._journal = journal
        self._loop = loop
        self._worker = Worker("journal", loop)
        self._kernel = KernelWriter.open() if is_by_kernel else None
        self._under_way: tuple[Record, memoryview, Done] | None = None
        if self._kernel is not None:
            loop.add_reader(self._kernel.fd, self._on_written)

    def write(self, record: Record, *, done: Done) -> None:
        """Make the next record durable, then call ``done(None, None)``, or ``done(None, error)`` if it failed.

        The one before must be done.
        """
        self.write_many((record,), done=done)

    def write_many(self, records: Sequence[Record], *, done: Done) -> None:
        """Make the next records durable, with one write if they fit; as :meth:`write`.

        After an error the journal's ``last`` tells which are durable for sure.
        """
        if not self._submit(records, done):
            self._worker.submit(self._journal.append_many, records, done=done)

    def _submit(self, records: Sequence[Record], done: Done) -> bool:
        """Hand the records to the kernel; False when they must go through the thread."""
        if self._kernel is None:
            return False
        try:
            prepared = self._journal.prepare(*records)
        except FortressError as error:
            self._loop.call_soon(done, None, error)
            return True
        if prepared is None:
            return False
        fd, buffer, offset = prepared
        if not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT:
            return False  # through the page cache the kernel would do it at once and block the loop
        try:
            self._kernel.submit(fd, buffer, offset)
        except OSError:
            return False  # nothing was begun; the thread says what is wrong, if anything is
        self._under_way = (records[-1], buffer, done)
        return True

    def _on_written(self) -> None:
        assert self._kernel is not None and self._under_way is not None
        record, buffer, done = self._under_way
        self._under_way = None
        size = len(buffer)
        try:
            self._kernel.result()
        except OSError as error:
            done(None, self._journal.failed(record, error))
            return
        finally:
            buffer.release()  # else whoever keeps a traceback that leads here keeps the journal from closing
        self._journal.written(record, size)
        done(None, None)

    def close(self) -> None:
        """End the thread and give the kernel's context back; what is under way is written, and nobody is told."""
        if self._kernel is not None:
            self._loop.remove_reader(self._kernel.fd)
            self._kernel.close()  # waits for what is under way
            self._kernel = None
        if self._under_way is not None:
            self._under_way[1].release()
            self._under_way = None
        self._worker.close()
