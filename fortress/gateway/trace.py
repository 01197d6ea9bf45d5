"""What one ledger knows of an attempt of a payment between banks, read off its entries, and the steps that tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fortress.errors import REFUSED_CODE_BASE, Status
from fortress.ledger import entries as codec
from fortress.ledger.entries import HoldPlaced, HoldReleased, Posted
from fortress.ledger.model import Actor, Hold, HoldState
from fortress.protocol.payments import PaymentStep
from fortress.server.bank import Bank
from fortress.server.statistics import result_name

STAFF_ROLES: Final = frozenset(("teller", "administrator", "auditor"))
PENDING, DONE, REFUSED, GIVEN_UP = "pending", "done", "refused", "given_up"
OPEN_MAX: Final = 1_000
OPERATION: Final = "payment"
_OPEN, _POSTED = int(HoldState.open), int(HoldState.posted)


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
        placed: the entry under its id: the placing of the hold, or a refusal.
        hold: as it is now; None for a refusal.
        ended: the entry that ended the hold, and its position; None while it is open.
    """

    position: int
    placed: HoldPlaced | codec.Refused
    hold: Hold | None = None
    ended_at: int = 0
    ended: Posted | HoldReleased | None = None

    @property
    def reason(self) -> int:
        """Why it was not done; 0 for what is open or done."""
        if isinstance(self.placed, codec.Refused):
            given_up = self.placed.status == Status.payment_given_up
            return int(dict(self.placed.facts).get("reason", 0)) if given_up else self.placed.status
        return self.hold.reason if self.hold is not None else 0

    @property
    def state(self) -> str:
        """Where it stands: pending, done, refused or given_up."""
        if self.hold is None or self.hold.state not in (_OPEN, _POSTED):
            return state_of(self.reason)
        return PENDING if self.hold.state == _OPEN else DONE

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
    known = await bank.known(id)
    if known is None:
        return None
    position, entry = known
    if isinstance(entry, codec.Refused):
        return Trace(position, entry) if entry.operation == OPERATION else None
    if not isinstance(entry, HoldPlaced) or not entry.counterparty:
        return None
    live = bank.state.hold(id)
    hold = _copy(live) if live is not None else await bank.read(bank.queries.hold_of, id)
    if hold is not None:
        await bank.committed(hold.position)
    if hold is None or hold.state == _OPEN:
        return Trace(position, entry, hold)
    await bank.tables_hold(hold.position)
    ended = codec.decode(await bank.read(bank.queries.entry_at, hold.position))
    assert isinstance(ended, Posted | HoldReleased)
    return Trace(position, entry, hold, hold.position, ended)


def _copy(hold: Hold) -> Hold:
    """Keep a hold as it is now: the working state changes it."""
    return Hold(*(getattr(hold, name) for name in Hold.__dataclass_fields__))


def kind_of(entry: object) -> str:
    """Tell the placing of a payment's leg from other entries, for a search in a history."""
    return OPERATION if isinstance(entry, HoldPlaced) and entry.counterparty else ""


def is_staff(actor: Actor) -> bool:
    """Tell whether somebody may see everybody's payments."""
    return not STAFF_ROLES.isdisjoint(actor.roles)


async def open_payments(bank: Bank) -> list[bytes]:
    """List the ids of the open legs in a ledger, the oldest first, at most OPEN_MAX."""
    await bank.tables_hold(bank.committer.committed_position)
    return await bank.read(bank.queries.open_payments, OPEN_MAX)
