"""``login``, ``logout``, ``whoami``, ``passwd`` and ``context``: who one is at which bank."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fortress.cli.bootstrap import check_username
from fortress.cli.command import Call, command, current_call, group
from fortress.cli.contexts import Context, Contexts, certificate_fingerprint, parse_address
from fortress.cli.desk import keep_session, open_contexts, reach, visit
from fortress.cli.misuse import Misuse
from fortress.cli.output import Fields, Json, Table, say, show
from fortress.cli.prompts import PASSWORD_FILE, read_password
from fortress.cli.views import time_json, time_text
from fortress.client.address import SCHEME

if TYPE_CHECKING:
    from fortress.client.client import Client
    from fortress.client.me import Me

ADDRESS = click.option("--address", metavar="HOST:PORT[,...]/BANK", help="Where the bank is; makes a context of it.")
CA = click.option(
    "--ca", type=click.Path(path_type=Path), metavar="FILE", help="Certificate of the bank's authority; it is copied."
)
PATH_CA = click.option(
    "--path-ca",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Certificate of the authority of who answers at the address, if that is a gateway or a load balancer.",
)


@command(
    "login",
    "fortress login alice --address 127.0.0.1:7611/a --ca ca.crt",
    "fortress login alice --address gateway.example:7611/b --ca b-ca.crt --path-ca gateway-ca.crt",
    "fortress login",
    "fortress login alice --password-file ./password",
)
@click.argument("username", required=False)
@ADDRESS
@CA
@PATH_CA
@click.option("--key-file", type=click.Path(path_type=Path), help="Sign in with the seed in this file instead.")
@PASSWORD_FILE
def login_command(
    username: str | None,
    address: str | None,
    ca: Path | None,
    path_ca: Path | None,
    key_file: Path | None,
    password_file: Path | None,
) -> None:
    """Sign in. The password stays on this machine: the bank gets a proof that it is known.

    The first time, name the bank's address and its authority; afterwards both are in the context. A gateway or a load
    balancer at that address may have an authority of its own: it sees that you talk to the bank, and not what.
    """
    call = current_call()
    contexts = open_contexts()
    plan = plan_context(call, contexts, username, address, ca, path_ca)
    password = ""
    if key_file is None:
        password = read_password(call, f"Password of {plan.username}", password_file, credential="fortress.password")

    async def sign_in(bank: Client) -> None:
        me = await bank.login(plan.username, password, key_file=key_file or "")
        show_session(call, plan.keep(contexts, me), me)

    plan.reach(call, sign_in)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A context to be, kept only when signing in has worked.

    Attributes:
        name: what it shall be called; empty for ``username@bank``.
        address: ``host:port[,host:port]/bank``.
        username: who signs in.
        ca_pem: the authority's certificate.
        path_ca_pem: that of the authority of who answers at the address, if that is not the bank itself.
    """

    name: str
    address: str
    username: str
    ca_pem: str
    path_ca_pem: str = ""

    @property
    def url(self) -> str:
        """The address as the client library takes it."""
        return f"{SCHEME}{'/'.join(parse_address(self.address))}"

    def keep(self, contexts: Contexts, me: Me) -> Context:
        """Make the context, with the token of its session."""
        context = contexts.make(
            self.name,
            address=self.address,
            username=self.username,
            ca_pem=self.ca_pem,
            path_ca_pem=self.path_ca_pem,
        )
        keep_session(contexts, context, me)
        return context

    def reach(self, call: Call, work: Callable[[Client], Awaitable[None]]) -> None:
        """Do something at the bank of the context to be."""
        reach(call, self.url, self.ca_pem.encode(), work, path_ca=self.path_ca_pem.encode() or None)


def plan_context(
    call: Call,
    contexts: Contexts,
    username: str | None,
    address: str | None,
    ca: Path | None,
    path_ca: Path | None = None,
) -> Plan:
    """Find out where to sign in and as whom: from what was given, and from the context for the rest.

    Raises:
        Misuse: something is missing, or the file of the authority cannot be read.
    """
    if address is None and ca is None and path_ca is None:
        known = contexts.get(call.context if call.context in contexts.names() or not username else "")
        who = check_username(username or known.username)
        name = known.name if who == known.username else call.context
        pem = contexts.ca_file(known).read_text("ascii")
        path_file = contexts.path_ca_file(known)
        path_pem = path_file.read_text("ascii") if path_file is not None else ""
        address = f"{known.address}/{known.bank}"
        return Plan(name=name, address=address, username=who, ca_pem=pem, path_ca_pem=path_pem)
    if not (username and address and ca):
        raise Misuse(
            "a new context needs all of a username, --address and --ca",
            "write it like: fortress login alice --address 127.0.0.1:7611/a --ca ca.crt",
        )
    return Plan(
        name=call.context,
        address=address,
        username=check_username(username),
        ca_pem=_read_authority(ca),
        path_ca_pem=_read_authority(path_ca) if path_ca is not None else "",
    )


def _read_authority(file: Path) -> str:
    try:
        pem = file.read_text("ascii", "replace")
    except OSError as exc:
        raise Misuse(f"the CA file {str(file)!r} cannot be read: {exc.strerror}", "check the name") from exc
    certificate_fingerprint(pem)
    return pem


def show_session(call: Call, context: Context, me: Me) -> None:
    """Tell that one is signed in."""
    signed_in = me.signed_in
    document: Json = {
        "username": signed_in.username,
        "bank": context.bank,
        "roles": list(signed_in.roles),
        "context": context.name,
        "until": time_json(signed_in.token_expires_us),
    }
    until = time_text(signed_in.token_expires_us)
    show(call, document, f"Signed in at {context.bank} as {signed_in.username} ({', '.join(signed_in.roles)}).")
    say(call, f"context {context.name}; the session is good until {until} and is renewed while it is used")


@command("logout", "fortress logout")
def logout_command() -> None:
    """End the session; its token is refused from now on."""
    call = current_call()
    contexts = open_contexts()
    context = contexts.get(call.context)
    if contexts.token(context) is None:
        say(call, "nobody is signed in")
        return

    async def leave(me: Me) -> None:
        await me.logout()

    try:
        visit(call, leave)
    finally:
        contexts.forget_token(context)
    say(call, f"signed out of {context.bank}")


@command("whoami", "fortress whoami", "fortress whoami --json")
def whoami_command() -> None:
    """Ask the bank who this session is."""
    call = current_call()
    context = open_contexts().get(call.context)

    async def ask(me: Me) -> None:
        user = await me.whoami()
        document: Json = {
            "username": user.username,
            "name": user.name,
            "customer": user.customer,
            "roles": list(user.roles),
            "state": user.state,
            "bank": context.bank,
            "context": context.name,
            "address": context.address,
        }
        pairs = [
            ("Username", user.username),
            ("Name", user.name),
            ("Roles", ", ".join(user.roles)),
            ("Bank", f"{context.bank} at {context.address}"),
            ("Context", context.name),
        ]
        show(call, document, Fields(pairs=[pair for pair in pairs if pair[1]]))

    visit(call, ask)


@command("passwd", "fortress passwd", "fortress passwd --password-file ./old --new-password-file ./new")
@PASSWORD_FILE
@click.option(
    "--new-password-file",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Read the new password from the first line of this file.",
)
def passwd_command(password_file: Path | None, new_password_file: Path | None) -> None:
    """Change the password; neither the old nor the new one leaves this machine."""
    call = current_call()
    old = read_password(call, "Present password", password_file)
    new = read_password(call, "New password", new_password_file, confirm=True)

    async def change(me: Me) -> None:
        await me.change_password(old, new)

    visit(call, change)
    show(call, {"changed": True}, "The password is changed.")


context_command = group(
    "context",
    "Client contexts: which bank, and who one is there.",
    "fortress context list",
    "fortress context use alice@a",
)


@context_command.command("list", examples=("fortress context list",))
def list_command() -> None:
    """List the contexts; the current one is marked."""
    call = current_call()
    contexts = open_contexts()
    current = contexts.current()
    known = [contexts.get(name) for name in contexts.names()]
    document: list[Json] = [
        {
            "name": each.name,
            "username": each.username,
            "bank": each.bank,
            "address": each.address,
            "ca_sha256": each.ca_sha256,
            "current": each.name == current,
            "signed_in": contexts.token(each) is not None,
        }
        for each in known
    ]
    rows = [
        (
            "*" if each.name == current else "",
            each.name,
            each.username,
            each.bank,
            each.address,
            "yes" if contexts.token(each) else "no",
        )
        for each in known
    ]
    columns = ("", "Context", "Username", "Bank", "Address", "Signed in")
    show(call, document, Table(columns=columns, rows=rows, empty="no contexts yet; 'fortress login' makes one"))


@context_command.command("use", examples=("fortress context use alice@a",))
@click.argument("name")
def use_command(name: str) -> None:
    """Make a context the current one."""
    call = current_call()
    context = open_contexts().use(name)
    show(call, {"current": context.name}, f"{context.username} at {context.bank} is the current context.")


@context_command.command("forget", examples=("fortress context forget alice@a",))
@click.argument("name")
def forget_command(name: str) -> None:
    """Take a context away from this machine, with its token; 'fortress logout' ends its session first."""
    call = current_call()
    open_contexts().forget(name)
    show(call, {"forgotten": name}, f"{name} is forgotten here.")
