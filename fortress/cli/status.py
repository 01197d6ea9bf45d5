"""``status``: how a bank is, in a sentence, a table and an exit code that a script can act on.

The operator's view is the document of the node's monitoring site; who has only a client context asks the bank itself.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from fortress.cli.command import Call, command, current_call
from fortress.cli.failures import Exit
from fortress.cli.misuse import Misuse
from fortress.cli.output import Table, View, show
from fortress.errors import Unreachable

if TYPE_CHECKING:
    from fortress.client.client import Client

COLUMNS: Final = ("Node", "Address", "Role", "State", ">Term", ">Seq", ">Behind", ">Connections", ">Tasks", "Up for")
ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024
CLEAR: Final = "\x1b[H\x1b[J"

Document = Mapping[str, Any]


@command("status", "fortress status", "fortress status --config ./bank-a --watch", "fortress status --json")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--url", help="Monitoring site of the node, like http://127.0.0.1:7612.")
@click.option("--watch", is_flag=True, help="Again every second until Ctrl-C.")
def status_command(folder: Path | None, url: str | None, watch: bool) -> int:
    """Show how the bank is; exit 0 if all is well, 4 if it is not reachable, 6 if something needs care.

    Asks the node's monitoring site: of --url, of the folder, or of the present folder if it is a bank's; elsewhere the
    bank of the client context.
    """
    call = current_call()
    ending = _show_once(call, folder, url)
    while watch:
        time.sleep(1)
        if sys.stdout.isatty():
            print(CLEAR, end="")
        ending = _show_once(call, folder, url, patient=True)
    return ending


def read_site(url: str, timeout_s: float) -> Document:
    """Fetch the ``/status`` document of a monitoring site.

    Raises:
        Misuse: the URL is none.
        Unreachable: nobody answers there, or something else does.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise Misuse(f"{url!r} is not the address of a monitoring site", "write it like http://127.0.0.1:7612")
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout_s)
    try:
        connection.request("GET", "/status")
        response = connection.getresponse()
        document = json.loads(response.read(ANSWER_BYTES_MAX))
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise Unreachable(f"no node answers at {url}", {"url": url}) from exc
    finally:
        connection.close()
    if response.status != http.client.OK or not isinstance(document, dict):
        raise Unreachable(f"what answers at {url} is not a node", {"url": url})
    return document


def headline(document: Document) -> tuple[str, str, Exit]:
    """Say how the bank is, what to do next, and with which exit code."""
    bank, node, role = (document.get(key, "?") for key in ("bank", "node", "role"))
    failed = failed_checks(document)
    if failed:
        return f"Bank {bank} needs care: {'; '.join(failed)}.", "fortress config check", Exit.degraded
    if role != "primary":
        return f"Bank {bank}: {node} is {role} and takes no payments.", "fortress status --watch", Exit.degraded
    copies = int(document.get("copies", 1))
    machines = "one machine" if copies < 2 else f"{copies} machines"
    return f"Bank {bank} is up: {node} is primary; entries are on {machines}.", "", Exit.ok


def failed_checks(document: Document) -> list[str]:
    """List what must hold for a node to be ready and does not."""
    checks: Mapping[str, Mapping[str, Any]] = document.get("checks", {})
    return [f"{name}: {check.get('reason', '')}" for name, check in checks.items() if not check.get("ok")]


def _show_once(call: Call, folder: Path | None, url: str | None, *, patient: bool = False) -> int:
    try:
        document, address = _document(call, folder, url)
    except Unreachable as exc:
        if not patient:
            raise
        show(call, {"error": exc.message}, f"Not reachable: {exc.message}.")
        return Exit.unreachable
    sentence, next_step, ending = headline(document)
    views: list[View] = [sentence, Table(columns=COLUMNS, rows=[_row(document, address)])]
    if next_step:
        views.append(f"Next: {next_step}")
    show(call, dict(document), *views)
    return ending


def _row(document: Document, address: str) -> tuple[str, ...]:
    return (
        str(document.get("node", "?")),
        address,
        str(document.get("role", "?")),
        "needs care" if failed_checks(document) else "ready",
        str(document.get("term", "")),
        str(document.get("position", "")),
        str(document.get("behind", 0)),
        str(document.get("connections", "")),
        str(document.get("tasks_processed", "")),
        span_text(float(document.get("uptime_s", 0))),
    )


def span_text(seconds: float) -> str:
    """Write a span of time in its two largest units."""
    left = int(seconds)
    parts: list[str] = []
    for name, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (name == "s" and not parts):
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


def _document(call: Call, folder: Path | None, url: str | None) -> tuple[Document, str]:
    from fortress.config import FILE_NAME

    if url is None and (folder is not None or (call.config / FILE_NAME).exists()):
        from fortress.cli.configuration import load_settings

        monitor = load_settings(call, folder).monitor
        if not monitor.port:
            raise Misuse("the node's monitoring site is off (monitor.port = 0)", "ask through a context instead")
        url = f"http://{monitor.host}:{monitor.port}"
    if url is not None:
        return read_site(url, call.timeout_s), urlsplit(url).netloc
    return _ask_bank(call)


def _ask_bank(call: Call) -> tuple[Document, str]:
    from fortress.cli.desk import knock, open_contexts

    async def ask(bank: Client) -> Document:
        answer = await bank.status()
        return {name: getattr(answer, name) for name in answer.__struct_fields__}

    context = open_contexts().get(call.context)
    return knock(call, context, ask), context.address
