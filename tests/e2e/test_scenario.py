"""The seed scenario with real processes: balance, transfer, contact update, an invalid task; one client, then three."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from bench.bank import ACCOUNTS_PER_CUSTOMER
from fortress.client.me import Me
from fortress.errors import UnknownOperation
from fortress.protocol.accounts import Profile
from fortress.protocol.administration import StatusRequest
from tests.e2e.node import Node, numbers_of, run_cli, seed_of, wait_until

TASKS = 3


def own_account(customer: int) -> int:
    """The default account of a prepared bank's customer, by index."""
    return numbers_of(ACCOUNTS_PER_CUSTOMER * (customer + 1))[-ACCOUNTS_PER_CUSTOMER]


async def visit(me: Me, own: int, payee: int) -> None:
    """Do what a customer does: three tasks, and one that does not exist, which is refused while the session goes on."""
    before = await me.balance()
    assert before.number == own
    payment = await me.transfer(own, payee, "1.25 EUR", reference="scenario")
    assert payment.status == "done"
    await me.set_profile(Profile(name="Somebody", phone="+000 12345"))
    session = me.signed_in.session
    with pytest.raises(UnknownOperation) as refusal:
        await me.ask("make_me_rich", StatusRequest())
    assert refusal.value.code == 4006
    assert "make_me_rich" in refusal.value.message
    assert refusal.value.hint
    assert session in [row.session for row in await me.sessions()]


async def test_one_client_then_three_at_once(node: Node) -> None:
    """/status counts nine tasks for the three, and tells how many are connected while and after."""
    start = node.status()
    assert start["connections"] == 0
    async with node.session("customer0") as me:
        await visit(me, own_account(0), own_account(1))
        assert node.status()["connections"] == 1
    wait_until(lambda: node.status()["connections"] == 0)
    after_one = node.status()
    assert after_one["tasks_processed"] - start["tasks_processed"] == TASKS

    arrived = asyncio.Barrier(4)
    leave = asyncio.Event()

    async def client(index: int) -> None:
        async with node.session(f"customer{index}") as me:
            await arrived.wait()
            await visit(me, own_account(index), own_account(index + 1))
            await arrived.wait()
            await leave.wait()

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for index in range(3):
            group.create_task(client(index))
        await arrived.wait()
        await arrived.wait()
        assert node.status()["connections"] == 3
        leave.set()
    wait_until(lambda: node.status()["connections"] == 0)
    after_three = node.status()
    assert after_three["tasks_processed"] - after_one["tasks_processed"] == 3 * TASKS == 9
    assert after_three["requests"]["unknown"]["unknown_operation"] == 4


def test_the_simulator_counts_as_the_node_does(node: Node, tmp_path: Path) -> None:
    """`fortress simulate` with three customers: it passes its own checks, and the node counts nine tasks."""
    people = tmp_path / "people"
    people.write_text(
        "".join(
            json.dumps({"username": name, "seed": seed_of(name).hex()}) + "\n"
            for name in ("customer0", "customer1", "customer2")
        )
    )
    key_file = tmp_path / "key"
    key_file.write_text(seed_of("customer0").hex())
    key_file.chmod(0o600)
    home = {"FORTRESS_CONTEXT_HOME": str(tmp_path / "home")}
    address = node.address.removeprefix("fortress://")
    signed_in = run_cli(*("login", "customer0", "--address", address, "--ca", node.ca, "--key-file", key_file), **home)
    assert signed_in.returncode == 0, signed_in.stderr
    before = node.status()["tasks_processed"]
    done = run_cli("--json", "simulate", "--clients", "3", "--customers", people, **home)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["passed"]
    assert {row["step"]: (row["ok"], row["refused"], row["errors"]) for row in result["steps"]} == {
        "sign in": (3, 0, 0),
        "check balance": (3, 0, 0),
        "transfer": (3, 0, 0),
        "update contact information": (3, 0, 0),
        "invalid request": (0, 3, 0),
    }
    assert node.status()["tasks_processed"] - before == 9
    assert wait_until(lambda: node.status()["connections"] == 0)
