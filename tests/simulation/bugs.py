"""Rules broken on purpose, so that it is known that breaking them is found: each is one patch of the node's code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import PropertyMock, patch

from msgspec.structs import replace

from fortress.ledger.memory import Memory
from fortress.pair import events, primary_role, role, standby_role
from fortress.pair.errands import Errands
from fortress.pair.role_state import commit, move
from fortress.pair.shipping import Shipper
from fortress.server import membership, pairing
from fortress.server.backlog import Backlog
from fortress.server.gate import ALWAYS_NS
from fortress.server.pairing import Pairing
from fortress.server.replica import Replica
from tests.simulation.world import Outcome, World, simulate

Patches = list[tuple[Any, str, Any]]


def _commits_without_the_other() -> Patches:
    return [(primary_role, "advance", lambda state, out: commit(state, state.durable, out))]


def _commits_before_its_own_disk() -> Patches:
    made = primary_role.on_record_made

    def hasty(state: Any, lead: Any, event: Any, now_us: int) -> Any:
        return replace(made(state, lead, event, now_us), durable=event.mark.lsn)

    return [(primary_role, "on_record_made", hasty)]


def _acknowledges_before_the_write() -> Patches:
    store = Replica.store

    def hasty(self: Replica, records: Any) -> None:
        store(self, records)
        self.pair.durable(records[-1].lsn)

    return [(Replica, "store", hasty)]


def _serves_before_the_promise_is_written() -> Patches:
    promise = Errands.promise

    def hasty(self: Errands, action: Any) -> None:
        self._on_event(events.EpochPromised(action.epoch))
        self.start(_after(0.2, lambda: promise(self, action)))

    return [(Errands, "promise", hasty)]


async def _after(seconds: float, act: Callable[[], object]) -> None:
    await asyncio.sleep(seconds)
    act()


def _goes_on_in_its_old_epoch() -> Patches:
    swap = role.swap

    def hasty(state: Any, name: str, primary: Any, in_sync: Any, out: Any) -> Any:
        if name != "bump" or state.lead is not None:
            return swap(state, name, primary, in_sync, out)
        return primary_role.begin(state, state.configuration, state.retry_us, out)

    return [(role, "swap", hasty)]


def _reads_without_a_lease() -> Patches:
    def allow(self: Pairing, until_us: int) -> None:
        if self.is_ready:
            self._gate.open_until(ALWAYS_NS)

    return [(Pairing, "allow_reads", allow)]


def _keeps_a_tail_that_differs() -> Patches:
    return [(membership, "mend", lambda folder, restart: None)]


def _applies_what_is_not_committed() -> Patches:
    def commit_tail(self: Replica) -> None:
        while self._tail:
            self.committer.take_committed(*self._tail.popleft())

    return [(Replica, "_commit_tail", commit_tail)]


def _forgets_nothing_when_fenced() -> Patches:
    def step_down(state: Any, primary: Any, now_us: int, out: Any) -> Any:
        out.append(events.StepDown(True, primary))
        follow = standby_role.Follow(now_us, now_us, told=state.committed)
        return move(replace(state, lead=None, follow=follow), role.Phase.standby_catching_up)

    return [(primary_role, "step_down", step_down), (Replica, "is_clean", PropertyMock(return_value=True))]


def _is_the_same_member_with_another_disk() -> Patches:
    create = World._create_control

    def cloned(self: World, path: Any, cluster: bytes) -> Any:
        entropy = self.entropy
        self.entropy = lambda size: path.parent.name.encode().ljust(size, b".")[:size]
        try:
            return create(self, path, cluster)
        finally:
            self.entropy = entropy

    return [(World, "_create_control", cloned)]


def _keeps_keys_to_itself() -> Patches:
    return [(Shipper, "ship_keys", lambda self, keys: None)]


def _looks_ids_up_in_memory_alone() -> Patches:
    return [
        (Memory, "lacks_move", lambda self, id, debit, credit: False),
        (Backlog, "lacks", lambda self, command: None),
    ]


def _takes_what_arrives_for_fresh() -> Patches:
    heard = Pairing.heard

    def naive(self: Pairing, committed: int) -> None:
        heard(self, committed)
        if committed <= self._committer.committed_lsn:
            self._gate.fresh_ns = pairing.time.perf_counter_ns()

    return [(Pairing, "heard", naive)]


BUGS: Final[dict[str, Callable[[], Patches]]] = {
    "commits without the other node": _commits_without_the_other,
    "commits before its own disk has it": _commits_before_its_own_disk,
    "acknowledges before the write": _acknowledges_before_the_write,
    "serves before the promise is written": _serves_before_the_promise_is_written,
    "goes on in its old epoch after a restart": _goes_on_in_its_old_epoch,
    "reads without a lease": _reads_without_a_lease,
    "keeps a tail that differs": _keeps_a_tail_that_differs,
    "applies what is not committed": _applies_what_is_not_committed,
    "forgets nothing when fenced": _forgets_nothing_when_fenced,
    "is the same member with another disk": _is_the_same_member_with_another_disk,
    "keeps keys to itself": _keeps_keys_to_itself,
    "looks ids up in memory alone": _looks_ids_up_in_memory_alone,
    "takes what arrives for fresh": _takes_what_arrives_for_fresh,
}
"""What is broken, and how."""


@dataclass(frozen=True)
class Find:
    """How a bug was found: after so many seeds, by this one; ``outcome`` None: it was not."""

    seeds: int
    outcome: Outcome | None


@contextmanager
def broken(name: str) -> Iterator[None]:
    """Break one rule."""
    with ExitStack() as stack:
        for place, attribute, instead in BUGS[name]():
            stack.enter_context(patch.object(place, attribute, instead))
        yield


def search(name: str, *, first: int = 0, seeds_max: int = 100, seconds: float = 600.0) -> Find:
    """Run seeds with a rule broken until one finds it."""
    begun_s = time.monotonic()
    with broken(name):
        for count in range(1, seeds_max + 1):
            outcome = simulate(first + count - 1)
            if outcome.violation:
                return Find(count, outcome)
            if time.monotonic() > begun_s + seconds:
                break
    return Find(count, None)
