"""What the client's tests share: certificates, a bank with two people, and both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop

from fortress.client.client import Client, connect
from fortress.client.me import Me
from tests.client.fake_bank import Books, Credentials, FakeNode

ALICE_SEED = b"a" * 32
BOB_SEED = b"b" * 32


@pytest.fixture(scope="session")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    """Certificates are slow to make and the same for every test."""
    return Credentials.make(Path(tmp_path_factory.mktemp("certificates")))


def _debugged() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    return loop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Everything must work on both loops."""
    return {"asyncio": _debugged, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def books() -> Books:
    """Alice has 1,000.00 EUR, Bob nothing."""
    books = Books()
    books.add_user("alice", ALICE_SEED, 100_000)
    books.add_user("bob", BOB_SEED)
    return books


@pytest_asyncio.fixture
async def node(credentials: Credentials, books: Books) -> AsyncIterator[FakeNode]:
    """One node that listens."""
    node = await FakeNode(credentials, books).start()
    yield node
    await node.stop()


@pytest_asyncio.fixture
async def client(node: FakeNode) -> AsyncIterator[Client]:
    """A client of that node, impatient as tests are."""
    async with connect(node.address, ca=node.credentials.ca, timeout_s=1.0, deadline_s=3.0) as client:
        yield client


@pytest_asyncio.fixture
async def alice(client: Client) -> Me:
    """Alice, signed in."""
    return await client.login_with_seed("alice", ALICE_SEED)
