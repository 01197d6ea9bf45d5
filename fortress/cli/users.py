"""``user``: the people of a bank, as its administrators see them; and how an invited person becomes one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fortress.cli.bootstrap import check_username
from fortress.cli.command import Call, current_call, group
from fortress.cli.desk import open_contexts, visit
from fortress.cli.listings import user_json, users_table
from fortress.cli.output import Fields, show
from fortress.cli.prompts import PASSWORD_FILE, confirm, confirm_name, read_password
from fortress.cli.sessions import ADDRESS, CA, PATH_CA, plan_context, show_session
from fortress.cli.views import parse_span, time_json, time_text
from fortress.client.ids import format_id

if TYPE_CHECKING:
    from fortress.client.client import Client
    from fortress.client.me import Me
    from fortress.protocol.administration import UserAnswer
    from fortress.protocol.fields import Done

ROLES: Final = ("customer", "teller", "administrator", "auditor")
PAGE_ROWS: Final = 500
USERNAME = click.argument("username")
ROLE = click.Choice(ROLES)

user_command = group(
    "user",
    "The people of the bank.",
    "fortress user list",
    "fortress user add dora --role teller --password-file ./first-password",
    "fortress user invite",
)


@user_command.command(
    "add", examples=("fortress user add dora --name 'Dora Diaz'", "fortress user add tom --role teller")
)
@USERNAME
@click.option("--role", "roles", type=ROLE, multiple=True, help="May be repeated; customer by default.")
@click.option("--name", default="", help="As people call them.")
@PASSWORD_FILE
def add_command(username: str, roles: tuple[str, ...], name: str, password_file: Path | None) -> None:
    """Make a customer with a first password (administrator); they change it with 'fortress passwd'."""
    call = current_call()
    check_username(username)
    password = read_password(call, f"First password of {username}", password_file, confirm=True)

    async def add(me: Me) -> None:
        from fortress.protocol.accounts import Profile

        user = await me.administration.create_user(
            username, password, roles=roles or ("customer",), profile=Profile(name=name)
        )
        if not show_waiting(call, user.approval):
            show_user(call, user)

    visit(call, add)


@user_command.command("list", examples=("fortress user list", "fortress user list --json"))
def list_command() -> None:
    """List all customers (staff)."""
    call = current_call()

    async def read(me: Me) -> None:
        page = await me.administration.users(limit=PAGE_ROWS)
        users = list(page.users)
        while page.next_after:
            page = await me.administration.users(after=page.next_after, limit=PAGE_ROWS)
            users += page.users
        show(call, [user_json(user) for user in users], users_table(users))

    visit(call, read)


@user_command.command("show", examples=("fortress user show alice",))
@USERNAME
def show_command(username: str) -> None:
    """Show one customer (staff)."""
    call = current_call()

    async def read(me: Me) -> None:
        show_user(call, await me.administration.user(username))

    visit(call, read)


@user_command.command("lock", examples=("fortress user lock alice", "fortress user lock alice --for 7d"))
@USERNAME
@click.option("--for", "span", help="How long, like 12h or 7d; until unlocked by default.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def lock_command(username: str, span: str | None, yes: bool) -> None:
    """Lock a customer out (administrator)."""
    call = current_call()
    until = datetime.now(UTC) + parse_span(span) if span else None
    confirm(call, f"Lock {username} out?", yes=yes)

    async def lock(me: Me) -> None:
        from fortress.client.reading import to_us

        done = await me.administration.lock(username, until_us=to_us(until))
        show_done(call, done, f"{username} is locked out.")

    visit(call, lock)


@user_command.command("unlock", examples=("fortress user unlock alice",))
@USERNAME
def unlock_command(username: str) -> None:
    """Let a locked customer sign in again (administrator)."""
    call = current_call()

    async def unlock(me: Me) -> None:
        show_done(call, await me.administration.unlock(username), f"{username} may sign in again.")

    visit(call, unlock)


@user_command.command("invite", examples=("fortress user invite", "fortress user invite --role teller --valid 2d"))
@click.option("--role", type=ROLE, default="customer", show_default=True, help="What the person will be.")
@click.option("--valid", default="7d", show_default=True, help="How long the code can be used.")
def invite_command(role: str, valid: str) -> None:
    """Make a one-use code with which a person registers by themselves (administrator)."""
    call = current_call()

    async def invite(me: Me) -> None:
        answer = await me.administration.invite(role, valid_s=int(parse_span(valid).total_seconds()))
        if show_waiting(call, answer.approval):
            return
        document = {"code": answer.code, "role": role, "expires": time_json(answer.expires_us)}
        pairs = [("Code", answer.code), ("Role", role), ("Good until", time_text(answer.expires_us))]
        show(call, document, Fields(pairs=pairs))

    visit(call, invite)


@user_command.command(
    "register",
    examples=("fortress user register dora --address 127.0.0.1:7611/a --ca ca.crt",),
)
@USERNAME
@ADDRESS
@CA
@PATH_CA
@click.option("--name", default="", help="As people call you.")
@click.option(
    "--code-file",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Read the invitation code from the first line of this file; it is asked for otherwise.",
)
@PASSWORD_FILE
def register_command(
    username: str,
    address: str | None,
    ca: Path | None,
    path_ca: Path | None,
    name: str,
    code_file: Path | None,
    password_file: Path | None,
) -> None:
    """Become a customer with an invitation code, and sign in."""
    call = current_call()
    contexts = open_contexts()
    plan = plan_context(call, contexts, username, address, ca, path_ca)
    code = read_password(call, "Invitation code", code_file)
    password = read_password(call, f"New password of {username}", password_file, confirm=True)

    async def register(bank: Client) -> None:
        me = await bank.register(code, username, password, name)
        show_session(call, plan.keep(contexts, me), me)

    plan.reach(call, register)


@user_command.command("role", examples=("fortress user role tom teller customer",))
@USERNAME
@click.argument("roles", nargs=-1, required=True, type=ROLE, metavar="ROLE...")
@click.option("--yes", is_flag=True, help="Do not ask.")
def role_command(username: str, roles: tuple[str, ...], yes: bool) -> None:
    """Replace a customer's roles (administrator, with a second one's approval)."""
    call = current_call()
    confirm(call, f"Give {username} the roles {', '.join(roles)} and no others?", yes=yes)

    async def change(me: Me) -> None:
        done = await me.administration.set_roles(username, roles)
        show_done(call, done, f"{username} is now {', '.join(roles)}.")

    visit(call, change)


@user_command.command("erase", examples=("fortress user erase alice", "fortress user erase alice --confirm alice"))
@USERNAME
@click.option("--confirm", "typed", metavar="USERNAME", help="The name again, instead of typing it when asked.")
def erase_command(username: str, typed: str | None) -> None:
    """Erase a person for ever: the key of their data is destroyed (administrator, with a second one's approval)."""
    call = current_call()
    confirm_name(call, f"This destroys all personal data of {username}, for ever, in backups too.", username, typed)

    async def erase(me: Me) -> None:
        show_done(call, await me.administration.erase(username), f"{username} is erased; the ledger's proofs stay.")

    visit(call, erase)


def show_user(call: Call, user: UserAnswer) -> None:
    """Show one customer."""
    pairs = [
        ("Username", user.username),
        ("Name", user.name),
        ("Roles", ", ".join(user.roles)),
        ("State", user.state),
        ("Locked until", time_text(user.locked_until_us)),
        ("Since", time_text(user.created_us)),
    ]
    show(call, user_json(user), Fields(pairs=[pair for pair in pairs if pair[1]]))


def show_waiting(call: Call, approval: bytes) -> bool:
    """Tell that an act waits for a second administrator, if it does; gives whether."""
    if not approval:
        return False
    text = format_id(approval)
    sentence = f"Nothing was done yet: a second administrator must run 'fortress approve {text}'."
    show(call, {"done": False, "approval": text}, sentence)
    return True


def show_done(call: Call, done: Done, sentence: str) -> None:
    """Tell that an act is done, or that it waits for a second administrator."""
    if not show_waiting(call, done.approval):
        show(call, {"done": True, "position": done.position}, sentence)
