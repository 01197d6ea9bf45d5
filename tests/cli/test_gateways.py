"""A bank's nodes learn which gateway they pay through, or nothing of them changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fortress import config
from fortress.cli.folders import make_folder
from fortress.cli.gateways import Gateway, connect_bank, gateway_of, read_authority
from fortress.cli.misuse import Misuse
from fortress.errors import CertificateUnusable, SettingInvalid, UsageError
from fortress.server.folder import locked

Tell = Callable[..., Any]


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    make_folder(tmp_path / "a1", bank="a", node="node-1", administrators=[])
    return tmp_path / "a1"


def make_gateway(folder: Path, bank: str = "gateway", **settings: Any) -> Path:
    given = {"switch.listen": "127.0.0.1:7615", **{key.replace("__", "."): value for key, value in settings.items()}}
    make_folder(folder, bank=bank, node=folder.name, administrators=[], hosts=("g.example.org",), settings=given)
    return folder


def settings_of(folder: Path) -> config.Settings:
    return config.load(folder, {}, {})


def test_a_gateway_is_described_by_its_folders(tmp_path: Path) -> None:
    """Where it listens for banks; on every address, it is the name in its certificate."""
    first = make_gateway(tmp_path / "g1")
    second = make_gateway(tmp_path / "g2", switch__listen="0.0.0.0:7625", server__host="0.0.0.0")
    found = gateway_of([first, second])
    assert found.bank == "gateway" and found.addresses == "127.0.0.1:7615,g.example.org:7625"
    assert found.authority == first / "certs" / "ca.crt"


def test_folders_of_two_gateways_or_of_a_bank_are_none(bank: Path, tmp_path: Path) -> None:
    """Told by name."""
    first, other = make_gateway(tmp_path / "g1"), make_gateway(tmp_path / "h1", bank="hub")
    with pytest.raises(Misuse, match="several gateways"):
        gateway_of([first, other])
    with pytest.raises(Misuse, match="folder of bank a, not of a gateway"):
        gateway_of([bank])


def test_a_bank_that_joins_knows_address_and_authority(bank: Path, tmp_path: Path) -> None:
    """As often as it is said; spaces in the list mean nothing."""
    gateway = make_gateway(tmp_path / "g1")
    for _ in range(2):
        (made,) = connect_bank([bank], gateway_of([gateway]))
        assert (made.gateway.bank, made.gateway.addresses) == ("gateway", "127.0.0.1:7615")
    assert made.path(made.gateway.authority).read_text("ascii") == read_authority(gateway / "certs" / "ca.crt")
    listed = Gateway(bank="gateway", addresses="[::1]:7615, g2.example.org:7625", authority=gateway / "certs/ca.crt")
    assert connect_bank([bank], listed)[0].gateway.addresses == "[::1]:7615,g2.example.org:7625"


def test_another_gateway_takes_a_word_more(bank: Path, tmp_path: Path) -> None:
    """Payments under way with the first one would hang."""
    connect_bank([bank], gateway_of([make_gateway(tmp_path / "g1")]))
    other = gateway_of([make_gateway(tmp_path / "h1", bank="hub")])
    with pytest.raises(Misuse, match="through the gateway 'gateway' already"):
        connect_bank([bank], other)
    assert settings_of(bank).gateway.bank == "gateway"
    assert connect_bank([bank], other, replace=True)[0].gateway.bank == "hub"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"bank": "a"}, Misuse, "cannot be called .a."),
        ({"bank": "Hub"}, SettingInvalid, "gateway.bank"),
        ({"addresses": "g1.example.org:7615,,"}, UsageError, "names no port"),
        ({"authority": Path("missing.crt")}, CertificateUnusable, "cannot be read"),
    ],
    ids=["name", "id", "addresses", "authority"],
)
def test_what_is_no_gateway_changes_nothing(
    bank: Path, tmp_path: Path, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    """Everything is checked first."""
    before = (bank / "fortress.toml").read_bytes()
    good = {"bank": "gateway", "addresses": "h:1", "authority": make_gateway(tmp_path / "g1") / "certs" / "ca.crt"}
    with pytest.raises(error, match=words):
        connect_bank([bank], Gateway(**{**good, **change}))
    assert (bank / "fortress.toml").read_bytes() == before
    assert not settings_of(bank).path("certs/gateway-ca.crt").exists()


def test_only_nodes_of_one_bank_join_together(bank: Path, tmp_path: Path) -> None:
    """No gateway among them either."""
    gateway = make_gateway(tmp_path / "g1")
    make_folder(tmp_path / "b1", bank="b", node="node-1", administrators=[])
    with pytest.raises(Misuse, match="are of two banks"):
        connect_bank([bank, tmp_path / "b1"], gateway_of([gateway]))
    with pytest.raises(Misuse, match="is a gateway itself"):
        connect_bank([make_gateway(tmp_path / "h1", bank="hub")], gateway_of([gateway]))
    assert not settings_of(bank).gateway.addresses


def test_only_an_authority_is_one(bank: Path) -> None:
    """A node's certificate signs nothing."""
    assert read_authority(bank / "certs" / "ca.crt").startswith("-----BEGIN CERTIFICATE-----")
    with pytest.raises(Misuse, match="not the certificate of an authority"):
        read_authority(bank / "certs" / "node.crt")


def test_joining_from_the_command_line(bank: Path, tmp_path: Path, tell: Tell) -> None:
    """By the gateway's folder, or by its authority's file and its addresses; both at once is wrong usage."""
    gateway = make_gateway(tmp_path / "g1")
    code, out, err = tell("bank", "join", str(bank), "--gateway-folder", str(gateway), "--json")
    assert code == 0 and (out["bank"], out["gateway"], out["nodes"]) == ("a", "gateway", ["node-1"])
    assert "fortress bank add a --authority" in err
    by_file = ("--authority", str(gateway / "certs/ca.crt"), "--addresses", "g1.example.org:7615")
    with locked(settings_of(bank)):
        code, out, err = tell("bank", "join", str(bank), *by_file)
    assert code == 0 and "through gateway at g1.example.org:7615" in out and "must be started anew" in err
    assert tell("bank", "join", str(bank), "--gateway-folder", str(gateway), *by_file)[0] == 2
    assert tell("bank", "join", str(bank), "--addresses", "g1.example.org:7615")[0] == 2


def test_a_bank_is_not_run_as_a_gateway(bank: Path, tell: Tell) -> None:
    """Before anything is opened."""
    code, _, err = tell("gateway", str(bank))
    assert code == 2 and "not of a gateway" in err
