"""One member of a pair without the other: a real ledger, its replica and committer, and a test in the pair's place."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from fortress.errors import LedgerError, NoPrimary
from fortress.ledger.engine import Engine
from fortress.ledger.records import Record, decode
from fortress.server.committer import CommitterSettings
from fortress.server.member_committer import MemberCommitter
from fortress.server.replica import Replica
from tests.server.banks import Committing, filled_folder, open_engine, release_held, until


class Member(Committing):
    """A member's ledger; what the pair would do is the test's to do.

    Attributes:
        replica: its records; ``fatal`` is what it told, ``fatal_of_committer`` what its committer did.
        member: its committer.
        made: records that were given to the pair, as they would reach the other node.
        durable: numbers of the records that were said to be on this node's disk, in order.
        on_durable: called with each of these.
        is_alone: commits what is durable at once, as a primary without the other node does.
    """

    def __init__(self, engine: Engine, limits: CommitterSettings) -> None:
        fatal: list[LedgerError] = []
        self.replica = Replica(engine, on_fatal=fatal.append)
        super().__init__(engine, limits, make=MemberCommitter, writer=self.replica)
        self.fatal_of_committer, self.fatal = self.fatal, fatal
        assert isinstance(self.committer, MemberCommitter)
        self.member = self.committer
        self.made: list[Record] = []
        self.durable: list[int] = []
        self.on_durable: Callable[[int], None] = lambda lsn: None
        self.is_alone = False
        self.replica.committer = self.member
        self.replica.pair = _Pair(self)

    async def make(self, *amounts: int) -> list[Record]:
        """Make a record of each amount as a primary alone does, for the other node to take."""
        self.is_alone = True
        before = len(self.made)
        for amount in amounts:
            await self.committer.commit(self.move(amount))
        self.is_alone = False
        return self.made[before:]

    @property
    def last_lsn(self) -> int:
        """Number of the newest record of the working state."""
        return self.engine.last.lsn if self.engine.last else 0


class _Pair:
    def __init__(self, member: Member) -> None:
        self._member = member

    def made(self, record: Record, data: bytes) -> None:
        self._member.made.append(decode(data))

    def durable(self, lsn: int) -> None:
        self._member.durable.append(lsn)
        self._member.on_durable(lsn)
        if self._member.is_alone:
            self._member.replica.commit(lsn)


@asynccontextmanager
async def member(tmp_path: Path, name: str = "a", **limits: int) -> AsyncIterator[Member]:
    """A member on a copy of the filled folder, closed at the end; in the same test a second time, the same copy."""
    path = tmp_path / name
    if not path.exists():
        shutil.copytree(filled_folder(), path)
    engine = open_engine(path, is_in_pair=True)
    try:
        found = Member(engine, CommitterSettings(**limits))
        async with AsyncExitStack() as opened:
            opened.push_async_callback(found.committer.close)
            opened.callback(found.member.refuse_commands, NoPrimary())  # nothing will be committed any more
            for what in ("append_many", "apply", "load"):  # let go whatever the test still holds
                opened.callback(lambda what=what: release_held(engine, what))
            yield found
    finally:
        engine.close()


@asynccontextmanager
async def standby_with_records(
    tmp_path: Path, *amounts: int, **limits: int
) -> AsyncIterator[tuple[Member, list[Record]]]:
    """A standby that has nothing yet of the records which a primary of the same bank made, one of each amount."""
    async with member(tmp_path, "primary") as primary:
        records = await primary.make(*amounts)
    async with member(tmp_path, "standby", **limits) as standby:
        yield standby, records


async def stored(standby: Member, records: list[Record]) -> None:
    """Bring records to a standby, and wait until it follows them."""
    standby.replica.store(records)
    await until(lambda: standby.last_lsn == records[-1].lsn)
