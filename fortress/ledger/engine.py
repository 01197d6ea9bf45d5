"""The embedded engine: journal, working state, tree and tables of one bank, opened, recovered and kept in step.

Blocking and single-minded: judging and closing records happen on one thread (the event loop's), writing the journal
on another, writing the tables on a third; the engine itself starts none. Order of truth: the journal is the durable
history, the tables follow it, the working state runs ahead of both by what is judged and not yet written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from fortress.errors import BooksBroken, ChainBroken, IntegrityFailed, Status, StoreCorrupt
from fortress.ledger import entries as codec
from fortress.ledger.acts import JUDGES
from fortress.ledger.commands import Command, MoveBatch, MoveMoney
from fortress.ledger.delta import Delta
from fortress.ledger.entries import AnyEntry, Posted
from fortress.ledger.journal import Journal
from fortress.ledger.merkle import Tree, leaf_hashes
from fortress.ledger.ordinary import post_rows, post_transfer
from fortress.ledger.records import Record, check_follows, entries, make_record
from fortress.ledger.rules import Verdict, judge_failed_row, judge_move, row_command
from fortress.ledger.snapshot import settle
from fortress.ledger.state import State
from fortress.ledger.store import Store

REPLAY_ENTRIES_MAX = 20_000  # entries put into the tables at once when the journal is ahead of them
EPOCH_FIRST = 1
ID_SKEW_S = 60
ID_SKEW_US_MAX = 86_400_000_000  # no setting allows more, so no id that was ever taken lies further ahead
RECORD_BYTES_FULL = 8 * 1024 * 1024  # what is pending should be closed; the largest batch still fits on top


class Engine:
    """One bank's ledger on this machine; made by :meth:`open`."""

    def __init__(self, bank: str, journal: Journal, store: Store, state: State, tree: Tree) -> None:
        self.bank = bank
        self.journal = journal
        self.store = store
        self.state = state
        self.tree = tree
        self.last = journal.last
        self.committed = journal.last  # the newest record that is known to be committed when opened
        self.unapplied: list[tuple[Record, Delta]] = []  # those after it: followed, and not for the tables yet
        self.epoch = self.last.epoch if self.last else EPOCH_FIRST
        self.last_us = self.last.time_us if self.last else 0
        self.id_skew_us = ID_SKEW_S * 1_000_000
        self._next_bound_us = 0
        self.delta = Delta()  # of the record that is open
        self._entry_bytes = 0  # of all entries since the engine was opened

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        bank: str,
        data_key: bytes,
        store_key: bytes,
        segment_bytes: int = 64 * 1024 * 1024,
        cache_mb: int = 64,
        checkpoint_pages: int = 32_000,
        account_cache_max: int = 131_072,
        id_cache_max: int = 131_072,
        id_skew_s: int = ID_SKEW_S,
        is_in_pair: bool = False,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Engine:
        """Open a bank's ledger in ``folder`` and bring the tables up to the journal.

        Also puts a snapshot that was received in its place, and finishes cutting the journal off, if a crash came
        between.

        Args:
            is_in_pair: what is durable here need not be committed: the tables get only what the journal itself tells
                to be, records after that are in the working state and in ``unapplied``. Alone all durable is committed.
            on_progress: told records applied and records to apply while the tables catch up.

        Raises:
            LedgerError: what is wrong and what to do; nothing was changed then.
        """
        settle(folder)
        with ExitStack() as opened:
            store = Store(folder / "ledger.db", store_key, cache_mb=cache_mb, checkpoint_pages=checkpoint_pages)
            opened.callback(store.close)
            journal = Journal.open(
                folder / "journal", data_key, bank=bank, segment_bytes=segment_bytes, applied_lsn=store.applied_lsn
            )
            opened.callback(journal.close)
            state = State(account_cache_max=account_cache_max, id_cache_max=id_cache_max)
            store.load_state(state)
            engine = cls(bank, journal, store, state, Tree.restore(store.applied_position, store.tile))
            engine.id_skew_us = id_skew_s * 1_000_000
            engine._catch_up(on_progress, is_in_pair=is_in_pair)
            engine.forget_ids_before_now()
            engine._bound_ids()  # a clock that was set back may stand still for long
            opened.pop_all()
        return engine

    def close(self) -> None:
        """Close the files; everything committed is durable already."""
        self.journal.close()
        self.store.close()

    def _catch_up(self, on_progress: Callable[[int, int], None], *, is_in_pair: bool) -> None:
        """Apply the journal's records that the tables do not have yet, and follow those that they must not have yet."""
        end, applied_lsn = self.last, self.store.applied_lsn
        if end is None:
            return
        committed_lsn = max(end.commit_lsn, applied_lsn) if is_in_pair else end.lsn
        if committed_lsn != end.lsn:
            self.committed = next(self.journal.records(committed_lsn)) if committed_lsn else None
        if applied_lsn == end.lsn:
            if (self.store.applied_hash, self.tree.root()) != (end.hash, end.tree_root):
                raise StoreCorrupt(f"the tables do not belong to this journal, which ends with record {end.lsn}")
            return
        first, total = applied_lsn + 1, end.lsn - applied_lsn
        deltas: list[Delta] = []
        count = 0
        for record in self.journal.records(first):
            if record.lsn == first and record.previous_hash != self.store.applied_hash:
                raise ChainBroken(f"the tables do not belong to this journal: record {record.lsn} does not follow them")
            delta = self._follow(record)
            if record.lsn > committed_lsn:
                self.unapplied.append((record, delta))
                continue
            deltas.append(delta)
            count += record.count
            if count >= REPLAY_ENTRIES_MAX:
                self.store.apply(deltas)
                deltas, count = [], 0
                self.state.trim(self.store.applied_position)
                on_progress(record.lsn - first + 1, total)
        if deltas:
            self.store.apply(deltas)
            self.state.trim(self.store.applied_position)
        on_progress(total, total)

    def follow(self, record: Record) -> Delta:
        """Apply the next record, made by the other node, to the working state, checking it; give what tables learn.

        The record's epoch becomes this engine's. After an error the working state is of no use: the node must stop.

        Raises:
            ChainBroken: it does not continue the last one, or entries judged here are open.
            BooksBroken: balances do not continue.
            IntegrityFailed: an entry is not in its one form, or the tree after it is not the one the record names.
        """
        if record.bank != self.bank or self.pending:
            what = "entries judged here are open" if self.pending else f"it is of bank {record.bank!r}"
            raise ChainBroken(f"record {record.lsn} cannot be followed: {what}")
        check_follows(self.last, record)
        delta = self._follow(record)
        self._bound_ids()  # whoever becomes primary while its clock is behind judges at this time
        return delta

    def _follow(self, record: Record) -> Delta:
        delta = Delta()
        state = self.state
        decode, encode, apply, lacks_move = codec.decode, codec.encode, state.apply, state.lacks_move
        for blob in entries(record):
            entry = decode(blob)
            if encode(entry) != blob:
                raise IntegrityFailed(f"record {record.lsn} holds an entry that is not in canonical form")
            if type(entry) is not Posted or entry.held or entry.original:
                self._load_for(entry)
            elif lacks_move(entry.id, entry.debit, entry.credit):  # what most entries are, and most lack nothing
                self._load_for(entry)
            apply(entry, delta)
            delta.add(blob)
        self.tree.append(leaf_hashes(delta.entries))
        if self.tree.root() != record.tree_root or self.tree.size != record.tree_size:
            raise IntegrityFailed(f"the tree after record {record.lsn} is not the one it names")
        self._freeze(delta, record)
        self.last, self.last_us, self.epoch = record, max(self.last_us, record.time_us), record.epoch
        return delta

    def _load_for(self, entry: AnyEntry) -> None:
        while (wanted := self.state.missing_for_entry(entry)) is not None:
            self.state.fill(wanted, self.store.load(wanted))

    def _freeze(self, delta: Delta, record: Record) -> None:
        delta.tiles = self.tree.tiles_to_store()
        if self.tree.size != self.state.position:
            raise BooksBroken(f"the tree has {self.tree.size} leaves after {self.state.position} entries")
        delta.freeze(
            lsn=record.lsn,
            first_position=record.first_position + 1,
            time_us=record.time_us,
            hash=record.hash,
            entry_offset=self._entry_bytes,
        )
        self._entry_bytes += delta.size_bytes

    def forget_ids_before_now(self) -> None:
        """Note up to which time-ordered id the tables must be asked: the newest that they hold.

        Memory starts without ids. The search begins where none can lie beyond, whatever skew was once allowed, and
        ends, as a rule, at the first row.
        """
        bound = ((self.last_us + ID_SKEW_US_MAX) // 1000).to_bytes(6, "big") + bytes(10)
        self.state.id_seen = max(self.state.id_seen, self.store.newest_time_ordered_id(bound))

    def restored(self, copied_us: int, now_us: int) -> Record:
        """Go on as a bank that was restored: the first record of a new epoch says so; durable when this returns.

        Args:
            copied_us: when the backup was made.

        Raises:
            LedgerError: it could not be written.
        """
        self.epoch += 1
        entry = codec.LedgerRestored(self.clock(now_us), copied_us)
        self.state.apply(entry, self.delta)
        self.delta.add(codec.encode(entry))
        made = self.close_record(now_us, self.last.lsn if self.last else 0)
        assert made is not None
        record, delta = made
        self.journal.append(record)
        self.store.apply([delta])
        return record

    # --- Judging ---------------------------------------------------------------------------------------------------
    def clock(self, now_us: int) -> int:
        """Make the time of a judgement: the clock, but never before what was written; moves the bound for ids."""
        if now_us <= self.last_us:
            return self.last_us
        self.last_us = now_us
        if now_us >= self._next_bound_us:  # ids carry milliseconds: once in one is often enough
            self._next_bound_us = now_us + 1_000
            self._bound_ids()
        return now_us

    def _bound_ids(self) -> None:
        self.state.id_ahead = ((self.last_us + self.id_skew_us) // 1000).to_bytes(6, "big") + bytes(10)

    def post(self, command: Command, now_us: int) -> Verdict | list[Verdict] | None:
        """Judge an ordinary transfer or batch ok and post it; None for all else, and nothing was done then.

        Whether its keys are in memory need not be known before.
        """
        if type(command) is MoveMoney:
            return post_transfer(self.state, self.delta, command, now_us)
        return post_rows(self.state, self.delta, command, now_us) if type(command) is MoveBatch else None

    def judge(self, command: Command, now_us: int) -> Verdict:
        """Judge one command whose keys are all in memory, and apply what it writes to the working state."""
        verdict = JUDGES[type(command)](self.state, command, now_us)
        entry = verdict.entry
        if entry is not None and not verdict.replayed:
            verdict.position = self.state.apply(entry, self.delta)
            self.delta.add(codec.encode(entry))
        return verdict

    @property
    def pending(self) -> list[bytes]:
        """The entries of the record that is open."""
        return self.delta.entries

    @property
    def pending_bytes(self) -> int:
        """Their size."""
        return self.delta.size_bytes

    @property
    def is_record_full(self) -> bool:
        """True when what is pending should become a record before more is judged."""
        return self.delta.size_bytes >= RECORD_BYTES_FULL

    def judge_batch(self, command: MoveBatch, now_us: int) -> list[Verdict]:
        """Judge the rows of a batch in order, each on top of those before.

        An atomic batch is done whole or not at all: when one row is refused, the rows that were not known before are
        remembered as failed with it. Rows known before keep their first answer, whatever becomes of the others.
        """
        commands = [row_command(command.actor, command.currency, row) for row in command.rows]
        if command.atomic:
            rehearsed = self._rehearse(commands, now_us)
            if any(verdict.status is not Status.ok for verdict in rehearsed):
                # an id too far ahead leaves no trace, so that the whole batch can be repeated once the clock is right
                is_kept = all(verdict.status is not Status.id_too_far_ahead for verdict in rehearsed)
                pairs = zip(commands, rehearsed, strict=True)
                return [self._fail_row(row, verdict, now_us, is_kept=is_kept) for row, verdict in pairs]
        state, delta, judge = self.state, self.delta, self.judge
        return [post_transfer(state, delta, row, now_us) or judge(row, now_us) for row in commands]

    def _rehearse(self, commands: Sequence[MoveMoney], now_us: int) -> list[Verdict]:
        """Judge an atomic batch on a copy of the accounts it names."""
        copy = State()
        copy.currencies, copy.id_ahead, copy.position = self.state.currencies, self.state.id_ahead, self.state.position
        for row in commands:
            for number in (row.debit, row.credit):
                account = self.state.account(number)
                if account is not None and number not in copy.accounts:
                    copy.accounts.put(number, replace(account))
            known = self.state.known(row.id)
            if known is not None:
                copy.ids.put(row.id, known)
        verdicts = []
        scratch = Delta()
        for command in commands:
            verdict = judge_move(copy, command, now_us)
            if verdict.status is Status.ok and not verdict.replayed:
                copy.apply(verdict.entry, scratch)
            verdicts.append(verdict)
        return verdicts

    def _fail_row(self, command: MoveMoney, rehearsed: Verdict, now_us: int, *, is_kept: bool) -> Verdict:
        """Refuse one row of an atomic batch: by its own reason, or because of the others."""
        if self.state.known(command.id) is not None:
            return judge_move(self.state, command, now_us)
        verdict = judge_failed_row(command, now_us) if rehearsed.status is Status.ok else rehearsed
        if verdict.entry is None or not is_kept:
            return Verdict(verdict.status, facts=verdict.facts)
        verdict.position = self.state.apply(verdict.entry, self.delta)
        self.delta.add(codec.encode(verdict.entry))
        return verdict

    def close_record(self, now_us: int, commit_lsn: int) -> tuple[Record, Delta] | None:
        """Make one record of what was judged since the last; None when nothing was."""
        delta = self.delta
        if not delta.entries:
            return None
        self.delta = Delta()
        self.tree.append(leaf_hashes(delta.entries))
        record = make_record(
            delta.entries,
            previous=self.last,
            bank=self.bank,
            epoch=self.epoch,
            time_us=self.clock(now_us),
            commit_lsn=commit_lsn,
            tree_root=self.tree.root(),
        )
        self._freeze(delta, record)
        self.last = record
        return record, delta
