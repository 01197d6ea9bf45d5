"""The keyring opens with its own key only, from a file only its owner can read, and never in halves."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest

from fortress.errors import KeyUnusable
from fortress.ledger import keyring as module
from fortress.ledger.keyring import CREDENTIAL_NAME, Keyring, create_kek, read_kek, rekey

KEK = bytes(range(32))
OTHER = bytes(32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyring"


def test_secrets_come_back_as_they_were_made(path: Path) -> None:
    """What was created is what is opened, in a file for its owner alone."""
    made = Keyring.create(path, KEK)
    assert Keyring.open(path, KEK) == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["keyring"]


def test_every_secret_is_its_own() -> None:
    """Seven secrets, 32 bytes each, no two the same, other ones each time."""
    values = [getattr(ring, item.name) for ring in (Keyring(), Keyring()) for item in fields(Keyring)]
    assert {len(value) for value in values} == {32}
    assert len(set(values)) == 14


def test_two_nodes_share_the_bank_s_secrets_and_no_other(path: Path, tmp_path: Path) -> None:
    """The second node's file opens with its own key and holds the bank's secrets, beside storage keys of its own."""
    first = Keyring.create(path, KEK)
    second = Keyring.create_from(tmp_path / "second", OTHER, first)
    assert Keyring.open(tmp_path / "second", OTHER) == second
    for item in fields(Keyring):
        is_own = item.name in ("data_key", "store_key")
        assert (getattr(first, item.name) != getattr(second, item.name)) is is_own
    assert Keyring.for_peer(first).data_key not in (first.data_key, second.data_key)


def test_a_peer_s_file_is_not_overwritten(path: Path) -> None:
    """As with any other keyring."""
    first = Keyring.create(path, KEK)
    with pytest.raises(KeyUnusable, match="never overwritten"):
        Keyring.create_from(path, KEK, first)
    assert Keyring.open(path, KEK) == first


def test_the_file_and_the_object_show_no_secret(path: Path) -> None:
    """Neither the sealed bytes nor repr() give anything away."""
    ring = Keyring.create(path, KEK)
    assert repr(ring) == "Keyring()"
    assert not any(getattr(ring, item.name) in path.read_bytes() for item in fields(ring))


def test_another_key_does_not_open_it(path: Path) -> None:
    """The wrong key-encryption key is told as such."""
    Keyring.create(path, KEK)
    with pytest.raises(KeyUnusable, match="another one, or the file is damaged"):
        Keyring.open(path, OTHER)


def test_every_flipped_byte_is_noticed(path: Path) -> None:
    """No byte of the file can be changed."""
    Keyring.create(path, KEK)
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(KeyUnusable):
            Keyring.open(path, KEK)


def test_a_cut_file_is_noticed(path: Path) -> None:
    """A file without its end, or empty, is damaged."""
    Keyring.create(path, KEK)
    good = path.read_bytes()
    for size in (0, 10, 25, len(good) - 1):
        path.write_bytes(good[:size])
        with pytest.raises(KeyUnusable):
            Keyring.open(path, KEK)


def test_a_missing_file_is_told(path: Path) -> None:
    """The message names the file, the hint says to put it back."""
    with pytest.raises(KeyUnusable, match="cannot be read") as caught:
        Keyring.open(path, KEK)
    assert caught.value.facts == {"file": str(path)}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_open_to_others_is_refused(path: Path, mode: int) -> None:
    """A key that others can read is none."""
    Keyring.create(path, KEK)
    path.chmod(mode)
    with pytest.raises(KeyUnusable, match="0600"):
        Keyring.open(path, KEK)


def test_an_existing_file_is_not_overwritten(path: Path) -> None:
    """Creating twice would lose everything sealed under the first."""
    ring = Keyring.create(path, KEK)
    with pytest.raises(KeyUnusable, match="never overwritten"):
        Keyring.create(path, KEK)
    with pytest.raises(KeyUnusable, match="never overwritten"):
        create_kek(path)
    assert Keyring.open(path, KEK) == ring


def test_a_key_of_another_size_is_refused(path: Path) -> None:
    """AES would take 16 bytes as well; this house does not."""
    with pytest.raises(KeyUnusable, match="32 bytes"):
        Keyring.create(path, KEK[:16])


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Writing that fails is an error with the file's name."""
    with pytest.raises(KeyUnusable, match="cannot be written"):
        Keyring.create(tmp_path / "missing" / "keyring", KEK)


def test_rekeying_keeps_the_secrets(path: Path) -> None:
    """After it the new key opens the file and the old one does not."""
    ring = Keyring.create(path, KEK)
    rekey(path, KEK, OTHER)
    assert Keyring.open(path, OTHER) == ring
    with pytest.raises(KeyUnusable):
        Keyring.open(path, KEK)


def test_rekeying_with_a_wrong_key_changes_nothing(path: Path) -> None:
    """The file stays as it was."""
    ring = Keyring.create(path, KEK)
    with pytest.raises(KeyUnusable):
        rekey(path, OTHER, KEK)
    assert Keyring.open(path, KEK) == ring


def test_a_crash_while_rekeying_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the rename nothing has happened, and nothing lies around afterwards."""
    ring = Keyring.create(path, KEK)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "replace", fail)
    with pytest.raises(KeyUnusable, match="No space left"):
        rekey(path, KEK, OTHER)
    assert Keyring.open(path, KEK) == ring
    assert os.listdir(path.parent) == ["keyring"]


def read(path: Path, command: str = "", environment: dict[str, str] | None = None) -> bytes:
    return read_kek(key_file=path, key_command=command, environment=environment or {})


def test_the_key_comes_from_its_file(path: Path) -> None:
    """What was made is what is read; 32 plain bytes are taken as well."""
    kek = create_kek(path)
    assert read(path) == kek
    path.write_bytes(KEK)
    assert read(path) == KEK


def test_a_key_file_open_to_others_is_refused(path: Path) -> None:
    """The key-encryption key is guarded like what it seals."""
    create_kek(path)
    path.chmod(0o644)
    with pytest.raises(KeyUnusable, match="0600"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"zz" * 32, b"ab" * 31, b"\xff" * 64])
def test_what_is_no_key_is_refused(path: Path, content: bytes) -> None:
    """Neither 32 bytes nor 64 hexadecimal digits: another file was put there."""
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyUnusable, match="neither 32 bytes nor 64"):
        read(path)


def test_a_credential_goes_before_the_file(path: Path, tmp_path: Path) -> None:
    """Under systemd the key need not lie in the folder at all."""
    (tmp_path / CREDENTIAL_NAME).write_bytes(KEK)
    assert read(path, environment={"CREDENTIALS_DIRECTORY": str(tmp_path)}) == KEK


def test_a_command_goes_before_everything(path: Path) -> None:
    """The hook for a key management service."""
    create_kek(path)
    assert read(path, f"echo {KEK.hex()}") == KEK


def test_a_command_that_fails_is_told_without_its_output(path: Path) -> None:
    """Its output may be a secret; its exit status is none."""
    with pytest.raises(KeyUnusable, match="exit status 3") as caught:
        read(path, "echo geheim; exit 3")
    assert "geheim" not in str(caught.value)


def test_a_command_that_hangs_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node does not wait for ever for its key."""
    monkeypatch.setattr(module, "COMMAND_DEADLINE_S", 0.05)
    with pytest.raises(KeyUnusable, match="did not finish"):
        read(path, "exec sleep 20")
