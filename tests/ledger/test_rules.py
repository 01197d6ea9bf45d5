"""The rules of moving money as tables: accounts, orders, what is answered. The tables are the specification."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fortress.errors import Status
from fortress.ledger.commands import MoveMoney, OpenAccount, PlaceHold
from fortress.ledger.entries import AccountOpened, Posted, Refused
from fortress.ledger.model import INTEGER_MAX, Account, AccountKind, AccountState, Actor, TransferKind
from fortress.ledger.rules import (
    PRECEDENCE,
    Verdict,
    content_digest,
    is_too_far_ahead,
    judge_failed_row,
    judge_move,
    refuse,
    replay_act,
    replay_refusal,
    row_command,
    spent,
)
from tests.ledger.books_fixture import ACTORS, ALICE, BOB, DAY_US, NOW_US, Books, odd_id, rows, status, uid

ACCOUNTS = """
name     owner kind     currency state        floor balance held payment day month signed
cash     0     cash     EUR      open         -     -9000   -    -       -   -     -
dollars  0     cash     USD      open         -     -900    -    -       -   -     -
alice    1     customer EUR      open         -     1000    300  -       -   -     -
spare    1     customer EUR      open         -     0       -    -       -   -     -
savings  1     customer USD      open         -     500     -    -       -   -     -
strict   1     customer EUR      open         -     500     -    -       -   -     yes
limited  1     customer EUR      open         -     5000    -    100     150 200   -
indebted 1     customer EUR      open         -50   20      -    -       -   -     -
fees     0     fees     EUR      open         -     0       -    -       -   -     -
bob      2     customer EUR      open         -     400     -    -       -   -     -
closed   1     customer EUR      closed       -     0       -    -       -   -     -
frozen   1     customer EUR      frozen       -     400     -    -       -   -     -
held     1     customer EUR      debit_frozen -     400     -    -       -   -     -
"""

ORDERS = """
who           kind       debit    credit  amount currency answer
alice         transfer   alice    bob     1      EUR      ok
alice         transfer   alice    bob     700    EUR      ok
alice         transfer   alice    bob     701    EUR      exceeds_available
alice         transfer   alice    spare   10     EUR      ok
alice         transfer   alice    alice   10     EUR      accounts_must_differ
alice         transfer   alice    bob     10     XXX      currency_unknown
alice         transfer   nobody   bob     10     EUR      debit_account_unknown
alice         transfer   bob      alice   10     EUR      debit_account_unknown
alice         transfer   alice    nobody  10     EUR      credit_account_unknown
alice         transfer   alice    cash    10     EUR      account_kind_not_allowed
alice         transfer   alice    fees    10     EUR      account_kind_not_allowed
alice         transfer   alice    savings 10     EUR      currency_mismatch
alice         transfer   savings  alice   10     EUR      currency_mismatch
alice         transfer   savings  alice   10     USD      currency_mismatch
alice         transfer   closed   bob     10     EUR      debit_account_closed
alice         transfer   alice    closed  10     EUR      credit_account_closed
alice         transfer   frozen   bob     10     EUR      debit_account_frozen
alice         transfer   held     bob     10     EUR      debit_account_frozen
alice         transfer   alice    frozen  10     EUR      credit_account_frozen
alice         transfer   alice    held    10     EUR      ok
alice         transfer   strict   bob     10     EUR      order_signature_required
alice         transfer   limited  bob     100    EUR      ok
alice         transfer   limited  bob     101    EUR      exceeds_limit_per_payment
alice         transfer   indebted bob     70     EUR      ok
alice         transfer   indebted bob     71     EUR      exceeds_available
alice         withdrawal alice    cash    700    EUR      ok
alice         withdrawal alice    cash    701    EUR      exceeds_available
alice         withdrawal limited  cash    101    EUR      exceeds_limit_per_payment
alice         withdrawal alice    bob     10     EUR      account_kind_not_allowed
alice         withdrawal cash     alice   10     EUR      debit_account_unknown
alice         deposit    cash     alice   10     EUR      debit_account_unknown
alice         fee        alice    fees    10     EUR      account_kind_not_allowed
alice         reversal   alice    bob     10     EUR      account_kind_not_allowed
teller        deposit    cash     alice   999999 EUR      ok
teller        deposit    cash     closed  10     EUR      credit_account_closed
teller        deposit    cash     fees    10     EUR      account_kind_not_allowed
teller        deposit    dollars  alice   10     USD      currency_mismatch
teller        deposit    alice    bob     10     EUR      account_kind_not_allowed
teller        withdrawal cash     alice   10     EUR      account_kind_not_allowed
teller        transfer   strict   bob     10     EUR      order_signature_required
teller        withdrawal strict   cash    10     EUR      ok
alice         withdrawal strict   cash    10     EUR      order_signature_required
teller        transfer   alice    bob     701    EUR      exceeds_available
teller        transfer   limited  bob     101    EUR      exceeds_limit_per_payment
administrator transfer   bob      alice   400    EUR      ok
bank          transfer   bob      alice   401    EUR      exceeds_available
"""


def order(books: Books, row: dict[str, str], **changes: Any) -> MoveMoney:
    """The command of a row of orders."""
    kind = int(TransferKind[row["kind"]])
    debit, credit = books.numbers[row["debit"]], books.numbers[row["credit"]]
    made = MoveMoney(ACTORS[row["who"]], kind, uid(), debit, credit, int(row["amount"]), row["currency"])
    return replace(made, **changes)


def transfer(books: Books, amount: int = 10, debit: str = "alice", credit: str = "bob", **changes: Any) -> MoveMoney:
    row = {"who": "alice", "kind": "transfer", "debit": debit, "credit": credit, "currency": "EUR"}
    return order(books, {**row, "amount": str(amount)}, **changes)


@pytest.fixture
def books() -> Books:
    return Books(ACCOUNTS)


@pytest.mark.parametrize("row", rows(ORDERS), ids=lambda row: " ".join(row.values()))
def test_orders_are_answered_as_the_table_says(books: Books, row: dict[str, str]) -> None:
    """One order on the accounts above; what is done carries both balances after, what is refused is remembered."""
    command = order(books, row)
    debit, credit = books.account(command.debit), books.account(command.credit)
    before = (debit.balance if debit else 0, credit.balance if credit else 0)
    verdict = judge_move(books, command, NOW_US)
    assert verdict.status is status(row["answer"])
    assert verdict.entry.time_us == verdict.time_us == NOW_US and not verdict.replayed
    if verdict.status is Status.ok:
        assert type(verdict.entry) is Posted
        assert verdict.entry.debit_balance == before[0] - command.amount
        assert verdict.entry.credit_balance == before[1] + command.amount
    else:
        assert type(verdict.entry) is Refused and verdict.entry.status == verdict.status
        assert (verdict.entry.id, verdict.entry.account) == (command.id, command.debit)
        assert verdict.facts == verdict.entry.facts


# --- The order of the reasons ----------------------------------------------------------------------------------------
@dataclass
class Case:
    """An order that would be done, and what is changed about it so that reasons against it hold."""

    command: dict[str, Any] = field(default_factory=dict)
    debit: dict[str, Any] = field(default_factory=dict)
    credit: dict[str, Any] = field(default_factory=dict)
    is_known: bool = False

    def merged(self, other: Case) -> Case | None:
        """Both changes, or None where they cannot hold together."""
        made = Case(is_known=self.is_known or other.is_known)
        for name in ("command", "debit", "credit"):
            mine, others = getattr(self, name), getattr(other, name)
            if any(mine[key] != others[key] for key in mine.keys() & others.keys()):
                return None
            setattr(made, name, {**mine, **others})
        return made


FAR_AHEAD = uid(NOW_US + 3_600_000_000)
CLOSED, FROZEN = int(AccountState.closed), int(AccountState.frozen)
HALF = INTEGER_MAX // 2 + 1
# reason -> what must be different for it to hold; the account named by number is not there at all
REASONS: dict[Status, Case] = {
    Status.id_reused: Case(is_known=True),
    Status.id_too_far_ahead: Case({"id": FAR_AHEAD}),
    Status.currency_unknown: Case({"currency": "XXX"}),
    Status.accounts_must_differ: Case({"credit": "debit"}, credit={"exists": True}),
    Status.debit_account_unknown: Case(debit={"owner": 7}),
    Status.credit_account_unknown: Case({"credit": "nobody"}, credit={"exists": False}),
    Status.account_kind_not_allowed: Case(credit={"exists": True, "kind": int(AccountKind.fees)}),
    Status.debit_account_closed: Case(debit={"state": CLOSED}),
    Status.credit_account_closed: Case(credit={"exists": True, "state": CLOSED}),
    Status.debit_account_frozen: Case(debit={"state": FROZEN}),
    Status.credit_account_frozen: Case(credit={"exists": True, "state": FROZEN}),
    Status.currency_mismatch: Case(debit={"currency": "USD"}),
    Status.value_date_invalid: Case({"value_date": "1999-12-31"}),
    Status.expiry_in_the_past: Case({"expires_us": NOW_US}),
    Status.order_signature_required: Case(debit={"signed_orders_only": True}),
    Status.exceeds_limit_per_payment: Case({"amount": 10}, debit={"limit_payment": 9}),
    Status.exceeds_limit_per_day: Case({"amount": 10}, debit={"limit_day": 9}),
    Status.exceeds_limit_per_month: Case({"amount": 10}, debit={"limit_month": 9}),
    Status.exceeds_available: Case({"amount": 10}, debit={"credits_posted": 9}),
    Status.balance_too_large: Case({"amount": 10}, credit={"exists": True, "credits_posted": INTEGER_MAX - 9}),
}
ONLY_FOR = {Status.value_date_invalid: MoveMoney, Status.expiry_in_the_past: PlaceHold}


def answer(case: Case, kind: type) -> Status:
    """Judge the case as a transfer or as a hold."""
    books = Books()
    debit = Account(books.numbers["nobody"] + 97, 1, 1, "EUR", credits_posted=100)
    credit = Account(debit.number + 97, 2, 1, "EUR")
    for account, changes in ((debit, case.debit), (credit, case.credit)):
        books.accounts.put(account.number, account)
        for name, value in changes.items():
            if name != "exists":
                setattr(account, name, value)
    named = {"debit": debit.number, "nobody": books.numbers["nobody"], None: credit.number}
    asked = {"id": uid(), "amount": 10, "currency": "EUR", "reference": "", **case.command}
    asked |= {"debit": debit.number, "credit": named[case.command.get("credit")]}
    if kind is MoveMoney:
        command: Any = MoveMoney(ALICE, 3, **asked)
    else:
        command = PlaceHold(ALICE, **{"expires_us": NOW_US + 1, **asked})
    if case.is_known:
        refusal = refuse(replace(command, amount=1), Status.exceeds_available, bytes(16), NOW_US, operation="x")
        books.ids.put(command.id, (1, refusal.entry))
    return books.do(command).status


def test_the_table_of_reasons_is_whole() -> None:
    """Every reason of the documented order is tried, in that order."""
    assert tuple(REASONS) == PRECEDENCE
    assert answer(Case(), MoveMoney) is answer(Case(), PlaceHold) is Status.ok


@pytest.mark.parametrize("kind", [MoveMoney, PlaceHold], ids=["transfer", "hold"])
@pytest.mark.parametrize("reason", PRECEDENCE, ids=lambda reason: str(reason.name))
def test_each_reason_is_told_when_it_holds_alone(reason: Status, kind: type) -> None:
    """The change that makes the reason hold brings just this reason."""
    if ONLY_FOR.get(reason, kind) is kind:
        assert answer(REASONS[reason], kind) is reason


@pytest.mark.parametrize("kind", [MoveMoney, PlaceHold], ids=["transfer", "hold"])
@pytest.mark.parametrize("earlier", PRECEDENCE, ids=lambda reason: str(reason.name))
def test_of_two_reasons_the_earlier_is_told(earlier: Status, kind: type) -> None:
    """For every pair that can hold together, the order of the table is the order of the checks."""
    tried = 0
    for first, later in combinations(PRECEDENCE, 2):
        both = REASONS[first].merged(REASONS[later])
        if first is earlier and both is not None and all(ONLY_FOR.get(r, kind) is kind for r in (first, later)):
            assert answer(both, kind) is earlier, f"{earlier.name} before {later.name}"
            tried += 1
    assert tried or earlier is PRECEDENCE[-1] or ONLY_FOR.get(earlier, kind) is not kind


# --- Idempotency -----------------------------------------------------------------------------------------------------
def test_a_repeat_gets_the_first_answer(books: Books) -> None:
    """Same id, same content: the entry written then, marked as replayed; nothing moves twice."""
    command = transfer(books)
    first, again = books.do(command), books.do(command, NOW_US + DAY_US)
    assert again.replayed and (again.status, again.entry, again.position) == (Status.ok, first.entry, first.position)
    assert books.named("alice").balance == 990


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 11},
        {"credit": "spare"},
        {"debit": "spare"},
        {"currency": "USD"},
        {"kind": 2},
        {"reference": "x"},
        {"value_date": "2023-11-14"},
        {"actor": Actor(1, frozenset({"teller"}))},
        {"actor": BOB},
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize("amount", [10, 5_000], ids=["done", "refused"])
def test_an_id_used_for_something_else_is_refused(books: Books, change: dict[str, Any], amount: int) -> None:
    """Whoever asks, whatever differs: the id stands for its first content, done or refused, and nothing is written."""
    command = transfer(books, amount)
    first = books.do(command)
    named = {key: books.numbers[value] if key in ("debit", "credit") else value for key, value in change.items()}
    again = books.do(replace(command, **named))
    if change.get("actor", BOB).customer == 1:
        assert again.replayed and again.status is first.status
    else:
        assert again.status is Status.id_reused and again.entry is None
    assert books.position == 1


def test_a_refusal_repeats_when_it_would_succeed_by_now(books: Books) -> None:
    """A late retry does not succeed by surprise; it gets the facts of then."""
    command = transfer(books, 701)
    first = books.do(command)
    books.named("alice").credits_posted += 1_000
    again = books.do(command)
    assert again.replayed and again.status is Status.exceeds_available and again.position == 1
    assert again.facts == first.facts == (("available_minor", 700), ("needed_minor", 701))


def test_an_id_of_something_that_is_no_money_is_taken(books: Books) -> None:
    """Ids are one space: that of a hold or an account cannot become a transfer's."""
    hold = PlaceHold(ALICE, uid(), books.numbers["alice"], books.numbers["bob"], 5, "EUR", NOW_US + 1)
    assert books.do(hold).status is Status.ok
    assert books.do(transfer(books, 5, id=hold.id)).status is Status.id_reused


def test_an_id_too_far_ahead_leaves_no_trace(books: Books) -> None:
    """The bound itself is too far, one less is not; other ids carry no time."""
    late = transfer(books, id=FAR_AHEAD)
    assert books.do(late).status is Status.id_too_far_ahead
    assert books.position == 0 and books.known(FAR_AHEAD) is None
    edge = bytearray(books.id_ahead)
    edge[6] = 0x70
    assert is_too_far_ahead(bytes(edge), books.id_ahead)
    assert not is_too_far_ahead((int.from_bytes(edge, "big") - 2**80).to_bytes(16, "big"), books.id_ahead)
    assert books.do(transfer(books, id=b"\xff" * 6 + b"\x4f" + bytes(9))).status is Status.ok
    assert books.do(transfer(books, id=odd_id())).status is Status.ok


def test_only_refusals_are_repeated_as_refusals(books: Books) -> None:
    """What was done is not the business of that check."""
    verdict = judge_move(books, transfer(books), NOW_US)
    assert replay_refusal((1, verdict.entry), b"", ALICE) is None


# --- Value dates and signatures --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("2023-11-14", "ok"),
        ("2022-11-13", "ok"),
        ("2022-11-12", "value_date_invalid"),
        ("2024-11-14", "ok"),
        ("2024-11-15", "value_date_invalid"),
        ("2023-02-29", "value_date_invalid"),
        ("2023-13-01", "value_date_invalid"),
        ("20231114", "value_date_invalid"),
        ("2023-W46-2", "value_date_invalid"),
        ("yesterday", "value_date_invalid"),
    ],
)
def test_value_dates(books: Books, text: str, answer: str) -> None:
    """A real day, in the one spelling, within a year and a day of today."""
    verdict = judge_move(books, transfer(books, value_date=text), NOW_US)
    assert verdict.status is status(answer)
    assert type(verdict.entry) is Refused or verdict.entry.value_date == text


def test_a_signed_order_carries_its_signature(books: Books) -> None:
    """Accounts that take only signed orders take a signed one; the journal keeps the signature."""
    verdict = judge_move(books, transfer(books, debit="strict", order_signature=b"s" * 64), NOW_US)
    assert verdict.status is Status.ok and verdict.entry.order_signature == b"s" * 64


# --- Limits ----------------------------------------------------------------------------------------------------------
LIMITS = """
account limit_payment limit_day limit_month spent_day spent_month amount answer                    left
x       -             100       -           60        60          40     ok                        -
x       -             100       -           60        60          41     exceeds_limit_per_day     40
x       -             100       -           101       101         1      exceeds_limit_per_day     0
x       -             -         100         10        60          40     ok                        -
x       -             -         100         10        60          41     exceeds_limit_per_month   40
x       -             -         100         10        160         1      exceeds_limit_per_month   0
x       50            100       200         0         0           50     ok                        -
x       50            100       200         0         0           51     exceeds_limit_per_payment -
x       50            100       200         60        60          50     exceeds_limit_per_day     40
x       50            100       200         60        180         30     exceeds_limit_per_month   20
x       0             -         -           0         0           1      exceeds_limit_per_payment -
"""


@pytest.mark.parametrize("row", rows(LIMITS), ids=lambda row: " ".join(row.values()))
def test_limits_count_what_was_spent(books: Books, row: dict[str, str]) -> None:
    """Each limit alone and together; the refusal says what is left and when it begins anew."""
    alice = books.named("alice")
    for name in ("limit_payment", "limit_day", "limit_month"):
        setattr(alice, name, int(row[name]) if row[name] else None)
    alice.day, alice.day_spent = NOW_US // DAY_US, int(row["spent_day"])
    alice.month, alice.month_spent = 2023 * 12 + 10, int(row["spent_month"])
    verdict = judge_move(books, transfer(books, int(row["amount"])), NOW_US)
    assert verdict.status is status(row["answer"])
    facts = dict(verdict.facts)
    assert str(facts.get("left_minor", "")) == row["left"]
    resets = {
        Status.exceeds_limit_per_day: 1_700_006_400_000_000,  # 2023-11-15
        Status.exceeds_limit_per_month: 1_701_388_800_000_000,  # 2023-12-01
    }
    assert facts.get("resets_us") == resets.get(verdict.status)


def test_a_new_day_and_a_new_month_begin_at_nothing(books: Books) -> None:
    """What was spent yesterday and last month does not count."""
    alice = books.named("alice")
    alice.day, alice.day_spent, alice.month, alice.month_spent = NOW_US // DAY_US, 60, 2023 * 12 + 10, 90
    assert spent(alice, NOW_US) == (60, 90)
    assert spent(alice, NOW_US + DAY_US) == (0, 90)
    assert spent(alice, NOW_US + 30 * DAY_US) == (0, 0)


def test_the_month_after_december_is_january(books: Books) -> None:
    """The limit of December begins anew with the year."""
    books.named("alice").limit_month = 5
    december = 1_703_980_800_000_000  # 2023-12-31
    facts = dict(judge_move(books, transfer(books, 6), december).facts)
    assert facts["resets_us"] == 1_704_067_200_000_000


def test_deposits_are_not_limited(books: Books) -> None:
    """Limits are about what leaves a customer's account."""
    for limit in ("limit_payment", "limit_day", "limit_month"):
        setattr(books.named("cash"), limit, 1)
    row = {"who": "teller", "kind": "deposit", "debit": "cash", "credit": "limited", "amount": "500", "currency": "EUR"}
    assert judge_move(books, order(books, row), NOW_US).status is Status.ok


@pytest.mark.parametrize(
    ("debits", "pending", "amount", "answer"),
    [
        (INTEGER_MAX - 10, 0, 10, "ok"),
        (INTEGER_MAX - 10, 0, 11, "balance_too_large"),
        (INTEGER_MAX - 10, 5, 5, "ok"),
        (INTEGER_MAX - 10, 5, 6, "balance_too_large"),
    ],
)
@pytest.mark.parametrize("side", ["debit", "credit"])
def test_no_counter_outgrows_the_ledger(
    books: Books, side: str, debits: int, pending: int, amount: int, answer: str
) -> None:
    """Posted and pending sums of a side together stay within 2^63 - 1, so posting a hold never fails for that."""
    if side == "debit":
        cash = books.named("cash")
        cash.debits_posted, cash.debits_pending = debits, pending
    else:
        spare = books.named("spare")
        spare.credits_posted, spare.credits_pending = debits, pending
    row = {"who": "teller", "kind": "deposit", "debit": "cash", "credit": "spare", "currency": "EUR"}
    assert judge_move(books, order(books, {**row, "amount": str(amount)}), NOW_US).status is status(answer)


# --- Batches ---------------------------------------------------------------------------------------------------------
@dataclass
class Row:
    id: bytes
    debit: int
    credit: int
    amount_minor: int
    reference: str


def test_a_row_of_a_batch_is_a_transfer(books: Books) -> None:
    """The same judge, the same id, the batch's currency."""
    row = Row(uid(), books.numbers["alice"], books.numbers["bob"], 10, "rent")
    command = row_command(ALICE, "EUR", row)
    assert command == MoveMoney(ALICE, 3, row.id, row.debit, row.credit, 10, "EUR", "rent")
    verdict = judge_failed_row(command, NOW_US)
    assert verdict.status is Status.batch_failed and verdict.entry.id == row.id


@given(st.lists(st.integers(0, 2**40) | st.text(max_size=5), max_size=4))
def test_different_content_has_different_digests(content: list[int | str]) -> None:
    """16 bytes, the same for the same content only."""
    digest = content_digest(*content)
    assert len(digest) == 16 and digest == content_digest(*content)
    assert digest != content_digest(*content, 1)


def test_an_act_is_repeatable_by_its_id(books: Books) -> None:
    """The entry of the same act and actor, the refusal of the same content, or another use of the id."""
    command = OpenAccount(ALICE, uid(), 1, 1, "EUR")
    digest = bytes(16)

    def replayed(*, same: bool = True, by: OpenAccount = command) -> Verdict | None:
        return replay_act(books, by, lambda entry: same, digest)

    assert replayed() is None
    ahead = replayed(by=replace(command, id=uid(NOW_US + 61_000_000)))
    assert ahead is not None and (ahead.status, ahead.entry) == (Status.id_too_far_ahead, None)
    entry = AccountOpened(NOW_US, command.id, 195, 1, 1, "EUR", 0, 1)
    books.ids.put(command.id, (4, entry))
    found = replayed()
    assert found is not None and (found.status, found.entry, found.replayed, found.position) == (0, entry, True, 4)
    for other in (replayed(same=False), replayed(by=replace(command, actor=BOB))):
        assert other is not None and (other.status, other.entry) == (Status.id_reused, None)
    refusal = refuse(command, Status.floor_invalid, digest, NOW_US, operation="x")
    books.ids.put(command.id, (5, refusal.entry))
    again = replayed(same=False)
    assert again is not None and (again.status, again.replayed) == (Status.floor_invalid, True)


def test_judging_changes_nothing(books: Books) -> None:
    """Books before and after are the same; the verdict is data."""

    def counters() -> list[object]:
        return [repr(account) for account in books.accounts.newer.values() if account]

    before = counters()
    for row in rows(ORDERS):
        judge_move(books, order(books, row), NOW_US)
    assert counters() == before and books.position == 0
