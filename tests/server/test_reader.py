"""Reading of a bank: memory first, the tables behind, never what may be lost, and memory that does not grow by it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fortress.errors import DiskFull, Refused, Status
from fortress.ledger.commands import AbortPayment, ChangeBank, ChangeCustomer, CommitPayment, PlacePayment
from fortress.ledger.entries import HoldPlaced, HoldReleased, Posted
from fortress.ledger.entries import Refused as RefusedEntry
from fortress.ledger.model import BANK_ACTOR, SWITCH_ACTOR, Actor, HoldState, account_number
from fortress.server.bank import new_id
from fortress.server.reader import NOBODY
from tests.server.banks import banking, until


async def test_what_memory_lacks_is_read(tmp_path: Path) -> None:
    """Accounts and customers come from the tables when a node has just started, and are absent when there are none."""
    async with banking(tmp_path) as world:
        alice = await world.bank.customer_named("alice")
        account = await world.bank.account(alice.default_account)
        assert account is not None and account.owner == alice.customer
        assert await world.bank.account(account_number(88_888)) is None
        assert await world.bank.customer(4711) is None
        assert await world.bank.customer_number("alice") == alice.customer
        assert await world.bank.customer_number("nobody") == 0


async def test_looking_around_does_not_fill_the_memory(tmp_path: Path) -> None:
    """Somebody who asks for a hundred thousand accounts that do not exist must not make the node grow."""
    async with banking(tmp_path, ledger__account_cache_max="1024") as world:
        for first in range(0, 4_000, 100):
            numbers = [account_number(50_000 + first + n) for n in range(100)]
            await asyncio.gather(*map(world.bank.account, numbers))
        assert len(world.bank.state.accounts) <= 1_300


async def test_people_have_names(tmp_path: Path) -> None:
    """The bank is called bank, a stranger goes by number, an erased person by what is left of them."""
    async with banking(tmp_path) as world:
        bank = world.bank
        tess = await bank.customer_named("tess")
        assert [await bank.username(number) for number in (0, tess.customer, 4711)] == ["bank", "tess", "4711"]
        assert (await bank.person(tess)).profile.email == "tess@example.org"
        await bank.commit(ChangeCustomer(BANK_ACTOR, new_id(), tess.customer, "erase"))
        assert await bank.person(tess) == NOBODY
        assert await bank.username(tess.customer) == f"erased-{tess.customer}"
        with pytest.raises(Refused) as refused:
            await bank.customer_named("tess")
        assert refused.value.status is Status.customer_unknown
        assert await bank.customer_number("tess") == tess.customer


async def test_banks_have_names(tmp_path: Path) -> None:
    """The owner of a position is the bank of that number."""
    async with banking(tmp_path) as world:
        bank = world.bank
        for name in ("north", "south"):
            await bank.commit(ChangeBank(BANK_ACTOR, new_id(), name, "add", b"certificate"))
        assert [await bank.username(number) for number in (-1, -2, -3)] == ["north", "south", "bank"]


async def test_payments_are_read_as_they_are_now(tmp_path: Path) -> None:
    """Though the tables come later: open ones, the course of one, a customer's; after a restart from the tables."""
    async with banking(tmp_path) as world:
        bank = world.bank
        alice = await bank.customer_named("alice")
        payer, ours = alice.default_account, bank.state.settlements["EUR"]
        ids = sorted(new_id() for _ in range(5))
        actor = Actor(alice.customer, frozenset(("customer",)))
        await asyncio.gather(
            *(bank.commit(PlacePayment(actor, id, payer, ours, 1, "EUR", "north/195")) for id in ids),
        )
        await bank.commit(CommitPayment(SWITCH_ACTOR, ids[0], 77))
        await bank.commit(AbortPayment(SWITCH_ACTOR, ids[1], 1004))
        page, after = await bank.open_payments(2)
        rest, end = await bank.open_payments(2, after)
        assert [found.hold.id for found in (*page, *rest)] == ids[2:] and (after, end) == (ids[3], b"")
        refused = new_id()
        await bank.commit(AbortPayment(SWITCH_ACTOR, refused, 1004))
        courses = [[type(entry) for _, entry in await bank.payment_entries(id)] for id in (*ids[:3], refused, new_id())]
        assert courses == [[HoldPlaced, Posted], [HoldPlaced, HoldReleased], [HoldPlaced], [RefusedEntry], []]
        mine, cursor = await bank.payments_of(alice.customer, limit=10)
        assert [found.hold.id for found in mine] == ids[::-1] and cursor == 0
        holds = [await bank.hold(id) for id in (*ids[:3], refused)]
        seen = [(hold.state, hold.sequence, hold.reason) for hold in holds if hold is not None]
        assert seen == [(HoldState.posted, 77, 0), (HoldState.voided, 0, 1004), (HoldState.open, 0, 0)]
        assert holds[3] is None
    async with banking(tmp_path) as world:
        assert repr([await world.bank.hold(id) for id in (*ids[:3], refused)]) == repr(holds)
        assert [found.hold.id for found in (await world.bank.open_payments(9))[0]] == ids[2:]


async def test_an_open_payment_that_ends_meanwhile_is_left_out(tmp_path: Path) -> None:
    """What the tables still call open may have ended in memory."""
    async with banking(tmp_path) as world:
        bank = world.bank
        id = new_id()
        payee, ours = await world.account_of("bob"), bank.state.settlements["EUR"]
        await bank.commit(PlacePayment(SWITCH_ACTOR, id, ours, payee, 1, "EUR", "north/195"))
        await bank.committer.wait_applied(bank.state.position)
        read = bank.read

        async def late(function: Any, *arguments: Any, **named: Any) -> Any:
            found = await read(function, *arguments, **named)
            await bank.commit(CommitPayment(SWITCH_ACTOR, id, 5))
            return found

        bank.__dict__.update(read=late)
        assert await bank.open_payments(9) == ([], b"")


async def test_a_person_whose_key_is_gone_is_nobody(tmp_path: Path) -> None:
    """What cannot be opened any more is empty, not an error."""
    async with banking(tmp_path) as world:
        bob = await world.bank.customer_named("bob")
        await world.bank.read(world.bank.vault.erase_person, bob.handle)
        assert await world.bank.person(bob) == NOBODY


async def test_that_somebody_is_gone_is_told_once_it_is_durable(tmp_path: Path) -> None:
    """Also what is not there any more could come back with a crash."""
    async with banking(tmp_path) as world:
        bank = world.bank
        tess = await bank.customer_named("tess")
        journal = world.hold_journal()
        erasing = asyncio.ensure_future(bank.commit(ChangeCustomer(BANK_ACTOR, new_id(), tess.customer, "erase")))
        await until(lambda: journal.begun)
        asking = [asyncio.ensure_future(bank.customer_named("tess")), asyncio.ensure_future(bank.find_login("tess"))]
        await asyncio.sleep(0.02)
        assert not any(task.done() for task in asking)
        journal.release()
        assert await asking[1] is None
        with pytest.raises(Refused):
            await asking[0]
        await erasing


async def test_waiting_for_a_commit_that_cannot_come_ends(tmp_path: Path) -> None:
    """A full disk is told to who waits; who gave up is left alone."""
    async with banking(tmp_path) as world:
        bank = world.bank
        bob = await bank.customer_named("bob")
        journal = world.hold_journal()
        locking = asyncio.ensure_future(bank.commit(ChangeCustomer(BANK_ACTOR, new_id(), bob.customer, "lock")))
        await until(lambda: journal.begun)
        waiting = asyncio.ensure_future(bank.committed(bank.state.position))
        given_up = asyncio.ensure_future(bank.committed(bank.state.position))
        await asyncio.sleep(0)
        given_up.cancel()
        journal.errors = [DiskFull("no space")]
        journal.release()
        for task in (waiting, locking):
            with pytest.raises(DiskFull):
                await task


async def test_an_id_is_known_from_memory_and_tables(tmp_path: Path) -> None:
    """The first entry under an id, once it is durable; None for an id that nobody used."""
    id = new_id()
    async with banking(tmp_path) as world:
        alice = await world.sign_in("alice")
        paid = await alice.pay("bob", "1.00 EUR", id=id)
        known = await world.bank.known(id)
        assert known is not None and known[0] == paid.position
        assert await world.bank.known(new_id()) is None
    async with banking(tmp_path) as world:
        assert world.bank.state.known(id) is None
        assert await world.bank.known(id) == known


async def test_the_vault_is_read_by_many_at_once(tmp_path: Path) -> None:
    """Reader threads share the file of people's keys."""
    async with banking(tmp_path) as world:
        people = [await world.bank.customer_named(name) for name in ("alice", "bob", "tess", "audrey")]
        found = await asyncio.gather(*(world.bank.person(people[n % 4]) for n in range(200)))
        assert [person.username for person in found[:4]] == ["alice", "bob", "tess", "audrey"]
