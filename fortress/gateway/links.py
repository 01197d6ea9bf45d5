"""One link between a bank and its gateway, the same on both sides: messages in batches, questions, signs of life.

All messages of one turn of the loop leave in one write. A question (`Ask`) has a number and a deadline; its answer
comes back by that number, whatever was said meanwhile. The side that dialed pings, the other one gives the ping back;
either ends a link on which nothing was heard for `SILENCE_S`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec

from fortress.errors import (
    BankRejected,
    BankUnreachable,
    Busy,
    DeadlinePassed,
    Facts,
    FortressError,
    GatewayUnreachable,
    LedgerError,
    MessageInvalid,
    Refused,
    error_from_wire,
    refusal_code,
)
from fortress.gateway.messages import MESSAGE_SIZE_BYTES_MAX, Answer, Ask, Message, Ping, decode, encode
from fortress.pair.link import Dialect, Wire, framed
from fortress.pair.witness_messages import split_address
from fortress.server.bank import now_us

PING_S: Final = 1.0
SILENCE_S: Final = 5.0
DIAL_S: Final = 5.0
SHUTDOWN_S: Final = 1.0
ASK_S: Final = 5.0
QUESTIONS_MAX: Final = 1_024
"""Questions of one side under way at a time; more are `Busy`."""
ANSWERS_MAX: Final = 256
"""Questions of the other side that are being answered at a time; more are answered `Busy`."""
FACTS_LENGTH_MAX: Final = 4_096

Fields = TypeVar("Fields")
Answerer = Callable[["Link", str, msgspec.Raw], Awaitable[object]]
"""``await answer(link, about, fields)`` gives what msgpack can hold, or raises FortressError."""

logger = logging.getLogger(__name__)


class Trouble(msgspec.Struct, frozen=True):
    """What an answer holds instead of fields when its code is not 0."""

    message: str
    facts: dict[str, int | str | bool | None] = {}


GATEWAY: Final[Dialect[Message]] = Dialect(encode, decode, MESSAGE_SIZE_BYTES_MAX, BankRejected)
_encode = msgspec.msgpack.Encoder().encode
_decode_trouble = msgspec.msgpack.Decoder(Trouble).decode


class Link(Wire[Message]):
    """One side of a link; every callback is called on the loop and told which link.

    Args:
        is_dialer: whether this side dialed, that is, is the bank.
        check: looks at the other side's certificate, whose chain TLS has checked; raises BankRejected.
        on_open: called once the certificate was checked.
        on_message: called with each message but pings, questions and answers, in order; raises BankRejected to end it.
        on_lost: called once when the link has ended, with the reason if there is one.
        answer: answers the other side's questions, many at a time.
    """

    def __init__(
        self,
        *,
        is_dialer: bool,
        check: Callable[[Link, ssl.SSLObject], None],
        on_open: Callable[[Link], None],
        on_message: Callable[[Link, Message], None],
        on_lost: Callable[[Link, Exception | None], None],
        answer: Answerer,
    ) -> None:
        super().__init__(
            GATEWAY,
            check=lambda connection: check(self, connection),
            on_open=lambda: self._opened(on_open),
            on_message=self._said,
            on_lost=lambda reason: self._ended(on_lost, reason),
        )
        self._hand_on = on_message
        self._answer = answer
        self._is_dialer = is_dialer
        self._unreachable: type[FortressError] = GatewayUnreachable if is_dialer else BankUnreachable
        self._loop = asyncio.get_running_loop()
        self._unsent: list[bytes] = []
        self._questions: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._number = 0
        self._answering: set[asyncio.Task[None]] = set()
        self._heard_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def failure(self) -> Exception | None:
        """Why this side ended the link; None while it has not, or gave no reason."""
        return self._failure

    # --- What the owner calls ----
    def send(self, message: Message) -> None:
        """Send a message together with the others of this turn of the loop; on a link that has ended, do nothing."""
        if self._transport is None:
            return
        unsent = self._unsent
        if not unsent:
            self._loop.call_soon(self.flush)
        unsent.append(framed(encode(message)))

    def flush(self) -> None:
        """Send at once what was to go out with this turn of the loop."""
        if self._unsent:
            data, self._unsent = b"".join(self._unsent), []
            self.send_framed(data)

    def finish(self) -> None:
        """End the link once everything is sent."""
        self.flush()
        super().finish()

    async def ask(self, about: str, fields: object, type: type[Fields], *, deadline_s: float = ASK_S) -> Fields:
        """Ask the other side; ``fields`` is what msgpack can hold, the answer is read as ``type``.

        Raises:
            DeadlinePassed: no answer came in time; the link may be good all the same.
            GatewayUnreachable, BankUnreachable: the link has ended.
            Busy: too many questions are under way.
            BankRejected: the answer is not of that type.
            FortressError: what the other side answered instead.
        """
        if not self.is_open:
            raise self._unreachable()
        if len(self._questions) >= QUESTIONS_MAX:
            raise Busy("too many questions to the other side are under way")
        self._number += 1
        number = self._number
        future = self._questions[number] = self._loop.create_future()
        self.send(Ask(number, about, msgspec.Raw(_encode(fields))))
        try:
            async with asyncio.timeout(deadline_s):
                found = await future
        except TimeoutError:
            raise DeadlinePassed("no answer came from the other side in time", {"about": about}) from None
        finally:
            del self._questions[number]
        try:
            return msgspec.msgpack.decode(found, type=type)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
            raise BankRejected(f"the answer about {about!r} cannot be read: {exc}") from exc

    # --- What happens on the wire ----
    def _opened(self, on_open: Callable[[Link], None]) -> None:
        self._heard_s = self._loop.time()
        self._timer = self._loop.call_later(PING_S, self._beat)
        on_open(self)

    def _beat(self) -> None:
        silent_s = self._loop.time() - self._heard_s
        if silent_s > SILENCE_S:
            self.end(self._unreachable(f"nothing was heard for {silent_s:.1f} s"))
            return
        if self._is_dialer:
            self.send(Ping(now_us()))
        self._timer = self._loop.call_later(PING_S, self._beat)

    def buffer_updated(self, nbytes: int) -> None:
        """Whatever comes is a sign of life."""
        self._heard_s = self._loop.time()
        super().buffer_updated(nbytes)

    def _said(self, message: Message) -> None:
        kind = type(message)
        if kind is Ping:
            if not self._is_dialer:
                self.send(message)
        elif isinstance(message, Ask):
            self._asked(message)
        elif isinstance(message, Answer):
            self._answered(message)
        else:
            self._hand_on(self, message)

    def _ended(self, on_lost: Callable[[Link, Exception | None], None], reason: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._unsent = []
        for future in self._questions.values():
            if not future.done():
                future.set_exception(self._unreachable())
        for task in self._answering:
            task.cancel()
        on_lost(self, reason)

    # --- Questions ----
    def _asked(self, question: Ask) -> None:
        if len(self._answering) >= ANSWERS_MAX:
            self._refuse(question, Busy("too many questions of this link are being answered"))
            return
        # what was read lies in the buffer, which what comes next may overwrite
        task = self._loop.create_task(self._find_answer(question, msgspec.Raw(bytes(question.fields))))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _find_answer(self, question: Ask, fields: msgspec.Raw) -> None:
        try:
            found = msgspec.Raw(_encode(await self._answer(self, question.about, fields)))
            if len(found) > MESSAGE_SIZE_BYTES_MAX // 2:
                raise MessageInvalid("the answer is too large; ask for less")
        except FortressError as error:
            self._refuse(question, error)
        except Exception:
            logger.exception("a question of the other side failed", extra={"fields": {"about": question.about}})
            self._refuse(question, LedgerError("the other side failed on this question; its log says why"))
        else:
            self.send(Answer(question.number, 0, found))

    def _refuse(self, question: Ask, error: FortressError) -> None:
        code = refusal_code(error.status) if isinstance(error, Refused) else error.code
        facts: Facts = error.facts if len(_encode(error.facts)) <= FACTS_LENGTH_MAX else {}
        self.send(Answer(question.number, code, msgspec.Raw(_encode(Trouble(error.message, facts)))))

    def _answered(self, answer: Answer) -> None:
        future = self._questions.get(answer.number)
        if future is None or future.done():
            return  # its deadline has passed
        if answer.code == 0:
            future.set_result(msgspec.Raw(bytes(answer.fields)))
            return
        try:
            trouble = _decode_trouble(answer.fields)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
            raise BankRejected(f"an answer cannot be read: {exc}") from exc
        future.set_exception(error_from_wire(answer.code, trouble.message, trouble.facts))


async def dial(address: str, context: ssl.SSLContext, make: Callable[[], Link]) -> Link:
    """Connect to ``host:port`` and shake hands; the link's ``on_open`` was called when this returns.

    Raises:
        GatewayUnreachable: nobody listens there, or the handshake failed.
        BankRejected: the certificate there is not the gateway's; ``on_lost`` is told as well.
    """
    host, port = split_address(address)
    try:
        _, link = await asyncio.get_running_loop().create_connection(
            make,
            host,
            port,
            ssl=context,
            server_hostname=host,
            ssl_handshake_timeout=DIAL_S,
            ssl_shutdown_timeout=SHUTDOWN_S,
        )
    except (OSError, ssl.SSLError) as exc:
        raise GatewayUnreachable(f"{address} cannot be reached: {exc}", {"address": address}) from exc
    if isinstance(link.failure, BankRejected):
        raise BankRejected(link.failure.message)
    return link
