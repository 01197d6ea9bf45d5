"""What comes in fits the types of the table, or is refused with the field named."""

from __future__ import annotations

from typing import Any

import pytest
from multidict import MultiDict

from fortress.errors import MessageInvalid
from fortress.web import administration as admin
from fortress.web import shapes
from fortress.web.intake import from_json, from_query, from_texts, read_minor

ID = "0" * 32


def test_texts_become_what_the_fields_are() -> None:
    """Numbers are read from their texts, and what is not given has its default."""
    assert from_texts(shapes.AccountPath, "path", {"number": "17"}) == shapes.AccountPath(17)
    query = from_query(shapes.HistoryQuery, MultiDict({"cursor": "5", "end": "2026-01-31"}))
    assert (query.cursor, query.begin, query.end, query.limit) == (5, "", "2026-01-31", 50)


@pytest.mark.parametrize(
    ("kind", "texts", "field"),
    [
        (shapes.AccountPath, {"number": "x"}, "number"),
        (shapes.AccountPath, {"number": "0"}, "number"),
        (shapes.AccountPath, {"number": "1e400"}, "number"),
        (shapes.AccountPath, {"number": "9" * 5000}, "number"),
        (shapes.PaymentPath, {"id": "\udcff"}, "query"),
        (shapes.HistoryQuery, {"nothing": "1"}, "nothing"),
        (shapes.StatementQuery, {"begin": "2026-01-01"}, "end"),
        (shapes.HistoryQuery, {"kinds": "DROP"}, "kinds"),
    ],
)
def test_texts_that_do_not_fit_are_refused(kind: Any, texts: dict[str, str], field: str) -> None:
    """The field is named, what it held is not repeated."""
    with pytest.raises(MessageInvalid) as refused:
        from_texts(kind, "query", texts)
    assert refused.value.facts["field"] == field


def test_a_name_that_comes_twice_is_refused() -> None:
    """It is not left to chance which of two values counts."""
    with pytest.raises(MessageInvalid):
        from_query(shapes.HistoryQuery, MultiDict([("cursor", "1"), ("cursor", "2")]))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"null", "body"),
        (b"\xff", "body"),
        (b"[" * 50_000, "body"),
        (b'{"token": "\\ud800"}', "body"),
        (b'{"token": "a"} x', "body"),
        (b"{}", "token"),
        (b'{"token": 1}', "token"),
        (b'{"token": "a", "more": 1}', "more"),
    ],
)
def test_bodies_that_do_not_fit_are_refused(body: bytes, field: str) -> None:
    """No JSON, too deep, missing, of the wrong kind, or unknown."""
    with pytest.raises(MessageInvalid) as refused:
        from_json(shapes.Ticket, body)
    assert refused.value.facts["field"] == field


def test_sums_that_no_account_holds_are_refused() -> None:
    """By the name of their field."""
    assert read_minor("-9223372036854775807", "floor") == -(2**63 - 1)
    with pytest.raises(MessageInvalid) as refused:
        read_minor("9999999999999999999", "payment")
    assert refused.value.facts == {"field": "payment"}


def test_a_body_is_not_as_lenient_as_a_query() -> None:
    """A number in quotes is a text; JSON can tell them apart."""
    with pytest.raises(MessageInvalid):
        from_json(admin.Locking, b'{"hours": "1"}')
    assert from_json(admin.Locking, b'{"hours": 1}').hours == 1
