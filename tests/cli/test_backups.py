"""``backup`` and ``restore`` on the command line: what they print, ask, refuse and leave behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.banks import filled_folder

Tell = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """The folder of a bank that nobody serves."""
    return Path(shutil.copytree(filled_folder(), tmp_path / "bank"))


@pytest.fixture
def made(bank: Path, tmp_path: Path, tell: Tell) -> Path:
    """A backup of it."""
    code, out, err = tell("backup", "create", str(bank), "--to", str(tmp_path / "kept"), "--json")
    assert code == 0, err
    return Path(out["file"])


def test_a_backup_is_made_listed_and_verified(bank: Path, made: Path, tell: Tell) -> None:
    """With its key: that of the folder given, or a file or a command."""
    code, out, err = tell("backup", "list", str(made.parent), "--json")
    assert code == 0 and [row["file"] for row in out] == [str(made)]
    assert out[0]["bytes"] == made.stat().st_size and out[0]["position"] > out[0]["records"] - 1
    assert made.name in tell("backup", "list", str(made.parent))[1]
    for key in (
        ["--key-file", str(bank / "keys" / "node.key")],
        ["--key-command", f"cat {bank}/keys/node.key"],
        ["--config", str(bank)],
    ):
        code, out, err = tell("backup", "verify", str(made), *key, "--json")
        assert code == 0 and out["whole"] is True and out["records"] > 1, err
    assert "keep a copy of that elsewhere" in tell("backup", "create", str(bank), "--to", str(made.parent))[2]


def test_a_damaged_backup_fails_the_check(bank: Path, made: Path, tell: Tell) -> None:
    """Exit code 7; the list shows what is none."""
    data = bytearray(made.read_bytes())
    data[-1] ^= 1
    made.write_bytes(data)
    code, out, _ = tell("backup", "verify", str(made), "--config", str(bank), "--json")
    assert code == 7 and not out["whole"]
    made.write_bytes(b"nothing")
    code, out, err = tell("backup", "list", str(made.parent))
    assert code == 0 and "no backups" in out + err and made.name in err
    code, _, err = tell("restore", str(made), "--into", str(made.parent / "new"), "--config", str(bank))
    assert code == 7 and "FT-5011" in err


def test_the_key_must_be_named(made: Path, tell: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no node's folder; a wrong one is told."""
    monkeypatch.chdir(tmp_path)
    code, _, err = tell("backup", "verify", str(made))
    assert code == 2 and "--key-file" in err
    wrong = tmp_path / "wrong.key"
    wrong.write_text("00" * 32)
    wrong.chmod(0o600)
    code, _, err = tell("restore", str(made), "--into", str(tmp_path / "new"), "--key-file", str(wrong))
    assert code == 2 and "FT-5006" in err and not (tmp_path / "new").exists()


def test_a_bank_is_restored(bank: Path, made: Path, tell: Tell, tmp_path: Path) -> None:
    """Whole or as of a position or time, never over anything; what comes next is said."""
    key = ["--key-file", str(bank / "keys" / "node.key")]
    code, out, err = tell("restore", str(made), "--into", str(tmp_path / "new"), *key, "--json")
    assert code == 0 and (out["bank"], out["epoch"]) == ("bank-a", 2) and "fortress serve" in err
    code, audited, _ = tell("audit", "verify", str(tmp_path / "new"), "--json")
    assert code == 0 and audited["records"] == out["records"] + 1
    code, part, _ = tell("restore", str(made), "--into", str(tmp_path / "part"), *key, "--seq", "5", "--json")
    assert code == 0 and part["position"] <= 5
    code, part, err = tell("restore", str(made), "--into", str(tmp_path / "part2"), *key, "--to", out["until"])
    assert code == 0 and str(out["position"]) in part
    for more, word in (
        (["--into", str(tmp_path / "new")], "already holds a bank"),
        (["--into", str(tmp_path / "x"), "--seq", "5", "--to", "2026-01-01"], "both say how far"),
        (["--into", str(tmp_path / "x"), "--to", "2000-01-01"], "before that moment"),
        (["--into", str(tmp_path / "x"), "--to", "yesterday"], "is not a time"),
    ):
        code, _, err = tell("restore", str(made), *more, *key)
        assert code == 2 and word in err
    assert not (tmp_path / "x").exists()


def test_old_backups_are_deleted_after_a_yes(bank: Path, made: Path, tell: Tell) -> None:
    """And what interrupted ones left, once it is a day old; the newest stay."""
    older = made.with_name("older.backup")
    shutil.copy(made, older)
    left = made.with_name(f".{made.name}.7.partial")
    left.touch()
    os.utime(left, (0, 0))
    code, _, err = tell("backup", "prune", str(made.parent), "--keep", "1")
    assert code == 2 and "--yes" in err and older.exists()
    code, out, _ = tell("backup", "prune", str(made.parent), "--keep", "1", "--yes", "--json")
    assert code == 0 and len(out["deleted"]) == 1 and out["kept"] == 1 and out["left_over"] == [left.name]
    assert len(list(made.parent.iterdir())) == 1
    code, out, _ = tell("backup", "prune", str(made.parent), "--keep", "1", "--json")
    assert code == 0 and out["deleted"] == []


def test_a_place_that_cannot_be_written_to_is_told(bank: Path, tell: Tell, tmp_path: Path) -> None:
    """With the way out."""
    (tmp_path / "file").touch()
    code, _, err = tell("backup", "create", str(bank), "--to", str(tmp_path / "file" / "x"))
    assert code == 2 and "name another place" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing_half_done(bank: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Neither a file that is no backup, nor one beside it."""
    held = (
        "import sys, threading\n"
        "from fortress.server import backups\n"
        "from fortress.cli.main import run\n"
        "def wait(*arguments):\n"
        "    print('begun', flush=True)\n"
        "    threading.Event().wait(60)\n"
        "backups._people = wait\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    kept = tmp_path / "kept"
    command = [sys.executable, "-c", held, "backup", "create", str(bank), "--to", str(kept)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"begun\n"
        assert any(path.suffix == ".partial" for path in kept.iterdir())
        process.send_signal(number)
        assert process.wait(30) in (130, 143)
    assert not list(kept.iterdir())


def test_a_kill_leaves_a_file_that_nobody_takes_for_a_backup(bank: Path, tmp_path: Path, tell: Tell) -> None:
    """Which the next prune clears away; the backup made after it is whole."""
    held = (
        "import os, sys\n"
        "from fortress.server import backups\n"
        "from fortress.cli.main import run\n"
        "backups._people = lambda *arguments: os.kill(os.getpid(), 9)\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    kept = tmp_path / "kept"
    command = [sys.executable, "-c", held, "backup", "create", str(bank), "--to", str(kept)]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == -9
    assert tell("backup", "list", str(kept), "--json")[1] == []
    code, out, _ = tell("backup", "create", str(bank), "--to", str(kept), "--json")
    assert code == 0 and [row["file"] for row in tell("backup", "list", str(kept), "--json")[1]] == [out["file"]]
    for path in kept.iterdir():
        if path.name.startswith("."):
            os.utime(path, (time.time() - 100_000,) * 2)
    code, pruned, _ = tell("backup", "prune", str(kept), "--keep", "3", "--json")
    assert code == 0 and len(pruned["left_over"]) == 2 and json.dumps(pruned)
    assert [str(path) for path in kept.iterdir()] == [out["file"]]
