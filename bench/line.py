"""A line to a bank of several nodes: what is asked on it is asked until the bank says what became of it.

The link underneath is made again, at another node if need be, and the session goes on by its token. Whatever had no
answer, or was told that this node does not serve, is asked again as it was, with the same id, so a transfer is done
once. To whoever loads the bank it looks like one link on which nothing is ever lost and some answers take long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from fortress.client.address import Address
from fortress.client.attempts import AGAIN, UNDECIDED, Attempts
from fortress.client.link import Link, OnAnswer
from fortress.client.route import Route
from fortress.client.trust import Trust
from fortress.errors import OK, AuthenticationError, Busy, FortressError, Unreachable, error_from_wire
from fortress.protocol.fields import Refusal, Request
from fortress.protocol.messages import decode_fields
from fortress.protocol.sessions import Resume, SignedIn

TRY_S_MAX: Final = 10.0
OPEN_S: Final = 10.0
WAITING_MAX: Final = 4096
AGAIN_CODES: Final = frozenset(error.code for error in AGAIN)
UNDECIDED_CODES: Final = frozenset(error.code for error in UNDECIDED)


class Asked(msgspec.Struct, gc=False):
    """A request that has no definite answer yet; in doubt once a try of it ended without any."""

    operation: str
    fields: Request
    on_answer: OnAnswer
    is_doubtful: bool = False


class Line:
    """One client's way to the bank.

    Args:
        address: the bank and its nodes.
        trust: whom to believe.
        sign_in: begins a session on a new link; used again only when the token is refused.
        on_settled: called for each request of unknown outcome whose outcome was told in the end.
    """

    def __init__(
        self,
        address: Address,
        trust: Trust,
        sign_in: Callable[[Link], Awaitable[SignedIn]],
        on_settled: Callable[[], object],
    ) -> None:
        self._route = Route(address, trust, on_open=self._begin_session, agent="bench", timeout_s=OPEN_S)
        self._sign_in = sign_in
        self._on_settled = on_settled
        self._loop = asyncio.get_running_loop()
        self._token = ""
        self._attempts = Attempts("bench")
        self._waiting: deque[Asked] = deque()
        self._mending: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect and sign in, at whichever node serves.

        Raises:
            FortressError: none does, or the login is refused.
        """
        deadline = self._loop.time() + TRY_S_MAX
        while True:
            try:
                await self._route.link(deadline)
                return
            except AGAIN as error:
                wait_s = self._attempts.note(error, was_sent=False)
                if self._loop.time() + wait_s > deadline:
                    raise
            await asyncio.sleep(wait_s)

    def submit(self, operation: str, fields: Request, on_answer: OnAnswer) -> None:
        """Ask, and call back with the definite answer; it may take as long as the bank is away.

        Raises:
            Busy: so much waits already that this must wait itself.
        """
        if len(self._waiting) >= WAITING_MAX:
            raise Busy
        self._ask(Asked(operation, fields, on_answer))

    async def close(self) -> None:
        """End the connection; what has no answer by then never gets one."""
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.wait([self._mending])
        await self._route.close()

    def _ask(self, asked: Asked) -> None:
        if self._mending is not None:
            self._waiting.append(asked)
            return
        link = self._route.current
        try:
            if link is None:
                raise Unreachable
            timeout_s = self._attempts.try_s(TRY_S_MAX, has_choice=True)
            link.submit(
                asked.operation,
                asked.fields,
                lambda code, raw: self._answered(link, asked, code, raw),
                self._loop.time() + timeout_s,
            )
        except FortressError as error:
            self._put_back(asked, error)

    def _answered(self, link: Link, asked: Asked, code: int, raw: msgspec.Raw) -> None:
        if code not in AGAIN_CODES:
            if code == OK and self._mending is None:
                self._attempts = Attempts("bench")
            if asked.is_doubtful:
                self._on_settled()
            asked.on_answer(code, raw)
            return
        refusal: Refusal = decode_fields(Refusal, raw)
        error = error_from_wire(code, refusal.message, refusal.facts)
        asked.is_doubtful |= code in UNDECIDED_CODES
        self._put_back(asked, error, link)

    def _put_back(self, asked: Asked, error: FortressError, link: Link | None = None) -> None:
        """Let a request wait for a node that serves; the first one of an outage begins to look for it."""
        self._waiting.append(asked)
        if self._mending is not None:
            return
        wait_s = self._attempts.note(error, was_sent=True)
        if link is not None and self._attempts.is_worn:
            self._route.leave(link, error)
        self._mending = self._loop.create_task(self._mend(wait_s))

    async def _mend(self, wait_s: float) -> None:
        """Find a node that lets one in, and ask it all that waits; whether it serves, its answers say."""
        while True:
            await asyncio.sleep(wait_s)
            try:
                await self._route.link()
                break
            except FortressError as error:
                wait_s = self._attempts.note(error, was_sent=False)
        self._mending = None
        waiting, self._waiting = self._waiting, deque()
        for asked in waiting:
            self._ask(asked)

    async def _begin_session(self, link: Link) -> None:
        if self._token:
            try:
                signed_in: SignedIn = await link.request("resume", Resume(self._token), OPEN_S)
            except AuthenticationError:
                self._token = ""  # a long run outlives its token
                raise
            link.login_done()
        else:
            signed_in = await self._sign_in(link)
        self._token = signed_in.token
