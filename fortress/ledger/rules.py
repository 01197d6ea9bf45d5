"""Judge commands that move money: a straight list of checks in documented order, idempotency first.

``judge(books, command, now_us)`` looks, decides and returns a :class:`Verdict`; it changes nothing. Time, order and
ids come from outside, so the same books and command give the same verdict on every machine. The order of
``PRECEDENCE`` is the order of the checks: when several reasons hold, the first is told. A refusal is an entry of
the journal and repeats for the same id; only a reused id and an id too far ahead leave no trace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import date
from typing import Any, Protocol

import msgspec

from fortress.errors import Status
from fortress.ledger.commands import BatchRow, MoveMoney
from fortress.ledger.entries import AnyEntry, FactPairs, Posted, Refused
from fortress.ledger.model import (
    DAY_US,
    INTEGER_MAX,
    Account,
    AccountKind,
    AccountState,
    Actor,
    Approval,
    Customer,
    Hold,
    Invitation,
    MemberBank,
    TransferKind,
    WindowEnd,
    day_of,
    month_of,
)

VALUE_DATE_DAYS_MAX = 366
EPOCH_DAY = date(1970, 1, 1).toordinal()

PRECEDENCE = (
    Status.id_reused,
    Status.id_too_far_ahead,
    Status.currency_unknown,
    Status.accounts_must_differ,
    Status.debit_account_unknown,
    Status.credit_account_unknown,
    Status.account_kind_not_allowed,
    Status.debit_account_closed,
    Status.credit_account_closed,
    Status.debit_account_frozen,
    Status.credit_account_frozen,
    Status.currency_mismatch,
    Status.value_date_invalid,
    Status.expiry_in_the_past,
    Status.order_signature_required,
    Status.exceeds_limit_per_payment,
    Status.exceeds_limit_per_day,
    Status.exceeds_limit_per_month,
    Status.exceeds_available,
    Status.balance_too_large,
)

_OPEN = int(AccountState.open)
_DEBIT_FROZEN = int(AccountState.debit_frozen)
_FROZEN = int(AccountState.frozen)
_CLOSED = int(AccountState.closed)
_CUSTOMER = int(AccountKind.customer)
_CASH = int(AccountKind.cash)
_DEPOSIT = int(TransferKind.deposit)
_WITHDRAWAL = int(TransferKind.withdrawal)
_TRANSFER = int(TransferKind.transfer)
_OK = Status.ok
_digest_encoder = msgspec.msgpack.Encoder()


class Books(Protocol):
    """What the rules may see: memory that already holds everything the command names."""

    currencies: dict[str, int]  # currency -> the bank's cash account
    settlements: dict[str, int]  # currency -> the bank's settlement account
    banks: dict[str, MemberBank]
    positions: dict[tuple[int, str], int]
    windows: WindowEnd
    id_ahead: bytes  # time-ordered ids from here on lie too far ahead
    administrators: set[int]
    next_customer: int
    next_account: int

    def account(self, number: int, /) -> Account | None: ...
    def known(self, id: bytes, /) -> tuple[int, AnyEntry] | None: ...
    def hold(self, id: bytes, /) -> Hold | None: ...
    def customer(self, customer: int, /) -> Customer | None: ...
    def has_handle(self, handle: bytes, /) -> bool: ...
    def approval(self, id: bytes, /) -> Approval | None: ...
    def invitation(self, digest: bytes, /) -> Invitation | None: ...
    def reversed_minor(self, original: bytes, /) -> int: ...


class Verdict(msgspec.Struct, eq=False, gc=False):
    """The answer to a command: its status, the entry to write (or the one written before), and facts.

    ``entry`` is None only where nothing is written. ``position`` is filled in when the entry is applied (or is that of
    the first answer when ``replayed``).
    """

    status: Status
    entry: Any = None
    facts: FactPairs = ()
    replayed: bool = False
    position: int = 0

    @property
    def time_us(self) -> int:
        """When the entry was written; 0 without one."""
        time_us: int = self.entry.time_us if self.entry is not None else 0
        return time_us


def content_digest(*content: object) -> bytes:
    """Hash what a command asks for, to tell a repeat from another use of its id (16 bytes)."""
    return hashlib.sha256(_digest_encoder.encode(content)).digest()[:16]


def is_too_far_ahead(id: bytes, id_ahead: bytes) -> bool:
    """Tell whether a UUIDv7 carries a time past the bound; other ids carry no time."""
    return id >= id_ahead and id[6] & 0xF0 == 0x70


def refuse(
    command: Any, status: Status, digest: bytes, now_us: int, *, operation: str, account: int = 0, facts: FactPairs = ()
) -> Verdict:
    """Make the verdict of a refusal that is remembered under the command's id."""
    entry = Refused(now_us, command.id, int(status), digest, operation, account, facts, command.actor.customer)
    return Verdict(status, entry, facts)


def replay_refusal(known: tuple[int, AnyEntry], digest: bytes, actor: Actor) -> Verdict | None:
    """Repeat a remembered refusal when id, content and actor are the same; None when the entry is no refusal."""
    position, entry = known
    if type(entry) is not Refused:
        return None
    if entry.digest != digest or entry.actor != actor.customer:
        return Verdict(Status.id_reused)
    return Verdict(Status(entry.status), entry, entry.facts, replayed=True, position=position)


def replay_act(books: Books, command: Any, same: Callable[[Any], bool], digest: bytes) -> Verdict | None:
    """Answer a command whose id was used before; None when the id is new and may be used.

    Args:
        same: tells whether an entry is what the command asks for.
    """
    known = books.known(command.id)
    if known is None:
        return Verdict(Status.id_too_far_ahead) if is_too_far_ahead(command.id, books.id_ahead) else None
    position = known[0]
    entry: Any = known[1]
    if same(entry) and entry.actor == command.actor.customer:
        return Verdict(_OK, entry, replayed=True, position=position)
    return replay_refusal(known, digest, command.actor) or Verdict(Status.id_reused)


# --- Moving money --------------------------------------------------------------------------------------------------
def judge_move(books: Books, command: MoveMoney, now_us: int) -> Verdict:
    """Judge a transfer, deposit or withdrawal."""
    known = books.known(command.id)
    if known is not None:
        return _replay_move(known, command)
    if command.id >= books.id_ahead and command.id[6] & 0xF0 == 0x70:
        return Verdict(Status.id_too_far_ahead)
    debit = books.account(command.debit)
    credit = books.account(command.credit)
    status = check_parties(books, command.actor, command, debit, credit, command.kind)
    facts: FactPairs = ()
    if status is _OK:
        assert debit is not None and credit is not None
        if command.value_date and not _is_value_date(command.value_date, now_us):
            status = Status.value_date_invalid
        elif debit.signed_orders_only and not command.order_signature and _is_order(command, debit):
            status = Status.order_signature_required
        else:
            status, facts = check_money(debit, credit, command.amount, now_us)
    if status is not _OK:
        return refuse(
            command, status, move_digest(command), now_us, operation="transfer", account=command.debit, facts=facts
        )
    assert debit is not None and credit is not None
    amount = command.amount
    return Verdict(
        _OK,
        Posted(
            now_us,
            command.id,
            command.debit,
            command.credit,
            amount,
            command.currency,
            command.kind,
            command.reference,
            debit.credits_posted - debit.debits_posted - amount,
            credit.credits_posted - credit.debits_posted + amount,
            command.actor.customer,
            0,
            command.value_date,
            b"",
            0,
            command.order_signature,
        ),
    )


def _is_order(command: MoveMoney, debit: Account) -> bool:
    """Tell whether this is a payer's order; cash paid out at the counter is the bank's own act."""
    return command.kind == _TRANSFER or command.actor.customer == debit.owner


def move_digest(command: MoveMoney) -> bytes:
    """Hash the content of a transfer."""
    c = command
    return content_digest(c.kind, c.debit, c.credit, c.amount, c.currency, c.reference, c.value_date)


def _replay_move(known: tuple[int, AnyEntry], command: MoveMoney) -> Verdict:
    position, entry = known
    if type(entry) is Posted:
        same = (
            entry.debit == command.debit
            and entry.credit == command.credit
            and entry.amount == command.amount
            and entry.currency == command.currency
            and entry.kind == command.kind
            and entry.reference == command.reference
            and entry.value_date == command.value_date
            and entry.actor == command.actor.customer
        )
        return Verdict(_OK, entry, replayed=True, position=position) if same else Verdict(Status.id_reused)
    return replay_refusal(known, move_digest(command), command.actor) or Verdict(Status.id_reused)


def check_parties(
    books: Books, actor: Actor, order: Any, debit: Account | None, credit: Account | None, kind: int
) -> Status:
    """Check currency, both accounts, whose they are, and their states, in the order of ``PRECEDENCE``."""
    if order.currency not in books.currencies:
        return Status.currency_unknown
    if order.debit == order.credit:
        return Status.accounts_must_differ
    if debit is None or (debit.owner != actor.customer and not actor.is_cashier):
        return Status.debit_account_unknown
    if credit is None:
        return Status.credit_account_unknown
    if not _are_kinds_allowed(kind, debit.kind, credit.kind):
        return Status.account_kind_not_allowed
    if debit.state != _OPEN or credit.state != _OPEN:
        status = check_states(debit.state, credit.state)
        if status is not _OK:
            return status
    if debit.currency != order.currency or credit.currency != order.currency:
        return Status.currency_mismatch
    return _OK


def _are_kinds_allowed(kind: int, debit: int, credit: int) -> bool:
    if kind == _TRANSFER:
        return debit == _CUSTOMER and credit == _CUSTOMER
    if kind == _DEPOSIT:
        return debit == _CASH and credit == _CUSTOMER
    return kind == _WITHDRAWAL and debit == _CUSTOMER and credit == _CASH


def check_states(debit: int, credit: int) -> Status:
    """Check that one account may be debited and the other credited."""
    if debit == _CLOSED:
        return Status.debit_account_closed
    if credit == _CLOSED:
        return Status.credit_account_closed
    if debit in (_FROZEN, _DEBIT_FROZEN):
        return Status.debit_account_frozen
    if credit == _FROZEN:
        return Status.credit_account_frozen
    return _OK


def _is_value_date(text: str, now_us: int) -> bool:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return False
    # fromisoformat also reads weeks and days without hyphens; one day has one spelling in the journal
    return day.isoformat() == text and abs(day.toordinal() - EPOCH_DAY - day_of(now_us)) <= VALUE_DATE_DAYS_MAX


def check_money(
    debit: Account, credit: Account, amount: int, now_us: int, *, held: bool = False, limited: bool = True
) -> tuple[Status, FactPairs]:
    """Check limits, what is available, and that no counter grows past the largest number."""
    if limited and debit.has_limits and debit.kind == _CUSTOMER:
        status, facts = _check_limits(debit, amount, now_us)
        if status is not _OK:
            return status, facts
    floor = debit.floor
    if floor is not None:
        lowest = 0 if held and floor < 0 else floor
        available = debit.credits_posted - debit.debits_posted - debit.debits_pending
        if available - amount < lowest:
            return Status.exceeds_available, (("available_minor", available - lowest), ("needed_minor", amount))
    if (
        debit.debits_posted + debit.debits_pending + amount > INTEGER_MAX
        or credit.credits_posted + credit.credits_pending + amount > INTEGER_MAX
    ):
        return Status.balance_too_large, (("largest_minor", INTEGER_MAX),)
    return _OK, ()


def spent(account: Account, now_us: int) -> tuple[int, int]:
    """Tell what the account has spent today and this month (UTC), in minor units."""
    day = day_of(now_us)
    month = month_of(day)
    return (account.day_spent if account.day == day else 0, account.month_spent if account.month == month else 0)


def _check_limits(account: Account, amount: int, now_us: int) -> tuple[Status, FactPairs]:
    limit = account.limit_payment
    if limit is not None and amount > limit:
        return Status.exceeds_limit_per_payment, (("limit_minor", limit),)
    day_spent, month_spent = spent(account, now_us)
    limit = account.limit_day
    if limit is not None and day_spent + amount > limit:
        resets_us = (day_of(now_us) + 1) * DAY_US
        left = max(0, limit - day_spent)
        return Status.exceeds_limit_per_day, (("left_minor", left), ("limit_minor", limit), ("resets_us", resets_us))
    limit = account.limit_month
    if limit is not None and month_spent + amount > limit:
        resets_us = _next_month_us(now_us)
        left = max(0, limit - month_spent)
        return Status.exceeds_limit_per_month, (("left_minor", left), ("limit_minor", limit), ("resets_us", resets_us))
    return _OK, ()


def _next_month_us(now_us: int) -> int:
    month = month_of(day_of(now_us)) + 1
    return (date(month // 12, month % 12 + 1, 1).toordinal() - EPOCH_DAY) * DAY_US


def row_command(actor: Actor, currency: str, row: BatchRow) -> MoveMoney:
    """Make the command of one row of a batch."""
    return MoveMoney(actor, _TRANSFER, row.id, row.debit, row.credit, row.amount_minor, currency, row.reference)


def judge_failed_row(command: MoveMoney, now_us: int) -> Verdict:
    """Refuse a row of an atomic batch because another row was refused."""
    return refuse(
        command, Status.batch_failed, move_digest(command), now_us, operation="transfer", account=command.debit
    )


Judge = Callable[[Any, Any, int], Verdict]
