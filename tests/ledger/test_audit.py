"""The audit: a right ledger is found right, and whatever is changed in it is found and named."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fortress.errors import FolderMissing, KeyUnusable
from fortress.ledger import audit as audit_module
from fortress.ledger.audit import AuditReport, CurrencySum, Finding, audit_folder, audit_live
from fortress.ledger.commands import (
    AskApproval,
    ChangeAccount,
    ChangeBank,
    ChangeCustomer,
    CloseWindow,
    CreateCustomer,
    DecideApproval,
    EndSession,
    Invite,
    PostHold,
    ReleaseHold,
    ReverseMoney,
)
from fortress.ledger.database import connect
from fortress.ledger.engine import Engine
from fortress.ledger.entries import Invited, LedgerOpened, Posted, encode
from fortress.ledger.merkle import leaf_hashes
from fortress.ledger.model import BANK_ACTOR
from fortress.ledger.records import make_record
from fortress.ledger.schema import SCHEMA
from tests.ledger.books_fixture import ADMINISTRATOR, ALICE, KEY, NOW_US, TELLER, uid
from tests.ledger.ledger_fixture import DATA_KEY, STORE_KEY, TABLES, Ledger
from tests.ledger.test_engine import Chaos

KEYS = {"bank": "alpha", "data_key": DATA_KEY, "store_key": STORE_KEY}


def audited(folder: Path, **more: Any) -> AuditReport:
    return audit_folder(folder, **{**KEYS, **more})


def errors(report: AuditReport) -> list[str]:
    return [f"{finding.where}: {finding.what}" for finding in report.findings if finding.severity == "error"]


def fill(ledger: Ledger) -> None:
    """Something of everything: every table has rows, an account has marks, the tree has full tiles."""
    ledger.found()
    ledger.customer(b"boss", "administrator")
    ledger.do(Invite(BANK_ACTOR, ledger.uid(), b"d" * 32, "customer", ledger.now_us + 10**9))
    ledger.do(Invite(BANK_ACTOR, ledger.uid(), b"e" * 32, "customer", ledger.now_us + 10**9))
    bob = b"bob".ljust(16)
    ledger.do(CreateCustomer(BANK_ACTOR, ledger.uid(), bob, ("customer",), KEY, b"x" * 99, b"d" * 32))
    a, b = ledger.account(10_000), ledger.account(5)
    ledger.account(7, currency="USD")
    paid = [ledger.pay(a, b, 1) for _ in range(300)]
    ledger.commit()
    ledger.do(ReverseMoney(TELLER, ledger.uid(), paid[0].entry.id))
    for end in (lambda id: PostHold(ALICE, id, 3), lambda id: ReleaseHold(TELLER, id, 3), None):
        held = ledger.hold(a, b, 5)
        if end is not None:
            ledger.do(end(held.entry.id))
    for is_approved in (True, False, None):
        ask = AskApproval(ADMINISTRATOR, ledger.uid(), "erase", b"c" * 99, "s")
        ledger.do(ask)
        if is_approved is not None:
            ledger.do(DecideApproval(BANK_ACTOR, ask.id, is_approved))
    ledger.commit()
    ledger.do(EndSession(ALICE, 1, b"s" * 16, 77))
    ledger.do(ChangeAccount(ADMINISTRATOR, ledger.uid(), b, "limits", -5, 1, 2, 3, True))
    ledger.do(ChangeCustomer(BANK_ACTOR, ledger.uid(), 3, "lock", (), 99))
    ledger.pay(a, b, 50_000)
    ours, north, south = ledger.settlement(), ledger.member("north"), ledger.member("south")
    for debit, credit in ((a, ours), (ours, b), (north, south)):
        done, given_up, _ = (ledger.place(debit, credit, 100).entry.id for _ in range(3))
        ledger.end(done, 0 if debit == north else 9)
        ledger.end(given_up, reason=1004)
    ledger.end(ledger.uid(), reason=1004)
    ledger.do(ChangeBank(ADMINISTRATOR, ledger.uid(), "north", "suspend"))
    ledger.do(ChangeBank(ADMINISTRATOR, ledger.uid(), "south", "add", b"c" * 99))
    for to in (5, ledger.state.position):
        ledger.do(CloseWindow(ADMINISTRATOR, ledger.uid(), to))
    ledger.commit()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed ledger; take a copy to change it."""
    folder = tmp_path_factory.mktemp("filled")
    ledger = Ledger(folder)
    fill(ledger)
    ledger.close()
    return folder


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "ledger"))


def changed(folder: Path, *statements: str) -> None:
    """Change the tables behind everybody's back, with the right key."""
    db = connect(folder / "ledger.db", STORE_KEY, pragmas="")
    for statement in statements:
        db.execute(statement)
    db.close()


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- What is right ---------------------------------------------------------------------------------------------------
def test_a_right_ledger_is_found_right(folder: Path) -> None:
    """All records, entries, accounts and sums are told; no file has changed."""
    before = content(folder)
    progress: list[tuple[int, int]] = []
    report = audited(folder, on_progress=lambda done, last: progress.append((done, last)))
    assert errors(report) == [] and report.is_right and report.findings == []
    assert (report.bank, report.records, report.compared_records, report.accounts) == ("alpha", 3, 3, 8)
    assert report.currencies["USD"] == CurrencySum(2, 7, 7, 0, 0)
    assert report.currencies["EUR"].held_minor == 5 + 3 * 100
    assert report.entries > 320 and report.customers == 3 and len(report.tree_root) == 32
    assert progress == [(3, 3)]
    after = content(folder)
    assert {name: after[name] for name in before} == before
    assert all(name.endswith("-shm") or not after[name] for name in after.keys() - before.keys())


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_was_done_is_found_right(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Random commands, records, kills: two ways of counting come to the same in every value."""
    folder = tmp_path_factory.mktemp("chaos")
    ledger = Ledger(folder)
    chaos = Chaos(ledger, seed)
    for _ in range(15):
        for _ in range(chaos.random.randint(1, 12)):
            chaos.step()
        ledger.commit(apply=chaos.random.random() < 0.7)
    behind = len(ledger.unapplied)
    live = audit_live(ledger.engine.journal, ledger.engine.store)
    ledger.close()
    for report in (live, audited(folder)):
        assert errors(report) == []
        assert len(report.findings) == (behind > 0)
        assert report.records - report.compared_records == behind
    shutil.rmtree(folder)


def test_tables_that_are_behind_are_no_error(tmp_path: Path) -> None:
    """They are compared as far as they go."""
    ledger = Ledger(tmp_path)
    fill(ledger)
    a = ledger.account(5)
    ledger.commit(apply=False)
    ledger.deposit(a, 5)
    ledger.commit(apply=False)
    ledger.close()
    report = audited(tmp_path)
    assert report.is_right and (report.records, report.compared_records) == (5, 3)
    assert [finding.severity for finding in report.findings] == ["note"]
    assert "2 records are not in the tables yet" in report.findings[0].what


def test_tables_that_are_empty_or_missing_are_no_error(folder: Path, tmp_path: Path) -> None:
    """The journal is checked all the same."""
    for path in folder.glob("ledger.db*"):
        path.unlink()
    report = audited(folder)
    assert report.is_right and (report.records, report.compared_records) == (3, 0)
    assert "no tables" in report.findings[0].what
    ledger = Ledger(tmp_path / "ledger")
    ledger.close()
    (tmp_path / "new").mkdir()
    late = Ledger(tmp_path / "new")
    late.found()
    late.commit(apply=False)
    late.close()
    assert audited(tmp_path / "new").is_right


def test_a_ledger_without_entries_is_right(tmp_path: Path) -> None:
    """Nothing adds up to nothing."""
    Ledger(tmp_path).close()
    report = audited(tmp_path)
    assert report.is_right and report.records == report.entries == 0


def test_a_serving_ledger_is_audited_as_it_stands(tmp_path: Path) -> None:
    """What is applied and appended meanwhile is left for the next time."""
    ledger = Ledger(tmp_path)
    fill(ledger)
    a = ledger.account()
    ledger.commit()
    seen: list[int] = []

    def more(done: int, last: int) -> None:
        seen.append(last)

    original = audit_module._Auditor.take

    def take(self: Any, record: Any) -> None:
        ledger.deposit(a, 1)
        ledger.commit()
        original(self, record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit_module._Auditor, "take", take)
        report = audit_live(ledger.engine.journal, ledger.engine.store, on_progress=more)
    assert errors(report) == [] and report.records == 4 and seen == [4]
    assert ledger.engine.store.applied_lsn == 8
    assert audit_live(ledger.engine.journal, ledger.engine.store).records == 8
    ledger.close()


# --- What is not -----------------------------------------------------------------------------------------------------
def columns() -> list[tuple[str, str, str]]:
    db = apsw.Connection(":memory:")
    db.execute(SCHEMA)
    return [
        (table, row[1], row[2])
        for table in TABLES
        for row in db.execute(f"PRAGMA table_info({table})")
        if not (table == "meta" and row[1] == "key")
    ]


@pytest.mark.parametrize(("table", "column", "kind"), columns(), ids=lambda value: str(value))
def test_any_value_changed_is_found(folder: Path, table: str, column: str, kind: str) -> None:
    """One value in one row of each column of each table: the audit names the table."""
    change = {
        "INTEGER": f"CASE WHEN {column} IS NULL THEN 5 ELSE {column} + 1000003 END",
        "TEXT": f"{column} || 'x'",
        "BLOB": f"CAST(substr({column}, 1, length({column}) - 1)"
        f" || CASE WHEN substr({column}, -1) = x'ee' THEN x'ed' ELSE x'ee' END AS BLOB)",
        "": "CASE typeof(value) WHEN 'blob' THEN zeroblob(32) ELSE value + 1 END",
    }[kind]
    key = "rowid" if table not in ("ids", "marks", "tiles", "meta") and not is_without_rowid(table) else None
    where = f"{key} = (SELECT max({key}) FROM {table})" if key else first_row(table)
    changed(folder, f"UPDATE {table} SET {column} = {change} WHERE {where}")
    found = errors(audited(folder))
    assert found and any(table in line for line in found), found


def is_without_rowid(table: str) -> bool:
    return table in ("holds", "approvals", "invitations", "reversals", "sessions_ended")


def first_row(table: str) -> str:
    keys = {"marks": "(account, position)", "tiles": "(level, number)", "meta": "key", "invitations": "digest"}
    key = keys.get(table, {"reversals": "original", "sessions_ended": "session"}.get(table, "id"))
    return f"{key} = (SELECT {key.strip('()')} FROM {table} LIMIT 1)"


@pytest.mark.parametrize("table", TABLES)
def test_a_missing_row_is_found(folder: Path, table: str) -> None:
    """In every table."""
    key = "rowid" if table not in ("ids", "marks", "tiles", "meta") and not is_without_rowid(table) else None
    where = f"rowid = (SELECT max(rowid) FROM {table})" if key else first_row(table)
    changed(folder, f"DELETE FROM {table} WHERE {where}")
    found = errors(audited(folder))
    assert found and any(table in line for line in found), found


MORE_ROWS = {
    "meta": "'more', 1",
    "records": "999, 999, 1, 1, x'00'",
    "entries": "99999, 0, 0, 0, 0, x'00'",
    "ids": "randomblob(16), 1",
    "marks": "195, 5",
    "trail": "99999",
    "tiles": "5, 0, x'00'",
    "counters": "195, '[0,0,0,0,0,0,0,0,0,0]'",
    "accounts": "195, 0, 1, 'EUR', 1, 0, NULL, NULL, NULL, 0, 1, 1",
    "holds": "randomblob(16), 1, 1, 1, 'EUR', 1, 1, '', 2, 1, 1, 0, 0",
    "customers": "99, x'01', '', x'', 1, 1, 1, x'', x'', x'', 1, 1, 0, 0, 0, 0, 1",
    "approvals": "randomblob(16), '', x'', '', 1, 1, 2, 1",
    "invitations": "randomblob(32), '', 1, 0, 1",
    "reversals": "randomblob(16), 1, 1",
    "sessions_ended": "randomblob(16), 1, 1",
    "banks": "9, 'east', 1, x'01', 1, 1",
    "windows": "9, 1, 2, 1, 1",
}


@pytest.mark.parametrize("table", TABLES)
def test_a_row_too_many_is_found(folder: Path, table: str) -> None:
    """In every table."""
    changed(folder, f"INSERT INTO {table} VALUES ({MORE_ROWS[table]})")
    found = errors(audited(folder))
    assert found and any(table in line for line in found), found


def test_two_balances_swapped_are_found(folder: Path) -> None:
    """Every value is one that stood somewhere, and the sums are zero still."""
    db = connect(folder / "ledger.db", STORE_KEY, pragmas="")
    numbers = [row[0] for row in db.execute("SELECT number FROM accounts WHERE currency = 'EUR' AND owner = 1")]
    a, b = numbers[:2]
    for statement in (
        f"UPDATE counters SET number = 1 WHERE number = {a}",
        f"UPDATE counters SET number = {a} WHERE number = {b}",
        f"UPDATE counters SET number = {b} WHERE number = 1",
    ):
        db.execute(statement)
    db.close()
    found = errors(audited(folder))
    assert any(f"counters {a}" in line for line in found) and any(f"counters {b}" in line for line in found)
    assert any("counters.counters is" in line for line in found)


def test_tables_rolled_back_are_found(folder: Path, tmp_path: Path) -> None:
    """An older copy is behind, which a start repairs; an older copy that claims to be current is found."""
    ledger = Ledger(folder)
    a = ledger.account()
    ledger.commit()
    ledger.close()
    shutil.copy(folder / "ledger.db", tmp_path / "older.db")
    ledger = Ledger(folder)
    ledger.deposit(a, 70)
    ledger.commit()
    ledger.close()
    db = connect(folder / "ledger.db", STORE_KEY, pragmas="")
    meta = db.execute("SELECT key, value FROM meta").fetchall()
    db.close()
    shutil.copy(tmp_path / "older.db", folder / "ledger.db")
    assert audited(folder).is_right
    db = connect(folder / "ledger.db", STORE_KEY, pragmas="")
    db.executemany("UPDATE meta SET value = ?2 WHERE key = ?1", meta)
    db.close()
    found = errors(audited(folder))
    assert any("counters" in line for line in found) and any("entries" in line for line in found)


def test_tables_that_claim_more_than_the_journal_are_found(folder: Path) -> None:
    """The journal is the truth."""
    changed(folder, "UPDATE meta SET value = 99 WHERE key = 'applied_lsn'")
    assert any("the journal ends with record 3" in line for line in errors(audited(folder)))


def test_a_broken_index_is_found(folder: Path) -> None:
    """The database checks its own pages as well."""
    other = "replace(sql, '(owner, number)', '(kind, number)')"
    update = f"UPDATE sqlite_schema SET sql = {other} WHERE name = 'accounts_by_owner'"
    changed(folder, "PRAGMA writable_schema = on", update)
    assert any("ledger.db" in line for line in errors(audited(folder)))


def test_a_broken_page_ends_the_comparison(folder: Path) -> None:
    """And is told, however far the audit came."""
    path = folder / "ledger.db"
    broken = bytearray(path.read_bytes())
    for page in range(5, len(broken) // 4096):
        broken[page * 4096 + 50] ^= 1
    path.write_bytes(broken)
    report = audited(folder)
    assert not report.is_right and ("not read" in report.findings[-1].where), report.findings


def test_a_blob_turned_into_text_is_found(folder: Path) -> None:
    """Also where it is no text at all."""
    changed(folder, "UPDATE customers SET profile = CAST(x'ffff' AS TEXT)")
    assert any("text that is none" in line for line in errors(audited(folder)))


def test_a_table_that_is_gone_is_told(folder: Path) -> None:
    """Not an exception, a finding."""
    changed(folder, "DROP TABLE trail")
    assert any("trail" in line for line in errors(audited(folder)))


@pytest.mark.parametrize("offset", [4096 + 100, 20_000])
def test_a_damaged_journal_is_found(folder: Path, offset: int) -> None:
    """Where a seal does not open and later ones do."""
    (path,) = (folder / "journal").glob("*.seg")
    broken = bytearray(path.read_bytes())
    broken[offset] ^= 1
    path.write_bytes(broken)
    report = audited(folder)
    assert not report.is_right and "not read further" in report.findings[-1].where


def test_wrong_keys_and_folders_are_no_findings(folder: Path, tmp_path: Path) -> None:
    """Nothing can be said about what cannot be read."""
    with pytest.raises(KeyUnusable):
        audited(folder, data_key=b"x" * 32)
    with pytest.raises(KeyUnusable):
        audited(folder, store_key=b"x" * 32)
    with pytest.raises(FolderMissing):
        audited(tmp_path / "nowhere")


# --- A journal that says what cannot be ------------------------------------------------------------------------------
def forged(folder: Path, *blobs: bytes) -> None:
    """Append a record by hand, sealed and chained as it ought to be, with whatever entries."""
    engine = Engine.open(folder, **KEYS, segment_bytes=1024 * 1024)
    engine.tree.append(leaf_hashes(blobs))
    last = engine.last
    assert last is not None
    more = {"bank": "alpha", "epoch": 1, "time_us": last.time_us, "commit_lsn": last.lsn}
    engine.journal.append(make_record(blobs, previous=last, tree_root=engine.tree.root(), **more))
    engine.close()


def test_entries_that_cannot_be_are_found(folder: Path) -> None:
    """Money from nowhere, in a record that is otherwise right."""
    db = connect(folder / "ledger.db", STORE_KEY, pragmas="")
    a, b = (row[0] for row in db.execute("SELECT number FROM accounts WHERE currency = 'EUR' AND owner = 1"))
    last_us = db.execute("SELECT max(time_us) FROM records").fetchall()[0][0]
    db.close()
    forged(folder, encode(Posted(last_us, uid(), a, b, 5, "EUR", 3, "", 1_000_000, 5, 1)))
    assert any("states balances 1000000" in line for line in errors(audited(folder)))


def test_bytes_that_are_not_canonical_are_found(folder: Path) -> None:
    """The same entry in longer forms would have two hashes."""
    blob = encode(Invited(2**60, uid(), b"d" * 32, "customer", 9, 1))
    forged(folder, blob.replace(b"\xa8customer", b"\xd9\x08customer"))
    assert any("canonical" in line for line in errors(audited(folder)))


def test_what_is_no_entry_ends_the_audit(folder: Path) -> None:
    """Nothing after it can be counted."""
    forged(folder, b"\xc0")
    report = audited(folder)
    assert "cannot be read" in report.findings[-1].what and "after record 3" in report.findings[-1].where


def test_a_record_with_another_root_is_found(folder: Path) -> None:
    """The tree is made again from the entries."""
    engine = Engine.open(folder, **KEYS, segment_bytes=1024 * 1024)
    last = engine.last
    assert last is not None
    blob = encode(Invited(last.time_us, uid(), b"d" * 32, "customer", 9, 1))
    more = {"bank": "alpha", "epoch": 1, "time_us": last.time_us, "commit_lsn": last.lsn}
    engine.journal.append(make_record([blob], previous=last, tree_root=b"r" * 32, **more))
    engine.close()
    assert errors(audited(folder)) == ["record 4: the tree is not the one that the record names"]


def test_a_journal_that_begins_otherwise_is_found(tmp_path: Path) -> None:
    """A ledger's first entry opens it."""
    engine = Engine.open(tmp_path, **KEYS, segment_bytes=1024 * 1024)
    blobs = [
        encode(Invited(NOW_US, uid(), b"d" * 32, "customer", 9, 1)),
        encode(LedgerOpened(NOW_US, "alpha", ("EUR",))),
    ]
    engine.tree.append(leaf_hashes(blobs))
    more = {"bank": "alpha", "epoch": 1, "time_us": NOW_US, "commit_lsn": 0}
    engine.journal.append(make_record(blobs, previous=None, tree_root=engine.tree.root(), **more))
    engine.close()
    found = errors(audited(tmp_path))
    assert "position 1: the first entry does not open a ledger" in found
    assert "position 2: the entry opens the ledger again" in found


# --- A journal whose beginning was dropped ---------------------------------------------------------------------------
@pytest.fixture
def dropped(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger whose first segments are gone."""
    ledger = Ledger(tmp_path, segment_bytes=32 * 4096)
    fill(ledger)
    a = ledger.account()
    for _ in range(60):
        ledger.deposit(a, 1)
        ledger.commit()
    ledger.engine.journal.drop_before(50)
    assert ledger.engine.journal.first_lsn > 3
    yield ledger
    ledger.close()


def test_what_the_journal_no_longer_holds_is_taken_from_the_tables(dropped: Ledger) -> None:
    """The first record that is left knows the root of the tree over all that came before."""
    report = audit_live(dropped.engine.journal, dropped.engine.store)
    assert errors(report) == [] and [finding.severity for finding in report.findings] == ["note"]
    assert report.entries == dropped.state.position


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE entries SET entry = (SELECT entry FROM entries WHERE position = 20) WHERE position = 21",
        "UPDATE records SET hash = zeroblob(32)",
        "UPDATE counters SET counters = json_set(counters, '$[1]', 5)",
    ],
    ids=["entries", "records", "counters"],
)
def test_changes_before_the_journal_s_beginning_are_found(dropped: Ledger, change: str) -> None:
    """By the tree, the chain, and the count."""
    dropped.engine.store._writer.execute(change)
    assert errors(audit_live(dropped.engine.journal, dropped.engine.store)) != []


def test_without_tables_a_shortened_journal_tells_little(dropped: Ledger) -> None:
    """And that is an error."""
    dropped.close()
    for path in dropped.folder.glob("ledger.db*"):
        path.unlink()
    assert any("nothing is left of what came before" in line for line in errors(audited(dropped.folder)))


# --- Reports ---------------------------------------------------------------------------------------------------------
def test_a_report_keeps_so_many_findings(monkeypatch: Any) -> None:
    """And counts all errors."""
    monkeypatch.setattr(audit_module, "FINDINGS_MAX", 2)
    report = AuditReport()
    report.note("a", "b")
    for number in range(5):
        report.error("wrong", f"row {number}")
    assert report.findings == [Finding("note", "a", "b"), Finding("error", "wrong", "row 0")]
    assert report.error_count == 5 and not report.is_right


def test_progress_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    """Every so many records; the number of the last is known for a serving ledger."""
    monkeypatch.setattr(audit_module, "PROGRESS_RECORDS", 2)
    monkeypatch.setattr(audit_module, "CHUNK_ENTRIES", 3)
    ledger = Ledger(tmp_path)
    ledger.found()
    for _ in range(5):
        ledger.account()
        ledger.commit()
    told: list[tuple[int, int]] = []

    def progress(done: int, last: int) -> None:
        told.append((done, last))

    assert audit_live(ledger.engine.journal, ledger.engine.store, on_progress=progress).is_right
    ledger.close()
    assert told == [(2, 5), (4, 5), (5, 5)]
    told.clear()
    assert audited(tmp_path, on_progress=progress).is_right
    assert told == [(2, 0), (4, 0), (5, 5)]
