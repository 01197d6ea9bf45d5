"""A folder is made whole or told to be half, served by one process, and says which file is wrong."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fortress import authority
from fortress.authority import Kind
from fortress.config import load, settings_file
from fortress.errors import (
    CertificateUnusable,
    FolderExists,
    FolderInUse,
    FolderMissing,
    KeyUnusable,
    SettingInvalid,
    SettingUnknown,
)
from fortress.protocol.channel import static_public_key
from fortress.protocol.identity import verify_identity
from fortress.server import folder as module
from fortress.server.folder import create, locked, open_folder, served_by

CHANGED = {"server.idle_s": 77, "server.drain_s": 55}


def make_certificates(certs: Path) -> None:
    authority.make_authority(certs, "bank-a")
    authority.issue(certs, Kind.node, bank="bank-a")
    authority.issue(certs, Kind.bank, bank="bank-a")


def made(folder: Path) -> Path:
    create(folder, bank="bank-a", node="one", make_certificates=make_certificates, settings={"server.port": 0})
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made(tmp_path / "bank")


def test_what_was_made_can_be_opened(folder: Path) -> None:
    """Settings, secrets, TLS 1.3 and the proof of the static key are there."""
    opened = open_folder(folder, {}, {})
    assert (opened.settings.node.bank, opened.settings.node.name, opened.settings.server.port) == ("bank-a", "one", 0)
    assert opened.tls.minimum_version is ssl.TLSVersion.TLSv1_3
    verify_identity(
        opened.identity_payload,
        bank_id="bank-a",
        static_public=static_public_key(opened.keyring.noise_private),
        ca_certificates=[authority.load_certificate(folder / "certs" / "ca.crt")],
        now=datetime.now(UTC),
    )
    opened.close()


def test_only_the_owner_reads_it(folder: Path) -> None:
    """The folder is closed to others, and so is every file with a secret."""
    assert folder.stat().st_mode & 0o777 == 0o700
    for secret in ("keyring", "keys/node.key", "certs/node.key", "certs/bank.key", "certs/ca.key"):
        assert (folder / secret).stat().st_mode & 0o077 == 0


def test_a_bank_is_not_made_over_another(folder: Path) -> None:
    """Nothing of the first is touched."""
    before = (folder / "keyring").read_bytes()
    with pytest.raises(FolderExists, match="already holds a bank"):
        made(folder)
    assert (folder / "keyring").read_bytes() == before


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    """Nor is it mixed with other people's files; an empty folder will do."""
    (tmp_path / "letter.txt").write_text("x")
    with pytest.raises(FolderExists, match="not an empty folder"):
        made(tmp_path)
    with pytest.raises(FolderExists, match="not an empty folder"):
        made(tmp_path / "letter.txt")
    (tmp_path / "empty").mkdir()
    made(tmp_path / "empty")


def test_an_interrupted_making_is_told_with_what_to_do(tmp_path: Path) -> None:
    """Until the settings stand, making it again and opening it both say to delete it."""

    def fail(certs: Path) -> None:
        raise KeyboardInterrupt

    target = tmp_path / "bank"
    with pytest.raises(KeyboardInterrupt):
        create(target, bank="bank-a", node="one", make_certificates=fail, settings={})
    with pytest.raises(FolderExists, match="interrupted.*delete it"):
        made(target)
    with pytest.raises(FolderMissing, match="interrupted.*delete it"):
        open_folder(target, {}, {})


def test_a_wrong_setting_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """A bank's id that cannot be one."""
    with pytest.raises(SettingInvalid):
        create(tmp_path / "b", bank="Bank A", node="one", make_certificates=make_certificates, settings={})
    assert not (tmp_path / "b").exists()


def test_no_folder_is_told(tmp_path: Path) -> None:
    """With the hint how to make one."""
    with pytest.raises(FolderMissing):
        open_folder(tmp_path, {}, {})


def test_a_second_process_is_kept_out(folder: Path) -> None:
    """It hears which process it is; after that one's end the folder is free."""
    first = open_folder(folder, {}, {})
    with pytest.raises(FolderInUse, match=f"process {os.getpid()} serves") as caught:
        open_folder(folder, {}, {})
    assert caught.value.facts == {"pid": str(os.getpid())}
    first.close()
    first.close()
    open_folder(folder, {}, {}).close()


def test_a_fault_while_opening_frees_the_lock(folder: Path) -> None:
    """So that it can be opened once the fault is mended."""
    key = folder / "keys" / "node.key"
    key.rename(folder / "away")
    with pytest.raises(KeyUnusable, match="cannot be read"):
        open_folder(folder, {}, {})
    (folder / "away").rename(key)
    open_folder(folder, {}, {}).close()


def test_a_data_folder_that_is_missing_is_told(folder: Path) -> None:
    """For example a disk that is not mounted."""
    with pytest.raises(FolderMissing, match="cannot be opened"):
        open_folder(folder, {"node.data_folder": "missing"}, {})


def test_the_wrong_key_is_told(folder: Path) -> None:
    """A key of another bank does not open the keyring."""
    (folder / "keys" / "node.key").write_text("00" * 32)
    with pytest.raises(KeyUnusable, match="another one"):
        open_folder(folder, {}, {})


@pytest.mark.parametrize("name", ["node", "bank"])
def test_certificates_that_cannot_be_used_are_told(folder: Path, name: str) -> None:
    """Open to others, not that of its key, not PEM, missing; each names the file."""
    key, certificate = folder / "certs" / f"{name}.key", folder / "certs" / f"{name}.crt"
    key.chmod(0o640)
    with pytest.raises(CertificateUnusable, match="0600"):
        open_folder(folder, {}, {})
    key.chmod(0o600)
    good = key.read_bytes()
    other = generate_private_key(SECP256R1())
    key.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(CertificateUnusable, match="key"):
        open_folder(folder, {}, {})
    key.write_bytes(b"noise")
    with pytest.raises(CertificateUnusable):
        open_folder(folder, {}, {})
    key.write_bytes(good)
    certificate.unlink()
    with pytest.raises(CertificateUnusable, match="cannot be read"):
        open_folder(folder, {}, {})
    key.unlink()
    with pytest.raises(CertificateUnusable, match="cannot be read"):
        open_folder(folder, {}, {})


def test_renewed_certificates_are_taken_over(folder: Path) -> None:
    """The same context serves new handshakes with the new certificate; the static key stays."""
    opened = open_folder(folder, {}, {})
    before, context = opened.identity_payload, opened.tls
    authority.renew(folder / "certs", "bank")
    authority.renew(folder / "certs", "node")
    opened.load_certificates()
    assert opened.identity_payload != before
    assert opened.tls is context
    opened.close()


def test_a_failed_reload_changes_nothing(folder: Path) -> None:
    """The node goes on with what it has."""
    opened = open_folder(folder, {}, {})
    before = opened.identity_payload
    (folder / "certs" / "node.crt").write_text("noise")
    with pytest.raises(CertificateUnusable):
        opened.load_certificates()
    assert opened.identity_payload == before
    opened.close()


def test_the_settings_file_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash before its rename leaves an unfinished folder, not half a file."""

    def fail(*_: object) -> None:
        raise OSError(5, "crash")

    real = os.replace
    monkeypatch.setattr(module.os, "replace", lambda a, b: fail() if str(b).endswith(".toml") else real(a, b))
    with pytest.raises(OSError, match="crash"):
        made(tmp_path / "bank")
    monkeypatch.undo()
    with pytest.raises(FolderExists, match="interrupted"):
        made(tmp_path / "bank")


def test_a_reload_takes_over_limits_and_says_what_waits(folder: Path) -> None:
    """What may change on a running node does; the rest is named and stays until a restart."""
    opened = open_folder(folder, {"server.drain_s": "3"}, {})
    try:
        port = opened.settings.server.port
        file = folder / "fortress.toml"
        file.write_text(settings_file({"node.bank": "bank-a", "node.name": "one", "server.port": 7699, **CHANGED}))
        assert opened.reload_settings() == ("server.port",)
        assert opened.settings.server.idle_s == 77
        assert opened.settings.server.drain_s == 3, "a flag stays above the file"
        assert opened.settings.server.port == port
        file.write_text("nonsense = 1")
        with pytest.raises(SettingUnknown):
            opened.reload_settings()
        assert opened.settings.server.idle_s == 77
    finally:
        opened.close()


def test_the_keyring_lies_in_the_data_folder(tmp_path: Path) -> None:
    """Wherever that is; data of another bank in it are left alone."""
    apart = str(tmp_path / "disk" / "a")
    settings = {"node.data_folder": apart, "keys.key_file": "secret/kek"}
    create(tmp_path / "a", bank="bank-a", node="one", make_certificates=make_certificates, settings=settings)
    assert (tmp_path / "disk" / "a" / "keyring").exists() and not (tmp_path / "a" / "keyring").exists()
    open_folder(tmp_path / "a", {}, {}).close()
    with pytest.raises(FolderExists, match="a bank's data"):
        create(tmp_path / "b", bank="bank-a", node="two", make_certificates=make_certificates, settings=settings)
    assert not (tmp_path / "b").exists()


def test_a_folder_without_secrets_can_be_made(tmp_path: Path) -> None:
    """For a process that keeps no ledger."""
    create(tmp_path / "w", bank="bank-a", node="w", make_certificates=make_certificates, settings={}, make_keyring=None)
    assert not (tmp_path / "w" / "keyring").exists() and not (tmp_path / "w" / "keys").exists()


def test_who_serves_a_folder_can_be_asked(folder: Path, tmp_path: Path) -> None:
    """The process, or nobody; asking leaves no lock."""
    settings = load(folder, {}, {})
    assert served_by(settings) == ""
    opened = open_folder(folder, {}, {})
    assert served_by(settings) == str(os.getpid())
    with pytest.raises(FolderInUse), locked(settings):
        pass
    opened.close()
    with locked(settings):
        assert served_by(settings) == str(os.getpid())
    assert served_by(settings) == ""
    assert served_by(load(folder, {"node.data_folder": "missing"}, {})) == ""
