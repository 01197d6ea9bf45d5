"""The witness's memory: the configurations of many pairs in one two-slot file, and what may be done with them.

Each answer that says something was changed is given after the disk has it. Writing blocks: a change is rare and takes
milliseconds, and so nothing can come between looking and changing.

A row belongs to the bank, and the authority, whose certificate wrote it first. A row that a node proves stale, by
having promised a later epoch than it holds, is marked on the disk and serves nobody any more, not even nodes that know
less: whoever was primary in the lost epochs may still be. Only an operator, who sees both nodes, can reset it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Literal

import msgspec

from fortress.errors import (
    Busy,
    DiskFull,
    FortressError,
    LedgerError,
    LocalProtocolError,
    PeerRejected,
    StateFileDamaged,
    UsageError,
)
from fortress.pair.change import (
    CLUSTER_SIZE_BYTES_MAX,
    EPOCH_MAX,
    Conflict,
    check_change,
    check_configuration,
    check_fresh,
    check_held,
)
from fortress.pair.messages import Configuration, Member
from fortress.pair.slots import Slots, Write, content_size_bytes_max, write_durably
from fortress.pair.witness_messages import Answer, Differs, Get, Held, Question, Refusal, Swapped

SLOT_SIZE_BYTES: Final = 256 * 1024
PAIRS_MAX: Final = 256
"""So many rows of the largest size fit a slot."""
WITNESS_SIZE_BYTES: Final = 16
OWNER_LENGTH_MAX: Final = 128

Entropy = Callable[[int], bytes]

logger = logging.getLogger(__name__)


class Row(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of one pair.

    Attributes:
        cluster: id of the pair.
        owner: bank and authority that it belongs to; empty after a reset, until the next change.
        configuration: None: there is none, but a node said that there was.
        promised: highest epoch that any node named which was over that of the configuration; 0: none was.
    """

    cluster: bytes
    owner: str = ""
    configuration: Configuration | None = None
    promised: int = 0


class Content(msgspec.Struct, frozen=True, array_like=True):
    """What is in the file: version of this form, id of this storage, and the rows."""

    version: Literal[1]
    witness: bytes
    rows: tuple[Row, ...] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Content).decode


class Registry:
    """The rows of a witness; made by :meth:`open`, locked against other processes until closed.

    Attributes:
        witness: random id of this storage.
        is_new: whether opening has made the file.
    """

    def __init__(self, slots: Slots, content: Content, *, pairs_max: int, is_new: bool) -> None:
        self._slots = slots
        self._rows = {row.cluster: row for row in content.rows}
        self._pairs_max = pairs_max
        self.witness = content.witness
        self.is_new = is_new

    @classmethod
    def open(
        cls, path: Path, *, pairs_max: int = PAIRS_MAX, entropy: Entropy = os.urandom, write: Write = write_durably
    ) -> Registry:
        """Open the file, or make an empty one with a new id.

        Raises:
            StateFileDamaged: both copies in it are damaged, or it is of a later version.
            StateFileUnusable, DiskFull, FolderInUse: as :meth:`.slots.Slots.open`.
        """
        try:
            slots, is_new = Slots.open(path, slot_size_bytes=SLOT_SIZE_BYTES, write=write), False
        except FileNotFoundError:
            fresh = _encode(Content(1, entropy(WITNESS_SIZE_BYTES)))
            slots, is_new = Slots.create(path, fresh, slot_size_bytes=SLOT_SIZE_BYTES, write=write), True
        with ExitStack() as on_fault:
            on_fault.callback(slots.close)
            try:
                content = _decode(slots.content)
            except msgspec.MsgspecError as exc:
                raise StateFileDamaged(f"{str(path)!r} is no register that this version knows: {exc}") from exc
            on_fault.pop_all()
        return cls(slots, content, pairs_max=pairs_max, is_new=is_new)

    @property
    def pairs(self) -> int:
        """How many pairs are kept."""
        return len(self._rows)

    def answer(self, question: Question, owner: str) -> Answer:
        """Answer a question of a node that belongs to ``owner``.

        Raises:
            LedgerError: the disk failed; what the file holds now is not known, and nothing can be answered any more.
        """
        try:
            row = self._row(question.cluster, owner)
            if question.promised > EPOCH_MAX:
                raise LocalProtocolError(f"epoch {question.promised} is over {EPOCH_MAX}")
            self._check_fresh(row, question.promised)
            if isinstance(question, Get):
                return Held(row.configuration)
            check_change(question.expected, question.fresh)
            check_held(row.configuration, question.expected)
            fresh = msgspec.structs.replace(question.fresh, witness=self.witness)
            self._write(msgspec.structs.replace(row, owner=owner, configuration=fresh, promised=0))
        except LedgerError:
            raise
        except Conflict as conflict:
            return Differs(conflict.configuration)
        except FortressError as error:
            return Refusal(error.code, error.message)
        _tell("configuration changed", question.cluster, fresh)
        return Swapped(fresh)

    def reset(self, cluster: bytes, promised: int, primary: Member) -> Configuration:
        """Say anew who is primary, after the register of a pair was lost; both of its nodes must be stopped.

        Args:
            cluster: id of the pair.
            promised: the higher one of the epochs that both nodes have promised.
            primary: the node whose journal goes further; it alone is in sync then.

        Raises:
            UsageError: this register knows a later epoch; nothing was changed.
            LocalProtocolError: no such pair or member can be.
        """
        row = self._row(cluster, "")
        known = max(row.promised, row.configuration.epoch if row.configuration else 0)
        if promised < known:
            raise UsageError(f"epoch {promised} is too low: this register knows of {known}", {"epoch": known})
        fresh = Configuration(promised + 1, primary, (primary,), self.witness)
        check_configuration(fresh)
        self._write(Row(cluster, configuration=fresh))
        _tell("configuration reset", cluster, fresh)
        return fresh

    def close(self) -> None:
        """Let another process open the file; may be repeated."""
        self._slots.close()

    def _row(self, cluster: bytes, owner: str) -> Row:
        if not 1 <= len(cluster) <= CLUSTER_SIZE_BYTES_MAX:
            raise LocalProtocolError(f"the id of a pair has 1 to {CLUSTER_SIZE_BYTES_MAX} bytes")
        row = self._rows.get(cluster, Row(cluster, owner))
        if owner and row.owner and row.owner != owner:
            raise PeerRejected(f"this pair belongs to {row.owner}, not to {owner}")
        return row

    def _check_fresh(self, row: Row, promised: int) -> None:
        """Refuse a row that is older than any node has promised, and see that it is refused for ever."""
        highest = max(promised, row.promised)
        held = row.configuration.epoch if row.configuration else 0
        if highest > max(held, row.promised):
            logger.error("register is stale", extra={"fields": {"pair": row.cluster.hex(), "promised": highest}})
            marked = msgspec.structs.replace(row, promised=highest)
            try:
                self._write(marked)
            except DiskFull:  # then this process remembers, and the next write that the disk takes
                self._rows[row.cluster] = marked
        check_fresh(row.configuration, highest)

    def _write(self, row: Row) -> None:
        if row.cluster not in self._rows and len(self._rows) >= self._pairs_max:
            raise Busy(f"the witness serves {self._pairs_max} pairs already")
        rows = {**self._rows, row.cluster: row}
        data = _encode(Content(1, self.witness, tuple(rows.values())))
        if len(data) > content_size_bytes_max(SLOT_SIZE_BYTES):
            raise Busy("the witness's file is full")
        self._slots.write(data)
        self._rows = rows


def _tell(event: str, cluster: bytes, fresh: Configuration) -> None:
    names = ", ".join(member.name for member in fresh.in_sync)
    fields = {"pair": cluster.hex(), "epoch": fresh.epoch, "primary": fresh.primary.name, "in_sync": names}
    logger.info(event, extra={"fields": fields})
