"""What the tests of the engine share: a ledger on disk with small limits, time that is given, tables to compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fortress.ledger.commands import (
    AbortPayment,
    ChangeBank,
    CommitPayment,
    CreateCustomer,
    MoveBatch,
    MoveMoney,
    OpenAccount,
    OpenLedger,
    PlaceHold,
    PlacePayment,
)
from fortress.ledger.delta import Delta
from fortress.ledger.engine import Engine
from fortress.ledger.model import BANK_ACTOR, SWITCH_ACTOR, Account, AccountKind
from fortress.ledger.rules import Verdict
from fortress.ledger.store import Store
from tests.ledger.books_fixture import ALICE, KEY, NOW_US, uid

DATA_KEY, STORE_KEY = b"d" * 32, b"t" * 32
SEGMENT = 1024 * 1024
TABLES = (
    "meta records entries ids marks trail tiles counters accounts holds customers approvals invitations reversals"
    " sessions_ended banks windows"
).split()


@dataclass(frozen=True)
class Row:
    """One transfer of a batch."""

    id: bytes
    debit: int
    credit: int
    amount_minor: int
    reference: str = ""


class Ledger:
    """An engine in a folder; what is done is judged at ``now_us``, which moves on by a millisecond each time."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.options = {"segment_bytes": SEGMENT, "cache_mb": 1, **options}
        self.now_us = NOW_US
        self.unapplied: list[Delta] = []
        self.engine = self._open()

    def _open(self) -> Engine:
        return Engine.open(self.folder, bank="alpha", data_key=DATA_KEY, store_key=STORE_KEY, **self.options)

    @property
    def state(self) -> Any:
        return self.engine.state

    def uid(self) -> bytes:
        return uid(self.now_us)

    # --- Doing -----------------------------------------------------------------------------------------------------
    def do(self, command: Any) -> Any:
        """Judge a command as the committer does; a batch gives a list."""
        self.now_us += 1_000
        now_us = self.engine.clock(self.now_us)
        state = self.engine.state
        while (wanted := self.missing(command)) is not None:
            state.fill(wanted, self.engine.store.load(wanted))
        posted = self.engine.post(command, now_us)
        if posted is not None:
            return posted
        judge = self.engine.judge_batch if type(command) is MoveBatch else self.engine.judge
        return judge(command, now_us)

    def missing(self, command: Any) -> Any:
        is_batch = type(command) is MoveBatch
        return self.state.missing_for_batch(command.rows) if is_batch else self.state.missing(command)

    def commit(self, *, apply: bool = True) -> None:
        """Close the record, make it durable and, unless told otherwise, put it into the tables."""
        last = self.engine.last
        closed = self.engine.close_record(self.now_us, last.lsn if last else 0)
        if closed is not None:
            self.engine.journal.append(closed[0])
            self.unapplied.append(closed[1])
        if apply:
            self.apply()

    def apply(self) -> None:
        if self.unapplied:
            self.engine.store.apply(self.unapplied)
            self.unapplied = []
            self.engine.state.trim(self.engine.store.applied_position)

    def reopen(self) -> None:
        """As after a kill: what is in neither journal nor tables is gone."""
        self.engine.close()
        self.unapplied = []
        self.engine = self._open()

    def close(self) -> None:
        self.engine.close()

    # --- A small bank ----------------------------------------------------------------------------------------------
    def found(self, currencies: Sequence[str] = ("EUR", "USD")) -> None:
        """Open the ledger, a cash account for each currency, and customer 1."""
        self.do(OpenLedger(BANK_ACTOR, "alpha", tuple(currencies)))
        for currency in currencies:
            self.do(OpenAccount(BANK_ACTOR, self.uid(), 0, int(AccountKind.cash), currency, None))
        self.customer(b"alice")

    def customer(self, name: bytes, *roles: str) -> int:
        command = CreateCustomer(BANK_ACTOR, self.uid(), name.ljust(16), roles or ("customer",), KEY, b"sealed")
        number: int = self.do(command).entry.customer
        return number

    def account(self, balance: int = 0, *, owner: int = 1, currency: str = "EUR") -> int:
        """Open an account and pay cash in."""
        number: int = self.do(OpenAccount(BANK_ACTOR, self.uid(), owner, 1, currency)).entry.number
        if balance:
            self.deposit(number, balance, currency)
        return number

    def deposit(self, number: int, amount: int, currency: str = "EUR") -> Verdict:
        cash = self.state.currencies[currency]
        made: Verdict = self.do(MoveMoney(BANK_ACTOR, 1, self.uid(), cash, number, amount, currency))
        return made

    def pay(self, debit: int, credit: int, amount: int, **more: Any) -> Verdict:
        command = MoveMoney(ALICE, 3, more.pop("id", None) or self.uid(), debit, credit, amount, "EUR", **more)
        made: Verdict = self.do(command)
        return made

    def hold(self, debit: int, credit: int, amount: int, *, lasts_us: int = 3_600_000_000) -> Verdict:
        command = PlaceHold(ALICE, self.uid(), debit, credit, amount, "EUR", self.now_us + lasts_us, "promised")
        made: Verdict = self.do(command)
        return made

    # --- Payments between banks ------------------------------------------------------------------------------------
    def settlement(self, currency: str = "EUR") -> int:
        """Open the account that payments from and to other banks go through."""
        command = OpenAccount(BANK_ACTOR, self.uid(), 0, int(AccountKind.settlement), currency, None)
        number: int = self.do(command).entry.number
        return number

    def member(self, bank: str, cap: int = 1_000, currency: str = "EUR") -> int:
        """Let a bank join this gateway, with a position."""
        self.do(ChangeBank(BANK_ACTOR, self.uid(), bank, "add", bank.encode()))
        owner = -self.state.banks[bank].number
        command = OpenAccount(BANK_ACTOR, self.uid(), owner, int(AccountKind.position), currency, -cap)
        number: int = self.do(command).entry.number
        return number

    def place(self, debit: int, credit: int, amount: int, **more: Any) -> Verdict:
        """Place a leg of a payment: the first customer's when one of theirs is debited, else the switch's."""
        actor = ALICE if self.named(debit).kind == AccountKind.customer else SWITCH_ACTOR
        id = more.pop("id", None) or self.uid()
        made: Verdict = self.do(PlacePayment(actor, id, debit, credit, amount, "EUR", "harbour/1000195", **more))
        return made

    def end(self, id: bytes, sequence: int = 0, reason: int = 0) -> Verdict:
        """Commit a leg, or abort it for a reason."""
        command = AbortPayment(SWITCH_ACTOR, id, reason) if reason else CommitPayment(SWITCH_ACTOR, id, sequence)
        made: Verdict = self.do(command)
        return made

    def named(self, number: int) -> Account:
        """The account as it is judged now."""
        while (wanted := self.state.want_account(number)) is not None:
            self.state.fill(wanted, self.engine.store.load(wanted))
        account: Account | None = self.state.account(number)
        assert account is not None
        return account

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        return tables(self.engine.store)


def tables(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    return {table: sorted(store.read(f"SELECT * FROM {table}"), key=repr) for table in TABLES}


def rebuilt(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The tables as the journal alone makes them."""
    for path in folder.glob("ledger.db*"):
        path.unlink()
    ledger = Ledger(folder)
    try:
        return ledger.tables()
    finally:
        ledger.close()
