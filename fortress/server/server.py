"""All connections of a node: admitted within limits, kept, told about, drained at the end.

The limits on connections come before any TLS work: a flood from one address costs an accept and a close each, and no
handshake.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fortress.config import Settings
from fortress.protocol.connection import ServerConnection
from fortress.server.listener import Listener, listen
from fortress.server.login import LoginDesk
from fortress.server.logs import RequestLog, log_event
from fortress.server.session import Session
from fortress.server.statistics import Statistics, count_in
from fortress.server.throttle import NO_NETWORK, network_of
from fortress.server.tls import Tls
from fortress.server.wire import Dispatching

READ_BUFFER_BYTES: Final = 64 * 1024
FILES_BESIDE_CONNECTIONS: Final = 128
SWEEP_S: Final = 1.0
KILL_S_MAX: Final = 2.0

logger = logging.getLogger(__name__)


class Server:
    """All connections of one node.

    Make it, make the dispatcher with its handlers, `start`, and `drain` at the end; then it is used up.

    Args:
        settings: of the folder.
        tls: server side; handshakes use what is loaded in it at that time.
        noise_private: static key of the sealed channel.
        identity_payload: what proves that key to clients; replace `identity_payload` when the certificate is renewed.
        desk: of the logins.
        statistics: counted into.
        sweep_s: how often sessions are checked for what lasts too long.

    Attributes:
        buffer: the read buffer that all sessions share.
        loop_lag_s: how late the last sweep came.
        on_gone: called with each session whose connection is gone.
    """

    dispatcher: Dispatching
    _listener: Listener

    def __init__(
        self,
        settings: Settings,
        *,
        tls: ssl.SSLContext,
        noise_private: bytes,
        identity_payload: bytes,
        desk: LoginDesk,
        statistics: Statistics,
        sweep_s: float = SWEEP_S,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self.buffer = memoryview(bytearray(READ_BUFFER_BYTES))
        self.desk = desk
        self.statistics = statistics
        self.identity_payload = identity_payload
        self.loop_lag_s = 0.0
        self.on_gone: list[Callable[[Session], None]] = []
        self._bank = settings.node.bank
        self._tls = tls
        tls.num_tickets = 0  # a sixth of the handshake, for resuming, which no client does: sessions have tokens
        self._noise_private = noise_private
        self._sweep_s = sweep_s
        self._per_network: dict[str, int] = {}
        self._arriving: set[Tls] = set()  # in the middle of the handshake
        self._sessions: set[Session] = set()
        self._by_customer: dict[int, set[Session]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._marked: list[Session] = []
        self._is_flush_due = False
        self._gone = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._is_draining = False
        self.apply(settings)

    def apply(self, settings: Settings) -> None:
        """Take over settings that a running node may change."""
        self._settings = settings.server
        self.idle_s: float = settings.server.idle_s
        self.handshake_s: float = settings.server.handshake_s
        self.outstanding_max = settings.server.outstanding_max
        self.send_buffer_bytes_max = settings.server.send_buffer_bytes_max
        self.push_rows_max = settings.server.push_rows_max
        self.request_log = RequestLog(settings.log)
        self._paths = {network_of(part.strip()) for part in settings.server.paths.split(",")} - {NO_NETWORK}
        self._connections_max = min(settings.server.connections_max, _files_allowed(settings.server.connections_max))

    # --- listening --------------------------------------------------------------------------------------------------

    async def start(self, dispatcher: Dispatching) -> None:
        """Listen and accept from now on.

        Raises:
            AddressInUse: something else listens there.
            SettingInvalid: this machine has no such address, or may not listen on this port.
        """
        self.dispatcher = dispatcher
        self._listener = await listen(self._settings.host, self._settings.port, self._admit)
        self._timer = self._loop.call_later(self._sweep_s, self._sweep, self.now() + self._sweep_s)
        log_event(logger, logging.INFO, "listening", host=self._settings.host, port=self.port)

    @property
    def port(self) -> int:
        """The port that is listened on, also when any free one was asked for."""
        return self._listener.port

    def _admit(self, connection: socket.socket, address: str) -> None:
        network = network_of(address) if ":" in address else address
        if network in self._paths:
            network = NO_NETWORK  # many people share it, and one of them must not use it up for all
        refusal = self._refusal(network)
        if refusal:
            count_in(self.statistics.connections_refused, refusal)
            connection.close()
            return
        self._per_network[network] = self._per_network.get(network, 0) + 1
        self.statistics.connections += 1
        self.statistics.connections_total += 1
        self._keep(self._loop.create_task(self._open(connection, address, network)))

    def _refusal(self, network: str) -> str:
        if self.statistics.connections >= self._connections_max:
            return "connections_max"
        if network and self._per_network.get(network, 0) >= self._settings.connections_per_address_max:
            return "connections_per_address_max"
        return ""

    async def _open(self, connection: socket.socket, address: str, network: str) -> None:
        """Let TLS make its handshake; the session goes on by itself."""
        session = Session(self, address=address, network=network, now_us=time.time_ns() // 1000)

        def settled(tls: Tls, reason: str) -> None:
            self._arriving.discard(tls)
            if reason:
                count_in(self.statistics.connections_refused, "tls")
                log_event(logger, logging.DEBUG, "tls failed", address=address, reason=reason)
                self._release(network)

        tls = Tls(self._tls, session, handshake_s=self.handshake_s, on_settled=settled)
        self._arriving.add(tls)
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(lambda: tls, connection)
        except OSError as error:
            connection.close()
            tls.connection_lost(error)

    # --- sessions ---------------------------------------------------------------------------------------------------

    def open_core(self) -> ServerConnection:
        """Make the protocol core of a new connection."""
        return ServerConnection(
            *(self._noise_private, self.identity_payload),
            bank_id=self._bank,
            entropy=secrets.token_bytes(32),
            now=self.now(),
        )

    def welcome(self, session: Session) -> None:
        """Keep a session whose TLS stands."""
        self._sessions.add(session)
        if self._is_draining:
            session.finish()

    def forget(self, session: Session) -> None:
        """Let go of a session whose connection is gone."""
        self._sessions.discard(session)
        self._release(session.network)
        mine = self._by_customer.get(session.customer)
        if mine is not None:
            mine.discard(session)
            if not mine:
                del self._by_customer[session.customer]
        for notice in self.on_gone:
            notice(session)
        if not self._sessions:
            self._gone.set()

    def signed_in(self, session: Session) -> None:
        """List a session under its customer."""
        self._by_customer.setdefault(session.customer, set()).add(session)

    def sessions_of(self, customer: int) -> tuple[Session, ...]:
        """Give a customer's sessions that are connected here and not about to end."""
        return tuple(each for each in self._by_customer.get(customer, ()) if not each.is_draining)

    def end_sessions(self, customer: int, session_id: bytes = b"", *, besides: bytes = b"") -> None:
        """End a customer's sessions: all of them, those with an id, or all besides those with an id.

        What they asked before is still answered.
        """
        for session in self.sessions_of(customer):
            if session.session_id != besides and session_id in (b"", session.session_id):
                session.finish()

    def end_signed_in(self) -> None:
        """End the sessions of everybody who is signed in; what they asked before is still answered."""
        for customer in tuple(self._by_customer):
            self.end_sessions(customer)

    def mark(self, session: Session) -> None:
        """Flush this session with the next `flush`, at the latest in the next turn of the loop."""
        self._marked.append(session)
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what sessions have queued outside their read passes; each one's in one frame."""
        self._is_flush_due = False
        marked, self._marked = self._marked, []
        for session in marked:
            session.flush()

    def run_beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that no answer waits for; a fault in it is logged."""
        self._keep(self._loop.create_task(work))

    # --- the end ----------------------------------------------------------------------------------------------------

    async def drain(self, deadline_s: float) -> None:
        """Take no new connections and requests, answer what is under way, say goodbye; then end what is left.

        Args:
            deadline_s: how long that may take.
        """
        self._is_draining = True
        self._listener.close()
        log_event(logger, logging.INFO, "draining", connections=len(self._sessions))
        for session in tuple(self._sessions):
            session.finish()
        await self._wait_gone(deadline_s)
        for session in tuple(self._sessions):
            session.kill()
        for tls in tuple(self._arriving):
            tls.abort()
        for task in self._tasks:
            task.cancel()
        await self._wait_gone(KILL_S_MAX)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=KILL_S_MAX)
        if self._timer is not None:
            self._timer.cancel()

    async def _wait_gone(self, deadline_s: float) -> None:
        self._gone.clear()
        if self._sessions:
            try:
                await asyncio.wait_for(self._gone.wait(), deadline_s)
            except TimeoutError:
                log_event(logger, logging.WARNING, "connections left", connections=len(self._sessions))

    def snapshot(self) -> dict[str, object]:
        """Give all counters as they are now."""
        return {**self.statistics.snapshot(), "event_loop_lag_s": self.loop_lag_s}

    def _release(self, network: str) -> None:
        self.statistics.connections -= 1
        left = self._per_network[network] - 1
        if left:
            self._per_network[network] = left
        else:
            del self._per_network[network]

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            logger.error("task failed", exc_info=fault)

    def _sweep(self, due: float) -> None:
        now = self.now()
        self.loop_lag_s = max(now - due, 0.0)
        self.request_log.on_second()
        for session in tuple(self._sessions):
            session.on_time(now)
        self._timer = self._loop.call_later(self._sweep_s, self._sweep, now + self._sweep_s)


def _files_allowed(wanted: int) -> int:
    """Raise the limit on open files as far as needed and allowed; give how many connections that is enough for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + FILES_BESIDE_CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < needed:
            log_event(logger, logging.WARNING, "few files allowed", files=soft, connections_max=wanted)
            return max(soft - FILES_BESIDE_CONNECTIONS, 1)
    return wanted
