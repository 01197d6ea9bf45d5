"""A bank's side of payments between banks, on a real node: paid once, refused once, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fortress.errors import (
    BankUnreachable,
    Busy,
    DeadlinePassed,
    GatewayUnreachable,
    MessageInvalid,
    NotPrimary,
    OutcomeUnknown,
    PaymentUnfinished,
    Refused,
    Status,
    UnknownOperation,
)
from fortress.gateway import member as member_module
from fortress.gateway import member_legs, member_ports, participant
from fortress.gateway.messages import Acknowledge, Directory, Inquire, Outcome, Submit, Vote
from fortress.gateway.participant import attempt_id
from fortress.gateway.questions import LEAVES, RESOLVE, ROOT, STEPS, StepsOf, WhoIs
from fortress.protocol.accounts import ResolveAnswer
from fortress.protocol.payments import GetPayment, PaymentStep
from fortress.server.bank import new_id, now_us
from tests.gateway.gateways import FakeGateway, bank_state, gateway
from tests.gateway.members import (
    AWAY,
    LONG_MS,
    LONGER_US,
    OPENING_MINOR,
    SHORT_MS,
    Answer,
    done,
    member,
    serving_member,
    within,
)
from tests.server.banks import BANK, until

AGAIN = PaymentUnfinished.code


def refused(answer: Answer, status: Status) -> Refused:
    assert isinstance(answer, Refused), repr(answer)
    assert answer.status is status
    return answer


async def nowhere() -> FakeGateway:
    """A gateway that is down."""
    async with gateway() as found:
        return found


# --- Paying ----------------------------------------------------------------------------------------------------------
async def test_a_payment_is_held_submitted_and_answered_when_it_is_decided(tmp_path: Path) -> None:
    """The money is held before the gateway hears of it; the answer is that of this bank's own books."""
    async with member(tmp_path) as bank:
        command = bank.command(reference="Lunch")
        answer = bank.pay(command)
        submit = await bank.submitted()
        assert submit == Submit(command.id, bank.a, "bank-b", 1000101, 500, "EUR", "Lunch")
        assert bank.stand(bank.a) == (OPENING_MINOR, 500, 0)
        await bank.decide(submit.id, 7)
        paid = done(await within(answer))
        assert (paid.balance_minor, paid.gateway_sequence, paid.replayed) == (9_500, 7, False)
        assert paid.position == bank.position
        assert bank.stand(bank.a) == (9_500, 0, 0)
        told = bank.member.statistics()["gateway"]
        assert told.pop("since_s") >= 0
        assert told == {
            "bank": "gateway",
            "connected": True,
            "epoch": 1,
            "payments_open": 0,
            "payers_waiting": 0,
            "disputes": 0,
        }


async def test_customers_pay_over_the_wire(tmp_path: Path) -> None:
    """The whole way in and out, once more and again with the same id."""
    from fortress.protocol.payments import Pay

    async with member(tmp_path) as bank:
        alice = await bank.sign_in("alice")
        request = Pay(new_id(), AWAY, 500, "EUR")
        asked = asyncio.create_task(alice.ask("pay", request))
        await bank.decide((await bank.submitted()).id, 7)
        first = await asked
        assert (first.balance_minor, first.gateway_sequence, first.replayed) == (9_500, 7, False)
        again = await alice.ask("pay", request)
        assert (again.position, again.time_us, again.balance_minor) == (first.position, first.time_us, 9_500)
        assert (again.gateway_sequence, again.replayed) == (7, True)
        assert (await alice.ask("payment", GetPayment(request.id))).state == "done"


async def test_the_same_payment_a_hundred_times_at_once_is_one(tmp_path: Path) -> None:
    """One hold, one submission, and everybody is told the same."""
    async with member(tmp_path) as bank:
        command = bank.command()
        answers = [bank.pay(command) for _ in range(100)]
        await bank.decide((await bank.submitted()).id, 7)
        told = [done(await within(answer)) for answer in answers]
        assert {paid.position for paid in told} == {bank.position}
        assert sorted(paid.replayed for paid in told) == [False] + 99 * [True]
        assert bank.gateway.take(Submit) == []
        assert bank.stand(bank.a) == (9_500, 0, 0)


async def test_a_repeat_with_another_content_is_refused(tmp_path: Path) -> None:
    """While it is under way and when it is done; the payment itself goes on."""
    async with member(tmp_path) as bank:
        command = bank.command()
        answer = bank.pay(command)
        submit = await bank.submitted()
        others = [bank.command(501, id=command.id), bank.command(500, "bank-b/1000202", id=command.id)]
        for other in others:
            refused(await within(bank.pay(other)), Status.id_reused)
        await bank.decide(submit.id, 7)
        done(await within(answer))
        for other in others:
            refused(await within(bank.pay(other)), Status.id_reused)
        assert bank.gateway.take(Submit) == []


async def test_what_the_rules_refuse_never_leaves_the_bank(tmp_path: Path) -> None:
    """It is remembered and repeats; the gateway hears nothing of it."""
    async with member(tmp_path) as bank:
        command = bank.command(OPENING_MINOR + 1)
        for _ in range(2):
            answer = refused(await within(bank.pay(command)), Status.exceeds_available)
            assert answer.facts == {"available_minor": OPENING_MINOR, "needed_minor": OPENING_MINOR + 1}
        late = bank.command(not_after_us=now_us() - 1)
        refused(await within(bank.pay(late)), Status.order_expired)
        assert bank.gateway.take(Submit) == []


async def test_a_refusal_elsewhere_frees_the_money_and_repeats(tmp_path: Path) -> None:
    """Also after a restart; it is not tried again."""
    async with gateway() as found:
        async with serving_member(tmp_path, found) as bank:
            command = bank.command()
            answer = bank.pay(command)
            await bank.decide((await bank.submitted()).id, 0, Status.credit_account_unknown)
            refused(await within(answer), Status.credit_account_unknown)
            assert bank.stand(bank.a) == (OPENING_MINOR, 0, 0)
        async with serving_member(tmp_path, found) as bank:
            refused(await within(bank.pay(command)), Status.credit_account_unknown)
            assert found.take(Submit) == []


async def test_a_payment_given_up_is_tried_again_while_the_customer_waits(tmp_path: Path) -> None:
    """Each attempt has an id of its own and begins only when the one before is over here."""
    async with member(tmp_path) as bank:
        command = bank.command()
        answer = bank.pay(command)
        for attempt in range(3):
            submit = await bank.submitted()
            assert submit.id == attempt_id(command.id, attempt)
            assert bank.stand(bank.a) == (OPENING_MINOR, 500, 0)
            if attempt < 2:
                await bank.decide(submit.id, 0, AGAIN)
        await bank.decide(submit.id, 9)
        paid = done(await within(answer))
        assert (paid.gateway_sequence, paid.replayed) == (9, False)
        again = done(await within(bank.pay(command)))
        assert (again.position, again.gateway_sequence, again.replayed) == (paid.position, 9, True)
        assert bank.stand(bank.a) == (9_500, 0, 0)


async def test_an_attempt_may_be_refused_where_the_first_one_was_not(tmp_path: Path) -> None:
    """Money was spent in between: that refusal is the payment's answer from then on."""
    async with member(tmp_path) as bank:
        command = bank.command(OPENING_MINOR)
        answer = bank.pay(command)
        first = await bank.submitted()
        alice = await bank.sign_in("alice")
        bank.gateway.send(Outcome(first.id, 0, AGAIN))
        await bank.gateway.wait(Acknowledge)
        await alice.transfer(bank.a, bank.b, "1.00 EUR")
        refused(await within(answer), Status.exceeds_available)
        refused(await within(bank.pay(command)), Status.exceeds_available)
        assert bank.gateway.take(Submit) == []


# --- Not knowing -----------------------------------------------------------------------------------------------------
async def test_a_customer_is_told_when_the_outcome_is_not_known_in_time(tmp_path: Path) -> None:
    """The money stays held; a repeat waits again, and gets the outcome when it comes."""
    async with member(tmp_path, gateway__wait_ms="100") as bank:
        command = bank.command()
        answer = bank.pay(command)
        submit = await bank.submitted()
        assert isinstance(await within(answer), OutcomeUnknown)
        assert isinstance(await within(bank.pay(command)), OutcomeUnknown)
        assert bank.stand(bank.a) == (OPENING_MINOR, 500, 0)
        bank.set_patience(LONG_MS)
        again = bank.pay(command)
        await bank.decide(submit.id, 7)
        assert done(await within(again)).gateway_sequence == 7
        assert bank.stand(bank.a) == (9_500, 0, 0)


async def test_a_customer_learns_why_the_last_attempt_was_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the time left is too short for another one; nothing is open then, and a repeat begins the next."""
    monkeypatch.setattr(participant, "ATTEMPT_PAUSE_FIRST_US", LONGER_US)
    async with member(tmp_path) as bank:
        command = bank.command()
        answer = bank.pay(command)
        await bank.decide((await bank.submitted()).id, 0, BankUnreachable.code)
        assert isinstance(await within(answer), BankUnreachable)
        assert bank.stand(bank.a) == (OPENING_MINOR, 0, 0)
        again = bank.pay(command)
        submit = await bank.submitted()
        assert submit.id == attempt_id(command.id, 1)
        await bank.decide(submit.id, 7)
        assert done(await within(again)).gateway_sequence == 7


async def test_an_open_payment_is_submitted_until_its_outcome_is_told(tmp_path: Path) -> None:
    """By the clock, and at once when the link was gone."""
    async with member(tmp_path) as bank:
        answer = bank.pay(bank.command())
        first = await bank.submitted()
        assert await bank.submitted() == first
        bank.gateway.hang_up()
        await until(lambda: len(bank.gateway.registered) == 2, "registered again")
        assert await bank.submitted() == first
        await bank.decide(first.id, 7)
        done(await within(answer))


async def test_an_outcome_told_again_is_acknowledged_again(tmp_path: Path) -> None:
    """The acknowledgement may have been lost; the books do not change."""
    async with member(tmp_path) as bank:
        answer = bank.pay(bank.command())
        submit = await bank.submitted()
        await bank.decide(submit.id, 7)
        position = done(await within(answer)).position
        await bank.decide(submit.id, 7)
        assert bank.position == position


# --- Without a way ---------------------------------------------------------------------------------------------------
async def test_without_a_gateway_nothing_is_begun(tmp_path: Path) -> None:
    """The customer is told at once, and nothing of it is in the journal; questions are answered alike."""
    async with serving_member(tmp_path, await nowhere(), is_linked=False) as bank:
        before = bank.position
        for command in (bank.command(), bank.command(id=bytes(16))):
            assert isinstance(await within(bank.pay(command)), GatewayUnreachable)
        assert bank.position == before
        for question in (bank.member.resolve("bank-b", "ines", "EUR"), bank.member.banks()):
            with pytest.raises(GatewayUnreachable):
                await question


async def test_what_was_begun_is_answered_without_a_gateway_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done or refused repeats; what is open is not known; what was given up is not begun again."""
    monkeypatch.setattr(participant, "ATTEMPT_PAUSE_FIRST_US", LONGER_US)
    async with gateway() as found, serving_member(tmp_path, found) as bank:
        paid, denied, open_one, given_up = (bank.command(amount) for amount in (100, 200, 300, 400))
        first = await bank.paid(paid)
        for command, reason in ((denied, int(Status.credit_account_closed)), (given_up, AGAIN)):
            answer = bank.pay(command)
            await bank.decide((await bank.submitted()).id, 0, reason)
            await within(answer)
        bank.set_patience(SHORT_MS)
        await within(bank.pay(open_one))
        await found.stop()
        await until(lambda: not bank.member.statistics()["gateway"]["connected"], "the link is lost")
        before = bank.position
        bank.set_patience(LONG_MS)
        assert done(await within(bank.pay(paid))).position == first.position
        refused(await within(bank.pay(denied)), Status.credit_account_closed)
        bank.set_patience(SHORT_MS)
        assert isinstance(await within(bank.pay(open_one)), OutcomeUnknown)
        bank.set_patience(LONG_MS)
        assert isinstance(await within(bank.pay(given_up)), GatewayUnreachable)
        refused(await within(bank.pay(bank.command(101, id=paid.id))), Status.id_reused)
        assert bank.position == before


async def test_a_bank_that_has_just_gone_is_waited_for(tmp_path: Path) -> None:
    """Its standby takes over in less; names are answered and payments made then, and none is begun before."""
    async with member(tmp_path) as bank:
        bank.gateway.send(Directory((bank_state(BANK), bank_state("bank-b", is_connected=False))))
        before, command = bank.position, bank.command()
        await until(lambda: bank.member._objection(command), "the directory")
        answer = bank.pay(command)
        asking = asyncio.ensure_future(bank.member.resolve("bank-b", "ines", "EUR"))
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert not answer.done() and not asking.done() and bank.position == before
        bank.gateway.send(bank.gateway.directory)
        await bank.decide((await bank.submitted()).id, 7)
        assert done(await within(answer)).gateway_sequence == 7
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_whoever_waited_in_vain_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is sent, though nothing else happens at this node."""
    monkeypatch.setattr(member_module, "RETURN_S", 0.2)
    async with member(tmp_path) as bank:
        bank.gateway.send(Directory((bank_state(BANK), bank_state("bank-b", is_connected=False))))
        command = bank.command()
        await until(lambda: bank.member._objection(command), "the directory")
        answer = bank.pay(command)
        sent: list[bool] = []
        monkeypatch.setattr(bank.member._ports, "_flush", lambda: sent.append(answer.done()))
        assert isinstance(await within(answer), BankUnreachable)
        await until(lambda: True in sent, "the answer is sent")


async def test_whoever_waits_for_a_bank_is_answered_when_this_node_is_primary_no_longer(tmp_path: Path) -> None:
    """Nothing was begun."""
    async with member(tmp_path) as bank:
        bank.gateway.send(Directory((bank_state(BANK), bank_state("bank-b", is_connected=False))))
        before, command = bank.position, bank.command()
        await until(lambda: bank.member._objection(command), "the directory")
        answer = bank.pay(command)
        await until(lambda: bank.member._ports._awaiting, "the wait")
        bank.member._ports.leave()
        assert isinstance(await within(answer), NotPrimary) and bank.position == before


async def test_what_cannot_arrive_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the gateway told last; nothing is in the journal, so the same id may be tried again, and is when it can."""
    monkeypatch.setattr(member_module, "RETURN_S", 0.05)
    async with member(tmp_path) as bank:
        bank.gateway.send(Directory((bank_state(BANK), bank_state("bank-b", is_connected=False))))
        before, command = bank.position, bank.command()
        await until(lambda: bank.member._objection(command), "the directory")
        for _ in range(2):
            assert isinstance(await within(bank.pay(command)), BankUnreachable)
        with pytest.raises(BankUnreachable):
            await bank.member.resolve("bank-b", "ines", "EUR")
        assert bank.position == before
        bank.gateway.send(bank.gateway.directory)
        await until(lambda: bank.member._objection(command) is None, "the directory")
        assert (await bank.paid(command)).gateway_sequence == 7


@pytest.mark.parametrize(
    ("states", "expected", "facts"),
    [
        ((bank_state(BANK),), Status.payee_bank_unknown, {"bank": "bank-b"}),
        ((bank_state(BANK), bank_state("bank-b", state="suspended")), Status.bank_suspended, {"bank": "bank-b"}),
        ((bank_state(BANK, state="suspended"), bank_state("bank-b")), Status.bank_suspended, {"bank": BANK}),
    ],
)
async def test_what_is_refused_for_good_the_gateway_refuses(
    tmp_path: Path, states: tuple[Any, ...], expected: Status, facts: dict[str, str]
) -> None:
    """A name is not asked for in vain; but a payment's refusal has to be in the books, or a repeat might be paid."""
    async with member(tmp_path) as bank:
        bank.gateway.send(Directory(states))
        await until(lambda: tuple(bank.member._banks.states.values()) == states, "the directory")
        with pytest.raises(Refused) as told:
            await bank.member.resolve("bank-b", "ines", "EUR")
        assert (told.value.status, told.value.facts) == (expected, facts)
        command = bank.command()
        answer = bank.pay(command)
        await bank.decide((await bank.submitted()).id, 0, int(expected))
        refused(await within(answer), expected)
        refused(await within(bank.pay(command)), expected)


async def test_what_is_under_way_goes_on_when_the_other_bank_is_gone(tmp_path: Path) -> None:
    """A repeat follows the attempt that is open, and gets its outcome."""
    async with member(tmp_path, gateway__wait_ms="100") as bank:
        command = bank.command()
        await within(bank.pay(command))
        submit = (await bank.gateway.wait(Submit))[0]
        bank.gateway.send(Directory((bank_state(BANK), bank_state("bank-b", is_connected=False))))
        await until(lambda: bank.member._objection(command), "the directory")
        bank.set_patience(LONG_MS)
        answer = bank.pay(command)
        bank.gateway.send(Outcome(submit.id, 7))
        assert done(await within(answer)).gateway_sequence == 7


async def test_too_many_waiting_payments_are_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a gateway that says nothing can make grow has a limit; nothing of what is over it was begun."""
    async with member(tmp_path) as bank:
        monkeypatch.setattr(member_ports, "ORDERS_MAX", 1)
        first = bank.pay(bank.command())
        submit = await bank.submitted()
        with pytest.raises(Busy):
            bank.member.pay(bank.command(), lambda outcome: None)
        monkeypatch.setattr(member_legs, "LEGS_MAX", 1)
        bank.gateway.send(prepare := bank.prepare())
        await bank.decide(submit.id, 7)
        done(await within(first))
        assert bank.gateway.take(Vote) == []
        assert await bank.vote(prepare) == 0


# --- Being paid ------------------------------------------------------------------------------------------------------
async def test_what_is_prepared_is_held_and_then_paid(tmp_path: Path) -> None:
    """The vote is yes each time it is asked for; the payee has it when the gateway says so, once."""
    async with member(tmp_path) as bank:
        prepare = bank.prepare()
        for _ in range(2):
            assert await bank.vote(prepare) == 0
            assert bank.stand(bank.b) == (OPENING_MINOR, 0, 500)
        for _ in range(2):
            await bank.decide(prepare.id, 7)
            assert bank.stand(bank.b) == (OPENING_MINOR + 500, 0, 0)
        assert bank.books(bank.bank.state.settlements["EUR"]).balance == -500


async def test_what_is_prepared_and_aborted_is_freed(tmp_path: Path) -> None:
    """The payee never had it; a Prepare that comes late changes nothing."""
    async with member(tmp_path) as bank:
        prepare = bank.prepare()
        assert await bank.vote(prepare) == 0
        await bank.decide(prepare.id, 0, AGAIN)
        assert bank.stand(bank.b) == (OPENING_MINOR, 0, 0)
        before = bank.position
        bank.gateway.send(prepare, Outcome(prepare.id, 0, AGAIN))
        await bank.gateway.wait(Acknowledge)
        assert (bank.position, bank.stand(bank.b)) == (before, (OPENING_MINOR, 0, 0))


async def test_an_abort_that_comes_first_wins(tmp_path: Path) -> None:
    """It is remembered under an id that was never heard of, so that a late Prepare cannot begin."""
    async with member(tmp_path) as bank:
        prepare = bank.prepare()
        await bank.decide(prepare.id, 0, AGAIN)
        assert await bank.vote(prepare) == AGAIN
        assert bank.stand(bank.b) == (OPENING_MINOR, 0, 0)


async def test_a_prepare_and_its_abort_in_one_breath_leave_nothing(tmp_path: Path) -> None:
    """The outcome may come while the hold is still being written."""
    async with member(tmp_path) as bank:
        prepare = bank.prepare()
        bank.gateway.send(prepare, Outcome(prepare.id, 0, AGAIN))
        await bank.gateway.wait(Acknowledge)
        assert bank.stand(bank.b) == (OPENING_MINOR, 0, 0)
        assert bank.member.statistics()["gateway"]["payments_open"] == 0


@pytest.mark.parametrize("is_again", [False, True])
async def test_who_cannot_be_paid_is_voted_against(tmp_path: Path, is_again: bool) -> None:
    """For a reason that is kept: the same Prepare gets the same vote, also after a restart and when all has changed."""
    async with gateway() as found:
        async with serving_member(tmp_path, found) as bank:
            ada, tess = await bank.sign_in("ada"), await bank.sign_in("tess")
            empty = (await tess.open_account("USD", username="alice")).number
            unknown = bank.prepare(payee=1000101)
            foreign = bank.prepare(payee=empty)
            no_such_money = bank.prepare(currency="CHF")
            cash = bank.prepare(payee=bank.bank.state.currencies["EUR"])
            await ada.administration.freeze(bank.b)
            frozen = bank.prepare()
            wanted = {
                unknown: Status.credit_account_unknown,
                foreign: Status.currency_mismatch,
                no_such_money: Status.currency_unknown,
                cash: Status.account_kind_not_allowed,
                frozen: Status.credit_account_frozen,
            }
            for prepare, status in wanted.items():
                assert await bank.vote(prepare) == status
            await ada.administration.unfreeze(bank.b)
            assert await bank.vote(frozen) == Status.credit_account_frozen
        if is_again:
            async with serving_member(tmp_path, found) as bank:
                for prepare, status in wanted.items():
                    assert await bank.vote(prepare) == status


async def test_what_was_promised_to_a_payee_arrives(tmp_path: Path) -> None:
    """Frozen between prepare and commit, the account gets the money; with money promised to it it cannot be closed."""
    async with member(tmp_path) as bank:
        ada, bob = await bank.sign_in("ada"), await bank.sign_in("bob")
        prepare = bank.prepare()
        assert await bank.vote(prepare) == 0
        await bob.transfer(bank.b, bank.a, "100.00 EUR")
        with pytest.raises(Refused) as told:
            await bob.close_account(bank.b)
        assert told.value.status is Status.account_not_empty
        await ada.administration.freeze(bank.b)
        await bank.decide(prepare.id, 7)
        assert bank.stand(bank.b) == (500, 0, 0)


async def test_text_that_no_bank_lets_pass_is_left_out(tmp_path: Path) -> None:
    """The money goes, what could deceive a reader does not."""
    from msgspec.structs import replace

    async with member(tmp_path) as bank:
        prepare = replace(bank.prepare(), reference="ok\x1b[2Jnot")
        for _ in range(2):
            assert await bank.vote(prepare) == 0
        known = bank.bank.state.known(prepare.id)
        assert known is not None and known[1].reference == ""
        assert known[1].counterparty == "bank-b/1000101"


async def test_a_commit_of_what_is_not_known_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is not acknowledged, and an operator is told."""
    async with member(tmp_path) as bank:
        before = bank.position
        bank.gateway.send(Outcome(new_id(), 7))
        await until(lambda: bank.member.statistics()["gateway"]["disputes"], "a dispute")
        assert bank.position == before and bank.gateway.take(Acknowledge) == []
        assert "gateway commits a payment that is not known here" in caplog.messages


async def test_an_outcome_that_contradicts_the_books_is_disputed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Paid here and aborted there, or the other way round: nothing is changed, nothing acknowledged."""
    async with member(tmp_path) as bank:
        paid, freed = bank.prepare(100), bank.prepare(200)
        for prepare, outcome in ((paid, (7, 0)), (freed, (0, AGAIN))):
            await bank.vote(prepare)
            await bank.decide(prepare.id, *outcome)
        before = bank.position
        for count, outcome in enumerate((Outcome(paid.id, 0, AGAIN), Outcome(freed.id, 8), Outcome(paid.id, 9)), 1):
            bank.gateway.send(outcome)
            await until(lambda count=count: bank.member.statistics()["gateway"]["disputes"] == count, "a dispute")
        assert bank.position == before and bank.gateway.take(Acknowledge) == []
        assert bank.stand(bank.b) == (OPENING_MINOR + 100, 0, 0)


# --- After a crash ---------------------------------------------------------------------------------------------------
async def test_everything_open_is_asked_for_after_a_restart(tmp_path: Path) -> None:
    """Payments out are submitted, payments in inquired about; what the gateway answers is carried out."""
    async with gateway() as found:
        async with serving_member(tmp_path, found, gateway__wait_ms="100") as bank:
            commands = [bank.command(amount, reference=f"no {amount}") for amount in (100, 200)]
            for command in commands:
                await within(bank.pay(command))
            submits = {submit.id: submit for submit in await found.wait(Submit, 2)}
            prepares = [bank.prepare(amount) for amount in (10, 20)]
            for prepare in prepares:
                await bank.vote(prepare)
        found.heard.clear()
        async with serving_member(tmp_path, found) as bank:
            assert {submit.id: submit for submit in await found.wait(Submit, 2)} == submits
            asked = {id for inquire in await found.wait(Inquire, 2) for id in inquire.ids}
            assert asked == {prepare.id for prepare in prepares}
            assert await bank.vote(prepares[0]) == 0  # the same again is held already
            await bank.decide(commands[0].id, 7)
            await bank.decide(commands[1].id, 0, AGAIN)
            await bank.decide(prepares[0].id, 8)
            await bank.decide(prepares[1].id, 0, AGAIN)
            assert done(await within(bank.pay(commands[0]))).gateway_sequence == 7
            assert bank.stand(bank.a) == (9_900, 0, 0)
            assert bank.stand(bank.b) == (OPENING_MINOR + 10, 0, 0)
            answer = bank.pay(commands[1])
            assert (await bank.submitted()).id == attempt_id(commands[1].id, 1)
            await bank.decide(attempt_id(commands[1].id, 1), 9)
            done(await within(answer))


async def test_a_node_that_is_primary_no_longer_tells_whoever_waits(tmp_path: Path) -> None:
    """What is open is not known; what is not is another node's to begin. Primary again, it goes on from the tables."""
    async with member(tmp_path) as bank:
        side, command = bank.member, bank.command()
        waiting, pausing = bank.pay(command), bank.pay(bank.command())
        submits = await bank.gateway.wait(Submit, 2)
        await bank.decide(submits[1].id, 0, AGAIN)
        side._lay_down()
        side._lay_down()
        assert isinstance(await within(waiting), OutcomeUnknown)
        assert isinstance(await within(pausing), NotPrimary)
        await until(lambda: not bank.gateway.links, "the link is ended")
        assert isinstance(await within(bank.pay(bank.command())), GatewayUnreachable)
        side._take_up()
        side._take_up()
        assert (await bank.submitted()).id == command.id
        await bank.decide(command.id, 7)
        assert done(await within(bank.pay(command))).replayed
        assert len(bank.gateway.registered) == 2


async def test_stopping_answers_whoever_waits(tmp_path: Path) -> None:
    """Before the ledger is closed."""
    async with member(tmp_path) as bank:
        answer = bank.pay(bank.command())
        await bank.submitted()
        await bank.process.stop(deadline_s=0)
        assert isinstance(await within(answer), OutcomeUnknown)


async def test_a_fault_in_this_part_ends_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that went on without it would leave payments open for ever."""

    async def broken() -> None:
        raise RuntimeError("a fault")

    async with member(tmp_path) as bank:
        bank.member._lay_down()
        monkeypatch.setattr(bank.member._ports, "load", broken)
        bank.member._take_up()
        await until(lambda: bank.process.stopped.is_set(), "the node stops")
        assert "part in payments" in str(bank.process.failure)


async def test_a_ledger_that_cannot_be_read_now_is_read_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open payments are found when the tables can be read again."""
    async with member(tmp_path) as bank:
        bank.member._lay_down()
        tries = list[int]()

        async def busy() -> None:
            tries.append(1)
            raise Busy("not now")

        with monkeypatch.context() as patch:
            patch.setattr("fortress.gateway.member.LOAD_RETRY_S", 0.0)
            patch.setattr(bank.member._ports, "load", busy)
            bank.member._take_up()
            await until(lambda: len(tries) > 1, "a second try")
        assert not bank.process.stopped.is_set()


# --- Registering and questions ---------------------------------------------------------------------------------------
async def test_a_bank_tells_where_its_customers_may_be_sent(tmp_path: Path) -> None:
    """Where it listens, unless the settings name other addresses."""
    async with gateway() as found:
        async with serving_member(tmp_path, found) as bank:
            here = f"127.0.0.1:{bank.process.server.port}"
            (said,) = found.registered
            assert (said.bank, said.node, said.epoch) == (BANK, "one", bank.bank.engine.epoch)
            assert (said.primary, said.standby) == (here, "")
        async with serving_member(tmp_path, found, gateway__clients="a.example:1, b.example:2"):
            assert (found.registered[1].primary, found.registered[1].standby) == ("a.example:1", "b.example:2")


async def test_banks_are_listed_as_the_gateway_told(tmp_path: Path) -> None:
    """Also when it is gone."""
    async with member(tmp_path) as bank:
        assert [(each.bank, each.is_connected) for each in (await bank.member.banks()).banks] == [
            (BANK, True),
            ("bank-b", True),
        ]
        await bank.gateway.stop()
        assert len((await bank.member.banks()).banks) == 2


async def test_a_payees_name_is_asked_through_the_gateway(tmp_path: Path) -> None:
    """The answer comes back as it is, a refusal as well."""
    async with member(tmp_path) as bank:
        bank.gateway.answers[RESOLVE] = ResolveAnswer(1000101, "Ines", "EUR")
        alice = await bank.sign_in("alice")
        found = await alice.resolve("bank-b/ines", "EUR")
        assert (found.number, found.name) == (1000101, "Ines")
        assert bank.gateway.asked == [("resolve", ["bank-b", "ines", "EUR"])]
        for error in (Refused(Status.credit_account_unknown), DeadlinePassed("bank b is slow")):
            bank.gateway.answers[RESOLVE] = error
            with pytest.raises(type(error)):
                await bank.member.resolve("bank-b", "ines", "EUR")


async def test_a_bank_answers_the_gateways_questions(tmp_path: Path) -> None:
    """Names of its own payees, the steps of a payment; no to what is not its own or cannot be read."""
    async with member(tmp_path) as bank:
        link = bank.gateway.links[0]
        found = await link.ask(RESOLVE, WhoIs(BANK, "bob", "EUR"), ResolveAnswer)
        assert found == ResolveAnswer(bank.b, "Bob", "EUR")
        with pytest.raises(Refused) as told:
            await link.ask(RESOLVE, WhoIs(BANK, "nobody", "EUR"), ResolveAnswer)
        assert told.value.status in (Status.customer_unknown, Status.credit_account_unknown)
        with pytest.raises(Refused) as told:
            await link.ask(RESOLVE, WhoIs("bank-c", "bob", "EUR"), ResolveAnswer)
        assert told.value.status is Status.bank_unknown
        prepare = bank.prepare()
        await bank.vote(prepare)
        (step,) = await link.ask(STEPS, StepsOf(prepare.id), list[PaymentStep])
        assert (step.bank, step.step) == (BANK, "prepared")
        for about in (RESOLVE, STEPS, ROOT, LEAVES):
            with pytest.raises(MessageInvalid):
                await link.ask(about, 7, int)
        with pytest.raises(UnknownOperation):
            await link.ask("secrets", None, int)


async def test_what_only_banks_say_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The link stays."""
    async with member(tmp_path) as bank:
        bank.gateway.send(Vote(bytes(16)))
        assert await bank.vote(bank.prepare()) == 0
        assert "gateway says what only banks say" in caplog.messages
