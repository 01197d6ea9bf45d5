"""``explain``: every code of errors.py in words, for people who met one and for programs that want the list."""

from __future__ import annotations

from dataclasses import dataclass

import click

from fortress.cli.command import command, current_call
from fortress.cli.failures import EXIT_SENTENCES, Exit, exit_of
from fortress.cli.misuse import Misuse
from fortress.cli.output import Fields, Json, Table, show
from fortress.errors import (
    DEFAULT_REFUSAL_HINT,
    ERRORS_BY_CODE,
    STATUS_HINTS,
    STATUS_SENTENCES,
    Refused,
    Status,
    refusal_code,
)

FAMILIES = {
    1: "the bank refused by its rules",
    2: "about who you are",
    3: "nothing is wrong with the request; try again",
    4: "about what was sent",
    5: "about the ledger itself",
    6: "about how the program was called",
    7: "about the two nodes of a bank and their register",
}
RETRIES = {
    "never": "repeating it changes nothing",
    "same_id": "repeat it with the same id",
    "new_id": "correct it and send it with a new id; the old id keeps its answer",
    "elsewhere": "send it to the primary; the client does so by itself",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What one code means."""

    code: int
    name: str
    sentence: str
    hint: str
    retry: str
    exit: Exit

    def document(self) -> dict[str, Json]:
        """The meaning for programs."""
        return {
            "code": f"FT-{self.code}",
            "name": self.name,
            "meaning": self.sentence,
            "do": self.hint,
            "retry": self.retry,
            "exit": int(self.exit),
        }


def meanings() -> list[Meaning]:
    """List the meaning of every code, in the order of the codes."""
    refusals = [
        Meaning(
            code=refusal_code(status),
            name=status.name,
            sentence=STATUS_SENTENCES[status],
            hint=STATUS_HINTS.get(status, DEFAULT_REFUSAL_HINT),
            retry=Refused.retry,
            exit=Exit.refused,
        )
        for status in Status
        if status != Status.ok
    ]
    errors = [
        Meaning(
            code=code,
            name=cls.__name__,
            sentence=(cls.__doc__ or "").split("\n")[0].rstrip("."),
            hint=cls.hint,
            retry=cls.retry,
            exit=exit_of(cls),
        )
        for code, cls in ERRORS_BY_CODE.items()
    ]
    return sorted(refusals + errors, key=lambda meaning: meaning.code)


def find_meaning(text: str) -> Meaning:
    """Find a meaning by code (``FT-1016``, ``1016``) or name (``exceeds_available``).

    Raises:
        Misuse: there is no such code.
    """
    wanted = text.strip().lower().removeprefix("ft-")
    for meaning in meanings():
        if wanted in (str(meaning.code), meaning.name.lower()):
            return meaning
    raise Misuse(f"there is no code {text!r}", "'fortress explain' lists them all")


@command("explain", "fortress explain FT-1016", "fortress explain exceeds_available", "fortress explain --json")
@click.argument("code", required=False)
def explain_command(code: str | None) -> None:
    """Say what an error code means and what to do; without a code, list all."""
    call = current_call()
    if code is None:
        rows = [(f"FT-{each.code}", each.name, each.sentence) for each in meanings()]
        table = Table(columns=("Code", "Name", "Meaning"), rows=rows)
        show(call, [each.document() for each in meanings()], table)
        return
    meaning = find_meaning(code)
    pairs = [
        ("Meaning", meaning.sentence),
        ("Family", FAMILIES[meaning.code // 1000]),
        ("Do", meaning.hint),
        ("Again", RETRIES[meaning.retry]),
        ("Exit code", f"{int(meaning.exit)}: {EXIT_SENTENCES[meaning.exit]}"),
    ]
    show(call, meaning.document(), Fields(title=f"FT-{meaning.code} {meaning.name}", pairs=pairs))
