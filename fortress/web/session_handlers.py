"""Handlers of the session: who is there, the cookie's beginning and end, contact data, the stream of events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from msgspec import structs

from fortress import __version__
from fortress.client.me import Me
from fortress.errors import Refused
from fortress.protocol.accounts import Profile
from fortress.protocol.sessions import SessionRow
from fortress.web import shapes
from fortress.web.administration_handlers import ROLES
from fortress.web.call import Call, Context, Entrance, Event, Handler
from fortress.web.conversions import time_of
from fortress.web.sessions import Sessions
from fortress.web.streams import Streams

AGENT_LENGTH_MAX: Final = 140
AGENT: Final = "pages "
"""What a session of the pages is called in the bank's list: this, the browser's address, and its own name."""


def agent_of(address: str, agent: str) -> str:
    """Give what the bank shall list a browser's session as."""
    plain = "".join(char if char.isascii() and char.isprintable() else "?" for char in f"{address} {agent}")
    return f"{AGENT}{plain}".strip()[:AGENT_LENGTH_MAX]


async def handle_site(call: Call) -> shapes.Site:
    """Tell which bank this is."""
    context = call.context
    return shapes.Site(context.bank, context.kind, __version__, demo=context.laboratory is not None)


async def handle_session(call: Call) -> shapes.Session:
    """Tell who is signed in, as the bank says it now."""
    await call.me.whoami()
    return await _session_of(call, call.me)


async def handle_begin_session(call: Call) -> Entrance:
    """Take the token that a ceremony ended with, and have it in the cookie from now on."""
    sessions = call.context.shared(Sessions)
    agent = agent_of(call.address, call.agent)
    async with sessions.lease(call.body.token, agent, address=call.address, renews=False) as lease:
        me = lease.seat.me
        token = sessions.issue(lease.seat, me.signed_in.token)
        return Entrance(answer=await _session_of(call, me), token=token)


async def handle_renew_session(call: Call) -> Entrance:
    """Give the cookie a new token, with its full time."""
    token = (await call.me.renew()).token
    call.context.shared(Sessions).note(call.session, token)
    return Entrance(answer=await _session_of(call, call.me), token=token)


async def handle_end_session(call: Call) -> Entrance:
    """Sign out; the bank refuses all tokens of this session from now on.

    If the bank cannot be asked now, the session goes on there. The client here has forgotten it, so that trying again
    must find another one, else it would be told that the session is over while the token is still good.
    """
    try:
        await call.me.logout()
    finally:
        call.context.shared(Sessions).drop(call.session)
    return Entrance(answer=shapes.Done(), token="")


async def handle_sessions(call: Call) -> shapes.SessionList:
    """List one's own sessions, each once, however many processes hold a connection of it."""
    rows: dict[bytes, SessionRow] = {}
    for row in await call.me.sessions():
        rows.setdefault(row.session, row)
    return shapes.SessionList([_row_of(row, call.session) for row in rows.values()])


async def handle_end_other_session(call: Call) -> shapes.Done:
    """End another of one's own sessions."""
    await call.me.end_session(bytes.fromhex(call.path.id))
    return shapes.Done()


async def handle_profile(call: Call) -> shapes.Profile:
    """Read one's contact data."""
    return shapes.Profile(**structs.asdict(await call.me.get_profile()))


async def handle_set_profile(call: Call) -> shapes.Done:
    """Replace one's contact data."""
    done = await call.me.set_profile(Profile(**structs.asdict(call.body)))
    return shapes.Done(done.position)


async def handle_stream(call: Call) -> AsyncIterator[Event]:
    """Tell what happens."""
    return call.context.shared(Streams).listen(call)


async def _session_of(call: Call, me: Me) -> shapes.Session:
    context: Context = call.context
    signed_in = me.signed_in
    # of the browser's token, not of this connection's own, which renews itself
    expires_us = context.shared(Sessions).expires_us(signed_in.session.hex()) or signed_in.token_expires_us
    try:
        name = (await me.get_profile()).name
    except Refused:
        name = ""  # a service has no contact data
    return shapes.Session(
        username=signed_in.username,
        name=name,
        roles=[ROLES[role] for role in signed_in.roles if role in ROLES],
        anti_forgery=call.anti_forgery,
        expires=time_of(expires_us),
        bank=context.bank,
        kind=context.kind,
        demo=context.laboratory is not None,
    )


def _row_of(row: SessionRow, current: str) -> shapes.SessionRow:
    address, agent = row.address, row.agent
    if agent.startswith(AGENT):
        address, _, agent = agent.removeprefix(AGENT).partition(" ")
    id = row.session.hex()
    return shapes.SessionRow(id, time_of(row.since_us), address, agent, current=id == current)


HANDLERS: Final[dict[str, Handler]] = {
    "site": handle_site,
    "session": handle_session,
    "begin_session": handle_begin_session,
    "renew_session": handle_renew_session,
    "end_session": handle_end_session,
    "sessions": handle_sessions,
    "end_other_session": handle_end_other_session,
    "profile": handle_profile,
    "set_profile": handle_set_profile,
    "stream": handle_stream,
}
