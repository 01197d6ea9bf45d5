"""People: made, invited, locked, given roles, erased; and one who registers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fortress.cli.contexts import Contexts
from tests.cli.conftest import FAR_US, ID, ID_TEXT, FakeBank

Tell = Callable[..., Any]


def test_a_customer_is_made_with_a_first_password(bank: FakeBank, tell: Tell, secret_file: Path) -> None:
    """With roles and a name; the password is nowhere in what is printed."""
    arguments = ("user", "add", "dora", "--role", "teller", "--name", "Dora", "--password-file", str(secret_file))
    code, out, err = tell(*arguments)
    assert code == 0 and "dora" in out
    assert bank.calls[-1] == ("create_user", "dora", "seven quiet rivers", ("teller",), "Dora")
    assert "seven quiet" not in out + err
    assert tell("user", "add", "Dora!", "--password-file", str(secret_file))[0] == 2


def test_all_pages_of_customers_are_listed(bank: FakeBank, tell: Tell) -> None:
    """And one alone."""
    assert [row["username"] for row in tell("user", "list", "--json")[1]] == ["alice", "bob"]
    assert "until" in tell("user", "list")[1]
    assert tell("user", "show", "bob", "--json")[1]["locked_until"] is None
    assert "bob" in tell("user", "show", "bob")[1]


def test_a_customer_is_locked_and_unlocked(bank: FakeBank, tell: Tell) -> None:
    """For a while or until unlocked; without a yes nothing happens."""
    assert tell("user", "lock", "bob", "--no-input")[0] == 2
    assert tell("user", "lock", "bob", "--yes")[0] == 0
    assert bank.calls[-1] == ("lock", "bob", ("until_us", 0))
    tell("user", "lock", "bob", "--yes", "--for", "7d")
    assert 0 < bank.calls[-1][2][1] < FAR_US
    assert tell("user", "unlock", "bob")[0] == 0
    assert bank.calls[-1] == ("unlock", "bob")


def test_a_person_is_invited(bank: FakeBank, tell: Tell) -> None:
    """The code is shown once."""
    code, out, _ = tell("user", "invite", "--role", "teller", "--valid", "2d", "--json")
    assert code == 0 and out["code"] == "CODE-CODE"
    assert bank.calls[-1] == ("invite", "teller", 2 * 86400)
    assert "CODE-CODE" in tell("user", "invite")[1]


def test_an_invited_person_registers_and_is_signed_in(
    bank: FakeBank, contexts: Contexts, tell: Tell, tmp_path: Path, secret_file: Path, ca_file: Path
) -> None:
    """With a context of their own."""
    code_file = tmp_path / "code"
    code_file.write_text("CODE-CODE\n")
    code, _, _ = tell(
        *("user", "register", "dora", "--address", "127.0.0.1:7611/a", "--ca", str(ca_file), "--name", "Dora"),
        *("--code-file", str(code_file), "--password-file", str(secret_file)),
    )
    assert code == 0
    assert bank.calls == [("register", "CODE-CODE", "dora", "seven quiet rivers", "Dora")]
    assert contexts.current() == "dora@a"


def test_roles_are_replaced(bank: FakeBank, tell: Tell) -> None:
    """All at once; a role that does not exist is wrong usage."""
    assert tell("user", "role", "tom", "teller", "customer", "--yes")[0] == 0
    assert bank.calls[-1] == ("set_roles", "tom", ("teller", "customer"))
    assert tell("user", "role", "tom", "king", "--yes")[0] == 2


def test_erasing_wants_the_name_again(bank: FakeBank, tell: Tell) -> None:
    """A wrong one erases nobody."""
    assert tell("user", "erase", "bob", "--no-input")[0] == 2
    assert tell("user", "erase", "bob", "--confirm", "alice")[0] == 2
    assert not [call for call in bank.calls if call[0] == "erase"]
    assert tell("user", "erase", "bob", "--confirm", "bob")[0] == 0
    assert bank.calls[-1] == ("erase", "bob")


@pytest.mark.parametrize(
    "arguments",
    [["erase", "bob", "--confirm", "bob"], ["role", "bob", "teller", "--yes"], ["invite"], ["add", "dora"]],
    ids=lambda arguments: arguments[0],
)
def test_what_waits_for_a_second_administrator_says_so(
    bank: FakeBank, tell: Tell, secret_file: Path, arguments: list[str]
) -> None:
    """Nothing was done yet, and this is how it goes on."""
    bank.approval = ID
    if arguments[0] == "add":
        arguments = [*arguments, "--password-file", str(secret_file)]
    code, out, _ = tell("user", *arguments, "--json")
    assert code == 0
    assert out == {"done": False, "approval": ID_TEXT}
    assert f"fortress approve {ID_TEXT}" in tell("user", *arguments)[1]
