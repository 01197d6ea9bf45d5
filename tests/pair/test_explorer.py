"""The pair keeps its promises in every order of events that the explorer looks at, and the explorer finds mistakes.

The bounds here take about a minute; ``make explore`` goes further.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec.structs import replace as with_fields

from fortress.pair.events import Wish
from fortress.pair.role import Phase
from tests.pair.explorer import (
    BUGS,
    SWITCHES,
    TIMED_WALKS,
    TIMES,
    WALKS,
    Bounds,
    Explorer,
    TimedExplorer,
    walked,
)

pytestmark = pytest.mark.timeout(900)

SEARCHES = {
    "a crash": (Bounds(requests=1, epochs=3, crashes=1, silences=0), 60_000),
    "lost answers": (Bounds(requests=1, epochs=3, crashes=0, silences=1), 60_000),
    "two requests": (Bounds(requests=2, epochs=4, crashes=1, silences=0), 60_000),
    "a lost disk": (Bounds(requests=1, epochs=4, crashes=0, wipes=1, silences=0), 60_000),
    "slow promises": (Bounds(requests=1, epochs=3, crashes=1, silences=0, is_pausing=True), 50_000),
    "a planned switch": (Bounds(requests=1, epochs=3, crashes=0, silences=1, wishes=SWITCHES), 50_000),
    "every wish": (Bounds(requests=2, epochs=5, crashes=1, wipes=1, silences=1, wishes=tuple(Wish)), 50_000),
    "two copies": (Bounds(requests=2, epochs=4, crashes=1, times=with_fields(TIMES, two_copies=True)), 50_000),
}

# mistake -> bounds within which it must be found, and in how many worlds
FOUND_WITHIN = {
    "acknowledges before its own disk": (Bounds(1, 2, 1, 0, 0), 1_000),
    "acknowledges without the peer": (Bounds(1, 2, 0, 0, 0), 1_000),
    "joins before requiring acknowledgements": (Bounds(1, 3, 0, 0, 0), 10_000),
    "joins a node that lacks something": (Bounds(1, 3, 0, 0, 0), 10_000),
    "is solo before it knows so": (Bounds(1, 2, 0, 0, 0), 1_000),
    "gives a joining up by itself": (Bounds(1, 3, 0, 0, 1), 60_000),
    "serves after a restart in the same epoch": (Bounds(1, 3, 1, 0, 0), 60_000),
    "takes over while not in sync": (Bounds(1, 3, 0, 0, 0), 20_000),
    "the register does not compare": (Bounds(1, 3, 0, 0, 0), 20_000),
    "the standby follows older epochs": (Bounds(1, 2, 1, 0, 0), 60_000),
    "the standby applies what is not committed": (Bounds(1, 2, 0, 0, 0), 1_000),
    "the standby acknowledges before its disk": (Bounds(1, 2, 1, 0, 0), 10_000),
    "ids are looked up among what is applied": (Bounds(1, 2, 0, 0, 0), 1_000),
    "an instance is used again after its disk is lost": (Bounds(1, 2, 0, 1, 0), 10_000),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_no_order_of_events_breaks_a_promise(name: str) -> None:
    """Nearest first, up to so many worlds; the path to a violation is the message."""
    bounds, states_max = SEARCHES[name]
    result = Explorer(bounds).search(states_max)
    assert not result.violation, "\n".join((result.violation, *result.path))
    assert result.acknowledged >= 1
    assert result.phases >= {Phase.primary_paired, Phase.primary_joining, Phase.standby_in_sync}


def test_the_smallest_bounds_are_looked_at_to_the_end() -> None:
    """One request, three epochs, nobody crashes: every world there is."""
    result = Explorer(Bounds(requests=1, epochs=3, crashes=0, silences=0)).search(50_000)
    assert not result.violation, "\n".join((result.violation, *result.path))
    assert result.is_complete
    assert result.acknowledged == 1


@pytest.mark.parametrize("name", BUGS)
def test_a_mistake_is_found(name: str) -> None:
    """The test of the test: each of the mistakes that such a protocol invites breaks a promise within its bounds."""
    bounds, states_max = FOUND_WITHIN[name]
    result = Explorer(bounds, BUGS[name]).search(states_max)
    assert result.violation
    assert result.path


@pytest.mark.parametrize("two_copies", [False, True])
def test_long_walks_break_no_promise_and_come_to_rest(two_copies: bool) -> None:
    """Chance takes many steps, everything allowed; when all goes well again, both nodes are in step and serve."""
    bounds = replace(WALKS, times=with_fields(TIMES, two_copies=two_copies))
    result = walked(Explorer(bounds), range(200), 300)
    assert not result.violation, "\n".join((result.violation, *result.path))
    assert result.phases >= set(Phase) - {Phase.primary_solo}


def test_reads_by_lease_never_miss_what_was_acknowledged() -> None:
    """With a clock: whoever may answer reads knows everything that anybody has acknowledged."""
    explorer = TimedExplorer(TIMED_WALKS)
    result = walked(explorer, range(100), 400)
    assert not result.violation, "\n".join((result.violation, *result.path))
    assert explorer.reads > 1_000


def test_a_lease_that_is_too_long_is_found() -> None:
    """The test of the test: reads by a lease longer than the other node holds still."""
    bounds = replace(TIMED_WALKS, times=with_fields(TIMES, lease=4 * TIMES.refused))
    assert "answers reads without" in walked(TimedExplorer(bounds), range(100), 500).violation


def test_a_seed_gives_the_same_walk_again() -> None:
    """What was found once is found again."""
    walks = [Explorer(WALKS).walk(7, 200) for _ in range(2)]
    assert walks[0].world == walks[1].world
