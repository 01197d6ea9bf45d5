"""Settlement windows: reported from the gateway's books, compared with the banks', closed when all agree."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fortress.errors import Busy, LedgerError, MessageInvalid, Refused, Status
from fortress.gateway import settlement
from fortress.gateway.reconcile import Part
from fortress.gateway.settlement import SPAN, Leaves, Range, Root, Settlement, spans
from fortress.ledger.commands import AbortPayment
from fortress.ledger.merkle import EMPTY_ROOT
from fortress.ledger.model import SWITCH_ACTOR
from fortress.protocol.switching import CloseWindow, GetWindow, ListWindows, WindowRow
from fortress.server.bank import new_id
from tests.gateway.books import BANK, OTHER, STAFF, Asked, Side, bank_side, two_sides
from tests.server.banks import until

LINE = "fortress.gateway.settlement"


class Story:
    """A gateway and a bank that agree on some payments; the other bank is played by an answer of the test."""

    def __init__(self, gateway: Side, bank: Side) -> None:
        self.gateway, self.bank = gateway, bank
        self.asked = Asked()
        self.asked.add(BANK, bank.bank)
        self.asked.answer(OTHER, "root", self._root_of_other)
        self.windows = Settlement(gateway.bank, self.asked)
        self.paid: list[tuple[bytes, int]] = []

    async def _root_of_other(self, fields: msgspec.Raw) -> Root:
        """The other bank has exactly what the gateway has: its root is the one over the same payments."""
        asked = msgspec.msgpack.decode(fields, type=Range)
        parts = await self.windows._parts(asked.after, asked.to)
        return Root(parts.get((OTHER, asked.currency), Part()).root)

    async def pay(self, amount: int = 100, *, incoming: bool = False) -> tuple[bytes, int]:
        """A payment that both carried out."""
        id, sequence = await self.decide(amount, incoming=incoming)
        await self.bank.commit(id, sequence)
        return id, sequence

    async def decide(self, amount: int = 100, *, incoming: bool = False) -> tuple[bytes, int]:
        """A payment that is decided and that the bank has only prepared."""
        id = new_id()
        if incoming:
            await self.bank.hold_in(id, amount)
        else:
            await self.bank.hold_out(id, amount)
        _, sequence = await self.gateway.clear(amount, payer=OTHER if incoming else BANK, id=id)
        return id, sequence

    async def rows(self, number: int = 0) -> dict[str, WindowRow]:
        return {row.bank: row for row in (await self.windows.window(GetWindow(number))).rows}

    async def close(self) -> int:
        return (await self.windows.close_window(STAFF, CloseWindow(new_id()))).position


@asynccontextmanager
async def telling(tmp_path: Path) -> AsyncIterator[Story]:
    async with two_sides(tmp_path) as (gateway, bank):
        await gateway.become_gateway()
        yield Story(gateway, bank)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bank that is behind is asked again, but not for seconds."""
    monkeypatch.setattr(settlement, "SETTLE_S_MAX", 0.05)
    monkeypatch.setattr(settlement, "SETTLE_STEP_S", 0.01)


# --- reports ----------------------------------------------------------------------------------------------------------


async def test_the_open_window_tells_what_each_bank_paid_and_was_paid(tmp_path: Path) -> None:
    """Sums, numbers of payments and nets follow from the gateway's books, and the banks' books agree."""
    async with telling(tmp_path) as story:
        await story.pay(300)
        await story.pay(50, incoming=True)
        rows = await story.rows()
        own = rows[BANK]
        assert (own.currency, own.payments, own.out_minor, own.in_minor, own.net_minor) == ("EUR", 2, 300, 50, -250)
        assert rows[OTHER].net_minor == 250
        assert {row.agrees for row in rows.values()} == {"yes"}
        assert own.root != EMPTY_ROOT and own.differs == ""


async def test_a_given_up_payment_is_in_no_window(tmp_path: Path) -> None:
    """What was aborted counts on neither side."""
    async with telling(tmp_path) as story:
        id = new_id()
        await story.bank.hold_out(id)
        await story.gateway.intend(id)
        await story.gateway.abort(id, 3012)
        await story.bank.abort(id, 3012)
        row = (await story.rows())[BANK]
        assert (row.payments, row.root, row.agrees) == (0, EMPTY_ROOT, "yes")


async def test_a_bank_that_has_not_carried_out_a_payment_does_not_agree(tmp_path: Path) -> None:
    """The payment that is missing there is named; once it is carried out the bank agrees."""
    async with telling(tmp_path) as story:
        await story.pay()
        id, sequence = await story.decide(77)
        row = (await story.rows())[BANK]
        assert row.agrees == "no"
        assert row.differs.startswith("missing there: ") and id.hex() in row.differs
        await story.bank.commit(id, sequence)
        assert (await story.rows())[BANK].agrees == "yes"


async def test_a_bank_that_is_late_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A payment that is on its way while the window is compared is no difference."""
    monkeypatch.setattr(settlement, "SETTLE_S_MAX", 10.0)
    async with telling(tmp_path) as story:
        id, sequence = await story.decide()

        async def late(fields: msgspec.Raw) -> Any:
            if story.asked.questions.count((BANK, "leaves")) == 2:
                await story.bank.commit(id, sequence)
            return await settlement.answer_leaves(story.bank.bank, fields)

        story.asked.answer(BANK, "leaves", late)
        assert (await story.rows())[BANK].agrees == "yes"


async def test_a_payment_that_only_the_bank_has_is_found(tmp_path: Path) -> None:
    """What a bank says was decided, and was not, is named."""
    async with telling(tmp_path) as story:
        invented = new_id()
        await story.bank.hold_in(invented, 5)
        await story.bank.commit(invented, 3)
        row = (await story.rows())[BANK]
        assert row.agrees == "no" and row.differs.startswith("missing here: ") and invented.hex() in row.differs


async def test_the_one_differing_payment_among_many_is_found(tmp_path: Path) -> None:
    """A payment of another amount at the bank is found with few questions."""
    async with telling(tmp_path) as story:
        for _ in range(150):
            await story.pay(1)
        id = new_id()
        await story.bank.hold_out(id, 2)
        _, sequence = await story.gateway.clear(3, id=id)
        await story.bank.commit(id, sequence)
        for _ in range(5):
            await story.pay(1)
        row = (await story.rows())[BANK]
        assert row.differs.startswith("different: ") and id.hex() in row.differs
        assert len([each for each in story.asked.questions if each[0] == BANK]) <= 6


async def test_a_bank_that_cannot_be_asked_is_unknown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Silence is neither a yes nor a no; an answer that is an error is logged."""
    async with telling(tmp_path) as story:
        await story.pay()
        story.asked.failing[OTHER] = LedgerError("broken")
        story.asked._answers.pop(BANK)
        with caplog.at_level(logging.ERROR, LINE):
            rows = await story.rows()
        assert {row.agrees for row in rows.values()} == {"unknown"}
        assert [record.__dict__["fields"]["bank"] for record in caplog.records] == [OTHER]
        assert rows[BANK].payments == 1


async def test_books_that_change_all_the_time_are_unknown(tmp_path: Path) -> None:
    """A bank whose roots and payments contradict each other is accused of nothing."""
    async with telling(tmp_path) as story:
        await story.pay()

        async def wrong(fields: msgspec.Raw) -> Root:
            return Root(bytes(32))

        story.asked.answer(BANK, "root", wrong)
        row = (await story.rows())[BANK]
        assert (row.agrees, row.differs) == ("unknown", "")


# --- closing ----------------------------------------------------------------------------------------------------------


async def test_a_window_is_closed_and_the_next_one_begins_behind_it(tmp_path: Path) -> None:
    """Payments before the close are in the window, those after it in the open one, and none in both."""
    async with telling(tmp_path) as story:
        await story.pay(300)
        position = await story.close()
        _, sequence = await story.pay(7)
        listed = (await story.windows.windows(ListWindows())).windows
        assert [(w.number, w.after) for w in listed] == [(0, listed[1].to), (1, 0)]
        assert listed[1].to < position < sequence <= listed[0].to
        assert listed[1].closed_us > 0
        assert (await story.rows(1))[BANK].out_minor == 300
        assert (await story.rows(0))[BANK].out_minor == 7
        assert len((await story.windows.windows(ListWindows(1))).windows) == 1


async def test_closing_twice_with_one_id_closes_once(tmp_path: Path) -> None:
    """A repeat whose first answer was lost gets it again."""
    async with telling(tmp_path) as story:
        await story.pay()
        request = CloseWindow(new_id())
        first = await story.windows.close_window(STAFF, request)
        again = await story.windows.close_window(STAFF, request)
        assert (again.position, again.replayed, first.replayed) == (first.position, True, False)
        assert len((await story.windows.windows(ListWindows())).windows) == 2


async def test_a_window_with_an_unfinished_payment_is_not_closed(tmp_path: Path) -> None:
    """It is refused with the bank and the payment named, nothing is written, and the same id does it later."""
    async with telling(tmp_path) as story:
        id, sequence = await story.decide()
        request = CloseWindow(new_id())
        with pytest.raises(Refused) as caught:
            await story.windows.close_window(STAFF, request)
        assert caught.value.status is Status.window_not_settled
        assert (caught.value.facts["bank"], caught.value.facts["agrees"]) == (BANK, "no")
        assert await story.gateway.bank.known(request.id) is None
        await story.bank.commit(id, sequence)
        await story.windows.close_window(STAFF, request)
        assert story.gateway.bank.state.windows.number == 1


@pytest.mark.parametrize("suspended", ["", OTHER])
async def test_a_bank_that_is_away_keeps_the_window_open(tmp_path: Path, suspended: str) -> None:
    """Unless it is suspended and has paid nothing: nobody need wait for that one."""
    async with two_sides(tmp_path) as (gateway, bank):
        await gateway.become_gateway(suspended=suspended)
        story = Story(gateway, bank)
        story.asked._answers.pop(OTHER)
        if suspended:
            assert await story.close()
            await story.pay()
        with pytest.raises(Refused) as caught:
            await story.close()
        assert caught.value.facts["bank"] == OTHER


async def test_an_unknown_window_is_refused(tmp_path: Path) -> None:
    """A number that was never given is told as such."""
    async with telling(tmp_path) as story:
        with pytest.raises(MessageInvalid, match="no window 3"):
            await story.windows.window(GetWindow(3))


# --- by itself --------------------------------------------------------------------------------------------------------


async def test_a_difference_is_logged_and_counted_without_anybody_asking(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The closed window is compared again, and the open one as far as it was decided a while ago."""
    monkeypatch.setattr(settlement, "RECONCILE_EVERY_S", 0.01)
    async with telling(tmp_path) as story:
        await story.pay()
        await story.close()
        story.windows.start()
        story.windows.start()
        await until(lambda: story.windows.statistics()["reconciled_us"])
        assert story.windows.statistics()["differences"] == {}
        with caplog.at_level(logging.ERROR, LINE):
            id, _ = await story.decide()
            await until(lambda: story.windows.statistics()["differences"])
        await story.windows.stop()
        await story.windows.stop()
        assert story.windows.statistics()["window"] == 1
        assert id.hex() in str(story.windows.statistics()["differences"])
        assert caplog.records[0].__dict__["fields"]["bank"] == BANK


async def test_comparing_goes_on_after_errors_and_tells_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be read now is tried again; a fault of the code is logged."""
    monkeypatch.setattr(settlement, "RECONCILE_EVERY_S", 0.01)
    async with telling(tmp_path) as story:
        errors: list[Exception] = [Busy("later"), Busy("later"), RuntimeError("a fault")]

        async def fail() -> None:
            raise errors.pop(0)

        monkeypatch.setattr(story.windows, "reconcile", fail)
        story.windows.start()
        await until(lambda: not errors)
        await until(lambda: caplog.records and caplog.records[-1].levelname == "ERROR")
        await story.windows.stop()
        assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "ERROR"]


@pytest.fixture
def short_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlement, "SPAN", 4)
    monkeypatch.setattr(settlement, "SPANS_AT_ONCE", 2)


async def test_a_long_window_is_compared_piece_by_piece(tmp_path: Path, short_spans: None) -> None:
    """Each round takes a few new spans of the open window, and a few of the closed one, again and again."""
    async with telling(tmp_path) as story:
        for _ in range(4):
            await story.pay()
        await story.close()
        for _ in range(6):
            await story.pay()
        windows, begin = story.windows, story.gateway.bank.state.windows.to
        windows._seen = end = story.gateway.bank.committer.committed_position
        agreed, closed = [], []
        for _ in range(5):
            story.asked.questions.clear()
            await windows.reconcile()
            agreed.append(windows._checked.to)
            assert windows._round is not None
            closed.append(windows._round.at)
            assert len(story.asked.questions) <= 8
        assert agreed == sorted(min(end, begin + 8 * (each + 1)) for each in range(5))
        assert 0 in closed[1:] and closed[0] == 8
        assert windows.statistics()["differences"] == {}


async def test_closing_a_long_window_asks_only_about_its_end(tmp_path: Path, short_spans: None) -> None:
    """What all were found to agree about is not asked again; the sums and roots are those of the whole window."""
    async with telling(tmp_path) as story:
        for _ in range(12):
            await story.pay(3)
        story.windows._seen = story.gateway.bank.committer.committed_position
        for _ in range(5):
            await story.windows.reconcile()
        await story.pay(5, incoming=True)
        story.asked.questions.clear()
        await story.close()
        assert len(story.asked.questions) <= 4
        row = (await story.rows(1))[BANK]
        assert (row.payments, row.out_minor, row.in_minor, row.agrees) == (13, 36, 5, "yes")
        whole = await story.windows._parts(0, story.gateway.bank.committer.committed_position)
        assert row.root == whole[BANK, "EUR"].root


async def test_a_window_is_not_taken_to_agree_beyond_a_difference(tmp_path: Path, short_spans: None) -> None:
    """What was found to agree ends before the span that does not, until that does as well."""
    async with telling(tmp_path) as story:
        for _ in range(5):
            await story.pay()
        id, sequence = await story.decide()
        for _ in range(3):
            await story.pay()
        while not story.windows.statistics()["differences"]:
            await story.windows.reconcile()
        assert 0 < story.windows._checked.to < sequence
        assert id.hex() in str(story.windows.statistics()["differences"])
        with pytest.raises(Refused):
            await story.close()
        await story.bank.commit(id, sequence)
        assert await story.close()


def test_a_range_is_cut_into_spans_without_gaps() -> None:
    """Spans follow each other, and the last one ends where the range ends."""
    assert list(spans(5, 5)) == []
    assert list(spans(5, 6 + SPAN)) == [(5, 5 + SPAN), (5 + SPAN, 6 + SPAN)]


# --- a bank's side ----------------------------------------------------------------------------------------------------


def asked(after: int, to: int, currency: str = "EUR", limit: int = 0) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(Range(after, to, currency, limit)))


async def test_a_bank_answers_from_its_own_books(tmp_path: Path) -> None:
    """Payments of the range and the currency, in the order of the sequences, as many as asked for."""
    async with bank_side(tmp_path) as bank:
        for sequence in (30, 10, 20):
            id = new_id()
            await bank.hold_out(id, sequence)
            await bank.commit(id, sequence)
        given_up = new_id()
        await bank.hold_out(given_up)
        await bank.do(AbortPayment(SWITCH_ACTOR, given_up, 3012))
        found = (await settlement.answer_leaves(bank.bank, asked(10, 99))).payments
        assert [(p.sequence, p.payer, p.payee, p.amount) for p in found] == [
            (20, BANK, OTHER, 20),
            (30, BANK, OTHER, 30),
        ]
        assert len((await settlement.answer_leaves(bank.bank, asked(0, 99, limit=2))).payments) == 2
        assert await settlement.answer_leaves(bank.bank, asked(0, 99, "USD")) == Leaves([])
        assert (await settlement.answer_root(bank.bank, asked(10, 99))).root == settlement.root_of(found)


@pytest.mark.parametrize("fields", [asked(0, SPAN + 1), msgspec.Raw(b"\x01")])
async def test_a_question_that_is_malformed_or_too_large_is_refused(tmp_path: Path, fields: msgspec.Raw) -> None:
    """A bank never reads more than a span for one question."""
    async with bank_side(tmp_path) as bank:
        with pytest.raises(MessageInvalid):
            await settlement.answer_root(bank.bank, fields)
