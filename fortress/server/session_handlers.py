"""Handlers of the session itself: hello, login in three moves, resume, keys, who is connected.

Every failed login costs the peer the same work and says the same words, whoever was asked for. The throttle decides
before the proof is looked at, in the second move and again in the third, so that many connections at once give no more
guesses than one.
"""

from __future__ import annotations

import secrets
import time
from typing import Final

from fortress import __version__
from fortress.errors import (
    LockedOut,
    LoginFailed,
    MessageInvalid,
    NotSignedIn,
    Refused,
    Status,
    Throttled,
    TokenRejected,
    VersionUnsupported,
)
from fortress.protocol.administration import StatusRequest, UserAnswer
from fortress.protocol.fields import PROTOCOL_VERSION, Done
from fortress.protocol.sessions import (
    ChangeKey,
    ChangeKeyBegin,
    EndSession,
    Hello,
    HelloAnswer,
    LoginBegin,
    LoginChallenge,
    LoginFinish,
    Logout,
    Register,
    Renew,
    Resume,
    SessionRow,
    Sessions,
    SessionsAnswer,
    SignedIn,
    Whoami,
)
from fortress.server.handlers import Handler, hot, plain
from fortress.server.login import LoginRecord, check_lock
from fortress.server.node import Node
from fortress.server.session import Session
from fortress.server.statistics import count_in

AGENT: Final = f"fortress/{__version__}"
SESSION_ID_SIZE_BYTES: Final = 16
FEATURES: Final[list[str]] = []


def now_us() -> int:
    """Give the wall clock in microseconds since 1970."""
    return time.time_ns() // 1000


def handle_hello(node: Node, session: Session, request_id: int, request: Hello) -> None:
    """Agree on a version, or say that there is none in common."""
    if PROTOCOL_VERSION not in request.versions:
        raise VersionUnsupported(f"this node speaks version {PROTOCOL_VERSION}", {"version": PROTOCOL_VERSION})
    session.say_hello(PROTOCOL_VERSION, request.agent)
    session.answer(request_id, HelloAnswer(PROTOCOL_VERSION, FEATURES, node.settings.node.bank, AGENT, now_us()))


# --- login ------------------------------------------------------------------------------------------------------------


async def handle_login_begin(node: Node, session: Session, request: LoginBegin) -> LoginChallenge:
    """Take the first move and give the second, if this login and this address may try now."""
    handle = node.desk.handle_of(request.username)
    _check_throttle(node, session, handle)
    record = await node.bank.find_login(request.username)
    return session.login.begin(record, request.username, request.commitment, time.monotonic(), handle=handle)


async def handle_login_finish(node: Node, session: Session, request: LoginFinish) -> SignedIn:
    """Take the third move and sign in."""
    record = await _prove(node, session, request.proof)
    return _sign_in(node, session, record, secrets.token_bytes(SESSION_ID_SIZE_BYTES))


async def handle_resume(node: Node, session: Session, request: Resume) -> SignedIn:
    """Go on with a session by its token, with the customer's present roles."""
    now = now_us()
    try:
        claims = node.tokens.verify(request.token, now)
        record = await node.bank.find_customer(claims.customer)
        if record is None or record.state == "erased" or record.is_locked(now):
            raise TokenRejected
    except TokenRejected:
        count_in(node.statistics.auth_failures, "token")
        raise
    return _sign_in(node, session, record, claims.session)


async def handle_register(node: Node, session: Session, request: Register) -> SignedIn:
    """Make a customer from an invitation code and sign in; guessing codes is throttled like guessing passwords.

    Of those who share a path each code counts by itself: it has 120 random bits, and somebody's wrong ones must not
    lock out all the others.
    """
    handle = node.desk.handle_of(f"invitation\0{session.network or request.code}")
    node.throttle.check(handle, session.network, time.time())
    node.desk.check_key(request.key, request.username, session.handshake_hash)
    try:
        record = await node.bank.register(request)
    except Refused as refusal:
        if refusal.status is Status.invitation_invalid:
            node.throttle.failed(handle, session.network, time.time())
        raise
    return _sign_in(node, session, record, secrets.token_bytes(SESSION_ID_SIZE_BYTES))


def handle_renew(node: Node, session: Session, request_id: int, request: Renew) -> None:
    """Give the session a new token."""
    session.answer(request_id, _signed_in(node, session))


async def handle_logout(node: Node, session: Session, request: Logout) -> Done:
    """End the session for good, also for a node that starts later; the connection ends with the answer."""
    await _end_for_good(node, session.customer, session.session_id)
    node.server.end_sessions(session.customer, session.session_id)
    return Done()


async def _end_for_good(node: Node, customer: int, session_id: bytes) -> None:
    until_us = node.tokens.revoke(session_id, now_us())
    await node.bank.end_session(customer, session_id, until_us)


def _check_throttle(node: Node, session: Session, handle: bytes) -> None:
    try:
        node.throttle.check(handle, session.network, time.time())
    except LockedOut:
        count_in(node.statistics.auth_failures, "locked_out")
        raise
    except Throttled:
        count_in(node.statistics.auth_failures, "throttled")
        raise


async def _prove(node: Node, session: Session, proof: bytes, commitment: bytes = b"") -> LoginRecord:
    """Check the answer to the challenge that is out, and give the record as it is now."""
    login = session.login
    username, handle = login.username, login.handle
    _check_throttle(node, session, handle)
    try:
        proven = login.finish(proof, session.handshake_hash, time.monotonic(), commitment)
        record = await node.bank.find_customer(proven.customer)
        # locked, erased or given another key while the challenge was out
        if record is None or record.state == "erased" or record.public != proven.public:
            raise LoginFailed
    except LoginFailed:
        if username:
            _count_failure(node, session, username, handle)
        raise
    try:
        check_lock(record, now_us())
    except LockedOut:
        count_in(node.statistics.auth_failures, "locked_out")
        raise
    node.throttle.succeeded(handle)
    return record


def _count_failure(node: Node, session: Session, username: str, handle: bytes) -> None:
    count_in(node.statistics.auth_failures, "wrong_proof")
    until_s = node.throttle.failed(handle, session.network, time.time())
    if until_s:
        # beside the answer, which must take as long for a username nobody has
        node.server.run_beside(node.bank.lock_after_failures(username, int(until_s * 1e6)))


def _sign_in(node: Node, session: Session, record: LoginRecord, session_id: bytes) -> SignedIn:
    if session.customer:  # two logins of one session ran at once
        raise MessageInvalid("this session is signed in already", {"field": "operation"})
    session.sign_in(record, session_id)
    return _signed_in(node, session)


def _signed_in(node: Node, session: Session) -> SignedIn:
    token, expires_us = node.tokens.issue(session.customer, session.roles, session.session_id, now_us())
    return SignedIn(
        customer=session.customer,
        username=session.username,
        roles=sorted(session.roles),
        session=session.session_id,
        token=token,
        token_expires_us=expires_us,
    )


# --- keys -------------------------------------------------------------------------------------------------------------


async def handle_change_key_begin(node: Node, session: Session, request: ChangeKeyBegin) -> LoginChallenge:
    """Give the challenge with which the old key proves a change; its commitment comes with the proof."""
    handle = node.desk.handle_of(session.username)
    _check_throttle(node, session, handle)
    record = await node.bank.find_customer(session.customer)
    return session.login.begin(record, session.username, b"", time.monotonic(), handle=handle)


async def handle_change_key(node: Node, session: Session, request: ChangeKey) -> Done:
    """Replace the key; every other session of the customer must sign in with the new one."""
    await _prove(node, session, request.proof, request.commitment)
    node.desk.check_key(request.key, session.username, session.handshake_hash)
    done = await node.bank.change_key(session.customer, request.key)
    node.tokens.revoke_customer(session.customer, now_us())
    node.server.end_sessions(session.customer, besides=session.session_id)
    return done


# --- who is here ------------------------------------------------------------------------------------------------------


async def handle_whoami(node: Node, session: Session, request: Whoami) -> UserAnswer:
    """Tell who this session is."""
    record = await node.bank.find_customer(session.customer)
    if record is None:
        raise NotSignedIn
    return UserAnswer(
        customer=record.customer,
        username=record.username,
        name="",
        roles=sorted(record.roles),
        state=record.state,
        created_us=record.created_us,
        locked_until_us=record.locked_until_us,
    )


def handle_sessions(node: Node, session: Session, request_id: int, request: Sessions) -> None:
    """List one's own sessions that are connected here, oldest first."""
    rows = [
        SessionRow(other.session_id, other.since_us, other.address, other.agent, other is session)
        for other in node.server.sessions_of(session.customer)
    ]
    session.answer(request_id, SessionsAnswer(sorted(rows, key=lambda row: row.since_us)))


async def handle_end_session(node: Node, session: Session, request: EndSession) -> Done:
    """End one of one's own sessions and refuse its token; doing it twice is no mistake."""
    if any(other.session_id == request.session for other in node.server.sessions_of(session.customer)):
        await _end_for_good(node, session.customer, request.session)
        node.server.end_sessions(session.customer, request.session)
    return Done()


def handle_status(node: Node, session: Session, request_id: int, request: StatusRequest) -> None:
    """Tell the node's role, position and health."""
    session.answer(request_id, node.status())


HANDLERS: Final[tuple[Handler, ...]] = (
    hot("hello", handle_hello),
    plain("login_begin", handle_login_begin),
    plain("login_finish", handle_login_finish),
    plain("resume", handle_resume),
    plain("register", handle_register),
    hot("renew", handle_renew),
    plain("logout", handle_logout),
    plain("whoami", handle_whoami),
    hot("sessions", handle_sessions),
    plain("end_session", handle_end_session),
    plain("change_key_begin", handle_change_key_begin),
    plain("change_key", handle_change_key),
    hot("status", handle_status),
)
