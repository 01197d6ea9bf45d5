"""Payments while the gateway is down: kept by a program that is killed, done once and in order when it is up."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench.bank import ACCOUNTS_PER_CUSTOMER
from fortress.client.ids import format_id, new_id
from fortress.client.order_file import OrderFile, OrderState, OutboxItem, now_us
from fortress.errors import Refused, Status
from fortress.protocol.orders import PaymentOrder
from tests.e2e.node import ROOT, environment, run_cli, seed_of, wait_until
from tests.e2e.town import GATEWAY, NUMBERS, Town

PAYER, SECOND = NUMBERS[:2]
PAYEE = NUMBERS[ACCOUNTS_PER_CUSTOMER]
PAYMENTS = 50
HOUR_US = 3_600_000_000

pytestmark = pytest.mark.timeout(170)


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    """Two banks and a gateway, for all tests here; each leaves all of it running."""
    with tempfile.TemporaryDirectory(prefix="fortress-outbox-", dir="/var/tmp") as parent:
        with Town(Path(parent)) as town:
            yield town


class Program:
    """The customer's program on its outbox, over all its lives."""

    def __init__(self, town: Town, folder: Path, lines: list[str]) -> None:
        self.outbox, orders = folder / "outbox.db", folder / "orders"
        orders.write_text("\n".join(lines))
        node = town.nodes["a"]
        self._command = [sys.executable, "-m", "tests.e2e.outbox_client", node.address, str(node.ca)]
        self._command += [str(self.outbox), str(orders)]

    def live(self, until: str = "", *, count: int = 0) -> int:
        """Start it, and kill it after so many lines that begin with a word; with none, wait for its end."""
        process = subprocess.Popen(self._command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
        with process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    count -= line.startswith(until) if until else 0
                    if until and count <= 0:
                        break
                return process.wait(60) if not until else 0
            finally:
                process.kill()

    def items(self) -> list[OutboxItem]:
        """Read its outbox."""
        with closing(OrderFile.open(self.outbox)) as file:
            return file.items()


def line_of(*, debit: int = PAYER, amount: int = 100, not_after_us: int = 0) -> str:
    return f"{new_id().hex()} {debit} b/{PAYEE} {amount} {not_after_us}"


async def test_payments_wait_for_the_gateway_and_are_done_once_in_order(town: Town, tmp_path: Path) -> None:
    """Fifty of them, by a program killed while it writes them down and while it tries to send; one comes too late."""
    soon_us = now_us() + 15_000_000
    lines = [line_of(amount=100 + number) for number in range(PAYMENTS)] + [line_of(debit=SECOND, not_after_us=soon_us)]
    program = Program(town, tmp_path, lines)
    town.nodes[GATEWAY].kill()
    for stored in (1, 20, 30, len(lines)):
        program.live("stored", count=stored)
    for _ in range(2):
        program.live("tried", count=2)
    waiting = program.items()
    assert [item.id.hex() for item in waiting] == [line.split()[0] for line in lines]
    assert not any(item.is_terminal for item in waiting[:-1])
    assert all(item.tries == 0 for item in waiting[1:-1])
    wait_until(lambda: now_us() > soon_us, deadline_s=30)
    town.nodes[GATEWAY].start()
    program.live("answered", count=7)
    assert program.live() == 0
    *done, late = program.items()
    assert [item.state for item in done] == [OrderState.done] * PAYMENTS
    assert late.state is OrderState.expired and late.outcome.code == 1000 + Status.order_expired
    positions = [item.outcome.position for item in done]
    sequences = [item.outcome.gateway_sequence for item in done]
    assert positions == sorted(set(positions)) and sequences == sorted(set(sequences))
    proven = [item.receipt.position for item in done if item.receipt is not None]
    assert proven == positions
    await check_books(town, lines[:-1])


async def check_books(town: Town, lines: list[str]) -> None:
    """Each payment stands once in both banks' books, in order, and nothing else does."""
    (await town.books()).check()
    ids = [bytes.fromhex(line.split()[0]) for line in lines]
    wanted = [f"payment {number}" for number in range(len(lines))]
    async with town.people(("a", "customer0"), ("b", "customer1")) as (payer, payee):
        paid = [row async for row in payer.history(PAYER) if row.reference.startswith("payment ")]
        got = [row async for row in payee.history(PAYEE) if row.reference.startswith("payment ")]
        assert [row.reference for row in reversed(paid) if row.kind == "payment_out"] == wanted
        assert [row.reference for row in reversed(got) if row.kind == "payment_in"] == wanted
        views = [await payer.payment(id, everywhere=False) for id in (ids[0], ids[-1])]
        assert [view.state for view in views] == ["done", "done"]


async def test_the_bank_refuses_what_comes_too_late(town: Town) -> None:
    """By its own clock, whatever the client's says, and again when it is repeated."""
    async with town.people(("a", "customer0")) as (payer,):
        order = PaymentOrder(
            bank="a",
            id=new_id(),
            debit=SECOND,
            payee=f"b/{PAYEE}",
            amount_minor=100,
            currency="EUR",
            not_after_us=now_us() - HOUR_US,
        )
        for _ in range(2):
            with pytest.raises(Refused) as told:
                await payer.pay_order(order)
            assert told.value.status is Status.order_expired


def test_the_command_line_keeps_payments_until_they_are_done(town: Town, tmp_path: Path) -> None:
    """Added and signed without the gateway, sent later; what became of each is told by words and exit code."""
    key_file = tmp_path / "customer0.key"
    key_file.write_text(seed_of("customer0").hex())
    key_file.chmod(0o600)
    home = {"FORTRESS_CONTEXT_HOME": str(tmp_path / "home")}
    key = ("--key-file", str(key_file))

    def run(*arguments: str) -> tuple[int, Any, str]:
        done = run_cli("--json", *arguments, **home)
        return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr

    node = town.nodes["a"]
    address = node.address.removeprefix("fortress://")
    assert run("login", "customer0", "--address", address, "--ca", str(node.ca), *key)[0] == 0
    town.nodes[GATEWAY].kill()
    here = ("outbox", "add", f"b/{PAYEE}", "1.50 EUR", "--from", str(SECOND))
    code, added, _ = run(*here, "--reference", "by hand", *key)
    assert code == 0 and added["signed"] is True
    code, late, _ = run(*here, "--not-after", "2020-01-01T00:00:00Z")
    assert code == 0
    code, told, err = run("--timeout", "2", "outbox", "send")
    assert code in (4, 5) and added["id"] not in err
    assert (told["expired"], told["done"], told["queued"] + told["sent"]) == (1, 0, 1)
    town.nodes[GATEWAY].start()
    code, told, err = run("outbox", "send")
    assert (code, told["done"]) == (0, 1), err
    receipt = tmp_path / "receipt.json"
    assert run("outbox", "show", added["id"], "--receipt", str(receipt))[1]["state"] == "done"
    assert run("receipt", "verify", str(receipt), "--bank", "a")[1]["valid"] is True
    code, shown, _ = run("payment", "show", added["id"])
    assert (code, shown["state"], shown["to"]) == (0, "done", f"b/{PAYEE}")
    assert {step["bank"] for step in shown["steps"]} == {"a", "b", GATEWAY}
    code, again, _ = run("payment", "retry", added["id"])
    assert (code, again["replayed"]) == (0, True)
    assert added["id"] in [view["id"] for view in run("payment", "list")[1]]
    assert run("outbox", "remove", "--all")[1]["removed"] == [added["id"], late["id"]]
    code, _, err = run("pay", f"b/{PAYEE}", "1 EUR", "--from", str(SECOND), "--not-after", "2020-01-01T00:00:00Z")
    assert code == 1 and "FT-1051" in err
    assert run("payment", "show", format_id(new_id()))[0] == 1
