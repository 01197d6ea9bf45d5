"""A statement as a file: what stands in it, what a spreadsheet makes of it, and when it is not completed."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from fortress.client.me import Me
from fortress.errors import IntegrityFailed, MessageInvalid, Refused, Status
from fortress.protocol.reading import HeadAnswer, HistoryRow, StatementAnswer
from fortress.web import exports
from fortress.web.exports import COLUMNS, Format, export_of, harmless
from tests.web.asking import read

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
OPENING = 1_000
HEAD = HeadAnswer("a", 3, 40, b"r" * 32, 1_790_000_000_000_000, b"s" * 64, b"k" * 32)
REFERENCES = ('Rent, "March"', "=1+1", "Grüße; -5", "plain")


class Account:
    """What an account's client says: an entry of 5 minor units each minute, paid and received in turn.

    Attributes:
        asked: spans in minutes and cursors, in order.
        limit: entries that the bank looks at for one statement.
        amiss: added to the closing balance.

    Args:
        lie: every entry after this number tells a wrong balance.
    """

    bank = "a"

    def __init__(self, entries: int, *, limit: int = 1_000_000, lie: int | None = None) -> None:
        self.asked: list[tuple[float, float, int]] = []
        self.limit = limit
        self.amiss = 0
        self._rows: list[tuple[datetime, HistoryRow]] = []
        balance = OPENING
        for number in range(entries):
            amount = 5 if number % 2 else -5
            balance += amount
            at = BEGIN + timedelta(minutes=number)
            told = balance + (1 if lie is not None and number > lie else 0)
            text = REFERENCES[number % 4]
            row = HistoryRow(
                number + 1, int(at.timestamp()) * 1_000_000, bytes(16), "transfer", amount, told, 202, text
            )
            self._rows.append((at, row))

    def _balance(self, before: datetime) -> int:
        return OPENING + sum(row.amount_minor for at, row in self._rows if at < before)

    async def statement(
        self, since: datetime, until: datetime, number: int, *, cursor: int = 0, limit: int = 500
    ) -> StatementAnswer:
        if number != 101:
            raise Refused(Status.account_unknown)
        self.asked.append(((since - BEGIN).total_seconds() / 60, (until - BEGIN).total_seconds() / 60, cursor))
        rows = [row for at, row in self._rows if since <= at < until]
        if len(rows) > self.limit:
            raise MessageInvalid("too many entries", {"field": "from_us"})
        page = [row for row in rows if row.position > cursor][:limit]
        more = page[-1].position if page and page[-1] is not rows[-1] else 0
        opening, closing = self._balance(since), self._balance(until) + self.amiss
        return StatementAnswer(opening, closing, 0, 0, page, more, 40, "EUR", HEAD)


async def export(account: Account, format: Format = "csv", **more: Any) -> bytes:
    days = {"begin": "2026-03-01", "end": "2026-03-01", **more}
    return await read(await export_of(cast(Me, account), 101, format=format, **days))


async def test_the_csv_is_that_of_rfc_4180() -> None:
    """Lines end in CR and LF, each has all columns, and a reader finds what was written."""
    data = await export(Account(2))
    assert data.count(b"\r\n") == data.count(b"\n") == 8
    header, *records = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
    assert tuple(header) == COLUMNS
    assert {len(record) for record in records} == {len(COLUMNS)}
    found = [dict(zip(header, record, strict=True)) for record in records]
    assert [each["record"] for each in found] == ["opening", "entry", "entry", "debits", "credits", "closing", "head"]
    assert {each["currency"] for each in found} == {"EUR"}
    assert (found[0]["time"], found[0]["balance"]) == ("2026-03-01T00:00:00.000000Z", "10.00")
    first = found[1]
    assert (first["reference"], first["amount"], first["balance"]) == ('Rent, "March"', "-0.05", "9.95")
    assert (first["counterparty"], first["position"]) == ("a/202", "1")
    assert first["payment_id"] == "00000000-0000-0000-0000-000000000000"
    assert [each["amount"] for each in found[3:5]] == ["0.05", "0.05"]
    assert (found[5]["balance"], found[6]["position"], found[6]["kind"]) == ("10.00", "40", "epoch 3")
    assert (b"s" * 64).hex() in found[6]["reference"]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+49 30", "'+49 30"),
        ("-5", "'-5"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1", "  '=1"),
        ("\uff1dcmd()", "'\uff1dcmd()"),
        ("Rent;=cmd()", "Rent;'=cmd()"),
        ("a-b=c", "a-b=c"),
        ("", ""),
    ],
)
def test_no_text_becomes_a_formula(text: str, written: str) -> None:
    """Also where a spreadsheet would cut the line at a semicolon; other text stays as it is."""
    assert harmless(text) == written


async def test_a_reference_cannot_reach_into_a_spreadsheet() -> None:
    """What the payer wrote stands behind an apostrophe; sums below zero stay numbers."""
    data = (await export(Account(4))).decode()
    assert ",'=1+1," in data and ",Grüße;' -5," not in data and ",Grüße; '-5," in data
    assert ",-0.05," in data


async def test_a_program_reads_everything_as_it_is() -> None:
    """A line of JSON each; entries are those of the API."""
    lines = [json.loads(line) for line in (await export(Account(4), "ndjson")).splitlines()]
    assert [line["record"] for line in lines] == ["opening", *["entry"] * 4, "closing"]
    assert lines[0] == {
        "record": "opening",
        "account": "a/101",
        "currency": "EUR",
        "time": "2026-03-01T00:00:00.000000Z",
        "balance": "1000",
    }
    assert [line["reference"] for line in lines[1:5]] == list(REFERENCES)
    assert (lines[2]["amount"], lines[2]["id"], lines[2]["counterparty"]) == ("5", "0" * 32, "a/202")
    assert (lines[5]["debits"], lines[5]["credits"], lines[5]["balance"]) == ("10", "10", "1000")
    assert lines[5]["head"]["root"] == "72" * 32


async def test_a_long_span_is_cut_until_each_piece_is_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each entry is there once and in order, also where the bank refuses to look at so many."""
    monkeypatch.setattr(exports, "PAGE_ROWS", 7)
    account = Account(100, limit=60)
    lines = [json.loads(line) for line in (await export(account, "ndjson")).splitlines()]
    assert [line["position"] for line in lines[1:-1]] == list(range(1, 101))
    assert all(cursor == 0 for _, _, cursor in account.asked)
    assert account.asked[0][:2] == (0, 1440)


async def test_what_cannot_be_cut_is_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries of one moment, such as those of a batch, are of one span however many they are."""
    monkeypatch.setattr(exports, "PAGE_ROWS", 7)
    monkeypatch.setattr(exports, "SPAN_S_MIN", 100_000)
    account = Account(20)
    assert (await export(account)).count(b"entry") == 20
    assert [cursor for _, _, cursor in account.asked] == [0, 7, 14]


async def test_too_many_at_one_moment_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the bank cannot show and nobody can cut is an error before anything is sent."""
    monkeypatch.setattr(exports, "SPAN_S_MIN", 100_000)
    with pytest.raises(MessageInvalid):
        await export(Account(20, limit=10))


@pytest.mark.parametrize("lie", [0, 2])
async def test_a_file_that_does_not_add_up_is_not_completed(lie: int) -> None:
    """A balance that does not follow from the one before cuts the file there."""
    download = await export_of(
        cast(Me, Account(4, lie=lie)), 101, begin="2026-03-01", end="2026-03-01", format="ndjson"
    )
    found: list[bytes] = []
    with pytest.raises(IntegrityFailed):
        async for piece in download.pieces:
            found.append(piece)
    assert b"closing" not in b"".join(found)


async def test_a_closing_balance_that_is_not_the_sum_is_noticed() -> None:
    """The last line is written only when everything agrees."""
    account = Account(4)
    account.amiss = 1
    with pytest.raises(IntegrityFailed):
        await export(account)


async def test_an_empty_span_is_a_whole_file() -> None:
    """Opening and closing balance are the same."""
    lines = (await export(Account(0), begin="2030-01-01", end="2030-12-31")).decode().splitlines()
    assert len(lines) == 6


async def test_a_wrong_question_is_told_before_anything_is_sent() -> None:
    """Somebody else's account, and days that are none."""
    with pytest.raises(Refused):
        await export_of(cast(Me, Account(1)), 102, begin="2026-03-01", end="2026-03-01", format="csv")
    with pytest.raises(MessageInvalid):
        await export(Account(1), end="2026-02-01")


async def test_a_file_has_a_plain_name() -> None:
    """Bank, account and days; nothing that a file system or a header minds."""
    download = await export_of(cast(Me, Account(1)), 101, begin="2026-03-01", end="2026-03-31", format="csv")
    assert (download.name, download.media_type) == (
        "a-101-2026-03-01-2026-03-31.csv",
        "text/csv; charset=utf-8; header=present",
    )
    await read(download)
