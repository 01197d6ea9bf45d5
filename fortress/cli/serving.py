"""``serve`` and ``gateway``: one node in the foreground, with its site, until a signal or a broken ledger ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fortress.cli.command import Call, command, current_call
from fortress.cli.configuration import FOLDER, SET, overrides_of
from fortress.cli.output import Json, detail, show
from fortress.errors import FortressError

if TYPE_CHECKING:
    from fortress.monitor.site import Site
    from fortress.server.folder import Folder
    from fortress.server.pairing import Restart
    from fortress.server.ports import Part
    from fortress.server.process import Process

logger = logging.getLogger("fortress.cli.serving")


@command("serve", "fortress serve ./bank-a", "fortress serve ./bank-a --set log.level=debug")
@FOLDER
@SET
@click.option("--stop-at-eof", is_flag=True, hidden=True, help="End when standard input is closed.")
def serve_command(folder: Path | None, overrides: tuple[str, ...], stop_at_eof: bool) -> None:
    """Run one node in the foreground.

    SIGTERM and Ctrl-C answer what is under way and end; a second one ends at once. SIGHUP reads certificates again.
    With --json, one line tells the addresses once it listens.
    """
    import uvloop

    call = current_call()
    uvloop.run(serve(call, folder or call.config, overrides, stop_at_eof=stop_at_eof))


@command("gateway", "fortress gateway ./gateway", "fortress gateway ./gateway --set switch.listen=0.0.0.0:7615")
@FOLDER
@SET
@click.option("--stop-at-eof", is_flag=True, hidden=True, help="End when standard input is closed.")
def gateway_command(folder: Path | None, overrides: tuple[str, ...], stop_at_eof: bool) -> None:
    """Run one node of a gateway in the foreground, as 'fortress serve' does, if the folder is a gateway's.

    Banks register where switch.listen says; 'fortress bank add' lets them in.
    """
    import uvloop

    from fortress.cli.configuration import load_settings
    from fortress.cli.gateways import require_gateway

    call = current_call()
    require_gateway(load_settings(call, folder, overrides))
    uvloop.run(serve(call, folder or call.config, overrides, stop_at_eof=stop_at_eof))


async def serve(call: Call, path: Path, overrides: Sequence[str], *, stop_at_eof: bool) -> None:
    """Serve a folder until told to stop.

    Raises:
        LedgerError: the ledger cannot be trusted.
        FortressError: the folder, its settings or its addresses cannot be used.
    """
    from fortress.server.folder import open_folder
    from fortress.server.logs import configure
    from fortress.server.process import Process

    folder = open_folder(path, overrides_of(overrides), os.environ)
    writer = configure(folder.settings.log, sys.stderr)
    try:
        while True:
            process = await Process.start(
                folder,
                on_progress=lambda done, total: detail(call, f"records applied: {done} of {total}"),
                make_parts=_parts_of,
            )
            try:
                await _watch(call, folder, process, stop_at_eof=stop_at_eof)
            finally:
                await process.stop()
            if process.restart is None or process.failure is not None:
                break
            folder = open_folder(path, overrides_of(overrides), os.environ)
            await _mend(folder, process.restart)
    finally:
        folder.close()
        writer.close()
    if process.failure is not None:
        raise process.failure


def _parts_of(process: Process) -> list[Part]:
    """Make what this node does besides being one, as its settings say."""
    settings = process.folder.settings
    parts: list[Part] = []
    if settings.switch.listen:
        from fortress.gateway.switch import Switch

        parts.append(Switch(process))
    if settings.gateway.addresses:
        from fortress.gateway.member import Member

        parts.append(Member(process))
    return parts


async def _mend(folder: Folder, restart: Restart) -> None:
    """Do to the files what the pair asked for before the node starts anew."""
    from fortress.server.membership import mend

    await asyncio.to_thread(mend, folder, restart)


async def _watch(call: Call, folder: Folder, process: Process, *, stop_at_eof: bool) -> None:
    """Run the site beside the node, tell that all is up, and wait for the end."""
    from fortress.monitor.site import Site

    settings = folder.settings
    site: Site | None = None
    if settings.monitor.port:
        site = Site(process.statistics)
        await site.start(settings.monitor.host, settings.monitor.port)
    try:
        _on_signals(process, stop_at_eof=stop_at_eof)
        _tell(call, process, site)
        await process.stopped.wait()
    finally:
        if site is not None:
            await site.stop()


def _on_signals(process: Process, *, stop_at_eof: bool) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if process.stopped.is_set():
            os._exit(130)  # asked twice: what is committed is on the disk already
        process.end()

    def reload() -> None:
        try:
            process.reload()
        except FortressError as error:
            logger.error("not reloaded", extra={"fields": {"reason": error.message}})

    def read_end() -> None:
        with suppress(BlockingIOError):
            if not os.read(0, 4096):
                loop.remove_reader(0)
                process.end()

    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    if stop_at_eof:
        loop.add_reader(0, read_end)


def _tell(call: Call, process: Process, site: Site | None) -> None:
    settings = process.folder.settings
    host, port = settings.server.host, process.server.port
    url = "http://{}:{}".format(*site.address) if site else ""
    document: dict[str, Json] = {
        "bank": settings.node.bank,
        "node": settings.node.name,
        "address": f"{host}:{port}/{settings.node.bank}",
        "status": url or None,
        "pid": os.getpid(),
    }
    what = "Gateway" if settings.switch.listen else "Bank"
    sentence = f"{what} {settings.node.bank}, {settings.node.name}: listening on {host}:{port}"
    if settings.switch.listen:
        document["listen"] = settings.switch.listen
        sentence += f", for banks on {settings.switch.listen}"
    show(call, document, f"{sentence}; status at {url}/status" if url else sentence)
    sys.stdout.flush()
