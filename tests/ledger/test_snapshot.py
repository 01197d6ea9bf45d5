"""Snapshots: a copy of one moment, checked at its goal, and in place whole or not at all wherever the process dies."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fortress.errors import DiskFull, IntegrityFailed, JournalWriteFailed, StoreCorrupt
from fortress.ledger import snapshot as module
from fortress.ledger.engine import Engine
from fortress.ledger.records import encode
from fortress.ledger.snapshot import DATABASE, INCOMING, READY, TERMS, Arrival, Snapshot, Terms, settle, take
from tests.ledger.books_fixture import NOW_US
from tests.ledger.crash_fixture import die_everywhere
from tests.ledger.ledger_fixture import SEGMENT, Ledger

THEIRS = {"data_key": b"e" * 32, "store_key": b"u" * 32}


def filled(folder: Path, records: int = 3) -> Ledger:
    """A bank with some history."""
    folder.mkdir()
    ledger = Ledger(folder)
    ledger.found()
    a, b = ledger.account(10_000), ledger.account()
    ledger.commit()
    for _ in range(records):
        ledger.pay(a, b, 5)
        ledger.hold(a, b, 3)
        ledger.commit()
    return ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = filled(tmp_path / "first")
    yield made
    made.close()


@pytest.fixture
def peer(tmp_path: Path) -> Path:
    folder = tmp_path / "second"
    folder.mkdir()
    return folder


def taken(ledger: Ledger, **options: Any) -> Snapshot:
    return take(ledger.engine.store, ledger.engine.journal, ledger.folder, **options)


Change = Callable[[str, bytes], bytes]


class Arrivals(list[Arrival]):
    """All that a test receives; closed at its end."""

    def begin(self, folder: Path, **offer: Any) -> Arrival:
        self.append(Arrival(folder, **offer))
        return self[-1]

    def all_of(self, snapshot: Snapshot, folder: Path, change: Change = lambda name, data: data) -> Arrival:
        """All of a snapshot received in another node's folder."""
        arrival = self.begin(folder, lsn=snapshot.lsn, hash=snapshot.hash, sizes=snapshot.sizes)
        for name, data in snapshot.chunks(10_000):
            arrival.take(name, change(name, data))
        return arrival


@pytest.fixture
def arrivals() -> Iterator[Arrivals]:
    made = Arrivals()
    yield made
    for arrival in made:
        arrival.close()


def install(arrival: Arrival, digests: dict[str, bytes], **options: Any) -> None:
    arrival.install(digests, **{"bank": "alpha", "now_us": NOW_US, "segment_bytes": SEGMENT, **THEIRS, **options})


def opened(folder: Path) -> Engine:
    return Engine.open(folder, bank="alpha", segment_bytes=SEGMENT, cache_mb=1, is_in_pair=True, **THEIRS)


def rows(engine: Engine) -> list[Any]:
    tables = [row[0] for row in engine.store.read("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    return [(table, sorted(engine.store.read(f"SELECT * FROM {table}"), key=repr)) for table in tables]


# --- From one node to the other --------------------------------------------------------------------------------------
def test_an_empty_node_becomes_the_other_one_s_equal(ledger: Ledger, peer: Path, arrivals: Arrivals) -> None:
    """The same tables under its own keys, a journal that begins with the snapshot's record, and it follows on."""
    snapshot = taken(ledger)
    assert (snapshot.lsn, snapshot.hash) == (ledger.engine.store.applied_lsn, ledger.engine.store.applied_hash)
    arrival = arrivals.all_of(snapshot, peer)
    install(arrival, snapshot.digests)
    arrival.close()
    snapshot.close()
    snapshot.close()
    engine = opened(peer)
    assert sorted(path.name for path in peer.iterdir() if "ledger.db-" not in path.name) == [
        "journal",
        "ledger.db",
        "replaced",
    ]
    assert (engine.last, engine.committed) == (ledger.engine.last, ledger.engine.last)
    assert (engine.journal.first_lsn, engine.journal.end) == (snapshot.lsn, (snapshot.lsn, snapshot.hash))
    assert rows(engine) == rows(ledger.engine)
    a, b = ledger.account(50), ledger.account()
    ledger.pay(a, b, 5)
    ledger.commit()
    assert ledger.engine.last is not None
    engine.journal.append(ledger.engine.last)
    engine.store.apply([engine.follow(ledger.engine.last)])
    assert rows(engine) == rows(ledger.engine)
    engine.close()
    again = opened(peer)
    assert again.last == ledger.engine.last
    again.close()


def test_a_copy_is_of_one_moment_while_writing_goes_on(
    ledger: Ledger, peer: Path, monkeypatch: Any, arrivals: Arrivals
) -> None:
    """What is written in the middle of copying is not in it, and is not held up."""
    monkeypatch.setattr(module, "_STEP_PAGES", 3)
    a, b = ledger.account(500), ledger.account()
    ledger.commit()
    expected = rows(ledger.engine)
    writes: list[int] = []

    def write(done: int, total: int) -> None:
        ledger.pay(a, b, 1)
        ledger.commit()
        writes.append(done)

    snapshot = taken(ledger, on_progress=write)
    assert len(writes) > 5 and writes[-1] * 4096 <= snapshot.sizes[DATABASE]
    assert ledger.engine.store.applied_lsn == snapshot.lsn + len(writes)
    install(arrivals.all_of(snapshot, peer), snapshot.digests)
    engine = opened(peer)
    assert rows(engine) == expected
    for record in ledger.engine.journal.records(snapshot.lsn + 1):
        engine.journal.append(record)
        engine.store.apply([engine.follow(record)])
    assert rows(engine) == rows(ledger.engine)
    engine.close()


def test_copying_may_go_on_in_a_thread(ledger: Ledger, peer: Path, arrivals: Arrivals) -> None:
    """Beside the thread that writes the tables."""
    found: list[Snapshot] = []
    thread = threading.Thread(target=lambda: found.append(taken(ledger)))
    a, b = ledger.account(500), ledger.account()
    ledger.commit()
    thread.start()
    for _ in range(30):
        ledger.pay(a, b, 1)
        ledger.commit()
    thread.join()
    install(arrivals.all_of(found[0], peer), found[0].digests)
    engine = opened(peer)
    assert engine.store.applied_lsn == found[0].lsn
    engine.close()


def test_what_was_there_is_kept_aside(ledger: Ledger, peer: Path, arrivals: Arrivals) -> None:
    """Another history of the same bank gives way whole, and can still be opened."""
    other = filled(peer / "data", 7)
    before = other.tables()
    other.reopen()
    other.engine.journal.close()  # as after a kill: the tables' companions are still there
    old = shutil.copytree(peer / "data", peer / "killed")
    other.close()
    snapshot = taken(ledger)
    install(arrivals.all_of(snapshot, old), snapshot.digests)
    opened(old).close()
    kept = old / "replaced" / str(NOW_US)
    assert {path.name for path in kept.iterdir()} >= {"journal", "ledger.db"}
    aside = Ledger(kept)
    assert aside.tables() == before
    aside.close()


def test_nothing_in_the_files_can_be_read(ledger: Ledger, peer: Path, arrivals: Arrivals) -> None:
    """What lies on either disk is encrypted under a key that is on none."""
    snapshot = taken(ledger)
    arrival = arrivals.all_of(snapshot, peer)
    terms = msgspec.msgpack.decode(snapshot._terms, type=Terms)
    for folder in (ledger.folder, peer):
        for path in (path for path in folder.rglob("*") if path.is_file()):
            data = path.read_bytes()
            assert terms.key not in data and b"CREATE TABLE" not in data
    assert terms.key.hex() not in repr(snapshot)
    arrival.close()
    snapshot.close()
    assert not (peer / INCOMING).exists() and not list((ledger.folder / "outgoing").iterdir())


# --- What is refused -------------------------------------------------------------------------------------------------
def only(wanted: str, change: Callable[[bytes], bytes]) -> Change:
    """Change the chunks of one file."""
    return lambda name, data: change(data) if name == wanted else data


def test_every_damage_on_the_way_is_found(ledger: Ledger, peer: Path, arrivals: Arrivals) -> None:
    """A flipped bit in either file, bytes missing or too many; nothing is decided then."""
    snapshot = taken(ledger)
    for wanted in (DATABASE, TERMS):
        for damage in (lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: data[1:]):
            arrival = arrivals.all_of(snapshot, peer, only(wanted, damage))
            with pytest.raises(IntegrityFailed, match="not what was sent"):
                install(arrival, snapshot.digests)
        with pytest.raises(IntegrityFailed, match="more of"):
            arrivals.all_of(snapshot, peer, only(wanted, lambda data: data + data[:1]))
    assert not (peer / INCOMING / READY).exists()
    settle(peer)
    assert list(peer.iterdir()) == []


@pytest.mark.parametrize(
    "sizes", [{}, {DATABASE: 1}, {DATABASE: 1, TERMS: 1, "../x": 1}, {DATABASE: 1, TERMS: 17 * 1024 * 1024}], ids=str
)
def test_an_offer_that_is_no_snapshot_is_refused(peer: Path, sizes: dict[str, int]) -> None:
    """Other files, paths, terms without bound: nothing is made for them."""
    with pytest.raises(IntegrityFailed):
        Arrival(peer, lsn=1, hash=bytes(32), sizes=sizes)
    assert list(peer.iterdir()) == []


def test_a_file_that_was_not_offered_is_refused(ledger: Ledger, peer: Path, arrivals: Arrivals) -> None:
    """Whatever its name."""
    snapshot = taken(ledger)
    arrival = arrivals.begin(peer, lsn=snapshot.lsn, hash=snapshot.hash, sizes=snapshot.sizes)
    with pytest.raises(IntegrityFailed):
        arrival.take("journal", b"x")
    arrival.close()


def test_a_snapshot_of_something_else_is_refused(ledger: Ledger, peer: Path, arrivals: Arrivals) -> None:
    """Another mark than announced, another bank, terms that are none."""
    snapshot = taken(ledger)
    sizes = snapshot.sizes
    for mark in ({"lsn": snapshot.lsn + 1, "hash": snapshot.hash}, {"lsn": snapshot.lsn, "hash": bytes(32)}):
        arrival = arrivals.begin(peer, sizes=sizes, **mark)
        for name, data in snapshot.chunks():
            arrival.take(name, data)
        with pytest.raises(IntegrityFailed, match="another record"):
            install(arrival, snapshot.digests)
    with pytest.raises(IntegrityFailed, match="another bank"):
        install(arrivals.all_of(snapshot, peer), snapshot.digests, bank="beta")
    arrival = arrivals.begin(peer, lsn=snapshot.lsn, hash=snapshot.hash, sizes={**sizes, TERMS: 3})
    arrival.take(TERMS, b"xyz")
    for name, data in snapshot.chunks():
        if name == DATABASE:
            arrival.take(name, data)
    with pytest.raises(IntegrityFailed, match="terms"):
        install(arrival, {**snapshot.digests, TERMS: sha256(b"xyz").digest()})


@pytest.mark.parametrize("change", ["position", "lsn", "entry", "key"])
def test_tables_that_do_not_agree_with_their_record_are_refused(
    ledger: Ledger, peer: Path, change: str, arrivals: Arrivals
) -> None:
    """The sender's word is not enough: mark and tree are worked out from the tables that came."""
    (peer / "made").mkdir()
    snapshot = taken(ledger)
    terms = msgspec.msgpack.decode(snapshot._terms, type=Terms)
    db = module._open_plainly(snapshot._path, terms.key)
    if change == "position":
        db.execute("UPDATE meta SET value = value - 1 WHERE key = 'position'")
    elif change == "lsn":
        db.execute("UPDATE meta SET value = value - 1 WHERE key = 'applied_lsn'")
    elif change == "entry":
        db.execute("UPDATE entries SET entry = zeroblob(length(entry)) WHERE position = 2")
    db.close()
    if change == "key":
        terms = Terms(1, bytes(32), terms.record)
    packed = msgspec.msgpack.encode(terms)
    data = snapshot._path.read_bytes()
    sizes, digests = (
        {TERMS: len(packed), DATABASE: len(data)},
        {
            TERMS: sha256(packed).digest(),
            DATABASE: sha256(data).digest(),
        },
    )
    arrival = arrivals.begin(peer, lsn=snapshot.lsn, hash=snapshot.hash, sizes=sizes)
    arrival.take(TERMS, packed)
    arrival.take(DATABASE, data)
    with pytest.raises(StoreCorrupt if change == "key" else IntegrityFailed):
        install(arrival, digests)
    assert not (peer / INCOMING / READY).exists()


def test_tables_that_do_not_belong_to_the_journal_are_not_sent(ledger: Ledger, tmp_path: Path) -> None:
    """Nor empty ones: there is nothing to begin a journal with."""
    other = filled(tmp_path / "other")
    with pytest.raises(IntegrityFailed):
        take(ledger.engine.store, other.engine.journal, ledger.folder)
    other.close()
    (tmp_path / "empty").mkdir()
    empty = Ledger(tmp_path / "empty")
    with pytest.raises(IntegrityFailed):
        taken(empty)
    empty.close()


# --- When something fails --------------------------------------------------------------------------------------------
def test_copying_can_be_given_up(ledger: Ledger) -> None:
    """Nothing of it stays, and it can be begun again."""

    class GivenUp(Exception):
        pass

    def give_up(done: int, total: int) -> None:
        raise GivenUp

    with pytest.raises(GivenUp):
        taken(ledger, on_progress=give_up)
    assert not list((ledger.folder / "outgoing").iterdir())
    taken(ledger).close()


def test_no_space_for_a_snapshot_is_told_before_it_comes(
    ledger: Ledger, peer: Path, monkeypatch: Any, arrivals: Arrivals
) -> None:
    """And a disk that becomes full on the way as well."""
    snapshot = taken(ledger)
    with monkeypatch.context() as full:
        full.setattr(module, "free_space", lambda folder: 1_000)
        with pytest.raises(DiskFull):
            arrivals.all_of(snapshot, peer)
    arrival = arrivals.begin(peer, lsn=snapshot.lsn, hash=snapshot.hash, sizes=snapshot.sizes)
    arrival._file.close()
    arrival._file = open("/dev/full", "wb", buffering=0)
    with pytest.raises(DiskFull):
        arrival.take(DATABASE, b"x" * 10_000)
    arrival.close()


def test_a_disk_that_fails_is_told(ledger: Ledger, peer: Path, monkeypatch: Any, arrivals: Arrivals) -> None:
    """Nothing is decided; a start that cannot move the files tries again the next time."""
    snapshot = taken(ledger)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "broken disk")

    with monkeypatch.context() as broken:
        broken.setattr(os, "replace", fail)
        with pytest.raises(JournalWriteFailed):
            install(arrivals.all_of(snapshot, peer), snapshot.digests)
    install(arrivals.all_of(snapshot, peer), snapshot.digests)
    with monkeypatch.context() as broken:
        broken.setattr(os, "rename", fail)
        with pytest.raises(JournalWriteFailed):
            opened(peer)
    engine = opened(peer)
    assert engine.last == ledger.engine.last
    engine.close()


def test_a_receiver_that_dies_has_the_old_ledger_or_the_new_one(
    ledger: Ledger, tmp_path: Path, arrivals: Arrivals
) -> None:
    """At any step of installing: the next start opens one of the two, whole, and what is there goes on."""
    old = filled(tmp_path / "old", 6)
    old_end, old_rows = old.engine.last, rows(old.engine)
    old.close()
    new_end, new_rows = ledger.engine.last, rows(ledger.engine)
    snapshot = taken(ledger)
    folder = tmp_path / "node"
    ends: list[bool] = []

    def begin(step: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "old", folder)
        arrivals.all_of(snapshot, folder)

    def act() -> None:
        install(arrivals[-1], snapshot.digests, data_key=b"d" * 32, store_key=b"t" * 32)
        settle(folder)

    def check(step: int) -> None:
        arrivals[-1]._file.close()
        node = Ledger(folder)
        is_new = node.engine.last == new_end
        assert is_new or node.engine.last == old_end
        assert rows(node.engine) == (new_rows if is_new else old_rows)
        assert not (folder / INCOMING).exists()
        node.account(10)
        node.commit()
        node.close()
        if is_new:
            kept = Ledger(folder / "replaced" / str(NOW_US))
            assert kept.engine.last == old_end
            kept.close()
        ends.append(is_new)

    steps = die_everywhere(begin, act, check)
    assert steps > 20 and ends == sorted(ends) and set(ends) == {False, True}


def test_a_start_that_dies_while_putting_it_in_place_is_finished_by_the_next(
    ledger: Ledger, tmp_path: Path, arrivals: Arrivals
) -> None:
    """However often."""
    filled(tmp_path / "node", 6).close()
    folder = tmp_path / "node"
    snapshot = taken(ledger)
    install(arrivals.all_of(snapshot, folder), snapshot.digests)
    steps = die_everywhere(lambda step: None, lambda: settle(folder), lambda step: None)
    assert steps > 5
    engine = opened(folder)
    assert engine.last == ledger.engine.last
    engine.close()


def test_what_was_not_decided_is_thrown_away(ledger: Ledger, peer: Path, arrivals: Arrivals) -> None:
    """By the start that finds it, as are copies that were to be sent; a second arrival begins anew."""
    snapshot = taken(ledger)
    first = arrivals.all_of(snapshot, peer)
    first._file.close()
    second = arrivals.all_of(snapshot, peer)
    second._file.close()
    assert (peer / INCOMING).exists()
    opened(peer).close()
    assert not (peer / INCOMING).exists() and not (peer / "replaced").exists()
    settle(ledger.folder)
    assert not (ledger.folder / "outgoing").exists()


def test_a_decided_snapshot_survives_the_closing_of_its_arrival(ledger: Ledger, peer: Path, arrivals: Arrivals) -> None:
    """Closing gives up only what was not installed."""
    snapshot = taken(ledger)
    arrival = arrivals.all_of(snapshot, peer)
    install(arrival, snapshot.digests)
    arrival.close()
    arrival.close()
    assert (peer / INCOMING / READY).read_text() == str(NOW_US)


def test_the_journal_keeps_the_record_that_a_snapshot_begins_with(ledger: Ledger) -> None:
    """Dropping what is applied leaves it, so that a snapshot can always be taken."""
    store, journal = ledger.engine.store, ledger.engine.journal
    journal.drop_applied(store.applied_lsn)
    snapshot = taken(ledger)
    record = msgspec.msgpack.decode(snapshot._terms, type=Terms).record
    assert ledger.engine.last is not None and record == encode(ledger.engine.last)


def test_a_changed_page_is_not_copied(ledger: Ledger) -> None:
    """Every page opens under the old key before it is sealed under the new one."""
    ledger.engine.store._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(ledger.folder / DATABASE, "r+b") as file:
        file.seek(6 * 4096 + 100)
        file.write(b"\xff\x00\xff")
    with pytest.raises(StoreCorrupt):
        taken(ledger)
