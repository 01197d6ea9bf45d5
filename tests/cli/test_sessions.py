"""Signing in and out, and the contexts that remember where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fortress.authority import make_authority
from fortress.cli.contexts import Contexts
from fortress.errors import LoginFailed
from tests.cli.conftest import FakeBank

Tell = Callable[..., Any]


def test_the_first_login_makes_a_context(
    bank: FakeBank, contexts: Contexts, tell: Tell, ca_file: Path, secret_file: Path
) -> None:
    """Address and authority are named once; the token is kept."""
    contexts.forget("alice@a")
    code, out, err = tell(
        *("login", "bob", "--address", "127.0.0.1:7611/a", "--ca", str(ca_file)),
        *("--password-file", str(secret_file), "--json"),
    )
    assert code == 0 and (out["username"], out["context"]) == ("alice", "bob@a")
    assert bank.calls == [("login", "bob", "seven quiet rivers", "")]
    kept = contexts.token(contexts.get("bob@a"))
    assert kept is not None and kept.token == "token-1"
    assert "seven quiet" not in err


def test_a_gateway_on_the_way_has_an_authority_of_its_own(
    bank: FakeBank, contexts: Contexts, tell: Tell, ca_file: Path, secret_file: Path, tmp_path: Path
) -> None:
    """Named once, kept for later logins and commands."""
    make_authority(tmp_path / "gateway", "gateway")
    path_ca = tmp_path / "gateway" / "ca.crt"
    code, _, _ = tell(
        *("login", "bob", "--address", "127.0.0.1:7611/a", "--ca", str(ca_file), "--path-ca", str(path_ca)),
        *("--password-file", str(secret_file)),
    )
    assert code == 0
    assert bank.path_ca == path_ca.read_bytes()
    assert tell("login", "--password-file", str(secret_file))[0] == 0
    assert bank.path_ca == path_ca.read_bytes()
    assert tell("whoami")[0] == 0
    assert bank.path_ca == contexts.path_ca_file(contexts.get("bob@a"))
    assert tell("--context", "alice@a", "whoami")[0] == 0
    assert bank.path_ca is None


def test_an_authority_of_the_path_alone_is_no_context(
    bank: FakeBank, tell: Tell, ca_file: Path, tmp_path: Path
) -> None:
    """Nor is a file that holds none."""
    assert tell("login", "bob", "--path-ca", str(ca_file))[0] == 2
    where = ("login", "bob", "--address", "127.0.0.1:7611/a", "--ca", str(ca_file), "--path-ca")
    (tmp_path / "none.crt").write_text("nothing")
    for path in ("none.crt", "missing.crt"):
        assert tell(*where, str(tmp_path / path))[0] == 2
    assert bank.calls == []


def test_a_failed_login_keeps_nothing(
    bank: FakeBank, contexts: Contexts, tell: Tell, ca_file: Path, secret_file: Path
) -> None:
    """A mistyped name leaves no context behind; exit code 3."""
    bank.refuse("login", LoginFailed())
    code, _, err = tell(
        *("login", "bob", "--address", "127.0.0.1:7611/a", "--ca", str(ca_file)),
        *("--password-file", str(secret_file)),
    )
    assert code == 3 and "FT-2001" in err
    assert contexts.names() == ["alice@a"]


def test_the_next_login_needs_only_the_password(bank: FakeBank, tell: Tell, secret_file: Path) -> None:
    """The context knows the rest."""
    assert tell("login", "--password-file", str(secret_file))[0] == 0
    assert bank.calls == [("login", "alice", "seven quiet rivers", "")]


def test_another_person_signs_in_at_the_same_bank(
    bank: FakeBank, contexts: Contexts, tell: Tell, secret_file: Path
) -> None:
    """They get a context of their own."""
    assert tell("login", "carol", "--password-file", str(secret_file))[0] == 0
    assert contexts.names() == ["alice@a", "carol@a"]


def test_a_service_signs_in_with_its_key_file(bank: FakeBank, tell: Tell, tmp_path: Path) -> None:
    """No password is asked for."""
    assert tell("login", "--key-file", str(tmp_path / "seed"))[0] == 0
    assert bank.calls == [("login", "alice", "", str(tmp_path / "seed"))]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["bob", "--address", "h:1/a"], "needs all of"),
        (["--address", "h:1/a", "--ca", "x"], "needs all of"),
        (["bob", "--address", "h:1/a", "--ca", "/nonexistent"], "cannot be read"),
        (["B!"], "not a username"),
        ([], "--password-file"),
    ],
)
def test_a_login_that_lacks_something_says_what(bank: FakeBank, tell: Tell, arguments: list[str], why: str) -> None:
    """Wrong usage, and nothing is sent."""
    code, _, err = tell("login", *arguments, "--no-input")
    assert code == 2 and why in err
    assert bank.calls == []


def test_without_any_context_login_asks_for_one(contexts: Contexts, tell: Tell) -> None:
    """There is nothing to go by."""
    code, _, err = tell("login")
    assert code == 3 and "FT-2003" in err and "--address" in err


def test_logout_ends_the_session_and_forgets_the_token(bank: FakeBank, contexts: Contexts, tell: Tell) -> None:
    """At the bank and here; a second time there is nothing to do."""
    assert tell("logout")[0] == 0
    assert ("logout",) in bank.calls
    assert contexts.token(contexts.get()) is None
    code, _, err = tell("logout")
    assert code == 0 and "nobody" in err


def test_whoami_asks_the_bank(bank: FakeBank, tell: Tell) -> None:
    """Who, with which roles, at which bank."""
    assert "alice" in tell("whoami")[1]
    assert tell("whoami", "--json")[1]["roles"] == ["customer"]


def test_passwd_takes_both_passwords_from_files(bank: FakeBank, tell: Tell, secret_file: Path, tmp_path: Path) -> None:
    """The old one proves, the new one replaces."""
    new = tmp_path / "new"
    new.write_text("nine loud mountains\n")
    arguments = ("passwd", "--password-file", str(secret_file), "--new-password-file", str(new))
    assert tell(*arguments)[0] == 0
    assert bank.calls[-1] == ("change_password", "seven quiet rivers", "nine loud mountains")


def test_contexts_are_listed_chosen_and_forgotten(bank: FakeBank, contexts: Contexts, tell: Tell) -> None:
    """The current one is marked; an unknown one is refused."""
    rows = tell("context", "list", "--json")[1]
    assert [(row["name"], row["current"], row["signed_in"]) for row in rows] == [("alice@a", True, True)]
    assert "alice@a" in tell("context", "list")[1]
    assert tell("context", "use", "alice@a")[0] == 0
    assert tell("context", "use", "bob")[0] == 2
    assert tell("context", "forget", "alice@a")[0] == 0
    assert contexts.names() == []
