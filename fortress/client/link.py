"""One connection to one node: requests out, answers back, over the sealed channel inside TLS 1.3.

The connection is a `BufferedProtocol`, which under uvloop costs a quarter of what a plain `Protocol` does. All
requests made in one turn of the event loop leave in one frame, one TLS record and one system call, and one timer
serves all deadlines: it is set to the earliest one, and looks through what is outstanding only when it rings.

A node that says nothing at all while something is outstanding is asked for a sign of life; if that does not come
either, the connection is over. So a stopped machine or a cut cable costs seconds, and a request that takes long is not
taken for silence.

There are two faces. `request` awaits an answer and raises errors. `submit` calls back with the code and the undecoded
fields, for programs that make load and must not spend their time on futures.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

import msgspec

from fortress.client.address import Endpoint, format_endpoint
from fortress.client.trust import Trust
from fortress.errors import (
    OK,
    Busy,
    DeadlinePassed,
    FortressError,
    HandshakeFailed,
    NoPrimary,
    NotPrimary,
    OutcomeUnknown,
    ServerNotTrusted,
    UnknownOperation,
    Unreachable,
    error_from_wire,
)
from fortress.protocol.administration import StatusRequest
from fortress.protocol.connection import ClientConnection, State
from fortress.protocol.fields import PROTOCOL_VERSION, Refusal, Request
from fortress.protocol.messages import OPERATIONS, decode_answer_envelope, decode_fields, encode_request
from fortress.protocol.routes import Notice
from fortress.protocol.sessions import Hello, HelloAnswer

OUTSTANDING_MAX: Final = 1024
READ_BUFFER_BYTES: Final = 128 * 1024
WRITE_BUFFER_BYTES_MAX: Final = 4 * 1024 * 1024
CLOSE_S_MAX: Final = 2.0
SILENCE_S: Final = 2.0
"""Nothing came for so long while something was outstanding: the node is gone. It is asked at two thirds of it."""
NEVER: Final = float("inf")

OnAnswer = Callable[[int, msgspec.Raw], object]
"""Takes the code (0: done) and the fields as msgpack: of the answer, or of a `Refusal` when the code is not 0."""
OnPush = Callable[[str, msgspec.Raw], object]


_of_thread = threading.local()


def _read_buffer() -> memoryview:
    """Give the buffer that all links of this thread share: `buffer_updated` consumes it before it returns.

    So a program that holds many sessions, such as the pages, does not pay 128 KiB for each of them.
    """
    buffer: memoryview | None = getattr(_of_thread, "buffer", None)
    if buffer is None:
        buffer = _of_thread.buffer = memoryview(bytearray(READ_BUFFER_BYTES))
    return buffer


def _local_answer(error: FortressError) -> tuple[int, msgspec.Raw]:
    refusal = Refusal(error.message, error.facts, error.retry)
    return error.code, msgspec.Raw(msgspec.msgpack.encode(refusal))


_LOST = _local_answer(OutcomeUnknown())
_LATE = _local_answer(DeadlinePassed())


class LinkFull(Busy):
    """Too much waits on this connection already; the node has said nothing of the kind."""


class Link(asyncio.BufferedProtocol):
    """One connection; made by :func:`open_link`.

    Attributes:
        endpoint: the node's address.
        hello: what the node said about itself.
        hello_at: when it said so, on the loop's clock.
        is_over: whether it has ended, so that nothing can come any more.
        is_silent: whether it ended because nothing came any more.
    """

    def __init__(self, endpoint: Endpoint, bank: str, trust: Trust, flags: str = "") -> None:
        self.endpoint = endpoint
        self.hello: HelloAnswer | None = None
        self.hello_at = 0.0
        self.on_push: OnPush | None = None
        self.on_lost: Callable[[], object] | None = None
        self._loop = asyncio.get_running_loop()
        self._connection = ClientConnection(
            bank_id=bank,
            entropy=os.urandom(32),
            verify=lambda payload, static: trust.verify(bank, payload, static),
            now=self._loop.time(),
            flags=flags,
        )
        self._send_message = self._connection.send_message
        self._transport: asyncio.Transport | None = None
        self._buffer = _read_buffer()
        self._waiting: dict[int, tuple[OnAnswer, float]] = {}
        self._room = asyncio.Semaphore(OUTSTANDING_MAX)
        self._last_id = 0
        self._is_flush_due = False
        # one look on the way of every request says both "not connected" and "the other side reads too slowly"
        self._is_blocked = True
        self._is_retiring = False
        self.is_over = False
        self.is_silent = False
        self._silence = _Silence(self)
        self._fault: FortressError | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = NEVER
        self._lost: asyncio.Future[None] = self._loop.create_future()

    @property
    def is_usable(self) -> bool:
        """Whether new requests can be made."""
        return self._transport is not None and self._fault is None and not self._is_retiring

    @property
    def outstanding(self) -> int:
        """How many requests wait for their answers."""
        return len(self._waiting)

    @property
    def fault(self) -> FortressError | None:
        """Why the connection ended, if it was not in order."""
        return self._fault

    @property
    def handshake_hash(self) -> bytes:
        """The 32 bytes that name this channel; login proofs are bound to them."""
        return self._connection.handshake_hash

    # --- requests -----------------------------------------------------------------------------------------------

    def submit(self, operation: str, fields: Request, on_answer: OnAnswer, deadline: float = NEVER) -> None:
        """Send a request in this turn of the loop, and call back when it is answered, lost or late.

        A lost connection calls back with the code of `OutcomeUnknown`, a deadline with that of `DeadlinePassed`; each
        request is called back once. The callback must not raise.

        Args:
            deadline: on the loop's clock.

        Raises:
            Busy: too many requests are outstanding, or too many bytes wait to be sent; nothing was sent.
            Unreachable: the connection has ended; nothing was sent.
            MessageTooLarge: the request is larger than a bank takes; nothing was sent.
        """
        waiting = self._waiting
        if self._is_blocked or len(waiting) >= OUTSTANDING_MAX:
            raise self._obstacle()
        request_id = self._last_id = self._last_id + 1
        self._send_message(encode_request(request_id, operation, fields))
        waiting[request_id] = (on_answer, deadline)
        if deadline < self._alarm_at:
            self._set_alarm(deadline)
        if self._silence.timer is None:
            self._silence.watch()
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    async def request(self, operation: str, fields: Request, timeout_s: float) -> Any:
        """Send a request and give its answer, decoded as the operation's type.

        Cancelling it leaves the request running at the bank.

        Raises:
            FortressError: what the bank answered; ``Refused`` for a refusal by its rules.
            DeadlinePassed: no answer came in time.
            OutcomeUnknown: the connection ended before the answer.
            Unreachable: the connection had ended before; nothing was sent.
        """
        deadline = self._loop.time() + timeout_s
        await self._wait_room(deadline)
        future: asyncio.Future[tuple[int, msgspec.Raw]] = self._loop.create_future()

        def on_answer(code: int, raw: msgspec.Raw) -> None:
            self._room.release()
            if not future.done():
                future.set_result((code, raw))

        try:
            self.submit(operation, fields, on_answer, deadline)
        except FortressError:
            self._room.release()
            raise
        code, raw = await future
        if code != OK:
            refusal = decode_fields(Refusal, raw)
            raise error_from_wire(code, refusal.message, refusal.facts)
        row = OPERATIONS.get(operation)
        if row is None:
            raise UnknownOperation(f"this client cannot read the answer to {operation!r}")
        return decode_fields(row.answer, raw)

    def _obstacle(self) -> FortressError:
        if self._fault is not None or self._transport is None:
            return Unreachable(f"the connection to {format_endpoint(self.endpoint)} has ended")
        return LinkFull(f"{len(self._waiting)} requests wait on this connection already")

    async def _wait_room(self, deadline: float) -> None:
        if not self._room.locked():
            await self._room.acquire()
            return
        try:
            async with asyncio.timeout_at(deadline):
                await self._room.acquire()
        except TimeoutError as exc:
            raise LinkFull("too many requests wait on this connection") from exc

    def login_done(self) -> None:
        """Say that the bank has accepted a login here: larger messages are allowed from now on."""
        if self._connection.state is State.login:
            self._connection.login_done()

    # --- the end ------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Take no new requests, and close as soon as none is outstanding."""
        self._is_retiring = True
        if not self._waiting:
            self._close()

    def abort(self, fault: FortressError | None = None) -> None:
        """End at once; what is outstanding is called back as lost."""
        self._fault = self._fault or fault or OutcomeUnknown()
        self._is_blocked = True
        if self._transport is not None:
            self._transport.abort()
        self._call_all_back()

    async def close(self) -> None:
        """End in order and wait for it, a bounded time; what is outstanding is called back as lost."""
        self._close()
        self._call_all_back()
        await asyncio.wait([self._lost], timeout=CLOSE_S_MAX)
        if not self._lost.done() and self._transport is not None:
            self._transport.abort()
            await asyncio.wait([self._lost], timeout=CLOSE_S_MAX)

    def _close(self) -> None:
        self._fault = self._fault or Unreachable("the connection was closed")
        self._is_blocked = True
        if self._transport is None or self._transport.is_closing():
            return
        self._connection.close()
        self._transport.write(self._connection.data_to_send())
        self._transport.close()

    def _call_all_back(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for on_answer, _ in waiting.values():
            on_answer(*_LOST)

    # --- asyncio.BufferedProtocol -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio's class and not its name
        self._transport = stream = cast(asyncio.Transport, transport)
        stream.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)
        self._is_blocked = False
        self._flush()
        self._set_alarm(self._connection.next_deadline() or NEVER)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        connection = self._connection
        # requests made by the callbacks below leave together at the end, without another turn of the loop
        self._is_flush_due = True
        self._silence.is_heard = True
        try:
            connection.receive_data(self._buffer[:nbytes])
        except FortressError as error:
            self._take_messages()
            self.abort(error)
            return
        self._take_messages()
        self._flush()
        if connection.peer_closed or (self._is_retiring and not self._waiting):
            self._close()

    def _take_messages(self) -> None:
        waiting = self._waiting
        for message in self._connection.messages_received():
            try:
                envelope = decode_answer_envelope(message)
            except FortressError as error:
                self.abort(error)
                return
            code = envelope.code
            if isinstance(code, str):
                if self.on_push is not None:
                    self.on_push(code, envelope.fields)
                continue
            waiter = waiting.pop(envelope.request_id, None)
            if waiter is not None:  # a late answer finds nobody
                waiter[0](code, envelope.fields)

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            self._connection.receive_eof()
        except FortressError as error:
            self._fault = self._fault or error
        self._fault = self._fault or OutcomeUnknown()
        self._fault.__cause__ = self._fault.__cause__ or exc
        self._transport = None
        self._is_blocked = True
        for timer in (self._alarm, self._silence.timer):
            if timer is not None:
                timer.cancel()
        self.is_over = True
        self._call_all_back()
        if not self._lost.done():
            self._lost.set_result(None)
        if self.on_lost is not None:
            self.on_lost()

    def pause_writing(self) -> None:
        self._is_blocked = True

    def resume_writing(self) -> None:
        self._is_blocked = self._fault is not None

    def _flush(self) -> None:
        self._is_flush_due = False
        data = self._connection.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)

    # --- deadlines ----------------------------------------------------------------------------------------------

    def _set_alarm(self, at: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._alarm_at = at
        if at != NEVER:
            self._alarm = self._loop.call_at(at, self._on_alarm)

    def _on_alarm(self) -> None:
        self._alarm, self._alarm_at = None, NEVER
        now = self._loop.time()
        try:
            self._connection.on_deadline(now)
        except FortressError as error:
            self.abort(error)
            return
        late = [request_id for request_id, (_, deadline) in self._waiting.items() if deadline <= now]
        for on_answer, _ in [self._waiting.pop(request_id) for request_id in late]:
            on_answer(*_LATE)
        if self._is_retiring and not self._waiting:
            self._close()
        login_deadline = self._connection.next_deadline() or NEVER
        self._set_alarm(min((deadline for _, deadline in self._waiting.values()), default=NEVER))
        if login_deadline < self._alarm_at:
            self._set_alarm(login_deadline)


class _Silence:
    """Watches a connection on which something is outstanding, and gives it up when nothing comes any more.

    It looks three times in the silence allowed, so the hot paths only set a flag.
    """

    __slots__ = ("_is_asked", "_link", "is_heard", "timer")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._is_asked = False
        self.is_heard = False
        self.timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Begin; it ends by itself once nothing is outstanding."""
        self.is_heard = True
        self._look_later()

    def _look_later(self) -> None:
        self.timer = asyncio.get_running_loop().call_later(SILENCE_S / 3, self._look)

    def _look(self) -> None:
        self.timer = None
        link = self._link
        if not link.outstanding or link.fault is not None:
            return
        if self.is_heard or link.hello is None:  # opening has a time limit of its own
            self.is_heard = self._is_asked = False
        elif not self._is_asked:
            self._is_asked = True
            with suppress(Busy):  # then so much is under way that any of it would be a sign
                link.submit("status", StatusRequest(), _ignore)
        else:
            link.is_silent = True
            link.abort(OutcomeUnknown(f"{format_endpoint(link.endpoint)} has fallen silent"))
            return
        self._look_later()


def _ignore(code: int, raw: msgspec.Raw) -> None:
    """Take an answer that matters only by having come."""


async def open_link(
    endpoint: Endpoint, bank: str, trust: Trust, *, agent: str = "", timeout_s: float = 5.0, flags: str = ""
) -> Link:
    """Connect to a node and say hello; the node has proven to belong to the bank when this returns.

    Args:
        flags: for whoever hands the connection on to the bank; see :class:`fortress.protocol.routes.Route`.

    Raises:
        Unreachable: nobody answers there, or not in time.
        NoPrimary: a gateway answers there and waited for the bank in vain.
        NotPrimary: a gateway's standby answers there.
        Busy: a gateway answers there, and hands on as many connections as it may.
        ServerNotTrusted: who answers is not the bank.
        HandshakeFailed: the sealed channel could not be made, such as for a bank that nobody knows there.
        VersionUnsupported: the node speaks no version that this client speaks, as the node itself says.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    link = Link(endpoint, bank, trust, flags)
    where = format_endpoint(endpoint)
    try:
        async with asyncio.timeout_at(deadline):
            await loop.create_connection(lambda: link, endpoint[0], endpoint[1], ssl=trust.tls)
        hello = Hello(versions=[PROTOCOL_VERSION], agent=agent)
        link.hello = await link.request("hello", hello, max(deadline - loop.time(), 0.0))
    except ssl.SSLCertVerificationError as exc:
        raise ServerNotTrusted(f"the certificate of {where} is not trusted: {exc.verify_message}") from exc
    except ssl.SSLError as exc:
        raise Unreachable(f"{where} does not speak TLS 1.3 as a bank does: {exc.reason}", {"endpoint": where}) from exc
    except (TimeoutError, OSError) as exc:
        raise Unreachable(f"{where} does not answer", {"endpoint": where}) from exc
    except (OutcomeUnknown, DeadlinePassed) as exc:
        raise _why_not(link, bank, where) from exc
    finally:
        if link.hello is None:
            link.abort()
    link.hello_at = loop.time()
    return link


def _why_not(link: Link, bank: str, where: str) -> FortressError:
    """What a client should hear when the handshake did not end: distrust and disagreement are no bad luck."""
    if link._connection.is_waiting:  # somebody on the way waits for the bank
        return Notice.waiting.error(bank)
    if isinstance(link.fault, ServerNotTrusted | HandshakeFailed | NoPrimary | NotPrimary | Busy):
        return link.fault
    return Unreachable(f"{where} does not answer", {"endpoint": where})
