"""``backup`` and ``restore``: a bank in one sealed file, and a node's folder made of one."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fortress.cli.audit import show_report
from fortress.cli.command import Call, command, current_call, group
from fortress.cli.configuration import FOLDER, SET, load_settings
from fortress.cli.failures import Exit
from fortress.cli.misuse import Misuse
from fortress.cli.output import Fields, Json, LiveLine, Table, say, show
from fortress.cli.prompts import confirm
from fortress.cli.views import US, parse_time, time_json, time_text
from fortress.errors import FolderMissing

if TYPE_CHECKING:
    from types import FrameType

    from fortress.server.backups import Made

LEFT_OVER_S: Final = 86_400
"""What an interrupted backup left is cleared away after so long; nobody writes for a day."""
MIB: Final = 1024 * 1024

KEY_FILE: Final = click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The node's key-encryption key, keys/node.key; that of the present folder otherwise.",
)
KEY_COMMAND: Final = click.option(
    "--key-command", default="", metavar="COMMAND", help="A command that prints that key, in place of the file."
)

backup_command = group(
    "backup",
    "Keep a bank in files: one sealed file for each backup, made beside the serving node.",
    "fortress backup create ./bank-a --to /srv/backups",
    "fortress backup list /srv/backups",
    "fortress backup verify /srv/backups/a-node-1-20260331T020000Z-1017.backup",
    "fortress backup prune /srv/backups --keep 14",
)


@backup_command.command(
    "create", examples=("fortress backup create ./bank-a --to /srv/backups", "fortress backup create --to ../backups")
)
@FOLDER
@SET
@click.option(
    "--to", "target", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for backups."
)
def create_command(folder: Path | None, overrides: tuple[str, ...], target: Path) -> None:
    """Write one file with everything that cannot be made again, and read it back.

    The node may serve meanwhile. The file is sealed under the node's key-encryption key, keys/node.key, which is not in
    it: keep a copy of that key elsewhere, or the backup is worth nothing. Keep the file on another machine or disk.
    """
    from fortress.server.backups import create_backup

    call = current_call()
    settings = load_settings(call, folder, overrides)
    with _telling(call, "records written or bytes read back") as tell, _writing(target):
        made = create_backup(settings, os.environ, target, on_progress=tell)
    show(call, _document(made), _fields(made))
    if made.left_out:
        say(call, f"warning: the journal has {made.left_out} more records, which no node has committed yet")
        say(call, "start the node, then make another backup")
    say(call, f"the key to it is {settings.keys.key_file}; keep a copy of that elsewhere")


@backup_command.command("list", examples=("fortress backup list /srv/backups", "fortress backup list . --json"))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def list_command(folder: Path) -> None:
    """List the backups in a folder, oldest first; needs no key and does not check them."""
    from fortress.server.backups import list_backups

    call = current_call()
    with _reading(folder):
        found, others = list_backups(folder)
    rows = [
        (
            made.path.name,
            made.header.bank,
            made.header.node,
            time_text(made.header.made_us),
            str(made.header.position),
            _size(made.size_bytes),
        )
        for made in found
    ]
    columns = ("File", "Bank", "Node", "Made", ">Entries", ">Size")
    show(call, [_document(made) for made in found], Table(columns=columns, rows=rows, empty="no backups"))
    for path in others:
        say(call, f"warning: {path.name} is no backup that this version can read")


@backup_command.command("verify", examples=("fortress backup verify FILE", "fortress backup verify FILE --key-file K"))
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@KEY_FILE
@KEY_COMMAND
def verify_command(file: Path, key_file: Path | None, key_command: str) -> int:
    """Check a backup to its last byte: seals, hash chain, tree, every entry, balances, sums; exit 7 if it is not whole.

    It is what 'fortress audit verify' does with a folder. Nothing is restored.
    """
    from fortress.ledger.backup import Reader
    from fortress.server.restoring import audit_backup

    call = current_call()
    kek = _kek(call, key_file, key_command)
    with _reading(file), Reader(file) as reader, _telling(call, "bytes") as tell:
        report = audit_backup(reader, kek, on_progress=tell)
    show_report(call, report)
    return Exit.ok if report.is_right else Exit.integrity


@backup_command.command("prune", examples=("fortress backup prune /srv/backups --keep 14 --yes",))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--keep", type=click.IntRange(1), required=True, metavar="N", help="So many of each node stay.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune_command(folder: Path, keep: int, yes: bool) -> None:
    """Delete all but the newest backups of each node, and what interrupted ones left."""
    from fortress.server.backups import list_backups, surplus

    call = current_call()
    with _reading(folder):
        found, _ = list_backups(folder)
        old = surplus(found, keep)
        left = _left_over(folder)
    if old:
        confirm(call, f"Delete {len(old)} of {len(found)} backups in {str(folder)!r}?", yes=yes)
    with _writing(folder):
        for made in old:
            made.path.unlink()
        for path in left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    kept = len(found) - len(old)
    document: Json = {"deleted": [made.path.name for made in old], "kept": kept, "left_over": [p.name for p in left]}
    show(call, document, f"{len(old)} deleted, {kept} kept")


@command(
    "restore",
    "fortress restore FILE --into ./bank-a --key-file ./node.key",
    "fortress restore FILE --into ./bank-a --key-file ./node.key --to 2026-03-31T14:05:00Z",
    "fortress restore FILE --into ./bank-a --key-command 'vault read ...'",
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--into", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder to make.")
@KEY_FILE
@KEY_COMMAND
@click.option("--to", "until", default="", metavar="TIME", help="Only what was done up to this time.")
@click.option("--seq", type=click.IntRange(1), default=None, metavar="N", help="Only up to this position.")
def restore_command(
    file: Path, into: Path, key_file: Path | None, key_command: str, until: str, seq: int | None
) -> None:
    """Make a node's folder from a backup: all of it, or as the bank was at an earlier time or position.

    The folder is of a node alone, with the bank's certificates and settings. What the bank acknowledged after that
    moment is lost: do this only when no node has it any more. In a pair whose other node lives, 'fortress rejoin' gives
    this one everything.
    """
    from fortress.ledger.backup import Reader
    from fortress.server.restoring import Moment, restore_backup

    if until and seq:
        raise Misuse("--to and --seq both say how far", "give one of them")
    call = current_call()
    to = Moment(position=seq or 0, time_us=round(parse_time(until).timestamp() * US) if until else 0)
    kek = _kek(call, key_file, key_command)
    with _reading(file), Reader(file) as reader, _telling(call, "bytes read or records replayed") as tell:
        restored = restore_backup(reader, into, kek, to=to, key_command=key_command, on_progress=tell)
    last, node = restored.last, restored.settings.node
    document: Json = {
        "folder": str(into),
        "bank": node.bank,
        "node": node.name,
        "records": last.lsn,
        "position": last.tree_size,
        "until": time_json(last.time_us),
        "epoch": restored.epoch,
    }
    pairs = [
        ("Folder", str(into)),
        ("Records", str(last.lsn)),
        ("Position", str(last.tree_size)),
        ("Until", time_text(last.time_us)),
    ]
    show(call, document, Fields(title=f"Bank {node.bank} is restored.", pairs=pairs))
    say(call, f"a node alone; check its addresses in {into / 'fortress.toml'}, then: fortress serve {into}")


def _kek(call: Call, key_file: Path | None, key_command: str) -> bytes:
    """Fetch the key-encryption key: from what is named, else as the present folder's settings say."""
    from fortress.ledger.keyring import read_kek

    if key_file is not None or key_command:
        environment = {} if key_file is not None else os.environ
        return read_kek(key_file=key_file or Path(), key_command=key_command, environment=environment)
    try:
        settings = load_settings(call)
    except FolderMissing as exc:
        raise Misuse("which key opens it? there is no node's folder here", "name it with --key-file") from exc
    keys = settings.keys
    return read_kek(key_file=settings.path(keys.key_file), key_command=keys.key_command, environment=os.environ)


def _document(made: Made) -> dict[str, Json]:
    header = made.header
    return {
        "file": str(made.path),
        "bank": header.bank,
        "node": header.node,
        "made": time_json(header.made_us),
        "until": time_json(header.time_us),
        "first_record": header.first_lsn,
        "records": header.lsn,
        "position": header.position,
        "bytes": made.size_bytes,
    }


def _fields(made: Made) -> Fields:
    header = made.header
    pairs = [
        ("File", str(made.path)),
        ("Records", str(header.lsn)),
        ("Position", str(header.position)),
        ("Until", time_text(header.time_us)),
        ("Size", _size(made.size_bytes)),
    ]
    return Fields(title=f"Bank {header.bank} is backed up.", pairs=pairs)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / MIB:,.1f} MiB"


def _left_over(folder: Path) -> list[Path]:
    from fortress.server.backups import leftovers

    return leftovers(folder, older_than=time.time() - LEFT_OVER_S)


@contextmanager
def _telling(call: Call, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far it is; a signal to stop leaves in order, so that nothing half done stays."""
    line = LiveLine(call)

    def stop(number: int, frame: FrameType | None) -> Any:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield lambda done, total: line.update(f"{done} of {total} {unit}")
    finally:
        signal.signal(signal.SIGTERM, before)
        line.close()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    with _system(path, "cannot be read, or what is made of it cannot be written"):
        yield


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    with _system(path, "cannot be written to"):
        yield


@contextmanager
def _system(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        named = str(exc.filename or path)
        raise Misuse(f"{str(path)!r} {what}: {named}: {exc.strerror}", "free space, or name another place") from exc
