"""Requests that survive a failover: the same request again, with the same id, until there is an answer.

What happens to a request that got no answer depends on what is known. Told that nothing was done (busy, not primary,
going down, not reached), it is simply made again. Told nothing (connection gone, no answer in time), it is made again
because the bank does one id once and setting a state twice is setting it once; the few operations for which that does
not hold end as `OutcomeUnknown`. When the time is up the error says which of the two it is.

After a reconnect the session goes on by its token, before any request is made on the new connection. The token is
renewed in the background when six tenths of its time are over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from fortress.client.address import Address
from fortress.client.ids import format_id
from fortress.client.link import Link
from fortress.client.route import Route, waits
from fortress.client.trust import Trust
from fortress.errors import (
    AuthenticationError,
    Busy,
    DeadlinePassed,
    Facts,
    FortressError,
    LocalProtocolError,
    NotPrimary,
    OutcomeUnknown,
    Refused,
    ShuttingDown,
    Status,
    Unreachable,
)
from fortress.protocol.fields import Done, Request
from fortress.protocol.messages import OPERATIONS
from fortress.protocol.sessions import Renew, Resume, SignedIn

TIMEOUT_S: Final = 5.0
DEADLINE_S: Final = 30.0
RENEW_AFTER: Final = 0.6
RENEW_S_MIN: Final = 1.0

NOT_REPEATABLE: Final = {"register", "change_key"}
"""Operations that would be refused when they are done already, and whose proof is good on one channel only."""
SETTLED_BY_REPEAT: Final = {"freeze", "unfreeze", "close_account", "reopen"}
"""Operations whose repeat finds the state set already, which is what was wanted."""
UNDECIDED: Final = (OutcomeUnknown, DeadlinePassed)
ELSEWHERE: Final = (NotPrimary, ShuttingDown)

T = TypeVar("T")


class Calls:
    """Makes requests of one client, whatever happens to connections meanwhile.

    Args:
        address: the bank and its nodes.
        trust: whom to believe.
        timeout_s: how long one try may take.
        deadline_s: how long all tries of one request may take together.
        agent: what this client calls itself.

    Attributes:
        position: the highest journal position that the bank has confirmed to this client.
        signed_in: the session, once there is one.
    """

    def __init__(
        self,
        address: Address,
        trust: Trust,
        *,
        timeout_s: float = TIMEOUT_S,
        deadline_s: float = DEADLINE_S,
        agent: str = "",
    ) -> None:
        self.bank = address.bank
        self.timeout_s = timeout_s
        self.deadline_s = deadline_s
        self.position = 0
        self.signed_in: SignedIn | None = None
        self.route = Route(address, trust, on_open=self._resume, agent=agent, timeout_s=timeout_s)
        self._renewal: asyncio.Task[None] | None = None
        self._is_closed = False

    async def call(self, operation: str, fields: Request, *, deadline_s: float | None = None) -> Any:
        """Make a request and give its answer, repeating it as far as that is safe.

        Args:
            deadline_s: instead of the client's own.

        Raises:
            Refused: the bank refused by its rules.
            OutcomeUnknown: the time is up and it may have been done; the facts hold the id to repeat it with.
            FortressError: any other answer, or why no node could be asked.
        """

        async def flow(link: Link, timeout_s: float) -> Any:
            return await link.request(operation, fields, timeout_s)

        doubt = _Doubt(operation, _facts_of(operation, fields))
        try:
            answer = await self.converse(doubt, flow, deadline_s=deadline_s)
        except Refused as error:
            if not doubt.is_settled_by(error):
                raise
            return Done(replayed=True)
        self.note_position(answer)
        return answer

    async def converse(
        self,
        doubt: str | _Doubt,
        flow: Callable[[Link, float], Awaitable[T]],
        *,
        deadline_s: float | None = None,
    ) -> T:
        """Have a conversation of one or more requests on one connection, from its beginning again if that ends.

        Args:
            doubt: the operation that matters, which decides what may be repeated.
            flow: takes the connection and how long a request may take.
            deadline_s: as in :meth:`call`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self.deadline_s if deadline_s is None else deadline_s)
        doubt = _Doubt(doubt, {"operation": doubt}) if isinstance(doubt, str) else doubt
        for wait_s in waits():
            link: Link | None = None
            try:
                link = await self._link()
                return await flow(link, max(min(self.timeout_s, deadline - loop.time()), 0.001))
            except (Busy, Unreachable, *ELSEWHERE, *UNDECIDED) as error:
                if link is not None:
                    self._turn_from(link, error, doubt)
                if not doubt.is_final and loop.time() + wait_s < deadline:
                    await asyncio.sleep(wait_s)
                    continue
                if not doubt.is_doubtful:
                    raise
                raise doubt.unknown() from error
            except FortressError as error:
                # only the bank's rules speak about the tries before this one too
                if isinstance(error, Refused) or not doubt.is_doubtful:
                    raise
                raise doubt.unknown() from error
        raise LocalProtocolError("waits never end")

    def _turn_from(self, link: Link, error: FortressError, doubt: _Doubt) -> None:
        if isinstance(error, UNDECIDED):
            doubt.grow()
        if isinstance(error, (*ELSEWHERE, *UNDECIDED)):
            self.route.leave(link, error)

    def note_position(self, answer: object) -> None:
        """Remember how far the bank's journal is known to go, so that later reads are no older."""
        position = getattr(answer, "position", 0)
        self.position = max(self.position, position)

    async def _link(self) -> Link:
        if self._is_closed:
            raise LocalProtocolError("the client is closed")
        try:
            return await self.route.link()
        except UNDECIDED as error:
            # it was the resuming that got no answer, so nothing of the request itself is in doubt
            raise Unreachable("the session could not be resumed in time") from error

    async def open(self) -> None:
        """Connect, so that a wrong address or authority is told now."""

        async def flow(link: Link, timeout_s: float) -> None:
            return None

        await self.converse("hello", flow)

    async def close(self) -> None:
        """End everything; may be called twice."""
        self._is_closed = True
        renewal = self._renewal
        self.forget_session()
        if renewal is not None:
            await asyncio.wait([renewal])
        await self.route.close()

    # --- the session --------------------------------------------------------------------------------------------

    def begin_session(self, link: Link, signed_in: SignedIn) -> None:
        """Take over a session that the bank has opened on this connection."""
        link.login_done()
        self.signed_in = signed_in
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.get_running_loop().create_task(self._keep_renewed())

    def forget_session(self) -> None:
        """Stop renewing and forget the token."""
        self.signed_in = None
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None

    async def renew(self) -> SignedIn:
        """Get a new token for the session now."""
        signed_in: SignedIn = await self.call("renew", Renew())
        self.signed_in = signed_in
        return signed_in

    async def _resume(self, link: Link) -> None:
        if self.signed_in is not None:
            signed_in = await link.request("resume", Resume(self.signed_in.token), self.timeout_s)
            link.login_done()
            self.signed_in = signed_in

    async def _keep_renewed(self) -> None:
        while self.signed_in is not None:
            await asyncio.sleep(max(RENEW_AFTER * self.token_left_s(), RENEW_S_MIN))
            try:
                await self.renew()
            except AuthenticationError:
                return  # the session is over; the next request says so to whoever makes it
            except FortressError:
                continue

    def token_left_s(self) -> float:
        """Tell for how long the token is good, by the bank's clock and not by this machine's."""
        link = self.route.current
        if self.signed_in is None or link is None or link.hello is None:
            return 0.0
        bank_now_s = link.hello.time_us / 1e6 + asyncio.get_running_loop().time() - link.hello_at
        return max(self.signed_in.token_expires_us / 1e6 - bank_now_s, 0.0)


class _Doubt:
    """Whether something may have been done that nobody has confirmed yet."""

    __slots__ = ("_facts", "_operation", "is_doubtful")

    def __init__(self, operation: str, facts: Facts) -> None:
        self._operation = operation
        self._facts = facts
        self.is_doubtful = False

    def grow(self) -> None:
        """Take that a try ended without an answer; reading twice is never in doubt."""
        row = OPERATIONS.get(self._operation)
        self.is_doubtful |= row is None or row.writes

    @property
    def is_final(self) -> bool:
        """Whether it must not be tried again."""
        return self.is_doubtful and self._operation in NOT_REPEATABLE

    def is_settled_by(self, refusal: Refused) -> bool:
        """Whether a refusal of a repeat only says that the wanted state is there."""
        is_conflict = refusal.status is Status.account_state_conflict
        return self.is_doubtful and is_conflict and self._operation in SETTLED_BY_REPEAT

    def unknown(self) -> OutcomeUnknown:
        """Make the error that says so."""
        return OutcomeUnknown(f"no answer to {self._operation!r}; it may or may not have been done", self._facts)


def _facts_of(operation: str, fields: Request) -> Facts:
    id = getattr(fields, "id", None)
    return {"operation": operation, "id": format_id(id)} if isinstance(id, bytes) else {"operation": operation}
