"""``approve``: what administrators ask for, and a second one decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fortress.cli.command import command, current_call
from fortress.cli.desk import visit
from fortress.cli.listings import approval_json, approvals_table
from fortress.cli.output import Json, show
from fortress.client.ids import format_id, parse_id

if TYPE_CHECKING:
    from fortress.client.me import Me


@command("approve", "fortress approve", "fortress approve ID", "fortress approve ID --decline")
@click.argument("approval", metavar="[ID | list]", required=False, default="list")
@click.option("--decline", is_flag=True, help="Say no instead.")
def approve_command(approval: str, decline: bool) -> None:
    """Approve what another administrator asked for, or decline it; without an id, list what waits."""
    call = current_call()

    async def read(me: Me) -> None:
        rows = await me.administration.approvals()
        show(call, [approval_json(row) for row in rows], approvals_table(rows))

    async def decide(me: Me) -> None:
        id = parse_id(approval)
        done = await me.administration.approve(id, decline=decline)
        word = "declined" if decline else "approved and done"
        document: Json = {"approval": format_id(id), "approved": not decline, "position": done.position}
        show(call, document, f"{format_id(id)} is {word}.")

    visit(call, read if approval == "list" else decide)
