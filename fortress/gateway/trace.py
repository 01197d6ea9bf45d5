"""What one ledger knows of an attempt of a payment between banks, read off its entries, and the steps that tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fortress.errors import REFUSED_CODE_BASE, Status
from fortress.ledger import entries as codec
from fortress.ledger.entries import HoldPlaced, HoldReleased, Posted
from fortress.ledger.model import NEVER_US, Actor, TransferKind
from fortress.protocol.payments import PaymentStep
from fortress.server.bank import Bank
from fortress.server.statistics import result_name

STAFF_ROLES: Final = frozenset(("teller", "administrator", "auditor"))
PENDING, DONE, REFUSED, GIVEN_UP = "pending", "done", "refused", "given_up"
OPERATION: Final = "payment"


# --- Reasons ---------------------------------------------------------------------------------------------------------
def reason_name(reason: int) -> str:
    """Name why a payment was not done: a status below 1000, else the code of an error; empty for 0."""
    return result_name(REFUSED_CODE_BASE + reason if reason < REFUSED_CODE_BASE else reason) if reason else ""


def state_of(reason: int) -> str:
    """Tell whether a payment that was not done for this reason may be tried again."""
    return GIVEN_UP if reason >= REFUSED_CODE_BASE else REFUSED


# --- One ledger ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Trace:
    """What one ledger knows of one attempt.

    Attributes:
        position: of the first entry under its id.
        placed: that entry: the placing of the hold, or a refusal.
        ended: the entry that ended the hold; None while it is open, and for a refusal.
        ended_at: its position.
    """

    position: int
    placed: HoldPlaced | codec.Refused
    ended: Posted | HoldReleased | None = None
    ended_at: int = 0

    @property
    def reason(self) -> int:
        """Why it was not done; 0 for what is open or done."""
        if isinstance(self.placed, codec.Refused):
            given_up = self.placed.status == Status.payment_given_up
            return int(dict(self.placed.facts).get("reason", 0)) if given_up else self.placed.status
        return self.ended.reason if isinstance(self.ended, HoldReleased) else 0

    @property
    def sequence(self) -> int:
        """The gateway's number of it once it is done; 0 before, and where it was done by hand."""
        if not isinstance(self.ended, Posted):
            return 0
        return self.ended_at if self.ended.kind == TransferKind.clearing else self.ended.gateway_sequence

    @property
    def state(self) -> str:
        """Where it stands: pending, done, refused or given_up."""
        if isinstance(self.placed, codec.Refused) or isinstance(self.ended, HoldReleased):
            return state_of(self.reason)
        return PENDING if self.ended is None else DONE

    def steps(self, where: str, names: tuple[str, str, str]) -> list[PaymentStep]:
        """Tell the steps; ``names`` for placed, posted and voided."""
        if isinstance(self.placed, codec.Refused):
            return [PaymentStep(where, "refused", self.placed.time_us, self.position, reason_name(self.reason))]
        found = [PaymentStep(where, names[0], self.placed.time_us, self.position)]
        if self.ended is not None:
            name = names[1] if isinstance(self.ended, Posted) else names[2]
            found.append(PaymentStep(where, name, self.ended.time_us, self.ended_at, reason_name(self.reason)))
        return found


async def trace_of(bank: Bank, id: bytes) -> Trace | None:
    """Read what this ledger knows of an attempt, once that is committed; None for nothing, or nothing of the kind."""
    found = await bank.payment_entries(id)
    if not found:
        return None
    position, placed = found[0]
    if isinstance(placed, codec.Refused):
        return Trace(position, placed) if placed.operation == OPERATION else None
    if not isinstance(placed, HoldPlaced) or placed.expires_us != NEVER_US:
        return None
    if len(found) == 1:
        return Trace(position, placed)
    ended_at, ended = found[1]
    assert isinstance(ended, Posted | HoldReleased)
    return Trace(position, placed, ended, ended_at)


def is_staff(actor: Actor) -> bool:
    """Tell whether somebody may see everybody's payments."""
    return not STAFF_ROLES.isdisjoint(actor.roles)
