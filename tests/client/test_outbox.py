"""Tests of the outbox: orders in turn, one terminal answer each, whatever the way to the bank does meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fortress.client import outbox as outboxes
from fortress.client.client import connect
from fortress.client.credentials import LoginKey
from fortress.client.ids import new_id
from fortress.client.me import Me
from fortress.client.order_file import OrderState, OutboxItem
from fortress.client.outbox import Outbox, wait_s
from fortress.errors import (
    DiskFull,
    FortressError,
    GatewayUnreachable,
    IntegrityFailed,
    LoginFailed,
    MessageInvalid,
    OutboxInUse,
    OutboxUnusable,
    OutcomeUnknown,
    Refused,
    ServerNotTrusted,
    Status,
    TokenRejected,
    Unreachable,
    UsageError,
)
from fortress.protocol.orders import PaymentOrder, sign_order
from tests.client import fake_bank
from tests.client.conftest import ALICE_SEED
from tests.client.fake_bank import Books, FakeNode, now_us

HOUR_US = 3_600_000_000
DEADLINE_S = 10.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are short here."""
    monkeypatch.setattr(outboxes, "WAIT_S_MIN", 0.002)
    monkeypatch.setattr(outboxes, "WAIT_S_MAX", 0.02)
    monkeypatch.setattr(outboxes, "LOOK_EVERY_S", 0.05)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    with Outbox.open(path, bank="a", username="alice") as outbox:
        yield outbox


SignIn = Callable[[], AbstractAsyncContextManager[Me]]


@pytest.fixture
def sign_in(node: FakeNode) -> SignIn:
    """Signs Alice in at the node."""

    @asynccontextmanager
    async def session() -> AsyncIterator[Me]:
        async with connect(node.address, ca=node.credentials.ca, timeout_s=0.3, deadline_s=0.3) as bank:
            yield await bank.login_with_seed("alice", ALICE_SEED)

    return session


def order_of(amount: int = 100, *, debit: int = 100, payee: str = "b/4711", not_after_us: int = 0) -> PaymentOrder:
    return PaymentOrder(
        bank="a",
        id=new_id(),
        debit=debit,
        payee=payee,
        amount_minor=amount,
        currency="EUR",
        not_after_us=not_after_us,
    )


async def run_until(outbox: Outbox, sign_in: SignIn, condition: Callable[[], object]) -> None:
    """Run it until something has come about, then cut it short."""
    running = asyncio.create_task(outbox.run(sign_in))
    async with asyncio.timeout(DEADLINE_S):
        while not condition() and not running.done():
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()


def states(outbox: Outbox) -> list[str]:
    return [str(item.state) for item in outbox.list()]


def paid(books: Books) -> list[bytes]:
    """The ids of all payments at the bank, in the order of its journal."""
    return [row.id for row in books.rows if row.kind == "transfer"]


async def test_orders_are_sent_in_turn_and_keep_their_answers(outbox: Outbox, sign_in: SignIn, books: Books) -> None:
    """Done with position, balance and a checked receipt; refused with why; and the next one goes on."""
    orders = [order_of(), order_of(payee="a/101"), order_of(10_000_000), order_of(300)]
    for order in orders:
        outbox.add(order)
    told: list[tuple[bytes, OrderState]] = []
    await outbox.run(sign_in, on_change=lambda item: told.append((item.id, item.state)), deadline_s=DEADLINE_S)
    assert states(outbox) == ["done", "done", "refused", "done"]
    assert paid(books) == [orders[at].id for at in (0, 1, 3)]
    first, own, refused, _ = outbox.list()
    assert (first.tries, first.outcome.code, first.outcome.balance_minor) == (1, 0, 99_900)
    assert first.outcome.gateway_sequence == first.outcome.position == books.done[first.id][1]
    assert own.outcome.gateway_sequence == 0 and books.balances[101] == 100
    assert refused.outcome.code == 1000 + Status.exceeds_available
    assert refused.outcome.facts["available_minor"] == 99_800
    assert first.receipt is not None and first.receipt.position == first.outcome.position
    assert refused.receipt is None
    assert told[:2] == [(first.id, OrderState.sent), (first.id, OrderState.done)]
    assert outbox.counts() == {OrderState.done: 3, OrderState.refused: 1}


async def test_orders_are_signed_before_they_are_sent(outbox: Outbox, sign_in: SignIn, books: Books) -> None:
    """By the session, or earlier by whoever wrote them down; the signature is kept with the order."""
    books.users["alice"].signed_orders_only = True
    early, late, forged = order_of(), order_of(), order_of()
    signature = sign_order(early, LoginKey(ALICE_SEED).signing_seed)
    assert outbox.add(early, signature).signature == signature
    outbox.add(late)
    outbox.add(forged, signature)
    await outbox.run(sign_in, deadline_s=DEADLINE_S)
    assert books.signatures[early.id] == signature
    assert outbox.get(late.id).signature == books.signatures[late.id] != b""
    assert outbox.get(forged.id).outcome.code == 1000 + Status.order_signature_invalid
    assert paid(books) == [early.id, late.id]


@pytest.mark.parametrize("fault", ["cut_before", "cut_after", "silent", "busy", "no_gateway", "no_bank", "no_primary"])
async def test_an_order_waits_for_the_one_before_it(
    outbox: Outbox, sign_in: SignIn, node: FakeNode, books: Books, fault: str
) -> None:
    """However the first one fails at first, it is done before the second one is sent, and once."""
    node.faults["pay"] = [fault] * 5
    first, second = outbox.add(order_of()), outbox.add(order_of())
    await outbox.run(sign_in, deadline_s=DEADLINE_S)
    assert states(outbox) == ["done", "done"]
    assert paid(books) == [first.id, second.id]


async def test_accounts_do_not_wait_for_each_other(
    outbox: Outbox, sign_in: SignIn, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order that gets nowhere holds up its own account alone."""
    stuck, free = outbox.add(order_of(debit=100)), outbox.add(order_of(debit=200))
    pay = Me.pay_order

    async def one_stands(me: Me, order: PaymentOrder, **more: Any) -> object:
        if order.debit == 100:
            raise GatewayUnreachable
        return await pay(me, order, **more)

    monkeypatch.setattr(Me, "pay_order", one_stands)
    # the account is not hers, which is an answer too
    await run_until(outbox, sign_in, lambda: outbox.get(free.id).is_terminal and outbox.get(stuck.id).tries > 2)
    assert outbox.get(free.id).outcome.code == 1000 + Status.debit_account_unknown
    assert outbox.get(stuck.id).outcome.code == GatewayUnreachable.code
    assert outbox.obstacle is None or isinstance(outbox.obstacle, GatewayUnreachable)


async def test_nothing_is_lost_while_nobody_answers(outbox: Outbox, sign_in: SignIn, node: FakeNode) -> None:
    """It says why; once the bank is back everything is done."""
    await node.stop()
    item = outbox.add(order_of())
    await run_until(outbox, sign_in, lambda: outbox.obstacle)
    assert isinstance(outbox.obstacle, Unreachable)
    assert (outbox.get(item.id).state, outbox.get(item.id).tries) == ("queued", 0)
    await node.start()
    await outbox.run(sign_in, deadline_s=DEADLINE_S)
    assert states(outbox) == ["done"]
    assert outbox.obstacle is None


async def test_a_doubt_is_ended_by_the_banks_answer_alone(
    outbox: Outbox, sign_in: SignIn, node: FakeNode, books: Books
) -> None:
    """What may have been done is listed as that, is not taken out, and a later try that did nothing ends nothing."""
    node.faults["pay"] = ["cut_after", *["cut_before"] * 500]
    item = outbox.add(order_of())
    await run_until(outbox, sign_in, lambda: outbox.get(item.id).outcome.code)
    found = outbox.get(item.id)
    assert (found.state, found.outcome.code) == ("sent", OutcomeUnknown.code)
    with pytest.raises(UsageError, match="may have been done"):
        outbox.remove(item.id)
    node.faults["pay"] = ["no_gateway"] * 500
    await run_until(outbox, sign_in, lambda: outbox.get(item.id).outcome.code == GatewayUnreachable.code)
    assert outbox.get(item.id).state == "sent"
    node.faults["pay"] = []
    await outbox.run(sign_in, deadline_s=DEADLINE_S)
    assert states(outbox) == ["done"] and paid(books) == [item.id]


async def test_a_full_disk_leaves_an_order_in_doubt(outbox: Outbox, sign_in: SignIn, node: FakeNode) -> None:
    """The bank may have judged it and write it once there is space: it is neither taken out nor too late here."""
    node.faults["pay"] = ["disk_full"] * 500
    item = outbox.add(order_of(not_after_us=now_us() + HOUR_US))
    await run_until(outbox, sign_in, lambda: outbox.get(item.id).outcome.code)
    assert (outbox.get(item.id).state, outbox.get(item.id).outcome.code) == ("sent", DiskFull.code)
    with pytest.raises(UsageError, match="may have been done"):
        outbox.remove(item.id)


async def test_an_order_that_is_too_late_is_not_sent(outbox: Outbox, sign_in: SignIn, node: FakeNode) -> None:
    """If it was certainly not done it ends here; the bank is not even asked. The next one goes on."""
    late, good = outbox.add(order_of(not_after_us=1_000)), outbox.add(order_of(not_after_us=now_us() + HOUR_US))
    await outbox.run(sign_in, deadline_s=DEADLINE_S)
    assert states(outbox) == ["expired", "done"]
    assert outbox.get(late.id).outcome.code == 1000 + Status.order_expired
    assert outbox.get(late.id).outcome.facts == {"not_after_us": 1_000}
    assert node.asked.count("pay") == 1
    assert outbox.get(good.id).receipt


@pytest.mark.parametrize(("fault", "state"), [("cut_before", "expired"), ("cut_after", "done")])
async def test_whether_a_doubtful_order_is_too_late_the_bank_decides(
    outbox: Outbox,
    sign_in: SignIn,
    node: FakeNode,
    books: Books,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    state: str,
) -> None:
    """One that never came is refused, one that was done in time gets that answer; what was never sent ends here."""
    soon = now_us() + HOUR_US
    doubtful, unsent = outbox.add(order_of(not_after_us=soon)), outbox.add(order_of(not_after_us=soon))
    node.faults["pay"] = [fault, *["cut_before"] * 500]
    await run_until(outbox, sign_in, lambda: outbox.get(doubtful.id).outcome.code)
    assert states(outbox) == ["sent", "queued"]
    for module in (outboxes, fake_bank):
        monkeypatch.setattr(module, "now_us", lambda: soon + 1)
    node.faults["pay"] = []
    await outbox.run(sign_in, deadline_s=DEADLINE_S)
    assert states(outbox) == [state, "expired"]
    assert paid(books) == ([doubtful.id] if state == "done" else [])
    assert outbox.get(unsent.id).tries == 0


@pytest.mark.parametrize("fault", ["cut_before", "cut_after"])
async def test_a_key_that_was_changed_meanwhile_hides_no_payment(
    outbox: Outbox, sign_in: SignIn, node: FakeNode, books: Books, fault: str
) -> None:
    """The bank refuses the old signature before it looks whether the order was done; so it is signed anew."""
    old = LoginKey(b"o" * 32)
    books.users["alice"].signing = old.signing_public()
    order = order_of()
    item = outbox.add(order, sign_order(order, old.signing_seed))
    node.faults["pay"] = [fault, *["cut_before"] * 500]
    await run_until(outbox, sign_in, lambda: outbox.get(item.id).outcome.code)
    books.users["alice"].signing = LoginKey(ALICE_SEED).signing_public()
    node.faults["pay"] = []
    await outbox.run(sign_in, deadline_s=DEADLINE_S)
    assert states(outbox) == ["done"] and paid(books) == [item.id]
    assert outbox.get(item.id).signature == sign_order(order, LoginKey(ALICE_SEED).signing_seed)


async def test_an_id_from_the_future_waits(
    outbox: Outbox, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch, books: Books
) -> None:
    """This machine's clock is ahead; the refusal is not kept at the bank and time helps."""
    pay, left = Me.pay_order, [Refused(Status.id_too_far_ahead)] * 2

    async def early(me: Me, order: PaymentOrder, **more: Any) -> object:
        if left:
            raise left.pop()
        return await pay(me, order, **more)

    monkeypatch.setattr(Me, "pay_order", early)
    item = outbox.add(order_of())
    await outbox.run(sign_in, deadline_s=DEADLINE_S)
    assert outbox.get(item.id).state == "done" and outbox.get(item.id).tries == 3


async def test_a_session_that_ends_is_followed_by_another(
    outbox: Outbox, sign_in: SignIn, node: FakeNode, books: Books
) -> None:
    """As long as the one before was good for something; who cannot sign in at all is told."""
    node.faults["pay"] = ["", "over"]
    for _ in range(3):
        outbox.add(order_of())
    await outbox.run(sign_in, deadline_s=DEADLINE_S)
    assert states(outbox) == ["done"] * 3
    node.faults["pay"] = ["over"]
    item = outbox.add(order_of())
    with pytest.raises(TokenRejected):
        await outbox.run(sign_in, deadline_s=DEADLINE_S)
    assert outbox.get(item.id).state == "queued"
    books.users["alice"].public = bytes(32)
    with pytest.raises(LoginFailed):
        await outbox.run(sign_in, deadline_s=DEADLINE_S)
    assert outbox.get(item.id).state == "queued"


@pytest.mark.parametrize(
    ("error", "state"),
    [(MessageInvalid("odd"), "queued"), (ServerNotTrusted(), "queued"), (FortressError("odd"), "sent")],
)
async def test_what_trying_again_would_not_change_is_raised(
    outbox: Outbox, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch, error: FortressError, state: str
) -> None:
    """With what is known about the order kept, on the safe side."""

    async def fail(me: Me, order: PaymentOrder, **more: Any) -> object:
        raise error

    monkeypatch.setattr(Me, "pay_order", fail)
    item = outbox.add(order_of())
    with pytest.raises(type(error)):
        await outbox.run(sign_in, deadline_s=DEADLINE_S)
    assert (outbox.get(item.id).state, outbox.get(item.id).outcome.code) == (state, error.code)


async def test_a_receipt_is_fetched_when_it_can_be(
    outbox: Outbox, sign_in: SignIn, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost one is asked for again, also by the next run; one that the bank does not give is not."""
    node.faults["receipt"] = ["busy"] * 500
    first = outbox.add(order_of())
    await run_until(outbox, sign_in, lambda: outbox.get(first.id).state == "done" and "receipt" in node.asked)
    assert outbox.get(first.id).receipt is None
    node.faults["receipt"] = []
    await outbox.run(sign_in, deadline_s=DEADLINE_S)
    assert outbox.get(first.id).receipt is not None

    async def none(me: Me, id: bytes, *, position: int) -> object:
        raise Refused(Status.original_unknown)

    monkeypatch.setattr(Me, "receipt", none)
    second = outbox.add(order_of())
    await outbox.run(sign_in, deadline_s=DEADLINE_S)
    assert outbox.get(second.id).state == "done" and outbox.get(second.id).receipt is None

    async def false(me: Me, id: bytes, *, position: int) -> object:
        raise IntegrityFailed("it proves nothing")

    monkeypatch.setattr(Me, "receipt", false)
    third = outbox.add(order_of())
    with pytest.raises(IntegrityFailed):
        await outbox.run(sign_in, deadline_s=DEADLINE_S)
    assert outbox.get(third.id).state == "done"


async def test_a_receipt_for_something_else_is_not_kept(
    outbox: Outbox, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must be for the entry that the bank named, and for this amount from this account."""
    get = Me.receipt
    first = outbox.add(order_of(100))
    await outbox.run(sign_in, deadline_s=DEADLINE_S)

    async def anothers(me: Me, id: bytes, *, position: int) -> object:
        return await get(me, id, position=outbox.get(first.id).outcome.position)

    monkeypatch.setattr(Me, "receipt", anothers)
    second = outbox.add(order_of(200))
    with pytest.raises(IntegrityFailed, match="another payment"):
        await outbox.run(sign_in, deadline_s=DEADLINE_S)
    assert outbox.get(second.id).state == "done" and outbox.get(second.id).receipt is None


async def test_a_running_outbox_takes_new_orders(outbox: Outbox, path: Path, sign_in: SignIn, books: Books) -> None:
    """Added here, or by another process; and no second one may send meanwhile."""
    running = asyncio.create_task(outbox.run(sign_in, until_empty=False))
    try:
        here = outbox.add(order_of())
        with Outbox.open(path) as other:
            there = other.add(order_of())
            async with asyncio.timeout(DEADLINE_S):
                while len(paid(books)) < 2:
                    await asyncio.sleep(0.01)
            with pytest.raises(OutboxInUse):
                await other.run(sign_in)
        assert set(paid(books)) == {here.id, there.id}
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert running.cancelled()


async def test_an_order_taken_out_is_not_sent(
    outbox: Outbox, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch, books: Books
) -> None:
    """Also at the last moment."""
    item = outbox.add(order_of())

    def last_moment(me: Me, order: PaymentOrder) -> bytes:
        outbox.remove(order.id)
        return b""

    monkeypatch.setattr(Me, "sign", last_moment)
    await outbox.run(sign_in, deadline_s=DEADLINE_S)
    assert paid(books) == [] and outbox.list() == ()
    with pytest.raises(UsageError, match="no order with this id"):
        outbox.get(item.id)


async def test_terminal_orders_are_taken_out(outbox: Outbox, sign_in: SignIn) -> None:
    """Their last state is given."""
    item = outbox.add(order_of())
    await outbox.run(sign_in, deadline_s=DEADLINE_S)
    assert outbox.remove(item.id).state == "done"
    assert outbox.list() == ()


async def test_an_empty_outbox_asks_nobody(outbox: Outbox, sign_in: SignIn, node: FakeNode) -> None:
    """Not even for a login."""
    await outbox.run(sign_in)
    assert node.asked == []


async def test_an_outbox_is_sent_in_its_owners_session(path: Path, sign_in: SignIn, node: FakeNode) -> None:
    """Anybody else's would have its orders refused for ever."""
    with Outbox.open(path, bank="a", username="bob") as outbox:
        outbox.add(order_of())
        with pytest.raises(OutboxUnusable, match="of bob at a"):
            await outbox.run(sign_in, deadline_s=DEADLINE_S)
    assert "pay" not in node.asked
    with pytest.raises(OutboxUnusable):
        Outbox.open(path, bank="a", username="alice")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"payee": "b/ines"}, MessageInvalid),
        ({"payee": "4711"}, MessageInvalid),
        ({"amount_minor": 0}, MessageInvalid),
        ({"currency": "EURO"}, MessageInvalid),
        ({"reference": "a\nb"}, MessageInvalid),
        ({"id": b"short"}, MessageInvalid),
        ({"debit": 0}, UsageError),
        ({"bank": "b"}, UsageError),
    ],
)
def test_an_order_that_cannot_be_carried_out_is_not_taken(
    outbox: Outbox, change: dict[str, object], error: type[FortressError]
) -> None:
    """It would be found out much later."""
    fields = {name: getattr(order_of(), name) for name in PaymentOrder.__struct_fields__}
    with pytest.raises(error):
        outbox.add(PaymentOrder(**{**fields, **change}))
    assert outbox.list() == ()


async def test_an_error_of_the_caller_is_not_taken_for_the_end_of_the_time(outbox: Outbox, sign_in: SignIn) -> None:
    """What a callback raises comes out."""
    outbox.add(order_of())

    def fail(item: OutboxItem) -> None:
        raise TimeoutError("of the caller's own")

    with pytest.raises(TimeoutError, match="own"):
        await outbox.run(sign_in, on_change=fail, deadline_s=DEADLINE_S)


def test_waits_double_up_to_a_bound() -> None:
    """Each between half and whole, so that many clients do not come back at the same moment."""
    for failures in range(1, 200):
        whole = min(outboxes.WAIT_S_MIN * 2 ** (failures - 1), outboxes.WAIT_S_MAX)
        assert whole / 2 <= wait_s(failures) <= whole
    assert len({wait_s(9) for _ in range(20)}) > 1
