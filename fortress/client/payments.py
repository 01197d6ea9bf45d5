"""Moving money: payments, transfers one by one and in batches, holds, cash in and out, reversals.

Whatever moves money has an id, made here unless the caller brings one. Repeating a call with the same id and content
is safe at any time: it is done once, and the first answer comes again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fortress.client.calls import Calls
from fortress.client.ids import new_id
from fortress.client.money import Money, as_money
from fortress.errors import Status, UsageError
from fortress.protocol.accounts import AccountView, GetAccount, ListAccounts, Resolve, ResolveAnswer
from fortress.protocol.money import (
    Deposit,
    GetHold,
    Hold,
    HoldsAnswer,
    HoldView,
    ListHolds,
    Post,
    Reverse,
    Transfer,
    TransferAnswer,
    TransferRow,
    Transfers,
    TransfersAnswer,
    Void,
    Withdraw,
)

HOLD_VALID = timedelta(days=7)


def moment(time_us: int) -> datetime:
    """Turn the bank's microseconds into a time of day, UTC."""
    return datetime.fromtimestamp(time_us // 1_000_000, UTC) + timedelta(microseconds=time_us % 1_000_000)


@dataclass(frozen=True, slots=True)
class Payment:
    """Money that has moved, or was reserved or freed.

    Attributes:
        id: with which it can be repeated, looked up and proven.
        status: ``done``; a refusal is an error and no payment.
        position: where it stands in the bank's journal.
        time: when it was committed, UTC.
        balance_after: of the account it was taken from (a deposit: paid to).
        replayed: whether it had been done before, and this is the first answer again.
    """

    id: bytes
    status: str
    position: int
    time: datetime
    balance_after: Money
    replayed: bool


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of a batch.

    Attributes:
        statuses: of each row, in order; a status that this client does not know yet stays a number.
        position: where the first of them stands in the journal; 0 if none was done.
        time: when they were committed, UTC.
    """

    statuses: tuple[Status | int, ...]
    position: int
    time: datetime

    @property
    def done(self) -> int:
        """How many rows were done."""
        return sum(status == Status.ok for status in self.statuses)


class Payments:
    """The part of a session that moves money; use it through `Me`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._default: AccountView | None = None

    # --- payments -----------------------------------------------------------------------------------------------

    async def resolve(self, payee: str, currency: str = "") -> ResolveAnswer:
        """Ask for a payee's account and name, to be shown before money is sent.

        Args:
            payee: account number, username, or ``bank/`` and one of them.
            currency: which of the payee's accounts is meant.

        Raises:
            Refused: nobody is called so, or has no account in the currency.
        """
        answer: ResolveAnswer = await self._calls.call("resolve", Resolve(self._of_this_bank(payee), currency))
        return answer

    async def pay(
        self,
        payee: str,
        amount: Money | str,
        *,
        reference: str = "",
        id: bytes | None = None,
        from_account: int | None = None,
    ) -> Payment:
        """Pay somebody: resolve the payee and transfer from one's default account, or the one in that currency.

        Args:
            payee: account number, username, or ``bank/`` and one of them.
            amount: such as ``12.50 EUR``.
            reference: for both sides to read, at most 140 characters.
            id: to repeat a payment whose outcome was unknown; a new one if not given.
            from_account: number of the account to take from.

        Raises:
            AmountInvalid: the amount is none.
            Refused: the bank refused; ``status`` and ``facts`` say why.
            OutcomeUnknown: no answer in time; the facts hold the id to repeat the payment with.
        """
        id = id or new_id()
        money = as_money(amount)
        name = self._of_this_bank(payee)
        credit = int(name) if _is_number(name) else (await self.resolve(name, money.currency)).number
        debit = from_account or await self._source(money.currency)
        return await self.transfer(debit, credit, money, reference=reference, id=id)

    async def transfer(
        self,
        debit: int,
        credit: int,
        amount: Money | str,
        *,
        reference: str = "",
        id: bytes | None = None,
        value_date: str = "",
        order_signature: bytes = b"",
    ) -> Payment:
        """Move money between two accounts of the bank.

        Args:
            debit: number of the account to take from.
            credit: number of the account to pay to.
            value_date: ``YYYY-MM-DD``; the day it is done if empty.
            order_signature: for accounts that take only signed orders.

        Raises:
            Refused: and others, as :meth:`pay`.
        """
        money, id = as_money(amount), id or new_id()
        order = Transfer(id, debit, credit, money.minor, money.currency, reference, value_date, order_signature)
        return self._payment(id, money.currency, await self._calls.call("transfer", order))

    async def transfers(
        self, rows: Sequence[TransferRow], currency: str, *, atomic: bool = False, deadline_s: float | None = None
    ) -> BatchResult:
        """Do up to 8,190 transfers at once: each on its own, or all or none.

        Args:
            rows: with an id each, from :func:`fortress.client.ids.new_id`.
            currency: of all of them.
            atomic: whether one refusal refuses all.
            deadline_s: instead of the client's own.
        """
        request = Transfers(currency, list(rows), atomic)
        answer: TransfersAnswer = await self._calls.call("transfers", request, deadline_s=deadline_s)
        statuses = tuple(Status(s) if s in Status._value2member_map_ else s for s in answer.statuses)
        return BatchResult(statuses, answer.position, moment(answer.time_us))

    # --- holds --------------------------------------------------------------------------------------------------

    async def hold(
        self,
        debit: int,
        credit: int,
        amount: Money | str,
        *,
        valid: timedelta = HOLD_VALID,
        expires: datetime | None = None,
        reference: str = "",
        id: bytes | None = None,
    ) -> Payment:
        """Reserve money until it is posted, voided or expires.

        Args:
            valid: for how long.
            expires: until when, instead; needed to repeat a hold with the same id and the same content.
        """
        money, id = as_money(amount), id or new_id()
        expires_us = _us(expires) if expires else time.time_ns() // 1000 + valid // timedelta(microseconds=1)
        order = Hold(id, debit, credit, money.minor, money.currency, expires_us, reference)
        return self._payment(id, money.currency, await self._calls.call("hold", order))

    async def post(self, id: bytes, amount: Money | None = None) -> Payment:
        """Take what a hold reserved, or a part of it; the rest is freed."""
        currency = (await self.hold_by_id(id)).currency
        answer = await self._calls.call("post", Post(id, as_money(amount).minor if amount else 0))
        return self._payment(id, currency, answer)

    async def void(self, id: bytes) -> Payment:
        """Free what a hold reserved."""
        currency = (await self.hold_by_id(id)).currency
        return self._payment(id, currency, await self._calls.call("void", Void(id)))

    async def hold_by_id(self, id: bytes) -> HoldView:
        """Read one hold."""
        view: HoldView = await self._calls.call("get_hold", GetHold(id))
        return view

    async def holds(self, account: int = 0) -> list[HoldView]:
        """List the open holds on an account; 0 is the default account."""
        answer: HoldsAnswer = await self._calls.read("list_holds", ListHolds(account or await self._default_number()))
        return answer.holds

    # --- the counter --------------------------------------------------------------------------------------------

    async def deposit(
        self, account: int, amount: Money | str, *, reference: str = "", id: bytes | None = None
    ) -> Payment:
        """Pay cash in (teller, administrator)."""
        money, id = as_money(amount), id or new_id()
        order = Deposit(id, account, money.minor, money.currency, reference)
        return self._payment(id, money.currency, await self._calls.call("deposit", order))

    async def withdraw(
        self, account: int, amount: Money | str, *, reference: str = "", id: bytes | None = None
    ) -> Payment:
        """Pay cash out (teller, administrator)."""
        money, id = as_money(amount), id or new_id()
        order = Withdraw(id, account, money.minor, money.currency, reference)
        return self._payment(id, money.currency, await self._calls.call("withdraw", order))

    async def reverse(
        self,
        original: bytes,
        currency: str,
        amount: Money | None = None,
        *,
        reference: str = "",
        id: bytes | None = None,
    ) -> Payment:
        """Undo a transfer, whole or in part (teller, administrator).

        Args:
            original: id of the transfer.
            currency: of the transfer.
            amount: the part to undo; everything that is left if not given.
        """
        id = id or new_id()
        order = Reverse(id, original, as_money(amount).minor if amount else 0, reference)
        return self._payment(id, currency, await self._calls.call("reverse", order))

    # --- inside -------------------------------------------------------------------------------------------------

    def _payment(self, id: bytes, currency: str, answer: TransferAnswer) -> Payment:
        after = Money(answer.balance_minor, currency)
        return Payment(id, "done", answer.position, moment(answer.time_us), after, answer.replayed)

    def _of_this_bank(self, payee: str) -> str:
        bank, slash, name = payee.rpartition("/")
        if slash and bank != self._calls.bank:
            raise UsageError(f"this bank is {self._calls.bank!r}; it has no way to pay at {bank!r}", {"bank": bank})
        if not name:
            raise UsageError("a payee is an account number or a username")
        return name

    async def _default_account(self) -> AccountView:
        if self._default is None:
            self._default = await self._calls.call("get_account", GetAccount())
        return self._default

    async def _default_number(self) -> int:
        return (await self._default_account()).number

    async def _source(self, currency: str) -> int:
        """Find the account to pay from: the default one, or else the first open one in that currency."""
        default = await self._default_account()
        if default.currency == currency:
            return default.number
        accounts = (await self._calls.call("list_accounts", ListAccounts())).accounts
        fitting = (view.number for view in accounts if view.currency == currency and view.state == "open")
        return next(fitting, default.number)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _us(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
