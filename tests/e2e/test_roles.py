"""Who may do what, on a real node: roles, and acts that need a second administrator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pytest

from bench.bank import TELLER, Plan, make_folder
from fortress.client.ids import new_id
from fortress.client.me import Me
from fortress.config import load
from fortress.errors import OK, MessageInvalid, NotAllowed, NotSignedIn, Refused, Status
from fortress.ledger.commands import DecideApproval
from fortress.ledger.engine import Engine
from fortress.ledger.entries import AccountChanged
from fortress.ledger.keyring import Keyring, read_kek
from fortress.ledger.model import Actor
from fortress.protocol.administration import Approve, StatusRequest
from fortress.protocol.messages import OPERATIONS
from fortress.server.folder import KEYRING_NAME
from tests.e2e.node import Node, numbers_of, seed_of
from tests.fault.kill import journal_entries

OWN, SECOND = numbers_of(2)
LIMIT_MINOR = 12_345


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A bank with one administrator, one teller and customers."""
    folder = tmp_path_factory.mktemp("roles") / "bank"
    make_folder(folder, Plan(accounts=64, settings={"ledger.segment_bytes": 1024 * 1024}, opening_minor=1000))
    with Node(folder) as serving:
        yield serving


@pytest.fixture(scope="module")
def people(node: Node) -> None:
    """A second administrator and an auditor: the first needs no approval, for there is nobody yet to give it."""

    async def make() -> None:
        async with node.session("admin") as admin:
            for username, role in (("auditor", "auditor"), ("second", "administrator")):
                made = await admin.administration.create_user(username, seed=seed_of(username), roles=(role,))
                assert not made.approval

    asyncio.run(make())


WHO = {"customer": "customer0", "teller": TELLER, "auditor": "auditor"}
"""An administrator may ask for everything; what that leads to is another matter."""


@pytest.mark.parametrize("role", WHO)
async def test_a_role_may_do_what_its_row_says_and_nothing_else(node: Node, people: None, role: str) -> None:
    """Every operation that is not a role's is refused with the roles that may, before its fields are looked at."""
    link = await node.link(WHO[role])
    refused = [row for row in OPERATIONS.values() if row.roles and role not in row.roles]
    assert refused
    for row in refused:
        with pytest.raises(NotAllowed) as caught:
            await link.request(row.name, StatusRequest(), 10)
        assert caught.value.facts == {"roles": ", ".join(row.roles)}
    await link.close()


async def test_without_a_login_only_signing_in_is_possible(node: Node) -> None:
    """Every operation that needs a role is refused as not signed in."""
    link = await node.link()
    for row in OPERATIONS.values():
        if row.roles:
            with pytest.raises(NotSignedIn):
                await link.request(row.name, StatusRequest(), 10)
    with pytest.raises(MessageInvalid):
        await link.request("hello", StatusRequest(), 10)
    await link.close()


def test_auditors_and_customers_are_kept_apart_in_the_table() -> None:
    """Whoever audits moves nothing; whoever is a customer administers nothing."""
    by_auditor = {row.name for row in OPERATIONS.values() if "auditor" in row.roles and row.writes}
    assert by_auditor <= {"change_key", "set_profile", "open_account"}  # of their own
    by_customer = {row.name for row in OPERATIONS.values() if "customer" in row.roles}
    assert by_customer.isdisjoint(
        "invite create_user set_role lock unlock erase set_limits freeze unfreeze reopen approve trail deposit "
        "withdraw reverse list_users trial_balance".split()
    )


async def test_an_auditor_sees_everything_and_moves_nothing(node: Node, people: None) -> None:
    """Books, trail and accounts are shown; the books are as before."""
    async with node.session("auditor") as auditor:
        before = await auditor.administration.trial_balance()
        assert all(row.sum_minor == 0 for row in before.rows)
        assert (await auditor.administration.trail(limit=5)).rows
        # beside the customers': cash, and what is settled with other banks
        assert len((await auditor.administration.accounts(all=True, limit=100)).accounts) == 66
        for attempt in (
            auditor.transfer(OWN, SECOND, "1 EUR"),
            auditor.deposit(OWN, "1 EUR"),
            auditor.withdraw(OWN, "1 EUR"),
            auditor.hold(OWN, SECOND, "1 EUR"),
            auditor.administration.freeze(OWN),
            auditor.administration.approve(new_id()),
        ):
            with pytest.raises(NotAllowed):
                await attempt
        assert (await auditor.administration.trial_balance()).rows == before.rows


# --- two administrators ---------------------------------------------------------------------------------------------


async def ask(admin: Me, payment_minor: int) -> bytes:
    """Ask for a limit on an account; gives the approval that it waits for."""
    done = await admin.administration.set_limits(OWN, payment_minor=payment_minor)
    assert done.approval
    return done.approval


async def limit_of(me: Me) -> int | None:
    return (await me.account(OWN)).limit_payment_minor


async def expect(status: Status, attempt: Awaitable[object]) -> None:
    with pytest.raises(Refused) as caught:
        await attempt
    assert caught.value.status is status


def times_changed(folder: Path) -> int:
    """Count how often the account's limits were changed, in the journal of a stopped node."""
    return sum(isinstance(entry, AccountChanged) and entry.number == OWN for _, entry in journal_entries(folder))


async def test_what_one_asks_another_approves(node: Node, people: None) -> None:
    """Nothing is done before; one's own approval does not count; it is done once, and decided once."""
    async with node.session("admin") as admin, node.session("second") as second, node.session(TELLER) as teller:
        approval = await ask(admin, LIMIT_MINOR)
        assert await limit_of(teller) is None
        assert [row.approval for row in await second.administration.approvals()] == [approval]
        await expect(Status.approval_needs_another_person, admin.administration.approve(approval))
        with pytest.raises(NotAllowed):
            await teller.administration.approve(approval)
        assert await limit_of(teller) is None
        await second.administration.approve(approval)
        assert await limit_of(teller) == LIMIT_MINOR
        assert await second.administration.approvals() == []
        await expect(Status.approval_already_decided, second.administration.approve(approval))
        await expect(Status.approval_unknown, second.administration.approve(new_id()))

        declined = await ask(second, 1)
        await admin.administration.approve(declined, decline=True)
        await expect(Status.approval_already_decided, admin.administration.approve(declined))
        assert await limit_of(teller) == LIMIT_MINOR


def decide_and_crash(folder: Path, approval: bytes, customer: int) -> None:
    """Write the approval into the journal of a stopped node, and nothing after it: a crash between both."""
    settings = load(folder, {}, {})
    kek = read_kek(key_file=settings.path(settings.keys.key_file), key_command="", environment={})
    keyring = Keyring.open(folder / KEYRING_NAME, kek)
    engine = Engine.open(
        folder,
        bank=settings.node.bank,
        data_key=keyring.data_key,
        store_key=keyring.store_key,
        segment_bytes=settings.ledger.segment_bytes,
    )
    now_us = engine.clock(time.time_ns() // 1000)
    command = DecideApproval(Actor(customer, frozenset(("administrator",))), approval, True)
    while (wanted := engine.state.missing(command)) is not None:
        engine.state.fill(wanted, engine.store.load(wanted))
    verdict = engine.judge(command, now_us)
    assert verdict.status is Status.ok
    closed = engine.close_record(now_us, engine.last.lsn if engine.last else 0)
    assert closed is not None
    engine.journal.append(closed[0])
    engine.close()


async def test_an_act_approved_before_a_crash_is_done_once(node: Node, people: None) -> None:
    """The decision is durable, the act is not: the next start does it, and the one after that does not do it again."""
    async with node.session("admin") as admin, node.session("second") as second:
        approval = await ask(admin, 777)
        deciding = second.signed_in.customer
    node.kill()
    before = times_changed(node.folder)
    decide_and_crash(node.folder, approval, deciding)
    for _ in range(2):
        node.start()
        async with node.session("admin") as admin:
            assert await limit_of(admin) == 777
            assert await admin.administration.approvals() == []
        node.kill()
        assert times_changed(node.folder) == before + 1
    node.start()


@pytest.mark.fault
@pytest.mark.parametrize("after_s", [0.0, 0.0005, 0.001, 0.002, 0.004, 0.008])
async def test_a_node_killed_while_it_approves_does_all_or_nothing(node: Node, people: None, after_s: float) -> None:
    """Whatever the moment: either it still waits for approval, or it is done, once."""
    async with node.session("admin") as admin:
        approval = await ask(admin, int(1_000_000 * after_s) + 1)
        wanted = int(1_000_000 * after_s) + 1
    link = await node.link("second")
    link.submit("approve", Approve(approval), lambda code, raw: code == OK)
    link._flush()
    time.sleep(after_s)  # the moment, not a wait
    node.kill()
    link.abort()
    before = times_changed(node.folder)
    node.start()
    async with node.session("second") as second:
        waits = [row.approval for row in await second.administration.approvals()]
        if waits:
            assert await limit_of(second) != wanted
            await second.administration.approve(approval)
        assert await limit_of(second) == wanted
    node.kill()
    assert times_changed(node.folder) - before in (0, 1)
    node.start()
