"""``init``: a folder that is ready to be served, with nothing secret in the open."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fortress import authority, config

Tell = Callable[..., Any]


def init(tell: Tell, folder: Path, secret: Path, *more: str) -> Any:
    return tell("init", str(folder), "--bank", "a", "--admin", "ada", "--password-file", str(secret), *more)


def test_a_folder_has_all_that_serve_needs(tell: Tell, tmp_path: Path, secret_file: Path) -> None:
    """Settings, certificates of three kinds, keys, and the first administrator."""
    folder = tmp_path / "bank-a"
    code, out, err = init(tell, folder, secret_file, "--currency", "usd", "--port", "7700", "--name", "bank.example")
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
