"""The tables: derived from the journal, rebuilt from it at any time.

Every entry is a row of ``entries`` in journal order; each row names up to two accounts and, for each, the position
of that account's entry before it. So an account's history is a chain walked from its newest entry, every insert goes
to the right edge of a tree, and the cost of a transfer does not grow with the number of rows. ``marks`` names each
account's every 256th entry: the way into the middle of a long chain.

What a transfer changes in its accounts is one JSON array for each (``counters``), which passes from the statement's
text into the row as it is; ten columns, each taken out of the text by itself, cost five times as much. The view
``balances`` gives them their names.

A payment between banks is a hold without an end, so the open ones are the last of ``holds_open_by_expiry``; those that
were posted are found by the gateway's sequence. What is no payment costs nothing there.
"""

from __future__ import annotations

SCHEMA_VERSION = 3
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE records (lsn INTEGER PRIMARY KEY, first_position INTEGER NOT NULL, count INTEGER NOT NULL,
    time_us INTEGER NOT NULL, hash BLOB NOT NULL);
CREATE TABLE entries (position INTEGER PRIMARY KEY, a INTEGER, a_before INTEGER, b INTEGER, b_before INTEGER,
    entry BLOB NOT NULL);
CREATE TABLE ids (id BLOB PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE marks (account INTEGER, position INTEGER, PRIMARY KEY (account, position)) WITHOUT ROWID;
CREATE TABLE trail (position INTEGER PRIMARY KEY);
CREATE TABLE tiles (level INTEGER, number INTEGER, hashes BLOB NOT NULL, PRIMARY KEY (level, number)) WITHOUT ROWID;
CREATE TABLE counters (number INTEGER PRIMARY KEY, counters TEXT NOT NULL);
CREATE VIEW balances AS SELECT number, counters ->> 0 AS debits_posted, counters ->> 1 AS credits_posted,
    counters ->> 2 AS debits_pending, counters ->> 3 AS credits_pending, counters ->> 4 AS day,
    counters ->> 5 AS day_spent, counters ->> 6 AS month, counters ->> 7 AS month_spent,
    counters ->> 8 AS last_position, counters ->> 9 AS entry_count FROM counters;
CREATE TABLE accounts (number INTEGER PRIMARY KEY, owner INTEGER NOT NULL, kind INTEGER NOT NULL,
    currency TEXT NOT NULL, state INTEGER NOT NULL, floor INTEGER, limit_payment INTEGER, limit_day INTEGER,
    limit_month INTEGER, signed_orders_only INTEGER NOT NULL, opened_us INTEGER NOT NULL, version INTEGER NOT NULL);
CREATE INDEX accounts_by_owner ON accounts (owner, number);
CREATE TABLE holds (id BLOB PRIMARY KEY, debit INTEGER NOT NULL, credit INTEGER NOT NULL, amount INTEGER NOT NULL,
    currency TEXT NOT NULL, placed_us INTEGER NOT NULL, expires_us INTEGER NOT NULL, reference TEXT NOT NULL,
    state INTEGER NOT NULL, posted INTEGER NOT NULL, position INTEGER NOT NULL, sequence INTEGER NOT NULL,
    reason INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX holds_open_by_expiry ON holds (expires_us) WHERE state = 1;
CREATE INDEX holds_by_sequence ON holds (sequence) WHERE sequence > 0;
CREATE INDEX holds_by_debit ON holds (debit, state);
CREATE INDEX holds_by_credit ON holds (credit, state);
CREATE TABLE customers (customer INTEGER PRIMARY KEY, handle BLOB NOT NULL UNIQUE, roles TEXT NOT NULL,
    salt BLOB NOT NULL, memory_kib INTEGER NOT NULL, iterations INTEGER NOT NULL, lanes INTEGER NOT NULL,
    sealed_public BLOB NOT NULL, signing BLOB NOT NULL, profile BLOB NOT NULL, created_us INTEGER NOT NULL,
    state INTEGER NOT NULL, locked_until_us INTEGER NOT NULL, default_account INTEGER NOT NULL,
    account_count INTEGER NOT NULL, open_account_count INTEGER NOT NULL, position INTEGER NOT NULL);
CREATE INDEX customers_who_administer ON customers (customer) WHERE instr(roles, 'administrator') > 0;
CREATE TABLE approvals (id BLOB PRIMARY KEY, operation TEXT NOT NULL, command BLOB NOT NULL, summary TEXT NOT NULL,
    asked_by INTEGER NOT NULL, asked_us INTEGER NOT NULL, state INTEGER NOT NULL, position INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE invitations (digest BLOB PRIMARY KEY, role TEXT NOT NULL, expires_us INTEGER NOT NULL,
    used INTEGER NOT NULL, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE reversals (original BLOB PRIMARY KEY, amount INTEGER NOT NULL, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE sessions_ended (session BLOB PRIMARY KEY, customer INTEGER NOT NULL, until_us INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE INDEX sessions_ended_by_end ON sessions_ended (until_us);
CREATE TABLE banks (number INTEGER PRIMARY KEY, bank TEXT NOT NULL UNIQUE, state INTEGER NOT NULL,
    authority BLOB NOT NULL, added_us INTEGER NOT NULL, position INTEGER NOT NULL);
CREATE TABLE windows (number INTEGER PRIMARY KEY, after_position INTEGER NOT NULL, to_position INTEGER NOT NULL,
    closed_us INTEGER NOT NULL, position INTEGER NOT NULL);
"""

# table -> columns; True marks a blob, which travels as hex inside the one JSON text of a statement
UPSERTED: dict[str, tuple[bool, ...]] = {
    "accounts": (False,) * 12,
    "holds": (True, *(False,) * 12),
    "customers": (False, True, False, True, False, False, False, True, True, True, *(False,) * 7),
    "approvals": (True, False, True, *(False,) * 5),
    "invitations": (True, *(False,) * 4),
    "reversals": (True, False, False),
    "sessions_ended": (True, False, False),
    "banks": (False, False, False, True, False, False),
    "windows": (False,) * 5,
}


def upsert(table: str) -> str:
    """Make the statement that puts many rows into a table from one JSON text of arrays.

    One statement a table and batch stays inside SQLite with Python's interpreter lock released; ``executemany``
    takes the lock again for each row, which a busy event loop turns into a hundredth of the speed.
    """
    columns = ", ".join(
        f"unhex(value ->> {index})" if is_blob else f"value ->> {index}"
        for index, is_blob in enumerate(UPSERTED[table])
    )
    return f"INSERT OR REPLACE INTO {table} SELECT {columns} FROM json_each(?)"


# ?1 rows of [a, a_before, b, b_before, offset, size], ?2 bytes, ?3 the first position, ?4 offset of the first byte;
# the binary form of the text is read faster, six values to a row
INSERT_ENTRIES = """INSERT INTO entries SELECT ?3 + key, value ->> 0, value ->> 1, value ->> 2, value ->> 3,
    substr(?2, 1 + (value ->> 4) - ?4, value ->> 5) FROM jsonb_each(jsonb(?1))"""
REPLACE_COUNTERS = "INSERT OR REPLACE INTO counters SELECT cast(key AS INTEGER), value FROM json_each(?)"
INSERT_IDS = "INSERT INTO ids SELECT substr(?2, 1 + 16 * key, 16), value FROM json_each(?1)"
INSERT_MARKS = "INSERT INTO marks SELECT value ->> 0, value ->> 1 FROM json_each(?)"
INSERT_TRAIL = "INSERT INTO trail SELECT value FROM json_each(?)"
INSERT_TILES = "INSERT INTO tiles SELECT value ->> 0, value ->> 1, substr(?2, 1 + ?3 * key, ?3) FROM json_each(?1)"
INSERT_RECORDS = """INSERT INTO records SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3,
    unhex(value ->> 4) FROM json_each(?)"""
