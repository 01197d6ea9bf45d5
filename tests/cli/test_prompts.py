"""Prompts: secrets come from files, credentials or a person, never from arguments; danger is confirmed."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import click
import pytest

from fortress.cli.command import Call
from fortress.cli.prompts import confirm, confirm_name, read_password
from fortress.errors import UsageError

SILENT = Call(ask=False)
ASKING = Call(ask=True)


def answers(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    left = list(texts)
    monkeypatch.setattr(click, "prompt", lambda *args, **more: left.pop(0))


def test_a_password_is_the_first_line_of_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Spaces count, the line's end does not; a file open to others is warned of."""
    file = tmp_path / "p"
    file.write_bytes("grüne Wiese \r\nsecond".encode())
    file.chmod(0o600)
    assert read_password(SILENT, "Password", file) == "grüne Wiese "
    assert capsys.readouterr().err == ""
    file.chmod(0o644)
    read_password(SILENT, "Password", file)
    assert "chmod 600" in capsys.readouterr().err


def test_a_password_may_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash names it."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"from a pipe\n")))
    assert read_password(SILENT, "Password", Path("-")) == "from a pipe"


def test_a_password_may_be_a_systemd_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where the command has a name for it and the file is there."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "fortress.password").write_text("sealed until now\n")
    assert read_password(SILENT, "Password", None, credential="fortress.password") == "sealed until now"
    with pytest.raises(UsageError):
        read_password(SILENT, "Password", None, credential="fortress.other")


@pytest.mark.parametrize(("content", "why"), [(b"", "is empty"), (b"\xff\n", "not UTF-8"), (None, "No such file")])
def test_a_useless_password_file_is_told(tmp_path: Path, content: bytes | None, why: str) -> None:
    """Instead of a login that fails for no visible reason."""
    file = tmp_path / "p"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=why):
        read_password(SILENT, "Password", file)


def test_a_password_is_asked_for_where_one_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once to sign in, twice for a new one."""
    answers(monkeypatch, "abc")
    assert read_password(ASKING, "Password", None) == "abc"
    answers(monkeypatch, "abc", "abc")
    assert read_password(ASKING, "Password", None, confirm=True) == "abc"
    answers(monkeypatch, "abc", "abd")
    with pytest.raises(UsageError, match="not the same"):
        read_password(ASKING, "Password", None, confirm=True)


def test_nothing_is_asked_with_no_input() -> None:
    """It fails at once and names the way that needs no question."""
    with pytest.raises(UsageError) as failed:
        read_password(SILENT, "Password", None)
    assert "--password-file" in str(getattr(failed.value, "do", ""))
    with pytest.raises(UsageError):
        confirm(SILENT, "Close?", yes=False)
    with pytest.raises(UsageError):
        confirm_name(SILENT, "Erase", "alice", None)


def test_yes_answers_a_moderate_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """The person's no ends the command."""
    confirm(SILENT, "Close?", yes=True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    with pytest.raises(click.Abort):
        confirm(ASKING, "Close?", yes=False)


def test_danger_wants_the_name_typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The right name goes on, another stops."""
    confirm_name(SILENT, "Erase", "alice", "alice")
    answers(monkeypatch, "alice")
    confirm_name(ASKING, "This erases alice.", "alice", None)
    assert "This erases alice." in capsys.readouterr().err
    with pytest.raises(UsageError, match="nothing was done"):
        confirm_name(ASKING, "Erase", "alice", "bob")
