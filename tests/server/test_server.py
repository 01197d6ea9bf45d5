"""The listener keeps its limits before any TLS, survives floods, and drains in order."""

from __future__ import annotations

import asyncio
import resource
import socket
from dataclasses import replace

import pytest

from fortress import authority
from fortress.config import LogSettings
from fortress.errors import ShuttingDown
from fortress.protocol.money import Transfer
from fortress.protocol.sessions import Whoami
from fortress.server import server as module
from tests.server.world import BANK, Client, client_tls, connected, made_folder, opened, running, until

ID = bytes(range(16))
TRANSFER = Transfer(ID, 1, 2, 100, "EUR")


async def test_hundreds_of_connections_from_one_address_are_cut_at_the_limit() -> None:
    """Before any TLS: those over it are closed at once, those within it may go on, and room comes back."""
    async with running(connections_per_address_max=20, handshake_s=30) as world, connected(world, "alice") as inside:
        sockets = [socket.create_connection(("127.0.0.1", world.server.port)) for _ in range(300)]
        await until(lambda: world.statistics.connections_refused.get("connections_per_address_max") == 281)
        assert world.statistics.connections == 20
        await inside.request("whoami", Whoami())
        for each in sockets:
            each.close()
        await until(lambda: world.statistics.connections == 1)
        async with connected(world, "bob") as client:
            await client.request("whoami", Whoami())


@pytest.mark.parametrize("paths", ["127.0.0.1", "192.0.2.1, 127.0.0.1", "::ffff:127.0.0.1"])
async def test_connections_through_a_gateway_are_not_one_persons(paths: str) -> None:
    """Its address is named in the settings; the limit of all connections together still holds."""
    async with running(connections_per_address_max=1, connections_max=3, paths=paths) as world:
        async with connected(world), connected(world), connected(world):
            with pytest.raises((OSError, EOFError)):
                await Client(world, BANK).open()
        assert world.statistics.connections_refused == {"connections_max": 1}
        await until(lambda: world.statistics.connections == 0)


async def test_the_total_is_limited_too() -> None:
    """Whatever the addresses."""
    async with running(connections_max=2) as world, connected(world), connected(world):
        with pytest.raises((OSError, EOFError)):
            await Client(world, BANK).open()
        assert world.statistics.connections_refused == {"connections_max": 1}
        assert world.statistics.connections_total == 2


async def test_a_connection_that_never_speaks_tls_is_ended() -> None:
    """After the time of a handshake."""
    async with running(handshake_s=0.2) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
        async with asyncio.timeout(10):
            try:
                assert await reader.read() == b""
            except ConnectionError:
                pass
        writer.close()
        await until(lambda: world.statistics.connections == 0)
        assert world.statistics.connections_refused == {"tls": 1}


async def test_draining_answers_what_is_under_way_and_takes_nothing_new() -> None:
    """New requests are told so, new connections refused, every session ends with its closing piece."""
    async with running() as world:
        busy = await Client(world, BANK).open()
        await busy.hello()
        await busy.login("alice")
        port = world.server.port
        transfer = busy.send("transfer", TRANSFER)
        await until(lambda: world.held)
        async with connected(world, "bob") as idle:
            drain = asyncio.create_task(world.server.drain(5))
            await idle.wait_end()
            assert idle.core.peer_closed
        busy.send("whoami", Whoami())
        with pytest.raises(ShuttingDown):
            opened("whoami", await busy.receive())
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
        world.release()
        answer = await busy.receive()
        assert (answer.request_id, answer.code) == (transfer, 0)
        await busy.wait_end()
        assert busy.core.peer_closed
        await busy.close()
        await drain
        assert world.statistics.connections == 0


async def test_draining_has_an_end() -> None:
    """What is not answered by the deadline is cut off."""
    async with running() as world:
        client = await Client(world, BANK).open()
        await client.hello()
        await client.login("alice")
        client.send("transfer", TRANSFER)
        await until(lambda: world.held)
        await world.server.drain(0.1)
        assert world.statistics.connections == 0
        await client.wait_end()
        assert not client.core.peer_closed
        client.writer.close()


async def test_draining_ends_half_made_connections() -> None:
    """Those in the middle of a handshake are given up."""
    async with running(handshake_s=30) as world:
        with socket.create_connection(("127.0.0.1", world.server.port)):
            await until(lambda: world.statistics.connections == 1)
            await world.server.drain(0.1)
        assert world.statistics.connections == 0


async def test_new_handshakes_use_a_renewed_certificate() -> None:
    """And connections that stand are not touched."""
    async with running() as world, connected(world, "alice") as before:
        certs = made_folder() / "certs"
        old = authority.load_certificate(certs / "node.crt").serial_number
        authority.renew(certs, "node")
        authority.renew(certs, "bank")
        world.folder.load_certificates()
        world.server.identity_payload = world.folder.identity_payload
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", world.server.port, ssl=client_tls(), server_hostname="localhost"
        )
        shown = writer.get_extra_info("peercert")
        assert int(shown["serialNumber"], 16) != old
        writer.close()
        await before.request("whoami", Whoami())
        async with connected(world, "bob") as after:
            await after.request("whoami", Whoami())


async def test_settings_are_taken_over_while_running() -> None:
    """The next request sees the new limit."""
    async with running() as world, connected(world, "alice") as client:
        settings = world.node.settings
        world.server.apply(
            replace(settings, server=replace(settings.server, outstanding_max=1), log=LogSettings(requests="all"))
        )
        client.send("transfer", TRANSFER)
        client.send("transfer", TRANSFER)
        assert (await client.receive()).code == 3002
        world.release()
        await client.receive()


async def test_the_snapshot_has_what_the_pages_show() -> None:
    """Counters, results, times."""
    async with running() as world, connected(world, "alice") as client:
        await client.request("whoami", Whoami())
        await until(lambda: world.server.loop_lag_s >= 0)
        snapshot = world.server.snapshot()
        assert snapshot["connections"] == snapshot["connections_total"] == 1
        requests = snapshot["requests"]
        assert isinstance(requests, dict)
        assert requests[("login_finish", "ok")] == 1
        assert snapshot["bytes_received"] and snapshot["bytes_sent"]
        assert "event_loop_lag_s" in snapshot


async def test_work_beside_answers_is_kept_and_its_fault_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits for it, so somebody must say it."""

    async def fail() -> None:
        raise ValueError("x")

    async with running() as world:
        world.server.run_beside(fail())
        await until(lambda: "task failed" in caplog.text)


async def test_who_is_gone_is_told_to_who_asked() -> None:
    """Subscriptions end with their session."""
    async with running() as world:
        gone: list[int] = []
        world.server.on_gone.append(lambda session: gone.append(session.customer))
        async with connected(world, "alice"):
            pass
        await until(lambda: gone == [1])


@pytest.mark.parametrize(
    ("limits", "wanted", "allowed", "raised"),
    [
        ((1024, 4096), 500, 500, None),
        ((1024, 8192), 4096, 4096, (4224, 8192)),
        ((1024, 2048), 4096, 1920, (2048, 2048)),
        ((1024, resource.RLIM_INFINITY), 4096, 4096, (4224, resource.RLIM_INFINITY)),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 4096, 4096, None),
    ],
)
def test_the_limit_on_files_is_raised_as_far_as_allowed(
    limits: tuple[int, int],
    wanted: int,
    allowed: int,
    raised: tuple[int, int] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And fewer connections are taken where it cannot be."""
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(module.resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(module.resource, "setrlimit", lambda _, new: set_to.append(new))
    assert module._files_allowed(wanted) == allowed
    assert set_to == ([raised] if raised else [])
