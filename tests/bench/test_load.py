"""The load is the workload of the README, and an open loop counts from when a request was due."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from bench import load
from bench.bank import numbers_of
from bench.load import BATCH_ROWS, ClosedLoop, OpenLoop, Tally, Workload, workload
from fortress.errors import Busy, OutcomeUnknown, Unreachable
from fortress.protocol import money
from fortress.protocol.accounts import GetAccount

NUMBERS = numbers_of(5)
RAW = msgspec.Raw(b"\xc0")


class FakeLink:
    """A connection whose answers the test gives."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.error: Exception | None = None

    def submit(self, operation: str, fields: Any, on_answer: Any) -> None:
        if self.error is not None:
            raise self.error
        self.waiting.append(on_answer)

    def answer_all(self, code: int = 0) -> None:
        waiting, self.waiting = self.waiting, []
        for on_answer in waiting:
            on_answer(code, RAW)


class FakeClock:
    """A performance counter that the test turns on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 1_000_000_000
        monkeypatch.setattr(load.time, "perf_counter_ns", lambda: self.now_ns)


def fake_link() -> Any:
    return FakeLink()


def made(name: str, times: int = 200) -> list[Any]:
    """Make some requests of a workload."""
    work = workload(name, NUMBERS, NUMBERS[:2], random.Random(1))
    return [work.make()[1] for _ in range(times)]


def test_transfers_go_between_two_accounts_drawn_from_all() -> None:
    """Payer and payee are never the same account, each account is drawn, amounts are 1 to 100."""
    transfers: list[money.Transfer] = made("transfers")
    assert all(transfer.debit != transfer.credit for transfer in transfers)
    assert {transfer.debit for transfer in transfers} == {transfer.credit for transfer in transfers} == set(NUMBERS)
    assert all(1 <= transfer.amount_minor <= 100 for transfer in transfers)
    assert len({transfer.id for transfer in transfers}) == len(transfers)


def test_hot_transfers_all_credit_one_account() -> None:
    """One account is credited by all others, and never pays itself."""
    transfers: list[money.Transfer] = made("hot")
    assert {transfer.credit for transfer in transfers} == {NUMBERS[0]}
    assert {transfer.debit for transfer in transfers} == set(NUMBERS[1:])


def test_balances_are_read_of_own_accounts() -> None:
    """A customer asks for nobody else's account."""
    reads: list[GetAccount] = made("balances")
    assert {read.number for read in reads} == set(NUMBERS[:2])


def test_a_batch_has_its_8190_rows_and_counts_for_as_many() -> None:
    """A batch is one request, counted as the transfers in it; a row that was refused is seen in the answer."""
    work = workload("batches", NUMBERS, NUMBERS[:2], random.Random(1))
    operation, fields = work.make()
    assert operation == "transfers" and isinstance(fields, money.Transfers)
    assert len(fields.rows) == work.rows == BATCH_ROWS
    assert all(row.debit != row.credit for row in fields.rows)
    answer = msgspec.Raw(msgspec.msgpack.encode(money.TransfersAnswer([0, 7, 0, 7], 9, 1)))
    assert work.check is not None and work.check(answer) == 2


def reading() -> Workload:
    return Workload(lambda: ("get_account", GetAccount()))


async def test_a_closed_loop_sends_the_next_request_with_each_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many requests are outstanding all the time; what is answered while counting is counted, and then it ends."""
    clock, link, tally = FakeClock(monkeypatch), fake_link(), Tally()
    ClosedLoop(link, reading(), tally).begin(3)
    link.answer_all()
    assert (len(link.waiting), tally.done) == (3, 0)
    tally.count()
    clock.now_ns += 2_000_000
    link.answer_all()
    assert (len(link.waiting), tally.done) == (3, 3)
    clock.now_ns += 1_000_000
    assert tally.stop() == pytest.approx(0.003)
    assert not tally.all_answered.is_set()
    link.answer_all()
    assert tally.all_answered.is_set()
    assert (tally.done, tally.done_ever, list(tally.latencies)) == (3, 9, [2000, 2000, 2000])


async def test_errors_and_lost_connections_are_counted_and_not_waited_for() -> None:
    """An error is no done request; a connection that is gone gets no further ones, and the end comes all the same."""
    link, tally = fake_link(), Tally()
    ClosedLoop(link, reading(), tally).begin(2)
    tally.count()
    link.error = Unreachable("gone")
    link.answer_all(OutcomeUnknown.code)
    assert (tally.outstanding, tally.done, tally.errors[OutcomeUnknown.code]) == (0, 0, 2)
    tally.stop()
    assert tally.all_answered.is_set()


def open_loop(links: list[Any], tally: Tally, rate: float) -> OpenLoop:
    """Make an open loop whose ticks the test gives."""
    loop = OpenLoop(links, [reading() for _ in links], tally, rate)
    loop._loop = Ticks()
    loop.begin()
    return loop


class Ticks:
    """A loop that calls nothing by itself."""

    def call_later(self, delay_s: float, callback: Any) -> None:
        pass


async def test_an_open_loop_sends_what_is_due_whether_or_not_answers_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a thousand a second, the first request goes at once and ten more in ten milliseconds, to links in turn."""
    clock, links, tally = FakeClock(monkeypatch), [fake_link(), fake_link()], Tally()
    loop = open_loop(links, tally, 1000)
    clock.now_ns += 10_000_000
    loop._tick()
    assert [len(link.waiting) for link in links] == [6, 5]


async def test_a_latency_counts_from_when_the_request_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that took nothing for ten milliseconds made its requests wait, and their latencies show it."""
    clock, link, tally = FakeClock(monkeypatch), fake_link(), Tally()
    tally.count()
    link.error = Busy()
    loop = open_loop([link], tally, 1000)
    clock.now_ns += 10_000_000
    loop._tick()
    link.error = None
    clock.now_ns += 1
    loop._tick()
    link.answer_all()
    assert list(tally.latencies) == [10_000, 9_000, 8_000, 7_000, 6_000, 5_000, 4_000, 3_000, 2_000, 1_000, 0]


async def test_what_was_due_in_time_is_counted_also_when_it_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end waits for everything that was due before it, and nothing that was due later is sent."""
    clock, link, tally = FakeClock(monkeypatch), fake_link(), Tally()
    tally.count()
    loop = open_loop([link], tally, 1000)
    clock.now_ns += 5_500_000
    tally.stop()
    assert not tally.all_answered.is_set()
    clock.now_ns += 100_000_000
    loop._tick()
    assert len(link.waiting) == 6
    link.answer_all()
    loop._tick()
    assert tally.all_answered.is_set() and tally.done == 6


async def test_the_longest_time_without_an_acknowledgement_is_the_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals are no acknowledgements; what is shorter than a tenth of a second is not told one by one."""
    clock, link, tally = FakeClock(monkeypatch), fake_link(), Tally()
    ClosedLoop(link, reading(), tally).begin(1)
    tally.count()
    for wait_ns, code in ((5_000_000, 0), (90_000_000, 0), (700_000_000, Busy.code), (800_000_000, 0), (1_000, 0)):
        clock.now_ns += wait_ns
        link.answer_all(code)
    assert tally.outage_s == pytest.approx(1.5)
    assert [to_ns - from_ns for from_ns, to_ns in tally.gaps_ns] == [1_500_000_000]
    tally.stop()
    clock.now_ns += 9_000_000_000
    link.answer_all()
    assert tally.outage_s == pytest.approx(1.5)
