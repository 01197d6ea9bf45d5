"""The payments under way at a gateway: what is refused, what is told again, what is bounded, what is ignored."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from fortress.errors import BankUnreachable, Busy, DiskFull, PaymentUnfinished, Status
from fortress.gateway import coordinator as module
from fortress.gateway import directory
from fortress.gateway.coordinator import Allowance, Coordinator
from fortress.gateway.messages import Acknowledge, Inquire, Outcome, Prepare, Submit, Vote
from fortress.gateway.payment import Phase
from fortress.ledger.commands import AbortPayment
from fortress.ledger.model import SWITCH_ACTOR
from fortress.server.bank import new_id
from tests.gateway.switches import CAP_MINOR, Hub, Teller, paid, prepared, submission, switching
from tests.server.banks import until


def machines(hub: Hub) -> Coordinator:
    return hub.switch.coordinator


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    return [record.__dict__["fields"] for record in caplog.records if record.getMessage() == name]


# --- What is refused -------------------------------------------------------------------------------------------------
async def refused(teller: Teller, submit: Submit) -> int:
    """Submit, and give the reason why it was not paid; asked again, it is the same."""
    found = []
    for _ in range(2):
        teller.say(submit)
        outcome = await teller.outcome()
        assert outcome.sequence == 0
        found.append(outcome.reason)
    assert found[0] == found[1]
    return found[0]


async def test_a_payment_over_the_cap_is_refused(tmp_path: Path) -> None:
    """The cap counts what is reserved, and what comes in makes room for more going out."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        prepare = await prepared(a, b, CAP_MINOR - 100)
        assert await refused(a, submission(101)) == Status.exceeds_debit_cap
        b.say(Vote(prepare.id))
        await asyncio.gather(a.outcome(), b.outcome())
        assert await refused(a, submission(101)) == Status.exceeds_debit_cap
        await paid(b, a, 1)
        assert (await paid(a, b, 101)).sequence > 0
        assert await hub.position_of("bank-a") == (-CAP_MINOR, 0)
        assert hub.process.statistics()["payments"] == {"done": 3, "refused": 2, "given_up": 0}


async def test_a_bank_that_has_just_gone_is_waited_for(tmp_path: Path) -> None:
    """A submission to it is not heard; the payer's bank repeats it, and then the payee's may be back."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        await b.close()
        await until(lambda: hub.switch.directory.connected == 1)
        submit = submission()
        a.say(submit)
        a.say(submission(payee_bank="bank-z"))  # answered behind it
        assert (await a.outcome()).reason == Status.payee_bank_unknown
        assert submit.id not in machines(hub).machines and a.told(Outcome) == []
        b = await hub.enter("bank-b", epoch=2)
        a.say(submit)
        b.say(Vote((await b.wait(Prepare)).id))
        assert (await a.outcome()).sequence > 0


async def test_a_payment_to_a_bank_that_is_not_here_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For now: another attempt may be made; this one never happens, not even when the bank is back."""
    monkeypatch.setattr(directory, "RETURN_S", 0.0)
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        await b.close()
        await until(lambda: hub.switch.directory.connected == 1)
        submit = submission()
        assert await refused(a, submit) == BankUnreachable.code
        b = await hub.enter("bank-b", epoch=2)
        assert await refused(a, submit) == BankUnreachable.code
        assert b.told(Prepare) == []
        assert (await paid(a, b)).sequence > 0


@pytest.mark.parametrize(
    ("submit", "status"),
    [
        (submission(payee_bank="bank-z"), Status.payee_bank_unknown),
        (submission(payee_bank="bank-s"), Status.bank_suspended),
        (submission(currency="USD"), Status.settlement_account_missing),
        (submission(currency="XYZ"), Status.settlement_account_missing),
        (submission(payee_bank="bank-a"), Status.accounts_must_differ),
        (submission(2**62), Status.exceeds_debit_cap),
    ],
    ids=lambda value: value.name if isinstance(value, Status) else "",
)
async def test_a_payment_that_cannot_be_is_refused_for_good(tmp_path: Path, submit: Submit, status: Status) -> None:
    """With the status that says why, remembered under its id."""
    async with switching(tmp_path) as hub:
        await hub.add("bank-s", pem=(hub.folder / "certs" / "ca.crt").read_text())
        await hub.suspend("bank-s")
        a, b = await hub.enter_both()
        submit = replace(submit, id=new_id())
        assert await refused(a, submit) == status
        await until(lambda: not machines(hub).machines)
        assert b.told(Prepare) == []


async def test_the_payees_bank_may_refuse(tmp_path: Path) -> None:
    """Its reason is told to the payer's bank, and nothing stays reserved."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        prepare = await prepared(a, b)
        assert await hub.position_of("bank-a") == (0, 500)
        b.say(Vote(prepare.id, int(Status.credit_account_closed)))
        assert await a.outcome() == Outcome(prepare.id, 0, int(Status.credit_account_closed))
        assert await hub.position_of("bank-a") == (0, 0)
        b.say(Vote(prepare.id))  # too late
        a.say(submission(id=prepare.id))
        assert (await a.outcome()).sequence == 0


async def test_text_that_cannot_be_printed_does_not_get_into_the_books(tmp_path: Path) -> None:
    """No honest bank sends any; the payment goes through without it."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        submit = replace(submission(), reference="one\x00two")
        a.say(submit)
        prepare = await b.wait(Prepare)
        b.say(Vote(prepare.id))
        assert (await a.outcome()).sequence > 0
        (found,) = [e for _, e in await hub.bank.payment_entries(submit.id) if type(e).__name__ == "HoldPlaced"]
        assert found.reference == ""


# --- Time ------------------------------------------------------------------------------------------------------------
async def test_what_is_not_voted_for_in_time_is_given_up(tmp_path: Path) -> None:
    """Both banks hear so; a vote that comes later changes nothing."""
    async with switching(tmp_path, switch__deadline_ms="100") as hub:
        a, b = await hub.enter_both()
        prepare = await prepared(a, b)
        assert await a.outcome() == await b.outcome() == Outcome(prepare.id, 0, PaymentUnfinished.code)
        b.say(Vote(prepare.id))
        a.say(submission(id=prepare.id))
        assert await a.outcome() == Outcome(prepare.id, 0, PaymentUnfinished.code)
        assert await hub.position_of("bank-a") == (0, 0)


async def test_what_is_not_answered_is_said_again(tmp_path: Path) -> None:
    """The prepare until there is a vote, the outcome until it is acknowledged; all that it takes is time."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        prepare = await prepared(a, b)
        payment = machines(hub).machines[prepare.id]
        payment.due_us = 0
        assert await b.wait(Prepare) == prepare
        b.say(Vote(prepare.id))
        outcome = await a.wait(Outcome)
        payment.due_us = 0
        assert await a.outcome() == outcome
        assert await b.wait(Outcome, 2) == outcome
        await until(lambda: payment.missing == ("bank-b",))
        b.say(Acknowledge(prepare.id))
        await until(lambda: not machines(hub).machines)


# --- What comes twice, late, or from nowhere -------------------------------------------------------------------------
async def test_a_submission_that_comes_twice_is_one_payment(tmp_path: Path) -> None:
    """While it is under way, when it is decided, and when the gateway has forgotten it."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        submit = submission()
        a.say(submit, submit)
        prepare = await b.wait(Prepare)
        a.say(submit)
        b.say(Vote(prepare.id))
        outcome = await a.outcome()
        await b.outcome()
        await until(lambda: not machines(hub).machines)
        a.say(submit)
        assert await a.outcome() == outcome
        assert await hub.position_of("bank-a") == (-500, 0)


async def test_a_submission_of_another_banks_payment_is_refused(tmp_path: Path) -> None:
    """The id is taken, and the payment under it is not touched."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        prepare = await prepared(a, b)
        b.say(submission(payee_bank="bank-a", id=prepare.id))
        assert (await b.wait(Outcome)) == Outcome(prepare.id, 0, int(Status.id_reused))
        b.say(Vote(prepare.id))
        outcome = await a.outcome()
        assert outcome.sequence > 0
        assert await b.outcome() == outcome
        await until(lambda: not machines(hub).machines)
        b.say(submission(payee_bank="bank-a", id=prepare.id))
        assert await b.outcome() == Outcome(prepare.id, 0, int(Status.id_reused))


async def enter_third(hub: Hub) -> Teller:
    await hub.add("bank-c")
    return await hub.enter("bank-c")


async def test_an_id_used_at_two_banks_hides_no_decision_after_a_takeover(tmp_path: Path) -> None:
    """The same id of another bank's customer comes first; who holds the decided payment is told the decision."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        c = await enter_third(hub)
        decided = await paid(a, b)
        machines(hub).leave()  # as a new primary begins; bank a was not told yet
        c.say(submission(id=decided.id))
        assert await c.wait(Outcome) == Outcome(decided.id, 0, int(Status.id_reused))
        a.say(submission(id=decided.id))
        assert await a.wait(Outcome) == decided
        b.say(Inquire((decided.id,)))
        assert await b.wait(Outcome) == decided


async def test_nobody_is_told_that_another_banks_payment_was_theirs(tmp_path: Path) -> None:
    """Neither who submits the id of one that was done, to a bank that cannot be paid, nor who asks about it."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        c = await enter_third(hub)
        decided = await paid(a, b)
        await until(lambda: not machines(hub).machines)
        for message in (submission(id=decided.id, payee_bank="bank-z"), Inquire((decided.id,))):
            c.say(message)
            assert await c.wait(Outcome) == Outcome(decided.id, 0, int(Status.id_reused))
            b.say(Inquire((decided.id,)))
            assert await b.outcome() == decided
            await until(lambda: not machines(hub).machines)
        a.say(Inquire((decided.id,)))
        assert await a.outcome() == decided
        await until(lambda: not machines(hub).machines)


async def test_a_question_about_an_unknown_payment_gives_it_up(tmp_path: Path) -> None:
    """Durably and first, so that a submission which is still on its way cannot begin."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        ids = [new_id(), new_id()]
        b.say(Inquire(tuple(ids)))
        assert await b.wait(Outcome, 2) in [Outcome(id, 0, PaymentUnfinished.code) for id in ids]
        for id in ids:
            b.say(Acknowledge(id))
            assert await refused(a, submission(id=id)) == PaymentUnfinished.code
        assert b.told(Prepare) == []


async def test_a_question_about_a_payment_under_way_waits_for_its_outcome(tmp_path: Path) -> None:
    """Nothing is said before it is decided; then whoever asks is told again."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        prepare = await prepared(a, b)
        b.say(Inquire((prepare.id,)), Vote(prepare.id))
        outcome = await b.wait(Outcome)
        b.say(Inquire((prepare.id,)))
        assert await b.wait(Outcome) == outcome and outcome.sequence > 0


@pytest.mark.parametrize("message", [Vote(bytes(16)), Acknowledge(bytes(16))])
async def test_votes_and_acknowledgements_from_nowhere_are_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, message: Any
) -> None:
    """Of an unknown payment or of one that this bank has no part in; the log tells, so many lines a second."""
    monkeypatch.setattr(module, "LINES_PER_S_MAX", 2)
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        await hub.add("bank-c")
        c = await hub.enter("bank-c")
        prepare = await prepared(a, b)
        position = hub.bank.state.position
        mine = replace(message, id=prepare.id)
        c.say(mine, *[replace(message, id=new_id()) for _ in range(5)])
        await until(lambda: machines(hub).statistics()["messages_ignored"] == 6)
        assert machines(hub).machines[prepare.id].phase is Phase.preparing
        assert hub.bank.state.position == position
        lines = [
            fields for r in caplog.records if "unknown payment" in r.getMessage() for fields in [r.__dict__["fields"]]
        ]
        assert {line["bank"] for line in lines} == {"bank-c"} and 1 <= len(lines) <= 4
        assert lines[0]["payment"] == prepare.id.hex()
        b.say(Vote(prepare.id))
        assert (await a.outcome()).sequence > 0


async def test_an_acknowledgement_before_the_decision_does_not_count(tmp_path: Path) -> None:
    """Nobody can have carried out what is not decided."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        prepare = await prepared(a, b)
        a.say(Acknowledge(prepare.id))
        b.say(Acknowledge(prepare.id), Vote(prepare.id))
        assert await a.outcome() == await b.outcome()
        await until(lambda: not machines(hub).machines)


# --- The ledger ------------------------------------------------------------------------------------------------------
async def test_a_submission_that_the_ledger_cannot_take_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is said, for nothing is known; the bank submits again."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        submit, taken = submission(), []
        with monkeypatch.context() as patched:

            def full(command: Any, answered: Any) -> None:
                taken.append(command)
                raise DiskFull

            patched.setattr(hub.bank, "submit", full)
            a.say(submit)
            await until(lambda: taken and not machines(hub).machines)
            assert machines(hub).statistics()["payments_in_doubt"] == 0
        a.say(submit)
        assert (await b.wait(Prepare)).id == submit.id
        assert a.told(Outcome) == []


async def test_a_decision_that_the_ledger_cannot_take_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vote is in; nobody is told anything before it is durable."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        prepare = await prepared(a, b)
        submit, refusals = hub.bank.submit, [Busy(), Busy()]

        def full(command: Any, answered: Any) -> None:
            if refusals:
                raise refusals.pop()
            submit(command, answered)

        monkeypatch.setattr(hub.bank, "submit", full)
        b.say(Vote(prepare.id))
        payment = machines(hub).machines[prepare.id]
        await until(lambda: len(refusals) == 1)
        assert a.told(Outcome) == []
        payment.due_us = 0
        await until(lambda: not refusals)
        payment.due_us = 0
        assert (await a.outcome()).sequence > 0


async def test_a_hold_that_memory_has_lost_is_no_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without it nobody can tell paid from not paid, so it is tried again until it can be seen."""
    caplog.set_level(logging.INFO, "fortress")
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        outcome = await paid(a, b)
        await until(lambda: not machines(hub).machines)
        state = hub.bank.state
        forgetful = SimpleNamespace(hold=lambda id: None, banks=state.banks, positions=state.positions)
        with monkeypatch.context() as patched:
            patched.setattr(machines(hub), "_state", forgetful)
            position = hub.bank.state.position
            caplog.clear()
            a.say(submission(id=outcome.id))
            await until(lambda: events(caplog, "payment") and not machines(hub).machines)
            b.say(Inquire((outcome.id,)))
            await until(lambda: machines(hub).machines)
            await until(lambda: machines(hub).machines[outcome.id].due_us < 2**62)
            assert a.told(Outcome) == b.told(Outcome) == []
            assert hub.bank.state.position == position
        machines(hub).machines[outcome.id].due_us = 0
        assert await b.outcome() == outcome


async def test_a_repeat_waits_for_the_end_that_is_being_written(tmp_path: Path) -> None:
    """What a repeat is told must not be lost after it was told."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        prepare = await prepared(a, b)
        machines(hub).leave()  # as if this gateway had just begun, and had not looked yet
        journal = hub.hold_journal()
        hub.bank.submit(AbortPayment(SWITCH_ACTOR, prepare.id, PaymentUnfinished.code), lambda outcome: None)
        await until(lambda: journal.begun)
        a.say(submission(id=prepare.id))
        await until(lambda: prepare.id in machines(hub).machines)
        assert a.told(Outcome) == []
        journal.release()
        assert await a.outcome() == Outcome(prepare.id, 0, PaymentUnfinished.code)


async def test_all_pages_of_open_payments_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever their number; and again, should it have been interrupted."""
    monkeypatch.setattr(module, "PAGE", 2)
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        a.say(*[submission() for _ in range(5)])
        await b.wait(Prepare, 5)
        hub.switch._is_open = False
        machines(hub).leave()
        await machines(hub).recover()
        await machines(hub).recover()
        await a.wait(Outcome, 5)
        assert await hub.position_of("bank-a") == (0, 0)


async def test_what_was_begun_before_leaving_does_not_count_after(tmp_path: Path) -> None:
    """The ledger's answers come to machines that nobody keeps any more; those of the new term are not disturbed."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        prepare = await prepared(a, b)
        old = machines(hub).machines[prepare.id]
        machines(hub).leave()
        await machines(hub).recover()
        new = machines(hub).machines[prepare.id]
        assert new is not old
        machines(hub)._settle(old)
        machines(hub).forget(old)
        assert machines(hub).machines[prepare.id] is new and machines(hub).statistics()["payments_in_doubt"] == 1
        assert (await a.outcome()).reason == (await b.outcome()).reason == PaymentUnfinished.code


# --- Bounds ----------------------------------------------------------------------------------------------------------
async def test_a_bank_has_only_so_many_payments_undecided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is over is not answered, and taken when there is room; another bank is not kept waiting."""
    monkeypatch.setattr(module, "UNDECIDED_MAX", 2)
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        submits = [submission() for _ in range(3)]
        a.say(*submits)
        await b.wait(Prepare, 2)
        b.say(submission(payee_bank="bank-a"), Inquire((new_id(),)))
        await a.wait(Prepare)
        assert b.told(Prepare) == [] and submits[2].id not in machines(hub).machines
        b.say(Vote(submits[0].id))
        await a.outcome()
        a.say(submits[2])
        assert (await b.wait(Prepare)).id == submits[2].id


async def test_old_decided_payments_make_room_for_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bank that acknowledges nothing cannot stop the others; it is answered from the ledger when it asks."""
    monkeypatch.setattr(module, "MACHINES_MAX", 2)
    monkeypatch.setattr(module, "ROOM", 1)
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        ids = []
        for _ in range(3):
            prepare = await prepared(a, b)
            ids.append(prepare.id)
            b.say(Vote(prepare.id))
            await a.wait(Outcome)
        assert list(machines(hub).machines) == ids[1:]
        a.say(submission(id=ids[0]))
        assert (await a.outcome()).sequence > 0
        for _ in range(2):
            a.say(submission())
            await b.wait(Prepare)
        a.say(submission())
        await until(lambda: len(machines(hub).machines) == 2)
        assert all(payment.phase is Phase.preparing for payment in machines(hub).machines.values())


# --- The log ---------------------------------------------------------------------------------------------------------
async def test_payments_are_logged_with_one_id(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Submitted, and what came of it, as the setting about requests says."""
    caplog.set_level(logging.INFO, "fortress")
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        outcome = await paid(a, b)
        lines = [(line["payment"], line["step"], line["result"]) for line in events(caplog, "payment")]
        assert lines == [(outcome.id.hex(), "submit", "ok"), (outcome.id.hex(), "outcome", "ok")]
        caplog.clear()
        await refused(a, submission(CAP_MINOR))
        assert [line["result"] for line in events(caplog, "payment")][-1] == "ok"
        assert "exceeds_debit_cap" in [line["result"] for line in events(caplog, "payment")]


# --- Bounds ----------------------------------------------------------------------------------------------------------
def test_an_allowance_is_refilled_with_time() -> None:
    """At a steady rate, and never beyond what may be asked at once."""
    allowance = Allowance(0.0, 50, 200)
    for now_s, taken in ((0.0, 200), (1.0, 50), (1_000.0, 200)):
        assert all(allowance.take(now_s) for _ in range(taken))
        assert not allowance.take(now_s)


async def test_a_bank_cannot_fill_the_books_with_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """About payments that nobody has heard of; beyond its allowance it is not answered, and nothing is written."""
    monkeypatch.setattr(module, "UNKNOWN_AT_ONCE", 2)
    monkeypatch.setattr(module, "UNKNOWN_PER_S", 0.001)
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        for _ in range(2):
            a.say(Inquire((new_id(),)))
            assert (await a.outcome()).sequence == 0
        before = hub.process.node.bank.engine.state.position
        for _ in range(3):
            a.say(Inquire((new_id(),)))
        await until(lambda: machines(hub).statistics()["messages_ignored"] == 3)
        b.say(Inquire((new_id(),)))
        assert (await b.outcome()).sequence == 0
        assert hub.process.node.bank.engine.state.position == before + 1
