"""The short way against the long one: what is done short is done the same to the byte, all else is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fortress.ledger.acts import judge
from fortress.ledger.commands import MoveBatch, MoveMoney
from fortress.ledger.delta import MARK_EVERY, Delta
from fortress.ledger.entries import encode
from fortress.ledger.model import INTEGER_MAX, Account
from fortress.ledger.ordinary import post_rows, post_transfer
from fortress.ledger.rules import Verdict, row_command
from tests.ledger.books_fixture import ACTORS, ALICE, DAY_US, NOW_US, Books, odd_id, uid
from tests.ledger.ledger_fixture import Row

ACCOUNTS = """
name      owner  kind      currency  balance             state         floor  payment  day  month  signed  held promised
a         1      customer  EUR       1000                open          0      -        -    -      -       -    -
b         1      customer  EUR       300                 open          -50    -        -    -      -       100  7
c         2      customer  EUR       0                   open          0      -        -    -      -       -    -
rich      1      customer  EUR       9223372036854775000 open          0      -        -    -      -       -    500
payment   1      customer  EUR       1000                open          0      40       -    -      -       -    -
day       1      customer  EUR       1000                open          0      -        60   -      -       -    -
month     1      customer  EUR       1000                open          0      -        -    70     -       -    -
signed    1      customer  EUR       1000                open          0      -        -    -      yes     -    -
stopped   1      customer  EUR       1000                debit_frozen  0      -        -    -      -       -    -
frozen    1      customer  EUR       1000                frozen        0      -        -    -      -       -    -
closed    1      customer  EUR       0                   closed        0      -        -    -      -       -    -
dollars   1      customer  USD       1000                open          0      -        -    -      -       -    -
fees      1      fees      EUR       1000                open          0      -        -    -      -       -    -
cash      0      cash      EUR       -5000               open          -      -        -    -      -       -    -
"""
NAMES = [line.split()[0] for line in ACCOUNTS.strip().splitlines()[1:]]
DELTA_LISTS = ("entries", "size_bytes", "chain", "ids", "id_positions", "marks", "trail", "holds", "reversals")


def books() -> Books:
    made = Books(ACCOUNTS)
    unbounded = made.named("a")
    made.accounts.put(5, Account(5, 1, 1, "EUR", floor=None, credits_posted=10))
    made.numbers["unbounded"] = 5
    unbounded.entry_count = MARK_EVERY - 3
    return made


def content(memory: Books) -> list[Any]:
    """Everything that posting may change."""
    accounts = {**memory.accounts.newer, **memory.accounts.older}
    rows = [[getattr(accounts[n], field.name) for field in fields(Account)] for n in sorted(accounts)]
    ids = {**memory.ids.newer, **memory.ids.older}
    delta = [getattr(memory.delta, name) for name in DELTA_LISTS]
    return [memory.position, rows, ids, repr(delta), sorted(memory.delta.touched)]


def frozen(delta: Delta) -> list[Any]:
    delta.freeze(lsn=1, first_position=1, time_us=NOW_US, hash=bytes(32), entry_offset=0)
    counters = msgspec.json.decode("{" + delta.counter_rows + "}")
    return [delta.entry_rows, delta.entry_bytes, delta.id_rows, delta.id_bytes, counters]


def long_way(memory: Books, command: MoveMoney, now_us: int) -> Verdict:
    verdict = judge(memory, command, now_us)
    if verdict.entry is not None and not verdict.replayed:
        verdict.position = memory.apply(verdict.entry, memory.delta)
        memory.delta.add(encode(verdict.entry))
    return verdict


def told(verdict: Verdict) -> tuple[Any, ...]:
    return (verdict.status, verdict.entry, verdict.facts, verdict.replayed, verdict.position, verdict.time_us)


def move(memory: Books, debit: str = "a", credit: str = "c", amount: int = 1, **more: Any) -> MoveMoney:
    id, actor = more.pop("id", None) or uid(), more.pop("actor", ALICE)
    pair = memory.numbers[debit], memory.numbers[credit]
    return MoveMoney(actor, more.pop("kind", 3), id, *pair, amount, more.pop("currency", "EUR"), **more)


# --- Both ways -------------------------------------------------------------------------------------------------------
names = st.sampled_from(["a", "a", "a", "b", "b", "c", *NAMES, "unbounded", "nobody"])
amounts = st.sampled_from([1, 2, 35, 299, 700, INTEGER_MAX])
moves = st.fixed_dictionaries(
    {
        "debit": names,
        "credit": names,
        "amount": amounts,
        "kind": st.sampled_from([3, 3, 3, 3, 1, 2]),
        "actor": st.sampled_from([ALICE, ALICE, ALICE, *ACTORS.values()]),
        "currency": st.sampled_from(["EUR", "EUR", "EUR", "USD", "XXX"]),
        "reference": st.sampled_from(["", "rent", "é"]),
        "value_date": st.sampled_from(["", "", "", "2023-11-15"]),
        "order_signature": st.sampled_from([b"", b"", b"", b"s" * 64]),
    }
)
whens = st.sampled_from(["new", "new", "new", "odd", "again", "ahead"])


def an_id(when: str, before: list[bytes], now_us: int) -> bytes:
    if when == "again" and before:
        return before[-1]
    made = {"odd": odd_id, "ahead": lambda: uid(NOW_US + 30 * DAY_US)}.get(when, lambda: uid(now_us))()
    before.append(made)
    return made


@given(steps=st.lists(st.tuples(moves, whens, st.sampled_from([0, 0, 1, DAY_US, 40 * DAY_US])), max_size=30))
def test_a_transfer_done_short_is_the_one_done_long(steps: list[tuple[dict[str, Any], str, int]]) -> None:
    """Whatever was done before, on whatever day: verdicts, books, entries and what the tables get are equal."""
    short, long = books(), books()
    now_us, before = NOW_US, list[bytes]()
    for wish, when, later_us in steps:
        now_us += later_us
        short.id_ahead = long.id_ahead = uid(now_us + 60_000_000)[:6] + bytes(10)
        command = move(short, **wish, id=an_id(when, before, now_us))
        verdict = post_transfer(short, short.delta, command, now_us) or long_way(short, command, now_us)
        assert told(verdict) == told(long_way(long, command, now_us))
        assert content(short) == content(long)
    assert frozen(short.delta) == frozen(long.delta)


plain_rows = st.tuples(st.sampled_from("ab"), st.sampled_from("abc"), st.sampled_from([1, 2, 35]), st.just("new"))
any_rows = st.tuples(names, names, amounts, whens)


@given(
    rows=st.one_of(st.lists(plain_rows, max_size=20), st.lists(any_rows, max_size=6)),
    currency=st.sampled_from(["EUR", "EUR", "EUR", "USD", "XXX"]),
    actor=st.sampled_from([ALICE, ALICE, ALICE, *ACTORS.values()]),
)
def test_a_batch_done_short_is_the_one_done_long(rows: Sequence[Any], currency: str, actor: Any) -> None:
    """Row by row in order; where it is not done short, nothing has changed."""
    short, long = books(), books()
    before: list[bytes] = []
    numbers = short.numbers
    made = [Row(an_id(when, before, NOW_US), numbers[d], numbers[c], amount, "r") for d, c, amount, when in rows]
    untouched = content(short)
    verdicts = post_rows(short, short.delta, MoveBatch(actor, currency, made, False), NOW_US)
    if verdicts is None:
        assert content(short) == untouched
        return
    others = [long_way(long, row_command(actor, currency, row), NOW_US) for row in made]
    assert [told(verdict) for verdict in verdicts] == [told(verdict) for verdict in others]
    assert content(short) == content(long)
    assert frozen(short.delta) == frozen(long.delta)


# --- What is ordinary ------------------------------------------------------------------------------------------------
def test_what_is_ordinary_is_done() -> None:
    """Down to the floor, with what is held left alone; both accounts' marked entries are noted."""
    memory = books()
    for position, (debit, credit, amount) in enumerate([("a", "c", 1000), ("b", "a", 240), ("a", "b", 1)], 1):
        verdict = post_transfer(memory, memory.delta, move(memory, debit, credit, amount), NOW_US)
        assert verdict is not None and (verdict.status, verdict.position) == (0, position)
    assert (memory.named("a").balance, memory.named("b").available, memory.named("c").balance) == (239, -39, 1000)
    assert memory.delta.marks == [(memory.numbers["a"], 3)]
    memory.named("c").entry_count = memory.named("b").entry_count = MARK_EVERY - 1
    assert post_transfer(memory, memory.delta, move(memory, "a", "c"), NOW_US) is not None
    rows = [Row(uid(), memory.numbers["b"], memory.numbers["c"], 1)]
    assert post_rows(memory, memory.delta, MoveBatch(ALICE, "EUR", rows, True), NOW_US) is not None
    assert memory.delta.marks[1:] == [(memory.numbers["c"], 4), (memory.numbers["b"], 5)]
    memory.named("c").entry_count = MARK_EVERY - 1
    rows = [Row(uid(), memory.numbers["b"], memory.numbers["c"], 1)]
    assert post_rows(memory, memory.delta, MoveBatch(ALICE, "EUR", rows, False), NOW_US) is not None
    assert memory.delta.marks[3:] == [(memory.numbers["c"], 6)]


def test_staff_move_anybody_s_money() -> None:
    """The entry names who did it."""
    memory, teller = books(), ACTORS["teller"]
    rows = [Row(uid(), memory.numbers["a"], memory.numbers["c"], 1)]
    lone = post_transfer(memory, memory.delta, move(memory, actor=teller), NOW_US)
    batch = post_rows(memory, memory.delta, MoveBatch(teller, "EUR", rows, False), NOW_US)
    assert lone is not None and batch is not None
    assert lone.entry.actor == batch[0].entry.actor == teller.customer


UNORDINARY: list[dict[str, Any]] = [
    {"debit": "nobody"},
    {"credit": "nobody"},
    {"credit": "a"},
    {"kind": 1},
    {"actor": ACTORS["bob"]},
    {"currency": "USD"},
    {"currency": "XXX"},
    {"amount": 1001},
    {"debit": "b", "amount": 251},
    {"credit": "rich", "amount": 308},
    *({"debit": name} for name in ("payment", "day", "month", "signed", "unbounded", "cash", "c")),
    *({name: side} for name in ("debit", "credit") for side in ("frozen", "stopped", "closed", "dollars", "fees")),
    {"value_date": "2023-11-15"},
    {"order_signature": b"s" * 64},
    {"id": odd_id()},
    {"id": uid(NOW_US + 60_000_000)},
]


@pytest.mark.parametrize("wish", UNORDINARY, ids=str)
def test_what_is_not_ordinary_is_left_alone(wish: dict[str, Any]) -> None:
    """Also where the long way would do it; nothing has changed."""
    memory = books()
    command = move(memory, **wish)
    before = content(memory)
    assert post_transfer(memory, memory.delta, command, NOW_US) is None
    assert content(memory) == before
    if command.kind == 3 and not command.value_date and not command.order_signature:
        rows = [Row(uid(), memory.numbers["a"], memory.numbers["c"], 1)]
        rows.append(Row(command.id, command.debit, command.credit, command.amount))
        assert post_rows(memory, memory.delta, MoveBatch(command.actor, command.currency, rows, False), NOW_US) is None
        assert content(memory) == before


@pytest.mark.parametrize("generation", ["newer", "older"])
def test_a_known_id_is_not_ordinary(generation: str) -> None:
    """In either generation of memory; nor is an id of which only the tables know, nor the same one twice."""
    memory = books()
    command = move(memory)
    getattr(memory.ids, generation)[command.id] = (1, None)
    row = Row(command.id, command.debit, command.credit, 1)
    assert post_transfer(memory, memory.delta, command, NOW_US) is None
    assert post_rows(memory, memory.delta, MoveBatch(ALICE, "EUR", [row], False), NOW_US) is None
    memory = books()
    memory.id_seen = uid()
    assert post_transfer(memory, memory.delta, command, NOW_US) is None
    assert post_rows(memory, memory.delta, MoveBatch(ALICE, "EUR", [row], False), NOW_US) is None
    memory = books()
    assert post_rows(memory, memory.delta, MoveBatch(ALICE, "EUR", [row, row], False), NOW_US) is None
    assert post_rows(memory, memory.delta, MoveBatch(ALICE, "EUR", [], False), NOW_US) is None


def test_an_account_of_the_older_generation_is_left_to_the_long_way() -> None:
    """Which brings it forward; a batch does so itself."""
    memory = books()
    number = memory.numbers["a"]
    memory.accounts.older[number] = memory.accounts.newer.pop(number)
    assert post_transfer(memory, memory.delta, move(memory), NOW_US) is None
    rows = [Row(uid(), number, memory.numbers["c"], 1)]
    assert post_rows(memory, memory.delta, MoveBatch(ALICE, "EUR", rows, False), NOW_US) is not None
    assert number in memory.accounts.newer


def test_what_is_received_within_a_batch_does_not_count() -> None:
    """The long way knows the order."""
    memory = books()
    a, c = memory.numbers["a"], memory.numbers["c"]
    rows = [Row(uid(), a, memory.numbers["b"], 900), Row(uid(), memory.numbers["b"], a, 900), Row(uid(), a, c, 900)]
    assert post_rows(memory, memory.delta, MoveBatch(ALICE, "EUR", rows, False), NOW_US) is None


def test_what_cannot_be_encoded_changes_nothing_or_shows() -> None:
    """A lone transfer fails before it begins; a batch fails with the position moved on, so that the node stops."""
    memory = books()
    before = content(memory)
    with pytest.raises(UnicodeEncodeError):
        post_transfer(memory, memory.delta, move(memory, reference="\ud800"), NOW_US)
    assert content(memory) == before
    row = Row(uid(), memory.numbers["a"], memory.numbers["c"], 1, "\ud800")
    with pytest.raises(UnicodeEncodeError):
        post_rows(memory, memory.delta, MoveBatch(ALICE, "EUR", [row], False), NOW_US)
    assert memory.position == 1
