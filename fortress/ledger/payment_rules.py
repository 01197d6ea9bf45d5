"""Judge one bank's or the gateway's leg of a payment between banks: placed, then committed or aborted, once.

The same law as :mod:`fortress.ledger.rules`: look, decide, change nothing. A leg is a hold without an end, under the id
that the payment has in all three ledgers. ``LEGS`` says between which kinds of accounts it goes and who may ask: a
debit of a customer's account needs its owner or a cashier, never the switch, so no other bank can invent one; all
other legs, and the ending of every leg, are the switch's alone.

What was promised is kept: freezing an account, or the day's limit, after the placing stops neither commit nor abort.
An abort of what was never placed is remembered as a refusal, and so comes before any placing that is still on its way.
An id whose time lies too far ahead leaves no trace, here as elsewhere: nothing is decided by that answer, and whoever
gets it asks again later.
"""

from __future__ import annotations

from fortress.errors import Status
from fortress.ledger.commands import AbortPayment, CommitPayment, PlacePayment
from fortress.ledger.entries import AnyEntry, FactPairs, HoldPlaced, HoldReleased, Posted, Refused
from fortress.ledger.model import NEVER_US, Account, AccountKind, Actor, HoldState, TransferKind
from fortress.ledger.rules import (
    Books,
    Verdict,
    check_money,
    check_states,
    content_digest,
    is_too_far_ahead,
    refuse,
    replay_refusal,
)

PRECEDENCE = (
    Status.id_reused,
    Status.id_too_far_ahead,
    Status.payment_given_up,
    Status.currency_unknown,
    Status.settlement_account_missing,
    Status.accounts_must_differ,
    Status.debit_account_unknown,
    Status.credit_account_unknown,
    Status.account_kind_not_allowed,
    Status.debit_account_closed,
    Status.credit_account_closed,
    Status.debit_account_frozen,
    Status.credit_account_frozen,
    Status.currency_mismatch,
    Status.order_expired,
    Status.order_signature_required,
    Status.exceeds_limit_per_payment,
    Status.exceeds_limit_per_day,
    Status.exceeds_limit_per_month,
    Status.exceeds_available,
    Status.exceeds_debit_cap,
    Status.balance_too_large,
)
OPERATION = "payment"
_OK = Status.ok
_CUSTOMER = int(AccountKind.customer)
_SETTLEMENT = int(AccountKind.settlement)
_POSITION = int(AccountKind.position)
_POSTED = int(HoldState.posted)
_VOIDED = int(HoldState.voided)

# kinds of the debited and the credited account -> what it is posted as
LEGS: dict[tuple[int, int], int] = {
    (_CUSTOMER, _SETTLEMENT): int(TransferKind.payment_out),
    (_SETTLEMENT, _CUSTOMER): int(TransferKind.payment_in),
    (_POSITION, _POSITION): int(TransferKind.clearing),
}


# --- Placing -------------------------------------------------------------------------------------------------------
def judge_place_payment(books: Books, command: PlacePayment, now_us: int) -> Verdict:
    """Judge the reserving of money for a payment.

    A replayed verdict tells what was answered first; what became of the hold since tells ``books.hold(id)``.
    """
    c = command
    digest = content_digest(OPERATION, c.debit, c.credit, c.amount, c.currency, c.counterparty, c.reference)
    known = books.known(c.id)
    if known is not None:
        return _replay_place(known, command, digest)
    if is_too_far_ahead(c.id, books.id_ahead):
        return Verdict(Status.id_too_far_ahead)
    debit, credit = books.account(c.debit), books.account(c.credit)
    status = _check_leg(books, c, debit, credit)
    facts: FactPairs = ()
    if status is _OK:
        assert debit is not None and credit is not None
        status, facts = _check_order(c, debit, credit, now_us)
    if status is not _OK:
        return refuse(c, status, digest, now_us, operation=OPERATION, account=c.debit, facts=facts)
    assert debit is not None and credit is not None
    entry = HoldPlaced(
        now_us,
        c.id,
        c.debit,
        c.credit,
        c.amount,
        c.currency,
        NEVER_US,
        c.reference,
        debit.debits_pending + c.amount,
        credit.credits_pending + c.amount,
        c.actor.customer,
        c.order_signature,
        c.counterparty,
    )
    return Verdict(_OK, entry)


def _replay_place(known: tuple[int, AnyEntry], command: PlacePayment, digest: bytes) -> Verdict:
    position, e = known
    if type(e) is HoldPlaced:
        c = command
        same = (
            e.debit == c.debit
            and e.credit == c.credit
            and e.amount == c.amount
            and e.currency == c.currency
            and e.counterparty == c.counterparty
            and e.reference == c.reference
            and e.expires_us == NEVER_US
            and e.actor == c.actor.customer
        )
        return Verdict(_OK, e, replayed=True, position=position) if same else Verdict(Status.id_reused)
    if type(e) is Refused and e.status == Status.payment_given_up:
        return Verdict(Status.payment_given_up, e, e.facts, replayed=True, position=position)
    return replay_refusal(known, digest, command.actor) or Verdict(Status.id_reused)


def _check_leg(books: Books, command: PlacePayment, debit: Account | None, credit: Account | None) -> Status:
    """Check currency, both accounts, whose they are, and their states, in the order of ``PRECEDENCE``."""
    c = command
    if c.currency not in books.currencies:
        return Status.currency_unknown
    if not c.debit or not c.credit:
        return Status.settlement_account_missing
    if c.debit == c.credit:
        return Status.accounts_must_differ
    if debit is None or not _may_debit(c.actor, debit):
        return Status.debit_account_unknown
    if credit is None:
        return Status.credit_account_unknown
    if (debit.kind, credit.kind) not in LEGS or c.actor.is_switch is (debit.kind == _CUSTOMER):
        return Status.account_kind_not_allowed
    status = check_states(debit.state, credit.state)
    if status is not _OK:
        return status
    return _OK if debit.currency == c.currency == credit.currency else Status.currency_mismatch


def _may_debit(actor: Actor, debit: Account) -> bool:
    return debit.owner == actor.customer or actor.is_cashier or (actor.is_switch and debit.kind != _CUSTOMER)


def _check_order(command: PlacePayment, debit: Account, credit: Account, now_us: int) -> tuple[Status, FactPairs]:
    """Check until when the order is valid, that it is signed where it must be, and the money.

    A bank's position may be drawn down to its floor, the net debit cap; a customer's hold never into an overdraft.
    """
    c = command
    if 0 < c.not_after_us < now_us:
        return Status.order_expired, (("not_after_us", c.not_after_us),)
    if debit.signed_orders_only and not c.order_signature:
        return Status.order_signature_required, ()
    is_position = debit.kind == _POSITION
    status, facts = check_money(debit, credit, c.amount, now_us, held=not is_position)
    return (Status.exceeds_debit_cap, facts) if is_position and status is Status.exceeds_available else (status, facts)


# --- Ending --------------------------------------------------------------------------------------------------------
def judge_commit_payment(books: Books, command: CommitPayment, now_us: int) -> Verdict:
    """Judge the posting of a payment's whole hold, by the switch alone.

    At a bank the entry carries the gateway's sequence. At the gateway it carries none: the position of that entry is
    the sequence, which is the verdict's ``position``, also when it is replayed.
    """
    c = command
    hold = books.hold(c.id)
    if hold is None or not hold.is_payment or not c.actor.is_switch:
        known = books.known(c.id)
        is_given_up = c.actor.is_switch and known is not None and _is_refused_payment(known[1])
        return Verdict(Status.payment_already_decided if is_given_up else Status.payment_unknown)
    if hold.state == _POSTED:
        # 0 stands for a commit by hand, which knew no sequence
        same = 0 in (hold.sequence, c.gateway_sequence) or hold.sequence == c.gateway_sequence
        if same:
            return Verdict(_OK, None, replayed=True, position=hold.position)
        return Verdict(Status.payment_already_decided, facts=(("gateway_sequence", hold.sequence),))
    if hold.state == _VOIDED:
        return Verdict(Status.payment_already_decided, facts=(("reason", hold.reason),))
    debit, credit = books.account(hold.debit), books.account(hold.credit)
    known = books.known(c.id)
    assert debit is not None and credit is not None and known is not None and type(known[1]) is HoldPlaced
    entry = Posted(
        now_us,
        hold.id,
        hold.debit,
        hold.credit,
        hold.amount,
        hold.currency,
        LEGS[debit.kind, credit.kind],
        hold.reference,
        debit.balance - hold.amount,
        credit.balance + hold.amount,
        c.actor.customer,
        hold.amount,
        gateway_sequence=c.gateway_sequence,
        counterparty=known[1].counterparty,
    )
    return Verdict(_OK, entry)


def judge_abort_payment(books: Books, command: AbortPayment, now_us: int) -> Verdict:
    """Judge the giving up of a payment, by the switch alone: its hold is freed, or its id is remembered as refused.

    The status is ok whenever nothing was and nothing will be paid under this id here: freed now or before, refused
    before for whatever reason, or remembered as given up now.
    """
    c = command
    if not c.actor.is_switch:
        return Verdict(Status.payment_unknown)
    hold = books.hold(c.id)
    if hold is None:
        return _abort_unplaced(books, command, now_us)
    if not hold.is_payment:
        return Verdict(Status.payment_unknown)
    if hold.state == _VOIDED:
        return Verdict(_OK, None, replayed=True, position=hold.position)
    if hold.state == _POSTED:
        return Verdict(Status.payment_already_decided, facts=(("gateway_sequence", hold.sequence),))
    debit, credit = books.account(hold.debit), books.account(hold.credit)
    assert debit is not None and credit is not None
    pending = (debit.debits_pending - hold.amount, credit.credits_pending - hold.amount)
    entry = HoldReleased(
        now_us, hold.id, _VOIDED, hold.debit, hold.credit, hold.amount, *pending, c.actor.customer, c.reason
    )
    return Verdict(_OK, entry)


def _abort_unplaced(books: Books, command: AbortPayment, now_us: int) -> Verdict:
    c = command
    known = books.known(c.id)
    if known is not None:
        if _is_refused_payment(known[1]):
            return Verdict(_OK, known[1], replayed=True, position=known[0])
        return Verdict(Status.payment_unknown)  # this bank's customer used the id for something else: left alone
    if is_too_far_ahead(c.id, books.id_ahead):
        return Verdict(Status.id_too_far_ahead)
    digest = content_digest(OPERATION, c.reason)
    refused = refuse(c, Status.payment_given_up, digest, now_us, operation=OPERATION, facts=(("reason", c.reason),))
    return Verdict(_OK, refused.entry)


def _is_refused_payment(entry: AnyEntry) -> bool:
    return type(entry) is Refused and entry.operation == OPERATION
