"""``profile``: contact data, which the bank keeps only encrypted under a key of the person's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fortress.cli.command import Call, current_call, group
from fortress.cli.desk import visit
from fortress.cli.misuse import Misuse
from fortress.cli.output import Fields, Json, show

if TYPE_CHECKING:
    from fortress.client.me import Me
    from fortress.protocol.accounts import Profile

profile_command = group(
    "profile", "Read and change contact data.", "fortress profile show", "fortress profile set --email a@example.org"
)


@profile_command.command("show", examples=("fortress profile show", "fortress profile show bob"))
@click.argument("username", required=False, default="")
def show_command(username: str) -> None:
    """Show contact data: one's own, or as staff somebody's."""
    call = current_call()

    async def read(me: Me) -> None:
        _show_profile(call, await me.get_profile(username))

    visit(call, read)


@profile_command.command("set", examples=("fortress profile set --email alice@example.org --phone '+49 30 1234'",))
@click.option("--name", help="As people call you.")
@click.option("--email", help="Address for mail.")
@click.option("--phone", help="Telephone number.")
@click.option("--address", help="Postal address.")
def set_command(name: str | None, email: str | None, phone: str | None, address: str | None) -> None:
    """Change one's contact data; what is not named stays."""
    call = current_call()
    given = {"name": name, "email": email, "phone": phone, "address": address}
    changes = {field: value for field, value in given.items() if value is not None}
    if not changes:
        raise Misuse("nothing to change was named", "name at least one of --name, --email, --phone, --address")

    async def change(me: Me) -> None:
        from msgspec.structs import replace

        profile = replace(await me.get_profile(), **changes)
        await me.set_profile(profile)
        _show_profile(call, profile)

    visit(call, change)


def _show_profile(call: Call, profile: Profile) -> None:
    names = ("name", "email", "phone", "address")
    document: Json = {field: getattr(profile, field) for field in names}
    show(call, document, Fields(pairs=[(field.capitalize(), getattr(profile, field)) for field in names]))
