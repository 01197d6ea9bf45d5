"""The tries of one request: how long each may take, how long to wait in between, and what is known at the end.

A try that was told nothing leaves a doubt: it may have been done. From then on only an answer that speaks about the
earlier tries too ends the doubt, and that is the bank's verdict on the same id. Everything else ends as unknown.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from fortress.client.ids import format_id
from fortress.errors import (
    Busy,
    DeadlinePassed,
    Facts,
    FortressError,
    NoPrimary,
    NotPrimary,
    OutcomeUnknown,
    Refused,
    ShuttingDown,
    Status,
    Unreachable,
)
from fortress.protocol.administration import Freeze
from fortress.protocol.fields import Request
from fortress.protocol.messages import OPERATIONS

WAIT_S_MIN: Final = 0.05
WAIT_S_MAX: Final = 2.0
TRY_S: Final = 2.0
"""How long the first try may go without an answer while there is another node to ask; further ones twice as long."""
BUSY_MAX: Final = 2
"""So often busy, and another node is asked: the one that is busy may be waiting for what the other one has."""

NOT_REPEATABLE: Final = {"register", "change_key"}
"""Operations that would be refused when they are done already, and whose proof is good on one channel only."""
SETTLED_BY_REPEAT: Final = {"unfreeze": "open", "freeze": "frozen", "close_account": "closed", "reopen": "open"}
"""Operations whose repeat finds the account in the wanted state already, and that state."""
INCONCLUSIVE: Final = {
    ("approve", Status.approval_already_decided),
    ("create_user", Status.id_reused),
    ("invite", Status.id_reused),
    ("pay", Status.order_signature_invalid),
    ("transfer", Status.order_signature_invalid),
}
"""Refusals of a repeat that say nothing of an earlier try: it may have been done, with the key that was right then."""
UNDECIDED: Final = (OutcomeUnknown, DeadlinePassed)
ELSEWHERE: Final = (NotPrimary, ShuttingDown, NoPrimary)
AGAIN: Final = (Busy, Unreachable, *ELSEWHERE, *UNDECIDED)
"""What is tried again."""


def waits() -> Iterator[float]:
    """Give the seconds to wait before each further try: 50 ms doubling to 2 s, each between half and whole."""
    wait = WAIT_S_MIN
    while True:
        yield wait * random.uniform(0.5, 1.0)
        wait = min(2 * wait, WAIT_S_MAX)


class Attempts:
    """What is known about the tries so far.

    Args:
        operation: the one that matters.
        fields: of the request, for what the caller needs to repeat it.
        id: that the request will have, if there are no fields yet.

    Attributes:
        is_doubtful: it may have been done, and nobody has said so.
        is_worn: the node that was asked last should not be asked again at once.
    """

    __slots__ = ("_busy", "_facts", "_late", "_operation", "_told", "_waits", "_was_shown", "is_doubtful", "is_worn")

    def __init__(self, operation: str, fields: Request | None = None, *, id: bytes = b"") -> None:
        self._operation = operation
        self._facts = _facts_of(operation, getattr(fields, "id", id), getattr(fields, "expires_us", 0))
        self._waits = waits()
        self._busy = self._late = 0
        self._was_shown = False
        self._told: FortressError | None = None
        self.is_doubtful = False
        self.is_worn = False

    def try_s(self, timeout_s: float, *, has_choice: bool) -> float:
        """Give how long the next try may take, when a request may take ``timeout_s`` at most."""
        return min(timeout_s, TRY_S * 2**self._late) if has_choice else timeout_s

    def note(self, error: FortressError, *, was_sent: bool) -> float:
        """Take that a try ended like this, and give how long to wait before the next: not at all if it showed the way.

        Args:
            was_sent: false if it ended before the request itself was made.
        """
        if was_sent and isinstance(error, UNDECIDED):
            self._late += 1
            row = OPERATIONS.get(self._operation)
            self.is_doubtful |= row is None or row.writes  # reading twice is never in doubt
        if not isinstance(error, Unreachable):
            self._told = error
        is_busy = type(error) is Busy
        self._busy += is_busy
        self.is_worn = isinstance(error, (*ELSEWHERE, *UNDECIDED)) or (is_busy and self._busy % BUSY_MAX == 0)
        # two nodes that name each other must not be asked without end
        self._was_shown = isinstance(error, NotPrimary) and bool(error.facts.get("primary")) and not self._was_shown
        return 0.0 if self._was_shown else next(self._waits)

    @property
    def is_final(self) -> bool:
        """Whether it must not be tried again."""
        return self.is_doubtful and self._operation in NOT_REPEATABLE

    def is_verdict(self, error: FortressError) -> bool:
        """Whether an error speaks about all tries: a refusal by the bank's rules does, as a rule."""
        if not self.is_doubtful:
            return True
        return isinstance(error, Refused) and (self._operation, error.status) not in INCONCLUSIVE

    def is_settled_by(self, refusal: Refused) -> bool:
        """Whether a refusal of a repeat may only say that the wanted state is there."""
        is_conflict = refusal.status is Status.account_state_conflict
        return self.is_doubtful and is_conflict and self._operation in SETTLED_BY_REPEAT

    def end(self, error: FortressError) -> FortressError:
        """Give what the caller should hear when there are no more tries: what a node said goes before none answering.

        Args:
            error: with which the last try ended.
        """
        if self.is_doubtful:
            unknown = self.unknown()
            unknown.__cause__ = error
            return unknown
        return error if self._told is None else self._told

    def unknown(self) -> OutcomeUnknown:
        """Make the error that says that it may have been done, with what is needed to repeat it."""
        return OutcomeUnknown(f"no answer to {self._operation!r}; it may or may not have been done", dict(self._facts))


def wanted_state(operation: str, fields: Request) -> str:
    """Give the state in which an account is after an operation of ``SETTLED_BY_REPEAT``."""
    if isinstance(fields, Freeze) and fields.debits_only:
        return "debit_frozen"
    return SETTLED_BY_REPEAT[operation]


def _facts_of(operation: str, id: bytes, expires_us: int) -> Facts:
    facts: Facts = {"operation": operation}
    if id:
        facts["id"] = format_id(id)
    if expires_us:
        facts["expires_us"] = expires_us  # part of a hold's content, so a repeat must bring the same
    return facts
