"""What a node must never forget: its pair, which disk it is, the epoch it has promised, and whether it may take part.

A node is a member of the pair by its *instance*, 16 random bytes: an empty, restored or copied folder is another
instance, which has nothing that was ever acknowledged and must join anew. To notice a copy, the file holds its own
inode number and the generation that the file system gives each use of an inode (ext4, XFS, Btrfs and F2FS; elsewhere
the inode number alone). Both survive restarts, a rename and another order of the disks.

Noticed: a folder copied with cp, rsync or tar, a backup unpacked anywhere, also over the old folder if the tool makes
new files. Not noticed: an image or snapshot of the whole disk or virtual machine, and a tool that writes old bytes into
the file that is there (``cp`` onto it, ``rsync --inplace``). After these, run ``fortress rejoin``. Machine and device
numbers do not count: they change when a disk rightly moves to other hardware, and a false alarm would cost a lone node
its membership.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import Annotated, Final, Literal

import msgspec

from fortress.errors import StateFileDamaged
from fortress.pair.messages import INSTANCE_SIZE_BYTES
from fortress.pair.slots import Slots, Write, read_slots, write_durably

CONTROL_NAME: Final = "control"
CLUSTER_SIZE_BYTES_MAX: Final = 64
REASON_LENGTH_MAX: Final = 500

_FS_IOC_GETVERSION: Final = 0x80087601
"""Asks for the generation of an inode (ioctl_iflags(2))."""

Entropy = Callable[[int], bytes]
Instance = Annotated[bytes, msgspec.Meta(min_length=INSTANCE_SIZE_BYTES, max_length=INSTANCE_SIZE_BYTES)]


class ControlState(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What the file says.

    Attributes:
        version: of this form.
        cluster: id of the pair.
        instance: which disk this is.
        promised: no message of an older epoch is taken any more.
        witness: id of the register's own storage, as last seen; empty before the first time.
        quarantined: why this node takes no part until it is rebuilt; empty if it does.
        file: inode number and generation of the file itself.
    """

    version: Literal[1] = 1
    cluster: Annotated[bytes, msgspec.Meta(min_length=1, max_length=CLUSTER_SIZE_BYTES_MAX)]
    instance: Instance
    promised: Annotated[int, msgspec.Meta(ge=0)] = 0
    witness: bytes = b""
    quarantined: str = ""
    file: tuple[int, int] = (0, 0)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ControlState).decode


class Control:
    """A node's control file; made by :meth:`create` or :meth:`open`, and locked until closed.

    Every change is on the disk before its method returns, and blocks for that; threads may share it.

    Raises:
        DiskFull, StateFileUnusable: from every method that changes something, as :meth:`.slots.Slots.write`.
    """

    def __init__(self, slots: Slots, state: ControlState, entropy: Entropy) -> None:
        self._slots = slots
        self._state = state
        self._entropy = entropy
        self._lock = Lock()
        self.was_copied = False
        """Whether opening found that the file is a copy, and made this node a new instance."""

    @classmethod
    def create(
        cls, path: Path, cluster: bytes, *, entropy: Entropy = os.urandom, write: Write = write_durably
    ) -> Control:
        """Make the control file of a node whose folder is new.

        Raises:
            FolderExists: there is one already.
        """
        state = ControlState(cluster=cluster, instance=entropy(INSTANCE_SIZE_BYTES))
        slots = Slots.create(path, _encode(state), write=write)
        with ExitStack() as on_fault:
            on_fault.callback(slots.close)
            control = cls(slots, state, entropy)
            # a crash before this write leaves a file that counts as copied: then it gets another instance when opened
            control._change(file=_file_of(slots.fileno()))
            on_fault.pop_all()
        return control

    @classmethod
    def open(cls, path: Path, *, entropy: Entropy = os.urandom, write: Write = write_durably) -> Control:
        """Open the control file; a copied one gets a new instance, and keeps everything else.

        Raises:
            FileNotFoundError: there is none.
            StateFileDamaged: both of its copies are damaged, or it is of a later version.
            FolderInUse: another process has it open.
        """
        slots = Slots.open(path, write=write)
        with ExitStack() as on_fault:
            on_fault.callback(slots.close)
            control = cls(slots, _state_of(path, slots.content), entropy)
            if not _is_same(control._state.file, _file_of(slots.fileno())):
                control.new_instance()
                control.was_copied = True
            on_fault.pop_all()
        return control

    @property
    def state(self) -> ControlState:
        """Everything the file says."""
        return self._state

    @property
    def cluster(self) -> bytes:
        """Id of the pair."""
        return self._state.cluster

    @property
    def instance(self) -> bytes:
        """Which disk this is."""
        return self._state.instance

    @property
    def promised(self) -> int:
        """No message of an older epoch is taken any more."""
        return self._state.promised

    @property
    def witness(self) -> bytes:
        """Id of the register's own storage, as last seen; empty before the first time."""
        return self._state.witness

    @property
    def quarantined(self) -> str:
        """Why this node takes no part; empty if it does."""
        return self._state.quarantined

    def promise(self, epoch: int) -> None:
        """Promise to take no message of an older epoch any more; an epoch promised already costs nothing."""
        with self._lock:
            self._change(promised=max(epoch, self.promised))

    def remember_witness(self, witness: bytes) -> None:
        """Remember the id of the register's own storage."""
        with self._lock:
            self._change(witness=witness)

    def quarantine(self, reason: str) -> None:
        """Take no part until rebuilt; the first reason is kept, also over restarts."""
        with self._lock:
            self._change(quarantined=self.quarantined or reason[:REASON_LENGTH_MAX] or "unknown")

    def new_instance(self) -> None:
        """Become another instance, one that has nothing yet; a quarantine stays."""
        with self._lock:
            self._change(instance=self._entropy(INSTANCE_SIZE_BYTES), file=_file_of(self._slots.fileno()))

    def lift_quarantine(self) -> None:
        """Take part again; only for a rejoin, once the old data is put aside and the instance is a new one."""
        with self._lock:
            self._change(quarantined="")

    def close(self) -> None:
        """Let another process open the file; may be repeated. What is being written on another thread is waited for."""
        with self._lock:  # else that thread could write to whatever file gets this one's number next
            self._slots.close()

    def _change(self, **values: object) -> None:
        fresh = msgspec.structs.replace(self._state, **values)
        if fresh != self._state:
            self._slots.write(_encode(fresh))
            self._state = fresh


def read_control(path: Path) -> ControlState:
    """Look at a control file, also while a node has it open.

    Raises:
        FileNotFoundError: there is none.
        StateFileDamaged, StateFileUnusable: it cannot be read.
    """
    return _state_of(path, read_slots(path))


def _state_of(path: Path, content: bytes) -> ControlState:
    try:
        return _decode(content)
    except msgspec.MsgspecError as exc:
        raise StateFileDamaged(f"{str(path)!r} is no control file that this version knows: {exc}") from exc


def _file_of(fd: int) -> tuple[int, int]:
    """Give what tells this file from every other of its file system: inode number and generation."""
    generation = bytearray(8)
    try:
        fcntl.ioctl(fd, _FS_IOC_GETVERSION, generation)
    except OSError:  # a file system without generations
        generation = bytearray(8)
    # the kernel writes an int into the place of a long
    return os.fstat(fd).st_ino, int.from_bytes(generation[:4], "little")


def _is_same(known: tuple[int, int], found: tuple[int, int]) -> bool:
    # generation 0 is an unknown one; a kernel that learns to tell it must not make a node another instance
    return known[0] == found[0] and (known[1] == found[1] or 0 in (known[1], found[1]))
