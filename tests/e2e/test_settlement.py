"""What operators and customers see of payments between real banks: timelines, logs, doubts, windows, ends by hand."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.bank import ADMINISTRATOR, CURRENCY, username_of
from fortress.client.ids import new_id
from fortress.client.link import Link
from fortress.errors import Busy, FortressError, Refused, RetryableError, Status
from fortress.gateway.participant import attempt_id
from fortress.protocol.payments import GetPayment, ListPayments, Pay, PaymentAnswer, PaymentView, ResolvePayment
from fortress.protocol.switching import CloseWindow, GetWindow, ListWindows
from tests.e2e.node import Node
from tests.fault.clearing import GATEWAY, REQUEST_S, Clearing

PATIENCE_S = 40.0
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def clearing() -> Iterator[Clearing]:
    """Two banks and a gateway that log every request."""
    with tempfile.TemporaryDirectory(prefix="fortress-settlement-", dir="/var/tmp") as parent:
        with Clearing(Path(parent), settings={"log.requests": "all", "log.format": "json"}) as made:
            asyncio.run(made.admit())
            yield made


@asynccontextmanager
async def at(clearing: Clearing, name: str, username: str = ADMINISTRATOR) -> AsyncIterator[Link]:
    link = await clearing.link(name, username)
    try:
        yield link
    finally:
        await link.close()


def order(clearing: Clearing, amount: int = 100, payee: int = 1) -> Pay:
    return Pay(new_id(), f"b/{clearing.numbers[payee]}", amount, CURRENCY, clearing.numbers[0])


async def paid(clearing: Clearing, request: Pay) -> PaymentAnswer:
    """Repeat a payment until it is done."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                async with at(clearing, "a", username_of(0)) as link:
                    answer: PaymentAnswer = await link.request("pay", request, REQUEST_S)
                    return answer
            except RetryableError:
                await asyncio.sleep(0.1)


async def shown(clearing: Clearing, name: str, id: bytes, username: str = ADMINISTRATOR) -> PaymentView:
    async with at(clearing, name, username) as link:
        view: PaymentView = await link.request("payment", GetPayment(id, everywhere=True), REQUEST_S)
        return view


async def until(found: Callable[[], Any], what: str) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        while not (result := await found()):
            await asyncio.sleep(0.05)
    assert result, what
    return result


async def restart(clearing: Clearing, name: str) -> None:
    party = clearing.parties[name]
    party.kill()
    party.spawn()
    await asyncio.to_thread(party.wait_listening)
    await clearing.wait_connected()


async def quiet(clearing: Clearing) -> None:
    """Wait until nothing is left to be told to anybody, so that the next message is the test's own."""

    async def certain() -> bool:
        async with at(clearing, GATEWAY) as gateway:
            listed = await gateway.request("payments", ListPayments(in_doubt=True), REQUEST_S)
            return not listed.payments

    await until(certain, "no payment in doubt")


def lines(node: Node, id: bytes) -> list[dict[str, Any]]:
    """What a node logged about a payment's attempt."""
    found = [json.loads(line) for line in node.log().splitlines() if id.hex() in line and line.startswith("{")]
    return [line for line in found if line.get("payment") == id.hex()]


async def test_a_payment_is_told_step_by_step_across_both_banks(clearing: Clearing) -> None:
    """Its payer sees what each of the three did and when; each of the three has it in its log, under the same id."""
    request = order(clearing)
    answer = await paid(clearing, request)
    view = await shown(clearing, "a", request.id, username_of(0))
    assert (view.state, view.gateway_sequence, view.missing) == ("done", answer.gateway_sequence, [])

    async def told() -> set[tuple[str, str]]:
        view = await shown(clearing, "a", request.id, username_of(0))
        found = {(step.bank, step.step) for step in view.steps}
        return found if len(found) == 6 else set()

    assert await until(told, "all steps") == {
        *(("a", "held"), ("a", "posted")),
        *(("b", "prepared"), ("b", "posted")),
        *((GATEWAY, "intended"), (GATEWAY, "decided")),
    }

    async def logged() -> bool:
        return all(lines(party, request.id) for party in clearing.parties.values())

    await until(logged, "a line on each node")
    results = {line["result"] for party in clearing.parties.values() for line in lines(party, request.id)}
    assert results == {"ok"}


async def test_a_payment_that_failed_is_kept_with_its_reason_everywhere(clearing: Clearing) -> None:
    """A refusal by the payee's bank is in all three books and logs, and a repeat is told the same."""
    closed = Pay(new_id(), "b/99999999", 100, CURRENCY, clearing.numbers[0])
    async with at(clearing, "a", username_of(0)) as link:
        for _ in range(2):
            with pytest.raises(Refused) as caught:
                await link.request("pay", closed, REQUEST_S)
            assert caught.value.status is Status.credit_account_unknown

    async def reasons() -> dict[str, str]:
        view = await shown(clearing, "a", closed.id)
        found = {step.bank: step.reason for step in view.steps if step.reason}
        return found if len(found) == 3 else {}

    assert set((await until(reasons, "three reasons")).values()) == {"credit_account_unknown"}
    for name in ("a", "b", GATEWAY):

        async def logged(name: str = name) -> bool:
            return "credit_account_unknown" in [line["result"] for line in lines(clearing.parties[name], closed.id)]

        await until(logged, f"the reason in the log of {name}")


async def test_a_further_attempt_says_whose_it_is(clearing: Clearing) -> None:
    """While the payee's bank is away a payment is given up; repeated, it is done by another attempt, told as such."""
    request = order(clearing, 7)
    await quiet(clearing)
    clearing.parties["b"].arm("prepare received", 1)
    async with at(clearing, "a", username_of(0)) as link:
        with pytest.raises(RetryableError):
            await link.request("pay", request, REQUEST_S)

    async def given_up() -> bool:
        async with at(clearing, "a", username_of(0)) as link:
            view = await link.request("payment", GetPayment(request.id), REQUEST_S)
            return view.state == "given_up"

    await until(given_up, "the payment given up")
    await restart(clearing, "b")
    await paid(clearing, request)
    view = await shown(clearing, "a", request.id, username_of(0))
    assert view.state == "done" and view.attempt >= 1
    voided = [step for step in view.steps if step.step == "voided"]
    assert voided and {step.reason for step in voided} <= {"bank_unreachable", "payment_unfinished"}
    attempt = lines(clearing.parties["a"], attempt_id(request.id, view.attempt))
    assert {line.get("of") for line in attempt} == {request.id.hex()}
    async with at(clearing, "a", username_of(0)) as link:
        listed = await link.request("payments", ListPayments(), REQUEST_S)
    assert [row.id for row in listed.payments].count(request.id) == 1
    assert listed.payments[0].id == request.id


async def test_somebody_elses_payment_does_not_exist(clearing: Clearing) -> None:
    """A customer of the other bank, who has no part in it, gets the answer that an id of nothing gets."""
    request = order(clearing, payee=2)
    await paid(clearing, request)
    refusals = []
    for name, id in (("b", request.id), ("b", new_id())):
        async with at(clearing, name, "teller" if id == b"" else username_of(0)) as link:
            try:
                await link.request("payment", GetPayment(id), REQUEST_S)
                refusals.append("shown")
            except FortressError as error:
                refusals.append(str(error))
    # all accounts of this bank are one customer's, so the payee is they; the unknown id is refused
    assert refusals[0] == "shown" and "no payment has this id" in refusals[1]


async def test_a_bank_that_votes_and_vanishes_is_in_doubt_until_it_is_back(clearing: Clearing) -> None:
    """The payer is done; the gateway lists who is missing, and the window cannot be closed meanwhile."""
    request = order(clearing, 11)
    await quiet(clearing)
    clearing.parties["b"].arm("outcome received", 1)
    answer = await paid(clearing, request)
    async with at(clearing, GATEWAY) as gateway:
        listed = (await gateway.request("payments", ListPayments(in_doubt=True), REQUEST_S)).payments
        (row,) = [row for row in listed if row.id == request.id]
        assert (row.state, row.missing, row.amount_minor) == ("done", ["b"], 11)
        assert row.act.startswith("none: it is decided")
        with pytest.raises(Refused) as caught:
            await gateway.request("close_window", CloseWindow(new_id()), REQUEST_S)
        assert caught.value.status is Status.window_not_settled and caught.value.facts["bank"] == "b"
        with pytest.raises(Refused) as caught:
            await gateway.request("resolve_payment", ResolvePayment(new_id(), request.id, "abort"), REQUEST_S)
        assert caught.value.status is Status.payment_already_decided
    await restart(clearing, "b")
    await quiet(clearing)
    assert (await shown(clearing, "b", request.id)).gateway_sequence == answer.gateway_sequence


async def test_a_bank_without_its_gateway_lists_its_doubts_and_may_end_one_by_hand(clearing: Clearing) -> None:
    """The money is held, the customer is told that it is not known; what is aborted by hand stays refused, and when the
    gateway is back nothing was paid anywhere."""
    request = order(clearing, 13)
    gateway = clearing.parties[GATEWAY]
    await quiet(clearing)
    gateway.arm("submit received", 1)
    async with at(clearing, "a", username_of(0)) as link:
        with pytest.raises(RetryableError):
            await link.request("pay", request, REQUEST_S)
    async with at(clearing, "a") as admin:

        async def ended() -> bool:
            (row,) = (await admin.request("payments", ListPayments(in_doubt=True), REQUEST_S)).payments
            assert (row.id, row.state, row.missing) == (request.id, "pending", [GATEWAY])
            try:
                await admin.request("resolve_payment", ResolvePayment(new_id(), request.id, "abort"), REQUEST_S)
            except Busy:  # the gateway was there a moment ago
                assert row.act.startswith("none: the gateway tells")
                return False
            return True

        await until(ended, "the payment ended by hand")
        assert (await admin.request("payments", ListPayments(in_doubt=True), REQUEST_S)).payments == []
    await restart(clearing, GATEWAY)
    async with at(clearing, "a", username_of(0)) as link:
        with pytest.raises(Refused) as caught:
            await link.request("pay", request, REQUEST_S)
        assert caught.value.status is Status.payment_given_up
    async with at(clearing, "b") as other:
        with pytest.raises(Refused):
            await other.request("payment", GetPayment(request.id), REQUEST_S)


async def test_a_window_is_closed_once_all_agree(clearing: Clearing) -> None:
    """Sums and nets mirror each other, both banks' books agree, and the next payment belongs to the next window."""
    await paid(clearing, order(clearing, 1000))
    async with at(clearing, GATEWAY) as gateway:

        async def closed() -> Any:
            try:
                return await gateway.request("close_window", CloseWindow(new_id()), REQUEST_S)
            except Refused:
                return None

        await until(closed, "the window closed")
        number = (await gateway.request("windows", ListWindows(), REQUEST_S)).windows[1].number
        rows = {row.bank: row for row in (await gateway.request("window", GetWindow(number), REQUEST_S)).rows}
        assert {row.agrees for row in rows.values()} == {"yes"}
        assert rows["a"].net_minor == -rows["b"].net_minor < 0
        assert rows["a"].payments == rows["b"].payments > 0
        after = await paid(clearing, order(clearing, 1))
        windows = (await gateway.request("windows", ListWindows(), REQUEST_S)).windows
        assert windows[0].after == windows[1].to < after.gateway_sequence <= windows[0].to
