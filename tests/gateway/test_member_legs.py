"""The legs of a bank's payments when its own node is in trouble: nothing is said too early, and nothing is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fortress.errors import DiskFull, OutcomeUnknown
from fortress.gateway import member_legs
from fortress.gateway.messages import Acknowledge, Inquire, Outcome, Submit, Vote
from fortress.gateway.participant import PAUSE_FIRST_US
from tests.gateway.members import OPENING_MINOR, done, member, within
from tests.server.banks import until

FULL = DiskFull("the disk is full")


async def test_a_vote_waits_for_the_disk(tmp_path: Path) -> None:
    """So does every acknowledgement: what the gateway is told has happened."""
    async with member(tmp_path) as bank:
        held = bank.hold_journal()
        prepare = bank.prepare()
        bank.gateway.send(prepare)
        await until(lambda: held.begun, "the disk is asked")
        assert bank.stand(bank.b) == (OPENING_MINOR, 0, 500) and bank.gateway.take(Vote) == []
        held.release()
        assert await bank.gateway.wait(Vote) == [Vote(prepare.id)]
        held.hold()
        held.begun.clear()
        bank.gateway.send(Outcome(prepare.id, 7))
        await until(lambda: held.begun, "the disk is asked")
        assert bank.stand(bank.b) == (OPENING_MINOR + 500, 0, 0) and bank.gateway.take(Acknowledge) == []
        held.release()
        await bank.gateway.wait(Acknowledge)


async def test_a_submission_waits_for_the_disk(tmp_path: Path) -> None:
    """The hold is this bank's yes, so it is said when it is true."""
    async with member(tmp_path) as bank:
        held = bank.hold_journal()
        answer = bank.pay(bank.command())
        await until(lambda: held.begun, "the disk is asked")
        assert bank.gateway.take(Submit) == []
        held.release()
        submit = await bank.submitted()
        held.hold()
        bank.gateway.send(Outcome(submit.id, 7))
        await until(lambda: bank.stand(bank.a)[0] == 9_500, "it is judged")
        again = bank.pay(bank.command(id=submit.id))
        assert not answer.done() and not again.done()
        held.release()
        assert done(await within(answer)).position == done(await within(again)).position


async def test_a_node_that_cannot_write_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway asks again, and is answered when there is room."""

    def full(*arguments: object) -> None:
        raise DiskFull(FULL.message)

    async with member(tmp_path) as bank:
        prepare, other = bank.prepare(100), bank.prepare(200)
        assert await bank.vote(prepare) == 0
        with monkeypatch.context() as patch:
            patch.setattr(bank.bank, "submit", full)
            bank.gateway.send(Outcome(prepare.id, 7), other)
            assert isinstance(await within(bank.pay(bank.command())), DiskFull)
            assert bank.gateway.take(Vote) == bank.gateway.take(Acknowledge) == []
        await bank.decide(prepare.id, 7)
        assert await bank.vote(other) == 0


async def test_a_hold_that_became_durable_behind_an_error_is_found(tmp_path: Path) -> None:
    """Its customer was told that the disk is full, and it was written once there was space: it is submitted then."""
    async with member(tmp_path) as bank:
        held = bank.hold_journal()
        held.errors.append(FULL)
        held.release()
        command = bank.command()
        assert isinstance(await within(bank.pay(command)), DiskFull)
        await until(lambda: bank.committer.committed_position == bank.position, "it is written after all")
        assert bank.stand(bank.a) == (OPENING_MINOR, 500, 0)
        await bank.member._ports.load()
        assert (await bank.submitted()).id == command.id
        await bank.decide(command.id, 7)
        assert done(await within(bank.pay(command))).replayed


async def test_open_payments_are_read_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every one of them, and none twice; what is known already stays as it is."""
    monkeypatch.setattr(member_legs, "PAGE", 2)
    async with member(tmp_path, gateway__wait_ms="100") as bank:
        answers = [bank.pay(bank.command(amount)) for amount in range(1, 6)]
        ids = {submit.id for submit in await bank.gateway.wait(Submit, 5)}
        prepare = bank.prepare()
        await bank.vote(prepare)
        for answer in answers:
            assert isinstance(await within(answer), OutcomeUnknown)
        ports = bank.member._ports
        before = dict(ports.legs)
        await ports.load()
        assert ports.legs == before
        ports.legs.clear()
        await ports.load()
        assert ports.legs.keys() == {*ids, prepare.id}
        assert await bank.gateway.wait(Inquire) == [Inquire((prepare.id,))]


async def test_what_is_ended_in_memory_only_is_not_found_again(tmp_path: Path) -> None:
    """The tables may be behind: a hold whose end is judged has no leg any more."""
    async with member(tmp_path) as bank:
        prepare = bank.prepare()
        await bank.vote(prepare)
        await bank.bank.tables_hold(bank.position)
        held = bank.hold_journal()
        bank.gateway.send(Outcome(prepare.id, 7))
        await until(lambda: bank.stand(bank.b)[0] == OPENING_MINOR + 500, "it is judged")
        bank.member._ports.legs.clear()
        loading = asyncio.create_task(bank.member._ports.load())
        held.release()
        await loading
        assert bank.member._ports.legs == {}


async def test_what_memory_forgot_in_between_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said about a hold that cannot be seen."""
    async with member(tmp_path) as bank:
        prepare = bank.prepare()
        with monkeypatch.context() as patch:
            patch.setattr(bank.member._ports, "_state", _Forgetful(bank.bank.state))
            bank.gateway.send(prepare)
            await until(lambda: bank.stand(bank.b)[2] == 500 and not bank.member._ports.legs, "it is let go")
            assert bank.gateway.take(Vote) == []
        assert await bank.vote(prepare) == 0


class _Forgetful:
    """The working state, but for holds."""

    def __init__(self, state: object) -> None:
        self._state = state

    def hold(self, id: bytes) -> None:
        return None

    def __getattr__(self, name: str) -> object:
        return getattr(self._state, name)


async def test_legs_that_wait_are_asked_for_less_and_less_often(tmp_path: Path) -> None:
    """And at once again when the gateway is back."""
    async with member(tmp_path) as bank:
        prepare = bank.prepare()
        await bank.vote(prepare)
        leg = bank.member._ports.legs[prepare.id]
        for times in (1, 2, 4):
            leg.ticked(leg.due_us)
            assert await bank.gateway.wait(Inquire) == [Inquire((prepare.id,))]
            assert leg.pause_us >= 2 * times * PAUSE_FIRST_US
        bank.gateway.hang_up()
        assert await bank.gateway.wait(Inquire) == [Inquire((prepare.id,))]
