"""``config``: what is set, where it comes from, whether all is in place, and a new key-encryption key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fortress.cli.folders import make_folder
from fortress.config import load
from fortress.ledger.keyring import Keyring, create_kek, read_kek
from fortress.server.folder import locked
from fortress.server.settings_file import change_settings

Tell = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "bank-a"
    make_folder(path, bank="a", node="node-1", administrators=[], settings={"server.port": 7700})
    return path


def test_settings_are_listed_with_their_sources(tell: Tell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flag before variable before file before default."""
    monkeypatch.setenv("FORTRESS_LOG__LEVEL", "debug")
    rows = tell("config", "show", str(folder), "--set", "server.idle_s=60", "--json")[1]
    assert rows["server.port"] == {"value": 7700, "source": "fortress.toml"}
    assert rows["log.level"] == {"value": "debug", "source": "variable FORTRESS_LOG__LEVEL"}
    assert rows["server.idle_s"] == {"value": 60, "source": "flag server.idle_s"}
    assert rows["server.host"]["source"] == "default"
    changed = tell("--config", str(folder), "config", "show", "--changed")[1]
    assert "server.port" in changed and "server.host" not in changed


def test_a_setting_is_explained(tell: Tell, folder: Path) -> None:
    """Also outside of any folder, with its default; an unknown one gets a suggestion."""
    assert tell("config", "explain", "server.port", str(folder), "--json")[1]["value"] == 7700
    out = tell("--config", "/nonexistent", "config", "explain", "server.port")[1]
    assert "Value      7611" in out and "FORTRESS_SERVER__PORT" in out
    code, _, err = tell("config", "explain", "server.prot", str(folder))
    assert code == 2 and "did you mean 'server.port'" in err


@pytest.mark.parametrize("override", ["server.port", "server.port=no", "server.prot=1"])
def test_a_wrong_override_is_wrong_usage(tell: Tell, folder: Path, override: str) -> None:
    """It names the key and what it takes."""
    assert tell("config", "show", str(folder), "--set", override)[0] == 2


def test_no_folder_is_told(tell: Tell, tmp_path: Path) -> None:
    """With the way to make one."""
    code, _, err = tell("config", "show", str(tmp_path))
    assert code == 2 and "FT-6005" in err and "fortress init" in err


def test_a_good_folder_passes_the_check(tell: Tell, folder: Path) -> None:
    """Settings, certificates and the key."""
    code, rows, _ = tell("config", "check", str(folder), "--json")
    assert code == 0 and all(row["ok"] for row in rows)
    assert {row["what"] for row in rows} >= {"settings", "certificate node", "key-encryption key"}


def test_what_is_missing_fails_the_check(tell: Tell, folder: Path) -> None:
    """Each with its reason; exit code 6."""
    (folder / "keys" / "node.key").unlink()
    (folder / "certs" / "node.key").chmod(0o644)
    code, out, _ = tell("config", "check", str(folder))
    assert code == 6
    assert out.count("bad") == 2 and "its key is missing" in out
    (folder / "certs" / "node.crt").write_text("x")
    assert "not a certificate" in tell("config", "check", str(folder))[1]


def kek_of(folder: Path) -> bytes:
    return read_kek(key_file=folder / "keys" / "node.key", key_command="", environment={})


def test_a_new_key_opens_the_same_secrets(tell: Tell, folder: Path) -> None:
    """The old one does not any more."""
    old = kek_of(folder)
    before = Keyring.open(folder / "keyring", old)
    assert tell("config", "rekey", str(folder), "--no-input")[0] == 2
    assert tell("config", "rekey", str(folder), "--yes")[0] == 0
    assert kek_of(folder) != old
    assert Keyring.open(folder / "keyring", kek_of(folder)) == before
    assert not (folder / "keys" / "node.key.new").exists()


@pytest.mark.parametrize("sealed", [False, True], ids=["before sealing", "after sealing"])
def test_an_interrupted_rekey_is_finished(tell: Tell, folder: Path, sealed: bool) -> None:
    """Whichever key opens the keyring, the new one does in the end."""
    from fortress.ledger.keyring import rekey

    new = create_kek(folder / "keys" / "node.key.new")
    if sealed:
        rekey(folder / "keyring", kek_of(folder), new)
    assert tell("config", "rekey", str(folder), "--yes")[0] == 0
    assert kek_of(folder) == new
    Keyring.open(folder / "keyring", new)


def test_the_key_of_a_running_node_is_not_changed(tell: Tell, folder: Path) -> None:
    """The folder is locked by whoever serves it."""
    old = kek_of(folder)
    with locked(load(folder, {}, {})):
        code, _, err = tell("config", "rekey", str(folder), "--yes")
    assert code == 2 and "FT-5007" in err
    assert kek_of(folder) == old


def test_a_key_from_a_command_is_not_rekeyed_here(tell: Tell, folder: Path) -> None:
    """It is kept elsewhere."""
    text = (folder / "fortress.toml").read_text("utf-8").replace('# key_command = ""', 'key_command = "cat k"')
    (folder / "fortress.toml").write_text(text)
    code, _, err = tell("config", "rekey", str(folder), "--yes")
    assert code == 2 and "key_command" in err


def test_a_check_looks_at_the_way_to_other_banks(tell: Tell, folder: Path) -> None:
    """A bank that names a gateway needs its authority; a gateway names none."""
    change_settings(folder, {"gateway.addresses": "127.0.0.1:7615"})
    code, out, _ = tell("config", "check", str(folder))
    assert code == 6 and "gateway-ca.crt" in out
    (folder / "certs" / "gateway-ca.crt").write_bytes((folder / "certs" / "ca.crt").read_bytes())
    code, out, _ = tell("config", "check", str(folder))
    assert code == 0 and "gateway is at 127.0.0.1:7615" in out
    change_settings(folder, {"switch.listen": "127.0.0.1:7616"})
    code, out, _ = tell("config", "check", str(folder))
    assert code == 6 and "names one as well" in out
    change_settings(folder, {"gateway.addresses": ""})
    code, out, _ = tell("config", "check", str(folder))
    assert code == 0 and "takes banks on 127.0.0.1:7616" in out
