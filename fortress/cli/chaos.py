"""``chaos``: kill, stop and continue the processes of a demo, to see what the others do. Other folders are left alone.

A demo marks each folder with the process that serves it; without the mark nothing is done, so no real bank is hit by
a slip of the fingers.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

import click

from fortress.cli.command import current_call, group
from fortress.cli.misuse import Misuse
from fortress.cli.output import show
from fortress.errors import Unreachable

MARK_NAME: Final = "demo.pid"
FOLDER = click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")

chaos_command = group(
    "chaos",
    "Kill, stop and continue processes of a demo; other folders are left alone.",
    "fortress chaos kill /tmp/fortress-demo-x/node-1",
)


@chaos_command.command("kill", examples=("fortress chaos kill /tmp/fortress-demo-x/node-1",))
@FOLDER
def kill_command(folder: Path) -> None:
    """Kill the process of a folder at once, as kill -9 does; the demo starts it again after a while."""
    _signal(folder, signal.SIGKILL, "is killed")


@chaos_command.command("stop", examples=("fortress chaos stop /tmp/fortress-demo-x/node-1",))
@FOLDER
def stop_command(folder: Path) -> None:
    """Stop the process of a folder without ending it, as if its machine hung; 'fortress chaos cont' lets it go on."""
    _signal(folder, signal.SIGSTOP, "is stopped")


@chaos_command.command("cont", examples=("fortress chaos cont /tmp/fortress-demo-x/node-1",))
@FOLDER
def cont_command(folder: Path) -> None:
    """Let a stopped process go on, as if its machine woke up; it finds out what happened meanwhile."""
    _signal(folder, signal.SIGCONT, "goes on")


def mark(folder: Path, pid: int) -> None:
    """Mark a folder as a demo's, served by this process."""
    (folder / MARK_NAME).write_text(f"{pid}\n", "ascii")


def _signal(folder: Path, number: signal.Signals, words: str) -> None:
    pid = _served_by(folder)
    try:
        os.kill(pid, number)
    except ProcessLookupError as exc:
        raise Unreachable(f"process {pid} of {str(folder)!r} has ended already", {"pid": pid}) from exc
    show(current_call(), {"pid": pid, "signal": number.name}, f"process {pid} of {str(folder)!r} {words}")


def _served_by(folder: Path) -> int:
    try:
        pid = int((folder / MARK_NAME).read_text("ascii"))
    except (OSError, ValueError) as exc:
        raise Misuse(
            f"{str(folder)!r} is no folder of a demo", "'fortress demo' tells the folders of its nodes"
        ) from exc
    try:
        # the number may be another process's by now
        is_ours = str(folder.absolute()).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        is_ours = False
    if not is_ours:
        raise Unreachable(f"process {pid} of {str(folder)!r} has ended already", {"pid": pid})
    return pid
