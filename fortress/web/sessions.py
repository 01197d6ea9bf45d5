"""Sessions at the bank that this process keeps connected, so that a request need not connect and resume first.

A cache and nothing more: what a token is worth the bank says, when it is seen here for the first time and again on each
new connection. A bank that ends a session ends its connections; so a session whose connection stands is alive, and one
whose connection is gone is asked about before anything is answered. A token counts here until its own end, whatever
newer ones its session has by then.

    cookie -> token -> seat (one connection)     several tokens of one session lead to one seat
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec

from fortress.client.client import Client
from fortress.client.me import Me
from fortress.errors import AuthenticationError, Busy, FortressError, NotSignedIn, RetryableError, TokenRejected
from fortress.web.call import Context
from fortress.web.limits import Allowance

TOKEN_LENGTH_MAX: Final = 2048
TOKENS_MAX_FACTOR: Final = 4
"""Tokens remembered for each session that may be kept."""
OPENING_MAX: Final = 256
OPENING_AT_ONCE: Final = 32
REFUSED_PER_MINUTE: Final = 20
"""Tokens of one address that may turn out to be none; each costs the bank a handshake. Many people share an address, so
who is connected already is not concerned, and what has plainly expired is not counted."""
FINDING_MAX: Final = 8
"""So often a request looks for its session again when that was closed for others meanwhile."""
RENEW_AFTER: Final = 0.4
"""When this share of a token's life is over, the browser gets a newer one."""
SKEW_S_MAX: Final = 60
"""A token that ended longer ago by this clock is refused without asking the bank."""
SWEEP_S: Final = 5.0
ALIVE_S_MAX: Final = 1.0
"""How long the bank is asked whether a session is alive, where what is asked for needs no bank."""


class Claims(msgspec.Struct, frozen=True):
    """What this process reads of a token (RFC 7519), whose signature only the bank can check: when it ends."""

    iat: float
    exp: float


@dataclass(slots=True, eq=False)
class Seat:
    """One session, connected.

    Attributes:
        session: id in hexadecimal.
        ended: done when the session is over or its place is given to another one.
        users: requests and streams that use it now.
        used_s: when a request came last, on the monotonic clock.
        expires_s: when the newest token that a browser was seen with ends, Unix time.
    """

    client: Client
    me: Me
    session: str
    ended: asyncio.Future[None]
    users: int = 0
    used_s: float = 0.0
    expires_s: float = 0.0

    @property
    def is_valid(self) -> bool:
        """Whether the browser's token would still do."""
        return not self.ended.done() and time.time() < self.expires_s

    def end(self) -> None:
        """Tell whoever uses it that it is over."""
        if not self.ended.done():
            self.ended.set_result(None)


@dataclass(frozen=True, slots=True)
class Lease:
    """A seat for the time of one request.

    Attributes:
        token: for the cookie, where it should be another one than before; else empty.
    """

    seat: Seat
    token: str = field(default="", repr=False)


class Sessions:
    """All seats of a process.

    Args:
        context: of the process.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._seats: OrderedDict[str, Seat] = OrderedDict()
        self._all: set[Seat] = set()
        self._tokens: OrderedDict[bytes, tuple[Seat, Claims]] = OrderedDict()
        self._opening: dict[bytes, asyncio.Task[Seat]] = {}
        self._refused = Allowance(REFUSED_PER_MINUTE / 60, REFUSED_PER_MINUTE)
        self._turns = asyncio.Semaphore(OPENING_AT_ONCE)
        self._leaving: set[asyncio.Task[None]] = set()
        self._sweeper = asyncio.create_task(self._sweep())

    def __len__(self) -> int:
        return len(self._seats)

    @asynccontextmanager
    async def lease(
        self, token: str, agent: str, *, address: str = "", renews: bool = True, needs_bank: bool = True
    ) -> AsyncIterator[Lease]:
        """Give the session of a token, for as long as the block lasts.

        Args:
            token: from a cookie or a ceremony.
            agent: what the session is called in the bank's list.
            address: whence it comes; empty: its wrong tokens are not counted.
            renews: whether the browser may get a newer token.
            needs_bank: refuse while the bank cannot be asked whether the session is alive. What is shown without the
                bank, such as that it does not answer, is shown to whoever was signed in when it was asked last.

        Raises:
            TokenRejected: it is none, or expired, or its session was ended.
            Busy: too many tokens are being looked at.
            Throttled: too many tokens from there were none.
        """
        seat, claims = await self._find(token, agent, address)
        for _ in range(FINDING_MAX):
            if not seat.ended.done():
                break
            seat, claims = await self._find(
                token, agent, address
            )  # it lost its place before this request could take it
        else:
            raise Busy("too many sessions are connected")
        seat.users += 1
        seat.used_s = time.monotonic()
        try:
            await self._check_alive(seat, needs_bank=needs_bank)
            yield Lease(seat, await self._renewed(seat, claims) if renews else "")
        except (TokenRejected, NotSignedIn):
            self.drop(seat.session)
            raise
        finally:
            seat.users -= 1
            if not seat.users and self._seats.get(seat.session) is not seat:
                self._close(seat)  # it is over, or another one has taken its place

    def drop(self, session: str) -> None:
        """Forget a session that is over; its streams end."""
        self._seats.pop(session, None)
        for seat in [each for each in self._all if each.session == session]:
            seat.end()
            if not seat.users:
                self._close(seat)
        for key in [key for key, (seat, _) in self._tokens.items() if seat.session == session]:
            del self._tokens[key]

    async def close(self) -> None:
        """End all connections; the sessions stay good for their tokens."""
        self._sweeper.cancel()
        for opening in self._opening.values():
            opening.cancel()
        await asyncio.wait([self._sweeper, *self._opening.values()])
        for seat in list(self._all):
            self._close(seat)
        while self._leaving:
            await asyncio.wait(self._leaving)

    # --- finding one ------------------------------------------------------------------------------------------------

    async def _find(self, token: str, agent: str, address: str) -> tuple[Seat, Claims]:
        claims = claims_of(token)
        if claims.exp + SKEW_S_MAX < time.time():
            raise TokenRejected
        key = hashlib.sha256(token.encode()).digest()
        found = self._tokens.get(key)
        if found is not None and not found[0].ended.done() and time.time() < claims.exp:
            self._seats.move_to_end(found[0].session)
            return found
        seat = await self._opened(key, token, agent, address)
        self._know(key, seat, claims)
        return seat, claims

    async def _opened(self, key: bytes, token: str, agent: str, address: str) -> Seat:
        """Connect and resume; who comes meanwhile with the same token waits for the same connection."""
        opening = self._opening.get(key)
        if opening is None:
            self._refused.check(address, time.monotonic())
            if len(self._opening) >= OPENING_MAX:
                raise Busy("too many sessions are being looked at")
            opening = self._opening[key] = asyncio.create_task(self._open(token, agent))
            opening.add_done_callback(lambda task: self._opening_done(key, address, task))
        return await asyncio.shield(opening)

    def _opening_done(self, key: bytes, address: str, task: asyncio.Task[Seat]) -> None:
        del self._opening[key]
        # asked for in any case, else asyncio complains if everybody who waited has gone
        if not task.cancelled() and isinstance(task.exception(), TokenRejected) and address:
            self._refused.spend(address, time.monotonic())

    async def _open(self, token: str, agent: str) -> Seat:
        async with self._turns:
            client = self._context.connect(agent)
            is_open = False
            try:
                me = await client.resume(token)
                is_open = True
            finally:
                if not is_open:
                    await client.close()
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        expires_s = claims_of(token).exp
        seat = Seat(client, me, me.signed_in.session.hex(), ended, used_s=time.monotonic(), expires_s=expires_s)
        self._sit(seat)
        return seat

    def _sit(self, seat: Seat) -> None:
        """Give a seat its place; the newest connection of a session counts, older ones end with their users."""
        before = self._seats.pop(seat.session, None)
        if before is not None:
            for key in [key for key, (each, _) in self._tokens.items() if each is before]:
                self._know(key, seat, self._tokens[key][1])
            if not before.users:
                self._close(before)
        self._all.add(seat)
        self._seats[seat.session] = seat
        idle = [each for each in self._seats.values() if not each.users and each is not seat]
        while len(self._seats) > self._context.settings.sessions_max and idle:
            self.drop(idle.pop(0).session)

    def _know(self, key: bytes, seat: Seat, claims: Claims) -> None:
        seat.expires_s = max(seat.expires_s, claims.exp)
        self._tokens[key] = (seat, claims)
        self._tokens.move_to_end(key)
        while len(self._tokens) > TOKENS_MAX_FACTOR * self._context.settings.sessions_max:
            self._tokens.popitem(last=False)

    async def _check_alive(self, seat: Seat, *, needs_bank: bool) -> None:
        """Ask the bank about a session whose connection is gone."""
        if seat.me.is_connected:
            return
        if needs_bank:
            await seat.me.whoami()
            return
        with suppress(TimeoutError, RetryableError):
            async with asyncio.timeout(ALIVE_S_MAX):
                await seat.me.whoami()

    async def _renewed(self, seat: Seat, claims: Claims) -> str:
        """Give a newer token if the browser's has come of age."""
        if time.time() < claims.iat + RENEW_AFTER * (claims.exp - claims.iat):
            return ""
        fresh = seat.me.signed_in.token
        if claims_of(fresh).exp - claims.exp < RENEW_AFTER * (claims.exp - claims.iat):
            try:
                fresh = (await seat.me.renew()).token
            except AuthenticationError:
                raise
            except FortressError:
                return ""  # the next request tries again
        return self.issue(seat, fresh)

    def issue(self, seat: Seat, token: str) -> str:
        """Take note of a token that a browser is given, and give it."""
        self._know(hashlib.sha256(token.encode()).digest(), seat, claims_of(token))
        return token

    def note(self, session: str, token: str) -> None:
        """Take note of a token that the browser of a session here is given."""
        seat = self._seats.get(session)
        if seat is not None:
            self.issue(seat, token)

    def expires_us(self, session: str) -> int:
        """Tell when the newest token that a browser of a session was seen with ends; 0: none was seen here."""
        seat = self._seats.get(session)
        return int(seat.expires_s * 1_000_000) if seat is not None else 0

    # --- ending one -------------------------------------------------------------------------------------------------

    def _close(self, seat: Seat) -> None:
        if seat not in self._all:
            return
        self._all.discard(seat)
        seat.end()
        task = asyncio.create_task(_close_quietly(seat.client))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _sweep(self) -> None:
        """Close what nobody has used for a while, and end what has expired."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep(time.monotonic())

    def sweep(self, now_s: float) -> None:
        """Look at all seats once."""
        idle_s = self._context.settings.session_idle_s
        for seat in list(self._seats.values()):
            if not seat.is_valid or (not seat.users and now_s - seat.used_s > idle_s):
                self.drop(seat.session)


async def _close_quietly(client: Client) -> None:
    with suppress(FortressError):
        await client.close()


def claims_of(token: str) -> Claims:
    """Read when a token was issued and when it ends, without believing that it is genuine.

    Raises:
        TokenRejected: it has not the form of one.
    """
    parts = token.split(".")
    if len(token) > TOKEN_LENGTH_MAX or len(parts) != 3 or not token.isascii():
        raise TokenRejected
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), type=Claims)
    except (msgspec.DecodeError, binascii.Error, ValueError, RecursionError) as error:
        raise TokenRejected from error
