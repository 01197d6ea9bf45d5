"""Contexts: kept privately, trusted by fingerprint, forgotten with their token."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fortress.authority import make_authority
from fortress.cli.contexts import Contexts, Token, certificate_fingerprint, context_folders, parse_address
from fortress.errors import NotSignedIn, ServerNotTrusted, UsageError


@pytest.fixture(scope="module")
def ca_pem(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("certs")
    make_authority(folder, "a")
    return (folder / "ca.crt").read_text("ascii")


@pytest.fixture
def contexts(tmp_path: Path) -> Contexts:
    return Contexts(tmp_path / "config", tmp_path / "state")


def test_a_context_is_kept_and_becomes_the_current_one(contexts: Contexts, ca_pem: str) -> None:
    """After one login the address need not be typed again."""
    made = contexts.make("", address="127.0.0.1:7611/a", username="alice", ca_pem=ca_pem)
    assert made.name == "alice@a" == contexts.current()
    assert made.url == "fortress://127.0.0.1:7611/a"
    assert contexts.get() == made == contexts.get("alice@a")
    assert contexts.ca_file(made).read_text("ascii") == ca_pem


def test_files_are_private(contexts: Contexts, ca_pem: str, tmp_path: Path) -> None:
    """Nobody else on the machine reads a token or learns who banks where."""
    made = contexts.make("me", address="localhost:1/a", username="alice", ca_pem=ca_pem)
    contexts.keep_token(made, Token(username="alice", token="t", expires_us=5))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"contexts.toml", "me.crt", "me.token"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o700}


def test_a_changed_ca_file_is_not_trusted(contexts: Contexts, ca_pem: str, tmp_path: Path) -> None:
    """Trust hangs on the fingerprint that was there at login."""
    made = contexts.make("me", address="localhost:1/a", username="alice", ca_pem=ca_pem)
    make_authority(tmp_path / "other", "a")
    path = contexts.ca_file(made)
    path.write_text((tmp_path / "other" / "ca.crt").read_text("ascii"))
    with pytest.raises(ServerNotTrusted, match="not the one"):
        contexts.ca_file(made)
    path.unlink()
    with pytest.raises(ServerNotTrusted, match="cannot be read"):
        contexts.ca_file(made)


def test_a_token_is_kept_until_it_is_forgotten(contexts: Contexts, ca_pem: str) -> None:
    """A session survives between two commands; a damaged file is no session."""
    made = contexts.make("me", address="localhost:1/a", username="alice", ca_pem=ca_pem)
    assert contexts.token(made) is None
    token = Token(username="alice", token="t", expires_us=5)
    contexts.keep_token(made, token)
    assert contexts.token(made) == token
    contexts.forget_token(made)
    assert contexts.token(made) is None


def test_contexts_are_chosen_and_forgotten(contexts: Contexts, ca_pem: str) -> None:
    """The current one follows."""
    for name in ("one", "two"):
        contexts.make(name, address="localhost:1/a", username=name, ca_pem=ca_pem)
    assert contexts.names() == ["one", "two"]
    assert contexts.use("one").username == "one" and contexts.current() == "one"
    contexts.forget("one")
    assert contexts.current() == "two"
    contexts.forget("two")
    assert contexts.current() == "" and contexts.names() == []


def test_without_a_context_one_is_not_signed_in(contexts: Contexts, ca_pem: str) -> None:
    """The first thing to do is to sign in; a wrong name is told with the right ones."""
    with pytest.raises(NotSignedIn, match="fortress login"):
        contexts.get()
    contexts.make("one", address="localhost:1/a", username="one", ca_pem=ca_pem)
    with pytest.raises(UsageError, match="'tow'"):
        contexts.get("tow")


@pytest.mark.parametrize("text", ["contexts = 1", "]", "[contexts.a]\nodd = 1"])
def test_a_damaged_file_is_told(contexts: Contexts, tmp_path: Path, text: str) -> None:
    """Never guessed around."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "contexts.toml").write_text(text)
    with pytest.raises(UsageError, match="cannot be read"):
        contexts.names()


@pytest.mark.parametrize("name", ["../x", "A", "", ".x"])
def test_a_name_that_is_no_name_is_refused(contexts: Contexts, ca_pem: str, name: str) -> None:
    """Names become file names."""
    with pytest.raises(UsageError):
        contexts.make(name or "?", address="localhost:1/a", username="x", ca_pem=ca_pem)


@pytest.mark.parametrize("text", ["localhost", "localhost:1", "localhost:1/A", "localhost:0/a", "http://x:1/a"])
def test_a_wrong_address_is_refused(text: str) -> None:
    """Host, port and bank must all be there."""
    with pytest.raises(UsageError):
        parse_address(text)


def test_an_address_may_come_with_its_scheme() -> None:
    """As printed elsewhere, or in short."""
    assert parse_address("fortress://h:1,i:2/a") == parse_address("h:1,i:2/a") == ("h:1,i:2", "a")


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"])
def test_a_file_without_a_certificate_is_refused(text: str) -> None:
    """The wrong file was named."""
    with pytest.raises(UsageError, match="no certificate"):
        certificate_fingerprint(text)


def test_the_folder_is_the_platforms_or_ones_own() -> None:
    """One variable moves everything, for demos and tests."""
    assert context_folders({"FORTRESS_CONTEXT_HOME": "/h"}) == (Path("/h"), Path("/h/state"))
    config, state = context_folders({})
    assert config.name == state.name == "fortress"


def test_the_authority_of_the_path_is_kept_beside(contexts: Contexts, ca_pem: str, tmp_path: Path) -> None:
    """Only where there is one; compared like the other, forgotten with the context."""
    make_authority(tmp_path / "gateway", "gateway")
    path_pem = (tmp_path / "gateway" / "ca.crt").read_text("ascii")
    plain = contexts.make("plain", address="localhost:1/a", username="alice", ca_pem=ca_pem)
    made = contexts.make("me", address="localhost:1/a", username="alice", ca_pem=ca_pem, path_ca_pem=path_pem)
    assert contexts.path_ca_file(plain) is None
    assert contexts.get("me") == made
    file = contexts.path_ca_file(made)
    assert file is not None
    assert (file.read_text("ascii"), stat.S_IMODE(file.stat().st_mode)) == (path_pem, 0o600)
    file.write_text(ca_pem)
    with pytest.raises(ServerNotTrusted, match="not the one"):
        contexts.path_ca_file(made)
    contexts.forget("me")
    assert not file.exists()
    assert contexts.ca_file(plain).exists()


def test_contexts_that_were_kept_before_there_were_paths_are_read(contexts: Contexts, ca_pem: str) -> None:
    """They have none."""
    made = contexts.make("me", address="localhost:1/a", username="alice", ca_pem=ca_pem)
    file = contexts._folder / "contexts.toml"
    file.write_text("".join(line for line in file.read_text().splitlines(keepends=True) if "path_ca" not in line))
    assert contexts.get("me") == made
