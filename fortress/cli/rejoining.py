"""``rejoin``: a node whose data is lost or not to be trusted begins anew as an empty member of its pair.

Nothing is deleted: its data goes into ``replaced/`` beside it. The order makes a crash harmless: first the disk becomes
another instance, which the register does not count; then the data goes aside; only then the quarantine is lifted.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fortress.cli.command import Call, command, current_call
from fortress.cli.configuration import load_settings
from fortress.cli.misuse import Misuse
from fortress.cli.output import Json, say, show
from fortress.cli.prompts import confirm_name
from fortress.errors import FortressError, StateFileDamaged

if TYPE_CHECKING:
    from fortress.config import Settings

REPLACED: Final = "replaced"
DATA: Final = ("journal", "ledger.db*", "people.db*", "bootstrap.json", "orphaned", "incoming*")
"""What belongs to one life of a disk. Keys, certificates, settings and the log of events stay."""


@command("rejoin", "fortress rejoin ./bank-a-2", "fortress rejoin ./bank-a-2 --confirm node-2")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--confirm", "typed", metavar="NAME", help="The node's name, to go on without being asked.")
def rejoin_command(folder: Path | None, typed: str | None) -> None:
    """Begin anew as the standby: put this node's data aside; at its next start it gets everything from the primary.

    For a node in quarantine, one whose disk was lost or cloned, or one whose data was restored from a backup. The node
    must not run, and the other node must be primary.
    """
    from fortress.pair.chronicle import Chronicle
    from fortress.server.folder import data_folder, locked

    call = current_call()
    settings = load_settings(call, folder)
    if not settings.pair.peer:
        raise Misuse(
            f"{settings.node.name} is a node alone: what it holds is nowhere else",
            "restore it from a backup instead; 'fortress explain FT-5001' says more",
        )
    with locked(settings):
        _check_primary(call, settings)
        question = f"The data of {settings.node.name} goes aside; it gets everything anew from the other node."
        confirm_name(call, question, settings.node.name, typed)
        moved = put_aside(settings)
        Chronicle(data_folder(settings), settings.node.name).write("rejoined")
    document: Json = {"node": settings.node.name, "replaced": str(moved) if moved else None}
    sentence = f"the old data is in {str(moved)!r}; delete it when all is well" if moved else "there was no data"
    show(call, document, f"{settings.node.name} begins anew; {sentence}")
    say(call, f"next: fortress serve {settings.folder}")


def put_aside(settings: Settings, *, now: datetime | None = None) -> Path | None:
    """Make the disk a new member of the pair and move its data aside; may be repeated after a crash.

    Args:
        settings: of the folder, which this process has locked.
        now: the present time; the clock's if not given.

    Returns:
        where the old data is now; None if there was none.
    """
    from fortress.pair.control import CONTROL_NAME, Control
    from fortress.server.folder import data_folder

    data = data_folder(settings)
    moment = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    target = data / REPLACED / moment
    names = list(DATA)
    control: Control | None = None
    try:
        control = Control.open(data / CONTROL_NAME)
        control.new_instance()
    except FileNotFoundError:
        pass  # a wiped disk: the next start makes another file, which is another instance
    except StateFileDamaged:
        names.append(CONTROL_NAME)  # damaged, so worth no more than none
    try:
        moved = _move(data, names, target)
        if settings.folder != data:
            moved |= _move(settings.folder, ["bootstrap.json"], target)
        if control is not None and control.quarantined:
            control.lift_quarantine()
    finally:
        if control is not None:
            control.close()
    return target if moved else None


def _move(source: Path, patterns: list[str], target: Path) -> bool:
    found = sorted({path for pattern in patterns for path in source.glob(pattern)})
    for path in found:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.rename(target / path.name)
    for folder in (target, source) if found else ():
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return bool(found)


def _check_primary(call: Call, settings: Settings) -> None:
    """Put nothing aside while the other node is not known to have everything."""
    from fortress.cli.status import read_peer

    way_out = "start the other node and see that it is primary: 'fortress status'"
    try:
        document = read_peer(call, settings)
    except FortressError as exc:
        raise Misuse(
            f"the other node does not answer at {settings.pair.peer_clients}, so this data may be the only copy",
            way_out,
        ) from exc
    if document.get("role") != "primary":
        raise Misuse(f"{document.get('node')} is not primary, so this data may be the only copy", way_out)
