"""What all commands share: global options at any place, handed over as one object."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fortress.cli.command import Call, LazyGroup, Row, command, current_call, group

SEEN: list[Call] = []


@command("note", "fortress note")
def note_command() -> None:
    """Note the call."""
    SEEN.append(current_call())


family = group("family", "A family.", "fortress family note")
family.add_command(note_command)
program = group("fortress", "All.", "fortress note")
program.add_command(note_command)
program.add_command(family)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.delenv("NO_COLOR", raising=False)

    def run(*arguments: str) -> Call:
        SEEN.clear()
        result = CliRunner().invoke(program, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return SEEN[0]

    return run


@pytest.mark.parametrize(
    "arguments",
    [("--json", "note"), ("note", "--json"), ("family", "--json", "note"), ("family", "note", "--json")],
    ids=" ".join,
)
def test_global_options_may_stand_anywhere(call: object, arguments: tuple[str, ...]) -> None:
    """Before the command, after it, or in between."""
    assert callable(call) and call(*arguments).json


def test_all_global_options_reach_the_call(call: object) -> None:
    """Each as its own field."""
    assert callable(call)
    assert call("note") == Call(ask=False)
    assert call(
        *("note", "-q", "-v", "--no-color", "--no-input", "--timeout", "2.5"),
        *("--context", "x", "--config", "/b/fortress.toml"),
    ) == Call(quiet=True, verbose=True, color=False, ask=False, timeout_s=2.5, context="x", config=Path("/b"))


def test_no_color_is_an_environment_variable_too(call: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """As elsewhere."""
    monkeypatch.setenv("NO_COLOR", "1")
    assert callable(call) and not call("note").color


def test_outside_of_a_call_there_are_the_defaults() -> None:
    """The pieces can be used by themselves."""
    assert current_call().timeout_s == Call().timeout_s


def test_a_command_of_the_table_is_loaded_by_its_name() -> None:
    """From the module that the table names; others do not exist."""
    lazy = LazyGroup("fortress", table={"explain": Row("Section", "help", "explanation")})
    ctx = click.Context(lazy)
    found = lazy.get_command(ctx, "explain")
    assert found is not None and found.name == "explain"
    assert lazy.get_command(ctx, "nothing") is None
    assert lazy.list_commands(ctx) == ["explain"]
