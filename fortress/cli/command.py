"""What all commands share: the global options, an example in every help text, and loading by name.

Global options may stand before or after the command's name. They are declared once, kept in click's ``meta`` and handed
to the command as one frozen :class:`Call`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

import click

META: Final = "fortress.call."
TIMEOUT_S_DEFAULT: Final = 15.0


@dataclass(slots=True)
class Seen:
    """What the program's last line wants to know about the call: the command as typed."""

    path: str = "fortress"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """How this call of the program shall behave.

    Attributes:
        json: data as JSON.
        quiet: no talk on standard error but errors.
        verbose: more talk.
        color: whether colours are wanted, where there is a terminal.
        ask: whether questions may be asked.
        timeout_s: how long to wait for an answer of the bank.
        context: name of the client context; empty for the current one.
        config: the folder of a bank; the one where the program was started by default.
    """

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    color: bool = True
    ask: bool = True
    timeout_s: float = TIMEOUT_S_DEFAULT
    context: str = ""
    config: Path = Path(".")


def current_call() -> Call:
    """Give the call that is under way; outside of one, the defaults."""
    ctx = click.get_current_context(silent=True)
    meta: Mapping[str, Any] = ctx.meta if ctx else {}
    config = Path(meta.get(META + "config", "."))
    return Call(
        json=bool(meta.get(META + "json")),
        quiet=bool(meta.get(META + "quiet")),
        verbose=bool(meta.get(META + "verbose")),
        color=not meta.get(META + "no_color") and not os.environ.get("NO_COLOR"),
        ask=not meta.get(META + "no_input") and sys.stdin is not None and sys.stdin.isatty(),
        timeout_s=float(meta.get(META + "timeout", TIMEOUT_S_DEFAULT)),
        context=str(meta.get(META + "context", "")),
        config=config.parent if config.name == "fortress.toml" else config,
    )


def _remember(ctx: click.Context, param: click.Parameter, value: object) -> None:
    if value not in (None, False):
        ctx.meta[META + str(param.name)] = value


@lru_cache
def global_options(*, hidden: bool) -> tuple[click.Option, ...]:
    """Declare the options of every command; shown only in the help of the program itself."""

    def option(*names: str, help: str, **more: Any) -> click.Option:
        return click.Option(names, help=help, hidden=hidden, expose_value=False, callback=_remember, **more)

    return (
        option("--json", help="Data as JSON.", is_flag=True),
        option("-q", "--quiet", help="No talk, only data and errors.", is_flag=True),
        option("-v", "--verbose", help="More talk.", is_flag=True),
        option("--no-color", help="No colours; NO_COLOR does the same.", is_flag=True),
        option("--no-input", help="Never ask; fail where a question would be needed.", is_flag=True),
        option("--timeout", help="Longest wait for an answer.", metavar="SECONDS", type=click.FloatRange(0.1, 86400)),
        option("--context", help="Client context to use: who, and at which bank.", metavar="NAME"),
        option("--config", help="Folder of the bank, for commands of its operator.", metavar="PATH"),
    )


class Command(click.Command):
    """A command with examples in its help and the global options among its own."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *global_options(hidden=True)]

    def invoke(self, ctx: click.Context) -> Any:
        if seen := ctx.find_object(Seen):
            seen.path = ctx.command_path
        return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self.examples)


class Group(click.Group):
    """A family of commands."""

    command_class = Command

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *global_options(hidden=True)]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self.examples)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of declaration, which is that of use


def write_examples(formatter: click.HelpFormatter, examples: Sequence[str]) -> None:
    """Write the examples section of a help text."""
    if examples:
        with formatter.section("Examples"):
            for example in examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


def command(name: str, *examples: str, **more: Any) -> Callable[[Callable[..., int | None]], Command]:
    """Make a command of a function; its docstring is the help text.

    Args:
        name: as typed.
        examples: calls as one would type them.
        more: passed on to click.
    """

    def decorate(function: Callable[..., int | None]) -> Command:
        return click.command(name, cls=Command, examples=examples, **more)(function)

    return decorate


def group(name: str, help: str, *examples: str) -> Group:
    """Make a family of commands."""
    return Group(name, help=help, examples=examples)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of commands: its section, one line of help, and the module that holds it."""

    section: str
    help: str
    module: str


class LazyGroup(Group):
    """The program: knows its commands by a table and imports a command's module only when it is called."""

    def __init__(self, *args: Any, table: Mapping[str, Row], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*click.Command.get_params(self, ctx), *global_options(hidden=False)]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        row = self.table.get(cmd_name)
        if row is None:
            return None
        module = import_module(f"fortress.cli.{row.module}")
        return cast(click.Command, getattr(module, f"{cmd_name}_command"))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.table and not args[0].startswith("-"):
            from difflib import get_close_matches  # only a mistake needs it

            close = get_close_matches(args[0], self.table, n=1)
            suggestion = f"; did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"there is no command {args[0]!r}{suggestion}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, row in self.table.items():
            sections.setdefault(row.section, []).append((name, row.help))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl(rows)
