"""Answer what moves money: one command to the committer, its verdict as the answer.

These are hot handlers: nothing is awaited, the committer calls back once the entry is durable.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from fortress.errors import FortressError, Refused, Status
from fortress.ledger.commands import MoveBatch, MoveMoney, PlaceHold, PostHold, ReleaseHold, ReverseMoney
from fortress.ledger.entries import HoldPlaced, Posted
from fortress.ledger.model import HoldState, TransferKind
from fortress.ledger.rules import Verdict
from fortress.protocol import money
from fortress.protocol.orders import Order, verify_order
from fortress.server.bank import Bank, refusal
from fortress.server.handlers import Handler, hot
from fortress.server.node import Node
from fortress.server.session import Session

_OK = Status.ok
_DEPOSIT = int(TransferKind.deposit)
_WITHDRAWAL = int(TransferKind.withdrawal)
_TRANSFER = int(TransferKind.transfer)
_VOIDED = int(HoldState.voided)


def _answer(session: Session, request_id: int, takes_credit: bool, outcome: Verdict | FortressError) -> None:
    """Answer with where the money stands; ``takes_credit``: the balance told is the credited account's."""
    if isinstance(outcome, FortressError):
        session.refuse(request_id, outcome)
        return
    if outcome.status is not _OK:
        session.refuse(request_id, refusal(outcome))
        return
    entry = outcome.entry
    balance = 0
    if type(entry) is Posted:
        balance = entry.credit_balance if takes_credit else entry.debit_balance
    session.answer(request_id, money.TransferAnswer(outcome.position, outcome.time_us, balance, outcome.replayed))


def handle_transfer(node: Node, session: Session, request_id: int, request: money.Transfer) -> None:
    """Move money between two accounts."""
    bank: Bank = node.bank
    r = request
    if r.order_signature:
        _check_order(node, session, r)
    command = MoveMoney(
        bank.actor(session.customer, session.roles),
        _TRANSFER,
        r.id,
        r.debit,
        r.credit,
        r.amount_minor,
        r.currency,
        r.reference,
        r.value_date,
        r.order_signature,
    )
    bank.submit(command, partial(_answer, session, request_id, False))


def _check_order(node: Node, session: Session, r: money.Transfer) -> None:
    """Check the customer's own signature under a payment order."""
    order = Order(
        bank=node.settings.node.bank,
        id=r.id,
        debit=r.debit,
        credit=r.credit,
        amount_minor=r.amount_minor,
        currency=r.currency,
        reference=r.reference,
        value_date=r.value_date,
    )
    customer = node.bank.state.customer(session.customer)
    signing_key = customer.signing if customer is not None else b""
    if not verify_order(order, signature=r.order_signature, signing_key=signing_key):
        raise Refused(Status.order_signature_invalid)


def handle_deposit(node: Node, session: Session, request_id: int, request: money.Deposit) -> None:
    """Pay cash in."""
    bank: Bank = node.bank
    r = request
    cash = bank.state.currencies.get(r.currency, 0)
    actor = bank.actor(session.customer, session.roles)
    command = MoveMoney(actor, _DEPOSIT, r.id, cash, r.account, r.amount_minor, r.currency, r.reference)
    bank.submit(command, partial(_answer, session, request_id, True))


def handle_withdraw(node: Node, session: Session, request_id: int, request: money.Withdraw) -> None:
    """Pay cash out."""
    bank: Bank = node.bank
    r = request
    cash = bank.state.currencies.get(r.currency, 0)
    actor = bank.actor(session.customer, session.roles)
    command = MoveMoney(actor, _WITHDRAWAL, r.id, r.account, cash, r.amount_minor, r.currency, r.reference)
    bank.submit(command, partial(_answer, session, request_id, False))


def handle_transfers(node: Node, session: Session, request_id: int, request: money.Transfers) -> None:
    """Move money many times in one request."""
    bank: Bank = node.bank
    actor = bank.actor(session.customer, session.roles)
    command = MoveBatch(actor, request.currency, request.rows, request.atomic)
    bank.submit(command, partial(_answer_batch, session, request_id))


def _answer_batch(session: Session, request_id: int, outcome: list[Verdict] | FortressError) -> None:
    if isinstance(outcome, FortressError):
        session.refuse(request_id, outcome)
        return
    last = max(outcome, key=_position)
    statuses = [int(verdict.status) for verdict in outcome]
    session.answer(request_id, money.TransfersAnswer(statuses, last.position, last.time_us))


def _position(verdict: Verdict) -> int:
    return verdict.position


def handle_hold(node: Node, session: Session, request_id: int, request: money.Hold) -> None:
    """Reserve money."""
    bank: Bank = node.bank
    r = request
    actor = bank.actor(session.customer, session.roles)
    command = PlaceHold(actor, r.id, r.debit, r.credit, r.amount_minor, r.currency, r.expires_us, r.reference)
    bank.submit(command, partial(_answer_hold, session, request_id, bank))


def _answer_hold(session: Session, request_id: int, bank: Bank, outcome: Any) -> None:
    """Answer a hold with the debited account's balance, which a hold leaves as it was."""
    if isinstance(outcome, Verdict) and outcome.status is _OK and type(outcome.entry) is HoldPlaced:
        account = bank.state.account(outcome.entry.debit)
        balance = account.balance if account is not None else 0
        answer = money.TransferAnswer(outcome.position, outcome.time_us, balance, outcome.replayed)
        session.answer(request_id, answer)
    else:
        _answer(session, request_id, False, outcome)


def handle_post(node: Node, session: Session, request_id: int, request: money.Post) -> None:
    """Take what a hold reserved."""
    bank: Bank = node.bank
    command = PostHold(bank.actor(session.customer, session.roles), request.id, request.amount_minor)
    bank.submit(command, partial(_answer, session, request_id, True))


def handle_void(node: Node, session: Session, request_id: int, request: money.Void) -> None:
    """Free what a hold reserved."""
    bank: Bank = node.bank
    command = ReleaseHold(bank.actor(session.customer, session.roles), request.id, _VOIDED)
    bank.submit(command, partial(_answer, session, request_id, False))


def handle_reverse(node: Node, session: Session, request_id: int, request: money.Reverse) -> None:
    """Undo a transfer."""
    bank: Bank = node.bank
    r = request
    actor = bank.actor(session.customer, session.roles)
    command = ReverseMoney(actor, r.id, r.original, r.amount_minor, r.reference)
    bank.submit(command, partial(_answer, session, request_id, False))


MONEY_HANDLERS: tuple[Handler, ...] = (
    hot("transfer", handle_transfer),
    hot("deposit", handle_deposit),
    hot("withdraw", handle_withdraw),
    hot("transfers", handle_transfers),
    hot("hold", handle_hold),
    hot("post", handle_post),
    hot("void", handle_void),
    hot("reverse", handle_reverse),
)
