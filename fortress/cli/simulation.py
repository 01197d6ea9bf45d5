"""``simulate``: many customers at once, each with a connection and a session, through a scenario; what came of it."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fortress.cli.command import Call, command, current_call
from fortress.cli.desk import open_contexts, visit
from fortress.cli.failures import Exit
from fortress.cli.misuse import Misuse
from fortress.cli.output import Json, LiveLine, Table, detail, say, show

if TYPE_CHECKING:
    from fortress.client.me import Me
    from fortress.client.scenario import Customer
    from fortress.client.simulator import Progress, SimulationResult, Simulator

CUSTOMERS_MAX = 10_000


@command(
    "simulate",
    "fortress simulate",
    "fortress simulate --clients 100 --rounds 10",
    "fortress --context ada simulate --clients 3 --json",
    "fortress simulate --customers ./customers.ndjson",
)
@click.option("--clients", type=click.IntRange(1, CUSTOMERS_MAX), default=3, show_default=True, help="How many.")
@click.option("--rounds", type=click.IntRange(1, 1_000_000), default=1, show_default=True, help="Times through it.")
@click.option("--payee", type=int, default=0, metavar="ACCOUNT", help="All pay this account; the next one otherwise.")
@click.option("--opening", default="100 EUR", show_default=True, help="What each new customer begins with.")
@click.option(
    "--customers",
    "customers_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help='Existing customers, a line of JSON each: {"username": ..., "password": ...} or a "seed" in hexadecimal.',
)
def simulate_command(clients: int, rounds: int, payee: int, opening: str, customers_file: Path | None) -> int:
    """Let many customers loose: each checks the balance, transfers, updates contact data and makes an invalid request.

    Without --customers an administrator's context is needed: new customers are made, with an account and some money.
    Exit 1 if anything went otherwise than the scenario says.
    """
    from fortress.client.money import parse
    from fortress.client.simulator import Simulator

    call = current_call()
    contexts = open_contexts()
    context = contexts.get(call.context)
    if customers_file is not None:
        customers = read_customers(customers_file)
    else:
        from fortress.cli.population import make_customers, settle

        customers = make_customers(max(clients, 2 if not payee else 1), f"sim-{secrets.token_hex(3)}")
        money = parse(opening)
        say(call, f"making {len(customers)} customers with {money} each")

        async def make(me: Me) -> None:
            await settle(me, customers, money)

        visit(call, make)
    simulator = Simulator(
        *(context.url, contexts.ca_file(context), customers),
        path_ca=contexts.path_ca_file(context),
        clients=clients,
        rounds=rounds,
        payee=payee,
        deadline_s=call.timeout_s,
    )
    result = _simulate(call, simulator)
    show_result(call, result)
    return Exit.ok if result.passed else Exit.refused


def read_customers(file: Path) -> list[Customer]:
    """Read who takes part from lines of JSON.

    Raises:
        Misuse: the file cannot be read, or a line is not a customer.
    """
    from fortress.client.scenario import Customer

    customers = []
    try:
        for line in file.read_text("utf-8").splitlines():
            if line.strip():
                row = json.loads(line)
                seed = bytes.fromhex(row.get("seed", ""))
                customers.append(Customer(str(row["username"]), password=str(row.get("password", "")), seed=seed))
    except OSError as exc:
        raise Misuse(f"{str(file)!r} cannot be read: {exc.strerror}", "check the name") from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        do = 'write a line for each like {"username": "alice", "password": "..."}'
        raise Misuse(f"line {len(customers) + 1} of {str(file)!r} is not a customer", do) from exc
    return customers


def _simulate(call: Call, simulator: Simulator) -> SimulationResult:
    line = LiveLine(call)

    def on_progress(progress: Progress) -> None:
        share = 100 * progress.done // progress.total
        line.update(f"{share:3d} %  {progress.done} of {progress.total}  {progress.username}: {progress.step}")
        detail(call, f"{progress.username}: {progress.step}: {progress.outcome} {progress.message}".rstrip())

    try:
        return asyncio.run(simulator.run(on_progress))
    finally:
        line.close()


def show_result(call: Call, result: SimulationResult) -> None:
    """Show what came of a simulation: a row for each step, the checks, the errors."""
    rows = [
        (
            row.step,
            *(str(count) for count in (row.count, row.ok, row.refused, row.errors)),
            *(f"{value:.1f}" for value in (row.p50_ms, row.p99_ms, row.max_ms)),
        )
        for row in result.steps
    ]
    columns = ("Step", ">Count", ">Ok", ">Refused", ">Errors", ">p50 ms", ">p99 ms", ">Max ms")
    checks = [("ok" if check.passed else "FAILED", check.name, check.detail) for check in result.checks]
    errors = [(str(count), message) for message, count in result.errors.items()]
    show(
        call,
        result_json(result),
        Table(columns=columns, rows=rows),
        f"{result.tasks_per_s:.0f} tasks a second in {result.elapsed_s:.2f} s\n",
        f"{result.acknowledged} acknowledged, {result.refused} refused, {result.settled} unknown at first and then"
        f" settled, {result.unknown} unknown; longest time without an acknowledgement {result.outage_s:.2f} s\n",
        Table(columns=("State", "Check", "Detail"), rows=checks),
        *([Table(columns=(">Times", "Error"), rows=errors)] if errors else []),
    )


def result_json(result: SimulationResult) -> Json:
    """What came of a simulation, for programs."""
    names = ("step", "count", "ok", "refused", "errors", "p50_ms", "p99_ms", "max_ms")
    return {
        "clients": result.clients,
        "rounds": result.rounds,
        "elapsed_s": round(result.elapsed_s, 6),
        "tasks_per_s": round(result.tasks_per_s, 1),
        "passed": result.passed,
        "steps": [{name: getattr(row, name) for name in names} for row in result.steps],
        "checks": [{"name": check.name, "passed": check.passed, "detail": check.detail} for check in result.checks],
        "errors": dict(result.errors),
        "acknowledged": result.acknowledged,
        "refused": result.refused,
        "unknown_then_settled": result.settled,
        "unknown": result.unknown,
        "outage_s": round(result.outage_s, 3),
    }
