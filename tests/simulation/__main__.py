"""Run seeds as long as one likes: ``python -m tests.simulation SEED`` replays one, ``... --seconds 600`` goes on.

``--bugs`` breaks one rule after the other instead, and tells after how many seeds that is found.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.bugs import BUGS, search
from tests.simulation.world import simulate


def main() -> int:
    """Give 1 when a seed failed, after having shown all that did."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="replay this one, and show all that happens")
    parser.add_argument("--first", type=int, default=0, help="begin with this seed (default 0)")
    parser.add_argument("--seconds", type=float, default=600.0, help="go on for so long (default 600)")
    parser.add_argument("--bugs", action="store_true", help="break rules, and see whether it is found")
    chosen = parser.parse_args()
    if chosen.bugs:
        return find_bugs(chosen.first)
    if chosen.seed is not None:
        outcome = simulate(chosen.seed)
        print(*outcome.lines, f"digest {outcome.digest}", outcome.violation or "all is as it must be", sep="\n")
        return int(bool(outcome.violation))
    return explore(chosen.first, chosen.seconds)


def explore(first: int, seconds: float) -> int:
    """Run one seed after the other until the time is over."""
    begun_s = time.monotonic()
    seed, failed, virtual_s = first, 0, 0.0
    while time.monotonic() < begun_s + seconds:
        outcome = simulate(seed)
        virtual_s += outcome.virtual_s
        if outcome.violation:
            failed += 1
            print(f"seed {seed}: {outcome.violation}", flush=True)
        seed += 1
    count, took_s = seed - first, time.monotonic() - begun_s
    print(f"{count} seeds from {first} on, {failed} failed: {virtual_s:.0f} virtual seconds in {took_s:.0f} s")
    return int(bool(failed))


def find_bugs(first: int) -> int:
    """Break every rule in turn."""
    missed = 0
    for name in BUGS:
        begun_s = time.monotonic()
        find = search(name, first=first)
        missed += find.outcome is None
        what = "not found" if find.outcome is None else find.outcome.violation.splitlines()[0][:120]
        print(f"{name}: {find.seeds} seeds, {time.monotonic() - begun_s:.1f} s: {what}", flush=True)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
