"""``status``: how a bank is, in a sentence, a table and an exit code that a script can act on.

The operator's view is what the nodes say at their monitoring sites, or at the sockets in their folders; of a node that
is elsewhere, what it tells anybody at its address for clients, and what the node here has heard of it. Who has only a
client context asks the bank itself.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import click

from fortress.cli.command import Call, command, current_call
from fortress.cli.failures import Exit
from fortress.cli.health import Document, NodeView, links_of, rows_of, table_of, verdict, with_peer
from fortress.cli.misuse import Misuse
from fortress.cli.output import View, show
from fortress.errors import FortressError, Unreachable

if TYPE_CHECKING:
    from fortress.client.client import Client
    from fortress.config import Settings

ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024
CLEAR: Final = "\x1b[H\x1b[J"


@command(
    "status",
    "fortress status",
    "fortress status ./bank-a ./bank-a-2",
    "fortress status --config ./bank-a --watch",
    "fortress status --json",
)
@click.argument("folders", type=click.Path(path_type=Path), nargs=-1, metavar="DIR")
@click.option("--url", "urls", multiple=True, help="Monitoring site of a node, like http://127.0.0.1:7612.")
@click.option("--watch", is_flag=True, help="Again every second until Ctrl-C.")
def status_command(folders: tuple[Path, ...], urls: tuple[str, ...], watch: bool) -> int:
    """Show how the bank is; exit 0 if all is well, 4 if no primary is reachable, 6 if something needs care.

    Asks the nodes of the folders named, or of --url, or of the present folder if it is a bank's, and through them of
    each other; elsewhere the bank of the client context.
    """
    call = current_call()
    ending = _show_once(call, folders, urls)
    while watch:
        time.sleep(1)
        if sys.stdout.isatty():
            print(CLEAR, end="")
        ending = _show_once(call, folders, urls, patient=True)
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


def read_node(settings: Settings, timeout_s: float) -> Document:
    """Ask the node of a folder: at its site, or if that is off at the socket in its data folder.

    Raises:
        Unreachable: no node serves the folder.
    """
    from fortress.server.folder import data_folder
    from fortress.server.operations import ask

    monitor = settings.monitor
    if monitor.port:
        try:
            return read_site(f"http://{_asked_at(monitor.host)}:{monitor.port}", timeout_s)
        except Unreachable:
            pass  # it may have been started without its site
    document = ask(data_folder(settings), "status", timeout_s=timeout_s)
    checks = {name: {"ok": ok, "reason": reason} for name, (ok, reason) in document.get("checks", {}).items()}
    return {**document, "checks": checks}


def read_peer(call: Call, settings: Settings) -> Document:
    """Ask the other node of a pair, at its address for clients, for what it tells anybody.

    Raises:
        FortressError: it does not answer.
    """
    from fortress.cli.peer import PEER_S_MAX, ask_peer

    return ask_peer(settings, min(call.timeout_s, PEER_S_MAX)).document


def look(call: Call, folders: Sequence[Path], urls: Sequence[str] = ()) -> list[NodeView]:
    """Find out what there is to know of a bank's nodes.

    Args:
        call: how this call behaves.
        folders: of nodes that are here.
        urls: of monitoring sites.

    Raises:
        FolderMissing, SettingInvalid: a folder is none.
        Unreachable: no node answered.
    """
    from fortress.config import FILE_NAME

    if not folders and not urls:
        if not (call.config / FILE_NAME).exists():
            return [_ask_bank(call)]
        folders = [call.config]
    views: list[NodeView] = []
    for url in urls:
        document = read_site(url, call.timeout_s)
        views += with_peer(NodeView(name=str(document.get("node")), address=urlsplit(url).netloc, document=document))
    for folder in folders:
        views += _look_at(call, folder)
    if not any(view.document for view in views):
        names = ", ".join(repr(str(folder)) for folder in folders)
        raise Unreachable(f"no node of {names} answers", {"folder": names})
    return _merged(views)


def _look_at(call: Call, folder: Path) -> list[NodeView]:
    from fortress.cli.configuration import load_settings
    from fortress.cli.joining import endpoint

    settings = load_settings(call, folder)
    own: Document = {}
    try:
        own = read_node(settings, call.timeout_s)
    except Unreachable:
        if not settings.pair.peer_clients:
            raise
    address = endpoint(settings.server.host, settings.server.port)
    views = with_peer(NodeView(name=settings.node.name, address=address, document=own))
    if not settings.pair.peer_clients:
        return views
    try:
        told = read_peer(call, settings)
    except FortressError:
        return views
    other = views[1] if len(views) > 1 else None
    seen_s, behind = (other.seen_s, other.behind) if other else (None, None)
    name = str(told.get("node", "?"))
    peer = NodeView(name=name, address=settings.pair.peer_clients, document=told, seen_s=seen_s, behind=behind)
    return [views[0], peer]


def _merged(views: Sequence[NodeView]) -> list[NodeView]:
    """Keep one view of each node: the one that says most; what was only heard of gives way to what answered."""
    found: dict[str, NodeView] = {}
    for view in sorted(views, key=lambda view: len(view.document), reverse=True):
        known = next((name for name, other in found.items() if name == view.name or other.address == view.address), "")
        if not known:
            found[view.name or view.address] = view
    return sorted(found.values(), key=lambda view: view.name)


def _show_once(call: Call, folders: Sequence[Path], urls: Sequence[str], *, patient: bool = False) -> int:
    try:
        views = look(call, folders, urls)
    except Unreachable as exc:
        if not patient:
            raise
        show(call, {"error": exc.message}, f"Not reachable: {exc.message}.")
        return Exit.unreachable
    found = verdict(views)
    said: list[View] = [found.sentence, table_of(views), *links_of(views)]
    if found.next:
        said.append(f"Next: {found.next}")
    # the fullest document, that of a node asked at its site, goes first
    document = dict(max(views, key=lambda view: (view.role == "primary", len(view.document))).document)
    show(call, {**document, "headline": found.sentence, "next": found.next, "nodes": rows_of(views)}, *said)
    return found.exit


def _asked_at(host: str) -> str:
    """Where a listener on every address is asked."""
    own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{own}]" if ":" in own else own


async def _status_of(bank: Client) -> Document:
    answer = await bank.status()
    return {name: getattr(answer, name) for name in answer.__struct_fields__}


def _ask_bank(call: Call) -> NodeView:
    from fortress.cli.desk import knock, open_contexts

    context = open_contexts().get(call.context)
    document = knock(call, context, _status_of)
    return NodeView(name=str(document.get("node", "?")), address=context.address, document=document)
