"""The client of etcd among faults, with TLS, and at an etcd whose quota is used up."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from fortress.errors import RegisterStale, RegisterUnreachable
from fortress.pair import etcd_register as etcd_register_module
from fortress.pair.change import Conflict
from fortress.pair.etcd_register import EtcdRegister
from fortress.pair.messages import Configuration
from tests.pair.registers import (
    CLUSTER,
    PATIENT_S,
    EtcdBackend,
    configuration,
    dialing,
    make_certificates,
    promised_nothing,
)

CLUSTER_ID = 0x0102030405060708
HEADER = {"cluster_id": str(CLUSTER_ID), "revision": "7"}
Act = Callable[[str, dict[str, Any]], dict[str, Any] | web.Response]


def held(value: Configuration | bytes, revision: int = 5) -> dict[str, Any]:
    """Answer a read as etcd does."""
    data = value if isinstance(value, bytes) else msgspec.json.encode(value)
    pair = {"key": "eA==", "value": base64.b64encode(data).decode(), "mod_revision": str(revision), "version": "1"}
    return {"header": HEADER, "kvs": [pair], "count": "1"}


class Actor:
    """An etcd that says what the test wants."""

    def __init__(self) -> None:
        self.act: Act = lambda operation, body: {"header": HEADER}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        operation, body = request.match_info["operation"], await request.json()
        self.asked.append((operation, body))
        said = self.act(operation, body)
        return said if isinstance(said, web.Response) else web.json_response(said)


@pytest.fixture
async def actor() -> AsyncIterator[Actor]:
    found = Actor()
    application = web.Application()
    application.router.add_post("/v3/kv/{operation}", found.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


@pytest.fixture
async def register(actor: Actor) -> AsyncIterator[EtcdRegister]:
    found = EtcdRegister([actor.url], None, CLUSTER, promised=promised_nothing, deadline_s=PATIENT_S)
    yield found
    await found.close()


def stamped(epoch: int) -> Configuration:
    """Make what this etcd would hold."""
    return msgspec.structs.replace(configuration(epoch), witness=CLUSTER_ID.to_bytes(8, "big"))


async def test_a_change_compares_the_revision_that_was_read(actor: Actor, register: EtcdRegister) -> None:
    """The value is JSON that people can read, and names the etcd cluster."""
    actor.act = lambda operation, _: held(stamped(3)) if operation == "range" else {"header": HEADER, "succeeded": True}
    assert await register.compare_and_set(3, configuration(4)) == stamped(4)
    (_, read), (_, change) = actor.asked
    key = base64.b64decode(read["key"]).decode()
    assert key == "/fortress/pair/" + CLUSTER.hex()
    [compare] = change["compare"]
    assert (compare["target"], compare["result"], compare["mod_revision"]) == ("MOD", "EQUAL", "5")
    value = json.loads(base64.b64decode(change["success"][0]["request_put"]["value"]))
    assert value[0] == 4 and value[1][0] == "node-1" and base64.b64decode(value[3]) == CLUSTER_ID.to_bytes(8, "big")


async def test_a_comparison_that_failed_has_no_word_for_it(actor: Actor, register: EtcdRegister) -> None:
    """Without ``succeeded`` it is a conflict, with what is held now; held nothing, it was deleted."""
    step = {"response_range": {**held(stamped(4)), "header": {"revision": "7"}}}
    failed: dict[str, Any] = {"header": HEADER, "responses": [step]}
    actor.act = lambda operation, _: held(stamped(3)) if operation == "range" else failed
    with pytest.raises(Conflict) as conflict:
        await register.compare_and_set(3, configuration(4))
    assert conflict.value.configuration == stamped(4)
    failed["responses"] = [{"response_range": {"header": {"revision": "7"}}}]
    with pytest.raises(RegisterStale, match="deleted"):
        await register.compare_and_set(3, configuration(4))
    for responses in ([], [{}]):
        failed["responses"] = responses
        with pytest.raises(RegisterUnreachable):
            await register.compare_and_set(3, configuration(4))


@pytest.mark.parametrize(
    "said",
    [
        web.Response(status=503, text='{"error": "etcdserver: no leader"}'),
        web.Response(text="hello"),
        web.Response(text='{"header": 5}'),
        web.Response(status=302, headers={"Location": "http://192.0.2.1/"}),
        web.Response(text=" " * (64 * 1024 + 1)),
    ],
    ids=["no leader", "no json", "wrong json", "elsewhere", "endless"],
)
async def test_no_other_answer_is_a_success(actor: Actor, register: EtcdRegister, said: web.Response) -> None:
    """To a change: unknown, and it is sent once."""
    content = {"status": said.status, "text": said.text, "headers": {"Location": said.headers.get("Location", "")}}
    actor.act = lambda operation, _: held(stamped(3)) if operation == "range" else web.Response(**content)
    with pytest.raises(RegisterUnreachable):
        await register.compare_and_set(3, configuration(4))
    assert [operation for operation, _ in actor.asked] == ["range", "txn"]
    actor.act = lambda *_: web.Response(**content)
    with pytest.raises(RegisterUnreachable):
        await register.get()


@pytest.mark.parametrize(
    "value", [b"", b"hello", b"[1]", msgspec.json.encode(Configuration(1, configuration().primary, ()))]
)
async def test_a_value_that_is_no_configuration_is_told(actor: Actor, register: EtcdRegister, value: bytes) -> None:
    """Somebody wrote into the key; nothing is made of it."""
    actor.act = lambda *_: held(value)
    with pytest.raises(RegisterUnreachable, match="no configuration"):
        await register.get()


async def test_the_value_of_another_cluster_is_stale(actor: Actor, register: EtcdRegister) -> None:
    """A restored snapshot has another id; what an operator writes by hand may leave it out."""
    actor.act = lambda *_: held(msgspec.structs.replace(configuration(3), witness=b"other id"))
    with pytest.raises(RegisterStale, match="restored"):
        await register.get()
    actor.act = lambda *_: held(configuration(3))
    assert await register.get() == configuration(3)
    actor.act = lambda *_: {}
    with pytest.raises(RegisterUnreachable, match="who it is"):
        await register.get()


async def test_the_next_address_is_asked_when_one_is_gone(actor: Actor) -> None:
    """Refused or deaf, it makes place for the next, which is asked first from then on."""
    actor.act = lambda operation, _: held(stamped(3)) if operation == "range" else {"header": HEADER, "succeeded": True}
    with socket.create_server(("127.0.0.1", 0)) as closed:
        gone = f"http://127.0.0.1:{closed.getsockname()[1]}"
    register = EtcdRegister([gone, actor.url], None, CLUSTER, promised=promised_nothing, deadline_s=PATIENT_S)
    assert await register.compare_and_set(3, configuration(4)) == stamped(4)
    assert register._addresses == [actor.url, gone]
    await register.close()
    only = EtcdRegister([gone], None, CLUSTER, promised=promised_nothing, deadline_s=PATIENT_S)
    with pytest.raises(RegisterUnreachable):
        await only.get()
    await only.close()


async def test_a_deaf_address_is_asked_last_the_next_time(actor: Actor) -> None:
    """The call that met it is lost; the next one finds another."""
    actor.act = lambda *_: held(stamped(3))
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        register = EtcdRegister([url, actor.url], None, CLUSTER, promised=promised_nothing, deadline_s=0.2)
        with pytest.raises(RegisterUnreachable, match="no answer"):
            await register.get()
        register._deadline_s = PATIENT_S
        assert await register.get() == stamped(3)
        await register.close()


async def test_an_etcd_with_tls_wants_a_certificate(tmp_path: Path) -> None:
    """With the node's it answers; without, or with another authority's, it cannot be reached."""
    certificates, other = make_certificates(tmp_path / "certs"), make_certificates(tmp_path / "other")
    backend = EtcdBackend(tmp_path / "etcd", certificates=certificates)
    backend.start()
    try:
        register = backend.register()
        assert (await register.compare_and_set(None, configuration())).epoch == 1
        await register.close()
        for tls in (None, dialing(other)):
            stranger = EtcdRegister([backend.url()], tls, CLUSTER, promised=promised_nothing, deadline_s=PATIENT_S)
            with pytest.raises(RegisterUnreachable):
                await stranger.get()
            await stranger.close()
    finally:
        backend.kill()


async def test_an_etcd_without_space_refuses_changes_and_stays_readable(tmp_path: Path) -> None:
    """Its quota is used up by others: a change is refused, and reading tells that it did not happen."""
    backend = EtcdBackend(tmp_path / "etcd", f"--quota-backend-bytes={1024 * 1024}")
    backend.start()
    register = backend.register()
    try:
        first = await register.compare_and_set(None, configuration())
        await fill_quota(register)
        with pytest.raises(RegisterUnreachable, match="space"):
            await register.compare_and_set(1, configuration(2))
        assert await register.get() == first
    finally:
        await register.close()
        backend.kill()


async def fill_quota(register: EtcdRegister) -> None:
    """Write large values until etcd takes none any more."""
    body = {"key": base64.b64encode(b"x").decode(), "value": base64.b64encode(bytes(400_000)).decode()}
    put: Callable[..., Awaitable[Any]] = register._ask
    with pytest.raises(RegisterUnreachable):
        async with asyncio.timeout(PATIENT_S):
            while True:
                await put("put", body, etcd_register_module.RangeAnswer)
