"""``chaos``: kill, stop, continue, cut off and heal processes of a demo, and nothing else.

A demo marks each folder with the process that serves it; without the mark nothing is done, so no real bank is hit by
a slip of the fingers. What was done is kept in the demo's folder, for those who watch.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from fortress.cli.cables import cut, has_cable, heal
from fortress.cli.command import current_call, group
from fortress.cli.misuse import Misuse
from fortress.cli.output import Json, show
from fortress.errors import Unreachable

MARK_NAME: Final = "demo.pid"
LOG_NAME: Final = "chaos.log"
LOG_BYTES_READ: Final = 8 * 1024
FOLDER = click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")

chaos_command = group(
    "chaos",
    "Kill, stop, continue and cut off processes of a demo; other folders are left alone.",
    "fortress chaos kill /tmp/fortress-demo-x/node-1",
)


@chaos_command.command("kill", examples=("fortress chaos kill /tmp/fortress-demo-x/node-1",))
@FOLDER
def kill_command(folder: Path) -> None:
    """Kill the process of a folder at once, as kill -9 does; the demo starts it again after a while."""
    _do(folder, "kill")


@chaos_command.command("stop", examples=("fortress chaos stop /tmp/fortress-demo-x/node-1",))
@FOLDER
def stop_command(folder: Path) -> None:
    """Stop the process of a folder without ending it, as if its machine hung; 'fortress chaos cont' lets it go on."""
    _do(folder, "stop")


@chaos_command.command("cont", examples=("fortress chaos cont /tmp/fortress-demo-x/node-1",))
@FOLDER
def cont_command(folder: Path) -> None:
    """Let a stopped process go on, as if its machine woke up; it finds out what happened meanwhile."""
    _do(folder, "cont")


@chaos_command.command("cut", examples=("fortress chaos cut /tmp/fortress-demo-x/a-1",))
@FOLDER
def cut_command(folder: Path) -> None:
    """Cut a node off from the other one of its pair, as if the network between them came apart.

    Both still reach the witness and their customers. 'fortress chaos heal' mends it.
    """
    _do(folder, "cut")


@chaos_command.command("heal", examples=("fortress chaos heal /tmp/fortress-demo-x/a-1",))
@FOLDER
def heal_command(folder: Path) -> None:
    """Mend what 'fortress chaos cut' cut; the node that fell behind catches up."""
    _do(folder, "heal")


def mark(folder: Path, pid: int) -> None:
    """Mark a folder as a demo's, served by this process."""
    (folder / MARK_NAME).write_text(f"{pid}\n", "ascii")


def is_marked(folder: Path) -> bool:
    """Tell whether a folder is a demo's."""
    return (folder / MARK_NAME).exists()


def act(folder: Path, name: str) -> tuple[int, str]:
    """Do one of `ACTS` to the process of a demo's folder.

    Returns:
        its process id, and what is so now, in words.

    Raises:
        Misuse: the folder is no demo's, or its process has no cable to be cut.
        Unreachable: its process has ended already.
    """
    deed, words = ACTS[name]
    pid = served_by(folder)
    deed(folder, pid)
    with open(folder.absolute().parent / LOG_NAME, "a", encoding="utf-8") as log:
        log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ} {folder.absolute().name} {words}\n")
    return pid, words


def done_lately(demo: Path) -> list[tuple[str, str]]:
    """List what was done in a demo, the oldest first: time in ISO 8601, and words."""
    try:
        with open(demo / LOG_NAME, "rb") as log:
            log.seek(max(log.seek(0, os.SEEK_END) - LOG_BYTES_READ, 0))
            lines = log.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    # of a file cut into, the first line may be half of one
    return [(time, words) for time, _, words in (line.partition(" ") for line in lines) if time.endswith("Z")]


def served_by(folder: Path) -> int:
    """Give the process that serves a demo's folder.

    Raises:
        Misuse: it is no demo's.
        Unreachable: it has ended.
    """
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
        raise _ended(folder, pid)
    return pid


def _do(folder: Path, name: str) -> None:
    pid, words = act(folder, name)
    told: dict[str, Json] = {"pid": pid}
    if name in SIGNALS:
        told["signal"] = SIGNALS[name].name
    show(current_call(), told, f"process {pid} of {str(folder)!r} {words}")


def _ended(folder: Path, pid: int) -> Unreachable:
    return Unreachable(f"process {pid} of {str(folder)!r} has ended already", {"pid": pid})


def _signal(number: signal.Signals) -> Callable[[Path, int], None]:
    def send(folder: Path, pid: int) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError as exc:
            raise _ended(folder, pid) from exc

    return send


def _cut(folder: Path, pid: int) -> None:
    if not has_cable(folder):
        raise Misuse(f"{str(folder)!r} has no cable to another node", "name the folder of a bank's or gateway's node")
    cut(folder)


def _heal(folder: Path, pid: int) -> None:
    heal(folder)


SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "cont": signal.SIGCONT}
ACTS: Final[dict[str, tuple[Callable[[Path, int], None], str]]] = {
    "kill": (_signal(signal.SIGKILL), "is killed"),
    "stop": (_signal(signal.SIGSTOP), "is stopped"),
    "cont": (_signal(signal.SIGCONT), "goes on"),
    "cut": (_cut, "is cut off from the other node"),
    "heal": (_heal, "is connected to the other node again"),
}
"""Name -> what is done to the folder's process, and what is so then."""
