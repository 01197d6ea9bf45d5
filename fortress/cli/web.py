"""``web``: the pages of one bank or gateway, in the foreground, until a signal ends them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast

import click

from fortress.cli.command import Call, command, current_call
from fortress.cli.configuration import FOLDER, SET, load_settings
from fortress.cli.joining import WILDCARDS, endpoint, is_loopback
from fortress.cli.output import Json, say, show
from fortress.errors import CertificateUnusable, FortressError, SettingInvalid

if TYPE_CHECKING:
    from fortress.client.client import Client
    from fortress.config import Settings
    from fortress.web.call import Context, Laboratory
    from fortress.web.site import Site

TIMEOUT_S: Final = 5.0
DEADLINE_S: Final = 15.0
"""A page that waits longer asks again, with the same id."""

logger = logging.getLogger("fortress.cli.web")


@command("web", "fortress web ./bank-a", "fortress web ./bank-a --set web.port=8080")
@FOLDER
@SET
@click.option("--stop-at-eof", is_flag=True, hidden=True, help="End when standard input is closed.")
def web_command(folder: Path | None, overrides: tuple[str, ...], stop_at_eof: bool) -> None:
    """Serve the pages of a bank or a gateway, in the foreground.

    The folder is that of a node, or any with a fortress.toml whose web.bank names a bank elsewhere. SIGTERM and Ctrl-C
    end it, SIGHUP reads the certificate for browsers again. With --json, one line tells the address once it listens.
    """
    import uvloop

    from fortress.cli.laboratory import laboratory_of

    call = current_call()
    settings = load_settings(call, folder, overrides)
    uvloop.run(serve(call, settings, stop_at_eof=stop_at_eof, laboratory=laboratory_of(settings)))


async def serve(call: Call, settings: Settings, *, stop_at_eof: bool, laboratory: Laboratory | None = None) -> None:
    """Serve pages until told to stop.

    Args:
        settings: of the folder.
        laboratory: of a demo.

    Raises:
        SettingInvalid: the pages would be open to others without TLS, or the address of the bank is not known.
        FortressError: certificate, authority or address cannot be used.
    """
    from fortress.server.logs import configure
    from fortress.web.assets import Assets
    from fortress.web.site import Site

    tls = browser_tls(settings)
    context = context_of(settings, laboratory)
    writer = configure(settings.log, sys.stderr)
    try:
        site = Site(context, Assets(), tls)
        await site.start()
        try:
            stopped = asyncio.Event()
            _on_signals(settings, tls, stopped, stop_at_eof=stop_at_eof)
            _tell(call, settings, site)
            await stopped.wait()
        finally:
            await site.stop()
    finally:
        writer.close()


# --- which bank ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bank is and how it is known.

    Attributes:
        address: of all nodes that are known.
        path_ca: authority of who answers there, if that is not the bank.
    """

    address: str
    kind: Literal["bank", "gateway"]
    ca: Path
    path_ca: Path | None = None


def place_of(settings: Settings) -> Place:
    """Find the bank of a folder: the one named, else the folder's own, with the other node if it is a pair."""
    web = settings.web
    ca = settings.path(web.ca or settings.tls.ca)
    path_ca = settings.path(web.path_ca) if web.path_ca else None
    if web.bank:
        return Place(web.bank, cast(Literal["bank", "gateway"], web.kind), ca, path_ca)
    server = settings.server
    if not server.port:
        raise SettingInvalid("server.port = 0 leads nowhere; name the bank in web.bank", {"key": "web.bank"})
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)
    nodes = [endpoint(host, server.port), *([settings.pair.peer_clients] if settings.pair.peer_clients else [])]
    kind: Literal["bank", "gateway"] = "gateway" if settings.switch.listen else "bank"
    return Place(f"fortress://{','.join(nodes)}/{settings.node.bank}", kind, ca, path_ca)


def context_of(settings: Settings, laboratory: Laboratory | None = None) -> Context:
    """Make what all requests have in common.

    Raises:
        UsageError: the address or the authority's file is none.
    """
    from fortress.cli.laboratory import chronicle_of
    from fortress.client import address as addresses
    from fortress.client.client import connect
    from fortress.web.call import Context

    place = place_of(settings)
    address, ca = addresses.parse(place.address), place.ca.read_bytes() if place.ca.is_file() else place.ca
    path_ca = place.path_ca

    def to_bank(agent: str = "") -> Client:
        return connect(address, ca=ca, path_ca=path_ca, timeout_s=TIMEOUT_S, deadline_s=DEADLINE_S, agent=agent)

    to_bank()  # what is wrong with the files is told now
    return Context(
        bank=address.bank,
        kind=place.kind,
        settings=settings.web,
        connect=to_bank,
        laboratory=laboratory,
        chronicle=chronicle_of(settings, address.bank),
    )


# --- towards browsers ------------------------------------------------------------------------------------------------


def browser_tls(settings: Settings) -> ssl.SSLContext | None:
    """Make the TLS context for browsers; None where TLS ends elsewhere, or only this machine is served.

    Raises:
        SettingInvalid: others could read what passes.
        CertificateUnusable: the certificate or its key cannot be used.
    """
    web = settings.web
    if not web.certificate:
        is_covered = web.origin.startswith("https://") and web.proxies
        if not is_loopback(web.host) and not is_covered:
            raise SettingInvalid(
                f"web.host = {web.host!r} without TLS would let others read along: set web.certificate and web.key; "
                "or, where a load balancer ends TLS, web.origin and web.proxies",
                {"key": "web.certificate"},
            )
        return None
    if web.host in WILDCARDS and not web.origin:
        raise SettingInvalid("on every address of this machine, web.origin must say where browsers find the pages")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(settings, context)
    return context


def load_certificate(settings: Settings, context: ssl.SSLContext) -> None:
    """Read the certificate for browsers, for connections from now on.

    Raises:
        CertificateUnusable: it cannot be used; the one before stays.
    """
    certificate, key = settings.path(settings.web.certificate), settings.path(settings.web.key)
    try:
        if key.stat().st_mode & 0o077:
            raise CertificateUnusable(f"others can read {str(key)!r}; set its mode to 0600", {"file": str(key)})
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
        context.load_cert_chain(certificate, key, password=lambda: "")
    except OSError as exc:  # ssl.SSLError is one
        reason = exc.strerror or type(exc).__name__
        message = f"{str(certificate)!r} or its key {str(key)!r} cannot be used: {reason}"
        raise CertificateUnusable(message, {"file": str(certificate)}) from exc


def _on_signals(settings: Settings, tls: ssl.SSLContext | None, stopped: asyncio.Event, *, stop_at_eof: bool) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if stopped.is_set():
            os._exit(130)  # asked twice; nothing is kept here
        stopped.set()

    def reload() -> None:
        if tls is None:
            return
        try:
            load_certificate(settings, tls)
        except FortressError as error:
            logger.error("not reloaded", extra={"fields": {"reason": error.message}})
        else:
            logger.info("certificate reloaded")

    def read_end() -> None:
        with suppress(BlockingIOError):
            if not os.read(0, 4096):
                loop.remove_reader(0)
                stopped.set()

    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    if stop_at_eof:
        loop.add_reader(0, read_end)


def _tell(call: Call, settings: Settings, site: Site) -> None:
    web, context = settings.web, site.context
    url = web.origin or _url_of(web.host, site.port, is_secure=bool(web.certificate))
    document: Json = {
        "bank": context.bank,
        "kind": context.kind,
        "url": url,
        "address": endpoint(web.host, site.port),
        "pid": os.getpid(),
    }
    show(call, document, f"Pages of {context.kind} {context.bank}: {url}")
    sys.stdout.flush()
    paths = {part.strip() for part in settings.server.paths.split(",")}
    if not web.bank and is_loopback(settings.server.host) and settings.server.host not in paths:
        host = settings.server.host
        say(call, f'Hint: with server.paths = "{host}" the node counts failed logins of these pages by login alone.')


def _url_of(host: str, port: int, *, is_secure: bool) -> str:
    if is_secure:
        return f"https://{endpoint(host, port)}".removesuffix(":443")
    return f"http://localhost:{port}"  # browsers take this name, unlike others, for secure without TLS
