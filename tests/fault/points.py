"""A node that ends itself with SIGKILL at a named point of a payment's way: ``python -m tests.fault.points serve DIR``.

It is ``fortress`` itself with a look-out at the doors through which every payment goes: messages over the link, records
on their way to the disk, the answer to the customer. Nothing else is changed, and nothing of it is in the product. The
file named by KILL_FILE arms it at any time: a point, and how often it is to be reached; SIGKILL then comes within that
very call, so nothing after the point happens.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final

from fortress.gateway import messages
from fortress.gateway.links import Link
from fortress.gateway.member import Member
from fortress.ledger import entries as codec
from fortress.ledger.model import NEVER_US, SWITCH_ACTOR, TransferKind
from fortress.ledger.records import Record
from fortress.ledger.records import entries as blobs_of
from fortress.protocol.payments import PaymentAnswer
from fortress.server.committer import Committer
from fortress.server.session import Session

# point -> how many times, at most, it is reached before the end: rare ones at once
BANK_POINTS: Final[dict[str, int]] = {
    "order taken": 150,
    "hold written": 100,  # goes to the disk now; whether it arrived, the next start finds out
    "hold durable": 100,
    "submit sent": 100,
    "prepare received": 150,
    "prepared written": 100,
    "prepared durable": 100,
    "vote sent": 100,
    "outcome received": 200,
    "commit written": 150,
    "commit durable": 150,
    "abort written": 3,
    "abort durable": 3,
    "acknowledge sent": 150,
    "answering": 150,
}
GATEWAY_POINTS: Final[dict[str, int]] = {
    "submit received": 200,
    "intent written": 150,
    "intent durable": 150,
    "prepare sent": 150,
    "vote received": 200,
    "decision written": 150,
    "decision durable": 150,
    "abort written": 5,
    "abort durable": 5,
    "outcome sent": 150,
    "acknowledge received": 200,
}
_SENT: Final = {
    messages.Submit: "submit sent",
    messages.Prepare: "prepare sent",
    messages.Vote: "vote sent",
    messages.Outcome: "outcome sent",
    messages.Acknowledge: "acknowledge sent",
}
_RECEIVED: Final = {
    messages.Submit: "submit received",
    messages.Prepare: "prepare received",
    messages.Vote: "vote received",
    messages.Outcome: "outcome received",
    messages.Acknowledge: "acknowledge received",
}
_COMMITTED: Final = {
    int(TransferKind.payment_out): "commit",
    int(TransferKind.payment_in): "commit",
    int(TransferKind.clearing): "decision",
}


class Trap:
    """What waits for a point to be reached.

    Args:
        file: arms it: the point's name, a line's end, and how often it is to be reached.
        end: called then; SIGKILL to this very process.
    """

    def __init__(self, file: str, end: Callable[[], None]) -> None:
        self._file = file
        self._end = end
        self._point = ""
        self._left = 0

    def reach(self, point: str) -> None:
        """Take it that a point was reached."""
        if not self._point and not self._is_armed():
            return
        if point == self._point:
            self._left -= 1
            if self._left <= 0:
                self._end()

    def _is_armed(self) -> bool:
        try:
            with open(self._file, encoding="utf-8") as file:
                point, _, left = file.read().partition("\n")
        except FileNotFoundError:
            return False
        self._point, self._left = point, int(left or 1)
        return bool(point)


def end_now() -> None:
    """End this process as nothing can prevent."""
    os.kill(os.getpid(), signal.SIGKILL)


def steps_of(record: Record) -> Iterable[str]:
    """Name what a record does to payments: hold, prepared or intent; commit or decision; abort."""
    for blob in blobs_of(record):
        entry = codec.decode(blob)
        if isinstance(entry, codec.HoldPlaced) and entry.expires_us == NEVER_US:
            if ">" in entry.counterparty:
                yield "intent"
            else:
                # a payer's own hand or a cashier's began it; the other side's leg is the node's own
                yield "prepared" if entry.actor == SWITCH_ACTOR.customer else "hold"
        elif isinstance(entry, codec.Posted) and entry.kind in _COMMITTED:
            yield _COMMITTED[entry.kind]
        elif isinstance(entry, codec.HoldReleased) and entry.reason:
            yield "abort"


def watch(trap: Trap) -> None:
    """Look out for every point in this process."""
    _watch_links(trap)
    _watch_records(trap)
    pay, answer = Member.pay, Session.answer

    def watched_pay(self: Member, command: Any, answered: Any) -> None:
        trap.reach("order taken")
        pay(self, command, answered)

    def watched_answer(self: Session, request_id: int, fields: Any) -> None:
        if isinstance(fields, PaymentAnswer):
            trap.reach("answering")
        answer(self, request_id, fields)

    Member.pay = watched_pay
    Session.answer = watched_answer


def _watch_links(trap: Trap) -> None:
    send, flush, said = Link.send, Link.flush, Link._said
    unsent: defaultdict[Link, list[str]] = defaultdict(list)

    def watched_send(self: Link, message: messages.Message) -> None:
        send(self, message)
        if type(message) in _SENT:
            unsent[self].append(_SENT[type(message)])

    def watched_flush(self: Link) -> None:
        flush(self)
        for point in unsent.pop(self, ()):
            trap.reach(point)

    def watched_said(self: Link, message: messages.Message) -> None:
        if type(message) in _RECEIVED:
            trap.reach(_RECEIVED[type(message)])
        said(self, message)

    Link.send, Link.flush, Link._said = watched_send, watched_flush, watched_said


def _watch_records(trap: Trap) -> None:
    write, durable = Committer._write, Committer._durable

    def watched_write(self: Committer, record: Record, delta: Any) -> None:
        write(self, record, delta)
        for step in steps_of(record):
            trap.reach(f"{step} written")

    def watched_durable(self: Committer, record: Record, delta: Any) -> None:
        for step in steps_of(record):
            trap.reach(f"{step} durable")
        durable(self, record, delta)

    Committer._write, Committer._durable = watched_write, watched_durable


def main() -> None:
    """Run the program with the look-out; its arguments are those of ``fortress``."""
    from fortress.cli.main import main as run

    watch(Trap(os.environ["KILL_FILE"], end_now))
    sys.argv[0] = "fortress"
    run()


if __name__ == "__main__":
    main()
