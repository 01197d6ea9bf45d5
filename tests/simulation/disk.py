"""Disks of nodes: folders in memory, whose writes under way are lost, whole or torn when a node dies.

Everything that was synced stays. A write of the journal that was under way when the process died may be on the disk or
not; when the power goes it may be there in part. The tables are not synced at each transaction, so a power cut takes
them back to an earlier one.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fortress.ledger.journal import Journal
from fortress.ledger.segment import BLOCK_SIZE_BYTES
from tests.simulation.loop import Process, Worker


class Disk:
    """One node's disk.

    Attributes:
        folder: the node's.
        marks: hash by number of every record that is surely on it.
        is_broken: the next write of the journal fails with an unknown outcome.
        slowness: how many times longer than usual a write takes.
    """

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder = folder
        self.chance = chance
        self.marks: dict[int, bytes] = {}
        self.is_broken = False
        self.slowness = 1.0
        self._is_tearing = False
        self._saved = folder.with_name(folder.name + "-saved")
        folder.mkdir()

    @property
    def end(self) -> int:
        """Number of the newest record on it."""
        return max(self.marks, default=0)

    # --- What the journal is opened with ----
    def write(self, fd: int, data: memoryview, offset: int) -> int:
        """Write, or a part of it and fail."""
        if self.is_broken:
            self.is_broken = False
            if self.chance.random() < 0.5:
                os.pwrite(fd, data, offset)
            raise OSError(5, "the disk is broken")
        if not self._is_tearing:
            return os.pwrite(fd, data, offset)
        for place in range(0, len(data), BLOCK_SIZE_BYTES):
            if self.chance.random() < 0.5:
                os.pwrite(fd, data[place : place + BLOCK_SIZE_BYTES], offset + place)
        raise OSError(5, "the power is gone")

    def opened(self, journal: Journal) -> None:
        """Note what a node finds on its disk."""
        self.marks = {record.lsn: record.hash for record in journal.records(journal.first_lsn)}
        end, hash = journal.end
        self.marks.setdefault(end, hash)

    def watch(self, worker: Worker) -> None:
        """Take part in what a worker of the node does."""
        if worker.name == "journal":
            worker.delay_s = lambda: self.slowness * self.chance.expovariate(1 / 250e-6)
            worker.on_done = self._on_written
        else:
            worker.delay_s = lambda: self.slowness * self.chance.expovariate(1 / 2e-3)
            worker.on_done = self._on_applied

    def _on_written(self, arguments: tuple[Any, ...], error: BaseException | None) -> None:
        if error is None:
            for record in arguments[0]:
                self.marks[record.lsn] = record.hash

    def _on_applied(self, arguments: tuple[Any, ...], error: BaseException | None) -> None:
        if error is None and self.chance.random() < 0.2:
            self.save_tables()

    # --- Ends ----
    def died(self, process: Process, close: Callable[[], None], *, is_power_cut: bool) -> None:
        """Leave on the disk what a death leaves there; ``close`` gives the files back without a word more."""
        for worker in process.workers:
            if worker.name == "journal" and worker.under_way is not None:
                self._finish(worker, is_power_cut=is_power_cut)
        close()
        if is_power_cut and self.chance.random() < 0.7:
            for path in self.folder.glob("ledger.db*"):
                path.unlink()
            for path in self._saved.glob("ledger.db*"):
                shutil.copyfile(path, self.folder / path.name)

    def _finish(self, worker: Worker, *, is_power_cut: bool) -> None:
        function, arguments = worker.under_way or (None, ())
        assert function is not None
        fate = self.chance.random()
        if fate < 0.4:
            return
        self._is_tearing = is_power_cut and fate < 0.8
        try:
            function(*arguments)
        except Exception:
            return
        else:
            self._on_written(arguments, None)
        finally:
            self._is_tearing = False

    def save_tables(self) -> None:
        """Take it that the tables are synced as they are now."""
        shutil.rmtree(self._saved, ignore_errors=True)
        self._saved.mkdir()
        for path in self.folder.glob("ledger.db*"):
            if not path.name.endswith("-shm"):
                shutil.copyfile(path, self._saved / path.name)

    def wipe(self) -> None:
        """Be an empty disk."""
        for folder in (self.folder, self._saved):
            shutil.rmtree(folder, ignore_errors=True)
        self.folder.mkdir()
        self.marks = {}
        self.is_broken = False
