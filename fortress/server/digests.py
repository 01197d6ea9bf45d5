"""Both nodes' tables compared now and then, as of the same record, without stopping either.

The primary names the newest record; both take a view of their tables when these are exactly there, and digest it on a
thread. Each tells the other. When they differ, each holds its own tables against its own journal, and the one that is
contradicted takes no part any more until it is rebuilt.
"""

from __future__ import annotations

import asyncio
import logging

from fortress.errors import FortressError, LedgerError
from fortress.ledger.audit import audit_live
from fortress.ledger.engine import Engine
from fortress.ledger.table_digest import TableView
from fortress.pair.messages import TableDigest
from fortress.server.logs import log_event
from fortress.server.member_committer import MemberCommitter
from fortress.server.pairing import Pairing

logger = logging.getLogger(__name__)


class Digests:
    """One node's side of the comparison.

    Args:
        engine: the ledger.
        committer: knows when the tables are where.
        pairing: this node's part in the pair.

    Attributes:
        compared_lsn: newest record at which both nodes' tables were found equal; 0 before.
    """

    def __init__(self, engine: Engine, committer: MemberCommitter, pairing: Pairing) -> None:
        self.compared_lsn = 0
        self._engine = engine
        self._committer = committer
        self._pairing = pairing
        self._ours: tuple[int, bytes] | None = None
        self._theirs: tuple[int, bytes] | None = None

    async def run(self, every_s: float) -> None:
        """As primary, begin a comparison again and again; 0: never."""
        while every_s:
            await asyncio.sleep(every_s)
            last = self._engine.last
            if self._pairing.is_primary and last is not None:
                self.begin(last.lsn)

    def begin(self, lsn: int) -> None:
        """As primary, compare the tables as they are after this record, if they are not past it."""
        if self._committer.view_at(lsn, self._digest):
            self._pairing.replication.send_digest(lsn, b"")

    def take(self, message: TableDigest) -> None:
        """Take what the other node says; without a digest it asks for this node's."""
        if message.digest:
            self._theirs = (message.lsn, message.digest)
            self._compare()
        elif not self._committer.view_at(message.lsn, self._digest):
            log_event(logger, logging.DEBUG, "tables not compared", lsn=message.lsn)

    def _digest(self, view: TableView) -> None:
        self._pairing.start_chore(self._work_out(view))

    async def _work_out(self, view: TableView) -> None:
        try:
            digest = await asyncio.to_thread(_digest_and_close, view)
        except FortressError as error:
            self._pairing.fail(error if isinstance(error, LedgerError) else LedgerError(error.message))
            return
        self._ours = (view.lsn, digest)
        self._pairing.replication.send_digest(view.lsn, digest)
        self._compare()

    def _compare(self) -> None:
        ours, theirs = self._ours, self._theirs
        if ours is None or theirs is None or ours[0] != theirs[0]:
            return
        self._ours = self._theirs = None
        if ours == theirs:
            self.compared_lsn = ours[0]
            return
        self._pairing.tell("tables_differ", {"lsn": ours[0]})
        self._pairing.start_chore(self._examine())

    async def _examine(self) -> None:
        """Hold the tables against the journal they were made of."""
        report = await asyncio.to_thread(audit_live, self._engine.journal, self._engine.store)
        if report.error_count:
            what = report.findings[0].what if report.findings else "see 'fortress audit verify'"
            self._pairing.fail(LedgerError(f"the tables are not what the journal says: {what}"))
        else:
            self._pairing.tell("tables_right", {"records": report.records})


def _digest_and_close(view: TableView) -> bytes:
    try:
        return view.digest()
    finally:
        view.close()
