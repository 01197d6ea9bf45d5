"""The schema: what the statements say fits the tables they write."""

from __future__ import annotations

import apsw
import msgspec
import pytest

from fortress.ledger.schema import SCHEMA, UPSERTED, upsert
from fortress.ledger.store import ACCOUNT_COLUMNS, CUSTOMER_COLUMNS


@pytest.fixture
def db() -> apsw.Connection:
    made = apsw.Connection(":memory:")
    made.execute(SCHEMA)
    return made


@pytest.mark.parametrize("table", UPSERTED)
def test_a_row_travels_whole(db: apsw.Connection, table: str) -> None:
    """One JSON text in, the same values out: blobs as blobs, large numbers exact, nothing as null."""
    columns = db.execute(f"PRAGMA table_info({table})").fetchall()
    assert len(columns) == len(UPSERTED[table])
    values = []
    for (_, _, kind, not_null, _, primary), is_blob in zip(columns, UPSERTED[table], strict=True):
        assert (kind == "BLOB") is is_blob
        nothing = not not_null and not primary
        values.append(None if nothing else {"BLOB": b"\0\xff", "TEXT": 'é"\\ ' + "\u2028", "INTEGER": 2**63 - 1}[kind])
    row = [value.hex() if isinstance(value, bytes) else value for value in values]
    db.execute(upsert(table), (msgspec.json.encode([row]).decode(),))
    assert db.execute(f"SELECT * FROM {table}").fetchall() == [tuple(values)]


def test_empty_blobs_stay_blobs(db: apsw.Connection) -> None:
    """An erased customer's data is empty, not missing."""
    row = [1, "00", "customer", *["00", 1, 1, 1, "", "", ""], 1, 3, 0, 0, 0, 0, 1]
    db.execute(upsert("customers"), (msgspec.json.encode([row]).decode(),))
    assert db.execute("SELECT sealed_public, profile FROM customers").fetchall() == [(b"", b"")]


def test_a_row_is_replaced_by_its_key(db: apsw.Connection) -> None:
    """The later one stays."""
    for amount in (1, 2):
        db.execute(upsert("reversals"), (msgspec.json.encode([["00", amount, 9]]).decode(),))
    assert db.execute("SELECT amount FROM reversals").fetchall() == [(2,)]


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("SELECT * FROM accounts WHERE owner = 0 AND kind = 2 ORDER BY number", "accounts_by_owner"),
        ("SELECT customer FROM customers WHERE instr(roles, 'administrator') > 0", "customers_who_administer"),
        ("SELECT id FROM holds WHERE state = 1 AND expires_us <= 5 ORDER BY expires_us", "holds_open_by_expiry"),
        ("SELECT * FROM holds WHERE debit = 1 AND state = 1", "holds_by_debit"),
        ("SELECT * FROM holds WHERE credit = 1 AND state = 1", "holds_by_credit"),
        ("SELECT session FROM sessions_ended WHERE until_us > 5", "sessions_ended_by_end"),
        ("SELECT id FROM holds WHERE state = 1 AND expires_us = 5 AND id > x'' ORDER BY id", "holds_open_by_expiry"),
        ("SELECT id FROM holds WHERE sequence > 0 AND sequence > 5 ORDER BY sequence", "holds_by_sequence"),
        ("SELECT kind FROM accounts WHERE owner <= 0 AND kind IN (3, 5) ORDER BY +number", "accounts_by_owner"),
        ("SELECT * FROM customers WHERE handle IN (SELECT unhex(value) FROM json_each('[]'))", "handle"),
        ("SELECT id FROM ids WHERE id <= x'05' ORDER BY id DESC LIMIT 9", "PRIMARY KEY"),
    ],
)
def test_what_is_asked_often_reads_no_whole_table(db: apsw.Connection, sql: str, index: str) -> None:
    """Each of these has its index, and the database uses it."""
    plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}"))
    assert index in plan
    assert not any(f"SCAN {table}" in plan.replace("USING", "") for table in ("accounts ", "holds ", "ids "))


def test_the_columns_read_are_the_table_s() -> None:
    """Named once, in the table's order, so that a row becomes an object by position."""
    db = apsw.Connection(":memory:")
    db.execute(SCHEMA)
    customers = [name.strip() for name in CUSTOMER_COLUMNS.split(",")]
    assert customers == [row[1] for row in db.execute("PRAGMA table_info(customers)")]
    accounts = [name.strip().removeprefix("a.") for name in ACCOUNT_COLUMNS.split(",")]
    tables = [row[1] for table in ("accounts", "balances") for row in db.execute(f"PRAGMA table_info({table})")]
    assert accounts == [*tables[:12], *tables[13:]]
