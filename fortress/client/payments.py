"""Moving money: payments to any bank, transfers one by one and in batches, holds, cash in and out, reversals.

Whatever moves money has an id, made here unless the caller brings one. Repeating a call with the same id and content
is safe at any time: it is done once, and the first answer comes again.

Payments and transfers are signed with the customer's own key when this process has seen the login: by password, seed
or key file. A session that was resumed by its token alone signs nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from fortress.client.address import BANK_PATTERN
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
from fortress.protocol.payments import (
    GetPayment,
    ListPayments,
    Pay,
    PaymentAnswer,
    PaymentsAnswer,
    PaymentView,
)
from fortress.protocol.switching import BanksAnswer, BankView, ListBanks

if TYPE_CHECKING:
    from fortress.protocol.orders import Order, PaymentOrder

HOLD_VALID = timedelta(days=7)
PAGE_ROWS = 100
_NUMBER = re.compile(r"[1-9][0-9]{2,18}")


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
        gateway_sequence: the gateway's number of a payment between banks; 0 for what stayed within one.
    """

    id: bytes
    status: str
    position: int
    time: datetime
    balance_after: Money
    replayed: bool
    gateway_sequence: int = 0


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
        bank, name = self._split(payee)
        asked = name if bank == self._calls.bank else f"{bank}/{name}"
        answer: ResolveAnswer = await self._calls.call("resolve", Resolve(asked, currency))
        return answer

    async def pay(
        self,
        to: str,
        amount: Money | str,
        *,
        reference: str = "",
        from_: int | None = None,
        id: bytes | None = None,
        not_after: datetime | None = None,
    ) -> Payment:
        """Pay somebody at this or another bank; usernames are resolved first, and only numbers are sent as payees.

        Args:
            to: account number, username, or ``bank/`` and one of them.
            amount: such as ``12.50 EUR``.
            reference: for both sides to read, at most 140 characters.
            from_: number of the account to take from; the default one, or the first in that currency, if not given.
            id: to repeat a payment whose outcome was unknown; a new one if not given.
            not_after: a bank that gets the order later refuses it.

        Raises:
            AmountInvalid: the amount is none.
            Refused: the bank refused; ``status`` and ``facts`` say why.
            GatewayUnreachable, BankUnreachable, PaymentUnfinished: nothing was paid; the same id may be tried again.
            OutcomeUnknown: it is not known yet; the facts hold the id to repeat the payment with.
        """
        id, money = id or new_id(), as_money(amount)
        bank, number = await self._payee(to, money.currency)
        debit = from_ or await self._source(money.currency)
        if bank == self._calls.bank and not_after is None:
            return await self.transfer(debit, int(number), money, reference=reference, id=id)
        until_us = _us(not_after) if not_after else 0
        return await self.pay_order(
            self.payment_order(
                f"{bank}/{number}", money, from_=debit, reference=reference, id=id, not_after_us=until_us
            )
        )

    def payment_order(
        self, payee: str, money: Money, *, from_: int, id: bytes, reference: str = "", not_after_us: int = 0
    ) -> PaymentOrder:
        """Write a payment down as :meth:`pay_order` and the outbox take it; ``payee`` is ``bank/number``."""
        from fortress.protocol.orders import PaymentOrder

        return PaymentOrder(
            bank=self._calls.bank,
            id=id,
            debit=from_,
            payee=payee,
            amount_minor=money.minor,
            currency=money.currency,
            reference=reference,
            not_after_us=not_after_us,
        )

    async def pay_order(
        self, order: PaymentOrder, *, order_signature: bytes = b"", deadline_s: float | None = None
    ) -> Payment:
        """Carry out a payment that was written down as a whole, with its signature if it has one already.

        Args:
            order: of this bank; signed here if this session can.
            order_signature: made earlier or elsewhere.
            deadline_s: instead of the client's own.

        Raises:
            Refused: and others, as :meth:`pay`.
        """
        if order.bank != self._calls.bank:
            raise UsageError(f"the order is for the bank {order.bank!r}, not for {self._calls.bank!r}")
        request = Pay(
            id=order.id,
            payee=order.payee,
            amount_minor=order.amount_minor,
            currency=order.currency,
            debit=order.debit,
            reference=order.reference,
            not_after_us=order.not_after_us,
            order_signature=order_signature or self.sign(order),
        )
        answer: PaymentAnswer = await self._calls.call("pay", request, deadline_s=deadline_s)
        return self._payment(order.id, order.currency, answer, answer.gateway_sequence)

    def sign(self, order: Order | PaymentOrder) -> bytes:
        """Sign an order with the customer's own key; nothing comes back from a session that was only resumed."""
        if not self._calls.signing_seed:
            return b""
        from fortress.protocol.orders import sign_order  # needs cryptography, which a resumed session does without

        return sign_order(order, self._calls.signing_seed)

    async def payment(self, id: bytes, *, everywhere: bool = True) -> PaymentView:
        """Read where a payment between banks stands.

        Args:
            everywhere: with the steps of the gateway and the other bank, as far as they can be asked.

        Raises:
            Refused: ``payment_unknown``.
        """
        view: PaymentView = await self._calls.call("payment", GetPayment(id, everywhere))
        return view

    async def payments(self, *, in_doubt: bool = False, limit: int = PAGE_ROWS) -> list[PaymentView]:
        """List one's own payments between banks, newest first.

        Args:
            in_doubt: those of everybody that are not decided everywhere, instead (staff).
            limit: rows at most.
        """
        found: list[PaymentView] = []
        cursor = 0
        while len(found) < limit:
            request = ListPayments(in_doubt, cursor, min(limit - len(found), PAGE_ROWS))
            page: PaymentsAnswer = await self._calls.call("payments", request)
            found += page.payments
            cursor = page.cursor
            if not cursor:
                break
        return found

    async def banks(self) -> list[BankView]:
        """List the banks that can be paid, as the gateway last told."""
        answer: BanksAnswer = await self._calls.call("banks", ListBanks())
        return answer.banks

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
            order_signature: made elsewhere; made here otherwise, if this session can.

        Raises:
            Refused: and others, as :meth:`pay`.
        """
        money, id = as_money(amount), id or new_id()
        signature = order_signature
        if not signature and self._calls.signing_seed:
            signature = self.sign(_order(self._calls.bank, id, debit, credit, money, reference, value_date))
        order = Transfer(id, debit, credit, money.minor, money.currency, reference, value_date, signature)
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

    def _payment(
        self, id: bytes, currency: str, answer: TransferAnswer | PaymentAnswer, gateway_sequence: int = 0
    ) -> Payment:
        after = Money(answer.balance_minor, currency)
        at = moment(answer.time_us)
        return Payment(id, "done", answer.position, at, after, answer.replayed, gateway_sequence)

    def _split(self, payee: str) -> tuple[str, str]:
        """Take a payee apart into bank and number or username."""
        bank, slash, name = payee.rpartition("/")
        if slash and not re.fullmatch(BANK_PATTERN, bank):
            raise UsageError(f"{bank[:64]!r} cannot be the name of a bank", {"payee": payee[:128]})
        if not name:
            raise UsageError("a payee is an account number or a username")
        return bank or self._calls.bank, name

    async def _payee(self, payee: str, currency: str) -> tuple[str, str]:
        """Give the payee's bank and account number, asking for it if a person was named."""
        bank, name = self._split(payee)
        if not (name.isascii() and name.isdigit()):
            return bank, str((await self.resolve(payee, currency)).number)
        if bank != self._calls.bank and not _NUMBER.fullmatch(name):
            raise UsageError(f"{name[:40]!r} cannot be an account number", {"payee": payee[:128]})
        return bank, name

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


def _order(bank: str, id: bytes, debit: int, credit: int, money: Money, reference: str, value_date: str) -> Order:
    from fortress.protocol.orders import Order

    return Order(
        bank=bank,
        id=id,
        debit=debit,
        credit=credit,
        amount_minor=money.minor,
        currency=money.currency,
        reference=reference,
        value_date=value_date,
    )


def _us(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
