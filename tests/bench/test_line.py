"""A line to a bank of two nodes: nothing is lost on it, nothing is done twice, and it ends with a definite answer."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bench import arrivals, load
from bench import line as lines
from bench.line import Line
from bench.load import ClosedLoop, Tally, Workload
from fortress.client import link as links
from fortress.client import route as routes
from fortress.client.address import parse
from fortress.client.ids import new_id
from fortress.client.link import Link
from fortress.client.login import Login
from fortress.client.trust import Trust
from fortress.errors import OK, Busy, Refused, Status, Unreachable, refusal_code
from fortress.protocol.money import Transfer
from fortress.protocol.sessions import LoginBegin, LoginFinish, SignedIn
from tests.client.fake_bank import BANK, Books, Credentials, FakeNode

SEED = b"a" * 32


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    """Certificates are slow to make and the same for every test."""
    return Credentials.make(Path(tmp_path_factory.mktemp("certificates")))


class Pair:
    """Two nodes over one set of books, a line to them, and what was answered on it."""

    def __init__(self, credentials: Credentials) -> None:
        self.books = Books()
        self.books.add_user("alice", SEED, 100_000)
        self.books.add_user("bob", b"b" * 32)
        self.first, self.second = FakeNode(credentials, self.books), FakeNode(credentials, self.books)
        self.tally = Tally()
        self.answers: list[int] = []
        self.trust = Trust(credentials.ca)

    async def start(self) -> Line:
        """Start both and connect to the first, which is primary."""
        await self.first.start()
        await self.second.start()
        self.second.follow(self.first)
        address = parse(f"fortress://{self.first.endpoint},{self.second.endpoint}/{BANK}")
        self.line = Line(address, self.trust, sign_in, self.tally.settle)
        await self.line.open()
        return self.line

    async def fail_over(self) -> None:
        """The first dies and the second takes over."""
        await self.first.stop()
        self.second.lead()

    def pay(self) -> None:
        """Ask for one transfer."""
        fields = Transfer(new_id(), 100, 101, 1, "EUR")
        self.line.submit("transfer", fields, lambda code, raw: self.answers.append(code))

    async def answered(self, count: int) -> None:
        """Wait for so many answers."""
        async with asyncio.timeout(10):
            while len(self.answers) < count:
                await asyncio.sleep(0.005)


async def sign_in(link: Link) -> SignedIn:
    """Log alice in by her seed."""
    login = Login(BANK, "alice", seed=SEED)
    r, commitment = login.begin()
    challenge = await link.request("login_begin", LoginBegin("alice", commitment), 5.0)
    proof = await login.answer(link.handshake_hash, r, commitment, challenge)
    signed_in: SignedIn = await link.request("login_finish", LoginFinish(proof), 5.0)
    link.login_done()
    return signed_in


@pytest_asyncio.fixture
async def pair(credentials: Credentials) -> AsyncIterator[Pair]:
    """A pair with an open line to it."""
    pair = Pair(credentials)
    line = await pair.start()
    yield pair
    await line.close()
    await pair.first.stop()
    await pair.second.stop()


async def test_what_is_asked_over_a_failover_is_answered_once(pair: Pair) -> None:
    """Some done and not told, some never seen: all are asked again at the other node, in the same session."""
    pair.first.faults["transfer"] = ["", "cut_after"]
    for _ in range(20):
        pair.pay()
    failing = asyncio.create_task(pair.fail_over())
    await asyncio.sleep(0)
    pair.pay()
    await failing
    await pair.answered(21)
    assert pair.answers == [OK] * 21
    assert pair.books.balances[101] == 21
    assert pair.tally.settled >= 18
    assert pair.second.asked.count("resume") >= 1
    assert "login_begin" not in pair.second.asked


async def test_a_stopped_node_and_a_request_without_answer_are_left(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request has a time of its own, and a link that is silent ends."""
    monkeypatch.setattr(lines, "TRY_S_MAX", 0.1)
    pair.first.faults["transfer"] = ["silent"]
    pair.pay()
    await pair.answered(1)
    monkeypatch.setattr(lines, "TRY_S_MAX", 60.0)
    monkeypatch.setattr(links, "SILENCE_S", 0.15)
    monkeypatch.setattr(routes, "OPEN_S_MAX", 0.1)
    pair.pay()
    await pair.answered(2)
    await pair.first.stall()
    pair.second.lead()
    pair.pay()
    await pair.answered(3)
    assert pair.books.balances[101] == 3
    assert pair.tally.settled == 2


async def test_a_standby_shows_the_way_and_a_refusal_is_an_answer(pair: Pair) -> None:
    """A switch-over is nobody's error; what the rules refuse is told as it is."""
    pair.first.follow(pair.second)
    pair.second.lead()
    pair.pay()
    await pair.answered(1)
    fields = Transfer(new_id(), 100, 101, 999_999, "EUR")
    pair.line.submit("transfer", fields, lambda code, raw: pair.answers.append(code))
    await pair.answered(2)
    assert pair.answers == [OK, refusal_code(Refused(Status.exceeds_available).status)]
    assert pair.tally.settled == 0


async def test_a_token_that_is_refused_is_replaced_by_a_login(pair: Pair) -> None:
    """A run may outlive its session."""
    pair.books.tokens.clear()
    pair.first.cut()
    pair.pay()
    await pair.answered(1)
    assert pair.first.asked.count("login_begin") == 2


async def test_what_waits_has_a_limit(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open loop keeps it due instead; the end comes although nobody serves."""
    monkeypatch.setattr(lines, "WAITING_MAX", 3)
    await pair.first.stop()
    await pair.second.stop()
    await asyncio.sleep(0)
    for _ in range(3):
        pair.pay()
    async with asyncio.timeout(5):
        while len(pair.line._waiting) < 3:
            await asyncio.sleep(0.005)
    with pytest.raises(Busy):
        pair.pay()


async def test_a_line_to_nobody_is_told(credentials: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time that opening has."""
    monkeypatch.setattr(lines, "TRY_S_MAX", 0.2)
    address = parse(f"fortress://127.0.0.1:1,127.0.0.1:2/{BANK}")
    line = Line(address, Trust(credentials.ca), sign_in, lambda: None)
    with pytest.raises(Unreachable):
        await line.open()
    await line.close()


async def test_a_load_goes_on_over_a_failover(pair: Pair) -> None:
    """The closed loop neither ends nor counts an error, and the outage is seen."""
    work = Workload(lambda: ("transfer", Transfer(new_id(), 100, 101, 1, "EUR")))
    loop = ClosedLoop(pair.line, work, pair.tally)
    pair.tally.count()
    loop.begin(8)
    async with asyncio.timeout(10):
        while pair.tally.done < 50:
            await asyncio.sleep(0.005)
        await pair.fail_over()
        done = pair.tally.done
        while pair.tally.done < done + 50:
            await asyncio.sleep(0.005)
        pair.tally.stop()
        await pair.tally.all_answered.wait()
    assert pair.tally.errors.total() == 0
    assert pair.tally.outage_s > 0
    assert pair.books.balances[101] == pair.tally.done_ever
    assert pair.tally.outstanding == 0


async def test_who_arrives_goes_on_to_the_node_that_serves(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """First one that is gone, then one that is primary; with one node alone the error is told."""
    monkeypatch.setattr(arrivals, "BANK_ID", BANK)
    monkeypatch.setattr(load, "BANK_ID", BANK)
    monkeypatch.setattr(load, "seed_of", lambda username: SEED)
    monkeypatch.setattr(arrivals, "person_of", lambda index: "alice")
    load.login_key.cache_clear()
    await pair.fail_over()
    options = argparse.Namespace(nodes=f"{pair.first.endpoint},{pair.second.endpoint}", people=1, clients=2, first=0)
    monkeypatch.setattr(arrivals, "Trust", lambda ca: pair.trust)
    options.ca = ""
    coming = arrivals.Arrivals(options)
    visitors = [await coming._log_in(), await coming._connect()]
    assert [link.endpoint[1] for link in visitors] == [pair.second.port] * 2
    assert coming.turned_away == 1
    await asyncio.gather(*(link.close() for link in visitors))
    options.nodes = pair.first.endpoint
    with pytest.raises(Unreachable):
        await arrivals.Arrivals(options)._connect()
    load.login_key.cache_clear()
