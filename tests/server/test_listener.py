"""The listener says what is wrong with an address, and outlives a shortage of files."""

from __future__ import annotations

import errno
import socket

import pytest

from fortress.errors import AddressInUse, SettingInvalid
from fortress.protocol.sessions import Whoami
from fortress.server import listener as module
from tests.server.world import connected, running


async def test_running_out_of_files_pauses_accepting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It neither spins nor ends; when there are files again, who waited is let in."""
    monkeypatch.setattr(module, "ACCEPT_RETRY_S", 0.1)
    failures: list[int] = []

    class Listener(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            if not failures:
                failures.append(errno.EMFILE)
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    monkeypatch.setattr(module.socket, "socket", Listener)
    async with running() as world:
        monkeypatch.undo()
        monkeypatch.setattr(module, "ACCEPT_RETRY_S", 0.1)
        async with connected(world, "alice") as client:
            await client.request("whoami", Whoami())
    assert len(failures) == 1
    assert "accepting paused" in caplog.text


async def test_a_peer_gone_before_it_was_accepted_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is accepted in the same turn."""
    failures: list[int] = []

    class Listener(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            if not failures:
                failures.append(1)
                raise ConnectionAbortedError
            return super().accept()

    monkeypatch.setattr(module.socket, "socket", Listener)
    async with running() as world:
        monkeypatch.undo()
        async with connected(world, "alice") as client:
            await client.request("whoami", Whoami())
    assert failures == [1]


async def test_a_taken_address_is_told() -> None:
    """With host and port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(AddressInUse) as caught:
            async with running(port=port):
                pass
    assert caught.value.facts == {"host": "127.0.0.1", "port": port}


async def test_an_address_that_is_not_of_this_machine_is_told() -> None:
    """As a wrong setting."""
    with pytest.raises(SettingInvalid, match="cannot listen"):
        async with running(host="192.0.2.1"):
            pass
