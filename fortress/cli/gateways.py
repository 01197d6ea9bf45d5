"""A bank's way to its gateway: what `bank join` writes into the folders of a bank's nodes.

The gateway's certificates are signed by an authority of its own, whose certificate each node of the bank keeps as
``gateway.authority``. The other way round the gateway learns the bank's authority from its administrators (`bank add`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fortress.cli.joining import WILDCARDS, endpoint, reached_at
from fortress.cli.misuse import Misuse

if TYPE_CHECKING:
    from fortress.config import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What a bank has to know of its gateway.

    Attributes:
        bank: the gateway's own id.
        addresses: where its nodes take banks, host:port, several with commas.
        authority: file with the certificate of its authority, in PEM.
    """

    bank: str
    addresses: str
    authority: Path


def gateway_of(folders: Sequence[Path]) -> Gateway:
    """Describe a gateway by the folders of its nodes.

    Raises:
        FolderMissing, SettingInvalid: a folder is none.
        Misuse: a folder is not a gateway's, or they belong to two.
    """
    from fortress import config

    nodes = [config.load(folder, {}, {}) for folder in folders]
    for node in nodes:
        require_gateway(node)
    first = nodes[0]
    if len({node.node.bank for node in nodes}) > 1:
        raise Misuse("the folders named are of several gateways", "name the nodes of one gateway")
    addresses = ",".join(_bank_address(node) for node in nodes)
    return Gateway(bank=first.node.bank, addresses=addresses, authority=first.path(first.tls.ca))


def require_gateway(settings: Settings) -> None:
    """Make sure that a folder is a gateway's.

    Raises:
        Misuse: it is a bank's.
    """
    if not settings.switch.listen:
        raise Misuse(
            f"{str(settings.folder)!r} is the folder of bank {settings.node.bank}, not of a gateway",
            "'fortress serve' runs a bank's node; 'fortress init DIR --gateway' makes a gateway",
        )


def connect_bank(folders: Sequence[Path], gateway: Gateway, *, replace: bool = False) -> list[Settings]:
    """Tell the nodes of a bank which gateway they pay through; each must be started anew to know it.

    Args:
        folders: of the bank's nodes that are here.
        gateway: the gateway.
        replace: they have another gateway already, with which nothing is under way any more.

    Returns:
        the settings as they are now.

    Raises:
        FolderMissing, SettingInvalid: a folder is none, or the gateway's id is none.
        CertificateUnusable: the authority's certificate is none.
        Misuse: bank and gateway do not go together like this; nothing was changed.
    """
    from fortress import config
    from fortress.server.folder import replace_file
    from fortress.server.settings_file import change_settings

    nodes = [config.load(folder, {}, {}) for folder in folders]
    for node in nodes:
        _check_bank(node, nodes[0], gateway, replace=replace)
    pem = read_authority(gateway.authority)
    addresses = ",".join(_endpoint(part.strip()) for part in gateway.addresses.split(","))
    config.line_of("gateway.bank").check(gateway.bank, config.FILE_NAME)
    for node in nodes:
        # the certificate first: settings that name a gateway always find it
        replace_file(node.path(node.gateway.authority), pem)
        change_settings(node.folder, {"gateway.bank": gateway.bank, "gateway.addresses": addresses})
    return [config.load(folder, {}, {}) for folder in folders]


def _endpoint(text: str) -> str:
    from fortress.client.address import format_endpoint, parse_endpoint

    if not text.rpartition(":")[2].isdecimal():
        raise Misuse(f"{text!r} names no port", "write HOST:PORT, as the gateway's switch.listen says")
    return format_endpoint(parse_endpoint(text))


def _check_bank(node: Settings, first: Settings, gateway: Gateway, *, replace: bool) -> None:
    if node.node.bank != first.node.bank:
        raise Misuse(
            f"{str(first.folder)!r} and {str(node.folder)!r} are of two banks", "let one bank join after the other"
        )
    if node.switch.listen:
        raise Misuse(f"{str(node.folder)!r} is a gateway itself", "name the folders of a bank's nodes")
    if node.node.bank == gateway.bank:
        raise Misuse(
            f"the gateway cannot be called {gateway.bank!r} like the bank", "name the gateway's id with --name"
        )
    known = node.gateway
    if known.addresses and known.bank != gateway.bank and not replace:
        raise Misuse(
            f"{str(node.folder)!r} pays through the gateway {known.bank!r} already",
            "once 'fortress payment list --in-doubt' is empty, add --replace",
        )


def read_authority(path: Path) -> str:
    """Read the certificate of an authority, in PEM.

    Raises:
        CertificateUnusable: the file is missing or holds no certificate.
        Misuse: it is no authority's.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from fortress.authority import load_certificate

    certificate = load_certificate(path)
    try:
        is_authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    if not is_authority:
        raise Misuse(f"{str(path)!r} is not the certificate of an authority", "name the ca.crt of the other side")
    return certificate.public_bytes(Encoding.PEM).decode("ascii")


def _bank_address(node: Settings) -> str:
    host, _, port = node.switch.listen.rpartition(":")
    host = host.strip("[]")
    return endpoint(reached_at(node) if host in WILDCARDS else host, int(port))
