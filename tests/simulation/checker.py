"""What must hold in every run: no answer taken back, nothing twice, nothing old told as new, one history."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from fortress.ledger import entries as codec
from fortress.ledger.entries import AccountOpened, CustomerCreated, Posted
from fortress.ledger.records import Record, entries


class Violation(AssertionError):
    """Something that must never be so is so."""


@dataclass
class Order:
    """One transfer that a client wants done; ``outcome`` is what it knows: done, refused or unknown."""

    id: bytes
    debit: int
    credit: int
    amount: int
    outcome: str = "unknown"
    position: int = 0
    balance: int = 0


@dataclass(frozen=True)
class Look:
    """What a client read: the balance of an account, as of a position."""

    account: int
    position: int
    balance: int


@dataclass
class Checker:
    """Gathers what nodes and clients say, and holds it against one another."""

    committed: dict[int, bytes] = field(default_factory=dict)
    newest: int = 0
    orders: dict[bytes, Order] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    told: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    primaries: dict[int, object] = field(default_factory=dict)
    positions: dict[int, bytes] = field(default_factory=dict)

    # --- While it runs ----
    def commits(self, who: str, lsn: int, hash: bytes) -> None:
        """A node takes a record as committed."""
        known = self.committed.setdefault(lsn, hash)
        if known != hash:
            raise Violation(f"{who} takes another record {lsn} as committed than the one that is")
        self.newest = max(self.newest, lsn)

    def serves(self, epoch: int, who: object) -> None:
        """A node acts as primary of an epoch; after a restart it must be another epoch."""
        if self.primaries.setdefault(epoch, who) is not who:
            raise Violation(f"epoch {epoch} has two primaries, or one that was started anew")

    def answered(self, order: Order, position: int, balance: int, now_ns: int) -> None:
        """A client hears that its transfer is done."""
        if self.positions.setdefault(position, order.id) != order.id:
            raise Violation(f"two transfers were answered with position {position}")
        if order.position not in (0, position) or order.outcome == "refused":
            raise Violation(f"a transfer was answered twice, first {order.outcome} at {order.position}, now {position}")
        order.outcome, order.position, order.balance = "done", position, balance
        for account in (order.debit, order.credit):
            told = self.told[account]
            told.append((now_ns, max(position, told[-1][1] if told else 0)))

    def refused(self, order: Order) -> None:
        """A client hears that its transfer was refused by the rules."""
        if order.outcome == "done":
            raise Violation("a transfer that was done is refused")
        order.outcome = "refused"

    def newest_told(self, account: int, before_ns: int) -> int:
        """Position of the newest change of an account of which somebody had been told before a moment."""
        for time_ns, position in reversed(self.told[account]):
            if time_ns <= before_ns:
                return position
        return 0

    def read(self, look: Look, at_least: int, how: str) -> None:
        """A client hears a balance, and was to hear one that shows at least this position."""
        if look.position < at_least:
            raise Violation(f"a {how} read shows position {look.position}, though {at_least} was answered before it")
        self.looks.append(look)

    # --- At the end ----
    def finish(self, records: list[Record]) -> list[bytes]:
        """Hold everything said against the final history; give the handles of its customers."""
        if len(records) < self.newest:
            raise Violation(f"record {self.newest} was committed, and the history ends with {len(records)}")
        posted: dict[bytes, int] = {}
        balances: dict[int, list[tuple[int, int]]] = defaultdict(lambda: [(0, 0)])
        handles: list[bytes] = []
        position = 0
        for record in records:
            if self.committed.get(record.lsn, record.hash) != record.hash:
                raise Violation(f"record {record.lsn} was committed, and another one is history")
            for blob in entries(record):
                position += 1
                entry: Any = codec.decode(blob)
                if isinstance(entry, CustomerCreated):
                    handles.append(entry.handle)
                if isinstance(entry, AccountOpened):
                    balances[entry.number].append((position, 0))
                if isinstance(entry, Posted):
                    if entry.id in posted:
                        raise Violation(f"a transfer was done twice, at {posted[entry.id]} and {position}")
                    posted[entry.id] = position
                    balances[entry.debit].append((position, balances[entry.debit][-1][1] - entry.amount))
                    balances[entry.credit].append((position, balances[entry.credit][-1][1] + entry.amount))
        self._check_orders(posted)
        self._check_looks(balances)
        if sum(changes[-1][1] for changes in balances.values()):
            raise Violation("the balances do not add up to nothing")
        return handles

    def _check_orders(self, posted: dict[bytes, int]) -> None:
        for order in self.orders.values():
            found = posted.get(order.id)
            if order.outcome == "done" and found != order.position:
                raise Violation(f"a transfer was answered done at {order.position}, and history has it at {found}")
            if order.outcome == "refused" and found is not None:
                raise Violation(f"a transfer was answered refused, and history has it at {found}")

    def _check_looks(self, balances: dict[int, list[tuple[int, int]]]) -> None:
        by_position = {account: dict(changes) for account, changes in balances.items()}
        for look in self.looks:
            found = by_position[look.account].get(look.position)
            if found != look.balance:
                raise Violation(f"account {look.account} was told as {look.balance} at {look.position}, it was {found}")
