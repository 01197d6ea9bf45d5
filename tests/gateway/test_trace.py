"""What one ledger knows of an attempt is read off its entries: where it stands, why, and the steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from fortress.errors import BankUnreachable, PaymentUnfinished, Status
from fortress.gateway.trace import DONE, GIVEN_UP, PENDING, REFUSED, is_staff, reason_name, state_of, trace_of
from fortress.ledger.commands import MoveMoney, PlaceHold, PlacePayment
from fortress.ledger.model import Actor, TransferKind
from fortress.server.bank import new_id, now_us
from tests.gateway.books import OTHER, Side, bank_side, two_sides

NAMES = ("held", "posted", "voided")


async def steps(side: Side, id: bytes) -> list[tuple[str, str]]:
    trace = await trace_of(side.bank, id)
    assert trace is not None
    return [(step.step, step.reason) for step in trace.steps("here", NAMES)]


async def test_each_way_of_a_payment_is_told_by_its_entries(tmp_path: Path) -> None:
    """Held, posted, voided for either kind of reason, refused, and given up before it came."""
    async with two_sides(tmp_path) as (gateway, bank):
        await gateway.become_gateway()
        opened, done, failed, refused, late = (new_id() for _ in range(5))
        for id in (opened, done, failed):
            await bank.hold_out(id)
        await bank.commit(done, 44)
        await bank.abort(failed, BankUnreachable.code)
        command = PlacePayment(
            await bank.actor("alice"), refused, bank.alice, bank.settlement, 10**9, "EUR", f"{OTHER}/5"
        )
        await bank.bank.commit(command)
        await bank.abort(late, PaymentUnfinished.code)
        found = {id: await trace_of(bank.bank, id) for id in (opened, done, failed, refused, late)}
        assert [trace and (trace.state, trace.sequence) for trace in found.values()] == [
            (PENDING, 0),
            (DONE, 44),
            (GIVEN_UP, 0),
            (REFUSED, 0),
            (GIVEN_UP, 0),
        ]
        assert await steps(bank, opened) == [("held", "")]
        assert await steps(bank, done) == [("held", ""), ("posted", "")]
        assert await steps(bank, failed) == [("held", ""), ("voided", "bank_unreachable")]
        assert await steps(bank, refused) == [("refused", "exceeds_available")]
        assert await steps(bank, late) == [("refused", "payment_unfinished")]
        id, sequence = await gateway.clear()
        decided = await trace_of(gateway.bank, id)
        assert decided is not None and (decided.state, decided.sequence) == (DONE, sequence)


async def test_what_is_no_payment_is_nothing(tmp_path: Path) -> None:
    """Ids of nothing, of a transfer, of a hold and of another refusal tell nothing here."""
    async with bank_side(tmp_path) as bank:
        transfer, hold, refused = new_id(), new_id(), new_id()
        alice, kind = await bank.actor("alice"), int(TransferKind.transfer)
        await bank.do(MoveMoney(alice, kind, transfer, bank.alice, bank.bob, 1, "EUR"))
        await bank.do(PlaceHold(alice, hold, bank.alice, bank.bob, 1, "EUR", now_us() + 10**9))
        await bank.bank.commit(MoveMoney(alice, kind, refused, bank.alice, bank.bob, 10**9, "EUR"))
        for id in (new_id(), transfer, hold, refused):
            assert await trace_of(bank.bank, id) is None


@pytest.mark.parametrize(
    ("reason", "name", "state"),
    [
        (int(Status.credit_account_closed), "credit_account_closed", REFUSED),
        (PaymentUnfinished.code, "payment_unfinished", GIVEN_UP),
        (999, "status_999", REFUSED),
        (0, "", REFUSED),
    ],
)
def test_a_reason_has_a_name_and_tells_whether_to_try_again(reason: int, name: str, state: str) -> None:
    """Statuses are final, errors are not."""
    assert (reason_name(reason), state_of(reason)) == (name, state)


def test_staff_are_those_with_a_role_at_the_bank() -> None:
    """A customer is not, whatever else they are."""
    assert is_staff(Actor(1, frozenset(("auditor",)))) and is_staff(Actor(1, frozenset(("teller", "customer"))))
    assert not is_staff(Actor(1, frozenset(("customer",))))
