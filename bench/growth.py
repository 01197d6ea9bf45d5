"""Growth: what a transfer costs when the bank is large.

A ledger is filled through the engine (no network), and at some sizes the cost of a transfer is measured: processor time
of judging it, of writing its record to the journal and of putting it into the tables, in all threads. A machine's speed
changes over the minutes that filling takes, so at each size a fresh ledger of ten thousand rows is measured in turns
with the large one, chunk for chunk; ``ratio`` is how many times more the large one costs at its final size.

At the end real nodes are started on the small and on the large ledger and loaded in turns: ``node_ratio`` is how many
times slower the large one is for its clients.
"""

from __future__ import annotations

import argparse
import random
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from bench import report
from bench.bank import CURRENCY, Bank, Plan, numbers_of, open_engine
from bench.measurement import add_options, at_least, check_books, run, run_load
from fortress.client.ids import new_id
from fortress.ledger.commands import MoveMoney
from fortress.ledger.delta import Delta
from fortress.ledger.engine import Engine
from fortress.ledger.model import BANK_ACTOR, TransferKind
from fortress.server.bank import now_us

CHUNK_ROWS = 8_192
APPLY_ROWS_MIN = 2 * CHUNK_ROWS  # a busy node puts about as many into the tables at once
SIZES_PER_DECADE = 2
NODE_ROUNDS = 1


class Ledger:
    """A ledger that transfers are put into, as a node's committer does it: judge, write, then apply many at a time.

    Args:
        engine: of a bank filled by `make_folder`.
        accounts: how many it has; each has had one deposit, which counts as a row.
    """

    def __init__(self, engine: Engine, accounts: int) -> None:
        self._engine = engine
        self._numbers = numbers_of(accounts)
        self._chance = random.Random(accounts)
        self._unapplied: list[Delta] = []
        self._unapplied_rows = 0
        self._tables = ThreadPoolExecutor(1)
        self._applying: Future[None] | None = None
        self._remember_accounts()

    def _remember_accounts(self) -> None:
        """Read all accounts into memory in one go, where a busy node has them; one by one would cost more than all."""
        state, wanted = self._engine.state, None
        for a, b in zip(self._numbers[::2], self._numbers[1::2], strict=False):
            command = MoveMoney(BANK_ACTOR, int(TransferKind.transfer), new_id(), a, b, 1, CURRENCY)
            if (more := state.missing(command)) is not None:
                wanted = more if wanted is None else wanted.merged(more)
        if wanted is not None:
            state.fill(wanted, self._engine.store.load(wanted))

    def make(self, rows: int) -> list[MoveMoney]:
        """Draw transfers; not part of what is measured."""
        pick, numbers = self._chance.random, self._numbers
        count, kind, made = len(numbers), int(TransferKind.transfer), []
        for _ in range(rows):
            a, b = int(pick() * count), int(pick() * (count - 1))
            ends = (numbers[a], numbers[b + (b >= a)])
            made.append(MoveMoney(BANK_ACTOR, kind, new_id(), *ends, 1 + int(pick() * 100), CURRENCY))
        return made

    def move(self, commands: list[MoveMoney]) -> None:
        """Judge transfers, make one record of them and write it to the journal."""
        engine, lacks = self._engine, self._engine.state.lacks_move
        for command in commands:
            if lacks(command.id, command.debit, command.credit):
                self._load(command)
            verdict = engine.judge(command, engine.clock(now_us()))
            if verdict.status:
                raise RuntimeError(f"{command} was refused: {verdict.status.name}")
        closed = engine.close_record(now_us(), engine.last.lsn if engine.last else 0)
        assert closed is not None
        record, delta = closed
        engine.journal.append(record)
        self._unapplied.append(delta)
        self._unapplied_rows += len(commands)

    def _load(self, command: MoveMoney) -> None:
        while (wanted := self._engine.state.missing(command)) is not None:
            self._engine.state.fill(wanted, self._engine.store.load(wanted))

    def apply(self) -> None:
        """Begin to put what was written into the tables, and return when what was begun before has got there."""
        self.wait_applied()
        deltas, self._unapplied, self._unapplied_rows = self._unapplied, [], 0
        if deltas:
            self._applying = self._tables.submit(self._engine.store.apply, deltas)

    def wait_applied(self) -> None:
        """Wait until the tables have what `apply` began with."""
        if self._applying is not None:
            self._applying.result()
            self._applying = None
            self._engine.state.trim(self._engine.store.applied_position)

    def fill(self, rows: int, until_s: float) -> int:
        """Add rows as fast as it goes, the tables beside; give how many there was time for."""
        added = 0
        while added < rows and time.monotonic() < until_s:
            chunk = min(CHUNK_ROWS, rows - added)
            self.move(self.make(chunk))
            added += chunk
            if self._unapplied_rows >= APPLY_ROWS_MIN:
                self.apply()
        self.apply()
        self.wait_applied()
        return added

    def cost_us(self) -> float:
        """Add a chunk and give the processor time of each of its transfers, in microseconds."""
        commands = self.make(CHUNK_ROWS)
        began = time.process_time()
        self.move(commands)
        self.apply()
        self.wait_applied()
        return (time.process_time() - began) / CHUNK_ROWS * 1e6

    def close(self) -> None:
        """Leave everything in the tables, and the engine to its owner."""
        self.apply()
        self.wait_applied()
        self._tables.shutdown()


@contextmanager
def opened(folder: Path, accounts: int) -> Iterator[Ledger]:
    """Open the ledger of a folder for as long as the block lasts."""
    with open_engine(folder) as (engine, _):
        ledger = Ledger(engine, accounts)
        try:
            yield ledger
        finally:
            ledger.close()


def sizes(rows_min: int, rows_max: int) -> list[int]:
    """Give the sizes to measure at: the ends, and between them two in each decade."""
    found, factor = [rows_min], 10 ** (1 / SIZES_PER_DECADE)
    while found[-1] * factor < rows_max * 0.99:
        found.append(round(found[-1] * factor))
    return [*found, rows_max] if rows_max > rows_min else found


def compare(large: Ledger, small_folder: Path, accounts: int, rounds: int) -> tuple[float, float]:
    """Give the cost in the large ledger and in a fresh copy of the small one, measured in turns, in microseconds."""
    twin = small_folder.with_name("twin")
    shutil.copytree(small_folder, twin)
    try:
        with opened(twin, accounts) as small:
            costs = [(large.cost_us(), small.cost_us()) for _ in range(rounds + 1)][1:]  # the first one warms up
    finally:
        shutil.rmtree(twin)
    return sum(cost for cost, _ in costs) / rounds, sum(cost for _, cost in costs) / rounds


def measure(options: argparse.Namespace) -> report.Result:
    """Fill a ledger, measure on the way, and give the result."""
    plan = Plan(options.accounts)
    with ExitStack() as stack:
        small = Bank(plan, parent=options.folder)
        stack.push(small)
        large = Bank(plan, parent=options.folder)
        stack.push(large)
        points, fill_per_s = _grow(large.folder, small.folder, options)
        node_small, node_large = _load_nodes(small, large, options)
    if options.plot or options.save:
        report.plot(
            "growth",
            {"large / small": [(rows, ours / fresh) for rows, ours, fresh in points]},
            title="Cost of a transfer in a bank of so many rows, as a multiple of that with 10 thousand",
            x_label="transfers in the ledger",
            y_label="processor time, relative",
            log_x=True,
        )
    rows, large_us, small_us = points[-1]
    return {
        "ratio": round(large_us / small_us, 3),
        "rows": rows,
        "cost_us": round(large_us, 2),
        "small_rows": options.accounts,
        "small_cost_us": round(small_us, 2),
        "fill_per_s": round(fill_per_s),
        "node_ratio": round(node_small / node_large, 3),
        "node_per_s": node_large,
        "small_node_per_s": node_small,
        "curve": " ".join(f"{rows}:{ours / fresh:.3f}" for rows, ours, fresh in points),
        "rows_max": options.rows_max,
        "accounts": options.accounts,
        "clients": options.clients,
    }


def _grow(folder: Path, small: Path, options: argparse.Namespace) -> tuple[list[tuple[int, float, float]], float]:
    """Fill up to each size and compare there; give (rows, cost, the small one's) and how fast the filling was."""
    points: list[tuple[int, float, float]] = []
    rows, filled, filling_s = int(options.accounts), 0, 0.0
    with opened(folder, options.accounts) as ledger:
        for size in sizes(rows, options.rows_max):
            report.progress(f"filling from {rows} to {size} rows, {filled / max(filling_s, 1):.0f}/s so far")
            began = time.monotonic()
            added = ledger.fill(max(size - rows, 0), began + options.fill_seconds_max - filling_s)
            filling_s += time.monotonic() - began
            rows, filled = rows + added, filled + added
            report.progress(f"measuring at {rows} rows")
            points.append((rows, *compare(ledger, small, options.accounts, options.rounds)))
            rows += CHUNK_ROWS * (options.rounds + 1)
            if filling_s >= options.fill_seconds_max:
                break
    return points, filled / max(filling_s, 1e-9)


def _load_nodes(small: Bank, large: Bank, options: argparse.Namespace) -> tuple[float, float]:
    """Load real nodes on both ledgers in turns; give the transfers a second of the small and of the large one."""
    rates: dict[Bank, list[float]] = {small: [], large: []}
    for bank in rates:
        bank.start()
    for bank in (small, large, large, small) * NODE_ROUNDS:  # as often first as last
        loaded = run_load(
            bank, workload="transfers", seconds=options.seconds, clients=options.clients, warm_up=options.warm_up
        )
        rates[bank].append(loaded.per_s)
    for bank in rates:
        check_books(bank)
    return median(rates[small]), median(rates[large])


def options_parser() -> argparse.ArgumentParser:
    """Make the parser of this bench's options."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    add_options(parser, accounts=10_000, clients=32, seconds=5)
    rows_help = "transfers in the ledger at the end (10000000)"
    parser.add_argument("--rows-max", type=at_least(1), default=10_000_000, metavar="N", help=rows_help)
    rounds_help = "chunks of each ledger measured at each size (6)"
    parser.add_argument("--rounds", type=at_least(1), default=6, metavar="N", help=rounds_help)
    fill_help = "end the filling after so long, at fewer rows (350)"
    parser.add_argument("--fill-seconds-max", type=at_least(1, float), default=350.0, metavar="S", help=fill_help)
    parser.add_argument("--plot", action="store_true", help="draw the curve; --save does so too")
    return parser


if __name__ == "__main__":
    run("growth", measure, options_parser())
