"""``positions`` and ``windows``: where the banks of a gateway stand with each other, and the windows they settle in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from fortress.cli.command import command, current_call, group
from fortress.cli.desk import visit
from fortress.cli.failures import Exit
from fortress.cli.output import Fields, Json, Table, show
from fortress.cli.prompts import confirm
from fortress.cli.users import show_done
from fortress.cli.views import money_json, money_text, time_json, time_text

if TYPE_CHECKING:
    from fortress.client.me import Me
    from fortress.protocol.switching import PositionView, WindowRow, WindowView


@command("positions", "fortress positions", "fortress --context gus@gateway positions --json")
def positions_command() -> None:
    """Show where the banks stand with each other, at a gateway (staff)."""
    call = current_call()

    async def read(me: Me) -> None:
        answer = await me.switching.positions()
        document: Json = {
            "position": answer.position,
            "positions": [position_json(each) for each in answer.positions],
        }
        show(call, document, positions_table(answer.positions))

    visit(call, read)


windows_command = group(
    "windows",
    "Settlement windows of a gateway: what each bank paid and was paid, compared with the banks' own books.",
    "fortress windows list",
    "fortress windows show",
    "fortress windows close",
)


@windows_command.command("list", examples=("fortress windows list", "fortress windows list --limit 5 --json"))
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True, help="The newest ones.")
def list_command(limit: int) -> None:
    """List windows, the open one first (staff of the gateway)."""
    call = current_call()

    async def read(me: Me) -> None:
        windows = await me.switching.windows(limit=limit)
        rows = [
            (number_text(window.number), str(window.after), str(window.to), time_text(window.closed_us))
            for window in windows
        ]
        columns = (">Window", ">After", ">To", "Closed")
        show(call, [window_json(window) for window in windows], Table(columns=columns, rows=rows, empty="no windows"))

    visit(call, read)


@windows_command.command("show", examples=("fortress windows show", "fortress windows show 3"))
@click.argument("number", type=click.IntRange(0), default=0, required=False)
def show_command(number: int) -> int:
    """Report one window, the open one by default, and compare it with each bank's books; exit 7 if one differs."""
    call = current_call()

    async def read(me: Me) -> int:
        window = await me.switching.window(number)
        show(call, window_json(window), window_fields(window), window_table(window))
        return Exit.integrity if any(row.agrees == "no" for row in window.rows) else Exit.ok

    return visit(call, read)


@windows_command.command("close", examples=("fortress windows close", "fortress windows close --yes --json"))
@click.option("--yes", is_flag=True, help="Do not ask.")
def close_command(yes: bool) -> None:
    """Close the open window, so that the banks settle what it comes to (administrator of the gateway)."""
    call = current_call()
    confirm(call, "Close the open window?", yes=yes)

    async def close(me: Me) -> None:
        done = await me.switching.close_window()
        show_done(call, done, "The window is closed; 'fortress windows list' shows its number.")

    visit(call, close)


def number_text(number: int) -> str:
    """Name a window for people."""
    return str(number) if number else "open"


def position_json(view: PositionView) -> dict[str, Json]:
    """One position for programs."""
    return {
        "bank": view.bank,
        "currency": view.currency,
        "account": str(view.account),
        "position": money_json(view.position_minor, view.currency),
        "reserved": money_json(view.reserved_minor, view.currency),
        "cap": money_json(view.cap_minor, view.currency),
    }


def positions_table(positions: Sequence[PositionView]) -> Table:
    """Positions for people, one a row."""
    rows = [
        (
            view.bank,
            *(money_text(minor, view.currency) for minor in (view.position_minor, view.reserved_minor, view.cap_minor)),
        )
        for view in positions
    ]
    return Table(columns=("Bank", ">Position", ">Reserved", ">Cap"), rows=rows, empty="no positions yet")


def window_json(window: WindowView) -> dict[str, Json]:
    """One window for programs."""
    return {
        "number": window.number,
        "after": window.after,
        "to": window.to,
        "closed": time_json(window.closed_us),
        "banks": [_row_json(row) for row in window.rows],
    }


def _row_json(row: WindowRow) -> dict[str, Json]:
    sums = {"out": row.out_minor, "in": row.in_minor, "net": row.net_minor}
    return {
        "bank": row.bank,
        "currency": row.currency,
        "payments": row.payments,
        **{name: money_json(minor, row.currency) for name, minor in sums.items()},
        "root": row.root.hex(),
        "agrees": row.agrees,
        "differs": row.differs or None,
    }


def window_fields(window: WindowView) -> Fields:
    """What a window spans, for people."""
    pairs = [
        ("Window", number_text(window.number)),
        ("Positions", f"{window.after + 1} to {window.to}" if window.to > window.after else "none yet"),
        ("Closed", time_text(window.closed_us)),
    ]
    return Fields(pairs=[pair for pair in pairs if pair[1]])


def window_table(window: WindowView) -> Table:
    """What each bank paid and was paid within a window, for people."""
    rows = [
        (
            row.bank,
            str(row.payments),
            *(money_text(minor, row.currency) for minor in (row.out_minor, row.in_minor, row.net_minor)),
            row.agrees if not row.differs else f"{row.agrees}: {row.differs}",
        )
        for row in window.rows
    ]
    columns = ("Bank", ">Payments", ">Out", ">In", ">Net", "Books agree")
    return Table(columns=columns, rows=rows, empty="no payments in it yet")
