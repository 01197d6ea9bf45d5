"""A statement as a file: CSV for people and their spreadsheets, NDJSON for programs; made while it is sent.

Both hold an opening balance, each entry, sums, a closing balance, and the signed head of the journal; the entries are
added up on the way, and a file whose sums do not agree with the bank's is not completed.

CSV is as RFC 4180 says: CRLF, a header, the same columns in each record. A spreadsheet takes text that begins with
``=``, ``+``, ``-`` or ``@`` for a formula, also where it cuts at semicolons, and a payer chooses what a reference says:
such text gets an apostrophe before it. NDJSON has everything as it is.

A bank reads the whole span for each page of a statement, so a long one is cut into shorter ones until each is a page.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from datetime import datetime
from typing import Final, Literal, Protocol

import msgspec

from fortress.client.ids import format_id
from fortress.client.me import Me
from fortress.client.money import Money
from fortress.client.reading import to_us
from fortress.errors import IntegrityFailed, MessageInvalid
from fortress.protocol.reading import StatementAnswer
from fortress.web.call import Download
from fortress.web.conversions import entry_of, head_of, time_of
from fortress.web.days import read_span

Format = Literal["csv", "ndjson"]

PAGE_ROWS: Final = 1000
SPAN_S_MIN: Final = 1.0
"""What is this short is not cut any further, but read page by page."""
MEDIA_TYPES: Final[dict[Format, str]] = {
    "csv": "text/csv; charset=utf-8; header=present",
    "ndjson": "application/x-ndjson",
}
COLUMNS: Final = (
    *("record", "position", "time", "payment_id", "kind", "counterparty", "reference", "amount", "balance"),
    "currency",
)
_FORMULA: Final = re.compile(r"(^|[;,\t])(\s*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")


async def export_of(me: Me, number: int, *, begin: str, end: str, format: Format) -> Download:
    """Begin a file with the entries of an account; what is wrong with the question is told before it is sent.

    Raises:
        MessageInvalid: the days are none.
        Refused: ``account_unknown``.
    """
    since, until = read_span(begin, end)
    pages = statements(me, number, since, until)
    first = await anext(pages)
    lines = Csv(me.bank, first.currency) if format == "csv" else Ndjson(me.bank, first.currency, number)
    name = f"{me.bank}-{number}-{begin}-{end}.{format}"
    return Download(name=name, media_type=MEDIA_TYPES[format], pieces=_pieces(lines, first, pages, since))


async def statements(me: Me, number: int, since: datetime, until: datetime) -> AsyncGenerator[StatementAnswer, None]:
    """Cut one statement after the other, oldest first, each no longer than a page unless it is very short in time."""
    spans = [(since, until)]
    while spans:
        start, end = spans.pop()
        may_cut = (end - start).total_seconds() > SPAN_S_MIN
        try:
            page = await me.statement(start, end, number, limit=PAGE_ROWS)
            is_long = bool(page.cursor)
        except MessageInvalid:
            if not may_cut:
                raise
            is_long = True  # even the bank finds it too long to look at
        if is_long and may_cut:
            middle = start + (end - start) / 2
            spans += [(middle, end), (start, middle)]
            continue
        yield page
        while page.cursor:
            page = await me.statement(start, end, number, cursor=page.cursor, limit=PAGE_ROWS)
            yield page


class Lines(Protocol):
    """How a kind of file writes what it holds."""

    def opening(self, page: StatementAnswer, since: datetime) -> bytes:
        """Write what comes before all entries."""

    def entries(self, page: StatementAnswer) -> bytes:
        """Write the entries of a page."""

    def closing(self, page: StatementAnswer, debits: int, credits: int) -> bytes:
        """Write what comes after all entries."""


async def _pieces(
    lines: Lines, page: StatementAnswer, pages: AsyncGenerator[StatementAnswer, None], since: datetime
) -> AsyncIterator[bytes]:
    balance, debits, credits = page.opening_minor, 0, 0
    yield lines.opening(page, since)
    async with aclosing(pages):
        more: StatementAnswer | None = page
        while more is not None:
            page = more
            for row in page.rows:
                balance += row.amount_minor
                debits -= min(row.amount_minor, 0)
                credits += max(row.amount_minor, 0)
                if balance != row.balance_minor:
                    raise IntegrityFailed(f"the entries do not add up at position {row.position}")
            if page.rows:
                yield lines.entries(page)
            more = await anext(pages, None)
    if balance != page.closing_minor:
        raise IntegrityFailed("the entries do not add up to the closing balance")
    yield lines.closing(page, debits, credits)


class Csv:
    """Writes CSV; sums in the currency's own units, with a point.

    Args:
        bank: whose accounts numbers are.
        currency: of the account.
    """

    def __init__(self, bank: str, currency: str) -> None:
        self._bank = bank
        self._currency = currency

    def opening(self, page: StatementAnswer, since: datetime) -> bytes:
        """Write the header, and what was on the account."""
        first = self._record("opening", time=time_of(to_us(since)), balance=self._sum(page.opening_minor))
        return _table([COLUMNS, first])

    def entries(self, page: StatementAnswer) -> bytes:
        """Write a record for each entry."""
        return _table(self._entries(page))

    def _entries(self, page: StatementAnswer) -> Iterator[tuple[str, ...]]:
        for row in page.rows:
            entry = entry_of(row, self._bank)
            yield self._record(
                "entry",
                position=str(entry.position),
                time=entry.time,
                payment_id=format_id(row.id),  # with hyphens, or a spreadsheet may take it for a number
                kind=entry.kind,
                counterparty=harmless(entry.counterparty),
                reference=harmless(entry.reference),
                amount=self._sum(row.amount_minor),
                balance="" if row.balance_minor is None else self._sum(row.balance_minor),
            )

    def closing(self, page: StatementAnswer, debits: int, credits: int) -> bytes:
        """Write sums, what is on the account, and the head."""
        head = head_of(page.head)
        proof = f"root {head.root} signature {head.signature} key {head.key}"
        return _table(
            (
                self._record("debits", amount=self._sum(debits)),
                self._record("credits", amount=self._sum(credits)),
                self._record("closing", position=str(page.position), balance=self._sum(page.closing_minor)),
                self._record(
                    "head", position=str(head.tree_size), time=head.time, kind=f"epoch {head.epoch}", reference=proof
                ),
            )
        )

    def _record(self, record: str, **cells: str) -> tuple[str, ...]:
        cells = {"record": record, "currency": self._currency, **cells}
        return tuple(cells.get(column, "") for column in COLUMNS)

    def _sum(self, minor: int) -> str:
        return Money(minor, self._currency).amount


def harmless(text: str) -> str:
    """Put an apostrophe before whatever a spreadsheet would take for a formula."""
    return _FORMULA.sub(r"\1\2'", text)


def _table(records: Iterable[tuple[str, ...]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(records)
    return text.getvalue().encode()


class Ndjson:
    """Writes a line of JSON for each thing; entries look as they do in the API, sums in minor units as text.

    Args:
        bank: whose account it is.
        currency: of the account.
        number: of the account.
    """

    def __init__(self, bank: str, currency: str, number: int) -> None:
        self._bank = bank
        self._currency = currency
        self._number = number

    def opening(self, page: StatementAnswer, since: datetime) -> bytes:
        """Write whose account it is, and what was on it."""
        return _line(
            "opening",
            account=f"{self._bank}/{self._number}",
            currency=self._currency,
            time=time_of(to_us(since)),
            balance=str(page.opening_minor),
        )

    def entries(self, page: StatementAnswer) -> bytes:
        """Write a line for each entry."""
        rows = (msgspec.structs.asdict(entry_of(row, self._bank)) for row in page.rows)
        return b"".join(_line("entry", **row) for row in rows)

    def closing(self, page: StatementAnswer, debits: int, credits: int) -> bytes:
        """Write sums, what is on the account, and the head."""
        sums = {"debits": str(debits), "credits": str(credits), "balance": str(page.closing_minor)}
        return _line("closing", position=page.position, **sums, head=msgspec.structs.asdict(head_of(page.head)))


def _line(record: str, **fields: object) -> bytes:
    return msgspec.json.encode({"record": record, **fields}) + b"\n"
