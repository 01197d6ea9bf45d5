"""Signing payment orders on the command line: who is asked for what.

What is kept between two calls is a token, and a token signs nothing. So a command that shall sign signs in anew, with
the password or a key file, and keeps the new session in place of the old one; the key itself is never kept.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from fortress.cli.command import Call
from fortress.cli.contexts import Context, Contexts
from fortress.cli.desk import AGENT, TRY_S_MAX, keep_session, knock, open_contexts, visit
from fortress.cli.misuse import Misuse
from fortress.cli.prompts import read_password
from fortress.errors import NotSignedIn

if TYPE_CHECKING:
    from fortress.client.client import Client
    from fortress.client.me import Me

T = TypeVar("T")

SIGN = click.option("--sign", is_flag=True, help="Sign the order with your own key; asks for the password.")
KEY_FILE = click.option(
    "--key-file", type=click.Path(path_type=Path), metavar="FILE", help="Sign with the seed in this file instead."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a person signs in with, and so signs orders with.

    Attributes:
        username: whose it is.
        password: as typed; empty when there is a file.
        file: with the seed.
    """

    username: str
    password: str = ""
    file: Path | None = None

    async def login(self, bank: Client) -> Me:
        """Sign in; the session signs what it sends."""
        return await bank.login(self.username, self.password, key_file=self.file or "")


def key_of(
    call: Call, context: Context, *, sign: bool, key_file: Path | None, password_file: Path | None
) -> Key | None:
    """Get what to sign with, if anything was asked for: the file named, or the password, by asking if need be.

    Raises:
        Misuse: both were named, or there is nowhere to get the password from.
    """
    if key_file is not None and password_file is not None:
        raise Misuse("an order is signed with one key", "leave out --key-file or --password-file")
    if key_file is not None:
        return Key(username=context.username, file=key_file)
    if not sign and password_file is None:
        return None
    password = read_password(call, f"Password of {context.username}", password_file, credential="fortress.password")
    return Key(username=context.username, password=password)


def visit_with(call: Call, key: Key | None, work: Callable[[Me], Awaitable[T]]) -> T:
    """Do something as the person of the context, in a session that signs if there is a key.

    Raises:
        FortressError: as :func:`fortress.cli.desk.visit`.
    """
    if key is None:
        return visit(call, work)
    contexts = open_contexts()
    context = contexts.get(call.context)

    async def signed_in(bank: Client) -> T:
        me = await key.login(bank)
        keep_session(contexts, context, me)
        return await work(me)

    return knock(call, context, signed_in)


def sessions(
    call: Call, contexts: Contexts, context: Context, key: Key | None
) -> Callable[[], AbstractAsyncContextManager[Me]]:
    """Give what opens a session of the context's person, again and again; its token is kept when it ends.

    Without a key it goes on by the token, which is good for minutes, unless it is used.
    """
    from fortress.client.client import connect

    @asynccontextmanager
    async def session() -> AsyncIterator[Me]:
        ca, path_ca = contexts.ca_file(context), contexts.path_ca_file(context)
        client = connect(
            context.url,
            ca=ca,
            path_ca=path_ca,
            timeout_s=min(call.timeout_s, TRY_S_MAX),
            deadline_s=call.timeout_s,
            agent=AGENT,
        )
        async with client as bank:
            token = contexts.token(context)
            if key is not None:
                me = await key.login(bank)
            elif token is not None:
                me = await bank.resume(token.token)
            else:
                raise NotSignedIn(f"nobody is signed in at context {context.name!r}")
            try:
                yield me
            finally:
                keep_session(contexts, context, me)

    return session
