"""One client's session: who is signed in, what they may ask, their answers counted, their pushes bounded."""

from __future__ import annotations

from time import perf_counter_ns
from typing import Final

from msgspec import structs

from fortress.errors import OK, FortressError, LedgerError, Refused, refusal_code
from fortress.protocol.connection import State
from fortress.protocol.fields import Answer
from fortress.protocol.frames import MESSAGE_SIZE_BYTES_MAX
from fortress.protocol.messages import encode_error, encode_message, encode_push
from fortress.server.login import Login, LoginRecord
from fortress.server.wire import Host, Wire

PUSHES_PER_FRAME: Final = 128


class Session(Wire):
    """One client's connection.

    Args:
        host: the server.
        address: the peer's, without port.
        network: what limits count it under.
        now_us: wall clock, microseconds since 1970.

    Attributes:
        customer: who is signed in; 0 before the login.
        username: likewise; empty before.
        roles: likewise.
        agent: what the client calls itself.
        since_us: when the connection was made.
        login: the moves of a login under way.
    """

    __slots__ = ("agent", "customer", "login", "roles", "since_us", "username")

    def __init__(self, host: Host, *, address: str, network: str, now_us: int) -> None:
        super().__init__(host, address=address, network=network)
        self.since_us = now_us
        self.agent = ""
        self.customer = 0
        self.username = ""
        self.roles: frozenset[str] = frozenset()
        self.login = Login(host.desk)

    @property
    def outstanding_max(self) -> int:
        """How many requests may wait at once."""
        return self._host.outstanding_max

    def queue(self, data: bytes, request_id: int = 0, code: int = OK) -> None:
        """Queue an encoded answer and count it; with request id 0 it answers nothing, such as a push.

        It leaves with the next flush, which needs not be asked for.
        """
        self._out.append(data)
        if not self._is_marked:
            self._is_marked = True
            self._host.mark(self)
        entry = self.waiting.pop(request_id, None)
        if entry is not None:
            row, begun_ns = entry
            duration_ns = perf_counter_ns() - begun_ns
            row.counter.record(code, duration_ns)
            log = self._host.request_log
            if log.logs_done or code != OK:
                log.note(row.counter.name, self.session_id, request_id, code, duration_ns)

    def answer(self, request_id: int, fields: Answer) -> None:
        """Answer a request; a standby says how old the answer may be."""
        gate = self._gate
        if gate.is_standby and hasattr(fields, "stale_ms"):
            fields = structs.replace(fields, stale_ms=gate.stale_ms)
        data = encode_message((request_id, OK, fields))
        if len(data) > MESSAGE_SIZE_BYTES_MAX:
            self.refuse(request_id, LedgerError("the answer is larger than a message may be; ask for less at once"))
        else:
            self.queue(data, request_id)

    def refuse(self, request_id: int, error: FortressError, code: int = 0) -> None:
        """Answer a request with a refusal or an error; the code is the error's own unless given."""
        if not code:
            code = refusal_code(error.status) if isinstance(error, Refused) else error.code
        self.queue(encode_error(request_id, error, code), request_id, code)

    def refuse_uncounted(self, request_id: int, error: FortressError) -> None:
        """Refuse a request that was never taken; one under way with the same id is not touched."""
        self.queue(encode_error(request_id, error))

    def push(self, topic: str, fields: Answer) -> bool:
        """Queue a push; False when the peer is too far behind, and then nothing was queued."""
        if len(self._out) >= PUSHES_PER_FRAME:
            self.flush()
        if self._blocked_s:
            self._pushes_blocked += 1
        if self._pushes_blocked > self._host.push_rows_max or not self.is_open:
            return False
        self.queue(encode_push(topic, fields))
        return True

    def say_hello(self, version: int, agent: str) -> None:
        """Take it that the peer has said hello."""
        self.version = version
        self.agent = agent
        self.rows = {} if self.is_draining else self._host.dispatcher.rows_before_login

    def sign_in(self, record: LoginRecord, session_id: bytes) -> None:
        """Take it that this session is that customer's from now on."""
        self.customer = record.customer
        self.username = record.username
        self.session_id = session_id
        self.set_roles(frozenset(record.roles))
        if self._connection.state is State.login:
            self._connection.login_done()
        self._host.signed_in(self)

    def set_roles(self, roles: frozenset[str]) -> None:
        """Change what may be asked here from the next request on."""
        self.roles = roles
        self.rows = {} if self.is_draining else self._host.dispatcher.rows_for(roles)
