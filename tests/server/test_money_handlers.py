"""What moves money, over the wire: done once, answered when durable, told to nobody else."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fortress.client.me import Me
from fortress.client.money import Money
from fortress.errors import Busy, DiskFull, LedgerError, OutcomeUnknown, Refused, Status
from fortress.protocol.money import Deposit, Hold, Post, Transfer, TransferRow, Transfers, Void
from fortress.protocol.orders import Order, sign_order
from fortress.protocol.schnorr import order_signing_seed
from fortress.server.bank import new_id
from fortress.server.views import hold_view
from tests.server.banks import BANK, World, banking, seed_of, until


async def refused(status: Status, work: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        await work
    assert caught.value.status is status
    return caught.value


class Town:
    """Alice, Bob and Tess at one bank, signed in."""

    def __init__(self, world: World, alice: Me, bob: Me, tess: Me) -> None:
        self.world, self.alice, self.bob, self.tess = world, alice, bob, tess

    async def settle(self) -> Town:
        self.a, self.b = await self.world.account_of("alice"), await self.world.account_of("bob")
        return self

    async def balances(self) -> tuple[int, int]:
        own = [(await me.balance()).balance.minor for me in (self.alice, self.bob)]
        return own[0], own[1]


async def town(world: World) -> Town:
    return await Town(world, *[await world.sign_in(name) for name in ("alice", "bob", "tess")]).settle()


async def test_a_transfer_is_done_once(tmp_path: Path) -> None:
    """The same id again gets the first answer; with other content it is refused."""
    async with banking(tmp_path) as world:
        t = await town(world)
        id = new_id()
        first = await t.alice.transfer(t.a, t.b, "10.00 EUR", id=id)
        assert (first.balance_after, first.replayed) == (Money(9_000, "EUR"), False)
        again = await t.alice.transfer(t.a, t.b, "10.00 EUR", id=id)
        assert (again.position, again.time, again.balance_after) == (first.position, first.time, first.balance_after)
        assert again.replayed
        await refused(Status.id_reused, t.alice.transfer(t.a, t.b, "11.00 EUR", id=id))
        await refused(Status.id_reused, t.tess.transfer(t.a, t.b, "10.00 EUR", id=id))
        assert await t.balances() == (9_000, 11_000)


async def test_a_refusal_repeats_with_its_facts(tmp_path: Path) -> None:
    """A late retry must not succeed by surprise."""
    async with banking(tmp_path) as world:
        t = await town(world)
        id = new_id()
        error = await refused(Status.exceeds_available, t.alice.transfer(t.a, t.b, "100.01 EUR", id=id))
        assert error.facts == {"available_minor": 10_000, "needed_minor": 10_001}
        await t.tess.deposit(t.a, "50.00 EUR")
        again = await refused(Status.exceeds_available, t.alice.transfer(t.a, t.b, "100.01 EUR", id=id))
        assert again.facts == error.facts


async def test_nobody_moves_anothers_money(tmp_path: Path) -> None:
    """Somebody else's account is as unknown as none."""
    async with banking(tmp_path) as world:
        t = await town(world)
        await refused(Status.debit_account_unknown, t.alice.transfer(t.b, t.a, "1.00 EUR"))
        await refused(Status.debit_account_unknown, t.alice.transfer(4711, t.a, "1.00 EUR"))
        await refused(Status.credit_account_unknown, t.alice.transfer(t.a, 4711, "1.00 EUR"))
        await refused(Status.accounts_must_differ, t.alice.transfer(t.a, t.a, "1.00 EUR"))
        await refused(Status.currency_mismatch, t.alice.transfer(t.a, t.b, "1.00 USD"))
        await refused(Status.currency_unknown, t.alice.transfer(t.a, t.b, "1.00 CHF"))
        assert await t.balances() == (10_000, 10_000)


async def test_cash_comes_and_goes_at_the_counter(tmp_path: Path) -> None:
    """A deposit tells the paid account's balance, a withdrawal that of the account taken from."""
    async with banking(tmp_path) as world:
        t = await town(world)
        assert (await t.tess.deposit(t.a, "5.00 EUR")).balance_after == Money(10_500, "EUR")
        assert (await t.tess.withdraw(t.a, "15.00 EUR")).balance_after == Money(9_000, "EUR")
        await refused(Status.exceeds_available, t.tess.withdraw(t.a, "90.01 EUR"))
        await refused(Status.currency_unknown, t.tess.ask("deposit", Deposit(new_id(), t.a, 5, "CHF")))
        await refused(Status.currency_unknown, t.tess.withdraw(t.a, "1.00 CHF"))


async def test_a_batch_answers_each_row(tmp_path: Path) -> None:
    """Each on its own, or all or none; the answer says where the last of them stands."""
    async with banking(tmp_path) as world:
        t = await town(world)
        rows = [TransferRow(new_id(), t.a, t.b, 100), TransferRow(new_id(), t.a, t.b, 1_000_000)]
        result = await t.alice.transfers(rows, "EUR")
        assert result.statuses == (Status.ok, Status.exceeds_available)
        assert result.position == world.committer.committed_position
        again = await t.alice.transfers(rows, "EUR")
        assert (again.statuses, again.position) == (result.statuses, result.position)
        rows = [TransferRow(new_id(), t.a, t.b, 100), TransferRow(new_id(), t.a, t.b, 1_000_000)]
        result = await t.alice.transfers(rows, "EUR", atomic=True)
        assert result.statuses == (Status.batch_failed, Status.exceeds_available)
        assert await t.balances() == (9_900, 10_100)


async def test_the_largest_batch_is_done(tmp_path: Path) -> None:
    """8,190 transfers go in one request and one record."""
    async with banking(tmp_path) as world:
        t = await town(world)
        before = world.committer.committed_lsn
        rows = [TransferRow(new_id(), t.a, t.b, 1) for _ in range(8_190)]
        result = await t.alice.transfers(rows, "EUR", atomic=True)
        assert result.done == 8_190
        assert world.committer.committed_lsn == before + 1
        assert await t.balances() == (1_810, 18_190)


# --- Holds -----------------------------------------------------------------------------------------------------------
async def test_a_hold_is_placed_posted_in_part_and_told_to_each_side(tmp_path: Path) -> None:
    """The payer is told the payer's balance, the payee the payee's, and a repeat gets the first answer."""
    async with banking(tmp_path) as world:
        t = await town(world)
        id, expires = new_id(), datetime.now(UTC) + timedelta(hours=1)
        placed = await t.alice.hold(t.a, t.b, "30.00 EUR", id=id, expires=expires)
        assert placed.balance_after == Money(10_000, "EUR")
        again = await t.alice.hold(t.a, t.b, "30.00 EUR", id=id, expires=expires)
        assert (again.position, again.replayed) == (placed.position, True)
        assert (await t.alice.balance()).available == Money(7_000, "EUR")
        posted = await t.bob.post(id, Money(2_000, "EUR"))
        assert posted.balance_after == Money(12_000, "EUR")
        again = await t.bob.post(id, Money(2_000, "EUR"))
        assert (again.position, again.time, again.balance_after, again.replayed) == (
            posted.position,
            posted.time,
            posted.balance_after,
            True,
        )
        by_payer = await t.alice.post(id, Money(2_000, "EUR"))
        assert by_payer.balance_after == Money(8_000, "EUR")
        await refused(Status.hold_already_posted, t.bob.post(id, Money(2_001, "EUR")))
        assert await t.balances() == (8_000, 12_000)


async def test_a_hold_is_voided_by_the_payee(tmp_path: Path) -> None:
    """Who voids is told their own balance; the payer cannot take a promise back."""
    async with banking(tmp_path) as world:
        t = await town(world)
        id = (await t.alice.hold(t.a, t.b, "30.00 EUR")).id
        await refused(Status.hold_unknown, t.alice.void(id))
        voided = await t.bob.void(id)
        assert voided.balance_after == Money(10_000, "EUR")
        again = await t.bob.void(id)
        assert (again.position, again.time, again.replayed) == (voided.position, voided.time, True)
        await refused(Status.hold_already_voided, t.bob.post(id))
        await refused(Status.hold_unknown, t.tess.ask("void", Void(new_id())))
        assert (await t.alice.balance()).available == Money(10_000, "EUR")


async def test_a_hold_is_answered_with_a_balance_that_is_durable(tmp_path: Path) -> None:
    """A balance that shows a payment under way leaves with that payment's commit, not before."""
    async with banking(tmp_path) as world:
        t = await town(world)
        journal = world.hold_journal()
        holding = asyncio.ensure_future(t.alice.hold(t.a, t.b, "30.00 EUR"))
        await until(lambda: journal.begun)
        paying = asyncio.ensure_future(t.alice.transfer(t.a, t.b, "1.00 EUR"))
        await until(lambda: world.bank.engine.pending)
        journal.release()
        assert (await holding).balance_after == Money(9_900, "EUR")
        assert (await paying).balance_after == Money(9_900, "EUR")
        assert journal.begun[1][0].count == 1


async def test_a_repeated_post_after_a_restart_gets_the_first_answer(tmp_path: Path) -> None:
    """What memory has forgotten comes from the tables."""
    async with banking(tmp_path) as world:
        t = await town(world)
        id = (await t.alice.hold(t.a, t.b, "30.00 EUR")).id
        posted = await t.bob.post(id)
    async with banking(tmp_path) as world:
        bob = await world.sign_in("bob")
        again = await bob.post(id)
        assert (again.position, again.time, again.balance_after) == (
            posted.position,
            posted.time,
            posted.balance_after,
        )


async def test_holds_expire_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hold whose time is over cannot be taken, and soon frees the money."""
    monkeypatch.setattr("fortress.server.process.EXPIRE_EVERY_S", 0.02)
    async with banking(tmp_path) as world:
        t = await town(world)
        payment = await t.alice.hold(t.a, t.b, "30.00 EUR", valid=timedelta(milliseconds=150))
        hold = world.bank.state.hold(payment.id)
        assert hold is not None
        await until(lambda: world.bank.state.hold(payment.id).state == 4)
        assert hold_view(hold, 0).state == "expired"
        assert (await t.alice.balance()).available == Money(10_000, "EUR")
        await refused(Status.hold_expired, t.bob.post(payment.id))
        rows = [row.kind async for row in t.alice.history(t.a)]
        assert rows[0] == "hold_expired"


# --- Reversals and orders --------------------------------------------------------------------------------------------
async def test_a_transfer_is_reversed_in_parts(tmp_path: Path) -> None:
    """Never more comes back than was paid."""
    async with banking(tmp_path) as world:
        t = await town(world)
        paid = await t.alice.transfer(t.a, t.b, "10.00 EUR")
        part = await t.tess.reverse(paid.id, "EUR", Money(400, "EUR"))
        assert part.balance_after == Money(10_600, "EUR")
        await t.tess.reverse(paid.id, "EUR")
        await refused(Status.exceeds_original, t.tess.reverse(paid.id, "EUR"))
        await refused(Status.original_not_reversible, t.tess.reverse(part.id, "EUR"))
        await refused(Status.original_unknown, t.tess.reverse(new_id(), "EUR"))
        assert await t.balances() == (10_000, 10_000)


def signature_of(t: Town, id: bytes, amount: int, signer: str) -> bytes:
    order = Order(bank=BANK, id=id, debit=t.a, credit=t.b, amount_minor=amount, currency="EUR")
    return sign_order(order, order_signing_seed(seed_of(signer)))


async def test_an_account_may_take_signed_orders_only(tmp_path: Path) -> None:
    """Without the payer's own signature over exactly this order nothing moves, also right after a restart."""
    async with banking(tmp_path) as world:
        t = await town(world)
        ada = await world.sign_in("ada")
        await ada.administration.set_limits(t.a, signed_orders_only=True)
        unsigned = t.alice.ask("transfer", Transfer(new_id(), t.a, t.b, 100, "EUR"))
        await refused(Status.order_signature_required, unsigned)
    async with banking(tmp_path) as world:
        t = await town(world)
        world.bank.state.customers.newer.clear()
        id = new_id()
        for wrong in (signature_of(t, id, 101, "alice"), signature_of(t, id, 100, "bob"), b"x"):
            order = t.alice.transfer(t.a, t.b, "1.00 EUR", id=id, order_signature=wrong)
            await refused(Status.order_signature_invalid, order)
        right = signature_of(t, id, 100, "alice")
        paid = await t.alice.transfer(t.a, t.b, "1.00 EUR", id=id, order_signature=right)
        assert paid.balance_after == Money(9_900, "EUR")
        again = await t.alice.transfer(t.a, t.b, "1.00 EUR", id=id, order_signature=right)
        assert again.replayed
        assert (await t.alice.transfer(t.a, t.b, "1.00 EUR")).balance_after == Money(9_800, "EUR")  # signed by itself
        too_much = signature_of(t, id := new_id(), 1_000_000, "alice")
        order = t.alice.transfer(t.a, t.b, "10000.00 EUR", id=id, order_signature=too_much)
        await refused(Status.exceeds_available, order)


# --- When things go wrong --------------------------------------------------------------------------------------------
REQUESTS = {
    "transfer": lambda t: Transfer(new_id(), t.a, t.b, 1, "EUR"),
    "transfers": lambda t: Transfers("EUR", [TransferRow(new_id(), t.a, t.b, 1)]),
    "hold": lambda t: Hold(new_id(), t.a, t.b, 1, "EUR", 2**62),
}


@pytest.mark.parametrize("operation", REQUESTS)
async def test_errors_of_the_committer_become_answers(tmp_path: Path, operation: str) -> None:
    """A disk that fails under a request is answered as an unknown outcome, and the session lives on."""
    async with banking(tmp_path) as world:
        t = await town(world)
        journal = world.hold_journal()
        request = REQUESTS[operation](t)
        asking = asyncio.ensure_future(t.alice.ask(operation, request))
        await until(lambda: journal.begun)
        journal.errors = [LedgerError("the disk says no")]
        journal.release()
        await until(lambda: world.process.failure)
        assert (await t.alice.sessions())[0].current
        asking.cancel()
        with pytest.raises((asyncio.CancelledError, OutcomeUnknown)):
            await asking


async def test_a_full_queue_and_a_full_disk_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not taken is refused in the read pass."""
    async with banking(tmp_path) as world:
        t = await town(world)
        for error in (Busy("no"), DiskFull("no")):

            def refuse(*_: object, error: Exception = error) -> None:
                raise error

            monkeypatch.setattr(world.bank, "submit", refuse)
            link = t.alice._calls.route.current
            with pytest.raises(type(error)):
                await link.request("post", Post(new_id()), 5)


async def test_a_session_that_goes_away_leaves_its_command_done(tmp_path: Path) -> None:
    """What was taken is carried out though nobody is there to be told."""
    async with banking(tmp_path) as world:
        t = await town(world)
        gone = await world.connect()
        alice = await gone.login_with_seed("alice", seed_of("alice"))
        journal = world.hold_journal()
        paying = asyncio.ensure_future(alice.transfer(t.a, t.b, "1.00 EUR"))
        await until(lambda: journal.begun)
        alice._calls.route.current._transport.abort()
        paying.cancel()
        await asyncio.gather(paying, return_exceptions=True)
        journal.release()
        await until(lambda: world.committer.committed_position == world.bank.state.position)
        assert await t.balances() == (9_900, 10_100)
