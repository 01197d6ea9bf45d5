"""``cert``: certificates shown, renewed and issued."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fortress.cli.folders import make_folder
from tests.cli.doors import make_pair

Tell = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "bank-a"
    make_folder(path, bank="a", node="node-1", administrators=[])
    return path


def test_certificates_are_listed(tell: Tell, folder: Path) -> None:
    """Of the bank's folder, or of one named."""
    rows = tell("cert", "show", "--config", str(folder), "--json")[1]
    assert {(row["name"], row["kind"], row["key_fits"]) for row in rows} == {
        ("ca", "authority", True),
        ("node", "node", True),
        ("bank", "bank", True),
    }
    assert "localhost" in tell("cert", "show", "--folder", str(folder / "certs"))[1]


def test_certificates_are_renewed(tell: Tell, folder: Path) -> None:
    """With new fingerprints; a running node is told by a signal."""
    before = {row["name"]: row["sha256"] for row in tell("cert", "show", "--config", str(folder), "--json")[1]}
    code, rows, err = tell("cert", "renew", "node", "bank", "--config", str(folder), "--json")
    assert code == 0 and "SIGHUP" in err
    assert all(row["sha256"] != before[row["name"]] for row in rows)
    assert tell("cert", "renew", "nobody", "--config", str(folder))[0] == 2


def test_a_certificate_is_issued(tell: Tell, folder: Path) -> None:
    """For the hosts named, or for this machine."""
    arguments = ("cert", "issue", "node-2", "--host", "b.example", "--host", "10.0.0.2", "--config", str(folder))
    (row,) = tell(*arguments, "--json")[1]
    assert (row["kind"], row["bank"], row["hosts"]) == ("node", "a", ["b.example", "10.0.0.2"])
    (row,) = tell("cert", "issue", "node-3", "--config", str(folder), "--json")[1]
    assert "localhost" in row["hosts"]


def test_a_second_nodes_certificate_is_renewed_by_the_first_ones_authority(tell: Tell, tmp_path: Path) -> None:
    """Its own folder has no key to sign with."""
    first, second = make_pair(tmp_path)
    code, _, err = tell("cert", "renew", "node", "--config", str(second))
    assert code == 2 and "FT-6008" in err
    arguments = ("cert", "renew", "node", "--config", str(second), "--authority", str(first / "certs"))
    (row,) = tell(*arguments, "--json")[1]
    assert row["key_fits"] and "127.0.0.1" in row["hosts"]
    assert not (second / "certs" / "ca.key").exists()
