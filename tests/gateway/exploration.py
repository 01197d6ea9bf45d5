"""Every fault at every step of a payment, alone, in pairs and in threes; ``python -m tests.gateway.exploration``.

A schedule of n faults is one of n-1 faults and one more at any step of its run that comes later, so all schedules are
met that can be: the steps of a run are found by running it.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from fortress.errors import BooksBroken, Status
from fortress.gateway.messages import Acknowledge, Message, Outcome, Vote
from fortress.ledger.commands import AbortPayment, ChangeAccount
from fortress.ledger.model import BANK_ACTOR, SWITCH_ACTOR
from tests.gateway.world import (
    ALICE,
    AMOUNT,
    BOB,
    DOLLARS,
    PAYMENT,
    POSITION_A,
    SECOND,
    Customer,
    Ledger,
    Scenario,
    Violation,
    World,
)
from tests.ledger.books_fixture import NOW_US, uid

Faults = dict[int, str]
OTHER = uid(NOW_US)
UNKNOWN = bytes(16)
FOUND_MAX = 5
STORMS = 2_000
RATES = (0.05, 0.1, 0.3)


# --- Scenarios -------------------------------------------------------------------------------------------------------
def _answers(*answers: str) -> tuple[frozenset[str], ...]:
    return (frozenset(answers),)


def _refused(status: str, *accounts: tuple[str, int, dict[str, Any]], **customer: Any) -> Scenario:
    return Scenario((lambda: Customer(**customer),), _answers(f"refused {status}"), accounts)


def _change(act: str) -> Any:
    """Do something to the payee's account by hand."""

    def change(world: World) -> None:
        bank = world.banks["b"]
        if bank.is_up:
            bank.submit(ChangeAccount(BANK_ACTOR, uid(NOW_US), BOB, act), lambda verdict, hold, now_us: None)

    return change


def _suspend(world: World) -> None:
    world.suspended.add("b")


def _give_up_by_hand(world: World) -> None:
    """Two operators end it in the gateway's ledger, past the machine."""
    if world.gateway.is_up:
        command = AbortPayment(SWITCH_ACTOR, PAYMENT, int(Status.payment_given_up))
        world.gateway.submit(command, lambda verdict, hold, now_us: None)


def _take_down(party: str, down_us: int) -> Any:
    """Crash a party at a time of one's choice."""

    def take_down(world: World) -> None:
        found = {**world.banks, "g": world.gateway}[party]
        if found.is_up:
            world.crash(found, down_us)

    return take_down


def _late_clock(party: str) -> Any:
    """Let a party's clock be so far behind that the payment's id seems to come from the future."""

    def set_back(world: World) -> None:
        ledger: Ledger = {**world.banks, "g": world.gateway}[party].ledger
        ledger.opened_at_us = NOW_US + 2 * SECOND

    return set_back


def _lies(world: World) -> None:
    """Say what is not so, in every direction."""

    def from_bank(name: str, message: Message) -> None:
        world.send(world.banks[name], world.gateway, message)

    for id in (PAYMENT, UNKNOWN):
        from_bank("a", Vote(id))
        from_bank("a", Acknowledge(id))
        from_bank("b", Acknowledge(id))
    from_bank("b", Vote(UNKNOWN))
    for bank in world.banks.values():
        world.send(world.gateway, bank, Outcome(UNKNOWN, 99))


PAID = Scenario()
TWO = (Customer, Customer)
EITHER = frozenset({"paid", "refused id_reused"})
SCENARIOS: dict[str, Scenario] = {
    "a payment": PAID,
    "the payee's account is closed": _refused("credit_account_closed", ("b", BOB, {"state": 4})),
    "the payee's account is frozen": _refused("credit_account_frozen", ("b", BOB, {"state": 3})),
    "the payee's account is unknown": _refused("credit_account_unknown", payee="b/999"),
    "the payee's account is in another currency": _refused("currency_mismatch", payee=f"b/{DOLLARS}"),
    "the payee's bank is unknown": _refused("payee_bank_unknown", payee="c/102"),
    "the payer has not enough": _refused("exceeds_available", amount=10_000),
    "the payer's account is frozen": _refused("debit_account_frozen", ("a", ALICE, {"state": 2})),
    "the cap is passed": _refused("exceeds_debit_cap", ("g", POSITION_A, {"floor": -AMOUNT + 1})),
    "a bank is suspended": Scenario(expected=_answers("refused bank_suspended"), suspended=frozenset({"b"})),
    "a bank is suspended on the way": Scenario(
        expected=_answers("paid", "refused bank_suspended"), events=((5_500, _suspend),)
    ),
    "the payee's account is frozen on the way": Scenario(
        expected=_answers("paid", "refused credit_account_frozen"), events=((7_500, _change("freeze")),)
    ),
    "the payee's account is to be closed on the way": Scenario(
        accounts=(("b", BOB, {"owner": 0, "credits_posted": 0}), ("b", 101, {"debits_posted": 2_000})),
        expected=_answers("paid", "refused credit_account_closed"),
        events=((7_500, _change("close")),),
    ),
    "it is given up by hand": Scenario(
        expected=_answers("paid", "refused payment_given_up"), events=((5_500, _give_up_by_hand),)
    ),
    "the gateway goes away": Scenario(events=((8_500, _take_down("g", 8 * SECOND)),)),
    "the gateway's clock is behind": Scenario(events=((0, _late_clock("g")),)),
    "the payee's bank's clock is behind": Scenario(events=((0, _late_clock("b")),)),
    "the same payment twice at once": Scenario(TWO, (frozenset({"paid"}),) * 2),
    "the same id for two amounts": Scenario((Customer, lambda: Customer(amount=AMOUNT + 1)), (EITHER,) * 2),
    "payments both ways": Scenario(
        (Customer, lambda: Customer("b", OTHER, BOB, f"a/{ALICE}", 700)), (frozenset({"paid"}),) * 2
    ),
    "the same id both ways": Scenario(
        (Customer, lambda: Customer("b", PAYMENT, BOB, f"a/{ALICE}", 700)), (EITHER,) * 2
    ),
    "a cap for one of two": Scenario(
        (Customer, lambda: Customer(payment=OTHER)),
        (frozenset({"paid", "refused exceeds_debit_cap"}),) * 2,
        (("g", POSITION_A, {"floor": -AMOUNT - 100}),),
    ),
    "lies before it": Scenario(events=((500, _lies),), has_disputes=True),
    "lies in the middle of it": Scenario(events=((5_500, _lies),), has_disputes=True),
}


# --- Running ---------------------------------------------------------------------------------------------------------
def outcome_of_run(scenario: Scenario, faults: Faults) -> tuple[list[tuple[str, ...]], str]:
    """Run once; give what could go wrong at each step, and what was violated, or nothing."""
    world = World(scenario, faults, is_thorough=len(faults) < 2)
    try:
        world.run()
    except (Violation, BooksBroken) as broken:
        return world.options, str(broken)
    return world.options, ""


def one_more(faults: Faults, options: list[tuple[str, ...]]) -> Iterator[Faults]:
    """Give each schedule that has one fault more, at a later step."""
    for step in range(max(faults, default=-1) + 1, len(options)):
        for fault in options[step]:
            yield {**faults, step: fault}


class Storm(dict[int, str]):
    """Faults at many steps, drawn as they come; afterwards the schedule of the run that it made.

    Args:
        rate: of the steps that have a fault, among the first ``steps``.
    """

    def __init__(self, seed: int, *, rate: float, steps: int = 120) -> None:
        super().__init__()
        self.chance = random.Random(seed)
        self.rate = rate
        self.steps = steps

    def draw(self, step: int, options: tuple[str, ...]) -> str:
        """Give the fault of a step, or nothing."""
        if step < self.steps and self.chance.random() < self.rate:
            self[step] = self.chance.choice(options)
        return self.get(step, "")


@dataclass
class Result:
    """How many schedules were run, by their number of faults, and which violated something."""

    runs: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    possible: list[int] = field(default_factory=lambda: [1, 0, 0, 0])
    found: list[tuple[Faults, str]] = field(default_factory=list)

    def add(self, other: Result) -> None:
        self.runs = [mine + more for mine, more in zip(self.runs, other.runs, strict=True)]
        self.possible = [mine + more for mine, more in zip(self.possible, other.possible, strict=True)]
        self.found += other.found


class Exploration:
    """Run schedules of up to ``depth`` faults.

    Args:
        share: of the schedules with ``depth`` faults that are run, chosen by ``seed``; all others all are.
        found_max: end after so many violations.
    """

    def __init__(
        self, scenario: Scenario, depth: int, *, share: float = 1.0, seed: int = 0, found_max: int = FOUND_MAX
    ) -> None:
        self.scenario = scenario
        self.depth = depth
        self.share = share
        self.chance = random.Random(seed)
        self.found_max = found_max
        self.result = Result()

    def run(self, faults: Faults | None = None) -> Result:
        """Begin with these faults, or none."""
        self._visit(faults or {})
        return self.result

    def _visit(self, faults: Faults) -> None:
        options, violation = outcome_of_run(self.scenario, faults)
        result, depth = self.result, len(faults)
        result.runs[depth] += 1
        if violation:
            result.found.append((faults, violation))
            return
        if depth == self.depth:
            return
        is_last = depth + 1 == self.depth
        for more in one_more(faults, options):
            if len(result.found) >= self.found_max:
                return
            result.possible[depth + 1] += 1
            if not is_last or self.share >= 1.0 or self.chance.random() < self.share:
                self._visit(more)


def traced(scenario: Scenario, faults: Faults) -> str:
    """Give all steps of a run, for whoever looks for the mistake."""
    world = World(scenario, faults, is_traced=True)
    try:
        world.run()
    except (Violation, BooksBroken) as broken:
        return "\n".join([*(world.trace or ()), str(broken)])
    return "\n".join(world.trace or ())


# --- All of it -------------------------------------------------------------------------------------------------------
def _explore_from(name: str, faults: Faults) -> Result:
    return Exploration(SCENARIOS[name], 3).run(faults)


def _storm(name: str, seed: int) -> list[tuple[Faults, str]]:
    storm = Storm(seed, rate=RATES[seed % len(RATES)])
    _, violation = outcome_of_run(SCENARIOS[name], storm)
    return [(dict(storm), violation)] if violation else []


def main(names: list[str]) -> int:
    """Run each schedule of up to two faults of each scenario, of three of the first, and storms; 0: all is right."""
    begun, failed = time.monotonic(), False
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for name, scenario in SCENARIOS.items():
            if names and name not in names:
                continue
            total = Exploration(scenario, 0).run()
            options, _ = outcome_of_run(scenario, {})
            jobs = list(one_more({}, options))
            total.possible[1] = len(jobs)
            work = _explore_from if scenario is PAID else _explore_pairs_from
            for result in pool.map(work, [name] * len(jobs), jobs):
                result.possible[0] = 0
                total.add(result)
            for found in pool.map(_storm, [name] * STORMS, range(STORMS), chunksize=50):
                total.found += found
            failed |= bool(total.found)
            _, alone, pairs, threes = total.runs
            counts = f"{alone} alone, {pairs} in pairs, {threes} in threes, {STORMS} storms"
            print(f"{name}: {counts}; {len(total.found)} wrong", flush=True)
            for faults, violation in total.found[:FOUND_MAX]:
                print(f"{violation}: {faults}\n{traced(scenario, faults)}")
    print(f"{time.monotonic() - begun:.0f} s")
    return int(failed)


def _explore_pairs_from(name: str, faults: Faults) -> Result:
    return Exploration(SCENARIOS[name], 2).run(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
