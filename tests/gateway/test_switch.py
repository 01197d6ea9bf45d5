"""A gateway as its banks and operators meet it: payments from end to end, questions, and what a restart comes to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fortress.errors import (
    BankRejected,
    BankUnreachable,
    Busy,
    DiskFull,
    LedgerError,
    MessageInvalid,
    NotPrimary,
    PaymentUnfinished,
    Refused,
    Status,
    Throttled,
    UnknownOperation,
)
from fortress.gateway import switch as module
from fortress.gateway.messages import Inquire, Message, Outcome, Prepare, Vote
from fortress.gateway.questions import RESOLVE, STEPS, StepsOf, WhoIs
from fortress.ledger.model import BANK_ACTOR
from fortress.monitor.metrics import Metrics
from fortress.protocol.accounts import ResolveAnswer
from fortress.protocol.payments import GetPayment, ListPayments, PaymentStep, ResolvePayment
from fortress.protocol.switching import CloseWindow, GetWindow, ListWindows
from fortress.server.bank import new_id
from tests.gateway.switches import Teller, paid, prepared, submission, switching, switching_pair
from tests.server.banks import DEADLINE_S, until


async def test_a_payment_from_bank_to_bank(tmp_path: Path) -> None:
    """Submitted, prepared, voted for, decided and told to both; the positions say who owes."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        outcome = await paid(a, b)
        assert outcome.sequence > 0 and outcome.reason == 0
        assert (await hub.position_of("bank-a"), await hub.position_of("bank-b")) == ((-500, 0), (500, 0))
        await until(lambda: not hub.switch.coordinator.machines)
        found = hub.process.statistics()
        assert found["payments"] == {"done": 1, "refused": 0, "given_up": 0}
        assert (found["payments_in_doubt"], found["banks_connected"]) == (0, 2)
        page = Metrics(hub.process.statistics).page()[0].decode()
        assert 'fortress_payments_total{outcome="done"} 1.0' in page
        assert "fortress_banks_connected 2.0" in page and "fortress_payments_in_doubt 0.0" in page


async def test_operators_are_answered(tmp_path: Path) -> None:
    """Where a payment stands, the window it is in, and what is in doubt."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        outcome = await paid(a, b)
        switch = hub.switch
        view = await switch.payment(BANK_ACTOR, GetPayment(outcome.id))
        assert (view.state, view.payer, view.payee) == ("done", "bank-a/1000101", "bank-b/2000101")
        assert (await switch.payments(BANK_ACTOR, ListPayments(in_doubt=True))).payments == []
        assert [row.payments for row in (await switch.window(GetWindow())).rows] == [1, 1]
        with pytest.raises(Refused) as refused:  # these banks tell nothing of their books
            await switch.close_window(BANK_ACTOR, CloseWindow(new_id()))
        assert refused.value.status is Status.window_not_settled
        assert [window.number for window in (await switch.windows(ListWindows())).windows] == [0]
        assert (await switch.banks()).banks[0].bank == "bank-a"
        assert (await switch.positions()).positions[0].position_minor == -500


async def test_a_payment_in_doubt_is_listed_and_ended_by_hand(tmp_path: Path) -> None:
    """It is listed with who is missing; once it is aborted, both banks hear so."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        prepare = await prepared(a, b)
        (view,) = (await hub.switch.payments(BANK_ACTOR, ListPayments(in_doubt=True))).payments
        assert (view.id, view.state, view.missing) == (prepare.id, "pending", ["bank-b"])
        await hub.switch.resolve_payment(BANK_ACTOR, ResolvePayment(new_id(), prepare.id, "abort"))
        assert await a.outcome() == await b.outcome() == Outcome(prepare.id, 0, PaymentUnfinished.code)
        assert await hub.position_of("bank-a") == (0, 0)


# --- Restarts --------------------------------------------------------------------------------------------------------
async def submitted(a: Teller, b: Teller) -> bytes:
    """The intent is durable, and the payee's bank has been asked."""
    return (await prepared(a, b)).id


async def decided(a: Teller, b: Teller) -> bytes:
    """Decided, and neither bank has acknowledged."""
    prepare = await prepared(a, b)
    b.say(Vote(prepare.id))
    await asyncio.gather(a.wait(Outcome), b.wait(Outcome))
    return prepare.id


async def half_acknowledged(a: Teller, b: Teller) -> bytes:
    """Decided, and only the payer's bank has acknowledged."""
    prepare = await prepared(a, b)
    b.say(Vote(prepare.id))
    await a.outcome()
    await b.wait(Outcome)
    return prepare.id


async def refused(a: Teller, b: Teller) -> bytes:
    """The payee's bank has refused."""
    prepare = await prepared(a, b)
    b.say(Vote(prepare.id, int(Status.credit_account_closed)))
    await a.wait(Outcome)
    return prepare.id


async def asked_until_told(teller: Teller, question: Message) -> Outcome:
    """Ask again and again, as a bank does, until the outcome is told; acknowledge it."""
    async with asyncio.timeout(DEADLINE_S):
        while not teller.told(Outcome):
            teller.say(question)
            await asyncio.sleep(0.02)
    outcome = await teller.outcome()
    assert all(further == outcome for further in teller.told(Outcome))
    return outcome


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (submitted, PaymentUnfinished.code),
        (decided, 0),
        (half_acknowledged, 0),
        (refused, int(Status.credit_account_closed)),
    ],
)
async def test_a_gateway_restarted_at_any_step_tells_both_banks_the_same(
    tmp_path: Path, step: Any, reason: int
) -> None:
    """What was decided stays; what was not is given up before anybody is heard. Both may ask for ever after."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        id = await step(a, b)
    async with switching(tmp_path) as hub:
        await until(lambda: hub.switch._is_open)
        a, b = await hub.enter_both()
        for _ in range(2):
            outcome = await asked_until_told(a, submission(id=id))
            assert await asked_until_told(b, Inquire((id,))) == outcome
            assert (outcome.sequence == 0, outcome.reason) == (reason > 0, reason)
        balance = 0 if reason else -500
        assert await hub.position_of("bank-a") == (balance, 0)


async def test_a_submission_whose_answer_was_lost_begins_anew(tmp_path: Path) -> None:
    """A gateway that never heard of it takes it as new, whenever it comes."""
    async with switching(tmp_path) as hub:
        await hub.enter_both()
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        assert (await paid(a, b)).sequence > 0


async def test_a_bank_that_comes_back_hears_what_it_missed(tmp_path: Path) -> None:
    """A prepare that it has not answered, an outcome that it has not acknowledged."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        prepare = await prepared(a, b)
        await b.close()
        await until(lambda: hub.switch.directory.connected == 1)
        b = await hub.enter("bank-b", epoch=2)
        assert await b.wait(Prepare) == prepare
        await a.close()
        b.say(Vote(prepare.id))
        outcome = await b.outcome()
        a = await hub.enter("bank-a", epoch=2)
        assert await a.outcome() == outcome
        await until(lambda: not hub.switch.coordinator.machines)


async def test_a_gateway_that_ceases_to_be_primary_ends_its_links(tmp_path: Path) -> None:
    """And begins anew when it is primary again: undecided payments are given up first."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        prepare = await prepared(a, b)
        hub.switch._lay_down()
        await until(lambda: a.reasons and b.reasons)
        assert not hub.switch.coordinator.machines and hub.switch.directory.connected == 0
        assert (await (await hub.knock("bank-a")).refused()).code == Busy.code
        hub.switch._take_up()
        hub.switch._lay_down()
        hub.switch._take_up()
        await until(lambda: hub.switch._is_open)
        a, b = await hub.enter_both()
        assert await a.outcome() == await b.outcome() == Outcome(prepare.id, 0, PaymentUnfinished.code)


async def test_the_other_node_of_a_gateway_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Banks are refused by the standby; after a change of roles they find everything at the other node."""
    async with switching_pair(tmp_path, monkeypatch) as (first, second):
        a, b = await first.enter_both()
        done = await paid(a, b)
        left = await prepared(a, b)
        assert (await (await second.knock("bank-a")).refused()).code == NotPrimary.code
        assert first.process.pairing is not None
        await first.process.pairing.replication.switch_over()
        await until(lambda: a.reasons and b.reasons and second.switch._is_open)
        assert (await (await first.knock("bank-a")).refused()).code == NotPrimary.code
        a, b = await second.enter("bank-a"), await second.enter("bank-b")
        assert await a.outcome() == await b.outcome() == Outcome(left.id, 0, PaymentUnfinished.code)
        assert await asked_until_told(b, Inquire((done.id,))) == done
        assert (await paid(a, b)).sequence > done.sequence
        assert await second.position_of("bank-a") == (-1_000, 0)


async def test_opening_waits_for_a_ledger_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again; banks are let in when it has come about."""
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    async with switching(tmp_path) as hub:
        hub.switch._lay_down()
        recover, errors = hub.switch.coordinator.recover, [DiskFull(), DiskFull()]

        async def failing() -> None:
            if errors:
                raise errors.pop()
            await recover()

        monkeypatch.setattr(hub.switch.coordinator, "recover", failing)
        hub.switch._take_up()
        await until(lambda: hub.switch._is_open)
        assert errors == []


async def test_a_fault_in_the_gateways_part_stops_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that keeps time no longer would leave payments undecided for ever."""
    async with switching(tmp_path) as hub:
        monkeypatch.setattr(hub.switch, "coordinator", SimpleNamespace(tick=lambda: 1 / 0, leave=lambda: None))
        await asyncio.wait_for(hub.process.stopped.wait(), 5)
        assert isinstance(hub.process.failure, LedgerError)
        monkeypatch.undo()


# --- Questions -------------------------------------------------------------------------------------------------------
async def test_a_payees_name_is_asked_of_its_bank(tmp_path: Path) -> None:
    """The question goes on as it came, and the answer comes back; a refusal comes back as well."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        b.answers[RESOLVE] = found = ResolveAnswer(2_000_101, "Ines", "EUR")
        assert await a.link.ask(RESOLVE, WhoIs("bank-b", "ines", "EUR"), ResolveAnswer) == found
        assert b.asked == [(RESOLVE, ["bank-b", "ines", "EUR"])]
        b.answers[RESOLVE] = Refused(Status.customer_unknown)
        with pytest.raises(Refused) as refused:
            await a.link.ask(RESOLVE, WhoIs("bank-b", "inez", "EUR"), ResolveAnswer)
        assert refused.value.status is Status.customer_unknown


@pytest.mark.parametrize(
    ("bank", "status"),
    [("bank-c", Status.payee_bank_unknown), ("bank-a", Status.payee_bank_unknown), ("bank-s", Status.bank_suspended)],
)
async def test_a_name_is_asked_only_of_banks_that_can_be_paid(tmp_path: Path, bank: str, status: Status) -> None:
    """Unknown, the asking bank itself, suspended; one that is not here is named as unreachable."""
    async with switching(tmp_path) as hub:
        await hub.add("bank-s", pem=(hub.folder / "certs" / "ca.crt").read_text())
        await hub.suspend("bank-s")
        a, b = await hub.enter_both()
        with pytest.raises(Refused) as refused:
            await a.link.ask(RESOLVE, WhoIs(bank, "ines", "EUR"), ResolveAnswer)
        assert (refused.value.status, refused.value.facts) == (status, {"bank": bank})
        await b.close()
        await until(lambda: hub.switch.directory.connected == 1)
        with pytest.raises(BankUnreachable):
            await a.link.ask(RESOLVE, WhoIs("bank-b", "ines", "EUR"), ResolveAnswer)


async def test_a_bank_cannot_fish_for_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its allowance it is throttled, and others are not."""
    monkeypatch.setattr(module, "RESOLVES_AT_ONCE", 2)
    monkeypatch.setattr(module, "RESOLVES_PER_S", 0.001)
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        for teller in (a, b):
            teller.answers[RESOLVE] = ResolveAnswer(2_000_101, "X", "EUR")
        for _ in range(2):
            await a.link.ask(RESOLVE, WhoIs("bank-b", "ines", "EUR"), ResolveAnswer)
        with pytest.raises(Throttled) as throttled:
            await a.link.ask(RESOLVE, WhoIs("bank-b", "ines", "EUR"), ResolveAnswer)
        wait_ms = throttled.value.facts["wait_ms"]
        assert isinstance(wait_ms, int) and wait_ms > 0
        await b.link.ask(RESOLVE, WhoIs("bank-a", "ines", "EUR"), ResolveAnswer)


async def test_a_bank_asks_for_the_steps_of_its_payments(tmp_path: Path) -> None:
    """Those of the gateway, and with ``everywhere`` those of the other bank."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        outcome = await paid(a, b)
        b.answers[STEPS] = [PaymentStep("bank-b", "prepared", 1)]
        steps = await a.link.ask(STEPS, StepsOf(outcome.id, everywhere=True), list[PaymentStep])
        assert [(step.bank, step.step) for step in steps] == [
            ("gateway", "intended"),
            ("gateway", "decided"),
            ("bank-b", "prepared"),
        ]


async def test_questions_that_are_none_are_refused(tmp_path: Path) -> None:
    """Unknown ones, malformed ones, and all while the gateway is not open; the link stays."""
    async with switching(tmp_path) as hub:
        a, _ = await hub.enter_both()
        with pytest.raises(UnknownOperation):
            await a.link.ask("balance", None, object)
        for about in (RESOLVE, STEPS):
            with pytest.raises(MessageInvalid):
                await a.link.ask(about, 7, object)
        hub.switch._is_open = False
        with pytest.raises(NotPrimary):
            await a.link.ask(STEPS, StepsOf(new_id()), object)
        assert a.link.is_open


async def test_what_a_replaced_link_still_says_does_not_count(tmp_path: Path) -> None:
    """It may be an old primary's, which does not know yet that it is none."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        old = hub.switch.directory.link_of("bank-a")
        assert old is not None
        await hub.enter("bank-a", epoch=2)
        hub.switch._heard(old, "bank-a", submission())
        hub.switch._greet(old, "bank-a")
        assert hub.switch.coordinator.machines == {} and b.told(Prepare) == []


async def test_a_bank_says_only_what_banks_say(tmp_path: Path) -> None:
    """What is the gateway's to say ends the link, whoever is so bold."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        a.say(Outcome(new_id(), 7))
        await until(lambda: a.reasons)
        link = hub.switch.directory.link_of("bank-b")
        assert link is not None and b.link.is_open
        with pytest.raises(BankRejected, match="bank-b"):
            hub.switch._heard(link, "bank-b", Prepare(new_id(), "bank-a", 1, 2, 3, "EUR", ""))
