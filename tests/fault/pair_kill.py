"""Kill the primary of a pair under load, again and again, and prove that nothing was lost or done twice.

``python -m tests.fault.pair_kill --kills 200 --seed 7`` runs it; progress goes to stderr, one JSON line ends it.

Each kill (SIGKILL) comes at a moment drawn at random while 32 clients pay through the client library. The other node
takes over, the killed one is started again and joins, and the next kill meets whoever is primary then. Every 25 kills
all clients settle, the pair is stopped in order, both folders are audited, both journals compared record by record, and
the whole history of the clients is held against them; then the same bank goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvloop

from tests.fault import network as networks
from tests.fault.network import Network
from tests.fault.pair import Pair
from tests.fault.trial import Report, Trial

CALLERS: Final = 32
KILLS_IN_A_LIFE: Final = 25
LOAD_S_MAX: Final = 1.0
DOWN_S_MAX: Final = 0.5
OnProgress = Callable[[int], object]


async def run(
    parent: Path, network: Network | None, *, kills: int, seed: int, on_progress: OnProgress = lambda done: None
) -> Report:
    """Kill the primary so many times; give what came of it."""
    whole = Report(seed)
    chance = random.Random(seed)
    pair = Pair(parent, network)
    done = 0
    while done < kills and not whole.findings:
        trial = Trial(parent, network, seed=chance.randrange(2**32), callers=CALLERS, pair=pair)
        async with trial:
            for _ in range(min(KILLS_IN_A_LIFE, kills - done)):
                await kill_primary(trial, chance)
                done += 1
                on_progress(done)
            whole.add(await trial.finish())
    return whole


async def kill_primary(trial: Trial, chance: random.Random) -> None:
    """Kill the primary while both have everything, and start it again once the other one serves."""
    victim = await trial.paired()
    await trial.load(chance.uniform(0.0, LOAD_S_MAX))
    if victim is not trial.pair.find("primary"):
        victim = await trial.paired()
    trial.fault("kill of the primary", victim)
    victim.kill()
    await trial.primary(other_than=victim)
    await trial.progress()
    await trial.load(chance.uniform(0.0, DOWN_S_MAX))
    await trial.restart(victim.at)


def main() -> int:
    """Run it from the command line; exit 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.pair_kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--loopback", action="store_true", help="no network namespaces, which take root")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where to put the data: a disk")
    options = parser.parse_args()

    def tell(done: int) -> None:
        print(f"{done} of {options.kills} kills", file=sys.stderr, flush=True)

    def go(network: Network | None) -> Report:
        with tempfile.TemporaryDirectory(prefix="fortress-pair-kill-", dir=options.folder) as parent:
            return uvloop.run(run(Path(parent), network, kills=options.kills, seed=options.seed, on_progress=tell))

    if options.loopback or networks.why_not():
        report = go(None)
    else:
        with Network() as network, network.entered("clients"):
            report = go(network)
    outages = {"p50": report.median_outage_s(), "p99": report.outage(0.99), "max": report.outage(1.0)}
    print(json.dumps({**report.document(), "outage_s": {name: round(s, 3) for name, s in outages.items()}}), flush=True)
    return bool(report.findings)


if __name__ == "__main__":
    sys.exit(main())
