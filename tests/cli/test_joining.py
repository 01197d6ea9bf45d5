"""A pair is founded from one folder: what both share is equal, what is each one's own is not, and both know the way."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fortress import authority, config
from fortress.cli import joining
from fortress.cli.folders import make_folder
from fortress.cli.gateways import connect_bank, gateway_of
from fortress.cli.joining import Place, endpoint, is_loopback, make_peer, make_witness, use_register
from fortress.cli.misuse import Misuse
from fortress.config import Settings
from fortress.errors import FolderExists, FolderMissing, KeyUnusable
from fortress.ledger.keyring import Keyring, read_kek
from fortress.pair.link import dialing_context, listening_context
from fortress.server.folder import data_folder, locked, open_folder

Tell = Callable[..., Any]
BANK_WIDE = ("vault_key", "noise_private", "token_seed", "head_seed", "handle_key")


def make_first(folder: Path, **settings: Any) -> Path:
    given = {key.replace("__", "."): value for key, value in settings.items()}
    make_folder(folder, bank="a", node="node-1", administrators=[], settings=given)
    return folder


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return make_first(tmp_path / "a1")


def loaded(folder: Path) -> Settings:
    return config.load(folder, {}, {})


def keyring_of(folder: Path) -> Keyring:
    kek = read_kek(key_file=folder / "keys" / "node.key", key_command="", environment={})
    return Keyring.open(data_folder(loaded(folder)) / "keyring", kek)


def certificate(folder: Path, name: str = "node") -> authority.CertificateFacts:
    return next(each for each in authority.show(folder / "certs") if each.name == name)


def test_both_folders_know_each_other(first: Path, tmp_path: Path) -> None:
    """One cluster; each one's peer is where the other listens; ports do not collide."""
    second = make_peer(tmp_path / "a2", first)
    old = loaded(first)
    assert (second.node.bank, second.node.name) == ("a", "node-2")
    assert old.pair.cluster == second.pair.cluster and len(bytes.fromhex(old.pair.cluster)) == 16
    assert (old.pair.peer, second.pair.peer) == (second.pair.listen, old.pair.listen)
    assert old.pair.peer_clients == endpoint(second.server.host, second.server.port)
    assert second.pair.peer_clients == endpoint(old.server.host, old.server.port)
    ports = [old.server.port, old.monitor.port, second.server.port, second.monitor.port]
    ports += [int(each.pair.listen.rpartition(":")[2]) for each in (old, second)]
    assert len(set(ports)) == 6


def test_secrets_of_the_bank_are_shared_and_those_of_the_disk_are_not(first: Path, tmp_path: Path) -> None:
    """A client finds the same bank at both; a stolen key of one disk does not open the other."""
    make_peer(tmp_path / "a2", first)
    old, new = keyring_of(first), keyring_of(tmp_path / "a2")
    for name in BANK_WIDE:
        assert getattr(old, name) == getattr(new, name)
    for name in ("data_key", "store_key"):
        assert getattr(old, name) != getattr(new, name)
    assert (first / "keys" / "node.key").read_bytes() != (tmp_path / "a2" / "keys" / "node.key").read_bytes()
    assert certificate(first, "bank") == certificate(tmp_path / "a2", "bank")


def test_the_second_folder_holds_no_key_of_the_authority(first: Path, tmp_path: Path) -> None:
    """It has a certificate of its own by the same authority, and cannot make more."""
    second = tmp_path / "a2"
    make_peer(second, first, place=Place(host="127.0.0.2", names=("127.0.0.3",)))
    assert not (second / "certs" / "ca.key").exists()
    own = certificate(second)
    assert own.issuer == certificate(first).issuer and own.key_fits
    assert {"127.0.0.2", "127.0.0.3", "localhost"} <= set(own.hosts)
    assert own.fingerprint != certificate(first).fingerprint
    assert not (second / "bootstrap.json").exists()
    assert second.stat().st_mode & 0o777 == 0o700
    for path in second.rglob("*.key"):
        assert path.stat().st_mode & 0o077 == 0


def test_both_folders_can_be_served(first: Path, tmp_path: Path) -> None:
    """Their certificates, keys and settings open, and each trusts the other's certificate."""
    make_peer(tmp_path / "a2", first)
    for folder, other in ((first, tmp_path / "a2"), (tmp_path / "a2", first)):
        open_folder(folder, {}, {}).close()
        trust = ssl.create_default_context(cafile=str(folder / "certs" / "ca.crt"))
        assert trust.get_ca_certs()
        issuer = authority.load_certificate(folder / "certs" / "ca.crt")
        authority.load_certificate(other / "certs" / "node.crt").verify_directly_issued_by(issuer)


def test_settings_of_the_bank_are_taken_over(tmp_path: Path) -> None:
    """What was set for both holds for both; what is the first one's own does not."""
    first = make_first(
        tmp_path / "a1",
        ledger__segment_bytes=1024 * 1024,
        pair__durability="two-copies",
        node__data_folder="data",
    )
    second = make_peer(tmp_path / "a2", first)
    assert (second.ledger.segment_bytes, second.pair.durability) == (1024 * 1024, "two-copies")
    assert second.node.data_folder == "."
    assert keyring_of(first).vault_key == keyring_of(tmp_path / "a2").vault_key


def test_places_may_be_named(tmp_path: Path) -> None:
    """Listening everywhere, reached by name; the first one's certificate learns the name it is reached by."""
    first = make_first(tmp_path / "a1", server__host="0.0.0.0", pair__listen="127.0.0.1:7613")
    place = Place(host="0.0.0.0", port=7001, status_port=0, pair_port=7003, names=("two.example",))
    with pytest.raises(Misuse, match="certificate names none"):
        make_peer(tmp_path / "a2", first, place=place)
    second = make_peer(tmp_path / "a2", first, place=place, first_at="one.example")
    old = loaded(first)
    assert (old.pair.peer, old.pair.peer_clients) == ("two.example:7003", "two.example:7001")
    assert (second.pair.peer, second.pair.peer_clients) == ("one.example:7613", "one.example:7611")
    assert (old.pair.listen, second.pair.listen) == ("0.0.0.0:7613", "0.0.0.0:7003")
    assert second.monitor.port == 0
    assert "one.example" in certificate(first).hosts and certificate(first).key_fits


def test_the_name_in_the_certificate_is_used(tmp_path: Path) -> None:
    """A first node that was founded with a name is reached by it."""
    listening = {"server.host": "0.0.0.0"}
    make_folder(
        tmp_path / "a1", bank="a", node="node-1", administrators=[], hosts=["one.example"], settings={**listening}
    )
    before = certificate(tmp_path / "a1")
    second = make_peer(tmp_path / "a2", tmp_path / "a1")
    assert second.pair.peer_clients == "one.example:7611"
    assert certificate(tmp_path / "a1") == before


def test_free_ports_are_taken(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three in a row that nobody listens on and the first node does not use."""
    monkeypatch.setattr(joining, "_is_free", lambda host, port: port != 7622)
    second = make_peer(tmp_path / "a2", first)
    assert (second.server.port, second.monitor.port, second.pair.listen) == (7631, 7632, "127.0.0.1:7633")


def test_a_taken_port_is_not_free() -> None:
    """Nor is one of an address that is not of this machine called taken."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert not joining._is_free("127.0.0.1", taken.getsockname()[1])
    assert joining._is_free("192.0.2.1", 7611)


@pytest.mark.parametrize(
    ("settings", "more", "reason"),
    [
        ({}, {"node": "node-1"}, "is the name of the first node"),
        ({"pair__peer": "127.0.0.1:7623"}, {}, "another node already"),
        ({"server__port": 0}, {}, "another port at each start"),
        ({}, {"place": Place(host="10.0.0.2")}, "does not find it"),
        ({}, {"place": Place(host="0.0.0.0")}, "every address of this machine"),
    ],
    ids=["name", "third", "port", "loopback", "nowhere"],
)
def test_what_cannot_be_a_pair_changes_nothing(tmp_path: Path, settings: Any, more: Any, reason: str) -> None:
    """It is told with a way out."""
    first = make_first(tmp_path / "a1", **settings)
    before = (first / "fortress.toml").read_bytes()
    with pytest.raises(Misuse, match=reason) as caught:
        make_peer(tmp_path / "a2", first, **more)
    assert caught.value.do
    assert (first / "fortress.toml").read_bytes() == before and not (tmp_path / "a2").exists()


def test_a_folder_in_the_way_changes_nothing(first: Path, tmp_path: Path) -> None:
    """Nor do missing folders and keys."""
    (tmp_path / "a2").mkdir()
    (tmp_path / "a2" / "letter").write_text("mine")
    before = (first / "fortress.toml").read_bytes()
    with pytest.raises(FolderExists):
        make_peer(tmp_path / "a2", first)
    with pytest.raises(FolderMissing):
        make_peer(tmp_path / "a3", tmp_path / "none")
    (first / "keys" / "node.key").rename(tmp_path / "away")
    with pytest.raises(KeyUnusable):
        make_peer(tmp_path / "a3", first)
    (first / "certs" / "ca.key").unlink()
    with pytest.raises(Misuse, match="no key of the authority"):
        make_peer(tmp_path / "a3", first)
    assert (first / "fortress.toml").read_bytes() == before and not (tmp_path / "a3").exists()


def test_a_lost_second_node_is_made_anew(first: Path, tmp_path: Path) -> None:
    """The pair stays the same one; the disk is another."""
    before = make_peer(tmp_path / "a2", first)
    again = make_peer(tmp_path / "a2-new", first, replace=True)
    assert again.pair.cluster == before.pair.cluster
    assert keyring_of(tmp_path / "a2-new").data_key != keyring_of(tmp_path / "a2").data_key


def test_a_served_folder_may_be_joined(first: Path, tmp_path: Path) -> None:
    """Only its settings change, which the running process does not read before its next start."""
    with locked(loaded(first)):
        make_peer(tmp_path / "a2", first)
    assert loaded(first).pair.peer


def test_both_nodes_learn_of_their_register(first: Path, tmp_path: Path) -> None:
    """Named before or after the second one is made; another one is refused."""
    use_register([first], "etcd", "https://e1:2379,https://e2:2379")
    second = make_peer(tmp_path / "a2", first)
    assert (second.pair.register, second.pair.register_addresses) == ("etcd", "https://e1:2379,https://e2:2379")
    use_register([first, tmp_path / "a2"], "etcd", "https://e1:2379,https://e2:2379")
    with pytest.raises(Misuse, match="has a register already"):
        use_register([first], "witness", "w:7610")
    use_register([first], "witness", "w:7610", replace=True)
    assert loaded(first).pair.register_addresses == "w:7610"


@pytest.mark.parametrize(
    ("host", "is_own"), [("127.0.0.3", True), ("::1", True), ("localhost", True), ("10.0.0.1", False), ("b", False)]
)
def test_loopback_is_known(host: str, is_own: bool) -> None:
    """Addresses that only this machine reaches."""
    assert is_loopback(host) is is_own
    assert endpoint("::1", 1) == "[::1]:1"


# --- the witness -----------------------------------------------------------------------------------------------------


def test_the_witness_gets_a_folder_and_its_nodes_know_it(first: Path, tmp_path: Path) -> None:
    """A certificate of the same authority, no keys of the bank, and an address that both nodes were told."""
    make_peer(tmp_path / "a2", first)
    made = make_witness(tmp_path / "w", [first, tmp_path / "a2"], place=Place(port=7620, names=("localhost",)))
    assert made.value("witness.listen") == "127.0.0.1:7620"
    for folder in (first, tmp_path / "a2"):
        assert loaded(folder).pair.register == "witness"
        assert loaded(folder).pair.register_addresses == "localhost:7620"
    names = {path.name for path in (tmp_path / "w").rglob("*") if path.is_file()}
    assert names == {"fortress.toml", "ca.crt", "node.crt", "node.key"}
    assert certificate(tmp_path / "w").issuer == certificate(first).issuer


def test_a_second_node_made_later_knows_the_witness_too(first: Path, tmp_path: Path) -> None:
    """Whichever is made first."""
    make_witness(tmp_path / "w", [first])
    told = loaded(first).pair.register_addresses
    assert told and make_peer(tmp_path / "a2", first).pair.register_addresses == told


def test_one_witness_serves_several_banks(first: Path, tmp_path: Path) -> None:
    """It trusts all of their authorities, and each node knows it by the authority that signed its certificate."""
    other = tmp_path / "b1"
    make_folder(other, bank="b", node="node-1", administrators=[])
    make_peer(tmp_path / "b2", other)
    make_witness(tmp_path / "w", [first, other, tmp_path / "b2"])
    for folder in (first, other, tmp_path / "b2"):
        shake_hands(folder, tmp_path / "w")
    assert loaded(first).pair.register_ca == "" and loaded(other).pair.register_ca == "certs/register-ca.crt"
    make_peer(tmp_path / "b3", other, replace=True)
    shake_hands(tmp_path / "b3", tmp_path / "w")
    make_folder(tmp_path / "c1", bank="c", node="node-1", administrators=[])
    with pytest.raises(ssl.SSLError):
        shake_hands(tmp_path / "c1", tmp_path / "w")


def test_a_node_whose_bank_gets_a_witness_of_its_own_trusts_its_own_authority_again(
    first: Path, tmp_path: Path
) -> None:
    """The other one's is named no more."""
    other = tmp_path / "b1"
    make_folder(other, bank="b", node="node-1", administrators=[])
    make_witness(tmp_path / "w", [first, other])
    make_witness(tmp_path / "wb", [other], replace=True)
    assert loaded(other).pair.register_ca == ""
    shake_hands(other, tmp_path / "wb")


def shake_hands(folder: Path, witness: Path) -> None:
    """Open TLS between a node, as it asks its register, and a witness; both in memory."""
    files, settings = loaded(folder).tls, loaded(folder)
    certs = [witness / "certs" / name for name in ("node.crt", "node.key", "ca.crt")]
    ca = settings.path(settings.pair.register_ca or files.ca)
    dialing = dialing_context(settings.path(files.certificate), settings.path(files.key), ca)
    to_witness, to_node = ssl.MemoryBIO(), ssl.MemoryBIO()
    node = dialing.wrap_bio(to_node, to_witness)
    server = listening_context(*certs).wrap_bio(to_witness, to_node, server_side=True)
    for side in (node, server, node, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


# --- a gateway -------------------------------------------------------------------------------------------------------


def test_a_gateway_is_a_pair_too(tmp_path: Path) -> None:
    """Each node takes banks at a port of its own."""
    first = tmp_path / "g1"
    make_folder(first, bank="gateway", node="node-1", administrators=[], settings={"switch.listen": "127.0.0.1:7615"})
    second = make_peer(tmp_path / "g2", first)
    host, _, port = second.switch.listen.rpartition(":")
    assert host == "127.0.0.1" and int(port) == second.server.port + 4
    assert make_peer(tmp_path / "g3", first, replace=True, place=Place(bank_port=7700)).switch.listen.endswith(":7700")


def test_the_second_node_of_a_bank_knows_the_gateway(first: Path, tmp_path: Path) -> None:
    """Its address and its authority."""
    gateway = tmp_path / "g1"
    make_folder(gateway, bank="gateway", node="node-1", administrators=[], settings={"switch.listen": "127.0.0.1:7615"})
    connect_bank([first], gateway_of([gateway]))
    second = make_peer(tmp_path / "a2", first)
    assert (second.gateway.bank, second.gateway.addresses) == ("gateway", "127.0.0.1:7615")
    assert second.path(second.gateway.authority).read_bytes() == (gateway / "certs" / "ca.crt").read_bytes()


def test_what_cannot_be_witnessed_is_told(first: Path, tmp_path: Path) -> None:
    """Two authorities of one bank, none with its key, a register that is there; nothing is changed."""
    other = make_first(tmp_path / "b1")
    with pytest.raises(Misuse, match="under two authorities"):
        make_witness(tmp_path / "w", [first, other])
    make_peer(tmp_path / "a2", first)
    with pytest.raises(Misuse, match="none of the folders"):
        make_witness(tmp_path / "w", [tmp_path / "a2"])
    assert not (tmp_path / "w").exists() and not loaded(first).pair.register_addresses
    make_witness(tmp_path / "w", [tmp_path / "a2", first])
    with pytest.raises(Misuse, match="has a register already"):
        make_witness(tmp_path / "w2", [first])
    make_witness(tmp_path / "w2", [first], place=Place(port=7630), replace=True)
    assert loaded(first).pair.register_addresses == "127.0.0.1:7630"
