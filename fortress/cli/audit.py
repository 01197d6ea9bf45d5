"""``audit``: a ledger's folder verified offline, the trial balance, and the trail of administrative acts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fortress.cli.command import Call, current_call, group
from fortress.cli.configuration import FOLDER, SET, overrides_of
from fortress.cli.desk import visit
from fortress.cli.failures import Exit
from fortress.cli.listings import trail_json, trail_table, trial_balance_json, trial_balance_table
from fortress.cli.output import Fields, Json, LiveLine, say, show

if TYPE_CHECKING:
    from fortress.client.me import Me
    from fortress.ledger.audit import AuditReport
    from fortress.protocol.administration import TrailRow

PAGE_ROWS: Final = 500

audit_command = group(
    "audit",
    "Check that the books are right, and read who did what.",
    "fortress audit verify ./bank-a",
    "fortress audit balance",
    "fortress audit trail --limit 20",
)


@audit_command.command("verify", examples=("fortress audit verify ./bank-a", "fortress audit verify ./bank-a --json"))
@FOLDER
@SET
def verify_command(folder: Path | None, overrides: tuple[str, ...]) -> int:
    """Check a folder offline, byte for byte: hash chain, tree, balances, sums, tables; exit 7 if anything is wrong.

    The node must not run; a copy of the folder, with its key, will do as well.
    """
    from fortress.ledger.audit import audit_folder
    from fortress.server.folder import data_folder, open_folder

    call = current_call()
    opened = open_folder(folder or call.config, overrides_of(overrides), os.environ)
    line = LiveLine(call)
    try:
        report = audit_folder(
            data_folder(opened.settings),
            bank=opened.settings.node.bank,
            data_key=opened.keyring.data_key,
            store_key=opened.keyring.store_key,
            on_progress=lambda done, last: line.update(f"{done} of {last} records"),
        )
    finally:
        line.close()
        opened.close()
    show_report(call, report)
    return Exit.ok if report.is_right else Exit.integrity


def show_report(call: Call, report: AuditReport) -> None:
    """Show what an audit found."""
    counts = {name: getattr(report, name) for name in ("records", "entries", "accounts", "customers")}
    sums = {name: found.credits_minor - found.debits_minor for name, found in report.currencies.items()}
    document: Json = {
        "whole": report.is_right,
        "bank": report.bank,
        **counts,
        "compared_records": report.compared_records,
        "sums_minor": {name: str(total) for name, total in sums.items()},
        "root": report.tree_root.hex(),
        "errors": report.error_count,
        "findings": [{"severity": f.severity, "what": f.what, "where": f.where} for f in report.findings],
    }
    pairs = [
        *((name.capitalize(), str(count)) for name, count in counts.items()),
        ("Errors", str(report.error_count)),
        ("Sums", ", ".join(f"{name} {total}" for name, total in sums.items())),
        ("Root", report.tree_root.hex()),
        *((finding.severity.capitalize(), f"{finding.what} ({finding.where})") for finding in report.findings),
    ]
    title = "is whole." if report.is_right else "is damaged."
    show(call, document, Fields(title=f"The ledger of {report.bank} {title}", pairs=pairs))


@audit_command.command("balance", examples=("fortress audit balance", "fortress audit balance --json"))
def balance_command() -> int:
    """Add up all accounts and open holds by currency (auditor, administrator); exit 7 if a sum is not as it must be."""
    call = current_call()

    async def read(me: Me) -> bool:
        rows = (await me.administration.trial_balance()).rows
        show(call, [trial_balance_json(row) for row in rows], trial_balance_table(rows))
        return all(row.adds_up for row in rows)

    is_right = visit(call, read)
    say(
        call,
        "every sum is zero, and what is on hold is what the open holds add up to"
        if is_right
        else "the books do not add up",
    )
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
