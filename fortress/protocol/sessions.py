"""Messages of a session: hello, login in three moves, resume, keys."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from fortress.protocol.fields import (
    Answer,
    Id,
    Names,
    Point,
    Request,
    Salt,
    Scalar,
    StaleMsMax,
    Text140,
    Token,
    Username,
)


class Hello(Request, frozen=True):
    """Say which versions and features this side speaks; first message of both sides."""

    versions: Annotated[list[Annotated[int, Meta(ge=1, le=255)]], Meta(min_length=1, max_length=16)]
    features: Names = msgspec.field(default_factory=list)
    agent: Text140 = ""


class HelloAnswer(Answer, frozen=True):
    version: int
    features: list[str]
    bank: str
    agent: str
    time_us: int


class LoginBegin(Request, frozen=True):
    """First move of the login: who, and the commitment R = r·B."""

    username: Username
    commitment: Point


class LoginChallenge(Answer, frozen=True):
    salt: bytes
    memory_kib: int
    iterations: int
    lanes: int
    nonce: bytes


class LoginFinish(Request, frozen=True):
    """Third move: s = r + c·x."""

    proof: Scalar


class SignedIn(Answer, frozen=True):
    customer: int
    username: str
    roles: list[str]
    session: bytes
    token: str
    token_expires_us: int


class Resume(Request, frozen=True):
    """Go on with a session after a reconnect or failover, by its token.

    A standby takes it only from who will be content with its answers, and says so with ``stale_ms_max``.
    """

    token: Token
    stale_ms_max: StaleMsMax = 0


class Renew(Request, frozen=True):
    """Give the session a new token; the answer is that of a login."""


class Logout(Request, frozen=True):
    """End this session for good; its token is refused from now on."""


class Whoami(Request, frozen=True):
    """Tell who this session is."""


class Sessions(Request, frozen=True):
    """List one's own sessions that are connected."""


class SessionRow(Answer, frozen=True):
    session: bytes
    since_us: int
    address: str
    agent: str
    current: bool


class SessionsAnswer(Answer, frozen=True):
    sessions: list[SessionRow]


class EndSession(Request, frozen=True):
    """End another of one's own sessions."""

    session: Id


class KeyMaterial(Struct, frozen=True, forbid_unknown_fields=True):
    """A new login key: its salt, parameters, public point, order signing key, and a proof of knowing the secret."""

    salt: Salt
    memory_kib: Annotated[int, Meta(ge=0, le=4_194_304)]
    iterations: Annotated[int, Meta(ge=0, le=64)]
    lanes: Annotated[int, Meta(ge=0, le=64)]
    public: Point
    signing: Point
    commitment: Point
    proof: Scalar


class Register(Request, frozen=True):
    """Become a customer with an invitation code; signs in too."""

    code: Annotated[str, Meta(min_length=8, max_length=64)]
    username: Username
    key: KeyMaterial
    name: Text140 = ""


class ChangeKey(Request, frozen=True):
    """Change the password: a new key, proved with the old one by a fresh login in this session."""

    key: KeyMaterial
    commitment: Point
    proof: Scalar


class ChangeKeyBegin(Request, frozen=True):
    """Ask for the nonce with which the old key proves a change."""
