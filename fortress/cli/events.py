"""``events``: what happened to the nodes of a pair, as their folders remember it; also while nothing runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fortress.cli.command import command, current_call
from fortress.cli.output import Json, Table, show
from fortress.cli.views import time_text

if TYPE_CHECKING:
    from fortress.pair.chronicle import Happening


@command("events", "fortress events ./bank-a", "fortress events ./bank-a ./bank-a-2 --limit 20 --json")
@click.argument("folders", type=click.Path(path_type=Path), nargs=-1, metavar="DIR")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="The newest ones.")
def events_command(folders: tuple[Path, ...], limit: int) -> None:
    """Show what happened to a bank's nodes, oldest first: takeovers and how long they took, restarts, refusals.

    Reads the folders named, or the present one. Times are those of each node's own clock.
    """
    from fortress.cli.configuration import load_settings
    from fortress.pair.chronicle import read, sentence
    from fortress.server.folder import data_folder

    call = current_call()
    found = [
        happening
        for folder in folders or (call.config,)
        for happening in read(data_folder(load_settings(call, folder)), limit=limit)
    ]
    found = sorted(found, key=lambda each: each.time)[-limit:]
    document: list[Json] = [
        {
            "time": each.time.isoformat(),
            "node": each.node,
            "epoch": each.epoch,
            "name": each.name,
            "facts": dict(each.facts),
            "sentence": sentence(each),
        }
        for each in found
    ]
    rows = [
        (time_text(int(each.time.timestamp() * 1_000_000)), each.node, _term(each), sentence(each)) for each in found
    ]
    show(call, document, Table(columns=("Time", "Node", ">Term", "What happened"), rows=rows, empty="nothing yet"))


def _term(happening: Happening) -> str:
    """The term that an event begins, or else the one in which it happened."""
    return str(happening.facts.get("epoch", happening.epoch))
