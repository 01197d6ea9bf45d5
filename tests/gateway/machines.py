"""What the tests of the payment machines share: ports that write down what is asked of them, and what ledgers say."""

from __future__ import annotations

from typing import Any

from fortress.errors import Status
from fortress.gateway.messages import Prepare, Submit
from fortress.gateway.participant import Order, Outgoing
from fortress.ledger.entries import HoldPlaced, Posted, Refused
from fortress.ledger.model import NEVER_US, Hold, HoldState
from fortress.ledger.rules import Verdict

ID = bytes(range(16))
NOW_US = 1_700_000_000_000_000
SECOND = 1_000_000
SUBMIT = Submit(ID, 1000188, "b", 1000285, 500, "EUR", "rent")
PREPARE = Prepare(ID, "a", 1000188, 1000285, 500, "EUR", "rent")
TOO_FAR_AHEAD = Verdict(Status.id_too_far_ahead)


def hold(state: HoldState = HoldState.open, *, sequence: int = 0, reason: int = 0, position: int = 9) -> Hold:
    """A hold of a payment."""
    made = Hold(ID, 1, 2, 500, "EUR", NOW_US, NEVER_US, "rent", int(state), position=position)
    made.sequence, made.reason = sequence, reason
    return made


def posted(sequence: int = 77) -> Hold:
    return hold(HoldState.posted, sequence=sequence)


def voided(reason: int) -> Hold:
    return hold(HoldState.voided, reason=reason)


def ok(*, replayed: bool = False) -> Verdict:
    """The ledger's answer to a placing."""
    entry = HoldPlaced(NOW_US, ID, 1, 2, 500, "EUR", NEVER_US, "rent", 500, 500, 1)
    return Verdict(Status.ok, entry, replayed=replayed, position=8)


def posting() -> Verdict:
    """The ledger's answer to a commit."""
    entry = Posted(NOW_US, ID, 1, 2, 500, "EUR", 4, "rent", 0, 500, 0, 500)
    return Verdict(Status.ok, entry, position=9)


def refusal(status: Status, *facts: tuple[str, int | str]) -> Verdict:
    """The ledger's refusal."""
    return Verdict(status, Refused(NOW_US, ID, int(status), b"", "payment", 0, facts, 0), facts)


def given_up(reason: int) -> Verdict:
    """The ledger's answer to the placing of what was given up before."""
    return refusal(Status.payment_given_up, ("reason", reason))


class Recorder:
    """Ports of both kinds: every call is a tuple in ``calls``, taken with :meth:`taken`."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.reason = 0
        self.is_connected = True
        self.leg: Outgoing | None = None

    def taken(self) -> list[tuple[Any, ...]]:
        calls, self.calls = self.calls, []
        return calls

    def objection(self, _payment: Any) -> int:
        return self.reason

    def send(self, *what: Any) -> None:
        self.calls.append(("send", *what))

    def leg_of(self, _order: Order) -> Outgoing | None:
        return self.leg

    def open_leg(self, order: Order) -> Outgoing:
        self.calls.append(("open_leg", order))
        self.leg = Outgoing(self, SUBMIT, NOW_US)
        return self.leg

    def place(self, machine: Any) -> None:
        self.calls.append(("place", machine.id))

    def place_incoming(self, machine: Any) -> None:
        self.calls.append(("place_incoming", machine.id))

    def look(self, order: Order) -> None:
        self.calls.append(("look", order.id))

    def commit(self, machine: Any) -> None:
        self.calls.append(("commit", machine.id))

    def abort(self, machine: Any) -> None:
        self.calls.append(("abort", machine.id, machine.reason))

    def dispute(self, _leg: Any, status: int) -> None:
        self.calls.append(("dispute", Status(status)))

    def forget(self, _machine: Any) -> None:
        self.calls.append(("forget",))

    def answer_paid(self, _order: Order, position: int, entry: Posted | None) -> None:
        self.calls.append(("paid", position, entry))

    def answer_refused(self, _order: Order, status: int, facts: Any) -> None:
        self.calls.append(("refused", Status(status), facts))

    def answer_error(self, _order: Order, error: Any) -> None:
        self.calls.append(("error", error))
