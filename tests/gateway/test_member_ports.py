"""The orders of a bank's customers: each answered once, from memory or from the tables."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from fortress.errors import (
    Busy,
    FortressError,
    IntegrityFailed,
    LedgerError,
    NotPrimary,
    OutcomeUnknown,
    Refused,
    Status,
)
from fortress.gateway import member_ports, participant
from fortress.gateway.messages import Outcome, Submit
from fortress.gateway.participant import attempt_id
from tests.gateway.gateways import bank_state, gateway
from tests.gateway.members import LONGER_US, done, member, serving_member, within
from tests.server.banks import hold_loading, hold_tables, until


async def test_a_payment_of_long_ago_is_answered_from_the_tables(tmp_path: Path) -> None:
    """Memory has forgotten it, and its attempts; the answer is the first one, to the letter."""
    async with gateway() as found:
        async with serving_member(tmp_path, found) as bank:
            command = bank.command()
            answer = bank.pay(command)
            await bank.decide((await bank.submitted()).id, 0, Busy.code)
            submit = await bank.submitted()
            assert submit.id == attempt_id(command.id, 1)
            await bank.decide(submit.id, 7)
            first = done(await within(answer))
        async with serving_member(tmp_path, found) as bank:
            again = done(await within(bank.pay(command)))
            assert (again.position, again.time_us, again.balance_minor) == (
                first.position,
                first.time_us,
                first.balance_minor,
            )
            assert (again.gateway_sequence, again.replayed) == (7, True)
            assert found.take(Submit) == []


async def test_an_answer_from_the_tables_waits_for_them(tmp_path: Path) -> None:
    """The first answer is read when they hold it."""
    async with member(tmp_path) as bank:
        held = hold_tables(bank.bank.engine)
        try:
            command = bank.command()
            first = await bank.paid(command)
            again = bank.pay(command)
            await until(lambda: held.begun, "the tables are written")
            assert not again.done()
        finally:
            held.release()
        assert done(await within(again)).position == first.position


async def test_an_order_that_must_be_looked_up_waits_for_that_alone(tmp_path: Path) -> None:
    """Its id tells no time, so only the tables know whether it is new; others go before it."""
    async with member(tmp_path) as bank:
        bank.gateway.send(bank.gateway.directory)
        held = hold_loading(bank.bank.engine)
        held.hold()
        try:
            slow = bank.pay(bank.command(id=bytes(15) + b"\x01"))
            await until(lambda: held.begun, "the tables are read")
        finally:
            held.release()
        await bank.decide((await bank.submitted()).id, 7)
        done(await within(slow))


async def test_a_fault_in_looking_a_payment_up_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a line in the log; the next payment is not troubled."""

    async def broken(*arguments: Any) -> Any:
        raise RuntimeError("a fault")

    async with member(tmp_path) as bank:
        with monkeypatch.context() as patch:
            patch.setattr(bank.bank, "fill", broken)
            bank.member._banks.states["bank-x"] = bank_state("bank-x", is_connected=False)
            told = await within(bank.pay(bank.command(id=bytes(15) + b"\x01", payee="bank-x/1000101")))
        assert type(told) is LedgerError and not bank.member._ports.orders
        assert (await bank.paid(bank.command())).gateway_sequence == 7


async def test_payments_have_lines_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each step under the attempt's id, with its result; another attempt says whose it is."""
    caplog.set_level(logging.INFO, "fortress")
    async with member(tmp_path, log__requests="all") as bank:
        command, prepare = bank.command(), bank.prepare(payee=1000101)
        answer = bank.pay(command)
        await bank.decide((await bank.submitted()).id, 0, Busy.code)
        await bank.decide((await bank.submitted()).id, 7)
        done(await within(answer))
        await bank.vote(prepare)
    lines = [record.__dict__["fields"] for record in caplog.records if record.getMessage() == "payment"]
    told = [(line["payment"], line["step"], line["result"], line.get("of", "")) for line in lines]
    first, second = command.id.hex(), attempt_id(command.id, 1).hex()
    assert told == [
        (first, "submit", "ok", ""),
        (first, "outcome", "busy", ""),
        (second, "submit", "ok", first),
        (second, "outcome", "ok", first),
        (prepare.id.hex(), "prepare", "credit_account_unknown", ""),
    ]


@pytest.mark.parametrize("is_paid", [False, True])
async def test_tables_that_cannot_be_read_are_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_paid: bool
) -> None:
    """Nobody waits for ever: of what is done and cannot be read, and of what cannot be looked up."""

    async def broken(*arguments: Any) -> Any:
        raise IntegrityFailed("a page cannot be read")

    async with member(tmp_path) as bank:
        command = bank.command()
        if is_paid:
            await bank.paid(command)
            monkeypatch.setattr(bank.bank, "read", broken)
        else:
            bank.member._banks.states["bank-x"] = bank_state("bank-x", is_connected=False)
            command = bank.command(id=bytes(15) + b"\x01", payee="bank-x/1000101")
            monkeypatch.setattr(bank.bank, "fill", broken)
        assert isinstance(await within(bank.pay(command)), IntegrityFailed)
        assert not bank.member._ports.orders


async def test_leaving_answers_each_order_as_is_known_of_it(tmp_path: Path) -> None:
    """Open: not known. Being written: the committer tells. Between attempts nothing is open: another node goes on."""
    async with member(tmp_path) as bank:
        open_one, pausing = bank.pay(bank.command(100)), bank.pay(bank.command(200))
        submits = await bank.gateway.wait(Submit, 2)
        await bank.decide(submits[1].id, 0, Busy.code)
        held = bank.hold_journal()
        placing = bank.pay(bank.command(300))
        await until(lambda: held.begun, "the disk is asked")
        bank.member._ports.leave()
        assert isinstance(await within(open_one), OutcomeUnknown)
        assert isinstance(await within(pausing), NotPrimary)
        assert not placing.done()
        held.release()
        await until(lambda: len(bank.member._ports.legs) == 1, "the committer has told")
        submit = await bank.submitted()
        await bank.decide(submit.id, 7)
        assert done(await within(placing)).gateway_sequence == 7


async def test_closing_ends_what_is_still_looked_up(tmp_path: Path) -> None:
    """And answers it; nothing is begun any more."""
    async with member(tmp_path) as bank:
        held = hold_loading(bank.bank.engine)
        held.hold()
        try:
            bank.member._banks.states["bank-x"] = bank_state("bank-x", is_connected=False)
            answer = bank.pay(bank.command(id=bytes(15) + b"\x01", payee="bank-x/1000101"))
            await until(lambda: held.begun, "the tables are read")
            before = bank.position
            await bank.member._ports.close()
            told = await within(answer)
            assert isinstance(told, FortressError)
        finally:
            held.release()
        assert bank.position == before


async def test_an_order_is_answered_once(tmp_path: Path) -> None:
    """However often the outcome is told while others wait for the same."""
    async with member(tmp_path) as bank:
        command, told = bank.command(), list[Any]()
        for _ in range(3):
            bank.member.pay(command, told.append)
        submit = await bank.submitted()
        for _ in range(3):
            bank.gateway.send(Outcome(submit.id, 7))
        await until(lambda: len(told) >= 3, "answers")
        await asyncio.sleep(0)
        assert [done(answer).gateway_sequence for answer in told] == [7, 7, 7]


async def test_a_payment_given_up_too_often_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end would take ever longer to find; nothing was paid, and what was paid within the bound is still found."""
    monkeypatch.setattr(member_ports, "ATTEMPTS_MAX", 2)
    monkeypatch.setattr(participant, "ATTEMPT_PAUSE_FIRST_US", LONGER_US)
    async with member(tmp_path) as bank:
        command, paid = bank.command(), bank.command()
        for attempt in range(2):
            answer = bank.pay(command)
            submit = await bank.submitted()
            assert submit.id == attempt_id(command.id, attempt)
            await bank.decide(submit.id, 0, Busy.code)
            assert isinstance(await within(answer), Busy)
        before = bank.position
        told = await within(bank.pay(command))
        assert isinstance(told, Refused) and told.status is Status.payment_given_up
        assert bank.position == before
        answer = bank.pay(paid)
        await bank.decide((await bank.submitted()).id, 7)
        done(await within(answer))
        monkeypatch.setattr(member_ports, "ATTEMPTS_MAX", 0)
        assert done(await within(bank.pay(paid))).gateway_sequence == 7
