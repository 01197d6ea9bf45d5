"""Whole copies of a bank's tables: sent to a standby that the journal cannot bring up, and taken from a primary.

What a copy is and how it gets its place says `fortress.ledger.snapshot`; here it goes over the replication socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack

from fortress.errors import PeerRejected
from fortress.ledger import snapshot
from fortress.ledger.engine import Engine
from fortress.pair.link import Link
from fortress.pair.messages import Mark, Message, SnapshotBegin, SnapshotChunk, SnapshotEnd
from fortress.server.bank import now_us
from fortress.server.folder import Folder, data_folder
from fortress.server.logs import log_event

logger = logging.getLogger(__name__)


class Copies:
    """Send and take copies; one at a time.

    Args:
        folder: the node's.
        engine: its ledger.
        on_installed: called when a copy has come, was checked, and waits for the node to start anew.
    """

    def __init__(self, folder: Folder, engine: Engine, *, on_installed: Callable[[], None]) -> None:
        self._folder = folder
        self._data = data_folder(folder.settings)
        self._engine = engine
        self._on_installed = on_installed
        self._arrival: snapshot.Arrival | None = None
        self._is_installed = False

    async def send(self, link: Link, epoch: int) -> None:
        """Copy the tables and send them; ends early when the connection does.

        Raises:
            LedgerError: no copy could be made.
            ConnectionResetError: while it was made the connection ended.
        """

        def go_on(done: int, total: int) -> None:
            if not link.is_open:
                raise ConnectionResetError("nobody waits for this copy any more")

        ledger = self._engine.store, self._engine.journal
        copy = await asyncio.to_thread(snapshot.take, *ledger, self._data, on_progress=go_on)
        log_event(logger, logging.INFO, "sending a copy", lsn=copy.lsn, bytes=sum(copy.sizes.values()))
        try:
            link.send(SnapshotBegin(epoch, Mark(copy.lsn, copy.hash), copy.sizes))
            chunks = copy.chunks()
            while link.is_open and (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                link.send(SnapshotChunk(epoch, *chunk))
                await link.wait_room()
            link.send(SnapshotEnd(epoch, copy.digests))
            await link.wait_room()
        finally:
            await asyncio.to_thread(copy.close)

    async def take(self, message: Message) -> None:
        """Take the next part of a copy.

        Raises:
            PeerRejected: it comes at the wrong time.
            LedgerError: it is not what was announced, or there is no space; what came is thrown away.
        """
        if self._is_installed:  # beginning another one would throw it away
            raise PeerRejected("a copy has come already, and waits for this node to start anew")
        if isinstance(message, SnapshotBegin):
            await self._give_up()
            mark = message.mark
            self._arrival = snapshot.Arrival(self._data, lsn=mark.lsn, hash=mark.hash, sizes=message.sizes)
            log_event(logger, logging.INFO, "taking a copy", lsn=mark.lsn, bytes=sum(message.sizes.values()))
            return
        arrival = self._arrival
        if arrival is None:
            raise PeerRejected("a part of a copy came before its beginning")
        async with AsyncExitStack() as on_fault:
            on_fault.push_async_callback(self._give_up)
            if isinstance(message, SnapshotChunk):
                await asyncio.to_thread(arrival.take, message.name, message.data)
            elif isinstance(message, SnapshotEnd):
                await asyncio.to_thread(self._install, arrival, message)
                self._arrival = None
                self._is_installed = True
                self._on_installed()
            on_fault.pop_all()

    def _install(self, arrival: snapshot.Arrival, message: SnapshotEnd) -> None:
        settings, keyring = self._folder.settings, self._folder.keyring
        arrival.install(
            message.digests,
            bank=settings.node.bank,
            data_key=keyring.data_key,
            store_key=keyring.store_key,
            now_us=now_us(),
            segment_bytes=settings.ledger.segment_bytes,
        )

    async def _give_up(self) -> None:
        arrival, self._arrival = self._arrival, None
        if arrival is not None:
            await asyncio.to_thread(arrival.close)
