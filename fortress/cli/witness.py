"""``witness``: the register of pairs in the foreground; or, once, a word on who is primary when it was lost."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fortress.cli.command import Call, command, current_call
from fortress.cli.configuration import FOLDER, SET, load_settings
from fortress.cli.misuse import Misuse
from fortress.cli.output import Fields, Json, show
from fortress.errors import FolderMissing

EPOCH_MAX: Final = 2**53 - 1

if TYPE_CHECKING:
    from fortress.config import Settings
    from fortress.pair.witness import Witness


@command(
    "witness",
    "fortress witness ./witness",
    "fortress witness ./witness --set witness.listen=0.0.0.0:7614",
    "fortress witness --control ./bank-a/control",
)
@FOLDER
@SET
@click.option("--reset", metavar="CLUSTER", help="Do not serve; say anew who is primary of this pair (pair.cluster).")
@click.option("--promised", type=click.IntRange(0, EPOCH_MAX), help="For --reset: the higher epoch of both nodes.")
@click.option("--primary", metavar="NAME", help="For --reset: name of the node whose journal goes further.")
@click.option("--instance", metavar="HEX", help="For --reset: that node's instance.")
@click.option(
    "--control",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Do not serve; show what a node's control file says, as --reset wants it.",
)
@click.option("--stop-at-eof", is_flag=True, hidden=True, help="End when standard input is closed.")
def witness_command(
    folder: Path | None,
    overrides: tuple[str, ...],
    reset: str | None,
    promised: int | None,
    primary: str | None,
    instance: str | None,
    control: Path | None,
    stop_at_eof: bool,
) -> None:
    """Keep the register that says which node of a pair is primary, in the foreground, on a third machine.

    SIGTERM and Ctrl-C end it. With --json, one line tells the address once it listens. --reset is for a register that
    was lost: stop both nodes and the witness, call it with all of its options, then start all of them.
    """
    call = current_call()
    given = (reset, promised, primary, instance)
    if control is not None:
        _show_control(call, control)
    elif given == (None,) * len(given):
        import uvloop

        uvloop.run(serve(call, folder, overrides, stop_at_eof=stop_at_eof))
    elif reset is None or promised is None or primary is None or instance is None:
        raise Misuse("a reset needs all of its options", "give --reset, --promised, --primary and --instance")
    else:
        _reset(call, load_settings(call, folder, overrides), reset, promised, primary, instance)


async def serve(call: Call, path: Path | None, overrides: Sequence[str], *, stop_at_eof: bool) -> None:
    """Serve a witness's folder until told to stop.

    Raises:
        LedgerError: its file is damaged, or its disk failed.
        FortressError: the folder, its settings, certificates or address cannot be used.
    """
    from fortress.pair.link import listening_context
    from fortress.pair.registry import Registry
    from fortress.pair.witness import Witness
    from fortress.server.logs import configure

    settings = load_settings(call, path, overrides)
    files = settings.tls
    tls = listening_context(settings.path(files.certificate), settings.path(files.key), settings.path(files.ca))
    writer = configure(settings.log, sys.stderr)
    try:
        registry = Registry.open(settings.path(settings.witness.file), pairs_max=settings.witness.pairs_max)
        try:
            witness = await Witness.start(settings.witness, registry, tls)
            try:
                _on_signals(witness, stop_at_eof=stop_at_eof)
                _tell(call, settings, witness, registry.witness)
                await witness.stopped.wait()
            finally:
                await witness.stop()
        finally:
            registry.close()
    finally:
        writer.close()
    if witness.failure is not None:
        raise witness.failure


def _on_signals(witness: Witness, *, stop_at_eof: bool) -> None:
    loop = asyncio.get_running_loop()

    def read_end() -> None:
        with suppress(BlockingIOError):
            if not os.read(0, 4096):
                loop.remove_reader(0)
                witness.stopped.set()

    loop.add_signal_handler(signal.SIGTERM, witness.stopped.set)
    loop.add_signal_handler(signal.SIGINT, witness.stopped.set)
    if stop_at_eof:
        loop.add_reader(0, read_end)


def _tell(call: Call, settings: Settings, witness: Witness, witness_id: bytes) -> None:
    address = f"{settings.witness.listen.rpartition(':')[0]}:{witness.port}"
    document: Json = {"address": address, "witness": witness_id.hex(), "pid": os.getpid()}
    show(call, document, f"Witness {witness_id.hex()[:8]}: listening on {address}")
    sys.stdout.flush()


def _show_control(call: Call, path: Path) -> None:
    from fortress.pair.control import read_control

    try:
        state = read_control(path)
    except FileNotFoundError as exc:
        raise FolderMissing(f"there is no {str(path)!r}", {"file": str(path)}) from exc
    found: dict[str, Json] = {
        "cluster": state.cluster.hex(),
        "instance": state.instance.hex(),
        "promised": state.promised,
        "quarantined": state.quarantined,
    }
    show(call, found, Fields(pairs=[(name.capitalize(), str(value)) for name, value in found.items()]))


def _reset(call: Call, settings: Settings, cluster: str, promised: int, primary: str, instance: str) -> None:
    from fortress.pair.messages import Member
    from fortress.pair.registry import Registry

    try:
        pair, member = bytes.fromhex(cluster), Member(primary, bytes.fromhex(instance))
    except ValueError as exc:
        raise Misuse("CLUSTER and --instance are written in hexadecimal", "copy them from the nodes") from exc
    registry = Registry.open(settings.path(settings.witness.file), pairs_max=settings.witness.pairs_max)
    try:
        fresh = registry.reset(pair, promised, member)
    finally:
        registry.close()
    document: Json = {"epoch": fresh.epoch, "primary": primary, "in_sync": [primary]}
    show(call, document, f"{primary} is primary in epoch {fresh.epoch}, and alone; start it, then the other node.")
