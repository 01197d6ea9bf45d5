"""The site of one node: ``/status``, ``/metrics`` and the probes, on loopback unless told otherwise.

It asks nobody for a password and shows no names, accounts, amounts or keys. It is handed ``statistics()``, which
returns an immutable mapping, quickly and without waiting; each request calls it once. Keys, all optional:

=================== ====================== ============================================================================
key                 value                  meaning
=================== ====================== ============================================================================
bank, node          str                    whose node this is, and which
version             str                    version of the program
uptime_s            float                  seconds since the start
role                str                    primary or standby; a node alone is primary
state               str                    where a node of a pair stands, like primary.paired or standby.in_sync
term                int                    the pair's term; 0 for a node alone
peer                {str: value}           the other node: name, address (for clients), seen_s (ago), durable, applied
register            {str: value}           kind, and whether it is reachable
failovers           int                    times that this node took over
unavailable_s       float                  time without a primary that this node saw when it took over
position            int                    entries committed since the bank began
lsn                 int                    number of the last record committed
behind              int                    records that the standby has yet to receive or to apply
copies              int                    machines that hold each acknowledged record
connections         int                    open now
connections_total   int                    accepted since the start
connections_refused {reason: int}          closed at once, because a limit was reached
sessions_ended      {reason: int}          connections that the node ended
bytes_received      int                    inside TLS
bytes_sent          int                    inside TLS
tasks_processed     int                    valid requests answered since the start
requests            {(op, result): int}    answered; result is ``ok`` or the name of a refusal or an error
request_seconds     {op: histogram}        from request to answer
commit_seconds      {stage: histogram}     judge, write, apply, ...
commit_batch_size   histogram              entries in one group commit
queue               int                    commands that wait for a commit
unapplied_entries   int                    entries durable and not yet in the tables
auth_failures       {reason: int}          logins that failed
imbalance           {currency: int}        minor units by which the books do not add up; 0 or the ledger is broken
payments_in_doubt   int                    payments across banks without a decision
event_loop_lag_s    float                  how late the event loop runs its timers
memory_rss_bytes    int                    resident memory
certificate_expiry  float                  when the TLS certificate expires, Unix time
last_backup         float                  when this node's last backup was made, Unix time; None: none is known
checks              {name: (bool, str)}    what must hold to be ready: whether it does, and a short reason
=================== ====================== ============================================================================

A histogram is a plain tuple ``(buckets, sum, count)``: buckets is a tuple of ``(upper bound, n)`` with rising bounds
and n the observations in that bucket *alone*; count is that of all observations, also those over the last bound.
Further keys whose values are JSON already appear in ``/status`` as they are.
"""

from __future__ import annotations

import asyncio
import errno
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from fortress.errors import AddressInUse, SettingInvalid
from fortress.monitor.metrics import Histogram, Metrics, Snapshot, Statistics, quantile

CONNECTIONS_MAX = 64
FIRST_REQUEST_S = 10
"""A connection that has not sent one whole request by then is closed."""
KEEP_ALIVE_S = 30
STOP_S = 2

STANDBY = "standby"
NUMBER = re.compile(r"[0-9]{1,18}")
HISTOGRAM_KEYS = {"request_seconds", "commit_seconds", "commit_batch_size"}
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Site:
    """Serve one node's state. Made once, started and stopped once.

    Args:
        statistics: gives the present snapshot; see the module's text for its keys.
    """

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        self._metrics = Metrics(statistics)
        self._silent: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}
        self._runner = web.AppRunner(
            self._application(), access_log=None, keepalive_timeout=KEEP_ALIVE_S, shutdown_timeout=STOP_S
        )
        self._listener: asyncio.Server | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on, once started."""
        if self._listener is None:
            raise RuntimeError("the site is not started")
        host, port = self._listener.sockets[0].getsockname()[:2]
        return str(host), int(port)

    async def start(self, host: str = "127.0.0.1", port: int = 7612) -> None:
        """Listen. Port 0 takes a free one, which `address` then tells.

        Raises:
            AddressInUse: something else listens there.
            SettingInvalid: this machine has no such address, or the port needs rights that the process lacks.
        """
        await self._runner.setup()
        try:
            self._listener = await asyncio.get_running_loop().create_server(self._accept, host, port)
        except OSError as exc:
            await self._runner.cleanup()
            facts: dict[str, int | str | bool | None] = {"host": host, "port": port}
            if exc.errno == errno.EADDRINUSE:
                raise AddressInUse(
                    f"{host}:{port} is taken, so the monitoring site cannot listen there", facts
                ) from exc
            raise SettingInvalid(f"the monitoring site cannot listen on {host}:{port}: {exc.strerror}", facts) from exc

    async def stop(self) -> None:
        """Close the listener and all connections; requests under way get a moment to finish."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for deadline in self._silent.values():
            deadline.cancel()
        self._silent.clear()
        await self._runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._note_speaker])
        pages = {
            "/status": self._show_status,
            "/metrics": self._show_metrics,
            "/livez": self._show_alive,
            "/healthz": self._show_alive,
            "/readyz": self._show_ready,
            "/primary": self._show_primary,
            "/standby": self._show_standby,
        }
        application.add_routes([web.get(path, handler) for path, handler in pages.items()])
        return application

    def _accept(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        if server is None or len(server.connections) >= CONNECTIONS_MAX:
            return _Refusal()
        handler = server()
        deadline = asyncio.get_running_loop().call_later(FIRST_REQUEST_S, self._close_silent, handler)
        self._silent[handler] = deadline
        return handler

    def _close_silent(self, handler: web.RequestHandler) -> None:
        del self._silent[handler]
        if handler.transport is not None:
            handler.transport.abort()

    @web.middleware
    async def _note_speaker(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if deadline := self._silent.pop(request.protocol, None):
            deadline.cancel()
        return await handler(request)

    async def _show_status(self, request: web.Request) -> web.Response:
        page = json.dumps(status_document(self._statistics()), separators=(",", ":")) + "\n"
        return web.Response(text=page, content_type="application/json", headers=HEADERS)

    async def _show_metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._metrics.page(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={**HEADERS, "Content-Type": content_type})

    async def _show_alive(self, request: web.Request) -> web.Response:
        return _answer("ok\n", ok=True)

    async def _show_ready(self, request: web.Request) -> web.Response:
        checks: Mapping[str, tuple[bool, str]] = self._statistics().get("checks", {})
        ready = all(ok for ok, _ in checks.values())
        lines = [f"[{'+' if ok else '-'}] {name}: {reason}" for name, (ok, reason) in checks.items()]
        shown = lines if "verbose" in request.query else []
        return _answer("\n".join([*shown, "ready" if ready else "not ready", ""]), ok=ready)

    async def _show_primary(self, request: web.Request) -> web.Response:
        role = str(self._statistics().get("role", "unknown"))
        return _answer(f"{role}\n", ok=role == "primary")

    async def _show_standby(self, request: web.Request) -> web.Response:
        behind_max = request.query.get("max_behind", "")
        if behind_max and not NUMBER.fullmatch(behind_max):
            text = "max_behind is a number of records\n"
            return web.Response(text=text, status=400, headers=HEADERS)
        snapshot = self._statistics()
        role, behind = str(snapshot.get("role", "unknown")), snapshot.get("behind")
        near = not behind_max or (behind is not None and int(behind) <= int(behind_max))
        shown = f"{role}, {behind} behind\n" if role == STANDBY and behind is not None else f"{role}\n"
        return _answer(shown, ok=role == STANDBY and near)


def status_document(snapshot: Snapshot) -> dict[str, Any]:
    """Turn a snapshot into what ``/status`` shows: only JSON, requests by operation, histograms as a few numbers."""
    document = dict(snapshot)
    if "requests" in snapshot:
        requests: dict[str, dict[str, int]] = {}
        for (operation, result), count in snapshot["requests"].items():
            requests.setdefault(operation, {})[result] = count
        document["requests"] = requests
    if "checks" in snapshot:
        document["checks"] = {name: {"ok": ok, "reason": reason} for name, (ok, reason) in snapshot["checks"].items()}
    for key in HISTOGRAM_KEYS.intersection(snapshot):
        value = snapshot[key]
        by_label = isinstance(value, Mapping)
        document[key] = {label: _summary(item) for label, item in value.items()} if by_label else _summary(value)
    return {key: dict(document[key]) if isinstance(document[key], Mapping) else document[key] for key in snapshot}


def _summary(histogram: Histogram) -> dict[str, float | int | None]:
    _, total, count = histogram
    # JSON has no infinity: past the last bound is null, as is none at all
    shares = {"p50": quantile(histogram, 0.5), "p99": quantile(histogram, 0.99)}
    finite = {name: bound if bound is not None and math.isfinite(bound) else None for name, bound in shares.items()}
    return {"count": count, "mean": total / count if count else None, **finite}


def _answer(page: str, *, ok: bool) -> web.Response:
    return web.Response(text=page, status=200 if ok else 503, headers=HEADERS)


class _Refusal(asyncio.Protocol):
    """Close a connection over the limit at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
