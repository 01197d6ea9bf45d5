"""``balance``, ``history`` and ``statement``: what is on an account, and how it came there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from fortress.cli.command import command, current_call
from fortress.cli.desk import visit
from fortress.cli.listings import account_fields, account_json, accounts_table, entries_table, entry_json
from fortress.cli.misuse import Misuse
from fortress.cli.output import Fields, Json, show
from fortress.cli.views import money_json, money_text, month_span, parse_time, time_json

if TYPE_CHECKING:
    from fortress.client.me import Me
    from fortress.protocol.reading import HistoryRow

ACCOUNT = click.argument("account", type=int, required=False, default=0)
AS_OF = click.option("--as-of", metavar="TIME", help="As it was at a past time, like 2026-03-31T14:05:00Z.")
PAGE_ROWS: Final = 500


@command("balance", "fortress balance", "fortress balance --json", "fortress balance 4711000093 --as-of 2026-03-31")
@ACCOUNT
@AS_OF
def balance_command(account: int, as_of: str | None) -> None:
    """Show what is there, available and on hold: of one account in full, or of all one's accounts."""
    call = current_call()
    at = parse_time(as_of) if as_of else None

    async def read(me: Me) -> None:
        if account:
            view = await me.account(account, as_of=at)
            show(call, account_json(view), account_fields(view))
            return
        views = await me.accounts()
        if at:
            views = [await me.account(view.number, as_of=at) for view in views]
        show(call, [account_json(view) for view in views], accounts_table(views))

    visit(call, read)


@command(
    "history",
    "fortress history",
    "fortress history --since 2026-03-01 --kind deposit",
    "fortress history 4711000093 --limit 1000 --json",
)
@ACCOUNT
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="Entries at most.")
@click.option("--since", metavar="TIME", help="From this time on.")
@click.option("--until", metavar="TIME", help="Before this time.")
@click.option("--kind", "kinds", multiple=True, help="Only this kind, like transfer or deposit; may be repeated.")
@click.option("--with", "counterparty", type=int, default=0, metavar="ACCOUNT", help="Only with this other account.")
@click.option("--text", default="", help="Only with this text in the reference.")
@AS_OF
def history_command(
    account: int,
    limit: int,
    since: str | None,
    until: str | None,
    kinds: tuple[str, ...],
    counterparty: int,
    text: str,
    as_of: str | None,
) -> None:
    """Show what happened on an account, newest first."""
    call = current_call()

    async def read(me: Me) -> None:
        from fortress.client.reading import Filter

        only = Filter(
            kinds=kinds,
            since=parse_time(since) if since else None,
            until=parse_time(until) if until else None,
            counterparty=counterparty,
            text=text,
            as_of=parse_time(as_of) if as_of else None,
        )
        view = await me.account(account)
        rows: list[HistoryRow] = []
        async for row in me.history(view.number, only=only, page_size=min(limit, PAGE_ROWS)):
            rows.append(row)
            if len(rows) >= limit:
                break
        document: Json = {
            "account": str(view.number),
            "currency": view.currency,
            "entries": [entry_json(row, view.currency) for row in rows],
        }
        show(call, document, entries_table(rows, view.currency))

    visit(call, read)


@command(
    "statement",
    "fortress statement --month 2026-03",
    "fortress statement --from 2026-01-01 --to 2026-04-01 --json",
)
@ACCOUNT
@click.option("--month", metavar="YYYY-MM", help="The month, in UTC; the present one by default.")
@click.option("--from", "since", metavar="TIME", help="From this time on, instead of a month.")
@click.option("--to", "until", metavar="TIME", help="Before this time.")
def statement_command(account: int, month: str | None, since: str | None, until: str | None) -> None:
    """Cut a statement: opening and closing balance, sums and entries, and the signed head it was cut from."""
    call = current_call()
    start, end = _span(month, since, until)

    async def read(me: Me) -> None:
        number = account or (await me.account()).number
        first = page = await me.statement(start, end, number, limit=PAGE_ROWS)
        rows = list(page.rows)
        while page.cursor:
            page = await me.statement(start, end, number, cursor=page.cursor, limit=PAGE_ROWS)
            rows += page.rows
        sums = {name: getattr(first, f"{name}_minor") for name in ("opening", "debits", "credits", "closing")}
        head = first.head
        document: Json = {
            "account": str(number),
            "currency": first.currency,
            "from": start.astimezone(UTC).isoformat(),
            "to": end.astimezone(UTC).isoformat(),
            **{name: money_json(minor, first.currency) for name, minor in sums.items()},
            "entries": [entry_json(row, first.currency) for row in rows],
            "head": {
                "bank": head.bank,
                "epoch": head.epoch,
                "tree_size": head.tree_size,
                "root": head.root.hex(),
                "time": time_json(head.time_us),
                "signature": head.signature.hex(),
                "key": head.key.hex(),
            },
        }
        pairs = [
            ("Account", str(number)),
            ("From", f"{start:%Y-%m-%d %H:%M %Z}"),
            ("To", f"{end:%Y-%m-%d %H:%M %Z}"),
            *((name.capitalize(), money_text(minor, first.currency)) for name, minor in sums.items()),
            ("Head", f"{head.tree_size} entries, root {head.root.hex()[:16]}"),
        ]
        show(call, document, Fields(title="Statement", pairs=pairs), "", entries_table(rows, first.currency))

    visit(call, read)


def _span(month: str | None, since: str | None, until: str | None) -> tuple[datetime, datetime]:
    if since or until:
        if month or not (since and until):
            raise Misuse("a span needs both --from and --to, and no --month", "give both, or --month alone")
        return parse_time(since), parse_time(until)
    return month_span(month or f"{datetime.now(UTC):%Y-%m}")
