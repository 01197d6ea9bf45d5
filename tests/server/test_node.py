"""The node tells where it stands, and counts only work done for customers."""

from __future__ import annotations

from dataclasses import replace

from fortress.errors import Refused
from fortress.protocol.accounts import GetAccount, ListAccounts, Profile, SetProfile
from fortress.protocol.administration import StatusRequest
from fortress.server.backup_note import BackupNote, LastBackup
from fortress.server.node import Standing
from tests.server.world import BANK, connected, running


async def test_status_counts_what_was_done() -> None:
    """Three customers doing three things and one refused thing each: nine tasks, whoever looks is no task."""
    async with running() as world:
        for _ in range(3):
            async with connected(world, "alice") as client:
                for _ in range(2):
                    await client.request("list_accounts", ListAccounts())
                await client.request("set_profile", SetProfile(Profile(name="A")))
                try:
                    await client.request("get_account", GetAccount(5))
                except Refused:
                    await client.request("status", StatusRequest())
        async with connected(world) as client:
            status = await client.request("status", StatusRequest())
            assert (status.bank, status.node, status.role) == (BANK, "one", "primary")
            assert (status.lsn, status.position, status.term) == (3, 9, 1)
            assert status.tasks_processed == 9
            assert status.connections >= 1
            assert world.server.snapshot()["tasks_processed"] == 9


async def test_a_member_of_a_pair_tells_where_it_stands() -> None:
    """As the pair says at that moment."""
    async with running() as world:
        standing = Standing("standby", 7, 2, "standby.in_sync")
        status = replace(world.node, standing=lambda: standing).status()
        assert (status.role, status.term, status.copies, status.state) == ("standby", 7, 2, "standby.in_sync")
        assert world.node.status().state == "alone"


async def test_a_node_tells_of_its_last_backup() -> None:
    """When it was made and how far it reaches; nothing where there is none."""
    async with running() as world:
        status = world.node.status()
        assert (status.backup_us, status.backup_position) == (0, 0)
        backup = LastBackup()
        backup.note = BackupNote(1_700_000_000_000_000, 12, 34, 5678, "a.backup")
        status = replace(world.node, backup=backup).status()
        assert (status.backup_us, status.backup_position) == (1_700_000_000_000_000, 34)
