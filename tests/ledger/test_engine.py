"""The engine: judged, written, applied, killed and opened again; the books add up after every record."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fortress.errors import BooksBroken, ChainBroken, IntegrityFailed, JournalCorrupt, KeyUnusable, Status, StoreCorrupt
from fortress.ledger import engine as engine_module
from fortress.ledger.commands import (
    AbortPayment,
    AskApproval,
    ChangeAccount,
    ChangeBank,
    ChangeCustomer,
    ChangeKey,
    ChangeProfile,
    CloseWindow,
    CommitPayment,
    CreateCustomer,
    DecideApproval,
    EndSession,
    Invite,
    MoveBatch,
    MoveMoney,
    OpenAccount,
    PlaceHold,
    PlacePayment,
    PostHold,
    ReleaseHold,
    ReverseMoney,
)
from fortress.ledger.delta import Delta
from fortress.ledger.engine import Engine
from fortress.ledger.entries import LedgerRestored, Posted, decode, encode
from fortress.ledger.model import BANK_ACTOR, SWITCH_ACTOR, Actor
from fortress.ledger.records import Record, entries, make_record
from tests.ledger.books_fixture import ADMINISTRATOR, ALICE, KEY, NOW_US, TELLER, odd_id, uid
from tests.ledger.ledger_fixture import DATA_KEY, STORE_KEY, TABLES, Ledger, Row, rebuilt

BANK_ADMINISTRATOR = Actor(2, frozenset({"administrator"}))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path)
    made.found()
    yield made
    made.close()


# --- Any commands at all ---------------------------------------------------------------------------------------------
class Chaos:
    """Random commands over a few accounts, ids and customers, many of them wrong, many repeated."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self.ledger = ledger
        self.random = random.Random(seed)
        ledger.found()
        ledger.customer(b"boss", "administrator")
        self.customers = [1, 2, 3]
        self.accounts = [ledger.account(1_000, currency=currency) for currency in ("EUR", "EUR", "EUR", "USD")]
        self.accounts += [195, 1, *ledger.state.currencies.values()]
        self.between = [ledger.settlement(), ledger.member("north", 500), ledger.member("south", 2_000)]
        self.accounts += self.between
        self.ids: list[bytes] = [ledger.uid(), odd_id()]
        self.said: list[tuple[Any, Any]] = []
        ledger.commit()

    def id(self) -> bytes:
        """A new id, an odd one, or one used before."""
        choice = self.random.random()
        if choice < 0.25:
            return self.random.choice(self.ids)
        self.ids.append(self.ledger.uid() if choice < 0.85 else odd_id())
        return self.ids[-1]

    def command(self) -> Any:
        makers = [
            *(self.move, self.move, self.move, self.batch, self.place, self.end, self.end, self.reverse),
            *(self.open, self.change, self.change, self.create, self.person, self.person, self.approval, self.repeat),
            *(self.pay, self.pay, self.pay, self.decide, self.decide, self.bank),
        ]
        return self.random.choice(makers)()

    def repeat(self) -> Any:
        return self.random.choice(self.said)[0] if self.said else self.move()

    def move(self) -> Any:
        debit, credit = self.random.choices(self.accounts, k=2)
        kind, currency = self.random.choice([1, 2, 3, 3, 3]), self.random.choice(["EUR", "EUR", "EUR", "USD", "XXX"])
        actor = self.random.choice([ALICE, TELLER])
        return MoveMoney(actor, kind, self.id(), debit, credit, self.amount(), currency)

    def amount(self) -> int:
        return self.random.choice([1, 7, 50, 300, 900, 5_000, 2**63 - 1])

    def batch(self) -> Any:
        rows = [
            Row(self.id(), *self.random.choices(self.accounts[:4], k=2), self.amount())
            for _ in range(self.random.randint(1, 5))
        ]
        return MoveBatch(ALICE, "EUR", rows, self.random.random() < 0.6)

    def place(self) -> Any:
        debit, credit = self.random.choices(self.accounts[:4], k=2)
        expires_us = self.ledger.now_us + self.random.choice([0, 2_000, 10**9])
        return PlaceHold(ALICE, self.id(), debit, credit, self.amount(), "EUR", expires_us, "\0x")

    def end(self) -> Any:
        id = self.random.choice(self.ids)
        if self.random.random() < 0.5:
            return PostHold(ALICE, id, self.random.choice([0, 1, 50]))
        return ReleaseHold(TELLER, id, self.random.choice([3, 4]))

    def pay(self) -> Any:
        """A leg of a payment, mostly between the right kinds of accounts."""
        mine, (ours, north, south) = self.random.choice(self.accounts[:4]), self.between
        pairs = [(mine, ours), (ours, mine), (north, south), (south, north), (mine, north), (0, mine)]
        actor = self.random.choice([ALICE, SWITCH_ACTOR, SWITCH_ACTOR])
        place = PlacePayment(actor, self.id(), *self.random.choice(pairs), self.amount(), "EUR", "b/195", "\0x")
        return replace(place, not_after_us=self.random.choice([0, 0, self.ledger.now_us]))

    def decide(self) -> Any:
        """Commit or abort anything, mostly what there is."""
        id = self.id() if self.random.random() < 0.2 else self.random.choice(self.ids)
        if self.random.random() < 0.6:
            return CommitPayment(SWITCH_ACTOR, id, self.random.choice([0, 0, 7, 8]))
        return AbortPayment(self.random.choice([SWITCH_ACTOR, SWITCH_ACTOR, TELLER]), id, 1004)

    def bank(self) -> Any:
        if self.random.random() < 0.3:
            return CloseWindow(ADMINISTRATOR, self.id(), self.random.randint(0, self.ledger.state.position))
        name, act = self.random.choice(["north", "south", "east"]), self.random.choice(["add", "suspend", "resume"])
        return ChangeBank(ADMINISTRATOR, self.id(), name, act, self.random.choice([b"", b"a", b"b"]))

    def reverse(self) -> Any:
        return ReverseMoney(TELLER, self.id(), self.random.choice(self.ids), self.random.choice([0, 1, 7]))

    def open(self) -> Any:
        owner, currency = self.random.choice(self.customers), self.random.choice(["EUR", "USD", "XXX"])
        return OpenAccount(self.random.choice([ALICE, TELLER]), self.id(), owner, 1, currency)

    def change(self) -> Any:
        number = self.random.choice(self.accounts)
        act = self.random.choice(["freeze", "freeze_debits", "unfreeze", "unfreeze", "close", "reopen", "limits"])
        limits = [self.random.choice([None, None, 60, 1_000]) for _ in range(3)]
        return ChangeAccount(ADMINISTRATOR, self.id(), number, act, self.random.choice([0, -500]), *limits)

    def create(self) -> Any:
        name = self.random.choice([b"carol", b"dave", b"erin", b"frank"]).ljust(16)
        digest = self.random.choice([b"", b"", b"1" * 32, b"2" * 32])
        if self.random.random() < 0.4:
            role = self.random.choice(["customer", "king"])
            return Invite(BANK_ACTOR, self.id(), digest or b"1" * 32, role, self.ledger.now_us + 10**8)
        return CreateCustomer(BANK_ACTOR, self.id(), name, ("customer",), KEY, b"sealed", digest)

    def person(self) -> Any:
        customer = self.random.choice(self.customers)
        act = self.random.choice(["key", "profile", "session", "roles", "lock", "unlock", "erase"])
        if act == "key":
            return ChangeKey(ALICE, customer, KEY)
        if act == "profile":
            return ChangeProfile(ALICE, customer, b"sealed again")
        if act == "session":
            return EndSession(ALICE, customer, self.random.choice(self.ids), self.ledger.now_us)
        roles = self.random.choice([("customer",), ("administrator",), ()])
        return ChangeCustomer(BANK_ACTOR, self.id(), customer, act, roles, self.random.choice([0, 5]))

    def approval(self) -> Any:
        if self.random.random() < 0.5:
            return AskApproval(self.random.choice([ADMINISTRATOR, BANK_ADMINISTRATOR]), self.id(), "erase", b"c", "s")
        return DecideApproval(BANK_ADMINISTRATOR, self.random.choice(self.ids), self.random.random() < 0.7)

    def step(self) -> None:
        """Say something; what was said before is answered as it was."""
        command = self.command()
        outcome = self.ledger.do(command)
        for verdict in outcome if isinstance(outcome, list) else [outcome]:
            if verdict.status is Status.ok and verdict.entry is not None:
                number = getattr(verdict.entry, "number", None)
                if number and number not in self.accounts:
                    self.accounts.append(number)
        self.said.append((command, outcome))


def balances(ledger: Ledger) -> dict[str, tuple[int, int, int]]:
    """By currency: accounts, what is posted in all, what is pending in all."""
    sql = (
        "SELECT currency, count(*), sum(credits_posted - debits_posted), sum(credits_pending - debits_pending)"
        " FROM balances JOIN accounts USING (number) GROUP BY currency"
    )
    return {row[0]: (row[1], row[2], row[3]) for row in ledger.engine.store.read(sql)}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), cache=st.sampled_from([2, 8, 10_000]))
def test_books_add_up_whatever_is_asked(tmp_path_factory: pytest.TempPathFactory, seed: int, cache: int) -> None:
    """Random commands, records, kills and tiny caches: sums are zero after every record, and the tables are what the
    journal alone makes of them."""
    folder = tmp_path_factory.mktemp("chaos")
    ledger = Ledger(folder, account_cache_max=cache, id_cache_max=cache)
    chaos = Chaos(ledger, seed)
    for _ in range(12):
        for _ in range(chaos.random.randint(0, 12)):
            chaos.step()
        ledger.commit(apply=chaos.random.random() < 0.6)
        if chaos.random.random() < 0.3:
            ledger.reopen()
        if not ledger.unapplied:
            for currency, (_, posted, pending) in balances(ledger).items():
                assert (posted, pending) == (0, 0), currency
    ledger.commit()
    live = ledger.tables()
    ledger.close()
    assert rebuilt(folder) == live
    shutil.rmtree(folder)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), cache=st.sampled_from([2, 10_000]))
def test_what_was_answered_is_answered_again(tmp_path_factory: pytest.TempPathFactory, seed: int, cache: int) -> None:
    """After a restart, with all caches cold or tiny: the same status, entry and position as the first time."""
    folder = tmp_path_factory.mktemp("again")
    ledger = Ledger(folder, account_cache_max=cache, id_cache_max=cache)
    chaos = Chaos(ledger, seed)
    first: dict[bytes, tuple[Any, Any]] = {}
    for _ in range(60):
        command = chaos.command()
        id = getattr(command, "id", None)
        verdict = ledger.do(command)
        is_written = isinstance(verdict, list) or verdict.entry is None or verdict.replayed
        ends = PostHold | ReleaseHold | DecideApproval | CommitPayment | AbortPayment
        if not is_written and id is not None and not isinstance(command, ends):
            first[id] = (command, verdict)
        if chaos.random.random() < 0.2:
            ledger.commit()
    ledger.commit()
    if seed % 2:
        ledger.reopen()
    for command, verdict in first.values():
        again = ledger.do(command)
        assert again.replayed and (again.status, again.position) == (verdict.status, verdict.position)
        assert again.entry == verdict.entry
    assert not ledger.engine.pending
    ledger.close()
    shutil.rmtree(folder)


@pytest.mark.parametrize("behind", [1, 2, 7, 40])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_tables_catch_up_with_the_journal(tmp_path: Path, seed: int, behind: int, monkeypatch: Any) -> None:
    """Killed with the journal any number of records ahead: the next start makes the same tables, batch by batch."""
    monkeypatch.setattr(engine_module, "REPLAY_ENTRIES_MAX", 10)
    ledger = Ledger(tmp_path)
    chaos = Chaos(ledger, seed)
    for number in range(45):
        for _ in range(3):
            chaos.step()
        ledger.commit(apply=number < 45 - behind)
    progress: list[tuple[int, int]] = []
    ledger.options["on_progress"] = lambda done, total: progress.append((done, total))
    lag = len(ledger.unapplied)
    ledger.reopen()
    caught_up = ledger.tables()
    ledger.close()
    if lag:
        assert progress[-1] == (lag, lag) and [done for done, _ in progress] == sorted(done for done, _ in progress)
    assert rebuilt(tmp_path) == caught_up


# --- Batches ---------------------------------------------------------------------------------------------------------
def batch(ledger: Ledger, *rows: Row, atomic: bool = True) -> list[Any]:
    answers: list[Any] = ledger.do(MoveBatch(ALICE, "EUR", rows, atomic))
    return answers


def statuses(answers: list[Any]) -> list[str]:
    return [verdict.status.name for verdict in answers]


@pytest.fixture
def pair(ledger: Ledger) -> tuple[int, int]:
    """Two accounts with 100 each."""
    accounts = ledger.account(100), ledger.account(100)
    ledger.commit()
    return accounts


def test_a_batch_of_single_rows_answers_each(ledger: Ledger, pair: tuple[int, int]) -> None:
    """Each row on top of those before, each with its own answer."""
    a, b = pair
    rows = [Row(ledger.uid(), a, b, 80), Row(ledger.uid(), a, b, 80), Row(ledger.uid(), b, a, 150)]
    assert statuses(batch(ledger, *rows, atomic=False)) == ["ok", "exceeds_available", "ok"]
    assert (ledger.named(a).balance, ledger.named(b).balance) == (170, 30)


def test_an_atomic_batch_is_done_whole(ledger: Ledger, pair: tuple[int, int]) -> None:
    """Rows may use what rows before them brought; a repeat is answered as the first."""
    a, b = pair
    rows = [Row(ledger.uid(), a, b, 100), Row(ledger.uid(), b, a, 200), Row(ledger.uid(), a, b, 150)]
    first = batch(ledger, *rows)
    assert statuses(first) == ["ok"] * 3
    again = batch(ledger, *rows)
    assert [v.replayed for v in again] == [True] * 3 and [v.position for v in again] == [v.position for v in first]
    assert (ledger.named(a).balance, ledger.named(b).balance) == (50, 150)


def test_an_atomic_batch_with_a_refusal_moves_nothing(ledger: Ledger, pair: tuple[int, int]) -> None:
    """The row that is refused says why, the others that they failed with it; both are remembered."""
    a, b = pair
    rows = [Row(ledger.uid(), a, b, 80), Row(ledger.uid(), a, b, 21), Row(ledger.uid(), b, a, 1)]
    first = batch(ledger, *rows)
    assert statuses(first) == ["batch_failed", "exceeds_available", "batch_failed"]
    assert dict(first[1].facts) == {"available_minor": 20, "needed_minor": 21}
    assert (ledger.named(a).balance, ledger.named(b).balance) == (100, 100)
    again = batch(ledger, *rows)
    assert statuses(again) == statuses(first) and all(v.replayed for v in again)
    assert [v.position for v in again] == [v.position for v in first]
    assert ledger.pay(a, b, 80, id=rows[0].id).status is Status.batch_failed


@pytest.mark.parametrize(
    ("second", "answers"),
    [
        ({}, ["ok", "ok", "ok"]),
        ({"amount_minor": 2}, ["batch_failed", "id_reused", "batch_failed"]),
    ],
    ids=["same", "other"],
)
def test_one_id_twice_in_an_atomic_batch(
    ledger: Ledger, pair: tuple[int, int], second: dict[str, int], answers: list[str]
) -> None:
    """The same content is one transfer; other content refuses the batch, and each row says its own reason."""
    a, b = pair
    id = ledger.uid()
    rows = [Row(id, a, b, 1), Row(id, a, b, second.get("amount_minor", 1)), Row(ledger.uid(), a, b, 1)]
    assert statuses(batch(ledger, *rows)) == answers
    again = batch(ledger, *rows)
    assert statuses(again) == answers
    assert ledger.named(a).balance == (98 if not second else 100)


def test_the_same_row_twice_in_a_batch_that_fails(ledger: Ledger, pair: tuple[int, int]) -> None:
    """Both tell the one answer that is remembered."""
    a, b = pair
    row = Row(ledger.uid(), a, b, 1)
    answers = batch(ledger, row, row, Row(ledger.uid(), a, b, 1_000))
    assert statuses(answers) == ["batch_failed", "batch_failed", "exceeds_available"]
    assert answers[1].replayed and answers[1].position == answers[0].position


@pytest.mark.parametrize("amount", [10, 1_000], ids=["the rest is right", "the rest is refused"])
def test_an_atomic_batch_of_which_a_part_is_known(ledger: Ledger, pair: tuple[int, int], amount: int) -> None:
    """A row that was done before keeps its answer, and what is new is done whole or not at all."""
    a, b = pair
    known = Row(ledger.uid(), a, b, 5)
    done = ledger.pay(a, b, 5, id=known.id)
    answers = batch(ledger, Row(ledger.uid(), a, b, 1), known, Row(ledger.uid(), a, b, amount))
    assert answers[1].replayed and (answers[1].status, answers[1].position) == (Status.ok, done.position)
    expected = ["ok", "ok", "ok"] if amount == 10 else ["batch_failed", "ok", "exceeds_available"]
    assert statuses(answers) == expected
    assert ledger.named(a).balance == (84 if amount == 10 else 95)


def test_an_atomic_batch_with_a_refusal_of_before_fails(ledger: Ledger, pair: tuple[int, int]) -> None:
    """A remembered refusal is a refusal."""
    a, b = pair
    known = Row(ledger.uid(), a, b, 500)
    ledger.pay(a, b, 500, id=known.id)
    assert statuses(batch(ledger, known, Row(ledger.uid(), a, b, 1))) == ["exceeds_available", "batch_failed"]


def test_an_id_too_far_ahead_leaves_no_trace_of_its_batch(ledger: Ledger, pair: tuple[int, int]) -> None:
    """So that the same batch is done once the clock is right; what was refused besides is judged anew as well."""
    a, b = pair
    late = uid(ledger.now_us + 3_600_000_000)
    rows = [Row(ledger.uid(), a, b, 1), Row(late, a, b, 1), Row(ledger.uid(), a, b, 1_000)]
    position = ledger.state.position
    assert statuses(batch(ledger, *rows)) == ["batch_failed", "id_too_far_ahead", "exceeds_available"]
    assert ledger.state.position == position and not ledger.engine.pending
    ledger.now_us += 3_600_000_000
    assert statuses(batch(ledger, *rows[:2])) == ["ok", "ok"]


def test_a_batch_finds_its_accounts_in_the_tables(ledger: Ledger, pair: tuple[int, int]) -> None:
    """After a restart memory is empty; one read brings all that the batch names."""
    a, b = pair
    ledger.reopen()
    assert ledger.missing(MoveBatch(ALICE, "EUR", [Row(odd_id(), a, b, 1)], True)) is not None
    assert statuses(batch(ledger, Row(odd_id(), a, b, 1))) == ["ok"]


# --- Time and ids ----------------------------------------------------------------------------------------------------
def test_time_never_goes_back(ledger: Ledger) -> None:
    """A clock set back stands still in the journal, also after a restart."""
    engine = ledger.engine
    assert engine.clock(NOW_US + 10**9) == NOW_US + 10**9
    assert engine.clock(NOW_US) == NOW_US + 10**9
    ledger.commit()
    ledger.reopen()
    assert ledger.engine.clock(NOW_US) == NOW_US + 10**9
    assert ledger.engine.last is not None and ledger.engine.last.time_us == NOW_US + 10**9


def test_ids_are_bounded_also_while_the_clock_stands(ledger: Ledger, pair: tuple[int, int]) -> None:
    """Started with a clock set back, an id far ahead is refused: after the next start nobody would find it."""
    a, b = pair
    ledger.commit()
    ledger.reopen()
    ledger.now_us = NOW_US - 10**9
    assert ledger.pay(a, b, 1, id=uid(NOW_US + 10**12)).status is Status.id_too_far_ahead
    assert ledger.pay(a, b, 1, id=uid(NOW_US)).status is Status.ok


def test_after_a_restart_old_ids_ask_the_tables_and_new_ones_do_not(ledger: Ledger, pair: tuple[int, int]) -> None:
    """The newest time-ordered id in the tables is the line; other ids always ask."""
    a, b = pair
    old, odd = ledger.uid(), odd_id()
    newest = uid(ledger.now_us + 30_000_000)  # within the skew
    for id in (old, newest, odd):
        assert ledger.pay(a, b, 1, id=id).status is Status.ok
    ledger.commit()
    ledger.options["id_skew_s"] = 1
    ledger.reopen()
    ledger.named(a), ledger.named(b)
    assert all(ledger.state.lacks_move(id, a, b) for id in (old, odd, newest))
    assert not ledger.state.lacks_move(uid(ledger.now_us + 31_000_000), a, b)
    for id in (old, newest, odd):
        assert ledger.pay(a, b, 1, id=id).replayed


def test_ids_forgotten_while_running_ask_the_tables(tmp_path: Path) -> None:
    """With a memory of a few ids: every repeat still finds its first answer."""
    ledger = Ledger(tmp_path, id_cache_max=4)
    ledger.found()
    a, b = ledger.account(1_000), ledger.account()
    ids = [ledger.uid() for _ in range(30)]
    for id in ids:
        assert not ledger.pay(a, b, 1, id=id).replayed
        ledger.commit()
    assert len(ledger.state.ids) < 10
    for id in random.Random(5).sample(ids, 30):
        assert ledger.pay(a, b, 1, id=id).replayed
    assert not ledger.state.lacks_move(ledger.uid(), a, b), "a new id needs no look into the tables"
    ledger.close()


def test_asking_for_an_id_of_the_far_future_costs_nobody_anything(tmp_path: Path) -> None:
    """A note that it is absent is forgotten without moving the line beyond which ids are new."""
    ledger = Ledger(tmp_path, id_cache_max=2)
    ledger.found()
    a, b = ledger.account(1_000), ledger.account()
    ledger.commit()
    for _ in range(5):
        ledger.do(ReverseMoney(TELLER, ledger.uid(), uid(ledger.now_us + 10**14)))
        ledger.commit()
    assert not ledger.state.lacks_move(ledger.uid(), a, b)
    ledger.close()


# --- Opening ---------------------------------------------------------------------------------------------------------
def snapshot(ledger: Ledger) -> tuple[Any, ...]:
    s = ledger.state
    return (
        *(s.position, s.currencies, s.administrators, s.next_customer, s.next_account),
        *(s.settlements, s.positions, s.windows, {name: repr(bank) for name, bank in s.banks.items()}),
        {id: (a.operation, a.state) for id, a in s.approvals.items()},
        {digest: i.role for digest, i in s.invitations.items()},
        ledger.engine.tree.root(),
        ledger.engine.tree.size,
        ledger.engine.last,
    )


@pytest.mark.parametrize("seed", range(8))
def test_a_reopened_engine_is_in_the_same_state(tmp_path: Path, seed: int) -> None:
    """What is always in memory is as it was, and every account, hold and customer as well."""
    ledger = Ledger(tmp_path)
    chaos = Chaos(ledger, seed)
    for _ in range(150):
        chaos.step()
    ledger.commit()
    before = snapshot(ledger)
    known = [n for n in chaos.accounts if ledger.state.account(n) is not None]
    accounts = [repr(ledger.named(n)) for n in known]
    held = {id: repr(ledger.state.hold(id)) for id in chaos.ids if ledger.state.hold(id)}
    people = [repr(ledger.state.customer(n)) for n in chaos.customers]
    ledger.reopen()
    assert snapshot(ledger) == before
    assert [repr(ledger.named(n)) for n in known] == accounts
    for id in held:
        wanted = ledger.missing(PostHold(ALICE, id))
        ledger.state.fill(wanted, ledger.engine.store.load(wanted))
    assert {id: repr(ledger.state.hold(id)) for id in held} == held
    for number in chaos.customers:
        wanted = ledger.state.want_customer(customer=number)
        ledger.state.fill(wanted, ledger.engine.store.load(wanted))
    assert [repr(ledger.state.customer(n)) for n in chaos.customers] == people
    ledger.close()


def test_account_numbers_go_on_after_many(ledger: Ledger) -> None:
    """Never one twice, whatever was opened before."""
    numbers = [ledger.account() for _ in range(60)]
    ledger.commit()
    ledger.reopen()
    ledger.customer(b"bob")
    more = [ledger.account(owner=2) for _ in range(4)]
    assert len({*numbers, *more}) == 64 and sorted(numbers + more) == numbers + more
    assert more[0] // 100 == numbers[-1] // 100 + 1


def test_an_engine_goes_on_in_the_epoch_of_its_journal(ledger: Ledger) -> None:
    """A journal that has seen a failover does not go back."""
    ledger.engine.epoch = 7
    ledger.account()
    ledger.commit()
    ledger.reopen()
    ledger.account()
    ledger.commit()
    assert ledger.engine.epoch == 7 and ledger.engine.last is not None and ledger.engine.last.epoch == 7


@pytest.mark.parametrize("behind", [0, 1], ids=["as long as the journal", "shorter"])
def test_tables_of_another_history_are_refused(tmp_path: Path, behind: int) -> None:
    """They hold other records of the same numbers; nothing is put on top of them."""
    folders = [tmp_path / name for name in ("a", "b")]
    for folder, amount in zip(folders, (5, 6), strict=True):
        folder.mkdir()
        ledger = Ledger(folder)
        ledger.found()
        number = ledger.account(amount)
        ledger.commit()
        if behind and folder == folders[0]:
            ledger.deposit(number, 1)
            ledger.commit()
        ledger.close()
    shutil.copy(folders[1] / "ledger.db", folders[0] / "ledger.db")
    with pytest.raises((StoreCorrupt, ChainBroken), match="do not belong to this journal"):
        Ledger(folders[0])


def test_tables_ahead_of_the_journal_are_refused(ledger: Ledger) -> None:
    """The journal is the truth; tables that know more show that some of it is gone."""
    ledger.account(5)
    ledger.commit()
    ledger.engine.close()
    shutil.rmtree(ledger.folder / "journal")
    with pytest.raises(JournalCorrupt):
        Engine.open(ledger.folder, bank="alpha", data_key=DATA_KEY, store_key=STORE_KEY)
    for path in ledger.folder.glob("ledger.db*"):
        path.unlink()
    ledger.engine = ledger._open()


def test_an_engine_that_does_not_open_leaves_nothing_open(ledger: Ledger) -> None:
    """The right key opens it afterwards."""
    ledger.commit()
    ledger.close()
    with pytest.raises(KeyUnusable):
        Engine.open(ledger.folder, bank="alpha", data_key=b"x" * 32, store_key=STORE_KEY)
    with pytest.raises(StoreCorrupt, match="does not open"):
        Engine.open(ledger.folder, bank="alpha", data_key=DATA_KEY, store_key=b"x" * 32)
    ledger.engine = ledger._open()


# --- Following -------------------------------------------------------------------------------------------------------
def test_a_follower_makes_the_same_tables(tmp_path: Path) -> None:
    """Record by record, with nothing judged again."""
    (tmp_path / "leader").mkdir()
    ledger = Ledger(tmp_path / "leader")
    chaos = Chaos(ledger, 11)
    for _ in range(20):
        for _ in range(6):
            chaos.step()
        ledger.commit()
    (tmp_path / "follower").mkdir()
    follower = Ledger(tmp_path / "follower", account_cache_max=2, id_cache_max=2)
    for record in ledger.engine.journal.records(1):
        follower.engine.journal.append(record)
        follower.unapplied.append(follower.engine.follow(record))
        follower.apply()
    assert follower.tables() == ledger.tables()
    follower.close()
    ledger.close()


def forged(ledger: Ledger, change: Any) -> Any:
    """The last record with its last entry changed, made to look right where a forger can."""
    engine = ledger.engine
    assert engine.last is not None
    records = list(engine.journal.records(1))
    blobs = entries(records[-1])
    blobs[-1] = change(blobs[-1])
    previous = records[-2] if len(records) > 1 else None
    more = {"bank": "alpha", "epoch": 1, "time_us": engine.last.time_us, "commit_lsn": records[-1].commit_lsn}
    return records[:-1], make_record(blobs, previous=previous, tree_root=records[-1].tree_root, **more)


def grow_by_one(blob: bytes) -> bytes:
    entry = decode(blob)
    assert isinstance(entry, Posted)
    return encode(Posted(*(value + 1 if name == "amount" else value for name, value in fields(entry))))


def fields(entry: Any) -> list[tuple[str, Any]]:
    return [(name, getattr(entry, name)) for name in entry.__struct_fields__]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda blob: blob, None),
        (grow_by_one, BooksBroken),
        (lambda blob: blob[:1] + blob[1:].replace(b"\xa3EUR", b"\xa3USD"), IntegrityFailed),
        (lambda blob: blob.replace(b"\xa3EUR", b"\xd9\x03EUR"), IntegrityFailed),
        (lambda blob: b"\x91\xc0", JournalCorrupt),
    ],
    ids=["unchanged", "amount", "currency", "longer form", "no entry"],
)
def test_a_follower_checks_what_it_is_given(ledger: Ledger, tmp_path: Path, change: Any, error: Any) -> None:
    """Balances continue, bytes are canonical, the tree is the one that the record names."""
    ledger.commit()
    a, b = ledger.account(100), ledger.account()
    ledger.commit()
    ledger.pay(a, b, 5)
    ledger.commit()
    before, record = forged(ledger, change)
    (tmp_path / "follower").mkdir()
    follower = Ledger(tmp_path / "follower")
    for good in before:
        follower.engine.follow(good)
    if error is None:
        assert follower.engine.follow(record).count == record.count
    else:
        with pytest.raises(error):
            follower.engine.follow(record)
    follower.close()


# --- Records ---------------------------------------------------------------------------------------------------------
def test_nothing_judged_makes_no_record(ledger: Ledger) -> None:
    """An empty commit writes nothing."""
    ledger.commit()
    assert ledger.engine.close_record(NOW_US, 0) is None


def test_a_record_is_full_before_it_is_too_large(ledger: Ledger, monkeypatch: Any) -> None:
    """Counted in bytes, since entries are of any size; a closed record starts the count anew."""
    monkeypatch.setattr(engine_module, "RECORD_BYTES_FULL", 1_000)
    ledger.commit()
    a, b = ledger.account(100), ledger.account()
    batch(ledger, Row(ledger.uid(), a, b, 500))
    size = sum(map(len, ledger.engine.pending))
    assert ledger.engine.pending_bytes == size and ledger.engine.is_record_full == (size >= 1_000)
    ledger.do(ChangeProfile(ALICE, 1, bytes(1_000)))
    assert ledger.engine.is_record_full
    ledger.commit()
    assert ledger.engine.pending_bytes == 0 and not ledger.engine.is_record_full


def test_a_tree_that_lost_step_stops_the_node(ledger: Ledger) -> None:
    """Leaves and entries are counted against each other at every record."""
    ledger.account()
    ledger.engine.tree.append([b"x" * 32])
    with pytest.raises(BooksBroken, match="leaves"):
        ledger.commit()


def test_every_table_is_compared_in_these_tests(ledger: Ledger) -> None:
    """The list that the tests go through is the schema's."""
    ledger.commit()
    found = {row[0] for row in ledger.engine.store.read("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert found == set(TABLES)


# --- A member of a pair ----------------------------------------------------------------------------------------------
class Follower(Ledger):
    """A ledger that takes what another one made."""

    def take(self, record: Record) -> Delta:
        self.engine.journal.append(record)
        delta = self.engine.follow(record)
        self.unapplied.append(delta)
        return delta


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[Follower]:
    (tmp_path / "follower").mkdir()
    made = Follower(tmp_path / "follower")
    yield made
    made.close()


def made_here(ledger: Ledger, count: int, *, epoch: int = 1) -> list[Record]:
    """So many records of one transfer each, as the primary of this epoch makes and commits them."""
    made = []
    ledger.engine.epoch = epoch
    a, b = ledger.account(10_000), ledger.account()
    for _ in range(count):
        ledger.pay(a, b, 5)
        ledger.commit()
        assert ledger.engine.last is not None
        made.append(ledger.engine.last)
    return made


@pytest.mark.parametrize("applied", [0, 2, 5])
def test_a_member_s_tables_get_only_what_is_known_to_be_committed(
    follower: Follower, ledger: Ledger, applied: int
) -> None:
    """The newest record tells how far that is, or the tables do; the others wait, in the working state only."""
    records = made_here(ledger, 5)
    for record in records:
        follower.take(record)
        if record.lsn <= applied:
            follower.apply()
    follower.options["is_in_pair"] = True
    for _ in range(2):  # opening changes nothing in it
        follower.reopen()
        engine = follower.engine
        committed = max(applied, 4)
        assert engine.store.applied_lsn == committed and engine.committed == records[committed - 1]
        assert [record for record, _ in engine.unapplied] == records[committed:]
        assert engine.last == records[-1] and engine.state.position == ledger.state.position
    engine.store.apply([delta for _, delta in engine.unapplied] or [follower.take(made_here(ledger, 1)[0])])
    assert follower.tables() == ledger.tables()


def test_alone_everything_durable_is_committed(follower: Follower, ledger: Ledger) -> None:
    """Nobody else could say otherwise."""
    records = made_here(ledger, 3)
    for record in records:
        follower.take(record)
    follower.reopen()
    assert follower.engine.committed == records[-1] and follower.engine.unapplied == []
    assert follower.tables() == ledger.tables()


def test_a_member_that_has_only_its_first_record_knows_nothing_committed(follower: Follower, ledger: Ledger) -> None:
    """The tables stay empty."""
    (record,) = made_here(ledger, 1)
    follower.take(record)
    follower.options["is_in_pair"] = True
    follower.reopen()
    assert follower.engine.committed is None and follower.engine.store.applied_lsn == 0
    assert [record for record, _ in follower.engine.unapplied] == [record]


def test_an_empty_member_opens(follower: Follower) -> None:
    """With nothing to follow yet."""
    follower.options["is_in_pair"] = True
    follower.reopen()
    assert (follower.engine.committed, follower.engine.unapplied) == (None, [])


def test_a_follower_takes_the_next_record_only(follower: Follower, ledger: Ledger) -> None:
    """Not one again, not one too early, not another bank's; and it goes on with the right one."""
    first, second, third = made_here(ledger, 3)
    for wrong in (second, msgspec.structs.replace(first, bank="beta")):
        with pytest.raises(ChainBroken):
            follower.engine.follow(wrong)
    follower.take(first)
    for wrong in (first, third):
        with pytest.raises(ChainBroken):
            follower.engine.follow(wrong)
    follower.take(second)
    follower.take(third)
    follower.apply()
    assert follower.tables() == ledger.tables()


def test_a_follower_takes_the_epoch_of_the_record(follower: Follower, ledger: Ledger) -> None:
    """So that it never makes a record of an older one; and so does a restart."""
    for record in [*made_here(ledger, 1), *made_here(ledger, 1, epoch=7)]:
        follower.take(record)
        assert follower.engine.epoch == record.epoch
    follower.reopen()
    assert follower.engine.epoch == 7


def test_who_takes_over_judges_on_top_of_what_it_followed(follower: Follower, ledger: Ledger) -> None:
    """With the other node's clock an hour ahead of its own: ids of the newest records' time are right, times go on."""
    records = made_here(ledger, 2)
    follower.take(records[0])
    follower.apply()
    ledger.now_us += 3_600_000_000
    (late,) = made_here(ledger, 1)
    follower.take(records[1])
    follower.take(late)
    engine = follower.engine
    assert engine.clock(NOW_US) == late.time_us
    follower.now_us = NOW_US
    paid = decode(entries(late)[-1])
    assert isinstance(paid, Posted)
    made = follower.do(MoveMoney(ALICE, 3, uid(late.time_us), paid.debit, paid.credit, 1, "EUR"))
    assert made.status is Status.ok and made.entry.time_us == late.time_us
    follower.commit()
    for currency, (_, posted, pending) in balances(follower).items():
        assert (posted, pending) == (0, 0), currency


def test_nothing_is_followed_on_top_of_what_was_judged_here(follower: Follower, ledger: Ledger) -> None:
    """A node that made entries of its own must forget them first."""
    first, second = made_here(ledger, 2)
    follower.take(first)
    follower.account()
    with pytest.raises(ChainBroken, match="judged here"):
        follower.engine.follow(second)


# --- From a backup ---------------------------------------------------------------------------------------------------
def test_a_restored_ledger_begins_an_epoch(ledger: Ledger) -> None:
    """Its first record says so and nothing else; it is durable, in the tables, and there after a start."""
    ledger.commit()
    before = ledger.engine.last
    assert before is not None
    now_us = before.time_us + 7
    record = ledger.engine.restored(NOW_US - 5, now_us)
    assert (record.lsn, record.epoch, record.count) == (before.lsn + 1, before.epoch + 1, 1)
    assert [decode(blob) for blob in entries(record)] == [LedgerRestored(now_us, NOW_US - 5)]
    assert ledger.engine.store.applied_lsn == record.lsn
    ledger.reopen()
    assert (ledger.engine.last, ledger.engine.epoch) == (record, before.epoch + 1)
