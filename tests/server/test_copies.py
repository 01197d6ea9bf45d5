"""Whole copies over the replication socket: sent in order, taken in order, or thrown away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fortress.config import Settings
from fortress.errors import IntegrityFailed, PeerRejected
from fortress.ledger.engine import Engine
from fortress.ledger.keyring import Keyring
from fortress.pair.link import Link
from fortress.pair.messages import Mark, Message, SnapshotBegin, SnapshotChunk, SnapshotEnd
from fortress.server.copies import Copies
from fortress.server.folder import Folder
from tests.server.banks import BANK
from tests.server.members import Member, member


class Wire:
    """A link whose messages are kept."""

    def __init__(self, *, cut_after: int = 1 << 30) -> None:
        self.messages: list[Message] = []
        self._cut_after = cut_after

    @property
    def is_open(self) -> bool:
        return len(self.messages) < self._cut_after

    def send(self, message: Message) -> None:
        self.messages.append(message)

    async def wait_room(self) -> None:
        pass


def folder_at(path: Path, keyring: Keyring) -> Folder:
    """What copies need to know of a folder."""
    path.mkdir(exist_ok=True)
    settings = Settings(folder=path)
    node = SimpleNamespace(bank=BANK, data_folder=".")
    found: Any = SimpleNamespace(
        settings=SimpleNamespace(path=settings.path, node=node, ledger=settings.ledger), keyring=keyring
    )
    return cast(Folder, found)


@asynccontextmanager
async def sending(tmp_path: Path) -> AsyncIterator[tuple[Member, Copies]]:
    """A primary with tables, and what sends copies of them."""
    async with member(tmp_path, "primary") as primary:
        await primary.make(1, 2, 3)
        await primary.committer.wait_applied(primary.committer.committed_position)
        yield primary, Copies(folder_at(tmp_path / "primary", Keyring()), primary.engine, on_installed=lambda: None)


def taking(tmp_path: Path) -> tuple[Copies, Keyring, list[bool]]:
    """A new standby, its secrets, and whether a copy was installed."""
    keyring, installed = Keyring(), list[bool]()
    copies = Copies(
        folder_at(tmp_path / "standby", keyring), cast(Engine, None), on_installed=lambda: installed.append(True)
    )
    return copies, keyring, installed


async def test_a_copy_becomes_the_standby_s_ledger(tmp_path: Path) -> None:
    """With keys of its own, and every record up to the one it was made at."""
    standby, keyring, installed = taking(tmp_path)
    async with sending(tmp_path) as (primary, copies):
        wire = Wire()
        await copies.send(cast(Link, wire), 7)
        assert not [*(tmp_path / "primary" / "outgoing").glob("*")]
        for message in wire.messages:
            await standby.take(message)
        assert installed == [True]
        with pytest.raises(PeerRejected):
            await standby.take(wire.messages[0])
        last = primary.engine.last
    engine = Engine.open(
        tmp_path / "standby", bank=BANK, data_key=keyring.data_key, store_key=keyring.store_key, is_in_pair=True
    )
    try:
        assert engine.last == last and engine.committed == last
    finally:
        engine.close()


async def test_sending_ends_with_the_connection(tmp_path: Path) -> None:
    """And leaves no file behind."""
    async with sending(tmp_path) as (_, copies):
        wire = Wire(cut_after=2)
        await copies.send(cast(Link, wire), 7)
        assert len(wire.messages) < 5
        assert not [*(tmp_path / "primary" / "outgoing").glob("*")]


async def test_parts_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    """Before its beginning a copy has no parts."""
    standby, _, installed = taking(tmp_path)
    for message in (SnapshotChunk(1, "ledger.db", b"x"), SnapshotEnd(1, {})):
        with pytest.raises(PeerRejected):
            await standby.take(message)
    with pytest.raises(IntegrityFailed):
        await standby.take(SnapshotBegin(1, Mark(), {"other": 1}))
    assert not installed


async def test_a_copy_that_was_changed_on_the_way_is_thrown_away(tmp_path: Path) -> None:
    """One byte is enough; and a new one may begin."""
    standby, _, installed = taking(tmp_path)
    async with sending(tmp_path) as (_, copies):
        wire = Wire()
        await copies.send(cast(Link, wire), 7)
    *parts, end = wire.messages
    chunk = next(message for message in parts if isinstance(message, SnapshotChunk) and message.name == "ledger.db")
    changed = SnapshotChunk(7, chunk.name, bytes([chunk.data[0] ^ 1]) + chunk.data[1:])
    for message in parts:
        await standby.take(changed if message is chunk else message)
    with pytest.raises(IntegrityFailed):
        await standby.take(end)
    assert not installed and not (tmp_path / "standby" / "incoming").exists()
    for message in wire.messages:
        await standby.take(message)
    assert installed
