"""Where words go: data to standard output as tables or JSON, talk to standard error, a live line on terminals only.

rich is loaded for a table on a terminal and for nothing else; elsewhere a table is plain text in columns.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fortress.cli.command import Call

Json = str | int | float | bool | None | Sequence["Json"] | dict[str, "Json"]
GAP: Final = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under headings.

    Attributes:
        columns: headings; one that begins with ``>`` stands, with its cells, at the right.
        rows: a text for each column.
        empty: the sentence for no rows at all.
        title: a line above.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    empty: str = "nothing to show"
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Names and values of one thing, below each other."""

    pairs: Sequence[tuple[str, str]]
    title: str = ""


View = Table | Fields | str


def show(call: Call, document: Json, *views: View) -> None:
    """Print data: the document where JSON is wanted, else the views."""
    if call.json:
        print(json.dumps(document, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))
        return
    for view in views:
        _show_view(call, view)


def say(call: Call, text: str) -> None:
    """Talk to a person, on standard error; silent with ``--quiet``."""
    if not call.quiet:
        print(text, file=sys.stderr, flush=True)


def detail(call: Call, text: str) -> None:
    """Tell what only ``--verbose`` wants to know."""
    if call.verbose:
        print(text, file=sys.stderr, flush=True)


class LiveLine:
    """One line on a terminal's standard error that is written over; nothing at all elsewhere."""

    def __init__(self, call: Call) -> None:
        self._on = not call.quiet and not call.json and sys.stderr.isatty()
        self._shown = False

    def update(self, text: str) -> None:
        """Show this text in place of the last."""
        if self._on:
            from shutil import get_terminal_size  # needed only where there is a terminal

            width = get_terminal_size().columns - 1
            sys.stderr.write("\r\x1b[K" + text[:width])
            sys.stderr.flush()
            self._shown = True

    def close(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


def _show_view(call: Call, view: View) -> None:
    if isinstance(view, str):
        print(view)
    elif isinstance(view, Fields):
        width = max((len(name) for name, _ in view.pairs), default=0)
        lines = [f"{name:<{width}}{GAP}{value}".rstrip() for name, value in view.pairs]
        print(*([view.title] if view.title else []), *lines, sep="\n")
    elif not view.rows:
        say(call, view.empty)
    elif sys.stdout.isatty():
        _show_rich(call, view)
    else:
        print(*_plain_lines(view), sep="\n")


def _plain_lines(table: Table) -> list[str]:
    headings = [column.lstrip(">") for column in table.columns]
    widths = [max(len(row[at]) for row in (headings, *table.rows)) for at in range(len(headings))]
    lines = [table.title] if table.title else []
    for row in (headings, *table.rows):
        cells = [
            f"{cell:>{width}}" if column.startswith(">") else f"{cell:<{width}}"
            for cell, width, column in zip(row, widths, table.columns, strict=True)
        ]
        lines.append(GAP.join(cells).rstrip())
    return lines


def _show_rich(call: Call, table: Table) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(title=table.title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        drawn.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left")
    for row in table.rows:
        # as text, not as markup: a reference with brackets is shown as it is
        drawn.add_row(*(Text(cell) for cell in row))
    Console(no_color=not call.color, highlight=False).print(drawn)
