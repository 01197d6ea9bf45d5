"""Payments between two banks as anybody runs them: paid once, refused once, whoever is killed in the middle."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bench.bank import ACCOUNTS_PER_CUSTOMER, ADMINISTRATOR
from fortress.client.client import connect
from fortress.client.ids import new_id
from fortress.client.me import Me
from fortress.client.money import Money
from fortress.errors import (
    BankUnreachable,
    GatewayUnreachable,
    MessageInvalid,
    OutcomeUnknown,
    Refused,
    RetryableError,
    Status,
)
from fortress.ledger.model import account_number
from fortress.protocol.payments import Pay, PaymentAnswer
from tests.e2e.node import seed_of
from tests.e2e.town import CAP_MINOR, GATEWAY, NOBODYS, NUMBERS, OPENING_MINOR, PATIENCE_S, SETTLEMENT, Town, aside

PAYER, SECOND, LIMITED, FROZEN, SPENDER, CLOSED, EVERYWHERE, SIGNED = NUMBERS[:8]
CASH = account_number(10_001)
BANKER = NUMBERS[ACCOUNTS_PER_CUSTOMER]  # the first account of the second customer
CALLERS = 8

pytestmark = pytest.mark.timeout(150)


@pytest.fixture(scope="module")
def standing() -> Iterator[Town]:
    """One town for all tests; each leaves all of it running."""
    with tempfile.TemporaryDirectory(prefix="fortress-town-", dir="/var/tmp") as parent:
        with Town(Path(parent)) as town:
            yield town
            asyncio.run(town.books()).check()


@pytest.fixture
async def town(standing: Town) -> AsyncIterator[Town]:
    """All three run and are linked."""
    for node in standing.nodes.values():
        if node.process is None:
            await aside(node.spawn)
            await aside(node.wait_listening)
    await standing.wait_connected()
    yield standing


def order(payee: str, amount: int = 100, *, debit: int = PAYER, id: bytes = b"", currency: str = "EUR") -> Pay:
    return Pay(id or new_id(), payee, amount, currency, debit)


async def pay(me: Me, request: Pay) -> PaymentAnswer:
    answer: PaymentAnswer = await me.ask("pay", request)
    return answer


async def refused(me: Me, request: Pay) -> Status:
    """Give the status that a payment is refused with, twice the same."""
    with pytest.raises(Refused) as first:
        await pay(me, request)
    with pytest.raises(Refused) as again:
        await pay(me, request)
    assert again.value.status is first.value.status
    return first.value.status


async def balance(me: Me, number: int) -> int:
    found: int = (await me.account(number)).balance_minor
    return found


async def wait_balance(me: Me, number: int, minor: int) -> None:
    """Wait until the payee has it: the payer is answered as soon as it is decided."""
    async with asyncio.timeout(PATIENCE_S):
        while await balance(me, number) != minor:
            await asyncio.sleep(0.01)


# --- Paying ----------------------------------------------------------------------------------------------------------
async def test_a_customer_pays_by_number_and_by_name(town: Town) -> None:
    """The payee's bank answers the name before anything is sent; both have it in their books afterwards."""
    async with town.people(("a", "customer0"), ("b", "customer1")) as (payer, payee):
        before = await balance(payer, PAYER), await balance(payee, BANKER)
        found = await payer.resolve("b/customer1", "EUR")
        assert (found.number, found.name) == (BANKER, "customer1")
        first = await payer.pay(f"b/{BANKER}", "1.00 EUR", from_=PAYER, reference="Lunch")
        second = await payer.pay("b/customer1", "2.00 EUR", from_=PAYER)
        assert 0 < first.gateway_sequence < second.gateway_sequence
        assert second.balance_after.minor == before[0] - 300 == await balance(payer, PAYER)
        await wait_balance(payee, BANKER, before[1] + 300)
        with pytest.raises(Refused) as nobody:
            await payer.resolve("b/nobody", "EUR")
        assert nobody.value.status in (Status.customer_unknown, Status.credit_account_unknown)
        with pytest.raises(Refused) as no_bank:
            await payer.resolve("c/customer1", "EUR")
        assert no_bank.value.status is Status.payee_bank_unknown
        view = await payer.payment(first.id)
        assert (view.state, view.payer, view.payee) == ("done", f"a/{PAYER}", f"b/{BANKER}")
        assert view.reference == "Lunch" and view.gateway_sequence == first.gateway_sequence
        steps = [(step.bank, step.step) for step in view.steps]
        assert set(steps) == {
            *(("a", "held"), (GATEWAY, "intended"), ("b", "prepared")),
            *((GATEWAY, "decided"), ("a", "posted"), ("b", "posted")),
        }
        assert steps.index(("a", "held")) < steps.index(("b", "prepared")) < steps.index((GATEWAY, "decided"))


async def test_money_goes_both_ways(town: Town) -> None:
    """Each bank's position is what it was paid less what it paid."""
    async with (
        town.people(("a", "customer0"), ("b", "customer1"), (GATEWAY, ADMINISTRATOR)) as (one, other, admin),
    ):

        async def positions() -> dict[str, int]:
            return {view.bank: view.position_minor for view in (await admin.switching.positions()).positions}

        before = await positions()
        await pay(one, order(f"b/{BANKER}", 500))
        await pay(other, order(f"a/{PAYER}", 200, debit=BANKER))
        after = await positions()
        assert (after["a"] - before["a"], after["b"] - before["b"]) == (-300, 300)


async def test_the_same_payment_a_hundred_times_at_once_is_one(town: Town) -> None:
    """Over several connections; a repeat with another amount or payee is refused, before and after."""
    who = [("a", "customer0")] * 4
    async with town.people(*who, ("b", "customer1")) as (*payers, payee):
        before = await balance(payers[0], PAYER), await balance(payee, BANKER)
        request = order(f"b/{BANKER}", 700)
        answers = await asyncio.gather(*(pay(payers[n % 4], request) for n in range(100)))
        assert len({(answer.position, answer.gateway_sequence, answer.time_us) for answer in answers}) == 1
        assert sum(not answer.replayed for answer in answers) == 1
        assert await balance(payers[0], PAYER) == before[0] - 700
        await wait_balance(payee, BANKER, before[1] + 700)
        for other in (order(f"b/{BANKER}", 701, id=request.id), order(f"b/{SECOND}", 700, id=request.id)):
            assert await refused(payers[0], other) is Status.id_reused
        with pytest.raises(Refused):  # nor is it another's at the payee's bank, under the same id
            await pay(payee, order(f"a/{PAYER}", 700, debit=BANKER, id=request.id))


async def test_the_same_payment_sent_everywhere_is_one(town: Town) -> None:
    """To the payer's bank, to it through the gateway, and to the payee's bank, where the same order stays inside: the
    id is one payment's in both books, and only that one is done."""
    gate, node = town.nodes[GATEWAY], town.nodes["a"]
    through = f"fortress://{gate.host}:{gate.port}/a"
    async with (
        town.people(("a", "customer0"), ("b", "customer0"), ("b", "customer1")) as (direct, inside, payee),
        connect(through, ca=node.ca, path_ca=gate.ca, deadline_s=PATIENCE_S) as client,
    ):
        relayed = await client.login_with_seed("customer0", seed_of("customer0"))
        before = await balance(payee, BANKER), await balance(direct, EVERYWHERE), await balance(inside, EVERYWHERE)
        request = order(f"b/{BANKER}", 900, debit=EVERYWHERE)
        callers = [direct, relayed, inside, direct, relayed] * 20
        answers = await asyncio.gather(*(pay(me, request) for me in callers), return_exceptions=True)
        done = {answer.gateway_sequence > 0 for answer in answers if isinstance(answer, PaymentAnswer)}
        told = {answer.status for answer in answers if isinstance(answer, Refused)}
        assert len(done) == 1 and told == {Status.id_reused}, answers
        assert all(isinstance(answer, PaymentAnswer | Refused) for answer in answers)
        await wait_balance(payee, BANKER, before[0] + 900)
        taken = before[1] - await balance(direct, EVERYWHERE), before[2] - await balance(inside, EVERYWHERE)
        assert taken == ((900, 0) if done == {True} else (0, 900))


async def test_an_order_can_be_signed_and_can_come_too_late(town: Town) -> None:
    """An account that takes only signed orders pays with its owner's signature; what comes late is refused for good."""
    async with town.people(("a", "customer0"), ("a", ADMINISTRATOR), ("b", "customer1")) as (payer, admin, payee):
        await admin.administration.set_limits(SIGNED, signed_orders_only=True)
        before = await balance(payee, BANKER)
        assert await refused(payer, order(f"b/{BANKER}", debit=SIGNED)) is Status.order_signature_required
        done = await payer.pay(f"b/{BANKER}", "1.00 EUR", from_=SIGNED)
        assert done.gateway_sequence
        late = Pay(new_id(), f"b/{BANKER}", 100, "EUR", PAYER, not_after_us=1)
        assert await refused(payer, late) is Status.order_expired
        await wait_balance(payee, BANKER, before + 100)


# --- Refused ---------------------------------------------------------------------------------------------------------
async def test_what_a_bank_refuses_is_refused_for_good(town: Town) -> None:
    """Whichever bank it is, with its reason; the money is there again, and the same id is refused again."""
    async with town.people(("a", "customer0"), ("a", ADMINISTRATOR), ("b", ADMINISTRATOR), ("b", "customer0")) as (
        payer,
        admin_a,
        admin_b,
        payee,
    ):
        before = [await balance(payer, number) for number in (PAYER, LIMITED, FROZEN)]
        await admin_a.administration.set_limits(LIMITED, day_minor=50)
        await admin_a.administration.freeze(FROZEN)
        await payee.transfer(CLOSED, SPENDER, Money(OPENING_MINOR, "EUR"))
        await payee.close_account(CLOSED)
        await admin_b.administration.freeze(FROZEN)
        try:
            wanted = {
                order(f"b/{NOBODYS}"): Status.credit_account_unknown,
                order(f"b/{CLOSED}"): Status.credit_account_closed,
                order(f"b/{FROZEN}"): Status.credit_account_frozen,
                order(f"b/{CASH}"): Status.account_kind_not_allowed,
                order(f"b/{SETTLEMENT}"): Status.accounts_must_differ,
                order(f"b/{BANKER}", OPENING_MINOR + 1, debit=SPENDER): Status.exceeds_available,
                order(f"b/{BANKER}", 51, debit=LIMITED): Status.exceeds_limit_per_day,
                order(f"b/{BANKER}", debit=FROZEN): Status.debit_account_frozen,
                order(f"b/{BANKER}", debit=BANKER): Status.debit_account_unknown,
                order(f"b/{BANKER}", currency="USD"): Status.currency_unknown,
                order(f"c/{BANKER}"): Status.payee_bank_unknown,
            }
            for request, status in wanted.items():
                assert await refused(payer, request) is status
        finally:
            await admin_a.administration.unfreeze(FROZEN)
            await admin_b.administration.unfreeze(FROZEN)
        for request, status in wanted.items():
            if status in (Status.debit_account_frozen, Status.credit_account_frozen):
                assert await refused(payer, request) is status
        assert [await balance(payer, number) for number in (PAYER, LIMITED, FROZEN)] == before
        assert (await payer.account(PAYER)).held_minor == 0


@pytest.mark.parametrize("amount", [0, -100])
async def test_nothing_and_less_cannot_be_paid(town: Town, amount: int) -> None:
    """The order is not even read."""
    async with town.people(("a", "customer0")) as (payer,):
        with pytest.raises(MessageInvalid):
            await pay(payer, order(f"b/{BANKER}", amount))


async def test_no_plain_transfer_leaves_the_bank(town: Town) -> None:
    """The account through which payments go is nobody's to pay to or from."""
    async with town.people(("a", "customer0"), ("a", ADMINISTRATOR)) as (payer, admin):
        for me, debit, credit in ((payer, PAYER, SETTLEMENT), (admin, PAYER, SETTLEMENT), (admin, SETTLEMENT, PAYER)):
            with pytest.raises(Refused) as told:
                await me.transfer(debit, credit, "1.00 EUR")
            assert told.value.status is Status.account_kind_not_allowed


async def test_a_bank_cannot_owe_more_than_its_cap(town: Town) -> None:
    """The gateway refuses beyond it, for good; the payer has the money back."""
    async with town.people(("a", "customer0"), (GATEWAY, ADMINISTRATOR)) as (payer, admin):
        position = next(view for view in (await admin.switching.positions()).positions if view.bank == "a")
        left = position.position_minor + CAP_MINOR
        spenders = NUMBERS[8 : 8 + left // OPENING_MINOR + 1]
        answers = await asyncio.gather(
            *(pay(payer, order(f"b/{BANKER}", OPENING_MINOR, debit=number)) for number in spenders),
            return_exceptions=True,
        )
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        assert [answer.status for answer in failed if isinstance(answer, Refused)] == [Status.exceeds_debit_cap]
        assert len(failed) == 1
    async with town.people(("b", "customer1")) as (payee,):  # back, for the tests that follow
        await pay(payee, order(f"a/{PAYER}", OPENING_MINOR, debit=BANKER))


async def test_a_suspended_bank_neither_pays_nor_is_paid(town: Town) -> None:
    """The refusal repeats, also when it is let in again; then a new order is paid, and no money is held for the old."""
    async with town.people(("a", "customer0"), (GATEWAY, ADMINISTRATOR)) as (payer, admin):
        request, later = order(f"b/{BANKER}"), order(f"b/{BANKER}")
        await admin.switching.suspend_bank("b")
        try:
            async with asyncio.timeout(PATIENCE_S):
                while {bank.bank: bank.state for bank in await payer.banks()}["b"] != "suspended":
                    await asyncio.sleep(0.02)
            assert await refused(payer, request) is Status.bank_suspended
        finally:
            await admin.switching.suspend_bank("b", resume=True)
        await town.wait_connected()
        assert await refused(payer, request) is Status.bank_suspended
        assert not (await pay(payer, later)).replayed


# --- Without one of them ---------------------------------------------------------------------------------------------
async def test_a_payment_to_a_bank_that_is_down_goes_through_later(town: Town) -> None:
    """Nothing is held meanwhile; the same order is paid once the bank is back."""
    node = town.nodes["b"]
    request = order(f"b/{BANKER}", 300)
    async with town.people(("a", "customer0")) as (payer,):
        before = await payer.account(PAYER)
        await aside(node.kill)
        await town.wait_connected(["a"])
        with pytest.raises(BankUnreachable):
            await pay(payer, request)
        with pytest.raises(BankUnreachable):
            await payer.resolve("b/customer1", "EUR")
        after = await payer.account(PAYER)
        assert (after.balance_minor, after.held_minor) == (before.balance_minor, 0)
        await aside(node.spawn)
        await aside(node.wait_listening)
        await town.wait_connected()
        assert not (await pay(payer, request)).replayed
        assert await balance(payer, PAYER) == before.balance_minor - 300


async def test_a_bank_pays_within_itself_without_the_gateway(town: Town) -> None:
    """As ever; what would leave it is refused for now, and what was paid before is answered all the same."""
    node = town.nodes[GATEWAY]
    async with town.people(("a", "customer0")) as (payer,):
        done = order(f"b/{BANKER}")
        first = await pay(payer, done)
        await aside(node.kill)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                request = order(f"b/{BANKER}")
                try:
                    await pay(payer, request)
                except GatewayUnreachable:
                    break
                except RetryableError:  # the bank has not noticed yet
                    continue
        assert not (await pay(payer, order(f"a/{SECOND}"))).gateway_sequence
        assert (await payer.pay(str(SECOND), "1.00 EUR", from_=PAYER)).gateway_sequence == 0
        again = await pay(payer, done)
        assert (again.position, again.gateway_sequence, again.replayed) == (
            first.position,
            first.gateway_sequence,
            True,
        )
        await aside(node.spawn)
        await aside(node.wait_listening)
        await town.wait_connected()
        assert not (await pay(payer, request)).replayed


# --- Killed in the middle --------------------------------------------------------------------------------------------
class Load:
    """Callers who pay small sums from each bank to the other, and repeat each until they know what became of it.

    Attributes:
        paid: id and amount of what was done, by payer's bank.
        tries: how often a caller had to ask again.
    """

    def __init__(self, town: Town, seed: int) -> None:
        self.paid: dict[str, dict[bytes, int]] = {"a": {}, "b": {}}
        self.sequences: list[int] = []
        self.tries = 0
        self.is_over = False
        self._town = town
        self._random = random.Random(seed)
        self._callers = [asyncio.create_task(self._call("ab"[n % 2], n)) for n in range(CALLERS)]

    async def _call(self, bank: str, n: int) -> None:
        debit, credit = NUMBERS[20 + n], NUMBERS[40 + n]
        async with self._town.people((bank, "customer0"), deadline_s=2.0) as (me,):
            while not self.is_over:
                request = order(f"{'ba'['ab'.index(bank)]}/{credit}", self._random.randint(1, 9), debit=debit)
                answer = await self._until_known(me, request)
                self.paid[bank][request.id] = request.amount_minor
                self.sequences.append(answer.gateway_sequence)

    async def _until_known(self, me: Me, request: Pay) -> PaymentAnswer:
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await pay(me, request)
            except (RetryableError, OutcomeUnknown) as error:
                self.tries += 1
                assert time.monotonic() < end, f"{request.id.hex()} is not known yet: {error!r}"
                await asyncio.sleep(0.05)

    @property
    def count(self) -> int:
        return sum(map(len, self.paid.values()))

    async def more(self, count: int) -> None:
        """Wait until so many more are paid."""
        wanted = self.count + count
        async with asyncio.timeout(2 * PATIENCE_S):
            while self.count < wanted:
                for caller in self._callers:
                    if caller.done():
                        caller.result()
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        """Let all finish what they began."""
        self.is_over = True
        await asyncio.gather(*self._callers)


@pytest.mark.parametrize("victim", ["a", "b", GATEWAY])
async def test_who_is_killed_under_load_loses_and_doubles_nothing(town: Town, victim: str) -> None:
    """Every order is paid once whoever dies meanwhile, and in the end all three books say the same."""
    before = await town.books()
    load = Load(town, seed=7)
    try:
        await load.more(50)
        await aside(town.nodes[victim].kill)
        await aside(town.nodes[victim].spawn)
        await aside(town.nodes[victim].wait_listening)
        await load.more(50)
    finally:
        await load.end()
    after = await town.books()
    after.check()
    assert len(set(load.sequences)) == load.count
    moved = {bank: sum(load.paid[bank].values()) for bank in "ab"}
    assert after.settlements["a"] - before.settlements["a"] == moved["a"] - moved["b"]
    async with town.people(("a", "customer0"), ("b", "customer0")) as people:
        for me, bank in zip(people, "ab", strict=True):
            for id in random.Random(7).sample(sorted(load.paid[bank]), 5):
                view = await me.payment(id)
                assert (view.state, view.amount_minor) == ("done", load.paid[bank][id])
