"""``serve`` as a process: it tells when it listens, reloads, ends in order, and says why it cannot start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fortress.cli.bootstrap import make_administrator
from fortress.cli.demo import free_port
from fortress.cli.folders import make_folder
from fortress.cli.status import read_site
from fortress.protocol.schnorr import KDF_PARAMETERS_MIN

END_S = 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "bank-a"
    administrators = [make_administrator("ada", "seven quiet rivers", KDF_PARAMETERS_MIN)]
    settings: dict[str, str | int] = {"server.port": 0, "monitor.port": free_port()}
    make_folder(path, bank="a", node="node-1", administrators=administrators, settings=settings)
    return path


@contextmanager
def serving(folder: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    arguments = [sys.executable, "-m", "fortress", "serve", str(folder), "--json", *more]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield process, json.loads(line) if line else {}
        finally:
            if process.poll() is None:
                process.kill()


def test_it_tells_its_addresses_and_ends_in_order(folder: Path) -> None:
    """At SIGTERM it drains and exits with 0; then the folder can be served again."""
    for _ in range(2):
        with serving(folder) as (process, told):
            assert told["bank"] == "a" and told["pid"] == process.pid
            assert read_site(told["status"], 5)["role"] == "primary"
            process.send_signal(signal.SIGTERM)
            assert process.wait(END_S) == 0


def test_a_second_server_on_the_folder_is_refused(folder: Path) -> None:
    """It says which process serves it; exit code 2."""
    with serving(folder) as (process, _):
        with serving(folder) as (second, told):
            assert told == {} and second.stderr is not None
            assert second.wait(END_S) == 2
            assert str(process.pid) in second.stderr.read()


def test_certificates_are_reloaded_and_a_closed_input_ends_it(folder: Path) -> None:
    """SIGHUP changes nothing for who is connected; a missing certificate is told and the old one stays."""
    with serving(folder, "--stop-at-eof") as (process, told):
        process.send_signal(signal.SIGHUP)
        assert read_site(told["status"], 5)["role"] == "primary"
        (folder / "certs" / "node.crt").rename(folder / "certs" / "away")
        process.send_signal(signal.SIGHUP)
        assert process.stdin is not None and process.stderr is not None
        while "not reloaded" not in (line := process.stderr.readline()):
            assert line, "it ended without a word"
        process.stdin.close()
        assert process.wait(END_S) == 0


def test_the_site_may_be_off(folder: Path) -> None:
    """Then no address of it is told."""
    with serving(folder, "--set", "monitor.port=0") as (process, told):
        assert told["status"] is None
        process.send_signal(signal.SIGINT)
        assert process.wait(END_S) == 0


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (lambda folder: os.remove(folder / "keys" / "node.key"), 2, "FT-5006"),
        (lambda folder: os.remove(folder / "bootstrap.json"), 2, "bootstrap.json"),
        (lambda folder: os.remove(folder / "certs" / "node.key"), 2, "FT-6008"),
        (lambda folder: (folder / "fortress.toml").write_text("[node]\nbnak = 1\n"), 2, "FT-6002"),
    ],
    ids=["key", "bootstrap", "certificate", "setting"],
)
def test_what_keeps_it_from_starting_is_told(folder: Path, spoil: Any, code: int, words: str) -> None:
    """In three lines, with what to do."""
    spoil(folder)
    with serving(folder) as (process, told):
        assert told == {} and process.stderr is not None
        assert process.wait(END_S) == code
        assert words in process.stderr.read()
