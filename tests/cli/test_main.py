"""The program: its table of commands, its exit codes, its three lines, and how little it loads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fortress.cli import main
from fortress.cli.command import Command, Group, LazyGroup
from fortress.cli.contexts import Contexts, Token
from fortress.cli.demo import free_port
from fortress.errors import FortressError, Refused, Status

HEAVY = ("aiohttp", "rich", "babel", "cryptography", "apsw", "argon2", "msgspec", "nacl", "uvloop", "prometheus_client")
CLIENT_HEAVY = ("aiohttp", "rich", "babel", "cryptography.x509", "apsw", "argon2", "uvloop", "prometheus_client")


def all_commands(group: Group | None = None, path: str = "fortress") -> Iterator[tuple[str, click.Command]]:
    top = main.program if group is None else group
    assert isinstance(top, Group)
    ctx = click.Context(top, info_name=path)
    for name in top.list_commands(ctx):
        found = top.get_command(ctx, name)
        assert found is not None, f"{path} {name}"
        yield f"{path} {name}", found
        if isinstance(found, Group):
            yield from all_commands(found, f"{path} {name}")


def loaded_by(*arguments: str, heavy: tuple[str, ...] = HEAVY) -> list[str]:
    code = (
        f"import sys\nfrom fortress.cli.main import run\nrun({list(arguments)!r})\nprint(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stderr.splitlines()[-1].split())
    return [name for name in heavy if name in loaded]


def test_help_lists_every_command_and_loads_nothing_heavy() -> None:
    """The first thing that anybody types is answered from the table alone."""
    assert loaded_by("--help") == []


def test_a_command_of_a_customer_loads_only_what_it_needs(contexts: Contexts, ca_file: Path) -> None:
    """Up to the first connection; certificates, currencies and drawn tables come when they are needed."""
    address = f"127.0.0.1:{free_port()}/a"
    context = contexts.make("", address=address, username="alice", ca_pem=ca_file.read_text("ascii"))
    contexts.keep_token(context, Token(username="alice", token="t", expires_us=1))
    for arguments in (["balance"], ["pay", "bob", "1 EUR"], ["history"]):
        assert loaded_by("--timeout", "0.1", *arguments, heavy=CLIENT_HEAVY) == []


def test_help_needs_no_module_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    """A command's module is imported when the command is called, not to list it."""
    code = "import sys\nfrom fortress.cli.main import run\nrun(['--help'])\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = {name for name in done.stderr.split() if name.startswith("fortress.cli.")}
    assert loaded == {f"fortress.cli.{name}" for name in ("main", "command", "failures", "misuse")}
    for name, row in main.COMMANDS.items():
        assert name in done.stdout and row.help.split(";")[0].split()[0] in done.stdout


def test_every_command_of_the_table_is_there() -> None:
    """What help lists can be called."""
    assert isinstance(main.program, LazyGroup)
    assert {path.split()[1] for path, _ in all_commands()} == set(main.COMMANDS)


@pytest.mark.parametrize(("path", "found"), list(all_commands()), ids=lambda value: str(getattr(value, "name", "")))
def test_the_help_of_every_command_has_an_example(
    path: str, found: click.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """People learn from examples; each begins with the command itself."""
    assert isinstance(found, Command | Group)
    assert found.examples and all(example.startswith("fortress ") for example in found.examples)
    assert any(example.startswith(path) for example in found.examples)
    assert main.run([*path.split()[1:], "--help"]) == 0
    shown = capsys.readouterr().out
    assert found.examples[0] in shown and (found.help or "").split("\n")[0][:20] in shown


def test_no_option_takes_a_secret() -> None:
    """Everybody on the machine can read the arguments of a process."""
    found = [
        f"{path} {option}"
        for path, command in all_commands()
        for param in command.params
        for option in param.opts
        if any(word in option for word in ("password", "secret", "token", "key", "pin"))
    ]
    # files that hold one, a command that prints one, and the name of a setting
    assert {option.rsplit(" ", 1)[1] for option in found} <= {
        *("--password-file", "--new-password-file", "--key-file", "--key-command", "key")
    }


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["pya"], "there is no command 'pya'; did you mean 'pay'?"),
        (["explain", "--nonsense"], "no such option"),
        (["explain", "FT-9999"], "there is no code 'FT-9999'"),
        (["--timeout", "soon", "explain"], "'soon' is not a valid float range"),
    ],
)
def test_wrong_usage_is_three_lines_and_exit_code_2(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What failed, why, what to do; nothing on standard output."""
    assert main.run(arguments) == 2
    out, err = capsys.readouterr()
    what, reason, do = err.splitlines()
    assert out == ""
    assert what.endswith("(FT-6001)")
    assert why in reason
    assert do.startswith("  do:  ") and "fortress explain FT-6001" in do


def test_a_failure_is_json_where_json_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    """Programs get the same as one object, still on standard error."""
    assert main.run(["explain", "FT-9999", "--json"]) == 2
    out, err = capsys.readouterr()
    error = json.loads(err)["error"]
    assert out == ""
    assert (error["code"], error["name"], error["exit"], error["retry"]) == ("FT-6001", "UsageError", 2, "never")


@pytest.mark.parametrize(
    ("raised", "code", "text"),
    [
        (Refused(Status.exceeds_available, {"available_minor": 5}), 1, "FT-1016"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 0, ""),
        (FortressError("odd"), 70, "FT-6000"),
        (ZeroDivisionError("division by zero"), 70, "ZeroDivisionError: division by zero"),
    ],
)
def test_whatever_is_raised_ends_in_an_exit_code(
    raised: BaseException,
    code: int,
    text: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No traceback reaches a person who did not ask for one."""

    def explode(*arguments: object, **more: object) -> None:
        raise raised

    monkeypatch.setattr(main.program, "main", explode)
    assert main.run(["balance"]) == code
    err = capfd.readouterr().err
    assert text in err
    assert "Traceback" not in err


def test_a_defect_shows_its_traceback_to_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --verbose what nobody foresaw is shown whole."""

    def explode(*arguments: object, **more: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(main.program, "main", explode)
    with pytest.raises(ZeroDivisionError):
        main.run(["balance", "-v"])


def test_main_ends_the_process_with_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell sees the exit code."""
    monkeypatch.setattr(sys, "argv", ["fortress", "explain", "FT-9999"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2


def test_without_arguments_it_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing was asked, so everything is offered."""
    assert main.run([]) == 2
    assert "Run a bank" in capsys.readouterr().err
