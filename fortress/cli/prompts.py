"""What is asked of a person: passwords without echo, yes or no, and names to be typed before what cannot be undone.

No option and no variable takes a secret: others on the machine can read both.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import click

from fortress.cli.command import Call
from fortress.cli.misuse import Misuse
from fortress.cli.output import say

CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
PASSWORD_BYTES_MAX: Final = 4096

PASSWORD_FILE: Final = click.option(
    "--password-file",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Read the password from the first line of this file; - is standard input.",
)


def read_password(call: Call, label: str, file: Path | None, *, confirm: bool = False, credential: str = "") -> str:
    """Get a password: from the file named, from a systemd credential, or by asking without echo.

    Args:
        call: how this call behaves.
        label: what to ask for, like ``Password of alice``.
        file: the file named on the command line, if one was.
        confirm: ask twice, for a new password.
        credential: name of the systemd credential that may hold it.

    Raises:
        Misuse: there is nowhere to get it from.
    """
    if file is not None:
        return _first_line(call, file)
    folder = os.environ.get(CREDENTIALS_VARIABLE)
    if folder and credential and (Path(folder) / credential).is_file():
        return _first_line(call, Path(folder) / credential)
    if not call.ask:
        raise Misuse("a password is needed and may not be asked for here", "name a file with --password-file")
    password = str(click.prompt(label, hide_input=True, err=True))
    if confirm and password != click.prompt("The same again", hide_input=True, err=True):
        raise Misuse("the two passwords are not the same", "try again")
    return password


def confirm(call: Call, question: str, *, yes: bool) -> None:
    """Ask before something that is not easily undone.

    Raises:
        Misuse: nobody can be asked, and ``--yes`` was not given.
        click.Abort: the answer was no.
    """
    if yes:
        return
    if not call.ask:
        raise Misuse(f"this needs a yes: {question}", "add --yes")
    click.confirm(question, abort=True, err=True)


def confirm_name(call: Call, question: str, name: str, typed: str | None) -> None:
    """Have a name typed before something that cannot be undone.

    Args:
        call: how this call behaves.
        question: what is about to happen.
        name: what must be typed.
        typed: the value of ``--confirm``, if given.

    Raises:
        Misuse: another name was typed, or nobody can be asked.
    """
    if typed is None:
        if not call.ask:
            raise Misuse(f"this needs to be confirmed: {question}", f"add --confirm {name}")
        say(call, question)
        typed = str(click.prompt(f"Type {name!r} to go on", err=True))
    if typed != name:
        raise Misuse(f"{typed!r} was typed, not {name!r}; nothing was done", "try again if you are sure")


def _first_line(call: Call, file: Path) -> str:
    try:
        if str(file) == "-":
            line = sys.stdin.buffer.readline(PASSWORD_BYTES_MAX)
        else:
            with file.open("rb") as stream:
                is_open = os.fstat(stream.fileno()).st_mode & 0o077 and file.is_file()
                line = stream.readline(PASSWORD_BYTES_MAX)
            if is_open:
                say(call, f"warning: others may read {str(file)!r}; 'chmod 600' it")
        password = line.decode("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise Misuse(f"the password file {str(file)!r} cannot be read: {reason}", "check the file's name") from exc
    if not password:
        raise Misuse(f"the password file {str(file)!r} is empty", "put the password into its first line")
    return password
