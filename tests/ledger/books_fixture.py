"""What the tests of the rules share: books in memory, tables of accounts, ids that carry time."""

from __future__ import annotations

from itertools import count
from typing import Any

from fortress.errors import Status
from fortress.ledger.acts import judge
from fortress.ledger.commands import KeyData
from fortress.ledger.delta import Delta
from fortress.ledger.model import (
    BANK_ACTOR,
    SWITCH_ACTOR,
    Account,
    AccountKind,
    AccountState,
    Actor,
    account_number,
)
from fortress.ledger.rules import Verdict
from fortress.ledger.state import State

NOW_US = 1_700_000_000_000_000  # 2023-11-14 22:13:20 UTC
DAY_US = 86_400_000_000
KEY = KeyData(b"s" * 16, 65_536, 3, 4, b"p" * 60, b"q" * 32)
ANYBODY = frozenset({"customer"})
ALICE, BOB = Actor(1, ANYBODY), Actor(2, ANYBODY)
TELLER = Actor(8, frozenset({"teller"}))
ADMINISTRATOR = Actor(9, frozenset({"administrator"}))
ACTORS = {
    "alice": ALICE,
    "bob": BOB,
    "teller": TELLER,
    "administrator": ADMINISTRATOR,
    "bank": BANK_ACTOR,
    "switch": SWITCH_ACTOR,
}

_serial = count(1)


def uid(time_us: int = NOW_US) -> bytes:
    """A UUIDv7 of this time, another each time."""
    raw = bytearray((time_us // 1000).to_bytes(6, "big") + next(_serial).to_bytes(10, "big"))
    raw[6] = 0x70 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    return bytes(raw)


def odd_id() -> bytes:
    """An id that carries no time."""
    raw = bytearray(uid())
    raw[6] = 0x40
    return bytes(raw)


def rows(text: str) -> list[dict[str, str]]:
    """Read a table: a line of column names, then lines of as many words; ``-`` stands for nothing."""
    lines = [line.split() for line in text.strip().splitlines() if line.strip()]
    words = [["" if word == "-" else word for word in line] for line in lines]
    return [dict(zip(words[0], line, strict=True)) for line in words[1:]]


def number(text: str) -> int | None:
    return int(text) if text else None


class Books(State):
    """A working state with accounts by name, judged and changed without a disk."""

    def __init__(self, accounts: str = "") -> None:
        super().__init__()
        self.currencies = {"EUR": account_number(1), "USD": account_number(2)}
        self.numbers: dict[str, int] = {"nobody": account_number(99)}
        self.id_ahead = uid(NOW_US + 60_000_000)[:6] + bytes(10)
        self.delta = Delta()
        for row in rows(accounts):
            self.add(row)

    def add(self, row: dict[str, str]) -> None:
        kind = AccountKind[row["kind"]]
        currency = row["currency"]
        is_cash = kind is AccountKind.cash
        number_of = self.currencies[currency] if is_cash else account_number(100 + len(self.numbers))
        held, promised = int(row.get("held") or 0), int(row.get("promised") or 0)
        account = Account(
            number_of,
            int(row["owner"]),
            int(kind),
            currency,
            int(AccountState[row.get("state") or "open"]),
            floor=None if kind in (AccountKind.cash, AccountKind.settlement) else int(row.get("floor") or 0),
            limit_payment=number(row.get("payment", "")),
            limit_day=number(row.get("day", "")),
            limit_month=number(row.get("month", "")),
            signed_orders_only=bool(row.get("signed", "")),
            debits_pending=held,
            credits_pending=promised,
        )
        balance = int(row.get("balance") or 0)
        account.credits_posted, account.debits_posted = max(balance, 0), max(-balance, 0)
        if kind is AccountKind.settlement:
            self.settlements[currency] = number_of
        if kind is AccountKind.position:
            self.positions[-account.owner, currency] = number_of
        self.numbers[row["name"]] = number_of
        self.accounts.put(number_of, account)

    def named(self, name: str) -> Account:
        account = self.account(self.numbers[name])
        assert account is not None
        return account

    def do(self, command: Any, now_us: int = NOW_US) -> Verdict:
        """Judge a command and apply what it writes, as the engine does."""
        verdict = judge(self, command, now_us)
        if verdict.entry is not None and not verdict.replayed:
            verdict.position = self.apply(verdict.entry, self.delta)
        return verdict

    def sums(self) -> dict[str, tuple[int, int]]:
        """By currency, the sum of all balances and that of all pending sums: both must be zero."""
        found: dict[str, tuple[int, int]] = {}
        for account in [*self.accounts.newer.values(), *self.accounts.older.values()]:
            if account is not None:
                posted, pending = found.get(account.currency, (0, 0))
                found[account.currency] = (
                    posted + account.balance,
                    pending + account.credits_pending - account.debits_pending,
                )
        return found


def status(name: str) -> Status:
    return Status[name]
