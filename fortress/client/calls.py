"""Requests that survive a failover: the same request again, with the same id, until there is an answer.

What happens to a request that got no answer depends on what is known. Told that nothing was done (busy, not primary,
going down, not reached), it is simply made again. Told nothing (connection gone, no answer in time), it is made again
because the bank does one id once and setting a state twice is setting it once; the few operations for which that does
not hold end as `OutcomeUnknown`. When the time is up the error says which of the two it is. Each further try may go to
another node; see `fortress.client.attempts`.

After a reconnect the session goes on by its token, before any request is made on the new connection. The token is
renewed in the background when six tenths of its time are over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

from msgspec import structs

from fortress.client.address import Address
from fortress.client.attempts import AGAIN, UNDECIDED, Attempts, wanted_state
from fortress.client.link import Link
from fortress.client.replica import Replica
from fortress.client.route import OPEN_S_MAX, Route
from fortress.client.trust import Trust
from fortress.errors import (
    AuthenticationError,
    Busy,
    FortressError,
    LocalProtocolError,
    NotPrimary,
    NotSignedIn,
    Refused,
    Unreachable,
)
from fortress.protocol.accounts import AccountsAnswer, AccountView, GetAccount
from fortress.protocol.administration import StatusAnswer
from fortress.protocol.fields import Done, Request
from fortress.protocol.routes import ANY
from fortress.protocol.sessions import Renew, Resume, SignedIn

TIMEOUT_S: Final = 5.0
DEADLINE_S: Final = 30.0
TRY_S_MIN: Final = 0.1
"""Nothing is tried again in less: an answer that just misses the deadline turns a sure "no" into "not known"."""
RENEW_AFTER: Final = 0.6
RENEW_S_MIN: Final = 1.0
STALE_MS_MAX: Final = 10_000

T = TypeVar("T")


class Calls:
    """Makes requests of one client, whatever happens to connections meanwhile.

    Args:
        address: the bank and its nodes.
        trust: whom to believe.
        timeout_s: how long one try may take.
        deadline_s: how long all tries of one request may take together.
        agent: what this client calls itself.
        stale_ms_max: how old the answers to reads may be that a standby gives; 0: ask the primary alone.

    Attributes:
        trust: whom this client believes.
        position: the highest journal position that the bank has confirmed to this client.
        signed_in: the session, once there is one.
        signing_seed: of the key that signs payment orders; empty if this process has not seen the login.
    """

    def __init__(
        self,
        address: Address,
        trust: Trust,
        *,
        timeout_s: float = TIMEOUT_S,
        deadline_s: float = DEADLINE_S,
        agent: str = "",
        stale_ms_max: int = 0,
    ) -> None:
        self.bank = address.bank
        self.trust = trust
        self.timeout_s = timeout_s
        self.deadline_s = deadline_s
        self.position = 0
        self.signed_in: SignedIn | None = None
        self.signing_seed = b""
        self.route = Route(address, trust, on_open=self._resume, agent=agent, timeout_s=timeout_s)
        self._replica: Replica | None = None
        if stale_ms_max and (self.route.has_choice or self.route.has_path):
            on_open = partial(self._resume, stale_ms_max=stale_ms_max)
            reading = Route(address, trust, on_open=on_open, agent=agent, timeout_s=timeout_s, flags=ANY)
            self._replica = Replica(reading, self.route, stale_ms_max=stale_ms_max)
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
            answer = await link.request(operation, fields, timeout_s)
            if getattr(answer, "stale_ms", 0):  # a primary's answer was asked for
                raise NotPrimary("a standby answered")
            return answer

        attempts = Attempts(operation, fields)
        try:
            answer = await self.converse(attempts, flow, deadline_s=deadline_s)
        except Refused as error:
            if not attempts.is_settled_by(error):
                raise
            return await self._settled(attempts, operation, fields)
        self.note_position(answer)
        return answer

    async def read(self, operation: str, fields: Request) -> Any:
        """Make a request that has ``min_position``: its answer is no older than anything this client has seen.

        It goes to a standby if the client was told that it may.

        Raises:
            FortressError: as :meth:`call`.
        """
        fields = structs.replace(fields, min_position=self.position)
        answer = await self._replica.read(operation, fields) if self._replica is not None and self.signed_in else None
        if answer is None:
            return await self.call(operation, fields)
        self.note_position(answer)
        return answer

    async def converse(
        self,
        attempts: str | Attempts,
        flow: Callable[[Link, float], Awaitable[T]],
        *,
        deadline_s: float | None = None,
    ) -> T:
        """Have a conversation of one or more requests on one connection, from its beginning again if that ends.

        Args:
            attempts: or the operation that matters, which decides what may be repeated.
            flow: takes the connection and how long a request may take.
            deadline_s: as in :meth:`call`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self.deadline_s if deadline_s is None else deadline_s)
        attempts = Attempts(attempts) if isinstance(attempts, str) else attempts
        while True:
            link: Link | None = None
            try:
                link = await self._link(deadline)
                try_s = attempts.try_s(self.timeout_s, has_choice=self.route.has_choice)
                return await flow(link, max(min(try_s, deadline - loop.time()), 0.001))
            except AGAIN as error:
                wait_s = attempts.note(error, was_sent=link is not None)
                if link is not None and attempts.is_worn and (self.route.has_choice or not isinstance(error, Busy)):
                    self.route.leave(link, error)
                if attempts.is_final or loop.time() + wait_s + TRY_S_MIN >= deadline:
                    end = attempts.end(error)
                    break
            except FortressError as error:
                if attempts.is_verdict(error):
                    raise
                raise attempts.unknown() from error
            await asyncio.sleep(wait_s)
        raise end

    async def _settled(self, attempts: Attempts, operation: str, fields: Request) -> Done:
        """Look whether an account is in the state that a lost try was to bring about, as the repeat's refusal says."""
        try:
            view: AccountView = await self.call("get_account", GetAccount(getattr(fields, "account", 0)))
        except FortressError as error:
            raise attempts.unknown() from error
        if view.state != wanted_state(operation, fields):
            raise attempts.unknown()
        return Done(view.position, replayed=True)

    def note_position(self, answer: object) -> None:
        """Remember how far the bank's journal is known to go, so that later reads are no older."""
        if isinstance(answer, StatusAnswer):
            return  # what a node has, the bank may not have
        if isinstance(answer, AccountsAnswer):
            position = max((view.position for view in answer.accounts), default=0)
        else:
            position = getattr(answer, "position", 0) or getattr(answer, "tree_size", 0)
        self.position = max(self.position, position)

    async def _link(self, deadline: float) -> Link:
        if self._is_closed:
            raise LocalProtocolError("the client is closed")
        try:
            return await self.route.link(deadline)
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
        if self._replica is not None:
            await self._replica.close()
        await self.route.close()

    # --- the session --------------------------------------------------------------------------------------------

    def begin_session(self, link: Link, signed_in: SignedIn) -> None:
        """Take over a session that the bank has opened on this connection."""
        link.login_done()
        self.signed_in = signed_in
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.get_running_loop().create_task(self._keep_renewed())

    def forget_session(self) -> None:
        """Stop renewing, and forget the token and what signs orders."""
        self.signed_in, self.signing_seed = None, b""
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None
        if self._replica is not None:
            self._replica.forget()

    def leave_session(self) -> None:
        """Forget the session; a connection that has signed in stays signed in, so a new session takes a new one."""
        if self.signed_in is not None:
            self.forget_session()
            link = self.route.current
            if link is not None:
                self.route.drop(link)

    async def renew(self) -> SignedIn:
        """Get a new token for the session now."""
        signed_in: SignedIn = await self.call("renew", Renew())
        self.signed_in = signed_in
        return signed_in

    async def _resume(self, link: Link, stale_ms_max: int = 0) -> None:
        """Go on with the session on a new connection, if there is one; without, nobody is read for."""
        if self.signed_in is None:
            if stale_ms_max:
                raise NotSignedIn
            return
        timeout_s = min(self.timeout_s, OPEN_S_MAX) if self.route.has_choice else self.timeout_s
        signed_in = await link.request("resume", Resume(self.signed_in.token, stale_ms_max), timeout_s)
        link.login_done()
        if not stale_ms_max:
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
