"""Whole systems under faults, from seeds: nothing that was answered is lost, done twice, or told old as if it were new.

These are a few seeds and the bugs that are found soon; ``make simulate`` runs as many as there is time for.
"""

from __future__ import annotations

import pytest

from tests.simulation.bugs import BUGS, search
from tests.simulation.world import check, simulate

SEEDS = tuple(range(10))
FOUND_SOON = (
    "commits without the other node",
    "commits before its own disk has it",
    "acknowledges before the write",
    "goes on in its old epoch after a restart",
    "applies what is not committed",
    "is the same member with another disk",
    "keeps keys to itself",
    "looks ids up in memory alone",
)
SEEDS_MAX = 20


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pair_in_a_storm_keeps_its_promises(seed: int) -> None:
    """Both nodes, the register and the clients come to rest, and all that was said is so."""
    outcome = check(seed)
    assert outcome.records > 10
    assert outcome.orders


def test_a_seed_is_always_the_same_run() -> None:
    """Else what was found could not be looked into."""
    first, second = simulate(2), simulate(2)
    assert (first.digest, first.lines) == (second.digest, second.lines)
    assert simulate(0).digest != first.digest


@pytest.mark.parametrize("name", FOUND_SOON)
def test_a_broken_rule_is_found(name: str) -> None:
    """A simulation that cannot fail would prove nothing."""
    assert name in BUGS
    find = search(name, seeds_max=SEEDS_MAX)
    assert find.outcome is not None, f"not found in {find.seeds} seeds"
    assert find.outcome.lines[-1]
