"""The program: the table of its commands, and its last line, where every failure becomes three lines and a code.

A command's module is imported when the command is called; the help of the program needs none of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from fortress import __version__
from fortress.cli.command import LazyGroup, Row, Seen
from fortress.cli.failures import Exit, Failure, failure_of
from fortress.cli.misuse import Misuse
from fortress.errors import FortressError

RUN = "Run a bank"
PAIR = "Keep it running on two nodes"
USE = "Use a bank"
TEND = "Tend a bank"
BETWEEN = "Pay between banks"
CHECK = "Check and understand"

COMMANDS: dict[str, Row] = {
    "demo": Row(RUN, "two banks and a gateway, two nodes each, with pages; deletes itself at Ctrl-C", "demo"),
    "init": Row(RUN, "make the folder of a bank or gateway: settings, certificates, keys, empty ledger", "folders"),
    "serve": Row(RUN, "run one node in the foreground", "serving"),
    "gateway": Row(RUN, "run one node of a gateway, which switches payments between banks", "serving"),
    "web": Row(RUN, "the pages of a bank or gateway, for browsers", "web"),
    "witness": Row(RUN, "keep the register that says which node of a pair is primary", "witness"),
    "chaos": Row(RUN, "kill, stop, continue and cut off processes of a demo", "chaos"),
    "status": Row(RUN, "how the bank is, in one table", "status"),
    "simulate": Row(RUN, "many customers at once, each through a scenario", "simulation"),
    "bench": Row(RUN, "measure throughput and latency of a running bank", "bench"),
    "events": Row(PAIR, "what happened to the nodes of a bank", "events"),
    "switchover": Row(PAIR, "make the other node primary, in order", "switching"),
    "failover": Row(PAIR, "make a node primary because the other one is gone", "switching"),
    "pause": Row(PAIR, "let a node take over nothing by itself", "switching"),
    "resume": Row(PAIR, "let it take over again", "switching"),
    "rejoin": Row(PAIR, "begin anew as the standby, with everything from the primary", "rejoining"),
    "doctor": Row(PAIR, "check folder, machine, other node and register, and name each fix", "doctor"),
    "login": Row(USE, "sign in; the password never leaves this machine", "sessions"),
    "logout": Row(USE, "end the session", "sessions"),
    "whoami": Row(USE, "who is signed in, and where", "sessions"),
    "passwd": Row(USE, "change the password", "sessions"),
    "profile": Row(USE, "read and change contact data", "profiles"),
    "context": Row(USE, "list, choose and forget client contexts", "sessions"),
    "balance": Row(USE, "what is there, available and on hold", "reading"),
    "history": Row(USE, "what happened on an account", "reading"),
    "statement": Row(USE, "a statement of a month", "reading"),
    "receipt": Row(USE, "prove that an entry is in the ledger; verify without the bank", "receipts"),
    "pay": Row(USE, "send money", "payments"),
    "deposit": Row(USE, "pay cash in (teller)", "payments"),
    "withdraw": Row(USE, "pay cash out (teller)", "payments"),
    "payment": Row(USE, "payments between banks: show, list, retry, resolve", "payment"),
    "outbox": Row(USE, "payments kept until they are done: add, list, show, send, remove", "outbox"),
    "hold": Row(USE, "reserve money: place, post, void, list", "holds"),
    "user": Row(TEND, "customers: add, list, lock, invite, roles, erase", "users"),
    "account": Row(TEND, "accounts: open, list, freeze, limits, close", "accounts"),
    "approve": Row(TEND, "what waits for a second administrator", "approvals"),
    "cert": Row(TEND, "certificates: show, renew, issue", "certificates"),
    "config": Row(TEND, "settings: show, check, explain, rekey", "configuration"),
    "backup": Row(TEND, "one sealed file of the whole bank: create, list, verify, prune", "backups"),
    "restore": Row(TEND, "make a node's folder from a backup, also as of an earlier moment", "backups"),
    "bank": Row(BETWEEN, "join a gateway; the banks there: add, list, suspend", "banks"),
    "positions": Row(BETWEEN, "where the banks of a gateway stand with each other", "settlement"),
    "windows": Row(BETWEEN, "settlement windows: list, show, close", "settlement"),
    "audit": Row(CHECK, "verify a ledger's folder offline; trial balance; trail of acts", "audit"),
    "explain": Row(CHECK, "what a code like FT-1016 means and what to do", "explanation"),
    "completion": Row(CHECK, "completion for bash, zsh or fish", "completion"),
}


@click.group(
    "fortress",
    cls=LazyGroup,
    table=COMMANDS,
    examples=("fortress demo", "fortress balance --json", "fortress explain FT-1016"),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="fortress")
def program() -> None:
    """A bank you can run: a secure double-entry ledger, its server and its clients.

    Data goes to standard output, talk to standard error. Global options may stand before or after the command.
    """


def main() -> None:
    """Run the program with the arguments of this process and end it with the exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; tell a failure in three lines, or in JSON where that is wanted.

    Returns:
        the exit code.
    """
    seen = Seen()
    try:
        result = program.main(list(arguments), prog_name="fortress", standalone_mode=False, obj=seen)
        sys.stdout.flush()
        return result if isinstance(result, int) else Exit.ok
    except click.exceptions.NoArgsIsHelpError as exc:
        click.echo(exc.format_message(), err=True)
        return Exit.usage
    except (KeyboardInterrupt, click.Abort):
        click.echo("", err=True)
        return Exit.interrupted
    except BrokenPipeError:
        # the reader has seen enough; the interpreter's last flush must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.ok
    except click.ClickException as exc:
        path = exc.ctx.command_path if isinstance(exc, click.UsageError) and exc.ctx else seen.path
        return _tell(failure_of(_usage_error(exc, path), path), arguments)
    except FortressError as exc:
        return _tell(failure_of(exc, seen.path), arguments)
    except Exception as exc:
        if {"-v", "--verbose"} & set(arguments):
            raise
        return _tell(failure_of(FortressError(f"{type(exc).__name__}: {exc}"), seen.path), arguments)


def _usage_error(exc: click.ClickException, path: str) -> Misuse:
    message = exc.format_message().rstrip(".")
    return Misuse(message[:1].lower() + message[1:], f"see '{path} --help'")


def _tell(failure: Failure, arguments: Sequence[str]) -> int:
    if "--json" in arguments:
        print(failure.document(), file=sys.stderr)
        return failure.exit
    first, *rest = failure.lines()
    color = "--no-color" not in arguments and not os.environ.get("NO_COLOR") and sys.stderr.isatty()
    print(click.style(first, fg="red", bold=True) if color else first, *rest, sep="\n", file=sys.stderr)
    return failure.exit
