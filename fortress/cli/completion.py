"""``completion``: the script that lets a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from fortress.cli.command import command
from fortress.cli.misuse import Misuse


@command(
    "completion",
    "fortress completion bash > ~/.local/share/bash-completion/completions/fortress",
    "fortress completion fish > ~/.config/fish/completions/fortress.fish",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    found = get_completion_class(shell)
    if found is None:
        raise Misuse(f"there is no completion for {shell!r}", "choose bash, zsh or fish")
    # the script only asks the program itself for completions; it needs no version of the shell to be printed
    complete = found(ctx.find_root().command, {}, "fortress", "_FORTRESS_COMPLETE")
    print(complete.source_template % complete.source_vars())
