"""``witness`` as a process: it serves until told to end, says why it cannot, and writes anew who is primary."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fortress.config import settings_file
from fortress.pair.control import Control
from fortress.pair.witness_register import WitnessRegister
from tests.pair.registers import CLUSTER, SECOND, configuration, dialing, make_certificates, promised_nothing

END_S = 30
Tell = Callable[..., tuple[int, Any, str]]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certs"))


@pytest.fixture
def folder(certificates: Path, tmp_path: Path) -> Path:
    path = tmp_path / "witness"
    path.mkdir()
    (path / "fortress.toml").write_text(settings_file({"witness.listen": "127.0.0.1:0"}))
    shutil.copytree(certificates, path / "certs")
    return path


@contextmanager
def serving(folder: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    arguments = [sys.executable, "-m", "fortress", "witness", str(folder), "--json", *more]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield process, json.loads(line) if line else {}
        finally:
            if process.poll() is None:
                process.kill()


async def test_it_serves_until_it_is_told_to_end(folder: Path, certificates: Path) -> None:
    """At SIGTERM, Ctrl-C or a closed input it exits with 0, and goes on where it was."""
    for epoch, end in ((1, signal.SIGTERM), (2, signal.SIGINT), (3, None)):
        with serving(folder, *(() if end else ("--stop-at-eof",))) as (process, told):
            assert told["pid"] == process.pid
            register = WitnessRegister(told["address"], dialing(certificates), CLUSTER, promised=promised_nothing)
            fresh = await register.compare_and_set(epoch - 1 or None, configuration(epoch))
            assert fresh.witness.hex() == told["witness"]
            await register.close()
            if end is None:
                assert process.stdin is not None
                process.stdin.close()
            else:
                process.send_signal(end)
            assert process.wait(END_S) == 0
            assert process.stderr is not None
            assert "configuration changed" in process.stderr.read()


def test_a_second_witness_on_the_folder_is_refused(folder: Path) -> None:
    """So is a reset while it runs."""
    reset = ("--reset", CLUSTER.hex(), "--promised", "1", "--primary", "node-1", "--instance", "00" * 16)
    with serving(folder):
        for more in ((), reset):
            with serving(folder, *more) as (second, told):
                assert told == {} and second.stderr is not None
                assert second.wait(END_S) == 2
                assert "FT-5007" in second.stderr.read()


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (lambda folder: os.remove(folder / "certs" / "node.key"), 2, "FT-6008"),
        (lambda folder: (folder / "fortress.toml").unlink(), 2, "FT-6005"),
        (lambda folder: (folder / "fortress.toml").write_text("[witness]\nlisten = 'nowhere'\n"), 2, "FT-6003"),
        (lambda folder: (folder / "register").write_bytes(bytes(100)), 7, "FT-5009"),
    ],
    ids=["certificate", "folder", "setting", "register"],
)
def test_what_keeps_it_from_starting_is_told(folder: Path, spoil: Any, code: int, words: str) -> None:
    """In three lines, with what to do."""
    spoil(folder)
    with serving(folder) as (process, told):
        assert told == {} and process.stderr is not None
        assert process.wait(END_S) == code
        assert words in process.stderr.read()


async def test_after_a_loss_an_operator_says_who_is_primary(
    folder: Path, certificates: Path, tmp_path: Path, tell: Tell
) -> None:
    """The control file says what a node knows; with that, the lost register serves it again."""
    control = Control.create(tmp_path / "control", CLUSTER)
    control.promise(7)
    control.close()
    code, shown, _ = tell("witness", "--control", str(tmp_path / "control"), "--json")
    assert (code, shown["cluster"], shown["promised"]) == (0, CLUSTER.hex(), 7)
    assert shown["instance"] == control.instance.hex()
    arguments = ["--reset", shown["cluster"], "--promised", "7", "--primary", SECOND.name]
    code, told, _ = tell("witness", str(folder), *arguments, "--instance", shown["instance"], "--json")
    assert (code, told) == (0, {"epoch": 8, "primary": SECOND.name, "in_sync": [SECOND.name]})
    with serving(folder) as (_, where):
        register = WitnessRegister(where["address"], dialing(certificates), CLUSTER, promised=lambda: 7)
        held = await register.get()
        assert held is not None and (held.epoch, held.primary.instance) == (8, control.instance)
        await register.close()
    arguments[3] = "6"
    code, _, said = tell("witness", str(folder), *arguments, "--instance", shown["instance"])
    assert code == 2 and "knows of 8" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["--reset", "00"],
        ["--primary", "node-1"],
        ["--reset", "no", "--promised", "1", "--primary", "node-1", "--instance", "00"],
    ],
)
def test_half_a_reset_is_none(folder: Path, tell: Tell, arguments: list[str]) -> None:
    """All of its options are needed, and identities are hexadecimal."""
    assert tell("witness", str(folder), *arguments)[0] == 2
    assert not (folder / "register").exists()


def test_a_missing_control_file_is_told(folder: Path, tell: Tell) -> None:
    """A folder that was never of a pair has none."""
    assert tell("witness", "--control", str(folder / "control"))[0] == 2
