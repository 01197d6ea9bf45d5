"""The site: true numbers, probes that answer yes or no, and limits on what a visitor can hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest

from fortress.errors import AddressInUse, SettingInvalid
from fortress.monitor import site as site_module
from fortress.monitor.site import Site, status_document

State = dict[str, Any]


@pytest.fixture
def state() -> State:
    return {"role": "primary", "connections": 0, "tasks_processed": 0, "version": "0.1.0"}


@pytest.fixture
async def site(state: State) -> AsyncIterator[Site]:
    made = Site(lambda: state)
    await made.start(port=0)
    yield made
    await made.stop()


async def get(site: Site, path: str, **headers: str) -> tuple[int, str, Mapping[str, str]]:
    host, port = site.address
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{host}:{port}{path}", headers=headers) as answer,
    ):
        return answer.status, await answer.text(), answer.headers


# --- status and metrics ---------------------------------------------------------------------------------------------


async def test_status_tells_the_present_numbers(site: Site, state: State) -> None:
    """Each request sees the snapshot of its moment, uncached."""
    status, page, headers = await get(site, "/status")
    assert (status, json.loads(page)["tasks_processed"]) == (200, 0)
    assert headers["Content-Type"].startswith("application/json")
    assert headers["Cache-Control"] == "no-store"
    state.update(connections=3, tasks_processed=9)
    shown = json.loads((await get(site, "/status"))[1])
    assert (shown["connections"], shown["tasks_processed"]) == (3, 9)


async def test_metrics_are_prometheus_text(site: Site, state: State) -> None:
    """A scraper gets the format it asks for."""
    state["tasks_processed"] = 9
    status, page, headers = await get(site, "/metrics")
    assert status == 200
    assert "fortress_tasks_processed_total 9.0" in page
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    _, page, headers = await get(site, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert page.endswith("# EOF\n")


def test_the_document_holds_only_json() -> None:
    """Requests are grouped by operation, histograms shortened, mappings made plain, keys kept in order."""
    histogram = (((0.001, 3), (0.01, 1)), 0.02, 4)
    document = status_document(
        {
            "requests": {("transfer", "ok"): 2, ("transfer", "exceeds_available"): 1, ("balance", "ok"): 4},
            "request_seconds": {"transfer": histogram},
            "commit_batch_size": (((1.0, 0),), 7.0, 1),
            "commit_seconds": {"write": ((), 0.0, 0)},
            "imbalance": {"EUR": 0},
            "checks": {"journal": (True, "writable")},
            "uptime_s": 1.5,
        }
    )
    assert json.loads(json.dumps(document, allow_nan=False)) == {
        "requests": {"transfer": {"ok": 2, "exceeds_available": 1}, "balance": {"ok": 4}},
        "request_seconds": {"transfer": {"count": 4, "mean": 0.005, "p50": 0.001, "p99": 0.01}},
        "commit_batch_size": {"count": 1, "mean": 7.0, "p50": None, "p99": None},
        "commit_seconds": {"write": {"count": 0, "mean": None, "p50": None, "p99": None}},
        "imbalance": {"EUR": 0},
        "checks": {"journal": {"ok": True, "reason": "writable"}},
        "uptime_s": 1.5,
    }
    assert list(document)[0] == "requests"


# --- probes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/livez", "/healthz"])
async def test_a_node_that_answers_is_alive(site: Site, state: State, path: str) -> None:
    """Alive does not mean ready: a failed check does not get the process killed."""
    state["checks"] = {"journal": (False, "disk full")}
    assert (await get(site, path))[:2] == (200, "ok\n")


async def test_a_node_is_ready_when_all_checks_hold(site: Site, state: State) -> None:
    """One that fails is enough to be passed over, and verbose tells which."""
    state["checks"] = {"journal": (True, "writable"), "tables": (True, "4 entries behind")}
    assert (await get(site, "/readyz"))[:2] == (200, "ready\n")
    state["checks"]["tables"] = (False, "300000 entries behind")
    assert (await get(site, "/readyz"))[:2] == (503, "not ready\n")
    status, page, _ = await get(site, "/readyz?verbose")
    assert (status, page) == (503, "[+] journal: writable\n[-] tables: 300000 entries behind\nnot ready\n")


async def test_a_node_without_checks_is_ready(site: Site) -> None:
    """Nothing to fail, nothing to show."""
    assert (await get(site, "/readyz?verbose"))[:2] == (200, "ready\n")


@pytest.mark.parametrize(("role", "status"), [("primary", 200), ("standby", 503), ("fenced", 503), (None, 503)])
async def test_only_the_primary_says_so(site: Site, state: State, role: str | None, status: int) -> None:
    """A load balancer that asks /primary finds exactly one node."""
    if role is None:
        del state["role"]
    else:
        state["role"] = role
    assert (await get(site, "/primary"))[:2] == (status, f"{role or 'unknown'}\n")


@pytest.mark.parametrize(
    ("role", "behind", "query", "status"),
    [
        ("standby", 0, "", 200),
        ("standby", 900, "", 200),
        ("standby", 10, "?max_behind=10", 200),
        ("standby", 11, "?max_behind=10", 503),
        ("standby", None, "?max_behind=10", 503),
        ("standby", None, "", 200),
        ("primary", 0, "?max_behind=10", 503),
        ("standby", 0, "?max_behind=few", 400),
        ("standby", 0, "?max_behind=-1", 400),
    ],
)
async def test_only_a_standby_near_enough_says_so(
    site: Site, state: State, role: str, behind: int | None, query: str, status: int
) -> None:
    """A load balancer for reads says how old their answers may be; one that knows not how far behind it is says no."""
    state.update(role=role, behind=behind)
    found, page, _ = await get(site, f"/standby{query}")
    assert found == status
    assert status == 400 or page.startswith(role)


async def test_nothing_else_is_there(site: Site) -> None:
    """Other paths are not found, and nothing can be sent."""
    assert (await get(site, "/"))[0] == 404
    host, port = site.address
    async with aiohttp.ClientSession() as session, session.post(f"http://{host}:{port}/status") as answer:
        assert answer.status == 405


# --- listening ------------------------------------------------------------------------------------------------------


async def test_it_listens_on_loopback_unless_told_otherwise(site: Site) -> None:
    """Who wants it elsewhere says so."""
    assert site.address[0] == "127.0.0.1"


async def test_a_taken_port_is_named(site: Site, state: State) -> None:
    """The second site says which address it could not have."""
    with pytest.raises(AddressInUse) as caught:
        await Site(lambda: state).start(port=site.address[1])
    assert caught.value.facts == {"host": "127.0.0.1", "port": site.address[1]}


async def test_an_address_of_another_machine_is_refused(state: State) -> None:
    """192.0.2.1 is documentation's (RFC 5737) and nobody's."""
    with pytest.raises(SettingInvalid, match="cannot listen"):
        await Site(lambda: state).start(host="192.0.2.1", port=0)


async def test_a_stopped_site_lets_its_port_go(state: State) -> None:
    """After stop nobody answers there, and stopping again does no harm."""
    site = Site(lambda: state)
    with pytest.raises(RuntimeError, match="not started"):
        _ = site.address
    await site.start(port=0)
    _, port = site.address
    await site.stop()
    await site.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


# --- limits ---------------------------------------------------------------------------------------------------------


QUESTION = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER_END = b"ok\n"


@asynccontextmanager
async def connected(site: Site) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*site.address)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_connections_over_the_limit_are_closed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those within it go on being answered."""
    monkeypatch.setattr(site_module, "CONNECTIONS_MAX", 1)
    async with connected(site) as (reader, writer), asyncio.timeout(5):
        writer.write(QUESTION)
        await reader.readuntil(ANSWER_END)
        async with connected(site) as (over, _):
            assert await over.read() == b""
        writer.write(QUESTION)
        await reader.readuntil(ANSWER_END)


async def test_a_connection_that_says_nothing_is_closed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has asked something stays open for its next question."""
    monkeypatch.setattr(site_module, "FIRST_REQUEST_S", 0.5)
    async with connected(site) as (reader, writer), asyncio.timeout(5):
        writer.write(QUESTION)
        await reader.readuntil(ANSWER_END)
        async with connected(site) as (silent, silent_writer):
            silent_writer.write(QUESTION[:10])
            assert await silent.read() == b""
        writer.write(QUESTION)
        await reader.readuntil(ANSWER_END)


async def test_a_site_stops_while_somebody_is_silent(state: State) -> None:
    """Nobody holds up the end of the process."""
    site = Site(lambda: state)
    await site.start(port=0)
    async with connected(site) as (silent, _), connected(site) as (reader, writer), asyncio.timeout(5):
        writer.write(QUESTION)
        await reader.readuntil(ANSWER_END)
        await site.stop()
        assert await silent.read() == b""
