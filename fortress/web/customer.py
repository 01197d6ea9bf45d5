"""What a customer does: accounts, entries, statements, payments, receipts; whose they are, the bank decides.

What is not there and what is somebody else's gets one and the same answer, `NotFound`. A payment is made under the id
that the page brings, so that page, backend and bank may all repeat it; whoever waits longer than ``ANSWER_S`` is told
that the outcome is not known yet, with that id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Final, TypeVar

from fortress.client.me import Me
from fortress.client.money import Money
from fortress.client.reading import Filter
from fortress.client.receipts import verify_receipt
from fortress.errors import (
    GatewayUnreachable,
    IntegrityFailed,
    MessageInvalid,
    Refused,
    Status,
    UsageError,
)
from fortress.protocol.accounts import AccountView
from fortress.protocol.payments import ListPayments, PaymentsAnswer, PaymentView
from fortress.protocol.reading import HistoryAnswer, Receipt, ReceiptAnswer
from fortress.web import shapes
from fortress.web.call import Call, Download, Handlers, NotFound
from fortress.web.conversions import (
    account_of,
    bank_of,
    entry_of,
    head_of,
    hold_of,
    payment_of,
    payment_within,
    posted_at,
    receipt_of,
    time_of,
)
from fortress.web.days import TICK, after, midnight, past_days, read_day, read_span
from fortress.web.exports import export_of
from fortress.web.intake import read_minor
from fortress.web.problems import is_alone

ANSWER_S: Final = 10.0
"""So long one request waits for a payment; the page then asks again, with the same id."""
AT_ONCE_MAX: Final = 8
"""Requests to the bank that one request of a page makes at a time."""
ROWS_MAX: Final = 500
SCANS_MAX: Final = 8
"""So often the bank is asked to look on for the next entry that fits, before the page is told to ask again."""
KINDS_MAX: Final = 64
HIDDEN: Final = frozenset({Status.account_unknown, Status.original_unknown, Status.payment_unknown})

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@contextmanager
def hidden() -> Iterator[None]:
    """Answer what is unknown to the bank, or not this customer's to know, like an address that leads nowhere.

    Raises:
        NotFound: the bank said so.
    """
    try:
        yield
    except Refused as error:
        if error.status in HIDDEN:
            raise NotFound() from error
        raise


async def gathered(ask: Callable[[Item], Awaitable[Answer]], items: Sequence[Item]) -> list[Answer]:
    """Ask about each item, a few at a time, and give the answers in their order."""
    answers: list[Answer] = []
    for start in range(0, len(items), AT_ONCE_MAX):
        answers += await asyncio.gather(*map(ask, items[start : start + AT_ONCE_MAX]))
    return answers


# --- Accounts --------------------------------------------------------------------------------------------------------
async def accounts(call: Call) -> shapes.AccountList:
    """List one's own accounts."""
    return shapes.AccountList([account_of(view) for view in await call.me.accounts()])


async def open_account(call: Call) -> shapes.Account:
    """Open an account for oneself."""
    body: shapes.AccountOpening = call.body
    return account_of(await call.me.open_account(body.currency, id=bytes.fromhex(body.id)))


async def account(call: Call) -> shapes.Account:
    """Show an account."""
    with hidden():
        return account_of(await call.me.account(call.path.number))


async def balances(call: Call) -> shapes.BalanceCurve:
    """Tell the balance at the end of each of the last days.

    One page of the newest entries tells it for most accounts; only days before these are asked for one by one.
    """
    number: int = call.path.number
    today = datetime.now(UTC).date()
    with hidden():
        view = await call.me.account(number)  # before the entries, so that these miss nothing it knows
        days = past_days(call.query.days, today=today, opened=_day(view.opened_us))
        only = Filter(since=midnight(days[0]))
        page = await call.me.history_page(number, only=only, limit=ROWS_MAX)
        found = _ends_of_days(page, days, view.balance_minor)

        async def past(day: date) -> int:
            return (await call.me.account(number, as_of=after(day) - TICK)).balance_minor

        older = days[: len(days) - len(found)]
        sums = [*await gathered(past, older), *found]
    points = [shapes.BalancePoint(day.isoformat(), str(minor)) for day, minor in zip(days, sums, strict=True)]
    return shapes.BalanceCurve(view.currency, points)


def _ends_of_days(page: HistoryAnswer, days: Sequence[date], balance_minor: int) -> list[int]:
    """Read balances off the newest entries: of as many of the last days as these reach back to.

    Args:
        page: from the first day on.
        balance_minor: the account's, if there are no entries.
    """
    posted = [(_day(row.time_us), row, row.balance_minor) for row in page.rows if row.balance_minor is not None]
    before_all = posted[-1][2] - posted[-1][1].amount_minor if posted else balance_minor
    sums: list[int] = []
    index = 0
    for day in (date.max, *days[-2::-1]):  # the bank may be in tomorrow already
        while index < len(posted) and posted[index][0] > day:
            index += 1
        if index == len(posted) and page.cursor:
            break  # the next older one is not on this page
        sums.append(posted[index][2] if index < len(posted) else before_all)
    return sums[::-1]


def _day(time_us: int) -> date:
    return date.fromisoformat(time_of(time_us)[:10])


# --- Entries ---------------------------------------------------------------------------------------------------------
async def history(call: Call) -> shapes.EntryPage:
    """Page through an account's entries, newest first."""
    me, query, number = call.me, call.query, call.path.number
    only = filter_of(query)
    with hidden():
        view: AccountView = await me.account(number)
        page = await me.history_page(number, only=only, cursor=query.cursor, limit=query.limit)
        for _ in range(SCANS_MAX):
            if page.rows or not page.cursor:
                break
            page = await me.history_page(number, only=only, cursor=page.cursor, limit=query.limit)
    return shapes.EntryPage(
        entries=[entry_of(row, me.bank) for row in page.rows],
        cursor=page.cursor,
        currency=view.currency,
        position=page.position,
        stale_ms=page.stale_ms,
    )


def filter_of(query: shapes.HistoryQuery) -> Filter:
    """Say to the client which entries are wanted.

    Raises:
        MessageInvalid: a day, a sum or the number of kinds is out of bounds; the facts name the field.
    """
    kinds = tuple(dict.fromkeys(kind for kind in query.kinds.split(",") if kind))
    if len(kinds) > KINDS_MAX or any(len(kind) > KINDS_MAX for kind in kinds):
        raise MessageInvalid(f"these are no kinds of entries, or more than {KINDS_MAX}", {"field": "kinds"})
    since = midnight(read_day(query.begin, "begin")) if query.begin else None
    until = after(read_day(query.end, "end")) if query.end else None
    if since and until:
        since, until = read_span(query.begin, query.end)
    return Filter(
        kinds=kinds,
        since=since,
        until=until,
        least_minor=read_minor(query.amount_min, "amount_min"),
        most_minor=read_minor(query.amount_max, "amount_max"),
        text=query.text,
    )


async def statement(call: Call) -> shapes.Statement:
    """Cut a statement, a page at a time."""
    me, query = call.me, call.query
    since, until = read_span(query.begin, query.end)
    try:
        with hidden():
            answer = await me.statement(since, until, call.path.number, cursor=query.cursor, limit=ROWS_MAX)
    except MessageInvalid as error:
        if error.facts.get("field") != "from_us":
            raise
        raise MessageInvalid(error.message, {"field": "begin"}) from error  # too many entries for one statement
    return shapes.Statement(
        currency=answer.currency,
        opening=str(answer.opening_minor),
        closing=str(answer.closing_minor),
        debits=str(answer.debits_minor),
        credits=str(answer.credits_minor),
        entries=[entry_of(row, me.bank) for row in answer.rows],
        cursor=answer.cursor,
        head=head_of(answer.head),
    )


async def export(call: Call) -> Download:
    """Give a statement as a file."""
    query: shapes.ExportQuery = call.query
    with hidden():
        return await export_of(call.me, call.path.number, begin=query.begin, end=query.end, format=query.format)


# --- Payments --------------------------------------------------------------------------------------------------------
async def payee(call: Call) -> shapes.PayeeAnswer:
    """Tell who would be paid."""
    me, query = call.me, call.query
    try:
        found = await me.resolve(query.payee, query.currency)
    except UsageError as error:
        raise MessageInvalid(error.message, {"field": "payee"}) from error
    bank = query.payee.rpartition("/")[0] or me.bank
    return shapes.PayeeAnswer(f"{bank}/{found.number}", found.name, found.currency)


async def pay(call: Call) -> shapes.Payment:
    """Pay; the answer to the same payment again is the first one."""
    me, body = call.me, call.body
    minor, not_after_us = read_minor(body.amount, "amount"), read_minor(body.not_after, "not_after")
    order = me.payment_order(
        body.payee,
        Money(minor, body.currency),
        from_=body.debit,
        id=bytes.fromhex(body.id),
        reference=body.reference,
        not_after_us=not_after_us,
    )
    paid = await me.pay_order(order, order_signature=bytes.fromhex(body.signature), deadline_s=ANSWER_S)
    time = time_of((paid.time - datetime(1970, 1, 1, tzinfo=UTC)) // TICK)
    return shapes.Payment(
        id=body.id,
        state="done",
        payer=f"{me.bank}/{body.debit}",
        payee=body.payee,
        amount=str(minor),
        currency=body.currency,
        reference=body.reference,
        time=time,
        gateway_sequence=paid.gateway_sequence,
        position=paid.position,
        balance=str(paid.balance_after.minor),
        steps=[shapes.PaymentStep(me.bank, "posted", time, paid.position, "")],
    )


async def payments(call: Call) -> shapes.PaymentList:
    """List one's payments to and from other banks, newest first."""
    request = ListPayments(cursor=call.query.cursor, limit=call.query.limit)
    try:
        answer: PaymentsAnswer = await call.me.ask("payments", request)
    except GatewayUnreachable as error:
        if not is_alone(error):
            raise
        answer = PaymentsAnswer([])
    return shapes.PaymentList([payment_of(view, call.me.bank) for view in answer.payments], answer.cursor)


async def payment(call: Call) -> shapes.Payment:
    """Show where a payment stands, whether or not it left the bank."""
    me, id = call.me, bytes.fromhex(call.path.id)
    view = await _between_banks(me, id, everywhere=True)
    if view is not None:
        return payment_of(view, me.bank)
    with hidden():
        return payment_within(await me.transfer_by_id(id), me.bank)


async def _between_banks(me: Me, id: bytes, *, everywhere: bool) -> PaymentView | None:
    """Read a payment as those between banks are; None if there is none such, or no way to other banks."""
    try:
        return await me.payment(id, everywhere=everywhere)
    except GatewayUnreachable as error:
        if not is_alone(error):
            raise
    except Refused as error:
        if error.status is not Status.payment_unknown:
            raise
    return None


async def receipt(call: Call) -> shapes.Receipt:
    """Prove a payment, and tell whether the proof holds."""
    me, id = call.me, bytes.fromhex(call.path.id)
    view = await _between_banks(me, id, everywhere=False)
    position = posted_at(view, me.bank) if view is not None else 0
    with hidden():
        answer: ReceiptAnswer = await me.ask("receipt", Receipt(id, position))
    is_first = view is None or view.attempt == 0  # a later attempt's entry has an id of its own
    return receipt_of(answer, holds=_holds(answer, me.bank, id=id if is_first else b"", position=position))


def _holds(answer: ReceiptAnswer, bank: str, *, id: bytes, position: int) -> bool:
    try:
        verify_receipt(answer, bank=bank, id=id)
    except IntegrityFailed:
        return False
    return position in (0, answer.position)


async def holds(call: Call) -> shapes.HoldList:
    """List what is reserved on one's accounts."""
    numbers = [view.number for view in await call.me.accounts()]
    found = await gathered(call.me.holds, numbers)
    return shapes.HoldList([hold_of(view) for views in found for view in views])


async def banks(call: Call) -> shapes.BankList:
    """List the banks that can be paid; a bank without a gateway pays none."""
    try:
        views = await call.me.banks()
    except GatewayUnreachable as error:
        if not is_alone(error):
            raise
        views = []
    return shapes.BankList([bank_of(view) for view in views])


HANDLERS: Final[Handlers] = {
    handler.__name__: handler
    for handler in (
        *(accounts, open_account, account, balances, history, statement, export),
        *(payee, pay, payments, payment, receipt, holds, banks),
    )
}
