"""``audit``: a ledger's folder verified offline, the trial balance, and the trail of administrative acts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from fortress.cli.command import current_call, group
from fortress.cli.desk import visit
from fortress.cli.failures import Exit
from fortress.cli.listings import trail_json, trail_table, trial_balance_json, trial_balance_table
from fortress.cli.output import say, show

if TYPE_CHECKING:
    from fortress.client.me import Me
    from fortress.protocol.administration import TrailRow

PAGE_ROWS: Final = 500

audit_command = group(
    "audit",
    "Check that the books are right, and read who did what.",
    "fortress audit verify ./bank-a",
    "fortress audit balance",
    "fortress audit trail --limit 20",
)


@audit_command.command("balance", examples=("fortress audit balance", "fortress audit balance --json"))
def balance_command() -> int:
    """Add up all accounts by currency (auditor, administrator); exit 7 if a sum is not zero."""
    call = current_call()

    async def read(me: Me) -> bool:
        rows = (await me.administration.trial_balance()).rows
        show(call, [trial_balance_json(row) for row in rows], trial_balance_table(rows))
        return all(row.sum_minor == 0 for row in rows)

    is_right = visit(call, read)
    say(call, "every sum is zero" if is_right else "the books do not add up")
    return Exit.ok if is_right else Exit.integrity


@audit_command.command("trail", examples=("fortress audit trail", "fortress audit trail --limit 1000 --json"))
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="Rows at most.")
def trail_command(limit: int) -> None:
    """Show administrative acts and refusals, newest first (auditor, administrator)."""
    call = current_call()

    async def read(me: Me) -> None:
        page = await me.administration.trail(limit=min(limit, PAGE_ROWS))
        rows: list[TrailRow] = list(page.rows)
        while page.cursor and len(rows) < limit:
            page = await me.administration.trail(cursor=page.cursor, limit=min(limit - len(rows), PAGE_ROWS))
            rows += page.rows
        show(call, [trail_json(row) for row in rows], trail_table(rows))

    visit(call, read)
