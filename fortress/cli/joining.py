"""Making a pair: the folder of a bank's second node, and that of its witness, both made beside the first node's folder.

All three lie on one machine for a moment; then the operator moves two of them to theirs. What the folders share is
copied here: the authority's certificate (never its key), the bank's certificate, the secrets that both nodes of a bank
must have. What is each node's own is made anew: its certificate, its key-encryption key, the keys of its journal and
tables. Folders that exist already are changed last and in one step each, so a crash leaves a new folder to be deleted.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fortress.cli.misuse import Misuse

if TYPE_CHECKING:
    from fortress.config import Settings, Value

PORT_FIRST: Final = 7611
PORT_STEP: Final = 10
PORT_LAST: Final = 65_000
CLUSTER_ID_SIZE_BYTES: Final = 16
KEY_OF_AUTHORITY: Final = "ca.key"
WILDCARDS: Final = ("0.0.0.0", "::")
SWITCH_OFFSET: Final = 4
"""From a gateway's port for clients to that for banks; a witness's lies between."""
REGISTER_AUTHORITY: Final = "register-ca"
SHARED_SECTIONS: Final = ("server", "committer", "ledger", "login", "log", "pair", "gateway", "switch")
OWN_SETTINGS: Final = (
    "server.host",
    "server.port",
    "pair.listen",
    "pair.peer",
    "pair.peer_clients",
    "pair.cluster",
    "gateway.clients",
    "switch.listen",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a new process listens and under which names others reach it.

    Attributes:
        host: address to listen on.
        port: for clients, or for nodes if it is the witness's; None: the first that is free.
        status_port: of the monitoring site; None: the port after it.
        pair_port: for the other node's records; None: the port after that.
        bank_port: of a gateway, for banks; None: the port two after that.
        names: names and addresses at which others reach it; the first is the one that others are told.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    status_port: int | None = None
    pair_port: int | None = None
    bank_port: int | None = None
    names: Sequence[str] = field(default=())

    @property
    def reached_at(self) -> str:
        """The name or address that others use.

        Raises:
            Misuse: it listens on all addresses, and none was named.
        """
        if self.names:
            return self.names[0]
        if self.host in WILDCARDS:
            raise Misuse(
                f"{self.host} is every address of this machine, and none that others could use",
                "name with --at the address at which others reach it",
            )
        return self.host


def make_peer(
    folder: Path, first: Path, *, node: str = "", place: Place | None = None, first_at: str = "", replace: bool = False
) -> Settings:
    """Make the folder of a bank's second node, and make the first one's a member of the pair.

    Args:
        folder: must not exist or be empty.
        first: folder of the first node, with its authority's key; it may be served meanwhile, and must be started anew.
        node: name of the second one; ``node-2``, or ``node-1`` if that is the first's.
        place: where the second one listens.
        first_at: name or address at which the second one reaches the first; found out if not given.
        replace: the first one has a second already, whose folder is lost.

    Raises:
        FolderMissing: the first folder is none.
        FolderExists: the new one holds something already; nothing was changed.
        Misuse: they cannot be a pair like this; nothing was changed.
        KeyUnusable, CertificateUnusable: the first folder's keys or authority cannot be used; nothing was changed.
    """
    from fortress import config
    from fortress.server.settings_file import change_settings

    old, place = config.load(first, {}, {}), place or Place()
    node = node or ("node-1" if old.node.name == "node-2" else "node-2")
    _check_joinable(old, node, replace=replace)
    host, port, status_port, pair_port, bank_port = _listening(place, old)
    at, first_at = place.reached_at, first_at or reached_at(old)
    if is_loopback(first_at) and not is_loopback(at):
        raise Misuse(
            f"{old.node.name} is reached at {first_at} only, where a node on another machine does not find it",
            f"set server.host in {str(first / config.FILE_NAME)!r} and name its address with --first-at",
        )
    _check_authority(first, old)
    cluster = old.pair.cluster or secrets.token_hex(CLUSTER_ID_SIZE_BYTES)
    listen = _pair_listen(old)
    made = _create_peer(
        folder,
        old,
        node,
        hosts=(*place.names, *(() if host in WILDCARDS else (host,))),
        settings={
            "server.host": host,
            "server.port": port,
            "monitor.port": status_port,
            "pair.cluster": cluster,
            "pair.listen": endpoint(host, pair_port),
            "pair.peer": endpoint(first_at, _port_of(listen)),
            "pair.peer_clients": endpoint(first_at, old.server.port),
            **({"switch.listen": endpoint(host, bank_port)} if old.switch.listen else {}),
        },
    )
    _certify(old, first_at)
    changes: dict[str, Value] = {
        "pair.cluster": cluster,
        "pair.listen": listen,
        "pair.peer": endpoint(at, pair_port),
        "pair.peer_clients": endpoint(at, port),
    }
    change_settings(first, changes)
    return made


def make_witness(
    folder: Path, members: Sequence[Path], *, node: str = "", place: Place | None = None, replace: bool = False
) -> Settings:
    """Make the folder of a witness, and tell the nodes named where it is.

    Its certificate is signed by the first authority whose key is here; nodes of other banks are given that authority
    to know it by.

    Args:
        folder: must not exist or be empty.
        members: folders of nodes that are here, of one bank or of several, one with its authority's key among them.
        node: name of the witness.
        place: where it listens.
        replace: the nodes have a register already, which is lost.

    Raises:
        FolderMissing, FolderExists, Misuse, CertificateUnusable: as :func:`make_peer`; nothing was changed.
    """
    from fortress import authority, config
    from fortress.server.folder import create, replace_file

    nodes, place = [config.load(member, {}, {}) for member in members], place or Place()
    first = _with_authority(nodes)
    if not replace:
        _check_no_register(nodes)
    port = place.port if place.port is not None else _port_of(str(config.line_of("witness.listen").default))
    address = endpoint(place.reached_at, port)
    own = _certificates(first)
    names = (*place.names, *(() if place.host in WILDCARDS else (place.host,)))

    def make_certificates(certs: Path) -> None:
        authority.adopt(certs, own, authority.AUTHORITY_NAME, with_key=False)
        kind, hosts = authority.Kind.node, _host_names(names)
        authority.issue(certs, kind, bank=first.node.bank, hosts=hosts, authority_folder=own)
        trusted = {_authority_print(each): each.path(each.tls.ca).read_text("ascii") for each in (first, *nodes)}
        replace_file(certs / f"{authority.AUTHORITY_NAME}.crt", "".join(trusted.values()))

    made = create(
        folder,
        bank=first.node.bank,
        node=node or "witness",
        make_certificates=make_certificates,
        make_keyring=None,
        settings={"witness.listen": endpoint(place.host, port)},
    )
    _introduce(first, nodes)
    use_register(members, "witness", address, replace=replace)
    return made


def _introduce(first: Settings, nodes: Sequence[Settings]) -> None:
    """Give nodes of other authorities that of the witness, so that they know it."""
    from fortress.server.folder import replace_file
    from fortress.server.settings_file import change_settings

    pem = first.path(first.tls.ca).read_text("ascii")
    for each in nodes:
        is_own = _authority_print(each) == _authority_print(first)
        certs = _certificates(each)
        if not is_own:
            replace_file(certs / f"{REGISTER_AUTHORITY}.crt", pem)
        named = "" if is_own else os.path.relpath(certs / f"{REGISTER_AUTHORITY}.crt", each.folder)
        if each.pair.register_ca != named:
            change_settings(each.folder, {"pair.register_ca": named})


def use_register(members: Sequence[Path], kind: str, addresses: str, *, replace: bool = False) -> None:
    """Tell the nodes of a pair which register they have.

    Args:
        members: their folders.
        kind: ``witness`` or ``etcd``.
        addresses: as ``pair.register_addresses`` takes them.
        replace: they have one already, which is lost.

    Raises:
        FolderMissing, SettingInvalid: a folder is none, or the kind is none.
        Misuse: a node has another register already; nothing was changed.
    """
    from fortress import config
    from fortress.server.settings_file import change_settings

    if not replace:
        nodes = [config.load(member, {}, {}) for member in members]
        _check_no_register([each for each in nodes if each.pair.register_addresses != addresses])
    for member in members:
        change_settings(member, {"pair.register": kind, "pair.register_addresses": addresses})


def endpoint(host: str, port: int) -> str:
    """Write an address as settings hold it; an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Tell whether only this machine itself reaches something there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _create_peer(
    folder: Path, old: Settings, node: str, *, hosts: Sequence[str], settings: dict[str, Value]
) -> Settings:
    from fortress import authority
    from fortress.server.folder import create

    own = _certificates(old)

    def make_certificates(certs: Path) -> None:
        authority.adopt(certs, own, authority.AUTHORITY_NAME, with_key=False)
        authority.adopt(certs, own, "bank", with_key=True)
        for name in _foreign_authorities(old):
            authority.adopt(certs, own, name, with_key=False)
        kind, names = authority.Kind.node, _host_names(hosts)
        authority.issue(certs, kind, bank=old.node.bank, hosts=names, authority_folder=own)

    shared = {
        key: old.value(key)
        for key in old.sources
        if key.partition(".")[0] in SHARED_SECTIONS and key not in OWN_SETTINGS
    }
    return create(
        folder,
        bank=old.node.bank,
        node=node,
        make_certificates=make_certificates,
        make_keyring=_peer_keyring(old),
        settings={**shared, **settings},
    )


def _foreign_authorities(old: Settings) -> list[str]:
    """Name the certificates beside a node's own authority by which it knows its register and its gateway."""
    files = [old.path(file) for file in (old.pair.register_ca, old.gateway.authority) if file]
    return [file.stem for file in files if file.parent == _certificates(old) and file.exists()]


def _peer_keyring(old: Settings) -> Callable[[Path, bytes], object]:
    from fortress.ledger.keyring import Keyring, read_kek
    from fortress.server.folder import KEYRING_NAME, data_folder

    keys = old.keys
    kek = read_kek(key_file=old.path(keys.key_file), key_command=keys.key_command, environment=os.environ)
    ring = Keyring.open(data_folder(old) / KEYRING_NAME, kek)
    return lambda path, fresh: Keyring.create_from(path, fresh, ring)


def _check_joinable(old: Settings, node: str, *, replace: bool) -> None:
    name = old.node.name
    if node == name:
        raise Misuse(f"{name!r} is the name of the first node", "give the second one another --name")
    if old.pair.peer and not replace:
        raise Misuse(
            f"{name} has another node already, at {old.pair.peer}",
            "if that node's folder is lost, add --replace to make it anew; a bank has two nodes",
        )


def _check_authority(first: Path, old: Settings) -> None:
    key = _certificates(old) / KEY_OF_AUTHORITY
    if not key.exists():
        raise Misuse(
            f"{str(first)!r} holds no key of the authority, which a new node's certificate needs",
            f"put it back as {str(key)!r} for a moment, or name with --join the folder that has it",
        )


def _with_authority(nodes: Sequence[Settings]) -> Settings:
    banks: dict[str, Settings] = {}
    for each in nodes:
        first = banks.setdefault(each.node.bank, each)
        if _authority_print(each) != _authority_print(first):
            raise Misuse(
                f"{str(first.folder)!r} and {str(each.folder)!r} are of bank {each.node.bank} under two authorities",
                "name with --join nodes that belong together",
            )
    found = [each for each in nodes if (_certificates(each) / KEY_OF_AUTHORITY).exists()]
    if not found:
        raise Misuse(
            "none of the folders named holds the key of the authority, which a witness's certificate needs",
            f"name with --join the first node's folder, or put {KEY_OF_AUTHORITY} back into its certs for a moment",
        )
    return found[0]


def _authority_print(settings: Settings) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256

    from fortress.authority import load_certificate

    return load_certificate(settings.path(settings.tls.ca)).fingerprint(SHA256())


def _check_no_register(nodes: Sequence[Settings]) -> None:
    for each in nodes:
        if each.pair.register_addresses:
            raise Misuse(
                f"{each.node.name} has a register already: {each.pair.register} at {each.pair.register_addresses}",
                "if it is lost for good, stop both nodes and add --replace; a register is never made twice",
            )


def _listening(place: Place, old: Settings) -> tuple[str, int, int, int, int]:
    """Give host and ports of a new node; ports not named are the first of their kind that are free."""
    if not old.server.port:
        raise Misuse(
            f"{old.node.name} takes another port at each start (server.port = 0), so nobody can be told",
            "set server.port in its fortress.toml",
        )
    taken = {old.server.port, old.monitor.port, _port_of(_pair_listen(old))}
    offsets = [0, 1, 2]
    if old.switch.listen:
        taken.add(_port_of(old.switch.listen))
        offsets.append(SWITCH_OFFSET)
    # from the first node's on, since another bank of this machine may lie below and not run just now
    start = old.server.port if PORT_FIRST <= old.server.port < PORT_LAST else PORT_FIRST
    base = next(
        each
        for each in (*range(start, PORT_LAST, PORT_STEP), *range(PORT_FIRST, start, PORT_STEP))
        if not taken & {each + at for at in offsets} and all(_is_free(place.host, each + at) for at in offsets)
    )
    named = {0: place.port, 1: place.status_port, 2: place.pair_port, SWITCH_OFFSET: place.bank_port}
    port, status_port, pair_port, bank_port = (base + at if each is None else each for at, each in named.items())
    return place.host, port, status_port, pair_port, bank_port


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            # of another machine's address nothing can be found out here
            return not is_loopback(host) and host not in WILDCARDS
        return True


def _pair_listen(old: Settings) -> str:
    """Where the first node takes records: as its file says, but where clients reach it if that is loopback only."""
    host = old.server.host
    if "pair.listen" not in old.sources:
        return endpoint(host, old.server.port + 2)
    said = old.pair.listen.rpartition(":")[0].strip("[]")
    return old.pair.listen if not is_loopback(said) or is_loopback(host) else endpoint(host, _port_of(old.pair.listen))


def _port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def reached_at(old: Settings) -> str:
    """Find out at which name or address others reach a node.

    Raises:
        Misuse: neither its settings nor its certificate say.
    """
    from fortress import authority

    if old.server.host not in WILDCARDS:
        return old.server.host
    certificate = old.path(old.tls.certificate)
    facts = {each.name: each for each in authority.show(certificate.parent)}[certificate.stem]
    named = [host for host in facts.hosts if host not in authority.LOCAL_HOSTS]
    if not named:
        raise Misuse(
            f"{old.node.name} listens on every address of its machine, and its certificate names none",
            "name with --first-at the address at which the second node reaches it",
        )
    return named[0]


def _certify(old: Settings, host: str) -> None:
    """See to it that the first node's certificate holds the name by which the second reaches it."""
    from fortress import authority

    certificate = old.path(old.tls.certificate)
    facts = {each.name: each for each in authority.show(certificate.parent)}[certificate.stem]
    if host not in facts.hosts:
        own = _certificates(old)
        authority.renew(certificate.parent, certificate.stem, more_hosts=(host,), authority_folder=own)


def _certificates(settings: Settings) -> Path:
    """Give the folder of a node's authority and bank certificate."""
    return settings.path(settings.tls.ca).parent


def _host_names(hosts: Sequence[str]) -> tuple[str, ...]:
    from fortress.authority import LOCAL_HOSTS

    return tuple(dict.fromkeys((*LOCAL_HOSTS, *hosts)))
