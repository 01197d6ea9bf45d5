"""A bank that answers from memory, so that commands are tested without a node; and a context that is signed in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fortress.authority import make_authority
from fortress.cli import desk, sessions
from fortress.cli.command import Call
from fortress.cli.contexts import Contexts, Token
from fortress.cli.main import run
from fortress.client.money import Money
from fortress.client.payments import Payment
from fortress.errors import FortressError, NotSignedIn
from fortress.protocol.accounts import AccountsAnswer, AccountView, Profile, ResolveAnswer
from fortress.protocol.administration import (
    ApprovalRow,
    InviteAnswer,
    StatusAnswer,
    TrailAnswer,
    TrailRow,
    TrialBalanceAnswer,
    TrialBalanceRow,
    UserAnswer,
    UsersAnswer,
)
from fortress.protocol.fields import Done
from fortress.protocol.money import HoldView
from fortress.protocol.orders import PaymentOrder
from fortress.protocol.payments import PaymentStep, PaymentView
from fortress.protocol.reading import HeadAnswer, HistoryRow, ReceiptAnswer, StatementAnswer
from fortress.protocol.sessions import SignedIn
from fortress.protocol.switching import BankView, PositionsAnswer, PositionView, WindowRow, WindowView

NUMBER = 4711000093
OTHER = 4711000190
ID = bytes(range(16))
ID_TEXT = "00010203-0405-0607-0809-0a0b0c0d0e0f"
TIME_US = 1_700_000_000_000_000
FAR_US = 4_000_000_000_000_000


def account_view(number: int = NUMBER, **more: Any) -> AccountView:
    values: dict[str, Any] = {
        "number": number,
        "owner": "alice",
        "kind": "customer",
        "currency": "EUR",
        "state": "open",
        "balance_minor": 10000,
        "available_minor": 9000,
        "held_minor": 1000,
        "incoming_minor": 0,
        "debits_posted_minor": 0,
        "credits_posted_minor": 10000,
        "floor_minor": 0,
        "limit_payment_minor": None,
        "limit_day_minor": 50000,
        "limit_month_minor": None,
        "left_day_minor": 50000,
        "left_month_minor": None,
        "signed_orders_only": False,
        "opened_us": TIME_US,
        "version": 1,
        "position": 7,
    }
    return AccountView(**{**values, **more})


def history_row(position: int = 5, **more: Any) -> HistoryRow:
    values: dict[str, Any] = {
        "position": position,
        "time_us": TIME_US,
        "id": ID,
        "kind": "deposit",
        "amount_minor": 10000,
        "balance_minor": 10000,
        "counterparty": OTHER,
        "reference": "first",
    }
    return HistoryRow(**{**values, **more})


def user_answer(username: str = "alice", **more: Any) -> UserAnswer:
    values: dict[str, Any] = {
        "customer": 1,
        "username": username,
        "name": username.title(),
        "roles": ["customer"],
        "state": "active",
        "created_us": TIME_US,
    }
    return UserAnswer(**{**values, **more})


def order_of(**more: Any) -> PaymentOrder:
    values: dict[str, Any] = {"bank": "a", "id": ID, "debit": NUMBER, "payee": f"b/{OTHER}", "amount_minor": 1250}
    return PaymentOrder(**{**values, "currency": "EUR", **more})


def payment_view(**more: Any) -> PaymentView:
    values: dict[str, Any] = {
        "id": ID,
        "state": "pending",
        "payer": f"a/{NUMBER}",
        "payee": f"b/{OTHER}",
        "amount_minor": 1250,
        "currency": "EUR",
        "reference": "Lunch",
        "reason": "",
        "since_us": TIME_US,
        "missing": ["b"],
        "act": "wait",
        "steps": [
            PaymentStep("b", "prepared", TIME_US + 12_000, 4),
            PaymentStep("a", "held", TIME_US, 9),
            PaymentStep("gateway", "intended", TIME_US + 5_000, 7, "late"),
        ],
    }
    return PaymentView(**{**values, **more})


HEAD = HeadAnswer("a", 1, 9, bytes(32), TIME_US, bytes(64), bytes(32))
RECEIPT = ReceiptAnswer(3, msgspec.msgpack.encode([NUMBER, 1250, 300]), [bytes(32)], HEAD)


class FakeAdministration:
    """What staff may do, noted and answered."""

    def __init__(self, bank: FakeBank) -> None:
        self._bank = bank

    async def create_user(self, username: str, password: str, *, roles: Any, profile: Profile) -> UserAnswer:
        self._bank.note("create_user", username, password, tuple(roles), profile.name)
        return user_answer(username, roles=list(roles), approval=self._bank.approval)

    async def users(self, *, after: int = 0, limit: int = 100) -> UsersAnswer:
        return UsersAnswer([user_answer("bob", locked_until_us=FAR_US)]) if after else UsersAnswer([user_answer()], 1)

    async def user(self, username: str) -> UserAnswer:
        return user_answer(username)

    async def accounts(self, username: str, *, all: bool, after: int = 0, limit: int = 100) -> AccountsAnswer:
        self._bank.note("accounts", username, all)
        return AccountsAnswer([account_view(OTHER)]) if after else AccountsAnswer([account_view()], 1)

    async def invite(self, role: str, *, valid_s: int) -> InviteAnswer:
        self._bank.note("invite", role, valid_s)
        return InviteAnswer("CODE-CODE", FAR_US, self._bank.approval)

    async def approvals(self) -> list[ApprovalRow]:
        return [ApprovalRow(ID, "erase", "erase bob", "ada", TIME_US)]

    async def trail(self, *, cursor: int = 0, limit: int = 100) -> TrailAnswer:
        return TrailAnswer([TrailRow(cursor or 9, TIME_US, "lock", "ada", "bob", "until unlocked")], 0 if cursor else 5)

    async def trial_balance(self) -> TrialBalanceAnswer:
        return TrialBalanceAnswer([TrialBalanceRow("EUR", 3, 500, 500, self._bank.imbalance, 100, 100)], 9)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Done]]:
        async def act(*args: Any, **named: Any) -> Done:
            self._bank.note(name, *args, *named.items())
            return Done(9, approval=self._bank.approval)

        return act


class FakeSwitching:
    """What a gateway's operators do, noted and answered."""

    def __init__(self, bank: FakeBank) -> None:
        self._bank = bank

    async def banks(self) -> list[BankView]:
        active = BankView("a", "active", True, "node-1", 3, ["127.0.0.1:7611"], TIME_US)
        return [active, BankView("b", "suspended", False)]

    async def add_bank(self, bank: str, cap: Money, *, authority: bytes) -> Done:
        self._bank.note("add_bank", bank, str(cap), authority)
        return Done(9, approval=self._bank.approval)

    async def suspend_bank(self, bank: str, *, resume: bool = False) -> Done:
        self._bank.note("suspend_bank", bank, resume)
        return Done(9)

    async def resolve_payment(self, payment: bytes, act: str) -> Done:
        self._bank.note("resolve_payment", payment, act)
        return Done(9, approval=self._bank.approval)

    async def positions(self) -> PositionsAnswer:
        self._bank.note("positions")
        views = [PositionView(bank, "EUR", NUMBER, minor, 0, 1_000_000) for bank, minor in (("a", -500), ("b", 500))]
        return PositionsAnswer(views, 9)

    async def windows(self, *, limit: int) -> list[WindowView]:
        self._bank.note("windows", limit)
        return [WindowView(0, 8, 20), WindowView(1, 0, 8, TIME_US)]

    async def window(self, number: int) -> WindowView:
        second = WindowRow("b", "EUR", 2, 0, 500, 500, bytes(32))
        if number:
            second = WindowRow("b", "EUR", 2, 0, 500, 500, bytes(32), "no", "0102")
        first = WindowRow("a", "EUR", 2, 500, 0, -500, bytes(32), "yes")
        return WindowView(number, 8, 20, TIME_US if number else 0, [first, second])

    async def close_window(self) -> Done:
        self._bank.note("close_window")
        return Done(9)


class FakeBank:
    """The session and the bank behind it.

    Attributes:
        calls: what was asked for, in order.
        refusals: what calls of a name end with.
        approval: of acts that wait for a second administrator.
        imbalance: of the trial balance.
        token: of the session.
        path_ca: with which it was reached last.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.refusals: dict[str, FortressError] = {}
        self.approval = b""
        self.imbalance = 0
        self.token = "token-1"
        self.path_ca: Path | bytes | None = None
        self.expires_us = FAR_US
        self.renewed = 0
        self.is_over = False
        self.replayed = False
        self.signature = b""
        self.username = "alice"
        self.administration = FakeAdministration(self)
        self.switching = FakeSwitching(self)

    def note(self, *call: Any) -> None:
        self.calls.append(call)
        if call[0] in self.refusals:
            raise self.refusals[call[0]]

    def refuse(self, name: str, error: FortressError) -> None:
        self.refusals[name] = error

    # as a client
    async def resume(self, token: str) -> FakeBank:
        self.note("resume", token)
        return self

    async def login(self, username: str, password: str, *, key_file: str | Path = "") -> FakeBank:
        self.note("login", username, password, str(key_file))
        return self

    async def register(self, code: str, username: str, password: str, name: str) -> FakeBank:
        self.note("register", code, username, password, name)
        return self

    async def status(self) -> StatusAnswer:
        return StatusAnswer("a", "node-1", "primary", 1, 2, 3, 1, 4, 5, 6.0, "0.1.0")

    # as a session
    @property
    def signed_in(self) -> SignedIn:
        if self.is_over:
            raise NotSignedIn
        return SignedIn(1, "alice", ["customer"], ID, self.token, self.expires_us)

    async def renew(self) -> None:
        self.renewed += 1
        self.token = f"renewed-{self.renewed}"

    async def logout(self) -> None:
        self.note("logout")
        self.is_over = True

    async def whoami(self) -> UserAnswer:
        return user_answer()

    async def change_password(self, old: str, new: str) -> None:
        self.note("change_password", old, new)

    async def get_profile(self, username: str = "") -> Profile:
        return Profile(name=username or "Alice", email="alice@example.org")

    async def set_profile(self, profile: Profile) -> None:
        self.note("set_profile", profile)

    async def resolve(self, payee: str, currency: str = "") -> ResolveAnswer:
        self.note("resolve", payee, currency)
        return ResolveAnswer(OTHER, "Bob", currency)

    async def account(self, number: int = 0, *, as_of: datetime | None = None) -> AccountView:
        return account_view(number or NUMBER)

    async def accounts(self) -> list[AccountView]:
        return [account_view(), account_view(OTHER, currency="JPY", limit_day_minor=None, state="debit_frozen")]

    async def open_account(self, currency: str, *, username: str, kind: str = "customer") -> AccountView:
        self.note("open_account", currency, username, kind)
        return account_view(currency=currency)

    async def close_account(self, number: int) -> Done:
        self.note("close_account", number)
        return Done(9)

    def _payment(self, id: bytes, currency: str = "EUR") -> Payment:
        return Payment(id, "done", 8, datetime(2026, 3, 31, tzinfo=UTC), Money(8750, currency), self.replayed)

    bank = "a"

    async def pay(
        self,
        payee: str,
        amount: Money,
        *,
        reference: str,
        id: bytes,
        from_: int | None,
        not_after: datetime | None = None,
    ) -> Payment:
        self.note("pay", payee, str(amount), reference, from_, *([not_after] if not_after else []))
        return self._payment(id)

    def payment_order(self, payee: str, money: Money, *, from_: int, id: bytes, reference: str) -> PaymentOrder:
        return order_of(id=id, payee=payee, debit=from_, amount_minor=money.minor, reference=reference)

    async def pay_order(self, order: PaymentOrder, *, order_signature: bytes = b"") -> Payment:
        self.note("pay_order", order, order_signature)
        return self._payment(order.id)

    def sign(self, order: PaymentOrder) -> bytes:
        return self.signature

    async def receipt(self, id: bytes, *, position: int = 0) -> ReceiptAnswer:
        self.note("receipt", id, position)
        return RECEIPT

    async def payment(self, id: bytes, *, everywhere: bool = True) -> PaymentView:
        self.note("payment", id, everywhere)
        return payment_view(id=id)

    async def payments(self, *, in_doubt: bool, limit: int) -> list[PaymentView]:
        self.note("payments", in_doubt, limit)
        return [payment_view(state="pending" if in_doubt else "done")]

    async def deposit(self, account: int, amount: Money, *, reference: str, id: bytes = ID) -> Payment:
        self.note("deposit", account, str(amount), reference)
        return self._payment(id)

    async def withdraw(self, account: int, amount: Money, *, reference: str, id: bytes = ID) -> Payment:
        self.note("withdraw", account, str(amount), reference)
        return self._payment(id)

    async def hold(
        self, debit: int, credit: int, amount: Money, *, expires: datetime, reference: str, id: bytes
    ) -> Payment:
        self.note("hold", debit, credit, str(amount), expires, reference)
        return self._payment(id)

    async def hold_by_id(self, id: bytes) -> HoldView:
        return HoldView(id, NUMBER, OTHER, 5000, 0, "EUR", "open", FAR_US, "room")

    async def holds(self, account: int) -> list[HoldView]:
        self.note("holds", account)
        return [await self.hold_by_id(ID)]

    async def post(self, id: bytes, amount: Money | None) -> Payment:
        self.note("post", id, amount and str(amount))
        return self._payment(id)

    async def void(self, id: bytes) -> Payment:
        self.note("void", id)
        return self._payment(id)

    async def history(self, number: int, *, only: Any, page_size: int) -> AsyncIterator[HistoryRow]:
        self.note("history", number, only, page_size)
        for position in (5, 4, 3):
            yield history_row(position)

    async def statement(
        self, since: datetime, until: datetime, number: int, *, cursor: int = 0, limit: int
    ) -> StatementAnswer:
        self.note("statement", since, until, number, cursor)
        return StatementAnswer(0, 10000, 0, 10000, [history_row()], 0 if cursor else 6, 9, "EUR", HEAD)


@pytest.fixture(scope="session")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ca")
    make_authority(folder, "a")
    return folder / "ca.crt"


@pytest.fixture
def contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Contexts:
    """The contexts of this test alone; none yet."""
    home = tmp_path / "home"
    monkeypatch.setenv("FORTRESS_CONTEXT_HOME", str(home))
    return Contexts(home, home / "state")


@pytest.fixture
def bank(contexts: Contexts, ca_file: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBank:
    """A bank in memory, at which alice is signed in."""
    context = contexts.make("", address="127.0.0.1:7611/a", username="alice", ca_pem=ca_file.read_text("ascii"))
    contexts.keep_token(context, Token(username="alice", token="token-1", expires_us=FAR_US))
    fake = FakeBank()

    def reach(
        call: Call,
        url: str,
        ca: Path | bytes,
        work: Callable[[Any], Awaitable[Any]],
        *,
        path_ca: Path | bytes | None = None,
    ) -> Any:
        assert url == "fortress://127.0.0.1:7611/a"
        fake.path_ca = path_ca

        async def visit() -> Any:
            return await work(fake)

        return asyncio.run(visit())

    for module in (desk, sessions):
        monkeypatch.setattr(module, "reach", reach)
    return fake


Told = tuple[int, Any, str]


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Run a command line; give exit code, output (decoded if it is JSON) and talk."""

    def call(*arguments: str) -> Told:
        capsys.readouterr()
        code = run(arguments)
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in arguments and out else out, err

    return call


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """A file with a good password."""
    file = tmp_path / "secret"
    file.write_text("seven quiet rivers\n")
    file.chmod(0o600)
    return file
