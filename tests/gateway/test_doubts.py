"""Where payments stand, as payers, payees and staff see them; those in doubt, and ending one by hand."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, TypeVar

import pytest

from fortress.errors import (
    BankUnreachable,
    Busy,
    GatewayUnreachable,
    MessageInvalid,
    PaymentUnfinished,
    Refused,
    Status,
)
from fortress.gateway.doubts import BankDoubts, SwitchDoubts
from fortress.gateway.participant import attempt_id
from fortress.gateway.payment import Payment
from fortress.gateway.questions import StepsOf
from fortress.ledger.commands import MoveMoney, PlacePayment
from fortress.ledger.entries import HoldReleased, Posted
from fortress.ledger.model import Actor, TransferKind
from fortress.protocol.payments import GetPayment, ListPayments, PaymentStep, ResolvePayment
from fortress.server.bank import new_id, now_us
from tests.gateway.books import BANK, OTHER, STAFF, Asked, Side, bank_side, one_side, two_sides

LINE = "fortress.gateway.doubts"
GATEWAY = "gateway"
STRANGER = Actor(10**7, frozenset(("customer",)))
Fields = TypeVar("Fields")
UNREACHABLE = BankUnreachable.code


class AtBank:
    """A bank's doubts, and a gateway that answers as the test says."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.away_s = 3600.0
        self.told: list[PaymentStep] | None = None
        self.asked: list[Any] = []
        self.dropped: list[bytes] = []
        self.doubts = BankDoubts(
            side.bank,
            gateway=GATEWAY,
            ask=self._ask,
            away_s=lambda: self.away_s,
            drop=self.dropped.append,
        )

    async def _ask(self, about: str, fields: object, type: type[Fields]) -> Fields:
        self.asked.append((about, fields))
        if self.told is None:
            raise GatewayUnreachable
        answer: Any = self.told
        return answer

    async def refused(self, actor: Actor, id: bytes) -> Status:
        with pytest.raises(Refused) as caught:
            await self.doubts.payment(actor, GetPayment(id))
        return caught.value.status

    async def listed(self, actor: Actor, **more: Any) -> list[bytes]:
        return [view.id for view in (await self.doubts.payments(actor, ListPayments(**more))).payments]


async def fail(side: Side, payment: bytes, attempts: int, reason: int = UNREACHABLE) -> None:
    """Give up the first attempts of a payment of Alice."""
    for number in range(attempts):
        await side.hold_out(attempt_id(payment, number))
        await side.abort(attempt_id(payment, number), reason)


# --- one payment ------------------------------------------------------------------------------------------------------


async def test_a_payer_sees_where_a_payment_stands(tmp_path: Path) -> None:
    """Held, then done, with both steps, the other side's account, and the gateway's number."""
    async with bank_side(tmp_path) as side:
        at, id, alice = AtBank(side), new_id(), await side.actor("alice")
        await side.hold_out(id, 250)
        view = await at.doubts.payment(alice, GetPayment(id))
        assert (view.state, view.payer, view.payee) == ("pending", f"{BANK}/{side.alice}", f"{OTHER}/555")
        assert (view.amount_minor, view.currency, view.reference, view.missing) == (250, "EUR", "Lunch", [GATEWAY])
        await side.commit(id, 88)
        view = await at.doubts.payment(alice, GetPayment(id))
        assert (view.state, view.gateway_sequence, view.missing, view.act) == ("done", 88, [], "")
        assert [(step.bank, step.step) for step in view.steps] == [(BANK, "held"), (BANK, "posted")]
        assert [step.time_us for step in view.steps] == sorted(step.time_us for step in view.steps)


async def test_a_payee_sees_a_payment_that_came(tmp_path: Path) -> None:
    """From the payee's side it was prepared, and the payer is the other bank's account."""
    async with bank_side(tmp_path) as side:
        at, id = AtBank(side), new_id()
        await side.hold_in(id)
        view = await at.doubts.payment(await side.actor("bob"), GetPayment(id))
        assert (view.payer, view.payee) == (f"{OTHER}/555", f"{BANK}/{side.bob}")
        assert [step.step for step in view.steps] == ["prepared"]


async def test_what_is_somebody_elses_does_not_exist(tmp_path: Path) -> None:
    """The answer to a stranger is that to an id of nothing; staff see everything."""
    async with bank_side(tmp_path) as side:
        at, out, came, refused, transfer = AtBank(side), new_id(), new_id(), new_id(), new_id()
        alice, bob = await side.actor("alice"), await side.actor("bob")
        await side.hold_out(out)
        await side.hold_in(came)
        await side.bank.commit(PlacePayment(alice, refused, side.alice, side.settlement, 10**9, "EUR", "x/55"))
        kind = int(TransferKind.transfer)
        await side.do(MoveMoney(alice, kind, transfer, side.alice, side.bob, 1, "EUR"))
        for id in (new_id(), out, came, refused, transfer):
            assert await at.refused(STRANGER, id) is Status.payment_unknown
        assert await at.refused(bob, out) is Status.payment_unknown
        assert await at.refused(alice, came) is Status.payment_unknown
        assert await at.refused(bob, refused) is Status.payment_unknown
        for id in (out, came, refused, transfer):
            assert (await at.doubts.payment(STAFF, GetPayment(id))).id == id
        assert (await at.doubts.payment(alice, GetPayment(refused))).reason == "exceeds_available"


async def test_a_payment_within_the_bank_is_shown_as_well(tmp_path: Path) -> None:
    """It never went anywhere: one step, to its payer and its payee alike."""
    async with bank_side(tmp_path) as side:
        at, id, alice = AtBank(side), new_id(), await side.actor("alice")
        await side.do(MoveMoney(alice, int(TransferKind.transfer), id, side.alice, side.bob, 70, "EUR", "Rent"))
        for actor in (alice, await side.actor("bob"), STAFF):
            view = await at.doubts.payment(actor, GetPayment(id))
            assert (view.state, view.payer, view.payee) == ("done", f"{BANK}/{side.alice}", f"{BANK}/{side.bob}")
            assert [step.step for step in view.steps] == ["posted"]


@pytest.mark.parametrize("attempts", [1, 2, 3, 5, 9, 20])
async def test_further_attempts_are_found_and_shown(tmp_path: Path, attempts: int) -> None:
    """The state is that of the last attempt; of many, the first and the last few are shown."""
    async with bank_side(tmp_path) as side:
        at, id, alice = AtBank(side), new_id(), await side.actor("alice")
        await fail(side, id, attempts - 1)
        await side.hold_out(attempt_id(id, attempts - 1))
        first = await at.doubts.payment(alice, GetPayment(id))
        assert (first.state, first.attempt) == ("pending", attempts - 1)
        await side.commit(attempt_id(id, attempts - 1), 9)
        view = await at.doubts.payment(alice, GetPayment(id))
        assert (view.id, view.state, view.attempt, view.reason) == (id, "done", attempts - 1, "")
        assert len(view.steps) == 2 * min(attempts, 4)
        assert {step.reason for step in view.steps if step.step == "voided"} <= {"bank_unreachable"}
        assert view.since_us == view.steps[0].time_us == first.since_us


async def test_a_payment_that_failed_says_why(tmp_path: Path) -> None:
    """A rule's refusal is final, a lack of infrastructure invites another try."""
    async with bank_side(tmp_path) as side:
        at, refused, given_up, alice = AtBank(side), new_id(), new_id(), await side.actor("alice")
        await fail(side, refused, 1, int(Status.credit_account_closed))
        await fail(side, given_up, 2)
        views = [await at.doubts.payment(alice, GetPayment(id)) for id in (refused, given_up)]
        assert [(view.state, view.reason) for view in views] == [
            ("refused", "credit_account_closed"),
            ("given_up", "bank_unreachable"),
        ]


async def test_the_steps_of_everybody_are_put_in_order(tmp_path: Path) -> None:
    """The gateway is asked about the last attempt; what it says of this bank itself is left out."""
    async with bank_side(tmp_path) as side:
        at, id, alice = AtBank(side), new_id(), await side.actor("alice")
        await fail(side, id, 1)
        await side.hold_out(attempt_id(id, 1))
        at.told = [PaymentStep(GATEWAY, "intended", now_us()), PaymentStep(BANK, "held", 1), PaymentStep(OTHER, "x", 2)]
        view = await at.doubts.payment(alice, GetPayment(id, everywhere=True))
        assert at.asked == [("steps", StepsOf(attempt_id(id, 1), True))]
        assert [(step.bank, step.step) for step in view.steps] == [
            (OTHER, "x"),
            (BANK, "held"),
            (BANK, "voided"),
            (BANK, "held"),
            (GATEWAY, "intended"),
        ]


async def test_a_gateway_that_cannot_be_asked_is_missing(tmp_path: Path) -> None:
    """What this bank knows is shown all the same."""
    async with bank_side(tmp_path) as side:
        at, id = AtBank(side), new_id()
        await side.hold_out(id)
        await side.commit(id, 5)
        view = await at.doubts.payment(STAFF, GetPayment(id, everywhere=True))
        assert (view.state, view.missing, len(view.steps)) == ("done", [GATEWAY], 2)


async def test_a_bank_tells_the_gateway_its_own_steps(tmp_path: Path) -> None:
    """Of what it does not know it tells nothing."""
    async with bank_side(tmp_path) as side:
        at, id = AtBank(side), new_id()
        await side.hold_in(id)
        assert [step.step for step in await at.doubts.steps(StepsOf(id))] == ["prepared"]
        assert await at.doubts.steps(StepsOf(new_id())) == []


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_a_customer_lists_their_own_payments(tmp_path: Path) -> None:
    """Newest first, attempts of one payment in one row, and nobody else's; a payee sees nothing of what never came."""
    async with bank_side(tmp_path) as side:
        at, alice, bob = AtBank(side), await side.actor("alice"), await side.actor("bob")
        one, two, tried, came, never = (new_id() for _ in range(5))
        await side.hold_out(one)
        await fail(side, tried, 6)
        await side.hold_out(two)
        await side.hold_in(came)
        await side.hold_in(never)
        await side.abort(never, UNREACHABLE)
        await side.hold_out(new_id(), payer="bob")
        assert await at.listed(alice) == [two, tried, one]
        assert (await at.listed(bob))[1:] == [came]
        assert await at.listed(STRANGER) == []


async def test_a_list_is_read_page_by_page(tmp_path: Path) -> None:
    """Pages follow each other without gaps, also where one ends with attempts of a payment."""
    async with bank_side(tmp_path) as side:
        at, alice = AtBank(side), await side.actor("alice")
        ids = [new_id() for _ in range(7)]
        for number, id in enumerate(ids):
            if number == 3:
                await fail(side, id, 4)
            else:
                await side.hold_out(id)
        found: list[bytes] = []
        cursor, pages = 0, 0
        while True:
            answer = await at.doubts.payments(alice, ListPayments(cursor=cursor, limit=2))
            found += [view.id for view in answer.payments]
            pages += 1
            if not (cursor := answer.cursor):
                break
        assert found == ids[::-1]
        assert pages <= 5


async def test_staff_list_what_is_in_doubt(tmp_path: Path) -> None:
    """Open legs of both sides, the oldest first, with who is missing and what may be done; customers may not."""
    async with bank_side(tmp_path) as side:
        at, out, came, done = AtBank(side), new_id(), new_id(), new_id()
        await side.hold_out(out, 10)
        await side.hold_in(came, 20)
        await side.hold_out(done)
        await side.commit(done, 1)
        views = (await at.doubts.payments(STAFF, ListPayments(in_doubt=True))).payments
        assert [(view.id, view.amount_minor, view.missing) for view in views] == [
            (out, 10, [GATEWAY]),
            (came, 20, [GATEWAY]),
        ]
        assert views[0].since_us <= views[1].since_us <= now_us()
        assert views[0].act.startswith("wait for the gateway; by hand only")
        at.away_s = 1.0
        assert (
            (await at.doubts.payments(STAFF, ListPayments(in_doubt=True, limit=1))).payments[0].act.startswith("none")
        )
        with pytest.raises(Refused):
            await at.doubts.payments(await side.actor("alice"), ListPayments(in_doubt=True))


# --- by hand at a bank ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("act", "kind"), [("commit", Posted), ("abort", HoldReleased)])
async def test_a_leg_is_ended_by_hand(tmp_path: Path, act: str, kind: type, caplog: pytest.LogCaptureFixture) -> None:
    """Once, repeatably, with the name of who did it in the journal and in the log."""
    async with bank_side(tmp_path) as side:
        at, id = AtBank(side), new_id()
        await side.hold_out(id)
        with caplog.at_level(logging.WARNING, LINE):
            done = await at.doubts.resolve_payment(STAFF, ResolvePayment(new_id(), id, act))
            again = await at.doubts.resolve_payment(STAFF, ResolvePayment(new_id(), id, act))
        assert (done.replayed, again.replayed, again.position) == (False, True, done.position)
        assert at.dropped == [id, id]
        entries = await side.bank.payment_entries(id)
        assert isinstance(entries[1][1], kind)
        assert entries[1][1].actor == STAFF.customer
        assert [record.__dict__["fields"]["act"] for record in caplog.records] == [act]
        other = "abort" if act == "commit" else "commit"
        with pytest.raises(Refused) as caught:
            await at.doubts.resolve_payment(STAFF, ResolvePayment(new_id(), id, other))
        assert caught.value.status is Status.payment_already_decided


async def test_a_leg_aborted_by_hand_is_refused_for_good(tmp_path: Path) -> None:
    """No other attempt may be begun: the first one may have been paid elsewhere."""
    async with bank_side(tmp_path) as side:
        at, id, alice = AtBank(side), new_id(), await side.actor("alice")
        await side.hold_out(id)
        await at.doubts.resolve_payment(STAFF, ResolvePayment(new_id(), id, "abort"))
        view = await at.doubts.payment(alice, GetPayment(id))
        assert (view.state, view.reason) == ("refused", "payment_given_up")


async def test_nobody_guesses_while_the_gateway_may_be_back_at_once(tmp_path: Path) -> None:
    """It tells the outcome by itself; what has ended may be asked for again all the same."""
    async with bank_side(tmp_path) as side:
        at, id = AtBank(side), new_id()
        at.away_s = 1.0
        await side.hold_out(id)
        request = ResolvePayment(new_id(), id, "abort")
        with pytest.raises(Busy, match="by itself"):
            await at.doubts.resolve_payment(STAFF, request)
        await side.abort(id, UNREACHABLE)
        assert (await at.doubts.resolve_payment(STAFF, request)).replayed
        with pytest.raises(Refused) as caught:
            await at.doubts.resolve_payment(STAFF, ResolvePayment(new_id(), new_id(), "abort"))
        assert caught.value.status is Status.payment_unknown


async def test_an_outcome_that_contradicts_a_hand_is_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The gateway decided otherwise: an error in the log, and a payment in doubt with what to do."""
    async with bank_side(tmp_path) as side:
        at, paid, unpaid = AtBank(side), new_id(), new_id()
        for id, act in ((paid, "abort"), (unpaid, "commit")):
            await side.hold_out(id)
            await at.doubts.resolve_payment(STAFF, ResolvePayment(new_id(), id, act))
        with caplog.at_level(logging.ERROR, LINE):
            at.doubts.contradicted(paid, sequence=31, reason=0)
            at.doubts.contradicted(unpaid, sequence=0, reason=PaymentUnfinished.code)
            at.doubts.contradicted(new_id(), sequence=5, reason=0)
        views = (await at.doubts.payments(STAFF, ListPayments(in_doubt=True))).payments
        assert [view.id for view in views] == [paid, unpaid]
        assert "paid, sequence 31" in views[0].act and "not paid, payment_unfinished" in views[1].act
        assert [record.levelname for record in caplog.records].count("ERROR") == 3


# --- a gateway --------------------------------------------------------------------------------------------------------


class Machine:
    """A payment under way at the gateway, as far as it is looked at here."""

    def __init__(self, *missing: str) -> None:
        self.missing = missing
        self.reasons: list[int] = []

    def give_up(self, reason: int) -> bool:
        self.reasons.append(reason)
        return True


def at_gateway(side: Side, asked: Asked | None = None, **machines: Any) -> SwitchDoubts:
    under_way: dict[bytes, Any] = {bytes.fromhex(id[1:]): machine for id, machine in machines.items()}
    return SwitchDoubts(side.bank, ask=asked or Asked(), machines=under_way)


def name_of(id: bytes) -> str:
    return f"x{id.hex()}"


async def test_a_gateway_shows_a_payment_with_the_steps_of_both_banks(tmp_path: Path) -> None:
    """Its own by itself; with everybody's, those of a bank that cannot be asked are left out."""
    async with two_sides(tmp_path) as (gateway, bank):
        await gateway.become_gateway()
        id = new_id()
        await bank.hold_out(id)
        await gateway.clear(id=id)
        asked = Asked()
        member = AtBank(bank)
        asked.answer(BANK, "steps", lambda fields: member.doubts.steps(StepsOf(id)))
        doubts = at_gateway(gateway, asked)
        own = await doubts.payment(STAFF, GetPayment(id))
        assert (own.state, own.payer, own.payee) == ("done", f"{BANK}/111", f"{OTHER}/555")
        assert [step.step for step in own.steps] == ["intended", "decided"]
        assert own.gateway_sequence == own.steps[1].position
        everywhere = await doubts.payment(STAFF, GetPayment(id, everywhere=True))
        assert [step.step for step in everywhere.steps] == ["held", "intended", "decided"]
        for actor, wanted in ((STRANGER, id), (STAFF, new_id())):
            with pytest.raises(Refused) as caught:
                await doubts.payment(actor, GetPayment(wanted))
            assert caught.value.status is Status.payment_unknown


async def test_a_gateway_shows_what_it_refused(tmp_path: Path) -> None:
    """A tombstone has a reason and no banks to ask."""
    async with one_side(tmp_path / "gateway") as gateway:
        await gateway.become_gateway()
        id = new_id()
        await gateway.abort(id, UNREACHABLE)
        view = await at_gateway(gateway).payment(STAFF, GetPayment(id, everywhere=True))
        assert (view.state, view.reason, [step.step for step in view.steps]) == (
            *("given_up", "bank_unreachable"),
            ["refused"],
        )


async def test_a_bank_learns_the_steps_of_its_own_payments_only(tmp_path: Path) -> None:
    """Whoever has no part in a payment learns nothing, not even that there is one."""
    async with two_sides(tmp_path) as (gateway, bank):
        await gateway.become_gateway()
        id, refused = new_id(), new_id()
        await bank.hold_in(id)
        await gateway.clear(id=id, payer=OTHER)
        await gateway.abort(refused, UNREACHABLE)
        asked = Asked()
        member = AtBank(bank)
        asked.answer(BANK, "steps", lambda fields: member.doubts.steps(StepsOf(id)))
        doubts = at_gateway(gateway, asked)
        assert [s.step for s in await doubts.steps(OTHER, StepsOf(id))] == ["intended", "decided"]
        told = await doubts.steps(OTHER, StepsOf(id, everywhere=True))
        assert [s.step for s in told] == ["intended", "decided", "prepared"]
        assert await doubts.steps("third", StepsOf(id)) == []
        assert await doubts.steps(BANK, StepsOf(new_id())) == []
        assert [s.reason for s in await doubts.steps(OTHER, StepsOf(refused))] == ["bank_unreachable"]


async def test_a_gateway_lists_who_is_missing(tmp_path: Path) -> None:
    """Undecided payments may be aborted, decided ones only waited for; what all carried out is not listed."""
    async with one_side(tmp_path / "gateway") as gateway:
        await gateway.become_gateway()
        undecided, decided, done = new_id(), new_id(), new_id()
        await gateway.intend(undecided)
        await gateway.clear(id=decided)
        await gateway.clear(id=done)
        machines = {
            name_of(undecided): Machine(OTHER),
            name_of(decided): Machine(BANK, OTHER),
            name_of(done): Machine(),
            name_of(new_id()): Machine(BANK),
        }
        doubts = at_gateway(gateway, **machines)
        views = (await doubts.payments(STAFF, ListPayments(in_doubt=True))).payments
        assert [(view.id, view.state, view.missing, view.act.split(":")[0]) for view in views] == [
            (undecided, "pending", [OTHER], "abort"),
            (decided, "done", [BANK, OTHER], "none"),
        ]
        with pytest.raises(Refused):
            await doubts.payments(STRANGER, ListPayments(in_doubt=True))


async def test_a_gateway_aborts_by_hand_what_is_not_decided(tmp_path: Path) -> None:
    """The decision is in the ledger with who made it, and the machine that tells the banks is woken."""
    async with one_side(tmp_path / "gateway") as gateway:
        await gateway.become_gateway()
        id, alone, machine = new_id(), new_id(), Machine(OTHER)
        await gateway.intend(id)
        await gateway.intend(alone)
        doubts = at_gateway(gateway, **{name_of(id): machine})
        await doubts.resolve_payment(STAFF, ResolvePayment(new_id(), id, "abort"))
        await doubts.resolve_payment(STAFF, ResolvePayment(new_id(), alone, "abort"))
        assert machine.reasons == [PaymentUnfinished.code]
        entries = await gateway.bank.payment_entries(id)
        assert (entries[1][1].reason, entries[1][1].actor) == (PaymentUnfinished.code, STAFF.customer)


async def test_a_gateway_takes_no_decision_back(tmp_path: Path) -> None:
    """Nothing is committed by hand there, what is decided stays, and an unknown id leaves no trace."""
    async with one_side(tmp_path / "gateway") as gateway:
        await gateway.become_gateway()
        undecided, unknown = new_id(), new_id()
        await gateway.intend(undecided)
        decided, _ = await gateway.clear()
        doubts = at_gateway(gateway)
        with pytest.raises(MessageInvalid):
            await doubts.resolve_payment(STAFF, ResolvePayment(new_id(), undecided, "commit"))
        for id, act, status in (
            (decided, "abort", Status.payment_already_decided),
            (decided, "commit", Status.payment_already_decided),
            (unknown, "abort", Status.payment_unknown),
        ):
            with pytest.raises(Refused) as caught:
                await doubts.resolve_payment(STAFF, ResolvePayment(new_id(), id, act))
            assert caught.value.status is status
        assert await gateway.bank.known(unknown) is None


def test_a_machine_of_the_gateway_is_what_is_looked_at_here() -> None:
    """The stand-in above has what the real machine has."""
    assert isinstance(Payment.missing, property) and callable(Payment.give_up)
