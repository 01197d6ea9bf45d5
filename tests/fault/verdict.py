"""The check of a history against the journal: it knows no clients and no nodes, only what was asked, told and written.

- What was acknowledged stands in the journal exactly once, where it was acknowledged, as it was asked for.
- What was refused was not done, nor was what came to nothing ("busy", "not primary"); what is unknown was done at most
  once, and nothing stands twice.
- An order asked for after another was acknowledged stands behind that one: two primaries that acknowledge at the same
  time cannot keep to this (linearizability, with the journal's positions as the witness).
- A repeat gets the first answer.
- Every reading of all balances adds up to the same sum, whatever happens meanwhile (the bank test of Jepsen).
- Every look at the counter shows all that was acknowledged before it began, and nothing not yet asked when it ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fortress.errors import OK, REFUSED_CODE_BASE, DeadlinePassed, OutcomeUnknown, RetryableError
from tests.fault.history import UNKNOWN, Event, Move

FINDINGS_MAX: Final = 20
HOLD_ENDS: Final = {"post": "hold posted", "void": "hold voided"}
DONE_KINDS: Final = frozenset(("posted", "held"))
UNDECIDED: Final = frozenset((OutcomeUnknown.code, DeadlinePassed.code))
CAME_TO_NOTHING: Final = frozenset(cls.code for cls in RetryableError.__subclasses__()) - UNDECIDED
NOTHING: Final = -1


@dataclass(frozen=True, slots=True)
class Stand:
    """Where an id stands in the journal.

    Attributes:
        kind: ``posted``, ``held``, ``hold posted``, ``hold voided``, ``hold expired``, ``refused`` or another.
        move: what it moved or reserved.
    """

    kind: str
    position: int
    time_us: int = 0
    move: Move | None = None


Stands = Mapping[str, Sequence[Stand]]
"""Id in hexadecimal -> where it stands, in order."""


@dataclass(slots=True)
class Verdict:
    """What the check came to.

    Attributes:
        acknowledged, refused, unknown, nothing: rows and orders that ended so.
        lost: acknowledged, and not in the journal as acknowledged.
        doubled: ids that were done more than once.
        reads, counts: looks at all balances and at the counter.
        findings: a sentence for everything that is wrong, at most FINDINGS_MAX.
        wrong: how many findings there were.
    """

    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    nothing: int = 0
    lost: int = 0
    doubled: int = 0
    reads: int = 0
    counts: int = 0
    wrong: int = 0
    findings: list[str] = field(default_factory=list)

    def find(self, sentence: str) -> None:
        """Note that something is wrong."""
        self.wrong += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(sentence)


@dataclass(slots=True)
class Order:
    """All that was asked and told about one order.

    Attributes:
        outcome: code of its definite answer; else UNKNOWN, or NOTHING when each try is known to have come to nothing.
        essence: what must be the same in each answer.
        answer: the event of the first definite answer.
    """

    operation: str
    ids: tuple[str, ...]
    moves: list[list[int]]
    outcome: int = NOTHING
    essence: Any = None
    answer: Event = field(default_factory=dict)


def judge(events: Iterable[Event], stands: Stands) -> Verdict:
    """Check a history against what stands in the journal at its end."""
    verdict = Verdict()
    for order in _orders(events, verdict):
        _check_order(order, stands, verdict)
    for id, rows in stands.items():
        kinds = [row.kind for row in rows]
        if len(kinds) != len(set(kinds)):
            verdict.doubled += 1
            verdict.find(f"{id} stands more than once in the journal: {list(rows)}")
    return verdict


def _orders(events: Iterable[Event], verdict: Verdict) -> Iterable[Order]:
    """Walk through the history once: gather what is known of each order, and check what can be checked on the way."""
    orders: dict[tuple[str, tuple[str, ...]], Order] = {}
    asked: dict[int, tuple[Order, int]] = {}
    told_position, sum_minor, accounts = -1, 0, 0
    for event in events:
        match event["do"]:
            case "begin":
                sum_minor, accounts = event["sum_minor"], event["accounts"]
            case "ask":
                key = event["operation"], tuple(event["ids"])
                order = orders.setdefault(key, Order(*key, moves=event["moves"]))
                asked[event["n"]] = order, told_position
            case "tell":
                order, floor = asked.pop(event["n"])
                told_position = max(told_position, _take(order, floor, event, verdict))
            case "read":
                verdict.reads += 1
                if (event["sum_minor"], event["accounts"]) != (sum_minor, accounts):
                    verdict.find(f"{event['accounts']} balances add up to {event['sum_minor']}: {event}")
            case "count":
                verdict.counts += 1
                if not event["low"] <= event["seen"] <= event["high"]:
                    verdict.find(f"the counter showed what is over or never was: {event}")
    for order, _ in asked.values():  # the client ended before the answer came
        order.outcome = UNKNOWN if order.outcome == NOTHING else order.outcome
    return orders.values()


def _is_definite(code: int) -> bool:
    return code == OK or REFUSED_CODE_BASE < code < 2 * REFUSED_CODE_BASE


def _take(order: Order, floor: int, event: Event, verdict: Verdict) -> int:
    """Take over an answer; give the position that is known to all from now on."""
    code = event["code"]
    if not _is_definite(code):
        if code in UNDECIDED and order.outcome == NOTHING:
            order.outcome = UNKNOWN
        elif code not in UNDECIDED | CAME_TO_NOTHING:
            verdict.find(f"{order.operation} {order.ids[0]} was answered {code}, which should not come")
        return -1
    position = event.get("position", -1) if code == OK else -1
    is_batch = order.operation == "transfers"
    essence = (code, event["statuses"] if is_batch and code == OK else position)
    if order.outcome in (UNKNOWN, NOTHING):
        order.outcome, order.essence, order.answer = code, essence, event
    elif order.essence != essence:
        verdict.find(f"{order.operation} {order.ids[0]} was answered {order.essence}, later {essence}")
    is_fresh = code == OK and not is_batch and not event.get("replayed")
    if is_fresh and position <= floor:
        verdict.find(f"{order.operation} {order.ids[0]} stands at {position}, and {floor} was told before it was asked")
    return position


def _check_order(order: Order, stands: Stands, verdict: Verdict) -> None:
    if order.operation == "transfers":
        _check_batch(order, stands, verdict)
        return
    (id,) = order.ids
    kinds = {HOLD_ENDS[order.operation]} if order.operation in HOLD_ENDS else DONE_KINDS
    found = [row for row in stands.get(id, ()) if row.kind in kinds]
    move = tuple(order.moves[0]) if order.moves else None
    if order.outcome == OK:
        verdict.acknowledged += 1
        _check_done(f"{order.operation} {id}", found, move, verdict)
        place = order.answer["position"], order.answer["time_us"]
        if found and (found[0].position, found[0].time_us) != place:
            verdict.lost += 1
            verdict.find(f"{order.operation} {id} was acknowledged at {place}, stands at {found}")
    elif order.outcome == UNKNOWN:
        verdict.unknown += 1
    elif order.outcome == NOTHING:
        verdict.nothing += 1
        if found:
            verdict.find(f"{order.operation} {id} came to nothing, as was told, and stands at {found}")
    else:
        verdict.refused += 1
        if found:
            verdict.find(f"{order.operation} {id} was refused with {order.outcome}, and stands at {found}")


def _check_batch(order: Order, stands: Stands, verdict: Verdict) -> None:
    if order.outcome != OK:
        is_nothing = order.outcome == NOTHING
        verdict.nothing += is_nothing
        verdict.unknown += not is_nothing
        if is_nothing and any(id in stands for id in order.ids):
            verdict.find(f"a batch with {order.ids[0]} came to nothing, as was told, and stands in the journal")
        return
    for id, status, move in zip(order.ids, order.answer["statuses"], order.moves, strict=True):
        found = [row for row in stands.get(id, ()) if row.kind in DONE_KINDS]
        if status == OK:
            verdict.acknowledged += 1
            _check_done(f"row {id}", found, tuple(move), verdict)
        else:
            verdict.refused += 1
            if found:
                verdict.find(f"row {id} was refused with {status}, and stands at {found}")


def _check_done(what: str, found: Sequence[Stand], move: Any, verdict: Verdict) -> None:
    """Check that what was acknowledged is there as it was asked for; that it is not there twice is seen elsewhere."""
    if not found:
        verdict.lost += 1
        verdict.find(f"{what} was acknowledged and is not in the journal")
    elif move is not None and found[0].move != move:
        verdict.find(f"{what} was to move {move}, and moved {found[0].move}")
