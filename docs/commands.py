"""The page about the command line, made from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence

import click

from fortress.cli.command import Row, global_options
from fortress.cli.failures import EXIT_SENTENCES
from fortress.cli.main import COMMANDS, program

Table = Callable[[Sequence[str], Iterable[Sequence[object]]], str]


def page(note: str, table: Table) -> str:
    """Describe every command: usage, what it does, arguments, options, examples."""
    root = click.Context(program, info_name="fortress")
    parts = [
        f"# Command line\n\n{note}\n",
        "`fortress COMMAND --help` shows the same. Data goes to standard output, talk to standard error. An error is"
        " three lines (what failed, why, what to do) and a code that `fortress explain` knows.\n",
        "## Options of every command\n",
        table(("option", "what it does"), [(names(each), each.help or "") for each in global_options(hidden=False)]),
        "## Exit codes\n",
        table(("code", "means"), [(int(code), text) for code, text in EXIT_SENTENCES.items()]),
    ]
    section = ""
    for name, row in COMMANDS.items():
        if row.section != section:
            section = row.section
            parts.append(f"## {section}\n")
        for path, command, context in walk(name, row, root):
            parts.append(command_text(path, command, context, table))
    return "\n".join(parts)


def walk(name: str, row: Row, parent: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Give a command of the table and all below it."""
    command = program.get_command(parent, name)
    if command is None:
        raise LookupError(f"{name} of {row.module} is no command")
    todo = [(command, click.Context(command, info_name=name, parent=parent))]
    while todo:
        command, context = todo.pop(0)
        yield context.command_path, command, context
        if isinstance(command, click.Group):
            for below in command.list_commands(context):
                child = command.get_command(context, below)
                assert child is not None
                todo.append((child, click.Context(child, info_name=below, parent=context)))


def command_text(path: str, command: click.Command, context: click.Context, table: Table) -> str:
    """Describe one command."""
    parts = [f"### {path}\n", f"{inspect.cleandoc(command.help or '')}\n"]
    if isinstance(command, click.Group):
        return "\n".join(parts)
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    usage = [argument_text(each) for each in arguments]
    parts.append(f"Usage: `{' '.join([path, *usage, '[OPTIONS]'])}`\n")
    if options:
        parts.append(table(("option", "what it does"), [(names(each), option_text(each)) for each in options]))
    examples: Sequence[str] = getattr(command, "examples", ())
    if examples:
        parts.append("```console\n" + "\n".join(f"$ {example}" for example in examples) + "\n```\n")
    return "\n".join(parts)


def names(option: click.Option) -> str:
    """Write an option's names with what it takes."""
    shown = ", ".join((*option.opts, *option.secondary_opts))
    if option.is_flag:
        return f"`{shown}`"
    value = option.metavar or (option.name or "").upper()
    if isinstance(option.type, click.Choice):
        value = "|".join(map(str, option.type.choices))
    return f"`{shown} {value}`"


def argument_text(argument: click.Argument) -> str:
    """Write an argument as usage lines do."""
    shown = argument.metavar or (argument.name or "").upper()
    if isinstance(argument.type, click.Choice):
        shown = "{" + "|".join(map(str, argument.type.choices)) + "}"
    shown += "..." if argument.nargs != 1 and not shown.endswith("...") else ""
    return shown if argument.required else f"[{shown.strip('[]')}]"


def option_text(option: click.Option) -> str:
    """Say what an option does, its default and its range."""
    parts = [option.help or ""]
    if isinstance(option.type, click.IntRange | click.FloatRange) and not option.is_flag:
        parts.append(f"From {option.type.min} to {option.type.max}.")
    if option.required:
        parts.append("Required.")
    elif option.show_default:
        parts.append(f"Default: `{option.default}`.")
    if option.multiple and "repeated" not in parts[0]:
        parts.append("May be repeated.")
    return " ".join(parts)
