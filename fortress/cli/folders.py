"""``init``: the folder of a new bank, with certificates, keys and its first administrators; nothing runs yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fortress.cli.bootstrap import FILE_NAME, Administrator, check_username, make_administrator, write_bootstrap
from fortress.cli.command import command, current_call
from fortress.cli.misuse import Misuse
from fortress.cli.output import Json, say, show
from fortress.cli.prompts import read_password

if TYPE_CHECKING:
    from fortress.config import Settings

CURRENCIES_DEFAULT: Final = ("EUR",)


def make_folder(
    folder: Path,
    *,
    bank: str,
    node: str,
    administrators: Sequence[Administrator],
    currencies: Sequence[str] = CURRENCIES_DEFAULT,
    hosts: Sequence[str] = (),
    settings: dict[str, str | int] | None = None,
) -> Settings:
    """Make a bank's folder that ``serve`` can start; its first start writes the administrators into the ledger.

    Args:
        folder: must not exist or be empty.
        bank: the bank's id.
        node: the node's name.
        administrators: the first ones.
        currencies: ISO codes that the bank keeps accounts in.
        hosts: names and addresses of the node besides this machine's own.
        settings: further ones, by dotted key.

    Raises:
        FolderExists: there is something in it already; nothing was changed.
        AmountInvalid: a currency is not one; nothing was changed.
        SettingInvalid: the bank's id, the node's name or another setting is not one; nothing was changed.
    """
    from fortress import authority
    from fortress.client.money import decimals_of
    from fortress.server.folder import create

    for currency in currencies:
        decimals_of(currency)

    def make_certificates(certs: Path) -> None:
        names = (*authority.LOCAL_HOSTS, *(host for host in hosts if host not in authority.LOCAL_HOSTS))
        authority.make_authority(certs, bank)
        authority.issue(certs, authority.Kind.node, bank=bank, hosts=names)
        authority.issue(certs, authority.Kind.bank, bank=bank)

    made = create(folder, bank=bank, node=node, make_certificates=make_certificates, settings=settings or {})
    write_bootstrap(folder, administrators, currencies)
    return made


@command(
    "init",
    "fortress init ./bank-a --bank a --admin ada",
    "fortress init ./bank-a --bank a --admin ada --password-file ./ada --currency EUR --currency USD",
)
@click.argument("folder", type=click.Path(path_type=Path), default=".")
@click.option("--bank", required=True, help="The bank's id, like a: small letters, digits, dash.")
@click.option("--node", default="node-1", show_default=True, help="This node's name.")
@click.option("--admin", "admins", multiple=True, required=True, metavar="USERNAME", help="A first administrator.")
@click.option("--currency", "currencies", multiple=True, help="May be repeated; EUR by default.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=7611, show_default=True, help="Port to listen on.")
@click.option("--status-port", type=click.IntRange(0, 65535), default=7612, show_default=True, help="0 for no site.")
@click.option("--name", "hosts", multiple=True, metavar="HOST", help="A further name of this node for its certificate.")
@click.option(
    "--password-file",
    "password_files",
    type=click.Path(path_type=Path, allow_dash=True),
    multiple=True,
    metavar="FILE",
    help="Read an administrator's password from the first line of this file; one for each --admin, in their order.",
)
def init_command(
    folder: Path,
    bank: str,
    node: str,
    admins: tuple[str, ...],
    currencies: tuple[str, ...],
    host: str,
    port: int,
    status_port: int,
    hosts: tuple[str, ...],
    password_files: tuple[Path, ...],
) -> None:
    """Make the folder of a bank: settings, authority and certificates, keys, first administrators.

    Two administrators are better than one: acts on limits, roles and people need the approval of a second one.
    """
    from fortress.protocol.schnorr import KdfParameters

    call = current_call()
    if password_files and len(password_files) != len(admins):
        raise Misuse("there is not one --password-file for each --admin", "name as many of one as of the other")
    people = []
    for index, username in enumerate(admins):
        check_username(username)
        file = password_files[index] if password_files else None
        password = read_password(call, f"Password of {username}", file, confirm=True)
        say(call, f"deriving the key of {username}")
        people.append(make_administrator(username, password, KdfParameters()))
    named = () if host in ("0.0.0.0", "::") else (host,)
    wanted: dict[str, str | int] = {"server.host": host, "server.port": port, "monitor.port": status_port}
    made = make_folder(
        folder,
        bank=bank,
        node=node,
        administrators=people,
        currencies=[currency.upper() for currency in currencies] or CURRENCIES_DEFAULT,
        hosts=(*named, *hosts),
        settings=wanted,
    )
    ca = made.path(made.tls.ca)
    key_file = made.path(made.keys.key_file)
    document: Json = {"folder": str(folder), "bank": bank, "ca": str(ca), "key_file": str(key_file)}
    show(call, document, f"Bank {bank} is ready in {str(folder)!r}.")
    say(call, f"keep a copy of {str(key_file)!r} apart from the folder: without it all data is lost")
    say(call, f"{FILE_NAME} holds no secret; the first start reads it")
    say(call, f"next: fortress serve {folder}")
    say(call, f"then: fortress login {admins[0]} --address {host}:{port}/{bank} --ca {ca}")
