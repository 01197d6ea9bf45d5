"""Which operation is answered by which function, and the way of every request from bytes to it.

A *hot* handler is called in the read pass and answers by itself, at once or later from elsewhere. A *plain* one is a
coroutine that gives its answer; it runs as a task of its own. Whichever way, an error it raises becomes the answer, and
a fault in one request neither ends the session nor shows its inside to the peer.

What a session may ask is a table of its own, made once per set of roles, so a request costs one look-up: what is not in
the table is refused, and only then it is worked out why.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns
from typing import Any, Final

import msgspec

from fortress.errors import (
    Busy,
    FortressError,
    LedgerError,
    LocalProtocolError,
    MessageInvalid,
    NotAllowed,
    NotSignedIn,
    ShuttingDown,
    UnknownOperation,
)
from fortress.protocol.fields import Answer
from fortress.protocol.messages import OPERATIONS, Envelope, decode_envelope, decode_request
from fortress.server.gate import Gate
from fortress.server.node import Node
from fortress.server.session import Session
from fortress.server.statistics import OTHER_OPERATION, Statistics
from fortress.server.wire import Row, Rows

HotFunction = Callable[..., Any]
"""``handle(node, session, request_id, request)``; answers through the session."""
PlainFunction = Callable[..., Coroutine[Any, Any, Answer]]
"""``await handle(node, session, request)`` gives the answer."""

SESSION_OPERATIONS: Final = frozenset(
    "hello login_begin login_finish resume register renew logout whoami sessions end_session change_key_begin "
    "change_key status subscribe unsubscribe".split()
)
"""What concerns the session or the node itself and is no task done for a customer."""
ONLY_BEFORE_LOGIN: Final = frozenset({"login_begin", "login_finish", "resume", "register"})

_decode_outer = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw, msgspec.Raw]).decode

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Handler:
    """One row of the table, made by `hot` or `plain`; one of the functions is there."""

    operation: str
    hot: HotFunction | None = None
    plain: PlainFunction | None = None


def hot(operation: str, function: HotFunction) -> Handler:
    """Name the function that answers an operation within the read pass or through the committer."""
    return Handler(operation, hot=function)


def plain(operation: str, function: PlainFunction) -> Handler:
    """Name the coroutine function that gives the answer of an operation."""
    return Handler(operation, plain=function)


class Dispatcher:
    """Bring each message to its handler.

    Args:
        node: passed to every handler.
        handlers: exactly one for each operation of the protocol.

    Raises:
        LocalProtocolError: an operation has no handler, or two, or a handler's operation does not exist.
    """

    def __init__(self, node: Node, handlers: Iterable[Handler]) -> None:
        self._node = node
        self.ports = node.ports
        self.gate = Gate(self.dispatch)
        self._tasks: set[asyncio.Task[None]] = set()
        self._rows = {name: self._row(handler, node.statistics) for name, handler in _checked(handlers).items()}
        self._rows_by_roles: dict[frozenset[str], Rows] = {}
        self.rows_before_hello: Rows = {"hello": self._rows["hello"]}
        self.rows_before_login: Rows = {
            name: row for name, row in self._rows.items() if name != "hello" and not OPERATIONS[name].roles
        }

    def rows_for(self, roles: frozenset[str]) -> Rows:
        """Give what a signed-in session with these roles may ask."""
        rows = self._rows_by_roles.get(roles)
        if rows is None:
            anybody = {name: row for name, row in self.rows_before_login.items() if name not in ONLY_BEFORE_LOGIN}
            allowed = {name: row for name, row in self._rows.items() if not roles.isdisjoint(OPERATIONS[name].roles)}
            rows = self._rows_by_roles[roles] = anybody | allowed
        return rows

    def dispatch(self, session: Session, message: bytes) -> None:
        """Decode one request and hand it to its handler; whatever is wrong with it is answered."""
        try:
            envelope = decode_envelope(message)
        except MessageInvalid as error:
            self._refuse_unreadable(session, message, error)
            return
        request_id = envelope.request_id
        row = session.rows.get(envelope.operation)
        waiting = session.waiting
        if row is None or (waiting and (request_id in waiting or len(waiting) >= session.outstanding_max)):
            self._refuse_early(session, envelope, row)
            return
        now_ns = perf_counter_ns()
        waiting[request_id] = (row, now_ns)
        try:
            request = decode_request(envelope)
            if now_ns > self.gate.open_until_ns and not self.gate.passes(session, envelope.operation, request, message):
                del waiting[request_id]
                return
            row.handle(session, request_id, request)
        except FortressError as error:
            session.refuse(request_id, error)
        except Exception:
            _refuse_after_fault(session, request_id)

    def start(self, function: PlainFunction, session: Session, request_id: int, request: Any) -> None:
        """Go on with a request in a task; also for a hot handler that finds it has to wait."""
        task = asyncio.get_running_loop().create_task(self._run(function, session, request_id, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait_idle(self) -> None:
        """Wait until no task is left."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def cancel_all(self) -> None:
        """Give up what is still running; nobody is there to be answered."""
        for task in self._tasks:
            task.cancel()

    def _row(self, handler: Handler, statistics: Statistics) -> Row:
        name = handler.operation
        counter = statistics.counter(name, is_task=name not in SESSION_OPERATIONS)
        if handler.hot is not None:
            return Row(counter, partial(handler.hot, self._node))
        if handler.plain is None:
            raise LocalProtocolError(f"the handler of {name!r} has no function")
        return Row(counter, partial(self.start, handler.plain))

    async def _run(self, function: PlainFunction, session: Session, request_id: int, request: Any) -> None:
        try:
            session.answer(request_id, await function(self._node, session, request))
        except FortressError as error:
            session.refuse(request_id, error)
        except Exception:
            _refuse_after_fault(session, request_id)
        session.flush()

    def _refuse_early(self, session: Session, envelope: Envelope, row: Row | None) -> None:
        error: FortressError
        if row is None:
            error = _why_not(session, envelope.operation)
        elif envelope.request_id in session.waiting:
            error = MessageInvalid(f"request id {envelope.request_id} is under way already", {"field": "request_id"})
        else:
            error = Busy("too many requests of this connection wait", {"outstanding_max": session.outstanding_max})
        is_known = envelope.operation in OPERATIONS
        self._node.statistics.counter(envelope.operation if is_known else OTHER_OPERATION).count(error.code)
        session.refuse_uncounted(envelope.request_id, error)

    def _refuse_unreadable(self, session: Session, message: bytes, error: MessageInvalid) -> None:
        self._node.statistics.counter(OTHER_OPERATION).count(error.code)
        try:
            request_id = _decode_outer(message)[0]
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            request_id = 0
        if 0 < request_id < 2**63:
            session.refuse_uncounted(request_id, error)
        else:
            session.end(error, "message_invalid")


def _checked(handlers: Iterable[Handler]) -> Mapping[str, Handler]:
    table: dict[str, Handler] = {}
    for handler in handlers:
        if handler.operation in table or handler.operation not in OPERATIONS:
            raise LocalProtocolError(f"the handler of {handler.operation!r} is there twice or has no such operation")
        table[handler.operation] = handler
    missing = sorted(OPERATIONS.keys() - table.keys())
    if missing:
        raise LocalProtocolError(f"no handler answers {', '.join(missing)}")
    return table


def _why_not(session: Session, operation: str) -> FortressError:
    row = OPERATIONS.get(operation)
    if row is None:
        return UnknownOperation(f"unknown operation {operation!r}")
    if session.is_draining:
        return ShuttingDown()
    if not session.version:
        return MessageInvalid("the first message says hello", {"field": "operation"})
    if not row.roles:
        return MessageInvalid(f"{operation} is not possible at this point of a session", {"field": "operation"})
    if not session.customer:
        return NotSignedIn()
    return NotAllowed(f"{operation} is not allowed to your roles", {"roles": ", ".join(row.roles)})


def _refuse_after_fault(session: Session, request_id: int) -> None:
    fields = {"request": request_id, "session": session.session_id[:4].hex()}
    logger.exception("request failed", extra={"fields": fields})
    session.refuse(request_id, LedgerError("the server failed on this request; its log says why"))
