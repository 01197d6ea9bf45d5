"""The other node is asked for what it tells anybody: it alone, within a bounded time, and only if it is of the bank."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from fortress import config
from fortress.cli.demo import free_port
from fortress.cli.peer import PeerAnswer, ask_peer
from fortress.config import Settings
from fortress.errors import ServerNotTrusted, Unreachable
from tests.cli.doors import make_pair
from tests.client.fake_bank import Books, Credentials, FakeNode


def settings_for(folder: Path, address: str, ca: bytes) -> Settings:
    """Settings of a node whose other node is there, under this authority."""
    (folder / "ca.crt").write_bytes(ca)
    made = Settings(folder=folder)
    node, pair, tls = replace(made.node, bank="a"), replace(made.pair, peer_clients=address), made.tls
    return replace(made, node=node, pair=pair, tls=replace(tls, ca="ca.crt"))


async def asked(settings: Settings) -> PeerAnswer:
    return await asyncio.to_thread(ask_peer, settings, 5.0)


async def test_the_other_node_tells_role_and_clock(tmp_path: Path) -> None:
    """Whatever it is; nobody signs in."""
    node = await FakeNode(Credentials.make(tmp_path / "certs"), Books()).start()
    try:
        answer = await asked(settings_for(tmp_path, f"127.0.0.1:{node.port}", node.credentials.ca))
        assert answer.document["bank"] == "a" and answer.document["role"]
        assert answer.clock_off_s < 5
        other = Credentials.make(tmp_path / "others")
        with pytest.raises(ServerNotTrusted):
            await asked(settings_for(tmp_path, f"127.0.0.1:{node.port}", other.ca))
    finally:
        await node.stop()


def test_nobody_there_is_told(tmp_path: Path) -> None:
    """As is a node that has no other."""
    first, _ = make_pair(tmp_path)
    with pytest.raises(Unreachable):
        ask_peer(config.load(first, {}, {}), 1.0)
    with pytest.raises(Unreachable, match="peer_clients"):
        ask_peer(settings_for(tmp_path, "", b""))
    with pytest.raises(Unreachable):
        ask_peer(replace(settings_for(tmp_path, f"127.0.0.1:{free_port()}", (first / "certs/ca.crt").read_bytes())))
