"""The audit of a ledger at rest: every record read again, every balance added up anew, the tables compared with both.

What is checked, in this order:

1. the journal: each record's seal, hash and place in the chain; each entry's canonical form;
2. the tree: its root after each record, computed from the leaves;
3. the books: counters recomputed from zero; every balance and counter that an entry names must be what comes out, a
   hold is settled once and never for more, and per currency debits equal credits, posted and pending;
4. the tables: each entry's bytes, each account's counters, the number of accounts, the tree's tiles.

The books are kept here by a few lines of their own and not by the code that runs the bank: an auditor who uses the
bank's arithmetic would repeat its mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fortress.errors import BooksBroken, Facts, IntegrityFailed
from fortress.ledger import entries as codec
from fortress.ledger.entries import AccountOpened, AnyEntry, HoldPlaced, HoldReleased, Posted
from fortress.ledger.merkle import Tree, leaf_hashes
from fortress.ledger.records import FIRST_LSN, FIRST_POSITION, Record, entries

if TYPE_CHECKING:
    from fortress.ledger.engine import Engine

ACCOUNTS_PAGE: Final = 10_000
PROGRESS_EVERY: Final = 256


@dataclass(slots=True)
class Counters:
    """What an account's entries add up to, minor units."""

    currency: str
    debits_posted: int = 0
    credits_posted: int = 0
    debits_pending: int = 0
    credits_pending: int = 0

    @property
    def balance(self) -> int:
        """Credits less debits."""
        return self.credits_posted - self.debits_posted


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was found to be right.

    Attributes:
        records: read in the journal.
        entries: in them.
        accounts: whose counters were added up.
        transfers: postings among the entries.
        currencies: whose sums are zero.
        root: of the Merkle tree over all entries.
        chain: hash of the last record.
    """

    records: int
    entries: int
    accounts: int
    transfers: int
    currencies: tuple[str, ...]
    root: bytes
    chain: bytes


@dataclass(slots=True)
class Books:
    """The counters of all accounts, kept from the first entry on."""

    accounts: dict[int, Counters] = field(default_factory=dict)
    holds: dict[bytes, tuple[int, int, int]] = field(default_factory=dict)
    transfers: int = 0

    def take(self, entry: AnyEntry, position: int) -> None:
        """Book one entry.

        Raises:
            BooksBroken: it does not continue the ones before.
        """
        if isinstance(entry, AccountOpened):
            self._require(entry.number not in self.accounts, position, f"account {entry.number} was opened before")
            self.accounts[entry.number] = Counters(entry.currency)
        elif isinstance(entry, Posted):
            self._take_posted(entry, position)
        elif isinstance(entry, HoldPlaced):
            self._take_placed(entry, position)
        elif isinstance(entry, HoldReleased):
            self._take_released(entry, position)

    def sums(self) -> dict[str, tuple[int, int]]:
        """Give for each currency what must be zero: balances, and pending credits less pending debits."""
        found: dict[str, tuple[int, int]] = {}
        for account in self.accounts.values():
            posted, pending = found.get(account.currency, (0, 0))
            pending += account.credits_pending - account.debits_pending
            found[account.currency] = (posted + account.balance, pending)
        return found

    def _take_posted(self, entry: Posted, position: int) -> None:
        debit, credit = self._ends(entry.debit, entry.credit, position)
        fits = entry.currency == debit.currency == credit.currency
        self._require(fits and entry.amount > 0, position, "the posting's currency or amount is wrong")
        if entry.held:
            promised = self.holds.pop(entry.id, None)
            fits = promised == (entry.debit, entry.credit, entry.held) and entry.amount <= entry.held
            self._require(fits, position, "the posting is for no such open hold")
            debit.debits_pending -= entry.held
            credit.credits_pending -= entry.held
        debit.debits_posted += entry.amount
        credit.credits_posted += entry.amount
        named = (entry.debit_balance, entry.credit_balance)
        found = (debit.balance, credit.balance)
        self._require(named == found, position, "the balances named are not those that result")
        self.transfers += 1

    def _take_placed(self, entry: HoldPlaced, position: int) -> None:
        debit, credit = self._ends(entry.debit, entry.credit, position)
        fits = entry.currency == debit.currency == credit.currency
        self._require(fits and entry.amount > 0, position, "the hold's currency or amount is wrong")
        self._require(entry.id not in self.holds, position, "a hold of this id is open already")
        self.holds[entry.id] = (entry.debit, entry.credit, entry.amount)
        debit.debits_pending += entry.amount
        credit.credits_pending += entry.amount
        self._check_pending(entry, debit, credit, position)

    def _take_released(self, entry: HoldReleased, position: int) -> None:
        debit, credit = self._ends(entry.debit, entry.credit, position)
        promised = self.holds.pop(entry.id, None)
        self._require(promised == (entry.debit, entry.credit, entry.amount), position, "no such hold is open")
        debit.debits_pending -= entry.amount
        credit.credits_pending -= entry.amount
        self._check_pending(entry, debit, credit, position)

    def _check_pending(
        self, entry: HoldPlaced | HoldReleased, debit: Counters, credit: Counters, position: int
    ) -> None:
        named = (entry.debit_pending, entry.credit_pending)
        found = (debit.debits_pending, credit.credits_pending)
        self._require(named == found, position, "the sums on hold named are not those that result")

    def _ends(self, debit: int, credit: int, position: int) -> tuple[Counters, Counters]:
        self._require(debit in self.accounts and credit in self.accounts, position, "an account was never opened")
        self._require(debit != credit, position, "both ends are one account")
        return self.accounts[debit], self.accounts[credit]

    def _require(self, fits: bool, position: int, reason: str) -> None:
        if not fits:
            raise BooksBroken(f"entry {position}: {reason}", {"position": position})


def verify_ledger(engine: Engine, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Verified:
    """Check a whole ledger; see the module's text.

    Args:
        engine: opened, and not in use by anybody.
        on_progress: told records read and records to read.

    Raises:
        LedgerError: what is not right, and where.
    """
    books, tree = Books(), Tree()
    records = 0
    for record, blobs in _records(engine):
        for position, blob in enumerate(blobs, record.first_position + 1):
            entry = codec.decode(blob)
            if codec.encode(entry) != blob:
                raise IntegrityFailed(f"entry {position} is not in canonical form", {"position": position})
            books.take(entry, position)
        tree.append(leaf_hashes(blobs))
        if (tree.size, tree.root()) != (record.tree_size, record.tree_root):
            raise IntegrityFailed(f"the tree after record {record.lsn} is not the one it names", {"lsn": record.lsn})
        _compare_entries(engine, record, blobs)
        records += 1
        if records % PROGRESS_EVERY == 0:
            on_progress(records, engine.store.applied_lsn)
    _check_sums(books)
    _compare_accounts(engine, books)
    if Tree.restore(tree.size, engine.store.tile).root() != tree.root():
        raise IntegrityFailed("the tables' tree is not that of the journal")
    return Verified(
        records=records,
        entries=tree.size,
        accounts=len(books.accounts),
        transfers=books.transfers,
        currencies=tuple(sorted(books.sums())),
        root=tree.root(),
        chain=engine.last.hash if engine.last else b"",
    )


def _records(engine: Engine) -> Iterator[tuple[Record, list[bytes]]]:
    if engine.last is None:
        return
    if engine.journal.first_lsn > FIRST_LSN:
        raise IntegrityFailed(
            f"the journal begins with record {engine.journal.first_lsn}; what came before cannot be checked",
            {"lsn": engine.journal.first_lsn},
        )
    position = FIRST_POSITION
    for record in engine.journal.records(FIRST_LSN):
        if record.first_position != position:
            raise IntegrityFailed(f"record {record.lsn} begins at {record.first_position}, not at {position}")
        yield record, entries(record)
        position += record.count


def _compare_entries(engine: Engine, record: Record, blobs: list[bytes]) -> None:
    first = record.first_position + 1
    kept = engine.store.entries(range(first, first + len(blobs)))
    for position, blob in enumerate(blobs, first):
        if kept.get(position) != blob:
            raise IntegrityFailed(f"entry {position} is another one in the tables", {"position": position})


def _check_sums(books: Books) -> None:
    for currency, (posted, pending) in books.sums().items():
        if posted or pending:
            facts: Facts = {"currency": currency, "posted_minor": posted, "pending_minor": pending}
            raise BooksBroken(f"debits and credits in {currency} do not add up", facts)


def _compare_accounts(engine: Engine, books: Books) -> None:
    from fortress.ledger.queries import Queries

    queries = Queries(engine.store)
    after = seen = 0
    while page := queries.all_accounts(after, ACCOUNTS_PAGE):
        for kept in page:
            found = books.accounts.get(kept.number)
            pending = (kept.debits_pending, kept.credits_pending)
            if found is None or found != Counters(kept.currency, kept.debits_posted, kept.credits_posted, *pending):
                raise IntegrityFailed(f"account {kept.number} is another in the tables", {"account": kept.number})
        seen += len(page)
        after = page[-1].number
    if seen != len(books.accounts):
        raise IntegrityFailed(f"the tables have {seen} accounts, the journal {len(books.accounts)}")
