"""``init``: a folder that is ready to be served, with nothing secret in the open."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fortress import authority, config
from fortress.server.folder import locked

Tell = Callable[..., Any]


def init(tell: Tell, folder: Path, secret: Path, *more: str) -> Any:
    return tell("init", str(folder), "--bank", "a", "--admin", "ada", "--password-file", str(secret), *more)


def test_a_folder_has_all_that_serve_needs(tell: Tell, tmp_path: Path, secret_file: Path) -> None:
    """Settings, certificates of three kinds, keys, and the first administrator."""
    folder = tmp_path / "bank-a"
    code, out, err = init(tell, folder, secret_file, "--currency", "usd", "--port", "7700", "--at", "bank.example")
    assert code == 0 and "ready" in out
    settings = config.load(folder, {}, {})
    assert (settings.node.bank, settings.server.port) == ("a", 7700)
    facts = {each.name: each for each in authority.show(folder / "certs")}
    assert set(facts) == {"ca", "node", "bank"} and "bank.example" in facts["node"].hosts
    bootstrap = json.loads((folder / "bootstrap.json").read_text("utf-8"))
    assert [each["username"] for each in bootstrap["administrators"]] == ["ada"]
    assert bootstrap["currencies"] == ["USD"]
    assert f"fortress serve {folder}" in err and "fortress login ada" in err


def test_secrets_are_private_and_the_password_is_nowhere(tell: Tell, tmp_path: Path, secret_file: Path) -> None:
    """Keys of mode 0600; the password in no file and no word."""
    folder = tmp_path / "bank-a"
    _, out, err = init(tell, folder, secret_file, "--json")
    assert out["bank"] == "a"
    for path in folder.rglob("*"):
        if path.is_file():
            assert path.suffix == ".crt" or stat.S_IMODE(path.stat().st_mode) & 0o007 == 0 or path.suffix == ".toml"
            assert b"seven quiet" not in path.read_bytes()
    assert "seven quiet" not in json.dumps(out) + err


def test_a_folder_that_holds_something_is_left_alone(tell: Tell, tmp_path: Path, secret_file: Path) -> None:
    """Never overwritten; wrong usage."""
    (tmp_path / "x").write_text("mine")
    code, _, err = init(tell, tmp_path, secret_file)
    assert code == 2 and "FT-6004" in err
    assert (tmp_path / "x").read_text() == "mine"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--admin", "bob"], "one --password-file for each"),
        (["--currency", "XXZ"], "not a currency"),
        (["--node", "Node 1"], "node.name"),
    ],
    ids=lambda value: str(value),
)
def test_wrong_usage_makes_no_folder(
    tell: Tell, tmp_path: Path, secret_file: Path, more: list[str], reason: str
) -> None:
    """Everything is checked before anything is written."""
    folder = tmp_path / "bank-a"
    code, _, err = init(tell, folder, secret_file, *more)
    assert code == 2 and reason in err
    assert not folder.exists()


def test_a_weak_password_makes_no_folder(tell: Tell, tmp_path: Path) -> None:
    """An administrator's password matters most."""
    weak = tmp_path / "weak"
    weak.write_text("password12\n")
    code, _, err = init(tell, tmp_path / "bank-a", weak)
    assert code == 2 and "FT-2007" in err
    assert not (tmp_path / "bank-a").exists()


def test_a_second_node_joins(tell: Tell, tmp_path: Path, secret_file: Path) -> None:
    """It is told what to do next, in order: the witness, then both nodes."""
    first, second = tmp_path / "a1", tmp_path / "a2"
    assert init(tell, first, secret_file)[0] == 0
    code, out, err = tell("init", str(second), "--join", str(first), "--name", "left", "--json")
    assert code == 0 and (out["bank"], out["node"], out["register"]) == ("a", "left", None)
    assert err.index("fortress init ./witness") < err.index(f"fortress serve {first}")
    assert err.index(f"fortress serve {first}") < err.index(f"fortress serve {second}")
    assert config.load(first, {}, {}).pair.cluster == out["cluster"]
    assert secret_file.read_text("utf-8").strip() not in err


def test_a_running_first_node_must_be_started_anew(tell: Tell, tmp_path: Path, secret_file: Path) -> None:
    """The process is named."""
    first = tmp_path / "a1"
    init(tell, first, secret_file)
    with locked(config.load(first, {}, {})):
        code, _, err = tell("init", str(tmp_path / "a2"), "--join", str(first))
    assert code == 0 and f"process {os.getpid()} serves it" in err


def test_etcd_can_be_the_register(tell: Tell, tmp_path: Path, secret_file: Path) -> None:
    """Named with the first node or with the second one."""
    where = ("--register", "etcd", "--register-addresses", "https://e:2379")
    assert init(tell, tmp_path / "a1", secret_file, *where)[0] == 0
    assert config.load(tmp_path / "a1", {}, {}).pair.register_addresses == "https://e:2379"
    code, out, _ = tell("init", str(tmp_path / "a2"), "--join", str(tmp_path / "a1"), *where, "--json")
    assert code == 0 and out["register"] == "https://e:2379"
    assert config.load(tmp_path / "a2", {}, {}).pair.register == "etcd"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name it with --bank"),
        (["--bank", "a"], "needs an administrator"),
        (["--witness"], "whose witness"),
        (["--join", "x", "--bank", "a"], "leave out --bank"),
        (["--join", "x", "--join", "y"], "one first node"),
        (["--witness", "--join", "x", "--register-addresses", "y:1"], "leave out --register-addresses"),
        (["--bank", "a", "--admin", "ada", "--register", "etcd"], "where etcd is"),
        (["--join", "x"], "FT-6005"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_do_not_go_together_are_told(
    tell: Tell, tmp_path: Path, arguments: list[str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to do instead, before anything is written."""
    monkeypatch.chdir(tmp_path)
    code, _, err = tell("init", "new", *arguments)
    assert code == 2 and reason in err
    assert not (tmp_path / "new").exists()


def test_a_gateway_has_a_port_for_banks(tell: Tell, tmp_path: Path, secret_file: Path) -> None:
    """Called gateway unless it is told otherwise; ports follow the one for clients."""
    secret = ("--admin", "gus", "--password-file", str(secret_file))
    code, out, err = tell("init", str(tmp_path / "g1"), "--gateway", "--port", "7651", *secret, "--json")
    assert code == 0 and (out["bank"], out["listen"]) == ("gateway", "127.0.0.1:7655")
    assert f"fortress gateway {tmp_path / 'g1'}" in err and "fortress bank join" in err
    settings = config.load(tmp_path / "g1", {}, {})
    assert (settings.monitor.port, settings.pair.listen) == (7652, "127.0.0.1:7653")
    hub = ("--gateway", "--bank", "hub", "--bank-port", "7700")
    assert tell("init", str(tmp_path / "h1"), *hub, *secret, "--json")[1]["listen"] == "127.0.0.1:7700"
    code, _, err = tell("init", str(tmp_path / "g2"), "--gateway", "--join", str(tmp_path / "g1"))
    assert code == 0 and f"fortress gateway {tmp_path / 'g2'}" in err
    assert config.load(tmp_path / "g2", {}, {}).switch.listen == "127.0.0.1:7665"


def test_a_bank_takes_no_banks(tell: Tell, tmp_path: Path, secret_file: Path) -> None:
    """Nor does joining a bank's node make a gateway."""
    assert init(tell, tmp_path / "a1", secret_file, "--bank-port", "7700")[0] == 2
    assert init(tell, tmp_path / "a1", secret_file)[0] == 0
    assert tell("init", str(tmp_path / "a2"), "--gateway", "--join", str(tmp_path / "a1"))[0] == 2
    assert not (tmp_path / "a2").exists()
