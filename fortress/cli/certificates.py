"""``cert``: the certificates of a bank's folder and its small authority."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fortress.cli.command import Call, current_call, group
from fortress.cli.configuration import load_settings
from fortress.cli.output import Json, Table, say, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fortress.authority import CertificateFacts

FOLDER = click.option(
    "--folder", type=click.Path(path_type=Path), help="Folder of the certificates; the bank's own by default."
)
AUTHORITY = click.option(
    "--authority",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder with the key of the authority that signs, if it is kept elsewhere.",
)

cert_command = group(
    "cert",
    "Certificates of a bank's folder, made by its own small authority.",
    "fortress cert show --config ./bank-a",
    "fortress cert renew node bank",
)


@cert_command.command("show", examples=("fortress cert show --config ./bank-a",))
@FOLDER
def show_command(folder: Path | None) -> None:
    """List the certificates: whose, for what, how long valid, fingerprint."""
    from fortress import authority

    call = current_call()
    _show_facts(call, authority.show(_folder(call, folder)))


@cert_command.command(
    "renew",
    examples=(
        "fortress cert renew node bank --config ./bank-a",
        "fortress cert renew node --config ./bank-a-2 --authority ./bank-a/certs",
    ),
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@FOLDER
@AUTHORITY
def renew_command(names: tuple[str, ...], folder: Path | None, authority: Path | None) -> None:
    """Replace certificates by ones that are valid from now, for the same names.

    The folders of a second node and of a witness hold no key of the authority: name the one that has it.
    """
    from fortress.authority import renew

    call = current_call()
    target = _folder(call, folder)
    _show_facts(call, [renew(target, name, authority_folder=authority) for name in names])
    say(call, "a running node takes them over on SIGHUP")


@cert_command.command(
    "issue", examples=("fortress cert issue node-2 --kind node --bank a --host bank-a.example --host 10.0.0.2",)
)
@click.argument("name")
@click.option("--kind", type=click.Choice(["node", "bank"]), default="node", show_default=True, help="What it is for.")
@click.option("--bank", help="Id of the bank it speaks for; the folder's own by default.")
@click.option("--host", "hosts", multiple=True, help="DNS name or IP address of a node; may be repeated.")
@FOLDER
def issue_command(name: str, kind: str, bank: str | None, hosts: tuple[str, ...], folder: Path | None) -> None:
    """Make a key and a certificate, signed by the folder's authority."""
    from fortress import authority

    call = current_call()
    bank = bank or load_settings(call).node.bank
    hosts = hosts or authority.LOCAL_HOSTS
    _show_facts(call, [authority.issue(_folder(call, folder), authority.Kind(kind), bank=bank, name=name, hosts=hosts)])


def _folder(call: Call, folder: Path | None) -> Path:
    if folder is not None:
        return folder
    settings = load_settings(call)
    return settings.path(settings.tls.ca).parent


def _show_facts(call: Call, all_facts: Sequence[CertificateFacts]) -> None:
    now = datetime.now(UTC)
    document: list[Json] = [
        {
            "name": facts.name,
            "kind": facts.kind.value,
            "bank": facts.bank,
            "hosts": list(facts.hosts),
            "subject": facts.subject,
            "issuer": facts.issuer,
            "serial": facts.serial,
            "valid_from": facts.valid_from.isoformat(),
            "valid_to": facts.valid_to.isoformat(),
            "sha256": facts.fingerprint,
            "key_fits": facts.key_fits,
        }
        for facts in all_facts
    ]
    rows = [
        (
            facts.name,
            facts.kind.value,
            facts.bank,
            ", ".join(facts.hosts),
            f"{facts.valid_to:%Y-%m-%d}" if facts.valid_to > now else "expired",
            str((facts.valid_to - now).days),
            facts.fingerprint[:16],
        )
        for facts in all_facts
    ]
    columns = ("Name", "Kind", "Bank", "Hosts", "Valid to", ">Days", "SHA-256")
    show(call, document, Table(columns=columns, rows=rows, empty="no certificates here"))
