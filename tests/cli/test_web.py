"""``web`` as a process, and how it finds its bank and its TLS."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fortress import authority, config
from fortress.authority import Kind
from fortress.cli.web import browser_tls, context_of, place_of
from fortress.config import Settings, settings_file
from fortress.errors import CertificateUnusable, SettingInvalid, UsageError

END_S = 30
ELSEWHERE = {"web.bank": "fortress://127.0.0.1:1/a", "web.port": 0}


def settings_of(folder: Path, values: dict[str, Any]) -> Settings:
    folder.mkdir(exist_ok=True)
    (folder / "fortress.toml").write_text(settings_file(values))
    return config.load(folder, {}, {})


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and a certificate of it for this machine."""
    path = tmp_path_factory.mktemp("pages") / "certs"
    authority.make_authority(path, "a")
    authority.issue(path, Kind.node, bank="a")
    return path


@contextmanager
def serving(folder: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    arguments = [sys.executable, "-m", "fortress", "web", str(folder), "--json", *more]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        try:
            yield process, json.loads(line) if line else {}
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.parametrize("end", [signal.SIGTERM, None], ids=["sigterm", "eof"])
def test_it_serves_until_it_is_told_to_end(certs: Path, tmp_path: Path, end: signal.Signals | None) -> None:
    """It tells its address, answers there also while its bank is away, and exits with 0."""
    settings_of(tmp_path, {**ELSEWHERE, "web.ca": str(certs / "ca.crt")})
    with serving(tmp_path, *(() if end else ("--stop-at-eof",))) as (process, told):
        assert told["bank"] == "a" and told["pid"] == process.pid
        with urllib.request.urlopen(f"{told['url']}/api/site", timeout=END_S) as answer:
            assert json.load(answer)["bank"] == "a"
        if end:
            process.send_signal(end)
        else:
            assert process.stdin is not None
            process.stdin.close()
        assert process.wait(END_S) == 0


def test_a_new_certificate_is_taken_over_while_it_runs(certs: Path, tmp_path: Path) -> None:
    """SIGHUP reads the certificate again: browsers that come later see the new one."""
    own = tmp_path / "certs"
    authority.make_authority(own, "pages")
    authority.issue(own, Kind.node, bank="pages")
    files = {"web.certificate": str(own / "node.crt"), "web.key": str(own / "node.key")}
    settings_of(tmp_path, {**ELSEWHERE, **files, "web.ca": str(certs / "ca.crt")})
    with serving(tmp_path) as (process, told):
        host, _, port = told["address"].rpartition(":")
        assert told["url"].startswith("https://")
        first = ssl.get_server_certificate((host, int(port)), timeout=END_S)
        authority.renew(own, "node")
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        while "certificate reloaded" not in process.stderr.readline():
            pass
        second = ssl.get_server_certificate((host, int(port)), timeout=END_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_S) == 0
    assert first != second


def test_the_bank_is_that_of_the_folder_with_both_its_nodes(tmp_path: Path) -> None:
    """A node's own folder says where the bank is, whose it is, and what it is."""
    pair = {"server.port": 7611, "node.bank": "a", "pair.peer": "10.0.0.2:7613", "pair.peer_clients": "10.0.0.2:7611"}
    place = place_of(settings_of(tmp_path, {"server.host": "0.0.0.0", **pair}))
    assert (place.address, place.kind) == ("fortress://127.0.0.1:7611,10.0.0.2:7611/a", "bank")
    assert place.ca == tmp_path / "certs" / "ca.crt"
    gateway = place_of(settings_of(tmp_path, {"node.bank": "g", "switch.listen": "127.0.0.1:7615"}))
    assert gateway.kind == "gateway"


def test_a_bank_elsewhere_is_named(tmp_path: Path) -> None:
    """The section of the pages goes before the folder's own node."""
    place = place_of(settings_of(tmp_path, {"web.bank": "fortress://b.example:7611/b", "web.ca": "b.crt"}))
    assert (place.address, place.ca) == ("fortress://b.example:7611/b", tmp_path / "b.crt")


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"server.port": 0}, SettingInvalid),
        ({"web.bank": "http://b"}, UsageError),
        ({"web.bank": "fortress://b/b", "web.ca": "missing.crt"}, UsageError),
    ],
    ids=["any port", "no address", "no authority"],
)
def test_a_bank_that_cannot_be_found_is_said_at_once(
    tmp_path: Path, values: dict[str, Any], error: type[Exception]
) -> None:
    """What is wrong with the settings is told at the start, and not to the first customer."""
    with pytest.raises(error):
        context_of(settings_of(tmp_path, values))


@pytest.mark.parametrize(
    "values",
    [
        {"web.host": "0.0.0.0"},
        {"web.host": "0.0.0.0", "web.origin": "https://bank.example"},
        {"web.host": "0.0.0.0", "web.certificate": "certs/node.crt", "web.key": "certs/node.key"},
    ],
    ids=["plain", "nothing in front", "no name"],
)
def test_nobody_else_reads_along(certs: Path, tmp_path: Path, values: dict[str, Any]) -> None:
    """Without TLS only this machine is served, or a load balancer that is named; and an origin is never guessed."""
    with pytest.raises(SettingInvalid):
        browser_tls(settings_of(tmp_path, values))


def test_tls_may_end_at_a_load_balancer(tmp_path: Path) -> None:
    """Where one is named, together with the origin at which browsers find it, plain HTTP is what it gets."""
    values = {"web.host": "10.0.0.5", "web.origin": "https://bank.example", "web.proxies": "10.0.0.1"}
    assert browser_tls(settings_of(tmp_path, values)) is None


def test_a_key_that_others_can_read_is_not_used(certs: Path, tmp_path: Path) -> None:
    """The same holds for it as for all other keys; nor is one used that belongs to another certificate."""
    key = tmp_path / "open.key"
    key.write_bytes((certs / "node.key").read_bytes())
    key.chmod(0o644)
    files = {"web.certificate": str(certs / "node.crt"), "web.key": str(key)}
    with pytest.raises(CertificateUnusable, match="others can read"):
        browser_tls(settings_of(tmp_path, files))
    with pytest.raises(CertificateUnusable, match="cannot be used"):
        browser_tls(settings_of(tmp_path, {**files, "web.key": str(certs / "ca.key")}))
