"""Signals to a node at work: SIGTERM drains, SIGHUP takes renewed certificates over, and nobody loses anything."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from fortress.client.trust import Trust
from fortress.protocol.accounts import GetAccount
from tests.e2e.node import Node, run_cli, wait_until
from tests.fault.kill import KillRun

DRAIN_S_MAX = 15.0


@pytest.fixture
def parent() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fortress-signal-", dir="/var/tmp") as folder:
        yield Path(folder)


async def test_sigterm_under_load_loses_nothing(parent: Path) -> None:
    """What is under way is answered, the node ends with 0 in time, and all of it is there afterwards."""
    run = KillRun(parent, 5)
    try:
        await run.start()
        await run.check()
        run.begin()
        async with asyncio.timeout(20):
            while run.model.counts["acknowledged"] < 2000:
                await asyncio.gather(*(client.answered() for client in run.clients))
        began = time.monotonic()
        run.node.signal(signal.SIGTERM)
        assert await asyncio.to_thread(run.node.wait) == 0
        assert time.monotonic() - began < DRAIN_S_MAX
        await run.kill()
        assert '"code"' not in run.node.log()  # no error was told
        await run.finish()
        assert run.report.faults == []
    finally:
        run.leave()
        run.node.kill()


@pytest.mark.fault
async def test_a_second_sigterm_ends_at_once_and_loses_nothing(parent: Path) -> None:
    """Who asks twice does not want to wait; what was acknowledged is on the disk already."""
    run = KillRun(parent, 6)
    try:
        await run.start()
        await run.check()
        run.begin()
        await asyncio.gather(*(client.answered() for client in run.clients))
        assert run.node.process is not None
        os.kill(run.node.process.pid, signal.SIGSTOP)  # so that both are there when it looks
        run.node.signal(signal.SIGTERM)
        run.node.signal(signal.SIGINT)
        os.kill(run.node.process.pid, signal.SIGCONT)
        assert await asyncio.to_thread(run.node.wait) == 130
        await run.kill()
        await run.finish()
        assert run.report.faults == []
    finally:
        run.leave()
        run.node.kill()


def serial(node: Node) -> int:
    """Ask which certificate a new connection is shown."""
    with socket.create_connection((node.host, node.port), timeout=10) as plain:
        with Trust(node.ca).tls.wrap_socket(plain) as tls:
            shown = tls.getpeercert(binary_form=True)
            assert shown is not None
            return x509.load_der_x509_certificate(shown).serial_number


def count_in_log(node: Node, event: str) -> int:
    return node.log().count(event)


async def test_sighup_takes_renewed_certificates_over(folder: Path) -> None:
    """New connections see the new certificate; those that stand go on, under load, without a break."""
    with Node(folder) as node:
        before = serial(node)
        standing = await node.link("customer0")
        renewed = run_cli("cert", "renew", "node", "bank", "--folder", folder / "certs")
        assert renewed.returncode == 0, renewed.stderr
        assert serial(node) == before
        node.signal(signal.SIGHUP)
        while not count_in_log(node, "certificates reloaded"):
            await standing.request("get_account", GetAccount(), 10)
        after = serial(node)
        assert after != before
        expiry = node.status()["certificate_expiry"]
        newcomer = await node.link("customer1")
        for link in (standing, newcomer):
            await link.request("get_account", GetAccount(), 10)
            await link.close()

        (folder / "certs" / "node.crt").write_text("no certificate")
        node.signal(signal.SIGHUP)
        wait_until(lambda: count_in_log(node, "not reloaded"))
        assert serial(node) == after
        assert node.status()["certificate_expiry"] == expiry


async def test_a_drained_node_says_goodbye(folder: Path) -> None:
    """A session without anything under way is ended in order, not cut; the port is free for the next node."""
    with Node(folder) as node:
        link = await node.link("customer0")
        node.signal(signal.SIGTERM)
        await asyncio.wait_for(asyncio.shield(link._lost), 10)
        assert link._connection.peer_closed
        assert await asyncio.to_thread(node.wait) == 0
    with Node(folder) as node:
        await (await node.link("customer0")).close()
