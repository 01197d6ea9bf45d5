"""Login, registration, change of password and a customer made by an administrator: one WebSocket, one bank connection.

The proofs of these are made in the browser and bound to the sealed channel between this process and the bank, so all
moves of one ceremony pass over one connection, and here nothing is seen but what a wire would see. It is the same for a
load balancer: one WebSocket stays with one process.

    server: channel     page: login_begin   server: challenge   page: login_finish   server: ticket
                              register                                                       ticket
                              change_key_begin      challenge         change_key             done, ticket
                              create_user                                                    done

The last two act for the session of the cookie, which is resumed on that connection when they begin. An error is a
``problem``, and the end. A ticket is a token of the bank; ``POST /api/session`` makes a cookie of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final

import msgspec
from aiohttp import WSMsgType, web
from msgspec import Meta, Struct

from fortress.client.link import Link
from fortress.errors import (
    Busy,
    DeadlinePassed,
    FortressError,
    LoginFailed,
    MessageInvalid,
    NotSignedIn,
    Refused,
    Status,
)
from fortress.protocol.accounts import Profile
from fortress.protocol.administration import CreateUser
from fortress.protocol.sessions import (
    ChangeKey,
    ChangeKeyBegin,
    KeyMaterial,
    LoginBegin,
    LoginChallenge,
    LoginFinish,
    Register,
    Renew,
    Resume,
    SignedIn,
)
from fortress.web import intake
from fortress.web.call import Context
from fortress.web.limits import Allowance
from fortress.web.problems import problem_of
from fortress.web.shapes import Id, Problem, Role, Text, Username

MESSAGE_BYTES_MAX: Final = 8 * 1024
CEREMONY_S_MAX: Final = 60.0
REQUEST_S_MAX: Final = 5.0
CEREMONIES_MAX: Final = 256
FAILURES_BURST: Final = 50
FAILURE_BACK_S: Final = 30.0
"""An address may fail so often at once, and then once in so many seconds; the bank counts each login besides."""

Point = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Salt = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]


class Move(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """What a page says."""


class Key(Struct, frozen=True, forbid_unknown_fields=True):
    """A new key; all bytes in hexadecimal."""

    salt: Salt
    memory_kib: Annotated[int, Meta(ge=0, le=4_194_304)]
    iterations: Annotated[int, Meta(ge=0, le=64)]
    lanes: Annotated[int, Meta(ge=0, le=64)]
    public: Point
    signing: Point
    commitment: Point
    proof: Point

    def material(self) -> KeyMaterial:
        """Give it as the bank takes it."""
        return KeyMaterial(
            salt=bytes.fromhex(self.salt),
            memory_kib=self.memory_kib,
            iterations=self.iterations,
            lanes=self.lanes,
            public=bytes.fromhex(self.public),
            signing=bytes.fromhex(self.signing),
            commitment=bytes.fromhex(self.commitment),
            proof=bytes.fromhex(self.proof),
        )


class BeginLogin(Move, frozen=True, tag="login_begin"):
    """First move of a login."""

    username: Username
    commitment: Point


class FinishLogin(Move, frozen=True, tag="login_finish"):
    """Third move of a login."""

    proof: Point


class Registration(Move, frozen=True, tag="register"):
    """Become a customer, with an invitation."""

    code: Annotated[str, Meta(min_length=8, max_length=64)]
    username: Username
    key: Key
    name: Text = ""


class BeginChange(Move, frozen=True, tag="change_key_begin"):
    """Ask for the challenge that the old key answers."""


class Change(Move, frozen=True, tag="change_key"):
    """The new key, and the answer of the old one."""

    key: Key
    commitment: Point
    proof: Point


class Creation(Move, frozen=True, tag="create_user"):
    """Make a customer by hand."""

    id: Id
    username: Username
    roles: Annotated[list[Role], Meta(min_length=1, max_length=4)]
    key: Key
    name: Text = ""


FirstMove = BeginLogin | Registration | BeginChange | Creation


class Said(Struct, frozen=True, tag_field="type"):
    """What this side says."""


class Channel(Said, frozen=True, tag="channel"):
    """The bank and the handshake hash of the connection, to which all proofs are bound."""

    bank: str
    channel: str


class Challenge(Said, frozen=True, tag="challenge"):
    """The bank's challenge."""

    salt: str
    memory_kib: int
    iterations: int
    lanes: int
    nonce: str


class TicketSaid(Said, frozen=True, tag="ticket"):
    """A token for ``POST /api/session``."""

    token: str


class DoneSaid(Said, frozen=True, tag="done"):
    """It is done; with an approval, a second administrator must approve that id first."""

    approval: str = ""


class Ceremonies:
    """All ceremonies of a process.

    Args:
        context: of the process.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        per_minute = context.settings.ceremonies_per_minute
        self._begun = Allowance(per_minute / 60, per_minute)
        self._failures = Allowance(1 / FAILURE_BACK_S, FAILURES_BURST)
        self._count = 0

    async def close(self) -> None:
        """Nothing outlives its request."""

    async def hold(
        self, request: web.Request, *, address: str, agent: str, token: str, stopping: asyncio.Future[None]
    ) -> web.WebSocketResponse:
        """Hold one ceremony, from the WebSocket's beginning to its end.

        Args:
            address: counts what was begun and what failed.
            agent: what the session is called in the bank's list.
            token: of the cookie; empty if there is none.
            stopping: done when this process stops.
        """
        socket = web.WebSocketResponse(max_msg_size=MESSAGE_BYTES_MAX, compress=False, timeout=2.0)
        await socket.prepare(request)
        self._count += 1
        try:
            now_s = time.monotonic()
            self._failures.check(address, now_s)
            self._begun.take(address, now_s)
            if self._count > CEREMONIES_MAX:
                raise Busy("too many ceremonies are under way")
            async with asyncio.timeout(CEREMONY_S_MAX):
                await self._converse(socket, agent, token, stopping)
        except FortressError as error:
            if isinstance(error, LoginFailed) or _is_wrong_code(error):
                self._failures.spend(address, time.monotonic())
            await _send_problem(socket, error)
        except TimeoutError:
            await _send_problem(socket, DeadlinePassed("this took too long; begin anew"))
        except ConnectionError:
            pass  # the page has gone
        finally:
            self._count -= 1
            await socket.close()
        return socket

    async def _converse(
        self, socket: web.WebSocketResponse, agent: str, token: str, stopping: asyncio.Future[None]
    ) -> None:
        async with self._context.connect(agent) as client:
            link = await client.channel()
            conversation = _Conversation(socket, link, self._context.bank, token, stopping)
            await conversation.hold()


class _Conversation:
    """The moves of one ceremony, on one connection to the bank."""

    def __init__(
        self, socket: web.WebSocketResponse, link: Link, bank: str, token: str, stopping: asyncio.Future[None]
    ) -> None:
        self._socket = socket
        self._link = link
        self._bank = bank
        self._token = token
        self._stopping = stopping

    async def hold(self) -> None:
        await self._say(Channel(self._bank, self._link.handshake_hash.hex()))
        move: FirstMove | None = await self._hear(FirstMove)
        if move is not None:
            await _PARTS[type(move)](self, move)

    async def login(self, move: BeginLogin) -> None:
        begin = LoginBegin(move.username, bytes.fromhex(move.commitment))
        await self._challenge(await self._request("login_begin", begin))
        finish: FinishLogin | None = await self._hear(FinishLogin)
        if finish is not None:
            signed_in = await self._request("login_finish", LoginFinish(bytes.fromhex(finish.proof)))
            await self._ticket(signed_in)

    async def register(self, move: Registration) -> None:
        request = Register(move.code, move.username, move.key.material(), move.name)
        await self._ticket(await self._request("register", request))

    async def change(self, move: BeginChange) -> None:
        await self._resume()
        await self._challenge(await self._request("change_key_begin", ChangeKeyBegin()))
        change: Change | None = await self._hear(Change)
        if change is None:
            return
        request = ChangeKey(change.key.material(), bytes.fromhex(change.commitment), bytes.fromhex(change.proof))
        await self._request("change_key", request)
        await self._say(DoneSaid())
        # The bank refuses all tokens of before. Should this fail, the page has "done" and has to sign in anew.
        await self._ticket(await self._request("renew", Renew()))

    async def create(self, move: Creation) -> None:
        await self._resume()
        profile = Profile(name=move.name)
        request = CreateUser(bytes.fromhex(move.id), move.username, move.key.material(), list(move.roles), profile)
        answer = await self._request("create_user", request)
        await self._say(DoneSaid(answer.approval.hex() if answer.approval else ""))

    async def _resume(self) -> None:
        """Sign in with the cookie's token; only now, since who signs in must not be signed in already."""
        if not self._token:
            raise NotSignedIn
        await self._request("resume", Resume(self._token))
        self._link.login_done()

    async def _request(self, operation: str, fields: Any) -> Any:
        return await self._link.request(operation, fields, REQUEST_S_MAX)

    async def _challenge(self, challenge: LoginChallenge) -> None:
        kdf = (challenge.memory_kib, challenge.iterations, challenge.lanes)
        await self._say(Challenge(challenge.salt.hex(), *kdf, challenge.nonce.hex()))

    async def _ticket(self, signed_in: SignedIn) -> None:
        await self._say(TicketSaid(signed_in.token))

    async def _say(self, said: Said) -> None:
        await self._socket.send_str(msgspec.json.encode(said).decode())

    async def _hear(self, kind: Any) -> Any:
        """Wait for the page's next move; None if it has gone, or this process stops."""
        hearing = asyncio.create_task(self._socket.receive())
        try:
            waited: list[asyncio.Future[Any]] = [hearing, self._stopping]
            await asyncio.wait(waited, return_when="FIRST_COMPLETED")
            if not hearing.done():
                return None
            message = hearing.result()
        finally:
            if not hearing.done():
                hearing.cancel()
                await asyncio.wait([hearing])
        if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
            return None
        if message.type is not WSMsgType.TEXT:
            raise MessageInvalid("moves are text", {"field": "type"})
        return intake.from_json(kind, message.data.encode())


_PARTS: Final[Mapping[type[Struct], Callable[[_Conversation, Any], Awaitable[None]]]] = {
    BeginLogin: _Conversation.login,
    Registration: _Conversation.register,
    BeginChange: _Conversation.change,
    Creation: _Conversation.create,
}


async def _send_problem(socket: web.WebSocketResponse, error: FortressError) -> None:
    problem: Problem = problem_of(error)
    if not socket.closed:
        said = {"type": "problem", **{name: getattr(problem, name) for name in _PROBLEM_FIELDS}}
        try:
            await socket.send_str(msgspec.json.encode(said).decode())
        except ConnectionError:
            return  # the page has gone


def _is_wrong_code(error: FortressError) -> bool:
    return isinstance(error, Refused) and error.status is Status.invitation_invalid


_PROBLEM_FIELDS: Final = tuple(name for name in Problem.__struct_fields__ if name != "type")
