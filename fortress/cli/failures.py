"""How a failure is told: three lines for a person or one JSON object, and the exit code.

The exit code derives from the class of the error by one table; the closest class on the way up counts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum

from fortress.cli.misuse import Misuse
from fortress.errors import (
    DEFAULT_REFUSAL_HINT,
    ERRORS_BY_CODE,
    STATUS_HINTS,
    AuthenticationError,
    DeadlinePassed,
    Facts,
    FolderInUse,
    FortressError,
    KeyUnusable,
    LedgerError,
    LocalProtocolError,
    MessageInvalid,
    MessageTooLarge,
    OutcomeUnknown,
    PairError,
    PasswordTooWeak,
    ProtocolError,
    Quarantined,
    Refused,
    RegisterStale,
    RetryableError,
    SealBroken,
    ServerNotTrusted,
    UnknownOperation,
    UsageError,
    refusal_code,
)


class Exit(IntEnum):
    """What the program ends with."""

    ok = 0
    refused = 1
    usage = 2
    not_allowed = 3
    unreachable = 4
    unknown = 5
    degraded = 6
    integrity = 7
    threshold = 10
    defect = 70
    interrupted = 130


EXIT_SENTENCES: dict[Exit, str] = {
    Exit.ok: "done",
    Exit.refused: "refused by the bank",
    Exit.usage: "called in a way that cannot work",
    Exit.not_allowed: "not signed in, or not allowed",
    Exit.unreachable: "the bank cannot be reached or takes no work now",
    Exit.unknown: "whether it was done is not known; safe to repeat with the same id",
    Exit.degraded: "works, but something is not as it should be",
    Exit.integrity: "an integrity check failed",
    Exit.threshold: "a threshold was missed",
    Exit.defect: "a defect of Fortress itself",
    Exit.interrupted: "interrupted by Ctrl-C",
}

EXITS: dict[type[FortressError], Exit] = {
    FortressError: Exit.defect,
    Refused: Exit.refused,
    AuthenticationError: Exit.not_allowed,
    PasswordTooWeak: Exit.usage,
    ServerNotTrusted: Exit.integrity,
    RetryableError: Exit.unreachable,
    DeadlinePassed: Exit.unknown,
    OutcomeUnknown: Exit.unknown,
    ProtocolError: Exit.unreachable,
    SealBroken: Exit.integrity,
    MessageTooLarge: Exit.usage,
    MessageInvalid: Exit.usage,
    UnknownOperation: Exit.usage,
    LocalProtocolError: Exit.defect,
    LedgerError: Exit.integrity,
    KeyUnusable: Exit.usage,
    FolderInUse: Exit.usage,
    UsageError: Exit.usage,
    PairError: Exit.degraded,
    Quarantined: Exit.integrity,
    RegisterStale: Exit.integrity,
}


UNTOLD = {"currency", "id", "repeat", "operation"}
"""Facts that are told elsewhere: with an amount, or in what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failure, ready to be told.

    Attributes:
        code: the number behind ``FT-``.
        name: the status or the class.
        what: what failed.
        why: the reason, with its facts.
        do: what to do about it.
        exit: what the program ends with.
        retry: ``never``, ``same_id``, ``new_id`` or ``elsewhere``.
        facts: small values for programs.
    """

    code: int
    name: str
    what: str
    why: str
    do: str
    exit: Exit
    retry: str
    facts: Facts

    @property
    def label(self) -> str:
        """The code as people write it."""
        return f"FT-{self.code}"

    def lines(self) -> tuple[str, str, str]:
        """Say it in three lines."""
        return (
            f"{self.what} ({self.label})",
            f"  why: {self.why}",
            f"  do:  {self.do}; more: 'fortress explain {self.label}'",
        )

    def document(self) -> str:
        """Say it in one line of JSON."""
        error = {
            "code": self.label,
            "name": self.name,
            "what": self.what,
            "why": self.why,
            "do": self.do,
            "retry": self.retry,
            "exit": int(self.exit),
            "facts": self.facts,
        }
        return json.dumps({"error": error}, ensure_ascii=False)


def code_of(error: FortressError) -> int:
    """Give the number behind ``FT-``; a refusal has its status's."""
    return refusal_code(error.status) if isinstance(error, Refused) else error.code


def name_of(error: FortressError) -> str:
    """Name an error for programs: a refusal by its status, others by their class."""
    return error.status.name if isinstance(error, Refused) else ERRORS_BY_CODE[error.code].__name__


def hint_of(error: FortressError) -> str:
    """Say what to do about an error."""
    return STATUS_HINTS.get(error.status, DEFAULT_REFUSAL_HINT) if isinstance(error, Refused) else error.hint


def exit_of(error: type[FortressError]) -> Exit:
    """Give the exit code of a class of errors."""
    return next(EXITS[cls] for cls in error.__mro__ if cls in EXITS)


def failure_of(error: FortressError, command: str) -> Failure:
    """Make a failure of an error that a command ended with.

    Args:
        error: what was raised.
        command: the command as typed, without its arguments, like ``fortress pay``.
    """
    ending = exit_of(type(error))
    facts = facts_text(error.facts, error.message)
    return Failure(
        code=code_of(error),
        name=name_of(error),
        what=f"'{command}' failed: {EXIT_SENTENCES[ending]}",
        why=f"{error.message} ({facts})" if facts else error.message,
        do=_next_step(error),
        exit=ending,
        retry=error.retry,
        facts=error.facts,
    )


def facts_text(facts: Facts, message: str = "") -> str:
    """Write facts for a person; what the message says already is left out, amounts and times are written out."""
    parts = []
    for name, value in facts.items():
        text = _fact_text(name, value, str(facts.get("currency") or ""))
        if value not in (None, "") and str(value) not in message and name not in UNTOLD:
            parts.append(f"{_plain_name(name)} {text}")
    return ", ".join(parts)


def _plain_name(name: str) -> str:
    for unit in ("_minor", "_us", "_s"):
        name = name.removesuffix(unit)
    return name.replace("_", " ")


def _fact_text(name: str, value: object, currency: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        return str(value)
    if name.endswith("_minor") and currency:
        from fortress.cli.views import money_text  # currencies are loaded only when there is money to tell

        return money_text(value, currency)
    if name.endswith("_us") and value:
        from fortress.cli.views import time_text

        return time_text(value)
    return f"{value} s" if name.endswith("_s") else str(value)


def _next_step(error: FortressError) -> str:
    repeat = error.facts.get("repeat") or (f"--id {error.facts['id']}" if "id" in error.facts else "")
    if exit_of(type(error)) == Exit.unknown and repeat:
        return f"repeat the same command with {repeat}: it will be done once"
    return error.do if isinstance(error, Misuse) else hint_of(error)
