"""``init``: the folder of a new bank or gateway, of its second node, or of their witness; nothing runs yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from fortress import config
from fortress.cli.bootstrap import FILE_NAME, Administrator, check_username, make_administrator, write_bootstrap
from fortress.cli.command import Call, command, current_call
from fortress.cli.joining import (
    PORT_FIRST,
    SWITCH_OFFSET,
    WILDCARDS,
    Place,
    endpoint,
    make_peer,
    make_witness,
    use_register,
)
from fortress.cli.misuse import Misuse
from fortress.cli.output import Json, say, show
from fortress.cli.prompts import read_password
from fortress.config import Settings

CURRENCIES_DEFAULT: Final = ("EUR",)
GATEWAY_DEFAULT: Final = "gateway"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked of ``init``, as its options say it."""

    bank: str | None
    gateway: bool
    join: tuple[Path, ...]
    witness: bool
    replace: bool
    node: str | None
    admins: tuple[str, ...]
    currencies: tuple[str, ...]
    host: str
    port: int | None
    status_port: int | None
    pair_port: int | None
    bank_port: int | None
    names: tuple[str, ...]
    first_at: str
    register: str
    register_addresses: str
    password_files: tuple[Path, ...]

    @property
    def place(self) -> Place:
        """Where the new process listens."""
        return Place(
            host=self.host,
            port=self.port,
            status_port=self.status_port,
            pair_port=self.pair_port,
            bank_port=self.bank_port,
            names=self.names,
        )


@command(
    "init",
    "fortress init ./bank-a --bank a --admin ada",
    "fortress init ./bank-a --bank a --admin ada --password-file ./ada --currency EUR --currency USD",
    "fortress init ./bank-a-2 --join ./bank-a --name node-2",
    "fortress init ./witness --witness --join ./bank-a --join ./bank-a-2",
    "fortress init ./gateway --gateway --admin gus --port 7631",
)
@click.argument("folder", type=click.Path(path_type=Path), default=".")
@click.option("--bank", help="The bank's id, like a: small letters, digits, dash; a gateway's is gateway.")
@click.option("--gateway", is_flag=True, help="Make a gateway: it switches payments between banks.")
@click.option(
    "--join",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="Make a second node for the bank of this folder; may be repeated with --witness.",
)
@click.option("--witness", is_flag=True, help="Make the witness of the nodes named with --join.")
@click.option("--replace", is_flag=True, help="The second node, or the witness, is lost for good: make it anew.")
@click.option(
    "--name", "--node", "node", metavar="NAME", help="Name of the node; node-1, node-2 or witness by default."
)
@click.option("--admin", "admins", multiple=True, metavar="USERNAME", help="A first administrator.")
@click.option("--currency", "currencies", multiple=True, help="May be repeated; EUR by default.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 7611, or the next free one in a pair.")
@click.option(
    "--status-port", type=click.IntRange(0, 65535), help="Port of the monitoring site, 0 for none; one after --port."
)
@click.option(
    "--pair-port", type=click.IntRange(1, 65535), help="Port for the records of the other node; two after --port."
)
@click.option(
    "--bank-port", type=click.IntRange(1, 65535), help="Port on which a gateway takes banks; four after --port."
)
@click.option("--at", "names", multiple=True, metavar="HOST", help="Where others reach it; goes into its certificate.")
@click.option("--first-at", default="", metavar="HOST", help="Where the second node reaches the first.")
@click.option(
    "--register",
    type=click.Choice(["witness", "etcd"]),
    default="witness",
    show_default=True,
    help="Who keeps the record of which node is primary.",
)
@click.option("--register-addresses", default="", metavar="LIST", help="Where that is, if it is there already.")
@click.option(
    "--password-file",
    "password_files",
    type=click.Path(path_type=Path, allow_dash=True),
    multiple=True,
    metavar="FILE",
    help="Read an administrator's password from the first line of this file; one for each --admin, in their order.",
)
def init_command(folder: Path, **given: Any) -> None:
    """Make the folder of a bank, or of a gateway: settings, authority and certificates, keys, first administrators.

    With --join, make the folder of the bank's second node, and with --witness that of their witness; both are made
    beside the first node's folder and then moved to their machines. Two administrators are better than one: acts on
    limits, roles and people need the approval of a second one.
    """
    call, wanted = current_call(), Wanted(**given)
    check_usage(wanted)
    if wanted.witness:
        _found_witness(call, folder, wanted)
    elif wanted.join:
        _found_peer(call, folder, wanted)
    else:
        _found_bank(call, folder, wanted)


def check_usage(wanted: Wanted) -> None:
    """Refuse options that do not go together, before anything is asked or written.

    Raises:
        Misuse: with what to do instead.
    """
    if wanted.join:
        if wanted.bank or wanted.admins or wanted.currencies or wanted.password_files:
            raise Misuse(
                "bank, administrators and currencies are those of the node that is joined",
                "leave out --bank, --admin, --currency and --password-file",
            )
        if wanted.gateway and not all(config.load(each, {}, {}).switch.listen for each in wanted.join):
            raise Misuse("a node that is joined is a bank's and no gateway", "leave out --gateway")
        if len(wanted.join) > 1 and not wanted.witness:
            raise Misuse("a second node joins one first node", "name one folder with --join")
        if wanted.witness and wanted.register_addresses:
            raise Misuse("the new witness is the register", "leave out --register-addresses")
    elif wanted.witness:
        raise Misuse("it is not known whose witness this shall be", "name the folders of the nodes with --join")
    elif not wanted.bank and not wanted.gateway:
        raise Misuse("it is not known which bank this shall be", "name it with --bank, or a folder with --join")
    elif not wanted.admins:
        raise Misuse("a bank needs an administrator", "name one with --admin, better two")
    elif wanted.bank_port and not wanted.gateway:
        raise Misuse("a bank takes no other banks", "leave out --bank-port, or add --gateway")
    elif len(wanted.password_files) not in (0, len(wanted.admins)):
        raise Misuse("there is not one --password-file for each --admin", "name as many of one as of the other")
    if wanted.register == "etcd" and not wanted.register_addresses:
        raise Misuse("it is not known where etcd is", "add --register-addresses https://HOST:2379,...")


def _found_bank(call: Call, folder: Path, wanted: Wanted) -> None:
    from fortress.protocol.schnorr import KdfParameters

    people = []
    for index, username in enumerate(wanted.admins):
        check_username(username)
        file = wanted.password_files[index] if wanted.password_files else None
        password = read_password(call, f"Password of {username}", file, confirm=True)
        say(call, f"deriving the key of {username}")
        people.append(make_administrator(username, password, KdfParameters()))
    port, settings = _settings(wanted)
    bank = wanted.bank or GATEWAY_DEFAULT
    made = make_folder(
        folder,
        bank=bank,
        node=wanted.node or "node-1",
        administrators=people,
        currencies=[currency.upper() for currency in wanted.currencies] or CURRENCIES_DEFAULT,
        hosts=(*(() if wanted.host in WILDCARDS else (wanted.host,)), *wanted.names),
        settings=settings,
    )
    ca = made.path(made.tls.ca)
    key_file = made.path(made.keys.key_file)
    document: dict[str, Json] = {"folder": str(folder), "bank": bank, "ca": str(ca), "key_file": str(key_file)}
    if wanted.gateway:
        document["listen"] = made.switch.listen
    show(call, document, f"{'Gateway' if wanted.gateway else 'Bank'} {bank} is ready in {str(folder)!r}.")
    say(call, f"keep a copy of {str(key_file)!r} apart from the folder: without it all data is lost")
    say(call, f"{FILE_NAME} holds no secret; the first start reads it")
    say(call, f"next: fortress {'gateway' if wanted.gateway else 'serve'} {folder}")
    at = wanted.host if wanted.host not in WILDCARDS else (wanted.names or ("127.0.0.1",))[0]
    say(call, f"then: fortress login {wanted.admins[0]} --address {endpoint(at, port)}/{bank} --ca {ca}")
    if wanted.gateway:
        say(call, f"banks join with: fortress bank join BANK-DIR --gateway-folder {folder}")


def _settings(wanted: Wanted) -> tuple[int, dict[str, str | int]]:
    """Give the port for clients, and the settings of a new bank or gateway; ports begin where clients look first."""
    port = PORT_FIRST if wanted.port is None else wanted.port
    base = port or PORT_FIRST
    settings: dict[str, str | int] = {
        "server.host": wanted.host,
        "server.port": port,
        "monitor.port": base + 1 if wanted.status_port is None else wanted.status_port,
        "pair.listen": endpoint(wanted.host, base + 2 if wanted.pair_port is None else wanted.pair_port),
    }
    if wanted.gateway:
        bank_port = base + SWITCH_OFFSET if wanted.bank_port is None else wanted.bank_port
        settings["switch.listen"] = endpoint(wanted.host, bank_port)
    if wanted.register_addresses:
        settings |= {"pair.register": wanted.register, "pair.register_addresses": wanted.register_addresses}
    return port, settings


def _found_peer(call: Call, folder: Path, wanted: Wanted) -> None:
    (first,) = wanted.join
    made = make_peer(
        folder, first, node=wanted.node or "", place=wanted.place, first_at=wanted.first_at, replace=wanted.replace
    )
    if wanted.register_addresses:
        use_register([first, folder], wanted.register, wanted.register_addresses, replace=wanted.replace)
        made = config.load(folder, {}, {})
    key_file = made.path(made.keys.key_file)
    clients = endpoint(made.server.host, made.server.port)
    document: Json = {
        "folder": str(folder),
        "bank": made.node.bank,
        "node": made.node.name,
        "clients": clients,
        "records": made.pair.listen,
        "cluster": made.pair.cluster,
        "register": made.pair.register_addresses or None,
        "key_file": str(key_file),
    }
    sentence = f"{made.node.name} of bank {made.node.bank} is ready in {str(folder)!r}: clients {clients}"
    show(call, document, f"{sentence}, records {made.pair.listen}.")
    say(call, f"keep a copy of {str(key_file)!r} apart from the folder")
    say(call, f"move {str(folder)!r} to its machine; it is secret like the first node's")
    _say_start(call, (first, folder), made.pair.register_addresses)


def _found_witness(call: Call, folder: Path, wanted: Wanted) -> None:
    made = make_witness(folder, wanted.join, node=wanted.node or "", place=wanted.place, replace=wanted.replace)
    told = config.load(wanted.join[0], {}, {}).pair.register_addresses
    listen = str(made.value("witness.listen"))
    document: Json = {"folder": str(folder), "bank": made.node.bank, "node": made.node.name, "listen": listen}
    show(call, document, f"The witness of bank {made.node.bank} is ready in {str(folder)!r}: it listens on {listen}.")
    say(call, f"move {str(folder)!r} to a third machine; it holds no data, only the record of who is primary")
    for member in wanted.join:
        say(call, f"{str(member)!r} knows it as {told}")
    if len(wanted.join) == 1:
        say(call, f"in the other node's {config.FILE_NAME}, if there is one: [pair] register_addresses = {told!r}")
    _say_start(call, wanted.join, told, witness=folder)


def _say_start(call: Call, members: Sequence[Path], register: str, *, witness: Path | None = None) -> None:
    """Teach the order: the witness first, then both nodes; and which node must be started anew."""
    from fortress.server.folder import served_by

    first = members[0]
    if not register:
        say(call, f"next: fortress init ./witness --witness {' '.join(f'--join {each}' for each in members)}")
    if witness is not None:
        say(call, f"next: fortress witness {witness}")
    for member in members:
        pid = served_by(config.load(member, {}, {}))
        again = f"   (process {pid} serves it and must be ended first: it knows nothing of this yet)" if pid else ""
        verb = "gateway" if config.load(member, {}, {}).switch.listen else "serve"
        say(call, f"then: fortress {verb} {member}{again}")
    say(call, f"then: fortress status {first}")
