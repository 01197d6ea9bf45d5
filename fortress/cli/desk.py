"""A visit at the bank: go on with the session of the context, do something, keep the renewed token.

Commands hand a coroutine to :func:`visit` (signed in) or :func:`knock` (a stranger); asyncio is not seen elsewhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from fortress.cli.command import Call
from fortress.cli.contexts import Context, Contexts, Token, context_folders
from fortress.cli.output import detail
from fortress.errors import FortressError, NotSignedIn

if TYPE_CHECKING:
    from fortress.client.client import Client
    from fortress.client.me import Me

T = TypeVar("T")

TRY_S_MAX: Final = 5.0
RENEW_LEFT_S: Final = 600
"""A token with less time left is renewed on the way, so that who works on stays signed in."""
AGENT: Final = "fortress command line"


def open_contexts() -> Contexts:
    """Give the contexts of the person who runs this."""
    return Contexts(*context_folders(os.environ))


def visit(call: Call, work: Callable[[Me], Awaitable[T]]) -> T:
    """Do something as the person of the context.

    Raises:
        NotSignedIn: there is no session; nothing was sent.
        TokenRejected: the session is over.
        FortressError: whatever the work raises.
    """
    contexts = open_contexts()
    context = contexts.get(call.context)
    token = contexts.token(context)
    if token is None:
        raise NotSignedIn(f"nobody is signed in at context {context.name!r}")
    kept = token

    async def signed_in(client: Client) -> T:
        me = await client.resume(kept.token)
        result = await work(me)
        await _keep_session(contexts, context, me, kept)
        return result

    return knock(call, context, signed_in)


def knock(call: Call, context: Context, work: Callable[[Client], Awaitable[T]]) -> T:
    """Do something at the bank of a context, without a session.

    Raises:
        Unreachable: no address of the bank answers.
        ServerNotTrusted: what answers is not the bank.
        FortressError: whatever the work raises.
    """
    contexts = open_contexts()
    return reach(call, context.url, contexts.ca_file(context), work, path_ca=contexts.path_ca_file(context))


def reach(
    call: Call,
    url: str,
    ca: Path | bytes,
    work: Callable[[Client], Awaitable[T]],
    *,
    path_ca: Path | bytes | None = None,
) -> T:
    """Do something at the bank of an address, trusting the authority in a file or in PEM.

    Args:
        path_ca: the authority of who answers at the address, if that is not the bank itself.
    """
    import asyncio  # costs a fifth of the start-up; help and explain go without

    from fortress.client.client import connect

    detail(call, f"connecting to {url}")

    async def run() -> T:
        client = connect(
            url,
            ca=ca,
            path_ca=path_ca,
            timeout_s=min(call.timeout_s, TRY_S_MAX),
            deadline_s=call.timeout_s,
            agent=AGENT,
        )
        async with client as bank:
            return await work(bank)

    return asyncio.run(run())


def keep_session(contexts: Contexts, context: Context, me: Me) -> None:
    """Keep the token of a session that was just begun."""
    signed_in = me.signed_in
    token = Token(username=signed_in.username, token=signed_in.token, expires_us=signed_in.token_expires_us)
    contexts.keep_token(context, token)


@contextmanager
def telling(**facts: str) -> Iterator[None]:
    """Add to a failure what only the command knows, such as the currency of the amounts or how to repeat it."""
    try:
        yield
    except FortressError as error:
        error.facts = {**error.facts, **facts}
        raise


async def _keep_session(contexts: Contexts, context: Context, me: Me, kept: Token) -> None:
    try:
        signed_in = me.signed_in
    except NotSignedIn:
        contexts.forget_token(context)  # the work was to sign out
        return
    if signed_in.token_expires_us / 1e6 - time.time() < RENEW_LEFT_S:
        await me.renew()
    if me.signed_in.token != kept.token:
        keep_session(contexts, context, me)
