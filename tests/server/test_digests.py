"""Both nodes' tables compared: equal ones pass; of two that differ, the one that its journal contradicts stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, cast

from fortress.errors import LedgerError
from fortress.ledger.database import connect
from fortress.pair.messages import TableDigest
from fortress.server.digests import Digests
from fortress.server.folder import open_folder
from fortress.server.pairing import Pairing
from tests.server.banks import until
from tests.server.members import Member, member


class Wire:
    """A pairing for digests: what one sends the other takes, at the next turn of the loop."""

    def __init__(self) -> None:
        self.is_primary = True
        self.other: Digests | None = None
        self.sent: list[TableDigest] = []
        self.told: list[str] = []
        self.failures: list[LedgerError] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.replication = self

    def send_digest(self, lsn: int, digest: bytes) -> None:
        self.sent.append(TableDigest(1, lsn, digest))
        if self.other is not None:
            asyncio.get_running_loop().call_soon(self.other.take, self.sent[-1])

    def start_chore(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def tell(self, name: str, facts: dict[str, str | int]) -> None:
        self.told.append(name)

    def fail(self, error: LedgerError) -> None:
        self.failures.append(error)


def digests_of(node: Member) -> tuple[Digests, Wire]:
    """One node's side, with its end of the wire."""
    wire = Wire()
    return Digests(node.engine, node.member, cast(Pairing, wire)), wire


def joined(first: Member, second: Member) -> tuple[Digests, Wire, Digests, Wire]:
    """Both sides, joined."""
    here, ours = digests_of(first)
    there, theirs = digests_of(second)
    ours.other, theirs.other = there, here
    theirs.is_primary = False
    return here, ours, there, theirs


async def test_equal_tables_are_found_equal(tmp_path: Path) -> None:
    """As of the same record, though one node goes on meanwhile."""
    async with AsyncExitStack() as opened:
        first = await opened.enter_async_context(member(tmp_path, "one"))
        second = await opened.enter_async_context(member(tmp_path, "two"))
        here, ours, there, theirs = joined(first, second)
        lsn = first.last_lsn
        here.begin(lsn)
        await first.make(5)
        await until(lambda: here.compared_lsn == there.compared_lsn == lsn)
        assert ours.told == theirs.told == [] and not ours.failures and not theirs.failures


async def test_the_node_whose_journal_contradicts_its_tables_stops(tmp_path: Path) -> None:
    """One balance was changed behind its back: it fails, and the other one finds itself right."""
    async with member(tmp_path, "two") as second:
        path = second.engine.store.path
    with closing(open_folder(tmp_path / "two", {}, {})) as folder:
        database = connect(path, folder.keyring.store_key, pragmas="")
    database.execute(
        "UPDATE counters SET counters = json_set(counters, '$[1]', (counters ->> 1) + 1)"
        " WHERE number = (SELECT max(number) FROM counters)"
    )
    database.close()
    async with AsyncExitStack() as opened:
        first = await opened.enter_async_context(member(tmp_path, "one"))
        second = await opened.enter_async_context(member(tmp_path, "two"))
        here, ours, there, theirs = joined(first, second)
        here.begin(first.last_lsn)
        await until(lambda: theirs.failures and "tables_right" in ours.told)
        assert "tables_differ" in theirs.told and not ours.failures
        assert here.compared_lsn == there.compared_lsn == 0


async def test_tables_that_are_past_the_record_are_not_compared(tmp_path: Path) -> None:
    """It is tried again another time; nothing is sent for it."""
    async with member(tmp_path, "one") as first:
        here, ours = digests_of(first)
        await first.make(5, 6)
        await first.committer.wait_applied(first.committer.committed_position)
        here.begin(first.last_lsn - 1)
        here.take(TableDigest(1, first.last_lsn - 1, b""))
        assert ours.sent == []


async def test_comparisons_begin_by_themselves_on_a_primary(tmp_path: Path) -> None:
    """Again and again; a standby waits to be asked, and no time means never."""
    async with member(tmp_path, "one") as first:
        here, ours = digests_of(first)
        task = asyncio.create_task(here.run(0.01))
        await until(lambda: [message for message in ours.sent if message.digest])
        ours.is_primary = False
        ours.sent.clear()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await here.run(0)
        await until(lambda: not ours.tasks)
