"""What customers ask of the pages, against a real bank; and what a bank that is away or slow makes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import pytest_asyncio

from fortress.client.ids import new_id
from fortress.client.me import Me
from fortress.client.payments import Payments
from fortress.errors import (
    BankUnreachable,
    FortressError,
    GatewayUnreachable,
    MessageInvalid,
    NotPrimary,
    OutcomeUnknown,
    Refused,
    Status,
)
from fortress.protocol.orders import PaymentOrder, sign_order
from fortress.protocol.reading import HistoryAnswer, HistoryRow
from fortress.protocol.schnorr import order_signing_seed
from fortress.web import customer, shapes
from fortress.web.call import NotFound
from fortress.web.customer import ANSWER_S, AT_ONCE_MAX
from tests.gateway.gateways import GATEWAY
from tests.gateway.members import AWAY, MemberBank, member
from tests.server.banks import BANK, NOBODYS, World, banking, seed_of
from tests.web.asking import ask, read

UNKNOWN_ID = "0" * 32
SPAN = {"begin": "2000-01-01", "end": "2999-12-31"}


class People:
    """Alice, Bob, a teller and an auditor, signed in; the numbers of the two customers' accounts."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def settle(self) -> People:
        self.alice, self.bob, self.tess, self.audrey = [
            await self.world.sign_in(name) for name in ("alice", "bob", "tess", "audrey")
        ]
        self.a, self.b = await self.world.account_of("alice"), await self.world.account_of("bob")
        return self

    def order(self, amount: int = 500, **more: Any) -> dict[str, Any]:
        """What a page sends to pay Bob."""
        order = {
            "id": new_id().hex(),
            "debit": self.a,
            "payee": f"{BANK}/{self.b}",
            "amount": str(amount),
            "currency": "EUR",
            "reference": "Rent",
        }
        return {**order, **more}


@pytest_asyncio.fixture
async def people(tmp_path: Path) -> AsyncIterator[People]:
    """A bank by itself."""
    async with banking(tmp_path) as world:
        yield await People(world).settle()


async def refused(status: Status, work: Any) -> None:
    with pytest.raises(Refused) as caught:
        await work
    assert caught.value.status is status


async def told(work: Any) -> tuple[type[FortressError], str, dict[str, Any]]:
    """Give all that a page can learn from an error."""
    with pytest.raises(FortressError) as caught:
        await work
    error = caught.value
    return type(error), error.message, error.facts


async def field_of(work: Any) -> object:
    """Give the field that is said to be wrong."""
    kind, _, facts = await told(work)
    assert issubclass(kind, MessageInvalid) and not issubclass(kind, NotFound)
    return facts["field"]


# --- Accounts --------------------------------------------------------------------------------------------------------
async def test_an_account_is_opened_once(people: People) -> None:
    """The same id again gives the same account; it is listed and can be read."""
    p, id = people, new_id().hex()
    opened = await ask(p.alice, "open_account", id=id, currency="USD")
    assert await ask(p.alice, "open_account", id=id, currency="USD") == opened
    assert (opened.currency, opened.balance, opened.owner, opened.state) == ("USD", "0", "alice", "open")
    listed = (await ask(p.alice, "accounts")).accounts
    assert [account.number for account in listed] == [p.a, opened.number]
    assert await ask(p.alice, "account", number=opened.number) == opened
    await refused(Status.currency_unknown, ask(p.alice, "open_account", id=new_id().hex(), currency="XTS"))


@pytest.mark.parametrize(
    ("name", "fields"),
    [("account", {}), ("balances", {}), ("history", {}), ("statement", SPAN), ("export", SPAN)],
)
async def test_somebody_elses_account_is_like_none(people: People, name: str, fields: dict[str, str]) -> None:
    """Type, words and facts are the same; tellers and auditors may look."""
    p = people
    others = await told(ask(p.alice, name, number=p.b, **fields))
    assert others == await told(ask(p.alice, name, number=NOBODYS, **fields))
    assert others == await told(ask(p.tess, name, number=NOBODYS, **fields))
    assert others[0] is NotFound
    for me in (p.bob, p.tess, p.audrey):
        answer = await ask(me, name, number=p.b, **fields)
        if name == "export":
            await read(answer)


async def test_what_is_somebody_elses_cannot_be_paid_from(people: People) -> None:
    """A payment from it is refused like one from no account; nothing moves."""
    p = people
    for debit in (p.b, NOBODYS):
        await refused(Status.debit_account_unknown, ask(p.alice, "pay", **p.order(debit=debit, payee=f"{BANK}/{p.a}")))
    assert (await ask(p.bob, "account", number=p.b)).balance == "10000"


async def test_a_young_account_has_a_short_curve(people: People) -> None:
    """It begins when the account was opened, and today's point is the balance now."""
    p = people
    await ask(p.alice, "pay", **p.order())
    curve = await ask(p.alice, "balances", number=p.a, days=366)
    assert (curve.currency, [point.balance for point in curve.points][-1]) == ("EUR", "9500")
    assert len(curve.points) <= 2  # the folder may be of yesterday


# --- Entries ---------------------------------------------------------------------------------------------------------
async def test_entries_come_newest_first_page_by_page(people: People) -> None:
    """The cursor goes on where the page ended, until it is 0; filters keep what fits."""
    p = people
    for number in range(3):
        await ask(p.alice, "pay", **p.order(100 + number, reference=f"Rent {number}"))
    first = await ask(p.alice, "history", number=p.a, limit=2)
    assert [entry.reference for entry in first.entries] == ["Rent 2", "Rent 1"]
    assert first.entries[0].counterparty == f"{BANK}/{p.b}"
    second = await ask(p.alice, "history", number=p.a, limit=2, cursor=first.cursor)
    assert [entry.kind for entry in second.entries] == ["transfer", "deposit"]
    everything = await ask(p.alice, "history", number=p.a)
    assert (everything.cursor, everything.entries[-1].kind, everything.currency) == (0, "opened", "EUR")

    async def found(**query: Any) -> list[str]:
        return [entry.amount for entry in (await ask(p.alice, "history", number=p.a, **query)).entries]

    assert await found(kinds="deposit,,deposit") == ["10000"]
    assert await found(text="rent 1", **SPAN) == ["-101"]
    assert await found(amount_min="101", amount_max="102") == ["-102", "-101"]
    assert await found(begin="2999-01-01") == await found(end="1999-01-01") == []
    assert await found(end="1969-12-31", begin="1960-01-01") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"begin": "2026-02-30"}, "begin"),
        ({"end": "2026-13-01"}, "end"),
        ({"begin": "2026-03-01", "end": "2026-02-01"}, "end"),
        ({"amount_min": "9223372036854775808"}, "amount_min"),
        ({"amount_max": "9999999999999999999"}, "amount_max"),
        ({"kinds": ",".join(f"{a}{b}" for a in "abcdefghijk" for b in "abcdef")}, "kinds"),
        ({"kinds": "a" * 65}, "kinds"),
        ({"cursor": 1}, "cursor"),
    ],
)
async def test_a_bad_filter_names_its_field(people: People, query: dict[str, Any], field: str) -> None:
    """Also a cursor that leads into somebody else's entries."""
    assert await field_of(ask(people.alice, "history", number=people.a, **query)) == field


async def test_a_statement_adds_up(people: People) -> None:
    """Oldest first, with sums, and a signed head."""
    p = people
    await ask(p.alice, "pay", **p.order())
    answer = await ask(p.alice, "statement", number=p.a, **SPAN)
    assert (answer.opening, answer.credits, answer.debits, answer.closing) == ("0", "10000", "500", "9500")
    assert ([entry.amount for entry in answer.entries], answer.cursor) == (["10000", "-500"], 0)
    assert (answer.head.bank, answer.currency) == (BANK, "EUR")
    earlier = await ask(p.alice, "statement", number=p.a, begin="1960-01-01", end="1969-12-31")
    assert (earlier.entries, earlier.closing) == ([], "0")
    assert await field_of(ask(p.alice, "statement", number=p.a, begin="2026-02-30", end="2026-03-01")) == "begin"
    assert await field_of(ask(p.alice, "statement", number=p.a, begin="2026-02-03", end="2026-02-01")) == "end"


async def test_a_statement_that_is_too_long_names_the_days(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bank speaks of its own field; the page has another."""
    monkeypatch.setattr("fortress.ledger.queries.STATEMENT_ROWS_MAX", 1)
    assert await field_of(ask(people.alice, "statement", number=people.a, **SPAN)) == "begin"


async def test_an_export_holds_what_the_bank_says(people: People) -> None:
    """Both kinds of file, with the payment's id and the signed head."""
    p, order = people, people.order()
    await ask(p.alice, "pay", **order)
    lines = (await read(await ask(p.alice, "export", number=p.a, format="ndjson", **SPAN))).splitlines()
    assert [json.loads(line)["record"] for line in lines] == ["opening", "entry", "entry", "closing"]
    assert json.loads(lines[2])["id"] == order["id"]
    table = await read(await ask(p.alice, "export", number=p.a, **SPAN))
    assert [line.split(b",")[0] for line in table.splitlines()][-4:] == [b"debits", b"credits", b"closing", b"head"]


# --- Payments --------------------------------------------------------------------------------------------------------
async def test_the_payee_is_named_before_anything_is_sent(people: People) -> None:
    """By username or number; the answer can be put into an order."""
    p = people
    for payee in ("bob", str(p.b), f"{BANK}/bob", f"{BANK}/{p.b}"):
        answer = await ask(p.alice, "payee", payee=payee, currency="EUR")
        assert (answer.payee, answer.name, answer.currency) == (f"{BANK}/{p.b}", "Bob", "EUR")
    await refused(Status.customer_unknown, ask(p.alice, "payee", payee="nobody"))
    for payee in (str(NOBODYS), "9" * 19, "9" * 40, "bank-b/ines"):
        await refused(Status.credit_account_unknown, ask(p.alice, "payee", payee=payee))
    for payee in ("9/bob", "/", "bank-a/", "a/b/c"):
        assert await field_of(ask(p.alice, "payee", payee=payee)) == "payee"


async def test_a_payment_within_the_bank_is_done_at_once(people: People) -> None:
    """Its answer says where it stands and what is left; sent again, it is the first answer."""
    p, order = people, people.order()
    paid = await ask(p.alice, "pay", **order)
    assert (paid.state, paid.balance, paid.amount, paid.reference) == ("done", "9500", "500", "Rent")
    assert (paid.payer, paid.payee) == (f"{BANK}/{p.a}", f"{BANK}/{p.b}")
    await ask(p.alice, "pay", **p.order())
    assert await ask(p.alice, "pay", **order) == paid
    assert (await ask(p.alice, "account", number=p.a)).balance == "9000"
    await refused(Status.id_reused, ask(p.alice, "pay", **{**order, "amount": "501"}))


async def test_a_refused_payment_is_refused_again(people: People) -> None:
    """The same id gets the same answer, also when there would be enough by now; it can be looked up."""
    p, order = people, people.order(10_001)
    await refused(Status.exceeds_available, ask(p.alice, "pay", **order))
    await ask(p.bob, "pay", **p.order(5_000, debit=p.b, payee=f"{BANK}/{p.a}"))
    await refused(Status.exceeds_available, ask(p.alice, "pay", **order))
    found = await ask(p.alice, "payment", id=order["id"])
    assert (found.state, found.reason_name, found.position) == ("refused", "exceeds_available", 0)
    assert found.reason == "The amount is over what is available"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"amount": "9223372036854775808"}, "amount"),
        ({"not_after": "9999999999999999999"}, "not_after"),
        ({"reference": "zero\u200bwidth"}, "reference"),
    ],
)
async def test_a_bad_order_names_its_field(people: People, fields: dict[str, str], field: str) -> None:
    """Nothing is sent."""
    assert await field_of(ask(people.alice, "pay", **people.order(**fields))) == field


async def test_a_payee_with_too_many_digits_is_nobody(people: People) -> None:
    """It is an account number as far as its form goes, but over what a ledger counts to."""
    order = people.order(payee=f"{BANK}/{'9' * 19}")
    await refused(Status.credit_account_unknown, ask(people.alice, "pay", **order))


async def test_a_signed_order_reaches_the_bank_as_it_was_signed(people: People) -> None:
    """The page signs everything, the end of its validity too; a changed order is refused."""
    p = people
    later_us = int((datetime.now(UTC) + timedelta(hours=1)).timestamp()) * 1_000_000
    fields = p.order(not_after=str(later_us))
    order = PaymentOrder(
        bank=BANK,
        id=bytes.fromhex(fields["id"]),
        debit=p.a,
        payee=fields["payee"],
        amount_minor=500,
        currency="EUR",
        reference="Rent",
        not_after_us=later_us,
    )
    signature = sign_order(order, order_signing_seed(seed_of("alice"))).hex()
    changed = {**fields, "reference": "Rant", "signature": signature}
    await refused(Status.order_signature_invalid, ask(p.alice, "pay", **changed))
    assert (await ask(p.alice, "pay", **fields, signature=signature)).state == "done"
    await refused(Status.order_expired, ask(p.alice, "pay", **p.order(not_after="1")))


async def test_a_payment_is_seen_by_both_sides_and_nobody_else(people: People) -> None:
    """For others it is not there, in the same words as what never was; staff may look."""
    p, order = people, people.order()
    paid = await ask(p.alice, "pay", **order)
    for me in (p.alice, p.bob, p.tess):
        found = await ask(me, "payment", id=order["id"])
        assert (found.state, found.position, found.payer) == ("done", paid.position, paid.payer)
    own = p.order(1)
    await ask(p.alice, "pay", **{**own, "payee": f"{BANK}/{await _second_account(p)}"})
    for name in ("payment", "receipt"):
        others = await told(ask(p.bob, name, id=own["id"]))
        assert others == await told(ask(p.bob, name, id=UNKNOWN_ID))
        assert others[0] is NotFound


async def _second_account(p: People) -> int:
    number: int = (await ask(p.alice, "open_account", id=new_id().hex(), currency="EUR")).number
    return number


async def test_a_receipt_proves_the_payment(people: People) -> None:
    """Proof and signature are checked here, and can be again elsewhere."""
    p, order = people, people.order()
    paid = await ask(p.alice, "pay", **order)
    for me in (p.alice, p.bob):
        receipt = await ask(me, "receipt", id=order["id"])
        assert (receipt.holds, receipt.position, receipt.head.bank) == (True, paid.position, BANK)
        assert order["id"] in receipt.entry


async def test_what_is_reserved_is_listed_for_all_accounts(people: People) -> None:
    """One's own only; as a payment it is pending, then freed."""
    p = people
    second = await _second_account(p)
    await ask(p.alice, "pay", **p.order(50, payee=f"{BANK}/{second}"))
    for debit in (p.a, second):
        await p.alice.hold(debit, p.b, "0.10 EUR", reference="Deposit")
    holds = (await ask(p.alice, "holds")).holds
    assert sorted(hold.debit for hold in holds) == sorted((p.a, second))
    assert {hold.amount for hold in holds} == {"10"}
    assert (await ask(p.tess, "holds")).holds == []
    assert (await ask(p.alice, "payment", id=holds[0].id)).state == "pending"
    await p.bob.void(bytes.fromhex(holds[0].id))
    assert (await ask(p.alice, "payment", id=holds[0].id)).state == "given_up"


async def test_a_bank_by_itself_pays_no_other(people: People) -> None:
    """It lists none, which is no fault; a payment elsewhere says what is missing."""
    assert (await ask(people.alice, "banks")).banks == []
    listed = await ask(people.alice, "payments")
    assert (listed.payments, listed.cursor) == ([], 0)
    with pytest.raises(GatewayUnreachable):
        await ask(people.alice, "pay", **people.order(payee=AWAY))


# --- Payments between banks ------------------------------------------------------------------------------------------
async def _order_elsewhere(world: MemberBank, alice: Me, **more: Any) -> tuple[dict[str, Any], asyncio.Task[Any]]:
    order = {"id": new_id().hex(), "debit": world.a, "payee": AWAY, "amount": "500", "currency": "EUR", **more}
    return order, asyncio.create_task(ask(alice, "pay", **order))


async def test_a_payment_to_another_bank_has_the_same_shape(tmp_path: Path) -> None:
    """On the way it is pending; done, its answer, its page and its receipt agree, and so does the list."""
    async with member(tmp_path) as world:
        alice, bob = await world.sign_in("alice"), await world.sign_in("bob")
        order, paying = await _order_elsewhere(world, alice, reference="Rent")
        submit = await world.submitted()
        pending = await ask(alice, "payment", id=order["id"])
        assert (pending.state, [step.step for step in pending.steps], pending.position) == ("pending", ["held"], 0)
        assert (pending.missing, pending.act) == ([GATEWAY], "")
        await world.decide(submit.id, 7)
        paid = await paying
        assert (paid.state, paid.balance, paid.gateway_sequence, paid.payee) == ("done", "9500", 7, AWAY)
        shown = await ask(alice, "payment", id=order["id"])
        assert (shown.state, shown.position, shown.gateway_sequence) == ("done", paid.position, 7)
        assert {step.step for step in shown.steps} == {"held", "posted"}
        assert [each.id for each in (await ask(alice, "payments")).payments] == [order["id"]]
        receipt = await ask(alice, "receipt", id=order["id"])
        assert (receipt.holds, receipt.position) == (True, paid.position)
        assert (await ask(bob, "payments")).payments == []
        others = await told(ask(bob, "payment", id=order["id"]))
        assert others == await told(ask(bob, "payment", id=UNKNOWN_ID))
        assert [bank.bank for bank in (await ask(bob, "banks")).banks]


async def test_a_refusal_elsewhere_is_told_in_words(tmp_path: Path) -> None:
    """The other bank's reason, when it is told and when it is looked up; the money is free again."""
    async with member(tmp_path) as world:
        alice = await world.sign_in("alice")
        order, paying = await _order_elsewhere(world, alice)
        submit = await world.submitted()
        await world.decide(submit.id, reason=int(Status.credit_account_closed))
        await refused(Status.credit_account_closed, paying)
        shown = await ask(alice, "payment", id=order["id"])
        assert (shown.state, shown.reason) == ("refused", "The account to pay to is closed")
        account = await ask(alice, "account", number=world.a)
        assert (account.balance, account.held) == ("10000", "0")


async def test_a_second_attempt_has_a_receipt_as_well(tmp_path: Path) -> None:
    """What was given up and tried again under the same id is proven by the entry that was booked."""
    async with member(tmp_path) as world:
        alice = await world.sign_in("alice")
        order, paying = await _order_elsewhere(world, alice)
        await world.decide((await world.submitted()).id, reason=BankUnreachable.code)
        await world.decide((await world.submitted()).id, 9)
        paid = await paying
        receipt = await ask(alice, "receipt", id=order["id"])
        assert (receipt.holds, receipt.position) == (True, paid.position)
        assert (await ask(alice, "payment", id=order["id"])).attempt == 1


# --- A bank that is slow, away or wrong ------------------------------------------------------------------------------
class Scripted:
    """A session that answers what a test says; whatever it is asked is kept.

    Attributes:
        asked: operations and their arguments.
    """

    bank = BANK
    payment_order = Payments.payment_order

    def __init__(self, **answers: Callable[..., Any]) -> None:
        self.asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self._answers = answers
        self._calls = SimpleNamespace(bank=BANK)

    def __getattr__(self, name: str) -> Any:
        answer = self._answers[name]

        async def method(*arguments: Any, **more: Any) -> Any:
            self.asked.append((name, arguments, more))
            found = answer(*arguments, **more)
            if isinstance(found, Exception):
                raise found
            return found

        return method


ORDER = {"id": "01" * 16, "debit": 101, "payee": AWAY, "amount": "500", "currency": "EUR"}


@pytest.mark.parametrize("error", [OutcomeUnknown("", {"id": "x"}), NotPrimary(), BankUnreachable()])
async def test_nobody_waits_longer_than_a_browser_does(error: FortressError) -> None:
    """The wait for a payment is bounded, and how it ended is told as it is: with the page's own id."""
    me = Scripted(pay_order=lambda order, **more: error)
    with pytest.raises(type(error)) as caught:
        await ask(cast(Me, me), "pay", **ORDER)
    assert caught.value is error
    ((_, (order,), more),) = me.asked
    assert order.id == bytes.fromhex(ORDER["id"])
    assert more == {"order_signature": b"", "deadline_s": ANSWER_S}


async def test_a_gateway_that_is_away_is_no_empty_list() -> None:
    """Only a bank that has none at all lists nothing."""
    away = GatewayUnreachable()
    me = cast(Me, Scripted(banks=lambda: away, ask=lambda *_: away, payment=lambda *_, **__: away))
    for name, fields in (("banks", {}), ("payments", {}), ("payment", {"id": UNKNOWN_ID})):
        with pytest.raises(GatewayUnreachable):
            await ask(me, name, **fields)


async def test_a_refusal_that_hides_nothing_is_told_as_it_is() -> None:
    """Only what is unknown becomes "not found"."""
    me = cast(
        Me,
        Scripted(
            account=lambda *_: Refused(Status.customer_locked), payment=lambda *_, **__: Refused(Status.customer_locked)
        ),
    )
    await refused(Status.customer_locked, ask(me, "account", number=101))
    await refused(Status.customer_locked, ask(me, "payment", id=UNKNOWN_ID))


async def test_other_faults_of_a_statement_are_told_as_they_are() -> None:
    """Only the field that pages do not have is renamed."""
    fault = MessageInvalid("what", {"field": "cursor"})
    me = cast(Me, Scripted(statement=lambda *_, **__: fault))
    assert await field_of(ask(me, "statement", number=101, **SPAN)) == "cursor"


async def test_a_receipt_that_proves_nothing_says_so(people: People) -> None:
    """An entry, a path or a position that is not the one asked for."""
    p, order = people, people.order()
    await ask(p.alice, "pay", **order)
    good = await p.alice.receipt(bytes.fromhex(order["id"]))
    earlier = (await p.alice.history_page(p.a)).rows[1]
    another = await p.alice.receipt(earlier.id)
    changes = [
        msgspec.structs.replace(good, entry=good.entry[:-1] + b"\x00"),
        msgspec.structs.replace(good, path=good.path[::-1] + [bytes(32)]),
        msgspec.structs.replace(good, head=msgspec.structs.replace(good.head, bank="bank-b")),
        another,
    ]
    for answer in [good, *changes]:
        me = Scripted(payment=lambda *_, **__: Refused(Status.payment_unknown), ask=lambda *_, answer=answer: answer)
        assert (await ask(cast(Me, me), "receipt", id=order["id"])).holds is (answer is good)


async def test_entries_are_looked_for_a_bounded_while() -> None:
    """A page without rows is asked for again by the backend, but not for ever: the page gets its cursor."""
    pages = iter(range(100, 0, -1))
    me = Scripted(
        account=lambda *_: SimpleNamespace(currency="EUR"),
        history_page=lambda *_, **__: HistoryAnswer([], next(pages), 7),
    )
    answer = await ask(cast(Me, me), "history", number=101, text="needle")
    assert len(me.asked) == 1 + 1 + customer.SCANS_MAX
    assert (answer.entries, answer.cursor) == ([], 100 - customer.SCANS_MAX)
    cursors = [more["cursor"] for name, _, more in me.asked if name == "history_page"]
    assert cursors[:3] == [0, 100, 99]


# --- The curve of balances -------------------------------------------------------------------------------------------
NOW = datetime.now(UTC)


def _row(days_ago: int, amount: int, balance: int | None) -> HistoryRow:
    at = int((NOW - timedelta(days=days_ago)).timestamp()) * 1_000_000
    return HistoryRow(1, at, bytes(16), "transfer", amount, balance, 202, "")


class Saver(Scripted):
    """Somebody whose account has these entries; of past days it answers a hundred for each day.

    Attributes:
        at_once: questions under way at a time, the most there were.
    """

    def __init__(self, rows: list[HistoryRow], *, cursor: int = 0, opened_days_ago: int = 400) -> None:
        super().__init__()
        self.rows, self.cursor, self.under_way, self.at_once = rows, cursor, 0, 0
        self.opened_us = int((NOW - timedelta(days=opened_days_ago)).timestamp()) * 1_000_000

    async def account(self, number: int, *, as_of: datetime | None = None) -> Any:
        balance = 77
        if as_of is not None:
            self.asked.append(("account", (as_of,), {}))
            self.under_way += 1
            self.at_once = max(self.at_once, self.under_way)
            await asyncio.sleep(0)
            self.under_way -= 1
            balance = -(NOW.date() - as_of.date()).days
        return SimpleNamespace(opened_us=self.opened_us, currency="EUR", balance_minor=balance)

    async def history_page(self, number: int, *, only: Any, limit: int) -> HistoryAnswer:
        return HistoryAnswer(self.rows, self.cursor, 9)


async def curve(saver: Saver, days: int) -> list[int]:
    answer: shapes.BalanceCurve = await ask(cast(Me, saver), "balances", number=101, days=days)
    dates = [(NOW - timedelta(days=ago)).date().isoformat() for ago in range(len(answer.points))]
    assert [point.day for point in answer.points] == dates[::-1]
    return [int(point.balance) for point in answer.points]


async def test_the_curve_is_read_off_the_entries() -> None:
    """The last entry of a day counts; before the first one stood what it found; reservations do not matter."""
    rows = [_row(0, -3, 57), _row(0, -10, 60), _row(1, -5, None), _row(2, 30, 70), _row(2, 1, 40)]
    saver = Saver(rows)
    assert await curve(saver, 5) == [39, 39, 70, 70, 57]
    assert saver.asked == []


async def test_without_entries_the_balance_is_what_it_was() -> None:
    """And the account begins when it was opened."""
    assert await curve(Saver([]), 3) == [77, 77, 77]
    assert await curve(Saver([], opened_days_ago=1), 30) == [77, 77]
    assert await curve(Saver([], opened_days_ago=-1), 30) == [77]


async def test_an_entry_of_tomorrow_counts_today() -> None:
    """The bank's clock may be ahead of this one."""
    assert await curve(Saver([_row(-1, 1, 5), _row(1, 1, 4)]), 2) == [4, 5]


async def test_days_before_the_page_are_asked_for_one_by_one() -> None:
    """At the end of each, a few at a time; a page that says nothing leaves all days to be asked for."""
    saver = Saver([_row(0, 1, 9), _row(2, 1, 8)], cursor=5)
    assert await curve(saver, 30) == [*range(-29, -2), 8, 8, 9]
    assert saver.at_once == AT_ONCE_MAX
    times = [arguments[0] for _, arguments, _ in saver.asked]
    assert {(time.hour, time.minute, time.second, time.microsecond) for time in times} == {(23, 59, 59, 999_999)}
    assert await curve(Saver([_row(0, 1, None)], cursor=5), 3) == [-2, -1, 0]
